"""Arrays of numpy: .npy files, and .npz archives of them, whose headers are read before any array is.

Source: this project; formats: numpy's, `numpy.lib.format`.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any, BinaryIO

import numpy as np
from numpy.lib import format as npy

from ctmem.reading.border import Contents, Member, check_claim, size_of

PLAIN = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # what numpy writes
MOST = 1000  # members of an archive that are looked at


@contextmanager
def open_npy(file: BinaryIO) -> Iterator[Contents]:
    """The one array of a .npy file; it is called `array`.

    Raises:
        ValueError: a damaged header, or an array that is larger than the file.
    """
    member = _member("array", file, size_of(file))
    if member.dtype is None:
        raise ValueError(f"it holds {member.kind}")

    def load(member: Member) -> np.ndarray:
        check_claim(member.name, member.size, size_of(file), packed=False)
        file.seek(0)
        return npy.read_array(file, allow_pickle=False)

    yield [member], load


@contextmanager
def open_npz(file: BinaryIO) -> Iterator[Contents]:
    """The arrays of a .npz archive.

    Raises:
        ValueError: a damaged archive or header, or an array that claims more than its member can hold.
    """
    with zipfile.ZipFile(file) as archive:
        infos = [info for info in archive.infolist()[:MOST] if not info.is_dir()]
        members = [_zipped(archive, info) for info in infos]

        def load(member: Member) -> np.ndarray:
            info = member.place
            check_claim(member.name, member.size, info.compress_size, packed=info.compress_type != zipfile.ZIP_STORED)
            with archive.open(info) as stream:
                array = npy.read_array(stream, allow_pickle=False)
                if stream.read(1):  # at its end the archive's checksum is compared
                    raise ValueError(f"{member.name!r} is longer than its header says")
            return array

        yield members, load


def _zipped(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Member:
    """What a member of an archive says of itself."""
    name = info.filename.removesuffix(".npy")
    if not info.filename.endswith(".npy") or info.compress_type not in PLAIN or info.flag_bits & 1:
        return Member(name, kind="not an array" if info.compress_type in PLAIN else "packed in an unknown way")
    with archive.open(info) as stream:
        return _member(name, stream, info.file_size, info)


def _member(name: str, stream: IO[bytes], size: int, place: Any = None) -> Member:
    """What the header of an array says, of whose file there are `size` bytes."""
    version = npy.read_magic(stream)
    read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    try:
        shape, _, dtype = read(stream)
    except (SyntaxError, TypeError, RecursionError, MemoryError) as error:  # numpy reads the header as a Python literal
        raise ValueError(f"the header of {name!r} is damaged") from error
    if dtype.hasobject:
        return Member(name, shape, kind="Python objects, which would have to be unpickled")
    if dtype.kind not in "fiu":
        return Member(name, shape, kind={"c": "complex", "b": "truth values"}.get(dtype.kind, "text or records"))
    member = Member(name, shape, dtype, place=place)
    if min(shape, default=0) < 0 or member.size > size:
        raise ValueError(f"{name!r} of shape {shape} claims {member.size} bytes, there are {size}")
    return member
