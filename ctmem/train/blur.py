"""Trains the estimator of blurs on open imagery: `python -m ctmem.train.blur --corpus FOLDER`. Minutes on a CPU.

Crops of the corpus (bands and principal components, as the prior's) are seen through Gaussian blurs of FWHM 0.4 to 1.9
coarse pixels and boxes, at scales of 4 and 6, with no noise or some.

Source: this project.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from pathlib import Path
from typing import Any

import torch

from ctmem.card import write_card
from ctmem.checks import Count, Size, typed, usual_state
from ctmem.command import Parser, folder, run_command
from ctmem.data.corpus import ORIGINS, read_corpus
from ctmem.files import check_out, check_writable, save_tensors
from ctmem.networks.blur_width import BlurWidth, features
from ctmem.observe.camera import SIGMA_TO_FWHM
from ctmem.train.identity import digest_of
from ctmem.train.loop import device_name, versions_here
from ctmem.train.prior import SIDE, training_tiles

NARROWEST, WIDEST = 0.4, 1.9  # FWHM, coarse pixels
BOX_WIDTH = SIGMA_TO_FWHM / math.sqrt(12)  # FWHM of the Gaussian with the second moments of a box of one coarse pixel
BOXES = 0.1  # share of the crops
NOISY, LEAST, MOST = 0.65, 0.003, 0.5  # share of the crops with noise; its deviation, over that of the crop
PLAIN = 0.1  # deviation of a crop with nothing in it
COARSE, RIM = 24, 2  # coarse pixels of a crop, and what the blur may read beyond
ORDER = (4, 6)  # scales of the batches, over and over: the corpus is blurred itself, which counts less at large ones
BATCH, STEPS, RATE = 512, 6000, 2e-3
HELD_OUT = 0.1  # share of the crops that judge


@typed
def observed(
    tiles: torch.Tensor, scale: Count, count: Size, generator: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Draws crops and observes them: components (n, 1, 24, 24), noise (n,), FWHM in coarse pixels (n,); n ≤ count.

    Args:
        tiles: of the corpus, (N, 168, 168).
        scale: fine pixels per coarse pixel.
        count: crops that are drawn; those with nothing in them are left out.
        generator: of all that is drawn.
    """
    side = (COARSE + 2 * RIM) * scale
    which = torch.randint(len(tiles), (count, 1, 1), generator=generator)
    top, left = (torch.randint(SIDE - side + 1, (count, 1, 1), generator=generator) for _ in range(2))
    along = torch.arange(side)
    x = tiles[which, top + along[:, None], left + along].float()
    # blurs, as matrices from fine to coarse pixels
    uniform = torch.rand(4, count, generator=generator)
    width = NARROWEST + (WIDEST - NARROWEST) * uniform[0]
    box = uniform[1] < BOXES
    distance = along + 0.5 - (torch.arange(COARSE)[:, None] + RIM + 0.5) * scale
    gauss = torch.exp(-4 * math.log(2) * (distance / (width * scale)[:, None, None]).square())
    weights = torch.where(box[:, None, None], (distance.abs() <= scale / 2).float(), gauss)
    weights = weights / weights.sum(-1, keepdim=True)
    y = (weights @ x @ weights.mT)[:, None]
    # noise
    deviation = y.std((1, 2, 3))
    share = (math.log(LEAST) + uniform[2] * math.log(MOST / LEAST)).exp()
    noise = torch.where(uniform[3] < NOISY, share, 0.0) * deviation
    y = y + noise[:, None, None, None] * torch.randn(y.shape, generator=generator)
    seen = deviation > PLAIN
    return y[seen], noise[seen], torch.where(box, torch.full_like(width, BOX_WIDTH), width)[seen]


@usual_state(learning=True)
@typed
def train_blur(
    tiles: torch.Tensor, out: str | Path, *, batches: Count = 400, steps: Count = STEPS, seed: int = 0,
    data: list[dict[str, str]] | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Trains, writes blur.safetensors and card.json to the folder `out`, and returns the card.

    Args:
        tiles: of `training_tiles`, (N, 168, 168).
        out: folder to write to.
        batches: of 256 crops each, that are observed.
        steps: of the optimiser.
        seed: of weights and crops.
        data: what the card says of the images.

    Raises:
        OSError: the folder cannot be written.
    """
    check_out(out, "out")
    check_writable(out)
    begin = time.perf_counter()
    generator = torch.Generator().manual_seed(seed)
    drawn = [observed(tiles, ORDER[number % len(ORDER)], 256, generator) for number in range(batches)]
    x = torch.cat([features(y, noise) for y, noise, _ in drawn])
    target = torch.cat([width for _, _, width in drawn]).log()
    held = torch.rand(len(x), generator=generator) < HELD_OUT
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = BlurWidth()
    network.mean, network.std = x[~held].mean(0), x[~held].std(0) + 1e-6
    _fit(network, x[~held], target[~held], steps, generator)
    with torch.no_grad():
        error = network.eval()(x[held])[:, 0] - target[held]
    card: dict[str, Any] = {"network": {"width": network.width}, "data": data or [], "seed": seed, "steps": steps}
    card |= {"crops": len(x), "digest": digest_of(tiles), "versions": versions_here()}
    card |= {"minutes": round((time.perf_counter() - begin) / 60, 1), "device": device_name(torch.device("cpu"))}
    card["camera"] = {"fwhm": f"{NARROWEST} to {WIDEST} coarse pixels, or a box", "scales": sorted(set(ORDER))}
    card["metrics"] = {"error of the logarithm of the width, crops not learned from": round(float(error.std()), 3)}
    about = {"part": "blur", "preset": "blur", "seed": str(seed), "data": card["digest"]}
    sealed = save_tensors(network.state_dict(), Path(out) / "blur.safetensors", about)
    return write_card(card | {"weights": {"blur.safetensors": sealed}}, Path(out) / "card.json")


def _fit(network: BlurWidth, x: torch.Tensor, target: torch.Tensor, steps: int, generator: torch.Generator) -> None:
    """Maximum likelihood of a normal distribution of the logarithm."""
    optimizer = torch.optim.Adam(network.parameters(), RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(steps):
        some = torch.randint(len(x), (BATCH,), generator=generator)
        mean, log_variance = network(x[some]).unbind(1)
        loss = ((target[some] - mean).square() * (-log_variance).exp() + log_variance).mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        schedule.step()


def work(options: argparse.Namespace) -> None:
    """Trains; what is wrong with the options is said before anything is read, computed or written."""
    check_out(options.out)
    tiles, _ = training_tiles(read_corpus(options.corpus), {})
    data = [{"package": name, "licence": licence, "images": what} for name, (_, licence, what) in ORIGINS.items()]
    card = train_blur(tiles, options.out, seed=options.seed, data=data)
    print(f"{card['crops']} crops, {card['metrics']}; weights and card.json are in {options.out}")


def main(arguments: list[str] | None = None) -> int:
    """Runs the command; returns the exit status, see `ctmem.command`."""
    parser = Parser(prog="python -m ctmem.train.blur", description=__doc__.splitlines()[0])
    parser.add_argument("--corpus", required=True, metavar="FOLDER", help="as `python -m ctmem.data.corpus` makes it")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of weights and crops (default: 0)")
    parser.add_argument("--out", type=folder, default=Path("runs/blur"), metavar="FOLDER", help="for weights and card")
    options = parser.parse_args(arguments)
    return run_command(lambda: work(options), f"stopped; nothing whole is in {options.out}")


if __name__ == "__main__":
    sys.exit(main())
