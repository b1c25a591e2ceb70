"""Trains the networks of a preset: the degradation kernel, the CNN baseline and the denoiser.

Stop it at any moment and call it again with the same options: it goes on where its last checkpoint stands. On several
processors: `torchrun --nproc_per_node 2 -m ctmem.train …`; they share each batch.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import torch

from ctmem.checks import check_count
from ctmem.command import MOST_SEED, Parser, folder, run_command
from ctmem.config import Preset
from ctmem.files import check_out
from ctmem.model import PARTS
from ctmem.networks.variants import PRESETS
from ctmem.observe.camera import Camera
from ctmem.observe.responses import SENSORS
from ctmem.train.loop import micro_batch_of, new_accelerator
from ctmem.train.sources import embedded_sources, own_sources
from ctmem.train.stages import train

EPILOG = """\
what it writes to the folder:
  kernel.safetensors, cnn.safetensors, denoiser.safetensors   weights: load_model("tiny", folder="runs/tiny")
  card.json         preset, data, seed, versions, and per part its steps, minutes and scores
  log_cnn.csv, log_denoiser.csv
                    step, loss, learning rate, validation PSNR in dB, seconds
  state/            checkpoints, no longer needed when all is done

examples:
  python -m ctmem.train                                       what is shipped, once more, on the shipped scenes
  python -m ctmem.train --data my_scene.mat --out runs/mine   a scene of yours; its bands' centres in nm in my_scene.txt
  torchrun --nproc_per_node 2 -m ctmem.train                  the same in two processes, or on two GPUs
"""


def new_parser() -> argparse.ArgumentParser:
    """Returns the parser of the command line."""
    parser = Parser(
        prog="python -m ctmem.train",
        description=__doc__,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    # four groups of options, as a reader would ask for them
    what = parser.add_argument_group("what is trained, and on what")
    what.add_argument(
        "--preset", choices=PRESETS, default="tiny", metavar="NAME",
        help=f"sizes and settings: {', '.join(PRESETS)} (default: tiny)",
    )  # fmt: skip
    what.add_argument(
        "--parts", nargs="+", choices=PARTS, default=PARTS, metavar="PART",
        help=f"which networks: {', '.join(PARTS)} (default: all)",
    )  # fmt: skip
    what.add_argument(
        "--data", nargs="+", metavar="PATH",
        help="scenes of yours (.mat, .npy, .npz, .h5; my_scene.mat:HSI names one of several arrays) and folders of the "
        ".mat tree (default: the shipped scenes; Indian Pines alone for a preset on bands, as drawn or as released). "
        "The centres of the bands stand in a text file: my_scene.txt beside my_scene.mat, bands.txt in the folder",
    )  # fmt: skip
    what.add_argument(
        "--out", type=folder, metavar="FOLDER",
        help="for weights, card, logs, checkpoints (default: runs/PRESET)",
    )  # fmt: skip
    camera = parser.add_argument_group("the camera that it is for", "what is not given here is as the preset has it")
    camera.add_argument("--scale", type=int, metavar="N", help="fine pixels per coarse pixel, along one side")
    camera.add_argument("--fwhm", type=float, metavar="PX", help="full width at half maximum of the blur, fine pixels")
    camera.add_argument("--snr", type=float, metavar="DB", help="signal-to-noise ratio of the coarse image, dB")
    camera.add_argument("--sensor", choices=SENSORS, metavar="NAME", help=f"multispectral one: {', '.join(SENSORS)}")
    how = parser.add_argument_group("how long and how", "what is not given here is as the preset has it")
    how.add_argument("--steps", type=int, metavar="N", help="steps of the denoiser")
    how.add_argument("--cnn-steps", type=int, metavar="N", help="steps of the CNN baseline")
    how.add_argument("--kernel-steps", type=int, metavar="N", help="steps of the degradation kernel")
    how.add_argument("--crop", type=int, metavar="PX", help="side of the crops that CNN and denoiser learn from")
    how.add_argument("--batch", type=int, metavar="N", help="samples per step, over all processes")
    how.add_argument("--learning-rate", type=float, metavar="X", help="highest one of CNN and denoiser")
    how.add_argument("--seed", type=int, default=0, metavar="N", help="of weights and samples (default: 0)")
    where = parser.add_argument_group("on which machine")
    where.add_argument("--device", choices=("auto", "cpu"), default="auto", help="auto: a CUDA GPU if there is one")
    where.add_argument(
        "--precision", choices=("auto", "fp32", "bf16"), default="auto",
        help="of matrix products; auto: bf16 on a GPU, fp32 on a CPU",
    )  # fmt: skip
    where.add_argument("--threads", type=int, metavar="N", help="CPU threads of each process (default: torch's choice)")
    where.add_argument(
        "--micro-batch", type=int, metavar="N",
        help="samples at once: less memory, the same step (default: a process's share of the batch)",
    )  # fmt: skip
    return parser


def preset_of(options: argparse.Namespace) -> Preset:
    """The preset with what the command line changes."""
    preset = PRESETS[options.preset]
    loop = {"steps": options.steps, "batch": options.batch, "learning_rate": options.learning_rate}
    camera = {"scale": options.scale, "fwhm_px": options.fwhm, "snr_db": options.snr, "sensor": options.sensor}
    rest = {"cnn_steps": options.cnn_steps, "kernel_steps": options.kernel_steps, "crop": options.crop}
    return replace(
        preset,
        camera=replace(preset.camera, **_given(camera)),
        train=replace(preset.train, **_given(loop)),
        **_given(rest),
    )


def _given(options: dict[str, Any]) -> dict[str, Any]:
    """The options that were given."""
    return {name: value for name, value in options.items() if value is not None}


def work(options: argparse.Namespace) -> None:
    """Trains; what is wrong with the options is said before anything is read, computed or written."""
    preset = preset_of(options)
    check_count(options.seed, "seed", at_least=0, at_most=MOST_SEED)
    for name in ("threads", "micro_batch"):
        if getattr(options, name) is not None:
            check_count(getattr(options, name), name, at_most=65_536)
    camera = Camera.from_config(preset.camera)
    out = folder_of(options)
    check_out(out)
    # on which machine
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    precision = {"auto": None, "fp32": "no", "bf16": "bf16"}[options.precision]
    accelerator = new_accelerator(cpu=options.device == "cpu", precision=precision)
    micro_batch_of(preset.train.batch, options.micro_batch, accelerator.num_processes)
    # on what
    if options.data:
        sources = own_sources(options.data, camera)
    else:  # a denoiser on bands learns from scenes of one band count
        only = "indian_pines" if preset.denoiser.subspace is None else None
        sources = embedded_sources(camera, only=only)
    train(
        preset, sources, out, seed=options.seed, parts=options.parts, micro_batch=options.micro_batch,
        accelerator=accelerator,
    )  # fmt: skip
    accelerator.print(f"weights and card.json are in {out}")
    accelerator.end_training()


def folder_of(options: argparse.Namespace) -> Path:
    """The folder that is written to."""
    return cast(Path, options.out or Path("runs", options.preset))


def main(arguments: list[str] | None = None) -> int:
    """Runs the command; returns the exit status, see `ctmem.command`."""
    options = new_parser().parse_args(arguments)
    stopped = f"stopped; the same command goes on from the last checkpoint in {folder_of(options)}"
    return run_command(lambda: work(options), stopped)


if __name__ == "__main__":
    sys.exit(main())
