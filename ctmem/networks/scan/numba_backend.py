"""The selective scan compiled by numba: a task is one batch element and a group of channels.

A task walks along the sequence with the states of its channels in the cache. Forward keeps one state per chunk;
backward rebuilds a chunk's states and decays and walks them from right to left, as the chunked scan in PyTorch does.
Rows are taken as slices, `delta[b, t, c : c + width]`, and indexed by their own counter: an index `c + j` might be
negative for all LLVM knows, and makes gathers of plain loads. Short loops of a constant length it unrolls before it
vectorises. Tasks run on as many threads as torch uses and do not hold Python's lock. No compiler is needed; the first
call compiles (some ten seconds) and numba keeps the result on disk.

This module is imported when the backend is first used, not before.

Source: this project.
"""

from __future__ import annotations

import itertools
import math
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from numba import njit, types
from numba.extending import intrinsic

from ctmem.networks.scan.numba_cache import FASTMATH, compiled

WIDEST = 256  # channels that are walked together, at most
CHUNK = 32  # steps between two kept states


def forward(
    u: torch.Tensor, delta: torch.Tensor, A: torch.Tensor, B: torch.Tensor, C: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns y (b, L, d) and the states before each chunk; arguments as of `selective_scan`, float32."""
    b, length, d = u.shape
    y = torch.empty_like(u, memory_format=torch.contiguous_format)
    starts = u.new_empty(-(-length // CHUNK), b, A.shape[1], d)
    arrays = _arrays(u, delta, A.T * math.log2(math.e), B, C, y, starts)
    _run(_forward_task, [(*arrays, i, *span) for i in range(b) for span in _groups(b, d)])
    return y, starts


def backward(
    dy: torch.Tensor, u: torch.Tensor, delta: torch.Tensor, A: torch.Tensor, B: torch.Tensor, C: torch.Tensor,
    starts: torch.Tensor,
) -> tuple[torch.Tensor, ...]:  # fmt: skip
    """Returns the gradients of u, delta, A, B and C."""
    b, _, d = u.shape
    groups = _groups(b, d)
    du, ddelta = (torch.empty_like(u, memory_format=torch.contiguous_format) for _ in range(2))
    dA = u.new_empty(b, *A.T.shape)
    dB, dC = (x.new_zeros(len(groups), *x.shape) for x in (B, C))  # each group of blocks has its own sum
    inputs = _arrays(u, delta, A.T, A.T * math.log2(math.e), B, C, dy, starts, du, ddelta, dA)
    outputs = [_arrays(dB[g], dC[g]) for g in range(len(groups))]
    _run(_backward_task, [(*inputs, *outputs[g], i, *span) for i in range(b) for g, span in enumerate(groups)])
    return du, ddelta, dA.sum(0).T, dB.sum(0), dC.sum(0)


def _arrays(*tensors: torch.Tensor) -> list[np.ndarray]:
    """The same numbers as numpy sees them; every array is C-contiguous, for strided ones are several times slower."""
    return [x.detach().contiguous().numpy() for x in tensors]


def _groups(batch: int, channels: int) -> list[tuple[int, int]]:
    """Channels (from, to) of each task of a batch element: as many, of whole vectors, as keep all threads busy."""
    vectors = -(-channels // 16)
    count = min(vectors, -(-torch.get_num_threads() // batch))
    edges = [min(16 * (vectors * g // count), channels) for g in range(count + 1)]
    return list(itertools.pairwise(edges))


_pools: dict[tuple[int, int], ThreadPoolExecutor] = {}


def _run(task: Callable[..., object], calls: list[tuple[Any, ...]]) -> None:
    """Makes all calls of a task on torch's number of threads; threads do not survive forks, so pools go by process."""
    threads = min(torch.get_num_threads(), len(calls))
    if threads == 1:
        for arguments in calls:
            task(*arguments)
        return
    key = (os.getpid(), threads)
    if key not in _pools:
        _pools[key] = ThreadPoolExecutor(threads, "ctmem-scan")
    for future in [_pools[key].submit(task, *arguments) for arguments in calls]:
        future.result()


@intrinsic
def _float_of_bits(typingctx, bits):  # noqa: ARG001  (numba asks for these two)
    """An int32's bits read as a float32."""

    def codegen(context, builder, signature, args):  # noqa: ARG001  (and for these four)
        return builder.bitcast(args[0], context.get_value_type(types.float32))

    return types.float32(types.int32), codegen


@njit(fastmath=FASTMATH, inline="always")
def _exp2(x):
    """2^x in float32, relative error 1e-7: the whole part becomes the exponent, the rest a polynomial; NaN stays."""
    x = max(x, np.float32(-126.0))
    x = min(x, np.float32(128.0))
    whole = np.floor(x + np.float32(0.5))
    f = x - whole
    p = np.float32(1.5353362e-4)
    p = p * f + np.float32(1.3398874e-3)
    p = p * f + np.float32(9.6184373e-3)
    p = p * f + np.float32(5.5503324e-2)
    p = p * f + np.float32(2.4022648e-1)
    p = p * f + np.float32(6.9314720e-1)
    p = p * f + np.float32(1.0)
    bits = (np.int32(whole) + np.int32(127)) << np.int32(23)
    return p * _float_of_bits(bits)  # type: ignore[call-arg]  # numba adds the first argument


@compiled
def _forward_step(step, rates, h, x, y, B, C):
    """One step to the right, all states: h (n, w) is replaced, y (w) is added to."""
    for n in range(h.shape[0]):
        B_n = B[n]
        C_n = C[n]
        for j in range(h.shape[1]):
            state = _exp2(step[j] * rates[n, j]) * h[n, j] + x[j] * B_n
            h[n, j] = state
            y[j] += state * C_n


@compiled
def _recompute_step(step, rates, before, decay, after, x, B):
    """One step to the right, all states, into `decay` and `after` (n, w)."""
    for n in range(before.shape[0]):
        B_n = B[n]
        for j in range(before.shape[1]):
            e = _exp2(step[j] * rates[n, j])
            decay[n, j] = e
            after[n, j] = e * before[n, j] + x[j] * B_n


@compiled
def _backward_step(step, A, before, decay, after, carried, dA, x, dy, dx, dstep, B, C, dB, dC):
    """One step to the left, all states: `carried` (n, w) is replaced, all gradients are added to."""
    for n in range(before.shape[0]):
        B_n = B[n]
        C_n = C[n]
        sum_B = np.float32(0.0)
        sum_C = np.float32(0.0)
        for j in range(before.shape[1]):
            dh = carried[n, j] + C_n * dy[j]
            sum_C += after[n, j] * dy[j]
            sum_B += dh * x[j]
            dx[j] += dh * B_n
            to_left = dh * decay[n, j]
            carried[n, j] = to_left
            exponent = to_left * before[n, j]  # gradient of Δ_t A
            dstep[j] += exponent * A[n, j]
            dA[n, j] += exponent * step[j]
        dB[n] += sum_B
        dC[n] += sum_C


@compiled
def _forward_task(u, delta, rates, B, C, y, starts, b, first_channel, last_channel):
    """Walks one batch element from left to right, a block of channels at a time."""
    states = rates.shape[0]
    length = u.shape[1]
    for c in range(first_channel, last_channel, WIDEST):
        width = min(WIDEST, last_channel - c)
        rates_c = rates[:, c : c + width].copy()
        h = np.zeros((states, width), np.float32)
        x = np.empty(width, np.float32)
        for t in range(length):
            if t % CHUNK == 0:  # the state that the backward pass starts this chunk from
                starts[t // CHUNK, b, :, c : c + width] = h
            step = delta[b, t, c : c + width]
            u_t = u[b, t, c : c + width]
            y_t = y[b, t, c : c + width]
            for j in range(width):
                x[j] = step[j] * u_t[j]
                y_t[j] = 0.0
            _forward_step(step, rates_c, h, x, y_t, B[b, t], C[b, t])


@compiled
def _backward_task(
    u, delta, A, rates, B, C, dy, starts, du, ddelta, dA, dB, dC, b, first_channel, last_channel
):  # fmt: skip
    """Walks one batch element from right to left, a block of channels at a time."""
    states = A.shape[0]
    length = u.shape[1]
    for c in range(first_channel, last_channel, WIDEST):
        width = min(WIDEST, last_channel - c)
        A_c = A[:, c : c + width].copy()
        rates_c = rates[:, c : c + width].copy()
        h = np.empty((CHUNK + 1, states, width), np.float32)
        decay = np.empty((CHUNK, states, width), np.float32)
        carried = np.zeros((states, width), np.float32)
        dA_chunk = np.empty((states, width), np.float32)
        dA_total = np.zeros((states, width), np.float64)
        x = np.empty(width, np.float32)
        dx = np.empty(width, np.float32)
        for k in range((length - 1) // CHUNK, -1, -1):
            first = k * CHUNK
            steps = min(CHUNK, length - first)
            h[0] = starts[k, b, :, c : c + width]
            for s in range(steps):  # the states of this chunk once more
                t = first + s
                step = delta[b, t, c : c + width]
                u_t = u[b, t, c : c + width]
                for j in range(width):
                    x[j] = step[j] * u_t[j]
                _recompute_step(step, rates_c, h[s], decay[s], h[s + 1], x, B[b, t])
            dA_chunk[:] = 0.0  # summed per chunk: plain float32 over all steps loses digits
            for s in range(steps - 1, -1, -1):
                t = first + s
                step = delta[b, t, c : c + width]
                u_t = u[b, t, c : c + width]
                dy_t = dy[b, t, c : c + width]
                du_t = du[b, t, c : c + width]
                dstep = ddelta[b, t, c : c + width]
                for j in range(width):
                    x[j] = step[j] * u_t[j]
                    dx[j] = 0.0
                    dstep[j] = 0.0
                _backward_step(
                    step, A_c, h[s], decay[s], h[s + 1], carried, dA_chunk, x, dy_t, dx, dstep,
                    B[b, t], C[b, t], dB[b, t], dC[b, t],
                )  # fmt: skip
                for j in range(width):
                    du_t[j] = dx[j] * step[j]
                    dstep[j] += dx[j] * u_t[j]
            dA_total += dA_chunk
        dA[b, :, c : c + width] = dA_total
