"""Training at preset TINY on a CPU: steps per second in one and two processes, peak memory.

    python benchmarks/training.py [--rounds 5] [--steps 20]

Speed does not depend on what is learned, so the speed is measured on random numbers of the shapes that TINY trains on; each
round starts every set-up once, in turn. CPU time per step is told beside: other programs on the machine hardly touch it, and
with a free core for every process it is what a step takes. Memory is that of a whole short run of `python -m ctmem.train`.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace

import machine
import torch

from ctmem.command import forgiving_output
from ctmem.config import TINY
from ctmem.model import build_networks
from ctmem.train.loop import Run, new_accelerator
from ctmem.train.pool import Pool
from ctmem.train.stages import cnn_loss, denoiser_loss

PARTS = {"cnn": cnn_loss, "denoiser": denoiser_loss(TINY)}
SETUPS = {  # name → processes, threads in each, samples per step
    "1 process, 1 thread": (1, 1, 4),
    "1 process, 2 threads": (1, 2, 4),
    "2 processes, 1 thread each": (2, 1, 4),
    "1 process, 1 thread, batch of 2": (1, 1, 2),
}
WARM_UP = 3
READING = """\
What to read from it:

1. The cores were never free, so two processes did not get one each, and the gain in steps per second says little. The gain
   in CPU time, 1.4, is what two free cores would give; it is below 1.5 because not all of a step shrinks with the batch. Of
   a denoiser step of 292 ms, 46 ms remain however small the batch is (a step on two samples takes 169 ms, more than half);
   exchanging gradients, and waiting for a process whose samples happened to draw the self-conditioning pass, takes another
   23 ms. For the CNN the exchange is the larger share.
2. Larger batches gain more: what remains and what is exchanged does not grow with them.
3. Two threads in one process are several times slower than one on a busy machine: they wait for each other at every small
   operation. Where other programs run, `--threads 1` is the better choice.
"""


def random_pool(count: int = 64) -> Pool:
    """Crops of TINY's shapes."""
    z, side, generator = TINY.denoiser.subspace, TINY.crop, torch.Generator().manual_seed(0)
    shapes = ((z, side, side), (z, side, side), (4 * z, side, side), (z, 1, 1))
    return Pool(*(torch.rand(count, *shape, generator=generator) for shape in shapes))


def worker(threads: int, batch: int, steps: int) -> None:
    """Trains both networks for some steps; the main process prints steps per second and CPU ms per step as JSON."""
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    accelerator, networks, pool, pace = new_accelerator(cpu=True), build_networks(TINY), random_pool(), {}
    for part, loss in PARTS.items():
        run = Run(networks[part], loss, replace(TINY.train, batch=batch), accelerator=accelerator)
        count = steps * (10 if part == "cnn" else 1)  # a step of the CNN is a tenth of one of the denoiser
        for step in range(WARM_UP + count):
            if step == WARM_UP:
                accelerator.wait_for_everyone()
                start, used = time.perf_counter(), time.process_time()
            run.advance(pool)
        cpu_ms = torch.tensor([1000 * (time.process_time() - used) / count])
        pace[part] = [count / (time.perf_counter() - start), float(accelerator.gather(cpu_ms).max())]
    accelerator.print(json.dumps(pace))
    accelerator.end_training()


def measured(processes: int, threads: int, batch: int, steps: int) -> dict[str, list[float]]:
    """Steps per second and CPU ms per step (of the busiest process) of one set-up, in processes of its own."""
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes)]
    options = ["--worker", str(threads), str(batch), "--steps", str(steps)]
    command = [sys.executable, *launch * (processes > 1), __file__, *options]
    ran = subprocess.run(command, capture_output=True, encoding="utf-8", check=True)
    return json.loads(ran.stdout.splitlines()[-1])


def peak_memory_mb() -> float:
    """Of a short run of everything on the shipped scenes: the largest of all processes started here, MB."""
    with tempfile.TemporaryDirectory() as folder:
        steps = ["--kernel-steps", "5", "--cnn-steps", "5", "--steps", "5", "--device", "cpu", "--threads", "1"]
        command = [sys.executable, "-m", "ctmem.train", "--out", folder, *steps]
        subprocess.run(command, check=True, capture_output=True)
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024


def main() -> None:
    """Measures and writes results/training.md."""
    forgiving_output()
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--worker", type=int, nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        worker(*options.worker, options.steps)
        return
    memory = peak_memory_mb()
    paces: dict[str, list[dict[str, list[float]]]] = {name: [] for name in SETUPS}
    for number in range(options.rounds):
        for name, setup in SETUPS.items():
            paces[name].append(measured(*setup, options.steps))
            print(f"round {number + 1}, {name}: {paces[name][-1]}", file=sys.stderr)
    machine.write("training", report(paces, memory))


def report(paces: dict[str, list[dict[str, list[float]]]], memory: float) -> str:
    """The page of results."""
    rows = []
    for part in PARTS:
        alone = next(iter(paces.values()))
        for name, rounds in paces.items():
            values, cpu = zip(*(one[part] for one in rounds))
            gains = [one[part][0] / first[part][0] for one, first in zip(rounds, alone)]
            cpu_gains = [first[part][1] / one[part][1] for one, first in zip(rounds, alone)]
            rows.append([part, name, *map(_spread, (values, gains, cpu, cpu_gains))])
    header = ["network", "set-up", "steps/s", "gain", "CPU ms/step of a process", "gain in CPU time"]
    return f"""# Training at preset TINY on a CPU

{machine.describe("accelerate", "numba")}. {os.getloadavg()[0]:.1f} programs were running when it ended.

Batch 4 but for the last set-up, crops of {TINY.crop} px; median and range over {len(rounds)} rounds, gains over the first set-up of the same
round. Two processes share the batch: two samples each.

{machine.table(header, rows)}

Peak memory of `python -m ctmem.train --preset tiny` in one process: {memory:.0f} MB.

{READING}"""


def _spread(values: Sequence[float]) -> str:
    """Median and range."""
    return f"{statistics.median(values):.3g} ({min(values):.3g}–{max(values):.3g})"


if __name__ == "__main__":
    main()
