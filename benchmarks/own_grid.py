"""Never worse than bicubic: everything estimated, four blurs × four noises, against bicubic and against the blur told.

    python benchmarks/own_grid.py [--scenes FOLDER] [--scales 4] [--side 80] [--only NAME …] [--name own_grid]

Development scenes of ../shared/scenes, and the validation area of Indian Pines, which is in the package. Blurs are
Gaussians of FWHM 0.6, 1 and 1.5 coarse pixels and a box. Writes results/own_grid.md after every scene.
"""

from __future__ import annotations

import argparse
import statistics
from dataclasses import dataclass
from pathlib import Path

import machine
import numpy as np
import torch

from ctmem.benchmark.suites import SCENES, embedded
from ctmem.evaluation.metrics import psnr_db, sam_deg
from ctmem.observe.camera import Camera
from ctmem.observe.optics import add_noise
from ctmem.tiling.recipe import answer, deviation, make_recipe

BLURS: tuple[float | None, ...] = (0.6, None, 1.0, 1.5)  # FWHM in coarse pixels; None: a box
NOISES = (None, 40.0, 30.0, 25.0)  # dB
FILES = ("aviris_la_airport3", "aviris_la_urban4", "aviris_jasper_ridge", "rosis_paviacentre_crop", "casi_muufl_crop")
OWN = "indian_pines (validation)"
READING = """\
`auto`: blur and noise estimated, method chosen on the scene's own copy. `told`: the true blur. dB and angle are
differences to bicubic enlargement; `blur`: FWHM in coarse pixels, true and estimated; `in 1 std`: share of the errors
below the deviation that `auto` gives for them (0.68 of normal ones)."""


@dataclass(frozen=True)
class Survey:
    """Statistics of an image that lies in memory."""

    count: int
    mean: torch.Tensor
    covariance: torch.Tensor
    good: torch.Tensor
    level: float
    samples: list[torch.Tensor]


def survey(lr: torch.Tensor) -> Survey:
    """Of an image (1, C, h, w) without holes."""
    x = lr[0].flatten(1).double()
    mean = x.mean(1)
    centred = x - mean[:, None]
    covariance = centred @ centred.T / x.shape[1]
    return Survey(x.shape[1], mean, covariance, torch.ones(len(x), dtype=torch.bool), float(x.max()), [lr])


def ground(folder: Path, name: str) -> torch.Tensor:
    """A scene (1, C, H, W), [0, 1]."""
    if name == OWN:
        (case,) = (one for one in embedded(Path(), "validation") if one.scene == "indian_pines")
        return case.cube[..., *case.place(12).slices]
    cube = np.load(folder / f"{name}.npz", allow_pickle=False)["cube"].astype(np.float32)
    cube = np.clip(cube / np.percentile(cube, 99.9), 0, 1)
    return torch.from_numpy(np.ascontiguousarray(cube.transpose(2, 0, 1)))[None]


def camera_of(blur: float | None, scale: int) -> Camera:
    """Of a Gaussian, or of a box."""
    if blur is None:
        return Camera(torch.full((scale, scale), 1 / scale**2), scale, sensor=None)
    return Camera.gaussian(blur * scale, scale, sensor=None)


def measured(gt: torch.Tensor, name: str, scale: int) -> list[list[str]]:
    """The rows of a scene at a scale."""
    rows = []
    for blur in BLURS:
        camera = camera_of(blur, scale)
        for snr_db in NOISES:
            lr = camera.downsample(gt)
            if snr_db is not None:
                lr = add_noise(lr, snr_db, generator=torch.Generator().manual_seed(0))
            bicubic = camera.upsample(lr)
            base = float(psnr_db(bicubic, gt)), float(sam_deg(bicubic, gt))
            found = survey(lr)
            auto, told = make_recipe(found, scale=scale), make_recipe(found, scale=scale, psf=camera.psf)
            preds = [answer(one, lr) for one in (auto, told)]
            gains = [float(psnr_db(pred, gt)) - base[0] for pred in preds]
            angles = [100 * (float(sam_deg(pred, gt)) / base[1] - 1) for pred in preds]
            within = (
                "" if auto.spread is None else f"{((preds[0] - gt).abs() < deviation(auto, lr)).float().mean():.2f}"
            )
            widths = f"{camera.fwhm_px[0] / scale:.2f} {auto.camera.fwhm_px[0] / scale:.2f}"
            rows.append(
                [name, str(scale), "box" if blur is None else f"{blur:g}", "none" if snr_db is None else f"{snr_db:g}",
                 widths, f"{base[0]:.2f}", auto.method, f"{gains[0]:+.2f}", f"{angles[0]:+.1f}", f"{gains[1]:+.2f}",
                 f"{angles[1]:+.1f}", within]
            )  # fmt: skip
            print(" ".join(rows[-1]), flush=True)
    return rows


def summary(rows: list[list[str]]) -> str:
    """Over all cells: means, the worst, and how many miss what is wanted."""
    gain, angle, told = (np.array([float(row[i]) for row in rows]) for i in (7, 8, 9))
    lines = [
        ["gain over bicubic, auto, dB", f"{gain.mean():+.2f}", f"{gain.min():+.2f}", f"{(gain < -0.05).sum()}"],
        ["spectral angle, auto, %", f"{angle.mean():+.1f}", f"{angle.max():+.1f}", f"{(angle > 1).sum()}"],
        ["auto less told, dB", f"{(gain - told).mean():+.2f}", f"{(gain - told).min():+.2f}",
         f"{(gain - told < -0.1).sum()}"],
    ]  # fmt: skip
    within = [float(row[11]) for row in rows if row[11]]
    if within:
        lines.append(["errors in 1 std", f"{statistics.mean(within):.2f}", f"{min(within):.2f}", ""])
    limits = "beyond the bar (−0.05 dB, +1 %, −0.1 dB)"
    return machine.table(["what", "mean", "worst", f"of {len(rows)} cells {limits}"], lines)


def main() -> None:
    """Measures and writes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenes", type=Path, default=SCENES, metavar="FOLDER", help="of the development scenes")
    parser.add_argument("--scales", type=int, nargs="+", default=[4], metavar="N")
    parser.add_argument("--side", type=int, default=80, metavar="N", help="largest side of a scene, fine pixels")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="scenes")
    parser.add_argument("--name", default="own_grid", help="of the file of results")
    options = parser.parse_args()
    names = options.only or [*FILES, OWN]
    header = ["scene", "×", "FWHM", "SNR", "blur", "bicubic", "method", "auto, dB", "auto, angle %", "told, dB",
              "told, angle %", "in 1 std"]  # fmt: skip
    rows: list[list[str]] = []
    for name in names:
        if name != OWN and not (options.scenes / f"{name}.npz").is_file():
            print(f"{name}: left out, there is no such file in {options.scenes}")
            continue
        for scale in options.scales:
            gt = ground(options.scenes, name)
            height, width = (min(side, options.side) // scale * scale for side in gt.shape[2:])
            rows += measured(gt[..., :height, :width], name, scale)
            parts = ["# Everything estimated, against bicubic", machine.describe(), READING, summary(rows)]
            machine.write(options.name, "\n\n".join([*parts, machine.table(header, rows)]))


if __name__ == "__main__":
    main()
