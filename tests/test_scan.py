"""All backends against each other, against numbers worked out by hand, and against finite differences."""

import math
import multiprocessing
import subprocess
import sys
import types
import warnings

import pytest
import torch

from ctmem.networks.scan import selective, torch_backend
from ctmem.networks.scan.selective import BACKENDS, backends, selective_scan

HERE = [name for name in BACKENDS if not selective.obstacle(name, torch.device("cpu"), torch.float32)]
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


@pytest.mark.parametrize("backend", HERE)
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


def worst(ours, wanted):
    """Largest difference of each of y and the gradients, relative to its largest value."""
    pairs = zip(("y", *NAMES), ours, wanted)
    return {n: float((a - b).detach().abs().max() / b.detach().abs().max().clamp_min(1e-30)) for n, a, b in pairs}


@pytest.mark.parametrize("length", [1, 7, 63, 64, 65, 1000])
@pytest.mark.parametrize("delta_scale", [0.1, 10.0])
@pytest.mark.parametrize("backend", [name for name in HERE if name != "reference"])
def test_float32_equals_the_float64_reference(backend, length, delta_scale):
    """d = 37 and n = 5 fill no block; every gradient to 1e-6 of its largest value."""
    exact = arguments(length, d=37, n=5, delta_scale=delta_scale)
    with torch.no_grad():
        exact = [x.float().double().requires_grad_() for x in exact]
    single = [x.detach().float().requires_grad_() for x in exact]
    found = worst(values_and_gradients(backend, single), values_and_gradients("reference", exact))
    assert max(found.values()) < 1e-6, found


@pytest.mark.parametrize("length", [7, 65, 200])
def test_chunked_equals_reference_in_float64(length):
    inputs = arguments(length)
    found = worst(values_and_gradients("torch", inputs), values_and_gradients("reference", inputs))
    assert max(found.values()) < 1e-12, found


def test_gradients_equal_finite_differences(monkeypatch):
    monkeypatch.setattr(torch_backend, "CHUNK", 4)  # so that 10 steps make three chunks, the last one short
    assert torch.autograd.gradcheck(
        lambda *x: selective_scan(*x, backend="torch"), arguments(10, d=3, n=2), fast_mode=False
    )


@pytest.mark.parametrize("backend", HERE)
def test_is_causal(backend):
    inputs = [x.detach().float() for x in arguments(70)]
    before = selective_scan(*inputs, backend=backend)
    inputs[0] = inputs[0].clone()
    inputs[0][:, 66] += 1
    after = selective_scan(*inputs, backend=backend)
    assert torch.equal(before[:, :66], after[:, :66]) and not torch.equal(before[:, 66], after[:, 66])


@pytest.mark.parametrize("backend", HERE)
def test_nan_is_not_hidden(backend):
    inputs = [x.detach().float() for x in arguments(70)]
    inputs[0][0, 65, 2] = math.nan
    y = selective_scan(*inputs, backend=backend)
    assert y[0, 65:, 2].isnan().all() and not y[0, :65].isnan().any() and not y[1].isnan().any()


@pytest.mark.parametrize("backend", HERE)
@pytest.mark.parametrize("where", range(5))
def test_nan_in_any_input_shows_in_the_gradients(backend, where):
    inputs = [x.detach().float() for x in arguments(70)]
    inputs[where].view(-1)[0] = math.nan
    inputs = [x.requires_grad_() for x in inputs]
    assert any(x.isnan().any() for x in values_and_gradients(backend, inputs))


@pytest.mark.parametrize("backend", HERE)
def test_long_decays_do_not_overflow(backend):
    """The factored form, cumulative sum over cumulative product, is infinite here."""
    u, delta, A, B, C, D = (x.detach() for x in arguments(512, delta_scale=10.0, dtype=torch.float32))
    assert selective_scan(u, delta, 50 * A, B, C, D, backend=backend).isfinite().all()


@pytest.mark.parametrize("backend", [name for name in HERE if name != "reference"])
def test_second_derivatives_are_those_of_the_reference(backend):
    def second(name, dtype):
        inputs = [x.detach().to(dtype).requires_grad_() for x in arguments(37)]
        y = selective_scan(*inputs, backend=name)
        first = torch.autograd.grad(y.square().sum(), inputs, create_graph=True)
        return torch.autograd.grad(sum(x.square().sum() for x in first), inputs)

    for found, wanted in zip(second(backend, torch.float32), second("reference", torch.float64)):
        torch.testing.assert_close(found.double(), wanted, rtol=1e-3, atol=1e-4 * float(wanted.abs().max()))


def test_thread_count_is_given_back():
    before = torch.get_num_threads()
    y = selective_scan(*arguments(65), backend="torch")
    y.sum().backward()
    assert torch.get_num_threads() == before


@pytest.mark.parametrize("backend", HERE)
def test_two_threads_give_the_same(backend, monkeypatch):
    """Also where channels are split between threads, each with its own sum of dB and dC."""
    inputs = [x.detach().float().requires_grad_() for x in arguments(100, d=96, b=1)]
    alone = values_and_gradients(backend, inputs)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    found = worst(values_and_gradients(backend, inputs), alone)
    assert max(found.values()) < 1e-6, found


@pytest.mark.parametrize("backend", HERE)
def test_under_no_grad(backend):
    inputs = [x.float() for x in arguments(65)]
    with torch.no_grad():
        y = selective_scan(*inputs, backend=backend)
    assert not y.requires_grad
    torch.testing.assert_close(y, selective_scan(*inputs, backend=backend).detach())


@pytest.mark.parametrize("backend", HERE)
def test_autocast_computes_in_float32(backend):
    """bfloat16 in, bfloat16 out, and no more error than rounding input and output to it makes."""
    inputs = [x.detach().to(torch.bfloat16) for x in arguments(200)]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = selective_scan(*inputs, backend=backend)
    wanted = selective_scan(*(x.float() for x in inputs), backend="reference")
    assert y.dtype == torch.bfloat16
    assert torch.equal(y, wanted.to(torch.bfloat16)) or float((y - wanted).abs().max() / wanted.abs().max()) < 5e-3


class Scans(torch.utils.data.Dataset):
    """Scans in a worker process."""

    def __init__(self, backend):
        self.backend = backend

    def __len__(self):
        return 4

    def __getitem__(self, index):
        inputs = [x.detach().float().requires_grad_() for x in arguments(65, seed=index)]
        return torch.stack([x.sum() for x in values_and_gradients(self.backend, inputs)]).detach()


@pytest.mark.parametrize("backend", HERE)
@pytest.mark.parametrize("context", ["fork", "spawn"])
def test_in_workers_and_after_fork(backend, context, monkeypatch):
    """With threads already running in this process before it forks."""
    if context not in multiprocessing.get_all_start_methods():
        pytest.skip(f"no {context} here")
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    here = torch.stack([Scans(backend)[i] for i in range(4)])
    monkeypatch.undo()
    loader = torch.utils.data.DataLoader(Scans(backend), batch_size=4, num_workers=1, multiprocessing_context=context)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12 on forks with threads
        (there,) = loader
    torch.testing.assert_close(there, here, rtol=1e-5, atol=1e-5)


# --- which backend ---


def test_list_of_backends():
    lines = backends()
    assert tuple(lines) == BACKENDS
    assert sum(line == "available, taken by auto" for line in lines.values()) == 1
    assert lines["mamba_ssm"] == "not available: it runs on cuda, not on cpu"
    assert backends("cuda")["numba"] == "not available: it runs on cpu, not on cuda"


def test_missing_packages_are_named(monkeypatch):
    selective._import_problem.cache_clear()
    monkeypatch.setattr(selective.importlib.util, "find_spec", lambda name: None)
    try:
        assert backends()["numba"] == "not available: the package numba is not installed"
        assert backends()["torch"] == "available, taken by auto"
        assert backends("cuda")["mamba_ssm"] == "not available: the package mamba_ssm is not installed"
    finally:
        selective._import_problem.cache_clear()


def test_broken_build_is_named_and_does_no_harm(monkeypatch):
    selective._import_problem.cache_clear()
    monkeypatch.setattr(selective.importlib.util, "find_spec", lambda name: object())
    monkeypatch.setitem(sys.modules, "mamba_ssm", None)
    try:
        assert "mamba_ssm cannot be imported" in backends("cuda")["mamba_ssm"]
        assert backends("cuda")["torch"] == "available, taken by auto"
    finally:
        selective._import_problem.cache_clear()


def test_broken_numba_is_warned_of_and_does_no_harm(monkeypatch):
    """Installed, but its import fails: the usual mismatch with numpy."""
    selective._import_problem.cache_clear()
    selective.warn_once.cache_clear()
    monkeypatch.setattr(selective.importlib.util, "find_spec", lambda name: object())
    monkeypatch.setitem(sys.modules, "ctmem.networks.scan.numba_backend", None)
    inputs = [x.detach().float() for x in arguments(5)]
    try:
        with pytest.warns(RuntimeWarning, match="with the slow backend `torch`: the package numba cannot be imported"):
            y = selective_scan(*inputs)
        assert torch.equal(y, selective_scan(*inputs, backend="torch"))
        assert "numba cannot be imported" in backends()["numba"]
    finally:
        selective._import_problem.cache_clear()
        selective.warn_once.cache_clear()


def test_other_devices_take_torch_without_a_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert selective.choose(torch.device("mps"), torch.float32) == "torch"


def test_tensors_on_two_devices():
    inputs = [x.detach().float() for x in arguments(5)]
    inputs[1] = inputs[1].to("meta")
    with pytest.raises(ValueError, match="`delta` must be on the device of `u`, cpu, got meta"):
        selective_scan(*inputs)


def test_variable_forces_a_backend(monkeypatch):
    inputs = [x.detach().float() for x in arguments(5)]
    used = []
    monkeypatch.setattr(selective, "_RUN", {name: lambda u, *x, name=name: used.append(name) or u for name in BACKENDS})
    monkeypatch.setenv("CTMEM_SCAN", "reference")
    selective_scan(*inputs)
    selective_scan(*inputs, backend="torch")  # what the call names comes first
    monkeypatch.delenv("CTMEM_SCAN")
    selective_scan(*inputs)
    assert used == ["reference", "torch", selective.choose(torch.device("cpu"), torch.float32)]


def test_variable_with_an_unknown_name(monkeypatch):
    monkeypatch.setenv("CTMEM_SCAN", "cuda")
    with pytest.raises(ValueError, match="`CTMEM_SCAN` must be one of 'auto', 'reference'.*got 'cuda'"):
        selective_scan(*arguments(3))


def test_forced_backend_that_cannot():
    with pytest.raises(
        ValueError, match="`backend` must be a backend that takes torch.float32 on cpu, got 'mamba_ssm'"
    ):
        selective_scan(*(x.float() for x in arguments(3)), backend="mamba_ssm")
    if "numba" in HERE:
        with pytest.raises(ValueError, match="'numba': it computes in float32, not in torch.float64"):
            selective_scan(*arguments(3), backend="numba")


def test_float64_is_never_rounded():
    inputs = arguments(65)
    found = worst(values_and_gradients(None, inputs), values_and_gradients("reference", inputs))
    assert max(found.values()) < 1e-12, found


def test_slow_gpu_is_warned_of_once(monkeypatch):
    selective.warn_once.cache_clear()
    monkeypatch.setattr(selective, "_import_problem", lambda name: "the package mamba_ssm is not installed")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        names = [selective.choose(torch.device("cuda"), torch.float32) for _ in range(2)]
        selective.choose(torch.device("cpu"), torch.float32)
    selective.warn_once.cache_clear()
    assert names == ["torch", "torch"]
    assert ["slow backend `torch`: the package mamba_ssm is not installed" in str(w.message) for w in caught] == [True]


def test_mamba_ssm_gets_its_documented_layout(monkeypatch):
    """A stand-in with the documented signature and layout, (b, d, L) and (b, n, L), that runs the reference."""
    seen = {}

    def selective_scan_fn(
        u, delta, A, B, C, D=None, z=None, delta_bias=None, delta_softplus=False, return_last_state=False
    ):
        seen.update(shapes=[tuple(x.shape) for x in (u, delta, A, B, C)], options=(D, z, delta_bias, delta_softplus))
        assert all(x.is_contiguous() for x in (u, delta, A, B, C))
        back = [x.transpose(1, 2) for x in (u, delta)] + [A] + [x.transpose(1, 2) for x in (B, C)]
        return selective.scan_reference(*back).transpose(1, 2)

    interface = types.SimpleNamespace(selective_scan_fn=selective_scan_fn)
    for name in ("mamba_ssm", "mamba_ssm.ops"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    monkeypatch.setitem(sys.modules, "mamba_ssm.ops.selective_scan_interface", interface)
    monkeypatch.delitem(sys.modules, "ctmem.networks.scan.cuda_backend", raising=False)
    monkeypatch.setattr(selective, "obstacle", lambda *_, **__: None)
    selective._kernels.cache_clear()
    try:
        inputs = [x.detach().float().requires_grad_() for x in arguments(9)]
        found = worst(values_and_gradients("mamba_ssm", inputs), values_and_gradients("reference", inputs))
    finally:
        selective._kernels.cache_clear()
        sys.modules.pop("ctmem.networks.scan.cuda_backend", None)
    assert max(found.values()) < 1e-6
    assert seen["shapes"] == [(2, 5, 9), (2, 5, 9), (5, 3), (2, 3, 9), (2, 3, 9)]
    assert seen["options"] == (None, None, None, False)


def test_import_is_light_and_compiles_nothing():
    code = "import torch, sys; import ctmem.networks.mamba; print(sorted({'numba', 'mamba_ssm', 'llvmlite'} & set(sys.modules)))"
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, encoding="utf-8", check=True).stdout == "[]\n"
    )


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


@pytest.mark.parametrize("kind", [torch.long, torch.int32, torch.bool, torch.complex64])
@pytest.mark.parametrize("index", range(6))
def test_tokens_that_are_no_floats(index, kind):
    """Whole numbers would be computed in float32 and rounded down on the way back."""
    inputs = arguments(7)
    inputs[index] = inputs[index].detach().to(kind)
    name = ("u", "delta", "A", "B", "C", "D")[index]
    with pytest.raises(TypeError, match=rf"`{name}` must be a floating-point tensor \(.*\), got a {kind} tensor"):
        selective_scan(*inputs)


def test_lists_and_arrays_are_no_tokens():
    inputs = arguments(7)
    for other in (inputs[0].tolist(), inputs[0].detach().numpy()):
        with pytest.raises(TypeError, match=r"`u` must be a floating-point tensor \(b, L, d\), got (list|ndarray)"):
            selective_scan(other, *inputs[1:])


def test_unknown_backend():
    with pytest.raises(ValueError, match="`backend` must be one of 'auto', 'reference', 'torch', 'numba', 'mamba_ssm'"):
        selective_scan(*arguments(3), backend="cuda")
