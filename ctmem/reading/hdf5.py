"""HDF5, and with it MATLAB's files of version 7.3: opened by a child process, whose end is not ours.

Source: this project.
"""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np

from ctmem.reading.border import Contents, Member, check_claim, room, size_of

CHILD = Path(__file__).with_name("hdf5_child.py")
SECONDS = 4.0  # of the processor, to say what is in a file
PER_BYTE = 1e-7  # and for each byte of an array
PATIENCE = 15  # times as long may pass on the clock, where others have the processor
ALONE = {"HDF5_PLUGIN_PRELOAD": "::", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


@contextmanager
def open_hdf5(file: BinaryIO, path: Path) -> Iterator[Contents]:
    """The data sets of a file and, as `group.name`, those of its groups; axes as MATLAB counts them where it wrote it.

    Raises:
        ValueError: a damaged file, one that crashes HDF5 or keeps it busy for too long, or an array that claims more
            than the file can hold.
    """
    size = size_of(file)
    child = Child(path, room(size))

    def load(member: Member) -> np.ndarray:
        check_claim(member.name, member.size, size, packed=member.place["packed"])
        return child.array(member)

    try:
        yield child.members(), load
    finally:
        child.end()


class Child:
    """A process that has a file open, see `hdf5_child`.

    Args:
        path: the file.
        most: bytes that one piece of an array in it may have.
        depth: levels of groups that are looked at.
    """

    def __init__(self, path: Path, most: int, depth: int = 1) -> None:
        places = json.dumps([place for place in sys.path if place])
        told = [str(path.absolute()), str(most), str(SECONDS), str(depth), places]
        command = [sys.executable, "-I", "-S", str(CHILD), *told]
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(
            command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, env=os.environ | ALONE
        )
        assert self.process.stdout is not None
        self.output = cast(io.BufferedReader, self.process.stdout)
        self.timer = self._timer(SECONDS)

    def _timer(self, seconds: float) -> threading.Timer:
        """What ends the process when its time has passed."""
        timer = threading.Timer(PATIENCE * seconds, self.process.kill)
        timer.daemon = True
        timer.start()
        return timer

    def members(self) -> list[Member]:
        """What the file holds: the first that the process says.

        Raises:
            ValueError: as `message`.
        """
        found = [_member(one) for one in json.loads(self.message())]
        self.timer.cancel()
        return found

    def message(self) -> bytes:
        """What the process says next.

        Raises:
            ValueError: it says what is wrong, or nothing more.
        """
        return self.output.read(self._length())

    def _length(self) -> int:
        """How many bytes come next."""
        length = int.from_bytes(self.output.read(8), "little", signed=True)
        if length < 0:
            raise ValueError(self.output.read(-length).decode(errors="replace").partition("\n")[0])
        if length == 0:
            raise ValueError(_fate(self.process.wait()))
        return length

    def array(self, member: Member) -> np.ndarray:
        """One of the file's arrays.

        Raises:
            ValueError: as `message`.
        """
        shape = member.shape[::-1] if member.marked else member.shape
        array = self.part(member, [(0, side) for side in shape])
        return array.T if member.marked else array

    def attributes(self, name: str = "") -> dict[str, Any]:
        """The short attributes of an array, or of the file: texts, and lists of numbers.

        Raises:
            ValueError: as `message`.
        """
        self._ask(name, "attributes", SECONDS)
        found = json.loads(self.message())
        self.timer.cancel()
        return dict(found)

    def _ask(self, name: str, wish: Any, seconds: float) -> None:
        """Says what is wanted, and from when on it takes too long."""
        assert self.process.stdin is not None
        self.timer.cancel()
        self.timer = self._timer(seconds)
        try:
            self.process.stdin.write(json.dumps([name, wish, str(seconds)]).encode() + b"\n")
            self.process.stdin.flush()
        except OSError as error:
            raise ValueError(_fate(self.process.wait())) from error

    def part(self, member: Member, cut: list[tuple[int, int]]) -> np.ndarray:
        """A part of one of the file's arrays, (start, stop) along each of its axes as they are stored.

        Raises:
            ValueError: as `message`.
        """
        assert member.dtype is not None
        array = np.empty([stop - start for start, stop in cut], member.dtype)
        if array.size:
            self._ask(member.name, cut, SECONDS + PER_BYTE * array.nbytes)
        flat = array.reshape(-1).view("u1")
        start = 0
        while start < flat.size:
            length = self._length()
            if self.output.readinto(flat[start : start + length].data) != length:
                raise ValueError("what came of an array is not of its size")
            start += length
        self.timer.cancel()
        return array

    def end(self) -> None:
        """Ends the process."""
        self.timer.cancel()
        self.process.kill()
        self.process.communicate()


def _fate(code: int) -> str:
    """Why a process has ended."""
    if code in (-int(getattr(signal, "SIGXCPU", 0)), -int(getattr(signal, "SIGKILL", 0))) and code:
        return "HDF5 took too long over it"
    return "HDF5 crashed on it" if code < 0 else f"HDF5's process ended with {code}"


def _member(told: dict[str, Any]) -> Member:
    """What the process says of one thing in the file; MATLAB writes its axes in reverse."""
    shape = tuple(told["shape"][::-1] if told["marked"] else told["shape"])
    dtype = np.dtype(told["dtype"]).newbyteorder("=") if told["dtype"] and not told["kind"] else None
    return Member(told["name"], shape, dtype, told["kind"], told["marked"], tuple(told["no_data"]), told)
