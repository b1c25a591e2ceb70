"""Training: from scenes to weights, resumable at any step.

    train(TINY, pool.embedded_sources(TINY), folder)      # kernel, then CNN, then denoiser

1. The kernel K learns the sensor's blur on the training areas (stage 1).
2. With it, the training areas are matched with their references (stage 2) and cut into a `Pool` of crops.
3. `fit` trains the CNN baseline and the denoiser on the same crops, with the same augmentation (stages 3 and 4).

Checkpoints hold weights, their running average (EMA), the optimiser, the random generator and the best weights so
far; a run that was stopped and resumed ends bit for bit as one that was not (CPU, same thread count).

Source: Qu et al., IEEE TGRS 2025, for the stages; the pool, augmentation and checkpoints are this project's.
"""

from __future__ import annotations

import copy
import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import torch
from torch import nn

from ctmem.checks import check_choice, check_count, fail
from ctmem.condition import Encoded, encode_image
from ctmem.config import Preset, TrainConfig
from ctmem.diffusion import Schedule, sample, training_loss
from ctmem.dmb import dmb
from ctmem.kernel import train_kernel
from ctmem.metrics import psnr_db
from ctmem.model import PARTS, build_networks
from ctmem.pool import Pool, Source, build_pool, draw_batch
from ctmem.sensors import apply_srf, upsample
from ctmem.teaching import progress
from ctmem.weights import load_module, load_tensors, save_module, save_tensors, write_json

VALIDATION_SIDE = 96  # at most so much of a validation area is scored, fine pixels, to keep it quick

Loss = Callable[[nn.Module, Pool, torch.Generator], torch.Tensor]
Score = Callable[[nn.Module], float]


def train_kernel_on(sources: Sequence[Source], kernel: nn.Module, *, steps: int, generator: torch.Generator) -> dict:
    """Stage 1 on the training areas of all sources; the best weights are chosen on the validation areas."""
    pairs = {"train": ([], []), "validation": ([], [])}
    for source in sources:
        for area, (sharp, blurry) in pairs.items():
            cut = source.scene.cut(getattr(source, area))
            sharp.append(cut.hr_msi)
            blurry.append(apply_srf(upsample(cut.lr_hsi, cut.scale), source.srf))
    with progress(range(steps), "kernel") as bar:

        def on_step(step: int, loss: float) -> None:
            bar.update()
            bar.set_postfix_str(f"L1 {loss:.4f}", refresh=False)

        return train_kernel(
            kernel, *pairs["train"], val_sharp=pairs["validation"][0], val_blurry=pairs["validation"][1],
            steps=steps, generator=generator, on_step=on_step,
        )  # fmt: skip


def denoiser_loss(preset: Preset) -> Loss:
    """The diffusion's L1 on x̂0, as a loss for `fit`."""
    schedule = Schedule.linear(preset.timesteps)

    def loss(network: nn.Module, batch: Pool, generator: torch.Generator) -> torch.Tensor:
        condition = network.condition(batch.base, batch.texture)
        return training_loss(
            lambda x_t, level, previous: network.denoise(x_t, level, previous, condition),
            batch.target, batch.base, schedule, weight=batch.weight,
            self_condition=preset.train.self_condition, generator=generator,
        )  # fmt: skip

    return loss


def cnn_loss(network: nn.Module, batch: Pool, generator: torch.Generator) -> torch.Tensor:
    """L1 of the CNN's estimate, as a loss for `fit`."""
    return ((network(batch.base) - batch.target).abs() * batch.weight).mean()


def validation_score(
    sources: Sequence[Source], preset: Preset, degrade: Callable, estimate: Callable[[nn.Module, Encoded], torch.Tensor]
) -> Score:
    """Returns score(network): mean PSNR in dB over the validation areas, each seen with its own reference."""
    cases = []
    with torch.no_grad():
        for source in sources:
            box = source.validation
            side = {"height": min(box.height, VALIDATION_SIDE), "width": min(box.width, VALIDATION_SIDE)}
            area = source.scene.cut(replace(box, **side))
            up = upsample(area.lr_hsi, area.scale)
            texture, _ = dmb(up, source.references[0], source.srf, degrade, preset.match)
            cases.append((encode_image(area.lr_hsi, up, texture, source.srf, preset), area.gt))

    @torch.no_grad()
    def score(network: nn.Module) -> float:
        values = [psnr_db(encoded.decode(estimate(network, encoded)), gt).mean() for encoded, gt in cases]
        return float(torch.stack(values).mean())

    return score


def one_step_estimate(preset: Preset) -> Callable[[nn.Module, Encoded], torch.Tensor]:
    """estimate(denoiser, encoded): x̂0 from pure noise, always the same noise."""
    schedule = Schedule.linear(preset.timesteps)

    def estimate(network: nn.Module, encoded: Encoded) -> torch.Tensor:
        condition = network.condition(encoded.base, encoded.texture)
        denoise = lambda x_t, level, previous: network.denoise(x_t, level, previous, condition)  # noqa: E731
        return sample(denoise, encoded.base, schedule, steps=1, generator=torch.Generator().manual_seed(0))

    return estimate


class Run:
    """One network in training, everything that its next step depends on, and how to write and read it."""

    def __init__(self, network: nn.Module, config: TrainConfig, seed: int):
        self.network, self.config, self.step = network, config, 0
        self.average = copy.deepcopy(network).requires_grad_(False).eval()
        self.best, self.best_score = copy.deepcopy(self.average), -math.inf
        self.optimizer = torch.optim.Adam(network.parameters(), lr=config.learning_rate)
        self.generator = torch.Generator().manual_seed(seed)
        self.history: list[list[float]] = []  # [step, mean loss since the last row, validation PSNR in dB]
        self.losses: list[float] = []
        self.seconds = 0.0

    def advance(self, pool: Pool, loss: Loss) -> float:
        """One optimiser step; returns the loss."""
        config = self.config
        for group in self.optimizer.param_groups:
            group["lr"] = config.learning_rate * learning_rate_factor(self.step, config)
        value = loss(self.network, draw_batch(pool, config, self.generator), self.generator)
        self.optimizer.zero_grad(set_to_none=True)
        value.backward()
        nn.utils.clip_grad_norm_(self.network.parameters(), config.clip, error_if_nonfinite=True)
        self.optimizer.step()
        self.step += 1
        decay = min(config.ema, self.step / (self.step + 10))
        with torch.no_grad():
            for mean, current in zip(self.average.parameters(), self.network.parameters()):
                mean.lerp_(current, 1 - decay)
        self.losses.append(float(value.detach()))
        return self.losses[-1]

    def validate(self, score: Score) -> float:
        """Scores the averaged weights, keeps them if they are the best so far, and adds a row to the history."""
        value = score(self.average)
        if value > self.best_score:
            self.best_score = value
            self.best.load_state_dict(self.average.state_dict())
        self.history.append([self.step, sum(self.losses) / max(len(self.losses), 1), value])
        self.losses = []
        return value

    def tensors(self) -> dict[str, torch.Tensor]:
        """The whole state as named tensors."""
        state = {"generator": self.generator.get_state(), "losses": torch.tensor(self.losses, dtype=torch.float64)}
        for prefix, module in (("network", self.network), ("average", self.average), ("best", self.best)):
            state |= {f"{prefix}.{name}": x for name, x in module.state_dict().items()}
        for index, slot in self.optimizer.state_dict()["state"].items():
            state |= {f"adam.{index}.{name}": x for name, x in slot.items()}
        return state

    def save(self, path: Path) -> None:
        """Writes the state atomically."""
        numbers = {"step": self.step, "best_score": self.best_score, "history": self.history, "seconds": self.seconds}
        save_tensors(self.tensors(), path, {"config": repr(self.config), "numbers": json.dumps(numbers)})

    def restore(self, path: Path) -> None:
        """Takes up the state of a file that `save` wrote with the same configuration.

        Raises:
            ValueError: the file is of another configuration or damaged.
        """
        tensors, metadata = load_tensors(path)
        if metadata.get("config") != repr(self.config):
            fail("path", f"a checkpoint of {self.config!r}", f"{metadata.get('config')} in {path.name}")
        for prefix, module in (("network", self.network), ("average", self.average), ("best", self.best)):
            module.load_state_dict(
                {n.removeprefix(f"{prefix}."): x for n, x in tensors.items() if n.startswith(f"{prefix}.")}
            )
        slots: dict[int, dict[str, torch.Tensor]] = {}
        for name, x in tensors.items():
            if name.startswith("adam."):
                _, index, key = name.split(".")
                slots.setdefault(int(index), {})[key] = x
        groups = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({"state": slots, "param_groups": groups})
        self.generator.set_state(tensors["generator"])
        self.losses = tensors["losses"].tolist()
        numbers = json.loads(metadata["numbers"])
        self.step, self.best_score = numbers["step"], numbers["best_score"]
        self.history, self.seconds = numbers["history"], numbers["seconds"]


def learning_rate_factor(step: int, config: TrainConfig) -> float:
    """Share of the learning rate at a step: linear warm-up, then cosine decay to 0."""
    if step < config.warmup:
        return (step + 1) / config.warmup
    return 0.5 * (1 + math.cos(math.pi * (step - config.warmup) / max(config.steps - config.warmup, 1)))


def fit(
    network: nn.Module,
    pool: Pool,
    loss: Loss,
    score: Score,
    config: TrainConfig,
    *,
    seed: int = 0,
    checkpoint: str | Path | None = None,
    description: str = "training",
) -> Run:
    """Trains `network`, and returns the finished run: `.best` holds the averaged weights that scored best.

    Args:
        network: to be trained, in place.
        pool: encoded crops.
        loss: scalar from (network, batch, generator).
        score: PSNR on validation areas, of the averaged weights.
        config: steps, batch, learning rate, …
        seed: of the generator that every random number of the loop comes from.
        checkpoint: file to resume from if it is there, and to write every `save_every` steps.
        description: of the progress bar.

    Raises:
        ValueError: a checkpoint of another configuration, or a damaged one.
        RuntimeError: a gradient that is not finite.
        OSError: the checkpoint cannot be written; the last one stays whole.
    """
    check_count(config.steps, "steps")
    run, checkpoint = Run(network, config, seed), Path(checkpoint) if checkpoint else None
    if checkpoint and checkpoint.is_file():
        run.restore(checkpoint)
    if not run.history:
        run.validate(score)
    start = time.perf_counter() - run.seconds
    with progress(range(config.steps), description, initial=run.step) as bar:
        while run.step < config.steps:
            value = run.advance(pool, loss)
            if run.step % config.validate_every == 0 or run.step == config.steps:
                run.validate(score)
            run.seconds = time.perf_counter() - start
            if checkpoint and (run.step % config.save_every == 0 or run.step == config.steps):
                run.save(checkpoint)
            bar.update()
            bar.set_postfix_str(f"L1 {value:.4f}, validation {run.history[-1][2]:.2f} dB", refresh=False)
    return run


def train(
    preset: Preset,
    sources: Sequence[Source],
    folder: str | Path,
    *,
    seed: int = 0,
    parts: Sequence[str] = PARTS,
) -> dict:
    """Trains the networks of a preset and writes kernel, cnn, denoiser .safetensors and card.json to `folder`.

    A part whose weights are already in the folder is not trained again; a part that was interrupted goes on where its
    last checkpoint (`folder/state/`) stands.

    Args:
        preset: sizes and settings.
        sources: what to learn from.
        folder: made if it is not there.
        seed: of the weights and of the order of samples.
        parts: which of kernel, cnn, denoiser to train; later ones need the kernel.

    Returns:
        The card: preset, data, seed, versions, and per part its steps, minutes and metrics.
    """
    for part in parts:
        check_choice(part, "parts", PARTS)
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        networks = build_networks(preset, bands=sources[0].scene.gt.shape[1])
    card = _new_card(preset, sources, seed)
    if (folder / "card.json").is_file():
        before = json.loads((folder / "card.json").read_text())
        card |= {key: before[key] for key in ("steps", "minutes", "metrics")}

    def finish(part: str, network: nn.Module, steps: int, seconds: float, metrics: dict) -> None:
        save_module(network, folder / f"{part}.safetensors", part=part, preset=preset.name)
        card["steps"][part], card["minutes"][part] = steps, round(seconds / 60, 2)
        card["metrics"][part] = {"parameters": sum(p.numel() for p in network.parameters())} | metrics
        write_json(card, folder / "card.json")

    def done(part: str) -> bool:
        return part in card["metrics"] and (folder / f"{part}.safetensors").is_file()

    kernel = networks["kernel"]
    if done("kernel"):
        load_module(kernel, folder / "kernel.safetensors", part="kernel", preset=preset.name)
    elif "kernel" in parts:
        start = time.perf_counter()
        generator = torch.Generator().manual_seed(seed)
        history = train_kernel_on(sources, kernel, steps=preset.kernel_steps, generator=generator)
        curve = [[step, round(value, 6)] for step, value in history["validation"]]
        finish("kernel", kernel, preset.kernel_steps, time.perf_counter() - start, {"validation_l1": curve})
    kernel.eval().requires_grad_(False)

    wanted = [part for part in ("cnn", "denoiser") if part in parts and not done(part)]
    pool = build_pool(sources, preset, kernel) if wanted else None
    for part in wanted:
        config = preset.train if part == "denoiser" else replace(preset.train, steps=preset.cnn_steps)
        loss = denoiser_loss(preset) if part == "denoiser" else cnn_loss
        estimate = one_step_estimate(preset) if part == "denoiser" else lambda network, encoded: network(encoded.base)
        score = validation_score(sources, preset, kernel, estimate)
        checkpoint = folder / "state" / f"{part}.safetensors"
        run = fit(networks[part], pool, loss, score, config, seed=seed, checkpoint=checkpoint, description=part)
        curve = [[step, round(psnr, 4)] for step, _, psnr in run.history]
        metrics = {"best_validation_psnr_db": round(run.best_score, 4), "validation_psnr_db": curve}
        finish(part, run.best, config.steps, run.seconds, metrics)
    return card


def _new_card(preset: Preset, sources: Sequence[Source], seed: int) -> dict:
    """What is known before training."""
    packages = {name: version(name) for name in ("torch", "numpy", "ctmem")}
    data = [
        {
            "scene": source.name,
            "train": vars(source.train),
            "validation": vars(source.validation),
            "references": [list(reference.shape[1:]) for reference in source.references],
        }
        for source in sources
    ]
    done = {"steps": {}, "minutes": {}, "metrics": {}}
    return {"preset": preset.to_dict(), "data": data, "seed": seed, "versions": packages} | done
