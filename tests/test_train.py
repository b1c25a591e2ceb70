"""The command line: what it says, what it refuses, and that two processes learn what one does."""

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

from ctmem.config import TINY
from ctmem.data.areas import split_areas
from ctmem.data.scenes import synthetic
from ctmem.files import load_tensors
from ctmem.inference import super_resolve
from ctmem.model import load_model
from ctmem.networks.variants import PRESETS
from ctmem.observe.camera import Camera
from ctmem.train.__main__ import main, new_parser, preset_of
from ctmem.train.pool import check_sources
from ctmem.train.sources import embedded_sources

USUAL = Camera.gaussian(scale=4)
SHORT = ["--kernel-steps", "2", "--cnn-steps", "2", "--steps", "3", "--device", "cpu"]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    scene, folder = synthetic(0, height=96, width=128, bands=31), tmp_path_factory.mktemp("data")
    np.save(folder / "field.npy", scene.cube)
    np.savetxt(folder / "field.txt", scene.wavelengths_nm)
    return folder / "field.npy"


@pytest.fixture(scope="module")
def trained(data):
    """A run in one process, each batch in two pieces; a process of its own, whatever earlier tests have set here."""
    folder = data.parent / "one"
    options = ["--data", str(data), "--out", str(folder), "--micro-batch", "2", "--threads", "1", *SHORT]
    ran = subprocess.run(
        [sys.executable, "-m", "ctmem.train", *options], capture_output=True, encoding="utf-8", timeout=120
    )
    assert ran.returncode == 0, ran.stderr[-2000:]
    return folder


def test_the_help_names_every_option():
    text = new_parser().format_help()
    for action in new_parser()._actions:
        assert action.option_strings[-1] in text and action.help, action
    assert all(name in text for name in [*PRESETS, "torchrun", "card.json", "log_cnn.csv", "bands.txt"])


def test_options_change_the_preset():
    assert preset_of(new_parser().parse_args([])) == TINY
    given = ["--steps", "7", "--batch", "8", "--learning-rate", "0.5", "--cnn-steps", "5", "--kernel-steps", "6"]
    preset = preset_of(new_parser().parse_args(given))
    other = preset_of(new_parser().parse_args(["--crop", "24", "--scale", "3"]))
    assert (other.crop, other.scale) == (24, 3)
    assert (preset.train.steps, preset.train.batch, preset.train.learning_rate) == (7, 8, 0.5)
    assert (preset.cnn_steps, preset.kernel_steps, preset.crop) == (5, 6, TINY.crop)
    assert preset.camera == TINY.camera
    preset = preset_of(new_parser().parse_args(["--fwhm", "6.5", "--sensor", "landsat8", "--snr", "30"]))
    assert preset.camera == replace(TINY.camera, fwhm_px=6.5, sensor="landsat8", snr_db=30)
    assert replace(preset, camera=TINY.camera) == TINY


def test_another_camera_ends_up_on_the_card_and_comes_back_with_the_weights(data, tmp_path, capsys):
    """Blur, noise and sensor of the command line are what is simulated, what is written, and what is loaded."""
    options = ["--fwhm", "6.5", "--sensor", "landsat8", "--snr", "30"]
    given = ["--data", str(data), "--out", str(tmp_path), *SHORT]
    assert main([*given, *options]) == 0
    model = load_model("tiny", folder=tmp_path)
    camera = Camera.gaussian(6.5, 4, sensor="landsat8", snr_db=30)
    assert model.camera.to_dict() == camera.to_dict() and model.card["camera"] == camera.to_dict()
    assert (model.camera.sensor, model.camera.snr_db, model.camera.srf) == ("landsat8", 30, None)
    assert model.card["preset"]["camera"]["fwhm_px"] == 6.5
    areas = split_areas(96, 128, camera)  # of a wider blur, farther apart
    assert (
        model.card["data"][0]["validation"]
        == vars(areas["validation"])
        != vars(split_areas(96, 128, USUAL)["validation"])
    )
    assert model.camera.differences(USUAL) != []
    capsys.readouterr()
    assert main(given) == 1  # the same folder for another camera
    assert capsys.readouterr().err.startswith("error: `folder` must be a new one, or one of a run with the same data")


@pytest.mark.parametrize("scale", [3, 5])
def test_other_scales_go_the_whole_way(scale, data, tmp_path):
    """Camera, kernel, pool, three networks, and an image of that scale."""
    assert main(["--data", str(data), "--out", str(tmp_path), "--scale", str(scale), *SHORT]) == 0
    model = load_model(folder=tmp_path)
    scene = synthetic(1, height=12 * scale, width=8 * scale, bands=31)
    camera = model.camera.for_wavelengths(scene.wavelengths_nm)
    assert camera.scale == model.preset.scale == scale
    reference = camera.see(synthetic(2, height=40, width=44, bands=31).tensor())
    pred = super_resolve(model, camera.observe(scene.tensor()), reference, camera=camera)
    assert pred.shape == scene.tensor().shape and pred.isfinite().all()
    # an untrained denoiser and back-projection: the scene, and not another one
    assert float((pred - scene.tensor()).abs().mean()) < 0.3 * float(scene.tensor().std())


@pytest.mark.parametrize("name", ["tiny-as-drawn", "tiny-as-released"])
def test_wirings_on_bands_learn_from_a_shipped_scene(name, tmp_path):
    """By default from Indian Pines alone; all three networks, then an image by a short chain."""
    assert main(["--preset", name, "--out", str(tmp_path), "--batch", "2", *SHORT]) == 0
    model = load_model(folder=tmp_path)
    assert [one["scene"] for one in model.card["data"]] == ["indian_pines"]
    assert len(model.card["data"][0]["references"]) == 2  # its own sensor's and Sentinel-2's
    assert model.preset == replace(
        PRESETS[name], kernel_steps=2, cnn_steps=2, train=replace(PRESETS[name].train, steps=3, batch=2)
    )
    losses = (tmp_path / "log_denoiser.csv").read_text(encoding="utf-8").splitlines()
    assert [line.split(",")[0] for line in losses[1:]] == ["0", "3"]
    assert float(losses[-1].split(",")[2]) == PRESETS[name].train.learning_rate  # a constant one
    pred = super_resolve(model, torch.rand(1, 200, 4, 6), steps=2)
    assert pred.shape == (1, 200, 16, 24) and pred.isfinite().all()


def test_the_size_of_the_paper_says_what_it_needs(tmp_path, capsys):
    assert main(["--preset", "paper", "--out", str(tmp_path), *SHORT]) == 1
    said = capsys.readouterr().err
    assert said.startswith("error: `crop` must be at most 64 px") and "`--crop 64`" in said and said.count("\n") == 1
    assert not (tmp_path / "kernel.safetensors").exists()  # said before anything was trained
    preset = preset_of(new_parser().parse_args(["--preset", "paper", "--crop", "64"]))
    check_sources(embedded_sources(Camera.from_config(preset.camera)), preset)


def test_what_it_writes_can_be_loaded(trained, capsys):
    model = load_model("tiny", folder=trained)
    assert model.card["data"][0]["scene"].endswith("field.npy") and model.card["steps"]["denoiser"] == 3
    assert {path.name for path in trained.iterdir()} == {
        "card.json", "state", "log_cnn.csv", "log_denoiser.csv",
        "kernel.safetensors", "cnn.safetensors", "denoiser.safetensors",
    }  # fmt: skip


def test_two_processes_learn_what_one_does_in_two_pieces(data, trained):
    """torchrun, gloo on a CPU: the same data, and gradients that are the mean of both processes."""
    folder = data.parent / "two"
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    command += ["-m", "ctmem.train", "--data", str(data), "--out", str(folder), "--threads", "1", *SHORT]
    ran = subprocess.run(command, capture_output=True, encoding="utf-8", timeout=120)
    assert ran.returncode == 0, ran.stderr[-2000:]
    assert ran.stdout == f"weights and card.json are in {folder}\n"  # said once
    for name in ("kernel", "cnn", "denoiser", "state/cnn", "state/denoiser"):
        kind = "checkpoint" if name.startswith("state/") else "weights"
        one, two = (load_tensors(path / f"{name}.safetensors", kind=kind)[0] for path in (trained, folder))
        assert one.keys() == two.keys()
        for key in one:
            assert one[key].double().allclose(two[key].double(), rtol=1e-4, atol=1e-6), f"{name}: {key}"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--data", "none.mat"], "error: `path` must be an existing file, got none.mat\n"),
        (["--steps", "4"], "error: `folder` must be a new one, or one of a run with the same steps, got "),
        (["--fwhm", "0"], "error: `fwhm_px` must be a finite number above 0 and at most 1000, or None, got 0.0\n"),
        (
            ["--learning-rate", "-1"],
            "error: `learning_rate` must be a finite number above 0 and at most 1000, got -1.0\n",
        ),
        (["--threads", "-1"], "error: `threads` must be a whole number from 1 to 65536, got -1\n"),
        (["--steps", "0"], "error: `steps` must be a whole number from 1 to 1000000000, got 0\n"),
        (["--snr", "nan"], "error: `snr_db` must be a finite number from -100 to 300, or None, got nan\n"),
        (["--seed", "1"], "error: `folder` must be a new one, or one of a run with the same seed, got "),
        (
            ["--out", "field.npy/x"],
            "error: `out` must be a folder that can be written, got field.npy/x: field.npy is not a folder\n",
        ),
    ],
)
def test_what_is_wrong_is_said_in_one_line(options, message, data, trained, capsys, monkeypatch):
    monkeypatch.chdir(data.parent)
    assert main(["--data", str(data), "--out", str(trained), *SHORT, *options]) == 1
    said = capsys.readouterr().err
    assert said.startswith(message) and said.count("\n") == 1


def test_other_data_in_the_same_folder(data, trained, capsys):
    other = data.with_name("other.npy")
    np.save(other, np.load(data)[:, ::-1])
    other.with_suffix(".txt").write_text(data.with_suffix(".txt").read_text(encoding="utf-8"), encoding="utf-8")
    assert main(["--data", str(other), "--out", str(trained), *SHORT]) == 1
    assert "error: `folder` must be a new one, or one of a run with the same data" in capsys.readouterr().err


def test_stopped_from_the_keyboard(data, trained, capsys, monkeypatch):
    def interrupted(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr("ctmem.train.__main__.train", interrupted)
    assert main(["--data", str(data), "--out", str(trained)]) == 130
    assert "goes on from the last checkpoint" in capsys.readouterr().err
