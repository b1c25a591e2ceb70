"""The CNN of the comparison: it starts as the identity, learns, and has the denoiser's size."""

import pytest
import torch

from ctmem.config import TINY
from ctmem.model import build_networks
from ctmem.networks.residual_cnn import ResidualCNN


def test_cnn_starts_as_the_identity_and_learns():
    torch.manual_seed(0)
    cnn, x = ResidualCNN(5, width=8, blocks=2), torch.randn(2, 5, 12, 20)
    assert torch.equal(cnn(x), x)
    torch.nn.init.normal_(cnn.out.weight, std=0.1)
    cnn(x).square().sum().backward()
    assert all(p.grad.abs().sum() > 0 for p in cnn.parameters())


@torch.no_grad()
def test_cnn_by_hand():
    """One pixel, weights in the middle of each 3×3 alone: numbers through two blocks and out, with both signs."""
    cnn = ResidualCNN(1, width=2, blocks=2)
    for parameter in cnn.parameters():
        parameter.zero_()
    middle = (..., 1, 1)
    cnn.stem.weight[middle] = torch.tensor([[1.0], [-2.0]])  # 3 → 3, −6
    for first, second in zip(cnn.first, cnn.second):
        first.weight[middle], second.weight[middle] = torch.eye(2), torch.tensor([[1.0, 5.0], [0.5, 5.0]])
    cnn.out.weight[middle] = torch.tensor([[1.0, 10.0]])
    # ReLU leaves 3, 0 → adds 3, 1.5: 6, −4.5; then 6, 0 → adds 6, 3: 12, −1.5; 12 − 15 = −3 is added to 3
    assert float(cnn(torch.full((1, 1, 1, 1), 3.0))) == pytest.approx(0.0, abs=1e-6)


def test_cnn_has_the_denoisers_size():
    networks = build_networks(TINY)
    cnn, denoiser = (sum(p.numel() for p in networks[part].parameters()) for part in ("cnn", "denoiser"))
    assert 0.9 < cnn / denoiser < 1.1


def test_errors():
    with pytest.raises(ValueError, match=r"`base` must be of 4 band\(s\)"):
        ResidualCNN(4, 8, 1)(torch.rand(2, 7, 12, 20))
    with pytest.raises(TypeError, match="`base` must be a floating-point tensor"):
        ResidualCNN(7, 8, 1)(torch.ones(2, 7, 12, 20, dtype=torch.int))
