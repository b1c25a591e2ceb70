"""Exercises of notebook 02: widths of blurs, one number fitted, two images of one blurry one."""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import torch

from ctmem.course.exercise import Exercise, Function, Mistake
from ctmem.data.scenes import synthetic
from ctmem.observe.camera import Camera

TO_SIGMA = 1 / (2 * math.sqrt(2 * math.log(2)))


def _box_means(x: torch.Tensor, scale: int) -> torch.Tensor:
    """The mean of each box of scale×scale pixels."""
    return x.unflatten(3, (-1, scale)).unflatten(2, (-1, scale)).mean((3, 5))


def _judge_twin(twin: Function) -> None:
    """Another image whose box means are the same."""
    for seed, scale in enumerate((4, 3)):
        x = torch.rand(2, 3, 12, 24, generator=torch.Generator().manual_seed(seed))
        found = twin(x.clone(), scale)
        if not isinstance(found, torch.Tensor) or found.shape != x.shape:
            raise Mistake("your function must return an image of the same shape, a tensor (B, C, H, W)")
        if float((found - x).abs().max()) < 1e-3:
            raise Mistake("that is the same image: change some pixels, in pairs")
        if not torch.allclose(_box_means(found, scale), _box_means(x, scale), atol=1e-5):
            raise Mistake("the coarse images differ: what one pixel of a box gains, another one of the box must lose")


@cache
def _pairs() -> list[tuple[Any, ...]]:
    """An image, sharp and blurred."""
    images = [synthetic(seed, bands=4, height=24, width=32).tensor() for seed in (1, 2)]
    return [(image, Camera.gaussian(fwhm).blur(image)) for image, fwhm in zip(images, (5.3, 3.1))]


@cache
def _camera(fwhm: float) -> Camera:
    """The camera of a width."""
    return Camera.gaussian(fwhm)


def _find_fwhm(sharp: torch.Tensor, blurry: torch.Tensor) -> float:
    """The width that explains a blurry image best."""
    widths = [step / 10 for step in range(20, 81)]
    return min(widths, key=lambda fwhm: float((_camera(fwhm).blur(sharp) - blurry).abs().mean()))


EXERCISES = (
    Exercise(
        "a number",
        right=4 * TO_SIGMA,
        mistakes={
            "σ is smaller than the full width: divide by 2.355, do not multiply": 4 / TO_SIGMA,
            "half of the width is not σ: at half of it the Gaussian is a half": 2,
            "a factor of 2 is missing: 1.177 σ is *half* of the width": 8 * TO_SIGMA,
            "that is σ², the variance": (4 * TO_SIGMA) ** 2,
        },
        hint="where is exp(−x²/2σ²) a half? The full width is twice that",
    ),
    Exercise(
        "a number",
        right=5,
        near=0.1,  # measured on pixels
        mistakes={
            "widths do not add; variances do": 7,
            "those are the squares: the root of their sum, please": 25,
            "that is the mean of the two; the whole is wider than either": 3.5,
            "that is σ: FWHM is asked for": 5 * TO_SIGMA,
        },
        hint="variances add, and FWHM is σ times a constant",
    ),
    Exercise(
        "a function of (sharp, blurry)",
        right=_find_fwhm,
        mistakes={
            "FWHM is asked for, not σ": lambda *pair: _find_fwhm(*pair) * TO_SIGMA,
            "that is the number of the try, not its width": lambda *pair: round((_find_fwhm(*pair) - 2) * 10),
            "that is the error at the best width, not the width": lambda sharp, blurry: (
                (Camera.gaussian(_find_fwhm(sharp, blurry)).blur(sharp) - blurry).abs().mean()
            ),
            "that is the width that fits worst": lambda sharp, blurry: max(
                (2.0, 8.0), key=lambda fwhm: float((_camera(fwhm).blur(sharp) - blurry).abs().mean())
            ),
        },
        inputs=lambda: iter(_pairs()),
        near=0.051,
        hint="blur `sharp` with every width, and take the one whose result is nearest to `blurry`",
    ),
    Exercise("a function of (x, scale)", judge=_judge_twin),
)
