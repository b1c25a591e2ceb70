"""The table of a run: a CSV file that grows by whole rows, and can be gone on with.

Source: this project.
"""

from __future__ import annotations

import csv
import io
import math
import os
from collections.abc import Sequence
from pathlib import Path
from tokenize import TokenError

import numpy as np
import torch

from ctmem.benchmark.references import GRADES
from ctmem.benchmark.scores import WITH_TRUTH, WITHOUT_TRUTH
from ctmem.checks import fail
from ctmem.files import write_bytes, write_text

KEY = ("suite", "scene", "area", "camera", "method", "reference", "seed", "stage")
GAIN = ("gain_db", "gain_low_db", "gain_high_db")
NUMBERS = (*GAIN, *WITH_TRUTH, *WITHOUT_TRUTH, "seconds", "peak_memory_mb")
COLUMNS = (*KEY, "weights", *NUMBERS, "blocks", "reason", "commit", "machine", "date")
STAGES = ("before", "after")  # back-projection

Row = dict[str, str]


class Table:
    """A CSV file that grows by whole rows, and beside it the resampled PSNR of each row, for paired intervals.

    Args:
        path: the file; rows that it has already are kept, and not measured again, but for those that were skipped.

    Raises:
        ValueError: a file with other columns.
    """

    def __init__(self, path: Path):
        self.path = path
        self.replicates = path.with_suffix(".replicates")
        path.parent.mkdir(parents=True, exist_ok=True)
        # what was skipped may be there now, and is tried again; a last line that was cut off goes, too
        self.rows = [row for row in read_rows(path) if not row["reason"]] if path.is_file() else []
        write_text(_as_csv([dict(zip(COLUMNS, COLUMNS)), *self.rows]), path)
        self.done = {key_of(row) for row in self.rows}

    def add(self, rows: Sequence[Row], resampled: Sequence[torch.Tensor | None]) -> None:
        """Appends rows, in one write."""
        for row, values in zip(rows, resampled):
            if values is not None:
                content = io.BytesIO()
                np.save(content, values.numpy().astype(np.float32))
                write_bytes(content.getvalue(), self.replicates / f"{_file_name(row)}.npy")
        rows = [{name: row.get(name, "") for name in COLUMNS} for row in rows]
        with self.path.open("a", encoding="utf-8") as file:
            file.write(_as_csv(rows))
            file.flush()
            os.fsync(file.fileno())
        self.rows += rows
        self.done |= {key_of(row) for row in rows}

    def resampled(self, row: Row) -> torch.Tensor | None:
        """The resampled PSNR of a row, where this machine has it."""
        path = self.replicates / f"{_file_name(row)}.npy"
        if not path.is_file():
            return None
        try:
            values = np.load(io.BytesIO(path.read_bytes()), allow_pickle=False)
        except (EOFError, MemoryError, OSError, SyntaxError, TokenError, ValueError) as error:
            raise ValueError(f"`out` must be a folder with undamaged replicates, got {path.name}: {error}") from error
        if values.dtype != np.float32 or values.ndim != 1:
            got = f"{values.dtype} of shape {values.shape} in {path.name}"
            fail("out", f"a folder with {path.parent.name} of float32 in one row", got)
        return torch.from_numpy(values).double()


def read_rows(path: Path) -> list[Row]:
    """Returns the whole rows of a table; a last one that was cut off is left out.

    Raises:
        ValueError: other columns.
    """
    text = path.read_bytes().decode("utf-8", "replace")
    if "\0" in text or "\ufffd" in text:
        fail("out", "a folder with a whole table", f"bytes that are not text in {path.name}")
    reader = csv.DictReader(io.StringIO(text[: text.rfind("\n") + 1]), strict=True)
    try:
        rows = [{name: value or "" for name, value in row.items()} for row in reader]
    except (AttributeError, csv.Error) as error:
        raise ValueError(f"`out` must be a folder with a whole table, got {path.name}: {error}") from error
    if tuple(reader.fieldnames or COLUMNS) != COLUMNS:
        fail("out", "a folder whose table has the columns of this version", f"other columns in {path.name}")
    for number, row in enumerate(rows):
        _check_row(row, f"line {number + 2} of {path.name}")
    return rows


def _check_row(row: Row, place: str) -> None:
    """Raises unless a row has a value in every column, of the kind that stands there."""
    if set(row) != set(COLUMNS):
        fail("out", "a folder with a whole table", f"more values than columns in {place}")
    for name in NUMBERS:
        if row[name] and not _is_number(row[name]):
            fail("out", "a folder with a whole table", f"{name} {row[name][:40]!r} in {place}")
    whole = row["seed"].isdecimal() and row["stage"] in (*STAGES, "") and row["reference"] in GRADES
    if not whole or bool(row["stage"]) == bool(row["reason"]):
        got = {name: row[name][:40] for name in ("reference", "seed", "stage", "reason")}
        fail("out", "a folder with a whole table", f"{got} in {place}")


def _is_number(text: str) -> bool:
    """Whether it is one as `written` writes them."""
    try:
        return not math.isnan(float(text))
    except ValueError:
        return False


def key_of(row: Row) -> tuple[str, ...]:
    """What a row is of."""
    return tuple(row[name] for name in KEY)


def _as_csv(rows: Sequence[Row]) -> str:
    """Rows as lines of text."""
    text = io.StringIO()
    csv.DictWriter(text, COLUMNS, lineterminator="\n").writerows(rows)
    return text.getvalue()


def _file_name(row: Row) -> str:
    """A row's key as the name of a file."""
    return "~".join("".join(c if c.isalnum() or c in ".-" else "_" for c in part) for part in key_of(row))


def written(value: float) -> str:
    """A number with six significant digits; nothing for NaN.

    Example:
        >>> written(0.123456789), written(float("nan"))
        ('0.123457', '')
    """
    return "" if math.isnan(value) else f"{value:.6g}"
