"""Executes the notebooks: into results/ (`run`), or in place in one canonical form (`refresh`).

    python notebooks/build.py run                  # 00–05 in order, executed copies and HTML, then the table of methods
    python notebooks/build.py run --output FOLDER
    python notebooks/build.py refresh              # every notebook, in place; a second run changes no byte
    python notebooks/build.py refresh notebooks/02_degradation_kernel.ipynb

    python notebooks/build.py student              # copies without solutions into student/, for a class

The first two stop at the first cell that fails and say which one and why. Only one at a time works in a folder. Exit status: 0
done, 1 an error, 130 stopped from the keyboard (in one line each); a notebook is replaced whole or not at all.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

STOPPED = "\nstopped; every notebook is as it was, or new and whole\n"

if __name__ == "__main__":  # the imports below take seconds, and nothing is done yet

    def _stop(*_: object) -> None:
        os.write(2, STOPPED.encode())
        os._exit(130)

    def _report(kind: type[BaseException], error: BaseException, trace: object) -> None:
        if isinstance(error, OSError):  # where no file can be written some packages cannot even be imported
            print(f"error: {error}", file=sys.stderr)
        else:
            sys.__excepthook__(kind, error, trace)

    signal.signal(signal.SIGINT, _stop)
    sys.excepthook = _report

import nbformat
from copies import html_copy
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError
from nbformat.reader import NotJSONError

from ctmem.command import forgiving_output
from ctmem.evaluation.tables import format_table, read_table
from ctmem.files import write_text
from ctmem.lock import locked
from ctmem.teaching import STABLE_ENVIRONMENT

HERE = Path(__file__).parent
SPINE = (
    "00_start_here",
    "01_data_construction",
    "02_degradation_kernel",
    "03_diffusion_training",
    "04_patch_matching",
    "05_spectral_evaluation",
)
CELL_SECONDS = 600
WIDGET = "application/vnd.jupyter.widget-view+json"
KERNEL = {"name": "python3", "display_name": "Python 3 (ipykernel)", "language": "python"}
COLOURS = re.compile(r"\x1b\[[0-9;]*m")


def workbook() -> list[Path]:
    """The notebooks of the workbook: those in README's table. Others in this folder are a reader's own."""
    readme = (HERE.parent / "README.md").read_text(encoding="utf-8")
    return [HERE / name for name in dict.fromkeys(re.findall(r"\(notebooks/([\w.-]+\.ipynb)\)", readme))]


class CellFailure(Exception):
    """A cell that raised, ran too long or lost its kernel; the message says which and why."""


def execute(path: Path) -> nbformat.NotebookNode:
    """Returns the notebook at `path`, executed from top to bottom in a fresh kernel, in its canonical form.

    Raises:
        CellFailure: a cell failed; names the notebook, the cell's number and first lines, and the error.
    """
    notebook = nbformat.read(path, as_version=4)
    client = NotebookClient(
        notebook,
        timeout=CELL_SECONDS,
        kernel_name=KERNEL["name"],
        resources={"metadata": {"path": str(path.parent)}},
        extra_arguments=["--IPKernelApp.log_level=ERROR"],
        store_widget_state=False,
        coalesce_streams=True,
    )
    running = {"index": 0}

    def on_cell_execute(cell: object, cell_index: int) -> None:
        running["index"] = cell_index
        with contextlib.suppress(RuntimeError):  # Windows has none; nbclient's own handler loses its head
            asyncio.get_running_loop().add_signal_handler(signal.SIGINT, on_interrupt, asyncio.current_task())

    def on_interrupt(task: asyncio.Task[object]) -> None:
        running["stopped"] = True
        task.cancel()

    client.on_cell_execute = on_cell_execute
    try:
        client.execute(stderr=subprocess.DEVNULL)  # what a kernel says when it is stopped is nobody's business
    except CellExecutionError:
        reason = COLOURS.sub("", "\n".join(notebook.cells[running["index"]].outputs[-1].traceback))
        raise CellFailure(_where(path, notebook, running["index"]) + reason) from None
    except CellTimeoutError:
        reason = f"took longer than {CELL_SECONDS} s"
        raise CellFailure(_where(path, notebook, running["index"]) + reason) from None
    except (DeadKernelError, asyncio.CancelledError):  # nbclient takes the one for the other
        if running.get("stopped"):
            raise KeyboardInterrupt from None
        raise CellFailure(_where(path, notebook, running["index"]) + "the kernel died") from None
    return canonical(notebook)


def _where(path: Path, notebook: nbformat.NotebookNode, index: int) -> str:
    """The head of a failure's message: notebook, cell number (of all cells, from 1) and the cell's first lines."""
    lines = notebook.cells[index].source.splitlines()[:5]
    return f"{path.name}, cell {index + 1} failed:\n\n" + "".join(f"    {line}\n" for line in lines) + "\n"


def canonical(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """Returns the notebook without what differs between runs: cell ids, times, kernel details, widget models."""
    notebook.metadata = nbformat.from_dict({"kernelspec": KERNEL, "language_info": {"name": "python"}})
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    for number, cell in enumerate(notebook.cells):
        cell["id"] = f"cell-{number:03d}"
        tags = cell.metadata.get("tags")
        cell.metadata = nbformat.from_dict({"tags": tags} if tags else {})
        for output in cell.get("outputs", []):
            if "metadata" in output:
                output["metadata"] = {}
            output.get("data", {}).pop(WIDGET, None)
    nbformat.validate(notebook)
    return notebook


def text_of(notebook: nbformat.NotebookNode) -> str:
    """The notebook as it stands in a file."""
    return nbformat.writes(notebook) + "\n"


def refresh(paths: list[Path]) -> None:
    """Executes notebooks in place; one that fails is left as it was."""
    for path in paths:
        if not path.is_file():
            raise FileNotFoundError(f"{path}: no such notebook")
    with contextlib.ExitStack() as stack:
        for folder in sorted({path.resolve().parent for path in paths}):
            stack.enter_context(locked(folder))
        for path in paths:
            begin = time.perf_counter()
            write_text(text_of(execute(path)), path)
            print(f"{path.name}: {time.perf_counter() - begin:.0f} s", flush=True)


def run(output: Path) -> None:
    """Executes the spine into `output`, with an HTML copy of each, and prints the table of notebook 05."""
    missing = [name for name in SPINE if not (HERE / f"{name}.ipynb").is_file()]
    if missing:
        raise SystemExit(f"notebooks missing from {HERE.name}/: {', '.join(missing)}")
    with locked(output, what="output"):
        _run_into(output)


def _run_into(output: Path) -> None:
    """What `run` does in a folder that is its own."""
    leftovers = [output / f"{name}{ending}" for name in SPINE for ending in (".ipynb", ".html")]
    for old in [*leftovers, output / "comparison.csv"]:
        old.unlink(missing_ok=True)
    os.environ["CTMEM_RESULTS"] = str(output.resolve())
    for number, name in enumerate(SPINE, 1):
        print(f"[{number}/{len(SPINE)}] {name} …", end=" ", flush=True)
        begin = time.perf_counter()
        notebook = execute(HERE / f"{name}.ipynb")
        write_text(text_of(notebook), output / f"{name}.ipynb")
        write_text(html_copy(notebook, name), output / f"{name}.html")
        print(f"{time.perf_counter() - begin:.0f} s", flush=True)
    comparison = output / "comparison.csv"
    if not comparison.is_file():
        raise SystemExit(f"{SPINE[-1]} left no {comparison.name}")
    print(f"\nExecuted notebooks and HTML copies are in {output}. The comparison of notebook 05:\n")
    print(format_table(read_table(comparison)))


TOLD = re.compile(r" (Solutions are in `notebooks/solutions`|`%load` shows a solution)\.")
SOLVED = re.compile(r"[ \n]*(?:# )?Solution: %load solutions/\S+")


def student(output: Path) -> None:
    """Copies the workbook without its solutions; stored outputs stay, so that it can be read before it is run.

    Raises:
        FileExistsError: a notebook of that name is there, perhaps with somebody's answers in it.
    """
    paths = workbook()
    for path in paths:
        if (output / path.name).exists():
            raise FileExistsError(f"{output / path.name} is there already, perhaps with answers: name another --output")
    output.mkdir(parents=True, exist_ok=True)
    with locked(output, what="output"):
        for path in paths:
            notebook = nbformat.read(path, as_version=4)
            for cell in notebook.cells:
                if "exercise" in cell.metadata.get("tags", []):
                    cell.source = SOLVED.sub("", cell.source)
                elif cell.cell_type == "markdown":
                    cell.source = TOLD.sub("", cell.source)
            write_text(text_of(notebook), output / path.name)
    print(f"{len(paths)} notebooks without solutions are in {output}")


def main(arguments: list[str] | None = None) -> None:
    """The command line."""
    forgiving_output()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    runner = commands.add_parser("run", help="execute the spine notebooks into a folder")
    runner.add_argument("--output", type=Path, default=Path("results"))
    refresher = commands.add_parser("refresh", help="execute notebooks in place, in canonical form")
    refresher.add_argument("paths", type=Path, nargs="*", help="default: all of the workbook")
    copier = commands.add_parser("student", help="copy the notebooks without their solutions")
    copier.add_argument("--output", type=Path, default=Path("student"))
    chosen = parser.parse_args(arguments)
    os.environ.update(STABLE_ENVIRONMENT)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        if chosen.command == "run":
            run(chosen.output)
        elif chosen.command == "student":
            student(chosen.output)
        else:
            refresh(chosen.paths or workbook())
    except CellFailure as failure:
        sys.exit(f"\n{failure}")
    except KeyboardInterrupt:
        sys.stderr.write(STOPPED)
        sys.exit(130)
    except (OSError, RuntimeError, NotJSONError, nbformat.ValidationError) as error:
        sys.exit(f"\nerror: {' '.join(str(error).split())}")


if __name__ == "__main__":
    main()
