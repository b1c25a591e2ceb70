"""Evaluation: rows, text and CSV of a comparison."""

import errno
import math

import pytest
import torch

from ctmem.evaluation.metrics import METRICS, evaluate
from ctmem.evaluation.tables import compare, format_table, read_table, write_table


@pytest.fixture
def gt():
    return torch.rand(2, 7, 12, 20, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def predictions(gt):
    generator = torch.Generator().manual_seed(1)
    return {name: gt + error * torch.randn(gt.shape, generator=generator) for name, error in (("b", 0.1), ("a", 0.02))}


@pytest.fixture
def rows(predictions, gt):
    return compare(predictions, gt, scale=4)


def test_rows_are_in_the_order_given_with_the_metrics_values(rows, predictions, gt):
    assert [row["method"] for row in rows] == ["b", "a"]
    for row in rows:
        expected = evaluate(predictions[row["method"]], gt, scale=4)
        assert list(row) == ["method", "psnr_db", "sam_deg", "ergas", "ssim", "cc", "rmse"]
        assert all(row[name] == expected[name] for name in list(row)[1:])
    assert rows[0]["psnr_db"] == pytest.approx(20, abs=0.3)
    assert rows[1]["psnr_db"] == pytest.approx(34, abs=0.3)


def test_pred_and_gt_are_not_swapped(gt):
    """ERGAS divides by the mean of the ground truth: RMSE 0.3 over mean 0.2, times 25."""
    (row,) = compare(
        {"x": torch.full((1, 2, 12, 12), 0.5)}, torch.full((1, 2, 12, 12), 0.2), scale=4, metrics=["ergas"]
    )
    assert row["ergas"] == pytest.approx(37.5, rel=1e-5)
    (row,) = compare(
        {"x": torch.full((1, 2, 12, 12), 0.5)}, torch.full((1, 2, 12, 12), 0.2), scale=5, metrics=["ergas"]
    )
    assert row["ergas"] == pytest.approx(30.0, rel=1e-5)


def test_metrics_may_be_chosen(predictions, gt):
    assert list(compare(predictions, gt, scale=4, metrics=["uiqi", "rmse"])[0]) == ["method", "uiqi", "rmse"]
    assert list(compare(predictions, gt, scale=4, metrics=METRICS)[0]) == ["method", *METRICS]


def test_compare_errors(predictions, gt):
    with pytest.raises(ValueError, match="`predictions` must be a mapping with at least one method, got an empty one"):
        compare({}, gt, scale=4)
    with pytest.raises(ValueError, match="`metrics` must be one of 'psnr_db'.*, got 'lpips'"):
        compare(predictions, gt, scale=4, metrics=["lpips"])
    with pytest.raises(ValueError, match=r"`predictions\['cnn'\]` must be of the shape of `gt` \(2, 7, 12, 20\)"):
        compare(predictions | {"cnn": gt[:, :6]}, gt, scale=4)
    with pytest.raises(ValueError, match=r"`predictions\['cnn'\]` must be finite everywhere, got 3360"):
        compare(predictions | {"cnn": gt * torch.nan}, gt, scale=4)
    with pytest.raises(TypeError, match=r"`predictions\['cnn'\]` must be a floating-point tensor"):
        compare(predictions | {"cnn": (255 * gt).int()}, gt, scale=4)
    with pytest.raises(ValueError, match="`scale` must be a whole number"):
        compare(predictions, gt, scale=0)


def test_predictions_may_be_arrays(predictions, gt, rows):
    assert compare({name: pred.numpy() for name, pred in predictions.items()}, gt.numpy(), scale=4) == rows


def test_text_is_aligned():
    text = format_table(
        [
            {"method": "bicubic", "psnr_db": 9.876, "cc": -0.5, "rmse": 0.12345},
            {"method": "a longer name", "psnr_db": 23.4, "cc": math.nan, "rmse": 0.1},
        ]
    )
    assert text.splitlines() == [
        "method         PSNR/dB ↑    CC ↑  RMSE ↓",
        "bicubic             9.88  -0.500  0.1235",
        "a longer name      23.40     nan  0.1000",
    ]


def test_text_has_the_direction_of_every_metric(predictions, gt):
    heading = format_table(compare(predictions, gt, scale=4, metrics=METRICS)).splitlines()[0]
    assert heading.count("↑") == 4
    assert heading.count("↓") == 3


def test_csv_round_trip(tmp_path, rows):
    write_table(rows, tmp_path / "comparison.csv")
    read = read_table(tmp_path / "comparison.csv")
    assert [row["method"] for row in read] == ["b", "a"]
    for row, expected in zip(read, rows, strict=True):
        assert list(row) == list(expected)
        assert [row[name] for name in list(row)[1:]] == pytest.approx([expected[n] for n in list(row)[1:]], rel=1e-5)
    assert [path.name for path in tmp_path.iterdir()] == ["comparison.csv"]


def test_csv_keeps_commas_and_nan(tmp_path):
    write_table([{"method": "cnn, then back-projection", "cc": math.nan}], tmp_path / "t.csv")
    assert (tmp_path / "t.csv").read_text(encoding="utf-8") == 'method,cc\n"cnn, then back-projection",nan\n'
    (row,) = read_table(tmp_path / "t.csv")
    assert row["method"] == "cnn, then back-projection"
    assert math.isnan(row["cc"])


def test_csv_is_written_whole_or_not_at_all(tmp_path, rows, monkeypatch):
    write_table(rows[:1], tmp_path / "t.csv")
    before = (tmp_path / "t.csv").read_text(encoding="utf-8")

    def full_disk(*_arguments):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("ctmem.files.os.replace", full_disk)
    with pytest.raises(OSError, match="`path` must be a file that can be written, got t.csv: No space left"):
        write_table(rows, tmp_path / "t.csv")
    assert (tmp_path / "t.csv").read_text(encoding="utf-8") == before
    assert [path.name for path in tmp_path.iterdir()] == ["t.csv"]


def test_table_errors(tmp_path, rows):
    for function in (format_table, lambda rows: write_table(rows, tmp_path / "t.csv")):
        with pytest.raises(ValueError, match="`rows` must be a list of at least one row, got an empty one"):
            function([])
        with pytest.raises(ValueError, match="`rows` must be dicts of method and some of psnr_db.*, got name, psnr_db"):
            function([{"name": "a", "psnr_db": 1.0}])
        with pytest.raises(ValueError, match="`rows` must be dicts with the columns method, psnr_db, .*, got method"):
            function([*rows, {"method": "c"}])
    assert not list(tmp_path.iterdir())
    with pytest.raises(FileNotFoundError, match="`path` must be a file in an existing folder, got .*nowhere"):
        write_table(rows, tmp_path / "nowhere/t.csv")
    with pytest.raises(FileNotFoundError):
        read_table(tmp_path / "t.csv")
    (tmp_path / "other.csv").write_text("a,b\n1,2\n", encoding="utf-8")
    with pytest.raises(ValueError, match="`rows` must be dicts of method and some of psnr_db.*, got a, b"):
        read_table(tmp_path / "other.csv")
