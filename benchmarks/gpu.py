"""A CUDA device: which scan backends agree, how fast and how large they are; a training step and sampling at PAPER size.

    python benchmarks/gpu.py --minutes 3     # writes benchmarks/results/gpu.md, part after part; without a CUDA device: nothing

Measured in turns, as medians and ratios: the scan to backend `torch`, forward and backward together; training and sampling
in tf32 and bf16 to fp32.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence

import machine
import torch
from scan import SIZES, inputs

from ctmem.command import forgiving_output
from ctmem.config import PAPER, Preset
from ctmem.diffusion.problem import DenoisingProblem
from ctmem.diffusion.schedule import make_schedule
from ctmem.model import build_networks
from ctmem.networks.scan.selective import BACKENDS, backends, obstacle, selective_scan
from ctmem.train.pool import Pool
from ctmem.train.stages import denoiser_loss

PRECISIONS = ("fp32", "tf32", "bf16")


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


def in_precision(name: str, device: torch.device, work: Callable[[], object]) -> Callable[[], object]:
    """`work` in float32, with tf32 in matrix products and convolutions, or under autocast to bfloat16."""

    def run() -> object:
        before = torch.backends.cudnn.allow_tf32, torch.get_float32_matmul_precision()
        torch.backends.cudnn.allow_tf32 = name == "tf32"
        torch.set_float32_matmul_precision("high" if name == "tf32" else "highest")
        with torch.autocast(device.type, torch.bfloat16, enabled=name == "bf16"):
            result = work()
        torch.backends.cudnn.allow_tf32 = before[0]
        torch.set_float32_matmul_precision(before[1])
        if device.type == "cuda":
            torch.cuda.synchronize()
        return result

    return run


def model_work(preset: Preset, device: torch.device, steps: int) -> dict[str, Callable[[], object]]:
    """What is timed: one step of the optimiser on a batch of crops, and sampling one crop in so many steps."""
    torch.manual_seed(0)
    network, side = build_networks(preset)["denoiser"].to(device), preset.crop
    image = lambda batch, channels: torch.randn(batch, channels, side, side, device=device)
    batch, channels, textures = preset.train.batch, network.channels, network.texture_channels
    pool = Pool(
        image(batch, channels),
        image(batch, channels),
        image(batch, textures),
        torch.ones(batch, channels, 1, 1, device=device),
    )
    loss = denoiser_loss(preset)
    optimiser = torch.optim.Adam(network.parameters(), lr=0.0)  # the pool is noise: nothing must be learned from it
    schedule = make_schedule(preset.schedule, preset.timesteps)

    def train() -> None:
        optimiser.zero_grad()
        loss(network, pool, torch.Generator().manual_seed(0)).backward()
        optimiser.step()

    @torch.no_grad()
    def draw() -> torch.Tensor:
        problem = DenoisingProblem.of(network, pool.base[:1], pool.texture[:1])
        return problem.draw(schedule, steps=steps, generator=torch.Generator().manual_seed(0))

    return {f"training step, {batch} crops of {side} px": train, f"sampling one crop, {steps} steps": draw}


def model_table(preset: Preset, device: torch.device, *, steps: int = 10, rounds: int = 10, seconds: float = 60) -> str:
    """Times and peak memory of `model_work` in every precision, as Markdown; no new round begins after `seconds`."""
    rows = []
    for title, work in model_work(preset, device, steps).items():
        runs = {name: in_precision(name, device, work) for name in PRECISIONS}
        times = machine.interleaved(runs, rounds=rounds, seconds=seconds / 2)
        for name, run in runs.items():
            peak = ""
            if device.type == "cuda":
                torch.cuda.reset_peak_memory_stats()
                run()
                peak = f"{torch.cuda.max_memory_allocated() / 2**20:.0f}"
            rows.append([title, name, f"{1000 * times[name]:.1f}", f"{times['fp32'] / times[name]:.2f}", peak])
    return machine.table(["", "precision", "ms", "times faster than fp32", "peak MB"], rows)


def scan_table(names: Sequence[str], size: tuple[int, ...], dtype: torch.dtype, *, seconds: float) -> str:
    """Time, memory and error of every backend, forward and backward, as Markdown."""
    tensors = [x.detach().to("cuda", dtype).requires_grad_() for x in inputs(*size)]
    exact = once("torch", [x.detach().double().requires_grad_() for x in tensors])
    times = machine.interleaved({n: lambda n=n: once(n, tensors) for n in names}, rounds=10, seconds=seconds)
    rows = [
        [n, f"{1000 * t:.2f}", f"{times['torch'] / t:.1f}", f"{peak_mb(n, tensors):.0f}", f"{worst(once(n, tensors), exact):.0e}"]
        for n, t in times.items()
    ]  # fmt: skip
    return machine.table(["backend", "ms", "times faster than torch", "extra MB", "worst error against float64"], rows)


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the benchmark."""
    forgiving_output()
    parser = argparse.ArgumentParser(description="Scan backends, training and sampling on a CUDA device.")
    parser.add_argument("--minutes", type=float, default=5, help="about so long; at least one round of everything")
    seconds = 60 * parser.parse_args(arguments).minutes
    if not torch.cuda.is_available():
        print("no CUDA device here: nothing was measured")
        return
    device = torch.device("cuda")
    names = [name for name in BACKENDS if name != "reference" and not obstacle(name, device, torch.float32)]
    listed = "\n".join(f"- `{name}`: {line}" for name, line in backends(device).items())
    head = f"# On a GPU\n\n{torch.cuda.get_device_name()}. {machine.describe('mamba-ssm')}.\n\n{listed}"
    parts = [head, f"## Preset {PAPER.name}\n\n" + model_table(PAPER, device, seconds=seconds / 2)]
    machine.write("gpu", "\n\n".join(parts))
    for title, size in SIZES.items():
        for dtype in (torch.float32, torch.bfloat16):
            table = scan_table(names, size, dtype, seconds=seconds / 8)
            parts.append(f"## {title}, {str(dtype).removeprefix('torch.')}\n\n" + table)
            machine.write("gpu", "\n\n".join(parts))


if __name__ == "__main__":
    main()
