"""The three wirings, as_released, as_drawn and corrected: they build, run, train, and differ where they should."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch
from small_training import SMALL, small_source

from ctmem.data.scenes import synthetic
from ctmem.diffusion.samplers import SAMPLERS
from ctmem.inference import draw, encode, super_resolve
from ctmem.model import Model, build_networks, load_model
from ctmem.networks.kernel_net import KernelNet
from ctmem.networks.mamba import MambaBlock
from ctmem.networks.tcmm import RandomProjection
from ctmem.networks.variants import VARIANTS, as_drawn, as_released, corrected
from ctmem.observe.camera import Camera
from ctmem.observe.kernel import PsfKernel
from ctmem.train.pool import Pool, build_pool, draw_batch
from ctmem.train.stages import train

BANDS = 31
WIRINGS = (as_drawn, as_released)
SMALL = dataclasses.replace(SMALL, name="tiny", timesteps=12, match=dataclasses.replace(SMALL.match, patch=4, stride=2))
every_variant = pytest.mark.parametrize("variant", VARIANTS.values(), ids=VARIANTS)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def new_model(preset) -> Model:
    """Untrained, without the zeros its last layer starts with."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        networks = build_networks(preset, BANDS)
        torch.nn.init.normal_(networks["denoiser"].fusion[-1].weight, std=0.05)
    return Model(preset, **{part: net.eval().requires_grad_(False) for part, net in networks.items()}, card={})


def observed(bands=BANDS):
    scene = synthetic(0, height=16, width=24, bands=bands)
    camera = Camera.gaussian(scale=4).for_wavelengths(scene.wavelengths_nm)
    return camera.observe(scene.tensor()), camera


def count(module) -> int:
    return sum(p.numel() for p in module.parameters())


@every_variant
def test_runs_as_it_is_configured(variant):
    """By its own sampler and number of steps, from matching to the image."""
    model, calls = new_model(variant(SMALL)), []
    lr_hsi, camera = observed()
    reference = torch.rand(1, 4, 21, 13, generator=seeded(1))
    pred = super_resolve(
        model, lr_hsi, reference, camera=camera, generator=seeded(), callback=lambda step, t, *_: calls.append(t)
    )
    assert pred.shape == (1, BANDS, 16, 24) and pred.isfinite().all()
    assert calls == ([11] if variant is corrected else list(range(11, -1, -1)))
    (encoded,) = encode(model, lr_hsi, reference, camera=camera)
    assert encoded.base.shape[1] == (8 if variant is corrected else BANDS)
    assert isinstance(model.kernel, PsfKernel if variant is corrected else KernelNet)


def test_parameters_of_cim():
    """As drawn it has channel attention (D → D/4 → D, with biases), two norms, conv and scan at width D; no gate."""
    drawn, released = (build_networks(variant(SMALL), BANDS)["denoiser"].hsi_branch.cim[0] for variant in WIRINGS)
    d, n = SMALL.denoiser.width, SMALL.denoiser.state
    rank = math.ceil(d / 16)
    attention = d * (d // 4) + d // 4 + (d // 4) * d + d
    scan = 5 * d + d * (rank + 2 * n) + (rank + 1) * d + d * n + d
    assert count(drawn) == attention + 2 * 2 * d + scan
    assert count(released) == 2 * d + count(MambaBlock(d, d_state=n))


@every_variant
def test_super_resolve_adds_nothing_that_a_wiring_does_not_have(variant):
    """By default `corrected` is back-projected, the other two are what their chain draws."""
    model, (lr_hsi, camera) = new_model(variant(SMALL)), observed()
    usual, plain, projected = (
        super_resolve(model, lr_hsi, camera=camera, generator=seeded(), steps=3, **options)
        for options in ({}, {"consistency": False}, {"consistency": True})
    )
    assert torch.equal(usual, projected if variant is corrected else plain)
    assert not torch.equal(plain, projected)
    (encoded,) = encode(model, lr_hsi, camera=camera)
    sampler = SAMPLERS[model.preset.sampler]
    drawn = draw(model, encoded, steps=3, sampler=sampler, generator=seeded())
    assert torch.equal(plain, encoded.decode(drawn))


def test_walks_and_channels_of_the_variants():
    orders = {
        name: [block.order for block in build_networks(variant(wide), BANDS)["denoiser"].noise_branch.cim]
        for wide in [dataclasses.replace(SMALL, denoiser=dataclasses.replace(SMALL.denoiser, cim_blocks=4))]
        for name, variant in VARIANTS.items()
    }
    assert orders["as_drawn"] == orders["as_released"] == [0, 0, 0, 0]
    assert len(set(orders["corrected"])) > 1


# --- the random projection ---


def test_projection_is_drawn_once_and_never_trained():
    state = torch.get_rng_state()
    first, second = RandomProjection(5, 5), RandomProjection(5, 5)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(first.weight, second.weight) and not list(first.parameters())
    assert float(first.weight.abs().max()) <= 5**-0.5 and int(torch.linalg.matrix_rank(first.weight)) == 5
    x = torch.randn(2, 5, 4, 6, generator=seeded())
    torch.testing.assert_close(first(x), torch.nn.functional.conv2d(x, first.weight[:, :, None, None]))
    assert torch.equal(first(x), first(x))


@torch.no_grad()
def test_x_t_reaches_the_released_network_only_through_the_projection():
    """Its input is [lr_hsi_up, x_t]. What it maps to zero changes nothing; in the drawn network it does."""
    for variant in (as_released, as_drawn):
        net = new_model(variant(SMALL)).denoiser
        base, texture = torch.rand(1, BANDS, 8, 12, generator=seeded()), torch.rand(1, 16, 8, 12, generator=seeded(1))
        x_t, hidden = torch.randn(2, 1, BANDS, 8, 12, generator=seeded(2)).unbind()
        if variant is as_released:
            net.projection.weight[:, BANDS + 3] = 0
        hidden[:, [c for c in range(BANDS) if c != 3]] = 0
        level = torch.tensor([0.5])
        one, other = (net(x, level, base, base, texture) for x in (x_t, x_t + hidden))
        assert torch.equal(one, other) == (variant is as_released)


# --- training on bands ---


def test_crops_of_bands_keep_signs_and_scale():
    base = torch.rand(3, 9, 4, 4, generator=seeded())
    pool = Pool(base, base + 0.1, torch.rand(3, 8, 4, 4, generator=seeded(1)), torch.ones(3, 9, 1, 1))
    config = dataclasses.replace(SMALL.train, batch=32, drop_reference=0.5)
    batch = draw_batch(pool, config, seeded(2))
    torch.testing.assert_close(batch.target - batch.base, torch.full_like(batch.base, 0.1))
    assert {round(float(x.sum()), 3) for x in batch.base} == {round(float(x.sum()), 3) for x in base}
    sums = {round(float(x.sum()), 3) for x in batch.texture}
    assert sums == {0.0} | {round(float(x.sum()), 3) for x in pool.texture}


def test_scenes_of_other_bands_cannot_train_together_on_bands():
    one = small_source()
    other = dataclasses.replace(one, scene=dataclasses.replace(one.scene, gt=one.scene.gt[:, :9]))
    with pytest.raises(ValueError, match=r"`sources` must be scenes of one band count .*, got 9 and 31"):
        build_pool([one, other], as_drawn(SMALL), lambda x: x)


@pytest.mark.parametrize("variant", [as_drawn, as_released])
def test_trained_and_loaded_again(variant, tmp_path):
    preset = dataclasses.replace(variant(SMALL), train=dataclasses.replace(SMALL.train, steps=2))
    source = small_source()
    card = train(preset, [source], tmp_path)
    model = load_model(preset.name, folder=tmp_path)
    assert model.preset == preset and model.denoiser.channels == BANDS
    lr_hsi, _camera = observed()
    with pytest.raises(ValueError, match=r"`base` must be of 31 band\(s\)"):
        super_resolve(model, observed(20)[0], generator=seeded())
    assert super_resolve(model, lr_hsi, steps=2, generator=seeded()).isfinite().all()
    assert (
        card["metrics"]["denoiser"]["best_validation_psnr_db"]
        == card["metrics"]["denoiser"]["validation_psnr_db"][-1][1]
    )
    with pytest.raises(ValueError, match="`name` must be that of the weights in `folder`, 'tiny-as-.*, got 'tiny'"):
        load_model("tiny", folder=tmp_path)
