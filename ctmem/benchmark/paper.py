"""The set-up of the paper as suites: patches of 160×160 px, ×4, the reference from another scene of the same sensor.

    python -m ctmem.benchmark --suite paper-pavia --scenes my_scenes       # Pavia.mat and PaviaU.mat lie there
    python -m ctmem.benchmark --suite paper-houston --scenes my_scenes     # both contests' files lie there

| suite | judged | fitted on | reference |
|---|---|---|---|
| paper-pavia | patches of Pavia Centre's last whole row of patches | the rows above | Pavia University, 4 bands |
| paper-houston | the same of Houston 2013 | the same | Houston 2018, 4 bands, brought to 2.5 m |

The paper does not say which patches it judges, nor the response of its multispectral images. Here these are four boxes
that lie inside all scenes' ranges, and the judged row shares no pixel with what is learned from, blur included. So the
figures are of the paper's kind, and not its own.

To learn from the same ground: `python -m ctmem.data.public pavia-centre --bands Pavia.txt` writes what
`python -m ctmem.train --data Pavia.mat --crop 160` wants to know of the bands.

Source: Qu et al., IEEE TGRS 2025, for scenes, scale and patches; the rest is this project's.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional as F

from ctmem.benchmark.suites import NEEDS, SUITES, USUAL, Case, Ground
from ctmem.checks import fail
from ctmem.data.areas import Box
from ctmem.data.known_scenes import PUBLIC, response_for
from ctmem.data.public import known_raster
from ctmem.holes import split_holes
from ctmem.raster.raster import Raster

SIDE = 160  # fine pixels of a patch
STRIP = 2**24  # numbers of a scene that are read at once
SEEN = 2**20  # values whose percentile becomes 1.0, at most


def pavia(folder: Path, area: str = "validation", *, side: int = SIDE) -> list[Case]:  # noqa: ARG001  (the form of all suites)
    """Pavia Centre, with Pavia University as the reference."""
    return _cases("pavia-centre", "pavia-university", folder, side)


def houston(folder: Path, area: str = "validation", *, side: int = SIDE) -> list[Case]:  # noqa: ARG001
    """Houston 2013, with Houston 2018 as the reference."""
    return _cases("houston-2013", "houston-2018", folder, side)


def _cases(judged: str, other: str, folder: Path, side: int) -> list[Case]:
    """The last whole row of patches of one scene, each with the other scene as its reference."""
    raster = known_raster(judged, folder)
    reference = _reference(known_raster(other, folder), PUBLIC[judged].gsd_m, PUBLIC[other].gsd_m)
    cube = _scaled(torch.from_numpy(raster.window(0, 0, raster.height, raster.width))[None])
    srf = response_for(raster.bands.wavelengths_nm)
    gap = math.ceil(2 * USUAL.halo / USUAL.scale) * USUAL.scale
    top = (raster.height // side - 1) * side
    if top - gap < 2 * USUAL.scale or raster.width < side:
        fail("folder", f"one with scenes of at least two patches of {side}×{side} px below each other",
             f"{raster.name} of {raster.height}×{raster.width} px")  # fmt: skip
    ground: Ground = (cube, srf)
    training = ((ground, Box(0, 0, top - gap, raster.width)),)
    return [
        Case(judged, f"patch-{number + 1}", cube, srf, Box(top, number * side, side, side), None, training, reference)
        for number in range(raster.width // side)
    ]


def _reference(raster: Raster, gsd_m: float | None, own_m: float | None) -> torch.Tensor:
    """What four box-shaped bands see of a scene, (1, 4, H, W) in [0, 1], at the pixels of another; read in strips."""
    srf = response_for(raster.bands.wavelengths_nm)
    rows = max(1, STRIP // (raster.count * raster.width))
    strips = []
    for top in range(0, raster.height, rows):
        strip = torch.from_numpy(raster.window(top, 0, min(rows, raster.height - top), raster.width))
        strips.append(torch.einsum("cn,nhw->chw", srf, strip))
    image = _scaled(torch.cat(strips, 1)[None])
    if gsd_m is None or own_m is None or gsd_m == own_m:
        return image
    size = [max(1, round(sides * own_m / gsd_m)) for sides in image.shape[2:]]
    whole = split_holes(image, "reference")[0]
    return F.interpolate(whole, size, mode="bicubic", antialias=True, align_corners=False).clamp(0, 1)


def _scaled(image: torch.Tensor) -> torch.Tensor:
    """An image in [0, 1]: its 99.9th percentile becomes 1; holes stay NaN."""
    known = image[torch.isfinite(image)]
    white = float(np.percentile(known[:: math.ceil(len(known) / SEEN)].numpy(), 99.9))
    return (image / white).clamp(0, 1)


SUITES |= {"paper-pavia": pavia, "paper-houston": houston}
NEEDS |= {
    "paper-pavia": [" or ".join(PUBLIC[name].files) for name in ("pavia-centre", "pavia-university")],
    "paper-houston": [" or ".join(PUBLIC[name].files) for name in ("houston-2013", "houston-2018")],
}
