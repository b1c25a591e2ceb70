"""Samplers: how noise is removed again, step by step.

Source: Ho et al., "Denoising diffusion probabilistic models", 2020 (DDPM); Song et al., "Denoising
diffusion implicit models", 2021 (DDIM); Lu et al., "DPM-Solver++", 2022 (second-order multistep). Tested against the
schedulers of diffusers.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch

from ctmem.checks import check_choice
from ctmem.diffusion.objective import Denoise, _run, standard_normal, to_x0
from ctmem.diffusion.schedule import Schedule

Callback = Callable[[int, int, torch.Tensor, torch.Tensor], None]  # (step, t, x_t, x̂0)


def sample(
    denoise: Denoise,
    x0_start: torch.Tensor,
    schedule: Schedule,
    *,
    steps: int = 10,
    sampler: str = "ddim",
    start: float = 1.0,
    prediction: str = "x0",
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
        start: where the chain is entered: 1 at its end, from noise alone; less: at t = start·T − 1, from `x0_start`
            with the noise of that step.
        prediction: what the network puts out: `x0`, `eps` or `v`.
        generator: of every random number drawn here.
        callback: called after every network call with (step, t, x_t, x̂0).

    Raises:
        ValueError: an unknown sampler or prediction, `start` outside (0, 1], or `steps` outside 1 … start·T.
    """
    check_choice(sampler, "sampler", SAMPLERS)
    times = schedule.trailing(steps, start)
    x, x0, history = _enter(x0_start, times[0], start, schedule, generator), x0_start, []
    for i, t in enumerate(times):
        each = torch.full((len(x),), t)
        x0 = to_x0(_run(denoise, x, each, x0, schedule), x, each, schedule, prediction)
        if callback is not None:
            callback(i, t, x, x0)
        history = [*history[-1:], (t, x0)]
        x = x0 if t == times[-1] else SAMPLERS[sampler](x, history, times[i + 1], schedule, generator)
    return x


def ddim_step(x, history, t_next, schedule, generator=None) -> torch.Tensor:
    """Keeps the noise direction that x_t and x̂0 imply, and rescales both to the level of `t_next`."""
    t, x0 = history[-1]
    signal, sigma = _scalars(schedule, t)
    signal_next, sigma_next = _scalars(schedule, t_next)
    return signal_next * x0 + sigma_next * (x - signal * x0) / sigma


def ddpm_step(x, history, t_next, schedule, generator=None) -> torch.Tensor:
    """Draws from the posterior q(x_{t_next} | x_t, x̂0), with the variance of the skipped steps together.

    The chain is the Markov chain x_t = ratio · x_{t_next} + noise that has the schedule's q(x_t | x_0).
    """
    t, x0 = history[-1]
    signal, sigma = _scalars(schedule, t)
    signal_next, sigma_next = _scalars(schedule, t_next)
    ratio = signal / signal_next
    added = sigma**2 - (ratio * sigma_next) ** 2  # variance of the skipped steps
    mean = (signal_next * added * x0 + ratio * sigma_next**2 * x) / sigma**2
    return mean + added**0.5 * sigma_next / sigma * standard_normal(x, generator)


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


def _enter(x0_start: torch.Tensor, t: int, start: float, schedule: Schedule, generator) -> torch.Tensor:
    """The x_t that sampling begins with."""
    noise = standard_normal(x0_start, generator)
    if start == 1:
        return float(schedule.size[t]) * noise
    signal, sigma = _scalars(schedule, t)
    return signal * x0_start + sigma * noise


def _scalars(schedule: Schedule, t: int) -> tuple[float, float]:
    """signal_t and sigma_t."""
    return float(schedule.signal[t]), float(schedule.sigma[t])


def _half_log_snr(schedule: Schedule, t: int) -> float:
    """λ_t = log(signal_t / sigma_t)."""
    signal, sigma = _scalars(schedule, t)
    return math.log(signal / sigma)
