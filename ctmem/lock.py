"""One writer at a time: a lock file with its owner's name.

    with locked("runs/mine"):
        …

The operating system holds the lock and gives it back when its owner ends, however it ends. Where a file system knows no
such locks, the file itself is one, and an owner on this machine that is no longer alive does not count.

Source: this project.
"""

from __future__ import annotations

import contextlib
import datetime
import errno
import json
import os
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from ctmem.checks import fail

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

FAR = 2**30  # the byte that Windows locks: none that is read
NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP)  # what a file system says that has none


@contextlib.contextmanager
def locked(folder: str | Path, name: str = ".lock", *, what: str = "folder") -> Iterator[None]:
    """Holds the lock file `name` in a folder, which is made if need be; it is gone afterwards.

    Args:
        folder: where.
        name: of the lock file.
        what: is locked, in the message.

    Raises:
        BlockingIOError: another process, or another thread of this one, holds it; says which, and since when.
        OSError: the lock file cannot be written.
    """
    path = Path(folder) / name
    path.parent.mkdir(parents=True, exist_ok=True)
    file = _taken(path, what)
    try:
        _write_owner(file)
        yield
    finally:
        # the name goes while the lock is held, so that nobody locks a file that is about to go; Windows wants it shut
        if sys.platform == "win32":
            file.close()
        with contextlib.suppress(OSError):
            path.unlink()
        file.close()


def _taken(path: Path, what: str) -> IO[str]:
    """The lock file, open and locked."""
    while True:
        try:
            file = path.open("a+", encoding="utf-8")
        except OSError as error:
            fail(what, "one whose lock can be written", f"{path}: {error.strerror}", type(error))
        try:
            free = _try_lock(file)
        except OSError as error:
            file.seek(0)
            owner = file.read()
            if error.errno not in NO_LOCKS:
                file.close()
                raise
            free = not owner or _is_dead(owner)
        if not free:
            file.seek(0)
            owner = file.read()
            file.close()
            fail(what, "one that no other process writes to", f"{path.parent}: {_in_words(owner)}", BlockingIOError)
        # it may have been taken away between its opening and its locking
        with contextlib.suppress(OSError):
            if os.path.samestat(os.fstat(file.fileno()), path.stat()):
                return file
        file.close()


def _try_lock(file: IO[str]) -> bool:
    """Whether the operating system's lock could be had."""
    try:
        if sys.platform == "win32":
            file.seek(FAR)
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EAGAIN, errno.EACCES, errno.EDEADLK):
            return False
        raise
    return True


def _write_owner(file: IO[str]) -> None:
    """Says in the lock file whose it is."""
    since = datetime.datetime.now().astimezone().isoformat(" ", "seconds")
    file.truncate(0)
    json.dump({"host": socket.gethostname(), "pid": os.getpid(), "since": since}, file)
    file.flush()


def _is_dead(owner: str) -> bool:
    """Whether the owner was a process of this machine that has ended."""
    try:
        known = json.loads(owner)
        host, pid = known["host"], int(known["pid"])
    except (KeyError, TypeError, ValueError):
        return False
    if sys.platform == "win32" or host != socket.gethostname():
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except OSError:
        return False
    return False


def _in_words(owner: str) -> str:
    """Who holds it."""
    try:
        known = json.loads(owner)
        return f"process {known['pid']} on {known['host']} has written to it since {known['since']}"
    except (KeyError, TypeError, ValueError):
        return "another process writes to it"
