"""From the numbers of a file to a cube in [0, 1]: what is missing, what becomes 1.0, and what is clipped.

A file's array is gone through in blocks, so that beside it and the cube there is little in memory.

Source: this project.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ctmem.checks import fail

BRIGHT = 99.9  # percentile of a scene's values that becomes 1.0
BLOCK = 2**20  # numbers that are worked on at once
SUSPECT = 0.001  # of all values that look like missing ones: beyond this share they are named
FAR = 100  # times the mean of the rest: a highest value so far off is no measurement
LIMITS = (
    2**15 - 1,
    2**16 - 1,
    2**31 - 1,
    2**32 - 1,
)  # of the usual whole numbers, which mark what is missing or saturated


def scaled(
    values: np.ndarray, white: float | None = None, holes: np.ndarray | None = None
) -> tuple[np.ndarray, float, str]:
    """`values` (H, W, C) over `white`, clipped to [0, 1] float32; `white`; what was clipped.

    Args:
        values: numbers of any kind.
        white: what becomes 1.0; None: the 99.9th percentile, exactly, of what is not in a hole.
        holes: (H, W), pixels that become NaN; None: there are none.

    Raises:
        ValueError: `white` is not positive.
    """
    holes = np.zeros(values.shape[:2], bool) if holes is None else holes
    count = int((~holes).sum()) * values.shape[2]
    white = _percentile(values, holes, count) if white is None else float(white)
    if not (white > 0 and math.isfinite(white)):
        fail("white", f"positive (default: the {BRIGHT}th percentile)", f"{white:g}")
    cube = np.empty(values.shape, np.float32)
    below = above = 0
    for where, block in _blocks(values):
        known = block[~holes[where[:2]]]
        below += int((known < 0).sum())
        above += int((known > white).sum())
        np.divide(block, white, out=block)
        cube[where] = np.clip(block, 0, 1, out=block)
    cube[holes] = np.nan
    shares = (100 * below / count, 100 * above / count)
    return cube, white, "clipped to [0, 1]: {:.3f} % of the values from below, {:.3f} % from above".format(*shares)


def find_holes(values: np.ndarray, no_data: Sequence[float]) -> np.ndarray:
    """Pixels (H, W) of values (H, W, C) where one of the bands is NaN, infinite, or one of `no_data`.

    Raises:
        ValueError: a band that is missing everywhere, or all pixels are.
    """
    holes = np.zeros(values.shape[:2], bool)
    filled = np.zeros(values.shape[2], np.int64)
    stored = _as_stored(no_data, values.dtype)
    for where, block in _blocks(values, raw=True):
        missing = np.isin(block, stored) | ~np.isfinite(block)
        holes[where[:2]] |= missing.any(-1)
        filled[where[2]] += (~missing).sum((0, 1))
    empty = np.flatnonzero(filled == 0)
    if len(empty):
        named = ", ".join(map(str, empty[:10])) + (", …" if len(empty) > 10 else "")
        fail("path", "a file with data in every band", f"none in band(s) {named} of {len(filled)}, counted from 0")
    if holes.all():
        fail("path", "a file with at least one pixel that has data in every band", f"none of {holes.size}")
    return holes


def _as_stored(no_data: Sequence[float], dtype: np.dtype[Any]) -> np.ndarray:
    """The missing values as numbers of the file's type; those that it does not have are left out."""
    if dtype.kind == "f":
        with np.errstate(over="ignore"):
            return np.array([value for value in no_data if not math.isnan(value)], np.float64).astype(dtype)
    limits = np.iinfo(dtype)
    whole = [int(value) for value in no_data if math.isfinite(value) and value == int(value)]
    return np.array([value for value in whole if limits.min <= value <= limits.max], dtype)


def _blocks(values: np.ndarray, *, raw: bool = False) -> Iterator[tuple[tuple[slice, slice, slice], np.ndarray]]:
    """Where a block lies and its values, a float64 copy unless raw; cut along the axis that lies widest in memory."""
    axis = int(np.argmax(np.abs(values.strides)))
    step = max(1, BLOCK * values.shape[axis] // max(values.size, 1))
    for start in range(0, values.shape[axis], step):
        part = slice(start, start + step)
        everything = slice(None)
        where = (
            part if axis == 0 else everything, part if axis == 1 else everything, part if axis == 2 else everything
        )  # fmt: skip
        yield where, values[where] if raw else values[where].astype(np.float64)


def _percentile(values: np.ndarray, holes: np.ndarray, count: int) -> float:
    """The 99.9th percentile of the `count` values outside holes, as numpy has it: only the brightest ones are kept."""
    place = (count - 1) * (BRIGHT / 100)
    lower = math.floor(place)
    most = count - lower
    kept = np.empty(0)
    for where, block in _blocks(values):
        found = block[~holes[where[:2]]].ravel()
        kept = np.concatenate([kept, found[found > kept.min()] if len(kept) == most else found])
        if len(kept) > most:
            kept = np.partition(kept, len(kept) - most)[len(kept) - most :]
    low, high = np.sort(kept)[[0, min(1, most - 1)]]
    share = place - lower
    return float(low + (high - low) * share if share < 0.5 else high - (high - low) * (1 - share))


@dataclass
class _Seen:
    """What was counted of an array."""

    lowest: float = math.inf
    highest: float = -math.inf
    negative: int = 0
    at_lowest: int = 0
    at_highest: int = 0
    total: float = 0.0  # of absolute values
    count: int = 0
    dark: np.ndarray = field(default_factory=lambda: np.empty(0))  # (H, W): 0 in all bands


def _seen(values: np.ndarray) -> _Seen:
    """Counts what may be missing values."""
    seen = _Seen(dark=np.ones(values.shape[:2], bool))
    for (rows, columns, _), block in _blocks(values):
        seen.dark[rows, columns] &= (block == 0).all(-1)
        block = block[np.isfinite(block)]
        if not block.size:
            continue
        low, high = float(block.min()), float(block.max())
        if low < seen.lowest:
            seen.lowest, seen.at_lowest = low, 0
        if high > seen.highest:
            seen.highest, seen.at_highest = high, 0
        seen.at_lowest += int((block == seen.lowest).sum())
        seen.at_highest += int((block == seen.highest).sum())
        seen.negative += int((block < 0).sum())
        with np.errstate(over="ignore"):
            seen.total += float(np.abs(block).sum())
        seen.count += block.size
    return seen


def warn_of_missing(values: np.ndarray, name: str) -> None:
    """Warns where many values look like missing ones; says which, their share, and the argument that makes them holes.

    Negative ones; the highest one, where it is the limit of a type of whole numbers or far from all others; pixels
    that are 0 in all bands.
    """
    seen = _seen(values)
    if not seen.count:
        return
    rest = (seen.total - seen.at_highest * abs(seen.highest)) / max(seen.count - seen.at_highest, 1)
    limits = (np.iinfo(values.dtype).max,) if values.dtype.kind in "iu" else ()
    odd = seen.highest in (*LIMITS, *limits) or (seen.at_highest > 1 and seen.highest > FAR * rest)
    lowest, highest = (str(values.dtype.type(value)).removesuffix(".0") for value in (seen.lowest, seen.highest))
    suspects = []
    if seen.negative > SUSPECT * seen.count:
        often = f" ({_share(seen.at_lowest, seen.count)} are {lowest})"
        suspects.append((f"{_share(seen.negative, seen.count)} of the values are negative{often}", lowest))
    if odd and seen.at_highest > SUSPECT * seen.count:
        suspects.append((f"{_share(seen.at_highest, seen.count)} of the values are {highest}", highest))
    if seen.lowest < seen.highest and seen.dark.sum() > SUSPECT * seen.dark.size:
        suspects.append((f"{_share(int(seen.dark.sum()), seen.dark.size)} of the pixels are 0 in all bands", "0"))
    if suspects:
        warnings.warn(
            f"{name}: {'; '.join(text for text, _ in suspects)}. If these are missing data, "
            f"no_data={_list([value for _, value in suspects])} makes them holes; no_data=() takes them as they are",
            RuntimeWarning,
            stacklevel=3,
        )


def _share(part: int, whole: int) -> str:
    return f"{100 * part / whole:.3g} %"


def _list(texts: Sequence[str]) -> str:
    """One number, or several in brackets."""
    return texts[0] if len(texts) == 1 else f"({', '.join(texts)})"
