"""Tables: several predictions of one scene, measured alike, as text and as CSV.

    rows = compare({"bicubic": a, "ctmem": b}, gt, scale=4)
    print(format_table(rows))
    write_table(rows, "comparison.csv")

A row is a dict: `method`, then the metrics of `ctmem.evaluation.metrics`.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path

from torch import Tensor

from ctmem.checks import Count, Positive, as_image, check_choice, check_finite, check_same_shape, door, fail, typed
from ctmem.evaluation.metrics import METRICS, evaluate
from ctmem.files import write_text
from ctmem.holes import split_holes

COLUMNS = {  # heading with the direction that is better, and decimals that mean something
    "psnr_db": ("PSNR/dB ↑", 2),
    "sam_deg": ("SAM/° ↓", 2),
    "ergas": ("ERGAS ↓", 2),
    "ssim": ("SSIM ↑", 3),
    "cc": ("CC ↑", 3),
    "rmse": ("RMSE ↓", 4),
    "uiqi": ("UIQI ↑", 3),
}
TABLE_METRICS = METRICS[:6]  # the six of most papers

Row = dict[str, str | float]


@door
def compare(
    predictions: Mapping[str, Tensor],
    gt: Tensor,
    *,
    scale: Count,
    metrics: Sequence[str] = TABLE_METRICS,
    peak: Positive = 1.0,
) -> list[Row]:
    """Returns one row per prediction, in their order: `{"method": name, "psnr_db": …, …}`.

    Args:
        predictions: method → `pred` (B, C, H, W), [0, 1].
        gt: ground truth (B, C, H, W), [0, 1]; its holes, NaN, are left out.
        scale: fine pixels per low-resolution pixel, for ERGAS.
        metrics: which, and in which order; see `ctmem.evaluation.metrics.METRICS`.
        peak: largest value of the images' scale, for PSNR and SSIM.

    Raises:
        TypeError: an image is not a floating-point tensor.
        ValueError: no prediction, an unknown metric, or a prediction that does not have the shape of `gt` or
            finite values (names the method).
    """
    if not predictions:
        fail("predictions", "a mapping with at least one method", "an empty one")
    if len(metrics) == 0:
        fail("metrics", "at least one of " + ", ".join(METRICS), "none")
    for metric in metrics:
        check_choice(metric, "metrics", METRICS)
    gt = as_image(gt, "gt", finite=False, double=True)
    holes = split_holes(gt, "gt")[1]
    for name, pred in predictions.items():
        pred = as_image(pred, f"predictions[{name!r}]", finite=False, double=True)
        check_same_shape(pred, gt, (f"predictions[{name!r}]", "gt"))
        check_finite(pred if holes is None else pred.masked_fill(holes, 0), f"predictions[{name!r}]")
    return [
        {"method": name} | evaluate(pred, gt, scale=scale, metrics=metrics, peak=peak)
        for name, pred in predictions.items()
    ]


@typed
def format_table(rows: Sequence[Row]) -> str:
    """Returns the rows as aligned text: methods left, numbers right, ↑ more or ↓ less is better.

    Raises:
        ValueError: no rows, or rows with other columns than the first.

    Example:
        >>> print(format_table([{"method": "bicubic", "psnr_db": 23.456, "rmse": 0.06789}]))
        method   PSNR/dB ↑  RMSE ↓
        bicubic      23.46  0.0679
    """
    names = _columns(rows)
    lines = [["method", *(COLUMNS[name][0] for name in names[1:])]]
    lines += [[str(row["method"]), *(f"{row[name]:.{COLUMNS[name][1]}f}" for name in names[1:])] for row in rows]
    widths = [max(len(line[i]) for line in lines) for i in range(len(names))]
    return "\n".join(
        "  ".join([line[0].ljust(widths[0]), *(text.rjust(w) for text, w in zip(line[1:], widths[1:], strict=True))])
        for line in lines
    )


@typed
def write_table(rows: Sequence[Row], path: str | Path) -> None:
    """Writes the rows as CSV with six significant digits, whole or not at all.

    Raises:
        FileNotFoundError: the folder is not there.
        ValueError: no rows, or rows with other columns than the first.
    """
    names = _columns(rows)
    path = Path(path)
    if not path.parent.is_dir():
        fail("path", "a file in an existing folder", str(path), FileNotFoundError)
    lines = [[row["method"], *(f"{row[name]:.6g}" for name in names[1:])] for row in rows]
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([names, *lines])
    write_text(text.getvalue(), path)


@typed
def read_table(path: str | Path) -> list[Row]:
    """Returns the rows of a file that `write_table` wrote.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a file with other columns.
    """
    if not Path(path).is_file():
        fail("path", "an existing file", path, FileNotFoundError)
    try:
        with Path(path).open(newline="", encoding="utf-8") as file:
            rows = [
                {name: text if name == "method" else float(text) for name, text in row.items()}
                for row in csv.DictReader(file)
            ]
    except (TypeError, ValueError, csv.Error) as error:
        fail("path", "a table that `write_table` wrote", f"{Path(path).name}: {error}")
    _columns(rows)
    return rows


def _columns(rows: Sequence[Row]) -> list[str]:
    """The columns all rows have; raises if they differ or are not those of a table."""
    if not rows:
        fail("rows", "a list of at least one row", "an empty one")
    names = list(rows[0])
    if names[:1] != ["method"] or not set(names[1:]) <= set(COLUMNS):
        fail("rows", f"dicts of method and some of {', '.join(COLUMNS)}", ", ".join(names))
    for row in rows:
        if list(row) != names:
            fail("rows", f"dicts with the columns {', '.join(names)}", ", ".join(row))
    return names
