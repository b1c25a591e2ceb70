"""What a row says of where it was measured: commit, machine, memory.

Source: this project.
"""

from __future__ import annotations

import functools
import math
import os
import platform
import subprocess
from importlib.metadata import version
from pathlib import Path

import torch


@functools.cache
def commit() -> str:
    """The commit of a source tree, or else the version that is installed."""
    command = ["git", "describe", "--always", "--dirty"]
    try:
        here = Path(__file__).parent
        found = subprocess.run(command, capture_output=True, encoding="utf-8", cwd=here, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return version("ctmem")
    return found.strip()


@functools.cache
def machine() -> str:
    """Processor, cores and threads in use, in words."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    names = sorted({line.split(":")[1].strip() for line in lines if line.startswith("model name")})
    name = "; ".join(names) or platform.processor() or platform.machine()
    return f"{name}; {os.cpu_count()} cores; {torch.get_num_threads()} thread(s); torch {torch.__version__}"


def forget_peak_memory() -> None:
    """Lets the peak of this process begin again at what it uses now, where the system can (Linux)."""
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")
    except OSError:
        return


def peak_memory_mb() -> float:
    """The most memory that this process has used since `forget_peak_memory`, MB; NaN where the system does not say."""
    path = Path("/proc/self/status")
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    found = [int(line.split()[1]) for line in lines if line.startswith("VmHWM:")]
    return found[0] / 1024 if found else math.nan
