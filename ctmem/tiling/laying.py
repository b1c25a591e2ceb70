"""References of the same ground, in any position, laid under every tile of a scene: the method `fusion`, tile by tile.

    laying = Laying.of(references, recipe.camera)
    pred = laying(recipe, lr)                      # as `answer`, which it calls
    laying.votes(recipe, samples)                  # how many windows of a scene each reference lies under

Each reference is looked for by the response of its own sensor (`ctmem.match.placing`). Where one lies under a tile,
what the blur took from it is added to every component of the spectra, as far as these follow it (`ctmem.match.detail`)
and as it is alike around each pixel; of several the likest one counts. Elsewhere the answer is that of the recipe.

Source: this project.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch

from ctmem.checks import Inside, typed
from ctmem.match.detail import local_detail
from ctmem.match.placing import Ground
from ctmem.observe.camera import Camera
from ctmem.prior import COMPONENTS
from ctmem.tiling.answering import Recipe, answer, filled_of
from ctmem.tiling.plan import COPIES
from ctmem.tiling.references import Reference
from ctmem.train.identity import digest_of

NUMBERS, ALWAYS = 4, 100  # at once for a fine pixel of a tile: per pair of bands or band and component, and else


@typed
@dataclass(frozen=True, eq=False)
class Laying:
    """Answers windows of a scene as `answer`, with what its references show of them.

    Args:
        names: of the references.
        grounds: the references, ready to be looked for.
    """

    names: tuple[str, ...]
    grounds: tuple[Ground, ...]

    @classmethod
    @typed
    def of(cls, references: Sequence[Reference], camera: Camera) -> Laying:
        """The references of a scene.

        Args:
            references: on the fine pixels, each with its own bands.
            camera: of the scene: scale and blur.

        Raises:
            ValueError: a reference of holes only.
        """
        names = tuple(one.name for one in references)
        return cls(names, tuple(Ground.of(one.image, one.srf, camera) for one in references))

    def __call__(self, recipe: Inside[Recipe], lr: torch.Tensor, *, top: int = 0, left: int = 0) -> torch.Tensor:
        """The answer to a window (1, C, h, w), (1, C, scale·h, scale·w); arguments are those of `answer`."""
        return answer(recipe, lr, top=top, left=left, more=partial(self.more, recipe))

    @typed
    @torch.no_grad()
    def more(
        self, recipe: Inside[Recipe], filled: torch.Tensor, holes: torch.Tensor | None, z: torch.Tensor,
        extra: torch.Tensor | None,
    ) -> torch.Tensor | None:  # fmt: skip
        """What is added to bicubic enlargement: `extra`, and the detail of the references where they are laid.

        Args:
            recipe: of the scene.
            filled: the window (1, C, h, w) without holes.
            holes: where it had some, (1, 1, h, w); None: nowhere.
            z: its whitened components, (1, Z, h, w).
            extra: what the method adds to them, (1, Z, H, W); None: nothing.
        """
        layers = [found for ground in self.grounds if (found := ground.under(filled, holes)) is not None]
        if not layers:
            return extra
        up = recipe.camera.upsample(z)
        most, best = torch.zeros_like(up[:, :1]), torch.zeros_like(up)
        for found in layers:
            share = found.share
            detail, _ = local_detail(up, found.sharp, found.blurred, share)
            best, most = torch.where(share > most, detail, best), torch.maximum(share, most)
        base = torch.zeros_like(best) if extra is None else extra
        return base + most * (best - base)

    @typed
    @torch.no_grad()
    def votes(self, recipe: Inside[Recipe], samples: Sequence[torch.Tensor]) -> list[int]:
        """How many of a scene's windows (1, C, h, w), NaN in holes, each reference lies under."""
        seen = [filled_of(recipe, one)[:2] for one in samples]
        return [sum(bool(ground.places(*one)) for one in seen) for ground in self.grounds]

    @typed
    def pick(self, numbers: Sequence[int]) -> Laying:
        """The same with these references alone."""
        return Laying(tuple(self.names[one] for one in numbers), tuple(self.grounds[one] for one in numbers))

    @property
    def bands(self) -> int:
        """Of how many bands' answers a tile takes the memory, see `plan.tile_of`."""
        most = max((one.image.shape[1] for one in self.grounds), default=0)
        return math.ceil((NUMBERS * (most + COMPONENTS) * most + ALWAYS) / COPIES)

    @property
    def gigabytes(self) -> float:
        """Memory that the references take."""
        return sum(4 * (one.image.numel() + one.coarse.numel()) for one in self.grounds) / 1e9

    @property
    def inputs(self) -> dict[str, str]:
        """A name and the digest of each reference: an answer goes on only with the same."""
        named = zip(self.names, self.grounds, strict=True)
        return {
            f"reference {n} ({name})": digest_of(x.image, x.camera.response()) for n, (name, x) in enumerate(named, 1)
        }
