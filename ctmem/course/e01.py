"""Exercises of notebook 01: FWHM and deviation, a box blur, a panchromatic band."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from ctmem.course.exercise import Exercise, Function, Mistake
from ctmem.data.scenes import load_scene

TO_SIGMA = 1 / (2 * math.sqrt(2 * math.log(2)))


def _box_down(x: torch.Tensor, scale: int) -> torch.Tensor:
    """The mean of each box of scale×scale pixels."""
    return x.unflatten(3, (-1, scale)).unflatten(2, (-1, scale)).mean((3, 5))


def _images() -> Iterator[tuple[Any, ...]]:
    """Images whose sides are multiples of the scale."""
    for seed, scale in enumerate((4, 3)):
        yield torch.rand(2, 7, 12, 24, generator=torch.Generator().manual_seed(seed)), scale


def _judge_response(panchromatic: Function) -> None:
    """A box from 450 to 900 nm, every nanometre alike, in two spectrometers."""
    for nm in (load_scene("indian_pines").wavelengths_nm, np.linspace(400.0, 2500.0, 211)):
        assert nm is not None
        found = panchromatic(nm.copy())
        if not isinstance(found, torch.Tensor | np.ndarray):
            raise Mistake("your function must return an array (1, C), one weight for each band")
        srf = torch.as_tensor(found).double()
        if tuple(srf.shape) != (1, len(nm)):
            raise Mistake(f"your function returns shape {tuple(srf.shape)}: one band of the sensor is one row, (1, C)")
        if float(srf.abs().max()) == 0:
            raise Mistake("no band is open: 450 to 900 what? The wavelengths are in nm")
        if float(srf[0, (nm < 430) | (nm > 920)].abs().max()) > 1e-6:
            raise Mistake("light beyond 450 to 900 nm gets through")
        if abs(float(srf.sum()) - 1) > 2e-3:
            raise Mistake("a response is a mean over bands: its weights must sum to 1")
        mean = float(srf[0] @ torch.tensor(nm))
        if abs(mean - 675) > 2:
            raise Mistake(
                f"its mean wavelength is {mean:.0f} nm, off the middle of the box: where bands lie close together, as "
                "where two spectrometers overlap, each stands for fewer nanometres"
            )


EXERCISES = (
    Exercise(
        "a function of (fwhm_px)",
        right=lambda fwhm_px: fwhm_px * TO_SIGMA,
        mistakes={
            "the deviation is smaller than the full width: divide": lambda fwhm_px: fwhm_px / TO_SIGMA,
            "half of the width is not the deviation: there the Gaussian is a half, not exp(−1/2)": lambda fwhm_px: (
                fwhm_px / 2
            ),
            "a factor of 2: exp(−d²/2σ²) is a half at d = FWHM/2, not at d = FWHM": lambda fwhm_px: (
                2 * fwhm_px * TO_SIGMA
            ),
            "the natural logarithm, not that to base 10": lambda fwhm_px: fwhm_px / (2 * math.sqrt(2 * math.log10(2))),
            "that is the variance: the root of it, please": lambda fwhm_px: (fwhm_px * TO_SIGMA) ** 2,
        },
        inputs=lambda: iter([(4.0,), (1.7,)]),
        hint="solve exp(−d²/2σ²) = 1/2 for σ, with d half of the full width",
    ),
    Exercise(
        "a function of (x, scale)",
        right=_box_down,
        mistakes={
            "that keeps one pixel of each box without looking at the others: blur first": lambda x, scale: x[
                ..., ::scale, ::scale
            ],
            "the mean of each box, not its sum": lambda x, scale: scale**2 * _box_down(x, scale),
            "the mean of each box, not its brightest pixel": lambda x, scale: torch.nn.functional.max_pool2d(x, scale),
            "rows and columns are exchanged": lambda x, scale: _box_down(x, scale).transpose(2, 3),
            "both sides: rows and columns": lambda x, scale: x.unflatten(3, (-1, scale)).mean(4),
        },
        inputs=_images,
        hint="split each side into boxes (`unflatten`), then take the mean within the boxes",
    ),
    Exercise("a function of (wavelengths_nm)", judge=_judge_response),
)
