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

from ctmem.checks import fail
from ctmem.observe.responses import SENSORS, load_rsr
from ctmem.raster.raster import Raster
from ctmem.tiling.references import BOXES, FOUR, Reference, prepare_reference, read_responses

LARGEST = 3000  # pixels of a side that are read, from the middle
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
    if scene.bands.wavelengths_nm is None:
        fail("wavelengths_nm", "given, for what a reference's bands see of the scene's (--wavelengths FILE)", "none")
    prepared = prepare_reference(
        _image(reference), scene.bands.wavelengths_nm, name=reference.path.name, gsd_m=reference.gsd_m,
        wanted_gsd_m=None if scene.gsd_m is None else scene.gsd_m / scale, good=scene.bands.good, **about,
    )  # fmt: skip
    return replace(prepared, image=prepared.image.clamp(0, 1))


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


def _image(reference: Raster) -> torch.Tensor:
    """A reference, (1, c, H, W) in [0, 1]; of a large one its middle."""
    height, width = (min(side, LARGEST) for side in (reference.height, reference.width))
    top, left = (reference.height - height) // 2, (reference.width - width) // 2
    image = torch.from_numpy(reference.window(top, left, height, width))[None]
    known = image[torch.isfinite(image)]
    if not len(known):
        fail("references", "images with data", f"holes only in {reference.path.name}")
    white = float(np.percentile(known[:: math.ceil(len(known) / COUNTED)].numpy(), BRIGHT))
    return (image / (white if white > 0 else 1.0)).clamp(0, 1)
