"""A scene from file to file: what is understood, written, said and refused; by the function and by the command."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import rasterio
import torch
from rasterio.transform import from_origin
from scipy.ndimage import binary_erosion

import ctmem
import ctmem.super_resolve
from ctmem.card import read_card
from ctmem.data.scenes import synthetic
from ctmem.observe.camera import Camera
from ctmem.own_scene import options
from ctmem.own_scene.files import inspect_file, super_resolve_file
from ctmem.super_resolve import main, new_parser

pytestmark = pytest.mark.filterwarnings("ignore::PendingDeprecationWarning")  # of the package affine, by rasterio
BANDS, HEIGHT, WIDTH, HOLE = 9, 20, 26, -9999
CAMERA = Camera.gaussian(fwhm_px=3.0, scale=3)
HERE = from_origin(500_000, 4_480_000, 60, 60)


def coarse(seed=0, snr_db=40.0):
    """Numbers (C, H, W) int16 of a scene as a coarse sensor sees it, and its wavelengths in nm."""
    scene = synthetic(seed, height=3 * HEIGHT, width=3 * WIDTH, bands=BANDS, range_nm=(430.0, 910.0))
    seen = replace(CAMERA, snr_db=snr_db).observe(scene.tensor(), generator=torch.Generator().manual_seed(seed))
    return (10_000 * seen[0]).round().numpy().astype(np.int16), scene.wavelengths_nm


def write_tif(path, numbers, wavelengths_nm=None, transform=HERE, nodata=HOLE):
    """A GeoTIFF, written by rasterio alone."""
    profile = {"driver": "GTiff", "dtype": numbers.dtype.name, "crs": "EPSG:32616", "transform": transform}
    profile |= dict(zip(("count", "height", "width"), numbers.shape)) | {"nodata": nodata}
    with rasterio.open(path, "w", **profile) as file:
        file.write(numbers)
        for band, nm in enumerate([] if wavelengths_nm is None else wavelengths_nm):
            file.update_tags(band + 1, wavelength=f"{nm:.3f}", wavelength_units="nanometers")
    return path


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A scene with a hole, and one answer of it."""
    folder = tmp_path_factory.mktemp("scene")
    numbers, wavelengths_nm = coarse()
    numbers[:, 5:8, 10:12] = HOLE
    write_tif(folder / "lr.tif", numbers, wavelengths_nm)
    said = []
    card = super_resolve_file(
        folder / "lr.tif", out=folder / "sr.tif", scale=3, method="bicubic-bp", tile=12, progress=False, say=said.append
    )
    return folder, numbers, card, said


def read(path):
    with rasterio.open(path) as file:
        return file.read(), file.profile


# --- one line ---------------------------------------------------------------------------------------------------------


def test_the_answer_is_on_the_same_ground_in_the_same_numbers(place):
    folder, numbers, card, _ = place
    fine, profile = read(folder / "sr.tif")
    assert fine.shape == (BANDS, 3 * HEIGHT, 3 * WIDTH) and fine.dtype == np.int16
    assert profile["transform"] == from_origin(500_000, 4_480_000, 20, 20) and profile["nodata"] == HOLE
    assert str(profile["crs"]) == "EPSG:32616"
    holes = np.repeat(np.repeat((numbers == HOLE).all(0), 3, 0), 3, 1)
    assert ((fine == HOLE).all(0) == holes).all() and not ((fine == HOLE).any(0) & ~holes).any()
    known = ~holes[::3, ::3]
    filled = torch.from_numpy(np.where(holes, 0, fine).astype(np.float32))[None]
    seen = CAMERA.downsample(filled)[0].numpy()  # what the true camera shows of the answer
    away = binary_erosion(known, iterations=2, border_value=1)  # of the hole, which it cannot see into
    assert np.sqrt(np.mean((seen - numbers)[:, away] ** 2)) < 0.05 * numbers[:, known].std()
    counts = {"pixels": 9 * HEIGHT * WIDTH, "holes": 9 * 6, "saturated": 0, "moved": 0}
    assert card["output"] == {"file": "sr.tif", "tiles": 6, "uncertainty": None} | counts


def test_it_is_the_answer_of_the_whole_scene_in_memory(place):
    folder, _, _, _ = place
    found = inspect_file(folder / "lr.tif", scale=3, method="bicubic-bp")
    whole = found.look(0, 0, HEIGHT, WIDTH).numpy()
    fine, _ = read(folder / "sr.tif")
    known = np.isfinite(whole)
    assert np.abs(np.rint(whole[known]) - fine[known]).max() <= 1


def test_a_band_without_any_data_is_carried_and_makes_no_holes(place, tmp_path):
    """As a dead detector's: it is empty afterwards, too, and the other bands are as they would be without it."""
    _, numbers, _, _ = place
    dead = np.insert(numbers, 2, HOLE, axis=0)
    write_tif(tmp_path / "dead.tif", dead)
    write_tif(tmp_path / "alive.tif", numbers)
    options = {"scale": 3, "method": "bicubic-bp", "psf": 3.0, "noise": 40, "progress": False, "say": None}
    with pytest.warns(RuntimeWarning, match=r"dead.tif: no pixel has data in band\(s\) 2, counted from 0"):
        super_resolve_file(tmp_path / "dead.tif", out=tmp_path / "a.tif", **options)
    super_resolve_file(tmp_path / "alive.tif", out=tmp_path / "b.tif", **options)
    fine, expected = (read(tmp_path / name)[0] for name in ("a.tif", "b.tif"))
    assert (fine[2] == HOLE).all()
    assert np.abs(np.delete(fine, 2, axis=0).astype(int) - expected).max() <= 1


def test_the_card_says_what_was_estimated(place):
    folder, _, card, said = place
    stored = read_card(folder / "sr.tif.card.json", {})
    assert stored == json.loads(json.dumps(card))
    assert (card["method"], card["scale"], card["input"]["size"]) == ("bicubic-bp", 3, [BANDS, HEIGHT, WIDTH])
    assert card["input"]["holes"] == pytest.approx(6 / (HEIGHT * WIDTH))
    assert 34 < card["noise"]["snr_db"]["median"] < 46
    assert 1.5 < card["psf"]["fwhm_px"][0] < 4.6
    assert card["consistency"]["relative"] < 0.03
    assert any(line.startswith("noise: SNR") for line in said) and "scale: ×3 (as asked for)" in said


def test_nothing_else_is_left_behind(place):
    folder = place[0]
    assert sorted(path.name for path in folder.iterdir()) == ["lr.tif", "sr.tif", "sr.tif.card.json"]


def test_what_stands_under_a_mask_changes_nothing(place, tmp_path):
    folder, numbers, _, _ = place
    other = numbers.copy()
    other[:, 5:8, 10:12] = np.random.default_rng(0).integers(-30_000, 30_000, (BANDS, 3, 2))
    other[3, 5:8, 10:12] = HOLE
    with rasterio.open(folder / "lr.tif") as file:
        nm = [float(file.tags(band)["wavelength"]) for band in file.indexes]
    write_tif(tmp_path / "lr.tif", other, nm)
    super_resolve_file(
        tmp_path / "lr.tif", out=tmp_path / "sr.tif", scale=3, method="bicubic-bp", tile=12, progress=False, say=None
    )
    assert (tmp_path / "sr.tif").read_bytes() == (folder / "sr.tif").read_bytes()


def test_stopped_and_gone_on_is_the_same_file(place, tmp_path):
    folder = place[0]
    told = {"scale": 3, "method": "bicubic-bp", "tile": 12, "say": None}

    def stop(done, total):
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        super_resolve_file(folder / "lr.tif", out=tmp_path / "sr.tif", progress=stop, **told)
    assert not (tmp_path / "sr.tif").exists() and not (tmp_path / "sr.tif.card.json").exists()
    with pytest.raises(ValueError, match="`resume` must be of the run that was stopped"):
        super_resolve_file(
            folder / "lr.tif", out=tmp_path / "sr.tif", resume=True, progress=False, **told | {"scale": 2}
        )
    write_tif(tmp_path / "lr.tif", *coarse(1))
    with pytest.raises(ValueError, match="got another content of the scene"):
        super_resolve_file(tmp_path / "lr.tif", out=tmp_path / "sr.tif", resume=True, progress=False, **told)
    (tmp_path / "lr.tif").unlink()
    seen = []
    super_resolve_file(
        folder / "lr.tif", out=tmp_path / "sr.tif", resume=True, progress=lambda *pair: seen.append(pair), **told
    )
    assert seen[0] == (2, 6) and seen[-1] == (6, 6)
    assert (tmp_path / "sr.tif").read_bytes() == (folder / "sr.tif").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["sr.tif", "sr.tif.card.json"]


def test_blur_and_noise_may_be_told(place, tmp_path):
    folder = place[0]
    np.savetxt(tmp_path / "psf.txt", np.outer([1, 2, 1], [1, 2, 1]))
    np.savetxt(tmp_path / "noise.txt", np.full(BANDS, 50.0))
    told = {"scale": 3, "method": "bicubic-bp", "psf": tmp_path / "psf.txt", "noise": tmp_path / "noise.txt"}
    found = inspect_file(folder / "lr.tif", **told)
    assert found.recipe.camera.psf.tolist() == (np.outer([1, 2, 1], [1, 2, 1]) / 16).tolist()
    assert found.recipe.band_noise.tolist() == [50.0] * BANDS
    assert np.mean(
        inspect_file(folder / "lr.tif", scale=3, method="bicubic-bp", psf=2.5).recipe.camera.fwhm_px
    ) == pytest.approx(2.5, rel=0.05)


# --- what is understood -----------------------------------------------------------------------------------------------


def test_inspection_says_all_and_writes_nothing(place, capsys):
    folder = place[0]
    before = sorted(folder.iterdir())
    assert main(["--inspect", str(folder / "lr.tif"), "--scale", "3", "--method", "bicubic-bp"]) == 0
    said = capsys.readouterr().out
    for text in (
        "lr.tif: 20×26 px, 9 bands, int16", "430 to 910 nm", "60 m", "EPSG:32616",
        "1.15 % of the pixels (marked by -9999)", "SNR", "FWHM", "×3 (as asked for)", "1 tile,", "GB on the disk",
    ):  # fmt: skip
        assert text in said
    assert sorted(folder.iterdir()) == before


RATIOS = [  # metres of the scene and of the reference, what comes of it
    (30.0, 10.0, 3, "30 m against 10 m"),
    (30.0, 5.0, 6, "30 m against 5 m"),
    (20.0, 9.97, 2, "20 m against 9.97 m"),
    (30.0, 7.0, 4, "the usual one, since 30 m against 7 m is ×4.29: --scale says another"),
    (30.0, None, 4, "the usual one: --scale says another"),
]


@pytest.mark.parametrize(("own", "other", "scale", "why"), RATIOS)
def test_the_ratio_is_that_of_the_pixels(own, other, scale, why):
    class Sized:
        def __init__(self, gsd_m):
            self.gsd_m = gsd_m

    assert options.scale_of(Sized(own), [Sized(other)], "auto") == (scale, why)


# --- what is refused --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def odd(tmp_path_factory):
    """Files that are odd, each in its own way."""
    folder = tmp_path_factory.mktemp("odd")
    numbers, nm = coarse()
    write_tif(folder / "good.tif", numbers, nm)
    write_tif(folder / "small.tif", numbers[:, :8, :8], nm)
    write_tif(folder / "empty.tif", np.full_like(numbers, HOLE), nm)
    write_tif(folder / "flat.tif", np.full_like(numbers, 7), nm)
    (folder / "renamed.tif").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(300))
    (folder / "renamed.hdr").write_text("a letter\n", encoding="utf-8")
    (folder / "there.tif").write_bytes(b"somebody's work")
    (folder / "text.txt").write_text("not a number\n", encoding="utf-8")
    np.savetxt(folder / "even.txt", np.ones((4, 4)))
    np.savetxt(folder / "two.txt", [500, 600])
    return folder


GOOD = "good.tif --out new.tif --method bicubic-bp"
BAD = [  # command line, what the one line says
    ("good.tif", "`out` must be a file to write to, as --out sr.tif (or --inspect, to write nothing), got none"),
    ("none.tif --out new.tif", "got none.tif"),
    ("renamed.tif --out new.tif", "`path` must be a GeoTIFF, as its ending says, got renamed.tif"),
    ("renamed.hdr --out new.tif", "`path` must be an ENVI header"),
    ("good.tif --out there.tif", "`out` must be a new file (or say overwrite=True, --overwrite), got there.tif"),
    ("good.tif --out good.tif --overwrite", "`out` must be another file than the scene's"),
    ("good.tif --out new.png", "`out` must be a file ending in .tif"),
    ("good.tif --out new", "`out` must be a file ending in .tif"),
    ("good.tif --out nowhere/new.tif", "`out` must be a file in a folder that is there"),
    ("good.tif --out new.tif --uncertainty new.tif", "`uncertainty` must be another file"),
    (f"{GOOD} --scale 5", "`scale` must be 2, 3, 4, 6 (the ratios that there are weights for), got 5"),
    (f"{GOOD} --scale 0", "`scale` must be 2, 3, 4, 6"),
    ("good.tif --out new.tif --method ctmem --scale 3", "`scale` must be 4 for the method 'ctmem'"),
    ("good.tif --out new.tif --method ctmem", "`references` must be at least one fine image"),
    ("good.tif --out new.tif --method fusion", "`references` must be at least one fine image"),
    (f"{GOOD} --psf wide", "`psf` must be 'auto', a width in fine pixels, or a text file of weights, got 'wide'"),
    (f"{GOOD} --psf -2", "`psf` must be a width above 0"),
    (f"{GOOD} --psf nan", "`psf` must be a width above 0"),
    (f"{GOOD} --scale 3 --psf even.txt", "`psf` must be a square table of odd sides, for scale 3, got 4×4 numbers"),
    (f"{GOOD} --psf two.txt", "`psf` must be a square table of even sides"),
    (f"{GOOD} --psf text.txt", "`path` must be a text file of numbers, got text.txt, which holds none"),
    (f"{GOOD} --noise loud", "`noise` must be 'auto', 'none', a ratio in dB, or a text file"),
    (f"{GOOD} --noise 1e9", "`noise` must be a ratio from -20 to 200 dB"),
    (f"{GOOD} --noise two.txt", "`noise` must be 9 deviations ≥ 0, one per band, got 2 number(s)"),
    (f"{GOOD} --bands B08", "`bands[0]` must be a band of the file"),
    (f"{GOOD} --bands 9", "`bands[0]` must be a whole number from 0 to 8, got 9"),
    (f"{GOOD} --wavelengths two.txt", "`wavelengths_nm` must be 9 numbers in nm, one per band, got 2 numbers"),
    (f"{GOOD} --axes CHW", "`axes` must be None: the format of the file leaves no choice"),
    (f"{GOOD} --memory 0.1", "`memory_gb` must be at least"),
    (f"{GOOD} --dtype int12", "`dtype` must be a type of real numbers"),
    ("small.tif --out new.tif", "`path` must be a scene of at least 12×12 px, got small.tif of 8×8 px"),
    ("empty.tif --out new.tif", "must be a scene with at least one pixel that has data"),
    ("flat.tif --out new.tif --method bicubic-bp", "more than one spectrum"),
]


@pytest.mark.parametrize(("line", "said"), BAD, ids=[line for line, _ in BAD])
def test_bad_input_is_one_line_and_status_2_and_nothing_is_written(odd, line, said, monkeypatch, capsys):
    monkeypatch.chdir(odd)
    before = sorted((path.name, path.stat().st_mtime_ns) for path in odd.iterdir())
    assert main(line.split()) == 2
    error = capsys.readouterr().err
    assert said in error and error.startswith("error: ") and error.count("\n") == 1, error
    assert sorted((path.name, path.stat().st_mtime_ns) for path in odd.iterdir()) == before


def test_an_option_that_cannot_be_read_is_one_line_and_status_2(odd, monkeypatch, capsys):
    monkeypatch.chdir(odd)
    with pytest.raises(SystemExit) as stopped:
        main(["good.tif", "--out", "new.tif", "--no-data", "abc"])
    error = capsys.readouterr().err
    assert stopped.value.code == 2 and error.count("\n") == 1
    assert error.startswith("error: argument --no-data: must be numbers with commas between them, got 'abc'")
    assert not (odd / "new.tif").exists()


def test_a_traceback_only_where_it_is_asked_for(odd, monkeypatch, capsys):
    monkeypatch.chdir(odd)
    assert main(["none.tif", "--out", "new.tif", "--debug"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("Traceback") and error.endswith("\n") and "error: `path`" in error


@pytest.mark.skipif(os.name == "nt" or not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root writes everywhere")
def test_a_folder_that_is_read_only(odd, tmp_path, capsys):
    tmp_path.chmod(0o500)
    assert main([str(odd / "good.tif"), "--out", str(tmp_path / "new.tif")]) == 2
    assert "`out` must be a file in a folder that can be written" in capsys.readouterr().err


# --- the door and the command -----------------------------------------------------------------------------------------


def test_the_module_of_the_command_does_not_hide_the_function():
    assert ctmem.super_resolve is importlib.import_module("ctmem.inference").super_resolve
    assert importlib.import_module("ctmem.super_resolve").main is main
    assert ctmem.super_resolve_file is super_resolve_file and ctmem.inspect_file is inspect_file


def test_importing_the_module_again_leaves_the_function_in_place(monkeypatch):
    monkeypatch.delitem(sys.modules, "ctmem.super_resolve")
    assert importlib.import_module("ctmem.super_resolve") is sys.modules["ctmem.super_resolve"]
    assert callable(ctmem.super_resolve) and ctmem.super_resolve.__module__ == "ctmem.inference"


def test_help_of_the_module():
    ran = subprocess.run(
        [sys.executable, "-m", "ctmem.super_resolve", "--help"], capture_output=True, encoding="utf-8", timeout=120
    )
    assert ran.returncode == 0 and ran.stdout.startswith("usage: ctmem-sr") and not ran.stderr


def test_every_option_has_its_help():
    assert all(action.help for action in new_parser()._actions)


# --- how far it may be off --------------------------------------------------------------------------------------------


def test_the_deviation_is_a_second_file_of_the_same_form(place, tmp_path):
    folder = place[0]
    told = {"scale": 3, "method": "bicubic-bp", "tile": 12, "progress": False, "say": None}
    card = super_resolve_file(folder / "lr.tif", out=tmp_path / "sr.tif", uncertainty=tmp_path / "std.tif", **told)
    std, profile = read(tmp_path / "std.tif")
    fine, _ = read(tmp_path / "sr.tif")
    assert card["output"]["uncertainty"] == "std.tif" and std.dtype == np.float32 and std.shape == fine.shape
    assert profile["transform"] == from_origin(500_000, 4_480_000, 20, 20)
    holes = (fine == HOLE).all(0)
    missing = ~np.isfinite(std) | (std == profile["nodata"])
    assert (missing == holes).all() and (std[:, ~holes] > 0).all()
    assert (tmp_path / "sr.tif").read_bytes() == (folder / "sr.tif").read_bytes()
    # the truth is known: a third to all of the errors lie within one deviation
    scene = synthetic(0, height=3 * HEIGHT, width=3 * WIDTH, bands=BANDS, range_nm=(430.0, 910.0))
    error = np.abs(fine - 10_000 * scene.cube.transpose(2, 0, 1))[:, ~holes]
    assert 0.33 < float((error < std[:, ~holes]).mean()) < 0.95


def test_a_scene_too_small_to_know_its_errors_says_so(odd, monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(odd)
    line = f"good.tif good.tif --method ctmem --scale 4 --out {tmp_path}/a.tif --uncertainty {tmp_path}/b.tif"
    assert main(line.split()) == 2
    assert "`uncertainty` must be left out for the method 'ctmem'" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_references_from_file_to_file(odd, tmp_path, monkeypatch, capsys):
    """The texture of a reference goes into the answer of the method ctmem; stopped and gone on with another one is refused."""
    monkeypatch.chdir(odd)
    numbers, nm = coarse(3)
    fine = write_tif(tmp_path / "ref.tif", numbers[[1, 3, 5]], nm[[1, 3, 5]], transform=from_origin(0, 0, 15, 15))
    card = super_resolve_file("good.tif", fine, out=tmp_path / "a.tif", method="ctmem", progress=False, say=None)
    assert (card["method"], card["scale"], card["told"]["references"]) == ("ctmem", 4, ["ref.tif"])
    answer, _ = read(tmp_path / "a.tif")
    assert answer.shape == (BANDS, 4 * HEIGHT, 4 * WIDTH)
    means = answer.reshape(BANDS, HEIGHT, 4, WIDTH, 4).mean((2, 4))
    given, _ = read("good.tif")
    assert np.corrcoef(means.ravel(), given.ravel())[0, 1] > 0.99
