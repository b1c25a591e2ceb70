"""Trains the estimator of blurs on open imagery: `python -m ctmem.train.blur --corpus FOLDER`. Minutes on a CPU.

Crops of the corpus, at one to four resolutions, are seen as a scene is: mixtures of their bands, some of another
contrast, pass a Gaussian blur of FWHM 0.4 to 1.9 coarse pixels or a box, with no noise or some; of what is observed the
strongest principal components are looked at.

Source: this project.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional as F

from ctmem.card import write_card
from ctmem.checks import Count, Size, Whole, fail, typed, usual_state
from ctmem.command import Parser, folder, run_command
from ctmem.data.corpus import ORIGINS, read_corpus
from ctmem.files import check_out, check_writable, save_tensors
from ctmem.networks.blur_width import TOO_NOISY, BlurWidth, features, together
from ctmem.observe.camera import SIGMA_TO_FWHM
from ctmem.train.identity import digest_of
from ctmem.train.loop import device_name, versions_here

SCALE = 4  # fine pixels per coarse pixel of all crops
SIDE, STEP = 112, 64  # of a tile, fine pixels: the largest crop, 24 + 2·2 coarse pixels; between tiles
LEVELS = (1, 2, 3, 4)  # images are averaged by these: the larger, the sharper
MOST = 60  # tiles of one image at one level
NARROWEST, WIDEST = 0.4, 1.9  # FWHM, coarse pixels
PIXEL = SIGMA_TO_FWHM / math.sqrt(12)  # FWHM of the Gaussian with the second moments of a box of one pixel
BOXES = 0.1  # share of the crops
NOISY, LEAST, LOUDEST = 0.65, 0.001, 0.3  # share of the crops with noise; its deviation, over the strongest component's
CHANNELS, COMPONENTS = 6, 5  # mixtures of bands, and components of them
BRIGHT, TWO = 0.35, 0.2  # share of the mixtures that become bright things on dark ground, or two kinds of ground
FAINT = 1e-3  # deviation of a component, over the strongest, below which it is left out
SIZES = ((24, 24), (16, 16), (24, 24), (10, 10), (24, 4))  # coarse pixels of the crops, over and over
RIM = 2  # what the blur may read beyond
GROUPS, EACH = 5, 24  # batches of crops of an image at one resolution, and crops of a batch
BATCH, STEPS, RATE = 256, 2500, 2e-3
HELD_OUT = 0.15  # share of the images that judge


@typed
def ground_of(image: torch.Tensor) -> list[torch.Tensor]:
    """Returns tiles of ground, (N, C, SIDE, SIDE) at each resolution, bands of deviation about 1; none of a small image.

    Args:
        image: (C, H, W), NaN where there is no data.
    """
    found = []
    for level in LEVELS:
        x = F.avg_pool2d(image[None], level)[0]
        if min(x.shape[1:]) < SIDE:
            break
        valid = x[:, torch.isfinite(x).all(0)]
        x = (x - valid.mean(1)[:, None, None]) / (valid.std(1) + 1e-6)[:, None, None]
        tops, lefts = (sorted({*range(0, length - SIDE + 1, STEP), length - SIDE}) for length in x.shape[1:])
        tiles = torch.stack([x[:, i : i + SIDE, j : j + SIDE] for i in tops for j in lefts])
        tiles = tiles[torch.isfinite(tiles).flatten(1).all(1)]
        if len(tiles):
            found.append(tiles[torch.linspace(0, len(tiles) - 1, min(len(tiles), MOST)).long()].half())
    return found


@typed
def observed(
    tiles: torch.Tensor, size: Sequence[int], count: Size, generator: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Draws crops of tiles and observes them, as a scene is.

    Args:
        tiles: of one image, (N, C, side, side).
        size: rows and columns of the crops, coarse pixels.
        count: of crops.
        generator: of all that is drawn.

    Returns:
        Whitened components (count, 5, h, w), strongest first; the deviation of their noise, (count, 5); which of them
        tell of the blur, (count, 5) bool; the logarithm of the FWHM of all that blurs, coarse pixels, (count,).
    """
    rows, columns = ((length + 2 * RIM) * SCALE for length in size)
    uniform = torch.rand(6, count, 1, 1, generator=generator)
    x = _contrasts(_crops(tiles, rows, columns, count, generator), generator)
    # blur, as matrices from fine to coarse pixels
    width = NARROWEST + (WIDEST - NARROWEST) * uniform[0]
    box = uniform[1] < BOXES
    down, across = (_profiles(length, width, box)[:, None] for length in size)
    y = down @ x @ across.mT
    # noise, the same in all channels
    share = (math.log(LEAST) + uniform[2] * math.log(LOUDEST / LEAST)).exp()
    strongest = torch.linalg.matrix_norm(y - y.mean((2, 3), keepdim=True)).amax(1) / math.sqrt(size[0] * size[1])
    noise = torch.where(uniform[3] < NOISY, share, 0.0)[:, 0, 0] * strongest
    y = y + noise[:, None, None, None] * torch.randn(y.shape, generator=generator)
    # components
    y = y - y.mean((2, 3), keepdim=True)
    values, vectors = torch.linalg.eigh(torch.einsum("bchw,bdhw->bcd", y, y) / (size[0] * size[1]))
    std = values.flip(1)[:, :COMPONENTS].clamp_min(1e-12).sqrt()
    z = torch.einsum("bck,bchw->bkhw", vectors.flip(2)[:, :, :COMPONENTS], y) / std[:, :, None, None]
    noise = noise[:, None] / std
    told = (noise <= TOO_NOISY) & (std > FAINT * std[:, :1])
    told[:, 0] = True
    total = torch.where(box, PIXEL, width)[:, 0, 0].square() + (PIXEL / SCALE) ** 2
    return z, noise, told, total.log() / 2


def _crops(tiles: torch.Tensor, rows: int, columns: int, count: int, generator: torch.Generator) -> torch.Tensor:
    """Crops (count, C, rows, columns) at random places."""
    which = torch.randint(len(tiles), (count,), generator=generator).tolist()
    tops, lefts = (
        torch.randint(side - length + 1, (count,), generator=generator).tolist()
        for side, length in zip(tiles.shape[2:], (rows, columns))
    )
    places = zip(which, tops, lefts)
    return torch.stack([tiles[n, :, i : i + rows, j : j + columns] for n, i, j in places]).float()


def _contrasts(x: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Mixtures of the bands (B, C, H, W) with contrasts of several kinds, (B, 6, H, W), each of deviation about 1."""
    mix = torch.randn(len(x), CHANNELS, x.shape[1], generator=generator)
    x = torch.einsum("bkc,bchw->bkhw", mix / mix.norm(dim=2, keepdim=True), x)
    kind, steep, place = torch.rand(3, len(x), CHANNELS, 1, 1, generator=generator)
    bright = torch.expm1(1.5 * steep * x.clamp(-4, 4))
    two = torch.tanh((1 + 4 * steep) * (x - (2 * place - 1)))
    x = torch.where(kind < BRIGHT, bright, torch.where(kind < BRIGHT + TWO, two, x))
    strength = torch.exp(torch.randn(len(x), CHANNELS, 1, 1, generator=generator) / 2)
    return strength * x / (x.std((2, 3), keepdim=True) + 0.05)


def _profiles(length: int, width: torch.Tensor, box: torch.Tensor) -> torch.Tensor:
    """Weights of fine pixels in coarse ones, (B, length, (length + 2·RIM)·SCALE), of blurs (B, 1, 1)."""
    centres = (torch.arange(length)[:, None] + RIM + 0.5) * SCALE
    distance = torch.arange((length + 2 * RIM) * SCALE) + 0.5 - centres
    gauss = torch.exp(-4 * math.log(2) * (distance / (width * SCALE)).square())
    weights = torch.where(box, (distance.abs() <= SCALE / 2).float(), gauss)
    return weights / weights.sum(-1, keepdim=True)


def _told(
    ground: Sequence[torch.Tensor], groups: int, generator: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """What is told of crops of all images: numbers (N, 5, F), which of them count (N, 5), logarithms of widths (N,)."""
    found = []
    rank = torch.arange(COMPONENTS, dtype=torch.float64)
    for tiles in ground:
        for number in range(groups):
            size = SIZES[number % len(SIZES)]
            z, noise, told, width = observed(tiles, size, EACH, generator)
            x = features(z.flatten(0, 1)[:, None], noise.flatten(), rank.repeat(EACH))
            found.append((x.unflatten(0, (EACH, COMPONENTS)), told, width))
    x, told, width = (torch.cat(part) for part in zip(*found))
    return x, told, width


@usual_state(learning=True)
@typed
def train_blur(
    images: Mapping[str, torch.Tensor], out: str | Path, *, groups: Count = GROUPS, steps: Count = STEPS,
    seed: Whole = 0, data: list[dict[str, str]] | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Trains, writes blur.safetensors and card.json to the folder `out`, and returns the card.

    Args:
        images: of the corpus, (C, H, W), NaN where there is no data; about one of seven judges, if there are so many.
        out: folder to write to.
        groups: of 24 crops each, of every image at every resolution.
        steps: of the optimiser.
        seed: of weights and crops.
        data: what the card says of the images.

    Raises:
        ValueError: no image that is large enough.
        OSError: the folder cannot be written.
    """
    check_out(out, "out")
    check_writable(out)
    begin = time.perf_counter()
    generator = torch.Generator().manual_seed(seed)
    ground = {name: tiles for name, image in images.items() if (tiles := ground_of(image))}
    if not ground:
        fail("images", f"some with {SIDE}×{SIDE} px of data", "none")
    order = [list(ground)[i] for i in torch.randperm(len(ground), generator=generator).tolist()]
    judges = order[: int(HELD_OUT * len(order))]
    seen_ground = [tiles for name in ground if name not in judges for tiles in ground[name]]
    learned = _told(seen_ground, groups, generator)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = BlurWidth()
    seen = learned[0][learned[1]]
    network.mean, network.std = seen.mean(0), seen.std(0) + 1e-6
    _fit(network, learned, steps, generator)
    metrics = {"error of the logarithm of the width, crops that were learned from": _error(network.eval(), learned)}
    if judges:
        judged = _told([tiles for name in ground if name in judges for tiles in ground[name]], groups, generator)
        metrics["the same, images that were not"] = _error(network, judged)
    card: dict[str, Any] = {"network": {"width": network.width}, "data": data or [], "seed": seed, "steps": steps}
    card |= {"crops": len(seen), "not learned from": sorted(judges), "digest": digest_of(*seen_ground)}
    card |= {"versions": versions_here(), "device": device_name(torch.device("cpu"))}
    card["minutes"] = round((time.perf_counter() - begin) / 60, 1)
    card["camera"] = {"fwhm": f"{NARROWEST} to {WIDEST} coarse pixels, or a box", "scale": SCALE}
    card["metrics"] = metrics
    about = {"part": "blur", "preset": "blur", "seed": str(seed), "data": card["digest"]}
    sealed = save_tensors(network.state_dict(), Path(out) / "blur.safetensors", about)
    return write_card(card | {"weights": {"blur.safetensors": sealed}}, Path(out) / "card.json")


@torch.no_grad()
def _error(network: BlurWidth, told: tuple[torch.Tensor, torch.Tensor, torch.Tensor]) -> float:
    """Root mean square of the errors of crops."""
    mean, _ = together(network(told[0].flatten(0, 1)).unflatten(0, told[1].shape), told[1])
    return round(float((mean - told[2]).square().mean().sqrt()), 3)


def _fit(
    network: BlurWidth, told: tuple[torch.Tensor, torch.Tensor, torch.Tensor], steps: int, generator: torch.Generator
) -> None:
    """Maximum likelihood of a normal distribution of the logarithm, of what the components of a crop say together."""
    optimizer = torch.optim.Adam(network.parameters(), RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(steps):
        some = torch.randint(len(told[2]), (BATCH,), generator=generator)
        x, counts, target = (one[some] for one in told)
        mean, variance = together(network(x.flatten(0, 1)).unflatten(0, counts.shape), counts)
        loss = ((target - mean).square() / variance + variance.log()).mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        schedule.step()


def work(options: argparse.Namespace) -> None:
    """Trains; what is wrong with the options is said before anything is read, computed or written."""
    check_out(options.out)
    images = read_corpus(options.corpus)
    data = [{"package": name, "licence": licence, "images": what} for name, (_, licence, what) in ORIGINS.items()]
    card = train_blur(images, options.out, seed=options.seed, data=data)
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
