"""How well the width of a blur is estimated: scenes × scales × blurs × noises, without any reference.

    python benchmarks/blur.py [--scenes FOLDER] [--scales 2 3 4 6] [--noises none 30]

Development scenes of ../shared/scenes, of which nothing was learned. Blurs are Gaussians of FWHM 0.6, 1 and 1.5 coarse
pixels and a box. Writes results/blur.md. What errors cost in dB is measured by own_grid.py.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path

import machine
import numpy as np
import torch
from own_grid import BLURS, camera_of, ground, survey

from ctmem.benchmark.suites import SCENES
from ctmem.command import forgiving_output
from ctmem.observe.optics import add_noise
from ctmem.tiling.recipe import make_recipe

KEPT_APART = ("aviris_la_airport1", "paris_ali_msi")  # a scene that decides nothing; an image of nine bands
READING = """\
Errors of the logarithm of the FWHM, coarse pixels: −0.10 is 10 % too narrow. A box counts as the Gaussian that the camera takes for
as wide. Means over the noises; `rms`: over all scenes and noises."""


def measured(gt: torch.Tensor, scale: int, noises: list[float | None]) -> dict[float | None, list[float]]:
    """Errors of each blur, one for each noise."""
    found: dict[float | None, list[float]] = {}
    height, width = (side // scale * scale for side in gt.shape[2:])
    for blur in BLURS:
        camera = camera_of(blur, scale)
        clean = camera.downsample(gt[..., :height, :width])
        for snr_db in noises:
            draw = torch.Generator().manual_seed(0)
            lr = clean if snr_db is None else add_noise(clean, snr_db, generator=draw)
            seen = make_recipe(survey(lr), scale=scale, method="bicubic").camera
            found.setdefault(blur, []).append(math.log(seen.fwhm_px[0] / camera.fwhm_px[0]))
    return found


def main() -> None:
    """Measures and writes."""
    forgiving_output()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenes", type=Path, default=SCENES, metavar="FOLDER", help="of the development scenes")
    parser.add_argument("--scales", type=int, nargs="+", default=[2, 3, 4, 6], metavar="N")
    parser.add_argument("--noises", nargs="+", default=["none", "30"], metavar="DB")
    options = parser.parse_args()
    noises = [None if one == "none" else float(one) for one in options.noises]
    names = [file.stem for file in sorted(options.scenes.glob("*.npz")) if file.stem not in KEPT_APART]
    if not names:
        print(f"there are no scenes in {options.scenes}")
        return
    rows, over = [], []
    for scale in options.scales:
        errors: dict[float | None, list[float]] = {blur: [] for blur in BLURS}
        for name in names:
            found = measured(ground(options.scenes, name), scale, noises)
            rows.append([name, str(scale), *(f"{np.mean(found[blur]):+.2f}" for blur in BLURS)])
            print(" ".join(rows[-1]), flush=True)
            for blur, values in found.items():
                errors[blur] += values
        over.append([f"{scale}, mean", *(f"{np.mean(errors[blur]):+.2f}" for blur in BLURS)])
        over.append([f"{scale}, rms", *(f"{np.sqrt(np.mean(np.square(errors[blur]))):.2f}" for blur in BLURS)])
        blurs = ["box" if blur is None else f"{blur:g}" for blur in BLURS]
        parts = ["# The width of the blur, estimated", machine.describe(), READING, machine.table(["×", *blurs], over)]
        machine.write("blur", "\n\n".join([*parts, machine.table(["scene", "×", *blurs], rows)]))


if __name__ == "__main__":
    main()
