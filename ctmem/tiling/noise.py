"""Noise that belongs to a pixel: the same numbers there whatever window they are drawn for, in any order.

Source: Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", 2011 (Philox); the rest is this project's.
"""

from __future__ import annotations

from typing import Annotated

import numpy as np
import torch
from scipy.special import ndtri

from ctmem.checks import Bounds, Size, Width, typed

WORDS = 4  # 64-bit numbers that one count of Philox gives
Seed = Annotated[int, Bounds(0, 2**64 - 1)]
Place = Annotated[int, Bounds(0, 2**40)]


@typed
def pixel_noise(seed: Seed, top: Place, left: Place, height: Size, width: Size, channels: Width) -> torch.Tensor:
    """White Gaussian noise of a window, (1, channels, height, width) float32, of mean 0 and deviation 1.

    A number depends on `seed`, its row and column in the whole image, its channel, and how many channels there are.

    Args:
        seed: of the whole image.
        top: first row of the window, pixels.
        left: its first column.
        height: its rows.
        width: its columns.
        channels: values of a pixel.

    Example:
        >>> whole = pixel_noise(3, 0, 0, 8, 9, 2)
        >>> torch.equal(pixel_noise(3, 5, 4, 2, 3, 2), whole[:, :, 5:7, 4:7])
        True
    """
    counts, skipped = divmod(left * channels, WORDS)
    rows = np.empty((height, width * channels), np.uint64)
    for number, row in enumerate(rows):
        stream = np.random.Philox(key=seed, counter=[counts, top + number, 0, 0])
        row[:] = stream.random_raw(skipped + len(row))[skipped:]
    share = ((rows >> np.uint64(11)) + 0.5) / 2.0**53  # inside (0, 1)
    normal = ndtri(share).astype(np.float32).reshape(height, width, channels)
    return torch.from_numpy(np.ascontiguousarray(normal.transpose(2, 0, 1))[None])
