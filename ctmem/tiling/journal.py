"""What a run is, and which of its tiles are on the disk: enough to go on after any interruption.

    {"content of …": …, "recipe": …, "weights": …, "options": …, "versions": …}      the run, first
    {"tile": 0, "pixels": 4096, "saturated": 0, …}                             a line for each tile, once it is safe
    {"finished": "sr.tif"}                                                     and for each output that has its name

A line is added after the disk has the tile's numbers, and a torn last line does not count; so a tile in the journal is
in the unfinished output, however the run ended. A tile that is written twice is the same.

Source: this project.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ctmem.checks import fail, typed
from ctmem.files import add_tensor, package_version, write_bytes
from ctmem.train.identity import differences

PACKAGES = ("ctmem", "torch", "numpy")
SHOWN = 40  # characters of a plain value that stands in the journal as it is


class Journal:
    """The journal of one run, open for further lines.

    Args:
        path: its file.
        run: what the run is recognised by, plain values, from `run_of`.
        resume: go on with what is there, if anything is.

    Raises:
        ValueError: `resume`, and what is there is of another run; says what differs.
        OSError: the file cannot be written.
    """

    def __init__(self, path: Path, run: Mapping[str, object], *, resume: bool = False) -> None:
        self.path = path
        run = json.loads(json.dumps(run))
        if resume:
            check_run(path, run)
        self.done = tiles_in(path) if resume else {}
        self.finished = finished_in(path) if resume else []
        lines = [run, *({"tile": tile, **counts} for tile, counts in self.done.items())]
        lines += [{"finished": name} for name in self.finished]
        write_bytes("".join(f"{json.dumps(line)}\n" for line in lines).encode(), path)

    def add(self, tile: int, counts: Mapping[str, int]) -> None:
        """Notes a tile that the disk has, with whatever was counted in it."""
        self._add({"tile": tile, **counts})
        self.done[tile] = dict(counts)

    def finish(self, name: str) -> None:
        """Notes an output that has its name."""
        self._add({"finished": name})
        self.finished.append(name)

    def _add(self, line: Mapping[str, Any]) -> None:
        """Adds a line, and waits until the disk has it."""
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
            file.flush()
            os.fsync(file.fileno())

    def counts(self) -> dict[str, int]:
        """The counts of all tiles."""
        names = {name for counts in self.done.values() for name in counts}
        return {name: sum(counts.get(name, 0) for counts in self.done.values()) for name in sorted(names)}


@typed
def check_run(path: str | Path, run: Mapping[str, object]) -> None:
    """Raises unless a journal is of this run, or there is none.

    Raises:
        ValueError: it is of another one; says what differs.
    """
    lines = _whole_lines(Path(path))
    run = json.loads(json.dumps(run))
    if lines and lines[0] != run:
        fail("resume", "of the run that was stopped (start again without it)", ", ".join(differences(lines[0], run)))


@typed
def option_in(path: str | Path, name: str) -> Any:
    """An option of the run of a journal; None where there is none."""
    lines = _whole_lines(Path(path))
    return lines[0].get("options", {}).get(name) if lines else None


@typed
def tiles_in(path: str | Path) -> dict[int, dict[str, int]]:
    """The tiles that a journal lists, and what was counted in them."""
    return {line.pop("tile"): line for line in _whole_lines(Path(path))[1:] if "tile" in line}


@typed
def finished_in(path: str | Path) -> list[str]:
    """The outputs that a journal lists as finished."""
    return [line["finished"] for line in _whole_lines(Path(path))[1:] if "finished" in line]


def _whole_lines(path: Path) -> list[Any]:
    """What stands in a journal, without a torn last line; nothing where there is none, or one that was not begun."""
    try:
        lines = path.read_text(encoding="utf-8").split("\n")[:-1]
        return [json.loads(line) for line in lines]
    except (OSError, ValueError):
        return []


@typed
def run_of(
    inputs: Mapping[str, str], recipe: object, options: Mapping[str, object], weights: object = None
) -> dict[str, object]:
    """What a run is recognised by: digests of the inputs, those of the recipe's fields, options, versions of packages.

    Args:
        inputs: what a message calls an input → its digest.
        recipe: a dataclass of plain values, tensors and other dataclasses.
        options: plain values.
        weights: a network that the recipe does not hold; None: there is none.
    """
    fields = {field.name: getattr(recipe, field.name) for field in dataclasses.fields(recipe)}  # type: ignore[arg-type]
    return {
        **{f"content of {name}": digest for name, digest in inputs.items()},
        "recipe": {name: fingerprint(value) for name, value in fields.items()},
        "weights": fingerprint(weights),
        "options": dict(options),
        "versions": {name: package_version(name) for name in PACKAGES},
    }


@typed
def fingerprint(value: object) -> str:
    """What plain values, tensors, dataclasses and networks are recognised by: short ones as they are, else SHA-256.

    Raises:
        TypeError: a value of another kind.

    Example:
        >>> fingerprint(3), fingerprint("prior"), len(fingerprint(torch.zeros(3)))
        ('3', "'prior'", 16)
    """
    if value is None or isinstance(value, bool | int | float | str):
        return repr(value) if len(repr(value)) <= SHOWN else hashlib.sha256(repr(value).encode()).hexdigest()[:16]
    digest = hashlib.sha256()
    if isinstance(value, torch.Tensor):
        add_tensor(digest, "", value)
    else:
        for name, part in _parts(value):
            digest.update(f"\0{name}\0{fingerprint(part)}".encode())
    return digest.hexdigest()[:16]


def _parts(value: Any) -> list[tuple[str, Any]]:
    """What a value is made of."""
    if isinstance(value, torch.nn.Module):
        return sorted(value.state_dict().items())
    if isinstance(value, np.ndarray):
        return [("", torch.from_numpy(np.ascontiguousarray(value)))]
    if dataclasses.is_dataclass(value):
        return [(field.name, getattr(value, field.name)) for field in dataclasses.fields(value)]
    if isinstance(value, Mapping):
        return [(repr(key), part) for key, part in value.items()]
    if isinstance(value, list | tuple):
        return [(str(place), part) for place, part in enumerate(value)]
    return fail("value", "of plain values, tensors and dataclasses", type(value).__name__, TypeError)
