"""How far back-projection goes in every direction of spectra: until only what noise explains is missing.

Source: this project; noise in directions of few samples: Marchenko and Pastur, 1967.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from ctmem.checks import typed
from ctmem.holes import split_holes
from ctmem.observe.coarse import apply, blurs_of
from ctmem.tiling.answering import Recipe, sharpened

STRENGTH = 1.0  # of the damping: over the signal-to-noise ratio of what is missing in a direction
LEAST_DAMPING = 0.02  # however clear the image: the blur is not known exactly
MOST_DAMPING = 10.0  # beyond it a direction is left as bicubic enlargement has it


@typed
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
    """What is missing of the observation, (1, K, h, w), in the answer to directions y before back-projection."""
    camera, kept = recipe.camera, len(recipe.factors)
    missing = y - apply(blurs_of(camera.psf, camera.scale, (y.shape[2], y.shape[3]), y), y)
    if recipe.method == "prior":
        std = recipe.std[:kept, None, None]
        missing[:, :kept] -= std * camera.downsample(sharpened(recipe, y[:, :kept] / std))
    return missing
