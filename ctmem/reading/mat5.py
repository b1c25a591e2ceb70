"""MATLAB's files up to version 7.2: what they hold is listed from headers alone, and one array is decoded.

A file is a row of elements, each a type, a number of bytes and these; an array is an element made of elements: flags,
axes, name, numbers; a compressed one is such an element deflated. Of a struct the fields are listed too, one level
deep, as `s.data`. (SciPy's reader makes room for what a header claims before it looks at the file's size, and decodes
structs whole.)

Source: this project; format: MathWorks, "MAT-File Format", level 5.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO

import numpy as np

from ctmem.reading.border import Contents, Member, check_claim, room, size_of

HEADER = 128  # bytes
MATRIX, COMPRESSED = 14, 15
STORED = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}  # numbers on disk
CLASSES = {6: "f8", 7: "f4", 8: "i1", 9: "u1", 10: "i2", 11: "u2", 12: "i4", 13: "u4", 14: "i8", 15: "u8"}  # in MATLAB
OTHERS = {1: "cell", 2: "struct", 3: "object", 4: "text", 5: "sparse", 16: "function", 17: "object", 18: "object"}
STRUCT, OPAQUE = 2, 17
COMPLEX, LOGICAL = 0x800, 0x200
MOST = 1000  # arrays that are looked at
LONGEST = 2**16  # bytes of a name, of a list of axes or of all names of a struct's fields
PIECE = 2**20  # bytes that are inflated at once


class Stream:
    """The bytes of one element, in order: as they are in the file, or inflated."""

    def __init__(self, file: BinaryIO, size: int, order: str, *, packed: bool) -> None:
        self.file = file
        self.order = order
        self.left = size  # bytes of the element in the file that were not read yet
        self.most = room(size_of(file)) if packed else size  # bytes that may still come
        self.unpack = zlib.decompressobj() if packed else None

    def read(self, count: int) -> bytearray:
        """The next bytes.

        Raises:
            ValueError: there are not so many.
        """
        if count > self.most:
            raise ValueError(f"{count} bytes are claimed where {self.most} can be")
        check_claim("an array", count, size_of(self.file), packed=True)
        self.most -= count
        content = bytearray(count)
        found = memoryview(content)
        start = 0
        while start < count:
            piece = self._piece(count - start)
            if not piece:
                raise ValueError("it ends in the middle of an array")
            found[start : start + len(piece)] = piece
            start += len(piece)
        return content

    def _piece(self, count: int) -> bytes:
        """Some of the next bytes, `count` at most; none at the end."""
        count = min(count, PIECE)
        if self.unpack is None:
            return self._packed(count)
        piece = b""
        while not piece and not self.unpack.eof:
            packed = self.unpack.unconsumed_tail or self._packed(PIECE)
            piece = self.unpack.decompress(packed, count)
            if not packed and not piece:
                break
        return piece

    def _packed(self, count: int) -> bytes:
        """The next bytes as they are in the file."""
        piece = self.file.read(min(count, self.left))
        self.left -= len(piece)
        return piece

    def skip(self, count: int) -> None:
        """Passes over the next bytes."""
        while count > 0:
            count -= len(self.read(min(count, PIECE)))

    def finish(self) -> None:
        """Goes to the end of a compressed element, where its checksum is compared."""
        if self.unpack is not None:
            self.skip(self.most)
            if self._piece(PIECE).strip(b"\0") or not self.unpack.eof:
                raise ValueError("it does not end where it says")

    def element(self) -> tuple[int, int, bytearray]:
        """Type and number of bytes of the next element; and its bytes, where they stand inside its tag."""
        tag = self.read(8)
        kind, size = np.frombuffer(tag, f"{self.order}u4").tolist()
        return (kind & 0xFFFF, kind >> 16, tag[4:]) if kind >> 16 else (kind, size, bytearray())

    def content(self, most: int = LONGEST) -> bytearray:
        """The bytes of the next element, which must not have more than `most`."""
        _, size, inside = self.element()
        if size > (4 if inside else most):
            raise ValueError(f"{size} bytes are claimed where {most} can be")
        if inside:
            return inside[:size]
        found = self.read(size)
        self.skip(-size % 8)
        return found


@contextmanager
def open_mat5(file: BinaryIO) -> Iterator[Contents]:
    """The arrays of a file, those in structs by `struct.field`.

    Raises:
        ValueError: a damaged file, or an array that claims more than the file can hold.
    """
    members = [member for start in _elements(file) for member, _ in _visited(file, start)]

    def load(member: Member) -> np.ndarray:
        check_claim(member.name, member.size, size_of(file), packed=True)  # numbers may be stored shorter, too
        found = [array for other, array in _visited(file, member.place, member.name) if array is not None]
        return found[0]

    yield members[:MOST], load


def _order(file: BinaryIO) -> str:
    """The order of the bytes in a number, as the file's header says."""
    file.seek(HEADER - 2)
    return "<" if file.read(2) == b"IM" else ">"


def _elements(file: BinaryIO) -> list[int]:
    """Where the file's elements begin."""
    order = _order(file)
    size = size_of(file)
    starts: list[int] = []
    start = HEADER
    while start < size and len(starts) < MOST:
        starts.append(start)
        file.seek(start)
        tag = file.read(8)
        start += 8 + (int(np.frombuffer(tag, f"{order}u4")[1]) if len(tag) == 8 else 0)
        if start > size or len(tag) < 8:
            raise ValueError("it ends in the middle of an array")
    return starts


def _visited(file: BinaryIO, start: int, wanted: str = "") -> Iterator[tuple[Member, np.ndarray | None]]:
    """What the element that begins at `start` holds, and the array that is wanted, if it is among that."""
    order = _order(file)
    file.seek(start)
    kind, size = np.frombuffer(file.read(8), f"{order}u4").tolist()
    if kind not in (MATRIX, COMPRESSED):
        raise ValueError(f"an element of type {kind}")
    stream = Stream(file, size, order, packed=kind == COMPRESSED)
    if kind == COMPRESSED:
        kind, size, _ = stream.element()
        check_claim("an array", size, size_of(file), packed=True)
        if kind != MATRIX:
            raise ValueError(f"an element of type {kind}")
        stream.most = size
    for member, array in _matrix(stream, size, start, wanted):
        yield member, array
        if array is not None:
            stream.finish()
            return


def _matrix(
    stream: Stream, size: int, place: int, wanted: str, within: tuple[str, ...] = ()
) -> Iterator[tuple[Member, np.ndarray | None]]:
    """The same of a matrix of `size` bytes; `within`: the names of the struct and of the field it is in."""
    end = stream.most - size
    if end < 0:
        raise ValueError(f"{size} bytes are claimed where {stream.most} can be")
    if size == 0:  # an empty field
        yield Member(".".join(within), kind="empty"), None
        return
    # flags, axes, name
    flags = int(np.frombuffer(stream.content(8), f"{stream.order}u4")[0])
    kind = flags & 0xFF
    axes = [] if kind == OPAQUE else np.frombuffer(stream.content(), f"{stream.order}i4").tolist()
    own = stream.content().decode("latin-1")
    if min(axes, default=0) < 0 or len(axes) > 32:
        raise ValueError(f"an array of shape {axes}")
    member = _described(".".join(within) or own, tuple(axes), flags, place)
    # what is in it
    if kind == STRUCT and not within and math.prod(axes) == 1:
        for field in _fields(stream):
            inner, inner_size, _ = stream.element()
            if inner != MATRIX:
                raise ValueError(f"an element of type {inner} in a struct")
            yield from _matrix(stream, inner_size, place, wanted, (own, field))
        return
    if member.dtype is None or member.name != wanted:
        yield member, None
        if within:  # the next field follows
            stream.skip(stream.most - end)
    else:
        yield member, _decoded(stream, member)


def _described(name: str, shape: tuple[int, ...], flags: int, place: int) -> Member:
    """A matrix as its flags describe it."""
    kind = flags & 0xFF
    if flags & COMPLEX or flags & LOGICAL:
        return Member(name, shape, kind="complex" if flags & COMPLEX else "truth values")
    if kind not in CLASSES:
        return Member(name, shape, kind=OTHERS.get(kind, "something unknown"))
    return Member(name, shape, np.dtype(CLASSES[kind]), place=place)


def _fields(stream: Stream) -> list[str]:
    """The names of a struct's fields."""
    length = int(np.frombuffer(stream.content(8), f"{stream.order}i4")[0])
    names = bytes(stream.content())
    if length <= 0:
        raise ValueError(f"names of {length} letters")
    cut = (names[start : start + length] for start in range(0, len(names), length))
    return [name.partition(b"\0")[0].decode("latin-1") for name in cut]


def _decoded(stream: Stream, member: Member) -> np.ndarray:
    """The numbers of a matrix, which are stored in the smallest type that holds them."""
    kind, size, inside = stream.element()
    count = math.prod(member.shape)
    if kind not in STORED or size != count * np.dtype(STORED[kind]).itemsize:
        raise ValueError(f"{size} bytes of type {kind} for {member.name!r} of shape {member.shape}")
    numbers = np.frombuffer(inside[:size] if inside else stream.read(size), stream.order + STORED[kind])
    assert member.dtype is not None
    return numbers.astype(member.dtype, copy=False).reshape(member.shape, order="F")
