"""The component-wise prior: what it may not depend on, what it refuses, what the shipped weights bring, and training."""

from __future__ import annotations

import copy
import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch

from ctmem.benchmark.weights import find_weights
from ctmem.data.scenes import synthetic
from ctmem.diffusion.subspace import fit
from ctmem.evaluation.metrics import psnr_db
from ctmem.files import data_path
from ctmem.inference import super_resolve
from ctmem.model import load_model
from ctmem.networks.component_prior import SCALES, ComponentPrior, transfer
from ctmem.networks.group import ORDER, inverse_times, sign, turn
from ctmem.observe.camera import Camera
from ctmem.observe.optics import add_noise, upsample
from ctmem.prior import component_prior, load_prior, noise_of_components, sharpened_components
from ctmem.train import prior as training
from ctmem.train.sources import embedded_sources

CAMERA = Camera.gaussian(scale=4)


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def band_psnr(pred: torch.Tensor, target: torch.Tensor) -> float:
    return float(psnr_db(pred, target).mean())


def untrained() -> ComponentPrior:
    """A small network whose answer is far from bicubic enlargement."""
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        network = ComponentPrior(32, 2, 1).requires_grad_(False)
        for parameter in network.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return network


@pytest.fixture(scope="module")
def network():
    return load_prior()


@pytest.fixture(scope="module")
def lr_hsi():
    """A scene of 31 bands, 12×16 coarse pixels."""
    return CAMERA.downsample(synthetic(0).tensor())


# --- what it does not depend on ---


@pytest.mark.parametrize("scale", SCALES)
def test_the_answer_is_odd_and_components_are_independent(network, scale):
    camera = Camera.gaussian((0.8 * scale, 1.2 * scale), scale)
    z = random(5, 1, 6, 9) * torch.arange(1, 6)[:, None, None, None] - 0.5
    noise = torch.tensor([0.0, 0.1, 0.0, 0.3, 0.0])
    fine = sharpened_components(z, camera, network, noise)
    assert fine.shape == (5, 1, 6 * scale, 9 * scale)
    assert torch.allclose(sharpened_components(-z, camera, network, noise), -fine, atol=1e-5)
    order = torch.tensor([3, 1, 4, 0, 2])
    assert torch.allclose(sharpened_components(z[order], camera, network, noise[order]), fine[order], atol=1e-5)
    assert torch.allclose(sharpened_components(z[1:2], camera, network, noise[1:2]), fine[1:2], atol=1e-5)
    larger = sharpened_components(3 * z - 7, camera, network, 3 * noise)  # nor on units
    assert torch.allclose(larger, 3 * fine - 7, atol=1e-4)


@pytest.mark.parametrize("scale", SCALES)
def test_signs_and_turns_of_the_image_are_those_of_the_answer(scale):
    """Whatever the weights: exactly, with a blur that turns with the image."""
    network = untrained().double()
    y, noise = random(2, 1, 5, 8).double(), torch.tensor([0.0, 0.2]).double()
    camera = Camera.gaussian((0.7 * scale, 1.4 * scale), scale)
    mtf = torch.cat([transfer(camera.psf.sum(axis)[None].double(), scale) for axis in (1, 0)], 1).expand(2, -1)
    assert not torch.allclose(mtf[:, :4], mtf[:, 4:], atol=0.1)

    def answer(y: torch.Tensor, mtf: torch.Tensor) -> torch.Tensor:
        return network(y, upsample(y, scale), mtf, noise, scale)

    fine = answer(y, mtf)
    assert float((fine - upsample(y, scale)).std()) > 0.01
    for element in range(ORDER):
        told = mtf.roll(4, 1) if element & 4 else mtf
        given, wanted = (sign(element) * turn(x, element) for x in (y, fine))
        assert torch.allclose(answer(given, told), wanted, rtol=0, atol=1e-10)
        if element & 4:  # the blur counts
            assert not torch.allclose(answer(given, mtf), wanted, rtol=0, atol=1e-4)


def test_the_table_of_the_group_is_what_it_does_to_an_image():
    image = random(3, 4)
    for g in range(ORDER):
        assert sorted(inverse_times()[g].tolist()) == list(range(ORDER))
        for h in range(ORDER):
            k = int(inverse_times()[g, h])
            assert torch.equal(sign(g) * sign(k) * turn(turn(image, k), g), sign(h) * turn(image, h))


def test_the_table_of_turns_by_hand():
    """1 flips the columns, 2 the rows, 4 exchanges the axes before; 8 is the sign, and turns nothing."""
    image = torch.tensor([[1, 2], [3, 4]])
    wanted = {0: [[1, 2], [3, 4]], 1: [[2, 1], [4, 3]], 2: [[3, 4], [1, 2]], 4: [[1, 3], [2, 4]], 5: [[3, 1], [4, 2]], 8: [[1, 2], [3, 4]]}  # fmt: skip
    assert {element: turn(image, element).tolist() for element in wanted} == wanted
    assert [sign(element) for element in (0, 7, 8, 15)] == [1, 1, -1, -1]


def test_copies_and_half_precision(lr_hsi):
    network = untrained()
    copied = copy.deepcopy(network).to(memory_format=torch.channels_last)
    given = lr_hsi[:, :1], upsample(lr_hsi[:, :1], 4), random(1, 8), torch.zeros(1), 4
    assert torch.allclose(copied(*given), network(*given), atol=1e-4)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.allclose(copied(*given).float(), network(*given).float(), atol=0.1)
    assert set(network.state_dict()) == {name for name, _ in network.named_parameters()}


def test_neither_the_order_of_bands_nor_copies_of_them_change_it(network, lr_hsi):
    pred = component_prior(lr_hsi, camera=CAMERA, weights=network)
    order = torch.randperm(31, generator=torch.Generator().manual_seed(1))
    assert torch.allclose(component_prior(lr_hsi[:, order], camera=CAMERA, weights=network), pred[:, order], atol=1e-4)
    assert torch.equal(component_prior(lr_hsi, camera=CAMERA, weights=network), pred)
    twice = component_prior(torch.cat([lr_hsi, lr_hsi.flip(3)]), camera=CAMERA, weights=network)
    assert torch.equal(twice[:1], pred)


@pytest.mark.parametrize("shape", [(1, 3, 9, 7), (1, 1, 1, 2), (2, 40, 5, 3)])
def test_any_band_count_and_size(network, shape):
    for scale in SCALES:
        camera = Camera.gaussian(scale=scale)
        lr_hsi = random(*shape)
        pred = component_prior(lr_hsi, camera=camera, weights=network)
        assert pred.shape == (*shape[:2], scale * shape[2], scale * shape[3])
        assert bool(torch.isfinite(pred).all())
        missing = camera.downsample(pred) - lr_hsi
        raw = component_prior(lr_hsi, camera=camera, weights=network, consistency=False)
        assert float(missing.norm()) < float((camera.downsample(raw) - lr_hsi).norm())


# --- what it is told of the camera ---


def test_the_transfer_of_a_blur_is_that_of_its_fourier_transform():
    box = torch.full((1, 4), 0.25)  # |sinc| of four samples
    wanted = [abs(np.sin(np.pi * f) / (4 * np.sin(np.pi * f / 4))) for f in (0.25, 0.5, 0.75, 1.0)]
    assert transfer(box, 4)[0].tolist() == pytest.approx(wanted, abs=1e-6)
    gauss = CAMERA.psf.sum(1)[None]
    sigma = 4 / 2.3548
    wanted = [np.exp(-2 * (np.pi * sigma * f / 4) ** 2) for f in (0.25, 0.5, 0.75, 1.0)]
    assert transfer(gauss, 4)[0].tolist() == pytest.approx(wanted, abs=2e-3)
    assert torch.allclose(transfer(gauss.flip(1), 4), transfer(gauss, 4))
    assert torch.allclose(transfer(torch.tensor([[0.0, 0.0, 1.0]]), 4), torch.ones(1, 4))  # a shift blurs nothing


def test_rows_and_columns_and_the_noise_are_told_where_they_belong(lr_hsi, network, monkeypatch):
    """A blur narrower along rows: its transfer falls less, as a Gaussian's does; the noise is that of the camera."""
    camera = replace(Camera.gaussian((2.0, 6.0), 4), snr_db=20.0)
    told = []

    def listen(y, y_up, mtf, noise, scale, whitened):
        assert not whitened
        told.append((mtf, noise))
        return y_up

    monkeypatch.setattr(network, "forward", listen)
    pred = component_prior(lr_hsi, camera=camera, weights=network, consistency=False)
    torch.testing.assert_close(
        pred, camera.upsample(lr_hsi), atol=1e-4, rtol=0
    )  # 23 directions that are not asked, too
    assert not torch.allclose(component_prior(lr_hsi, camera=CAMERA, weights=network), pred, atol=1e-3)
    for part, width in ((told[0][0][0, :4], 2.0), (told[0][0][0, 4:], 6.0)):
        wanted = [np.exp(-2 * (np.pi * width / 2.3548 * f / 4) ** 2) for f in (0.25, 0.5, 0.75, 1.0)]
        assert part.tolist() == pytest.approx(wanted, abs=0.02)
    assert told[0][1].tolist() == pytest.approx(noise_of_components(lr_hsi, fit(lr_hsi, 8), camera).tolist())
    assert float(told[0][1].min()) > 0


def test_what_no_component_holds_is_enlarged_bicubically(network, monkeypatch):
    """Told nothing of eight of 31 directions, all of which vary."""
    monkeypatch.setattr(network, "forward", lambda y, y_up, mtf, noise, scale, whitened: y_up)
    noise = random(1, 31, 6, 8)
    pred = component_prior(noise, camera=CAMERA, weights=network, consistency=False)
    torch.testing.assert_close(pred, CAMERA.upsample(noise), atol=1e-4, rtol=0)


def test_blocks_add_to_what_goes_into_them():
    """With second convolutions of zeros the blocks leave the features as they are, however many there are."""
    network = untrained()
    for layer in network.second:
        for parameter in layer.parameters():
            parameter.zero_()
    y, scale = random(2, 1, 5, 8), 4
    seen = (y - y.mean((2, 3), keepdim=True)) / y.std((2, 3), keepdim=True)
    stem = network.stem(seen)
    fine = network.out["4"](network.expand["4"](stem + network.join(stem)).relu())
    wanted = upsample(y, scale) + y.std((2, 3), keepdim=True) * fine
    assert float((wanted - upsample(y, scale)).std()) > 0.01
    found = network(y, upsample(y, scale), random(2, 8), torch.zeros(2), scale)
    torch.testing.assert_close(found, wanted, atol=1e-4, rtol=1e-4)


def test_the_noise_of_a_component_is_that_which_is_added(lr_hsi):
    clean = lr_hsi.repeat(1, 1, 8, 8)
    space = fit(clean, 8)
    noisy = add_noise(clean, 25.0, generator=torch.Generator().manual_seed(0))
    measured = (space.encode(noisy) - space.encode(clean)).std((0, 2, 3))
    told = noise_of_components(clean, space, replace(CAMERA, snr_db=25.0))
    assert torch.allclose(told, measured, rtol=0.05)
    assert not noise_of_components(clean, space, CAMERA).any()


# --- what is refused ---


def test_what_is_refused(lr_hsi, network, tmp_path):
    with pytest.raises(ValueError, match="`camera` must be one of scale 2, 3, 4, 6, as the weights, got scale 5"):
        component_prior(lr_hsi, camera=Camera.gaussian(scale=5), weights=network)
    with pytest.raises(TypeError, match="`camera` must be a `Camera`, got int"):
        component_prior(lr_hsi, camera=4)
    with pytest.raises(ValueError, match="more than one spectrum, got a constant image"):
        component_prior(torch.full((1, 3, 4, 4), 0.5), camera=CAMERA, weights=network)
    with pytest.raises(FileNotFoundError, match="`weights` must be a folder with card.json and prior.safetensors"):
        component_prior(lr_hsi, camera=CAMERA, weights=tmp_path)
    (tmp_path / "card.json").write_text('{"network": {"depth": 3}}', encoding="utf-8")
    with pytest.raises(ValueError, match="`folder` must be those of a card.json of this version"):
        load_prior(tmp_path)
    shutil.copy(data_path("weights/prior/prior.safetensors"), tmp_path)
    (tmp_path / "card.json").write_text('{"network": {"width": 32}}', encoding="utf-8")
    with pytest.raises(ValueError, match="`path` must be weights with"):
        load_prior(tmp_path)


# --- the shipped weights ---


def test_the_card_fits_the_weights(network):
    card = json.loads(data_path("weights/prior/card.json").read_text(encoding="utf-8"))
    assert card["network"] == {name: getattr(network, name) for name in ("width", "blocks", "head")}
    assert card["metrics"]["parameters"] == sum(p.numel() for p in network.parameters())
    assert card["camera"] == training.CAMERAS
    assert all("licence" in row for row in card["data"])
    assert all(p.dtype == torch.float32 and not p.requires_grad for p in network.parameters())
    assert {one.label for rows in find_weights().values() for one in rows} >= {
        "tiny"
    }  # no preset, and not taken for one


@pytest.mark.parametrize(("name", "gain"), [("indian_pines", 0.2), ("sentinel2_farmland", 0.4)])
def test_it_beats_back_projection_on_validation_areas(name, gain):
    (source,) = [one for one in embedded_sources(CAMERA) if one.name == name]
    area = source.scene.cut(source.validation)
    gt, lr_hsi = area.gt, area.lr_hsi
    base = CAMERA.back_project(CAMERA.upsample(lr_hsi), lr_hsi)
    pred = component_prior(lr_hsi, camera=CAMERA)
    assert band_psnr(pred, gt) > band_psnr(base, gt) + gain
    assert torch.equal(super_resolve(load_model(), lr_hsi, camera=CAMERA, method="prior"), pred)


def test_back_projection_stops_at_the_noise():
    (source,) = [one for one in embedded_sources(CAMERA) if one.name == "indian_pines"]
    area = source.scene.cut(source.validation)
    camera = replace(CAMERA, snr_db=25.0)
    lr_hsi = camera.observe(area.gt, generator=torch.Generator().manual_seed(0))
    pred = component_prior(lr_hsi, camera=camera)
    assert band_psnr(pred, area.gt) > band_psnr(camera.upsample(lr_hsi), area.gt) + 0.3
    assert band_psnr(pred, area.gt) > band_psnr(camera.back_project(pred, lr_hsi), area.gt) + 2


# --- training ---


@pytest.fixture(scope="module")
def images():
    """A corpus of two: one with a hole, one smaller than a tile."""
    x, y = torch.meshgrid(torch.arange(220.0), torch.arange(400.0), indexing="ij")
    large = torch.stack([((x * y) / 300).sin(), (x / 5).cos() * (y / 9).sin(), (y / 3).sin()]) / 2 + 0.5
    small = large[:, :70, :90].clone()
    large[:, :30, :40] = float("nan")
    return {"large": large, "small": small}


def test_tiles_have_no_holes_and_unit_deviation(images):
    tiles, times = training.training_tiles(images, {"area": random(6, 60, 80)})
    assert len(times) == len(tiles) and int(times.min()) >= 1 and int(times.max()) == training.BANDS
    assert tiles.dtype == torch.float16 and tiles.shape[1:] == (training.SIDE, training.SIDE)
    assert bool(torch.isfinite(tiles).all())
    assert 0.7 < float(tiles.float().std((1, 2)).median()) < 1.3
    with pytest.raises(ValueError, match="`images` must be some with 168×168 px of data, got none"):
        training.training_tiles({"hole": torch.where(torch.arange(300) % 9 == 0, torch.nan, random(2, 300, 300))}, {})


def test_crops_are_observed_as_a_camera_observes_them(images):
    tiles, times = training.training_tiles(images, {})
    (y, y_up, mtf, noise), gt = training.Batches(tiles, 64, seed=0, times=times).draw(4)
    assert y.shape == (64, 1, 24, 24) and gt.shape == y_up.shape == (64, 1, 96, 96)
    assert mtf.shape == (64, 8) and float(mtf.min()) >= 0 and float(mtf.max()) <= 1 + 1e-6
    assert 0.2 < float((noise == 0).float().mean()) < 0.6
    # crops with the blur of the usual camera and no noise are what that camera shows of them, but for the border
    told = torch.cat([transfer(CAMERA.psf.sum(axis)[None], 4) for axis in (1, 0)], 1)
    alike = ((mtf - told).abs().amax(1) < 5e-3) & (noise == 0)
    assert bool(alike.any())
    inner = (..., slice(3, -3), slice(3, -3))
    assert torch.allclose(CAMERA.downsample(gt[alike])[inner], y[alike][inner], atol=0.02)


def test_a_few_steps_leave_weights_that_load_and_that_learn(images, tmp_path, capsys, monkeypatch):
    tiles, times = training.training_tiles(images, {})
    options = {"batch": 8, "times": times, "sizes": {"width": 16, "blocks": 1, "head": 1}, "data": [{"image": "large"}]}
    card = training.train_prior(tiles, tmp_path, minutes=0.02, **options)
    assert card == json.loads((tmp_path / "card.json").read_text(encoding="utf-8"))
    assert card["steps"] >= 1 and card["network"] == options["sizes"] and card["data"] == options["data"]
    assert "over bicubic" in capsys.readouterr().out
    trained = load_prior(tmp_path)
    assert (trained.width, trained.blocks) == (16, 1)
    before = torch.random.get_rng_state()
    training.train_prior(tiles, tmp_path, minutes=1e-6, **options)
    assert torch.equal(torch.random.get_rng_state(), before)
    monkeypatch.setattr(training, "WARMUP", 1)
    with pytest.raises(RuntimeError, match="a `rate` below 0.5 may help"):
        training.train_prior(tiles, tmp_path, minutes=0.05, rate=0.5, **options)
    with pytest.raises(ValueError, match=r"`minutes` must be a positive number, at most 1e\+06, got 0"):
        training.train_prior(tiles, tmp_path, minutes=0)


def test_an_untrained_network_is_bicubic():
    z = random(2, 1, 5, 6)
    network = ComponentPrior(16, 1, 1)
    assert torch.equal(network(z, CAMERA.upsample(z), random(2, 8), torch.zeros(2), 4), CAMERA.upsample(z))


def test_the_command_says_how_a_corpus_is_made(tmp_path, capsys):
    assert training.main(["--corpus", str(tmp_path)]) == 1
    assert "which `python -m ctmem.data.corpus FOLDER` makes" in capsys.readouterr().err
