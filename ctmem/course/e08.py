"""Exercises of notebook 08: what a mean of draws loses, how many are enough, a biased coin, draws that seem sure."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch

from ctmem.course.exercise import Exercise

ODDS = math.log(0.9 / 0.1)


def _decibels(draws: float) -> float:
    """What the mean of so many draws loses against the true mean, dB."""
    return 10 * math.log10(1 + 1 / draws)


ENOUGH = next(draws for draws in range(1, 1000) if _decibels(draws) < 0.1)


def _biased(x_t: torch.Tensor, signal: torch.Tensor, odds: float = ODDS) -> torch.Tensor:
    """E[x0 | x_t] of a coin of ±1."""
    return torch.tanh(signal * x_t / (1 - signal**2) + odds / 2)


def _observed() -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """x_t and signal: nearly pure noise, and less."""
    for x_t, signal in ((0.7, 1e-6), (0.2, 0.6), (-0.5, 0.4), (-1.3, 0.8)):
        yield torch.tensor(x_t), torch.tensor(signal)


def _surer(draws: torch.Tensor, share: float = 1 / 3) -> torch.Tensor:
    """The same mean over draws, and a share of the deviation."""
    mean = draws.mean(0)
    return mean + share * (draws - mean)


def _draws() -> Iterator[tuple[torch.Tensor]]:
    """Draws of a number, of a small image, and of two numbers far from zero."""
    for seed, shape, level in ((0, (8, 1), 0.0), (1, (5, 3, 4, 6), 0.3), (2, (16, 2), 4.0)):
        generator = torch.Generator().manual_seed(seed)
        yield (level + torch.randn(shape, generator=generator, dtype=torch.float64),)


EXERCISES = (
    Exercise(
        "a number",
        right=_decibels(4),
        near=0.006,  # two digits, as the notebook prints decibels
        mistakes={
            "that is the *gain* of four draws over one, in noise alone": 10 * math.log10(4),
            "decibels of a squared error: 10 times the logarithm, not 20": 2 * _decibels(4),
            "a loss is asked for, as a positive number": -_decibels(4),
            "the error is 1 + 1/4 times the least one, not 1 − 1/4": [
                -10 * math.log10(1 - 1 / 4),
                10 * math.log10(1 - 1 / 4),
            ],
            "that is the share of the error: in decibels, please": [0.25, 1.25],
        },
        hint="the squared error of a mean of n right draws is 1 + 1/n times the least possible one",
    ),
    Exercise(
        "a whole number",
        right=ENOUGH,
        mistakes={
            "just not: there the loss is still a little above 0.1 dB": ENOUGH - 1,
            "fewer do it, too: from how many *on*?": [ENOUGH + 1, 44, 50, 100],
            "a loss of 0.1 dB is not a loss of a tenth": [10, 11, 9],
            "10 times the logarithm, not 20": next(n for n in range(1, 999) if 2 * _decibels(n) < 0.1),
        },
        hint="the smallest n with 10·log10(1 + 1/n) < 0.1",
    ),
    Exercise(
        "a function of (x_t, signal)",
        right=_biased,
        mistakes={
            "that is a fair coin: its odds are missing": lambda x_t, signal: _biased(x_t, signal, 0.0),
            "half of the logarithm of the odds": lambda x_t, signal: _biased(x_t, signal, 2 * ODDS),
            "sigma² = 1 − signal², not 1 − signal": lambda x_t, signal: torch.tanh(
                signal * x_t / (1 - signal) + ODDS / 2
            ),
            "the odds are 0.9 to 0.1: the logarithm of their ratio, the natural one": lambda x_t, signal: _biased(
                x_t, signal, math.log10(9)
            ),
            "the coin shows +1 more often: the sign of the odds": lambda x_t, signal: _biased(x_t, signal, -ODDS),
            "that is the probability of +1; the mean is twice that, less 1": lambda x_t, signal: (
                (_biased(x_t, signal) + 1) / 2
            ),
        },
        inputs=_observed,
        hint="tanh of half the log-odds: 2·signal·x_t/sigma² from the observation, and those of the coin",
    ),
    Exercise(
        "a function of (draws)",
        right=_surer,
        mistakes={
            "that shrinks the mean, too: only the distances from it shall shrink": lambda draws: draws / 3,
            "one mean for all places: each place has its own, over draws": lambda draws: (
                draws.mean() + (draws - draws.mean()) / 3
            ),
            "a third of the deviation, not of the variance": lambda draws: _surer(draws, 3**-0.5),
            "no deviation is left: all draws are the same": lambda draws: _surer(draws, 0.0),
            "they differ more than before, not less": lambda draws: _surer(draws, 3.0),
            "the distances have changed sign": lambda draws: _surer(draws, -1 / 3),
            "the distances alone: the mean is missing": lambda draws: (draws - draws.mean(0)) / 3,
            "n draws are wanted, not their mean": lambda draws: draws.mean(0),
        },
        inputs=_draws,
        hint="keep the mean over draws at each place; what happens to the distances from it?",
    ),
)
