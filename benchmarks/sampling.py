"""Sampling: error against steps for every target and sampler, what averaging brings, and what a whole image costs.

    python benchmarks/sampling.py                        # trains what is not there yet; about half an hour in all
    python benchmarks/sampling.py --parts curves cost    # with the denoisers of an earlier run
    python benchmarks/sampling.py --data embedded        # without the Los Angeles scenes

Each denoiser is TINY with another target, trained for the same number of steps with the same seeds; interrupted training
goes on. Options are chosen on validation areas; the figures are of the test areas. Writes benchmarks/results/sampling.md.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import machine
import numpy as np
import torch

from ctmem.command import forgiving_output
from ctmem.config import TINY, Preset
from ctmem.data.areas import Box, split_areas
from ctmem.data.samples import Degraded, degrade_scene
from ctmem.diffusion.problem import residual_std
from ctmem.diffusion.samplers import SAMPLERS
from ctmem.evaluation.metrics import psnr_db, sam_deg
from ctmem.files import load_module, save_module
from ctmem.inference import draw, encode, super_resolve
from ctmem.match import align
from ctmem.model import Model, build_networks, load_model
from ctmem.networks.variants import as_released
from ctmem.observe.camera import Camera
from ctmem.train import loop, stages
from ctmem.train.pool import build_pool
from ctmem.train.sources import Source, embedded_sources

ROOT = Path(__file__).resolve().parents[1]
SCENES = ROOT.parent / "shared" / "scenes"
CAMERA = Camera.from_config(TINY.camera)
STEPS = (1, 2, 4, 8, 16, 50, 200)
VARIANTS = {  # name: (target, schedule, T)
    "x0": ("x0", "linear", 2000),
    "residual": ("residual", "linear", 2000),
    "residual, shifted chain": ("residual", "shifted", 15),
    "v": ("v", "linear", 2000),
    "eps": ("eps", "linear", 2000),
}


@dataclass(frozen=True)
class Test:
    """An image to super-resolve, with its truth and a reference of other ground."""

    area: Degraded
    reference: torch.Tensor


def embedded() -> tuple[list[Source], Test]:
    """Training sources and the test area of Indian Pines; its reference is of the same sensor."""
    sources = embedded_sources(CAMERA)
    pines = sources[0]
    area = split_areas(*pines.scene.gt.shape[2:], CAMERA)["test"]
    return sources, Test(pines.scene.cut(area), pines.references[0])


def los_angeles(folder: Path) -> tuple[list[Source], Test]:
    """The Los Angeles split: three scenes to learn from, each with references of the others, and 64×64 px of
    one for the test."""
    names = ("airport1", "airport3", "urban4", "mosaic_urban5_airport2")
    files = {name: np.load(folder / f"aviris_la_{name}.npz") for name in names}
    white = float(np.percentile(np.concatenate([file["cube"].ravel() for file in files.values()]), 99.9))
    scenes = {}
    for name, file in files.items():
        cube = np.clip(file["cube"].astype(np.float32) / white, 0, 1)
        image = torch.from_numpy(np.moveaxis(cube, 2, 0)[None])
        scenes[name] = degrade_scene(image, CAMERA.for_wavelengths(file["wavelength_nm"]))
    test, first, second, mosaic = names
    sources = []
    for name, others in ((first, (mosaic, second)), (second, (mosaic, first)), (mosaic, (first, second))):
        width = scenes[name].gt.shape[3] // 16 * 16
        references = tuple(scenes[other].hr_msi for other in others)
        train, validation = Box(0, 0, 64, width), Box(72, 0, 24, width)
        sources.append(Source(name, scenes[name], train, validation, references))
    return sources, Test(scenes[test].cut(Box(0, 0, 64, 64)), scenes[mosaic].hr_msi)


def preset_of(variant: str, steps: int) -> Preset:
    """TINY with a target and a chain."""
    target, schedule, length = VARIANTS[variant]
    denoiser, train = replace(TINY.denoiser, target=target), replace(TINY.train, steps=steps)
    return replace(TINY, schedule=schedule, timesteps=length, denoiser=denoiser, train=train)


def trained(variant: str, data: str, sources: Sequence[Source], folder: Path, steps: int) -> Model:
    """The shipped kernel and CNN with a denoiser of the variant, trained now unless its file is there."""
    preset, shipped = preset_of(variant, steps), load_model("tiny")
    path = folder / f"{data}_{variant.replace(', ', '_').replace(' ', '_')}_{steps}.safetensors"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = build_networks(preset)["denoiser"]
    if not path.is_file():
        crops = build_pool(sources, preset, shipped.kernel)
        if network.residual_std is not None:
            network.residual_std.copy_(residual_std(crops.target, crops.base))
        score = stages.validation_score(sources, preset, shipped.kernel, stages.one_step_estimate(preset))
        run = loop.fit(
            network, crops, stages.denoiser_loss(preset), score, preset.train,
            checkpoint=path.with_suffix(".state"), description=path.stem,
        )  # fmt: skip
        save_module(run.best, path, part="denoiser", preset=preset.name)
    load_module(network, path, part="denoiser", preset=preset.name).eval().requires_grad_(False)
    return Model(preset, shipped.kernel, shipped.cnn, network, {})


def gradient_error(pred: torch.Tensor, target: torch.Tensor) -> float:
    """RMSE of the gradient magnitudes over the RMS of the true one, percent; lower is better."""
    wanted = align.gradient_magnitude(target)
    return 100 * float((align.gradient_magnitude(pred) - wanted).square().mean().sqrt() / wanted.square().mean().sqrt())


def figures(pred: torch.Tensor, gt: torch.Tensor) -> list[float]:
    """PSNR in dB, SAM in degrees, gradient error in percent."""
    return [float(psnr_db(pred, gt)), float(sam_deg(pred, gt)), gradient_error(pred, gt)]


def curve(model: Model, test: Test, sampler: str) -> dict[int, list[float]]:
    """steps → mean figures of single draws, before any back-projection; more than 50 steps with DDIM only."""
    encoded = encode(model, test.area.lr_hsi, test.reference, camera=test.area.camera)[0]
    found = {}
    for steps in STEPS:
        if steps > model.preset.timesteps or (steps > 50 and sampler != "ddim"):
            continue
        options = {"steps": steps, "sampler": SAMPLERS[sampler], "draws": 3 if steps <= 8 else 1}
        z = draw(model, encoded, generator=torch.Generator().manual_seed(0), **options)
        each = [figures(encoded.decode(one), test.area.gt) for one in z.split(1)]
        found[steps] = np.mean(each, axis=0).tolist()
    return found


def averaged(model: Model, test: Test, steps: int, counts: Sequence[int] = (1, 4, 16)) -> dict[int, list[float]]:
    """K → figures of the mean of K draws, and last the correlation of their deviation with the error (K > 1)."""
    encoded = encode(model, test.area.lr_hsi, test.reference, camera=test.area.camera)[0]
    generator = torch.Generator().manual_seed(0)
    z = draw(model, encoded, steps=steps, draws=max(counts), generator=generator)
    images = torch.cat([encoded.decode(one) for one in z.split(1)])
    found = {}
    for count in counts:
        mean, gt = images[:count].mean(0, keepdim=True), test.area.gt
        found[count] = figures(mean, gt)
        if count > 1:
            deviation = images[:count].std(0).square().mean(0).sqrt().flatten()
            error = (mean - gt)[0].square().mean(0).sqrt().flatten()
            ratio = float(deviation.square().mean().sqrt() / error.square().mean().sqrt())
            found[count] += [float(torch.corrcoef(torch.stack([deviation, error]))[0, 1]), ratio]
    return found


def baselines(test: Test) -> list[list[str]]:
    """Rows of bicubic interpolation and back-projection."""
    up = test.area.lr_hsi_up
    again = test.area.camera.back_project(up, test.area.lr_hsi)
    named = {"bicubic": up, "bicubic + back-projection": again}
    return [[name, "", *_cells(figures(x, test.area.gt))] for name, x in named.items()]


def curves(data: str, sources: Sequence[Source], test: Test, folder: Path, steps: int) -> str:
    """The tables of one data set, as Markdown."""
    models = {variant: trained(variant, data, sources, folder, steps) for variant in VARIANTS}
    header = ["target", "sampler", *(f"{n} step{'s' * (n > 1)}" for n in STEPS)]
    parts = [f"## {data}", machine.table(["", "", "PSNR dB", "SAM °", "gradient error %"], baselines(test))]
    found = {(v, s): curve(m, test, s) for v, m in models.items() for s in ("ddim", "dpmpp", "ddpm")}
    for place, (name, digits) in enumerate((("PSNR, dB", 2), ("SAM, °", 3), ("Gradient error, %", 1))):
        rows = [
            [variant, sampler, *(f"{values[n][place]:.{digits}f}" if n in values else "" for n in STEPS)]
            for (variant, sampler), values in found.items()
        ]
        parts += [f"### {name}", machine.table(header, rows)]
    rows = []
    for variant, model in models.items():
        for count, values in averaged(model, test, min(16, model.preset.timesteps)).items():
            rows.append([variant, str(count), *_cells(values[:3]), *(f"{x:.2f}" for x in values[3:])])
    header = ["target", "draws averaged", "PSNR dB", "SAM °", "gradient error %", "std ~ error", "std / error"]
    rows = [row + [""] * (len(header) - len(row)) for row in rows]
    return "\n\n".join(
        [*parts, "### Means of several draws of 16 steps (15 on the shifted chain), DDIM", machine.table(header, rows)]
    )


def _cells(values: Sequence[float]) -> list[str]:
    return [f"{values[0]:.2f}", f"{values[1]:.3f}", f"{values[2]:.1f}"]


def timed(function: Callable[[], object], rounds: int = 3) -> float:
    """Least processor seconds of some calls."""
    seconds = []
    for _ in range(rounds):
        start = time.process_time()
        function()
        seconds.append(time.process_time() - start)
    return min(seconds)


def cost(test: Test) -> str:
    """What one image costs at the default, against the released algorithm's 2000 whole calls, as Markdown."""
    model, preset = load_model("tiny"), as_released(TINY)
    networks = build_networks(preset, test.area.gt.shape[1])
    old = Model(preset, **{name: net.eval().requires_grad_(False) for name, net in networks.items()}, card={})
    seed = lambda: torch.Generator().manual_seed(0)

    def one_call(backend: str, matching: bool = True) -> float:
        os.environ["CTMEM_SCAN"] = backend
        encoded = encode(old, test.area.lr_hsi, test.reference, camera=test.area.camera)[0]

        def call() -> None:
            seen = encode(old, test.area.lr_hsi, test.reference, camera=test.area.camera)[0] if matching else encoded
            draw(old, seen, steps=1, generator=seed())

        seconds = timed(call, rounds=2)
        del os.environ["CTMEM_SCAN"]
        return seconds

    loop, fast = one_call("reference"), one_call("auto")
    kept = one_call("auto", matching=False)
    new = timed(
        lambda: super_resolve(model, test.area.lr_hsi, test.reference, camera=test.area.camera, generator=seed())
    )
    whole, rows = preset.timesteps * loop, []
    for name, seconds in (
        (f"as released: {preset.timesteps} calls with matching, scan as a loop", whole),
        ("… the scan by numba", preset.timesteps * fast),
        ("… matching once, not in every call", preset.timesteps * kept + fast - kept),
        ("… one step instead of 2000", fast),
        ("the default of this project", new),
    ):
        rows.append([name, f"{seconds:.2f}", f"{whole / seconds:.0f}×"])
    size = "×".join(map(str, test.area.gt.shape[1:]))
    text = f"Image of {size} (bands, rows, columns), width {preset.denoiser.width}; one whole call as released takes "
    return f"## Cost of one image\n\n{text}{loop:.2f} s of processor time.\n\n" + machine.table(
        ["", "s", "less by"], rows
    )


LEGEND = """\
Single draws (mean figures of three up to 8 steps, of one beyond), before back-projection, with a reference of other
ground.
`gradient error`: RMSE of the gradient magnitudes over the RMS of the true ones. `std ~ error`: correlation over pixels of
the draws' standard deviation with the error of their mean; `std / error`: their ratio, 1 where the deviation is of
the error's size.

What to read from it:

1. One step is the best answer, or within 0.04 dB of it, for x0, residual and v, on both scenes: it is the default.
2. More steps lose with every target and sampler; up to 8 steps the ancestral sampler (ddpm) loses least. At 200 steps x0 has
   lost 1.3 and 5 dB, residual 2 and 10: what is added is fed back, and believed.
3. At one step x0, residual and v differ by 0.1 dB. A predicted noise (eps) says nothing of the image where there is only noise,
   and 400 training steps don't teach it the rest.
4. The shifted chain of 15 steps is no better at one step; the mean of 16 of its draws is, by 0.08 dB, on one of two scenes,
   at 240 times the cost.
5. The mean of 16 draws wins back 1 to 1.6 dB of x0's and residual's loss, not all of it. x0's draws differ by half to two
   thirds of the error: the network is too sure of itself; v's differ by more than the error."""


def main() -> None:
    """Runs the parts that are asked for and writes the results."""
    forgiving_output()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenes", type=Path, default=SCENES, help="folder of the Los Angeles scenes")
    parser.add_argument(
        "--folder", type=Path, default=ROOT / "runs" / "sampling", help="where trained denoisers are kept"
    )
    parser.add_argument("--steps", type=int, default=400, help="training steps of each denoiser")
    parser.add_argument("--parts", nargs="+", choices=("curves", "cost"), default=["curves", "cost"])
    parser.add_argument("--data", nargs="+", choices=("embedded", "los_angeles"), default=["embedded", "los_angeles"])
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    parts = ["# Sampling", machine.describe("numba"), f"Denoisers of {options.steps} training steps. {LEGEND}"]
    for data in options.data if "curves" in options.parts else []:
        if data == "los_angeles" and not (options.scenes / "aviris_la_airport1.npz").is_file():
            print("the Los Angeles scenes are not there: skipped")
            continue
        sources, test = embedded() if data == "embedded" else los_angeles(options.scenes)
        parts.append(curves(data, sources, test, options.folder, options.steps))
    if "cost" in options.parts:
        parts.append(cost(embedded()[1]))
    machine.write("sampling", "\n\n".join(parts))


if __name__ == "__main__":
    main()
