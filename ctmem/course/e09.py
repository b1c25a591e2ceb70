"""Exercises of notebook 09: the size of an answer, a place on the map, what rounding costs."""

from __future__ import annotations

import math

from ctmem.course.exercise import Exercise

NUMBERS = 1000 * 1000 * 224  # of the scene
EAST, NORTH = 500_000, 4_480_000  # of its corner, metres
ROW, COLUMN, PIXEL = 4, 7, 20  # of the fine pixel that is asked for, and its side, metres
STEPS = 0.2 * 10_000  # root mean square of the band


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
)  # fmt: skip
