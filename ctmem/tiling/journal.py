"""What an interrupted run keeps: the answered tiles, each a file, and what the run is.

    .sr.tif.parts/run.json      input, recipe, options and versions: what the run is recognised by
    .sr.tif.parts/00007.tile    the answer of tile 7, raw float32, written whole or not at all

A tile is done if its file is there; nothing else is written down, so nothing can disagree after a kill. Only when all
are there, the output is put together, in one order: it has the same bytes however often the run was interrupted.

Source: this project.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ctmem.checks import fail, typed
from ctmem.files import add_tensor, package_version, remove_parts, write_bytes, write_json
from ctmem.train.identity import differences

RUN = "run.json"
PACKAGES = ("ctmem", "torch", "numpy")


@typed
@dataclass(frozen=True)
class Journal:
    """The folder of a run's parts: tile by number, (images, C, H, W) float32."""

    folder: Path

    @classmethod
    @typed
    def begin(cls, folder: str | Path, run: Mapping[str, object], *, resume: bool = False) -> Journal:
        """The journal of a run; what another run left in the folder goes, unless this one is to go on with it.

        Args:
            folder: of the parts; made if need be.
            run: what it is recognised by, plain values, from `run_of`.
            resume: go on with what is there, if anything is.

        Raises:
            ValueError: `resume`, and what is there is of another run; says what differs.
            OSError: the folder cannot be written.
        """
        folder = Path(folder)
        run = json.loads(json.dumps(run))
        found = _read_run(folder / RUN)
        if resume and found is not None and found != run:
            fail("resume", f"of the run that was stopped (start again without it, or remove {folder})",
                 ", ".join(differences(found, run)))  # fmt: skip
        if folder.is_dir():
            remove_parts(folder)
        if not resume or found is None:
            _clear(folder)
            write_json(run, folder / RUN)
        return cls(folder)

    def part(self, number: int) -> Path:
        """The file of a tile."""
        return self.folder / f"{number:05d}.tile"

    def keep(self, number: int, values: np.ndarray) -> None:
        """Writes a tile; when this returns, the disk has it."""
        write_bytes(np.ascontiguousarray(values, "<f4").data.cast("B"), self.part(number))

    def has(self, number: int, shape: Sequence[int]) -> bool:
        """Whether a tile of this shape was kept."""
        path = self.part(number)
        return path.is_file() and path.stat().st_size == 4 * int(np.prod(shape))

    def read(self, number: int, shape: Sequence[int]) -> np.ndarray:
        """A tile, of which only what is looked at is read."""
        return np.memmap(self.part(number), "<f4", "r", shape=tuple(shape))

    def size(self) -> int:
        """Bytes of what is kept."""
        return sum(path.stat().st_size for path in self.folder.glob("*.tile"))

    def forget(self) -> None:
        """Removes everything, once the output is where it belongs."""
        _clear(self.folder)
        with contextlib.suppress(OSError):  # something of somebody else lies there
            self.folder.rmdir()


def _read_run(path: Path) -> Any:
    """What the run is that left its parts; None if there is none, or none that can be read."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def _clear(folder: Path) -> None:
    """Removes the parts of another run, its name last; nothing else that lies there."""
    for path in [*folder.glob("*.tile"), folder / RUN]:
        path.unlink(missing_ok=True)


@typed
def run_of(digest: str, recipe: object, options: Mapping[str, object]) -> dict[str, object]:
    """What a run is recognised by: the input's digest, those of the recipe's fields, options, versions of packages."""
    fields = {field.name: getattr(recipe, field.name) for field in dataclasses.fields(recipe)}  # type: ignore[arg-type]
    return {
        "input": digest,
        "recipe": {name: fingerprint(value) for name, value in fields.items()},
        "options": dict(options),
        "versions": {name: package_version(name) for name in PACKAGES},
    }


@typed
def fingerprint(value: object) -> str:
    """What plain values, tensors, dataclasses and networks are recognised by: short ones as they are, else SHA-256.

    Example:
        >>> fingerprint(3), fingerprint("prior"), len(fingerprint(torch.zeros(3)))
        ('3', "'prior'", 16)
    """
    if value is None or isinstance(value, bool | int | float | str):
        return repr(value) if len(repr(value)) <= 40 else hashlib.sha256(repr(value).encode()).hexdigest()[:16]
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
    return fail("recipe", "of plain values, tensors and dataclasses", type(value).__name__, TypeError)
