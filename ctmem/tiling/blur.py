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
from ctmem.checks import Axes, Positive, fail, typed
from ctmem.networks.blur_width import BlurWidth, Deviations, features

LEAST = 6  # pixels of a side of a window that is looked at
MOST = 5  # components
NOISY = 0.3  # of a component's deviation: what is noisier does not tell of the blur
LEAN = 0.3  # deviations above the mean, by which images that were not learned from seem sharper than they are
USUAL, SURE = 0.7, 0.35  # FWHM in coarse pixels, and deviation of its logarithm, where nothing is known


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
def blur_seen(components: Sequence[torch.Tensor], noise: Deviations) -> BlurSeen:
    """Returns the width of the blur that components show.

    Each component of each window says what it thinks and how sure it is; the sure ones count more. Windows of one scene
    err alike, so many of them make it no surer than the mean of one.

    Args:
        components: of windows, (1, Z, h, w) each, strongest first, NaN in holes.
        noise: deviation of the noise of each, (Z,), in their units.

    Raises:
        TypeError: components or noise that are not of floating-point numbers.
        ValueError: of another shape, or noise that is not finite.
    """
    components = [Axes("(1, Z, h, w)", finite=False).read(one, "components") for one in components]
    for one in components:
        if len(one) != 1 or one.shape[1] != len(noise):
            fail("components", f"of shape (1, {len(noise)}, h, w), as many as `noise`", f"shape {tuple(one.shape)}")
    found = []
    for z in components:
        if min(z.shape[2:]) < LEAST:
            continue
        x = features(z[0, :MOST, None], noise[:MOST])
        deviation = _deviation(z[0, :MOST])
        clear = (noise[:MOST].to(z) <= NOISY * deviation) & torch.isfinite(x).all(1)
        clear[0] = bool(torch.isfinite(x[0]).all())
        weights = z[0, :MOST].isfinite().flatten(1).sum(1)
        if bool(clear.any()):
            found.append(torch.cat([_shipped()(x[clear].cpu()), weights[clear].cpu()[:, None]], 1))
    if not found:
        return BlurSeen(USUAL, SURE)
    log_width, log_variance, pixels = torch.cat(found).double().unbind(1)
    weights = pixels * (-log_variance).exp()
    share = weights / weights.sum()
    doubt = math.sqrt(float(share @ log_variance.exp()))
    return BlurSeen(math.exp(float(share @ log_width) + LEAN * doubt), doubt)


def _deviation(z: torch.Tensor) -> torch.Tensor:
    """Of components (Z, h, w), holes aside, (Z,)."""
    centred = z - z.nanmean((1, 2), keepdim=True)
    return centred.square().nanmean((1, 2)).sqrt()
