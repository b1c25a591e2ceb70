"""The cube of the site's band explorer: a part of the training area of `indian_pines`, 8 bits a value."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import numpy as np

from ctmem.data.areas import split_areas
from ctmem.data.scenes import load_scene
from ctmem.explorers.render import COMPOSITES, nearest_band
from ctmem.observe.camera import Camera

ROWS, COLUMNS, EVERY = 64, 96, 2  # pixels, pixels, every how many bands
VIEWS = {"true colour": "true colour", "false colour": "false colour (near infrared, red, green)"}


def write_cube(path: Path) -> None:
    """Writes it as a script that sets `window.ctmemCube`: a page that is opened as a file may not fetch another kind.

    `data` holds one plane (rows, columns) a band, base64; `limits` what 0 and 255 stand for in each; `views` the bands
    that become red, green and blue.
    """
    scene = load_scene("indian_pines")
    area = split_areas(*scene.cube.shape[:2], Camera.gaussian(fwhm_px=4.0, scale=4))["train"]
    cube = scene.cube[area.slices][:ROWS, :COLUMNS, ::EVERY]
    nm = scene.wavelengths_nm[::EVERY]
    low, high = cube.min((0, 1)), cube.max((0, 1))
    planes = np.rint(255 * (cube - low) / (high - low)).astype(np.uint8).transpose(2, 0, 1)
    held = {
        "shape": cube.shape,
        "wavelengths_nm": [round(float(centre), 1) for centre in nm],
        "limits": [[round(float(value), 4) for value in pair] for pair in zip(low, high)],
        "views": {ours: [nearest_band(nm, wanted) for wanted in COMPOSITES[name]] for ours, name in VIEWS.items()},
        "data": base64.b64encode(np.ascontiguousarray(planes)).decode("ascii"),
    }
    path.write_text(f"window.ctmemCube = {json.dumps(held)};\n", encoding="utf-8")
