"""Exercises of notebook 07: weights of an attention, one head by hand, maps that look alike, runs of branches."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch.nn import functional as F

from ctmem.course.exercise import Exercise, Mistake
from ctmem.networks.tcmm import ChannelAttention

WIDTH, HEADS, SIDE = 64, 4, 100
STEPS = 50


def _attend(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, temperature: float) -> torch.Tensor:
    """One head: softmax of the cosines between channels, times the values."""
    likeness = F.normalize(query, dim=-1) @ F.normalize(key, dim=-1).T
    return (likeness * temperature).softmax(-1) @ value


def _over_pixels(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, temperature: float) -> torch.Tensor:
    """The usual attention: every pixel asks every pixel."""
    likeness = F.normalize(query, dim=0).T @ F.normalize(key, dim=0)
    return value @ (likeness * temperature).softmax(-1).T


def _raw(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, temperature: float) -> torch.Tensor:
    """Dot products in place of cosines."""
    return (query @ key.T * temperature).softmax(-1) @ value


def _heads() -> Iterator[tuple[torch.Tensor, torch.Tensor, torch.Tensor, float]]:
    """Queries, keys and values of two heads."""
    for seed, (channels, pixels, temperature) in enumerate(((2, 3, 1.0), (5, 12, 2.5))):
        draw = torch.Generator().manual_seed(seed)
        query, key, value = torch.randn(3, channels, pixels, generator=draw, dtype=torch.float64)
        yield 2 * query, key, value, temperature


def _judge_fool(function: Any) -> None:
    """Nine tenths of the values are others, and the volumes the same, on maps of two kinds and sizes."""
    for seed, size in enumerate(((1, 8, 12, 20), (1, 16, 9, 7))):
        draw = torch.Generator().manual_seed(seed)
        x = torch.randn(size, generator=draw)
        given = function(x.clone())
        if not isinstance(given, torch.Tensor) or given.shape != x.shape:
            raise Mistake("maps of the shape of x are wanted, a tensor (1, D, H, W)")
        if not given.isfinite().all():
            raise Mistake("there are NaN or infinite values in it")
        if (given - x).abs().max() < 1e-6:
            raise Mistake("that is x itself: change it")
        _judge_means(given, x)
        if ((given - x).abs() > 1e-6).float().mean() < 0.9:
            raise Mistake("the volumes stay, but too few values became others: nine tenths are wanted")


def _judge_means(given: torch.Tensor, x: torch.Tensor) -> None:
    """Raises where a channel attention, of any weights, may tell two maps apart."""
    if (given - x).mean((2, 3)).abs().max() < 1e-4:
        return
    if (given - x).mean().abs() < 1e-4:
        raise Mistake("the mean over all maps stays; it is the mean of *each* map that makes the volumes")
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        volume = ChannelAttention(x.shape[1]).mlp
        moved = (volume(given.mean((2, 3), keepdim=True)) - volume(x.mean((2, 3), keepdim=True))).abs().max()
    raise Mistake(f"the volumes move, by {float(moved):.2g} in a new block: they are made of each map's mean")


EXERCISES = (
    Exercise(
        "a whole number",
        right=HEADS * (WIDTH // HEADS) ** 2,
        mistakes={
            "all channels look at all: channels of one head look at those of the same head only": WIDTH**2,
            "that is one head": (WIDTH // HEADS) ** 2,
            "that is attention over pixels; here channels look at channels, whatever the number of pixels": [
                SIDE**4,
                HEADS * SIDE**4,
            ],
            "every head looks at its own channels, not at all": HEADS * WIDTH**2,
            "weights belong to pairs of channels, not to channels and pixels": WIDTH * SIDE**2,
        },
        hint="how many channels has one head, how many pairs of them are there, and how many heads?",
    ),
    Exercise(
        "a function of (query, key, value, temperature)",
        right=_attend,
        mistakes={
            "that looks from pixel to pixel; rows and columns of the weights are channels": _over_pixels,
            "cosines: bring each row of query and key to length 1 first": _raw,
            "the softmax runs along the keys, the last axis": lambda q, k, v, t: (
                (F.normalize(q, dim=-1) @ F.normalize(k, dim=-1).T * t).softmax(0) @ v
            ),
            "the temperature *multiplies* the cosines here": lambda q, k, v, t: _attend(q, k, v, 1 / t),
            "the temperature is not used": lambda q, k, v, t: _attend(q, k, v, 1.0),
            "the softmax is missing": lambda q, k, v, t: F.normalize(q, dim=-1) @ F.normalize(k, dim=-1).T * t @ v,
            "lengths are those of rows, over the pixels, not over the channels": lambda q, k, v, t: (
                (F.normalize(q, dim=0) @ F.normalize(k, dim=0).T * t).softmax(-1) @ v
            ),
        },
        inputs=_heads,
        hint="rows to length 1, their products times the temperature, softmax along the last axis, times the values",
    ),
    Exercise("a function of (x)", judge=_judge_fool),
    Exercise(
        "a whole number",
        right=STEPS + 2,
        mistakes={
            "nothing is kept then: which branches see neither noise nor level?": 3 * STEPS,
            "the noise branch alone; the other two run, too, once": STEPS,
            "two branches do not see the noise": STEPS + 1,
            "one each: the noise branch runs at every step": 3,
            "the reference branch sees no noise, either": 2 * STEPS + 1,
            "is there a call before the first step? The chain begins with noise": STEPS + 3,
        },
        hint="which of the three see something that changes from step to step?",
    ),
)
