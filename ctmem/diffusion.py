"""The diffusion: how noise is added, how it is learned, how it is removed again.

Nothing here knows a network. Everything takes a callable

    denoise(x_t, noise_level, x0_previous) → x̂0

with x_t, x0_previous and x̂0 of shape (B, K, H, W) and `noise_level` (B,), the level of the x_t it is handed:
**1 is clean, 0 is pure noise**. `x0_previous` is the estimate of the step before (self-conditioning).

| paper | code | meaning |
|---|---|---|
| T | `Schedule.steps` | length of the chain |
| β_t | `betas` | variance added at step t = 0 … T−1 |
| ᾱ_t | `alpha_bar[t]` | Π (1 − β_s), s ≤ t: the share of x_0's variance that is left |
| √ᾱ_t | `noise_level` | what the network is told |

Source: Ho et al., "Denoising diffusion probabilistic models", 2020 (forward process, DDPM); Song et al., "Denoising
diffusion implicit models", 2021 (DDIM); Lu et al., "DPM-Solver++", 2022 (second-order multistep); Chen et al.,
"Analog bits", 2023 (self-conditioning). Tested against the schedulers of diffusers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from ctmem.checks import check_choice, check_count, fail

Denoise = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]
Callback = Callable[[int, int, torch.Tensor, torch.Tensor], None]  # (step, t, x_t, x̂0)


@dataclass(frozen=True)
class Schedule:
    """Variances of the chain; `alpha_bar` (T,) falls from almost 1 to almost 0."""

    betas: torch.Tensor
    alpha_bar: torch.Tensor

    @classmethod
    def linear(cls, steps: int = 2000, first: float = 1e-4, last: float = 2e-2) -> Schedule:
        """β grows linearly from `first` to `last` over `steps` steps; computed in float64."""
        check_count(steps, "steps")
        betas = torch.linspace(first, last, steps, dtype=torch.float64)
        return cls(betas, torch.cumprod(1 - betas, 0))

    @property
    def steps(self) -> int:
        """T, the length of the chain."""
        return len(self.betas)

    def noise_level(self, t: torch.Tensor) -> torch.Tensor:
        """√ᾱ_t (B,) float32 for whole t (B,): 1 is clean, 0 is pure noise."""
        return self.alpha_bar[t].sqrt().float()

    def trailing(self, steps: int) -> list[int]:
        """`steps` values of t, evenly spaced, that begin at T−1: the sampler starts where the noise is pure.

        Example:
            >>> Schedule.linear(1000).trailing(4)
            [999, 749, 499, 249]
        """
        check_count(steps, "steps", at_most=self.steps)
        return [round(self.steps * (1 - i / steps)) - 1 for i in range(steps)]


def add_noise(x0: torch.Tensor, t: torch.Tensor, noise: torch.Tensor, schedule: Schedule) -> torch.Tensor:
    """x_t ~ q(x_t | x_0) = N(√ᾱ_t x_0, (1 − ᾱ_t) I), with the noise given.

    Args:
        x0: clean data (B, K, H, W).
        t: whole numbers (B,) in 0 … T−1, one per sample.
        noise: standard normal, of the shape of `x0`.
        schedule: the chain.

    Raises:
        ValueError: `t` is not one per sample.
    """
    if t.shape != (len(x0),):
        fail("t", f"one step per sample, shape ({len(x0)},)", f"shape {tuple(t.shape)}")
    signal, sigma = _signal_and_sigma(schedule, t, x0)
    return signal * x0 + sigma * noise


def standard_normal(like: torch.Tensor, generator: torch.Generator | None = None) -> torch.Tensor:
    """N(0, 1) of the shape of `like`, drawn where the generator lives (the CPU without one), moved to `like`."""
    device = generator.device if generator is not None else "cpu"
    return torch.randn(like.shape, generator=generator, device=device).to(like)


def draw_steps(batch: int, schedule: Schedule, generator: torch.Generator | None = None) -> torch.Tensor:
    """One t per sample, uniform over 0 … T−1, both included; shape (batch,)."""
    return torch.randint(0, schedule.steps, (batch,), generator=generator)


def training_loss(
    denoise: Denoise,
    x0: torch.Tensor,
    x0_start: torch.Tensor,
    schedule: Schedule,
    *,
    weight: torch.Tensor | float = 1.0,
    self_condition: float = 0.5,
    generator: torch.Generator | None = None,
) -> torch.Tensor:
    """Mean (weighted) L1 distance between x̂0 and `x0`, at one random t per sample; a scalar.

    Args:
        denoise: the network.
        x0: clean data (B, K, H, W).
        x0_start: what stands in for the previous estimate at the first step (lr_hsi_up, encoded).
        schedule: the chain.
        weight: of each channel's error, broadcast to (B, K, H, W).
        self_condition: chance that this call hands the network its own, detached estimate instead.
        generator: of every random number drawn here.
    """
    t = draw_steps(len(x0), schedule, generator)
    x_t = add_noise(x0, t, standard_normal(x0, generator), schedule)
    level, previous = schedule.noise_level(t).to(x0.device), x0_start
    if torch.rand((), generator=generator) < self_condition:
        with torch.no_grad():
            previous = denoise(x_t, level, x0_start)
    return ((denoise(x_t, level, previous) - x0).abs() * weight).mean()


def sample(
    denoise: Denoise,
    x0_start: torch.Tensor,
    schedule: Schedule,
    *,
    steps: int = 10,
    sampler: str = "ddim",
    generator: torch.Generator | None = None,
    callback: Callback | None = None,
) -> torch.Tensor:
    """Draws x_0 by removing noise from x_{T−1}; (B, K, H, W).

    Args:
        denoise: the network, or an oracle.
        x0_start: the estimate before the first step (lr_hsi_up, encoded); gives the shape.
        schedule: the chain.
        steps: network calls; the `ddpm` sampler with steps = T is the full chain of the paper.
        sampler: `ddpm` (random at every step), `ddim` (no noise after the first), `dpmpp` (second order).
        generator: of every random number drawn here.
        callback: called after every network call with (step, t, x_t, x̂0).

    Raises:
        ValueError: an unknown sampler, or `steps` outside 1 … T.
    """
    check_choice(sampler, "sampler", SAMPLERS)
    times = schedule.trailing(steps)
    step_rule = SAMPLERS[sampler]
    x, x0, history = standard_normal(x0_start, generator), x0_start, []
    for i, t in enumerate(times):
        level = schedule.noise_level(torch.full((len(x),), t)).to(x.device)
        x0 = denoise(x, level, x0)
        if callback is not None:
            callback(i, t, x, x0)
        history = [*history[-1:], (t, x0)]
        x = x0 if t == times[-1] else step_rule(x, history, times[i + 1], schedule, generator)
    return x


def ddim_step(x, history, t_next, schedule, generator=None) -> torch.Tensor:
    """Keeps the noise direction that x_t and x̂0 imply, and rescales both to the level of `t_next`."""
    t, x0 = history[-1]
    signal, sigma = _scalars(schedule, t)
    signal_next, sigma_next = _scalars(schedule, t_next)
    return signal_next * x0 + sigma_next * (x - signal * x0) / sigma


def ddpm_step(x, history, t_next, schedule, generator=None) -> torch.Tensor:
    """Draws from the posterior q(x_{t_next} | x_t, x̂0), with the variance of the skipped steps together."""
    t, x0 = history[-1]
    a, a_next = float(schedule.alpha_bar[t]), float(schedule.alpha_bar[t_next])
    alpha = a / a_next  # Π (1 − β) over the skipped steps
    mean = (a_next**0.5 * (1 - alpha) * x0 + alpha**0.5 * (1 - a_next) * x) / (1 - a)
    variance = (1 - alpha) * (1 - a_next) / (1 - a)
    return mean + variance**0.5 * standard_normal(x, generator)


def dpmpp_step(x, history, t_next, schedule, generator=None) -> torch.Tensor:
    """DPM-Solver++(2M): extrapolates x̂0 from the last two estimates in λ = log(signal/σ); the first step is DDIM."""
    if len(history) == 1:
        return ddim_step(x, history, t_next, schedule)
    (t_before, x0_before), (t, x0) = history
    lam_before, lam, lam_next = (_half_log_snr(schedule, s) for s in (t_before, t, t_next))
    ratio = (lam - lam_before) / (lam_next - lam)
    estimate = x0 + (x0 - x0_before) / (2 * ratio)
    return ddim_step(x, [(t, estimate)], t_next, schedule)


SAMPLERS: dict[str, Callable[..., torch.Tensor]] = {"ddpm": ddpm_step, "ddim": ddim_step, "dpmpp": dpmpp_step}


def _scalars(schedule: Schedule, t: int) -> tuple[float, float]:
    """√ᾱ_t and √(1 − ᾱ_t)."""
    a = float(schedule.alpha_bar[t])
    return a**0.5, (1 - a) ** 0.5


def _half_log_snr(schedule: Schedule, t: int) -> float:
    """λ_t = log(√ᾱ_t / √(1 − ᾱ_t))."""
    a = schedule.alpha_bar[t]
    return float(0.5 * torch.log(a / (1 - a)))


def _signal_and_sigma(schedule: Schedule, t: torch.Tensor, like: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """√ᾱ_t and √(1 − ᾱ_t) per sample, shaped to multiply (B, K, H, W)."""
    a = schedule.alpha_bar[t].reshape(-1, 1, 1, 1)
    return a.sqrt().to(like), (1 - a).sqrt().to(like)
