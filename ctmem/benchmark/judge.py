"""What is a reference worth? One answer without it, one with it, and one with each control, on several areas.

    verdict = judge(lambda lr_hsi, ref_msi: ctmem.super_resolve(model, lr_hsi, ref_msi, camera=camera), ref_msi, [area])
    print(verdict)        # the gain with each of them over the answer without, with its interval, dB
    verdict.worth         # gain of the reference less that of the best control

A claim that *this place* helps has to beat the best of the images that lack it (`ctmem.data.controls`), by more than
chance: over pixels (a bootstrap over blocks, paired), and over what is drawn at random in a control.

Source: this project; block bootstrap: Künsch, 1989.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch

from ctmem.benchmark.scores import beyond_chance, interval, resampled_psnr
from ctmem.checks import Count, HoledImage, Inside, check_count, fail, typed
from ctmem.data.controls import CONTROLS, SETTLED
from ctmem.data.samples import Degraded

Answer = Callable[[torch.Tensor, torch.Tensor | None], torch.Tensor]
Control = Callable[[torch.Tensor, torch.Generator], torch.Tensor]


@dataclass(frozen=True)
class Gain:
    """A gain over the answer without a reference, dB: mean over areas, and its 95 % interval over blocks of pixels."""

    gain_db: float
    low_db: float
    high_db: float
    scatter_db: float = 0.0  # deviation over draws of a random control

    def __str__(self) -> str:
        return f"{self.gain_db:+.2f} dB  [{self.low_db:+.2f}, {self.high_db:+.2f}]"


@dataclass(frozen=True)
class Verdict:
    """What `judge` found.

    Attributes:
        reference: gain with the reference.
        controls: gain with each control, by name.
        best: name of the control that gains most; "none" where no control gains anything.
        beyond: gain of the reference over that of the best control, paired.
    """

    reference: Gain
    controls: Mapping[str, Gain]
    best: str
    beyond: Gain

    @property
    def worth(self) -> float:
        """What the reference gains beyond the best control, dB."""
        return self.beyond.gain_db

    @property
    def helps(self) -> bool:
        """Whether it is more than chance: the interval excludes 0, and it is more than twice the scatter of draws."""
        return beyond_chance(self.worth, self.beyond.low_db, self.beyond.scatter_db)

    def __str__(self) -> str:
        lines = {"reference": self.reference} | {f"control: {name}": gain for name, gain in self.controls.items()}
        lines[f"beyond {self.best}"] = self.beyond
        return "\n".join(f"{name:20s} {gain}" for name, gain in lines.items())


@typed
def judge(
    answer: Inside[Answer],
    reference: HoledImage,
    areas: Inside[Sequence[Degraded]],
    *,
    controls: Inside[Mapping[str, Control]] = CONTROLS,
    seeds: Count = 1,
) -> Verdict:
    """Returns what a reference is worth to a method.

    Args:
        answer: the method, a function (lr_hsi, ref_msi or None) → pred. Let it draw the same random numbers each time.
        reference: other ground (1, c, H, W), [0, 1].
        areas: that are judged, each by its own ground; the reference must show none of it.
        controls: functions (image, generator) → image of the same bands, by name.
        seeds: how many draws of each random control.

    Raises:
        TypeError: a method that cannot be called, areas that are no list.
        ValueError: no area, no control; what the method or a control refuses.
    """
    check_count(seeds, "seeds")
    if not controls:
        fail("controls", "at least one function by name", "none")
    if not callable(answer):
        fail("answer", "a function (lr_hsi, ref_msi) → pred", type(answer).__name__, TypeError)
    if not isinstance(areas, Sequence):
        fail("areas", "a list of `Degraded`", type(areas).__name__, TypeError)
    if not areas or not all(isinstance(area, Degraded) for area in areas):
        fail("areas", "one or more of `Degraded`", f"{[type(area).__name__ for area in areas]}")
    alone = _resampled(answer, None, areas)
    real = _resampled(answer, reference, areas) - alone
    found = {name: _drawn(answer, reference, areas, name, make, seeds) - alone for name, make in controls.items()}
    best = max(found, key=lambda name: float(found[name][:, 0].mean()))
    if float(found[best][:, 0].mean()) < 0:
        best, beyond = "none", real
    else:
        beyond = real - found[best]
    gains = {name: _gain(x) for name, x in found.items()}
    return Verdict(_gain(real), gains, best, _gain(beyond))


def _resampled(answer: Answer, reference: torch.Tensor | None, areas: Sequence[Degraded]) -> torch.Tensor:
    """PSNR of the answers and of resampled ones, mean over areas, (1, 1001)."""
    drawn = [resampled_psnr(answer(area.lr_hsi, reference), area.gt) for area in areas]
    return torch.stack(drawn).mean(0, keepdim=True)


def _drawn(
    answer: Answer, reference: torch.Tensor, areas: Sequence[Degraded], name: str, make: Control, seeds: int
) -> torch.Tensor:
    """The same with each draw of a control, (seeds, 1001); one draw of those that are always the same."""
    count = 1 if name in SETTLED else seeds
    images = [make(reference, torch.Generator().manual_seed(seed)) for seed in range(count)]
    return torch.cat([_resampled(answer, image, areas) for image in images])


def _gain(differences: torch.Tensor) -> Gain:
    """Of the differences (draws, 1001): their mean, its interval, and the deviation over draws."""
    spread = float(differences[:, 0].std()) if len(differences) > 1 else 0.0
    return Gain(*interval(differences.mean(0)), spread)
