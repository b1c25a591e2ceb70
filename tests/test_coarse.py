"""Back-projection on the coarse grid against its definition at full size."""

from __future__ import annotations

import math
from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ctmem.observe import coarse
from ctmem.observe.camera import Camera

few = settings(max_examples=40, deadline=None, derandomize=True, database=None)


def definition(camera, pred, lr_hsi, steps, at_least=0, tolerance=0.0):
    """x ← x + up(lr_hsi − down(x)), all of it at full size."""
    best, least = pred, math.inf
    for step in range(steps):
        missing = lr_hsi - camera.downsample(pred)
        mismatch = float(missing.norm())
        if mismatch > 2 * least:
            return best
        if step >= at_least and mismatch <= tolerance * float(lr_hsi.norm()):
            break
        if mismatch < least:
            best, least = pred, mismatch
        pred = pred + camera.upsample(missing)
    return pred


def case(scale, widen, height, width, seed, *, separable=True):
    """A camera of any PSF, an estimate and an observation, float64."""
    generator = torch.Generator().manual_seed(seed)
    size = max(scale % 2 or 2, scale + 2 * widen)
    uniform = partial(torch.rand, generator=generator, dtype=torch.float64)
    psf = torch.outer(uniform(size), uniform(size)) if separable else uniform(size, size)
    camera = Camera(psf / psf.sum(), scale)
    return camera, uniform(2, 3, scale * height, scale * width), uniform(2, 3, height, width)


sizes = st.integers(1, 9)


@few
@given(st.integers(1, 6), st.integers(-3, 7), sizes, sizes, st.booleans(), st.integers(0, 12), st.integers(0, 99))
def test_it_equals_the_definition(scale, widen, height, width, separable, steps, seed):
    """For any scale, size, border and PSF, separable or not, also where it runs away and stops."""
    camera, pred, lr_hsi = case(scale, widen, height, width, seed, separable=separable)
    found = camera.back_project(pred, lr_hsi, steps=steps)
    wanted = definition(camera, pred, lr_hsi, steps)
    torch.testing.assert_close(found, wanted, rtol=1e-6, atol=1e-6 * float(wanted.abs().max()))


@pytest.mark.parametrize("size", [(70, 3), (2, 97), (65, 66)])
def test_sides_of_several_blocks(size):
    camera = Camera.gaussian(5.0, scale=3)
    generator = torch.Generator().manual_seed(0)
    lr_hsi = torch.rand(1, 2, *size, generator=generator, dtype=torch.float64)
    pred = camera.upsample(lr_hsi)
    found = camera.back_project(pred, lr_hsi, steps=8)
    torch.testing.assert_close(found, definition(camera, pred, lr_hsi, 8), rtol=1e-8, atol=1e-8)
    single = camera.back_project(pred.float(), lr_hsi.float(), steps=8)  # nearer to it than torch's own in float32
    torch.testing.assert_close(single.double(), found, rtol=4e-6, atol=4e-6)


@few
@given(st.integers(1, 6), sizes, sizes)
def test_enlarging_is_upsampling(scale, height, width):
    x = torch.randn(2, 3, height, width, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    wanted = Camera.gaussian(scale=scale).upsample(x)
    torch.testing.assert_close(coarse.enlarge(x, scale), wanted, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("at_least", [0, 3, 10, 40])
def test_the_tolerance_counts_after_so_many_steps(at_least):
    camera = Camera.gaussian(scale=4)
    lr_hsi = torch.rand(1, 3, 6, 9, generator=torch.Generator().manual_seed(0))
    pred = camera.upsample(lr_hsi)
    found = camera.back_project(pred, lr_hsi, steps=30, at_least=at_least, tolerance=0.05)
    wanted = definition(camera, pred, lr_hsi, 30, at_least, 0.05)
    torch.testing.assert_close(found, wanted, rtol=2e-6, atol=2e-6)
    assert not torch.allclose(found, camera.back_project(pred, lr_hsi, steps=20), atol=1e-4) or at_least >= 20


def test_a_camera_that_runs_away_gives_its_best_image():
    psf = torch.zeros(12, 12)
    psf[0, 0] = 1
    camera = Camera(psf, 4)
    lr_hsi = torch.rand(1, 2, 8, 8, generator=torch.Generator().manual_seed(0))
    pred = camera.upsample(lr_hsi)
    found = camera.back_project(pred, lr_hsi, steps=50, at_least=10)
    assert float(found.abs().max()) < 10
    left = [float((lr_hsi - camera.downsample(x)).norm()) for x in (found, pred)]
    assert left[0] <= left[1]


def test_a_wrong_count():
    with pytest.raises(ValueError, match="`at_least` must be a whole number ≥ 0, got -1"):
        Camera.gaussian(scale=4).back_project(torch.ones(1, 1, 4, 4), torch.ones(1, 1, 1, 1), at_least=-1)
