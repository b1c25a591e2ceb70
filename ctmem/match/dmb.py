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

This module makes the texture. How images are brought to one look is in `align`, which windows are candidates in
`matching`, similarities and the search itself in `search`; references of several scenes, kept in a file, in
`texture_library`.

Source: Qu et al., IEEE TGRS 2025, degradation matching block; zncc, strides, turns, radiometry,
re-levelling, overlapping query patches and references with holes are this project's.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F

from ctmem.checks import (
    Count,
    Positive,
    as_image,
    check_choice,
    check_count,
    check_same_shape,
    door,
    fail,
    inside,
    typed,
)
from ctmem.config import MatchConfig
from ctmem.holes import fill_holes
from ctmem.match import patches as pt
from ctmem.match.align import (
    BORDERS,
    Blur,
    Prepared,
    References,
    gradient_magnitude,
    prepare_query,
    prepare_reference,
)
from ctmem.match.matching import Match, Search, check_sizes, match, reference_list
from ctmem.match.search import FLAT, nearest
from ctmem.observe.camera import Camera

GAINS = (0.0, 3.0)  # contrast a transferred patch may be multiplied by
PIECE = 2**20  # numbers of windows that are worked on at a time: they stay in the cache


@door
@torch.no_grad()
def texture(
    match: Match,
    query: torch.Tensor,
    sharp_reference: References,
    blurred_reference: References,
    *,
    temperature: Positive = 0.05,
    relevel: bool = True,
    hard_k: Count = 1,
    gradient_border: str = "replicate",
    chunk_mb: Count = 256,
) -> torch.Tensor:
    """Returns what the reference hands over, (B, 4c, H, W): soft map, hard reference, hard gradient, hard difference.

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
        gradient_border: what lies outside of the reference for its gradient: `replicate`, or `constant`, zeros.
        chunk_mb: upper bound of the working memory, MB.

    Raises:
        TypeError: an image that is not a floating-point tensor.
        ValueError: images that don't fit each other or the match, a temperature ≤ 0, more than the match
            holds.
    """
    query = as_image(query, "query", double=True)
    sharp = reference_list(query, sharp_reference, "sharp_reference")
    blurred = reference_list(query, blurred_reference, "blurred_reference")
    _check_fit(match, query, sharp, blurred)
    check_count(chunk_mb, "chunk_mb")
    if not temperature > 0:
        fail("temperature", "> 0", temperature)
    check_choice(gradient_border, "gradient_border", BORDERS)
    kept = match.scores.shape[2]
    check_count(hard_k, "hard_k", at_most=kept)

    # what there is to take: the sharp reference, its gradient, and the blurred one, band by band, pixel after pixel
    if not inside():  # a `Prepared` has no holes in `sharp`, and no candidate window has one in `blurred`
        sharp = [fill_holes(one[None])[0][0] for one in sharp]
    sources = [
        torch.cat([s, gradient_magnitude(s[None], gradient_border)[0], k]).flatten(1) for s, k in zip(sharp, blurred)
    ]
    pixels = torch.cat(sources, 1) if len(sources) > 1 else sources[0]
    places, offsets, kinds = _pixels_of(match)

    # so many query patches at a time that all their windows fit into the processor's cache, and into `chunk_mb`
    cut = pt.unfold(query, match.patch, match.query_stride)
    numbers = kept * 3 * cut[0, 0].numel()
    block = max(1, min(int(chunk_mb * 1e6) // 8, PIECE) // numbers)
    maps = []
    found = (cut.flatten(3), match.scores.to(cut), places, kinds)
    for parts in zip(*(x.flatten(0, 1).split(block) for x in found)):
        patches, scores, first, kind = parts
        numbers_of = (first[..., None] + offsets[kind]).flatten()
        taken = pixels.index_select(1, numbers_of).view(3, -1, *kind.shape, offsets.shape[1])
        # the soft map averages all windows that were kept, the hard maps the best ones
        every = _mean(taken, scores / temperature, patches if relevel else None)
        best = every
        if hard_k < kept:
            best = _mean(taken[:, :, :, :hard_k], scores[:, :hard_k] / temperature, patches if relevel else None)
        hard, gradient, low = best
        maps.append(torch.cat([every[2], hard, gradient, hard - low]).transpose(0, 1))
    whole = torch.cat(maps).unflatten(0, cut.shape[:2]).unflatten(3, cut.shape[3:])
    return pt.fold(whole, match.size, match.query_stride)


@typed
def find(
    prepared: Prepared, config: MatchConfig = MatchConfig(), *, search: Search = nearest, chunk_mb: Count = 256
) -> Match:
    """Returns where every patch of a prepared query finds its like; of fewer candidates than `top_k`, all are kept.

    Args:
        prepared: query and references; their radiometry and sharpening must be those of `config`.
        config: patch, stride, similarity and the rest.
        search: how to look, see `matching.match`.
        chunk_mb: upper bound of the working memory, MB.

    Raises:
        ValueError: what `matching.match` refuses.
    """
    return match(
        prepared.query, prepared.blurred, patch=config.patch, stride=config.stride, query_stride=config.query_stride,
        similarity=config.similarity, turns=config.turns, top_k=config.top_k, or_all=True,
        search=search, chunk_mb=chunk_mb,
    )  # fmt: skip


@typed
def hand_over(
    match: Match, prepared: Prepared, config: MatchConfig = MatchConfig(), *, chunk_mb: Count = 256
) -> torch.Tensor:
    """Returns the texture (B, 4c, H, W) of a match in the query's units: `texture` with the options of `config`.

    Args:
        match: what `find` returned for `prepared`.
        prepared: query and references.
        config: temperature, re-levelling, and how many windows the hard maps average.
        chunk_mb: upper bound of the working memory, MB.

    Raises:
        ValueError: what `texture` refuses.
    """
    hard_k = min(config.hard_k, match.scores.shape[2])
    maps = texture(
        match, prepared.query, prepared.sharp, prepared.blurred,
        temperature=config.temperature, relevel=config.relevel, hard_k=hard_k,
        gradient_border=config.gradient_border, chunk_mb=chunk_mb,
    )  # fmt: skip
    return prepared.to_units(maps)


@door
def prepare(
    lr_hsi_up: torch.Tensor,
    ref_msi: References,
    camera: Camera,
    config: MatchConfig = MatchConfig(),
    *,
    blur: Blur | None = None,
    holes: torch.Tensor | None = None,
) -> Prepared:
    """Returns both images brought to one look, as they are compared.

    The arguments and errors are those of `dmb`.
    """
    lr_hsi_up = as_image(lr_hsi_up, "lr_hsi_up", at_least=config.patch, double=True)
    query = camera.see(lr_hsi_up)
    images = reference_list(query, ref_msi, "ref_msi", at_least=config.patch)
    blur = camera.blur if blur is None else blur
    seen, gain, offset = prepare_query(
        query, blur, radiometry=config.radiometry, sharpening=config.sharpening, holes=holes
    )
    if not isinstance(ref_msi, Sequence):  # one image, or one for each query
        whole = images[0][None] if len(images) == 1 else torch.stack(images)  # one image is not copied
        sharp, blurred = prepare_reference(whole, blur, radiometry=config.radiometry, sharpening=config.sharpening)
        return Prepared(seen, sharp, blurred, gain, offset)
    pairs = [
        prepare_reference(
            image[None], blur, radiometry=config.radiometry, sharpening=config.sharpening, name=f"ref_msi[{number}]"
        )
        for number, image in enumerate(images)
    ]
    return Prepared(seen, [sharp for sharp, _ in pairs], [blurred for _, blurred in pairs], gain, offset)


@door
def dmb(
    lr_hsi_up: torch.Tensor,
    ref_msi: References,
    camera: Camera,
    config: MatchConfig = MatchConfig(),
    *,
    blur: Blur | None = None,
    holes: torch.Tensor | None = None,
) -> tuple[torch.Tensor, Match]:
    """Returns (texture (B, 4c, H, W), match): the whole of stage 2 for a batch.

    Args:
        lr_hsi_up: bicubic upsampling of the LR-HSI, (B, C, H, W), [0, 1].
        ref_msi: unpaired HR-MSI, (1 or B, c, Hr, Wr), [0, 1], any size; with B images each sample has its own. Or
            a list of several, (1, c, Hr, Wr) each. Pixels that are not finite are left out.
        camera: its response `srf` says what the reference's sensor sees of the bands, its blur is K.
        config: patch, stride, similarity and the other options.
        blur: a learned K, from (·, c, Hr, Wr) to the same shape; None: the camera's own blur.
        holes: pixels of the LR-HSI that were filled, (B, 1, h, w) bool; see `align.prepare_query`.

    Raises:
        TypeError: an image that is not of floating-point numbers.
        ValueError: shapes or values that don't fit, see `matching.match`; images smaller than a patch.
    """
    lr_hsi_up = as_image(lr_hsi_up, "lr_hsi_up", at_least=config.patch, double=True)
    prepared = prepare(lr_hsi_up, ref_msi, camera, config, blur=blur, holes=holes)
    found = find(prepared, config)
    return hand_over(found, prepared, config), found


def _check_fit(match: Match, query: torch.Tensor, sharp: list[torch.Tensor], blurred: list[torch.Tensor]) -> None:
    """Raises unless query and references fit each other and are of the sizes that were matched."""
    if len(sharp) != len(blurred):
        fail("blurred_reference", f"as many images as `sharp_reference`, {len(sharp)}", len(blurred))
    for one, other in zip(sharp, blurred):
        check_same_shape(other, one, ("blurred_reference", "sharp_reference"))
    if match.size != pt.size_of(query) or len(match.indices) != len(query):
        wanted = f"of {len(query)} query image(s) of {query.shape[2]}×{query.shape[3]} px"
        fail("match", wanted, f"one of {len(match.indices)} of {match.size[0]}×{match.size[1]} px")
    check_sizes(match, blurred, "blurred_reference")


def _pixels_of(match: Match) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Which pixels the windows of a match hold, numbered row-major through all references.

    Returns:
        The number of each window's first pixel, (B, N, k); offsets from there, in the order in which the turned window
        has its pixels, for every width and turn, (8 · references, P·P); and which of these a window has, (B, N, k).
    """
    device = match.windows.device
    widths = torch.tensor([width for _, width in match.reference_sizes], device=device)
    ends = torch.tensor([height * width for height, width in match.reference_sizes], device=device).cumsum(0)
    starts = F.pad(ends[:-1], (1, 0))
    row, column, turn = match.windows.unbind(-1)
    one = torch.arange(match.patch, device=device)
    grids = [one[:, None] * width + one for width in widths]
    offsets = torch.stack([pt.turned(grid, k).flatten() for grid in grids for k in range(8)])
    return starts[match.scenes] + row * widths[match.scenes] + column, offsets, 8 * match.scenes + turn


def _mean(taken: torch.Tensor, logits: torch.Tensor, query: torch.Tensor | None) -> torch.Tensor:
    """Mean of patches (3, c, n, k, P·P) [sharp, gradient, blurred] weighted by softmax over k, (3, c, n, P·P).

    With query patches (n, c, P·P) each patch is first given the level of its query patch, band by band: the gain of
    least squares from the blurred patch to the query patch, within GAINS, 1 for a constant patch, and the offset that
    then brings their means together.
    """
    weights = torch.softmax(logits, dim=1)
    if query is None:
        return torch.matmul(weights[:, None], taken).squeeze(3)
    low = taken[2]
    query = query.transpose(0, 1)  # (c, n, P·P)
    mean_q = query.mean(-1, keepdim=True)
    mean_k = low.mean(-1, keepdim=True)
    rest = low - mean_k
    power = torch.linalg.vecdot(rest, rest)
    varies = power > FLAT**2 * torch.linalg.vecdot(low, low)
    gain = torch.matmul(rest, (query - mean_q)[..., None]).squeeze(3) / torch.where(varies, power, 1)
    gain = weights * torch.where(varies, gain.clamp(*GAINS), 1)  # (c, n, k)
    sharp, gradient, low = (torch.matmul(gain[:, :, None], x).squeeze(2) for x in (taken[0], taken[1], rest))
    return torch.stack([sharp - torch.matmul(gain[:, :, None], mean_k).squeeze(2) + mean_q, gradient, low + mean_q])
