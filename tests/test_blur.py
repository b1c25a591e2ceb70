"""The width of a blur: what is told of components, what they say together, how it is learned, and what is refused."""

import json
import math

import numpy as np
import pytest
import torch

from ctmem.card import load_component
from ctmem.files import data_path
from ctmem.networks.blur_width import DIFFERENCES, FEATURES, POWERS, BlurWidth, features, together
from ctmem.tiling import blur
from ctmem.tiling.blur import PIXEL, USUAL, blur_seen
from ctmem.train import blur as training


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def told(z, noise=0.1, rank=0.0):
    return features(z, torch.full((len(z),), noise), torch.full((len(z),), rank))


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
    curved = [(x[i + 3] - 3 * x[i + 2] + 3 * x[i + 1] - x[i]).ravel() for i in range(6)]
    curved += [(x[:, j + 3] - 3 * x[:, j + 2] + 3 * x[:, j + 1] - x[:, j]).ravel() for j in range(9)]
    place = len(POWERS) * DIFFERENCES.index({0: -1.0, 1: 3.0, 2: -3.0, 3: 1.0})
    wanted = math.log(np.abs(np.concatenate(curved)).mean() / x.std())
    assert float(told(z)[0, place]) == pytest.approx(wanted, abs=1e-5)
    assert told(z, noise=0.2, rank=3.0)[0, -3:].tolist() == pytest.approx(
        [math.log(0.2 / x.std() + 1e-3), math.log(108), 3.0], abs=1e-5
    )


def test_a_rim_of_holes_changes_nothing():
    z = random(1, 1, 9, 12)
    rimmed = torch.nn.functional.pad(z, (2, 3, 1, 0), value=float("nan"))
    assert torch.allclose(told(rimmed), told(z), atol=1e-5)


def test_a_strip_tells_something_and_less_does_not():
    assert bool(torch.isfinite(told(random(3, 1, 2, 7))).all())
    for shape in ((1, 1, 1, 30), (1, 1, 6, 6), (1, 2, 9, 9)):
        with pytest.raises(ValueError, match=r"`z` must be of shape \(1, 1, h, w\), at least 2×7 pixels, as many as"):
            told(random(*shape))


def test_the_sure_ones_count_more_and_some_not_at_all():
    found = torch.tensor([[[0.0, math.log(0.01)], [1.0, math.log(0.03)], [9.0, 0.0]]])
    mean, variance = together(found, torch.tensor([[1.0, 1.0, 0.0]]))
    assert float(mean) == pytest.approx(0.25)  # weights 3 to 1
    assert float(variance) == pytest.approx(0.75 * 0.01 + 0.25 * 0.03)  # no surer than their mean
    assert float(together(found, torch.tensor([[1.0, 3.0, 0.0]]))[0]) == pytest.approx(0.5)


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
    found = [blur_seen([roofs(width)], torch.zeros(1), 4).width for width in widths]
    assert found == sorted(found)
    assert found == pytest.approx(widths, rel=0.25)


def test_what_a_fine_pixel_blurs_itself_is_taken_out():
    found = {scale: blur_seen([roofs(1.5)], torch.zeros(1), scale).width for scale in (2, 6)}
    assert found[2] ** 2 + (PIXEL / 2) ** 2 == pytest.approx(found[6] ** 2 + (PIXEL / 6) ** 2)
    assert pytest.approx(math.sqrt(8 * math.log(2) / 12), rel=1e-3) == PIXEL


def test_blocks_with_holes_and_small_windows():
    z = roofs(1.0, side=60)
    holed = z.clone()
    holed[..., :30] = float("nan")  # blocks are of 30 pixels a side here
    found = [blur_seen([one], torch.zeros(1), 4) for one in (holed, z[..., 30:])]
    assert found[0] == pytest.approx(found[1])
    for nothing in (z[..., :6, :6], torch.full((1, 1, 9, 9), float("nan")), torch.zeros(1, 1, 9, 9)):
        assert blur_seen([nothing], torch.zeros(1), 4).width == USUAL
    with pytest.raises(ValueError, match=r"`components` must be of shape \(1, 2, h, w\), as many as `noise`"):
        blur_seen([z], torch.zeros(2), 4)


# --- training ---


@pytest.fixture
def images(monkeypatch):
    """A corpus of eight images that are barely large enough, one too small, and crops that are small, too."""
    monkeypatch.setattr(training, "SIZES", ((8, 10),))
    monkeypatch.setattr(training, "SCALE", 2)
    monkeypatch.setattr(training, "SIDE", 40)
    monkeypatch.setattr(training, "LEVELS", (1,))
    monkeypatch.setattr(training, "MOST", 4)
    found = {f"image {number}": random(1 + number % 3, 100, 110, seed=number).cumsum(1) for number in range(8)}
    found["image 0"][:, 0, 0] = float("nan")
    return found | {"small": random(2, 30, 60)}


def test_blurs_are_as_wide_as_they_are_told_to_be():
    width, box = torch.tensor([0.8, 1.7, 0.5])[:, None, None], torch.tensor([False, False, True])[:, None, None]
    weights = training._profiles(6, width, box).double().numpy()
    assert weights.shape == (3, 6, 40)
    along = np.arange(40) + 0.5
    variances = {0: (0.8 * 4) ** 2 / (8 * math.log(2)), 2: (16 - 1) / 12}  # a box is of four equal weights
    for kind, variance in variances.items():
        for coarse in (2, 3):
            profile = weights[kind, coarse]
            assert profile.sum() == pytest.approx(1)
            assert profile @ along == pytest.approx((coarse + 2.5) * 4, abs=1e-3)
            assert profile @ (along - profile @ along) ** 2 == pytest.approx(variance, rel=1e-3)


def test_what_is_observed_is_whitened_and_ordered(images):
    assert all(len(training.ground_of(image)) == (name != "small") for name, image in images.items())
    (tiles,) = training.ground_of(images["image 1"])
    assert tiles.shape == (4, 2, 40, 40)
    z, noise, clear, width = training.observed(tiles, (8, 10), 6, torch.Generator().manual_seed(0))
    assert z.shape == (6, 5, 8, 10) and bool(clear[:, 0].all())
    assert torch.allclose(z.square().mean((2, 3))[clear], torch.ones(int(clear.sum())), atol=1e-3)
    assert bool((noise.diff(dim=1) >= 0).all())  # of the same noise a weak component has more
    assert bool((noise[clear & (torch.arange(5) > 0)] <= 0.3).all())
    least, most = (math.hypot(one, PIXEL / 2) for one in (0.4, 1.9))
    assert bool(((width.exp() > least - 1e-4) & (width.exp() < most + 1e-4)).all())


def test_a_few_steps_leave_weights_that_load(images, tmp_path):
    before = torch.random.get_rng_state()
    options = {"groups": 1, "steps": 3, "data": [{"package": "none"}]}
    card = training.train_blur(images, tmp_path / "a", **options)
    assert card == json.loads((tmp_path / "a" / "card.json").read_text(encoding="utf-8"))
    assert card["steps"] == 3 and card["data"] == options["data"] and len(card["not learned from"]) == 1
    assert len(card["metrics"]) == 2 and all(0 < value < 10 for value in card["metrics"].values())
    network = load_component("blur", BlurWidth, tmp_path / "a")
    assert not network.training and float(network.std.min()) > 0
    # the same images and seed, the same weights; nobody's generator has moved
    training.train_blur(images, tmp_path / "b", **options)
    again = load_component("blur", BlurWidth, tmp_path / "b")
    assert all(torch.equal(x, network.state_dict()[name]) for name, x in again.state_dict().items())
    training.train_blur(images, tmp_path / "c", **options, seed=1)
    assert not torch.equal(load_component("blur", BlurWidth, tmp_path / "c").mean, network.mean)
    assert torch.equal(torch.random.get_rng_state(), before)
    with pytest.raises(ValueError, match="`images` must be some with 40×40 px of data, got none"):
        training.train_blur({"small": images["small"]}, tmp_path / "d", **options)


def test_learning_brings_the_error_down(images):
    generator = torch.Generator().manual_seed(0)
    learned = training._told([tiles for one in images.values() for tiles in training.ground_of(one)], 2, generator)
    network = BlurWidth(32)
    network.mean, network.std = learned[0][learned[1]].mean(0), learned[0][learned[1]].std(0) + 1e-6
    before = training._error(network, learned)
    training._fit(network, learned, 60, generator)
    assert training._error(network, learned) < 0.6 * before


def test_the_shipped_card_fits_the_weights():
    network = blur._shipped()
    card = json.loads(data_path("weights/blur/card.json").read_text(encoding="utf-8"))
    assert card["network"] == {"width": network.width}
    assert card["crops"] > 10_000


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
