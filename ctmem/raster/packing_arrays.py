"""Finished answers as arrays: MATLAB's version 5 up to 256 MB, then 7.3; an .npz of numpy's that needs no unpickling.

Source: this project; formats: MATLAB's and numpy's documentation.
"""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import scipy.io
from numpy.lib import format as npy

from ctmem.raster.layout import ROWS, Layout

MAT5 = 2**28  # bytes of an array that is written as MATLAB's version 5, which has to be in memory
SAME_MAT5 = b"MATLAB 5.0 MAT-file, written by ctmem"  # instead of a date: the same numbers are the same bytes
SAME_MAT73 = b"MATLAB 7.3 MAT-file, written by ctmem"
CLASSES = {"f4": "single", "f8": "double"}  # MATLAB's names; whole numbers are called as in numpy
SIDE = 256  # columns of a piece


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


def write_matlab(path: Path, layout: Layout, file: Any) -> None:
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
        chunks = tuple(min(side, most) for side, most in zip(shape, (8, SIDE, ROWS)))
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


def write_numpy(path: Path, layout: Layout, file: Any) -> None:
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
