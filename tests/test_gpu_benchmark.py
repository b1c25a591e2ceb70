"""benchmarks/gpu.py: what times training and sampling works on a CPU, too; its figures need a GPU."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import pytest
import torch

from tests.small_training import SMALL

FOLDER = Path(__file__).resolve().parents[1] / "benchmarks"


@pytest.fixture
def gpu(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    yield importlib.import_module("gpu")
    for name in ("gpu", "scan", "machine"):
        sys.modules.pop(name, None)


def test_table_of_training_and_sampling(gpu):
    lines = gpu.model_table(SMALL, torch.device("cpu"), steps=2, rounds=1).splitlines()
    assert [line.split(" | ")[1] for line in lines[2:]] == list(gpu.PRECISIONS) * 2
    assert all(float(line.split(" | ")[2]) > 0 for line in lines[2:])


def test_precision_is_given_back(gpu):
    before = torch.get_float32_matmul_precision()
    inside = gpu.in_precision("tf32", torch.device("cpu"), torch.get_float32_matmul_precision)()
    assert (inside, torch.get_float32_matmul_precision()) == ("high", before)


def test_without_a_gpu_nothing_is_written(gpu, monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(gpu.machine, "write", lambda *_: pytest.fail("nothing was measured"))
    gpu.main([])
    assert "no CUDA device" in capsys.readouterr().out
