"""Exact search for the most similar windows: how alike two patches are, and the best of many candidates.

Every similarity is an inner product of two vectors made from the patches (`embed`), plus a number that depends on the
query alone. So a search is a matrix product: rows are query patches, each in all its turns; columns are candidates. It
is computed in blocks, of which only the best are kept; memory is bounded whatever the sizes. Most of it need not be
computed: on CPUs, `pruning` rules most candidates out.

| similarity | query vector | candidate vector | larger is more alike |
|---|---|---|---|
| `dot` | q | k | the plain product, as in the released code; favours bright patches |
| `cosine` | q / ‖q‖ | k / ‖k‖ | −1 … 1 |
| `zncc` | the same with each band's mean taken off first | the same | −1 … 1, blind to brightness and contrast |
| `l2` | (2q, 1) | (k, −‖k‖²) | minus the squared distance, ≤ 0, after −‖q‖² |

Where a patch is constant zncc has nothing to compare: the score is 0, never NaN. The same for cosine and zeros.

Flips and rotations are tried on the few query patches, not on the many candidates: turning one of two patches
by g has the same similarity as turning the other by g⁻¹.

Source: this project; the similarities are the field's.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Annotated

import torch
import torch.nn.functional as F

from ctmem.checks import Axes, Count, check_choice, fail, typed
from ctmem.match import patches as pt
from ctmem.match.pruning import GROUP, directions, pair_scores, shadows, spread, survivors

Patches = Annotated[torch.Tensor, Axes("(n, c, P, P)", double=True)]
SIMILARITIES = ("dot", "cosine", "zncc", "l2")
FLAT = 1e-6  # a patch whose deviation is below this share of its length is constant up to rounding
PIECE = 4096  # candidates cut at a time: they stay in the cache
SPAN = 65536  # scores per query that are sorted at a time, at most
PRODUCT = 2**23  # numbers in one matrix product, at most
BOUNDS = 2**20  # the same for products of shadows, see `pruning`: they stay in the cache
WORTH = 200  # scores of a search, in squared lengths of a vector, from which on directions are looked for
SAMPLE = 2048  # vectors of either side that the directions are found from, about


@typed
def similarities(query: Patches, candidates: Patches, similarity: str = "zncc") -> torch.Tensor:
    """Returns how alike every query patch and every candidate are, (n, m); larger is more alike.

    Args:
        query: patches (n, c, P, P).
        candidates: patches (m, c, P, P).
        similarity: one of `SIMILARITIES`.

    Raises:
        ValueError: an unknown similarity.

    Example:
        >>> step = torch.tensor([[[[0.0, 1.0], [0.0, 1.0]]]])
        >>> similarities(step, torch.cat([3 * step + 2, 1 - step]), "zncc").tolist()
        [[1.0, -1.0]]
    """
    check_choice(similarity, "similarity", SIMILARITIES)
    if query.shape[1:] != candidates.shape[1:]:
        fail("candidates", f"of patches {tuple(query.shape[1:])}, as `query`", f"shape {tuple(candidates.shape)}")
    product = embed(query, similarity, candidate=False) @ embed(candidates.to(query.dtype), similarity).T
    return finish(product, query, similarity)


@typed
def embed(patches: torch.Tensor, similarity: str, *, candidate: bool = True) -> torch.Tensor:
    """Returns one vector per patch, (n, c·P·P), or one longer for l2; see the table above.

    Args:
        patches: (n, c, P, P).
        similarity: one of `SIMILARITIES`.
        candidate: for the candidates' side of the product, or for the query's.
    """
    rows = patches.flatten(1)
    if similarity == "dot":
        return rows
    if similarity == "l2":
        square = rows.square().sum(1, keepdim=True)
        return torch.cat([rows, -square], 1) if candidate else F.pad(2 * rows, (0, 1), value=1)
    length = torch.linalg.vector_norm(rows, dim=1, keepdim=True)
    if similarity == "cosine":
        return rows * torch.where(length == 0, 0, 1 / length)
    bands = patches.flatten(2)
    rows = (bands - bands.mean(2, keepdim=True)).flatten(1)
    rest = torch.linalg.vector_norm(rows, dim=1, keepdim=True)
    return rows.mul_(torch.where(rest <= FLAT * length, 0, 1 / rest))


@typed
def finish(product: torch.Tensor, query: torch.Tensor, similarity: str) -> torch.Tensor:
    """Returns the similarity (n, m) from the product of the vectors: for l2, −‖q‖² is still to be added."""
    if similarity != "l2":
        return product
    return (product - query.flatten(1).square().sum(1, keepdim=True)).clamp_max(0)


@typed
@torch.no_grad()
def nearest(
    query: torch.Tensor,
    images: Sequence[torch.Tensor],
    corners: Sequence[torch.Tensor],
    *,
    similarity: str = "zncc",
    turns: Count = 1,
    top_k: Count = 1,
    chunk_mb: Count = 256,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Returns (scores, numbers, turns), each (n, top_k), best first, of the most similar windows of several images.

    Windows are numbered through all lists of `corners`. Which of equally similar windows are kept is not defined.

    Args:
        query: patches (n, c, P, P).
        images: (c, H, W) each, any sizes.
        corners: for each image, rows and columns of its windows, (m, 2).
        similarity: one of `SIMILARITIES`.
        turns: 8 to try all flips and rotations, else 1.
        top_k: at most turns · M.
        chunk_mb: bound of the working memory, MB (10⁶ bytes).
    """
    budget = int(chunk_mb * 1e6 / 4 / query.element_size())  # a quarter for query, candidates, product and their copies
    length = embed(query[:1], similarity).shape[1]
    columns = max(1, min(SPAN // turns, budget // (2 * length)))
    basis = _directions(query, images, corners, similarity, turns)
    found = []
    for part in query.split(max(1, budget // (turns * length))):
        turned = torch.stack([pt.turn_back(part, k) for k in range(turns)], 1).flatten(0, 1)
        rows = embed(turned, similarity, candidate=False)
        best = _Best(rows, len(part), top_k, basis)
        for first, candidates in _spans(images, corners, query.shape[-1], similarity, columns):
            best.update(candidates, first, min(PRODUCT, budget))
        found.append((finish(best.scores, part, similarity), best.ids))
    scores, ids = (torch.cat(parts) for parts in zip(*found))
    return scores, ids // turns, ids % turns


class _Best:
    """The `top_k` best candidates of n queries so far: `scores` and `ids`, (n, ≤ top_k); id = turns · window + turn.

    Args:
        rows: vectors of the queries, each in all its turns, (n · turns, d).
        count: n.
        top_k: how many are kept.
        basis: directions (d, r) to rule candidates out by, see `pruning`; None: all scores are computed.
    """

    def __init__(self, rows: torch.Tensor, count: int, top_k: Count, basis: torch.Tensor | None) -> None:
        self.rows = rows
        self.turns = len(rows) // count
        self.top_k = top_k
        self.basis = basis
        self.shadows = None if basis is None else shadows(rows, basis)
        self.scores = rows.new_empty(count, 0)
        self.ids = torch.empty(count, 0, dtype=torch.long, device=rows.device)
        self.product = rows.new_empty(0)  # one buffer for all blocks: fresh memory is slower than the product

    def update(self, candidates: torch.Tensor, first: int, most: int) -> None:
        """Takes up the candidates numbered from `first`; at most `most` scores at a time."""
        shadow = None
        if self.basis is not None:
            shadow = F.pad(shadows(candidates, self.basis), (0, 0, 0, -len(candidates) % GROUP))
            most = min(most, BOUNDS)
        # block by block: the best of the new ones and of those known so far
        block = max(1, most // (self.turns * len(candidates if shadow is None else shadow)))
        scores = []
        ids = []
        for start in range(0, len(self.scores), block):
            here = slice(start, start + block)
            values, order = self._few(here, candidates, shadow) if shadow is not None else self._all(here, candidates)
            order = torch.where(order < 0, order, order + first * self.turns)
            values = torch.cat([self.scores[here], values], 1)
            order = torch.cat([self.ids[here], order], 1)
            values, keep = values.topk(min(self.top_k, values.shape[1]), dim=1)
            scores.append(values)
            ids.append(order.gather(1, keep))
        self.scores = torch.cat(scores)
        self.ids = torch.cat(ids)

    def _all(self, here: slice, candidates: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The best candidates of some queries, (scores, turns · number + turn): all scores, and the largest of them."""
        many = len(candidates)
        values, order = _largest(self._product(self._of(self.rows, here), candidates), self.top_k)
        return values, order % many * self.turns + order // many

    def _few(self, here: slice, candidates: torch.Tensor, shadow: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The same, more or fewer than `top_k`: only scores whose bound says that they may be among the best."""
        assert self.shadows is not None
        rows = self._of(self.rows, here)
        old = self.scores[here]
        if old.shape[1] < self.top_k and self.turns * len(candidates) < self.top_k:
            return self._all(here, candidates)
        # what a score must reach: the least of those known, or at first that of candidates with the largest bounds
        bounds = self._product(self._of(self.shadows, here), shadow)
        if old.shape[1] == self.top_k:
            least = old[:, -1:]
        else:
            real = bounds.view(-1, len(shadow))[:, : len(candidates)]
            order = _largest(real.reshape(len(old), -1), self.top_k)[1]
            query = torch.arange(len(old))[:, None] * self.turns + order // len(candidates)
            known = pair_scores(rows, candidates, query.flatten(), (order % len(candidates)).flatten())
            least = known.view_as(order).amin(1, keepdim=True)
        found = survivors(bounds.view(-1, len(shadow)), least.repeat_interleave(self.turns, 0), rows, candidates)
        if found is None:
            return self._all(here, candidates)
        row, column, scores = found
        return spread(row // self.turns, scores, column * self.turns + row % self.turns, len(old))

    def _of(self, rows: torch.Tensor, here: slice) -> torch.Tensor:
        """The vectors of some queries in all their turns."""
        return rows[here.start * self.turns : here.stop * self.turns]

    def _product(self, rows: torch.Tensor, columns: torch.Tensor) -> torch.Tensor:
        """The products of all pairs, (queries, turns · columns), in the one buffer."""
        numbers = len(rows) * len(columns)
        if self.product.numel() < numbers:
            self.product = rows.new_empty(numbers)
        out = self.product[:numbers].view(len(rows), len(columns))
        return torch.mm(rows, columns.T, out=out).view(len(rows) // self.turns, -1)


def _directions(
    query: torch.Tensor,
    images: Sequence[torch.Tensor],
    corners: Sequence[torch.Tensor],
    similarity: str,
    turns: Count,
) -> torch.Tensor | None:
    """Directions to rule candidates out by, from a sample of queries and candidates; None if it is not worth it."""
    count = sum(map(len, corners))
    if query.device.type != "cpu" or turns * len(query) * count < WORTH * query[0].numel() ** 2:
        return None
    step = max(1, count // SAMPLE)
    pieces = [
        embed(pt.cut(image, places[::step], query.shape[-1]), similarity)
        for image, places in zip(images, corners)
        if len(places)
    ]
    some = query[:: max(1, turns * len(query) // SAMPLE)]
    pieces += [embed(pt.turn_back(some, k), similarity, candidate=False) for k in range(turns)]
    return directions(torch.cat(pieces))


def _spans(
    images: Sequence[torch.Tensor], corners: Sequence[torch.Tensor], patch: int, similarity: str, columns: int
) -> Iterator[tuple[int, torch.Tensor]]:
    """Yields (number of its first window, vectors (≤ columns, d)) span by span, image after image."""
    first = 0
    for image, places in zip(images, corners):
        for span in places.split(columns) if len(places) else ():
            pieces = [embed(pt.cut(image, piece, patch), similarity) for piece in span.split(PIECE)]
            yield first, torch.cat(pieces)
            first += len(span)


def _largest(values: torch.Tensor, top_k: Count) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns the `top_k` largest values of each row and where they are, in any order; (n, k) each.

    Looked for in the `top_k` groups of neighbours with the largest maxima, which must hold them: finding the maxima
    of many small groups costs much less than sorting.
    """
    length = values.shape[1]
    group = max(32, 2 ** round(math.log2(max(1.0, math.sqrt(length / top_k)))))  # of fewer, the maxima cost more
    groups = length // group
    if groups <= top_k:
        return values.topk(min(top_k, length), dim=1)
    peaks = values[:, : groups * group].unflatten(1, (groups, group)).amax(2)
    inside = torch.arange(group, device=values.device)
    columns = (peaks.topk(top_k, dim=1).indices[..., None] * group + inside).flatten(1)
    rest = torch.arange(groups * group, length, device=values.device).expand(len(values), -1)
    columns = torch.cat([columns, rest], 1)
    best, keep = values.gather(1, columns).topk(top_k, dim=1)
    return best, columns.gather(1, keep)
