"""The width of the blur, from the strongest components of a scene's windows, by a small network that has seen many.

Source: this project. `python -m ctmem.train.blur` trains it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

import torch

from ctmem.card import load_component
from ctmem.checks import Axes, Positive, Scale, fail, typed
from ctmem.networks.blur_width import LONG, SHORT, TOO_NOISY, BlurWidth, Deviations, features, together
from ctmem.observe.camera import SIGMA_TO_FWHM

BLOCK = 24  # pixels of a side of what is looked at at once, about: as it was learned
MOST = 5  # components
USUAL, SURE = 0.7, 0.35  # FWHM in coarse pixels, and deviation of its logarithm, where nothing is known
PIXEL = SIGMA_TO_FWHM / math.sqrt(12)  # FWHM of the Gaussian with the second moments of a box of one fine pixel
NARROWEST = 0.3  # FWHM in coarse pixels, at least
LEAN = 0.3  # deviations above the mean, by which images that were not learned from seem sharper than they are


class BlurSeen(NamedTuple):
    """What a scene shows of its blur: FWHM in coarse pixels, and the deviation of its logarithm."""

    width: Positive
    doubt: Positive


@cache
def _shipped() -> BlurWidth:
    """The shipped network, read once."""
    return load_component("blur", BlurWidth)


@typed
@torch.no_grad()
def blur_seen(components: Sequence[torch.Tensor], noise: Deviations, scale: Scale) -> BlurSeen:
    """Returns the width of the blur that components show.

    Each component of each block of the windows says what it thinks and how sure it is; the sure ones count more. Blocks
    of one scene err alike, so many of them make it no surer than the mean of one. What they show includes that fine
    pixels are boxes themselves, which is taken out.

    Args:
        components: of windows, (1, Z, h, w) each, strongest first, NaN in holes.
        noise: deviation of the noise of each, (Z,), in their units.
        scale: fine pixels per coarse pixel.

    Raises:
        TypeError: components or noise that are not of floating-point numbers.
        ValueError: of another shape, or noise that is not finite.
    """
    components = [Axes("(1, Z, h, w)", finite=False).read(one, "components") for one in components]
    for one in components:
        if len(one) != 1 or one.shape[1] != len(noise):
            fail("components", f"of shape (1, {len(noise)}, h, w), as many as `noise`", f"shape {tuple(one.shape)}")
    found = [_said(block[0, :MOST], noise[:MOST]) for one in components for block in _blocks(one)]
    said = torch.cat([torch.zeros(0, 3, dtype=torch.float64), *found])
    if not len(said):
        return BlurSeen(USUAL, SURE)
    log_width, variance = together(said[None, :, :2], said[None, :, 2])
    doubt = math.sqrt(float(variance))
    own = math.exp(2 * (float(log_width) + LEAN * doubt)) - (PIXEL / scale) ** 2
    return BlurSeen(max(math.sqrt(max(own, 0.0)), NARROWEST), doubt)


def _blocks(window: torch.Tensor) -> list[torch.Tensor]:
    """A window (1, Z, h, w) in parts of about BLOCK pixels a side; none of one that is too small."""
    short, long = sorted(window.shape[2:])
    if short < SHORT or long < LONG:
        return []
    strips = window.tensor_split(max(1, round(window.shape[2] / BLOCK)), 2)
    return [block for strip in strips for block in strip.tensor_split(max(1, round(window.shape[3] / BLOCK)), 3)]


def _said(z: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
    """What components (Z, h, w) of a block say: logarithms of width and variance, whole pixels; (n, 3) float64."""
    deviation = _deviation(z)
    x = features(z[:, None], noise, torch.arange(len(z), dtype=torch.float64))
    clear = noise.to(deviation) <= TOO_NOISY * deviation
    clear[0] = True
    clear &= torch.isfinite(x).all(1).to(clear.device) & (deviation > 0)
    pixels = z.isfinite().flatten(1).sum(1)[clear].double()
    return torch.cat([_shipped()(x[clear].cpu()).double(), pixels.cpu()[:, None]], 1)


def _deviation(z: torch.Tensor) -> torch.Tensor:
    """Of components (Z, h, w), holes aside, (Z,)."""
    centred = z - z.nanmean((1, 2), keepdim=True)
    return centred.square().nanmean((1, 2)).sqrt()
