"""Windows that agree: the reference laid under the query as a whole, to a fraction of a pixel.

`match` looks for every patch by itself. Where the reference shows the same ground, most patches name the same turn and
the same translation; elsewhere they contradict each other. `vote` counts. `lay` puts the turned reference under the
query in the few places with the most votes, moves and bends it until the blurred images fit (`laying`), and takes,
pixel by pixel, the place that fits best around it; `agree` does both. Other ground gets no votes, and is not laid
anywhere.

Source: this project.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch

from ctmem.checks import Count, Positive, Repeats, check_count, fail, typed
from ctmem.match.align import Blur, Prepared, check_blur, sharpen
from ctmem.match.laying import UNLIKE, Fit, Trial, bent, finer, laid
from ctmem.match.matching import Match, as_list, one_each
from ctmem.match.patches import turned

ALONE, SHARE = 4, 0.01  # patches, and share of all, that may vote for one placement by chance
APART = 4  # pixels: placements of one turn that are nearer are one
NARROW = 7  # side of the smaller square on which query and reference are compared, pixels
STEPS = 4  # of Lucas and Kanade
FARTHEST = 1.5  # pixels that they may go
SNAP = 0.15  # pixels: so near to a whole one, that is tried as well
GOOD, CLEARLY = 0.399, 0.0005  # worth of a trial (0.4 at most) that need not be bent; by how much it must rise if it is
ALIKE = 0.95  # score at which a laid reference counts whole; at `UNLIKE` it does not count
TIE = 0.05  # of the votes: what they add to a score, where placements are compared


class Placement(NamedTuple):
    """Where a reference lies: pixel (r, c) of the query is (r + down, c + across) of the turned reference."""

    scene: int
    turn: int  # as of `patches.turned`
    down: float  # pixels
    across: float
    votes: float  # share of the query patches that say so, 0 to 1


@typed
@dataclass(frozen=True, eq=False)
class Agreed:
    """The reference on the pixels of the query, in the units of `Prepared`; zeros where it is not laid."""

    sharp: torch.Tensor  # (B, c, H, W)
    blurred: torch.Tensor  # (B, c, H, W), K of it
    score: torch.Tensor  # (B, 1, H, W), how alike query and blurred reference are in a wide square around, −1 to 1
    near: torch.Tensor  # (B, 1, H, W), the same in a narrow square
    votes: torch.Tensor  # (B, 1, H, W), of the placement that is taken there
    placements: tuple[tuple[Placement, ...], ...]  # of each query image, most votes first

    @property
    def share(self) -> torch.Tensor:
        """How much the reference counts at each pixel, (B, 1, H, W): 0 where it is unlike, 1 where it is alike."""
        return (((self.score + self.near) / 2 - UNLIKE) / (ALIKE - UNLIKE)).clamp(0, 1)


@typed
def vote(match: Match, *, temperature: Positive = 0.02, most: Count = 4) -> list[list[Placement]]:
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
    kinds: torch.Tensor, places: torch.Tensor, weights: torch.Tensor, most: Count, at_least: float
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


@typed
@torch.no_grad()
def agree(match: Match, prepared: Prepared, blur: Blur, *, sharpening: Repeats = 0, most: Count = 4) -> Agreed:
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
    return lay(vote(match, most=most), prepared, blur, sharpening=sharpening)


@typed
@torch.no_grad()
def lay(voted: Sequence[Sequence[Placement]], prepared: Prepared, blur: Blur, *, sharpening: Repeats = 0) -> Agreed:
    """Returns the references laid under the queries where placements say, each moved and bent until it fits.

    Args:
        voted: placements of each query image, to about a pixel, most votes first; none: nothing is laid.
        prepared: queries (B, c, H, W) and references.
        blur: K, from (·, c, H, W) to the same shape.
        sharpening: the steps of `align.sharpen` that the query of `prepared` got.

    Raises:
        TypeError: `blur` cannot be called.
        ValueError: another number of lists than of query images.
    """
    check_blur(blur)
    if len(voted) != len(prepared.query):
        fail("voted", f"placements of each of {len(prepared.query)} query images", f"{len(voted)}")
    sharp = as_list(prepared.sharp, "sharp")
    whole = [torch.isfinite(one).all(0) for one in as_list(prepared.blurred, "blurred")]
    images, placements = [], []
    for number, (query, own) in enumerate(zip(prepared.query, voted)):
        layers: list[_Layer] = []
        for placement in own:
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
    query: torch.Tensor, image: torch.Tensor, data: torch.Tensor, placement: Placement, blur: Blur, sharpening: Repeats
) -> _Layer:
    """The turned reference (c, Hr, Wr), with data where (Hr, Wr) says, laid where it fits best around a placement."""

    def tried(over: torch.Tensor, mask: torch.Tensor) -> Trial:
        return Trial.of(query, over, sharpen(blur(over[None]), blur, sharpening)[0], mask)

    # as a whole: step by step to where it fits, and at last whether whole pixels fit as well
    start = torch.tensor(placement[2:4])
    at, trials = start, []
    for step in range(STEPS + 1):
        trials.append((tried(*laid(image, data, at.tolist(), query)), at))
        best, at = max(trials, key=lambda pair: pair[0].worth)
        if step < STEPS - 1:
            at = start + (trials[-1][1] + trials[-1][0].step(query) - start).clamp(-FARTHEST, FARTHEST)
        elif step == STEPS - 1:
            at = torch.where((at - at.round()).abs() < SNAP, at.round(), at)
    down, across = at.tolist()
    # then bent, where that fits clearly better
    if best.worth < GOOD:
        fine = finer(image)
        field = at.to(image)[:, None, None].expand(2, *query.shape[1:])
        bend = best
        for _ in range(STEPS):
            field = field + bend.local_step(query)
            bend = tried(*bent(fine, data, field, query))
            if bend.worth > best.worth + CLEARLY:
                best = bend
    near = best.mask * Fit.of(query, best.low, best.mask, NARROW).score
    found = placement._replace(down=down, across=across)
    return _Layer(best.over, blur(best.over[None])[0], best.mask * best.fit.score, near, found)
