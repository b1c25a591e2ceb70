"""A scene in a file, of which nothing but its headers is read until a window is asked for.

    raster = open_raster("scene.hdr")
    raster.window(0, 0, 64, 64)       # (C, 64, 64) float32, the file's own numbers, NaN in holes
    raster.read(0, 0, 64, 64, [3])    # (1, 64, 64) as stored

Values keep the numbers of the file: no percentile, no clip. `scale` and `offset` say what they mean, and are written
back. A pixel that a mask of the file covers, or whose number is missing (no-data, NaN, infinite) in any *good* band, is
a hole (`ctmem.holes`). A bad band makes none: its missing numbers stay as they are, and NaN becomes 0 there.

Source: this project.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from rasterio import Affine

from ctmem.checks import Inside, as_vector, check_count, check_places, fail, typed

Part = tuple[int, int, int, int]  # top, left, height, width, in pixels


class Source(Protocol):
    """What numbers come from: it can be sent to another process, and opens its file there when it is first read."""

    def read(self, part: Part, bands: Sequence[int]) -> np.ndarray:
        """The bands of a window as stored, (len(bands), height, width)."""

    def mask(self, part: Part) -> np.ndarray | None:
        """Which pixels of it have data, (height, width) bool; None: the file has no mask of its own."""


@typed
@dataclass(frozen=True, eq=False)
class Bands:
    """What is known of the C bands.

    Args:
        good: (C,) bool; bad bands are still in the file, and better not used.
        wavelengths_nm: (C,) centres in nm, NaN where a band has none; None where none has.
        fwhm_nm: (C,) widths in nm, NaN where a band has none; None where none has.
        names: C texts.
    """

    good: Inside[np.ndarray]
    wavelengths_nm: Inside[np.ndarray | None] = None
    fwhm_nm: Inside[np.ndarray | None] = None
    names: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        """Checks the lengths, and keeps its own read-only copies.

        Raises:
            ValueError: fields of different lengths.
        """
        good = np.array(self.good, dtype=bool)
        fields: dict[str, Any] = {"good": good}
        for name in ("wavelengths_nm", "fwhm_nm"):
            if getattr(self, name) is not None:
                found = as_vector(getattr(self, name), name, f"{good.size} numbers, one per band")
                fields[name] = np.where(np.isfinite(found) & (found > 0), found, np.nan)
        for name, values in fields.items():
            if values.shape != (good.size,):
                fail(name, f"{good.size} values, one per band", f"shape {values.shape}")
            values.setflags(write=False)
            object.__setattr__(self, name, values)
        if self.names is not None and len(self.names) != good.size:
            fail("names", f"{good.size} texts, one per band", f"{len(self.names)}")

    def __len__(self) -> int:
        return int(self.good.size)

    @typed
    def pick(self, bands: Sequence[int]) -> Bands:
        """The bands of these numbers, in this order.

        Raises:
            ValueError: none, or a number that is out of range.
        """
        check_places(bands, "bands", len(self))
        places = list(bands)
        nm, fwhm = (None if x is None else x[places] for x in (self.wavelengths_nm, self.fwhm_nm))
        return Bands(self.good[places], nm, fwhm, None if self.names is None else tuple(self.names[i] for i in places))


@dataclass(frozen=True, eq=False)
class Raster:
    """A scene (C, H, W) in a file. Opened by `open_raster`; the fields are those of the file.

    Args:
        path: the file or folder; of an array in memory a name that is not there.
        source: what numbers come from.
        height: rows H.
        width: columns W.
        dtype: of the stored numbers.
        bands: what is known of the C bands.
        no_data: the numbers that mean "nothing here"; NaN always does.
        scale: (C,) float64, see `offset`.
        offset: (C,) float64: a stored number x means offset + scale·x in `units`.
        units: of what the numbers mean.
        crs: coordinate reference system, a `rasterio.crs.CRS`, or None.
        transform: an `Affine` from (column, row) of a pixel's corner to coordinates, or None.
        gsd_m: metres from pixel to pixel, where known.
        sensor: name.
        metadata: what else the file says, to be written back.
        block: (rows, columns) that are read at once: windows of multiples are cheap.
        masked: the file has a mask of its own.
    """

    path: Path
    source: Source
    height: int
    width: int
    dtype: np.dtype[Any]
    bands: Bands
    no_data: tuple[float, ...] = ()
    scale: np.ndarray = field(default_factory=lambda: np.ones(1))
    offset: np.ndarray = field(default_factory=lambda: np.zeros(1))
    units: str = "unknown"
    crs: Any = None
    transform: Affine | None = None
    gsd_m: float | None = None
    sensor: str = "unknown"
    metadata: Mapping[str, str] = field(default_factory=dict)
    block: tuple[int, int] = (1, 1)
    masked: bool = False

    def __post_init__(self) -> None:
        """Spreads scale and offset over the bands, and takes away no-data values that are NaN."""
        for name in ("scale", "offset"):
            spread = np.broadcast_to(np.asarray(getattr(self, name), np.float64), (self.count,)).copy()
            object.__setattr__(self, name, spread)
        object.__setattr__(self, "no_data", tuple(float(x) for x in self.no_data if not math.isnan(x)))
        object.__setattr__(self, "metadata", dict(self.metadata))
        if self.gsd_m is None:
            object.__setattr__(self, "gsd_m", ground_sampling_m(self.transform, self.crs, self.height, self.width))

    @property
    def name(self) -> str:
        """The file's name without its ending."""
        return self.path.stem

    @property
    def count(self) -> int:
        """Number of bands C."""
        return len(self.bands)

    @property
    def size(self) -> int:
        """Bytes of all its numbers as stored."""
        return self.count * self.height * self.width * self.dtype.itemsize

    @typed
    def read(self, top: int, left: int, height: int, width: int, bands: Sequence[int] | None = None) -> np.ndarray:
        """The numbers of a window as stored, (C, height, width), whatever they mean; `bands` picks and orders them.

        Raises:
            ValueError: a window or band outside the scene, or a damaged file.
        """
        part = self._inside(top, left, height, width)
        places = range(self.count) if bands is None else bands
        check_places(places, "bands", self.count)
        return self.source.read(part, list(places))

    @typed
    def window(self, top: int, left: int, height: int, width: int) -> np.ndarray:
        """A window (C, height, width) float32 in the file's numbers, NaN in its holes (in all bands).

        Whole numbers beyond 2²⁴, and float64, are rounded to float32.

        Raises:
            ValueError: as `read`.
        """
        part = self._inside(top, left, height, width)
        values = self.source.read(part, range(self.count))
        missing = self.missing(values)
        holes = missing[self.bands.good].any(0)
        mask = self.source.mask(part)
        if mask is not None:
            holes |= ~mask
        with np.errstate(over="ignore"):  # of float64: infinite, and so a hole
            found = values.astype(np.float32)
        if values.dtype.itemsize > 4 and values.dtype.kind == "f":
            holes |= ~np.isfinite(found)[self.bands.good].all(0)
        np.nan_to_num(found, copy=False, posinf=0, neginf=0)  # of bad bands; in good ones these are holes
        found[:, holes] = np.nan
        return found

    def missing(self, values: np.ndarray) -> np.ndarray:
        """Which stored numbers, of any shape, are missing: no-data, NaN or infinite; bool."""
        stored = stored_as(self.no_data, values.dtype)
        missing = ~np.isfinite(values) if values.dtype.kind == "f" else np.zeros(values.shape, bool)
        for value in stored:
            missing |= values == value
        return missing

    @typed
    def pick(self, bands: Sequence[int | str]) -> Raster:
        """The same scene with these bands alone, by number (from 0) or by name, in this order.

        Raises:
            ValueError: none, or one that it does not have.
        """
        places = [self._place(band, number) for number, band in enumerate(bands)]
        check_places(places, "bands", self.count)
        picked = Picked(self.source, tuple(places))
        return dataclasses.replace(
            self, source=picked, bands=self.bands.pick(places), scale=self.scale[places], offset=self.offset[places]
        )

    def _place(self, band: int | str, number: int) -> int:
        """The number of a band."""
        names = self.bands.names or ()
        if isinstance(band, str) and band in names:
            return names.index(band)
        if isinstance(band, str) and not band.isdecimal():
            known = ", ".join(names[:20]) + (", …" if len(names) > 20 else "") if names else "numbers alone: no names"
            fail(f"bands[{number}]", f"a band of the file ({known})", repr(band))
        check_count(int(band), f"bands[{number}]", at_least=0, at_most=self.count - 1)
        return int(band)

    def _inside(self, top: int, left: int, height: int, width: int) -> Part:
        """The window, which lies in the scene."""
        for start, side, most, names in ((top, height, self.height, ("top", "height")),
                                         (left, width, self.width, ("left", "width"))):  # fmt: skip
            if not (0 <= start < most and 0 < side <= most - start):
                name = names[0] if not 0 <= start < most else names[1]
                got = f"{height}×{width} px at ({top}, {left})"
                fail(name, f"of a window inside {self.height}×{self.width} px", got)
        return top, left, height, width


@dataclass(frozen=True)
class Picked:
    """Some bands of a source."""

    source: Source
    places: tuple[int, ...]

    def read(self, part: Part, bands: Sequence[int]) -> np.ndarray:
        """The bands of a window."""
        return self.source.read(part, [self.places[band] for band in bands])

    def mask(self, part: Part) -> np.ndarray | None:
        """The mask of the whole."""
        return self.source.mask(part)


@dataclass(frozen=True)
class Joined:
    """Bands of several sources, one after the other: (source, its band) for each."""

    parts: tuple[tuple[Source, int], ...]

    def read(self, part: Part, bands: Sequence[int]) -> np.ndarray:
        """The bands of a window; each source is read once."""
        wanted = [self.parts[band] for band in bands]
        sources = list({id(source): source for source, _ in wanted}.values())
        pieces = {}
        for source in sources:
            own = [band for one, band in wanted if one is source]
            pieces[id(source)] = iter(source.read(part, own))
        return np.stack([next(pieces[id(source)]) for source, _ in wanted])

    def mask(self, part: Part) -> np.ndarray | None:
        """Where all of them have data."""
        sources = {id(source): source for source, _ in self.parts}.values()
        masks = [mask for mask in (source.mask(part) for source in sources) if mask is not None]
        return np.logical_and.reduce(masks) if masks else None


def stored_as(no_data: Sequence[float], dtype: np.dtype[Any]) -> list[Any]:
    """The missing values as numbers of the file's type; those that it does not have are left out.

    Example:
        >>> [int(x) for x in stored_as((-9999.0, 0.5, 255.0), np.dtype("u1"))]
        [255]
    """
    if dtype.kind == "f":
        with np.errstate(over="ignore"):
            return list(np.array([x for x in no_data if not math.isnan(x)], np.float64).astype(dtype))
    limits = np.iinfo(dtype)
    whole = [int(x) for x in no_data if math.isfinite(x) and x == int(x)]
    return [dtype.type(x) for x in whole if limits.min <= x <= limits.max]


def ground_sampling_m(transform: Affine | None, crs: Any, height: int, width: int) -> float | None:
    """Metres from pixel to pixel: the root of a pixel's area; of degrees those at the middle of the scene.

    Example:
        >>> from rasterio.crs import CRS
        >>> ground_sampling_m(Affine(30, 0, 5e5, 0, -30, 4e6), CRS.from_epsg(32633), 10, 10)
        30.0
    """
    if transform is None or crs is None:
        return None
    area = abs(transform.a * transform.e - transform.b * transform.d)
    if crs.is_geographic:
        _, latitude = place_of(transform, width / 2, height / 2)
        return math.sqrt(area * max(math.cos(math.radians(latitude)), 0.0)) * DEGREE_M
    if not crs.is_projected:
        return None
    return math.sqrt(area) * float(crs.linear_units_factor[1])


def place_of(transform: Affine, column: float, row: float) -> tuple[float, float]:
    """Coordinates of a point in pixels; (0, 0) is the upper left corner.

    Example:
        >>> place_of(Affine(30, 0, 5e5, 0, -30, 4e6), 1, 2)
        (500030.0, 3999940.0)
    """
    a, b, c, d, e, f = transform[:6]
    return a * column + b * row + c, d * column + e * row + f


def finer(transform: Affine, scale: int) -> Affine:
    """The transform of pixels 1/scale as long, with the upper left corner where it is."""
    a, b, c, d, e, f = transform[:6]
    return Affine(a / scale, b / scale, c, d / scale, e / scale, f)


DEGREE_M = 111_194.93  # metres of a degree on a sphere of 6371.009 km
