"""The cameras of the benchmark, by short names: what the coarse sensor does, and whether the method is told.

A name is `usual`, or settings joined by `-`: `x2` (scale), `fwhm6` (Gaussian, fine pixels; else as wide as the scale),
`box` (a square of one coarse pixel), `snr30` (noise, dB), `assumed` (the method is told of the usual camera at that
scale, and has to do with it). `grid` stands for all of `GRID`.

Source: this project.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from ctmem.checks import fail, typed
from ctmem.observe.camera import Camera

USUAL = "usual"  # ×4, a Gaussian of 4 px, no noise
SCALE = 4
GRID = (
    USUAL, "x2", "x3", "x6", "x8", "fwhm2.4", "fwhm6", "box", "fwhm2.4-assumed", "fwhm6-assumed", "box-assumed",
    "snr40", "snr30", "snr25",
)  # fmt: skip
SETTING = re.compile(r"x(?P<scale>\d+)|fwhm(?P<fwhm>\d+(?:\.\d+)?)|snr(?P<snr>\d+(?:\.\d+)?)|(?P<word>box|assumed)")


@dataclass(frozen=True)
class Told:
    """The camera that an image is made with, and the one that the method is given."""

    name: str
    true: Camera
    told: Camera

    def of(self, srf: torch.Tensor | None, sensor: str | None) -> Told:
        """The same over the bands of a scene."""
        true, told = (replace(camera, srf=srf, sensor=sensor) for camera in (self.true, self.told))
        return replace(self, true=true, told=told)


@typed
def parse_camera(name: str) -> Told:
    """Returns the cameras of a name.

    Raises:
        ValueError: a setting that is not one of those above, or the same one twice, or a blur that is box and Gaussian.

    Example:
        >>> told = parse_camera("x2-fwhm3-snr30")
        >>> told.true.scale, round(told.true.fwhm_px[0]), told.true.snr_db
        (2, 3, 30.0)
    """
    found: dict[str, str] = {}
    for part in name.split("-") if name != USUAL else []:
        match = SETTING.fullmatch(part)
        setting = {key: value for key, value in match.groupdict().items() if value} if match else {}
        setting = {value if key == "word" else key: value for key, value in setting.items()}
        if not setting or setting.keys() & found.keys() or {"box", "fwhm"} <= found.keys() | setting.keys():
            expected = f"{USUAL!r}, or each once of x2, fwhm6 or box, snr30, assumed, joined by '-'"
            fail("cameras", expected, repr(name))
        found |= setting
    # scale and noise, then the blur; what a method is told of is the usual blur where it has to assume one
    scale = int(found.get("scale", SCALE))
    snr_db = float(found["snr"]) if "snr" in found else None
    usual = Camera.gaussian(scale=scale)
    if "box" in found:
        true = Camera(torch.full((scale, scale), 1 / scale**2), scale, sensor=usual.sensor, snr_db=snr_db)
    else:
        width = float(found["fwhm"]) if "fwhm" in found else None
        true = Camera.gaussian(width, scale, snr_db=snr_db)
    return Told(name, true, usual if "assumed" in found else true)


@typed
def parse_cameras(cameras: Sequence[str]) -> list[Told]:
    """Returns the cameras of several names, each once; `grid` is all of `GRID`.

    Raises:
        ValueError: as `parse_camera`.
    """
    if not cameras:
        fail("cameras", "at least one name", "none")
    every = [one for name in cameras for one in (GRID if name == "grid" else (name,))]
    return [parse_camera(name) for name in dict.fromkeys(every)]
