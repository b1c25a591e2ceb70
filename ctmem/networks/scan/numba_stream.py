"""A whole Mamba stream compiled by numba, from the input projection's output to the gate's; with its backward pass.

    x, z = xz;  a = silu(conv(x));  (δ, B, C) = a · x_projᵀ;  Δ = softplus(δ · dt_projᵀ + bias)
    y = scan(a, Δ, A, B, C) + D · a;  output = y · silu(z)

Between the matrix products torch would walk through a dozen arrays of the size of a, forward and again backward; here
every number is made where it is used. A task walks along the sequence as in `numba_backend`, whose steps it takes. Kept
for the backward pass are a, Δ, y and one state per chunk; the rest is computed again.

Imported when the compiled stream is first used, not before.

Source: this project; the block: Gu and Dao 2023, section 3.4.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from numba import njit

from ctmem.networks.scan.numba_backend import (
    CHUNK,
    _arrays,
    _backward_step,
    _exp2,
    _forward_step,
    _groups,
    _recompute_step,
    _run,
)
from ctmem.networks.scan.numba_cache import FASTMATH, compiled
from ctmem.networks.scan.selective import stream_reference
from ctmem.networks.scan.trial import gradients_again

LOG2E = np.float32(math.log2(math.e))


class CompiledStream(torch.autograd.Function):
    """The stream above as one operation; arguments and shapes as of `stream`."""

    @staticmethod
    def forward(ctx: Any, xz: torch.Tensor, *weights: torch.Tensor) -> torch.Tensor:
        conv, conv_bias, x_proj, dt_proj, dt_bias, A, D = weights
        b, length, d = xz.shape[0], xz.shape[1], xz.shape[2] // 2
        n, spans = A.shape[1], _groups(b, d)
        a, step, y, output = (xz.new_empty(b, length, d) for _ in range(4))
        arrays = _arrays(xz, conv[:, 0].T, conv_bias, a)
        _run(_conv_task, [(*arrays, i, *span) for i in range(b) for span in spans])
        mixed = a @ x_proj.T  # δ, B and C side by side
        starts = xz.new_empty(-(-length // CHUNK), b, n, d)
        arrays = _arrays(xz, a, mixed, dt_proj.T, dt_bias, A.T * LOG2E.item(), D, step, y, output, starts)
        _run(_scan_task, [(*arrays, i, *span) for i in range(b) for span in spans])
        ctx.save_for_backward(xz, *weights, a, mixed, step, y, starts)
        return output

    @staticmethod
    def backward(ctx: Any, doutput: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        if torch.is_grad_enabled():  # create_graph=True: the gradients are to be differentiated, too
            return gradients_again(stream_reference, ctx.saved_tensors[:8], doutput)
        xz, conv, conv_bias, x_proj, dt_proj, dt_bias, A, D, a, mixed, step, y, starts = ctx.saved_tensors
        b, _, d = a.shape
        spans = _groups(b, d)
        dxz, da = torch.empty_like(xz), torch.empty_like(a)
        dmixed = mixed.new_zeros(len(spans), *mixed.shape)  # each group of channels has its own sum
        ddt, ddt_bias, dA, dD = (a.new_empty(b, *x.shape) for x in (dt_proj.T, dt_bias, A.T, D))
        arrays = _arrays(xz, a, mixed, dt_proj.T, dt_bias, A.T, A.T * LOG2E.item(), D, step, y, starts, doutput)
        outputs = _arrays(dxz, da, ddt, ddt_bias, dA, dD)
        sums = [_arrays(one)[0] for one in dmixed]
        _run(_scan_back_task, [(*arrays, *outputs, sums[g], i, *s) for i in range(b) for g, s in enumerate(spans)])
        dmixed = dmixed.sum(0).flatten(0, 1) if len(spans) > 1 else dmixed[0].flatten(0, 1)
        dx_proj = dmixed.T @ a.flatten(0, 1)
        da.view(-1, d).addmm_(dmixed, x_proj)
        dconv, dconv_bias = (a.new_empty(b, *x.shape) for x in (conv[:, 0].T, conv_bias))
        arrays = _arrays(xz, conv[:, 0].T, conv_bias, da, dxz, dconv, dconv_bias)
        _run(_conv_back_task, [(*arrays, i, *span) for i in range(b) for span in spans])
        weights = (dconv.sum(0).T[:, None], dconv_bias.sum(0), dx_proj, ddt.sum(0).T, ddt_bias.sum(0))
        return dxz, *weights, dA.sum(0).T, dD.sum(0)


def stream(
    xz: torch.Tensor,
    conv: torch.Tensor,
    conv_bias: torch.Tensor,
    x_proj: torch.Tensor,
    dt_proj: torch.Tensor,
    dt_bias: torch.Tensor,
    A: torch.Tensor,
    D: torch.Tensor,
) -> torch.Tensor:
    """Returns y · silu(z), (b, L, d) float32.

    Args:
        xz: x and z side by side, (b, L, 2·d) float32, on the CPU.
        conv: taps of the causal convolution (d, 1, k), the last one of the present; `conv_bias`: (d,).
        conv_bias: (d,).
        x_proj: (r + 2·n, d).
        dt_proj: (d, r).
        dt_bias: (d,).
        A: decay rates (d, n), < 0.
        D: weight of the direct path (d,).
    """
    return CompiledStream.apply(xz.contiguous(), conv, conv_bias, x_proj, dt_proj, dt_bias, A, D)


@njit(fastmath=FASTMATH, inline="always")
def _sigmoid(x):
    """1 / (1 + e^−x) in float32."""
    return np.float32(1.0) / (np.float32(1.0) + _exp2(-x * LOG2E))


@njit(fastmath=FASTMATH, inline="always")
def _softplus(x):
    """log(1 + e^x) in float32, relative error 2e-7: log(1 + u) = 2 artanh(u / (2 + u)), as a series for 0 < u ≤ 1."""
    u = _exp2(-abs(x) * LOG2E)
    s = u / (np.float32(2.0) + u)
    q = s * s
    p = np.float32(2 / 15)
    p = p * q + np.float32(2 / 13)
    p = p * q + np.float32(2 / 11)
    p = p * q + np.float32(2 / 9)
    p = p * q + np.float32(2 / 7)
    p = p * q + np.float32(2 / 5)
    p = p * q + np.float32(2 / 3)
    p = p * q + np.float32(2.0)
    return max(x, np.float32(0.0)) + s * p


@compiled
def _convolved(x, conv, bias, t, b, c, row):
    """The causal convolution at token t into `row` (w): the taps reach back, nothing stands before the first token."""
    width = len(row)
    taps = conv.shape[0]
    bias_c = bias[c : c + width]
    for j in range(width):
        row[j] = bias_c[j]
    for k in range(max(0, taps - 1 - t), taps):
        x_t = x[b, t - (taps - 1) + k, c : c + width]
        conv_k = conv[k, c : c + width]
        for j in range(width):
            row[j] += conv_k[j] * x_t[j]


@compiled
def _conv_task(x, conv, bias, a, b, first, last):
    """Convolution and SiLU of one batch element and some channels."""
    row = np.empty(last - first, np.float32)
    for t in range(a.shape[1]):
        _convolved(x, conv, bias, t, b, first, row)
        a_t = a[b, t, first:last]
        for j in range(last - first):
            a_t[j] = row[j] * _sigmoid(row[j])


@compiled
def _conv_back_task(x, conv, bias, da, dx, dconv, dbias, b, first, last):
    """Back through SiLU and convolution: `dx` is filled, the gradients of taps and bias are summed per chunk."""
    length = da.shape[1]
    taps = conv.shape[0]
    width = last - first
    row = np.empty(width, np.float32)
    chunk = np.zeros((taps + 1, width), np.float32)
    total = np.zeros((taps + 1, width), np.float64)
    for t in range(length):
        _convolved(x, conv, bias, t, b, first, row)
        g = da[b, t, first:last]
        dbias_c = chunk[taps]
        for j in range(width):
            s = _sigmoid(row[j])
            g[j] *= s * (np.float32(1.0) + row[j] * (np.float32(1.0) - s))
            dbias_c[j] += g[j]
        for k in range(max(0, taps - 1 - t), taps):
            x_t = x[b, t - (taps - 1) + k, first:last]
            chunk_k = chunk[k]
            for j in range(width):
                chunk_k[j] += g[j] * x_t[j]
        if t % CHUNK == CHUNK - 1 or t == length - 1:
            total += chunk
            chunk[:] = 0.0
    for t in range(length):
        dx_t = dx[b, t, first:last]
        for j in range(width):
            dx_t[j] = 0.0
        for k in range(max(0, taps - length + t), taps):
            g = da[b, t + (taps - 1) - k, first:last]
            conv_k = conv[k, first:last]
            for j in range(width):
                dx_t[j] += conv_k[j] * g[j]
    dconv[b, :, first:last] = total[:taps]
    dbias[b, first:last] = total[taps]


@compiled
def _raw_step(mixed, dt, bias, raw):
    """Step sizes before the softplus, into `raw` (w), of one token's δ (r)."""
    for j in range(len(raw)):
        raw[j] = bias[j]
    for r in range(dt.shape[0]):
        m = mixed[r]
        for j in range(len(raw)):
            raw[j] += m * dt[r, j]


@compiled
def _scan_task(xz, a, mixed, dt, dt_bias, rates, D, step, y, output, starts, b, first, last):
    """Step sizes, scan, direct path and gate of one batch element and some channels, from left to right."""
    states = rates.shape[0]
    rank = dt.shape[0]
    width = last - first
    gate = xz.shape[2] // 2 + first
    dt_c = dt[:, first:last].copy()
    bias_c = dt_bias[first:last].copy()
    rates_c = rates[:, first:last].copy()
    D_c = D[first:last].copy()
    h = np.zeros((states, width), np.float32)
    x = np.empty(width, np.float32)
    raw = np.empty(width, np.float32)
    for t in range(a.shape[1]):
        if t % CHUNK == 0:  # the state that the backward pass starts this chunk from
            starts[t // CHUNK, b, :, first:last] = h
        a_t = a[b, t, first:last]
        y_t = y[b, t, first:last]
        z_t = xz[b, t, gate : gate + width]
        step_t = step[b, t, first:last]
        output_t = output[b, t, first:last]
        _raw_step(mixed[b, t], dt_c, bias_c, raw)
        for j in range(width):
            s = _softplus(raw[j])
            step_t[j] = s
            x[j] = s * a_t[j]
            y_t[j] = D_c[j] * a_t[j]
        _forward_step(step_t, rates_c, h, x, y_t, mixed[b, t, rank : rank + states], mixed[b, t, rank + states :])
        for j in range(width):
            output_t[j] = y_t[j] * z_t[j] * _sigmoid(z_t[j])


@compiled
def _gate_back(doutput, y, z, dy, dz):
    """Gradients of y and z (w) of y · silu(z)."""
    for j in range(len(dy)):
        s = _sigmoid(z[j])
        silu = z[j] * s
        dy[j] = doutput[j] * silu
        dz[j] = doutput[j] * y[j] * (s + silu * (np.float32(1.0) - s))


@compiled
def _scan_back_task(
    xz, a, mixed, dt, dt_bias, A, rates, D, step, y, starts, doutput,
    dxz, da, ddt, ddt_bias, dA, dD, dmixed, b, first, last
):  # fmt: skip
    """Back through gate, scan and step sizes of one batch element and some channels, from right to left."""
    states = A.shape[0]
    rank = dt.shape[0]
    length = a.shape[1]
    width = last - first
    gate = xz.shape[2] // 2 + first
    dt_c = dt[:, first:last].copy()
    bias_c = dt_bias[first:last].copy()
    A_c = A[:, first:last].copy()
    rates_c = rates[:, first:last].copy()
    D_c = D[first:last].copy()
    h = np.empty((CHUNK + 1, states, width), np.float32)
    decay = np.empty((CHUNK, states, width), np.float32)
    carried = np.zeros((states, width), np.float32)
    x, dx, dy, dstep, raw = (
        np.empty(width, np.float32),
        np.empty(width, np.float32),
        np.empty(width, np.float32),
        np.empty(width, np.float32),
        np.empty(width, np.float32),
    )
    # sums over all tokens: per chunk in float32, chunk by chunk in float64
    dA_chunk = np.zeros((states, width), np.float32)
    dA_total = np.zeros((states, width), np.float64)
    chunk = np.zeros((rank + 2, width), np.float32)  # of dt, then of its bias, then of D
    total = np.zeros((rank + 2, width), np.float64)
    for k in range((length - 1) // CHUNK, -1, -1):
        begin = k * CHUNK
        steps = min(CHUNK, length - begin)
        h[0] = starts[k, b, :, first:last]
        for s in range(steps):  # the states of this chunk once more
            t = begin + s
            step_t = step[b, t, first:last]
            a_t = a[b, t, first:last]
            for j in range(width):
                x[j] = step_t[j] * a_t[j]
            _recompute_step(step_t, rates_c, h[s], decay[s], h[s + 1], x, mixed[b, t, rank : rank + states])
        dA_chunk[:] = 0.0
        chunk[:] = 0.0
        dbias_c = chunk[rank]
        dD_c = chunk[rank + 1]
        for s in range(steps - 1, -1, -1):
            t = begin + s
            step_t = step[b, t, first:last]
            a_t = a[b, t, first:last]
            da_t = da[b, t, first:last]
            _gate_back(
                doutput[b, t, first:last], y[b, t, first:last], xz[b, t, gate : gate + width], dy,
                dxz[b, t, gate : gate + width],
            )  # fmt: skip
            for j in range(width):
                x[j] = step_t[j] * a_t[j]
                dx[j] = 0.0
                dstep[j] = 0.0
            _backward_step(
                step_t, A_c, h[s], decay[s], h[s + 1], carried, dA_chunk, x, dy, dx, dstep,
                mixed[b, t, rank : rank + states], mixed[b, t, rank + states :],
                dmixed[b, t, rank : rank + states], dmixed[b, t, rank + states :],
            )  # fmt: skip
            _raw_step(mixed[b, t], dt_c, bias_c, raw)
            for j in range(width):
                da_t[j] = dx[j] * step_t[j] + dy[j] * D_c[j]
                dD_c[j] += dy[j] * a_t[j]
                draw = (dstep[j] + dx[j] * a_t[j]) * _sigmoid(raw[j])
                raw[j] = draw
                dbias_c[j] += draw
            for r in range(rank):
                m = mixed[b, t, r]
                chunk_r = chunk[r]
                dt_r = dt_c[r]
                sum_r = np.float32(0.0)
                for j in range(width):
                    chunk_r[j] += m * raw[j]
                    sum_r += raw[j] * dt_r[j]
                dmixed[b, t, r] += sum_r
        dA_total += dA_chunk
        total += chunk
    dA[b, :, first:last] = dA_total
    ddt[b, :, first:last] = total[:rank]
    ddt_bias[b, first:last] = total[rank]
    dD[b, first:last] = total[rank + 1]
