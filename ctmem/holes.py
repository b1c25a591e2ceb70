"""Holes: pixels without data. There is one notion of them in this package.

A *hole* is a pixel with a value in any band that is NaN or infinite: clouds, gaps between scan lines, borders, what a
file says is no data. `Scene` makes holes of a file's masks, and its tensor has NaN there. A function that can deal with
holes reads an image by `split_holes`, computes on values that whole pixels have, and gives NaN where there was nothing;
what stood under a mask is in no number. The others refuse NaN as ever.

Source: this project.
"""

from __future__ import annotations

import math
from typing import NoReturn

import torch
from scipy.ndimage import distance_transform_edt

from ctmem.checks import Inside, as_image, door, fail, typed


@door
def fill_holes(image: torch.Tensor, name: str = "image") -> tuple[torch.Tensor, torch.Tensor]:
    """Returns (image, holes): every hole takes the values of the nearest whole pixel.

    Args:
        image: (B, C, H, W).
        name: what the error calls it.

    Returns:
        The filled image and the holes (B, 1, H, W), bool.

    Raises:
        TypeError: an image that is not a floating-point tensor.
        ValueError: wrong rank, or an image without any whole pixel.
    """
    image = as_image(image, name, finite=False, double=True)
    holes = find_holes(image)
    return (fill_in(image.clone(), holes, name) if holes.any() else image), holes


def split_holes(image: torch.Tensor, name: str = "image") -> tuple[torch.Tensor, torch.Tensor | None]:
    """Returns (image, holes) as `fill_holes`, but None for no holes, for which an image is read through only once.

    Args:
        image: (B, C, H, W), from `as_image` with `finite=False`.
        name: what the error calls it.

    Raises:
        ValueError: an image without any whole pixel.
    """
    if bool(torch.isfinite(torch.stack(image.detach().aminmax())).all()):
        return image, None
    holes = find_holes(image)
    return fill_in(image.clone(), holes, name), holes


def find_holes(image: torch.Tensor) -> torch.Tensor:
    """Returns the holes of an image (B, C, H, W), band after band to save memory: (B, 1, H, W), bool."""
    holes = torch.zeros_like(image[:, :1], dtype=torch.bool)
    for band in image.split(1, dim=1):
        holes |= ~torch.isfinite(band)
    return holes


def fill_in(image: torch.Tensor, holes: torch.Tensor, name: str = "image") -> torch.Tensor:
    """Returns `image` itself after its holes were filled, as by `fill_holes`, which leaves it as it is.

    Args:
        image: (B, C, H, W).
        holes: (B, 1, H, W), bool.
        name: what the error calls it.

    Raises:
        ValueError: an image without any whole pixel.
    """
    for one, hole in zip(image, holes[:, 0]):
        if hole.all():
            _refuse(one, name)
        if hole.any():
            nearest = distance_transform_edt(hole.cpu(), return_distances=False, return_indices=True)
            rows, columns = (torch.from_numpy(places).to(hole.device)[hole] for places in nearest)
            for band in one:
                band[hole] = band[rows, columns]
    return image


def _refuse(image: torch.Tensor, name: str) -> NoReturn:
    """Raises for an image (C, H, W) of holes only; names bands that are missing where others are not."""
    empty = (~torch.isfinite(image)).all(-1).all(-1).nonzero().flatten().tolist()
    if 0 < len(empty) < len(image):
        some = ", ".join(map(str, empty[:8])) + ("" if len(empty) <= 8 else ", …")
        fail(name, "of bands with data (leave the others out)", f"NaN or infinite values in all of band(s) {some}")
    fail(name, "finite in at least one pixel", "NaN or infinite values in all of them")


@typed
def open_holes(image: Inside[torch.Tensor], holes: Inside[torch.Tensor | None]) -> torch.Tensor:
    """Returns an image (B, C, H, W) with NaN in its holes (B, 1, H, W), or (B, 1, h, w) of a coarser grid; None: none.

    Raises:
        TypeError: an image that is not of floating-point numbers, or holes that are not truth values.
        ValueError: another rank, or holes of another shape.

    Example:
        >>> open_holes(torch.ones(1, 1, 2, 4), torch.tensor([False, True]).reshape(1, 1, 1, 2))[0, 0, 0].tolist()
        [1.0, 1.0, nan, nan]
    """
    image = as_image(image, "image", finite=False, double=True)
    if holes is None:
        return image
    if not isinstance(holes, torch.Tensor) or holes.dtype != torch.bool:
        fail("holes", "a tensor of truth values", getattr(holes, "dtype", type(holes).__name__), TypeError)
    times = image.shape[-2] // holes.shape[-2] if holes.ndim == 4 and holes.numel() else 0
    size = [times * side for side in holes.shape[2:]]
    if not times or len(holes) not in (1, len(image)) or holes.shape[1] != 1 or size != [*image.shape[2:]]:
        expected = f"of the images they belong to, ({len(image)}, 1, {image.shape[2]}, {image.shape[3]}) or coarser"
        fail("holes", expected, f"shape {tuple(holes.shape)}")
    return image.masked_fill(enlarged(holes, times), math.nan)


def holes_of_each(holes: torch.Tensor | None, count: int) -> list[torch.Tensor | None]:
    """Returns the holes (B, 1, H, W) of a batch image by image, or None for each."""
    return [None] * count if holes is None else list(holes.split(1))


def enlarged(holes: torch.Tensor, scale: int) -> torch.Tensor:
    """Returns coarse holes (B, 1, h, w) on the fine grid, (B, 1, scale·h, scale·w)."""
    return holes.repeat_interleave(scale, 2).repeat_interleave(scale, 3)


def whole_pixels(image: torch.Tensor, holes: torch.Tensor | None) -> torch.Tensor:
    """Returns the pixels of one image (1, C, H, W) that are not holes, as an image of one row, (1, C, 1, n).

    Statistics over pixels do not ask where these are. Without holes (None) the image itself.
    """
    return image if holes is None else image[:, :, ~holes[0, 0]].unsqueeze(2)
