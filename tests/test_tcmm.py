"""The denoiser: shapes, cached = uncached, the four walks, and that every parameter has a gradient."""

from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from ctmem.config import TINY
from ctmem.networks.tcmm import (
    CIM,
    TCMM,
    ChannelAttention,
    CrossChannelAttention,
    HalfNormBlock,
    Pointwise,
    channels_last,
    to_image,
    to_tokens,
)

CONFIG = replace(TINY.denoiser, width=16, state=4)
B, Z, T, H, W = 2, 5, 12, 12, 20  # T: texture channels


@pytest.fixture
def inputs():
    generator = torch.Generator().manual_seed(0)
    x_t, previous, base = (torch.randn(B, Z, H, W, generator=generator) for _ in range(3))
    return x_t, torch.tensor([0.2, 0.9]), previous, base, torch.randn(B, T, H, W, generator=generator)


@pytest.fixture
def network():
    torch.manual_seed(0)
    network = TCMM(Z, T, CONFIG)
    torch.nn.init.normal_(network.fusion[-1].weight, std=0.1)  # so that what comes out depends on what goes in
    return network


def test_starts_as_the_identity(inputs):
    base = inputs[3]
    assert torch.equal(TCMM(Z, T, CONFIG)(*inputs), base)


@torch.no_grad()
def test_cached_equals_uncached(network, inputs):
    x_t, level, previous, base, texture = inputs
    condition = network.condition(base, texture)
    for shift in (0.0, 1.0):
        torch.testing.assert_close(
            network.denoise(x_t + shift, level, previous, condition),
            network(x_t + shift, level, previous, base, texture),
        )


@torch.no_grad()
@pytest.mark.parametrize("index", range(5))
def test_every_input_matters(network, inputs, index):
    changed = list(inputs)
    changed[index] = changed[index] * 0.5
    assert not torch.allclose(network(*inputs), network(*changed), atol=1e-5)


@torch.no_grad()
def test_samples_do_not_see_each_other(network, inputs):
    alone = network(*(x[1:] for x in inputs))
    torch.testing.assert_close(network(*inputs)[1:], alone, atol=1e-5, rtol=1e-4)


def test_every_parameter_learns(network, inputs):
    network(*inputs).square().sum().backward()
    silent = [name for name, p in network.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert silent == []


@torch.no_grad()
@pytest.mark.parametrize("size", [(12, 20), (13, 7), (1, 5)])
def test_any_size(network, size):
    x = torch.randn(1, Z, *size)
    texture = torch.randn(1, T, *size)
    assert network(x, torch.tensor([0.5]), x, x, texture).shape == x.shape


@torch.no_grad()
@pytest.mark.parametrize("option", [{"channel_attention": False}, {"cross_scan": False}])
def test_options_change_the_result_but_not_the_shape(option, inputs):
    torch.manual_seed(0)
    network = TCMM(Z, T, replace(CONFIG, **option))
    assert network(*inputs).shape == inputs[0].shape


def test_as_released_block_is_a_norm_and_a_stock_block():
    names = {name.split(".")[0] for name, _ in CIM(replace(CONFIG, channel_attention=False), 0).named_parameters()}
    assert names == {"norm_in", "mamba"}


def test_walks_by_hand():
    """2 × 3 image 0 1 2 / 3 4 5: rows, rows backwards, columns, columns backwards."""
    x = torch.arange(6.0).reshape(1, 1, 2, 3)
    walks = [to_tokens(x, order).flatten().tolist() for order in range(4)]
    assert walks == [[0, 1, 2, 3, 4, 5], [5, 4, 3, 2, 1, 0], [0, 3, 1, 4, 2, 5], [5, 2, 4, 1, 3, 0]]


@pytest.mark.parametrize("order", range(5))
def test_walks_come_back(order):
    x = torch.randn(2, 3, 5, 7)
    assert torch.equal(to_image(to_tokens(x, order), (5, 7), order), x)


@torch.no_grad()
def test_half_of_the_channels_is_normed():
    block = HalfNormBlock(6)
    seen = {}
    block.norm.register_forward_hook(lambda module, args, out: seen.update(out=out))
    x = torch.randn(2, 6, 12, 20)
    block(x)
    assert seen["out"].shape[1] == 3
    torch.testing.assert_close(seen["out"].mean((2, 3)), torch.zeros(2, 3), atol=1e-5, rtol=0)


@torch.no_grad()
def test_channel_attention_scales_whole_channels():
    x = torch.rand(2, 8, 12, 20) + 1
    ratio = ChannelAttention(8)(x) / x
    assert (
        float((ratio.amax((2, 3)) - ratio.amin((2, 3))).max()) < 1e-6
        and 0 < float(ratio.min()) < float(ratio.max()) < 1
    )


@torch.no_grad()
def test_cross_channel_attention_by_an_explicit_loop():
    torch.manual_seed(0)
    attention = CrossChannelAttention(8, heads=2)
    x, guide = torch.randn(2, 8, 12, 20), torch.randn(2, 8, 12, 20)
    query = attention.query(attention.norm_x(x)).flatten(2)
    key, value = attention.key_value(attention.norm_guide(guide)).flatten(2).chunk(2, 1)
    mixed = torch.zeros_like(value)
    for b in range(2):
        for head in range(2):
            channels = slice(4 * head, 4 * head + 4)
            q, k, v = query[b, channels], key[b, channels], value[b, channels]
            cosine = (q / q.norm(dim=1, keepdim=True)) @ (k / k.norm(dim=1, keepdim=True)).T
            mixed[b, channels] = (cosine * attention.temperature[head]).softmax(1) @ v
    torch.testing.assert_close(attention(x, guide), x + attention.out(mixed.reshape(x.shape)), atol=1e-5, rtol=1e-4)


def test_errors(network, inputs):
    x_t, level, previous, base, texture = inputs
    with pytest.raises(ValueError, match=r"`base` must be of 5 band\(s\)"):
        network.condition(base[:, :4], texture)
    with pytest.raises(ValueError, match=r"`texture` must be of 12 band\(s\)"):
        network.condition(base, texture[:, :11])
    with pytest.raises(ValueError, match="`texture` must be of the shape of `base`"):
        network.condition(base, texture[..., :8])
    condition = network.condition(base, texture)
    with pytest.raises(ValueError, match="`x_t` must be of the shape of `base`"):
        network.denoise(x_t[..., :8], level, previous, condition)
    with pytest.raises(ValueError, match="`x0_previous` must be of the shape of `x_t`"):
        network.denoise(x_t, level, previous[:, :3], condition)
    with pytest.raises(ValueError, match=r"`noise_level` must be one level per sample, shape \(2,\), got shape \(1,\)"):
        network.denoise(x_t, level[:1], previous, condition)
    with pytest.raises(ValueError, match="`heads` must be a divisor of the width 16, got 3"):
        TCMM(Z, T, replace(CONFIG, heads=3))


def test_a_pointwise_convolution_is_a_convolution():
    """With the names and shapes of torch's own, in both orders of memory."""
    layer = Pointwise(5, 7)
    x = torch.randn(2, 5, 4, 6, generator=torch.Generator().manual_seed(0))
    wanted = F.conv2d(x, layer.weight, layer.bias)
    for image in (x, channels_last(x)):
        torch.testing.assert_close(layer(image), wanted)
    assert {name: tuple(p.shape) for name, p in layer.named_parameters()} == {"weight": (7, 5, 1, 1), "bias": (7,)}


def test_channels_last_changes_nothing_but_the_order_in_memory():
    x = torch.randn(2, 5, 4, 6, generator=torch.Generator().manual_seed(0))
    assert torch.equal(channels_last(x), x)
    assert to_tokens(channels_last(x)).is_contiguous()
