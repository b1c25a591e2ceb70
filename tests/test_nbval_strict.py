"""conftest.py itself: notebooks that must fail do fail, each for its own reason, and what should pass passes."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
import xml.etree.ElementTree as xml
from pathlib import Path

import nbformat
import pytest
from nbformat import v4

ROOT = Path(__file__).resolve().parents[1]


def cell(source: str, printed: str | None = "", *tags: str) -> nbformat.NotebookNode:
    """A code cell with what it printed when it was run; `printed=None`: it never ran."""
    made = v4.new_code_cell(source, metadata={"tags": list(tags)} if tags else {})
    if printed is not None:
        made.execution_count = 1
    if printed:
        made.outputs = [v4.new_output("stream", name="stdout", text=printed)]
    return made


def result(source: str, html: str) -> nbformat.NotebookNode:
    """A code cell whose stored output is HTML."""
    made = cell(source)
    data = {"text/html": html, "text/plain": "<IPython.core.display.HTML object>"}
    made.outputs = [v4.new_output("display_data", data)]
    return made


SHOW = "from IPython.display import HTML, display; display(HTML('<td>{}</td>'))"
NOTEBOOKS = {
    "sound": [
        cell("x = 2.0004; print('x =', x)", "x = 2.0\n"),  # within the tolerance
        cell("print('3 of 4, 1e-3')", "3 of 4, 1.0005e-3\n"),
        cell("print('took 5 ms, then 3.2 s')", "took 17.5 ms, then 12 s\n"),
        cell("print(24.2)", "24.0\n", "rtol-1e-2"),
        cell("print('shown 2.5.')", "shown 2.5001.\n"),
        result(SHOW.format("2.0003"), "<td>2.0001</td>"),
        cell("import time; time.sleep(1.2); print('slept')", "slept\n", "timeout-30"),
        cell("", None),
        cell("import os; print(os.environ['CTMEM_QUIET'], os.environ['OMP_NUM_THREADS'])", "1 1\n"),
        cell("from ctmem.teaching import results_folder; print('ctmem-results' in str(results_folder()))", "True\n"),
    ],
    "never_run": [cell("print(1)", "1\n"), cell("print(2)", None)],
    "stripped": [cell("print(1)")],
    "wrong_float": [cell("print('24.93 dB')", "25.01 dB\n")],
    "wrong_integer": [cell("print('10001 px')", "10000 px\n")],
    "wrong_text": [cell("print('ok: sharper')", "ok: blurrier\n")],
    "wrong_html": [result(SHOW.format("2.1"), "<td>2.0</td>")],
    "one_number_more": [cell("print(1.0, 2.0)", "1.0\n")],
    "not_a_number": [cell("print(float('nan'))", "1.5\n")],
    "raises": [cell("1 / 0")],
    "killed": [cell("import os, signal; os.kill(os.getpid(), signal.SIGKILL)"), cell("print(1)", "1\n")],
    "slow": [cell("import time; time.sleep(60)", "", "timeout-1")],
    "claim": [cell("from ctmem.teaching import claim; claim('gain', 0.2, at_least=1)", "ok: gain (≥ 1)\n")],
}


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory) -> dict[str, list[str]]:
    """For every notebook the failure message of each cell ("" where it passed), from one run of pytest."""
    folder = tmp_path_factory.mktemp("strict")
    parts = ("conftest.py", "pyproject.toml", "README.md", "tests/nbval_sanitize.cfg")
    for name in (*parts, "notebooks/build.py", "notebooks/copies.py"):
        (folder / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, folder / name)
    (folder / "notebooks" / "scratch").mkdir()
    for place in ("mine.ipynb", "scratch/mine.ipynb"):  # a reader's own: not of the workbook, not run
        nbformat.write(v4.new_notebook(cells=[cell("1 / 0")]), folder / "notebooks" / place)
    for name, cells in NOTEBOOKS.items():
        nbformat.write(v4.new_notebook(cells=cells), folder / f"{name}.ipynb")
    report = folder / "report.xml"
    command = [sys.executable, "-m", "pytest", "--nbval", "-q", f"--junitxml={report}", "-p", "no:cacheprovider", "."]
    begin = time.monotonic()
    ran = subprocess.run(command, cwd=folder, capture_output=True, encoding="utf-8", timeout=170)
    assert ran.returncode == 1, ran.stdout + ran.stderr
    assert time.monotonic() - begin < 120, "a killed kernel or a slow cell was waited for"
    found: dict[str, list[str]] = {name: [] for name in NOTEBOOKS}
    for case in xml.parse(report).getroot().iter("testcase"):
        problems = [part.text or "" for kind in ("failure", "error") for part in case.iter(kind)]
        found[case.get("classname").rsplit(".", 1)[0].split(".")[-1]].append("\n".join(problems))
    return found


def test_a_sound_notebook_passes(outcomes):
    assert outcomes["sound"] == [""] * len(NOTEBOOKS["sound"])


def test_a_cell_that_was_never_run_fails(outcomes):
    first, second = outcomes["never_run"]
    assert first == ""
    assert "never run: nothing would be compared" in second


@pytest.mark.parametrize(
    "name",
    ["stripped", "wrong_float", "wrong_integer", "wrong_text", "wrong_html", "one_number_more", "not_a_number"],
)
def test_another_output_than_the_stored_one_fails(outcomes, name):
    assert len(outcomes[name]) == 1
    assert "Cell outputs differ" in outcomes[name][0]


def test_an_error_fails_with_its_traceback(outcomes):
    assert "ZeroDivisionError" in outcomes["raises"][0]


def test_a_false_claim_fails_with_the_value_seen(outcomes):
    assert "gain: expected ≥ 1, got 0.2" in outcomes["claim"][0]


def test_a_killed_kernel_fails_at_once(outcomes):
    first, second = outcomes["killed"]
    assert "the kernel died while it ran this cell" in first
    assert second, "cells after the kernel's death cannot pass"


def test_a_cell_that_is_too_slow_fails_at_its_own_limit(outcomes):
    assert "Timeout of 1 seconds exceeded" in outcomes["slow"][0]


def test_the_version_of_nbval_is_exact():
    assert '"nbval==' in (ROOT / "pyproject.toml").read_text(encoding="utf-8")
