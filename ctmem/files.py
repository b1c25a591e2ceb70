"""Own files on disk: written whole or not at all, and known again when read.

Tensors (weights, checkpoints, texture libraries) are safetensors files with one envelope in their header: kind, version
of its form, version of ctmem, and a SHA-256 over all this and the tensors, so that a flipped bit is one clear error.
Weights name their part and preset, so that those of another one give an error, too, instead of a half-loaded network.
The card beside them is `ctmem.card`.

Source: this project; format: safetensors.
"""

from __future__ import annotations

import contextlib
import glob
import hashlib
import json
import os
import secrets
import time
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import nn
from torch.overrides import TorchFunctionMode

from ctmem.checks import check_choice, fail, typed, warn_once

VERSIONS = {"weights": 1, "checkpoint": 1, "texture library": 2}  # kind: version of its form
KINDS = {"weights": "weights", "checkpoint": "a checkpoint", "texture library": "a texture library"}
ENVELOPE = ("kind", "version", "ctmem", "sha256")
OLD_PART = 600.0  # seconds after which a half-written file has no writer any more


@typed
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


# --- tensors ----------------------------------------------------------------------------------------------------------


@typed
def save_tensors(
    tensors: Mapping[str, torch.Tensor], path: str | Path, metadata: Mapping[str, str], *, kind: str = "weights"
) -> str:
    """Writes a safetensors file with its envelope, whole or not at all; returns the SHA-256 of the envelope.

    Nothing is moved or changed: tensors on another device are copied.

    Raises:
        OSError: it cannot be written; what was there before stays.
    """
    check_choice(kind, "kind", VERSIONS)
    held = {name: x.detach().cpu().contiguous() for name, x in tensors.items()}
    header = {key: text for key, text in metadata.items() if key not in ENVELOPE}
    header |= {"kind": f"ctmem {kind}", "version": str(VERSIONS[kind]), "ctmem": package_version("ctmem")}
    header["sha256"] = _digest(held, header)
    write_bytes(save(held, header), path)
    return header["sha256"]


@typed
def load_tensors(path: str | Path, *, kind: str = "weights") -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """Tensors and metadata of a file that `save_tensors` wrote.

    Weights of before there was an envelope are taken, with a warning.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: not a whole safetensors file, a damaged one, or one of another kind or version.
    """
    check_choice(kind, "kind", VERSIONS)
    path = Path(path)
    if not path.is_file():
        fail("path", "a safetensors file", f"{path.name}, which is not there", FileNotFoundError)
    try:
        with safe_open(path, framework="pt") as file:
            names = file.keys()  # it is not a dict: there is nothing else to go over
            # copies: what is checked is what is used, whatever becomes of the file
            tensors, metadata = {name: file.get_tensor(name).clone() for name in names}, file.metadata() or {}
    except (SafetensorError, AttributeError, KeyError, RuntimeError, TypeError, UnicodeError) as error:
        raise ValueError(f"`path` must be a whole safetensors file, got {path.name}: {error}") from error
    _check_envelope(tensors, metadata, path.name, kind)
    return tensors, metadata


def _check_envelope(tensors: dict[str, torch.Tensor], metadata: dict[str, str], name: str, kind: str) -> None:
    """Raises unless a file is of this kind and version, and undamaged."""
    if kind == "weights" and not set(ENVELOPE) & set(metadata):
        warn_once(f"{name} was written by an older version: it has no checksum, and whether it is damaged is not known")
        return
    found = metadata.get("kind", "ctmem weights").removeprefix("ctmem ")
    number = metadata.get("version", "")
    a_kind = KINDS[kind]
    whole = metadata.get("sha256") == _digest(tensors, {key: x for key, x in metadata.items() if key != "sha256"})
    old = number in map(str, range(1, VERSIONS[kind])) or not set(ENVELOPE) & set(metadata)
    if found != kind and (whole or old):
        fail("path", a_kind, f"{name}, a safetensors file of {KINDS.get(found, 'something else')}")
    if not whole and not old:
        undamaged = f"an undamaged {kind}" if a_kind.startswith("a ") else f"undamaged {kind}"
        fail("path", undamaged, f"{name}, whose SHA-256 is another than it says")
    if number != str(VERSIONS[kind]):
        fail("path", f"{a_kind} of version {VERSIONS[kind]}", f"version {number or 'none'} in {name}")


def _digest(tensors: Mapping[str, torch.Tensor], metadata: Mapping[str, str]) -> str:
    """SHA-256 of the metadata and of all tensors: names, types, shapes and bytes."""
    digest = hashlib.sha256(json.dumps(metadata, sort_keys=True).encode())
    for name, x in sorted(tensors.items()):
        add_tensor(digest, name, x)
    return digest.hexdigest()


def add_tensor(digest: Any, name: str, x: torch.Tensor) -> None:
    """Adds the name, type, shape and bytes of a tensor to a hash of `hashlib`."""
    digest.update(f"\0{name} {x.dtype} {tuple(x.shape)}\0".encode())
    digest.update(x.detach().cpu().flatten().contiguous().view(torch.uint8).numpy().data)


def package_version(name: str) -> str:
    """Version of a package, or that it runs from its folder, not installed."""
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


# --- networks ---------------------------------------------------------------------------------------------------------


def save_module(module: nn.Module, path: str | Path, *, part: str, preset: str, **more: str) -> str:
    """Writes the weights of `module`, which stays where it is; the header names part, preset and whatever `more` is.

    Returns:
        The file's SHA-256, as `save_tensors` does.
    """
    return save_tensors(module.state_dict(), path, {"part": part, "preset": preset, **more})


def load_module(
    module: nn.Module, path: str | Path, *, part: str, preset: str, sealed: Mapping[str, str] | None = None
) -> nn.Module:
    """Loads the weights into `module` and returns it; nothing is loaded unless everything fits.

    Args:
        module: of the same sizes.
        path: the file.
        part: which network of a preset it is.
        preset: of that name.
        sealed: of the card beside it, the SHA-256 of each file that it is of; None: it does not say.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: a damaged file, one of another part or preset or not the one that the card is of, tensors of other
            names or shapes, or numbers that are not finite.
    """
    tensors, metadata = load_tensors(path)
    for key, wanted in {"part": part, "preset": preset}.items():
        if metadata.get(key) != wanted:
            fail("path", f"weights of {key} {wanted!r}", f"{key} {metadata.get(key)!r} in {Path(path).name}")
    if sealed is not None and metadata.get("sha256") != sealed.get(Path(path).name):
        fail("path", "the weights that the card.json beside them is of", f"{Path(path).name} of another run")
    own = module.state_dict()
    for name in sorted(own.keys() | tensors.keys()):
        wanted, got = (str(tuple(x[name].shape)) if name in x else "none" for x in (own, tensors))
        if wanted != got:
            fail("path", f"weights with `{name}` of shape {wanted}", f"{got} in {Path(path).name}")
        if own[name].is_floating_point() != tensors[name].is_floating_point():  # half precision may stand for float32
            fail("path", f"weights with `{name}` like {own[name].dtype}", f"{tensors[name].dtype} in {Path(path).name}")
        if not bool(torch.isfinite(tensors[name]).all()):
            fail("path", f"weights with a finite `{name}`", f"NaN or infinite values in {Path(path).name}")
    module.load_state_dict(tensors)
    return module


class RoomFor(TorchFunctionMode):
    """Inside, no more numbers are made than the files of weights can hold: a card cannot ask for all memory.

    Args:
        *files: the weights; a number of theirs takes at least two bytes.
    """

    def __init__(self, *files: Path):
        super().__init__()
        self.names = ", ".join(file.name for file in files)
        self.left = 1_000_000 + sum(file.stat().st_size for file in files if file.is_file())

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Calls the function of torch, and counts what it makes."""
        made = func(*args, **(kwargs or {}))
        if func in (torch.empty, torch.zeros, torch.ones, torch.randn):
            self.left -= made.numel()
            if self.left < 0:
                fail("preset", f"one whose networks fit the weights beside it, {self.names}", "a far larger one")
        return made


# --- writing ----------------------------------------------------------------------------------------------------------


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
    write_bytes(text.encode(), path)


def check_out(folder: str | Path, name: str = "out") -> None:
    """Raises unless a folder is there and can be written to, or can be made; writes nothing.

    Raises:
        OSError: it cannot; says why.
    """
    place = Path(folder).absolute()
    while not place.exists() and not place.is_symlink():
        place = place.parent
    if not place.is_dir():
        fail(name, "a folder that can be written", f"{folder}: {place.name} is not a folder", NotADirectoryError)
    if not os.access(place, os.W_OK | os.X_OK):
        fail(name, "a folder that can be written", f"{folder}: {place.name} cannot be written", PermissionError)


def check_writable(folder: str | Path) -> None:
    """Makes the folder if need be, and raises unless a file can be written there.

    Raises:
        OSError: it cannot; says why.
    """
    probe = Path(folder) / ".writable"
    write_bytes(b"", probe)
    probe.unlink(missing_ok=True)


def write_bytes(data: bytes | memoryview, path: str | Path) -> None:
    """Writes under a temporary name, waits until the disk has it, then renames: the file is whole or not there.

    The temporary name is this writer's own. A process that is killed in between leaves it, and a later write to `path`
    takes it away.

    Raises:
        OSError: it cannot be written; what was there before stays.
    """
    path = Path(path)
    part = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.part")
    try:
        # the new file is on the disk, whole, before it takes the place of the old one
        path.parent.mkdir(parents=True, exist_ok=True)
        with part.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except OSError as error:
        message = f"`path` must be a file that can be written, got {path.name}: {error.strerror} ({path.parent})"
        clear = type(error)(message)
        clear.errno = error.errno
        raise clear from error
    finally:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
    remove_parts(path.parent, path.name, older_than=OLD_PART)


def remove_parts(folder: Path, name: str | None = None, *, older_than: float = 0.0) -> None:
    """Removes what killed writers left half-written in a folder, and is older than so many seconds.

    Args:
        folder: where.
        name: of the one file that was written; None: any.
        older_than: seconds; names without a writer's, as older versions gave, may go at any time.
    """
    pattern = "*" if name is None else glob.escape(name)
    for part in {*folder.glob(f".{pattern}.*.part"), *folder.glob(f".{pattern}.part")}:
        with contextlib.suppress(OSError):
            if part.name == f".{name}.part" or time.time() - part.stat().st_mtime > older_than:
                part.unlink()
