"""The selective scan on a CUDA device: which backends agree, how fast they are, how much memory they take.

    python benchmarks/gpu.py     # writes benchmarks/results/gpu.md; without a CUDA device it says so and writes nothing

Measured in turns, forward and backward together, as medians and ratios to backend `torch`.
"""

from __future__ import annotations

import machine
import torch
from scan import SIZES, inputs

from ctmem.scan import BACKENDS, backends, obstacle, selective_scan


def once(name: str, tensors: list[torch.Tensor]) -> list[torch.Tensor]:
    """y and the gradients of all inputs, when the device is done."""
    y = selective_scan(*tensors, backend=name)
    found = [y, *torch.autograd.grad(y.float().sum(), tensors)]
    torch.cuda.synchronize()
    return found


def peak_mb(name: str, tensors: list[torch.Tensor]) -> float:
    """Memory above the inputs, MB."""
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    once(name, tensors)
    return (torch.cuda.max_memory_allocated() - before) / 2**20


def worst(found: list[torch.Tensor], wanted: list[torch.Tensor]) -> float:
    """Largest difference of any of them, relative to its largest value."""
    return max(float((a - b).detach().abs().max() / b.detach().abs().max()) for a, b in zip(found, wanted))


def main() -> None:
    """Runs the benchmark."""
    if not torch.cuda.is_available():
        print("no CUDA device here: nothing was measured")
        return
    device, parts = torch.device("cuda"), []
    names = [name for name in BACKENDS if name != "reference" and not obstacle(name, device, torch.float32)]
    for title, size in SIZES.items():
        for dtype in (torch.float32, torch.bfloat16):
            tensors = [x.detach().to(device, dtype).requires_grad_() for x in inputs(*size)]
            exact = once("torch", [x.detach().double().requires_grad_() for x in tensors])
            times = machine.interleaved({n: lambda n=n: once(n, tensors) for n in names}, rounds=10)
            rows = [
                [n, f"{1000 * t:.2f}", f"{times['torch'] / t:.1f}", f"{peak_mb(n, tensors):.0f}", f"{worst(once(n, tensors), exact):.0e}"]
                for n, t in times.items()
            ]  # fmt: skip
            header = ["backend", "ms", "times faster than torch", "extra MB", "worst error against float64"]
            parts.append(f"## {title}, {str(dtype).removeprefix('torch.')}\n\n" + machine.table(header, rows))
    listed = "\n".join(f"- `{name}`: {line}" for name, line in backends(device).items())
    head = f"# Selective scan on a GPU\n\n{torch.cuda.get_device_name()}. {machine.describe('mamba-ssm')}.\n\n{listed}"
    machine.write("gpu", "\n\n".join([head, *parts]))


if __name__ == "__main__":
    main()
