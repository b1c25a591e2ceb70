"""One pass over a scene of any size: all that is known of it before the first tile.

    found = survey(raster)
    found.mean, found.covariance, found.samples

Statistics are over *whole* pixels (`ctmem.holes`) and good bands, in the file's own numbers. The scene is read in
windows, so memory does not grow with it; what a window adds to mean and covariance is merged as Chan et al. do it,
which loses nothing where the mean is far from 0.

Source: this project; merging: Chan, Golub and LeVeque, "Algorithms for computing the sample variance", 1983.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from ctmem.checks import fail, typed
from ctmem.data.levels import BRIGHT, SUSPECT
from ctmem.raster.raster import Raster
from ctmem.tiling.plan import AT_ONCE, Box, Bytes, windows

Progress = Callable[[int, int], Any]  # (pixels done, pixels in all)
SAMPLES, SAMPLE = 8, 128  # windows that are kept, and their side, coarse pixels
LATTICE = 5  # candidates along one side
FINEST = 12  # of the 32 bits of a float32, those that the histogram of levels leaves out: bins of 1/2048
COUNTED = 2**21  # values of a window that its histogram counts, about


@dataclass(frozen=True, eq=False)
class Survey:
    """Statistics of a scene (C bands), float64, over whole pixels; zeros for bad bands.

    Args:
        count: whole pixels.
        holes: share of the pixels that are not whole.
        good: (C,) bool.
        mean: (C,).
        covariance: (C, C), over `count` (not `count` − 1).
        lowest: (C,).
        highest: (C,).
        level: what 1.0 may stand for: the 99.9th percentile of all values, to 1/2000; positive.
        samples: windows (1, C, s, t) float32, NaN in holes, spread over the scene; all of a small scene.
        digest: SHA-256 of all values that are in no hole, and of where the holes are.
    """

    count: int
    holes: float
    good: torch.Tensor
    mean: torch.Tensor
    covariance: torch.Tensor
    lowest: torch.Tensor
    highest: torch.Tensor
    level: float
    samples: list[torch.Tensor]
    digest: str


@typed
def survey(
    raster: Raster,
    *,
    at_once: Bytes = AT_ONCE,
    progress: Progress | None = None,
    warn: bool = True,
) -> Survey:
    """Goes once through a scene.

    Args:
        raster: the scene, as `open_raster` returns it.
        at_once: most bytes of a window as float32.
        progress: called with (pixels done, pixels in all) after each window.
        warn: of values that look like missing ones, where the file does not say what is missing.

    Raises:
        ValueError: no whole pixel, or no good band.
    """
    good = torch.from_numpy(np.array(raster.bands.good, dtype=bool))
    if not bool(good.any()):
        fail("raster", "a scene with a good band", f"{raster.count} bad ones")
    places = _candidates(raster.height, raster.width)
    pass_ = _Pass(good, places)
    for box in windows(raster.height, raster.width, raster.count, block=raster.block, at_once=at_once):
        pass_.add(box, raster.window(*box), raster.dtype)
        if progress is not None:
            progress(pass_.pixels, raster.height * raster.width)
    moments = pass_.moments
    if not moments.count:
        fail("raster", "a scene with at least one pixel that has data in every good band", f"none of {pass_.pixels}")
    if warn and not raster.no_data and not raster.masked:
        pass_.missing.warn(raster.path.name, moments.count, int(good.sum()))
    kept = _chosen(places, pass_.whole)
    samples = [torch.from_numpy(_holed(raster.window(*place), good.numpy()))[None] for place in kept]
    mean, covariance = _spread(moments.mean, good), _spread(_spread(moments.squares / moments.count, good).T, good)
    return Survey(
        moments.count,
        1 - moments.count / pass_.pixels,
        good,
        mean,
        covariance,
        _spread(moments.lowest, good),
        _spread(moments.highest, good),
        pass_.levels.level(),
        samples,
        pass_.digest.hexdigest(),
    )


class _Pass:
    """What one window after the other is added to."""

    def __init__(self, good: torch.Tensor, places: list[Box]):
        self.good = good.numpy()
        self.places = places
        self.whole = [0] * len(places)
        self.pixels = 0
        self.moments = _Moments(int(good.sum()))
        self.levels = _Levels()
        self.missing = _Missing()
        self.digest = hashlib.sha256()

    def add(self, box: Box, values: np.ndarray, dtype: np.dtype[Any]) -> None:
        """Adds the values (C, h, w) of a window."""
        values = _holed(values, self.good)
        whole = np.isfinite(values[int(np.argmax(self.good))])
        self.digest.update(f"{tuple(box)}".encode())
        self.digest.update(np.ascontiguousarray(values, "<f4").data)
        self.pixels += whole.size
        for number, place in enumerate(self.places):
            self.whole[number] += int(_shared(whole, box, place).sum())
        if whole.any():
            pixels = values[self.good][:, whole]
            self.missing.add(pixels, dtype)
            found = torch.from_numpy(pixels)
            self.levels.add(found)
            self.moments.add(found.double())


def _holed(values: np.ndarray, good: np.ndarray) -> np.ndarray:
    """Values (C, h, w) with one and the same NaN in all bands of a hole, which good bands make."""
    holes = ~np.isfinite(values[good]).all(0)
    if holes.any():
        values = np.where(holes, np.float32(np.nan), values)
    return values


def _spread(values: torch.Tensor, good: torch.Tensor) -> torch.Tensor:
    """Values (c, …) of the good bands as (C, …), zeros for the others."""
    found = values.new_zeros(len(good), *values.shape[1:])
    found[good] = values
    return found


@dataclass
class _Moments:
    """Mean and squares of c bands, merged."""

    bands: int
    count: int = 0

    def __post_init__(self) -> None:
        self.mean = torch.zeros(self.bands, dtype=torch.float64)
        self.squares = torch.zeros(self.bands, self.bands, dtype=torch.float64)
        self.lowest = torch.full((self.bands,), torch.inf, dtype=torch.float64)
        self.highest = -self.lowest

    def add(self, x: torch.Tensor) -> None:
        """Adds pixels (c, n), whose memory is used."""
        count = x.shape[1]
        torch.minimum(self.lowest, x.amin(1), out=self.lowest)
        torch.maximum(self.highest, x.amax(1), out=self.highest)
        mean = x.mean(1)
        x -= mean[:, None]
        step = mean - self.mean
        both = self.count + count
        self.squares += x @ x.T + torch.outer(step, step) * (self.count * count / both)
        self.mean += step * (count / both)
        self.count = both


@dataclass
class _Levels:
    """A histogram of values, whatever their range: its bins are the leading bits of a float32."""

    counts: np.ndarray = field(default_factory=lambda: np.zeros(2 ** (32 - FINEST), np.int64))

    def add(self, x: torch.Tensor) -> None:
        """Adds pixels (c, n): all, or every so manieth."""
        some = x[:, :: max(1, x.numel() // COUNTED)].contiguous().flatten().numpy()
        bits = (some + np.float32(0)).view(np.uint32)  # −0 as 0
        order = np.where(bits >> np.uint32(31), ~bits, bits | np.uint32(2**31)) >> np.uint32(FINEST)
        self.counts += np.bincount(order, minlength=len(self.counts))

    def level(self) -> float:
        """The percentile; where it is not positive, the largest distance from 0, or 1."""
        places = np.flatnonzero(self.counts)
        below = np.cumsum(self.counts[places])
        rank = int((below[-1] - 1) * (BRIGHT / 100))
        found = _value(places[np.searchsorted(below, rank, side="right")])
        return found if found > 0 else max(abs(found), abs(_value(places[0]))) or 1.0


def _value(place: int) -> float:
    """The number of a bin that is nearest to 0."""
    order = np.uint32(int(place) << FINEST)
    bits = order ^ np.uint32(2**31) if order >> np.uint32(31) else ~order
    return float(np.array(bits >> np.uint32(FINEST) << np.uint32(FINEST), np.uint32).view(np.float32))


@dataclass
class _Missing:
    """Counts what may be missing values in a file that names none."""

    negative: int = 0
    at_limit: int = 0
    dark: int = 0
    lowest: float = 0.0
    limit: float = 0.0

    def add(self, x: np.ndarray, dtype: np.dtype[Any]) -> None:
        """Adds pixels (c, n)."""
        lowest, highest = float(x.min()), float(x.max())
        self.lowest = min(self.lowest, lowest)
        if lowest < 0:
            self.negative += int(np.count_nonzero(x < 0))
        if lowest <= 0:
            self.dark += x.shape[1] - int(np.count_nonzero(x.any(0)))
        if dtype.kind in "iu":
            self.limit = float(np.float32(np.iinfo(dtype).max))
            if highest == self.limit:
                self.at_limit += int(np.count_nonzero(x == highest))

    def warn(self, name: str, pixels: int, bands: int) -> None:
        """Says which, their share, and the argument that makes them holes."""
        values = pixels * bands
        suspects = [
            (self.negative, values, f"of the values are negative, down to {self.lowest:g}", self.lowest),
            (self.at_limit, values, f"of the values are {self.limit:g}, their type's limit", self.limit),
            (self.dark, pixels, "of the pixels are 0 in all bands", 0.0),
        ]
        found = [
            (f"{100 * part / of:.3g} % {text}", number) for part, of, text, number in suspects if part > SUSPECT * of
        ]
        if found:
            numbers = ", ".join(f"{number:g}" for _, number in found)
            said = "; ".join(text for text, _ in found)
            warnings.warn(
                f"{name}: {said}. If these are missing data, no_data=({numbers},) makes them holes (--no-data="
                f"{numbers.replace(' ', '')}); no_data=() takes them as they are",
                RuntimeWarning,
                stacklevel=4,
            )


# --- samples ----------------------------------------------------------------------------------------------------------


def _candidates(height: int, width: int) -> list[Box]:
    """Windows on a lattice that spreads over the scene, none of which overlap; the whole of a small scene."""
    if max(height, width) <= SAMPLE * 3 // 2:
        return [Box(0, 0, height, width)]
    sides = min(SAMPLE, height), min(SAMPLE, width)
    tops, lefts = (
        np.linspace(0, side - own, max(1, min(LATTICE, side // SAMPLE))).round().astype(int).tolist()
        if side >= 2 * SAMPLE
        else [(side - own) // 2]
        for side, own in zip((height, width), sides)
    )
    return [Box(top, left, *sides) for top in tops for left in lefts]


def _shared(image: np.ndarray, box: Box, place: Box) -> np.ndarray:
    """The pixels of an image at `box` that lie in `place`."""
    rows, columns = (
        slice(max(0, place[axis] - box[axis]), max(0, place[axis] + place[axis + 2] - box[axis])) for axis in (0, 1)
    )
    return image[rows, columns]


def _chosen(places: list[Box], whole: list[int]) -> list[Box]:
    """Up to eight: those with about as many whole pixels as the best, each as far from the others as can be."""
    order = sorted(range(len(places)), key=lambda i: (-whole[i], i))
    enough = whole[order[min(SAMPLES, len(order)) - 1]]
    usable = [i for i in order if whole[i] >= min(enough, 0.9 * whole[order[0]]) and whole[i]]
    kept = usable[:1]
    while len(kept) < SAMPLES and len(kept) < len(usable):
        rest = [i for i in usable if i not in kept]
        kept.append(max(rest, key=lambda i: (min(_apart(places[i], places[j]) for j in kept), -i)))
    return [places[i] for i in kept]


def _apart(one: Box, other: Box) -> int:
    """Squared distance."""
    return (one.top - other.top) ** 2 + (one.left - other.left) ** 2
