"""Runs that are killed: twenty SIGKILLs at random moments for each form of output, and the bytes at the end.

    python benchmarks/own_kills.py [--kills 20] [--seed 0]

A process that has imported everything forks one child after the other; each goes on where the last one was killed, and is killed up to
two tiles and 60 ms after its first sign of life: in a tile, in the journal, or while the outputs are finished. Writes
results/own_kills.md. Not on Windows.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import sys
import tempfile
import time
from pathlib import Path

import machine
import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from ctmem.command import forgiving_output
from ctmem.observe.camera import Camera
from ctmem.tiling.run import sharpen_to
from tests.tiling_stubs import Steps, answer, deviation, scene

NAMES = ("sr.tif", "sr.hdr", "sr.mat", "sr.npz")


def work(folder: Path, name: str, progress=None) -> None:
    """A run with an uncertainty, which goes on with what is there."""
    options = {
        "inputs": {"the scene": ""},
        "tile": 9,
        "dtype": np.int16,
        "resume": True,
        "answer": answer,
        "deviation": deviation,
    }
    spread = folder / f"std{Path(name).suffix}"
    sharpen_to(
        folder / name,
        scene(holes=True),
        Steps(Camera.gaussian(scale=3)),
        spread_out=spread,
        progress=progress,
        **options,
    )


def lives(folder: Path, name: str, kills: int, moments: random.Random) -> list[int]:
    """Kills one child after the other; the tiles that each found done. The last one is left alone."""
    found = []
    for number in range(kills + 1):
        heard, tell = os.pipe()
        child = os.fork()
        if not child:
            work(folder, name, lambda done, total: (os.write(tell, bytes([done])), time.sleep(0.005)))
            os._exit(0)
        os.close(tell)
        said = os.read(heard, 1)
        found.append(said[0] if said else -1)
        if number < kills:
            for _ in range(moments.randrange(3)):  # up to two more tiles, and a part of the next, or of the finish
                os.read(heard, 1)
            time.sleep(moments.random() * 0.06)
            os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        os.close(heard)
        if status == 0:  # it was quicker
            break
    return found


def contents(folder: Path) -> dict[str, bytes]:
    """All files that are no leftovers of the machinery."""
    return {path.name: path.read_bytes() for path in folder.iterdir() if not path.name.startswith(".")}


def main() -> None:
    """Kills, and compares."""
    forgiving_output()
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    for name in NAMES:
        with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as other:
            found = lives(Path(one), name, options.kills, random.Random(options.seed))
            work(Path(other), name)
            same = contents(Path(one)) == contents(Path(other))
            left = sorted(path.name for path in Path(one).iterdir() if path.name.startswith("."))
        rows.append(
            [
                name,
                str(len(found) - 1),
                " ".join(map(str, found)),
                "the same" if same else "OTHERS",
                ", ".join(left) or "none",
            ]
        )
        print(rows[-1], flush=True)
    head = ["output", "kills", "tiles of 30 that each life found", "bytes", "files left over"]
    said = "A life ends with a kill but for the last one; fewer than asked for where a life was done before its kill. −1: it had said nothing."
    machine.write(
        "own_kills", "\n\n".join(["# Runs that are killed", machine.describe(), said, machine.table(head, rows)])
    )


if __name__ == "__main__":
    main()
