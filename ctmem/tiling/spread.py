"""How far an answer may be off, pixel by pixel and band by band: learned from the scene's own copy.

Errors are large where the coarse image is steep. For every direction of spectra its squared error is a constant and a
share of the squared slope, both fitted on the copy; what lies outside of the directions has one variance per band. More
octaves are missing at larger scales than in the copy, and a scene that is blurred itself lacks what its copy could
miss: two factors account for that, read from three development scenes.

Source: this project.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch.nn import functional as F

from ctmem.checks import typed
from ctmem.holes import split_holes
from ctmem.tiling.answering import Recipe, Spread, answer, slopes

PER_OCTAVE = 1.5  # variance of the error at twice the scale, over that at the scale
BLURRED = 0.3, 0.9  # deviation of the true error over that on the copy: a constant, and per coarse pixel of the blur


@dataclass
class _Sums:
    """Squared slopes, squared errors, their product and square, over pixels; each (Z,)."""

    slope: torch.Tensor
    error: torch.Tensor
    both: torch.Tensor
    square: torch.Tensor
    pixels: int = 0


@typed
def fit_spread(recipe: Recipe, copies: Sequence[tuple[torch.Tensor, torch.Tensor]], scale: int) -> Spread | None:
    """Returns how the error of an answer follows from the coarse image; None without a copy.

    Args:
        recipe: of the copy.
        copies: coarse and fine windows, (1, C, h, w) and (1, C, H, W), NaN in holes.
        scale: of the answers that it is for.
    """
    kept = len(recipe.factors)
    zeros = torch.zeros(4, kept, dtype=torch.float64)
    sums = _Sums(zeros[0], zeros[1], zeros[2], zeros[3])
    bands = torch.zeros(len(recipe.mean), dtype=torch.float64)
    for low, truth in copies:
        error = answer(recipe, low) - truth
        here = torch.isfinite(error[0, recipe.good]).all(0)
        slope = _enlarged(slopes(recipe, split_holes(low, "copies")[0]), truth)[0][:, here].double()
        error = torch.where(recipe.good[:, None], error[0][:, here].double(), 0.0)
        own = ((recipe.directions[:, :kept].double().T @ error) / recipe.std[:kept, None]).square()
        sums.slope += slope.sum(1)
        sums.error += own.sum(1)
        sums.both += (slope * own).sum(1)
        sums.square += slope.square().sum(1)
        sums.pixels += int(here.sum())
        bands += error.square().sum(1)
    if not sums.pixels:
        return None
    share, constant = _line(sums)
    explained = (recipe.directions[:, :kept].double() * recipe.std[:kept]).square() @ (sums.error / sums.pixels)
    width = sum(recipe.camera.fwhm_px) / 2 / recipe.camera.scale
    octaves = PER_OCTAVE ** (math.log2(scale) - 1) * (BLURRED[0] + BLURRED[1] * width) ** 2
    rest = (bands / sums.pixels - explained).clamp_min(0)
    return Spread((octaves * constant).float(), (octaves * share).float(), (octaves * rest).float())


def _line(sums: _Sums) -> tuple[torch.Tensor, torch.Tensor]:
    """The share of the slope and the constant, both ≥ 0, of the line that fits squared errors best, (Z,) each."""
    slope, error = sums.slope / sums.pixels, sums.error / sums.pixels
    variance = (sums.square / sums.pixels - slope.square()).clamp_min(1e-30)
    share = ((sums.both / sums.pixels - slope * error) / variance).clamp_min(0)
    share = torch.minimum(share, error / slope.clamp_min(1e-30))  # so that the constant is not negative
    return share, (error - share * slope).clamp_min(0)


def _enlarged(slope: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """Slopes (1, Z, h, w) on the fine grid."""
    return F.interpolate(slope, like.shape[2:], mode="bilinear", align_corners=False)


@typed
def with_spread(recipe: Recipe, trial: Recipe, copies: Sequence[tuple[torch.Tensor, torch.Tensor]]) -> Recipe:
    """The recipe with what its trial on the copy says of its errors."""
    return replace(recipe, spread=fit_spread(trial, copies, recipe.camera.scale))
