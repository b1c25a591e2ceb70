"""Means, variances and likeness in small windows, for SSIM and UIQI.

A variance is summed about the window's own mean, axis after axis, by the law of total variance; E[x²] − E[x]² would
leave nothing but rounding of it where an image hardly varies around its level.

Source: Wang and Bovik, "A universal image quality index", 2002, and the code they published with it.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

WINDOW = 11  # side of the Gaussian window, pixels
SIGMA = 1.5  # of that Gaussian, pixels


class Moments(NamedTuple):
    """Of two images in every window that lies inside: (B, C, H − 10, W − 10) each."""

    mean_p: Tensor
    mean_t: Tensor
    var_p: Tensor
    var_t: Tensor
    shared: Tensor  # the covariance


def moments(pred: Tensor, target: Tensor) -> Moments:
    """Returns the moments of two images (B, C, H, W) under the Gaussian window: first down, then across."""
    offsets = torch.arange(WINDOW, dtype=pred.dtype, device=pred.device) - WINDOW // 2
    gauss = torch.exp(-((offsets / SIGMA) ** 2) / 2)
    weights: list[float] = (gauss / gauss.sum()).tolist()
    means, within = [pred, target], [torch.zeros_like(pred[:, :, :1, :1])] * 3
    for axis in (2, 3):
        over = [windowed(mean, weights, axis) for mean in means]
        spread = [torch.zeros_like(over[0]) for _ in within]
        for place, weight in enumerate(weights):
            p, t = (mean.narrow(axis, place, whole.shape[axis]) - whole for mean, whole in zip(means, over))
            for total, one, other in zip(spread, (p, t, p), (p, t, t)):
                total.addcmul_(one, other, value=weight)
        if axis == 3:
            spread = [total + windowed(inner, weights, axis) for total, inner in zip(spread, within)]
        means, within = over, spread
    return Moments(*means, *within)


def windowed(x: Tensor, weights: list[float], axis: int) -> Tensor:
    """Returns the weighted mean along one axis, where the window lies inside the image."""
    kept = x.shape[axis] - len(weights) + 1
    total = torch.zeros_like(x.narrow(axis, 0, kept))
    for place, weight in enumerate(weights):
        total.add_(x.narrow(axis, place, kept), alpha=weight)
    return total


def structural_similarity(of: Moments, c1: float, c2: float) -> Tensor:
    """Returns the SSIM of every window, with the constants of brightness and contrast."""
    above = (2 * of.mean_p * of.mean_t + c1) * (2 * of.shared + c2)
    return above / ((of.mean_p.square() + of.mean_t.square() + c1) * (of.var_p + of.var_t + c2))


def quality_index(of: Moments, grain_p: Tensor, grain_t: Tensor) -> Tensor:
    """Returns the UIQI of every window; where both are flat, brightness alone, and two black ones are equal.

    A window is flat whose deviation is no larger than the grain, (B, 1, 1, 1), times its mean.
    """
    flat_p = of.var_p <= (grain_p * of.mean_p).square()
    flat_t = of.var_t <= (grain_t * of.mean_t).square()
    structure = 2 * of.shared / (of.var_p + of.var_t)
    brightness = 2 * of.mean_p * of.mean_t / (of.mean_p.square() + of.mean_t.square())
    brightness = torch.where((of.mean_p == 0) & (of.mean_t == 0), 1, brightness)
    return torch.where(flat_p & flat_t, 1, structure) * brightness


def without_holes(holes: Tensor) -> Tensor:
    """Returns which windows have no pixel of the holes (B, 1, H, W): (B, 1, H − 10, W − 10), bool."""
    return F.max_pool2d(holes.float(), WINDOW, stride=1) == 0
