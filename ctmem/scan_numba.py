"""The selective scan compiled by numba: a task is one batch element and a group of channels.

A task walks along the sequence with the states of its channels in the cache. Forward keeps one state per chunk;
backward rebuilds a chunk's states and decays and walks them from right to left, as the chunked scan in PyTorch does.
The inner loops run over the channels, whose number is no constant: LLVM would unroll short constant loops before it
comes to vectorise them. Tasks run on as many threads as torch uses and do not hold Python's lock. No compiler is
needed; the first call compiles (some ten seconds) and numba keeps the result on disk.

This module is imported when the backend is first used, not before.

Source: this project.
"""

from __future__ import annotations

import itertools
import math
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from numba import njit, types
from numba.extending import intrinsic

WIDEST = 256  # channels that are walked together, at most
CHUNK = 32  # steps between two kept states
OPTIONS = {
    "nogil": True,
    "cache": True,
    "error_model": "numpy",
    "fastmath": {"contract", "reassoc", "nsz", "arcp"},  # not nnan, not ninf: NaN must stay NaN
}


def forward(u, delta, A, B, C) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns y (b, L, d) and the states before each chunk; arguments as of `ctmem.scan.selective_scan`, float32."""
    b, length, d = u.shape
    y = torch.empty_like(u, memory_format=torch.contiguous_format)
    starts = u.new_empty(-(-length // CHUNK), b, A.shape[1], d)
    arrays = _arrays(u, delta, A.T * math.log2(math.e), B, C, y, starts)
    _run(_forward_task, [(*arrays, i, *span) for i in range(b) for span in _groups(b, d)])
    return y, starts


def backward(dy, u, delta, A, B, C, starts) -> tuple[torch.Tensor, ...]:
    """Returns the gradients of u, delta, A, B and C."""
    b, length, d = u.shape
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


def _run(task: Callable, calls: list[tuple]) -> None:
    """Makes all calls of a task on torch's number of threads. A forked process makes its own pool: threads do not survive forks."""
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
def _float_of_bits(typingctx, bits):
    """An int32's bits read as a float32."""

    def codegen(context, builder, signature, args):
        return builder.bitcast(args[0], context.get_value_type(types.float32))

    return types.float32(types.int32), codegen


@njit(fastmath=OPTIONS["fastmath"], inline="always")
def _exp2(x):
    """2^x in float32, relative error 1e-7: the whole part becomes the exponent, the rest a polynomial; NaN stays."""
    x = np.float32(-126.0) if x < np.float32(-126.0) else x
    x = np.float32(128.0) if x > np.float32(128.0) else x
    whole = np.floor(x + np.float32(0.5))
    f = x - whole
    p = np.float32(1.5353362e-4)
    p = p * f + np.float32(1.3398874e-3)
    p = p * f + np.float32(9.6184373e-3)
    p = p * f + np.float32(5.5503324e-2)
    p = p * f + np.float32(2.4022648e-1)
    p = p * f + np.float32(6.9314720e-1)
    p = p * f + np.float32(1.0)
    return p * _float_of_bits((np.int32(whole) + np.int32(127)) << np.int32(23))


@njit(**OPTIONS)
def _forward_task(u, delta, rates, B, C, y, starts, b, first_channel, last_channel):
    """Walks one batch element from left to right, a block of channels at a time."""
    states, length, block = rates.shape[0], u.shape[1], min(WIDEST, last_channel - first_channel)
    h, r = np.empty((states, block), np.float32), np.empty((states, block), np.float32)
    step, x, total = np.empty(block, np.float32), np.empty(block, np.float32), np.empty(block, np.float32)
    for c in range(first_channel, last_channel, block):
        width = min(block, last_channel - c)
        for n in range(states):
            for j in range(width):
                r[n, j] = rates[n, c + j]
                h[n, j] = 0.0
        for t in range(length):
            if t % CHUNK == 0:
                for n in range(states):
                    for j in range(width):
                        starts[t // CHUNK, b, n, c + j] = h[n, j]
            for j in range(width):
                step[j] = delta[b, t, c + j]
                x[j] = step[j] * u[b, t, c + j]
                total[j] = 0.0
            for n in range(states):
                B_n, C_n = B[b, t, n], C[b, t, n]
                for j in range(width):
                    state = _exp2(step[j] * r[n, j]) * h[n, j] + x[j] * B_n
                    h[n, j] = state
                    total[j] += state * C_n
            for j in range(width):
                y[b, t, c + j] = total[j]


@njit(**OPTIONS)
def _backward_task(
    u, delta, A, rates, B, C, dy, starts, du, ddelta, dA, dB, dC, b, first_channel, last_channel
):  # fmt: skip
    """Walks one batch element from right to left, a block of channels at a time."""
    states, length, block = A.shape[0], u.shape[1], min(WIDEST, last_channel - first_channel)
    h = np.empty((CHUNK + 1, states, block), np.float32)
    decay = np.empty((CHUNK, states, block), np.float32)
    carried, dA_chunk = np.empty((states, block), np.float32), np.empty((states, block), np.float32)
    dA_total = np.empty((states, block), np.float64)
    r, a = np.empty((states, block), np.float32), np.empty((states, block), np.float32)
    step, x, u_t, dy_t = (
        np.empty(block, np.float32), np.empty(block, np.float32),
        np.empty(block, np.float32), np.empty(block, np.float32),
    )  # fmt: skip
    dx, dstep = np.empty(block, np.float32), np.empty(block, np.float32)
    for c in range(first_channel, last_channel, block):
        width = min(block, last_channel - c)
        for n in range(states):
            for j in range(width):
                r[n, j] = rates[n, c + j]
                a[n, j] = A[n, c + j]
                carried[n, j] = 0.0
                dA_total[n, j] = 0.0
        for k in range((length - 1) // CHUNK, -1, -1):
            first = k * CHUNK
            steps = min(CHUNK, length - first)
            for n in range(states):
                for j in range(width):
                    h[0, n, j] = starts[k, b, n, c + j]
                    dA_chunk[n, j] = 0.0  # summed per chunk: plain float32 over all steps loses digits
            for s in range(steps):  # the states of this chunk once more
                t = first + s
                for j in range(width):
                    step[j] = delta[b, t, c + j]
                    x[j] = step[j] * u[b, t, c + j]
                for n in range(states):
                    B_n = B[b, t, n]
                    for j in range(width):
                        e = _exp2(step[j] * r[n, j])
                        decay[s, n, j] = e
                        h[s + 1, n, j] = e * h[s, n, j] + x[j] * B_n
            for s in range(steps - 1, -1, -1):
                t = first + s
                for j in range(width):
                    step[j] = delta[b, t, c + j]
                    u_t[j] = u[b, t, c + j]
                    x[j] = step[j] * u_t[j]
                    dy_t[j] = dy[b, t, c + j]
                    dx[j] = 0.0
                    dstep[j] = 0.0
                for n in range(states):
                    B_n, C_n = B[b, t, n], C[b, t, n]
                    sum_B, sum_C = np.float32(0.0), np.float32(0.0)
                    for j in range(width):
                        dh = carried[n, j] + C_n * dy_t[j]
                        sum_C += h[s + 1, n, j] * dy_t[j]
                        sum_B += dh * x[j]
                        dx[j] += dh * B_n
                        before = dh * decay[s, n, j]
                        carried[n, j] = before
                        exponent = before * h[s, n, j]  # gradient of Δ_t A
                        dstep[j] += exponent * a[n, j]
                        dA_chunk[n, j] += exponent * step[j]
                    dB[b, t, n] += sum_B
                    dC[b, t, n] += sum_C
                for j in range(width):
                    du[b, t, c + j] = dx[j] * step[j]
                    ddelta[b, t, c + j] = dstep[j] + dx[j] * u_t[j]
            for n in range(states):
                for j in range(width):
                    dA_total[n, j] += dA_chunk[n, j]
        for n in range(states):
            for j in range(width):
                dA[b, n, c + j] = dA_total[n, j]
