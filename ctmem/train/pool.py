"""Encoded crops: every training area is matched once with each of its references, cut into crops and encoded.

This `Pool` is all that the training loops see. `draw_batch` picks crops from it and turns, mirrors, flips signs and
scales them.

Source: this project.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from ctmem.checks import fail
from ctmem.config import Preset, TrainConfig
from ctmem.data.areas import Box, crops
from ctmem.data.samples import Degraded
from ctmem.diffusion.encoding import encode_image
from ctmem.holes import split_holes
from ctmem.match.align import Blur
from ctmem.match.dmb import dmb
from ctmem.match.patches import turned
from ctmem.teaching import progress
from ctmem.train.sources import Source


@dataclass(frozen=True)
class Pool:
    """Encoded training crops, all of them or a batch.

    `base` and `target` are (N, Z, H, W), `texture` (N, 4Z, H, W), `weight` (N, Z, 1, 1); of `train.fusion`, Z = 1 and
    any number of maps. The weight brings a difference
    of coefficients back to the proportions it has in the image: the Z standard deviations of the crop's subspace over
    their mean (0 for channels it does not fill).
    """

    base: torch.Tensor
    target: torch.Tensor
    texture: torch.Tensor
    weight: torch.Tensor

    def __len__(self) -> int:
        return len(self.base)

    def to(self, device: torch.device | str) -> Pool:
        """The same on another device; what is there already is not copied."""
        return Pool(*(x.to(device) for x in (self.base, self.target, self.texture, self.weight)))


def build_pool(
    sources: Sequence[Source], preset: Preset, blur: Blur, *, stride: int | None = None, quiet: bool = False
) -> Pool:
    """Matches every training area once with each of its references and cuts it into encoded crops.

    A crop's side is that of the preset, rounded down to a multiple of the scale. Its texture is cut from that of the
    whole area. Each crop of a source appears once per reference.

    Args:
        sources: scenes, areas, references.
        preset: crop size, matching options, channels.
        blur: K.
        stride: between crops, fine pixels; a multiple of the scale; None: twice the scale.
        quiet: no progress bar, as in all but one of several processes.

    Raises:
        ValueError: what `check_sources` refuses.
    """
    check_sources(sources, preset)
    pairs = [(source, reference) for source in sources if source.train is not None for reference in source.references]
    entries: list[tuple[torch.Tensor, ...]] = []
    for source, reference in progress(pairs, "match and cut", disable=quiet):
        entries += _encoded_crops(source, reference, preset, blur, stride)
    return Pool(*(torch.cat(column) for column in zip(*entries)))


def _encoded_crops(
    source: Source, reference: torch.Tensor, preset: Preset, blur: Blur, stride: int | None
) -> list[tuple[torch.Tensor, ...]]:
    """The training area of a source, matched with one reference, as encoded crops: base, target, texture, weight."""
    assert source.train is not None
    area = source.scene.cut(source.train)
    lr_hsi, holes = split_holes(area.lr_hsi, "lr_hsi")
    lr_hsi_up = area.camera.upsample(lr_hsi)
    # one match for the whole area, then a crop of everything
    texture, _ = dmb(lr_hsi_up, reference, area.camera, preset.match, blur=blur, holes=holes)
    entries: list[tuple[torch.Tensor, ...]] = []
    for box in whole_crops(area, preset.crop // preset.scale * preset.scale, stride or 2 * area.scale):
        here, low = (..., *box.slices), (..., *box.coarse(area.scale).slices)
        encoded = encode_image(lr_hsi[low], lr_hsi_up[here], texture[here], area.camera, preset.denoiser)
        entries.append((encoded.base, encoded.encode(area.gt[here]), encoded.texture, encoded.weight))
    return entries


def whole_crops(area: Degraded, side: int, stride: int) -> list[Box]:
    """The crops of an area that have no hole in any image."""
    holes = area.holes
    boxes = crops(Box(0, 0, *area.gt.shape[2:]), side, stride)
    return [box for box in boxes if not holes[..., *box.slices].any()]


def check_sources(sources: Sequence[Source], preset: Preset) -> None:
    """Raises unless crops of the preset can be cut from these sources and go through one denoiser.

    Raises:
        ValueError: scenes of several band counts for a denoiser that works on bands; a crop larger than a training
            area, or smaller than a patch; a training area in which every crop has holes.
    """
    counts = sorted({source.scene.gt.shape[1] for source in sources})
    if preset.denoiser.subspace is None and len(counts) > 1:
        fail("sources", "scenes of one band count for a denoiser on bands", " and ".join(map(str, counts)))
    sides = {min(s.train.height, s.train.width): s.name for s in sources if s.train is not None}
    if sides and preset.crop > min(sides):
        smallest = min(sides)
        expected = (
            f"at most {smallest} px, the shorter side of the training area of {sides[smallest]!r} (train with "
            f"`--crop {smallest}`, that is `replace(preset, crop={smallest})`, or on larger scenes)"
        )
        fail("crop", expected, preset.crop)
    least = max(preset.match.patch, preset.scale)
    if preset.crop < least:
        fail("crop", f"at least {least} px, a patch and a coarse pixel", preset.crop)
    side = preset.crop // preset.scale * preset.scale
    for source in sources:
        if source.train is not None and not whole_crops(source.scene.cut(source.train), side, 2 * source.scene.scale):
            fail("crop", f"so small that some of the training area of {source.name!r} have no holes", preset.crop)


def draw_batch(pool: Pool, config: TrainConfig, generator: torch.Generator) -> Pool:
    """Random crops, each turned or mirrored, with random signs and gain of its coefficients.

    Signs of principal directions are arbitrary and their scale depends on the scene, so the networks must not learn
    either. A share `drop_reference` of the samples sees no texture. Bands have signs and scales that mean something:
    crops of bands are turned and mirrored only.
    """
    pick = torch.randint(len(pool), (config.batch,), generator=generator)
    turns = torch.randint(8, (config.batch,), generator=generator)
    images = [_turned_crops(x, pick.to(x.device), turns.to(x.device)) for x in (pool.base, pool.target, pool.texture)]
    pick = pick.to(pool.weight.device)
    channels = pool.base.shape[1]
    signs = torch.randint(2, (config.batch, channels, 1, 1), generator=generator).mul(2).sub(1)
    gain = torch.empty(config.batch, 1, 1, 1).uniform_(math.log(0.6), math.log(1.2), generator=generator).exp()
    kept = torch.rand(config.batch, 1, 1, 1, generator=generator) >= config.drop_reference
    base, target, texture = images
    signs, gain, kept = (x.to(base.device) for x in (signs, gain, kept))
    if texture.shape[1] != 4 * channels:  # bands, with a texture of fewer bands
        return Pool(base, target, texture * kept, pool.weight[pick])
    factor = signs * gain
    # the gradient, third of the four texture groups, is a magnitude: it has no sign
    texture_factor = torch.cat([factor, factor, gain.expand(-1, channels, -1, -1), factor], 1)
    return Pool(base * factor, target * factor, texture * texture_factor * kept, pool.weight[pick])


def _turned_crops(x: torch.Tensor, pick: torch.Tensor, turns: torch.Tensor) -> torch.Tensor:
    """The picked crops (B, C, H, W) of x (N, C, H, W), each with its turn; all of one turn at once."""
    found = x.new_empty(len(pick), *x.shape[1:])
    for k in range(8):
        found[turns == k] = turned(x[pick[turns == k]], k).to(x.dtype)  # a pool of half precision stays so
    return found
