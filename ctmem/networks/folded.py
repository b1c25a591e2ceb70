"""TCMM on the coarse grid: its tokens are coarse pixels, the fine pixels inside one are channels.

A scan that takes one token per coarse pixel walks scale² times fewer tokens, and sees as much farther.

Source: this project; the denoiser is `tcmm`'s; folding (pixel unshuffle): Shi et al., "ESPCN", 2016.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from ctmem.config import DenoiserConfig
from ctmem.networks.tcmm import TCMM, Condition


class FoldedTCMM(nn.Module):
    """A denoiser of single channels, (B, 1, H, W), whose `TCMM` works on (B, fold², H/fold, W/fold).

    Args:
        texture_channels: T, maps that it is told beside the base.
        config: width, depth and target of the TCMM inside.
        fold: fine pixels per token, along one side; H and W must be multiples of it.

    Raises:
        ValueError: what `TCMM` refuses.
    """

    residual_std: torch.Tensor | None

    def __init__(self, texture_channels: int, config: DenoiserConfig, *, fold: int = 4):
        super().__init__()
        self.fold = fold
        self.texture_channels = texture_channels
        self.target = config.target
        self.residual_std = None  # of the target `residual` only
        self.inner = TCMM(fold**2, texture_channels * fold**2, config)

    def condition(self, base: torch.Tensor, texture: torch.Tensor) -> Condition:
        """Features of base (B, 1, H, W) and texture (B, T, H, W), computed once per image."""
        return self.inner.condition(F.pixel_unshuffle(base, self.fold), F.pixel_unshuffle(texture, self.fold))

    def denoise(
        self, x_t: torch.Tensor, noise_level: torch.Tensor, x0_previous: torch.Tensor, condition: Condition
    ) -> torch.Tensor:
        """x̂0 (B, 1, H, W), or what the target names; the arguments are those of `TCMM.denoise`."""
        x_t, x0_previous = (F.pixel_unshuffle(x, self.fold) for x in (x_t, x0_previous))
        return F.pixel_shuffle(self.inner.denoise(x_t, noise_level, x0_previous, condition), self.fold)
