"""What telling the camera brings, and what an estimated one: four blurs × four noises, differences to bicubic in dB.

    python benchmarks/blind.py [--scenes FOLDER] [--methods bicubic-bp cnn-bp prior]

Ground: the validation area of Indian Pines, and with --scenes Los Angeles airport1 and urban4. The estimated camera has
a reference of other ground: the scene's own reference area, or another scene of the city. Then the errors
of the estimates on Los Angeles and Paris. Writes results/blind.md.
"""

from __future__ import annotations

import argparse
import statistics
import warnings
from dataclasses import replace
from pathlib import Path

import machine
import torch

import ctmem
from ctmem.benchmark.suites import Case, embedded, los_angeles, pair
from ctmem.command import forgiving_output
from ctmem.evaluation.metrics import psnr_db
from ctmem.observe.camera import SIGMA_TO_FWHM, Camera
from ctmem.observe.estimate import estimate_camera, estimate_fwhm, estimate_snr_db

WIDTHS = (2.0, 3.0, 4.0, 6.0)  # FWHM, fine pixels
NOISES = (None, 40.0, 30.0, 25.0)  # dB
METHODS = ("bicubic-bp", "cnn-bp", "prior")
ERROR_WIDTHS = (2.0, 3.0, 4.0, 5.0, 6.0, 7.0)
JUDGED = ("indian_pines", "airport1", "urban4")
READING = """\
Differences to bicubic, PSNR in dB. `told`: the camera that made the image; `auto`: `super_resolve(psf="auto")` with a reference of
other ground. `estimated` is its blur (FWHM) and its noise."""


def measured(model: ctmem.Model, case: Case, methods: list[str], found: dict[str, list[float]]) -> list[list[str]]:
    """The rows of a scene; their differences to bicubic are also appended to `found`, by column."""
    rows = []
    for width in WIDTHS:
        for snr_db in NOISES:
            camera = Camera.gaussian(width, 4, srf=case.srf, sensor=None, snr_db=snr_db)
            lr_hsi, gt = case.observed(camera, torch.Generator().manual_seed(0))
            blank = replace(Camera.gaussian(scale=4), srf=case.srf, sensor=None)
            auto = estimate_camera(lr_hsi, case.own, camera=blank)
            bicubic = float(psnr_db(camera.upsample(lr_hsi), gt))
            estimated = f"{auto.fwhm_px[0]:.1f} px, {auto.snr_db:.0f} dB"
            row = [case.scene, f"{width:g}", "none" if snr_db is None else f"{snr_db:g}", estimated, f"{bicubic:.2f}"]
            for name in methods:
                for label, given in (("told", camera), ("auto", auto)):
                    pred = ctmem.super_resolve(model, lr_hsi, camera=given, method=name)
                    found.setdefault(f"{name}, {label}", []).append(float(psnr_db(pred, gt)) - bicubic)
                    row.append(f"{found[f'{name}, {label}'][-1]:+.2f}")
            print(" ".join(row), flush=True)
            rows.append(row)
    return rows


def errors(case: Case) -> list[list[str]]:
    """The rows of a scene: errors of the estimated blur by reference and noise, and the noise estimated."""
    rows = []
    references = {
        "none": None,
        "the city": case.own if case.partner is None else case.partner,
        "Sentinel-2": case.other,
    }
    for name, reference in references.items():
        for snr_db in (None, 30.0):
            off, noise = [], []
            for width in ERROR_WIDTHS:
                camera = Camera.gaussian(width, 4, srf=case.srf, sensor=None, snr_db=snr_db)
                lr_hsi, _ = case.observed(camera, torch.Generator().manual_seed(0))
                known = replace(camera, snr_db=estimate_snr_db(lr_hsi))
                off.append((estimate_fwhm(lr_hsi, reference, camera=known) - width) / SIGMA_TO_FWHM)
                noise.append(known.snr_db or 0.0)
            row = [case.scene, name, "none" if snr_db is None else f"{snr_db:g}", *(f"{one:+.2f}" for one in off)]
            rows.append([*row, f"{min(noise):.1f} to {max(noise):.1f}"])
            print(" ".join(rows[-1]), flush=True)
    return rows


def main() -> None:
    """Measures and writes."""
    forgiving_output()
    warnings.simplefilter("ignore", RuntimeWarning)  # that the weights are for another camera is the point
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenes", type=Path, metavar="FOLDER", help="of the files of the suite la")
    parser.add_argument("--methods", nargs="+", default=list(METHODS), metavar="NAME", help="of super_resolve")
    options = parser.parse_args()
    model = ctmem.load_model("tiny")
    cases = embedded(Path(), "validation") + ([] if options.scenes is None else los_angeles(options.scenes))
    found: dict[str, list[float]] = {}
    rows = [row for case in cases if case.scene in JUDGED for row in measured(model, case, options.methods, found)]
    header = ["scene", "FWHM", "SNR", "estimated", "bicubic", *found]
    over = [
        [name, f"{statistics.mean(v):+.2f}", f"{min(v):+.2f}", str(sum(x < 0 for x in v))] for name, v in found.items()
    ]
    summary = machine.table(["method, camera", "mean", "least", f"of {len(rows)} below bicubic"], over)
    parts = ["# The camera told, and estimated", machine.describe(), READING, summary, machine.table(header, rows)]
    if options.scenes is not None:
        known = [row for case in [*los_angeles(options.scenes), pair(options.scenes)[0]] for row in errors(case)]
        header = ["scene", "reference", "SNR", *(f"{width:g}" for width in ERROR_WIDTHS), "SNR estimated"]
        parts += ["## Errors of the blur, sigma in fine pixels, by its FWHM", machine.table(header, known)]
    machine.write("blind", "\n\n".join(parts))


if __name__ == "__main__":
    main()
