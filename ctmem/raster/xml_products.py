"""EnMAP and DESIS: a folder with `…SPECTRAL_IMAGE.TIF` and `…METADATA.XML`, which says all about the bands.

Numbers mean offset + gain·number, reflectance at level 2A. EnMAP lists the channels that can be used; the others, in
the absorption of water say, are bad bands, and there no-data makes no holes.

Source: this project; structure: the format specifications of EnMAP's and DESIS' products.
"""

from __future__ import annotations

import dataclasses
import math
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ctmem.checks import fail
from ctmem.raster.raster import Bands, Raster
from ctmem.reading.border import opened, size_of

LARGEST = 2**26  # bytes of a metadata file
IMAGES = (".tif", ".tiff", ".bsq", ".bil", ".bip", ".jp2")
TAGS = {  # of a band, EnMAP's and DESIS'
    "nm": ("wavelengthCenterOfBand",),
    "fwhm": ("FWHMOfBand", "wavelengthWidthOfBand"),
    "gain": ("GainOfBand", "gainOfBand"),
    "offset": ("OffsetOfBand", "offsetOfBand"),
}


def read_xml(path: Path) -> ElementTree.Element:
    """The root of an XML file, its names without their name space.

    Raises:
        OSError: it may not be read.
        ValueError: a damaged or far too large file, or one with declarations of its own.
    """
    with opened(path) as file:
        if size_of(file) > LARGEST:
            fail("path", f"a metadata file of at most {LARGEST} bytes", f"{path.name} of {size_of(file)}")
        text = file.read()
    if b"<!DOCTYPE" in text or b"<!ENTITY" in text:
        fail("path", "an XML file without a DOCTYPE", path.name)
    try:
        root = ElementTree.fromstring(text)
    except (ElementTree.ParseError, ValueError, LookupError) as error:
        raise ValueError(f"`path` must be a readable XML file, got {path.name} ({error})") from error
    for element in root.iter():
        element.tag = str(element.tag).rpartition("}")[2]
    return root


def metadata_beside(path: Path) -> Path | None:
    """The metadata of a product of this kind, by its folder, its image or themselves; None: it is none."""
    if path.is_dir():
        found = [one for one in sorted(path.iterdir()) if one.name.upper().endswith("METADATA.XML")]
        return found[0] if len(found) == 1 else None
    name = path.name.upper()
    if name.endswith("METADATA.XML"):
        return path
    if "SPECTRAL_IMAGE" not in name or not path.is_file():
        return None
    start = name.partition("SPECTRAL_IMAGE")[0]
    return next((one for one in sorted(path.parent.iterdir())
                 if one.name.upper() == f"{start}METADATA.XML"), None)  # fmt: skip


def open_product(metadata: Path, open_file: Callable[[Path], Raster]) -> Raster:
    """The scene that a metadata file describes.

    Args:
        metadata: the file.
        open_file: opens the image beside it.

    Raises:
        FileNotFoundError: no image beside it.
        OSError: a file that may not be read.
        ValueError: damaged metadata, or an image of another number of bands.
    """
    root = read_xml(metadata)
    raster = open_file(_image(metadata))
    found = {name: _column(root, tags, metadata) for name, tags in TAGS.items()}
    nm = found["nm"]
    if nm is None or nm.size != raster.count:
        told = "none" if nm is None else str(nm.size)
        fail("path", f"metadata of {raster.count} bands, as the image beside it has", f"{told} in {metadata.name}")
    ones, zeros = np.ones(raster.count), np.zeros(raster.count)
    good = _expected(root, raster.count)
    background = _number(root, "backgroundValue")
    sensor = "EnMAP" if root.find(".//bandCharacterisation/bandID") is not None else "DESIS"
    level = next((one.text or "" for one in root.iter("level")), "") or metadata.name
    changes: dict[str, Any] = {
        "bands": Bands(ones > 0 if good is None else good, nm, found["fwhm"]),
        "scale": ones if found["gain"] is None else found["gain"],
        "offset": zeros if found["offset"] is None else found["offset"],
        "units": "reflectance" if "L2A" in level else "radiance", "sensor": sensor,
        "path": metadata.parent if metadata.parent.name == metadata.name.partition("-METADATA")[0] else raster.path,
    }  # fmt: skip
    if background is not None:
        changes["no_data"] = (background,)
    return dataclasses.replace(raster, **changes)


def _image(metadata: Path) -> Path:
    """The image beside the metadata."""
    start = metadata.name[: -len("METADATA.XML")].upper()
    there = [one for one in sorted(metadata.parent.iterdir()) if one.name.upper().startswith(f"{start}SPECTRAL_IMAGE")]
    fitting = [one for one in there if one.suffix.lower() in IMAGES]
    if fitting:
        return fitting[0]
    return fail("path", "metadata with their image, …SPECTRAL_IMAGE.TIF, beside them", metadata.name, FileNotFoundError)


def _column(root: ElementTree.Element, tags: Sequence[str], path: Path) -> np.ndarray | None:
    """One number of each band in the order of the bands, or None where no band has one."""
    within = root.find(".//bandCharacterisation")
    bands = [] if within is None else [one for one in within if one.tag in ("bandID", "band")]
    texts = [next((one.findtext(tag) for tag in tags if one.findtext(tag)), None) for one in bands]
    if not any(texts):
        return None
    try:
        return np.array([math.nan if text is None else float(text) for text in texts])
    except ValueError:
        return fail("path", f"metadata with numbers of {tags[0]}", f"another text in {path.name}")


def _number(root: ElementTree.Element, tag: str) -> float | None:
    """The number under the first tag of this name."""
    text = next((one.text for one in root.iter(tag) if one.text), None)
    try:
        return None if text is None else float(text)
    except ValueError:
        return None


def _expected(root: ElementTree.Element, count: int) -> np.ndarray | None:
    """Which bands EnMAP's lists of expected channels name, (C,); None where there are none."""
    lists = []
    for quality in ("vnirProductQuality", "swirProductQuality"):
        text = root.findtext(f".//{quality}/expectedChannelsList") or ""
        lists.append([int(cell) for cell in text.replace(",", " ").split() if cell.isdecimal()])
    first, second = lists
    if not first or not second:
        return None
    shift = max(first) if min(second) <= max(first) else 0  # SWIR's numbers may begin again
    good = np.zeros(count, bool)
    for number in [*first, *(number + shift for number in second)]:
        if 1 <= number <= count:
            good[number - 1] = True
    return good if 2 * good.sum() > count else None
