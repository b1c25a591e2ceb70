"""The recipe of a scene: what its statistics say of blur and noise, and how far back-projection may go.

    recipe = make_recipe(survey, scale=3)                        # all is estimated
    recipe = make_recipe(survey, scale=4, psf=4.0, noise=35.0)   # FWHM in fine pixels, SNR in dB
    pred = answer(recipe, lr)                                    # see `answering`

Source: this project.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Protocol

import torch

from ctmem.checks import (
    Inside,
    Scale,
    Whole,
    as_psf,
    check_choice,
    check_count,
    described,
    fail,
    is_finite_number,
    typed,
)
from ctmem.holes import open_holes, split_holes
from ctmem.networks.component_prior import SCALES
from ctmem.observe.camera import Camera
from ctmem.observe.noise import noise_of_bands
from ctmem.observe.optics import gaussian_psf
from ctmem.prior import COMPONENTS
from ctmem.tiling.answering import METHODS, Recipe, answer, deviation
from ctmem.tiling.blur import BlurSeen, blur_seen
from ctmem.tiling.choice import Tried, choose
from ctmem.tiling.damping import damping_of

__all__ = ["METHODS", "Recipe", "Surveyed", "answer", "deviation", "make_recipe"]

AUTO = "auto"
MIDDLE = 48  # coarse pixels of a window's side that methods are tried on
FAINT = 1e-6  # deviation of a direction, over that of the strongest, below which it is rounding


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
    method: str = AUTO,
    seed: Whole = 0,
) -> Recipe:
    """Returns how the tiles of a scene are answered.

    Args:
        survey: statistics of the scene and windows of it.
        scale: fine pixels per coarse pixel.
        psf: "auto", a FWHM in fine pixels, or a point spread function (k, k).
        noise: "auto", a signal-to-noise ratio in dB, the deviations of the bands (C,) in the numbers of the file, or
            None for no noise.
        method: "auto", the best of `METHODS` on the scene's own copy at half its resolution, or one of them.
        seed: of noise, where a method draws it.

    Raises:
        ValueError: an unknown method, a scale without weights, a scene that is constant or has no whole pixel.
    """
    check_choice(method, "method", (AUTO, *METHODS))
    check_count(scale, "scale")
    if method == "prior" and scale not in SCALES:
        fail("scale", f"one of {', '.join(map(str, SCALES))}, for which there are weights", scale)
    good = survey.good.bool()
    samples = _samples(survey, good)
    # noise of the bands, directions of spectra and what they have of it, blur
    bands = torch.zeros(len(good), dtype=torch.float64)
    bands[good] = _band_noise(noise, survey, samples, good)
    mean, directions, std = _directions(survey, good)
    own = (directions.square().T @ bands.square()).sqrt()
    whole = [_embedded(one, good) for one in samples]
    point, seen = _psf(psf, scale, [_components(one, mean, directions, std) for one in whole], own / std)
    recipe = Recipe(
        method="bicubic", camera=Camera(point, scale, sensor=None), mean=mean.float(), directions=directions.float(),
        std=std.float(), noise=own.float(), damping=torch.full_like(std, torch.inf).float(),
        factors=torch.ones(min(COMPONENTS, len(std))), good=good, level=float(survey.level), seed=seed,
        band_noise=bands,
    )  # fmt: skip
    # method, and how far back-projection goes, on small windows
    small = [_middle(one) for one in whole]
    usual = METHODS if method == AUTO else (method,)
    recipe, tried = choose(recipe, small, survey.count, [one for one in usual if one != "prior" or scale in SCALES])
    if recipe.method != "bicubic":
        recipe = _shortened(replace(recipe, damping=damping_of(recipe, small, survey.count)))
    return replace(recipe, about=_about(recipe, method, seen, tried, survey))


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


def _components(sample: torch.Tensor, mean: torch.Tensor, directions: torch.Tensor, std: torch.Tensor) -> torch.Tensor:
    """The strongest whitened components of a window, (1, Z, h, w), NaN in holes."""
    kept = directions[:, :COMPONENTS].to(sample)
    z = torch.einsum("cz,bchw->bzhw", kept, sample - mean.to(sample)[:, None, None])
    return z / std[:COMPONENTS].to(sample)[:, None, None]


def _psf(
    psf: str | float | torch.Tensor, scale: int, components: list[torch.Tensor], noise: torch.Tensor
) -> tuple[torch.Tensor, BlurSeen | None]:
    """The point spread function (k, k), and what was seen of it, if it was not told."""
    if isinstance(psf, torch.Tensor):
        return as_psf(psf, scale=scale), None
    if not isinstance(psf, str):
        if not (is_finite_number(psf) and psf > 0):
            fail("psf", '"auto", a FWHM in fine pixels, or weights (k, k)', described(psf))
        return gaussian_psf(psf, scale=scale), None
    check_choice(psf, "psf", (AUTO,))
    seen = blur_seen(components, noise[:COMPONENTS])
    return gaussian_psf(seen.width * scale, scale=scale), seen


def _middle(sample: torch.Tensor) -> torch.Tensor:
    """The middle of a window, at most MIDDLE pixels a side; the window itself where that has too few whole pixels."""
    rows, columns = (
        slice((side - min(side, MIDDLE)) // 2, (side + min(side, MIDDLE)) // 2) for side in sample.shape[2:]
    )
    middle = sample[..., rows, columns]
    return middle if bool(torch.isfinite(middle[0, 0]).any()) else sample


def _about(recipe: Recipe, asked: str, seen: BlurSeen | None, tried: list[Tried], survey: Surveyed) -> dict[str, Any]:
    """What a card says of a recipe, in plain numbers and words."""
    good = recipe.good
    power = (survey.mean.double().square() + survey.covariance.double().diagonal())[good]
    noise = torch.zeros(0) if recipe.band_noise is None else recipe.band_noise[good]
    snr = 10 * (power / noise.square().clamp_min(1e-300)).log10()
    told = {
        "method": recipe.method,
        "asked": asked,
        "scale": recipe.camera.scale,
        "psf_fwhm_px": [round(one, 3) for one in recipe.camera.fwhm_px],
        "psf": "told" if seen is None else "estimated",
        "snr_db": [round(float(snr.quantile(q).clamp_max(200)), 1) for q in (0.1, 0.5, 0.9)],
        "shares": [round(float(one), 3) for one in recipe.factors] if recipe.method == "prior" else [],
    }
    if seen is not None:
        told["psf_doubt"] = round(seen.doubt, 3)
    if tried:
        told["over bicubic on its own copy"] = {
            one.method: {"gain_db": round(one.gain_db, 3), "angle_ratio": round(one.angle, 4)} for one in tried
        }
    return told


def _shortened(recipe: Recipe) -> Recipe:
    """The recipe without the directions that are not back-projected."""
    wanted = torch.isfinite(recipe.damping).nonzero().flatten().tolist()
    kept = max([len(recipe.factors), *(number + 1 for number in wanted)])
    return replace(
        recipe, directions=recipe.directions[:, :kept].contiguous(), std=recipe.std[:kept],
        noise=recipe.noise[:kept], damping=recipe.damping[:kept],
    )  # fmt: skip
