"""Which candidates cannot be among the best, told from a few numbers of each, and exactly.

Patches of images lie close to a space of few dimensions. Split two vectors q and k into their parts in such a space,
V q and V k, and the rests: by Cauchy and Schwarz q·k ≤ V q · V k + |rest of q| · |rest of k|. So the product of two
*shadows*, (V q, |rest of q|) and (V k, |rest of k|), is a bound of q·k from above, for about an eighth of the work.
Where it lies below the `top_k`-th best score so far, the candidate is out; the scores of the few others are computed in
full. Norms of rests are widened by what rounding may do, so no candidate is lost by it.

Where the patches fill their space (white noise does), `directions` finds nothing, and where too many candidates are
left (in a constant image all are equal), `survivors` says so: then the search computes all scores.

Source: this project.
"""

from __future__ import annotations

import torch

from ctmem.checks import double

LEFT = 0.015  # share of the energy that the directions may leave to the rests
GROUP = 32  # neighbours whose largest bound is compared first
CROWD = 8  # candidates of which more than one is left: computing all scores costs less
PAIRS = 2048  # scores computed in full at a time: what they are made of stays in the cache


def directions(vectors: torch.Tensor) -> torch.Tensor | None:
    """Returns orthonormal columns (d, r) that hold most of the energy of `vectors`; None if that takes too many.

    Args:
        vectors: some of those that will be compared, (n, d).
    """
    length = vectors.shape[1]
    # every vector counts the same, or a few long ones would set the directions
    unit = torch.nn.functional.normalize(vectors, dim=1)
    energy, columns = torch.linalg.eigh(double(unit.T @ unit))
    left = energy.clamp_min(0).cumsum(0) / energy.clamp_min(0).sum()
    count = length - int((left <= LEFT).sum())
    count += -count % 8
    return None if count > length // 3 else columns[:, -count:].to(vectors)


def shadows(vectors: torch.Tensor, basis: torch.Tensor) -> torch.Tensor:
    """Returns what vectors (n, d) are in the directions, and the norm of the rest, widened by rounding; (n, r + 1)."""
    inside = vectors @ basis
    whole = vectors.square().sum(1)
    rest = (whole - inside.square().sum(1)).clamp_min(0).sqrt()
    slack = (vectors.shape[1] * torch.finfo(vectors.dtype).eps) ** 0.5  # of both, multiplied: the rounding of a product
    return torch.cat([inside, (rest + slack * whole.sqrt())[:, None]], 1)


def survivors(
    bounds: torch.Tensor, least: torch.Tensor, rows: torch.Tensor, candidates: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor] | None:
    """Returns (rows, columns, scores) of all pairs whose bound reaches what is known, in row-major order; (p,) each.

    None where they are too many.

    Args:
        bounds: products of shadows (n, m), m a multiple of `GROUP`.
        least: the score that a pair must reach, (n, 1).
        rows: vectors (n, d).
        candidates: vectors (≤ m, d); columns beyond do not count.
    """
    # groups of neighbours whose largest bound reaches it, then the pairs in these
    grouped = bounds.unflatten(1, (-1, GROUP))
    row, group = (grouped.amax(2) >= least).nonzero(as_tuple=True)
    if CROWD * len(row) > bounds.numel() // 4:
        return None
    which, place = (grouped[row, group] >= least[row]).nonzero(as_tuple=True)
    row, column = row[which], group[which] * GROUP + place
    if CROWD * len(row) > bounds.numel():
        return None
    if bounds.shape[1] > len(candidates):
        real = column < len(candidates)
        row, column = row[real], column[real]
    return row, column, pair_scores(rows, candidates, row, column)


def pair_scores(rows: torch.Tensor, candidates: torch.Tensor, row: torch.Tensor, column: torch.Tensor) -> torch.Tensor:
    """Returns the products rows[row] · candidates[column], (p,)."""
    pairs = zip(row.split(PAIRS), column.split(PAIRS))
    return torch.cat([(rows[r].mul_(candidates[c])).sum(1) for r, c in pairs])


def spread(
    query: torch.Tensor, scores: torch.Tensor, ids: torch.Tensor, count: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns lists of each query's scores and ids side by side, (count, longest), filled up with −∞ and −1.

    Args:
        query: to which query each belongs, ascending, (p,).
        scores: (p,).
        ids: (p,).
        count: of queries.
    """
    many = torch.bincount(query, minlength=count)
    place = torch.arange(len(query)) - (many.cumsum(0) - many)[query]
    longest = int(many.max())
    table = scores.new_full((count, longest), -torch.inf)
    names = ids.new_full((count, longest), -1)
    table[query, place] = scores
    names[query, place] = ids
    return table, names
