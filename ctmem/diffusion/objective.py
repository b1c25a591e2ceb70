"""The diffusion's forward side: how noise is added, and what a network learns from it.

Nothing here knows a network. Everything takes a callable

    denoise(x_t, noise_level, x0_previous) → x̂0

with x_t, x0_previous and x̂0 of shape (B, K, H, W) and `noise_level` (B,), the level of the x_t it is handed:
**1 is clean, 0 is pure noise**. `x0_previous` is the estimate of the step before (self-conditioning). A network may
also put out the noise or the velocity instead of x̂0: `prediction` says what its output means.

The chain x_t = signal_t · x_0 + sigma_t · ε is a `Schedule`. The network is handed x_t at unit size, divided by
√(signal² + sigma²), so that its level alone says how noisy it is: a network fits every chain, and so do the samplers.

Source: Ho et al., "Denoising diffusion probabilistic models", 2020 (forward process); Salimans and Ho,
"Progressive distillation", 2022 (velocity); Chen et al., "Analog bits", 2023 (self-conditioning).
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from ctmem.checks import check_choice, fail
from ctmem.diffusion.schedule import Schedule

Denoise = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]
PREDICTIONS = ("x0", "eps", "v")
X0_LIMIT = 10.0  # of the x̂0 made from a predicted noise, in standard deviations of the data


def add_noise(x0: torch.Tensor, t: torch.Tensor, noise: torch.Tensor, schedule: Schedule) -> torch.Tensor:
    """x_t ~ q(x_t | x_0) = N(signal_t · x_0, sigma_t² I), with the noise given.

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
    signal, sigma = schedule.at(t, x0)
    return signal * x0 + sigma * noise


def to_x0(
    output: torch.Tensor, x_t: torch.Tensor, t: torch.Tensor, schedule: Schedule, prediction: str = "x0"
) -> torch.Tensor:
    """x̂0 (B, K, H, W) that a network's output implies.

    Close to pure noise an error of ε̂ grows by sigma/signal, without bound: there x̂0 is kept within `X0_LIMIT`.

    Args:
        output: of the network, (B, K, H, W).
        x_t: the noisy data it was made from, not scaled.
        t: step of each sample, (B,).
        schedule: the chain.
        prediction: what the output means: `x0`, `eps` (the noise) or `v` (the velocity).

    Raises:
        ValueError: another prediction.
    """
    check_choice(prediction, "prediction", PREDICTIONS)
    if prediction == "x0":
        return output
    signal, sigma = schedule.at(t, x_t)
    if prediction == "eps":
        return ((x_t - sigma * output) / signal).clamp(-X0_LIMIT, X0_LIMIT)
    size = (signal.square() + sigma.square()).sqrt()
    return (signal * x_t / size - sigma * output) / size


def to_output(
    x0: torch.Tensor, noise: torch.Tensor, t: torch.Tensor, schedule: Schedule, prediction: str = "x0"
) -> torch.Tensor:
    """What a network should put out for x_t = signal_t · x0 + sigma_t · noise; undoes `to_x0`.

    Raises:
        ValueError: another prediction.
    """
    check_choice(prediction, "prediction", PREDICTIONS)
    if prediction != "v":
        return noise if prediction == "eps" else x0
    signal, sigma = schedule.at(t, x0)
    return (signal * noise - sigma * x0) / (signal.square() + sigma.square()).sqrt()


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
    prediction: str = "x0",
    weight: torch.Tensor | float = 1.0,
    self_condition: float = 0.5,
    generator: torch.Generator | None = None,
) -> torch.Tensor:
    """Mean (weighted) L1 distance of the network's output from what it should be, at one random t per sample; a scalar.

    Args:
        denoise: the network.
        x0: clean data (B, K, H, W).
        x0_start: what stands in for the previous estimate at the first step (lr_hsi_up, encoded).
        schedule: the chain.
        prediction: what the network puts out: `x0`, `eps` or `v`.
        weight: of each channel's error, broadcast to (B, K, H, W).
        self_condition: chance that this call hands the network its own, detached estimate instead.
        generator: of every random number drawn here.

    Raises:
        ValueError: another prediction.
    """
    t, noise = draw_steps(len(x0), schedule, generator), standard_normal(x0, generator)
    x_t, previous = add_noise(x0, t, noise, schedule), x0_start
    if torch.rand((), generator=generator) < self_condition:
        with torch.no_grad():
            previous = to_x0(_run(denoise, x_t, t, x0_start, schedule), x_t, t, schedule, prediction)
    output = _run(denoise, x_t, t, previous, schedule)
    return ((output - to_output(x0, noise, t, schedule, prediction)).abs() * weight).mean()


def _run(
    denoise: Denoise, x_t: torch.Tensor, t: torch.Tensor, x0_previous: torch.Tensor, schedule: Schedule
) -> torch.Tensor:
    """The network's output for x_t, which it is handed at unit size, with its level."""
    size = schedule.size[t].reshape(-1, 1, 1, 1).to(x_t)
    return denoise(x_t / size, schedule.noise_level(t).to(x_t.device), x0_previous)
