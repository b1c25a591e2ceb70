"""The selective scan by the CUDA kernel of the package mamba-ssm.

It is the backend `mamba_ssm` of `ctmem.networks.scan.selective`.

The package is optional and often hard to build; `ctmem.networks.scan.selective.backends("cuda")` says whether it is
usable. Its layout puts time last: (b, d, L) and (b, n, L).

Source: the documented signature of `mamba_ssm.ops.selective_scan_interface.selective_scan_fn`, version 2.
"""

from __future__ import annotations

import torch


def scan(
    u: torch.Tensor, delta: torch.Tensor, A: torch.Tensor, B: torch.Tensor, C: torch.Tensor
) -> torch.Tensor:  # fmt: skip
    """Returns y (b, L, d) with its gradients; arguments as of `selective_scan`, float32 on a CUDA device."""
    from mamba_ssm.ops.selective_scan_interface import selective_scan_fn  # noqa: PLC0415  (optional)

    u, delta, B, C = (x.transpose(1, 2).contiguous() for x in (u, delta, B, C))
    y = selective_scan_fn(u, delta, A.contiguous(), B, C, None, z=None, delta_bias=None, delta_softplus=False)
    return y.transpose(1, 2)
