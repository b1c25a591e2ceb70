"""What a benchmark writes above its numbers: machine, versions, commit, date; and how it takes turns."""

from __future__ import annotations

import datetime
import importlib.metadata
import os
import platform
import statistics
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import torch

RESULTS = Path(__file__).parent / "results"


def describe(*packages: str) -> str:
    """One Markdown paragraph on what was measured where."""
    names = {line.split(":")[1].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")}
    try:
        call = ["git", "describe", "--always", "--dirty"]
        commit = subprocess.run(call, capture_output=True, encoding="utf-8", cwd=Path(__file__).parent).stdout.strip()
    except OSError:  # no git there
        commit = ""
    versions = ", ".join(f"{name} {_version(name)}" for name in ("torch", *packages))
    return (
        f"{datetime.date.today()}, commit {commit or 'unknown'}, {', '.join(sorted(names)) or platform.machine()}, "
        f"{os.cpu_count()} cores, {torch.get_num_threads()} torch thread(s), Python {platform.python_version()}, {versions}"
    )


def interleaved(functions: dict[str, Callable[[], object]], *, rounds: int, seconds: float = 120) -> dict[str, float]:
    """Median seconds of each function, called in turns, so that a busy spell of the machine hits all alike.

    Args:
        functions: name → what to time; each is called once before, untimed.
        rounds: turns at most.
        seconds: no new round begins after so long; at least one is made.
    """
    for function in functions.values():
        function()
    times: dict[str, list[float]] = {name: [] for name in functions}
    start = time.perf_counter()
    for turn in range(rounds):
        if turn and time.perf_counter() - start > seconds:
            break
        for name, function in functions.items():
            before = time.perf_counter()
            function()
            times[name].append(time.perf_counter() - before)
    return {name: statistics.median(values) for name, values in times.items()}


def table(header: list[str], rows: list[list[str]]) -> str:
    """A Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def write(name: str, text: str) -> None:
    """Writes benchmarks/results/<name>.md and prints it."""
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.md").write_text(text.rstrip() + "\n", encoding="utf-8")
    print(text)


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "absent"


def _lines(path: str) -> list[str]:
    return Path(path).read_text(encoding="utf-8").splitlines() if Path(path).exists() else []
