"""Files of fine images as references of a scene: read, scaled to [0, 1], on the fine pixels, with what its bands see.

Which bands count and what they see of the scene's is worked out by `ctmem.tiling.references`.

Source: this project.
"""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rasterio import warp
from rasterio.errors import CRSError

from ctmem.checks import fail
from ctmem.match.placing import COARSE
from ctmem.observe.responses import SENSORS, load_rsr
from ctmem.raster.raster import Raster, place_of
from ctmem.tiling.references import BOXES, FOUR, Reference, prepare_reference, read_responses

LARGEST = 3000  # pixels of a side that are read
BRIGHT = 99.9  # percentile that becomes 1
COUNTED = 2**20  # numbers that it is found from, at most


def fitted(reference: Raster, scene: Raster, *, scale: int, sensor: str | Path | None = None) -> Reference:
    """Returns a reference for a scene, (1, c, H, W) in [0, 1], NaN in holes.

    Args:
        reference: of any ground.
        scene: the coarse scene.
        scale: of the answer.
        sensor: of the reference: a name, or a text file of responses with the columns wavelength_nm, response and band;
            None: its file says the wavelengths of its bands.

    Raises:
        ValueError: a scene or reference without wavelengths, an unknown sensor, or no band in common.
    """
    about = _told(reference, sensor)
    image, told = _image(reference, scene)
    if scene.bands.wavelengths_nm is None:
        fail("wavelengths_nm", "given, for what a reference's bands see of the scene's (--wavelengths FILE)", "none")
    prepared = prepare_reference(
        image, scene.bands.wavelengths_nm, name=reference.path.name, gsd_m=reference.gsd_m,
        wanted_gsd_m=None if scene.gsd_m is None else scene.gsd_m / scale, good=scene.bands.good, **about,
    )  # fmt: skip
    return replace(prepared, image=prepared.image.clamp(0, 1), told=(*told, *prepared.told))


def at_most(reference: Reference, bands: int) -> Reference:
    """A reference with so many of its bands at most, spread evenly; says so."""
    count = len(reference.bands)
    if count <= bands:
        return reference
    kept = np.linspace(0, count - 1, bands).round().astype(int).tolist()
    told = f"{reference.name}: {bands} of {count} bands are used, spread evenly (--bands picks others)"
    names = tuple(reference.bands[number] for number in kept)
    image, srf = reference.image[:, kept], reference.srf[kept]
    return Reference(reference.name, image, srf, names, (*reference.told, told))


def check_large(reference: Reference, scale: int) -> None:
    """Raises where a reference is too small to be looked for."""
    height, width = reference.image.shape[2:]
    if min(height, width) < COARSE.patch * scale:
        wanted = f"images of at least {COARSE.patch * scale} px a side on the answer's pixels"
        fail("references", wanted, f"{height}×{width} px of {reference.name}")


def check_sensor(sensor: str | Path | None) -> None:
    """Raises where no sensor of that name is known, and no file of responses is there."""
    known = (*SENSORS, *BOXES)
    if sensor is not None and str(sensor) not in known and not Path(sensor).is_file():
        fail("sensor", f"one of {', '.join(known)}, or a text file of responses", repr(str(sensor)))


def _told(reference: Raster, sensor: str | Path | None) -> dict[str, Any]:
    """What is known of the bands of a reference, as arguments of `prepare_reference`."""
    bands = reference.bands
    known = (*SENSORS, *BOXES)
    check_sensor(sensor)
    if sensor is not None and str(sensor) not in known:
        return {"responses": read_responses(sensor)}
    if sensor is not None:
        table = load_rsr(str(sensor)) if str(sensor) in SENSORS else BOXES[str(sensor)]
        named = bands.names is not None and all(name in table for name in bands.names)
        if not named and reference.count not in (len(table), 4 if str(sensor) in (*SENSORS, *FOUR) else len(table)):
            whose = f"one with the bands of {reference.path.name}, which has {reference.count} without their names"
            fail("sensor", f"{whose} ('rgb' is red, green, blue; a text file of responses says any)", repr(sensor))
        return {"sensor": str(sensor), "bands": bands.names if named else None}
    if bands.wavelengths_nm is None or not np.isfinite(bands.wavelengths_nm).any():
        fail("sensor", f"given, since {reference.path.name} says no wavelengths: {', '.join(known)}, or a text file",
             "none")  # fmt: skip
    return {"centres_nm": bands.wavelengths_nm, "fwhm_nm": bands.fwhm_nm, "bands": bands.names}


def _image(reference: Raster, scene: Raster) -> tuple[torch.Tensor, list[str]]:
    """A reference, (1, c, H, W) in [0, 1], and what is to be said of it; of a large one the part at the scene."""
    top, left, height, width = part = _part(reference, scene)
    image = torch.from_numpy(reference.window(*part))[None]
    known = image[torch.isfinite(image)]
    if not len(known):
        fail("references", "images with data", f"holes only in {reference.path.name}")
    white = float(np.percentile(known[:: math.ceil(len(known) / COUNTED)].numpy(), BRIGHT))
    told = []
    if (height, width) != (reference.height, reference.width):
        whole = f"{reference.height}×{reference.width} px"
        told = [f"{reference.path.name}: {height}×{width} px of {whole} are read, from row {top}, column {left}"]
    return (image / (white if white > 0 else 1.0)).clamp(0, 1), told


def _part(reference: Raster, scene: Raster) -> tuple[int, int, int, int]:
    """Top, left, height and width of what is read: around the scene's place, where maps tell it, or the middle."""
    sides = reference.height, reference.width
    middle = _place_in(reference, scene)
    if middle is None or not all(0 <= at < side for at, side in zip(middle, sides)):
        middle = sides[0] / 2, sides[1] / 2
    spans = [min(side, LARGEST) for side in sides]
    top, left = (min(max(0, round(at - span / 2)), side - span) for at, span, side in zip(middle, spans, sides))
    return top, left, spans[0], spans[1]


def _place_in(reference: Raster, scene: Raster) -> tuple[float, float] | None:
    """Row and column of a reference at which the middle of a scene lies; None: no maps of both."""
    mine, its = reference.transform, scene.transform
    if mine is None or its is None or reference.crs is None or scene.crs is None or mine.is_degenerate:
        return None
    x, y = place_of(its, scene.width / 2, scene.height / 2)
    try:
        (x,), (y,) = warp.transform(scene.crs, reference.crs, [x], [y])
        column, row = place_of(~mine, x, y)
    except CRSError:
        return None
    return (row, column) if math.isfinite(row) and math.isfinite(column) else None
