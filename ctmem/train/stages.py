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
from dataclasses import replace
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path

import torch
from accelerate import Accelerator
from torch import nn

from ctmem.checks import check_choice, fail
from ctmem.config import Preset, TrainConfig
from ctmem.diffusion.encoding import Encoded, encode_image
from ctmem.diffusion.problem import DenoisingProblem, residual_std
from ctmem.diffusion.schedule import make_schedule
from ctmem.evaluation.metrics import psnr_db
from ctmem.files import check_writable, load_module, save_module, write_json
from ctmem.match.align import Blur
from ctmem.match.dmb import dmb
from ctmem.model import PARTS, build_networks
from ctmem.observe.camera import Camera
from ctmem.observe.kernel import train_kernel
from ctmem.teaching import progress
from ctmem.train.loop import Loss, Run, Score, fit, new_accelerator
from ctmem.train.pool import Pool, build_pool
from ctmem.train.sources import Source

__all__ = ["Run", "cnn_loss", "denoiser_loss", "fit", "new_accelerator", "one_step_estimate", "train"]

KERNEL_CROP = 32  # side of the crops that the kernel learns from, fine pixels; smaller areas are smaller crops
VALIDATION_SIDE = 96  # at most so much of a validation area is scored, fine pixels, to keep it quick


def train_kernel_on(sources: Sequence[Source], kernel: nn.Module, *, steps: int, generator: torch.Generator) -> dict:
    """Stage 1 on the training areas of all sources; the best weights are chosen on the validation areas."""
    pairs = {"train": ([], []), "validation": ([], [])}
    for source in sources:
        for area, (sharp, blurry) in pairs.items():
            if getattr(source, area) is None:
                continue
            cut = source.scene.cut(getattr(source, area))
            sharp.append(cut.hr_msi)
            blurry.append(cut.camera.see(cut.lr_hsi_up))
    with progress(range(steps), "kernel") as bar:

        def on_step(step: int, loss: float) -> None:
            bar.update()
            bar.set_postfix_str(f"L1 {loss:.4f}", refresh=False)

        return train_kernel(
            kernel, *pairs["train"], val_sharp=pairs["validation"][0], val_blurry=pairs["validation"][1],
            crop=min(KERNEL_CROP, *(side for image in pairs["train"][0] for side in image.shape[2:])),
            steps=steps, generator=generator, on_step=on_step,
        )  # fmt: skip


def denoiser_loss(preset: Preset) -> Loss:
    """The diffusion's L1 on what the denoiser puts out, as a loss for `fit`."""
    schedule = make_schedule(preset.schedule, preset.timesteps)

    def loss(network: nn.Module, batch: Pool, generator: torch.Generator) -> torch.Tensor:
        problem = DenoisingProblem.of(network, batch.base, batch.texture)
        share = preset.train.self_condition
        return problem.loss(batch.target, batch.weight, schedule, self_condition=share, generator=generator)

    return loss


def cnn_loss(network: nn.Module, batch: Pool, generator: torch.Generator) -> torch.Tensor:
    """L1 of the CNN's estimate, as a loss for `fit`."""
    return ((network(batch.base) - batch.target).abs() * batch.weight).mean()


def validation_score(
    sources: Sequence[Source], preset: Preset, blur: Blur, estimate: Callable[[nn.Module, Encoded], torch.Tensor]
) -> Score:
    """Returns score(network): mean PSNR in dB over the validation areas, each seen with its own reference."""
    cases = []
    with torch.no_grad():
        for source in sources:
            box = source.validation
            if box is None:
                continue
            side = {"height": min(box.height, VALIDATION_SIDE), "width": min(box.width, VALIDATION_SIDE)}
            area = source.scene.cut(replace(box, **side))
            texture, _ = dmb(area.lr_hsi_up, source.references[0], area.camera, preset.match, blur=blur)
            cases.append((area, texture))

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


def one_step_estimate(preset: Preset) -> Callable[[nn.Module, Encoded], torch.Tensor]:
    """estimate(denoiser, encoded): x̂0 from pure noise, always the same noise.

    A predicted noise says nothing of the image there; a denoiser that predicts it takes ten steps instead of one.
    """
    schedule = make_schedule(preset.schedule, preset.timesteps)

    def estimate(network: nn.Module, encoded: Encoded) -> torch.Tensor:
        problem = DenoisingProblem.of(network, encoded.base, encoded.texture)
        steps = min(10, schedule.steps) if problem.prediction == "eps" else 1
        return problem.draw(schedule, steps=steps, generator=torch.Generator().manual_seed(0))

    return estimate


def train(
    preset: Preset,
    sources: Sequence[Source],
    folder: str | Path,
    *,
    seed: int = 0,
    parts: Sequence[str] = PARTS,
    micro_batch: int | None = None,
    accelerator: Accelerator | None = None,
) -> dict:
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
        ValueError: an unknown part, no validation area, or a folder of another run.
        OSError: the folder cannot be written; the last checkpoint stays whole.
    """
    for part in parts:
        check_choice(part, "parts", PARTS)
    for area in ("train", "validation"):
        if all(getattr(source, area) is None for source in sources):
            fail("sources", f"at least one with a {area} area", "none")
    accelerator = accelerator or new_accelerator()
    if accelerator.is_main_process:
        check_writable(folder)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        networks = build_networks(preset, bands=sources[0].scene.gt.shape[1])
    steps = {"kernel": preset.kernel_steps, "cnn": preset.cnn_steps, "denoiser": preset.train.steps}
    with accelerator.main_process_first():  # the others then find the kernel in the folder
        results = _Results(Path(folder), _new_card(preset, sources, seed), accelerator.is_main_process)
        wanted = [part for part in parts if not results.has(part, steps[part])]
        kernel = networks["kernel"]
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

    wanted = [part for part in ("cnn", "denoiser") if part in wanted]
    pool = build_pool(sources, preset, kernel) if wanted else None
    if pool is not None and networks["denoiser"].residual_std is not None:
        networks["denoiser"].residual_std.copy_(residual_std(pool.target, pool.base))
    for part in wanted:
        loss = denoiser_loss(preset) if part == "denoiser" else cnn_loss
        estimate = one_step_estimate(preset) if part == "denoiser" else lambda network, encoded: network(encoded.base)
        run = fit(
            networks[part], pool, loss, validation_score(sources, preset, kernel, estimate),
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

    def __init__(self, folder: Path, card: dict, writes: bool):
        self.folder, self.card, self.writes = folder, card, writes
        if not (folder / "card.json").is_file():
            return
        before = json.loads((folder / "card.json").read_text())
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

    def add(self, part: str, network: nn.Module, steps: int, seconds: float, metrics: dict) -> None:
        """Enters a finished part into the card; the main process writes weights and card."""
        self.card["steps"][part], self.card["minutes"][part] = steps, round(seconds / 60, 2)
        self.card["metrics"][part] = {"parameters": sum(p.numel() for p in network.parameters())} | metrics
        if self.writes:
            save_module(network, self.folder / f"{part}.safetensors", part=part, preset=self.card["preset"]["name"])
            write_json(self.card, self.folder / "card.json")


def _networks_of(preset: dict) -> Preset:
    """A card's preset without what only says how long and in what steps the networks learn."""
    return replace(Preset.from_dict(preset), train=TrainConfig(), kernel_steps=0, cnn_steps=0)


def _new_card(preset: Preset, sources: Sequence[Source], seed: int) -> dict:
    """What is known before training."""
    packages = {name: version(name) for name in ("torch", "numpy", "ctmem")}
    data = [
        {
            "scene": source.name,
            "train": source.train and vars(source.train),
            "validation": source.validation and vars(source.validation),
            "references": [list(reference.shape[1:]) for reference in source.references],
        }
        for source in sources
    ]
    done = {"steps": {}, "minutes": {}, "metrics": {}}
    camera = Camera.from_config(preset.camera).to_dict()
    return {"preset": preset.to_dict(), "camera": camera, "data": data, "seed": seed, "versions": packages} | done
