"""Exercises of notebook 05: an angle, a convention, an image that fools a metric."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from ctmem.course.exercise import Exercise, Function, Mistake
from ctmem.evaluation import metrics


def _angle(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """The angle between two vectors, degrees."""
    return torch.rad2deg(torch.arccos(_cosine(a, b).clamp(-1, 1)))


def _cosine(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """The cosine of the angle between two vectors."""
    return (a @ b) / (a.norm() * b.norm())


def _spectra() -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Pairs of spectra, the last one parallel, where rounding may carry the cosine beyond 1."""
    yield torch.tensor([0.2, 0.4, 0.1]), torch.tensor([0.4, 0.2, 0.1])
    yield torch.tensor([0.7, 0.1, 0.3, 0.2]), torch.tensor([0.1, 0.2, 0.9, 0.4])
    one = torch.rand(50, generator=torch.Generator().manual_seed(1))
    yield one, 3 * one.flip(0)


def _judge_fooling(fool: Function) -> None:
    """SAM sees nothing, RMSE much."""
    for seed in range(2):
        truth = torch.rand(1, 5, 6, 8, generator=torch.Generator().manual_seed(seed)) + 0.1
        image = fool(truth.clone())
        if not isinstance(image, torch.Tensor) or image.shape != truth.shape:
            raise Mistake("your function must return an image of the shape of its argument")
        if float(image.norm(dim=1).min()) == 0:
            raise Mistake("a spectrum of zeros has no direction, and no angle")
        angle, error = float(metrics.sam_deg(image, truth)), float(metrics.rmse(image, truth))
        if angle > 90:
            raise Mistake("that is the opposite direction: the angle is 180 degrees")
        if angle > 0.05:
            raise Mistake(f"SAM sees it, {angle:.2f} degrees: what may be done to a spectrum without turning it?")
        if error < 0.1:
            raise Mistake(f"SAM is fooled, but the error is small, an RMSE of {error:.3f}: more of the same")


EXERCISES = (
    Exercise(
        "a function of (a, b)",
        right=_angle,
        mistakes={
            "that is in radians: degrees, please": lambda a, b: torch.deg2rad(_angle(a, b)),
            "that is the cosine: its arc, in degrees": _cosine,
            "the lengths are missing: a·b = |a|·|b|·cos": lambda a, b: torch.rad2deg(
                torch.arccos((a @ b).clamp(-1, 1))
            ),
            "arccos, not arcsin": lambda a, b: 90 - _angle(a, b),
            "degrees: 180/π times radians, once": lambda a, b: torch.rad2deg(_angle(a, b)),
        },
        inputs=_spectra,
        near=0.02,
        hint="a·b = |a|·|b|·cos(angle)",
    ),
    Exercise(
        "a number",
        right=128,
        mistakes={
            "one factor of 8 is in 1/scale, another in scale: both count": 16,
            "the other way round: with 100·scale the number is larger": 2 / 64,
            "the value without any factor is 2.0·8/100: it is to be multiplied by 100·8": 0.16,
            "100·scale times the *printed* number? First undo 100/scale": 1600,
        },
        hint="100/8 times something is 2.0; 100·8 times the same is asked for",
    ),
    Exercise("a function of (truth)", judge=_judge_fooling),
)
