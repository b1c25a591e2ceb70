"""What is computed in a shorter way, beside its definition: back-projection, search, Mamba stream, training step.

    python benchmarks/speed.py [--rounds 7]

Each pair takes turns in one process, on one thread, in wall-clock time; the definitions stand here or are what the package does
where the short way does not apply. A minute or two. Writes results/speed.md.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from unittest import mock

import machine
import torch
from torch import nn
from training import PARTS, random_pool

import ctmem
from ctmem.command import forgiving_output
from ctmem.config import TINY, MatchConfig
from ctmem.inference import blur_of
from ctmem.match import dmb, search
from ctmem.model import build_networks
from ctmem.networks import mamba, tcmm
from ctmem.observe.camera import Camera
from ctmem.train.loop import Run, new_accelerator

SIDE = 144  # of the query, fine pixels
READING = """\
`difference`: largest absolute one of the two results; of a search, of the scores, and of a training step, of the losses of the
first three (a weak test: the network hardly adds anything yet; `tests/test_mamba.py` compares all gradients). The definition of a
search computes all scores; that of a training step has the stream as torch's operations, images with their channels apart, and 1×1
convolutions by torch (Adam and the average of the weights are the same in both).
Back-projection: ten steps at full size. Numbers above 1 in `ratio` are gains."""


def full_size(camera: Camera, pred: torch.Tensor, lr_hsi: torch.Tensor) -> torch.Tensor:
    """Back-projection by its definition."""
    for _ in range(10):
        pred = pred + camera.upsample(lr_hsi - camera.downsample(pred))
    return pred


@contextmanager
def as_defined() -> Iterator[None]:
    """The network without the compiled stream, channels last and 1×1 convolutions as products."""
    with (
        mock.patch.object(mamba, "compiled_stream", return_value=None),
        mock.patch.object(tcmm, "channels_last", lambda x: x),
        mock.patch.object(tcmm.Pointwise, "forward", nn.Conv2d.forward),
    ):
        yield


def within(context: Callable, function: Callable[[], torch.Tensor]) -> Callable[[], torch.Tensor]:
    """The function, called inside a context."""

    def call() -> torch.Tensor:
        with context():
            return function()

    return call


def back_projections() -> tuple[Callable, Callable]:
    """160×160 px in 200 bands."""
    camera = Camera.gaussian(scale=4)
    lr_hsi = camera.observe(torch.rand(1, 200, 160, 160, generator=torch.Generator().manual_seed(0)))
    pred = camera.upsample(lr_hsi)
    return lambda: full_size(camera, pred, lr_hsi), lambda: camera.back_project(pred, lr_hsi)


def searches(top_k: int) -> tuple[Callable, Callable]:
    """Indian Pines in the Sentinel-2 scene, settings of the presets."""
    model = ctmem.load_model("tiny")
    scene = ctmem.load_scene("indian_pines")
    camera = model.camera.for_wavelengths(scene.wavelengths_nm)
    up = camera.upsample(camera.observe(scene.tensor()[..., :SIDE, :SIDE]))
    config = MatchConfig(top_k=top_k)
    reference = ctmem.load_scene("sentinel2_farmland").tensor()
    prepared = dmb.prepare(up, reference, camera, config, blur=blur_of(model, camera))
    find = lambda: dmb.find(prepared, config).scores
    return within(lambda: mock.patch.object(search, "WORTH", math.inf), find), find


def streams() -> tuple[Callable, Callable]:
    """Forward and backward of one Mamba block on the tokens of TINY's crops."""
    block = mamba.MambaBlock(TINY.denoiser.width, d_state=TINY.denoiser.state)
    tokens = torch.rand(4, TINY.crop**2, TINY.denoiser.width, generator=torch.Generator().manual_seed(0))
    tokens.requires_grad_()

    def both() -> torch.Tensor:
        return torch.autograd.grad(block(tokens).square().sum(), [tokens, *block.parameters()])[0]

    return within(as_defined, both), both


def steps() -> tuple[Callable, Callable]:
    """Three steps of TINY's denoiser; each of the two has a run of its own."""
    functions = []
    for _ in range(2):
        torch.manual_seed(0)
        run = Run(
            build_networks(TINY)["denoiser"], PARTS["denoiser"], TINY.train, accelerator=new_accelerator(cpu=True)
        )
        pool = random_pool()
        functions.append(lambda run=run, pool=pool: torch.tensor([run.advance(pool) for _ in range(3)]))
    return within(as_defined, functions[0]), functions[1]


def main() -> None:
    """Measures and writes."""
    forgiving_output()
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    pairs = {
        "back-projection, 160×160 px, 200 bands": back_projections(),
        "search, 64 windows kept": searches(64),
        "search, 1 window kept": searches(1),
        "Mamba block, forward and backward": streams(),
        "three training steps, denoiser of TINY": steps(),
    }
    rows = []
    for name, (slow, quick) in pairs.items():
        difference = float((slow() - quick()).abs().max())
        times = machine.interleaved({"slow": slow, "quick": quick}, rounds=options.rounds)
        cells = [f"{1000 * times[key]:.0f}" for key in ("slow", "quick")]
        rows.append([name, *cells, f"{times['slow'] / times['quick']:.1f}", f"{difference:.0e}"])
        print(rows[-1], flush=True)
    table = machine.table(["", "definition, ms", "now, ms", "ratio", "difference"], rows)
    machine.write("speed", f"# The short ways\n\n{machine.describe('numba')}\n\n{READING}\n\n{table}")


if __name__ == "__main__":
    main()
