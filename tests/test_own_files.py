"""Own files: a flipped bit is noticed, a run is known by what is in it, and one writer at a time has a folder."""

from __future__ import annotations

import json
import multiprocessing
import shutil
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from ctmem import files
from ctmem.card import MODEL, read_card, sealed, write_card
from ctmem.config import TINY
from ctmem.files import RoomFor, check_out, data_path, load_module, load_tensors, save_module, save_tensors, write_bytes
from ctmem.lock import locked
from ctmem.model import load_model
from ctmem.networks.residual_cnn import ResidualCNN
from ctmem.train.identity import data_of, differences
from ctmem.train.loop import Run
from ctmem.train.pool import build_pool
from ctmem.train.stages import cnn_loss, train
from tests.small_training import SMALL, small_source

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"
QUICK = replace(SMALL, kernel_steps=1, cnn_steps=2, train=replace(SMALL.train, steps=2))


# --- the envelope ---------------------------------------------------------------------------------------------------


def test_any_flipped_bit_is_noticed(tmp_path):
    """Every byte of a small file, one bit each."""
    path = tmp_path / "a.safetensors"
    torch.manual_seed(0)
    save_module(nn.Linear(3, 2), path, part="cnn", preset="tiny")
    whole = path.read_bytes()
    for place in range(len(whole)):
        flipped = whole[place] ^ 1 << place % 8
        path.write_bytes(whole[:place] + bytes([flipped]) + whole[place + 1 :])
        with pytest.raises(
            ValueError, match=r"^`path` must be (a whole safetensors file|undamaged weights), got a.saf"
        ):
            load_module(nn.Linear(3, 2), path, part="cnn", preset="tiny")


def test_the_envelope_says_what_it_is(tmp_path):
    path = tmp_path / "a.safetensors"
    sha256 = save_tensors({"x": torch.ones(2)}, path, {"part": "cnn", "sha256": "old"}, kind="checkpoint")
    metadata = load_tensors(path, kind="checkpoint")[1]
    assert (metadata["kind"], metadata["version"], metadata["sha256"]) == ("ctmem checkpoint", "1", sha256)
    with pytest.raises(
        ValueError, match="`path` must be weights, got a.safetensors, a safetensors file of a checkpoint"
    ):
        load_tensors(path)


def test_weights_of_before_are_taken_and_said(tmp_path):
    from safetensors.torch import save_file

    path = tmp_path / "of-before.safetensors"
    save_file({"x": torch.ones(2)}, path, {"part": "cnn"})
    with pytest.warns(
        RuntimeWarning, match="of-before.safetensors was written by an older version: it has no checksum"
    ):
        assert load_tensors(path)[0]["x"].tolist() == [1, 1]
    with pytest.raises(
        ValueError, match="must be a checkpoint, got of-before.safetensors, a safetensors file of weights"
    ):
        load_tensors(path, kind="checkpoint")


def test_weights_that_are_not_finite_or_of_another_type(tmp_path):
    path = tmp_path / "a.safetensors"
    tensors = {"weight": torch.full((2, 3), torch.nan), "bias": torch.zeros(2)}
    save_tensors(tensors, path, {"part": "cnn", "preset": "tiny"})
    with pytest.raises(ValueError, match="`path` must be weights with a finite `weight`"):
        load_module(nn.Linear(3, 2), path, part="cnn", preset="tiny")
    save_tensors({name: x.nan_to_num().int() for name, x in tensors.items()}, path, {"part": "cnn", "preset": "tiny"})
    with pytest.raises(ValueError, match=r"weights with `bias` like torch.float32, got torch.int32"):
        load_module(nn.Linear(3, 2), path, part="cnn", preset="tiny")


def test_temporary_names_are_of_one_writer_and_stale_ones_go(tmp_path, monkeypatch):
    seen = []
    flush = files.os.fsync
    monkeypatch.setattr(
        files.os, "fsync", lambda file: (seen.extend(p.name for p in tmp_path.glob(".*.part")), flush(file))
    )
    for _ in range(2):
        write_bytes(b"x", tmp_path / "a.bin")
    assert len(set(seen)) == 2 and [path.name for path in tmp_path.iterdir()] == ["a.bin"]


# --- cards ----------------------------------------------------------------------------------------------------------


def test_a_card_that_was_changed(tmp_path):
    path = tmp_path / "card.json"
    write_card({"seed": 3, "note": "x"}, path)
    assert read_card(path, MODEL)["seed"] == 3
    path.write_text(path.read_text(encoding="utf-8").replace('"seed": 3', '"seed": 4'), encoding="utf-8")
    with pytest.raises(
        ValueError, match="a card.json of this version, got .*: `sha256` must be that of the card, which"
    ):
        read_card(path, MODEL)
    by_hand = {key: value for key, value in json.loads(path.read_text(encoding="utf-8")).items() if key != "sha256"}
    path.write_text(json.dumps(by_hand), encoding="utf-8")
    assert read_card(path, MODEL)["seed"] == 4


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seed": "1"}, "`seed` must be a whole number from 0"),
        ({"seed": True}, "`seed` must be a whole number from 0"),
        ({"steps": {"cnn": 0}}, "`steps.cnn` must be a whole number from 1"),
        ({"steps": {"gan": 1}}, "`steps` must be by 'kernel', 'cnn', 'denoiser', got 'gan'"),
        ({"minutes": {"cnn": float("nan")}}, "`minutes.cnn` must be a number from 0"),
        ({"data": [{}]}, "a dict with scene, train, validation, references"),
        ({"preset": {"name": "x", "widht": 3}}, "widht"),
        ({"preset": []}, "`preset` must be a dict of settings"),
        (
            {"preset": {"name": "x", "denoiser": {"cim_blocks": 1000000}}},
            "`cim_blocks` must be a whole number from 0 to 64",
        ),
        ({"preset": {"name": "x", "denoiser": {"width": 1e9}}}, "`width` must be a whole number from 2 to 4096"),
        ({"preset": {"name": "x", "sampler": "magic"}}, "`sampler` must be one of"),
        ({"camera": {"scale": 4}}, "psf"),
        ({"camera": {"psf": [["a"]]}}, "a list of rows of numbers"),
        ({"version": 2}, "`version` must be 1 of a ctmem card"),
    ],
)
def test_values_of_a_card_out_of_their_bounds(change, message, tmp_path):
    (tmp_path / "card.json").write_text(
        json.dumps(sealed({"preset": TINY.to_dict()} | change) | change), encoding="utf-8"
    )
    with pytest.raises(ValueError, match=f"`folder` must be one with a card.json of this version, got .*{message}"):
        load_model(folder=tmp_path)


@pytest.mark.parametrize("text", ["", "[]", "null", "{", "[" * 100_000, '{"seed": ' + "9" * 5000 + "}", "\0"])
def test_cards_that_are_none(text, tmp_path):
    (tmp_path / "card.json").write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match="`folder` must be one with a card.json of this version, got"):
        load_model(folder=tmp_path)


def test_a_card_cannot_ask_for_more_memory_than_its_weights_have(tmp_path):
    wide = replace(TINY, denoiser=replace(TINY.denoiser, width=4096, residual_blocks=64, cim_blocks=64))
    shutil.copytree(data_path("weights/tiny/card.json").parent, tmp_path / "tiny")
    write_card({"preset": wide.to_dict()}, tmp_path / "tiny" / "card.json")
    with pytest.raises(ValueError, match="`preset` must be one whose networks fit the weights beside it, kernel.saf"):
        load_model(folder=tmp_path / "tiny")
    with RoomFor():
        torch.empty(1000)


# --- what a run is recognised by ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def source():
    return small_source()


def test_names_do_not_count_but_what_is_in_the_data_does(source):
    before = data_of([source])
    assert differences(before, data_of([replace(source, name="elsewhere")])) == [
        "[0].scene 'synthetic' instead of 'elsewhere'"
    ]
    other = replace(source, scene=replace(source.scene, gt=source.scene.gt.flip(1)))
    assert differences(before, data_of([other]))[0].startswith("[0].digest.cube")
    assert set(before[0]["digest"]) == {"cube", "blur", "response", "observation", "references"}


@pytest.fixture(scope="module")
def trained(source, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    for seed in (0, 1):
        train(QUICK, [source], folder / str(seed), seed=seed)
    return folder


def test_the_same_content_under_another_name_and_place_goes_on(trained, source, tmp_path):
    shutil.copytree(trained / "0", tmp_path / "moved")
    card = train(QUICK, [replace(source, name="renamed")], tmp_path / "moved")
    assert card["data"][0]["scene"] == "renamed" and card["steps"] == {"kernel": 1, "cnn": 2, "denoiser": 2}


def test_all_that_differs_is_said_in_one_message(trained, source):
    flipped = replace(source, scene=replace(source.scene, gt=source.scene.gt.flip(1)))
    other = replace(QUICK, cnn_width=16, train=replace(QUICK.train, steps=3))
    with pytest.raises(
        ValueError, match="a run with the same data, seed, networks, steps, got .*: another cube of"
    ) as caught:
        train(other, [flipped], trained / "0", seed=1)
    assert "'synthetic', seed 0 instead of 1, cnn_width 8 instead of 16, denoiser 2 instead of 3" in str(caught.value)


@pytest.mark.parametrize(
    ("seed", "change", "message"),
    [
        (1, {}, "seed 0 instead of 1"),
        (0, {"train": replace(QUICK.train, learning_rate=0.5)}, "learning_rate 0.001 instead of 0.5"),
        (0, {"timesteps": 60}, "networks.timesteps 50 instead of 60"),
        (0, {"kernel_steps": 2}, "kernel 1 instead of 2"),
    ],
)
def test_a_checkpoint_knows_its_run_without_the_card(seed, change, message, trained, source, tmp_path):
    shutil.copytree(trained / "0", tmp_path / "run")
    for path in (tmp_path / "run").glob("*.*"):
        path.unlink()  # the checkpoints alone are left
    with pytest.raises(ValueError, match=f"`path` must be a checkpoint of the same run, or none, got cnn.*{message}"):
        train(replace(QUICK, **change), [source], tmp_path / "run", seed=seed, parts=["kernel", "cnn"])


def test_weights_of_two_runs_in_one_folder(trained, source, tmp_path):
    shutil.copytree(trained / "0", tmp_path / "mixed")
    shutil.copy(trained / "1" / "cnn.safetensors", tmp_path / "mixed")
    with pytest.raises(
        ValueError, match="the weights that the card.json beside them is of, got cnn.safetensors of another"
    ):
        load_model(folder=tmp_path / "mixed")
    with pytest.raises(
        ValueError, match="`folder` must be one with the weights that its card.json is of, got .*cnn.safete"
    ):
        train(QUICK, [source], tmp_path / "mixed")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"step": -1}, "`step` must be a whole number from 0 to 6"),
        ({"step": 7}, "`step` must be a whole number from 0 to 6"),
        ({"best_score": float("nan")}, "`best_score` must be a number"),
        ({"history": [[0, 0.0]]}, "`history` must be rows of three numbers"),
        ({"history": "none"}, "`history` must be a list"),
        ({"seconds": -3}, "`seconds` must be a number from 0"),
        ({"average": 1}, "`numbers` must be a dict of step"),
    ],
)
def test_numbers_of_a_checkpoint_are_checked(change, message, source, tmp_path):
    path = tmp_path / "state.safetensors"
    run = Run(ResidualCNN(4, 8), cnn_loss, SMALL.train)
    run.save(path)
    tensors, metadata = load_tensors(path, kind="checkpoint")
    metadata["numbers"] = json.dumps(json.loads(metadata["numbers"]) | change)
    save_tensors(tensors, path, metadata, kind="checkpoint")
    with pytest.raises(ValueError, match=message):
        Run(ResidualCNN(4, 8), cnn_loss, SMALL.train).restore(path)
    with pytest.raises(ValueError, match="a checkpoint with"):
        save_tensors(tensors | {"extra": torch.ones(1)}, path, json_free(metadata, run), kind="checkpoint")
        Run(ResidualCNN(4, 8), cnn_loss, SMALL.train).restore(path)


def json_free(metadata, run):
    """The metadata with the numbers of the run again."""
    names = ("step", "best_score", "history", "clock", "seconds")
    return metadata | {"numbers": json.dumps({name: getattr(run, name) for name in names})}


# --- two at once ----------------------------------------------------------------------------------------------------


def hold(folder, held):
    with locked(folder):
        held.set()
        time.sleep(600)


@pytest.fixture
def owner(tmp_path):
    """A process that has the lock of a folder."""
    context = multiprocessing.get_context("spawn")
    held = context.Event()
    process = context.Process(target=hold, args=(tmp_path, held))
    process.start()
    assert held.wait(300)
    yield process
    process.kill()
    process.join()


def test_a_second_writer_is_refused_until_the_first_is_dead(owner, source, tmp_path):
    message = f"`folder` must be one that no other process writes to, got .*: process {owner.pid} on .* since 2"
    with pytest.raises(BlockingIOError, match=message):
        train(QUICK, [source], tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [".lock"]
    owner.kill()
    owner.join()
    with locked(tmp_path), pytest.raises(BlockingIOError), locked(tmp_path):  # nor a second one in this process
        pytest.fail("two at once")
    assert list(tmp_path.iterdir()) == []


def test_without_locks_of_the_system_the_file_is_one(owner, tmp_path, monkeypatch):
    import errno

    def none(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("ctmem.lock._try_lock", none)
    with pytest.raises(BlockingIOError, match=f"process {owner.pid} on"), locked(tmp_path):
        pytest.fail("two at once")
    owner.kill()
    owner.join()
    with locked(tmp_path):
        assert (tmp_path / ".lock").is_file()
    assert list(tmp_path.iterdir()) == []


def test_a_lock_that_is_a_folder(tmp_path):
    (tmp_path / ".lock").mkdir()
    with pytest.raises(OSError, match="`folder` must be one whose lock can be written, got .*"), locked(tmp_path):
        pytest.fail("locked")


def test_a_folder_is_looked_at_without_being_made(tmp_path):
    check_out(tmp_path / "a" / "b")
    (tmp_path / "file").write_text("x", encoding="utf-8")
    with pytest.raises(
        NotADirectoryError, match="`out` must be a folder that can be written, got .*: file is not a folder"
    ):
        check_out(tmp_path / "file" / "b")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


# --- all kinds, at random -------------------------------------------------------------------------------------------


def test_own_files_changed_at_random(tmp_path, monkeypatch):
    """A few changes of each kind; `benchmarks/robustness_own.py` makes a thousand."""
    monkeypatch.syspath_prepend(BENCHMARKS)
    import robustness_own

    try:
        for name, once in robustness_own.kinds(tmp_path).items():
            if "weights" not in name or name == "weights":
                monkeypatch.setattr(robustness_own, "SECONDS", 600.0)  # how fast a machine is, is not asked here
                counts = robustness_own.tally(name, 6 if "folder" in name else 12, once)
                assert set(counts) <= {"loads", "clear"}, name
    finally:
        sys.modules.pop("robustness_own", None)


def test_the_pool_of_a_checkpoint_may_be_any(source, tmp_path):
    """What a loop is told beside its own settings counts, and only that."""
    path = tmp_path / "state.safetensors"
    pool = build_pool([source], SMALL, lambda x: x)
    run = Run(ResidualCNN(4, 8), cnn_loss, SMALL.train, about={"data": "one"})
    run.advance(pool)
    run.save(path)
    again = Run(ResidualCNN(4, 8), cnn_loss, SMALL.train, about={"data": "one"})
    again.restore(path)
    assert again.step == 1
    with pytest.raises(ValueError, match="with data 'one' instead of 'two'"):
        Run(ResidualCNN(4, 8), cnn_loss, SMALL.train, about={"data": "two"}).restore(path)
