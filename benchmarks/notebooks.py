"""How long each notebook takes, where its time goes, and how much memory its kernel needs.

    python benchmarks/notebooks.py [NOTEBOOK …] [--rounds 1]

Executes each as it stands, from top to bottom in a fresh kernel, one after the other; about eight minutes for all.
Writes results/notebooks.md, which the runtimes in README and in the notebooks' openings are compared with.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import machine
import nbformat
from nbclient import NotebookClient

from ctmem.command import forgiving_output

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "notebooks"))

from build import KERNEL, workbook

LAST = "import resource\nused = resource.getrusage(resource.RUSAGE_SELF)\nprint(used.ru_utime + used.ru_stime, used.ru_maxrss / 1e6)"
READING = """\
`seconds`: from the kernel's start to the last cell's end; `CPU`: of all threads; `longest cell`: its number among all cells, and its
seconds; `GB`: the kernel's peak. Times depend on the machine, and on what else it does."""


@dataclass(frozen=True)
class Run:
    """What one run took."""

    seconds: float
    cpu: float
    gb: float
    longest: tuple[float, int]  # seconds, cell


def measure(path: Path) -> Run:
    """Executes a notebook in its folder, with a last cell that asks what was used."""
    notebook = nbformat.read(path, as_version=4)
    notebook.cells.append(nbformat.v4.new_code_cell(LAST))
    resources = {"metadata": {"path": str(path.parent)}}
    begin = time.perf_counter()
    NotebookClient(notebook, timeout=600, kernel_name=KERNEL["name"], resources=resources).execute(
        stderr=subprocess.DEVNULL
    )
    seconds = time.perf_counter() - begin
    cpu, gb = map(float, notebook.cells[-1].outputs[0].text.split())
    cells = [(_seconds(cell), n) for n, cell in enumerate(notebook.cells, 1) if cell.metadata.get("execution")]
    return Run(seconds, cpu, gb, max(cells))


def _seconds(cell: nbformat.NotebookNode) -> float:
    """Between the kernel's two messages about a cell."""
    begin, end = (
        datetime.fromisoformat(cell.metadata.execution[key]) for key in ("iopub.status.busy", "iopub.status.idle")
    )
    return (end - begin).total_seconds()


def main() -> None:
    """The command line."""
    forgiving_output()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("notebooks", type=Path, nargs="*", help="default: all, and only then the results are written")
    parser.add_argument("--rounds", type=int, default=1)
    chosen = parser.parse_args()
    rows = []
    for path in chosen.notebooks or workbook():
        runs = [measure(path) for _ in range(chosen.rounds)]
        middle = [statistics.median(getattr(run, name) for run in runs) for name in ("seconds", "cpu", "gb")]
        longest, cell = max(run.longest for run in runs)
        rows.append(f"| {path.stem} | {middle[0]:.0f} | {middle[1]:.0f} | {cell}: {longest:.1f} | {middle[2]:.2f} |")
        print(rows[-1], flush=True)
    if not chosen.notebooks:
        head = ["# Notebooks", machine.describe("numpy"), READING]
        table = ["| notebook | seconds | CPU seconds | longest cell | GB |", "|---|---|---|---|---|", *rows]
        text = "\n\n".join([*head, "\n".join(table)]) + "\n"
        (machine.RESULTS / "notebooks.md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
