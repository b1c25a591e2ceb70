"""The paper's degradation network: what is built in, and that it learns a blur."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from ctmem.data.scenes import synthetic
from ctmem.networks import kernel_net
from ctmem.networks.kernel_net import KernelNet
from ctmem.observe.camera import Camera
from ctmem.observe.kernel import impulse_response, train_kernel, validation_l1
from ctmem.observe.optics import blur_down, gaussian_psf, upsample

both_kinds = pytest.mark.parametrize("joint", [False, True])
X = torch.rand(1, 4, 32, 32, generator=torch.Generator().manual_seed(0))


def net(bands: int = 7, width: int = 16, *, joint: bool = False) -> KernelNet:
    """A small untrained network, the same each time, whatever the global generator says."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return KernelNet(bands, width, joint=joint)


def random(*shape: int) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(1))


@both_kinds
@pytest.mark.parametrize("size", [(12, 20), (13, 21), (3, 2), (1, 1)])
def test_keeps_height_and_width(size, joint):
    x = random(2, 7, *size)
    assert net(joint=joint)(x).shape == x.shape


@pytest.mark.parametrize("size", [3, 5, 7])
def test_every_convolution_repeats_the_border(size):
    """A mean over the square keeps a constant up to the border."""
    layer = kernel_net._conv(1, 1, size)
    torch.nn.init.constant_(layer.weight, 1 / size**2)
    torch.nn.init.zeros_(layer.bias)
    torch.testing.assert_close(layer(torch.ones(1, 1, 9, 8)), torch.ones(1, 1, 9, 8))
    assert all(
        c.padding_mode == "replicate" for c in net().modules() if isinstance(c, torch.nn.Conv2d) and c.padding[0]
    )


@both_kinds
def test_about_0_6_million_parameters_at_width_64(joint):
    count = sum(p.numel() for p in net(4, 64, joint=joint).parameters())
    assert 0.5e6 < count < 0.65e6


@both_kinds
def test_commutes_with_gain_and_offset(joint):
    k, x = net(joint=joint), random(2, 7, 13, 21)
    gain, offset = 0.1 + 2 * random(1, 7, 1, 1), random(2, 7, 1, 1) - 0.5
    assert torch.allclose(k(gain * x + offset), gain * k(x) + offset, atol=1e-4)


@both_kinds
def test_a_constant_image_gives_finite_numbers_close_to_it(joint):
    y = net(joint=joint)(torch.full((1, 7, 12, 20), 0.3))
    assert torch.allclose(y, torch.tensor(0.3), atol=1e-4)


def test_band_by_band_each_band_stands_alone_and_any_number_goes_through():
    k, x = net(4), random(2, 7, 12, 20)
    y = k(x)
    for band in range(7):
        assert torch.allclose(y[:, band : band + 1], k(x[:, band : band + 1]), atol=1e-5)
    assert net(9).state_dict().keys() == k.state_dict().keys()
    net(9).load_state_dict(k.state_dict())


def test_samples_do_not_see_each_other():
    k, x = net(), random(2, 7, 12, 20)
    assert torch.allclose(k(x)[1], k(x[1:])[0], atol=1e-5)


@pytest.mark.parametrize(("scale", "grid"), [(2, 4), (3, 12), (4, 4), (8, 8)])
def test_crops_fit_the_poolings_and_the_lr_pixels(scale, grid):
    assert KernelNet(4, 16, scale=scale).grid == grid


def chain(x: torch.Tensor) -> torch.Tensor:
    return upsample(blur_down(x, gaussian_psf((5.0, 2.5), scale=4), 4), 4)


def test_learns_a_blur_it_was_not_told_and_keeps_it_on_unseen_ground():
    sharp = synthetic(seed=3, height=96, width=128, bands=4).tensor()
    blurry = chain(sharp)
    train, validation, test = (..., slice(0, 64)), (..., slice(64, 96)), (..., slice(96, 128))
    k = net(4)
    before = validation_l1(k, [sharp[test]], [blurry[test]])
    history = train_kernel(
        k, [sharp[train]], [blurry[train]], val_sharp=[sharp[validation]], val_blurry=[blurry[validation]],
        steps=150, batch=4, learning_rate=4e-3, generator=torch.Generator().manual_seed(2),
    )  # fmt: skip
    error = validation_l1(k, [sharp[test]], [blurry[test]])
    nothing = F.l1_loss(sharp[test], blurry[test]).item()
    assert error < 0.5 * before
    assert error < 0.5 * nothing
    assert history["best_validation"] == min(value for _, value in history["validation"])
    assert not k.training


def test_impulse_response_of_a_network():
    assert impulse_response(Camera.gaussian(scale=4), random(1, 2, 40, 48), blur=net(2)).shape == (17, 17)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: KernelNet(0), "`bands` must be a whole number ≥ 1, got 0"),
        (lambda: KernelNet(4, 24), "`width` must be a multiple of 16, got 24"),
        (lambda: KernelNet(4, 16, scale=0), "`scale` must be a whole number ≥ 1, got 0"),
        (lambda: net(4)(X[0]), "`x` must be of shape (B, C, H, W), none of them 0, got"),
        (lambda: net(4)(X / 0), "`x` must be finite everywhere"),
        (lambda: net(3, joint=True)(X), "`x` must be of 3 band(s), shape (B, 3, H, W), got 4 band(s)"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError) as error:
        call()
    assert message in str(error.value)


def test_no_floating_point_tensor():
    with pytest.raises(TypeError, match="must be a floating-point tensor"):
        net(4)(X.int())
