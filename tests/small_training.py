"""A preset and a generated scene small enough to train on in seconds, for the tests of pool and training."""

import os
import resource
from dataclasses import replace
from pathlib import Path

import torch

from ctmem.config import TINY
from ctmem.data.areas import split_areas
from ctmem.data.samples import degrade_scene
from ctmem.data.scenes import synthetic
from ctmem.observe.camera import Camera
from ctmem.train.sources import Source
from ctmem.train.stages import train

SMALL = replace(
    TINY,
    crop=16,
    timesteps=50,
    denoiser=replace(TINY.denoiser, width=8, state=2, subspace=4, cim_blocks=1),
    cnn_width=8,
    kernel_width=16,
    kernel_steps=3,
    cnn_steps=4,
    train=replace(TINY.train, steps=6, batch=2, validate_every=2, save_every=2, warmup=2),
)


def small_source(scale: int = 4) -> Source:
    """One generated scene with two references."""
    scene = synthetic(0, height=96, width=128, bands=31)
    camera = Camera.from_config(replace(SMALL.camera, scale=scale)).for_wavelengths(scene.wavelengths_nm)
    degraded = degrade_scene(scene.tensor(), camera)
    areas = split_areas(96, 128, camera)
    reference = degraded.cut(areas["reference"]).hr_msi
    return Source("synthetic", degraded, areas["train"], areas["validation"], (reference, reference.flip(2)))


def train_in_a_process(folder: Path) -> None:
    """A training run of some seconds, as all that a process does."""
    os.environ["CTMEM_QUIET"] = "1"
    torch.set_num_threads(1)
    longer = replace(SMALL.train, steps=16, save_every=3, validate_every=5)
    train(replace(SMALL, train=longer, cnn_steps=20, kernel_steps=5), [small_source()], folder)


def train_on_a_full_disk(folder: Path, limit_bytes: int) -> None:
    """The same where no file may grow beyond a limit; the message of the error goes to `error.txt`."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit_bytes, limit_bytes))
    try:
        train_in_a_process(folder)
    except OSError as error:
        (folder / "error.txt").write_text(str(error), encoding="utf-8")
