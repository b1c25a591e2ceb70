"""Sentinel-2: a stack whose bands are called B02, B03, …, or the bands of 10 m in a .SAFE folder.

Source: this project; structure: ESA's product specification; responses: `ctmem.observe.responses`.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ctmem.checks import fail
from ctmem.observe.responses import load_rsr
from ctmem.raster.raster import Bands, Joined, Raster
from ctmem.raster.xml_products import read_xml

TEN_METRES = ("B02", "B03", "B04", "B08")
NAME = re.compile(r"^(B(?:0\d|1[0-2]|8A))(?![0-9A-Za-z])")
ORDER = ("B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B10", "B11", "B12")  # of band_id
CRAFTS = {"sentinel-2a": "sentinel2a", "sentinel-2b": "sentinel2b"}


def with_responses(raster: Raster) -> Raster:
    """The scene with wavelengths, where all its bands are called as Sentinel-2's are and have none."""
    names = raster.bands.names or ()
    found = [NAME.match(name) for name in names]
    if raster.bands.wavelengths_nm is not None or not found or not all(found):
        return raster
    short = [one[1] for one in found if one is not None]
    if not any(name[1] == "0" or name == "B8A" for name in short):  # Landsat has a B10, too
        return raster
    sensor = raster.sensor if raster.sensor in CRAFTS.values() else "sentinel2a"
    return dataclasses.replace(raster, bands=_bands(short, sensor, raster.bands.good), sensor=sensor)


def _bands(names: Sequence[str], sensor: str, good: np.ndarray) -> Bands:
    """Centres and widths of these bands."""
    table = load_rsr(sensor)
    nm, widths = [], []
    for name in names:
        lengths, response = table[name]
        nm.append(float((lengths * response).sum() / response.sum()))
        above = lengths[response >= response.max() / 2]
        widths.append(float(above[-1] - above[0] + 1))
    return Bands(good, np.round(nm, 2), np.array(widths), tuple(names))


def safe_folder(path: Path) -> Path | None:
    """The .SAFE folder, by itself or by its MTD_MSI….xml; None: it is none."""
    folder = path if path.is_dir() else path.parent
    is_metadata = path.is_dir() or (path.name.upper().startswith("MTD_MSI") and path.suffix.lower() == ".xml")
    return folder if is_metadata and any(folder.glob("MTD_MSI*.xml")) else None


def open_safe(folder: Path, open_file: Callable[[Path], Raster]) -> Raster:
    """The bands of 10 m of a product of level 1C or 2A.

    Args:
        folder: with MTD_MSI….xml in it.
        open_file: opens one band.

    Raises:
        FileNotFoundError: a band is missing.
        OSError: a file that may not be read.
        ValueError: damaged metadata, several granules, or bands that do not fit each other.
    """
    metadata = min(folder.glob("MTD_MSI*.xml"))
    root = read_xml(metadata)
    rasters = [open_file(_band(folder, name)) for name in TEN_METRES]
    first = rasters[0]
    for name, one in zip(TEN_METRES, rasters):
        if (one.height, one.width, one.count, one.dtype) != (first.height, first.width, 1, first.dtype):
            fail("path", "a folder whose bands of 10 m are of one size", f"{name} of {one.height}×{one.width} px")
    texts = {tag: next((one.text or "" for one in root.iter(tag)), "") for tag in ("SPACECRAFT_NAME", "PRODUCT_URI")}
    sensor = CRAFTS.get(texts["SPACECRAFT_NAME"].strip().lower(), "sentinel2a")
    level = "BOA" if next(root.iter("BOA_QUANTIFICATION_VALUE"), None) is not None else ""
    whole = _number(root, f"{level}_QUANTIFICATION_VALUE".strip("_")) or 10_000.0
    shifts = {one.get("band_id"): float(one.text or 0) for tag in ("BOA_ADD_OFFSET", "RADIO_ADD_OFFSET")
              for one in root.iter(tag)}  # fmt: skip
    offsets = np.array([shifts.get(str(ORDER.index(name)), 0.0) for name in TEN_METRES])
    known: dict[str, Any] = {
        "bands": _bands(TEN_METRES, sensor, np.ones(len(TEN_METRES), bool)), "scale": np.full(4, 1 / whole),
        "offset": offsets / whole, "units": "reflectance", "sensor": sensor, "no_data": first.no_data or (0.0,),
        "metadata": {"PRODUCT_URI": texts["PRODUCT_URI"]} if texts["PRODUCT_URI"] else {},
    }  # fmt: skip
    source = Joined(tuple((one.source, 0) for one in rasters))
    return dataclasses.replace(first, path=folder, source=source, **known)


def _band(folder: Path, name: str) -> Path:
    """The one file of a band."""
    within = folder / "GRANULE"
    found = [one for one in sorted(within.rglob(f"*_{name}*")) if one.suffix.lower() in (".jp2", ".tif", ".tiff")
             and re.search(rf"_{name}(_10m)?$", one.stem)]  # fmt: skip
    if not found:
        fail("path", f"a .SAFE folder with the band {name} of 10 m", f"{folder.name} without it", FileNotFoundError)
    if len(found) > 1:
        fail("path", "a .SAFE folder of one granule", f"{len(found)} files of {name} in {folder.name}")
    return found[0]


def _number(root: Any, tag: str) -> float | None:
    """The number under a tag, if it is positive."""
    try:
        found = float(next((one.text or "" for one in root.iter(tag)), ""))
    except ValueError:
        return None
    return found if found > 0 else None
