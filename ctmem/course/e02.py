"""Exercises of notebook 02: widths of blurs, one number fitted, a PSF in an engineer's numbers."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import cache
from typing import Any

import torch

from ctmem.course.e01 import TO_SIGMA
from ctmem.course.exercise import Exercise
from ctmem.data.scenes import synthetic
from ctmem.observe.camera import Camera

SIZE = 31  # of the PSFs, pixels


def _variances(psf: torch.Tensor) -> torch.Tensor:
    """The 2×2 matrix of second moments about the centroid."""
    offsets = torch.arange(len(psf), dtype=torch.float64)
    weights = psf.double() / psf.double().sum()
    places = torch.stack(torch.meshgrid(offsets, offsets, indexing="ij")).flatten(1)
    centred = places - (places * weights.flatten()).sum(1, keepdim=True)
    return (centred * weights.flatten()) @ centred.T


def _widths(psf: torch.Tensor) -> torch.Tensor:
    """FWHM along the long and the short axis."""
    return torch.linalg.eigvalsh(_variances(psf)).flip(0).sqrt() / TO_SIGMA


def _psfs() -> Iterator[tuple[torch.Tensor]]:
    """Gaussians of other widths, upright and turned."""
    offsets = torch.arange(SIZE, dtype=torch.float64) - SIZE // 2
    rows, columns = torch.meshgrid(offsets, offsets, indexing="ij")
    for long, short, degrees in ((6.0, 3.0, 0), (7.0, 4.0, 30), (5.0, 3.5, 115)):
        angle = math.radians(degrees)
        along = math.cos(angle) * columns + math.sin(angle) * rows
        across = math.cos(angle) * rows - math.sin(angle) * columns
        psf = torch.exp(-0.5 * ((along / (long * TO_SIGMA)) ** 2 + (across / (short * TO_SIGMA)) ** 2))
        yield (psf / psf.sum(),)


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
    Exercise(
        "a function of (psf)",
        right=_widths,
        mistakes={
            "the other way round: the long axis first": lambda psf: _widths(psf).flip(0),
            "those are deviations: FWHM is 2.355 of them": lambda psf: _widths(psf) * TO_SIGMA,
            "those are variances: the root, then to FWHM": lambda psf: (_widths(psf) * TO_SIGMA) ** 2,
            "that is along rows and columns: of a PSF that is turned take the eigenvalues of the whole matrix": [
                lambda psf: _variances(psf).diagonal().flip(0).sqrt() / TO_SIGMA,
                lambda psf: _variances(psf).diagonal().sqrt() / TO_SIGMA,
                lambda psf: _variances(psf).diagonal().sort(descending=True).values.sqrt() / TO_SIGMA,
            ],
        },
        inputs=_psfs,
        near=0.03,
        hint="take the centroid off, then weigh the squares of the distances by the PSF",
    ),
)
