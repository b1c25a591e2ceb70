"""The width of a blur: what is told of components, what is seen of it, how it is learned, and what is refused."""

import json
import math

import numpy as np
import pytest
import torch

from ctmem.card import load_component
from ctmem.files import data_path
from ctmem.networks.blur_width import FEATURES, POWERS, BlurWidth, features
from ctmem.tiling.blur import SURE, USUAL, blur_seen
from ctmem.train import blur as training


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def told(z, noise=0.1):
    return features(z, torch.full((len(z),), noise))


# --- what is told ---


def test_units_signs_turns_and_mirror_images_do_not_count():
    z = random(2, 1, 9, 12)
    found = told(z)
    assert found.shape == (2, FEATURES) and found.dtype == torch.float32
    for other in (-z, z + 7, z.flip(2), z.flip(3), z.transpose(2, 3), z.rot90(1, (2, 3))):
        assert torch.allclose(told(other), found, atol=1e-5)
    assert torch.allclose(told(40 * z, noise=4.0), found, atol=1e-5)


def test_a_number_is_the_mean_of_a_power_of_differences():
    z = random(1, 1, 9, 12)
    x = z[0, 0].double().numpy()
    steps = np.abs(np.concatenate([np.diff(x, axis=0).ravel(), np.diff(x, axis=1).ravel()]))
    wanted = [math.log(np.mean(steps**power) ** (1 / power) / x.std()) for power in POWERS]
    assert told(z)[0, : len(POWERS)].tolist() == pytest.approx(wanted, abs=1e-5)
    curved = np.concatenate([np.diff(x, 3, axis=0).ravel(), np.diff(x, 3, axis=1).ravel()])
    assert float(told(z)[0, 2 * len(POWERS)]) == pytest.approx(math.log(np.abs(curved).mean() / x.std()), abs=1e-5)
    assert float(told(z, noise=0.2)[0, -1]) == pytest.approx(math.log(0.2 / x.std() + 1e-3), abs=1e-5)


def test_a_rim_of_holes_changes_nothing():
    z = random(1, 1, 9, 12)
    rimmed = torch.nn.functional.pad(z, (2, 3, 1, 0), value=float("nan"))
    assert torch.allclose(told(rimmed), told(z), atol=1e-5)


def test_too_small_an_image_is_refused():
    for shape in ((1, 1, 4, 30), (1, 2, 9, 9)):
        with pytest.raises(ValueError, match=r"`z` must be of shape \(1, 1, h, w\), at least 5×5 pixels, got shape"):
            told(random(*shape))


# --- what is seen ---


def roofs(width, scale=4, side=24):
    """Bright and dark rectangles of all sizes through a Gaussian blur, a component (1, 1, side, side)."""
    draw = np.random.default_rng(0)
    fine = np.zeros((scale * (side + 4), scale * (side + 4)))
    for _ in range(500):
        (top, left), (height, long) = draw.integers(0, len(fine), 2), draw.integers(2, 40, 2)
        fine[top : top + height, left : left + long] = draw.normal()
    along = np.arange(len(fine)) + 0.5
    centres = (np.arange(side) + 2.5) * scale
    seen = np.exp(-4 * np.log(2) * ((along - centres[:, None]) / (width * scale)) ** 2)
    seen /= seen.sum(1, keepdims=True)
    z = torch.from_numpy(seen @ fine @ seen.T)
    return ((z - z.mean()) / z.std())[None, None].float()


def test_the_width_of_sharp_edges_is_seen():
    widths = (0.6, 1.0, 1.5)
    found = [blur_seen([roofs(width)], torch.zeros(1)).width for width in widths]
    assert found == sorted(found)
    assert found == pytest.approx(widths, rel=0.25)


def test_windows_that_tell_nothing_and_windows_that_do():
    z = roofs(1.0)
    for nothing in (z[..., :5, :9], torch.full((1, 1, 9, 9), float("nan"))):
        assert blur_seen([nothing], torch.zeros(1)) == (USUAL, SURE)
        assert blur_seen([nothing, z], torch.zeros(1)) == pytest.approx(blur_seen([z], torch.zeros(1)))
    with pytest.raises(ValueError, match=r"`components` must be of shape \(1, 2, h, w\), as many as `noise`"):
        blur_seen([z], torch.zeros(2))


# --- training ---


@pytest.fixture(scope="module")
def tiles():
    """Three tiles of ground, and one with nothing in it."""
    found = random(4, training.SIDE, training.SIDE).cumsum(1).cumsum(2)
    found = found / found.std((1, 2), keepdim=True)
    found[3] = 0
    return found.half()


def test_crops_are_as_wide_as_they_are_told_to_be(tiles):
    z, noise, width = training.observed(tiles, 4, 40, torch.Generator().manual_seed(0))
    assert (
        10 < len(z) < 40 and z.shape[1:] == (1, 24, 24) and len(noise) == len(width) == len(z)
    )  # none of the empty tile
    assert bool(((width >= training.NARROWEST) & (width <= training.WIDEST)).all())
    assert 0 < int((noise == 0).sum()) < len(z)


def test_a_few_steps_leave_weights_that_load(tiles, tmp_path):
    before = torch.random.get_rng_state()
    options = {"batches": 2, "steps": 3, "data": [{"package": "none"}]}
    card = training.train_blur(tiles, tmp_path / "a", **options)
    assert card == json.loads((tmp_path / "a" / "card.json").read_text(encoding="utf-8"))
    assert card["steps"] == 3 and card["data"] == options["data"] and 200 < card["crops"] < 512
    network = load_component("blur", BlurWidth, tmp_path / "a")
    assert not network.training and float(network.std.min()) > 0
    # the same images and seed, the same weights; nobody's generator has moved
    training.train_blur(tiles, tmp_path / "b", **options)
    again = load_component("blur", BlurWidth, tmp_path / "b").state_dict()
    assert all(torch.equal(x, again[name]) for name, x in network.state_dict().items())
    training.train_blur(tiles, tmp_path / "c", **options, seed=1)
    assert not torch.equal(load_component("blur", BlurWidth, tmp_path / "c").mean, network.mean)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_learning_brings_the_error_down(tiles):
    generator = torch.Generator().manual_seed(0)
    z, noise, width = training.observed(tiles, 4, 512, generator)
    x, target, network = features(z, noise), width.log(), BlurWidth(32)
    network.mean, network.std = x.mean(0), x.std(0) + 1e-6
    training._fit(network, x, target, 300, generator)
    with torch.no_grad():
        error = network(x)[:, 0] - target
    assert float(error.square().mean()) < 0.5 * float(target.var())  # that of the best constant


def test_the_shipped_card_fits_the_weights():
    card = json.loads(data_path("weights/blur/card.json").read_text(encoding="utf-8"))
    assert card["network"] == {"width": load_component("blur", BlurWidth).width}


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        (None, FileNotFoundError, "`folder` must be a folder with card.json and blur.safetensors, got"),
        ('{"network": {"blocks": 3}}', ValueError, "`folder` must be those of a card.json of blur, got sizes blocks"),
        ('{"network": {"depth": 3}}', ValueError, "`folder` must be those of a card.json of this version"),
        ('{"network": {"width": 32}}', FileNotFoundError, "blur.safetensors"),
    ],
)
def test_weights_that_do_not_belong_are_refused(tmp_path, text, error, message):
    if text is not None:
        (tmp_path / "card.json").write_text(text, encoding="utf-8")
    with pytest.raises(error, match=message):
        load_component("blur", BlurWidth, tmp_path)
