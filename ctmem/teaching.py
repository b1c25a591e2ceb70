"""Small helpers of the notebooks: claims that are checked, silent progress bars, a place for results.

A claim in a notebook is a call of `claim`: it raises when the claim is false and prints one line that is the same on
every machine when it is true, so that nbval compares it.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm

from ctmem.checks import Finite, Whole, fail, typed

# What every notebook runs under when its outputs are stored or compared: the same text and numbers each time.
STABLE_ENVIRONMENT = {
    "CTMEM_QUIET": "1",  # no progress bars
    "OMP_NUM_THREADS": "1",  # sums in one order
    "PYTHONHASHSEED": "0",  # sets in one order
    "PYTHONWARNINGS": "ignore::DeprecationWarning",  # of libraries, and only until their next release
    "MPLBACKEND": "module://matplotlib_inline.backend_inline",
}


@typed
def claim(
    statement: str,
    value: float,
    *,
    at_least: Finite | None = None,
    at_most: Finite | None = None,
    equals: float | None = None,
) -> None:
    """Prints `ok: <statement> (<bound>)` if the bound holds; raises otherwise.

    Args:
        statement: what is stated, in words.
        value: the number seen; NaN never passes.
        at_least: lower bound, included.
        at_most: upper bound, included.
        equals: the exact value wanted (floats: within 1e-6 relative).

    Raises:
        AssertionError: the bound does not hold; the message gives the value seen.
        ValueError: no bound was given.

    Example:
        >>> claim("two and two", 2 + 2, equals=4)
        ok: two and two (= 4)
    """
    text = _bounds(at_least, at_most, equals)
    value = float(value.detach() if hasattr(value, "detach") else value)
    holds = not math.isnan(value)
    if at_least is not None:
        holds &= value >= at_least
    if at_most is not None:
        holds &= value <= at_most
    if equals is not None:
        holds &= math.isclose(value, equals, rel_tol=1e-6, abs_tol=1e-12)
    if not holds:
        raise AssertionError(f"{statement}: expected {text}, got {value:.6g}")
    print(f"ok: {statement} ({text})")


def _bounds(at_least: float | None, at_most: float | None, equals: float | None) -> str:
    """The bounds in words; raises if there is none."""
    given = {"≥": at_least, "≤": at_most, "=": equals}
    text = " and ".join(f"{sign} {bound:g}" for sign, bound in given.items() if bound is not None)
    if not text:
        fail("at_least", "given, or `at_most` or `equals`", "none of them")
    return text


def results_folder() -> Path:
    """Returns the folder for what a notebook leaves behind, created if needed.

    The environment variable `CTMEM_RESULTS` names it (`make run` sets it); otherwise `results` in the folder above
    the notebook's.
    """
    folder = Path(os.environ.get("CTMEM_RESULTS", Path("..", "results")))
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@typed
def progress(
    iterable: Iterable[Any],
    description: str = "",
    *,
    total: Whole | None = None,
    initial: Whole = 0,
    disable: bool = False,
) -> tqdm:
    """Returns a tqdm bar over `iterable`, silent where the environment variable `CTMEM_QUIET` is set.

    Args:
        iterable: what to walk through.
        description: the text before the bar.
        total: number of items, where `len(iterable)` is not known.
        initial: items already done before this call (a resumed run).
        disable: no bar, as in all but one of several processes.
    """
    quiet = disable or bool(os.environ.get("CTMEM_QUIET"))
    return tqdm(iterable, desc=description, total=total, initial=initial, disable=quiet, mininterval=0.5)
