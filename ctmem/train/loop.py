"""The training loop of one network: what its next step depends on, and how to stop and go on at any moment.

    run = fit(network, pool, loss, score, config, checkpoint="state.safetensors")

A step draws a batch, cuts it into pieces of `micro_batch` samples, adds up their gradients and updates the weights and
their running average (EMA). The pieces are shared out among the processes that `torchrun` started; each piece has
its own random numbers, so the run does not depend on how many processes share it (but for rounding).

Checkpoints hold weights, average, best weights so far, optimiser and random generator; a run that was killed and
started again ends bit for bit as one that was not (CPU, same number of threads and pieces).

Source: this project; device, bfloat16 and processes are accelerate's work.
"""

from __future__ import annotations

import copy
import json
import math
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import nn

from ctmem.card import each, number, whole
from ctmem.checks import check_choice, check_count, fail, usual_state
from ctmem.command import MOST_SEED
from ctmem.config import MANY, TrainConfig
from ctmem.files import load_tensors, package_version, save_tensors, write_text
from ctmem.teaching import progress
from ctmem.train.identity import differences
from ctmem.train.pool import Pool, draw_batch

NUMBERS = ("step", "best_score", "history", "clock", "seconds")  # of a run, beside its tensors

Loss = Callable[[nn.Module, Pool, torch.Generator], torch.Tensor]
Score = Callable[[nn.Module], float]


OTHERS = ("ACCELERATE_", "FSDP_", "MEGATRON_LM_", "PARALLELISM_CONFIG_", "FP8_")  # settings of other programs


def new_accelerator(*, cpu: bool = False, precision: str | None = None, place: bool = True) -> Accelerator:
    """Returns what training runs on: a CUDA device if there is one, otherwise the CPU; all of torchrun's processes.

    Everything else that accelerate would take from environment variables is as it is without them: no accumulated
    gradients, no compiler, no other ways of sharing a network out.

    Args:
        cpu: the CPU even where there is a GPU.
        precision: "no" (float32) or "bf16" (matrix products in bfloat16); default: bf16 on a GPU, float32 on a CPU.
        place: move networks to the device; False: they train where they are.

    Raises:
        ValueError: another precision.
        RuntimeError: this process has begun to use accelerate with other settings, which cannot be changed any more.
    """
    cpu = cpu or not torch.cuda.is_available()
    precision = precision or ("no" if cpu else "bf16")
    check_choice(precision, "precision", ("no", "bf16"))
    with _without(OTHERS):
        try:
            made = Accelerator(
                cpu=cpu, mixed_precision=precision, device_placement=place, gradient_accumulation_steps=1,
                step_scheduler_with_optimizer=False, dynamo_backend="no",
            )  # fmt: skip
        except ValueError as error:  # its state belongs to the process: the first who asks decides
            raise RuntimeError(f"accelerate was set up otherwise in this process before: {error}") from error
    if (made.mixed_precision, made.gradient_accumulation_steps) != (precision, 1):
        raise RuntimeError(f"accelerate was set up otherwise in this process before: {made.state}")
    return made


@contextmanager
def _without(beginnings: tuple[str, ...]) -> Iterator[None]:
    """The environment without the variables that begin so, and afterwards with them again."""
    taken = {name: os.environ.pop(name) for name in list(os.environ) if name.startswith(beginnings)}
    try:
        yield
    finally:
        os.environ.update(taken)


def device_name(device: torch.device) -> str:
    """What cards call a device."""
    return f"one {torch.cuda.get_device_name(device)}" if device.type == "cuda" else "CPU"


def versions_here() -> dict[str, str]:
    """What cards say of the packages: a version, or that this one runs from its folder, not installed."""
    return {name: package_version(name) for name in ("torch", "numpy", "ctmem")}


def learning_rate_factor(step: int, config: TrainConfig) -> float:
    """Share of the learning rate at a step: linear warm-up, then cosine decay to 0, or 1 without `cosine`."""
    if step < config.warmup:
        return (step + 1) / max(config.warmup, 1)
    if not config.cosine:
        return 1.0
    return 0.5 * (1 + math.cos(math.pi * (step - config.warmup) / max(config.steps - config.warmup, 1)))


class WithLoss(nn.Module):
    """A network and its loss as one module: what is called, spread over processes and cast is the whole of it."""

    def __init__(self, network: nn.Module, loss: Loss):
        super().__init__()
        self.network = network
        self.loss = loss

    def forward(self, batch: Pool, generator: torch.Generator) -> torch.Tensor:
        """The loss of a batch, a scalar."""
        return self.loss(self.network, batch, generator)


class Run:
    """One network in training, everything that its next step depends on, and how to write and read it.

    Attributes:
        network: in training; `average`: its running average; `best`: the average that scored best.
        step: number of steps made.
        history: rows [step, mean loss since the row before, validation PSNR in dB]; `clock`: seconds at each.
    """

    def __init__(
        self,
        network: nn.Module,
        loss: Loss,
        config: TrainConfig,
        seed: int = 0,
        *,
        micro_batch: int | None = None,
        accelerator: Accelerator | None = None,
        about: Mapping[str, Any] | None = None,
    ):
        check_count(seed, "seed", at_least=0, at_most=MOST_SEED)
        # where it runs, and what it learns
        self.accelerator = accelerator or new_accelerator(place=False)
        self.micro_batch = micro_batch_of(config.batch, micro_batch, self.accelerator.num_processes)
        self.network = network
        self.config = config
        settings = {"micro_batch": self.micro_batch, "precision": self.accelerator.mixed_precision}
        plain = {"seed": seed, **asdict(config), **settings, **(about or {})}
        self.about = json.loads(json.dumps(plain))  # what it is recognised by, as a checkpoint has it
        self.step = 0
        with _without(OTHERS):
            self.module = self.accelerator.prepare(WithLoss(network, loss))
        self.device = next(network.parameters()).device
        # what changes with every step
        self.average = copy.deepcopy(network).requires_grad_(False).eval()
        self.best = copy.deepcopy(self.average)
        self.best_score = -math.inf
        fused = self.device.type in ("cpu", "cuda")  # all parameters in one pass
        self.optimizer = torch.optim.Adam(network.parameters(), lr=config.learning_rate, fused=fused or None)
        self.generator = torch.Generator().manual_seed(seed)
        self.history: list[list[float]] = []
        self.clock: list[float] = []
        self.losses: list[float] = []
        self.seconds = 0.0

    def advance(self, pool: Pool) -> float:
        """One optimiser step; returns the loss, its mean over all samples of the batch."""
        config = self.config
        for group in self.optimizer.param_groups:
            group["lr"] = config.learning_rate * learning_rate_factor(self.step, config)
        self.optimizer.zero_grad(set_to_none=True)
        self.losses.append(self._gradients(pool))
        limit = math.inf if config.clip is None else config.clip  # not clipped, but looked at
        nn.utils.clip_grad_norm_(self.network.parameters(), limit, error_if_nonfinite=True, foreach=True)
        self.optimizer.step()
        self.step += 1
        decay = min(config.ema, self.step / (self.step + 10))
        with torch.no_grad():
            torch._foreach_lerp_(list(self.average.parameters()), list(self.network.parameters()), 1 - decay)
        return self.losses[-1]

    def _gradients(self, pool: Pool) -> float:
        """Leaves the gradient of the whole batch's mean loss in the network, in every process; returns that loss."""
        config = replace(self.config, batch=self.micro_batch)
        generators = self._generators()[self.accelerator.process_index :: self.accelerator.num_processes]
        total = torch.zeros((), device=self.device)
        for generator in generators:
            # processes exchange their gradients with the last piece only
            waiting = generator is not generators[-1]
            with self.accelerator.no_sync(self.module) if waiting else nullcontext():
                batch = draw_batch(pool, config, generator).to(self.device)
                value = self.module(batch, generator) / len(generators)
                self.accelerator.backward(value)
            total += value.detach()
        return float(self.accelerator.reduce(total, "mean"))

    def _generators(self) -> list[torch.Generator]:
        """One per piece of the next batch, the same in every process; a batch in one piece takes the run's own."""
        pieces = self.config.batch // self.micro_batch
        if pieces == 1:
            return [self.generator]
        seeds = torch.randint(2**62, (pieces,), generator=self.generator).tolist()
        return [torch.Generator().manual_seed(seed) for seed in seeds]

    def validate(self, score: Score) -> float:
        """Scores the averaged weights, keeps them if they are the best so far (or always, without `keep_best`).

        Adds a row to the history.
        """
        value = score(self.average)
        if value > self.best_score or not self.config.keep_best:
            self.best_score = value
            self.best.load_state_dict(self.average.state_dict())
        self.history.append([self.step, sum(self.losses) / max(len(self.losses), 1), value])
        self.clock.append(round(self.seconds, 3))
        self.losses = []
        return value

    def log(self) -> str:
        """The history as CSV text: step, loss, learning_rate, validation_psnr_db, seconds."""
        lines = ["step,loss,learning_rate,validation_psnr_db,seconds"]
        for (step, loss, psnr), seconds in zip(self.history, self.clock):
            rate = self.config.learning_rate * learning_rate_factor(int(step) - 1, self.config)
            made = f"{loss:.6g},{rate:.6g}" if step else ","  # before the first step there is no loss
            lines.append(f"{step},{made},{psnr:.4f},{seconds:.3f}")
        return "\n".join(lines) + "\n"

    def tensors(self) -> dict[str, torch.Tensor]:
        """The whole state as named tensors."""
        state = {"generator": self.generator.get_state(), "losses": torch.tensor(self.losses, dtype=torch.float64)}
        for prefix, module in self._modules().items():
            state |= {f"{prefix}.{name}": x for name, x in module.state_dict().items()}
        for index, slot in self.optimizer.state_dict()["state"].items():
            state |= {f"adam.{index}.{name}": x for name, x in slot.items()}
        return state

    def save(self, path: Path) -> None:
        """Writes the state atomically.

        Raises:
            OSError: it cannot be written; what was there before stays.
        """
        numbers = json.dumps({name: getattr(self, name) for name in NUMBERS})
        save_tensors(self.tensors(), path, {"about": json.dumps(self.about), "numbers": numbers}, kind="checkpoint")

    def restore(self, path: Path) -> None:
        """Takes up the state of a file that `save` wrote of the same run: seed, settings, data and the rest of `about`.

        Raises:
            ValueError: the file is of another run, or damaged; nothing is taken up.
        """
        tensors, metadata = load_tensors(path, kind="checkpoint")
        try:
            about, numbers = json.loads(metadata["about"]), json.loads(metadata["numbers"])
            unlike = differences(about, self.about)
            if unlike:
                fail("path", "a checkpoint of the same run, or none", f"{path.name}, with {', '.join(unlike)}")
            _check_numbers(numbers, self.config.steps)
            state = torch.Generator().set_state(tensors["generator"]).get_state()
        except (KeyError, RuntimeError, TypeError, json.JSONDecodeError) as error:
            raise ValueError(f"`path` must be a checkpoint of this version, got {path.name}: {error!r}") from error
        self._check_tensors(tensors, path.name)
        # the three copies of the network
        for prefix, module in self._modules().items():
            module.load_state_dict(
                {n.removeprefix(f"{prefix}."): x for n, x in tensors.items() if n.startswith(f"{prefix}.")}
            )
        # the optimiser
        slots: dict[int, dict[str, torch.Tensor]] = {}
        for name, x in tensors.items():
            if name.startswith("adam."):
                _, index, key = name.split(".")
                slots.setdefault(int(index), {})[key] = x
        groups = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({"state": slots, "param_groups": groups})
        # the random numbers, and what is counted
        self.generator.set_state(state)
        self.losses = tensors["losses"].tolist()
        self.step, self.best_score, self.history, self.clock, self.seconds = (numbers[name] for name in NUMBERS)

    def _check_tensors(self, tensors: dict[str, torch.Tensor], name: str) -> None:
        """Raises unless a checkpoint has the tensors of this network and optimiser, all of their shapes."""
        expected = {f"{prefix}.{n}": x for prefix, one in self._modules().items() for n, x in one.state_dict().items()}
        for index, x in enumerate(self.network.parameters()):
            if f"adam.{index}.step" in tensors:
                moments = {f"adam.{index}.{key}": x for key in ("exp_avg", "exp_avg_sq")}
                expected |= {f"adam.{index}.step": torch.zeros(()), **moments}
        expected["generator"] = self.generator.get_state()
        expected["losses"] = torch.zeros(tensors["losses"].numel() if "losses" in tensors else 0, dtype=torch.float64)
        for key in sorted({*expected, *tensors}):
            wanted, got = (f"{x[key].dtype} {tuple(x[key].shape)}" if key in x else "none" for x in (expected, tensors))
            if wanted != got:
                fail("path", f"a checkpoint with `{key}`: {wanted}", f"{got} in {name}")

    def _modules(self) -> dict[str, nn.Module]:
        """The three copies of the network, by the name that their tensors begin with."""
        return {"network": self.network, "average": self.average, "best": self.best}


@usual_state(learning=True)
def fit(
    network: nn.Module,
    pool: Pool,
    loss: Loss,
    score: Score,
    config: TrainConfig,
    *,
    seed: int = 0,
    checkpoint: str | Path | None = None,
    log: str | Path | None = None,
    micro_batch: int | None = None,
    accelerator: Accelerator | None = None,
    about: Mapping[str, Any] | None = None,
    on_validate: Callable[[Run], None] | None = None,
    description: str = "training",
) -> Run:
    """Trains `network`, and returns the finished run: `.best` holds the averaged weights that scored best.

    In a notebook, a curve that grows while the network learns:

        live = display(plots.loss_curve({"loss": []}), display_id=True)
        fit(…, on_validate=lambda run: live.update(plots.loss_curve({"loss": [row[:2] for row in run.history[1:]]})))

    Args:
        network: to be trained, in place.
        pool: encoded crops.
        loss: scalar from (network, batch, generator), a mean over the samples.
        score: PSNR on validation areas, of the averaged weights.
        config: steps, batch, learning rate, …
        seed: of the generator that every random number of the loop comes from.
        checkpoint: file to resume from if it is there, and to write every `save_every` steps.
        log: CSV file to write the history to, at every validation.
        micro_batch: samples at once, to save memory or to have the result of so many processes in one; the gradient is
            that of the whole batch. Default: a process's share of the batch.
        accelerator: from `new_accelerator`; default: train where the network is.
        about: what else the run depends on, its data say, as plain JSON: a checkpoint of another run is refused.
        on_validate: called after every validation, in the main process.
        description: of the progress bar.

    Raises:
        ValueError: a checkpoint of another run, or a damaged one, or one that not all processes see; a batch that
            cannot be shared out evenly.
        RuntimeError: a gradient that is not finite.
        OSError: checkpoint or log cannot be written; the last one stays whole.
    """
    check_count(config.steps, "steps")
    if any(one.is_inference() for one in network.parameters()):
        fail("network", "made outside of torch.inference_mode()", "parameters that cannot learn")
    pool = Pool(*(x.clone() if x.is_inference() else x for x in (pool.base, pool.target, pool.texture, pool.weight)))
    run = Run(network, loss, config, seed, micro_batch=micro_batch, accelerator=accelerator, about=about)
    main = run.accelerator.is_main_process
    checkpoint = Path(checkpoint) if checkpoint else None

    def validate() -> None:
        run.validate(score)
        if main and log:
            write_text(run.log(), log)
        if main and on_validate:
            on_validate(run)

    # from the last checkpoint, or from the start
    if checkpoint and checkpoint.is_file():
        run.restore(checkpoint)
    _check_together(run)
    if not run.history:
        validate()
    start = time.perf_counter() - run.seconds
    with progress(range(config.steps), description, initial=run.step, disable=not main) as bar:
        while run.step < config.steps:
            # one step, and what is due after it
            value = run.advance(pool)
            run.seconds = time.perf_counter() - start
            if run.step % config.validate_every == 0 or run.step == config.steps:
                validate()
                run.seconds = time.perf_counter() - start
            if main and checkpoint and (run.step % config.save_every == 0 or run.step == config.steps):
                run.save(checkpoint)
            bar.update()
            bar.set_postfix_str(f"L1 {value:.4f}, validation {run.history[-1][2]:.2f} dB", refresh=False)
    return run


def micro_batch_of(batch: int, micro_batch: int | None, processes: int) -> int:
    """Samples in a piece of the batch; raises unless every process has the same number of whole pieces."""
    check_count(batch, "batch")
    size = max(batch // processes, 1) if micro_batch is None else micro_batch
    check_count(size, "micro_batch")
    if batch % (size * processes):
        fail("batch", f"a multiple of {size} samples at once × {processes} process(es)", batch)
    return size


def _check_together(run: Run) -> None:
    """Raises unless all processes stand at the same step: they read the checkpoint from one folder, or none did."""
    steps = run.accelerator.gather(torch.tensor([run.step], device=run.accelerator.device)).tolist()
    if len(set(steps)) > 1:
        fail("checkpoint", "in a folder that every process sees", f"processes at the steps {steps}")


def _check_numbers(numbers: dict[str, Any], steps: int) -> None:
    """Raises unless the numbers of a checkpoint can be those of a run of so many steps."""
    if not isinstance(numbers, dict) or set(numbers) != set(NUMBERS):
        fail("numbers", "a dict of " + ", ".join(NUMBERS), f"{numbers!r:.60}")
    whole(0, steps)(numbers["step"], "step")
    number()(numbers["best_score"], "best_score")
    number(0, MANY)(numbers["seconds"], "seconds")
    each(number(0, MANY))(numbers["clock"], "clock")
    each(each(number()))(numbers["history"], "history")
    rows = numbers["history"]
    if len(rows) != len(numbers["clock"]) or any(len(row) != 3 for row in rows):
        fail("history", f"rows of three numbers, as many as `clock` has, {len(numbers['clock'])}", f"{rows!r:.60}")
    for row in rows:
        whole(0, numbers["step"])(row[0], "history")
