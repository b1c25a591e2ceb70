"""What every foreign file has to pass: it is a regular file, and does not claim more than it can hold.

Sizes are read from headers, and weighed before anything is decoded. An array that is stored as it is cannot be larger
than its file. A compressed one is believed up to a hundred times its file, or 256 MiB for a small file; the
environment variable `CTMEM_READ_LIMIT_MB` raises the latter. Nothing is read that would not fit into the machine's
memory.

Source: this project.
"""

from __future__ import annotations

import math
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from ctmem.checks import fail

RATIO = 100  # a compressed file is believed to unfold to this many times its size
ROOM_MB = 256  # MiB that any file, however small, may unfold to
LIMIT = "CTMEM_READ_LIMIT_MB"  # the environment variable that says another number of MiB
KINDS = {stat.S_IFDIR: "a folder", stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket", stat.S_IFCHR: "a device",
         stat.S_IFBLK: "a device"}  # fmt: skip


class Refused(ValueError):
    """A file that claims more than it can hold."""


@dataclass(frozen=True)
class Member:
    """One thing that a file holds, as its header describes it."""

    name: str
    shape: tuple[int, ...] = ()  # in the order in which the program that wrote it counts the axes
    dtype: np.dtype[Any] | None = None  # None: not an array of numbers
    kind: str = ""  # then what it is: "text", "cell"
    marked: bool = True  # whether the file says in which order the axes are, or its format has one order alone
    no_data: tuple[float, ...] = ()  # values that the file itself calls missing
    place: Any = None  # where it is, for the reader of the format

    @property
    def size(self) -> int:
        """Bytes of the array."""
        return math.prod(self.shape) * (0 if self.dtype is None else self.dtype.itemsize)


Contents = tuple[list[Member], Callable[[Member], np.ndarray]]  # what there is, and what decodes one of it


@contextmanager
def opened(path: str | Path) -> Iterator[BinaryIO]:
    """A regular file, open for reading. A link to one is followed; a pipe or a device is refused without waiting.

    Raises:
        FileNotFoundError: no such file.
        OSError: one that may not be read.
        ValueError: a folder, a pipe, a socket or a device.
    """
    path = Path(path)
    try:
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    except FileNotFoundError:
        fail("path", "an existing file", path.name, FileNotFoundError)
    except ValueError as error:  # a NUL in the name
        raise ValueError(f"`path` must be the name of a file, got {str(path)!r} ({error})") from error
    except OSError as error:
        _refuse_kind(path)
        message = f"`path` must be a file that may be read, got {path.name} ({error.strerror})"
        raise type(error)(message) from error
    try:
        _refuse_kind(path, os.fstat(handle).st_mode)
    except ValueError:
        os.close(handle)
        raise
    with os.fdopen(handle, "rb") as file:
        yield file


def _refuse_kind(path: Path, mode: int | None = None) -> None:
    """Raises where something that is not a regular file stands under the path."""
    if mode is None:
        try:
            mode = path.stat().st_mode
        except OSError:
            return
    if not stat.S_ISREG(mode):
        fail("path", "a regular file", f"{path.name}, {KINDS.get(stat.S_IFMT(mode), 'something else')}")


def size_of(file: BinaryIO) -> int:
    """Bytes of an open file."""
    return os.fstat(file.fileno()).st_size


def room(size: int) -> int:
    """How many bytes a compressed file of `size` bytes may unfold to.

    Raises:
        ValueError: the environment variable does not hold a number.
    """
    text = os.environ.get(LIMIT, "")
    if text and not text.isdecimal():
        fail(LIMIT, "a whole number of MiB", repr(text))
    return max(int(text or ROOM_MB) * 2**20, RATIO * size)


def check_claim(name: str, claimed: int, size: int, *, packed: bool) -> None:
    """Raises where an array claims more bytes than its file can hold, or than the machine has.

    Args:
        name: of the array.
        claimed: bytes, as the header says.
        size: bytes there are on the disk.
        packed: compressed.

    Raises:
        ValueError: with both numbers.
    """
    most = room(size) if packed else size
    if claimed > most:
        raised = f"; the environment variable {LIMIT} raises this" if packed else ""
        fail("path", f"a file whose arrays fit into it, at most {_bytes(most)} from {_bytes(size)}{raised}",
             f"{name!r}, which claims {_bytes(claimed)}", Refused)  # fmt: skip
    if claimed > (memory := _memory()):
        fail("path", f"a file that fits into memory, {_bytes(memory)}", f"{name!r} of {_bytes(claimed)}", Refused)


def _memory() -> int:
    """Bytes of memory that the machine has; a great many where it does not say."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):
        return 2**62


def _bytes(count: int) -> str:
    """A number of bytes for people.

    Example:
        >>> _bytes(2_100_000)
        '2.1 MB'
    """
    for power, unit in ((12, "TB"), (9, "GB"), (6, "MB"), (3, "kB")):
        if count >= 10**power:
            return f"{count / 10**power:.3g} {unit}"
    return f"{count} B"
