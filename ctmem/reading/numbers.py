"""Text files with numbers in them, as people and spreadsheets write them.

    read_numbers("field.txt")      # (rows, columns)

Encoding: UTF-8 with or without a mark, UTF-16, or else Windows-1252. Columns are parted by semicolons, tabs, commas
or spaces. A comma is a decimal mark where semicolons or tabs part the columns, and where it stands between digits in
lines of one number. Left out are empty lines, what follows `#` or `%`, header lines, a first column of names or of
line numbers, and units behind numbers.

Source: this project.
"""

from __future__ import annotations

import codecs
import csv
import math
import re
import warnings
from pathlib import Path

import numpy as np

from ctmem.checks import fail, typed
from ctmem.reading.border import _bytes, opened, size_of

MOST = 2**20  # bytes of a text file
MARKS = {codecs.BOM_UTF8: "utf-8-sig", codecs.BOM_UTF32_LE: "utf-32", codecs.BOM_UTF32_BE: "utf-32",
         codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}  # fmt: skip
UNIT = r"\s*(?:nm|[µμu]m|microns?|nanometers?|micrometers?)?"
NUMBER = re.compile(r"([+-]?(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?)" + UNIT, re.ASCII | re.IGNORECASE)
NUMERIC = re.compile(r"[+-]?(\.?\d|nan|inf)", re.ASCII | re.IGNORECASE)  # how what is meant as a number begins
ALONE = re.compile(r"[+-]?\d+(,\d+)?" + UNIT, re.ASCII | re.IGNORECASE)  # a number, perhaps with a decimal comma
BRACKETS = " []{}()"
NUMBERS = 100_000  # of a file
LONGEST = 100  # letters of a number
LOWEST_UM, HIGHEST_UM = 0.2, 100.0  # wavelengths below the latter are in µm
LEAST_NM = 100.0


@typed
def read_text(path: str | Path) -> str:
    """The text of a file, whatever its encoding; its lines end as on Unix.

    Raises:
        FileNotFoundError: no such file.
        OSError: one that may not be read.
        ValueError: not a regular file, or not a text of a usual size.
    """
    path = Path(path)
    with opened(path) as file:
        if size_of(file) > MOST:
            fail("path", f"a text file of at most {_bytes(MOST)}", f"{path.name} of {_bytes(size_of(file))}")
        content = file.read(MOST + 1)
    encoding = next((name for mark, name in MARKS.items() if content.startswith(mark)), None)
    if encoding is None and b"\0" in content[:100]:  # UTF-16 without a mark
        encoding = "utf-16-be" if content[:1] == b"\0" else "utf-16-le"
    try:
        text = content.decode(encoding or "utf-8")
    except UnicodeDecodeError:
        text = content.decode("cp1252", errors="replace")
    if "\0" in text:
        fail("path", "a text file", f"{path.name}, which holds bytes of zero")
    return "\n".join(text.splitlines())


@typed
def read_numbers(path: str | Path) -> np.ndarray:
    """The numbers of a text file, (rows, columns) float64.

    Raises:
        FileNotFoundError: no such file.
        OSError: one that may not be read.
        ValueError: not a text file, no numbers, text where a number should stand (names the line), or lines of
            different lengths.
    """
    path = Path(path)
    lines = [(number, line) for number, line in enumerate(read_text(path).split("\n"), 1) if line.strip()]
    lines = [(number, re.split("[#%]", line)[0].strip()) for number, line in lines]
    lines = [(number, line.strip(BRACKETS).rstrip(BRACKETS + ",")) for number, line in lines]
    lines = [(number, line) for number, line in lines if line.strip(" ;,\t")]
    separator, comma = _separator([line for _, line in lines], path.name)
    rows = [(number, _cells(line, separator, comma)) for number, line in lines]
    # header lines, then a column of names
    while rows and not any(map(NUMERIC.match, rows[0][1])):
        rows = rows[1:]
    if rows and all(len(cells) > 1 and not NUMBER.fullmatch(cells[0]) for _, cells in rows):
        rows = [(number, cells[1:]) for number, cells in rows]
    if not rows:
        fail("path", "a text file of numbers", f"{path.name}, which holds none")
    if (count := sum(len(cells) for _, cells in rows)) > NUMBERS:
        fail("path", f"a text file of at most {NUMBERS:,} numbers", f"{count:,} in {path.name}")
    table = [[_number(cell, number, path.name) for cell in cells] for number, cells in rows]
    # one table, without the numbers of its lines
    for (number, _), row in zip(rows, table):
        if len(row) != len(table[0]):
            got = f"{len(row)} in line {number} and {len(table[0])} in line {rows[0][0]} of {path.name}"
            fail("path", "a text file with as many numbers in every line", got)
    found = np.array(table, dtype=np.float64)
    return found[:, 1:] if _counts(found) else found


def _separator(lines: list[str], name: str) -> tuple[str | None, bool]:
    """What parts the columns, None being spaces, and whether a comma is a decimal mark."""
    numbers = [line for line in lines if NUMERIC.match(line.strip("\"'"))] or lines
    for mark in (";", "\t"):
        if any(mark in line for line in numbers):
            return mark, not any("." in line for line in numbers)
    if not any("," in line for line in numbers):
        return None, False
    if any("." in line or line.count(",") > 1 or ", " in line for line in numbers):
        spaced = all(re.fullmatch(r"[+-]?\d+(,\d+)?(\s+[+-]?\d+(,\d+)?)+", line) for line in numbers)
        return (None, True) if spaced else (",", False)
    pairs = [line.split(",") for line in numbers]
    counted = all(len(pair) == 2 for pair in pairs) and len(pairs) > 1 and _counts(np.array(pairs, dtype=object))
    headed = any("," in line for line in lines if line not in numbers)
    if counted or headed or not all(ALONE.fullmatch(line.strip("\"'")) for line in numbers):
        return ",", False
    warnings.warn(
        f"{name}: the comma is read as a decimal mark, {numbers[0]!r} as {numbers[0].replace(',', '.')}; "
        "a semicolon or a tab between columns says otherwise",
        RuntimeWarning,
        stacklevel=4,
    )
    return None, True


def _cells(line: str, separator: str | None, comma: bool) -> list[str]:
    """The columns of a line, without empty ones at its end."""
    if separator is None:
        cells = re.sub(r"(?<=\d)\s+(?=(nm|[µμu]m)\b)", "", line).split()
    else:
        try:
            cells = next(csv.reader([line], delimiter=separator, skipinitialspace=True))
        except csv.Error:  # a column too long for it
            cells = [line]
    cells = [cell.strip().strip("\"'") for cell in cells]
    while cells and not cells[-1]:
        cells.pop()
    return [cell.replace(",", ".") if comma and cell.count(",") == 1 and "." not in cell else cell for cell in cells]


def _number(cell: str, line: int, name: str) -> float:
    """One number, or the error that names its line."""
    found = NUMBER.fullmatch(cell) if len(cell) < LONGEST else None
    value = float(found[1]) if found else math.inf
    if not math.isfinite(value):
        fail("path", "a text file of numbers", f"{cell[:40]!r} in line {line} of {name}")
    return value


def _counts(table: np.ndarray) -> bool:
    """Whether the first of two columns counts the lines, from 0 or 1."""
    if table.shape[1] != 2 or len(table) < 2:
        return False
    first = [float(cell) if NUMBER.fullmatch(str(cell)) else -1.0 for cell in table[:, 0]]
    return first[0] in (0, 1) and first == [first[0] + number for number in range(len(first))]


def as_nm(wavelengths: np.ndarray, name: str) -> np.ndarray:
    """Wavelengths in nm: as they are, or from µm, where all are below 100.

    Args:
        wavelengths: (C,).
        name: what to call their file in a message.

    Raises:
        ValueError: they are neither.
    """
    low, high = float(wavelengths.min()), float(wavelengths.max())
    if low >= LEAST_NM:
        return wavelengths
    if low < LOWEST_UM or high >= HIGHEST_UM:
        fail("path", "wavelengths in nm, or all of them in µm", f"{low:g} to {high:g} in {name}")
    warnings.warn(f"{name}: {low:g} to {high:g} are read as µm, not nm", RuntimeWarning, stacklevel=4)
    return 1000 * wavelengths
