"""Puts the notebooks back as they are stored, after a class.

    python notebooks/reset.py                  # as the last commit has them
    python notebooks/reset.py --from FOLDER    # as they lie in another copy of the project: for copies without git
    python notebooks/reset.py --results        # and forgets what the checker has kept of exercises

Nothing is lost: a notebook that was changed is moved to notebooks/scratch/reset-1 (or -2, …) first and named, with the
exercises that are answered in it; so is the file of results. Exit status: 0 done, 1 an error.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import build
import nbformat

from ctmem.course.exercise import FILE
from ctmem.files import write_text
from ctmem.lock import locked


def stored(name: str, folder: Path | None) -> str:
    """The text of a notebook as it is stored: in a folder, or else in the last commit.

    Raises:
        FileNotFoundError: no such file there; no git, or no commit that has it.
    """
    if folder is not None:
        return (folder / name).read_text(encoding="utf-8")
    command = ["git", "show", f"HEAD:./{name}"]
    try:
        return subprocess.run(command, cwd=build.HERE, capture_output=True, encoding="utf-8", check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        raise FileNotFoundError(
            f"{name} is in no commit here: name a folder that has the notebooks as they were, --from FOLDER"
        ) from None


def answered(now: str, before: str) -> list[str]:
    """Names of the exercises whose cell is not what it was, "Exercise 1"."""

    def stubs(text: str) -> list[str]:
        cells = nbformat.reads(text, as_version=4).cells
        return [cell.source for cell in cells if "exercise" in cell.metadata.get("tags", [])]

    changed = [cell for cell in stubs(now) if cell not in stubs(before)]
    return [found[0] if (found := re.search(r"Exercise \d+", cell)) else "an exercise" for cell in changed]


def aside() -> Path:
    """A new folder for what is moved out of the way."""
    number = 1
    while (folder := build.HERE / "scratch" / f"reset-{number}").exists():
        number += 1
    return folder


def reset(folder: Path | None, *, results: bool = False) -> list[str]:
    """Puts all notebooks back; returns a line on each that was changed."""
    paths = build.workbook()
    texts = {path: stored(path.name, folder) for path in paths}  # all of them, before anything is moved
    kept, said = aside(), []
    for path, before in texts.items():
        now = path.read_text(encoding="utf-8") if path.is_file() else before
        if now != before:
            kept.mkdir(parents=True, exist_ok=True)
            shutil.copy2(path, kept / path.name)
            said.append(", ".join([f"{path.name}: was changed, is kept as {kept / path.name}", *_answers(now, before)]))
        if now != before or not path.is_file():
            write_text(before, path)
    mine = Path(os.environ.get("CTMEM_RESULTS", build.HERE.parent / "results")) / FILE
    if results and mine.is_file():
        kept.mkdir(parents=True, exist_ok=True)
        said.append(f"{FILE}: is kept as {shutil.move(mine, kept / FILE)}")
    return said


def _answers(now: str, before: str) -> list[str]:
    """`answered` of what may be no notebook any more."""
    try:
        return answered(now, before)
    except (nbformat.reader.NotJSONError, nbformat.ValidationError, AttributeError):
        return ["no longer a notebook"]


def main(arguments: list[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--from", dest="folder", type=Path, help="default: the last commit")
    parser.add_argument("--results", action="store_true", help="forget what the checker has kept of exercises, too")
    chosen = parser.parse_args(arguments)
    try:
        with locked(build.HERE):
            said = reset(chosen.folder, results=chosen.results)
    except (OSError, RuntimeError) as error:
        sys.exit(f"error: {error}")
    print("\n".join([*said, f"{len(build.workbook())} notebooks are as they are stored"]))


if __name__ == "__main__":
    main()
