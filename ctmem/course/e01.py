"""Exercises of notebook 01: an index of radiance, a box blur, a panchromatic band, a leak between areas."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from ctmem.course.exercise import Exercise, Function, Mistake
from ctmem.data.areas import Box
from ctmem.data.scenes import load_scene

SUN = 1.52  # how many times as bright the sun is in the red as in the near infrared
REACH = 4  # fine pixels that a training pixel's blur reads beyond its area
SIDE, TRAIN = 144, Box(0, 0, 64, 144)  # of the scene, and of it the area that is learned from


def _index(infrared: float, red: float) -> float:
    """NDVI."""
    return (infrared - red) / (infrared + red)


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


def _judge_leak(answer: Any) -> None:
    """An area beside the training area whose pixels a training pixel's blur reads."""
    numbers = np.asarray(answer if isinstance(answer, tuple | list | np.ndarray | torch.Tensor) else [])
    if numbers.shape != (4,) or numbers.dtype.kind not in "iuf":
        raise Mistake("four numbers are wanted: (top, left, height, width)")
    top, left, height, width = (int(one) for one in numbers)
    if (numbers % 4 != 0).any():
        raise Mistake("the borders must be multiples of 4, so that coarse pixels stay whole")
    if min(top, left) < 0 or min(height, width) < 4 or top + height > SIDE or left + width > SIDE:
        raise Mistake(f"an area inside the scene, please: {SIDE}×{SIDE} px, sides of at least one coarse pixel")
    if Box(top, left, height, width).overlaps(TRAIN):
        raise Mistake("that one shares pixels with the training area; everybody would see that")
    if top >= TRAIN.height + REACH:
        raise Mistake("nothing of it is read from the training area: the window of a coarse pixel ends before it")


EXERCISES = (
    Exercise(
        "a number",
        right=_index(1.1, 0.9 * SUN),
        near=0.002,  # two digits, as in the text
        mistakes={
            "the sun gives more in the red: it is the red that is multiplied": _index(1.1 * SUN, 0.9),
            "indices do not add: go back to the two shares, multiply, and take the index again": 0.1 + _index(1, SUN),
            "an index is not light: multiply the red share, not the index": [0.1 / SUN, 0.1 * SUN],
            "that is the index of the reflectance itself": 0.1,
            "that is a grey ground's; this one has a little more in the near infrared": _index(1, SUN),
            "infrared minus red, not the other way round": -_index(1.1, 0.9 * SUN),
        },
        hint="an index of a tenth: shares of 11 and 9, say. Multiply the red one by the sun, then take the index",
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
    Exercise("four numbers (top, left, height, width)", judge=_judge_leak),
)
