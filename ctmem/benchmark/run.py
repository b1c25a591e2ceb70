"""The run: scenes × cameras × methods × references × seeds, a row at a time, and on from where it was stopped.

A row that nothing random enters is measured once: seeds are spent on noise, on drawn references, on draws of a method
and on weights of several trainings.

Source: this project.
"""

from __future__ import annotations

import datetime
import functools
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch

from ctmem.benchmark.cameras import Told
from ctmem.benchmark.machine import commit, forget_peak_memory, machine, peak_memory_mb
from ctmem.benchmark.references import GRADES
from ctmem.benchmark.scores import block_count, interval, resampled_psnr, scores, without_truth
from ctmem.benchmark.suites import Case
from ctmem.benchmark.table import GAIN, STAGES, Row, Table, key_of, written
from ctmem.benchmark.weights import Weights
from ctmem.data.samples import Degraded
from ctmem.holes import open_holes, split_holes
from ctmem.methods.registry import METHODS, Entry, Method, Setting, make_method


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
        return resampled_psnr(self.finished(self.told.told.upsample(split_holes(lr_hsi, "lr_hsi")[0])), gt)

    def finished(self, pred: torch.Tensor) -> torch.Tensor:
        """An answer after back-projection, NaN where the observation has holes."""
        lr_hsi, holes = split_holes(self.images[0], "lr_hsi")
        return open_holes(self.told.told.consistent(split_holes(pred, "pred")[0], lr_hsi, holes=holes), holes)

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
    if case.scene in entry.seen:
        _skip(base, f"the shipped weights of {name!r} have learned from this ground", table, say)
        return
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
        pred = method(lr_hsi, reference, camera) if stage == STAGES[0] else scene.finished(pred)
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
