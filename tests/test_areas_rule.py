"""Test areas are read by the benchmark command alone, and what else may look at them stands here with its reason."""

from __future__ import annotations

import ast
from pathlib import Path

import build
import nbformat
import pytest

ROOT = Path(__file__).resolve().parents[1]
COMMAND = "ctmem/benchmark/__main__.py"  # and the suites, which it hands the name of the area
ALLOWED = {
    COMMAND: "the reading that is made once per release",
    "ctmem/benchmark/report.py": "writes into the first line that test areas were read",
    "ctmem/data/areas.py": "makes the areas; its docstring shows one",
    "benchmarks/camera.py": "shows validation and test beside each other; from before this rule",
    "benchmarks/kernel.py": "shows how far a learned blur errs on ground that is new to it; from before this rule",
    "benchmarks/library.py": "leaves the test area out",
    "benchmarks/matching.py": "leaves the test area out of its means",
    "benchmarks/sampling.py": "curves of the steps of samplers; from before this rule",
    "docs/make_overview.py": "one picture of the method, no figure that is claimed",
    "00_start_here.ipynb": "one image that nothing was trained on, to look at",
    "01_data_construction.ipynb": "shows that what happens in the test area changes no other",
    "02_degradation_kernel.ipynb": "the blur on ground that is new to it",
    "04_patch_matching.ipynb": "one image that nothing was trained on, to look at",
    "05_spectral_evaluation.ipynb": "the metrics on one image that nothing was trained on",
    "08_sampling.ipynb": "one image that nothing was trained on, to look at",
}


def asks_for_test_areas(source: str) -> bool:
    """Whether the code has the string "test" on its own, or a docstring's example takes that area."""
    nodes = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Constant)]
    return any(node.value == "test" or (isinstance(node.value, str) and '["test"]' in node.value) for node in nodes)


def sources() -> dict[str, str]:
    """Modules, benchmarks, scripts and the cells of notebooks, solutions too."""
    folders = ("ctmem", "benchmarks", "data", "docs", "notebooks/solutions")
    paths = [path for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))]
    found = {path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8") for path in paths}
    for path in build.workbook():
        cells = [cell.source for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]
        lines = "\n".join(cells).splitlines()
        found[path.name] = "\n".join(line for line in lines if not line.lstrip().startswith(("%", "!")))
    return found


def test_nothing_but_the_benchmark_command_reads_test_areas():
    asking = {name for name, text in sources().items() if asks_for_test_areas(text)}
    assert asking - ALLOWED.keys() == set(), "use the validation area, or enter it above with a reason"
    assert COMMAND in asking


def test_the_list_has_no_entry_that_is_not_needed():
    asking = {name for name, text in sources().items() if asks_for_test_areas(text)}
    assert ALLOWED.keys() - asking == set()
    assert [name for name, reason in ALLOWED.items() if len(reason) < 20] == []


@pytest.mark.parametrize(
    ("source", "asks"),
    [
        ('areas["test"]', True),
        ("for name in ('validation', 'test'): areas[name]", True),
        ('def f():\n    """>>> split_areas(9, 9, camera)["test"]"""', True),
        ('"tested on a test area"', False),
        ("test = areas['validation']", False),
    ],
)
def test_the_search_finds_what_asks(source, asks):
    assert asks_for_test_areas(source) == asks
