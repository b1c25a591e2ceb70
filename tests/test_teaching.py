"""Claims, progress, the folder of results."""

from __future__ import annotations

import math
import os
from pathlib import Path

import pytest
import torch

from ctmem import teaching
from ctmem.teaching import claim, progress, results_folder


def test_a_claim_prints_one_fixed_line(capsys):
    claim("gain of the CNN", 0.6431, at_least=0.5)
    claim("angle", torch.tensor(45.0), equals=45)
    claim("share", 0.25, at_least=0, at_most=0.5)
    expected = ["ok: gain of the CNN (≥ 0.5)", "ok: angle (= 45)", "ok: share (≥ 0 and ≤ 0.5)"]
    assert capsys.readouterr().out.splitlines() == expected


@pytest.mark.parametrize(
    ("value", "bounds"),
    [
        (0.49, {"at_least": 0.5}),
        (0.51, {"at_most": 0.5}),
        (1.00001, {"equals": 1}),
        (1e-6, {"equals": 0}),
        (math.nan, {"at_least": 0}),
        (math.nan, {"equals": math.nan}),
        (-1, {"at_least": 0, "at_most": 2}),
        (3, {"at_least": 0, "at_most": 2}),
    ],
)
def test_a_claim_raises_when_the_claim_is_false(value, bounds, capsys):
    with pytest.raises(AssertionError, match="gain: expected .*, got"):
        claim("gain", value, **bounds)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(("value", "bounds"), [(0.5, {"at_least": 0.5}), (0.5, {"at_most": 0.5}), (1, {"equals": 1})])
def test_a_claim_includes_its_bounds(value, bounds):
    claim("bound", value, **bounds)


def test_a_claim_names_bound_and_value():
    with pytest.raises(AssertionError, match="^gain: expected ≥ 1, got 0.25$"):
        claim("gain", 0.25, at_least=1)


def test_a_bound_is_needed():
    with pytest.raises(ValueError, match="`at_least` must be given, or `at_most` or `equals`, got none"):
        claim("x", 3)


def test_progress_shows_a_bar_and_can_be_silenced(monkeypatch, capfd):
    monkeypatch.delenv("CTMEM_QUIET")
    assert list(progress(iter([1, 2]), "training", total=5, initial=3)) == [1, 2]
    shown = capfd.readouterr().err
    assert "training" in shown
    assert "5/5" in shown
    monkeypatch.setenv("CTMEM_QUIET", "1")
    assert list(progress([1, 2, 3], "training")) == [1, 2, 3]
    assert capfd.readouterr().err == ""


def test_results_go_where_the_environment_says(monkeypatch, tmp_path):
    monkeypatch.setenv("CTMEM_RESULTS", str(tmp_path / "a" / "b"))
    assert results_folder() == tmp_path / "a" / "b"
    assert results_folder().is_dir()
    monkeypatch.delenv("CTMEM_RESULTS")
    (tmp_path / "notebooks").mkdir()
    monkeypatch.chdir(tmp_path / "notebooks")
    assert results_folder().resolve() == (tmp_path / "results").resolve()
    assert Path(tmp_path / "results").is_dir()


def test_tests_run_in_the_stable_environment():
    assert teaching.STABLE_ENVIRONMENT.items() <= os.environ.items()
