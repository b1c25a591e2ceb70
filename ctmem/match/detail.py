"""The detail of a laid reference in channels of any kind: how they follow its bands, place by place.

Around every pixel the channels of the blurry image are a linear function of the bands of the blurred reference, by
least squares. What the blur took from the reference, through the same function, is what it took from the channels.

Source: this project, after the guided filter of He, Sun and Tang, ECCV 2010; the local fit of pansharpening is older.
"""

from __future__ import annotations

import torch

from ctmem.checks import Image, check_same_shape, typed
from ctmem.match.laying import box_mean

SIDE = 9  # of the square around every pixel, pixels
RIDGE = 0.003  # share of the bands' mean variance that holds the local fit to that of the whole image
LEAST = 0.01  # weight of a pixel that does not count, so that there is something everywhere


@typed
@torch.no_grad()
def local_detail(blurry: Image, sharp: Image, blurred: Image, weight: Image) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns (detail, explained), (1, Z, H, W) each: what is to be added, and the share of variance that is explained.

    Args:
        blurry: the channels (1, Z, H, W).
        sharp: bands of the reference on the same pixels, (1, c, H, W).
        blurred: K of them.
        weight: how much each pixel counts in the fit, (1, 1, H, W), 0 to 1.

    Raises:
        ValueError: images of different sizes.
    """
    check_same_shape(sharp, blurred, ("sharp", "blurred"))
    check_same_shape(blurry[:, :1], weight, ("blurry", "weight"))
    weight = weight[0].clamp_min(LEAST)
    count = box_mean(weight[None], SIDE)[0]

    def local(x: torch.Tensor) -> torch.Tensor:
        return box_mean((weight * x)[None], SIDE)[0] / count

    z, low = blurry[0], blurred[0]
    # the fit of the whole image, then that of every place, held to it
    mean_z, mean_k = local(z), local(low)
    moments = torch.stack([local(low * band) - mean_k * mean for band, mean in zip(low, mean_k)])  # (c, c, H, W)
    mixed = torch.stack([local(low * one) - mean_k * mean for one, mean in zip(z, mean_z)])  # (Z, c, H, W)
    whole, whole_mixed = moments.mean((2, 3)), mixed.mean((2, 3))
    ridge = (RIDGE * whole.diagonal().mean() + 1e-9) * torch.eye(len(low)).to(low)
    general = torch.linalg.solve(whole + ridge, whole_mixed.T)  # (c, Z)
    slopes = torch.linalg.solve(moments.permute(2, 3, 0, 1) + ridge, mixed.permute(2, 3, 1, 0) + ridge @ general)
    # means over all squares that a pixel lies in
    slopes = box_mean(slopes.permute(3, 2, 0, 1), SIDE) / box_mean(torch.ones_like(low[:1])[None], SIDE)
    detail = (slopes * (sharp[0] - low)).sum(1)
    power = local(z * z) - mean_z.square()
    rest = power - 2 * (slopes * mixed).sum(1) + torch.einsum("zahw,abhw,zbhw->zhw", slopes, moments, slopes)
    explained = (1 - rest / power.clamp_min(1e-6)).clamp(0, 1)
    return detail[None], explained[None]
