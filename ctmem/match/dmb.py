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

This module makes the texture. How images are brought to one look is in `looks`, which windows are candidates in
`matching`, similarities and the search itself in `search`; references of several scenes, kept in a file, in
`texture_library`. All that a user needs of them can be imported from here.

Source: Qu et al., IEEE TGRS 2025, degradation matching block; zncc, strides, transforms, radiometry,
re-levelling, overlapping query patches and references with holes are this project's.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from ctmem.checks import check_count, check_image, check_same_shape, fail
from ctmem.config import MatchConfig
from ctmem.match import patches as pt
from ctmem.match.align import (
    fill_holes,
    gain_and_offset,
    gradient_magnitude,
    match_radiometry,
    prepare,
    sharpen,
    to_standard,
)  # fmt: skip
from ctmem.match.matching import (
    Match,
    References,
    check_sizes,
    count_candidates,
    gather,
    match,
    reference_list,
    similarity_map,
    take,
    whole_windows,
)  # fmt: skip
from ctmem.match.search import FLAT, SIMILARITIES, similarities
from ctmem.observe.responses import apply_srf

__all__ = [
    "SIMILARITIES", "Match", "dmb", "fill_holes", "gain_and_offset", "gather", "gradient_magnitude", "match",
    "match_radiometry", "prepare", "sharpen", "similarities", "similarity_map", "texture", "transfer", "whole_windows",
]  # fmt: skip

GAINS = (0.0, 3.0)  # contrast a transferred patch may be multiplied by


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
    sharp = reference_list(query, sharp_reference, "sharp_reference")
    blurred = reference_list(query, blurred_reference, "blurred_reference")
    _check_fit(match, query, sharp, blurred)
    check_count(chunk_mb, "chunk_mb")
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
        taken = take(sources, scenes, windows, match.patch)
        if relevel:
            taken = _level(taken, patches)
        soft = _mean(taken.chunk(3, dim=2)[2], scores / temperature)
        hard, gradient, low = _mean(taken[:, :hard_k], scores[:, :hard_k] / temperature).chunk(3, dim=1)
        maps.append(torch.cat([soft, hard, gradient, hard - low], dim=1))
    return pt.fold(torch.cat(maps).unflatten(0, cut.shape[:2]), match.size, match.query_stride)


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

    Raises:
        TypeError: an image that is no floating-point tensor.
        ValueError: images that don't fit each other, see `match` and `texture`.
    """
    images = reference_list(query, blurred, "blurred", at_least=config.patch)
    corners = [whole_windows(image, config.patch, config.stride)[1] for image in images]
    top_k = min(config.top_k, max(1, count_candidates(blurred, corners, config.transforms)))
    gain, offset = to_standard(query) if config.radiometry else (1, 0)
    seen = gain * query + offset
    found = match(
        seen, blurred, patch=config.patch, stride=config.stride, query_stride=config.query_stride,
        similarity=config.similarity, transforms=config.transforms, top_k=top_k, **options,
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
        ValueError: shapes or values that don't fit, see `match`; images smaller than a patch.
    """
    check_image(lr_hsi_up, "lr_hsi_up", at_least=config.patch)
    query = apply_srf(lr_hsi_up, srf)
    reference_list(query, ref_msi, "ref_msi", at_least=config.patch)
    images = [ref_msi] if isinstance(ref_msi, torch.Tensor) else ref_msi
    options = {"radiometry": config.radiometry, "sharpening": config.sharpening}
    pairs = [prepare(image.to(query), degrade, **options) for image in images]
    sharp, blurred = pairs[0] if isinstance(ref_msi, torch.Tensor) else map(list, zip(*pairs))
    with torch.no_grad():
        query = sharpen(query, degrade, config.sharpening)
    return transfer(query, sharp, blurred, config)


def _check_fit(match: Match, query: torch.Tensor, sharp: list[torch.Tensor], blurred: list[torch.Tensor]) -> None:
    """Raises unless query and references fit each other and are of the sizes that were matched."""
    if len(sharp) != len(blurred):
        fail("blurred_reference", f"as many images as `sharp_reference`, {len(sharp)}", len(blurred))
    for one, other in zip(sharp, blurred):
        check_same_shape(other, one, ("blurred_reference", "sharp_reference"))
    if match.size != tuple(query.shape[2:]) or len(match.indices) != len(query):
        wanted = f"of {len(query)} query image(s) of {query.shape[2]}×{query.shape[3]} px"
        fail("match", wanted, f"one of {len(match.indices)} of {match.size[0]}×{match.size[1]} px")
    check_sizes(match, blurred, "blurred_reference")


def _level(taken: torch.Tensor, query: torch.Tensor) -> torch.Tensor:
    """Gives patches (n, k, [sharp, gradient, blurred], P, P) the query's level, band by band.

    The gain is that of least squares from the blurred patch to the query patch (n, c, P, P), within GAINS, and 1 for a
    constant patch; the offset then brings their means together.
    """
    sharp, gradient, low = taken.chunk(3, dim=2)
    mean_q, mean_k = query.mean((-2, -1), keepdim=True)[:, None], low.mean((-2, -1), keepdim=True)
    rest = low - mean_k
    power = rest.square().sum((-2, -1), keepdim=True)
    varies = power > FLAT**2 * low.square().sum((-2, -1), keepdim=True)
    gain = ((query[:, None] - mean_q) * rest).sum((-2, -1), keepdim=True) / torch.where(varies, power, 1)
    gain = torch.where(varies, gain.clamp(*GAINS), 1)
    return torch.cat([gain * (sharp - mean_k) + mean_q, gain * gradient, gain * rest + mean_q], dim=2)


def _mean(taken: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
    """Mean of patches (n, k, C, P, P) weighted by softmax over k, (n, C, P, P)."""
    return torch.einsum("nk,nkcij->ncij", torch.softmax(logits, dim=1), taken)
