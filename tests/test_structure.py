"""The count of how the package hangs together, on a package of two rooms."""

from __future__ import annotations

import ast
import textwrap
from pathlib import Path

import pytest

from benchmarks import structure

ROOT = Path(__file__).resolve().parents[1]

FILES = {
    "__init__.py": "",
    "low.py": """
        def checked(x, name):
            return x

        class Box:
            def __init__(self, image):
                self.image = image

            def pack(self, x):
                return x
        """,
    "room/__init__.py": "",
    "room/one.py": """
        from ctmem.low import Box, checked  # a comment
        from .two import halve

        def begin(x, other):
            checked(x.shape, "x")
            half = halve(x)
            for part in x.to("cpu").split(1):
                Box(part)
            Box(other).pack(half)
        """,
    "room/two.py": """
        import ctmem.low as low

        def halve(x):
            def deep(rows):
                for row in rows:
                    if row:
                        with row:
                            pass
                    elif x:
                        pass
            return [low.checked(one, "one") for one in [x]]
        """,
}


@pytest.fixture
def modules(tmp_path):
    for name, text in FILES.items():
        path = tmp_path / "ctmem" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text), encoding="utf-8")
    return structure.read_package(tmp_path)


def test_arrows(modules):
    files = {("ctmem.room.one", "ctmem.low"), ("ctmem.room.one", "ctmem.room.two"), ("ctmem.room.two", "ctmem.low")}
    assert structure.arrows(modules) == files
    assert structure.between_rooms(files) == {("room", "low")}


def test_circles():
    assert structure.circles({("a", "b"), ("b", "c"), ("c", "a"), ("c", "d"), ("e", "a")}) == [["a", "b", "c"]]
    assert structure.circles({("a", "b"), ("b", "c")}) == []


def test_the_package_has_no_circle():
    pairs = structure.arrows(structure.read_package(ROOT))
    assert structure.circles(pairs) == []
    assert structure.circles(structure.between_rooms(pairs)) == []


def test_functions(modules):
    whole, inner = structure.functions(modules["ctmem.room.two"].tree)
    assert (structure.length(whole), structure.length(inner)) == (9, 7)
    assert (structure.depth(whole), structure.depth(inner)) == (0, 3)
    documented = ast.parse('def f():\n    """One.\n\n    Two.\n    """\n    return 1').body[0]
    assert structure.length(documented) == 2
    assert structure.comments(modules["ctmem.room.one"].path) == 1


def test_modules_that_take_a_name(modules):
    assert structure.taking(modules, "x") == {"ctmem.low", "ctmem.room.one", "ctmem.room.two"}
    assert structure.taking(modules, "image") == {"ctmem.low"}


def test_a_variable_is_followed(modules):
    assert structure.walk(modules, "begin", "x") == {"ctmem.room.one", "ctmem.room.two", "ctmem.low"}
    assert structure.walk(modules, "begin", "other") == {"ctmem.room.one", "ctmem.low"}
    assert structure.walk(modules, "begin", "half") == {"ctmem.room.one", "ctmem.low"}  # `pack` is a method of Box
    assert structure.walk(modules, "halve", "x") == {"ctmem.room.two", "ctmem.low"}  # through a list and its loop
    assert structure.walk(modules, "deep", "rows") == {"ctmem.room.two"}


@pytest.mark.parametrize(
    ("expression", "same"),
    [
        ("x", True),
        ("x[0]", True),
        ("x.to(device)", True),
        ("[1, x]", True),
        ("x if a else b", True),
        ("partial(f, x)", True),
        ("x.field", True),
        ("x.shape[0]", False),
        ("f(x)", False),
        ("x + 1", False),
        ("x.mean()", False),
    ],
)
def test_what_is_the_same_variable(expression, same):
    assert structure.carries(ast.parse(expression, mode="eval").body, {"x"}) is same


def test_a_table_has_a_column_for_each(modules):
    figures = structure.measure(modules)
    assert (figures["rooms"], figures["arrows between rooms"], figures["circles of files"]) == ("2", "1", "0")
    assert structure.table({"a": {"n": "1"}, "b": {"n": "2"}}) == "|  | a | b |\n| --- | --- | --- |\n| n | 1 | 2 |"
