"""Scenes of any size: memory that does not grow with rows, seconds, seams, throughput against untiled.

    python benchmarks/own_size.py [--rows 250 1000] [--columns 250] [--bands 224] [--square 160] [--threads 1]

Scenes are made up: mixtures of three maps and noise, int16, in an ENVI file. Each run is a process of its own, so that its peak is
its own; blur and noise are told, so that what is measured is the survey and the tiles. Seams are those of the shipped scenes.
Writes results/own_size.md.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import machine
import numpy as np
import torch

from ctmem.command import forgiving_output
from ctmem.data.scenes import load_scene
from ctmem.observe.camera import Camera
from ctmem.raster.opening import open_raster
from ctmem.raster.raster import Bands, Raster
from ctmem.tiling.answering import answer
from ctmem.tiling.plan import plan_tiles, tile_for
from ctmem.tiling.recipe import Recipe, make_recipe
from ctmem.tiling.run import sharpen_to
from ctmem.tiling.survey import Survey, survey
from ctmem.tiling.work import Work

SCALE = 4
REACH = Recipe.reach
TILE = None  # of the runs that show the growth: what the memory allows
SEAMS = (("sentinel2_farmland", 4, 20), ("indian_pines", 2, 18))  # scene, scale, tile in coarse pixels
READING = """\
`GB` is the peak of the process (ru_maxrss) after each stage. `s` are seconds of wall-clock time, on a machine that did other things
besides: `CPU s` are what the process took. Recipe: with the blur and noise told, from one sample of 64² px."""
SEAM_READING = """\
Changes are those of the untiled answer, over the rms of that answer's error; the step across seams is the rms difference of rows on
both sides of a seam, over that of the untiled answer at the same place. Tile and halo in coarse pixels; noise of 35 dB. Nothing is
blended: a tile's answer is that of its own window."""


def peak_gb() -> float:
    """Most memory that this process had so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


def make_scene(path: Path, rows: int, columns: int, bands: int) -> None:
    """Writes a made-up scene, strip by strip."""
    generator = np.random.default_rng(0)
    mix = generator.normal(size=(bands, 3)).astype(np.float32) * 500
    entries = {"samples": columns, "lines": rows, "bands": bands, "header offset": 0, "data type": 2, "interleave": "bil",
               "byte order": 0, "file type": "ENVI Standard"}  # fmt: skip
    path.write_text("ENVI\n" + "".join(f"{key} = {text}\n" for key, text in entries.items()), encoding="utf-8")
    with path.with_suffix(".img").open("wb") as file:
        for row in range(rows):
            x = np.arange(columns)
            maps = [np.sin(row / 5 + x / 9), np.cos(row / 7 - x / 4), ((row // 9 + x // 11) % 2) - 0.5]
            values = 3000 + mix @ np.stack(maps).astype(np.float32) + generator.normal(size=(bands, columns)) * 20
            file.write(values.round().astype("<i2").tobytes())


def few(found: Survey) -> Survey:
    """The survey with one small sample: what a recipe costs is not the question here."""
    return dataclasses.replace(found, samples=[found.samples[0][..., :64, :64]])


def one_run(folder: Path, *, tile: int | None, threads: int, untiled: bool) -> dict[str, float]:
    """Survey, recipe, and tiles of the scene in a folder; and what each took."""
    torch.set_num_threads(threads)
    raster = open_raster(folder / "lr.hdr")
    took: dict[str, float] = {}

    def stage(name: str, work):
        start, cpu = time.perf_counter(), time.process_time()
        result = work()
        took[f"{name} s"], took[f"{name} CPU s"] = time.perf_counter() - start, time.process_time() - cpu
        took[f"{name} GB"] = peak_gb()
        return result

    found = stage("survey", lambda: survey(raster, warn=False))
    recipe = stage("recipe", lambda: make_recipe(few(found), scale=SCALE, psf=float(SCALE), noise=35.0))
    if untiled:
        lr = torch.from_numpy(raster.window(0, 0, raster.height, raster.width))[None]
        stage("untiled", lambda: answer(recipe, lr))
        return took
    done = stage(
        "tiles",
        lambda: sharpen_to(
            folder / "sr.img", raster, recipe, inputs={"the scene": found.digest}, tile=tile, overwrite=True
        ),
    )
    took["tile"], took["overhead"] = done.plan.tile, done.plan.overhead
    took["pixels"] = (folder / "sr.img").stat().st_size / 2 / raster.count
    return took


def in_its_own_process(
    rows: int, columns: int, bands: int, *, tile: int | None, threads: int, untiled: bool = False
) -> dict:
    """`one_run` of a scene of so many coarse pixels."""
    with tempfile.TemporaryDirectory() as folder:
        make_scene(Path(folder, "lr.hdr"), rows, columns, bands)
        command = [sys.executable, __file__, "--run", folder, "--threads", str(threads), "--tile", str(tile or 0)]
        told = subprocess.run([*command, *["--untiled"] * untiled], capture_output=True, encoding="utf-8", check=False)
    if told.returncode:
        raise SystemExit(told.stderr)
    took = json.loads(told.stdout.splitlines()[-1])
    print(rows, columns, bands, {key: round(value, 2) for key, value in took.items()}, flush=True)
    return took


def row(what: str, took: dict[str, float]) -> list[str]:
    """One line of the table."""
    stages = ("survey", "recipe", "tiles")
    memory = [f"{took[f'{stage} GB']:.2f}" for stage in stages]
    seconds = [f"{took[f'{stage} s']:.0f} ({took[f'{stage} CPU s']:.0f})" for stage in stages]
    return [what, f"{took['tile']:.0f}", f"{took['overhead']:.2f}", *memory, *seconds]


# --- seams ------------------------------------------------------------------------------------------------------------


def seams(name: str, scale: int, tile: int) -> list[list[str]]:
    """What tiling changes in the answer of a real scene, at seams and elsewhere."""
    cube = load_scene(name).tensor() * 10_000
    cube = cube[..., : cube.shape[2] // scale * scale, : cube.shape[3] // scale * scale]
    camera = Camera.gaussian(float(scale), scale, sensor=None, snr_db=35.0)
    lr = camera.observe(cube, generator=torch.Generator().manual_seed(0))
    raster = Raster(
        Path(name), _Memory(lr[0].numpy()), *lr.shape[2:], np.dtype(np.float32), Bands(np.ones(lr.shape[1], bool))
    )
    found = survey(raster, warn=False)
    rows = []
    for method in ("bicubic-bp", "prior"):
        recipe = make_recipe(found, scale=scale, psf=float(scale), noise=35.0, method=method)
        untiled = answer(recipe, lr)
        error = float((untiled - cube).square().mean().sqrt())
        for halo in sorted({4, 8, recipe.reach, 16}):
            plan = plan_tiles(*lr.shape[2:], scale=scale, tile=tile, halo=halo)
            work, tiled = Work(raster, recipe, plan, answer), torch.empty_like(untiled)
            for one in plan.tiles:
                top, left, height, width = (scale * number for number in one.inner)
                tiled[0, :, top : top + height, left : left + width] = torch.from_numpy(work.of_tile(one)[0])
            moved = float((tiled - untiled).square().mean().sqrt()) / error
            at = torch.tensor(sorted({scale * one.inner.top - 1 for one in plan.tiles if one.inner.top}))
            tiled_steps, untiled_steps = (x.diff(dim=2).square().mean((0, 1, 3)) for x in (tiled, untiled))
            across = float((tiled_steps[at].mean() / untiled_steps[at].mean()).sqrt())
            change = (tiled - untiled).square().mean((0, 1, 3))
            beside = float((torch.cat([change[at], change[at + 1]]).mean()).sqrt()) / error
            rows.append([f"{name} ×{scale}", method, str(tile), f"{halo}{' (reach)' * (halo == recipe.reach)}",
                         f"{100 * moved:.3f} %", f"{100 * beside:.3f} %", f"{across:.5f}"])  # fmt: skip
            print(rows[-1], flush=True)
    return rows


class _Memory:
    """Numbers in memory, as a raster reads them."""

    def __init__(self, values: np.ndarray):
        self.values = values

    def read(self, part: tuple[int, int, int, int], bands: list[int]) -> np.ndarray:
        top, left, height, width = part
        return self.values[list(bands), top : top + height, left : left + width]

    def mask(self, part: tuple[int, int, int, int]) -> None:
        return None


def main() -> None:
    """Measures and writes."""
    forgiving_output()
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rows", type=int, nargs="*", default=[250, 1000])
    parser.add_argument("--columns", type=int, default=250)
    parser.add_argument("--bands", type=int, default=224)
    parser.add_argument("--square", type=int, default=160)
    parser.add_argument("--whole", type=int, default=200, help="side of the scene that is answered untiled, too")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--run", help=argparse.SUPPRESS)
    parser.add_argument("--tile", type=int, default=0, help=argparse.SUPPRESS)
    parser.add_argument("--untiled", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.run:
        took = one_run(Path(options.run), tile=options.tile or None, threads=options.threads, untiled=options.untiled)
        print(json.dumps(took))
        return
    bands, threads, text = options.bands, options.threads, ["# Scenes of any size", machine.describe(), READING]
    lines = []
    for rows in options.rows:
        took = in_its_own_process(rows, options.columns, bands, tile=TILE, threads=threads)
        lines.append(row(f"{SCALE * rows}×{SCALE * options.columns}×{bands}", took))
    if options.square:
        took = in_its_own_process(options.square, options.square, bands, tile=None, threads=threads)
        lines.append(row(f"{SCALE * options.square}×{SCALE * options.square}×{bands}", took))
    head = [
        "output",
        "tile",
        "overhead",
        "survey GB",
        "recipe GB",
        "tiles GB",
        "survey s (CPU)",
        "recipe s (CPU)",
        "tiles s (CPU)",
    ]
    text += ["## Memory and time", machine.table(head, lines)]
    if options.whole:
        sizes = (options.whole, options.whole, bands)
        # tiles of half a side have about the halos of a large scene; one after the other, twice
        pairs = [
            [in_its_own_process(*sizes, tile=options.whole // 2, threads=threads, untiled=one) for one in (False, True)]
            for _ in range(2)
        ]
        tiled, untiled = pairs[0]
        side = tile_for(bands, scale=SCALE, halo=REACH, memory_gb=3.5)
        large = plan_tiles(10 * side, 10 * side, scale=SCALE, tile=side, halo=REACH).overhead
        share = min(b["untiled CPU s"] / a["tiles CPU s"] for a, b in pairs)
        said = (
            f"{SCALE * options.whole}²×{bands}: tiled, read and written, at {share:.2f} of the speed of one untiled answer (CPU time), "
            f"with {untiled['untiled GB']:.1f} GB for that and {tiled['tiles GB']:.1f} GB for tiles of {tiled['tile']:.0f} px. What is answered "
            f"twice: {tiled['overhead']:.2f} there, {large:.2f} (so at most {1 / large:.2f} of the speed) in a scene of 10×10 tiles of {side} px."
        )
        text += ["## Throughput", said]
    seam_rows = [line for scene in SEAMS for line in seams(*scene)]
    head = ["scene", "method", "tile", "halo", "change, rms", "change beside seams, rms", "step across seams"]
    text += ["## Seams", SEAM_READING, machine.table(head, seam_rows)]
    machine.write("own_size", "\n\n".join(text))


if __name__ == "__main__":
    main()
