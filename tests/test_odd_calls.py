"""A share of the survey of odd calls: each is right, or one clear error that names an argument of the caller's."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from benchmarks import odd_calls
from ctmem.benchmark.scores import resampled_psnr
from ctmem.config import TINY, CameraConfig, MatchConfig, Preset
from ctmem.data.scenes import Scene
from ctmem.diffusion.samplers import SAMPLERS
from ctmem.explorers.degradation import DegradationExplorer
from ctmem.explorers.gradients import detached
from ctmem.explorers.match import MatchExplorer
from ctmem.explorers.recording import cut
from ctmem.explorers.render import nearest_band
from ctmem.explorers.tiles import composite
from ctmem.match.texture_library import TextureLibrary
from ctmem.networks.scan.selective import selective_scan
from ctmem.networks.tcmm import RandomProjection
from ctmem.observe.camera import Camera
from ctmem.observe.responses import SENSORS

SHARE = 41  # every so manieth call; benchmarks/results/odd_calls.md lists what of the whole is neither


def test_a_share_of_all_odd_calls_is_right_or_clear():
    found = odd_calls.survey(share=SHARE, skip=("train_kernel", "Explorer", "super_resolve", "estimate"))
    bad = {key: one for key, one in found.items() if one[0] not in odd_calls.GOOD}
    assert len(found) > 200 and not bad


@pytest.mark.parametrize("kind", [torch.int64, torch.bool, torch.complex64])
def test_tokens_that_are_no_floats_do_not_enter_a_scan(kind):
    x, rates, weights = torch.ones(1, 4, 2), -torch.ones(2, 3), torch.ones(1, 4, 3)
    with pytest.raises(TypeError, match="`u` must be a floating-point tensor"):
        selective_scan(x.to(kind), x, rates, weights, weights)


@pytest.mark.parametrize("backend", ["reference", "torch"])
def test_steps_and_rates_with_which_a_state_grows_are_refused(backend):
    x, rates, weights = torch.ones(1, 4, 2), -torch.ones(2, 3), torch.ones(1, 4, 3)
    assert selective_scan(x, 0 * x, rates, weights, weights, backend=backend).isfinite().all()
    with pytest.raises(ValueError, match="`delta` must be ≥ 0 everywhere, got -1.0"):
        selective_scan(x, -x, rates, weights, weights, backend=backend)
    with pytest.raises(ValueError, match="`A` must be ≤ 0 everywhere, got 1.0"):
        selective_scan(x, x, -rates, weights, weights, backend=backend)


IMAGE = odd_calls.image(1, 3, 5, 6)


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: cut(IMAGE, []), "`bands` must be at least one number from 0 to 2, got none"),
        (lambda: cut(IMAGE, [0, 3]), r"`bands\[1\]` must be a whole number from 0 to 2, got 3"),
        (lambda: cut(IMAGE, None, (5, 0)), r"`pixel\[0\]` must be a whole number from 0 to 4, got 5"),
        (lambda: nearest_band(np.array([500.0, 600.0]), -1), "`wanted_nm` must be a finite number above 0, got -1"),
        (lambda: composite(IMAGE[0] > 0.5), "`image` must be a floating-point tensor"),
        (lambda: Scene("a", np.full((2, 2, 1), "1")), "`cube` must be an array of real numbers"),
        (lambda: CameraConfig(sensor="none"), "`sensor` must be one of"),
        (lambda: Preset.from_dict({"name": "a", "x": 1}), "`preset` must be a dict of settings, got 'x' among them"),
        (lambda: Preset.from_dict({}), "`preset` must be a dict of settings, got one without `name`"),
        (lambda: resampled_psnr(IMAGE * torch.nan, IMAGE), "`pred` must be finite wherever `gt` is no hole"),
        (
            lambda: TextureLibrary.build({"a": IMAGE}, odd_calls.soften, MatchConfig(patch=4), factory="Flat"),
            "`factory` must be left out where `approximate_above` is",
        ),
        (lambda: Camera(IMAGE[0, 0], 10**30), "`scale` must be a whole number of at most 1,024"),
        (lambda: RandomProjection(2, 2, 10**30), "`seed` must be a whole number that fits 64 bits"),
        (lambda: odd_calls.small_model().denoiser.condition(*PIXEL), "`base` must be of at least 2 pixels, got 1×1"),
    ],
)  # fmt: skip
def test_what_was_taken_in_silence_or_ended_in_a_raw_error_is_named(call, text):
    with pytest.raises((TypeError, ValueError), match=text):
        call()


PIXEL = (torch.zeros(1, 8, 1, 1), torch.zeros(1, 32, 1, 1))


def test_the_names_in_the_settings_are_those_there_are():
    assert Preset.BOUNDS["sampler"] == tuple(SAMPLERS)
    assert CameraConfig.BOUNDS["sensor"] == tuple(SENSORS) and TINY.camera.sensor in SENSORS


def test_explorers_take_what_learns():
    """Images, cameras and blurs that need gradients: what is shown is the same, and needs none."""
    psf = Camera.gaussian(scale=4).psf
    lr_hsi, ref_msi, srf = odd_calls.image(1, 6, 3, 5), odd_calls.image(1, 2, 18, 22), torch.full((2, 6), 1 / 6)
    config = MatchConfig(patch=4, top_k=4, hard_k=2)
    weight = torch.nn.Parameter(torch.tensor(0.5))
    found = []
    for learns in (False, True):
        images = [x.clone().requires_grad_(learns) for x in (lr_hsi, ref_msi)]
        camera = Camera(psf.clone().requires_grad_(learns), 4, srf=srf)
        half = weight if learns else weight.item()
        shown = MatchExplorer(*images, camera, blur=lambda x, half=half: half * x + 0.25, config=config)
        shown.choose(temperature=0.1)
        found.append((shown.label, shown.texture))
        assert not shown.texture.requires_grad
        shown.close()
    assert found[0][0] == found[1][0] and torch.equal(found[0][1], found[1][1])
    DegradationExplorer(odd_calls.image(1, 2, 8, 8).requires_grad_(), camera=camera).close()
    assert images[0].requires_grad and not detached({"a": images[0]})["a"].requires_grad
