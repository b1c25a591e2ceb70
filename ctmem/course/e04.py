"""Exercises of notebook 04: likeness, candidates, a place, votes."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any

import numpy as np
import torch

from ctmem.course.exercise import Exercise, Mistake
from ctmem.data.areas import split_areas
from ctmem.data.controls import tilted
from ctmem.data.samples import degrade_scene
from ctmem.data.scenes import load_scene
from ctmem.match import agreement, dmb, matching, patches
from ctmem.methods import fusion
from ctmem.observe.camera import Camera
from ctmem.observe.optics import blur, gaussian_psf

PLACES = (393, 8)  # of a window of 8 px along 400 px, and turns


def _zncc(q: torch.Tensor, k: torch.Tensor) -> torch.Tensor:
    """Zero-mean normalised cross-correlation of two patches: one mean a band, one length for all."""
    q, k = (x - x.mean((1, 2), keepdim=True) for x in (q, k))
    return (q * k).sum() / (q.norm() * k.norm())


def _band_by_band(q: torch.Tensor, k: torch.Tensor) -> torch.Tensor:
    """The mean of each band's own."""
    return torch.stack([_zncc(one[None], other[None]) for one, other in zip(q, k)]).mean()


def _patches() -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Random patches, whose bands have levels and contrasts of their own."""
    for seed in range(3):
        generator = torch.Generator().manual_seed(seed)
        one, other = torch.rand(2, 4, 8, 8, generator=generator, dtype=torch.float64)
        size = torch.tensor([1.0, 0.2, 3.0, 0.5], dtype=torch.float64)[:, None, None]
        yield size * one + 0.3 * size, (0.4 + seed) * size * one + other


@cache
def _hidden() -> list[tuple[Any, ...]]:
    """A patch, turned, darker, lifted, and the reference it was cut from."""
    found = []
    for seed, row, column, turn in ((4, 17, 31, 5), (5, 29, 6, 2)):
        image = torch.rand(1, 4, 50, 60, generator=torch.Generator().manual_seed(seed))
        image = blur(image, gaussian_psf(2.0))
        found.append((0.4 * patches.turned(image[:, :, row : row + 8, column : column + 8], turn) + 0.1, image))
    return found


def _find(patch: torch.Tensor, reference: torch.Tensor, *, turns: bool = True) -> tuple[int, int]:
    """Row and column of the most similar window."""
    found = matching.match(patch, reference, patch=8, stride=1, turns=turns).windows[0, 0, 0].tolist()
    return found[0], found[1]


@cache
def _placements(degrees: float) -> int:
    """How many placements are left of a reference of the same ground, tilted."""
    pines = load_scene("indian_pines")
    camera = Camera.gaussian(scale=4).for_wavelengths(pines.wavelengths_nm)
    whole = degrade_scene(pines.tensor(), camera)
    area = whole.cut(split_areas(whole.gt.shape[2], whole.gt.shape[3], camera)["train"])
    prepared = dmb.prepare(area.lr_hsi_up, tilted(area.hr_msi, degrees, 1.0), camera, fusion.MATCH)
    return len(agreement.vote(dmb.find(prepared, fusion.MATCH))[0])


def _judge_tilt(answer: Any) -> None:
    """No placement is left; at half of the tilt there is one."""
    if isinstance(answer, str | bool) or callable(answer) or np.size(answer) != 1:
        raise Mistake("one number is wanted, an angle in degrees")
    degrees = abs(float(answer))
    if degrees > 45:
        raise Mistake("beyond 45 degrees another turn is nearer: a smaller tilt, please")
    if _placements(degrees):
        small = " (in degrees, not in radians)" if degrees < 1 else ""
        raise Mistake(f"some windows still agree: tilt it further{small}")
    if not _placements(degrees / 2):
        raise Mistake("the vote breaks, but at half of this tilt it does so, too: less will do")


EXERCISES = (
    Exercise(
        "a function of (q, k)",
        right=_zncc,
        mistakes={
            "zero-mean: take the mean off first": lambda q, k: (q * k).sum() / (q.norm() * k.norm()),
            "one mean for all bands leaves each band's own level in: a mean of *each band*": lambda q, k: _zncc(
                q.flatten()[None, None], k.flatten()[None, None]
            ),
            "bands are compared *together*: one product over all of them, one length": _band_by_band,
            "normalised: divide by the lengths of both": lambda q, k: (
                (q - q.mean((1, 2), keepdim=True)) * (k - k.mean((1, 2), keepdim=True))
            ).sum(),
            "divide by the product of the lengths, not by that of the squares": lambda q, k: (
                _zncc(q, k) / ((q - q.mean((1, 2), keepdim=True)).norm() * (k - k.mean((1, 2), keepdim=True)).norm())
            ),
        },
        inputs=_patches,
        hint="take off the mean of each band, then the scalar product over all numbers, over both lengths",
    ),
    Exercise(
        "a whole number",
        right=PLACES[0] ** 2 * PLACES[1],
        mistakes={
            "one short on each side: a window may also begin at the last place, 400 − 8": (PLACES[0] - 1) ** 2 * 8,
            "each of them in eight turns and mirrors": PLACES[0] ** 2,
            "four turns, and each of them mirrored": PLACES[0] ** 2 * 4,
            "a window must lie inside: it cannot begin at each pixel": 400**2 * 8,
            "at stride 1 windows overlap": 50**2 * 8,
        },
        hint="at how many places can 8 px begin along 400 px? That squared, in all turns",
    ),
    Exercise(
        "a function of (patch, reference)",
        right=_find,
        mistakes={
            "row first, then column": lambda patch, reference: _find(patch, reference)[::-1],
            "the patch was turned: try all turns and mirrors": lambda p, r: _find(p, r, turns=False),
            "one number in place of two: a place is (row, column)": lambda p, r: (
                _find(p, r)[0] * r.shape[3] + _find(p, r)[1]
            ),
            "that is the middle of the window: where does it begin?": lambda p, r: tuple(x + 4 for x in _find(p, r)),
        },
        inputs=lambda: iter(_hidden()),
        hint="`matching.match` at stride 1, with turns; the window's corner is in `windows`",
    ),
    Exercise("a number", judge=_judge_tilt),
)
