"""A scene from whatever people have: one function that knows a file by its beginning, and a product by its folder.

    open_raster("scene.hdr")             # ENVI, by its header or by its data
    open_raster("scene.tif")             # GeoTIFF, COG; JPEG 2000; ERDAS Imagine
    open_raster("scene.mat:HSI")         # MATLAB, HDF5, NetCDF 4, numpy
    open_raster("ENMAP01-____L2A-…")     # a product: EnMAP, DESIS, Sentinel-2 by folder; PRISMA, EMIT by file

Source: this project.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ctmem.checks import Inside, Positive, as_vector, fail, typed
from ctmem.raster.arrays import open_array
from ctmem.raster.envi import header_of
from ctmem.raster.gdal_files import open_envi, open_gdal
from ctmem.raster.hdf5_products import open_hdf5_product
from ctmem.raster.raster import Bands, Raster
from ctmem.raster.sentinel2 import open_safe, safe_folder, with_responses
from ctmem.raster.xml_products import metadata_beside, open_product
from ctmem.reading.arrays import ENDINGS as ARRAYS
from ctmem.reading.arrays import HDF5, split_key
from ctmem.reading.border import opened
from ctmem.reading.numbers import LEAST_NM

BEGINNINGS = {  # how a file begins → GDAL's driver
    b"II*\0": "GTiff", b"MM\0*": "GTiff", b"II+\0": "GTiff", b"MM\0+": "GTiff",
    b"\0\0\0\x0cjP  ": "JP2OpenJPEG", b"\xff\x4f\xff\x51": "JP2OpenJPEG", b"EHFA_HEADER_TAG": "HFA",
}  # fmt: skip
ENDINGS = {".tif": "GTiff", ".tiff": "GTiff", ".jp2": "JP2OpenJPEG", ".j2k": "JP2OpenJPEG"}
CALLED = {"GTiff": "a GeoTIFF", "JP2OpenJPEG": "a JPEG 2000 file"}


@typed
def open_raster(
    path: str | Path,
    *,
    key: str | None = None,
    axes: str | None = None,
    wavelengths_nm: Inside[Any] = None,
    no_data: float | Sequence[float] | None = None,
    bands: Sequence[int | str] | None = None,
    gsd_m: Positive | None = None,
) -> Raster:
    """Returns the scene of a file, of which nothing but its headers is read.

    Args:
        path: the file, or the folder of a product; `file.mat:HSI` names an array in it, as `key` does.
        key: name of the array, where a file holds several.
        axes: the order of its axes, "HWC", "CHW" and so on, for formats that do not say it.
        wavelengths_nm: (C,) centres of all bands of the file in nm, instead of what the file says; 0 or NaN: none.
        no_data: the value or values that mean "nothing here", instead of what the file says; `()`: there are none.
        bands: numbers (from 0) or names of the bands wanted, in this order; None: all.
        gsd_m: metres from pixel to pixel, instead of what the file says.

    Raises:
        FileNotFoundError: no such file.
        OSError: a file that may not be read.
        ValueError: another kind of file, one that is damaged or not what its name says, or arguments that do
            not fit it.
    """
    path, named = split_key(path)
    if None not in (key, named) and key != named:
        fail("key", f"{named!r}, as `path` says, or None", repr(key))
    count = None if wavelengths_nm is None else np.size(wavelengths_nm)
    numbers = [band for band in bands or () if isinstance(band, int)]
    raster = _opened(path, _Wish(key or named, axes, count, max([count or 1, *(one + 1 for one in numbers)])))
    changes: dict[str, Any] = {} if gsd_m is None else {"gsd_m": gsd_m}
    if no_data is not None:
        changes["no_data"] = tuple(as_vector(np.atleast_1d(np.asarray(no_data, float)), "no_data", "numbers").tolist())
    if wavelengths_nm is not None:
        changes["bands"] = _told(raster.bands, wavelengths_nm)
    raster = dataclasses.replace(raster, **changes)
    return raster if bands is None else raster.pick(bands)


@dataclass(frozen=True)
class _Wish:
    """What the caller says of a file: `key`, `axes`, the number of its bands, and how many there are at least."""

    key: str | None = None
    axes: str | None = None
    count: int | None = None
    least: int = 1

    def check_none(self) -> None:
        """Raises where a name or an order of axes is given for a file that has one alone."""
        for value, name in ((self.key, "key"), (self.axes, "axes")):
            if value is not None:
                fail(name, "None: the format of the file leaves no choice", repr(value))


def _opened(path: Path, wish: _Wish) -> Raster:
    """The scene as its file describes it."""
    if path.is_dir() or path.suffix.lower() == ".xml":
        wish.check_none()
    if (safe := safe_folder(path)) is not None:
        return open_safe(safe, _file)
    if (metadata := metadata_beside(path)) is not None:
        wish.check_none()
        return open_product(metadata, _file)
    if path.is_dir():
        known = "a file, or the folder of an EnMAP, DESIS or Sentinel-2 product"
        fail("path", known, f"{path.name}, a folder without METADATA.XML or MTD_MSI….xml in it")
    return _file(path, wish)


def _file(path: Path, wish: _Wish = _Wish()) -> Raster:
    """The scene of one file."""
    header = header_of(path)
    with opened(path) as file:
        head = file.read(520)
    arrays = head.startswith((b"\x93NUMPY", b"PK")) or _is_hdf5(head)
    if arrays or head[124:128] in (b"\x00\x01IM", b"\x01\x00MI") or path.suffix.lower() in ARRAYS:
        product = open_hdf5_product(path) if wish.key is None and wish.axes is None and _is_hdf5(head) else None
        return product or open_array(path, wish.key, wish.axes, wish.count)
    wish.check_none()
    driver = next((name for start, name in BEGINNINGS.items() if head.startswith(start)), None)
    stated = ENDINGS.get(path.suffix.lower())
    if stated is not None and driver != stated:
        fail("path", f"{CALLED[stated]}, as its ending says", f"{path.name}, which does not begin as one")
    if driver is not None:
        return with_responses(open_gdal(path, driver, least=wish.least))
    if header is not None:
        return with_responses(open_envi(header, None if path == header else path))
    if path.suffix.lower() == ".hdr":
        fail("path", "an ENVI header, which begins with ENVI", path.name)
    return fail("path", "a GeoTIFF, ENVI, JPEG 2000, ERDAS Imagine, MATLAB, HDF5 or numpy file", path.name)


def _is_hdf5(head: bytes) -> bool:
    """Whether a file that begins so is HDF5, perhaps behind MATLAB's header."""
    return HDF5 in (head[:8], head[512:520])


def _told(bands: Bands, wavelengths_nm: Any) -> Bands:
    """The bands with wavelengths of the caller's."""
    expected = f"{len(bands)} numbers in nm, one per band"
    found = as_vector(wavelengths_nm, "wavelengths_nm", expected)
    if found.shape != (len(bands),):
        fail("wavelengths_nm", expected, f"{found.size} numbers")
    known = found[np.isfinite(found) & (found > 0)]
    if known.size and known.max() < LEAST_NM:
        fail("wavelengths_nm", "in nm", f"{known.min():g} to {known.max():g}: these look like µm")
    return dataclasses.replace(bands, wavelengths_nm=np.where(found > 0, found, np.nan))
