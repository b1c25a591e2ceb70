"""benchmarks/robustness.py in short: damaged and hostile files of every kind load or give a clear error, nothing else."""

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "benchmarks"))
try:
    robustness = pytest.importorskip("robustness", reason="needs a system with limits on resources")
finally:
    sys.path.pop(0)

SLOW_TO_START = {"MATLAB 7.3", "HDF5"}  # each file takes a process


@pytest.mark.parametrize("name", robustness.KINDS)
def test_nothing_but_loads_and_clear_errors(name, tmp_path, monkeypatch):
    count = 5 if name in SLOW_TO_START else 50
    kind = robustness.KINDS[name]
    monkeypatch.setitem(
        robustness.KINDS, name, robustness.Kind(kind.make, kind.read)
    )  # the hostile ones: test_reading.py

    def ask(name, path):
        return (*robustness.attempt(robustness.KINDS[name], path), 0.0, 0.0)

    tally = robustness.try_kind(name, count, 0, ask, tmp_path)
    assert tally.odd == []
    assert sum(tally.outcomes.values()) == count and tally.outcomes["clear errors"] > 0


def test_the_faults_change_a_file_and_are_the_same_every_time():
    whole = bytes(range(256)) * 4
    first, again = ([robustness.damaged(whole, np.random.default_rng(n)) for n in range(40)] for _ in range(2))
    assert first == again and sum(content != whole for content in first) > 35


def test_another_error_a_slow_file_and_a_large_one_are_counted():
    def fail(path):
        raise KeyError("raw")

    assert robustness.attempt(robustness.Kind(None, fail), Path("a")) == ("anything else", "KeyError: 'raw'")
    tally = robustness.Tally()
    for answer in (("loads", "", 6.0, 10.0), ("clear errors", "", 1.0, 2000.0), ("loads", "", 1.0, 10.0)):
        tally.add(answer, "a file")
    assert tally.outcomes == {"anything else": 2, "loads": 1} and len(tally.odd) == 2
    assert "| x | 3 | 0 | 1 | 0 | 2 | 6.00 | 2000 |" in robustness.report({"x": tally})
