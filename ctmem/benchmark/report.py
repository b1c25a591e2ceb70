"""Tables in Markdown of what the CSV of a run holds, and what the references are worth.

Source: this project.
"""

from __future__ import annotations

import csv
import io
import math
import statistics
from collections.abc import Iterable, Sequence
from importlib.metadata import version
from typing import Any

import torch

import ctmem.methods.components  # noqa: F401  (says which controls are none for its methods)
from ctmem.benchmark.references import GRADES
from ctmem.benchmark.scores import beyond_chance, interval
from ctmem.benchmark.table import STAGES, Row, Table
from ctmem.files import write_text
from ctmem.methods.registry import METHODS

BASELINE = "bicubic"  # after back-projection it is what all others are compared with
AFTER = STAGES[1]
SHOWN = {  # heading and decimals of the columns beside the gain
    "psnr_db": ("PSNR/dB ↑", 2),
    "psnr_band_max_db": ("PSNR/dB, peak: band maximum ↑", 2),
    "sam_deg": ("SAM/° ↓", 3),
    "ergas": ("ERGAS ↓", 3),
    "ssim": ("SSIM ↑", 4),
    "cc": ("CC ↑", 4),
    "rmse": ("RMSE ↓", 5),
    "uiqi": ("UIQI ↑", 4),
    "consistency": ("mismatch ↓", 4),
    "d_lambda": ("D_λ ↓", 4),
    "d_s": ("D_s ↓", 4),
    "qnr": ("QNR ↑", 4),
    "seconds": ("s", 2),
    "peak_memory_mb": ("MB", 0),
}
WORTH = ("scene", "area", "camera", "method", "reference", "best_control", "worth_db", "low_db", "high_db",
         "scatter_db", "seeds", "helps")  # fmt: skip
READING = """\
**Gain** is PSNR minus that of bicubic upsampling with back-projection, on the same pixels, after back-projection of
both; `before` is the method's gain without it. ± is the standard deviation over seeds (of noise, drawn references,
draws and trainings; — where nothing is random, or one seed was measured). [ , ] is the 95 % interval of a bootstrap
over blocks of 16×16 px, paired: the scatter within this scene, which says nothing of other scenes. All other columns
are after back-projection. PSNR is the mean over bands. `mismatch` is |lr_hsi − down(pred)| / |lr_hsi|. Seconds and
memory are of a method and its back-projection on the machine named below; of memory, all of the process is counted."""
WITHOUT = """\
Without truth there is no gain: `mismatch` and D_λ say whether an answer agrees with the observation and keeps the
likeness between bands, D_s whether its likeness to the fine multispectral image is that of the coarse images. They
cannot see whether fine detail is right: any detail that the blur takes away, invented or true, leaves `mismatch` and
D_λ about the same, and bicubic upsampling without any detail scores well. Where both are known, compare QNR with the
gain."""
HOW_WORTH = """\
The gain with a real reference minus the gain with the *best* of the controls above: nothing, noise, blobs, or the same
reference with scrambled phases, as a negative, with permuted bands, cut into random windows, or blurred. `helps` where
the interval excludes 0 and the worth is more than twice the scatter over seeds; otherwise the difference is within what
chance makes. Controls that are to a method the real reference itself do not count: the negative and
permuted bands for `knn-reference`, which looks at single bands and at either sign."""

VERDICTS = {"yes": "helps", "no": "not beyond the control", "one seed": "not judged: one seed of what is random"}


def write_report(table: Table) -> str:
    """Writes NAME.md and NAME-worth.csv beside the table; returns the name of the former."""
    worths = list(worth(table))
    text = io.StringIO()
    writer = csv.DictWriter(text, WORTH, lineterminator="\n")
    writer.writeheader()
    writer.writerows(worths)
    path = table.path.with_suffix(".md")
    if worths:
        write_text(text.getvalue(), table.path.with_name(f"{table.path.stem}-worth.csv"))
    write_text(report(table.rows, worths, table.path.stem), path)
    return path.name


def report(rows: Sequence[Row], worths: Sequence[Row], name: str) -> str:
    """The whole text."""
    measured = [row for row in rows if not row["reason"]]
    without = [WITHOUT] if any(row["d_lambda"] for row in rows) else []
    parts = [f"# Benchmark: {name}", READING, *without, _about(rows)]
    dates = sorted({row["date"] for row in rows if row["area"] == "test"})
    if dates:
        parts.insert(0, f"Test areas read: {', '.join(dates)}, version {version('ctmem')}.")
    cameras = _unique(row["camera"] for row in measured)
    # the first camera in full; of several, a table of gains
    usual = [row for row in measured if row["camera"] in cameras[:1]]
    groups = _unique((row["scene"], row["area"]) for row in usual)
    parts += [
        _scene(scene, area, [r for r in usual if (r["scene"], r["area"]) == (scene, area)]) for scene, area in groups
    ]
    judged = _unique((row["scene"], row["area"]) for row in usual if row["gain_db"])
    if len(judged) > 1:
        parts.append(_means(usual, judged))
    parts += [_grades(group, usual) for group in judged]
    if worths:
        parts.append(_worths(worths))
    if len(cameras) > 1:
        parts += [_cameras(group, measured, cameras) for group in judged]
    skipped = _unique((row["method"], row["camera"], row["reason"]) for row in rows if row["reason"])
    if skipped:
        parts.append("## Skipped\n\n" + "\n".join(f"- {method}, {camera}: {why}" for method, camera, why in skipped))
    return "\n\n".join(parts) + "\n"


# --- parts ------------------------------------------------------------------------------------------------------------


def _about(rows: Sequence[Row]) -> str:
    """Where and when."""
    lines = _unique((row["date"], row["commit"], row["machine"]) for row in rows)
    said = [f"- {date}, commit {commit}, {machine}" for date, commit, machine in lines]
    labels = _unique(row["weights"] for row in rows if row["weights"])
    if labels:
        said.append(f"- weights: {', '.join(labels)}; ± holds the scatter over trainings only where there are several")
    return "\n".join(said)


def _scene(scene: str, area: str, rows: Sequence[Row]) -> str:
    """All metrics of one scene: methods without and with real references."""
    shown = ["none", *(name for name, grade in GRADES.items() if grade.kind == "real"), "same"]
    columns = [name for name in SHOWN if any(row[name] for row in rows)]
    judged = any(row["gain_db"] for row in rows)
    head = ["method", "reference", *(["gain/dB ↑", "before"] if judged else []), *(SHOWN[name][0] for name in columns)]
    lines = []
    for method, grade in _unique((row["method"], row["reference"]) for row in rows if row["reference"] in shown):
        group = [row for row in rows if (row["method"], row["reference"]) == (method, grade)]
        after = [row for row in group if row["stage"] == AFTER]
        gains = (
            [gain_cell(after), f"{mean([r for r in group if r['stage'] != AFTER], 'gain_db'):+.3f}"] if judged else []
        )
        cells = [f"{mean(after, name):.{SHOWN[name][1]}f}".replace("nan", "—") for name in columns]
        lines.append([title_of(method), grade, *gains, *cells])
    blocks = next((row["blocks"] for row in rows if row["blocks"]), "")
    title = f"## {scene}, {area}" + (f" ({blocks} blocks)" if blocks else "")
    return f"{title}\n\n{markdown(head, lines)}"


def _means(rows: Sequence[Row], groups: Sequence[tuple[str, str]]) -> str:
    """Gain of each method on every scene, and the mean over the scenes that have it all."""
    head = ["method", "reference", *(scene for scene, _ in groups), "mean gain/dB ↑"]
    lines = []
    for method, grade in _unique((row["method"], row["reference"]) for row in rows):
        found = [mean(after_of(rows, group, method, grade), "gain_db") for group in groups]
        if not any(map(math.isnan, found)):
            lines.append([title_of(method), grade, *(f"{x:+.3f}" for x in found), f"{statistics.mean(found):+.3f}"])
    return "## Gain over back-projection, all scenes\n\n" + markdown(head, lines)


def _grades(group: tuple[str, str], rows: Sequence[Row]) -> str:
    """Gain of every method that uses a reference, grade by grade."""
    here = [row for row in rows if (row["scene"], row["area"]) == group]
    methods = _unique(row["method"] for row in here if row["reference"] != "none")
    if not methods:
        return ""
    lines = []
    for name in [name for name in GRADES if any(row["reference"] == name for row in here)]:
        cells = [gain_cell(after_of(here, group, method, name)) for method in methods]
        lines.append([name, GRADES[name].kind, *cells])
    return f"## References: {group[0]}, {group[1]}\n\n" + markdown(
        ["reference", "kind", *map(title_of, methods)], lines
    )


def _worths(worths: Sequence[Row]) -> str:
    """What real references are worth."""
    head = ["scene", "camera", "method", "reference", "best control", "worth/dB", "scatter of seeds", ""]
    lines = []
    for one in worths:
        value = f"{float(one['worth_db']):+.3f} [{float(one['low_db']):+.3f}, {float(one['high_db']):+.3f}]"
        scatter = f"{float(one['scatter_db']):.3f}" if one["scatter_db"] else "—"
        verdict = VERDICTS[one["helps"]]
        cells = [one["scene"], one["camera"], title_of(one["method"]), one["reference"], one["best_control"]]
        lines.append([*cells, value, scatter, verdict])
    return f"## What the reference is worth\n\n{HOW_WORTH}\n\n{markdown(head, lines)}"


def _cameras(group: tuple[str, str], rows: Sequence[Row], cameras: Sequence[str]) -> str:
    """Gain of every method under every camera; a dash where it does not do it."""
    here = [row for row in rows if (row["scene"], row["area"]) == group]
    columns = _unique((row["method"], row["reference"]) for row in here if row["method"] != BASELINE)
    lines = []
    for camera in cameras:
        seen = [row for row in here if row["camera"] == camera]
        base = mean(after_of(seen, group, BASELINE, "none"), "psnr_db")
        before = [row for row in seen if row["method"] == BASELINE and row["stage"] != AFTER]
        lines.append(
            [camera, f"{mean(before, 'gain_db'):+.2f}".replace("+nan", "—"), f"{base:.2f}".replace("nan", "—")]
        )
        for column in columns:
            finished = after_of(seen, group, *column)
            plain = [r for r in seen if (r["method"], r["reference"]) == column and r["stage"] != AFTER]
            both = f"{gain_cell(finished, brief=True)} ({mean(plain, 'gain_db'):+.2f})"
            lines[-1].append(both if finished else "—")
    head = ["camera", "bicubic", "bicubic + back-projection, PSNR/dB"]
    head += [f"{title_of(method)}, {grade}" for method, grade in columns]
    text = "Gain in dB over back-projection with the same camera told; in brackets before back-projection."
    return f"## Cameras: {group[0]}, {group[1]}\n\n{text}\n\n{markdown(head, lines)}"


# --- what the references are worth ------------------------------------------------------------------------------------


def worth(table: Table) -> Iterable[Row]:
    """Real references beside the best control of the same scene, camera and method, where all were measured."""
    rows = [row for row in table.rows if row["stage"] == AFTER and row["gain_db"]]
    for scene, area, camera, method in _unique((r["scene"], r["area"], r["camera"], r["method"]) for r in rows):
        group = [
            row
            for row in rows
            if (row["scene"], row["area"], row["camera"], row["method"]) == (scene, area, camera, method)
        ]
        by_grade = {name: [row for row in group if row["reference"] == name] for name in GRADES}
        blind = METHODS[method].blind_to if method in METHODS else ()
        controls = {
            n: found for n, found in by_grade.items() if found and GRADES[n].kind == "control" and n not in blind
        }
        real = {name: found for name, found in by_grade.items() if found and GRADES[name].kind != "control"}
        if len(controls) < 2 or not real:
            continue
        best = max(controls, key=lambda name: mean(controls[name], "gain_db"))
        for name, found in real.items():
            yield _one_worth(table, found, controls[best], best) | {
                "scene": scene, "area": area, "camera": camera, "method": method, "reference": name,
            }  # fmt: skip


def _one_worth(table: Table, found: Sequence[Row], control: Sequence[Row], best: str) -> Row:
    """The difference, its paired interval, and the scatter over seeds of both together."""
    value = mean(found, "gain_db") - mean(control, "gain_db")
    sides = [[table.resampled(row) for row in side] for side in (found, control)]
    low = high = math.nan
    if all(x is not None for side in sides for x in side):
        mine, theirs = (torch.stack([x for x in side if x is not None]).mean(0) for side in sides)
        _, low, high = interval(mine - theirs)
    spreads = [deviation(side, "gain_db") for side in (found, control)]
    scatter = math.hypot(*(0.0 if math.isnan(x) else x for x in spreads))
    judged = all(len(side) > 1 or not _is_random(side[0]) for side in (found, control))
    helps = beyond_chance(value, low, scatter)
    return {
        "best_control": best, "worth_db": f"{value:.6g}", "low_db": f"{low:.6g}", "high_db": f"{high:.6g}",
        "scatter_db": "" if all(map(math.isnan, spreads)) else f"{scatter:.6g}",
        "seeds": str(max(len(found), len(control))), "helps": ("yes" if judged else "one seed") if helps else "no",
    }  # fmt: skip


def _is_random(row: Row) -> bool:
    """Whether another seed would have given another answer."""
    method = METHODS.get(row["method"])
    return GRADES[row["reference"]].random or (method is not None and method.random)


# --- helpers ----------------------------------------------------------------------------------------------------------


def after_of(rows: Sequence[Row], group: tuple[str, str], method: str, grade: str) -> list[Row]:
    """The finished rows of a method with a reference on a scene; of one that uses none, those without."""
    wanted = (*group, method, grade, AFTER)
    return [r for r in rows if (r["scene"], r["area"], r["method"], r["reference"], r["stage"]) == wanted]


def mean(rows: Sequence[Row], column: str) -> float:
    """The mean over rows that have a number there; NaN without any."""
    values = [float(row[column]) for row in rows if row[column]]
    return statistics.mean(values) if values else math.nan


def deviation(rows: Sequence[Row], column: str) -> float:
    """The standard deviation over seeds; NaN of fewer than two."""
    values = [float(row[column]) for row in rows if row[column]]
    return statistics.stdev(values) if len(values) > 1 else math.nan


def gain_cell(rows: Sequence[Row], *, brief: bool = False) -> str:
    """Mean gain ± deviation over seeds and the interval; a dash without rows."""
    if not rows:
        return "—"
    spread = deviation(rows, "gain_db")
    text = f"{mean(rows, 'gain_db'):+.{2 if brief else 3}f}"
    if brief:
        return text
    text += " ± —" if math.isnan(spread) else f" ± {spread:.3f}"
    return text + f" [{mean(rows, 'gain_low_db'):+.3f}, {mean(rows, 'gain_high_db'):+.3f}]"


def title_of(method: str) -> str:
    """What a table calls a method, which stands there after back-projection."""
    return "back-projection" if method == BASELINE else method


def markdown(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """A table."""
    return "\n".join("| " + " | ".join(line) + " |" for line in [head, ["---"] * len(head), *lines])


def _unique(items: Iterable[Any]) -> list[Any]:
    """Each once, in order."""
    return list(dict.fromkeys(items))
