"""The recipe of a scene: what its statistics say of blur and noise, and how far back-projection may go.

    recipe = make_recipe(survey, scale=3)                        # all is estimated
    recipe = make_recipe(survey, scale=4, psf=4.0, noise=35.0)   # FWHM in fine pixels, SNR in dB
    pred = answer(recipe, lr)                                    # see `answering`

Source: this project.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

import torch

from ctmem.checks import Inside, Scale, as_psf, check_choice, check_count, described, fail, is_finite_number, typed
from ctmem.holes import open_holes, split_holes
from ctmem.networks.component_prior import SCALES
from ctmem.observe.camera import Camera
from ctmem.observe.coarse import apply, blurs_of
from ctmem.observe.estimate import LEAST, estimate_fwhm
from ctmem.observe.noise import noise_of_bands
from ctmem.observe.optics import gaussian_psf
from ctmem.prior import COMPONENTS
from ctmem.tiling.answering import METHODS, Recipe, answer, sharpened

__all__ = ["METHODS", "Recipe", "Surveyed", "answer", "make_recipe"]

AUTO = "auto"
FAINT = 1e-6  # deviation of a direction, over that of the strongest, below which it is rounding
STRENGTH = 1.0  # of the damping: over the signal-to-noise ratio of what is missing in a direction
LEAST_DAMPING = 0.02  # however clear the image: the blur is not known exactly
MOST_DAMPING = 10.0  # beyond it a direction is left as bicubic enlargement has it


class Surveyed(Protocol):
    """What a recipe asks of a survey: statistics of the whole pixels, in the numbers of the file."""

    @property
    def count(self) -> int:
        """How many whole pixels there are."""

    @property
    def mean(self) -> torch.Tensor:
        """Of the bands, (C,) float64."""

    @property
    def covariance(self) -> torch.Tensor:
        """Of the bands, (C, C) float64; zeros in bad ones."""

    @property
    def good(self) -> torch.Tensor:
        """Bands that count, (C,) bool."""

    @property
    def level(self) -> float:
        """What 1.0 stands for, where a method wants [0, 1]."""

    @property
    def samples(self) -> Sequence[torch.Tensor]:
        """Windows of the scene, (1, C, s, s) float32 each, NaN in holes."""


@typed
@torch.no_grad()
def make_recipe(
    survey: Surveyed,
    *,
    scale: Scale = 4,
    psf: Inside[str | float | torch.Tensor] = AUTO,
    noise: Inside[str | float | torch.Tensor | None] = AUTO,
    method: str = "prior",
    seed: int = 0,
) -> Recipe:
    """Returns how the tiles of a scene are answered.

    Args:
        survey: statistics of the scene and windows of it.
        scale: fine pixels per coarse pixel.
        psf: "auto", a FWHM in fine pixels, or a point spread function (k, k).
        noise: "auto", a signal-to-noise ratio in dB, the deviations of the bands (C,) in the numbers of the file, or
            None for no noise.
        method: one of `METHODS`.
        seed: of noise, where a method draws it.

    Raises:
        ValueError: an unknown method, a scale without weights, a scene that is constant or has no whole pixel.
    """
    check_choice(method, "method", METHODS)
    check_count(scale, "scale")
    if method == "prior" and scale not in SCALES:
        fail("scale", f"one of {', '.join(map(str, SCALES))}, for which there are weights", scale)
    good = survey.good.bool()
    samples = _samples(survey, good)
    bands = torch.zeros(len(good), dtype=torch.float64)
    bands[good] = _band_noise(noise, survey, samples, good)
    camera = Camera(_psf(psf, samples, scale), scale, sensor=None)
    mean, directions, std = _directions(survey, good)
    own = (directions.square().T @ bands.square()).sqrt()
    recipe = Recipe(
        method=method, camera=camera, mean=mean.float(), directions=directions.float(), std=std.float(),
        noise=own.float(), damping=torch.full_like(std, torch.inf).float(),
        factors=torch.ones(min(COMPONENTS, len(std))), good=good, level=float(survey.level), seed=seed,
        band_noise=bands,
    )  # fmt: skip
    whole = [_embedded(one, good) for one in samples]
    return (
        recipe if method == "bicubic" else _shortened(replace(recipe, damping=damping_of(recipe, whole, survey.count)))
    )


def _samples(survey: Surveyed, good: torch.Tensor) -> list[torch.Tensor]:
    """The windows of good bands (1, G, h, w) that have whole pixels, NaN in holes."""
    if not bool(good.any()):
        fail("survey", "of a scene with at least one good band", "none")
    found = [one[:, good] for one in survey.samples]
    found = [one for one in found if bool(torch.isfinite(one).all(1).any())]
    if not found:
        fail("survey", "of a scene with whole pixels", "none in its samples")
    return [open_holes(*split_holes(one, "samples")) for one in found]


def _embedded(sample: torch.Tensor, good: torch.Tensor) -> torch.Tensor:
    """A window of good bands (1, G, h, w) as one of all bands, zeros in bad ones."""
    whole = sample.new_zeros(1, len(good), *sample.shape[2:])
    whole[:, good] = sample
    return whole


def _directions(survey: Surveyed, good: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Mean (C,), orthonormal directions (C, K) and their deviations (K,), strongest first; 0 in bad bands."""
    covariance = survey.covariance.double()[good][:, good]
    values, vectors = torch.linalg.eigh(covariance)
    std = values.flip(0).clamp_min(0).sqrt()
    mean = torch.where(good, survey.mean.double(), 0.0)
    if not float(std[0]) > 1e-9 * float(mean.abs().max()):
        fail("survey", "of a scene with more than one spectrum", "a constant one")
    kept = int((std > FAINT * std[0]).sum())
    directions = torch.zeros(len(good), kept, dtype=torch.float64)
    directions[good] = vectors.flip(1)[:, :kept]
    largest = directions.gather(0, directions.abs().argmax(0, keepdim=True))  # a sign that does not depend on LAPACK
    return mean, directions * largest.sign(), std[:kept]


def _band_noise(
    noise: str | float | torch.Tensor | None, survey: Surveyed, samples: list[torch.Tensor], good: torch.Tensor
) -> torch.Tensor:
    """Deviation of the noise in the good bands, (G,) float64."""
    if noise is None:
        return torch.zeros(int(good.sum()), dtype=torch.float64)
    if isinstance(noise, str):
        check_choice(noise, "noise", (AUTO,))
        return noise_of_bands(samples)
    if isinstance(noise, torch.Tensor):
        if noise.shape != good.shape or not bool((noise[good] >= 0).all()):
            fail("noise", f"deviations ≥ 0 of {len(good)} bands", f"shape {tuple(noise.shape)}")
        return noise.double()[good]
    if not is_finite_number(noise):
        fail("noise", '"auto", a finite number of decibels, or deviations of the bands', described(noise))
    power = survey.mean.double().square() + survey.covariance.double().diagonal()
    return power[good].sqrt() * 10 ** (-float(noise) / 20)


def _psf(psf: str | float | torch.Tensor, samples: list[torch.Tensor], scale: int) -> torch.Tensor:
    """The point spread function (k, k)."""
    if isinstance(psf, torch.Tensor):
        return as_psf(psf, scale=scale)
    if isinstance(psf, str):
        check_choice(psf, "psf", (AUTO,))
        return gaussian_psf(_fwhm(samples, scale), scale=scale)
    return gaussian_psf(psf, scale=scale)


def _fwhm(samples: list[torch.Tensor], scale: int) -> float:
    """The width of the blur that the windows show, FWHM in fine pixels; one coarse pixel where they are too small."""
    found = []
    for one in samples:
        if min(one.shape[2:]) >= LEAST:
            try:
                found.append(estimate_fwhm(one, camera=Camera.gaussian(scale=scale, sensor=None)))
            except ValueError:  # holes everywhere, or constant bands
                continue
    return sum(found) / len(found) if found else float(scale)


def _shortened(recipe: Recipe) -> Recipe:
    """The recipe without the directions that are not back-projected."""
    wanted = torch.isfinite(recipe.damping).nonzero().flatten().tolist()
    kept = max([len(recipe.factors), *(number + 1 for number in wanted)])
    return replace(
        recipe, directions=recipe.directions[:, :kept].contiguous(), std=recipe.std[:kept],
        noise=recipe.noise[:kept], damping=recipe.damping[:kept],
    )  # fmt: skip


# --- how far back-projection goes ------------------------------------------------------------------------------------


def damping_of(recipe: Recipe, samples: Sequence[torch.Tensor], count: int) -> torch.Tensor:
    """Returns the damping (K,) for which back-projection stops at the noise, direction by direction.

    What is missing of the observation is what noise alone would leave, and signal. Their ratio says how far to go. Of
    few pixels the directions are those in which their noise happens to be strong: by up to the bound of Marchenko and
    Pastur.

    Args:
        recipe: of the scene, of which the damping does not count.
        samples: windows of all bands (1, C, h, w), NaN in holes.
        count: pixels that the directions were found from.
    """
    seen = torch.zeros(2, len(recipe.std), dtype=torch.float64)
    pixels = 0
    for number, sample in enumerate(samples):
        filled, holes = split_holes(sample, "samples")
        y = torch.einsum("ck,bchw->bkhw", recipe.directions, filled - recipe.mean[:, None, None])
        draw = torch.randn(y.shape, generator=torch.Generator().manual_seed(number))
        noisy = y + recipe.noise[:, None, None] * draw.to(y)
        first, second = (missing_of(recipe, one) for one in (y, noisy))
        whole = torch.ones_like(y[:, :1]) if holes is None else (~holes).to(y)
        for row, one in enumerate((first, second - first)):
            seen[row] += (one.double().square() * whole).sum((0, 2, 3))
        pixels += int(whole.sum())
    found, noise = seen / pixels
    chance = (1 + math.sqrt(int(recipe.good.sum()) / max(count, 1))) ** 2
    ratio = (found - chance * noise).clamp_min(0) / noise.clamp_min(1e-300)
    damping = (STRENGTH / ratio).clamp_min(LEAST_DAMPING)
    damping[(damping > MOST_DAMPING) | ~torch.isfinite(damping)] = math.inf
    damping[(noise == 0) & (found > 0)] = LEAST_DAMPING
    return damping.float()


def missing_of(recipe: Recipe, y: torch.Tensor) -> torch.Tensor:
    """What is missing of the observation, (1, K, h, w), in the method's answer to directions y before back-projection."""
    camera, kept = recipe.camera, len(recipe.factors)
    missing = y - apply(blurs_of(camera.psf, camera.scale, (y.shape[2], y.shape[3]), y), y)
    if recipe.method == "prior":
        std = recipe.std[:kept, None, None]
        missing[:, :kept] -= std * camera.downsample(sharpened(recipe, y[:, :kept] / std))
    return missing
