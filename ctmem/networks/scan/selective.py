"""The selective scan of Mamba, the one recurrence everything here rests on.

    h_t = exp(Δ_t A) h_{t−1} + Δ_t u_t B_t          y_t = C_t · h_t + D u_t

| paper | code | shape | meaning |
|---|---|---|---|
| x | `u` | (b, L, d) | input sequence, d channels |
| Δ | `delta` | (b, L, d) | step size, > 0: how fast the state forgets |
| A | `A` | (d, n) | decay rates, < 0 |
| B, C | `B`, `C` | (b, L, n) | what enters the state, what is read from it |
| D | `D` | (d,) | direct path past the state |
| h | `h` | (b, d, n) | state, n numbers per channel, 0 at the start |

Four backends that agree in values and in all gradients, so that one set of weights serves all:

| backend | what it is | where it runs |
|---|---|---|
| `reference` | the loop as written above | everywhere; slow, to be read and tested against |
| `torch` | chunked, states recomputed in the backward pass (`torch_backend`) | everywhere |
| `numba` | the same, compiled (`numba_backend`) | CPU, float32 |
| `mamba_ssm` | the CUDA kernel of the package mamba-ssm (`cuda_backend`) | NVIDIA GPUs, float32 |

`auto` takes the fastest that the tensors and the installed packages allow. The environment variable `CTMEM_SCAN`
forces one wherever none is named in the call; `backends()` lists them. An accelerated one is tried on a small example
before it is first used (`trial`); where that fails, `auto` does without it and says so once. Under `torch.func`,
`torch.export`, `torch.compile` and the like, `auto` takes the loop, which all of them understand.

Source: Gu and Dao, "Mamba: Linear-time sequence modeling with selective state spaces", 2023, section 3.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import os
import re
from collections.abc import Callable
from types import ModuleType
from typing import Any

import torch
import torch.nn.functional as F

from ctmem.checks import Inside, check_choice, fail, typed, warn_once
from ctmem.networks.scan.trial import example, failure, gradients_again, is_observed, without_autocast

BACKENDS = ("reference", "torch", "numba", "mamba_ssm")
MODULES = {
    "torch": "ctmem.networks.scan.torch_backend",
    "numba": "ctmem.networks.scan.numba_backend",
    "mamba_ssm": "ctmem.networks.scan.cuda_backend",
}
STREAM = "ctmem.networks.scan.numba_stream"
CACHE = "ctmem.networks.scan.numba_cache"
VARIABLE = "CTMEM_SCAN"
BROKEN = re.compile("cannot be imported|fails on a small example")  # a reason that somebody should hear of
TRIED_ON = ((2, 35, 5), (2, 35, 5), (5, 3), (2, 35, 3), (2, 35, 3))  # more than a chunk, no whole vector
STREAM_TRIED_ON = ((2, 35, 10), (5, 1, 4), (5,), (7, 5), (5, 1), (5,), (5, 3), (5,))


def selective_scan(
    u: torch.Tensor,
    delta: torch.Tensor,
    A: torch.Tensor,
    B: torch.Tensor,
    C: torch.Tensor,
    D: torch.Tensor | None = None,
    *,
    backend: str | None = None,
) -> torch.Tensor:
    """Returns y (b, L, d), the output of the recurrence above, in the type of `u`.

    Half-precision inputs, and those under autocast, are computed in float32. NaN is not refused: the
    answer shows it.

    Args:
        u: input (b, L, d).
        delta: step sizes (b, L, d), ≥ 0 (after the softplus).
        A: decay rates (d, n), ≤ 0.
        B: input weights (b, L, n).
        C: output weights (b, L, n).
        D: weight of the direct path (d,), or None for none.
        backend: one of `BACKENDS`, or `auto`; None: what the environment variable `CTMEM_SCAN` says, else `auto`.

    Raises:
        TypeError: an argument that is not a floating-point tensor.
        ValueError: shapes or devices that do not fit, a `delta` below 0 or an `A` above it, an unknown backend, or
            one that cannot take these tensors.

    Example:
        With Δ = 1 and A = −ln 2 the state halves at each step: 1, 0.5 + 1, 0.75 + 1.

        >>> ones = torch.ones(1, 3, 1)
        >>> selective_scan(ones, ones, torch.full((1, 1), -0.6931472), ones, ones).flatten().tolist()
        [1.0, 1.5, 1.75]
    """
    _check_shapes(u, delta, A, B, C, D)
    _check_signs(delta, A)
    return scan(u, delta, A, B, C, D, backend=backend)


def scan(
    u: torch.Tensor,
    delta: torch.Tensor,
    A: torch.Tensor,
    B: torch.Tensor,
    C: torch.Tensor,
    D: torch.Tensor | None = None,
    *,
    backend: str | None = None,
) -> torch.Tensor:
    """`selective_scan` for the blocks, whose shapes and signs are right by construction.

    The signs are not read there: a GPU would have to finish what it does before each scan.
    """
    name, source = (backend, "backend") if backend is not None else (os.environ.get(VARIABLE, "auto"), VARIABLE)
    check_choice(name, source, ("auto", *BACKENDS))
    dtype = torch.float64 if u.dtype == torch.float64 else torch.float32
    inputs = [x.to(dtype) for x in (u, delta, A, B, C)]
    learning = torch.is_grad_enabled() and any(x.requires_grad for x in inputs)
    if name == "auto":
        name = "reference" if is_observed(u) else choose(u.device, dtype, learning=learning)
    reason = obstacle(name, u.device, dtype, learning=learning)
    if name != "reference" and is_observed(u):
        reason = "it cannot be traced or transformed, `reference` can"
    if reason:
        fail(source, f"a backend that takes {dtype} on {u.device.type}", f"{name!r}: {reason}")
    with without_autocast(u.device):
        y = _RUN[name](*inputs)
        y = y if D is None else y + D.to(dtype) * inputs[0]
    return y.to(u.dtype)


def compiled_stream(x: torch.Tensor) -> Callable[..., torch.Tensor] | None:
    """The function `numba_stream.stream` if `selective_scan` would take the backend `numba` for x; None otherwise."""
    name = os.environ.get(VARIABLE, "auto")
    if name not in ("auto", "numba") or 0 in x.shape or is_observed(x) or torch.is_autocast_enabled(x.device.type):
        return None
    if obstacle("numba", x.device, x.dtype):
        return None
    reason = _trial_problem("stream", "cpu", torch.is_grad_enabled())
    if reason:
        warn_once(f"the Mamba blocks run without their compiled stream: {reason}")
        return None
    return importlib.import_module(STREAM).stream


def stream_reference(
    xz: torch.Tensor, conv: torch.Tensor, conv_bias: torch.Tensor, x_proj: torch.Tensor, dt_proj: torch.Tensor,
    dt_bias: torch.Tensor, A: torch.Tensor, D: torch.Tensor,
) -> torch.Tensor:  # fmt: skip
    """`numba_stream.stream` in plain operations, which the compiled one is tried against; arguments as there."""
    x, z = xz.chunk(2, dim=-1)
    padded = F.conv1d(x.transpose(1, 2), conv, conv_bias, padding=conv.shape[2] - 1, groups=len(conv))
    x = F.silu(padded[..., : xz.shape[1]]).transpose(1, 2)
    delta, B, C = F.linear(x, x_proj).split([dt_proj.shape[1], A.shape[1], A.shape[1]], dim=-1)
    y = scan_reference(x, F.softplus(F.linear(delta, dt_proj, dt_bias)), A, B, C) + D * x
    return y * F.silu(z)


def scan_reference(
    u: torch.Tensor, delta: torch.Tensor, A: torch.Tensor, B: torch.Tensor, C: torch.Tensor
) -> torch.Tensor:  # fmt: skip
    """The recurrence, one step at a time: slow, and what every other implementation is tested against.

    `unbind` instead of `x[:, t]`: indexing makes autograd fill a whole zero tensor per step, so that the backward
    pass grows with the square of L.
    """
    decay = torch.exp(delta.unsqueeze(-1) * A)  # (b, L, d, n)
    drive = (delta * u).unsqueeze(-1) * B.unsqueeze(2)  # (b, L, d, n)
    h = torch.zeros_like(drive[:, 0])
    outputs = []
    for decay_t, drive_t, C_t in zip(decay.unbind(1), drive.unbind(1), C.unbind(1)):
        h = decay_t * h + drive_t
        outputs.append((h * C_t.unsqueeze(1)).sum(-1))
    return torch.stack(outputs, 1)


@typed
def backends(device: Inside[torch.device | str] = "cpu") -> dict[str, str]:
    """Which backends can run on a device (float32), why the others can't, and which one `auto` takes.

    Example:
        >>> backends()["torch"].startswith("available")
        True
    """
    try:
        device = torch.device(device)
    except (RuntimeError, TypeError):
        fail("device", "a device, such as 'cpu'", repr(device), TypeError)
    taken = choose(device, torch.float32, warn=False)
    lines = {name: obstacle(name, device, torch.float32) for name in BACKENDS}
    return {
        name: f"not available: {reason}" if reason else "available, taken by auto" if name == taken else "available"
        for name, reason in lines.items()
    }


def choose(device: torch.device, dtype: torch.dtype, *, learning: bool = False, warn: bool = True) -> str:
    """The backend that `auto` takes; warns once where a GPU, or a broken package, makes it a slow one."""
    fast = {"cpu": "numba", "cuda": "mamba_ssm"}.get(device.type)
    if fast is None:
        return "torch"
    reason = obstacle(fast, device, dtype, learning=learning)
    if not reason:
        return fast
    if warn and (device.type == "cuda" or BROKEN.search(reason)):
        warn_once(f"the selective scan runs on {device.type} with the slow backend `torch`: {reason}")
    return "torch"


def obstacle(name: str, device: torch.device, dtype: torch.dtype, *, learning: bool = False) -> str | None:
    """Why a backend cannot take tensors of this device and type, with their gradients if `learning`; None if it can."""
    if name in ("reference", "torch"):
        return None
    wanted = {"numba": "cpu", "mamba_ssm": "cuda"}[name]
    if device.type != wanted:
        return f"it runs on {wanted}, not on {device.type}"
    if dtype != torch.float32:
        return f"it computes in float32, not in {dtype}"
    return _import_problem(name) or _trial_problem(name, device.type, learning)


@functools.cache
def _import_problem(name: str) -> str | None:
    """Why the package of a backend cannot be used; None if it can. It is imported to find out, once."""
    if importlib.util.find_spec(name) is None:
        return f"the package {name} is not installed"
    try:
        importlib.import_module({"mamba_ssm": "mamba_ssm.ops.selective_scan_interface"}.get(name, MODULES[name]))
    except Exception as error:  # a broken build fails in many ways: none may break ctmem
        return f"the package {name} cannot be imported: {error}"
    return None


@functools.cache
def _kernels(name: str) -> ModuleType:
    """The module of a backend, imported when it is first used."""
    return importlib.import_module(MODULES[name])


@functools.cache
def _trial_problem(name: str, device: str, learning: bool) -> str | None:
    """How a backend, or the compiled `stream`, fails on a small example; None if it does not. It is tried once.

    What numba keeps on disk may be damaged, and is deleted; if that does not help, numba does without the disk.
    """
    streaming = name == "stream"
    inputs = example(STREAM_TRIED_ON if streaming else TRIED_ON, torch.device(device))
    inputs[6 if streaming else 2].neg_()  # A < 0
    function = (lambda *x: importlib.import_module(STREAM).stream(*x)) if streaming else _RUN[name]
    oracle = stream_reference if streaming else scan_reference
    reason = failure(function, oracle, inputs, learning)
    if reason is None or name == "mamba_ssm":
        return reason and f"mamba_ssm fails on a small example ({reason}): install it again, or without it"
    cache = importlib.import_module(CACHE)
    for mend in (cache.forget, cache.stop_caching):
        mend()
        if failure(function, oracle, inputs, learning) is None:
            return None
    return f"numba fails on a small example ({reason}); to mend it, {cache.cure()}"


class _Recomputed(torch.autograd.Function):
    """A backend with its own backward pass: forward keeps one state per chunk, backward recomputes the others."""

    @staticmethod
    def forward(ctx: Any, name: str, *inputs: torch.Tensor) -> torch.Tensor:
        y, starts = _kernels(name).forward(*inputs)
        ctx.name = name
        ctx.save_for_backward(*inputs, starts)
        return y

    @staticmethod
    def backward(ctx: Any, dy: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        if torch.is_grad_enabled():  # create_graph=True: the gradients are to be differentiated, too
            return None, *gradients_again(scan_reference, ctx.saved_tensors[:-1], dy)
        return None, *_kernels(ctx.name).backward(dy, *ctx.saved_tensors)


_RUN: dict[str, Callable[..., torch.Tensor]] = {
    "reference": scan_reference,
    "torch": functools.partial(_Recomputed.apply, "torch"),
    "numba": functools.partial(_Recomputed.apply, "numba"),
    "mamba_ssm": lambda *inputs: _kernels("mamba_ssm").scan(*inputs),
}


def _check_signs(delta: torch.Tensor, A: torch.Tensor) -> None:
    """Raises unless the recurrence decays; tensors that are traced or transformed are not read.

    Raises:
        ValueError: a negative step size or a positive rate, with which the state grows without bound; NaN goes on.
    """
    for name, x, sign, wanted in (("delta", delta, 1, "≥ 0"), ("A", A, -1, "≤ 0")):
        worst = 0.0 if is_observed(x) else float((sign * x.detach()).min())
        if worst < 0:
            fail(name, f"{wanted} everywhere", sign * worst)


def _check_shapes(
    u: torch.Tensor, delta: torch.Tensor, A: torch.Tensor, B: torch.Tensor, C: torch.Tensor, D: torch.Tensor | None
) -> None:
    """Raises unless all are of floats, all shapes follow from those of u and A, and all tensors are on one device."""
    # all of floating-point numbers
    given = {"u": (u, "(b, L, d)"), "delta": (delta, "(b, L, d)"), "A": (A, "(d, n)"), "B": (B, "(b, L, n)")}
    given |= {"C": (C, "(b, L, n)")} | ({} if D is None else {"D": (D, "(d,)")})
    for name, (x, form) in given.items():
        if not isinstance(x, torch.Tensor) or not x.is_floating_point():
            got = f"a {x.dtype} tensor" if isinstance(x, torch.Tensor) else type(x).__name__
            fail(name, f"a floating-point tensor {form}", got, TypeError)
        if x.layout != torch.strided or x.is_quantized:
            fail(name, "a dense tensor with numbers in memory", f"one of layout {x.layout} on {x.device}", TypeError)
    # the shapes that u and A set, and those that follow
    if u.ndim != 3 or 0 in u.shape:
        fail("u", "of shape (b, L, d)", f"shape {tuple(u.shape)}")
    if A.ndim != 2:
        fail("A", "of shape (d, n)", f"shape {tuple(A.shape)}")
    b, length, d = u.shape
    n = A.shape[1]
    wanted = {"delta": (delta, (b, length, d)), "A": (A, (d, n)), "B": (B, (b, length, n)), "C": (C, (b, length, n))}
    if D is not None:
        wanted["D"] = (D, (d,))
    for name, (x, shape) in wanted.items():
        if tuple(x.shape) != shape:
            fail(name, f"of shape {shape} to fit `u` and `A`", f"shape {tuple(x.shape)}")
        if x.device != u.device:
            fail(name, f"on the device of `u`, {u.device}", x.device)
