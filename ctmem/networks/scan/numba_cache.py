"""Functions compiled by numba, and the folder in which it keeps the results.

A damaged file there would break every later call: `forget` deletes the files, `stop_caching` does without them. Where
no folder can be written, functions are compiled again in every process.

Source: this project; numba's user manual, "Caching".
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from numba import config, njit
from numba.core.caching import NullCache

from ctmem.checks import warn_once

FASTMATH = {"contract", "reassoc", "nsz", "arcp"}  # not nnan, not ninf: NaN must stay NaN

_made: list[Any] = []


def compiled(function: Callable[..., Any]) -> Any:
    """The function compiled when it is first called; Python's lock is not held while it runs."""
    options: dict[str, Any] = {"nogil": True, "error_model": "numpy", "fastmath": FASTMATH}
    try:
        made = njit(**options, cache=True)(function)
    except (RuntimeError, OSError):  # "no locator available": neither this folder nor the home can be written
        warn_once(
            "the fast selective scan is compiled again in every process (some ten seconds): numba finds no folder that "
            "it can write its cache to; set NUMBA_CACHE_DIR to one"
        )
        made = njit(**options)(function)
    _made.append(made)
    return made


def folders() -> list[Path]:
    """Where numba keeps what it has compiled of this project."""
    found = (getattr(getattr(made, "stats", None), "cache_path", None) for made in _made)
    return sorted({Path(folder) for folder in found if folder})


def forget() -> None:
    """Deletes what numba has kept of this project, as far as it can be deleted."""
    modules = {made.py_func.__module__.rpartition(".")[2] for made in _made if hasattr(made, "py_func")}
    for folder in folders():
        for path in [path for module in modules for path in folder.glob(f"{module}.*.nb[ic]")]:
            with contextlib.suppress(OSError):
                path.unlink()


def stop_caching() -> None:
    """Compiles in memory from now on, whatever lies in the folder."""
    for made in _made:
        made._cache = NullCache()


def cure() -> str:
    """What a person may do where numba fails although it starts afresh."""
    if config.DISABLE_JIT:  # type: ignore[attr-defined]
        return "unset NUMBA_DISABLE_JIT"
    return f"delete {', '.join(map(str, folders())) or 'its cache'}, or install numba again"
