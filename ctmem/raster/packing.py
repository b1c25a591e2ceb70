"""From the plain numbers of a finished answer to a file of one form, read by rows so that memory does not grow.

GeoTIFF: tiles of 256 px, deflate, BigTIFF where it may grow beyond 4 GB. What is known of the bands stands in the tags
of each band, in the domain IMAGERY, and as lists in the domain ENVI: QGIS, EnMAP-Box and GDAL see it. ENVI: the numbers
are the file, a header goes beside them. The others: `ctmem.raster.packing_arrays`.

Source: this project; formats: GDAL's, ENVI's, MATLAB's and numpy's documentation.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from rasterio.errors import NotGeoreferencedWarning

from ctmem.checks import fail
from ctmem.files import package_version
from ctmem.raster.envi import KEPT, TYPES, read_header
from ctmem.raster.gdal_files import SETTINGS, of_gdal, told
from ctmem.raster.layout import FORMS as FORMS
from ctmem.raster.layout import Layout
from ctmem.raster.packing_arrays import write_matlab, write_numpy
from ctmem.raster.raster import place_of

TILE = 256  # px of a GeoTIFF's tiles


def companions(path: Path) -> list[Path]:
    """The files that are written for a name: the numbers and, for ENVI, their header."""
    if FORMS[path.suffix.lower()] != "ENVI":
        return [path]
    return [path.with_suffix(".img") if path.suffix.lower() == ".hdr" else path, path.with_suffix(".hdr")]


def pack(part: Path, path: Path, layout: Layout) -> None:
    """Makes the file of its plain numbers, and gives it its name when the disk has all of it.

    Raises:
        OSError: it cannot be written.
    """
    if layout.plain:
        header = companions(path)[1]
        beside = _packing(header)
        beside.write_text(header_text(layout, path.name), encoding="utf-8")
        _synced(beside)
        header.unlink(missing_ok=True)  # never the old one beside new numbers
        _clear_beside(path)
        part.replace(path)
        beside.replace(header)
        return
    packed = _packing(path)
    try:
        with part.open("rb", buffering=0) as file:
            {"GeoTIFF": _geotiff, "MATLAB": write_matlab, "numpy": write_numpy}[layout.form](packed, layout, file)
        _synced(packed)
        _clear_beside(path)
        packed.replace(path)
    finally:
        packed.unlink(missing_ok=True)
    part.unlink(missing_ok=True)


def settle(path: Path) -> bool:
    """Gives a header its name that a kill kept from it; whether one was waiting beside numbers that have theirs."""
    files = companions(path)
    waiting = _packing(files[-1])
    if len(files) < 2 or not (waiting.exists() and files[0].exists()) or _unfinished(files[0]).exists():
        return False
    waiting.replace(files[1])
    return True


def _packing(path: Path) -> Path:
    """The name of a file until the disk has all of it."""
    return path.with_name(f".{path.name}.packing")


def _unfinished(path: Path) -> Path:
    """Where the plain numbers of a file are until they are whole."""
    return path.with_name(f".{path.name}.unfinished")


def _clear_beside(path: Path) -> None:
    """Takes away what GDAL keeps beside a file: of the old one it would be wrong."""
    for ending in (".aux.xml", ".ovr", ".msk"):
        path.with_name(path.name + ending).unlink(missing_ok=True)


def _synced(path: Path) -> None:
    """Waits until the disk has a file."""
    with path.open("rb+") as file:
        os.fsync(file.fileno())


# --- GeoTIFF ----------------------------------------------------------------------------------------------------------


def _geotiff(path: Path, layout: Layout, file: Any) -> None:
    """Tiles, band by band in rows of tiles: always in the same order."""
    options = {
        "driver": "GTiff", "height": layout.height, "width": layout.width, "count": len(layout.bands),
        "dtype": layout.dtype.name, "crs": layout.crs, "nodata": _nodata(layout), "tiled": True, "blockxsize": TILE,
        "blockysize": TILE, "compress": "deflate", "zlevel": 1, "predictor": 3 if layout.dtype.kind == "f" else 2,
        "interleave": "band", "bigtiff": "IF_SAFER", "photometric": "MINISBLACK", "alpha": "NO",
    }  # fmt: skip
    if layout.transform is not None:
        options["transform"] = layout.transform
    try:
        with rasterio.Env(**SETTINGS), warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            with rasterio.open(path, "w", **options) as out:
                _tag(out, layout)
                for window, band, lines in _tile_rows(layout, file):
                    out.write(lines, band + 1, window=window)
            with rasterio.open(path, driver="GTiff") as back:  # GDAL does not say of all that a disk did not take
                for window, band, lines in _tile_rows(layout, file):
                    if back.read(band + 1, window=window).tobytes() != lines.tobytes():
                        raise OSError(errno.EIO, "what was written is not what is read again")
    except Exception as error:
        if not of_gdal(error):
            raise
        why = str(error.__cause__ or error).partition("\n")[0].replace(path.name, "it")
        raise OSError(errno.EIO, f"GDAL says {why}; perhaps the disk is full") from error


def _tile_rows(layout: Layout, file: Any) -> Iterator[tuple[Any, int, np.ndarray]]:
    """(window, band, its numbers) of one row of tiles after the other, band by band in each."""
    for top in range(0, layout.height, TILE):
        rows = min(TILE, layout.height - top)
        for band, lines in enumerate(layout.bands_of(file, top, rows)):
            yield ((top, top + rows), (0, layout.width)), band, lines


def _nodata(layout: Layout) -> float | int | None:
    """The no-data value as a number of Python's; NaN is said, too."""
    if layout.no_data is None:
        return float("nan") if layout.dtype.kind == "f" else None
    return layout.no_data.item()


def _tag(out: Any, layout: Layout) -> None:
    """Writes what is known of the scene and of its bands."""
    bands = layout.bands
    sensor = {} if layout.sensor == "unknown" else {"sensor": layout.sensor}
    out.update_tags(**(layout.metadata | sensor | {"TIFFTAG_SOFTWARE": f"ctmem {package_version('ctmem')}"}))
    lists = {key.replace(" ", "_"): text for key, text in spectral_entries(layout).items()}
    if lists:
        out.update_tags(ns="ENVI", **lists)
    for number in range(len(bands)):
        tags = {"bbl": str(int(bands.good[number]))}
        imagery = {}
        for key, name, values in (("wavelength", "CENTRAL_WAVELENGTH_UM", bands.wavelengths_nm),
                                  ("fwhm", "FWHM_UM", bands.fwhm_nm)):  # fmt: skip
            if values is not None and np.isfinite(values[number]):
                tags |= {key: exact(values[number]), f"{key}_units": "Nanometers"}
                imagery[name] = exact(values[number] / 1000)
        out.update_tags(number + 1, **tags)
        if imagery:
            out.update_tags(number + 1, ns="IMAGERY", **imagery)
        if bands.names is not None:
            out.set_band_description(number + 1, bands.names[number])
    if (layout.scale != 1).any() or (layout.offset != 0).any():
        out.scales, out.offsets = tuple(layout.scale), tuple(layout.offset)
    if layout.units != "unknown":
        out.units = (layout.units,) * len(bands)


def exact(value: float) -> str:
    """A number with all digits that matter, and no more.

    Example:
        >>> exact(0.1 + 0.2), exact(423.0)
        ('0.3', '423')
    """
    return f"{value:.12g}"


def spectral_entries(layout: Layout) -> dict[str, str]:
    """What ENVI's headers say of the bands."""
    bands = layout.bands
    entries = {}
    if bands.wavelengths_nm is not None:
        entries = {"wavelength": braces(map(exact, np.nan_to_num(bands.wavelengths_nm))),
                   "wavelength units": "Nanometers"}  # fmt: skip
    if bands.fwhm_nm is not None:
        entries["fwhm"] = braces(map(exact, np.nan_to_num(bands.fwhm_nm)))
    return entries | {"bbl": braces(str(int(one)) for one in bands.good)}


def one_line(text: str) -> str:
    r"""A text that may be an item of a list in such a header.

    Example:
        >>> one_line("a, {b}\n lines = 3")
        'a b lines 3'
    """
    return " ".join(re.sub(r"[,{}=\s]+", " ", text).split())


def braces(items: Any) -> str:
    """A list as ENVI's headers have it."""
    return "{" + ", ".join(items) + "}"


# --- ENVI -------------------------------------------------------------------------------------------------------------


def header_text(layout: Layout, name: str) -> str:
    """The header of an ENVI file."""
    kind = {code: number for number, code in TYPES.items()}[layout.dtype.str[1:]]
    entries = {
        "description": braces([layout.metadata.get("description", "").strip("{} \n") or name]),
        "samples": str(layout.width), "lines": str(layout.height), "bands": str(len(layout.bands)),
        "header offset": "0", "file type": "ENVI Standard", "data type": str(kind), "interleave": layout.interleave,
        "byte order": "0" if np.dtype(layout.dtype).newbyteorder("=").str[0] in "<|" else "1",
    }  # fmt: skip
    if layout.no_data is not None:
        entries["data ignore value"] = str(layout.no_data.item())
    if layout.sensor != "unknown":
        entries["sensor type"] = one_line(layout.sensor)
    entries |= map_info(layout) | spectral_entries(layout) | _meaning(layout)
    if layout.bands.names is not None:
        entries["band names"] = braces(map(one_line, layout.bands.names))
    entries |= {key: text for key, text in layout.metadata.items() if key in KEPT and key not in entries}
    return "ENVI\n" + "".join(f"{key} = {text}\n" for key, text in entries.items())


def _meaning(layout: Layout) -> dict[str, str]:
    """What the numbers mean."""
    if (layout.scale == 1).all() and (layout.offset == 0).all():
        return {} if layout.units == "unknown" else {"data units": one_line(layout.units)}
    if layout.units == "reflectance" and len(set(layout.scale)) == 1 and (layout.offset == 0).all():
        return {"reflectance scale factor": exact(1 / layout.scale[0])}
    said = {
        "data gain values": braces(map(exact, layout.scale)),
        "data offset values": braces(map(exact, layout.offset)),
    }
    return said if layout.units == "unknown" else said | {"data units": one_line(layout.units)}


def map_info(layout: Layout) -> dict[str, str]:
    """The entries of a header that say where the scene lies, as GDAL writes them.

    Raises:
        ValueError: a transform with shear, which such a header cannot hold.
    """
    if layout.transform is None:
        return {}
    with tempfile.TemporaryDirectory() as folder:
        probe = Path(folder, "probe.img")
        with told(probe, "ENVI"):
            with rasterio.open(probe, "w", driver="ENVI", height=1, width=1, count=1, dtype="uint8", crs=layout.crs,
                               transform=layout.transform) as file:  # fmt: skip
                file.write(np.ones((1, 1, 1), np.uint8))
            with contextlib.suppress(OSError):  # what the header alone says
                probe.with_name("probe.img.aux.xml").unlink()
            with rasterio.open(probe, driver="ENVI") as file:
                found = file.transform
        header = read_header(probe.with_suffix(".hdr"))
    # the lower right corner is where it was, to a thousandth of a pixel
    far = place_of(~layout.transform, *place_of(found, layout.width, layout.height))
    if not max(abs(far[0] - layout.width), abs(far[1] - layout.height)) < 1e-3:
        fail("path", "a GeoTIFF (.tif)", "a name of an ENVI file, whose header cannot hold the shear of the transform")
    return {key: header[key] for key in ("map info", "projection info", "coordinate system string") if key in header}
