"""Whether an accelerated backend may be trusted with a call.

Two questions. Is somebody looking at the operations instead of computing them (`torch.func`, `torch.export`, tracing)?
Then only plain PyTorch will do. And does the backend work on this machine? It is tried on a small example, forward and,
where gradients are wanted, backward, before it is used for the first time: whatever goes wrong there, an exception or
a wrong number, is a reason to do without it.

Source: this project.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any

import numpy as np
import torch
from torch.autograd import forward_ad
from torch.utils._python_dispatch import _get_current_dispatch_mode

TOLERANCE = 1e-3  # of the largest number: a trial is to find what is broken, not what is rounded

Function = Callable[..., torch.Tensor]


def is_observed(x: torch.Tensor) -> bool:
    """Whether operations on x are traced, transformed or not computed at all: by torch.func, export, a mode, `meta`."""
    return (
        torch.compiler.is_compiling()
        or torch._C._are_functorch_transforms_active()
        or forward_ad._current_level >= 0
        or torch._C._is_tracing()
        or _get_current_dispatch_mode() is not None
        or type(x).__torch_dispatch__ is not torch.Tensor.__torch_dispatch__
        or x.is_meta
    )


def without_autocast(device: torch.device) -> Any:
    """A context in which every operation is computed in the type of its inputs."""
    known = torch.amp.is_autocast_available(device.type)
    return torch.autocast(device.type, enabled=False) if known else nullcontext()


def gradients_again(
    function: Function, inputs: Sequence[torch.Tensor], dy: torch.Tensor
) -> tuple[torch.Tensor | None, ...]:  # fmt: skip
    """The gradients of the inputs that want one, as functions of all inputs: they can be differentiated again."""
    with torch.enable_grad(), without_autocast(dy.device):
        own = [x.view_as(x) if x.requires_grad else x for x in inputs]  # one input may have been made of another one
        wanted = [x for x in own if x.requires_grad]
        found = iter(torch.autograd.grad(function(*own), wanted, dy, create_graph=True, allow_unused=True))
    return tuple(next(found) if x.requires_grad else None for x in inputs)


def example(shapes: Sequence[tuple[int, ...]], device: torch.device) -> list[torch.Tensor]:
    """Numbers between 0.1 and 1, the same each time, that touch nobody's random generator."""
    generator = np.random.default_rng(0)
    return [torch.from_numpy(generator.uniform(0.1, 1, s).astype(np.float32)).to(device) for s in shapes]


def failure(function: Function, oracle: Function, inputs: Sequence[torch.Tensor], learning: bool) -> str | None:
    """What goes wrong when `function` does the work of `oracle`, with its gradients where `learning`; None: nothing."""
    try:
        with torch.inference_mode(False), without_autocast(inputs[0].device):
            wanted = _results(oracle, [x.cpu().double() for x in inputs], learning)
            found = _results(function, inputs, learning)
    except Exception as error:  # broken caches, missing libraries, unknown processors: none may break ctmem
        text = (str(error).strip().splitlines() or [""])[0]
        return f"{type(error).__name__}: {text}" if text else type(error).__name__
    for name, x, y in zip(("values", *("gradients" for _ in inputs)), found, wanted):
        if not float((x.cpu() - y).abs().max()) <= TOLERANCE * float(y.abs().max()):
            return f"wrong {name}"
    return None


def _results(function: Function, inputs: Sequence[torch.Tensor], learning: bool) -> list[torch.Tensor]:
    """The output, and where `learning` the gradients of a weighted sum of it."""
    inputs = [x.detach().clone().requires_grad_(learning) for x in inputs]
    with torch.set_grad_enabled(learning):
        y = function(*inputs)
        if not learning:
            return [y]
        weights = torch.linspace(0.5, 1.5, y.numel(), dtype=y.dtype, device=y.device).view_as(y)
        return [y.detach(), *torch.autograd.grad((y * weights).sum(), inputs)]
