"""Exercises of notebook 10: many comparisons, what a reference is worth, the winner's curse."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch

from ctmem.course.exercise import Exercise

CONTROLS, ERRS = 14, 0.05


def _worth(gain: float, controls: Sequence[float]) -> float:
    """Beyond the best control, or beyond no reference."""
    return gain - max(0.0, *controls)


def _report(validation: torch.Tensor, test: torch.Tensor) -> tuple[float, float]:
    """The winner's score on both."""
    best = int(validation.argmax())
    return float(validation[best]), float(test[best])


def _gains() -> Iterator[tuple[float, list[float]]]:
    """A control ahead, all controls below zero, one that is better than the reference."""
    yield 0.3, [0.1, -0.2, 0.25]
    yield 0.2, [-0.3, -0.1]
    yield 0.1, [0.05, 0.4, 0.2]


def _scores() -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Scores of variants whose winners differ."""
    for seed, count in ((0, 20), (1, 7), (2, 50)):
        scores = torch.randn(2, count, generator=torch.Generator().manual_seed(seed))
        yield scores[0], scores[1]


EXERCISES = (
    Exercise(
        "a number",
        right=100 * (1 - (1 - ERRS) ** CONTROLS),
        mistakes={
            "chances of events that may come together do not add up": 100 * CONTROLS * ERRS,
            "that is the chance that none of them does": 100 * (1 - ERRS) ** CONTROLS,
            "that is one control alone": 100 * ERRS,
            "that is a share: in percent, please": 1 - (1 - ERRS) ** CONTROLS,
        },
        near=0.5,
        hint="the chance that one of them does nothing is 95 %; that all fourteen do nothing is a product",
    ),
    Exercise(
        "a function of (gain, controls)",
        right=_worth,
        mistakes={
            "where all controls harm, the rival is no reference at all, a gain of 0": lambda gain, controls: (
                gain - max(controls)
            ),
            "the *best* control counts, not their mean": lambda gain, controls: gain - sum(controls) / len(controls),
            "the *best* control counts, not the weakest": lambda gain, controls: gain - min(controls),
            "a reference may be worth less than nothing: let it be negative": lambda gain, controls: max(
                0.0, _worth(gain, controls)
            ),
        },
        inputs=_gains,
        hint="gain − the largest of 0 and all controls",
    ),
    Exercise(
        "a function of (validation, test)",
        right=_report,
        mistakes={
            "the winner is chosen once, on validation: its *own* test score is wanted": lambda validation, test: (
                float(validation.max()),
                float(test.max()),
            ),
            "(liked, honest), in this order": lambda validation, test: _report(validation, test)[::-1],
            "choosing on test is the curse itself: choose on validation": lambda validation, test: _report(
                test, validation
            )[::-1],
            "two numbers, the scores, not the number of the variant": lambda validation, test: (
                float(validation.argmax()),
                _report(validation, test)[1],
            ),
        },
        inputs=_scores,
        hint="which variant has the largest validation score? Return its two scores",
    ),
)
