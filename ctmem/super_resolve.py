"""Sharpens a scene of yours, from file to file: georeferenced, in the numbers of the file, of any size.

  ctmem-sr lr.hdr --out sr.tif                        no reference needed; blur and noise are estimated, and said
  ctmem-sr lr.hdr ref.tif --out sr.tif                fine images, of the same ground best
  ctmem-sr --inspect lr.hdr                           what is understood of a file; nothing is computed or written

Read: ENVI, GeoTIFF, JPEG 2000, EnMAP, PRISMA, EMIT, DESIS, Sentinel-2, MATLAB, HDF5, npz, npy; file.mat:HSI names one
of several arrays. Written, by the ending of --out: .tif, .hdr (ENVI), .mat, .npz. Beside the answer lies its card, a
JSON file with what was estimated, chosen and lost. Stop it at any moment: --resume goes on where it was.

Exit status: 0 done, 1 the machine failed (a full disk, say), 2 something is wrong with what was handed in, 130 stopped.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ctmem.command import Parser, run_command
from ctmem.observe.responses import SENSORS

METHODS = ("auto", "fusion", "prior", "ctmem", "bicubic-bp", "bicubic")


def new_parser() -> argparse.ArgumentParser:
    """Returns the parser of the command line."""
    parser = Parser(prog="ctmem-sr", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("path", metavar="FILE", help="the coarse scene: a file, or the folder of a product")
    parser.add_argument(
        "references",
        nargs="*",
        metavar="REF",
        help="fine images; used where they show the same ground, shifted, mirrored or in quarter turns",
    )
    parser.add_argument("--out", metavar="FILE", help="the fine scene; its ending says what it becomes")
    parser.add_argument("--inspect", action="store_true", help="print what is understood of FILE, and do nothing else")
    what = parser.add_argument_group("what is made")
    what.add_argument("--scale", type=int, metavar="N", help="2, 3, 4 or 6 (default: that of a reference whose pixel "
                      "size is known, or else 4)")  # fmt: skip
    what.add_argument("--method", choices=METHODS, default="auto", metavar="NAME",
                      help=f"{', '.join(METHODS)} (default: auto, chosen on the scene itself)")  # fmt: skip
    what.add_argument("--uncertainty", metavar="FILE", help="also write the deviation to expect, per pixel and band")
    what.add_argument("--dtype", metavar="TYPE", help="of the numbers written, as float32 (default: the file's)")
    camera = parser.add_argument_group("the sensors", "what is not told is estimated, and said")
    camera.add_argument(
        "--psf", default="auto", metavar="FWHM|FILE",
        help="full width at half maximum of the blur in fine pixels, or a text file of its weights",
    )  # fmt: skip
    camera.add_argument(
        "--noise", default="auto", metavar="DB|FILE",
        help="signal-to-noise ratio in dB, 'none', or a text file of deviations, one per band",
    )  # fmt: skip
    camera.add_argument("--sensor", metavar="NAME|FILE",
                        help=f"of the references: {', '.join(SENSORS)}, or a text file of their responses "
                        "(default: what the files say)")  # fmt: skip
    reading = parser.add_argument_group("how the file is read", "where it does not say so itself")
    reading.add_argument("--axes", metavar="CHW", help="the order of its axes")
    reading.add_argument("--bands", metavar="B02,B03", help="these alone, by name or by number from 0")
    reading.add_argument("--wavelengths", metavar="FILE", help="text file of the bands' centres")
    reading.add_argument(
        "--no-data",
        type=_numbers,
        metavar="X",
        help="values that mean nothing here, as -9999 or 0,255 or --no-data=-9999,0",
    )
    reading.add_argument("--gsd", type=float, metavar="M", help="metres from pixel to pixel")
    how = parser.add_argument_group("how it is computed")
    how.add_argument("--resume", action="store_true", help="go on with an answer that was stopped")
    how.add_argument(
        "--overwrite", action="store_true", help="replace what is there already, once the new one is whole"
    )
    how.add_argument("--memory", type=float, metavar="GB", help="of the whole program (default: what is free)")
    how.add_argument("--tile", type=int, metavar="PX", help="side of a tile, coarse pixels (default: by the memory)")
    how.add_argument("--dask", metavar="ADDRESS", help="compute on a Dask cluster, as tcp://host:8786, or 'local'")
    how.add_argument("--seed", type=int, default=0, metavar="N", help="of what is random (default: 0)")
    how.add_argument("--quiet", action="store_true", help="no progress bar")
    how.add_argument("--debug", action="store_true", help="with an error, its traceback")
    return parser


def _numbers(text: str) -> tuple[float, ...]:
    """Numbers with commas between them."""
    try:
        return tuple(float(part) for part in text.split(",") if part.strip())
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be numbers with commas between them, got {text!r}") from None


def arguments_of(options: argparse.Namespace) -> dict[str, Any]:
    """The command line as arguments of `super_resolve_file`, but for `out` and what only that has."""
    reading = {"axes": options.axes, "no_data": options.no_data, "gsd_m": options.gsd}
    reading["bands"] = None if options.bands is None else [part for part in options.bands.split(",") if part]
    reading["wavelengths_nm"] = options.wavelengths
    camera = {name: getattr(options, name) for name in ("scale", "method", "psf", "noise", "sensor")}
    how = {"tile": options.tile, "memory_gb": options.memory}
    return {name: value for name, value in (reading | camera | how).items() if value is not None}


def work(options: argparse.Namespace) -> None:
    """Inspects or sharpens; what is wrong with the options is said before anything is computed or written."""
    from ctmem.own_scene.files import inspect_file, super_resolve_file  # noqa: PLC0415  (seconds that --help need not wait for)

    if options.inspect:
        print(inspect_file(options.path, options.references, **arguments_of(options)))
        return
    if options.out is None:
        raise ValueError("`out` must be a file to write to, as --out sr.tif (or --inspect, to write nothing), got none")
    card = super_resolve_file(
        options.path, options.references, out=options.out, uncertainty=options.uncertainty, dtype=options.dtype,
        resume=options.resume, overwrite=options.overwrite, dask=options.dask, seed=options.seed,
        progress=not options.quiet, say=lambda line: print(line, flush=True), **arguments_of(options),
    )  # fmt: skip
    print(f"{options.out} and its card are written{_lost(card)}")


def _lost(card: Mapping[str, Any]) -> str:
    """What did not survive the way into the file's type of numbers."""
    count = card["output"].get("saturated", 0)
    return f"; {count} value(s) lay beyond the limits of its numbers" if count else ""


def main(arguments: list[str] | None = None) -> int:
    """Runs the command; returns the exit status, see `ctmem.command`."""
    options = new_parser().parse_args(arguments)
    kept = f"stopped; the same command with --resume goes on{f' with {Path(options.out).name}' if options.out else ''}"
    return run_command(lambda: work(options), kept, bad_input=2, debug=options.debug)


if __name__ == "__main__":
    sys.exit(main())
