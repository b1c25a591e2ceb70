"""A cube from a file of other people: MATLAB's, HDF5's or numpy's, whatever it is called inside.

    read_array("field.mat")                       # the one 3-D array, also one level deep in a struct
    read_array("field.mat:HSI")                   # of several, the one called HSI; the same as key="HSI"
    read_array("field.h5", axes="CHW")            # stored as (bands, height, width)

Axes: MATLAB's and numpy's files have one order, and are read as (H, W, C) unless `axes` says otherwise. MATLAB writes
version 7.3 (HDF5) with its axes reversed and marks each array (`MATLAB_class`): these are turned back. HDF5 without
the mark was written by another program, and is read as stored. Where the number of bands is known, and exactly one
axis has that length, that axis is the bands, and a warning says so.

Source: this project.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import BinaryIO, TypeVar

import numpy as np

from ctmem.checks import fail, typed
from ctmem.reading.border import Contents, Member, Refused, opened
from ctmem.reading.hdf5 import open_hdf5
from ctmem.reading.mat5 import HEADER, open_mat5
from ctmem.reading.npy import open_npy, open_npz

Result = TypeVar("Result")

ENDINGS = (".mat", ".npy", ".npz", ".h5", ".hdf5", ".he5", ".nc")
HDF5 = b"\x89HDF\r\n\x1a\n"
SHOWN = 20  # arrays that a message names
LONGEST = 300  # letters of another library's message


@dataclass(frozen=True, eq=False)
class Found:
    """An array (H, W, C) as stored, and what its file says of missing values."""

    array: np.ndarray
    no_data: tuple[float, ...] = ()


@typed
def read_array(path: str | Path, *, key: str | None = None, axes: str | None = None) -> np.ndarray:
    """Returns the 3-D array (H, W, C) of a MATLAB, HDF5 or numpy file, its numbers as stored.

    Nothing is unpickled, and nothing decoded but this one array. Axes of length 1 beyond three are left out.

    Args:
        path: the file, .mat (versions 5 to 7.3), .npy, .npz, .h5, .hdf5, .he5 or
            .nc; `file.mat:HSI` names an array in it.
        key: name of the array, `s.data` for a field of a struct or a group; None where the file has one 3-D array.
        axes: the order in which they are stored, "HWC", "CHW" and so on; None: see above.

    Raises:
        FileNotFoundError: no such file.
        OSError: a file that may not be read.
        ValueError: another kind of file, one that cannot be read or claims more than it can hold, a key it does not
            have or that is not 3-D, no 3-D array, or several and no `key` (names those found), or impossible `axes`.
    """
    return find_array(path, key=key, axes=axes).array


@typed
def read_named(path: str | Path, names: Sequence[str]) -> dict[str, np.ndarray]:
    """Returns the arrays of these names, of any rank, as stored.

    Raises:
        OSError, ValueError: as `read_array`.
    """
    path = Path(path)
    with contents(path) as (members, load):
        there = {member.name: member for member in members if member.dtype is not None}
        for name in names:
            if name not in there:
                fail("path", f"a file with an array {name!r}", f"{path.name}, which holds {listed(members)}")
        return {name: _tried(path, partial(load, there[name])) for name in names}


def split_key(path: str | Path, *, of_folder: bool = False) -> tuple[Path, str | None]:
    """A path and the name of an array in it, where one stands behind a colon.

    Args:
        path: what was given; a file or folder whose own name has a colon is taken as it is.
        of_folder: it is a folder, not a file with one of the usual endings.

    Example:
        >>> split_key("field.mat:HSI")[1], split_key("field.mat")[1]
        ('HSI', None)
    """
    before, colon, key = str(path).rpartition(":")
    if not colon or not key or not (of_folder or Path(before).suffix.lower() in ENDINGS) or Path(path).exists():
        return Path(path), None
    if of_folder and not Path(before).is_dir():
        return Path(path), None
    return Path(before), key


@typed
def find_array(
    path: str | Path,
    *,
    key: str | None = None,
    axes: str | None = None,
    bands: int | None = None,
    usual: str | None = None,
) -> Found:
    """As `read_array`, for callers that know more.

    Args:
        path: the file.
        key: name of the array.
        axes: the order in which they are stored.
        bands: C, where known.
        usual: name that is taken where there are several 3-D arrays and no `key`.

    Raises:
        OSError, ValueError: as `read_array`.
    """
    path, named = split_key(path)
    if None not in (key, named) and key != named:
        fail("key", f"{named!r}, as `path` says, or None", repr(key))
    if axes is not None and (not isinstance(axes, str) or sorted(axes.upper()) != ["C", "H", "W"]):
        fail("axes", "'HWC', 'CHW' or another order of these letters", repr(axes))
    with contents(path) as (members, load):
        member = pick_member(members, key or named, usual)
        array = _tried(path, partial(load, member))
    return Found(_oriented(array, member, path, axes and axes.upper(), bands), member.no_data)


@contextmanager
def contents(path: Path) -> Iterator[Contents]:
    """What a file holds, and what decodes one of it."""
    with opened(path) as file, ExitStack() as stack:
        if path.suffix.lower() not in ENDINGS:
            fail("path", "a file ending in " + ", ".join(ENDINGS), path.name)
        yield _tried(path, lambda: stack.enter_context(_contents(file, path)))


def _tried(path: Path, read: Callable[[], Result]) -> Result:
    """What `read` returns, or the one error for whatever the decoders raise for a damaged file."""
    try:
        return read()
    except Refused:
        raise
    except Exception as error:  # a dozen kinds
        why = str(error).partition("\n")[0][:LONGEST] or type(error).__name__
        message = f"`path` must be a readable {path.suffix} file, got {path.name} ({why})"
        raise ValueError(message) from error


def _contents(file: BinaryIO, path: Path) -> AbstractContextManager[Contents]:
    """The reader for what the file is, by its first bytes and not by its name."""
    head = file.read(HEADER)
    file.seek(0)
    if head.startswith(b"\x93NUMPY"):
        return open_npy(file)
    if head.startswith(b"PK"):
        return open_npz(file)
    if _is_hdf5(file):
        return open_hdf5(file, path)
    if head[HEADER - 4 :] in (b"\x00\x01IM", b"\x01\x00MI"):
        return open_mat5(file)
    if head.startswith(b"\x1f\x8b"):
        raise ValueError("it is packed by gzip: unpack it first")
    raise ValueError("it does not begin as MATLAB's (5 to 7.3), HDF5's or numpy's do" if head else "it is empty")


def _is_hdf5(file: BinaryIO) -> bool:
    """Whether HDF5's signature stands at the beginning, or behind a header of 512, 1024, … bytes."""
    starts = [0, *(2**power for power in range(9, 21))]
    found = []
    for start in starts:
        file.seek(start)
        found.append(file.read(len(HDF5)))
    file.seek(0)
    return HDF5 in found


def pick_member(members: list[Member], key: str | None, usual: str | None) -> Member:
    """The array called `key`, or the only 3-D one, or of several the usual one."""
    cubes = {one.name: one for one in members if one.dtype is not None and len(cube_shape(one.shape)) == 3}
    if key is not None:
        key = key.replace("/", ".").strip(".") if key not in cubes else key
        if key not in cubes:
            fail("key", "the name of a 3-D array in the file", f"{key!r}; the file holds {listed(members)}")
        return cubes[key]
    if len(cubes) == 1:
        return next(iter(cubes.values()))
    if usual is not None and cubes:
        return pick_member(members, usual, None)
    return fail("key", "given unless the file holds exactly one 3-D array", f"None; the file holds {listed(members)}")


def listed(members: list[Member]) -> str:
    """Names and shapes of what a file holds."""
    told = [f"{one.name!r} {one.shape if one.dtype is not None else f'({one.kind})'}" for one in members[:SHOWN]]
    more = [f"{len(members) - SHOWN} more"] if len(members) > SHOWN else []
    return ", ".join(told + more) or "no array at all"


def cube_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape without the ones before and behind it that make it longer than three."""
    while len(shape) > 3 and 1 in (shape[0], shape[-1]):
        shape = shape[1:] if shape[0] == 1 else shape[:-1]
    return shape


def _oriented(array: np.ndarray, member: Member, path: Path, axes: str | None, bands: int | None) -> np.ndarray:
    """The array as (H, W, C), see the head of this module."""
    array = array.reshape(cube_shape(array.shape), order="A")
    if axes is not None:
        return array.transpose([axes.index(letter) for letter in "HWC"])
    fitting = [axis for axis, side in enumerate(array.shape) if side == bands]
    if len(fitting) == 1 and fitting != [2]:
        order = "CHW" if fitting == [0] else "HCW"
        warnings.warn(
            f"{path.name}: {member.name!r} of shape {array.shape} is read as {order}, since that axis alone has the "
            f"length of the wavelengths, {bands}; axes={order!r} says so without a warning",
            RuntimeWarning,
            stacklevel=4,
        )
        return np.moveaxis(array, fitting[0], 2)
    if not member.marked and path.suffix.lower() == ".mat" and len(fitting) != 1:
        warnings.warn(
            f"{path.name}: {member.name!r} of shape {array.shape} has no mark of MATLAB, and is read as stored, HWC; "
            "`axes` says otherwise",
            RuntimeWarning,
            stacklevel=4,
        )
    return array
