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

Two implementations that agree in values and in all gradients: `reference`, the loop as it is written above, and
`torch`, which walks in chunks, keeps one state per chunk and recomputes the others in its own backward pass.

Source: Gu and Dao, "Mamba: Linear-time sequence modeling with selective state spaces", 2023, section 3; the chunked
form is this project's.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator

import torch

from ctmem.checks import check_choice, fail

CHUNK = 64  # steps between two kept states


def selective_scan(
    u: torch.Tensor,
    delta: torch.Tensor,
    A: torch.Tensor,
    B: torch.Tensor,
    C: torch.Tensor,
    D: torch.Tensor | None = None,
    *,
    backend: str = "torch",
) -> torch.Tensor:
    """Returns y (b, L, d), the output of the recurrence above.

    Args:
        u: input (b, L, d).
        delta: step sizes (b, L, d), > 0 (after the softplus).
        A: decay rates (d, n), < 0.
        B: input weights (b, L, n).
        C: output weights (b, L, n).
        D: weight of the direct path (d,), or None for none.
        backend: one of `BACKENDS`; all give the same values and gradients to rounding.

    Raises:
        ValueError: shapes that do not fit, or an unknown backend.
        RuntimeError: a second derivative is asked of the `torch` backend.

    Example:
        With Δ = 1 and A = −ln 2 the state halves at each step: 1, 0.5 + 1, 0.75 + 1.

        >>> ones = torch.ones(1, 3, 1)
        >>> selective_scan(ones, ones, torch.full((1, 1), -math.log(2.0)), ones, ones).flatten().tolist()
        [1.0, 1.5, 1.75]
    """
    check_choice(backend, "backend", BACKENDS)
    _check_shapes(u, delta, A, B, C, D)
    y = BACKENDS[backend](u, delta, A, B, C)
    return y if D is None else y + D * u


def scan_reference(u, delta, A, B, C) -> torch.Tensor:
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


def scan_chunked(u, delta, A, B, C) -> torch.Tensor:
    """The recurrence in chunks of `CHUNK` steps, with a backward pass that recomputes the states."""
    return _ChunkedScan.apply(u, delta, A, B, C)


BACKENDS: dict[str, Callable[..., torch.Tensor]] = {"reference": scan_reference, "torch": scan_chunked}


class _ChunkedScan(torch.autograd.Function):
    """Forward keeps one state per chunk; backward rebuilds the chunk's states and walks from right to left.

    Inside, time comes first and channels last, (T, b, n, d): one step is one contiguous slab, and every slab
    operation is an in-place `addcmul_`. Only decays ≤ 1 are multiplied, so nothing overflows.
    """

    @staticmethod
    def forward(ctx, u, delta, A, B, C):
        with _one_thread():
            y, starts = _forward(u, delta, A, B, C)
        ctx.save_for_backward(u, delta, A, B, C, starts)
        return y

    @staticmethod
    def backward(ctx, dy):
        if torch.is_grad_enabled():  # create_graph=True: a second derivative would silently be zero
            raise RuntimeError("the chunked scan has no second derivative: use `backend='reference'` for it")
        with _one_thread():
            return _backward(dy, *ctx.saved_tensors)


def _forward(u, delta, A, B, C):
    """Returns y (b, L, d) and the state before each chunk, (chunks, b, n, d)."""
    b, length, d = u.shape
    y = torch.empty_like(u)
    scratch = _Scratch(u, A)
    h = u.new_zeros(b, A.shape[1], d)
    starts = []
    for span in _chunks(length):
        starts.append(h)
        states, _ = scratch.states(u, delta, B, span, h)
        y[:, span] = torch.matmul(_time_first(C, span).unsqueeze(2), states).squeeze(2).transpose(0, 1)
        h = states[-1].clone()  # a view of scratch that the next chunk overwrites
    return y, torch.stack(starts)


def _backward(dy, u, delta, A, B, C, starts):
    """Returns the gradients of u, delta, A, B and C, in that order."""
    du, ddelta, dB, dC = (torch.empty_like(x) for x in (u, delta, B, C))
    dA = torch.zeros_like(A)
    scratch, rates = _Scratch(u, A), A.T.contiguous()
    carried = torch.zeros_like(starts[0])  # gradient that the chunk to the right sends into this one's last state
    for span, start in reversed(list(zip(_chunks(u.shape[1]), starts))):
        h, decay = scratch.states(u, delta, B, span, start)
        dy_t, u_t, delta_t = (_time_first(x, span) for x in (dy, u, delta))
        B_t, C_t = _time_first(B, span), _time_first(C, span)
        dC[:, span] = _over_channels(dy_t, h)

        dh = torch.mul(C_t.unsqueeze(-1), dy_t.unsqueeze(2), out=scratch.gradient[: len(dy_t)])
        dh[-1] += carried
        dh_steps, decay_steps = dh.unbind(0), decay.unbind(0)
        for t in range(len(dh) - 2, -1, -1):
            dh_steps[t].addcmul_(decay_steps[t + 1], dh_steps[t + 1])
        carried = decay[0] * dh[0]

        dB[:, span] = _over_channels(delta_t * u_t, dh)
        ddrive = torch.matmul(B_t.unsqueeze(2), dh).squeeze(2)  # (T, b, d)
        before = torch.cat([start.unsqueeze(0), h[:-1]])
        dexponent = before.mul_(dh).mul_(decay)  # gradient of Δ_t A, (T, b, n, d)
        dA += (dexponent * delta_t.unsqueeze(2)).sum((0, 1)).T
        ddelta_t = dexponent.mul_(rates).sum(2).addcmul_(ddrive, u_t)
        ddelta[:, span] = ddelta_t.transpose(0, 1)
        du[:, span] = (ddrive * delta_t).transpose(0, 1)
    return du, ddelta, dA, dB, dC


class _Scratch:
    """Arrays of one chunk, allocated once and used by every chunk."""

    def __init__(self, u: torch.Tensor, A: torch.Tensor):
        b, length, d = u.shape
        shape = (min(CHUNK, length), b, A.shape[1], d)
        self.rates = A.T.contiguous() * math.log2(
            math.e
        )  # exp(x) = exp2(x·log2 e); torch.exp2 is the faster of the two
        self.decay, self.drive, self.gradient = (u.new_empty(shape) for _ in range(3))

    def states(self, u, delta, B, span, start):
        """Returns the states and decays (T, b, n, d) of one chunk, from the state `start` (b, n, d) before it."""
        delta_t, u_t = _time_first(delta, span), _time_first(u, span)
        steps = len(delta_t)
        decay = torch.mul(delta_t.unsqueeze(2), self.rates, out=self.decay[:steps]).exp2_()
        h = torch.mul(_time_first(B, span).unsqueeze(-1), (delta_t * u_t).unsqueeze(2), out=self.drive[:steps])
        h[0].addcmul_(decay[0], start)
        h_steps, decay_steps = h.unbind(0), decay.unbind(0)
        for t in range(1, steps):
            h_steps[t].addcmul_(decay_steps[t], h_steps[t - 1])
        return h, decay


def _chunks(length: int) -> list[slice]:
    """Slices of at most CHUNK steps that cover the sequence."""
    return [slice(start, min(start + CHUNK, length)) for start in range(0, length, CHUNK)]


def _time_first(x: torch.Tensor, span: slice) -> torch.Tensor:
    """(b, L, k) → the chunk as contiguous (T, b, k)."""
    return x[:, span].transpose(0, 1).contiguous()


def _over_channels(x: torch.Tensor, states: torch.Tensor) -> torch.Tensor:
    """Sums x (T, b, d) · states (T, b, n, d) over d → (b, T, n)."""
    return torch.matmul(x.unsqueeze(2), states.transpose(2, 3)).squeeze(2).transpose(0, 1)


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """One torch thread: thousands of tiny operations lose far more to waking threads than they gain."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _check_shapes(u, delta, A, B, C, D) -> None:
    """Raises unless all shapes follow from those of u and A."""
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
