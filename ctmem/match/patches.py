"""Cutting images into windows and putting them back, and the eight flips and rotations of a square.

A *window* is named by its first row and column. Windows step through the image by `stride`; the last one of
each row and column is moved back so that it ends at the border. So every window holds real pixels only,
whatever the height and width, and every pixel lies in at least one window (for stride ≤ patch). An image
smaller than a window is first extended by repeating its last row and column.

Shapes: images (B, C, H, W) or (C, H, W); patches (B, N, C, P, P), N windows in row-major order.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F

from ctmem.checks import Size, as_floats, as_image, check_count, door, fail, typed


@typed
def starts(size: Size, patch: Size, stride: Size | None = None) -> torch.Tensor:
    """Returns the first pixels of the windows along one axis, ascending.

    Args:
        size: length of the axis, pixels.
        patch: length of a window, pixels.
        stride: step between windows; `None`: `patch`, so that windows tile the axis.

    Raises:
        ValueError: one of them is not a whole number ≥ 1.

    Example:
        >>> starts(12, 8, 3).tolist()
        [0, 3, 4]
    """
    stride = patch if stride is None else stride
    for value, name in ((size, "size"), (patch, "patch"), (stride, "stride")):
        check_count(value, name)
    last = max(size - patch, 0)
    first = torch.arange(0, last + 1, stride)
    return first if int(first[-1]) == last else torch.cat([first, torch.tensor([last])])


@typed
def grid_shape(height: Size, width: Size, patch: Size, stride: Size | None = None) -> tuple[int, int]:
    """Returns how many windows there are down and across: (rows, columns)."""
    return len(starts(height, patch, stride)), len(starts(width, patch, stride))


@typed
def windows(height: Size, width: Size, patch: Size, stride: Size | None = None) -> torch.Tensor:
    """Returns the (row, column) of every window's first pixel, (N, 2) whole numbers in row-major order.

    Example:
        >>> windows(4, 5, 2, 2).tolist()
        [[0, 0], [0, 2], [0, 3], [2, 0], [2, 2], [2, 3]]
    """
    return torch.cartesian_prod(starts(height, patch, stride), starts(width, patch, stride))


@typed
def size_of(image: torch.Tensor) -> tuple[int, int]:
    """Returns height and width of an image (…, H, W), pixels."""
    return image.shape[-2], image.shape[-1]


@typed
def cut(image: torch.Tensor, corners: torch.Tensor, patch: Size) -> torch.Tensor:
    """Returns the patches of one image at the given corners, (N, C, P, P).

    Args:
        image: (C, H, W), at least P×P pixels.
        corners: (N, 2) rows and columns of the first pixels, inside the image.
        patch: P, pixels.
    """
    views = image.unfold(1, patch, 1).unfold(2, patch, 1).permute(1, 2, 0, 3, 4)
    rows, columns = corners.to(image.device).unbind(1)
    return views[rows, columns]


@door
def unfold(image: torch.Tensor, patch: Size, stride: Size | None = None) -> torch.Tensor:
    """Returns the windows of an image batch, (B, N, C, P, P).

    Args:
        image: (B, C, H, W), any height and width.
        patch: P, pixels.
        stride: step between windows, pixels; `None`: `patch`.

    Raises:
        TypeError: `image` is not a floating-point tensor.
        ValueError: wrong rank or values that are not finite.
    """
    image = as_image(image, "image", double=True)
    check_count(patch, "patch")
    image = _at_least(image, patch)
    corners = windows(*size_of(image), patch, stride)
    return torch.stack([cut(one, corners, patch) for one in image])


@door
def fold(patches: torch.Tensor, size: tuple[Size, Size], stride: Size | None = None) -> torch.Tensor:
    """Returns the image the patches make, (B, C, H, W); where windows overlap, their mean.

    `fold(unfold(x, P, s), x.shape[2:], s)` is x for any height and width and any stride ≤ P.

    Args:
        patches: (B, N, C, P, P) in the order of `unfold`.
        size: height and width of the image, pixels.
        stride: the stride they were cut with; `None`: P.

    Raises:
        ValueError: not as many patches as the size has windows, or a stride > P, which leaves gaps.
    """
    patches = as_floats(patches, "patches", "(B, N, C, P, P)", double=True)
    if patches.ndim != 5 or 0 in patches.shape or patches.shape[3] != patches.shape[4]:
        fail("patches", "of shape (B, N, C, P, P), none of them 0", f"shape {tuple(patches.shape)}")
    batch, count, bands, patch, _ = patches.shape
    stride = patch if stride is None else stride
    check_count(stride, "stride", at_most=patch)
    height, width = (max(side, patch) for side in size)
    wanted = math.prod(grid_shape(height, width, patch, stride))
    if count != wanted:
        fail("patches", f"{wanted} windows for {size[0]}×{size[1]} px", f"{count}")
    corners = windows(height, width, patch, stride)
    places = torch.arange(height * width).reshape(1, height, width)
    pixels = cut(places, corners, patch).flatten().to(patches.device)
    values = patches.transpose(1, 2).reshape(batch * bands, -1)
    total = values.new_zeros(batch * bands, height * width).index_add_(1, pixels, values)
    cover = values.new_zeros(height * width).index_add_(0, pixels, torch.ones_like(pixels, dtype=values.dtype))
    return (total / cover).reshape(batch, bands, height, width)[:, :, : size[0], : size[1]]


@typed
def turned(x: torch.Tensor, k: int) -> torch.Tensor:
    """Returns one of the eight flips and rotations of the last two axes.

    k in 0 … 3 turns by k quarter turns anticlockwise; k in 4 … 7 first mirrors left and right, then turns by
    k − 4. k = 0 leaves x as it is.

    Raises:
        ValueError: `k` is not a whole number from 0 to 7.

    Example:
        >>> turned(torch.tensor([[1, 2], [3, 4]]), 1).tolist()
        [[2, 4], [1, 3]]
    """
    check_count(k, "k", at_least=0, at_most=7)
    return torch.rot90(x.flip(-1) if k >= 4 else x, k % 4, (-2, -1))


@typed
def turn_back(x: torch.Tensor, k: int) -> torch.Tensor:
    """Returns what `turned(·, k)` turns into x.

    Raises:
        ValueError: `k` is not a whole number from 0 to 7.
    """
    check_count(k, "k", at_least=0, at_most=7)
    turned = torch.rot90(x, -(k % 4), (-2, -1))
    return turned.flip(-1) if k >= 4 else turned


def _at_least(image: torch.Tensor, patch: Size) -> torch.Tensor:
    """Extends a smaller image to P pixels down and right by repeating its last row and column."""
    missing = [max(patch - side, 0) for side in image.shape[2:]]
    if not any(missing):
        return image
    return F.pad(image, (0, missing[1], 0, missing[0]), mode="replicate")
