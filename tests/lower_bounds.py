"""Prints the oldest releases that pyproject.toml allows, one `name==version` a line, for pip install -r.

    python tests/lower_bounds.py notebooks test > lower_bounds.txt

The arguments are extras; the requirements of the package itself always come first. Standard library only, so that it
runs before anything is installed.
"""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path

BOUND = re.compile(r"([\w.-]+)\s*(?:>=|==)\s*([\w.]+)")


def lower_bounds(project: dict, *extras: str) -> list[str]:
    """Returns `name==version` for each requirement of the package and of these extras, each name once."""
    listed = [*project["dependencies"], *(line for extra in extras for line in project["optional-dependencies"][extra])]
    found = {}
    for line in listed:
        bound = BOUND.fullmatch(line)
        if not bound:
            raise ValueError(f"`{line}` has no lower bound of the form name>=version")
        found[bound[1]] = f"{bound[1]}=={bound[2]}"
    return list(found.values())


if __name__ == "__main__":
    text = (Path(__file__).resolve().parents[1] / "pyproject.toml").read_text(encoding="utf-8")
    print("\n".join(lower_bounds(tomllib.loads(text)["project"], *sys.argv[1:])))
