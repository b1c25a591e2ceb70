"""Windows that agree: the reference laid under the query as a whole, to a fraction of a pixel.

`match` looks for every patch by itself. Where the reference shows the same ground, most patches name the same turn and
the same translation; elsewhere they contradict each other. `vote` counts. `agree` lays the turned reference under the
query in the few places with the most votes, moves it by fractions of a pixel until the blurred images fit, and takes,
pixel by pixel, the place that fits best around it. Other ground gets no votes, and is not laid anywhere.

The reference is moved by a windowed sinc of twelve pixels, which keeps what bicubic interpolation loses, and is blurred
only then, so that its coarse pixels are where those of the query are.

Source: this project. The sub-pixel step is that of Lucas and Kanade, IJCAI 1981, with gain and offset of each place.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F

from ctmem.checks import check_count
from ctmem.match.align import Blur, Prepared, check_blur, sharpen
from ctmem.match.matching import Match, as_list, one_each
from ctmem.match.patches import turned

ALONE, SHARE = 4, 0.01  # patches, and share of all, that may vote for one placement by chance
APART = 2  # pixels: placements of one turn that are nearer are one
RADIUS = 6  # of the windowed sinc, pixels
WIDE, NARROW = 17, 7  # sides of the squares on which query and reference are compared, pixels
UNLIKE = 0.6  # a score at which a place says nothing about where the reference lies
RIM = 6  # pixels along the border of the query, where its blur has read what is not seen
STEPS = 4  # of Lucas and Kanade
FARTHEST = 1.5  # pixels that they may go
SNAP = 0.15  # pixels: so near to a whole one, that is tried as well
TIE = 0.05  # of the votes: what they add to a score, where placements are compared
FLAT = 1e-6  # a square whose variance is smaller is constant


class Placement(NamedTuple):
    """Where a reference lies: pixel (r, c) of the query is (r + down, c + across) of the turned reference."""

    scene: int
    turn: int  # as of `patches.turned`
    down: float  # pixels
    across: float
    votes: float  # share of the query patches that say so, 0 to 1


@dataclass(frozen=True, eq=False)
class Agreed:
    """The reference on the pixels of the query, in the units of `Prepared`; zeros where it is not laid."""

    sharp: torch.Tensor  # (B, c, H, W)
    blurred: torch.Tensor  # (B, c, H, W), K of it
    score: torch.Tensor  # (B, 1, H, W), how alike query and blurred reference are in a wide square around, −1 to 1
    near: torch.Tensor  # (B, 1, H, W), the same in a narrow square
    votes: torch.Tensor  # (B, 1, H, W), of the placement that is taken there
    placements: tuple[tuple[Placement, ...], ...]  # of each query image, most votes first


def vote(match: Match, *, temperature: float = 0.02, most: int = 4) -> list[list[Placement]]:
    """Returns the placements with the most votes for each query image, in whole pixels, most votes first.

    Every query patch has one vote, divided among its windows by softmax(similarity / temperature). A window votes for
    the placement that it names and for the eight around it.

    Args:
        match: of windows in any turn.
        temperature: in units of the similarity.
        most: how many are kept of an image, of those with more votes than chance gives.

    Raises:
        ValueError: `most` is not a whole number ≥ 1.
    """
    check_count(most, "most")
    patches = match.scores.shape[1]
    kinds = 8 * match.scenes + match.windows[..., 2]
    weights = torch.softmax(match.scores / temperature, 2) / patches
    return [
        _counted(kind.flatten(), place.flatten(0, 1), weight.flatten(), most, SHARE + ALONE / patches)
        for kind, place, weight in zip(kinds, _translations(match), weights)
    ]


def _translations(match: Match) -> torch.Tensor:
    """From every query patch to its windows in the turned reference, rows and columns, (B, N, k, 2)."""
    row, column, turn = match.windows.unbind(-1)
    sizes = torch.tensor(match.reference_sizes, device=row.device)[match.scenes] - match.patch
    last_row, last_column = sizes.unbind(-1)
    column = torch.where(turn >= 4, last_column - column, column)  # mirrored
    for quarter in range(3):  # a quarter turn, where there is one left
        on = turn % 4 > quarter
        row, column = torch.where(on, last_column - column, row), torch.where(on, row, column)
        last_row, last_column = torch.where(on, last_column, last_row), torch.where(on, last_row, last_column)
    return torch.stack([row, column], -1) - match.corners.to(row.device)[:, None]


def _counted(
    kinds: torch.Tensor, places: torch.Tensor, weights: torch.Tensor, most: int, at_least: float
) -> list[Placement]:
    """The placements with the most votes; of windows: 8 · scene + turn (n,), translations (n, 2), votes (n,)."""
    # votes for each placement that is named, or next to one
    one = torch.arange(-1, 2, device=places.device)
    low = places.amin(0) - 1
    near = (places[:, None] + torch.cartesian_prod(one, one) - low).flatten(0, 1)
    height, width = (near.amax(0) + 1).tolist()
    keys = (kinds.repeat_interleave(9) * height + near[:, 0]) * width + near[:, 1]
    found, which = keys.unique(return_inverse=True)
    votes = weights.new_zeros(len(found)).index_add_(0, which, weights.repeat_interleave(9))
    # the best ones, without their neighbours
    votes, order = votes.topk(min(len(found), 64 * most))
    rows = torch.stack([found // (width * height), found // width % height + low[0], found % width + low[1]], 1)[order]
    kept: list[Placement] = []
    for (kind, down, across), share in zip(rows.tolist(), votes.tolist()):
        new = Placement(kind // 8, kind % 8, down, across, min(share, 1.0))
        if share > at_least and len(kept) < most and not any(_same(new, other) for other in kept):
            kept.append(new)
    return kept


def _same(one: Placement, other: Placement) -> bool:
    """Whether two placements are neighbours."""
    return one[:2] == other[:2] and max(abs(one.down - other.down), abs(one.across - other.across)) <= APART


@torch.no_grad()
def agree(match: Match, prepared: Prepared, blur: Blur, *, sharpening: int = 0, most: int = 4) -> Agreed:
    """Returns the references laid under the queries wherever the windows of a match agree.

    Args:
        match: of `prepared`, as `dmb.find` makes it; with `turns` and `stride` 1 for references in any position.
        prepared: queries (B, c, H, W) and references.
        blur: K, from (·, c, H, W) to the same shape.
        sharpening: the steps of `align.sharpen` that the query of `prepared` got.
        most: placements that are tried.

    Raises:
        TypeError: `blur` cannot be called.
        ValueError: what `vote` refuses.
    """
    check_blur(blur)
    sharp = as_list(prepared.sharp, "sharp")
    whole = [torch.isfinite(one).all(0) for one in as_list(prepared.blurred, "blurred")]
    images, placements = [], []
    for number, (query, voted) in enumerate(zip(prepared.query, vote(match, most=most))):
        layers = []
        for placement in voted:
            scene = number if one_each(prepared.sharp) else placement.scene
            image, data = turned(sharp[scene], placement.turn), turned(whole[scene], placement.turn)
            layer = _layer(query, image, data, placement, blur, sharpening)
            if not any(_same(layer.placement, other.placement) for other in layers):
                layers.append(layer)
        placements.append(tuple(layer.placement for layer in layers))
        images.append(_best(layers, query))
    over, blurred, score, near, votes = (torch.stack(parts) for parts in zip(*images))
    return Agreed(over, blurred, score, near, votes, tuple(placements))


class _Layer(NamedTuple):
    """A reference laid under the query in one place: images (·, H, W)."""

    sharp: torch.Tensor
    blurred: torch.Tensor
    score: torch.Tensor
    near: torch.Tensor
    placement: Placement


def _best(layers: list[_Layer], query: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Sharp and blurred image, both scores and the votes of the layer that fits best, pixel by pixel."""
    if not layers:
        return tuple(query.new_zeros(bands, *query.shape[1:]) for bands in (len(query), len(query), 1, 1, 1))
    score = torch.stack([layer.score for layer in layers])
    votes = [torch.full_like(layer.score, layer.placement.votes) for layer in layers]
    best = (score + TIE * torch.stack(votes)).argmax(0, keepdim=True)
    rows = [(layer.sharp, layer.blurred, layer.score, layer.near, share) for layer, share in zip(layers, votes)]
    columns = [torch.stack(column) for column in zip(*rows)]
    return tuple(torch.where(score.amax(0) != 0, x.gather(0, best.expand(1, *x.shape[1:]))[0], 0) for x in columns)


def _layer(
    query: torch.Tensor, image: torch.Tensor, data: torch.Tensor, placement: Placement, blur: Blur, sharpening: int
) -> _Layer:
    """The turned reference (c, Hr, Wr), with data where (Hr, Wr) says, laid where it fits best around a placement."""
    start = torch.tensor(placement[2:4])
    at, best = start, None
    for step in range(STEPS + 1):
        trial = _Trial.of(query, image, data, at, blur, sharpening)
        best = trial if best is None or trial.worth > best.worth else best
        if step < STEPS - 1:
            at = start + (at + trial.step(query) - start).clamp(-FARTHEST, FARTHEST)
        else:  # at last, whether whole pixels fit as well
            at = torch.where((best.at - best.at.round()).abs() < SNAP, best.at.round(), best.at)
    assert best is not None
    near = best.mask * _Fit.of(query, best.low, best.mask, NARROW).score
    down, across = best.at.tolist()
    found = placement._replace(down=down, across=across)
    return _Layer(best.over, blur(best.over[None])[0], best.mask * best.fit.score, near, found)


class _Trial(NamedTuple):
    """The reference laid under the query in one place: images (·, H, W)."""

    at: torch.Tensor  # (2,) down and across, pixels
    over: torch.Tensor
    low: torch.Tensor  # as the query was seen
    mask: torch.Tensor  # (1, H, W), 1 where the reference has data
    fit: _Fit
    worth: float  # the larger, the better it fits

    @classmethod
    def of(
        cls, query: torch.Tensor, image: torch.Tensor, data: torch.Tensor, at: torch.Tensor, blur: Blur, sharpening: int
    ) -> _Trial:
        """The trial of one place."""
        over, mask = laid(image, data, at.tolist(), query)
        low = sharpen(blur(over[None]), blur, sharpening)[0]
        fit = _Fit.of(query, low, mask, WIDE)
        worth = (mask * (fit.score - UNLIKE).clamp_min(0)).sum() / mask.sum().clamp_min(1)
        return cls(at, over, low, mask, fit, float(worth))

    def step(self, query: torch.Tensor) -> torch.Tensor:
        """How much farther down and across the reference is to be read, (2,), pixels, at most one."""
        rest = query - self.fit.mean_query - self.fit.gain * (self.low - self.fit.mean)
        padded = F.pad(self.low[None], (1, 1, 1, 1), mode="replicate")[0]
        slopes = torch.stack([padded[:, 2:, 1:-1] - padded[:, :-2, 1:-1], padded[:, 1:-1, 2:] - padded[:, 1:-1, :-2]])
        slopes = self.fit.gain * slopes / 2
        # least squares where it fits, and not along the border
        weight = self.mask * (self.fit.score - UNLIKE).clamp_min(0).square()
        for axis in (1, 2):
            rim = min(RIM, (query.shape[axis] - 1) // 3)
            for start in (0, query.shape[axis] - rim):
                weight.narrow(axis, start, rim).zero_()
        gram = torch.einsum("achw,bchw->ab", weight * slopes, slopes).double().cpu()
        right = torch.einsum("achw,chw->a", weight * slopes, rest).double().cpu()
        ridge = 1e-9 * (gram.trace() + 1e-6) * torch.eye(2, dtype=torch.float64)
        return torch.linalg.solve(gram + ridge, right).clamp(-1, 1).float()


class _Fit(NamedTuple):
    """How an image fits the query in a square around every pixel, band by band, (c, H, W)."""

    mean_query: torch.Tensor
    mean: torch.Tensor
    gain: torch.Tensor  # of least squares, from the image to the query; 0 to 3
    score: torch.Tensor  # (1, H, W), zero-mean normalised correlation of all bands

    @classmethod
    def of(cls, query: torch.Tensor, image: torch.Tensor, mask: torch.Tensor, side: int) -> _Fit:
        """The fit of an image where `mask` (1, H, W) is 1."""
        parts = [torch.ones_like(query), query, image, query * query, image * image, query * image]
        count, mean_q, mean, qq, kk, qk = box_mean(torch.stack([mask * x for x in parts]), side)
        mean_q, mean, qq, kk, qk = (x / count.clamp_min(1e-6) for x in (mean_q, mean, qq, kk, qk))
        var_q, var_k = (qq - mean_q.square()).clamp_min(0), (kk - mean.square()).clamp_min(0)
        cov = qk - mean_q * mean
        gain = torch.where(var_k > FLAT, cov / var_k.clamp_min(FLAT), 1).clamp(0, 3)
        length = (var_q.sum(0, keepdim=True) * var_k.sum(0, keepdim=True)).sqrt()
        return cls(mean_q, mean, gain, cov.sum(0, keepdim=True) / length.clamp_min(FLAT))


def box_mean(x: torch.Tensor, side: int) -> torch.Tensor:
    """Returns the means (N, c, H, W) over squares of an odd `side` around every pixel of x; outside are zeros."""
    rows = F.avg_pool2d(x, (side, 1), 1, (side // 2, 0))
    return F.avg_pool2d(rows, (1, side), 1, (0, side // 2))


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
