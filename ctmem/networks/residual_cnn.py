"""A plain residual CNN of about the denoiser's size: the baseline that is trained on the same crops.

Source: in the manner of Lim et al., "EDSR", 2017, at a small size.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from ctmem.checks import Repeats, Width, as_image, door, typed


class ResidualCNN(nn.Module):
    """Image in the denoiser's channels (B, Z, H, W) → the same with what is missing added.

    conv → `blocks` × (conv – ReLU – conv, plus the input) → conv, plus the input; 3×3 throughout. Starts as the
    identity.
    """

    @typed
    def __init__(self, channels: Width, width: Width = 64, blocks: Repeats = 3):
        super().__init__()
        self.stem = nn.Conv2d(channels, width, 3, padding=1)
        self.first = nn.ModuleList(nn.Conv2d(width, width, 3, padding=1) for _ in range(blocks))
        self.second = nn.ModuleList(nn.Conv2d(width, width, 3, padding=1) for _ in range(blocks))
        self.out = nn.Conv2d(width, channels, 3, padding=1)
        for parameter in self.out.parameters():
            nn.init.zeros_(parameter)  # starts as the identity

    @door
    def forward(self, base: torch.Tensor) -> torch.Tensor:
        """Returns the estimate (B, Z, H, W).

        Raises:
            ValueError: `base` has other channels.
        """
        base = as_image(base, "base", bands=self.stem.in_channels)
        x = self.stem(base)
        for first, second in zip(self.first, self.second):
            x = x + second(F.relu(first(x)))
        return base + self.out(x)
