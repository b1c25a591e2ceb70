"""Windows that agree: the reference laid over the query, as a whole and to a fraction of a pixel.

`match` looks for every patch by itself. Where the reference shows the same ground, most patches name the same turn and
the same translation; elsewhere they contradict each other. `vote` counts. `agree` lays the turned reference over the
query by each of the few best placements, moves it by fractions of a pixel until the blurred images fit, and takes for
every pixel the placement that fits best around it. How many patches agree, and how well it fits, says what it is worth.

The reference is moved by a windowed sinc of twelve pixels, which keeps what bicubic interpolation loses, and is blurred
only then, so that its coarse pixels are where those of the query are.

Source: this project. The sub-pixel step is that of Lucas and Kanade, IJCAI 1981, with gain and offset of each place.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F

from ctmem.checks import check_count, door
from ctmem.match.align import Blur, Prepared, check_blur, gradient_magnitude, sharpen
from ctmem.match.matching import Match, as_list, one_each
from ctmem.match.patches import turned

RADIUS = 6  # of the windowed sinc, pixels
WIDE, NARROW = 17, 7  # sides of the squares on which query and reference are compared, pixels
APART = 2  # placements of one turn that are nearer than so many pixels are one
UNLIKE = 0.6  # a score at which a place says nothing about where the reference lies
RIM = 6  # pixels along the border of the query where its blur read what is not seen
ALONE = 4  # patches that may name one placement by chance
SNAP = 0.15  # pixels: so near to a whole one, that is tried as well
FARTHEST = 1.5  # pixels from where the patches voted for
STEPS = 4  # of Lucas and Kanade
GAINS = (0.0, 3.0)  # contrast that the reference may be multiplied by
FLAT = 1e-6  # a square whose variance is smaller is constant


class Placement(NamedTuple):
    """How a reference lies under the query: pixel (r, c) of the query is (r + down, c + across) of it, turned."""

    scene: int
    turn: int
    down: float
    across: float
    votes: float  # share of the query patches that say so, 0 to 1


@dataclass(frozen=True, eq=False)
class Agreed:
    """What the placed reference hands over, in the units of `Prepared.query`; zeros where there is no placement."""

    texture: torch.Tensor  # (B, 3c, H, W): sharp reference, its gradient, sharp − blurred; with the query's levels
    score: torch.Tensor  # (B, 1, H, W), how alike both are in a wide square around, −1 to 1
    near: torch.Tensor  # (B, 1, H, W), the same in a narrow square
    votes: torch.Tensor  # (B, 1, H, W), share of the query patches that voted for the placement taken there
    placements: tuple[tuple[Placement, ...], ...]  # of each query image, most votes first


@door
def vote(match: Match, *, temperature: float = 0.02, most: int = 4, at_least: float = 0.02) -> list[list[Placement]]:
    """Returns the placements with the most votes for each query image, at whole pixels, most votes first.

    A patch has one vote, divided among its windows by softmax(similarity / temperature), and gives it to the
    placement of each and the eight neighbours.

    Args:
        match: of windows in any turn, the best of them kept.
        temperature: in units of the similarity.
        most: placements kept of an image.
        at_least: share of the patches below which a placement is not one.

    Raises:
        ValueError: `most` is not a whole number ≥ 1.
    """
    check_count(most, "most")
    places = _translations(match)
    weights = torch.softmax(match.scores / temperature, 2) / match.scores.shape[1]
    return [
        _most_votes(match.scenes[b].flatten() * 8 + match.windows[b, ..., 2].flatten(), places[b].flatten(0, 1),
                    weights[b].flatten(), most, at_least + ALONE / weights.shape[1])
        for b in range(len(places))
    ]  # fmt: skip


def _translations(match: Match) -> torch.Tensor:
    """From every query patch to its windows, rows and columns of the turned reference, (B, N, k, 2)."""
    device = match.windows.device
    row, column, turn = match.windows.unbind(-1)
    heights, widths = (
        torch.tensor(sides, device=device)[match.scenes] - match.patch for sides in zip(*match.reference_sizes)
    )  # rows and columns of the last window
    column = torch.where(turn >= 4, widths - column, column)  # mirrored
    for quarter in range(3):  # turned, once more as long as there is something left
        on = turn % 4 > quarter
        row, column = torch.where(on, widths - column, row), torch.where(on, row, column)
        heights, widths = torch.where(on, widths, heights), torch.where(on, heights, widths)
    return torch.stack([row, column], -1) - match.corners.to(device)[:, None]


def _most_votes(
    kinds: torch.Tensor, places: torch.Tensor, weights: torch.Tensor, most: int, at_least: float
) -> list[Placement]:
    """The placements with the most votes; kinds (n,) are 8 · scene + turn, places (n, 2), weights (n,)."""
    around = torch.cartesian_prod(torch.arange(-1, 2), torch.arange(-1, 2)).to(places)
    low = places.amin(0) - 1
    height, width = (places.amax(0) + 2 - low).tolist()
    near = (places[:, None] + around - low).flatten(0, 1)
    keys = (kinds.repeat_interleave(len(around)) * height + near[:, 0]) * width + near[:, 1]
    found, which = keys.unique(return_inverse=True)
    votes = weights.new_zeros(len(found)).index_add_(0, which, weights.repeat_interleave(len(around)))
    votes, order = votes.topk(min(len(found), 64 * most))
    down, across = found[order] // width % height + low[0], found[order] % width + low[1]
    rows = zip((found[order] // (width * height)).tolist(), down.tolist(), across.tolist(), votes.tolist())
    kept: list[Placement] = []
    for kind, row, column, share in rows:
        close = any(
            kind == 8 * p.scene + p.turn and max(abs(row - p.down), abs(column - p.across)) <= APART for p in kept
        )
        if not close and share >= at_least and len(kept) < most:
            kept.append(Placement(kind // 8, kind % 8, row, column, min(share, 1.0)))
    return kept


@door
@torch.no_grad()
def agree(
    match: Match, prepared: Prepared, blur: Blur, *, sharpening: int = 0, most: int = 4, at_least: float = 0.02
) -> Agreed:
    """Returns what the reference hands over where it is laid over the query as a whole.

    Args:
        match: of `prepared`, as `dmb.find` makes it.
        prepared: query and references.
        blur: K, from (·, c, H, W) to the same shape.
        sharpening: the steps of `align.sharpen` that the query of `prepared` got.
        most: placements that are tried.
        at_least: share of the query patches that must vote for a placement.

    Raises:
        TypeError: `blur` cannot be called.
        ValueError: what `vote` refuses.
    """
    check_blur(blur)
    query = prepared.query
    sharp = as_list(prepared.sharp, "sharp")
    whole = [torch.isfinite(one).all(0) for one in as_list(prepared.blurred, "blurred")]
    placements = vote(match, most=most, at_least=at_least)
    rows = []
    for b, some in enumerate(placements):
        if one_each(prepared.sharp):
            some = [p._replace(scene=b) for p in some]
        layers = [_layer(query[b], sharp[p.scene], whole[p.scene], p, blur, sharpening) for p in some]
        rows.append(_best_layer(layers, query[b]))
        placements[b] = [layer.placement for layer in layers]
    texture, score, near, votes = (torch.stack(parts) for parts in zip(*rows))
    return Agreed(texture, score, near, votes, tuple(map(tuple, placements)))


class _Layer(NamedTuple):
    texture: torch.Tensor
    score: torch.Tensor  # (1, H, W)
    near: torch.Tensor
    placement: Placement


def _best_layer(layers: list[_Layer], query: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Texture, score, narrow score and votes of the layer that fits best, pixel by pixel."""
    empty = torch.zeros_like(query[:1])
    if not layers:
        return query.new_zeros(3 * len(query), *query.shape[1:]), empty, empty, empty
    scores = torch.stack([layer.score for layer in layers])
    best = scores.argmax(0, keepdim=True)
    votes = scores.new_tensor([layer.placement.votes for layer in layers]).reshape(-1, 1, 1, 1).expand_as(scores)
    parts = (torch.stack([layer.texture for layer in layers]), scores, torch.stack([x.near for x in layers]), votes)
    return tuple(x.gather(0, best.expand(1, *x.shape[1:]))[0] for x in parts)


def _layer(
    query: torch.Tensor, sharp: torch.Tensor, whole: torch.Tensor, placement: Placement, blur: Blur, sharpening: int
) -> _Layer:
    """A reference (c, Hr, Wr) laid under the query (c, H, W), to a fraction of a pixel."""
    image, here = turned(sharp, placement.turn), turned(whole, placement.turn)
    start = torch.tensor(placement[2:4])
    at, best = start, None
    for step in range(STEPS + 1):
        trial = _Trial.of(query, image, here, at, blur, sharpening)
        best = trial if best is None or trial.worth > best.worth else best
        if step < STEPS - 1:
            at = start + (at + trial.step(query) - start).clamp(-FARTHEST, FARTHEST)
        else:  # at last, whether whole pixels fit as well
            at = torch.where((best.at - best.at.round()).abs() < SNAP, best.at.round(), best.at)
    assert best is not None
    over, low, mask, wide = best.over, best.low, best.mask, best.wide
    down, across = best.at.tolist()
    gradient = gradient_magnitude(over[None])[0]
    texture = torch.cat([wide.mean_query + wide.gain * (over - wide.mean), wide.gain * gradient, wide.gain * (over - low)])
    near = _Fit.of(query, low, mask, NARROW)
    return _Layer(texture * mask, wide.score * mask, near.score * mask, placement._replace(down=down, across=across))


class _Trial(NamedTuple):
    """The reference laid under the query in one place."""

    at: torch.Tensor  # (2,) down and across, pixels
    over: torch.Tensor  # (c, H, W)
    low: torch.Tensor
    mask: torch.Tensor  # (1, H, W)
    wide: _Fit
    worth: float  # the larger, the better it fits

    @classmethod
    def of(
        cls, query: torch.Tensor, image: torch.Tensor, whole: torch.Tensor, at: torch.Tensor, blur: Blur, sharpening: int
    ) -> _Trial:
        """The trial of one place."""
        over, mask = laid(image, whole, *at.tolist(), query)
        low = sharpen(blur(over[None]), blur, sharpening)[0]
        wide = _Fit.of(query, low, mask, WIDE)
        return cls(at, over, low, mask, wide, float((mask * (wide.score - UNLIKE).clamp_min(0)).sum() / mask.sum().clamp_min(1)))

    def step(self, query: torch.Tensor) -> torch.Tensor:
        """How much farther down and across the reference is to be read, (2,), pixels, at most one."""
        fit = self.wide
        rest = query - fit.mean_query - fit.gain * (self.low - fit.mean)
        padded = F.pad(self.low[None], (1, 1, 1, 1), mode="replicate")[0]
        slopes = torch.stack([padded[:, 2:, 1:-1] - padded[:, :-2, 1:-1], padded[:, 1:-1, 2:] - padded[:, 1:-1, :-2]])
        slopes = fit.gain * slopes / 2
        # where it fits, and not along the border, where the blur of the query read what is not seen here
        weight = self.mask * (fit.score - UNLIKE).clamp_min(0).square()
        for axis, side in ((1, query.shape[1]), (2, query.shape[2])):
            rim = min(RIM, (side - 1) // 3)
            weight = F.pad(weight.narrow(axis, rim, side - 2 * rim), (0, 0, rim, rim) if axis == 1 else (rim, rim))
        gram = torch.einsum("achw,bchw->ab", weight * slopes, slopes).double()
        right = torch.einsum("achw,chw->a", weight * slopes, rest).double()
        ridge = 1e-9 * (gram.trace() + 1e-6) * torch.eye(2).to(gram)
        return torch.linalg.solve(gram + ridge, right).clamp(-1, 1).float().cpu()


def laid(
    image: torch.Tensor, whole: torch.Tensor, down: float, across: float, query: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns an image (c, Hr, Wr) at the pixels of the query, (c, H, W), and where it has any, (1, H, W).

    Elsewhere it is the query.

    Args:
        image: (c, Hr, Wr).
        whole: where it has data, (Hr, Wr), bool.
        down: pixel (r, c) of the query is (r + down, c + across) of the image, pixels.
        across: the same.
        query: (c, H, W).
    """
    for axis, by in ((1, down), (2, across)):
        image = moved_along(image, by, query.shape[axis], axis)
    rows, columns = (
        torch.arange(size, device=image.device) + by
        for size, by in zip(query.shape[1:], (down, across))
    )  # fmt: skip
    seen = torch.ones_like(query[0], dtype=torch.bool)
    for r in (rows.floor(), rows.ceil()):
        for c in (columns.floor(), columns.ceil()):
            inside = ((r >= 0) & (r < whole.shape[0]))[:, None] & ((c >= 0) & (c < whole.shape[1]))
            at = whole[r.long().clamp(0, whole.shape[0] - 1)][:, c.long().clamp(0, whole.shape[1] - 1)]
            seen &= inside & at
    return torch.where(seen, image, query), seen[None].to(query)


def moved_along(image: torch.Tensor, by: float, size: int, axis: int) -> torch.Tensor:
    """Returns `size` pixels of an image (c, Hr, Wr) along axis 1 or 2, from place `by` on, by a windowed sinc.

    The border is repeated. Of whole pixels nothing is changed.
    """
    first = int(by // 1)
    part = by - first
    reach = RADIUS if part else 0
    places = torch.arange(first - reach + 1, first + size + reach, device=image.device) if reach else None
    places = torch.arange(first, first + size, device=image.device) if places is None else places
    image = image.index_select(axis, places.clamp(0, image.shape[axis] - 1))
    if not reach:
        return image
    offsets = torch.arange(1 - reach, reach + 1, device=image.device, dtype=image.dtype) - part
    taps = torch.sinc(offsets) * torch.sinc(offsets / reach)
    kernel = (taps / taps.sum()).reshape((1, 1, -1, 1) if axis == 1 else (1, 1, 1, -1))
    return F.conv2d(image[:, None], kernel)[:, 0]


class _Fit(NamedTuple):
    """How an image fits the query in a square around every pixel, band by band, (c, H, W)."""

    mean_query: torch.Tensor
    mean: torch.Tensor
    gain: torch.Tensor
    score: torch.Tensor  # (1, H, W), over all bands

    @classmethod
    def of(cls, query: torch.Tensor, image: torch.Tensor, mask: torch.Tensor, side: int) -> _Fit:
        """Means, gain of least squares and zero-mean normalised correlation, where `mask` (1, H, W) is 1."""
        parts = [mask * x for x in (torch.ones_like(query), query, image, query * query, image * image, query * image)]
        sums = _box(torch.stack(parts), side)
        count, mean_q, mean_k, qq, kk, qk = sums
        count = count.clamp_min(1e-6)
        mean_q, mean_k = mean_q / count, mean_k / count
        var_q, var_k = (qq / count - mean_q.square()).clamp_min(0), (kk / count - mean_k.square()).clamp_min(0)
        cov = qk / count - mean_q * mean_k
        gain = torch.where(var_k > FLAT, cov / var_k.clamp_min(FLAT), 1).clamp(*GAINS)
        length = (var_q.sum(0, keepdim=True) * var_k.sum(0, keepdim=True)).sqrt()
        return cls(mean_q, mean_k, gain, cov.sum(0, keepdim=True) / length.clamp_min(FLAT))


def _box(x: torch.Tensor, side: int) -> torch.Tensor:
    """Means over squares around every pixel, zeros outside: (N, c, H, W)."""
    rows = F.avg_pool2d(x, (side, 1), 1, (side // 2, 0))
    return F.avg_pool2d(rows, (1, side), 1, (0, side // 2))
