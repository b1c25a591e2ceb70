"""The run: scenes × cameras × methods × references × seeds, a row at a time, and on from where it was stopped.

A row that nothing random enters is measured once: seeds are spent on noise, on drawn references, on draws of a method
and on weights of several trainings.

Source: this project.
"""

from __future__ import annotations

import csv
import datetime
import functools
import io
import math
import os
import platform
import subprocess
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch

from ctmem.benchmark.cameras import Told
from ctmem.benchmark.references import GRADES
from ctmem.benchmark.scores import (
    WITH_TRUTH,
    WITHOUT_TRUTH,
    block_count,
    interval,
    resampled_psnr,
    scores,
    without_truth,
)
from ctmem.benchmark.suites import Case
from ctmem.benchmark.weights import Weights
from ctmem.checks import fail
from ctmem.data.samples import Degraded
from ctmem.methods.registry import METHODS, Entry, Method, Setting, consistent, make_method

BASELINE = "bicubic"  # after back-projection it is what all others are compared with
KEY = ("suite", "scene", "area", "camera", "method", "reference", "seed", "stage")
GAIN = ("gain_db", "gain_low_db", "gain_high_db")
NUMBERS = (*GAIN, *WITH_TRUTH, *WITHOUT_TRUTH, "seconds", "peak_memory_mb")
COLUMNS = (*KEY, "weights", *NUMBERS, "blocks", "reason", "commit", "machine", "date")
STAGES = ("before", "after")  # back-projection

Row = dict[str, str]


# --- the table --------------------------------------------------------------------------------------------------------


class Table:
    """A CSV file that grows by whole rows, and beside it the resampled PSNR of each row, for paired intervals.

    Args:
        path: the file; rows that it has already are kept, and not measured again.

    Raises:
        ValueError: a file with other columns.
    """

    def __init__(self, path: Path):
        self.path = path
        self.replicates = path.with_suffix(".replicates")
        path.parent.mkdir(parents=True, exist_ok=True)
        self.rows = read_rows(path) if path.is_file() else []
        if not self.rows:
            path.write_text(",".join(COLUMNS) + "\n", encoding="utf-8")
        else:
            _drop_broken_end(path)
        self.done = {key_of(row) for row in self.rows}

    def add(self, rows: Sequence[Row], resampled: Sequence[torch.Tensor | None]) -> None:
        """Appends rows, in one write."""
        for row, values in zip(rows, resampled):
            if values is not None:
                self.replicates.mkdir(exist_ok=True)
                np.save(self.replicates / f"{_file_name(row)}.npy", values.numpy().astype(np.float32))
        rows = [{name: row.get(name, "") for name in COLUMNS} for row in rows]
        text = io.StringIO()
        csv.DictWriter(text, COLUMNS, lineterminator="\n").writerows(rows)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(text.getvalue())
            file.flush()
            os.fsync(file.fileno())
        self.rows += rows
        self.done |= {key_of(row) for row in rows}

    def resampled(self, row: Row) -> torch.Tensor | None:
        """The resampled PSNR of a row, where this machine has it."""
        path = self.replicates / f"{_file_name(row)}.npy"
        return torch.from_numpy(np.load(path, allow_pickle=False)).double() if path.is_file() else None


def read_rows(path: Path) -> list[Row]:
    """Returns the whole rows of a table; a last one that was cut off is left out.

    Raises:
        ValueError: other columns.
    """
    text = path.read_text(encoding="utf-8")
    reader = csv.DictReader(io.StringIO(text[: text.rfind("\n") + 1]))
    rows = [{name: value or "" for name, value in row.items()} for row in reader]
    if tuple(reader.fieldnames or COLUMNS) != COLUMNS:
        fail("out", "a folder whose table has the columns of this version", f"other columns in {path.name}")
    return rows


def key_of(row: Row) -> tuple[str, ...]:
    """What a row is of."""
    return tuple(row[name] for name in KEY)


def _drop_broken_end(path: Path) -> None:
    """Cuts off what stands after the last line break."""
    data = path.read_bytes()
    if not data.endswith(b"\n"):
        path.write_bytes(data[: data.rfind(b"\n") + 1])


def _file_name(row: Row) -> str:
    """A row's key as the name of a file."""
    return "~".join("".join(c if c.isalnum() or c in ".-" else "_" for c in part) for part in key_of(row))


# --- the run ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Plan:
    """What is to be measured."""

    suite: str
    cases: Sequence[Case]
    cameras: Sequence[Told]
    methods: Sequence[str]
    references: Sequence[str]
    seeds: int
    weights: dict[str, list[Weights]]
    qnr: bool = False  # also the QNR family, which takes its time


@dataclass(frozen=True, eq=False)
class Scene:
    """A case under one camera: what several rows have in common is worked out once, when first asked for."""

    case: Case
    told: Told
    seed: int  # of the noise

    @functools.cached_property
    def images(self) -> tuple[torch.Tensor, torch.Tensor | None]:
        """The observation and its truth."""
        return self.case.observed(self.told.true, torch.Generator().manual_seed(self.seed))

    @functools.cached_property
    def baseline(self) -> torch.Tensor | None:
        """The resampled PSNR of the back-projected bicubic image."""
        lr_hsi, gt = self.images
        if gt is None:
            return None
        camera = self.told.told
        return resampled_psnr(consistent(camera.upsample(lr_hsi), lr_hsi, camera), gt)

    @functools.cached_property
    def examples(self) -> list[Degraded]:
        """Other ground, for what is fitted, degraded by the camera that is told."""
        return self.case.examples(self.told.told)


def run(plan: Plan, table: Table, say: Callable[[str], None] = print) -> None:
    """Measures what the table lacks, row after row."""
    about = {"suite": plan.suite, "commit": commit(), "machine": machine(), "date": str(datetime.date.today())}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # that weights are for another camera is the point here
        warnings.simplefilter("ignore", UserWarning)  # zero spectra: the tables give means
        for case in plan.cases:
            for camera in plan.cameras:
                told = camera.of(case.srf, case.sensor)
                noisy = told.true.snr_db is not None
                scenes = [Scene(case, told, seed) for seed in range(plan.seeds if noisy else 1)]
                for name in plan.methods:
                    _run_method(plan, scenes, name, table, about, say)


def _run_method(
    plan: Plan, scenes: Sequence[Scene], name: str, table: Table, about: Row, say: Callable[[str], None]
) -> None:
    """One method on one scene under one camera: all references and seeds."""
    case, told = scenes[0].case, scenes[0].told
    entry = METHODS[name]
    trained = [None] if entry.variant is None else plan.weights.get(entry.variant, [])
    base = about | {"scene": case.scene, "area": case.area, "camera": told.name, "method": name}
    if not trained:
        _skip(base, f"no weights of the wiring {entry.variant!r}; name their folder by --weights", table, say)
        return
    for grade, seed in _settings(plan, entry, told, len(trained)):
        row = base | {"reference": grade, "seed": str(seed)}
        if any(key_of(row | {"stage": stage}) in table.done for stage in (*STAGES, "")):
            continue
        scene = scenes[seed % len(scenes)]
        weights = trained[seed % len(trained)]
        try:
            reference = GRADES[grade].make(case, told.true, torch.Generator().manual_seed(1000 + seed))
            if reference is None and grade != "none":
                continue
            model = None if weights is None else weights.model
            setting = Setting(model, scene.examples, torch.Generator().manual_seed(seed))
            label = {} if weights is None else {"weights": weights.label}
            rows, resampled = _measure(make_method(name, setting), scene, reference, row | label, plan.qnr)
        except ValueError as error:
            _skip(row, str(error), table, say)
            continue
        table.add(rows, resampled)
        found = rows[1].get("gain_db") or f"consistency {rows[1]['consistency']}"
        say(f"{case.scene}, {told.name}, {name}, {grade}, seed {seed}: {found} ({rows[1]['seconds']} s)")


def _settings(plan: Plan, entry: Entry, told: Told, trainings: int) -> Iterator[tuple[str, int]]:
    """References and seeds of a method: several seeds only where something is random."""
    for grade in plan.references if entry.uses_reference else ("none",):
        drawn = entry.random or (entry.uses_reference and GRADES[grade].random)
        varies = drawn or told.true.snr_db is not None or trainings > 1
        for seed in range(plan.seeds if varies else 1):
            yield grade, seed


def _measure(
    method: Method, scene: Scene, reference: torch.Tensor | None, row: Row, qnr: bool
) -> tuple[list[Row], list[torch.Tensor | None]]:
    """The two rows of one answer, before and after back-projection, and their resampled PSNR."""
    lr_hsi, gt = scene.images
    camera = scene.told.told
    hr_msi = None if scene.case.partner is None else scene.case.same_ground(scene.told.true)
    rows, resampled, seconds = [], [], 0.0
    pred = lr_hsi
    for stage in STAGES:
        forget_peak_memory()
        start = time.perf_counter()
        pred = method(lr_hsi, reference, camera) if stage == STAGES[0] else consistent(pred, lr_hsi, camera)
        seconds += time.perf_counter() - start
        numbers = {"seconds": seconds, "peak_memory_mb": peak_memory_mb()}
        numbers |= without_truth(pred, lr_hsi, scene.told.true, hr_msi, qnr=qnr)
        values = None
        if gt is not None and scene.baseline is not None:
            values = resampled_psnr(pred, gt)
            numbers |= scores(pred, gt, scene.told.true.scale)
            numbers |= dict(zip(GAIN, interval(values - scene.baseline)))
        rows.append(row | {"stage": stage} | {name: written(value) for name, value in numbers.items()})
        rows[-1]["blocks"] = "" if gt is None else str(block_count(gt))
        resampled.append(values)
    return rows, resampled


def _skip(row: Row, reason: str, table: Table, say: Callable[[str], None]) -> None:
    """A row without numbers, which says why."""
    row = {"reference": "none", "seed": "0"} | row | {"stage": "", "reason": reason}
    if key_of(row) not in table.done:
        table.add([row], [None])
        say(f"skipped: {row['scene']}, {row['camera']}, {row['method']}, {row['reference']}: {reason}")


def written(value: float) -> str:
    """A number with six significant digits; nothing for NaN.

    Example:
        >>> written(0.123456789), written(float("nan"))
        ('0.123457', '')
    """
    return "" if math.isnan(value) else f"{value:.6g}"


# --- the machine ------------------------------------------------------------------------------------------------------


@functools.cache
def commit() -> str:
    """The commit of a source tree, or else the version that is installed."""
    command = ["git", "describe", "--always", "--dirty"]
    try:
        found = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parent, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return version("ctmem")
    return found.strip()


@functools.cache
def machine() -> str:
    """Processor, cores and threads in use, in words."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.is_file() else []
    names = sorted({line.split(":")[1].strip() for line in lines if line.startswith("model name")})
    name = "; ".join(names) or platform.processor() or platform.machine()
    return f"{name}; {os.cpu_count()} cores; {torch.get_num_threads()} thread(s); torch {torch.__version__}"


def forget_peak_memory() -> None:
    """Lets the peak of this process begin again at what it uses now, where the system can (Linux)."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return


def peak_memory_mb() -> float:
    """The most memory that this process has used since `forget_peak_memory`, MB; NaN where the system does not say."""
    path = Path("/proc/self/status")
    lines = path.read_text().splitlines() if path.is_file() else []
    found = [int(line.split()[1]) for line in lines if line.startswith("VmHWM:")]
    return found[0] / 1024 if found else math.nan
