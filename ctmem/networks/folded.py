"""TCMM on the coarse grid: its tokens are coarse pixels, the fine pixels inside one are channels.

A scan that takes one token per coarse pixel walks scale² times fewer tokens, and sees as much farther.

The network's answer to noisy data x = level · x0 + noise · ε is put together from three maps that the TCMM makes:

    guess = base + tanh(gate) · offer        what is believed before x is looked at; the offer comes from a reference
    x̂0    = guess + k · (x − level · guess) + √(1 − level · k) · ρ · F,      k = level · ρ² / (level² ρ² + noise²)

k is Wiener's: with much noise x tells nothing and x̂0 is the guess and what F adds, with little noise it is x itself.
So nothing that is known already has to go through the network: a texture that fits is copied, clean data are kept.

Source: this project; the denoiser is `tcmm`'s; folding (pixel unshuffle): Shi et al., "ESPCN", 2016; k in the manner of
Karras et al., "Elucidating the design space of diffusion-based generative models", 2022, around a guess instead of 0.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import nn

from ctmem.config import DenoiserConfig
from ctmem.networks.tcmm import TCMM, Condition

SPREAD = (
    0.5  # ρ to begin with: what is missing in the base, in units of the image; the network scales it, pixel by pixel
)
MOST = 3.0  # that the network may scale ρ by, as a logarithm


@dataclass(frozen=True)
class FoldedCondition:
    """What stays the same over all diffusion steps of one image."""

    base: torch.Tensor  # (B, 1, H, W)
    offer: torch.Tensor  # (B, 1, H, W)
    inner: Condition


class FoldedTCMM(nn.Module):
    """A denoiser of single channels, (B, 1, H, W), whose `TCMM` works on (B, fold², H/fold, W/fold).

    Args:
        texture_channels: T, maps that it is told beside the base.
        config: width and depth of the TCMM inside; its target is `residual`, whatever `config` says.
        fold: fine pixels per token, along one side; H and W must be multiples of it.
        offer: which of the maps says what would be added to the base; all 0 where there is no reference.

    Raises:
        ValueError: what `TCMM` refuses.
    """

    target = "x0"
    residual_std: torch.Tensor | None = None

    def __init__(self, texture_channels: int, config: DenoiserConfig, *, fold: int = 4, offer: int = 0):
        super().__init__()
        self.fold = fold
        self.offer = offer
        self.texture_channels = texture_channels
        config = replace(config, target="residual")
        self.inner = TCMM(fold**2, texture_channels * fold**2, config, outputs=3 * fold**2)

    def condition(self, base: torch.Tensor, texture: torch.Tensor) -> FoldedCondition:
        """Features of base (B, 1, H, W) and texture (B, T, H, W), computed once per image."""
        inner = self.inner.condition(F.pixel_unshuffle(base, self.fold), F.pixel_unshuffle(texture, self.fold))
        return FoldedCondition(base, texture[:, self.offer : self.offer + 1], inner)

    def denoise(
        self,
        x_t: torch.Tensor,
        noise_level: torch.Tensor,
        x0_previous: torch.Tensor,  # noqa: ARG002  (the form of `Network`)
        condition: FoldedCondition,
    ) -> torch.Tensor:
        """x̂0 (B, 1, H, W); the arguments are those of `TCMM.denoise`, `x0_previous` is not looked at."""
        level = noise_level.reshape(-1, 1, 1, 1)
        noise = 1 - level.square()  # its variance
        unit = (x_t - level * condition.base) / (level.square() * SPREAD**2 + noise).sqrt()
        unit, known = (F.pixel_unshuffle(x, self.fold) for x in (unit, condition.base))
        output = self.inner.denoise(unit, noise_level, known, condition.inner)
        added, gate, spread = F.pixel_shuffle(output.float(), self.fold).chunk(3, 1)
        spread = SPREAD * spread.clamp(-MOST, MOST).exp()
        guess = condition.base + gate.tanh() * condition.offer
        wiener = level * spread.square() / (level.square() * spread.square() + noise).clamp_min(1e-12)
        rest = (1 - level * wiener).clamp_min(0).sqrt()
        return guess + wiener * (x_t - level * guess) + rest * spread * added
