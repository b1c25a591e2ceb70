"""Mamba blocks on the selective scan: the stock block and the two-stream block of TEMamba.

`MambaBlock` has the parameter names and shapes of the stock `mamba_ssm.Mamba`, so that weights of one load into the
other. `CrossMambaBlock` runs two complete streams, one on the branch's tokens and one on the guide's, which share one
output projection (the method's "Mamba-v3").

Source: Gu and Dao 2023, section 3.4 and appendix; Qu et al., IEEE TGRS 2025, TEMamba.
"""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.nn import functional as F

from ctmem.checks import Width, fail, typed
from ctmem.networks.scan.selective import compiled_stream, scan

DELTA_RANGE = (1e-3, 1e-1)  # step sizes at the start, drawn log-uniformly
DELTA_FLOOR = 1e-4


class Stream(nn.Module):
    """One S6 stream without its output projection: tokens (B, L, D) → gated features (B, L, expand·D).

    in_proj → causal depth-wise convolution → SiLU → selective scan → times SiLU of the gate z. Where the backend of the
    scan is `numba`, all that follows in_proj is one compiled operation, `scan.numba_stream`.
    """

    @typed
    def __init__(self, d_model: Width, *, d_state: Width = 16, d_conv: Width = 4, expand: Width = 2):
        super().__init__()
        inner = expand * d_model
        rank = math.ceil(d_model / 16)
        self.d_state = d_state
        self.rank = rank
        self.in_proj = nn.Linear(d_model, 2 * inner, bias=False)
        self.conv1d = nn.Conv1d(inner, inner, d_conv, groups=inner, padding=d_conv - 1)
        self.x_proj = nn.Linear(inner, rank + 2 * d_state, bias=False)
        self.dt_proj = nn.Linear(rank, inner)
        self.A_log = nn.Parameter(torch.arange(1, d_state + 1).float().log().repeat(inner, 1))
        self.D = nn.Parameter(torch.ones(inner))
        self.reset_delta()

    @torch.no_grad()
    def reset_delta(self) -> None:
        """Draws dt_proj so that the first step sizes are log-uniform in `DELTA_RANGE`."""
        nn.init.uniform_(self.dt_proj.weight, -(self.rank**-0.5), self.rank**-0.5)
        low, high = map(math.log, DELTA_RANGE)
        delta = torch.empty_like(self.dt_proj.bias).uniform_(low, high).exp_().clamp_(min=DELTA_FLOOR)
        self.dt_proj.bias.copy_(delta + torch.log(-torch.expm1(-delta)))  # softplus⁻¹

    def features(self, tokens: torch.Tensor) -> torch.Tensor:
        """Returns (B, L, expand·D), what the output projection then reads."""
        xz = self.in_proj(tokens)
        A = -torch.exp(self.A_log)
        compiled = compiled_stream(xz) if self._is_stock() else None
        if compiled is not None:
            conv, x_proj, dt = self.conv1d, self.x_proj, self.dt_proj
            return compiled(xz, conv.weight, conv.bias, x_proj.weight, dt.weight, dt.bias, A, self.D)
        x, z = xz.chunk(2, dim=-1)
        x = F.silu(self.conv1d(x.transpose(1, 2))[..., : tokens.shape[1]]).transpose(1, 2)
        delta, B, C = self.x_proj(x).split([self.rank, self.d_state, self.d_state], dim=-1)
        delta = F.softplus(self.dt_proj(delta))
        y = scan(x, delta, A, B, C, self.D)
        return y * F.silu(z)

    def _is_stock(self) -> bool:
        """Whether the layers are as made here: one that was replaced, or has hooks, must be called to do its work."""
        layers = {self.conv1d: nn.Conv1d, self.x_proj: nn.Linear, self.dt_proj: nn.Linear}
        return all(type(one) is kind and not _hooks(one) for one, kind in layers.items())


class MambaBlock(Stream):
    """The stock Mamba-1 block, tokens (B, L, D) → (B, L, D); no norm and no residual inside.

    Example:
        >>> sum(p.numel() for p in MambaBlock(128).parameters())
        116480
    """

    @typed
    def __init__(self, d_model: Width, *, d_state: Width = 16, d_conv: Width = 4, expand: Width = 2):
        super().__init__(d_model, d_state=d_state, d_conv=d_conv, expand=expand)
        self.out_proj = nn.Linear(expand * d_model, d_model, bias=False)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Returns (B, L, D); token t depends on tokens 0 … t only.

        Raises:
            ValueError: `tokens` is not (B, L, D).
        """
        _check_tokens(tokens, "tokens", self.in_proj.in_features)
        return self.out_proj(self.features(tokens))


class CrossMambaBlock(nn.Module):
    """Two streams, one output projection: out_proj(stream_a(tokens) + stream_b(guide)), (B, L, D) → (B, L, D).

    Example:
        >>> sum(p.numel() for p in CrossMambaBlock(128).parameters())
        200192
    """

    @typed
    def __init__(self, d_model: Width, *, d_state: Width = 16, d_conv: Width = 4, expand: Width = 2):
        super().__init__()
        self.stream_a = Stream(d_model, d_state=d_state, d_conv=d_conv, expand=expand)
        self.stream_b = Stream(d_model, d_state=d_state, d_conv=d_conv, expand=expand)
        self.out_proj = nn.Linear(expand * d_model, d_model, bias=False)

    def forward(self, tokens: torch.Tensor, guide: torch.Tensor) -> torch.Tensor:
        """Returns (B, L, D).

        Raises:
            ValueError: `tokens` is not (B, L, D), or `guide` is of another shape.
        """
        _check_tokens(tokens, "tokens", self.stream_a.in_proj.in_features)
        if guide.shape != tokens.shape:
            fail("guide", f"of the shape of `tokens` {tuple(tokens.shape)}", f"shape {tuple(guide.shape)}")
        return self.out_proj(self.stream_a.features(tokens) + self.stream_b.features(guide))


def _hooks(layer: nn.Module) -> bool:
    """Whether somebody asked to hear of calls of this layer."""
    kinds = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    return any(getattr(layer, kind) for kind in kinds)


def _check_tokens(tokens: torch.Tensor, name: str, d_model: Width) -> None:
    """Raises unless tokens are (B, L, d_model)."""
    if tokens.ndim != 3 or tokens.shape[2] != d_model or 0 in tokens.shape:
        fail(name, f"of shape (B, L, {d_model})", f"shape {tuple(tokens.shape)}")
