"""Exercises of notebook 03: the noise level, one step of DDIM, an oracle, a denoiser told a wrong level."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from ctmem.config import TINY
from ctmem.course.exercise import Exercise, Function, Mistake
from ctmem.diffusion import samplers
from ctmem.diffusion.schedule import Schedule

LEVELS = Schedule.linear(TINY.timesteps).levels
STEPS = 3


def _first(below: torch.Tensor) -> int:
    """The first place where something holds."""
    return int(below.nonzero()[0])


FIRST = _first(LEVELS < 0.5)


def _ddim(x_t: float, x0: float, a: float, a_next: float) -> float:
    """DDIM's step from its noise, exactly."""
    return a_next**0.5 * x0 + (1 - a_next) ** 0.5 * (x_t - a**0.5 * x0) / (1 - a) ** 0.5


def _judge_oracle(oracle: Function) -> None:
    """A denoiser that knows the truth is asked three times, and the sample is the truth."""
    for seed, shape in enumerate(((1, 8, 12, 20), (2, 3, 5, 7))):
        truth = torch.randn(*shape, generator=torch.Generator().manual_seed(seed))
        denoise = oracle(truth.clone())
        if not callable(denoise):
            raise Mistake("oracle(truth) must return a function, denoise(x, level, previous): the sampler calls it")
        draw = torch.Generator().manual_seed(9)
        found = samplers.sample(denoise, torch.zeros_like(truth), Schedule.linear(2000), steps=STEPS, generator=draw)
        if float((found - truth).abs().max()) > 1e-5:
            raise Mistake(
                "the sample is not the truth: whatever the denoiser is handed, an oracle answers with x0 itself"
            )


def _judge_deaf(deaf: Function) -> None:
    """A denoiser that passes everything on, but for the level, which is 1 for each sample."""
    told: list[tuple[torch.Tensor, ...]] = []

    def denoise(x: torch.Tensor, level: torch.Tensor, previous: torch.Tensor) -> torch.Tensor:
        told.append((x, level, previous))
        return 2 * x + previous

    for samples in (1, 3):
        told.clear()
        x, previous = torch.randn(2, samples, 8, 4, 5, generator=torch.Generator().manual_seed(samples))
        level = torch.linspace(0.3, 0.6, samples)
        wrapped = deaf(denoise)
        if not callable(wrapped):
            raise Mistake("deaf(denoise) must return a function, denoise(x, level, previous): the sampler calls it")
        found = wrapped(x, level, previous)
        if not told:
            raise Mistake("your denoiser never asks `denoise`")
        _check_told(told[0], x, level, previous)
        if not isinstance(found, torch.Tensor) or not torch.equal(found, 2 * x + previous):
            raise Mistake("what `denoise` answers is to be returned as it is")


def _check_told(told: tuple[torch.Tensor, ...], x: torch.Tensor, level: torch.Tensor, previous: torch.Tensor) -> None:
    """Raises unless everything was passed on but for the level."""
    passed = told[1]
    if not (torch.equal(told[0], x) and torch.equal(told[2], previous)):
        raise Mistake("`x` and `previous` are passed on as they came; only the level is another")
    if not isinstance(passed, torch.Tensor) or passed.shape != level.shape:
        raise Mistake("one level for each sample: a tensor (B,), as it came, say torch.ones_like(level)")
    if torch.equal(passed, level):
        raise Mistake("the level is passed on as it came: your denoiser is not deaf")
    if not bool(passed.any()):
        raise Mistake("a level of 0 says pure noise; the lie was to be that the image is clean")
    if not bool((passed == 1).all()):
        raise Mistake("clean is a level of exactly 1, for each sample")


def _steps() -> Iterator[tuple[float, ...]]:
    """x_t, x0 and two values of ᾱ."""
    yield from ((2.0, 1.0, 0.25, 0.81), (-0.3, 0.7, 0.1, 0.4), (1.5, -0.2, 0.6, 0.99))


EXERCISES = (
    Exercise(
        "a whole number",
        right=FIRST,
        mistakes={
            "that is the last t whose level is not yet below": FIRST - 1,
            "one too far: t is counted from 0, as Python does": FIRST + 1,
            "half of the chain is not half of the noise level: look at the levels themselves": TINY.timesteps // 2,
            "there ᾱ, the square of the level, falls below a half: the level itself is asked for": _first(
                LEVELS**2 < 0.5
            ),
            "that is the level there: its place t is asked for": float(LEVELS[FIRST]),
        },
        hint="`Schedule.linear(TINY.timesteps).levels` has one level for each t: which is the first below 0.5?",
    ),
    Exercise(
        "a function of (x_t, x0, a, a_next)",
        right=_ddim,
        mistakes={
            "ᾱ is a share of *power*: signals are multiplied by its root": lambda x_t, x0, a, b: (
                b * x0 + (1 - b) * (x_t - a * x0) / (1 - a)
            ),
            "the noise is what is left of x_t, *divided by* √(1 − ᾱ)": lambda x_t, x0, a, b: (
                b**0.5 * x0 + (1 - b) ** 0.5 * (x_t - a**0.5 * x0)
            ),
            "the noise goes on, with the size of the next step: √(1 − ᾱ) of the *next* one": lambda x_t, x0, a, b: (
                b**0.5 * x0 + x_t - a**0.5 * x0
            ),
            "the noise is missing: DDIM takes the estimated noise along": lambda x_t, x0, a, b: b**0.5 * x0,
            "the two values of ᾱ are exchanged": lambda x_t, x0, a, b: _ddim(x_t, x0, b, a),
        },
        inputs=_steps,
        hint="x_t = √ᾱ·x0 + √(1 − ᾱ)·noise: solve for the noise, then write the same line for the next ᾱ",
    ),
    Exercise("a function of (truth)", judge=_judge_oracle),
    Exercise("a function of (denoise)", judge=_judge_deaf),
)
