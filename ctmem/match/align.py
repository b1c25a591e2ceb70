"""Bringing two images to the same look before they are compared: holes, levels of the bands, sharpness.

A *hole* is a pixel with a value in any band that is NaN or infinite: clouds, gaps between scan lines, borders.

Source: this project, but where a function names another.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from scipy.ndimage import distance_transform_edt

from ctmem.checks import check_image, fail

FLAT = 1e-6  # a band with a smaller deviation is constant


def gradient_magnitude(x: torch.Tensor) -> torch.Tensor:
    """Returns the length of each band's gradient, (B, C, H, W), units of x per pixel.

    Convention: central differences (x[i+1] − x[i−1]) / 2 with the border pixels repeated outside; 1e-6 stands
    under the root, so that a flat image has 0.001.

    Raises:
        TypeError: `x` is no floating-point tensor.
        ValueError: wrong rank or values that are not finite.
    """
    check_image(x, "x")
    padded = F.pad(x, (1, 1, 1, 1), mode="replicate")
    down = (padded[:, :, 2:, 1:-1] - padded[:, :, :-2, 1:-1]) / 2
    across = (padded[:, :, 1:-1, 2:] - padded[:, :, 1:-1, :-2]) / 2
    return (down.square() + across.square() + 1e-6).sqrt()


def fill_holes(image: torch.Tensor, name: str = "image") -> tuple[torch.Tensor, torch.Tensor]:
    """Returns (image, holes): every hole takes the values of the nearest pixel that is none.

    Args:
        image: (B, C, H, W).
        name: what the error calls it.

    Returns:
        The filled image and the holes (B, 1, H, W), bool.

    Raises:
        TypeError: an image that is no floating-point tensor.
        ValueError: wrong rank, or an image without any whole pixel.
    """
    check_image(image, name, finite=False)
    holes = ~torch.isfinite(image).all(1, keepdim=True)
    filled = image.clone() if holes.any() else image
    for one, hole in zip(filled, holes[:, 0]):
        if hole.all():
            fail(name, "finite in at least one pixel", "NaN or infinite values in all of them")
        if hole.any():
            rows, columns = distance_transform_edt(hole.cpu(), return_distances=False, return_indices=True)
            one[:, hole] = one[:, torch.from_numpy(rows)[hole.cpu()], torch.from_numpy(columns)[hole.cpu()]]
    return filled, holes


def gain_and_offset(source: torch.Tensor, target: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns (B, c, 1, 1) each: what brings mean and deviation of `source`'s bands to those of `target`.

    Pixels that are not finite do not count.

    Args:
        source: (1 or B, c, H, W).
        target: (B, c, H', W'), any other size.
    """
    (mean_s, spread_s), (mean_t, spread_t) = _moments(source), _moments(target)
    gain = torch.where(spread_s > FLAT, spread_t / spread_s.clamp_min(FLAT), torch.ones_like(spread_s))
    return gain, mean_t - gain * mean_s


def match_radiometry(reference: torch.Tensor, query: torch.Tensor) -> torch.Tensor:
    """Returns the reference with each band's mean and deviation moved to those of the query, (B, c, Hr, Wr).

    Args:
        reference: (1 or B, c, Hr, Wr).
        query: (B, c, H, W).

    Raises:
        TypeError: no floating-point tensors.
        ValueError: wrong rank, batch or band count, or values of the query that are not finite.
    """
    check_image(query, "query")
    check_image(reference, "reference", bands=query.shape[1], finite=False)
    if len(reference) not in (1, len(query)):
        fail("reference", f"one image, or one for each of {len(query)} queries", len(reference))
    gain, offset = gain_and_offset(reference, query)
    return gain * reference + offset


def to_standard(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns (gain, offset), (B, C, 1, 1) each, that bring every band to mean 0 and deviation 1.

    Pixels that are not finite do not count. A constant band gets gain 1, so that it becomes 0.

    Args:
        x: (B, C, H, W).
    """
    mean, spread = _moments(x)
    gain = torch.where(spread > FLAT, 1 / spread.clamp_min(FLAT), torch.ones_like(spread))
    return gain, -gain * mean


def sharpen(blurry: torch.Tensor, degrade: Callable[[torch.Tensor], torch.Tensor], steps: int) -> torch.Tensor:
    """Returns a sharper image, same shape, whose blur comes closer to `blurry`: y ← y + blurry − K(y), `steps` times.

    Brings back what the blur has damped but not deleted. Done to both sides, it tells patches apart better. Where
    K is a blur to LR pixels and back up, and `blurry` an upsampled LR image, this is back-projection.

    Args:
        blurry: (B, c, H, W).
        degrade: K.
        steps: how often; 0 gives `blurry` back.

    Source: Van Cittert's deconvolution, 1931; its use here is this project's.
    """
    sharper = blurry
    for _ in range(steps):
        sharper = sharper + blurry - degrade(sharper)
    return sharper


def prepare(
    ref_msi: torch.Tensor,
    degrade: Callable[[torch.Tensor], torch.Tensor],
    *,
    radiometry: bool = True,
    sharpening: int = 0,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns (sharp, blurred) references, (B, c, Hr, Wr) each, as `transfer` takes them.

    Holes are filled for the blur and are NaN in `blurred` afterwards. With `radiometry` each band of the blurred
    reference gets mean 0 and deviation 1, and the sharp one the same gain and offset: a blur commutes with both,
    so the reference keeps its own contrast between sharp and blurred.

    Args:
        ref_msi: (B, c, Hr, Wr), [0, 1], any size; pixels that are not finite are holes.
        degrade: K, from (·, c, Hr, Wr) to the same shape.
        radiometry: whether the brightness of the reference means nothing, as that of another sensor.
        sharpening: steps of `sharpen`, as many as the query gets.

    Raises:
        TypeError: a reference that is no floating-point tensor.
        ValueError: wrong rank, or a reference without any whole pixel.
    """
    with torch.no_grad():
        sharp, holes = fill_holes(ref_msi, "ref_msi")
        blurred = sharpen(degrade(sharp), degrade, sharpening)
    touched = F.max_pool2d(holes.to(blurred), 3, stride=1, padding=1) > 0  # the gradient reads the neighbours
    blurred = blurred.masked_fill(touched, math.nan)
    if not radiometry:
        return sharp, blurred
    gain, offset = to_standard(blurred)
    return gain * sharp + offset, gain * blurred + offset


def _moments(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and deviation of each band, (B, C, 1, 1) each; pixels that are not finite do not count."""
    x = torch.where(torch.isfinite(x), x, torch.nan)
    mean = x.nanmean((2, 3), keepdim=True)
    return mean, (x - mean).square().nanmean((2, 3), keepdim=True).sqrt()
