"""Do the tests notice? Small faults are put into a copy of the package, one at a time, and its own tests are run on it.

    python benchmarks/mutants.py                        # all of them; writes benchmarks/results/mutants.md
    python benchmarks/mutants.py match diffusion/sub    # those of files whose path holds one of these; writes nothing

The faults stand in `mutations.py`, with the tests that should notice them. A *mutant* is **killed** if a test fails, and
**survives** if all pass: then a test is missing, or the mutant means the same as the original, and `EQUIVALENT` says
why. The copies lie in a temporary folder; this checkout is only read. Before the faults the tests run once on copies
without any: there they must pass. Every run is a process of its own, made of one that has imported torch and the rest.

`tests/test_mutants.py` checks that every fault can still be put in.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import functools
import gc
import importlib.util
import multiprocessing
import os
import shlex
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from queue import Queue

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # as a script, too

from benchmarks.machine import describe, table, write
from benchmarks.mutations import EQUIVALENT, MUTATIONS

COPIED = ("ctmem", "tests", "data", "notebooks", "benchmarks", "conftest.py", "pyproject.toml", "README.md")
LIMIT = 240.0  # seconds of one mutant's tests
AT_ONCE = 2
KILLED, SURVIVED, SLOW = "killed", "survived", "timed out"
PRELOADED = (  # what the tests and the package import: once, not once for each mutant
    "torch", "torch._dynamo", "torch.func", "accelerate", "scipy.ndimage", "scipy.stats", "numba", "skimage.metrics",
    "torchmetrics.functional.image", "torchmetrics.functional.regression", "hypothesis", "pytest", "nbval.plugin", "h5py", "diffusers",
)  # fmt: skip
PROCESSES = multiprocessing.get_context("forkserver")
OUTCOMES = {0: SURVIVED, 4: "no such test", 5: "no test chosen"}  # by the exit status of pytest; others: killed


@dataclass(frozen=True)
class Mutant:
    """One fault: the file, what is wrong, text and what stands in its place, and arguments of pytest."""

    file: str
    what: str
    old: str
    new: str
    tests: str

    @property
    def reason(self) -> str:
        """Why no test can notice it; empty where one should."""
        return EQUIVALENT.get((self.file, self.what), "")

    @property
    def command(self) -> list[str]:
        """The arguments of pytest."""
        return [f"tests/{one}.py" if one.startswith("test_") else one for one in shlex.split(self.tests)]


def mutants() -> list[Mutant]:
    """All of `mutations.py`."""
    return [Mutant(file, *entry) for file, entries in MUTATIONS.items() for entry in entries]


def mutated(source: str, mutant: Mutant) -> str:
    """The text of a file with the fault in it.

    Raises:
        ValueError: the fault does not fit the file any more, or says nothing new, or is not Python.
    """
    name = f"{mutant.file}: {mutant.what!r}"
    count = source.count(mutant.old)
    if count != 1:
        raise ValueError(f"{name} is stale: its text occurs {count} times: {mutant.old!r}")
    changed = source.replace(mutant.old, mutant.new)
    try:
        same = ast.dump(ast.parse(changed)) == _tree(source)
    except SyntaxError as error:
        raise ValueError(f"{name} is not Python: {error}") from error
    if same:
        raise ValueError(f"{name} changes nothing")
    return changed


@functools.cache
def _tree(source: str) -> str:
    """The syntax tree of a file, as text."""
    return ast.dump(ast.parse(source))


def stale(root: Path = ROOT) -> Iterator[str]:
    """What is wrong with the faults themselves, a line each."""
    for mutant in mutants():
        try:
            mutated((root / mutant.file).read_text(encoding="utf-8"), mutant)
        except (OSError, ValueError) as error:
            yield str(error)
        for argument in mutant.command:
            if argument.startswith("tests/") and not (root / argument).is_file():
                yield f"{mutant.file}: {mutant.what!r} names {argument}, which is not there"


def copy_to(folder: Path) -> Path:
    """A copy of the checkout, with what was compiled in it: times of files are kept, so that it still holds."""
    folder.mkdir()
    left = shutil.ignore_patterns("*.ipynb", ".*", "results")
    for name in COPIED:
        source = ROOT / name
        shutil.copytree(source, folder / name, ignore=left) if source.is_dir() else shutil.copy2(source, folder / name)
    return folder


def pytest_there(folder: str, arguments: list[str]) -> None:
    """Runs pytest in a copy, as all that a process does; its exit status is that of pytest."""
    with contextlib.suppress(OSError):
        os.nice(5)
    sys.path[:] = [
        folder,
        *(path for path in sys.path if path and Path(path).resolve() not in (ROOT, ROOT / "benchmarks")),
    ]
    os.environ |= {"PYTHONPATH": folder, "CTMEM_QUIET": "1"}
    sys.dont_write_bytecode = False  # the next run in this copy finds what did not change
    gc.freeze()  # what was imported before is not looked through again: that took longer than most tests
    os.chdir(folder)
    found = importlib.util.find_spec("ctmem")
    assert found is not None and str(found.origin).startswith(folder), f"ctmem comes from {found}"
    import pytest

    with Path(os.devnull).open("w", encoding="utf-8") as nowhere:
        os.dup2(nowhere.fileno(), 1)
        os.dup2(nowhere.fileno(), 2)
        os._exit(pytest.main(["-x", "-q", "-p", "no:cacheprovider", "--no-header", *arguments]))


def run_tests(folder: Path, arguments: list[str], limit: float) -> str:
    """What pytest says of a copy: killed, survived, timed out, or that nothing ran."""
    process = PROCESSES.Process(target=pytest_there, args=(str(folder), arguments))
    process.start()
    process.join(limit)
    if process.is_alive():
        process.kill()
        process.join()
        return SLOW
    return OUTCOMES.get(process.exitcode, KILLED)


def try_out(folder: Path, mutant: Mutant, number: int) -> str:
    """Puts a fault into a copy, runs its tests, and takes it out again."""
    path = folder / mutant.file
    source, before = path.read_text(encoding="utf-8"), path.stat().st_mtime
    try:
        path.write_text(mutated(source, mutant), encoding="utf-8")
        os.utime(path, (before + 2 * number + 2,) * 2)  # a time of its own, or Python takes the bytecode of another
        return run_tests(folder, mutant.command, LIMIT)
    except ValueError as error:
        print(error)
        return "stale"
    finally:
        path.write_text(source, encoding="utf-8")
        os.utime(path, (before, before))


def every_outcome(chosen: list[Mutant], folder: Path) -> list[str]:
    """The outcome of each mutant, `AT_ONCE` at a time, each in a copy of its own."""
    copies: Queue[Path] = Queue()
    for number in range(AT_ONCE):
        copies.put(copy_to(folder / f"copy{number}"))

    def one(number: int) -> str:
        copy = copies.get()
        start = time.perf_counter()
        outcome = try_out(copy, chosen[number], number)
        copies.put(copy)
        seconds = time.perf_counter() - start
        print(f"{outcome:9} {seconds:5.0f} s  {chosen[number].file}: {chosen[number].what}", flush=True)
        return outcome

    with ThreadPoolExecutor(AT_ONCE) as pool:
        return list(pool.map(one, range(len(chosen))))


def unmutated_fails(chosen: list[Mutant], folder: Path) -> list[str]:
    """Tests that do not pass on a copy without any fault: what they say of mutants means nothing."""
    copy = copy_to(folder / "whole")
    commands = sorted({mutant.tests: mutant.command for mutant in chosen}.items())
    with ThreadPoolExecutor(AT_ONCE) as pool:
        outcomes = pool.map(lambda pair: run_tests(copy, pair[1], 2 * LIMIT), commands)
        return [f"{name} ({outcome})" for (name, _), outcome in zip(commands, outcomes) if outcome != SURVIVED]


def report(chosen: list[Mutant], outcomes: list[str], minutes: float) -> str:
    """The Markdown text of a run."""
    counts = {name: outcomes.count(name) for name in dict.fromkeys([KILLED, SURVIVED, SLOW, *outcomes])}
    alive = [(m, outcome) for m, outcome in zip(chosen, outcomes) if outcome != KILLED]
    lines = [
        "# Do the tests notice?\n",
        describe("pytest") + f"; {minutes:.0f} minutes.\n",
        "What is counted stands at the top of `benchmarks/mutants.py`, the faults in `benchmarks/mutations.py`.\n",
        f"{len(chosen)} mutants of {len({m.file for m in chosen})} files: "
        + ", ".join(f"{count} {name}" for name, count in counts.items() if count)
        + ".\n",
    ]
    if alive:
        rows = [[f"`{m.file}`", m.what, outcome, m.reason or "**none**"] for m, outcome in alive]
        lines += ["## Not killed\n", table(["file", "what was wrong", "outcome", "reason"], rows) + "\n"]
    rows = [[f"`{m.file}`", m.what, f"`{m.tests}`", outcome] for m, outcome in zip(chosen, outcomes)]
    lines += ["## All\n", table(["file", "what was wrong", "tests", "outcome"], rows)]
    return "\n".join(lines)


def main() -> int:
    """Runs the mutants; 1 if one survives without a reason."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("only", nargs="*", help="parts of paths of files, or of what is wrong; default: all")
    options = parser.parse_args()
    chosen = [
        m for m in mutants() if not options.only or any(part in m.file or part in m.what for part in options.only)
    ]
    start = time.perf_counter()
    os.environ["OMP_NUM_THREADS"] = "1"
    PROCESSES.set_forkserver_preload([name for name in PRELOADED if importlib.util.find_spec(name)])
    with tempfile.TemporaryDirectory(prefix="ctmem-mutants-") as folder:
        failing = unmutated_fails(chosen, Path(folder))
        if failing:
            print(f"without any fault these do not pass: {'; '.join(failing)}")
            return 1
        outcomes = every_outcome(chosen, Path(folder))
    text = report(chosen, outcomes, (time.perf_counter() - start) / 60)
    if options.only:
        print(text)
    else:
        write("mutants", text)
    return int(any(outcome != KILLED and not m.reason for m, outcome in zip(chosen, outcomes)))


if __name__ == "__main__":
    sys.exit(main())
