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

The similarities and the search are in `search`; references of several scenes, kept in a file, in `library`.

Source: Qu et al., IEEE TGRS 2025, degradation matching block; zncc, strides, transforms, radiometry,
re-levelling, overlapping query patches and references with holes are this project's.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from scipy.ndimage import distance_transform_edt

from ctmem import patches as pt
from ctmem.checks import check_choice, check_count, check_image, check_same_shape, fail
from ctmem.config import MatchConfig
from ctmem.search import FLAT, PIECE, SIMILARITIES, nearest, similarities
from ctmem.sensors import apply_srf

__all__ = [
    "SIMILARITIES", "Match", "dmb", "fill_holes", "gain_and_offset", "gather", "gradient_magnitude", "match",
    "match_radiometry", "prepare", "similarities", "similarity_map", "texture", "transfer", "whole_windows",
]  # fmt: skip

GAINS = (0.0, 3.0)  # contrast a transferred patch may be multiplied by
References = torch.Tensor | Sequence[torch.Tensor]


@dataclass(frozen=True)
class Match:
    """The best windows of the reference for every query patch, and how they were looked for.

    N = query patches in row-major order (`grid` of them down and across), k = how many best ones were kept.
    """

    indices: torch.Tensor  # (B, N, k) number of the window, row-major in its reference
    scores: torch.Tensor  # (B, N, k) similarity, best first
    windows: torch.Tensor  # (B, N, k, 3) row, column, turn: `dihedral(window, turn)` looks like the query
    scenes: torch.Tensor  # (B, N, k) which reference it is in, from 0
    patch: int  # P, pixels
    stride: int  # between candidates, pixels
    query_stride: int  # between query patches, pixels
    similarity: str
    transforms: bool
    grid: tuple[int, int]  # (nh, nw) query patches down and across
    size: tuple[int, int]  # (H, W) of the query, pixels
    reference_sizes: tuple[tuple[int, int], ...]  # (Hr, Wr) of each reference, pixels
    excluded: tuple[int, ...]  # windows of each reference left out because of NaN or infinite pixels

    @property
    def corners(self) -> torch.Tensor:
        """Row and column of every query patch's first pixel, (N, 2)."""
        return pt.windows(*self.size, self.patch, self.query_stride)


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


def fill_holes(image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns (image, holes): every hole takes the values of the nearest pixel that is none.

    A hole is a pixel with a value in any band that is NaN or infinite.

    Args:
        image: (B, C, H, W).

    Returns:
        The filled image and the holes (B, 1, H, W), bool.

    Raises:
        ValueError: an image without any whole pixel.
    """
    holes = ~torch.isfinite(image).all(1, keepdim=True)
    filled = image.clone() if holes.any() else image
    for one, hole in zip(filled, holes[:, 0]):
        if hole.all():
            fail("image", "finite in at least one pixel", "NaN or infinite values in all of them")
        if hole.any():
            rows, columns = distance_transform_edt(hole.cpu(), return_distances=False, return_indices=True)
            one[:, hole] = one[:, torch.from_numpy(rows)[hole.cpu()], torch.from_numpy(columns)[hole.cpu()]]
    return filled, holes


def gain_and_offset(source: torch.Tensor, target: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns (B, c, 1, 1) each: what brings mean and deviation of `source`'s bands to those of `target`.

    Pixels that are not finite do not count.

    Args:
        source: (1 or B, c, H, W).
        target: (B, c, H', W'), any other size.
    """
    (mean_s, spread_s), (mean_t, spread_t) = _moments(source), _moments(target)
    gain = torch.where(spread_s > FLAT, spread_t / spread_s.clamp_min(FLAT), torch.ones_like(spread_s))
    return gain, mean_t - gain * mean_s


def match_radiometry(reference: torch.Tensor, query: torch.Tensor) -> torch.Tensor:
    """Returns the reference with each band's mean and deviation moved to those of the query, (B, c, Hr, Wr).

    Args:
        reference: (1 or B, c, Hr, Wr).
        query: (B, c, H, W).

    Raises:
        TypeError: no floating-point tensors.
        ValueError: wrong rank, batch or band count, or values of the query that are not finite.
    """
    _references(query, reference, "reference")
    gain, offset = gain_and_offset(reference, query)
    return gain * reference + offset


@torch.no_grad()
def match(
    query: torch.Tensor,
    reference: References,
    *,
    patch: int = 8,
    stride: int | None = None,
    query_stride: int | None = None,
    similarity: str = "zncc",
    transforms: bool = False,
    top_k: int = 1,
    chunk_mb: int = 256,
    search: Callable[..., tuple[torch.Tensor, torch.Tensor]] = nearest,
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
        transforms: also try the eight flips and rotations of every candidate.
        top_k: how many to keep per query patch.
        chunk_mb: upper bound of the working memory, MB (10⁶ bytes).
        search: how to look: `search.nearest`, which is exact, or a function like it.

    Raises:
        TypeError: an image that is no floating-point tensor.
        ValueError: wrong rank, band count or batch, a query with values that are not finite, an image smaller
            than a patch, an unknown similarity, or more wanted than there are candidates.
    """
    stride, query_stride = patch if stride is None else stride, patch if query_stride is None else query_stride
    check_count(patch, "patch")
    check_count(stride, "stride")
    check_count(query_stride, "query_stride", at_most=patch)
    check_count(chunk_mb, "chunk_mb")
    check_choice(similarity, "similarity", SIMILARITIES)
    images = _references(query, reference, "reference", at_least=patch)
    check_image(query, "query", at_least=patch)

    numbers, corners = zip(*(whole_windows(image, patch, stride) for image in images))
    own, turns = _one_each(reference), 8 if transforms else 1
    candidates = [turns * len(some) for some in corners]
    check_count(top_k, "top_k", at_most=min(candidates) if own else sum(candidates))

    look = partial(search, similarity=similarity, turns=turns, top_k=top_k, chunk_mb=chunk_mb)
    cut, filled = pt.unfold(query, patch, query_stride), [image.nan_to_num(0, 0, 0) for image in images]
    ends = torch.tensor([len(some) for some in corners], device=query.device).cumsum(0)
    if own:
        found = [look(cut[b], [filled[b]], [corners[b]]) for b in range(len(query))]
        scores, ids, turn = (torch.stack(parts) for parts in zip(*found))
        ids = ids + F.pad(ends[:-1], (1, 0))[:, None, None]
    else:
        scores, ids, turn = (x.unflatten(0, cut.shape[:2]) for x in look(cut.flatten(0, 1), filled, corners))
    sizes = tuple(tuple(image.shape[1:]) for image in images)
    excluded = tuple(math.prod(pt.grid_shape(*size, patch, stride)) - len(c) for size, c in zip(sizes, corners))
    return Match(
        torch.cat(numbers)[ids], scores, torch.cat([torch.cat(corners)[ids], turn[..., None]], dim=-1),
        torch.bucketize(ids, ends, right=True), patch, stride, query_stride, similarity, transforms,
        pt.grid_shape(*query.shape[2:], patch, query_stride), tuple(query.shape[2:]), sizes, excluded,
    )  # fmt: skip


@torch.no_grad()
def texture(
    match: Match,
    query: torch.Tensor,
    sharp_reference: References,
    blurred_reference: References,
    *,
    temperature: float = 0.05,
    relevel: bool = True,
    hard_k: int = 1,
    chunk_mb: int = 256,
) -> torch.Tensor:
    """Returns what the reference hands over, (B, 4c, H, W): [soft, hard reference, hard gradient, hard
    difference].

    `soft` is the mean of the blurred candidates that the match kept, weighted by softmax(similarity /
    temperature). The hard maps take the patches of `sharp_reference`, of its gradient magnitude and of
    `sharp_reference − blurred_reference` at the best window, or the same kind of mean over the `hard_k` best.
    Where query patches overlap, the maps are the mean of what they take.

    Args:
        match: what `match(query, blurred_reference, …)` returned.
        query: the same query, (B, c, H, W).
        sharp_reference: the reference, (1 or B, c, Hr, Wr), or the list of them.
        blurred_reference: K(sharp_reference), the same shapes: what was searched.
        temperature: of the softmax, in units of the similarity; small: close to the best window.
        relevel: give each transferred patch the query's mean and contrast, band by band: the gain and offset that
            fit the blurred candidate to the query patch.
        hard_k: how many of the best windows the hard maps average.
        chunk_mb: upper bound of the working memory, MB.

    Raises:
        TypeError: an image that is no floating-point tensor.
        ValueError: images that don't fit each other or the match, a temperature ≤ 0, more than the match
            holds.
    """
    sharp = _references(query, sharp_reference, "sharp_reference")
    blurred = _references(query, blurred_reference, "blurred_reference")
    for one, other in zip(sharp, blurred, strict=True):
        check_same_shape(other, one, ("blurred_reference", "sharp_reference"))
    if match.size != tuple(query.shape[2:]) or len(match.indices) != len(query):
        wanted = f"one of {len(query)} queries of {tuple(query.shape[2:])} px"
        fail("match", wanted, f"{len(match.indices)} of {match.size}")
    _check_sizes(match, blurred, "blurred_reference")
    if not temperature > 0:
        fail("temperature", "> 0", temperature)
    kept = match.scores.shape[2]
    check_count(hard_k, "hard_k", at_most=kept)

    sharp, blurred = ([fill_holes(one[None])[0][0] for one in images] for images in (sharp, blurred))
    sources = [torch.cat([s, gradient_magnitude(s[None])[0], k]) for s, k in zip(sharp, blurred)]
    cut = pt.unfold(query, match.patch, match.query_stride)
    block = max(1, int(chunk_mb * 1e6) // (8 * kept * 3 * cut[0, 0].numel()))
    maps = []
    for parts in zip(*(x.flatten(0, 1).split(block) for x in (cut, match.scores, match.scenes, match.windows))):
        patches, scores, scenes, windows = parts
        taken = _take(sources, scenes, windows, match.patch)
        if relevel:
            taken = _level(taken, patches)
        soft = _mean(taken.chunk(3, dim=2)[2], scores / temperature)
        hard, gradient, low = _mean(taken[:, :hard_k], scores[:, :hard_k] / temperature).chunk(3, dim=1)
        maps.append(torch.cat([soft, hard, gradient, hard - low], dim=1))
    return pt.fold(torch.cat(maps).unflatten(0, cut.shape[:2]), match.size, match.query_stride)


def gather(match: Match, image: References, rank: int = 0) -> torch.Tensor:
    """Returns the patches of `image` at the matched windows, turned like the query, (B, N, C, P, P).

    Args:
        match: of a reference with the height and width of `image`.
        image: (1 or B, C, Hr, Wr), or a list of several (1, C, Hr, Wr), any bands.
        rank: 0 for the best window, 1 for the next …

    Raises:
        ValueError: another number of images, height or width than the references had.
    """
    images = _images(image)
    _check_sizes(match, images, "image")
    one = slice(rank, rank + 1)
    taken = _take(images, match.scenes[..., one].flatten(0, 1), match.windows[:, :, one].flatten(0, 1), match.patch)
    return taken[:, 0].unflatten(0, match.scores.shape[:2])


@torch.no_grad()
def similarity_map(
    query_patch: torch.Tensor, reference: torch.Tensor, *, stride: int = 1, similarity: str = "zncc"
) -> torch.Tensor:
    """Returns how alike one query patch and every window of a reference are, (windows down, windows across).

    Where a window holds NaN or infinite pixels the map is NaN.

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
    image, *others = _references(query_patch[None], reference, "reference", at_least=patch)
    if others:
        fail("reference", "one image (1, c, Hr, Wr)", f"{1 + len(others)}")
    numbers, corners = whole_windows(image, patch, stride)
    filled, query = image.nan_to_num(0, 0, 0), query_patch[None]
    values = torch.cat([similarities(query, pt.cut(filled, c, patch), similarity)[0] for c in corners.split(PIECE)])
    grid = pt.grid_shape(*image.shape[1:], patch, stride)
    return values.new_full((math.prod(grid),), math.nan).index_copy(0, numbers, values).reshape(grid)


def sharpen(blurry: torch.Tensor, degrade: Callable[[torch.Tensor], torch.Tensor], steps: int) -> torch.Tensor:
    """Returns a sharper image whose blur is still `blurry`, same shape: y ← y + (blurry − K(y)), `steps` times.

    Brings back what the blur has damped but not deleted. Done to both sides, it tells patches apart better. Where
    K is a blur to LR pixels and back, this is back-projection.

    Args:
        blurry: (B, c, H, W).
        degrade: K.
        steps: how often; 0 gives `blurry` back.

    Source: Van Cittert's deconvolution, 1931; its use here is this project's.
    """
    sharper = blurry
    for _ in range(steps):
        sharper = sharper + blurry - degrade(sharper)
    return sharper


def prepare(
    ref_msi: torch.Tensor,
    degrade: Callable[[torch.Tensor], torch.Tensor],
    *,
    radiometry: bool = True,
    sharpening: int = 0,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns (sharp, blurred) references, (B, c, Hr, Wr) each, as `transfer` takes them.

    Holes are filled for the blur and are NaN in `blurred` afterwards. With `radiometry` each band of the blurred
    reference gets mean 0 and deviation 1, and the sharp one the same gain and offset: a blur commutes with both,
    so the reference keeps its own contrast between sharp and blurred.

    Args:
        ref_msi: (B, c, Hr, Wr), [0, 1], any size; pixels that are not finite are holes.
        degrade: K, from (·, c, Hr, Wr) to the same shape.
        radiometry: whether the brightness of the reference means nothing, as that of another sensor.
        sharpening: steps of `sharpen`, as many as the query gets.
    """
    with torch.no_grad():
        sharp, holes = fill_holes(ref_msi)
        blurred = sharpen(degrade(sharp), degrade, sharpening)
    touched = F.max_pool2d(holes.to(blurred), 3, stride=1, padding=1) > 0  # the gradient reads the neighbours
    blurred = blurred.masked_fill(touched, math.nan)
    if not radiometry:
        return sharp, blurred
    gain, offset = _to_standard(blurred)
    return gain * sharp + offset, gain * blurred + offset


def transfer(
    query: torch.Tensor, sharp: References, blurred: References, config: MatchConfig = MatchConfig(), **options
) -> tuple[torch.Tensor, Match]:
    """Returns (texture (B, 4c, H, W), match) of a query and of references from `prepare`.

    Args:
        query: srf · lr_hsi_up, (B, c, H, W).
        sharp: (1 or B, c, Hr, Wr), or a list of references, (1, c, Hr, Wr) each.
        blurred: the same, blurred.
        config: patch, stride, similarity and the rest; `radiometry` must be that of `prepare`. Of fewer candidates
            than `top_k`, all are kept.
        options: `search` or `chunk_mb` of `match`.
    """
    gain, offset = _to_standard(query) if config.radiometry else (1, 0)
    seen, (images, turns) = gain * query + offset, (_images(blurred), 8 if config.transforms else 1)
    candidates = [turns * len(whole_windows(image, config.patch, config.stride)[0]) for image in images]
    top_k = min(config.top_k, min(candidates) if _one_each(blurred) else sum(candidates))
    found = match(
        seen, blurred, patch=config.patch, stride=config.stride, query_stride=config.query_stride,
        similarity=config.similarity, transforms=config.transforms, top_k=max(1, top_k), **options,
    )  # fmt: skip
    maps = texture(
        found, seen, sharp, blurred,
        temperature=config.temperature, relevel=config.relevel, hard_k=min(config.hard_k, top_k),
    )  # fmt: skip
    soft, hard, gradient, difference = maps.chunk(4, dim=1)
    return torch.cat([(soft - offset) / gain, (hard - offset) / gain, gradient / gain, difference / gain], 1), found


def dmb(
    lr_hsi_up: torch.Tensor,
    ref_msi: References,
    srf: torch.Tensor,
    degrade: Callable[[torch.Tensor], torch.Tensor],
    config: MatchConfig = MatchConfig(),
) -> tuple[torch.Tensor, Match]:
    """Returns (texture (B, 4c, H, W), match): the whole of stage 2 for a batch.

    Args:
        lr_hsi_up: bicubic upsampling of the LR-HSI, (B, C, H, W), [0, 1].
        ref_msi: unpaired HR-MSI, (1 or B, c, Hr, Wr), [0, 1], any size; with B images each sample has its own. Or
            a list of several, (1, c, Hr, Wr) each. Pixels that are not finite are left out.
        srf: spectral response, (c, C).
        degrade: K, from (·, c, Hr, Wr) to the same shape.
        config: patch, stride, similarity and the other options.

    Raises:
        TypeError: an image that is no floating-point tensor.
        ValueError: shapes or values that don't fit, see `match`.
    """
    query = apply_srf(lr_hsi_up, srf)
    _references(query, ref_msi, "ref_msi", at_least=config.patch)
    images = [ref_msi] if isinstance(ref_msi, torch.Tensor) else ref_msi
    options = {"radiometry": config.radiometry, "sharpening": config.sharpening}
    pairs = [prepare(image.to(query), degrade, **options) for image in images]
    sharp, blurred = pairs[0] if isinstance(ref_msi, torch.Tensor) else map(list, zip(*pairs))
    with torch.no_grad():
        query = sharpen(query, degrade, config.sharpening)
    return transfer(query, sharp, blurred, config)


def whole_windows(image: torch.Tensor, patch: int, stride: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns (numbers, corners) of the windows whose pixels are all finite: the candidates, (m,) and (m, 2).

    Args:
        image: (c, Hr, Wr), at least P×P pixels.
        patch: P, pixels.
        stride: step between windows, pixels. They are numbered row-major, with those left out.
    """
    corners = pt.windows(*image.shape[1:], patch, stride).to(image.device)
    broken = (~torch.isfinite(image).all(0))[None, None].float()
    whole = F.max_pool2d(broken, patch, stride=1)[0, 0][corners.unbind(1)] == 0
    return whole.nonzero()[:, 0], corners[whole]


def _moments(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and deviation of each band, (B, C, 1, 1) each; pixels that are not finite do not count."""
    x = torch.where(torch.isfinite(x), x, torch.nan)
    mean = x.nanmean((2, 3), keepdim=True)
    return mean, (x - mean).square().nanmean((2, 3), keepdim=True).sqrt()


def _to_standard(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Gain and offset that bring each band to mean 0 and deviation 1, (B, C, 1, 1) each; a constant band to 0."""
    mean, spread = _moments(x)
    gain = torch.where(spread > FLAT, 1 / spread.clamp_min(FLAT), torch.ones_like(spread))
    return gain, -gain * mean


def _one_each(reference: References) -> bool:
    """Whether each sample has its own reference: a batch of them, not a list."""
    return isinstance(reference, torch.Tensor) and len(reference) > 1


def _images(reference: References) -> list[torch.Tensor]:
    """A batch or a list of references (1, c, Hr, Wr) as a list of (c, Hr, Wr)."""
    return list(reference) if isinstance(reference, torch.Tensor) else [one[0] for one in reference]


def _references(query: torch.Tensor, reference: References, name: str, at_least: int = 1) -> list[torch.Tensor]:
    """The references as a list of (c, Hr, Wr) in the query's type, or the error of what does not fit the query."""
    check_image(query, "query")
    if isinstance(reference, torch.Tensor) or not isinstance(reference, Sequence):
        check_image(reference, name, bands=query.shape[1], at_least=at_least, finite=False)
        if len(reference) not in (1, len(query)):
            fail(name, f"a batch of 1 or {len(query)}, as `query` has", f"{len(reference)}")
    elif not reference:
        fail(name, "at least one image (1, c, Hr, Wr)", "an empty list")
    else:
        for one in reference:
            check_image(one, name, bands=query.shape[1], at_least=at_least, finite=False)
            if len(one) != 1:
                fail(name, "a list of images (1, c, Hr, Wr)", f"one of shape {tuple(one.shape)}")
    return [one.to(query) for one in _images(reference)]


def _take(sources: Sequence[torch.Tensor], scenes: torch.Tensor, windows: torch.Tensor, patch: int) -> torch.Tensor:
    """Patches of (C, Hr, Wr) images at windows (n, k, 3) of scenes (n, k), turned as they say, (n, k, C, P, P)."""
    places, scene = windows.flatten(0, 1), scenes.flatten()
    taken = sources[0].new_empty(len(places), len(sources[0]), patch, patch)
    for number in scene.unique().tolist():
        here = scene == number
        taken[here] = pt.cut(sources[number], places[here, :2], patch)
    for turn in places[:, 2].unique().tolist():
        here = places[:, 2] == turn
        if turn:
            taken[here] = pt.dihedral(taken[here], turn)
    return taken.unflatten(0, scenes.shape)


def _level(taken: torch.Tensor, query: torch.Tensor) -> torch.Tensor:
    """Gives patches (n, k, [sharp, gradient, blurred], P, P) the query's level, band by band.

    The gain is that of least squares from the blurred patch to the query patch (n, c, P, P), within GAINS; the offset
    then brings their means together.
    """
    sharp, gradient, low = taken.chunk(3, dim=2)
    mean_q, mean_k = query.mean((-2, -1), keepdim=True)[:, None], low.mean((-2, -1), keepdim=True)
    rest = low - mean_k
    power = rest.square().sum((-2, -1), keepdim=True)
    gain = ((query[:, None] - mean_q) * rest).sum((-2, -1), keepdim=True) / power.clamp_min(FLAT**2)
    gain = torch.where(power > FLAT**2, gain.clamp(*GAINS), torch.ones_like(gain))
    return torch.cat([gain * (sharp - mean_k) + mean_q, gain * gradient, gain * rest + mean_q], dim=2)


def _mean(taken: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
    """Mean of patches (n, k, C, P, P) weighted by softmax over k, (n, C, P, P)."""
    return torch.einsum("nk,nkcij->ncij", torch.softmax(logits, dim=1), taken)


def _check_sizes(match: Match, images: Sequence[torch.Tensor], name: str) -> None:
    """Raises unless the images have the heights and widths of the references that were searched."""
    sizes = tuple(tuple(image.shape[1:]) for image in images)
    if sizes != match.reference_sizes:
        fail(name, f"of the references' {list(match.reference_sizes)} px", f"{list(sizes)}")
