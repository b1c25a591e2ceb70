"""Trains the component-wise prior on open imagery: `python -m ctmem.train.prior --corpus FOLDER --minutes 2`.

Each step draws grey crops (bands and principal components of the corpus and of the training areas of the shipped
scenes), a scale, and for each crop a camera: a Gaussian of FWHM 0.5 to 1.75 coarse pixels, some of them anisotropic,
or a box; no noise, or noise of 0.4 to 60 % of the deviation. It stops in time; every 20 seconds weights (in half
precision) and card are written, so that whatever stops it leaves the last ones.

Source: this project.
"""

from __future__ import annotations

import argparse
import copy
import math
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import torch
from torch.nn import functional as F

from ctmem.card import write_card
from ctmem.checks import check_count, fail, usual_state
from ctmem.command import MOST_SEED, Parser, folder, run_command
from ctmem.config import TINY
from ctmem.data.corpus import ORIGINS, read_corpus
from ctmem.diffusion.subspace import fit
from ctmem.files import check_out, check_writable, remove_parts, save_tensors
from ctmem.lock import locked
from ctmem.match.patches import turned
from ctmem.networks.component_prior import SCALES, ComponentPrior, transfer
from ctmem.observe.camera import Camera
from ctmem.observe.optics import upsample
from ctmem.train.identity import digest_of
from ctmem.train.loop import device_name, versions_here
from ctmem.train.sources import embedded_sources

SIDE = 168  # of a tile, pixels: the largest crop, 24 + 2·2 coarse pixels at scale 6
STEP = 88  # between tiles
PLAIN = 0.08  # deviation of a tile with nothing in it
MOST = 600  # tiles of one image
BANDS = 4  # images of fewer are taken so many times more often, since a place of theirs has fewer tiles
COARSE, RIM = 24, 2  # side of a crop, and what the blur may read beyond it, coarse pixels
ORDER = (4, 3, 4, 2, 4, 6)  # scales of the steps, over and over
HELD_OUT = 0.01  # share of the tiles that judge
SAVE_EVERY = 20.0  # seconds
RATE, WARMUP = 7e-4, 200  # highest learning rate, steps until it is reached
CAMERAS = {
    "scales": list(SCALES),
    "fwhm": "0.5 to 1.75 coarse pixels, the axes up to 1.65 times as wide as each other; box",
    "noise": "none, or 0.4 to 60 % of the deviation of a component",
}


def training_tiles(
    images: Mapping[str, torch.Tensor], areas: Mapping[str, torch.Tensor]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Grey tiles (N, SIDE, SIDE) of deviation about 1, in half precision, and how often each counts, (N,) whole.

    They are bands and principal components.

    Args:
        images: of the corpus, (C, H, W), NaN where there is no data; large ones at two or three resolutions.
        areas: to learn from in the shipped scenes, (C, H, W): components alone, four times as often.

    Raises:
        ValueError: no tile without holes in them.
    """
    found, times = [], []
    for image in images.values():
        parts = []
        for level in (1, 2, 3):
            if level == 1 or min(image.shape[1:]) // level >= 500:
                x = F.avg_pool2d(image[None], level)[0]
                parts.append(_tiles(_standard(x[: 4 if level == 1 else 2]), STEP))
                parts.append(_tiles(_components(x, 4)[1:], STEP))
        seen = _not_plain(torch.cat(parts))
        seen = seen[torch.linspace(0, len(seen) - 1, min(len(seen), MOST)).long()]
        found.append(seen)
        times.append(max(1, BANDS // len(image)))
    for area in areas.values():
        found.append(_not_plain(_tiles(_components(area, 8), STEP // 2)))
        times.append(BANDS)
    tiles = torch.cat(found) if found else torch.empty(0)
    if not len(tiles):
        fail("images", f"some with {SIDE}×{SIDE} px of data", "none")
    return tiles, torch.tensor(times).repeat_interleave(torch.tensor([len(seen) for seen in found]))


def _not_plain(tiles: torch.Tensor) -> torch.Tensor:
    """Those of the tiles (N, SIDE, SIDE) that have something in them."""
    return tiles[tiles.float().std((1, 2)) > PLAIN] if len(tiles) else tiles


def _standard(x: torch.Tensor) -> torch.Tensor:
    """Bands (C, H, W) with mean 0 and deviation 1 where there is data."""
    valid = x[:, torch.isfinite(x).all(0)]
    return (x - valid.mean(1)[:, None, None]) / (valid.std(1) + 1e-6)[:, None, None]


def _components(x: torch.Tensor, most: int) -> torch.Tensor:
    """Principal components (Z, H, W) with mean 0 and deviation 1 where there is data; very weak ones are left out."""
    valid = x[:, torch.isfinite(x).all(0)]
    space = fit(valid[None, :, None], most)
    strong = space.std > 3e-3 * space.std[0]
    directions = (space.basis / space.std)[:, strong]
    return torch.einsum("cz,chw->zhw", directions, x - space.mean[:, None, None])


def _tiles(x: torch.Tensor, step: int) -> torch.Tensor:
    """Tiles without holes of all bands (C, H, W), at least one of each; smaller images are mirrored."""
    for axis in (1, 2):
        side = x.shape[axis]
        there_and_back = torch.arange(max(side, SIDE)) % (2 * side)
        x = x.index_select(axis, torch.minimum(there_and_back, 2 * side - 1 - there_and_back))
    tops, lefts = (sorted({*range(0, side - SIDE + 1, step), side - SIDE}) for side in x.shape[1:])
    tiles = torch.cat([x[:, i : i + SIDE, j : j + SIDE] for i in tops for j in lefts])
    return tiles[torch.isfinite(tiles).all(2).all(1)].half()


class Batches:
    """Draws crops, observes them through cameras drawn at random, on the device of the tiles."""

    def __init__(self, tiles: torch.Tensor, batch: int, seed: int, times: torch.Tensor | None = None):
        self.tiles = tiles
        times = torch.ones(len(tiles), dtype=torch.long) if times is None else times
        self.numbers = torch.arange(len(tiles)).repeat_interleave(times.cpu()).to(tiles.device)
        self.batch = batch
        self.generator = torch.Generator(tiles.device).manual_seed(seed)

    def draw(self, scale: int) -> tuple[tuple[torch.Tensor, ...], torch.Tensor]:
        """What the network is given (y, y_up, mtf, noise), and the fine crop (batch, 1, H, W)."""
        x = self._crops((COARSE + 2 * RIM) * scale)
        # two profiles of the blur per crop; the coarse pixels of a crop as two matrix products
        uniform = self._uniform
        width = scale * torch.where(uniform() < 0.25, 1.0, 0.5 + 1.25 * uniform())
        stretch = torch.where(uniform() < 0.25, ((uniform() - 0.5) / 2).exp(), 1.0)
        box = uniform() < 0.12
        centres = (torch.arange(COARSE, device=x.device) + RIM + 0.5) * scale
        distance = torch.arange(x.shape[-1], device=x.device) + 0.5 - centres[:, None]
        rows, columns = (_profiles(distance, w, box, scale) for w in (width * stretch, width / stretch))
        y = rows @ x @ columns.mT
        around = torch.arange(8 * scale, device=x.device) + 0.5 - 4 * scale
        mtf = [transfer(_profiles(around, w, box, scale), scale) for w in (width * stretch, width / stretch)]
        # noise, in shares of the deviation; four crops of ten have none
        share = (math.log(0.004) + uniform() * math.log(0.6 / 0.004)).exp()
        noise = torch.where(uniform() < 0.4, 0.0, share) * y.std((1, 2))
        y = y + noise[:, None, None] * torch.randn(y.shape, device=x.device, generator=self.generator)
        y = y[:, None]
        inner = slice(RIM * scale, -RIM * scale)
        return (y, upsample(y, scale), torch.cat(mtf, 1), noise), x[:, None, inner, inner]

    def _uniform(self) -> torch.Tensor:
        """Numbers in [0, 1), one per crop."""
        return torch.rand(self.batch, device=self.tiles.device, generator=self.generator)

    def _whole(self, below: int) -> torch.Tensor:
        """Whole numbers from 0, (batch, 1, 1)."""
        return (self._uniform() * below).long().clamp_max(below - 1)[:, None, None]

    def _crops(self, side: int) -> torch.Tensor:
        """Crops (batch, side, side) with random places, signs and turns."""
        which = self.numbers[self._whole(len(self.numbers))]
        top, left = self._whole(SIDE - side + 1), self._whole(SIDE - side + 1)
        along = torch.arange(side, device=self.tiles.device)
        x = self.tiles[which, top + along[:, None], left + along].float() * (2 * self._whole(2) - 1)
        return torch.cat([turned(part[:, None], k)[:, 0] for k, part in enumerate(x.chunk(8))])


def _profiles(distance: torch.Tensor, fwhm: torch.Tensor, box: torch.Tensor, scale: int) -> torch.Tensor:
    """Weights (B, …, k) of a Gaussian blur, or a box, at distances (…, k) from its middle, fine pixels; sums of 1."""
    shape = (-1, *[1] * distance.ndim)
    gauss = torch.exp(-4 * math.log(2) * (distance / fwhm.reshape(shape)).square())
    weights = torch.where(box.reshape(shape), (distance.abs() <= scale / 2).float(), gauss)
    return weights / weights.sum(-1, keepdim=True)


@usual_state(learning=True)
def train_prior(
    tiles: torch.Tensor,
    folder: str | Path,
    *,
    minutes: float,
    times: torch.Tensor | None = None,
    batch: int = 256,
    rate: float = RATE,
    bf16: bool = False,
    seed: int = 0,
    sizes: Mapping[str, int] | None = None,
    data: list[dict[str, str]] | None = None,
) -> dict[str, Any]:
    """Trains in the time given, writes prior.safetensors and card.json to `folder`, and returns the card.

    Args:
        tiles: of `training_tiles`, on the device to train on.
        folder: to write to.
        minutes: of training, at least one step.
        times: how often each tile counts, (N,) whole numbers; None: once.
        batch: crops per step.
        rate: the highest learning rate.
        bf16: matrix products in bfloat16.
        seed: of weights and crops.
        sizes: of `ComponentPrior`.
        data: what the card says of the images.

    Raises:
        ValueError: a time or a rate that is not positive, a count below 1.
        RuntimeError: after the warm-up it is 1 dB worse than bicubic enlargement; what was written before stays.
        OSError: weights cannot be written, or another process writes to the folder.
    """
    check_options(minutes=minutes, batch=batch, rate=rate, seed=seed)
    check_out(folder, "folder")
    with locked(folder):
        check_writable(folder)
        remove_parts(Path(folder))
        return _train(tiles, Path(folder), minutes, times, batch, rate, bf16, seed, dict(sizes or {}), data)


def check_options(*, minutes: float, batch: int, rate: float, seed: int) -> None:
    """Raises unless there can be a training with these.

    Raises:
        ValueError: one out of its bounds.
    """
    for name, value, most in (("minutes", minutes, 1e6), ("rate", rate, 1000.0)):
        if not 0 < value <= most:
            fail(name, f"a positive number, at most {most:g}", value)
    check_count(batch, "batch", at_most=65_536)
    check_count(seed, "seed", at_least=0, at_most=MOST_SEED)


def _train(
    tiles: torch.Tensor,
    folder: Path,
    minutes: float,
    times: torch.Tensor | None,
    batch: int,
    rate: float,
    bf16: bool,
    seed: int,
    sizes: dict[str, int],
    data: list[dict[str, str]] | None,
) -> dict[str, Any]:
    """`train_prior` in a folder that no one else writes to."""
    device = tiles.device
    # tiles that judge, network, average
    held = torch.rand(len(tiles), generator=torch.Generator().manual_seed(seed)) < HELD_OUT
    held[0] = True
    seen = torch.ones_like(held) if held.all() else ~held
    learned = Batches(tiles[seen.to(device)], batch, seed, None if times is None else times[seen])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = ComponentPrior(**sizes)
    network.to(device)
    if device.type == "cuda":
        cast(Any, network).to(memory_format=torch.channels_last)  # which the types of torch do not know
    average = copy.deepcopy(network).requires_grad_(False)
    optimizer = torch.optim.AdamW(network.parameters(), rate, weight_decay=1e-5, fused=device.type == "cuda")
    sizes = {name: getattr(network, name) for name in ("width", "blocks", "head")}
    card: dict[str, Any] = {"network": sizes, "camera": CAMERAS, "data": data or [], "seed": seed}
    card["digest"] = digest_of(tiles)
    card |= {"versions": versions_here(), "device": device_name(device)}
    start = saved = time.perf_counter()
    step, share = 0, 0.0
    while share < 1 or step == 0:
        # one step, at a rate that falls to 0 at the end of the time
        for group in optimizer.param_groups:
            group["lr"] = rate * min(1.0, (step + 1) / WARMUP) * 0.5 * (1 + math.cos(math.pi * min(share, 1.0)))
        scale = ORDER[step % len(ORDER)]
        given, gt = learned.draw(scale)
        with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            pred = network(*given, scale)
        error = pred.float() - gt
        loss = error.abs().mean() / 2 + (error.square().mean((1, 2, 3)) + 1e-6).sqrt().mean() / 2
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        step += 1
        with torch.no_grad():
            for mean, current in zip(average.parameters(), network.parameters()):
                mean.lerp_(current, 1 - min(0.9995, step / (step + 20)))
        # the time that is over, and what is due
        now = time.perf_counter()
        share = (now - start) / (60 * minutes)
        if share >= 1 or now - saved > SAVE_EVERY:
            saved = now
            gains = judge(average, tiles[held.to(device)], min(batch, 64), bf16)
            if step > WARMUP and not all(gain >= -1 for gain in gains.values()):
                raise RuntimeError(
                    f"the training went astray, over bicubic: {gains} dB; a `rate` below {rate} may help"
                )
            count = sum(parameter.numel() for parameter in network.parameters())
            card |= {"steps": step, "minutes": round((now - start) / 60, 2)}
            card |= {"metrics": {"parameters": count, "gain_db over bicubic, tiles not drawn": gains}}
            half = {name: x.half() for name, x in average.state_dict().items()}
            about = {"part": "prior", "preset": "prior", "seed": str(seed), "data": card["digest"]}
            sealed = save_tensors(half, folder / "prior.safetensors", about)
            card = write_card(card | {"weights": {"prior.safetensors": sealed}}, folder / "card.json")
            print(f"{step} steps, {now - start:.0f} s, over bicubic: {gains}", flush=True)
    return card


@torch.no_grad()
def judge(network: ComponentPrior, tiles: torch.Tensor, batch: int, bf16: bool = False) -> dict[str, float]:
    """PSNR over that of bicubic enlargement, dB, per scale, on a batch of crops that is the same every time."""
    gains = {}
    for scale in SCALES:
        given, gt = Batches(tiles, batch, seed=7).draw(scale)
        with torch.autocast(tiles.device.type, torch.bfloat16, enabled=bf16):
            pred = network(*given, scale).float()
        mine, bicubic = ((x - gt).square().mean((1, 2, 3)).clamp_min(1e-8) for x in (pred, given[1]))
        gains[f"x{scale}"] = round(float(10 * (bicubic / mine).log10().mean()), 3)
    return gains


def work(options: argparse.Namespace) -> None:
    """Trains; what is wrong with the options is said before anything is read, computed or written."""
    check_options(minutes=options.minutes, batch=options.batch, rate=options.rate, seed=options.seed)
    check_out(options.out)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    torch.backends.cudnn.benchmark = True
    # what is learned from
    images = read_corpus(options.corpus)
    sources = embedded_sources(Camera.from_config(TINY.camera))
    areas = {source.name: source.scene.cut(source.train).gt[0] for source in sources if source.train}
    data = [{"package": name, "licence": licence, "images": what} for name, (_, licence, what) in ORIGINS.items()]
    data += [{"training area of": name, "licence": "see data/README.md"} for name in areas]
    tiles, times = training_tiles(images, areas)
    print(f"{len(tiles)} tiles", flush=True)
    train_prior(
        tiles.to(device), options.out, minutes=options.minutes, times=times, batch=options.batch, rate=options.rate,
        bf16=options.precision == "bf16", seed=options.seed, data=data,
    )  # fmt: skip
    print(f"weights and card.json are in {options.out}")


def main(arguments: list[str] | None = None) -> int:
    """Runs the command; returns the exit status, see `ctmem.command`."""
    parser = Parser(prog="python -m ctmem.train.prior", description=__doc__.splitlines()[0])
    parser.add_argument("--corpus", required=True, metavar="FOLDER", help="as `python -m ctmem.data.corpus` makes it")
    parser.add_argument("--minutes", type=float, default=2.0, metavar="N", help="of training (default: 2)")
    parser.add_argument("--batch", type=int, default=256, metavar="N", help="crops per step (default: 256)")
    parser.add_argument("--rate", type=float, default=RATE, metavar="N", help=f"highest (default: {RATE})")
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32", help="of matrix products")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of weights and crops (default: 0)")
    parser.add_argument("--out", type=folder, default=Path("runs/prior"), metavar="FOLDER", help="for weights and card")
    options = parser.parse_args(arguments)
    return run_command(lambda: work(options), f"stopped; what was written last is in {options.out}")


if __name__ == "__main__":
    sys.exit(main())
