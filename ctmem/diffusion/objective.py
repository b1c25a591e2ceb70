"""The diffusion's forward side: how noise is added, and what a network learns from it.

Nothing here knows a network. Everything takes a callable

    denoise(x, level, previous) → x̂0

with x, previous and x̂0 of shape (B, Z, H, W). `x` is noisy data at unit size, level · x_0 + √(1 − level²) · ε, and
`level` (B,) float32 says how noisy: **1 is clean, 0 is pure noise**. So a network fits every chain. `previous` is the
estimate of the call before (self-conditioning). A network may also put out the noise or the velocity instead of x̂0:
`prediction` says what its output means.

Source: Ho et al., "Denoising diffusion probabilistic models", 2020 (forward process); Salimans and Ho,
"Progressive distillation", 2022 (velocity); Chen et al., "Analog bits", 2023 (self-conditioning).
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from ctmem.checks import check_choice, double, fail, typed
from ctmem.diffusion.schedule import Schedule

Denoise = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]
PREDICTIONS = ("x0", "eps", "v")
X0_LIMIT = 10.0  # of the x̂0 made from a predicted noise, in standard deviations of the data


def add_noise(x0: torch.Tensor, t: torch.Tensor, noise: torch.Tensor, schedule: Schedule) -> torch.Tensor:
    """x_t ~ q(x_t | x_0) = N(signal_t · x_0, sigma_t² I), with the noise given; not divided by its size.

    Args:
        x0: clean data (B, Z, H, W).
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


def to_x0(output: torch.Tensor, x: torch.Tensor, level: torch.Tensor, prediction: str = "x0") -> torch.Tensor:
    """x̂0 (B, Z, H, W) that a network's output implies.

    Close to pure noise an error of ε̂ grows by noise/level, without bound: there x̂0 is kept within `X0_LIMIT`. Pure
    noise itself says nothing of the data, and x̂0 is 0, their mean.

    Args:
        output: of the network, (B, Z, H, W).
        x: the noisy data it was made from, at unit size.
        level: of each sample, (B,).
        prediction: what the output means: `x0`, `eps` (the noise) or `v` (the velocity).

    Raises:
        ValueError: another prediction.
    """
    check_choice(prediction, "prediction", PREDICTIONS)
    if prediction == "x0":
        return output
    data, rest = _shares(level, x)
    if prediction == "eps":
        return torch.where(data > 0, ((x - rest * output) / data).clamp(-X0_LIMIT, X0_LIMIT), 0.0)
    return data * x - rest * output


def to_output(x0: torch.Tensor, noise: torch.Tensor, level: torch.Tensor, prediction: str = "x0") -> torch.Tensor:
    """What a network should put out for x = level · x0 + √(1 − level²) · noise; undoes `to_x0`.

    Args:
        x0: clean data (B, Z, H, W).
        noise: standard normal, of the shape of `x0`.
        level: of each sample, (B,).
        prediction: what the network puts out: `x0`, `eps` or `v`.

    Raises:
        ValueError: another prediction.
    """
    check_choice(prediction, "prediction", PREDICTIONS)
    if prediction != "v":
        return noise if prediction == "eps" else x0
    data, rest = _shares(level, x0)
    return data * noise - rest * x0


def standard_normal(like: torch.Tensor, generator: torch.Generator | None = None) -> torch.Tensor:
    """N(0, 1) of the shape of `like`, drawn where the generator lives (the CPU without one), moved to `like`."""
    device = generator.device if generator is not None else "cpu"
    return torch.randn(like.shape, generator=generator, device=device).to(like)


def draw_steps(batch: int, schedule: Schedule, generator: torch.Generator | None = None) -> torch.Tensor:
    """One t per sample, uniform over 0 … T−1, both included; shape (batch,)."""
    return torch.randint(0, schedule.steps, (batch,), generator=generator)


@typed
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
        denoise: the network; what it returns means what `prediction` says.
        x0: clean data (B, Z, H, W).
        x0_start: what stands in for the previous estimate at the first call.
        schedule: the chain.
        prediction: what the network puts out: `x0`, `eps` or `v`.
        weight: of each channel's error, broadcast to (B, Z, H, W).
        self_condition: chance that this call hands the network its own, detached estimate instead.
        generator: of every random number drawn here.

    Raises:
        ValueError: another prediction.
    """
    check_choice(prediction, "prediction", PREDICTIONS)
    # noisy data at unit size, each sample at a t of its own
    t = draw_steps(len(x0), schedule, generator)
    noise = standard_normal(x0, generator)
    level = schedule.noise_level(t).to(x0.device)
    x = add_noise(x0, t, noise, schedule) / schedule.size[t].reshape(-1, 1, 1, 1).to(x0)
    # the estimate before: what the call starts from, or the network's own
    previous = x0_start
    if torch.rand((), generator=generator) < self_condition:
        with torch.no_grad():
            previous = to_x0(denoise(x, level, x0_start), x, level, prediction)
    error = denoise(x, level, previous) - to_output(x0, noise, level, prediction)
    return (error.abs() * weight).mean()


def _shares(level: torch.Tensor, like: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """What x at unit size has of the data and of the noise, level and √(1 − level²), each (B, 1, 1, 1) as `like`."""
    level = double(level).reshape(-1, 1, 1, 1)
    return level.to(like), (1 - level.square()).clamp_min(0).sqrt().to(like)
