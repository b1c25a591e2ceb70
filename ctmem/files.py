"""Weights on disk: one safetensors file per network, written atomically, checked when read.

The file's header names the part and the preset, so that weights of another preset or shape give a clear error instead
of a half-loaded network. Beside the files stands `card.json`: data, seed, steps, minutes, versions, scores.

Source: this project; format: safetensors.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import nn

from ctmem.checks import fail


def data_path(name: str) -> Path:
    """Path of a file shipped with the project: in `ctmem/_data` of a wheel, in `data/` of a source tree.

    Raises:
        FileNotFoundError: no such file is shipped.
    """
    here = Path(__file__).resolve().parent
    for folder in (here / "_data", here.parent / "data"):
        if (folder / name).is_file():
            return folder / name
    return fail("name", "a file shipped in the data folder", repr(name), FileNotFoundError)


def save_tensors(tensors: dict[str, torch.Tensor], path: str | Path, metadata: dict[str, str]) -> None:
    """Writes a safetensors file, whole or not at all.

    Nothing is moved or changed: tensors on another device are copied.

    Raises:
        OSError: it cannot be written; what was there before stays.
    """
    _write(save({name: x.detach().cpu().contiguous() for name, x in tensors.items()}, metadata), path)


def load_tensors(path: str | Path) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """Tensors and metadata of a safetensors file.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is not a whole safetensors file.
    """
    if not Path(path).is_file():
        fail("path", "a safetensors file", f"{Path(path).name}, which is not there", FileNotFoundError)
    try:
        with safe_open(path, framework="pt") as file:
            names = file.keys()  # it is not a dict: there is nothing else to go over
            return {name: file.get_tensor(name) for name in names}, file.metadata() or {}
    except SafetensorError as error:
        raise ValueError(f"`path` must be a whole safetensors file, got {Path(path).name}: {error}") from error


def save_module(module: nn.Module, path: str | Path, *, part: str, preset: str) -> None:
    """Writes the weights of `module`, which stays where it is; the header names part and preset."""
    save_tensors(module.state_dict(), path, {"part": part, "preset": preset})


def load_module(module: nn.Module, path: str | Path, *, part: str, preset: str) -> nn.Module:
    """Loads the weights into `module` and returns it; nothing is loaded unless everything fits.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: a damaged file, one of another part or preset, or tensors of other names or shapes.
    """
    tensors, metadata = load_tensors(path)
    for key, wanted in {"part": part, "preset": preset}.items():
        if metadata.get(key) != wanted:
            fail("path", f"weights of {key} {wanted!r}", f"{key} {metadata.get(key)!r} in {Path(path).name}")
    expected = {name: tuple(x.shape) for name, x in module.state_dict().items()}
    found = {name: tuple(x.shape) for name, x in tensors.items()}
    for name in sorted(expected.keys() | found.keys()):
        if expected.get(name) != found.get(name):
            got = f"{found.get(name, 'none')} in {Path(path).name}"
            fail("path", f"weights with `{name}` of shape {expected.get(name, 'none')}", got)
    module.load_state_dict(tensors)
    return module


def write_json(data: Mapping[str, object], path: str | Path) -> None:
    """Writes a card as JSON, whole or not at all.

    Raises:
        OSError: it cannot be written; what was there before stays.
    """
    write_text(json.dumps(data, indent=2, ensure_ascii=False) + "\n", path)


def write_text(text: str, path: str | Path) -> None:
    """Writes a text file, whole or not at all.

    Raises:
        OSError: it cannot be written; what was there before stays.
    """
    _write(text.encode(), path)


def check_writable(folder: str | Path) -> None:
    """Makes the folder if need be, and raises unless a file can be written there.

    Raises:
        OSError: it cannot; says why.
    """
    probe = Path(folder) / ".writable"
    _write(b"", probe)
    probe.unlink(missing_ok=True)


def _write(data: bytes, path: str | Path) -> None:
    """Writes under a temporary name, waits until the disk has it, then renames: the file is whole or not there.

    A process that is killed in between leaves the temporary file, which the next write to `path` takes up.
    """
    path = Path(path)
    part = path.with_name(f".{path.name}.part")
    try:
        # the new file is on the disk, whole, before it takes the place of the old one
        path.parent.mkdir(parents=True, exist_ok=True)
        with part.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
        message = f"`path` must be a file that can be written, got {path.name}: {error.strerror} ({path.parent})"
        clear = type(error)(message)
        clear.errno = error.errno
        raise clear from error
