"""Arrays of HDF5 files, MATLAB's 7.3 and NetCDF's 4 among them, read by windows.

HDF5's library can crash on damaged files, and so it stays in the child process that `ctmem.reading` keeps for it: the
child holds the file open, and hands over window after window. GDAL's drivers for these formats would run it in ours,
and are not used. A child ends with the process that asked for it, or when others are in use.

Source: this project.
"""

from __future__ import annotations

import atexit
import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from ctmem.checks import fail
from ctmem.raster.raster import Part
from ctmem.reading.border import Member, check_claim, room
from ctmem.reading.hdf5 import Child

Result = TypeVar("Result")
DEPTH = 8  # levels of groups
MOST_OPEN = 4  # files that are kept open
LONGEST = 300  # letters of another library's message
_lock = threading.RLock()
_open: OrderedDict[Any, Hdf5File] = OrderedDict()


class Hdf5File:
    """A file in a child process, and what it holds.

    Args:
        path: the file.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.size = path, path.stat().st_size
        self.child = Child(path, room(self.size), DEPTH)
        try:
            self.members = {member.name: member for member in reversed(self.child.members())}
        except BaseException:
            self.child.end()
            raise

    def part(self, name: str, cut: Sequence[tuple[int, int]]) -> np.ndarray:
        """A part of an array, (start, stop) along each of its axes as they are stored."""
        member = self.members[name]
        bytes_each = 1 if member.dtype is None else member.dtype.itemsize
        check_claim(name, int(np.prod([b - a for a, b in cut], dtype=object)) * bytes_each, self.size,
                    packed=member.place["packed"])  # fmt: skip
        return self.child.part(member, list(cut))

    def whole(self, name: str) -> np.ndarray:
        """All of a small array, as it is stored."""
        return self.part(name, [(0, side) for side in self.members[name].place["shape"]])


def hdf5_file(path: Path) -> Hdf5File:
    """The file, open in a child of this process; opened again where another one has taken its place."""
    at = path.stat()
    key = (os.getpid(), str(path.absolute()), at.st_mtime_ns, at.st_size, at.st_ino)
    if key not in _open:
        _open[key] = Hdf5File(path)
    _open.move_to_end(key)
    while len(_open) > MOST_OPEN:
        _, old = _open.popitem(last=False)
        old.child.end()
    return _open[key]


def asked(path: Path, ask: Callable[[Hdf5File], Result]) -> Result:
    """What `ask` returns of the open file, one thread at a time, or the one error for a damaged file.

    Raises:
        OSError: it may not be read.
        ValueError: it is damaged, or claims more than it can hold.
    """
    with _lock:
        try:
            return ask(hdf5_file(path))
        except OSError:
            raise
        except ValueError as error:
            _end(path)
            if str(error).startswith("`"):
                raise
            why = str(error).partition("\n")[0][:LONGEST]
            raise ValueError(f"`path` must be a readable HDF5 file, got {path.name} ({why})") from error


def _end(path: Path) -> None:
    """Ends the children that have a file open."""
    for key in [key for key in _open if key[1] == str(path.absolute())]:
        _open.pop(key).child.end()


@atexit.register
def _end_all() -> None:
    """Ends all children of this process."""
    for key in [key for key in _open if key[0] == os.getpid()]:
        _open.pop(key).child.end()


@dataclass(frozen=True)
class Hdf5Source:
    """Bands of an array of three axes.

    Args:
        path: the file.
        name: of the array in it.
        order: what its axes are as they are stored, "HWC" say.
        lead: axes of length 1 before these three.
    """

    path: Path
    name: str
    order: str
    lead: int = 0

    def read(self, part: Part, bands: Sequence[int]) -> np.ndarray:
        """The bands of a window as stored; of a few that lie far apart, each is read alone."""
        low, high = min(bands), max(bands) + 1
        if len(bands) > 1 and high - low > 4 * len(bands):
            return np.concatenate([self.read(part, [band]) for band in bands])
        spans = {"H": (part[0], part[0] + part[2]), "W": (part[1], part[1] + part[3]), "C": (low, high)}
        cut = [(0, 1)] * self.lead + [spans[letter] for letter in self.order]
        found = asked(self.path, lambda file: file.part(self.name, _closed(cut, file.members[self.name])))
        found = found.reshape([stop - start for start, stop in cut[self.lead :]])
        turned = found.transpose([self.order.index(letter) for letter in "CHW"])
        picked = [band - low for band in bands]
        return np.ascontiguousarray(turned if picked == list(range(high - low)) else turned[picked])

    def mask(self, part: Part) -> np.ndarray | None:  # noqa: ARG002  (as all sources have it)
        """It has none."""
        return None


def _closed(cut: list[tuple[int, int]], member: Member) -> list[tuple[int, int]]:
    """The part, and all of the axes of length 1 behind it."""
    rank = len(member.place["shape"])
    if rank < len(cut):
        fail("path", "a file whose array is still there", f"{member.name!r} of {rank} axes")
    return cut + [(0, 1)] * (rank - len(cut))
