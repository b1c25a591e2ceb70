"""What it costs not to tell the camera: shipped weights on an image of another blur, told and not told. Half a minute.

    python benchmarks/camera.py

Indian Pines, ×4; each blur has its own areas, so that nothing reads across their borders. Writes results/camera.md.
"""

from __future__ import annotations

import warnings

import machine
import torch

import ctmem
from ctmem.command import forgiving_output
from ctmem.data.areas import split_areas
from ctmem.data.samples import Degraded, degrade_scene
from ctmem.evaluation.metrics import psnr_db

WIDTHS = (3.0, 4.0, 5.0, 6.0, 8.0, 12.0)  # FWHM, fine pixels; the weights were trained for 4
READING = """\
`not told`: the camera of the weights is used for matching and consistency; `told`: the true one. Reference: the
scene's own reference area. Back-projection needs no training: it is the floor.

What to read from it: where the blur is wider than the weights were trained for, telling it is worth more than all that
the weights bring. Told or not, the network itself still expects the blur that it learned: at twice the width
back-projection with the true blur makes most of the gain."""


def scores(model, area: Degraded, reference: torch.Tensor) -> list[str]:
    """PSNR in dB of bicubic, then of back-projection and of ctmem, each not told and told."""
    trained = model.camera.for_wavelengths(ctmem.load_scene("indian_pines").wavelengths_nm)
    found = [area.lr_hsi_up]
    found += [camera.back_project(area.lr_hsi_up, area.lr_hsi) for camera in (trained, area.camera)]
    for camera in (trained, area.camera):
        generator = torch.Generator().manual_seed(0)
        found.append(ctmem.super_resolve(model, area.lr_hsi, reference, camera=camera, generator=generator))
    return [f"{float(psnr_db(pred, area.gt)):.2f}" for pred in found]


def main() -> None:
    """Measures and writes."""
    forgiving_output()
    warnings.simplefilter("ignore", RuntimeWarning)  # that the camera is another one is the point
    model = ctmem.load_model("tiny")
    scene = ctmem.load_scene("indian_pines")
    header = ["FWHM, px", "bicubic", "back-projection, not told", "told", "ctmem, not told", "told", "gain of telling"]
    parts = ["# The camera, told and not told", machine.describe(), READING]
    for name in ("validation", "test"):
        rows = []
        for fwhm_px in WIDTHS:
            camera = ctmem.Camera.gaussian(fwhm_px, scale=4).for_wavelengths(scene.wavelengths_nm)
            whole = degrade_scene(scene.tensor(), camera)
            areas = split_areas(*whole.gt.shape[2:], camera, at_least=8)
            row = scores(model, whole.cut(areas[name]), whole.cut(areas["reference"]).hr_msi)
            rows.append([f"{fwhm_px:g}", *row, f"{float(row[-1]) - float(row[-2]):+.2f}"])
        parts.append(f"## {name.capitalize()} area, PSNR in dB\n\n{machine.table(header, rows)}")
    machine.write("camera", "\n\n".join(parts))


if __name__ == "__main__":
    main()
