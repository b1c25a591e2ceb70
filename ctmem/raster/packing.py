"""From the plain numbers of a finished answer to a file of one form, read by rows so that memory does not grow.

GeoTIFF: tiles of 256 px, deflate, BigTIFF where it may grow beyond 4 GB. What is known of the bands stands in the tags
of each band, in the domain IMAGERY, and as lists in the domain ENVI: QGIS, EnMAP-Box and GDAL see it. ENVI: the numbers
are the file, a header goes beside them. MATLAB: version 5 up to 256 MB, then 7.3. numpy: an .npz that needs no
unpickling.

Source: this project; formats: GDAL's, ENVI's, MATLAB's and numpy's documentation.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import re
import tempfile
import warnings
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import rasterio
import scipy.io
from numpy.lib import format as npy
from rasterio import Affine
from rasterio.errors import NotGeoreferencedWarning, RasterioError, RasterioIOError

from ctmem.checks import fail
from ctmem.files import package_version
from ctmem.raster.envi import KEPT, TYPES, read_header
from ctmem.raster.gdal_files import SETTINGS, told
from ctmem.raster.raster import Bands, place_of

FORMS = {".tif": "GeoTIFF", ".tiff": "GeoTIFF", ".hdr": "ENVI", ".img": "ENVI", ".dat": "ENVI", ".bsq": "ENVI",
         ".bil": "ENVI", ".mat": "MATLAB", ".npz": "numpy"}  # fmt: skip
TILE = 256  # px of a GeoTIFF's tiles
AT_ONCE = 2**28  # bytes of the plain numbers that are read at once
ROWS = 64  # read at once for the other forms
MAT5 = 2**28  # bytes of an array that is written as MATLAB's version 5, which has to be in memory
SAME_MAT5 = b"MATLAB 5.0 MAT-file, written by ctmem"  # instead of a date: the same numbers are the same bytes
SAME_MAT73 = b"MATLAB 7.3 MAT-file, written by ctmem"
CLASSES = {"f4": "single", "f8": "double"}  # MATLAB's names; whole numbers are called as in numpy


@dataclass(frozen=True, eq=False)
class Layout:
    """All that is said in a file but its numbers; see `Raster` for the fields of the same names.

    Args:
        form: one of `FORMS`.
        interleave: of the plain numbers: "bil" (rows, bands, columns) or "bsq" (bands, rows, columns).
        no_data: of the type of the file; None: NaN, or nothing.
    """

    form: str
    interleave: str
    dtype: np.dtype[Any]
    height: int
    width: int
    bands: Bands
    no_data: Any
    scale: np.ndarray
    offset: np.ndarray
    units: str
    crs: Any
    transform: Affine | None
    gsd_m: float | None
    sensor: str
    metadata: dict[str, str]

    def __post_init__(self) -> None:
        """Raises where the form cannot hold the transform.

        Raises:
            ValueError: a sheared transform for an ENVI file.
        """
        if self.form == "ENVI" and self.transform is not None:
            map_info(self)

    @property
    def size(self) -> int:
        """Bytes of all numbers."""
        return self.height * self.width * len(self.bands) * self.dtype.itemsize

    @property
    def plain(self) -> bool:
        """Whether the file is its plain numbers."""
        return self.form == "ENVI"

    def place(self, band: int, row: int, column: int) -> int:
        """Where a number stands among the plain ones, in bytes."""
        line = row * len(self.bands) + band if self.interleave == "bil" else band * self.height + row
        return (line * self.width + column) * self.dtype.itemsize

    def lines(self, file: Any, band: int, top: int, rows: int) -> np.ndarray:
        """Rows of a band, (rows, W), from the plain numbers."""
        found = np.empty((rows, self.width), self.dtype)
        if self.interleave == "bsq":
            _fill(file, self.place(band, top, 0), found)
            return found
        for number, line in enumerate(found):
            _fill(file, self.place(band, top + number, 0), line)
        return found

    def bands_of(self, file: Any, top: int, rows: int) -> Iterator[np.ndarray]:
        """Rows of one band after the other, (rows, W); read at once where that takes little memory."""
        count = len(self.bands)
        if self.interleave == "bil" and rows * count * self.width * self.dtype.itemsize <= AT_ONCE:
            block = np.empty((rows, count, self.width), self.dtype)
            _fill(file, self.place(0, top, 0), block)
            yield from (np.ascontiguousarray(block[:, band]) for band in range(count))
        else:
            yield from (self.lines(file, band, top, rows) for band in range(count))

    def blocks(self, file: Any, rows: int = ROWS) -> Iterator[tuple[int, np.ndarray]]:
        """(top, rows of all bands (rows, W, C)) one after the other."""
        for top in range(0, self.height, rows):
            here = min(rows, self.height - top)
            yield top, np.stack(list(self.bands_of(file, top, here)), -1)


def _fill(file: Any, place: int, array: np.ndarray) -> None:
    """Fills an array from a place in a file."""
    file.seek(place)
    left = memoryview(array.reshape(-1).view(np.uint8).data)
    while left:
        count = file.readinto(left)
        if not count:
            raise OSError(errno.EIO, "the unfinished file ends early")
        left = left[count:]


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
        beside = header.with_name(f".{header.name}.packing")
        beside.write_text(header_text(layout, path.name), encoding="utf-8")
        _synced(beside)
        header.unlink(missing_ok=True)  # never the old one beside new numbers
        _clear_beside(path)
        part.replace(path)
        beside.replace(header)
        return
    packed = path.with_name(f".{path.name}.packing")
    try:
        with part.open("rb", buffering=0) as file:
            {"GeoTIFF": _geotiff, "MATLAB": _matlab, "numpy": _numpy}[layout.form](packed, layout, file)
        _synced(packed)
        _clear_beside(path)
        packed.replace(path)
    finally:
        packed.unlink(missing_ok=True)
    part.unlink(missing_ok=True)


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
    except (RasterioError, RasterioIOError) as error:
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


# --- MATLAB and numpy -------------------------------------------------------------------------------------------------


def _facts(layout: Layout) -> dict[str, Any]:
    """What stands beside the cube, as arrays and texts."""
    bands = layout.bands
    facts: dict[str, Any] = {"good_bands": bands.good.astype(np.uint8)}
    known = {"wavelengths_nm": bands.wavelengths_nm, "fwhm_nm": bands.fwhm_nm}
    facts |= {name: values for name, values in known.items() if values is not None}
    if layout.no_data is not None:
        facts["no_data"] = np.array([layout.no_data.item()], np.float64)
    if layout.gsd_m is not None:
        facts["gsd_m"] = np.array([layout.gsd_m])
    if (layout.scale != 1).any() or (layout.offset != 0).any():
        facts |= {"scale": layout.scale, "offset": layout.offset}
    if layout.transform is not None:
        facts["transform"] = np.array(layout.transform[:6])
    return facts


def _texts(layout: Layout) -> dict[str, str]:
    """The texts that stand beside the cube."""
    texts = {"units": layout.units, "sensor": layout.sensor}
    texts |= {} if layout.crs is None else {"crs": layout.crs.to_wkt()}
    return {key: text for key, text in texts.items() if text != "unknown"}


def _matlab(path: Path, layout: Layout, file: Any) -> None:
    """An array `cube` (H, W, C), and what is known of it."""
    if layout.size > MAT5:
        _matlab73(path, layout, file)
        return
    cube = np.concatenate([rows for _, rows in layout.blocks(file)])
    content = io.BytesIO()
    scipy.io.savemat(content, {"cube": cube, **_facts(layout), **_texts(layout)})
    with path.open("wb") as out:
        out.write(SAME_MAT5.ljust(116))
        out.write(content.getbuffer()[116:])


def _matlab73(path: Path, layout: Layout, file: Any) -> None:
    """The same as HDF5, with its axes reversed and marked as MATLAB's."""
    with h5py.File(path, "w", userblock_size=512) as out:
        shape = (len(layout.bands), layout.width, layout.height)
        chunks = tuple(min(side, most) for side, most in zip(shape, (8, TILE, ROWS)))
        cube = out.create_dataset("cube", shape, layout.dtype, chunks=chunks, compression="gzip", compression_opts=1)
        cube.attrs["MATLAB_class"] = np.bytes_(CLASSES.get(layout.dtype.str[1:], layout.dtype.name))
        for top, rows in layout.blocks(file):
            cube[:, :, top : top + len(rows)] = rows.transpose(2, 1, 0)
        for name, values in _facts(layout).items():
            one = out.create_dataset(name, data=np.asarray(values).reshape(-1, 1))
            one.attrs["MATLAB_class"] = np.bytes_("uint8" if values.dtype == np.uint8 else "double")
        for name, text in _texts(layout).items():
            letters = np.frombuffer(text.encode("utf-16-le"), np.uint16).reshape(-1, 1)
            one = out.create_dataset(name, data=letters)
            one.attrs["MATLAB_class"] = np.bytes_("char")
            one.attrs["MATLAB_int_decode"] = np.int32(2)
    with path.open("rb+") as out:
        out.write(SAME_MAT73.ljust(116) + bytes(8) + b"\x00\x02IM")


def _numpy(path: Path, layout: Layout, file: Any) -> None:
    """An archive of arrays: `cube` (H, W, C), and what is known of it."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        texts = {key: np.array(text) for key, text in _texts(layout).items()}
        for name, values in (_facts(layout) | texts).items():
            with archive.open(_entry(name), "w") as out:
                npy.write_array(out, np.asarray(values), allow_pickle=False)
        with archive.open(_entry("cube"), "w", force_zip64=True) as out:
            shape = (layout.height, layout.width, len(layout.bands))
            about = {"descr": layout.dtype.str, "fortran_order": False, "shape": shape}
            npy.write_array_header_1_0(out, about)
            for _, rows in layout.blocks(file):
                out.write(np.ascontiguousarray(rows).data.cast("B"))


def _entry(name: str) -> zipfile.ZipInfo:
    """A member of an archive; its date is always the same."""
    info = zipfile.ZipInfo(f"{name}.npy")
    info.compress_type = zipfile.ZIP_DEFLATED
    return info
