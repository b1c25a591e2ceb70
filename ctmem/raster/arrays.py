"""Arrays of MATLAB, HDF5 and numpy files as scenes: `cube`, `data` or whatever it is called, with what lies beside it.

Wavelengths, widths, good bands and no-data are taken from the same file, where arrays of these names lie in it. HDF5 is
read by windows, .npy is mapped into memory; MATLAB's version 5 and .npz have to be read whole, once in each process.

Axes are never guessed in silence. The number of wavelengths decides; the mark that MATLAB leaves in its version 7.3
says that its axes are reversed, and (H, W, C) for MATLAB; otherwise an error asks for `axes`. An array (C, pixels) or
(pixels, C) is a scene where the file says its height and width: MATLAB's pixels run down the columns.

Source: this project.
"""

from __future__ import annotations

import math
import os
import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ctmem.checks import fail
from ctmem.raster.hdf5_files import Hdf5Source, asked
from ctmem.raster.raster import Bands, Part, Raster
from ctmem.raster.spectra import to_nm
from ctmem.reading.arrays import HDF5, contents, cube_shape, find_array, listed, pick_member, read_named
from ctmem.reading.border import Member, opened

WAVELENGTHS = ("wavelengths_nm", "wavelength_nm", "wavelengths", "wavelength", "waves", "wl", "wvl", "lambda",
               "center_wavelengths", "centers", "band_centers", "bandcenters")  # fmt: skip
WIDTHS = ("fwhm_nm", "fwhm", "widths", "bandwidths")
GOOD = ("good_bands", "good_wavelengths", "bbl")
ROWS = ("nrow", "nrows", "rows", "height", "lines", "h", "m")
COLUMNS = ("ncol", "ncols", "columns", "cols", "width", "samples", "w", "n")
NUMBERS = ("scale", "offset", "no_data", "nodata", "gsd_m", "transform", *WAVELENGTHS, *WIDTHS, *GOOD, *ROWS, *COLUMNS)
SMALL = 2**20  # bytes of an array that is looked at beside the cube
MOST_KEPT = 2  # arrays that a process keeps
_lock = threading.Lock()
_kept: OrderedDict[Any, np.ndarray] = OrderedDict()


def open_array(path: Path, key: str | None, axes: str | None, count: int | None) -> Raster:
    """The scene in an array of a file.

    Args:
        path: the file.
        key: name of the array; None where there is one of three axes.
        axes: their order, in MATLAB's counting where it wrote the file.
        count: number of bands, where the caller knows it.

    Raises:
        OSError: it may not be read.
        ValueError: a damaged file, no such array, or axes that nothing tells apart.
    """
    if axes is not None and sorted(axes.upper()) != ["C", "H", "W"]:
        fail("axes", "'HWC', 'CHW' or another order of these letters", repr(axes))
    packed = _is_hdf5(path)
    members = asked(path, lambda file: list(file.members.values())) if packed else _members(path)
    beside = _beside(path, members, packed=packed)
    flat = _flat(members, key, beside)
    if flat is not None:
        return _flat_raster(path, *flat, beside)
    member = pick_member(members, key, None)
    assert member.dtype is not None
    shape = cube_shape(member.shape)
    order = axes.upper() if axes else _order(member, shape, count, _first(beside, WAVELENGTHS), path)
    sides = dict(zip(order, shape))
    source: Any = LoadedSource(path, member.name, order)
    if packed:
        lead = next(i for i in range(len(member.shape)) if member.shape[i : i + 3] == shape)
        behind = len(member.shape) - 3 - lead
        source = Hdf5Source(
            path, member.name, order[::-1] if member.marked else order, behind if member.marked else lead
        )
    return Raster(
        path=path, source=source, height=sides["H"], width=sides["W"], dtype=member.dtype.newbyteorder("="),
        block=_block(member, order, sides), **_known(path, beside, sides["C"], member),
    )  # fmt: skip


def _block(member: Member, order: str, sides: dict[str, int]) -> tuple[int, int]:
    """Rows and columns that are read at once."""
    return (1, sides["W"]) if order[0] == "H" or member.place is None else (16, sides["W"])


def _is_hdf5(path: Path) -> bool:
    """Whether it is HDF5, perhaps behind MATLAB's header."""
    with opened(path) as file:
        head = file.read(520)
    return HDF5 in (head[:8], head[512:520])


def _members(path: Path) -> list[Member]:
    """What the file holds."""
    with contents(path) as (members, _):
        return list(members)


def _order(member: Member, shape: tuple[int, ...], count: int | None, known: np.ndarray | None, path: Path) -> str:
    """What the axes are, or the error that asks for it."""
    for bands in (count, None if known is None else known.size):
        fitting = [axis for axis, side in enumerate(shape) if side == bands]
        if len(fitting) == 1:
            return ("CHW", "HCW", "HWC")[fitting[0]]
    if member.marked and path.suffix.lower() == ".mat" and _is_hdf5(path):
        return "HWC"
    options = ", ".join(f"{o!r} ({shape[o.index('H')]}×{shape[o.index('W')]} px, {shape[o.index('C')]} bands)"
                        for o in ("HWC", "CHW"))  # fmt: skip
    why = "no wavelengths say which is which" if known is None and count is None else "the wavelengths do not say it"
    return fail("axes", f"given: {options}, or another order", f"None for {member.name!r} of shape {shape}, and {why}")


# --- what lies beside the array ---------------------------------------------------------------------------------------


def _beside(path: Path, members: Sequence[Member], *, packed: bool) -> dict[str, np.ndarray]:
    """Small arrays of known names, as vectors; those of a struct or a group by their last name."""
    wanted: dict[str, str] = {}
    for member in members:
        short = member.name.rpartition(".")[2].lower()
        vector = max(member.shape, default=1) == math.prod(member.shape)
        if short in NUMBERS and member.dtype is not None and 0 < member.size <= SMALL and vector:
            wanted.setdefault(short, member.name)
    names = list(wanted.values())
    if packed:
        found = asked(path, lambda file: {name: file.whole(name) for name in names})
    else:
        found = read_named(path, names) if names else {}
    return {short: found[name].reshape(-1) for short, name in wanted.items()}


def _first(beside: dict[str, np.ndarray], names: Sequence[str]) -> np.ndarray | None:
    """The first of these that there is."""
    return next((beside[name] for name in names if name in beside), None)


def _known(path: Path, beside: dict[str, np.ndarray], count: int, member: Member) -> dict[str, Any]:
    """Fields of the raster that the file says."""

    def column(names: Sequence[str]) -> np.ndarray | None:
        found = _first(beside, names)
        return found.astype(np.float64) if found is not None and found.size == count else None

    raw, widths, good = column(WAVELENGTHS), column(WIDTHS), column(GOOD)
    unit = "nm" if set(beside) & {"wavelengths_nm", "wavelength_nm"} else None
    nm, fwhm = (None, None) if raw is None else to_nm(raw, unit, path.name, widths)
    known: dict[str, Any] = {"bands": Bands(np.ones(count, bool) if good is None else good > 0, nm, fwhm)}
    missing = _first(beside, ("no_data", "nodata"))
    known["no_data"] = member.no_data if missing is None else tuple(missing.astype(float).tolist())
    for name in ("scale", "offset"):
        if (found := beside.get(name)) is not None and found.size in (1, count):
            known[name] = found.astype(np.float64)
    if (gsd := beside.get("gsd_m")) is not None and gsd.size == 1 and gsd[0] > 0:
        known["gsd_m"] = float(gsd[0])
    return known


# --- pixels in one row ------------------------------------------------------------------------------------------------


def _flat(members: Sequence[Member], key: str | None, beside: dict[str, np.ndarray]) -> tuple[Member, int, int] | None:
    """A matrix of all pixels with the height and width that the file says; None where there is none such."""
    rows, columns = (_first(beside, names) for names in (ROWS, COLUMNS))
    if rows is None or columns is None or rows.size != 1 or columns.size != 1:
        return None
    height, width = int(rows[0]), int(columns[0])
    flat = [one for one in members if one.dtype is not None and len(one.shape) == 2 and height * width in one.shape]
    flat = [one for one in flat if key in (None, one.name)]
    cubes = [one for one in members if one.dtype is not None and len(cube_shape(one.shape)) == 3]
    if (cubes and key is None) or not flat:
        return None
    if len(flat) > 1:
        fail(
            "key",
            "given unless the file holds exactly one matrix of all pixels",
            f"None; the file holds {listed(flat)}",
        )
    return flat[0], height, width


def _flat_raster(path: Path, member: Member, height: int, width: int, beside: dict[str, np.ndarray]) -> Raster:
    """The scene of a matrix of all pixels."""
    assert member.dtype is not None
    axis = member.shape.index(height * width)
    count = member.shape[1 - axis]
    return Raster(
        path=path, source=LoadedSource(path, member.name, f"flat{axis}", (height, width)), height=height, width=width,
        dtype=member.dtype.newbyteorder("="), block=(height, width), **_known(path, beside, count, member),
    )  # fmt: skip


@dataclass(frozen=True)
class LoadedSource:
    """Bands of an array that is read whole, once in each process.

    Args:
        path: the file.
        name: of the array in it.
        order: what its axes are, "HWC" say; "flat0" and "flat1": which of two axes all pixels are along.
        size: height and width, of a flat one.
    """

    path: Path
    name: str
    order: str
    size: tuple[int, int] = (0, 0)

    def read(self, part: Part, bands: Sequence[int]) -> np.ndarray:
        """The bands of a window as stored."""
        top, left, height, width = part
        cube = self._cube()[:, top : top + height, left : left + width]
        picked = cube if list(bands) == list(range(len(cube))) else cube[list(bands)]
        return np.array(picked, dtype=cube.dtype.newbyteorder("="), order="C")

    def mask(self, part: Part) -> np.ndarray | None:  # noqa: ARG002  (as all sources have it)
        """It has none."""
        return None

    def _cube(self) -> np.ndarray:
        """The array (C, H, W)."""
        at = self.path.stat()
        key = (os.getpid(), str(self.path.absolute()), self.name, self.order, at.st_mtime_ns, at.st_size)
        with _lock:
            if key not in _kept:
                _kept[key] = self._load()
            _kept.move_to_end(key)
            while len(_kept) > MOST_KEPT:
                _kept.popitem(last=False)
            return _kept[key]

    def _load(self) -> np.ndarray:
        if self.order.startswith("flat"):
            matrix = read_named(self.path, [self.name])[self.name]
            matrix = matrix if self.order == "flat1" else matrix.T
            return matrix.reshape(len(matrix), self.size[1], self.size[0]).swapaxes(1, 2)
        if self.path.suffix.lower() == ".npy":
            find = np.load(self.path, mmap_mode="r", allow_pickle=False)
            found = find.reshape(cube_shape(find.shape))
            return found.transpose([self.order.index(letter) for letter in "CHW"])
        return find_array(self.path, key=self.name, axes=self.order).array.transpose(2, 0, 1)
