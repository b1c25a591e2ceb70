"""Test set-up: notebooks run as they were stored, and nbval made strict.

As it comes, nbval passes a notebook that was never run, waits out the whole cell timeout on a dead kernel, and compares
floats digit by digit. Here a cell that was never run fails, a dead kernel fails within a second or two, and floats
compare with the relative tolerance `nbval_rtol` of pyproject.toml, integers and text exactly. Two cell tags adjust one
cell: `timeout-300` (seconds) and `rtol-1e-2`. tests/test_nbval_strict.py tests this file.
"""

from __future__ import annotations

import math
import os
import re
import tempfile
import time
from pathlib import Path
from queue import Empty

import build
import nbval.kernel
import nbval.plugin
import pytest
from nbval.plugin import IPyNbCell

from ctmem.teaching import STABLE_ENVIRONMENT

os.environ.update(STABLE_ENVIRONMENT)  # before any kernel starts and before torch is imported

HERE = Path(__file__).parent
collect_ignore_glob = ["notebooks/*.py", "notebooks/solutions/*", "data/*", "benchmarks/*"]
NUMBER = re.compile(r"(?<![\w.])[-+]?(?:\d+\.\d*|\.\d+|\d+)(?:[eE][-+]?\d+)?(?!\w|\.\d)")
POLL_SECONDS = 1.0


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addini("nbval_rtol", "relative tolerance of floats in notebook outputs", default="0")


def pytest_configure(config: pytest.Config) -> None:
    if config.option.nbval_sanitize_with is None:
        config.option.nbval_sanitize_with = str(HERE / "tests" / "nbval_sanitize.cfg")
    results = tempfile.TemporaryDirectory(prefix="ctmem-results-")  # what notebooks write while they are tested
    config.add_cleanup(results.cleanup)
    os.environ["CTMEM_RESULTS"] = results.name


def pytest_ignore_collect(collection_path: Path) -> bool | None:
    """Notebooks that are not of the workbook are a reader's own, and are not tested unless they are asked for."""
    stray = HERE / "notebooks" in collection_path.parents and collection_path not in build.workbook()
    return True if stray and collection_path.suffix == ".ipynb" else None


def tagged(cell: dict, prefix: str, default: float) -> float:
    """The number in the cell's tag `<prefix><number>`, or the default."""
    found = [tag[len(prefix) :] for tag in cell.metadata.get("tags", []) if tag.startswith(prefix)]
    return float(found[0]) if found else default


def settle(stored: str, new: str, rtol: float) -> str:
    """`new` with every float that is close to its counterpart in `stored` written as it stands there."""
    numbers = NUMBER.findall(stored)
    if len(numbers) != len(NUMBER.findall(new)):
        return new
    counterparts = iter(numbers)

    def choose(match: re.Match) -> str:
        old, now = next(counterparts), match.group()
        is_float = any(mark in old for mark in ".eE")
        return old if is_float and math.isclose(float(old), float(now), rel_tol=rtol) else now

    return NUMBER.sub(choose, new)


def settle_outputs(stored: list[dict], new: list[dict], rtol: float) -> None:
    """Applies `settle` to the texts of two equally long lists of outputs, in place."""
    for old, now in zip(stored, new, strict=True):
        if "text" in old and "text" in now:
            now["text"] = settle(old["text"], now["text"], rtol)
        for kind in set(old.get("data", {})) & set(now.get("data", {})):
            if kind.startswith("text/"):
                now["data"][kind] = settle(old["data"][kind], now["data"][kind], rtol)


class WatchedKernel(nbval.kernel.RunningKernel):
    """A kernel whose death is noticed at once."""

    def await_reply(self, msg_id: str, timeout: float | None = None) -> None:
        end = math.inf if timeout is None else time.monotonic() + timeout
        while True:
            try:
                left = end - time.monotonic()
                return super().await_reply(msg_id, timeout=max(0.01, min(POLL_SECONDS, left)))
            except Empty:
                if not self.is_alive():
                    raise RuntimeError("the kernel died while it ran this cell") from None
                if time.monotonic() >= end:
                    raise


run_cell = IPyNbCell.runtest
compare_outputs = IPyNbCell.compare_outputs


def run_strictly(self: IPyNbCell) -> None:
    """nbval's `runtest` for a cell that must have been run, with the cell's own time limit."""
    if self.cell.source.strip() and self.cell.execution_count is None:
        self.raise_cell_error("never run: nothing would be compared (`make refresh` runs notebooks)")
    option = self.config.option
    default = option.nbval_cell_timeout
    option.nbval_cell_timeout = tagged(self.cell, "timeout-", default)
    try:
        run_cell(self)
    finally:
        option.nbval_cell_timeout = default


def compare_settled(self: IPyNbCell, test: list[dict], ref: list[dict], skip_compare: tuple | None = None) -> bool:
    """nbval's `compare_outputs` with the cell's own tolerance of floats."""
    rtol = tagged(self.cell, "rtol-", float(self.config.getini("nbval_rtol")))
    if len(test) == len(ref):
        settle_outputs(ref, test, rtol)
    return compare_outputs(self, test, ref, skip_compare)


nbval.plugin.RunningKernel = WatchedKernel
IPyNbCell.runtest = run_strictly
IPyNbCell.compare_outputs = compare_settled
