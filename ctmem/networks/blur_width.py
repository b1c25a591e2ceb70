"""How wide a blur is, as one grey component of a coarse image shows it: a few numbers of it, and a small network.

The numbers are means of powers of differences between neighbours, over the component's deviation: those of low powers
tell of the ground, those of high ones of its steepest edges. The network says the logarithm of the width and how sure
that is. It has learned from ground of many kinds what no single ratio of them tells.

Source: this project.
"""

from __future__ import annotations

from typing import Annotated

import torch
from torch import nn

from ctmem.checks import Axes, Width, fail, typed

Grey = Annotated[torch.Tensor, Axes("(B, 1, h, w)", finite=False, double=True)]
Deviations = Annotated[torch.Tensor, Axes("(B,)", double=True)]
LEAST = 5  # pixels of a side
DIFFERENCES = (
    (-1.0, 1.0),
    (1.0, -2.0, 1.0),
    (-1.0, 3.0, -3.0, 1.0),
    (-1.0, 0.0, 1.0),
    (-1.0, 0.0, 0.0, 1.0),
    (1.0, 0.0, -2.0, 0.0, 1.0),
)  # along rows and along columns, besides the mixed one
POWERS = (1, 2, 4, 8)
FEATURES = (len(DIFFERENCES) + 1) * len(POWERS) + 1
LEAST_NOISE = 1e-3  # as it is told
MOST_NOISE = 0.6


@typed
def features(z: Grey, noise: Deviations) -> torch.Tensor:
    """Returns what is told of components, (B, 29), float32; units, signs, turns and mirror images do not count.

    Args:
        z: coarse components (B, 1, h, w), at least 5 pixels a side; NaN in holes.
        noise: deviation of the noise of each, (B,), in its units.

    Raises:
        TypeError: tensors that are not of floating-point numbers.
        ValueError: of another shape, or noise that is not finite.
    """
    if z.shape[1] != 1 or len(z) != len(noise) or min(z.shape[2:]) < LEAST:
        expected = f"of shape ({len(noise)}, 1, h, w), at least {LEAST}×{LEAST} pixels"
        fail("z", expected, f"shape {tuple(z.shape)}")
    z = z.double()
    deviation = (z - z.nanmean((1, 2, 3), keepdim=True)).square().nanmean((1, 2, 3)).sqrt().clamp_min(1e-30)
    found = []
    for taps in DIFFERENCES:
        steps = [_difference(one, taps).flatten(1) for one in (z, z.transpose(2, 3))]
        found += _means(torch.cat(steps, 1))
    found += _means(((z[..., 1:, 1:] - z[..., :-1, 1:] - z[..., 1:, :-1] + z[..., :-1, :-1]) / 2).flatten(1))
    share = (noise.double() / deviation).clamp_max(MOST_NOISE) + LEAST_NOISE
    return torch.stack([*(one - deviation.log() for one in found), share.log()], 1).float()


def _difference(x: torch.Tensor, taps: tuple[float, ...]) -> torch.Tensor:
    """Differences along rows, (B, 1, h, w − taps + 1)."""
    length = x.shape[3] - len(taps) + 1
    return torch.stack([tap * x[..., i : i + length] for i, tap in enumerate(taps) if tap]).sum(0)


def _means(x: torch.Tensor) -> list[torch.Tensor]:
    """Logarithms of the means of powers of numbers (B, n), each (B,); NaN does not count."""
    x = x.abs()
    largest = x.nan_to_num(0).amax(1).clamp_min(1e-30)
    x = x / largest[:, None]
    return [x.pow(power).nanmean(1).clamp_min(1e-30).log() / power + largest.log() for power in POWERS]


class BlurWidth(nn.Module):
    """Numbers of components (B, 29) → the logarithm of the FWHM in coarse pixels, and that of its variance, (B, 2).

    Args:
        width: of the hidden layer.
    """

    mean: torch.Tensor
    std: torch.Tensor

    @typed
    def __init__(self, width: Width = 64) -> None:
        super().__init__()
        self.width = width
        self.register_buffer("mean", torch.zeros(FEATURES))
        self.register_buffer("std", torch.ones(FEATURES))
        self.layers = nn.Sequential(
            nn.Linear(FEATURES, width), nn.SiLU(), nn.Linear(width, width // 2), nn.SiLU(), nn.Linear(width // 2, 2)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Returns (logarithm of the width, logarithm of its variance) of `features`."""
        found = self.layers((x - self.mean) / self.std)
        return torch.stack([found[:, 0], found[:, 1].clamp(-8, 2)], 1)
