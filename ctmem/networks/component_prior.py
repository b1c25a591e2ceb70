"""A prior of images: one grey component of a coarse image, enlarged by a CNN that is told the camera.

It works on the coarse grid and enlarges at its end, with one head per scale, so that a pixel costs little. What it is
told of the camera scales and shifts the channels of each block.

Source: trunk in the manner of Lim et al., "EDSR", 2017; head: Shi et al., "ESPCN", 2016; the condition in the manner of
Zhang et al., "SRMD", 2018, with the transfer of the blur instead of its principal components; kernels as in
`ctmem.networks.group`; the rest is this project's.
"""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.nn import functional as F

from ctmem.checks import Repeats, Width, fail, typed
from ctmem.networks.group import ORDER, GroupConv

SCALES = (2, 3, 4, 6)  # each has a head
FREQUENCIES = (0.25, 0.5, 0.75, 1.0)  # at which the transfer of the blur is told, cycles per coarse pixel
LEAST, MOST = 1e-3, 2.0  # noise over the deviation of the component, as it is told


def transfer(profile: torch.Tensor, scale: int) -> torch.Tensor:
    """Returns the modulation transfer (B, 4) of profiles of a blur (B, k), sums of 1, at `FREQUENCIES`; in [0, 1].

    Args:
        profile: the blur along one axis, fine pixels, around its middle.
        scale: fine pixels per coarse pixel.
    """
    offsets = torch.arange(profile.shape[1]).to(profile) - (profile.shape[1] - 1) / 2
    angle = 2 * math.pi / scale * offsets[:, None] * torch.tensor(FREQUENCIES).to(profile)
    return torch.hypot(profile @ angle.cos(), profile @ angle.sin())


class ComponentPrior(nn.Module):
    """A coarse component (B, 1, h, w) and its camera → the fine one (B, 1, scale·h, scale·w).

    The image is brought to mean 0 and deviation 1, so that its units do not matter; what is added to its bicubic
    enlargement starts as 0. Its negative gives exactly the negative, and a turned or flipped image with a camera that
    is turned with it the turned answer: the kernels share their weights over the group of these, see `GroupConv`.

    Args:
        width: channels, a multiple of 16.
        blocks: residual blocks.
        head: features on the fine grid, of 16 channels each.
    """

    @typed
    def __init__(self, width: Width = 128, blocks: Repeats = 12, head: Width = 1):
        super().__init__()
        if width % ORDER or width < ORDER:
            fail("width", f"a multiple of {ORDER}", width)
        self.width, self.blocks, self.head = width, blocks, head
        some = width // ORDER
        told = 2 * len(FREQUENCIES) + 2  # two profiles, noise, scale
        film = nn.Linear(64, 2 * blocks * some)
        self.condition = nn.Sequential(nn.Linear(told, 64), nn.SiLU(), film)
        self.stem = GroupConv(0, some)
        self.first = nn.ModuleList(GroupConv(some, some) for _ in range(blocks))
        self.second = nn.ModuleList(GroupConv(some, some) for _ in range(blocks))
        self.join = GroupConv(some, some)
        self.expand = nn.ModuleDict({str(s): GroupConv(some, head, s) for s in SCALES})
        self.out = nn.ModuleDict({str(s): GroupConv(head, 0) for s in SCALES})
        # starts as bicubic enlargement for any camera, with small steps from block to block
        with torch.no_grad():
            for name, parameter in self.second.named_parameters():
                parameter.mul_(0.1 if name.endswith("weight") else 1)
        for parameter in [*film.parameters(), *self.out.parameters()]:
            nn.init.zeros_(parameter)

    def forward(
        self,
        y: torch.Tensor,
        y_up: torch.Tensor,
        mtf: torch.Tensor,
        noise: torch.Tensor,
        scale: int,
        whitened: bool = False,
    ) -> torch.Tensor:
        """Returns the fine component (B, 1, scale·h, scale·w), in the units of `y`.

        Args:
            y: coarse component (B, 1, h, w), at least two pixels.
            y_up: the same, enlarged bicubically.
            mtf: transfer of the blur along rows and along columns, (B, 8).
            noise: deviation of the noise in `y`, (B,), in the units of `y`.
            scale: one of `SCALES`.
            whitened: `y` is part of a component that has mean 0 and deviation 1 as a whole: it is taken as it is, so
                that every part has the same answer as in the whole, but near its rim.
        """
        mean = y.new_zeros(len(y), 1, 1, 1) if whitened else y.mean((2, 3), keepdim=True)
        std = y.new_ones(len(y), 1, 1, 1) if whitened else y.std((2, 3), keepdim=True) + 1e-6
        film = self._film(self._told(mtf, noise / std.flatten(), scale))
        x = stem = self.stem((y - mean) / std)
        for first, second, gain, shift in zip(self.first, self.second, film[::2], film[1::2]):
            x = x + second(F.relu(first(x) * (1 + gain) + shift))
        x = F.relu(self.expand[str(scale)](stem + self.join(x)))
        return y_up + std * self.out[str(scale)](x)

    def _film(self, told: torch.Tensor) -> torch.Tensor:
        """Gains and shifts in turn, (2·blocks, B, width, 1, 1); elements that exchange the axes are told so."""
        rows, columns, rest = told.split([len(FREQUENCIES), len(FREQUENCIES), told.shape[1] - 2 * len(FREQUENCIES)], 1)
        both = self.condition(torch.stack([told, torch.cat([columns, rows, rest], 1)]))
        each = both[[g >> 2 & 1 for g in range(ORDER)]].unflatten(2, (2 * self.blocks, -1))
        return each.permute(2, 1, 3, 0).flatten(2)[..., None, None]

    @staticmethod
    def _told(mtf: torch.Tensor, noise: torch.Tensor, scale: int) -> torch.Tensor:
        """What the blocks are told, (B, 10), each number of about unit size."""
        level = (noise.clamp(0, MOST) + LEAST).log() / 4
        return torch.cat([mtf, level[:, None], torch.full_like(level[:, None], math.log2(scale) - 1.5)], 1)
