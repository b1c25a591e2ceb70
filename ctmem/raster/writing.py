"""Answers written by windows, in any order, to a file that is whole or not there.

    with create_raster("sr.tif", raster, scale=3) as writer:
        writer.write(tile, top, left)             # (C, h, w), NaN in holes
    writer.counts                                 # what was rounded into the type with a loss

All forms are written the same way: windows go to one plain file of numbers beside `path` (`.sr.tif.unfinished`), each
number at its own place, so that the order of windows, a kill, or one written twice changes nothing. At the end it is
packed as its ending says (`ctmem.raster.packing`), and renamed. So the same numbers are the same bytes.

Numbers are those of the file, in its type: floats of 64 bits become 32; whole ones are rounded (halves to even) and
saturate, which is counted. A hole is written as no-data in all bands. A number of a good band that happens to be the
no-data value is moved by one step, and counted. The upper left corner stays where it was, and a pixel's size is divided
by the scale.

Source: this project.
"""

from __future__ import annotations

import contextlib
import errno
import os
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from ctmem.checks import Inside, Scale, described, fail, typed
from ctmem.files import check_out
from ctmem.raster.layout import FORMS, Layout
from ctmem.raster.packing import companions, map_info, pack
from ctmem.raster.raster import Raster, finer, stored_as


@dataclass(frozen=True)
class Counts:
    """What was written.

    Args:
        pixels: all of them.
        holes: pixels without data.
        saturated: numbers beyond the limits of the type.
        moved: numbers of good bands that were the no-data value.
    """

    pixels: int = 0
    holes: int = 0
    saturated: int = 0
    moved: int = 0

    def __add__(self, other: Counts) -> Counts:
        return Counts(*(getattr(self, name) + getattr(other, name) for name in self.__dataclass_fields__))


class Writer:
    """An unfinished file, see `create_raster`.

    Args:
        layout: shape, type and all that will be said in the file.
        path: its name when it is whole.
        keep: what was written stays beside it when this ends early, for another writer with `resume`.
        resume: goes on with what is there.
    """

    def __init__(self, layout: Layout, path: Path, *, keep: bool, resume: bool) -> None:
        self.layout, self.path, self.keep = layout, path, keep
        self.part = path.with_name(f".{path.name}.unfinished")
        self.counts = Counts()
        self.resumed = resume and self.part.is_file() and self.part.stat().st_size == layout.size
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self.file = self.part.open("r+b" if self.resumed else "w+b", buffering=0)
            if not self.resumed:
                self.file.truncate(layout.size)
        except OSError as error:
            raise _clear(error, self.path) from error

    @property
    def saturated(self) -> int:
        """Numbers so far that were beyond the limits of the type."""
        return self.counts.saturated

    @property
    def needed(self) -> int:
        """Bytes of disk for the unfinished file and, if it has to be packed, the finished one beside it."""
        return self.layout.size * (1 if self.layout.plain else 2)

    def write(self, array: np.ndarray, top: int, left: int) -> Counts:
        """Writes a window whose upper left pixel is (top, left), and returns what was counted in it.

        Args:
            array: (C, h, w) in the file's numbers, NaN in holes.
            top: row.
            left: column.

        Raises:
            OSError: the disk is full, say.
            ValueError: a window outside the file, or a hole where no number means no data.
        """
        array = self._checked(array, top, left)
        holes = np.isnan(array).any(0) if array.dtype.kind == "f" else np.zeros(array.shape[1:], bool)
        if holes.any() and self.layout.no_data is None and self.layout.dtype.kind != "f":
            fail("no_data", f"given: a number of {self.layout.dtype} that means no data", "None, and there are holes")
        counts = Counts(holes.size, int(holes.sum()))
        try:
            for band, values in enumerate(array):
                stored, saturated, moved = self._stored(values, holes, good=bool(self.layout.bands.good[band]))
                counts += Counts(saturated=saturated, moved=moved)
                for row, line in enumerate(stored):
                    _write_all(self.file, line, self.layout.place(band, top + row, left))
        except OSError as error:
            raise _clear(error, self.path) from error
        self.counts += counts
        return counts

    def _checked(self, array: Any, top: int, left: int) -> np.ndarray:
        """The window, which lies in the file."""
        layout = self.layout
        if not isinstance(array, np.ndarray) or array.dtype.kind not in "iuf" or array.ndim != 3:
            fail("array", "an array of real numbers (C, h, w)", described(array), TypeError)
        count, height, width = array.shape
        inside = min(top, left) >= 0 and top + height <= layout.height and left + width <= layout.width
        if count != len(layout.bands) or not inside:
            fail("array", f"a window inside ({len(layout.bands)}, {layout.height}, {layout.width})",
                 f"shape {array.shape} at ({top}, {left})")  # fmt: skip
        return array

    def _stored(self, values: np.ndarray, holes: np.ndarray, *, good: bool) -> tuple[np.ndarray, int, int]:
        """A band of a window in the type of the file; how many numbers were beyond its limits, and moved."""
        dtype, no_data = self.layout.dtype, self.layout.no_data
        saturated = moved = 0
        if dtype.kind == "f" or dtype == values.dtype:
            stored = values.astype(dtype)
        else:
            # float32 has all whole numbers of 16 bits
            exact = np.rint(values if dtype.itemsize <= 2 and values.dtype == np.float32 else values.astype(np.float64))
            exact[holes] = 0
            low, high = limits(dtype)
            if exact.min(initial=0) < low or exact.max(initial=0) > high:
                saturated = int(((exact < low) | (exact > high)).sum())
                np.clip(exact, low, high, out=exact)
            stored = exact.astype(dtype)
        if no_data is not None and good:
            clash = (stored == no_data) & ~holes
            moved = int(clash.sum())
            stored[clash] = beside(dtype.type(no_data))
        if holes.any():
            stored[holes] = np.nan if no_data is None else no_data
        return np.ascontiguousarray(stored), saturated, moved

    def flush(self) -> None:
        """Waits until the disk has what was written.

        Raises:
            OSError: it cannot be written.
        """
        try:
            os.fsync(self.file.fileno())
        except OSError as error:
            raise _clear(error, self.path) from error

    def finish(self) -> None:
        """Makes the file whole, and gives it its name.

        Raises:
            OSError: it cannot be written.
        """
        self.flush()
        self.file.close()
        try:
            pack(self.part, self.path, self.layout)
        except OSError as error:
            raise _clear(error, self.path) from error

    def __enter__(self) -> Writer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Finishes the file; after an error takes it away, or keeps it for another writer."""
        try:
            if kind is None:
                self.finish()
        finally:
            self.file.close()
            if not self.keep:
                with contextlib.suppress(OSError):
                    self.part.unlink(missing_ok=True)


@typed
def create_raster(
    path: str | Path,
    like: Raster,
    *,
    scale: Scale = 1,
    dtype: Inside[Any] = None,
    no_data: float | None = None,
    overwrite: bool = False,
    keep: bool = False,
    resume: bool = False,
) -> Writer:
    """Returns the writer of a new file (C, scale·H, scale·W), a context: the file is there when it ends without error.

    Args:
        path: its name; the ending says its form: .tif or .tiff (GeoTIFF), .img, .dat, .bsq, .bil or .hdr (ENVI), .mat
            (MATLAB) or .npz (numpy).
        like: what is said in the file is taken from this one.
        scale: s; the new pixels are 1/s as long.
        dtype: of the new numbers; None: that of `like`, float32 for other floats.
        no_data: the value of holes; None: that of `like`, else NaN in floats; whole numbers from a file with a mask but
            without such a value get the lowest of a signed type and the highest of another.
        overwrite: the file may be there already.
        keep: when this ends early, what was written stays for a writer with `resume`.
        resume: goes on with such an unfinished file, if there is one of the same size (`writer.resumed`).

    Raises:
        FileExistsError: the file is there.
        OSError: it cannot be written.
        TypeError: a `dtype` that is none of real numbers.
        ValueError: an unknown ending, the file that `like` is read from, or a transform that the form cannot hold.
    """
    path = Path(path)
    if path.suffix.lower() not in FORMS:
        fail("path", "a name that ends in " + ", ".join(FORMS), path.name)
    check_out(path.parent, "path")
    for one in companions(path):
        if one.exists() and like.path.exists() and one.samefile(like.path):
            fail("path", "another file than the one that is read", str(path))
        if one.is_dir() or (one.exists() and not overwrite):
            fail("path", "a new file, or `overwrite` True", f"{one.name}, which is there", FileExistsError)
    layout = _layout(path, like, scale, dtype, no_data)
    if layout.form == "ENVI":
        map_info(layout)  # raises where its header cannot hold the transform
    return Writer(layout, companions(path)[0], keep=keep, resume=resume)


def _layout(path: Path, like: Raster, scale: int, dtype: Any, no_data: float | None) -> Layout:
    """All that will be in the file but its numbers."""
    own = like.dtype.newbyteorder("=")
    form = FORMS[path.suffix.lower()]
    if dtype is None:
        dtype = np.dtype(np.float32) if own.kind == "f" else own
        dtype = np.dtype(np.int16) if form == "ENVI" and dtype == np.int8 else dtype
    try:
        dtype = np.dtype(dtype)
    except TypeError:
        fail("dtype", "a type of real numbers", repr(dtype), TypeError)
    if dtype.kind not in "iuf" or (dtype == np.int8 and form == "ENVI") or dtype == np.float16 or dtype.itemsize > 8:
        fail("dtype", f"a type of real numbers that {form} files have", str(dtype), TypeError)
    missing = _no_data(like, dtype, no_data)
    return Layout(
        form=form, interleave="bsq" if path.suffix.lower() == ".bsq" else "bil", dtype=dtype,
        height=like.height * scale, width=like.width * scale, bands=like.bands, no_data=missing,
        scale=like.scale, offset=like.offset,
        units=like.units, crs=like.crs, sensor=like.sensor, metadata=dict(like.metadata),
        transform=None if like.transform is None else finer(like.transform, scale),
        gsd_m=None if like.gsd_m is None else like.gsd_m / scale,
    )  # fmt: skip


def _no_data(like: Raster, dtype: np.dtype[Any], wanted: float | None) -> Any:
    """The value of holes, of the type of the file; None: NaN, or there can be no hole."""
    if wanted is not None and np.isnan(wanted) and dtype.kind == "f":
        return None
    if wanted is not None:
        fitting = stored_as((wanted,), dtype)
        return fitting[0] if fitting else fail("no_data", f"a number of {dtype}", wanted)
    own = stored_as(like.no_data, dtype)
    if own:
        return own[0]
    may_have = like.masked or like.dtype.kind == "f" or bool(like.no_data)
    if dtype.kind == "f" or not may_have:
        return None
    return dtype.type(np.iinfo(dtype).min if dtype.kind == "i" else np.iinfo(dtype).max)


def limits(dtype: np.dtype[Any]) -> tuple[float, float]:
    """The lowest and the highest whole number of a type that float64 has, too."""
    info = np.iinfo(dtype)
    high = float(info.max)
    return float(info.min), high if int(high) <= info.max else float(np.nextafter(high, 0))


def beside(no_data: Any) -> Any:
    """The neighbour of the no-data value: one above, or one below the highest.

    Example:
        >>> int(beside(np.int16(-32768))), int(beside(np.uint8(255)))
        (-32767, 254)
    """
    if no_data.dtype.kind == "f":
        return np.nextafter(no_data, no_data.dtype.type(np.inf if no_data <= 0 else 0))
    return no_data - 1 if no_data == np.iinfo(no_data.dtype).max else no_data + 1


def _write_all(file: Any, line: np.ndarray, place: int) -> None:
    """Writes all bytes at a place: an unbuffered file may take fewer at once."""
    left = memoryview(line.view(np.uint8).data)
    while left:
        if hasattr(os, "pwrite"):
            count = os.pwrite(file.fileno(), left, place)
        else:
            file.seek(place)
            count = file.write(left)
        left = left[count:]
        place += count


def _clear(error: OSError, path: Path) -> OSError:
    """The same error in this package's words."""
    full = " (free some space, then go on with resume)" if error.errno in (errno.ENOSPC, errno.EDQUOT) else ""
    clear = type(error)(f"`path` must be a file that can be written, got {path.name}: {error.strerror or error}{full}")
    clear.errno = error.errno
    return clear
