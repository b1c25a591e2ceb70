"""A selective scan without what a Mamba block puts around it: convolution, then scan, as the paper's figure draws CIM.

Source: Qu et al., IEEE TGRS 2025, figure of the CIM; Gu and Dao 2023, section 3.2.
"""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.nn import functional as F

from ctmem.checks import Width, typed
from ctmem.networks.mamba import Stream
from ctmem.networks.scan.selective import scan


class PlainScan(nn.Module):
    """Tokens (B, L, D) → the same: causal depth-wise convolution → selective scan. No projections, no gate.

    Step sizes start as those of a Mamba block.
    """

    @typed
    def __init__(self, d_model: Width, *, d_state: Width = 16, d_conv: Width = 4):
        super().__init__()
        self.d_state = d_state
        self.rank = math.ceil(d_model / 16)
        self.conv1d = nn.Conv1d(d_model, d_model, d_conv, groups=d_model, padding=d_conv - 1)
        self.x_proj = nn.Linear(d_model, self.rank + 2 * d_state, bias=False)
        self.dt_proj = nn.Linear(self.rank, d_model)
        self.A_log = nn.Parameter(torch.arange(1, d_state + 1).float().log().repeat(d_model, 1))
        self.D = nn.Parameter(torch.ones(d_model))
        Stream.reset_delta(self)  # type: ignore[arg-type]  # of the same rank and dt_proj

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Returns (B, L, D); token t depends on tokens 0 … t only."""
        x = self.conv1d(tokens.transpose(1, 2))[..., : tokens.shape[1]].transpose(1, 2)
        delta, B, C = self.x_proj(x).split([self.rank, self.d_state, self.d_state], dim=-1)
        return scan(x, F.softplus(self.dt_proj(delta)), -torch.exp(self.A_log), B, C, self.D)
