"""Laying an image under another one: moved by fractions of a pixel, bent, and compared place by place.

Images are moved by a windowed sinc of twelve pixels, which keeps what bicubic interpolation loses. A laid reference is
blurred after it was moved, so that its coarse pixels are where those of the query are.

Source: this project. The steps are those of Lucas and Kanade, IJCAI 1981, with gain and offset of each place.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F

from ctmem.checks import double

RADIUS = 6  # of the windowed sinc, pixels
FINER = 4  # places to a pixel that images are bent from
WIDE = 17  # side of the square on which query and reference are compared, pixels
UNLIKE = 0.6  # a score at which a place says nothing about where the reference lies
RIM = 6  # pixels along the border of the query, where its blur has read what is not seen
STIFF = 0.03  # share of the mean steepness that holds a local step back
FLAT = 1e-6  # a square whose variance is smaller is constant


class Fit(NamedTuple):
    """How an image fits the query in a square around every pixel, band by band, (c, H, W)."""

    mean_query: torch.Tensor
    mean: torch.Tensor
    gain: torch.Tensor  # of least squares, from the image to the query; 0 to 3
    score: torch.Tensor  # (1, H, W), zero-mean normalised correlation of all bands

    @classmethod
    def of(cls, query: torch.Tensor, image: torch.Tensor, mask: torch.Tensor, side: int) -> Fit:
        """The fit of an image where `mask` (1, H, W) is 1."""
        parts = [torch.ones_like(query), query, image, query * query, image * image, query * image]
        count, mean_q, mean, qq, kk, qk = box_mean(torch.stack([mask * x for x in parts]), side)
        mean_q, mean, qq, kk, qk = (x / count.clamp_min(1e-6) for x in (mean_q, mean, qq, kk, qk))
        var_q, var_k = (qq - mean_q.square()).clamp_min(0), (kk - mean.square()).clamp_min(0)
        cov = qk - mean_q * mean
        gain = torch.where(var_k > FLAT, cov / var_k.clamp_min(FLAT), 1).clamp(0, 3)
        length = (var_q.sum(0, keepdim=True) * var_k.sum(0, keepdim=True)).sqrt()
        return cls(mean_q, mean, gain, cov.sum(0, keepdim=True) / length.clamp_min(FLAT))


class Trial(NamedTuple):
    """A reference laid under the query in one way: images (·, H, W)."""

    over: torch.Tensor
    low: torch.Tensor  # as the query was seen
    mask: torch.Tensor  # (1, H, W), 1 where the reference has data
    fit: Fit
    worth: float  # mean score beyond `UNLIKE`: the larger, the better it fits

    @classmethod
    def of(cls, query: torch.Tensor, over: torch.Tensor, low: torch.Tensor, mask: torch.Tensor) -> Trial:
        """The trial of an image `over`, which is `low` when it is seen as the query was."""
        fit = Fit.of(query, low, mask, WIDE)
        worth = (mask * (fit.score - UNLIKE).clamp_min(0)).sum() / mask.sum().clamp_min(1)
        return cls(over, low, mask, fit, float(worth))

    def step(self, query: torch.Tensor) -> torch.Tensor:
        """How much farther down and across the reference is to be read, (2,), pixels, at most one."""
        gram, right = (x.sum((-2, -1)).cpu().double() for x in self._equations(query))
        ridge = 1e-9 * (gram.trace() + 1e-6) * torch.eye(2, dtype=torch.float64)
        return torch.linalg.solve(gram + ridge, right).clamp(-1, 1).float()

    def local_step(self, query: torch.Tensor) -> torch.Tensor:
        """The same around every pixel, (2, H, W), pixels, at most one."""
        gram, right = self._equations(query)
        gram, right = box_mean(gram, WIDE), box_mean(right[None], WIDE)[0]
        stiff = STIFF * (gram[0, 0] + gram[1, 1]).mean() + 1e-9
        down, across, mixed = gram[0, 0] + stiff, gram[1, 1] + stiff, gram[0, 1]
        both = torch.stack([across * right[0] - mixed * right[1], down * right[1] - mixed * right[0]])
        both = (both / (down * across - mixed.square())).clamp(-1, 1)
        return box_mean(both[None], WIDE)[0] / box_mean(torch.ones_like(both)[None], WIDE)[0]

    def _equations(self, query: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Both sides of the normal equations of every pixel, (2, 2, H, W) and (2, H, W)."""
        rest = query - self.fit.mean_query - self.fit.gain * (self.low - self.fit.mean)
        padded = F.pad(self.low[None], (1, 1, 1, 1), mode="replicate")[0]
        slopes = torch.stack([padded[:, 2:, 1:-1] - padded[:, :-2, 1:-1], padded[:, 1:-1, 2:] - padded[:, 1:-1, :-2]])
        slopes = self.fit.gain * slopes / 2
        # where it fits, and not along the border
        weight = self.mask[0] * (self.fit.score[0] - UNLIKE).clamp_min(0).square()
        for axis in (0, 1):
            rim = min(RIM, (weight.shape[axis] - 1) // 3)
            for start in (0, weight.shape[axis] - rim):
                weight.narrow(axis, start, rim).zero_()
        gram = weight * torch.einsum("achw,bchw->abhw", slopes, slopes)
        return gram, weight * torch.einsum("achw,chw->ahw", slopes, rest)


def box_mean(x: torch.Tensor, side: int) -> torch.Tensor:
    """Returns the means (N, c, H, W) over squares of an odd `side` around every pixel of x; outside are zeros."""
    for axis in (2, 3):
        rim = (0, 0) * (3 - axis) + (side // 2 + 1, side // 2)
        sums = double(F.pad(x, rim)).cumsum(axis)
        size = x.shape[axis]
        x = ((sums.narrow(axis, side, size) - sums.narrow(axis, 0, size)) / side).to(x)
    return x


def laid(
    image: torch.Tensor, data: torch.Tensor, at: tuple[float, float] | list[float], query: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns an image on the pixels of the query, (c, H, W), and where it has data, (1, H, W), 1 or 0.

    Elsewhere it is the query.

    Args:
        image: (c, Hr, Wr).
        data: where it has data, (Hr, Wr), bool.
        at: pixel (r, c) of the query is (r + at[0], c + at[1]) of the image.
        query: (c, H, W).
    """
    mask = data[None].to(image)
    for axis, by in enumerate(at, start=1):
        size = query.shape[axis]
        image = moved_along(image, by, size, axis)
        # both neighbours must be there, and have data
        rim = (0, 0) * (2 - axis) + (1 - min(0, math.floor(by)), 1 + max(0, math.ceil(by) + size - mask.shape[axis]))
        padded = F.pad(mask, rim)
        first = rim[-2] + math.floor(by)
        mask = padded.narrow(axis, first, size) * padded.narrow(axis, first + math.ceil(by) - math.floor(by), size)
    return torch.where(mask > 0, image, query), mask


def moved_along(image: torch.Tensor, by: float, size: int, axis: int) -> torch.Tensor:
    """Returns `size` pixels of an image (c, Hr, Wr) along axis 1 or 2, from place `by` on.

    Between pixels stands what a windowed sinc says; whole pixels are as they are. The border is repeated.
    """
    first, part = math.floor(by), by - math.floor(by)
    reach = RADIUS if part else 0
    places = torch.arange(first - max(reach - 1, 0), first + size + reach, device=image.device)
    image = image.index_select(axis, places.clamp(0, image.shape[axis] - 1))
    if not reach:
        return image
    offsets = torch.arange(1 - reach, reach + 1, device=image.device, dtype=image.dtype) - part
    taps = torch.sinc(offsets) * torch.sinc(offsets / reach)
    kernel = (taps / taps.sum()).reshape((1, 1, -1, 1) if axis == 1 else (1, 1, 1, -1))
    return F.conv2d(image[:, None], kernel)[:, 0]


def finer(image: torch.Tensor) -> torch.Tensor:
    """Returns an image (c, Hr, Wr) with n = `FINER` places to a pixel, the first itself, (c, n · Hr, n · Wr)."""
    for axis in (1, 2):
        size = image.shape[axis]
        phases = [moved_along(image, part / FINER, size, axis) for part in range(FINER)]
        image = torch.stack(phases, axis + 1).flatten(axis, axis + 1)
    return image


def bent(
    fine: torch.Tensor, data: torch.Tensor, field: torch.Tensor, query: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns what `laid` does, of an image that is read at another place for every pixel.

    Args:
        fine: what `finer` made of the image.
        data: where the image has data, (Hr, Wr), bool.
        field: pixel (r, c) of the query is (r + field[0, r, c], c + field[1, r, c]) of the image, (2, H, W).
        query: (c, H, W).
    """
    rows, columns = (torch.arange(side, device=field.device, dtype=field.dtype) for side in query.shape[1:])
    places = torch.stack([field[1] + columns, field[0] + rows[:, None]], -1)  # across and down, as grid_sample wants it

    def read(x: torch.Tensor, scale: int, mode: str, beyond: str) -> torch.Tensor:
        last = torch.tensor([x.shape[2] - 1, x.shape[1] - 1], device=x.device).clamp_min(1)
        grid = 2 * scale * places / last - 1
        return F.grid_sample(x[None], grid[None], mode=mode, padding_mode=beyond, align_corners=True)[0]

    mask = (read(data[None].to(fine), 1, "bilinear", "zeros") > 0.999).to(fine)
    return torch.where(mask > 0, read(fine, FINER, "bicubic", "border"), query), mask
