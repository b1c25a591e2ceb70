"""The process that foreign HDF5 is opened in: it imports numpy and h5py alone, and knows nothing else of ctmem.

HDF5's library can crash and run without end on damaged files. Here this ends one child, with limits on memory and
time where the system has such. It is told a file by its arguments, says on its output what the file holds, reads from
its input which of it is wanted, one line for each wish, and hands that over piece by piece. Each message is its length,
8 bytes, and its content; a negative length comes before an error.

Only what lies in the file itself is looked at: hard links, no external storage, no virtual data sets; as many levels of
groups as its arguments say.

Source: this project.
"""

from __future__ import annotations

import itertools
import json
import math
import sys
from collections.abc import Iterator
from typing import Any

MOST = 1000  # links of a group, and attributes, that are looked at
PIECE = 2**24  # bytes that are handed over at once
SPARE = 2**29  # bytes beyond what the array needs
CACHE = 2**26  # bytes of unpacked pieces that HDF5 keeps, for windows side by side
LONGEST = 2**16  # letters of a text, and numbers of a list, that an attribute may have
NO_DATA = ("fillvalue", "missingvalue", "nodata", "nodatavalue", "dataignorevalue")  # attributes, in letters alone


def main(arguments: list[str]) -> None:
    """Tells of one file, and hands over what is wished of it."""
    path, room, seconds, depth, places = arguments
    sys.path[:] = json.loads(places)
    import h5py  # noqa: PLC0415  (found only now)

    limit(SPARE, float(seconds))
    try:
        with h5py.File(path, "r", locking=False, rdcc_nbytes=CACHE) as file:
            found = list(members(file, "", int(room), int(depth)))
            say(json.dumps([member for member, _ in found]).encode())
            items = {member["name"]: item for member, item in reversed(found) if member["size"]}
            for line in sys.stdin:
                name, cut, seconds = json.loads(line)
                if cut == "attributes":
                    limit(SPARE, float(seconds))
                    say(json.dumps(attributes(items.get(name, file))).encode())
                elif name in items:
                    size = math.prod(stop - start for start, stop in cut) * items[name].dtype.itemsize
                    limit(SPARE + CACHE + 4 * size, float(seconds))
                    hand_over(items[name], cut)
    except Exception as error:  # h5py raises a dozen kinds
        say((str(error) or type(error).__name__).encode(errors="replace"), -1)


def say(content: bytes | memoryview, sign: int = 1) -> None:
    """Writes a message."""
    sys.stdout.buffer.write((sign * len(content)).to_bytes(8, "little", signed=True))
    sys.stdout.buffer.write(content)
    sys.stdout.buffer.flush()


def limit(spare: int, seconds: float) -> None:
    """Allows this process so many bytes beyond those it has, and so many seconds of the processor."""
    try:
        import resource  # noqa: PLC0415  (not on Windows)
    except ImportError:
        return
    usage = resource.getrusage(resource.RUSAGE_SELF)
    used = usage.ru_utime + usage.ru_stime
    try:
        with open("/proc/self/statm", encoding="ascii") as file:  # noqa: PTH123  (imports nothing more)
            present = int(file.read().split()[0]) * resource.getpagesize()
    except OSError:
        present = 2**32
    for name, value in (("RLIMIT_AS", present + spare), ("RLIMIT_CPU", math.ceil(used + seconds)), ("RLIMIT_CORE", 0)):
        which = getattr(resource, name)
        hard = resource.getrlimit(which)[1]
        try:
            resource.setrlimit(which, (value if hard < 0 else min(value, hard), hard))
        except (OSError, ValueError):
            continue  # this system does not limit that


def members(group: Any, within: str, room: int, depth: int) -> Iterator[tuple[dict[str, Any], Any]]:
    """What a group holds, and, for so many levels, what the groups in it hold."""
    import h5py  # noqa: PLC0415

    for name in itertools.islice(group, MOST):
        full = f"{within}{name}"
        if not isinstance(group.get(name, getlink=True), h5py.HardLink):
            yield described(full, kind="a link elsewhere"), None
            continue
        if name.startswith("#"):  # what MATLAB's cells and objects are kept in
            continue
        item = group[name]
        if isinstance(item, h5py.Dataset):
            yield data_set(full, item, room), item
        elif isinstance(item, h5py.Group) and depth:
            yield from members(item, f"{full}.", room, depth - 1)
        else:
            yield described(full, kind="a group in a group" if within else "a type"), None


def described(name: str, kind: str = "", **more: Any) -> dict[str, Any]:
    """What is said of one thing in the file."""
    return {"name": name, "kind": kind, "shape": [], "dtype": "", "size": 0, "marked": False, "no_data": [], **more}


def data_set(name: str, item: Any, room: int) -> dict[str, Any]:
    """The same of a data set: shape, type and marks, or why it is not an array of numbers that can be had."""
    import h5py  # noqa: PLC0415

    words = {word: text(item, word) for word in ("MATLAB_class", "MATLAB_empty")}
    shape = list(item.shape or ())
    kind = {"logical": "truth values", "char": "text", "cell": "cell"}.get(words["MATLAB_class"], "")
    if item.dtype.kind not in "fiu":
        complex_numbers = item.dtype.kind == "c" or item.dtype.names == ("real", "imag")
        kind = kind or ("complex" if complex_numbers else "truth values" if item.dtype.kind == "b" else "no numbers")
    if item.shape is None or words["MATLAB_empty"]:
        kind = "empty"
    if kind:
        return described(name, kind, shape=shape)
    settings = item.id.get_create_plist()
    chunk = math.prod(item.chunks or (1,)) * item.dtype.itemsize
    filters = [settings.get_filter(number)[0] for number in range(settings.get_nfilters())]
    size = math.prod(shape) * item.dtype.itemsize
    if item.is_virtual or settings.get_external_count():
        kind = "kept in another file"
    elif not all(map(h5py.h5z.filter_avail, filters)):
        kind = f"packed by a filter that is not here, {filters}"
    elif chunk > room:
        kind = f"cut into pieces of {chunk} bytes"
    elif size <= room and not written(item, settings, size):
        kind = "not all there: parts of it were never written"
    return described(
        name, kind, shape=shape, dtype=item.dtype.str, size=size, packed=bool(filters) or item.chunks is not None,
        marked=bool(words["MATLAB_class"]), no_data=missing(item),
    )  # fmt: skip


def written(item: Any, settings: Any, size: int) -> bool:
    """Whether all of a data set was written; HDF5 makes zeros of the rest, unless it was told of another value."""
    import h5py  # noqa: PLC0415

    if size == 0 or settings.fill_value_defined() == h5py.h5d.FILL_VALUE_USER_DEFINED:
        return True
    if item.chunks is None:
        return item.id.get_storage_size() >= size
    pieces = math.prod(-(-side // piece) for side, piece in zip(item.shape, item.chunks))
    return item.id.get_num_chunks() >= pieces


def text(item: Any, name: str) -> str:
    """A short attribute as text; "" where there is none."""
    if name not in item.attrs:
        return ""
    found = item.attrs.get_id(name)
    if found.shape not in ((), (1,)) or found.dtype.itemsize > 64:
        return "something long"
    value = item.attrs[name]
    return value.decode("latin-1") if isinstance(value, bytes) else str(value)


def missing(item: Any) -> list[float]:
    """The values that attributes call missing."""
    found = []
    for name in itertools.islice(item.attrs, MOST):
        if "".join(filter(str.isalpha, name)).lower() in NO_DATA:
            about = item.attrs.get_id(name)
            if about.dtype.kind in "fiu" and about.shape in ((), (1,)):
                found.append(item.attrs[name].reshape(-1)[0].item())
    return found


def attributes(item: Any) -> dict[str, Any]:
    """The short attributes of a data set or of the file: texts, and lists of numbers."""
    found: dict[str, Any] = {}
    for name in itertools.islice(item.attrs, MOST):
        about = item.attrs.get_id(name)
        if math.prod(about.shape) > LONGEST or about.dtype.itemsize > LONGEST or about.dtype.kind not in "fiuSO":
            continue
        value = item.attrs[name]
        if isinstance(value, bytes | str):
            text = value if isinstance(value, str) else value.decode("utf-8", "replace")
            found[name] = text[:LONGEST]
        elif about.dtype.kind in "fiu":
            found[name] = value.reshape(-1).tolist()
    return found


def hand_over(item: Any, cut: list[list[int]]) -> None:
    """Writes a part of an array in this machine's order of bytes, some rows at a time."""
    native = item.dtype.newbyteorder("=")
    if not cut:
        say(memoryview(item[()].astype(native).reshape(-1).view("u1")))
        return
    (first, last), others = cut[0], tuple(slice(start, stop) for start, stop in cut[1:])
    row = max(1, math.prod(stop - start for start, stop in cut[1:]) * item.dtype.itemsize)
    step = max(1, PIECE // row)
    if item.chunks:
        step = -(-step // item.chunks[0]) * item.chunks[0]
    for start in range(first, last, step):
        rows = item[(slice(start, min(start + step, last)), *others)]
        say(memoryview(rows.astype(native, order="C", copy=False).reshape(-1).view("u1")))


if __name__ == "__main__":
    main(sys.argv[1:])
