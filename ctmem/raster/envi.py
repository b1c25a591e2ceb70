"""Headers of ENVI files: `key = value` lines, lists in braces.

The header itself is read, since what GDAL makes of it loses some: the reflectance scale factor, digits of wavelengths.

Source: this project; format: ENVI's documentation of its header files.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from ctmem.checks import fail
from ctmem.reading.numbers import read_text

ENDINGS = ("", ".img", ".dat", ".bsq", ".bil", ".bip", ".raw", ".envi", ".bin", ".sli")  # of the data beside a header
TYPES = {1: "u1", 2: "i2", 3: "i4", 4: "f4", 5: "f8", 12: "u2", 13: "u4", 14: "i8", 15: "u8"}
KEPT = ("description", "acquisition time", "cloud cover", "sun azimuth", "sun elevation", "z plot titles",
        "default bands")  # entries that are written back as they are  # fmt: skip
OTHERS = {6: "complex numbers", 9: "complex numbers"}


def header_of(path: Path) -> Path | None:
    """The ENVI header of a file, or the file itself if it is one; None where there is none."""
    beside = [path.with_name(path.name + ".hdr"), path.with_suffix(".hdr")]
    beside += [one.with_suffix(".HDR") for one in beside]
    if path.suffix.lower() == ".hdr":
        beside = [path]
    return next((one for one in beside if one.is_file() and _begins(one)), None)


def _begins(path: Path) -> bool:
    """Whether a file begins as ENVI's headers do."""
    try:
        with path.open("rb") as file:
            return file.read(16).lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"ENVI")
    except OSError:
        return False


def data_of(header: Path) -> Path:
    """The file with the numbers that belongs to a header.

    Raises:
        FileNotFoundError: there is none.
    """
    stem = header.with_suffix("")
    names = [f"{stem.name}{ending}" for ending in ENDINGS]
    there = {one.name.lower(): one.name for one in sorted(header.parent.iterdir())}
    for name in names:
        if name.lower() in there and header.with_name(there[name.lower()]).is_file():
            return header.with_name(there[name.lower()])
    tried = f"{stem.name}, {stem.name}.img, .dat, .bsq, .bil, .bip and .raw"
    return fail("path", f"a header with its data beside it ({tried})", f"{header.name} alone", FileNotFoundError)


def read_header(path: Path) -> dict[str, str]:
    """The entries of a header, keys in lower case; lists stay text in braces.

    Raises:
        OSError: it cannot be read.
        ValueError: not an ENVI header.
    """
    text = read_text(path)
    if not text.lstrip().startswith("ENVI"):
        fail("path", "an ENVI header, which begins with ENVI", path.name)
    entries: dict[str, str] = {}
    open_key = ""
    for line in text.split("\n")[1:]:
        if open_key:
            entries[open_key] += "\n" + line
        elif "=" in line and not line.lstrip().startswith(";"):
            key, _, value = line.partition("=")
            open_key = " ".join(key.lower().split())
            entries[open_key] = value.strip()
        if open_key and not (entries[open_key].startswith("{") and "}" not in entries[open_key]):
            open_key = ""
    return {key: value.strip() for key, value in entries.items()}


def listed(text: str | None) -> list[str]:
    """The items of a list in braces; none of an entry that is not there.

    Example:
        >>> listed("{ a, b c }")
        ['a', 'b c']
    """
    inner = (text or "").strip().removeprefix("{").removesuffix("}")
    return [item.strip() for item in inner.split(",")] if inner.strip() else []


def check_header(header: Mapping[str, str], path: Path, data: Path) -> np.dtype:
    """The type of the numbers, if the data are as long as the header says.

    Raises:
        ValueError: entries that are missing or not right, complex numbers, or a file that is too short.
    """
    wanted = ("samples", "lines", "bands", "data type")
    found = {key: header.get(key, "") for key in wanted}
    for key, text in found.items():
        if not text.isdecimal() or int(text) < 1:
            fail("path", f"an ENVI header with a whole number of {key}", f"{text!r} in {path.name}")
    kind = int(found["data type"])
    if kind not in TYPES:
        fail("path", "an ENVI file of real numbers", f"{OTHERS.get(kind, f'data type {kind}')} in {path.name}")
    if header.get("file compression", "0") not in ("", "0"):
        fail("path", "an ENVI file without compression", path.name)
    dtype = np.dtype(TYPES[kind])
    offset = header.get("header offset", "") or "0"
    if not offset.isdecimal():
        fail("path", "an ENVI header with a whole number of header offset", f"{offset!r} in {path.name}")
    count = int(found["samples"]) * int(found["lines"]) * int(found["bands"])
    needed = int(offset) + count * dtype.itemsize
    if data.stat().st_size < needed:
        got = f"{data.stat().st_size} bytes in {data.name}"
        fail("path", f"a file as long as its header says, {needed} bytes", got)
    return dtype
