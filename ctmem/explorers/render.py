"""From cubes to the bytes that a browser draws: pure functions of numpy arrays.

A map is quantised to the numbers 1 … 255 of a palette; 0 stands for a hole (a NaN), which is drawn as a gap.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Annotated

import matplotlib
import numpy as np

from ctmem.checks import Array, Finite, Positive, check_choice, fail, typed
from ctmem.evaluation.plots import GAMMA

PERCENTILES = (1.0, 99.0)
SAMPLE = 40_000  # pixels that percentiles are taken from, about
LEAST = 1e-6  # width of a stretch, of its lower end: a constant band has one, too
NEAR_NM = 60.0  # how far a band may be from the wavelength that a composite asks for
COMPOSITES = {  # name → wavelengths in nm that become red, green and blue
    "true colour": (650.0, 550.0, 460.0),
    "false colour (near infrared, red, green)": (860.0, 650.0, 550.0),
    "short-wave infrared (2200, 860, 650 nm)": (2200.0, 860.0, 650.0),
}
INDICES = {  # name → wavelengths of a and b in (a − b) / (a + b)
    "NDVI, vegetation": (860.0, 660.0),
    "NDWI, open water": (560.0, 860.0),
    "NDMI, moisture": (860.0, 1650.0),
}
Colours = Annotated[np.ndarray, Array("(H, W, 3)")]
Numbers = Annotated[np.ndarray, Array("(…)")]
Plane = Annotated[np.ndarray, Array("(H, W)")]


@typed
def sample(plane: Plane) -> np.ndarray:
    """Returns at most about `SAMPLE` pixels of the plane (H, W), evenly spread, without holes."""
    plane = plane.astype(np.float32) if plane.dtype.kind == "b" else plane  # numpy has no percentiles of truth values
    every = max(1, int(np.sqrt(plane.size / SAMPLE)))
    values = plane[::every, ::every].ravel()
    return values[np.isfinite(values)]


@typed
def stretch(plane: Plane) -> tuple[float, float]:
    """Returns (low, high): the 1st and 99th percentile of a plane (H, W); (0, 1) where it has only holes."""
    values = sample(plane)
    if not len(values):
        return 0.0, 1.0
    low, high = map(float, np.percentile(values, PERCENTILES))
    return low, max(high, low + LEAST * max(1.0, abs(low)))


@typed
def quantise(plane: Plane, limits: tuple[Finite, Finite]) -> np.ndarray:
    """Returns numbers of a palette, (H, W) uint8: 1 at the lower limit and below, 255 at the upper, 0 in holes.

    Example:
        >>> quantise(np.array([[0.0, 1.0, 2.0, np.nan]]), (0, 2)).tolist()
        [[1, 128, 255, 0]]
    """
    low, high = limits
    shares = np.clip((np.asarray(plane, np.float32) - low) / (high - low), 0, 1)
    return np.where(np.isnan(shares), 0, np.rint(1 + 254 * np.nan_to_num(shares))).astype(np.uint8)


@typed
def colours(image: Colours, limits: Sequence[tuple[float, float]] | None = None) -> np.ndarray:
    """Returns a colour image as bytes, (H, W, 4) uint8: red, green, blue, and opacity, which is 0 in holes.

    Args:
        image: (H, W, 3).
        limits: (low, high) of each channel, drawn with a gamma of 0.7; None: values are in [0, 1] already.
    """
    shares = np.asarray(image, np.float32)
    if limits is not None:
        if len(limits) != shares.shape[2]:
            fail("limits", f"a pair of each of the {shares.shape[2]} channels", f"{len(limits)}")
        low, high = np.array(limits, np.float64).T
        shares = np.clip((shares - low) / (high - low), 0, 1) ** GAMMA
    holes = ~np.isfinite(shares).all(-1, keepdims=True)
    shown = np.rint(255 * np.clip(np.nan_to_num(shares), 0, 1)).astype(np.uint8)
    return np.concatenate([np.where(holes, 0, shown), np.where(holes, 0, 255)], axis=-1).astype(np.uint8)


@typed
@lru_cache
def palette(name: str) -> bytes:
    """Returns 256 colours of 4 bytes: the first is transparent, the others are those of matplotlib's colour map."""
    if name not in matplotlib.colormaps:
        fail("name", "the name of a colour map of matplotlib", repr(name))
    table = matplotlib.colormaps[name](np.linspace(0, 1, 255), bytes=True)
    return bytes(4) + np.ascontiguousarray(table).tobytes()


@typed
def paint(numbers: np.ndarray, colour_map: str = "viridis") -> np.ndarray:
    """Returns what the browser makes of numbers (H, W) or colours (H, W, 4): floats (H, W, 4) in [0, 1]."""
    if numbers.ndim == 3:
        return numbers / 255
    return np.frombuffer(palette(colour_map), np.uint8).reshape(256, 4)[numbers] / 255


@typed
def nearest_band(wavelengths_nm: Annotated[np.ndarray, Array("(C,)")], wanted_nm: Positive) -> int | None:
    """Returns the index of the band nearest to a wavelength, or None where that is more than 60 nm away."""
    distances = np.abs(np.asarray(wavelengths_nm, float) - wanted_nm)
    return int(distances.argmin()) if distances.min() <= NEAR_NM else None


@typed
def bands_of(name: str, wavelengths_nm: Annotated[np.ndarray, Array("(C,)")] | None) -> tuple[int, ...] | None:
    """Returns the bands that the composite or index `name` is made of, or None where the cube lacks one."""
    if wavelengths_nm is None:
        return None
    check_choice(name, "name", {**COMPOSITES, **INDICES})
    wanted = {**COMPOSITES, **INDICES}[name]
    nearest = [nearest_band(wavelengths_nm, nm) for nm in wanted]
    bands = tuple(band for band in nearest if band is not None)
    return bands if len(bands) == len(wanted) else None


@typed
def normalised_difference(a: Numbers, b: Numbers) -> np.ndarray:
    """Returns (a − b) / (a + b), within −1 and 1 for values that are not negative; 0 where both are 0."""
    if a.shape != b.shape:
        fail("a", f"of the shape of `b` {b.shape}", a.shape)
    total = a + b
    return np.where(total == 0, np.where(np.isnan(total), np.nan, 0), (a - b) / np.where(total == 0, 1, total))
