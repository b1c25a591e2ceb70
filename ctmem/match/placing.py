"""Where a large reference lies under an image: looked for on coarse pixels, laid on fine ones.

The search of `matching` takes time with the product of both images' pixels. On coarse pixels, as the image itself was
recorded, both have scale² times fewer. So windows vote there, the reference is laid there to a fraction of a coarse
pixel, and only the part of it that lies under the image is laid again on the fine ones (`agreement.lay`).

    ground = Ground.of(image, srf, camera)        # once
    found = ground.under(lr_hsi, holes)           # for every tile; None: it shows other ground

Source: this project.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch

from ctmem.checks import HoledImage, Image, typed
from ctmem.config import MatchConfig
from ctmem.holes import open_holes, split_holes
from ctmem.match.agreement import Agreed, Placement, lay, vote
from ctmem.match.align import Prepared, prepare_query, prepare_reference
from ctmem.match.dmb import find
from ctmem.match.matching import whole_windows
from ctmem.match.patches import turned
from ctmem.observe.camera import Camera

COARSE = MatchConfig(patch=8, stride=1, top_k=8, hard_k=1, temperature=0.02, sharpening=0)
ASKING = 600  # patches of an image that vote, about
SHARE, VOICES = 0.01, 8  # of all patches, and patches beyond these, that may vote for one place of other ground
APART = 4  # coarse pixels between them, at least: nearer ones are one voice
SHARPENING = 3  # of what is compared on fine pixels
RIM = 12  # fine pixels around the part that is laid again: what bending and the sinc of `laying` reach


@typed
@dataclass(frozen=True, eq=False)
class Ground:
    """A reference that is made ready to be looked for.

    Args:
        image: (1, c, H, W), whole coarse pixels, NaN in holes.
        coarse: as the camera shows it, (1, c, h, w), NaN in its holes.
        camera: of the image that asks, with the response of the reference's sensor over its bands.
    """

    image: HoledImage
    coarse: HoledImage
    camera: Camera

    @classmethod
    @typed
    def of(cls, image: HoledImage, srf: torch.Tensor, camera: Camera) -> Ground:
        """The ground of a reference.

        Args:
            image: (1, c, H, W), any units; NaN in holes; at least one coarse pixel a side.
            srf: response of its sensor over the bands of the images that ask, (c, C), rows sum to 1.
            camera: scale and blur of these.

        Raises:
            ValueError: holes only, or a response that does not fit.
        """
        height, width = (side // camera.scale * camera.scale for side in image.shape[2:])
        image = image[..., :height, :width]
        filled, holes = split_holes(image, "image")
        coarse = camera.downsample(filled)
        if holes is not None:
            coarse = open_holes(coarse, camera.coarse_holes(holes))
        return cls(image, coarse, replace(camera, srf=srf, sensor=None, snr_db=None))

    @typed
    @torch.no_grad()
    def places(self, lr_hsi: Image, holes: torch.Tensor | None = None) -> list[Placement]:
        """Returns where it lies under an image, in coarse pixels and fractions of them, most votes first; or nowhere.

        Args:
            lr_hsi: (1, C, h, w), any units, filled where it had holes.
            holes: where it had some, (1, 1, h, w) bool; None: nowhere.
        """
        patch = COARSE.patch
        sides = (*lr_hsi.shape[2:], *self.coarse.shape[2:])
        if min(sides) < patch or not len(whole_windows(self.coarse[0], patch, 1)[0]):
            return []
        query, gain, offset = prepare_query(self.camera.see(lr_hsi), _as_it_is, holes=holes)
        prepared = Prepared(query, *prepare_reference(self.coarse, _as_it_is), gain, offset)
        stride = min(patch, max(APART, math.isqrt(sides[0] * sides[1] // ASKING)))
        match = find(prepared, replace(COARSE, query_stride=stride))
        enough = SHARE + VOICES / match.scores.shape[1]
        found = [one for one in vote(match)[0] if one.votes > enough]
        return list(lay([found], prepared, _as_it_is).placements[0])

    @typed
    @torch.no_grad()
    def under(self, lr_hsi: Image, holes: torch.Tensor | None = None) -> Agreed | None:
        """Returns the reference laid under an image, on its fine pixels; None: it shows other ground.

        Args:
            lr_hsi: as of `places`.
            holes: as of `places`.
        """
        camera = self.camera
        height, width = (camera.scale * side for side in lr_hsi.shape[2:])
        parts = [self._part(one, height, width) for one in self.places(lr_hsi, holes)]
        parts = [(part, place) for part, place in parts if bool(torch.isfinite(part).all(1).any())]
        if not parts:
            return None
        up = camera.see(camera.upsample(lr_hsi))
        query, gain, offset = prepare_query(up, camera.blur, sharpening=SHARPENING, holes=holes)
        sharp, low = zip(*(prepare_reference(part, camera.blur, sharpening=SHARPENING) for part, _ in parts))
        placements = [place._replace(scene=number) for number, (_, place) in enumerate(parts)]
        return lay([placements], Prepared(query, sharp, low, gain, offset), camera.blur, sharpening=SHARPENING)

    def _part(self, place: Placement, height: int, width: int) -> tuple[torch.Tensor, Placement]:
        """What lies under an image of so many fine pixels, (1, c, ·, ·), turned as it lies, and the place within."""
        image, scale, corner = turned(self.image, place.turn), self.camera.scale, []
        for axis, (by, size) in enumerate(((place.down, height), (place.across, width)), start=2):
            most = image.shape[axis]
            first = min(max(0, math.floor(scale * by) - RIM), most - 1)
            last = max(first + 1, min(most, math.ceil(scale * by) + size + RIM))
            image = image.narrow(axis, first, last - first)
            corner.append(scale * by - first)
        return image, place._replace(turn=0, down=corner[0], across=corner[1])


def _as_it_is(x: torch.Tensor) -> torch.Tensor:
    """K on coarse pixels: nothing is left to be blurred."""
    return x
