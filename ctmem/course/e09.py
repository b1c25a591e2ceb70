"""Exercises of notebook 09: the size of an answer, a place on the map, what rounding costs, a mark unknown."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from ctmem.course.exercise import Exercise

NUMBERS = 1000 * 1000 * 224  # of the scene
EAST, NORTH = 500_000, 4_480_000  # of its corner, metres
ROW, COLUMN, PIXEL = 4, 7, 20  # of the fine pixel that is asked for, and its side, metres
STEPS = 0.2 * 10_000  # root mean square of the band
MARK, ONE = -9999, 10_000  # of a hole, and the number of reflectance 1

Numbers = npt.NDArray[np.int16]


def _broken(numbers: Numbers) -> float:
    """The mean of a program that does not know the mark."""
    return float(numbers.mean()) / ONE


def _right(numbers: Numbers) -> float:
    """The mean of what was measured."""
    return float(numbers[numbers != MARK].mean()) / ONE


def _bands() -> Iterator[tuple[Numbers]]:
    """Bands with one hole, with a block of holes, and with holes in a third of their pixels."""
    draw = np.random.default_rng(0)
    for height, width in ((3, 4), (12, 20), (30, 7)):
        band = draw.integers(200, 4000, (height, width)).astype(np.int16)
        band[: height // 3, : max(1, width // 4)] = MARK
        yield (band,)
    band[draw.random(band.shape) < 1 / 3] = MARK
    yield (band,)


EXERCISES = (
    Exercise(
        "a number",
        right=NUMBERS * 9 * 2 / 1e9,
        mistakes={
            "×3 holds along both sides": NUMBERS * 3 * 2 / 1e9,
            "an `int16` has two bytes": NUMBERS * 9 / 1e9,
            "that is the scene itself; its answer has more pixels": NUMBERS * 2 / 1e9,
            "those are GiB, of 2³⁰ bytes: GB are asked for": NUMBERS * 9 * 2 / 2**30,
        },
        hint="pixels of the answer × bands × bytes of one number, in 10⁹ bytes",
    ),
    Exercise(
        "a pair of numbers",
        right=(EAST + (COLUMN + 0.5) * PIXEL, NORTH - (ROW + 0.5) * PIXEL),
        mistakes={
            "that is the pixel's corner; its centre is half a pixel on": (EAST + COLUMN * PIXEL, NORTH - ROW * PIXEL),
            "columns go east, rows go south": (EAST + (ROW + 0.5) * PIXEL, NORTH - (COLUMN + 0.5) * PIXEL),
            "fine pixels are a third as wide as the coarse ones": (
                EAST + (COLUMN + 0.5) * 3 * PIXEL, NORTH - (ROW + 0.5) * 3 * PIXEL,
            ),
            "rows are counted from north to south": (EAST + (COLUMN + 0.5) * PIXEL, NORTH + (ROW + 0.5) * PIXEL),
            "first east, then north": (NORTH - (ROW + 0.5) * PIXEL, EAST + (COLUMN + 0.5) * PIXEL),
        },
        digits=8,
        hint="the corner of the image stays; from there so many fine pixels east, so many south, and a half",
    ),
    Exercise(
        "a number",
        right=20 * math.log10(STEPS * math.sqrt(12)),
        mistakes={
            "of amplitudes 20 times the logarithm, of powers 10 times": 10 * math.log10(STEPS * math.sqrt(12)),
            "the error is smaller than a step: its deviation is 1/√12 of one": 20 * math.log10(STEPS),
            "in steps the band is 10 000 times as large": 20 * math.log10(0.2 * math.sqrt(12)),
            "1/√12, not 1/12": 20 * math.log10(STEPS * 12),
            "the sign: signal over noise": -20 * math.log10(STEPS * math.sqrt(12)),
        },
        hint="how many steps is the band's root mean square, and how many the deviation of the error?",
    ),
    Exercise(
        "a function of (numbers)",
        right=lambda numbers: (_broken(numbers), _right(numbers)),
        mistakes={
            "reflectances are wanted: 10 000 is a reflectance of 1": lambda numbers: (
                ONE * _broken(numbers), ONE * _right(numbers),
            ),
            "(broken, right), in this order": lambda numbers: (_right(numbers), _broken(numbers)),
            "a hole was not measured: the right mean divides by the other pixels only": lambda numbers: (
                _broken(numbers), float(np.where(numbers == MARK, 0, numbers).mean()) / ONE,
            ),
            "the broken program takes the mark as it stands": [
                lambda numbers: (float(np.where(numbers == MARK, 0, numbers).mean()) / ONE, _right(numbers)),
                lambda numbers: (_right(numbers), _right(numbers)),
            ],
            "the second one is still broken: leave out the holes": lambda numbers: (_broken(numbers), _broken(numbers)),
        },
        inputs=_bands,
        hint="the mean of all numbers, and that of those which are no mark; both in reflectance",
    ),
)  # fmt: skip
