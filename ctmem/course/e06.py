"""Exercises of notebook 06: a half-life, a moving average, pixels that are heard, a twin."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch

from ctmem.course.exercise import Exercise, Mistake
from ctmem.networks.scan.selective import selective_scan

ROW = 145  # tokens
SIDE, MIDDLE = 15, 7  # pixels of an image, and the one that listens, in both directions


def _average(u: torch.Tensor, kept: float = 0.9, new: float = 0.1) -> torch.Tensor:
    """y_t = kept·y_{t−1} + new·u_t along the tokens."""
    rows, y = [], torch.zeros_like(u[:, 0])
    for token in u.unbind(1):
        y = kept * y + new * token
        rows.append(y)
    return torch.stack(rows, 1)


def _signals() -> Iterator[tuple[torch.Tensor]]:
    """An impulse, and noise."""
    yield (torch.tensor([1.0, 0, 0, 0]).reshape(1, 4, 1),)
    yield (torch.randn(1, 9, 1, generator=torch.Generator().manual_seed(0)),)


def _heard(orders: tuple[str, ...]) -> int:
    """Pixels that the middle hears after causal walks along rows or columns, one after the other."""
    heard = {(MIDDLE, MIDDLE)}
    for order in reversed(orders):
        key = (lambda at: at) if order == "rows" else (lambda at: at[::-1])
        last = max(map(key, heard))
        heard = {(i, j) for i in range(SIDE) for j in range(SIDE) if key((i, j)) <= last}
    return len(heard)


def _judge_past(function: Any) -> None:
    """Another sequence, of the same last output of a scan that halves and adds."""
    for seed, length in enumerate((4, 9)):
        u = torch.randn(1, length, 1, generator=torch.Generator().manual_seed(seed))
        given = function(u.clone())
        if not isinstance(given, torch.Tensor) or given.shape != u.shape:
            raise Mistake("a sequence of the shape of u is wanted, a tensor (1, L, 1)")
        if not given.isfinite().all():
            raise Mistake("there are NaN or infinite values in it")
        if not (given != u).any():
            raise Mistake("that is u itself: change it")
        ones = torch.ones_like(u)
        rate = torch.full((1, 1), 0.5).log()
        off = float((selective_scan(given.float() - u, ones, rate, ones, ones))[0, -1, 0])
        if abs(off) > 1e-4:
            raise Mistake(f"the last output moves by {off:+.2g}: each token counts half as much as the one after it")
        if (given - u)[:, :-1].abs().max() < 0.1:
            raise Mistake("the last output stays, but the past is nearly the same: change a token by 0.1 at least")


EXERCISES = (
    Exercise(
        "a number",
        right=math.log(2) / ROW,
        mistakes={
            "that decays along a line; the state decays as exp(Δ·A), token after token": 0.5 / ROW,
            "that much is lost with one token: there are 145": math.log(2),
            "that leaves exp(−1), about a third": 1 / ROW,
            "the sign: Δ is positive, A is −1": -math.log(2) / ROW,
            "the natural logarithm: exp, not a power of 2 or 10": [1 / ROW * math.log10(2), math.log2(math.e) / ROW],
        },
        hint="exp(−Δ·145) is to be a half",
    ),
    Exercise(
        "a function of (u)",
        right=_average,
        mistakes={
            "0.9 and 0.1 are exchanged": lambda u: _average(u, 0.1, 0.9),
            "that sums up: the new token counts 0.1 only": lambda u: _average(u, 0.9, 1.0),
            "exp(Δ·A) is to be 0.9, so A is its logarithm, and negative": [
                lambda u: _average(u, math.exp(0.9), 0.1),
                lambda u: _average(u, math.exp(-0.9), 0.1),
            ],
            "nothing is forgotten: that is a running sum": [
                lambda u: _average(u, 1.0, 0.1),
                lambda u: _average(u, 1.0, 1.0),
            ],
            "nothing is kept: that is 0.1·u": lambda u: 0.1 * u,
        },
        inputs=_signals,
        hint="with Δ = 1 the state is exp(A)·state + B·u, and y = C·state",
    ),
    Exercise(
        "a whole number",
        right=_heard(("rows", "columns")),
        mistakes={
            "that is one walk alone": _heard(("rows",)),
            "that is what either of the two hears by itself; the second hears what the first has gathered": 162,
            "some pixels are counted twice": 2 * _heard(("rows",)),
            "all of them? What of the last row, to the right?": SIDE**2,
            "the columns before the middle reach down to the last row: what of it was heard on the way?": 14 * 15,
        },
        hint="which pixels does the walk along columns pass before the middle? And which did each of these hear?",
    ),
    Exercise("a function of (u)", judge=_judge_past),
)
