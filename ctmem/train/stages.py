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
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any, cast

import torch
from accelerate import Accelerator
from torch import nn

from ctmem.checks import check_choice, check_count, fail, usual_state
from ctmem.config import Preset, TrainConfig
from ctmem.data.samples import Degraded
from ctmem.diffusion.encoding import Encoded, encode_image
from ctmem.diffusion.problem import DenoisingProblem, Network, residual_std
from ctmem.diffusion.schedule import make_schedule
from ctmem.evaluation.metrics import psnr_db
from ctmem.files import check_writable, load_module, save_module, write_json
from ctmem.match.align import Blur
from ctmem.match.dmb import dmb
from ctmem.model import PARTS, build_networks
from ctmem.observe.camera import Camera
from ctmem.observe.kernel import LearnedBlur, train_kernel
from ctmem.teaching import progress
from ctmem.train.loop import Loss, Run, Score, fit, new_accelerator, versions_here
from ctmem.train.pool import Pool, build_pool, check_sources
from ctmem.train.sources import Source

__all__ = ["Run", "cnn_loss", "denoiser_loss", "fit", "new_accelerator", "one_step_estimate", "train"]

Estimate = Callable[[nn.Module, Encoded], torch.Tensor]  # x̂0 (1, Z, H, W) of an encoded image

KERNEL_CROP = 32  # side of the crops that the kernel learns from, fine pixels; smaller areas are smaller crops
VALIDATION_SIDE = 96  # at most so much of a validation area is scored, fine pixels, to keep it quick


def train_kernel_on(
    sources: Sequence[Source], kernel: LearnedBlur, *, steps: int, generator: torch.Generator
) -> dict[str, Any]:
    """Stage 1 on the training areas of all sources; the best weights are chosen on the validation areas."""
    # what the multispectral sensor sees of each area, and what it would see of the coarse image
    sharp: dict[str, list[torch.Tensor]] = {"train": [], "validation": []}
    blurry: dict[str, list[torch.Tensor]] = {"train": [], "validation": []}
    for source in sources:
        for name, box in (("train", source.train), ("validation", source.validation)):
            if box is not None:
                area = source.scene.cut(box)
                sharp[name].append(area.hr_msi)
                blurry[name].append(area.camera.see(area.lr_hsi_up))
    # K is learned from crops of these, no larger than the smallest area, of whole coarse pixels
    scale = sources[0].scene.scale
    crop = min(KERNEL_CROP, *(side for image in sharp["train"] for side in image.shape[2:])) // scale * scale
    with progress(range(steps), "kernel") as bar:

        def on_step(_: int, loss: float) -> None:
            bar.update()
            bar.set_postfix_str(f"L1 {loss:.4f}", refresh=False)

        return train_kernel(
            kernel, sharp["train"], blurry["train"], val_sharp=sharp["validation"], val_blurry=blurry["validation"],
            crop=crop, steps=steps, generator=generator, on_step=on_step,
        )  # fmt: skip


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
    cases: list[tuple[Degraded, torch.Tensor]] = []
    with torch.no_grad():
        for source in sources:
            box = source.validation
            if box is None:
                continue
            most = VALIDATION_SIDE // preset.scale * preset.scale
            part = replace(box, height=min(box.height, most), width=min(box.width, most))
            area = source.scene.cut(part)
            texture, _ = dmb(area.lr_hsi_up, source.references[0], area.camera, preset.match, blur=blur)
            cases.append((area, texture))

    # encoded where the network is
    @lru_cache(maxsize=1)
    def cases_on(device: torch.device) -> list[tuple[Encoded, torch.Tensor]]:
        moved = [(area.to(device), texture.to(device)) for area, texture in cases]
        return [
            (encode_image(area.lr_hsi, area.lr_hsi_up, texture, area.camera, preset.denoiser), area.gt)
            for area, texture in moved
        ]

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
    last checkpoint (`folder/state/`) stands. `folder/log_<part>.csv` grows with every validation.

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
        ValueError: an unknown part, no validation area, sources that `check_sources` refuses, or a folder of another
            run.
        OSError: the folder cannot be written; the last checkpoint stays whole.
    """
    for part in parts:
        check_choice(part, "parts", PARTS)
    counts = {"steps": preset.train.steps, "cnn_steps": preset.cnn_steps, "kernel_steps": preset.kernel_steps}
    for name, count in (counts | {"batch": preset.train.batch, "micro_batch": micro_batch or 1}).items():
        check_count(count, name)
    if not (math.isfinite(preset.train.learning_rate) and preset.train.learning_rate > 0):
        fail("learning_rate", "a finite number above 0", preset.train.learning_rate)
    for area in ("train", "validation"):
        if all(getattr(source, area) is None for source in sources):
            fail("sources", f"at least one with a {area} area", "none")
    if set(parts) & {"cnn", "denoiser"}:
        check_sources(sources, preset)
    accelerator = accelerator or new_accelerator()
    if accelerator.is_main_process:
        check_writable(folder)

    # new networks; what is in the folder already is not trained again
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        networks = build_networks(preset, bands=sources[0].scene.gt.shape[1])
    kernel = networks["kernel"]
    steps = {"kernel": preset.kernel_steps, "cnn": preset.cnn_steps, "denoiser": preset.train.steps}
    with accelerator.main_process_first():  # the others then find the kernel in the folder
        results = _Results(Path(folder), _new_card(preset, sources, seed), accelerator.is_main_process)
        wanted = [part for part in parts if not results.has(part, steps[part])]

        # stage 1
        if results.has("kernel"):
            load_module(kernel, results.folder / "kernel.safetensors", part="kernel", preset=preset.name)
        elif "kernel" in wanted:
            start = time.perf_counter()
            generator = torch.Generator().manual_seed(seed)
            history = train_kernel_on(sources, kernel, steps=steps["kernel"], generator=generator)
            curve = [[step, round(value, 6)] for step, value in history["validation"]]
            seconds = time.perf_counter() - start
            results.add("kernel", kernel, steps["kernel"], seconds, {"validation_l1": curve})
    kernel.eval().requires_grad_(False)

    # stage 2, once for all crops
    wanted = [part for part in ("cnn", "denoiser") if part in wanted]
    if not wanted:
        return results.card
    pool = build_pool(sources, preset, kernel)
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
            replace(preset.train, steps=steps[part]), seed=seed, micro_batch=micro_batch, accelerator=accelerator,
            checkpoint=results.folder / "state" / f"{part}.safetensors", log=results.folder / f"log_{part}.csv",
            description=part,
        )  # fmt: skip
        curve = [[step, round(psnr, 4)] for step, _, psnr in run.history]
        metrics = {"best_validation_psnr_db": round(run.best_score, 4), "validation_psnr_db": curve}
        results.add(part, run.best, steps[part], run.seconds, metrics)
    return results.card


class _Results:
    """The folder of a run: the weights that are finished, and the card that says how they came about."""

    def __init__(self, folder: Path, card: dict[str, Any], writes: bool):
        self.folder = folder
        self.card = card
        self.writes = writes
        if not (folder / "card.json").is_file():
            return
        before = json.loads((folder / "card.json").read_text(encoding="utf-8"))
        now = json.loads(json.dumps(card))
        same = {key: before[key] == now[key] for key in ("data", "seed")}
        same["networks"] = _networks_of(before["preset"]) == _networks_of(now["preset"])
        for key, holds in same.items():
            if not holds:
                fail("folder", f"a new one, or one of a run with the same {key}", str(folder))
        self.card |= {key: before[key] for key in ("steps", "minutes", "metrics")}

    def has(self, part: str, steps: int | None = None) -> bool:
        """Whether the weights of a part are there; raises if they were trained for another number of steps."""
        if part not in self.card["metrics"] or not (self.folder / f"{part}.safetensors").is_file():
            return False
        if steps not in (None, self.card["steps"][part]):
            fail(
                "folder", f"a new one, or one of a {part} of {steps} steps", f"one of {self.card['steps'][part]} steps"
            )
        return True

    def add(self, part: str, network: nn.Module, steps: int, seconds: float, metrics: dict[str, Any]) -> None:
        """Enters a finished part into the card; the main process writes weights and card."""
        self.card["steps"][part] = steps
        self.card["minutes"][part] = round(seconds / 60, 2)
        self.card["metrics"][part] = {"parameters": sum(p.numel() for p in network.parameters())} | metrics
        if self.writes:
            save_module(network, self.folder / f"{part}.safetensors", part=part, preset=self.card["preset"]["name"])
            write_json(self.card, self.folder / "card.json")


def _networks_of(preset: dict[str, Any]) -> Preset:
    """A card's preset without what only says how long and in what steps the networks learn."""
    return replace(Preset.from_dict(preset), train=TrainConfig(), kernel_steps=0, cnn_steps=0)


def _new_card(preset: Preset, sources: Sequence[Source], seed: int) -> dict[str, Any]:
    """What is known before training."""
    packages = versions_here()
    data = [
        {
            "scene": source.name,
            "train": source.train and vars(source.train),
            "validation": source.validation and vars(source.validation),
            "references": [list(reference.shape[1:]) for reference in source.references],
        }
        for source in sources
    ]
    done: dict[str, Any] = {"steps": {}, "minutes": {}, "metrics": {}}
    camera = Camera.from_config(preset.camera).to_dict()
    return {"preset": preset.to_dict(), "camera": camera, "data": data, "seed": seed, "versions": packages} | done
