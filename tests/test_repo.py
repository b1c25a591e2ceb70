"""The repository around the package: README, environment, pins, weights, and what must not stand in any file."""

from __future__ import annotations

import ast
import csv
import importlib.metadata
import itertools
import json
import pkgutil
import re
import socket
import subprocess
import sys
import tomllib
from pathlib import Path

import build
import nbformat
import numpy as np
import pytest
import scipy.io
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version
from pytest_socket import SocketBlockedError

import ctmem
from ctmem.data.scenes import synthetic
from tests.lower_bounds import lower_bounds

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = PROJECT["optional-dependencies"]
README = (ROOT / "README.md").read_text(encoding="utf-8")
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
BINARY = {".npz", ".png", ".webp", ".safetensors", ".jp2"}

needs_git = pytest.mark.skipif(not (ROOT / ".git").exists(), reason="the list of files comes from git")


def tracked() -> list[str]:
    """Paths of all files under version control that are there."""
    names = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, encoding="utf-8", check=True).stdout
    return [name for name in names.splitlines() if (ROOT / name).is_file()]


def tracked_text() -> dict[str, str]:
    """Text of each tracked file; of notebooks without their pictures."""
    names = [name for name in tracked() if Path(name).suffix not in BINARY]
    texts = {name: (ROOT / name).read_text(encoding="utf-8") for name in names}
    picture = re.compile(r'"image/\w+": "[^"]*"')
    return {name: picture.sub("", text) if name.endswith(".ipynb") else text for name, text in texts.items()}


def pins() -> dict[str, str]:
    """Name → version of constraints.txt."""
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pairs = [line.split("==") for line in lines if line and not line.startswith("#")]
    return {canonicalize_name(name): version for name, version in pairs}


def requirements(*extras: str) -> list[Requirement]:
    return [Requirement(line) for line in sum((EXTRAS[extra] for extra in extras), PROJECT["dependencies"])]


# --- README ---------------------------------------------------------------------------------------------------------


def tree() -> dict[str, str]:
    """The folders of README's tree, and what the tree says of each."""
    block = re.search(r"```text\n(.*?)```", README, re.DOTALL)[1]
    folders, above = {}, ""
    for line in block.splitlines():
        name, _, said = line.strip().partition(" ")
        above = above if line.startswith(" ") else name
        folders[above + name if line.startswith(" ") else name] = said.strip()
    return folders


@needs_git
def test_the_tree_of_the_readme_shows_every_folder_with_something_in_it():
    """The top level's, and those of the package; folders that begin with a dot are settings."""
    parts = [Path(name).parts for name in tracked()]
    top = {f"{path[0]}/" for path in parts if len(path) > 1 and not path[0].startswith(".")}
    rooms = {f"ctmem/{path[1]}/" for path in parts if path[0] == "ctmem" and len(path) > 2}
    assert set(tree()) == top | rooms
    assert [folder for folder, said in tree().items() if len(said) < 10] == []


def test_the_readme_names_every_module_beside_the_folders():
    beside = {path.name for path in (ROOT / "ctmem").glob("*.py")} - {"__init__.py"}
    assert {name for name in beside if f"`{name}`" not in README} == set()


def test_commands_of_the_documents_exist():
    targets = set(re.findall(r"^([a-z]+):.*## ", MAKEFILE, re.MULTILINE))
    assert targets == {
        "help",
        "setup",
        "run",
        "test",
        "lint",
        "lab",
        "dashboard",
        "train",
        "corpus",
        "refresh",
        "student",
        "reset",
        "site",
        "slides",
        "badges",
        "clean",
    }
    for name in ("README.md", "CONTRIBUTING.md", "data/README.md", ".ci/run"):
        text = (ROOT / name).read_text(encoding="utf-8")
        code = "\n".join(re.findall(r"`make ([^`]+)`", text) + re.findall(r"^\s*make (.+)$", text, re.MULTILINE))
        wanted = {re.sub(r"\w+=\S+\s*", "", line).split()[0] for line in code.splitlines()}
        assert wanted <= targets, f"{name} names a target that the Makefile has not"
    assert {"run", "test", "lab"} <= set(re.findall(r"make (\w+)", README))


def test_targets_are_described_and_phony():
    described = re.findall(r"^([a-z]+):.*## ", MAKEFILE, re.MULTILINE)
    assert re.search(r"^\.PHONY: (.+)$", MAKEFILE, re.MULTILINE)[1].split() == described


def test_the_readme_shows_every_notebook_with_its_runtime():
    assert len(build.workbook()) >= 9
    for path in build.workbook():
        rows = [line for line in README.splitlines() if f"(notebooks/{path.name})" in line and line.startswith("|")]
        assert len(rows) == 1, path.name
        assert re.search(r"\d+ s", rows[0]), f"{path.name}: no measured runtime"


@needs_git
def test_every_notebook_that_is_kept_is_of_the_workbook():
    kept = {name for name in tracked() if name.endswith(".ipynb")}
    assert kept == {path.relative_to(ROOT).as_posix() for path in build.workbook()}, "give it a row in README"


def test_the_snippet_of_the_readme_runs(tmp_path):
    snippet = re.search(r"```python\n(.*?)```", README, re.DOTALL)[1]
    scene = synthetic(0, height=12, width=20, bands=31)
    scipy.io.savemat(tmp_path / "my_scene.mat", {"cube": scene.cube})
    np.savetxt(tmp_path / "my_wavelengths.txt", scene.wavelengths_nm)
    (tmp_path / "snippet.py").write_text(snippet + "\nprint(tuple(pred.shape))\n", encoding="utf-8")
    ran = subprocess.run(
        [sys.executable, "snippet.py"], cwd=tmp_path, capture_output=True, encoding="utf-8", timeout=120
    )
    assert ran.stdout == "(1, 31, 48, 80)\n", ran.stderr


def names_of_the_package() -> set[str]:
    """Every identifier that the package has: names, attributes, arguments, and the keys of its tables."""
    found = set()
    for path in (ROOT / "ctmem").rglob("*.py"):
        found |= {path.stem, path.parent.name}
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            values = [getattr(node, field, None) for field in ("id", "attr", "arg", "name", "value")]
            found |= {value for value in values if isinstance(value, str) and value.isidentifier()}
    return found


def test_every_code_name_in_the_notation_exists():
    text, known = (ROOT / "docs" / "notation.md").read_text(encoding="utf-8"), names_of_the_package()
    spans = [span.removesuffix("=") for span in re.findall(r"`([^`]+)`", text)]
    dotted = [span for span in spans if re.fullmatch(r"[\w.]+", span)]
    assert len(dotted) > 60
    assert [span for span in dotted if not set(span.split(".")) <= known | {"ctmem"}] == []
    for span in dotted:
        if span.startswith("ctmem."):
            assert pkgutil.resolve_name(span) is not None


# --- what is installed ----------------------------------------------------------------------------------------------


def test_every_requirement_is_pinned_within_its_bounds():
    pinned = pins()
    for requirement in requirements("notebooks", "test", "dev", "site"):
        version = pinned.get(canonicalize_name(requirement.name))
        assert version, f"{requirement.name} is missing from constraints.txt"
        assert requirement.specifier.contains(version), f"{requirement} against {version}"


def test_pins_are_exact_and_without_local_suffix():
    for name, version in pins().items():
        assert Version(version).local is None, name
    assert pins()["torch"] == "2.13.0"


def test_what_is_installed_is_what_is_pinned():
    pinned = pins()
    waiting, seen = requirements("notebooks", "test", "dev"), set()
    while waiting:
        requirement = waiting.pop()
        name = canonicalize_name(requirement.name)
        if (name, frozenset(requirement.extras)) in seen:
            continue
        seen.add((name, frozenset(requirement.extras)))
        found = importlib.metadata.distribution(name)
        assert pinned.get(name) == Version(found.version).public, f"{name} {found.version}: see constraints.txt"
        for line in found.requires or []:
            needed = Requirement(line)
            if not needed.marker or any(needed.marker.evaluate({"extra": e}) for e in requirement.extras or {""}):
                waiting.append(needed)


def test_every_bound_has_its_reason():
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    for requirement in [
        *requirements("notebooks", "test", "dev", "site", "faiss", "xarray", "dask", "gpu"),
        f"requires-python = {PROJECT['requires-python']}",
    ]:
        wanted = re.split(r"[>=]", str(requirement))[0].strip()
        line = next(line for line in text.splitlines() if line.strip().startswith((wanted, f'"{wanted}>')))
        assert "#" in line, line


def test_the_gpu_extra_is_apart():
    gpu = {Requirement(line).name for line in EXTRAS["gpu"]}
    assert gpu == {"mamba-ssm", "causal-conv1d"}
    assert not gpu & {requirement.name for requirement in requirements("notebooks", "test", "dev")}


def test_environment_yml_says_what_pyproject_says():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
    assert environment["name"] == PROJECT["name"]
    python, pip, listed = environment["dependencies"]
    assert SpecifierSet(PROJECT["requires-python"]).contains(python.removeprefix("python="))
    assert pip == "pip"
    assert listed == {"pip": ["-c constraints.txt", "-e .[notebooks,test,dev]"]}
    assert "-c constraints.txt -e '.[notebooks,test,dev]'" in MAKEFILE


def test_citation_keeps_paper_and_software_apart():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert (citation["type"], citation["version"]) == ("software", PROJECT["version"])
    assert citation["license"] == PROJECT["license"]
    assert [(ref["type"], ref["year"]) for ref in citation["references"]] == [("article", 2025)]


def test_the_version_is_one():
    """The package, the project, the citation, and the section of the changelog that a tag would use."""
    assert ctmem.__version__ == PROJECT["version"]
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    released = re.findall(r"^## \[(\d\S*)\] - \d{4}-\d\d-\d\d$", changelog, re.MULTILINE)
    unreleased = re.search(r"^## \[Unreleased\]\n\nNext version: (\S+)\.$", changelog, re.MULTILINE)
    assert PROJECT["version"] in [*released, unreleased and unreleased[1]]


WORKFLOW = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8"))["jobs"]


def test_continuous_integration_runs_make_test():
    assert re.search(r"^make test$", (ROOT / ".ci" / "run").read_text(encoding="utf-8"), re.MULTILINE)
    assert {"run": "bash .ci/run"} in WORKFLOW["test"]["steps"]


def test_continuous_integration_begins_with_the_oldest_python_supported():
    versions = WORKFLOW["test"]["strategy"]["matrix"]["python-version"]
    assert PROJECT["requires-python"] == f">={versions[0]}"
    assert all(SpecifierSet(PROJECT["requires-python"]).contains(version) for version in versions)
    for job in ("coverage", "lower-bounds"):
        (python,) = [
            step for step in WORKFLOW[job]["steps"] if step.get("uses", "").startswith("actions/setup-python@")
        ]
        assert python["with"] == {"python-version": versions[0]}


def test_lower_bounds_are_the_oldest_releases_allowed():
    lines = lower_bounds(PROJECT, "notebooks", "test")
    assert len(lines) == len(set(lines))
    for requirement in requirements("notebooks", "test"):
        oldest = dict(line.split("==") for line in lines)[requirement.name]
        assert requirement.specifier.contains(oldest)
        assert {bound.version for bound in requirement.specifier} == {oldest}
    assert "numpy==2.0" in lines
    with pytest.raises(ValueError, match="`numpy<3` has no lower bound"):
        lower_bounds({"dependencies": ["numpy<3"]})


def test_lower_bounds_need_nothing_installed():
    command = [sys.executable, "-I", "-S", "tests/lower_bounds.py", "test"]
    printed = subprocess.run(command, cwd=ROOT, capture_output=True, encoding="utf-8", check=True).stdout
    assert printed.splitlines() == lower_bounds(PROJECT, "test")


def test_hooks_are_what_make_lint_runs():
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))["repos"]
    assert [repo["repo"] for repo in hooks] == ["local"]
    entries = [hook["entry"].removesuffix(" --force-exclude") for hook in hooks[0]["hooks"]]
    assert entries == re.findall(r"(?:-m |BIN\)/)((?:ruff|mypy|codespell).*)$", MAKEFILE, re.MULTILINE)
    assert {hook["language"] for hook in hooks[0]["hooks"]} == {"system"}


def test_every_rule_of_the_linters_has_its_reason():
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    lines = text[text.index("[tool.ruff.lint]") : text.index("[tool.coverage.run]")].splitlines()
    pairs = [pair for pair in itertools.pairwise(lines) if re.search(r'"[A-Z]+\d*"|= false|missing_imports', pair[1])]
    assert len(pairs) > 20
    assert [line for above, line in pairs if "#" not in line and not above.startswith("#")] == []


def test_the_licence_is_whole():
    text = (ROOT / "LICENSE").read_text(encoding="utf-8")
    assert "Version 2.0, January 2004" in text
    assert all(f"\n   {number}. " in text for number in range(1, 10))
    assert "END OF TERMS AND CONDITIONS" in text


# --- what must not stand in any file --------------------------------------------------------------------------------

HOSTS = ["pypi" + ".org", "python" + "hosted", "anaconda" + ".org", "npmjs" + ".", "debian" + ".org"]
FOLDERS = ["home", "root", "tmp", "work", "Users"]
PATHS = re.compile(r"(?<![\w.])/(?:" + "|".join(FOLDERS) + r")/\w")
UNFINISHED = re.compile(r"\b(?:TO" + "DO|FIX" + "ME|X" + "XX|not impl" + r"emented|NotImpl" + r"ementedError)\b")


@needs_git
def test_no_host_and_no_path_of_a_machine():
    for name, text in tracked_text().items():
        assert not [host for host in HOSTS if host in text], name
        assert not PATHS.search(text), name


@needs_git
def test_nothing_is_left_unfinished():
    assert [name for name, text in tracked_text().items() if UNFINISHED.search(text)] == []


def sources() -> list[tuple[str, str]]:
    """Name and text of all Python that is shipped: modules, scripts, solutions, cells of notebooks."""
    folders = ["ctmem", "data", "notebooks", "benchmarks"]
    found = [path for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))]
    found = [(path.relative_to(ROOT).as_posix(), path.read_text(encoding="utf-8")) for path in found]
    for path in build.workbook():
        cells = [cell.source for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]
        lines = "\n".join(cells).splitlines()
        found.append((path.name, "\n".join(line for line in lines if not line.lstrip().startswith(("%", "!")))))
    return found


def called(node: ast.Call) -> str:
    return ast.unparse(node.func)


def dangers(source: str) -> list[str]:
    """Calls that run text as code or unpickle, and imports of what pickles."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = {alias.name for alias in node.names} | {getattr(node, "module", "")}
            found += sorted(names & {"pickle", "dill", "joblib", "shelve", "marshal", "cloudpickle"})
        if isinstance(node, ast.Call):
            options = {word.arg: ast.unparse(word.value) for word in node.keywords}
            if called(node) in {"eval", "exec", "compile", "os.system", "os.popen", "torch.load", "torch.save"}:
                found.append(called(node))
            if options.get("shell", "False") != "False" or options.get("allow_pickle", "False") != "False":
                found.append(ast.unparse(node))
    return found


@pytest.mark.parametrize(("name", "source"), sources(), ids=[name for name, _ in sources()])
def test_no_text_is_run_and_nothing_unpickled(name, source):
    assert dangers(source) == []


def test_the_search_for_dangers_finds_them():
    bad = ["import pickle", "from joblib import load", "eval(s)", "np.load(f, allow_pickle=True)", "run(c, shell=True)"]
    good = ["model.eval()", "np.load(f, allow_pickle=False)", "run(c)", "import json"]
    assert [len(dangers(line)) for line in bad + good] == [1] * 5 + [0] * 4


def test_the_network_is_shut():
    with pytest.warns(UserWarning, match="tried to use socket"), pytest.raises(SocketBlockedError):
        socket.create_connection(("127.0.0.1", 9))


# --- data and weights -----------------------------------------------------------------------------------------------


def test_weights_are_small_safetensors_with_a_card():
    folder = ROOT / "data" / "weights"
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert {path.suffix for path in files} == {".safetensors", ".json"}
    assert sum(path.stat().st_size for path in files) <= 10_000_000
    for place in {path.parent for path in files}:
        assert sum(path.stat().st_size for path in place.iterdir()) <= 5_000_000
        card = json.loads((place / "card.json").read_text(encoding="utf-8"))
        assert {"data", "seed", "steps", "minutes", "versions", "metrics"} <= set(card)


@needs_git
def test_no_large_file():
    """Of weights, the test above says how large all of them may be."""
    names = [name for name in tracked() if not name.startswith("data/weights/")]
    assert [name for name in names if (ROOT / name).stat().st_size > 1_500_000] == []


@needs_git
def test_every_data_file_is_named_on_a_card():
    cards = (ROOT / "data" / "README.md").read_text(encoding="utf-8")
    names = [Path(name) for name in tracked() if name.startswith("data/") and name != "data/README.md"]
    assert [str(name) for name in names if name.name not in cards and "weights" not in name.parts] == []


def test_a_wheel_would_hold_all_shipped_data():
    patterns = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]
    shipped = [path for pattern in patterns["package-data"]["ctmem._data"] for path in (ROOT / "data").glob(pattern)]
    names = {path.relative_to(ROOT / "data").as_posix() for path in shipped}
    here = {path.relative_to(ROOT / "data").as_posix() for path in (ROOT / "data").rglob("*") if path.is_file()}
    assert {name for name in here if Path(name).suffix in {".csv", ".safetensors"}} <= names
    assert {"README.md", "sentinel2_farmland.npz"} <= names


# --- figures --------------------------------------------------------------------------------------------------------

METHODS_05 = {  # README's row: (the row of notebook 05, method and reference of the benchmark, before or after)
    "bicubic": ("bicubic", "bicubic", "none", "before"),
    "bicubic + back-projection, which needs no training": ("bicubic + back-projection", "bicubic", "none", "after"),
    "residual CNN of the same size and minutes + back-projection": ("CNN + back-projection", "cnn", "none", "after"),
    "ctmem without a reference": ("ctmem, no reference", "ctmem", "none", "after"),
    "ctmem, reference of the same sensor": ("ctmem, same-sensor reference", "ctmem", "own-sensor", "after"),
    "ctmem, Sentinel-2 reference": ("ctmem, Sentinel-2 reference", "ctmem", "other-sensor", "after"),
    "`prior`: learned from open imagery, one principal component at a time": ("prior", "prior", "none", "after"),
}


def readme_table() -> dict[str, tuple[float, float]]:
    """PSNR and SAM of README's table of methods."""
    block = README.split("| method | PSNR/dB | SAM/° |")[1].split("\n\n")[0]
    rows = [line.strip("| ").split(" | ") for line in block.splitlines()[2:]]
    return {name: (float(psnr.strip("*")), float(sam.strip("* |"))) for name, psnr, sam in rows}


def notebook_table() -> dict[str, tuple[float, float]]:
    """The same of notebook 05's last table, as it is stored."""
    cells = json.loads((ROOT / "notebooks" / "05_spectral_evaluation.ipynb").read_text(encoding="utf-8"))["cells"]
    texts = ["".join(out.get("text", "")) for cell in cells for out in cell.get("outputs", [])]
    lines = next(text for text in reversed(texts) if text.startswith("method ")).splitlines()[1:]
    rows = [re.split(r" {2,}", line) for line in lines]
    return {row[0]: (float(row[1]), float(row[2])) for row in rows}


def csv_table() -> dict[tuple[str, str, str], tuple[float, float]]:
    """The same of the reading of the test areas, the mean over seeds."""
    found: dict[tuple[str, str, str], list[tuple[float, float]]] = {}
    with (ROOT / "benchmarks" / "results" / "methods" / "embedded-test.csv").open(encoding="utf-8") as file:
        for row in csv.DictReader(file):
            if row["scene"] == "indian_pines" and row["psnr_db"]:
                key = row["method"], row["reference"], row["stage"]
                found.setdefault(key, []).append((float(row["psnr_db"]), float(row["sam_deg"])))
    return {key: tuple(sum(column) / len(column) for column in zip(*rows)) for key, rows in found.items()}


def test_readme_notebook_and_table_of_the_test_areas_agree():
    readme, notebook, table = readme_table(), notebook_table(), csv_table()
    assert readme.keys() == METHODS_05.keys()
    for name, (row, *key) in METHODS_05.items():
        assert readme[name] == pytest.approx(notebook[row], abs=0.0051), name
        assert readme[name] == pytest.approx(table[tuple(key)], abs=0.016), name
