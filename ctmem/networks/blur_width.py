"""How wide a blur is, as the components of a coarse image show it: a few numbers of each, and a small network.

The numbers are means of powers of differences between near pixels, over the component's deviation: those of low powers
tell of the ground, those of high ones of its steepest edges, and from one distance to the next they tell of its
spectrum. The network says the logarithm of the width and how sure that is. It has learned on the mean of a scene's
components, in which the sure ones count more.

Source: this project.
"""

from __future__ import annotations

from typing import Annotated

import torch
from torch import nn

from ctmem.checks import Axes, Width, fail, typed

Grey = Annotated[torch.Tensor, Axes("(B, 1, h, w)", finite=False, double=True)]
Deviations = Annotated[torch.Tensor, Axes("(B,)", double=True)]
DIFFERENCES: tuple[dict[int, float], ...] = (  # distance: weight; along rows and along columns
    *({0: -1.0, lag: 1.0} for lag in (1, 2, 3, 4, 6)),
    *({0: 1.0, lag: -2.0, 2 * lag: 1.0} for lag in (1, 2, 3)),
    {0: -1.0, 1: 3.0, 2: -3.0, 3: 1.0},
    {0: 1.0, 1: -4.0, 2: 6.0, 3: -4.0, 4: 1.0},
)
MIXED = {(0, 0): 0.5, (0, 1): -0.5, (1, 0): -0.5, (1, 1): 0.5}
POWERS = (1, 2, 4, 8)
FEATURES = (len(DIFFERENCES) + 1) * len(POWERS) + 3
LONG, SHORT = 7, 2  # pixels that the longer and the shorter side have at least
LEAST_NOISE = 1e-3  # as it is told
MOST_NOISE = 0.6
TOO_NOISY = 0.3  # over the deviation: what is noisier does not tell of the blur
FARTHEST = 5.0  # deviations of what was learned from: beyond, a number is taken for this far


@typed
def features(z: Grey, noise: Deviations, rank: Deviations) -> torch.Tensor:
    """Returns what is told of components, (B, 47), float32; units, signs, turns and mirror images do not count.

    Args:
        z: coarse components (B, 1, h, w), at least 7 pixels along one side and 2 along the other; NaN in holes.
        noise: deviation of the noise of each, (B,), in its units.
        rank: how many components of the scene are stronger, (B,).

    Raises:
        TypeError: tensors that are not of floating-point numbers.
        ValueError: of another shape, or noise or ranks that are not finite.
    """
    short, long = sorted(z.shape[2:])
    if z.shape[1] != 1 or not len(z) == len(noise) == len(rank) or short < SHORT or long < LONG:
        expected = f"of shape ({len(noise)}, 1, h, w), at least {SHORT}×{LONG} pixels, as many as `noise` and `rank`"
        fail("z", expected, f"shape {tuple(z.shape)}")
    z = z.double()
    z = z - z.nanmean((1, 2, 3), keepdim=True)
    deviation = z.square().nanmean((1, 2, 3)).sqrt().clamp_min(1e-30)
    found = []
    for taps in DIFFERENCES:
        down, across = ({(i, 0): tap for i, tap in taps.items()}, {(0, i): tap for i, tap in taps.items()})
        found += _means(torch.cat([_difference(z, down), _difference(z, across)], 1))
    found += _means(_difference(z, MIXED))
    share = (noise.double() / deviation).clamp_max(MOST_NOISE) + LEAST_NOISE
    pixels = z.isfinite().flatten(1).sum(1).clamp_min(1)
    told = [*(one - deviation.log() for one in found), share.log(), pixels.log(), rank]
    return torch.stack(told, 1).float()


def _difference(z: torch.Tensor, taps: dict[tuple[int, int], float]) -> torch.Tensor:
    """Weighted sums of pixels that lie (rows, columns) apart, (B, n); none where the image is too small for them."""
    height, width = (side - max(place[axis] for place in taps) for axis, side in enumerate(z.shape[2:]))
    if height <= 0 or width <= 0:
        return z.new_zeros(len(z), 0)
    parts = [tap * z[:, 0, i : i + height, j : j + width] for (i, j), tap in taps.items()]
    return torch.stack(parts).sum(0).flatten(1)


def _means(x: torch.Tensor) -> list[torch.Tensor]:
    """Logarithms of the means of powers of numbers (B, n), each (B,); NaN does not count."""
    largest = x.abs().nan_to_num(0).amax(1).clamp_min(1e-30)
    x = (x / largest[:, None]).abs()
    found = []
    for power in POWERS:
        found.append(x.nanmean(1).clamp_min(1e-30).log() / power + largest.log())
        x = x.square()
    return found


class BlurWidth(nn.Module):
    """Numbers of components (B, 47) → the logarithm of the FWHM in coarse pixels, and that of its variance, (B, 2).

    The width is that of all that blurs, the box of a fine pixel included.

    Args:
        width: of the hidden layers.
    """

    mean: torch.Tensor
    std: torch.Tensor

    @typed
    def __init__(self, width: Width = 96) -> None:
        super().__init__()
        self.width = width
        self.register_buffer("mean", torch.zeros(FEATURES))
        self.register_buffer("std", torch.ones(FEATURES))
        self.layers = nn.Sequential(
            nn.Linear(FEATURES, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU(), nn.Linear(width, 2)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Returns (logarithm of the width, logarithm of its variance) of `features`."""
        found = self.layers(((x - self.mean) / self.std).clamp(-FARTHEST, FARTHEST))
        return torch.stack([found[:, 0], found[:, 1].clamp(-8, 2)], 1)


def together(found: torch.Tensor, weights: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The logarithm of a scene's width and its variance, (B,) each, from what its components say.

    Components of one scene err alike, so many of them make it no surer than their mean.

    Args:
        found: of `BlurWidth`, (B, K, 2).
        weights: how much of a scene a component shows, (B, K), ≥ 0; 0: it is left out.
    """
    share = weights * (-found[..., 1]).exp()
    share = share / share.sum(1, keepdim=True)
    return (share * found[..., 0]).sum(1), (share * found[..., 1].exp()).sum(1)
