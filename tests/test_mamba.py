"""Mamba blocks: the sizes of the stock block, causality, and the two streams."""

import copy
import types
from unittest import mock

import pytest
import torch
import wiring_stubs
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from ctmem.networks import mamba
from ctmem.networks.mamba import CrossMambaBlock, MambaBlock, Stream
from ctmem.networks.plain_scan import PlainScan
from ctmem.networks.scan.selective import obstacle

without = obstacle("numba", torch.device("cpu"), torch.float32)
needs_numba = pytest.mark.skipif(without is not None, reason=str(without))

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


def test_step_sizes_start_log_uniformly_between_their_limits():
    """softplus of the bias of many channels: the ends to a thousandth, and all deciles of the logarithm."""
    many = types.SimpleNamespace(rank=4, dt_proj=torch.nn.Linear(4, 100_000))
    torch.manual_seed(0)
    Stream.reset_delta(many)
    delta = F.softplus(many.dt_proj.bias.detach().double())
    assert float(delta.min()) == pytest.approx(1e-3, rel=1e-3) and float(delta.max()) == pytest.approx(1e-1, rel=1e-3)
    shares = torch.linspace(0.1, 0.9, 9, dtype=torch.float64)
    torch.testing.assert_close(delta.log10().quantile(shares), 2 * shares - 3, atol=0.02, rtol=0)
    weight = many.dt_proj.weight.detach()
    assert float(weight.abs().max()) == pytest.approx(0.5, rel=1e-3)  # uniform in ± rank^(−1/2)
    assert float(weight.std()) == pytest.approx(0.5 / 3**0.5, rel=1e-2)


def test_step_sizes_of_a_plain_scan_start_as_those_of_a_block():
    torch.manual_seed(0)
    delta = F.softplus(PlainScan(512).dt_proj.bias.detach())
    assert 1e-3 <= float(delta.min()) < 1.2e-3 and 0.08 < float(delta.max()) <= 0.1001


def test_states_start_at_the_rates_1_to_n_and_the_input_passes():
    stream = Stream(8, d_state=5)
    torch.testing.assert_close(stream.A_log.exp(), torch.arange(1.0, 6).expand(16, 5))
    assert torch.equal(stream.D, torch.ones(16))


@torch.no_grad()
def test_blocks_are_the_formulas(tokens):
    """Of the paper, step by step, in the other writing of `wiring_stubs`; every weight at random."""
    torch.manual_seed(3)
    block, cross, guide = MambaBlock(12).double(), CrossMambaBlock(12).double(), tokens.double().flip(1) * 0.7
    for weight in [*block.parameters(), *cross.parameters()]:
        weight.add_(0.3 * torch.randn_like(weight))
    w = {f"block.{name}": x for name, x in block.state_dict().items()}
    w |= {f"cross.{name}": x for name, x in cross.state_dict().items()}
    expected = wiring_stubs.linear(w, "block.out_proj", wiring_stubs.stream(w, "block", tokens.double()))
    torch.testing.assert_close(block(tokens.double()), expected)
    expected = wiring_stubs.two_streams(w, "cross", tokens.double(), guide)
    torch.testing.assert_close(cross(tokens.double(), guide), expected)


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


# --- the compiled stream ---


def gradients(stream, tokens, weight):
    """Output, and the gradients of the tokens and all parameters."""
    tokens = tokens.clone().requires_grad_()
    y = stream.features(tokens)
    parameters = dict(stream.named_parameters())
    found = torch.autograd.grad((y * weight).sum(), [tokens, *parameters.values()])
    return dict(zip(["y", "tokens", *parameters], [y.detach(), *found]))


@needs_numba
@settings(max_examples=15, deadline=None, derandomize=True, database=None)
@given(st.integers(1, 3), st.integers(1, 70), st.sampled_from([5, 16, 40]), st.integers(1, 9), st.integers(1, 5))
def test_the_compiled_stream_is_the_composition(batch, length, width, states, taps):
    """Values and all gradients, for lengths around those of chunks and of the convolution."""
    torch.manual_seed(length)
    stream = Stream(width, d_state=states, d_conv=taps)
    tokens, weight = torch.randn(batch, length, width), torch.randn(batch, length, 2 * width)
    assert mamba.compiled_stream(tokens) is not None
    found = gradients(stream, tokens, weight)
    with mock.patch.object(mamba, "compiled_stream", return_value=None):
        wanted = gradients(stream.double(), tokens.double(), weight.double())
    for name, x in wanted.items():
        error = float((found[name] - x).abs().max()) / max(float(x.abs().max()), 1e-3)
        assert error < 2e-5, (name, error)


@needs_numba
def test_the_compiled_stream_on_two_threads(monkeypatch):
    stream = Stream(40)
    tokens, weight = torch.randn(1, 50, 40), torch.randn(1, 50, 80)
    alone = gradients(stream, tokens, weight)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    for name, x in gradients(stream, tokens, weight).items():
        torch.testing.assert_close(x, alone[name], rtol=1e-4, atol=1e-5 * float(alone[name].abs().max()))


@needs_numba
def test_the_compiled_stream_takes_any_gate_and_step():
    """Numbers far out: exp does not overflow, and NaN stays NaN."""
    stream = Stream(8)
    tokens = torch.cat([torch.full((1, 3, 8), 1e3), torch.full((1, 3, 8), -1e3), torch.zeros(1, 3, 8)], 1)
    y = stream.features(tokens)
    exact = copy.deepcopy(stream).double().features(tokens.double()).detach()  # sums of either sign, up to 1e9
    assert float((y.detach() - exact).abs().max() / exact.abs().max()) < 1e-5
    tokens[0, 5, 2] = torch.nan
    assert torch.isfinite(stream.features(tokens)[0, :5]).all() and stream.features(tokens)[0, 5:].isnan().all()


@needs_numba
def test_the_second_derivatives_of_the_compiled_stream(tokens):
    """Those of finite differences' kin: the same block in float64, by plain operations."""

    def second(block, tokens):
        x = tokens.clone().requires_grad_()
        first = torch.autograd.grad(block(x).square().sum(), [x, *block.parameters()], create_graph=True)
        return torch.autograd.grad(sum(one.square().sum() for one in first), [x, *block.parameters()])

    block = MambaBlock(12)
    for found, wanted in zip(second(block, tokens), second(copy.deepcopy(block).double(), tokens.double())):
        torch.testing.assert_close(found.double(), wanted, rtol=1e-3, atol=1e-4 * float(wanted.abs().max()))


@needs_numba
def test_layers_that_were_replaced_or_have_hooks_are_called(tokens):
    """A low-rank adapter, a hook, a weight norm: the compiled stream reads weights only, so it stands back."""
    stream = Stream(12)
    usual = stream.features(tokens)
    with torch.no_grad():
        seen = []
        handle = stream.x_proj.register_forward_hook(lambda layer, given, made: seen.append(1))
        torch.testing.assert_close(stream.features(tokens), usual)
        handle.remove()
        assert seen == [1]
        stream.dt_proj = torch.nn.Sequential(stream.dt_proj, torch.nn.Threshold(9.0, 0.0))  # step sizes: softplus(0)
        changed = stream.features(tokens)
    assert float((changed - usual).abs().max()) > 0.01


@pytest.mark.parametrize("why", ["double", "autocast", "another backend"])
def test_the_compiled_stream_stands_back(why, tokens, monkeypatch):
    if why == "another backend":
        monkeypatch.setenv("CTMEM_SCAN", "torch")
    with torch.autocast("cpu", enabled=why == "autocast"):
        assert mamba.compiled_stream(tokens.double() if why == "double" else tokens) is None


# --- others who look at the operations ---

BLOCK = MambaBlock(8, d_state=3)


def loss(tokens):
    return BLOCK(tokens).square().sum()


def by_export(tokens):
    return torch.export.export(BLOCK, (tokens,)).module()(tokens)


def by_forward_mode(tokens):
    with torch.autograd.forward_ad.dual_level():
        dual = torch.autograd.forward_ad.make_dual(tokens, torch.ones_like(tokens))
        return torch.autograd.forward_ad.unpack_dual(loss(dual)).tangent


def slope(tokens):
    """The derivative of `loss` along ones, by finite differences in float64."""
    block = copy.deepcopy(BLOCK).double()
    ends = [block(tokens.double() + step).square().sum() for step in (1e-5, -1e-5)]
    return ((ends[0] - ends[1]) / 2e-5).float()


@pytest.mark.parametrize(
    ("look", "wanted"),
    {
        "vmap": (torch.func.vmap(lambda one: BLOCK(one[None])[0]), BLOCK),
        "functional_call": (lambda x: torch.func.functional_call(BLOCK, dict(BLOCK.named_parameters()), (x,)), BLOCK),
        "export": (by_export, BLOCK),
        "compile": (torch.compile(BLOCK, backend="eager", fullgraph=True), BLOCK),
        "trace": (lambda x: torch.jit.trace(BLOCK, (x,), check_trace=False)(x), BLOCK),
        "make_fx": (lambda x: torch.fx.experimental.proxy_tensor.make_fx(BLOCK)(x)(x), BLOCK),
        "checkpoint": (lambda x: torch.utils.checkpoint.checkpoint(BLOCK, x, use_reentrant=False), BLOCK),
        "deepcopy": (lambda x: copy.deepcopy(BLOCK)(x), BLOCK),
        "grad": (lambda x: torch.func.grad(loss)(x).sum(), slope),
        "jacrev": (lambda x: torch.func.jacrev(loss)(x).sum(), slope),
        "jvp": (lambda x: torch.func.jvp(loss, (x,), (torch.ones_like(x),))[1], slope),
        "forward mode": (by_forward_mode, slope),
        "inputs only": (lambda x: torch.autograd.grad(loss(x.requires_grad_()), x)[0].sum(), slope),
    }.values(),
    ids=lambda one: "",
)
def test_transforms_and_traces_have_the_values_of_the_block(look, wanted, tokens):
    import torch.utils.checkpoint

    x = tokens[:, :7, :8].clone()
    found, expected = look(x).detach(), wanted(x).detach()
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-5)


def test_gradients_of_all_parameters_under_torch_func(tokens):
    x = tokens[:, :7, :8]
    found = torch.func.grad(lambda p: torch.func.functional_call(BLOCK, p, (x,)).square().sum())(
        dict(BLOCK.named_parameters())
    )
    wanted = torch.autograd.grad(loss(x), list(BLOCK.parameters()))
    for name, one in zip(found, wanted):
        torch.testing.assert_close(found[name].detach(), one, rtol=1e-3, atol=1e-4)


def test_on_the_meta_device_only_shapes_are_made(tokens):
    block = copy.deepcopy(BLOCK).to("meta")
    assert block(tokens[..., :8].to("meta")).shape == (2, 21, 8)


def test_a_forced_backend_says_that_it_cannot_be_transformed(tokens, monkeypatch):
    monkeypatch.setenv("CTMEM_SCAN", "torch")
    with pytest.raises(ValueError, match="`CTMEM_SCAN` must be a backend .* it cannot be traced or transformed"):
        torch.func.grad(loss)(tokens[..., :8])
