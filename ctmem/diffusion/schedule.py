"""Chains of noise levels: what share of the data, and how much noise, each step of a diffusion holds.

A chain is two numbers per step: x_t = signal_t · x_0 + sigma_t · ε, t = 0 … T−1. Divided by its size
√(signal² + sigma²) it is x = level · x_0 + noise · ε with level² + noise² = 1: at *unit size* the level alone says how
noisy x is, whatever the chain.

| paper | code | meaning |
|---|---|---|
| T | `Schedule.steps` | length of the chain |
| β_t | `betas` | variance added at step t |
| √ᾱ_t, √(1 − ᾱ_t) | `signal[t]`, `sigma[t]` | ᾱ_t = Π (1 − β_s), s ≤ t: the share of x_0's variance that is left |
| √ᾱ_t, √(1 − ᾱ_t) | `levels[t]`, `noises[t]` | at unit size; the network is told the level: **1 clean, 0 pure noise** |

Source: Ho et al., "Denoising diffusion probabilistic models", 2020 (linear); Nichol and Dhariwal, "Improved denoising
diffusion probabilistic models", 2021 (cosine); Yue et al., "ResShift", 2023 (shifted).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated

import torch

from ctmem.checks import Axes, Bounds, Finite, Positive, check_choice, check_count, fail, typed

Place = tuple[float, float]  # (level, noise), a place on a chain at unit size
CLEAN: Place = (1.0, 0.0)
Vector = Annotated[torch.Tensor, Axes("(T,)", double=True)]
Length = Annotated[int, Bounds(1, 2**20)]  # of a chain, steps
ENOUGH = 1000  # steps over which the usual β turn data into noise


@typed
@dataclass(frozen=True, eq=False)
class Schedule:
    """A chain x_t = signal_t · x_0 + sigma_t · ε, or some steps of one.

    Args:
        signal: share of the data at each step, (T,).
        sigma: standard deviation of the noise, (T,), > 0; signal/sigma falls with t.
        times: the t that each step had in the chain it was taken from, (T,) whole numbers; default: 0 … T−1.

    Raises:
        ValueError: vectors of two lengths, a sigma ≤ 0, or a ratio that does not fall.
    """

    signal: Vector
    sigma: Vector
    times: torch.Tensor = None  # type: ignore[assignment]  # set below

    def __post_init__(self) -> None:
        """Checks the fields."""
        if self.signal.ndim != 1 or self.signal.shape != self.sigma.shape:
            got = f"shapes {tuple(self.signal.shape)} and {tuple(self.sigma.shape)}"
            fail("signal", "a vector (T,), as `sigma`", got)
        if not (self.signal >= 0).all():
            fail("signal", "≥ 0 at every step", float(self.signal.min()))
        if not (self.sigma > 0).all():
            fail("sigma", "> 0 at every step", float(self.sigma.min()))
        ratio = self.signal / self.sigma
        if not (ratio.diff() < 0).all():
            fail("signal", "such that signal/sigma falls at every step", "one that does not")
        if self.times is None:
            object.__setattr__(self, "times", torch.arange(len(self.signal), device=self.signal.device))
        elif self.times.shape != self.signal.shape:
            fail("times", f"of shape ({len(self.signal)},), as `signal`", f"shape {tuple(self.times.shape)}")

    @classmethod
    @typed
    def from_betas(cls, betas: Vector) -> Schedule:
        """The variance-preserving chain of the variances β (T,): signal = √ᾱ, sigma = √(1 − ᾱ), in float64.

        Raises:
            ValueError: a β that is not above 0 and at most 1.
        """
        if not bool(((betas > 0) & (betas <= 1)).all()):
            fail("betas", "variances above 0 and at most 1", f"{float(betas.min()):g} to {float(betas.max()):g}")
        alpha_bar = torch.cumprod(1 - betas.double(), 0)
        return cls(alpha_bar.sqrt(), (1 - alpha_bar).sqrt())

    @classmethod
    @typed
    def linear(cls, steps: Length = 2000, first: Finite = 1e-4, last: Finite = 2e-2) -> Schedule:
        """β grows linearly from `first` to `last` over `steps` steps; the paper's.

        So small a β needs `ENOUGH` steps to end near pure noise. A shorter chain is that one at evenly spaced steps,
        which is what a β larger by 1000/T comes to where that is small.

        Args:
            steps: T.
            first: β at the first step.
            last: β at the last one.

        Raises:
            ValueError: no steps, or a `first` and `last` that are not 0 < first ≤ last < 1.

        Example:
            >>> [round(float(Schedule.linear(steps).levels[-1]), 4) for steps in (2, 100, 1000, 2000)]
            [0.0064, 0.0064, 0.0064, 0.0]
        """
        check_count(steps, "steps")
        if not 0 < first <= last < 1:
            fail("first", "above 0, and at most `last`, which must be below 1", f"{first} and {last}")
        length = max(steps, ENOUGH)
        chain = cls.from_betas(torch.linspace(first, last, length, dtype=torch.float64, device="cpu"))
        places = [round(length * (place + 1) / steps) - 1 for place in range(steps)]
        return cls(chain.signal[places], chain.sigma[places])

    @classmethod
    @typed
    def cosine(cls, steps: Length = 2000, offset: Positive = 0.008) -> Schedule:
        """ᾱ falls as a squared cosine, with β at most 0.999: fewer steps at pure noise than `linear`."""
        check_count(steps, "steps")
        if offset > 1:
            fail("offset", "a share of the chain, above 0 and at most 1", offset)
        place = (torch.arange(steps + 1, dtype=torch.float64, device="cpu") / steps + offset) / (1 + offset)
        alpha_bar = (place * math.pi / 2).cos().square()
        return cls.from_betas((1 - alpha_bar[1:] / alpha_bar[:-1]).clamp_max(0.999))

    @classmethod
    @typed
    def shifted(cls, steps: Length = 15, kappa: Positive = 1.0, power: Positive = 0.3) -> Schedule:
        """A short chain that shifts the truth into the start: signal = 1 − η, sigma = κ·√η.

        For data that are a difference from lr_hsi_up: at its end nothing of the difference is left, and the noise is
        `kappa` of its standard deviations, so that sampling begins near lr_hsi_up.

        Args:
            steps: T, at least 2; 4 to 15 are usual.
            kappa: noise at the end, in standard deviations of the data.
            power: √η grows geometrically in (t / (T − 1))^power, from at most 0.04/κ to √0.999; 1: plainly
                geometric, less: more steps at much noise.
        """
        check_count(steps, "steps", at_least=2)
        if not 1e-3 <= kappa <= 1e3:
            fail("kappa", "a size of the noise from 0.001 to 1000", kappa)
        if not 1e-2 <= power <= 10:
            fail("power", "an exponent from 0.01 to 10", power)
        first, last = min(0.04 / kappa, 0.001**0.5), 0.999**0.5
        growth = torch.linspace(0, 1, steps, dtype=torch.float64, device="cpu") ** power
        root = first * (last / first) ** growth  # √η
        return cls(1 - root.square(), kappa * root)

    @classmethod
    @typed
    def geometric(cls, steps: Length = 25, most: Finite = 20.0, least: Finite = 0.02) -> Schedule:
        """A short chain at unit size whose noise over data grows geometrically from `least` to `most`.

        For a network that was trained at all noise levels alike: every step halves (or so) what it has to find.

        Args:
            steps: T, at least 2.
            most: noise over data at the end.
            least: at the first step.

        Raises:
            ValueError: fewer steps, or a `least` that is not between 0 and `most`.
        """
        check_count(steps, "steps", at_least=2)
        if most > 1e6:
            fail("most", "at most a million", most)
        if not 0 < least < most:
            fail("least", f"a number > 0 and below `most`, {most}", least)
        ratio = least * (most / least) ** torch.linspace(0, 1, steps, dtype=torch.float64, device="cpu")
        level = (1 + ratio.square()).rsqrt()
        return cls(level, ratio * level)

    @property
    def steps(self) -> int:
        """T, the length of the chain."""
        return len(self.signal)

    @property
    def size(self) -> torch.Tensor:
        """√(signal² + sigma²) (T,): the standard deviation of x_t for data of unit variance; 1 if it is preserved."""
        return (self.signal.double().square() + self.sigma.double().square()).sqrt()

    @property
    def levels(self) -> torch.Tensor:
        """√ᾱ (T,) float64, the share of the data at unit size: 1 is clean, 0 is pure noise."""
        return self.signal / self.size

    @property
    def noises(self) -> torch.Tensor:
        """√(1 − ᾱ) (T,) float64, the share of the noise at unit size: levels² + noises² = 1."""
        return self.sigma / self.size

    @property
    def alpha_bar(self) -> torch.Tensor:
        """ᾱ (T,) float64: the share of the variance of x_t that is the data's, where the data have unit variance."""
        return self.levels.square()

    def noise_level(self, t: torch.Tensor) -> torch.Tensor:
        """`levels` (B,) at whole t (B,), in float32, as the network is told them."""
        return self.levels[t].float()

    def at(self, t: torch.Tensor, like: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """signal_t and sigma_t per sample, (B, 1, 1, 1), of the type and device of `like`."""
        return self.signal[t].reshape(-1, 1, 1, 1).to(like), self.sigma[t].reshape(-1, 1, 1, 1).to(like)

    @typed
    def trailing(self, steps: Length, start: Finite = 1.0) -> list[int]:
        """`steps` values of t, evenly spaced, that begin at the noisiest: T−1, or start·T − 1.

        Raises:
            ValueError: `start` outside (0, 1], or more steps than that part of the chain has.

        Example:
            >>> Schedule.linear(1000).trailing(4), Schedule.linear(1000).trailing(4, start=0.2)
            ([999, 749, 499, 249], [199, 149, 99, 49])
        """
        if not 0 < start <= 1:
            fail("start", "a share of the chain, above 0 and at most 1", start)
        length = max(1, round(start * self.steps))
        check_count(steps, "steps", at_most=length)
        return [round(length * (1 - i / steps)) - 1 for i in range(steps)]

    @typed
    def take(self, times: Sequence[int]) -> Schedule:
        """The chain of these t alone, which it keeps as its `times`; the order they are given in does not matter.

        Raises:
            ValueError: no t, one twice, or one that is not on this chain.

        Example:
            >>> short = Schedule.linear(1000).take([999, 499])
            >>> short.steps, short.times.tolist()
            (2, [499, 999])
        """
        places = sorted(times)
        if not places or len(set(places)) < len(places) or places[0] < 0 or places[-1] >= self.steps:
            fail("times", f"different whole numbers from 0 to {self.steps - 1}, at least one", list(times))
        return Schedule(self.signal[places], self.sigma[places], self.times[places])

    def descent(self) -> Iterator[tuple[int, Place, Place]]:
        """Walks from the noisiest step to the cleanest: (t, (level, noise), (next level, next noise)).

        Behind the last step there is the clean image, (1.0, 0.0).

        Example:
            >>> [t for t, here, there in Schedule.linear(1000).take([999, 499]).descent()]
            [999, 499]
        """
        times, places = self.times.tolist(), list(zip(self.levels.tolist(), self.noises.tolist()))
        for step in reversed(range(self.steps)):
            yield times[step], places[step], places[step - 1] if step else CLEAN


SCHEDULES: dict[str, Callable[[int], Schedule]] = {
    "linear": Schedule.linear, "cosine": Schedule.cosine, "shifted": Schedule.shifted,
}  # fmt: skip


@typed
def make_schedule(name: str, steps: Length) -> Schedule:
    """The chain of a name, `linear`, `cosine` or `shifted`, of T = `steps` steps.

    Raises:
        ValueError: another name, or too few steps.
    """
    check_choice(name, "name", SCHEDULES)
    return SCHEDULES[name](steps)
