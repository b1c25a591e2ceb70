"""Training: from scenes to weights, resumable at any step.

    train(TINY, embedded_sources(Camera.from_config(TINY.camera)), folder)      # kernel, then CNN, then denoiser

1. The kernel K learns the sensor's blur on the training areas (stage 1).
2. With it, the training areas are matched with their references (stage 2) and cut into a `Pool` of crops.
3. `fit` trains the CNN baseline and the denoiser on the same crops, with the same augmentation (stages 3 and 4).

The loop itself, its checkpoints and processes are in loop.py.

Source: Qu et al., IEEE TGRS 2025, for the stages; the pool, augmentation and checkpoints are this project's.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import asdict, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, cast

import torch
from accelerate import Accelerator
from torch import nn

from ctmem.card import sealed, write_card
from ctmem.checks import check_choice, check_count, fail, typed, usual_state, warn_once
from ctmem.command import MOST_SEED
from ctmem.config import Preset
from ctmem.data.samples import Degraded
from ctmem.diffusion.encoding import Encoded, encode_image
from ctmem.diffusion.problem import DenoisingProblem, Network, residual_std
from ctmem.diffusion.schedule import make_schedule
from ctmem.evaluation.metrics import psnr_db
from ctmem.files import check_out, check_writable, load_module, load_tensors, remove_parts, save_module
from ctmem.holes import open_holes, split_holes, whole_pixels
from ctmem.lock import locked
from ctmem.match.align import Blur
from ctmem.match.dmb import dmb
from ctmem.model import PARTS, build_networks, read_model_card
from ctmem.observe.camera import Camera
from ctmem.observe.kernel import LearnedBlur, train_kernel
from ctmem.teaching import progress
from ctmem.train.identity import data_differences, data_of, differences, digest_of_text
from ctmem.train.loop import Loss, Run, Score, fit, micro_batch_of, new_accelerator, versions_here
from ctmem.train.pool import Pool, build_pool, check_sources, whole_crops
from ctmem.train.sources import Source

__all__ = ["Run", "cnn_loss", "denoiser_loss", "fit", "new_accelerator", "one_step_estimate", "train"]

Estimate = Callable[[nn.Module, Encoded], torch.Tensor]  # x̂0 (1, Z, H, W) of an encoded image

DONE = ("steps", "minutes", "metrics")  # what a card says of each finished part
KERNEL_CROP = 32  # side of the crops that the kernel learns from, fine pixels; smaller areas are smaller crops
VALIDATION_SIDE = 96  # at most so much of a validation area is scored, fine pixels, to keep it quick


def train_kernel_on(
    sources: Sequence[Source], kernel: LearnedBlur, *, steps: int, generator: torch.Generator
) -> dict[str, Any]:
    """Stage 1 on the training areas of all sources; the best weights are chosen on the validation areas."""
    # K is learned from crops no larger than the smallest area, of whole coarse pixels
    scale = sources[0].scene.scale
    sides = (side for source in sources if source.train for side in (source.train.height, source.train.width))
    crop = min(KERNEL_CROP, *sides) // scale * scale
    # what the multispectral sensor sees of each area, and what it would see of the coarse image
    sharp: dict[str, list[torch.Tensor]] = {"train": [], "validation": []}
    blurry: dict[str, list[torch.Tensor]] = {"train": [], "validation": []}
    for source in sources:
        for name, box in (("train", source.train), ("validation", source.validation)):
            if box is not None:
                for area in _without_holes(source.scene.cut(box), crop):
                    sharp[name].append(area.hr_msi)
                    blurry[name].append(area.camera.see(area.lr_hsi_up))
    with progress(range(steps), "kernel") as bar:

        def on_step(_: int, loss: float) -> None:
            bar.update()
            bar.set_postfix_str(f"L1 {loss:.4f}", refresh=False)

        return train_kernel(
            kernel, sharp["train"], blurry["train"], val_sharp=sharp["validation"], val_blurry=blurry["validation"],
            crop=crop, steps=steps, generator=generator, on_step=on_step,
        )  # fmt: skip


def _without_holes(area: Degraded, crop: int) -> list[Degraded]:
    """The area, or its crops without holes where it has any, with half of a crop from one to the next."""
    if not area.holes.any():
        return [area]
    side = min(crop, *area.gt.shape[2:]) // area.scale * area.scale
    stride = max(1, side // 2 // area.scale) * area.scale
    return [area.cut(box) for box in whole_crops(area, side, stride)]


def denoiser_loss(preset: Preset) -> Loss:
    """The diffusion's L1 on what the denoiser puts out, as a loss for `fit`."""
    schedule = make_schedule(preset.schedule, preset.timesteps)

    def loss(network: nn.Module, batch: Pool, generator: torch.Generator) -> torch.Tensor:
        problem = DenoisingProblem.of(cast(Network, network), batch.base, batch.texture)
        share = preset.train.self_condition
        return problem.loss(batch.target, batch.weight, schedule, self_condition=share, generator=generator)

    return loss


def cnn_loss(network: nn.Module, batch: Pool, generator: torch.Generator) -> torch.Tensor:  # noqa: ARG001  (a `Loss`)
    """L1 of the CNN's estimate, as a loss for `fit`."""
    return ((network(batch.base) - batch.target).abs() * batch.weight).mean()


def validation_score(sources: Sequence[Source], preset: Preset, blur: Blur, estimate: Estimate) -> Score:
    """Returns score(network): mean PSNR in dB over the validation areas, each seen with its own reference."""
    # the areas, matched once
    cases: list[tuple[Camera, tuple[torch.Tensor, ...]]] = []
    with torch.no_grad():
        for source in sources:
            box = source.validation
            if box is None:
                continue
            most = VALIDATION_SIDE // preset.scale * preset.scale
            part = replace(box, height=min(box.height, most), width=min(box.width, most))
            area = source.scene.cut(part)
            lr_hsi, holes = split_holes(area.lr_hsi, "lr_hsi")
            lr_hsi_up = area.camera.upsample(lr_hsi)
            texture, _ = dmb(lr_hsi_up, source.references[0], area.camera, preset.match, blur=blur, holes=holes)
            gt = open_holes(area.gt, area.holes)
            cases.append((area.camera, (whole_pixels(lr_hsi, holes), lr_hsi_up, texture, gt)))

    # encoded where the network is
    @lru_cache(maxsize=1)
    def cases_on(device: torch.device) -> list[tuple[Encoded, torch.Tensor]]:
        found = []
        for camera, images in cases:
            lr_hsi, lr_hsi_up, texture, gt = (x.to(device) for x in images)
            found.append((encode_image(lr_hsi, lr_hsi_up, texture, camera.to(device), preset.denoiser), gt))
        return found

    @torch.no_grad()
    def score(network: nn.Module) -> float:
        device = next(network.parameters()).device
        values = [psnr_db(encoded.decode(estimate(network, encoded)), gt).mean() for encoded, gt in cases_on(device)]
        return float(torch.stack(values).mean())

    return score


def one_step_estimate(preset: Preset) -> Estimate:
    """estimate(denoiser, encoded): x̂0 from pure noise, always the same noise.

    A predicted noise says nothing of the image there; a denoiser that predicts it takes ten steps instead of one.
    """
    schedule = make_schedule(preset.schedule, preset.timesteps)

    def estimate(network: nn.Module, encoded: Encoded) -> torch.Tensor:
        problem = DenoisingProblem.of(cast(Network, network), encoded.base, encoded.texture)
        steps = min(10, schedule.steps) if problem.prediction == "eps" else 1
        return problem.draw(schedule, steps=steps, generator=torch.Generator().manual_seed(0))

    return estimate


@typed
@usual_state(learning=True)
def train(
    preset: Preset,
    sources: Sequence[Source],
    folder: str | Path,
    *,
    seed: int = 0,
    parts: Sequence[str] = PARTS,
    micro_batch: int | None = None,
    accelerator: Accelerator | None = None,
) -> dict[str, Any]:
    """Trains the networks of a preset and writes kernel, cnn, denoiser .safetensors and card.json to `folder`.

    A part whose weights are already in the folder is not trained again; a part that was interrupted goes on where its
    last checkpoint (`folder/state/`) stands. `folder/log_<part>.csv` grows with every validation. A run is recognised
    by its seed, its settings and what is in its data, not by names of files; one process at a time writes to a folder.

    Args:
        preset: sizes and settings.
        sources: what to learn from.
        folder: made if it is not there; every process must see it.
        seed: of the weights and of the order of samples.
        parts: which of kernel, cnn, denoiser to train; later ones need the kernel.
        micro_batch: samples at once, see `fit`.
        accelerator: device, precision and processes; default: `new_accelerator()`.

    Returns:
        The card: preset, data, seed, versions, and per part its steps, minutes and metrics.

    Raises:
        ValueError: an unknown part, a batch that cannot be shared out evenly, no validation area, sources that
            `check_sources` refuses, a folder of another run, or a damaged one.
        OSError: the folder cannot be written, or another process writes to it; the last checkpoint stays whole.
    """
    if not parts:
        fail("parts", "at least one of " + ", ".join(PARTS), "none")
    for part in parts:
        check_choice(part, "parts", PARTS)
    check_count(seed, "seed", at_least=0, at_most=MOST_SEED)
    check_out(folder, "folder")
    for area in ("train", "validation"):
        if all(getattr(source, area) is None for source in sources):
            fail("sources", f"at least one with a {area} area", "none")
    if set(parts) & {"cnn", "denoiser"}:
        check_sources(sources, preset)
    accelerator = accelerator or new_accelerator()
    options = _options(preset, micro_batch, accelerator)
    main = accelerator.is_main_process
    with locked(folder) if main else nullcontext():
        if main:
            check_writable(folder)
            for place in (Path(folder), Path(folder) / "state"):
                remove_parts(place)
        return _train(preset, sources, Path(folder), seed, parts, options, accelerator)


def _train(
    preset: Preset,
    sources: Sequence[Source],
    folder: Path,
    seed: int,
    parts: Sequence[str],
    options: dict[str, dict[str, Any]],
    accelerator: Accelerator,
) -> dict[str, Any]:
    """`train` in a folder that no one else writes to; `options`: what each part is trained with."""
    # new networks; what is in the folder already is not trained again
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        networks = build_networks(preset, bands=sources[0].scene.gt.shape[1])
    kernel = networks["kernel"]
    steps = {"kernel": preset.kernel_steps, "cnn": preset.cnn_steps, "denoiser": preset.train.steps}
    with accelerator.main_process_first():  # the others then find the kernel in the folder
        results = _Results(folder, _new_card(preset, sources, seed), accelerator.is_main_process)
        results.check(parts, options)
        wanted = [part for part in parts if not results.has(part)]

        # stage 1
        if results.has("kernel"):
            load_module(kernel, results.folder / "kernel.safetensors", part="kernel", preset=preset.name)
        elif "kernel" in wanted:
            start = time.perf_counter()
            generator = torch.Generator().manual_seed(seed)
            history = train_kernel_on(sources, kernel, steps=steps["kernel"], generator=generator)
            curve = [[step, round(value, 6)] for step, value in history["validation"]]
            seconds = time.perf_counter() - start
            results.add("kernel", kernel, options["kernel"], seconds, {"validation_l1": curve})
    kernel.eval().requires_grad_(False)

    # stage 2, once for all crops
    wanted = [part for part in ("cnn", "denoiser") if part in wanted]
    if not wanted:
        return sealed(results.card)
    pool = build_pool(sources, preset, kernel, quiet=not accelerator.is_main_process)
    if networks["denoiser"].residual_std is not None:
        networks["denoiser"].residual_std.copy_(residual_std(pool.target, pool.base))

    # stages 3 and 4, and the baseline, on the same crops
    learners: dict[str, tuple[nn.Module, Loss, Estimate]] = {
        "cnn": (networks["cnn"], cnn_loss, lambda network, encoded: network(encoded.base)),
        "denoiser": (networks["denoiser"], denoiser_loss(preset), one_step_estimate(preset)),
    }
    for part in wanted:
        network, loss, estimate = learners[part]
        run = fit(
            network, pool, loss, validation_score(sources, preset, kernel, estimate),
            replace(preset.train, steps=steps[part]), seed=seed, micro_batch=options[part]["micro_batch"],
            accelerator=accelerator, about=results.about(), description=part,
            checkpoint=results.folder / "state" / f"{part}.safetensors", log=results.folder / f"log_{part}.csv",
        )  # fmt: skip
        curve = [[step, round(psnr, 4)] for step, _, psnr in run.history]
        metrics = {"best_validation_psnr_db": round(run.best_score, 4), "validation_psnr_db": curve}
        results.add(part, run.best, options[part], run.seconds, metrics)
    return sealed(results.card)


class _Results:
    """The folder of a run: the weights that are finished, and the card that says how they came about."""

    def __init__(self, folder: Path, card: dict[str, Any], writes: bool):
        self.folder = folder
        self.card = card
        self.writes = writes
        self.before: dict[str, Any] | None = None
        if (folder / "card.json").is_file():
            self.before, _ = read_model_card(folder / "card.json", needed=["data", "seed", *DONE])
            self.card |= {key: self.before.get(key, {}) for key in (*DONE, "options", "weights")}

    def check(self, parts: Sequence[str], options: dict[str, dict[str, Any]]) -> None:
        """Raises unless what is in the folder is of the same run; says of finished parts what else is different now."""
        if self.before is None:
            return
        now = json.loads(json.dumps(self.card))
        finished = [part for part in parts if self.has(part)]
        made, wanted = self.card["steps"], {part: options[part]["steps"] for part in finished}
        unlike = {
            "data": data_differences(self.before["data"], now["data"]),
            "seed": differences({"seed": self.before["seed"]}, {"seed": now["seed"]}),
            "networks": differences(_networks_of(self.before["preset"]), _networks_of(now["preset"])),
            "steps": differences({part: made[part] for part in finished}, wanted),
        }
        unlike = {name: words for name, words in unlike.items() if words}
        if unlike:
            said = ", ".join(word for words in unlike.values() for word in words)
            fail("folder", f"a new one, or one of a run with the same {', '.join(unlike)}", f"{self.folder}: {said}")
        for part in finished:
            if part in self.card["options"] and (words := differences(self.card["options"][part], options[part])):
                warn_once(f"{part} in {self.folder} stays as it is: it was trained with {', '.join(words)}")

    def has(self, part: str) -> bool:
        """Whether the finished weights of a part are there; raises if they are damaged or those of another run."""
        path = self.folder / f"{part}.safetensors"
        if not all(part in self.card[name] for name in DONE) or not path.is_file():
            return False
        _, metadata = load_tensors(path)
        if self.card["weights"] and metadata.get("sha256") != self.card["weights"].get(path.name):
            fail(
                "folder",
                "one with the weights that its card.json is of",
                f"{path.name} of another run in {self.folder}",
            )
        return True

    def about(self) -> dict[str, Any]:
        """What CNN and denoiser depend on, beside what the loop knows: data, networks, the steps of their kernel."""
        data = [{key: value for key, value in one.items() if key != "scene"} for one in self.card["data"]]
        return {"data": data, "networks": _networks_of(self.card["preset"]), "kernel": self.card["steps"].get("kernel")}

    def add(
        self, part: str, network: nn.Module, options: dict[str, Any], seconds: float, metrics: dict[str, Any]
    ) -> None:
        """Enters a finished part into the card; the main process writes weights and card."""
        self.card["steps"][part] = options["steps"]
        self.card["options"][part] = options
        self.card["minutes"][part] = round(seconds / 60, 2)
        self.card["metrics"][part] = {"parameters": sum(p.numel() for p in network.parameters())} | metrics
        if self.writes:
            path = self.folder / f"{part}.safetensors"
            self.card["weights"][path.name] = save_module(
                network, path, part=part, preset=self.card["preset"]["name"], seed=str(self.card["seed"]),
                data=digest_of_text(json.dumps(self.about()["data"], sort_keys=True)),
            )  # fmt: skip
            write_card(self.card, self.folder / "card.json")


def _options(preset: Preset, micro_batch: int | None, accelerator: Accelerator) -> dict[str, dict[str, Any]]:
    """What each part is trained with, as cards have it."""
    pieces = micro_batch_of(preset.train.batch, micro_batch, accelerator.num_processes)
    shared = asdict(preset.train) | {"micro_batch": pieces, "precision": accelerator.mixed_precision}
    return {
        "kernel": {"steps": preset.kernel_steps},
        "cnn": shared | {"steps": preset.cnn_steps},
        "denoiser": shared | {"steps": preset.train.steps},
    }


def _networks_of(preset: dict[str, Any]) -> dict[str, Any]:
    """A card's preset without what only says how long and in what steps the networks learn."""
    plain = Preset.from_dict(preset).to_dict()
    return {key: plain[key] for key in plain if key not in ("train", "kernel_steps", "cnn_steps")}


def _new_card(preset: Preset, sources: Sequence[Source], seed: int) -> dict[str, Any]:
    """What is known before training."""
    camera = Camera.from_config(preset.camera).to_dict()
    known = {"preset": preset.to_dict(), "camera": camera, "data": data_of(sources), "seed": seed}
    return known | {"versions": versions_here()} | {name: {} for name in (*DONE, "options", "weights")}
