"""The floor to beat: bicubic upsampling, back-projection, and a plain residual CNN of the denoiser's size.

None of them looks at a reference.

Source: back-projection: Irani and Peleg, "Improving resolution by image registration", 1991; residual CNN: in the
manner of Lim et al., "EDSR", 2017, at a small size.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from ctmem.checks import check_count, check_image, fail
from ctmem.sensors import blur_down, upsample


def bicubic(lr_hsi: torch.Tensor, scale: int) -> torch.Tensor:
    """`lr_hsi` (B, C, h, w) upsampled bicubically to (B, C, scale·h, scale·w)."""
    return upsample(lr_hsi, scale)


def back_project(
    pred: torch.Tensor,
    lr_hsi: torch.Tensor,
    psf: torch.Tensor,
    *,
    scale: int,
    steps: int = 10,
    tolerance: float = 0.0,
) -> torch.Tensor:
    """An image near `pred` that, degraded, gives back the observation: x ← x + up(lr_hsi − down(x)), repeated.

    Args:
        pred: estimate (B, C, H, W).
        lr_hsi: observation (B, C, h, w), H = scale·h.
        psf: point spread function of the observation (k, k), sums to 1.
        scale: fine pixels per coarse pixel.
        steps: repetitions, at most; the mismatch shrinks at each.
        tolerance: mismatch, the norm of lr_hsi − down(x) over that of lr_hsi, at which it stops.

    Raises:
        ValueError: `pred` is not `scale` times as large as `lr_hsi`, or has other bands.
    """
    check_image(pred, "pred")
    check_image(lr_hsi, "lr_hsi", bands=pred.shape[1])
    check_count(steps, "steps", at_least=0)
    wanted = tuple(scale * side for side in lr_hsi.shape[2:])
    if tuple(pred.shape[2:]) != wanted:
        fail("pred", f"{scale} times the size of `lr_hsi`, {wanted[0]}×{wanted[1]}", f"{pred.shape[2]}×{pred.shape[3]}")
    for _ in range(steps):
        missing = lr_hsi - blur_down(pred, psf, scale)
        if missing.norm() <= tolerance * lr_hsi.norm():
            break
        pred = pred + upsample(missing, scale)
    return pred


class ResidualCNN(nn.Module):
    """Image in the denoiser's channels (B, K, H, W) → the same with what is missing added.

    conv → `blocks` × (conv – ReLU – conv, plus the input) → conv, plus the input; 3×3 throughout. Starts as the
    identity.
    """

    def __init__(self, channels: int, width: int = 64, blocks: int = 3):
        super().__init__()
        self.stem = nn.Conv2d(channels, width, 3, padding=1)
        self.first = nn.ModuleList(nn.Conv2d(width, width, 3, padding=1) for _ in range(blocks))
        self.second = nn.ModuleList(nn.Conv2d(width, width, 3, padding=1) for _ in range(blocks))
        self.out = nn.Conv2d(width, channels, 3, padding=1)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, base: torch.Tensor) -> torch.Tensor:
        """Returns the estimate (B, K, H, W).

        Raises:
            ValueError: `base` has other channels.
        """
        check_image(base, "base", bands=self.stem.in_channels)
        x = self.stem(base)
        for first, second in zip(self.first, self.second):
            x = x + second(F.relu(first(x)))
        return base + self.out(x)
