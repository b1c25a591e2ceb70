"""Training of the method `fusion`: one denoiser of single components, on references of all grades.

    python -m ctmem.train.fusion --corpus corpus --areas 1000 --steps 2400 --batch 192 --out runs/fusion

Ground is cut from open imagery (`ctmem.data.corpus`) and from the training areas of the shipped scenes, and observed by
cameras drawn at random. Each piece is matched with two references, of a grade drawn for each: none; the same ground;
a part of it beside other ground; other ground of the image or of another one; a control without any ground. Most are
turned, moved by up to 1.5 px, some tilted by up to 1.5°, and of another radiometry. The base has what the reference
adds already, where it is laid: the denoiser learns what that leaves open, and how far to believe it, from the likeness
that it is told.

How the shipped weights were trained stands on their card; on a CPU `--areas 60 --steps 300 --batch 16` takes minutes
and shows how.

Source: this project.
"""

from __future__ import annotations

import argparse
import json
import math
import signal
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass, replace
from itertools import takewhile
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
import torch.nn.functional as F
from accelerate import Accelerator
from torch import nn
from torch.multiprocessing import get_context

from ctmem.card import write_card
from ctmem.checks import check_count, fail
from ctmem.command import MOST_SEED, Parser, folder, run_command
from ctmem.config import MANY, TrainConfig
from ctmem.data.controls import blobs, glued_windows, permuted, pink, shifted, tilted, uniform
from ctmem.data.corpus import read_corpus
from ctmem.diffusion.objective import standard_normal
from ctmem.diffusion.problem import DenoisingProblem, Network
from ctmem.evaluation.metrics import psnr_db
from ctmem.files import check_out, load_module, load_tensors, remove_parts, save_module
from ctmem.lock import locked
from ctmem.match.patches import turn_back, turned
from ctmem.methods.fusion import MAPS, SCALE, components, new_denoiser
from ctmem.networks.folded import SPREAD
from ctmem.observe.camera import Camera
from ctmem.teaching import progress
from ctmem.train.identity import data_of, digest_of, digest_of_text
from ctmem.train.loop import Run, Score, device_name, fit, micro_batch_of, new_accelerator, versions_here
from ctmem.train.pool import Pool
from ctmem.train.sources import Source, embedded_sources

STATE = "state.safetensors"  # the checkpoint
SIDE, CROP, STEP = 128, 64, 32  # of a matched area, of a training crop, between crops; fine pixels
RIM = 12  # of the same ground around it in a reference, fine pixels
SHIFT = 24  # at most, of the window that a reference of the same ground shows
NOISES = (0.02, 20.0)  # noise over data of what is learned from, where it is not noise alone
AT_ONCE, SEEDS = 5, 1_000_003  # areas that a worker matches at a time; between their seeds
FIRST = 6  # components kept of an area, of those above a hundredth of the first one's deviation
MOVED = 1.5  # at most, of a reference of the same ground, between its pixels
TILT = 1.5  # degrees at most, of a quarter of them
CONTROLS = (uniform, pink, blobs, permuted, glued_windows, lambda image, generator: 1 - image)
SIGNED = [one.signed for one in MAPS]


class Random:
    """Numbers from one generator, in few letters."""

    def __init__(self, seed: int):
        self.generator = torch.Generator().manual_seed(seed)

    def chance(self, share: float) -> bool:
        """True in a share of the calls."""
        return self.between(0, 1) < share

    def between(self, low: float, high: float) -> float:
        """A number, uniform."""
        return low + (high - low) * float(torch.rand((), generator=self.generator))

    def below(self, count: int) -> int:
        """A whole number from 0 to count − 1."""
        return int(torch.randint(max(count, 1), (), generator=self.generator))

    def tensor(self, low: float, high: float, shape: Sequence[int]) -> torch.Tensor:
        """Numbers, uniform."""
        return low + (high - low) * torch.rand(tuple(shape), generator=self.generator)


@dataclass(frozen=True, eq=False)
class Ground:
    """A piece of an image, (1, C, H, W), and where it is in it."""

    image: torch.Tensor  # (C, H', W'), the whole image; NaN where it has no data
    piece: torch.Tensor
    top: int
    left: int


# --- what is drawn ----------------------------------------------------------------------------------------------------


def draw_ground(image: torch.Tensor, random: Random) -> Ground | None:
    """A piece without holes and not all of one colour, or None where twenty draws found none."""
    height, width = (min(SIDE, side // SCALE * SCALE) for side in image.shape[1:])
    for _ in range(20):
        top, left = random.below(image.shape[1] - height + 1), random.below(image.shape[2] - width + 1)
        piece = image[None, :, top : top + height, left : left + width]
        if bool(torch.isfinite(piece).all()) and float(piece[0, 0].std()) > 0.01:
            return Ground(image, piece, top, left)
    return None


def draw_response(bands: int, random: Random) -> torch.Tensor:
    """A response (c, C) of up to four bands, each mostly one band of the image with some of all others."""
    count = min(bands, 4) if random.chance(0.6) else max(1, min(bands, 4) - 1)
    picked = torch.randperm(bands, generator=random.generator)[:count]
    response = F.one_hot(picked, bands).float() + random.between(0, 0.5) * random.tensor(0, 1, (count, bands))
    return response / response.sum(1, keepdim=True)


def draw_camera(response: torch.Tensor, random: Random) -> Camera:
    """A Gaussian blur of 0.6 to 1.6 coarse pixels (often 1), with noise of 22 to 42 dB in four of ten."""
    width = SCALE * (1.0 if random.chance(0.4) else random.between(0.6, 1.6))
    camera = replace(Camera.gaussian(width, SCALE, sensor=None), srf=response)
    return replace(camera, snr_db=random.between(22, 42)) if random.chance(0.4) else camera


def draw_reference(
    ground: Ground, camera: Camera, others: Sequence[torch.Tensor], random: Random
) -> torch.Tensor | None:
    """A reference (1, c, Hr, Wr) of a grade drawn at random, or None."""
    grade = random.between(0, 1)
    if grade < 0.12:
        return None
    other = _other_ground(ground, camera, others, random)
    if grade < 0.85:  # the same ground, or (beyond 0.6) a part of it beside other ground
        reference = _see(_window(ground, random), camera)
        if random.chance(0.6):
            reference = shifted(reference, random.between(-MOVED, MOVED), random.between(-MOVED, MOVED))
        if random.chance(0.25):
            reference = tilted(reference, random.between(-TILT, TILT), random.between(0.985, 1.015))
        if grade >= 0.6:
            reference = beside(reference, other, random)
        if random.chance(0.6):
            reference = turned(reference, random.below(8))
    elif random.chance(0.5):
        reference = other
    else:
        control = CONTROLS[random.below(len(CONTROLS))]
        reference = control(other, random.generator)
    return other_radiometry(reference, random) if random.chance(0.85) else reference


def _other_ground(ground: Ground, camera: Camera, others: Sequence[torch.Tensor], random: Random) -> torch.Tensor:
    """Other ground of the same image, or of another one in any of its bands, (1, c, Hr, Wr)."""
    own = random.chance(0.5)
    drawn = draw_ground(ground.image if own else others[random.below(len(others))], random) or ground
    if own or drawn is ground:
        return _see(drawn.piece, camera)
    return drawn.piece[:, torch.randint(len(drawn.image), (camera.msi_channels,), generator=random.generator)]


def beside(left: torch.Tensor, right: torch.Tensor, random: Random) -> torch.Tensor:
    """A part of one image, three to seven tenths of it, on any side of a part of another one."""
    turn = random.below(4)
    left, right = turned(left, turn), turned(right, turn)
    height, width = (min(one, other) for one, other in zip(left.shape[2:], right.shape[2:]))
    column = int(width * random.between(0.3, 0.7))
    return turn_back(torch.cat([left[..., :height, :column], right[..., :height, column:width]], -1), turn)


def _see(image: torch.Tensor, camera: Camera) -> torch.Tensor:
    """What the multispectral sensor records of an image that may exceed 1."""
    return torch.einsum("sc,bchw->bshw", camera.response().to(image), image)


def _window(ground: Ground, random: Random) -> torch.Tensor:
    """A window of the image, (1, C, ·, ·), that shows the ground, all of it but for a shift."""
    height, width = ground.piece.shape[2:]
    down, across = (random.below(2 * SHIFT) - SHIFT for _ in range(2))
    top, left = max(0, ground.top + down - RIM), max(0, ground.left + across - RIM)
    window = ground.image[None, :, top : top + height + 2 * RIM, left : left + width + 2 * RIM]
    whole = min(window.shape[2:]) >= CROP // 2 and bool(torch.isfinite(window).all())
    return window if whole else ground.piece


def other_radiometry(image: torch.Tensor, random: Random) -> torch.Tensor:
    """Another gamma, gain and offset in every band, and some noise."""
    shape = (1, image.shape[1], 1, 1)
    gamma, gain, offset = (
        random.tensor(*limits, shape).to(image) for limits in ((0.75, 1.3), (0.6, 1.3), (-0.05, 0.15))
    )
    noise = torch.randn(image.shape, generator=random.generator).to(image)
    return image.clamp_min(0) ** gamma * gain + offset + random.between(0, 0.015) * noise


# --- the pool ---------------------------------------------------------------------------------------------------------


def graded_pool(
    corpus: Mapping[str, torch.Tensor],
    sources: Sequence[Source],
    *,
    areas: int,
    seed: int,
    workers: int = 0,
    minutes: float = math.inf,
) -> Pool:
    """Crops of components: base, target and maps, from areas matched with references of all grades.

    Args:
        corpus: images (C, H, W) by name; those of one band, and those smaller than an area, are left out.
        sources: scenes, of which the training areas are taken in one of five draws.
        areas: how many areas are matched, each with two references.
        seed: of everything that is drawn; the pool does not depend on `workers`.
        workers: processes that match, one thread each; 0: this one.
        minutes: after so many it is left at the areas that are done.

    Returns:
        base and target (N, 1, 64, 64), texture (N, T, 64, 64), weight (N, 1, 1, 1), in half precision.

    Raises:
        ValueError: a count that is none, or no area with anything to see.
    """
    check_count(areas, "areas")
    check_count(workers, "workers", at_least=0)
    images = [x for x in corpus.values() if min(x.shape[1:]) >= SIDE and len(x) > 1]
    if not images and not sources:
        fail("corpus", f"images of {SIDE} px a side, where there are no `sources`", "none")
    jobs = [(seed, number, min(AT_ONCE, areas - number)) for number in range(0, areas, AT_ONCE)]
    end = time.monotonic() + 60 * minutes
    with ExitStack() as stack:
        stack.callback(torch.set_num_threads, torch.get_num_threads())
        torch.set_num_threads(1)  # sums of several threads round otherwise
        done: Iterable[list[np.ndarray]] = (_matched(images, sources, job) for job in jobs)
        if workers:
            begun = get_context("spawn").Pool(workers, _begin, (images, sources))
            done = stack.enter_context(begun).imap(_work, jobs)
        bar = progress(done, "areas", total=len(jobs))
        parts = [[torch.from_numpy(x) for x in part] for part in takewhile(lambda _: time.monotonic() < end, bar)]
    parts = [part for part in parts if part]
    if time.monotonic() >= end and not parts:
        fail("minutes", "enough for the first areas", minutes)
    if not parts:
        fail("corpus", f"images or scenes with ground of {CROP} px a side", "none")
    return Pool(*(torch.cat(column) for column in zip(*parts)))


_at_hand: tuple[Sequence[torch.Tensor], Sequence[Source]] = ((), ())  # of a worker


def _begin(images: Sequence[torch.Tensor], sources: Sequence[Source]) -> None:
    """Gives a worker what it draws from."""
    global _at_hand
    _at_hand = images, sources
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # stopped from the keyboard, the main process ends its workers


def _work(job: tuple[int, int, int]) -> list[np.ndarray]:
    """What a worker does."""
    return _matched(*_at_hand, job)


def _matched(images: Sequence[torch.Tensor], sources: Sequence[Source], job: tuple[int, int, int]) -> list[np.ndarray]:
    """Base, target, maps and weights of the crops of some areas; job: seed, number of the first area, how many."""
    seed, first, areas = job
    random = Random(seed + SEEDS * first)
    sizes = torch.tensor([x.numel() ** 0.5 * (2 if len(x) > 4 else 1) for x in images])
    rows: list[tuple[torch.Tensor, ...]] = []
    for _ in range(areas):
        if not images or random.chance(0.2):
            source = sources[random.below(len(sources))]
            if source.train is None:
                continue
            scene = source.scene.cut(source.train)
            image, response = turned(scene.gt, random.below(8))[0], scene.camera.response().float()
        else:
            image = images[int(torch.multinomial(sizes, 1, generator=random.generator))]
            if min(image.shape[1:]) >= 4 * SIDE and random.chance(0.4):
                image = F.avg_pool2d(image[None], 2)[0]
            response = draw_response(len(image), random)
        ground = draw_ground(image, random)
        if ground is None:
            continue
        camera = draw_camera(response, random)
        lr_hsi = camera.observe(ground.piece, generator=random.generator)
        for _ in range(2):
            reference = draw_reference(ground, camera, images or [image], random)
            rows += _crops(ground.piece, lr_hsi, reference, camera)
    return [
        torch.stack(column).half().numpy() for column in zip(*rows)
    ]  # arrays go from process to process as they are


@torch.no_grad()
def _crops(
    gt: torch.Tensor, lr_hsi: torch.Tensor, reference: torch.Tensor | None, camera: Camera
) -> list[tuple[torch.Tensor, ...]]:
    """The crops of one area with one reference, component after component."""
    given = components(lr_hsi, reference, camera)
    target = given.encoded.space.encode(gt).transpose(0, 1)
    share = given.encoded.space.std / given.encoded.space.std[0]
    # the first components count most; one that the prior misses by more than 0.6 counts less, or it would rule the loss
    missed = (target - given.base).square().mean((1, 2, 3)).sqrt()
    weight = (0.3 + 0.7 * share) / (missed / 0.6).clamp_min(1)
    height, width = gt.shape[2:]
    rows: list[tuple[torch.Tensor, ...]] = []
    for top in range(0, max(height - CROP, 0) + 1, STEP):
        for left in range(0, max(width - CROP, 0) + 1, STEP):
            here = (slice(None), slice(top, top + CROP), slice(left, left + CROP))
            for k in range(min(len(share), FIRST)):
                if float(share[k]) > 0.01 and min(height, width) >= CROP:
                    parts = (given.base[k][here], target[k][here], given.maps[k][here], weight[k].reshape(1, 1, 1))
                    rows.append(parts)
    return rows


# --- the loss, the score and the run ----------------------------------------------------------------------------------


def graded_loss(network: nn.Module, batch: Pool, generator: torch.Generator) -> torch.Tensor:
    """Root of the mean square of each crop; half of the crops at pure noise, there half of it is L1; a loss for `fit`.

    Between, noise over data is drawn from 1/50 to 20, its logarithm uniform, and errors count the more the less noise
    there is, as the network's answer is scaled. Means of squares, since what is drawn step by step must be a mean.
    """
    count, device = len(batch), batch.base.device
    sign = torch.randint(2, (count, 1, 1, 1), generator=generator).mul(2).sub(1).float().to(device)
    factors = torch.where(torch.tensor(SIGNED, device=device).reshape(1, -1, 1, 1), sign, 1)
    base, target = batch.base.float() * sign, batch.target.float() * sign
    problem = DenoisingProblem.of(cast(Network, network), base, batch.texture.float() * factors)
    ratio = (math.log(NOISES[0]) + math.log(NOISES[1] / NOISES[0]) * torch.rand(count, generator=generator)).exp()
    pure = torch.arange(count) < count / 2
    level = torch.where(pure, 0.0, (1 + ratio.square()).rsqrt()).to(device)
    noise = torch.randn(base.shape, generator=generator).to(device)
    share = level.reshape(-1, 1, 1, 1)
    rest = 1 - share.square()
    error = problem.denoise(share * target + rest.sqrt() * noise, level, base) - target
    error = error / (rest / (share.square() * SPREAD**2 + rest)).sqrt()
    root = (error.square().mean((1, 2, 3), keepdim=True) + 1e-6).sqrt()
    part = torch.where(pure, 0.5, 0.0).reshape(-1, 1, 1, 1).to(device)
    return ((part * error.abs().mean((1, 2, 3), keepdim=True) + (1 - part) * root) * batch.weight.float()).mean()


def graded_score(sources: Sequence[Source], device: torch.device) -> Score:
    """Mean PSNR over the validation areas: without a reference, with a part of the ground, with all of it, turned."""
    cases = []
    for source in sources:
        if source.validation is not None:
            area = source.scene.cut(source.validation)
            part = beside(area.hr_msi, source.references[0], Random(0))
            references = (None, part, turned(shifted(area.hr_msi, 0.5, 0.5), 5))
            cases += [(components(area.lr_hsi, one, area.camera), area.gt) for one in references]

    @torch.no_grad()
    def score(network: nn.Module) -> float:
        values = []
        for given, gt in cases:
            problem = DenoisingProblem.of(cast(Network, network), given.base.to(device), given.maps.to(device))
            noise = standard_normal(problem.base, torch.Generator().manual_seed(0))
            z = problem.denoise(noise, noise.new_zeros(len(noise)), problem.base)
            values.append(float(psnr_db(given.decode(z.cpu()), gt).mean()))
        return sum(values) / len(values)

    return score


def steps_within(minutes: float, pool: Pool, config: TrainConfig, accelerator: Accelerator) -> int:
    """How many steps of training take so long here: 25 are made and forgotten, the last twenty timed.

    Args:
        minutes: of training.
        pool: what is learned from.
        config: batch and the rest.
        accelerator: what it runs on.

    Raises:
        ValueError: a time that is not positive.
    """
    if not minutes > 0:
        fail("minutes", "a positive number", minutes)
    run = Run(new_denoiser(), graded_loss, config, accelerator=accelerator)
    times = []
    for _ in range(25):
        start = time.perf_counter()
        run.advance(pool)
        times.append(time.perf_counter() - start)
    return max(1, int(60 * minutes / (sum(times[5:]) / 20)))


def _card(run: Run, options: argparse.Namespace, crops: int, seconds: float) -> dict[str, Any]:
    """What is written beside the weights."""
    named = {"steps": run.step, "batch": options.batch, "areas": options.areas, "crops": crops, "seed": options.seed}
    named |= {"minutes": round(seconds / 60, 1), "device": device_name(run.device), "score_db": run.best_score}
    return named | {"versions": versions_here(), "history": run.history}


def _check_options(options: argparse.Namespace) -> TrainConfig:
    """Raises unless there can be a training with these; returns what the loop needs of them."""
    check_count(options.areas, "areas", at_most=MANY)
    check_count(options.workers, "workers", at_least=0, at_most=1024)
    check_count(options.seed, "seed", at_least=0, at_most=MOST_SEED)
    for name in ("minutes", "match_minutes"):
        value = getattr(options, name)
        if value is not None and not (value > 0 and (name == "match_minutes" or value <= 1e6)):
            fail(name, "a positive number", value)
    return TrainConfig(options.steps, options.batch, options.rate, ema=0.999)


def _steps(options: argparse.Namespace, pool: Pool, config: TrainConfig, accelerator: Accelerator) -> int:
    """The steps asked for: those of a run that goes on, where they were found from minutes."""
    if options.minutes is None:
        return config.steps
    if (options.out / STATE).is_file():
        _, metadata = load_tensors(options.out / STATE, kind="checkpoint")
        return int(json.loads(metadata["about"])["steps"])
    return steps_within(options.minutes, pool, config, accelerator)


def work(options: argparse.Namespace) -> None:
    """Trains; what is wrong with the options is said before anything is read, computed or written."""
    config = _check_options(options)
    check_out(options.out)
    accelerator = new_accelerator()
    micro_batch_of(config.batch, None, accelerator.num_processes)
    torch.manual_seed(options.seed)
    network = new_denoiser()
    if options.start is not None:
        load_module(network, options.start, part="fusion", preset="fusion")
    sources = embedded_sources(Camera.gaussian(scale=SCALE))
    corpus = {} if options.corpus is None else read_corpus(options.corpus)
    with locked(options.out) if accelerator.is_main_process else nullcontext():
        remove_parts(options.out)
        _train(options, config, network, accelerator, corpus, sources)
    print(f"weights and card.json are in {options.out}")


def _train(
    options: argparse.Namespace,
    config: TrainConfig,
    network: nn.Module,
    accelerator: Accelerator,
    corpus: Mapping[str, torch.Tensor],
    sources: Sequence[Source],
) -> None:
    """The work in a folder that no one else writes to."""
    # what the run is recognised by; the pool may end at another area each time, where its minutes are counted
    data = [{key: value for key, value in one.items() if key != "scene"} for one in data_of(sources)]
    about = {"corpus": digest_of(*corpus.values()), "data": data, "areas": options.areas}
    about["start"] = digest_of(*network.state_dict().values())
    start = time.perf_counter()
    pool = graded_pool(
        corpus, sources, areas=options.areas, seed=options.seed, workers=options.workers, minutes=options.match_minutes
    )
    pool = pool.to(accelerator.device)
    print(f"{len(pool)} crops, {time.perf_counter() - start:.0f} s", flush=True)
    config = replace(config, steps=_steps(options, pool, config, accelerator))
    every = max(1, config.steps // 8)
    config = replace(config, validate_every=every, save_every=every)
    start = time.perf_counter()
    run = fit(
        network, pool, graded_loss, graded_score(sources, accelerator.device), config, seed=options.seed, about=about,
        checkpoint=options.out / STATE, log=options.out / "log_fusion.csv", accelerator=accelerator,
    )  # fmt: skip
    path = options.out / "fusion.safetensors"
    told = {"seed": str(options.seed), "data": digest_of_text(json.dumps(about, sort_keys=True))}
    sealed = save_module(run.best, path, part="fusion", preset="fusion", **told)
    card = _card(run, options, len(pool), time.perf_counter() - start) | {"weights": {path.name: sealed}}
    write_card(card, options.out / "card.json")


def main(arguments: list[str] | None = None) -> int:
    """Runs the command; returns the exit status, see `ctmem.command`."""
    parser = Parser(
        prog="python -m ctmem.train.fusion", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--corpus", type=Path, metavar="FOLDER", help="of `python -m ctmem.data.corpus`")
    parser.add_argument("--areas", type=int, default=200, metavar="N", help="matched, each with two references")
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--steps", type=int, default=1000, metavar="N")
    length.add_argument("--minutes", type=float, metavar="N", help="of training, in place of a number of steps")
    parser.add_argument("--batch", type=int, default=32, metavar="N")
    parser.add_argument("--workers", type=int, default=0, metavar="N", help="processes that match (default: this one)")
    parser.add_argument("--match-minutes", type=float, default=math.inf, metavar="N", help="of matching, at most")
    parser.add_argument("--rate", type=float, default=1e-3, metavar="N", help="highest learning rate (default: 1e-3)")
    parser.add_argument("--start", type=Path, metavar="FILE", help="weights to go on from, a fusion.safetensors")
    parser.add_argument("--seed", type=int, default=0, metavar="N")
    parser.add_argument("--out", type=folder, default=Path("runs/fusion"), metavar="FOLDER")
    options = parser.parse_args(arguments)
    return run_command(lambda: work(options), f"stopped; the same command goes on from the checkpoint in {options.out}")


if __name__ == "__main__":
    sys.exit(main())
