"""Exercises of notebook 00: counting unknowns, a vegetation index, back-projection, and the wrong blur."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any

import numpy as np
import torch

from ctmem.course.exercise import Exercise, Function, Mistake
from ctmem.data.areas import split_areas
from ctmem.data.samples import degrade_scene
from ctmem.data.scenes import load_scene, synthetic
from ctmem.evaluation import metrics
from ctmem.observe.camera import Camera

ENOUGH = 0.4  # dB beyond bicubic: one step of back-projection brings less on one of the images
WIDTH, WIDEST = 4.0, 8.0  # FWHM of the camera of both images, fine pixels, and the largest that may be told


def _index(image: torch.Tensor, nm: np.ndarray, first: float = 842, second: float = 665) -> torch.Tensor:
    """The normalised difference of the bands nearest to two wavelengths."""
    one, other = (image[:, int(abs(nm - wanted).argmin())] for wanted in (first, second))
    return (one - other) / (one + other)


def _bands(image: torch.Tensor, nm: np.ndarray) -> list[torch.Tensor]:
    """Near infrared and red."""
    return [image[:, int(abs(nm - wanted).argmin())] for wanted in (842, 665)]


def _images() -> Iterator[tuple[Any, ...]]:
    """Images (2, 7, 4, 5) and wavelengths, which need not be sorted."""
    nm = np.array([450.0, 560, 660, 710, 840, 1600, 2200])
    for seed in range(2):
        image = torch.rand(2, 7, 4, 5, generator=torch.Generator().manual_seed(seed)) + 0.1
        yield image, nm if seed == 0 else nm[[3, 0, 4, 6, 2, 1, 5]]


@cache
def _cuts() -> tuple[Any, ...]:
    """Observed and true image of two places."""
    pines = load_scene("indian_pines")
    camera = Camera.gaussian(scale=4).for_wavelengths(pines.wavelengths_nm)
    whole = degrade_scene(pines.tensor(), camera)
    made = synthetic(3, height=48, width=64)
    other = degrade_scene(made.tensor(), camera.for_wavelengths(made.wavelengths_nm))
    return whole.cut(split_areas(whole.gt.shape[2], whole.gt.shape[3], camera)["validation"]), other


def _judge_sharpening(sharpen: Function) -> None:
    """0.4 dB beyond bicubic, on two images."""
    for cut in _cuts():
        pred = sharpen(cut.lr_hsi.clone())
        if not isinstance(pred, torch.Tensor) or pred.shape != cut.gt.shape:
            raise Mistake(
                "your function must return an image (1, C, 4·h, 4·w), a tensor with the bands of its argument"
            )
        gain = float(metrics.psnr_db(pred, cut.gt) - metrics.psnr_db(cut.lr_hsi_up, cut.gt))
        if abs(gain) < 0.01:
            raise Mistake("that is bicubic interpolation: blur your estimate again, and look at what is missing")
        if gain < 0:
            raise Mistake("that is worse than bicubic: enlarge what is *missing* of the observation, and add it")
        if gain < ENOUGH:
            raise Mistake("that is better than bicubic, but not by 0.4 dB: once more, please")


def _judge_width(answer: Any) -> None:
    """Back-projection that is told this FWHM is worse than bicubic, on both images."""
    if isinstance(answer, str | bool) or callable(answer) or np.size(answer) != 1:
        raise Mistake("one number is wanted, a width in fine pixels")
    width = float(answer)
    if not width > 0:
        raise Mistake("a width is above 0")
    if width > WIDEST:
        raise Mistake("at most twice the true width, please: less will do")
    if abs(width - WIDTH) < 0.05:
        raise Mistake("that is the true width: told the truth, back-projection gains")
    if width < WIDTH:
        raise Mistake("told too narrow a blur it adds too little, but that is no harm: the other way")
    camera = Camera.gaussian(scale=4, fwhm_px=width)
    for cut in _cuts():
        pred = camera.back_project(cut.lr_hsi_up, cut.lr_hsi)
        gain = float(metrics.psnr_db(pred, cut.gt) - metrics.psnr_db(cut.lr_hsi_up, cut.gt))
        if gain >= 0:
            raise Mistake(f"the right direction, but it still gains {gain:.2f} dB: further from the truth")


EXERCISES = (
    Exercise(
        "a pair of numbers",
        right=(64, 16),
        mistakes={
            "so many along one side; a pixel has two sides": (8, 4),
            "the bands: both images have the same, however many; do they change the ratio?": [(64, 32), (64, 8)],
            "the two numbers are the other way round: first scale 8": (16, 64),
        },
        hint="how many fine pixels lie in one coarse pixel? That for scale 8, then for scale 4",
    ),
    Exercise(
        "a function of (image, nm)",
        right=_index,
        mistakes={
            "a difference depends on the light; divide it by the sum of the two": lambda x, nm: (
                _bands(x, nm)[0] - _bands(x, nm)[1]
            ),
            "the sign: over leaves the near infrared is larger, and the index is high": lambda x, nm: -_index(x, nm),
            "divide by the sum of both bands, not by one of them": [
                lambda x, nm: (_bands(x, nm)[0] - _bands(x, nm)[1]) / _bands(x, nm)[0],
                lambda x, nm: (_bands(x, nm)[0] - _bands(x, nm)[1]) / _bands(x, nm)[1],
            ],
            "that is a ratio; the index is a difference over a sum": lambda x, nm: _bands(x, nm)[0] / _bands(x, nm)[1],
            "each image has an index of its own: the result is (B, H, W)": lambda x, nm: _index(x, nm)[0],
        },
        inputs=_images,
        hint="which band is nearest to 842 nm, and which to 665? `nm` need not be sorted",
    ),
    Exercise("a function of (lr_hsi)", judge=_judge_sharpening),
    Exercise("a number", judge=_judge_width),
)
