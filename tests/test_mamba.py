"""Mamba blocks: the sizes of the stock block, causality, and the two streams."""

import pytest
import torch
from torch.nn import functional as F

from ctmem.networks.mamba import CrossMambaBlock, MambaBlock

STOCK = {  # names and shapes of mamba_ssm.Mamba(d_model=128)
    "A_log": (256, 16),
    "D": (256,),
    "in_proj.weight": (512, 128),
    "conv1d.weight": (256, 1, 4),
    "conv1d.bias": (256,),
    "x_proj.weight": (40, 256),
    "dt_proj.weight": (256, 8),
    "dt_proj.bias": (256,),
    "out_proj.weight": (128, 256),
}


@pytest.fixture
def tokens():
    return torch.randn(2, 21, 12, generator=torch.Generator().manual_seed(0))


def test_state_dict_is_that_of_the_stock_block():
    assert {name: tuple(x.shape) for name, x in MambaBlock(128).state_dict().items()} == STOCK


def test_parameter_counts():
    assert sum(p.numel() for p in MambaBlock(128).parameters()) == 116_480
    assert sum(p.numel() for p in CrossMambaBlock(128).parameters()) == 200_192


@pytest.mark.parametrize("bias", ["dt_proj.bias", "stream_a.dt_proj.bias", "stream_b.dt_proj.bias"])
def test_step_sizes_start_between_a_thousandth_and_a_tenth(bias):
    """Of both streams: the released fork left the second one at torch's default."""
    block = CrossMambaBlock(64) if bias.startswith("stream") else MambaBlock(64)
    delta = F.softplus(dict(block.named_parameters())[bias])
    assert delta.min() >= 0.99e-3 and delta.max() <= 1.01e-1
    assert delta.log().std() > 0.8  # log-uniform over two decades: 1.33


def test_block_is_causal(tokens):
    block = MambaBlock(12)
    changed = tokens.clone()
    changed[:, 10] += 1
    difference = (block(tokens) - block(changed)).abs().amax((0, 2))
    assert (difference[:10] == 0).all() and (difference[10:] > 0).all()


def test_cross_block_is_the_sum_of_two_stock_blocks(tokens):
    cross = CrossMambaBlock(12)
    guide = tokens.flip(0) * 0.5
    parts = []
    for stream in (cross.stream_a, cross.stream_b):
        block = MambaBlock(12)
        block.load_state_dict(stream.state_dict() | {"out_proj.weight": cross.out_proj.weight})
        parts.append(block)
    torch.testing.assert_close(cross(tokens, guide), parts[0](tokens) + parts[1](guide))


def test_every_parameter_learns(tokens):
    cross = CrossMambaBlock(12)
    cross(tokens, tokens.flip(1)).square().sum().backward()
    assert [name for name, p in cross.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0] == []


def test_errors(tokens):
    with pytest.raises(ValueError, match=r"`tokens` must be of shape \(B, L, 12\), got shape \(2, 21, 11\)"):
        MambaBlock(12)(tokens[..., :11])
    with pytest.raises(ValueError, match=r"`tokens` must be of shape \(B, L, 12\)"):
        CrossMambaBlock(12)(tokens[0], tokens[0])
    with pytest.raises(ValueError, match=r"`guide` must be of the shape of `tokens` \(2, 21, 12\)"):
        CrossMambaBlock(12)(tokens, tokens[:, :5])
