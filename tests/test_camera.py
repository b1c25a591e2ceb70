"""Baselines: what bicubic keeps, that back-projection explains the observation, and the CNN."""

import pytest
import torch

from ctmem.config import TINY
from ctmem.model import build_networks
from ctmem.networks.residual_cnn import ResidualCNN
from ctmem.observe.optics import back_project, bicubic, blur_down, default_psf


@pytest.fixture
def scene():
    return torch.rand(2, 7, 12, 20, generator=torch.Generator().manual_seed(0))


def test_bicubic_keeps_a_constant():
    x = torch.full((2, 7, 3, 5), 0.4)
    torch.testing.assert_close(bicubic(x, 4), torch.full((2, 7, 12, 20), 0.4))


def test_back_projection_explains_the_observation(scene):
    psf = default_psf(4)
    lr_hsi = blur_down(scene, psf, 4)
    start = bicubic(lr_hsi, 4)
    mismatch = [
        float((blur_down(back_project(start, lr_hsi, psf, scale=4, steps=n), psf, 4) - lr_hsi).norm() / lr_hsi.norm())
        for n in (0, 1, 10, 100)
    ]
    assert mismatch[0] > mismatch[1] > mismatch[2] > mismatch[3]
    assert mismatch[2] < 0.1 * mismatch[0] and mismatch[3] < 1e-3


def test_back_projection_stops_at_the_tolerance(scene):
    """As many steps as needed and no more: the first result whose mismatch is within it."""
    psf = default_psf(4)
    lr_hsi = blur_down(scene, psf, 4)
    start = bicubic(lr_hsi, 4)
    counted = [back_project(start, lr_hsi, psf, scale=4, steps=n) for n in range(30)]
    mismatch = [float((blur_down(x, psf, 4) - lr_hsi).norm() / lr_hsi.norm()) for x in counted]
    for tolerance in (2.0, 0.03, 0.01):
        needed = next(n for n, value in enumerate(mismatch) if value <= tolerance)
        found = back_project(start, lr_hsi, psf, scale=4, steps=29, tolerance=tolerance)
        assert torch.equal(found, counted[needed])
    assert torch.equal(back_project(start, lr_hsi, psf, scale=4, steps=2, tolerance=1e-9), counted[2])


def test_back_projection_leaves_the_truth_alone(scene):
    psf = default_psf(4)
    found = back_project(scene, blur_down(scene, psf, 4), psf, scale=4)
    torch.testing.assert_close(found, scene, atol=1e-6, rtol=1e-6)


def test_cnn_starts_as_the_identity_and_learns():
    torch.manual_seed(0)
    cnn, x = ResidualCNN(5, width=8, blocks=2), torch.randn(2, 5, 12, 20)
    assert torch.equal(cnn(x), x)
    torch.nn.init.normal_(cnn.out.weight, std=0.1)
    cnn(x).square().sum().backward()
    assert all(p.grad.abs().sum() > 0 for p in cnn.parameters())


def test_cnn_has_the_denoisers_size():
    networks = build_networks(TINY)
    cnn, denoiser = (sum(p.numel() for p in networks[part].parameters()) for part in ("cnn", "denoiser"))
    assert 0.9 < cnn / denoiser < 1.1


def test_errors(scene):
    psf = default_psf(4)
    with pytest.raises(ValueError, match="`pred` must be 4 times the size of `lr_hsi`, 12×12, got 12×20"):
        back_project(scene, scene[..., :3, :3], psf, scale=4)
    with pytest.raises(ValueError, match=r"`lr_hsi` must be of 7 band\(s\)"):
        back_project(scene, scene[:, :5, :3, :5], psf, scale=4)
    with pytest.raises(ValueError, match=r"`base` must be of 4 band\(s\)"):
        ResidualCNN(4, 8, 1)(scene)
