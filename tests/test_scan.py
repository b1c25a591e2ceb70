"""The two scans against each other, against numbers worked out by hand, and against finite differences."""

import math

import pytest
import torch

from ctmem import scan
from ctmem.scan import BACKENDS, selective_scan

NAMES = ("u", "delta", "A", "B", "C", "D")


def arguments(length, d=5, n=3, b=2, dtype=torch.float64, delta_scale=1.0, seed=0):
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(*shape, generator=generator, dtype=dtype)

    delta = delta_scale * torch.rand(b, length, d, generator=generator, dtype=dtype) + 1e-3
    inputs = (
        normal(b, length, d),
        delta,
        -normal(d, n).abs() - 0.1,
        normal(b, length, n),
        normal(b, length, n),
        normal(d),
    )
    return [x.requires_grad_() for x in inputs]


def values_and_gradients(backend, inputs):
    y = selective_scan(*inputs, backend=backend)
    weights = torch.linspace(-1, 1, y.numel(), dtype=y.dtype).reshape(y.shape)
    return [y, *torch.autograd.grad((y * weights).sum(), inputs)]


@pytest.mark.parametrize("backend", BACKENDS)
def test_recurrence_by_hand(backend):
    """d = n = 1, A = −ln 2: Δ = 1 halves the state, Δ = 2 quarters it; y = C h + D u."""
    u = torch.tensor([1.0, 2.0, -1.0, 4.0]).reshape(1, 4, 1)
    delta = torch.tensor([1.0, 1.0, 2.0, 1.0]).reshape(1, 4, 1)
    B = torch.tensor([1.0, 3.0, 1.0, 0.0]).reshape(1, 4, 1)
    C = torch.tensor([1.0, 1.0, 2.0, 10.0]).reshape(1, 4, 1)
    h = [1.0, 0.5 + 6, 6.5 / 4 - 2, (6.5 / 4 - 2) / 2]
    wanted = [h[0] + 0.5, h[1] + 1, 2 * h[2] - 0.5, 10 * h[3] + 2]
    y = selective_scan(u, delta, torch.tensor([[-math.log(2.0)]]), B, C, torch.tensor([0.5]), backend=backend)
    assert y.flatten().tolist() == pytest.approx(wanted, rel=1e-6)


@pytest.mark.parametrize("length", [1, 7, 63, 64, 65, 200])
@pytest.mark.parametrize("delta_scale", [0.1, 10.0])
def test_chunked_equals_reference(length, delta_scale):
    inputs = arguments(length, delta_scale=delta_scale)
    both = [values_and_gradients(backend, inputs) for backend in ("torch", "reference")]
    for name, ours, wanted in zip(("y", *NAMES), *both):
        scale = wanted.detach().abs().max().clamp_min(1e-300)
        assert float((ours - wanted).detach().abs().max() / scale) < 1e-12, name


def test_float32_stays_close_to_float64_over_many_chunks():
    inputs = arguments(1000, delta_scale=0.1)
    single = [x.detach().float().requires_grad_() for x in inputs]
    for name, ours, wanted in zip(
        ("y", *NAMES), values_and_gradients("torch", single), values_and_gradients("reference", inputs)
    ):
        assert float((ours - wanted).detach().abs().max() / wanted.detach().abs().max()) < 5e-6, name


def test_gradients_equal_finite_differences(monkeypatch):
    monkeypatch.setattr(scan, "CHUNK", 4)  # so that 10 steps make three chunks, the last one short
    assert torch.autograd.gradcheck(lambda *x: selective_scan(*x), arguments(10, d=3, n=2), fast_mode=False)


@pytest.mark.parametrize("backend", BACKENDS)
def test_is_causal(backend):
    inputs = [x.detach() for x in arguments(70)]
    before = selective_scan(*inputs, backend=backend)
    inputs[0] = inputs[0].clone()
    inputs[0][:, 66] += 1
    after = selective_scan(*inputs, backend=backend)
    assert torch.equal(before[:, :66], after[:, :66]) and not torch.equal(before[:, 66], after[:, 66])


@pytest.mark.parametrize("backend", BACKENDS)
def test_nan_is_not_hidden(backend):
    inputs = [x.detach().clone() for x in arguments(70)]
    inputs[0][0, 65, 2] = math.nan
    y = selective_scan(*inputs, backend=backend)
    assert y[0, 65:, 2].isnan().all() and not y[0, :65].isnan().any() and not y[1].isnan().any()


def test_long_decays_do_not_overflow():
    """The factored form, cumulative sum over cumulative product, is infinite here."""
    u, delta, A, B, C, D = (x.detach() for x in arguments(512, delta_scale=10.0, dtype=torch.float32))
    assert selective_scan(u, delta, 50 * A, B, C, D).isfinite().all()


def test_second_derivative_is_refused():
    inputs = arguments(5)
    with pytest.raises(RuntimeError, match="has no second derivative: use `backend='reference'`"):
        torch.autograd.grad(selective_scan(*inputs).sum(), inputs, create_graph=True)


def test_thread_count_is_given_back():
    before = torch.get_num_threads()
    y = selective_scan(*arguments(65))
    y.sum().backward()
    assert torch.get_num_threads() == before


@pytest.mark.parametrize(
    ("index", "shape", "message"),
    [
        (0, (2, 7), r"`u` must be of shape \(b, L, d\), got shape \(2, 7\)"),
        (1, (2, 7, 4), r"`delta` must be of shape \(2, 7, 5\)"),
        (2, (5,), r"`A` must be of shape \(d, n\)"),
        (2, (4, 3), r"`A` must be of shape \(5, 3\)"),
        (3, (2, 7, 4), r"`B` must be of shape \(2, 7, 3\)"),
        (4, (2, 6, 3), r"`C` must be of shape \(2, 7, 3\)"),
        (5, (4,), r"`D` must be of shape \(5,\)"),
    ],
)
def test_shapes_that_do_not_fit(index, shape, message):
    inputs = arguments(7)
    inputs[index] = torch.zeros(shape, dtype=torch.float64)
    with pytest.raises(ValueError, match=message):
        selective_scan(*inputs)


def test_unknown_backend():
    with pytest.raises(ValueError, match="`backend` must be one of 'reference', 'torch', got 'cuda'"):
        selective_scan(*arguments(3), backend="cuda")
