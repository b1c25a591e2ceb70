"""Degradation matching block (DMB): stage 2, texture from a reference image of another place.

Both images are brought to the same look first, a blurry multispectral image: the HSI by the spectral response
of the MSI sensor (`query`), the reference by the learned blur K. Every P×P patch of the query
then looks for its like among all windows of the blurred reference, and takes over what the *sharp* reference
has there.

| here | paper | meaning |
|---|---|---|
| `query` | q | srf · lr_hsi_up, (B, c, H, W) |
| `blurred_reference` | k = K(ref_msi) | the reference as the LR sensor would see it, (1 or B, c, Hr, Wr) |
| `sharp_reference` | ref_msi | the reference itself |
| `difference` | d = ref_msi − k | what the blur took away |
| `gradient` | g | gradient magnitude of the reference, per band |

Similarities, larger is more alike; a patch is a vector of c·P·P numbers:

- `dot`: the plain product, as in the released code; favours bright patches.
- `cosine`: the product of the two vectors at unit length, −1 … 1.
- `zncc`: the cosine after each band's mean was taken off: blind to brightness and contrast, −1 … 1. Where a
  patch is constant there is nothing to compare and the score is 0.
- `l2`: minus the squared distance, ≤ 0.

Flips and rotations are tried on the few query patches, not on the many candidates: turning one of two patches
by g has the same similarity as turning the other by g⁻¹.

Source: Qu et al., IEEE TGRS 2025, degradation matching block; zncc, strides, transforms, radiometry,
re-levelling and the chunked search are this project's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F

from ctmem import patches as pt
from ctmem.checks import check_choice, check_count, check_image, check_same_shape, fail
from ctmem.config import MatchConfig
from ctmem.sensors import apply_srf

SIMILARITIES = ("dot", "cosine", "zncc", "l2")
FLAT = 1e-6  # a patch whose deviation is below this share of its length is constant up to rounding
QUERY_BLOCK = 512  # query patches searched at a time


@dataclass(frozen=True)
class Match:
    """The best windows of the reference for every query patch, and how they were looked for.

    N = query patches in row-major order (`grid` of them down and across), k = how many best ones were kept.
    """

    indices: torch.Tensor  # (B, N, k) number of the candidate window, row-major in the reference
    scores: torch.Tensor  # (B, N, k) similarity, best first
    windows: torch.Tensor  # (B, N, k, 3) row, column, turn: `dihedral(window, turn)` looks like the query
    patch: int  # P, pixels
    stride: int  # between candidates, pixels
    similarity: str
    transforms: bool
    grid: tuple[int, int]  # (nh, nw) query patches down and across
    size: tuple[int, int]  # (H, W) of the query, pixels
    reference_size: tuple[int, int]  # (Hr, Wr), pixels

    @property
    def corners(self) -> torch.Tensor:
        """Row and column of every query patch's first pixel, (N, 2)."""
        return pt.windows(*(max(side, self.patch) for side in self.size), self.patch)


def gradient_magnitude(x: torch.Tensor) -> torch.Tensor:
    """Returns the length of each band's gradient, (B, C, H, W), units of x per pixel.

    Convention: central differences (x[i+1] − x[i−1]) / 2 with the border pixels repeated outside; 1e-6 stands
    under the root, so that a flat image has 0.001.

    Raises:
        TypeError: `x` is no floating-point tensor.
        ValueError: wrong rank or values that are not finite.
    """
    check_image(x, "x")
    padded = F.pad(x, (1, 1, 1, 1), mode="replicate")
    down = (padded[:, :, 2:, 1:-1] - padded[:, :, :-2, 1:-1]) / 2
    across = (padded[:, :, 1:-1, 2:] - padded[:, :, 1:-1, :-2]) / 2
    return (down.square() + across.square() + 1e-6).sqrt()


def gain_and_offset(source: torch.Tensor, target: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns (B, c, 1, 1) each: what brings mean and deviation of `source`'s bands to those of `target`.

    Args:
        source: (1 or B, c, H, W).
        target: (B, c, H', W'), any other size.
    """
    spread_s, mean_s = torch.std_mean(source, (2, 3), correction=0, keepdim=True)
    spread_t, mean_t = torch.std_mean(target, (2, 3), correction=0, keepdim=True)
    gain = torch.where(spread_s > FLAT, spread_t / spread_s.clamp_min(FLAT), torch.ones_like(spread_s))
    return gain, mean_t - gain * mean_s


def match_radiometry(reference: torch.Tensor, query: torch.Tensor) -> torch.Tensor:
    """Returns the reference with each band's mean and deviation moved to those of the query, (B, c, Hr, Wr).

    Args:
        reference: (1 or B, c, Hr, Wr).
        query: (B, c, H, W).

    Raises:
        TypeError: no floating-point tensors.
        ValueError: wrong rank, batch or band count, or values that are not finite.
    """
    _check_pair(query, reference)
    gain, offset = gain_and_offset(reference, query)
    return gain * reference + offset


def similarities(query: torch.Tensor, candidates: torch.Tensor, similarity: str = "zncc") -> torch.Tensor:
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
    q, k = _vectors(query, similarity), _vectors(candidates, similarity)
    product = q @ k.T
    if similarity != "l2":
        return product
    return (2 * product - q.square().sum(1)[:, None] - k.square().sum(1)).clamp_max(0)


@torch.no_grad()
def match(
    query: torch.Tensor,
    reference: torch.Tensor,
    *,
    patch: int = 8,
    stride: int | None = None,
    similarity: str = "zncc",
    transforms: bool = False,
    top_k: int = 1,
    chunk_mb: int = 256,
) -> Match:
    """Returns the `top_k` most similar windows of the reference for every P×P patch of the query.

    The query is tiled by patches (the last ones moved inside, see `patches`). Everything is a matrix product
    over a chunk of candidates, so memory is bounded by `chunk_mb` whatever the sizes. Of equal scores the
    first candidate wins (`top_k` 1, one chunk).

    Args:
        query: srf · lr_hsi_up, (B, c, H, W).
        reference: blurred reference K(ref_msi), (1 or B, c, Hr, Wr); with B images each sample has its own.
        patch: P, pixels.
        stride: step between candidate windows, pixels; `None`: P, which tiles the reference, as released.
        similarity: one of `SIMILARITIES`.
        transforms: also try the eight flips and rotations of every candidate.
        top_k: how many to keep per query patch.
        chunk_mb: upper bound of the working memory, MB (10⁶ bytes).

    Raises:
        TypeError: an image that is no floating-point tensor.
        ValueError: wrong rank, band count or batch, values that are not finite, a reference smaller than a
            patch, an unknown similarity, or more wanted than there are candidates.
    """
    _check_pair(query, reference)
    check_count(patch, "patch")
    check_image(reference, "reference", at_least=patch)
    check_choice(similarity, "similarity", SIMILARITIES)
    stride = patch if stride is None else stride
    check_count(stride, "stride")
    check_count(chunk_mb, "chunk_mb")
    corners = pt.windows(*reference.shape[2:], patch, stride)
    check_count(top_k, "top_k", at_most=len(corners) * (8 if transforms else 1))

    search = _Search(patch, stride, similarity, 8 if transforms else 1, chunk_mb)
    scores, ids = _per_sample(partial(search.best, top_k), query, reference, patch)
    ids, turns = ids % len(corners), ids // len(corners)
    places = torch.cat([corners.to(ids.device)[ids], turns[..., None]], dim=-1)
    size, reference_size = tuple(query.shape[2:]), tuple(reference.shape[2:])
    grid = pt.grid_shape(*size, patch)
    return Match(ids, scores, places, patch, stride, similarity, transforms, grid, size, reference_size)


@torch.no_grad()
def texture(
    match: Match,
    query: torch.Tensor,
    sharp_reference: torch.Tensor,
    blurred_reference: torch.Tensor,
    *,
    temperature: float = 0.05,
    relevel: bool = True,
    top_k: int = 1,
    chunk_mb: int = 256,
) -> torch.Tensor:
    """Returns what the reference hands over, (B, 4c, H, W): [soft, hard reference, hard gradient, hard
    difference].

    `soft` is the mean of all blurred candidates weighted by softmax(similarity / temperature). The hard maps
    take the patches of `sharp_reference`, of its gradient magnitude and of `sharp_reference −
    blurred_reference` at the best window.

    Args:
        match: what `match(query, blurred_reference, …)` returned.
        query: the same query, (B, c, H, W).
        sharp_reference: the reference, (1 or B, c, Hr, Wr).
        blurred_reference: K(sharp_reference), the same shape: what was searched.
        temperature: of the softmax, in units of the similarity; small: close to the hard map.
        relevel: move each transferred patch of `soft` and of the hard reference, band by band, by the
            difference between the means of the query patch and of the blurred candidate.
        top_k: the hard maps are the mean of this many best windows, weighted by softmax(score / temperature).
        chunk_mb: upper bound of the working memory, MB.

    Raises:
        TypeError: an image that is no floating-point tensor.
        ValueError: images that don't fit each other or the match, a temperature ≤ 0, more than the match
            holds.
    """
    _check_pair(query, sharp_reference, "sharp_reference")
    check_image(blurred_reference, "blurred_reference")
    check_same_shape(blurred_reference, sharp_reference, ("blurred_reference", "sharp_reference"))
    if match.size != tuple(query.shape[2:]) or len(match.indices) != len(query):
        wanted = f"one of {len(query)} queries of {tuple(query.shape[2:])} px"
        fail("match", wanted, f"{len(match.indices)} of {match.size}")
    if not temperature > 0:
        fail("temperature", "> 0", temperature)
    check_count(top_k, "top_k", at_most=match.scores.shape[2])

    search = _Search(match.patch, match.stride, match.similarity, 8 if match.transforms else 1, chunk_mb)
    (soft,) = _per_sample(partial(search.soft, temperature), query, blurred_reference, match.patch)
    difference, gradient = sharp_reference - blurred_reference, gradient_magnitude(sharp_reference)
    sources = torch.cat([sharp_reference, gradient, difference, blurred_reference], dim=1)
    weights = torch.softmax(match.scores[..., :top_k] / temperature, dim=-1)
    taken = sum(weights[..., i, None, None, None] * gather(match, sources, i) for i in range(top_k))
    hard, gradient, difference, low = taken.chunk(4, dim=2)
    if relevel:
        level = pt.unfold(query, match.patch).mean((-2, -1), keepdim=True)
        soft = soft + level - soft.mean((-2, -1), keepdim=True)
        hard = hard + level - low.mean((-2, -1), keepdim=True)
    return pt.fold(torch.cat([soft, hard, gradient, difference], dim=2), match.size)


def gather(match: Match, image: torch.Tensor, rank: int = 0) -> torch.Tensor:
    """Returns the patches of `image` at the matched windows, turned like the query, (B, N, C, P, P).

    Args:
        match: of a reference with the height and width of `image`.
        image: (1 or B, C, Hr, Wr), any bands.
        rank: 0 for the best window, 1 for the next …

    Raises:
        ValueError: another height, width or batch than the reference had.
    """
    if tuple(image.shape[2:]) != match.reference_size or len(image) not in (1, len(match.windows)):
        wanted = f"1 or {len(match.windows)} images of the reference's {match.reference_size} px"
        fail("image", wanted, f"shape {tuple(image.shape)}")
    images = image.expand(len(match.windows), -1, -1, -1)
    rows = []
    for one, places in zip(images, match.windows[:, :, rank]):
        found = pt.cut(one, places[:, :2], match.patch)
        for k in places[:, 2].unique().tolist():
            here = places[:, 2] == k
            found[here] = pt.dihedral(found[here], k)
        rows.append(found)
    return torch.stack(rows)


@torch.no_grad()
def similarity_map(
    query_patch: torch.Tensor, reference: torch.Tensor, *, stride: int = 1, similarity: str = "zncc"
) -> torch.Tensor:
    """Returns how alike one query patch and every window of a reference are, (windows down, windows across).

    Args:
        query_patch: (c, P, P).
        reference: blurred reference, (1, c, Hr, Wr).
        stride: step between windows, pixels.
        similarity: one of `SIMILARITIES`.

    Raises:
        TypeError: a reference that is no floating-point tensor.
        ValueError: a reference that is no single image, of other bands or smaller than the patch.
    """
    patch = query_patch.shape[-1]
    _check_pair(query_patch[None], reference)
    check_image(reference, "reference", at_least=patch)
    search = _Search(patch, stride, similarity, 1, 256)
    rows = [alike[0, 0] for _, _, alike in search.chunks(query_patch[None], reference[0])]
    return torch.cat(rows).reshape(pt.grid_shape(*reference.shape[2:], patch, stride))


def dmb(
    lr_hsi_up: torch.Tensor,
    ref_msi: torch.Tensor,
    srf: torch.Tensor,
    degrade: Callable[[torch.Tensor], torch.Tensor],
    config: MatchConfig = MatchConfig(),
) -> tuple[torch.Tensor, Match]:
    """Returns (texture (B, 4c, H, W), match): the whole of stage 2 for a batch.

    Radiometry is matched between the two *blurry* images, and the same gain and offset are given to the sharp
    one: a blur commutes with both, so the reference keeps its own contrast between sharp and blurred.

    Args:
        lr_hsi_up: bicubic upsampling of the LR-HSI, (B, C, H, W), [0, 1].
        ref_msi: unpaired HR-MSI, (1 or B, c, Hr, Wr), [0, 1], any size; with B images each sample has its
            own.
        srf: spectral response, (c, C).
        degrade: K, from (·, c, Hr, Wr) to the same shape.
        config: patch, stride, similarity and the other options.

    Raises:
        TypeError: an image that is no floating-point tensor.
        ValueError: shapes or values that don't fit, see `match`.
    """
    query = apply_srf(lr_hsi_up, srf)
    _check_pair(query, ref_msi, "ref_msi")
    check_image(ref_msi, "ref_msi", at_least=config.patch)
    with torch.no_grad():
        sharp, blurred = ref_msi.to(query), degrade(ref_msi.to(query))
    if config.radiometry:
        gain, offset = gain_and_offset(blurred, query)
        sharp, blurred = gain * sharp + offset, gain * blurred + offset
    windows = len(pt.windows(*blurred.shape[2:], config.patch, config.stride))
    top_k = min(config.top_k, windows * (8 if config.transforms else 1))  # a small reference has fewer
    found = match(
        query,
        blurred,
        patch=config.patch,
        stride=config.stride,
        similarity=config.similarity,
        transforms=config.transforms,
        top_k=top_k,
    )
    options = {"temperature": config.temperature, "relevel": config.relevel, "top_k": top_k}
    return texture(found, query, sharp, blurred, **options), found


@dataclass(frozen=True)
class _Search:
    """One way of searching; its methods take query patches (n, c, P, P) and one reference (c, Hr, Wr)."""

    patch: int
    stride: int
    similarity: str
    turns: int  # 1 or 8
    chunk_mb: int

    def chunks(self, query: torch.Tensor, reference: torch.Tensor) -> Iterator[tuple[int, torch.Tensor, torch.Tensor]]:
        """Yields (first candidate, candidates (m, c, P, P), similarities (n, turns, m)) chunk by chunk."""
        corners = pt.windows(*reference.shape[1:], self.patch, self.stride)
        turned = torch.stack([pt.dihedral_inverse(query, k) for k in range(self.turns)], 1).flatten(0, 1)
        numbers = 6 * query[0].numel() + 4 * len(turned)  # per candidate: its copies, and its similarities
        step = max(1, int(self.chunk_mb * 1e6) // (numbers * query.element_size()))
        for first in range(0, len(corners), step):
            candidates = pt.cut(reference, corners[first : first + step], self.patch)
            alike = similarities(turned, candidates, self.similarity)
            yield first, candidates, alike.reshape(len(query), self.turns, -1)

    def best(self, top_k: int, query: torch.Tensor, reference: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Returns (scores, ids), each (n, top_k); id = turn · candidates + candidate."""
        total = len(pt.windows(*reference.shape[1:], self.patch, self.stride))
        scores = query.new_empty(len(query), 0)
        ids = torch.empty(len(query), 0, dtype=torch.long, device=query.device)
        for first, candidates, alike in self.chunks(query, reference):
            values, order = _largest(alike.flatten(1), top_k)
            order = order // len(candidates) * total + first + order % len(candidates)
            scores, ids = torch.cat([scores, values], 1), torch.cat([ids, order], 1)
            scores, keep = _largest(scores, top_k)
            ids = ids.gather(1, keep)
        return scores, ids

    def soft(self, temperature: float, query: torch.Tensor, reference: torch.Tensor) -> tuple[torch.Tensor]:
        """Returns the candidates' mean weighted by softmax(similarity / temperature), (n, c, P, P), alone."""
        peak = query.new_full((len(query), 1, 1), -torch.inf)
        mass = torch.zeros_like(peak)
        total = query.new_zeros(len(query), self.turns, query[0].numel())
        for _, candidates, alike in self.chunks(query, reference):
            logits = alike / temperature
            higher = torch.maximum(peak, logits.amax((1, 2), keepdim=True))
            faded, weights = torch.exp(peak - higher), torch.exp(logits - higher)
            mass = mass * faded + weights.sum((1, 2), keepdim=True)
            total = total * faded + weights @ candidates.flatten(1)
            peak = higher
        means = (total / mass).unflatten(2, query.shape[1:])
        return (sum(pt.dihedral(means[:, k], k) for k in range(self.turns)),)


def _largest(values: torch.Tensor, top_k: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The largest values of each row and where they are; of equal ones the first, where one is wanted."""
    if top_k == 1:
        return values.max(1, keepdim=True)
    return values.topk(min(top_k, values.shape[1]), dim=1)


def _vectors(patches: torch.Tensor, similarity: str) -> torch.Tensor:
    """Patches (n, c, P, P) as rows (n, c·P·P), centred and at unit length where the similarity wants it."""
    if similarity == "zncc":
        length = patches.flatten(1).norm(dim=1, keepdim=True)
        patches = patches - patches.mean((-2, -1), keepdim=True)
    rows = patches.flatten(1)
    if similarity in ("dot", "l2"):
        return rows
    norm = rows.norm(dim=1, keepdim=True)
    flat = norm <= FLAT * length if similarity == "zncc" else norm == 0
    return rows * torch.where(flat, 0, 1 / norm)


def _per_sample(
    search: Callable[[torch.Tensor, torch.Tensor], tuple[torch.Tensor, ...]],
    query: torch.Tensor,
    reference: torch.Tensor,
    patch: int,
) -> tuple[torch.Tensor, ...]:
    """Runs `search` on the query patches of each sample against its reference; results (B, N, …)."""
    cut = pt.unfold(query, patch)
    shared = len(reference) == 1
    batches = [cut.flatten(0, 1)] if shared else list(cut)
    results = []
    for patches, one in zip(batches, reference.to(query)):
        blocks = [search(block, one) for block in patches.split(QUERY_BLOCK)]
        results.append([torch.cat(parts) for parts in zip(*blocks)])
    if shared:
        return tuple(part.unflatten(0, cut.shape[:2]) for part in results[0])
    return tuple(torch.stack(parts) for parts in zip(*results))


def _check_pair(query: torch.Tensor, reference: torch.Tensor, name: str = "reference") -> None:
    """Raises unless the reference has the query's bands and one image, or one per sample."""
    check_image(query, "query")
    check_image(reference, name, bands=query.shape[1])
    if len(reference) not in (1, len(query)):
        fail(name, f"a batch of 1 or {len(query)}, as `query` has", f"{len(reference)}")
