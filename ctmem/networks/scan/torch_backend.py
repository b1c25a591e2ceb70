"""The selective scan in plain PyTorch: in chunks, with a backward pass that recomputes the states.

Forward keeps one state per chunk; backward rebuilds the chunk's states and walks from right to left. Inside, time
comes first and channels last, (T, b, n, d): one step is one contiguous slab, and every slab operation is an in-place
`addcmul_`. Only decays ≤ 1 are multiplied, so nothing overflows.

Works on every device and in float64; backend `torch` of `ctmem.networks.scan.selective`.

Source: this project.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import torch

CHUNK = 64  # steps between two kept states

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


def _one_thread(function: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """Runs on one torch thread: thousands of tiny operations lose far more to waking threads than they gain.

    torch's thread count is global: a program that calls torch from several Python threads at once may see it at 1.
    """

    @functools.wraps(function)
    def single(*args: Arguments.args, **options: Arguments.kwargs) -> Result:
        before = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            return function(*args, **options)
        finally:
            torch.set_num_threads(before)

    return single


@_one_thread
def forward(
    u: torch.Tensor, delta: torch.Tensor, A: torch.Tensor, B: torch.Tensor, C: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns y (b, L, d) and the state before each chunk, (chunks, b, n, d); arguments as of `selective_scan`."""
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


@_one_thread
def backward(
    dy: torch.Tensor, u: torch.Tensor, delta: torch.Tensor, A: torch.Tensor, B: torch.Tensor, C: torch.Tensor,
    starts: torch.Tensor,
) -> tuple[torch.Tensor, ...]:  # fmt: skip
    """Returns the gradients of u, delta, A, B and C, in that order."""
    du, ddelta, dB, dC = (torch.empty_like(x) for x in (u, delta, B, C))
    dA = torch.zeros_like(A)
    scratch = _Scratch(u, A)
    rates = A.T.contiguous()
    carried = torch.zeros_like(starts[0])  # gradient that the chunk to the right sends into this one's last state
    for span, start in reversed(list(zip(_chunks(u.shape[1]), starts))):
        h, decay = scratch.states(u, delta, B, span, start)
        dy_t, u_t, delta_t = (_time_first(x, span) for x in (dy, u, delta))
        B_t = _time_first(B, span)
        C_t = _time_first(C, span)
        dC[:, span] = _over_channels(dy_t, h)

        dh = torch.mul(C_t.unsqueeze(-1), dy_t.unsqueeze(2), out=scratch.gradient[: len(dy_t)])
        dh[-1] += carried
        dh_steps = dh.unbind(0)
        decay_steps = decay.unbind(0)
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

    def states(
        self, u: torch.Tensor, delta: torch.Tensor, B: torch.Tensor, span: slice, start: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Returns the states and decays (T, b, n, d) of one chunk, from the state `start` (b, n, d) before it."""
        delta_t = _time_first(delta, span)
        u_t = _time_first(u, span)
        steps = len(delta_t)
        decay = torch.mul(delta_t.unsqueeze(2), self.rates, out=self.decay[:steps]).exp2_()
        h = torch.mul(_time_first(B, span).unsqueeze(-1), (delta_t * u_t).unsqueeze(2), out=self.drive[:steps])
        h[0].addcmul_(decay[0], start)
        h_steps = h.unbind(0)
        decay_steps = decay.unbind(0)
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
