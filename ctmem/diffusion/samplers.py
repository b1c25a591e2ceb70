"""Samplers: how noise is removed again.

A sampler is a function over a denoiser, which it may call as often as it likes:

    sampler(denoise, x, schedule, *, previous, generator=None, callback=None) → x̂0

| argument | what it is |
|---|---|
| `denoise` | `denoise(x, level, previous)` → x̂0, x at unit size, level (B,) float32: 1 is clean, 0 is pure noise |
| `x` | noisy data (B, Z, H, W) at unit size, at the noisiest step of the schedule |
| `schedule` | the steps to walk, all of them; `schedule.descent()` walks them |
| `previous` | the estimate that the first call is handed; later calls are handed that of the call before |
| `generator` | of every random number drawn |
| `callback` | called once per step with (step, t, x, x̂0), x̂0 of the first call at that step |

`sample` starts any such function from noise. A reader's own one is as good as those here:

    def one_call(denoise, x, schedule, *, previous, generator=None, callback=None):
        return denoise(x, at_level(schedule.levels[-1], x), previous)

Source: Ho et al., "Denoising diffusion probabilistic models", 2020 (DDPM); Song et al., "Denoising diffusion implicit
models", 2021 (DDIM); Lu et al., "DPM-Solver++", 2022 (second-order multistep); Karras et al., "Elucidating the design
space of diffusion-based generative models", 2022 (Heun, EDM). Tested against the schedulers of diffusers.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Protocol

import torch

from ctmem.checks import Finite, as_image, check_choice, door, fail, typed
from ctmem.diffusion.objective import PREDICTIONS, Denoise, standard_normal, to_x0
from ctmem.diffusion.schedule import Place, Schedule

NOISE_ALONE = 0.1  # level up to which noise alone stands for x; its mean is wrong by that share of the data's
Callback = Callable[[int, int, torch.Tensor, torch.Tensor], None]  # (step, t, x, x̂0)


class Sampler(Protocol):
    """The form of a sampler; what its arguments are stands at the top of this module."""

    def __call__(
        self,
        denoise: Denoise,
        x: torch.Tensor,
        schedule: Schedule,
        *,
        previous: torch.Tensor,
        generator: torch.Generator | None = None,
        callback: Callback | None = None,
    ) -> torch.Tensor:
        """Returns x̂0 (B, Z, H, W)."""


# --- samplers ---------------------------------------------------------------------------------------------------------


def sample_ddim(
    denoise: Denoise,
    x: torch.Tensor,
    schedule: Schedule,
    *,
    previous: torch.Tensor,
    generator: torch.Generator | None = None,  # noqa: ARG001  (all samplers take it)
    callback: Callback | None = None,
) -> torch.Tensor:
    """DDIM: keeps the noise that x and x̂0 imply; draws none. One call per step."""
    x0 = previous
    for step, (t, here, there) in enumerate(schedule.descent()):
        x0 = denoise(x, at_level(here[0], x), x0)
        _report(callback, step, t, x, x0)
        x = move(x, x0, here, there)
    return x


def sample_ddpm(
    denoise: Denoise,
    x: torch.Tensor,
    schedule: Schedule,
    *,
    previous: torch.Tensor,
    generator: torch.Generator | None = None,
    callback: Callback | None = None,
) -> torch.Tensor:
    """DDPM: draws from the posterior q(x_next | x, x̂0), with the variance of the skipped steps together.

    The chain is the Markov chain x = ratio · x_next + noise that has the schedule's q(x | x_0). One call per step.
    """
    x0 = previous
    for step, (t, (level, noise), (level_next, noise_next)) in enumerate(schedule.descent()):
        x0 = denoise(x, at_level(level, x), x0)
        _report(callback, step, t, x, x0)
        ratio = level / level_next
        added = noise**2 - (ratio * noise_next) ** 2  # variance of the skipped steps
        x = (level_next * added * x0 + ratio * noise_next**2 * x) / noise**2
        if noise_next > 0:
            x = x + added**0.5 * noise_next / noise * standard_normal(x, generator)
    return x0


def sample_dpmpp(
    denoise: Denoise,
    x: torch.Tensor,
    schedule: Schedule,
    *,
    previous: torch.Tensor,
    generator: torch.Generator | None = None,  # noqa: ARG001  (all samplers take it)
    callback: Callback | None = None,
) -> torch.Tensor:
    """DPM-Solver++(2M): extrapolates x̂0 from the last two estimates in λ = log(level/noise). One call per step.

    The first step has only one estimate, and is DDIM's; so is the last, which ends at λ = ∞.
    """
    x0, lam_before = previous, None
    for step, (t, here, there) in enumerate(schedule.descent()):
        x0_before, x0 = x0, denoise(x, at_level(here[0], x), x0)
        _report(callback, step, t, x, x0)
        estimate, lam = x0, math.log(here[0] / here[1]) if here[0] > 0 else -math.inf
        if lam_before is not None and there[1] > 0:
            ratio = (lam - lam_before) / (math.log(there[0] / there[1]) - lam)
            estimate = x0 + (x0 - x0_before) / (2 * ratio)
        x, lam_before = move(x, estimate, here, there), lam
    return x


def sample_heun(
    denoise: Denoise,
    x: torch.Tensor,
    schedule: Schedule,
    *,
    previous: torch.Tensor,
    generator: torch.Generator | None = None,  # noqa: ARG001  (all samplers take it)
    callback: Callback | None = None,
) -> torch.Tensor:
    """Heun's second-order method on the probability flow; draws no noise. 2·N − 1 calls for N steps.

    It trusts x̂0 at both ends of a step alike, and needs steps over which noise/level falls a few times, not a thousand:
    `shifted` and `geometric` chains of fewer than 10 steps scatter too widely by it, those of 2 without bound.
    """
    for step, (t, here, there) in enumerate(schedule.descent()):
        x0 = denoise(x, at_level(here[0], x), previous)
        _report(callback, step, t, x, x0)
        x, previous = heun_step(denoise, x, x0, here, there)
    return x


def sample_edm(
    denoise: Denoise,
    x: torch.Tensor,
    schedule: Schedule,
    *,
    previous: torch.Tensor,
    generator: torch.Generator | None = None,
    callback: Callback | None = None,
    s_churn: float = 2.0,
    s_min: float = 0.05,
    s_max: float = 50.0,
    s_noise: float = 1.0,
) -> torch.Tensor:
    """The stochastic sampler of EDM: each step adds a little fresh noise, then takes Heun's step. 2·N − 1 calls.

    sigma = noise/level grows by a share `s_churn`/N of itself in each step, at most by √2 − 1, where it lies from
    `s_min` to `s_max`. `s_noise` is the standard deviation of the fresh noise: a little above 1 makes up for a network
    that takes out too much. With `s_churn` 0 it is `sample_heun`; `functools.partial(sample_edm, s_churn=5)` is a
    sampler, too.
    """
    growth = 1 + min(s_churn / schedule.steps, math.sqrt(2) - 1)
    for step, (t, here, there) in enumerate(schedule.descent()):
        sigma = here[1] / here[0] if here[0] > 0 else math.inf
        if s_churn > 0 and s_min <= sigma <= s_max:
            fresh = math.sqrt(growth**2 - 1) * sigma * s_noise * standard_normal(x, generator)
            before, here = here, _place(growth * sigma)
            x = here[0] * (x / before[0] + fresh)
        x0 = denoise(x, at_level(here[0], x), previous)
        _report(callback, step, t, x, x0)
        x, previous = heun_step(denoise, x, x0, here, there)
    return x


SAMPLERS: dict[str, Sampler] = {
    "ddpm": sample_ddpm,
    "ddim": sample_ddim,
    "dpmpp": sample_dpmpp,
    "heun": sample_heun,
    "edm": sample_edm,
}  # names for presets


# --- what they are made of --------------------------------------------------------------------------------------------


def at_level(level: float, x: torch.Tensor) -> torch.Tensor:
    """One level for every sample of x (B, Z, H, W), as a denoiser is told it: (B,) float32."""
    return torch.full((len(x),), float(level), dtype=torch.float32, device=x.device)


def move(x: torch.Tensor, x0: torch.Tensor, here: Place, there: Place) -> torch.Tensor:
    """Takes out the noise that x (B, Z, H, W) and x̂0 imply, and mixes both again for another place on the chain.

    This is Euler's step on the probability flow in sigma = noise/level; exact where x̂0 does not change on the way.

    Args:
        x: noisy data at unit size.
        x0: estimate of the clean data.
        here: (level, noise) of x.
        there: those wanted; (1, 0) is the clean image, and gives x̂0 itself.
    """
    noise = (x - here[0] * x0) / here[1]
    return there[0] * x0 + there[1] * noise


def heun_step(
    denoise: Denoise, x: torch.Tensor, x0: torch.Tensor, here: Place, there: Place
) -> tuple[torch.Tensor, torch.Tensor]:
    """Heun's step in sigma = noise/level, given x̂0 at its beginning: the x at its end, and the last estimate.

    The mean of the slopes (x̄ − x̂0)/sigma, x̄ = x/level, at both ends is the slope of Euler's step with the estimate
    x̂0 + (x̂0_there − x̂0) · sigma/(2·sigma_there). A step to the clean image is Euler's, and so is one from noise
    alone.
    """
    ahead = move(x, x0, here, there)
    if there[1] == 0 or here[0] == 0:
        return ahead, x0
    x0_there = denoise(ahead, at_level(there[0], x), x0)
    ratio = (here[1] / here[0]) / (there[1] / there[0])
    return move(x, x0 + (x0_there - x0) * (ratio / 2), here, there), x0_there


def _place(sigma: float) -> Place:
    """(level, noise) of a sigma = noise/level."""
    size = math.hypot(1, sigma)
    return 1 / size, sigma / size


def _report(callback: Callback | None, step: int, t: int, x: torch.Tensor, x0: torch.Tensor) -> None:
    """Calls what may be None."""
    if callback is not None:
        callback(step, t, x, x0)


# --- from noise to an answer ------------------------------------------------------------------------------------------


@door
def sample(
    denoise: Denoise,
    x0_start: torch.Tensor,
    schedule: Schedule,
    *,
    steps: int = 10,
    sampler: Sampler = sample_ddim,
    start: Finite = 1.0,
    prediction: str = "x0",
    generator: torch.Generator | None = None,
    callback: Callback | None = None,
) -> torch.Tensor:
    """Draws x_0 by removing noise from x_{T−1}; (B, Z, H, W).

    Args:
        denoise: the network, or an oracle; what it returns means what `prediction` says.
        x0_start: the estimate before the first call (lr_hsi_up, encoded), (B, Z, H, W).
        schedule: the chain.
        steps: of the chain that are walked, evenly spaced. Most samplers call the network once per step, `sample_heun`
            and `sample_edm` twice. `sample_ddpm` with steps = T is the full chain of the paper.
        sampler: `sample_ddim`, or any function of that form, see the top of this module.
        start: where the chain is entered: 1 at its end, from noise alone, which must be what is left there; less: at
            t = start·T − 1, from `x0_start` with the noise of that step.
        prediction: what the network puts out: `x0`, `eps` or `v`. Samplers and `callback` see x̂0.
        generator: of every random number drawn here.
        callback: called once per step with (step, t, x, x̂0), x at unit size.

    Raises:
        TypeError: `sampler` is not a function; `x0_start` is not a floating-point image.
        ValueError: an unknown prediction, `start` outside (0, 1], or `steps` outside 1 … start·T; a chain that does
            not end near pure noise, entered at its end; a sampler whose answer has another shape.
    """
    check_sampler(sampler)
    check_choice(prediction, "prediction", PREDICTIONS)
    x0_start = as_image(x0_start, "x0_start", double=True)
    chain = schedule.take(schedule.trailing(steps, start))
    # what the sampler begins with: noise alone, or the start with the noise of the first step
    _, (level, noise), _ = next(chain.descent())
    if start == 1 and level > NOISE_ALONE:
        expected = f"a chain that ends near pure noise, at a level of at most {NOISE_ALONE}, or one with a `start` < 1"
        fail("schedule", expected, f"one that ends at a level of {level:.3g}")
    x = standard_normal(x0_start, generator)
    if start < 1:
        x = level * x0_start + noise * x

    def estimate(x: torch.Tensor, level: torch.Tensor, previous: torch.Tensor) -> torch.Tensor:
        return to_x0(denoise(x, level, previous), x, level, prediction)

    found = sampler(estimate, x, chain, previous=x0_start, generator=generator, callback=callback)
    if not isinstance(found, torch.Tensor) or found.shape != x.shape:
        got = f"shape {tuple(found.shape)}" if isinstance(found, torch.Tensor) else type(found).__name__
        fail("sampler", f"a function that returns an image of shape {tuple(x.shape)}", f"one that returns {got}")
    if not bool(torch.isfinite(torch.stack(found.detach().aminmax())).all()):  # a sampler may be a stranger's
        fail("sampler", "a function that returns finite images", "one that returned NaN or infinite values")
    return found.to(x)


@typed
def check_sampler(sampler: object) -> None:
    """Raises unless it can be called.

    Raises:
        TypeError: something else: a name, say.
    """
    if not callable(sampler):
        fail("sampler", "a function such as `sample_ddim`", repr(sampler), TypeError)
