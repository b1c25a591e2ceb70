"""PRISMA's and EMIT's scenes, which are HDF5 files with a layout of their own.

PRISMA: two cubes (rows, bands, columns), VNIR and SWIR, are joined and sorted by wavelength; both stay where they
overlap, bands of wavelength 0 are left out. Each has its own scale: number 0 to 65535 means a minimum to a maximum, so
that `scale` and `offset` differ between their bands. What lies outside the swath is 0 in all bands, and is masked.
EMIT: one cube (rows, columns, bands) in the sensor's geometry.

Source: this project; structure: the product specifications of PRISMA (ASI) and EMIT (NASA).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rasterio import Affine
from rasterio.crs import CRS
from rasterio.errors import CRSError

from ctmem.checks import fail, warn_once
from ctmem.raster.hdf5_files import Hdf5File, Hdf5Source, asked
from ctmem.raster.raster import Bands, Joined, Part, Raster, Source
from ctmem.reading.border import Member

PROBES = 5  # bands that tell what lies outside the swath
PRISMA_M = 30.0
EMIT_M = 60.0
EMIT_BANDS = "sensor_band_parameters."


def open_hdf5_product(path: Path) -> Raster | None:
    """The scene of a PRISMA or EMIT file; None of any other.

    Raises:
        OSError: it may not be read.
        ValueError: a damaged file, or one without what such a file has to say.
    """
    members = asked(path, lambda file: dict(file.members))
    cube = next((name for name in members if name.endswith("_HCO.Data Fields.VNIR_Cube")), None)
    if cube is not None:
        return _prisma(path, members, cube)
    if f"{EMIT_BANDS}wavelengths" in members:
        name = next((name for name in ("reflectance", "radiance") if name in members), None)
        return None if name is None else _emit(path, members, name)
    return None


# --- PRISMA -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Swath:
    """Bands of a source, and a mask of what is 0 in all of a few of them.

    Args:
        source: the bands.
        probes: numbers of those few.
    """

    source: Source
    probes: tuple[int, ...]

    def read(self, part: Part, bands: Sequence[int]) -> np.ndarray:
        """The bands of a window."""
        return self.source.read(part, bands)

    def mask(self, part: Part) -> np.ndarray | None:
        """Where one of the probes is not 0."""
        found: np.ndarray = (self.source.read(part, self.probes) != 0).any(0)
        return found


def _prisma(path: Path, members: dict[str, Member], vnir: str) -> Raster:
    """The two cubes of a PRISMA file as one."""
    said = asked(path, lambda file: file.child.attributes())
    parts: list[tuple[Source, int]] = []
    rows: list[tuple[float, float, float, float]] = []  # of each band: wavelength, width, scale, offset
    shape = members[vnir].shape
    for detector in ("Vnir", "Swir"):
        name = vnir.replace("VNIR_Cube", f"{detector.upper()}_Cube")
        if name not in members:
            fail("path", "a PRISMA file with VNIR_Cube and SWIR_Cube", f"{path.name}, without {name}")
        nm, widths = _said(said, f"List_Cw_{detector}", path), _said(said, f"List_Fwhm_{detector}", path)
        cube = members[name]
        if len(cube.shape) != 3 or cube.shape[1] != nm.size or (cube.shape[0], cube.shape[2]) != (shape[0], shape[2]):
            expected = f"cubes (rows, bands, columns) with {nm.size} bands in {name}"
            fail("path", f"a PRISMA file of {expected}", f"shape {cube.shape}")
        scale, offset = _prisma_scale(said, detector)
        source = Hdf5Source(path, name, "HCW")
        kept = np.flatnonzero((nm > 0) & (said_or(said, f"List_Cw_{detector}_Flags", np.ones(nm.size)) > 0))
        parts += [(source, int(band)) for band in kept]
        rows += [(nm[band], widths[band] if widths.size == nm.size else np.nan, scale, offset) for band in kept]
    table = np.array(rows)
    order = np.argsort(table[:, 0], kind="stable")
    joined = Joined(tuple(parts[place] for place in order))
    probes = tuple(int(place) for place in np.linspace(0, len(order) - 1, PROBES + 2)[1:-1])
    crs, transform = _prisma_place(said, path, shape[0], shape[2])
    dtype = members[vnir].dtype
    assert dtype is not None
    return Raster(
        path=path, source=Swath(joined, probes), height=shape[0], width=shape[2], dtype=dtype, masked=True,
        bands=Bands(np.ones(len(order), bool), table[order, 0], table[order, 1]), scale=table[order, 2],
        offset=table[order, 3], units="reflectance" if "_L2D_" in vnir or "_L2C_" in vnir else "radiance", crs=crs,
        transform=transform, gsd_m=PRISMA_M, sensor="PRISMA", block=(16, shape[2]),
        metadata={key: said[key] for key in ("Product_ID", "Product_StartTime") if isinstance(said.get(key), str)},
    )  # fmt: skip


def said_or(said: dict[str, Any], name: str, usual: np.ndarray) -> np.ndarray:
    """A list of numbers of the file's attributes, or the usual ones."""
    found = np.asarray(said.get(name, usual), dtype=np.float64).reshape(-1)
    return found if found.size == usual.size else usual


def _said(said: dict[str, Any], name: str, path: Path) -> np.ndarray:
    """A list of numbers that the file has to have."""
    if not isinstance(said.get(name), list):
        fail("path", f"a PRISMA file with the attribute {name}", path.name)
    return np.asarray(said[name], dtype=np.float64)


def _prisma_scale(said: dict[str, Any], detector: str) -> tuple[float, float]:
    """Scale and offset of a cube."""
    low, high = (said.get(f"L2Scale{detector}{end}") for end in ("Min", "Max"))
    if isinstance(low, list) and isinstance(high, list):
        return (high[0] - low[0]) / 65535, low[0]
    factor, shift = (said.get(f"{name}_{detector}") for name in ("ScaleFactor", "Offset"))
    if isinstance(factor, list) and factor[0]:
        return 1 / factor[0], -shift[0] if isinstance(shift, list) else 0.0
    return 1.0, 0.0


def _prisma_place(said: dict[str, Any], path: Path, height: int, width: int) -> tuple[Any, Affine | None]:
    """Reference system and transform; the corners may be of pixels or of their centres, which their distance tells."""
    names = ("Product_ULcorner_easting", "Product_ULcorner_northing", "Product_LRcorner_easting",
             "Product_LRcorner_northing", "Epsg_Code")  # fmt: skip
    if not all(isinstance(said.get(name), list) for name in names):
        warn_once(f"{path.name} is in the sensor's geometry: its answer has no coordinates")
        return None, None
    left, top, right, bottom, code = (float(said[name][0]) for name in names)
    wide, high = right - left, top - bottom
    centres = abs(wide / max(width - 1, 1) - PRISMA_M) < abs(wide / width - PRISMA_M)
    across, down = (max(width - 1, 1), max(height - 1, 1)) if centres else (width, height)
    x, y = wide / across, high / down
    try:
        crs = CRS.from_epsg(int(code))
    except CRSError:
        return None, None
    return crs, Affine(x, 0, left - x / 2 * centres, 0, -y, top + y / 2 * centres)


# --- EMIT -------------------------------------------------------------------------------------------------------------


def _emit(path: Path, members: dict[str, Member], name: str) -> Raster:
    """The cube of an EMIT file."""
    cube = members[name]

    def read(file: Hdf5File) -> list[np.ndarray | None]:
        names = [EMIT_BANDS + one for one in ("wavelengths", "fwhm", "good_wavelengths")]
        return [file.whole(one).reshape(-1) if one in members else None for one in names]

    nm, widths, good = asked(path, read)
    if len(cube.shape) != 3 or nm is None or nm.size != cube.shape[2] or cube.dtype is None:
        fail("path", "an EMIT file of a cube (rows, columns, bands)", f"shape {cube.shape} in {path.name}")
    warn_once(f"{path.name} is in the sensor's geometry, not orthorectified: its answer has no coordinates")
    return Raster(
        path=path, source=Hdf5Source(path, name, "HWC"), height=cube.shape[0], width=cube.shape[1], dtype=cube.dtype,
        bands=Bands(np.ones(nm.size, bool) if good is None or good.size != nm.size else good > 0, nm,
                    None if widths is None or widths.size != nm.size else widths),
        no_data=cube.no_data or (-9999.0,), units=name, gsd_m=EMIT_M, sensor="EMIT", block=(32, cube.shape[1]),
    )  # fmt: skip
