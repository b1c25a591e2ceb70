"""Time and memory of the selective scan on a CPU, forward and backward together.

    pip install mambapy==1.2.0        # the one thing this needs beside the package; and g++ for the C++ line
    python benchmarks/scan.py         # about ten minutes; writes benchmarks/results/scan.md
    python benchmarks/scan.py --quick # small sizes only, writes nothing

Everything is measured in turns within one run and reported as medians and ratios. The C++ extension is built here, in
a temporary folder, and is no part of the package: it says what a compiler reaches on the same plan.
"""

from __future__ import annotations

import argparse
import ctypes
import math
import multiprocessing
import subprocess
import sys
import tempfile
from pathlib import Path

import machine
import torch

import ctmem.networks.scan.selective
from ctmem.command import forgiving_output
from ctmem.networks.mamba import MambaBlock
from ctmem.networks.scan.selective import selective_scan

SIZES = {"b1 L25600 d256 n16": (1, 25600, 256, 16), "b4 L4096 d64 n16": (4, 4096, 64, 16)}
QUICK = {"b2 L512 d64 n8": (2, 512, 64, 8)}


def inputs(b: int, length: int, d: int, n: int) -> list[torch.Tensor]:
    """u, delta, A, B, C as a new Mamba block would make them."""
    generator = torch.Generator().manual_seed(0)
    normal = lambda *shape: torch.randn(*shape, generator=generator)
    delta = torch.empty(b, length, d).uniform_(math.log(1e-3), math.log(1e-1), generator=generator).exp()
    A = -torch.arange(1, n + 1).float().repeat(d, 1)
    return [x.requires_grad_() for x in (normal(b, length, d), delta, A, normal(b, length, n), normal(b, length, n))]


def mambapy_scan(u, delta, A, B, C):
    """The parallel scan of the package mambapy."""
    from mambapy.pscan import pscan

    states = pscan(torch.exp(delta.unsqueeze(-1) * A), (delta * u).unsqueeze(-1) * B.unsqueeze(2))
    return (states @ C.unsqueeze(-1)).squeeze(3)


class CppScan(torch.autograd.Function):
    """The C++ extension; `compiled` is set by `build`."""

    compiled: ctypes.CDLL | None = None

    @classmethod
    def build(cls, folder: str) -> bool:
        """Compiles scan_cpp.cpp into the folder; False where there is no compiler."""
        target = Path(folder, "scan_cpp.so")
        flags = ["-O3", "-march=native", "-fopenmp", "-shared", "-fPIC", "-fno-math-errno", "-fno-trapping-math"]
        flags += ["-fassociative-math", "-fno-signed-zeros"]  # as free as numba is here, and NaN stays NaN
        try:
            subprocess.run(["g++", *flags, "-o", target, Path(__file__).with_name("scan_cpp.cpp")], check=True)
        except (OSError, subprocess.CalledProcessError) as error:
            print(f"no C++ line: {error}", file=sys.stderr)
            return False
        cls.compiled = ctypes.CDLL(str(target))
        return True

    @classmethod
    def call(cls, name: str, *arguments) -> None:
        """Calls a function of the library with tensors' addresses and whole numbers."""
        converted = [
            ctypes.c_void_p(x.data_ptr()) if isinstance(x, torch.Tensor) else ctypes.c_long(x) for x in arguments
        ]
        getattr(cls.compiled, name)(*converted)

    @staticmethod
    def forward(ctx, u, delta, A, B, C):
        (b, length, d), n = u.shape, A.shape[1]
        u, delta, B, C = (x.contiguous() for x in (u, delta, B, C))
        rates = (A.T * math.log2(math.e)).contiguous()
        y, starts = torch.empty_like(u), u.new_empty(-(-length // 32), b, n, d)
        CppScan.call("scan_forward", u, delta, rates, B, C, y, starts, b, length, d, n)
        ctx.save_for_backward(u, delta, A, B, C, starts)
        return y

    @staticmethod
    def backward(ctx, dy):
        u, delta, A, B, C, starts = ctx.saved_tensors
        (b, length, d), n = u.shape, A.shape[1]
        At = A.T.contiguous()
        rates, dy = At * math.log2(math.e), dy.contiguous()
        du, ddelta, dA = torch.empty_like(u), torch.empty_like(u), u.new_empty(b, n, d)
        dB, dC = (u.new_empty(d // 32, b, length, n) for _ in range(2))
        CppScan.call(
            "scan_backward", u, delta, At, rates, B, C, dy, starts, du, ddelta, dA, dB, dC, b, length, d, n
        )  # fmt: skip
        return du, ddelta, dA.sum(0).T, dB.sum(0), dC.sum(0)


def implementations() -> dict:
    """Name → scan(u, delta, A, B, C), those that can run here."""
    found = {name: lambda *x, name=name: selective_scan(*x, backend=name) for name in ("numba", "torch", "reference")}
    if CppScan.compiled is not None:
        found["C++"] = CppScan.apply
    try:
        import mambapy.pscan  # noqa: F401
    except ImportError:
        print("no mambapy line: pip install mambapy==1.2.0", file=sys.stderr)
    else:
        found["mambapy"] = mambapy_scan
    return found


def once(scan, tensors) -> None:
    """Forward and backward."""
    torch.autograd.grad(scan(*tensors).sum(), tensors)


def errors(scans: dict, size) -> dict[str, float]:
    """Largest relative error of y and all gradients against the float64 reference."""
    tensors = inputs(*size)
    weights = torch.linspace(-1, 1, tensors[0].numel()).reshape(tensors[0].shape)

    def results(scan, x):
        y = scan(*x)
        return [y, *torch.autograd.grad((y * weights.to(y)).sum(), x)]

    wanted = results(scans["reference"], [x.detach().double().requires_grad_() for x in tensors])
    worst = {}
    for name, scan in scans.items():
        pairs = zip(results(scan, tensors), wanted)
        worst[name] = max(float((x - y).detach().abs().max() / y.detach().abs().max()) for x, y in pairs)
    return worst


def _peak(name: str, size, folder: str, queue) -> None:
    """In a process of its own: how far one call lifts the peak of resident memory, MB."""
    if name == "C++":
        CppScan.compiled = ctypes.CDLL(str(Path(folder, "scan_cpp.so")))
    scan = implementations()[name]
    once(scan, inputs(1, 128, 64, size[3]))  # compiled, imported, pools made
    tensors = inputs(*size)
    Path("/proc/self/clear_refs").write_text(
        "5", encoding="utf-8"
    )  # the high-water mark starts anew from what is resident now
    before = _high_water_mb()
    once(scan, tensors)
    queue.put(_high_water_mb() - before)


def _high_water_mb() -> float:
    """Peak of this process's resident memory, MB (Linux)."""
    line = next(x for x in Path("/proc/self/status").read_text(encoding="utf-8").splitlines() if x.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


def peaks(names, size, folder: str) -> dict[str, float]:
    """Extra memory of one forward and backward, MB, the gradients of the inputs included."""
    context, found = multiprocessing.get_context("spawn"), {}
    for name in names:
        queue = context.Queue()
        process = context.Process(target=_peak, args=(name, size, folder, queue))
        process.start()
        found[name] = queue.get()
        process.join()
    return found


def block_times(rounds: int) -> dict[str, float]:
    """A whole Mamba block, d_model 128, L 25600, with two scans."""
    block, tokens = MambaBlock(128), torch.randn(1, 25600, 128)
    run = dict(ctmem.networks.scan.selective._RUN)

    def with_scan(scan):
        def step():
            ctmem.networks.scan.selective._RUN["numba"] = scan
            block(tokens).sum().backward()
            ctmem.networks.scan.selective._RUN.update(run)

        return step

    return machine.interleaved({"numba": with_scan(run["numba"]), "C++": with_scan(CppScan.apply)}, rounds=rounds)


def _busy(stop) -> None:
    """Keeps one core busy until told to stop."""
    while not stop.is_set():
        sum(range(100_000))


def loaded(scans: dict, size, rounds: int) -> dict[str, float]:
    """Seconds with a busy process beside, on as many torch threads as there are cores."""
    context = multiprocessing.get_context("spawn")
    stop = context.Event()
    process = context.Process(target=_busy, args=(stop,))
    process.start()
    tensors = inputs(*size)
    times = machine.interleaved({n: lambda s=s: once(s, tensors) for n, s in scans.items()}, rounds=rounds)
    stop.set()
    process.join()
    return times


def measure(sizes: dict, rounds: int, folder: str) -> str:
    """The whole report."""
    scans, parts = implementations(), []
    slow = {"mambapy", "reference"}
    for title, size in sizes.items():
        tensors = inputs(*size)
        times = machine.interleaved({n: lambda s=s: once(s, tensors) for n, s in scans.items()}, rounds=rounds)
        memory, wrong = peaks(scans, size, folder), errors(scans, (*size[:1], min(size[1], 2048), *size[2:]))
        base = "mambapy" if "mambapy" in times else "reference"
        rows = [
            [n, f"{1000 * t:.1f}", f"{times[base] / t:.1f}", f"{memory[n]:.0f}", f"{memory[base] / max(memory[n], 1):.1f}", f"{wrong[n]:.0e}"]
            for n, t in sorted(times.items(), key=lambda item: item[1])
        ]  # fmt: skip
        header = [
            "scan",
            "ms",
            f"times faster than {base}",
            "extra MB",
            f"times less memory than {base}",
            "worst error",
        ]
        parts.append(f"## {title}\n\n" + machine.table(header, rows))
        if "C++" in times:
            parts.append(f"numba / C++: {times['numba'] / times['C++']:.2f}")
    fast = {name: scan for name, scan in scans.items() if name not in slow}
    size = list(sizes.values())[-1]
    tensors = inputs(*size)
    idle = machine.interleaved({n: lambda s=s: once(s, tensors) for n, s in fast.items()}, rounds=3 * rounds)
    busy = loaded(fast, size, 3 * rounds)
    rows = [[n, f"{1000 * idle[n]:.1f}", f"{1000 * busy[n]:.1f}", f"{busy[n] / idle[n]:.2f}"] for n in fast]
    header = ["scan", "idle ms", "loaded ms", "ratio"]
    parts.append(f"## {list(sizes)[-1]}, with a busy process on another core\n\n" + machine.table(header, rows))
    return "\n\n".join(parts)


def main() -> None:
    """Runs the benchmark."""
    forgiving_output()
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    cores = torch.get_num_threads()
    with tempfile.TemporaryDirectory() as folder:
        compiled = CppScan.build(folder)
        torch.set_num_threads(1)
        text = measure(QUICK if options.quick else SIZES, 3 if options.quick else 5, folder)
        if compiled and not options.quick:
            times = block_times(5)
            text += f"\n\n## Whole Mamba block, d_model 128, L 25600\n\nnumba {1000 * times['numba']:.0f} ms, "
            text += f"C++ {1000 * times['C++']:.0f} ms, ratio {times['numba'] / times['C++']:.2f}"
        torch.set_num_threads(cores)
        size = list((QUICK if options.quick else SIZES).values())[-1]
        fast = {n: s for n, s in implementations().items() if n in ("numba", "torch", "C++")}
        both = {
            f"{n}, {k} threads": (lambda s=s, k=k: (torch.set_num_threads(k), once(s, tensors)))
            for n, s in fast.items()
            for k in {1, cores}
        }
        tensors = inputs(*size)
        times = machine.interleaved(both, rounds=10)
        text += "\n\n## Threads\n\n" + machine.table(["scan", "ms"], [[n, f"{1000 * t:.1f}"] for n, t in times.items()])
    torch.set_num_threads(1)
    head = f"# Selective scan, forward and backward\n\n{machine.describe('numba', 'mambapy')}. Medians of turns.\n\n"
    print(head + text) if options.quick else machine.write("scan", head + text)


if __name__ == "__main__":
    main()
