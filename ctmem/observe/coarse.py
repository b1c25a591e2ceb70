"""Back-projection on the coarse grid: the same numbers as at full size, in a fraction of the time.

Back-projection adds enlarged coarse images to an estimate x₀, so that after n steps the image is x₀ + U v with a coarse
v, where D is the downsampling of the camera and U the bicubic enlargement. What is missing of the observation y is then
y − D x₀ − (D U) v, and D U maps coarse images to coarse ones: a few taps along each axis. So the fine image is
downsampled once and added to once, however many steps there are.

U is separable, and so is D for every term of the PSF: its singular value decomposition is a sum of products of a column
and a row, one for a Gaussian or a box. `along` makes the matrix of one axis by handing the unit vectors through torch's
own convolution and interpolation, so that borders are exact.

Source: this project; back-projection: Irani and Peleg, "Improving resolution by image registration", 1991.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F

BLOCK = 32  # coarse pixels of one axis that are multiplied at a time: beyond, most of the matrix is zeros
Matrices = Sequence[tuple[torch.Tensor, torch.Tensor]]  # of each term: along the rows and along the columns


def corrections(
    missing: torch.Tensor,
    again: Matrices,
    *,
    steps: int,
    at_least: int = 0,
    tolerance: float = 0.0,
    holes: torch.Tensor | None = None,
) -> torch.Tensor | None:
    """Returns the coarse image v that back-projection adds, enlarged, to its estimate; None for none.

    Args:
        missing: of the observation in the estimate, y − D x₀, (B, C, h, w).
        again: D U, from `blurs_of`.
        steps: repetitions, at most; it stops where the mismatch grows to twice the least, and gives that v.
        at_least: repetitions before it stops at the tolerance.
        tolerance: norm of what is missing at which it stops.
        holes: coarse pixels that were not observed, (B, 1, h, w) bool, so that nothing is missing there; None: none.
    """
    added: torch.Tensor | None = None
    best, least = added, math.inf
    for step in range(steps):
        missing = missing if holes is None else missing.masked_fill(holes, 0)
        mismatch = float(missing.norm())
        if mismatch > 2 * least:  # with a PSF far off its centre it would grow without bound
            return best
        if mismatch == 0 or (step >= at_least and mismatch <= tolerance):
            break
        if mismatch < least:
            best, least = added, mismatch
        added = missing if added is None else added + missing
        missing = missing - apply(again, missing)
    return added


def apply(terms: Matrices, x: torch.Tensor) -> torch.Tensor:
    """Returns the sum over all terms of rows · x · columnsᵀ, (B, C, H, W) → (B, C, H', W')."""
    results = [_times(columns, _times(rows, x.transpose(2, 3)).transpose(2, 3)) for rows, columns in terms]
    return functools.reduce(torch.add, results)


def blurs_of(psf: torch.Tensor, scale: int, size: tuple[int, int], like: torch.Tensor) -> Matrices:
    """Returns D U, (h, h) and (w, w) of each term of the PSF, in the type and on the device of `like`.

    Args:
        psf: (k, k), of the parity of the scale.
        scale: fine pixels per coarse pixel.
        size: (h, w) of the coarse image.
        like: what it will be applied to.
    """
    psf = psf.detach().cpu().double()
    left, strengths, right = torch.linalg.svd(psf)
    kept = strengths > len(psf) * torch.finfo(torch.float32).eps * strengths[0]
    tall, wide = (enlarging(side, scale) for side in size)
    return [
        (along(tall, strength * column, scale).to(like), along(wide, row, scale).to(like))
        for column, strength, row in zip(left.T[kept], strengths[kept], right[kept])
    ]


def enlarge(x: torch.Tensor, scale: int) -> torch.Tensor:
    """Returns U x, `optics.upsample` of x by matrix products, (B, C, scale·h, scale·w)."""
    return apply([(enlarging(x.shape[2], scale).to(x), enlarging(x.shape[3], scale).to(x))], x)


def enlarging(size: int, scale: int) -> torch.Tensor:
    """Returns U along one axis, (scale · size, size) float64: torch's bicubic interpolation of the unit vectors."""
    unit = torch.eye(size, dtype=torch.float64, device="cpu")[None, None]
    return F.interpolate(unit, scale_factor=(scale, 1), mode="bicubic", align_corners=False)[0, 0]


def along(x: torch.Tensor, profile: torch.Tensor, scale: int) -> torch.Tensor:
    """Returns the columns of `x` (scale · size, n) convolved with a profile (k,) and decimated, (size, n).

    The same as `optics.blur_down` along one axis: the border is replicated, the profile centred on the coarse pixel.
    """
    widen = max(0, scale - len(profile)) // 2
    kernel = F.pad(profile.flip(0), (widen, widen))
    reach = (len(kernel) - scale) // 2
    padded = F.pad(x[None, None], (0, 0, reach, reach), mode="replicate")
    return F.conv2d(padded, kernel[None, None, :, None], stride=(scale, 1))[0, 0]


def _times(matrix: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """Returns x (…, n) times matrixᵀ (n, m): block by block, for such a matrix has numbers near its diagonal only."""
    outputs, inputs = matrix.shape
    if inputs <= 2 * BLOCK:
        return x @ matrix.T
    done = []
    ratio = outputs // inputs
    for first in range(0, inputs, BLOCK):
        rows = matrix[ratio * first : ratio * min(first + BLOCK, inputs)]
        used = rows.any(0).nonzero()[:, 0]
        read = slice(int(used[0]), int(used[-1]) + 1)
        done.append(x[..., read] @ rows[:, read].T)
    return torch.cat(done, -1)
