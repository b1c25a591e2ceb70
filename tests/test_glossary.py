"""The glossary: what it names exists, and stands where it says."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import nbformat
import pytest

DOCS = Path(__file__).resolve().parents[1] / "docs"
TERMS = [[cell.strip() for cell in line[1:-1].split("|")] for line in
         (DOCS / "glossary.md").read_text(encoding="utf-8").splitlines() if "`ctmem." in line]  # fmt: skip


def module_of(parts):
    """The longest beginning of a dotted name that is a module."""
    for length in range(len(parts), 0, -1):
        try:
            return importlib.import_module(".".join(parts[:length]))
        except ModuleNotFoundError:
            continue
    raise AssertionError(parts)


@pytest.mark.parametrize(("term", "letter", "name", "notebook", "meaning"), TERMS, ids=[row[0] for row in TERMS])
def test_a_term(term, letter, name, notebook, meaning):
    """Its code can be imported, its notebook says the word, its letter is in the notation, and it is explained."""
    parts = name.strip("`").split(".")
    found = module_of(parts)
    for part in parts[len(found.__name__.split(".")) :]:
        annotated = part in getattr(found, "__annotations__", {})
        assert annotated or hasattr(found, part), f"{name}: no {part}"
        found = getattr(found, part, None)
    assert len(meaning.split()) >= 5
    notation = (DOCS / "notation.md").read_text(encoding="utf-8")
    assert all(one in notation for one in letter.split(", ") if one)
    if notebook:
        path = DOCS / re.search(r"\((.*)\)", notebook)[1]
        text = " ".join(cell.source for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "markdown")
        assert term.lower() in text.lower() or term.lower() + "s" in text.lower(), f"{path.name} does not say {term!r}"


def test_terms_are_unique():
    names = [row[0] for row in TERMS]
    assert len(set(names)) == len(names) >= 30
