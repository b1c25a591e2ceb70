"""The five commands: what is wrong with a command line is one line, said before anything is read, computed or written."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
import warnings

import numpy as np
import pytest

from ctmem import command
from ctmem.benchmark import __main__ as benchmark
from ctmem.data import corpus
from ctmem.data.scenes import synthetic
from ctmem.train import __main__ as train
from ctmem.train import fusion, prior

MAIN = {
    "train": train.main,
    "prior": prior.main,
    "fusion": fusion.main,
    "benchmark": benchmark.main,
    "corpus": corpus.main,
}
BAD = [  # command, its options, what the one line says
    ("train", "--out=", "argument --out: must be a folder, got an empty text"),
    ("train", "--steps 0", "`steps` must be a whole number from 1"),
    ("train", "--steps -3", "`steps` must be a whole number from 1"),
    ("train", "--steps 1.5", "argument --steps: invalid int value"),
    ("train", "--steps 99999999999", "`steps` must be a whole number from 1"),
    ("train", "--cnn-steps 0", "`cnn_steps` must be a whole number from 1"),
    ("train", "--kernel-steps 0", "`kernel_steps` must be a whole number from 1"),
    ("train", "--learning-rate inf", "`learning_rate` must be a finite number above 0"),
    ("train", "--learning-rate nan", "`learning_rate` must be a finite number above 0"),
    ("train", "--learning-rate -1", "`learning_rate` must be a finite number above 0"),
    ("train", "--learning-rate 0", "`learning_rate` must be a finite number above 0"),
    ("train", "--learning-rate 1e400", "`learning_rate` must be a finite number above 0"),
    ("train", "--learning-rate fast", "argument --learning-rate: invalid float value"),
    ("train", "--batch 0", "`batch` must be a whole number from 1"),
    ("train", "--batch 1000000000", "`batch` must be a whole number from 1 to 65536"),
    ("train", "--micro-batch 3", "`batch` must be a multiple of 3 samples at once"),
    ("train", "--micro-batch 0", "`micro_batch` must be a whole number from 1"),
    ("train", "--threads 0", "`threads` must be a whole number from 1"),
    ("train", "--threads 10000000", "`threads` must be a whole number from 1"),
    ("train", "--seed -1", "`seed` must be a whole number from 0"),
    ("train", "--seed 99999999999999999999999", "`seed` must be a whole number from 0"),
    ("train", "--device tpu", "argument --device: invalid choice"),
    ("train", "--precision fp8", "argument --precision: invalid choice"),
    ("train", "--preset huge", "argument --preset: invalid choice"),
    ("train", "--parts gan", "argument --parts: invalid choice"),
    ("train", "--sensor kodak", "argument --sensor: invalid choice"),
    ("train", "--scale 0", "`scale` must be a whole number from 1"),
    ("train", "--scale 1000000", "`scale` must be a whole number from 1"),
    ("train", "--fwhm nan", "`fwhm_px` must be a finite number above 0"),
    ("train", "--fwhm 1e9", "`fwhm_px` must be a finite number above 0"),
    ("train", "--snr inf", "`snr_db` must be a finite number"),
    ("train", "--crop 0", "`crop` must be a whole number from 1"),
    ("train", "--crop 4096 --data field.npy", "`crop` must be at most"),
    ("train", "--crop 4 --data field.npy", "`crop` must be at least"),
    ("train", "--preset tiny-as-drawn --data field.npy other.npy", "`sources` must be scenes of one band count"),
    ("train", "--data none.mat", "none.mat"),
    ("train", "--data garbage.npy", "garbage.npy"),
    ("train", "--data nobands.npy", "nobands.txt, which is not there"),
    ("train", "--data field.npy field.npy", "`paths` must be each given once"),
    ("train", "--out garbage.npy", "`out` must be a folder that can be written"),
    ("train", "--out garbage.npy/deep/er", "`out` must be a folder that can be written"),
    ("train", "--colour red", "unrecognized arguments"),
    ("prior", "", "the following arguments are required: --corpus"),
    ("prior", "--corpus none", "`folder` must be a corpus"),
    ("prior", "--corpus none --minutes 0", "`minutes` must be a positive number"),
    ("prior", "--corpus none --minutes nan", "`minutes` must be a positive number"),
    ("prior", "--corpus none --minutes inf", "`minutes` must be a positive number"),
    ("prior", "--corpus none --batch 0", "`batch` must be a whole number from 1"),
    ("prior", "--corpus none --rate nan", "`rate` must be a positive number"),
    ("prior", "--corpus none --rate -1", "`rate` must be a positive number"),
    ("prior", "--corpus none --seed -1", "`seed` must be a whole number from 0"),
    ("prior", "--corpus none --out garbage.npy", "`out` must be a folder that can be written"),
    ("prior", "--corpus broken", "got image.npz"),
    ("fusion", "--areas 0", "`areas` must be a whole number from 1"),
    ("fusion", "--steps 0", "`steps` must be a whole number from 1"),
    ("fusion", "--steps 5 --minutes 1", "not allowed with argument"),
    ("fusion", "--minutes 0", "`minutes` must be a positive number"),
    ("fusion", "--minutes inf", "`minutes` must be a positive number"),
    ("fusion", "--match-minutes nan", "`match_minutes` must be a positive number"),
    ("fusion", "--batch -1", "`batch` must be a whole number from 1"),
    ("fusion", "--rate inf", "`learning_rate` must be a finite number above 0"),
    ("fusion", "--workers -1", "`workers` must be a whole number from 0"),
    ("fusion", "--seed -5", "`seed` must be a whole number from 0"),
    ("fusion", "--start none.safetensors", "none.safetensors, which is not there"),
    ("fusion", "--start garbage.npy", "`path` must be a whole safetensors file"),
    ("fusion", "--corpus none", "`folder` must be a corpus"),
    ("fusion", "--out garbage.npy", "`out` must be a folder that can be written"),
    ("benchmark", "--suite moon", "argument --suite: invalid choice"),
    ("benchmark", "--suite embedded --seeds 0", "`seeds` must be a whole number from 1"),
    ("benchmark", "--suite embedded --methods magic", "`methods` must be one of"),
    ("benchmark", "--suite embedded --references moon", "`references` must be one of"),
    ("benchmark", "--suite embedded --cameras x0", "`scale` must be a whole number"),
    ("benchmark", "--suite embedded --weights none", "`folder` must be one with card.json and weights"),
    ("benchmark", "--suite embedded --out garbage.npy", "`out` must be a folder that can be written"),
    ("benchmark", "--suite embedded --areas test --quick", "`areas` must be 'validation'"),
    ("benchmark", "--suite folder none", "none"),
    ("benchmark", "--suite folder", "`path` must be a folder for the suite 'folder'"),
    ("corpus", "", "the following arguments are required: folder"),
    ("corpus", "garbage.npy", "`folder` must be a folder that can be written"),
    ("corpus", "made --packages garbage.npy", "`packages` must be a folder that can be written"),
]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Two scenes with their bands, one without, and files that are none."""
    folder = tmp_path_factory.mktemp("place")
    for name, bands in (("field", 31), ("other", 20)):
        scene = synthetic(0, height=96, width=128, bands=bands)
        np.save(folder / f"{name}.npy", scene.cube)
        np.savetxt(folder / f"{name}.txt", scene.wavelengths_nm)
    np.save(folder / "nobands.npy", scene.cube)
    (folder / "garbage.npy").write_bytes(b"garbage" * 9)
    (folder / "broken").mkdir()
    (folder / "broken" / "image.npz").write_bytes(b"PK\3\4" + bytes(60))
    return folder


def contents(folder):
    return sorted((path.relative_to(folder).as_posix(), path.stat().st_mtime_ns) for path in folder.rglob("*"))


@pytest.mark.parametrize(("name", "options", "message"), BAD, ids=[f"{name} {options}" for name, options, _ in BAD])
def test_one_line_and_nothing_written(name, options, message, place, capsys, monkeypatch):
    monkeypatch.chdir(place)
    before = contents(place)
    try:
        status = MAIN[name](options.split())
    except SystemExit as end:
        status = end.code
    said = capsys.readouterr()
    assert status == (2 if said.err.startswith("error: argument") or "--help` lists" in said.err else 1)
    assert said.err.startswith("error: ") and said.err.count("\n") == 1 and message in said.err
    assert contents(place) == before


@pytest.mark.skipif(os.name == "nt" or not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root writes everywhere")
def test_a_folder_that_is_read_only(place, capsys, tmp_path):
    tmp_path.chmod(0o500)
    assert train.main(["--out", str(tmp_path / "run")]) == 1
    assert "`out` must be a folder that can be written" in capsys.readouterr().err


# --- the shell ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        (ValueError("two\n  lines"), 1, "error: two lines\n"),
        (MemoryError(), 1, "error: MemoryError\n"),
        (KeyError("name"), 1, "error: 'name'\n"),
        (RuntimeError("no room"), 1, "error: no room\n"),
        (KeyboardInterrupt(), 130, "stopped; again\n"),
    ],
)
def test_errors_are_one_line_and_a_status(error, status, said, capsys):
    def work():
        raise error

    assert command.run_command(work, "stopped; again") == status
    assert capsys.readouterr().err == said


def test_warnings_are_one_line(capsys):
    assert command.run_command(lambda: warnings.warn("mind\nthe gap", RuntimeWarning, stacklevel=1)) == 0
    assert capsys.readouterr().err == "warning: mind the gap\n"


def test_a_fault_of_the_program_is_not_hidden():
    with pytest.raises(AssertionError):
        command.run_command(lambda: pytest.fail.Exception("x") and (_ for _ in ()).throw(AssertionError("a fault")))


@contextlib.contextmanager
def training(*options, python=()):
    """A training that hears Ctrl-C, even where who runs the tests does not; it does not outlive its test."""
    quiet = os.environ | {"CTMEM_QUIET": "1"}
    child = subprocess.Popen(
        [sys.executable, *python, "-m", "ctmem.train", *options], stderr=subprocess.PIPE, stdout=subprocess.DEVNULL,
        encoding="utf-8", env=quiet, preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip
    try:
        yield child
    finally:
        child.kill()


def said_by(child):
    """What it says but for its imports, once it has ended."""
    return [line for line in child.communicate(timeout=300)[1].splitlines() if not line.startswith("import time:")]


@pytest.mark.skipif(os.name == "nt", reason="no such signals")
def test_stopped_from_the_keyboard_while_it_imports():
    """The interpreter tells what it has imported: torch is on its way when this package's own shell is there."""
    with training("--steps", "0", python=["-X", "importtime"]) as child:
        while "ctmem.train" not in (line := child.stderr.readline()):
            assert line, "it ended by itself"
        child.send_signal(signal.SIGINT)
        assert said_by(child) == ["stopped before it began"]
    assert child.returncode == 130


@pytest.mark.skipif(os.name == "nt", reason="no such signals")
def test_stopped_from_the_keyboard_while_it_trains(place, tmp_path):
    """One line, no traceback, nothing half-written, and the lock is gone."""
    options = ["--data", str(place / "field.npy"), "--out", str(tmp_path / "run"), "--device", "cpu", "--threads", "1"]
    with training(*options) as child:
        while not (tmp_path / "run" / ".lock").exists():
            assert child.poll() is None
            time.sleep(0.02)
        child.send_signal(signal.SIGINT)
        assert said_by(child) == [f"stopped; the same command goes on from the last checkpoint in {tmp_path / 'run'}"]
    assert child.returncode == 130
    assert not list(tmp_path.rglob("*.part")) and not list(tmp_path.rglob(".lock"))
