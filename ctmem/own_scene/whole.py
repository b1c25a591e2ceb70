"""The method "ctmem" on a scene of yours: texture from references of other ground, the whole scene as one tile.

Its network's condition is worked out from all of an image, so tiles of one scene would not agree: it is for scenes that
fit into memory, which for most machines means some hundred pixels a side.

Source: this project.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import cast

import torch

from ctmem.checks import fail
from ctmem.inference import super_resolve
from ctmem.model import Model, load_model
from ctmem.observe.camera import Camera
from ctmem.raster.raster import Raster
from ctmem.tiling.answering import Recipe, answer
from ctmem.tiling.references import Reference
from ctmem.train.identity import digest_of

SAME = 1e-3  # by which responses of several references may differ


@dataclass(frozen=True, eq=False)
class FromReferences:
    """Answers a whole scene; a function (recipe, lr, *, top, left) → (1, C, H, W), as `answer`."""

    model: Model
    references: tuple[torch.Tensor, ...]  # (1, c, H, W) each, [0, 1]
    srf: torch.Tensor  # (c, C)

    def __call__(self, recipe: Recipe, lr: torch.Tensor, *, top: int = 0, left: int = 0) -> torch.Tensor:
        """The answer: good bands by the network, bad ones bicubic."""
        good = recipe.good
        srf = self.srf[:, good]
        camera = Camera(recipe.camera.psf, recipe.camera.scale, srf=srf / srf.sum(1, keepdim=True))
        camera = replace(camera, snr_db=_snr_db(recipe))
        pred = answer(replace(recipe, method="bicubic"), lr, top=top, left=left)
        generator = torch.Generator().manual_seed(recipe.seed)
        seen = lr[:, good] / recipe.level
        found = super_resolve(self.model, seen, list(self.references), camera=camera, generator=generator)
        pred[:, good] = cast(torch.Tensor, found) * recipe.level
        return pred

    @property
    def inputs(self) -> dict[str, str]:
        """A name and the digest of each reference: an answer goes on only with the same."""
        return {f"reference {n}": digest_of(image, self.srf) for n, image in enumerate(self.references, 1)}


def _snr_db(recipe: Recipe) -> float | None:
    """The noise of the good bands as one ratio."""
    if recipe.band_noise is None or not bool((recipe.band_noise > 0).any()):
        return None
    good = recipe.good
    power = recipe.mean[good].double().square().mean() + recipe.std.double().square().sum() / int(good.sum())
    return float(10 * (power / recipe.band_noise[good].double().square().mean()).log10())


def from_references(references: Sequence[Reference], scene: Raster, most: int) -> FromReferences:
    """What answers a scene by its references.

    Args:
        references: of the same bands.
        scene: the coarse one.
        most: side in coarse pixels that fits into memory as one tile.

    Raises:
        ValueError: references of different bands, or a scene that is too large.
    """
    if max(scene.height, scene.width) > most:
        fail("method", f"'prior' or 'auto' for a scene beyond {most} px a side ('ctmem' takes it whole)",
             f"'ctmem' for {scene.height}×{scene.width} px")  # fmt: skip
    first = references[0].srf
    for one in references[1:]:
        if one.srf.shape != first.shape or float((one.srf - first).abs().max()) > SAME:
            fail("references", "of the same bands (--bands picks them)", "others in each")
    return FromReferences(load_model("tiny"), tuple(one.image for one in references), first)
