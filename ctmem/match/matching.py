"""Where in the reference every patch of the query finds its like.

`match` cuts the query into patches, lists the windows of one or several references, lets `search` compare them, and
says which windows are the most alike. `cut_match` cuts patches from there.

Source: this project, after the patch matching of Qu et al., IEEE TGRS 2025.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F

from ctmem.checks import (
    Count,
    Size,
    Whole,
    as_floats,
    as_image,
    check_choice,
    check_count,
    check_finite,
    door,
    fail,
    inside,
    typed,
)
from ctmem.match import patches as pt
from ctmem.match.align import References
from ctmem.match.search import PIECE, SIMILARITIES, nearest, similarities

Search = Callable[..., tuple[torch.Tensor, torch.Tensor, torch.Tensor]]  # `search.nearest`, or one like it


@typed
@dataclass(frozen=True)
class Match:
    """The best windows of the reference for every query patch, and how they were looked for.

    N = query patches in row-major order (`grid` of them down and across), k = how many best ones were kept.
    """

    indices: torch.Tensor  # (B, N, k) number of the window, row-major in its reference
    scores: torch.Tensor  # (B, N, k) similarity, best first
    windows: torch.Tensor  # (B, N, k, 3) row, column, turn: `turned(window, turn)` looks like the query
    scenes: torch.Tensor  # (B, N, k) which reference it is in, from 0
    patch: Size  # P, pixels
    stride: Size  # between candidates, pixels
    query_stride: int  # between query patches, pixels
    similarity: str
    turns: bool
    grid: tuple[int, int]  # (nh, nw) query patches down and across
    size: tuple[int, int]  # (H, W) of the query, pixels
    reference_sizes: tuple[tuple[int, int], ...]  # (Hr, Wr) of each reference, pixels
    excluded: tuple[int, ...]  # windows of each reference left out because of holes: NaN or infinite pixels

    @property
    def corners(self) -> torch.Tensor:
        """Row and column of every query patch's first pixel, (N, 2)."""
        return pt.windows(*self.size, self.patch, self.query_stride)


@door
@torch.no_grad()
def match(
    query: torch.Tensor,
    reference: References,
    *,
    patch: Size = 8,
    stride: Size | None = None,
    query_stride: Size | None = None,
    similarity: str = "zncc",
    turns: bool = False,
    top_k: Count = 1,
    or_all: bool = False,
    chunk_mb: Count = 256,
    search: Search = nearest,
) -> Match:
    """Returns the `top_k` most similar windows of the reference for every P×P patch of the query.

    Everything is a matrix product over a chunk of candidates, so memory is bounded by `chunk_mb` whatever the
    sizes. The last patches and windows of a row or column are moved inside, see `patches`. Windows with NaN or
    infinite pixels are left out and counted.

    Args:
        query: srf · lr_hsi_up, (B, c, H, W).
        reference: blurred reference K(ref_msi), (1 or B, c, Hr, Wr); with B images each sample has its own. Or a
            list of several, (1, c, Hr, Wr) each, of any sizes: every sample searches them all.
        patch: P, pixels.
        stride: step between candidate windows, pixels; `None`: P, which tiles the reference, as released.
        query_stride: step between query patches, pixels, at most P; `None`: P, which tiles the query.
        similarity: one of `SIMILARITIES`.
        turns: also try the eight flips and rotations of every candidate.
        top_k: how many to keep per query patch.
        or_all: where there are fewer candidates than `top_k`, keep all of them instead of raising.
        chunk_mb: upper bound of the working memory, MB (10⁶ bytes).
        search: how to look: `search.nearest`, which is exact, or a function like it.

    Raises:
        TypeError: an image that is not a floating-point tensor.
        ValueError: wrong rank, band count or batch, a query with values that are not finite, an image smaller
            than a patch, a reference without any window of finite pixels, an unknown similarity, or more wanted
            than there are candidates.
    """
    stride = patch if stride is None else stride
    query_stride = patch if query_stride is None else query_stride
    check_count(patch, "patch")
    check_count(stride, "stride")
    check_count(query_stride, "query_stride", at_most=patch)
    check_count(chunk_mb, "chunk_mb")
    check_choice(similarity, "similarity", SIMILARITIES)
    query = as_image(query, "query", at_least=patch, double=True)
    images = reference_list(query, reference, "reference", at_least=patch)

    # the candidates: windows of every reference that hold no hole
    numbers, corners = zip(*(whole_windows(image, patch, stride) for image in images))
    sizes = tuple(map(pt.size_of, images))
    excluded = tuple(math.prod(pt.grid_shape(*size, patch, stride)) - len(c) for size, c in zip(sizes, corners))
    tried = 8 if turns else 1
    candidates = count_candidates(reference, corners, turns)
    top_k = min(top_k, max(1, candidates)) if or_all else top_k
    _check_top_k(top_k, candidates, sum(excluded), patch)

    # the search: every query patch among the candidates of its own reference, or of all of them
    look = partial(search, similarity=similarity, turns=tried, top_k=top_k, chunk_mb=chunk_mb)
    cut = pt.unfold(query, patch, query_stride)
    filled = [image.nan_to_num(0, 0, 0) for image in images]
    ends = torch.tensor([len(some) for some in corners], device=query.device).cumsum(0)
    if one_each(reference):
        found = [look(cut[b], [filled[b]], [corners[b]]) for b in range(len(query))]
        scores, ids, turn = (torch.stack(parts) for parts in zip(*found))
        ids = ids + F.pad(ends[:-1], (1, 0))[:, None, None]  # numbered through all references, as below
    else:
        scores, ids, turn = (x.unflatten(0, cut.shape[:2]) for x in look(cut.flatten(0, 1), filled, corners))

    # from numbers to places
    return Match(
        indices=torch.cat(numbers)[ids],
        scores=scores,
        windows=torch.cat([torch.cat(corners)[ids], turn[..., None]], dim=-1),
        scenes=torch.bucketize(ids, ends, right=True),
        patch=patch,
        stride=stride,
        query_stride=query_stride,
        similarity=similarity,
        turns=turns,
        grid=pt.grid_shape(*pt.size_of(query), patch, query_stride),
        size=pt.size_of(query),
        reference_sizes=sizes,
        excluded=excluded,
    )


@door
def cut_match(match: Match, image: References, rank: Whole = 0) -> torch.Tensor:
    """Returns the patches of `image` at the matched windows, turned like the query, (B, N, C, P, P).

    Args:
        match: of a reference with the height and width of `image`.
        image: (1 or B, C, Hr, Wr), or a list of several (1, C, Hr, Wr), any bands.
        rank: 0 for the best window, 1 for the next …

    Raises:
        ValueError: another number of images, height or width than the references had, or a rank that was not kept.
    """
    check_count(rank, "rank", at_least=0, at_most=match.scores.shape[2] - 1)
    images = as_list(image, "image")
    check_sizes(match, images, "image")
    one = slice(rank, rank + 1)
    taken = cut_windows(
        images, match.scenes[..., one].flatten(0, 1), match.windows[:, :, one].flatten(0, 1), match.patch
    )
    return taken[:, 0].unflatten(0, match.scores.shape[:2])


@door
@torch.no_grad()
def similarity_map(
    query_patch: torch.Tensor, reference: torch.Tensor, *, stride: Size = 1, similarity: str = "zncc"
) -> torch.Tensor:
    """Returns how alike one query patch and every window of a reference are, (windows down, windows across).

    Where a window holds NaN or infinite pixels the map is NaN.

    Args:
        query_patch: (c, P, P).
        reference: blurred reference, (1, c, Hr, Wr).
        stride: step between windows, pixels.
        similarity: one of `SIMILARITIES`.

    Raises:
        TypeError: an argument that is not a floating-point tensor.
        ValueError: a patch that is not square, or a reference that is not a single image, of other bands or smaller
            than the patch.
    """
    query_patch = as_floats(query_patch, "query_patch", "(c, P, P)", double=True)
    if query_patch.ndim != 3 or query_patch.shape[1] != query_patch.shape[2] or 0 in query_patch.shape:
        fail("query_patch", "of shape (c, P, P)", f"shape {tuple(query_patch.shape)}")
    check_finite(query_patch, "query_patch")
    patch = query_patch.shape[-1]
    image, *others = reference_list(query_patch[None], reference, "reference", at_least=patch)
    if others:
        fail("reference", "one image (1, c, Hr, Wr)", f"{1 + len(others)}")
    numbers, corners = whole_windows(image, patch, stride)
    filled = image.nan_to_num(0, 0, 0)
    query = query_patch[None]
    values = torch.cat([similarities(query, pt.cut(filled, c, patch), similarity)[0] for c in corners.split(PIECE)])
    grid = pt.grid_shape(*pt.size_of(image), patch, stride)
    return values.new_full((math.prod(grid),), math.nan).index_copy(0, numbers, values).reshape(grid)


@typed
def whole_windows(image: torch.Tensor, patch: Size, stride: Size) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns (numbers, corners) of the windows whose pixels are all finite: the candidates, (m,) and (m, 2).

    Args:
        image: (c, Hr, Wr), at least P×P pixels.
        patch: P, pixels.
        stride: step between windows, pixels. They are numbered row-major, with those left out.
    """
    corners = pt.windows(*pt.size_of(image), patch, stride).to(image.device)
    holes = ~torch.isfinite(image).all(0)
    if not holes.any():
        return torch.arange(len(corners), device=image.device), corners
    whole = F.max_pool2d(holes[None, None].float(), patch, stride=1)[0, 0][corners.unbind(1)] == 0
    return whole.nonzero()[:, 0], corners[whole]


@typed
def count_candidates(reference: References, corners: Sequence[torch.Tensor], turns: bool) -> int:
    """How many candidates every query patch has, given the windows of each reference: at least so many."""
    counts = [(8 if turns else 1) * len(some) for some in corners]
    return min(counts) if one_each(reference) else sum(counts)


@typed
def one_each(reference: References) -> bool:
    """Whether each sample has its own reference: a batch of them, not a list."""
    return not isinstance(reference, Sequence) and len(reference) > 1


@typed
def as_list(reference: References, name: str) -> list[torch.Tensor]:
    """A batch or a list of references (1, c, Hr, Wr), which may have holes, as a list of (c, Hr, Wr)."""
    if not isinstance(reference, Sequence):
        return list(as_image(reference, name, finite=False, double=True))
    return [as_image(one, f"{name}[{i}]", finite=False, double=True)[0] for i, one in enumerate(reference)]


@typed
def reference_list(query: torch.Tensor, reference: References, name: str, at_least: int = 1) -> list[torch.Tensor]:
    """The references as a list of (c, Hr, Wr) in the query's type, or the error of what does not fit the query."""
    bands = query.shape[1]
    if not isinstance(reference, Sequence):
        batch = _as_reference(reference, name, bands, at_least)
        if len(batch) not in (1, len(query)):
            fail(name, f"one image, or one for each of {len(query)} queries", len(batch))
        return list(batch.to(query))
    if not reference:
        fail(name, "at least one image (1, c, Hr, Wr)", "an empty list")
    images = []
    for number, one in enumerate(reference):
        image = _as_reference(one, f"{name}[{number}]", bands, at_least)
        if len(image) != 1:
            fail(f"{name}[{number}]", "one image (1, c, Hr, Wr)", f"shape {tuple(image.shape)}")
        images.append(image[0].to(query))
    return images


@typed
def cut_windows(
    sources: Sequence[torch.Tensor], scenes: torch.Tensor, windows: torch.Tensor, patch: Size
) -> torch.Tensor:
    """Patches of (C, Hr, Wr) images at windows (n, k, 3) of scenes (n, k), turned as they say, (n, k, C, P, P)."""
    places = windows.flatten(0, 1)
    scene = scenes.flatten()
    taken = sources[0].new_empty(len(places), len(sources[0]), patch, patch)
    for number in scene.unique().tolist():
        here = scene == number
        taken[here] = pt.cut(sources[number], places[here, :2], patch)
    for turn in places[:, 2].unique().tolist():
        here = places[:, 2] == turn
        if turn:
            taken[here] = pt.turned(taken[here], turn)
    return taken.unflatten(0, scenes.shape)


@typed
def check_sizes(match: Match, images: Sequence[torch.Tensor], name: str) -> None:
    """Raises unless the images have the heights and widths of the references that were searched."""
    sizes = tuple(map(pt.size_of, images))
    if sizes != match.reference_sizes:
        fail(name, f"of the references' {list(match.reference_sizes)} px", f"{list(sizes)}")


def _as_reference(image: torch.Tensor, name: str, bands: int, at_least: int) -> torch.Tensor:
    """The image, or the error of other bands, a smaller size, or holes everywhere."""
    image = as_image(image, name, bands=bands, at_least=at_least, finite=False, double=True)
    if not inside() and not torch.isfinite(image).all(1).any((1, 2)).all():
        fail(name, "finite in at least one pixel", "NaN or infinite values in all of them")
    return image


def _check_top_k(top_k: Count, candidates: int, excluded: int, patch: Size) -> None:
    """Raises unless there are so many candidates, and says how many windows were left out."""
    check_count(top_k, "top_k")
    if candidates == 0:
        wanted = f"finite in all pixels of at least one {patch}×{patch} px window"
        fail("reference", wanted, f"NaN or infinite values in each of {excluded}")
    if top_k > candidates:
        left_out = f" (without {excluded} window(s) that hold NaN or infinite values)" if excluded else ""
        fail("top_k", f"at most {candidates}, the number of candidates{left_out}", top_k)
