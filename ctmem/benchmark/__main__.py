"""Measures methods with and without reference, against controls: scenes × cameras × methods × references × seeds.

What is written to the folder, `NAME` being suite and area:
  NAME.csv          a row per answer: before and after back-projection, all metrics, seconds, memory, commit, machine
  NAME.md           tables of it; the first figure is the gain over back-projection
  NAME-worth.csv    what each real reference is worth beyond the best control
Stop it at any moment and call it again with the same options: it goes on where it stopped.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from dataclasses import replace
from pathlib import Path

import ctmem.inference  # noqa: F401  (both enter what they bring)
from ctmem.benchmark.cameras import USUAL, parse_cameras
from ctmem.benchmark.references import GRADES
from ctmem.benchmark.report import write_report
from ctmem.benchmark.run import Plan, run
from ctmem.benchmark.suites import SCENES, SUITES, Case, missing
from ctmem.benchmark.table import Table, read_rows
from ctmem.benchmark.weights import find_weights
from ctmem.checks import check_choice, check_count, fail
from ctmem.command import Parser, folder, run_command
from ctmem.data.areas import Box
from ctmem.files import check_out
from ctmem.lock import locked
from ctmem.methods.registry import METHODS

QUICK_METHODS = ["bicubic", "cnn", "ctmem"]
QUICK_REFERENCES = ["none", "blobs", "own-sensor"]
QUICK_SIDE = 48  # of what is judged, fine pixels
EPILOG = """\
examples:
  python -m ctmem.benchmark --suite embedded                        the shipped scenes, all methods and references
  python -m ctmem.benchmark --suite embedded --quick                a minute
  python -m ctmem.benchmark --suite embedded --cameras grid --references none own-sensor
  python -m ctmem.benchmark --suite folder my_scenes                files of yours; bands' centres in nm in NAME.txt
  python -m ctmem.benchmark --suite embedded --import mine          and what mine.py, in this folder, registers
"""


def new_parser() -> argparse.ArgumentParser:
    """Returns the parser of the command line."""
    parser = Parser(
        prog="python -m ctmem.benchmark",
        description=__doc__,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--suite", choices=SUITES, metavar="NAME", help=f"{', '.join(SUITES)}; none: lists them")
    parser.add_argument(
        "path",
        nargs="?",
        type=Path,
        help="folder of scene files, for --suite folder; folder:NAME names an array in each",
    )
    parser.add_argument(
        "--import", dest="modules", nargs="+", default=[], metavar="MODULE",
        help="Python modules of yours that register methods or references; they are run",
    )  # fmt: skip
    parser.add_argument("--methods", nargs="+", metavar="NAME", help=f"out of {', '.join(METHODS)} (default: all)")
    parser.add_argument("--references", nargs="+", metavar="NAME", help=f"out of {', '.join(GRADES)} (default: all)")
    parser.add_argument(
        "--cameras", nargs="+", default=[USUAL], metavar="NAME",
        help="usual, grid, or such as x2, fwhm6, box-snr30, fwhm6-assumed (default: usual)",
    )  # fmt: skip
    parser.add_argument("--seeds", type=int, default=3, metavar="N", help="of all that is random (default: 3)")
    parser.add_argument("--quick", action="store_true", help="small crops, few methods, one seed: a minute")
    parser.add_argument("--out", type=folder, default=Path("results/benchmark"), metavar="FOLDER", help="for tables")
    parser.add_argument(
        "--areas", choices=("validation", "test"), default="validation",
        help="of the embedded scenes; test: once per release, and the tables say so (default: validation)",
    )  # fmt: skip
    parser.add_argument(
        "--weights", nargs="+", default=[], type=Path, metavar="FOLDER",
        help="of other trainings or wirings, as `python -m ctmem.train` leaves them; the shipped ones come first",
    )  # fmt: skip
    parser.add_argument(
        "--scenes", type=Path, default=SCENES, metavar="FOLDER",
        help="of the files for the suites la, pair, paper-pavia and paper-houston (default: shared/scenes beside the "
        "project's folder)",
    )  # fmt: skip
    return parser


def listing(scenes: Path) -> str:
    """The suites, a line each, and what is missing for them."""
    lines = ["suites:"]
    for suite in SUITES:
        absent = missing(suite, scenes)
        needs = "needs a folder of yours" if suite == "folder" else "ready"
        lines.append(
            f"  {suite}: " + (f"absent: {', '.join(absent)}; name their folder by --scenes" if absent else needs)
        )
    return "\n".join(lines)


def plan_of(options: argparse.Namespace) -> Plan:
    """What the command line asks for.

    Raises:
        FileNotFoundError: scenes or weights that are not there.
        ValueError: an unknown name, or areas of a suite that has none.
    """
    for name in options.modules:
        bring(name)
    methods = options.methods or (QUICK_METHODS if options.quick else list(METHODS))
    references = options.references or (QUICK_REFERENCES if options.quick else list(GRADES))
    for name in methods:
        check_choice(name, "methods", METHODS)
    for name in references:
        check_choice(name, "references", GRADES)
    check_count(options.seeds, "seeds", at_most=10_000)
    if options.areas == "test" and (options.suite != "embedded" or options.quick):
        fail("areas", "'validation' but for the whole suite 'embedded'", "'test'")
    if (options.suite == "folder") != (options.path is not None):
        fail("path", "a folder for the suite 'folder', and not given for another", options.path)
    folder = options.path if options.suite == "folder" else options.scenes
    cases = SUITES[options.suite](folder, options.areas)
    if options.quick:
        cases = [smaller(case, QUICK_SIDE) for case in cases]
    return Plan(
        options.suite, cases, parse_cameras(options.cameras), list(dict.fromkeys(methods)),
        list(dict.fromkeys(references)), 1 if options.quick else options.seeds, find_weights(options.weights),
        qnr=options.suite == "pair",
    )  # fmt: skip


def bring(name: str) -> None:
    """Imports a module of the reader's, from this folder or wherever Python finds it, for what it registers."""
    try:
        importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name:
            raise
        fail("import", "a module that Python finds (mine, for mine.py in this folder)", name)


def smaller(case: Case, side: int) -> Case:
    """The upper left corner of what is judged, and of the references."""
    box = case.place(4)
    own, other = (None if x is None else x[..., : 3 * side, : 3 * side] for x in (case.own, case.other))
    return replace(case, box=Box(box.top, box.left, min(side, box.height), min(side, box.width)), own=own, other=other)


def name_of(options: argparse.Namespace) -> str:
    """What the tables are called."""
    area = f"-{options.areas}" if options.suite == "embedded" else ""
    grid = "-cameras" if options.cameras != [USUAL] else ""
    return f"{options.suite}{area}{grid}{'-quick' if options.quick else ''}"


def work(options: argparse.Namespace) -> None:
    """Measures; what is wrong with the options is said before anything is measured or written."""
    if options.suite is None:
        print(listing(options.scenes))
        return
    check_out(options.out)
    path = options.out / f"{name_of(options)}.csv"
    if path.is_file():
        read_rows(path)
    plan = plan_of(options)
    with locked(options.out, f".{path.name}.lock", what="out"):
        table = Table(path)
        run(plan, table, lambda line: print(line, flush=True))
        print(f"tables: {write_report(table)}, {path.name}")


def main(arguments: list[str] | None = None) -> int:
    """Runs the command; returns the exit status, see `ctmem.command`."""
    options = new_parser().parse_args(arguments)
    return run_command(lambda: work(options), f"stopped; the same command goes on where it is: {name_of(options)}.csv")


if __name__ == "__main__":
    sys.exit(main())
