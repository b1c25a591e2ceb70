"""Command line: `python -m ctmem.train --preset tiny --out runs/tiny` trains all networks of a preset on the shipped
scenes. Stop it at any moment and call it again: it goes on where its last checkpoint stands.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace

import torch

from ctmem.config import PRESETS
from ctmem.model import PARTS
from ctmem.pool import embedded_sources
from ctmem.training import train


def main(arguments: list[str] | None = None) -> int:
    """Runs the command; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m ctmem.train", description=__doc__.split("\n\n")[0])
    parser.add_argument("--preset", choices=sorted(PRESETS), default="tiny")
    parser.add_argument("--out", default=None, help="folder for weights and checkpoints (default: runs/PRESET)")
    parser.add_argument("--steps", type=int, default=None, help="steps of the denoiser (default: the preset's)")
    parser.add_argument("--cnn-steps", type=int, default=None, help="steps of the CNN baseline")
    parser.add_argument("--kernel-steps", type=int, default=None, help="steps of the degradation kernel")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=None, help="CPU threads of torch (default: all cores)")
    options = parser.parse_args(arguments)
    if options.threads:
        torch.set_num_threads(options.threads)
    preset = PRESETS[options.preset]
    if options.steps is not None:
        preset = replace(preset, train=replace(preset.train, steps=options.steps))
    given = {"cnn_steps": options.cnn_steps, "kernel_steps": options.kernel_steps}
    preset = replace(preset, **{name: value for name, value in given.items() if value is not None})
    out = options.out or f"runs/{preset.name}"
    sources = embedded_sources(preset)
    train(preset, sources, out, seed=options.seed, parts=options.parts)
    print(f"weights and card.json are in {out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
