"""A preset and a generated scene small enough to train on in seconds, for the tests of pool and training."""

from dataclasses import replace

from ctmem.config import TINY
from ctmem.pairs import degrade_scene, split_areas
from ctmem.pool import Source
from ctmem.scenes import synthetic
from ctmem.sensors import default_psf, srf_matrix

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


def small_source() -> Source:
    """One generated scene with two references."""
    scene = synthetic(0, height=96, width=128, bands=31)
    srf = srf_matrix(scene.wavelengths_nm, bands=SMALL.msi_bands)
    degraded = degrade_scene(scene.tensor(), srf, default_psf(4), 4)
    areas = split_areas(96, 128, scale=4, halo=4)
    reference = degraded.cut(areas["reference"]).hr_msi
    return Source("synthetic", degraded, areas["train"], areas["validation"], srf, (reference, reference.flip(2)))
