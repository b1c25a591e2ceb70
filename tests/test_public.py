"""The known public scenes, the check of a file against them, and the paper's set-up on stand-ins of the same form."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.io import savemat

from ctmem.benchmark import paper
from ctmem.benchmark.__main__ import main as benchmark
from ctmem.benchmark.suites import SUITES, USUAL, missing
from ctmem.data import public
from ctmem.data.known_scenes import BOXES_NM, PUBLIC, describe, response_for
from ctmem.train.sources import read_response

SMALL = {"pavia-centre": (60, 50, 102), "pavia-university": (40, 30, 103)}


def ground(shape, seed=0):
    """Numbers like those of a scene: smooth in wavelength, never 0."""
    generator = np.random.default_rng(seed)
    base = generator.integers(200, 4000, (*shape[:2], 1))
    return (base * np.linspace(0.5, 1.5, shape[2])).astype(np.uint16)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Stand-ins of Pavia's two files, small, and what is known of the real ones with their size."""
    for name, shape in SMALL.items():
        monkeypatch.setitem(PUBLIC, name, replace(PUBLIC[name], shape=shape))
        savemat(tmp_path / PUBLIC[name].files[0], {PUBLIC[name].keys[0]: ground(shape, seed=shape[0])})
    return tmp_path


def test_what_is_known_fits_together():
    for name, scene in PUBLIC.items():
        height, width, bands = scene.shape
        assert min(height, width) > 100 and 30 < bands < 200
        centres = scene.wavelengths_nm
        assert centres.shape == (bands,)
        known = centres[np.isfinite(centres)]
        assert ((known > 350) & (known < 2500)).all() and (np.diff(known) > 0).all()
        assert scene.licence and scene.ask and scene.source and scene.title in describe(name)
        if name not in ("dc-mall", "cave"):
            assert response_for(known).shape == (4, len(known))


def test_bands_of_hyperion_by_their_numbers():
    """The centres in the instrument's own table, of bands at the ends of the five ranges."""
    centres = PUBLIC["botswana"].wavelengths_nm
    assert len(centres) == 46 + 16 + 18 + 31 + 34 == 145
    for place, nm in [(0, 447.17), (45, 905.05), (46, 962.91), (61, 1114.19), (144, 2355.21)]:
        assert centres[place] == pytest.approx(nm, abs=1)


def test_layers_that_are_no_bands():
    houston = PUBLIC["houston-2018"]
    assert np.isnan(houston.wavelengths_nm[48:]).all() and np.isfinite(houston.wavelengths_nm[:48]).all()
    assert houston.wavelengths_for(48) == pytest.approx(houston.wavelengths_nm[:48])
    assert houston.wavelengths_for(49) is None
    assert houston.wavelengths_nm[1] == pytest.approx(388.7, abs=0.02)


def test_four_boxes_weigh_the_bands_inside_them():
    srf = response_for(np.arange(400.0, 901, 10))
    centres = torch.arange(400.0, 901, 10)
    assert (srf @ centres).tolist() == pytest.approx([sum(box) / 2 for box in BOXES_NM])


def test_the_known_file_is_known(folder):
    for name in SMALL:
        verdict = public.verify(folder / PUBLIC[name].files[0])
        assert (verdict.name, verdict.odd) == (name, ()) and verdict.known
        assert "is known" in str(verdict)


ODD = [  # how the copy differs, and what is said
    (lambda x: {"pavia": x / 8000.0}, "its numbers are float64, not uint16"),
    (lambda x: {"pavia": x / 8000.0}, "somebody has scaled them"),
    (lambda x: {"ori_data": x}, "its array is called 'ori_data', not 'pavia'"),
    (lambda x: {"pavia": x.transpose(2, 0, 1)}, "its axes are in another order, 102×60×50 instead of 60×50×102"),
    (lambda x: {"pavia": x[:50]}, "a part of the scene, or another one"),
    (lambda x: {"pavia": np.where(np.arange(50)[None, :, None] < 5, 0, x)}, "are 0 in all bands: no_data=0"),
    (lambda x: {"pavia": np.where(np.arange(102) == 7, 9, x)}, "band(s) 7, counted from 0, are constant"),
    (lambda x: {"pavia": np.where(np.arange(102) == 7, np.nan, x)}, "are NaN or infinite"),
    (lambda x: {"pavia": -x.astype(np.int16)}, "of the values looked at are negative"),
]


@pytest.mark.parametrize(("change", "said"), ODD, ids=[said for _, said in ODD])
def test_what_is_odd_about_a_copy_is_said(folder, change, said):
    savemat(folder / "Pavia.mat", change(ground(SMALL["pavia-centre"])))
    verdict = public.verify(folder / "Pavia.mat", name="pavia-centre")
    assert not verdict.known and any(said in one for one in verdict.odd), verdict.odd


def test_another_name_and_another_scene(folder):
    (folder / "Pavia.mat").rename(folder / "centre.mat")
    assert public.verify(folder / "centre.mat").odd == ("it is called centre.mat, not Pavia.mat",)
    savemat(folder / "mine.mat", {"x": ground((12, 14, 7))})
    verdict = public.verify(folder / "mine.mat")
    assert verdict.name is None and "none of the known scenes (shape 12×14×7" in str(verdict)


def test_cave_is_a_folder_of_pictures(tmp_path, monkeypatch):
    monkeypatch.setitem(PUBLIC, "cave", replace(PUBLIC["cave"], shape=(20, 24, 31)))
    cube = ground((20, 24, 31))
    for band in range(31):
        Image.fromarray(cube[..., band]).save(tmp_path / f"toys_ms_{band + 1:02d}.png")
    assert public.verify(tmp_path).known
    Image.fromarray(np.zeros((20, 24, 3), np.uint8)).save(tmp_path / "toys_ms_01.png")
    with pytest.raises(ValueError, match="a folder of images of one band and one size, got .*toys_ms_01.png of shape"):
        public.verify(tmp_path)


def test_the_command(folder, capsys):
    assert public.main([]) == 0
    assert capsys.readouterr().out.count("\n") == len(PUBLIC)
    assert public.main(["chikusei"]) == 0
    assert "CC-BY-3.0" in capsys.readouterr().out
    assert public.main(["--verify", str(folder / "Pavia.mat")]) == 0
    assert "is known" in capsys.readouterr().out


BAD = [
    (["moon"], "`name` must be one of 'pavia-centre', .*, got 'moon'"),
    (["--verify", "none.mat"], "none.mat"),
    (["--bands", "bands.txt"], "`name` must be one of 'pavia-centre'"),
    (["dc-mall", "--bands", "bands.txt"], "`wavelengths_nm` must be a list of at least two finite"),
]


@pytest.mark.parametrize(("arguments", "said"), BAD)
def test_bad_input_is_one_line_and_status_2(arguments, said, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert public.main(arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1
    assert __import__("re").search(said, error), error
    assert not list(tmp_path.iterdir())


def test_training_reads_the_bands_that_are_written(tmp_path, capsys):
    assert public.main(["pavia-university", "--bands", str(tmp_path / "PaviaU.txt")]) == 0
    camera = read_response(tmp_path / "PaviaU.txt", 103, USUAL)
    wanted = response_for(PUBLIC["pavia-university"].wavelengths_nm)
    torch.testing.assert_close(camera.srf, wanted, atol=1e-6, rtol=0)
    assert public.main(["pavia-university", "--bands", str(tmp_path / "PaviaU.txt")]) == 2
    assert "which is there already" in capsys.readouterr().err


# --- the paper's set-up -----------------------------------------------------------------------------------------------


def test_the_suite_judges_patches_that_nothing_is_learned_from(folder):
    cases = paper.pavia(folder, side=16)
    assert [(case.scene, case.area) for case in cases] == [("pavia-centre", f"patch-{n}") for n in (1, 2, 3)]
    whole = ground(SMALL["pavia-centre"], seed=60)
    white = np.percentile(whole, 99.9)
    for number, case in enumerate(cases):
        assert (case.box.top, case.box.left, case.box.height, case.box.width) == (32, 16 * number, 16, 16)
        lr_hsi, gt = case.observed(USUAL, None)
        assert lr_hsi.shape == (1, 102, 4, 4)
        rows, columns = case.box.slices
        wanted = np.clip(whole[rows, columns] / white, 0, 1).transpose(2, 0, 1)
        np.testing.assert_allclose(gt[0], wanted, atol=1e-5)
        ((_, learned),) = case.training
        assert not learned.overlaps(case.box, halo=USUAL.halo)
        assert case.own.shape == (1, 4, 40, 30) and float(case.own.max()) == 1


def test_the_reference_is_brought_to_the_pixels_of_the_judged_scene(folder, monkeypatch):
    monkeypatch.setitem(PUBLIC, "pavia-university", replace(PUBLIC["pavia-university"], gsd_m=2.6))
    assert paper.pavia(folder, side=16)[0].own.shape == (1, 4, 80, 60)


def test_the_suites_say_what_they_lack(folder, tmp_path_factory):
    empty = tmp_path_factory.mktemp("empty")
    assert missing("paper-pavia", folder) == [] and missing("paper-pavia", empty) == ["Pavia.mat", "PaviaU.mat"]
    assert len(missing("paper-houston", empty)) == 2
    with pytest.raises(FileNotFoundError, match=r"`folder` must be one with Pavia.mat \(ask the page"):
        SUITES["paper-pavia"](empty, "validation")
    with pytest.raises(ValueError, match="at least two patches of 160×160 px below each other, got Pavia of 60×50 px"):
        SUITES["paper-pavia"](folder, "validation")


def test_the_benchmark_runs_it(folder, monkeypatch, tmp_path, capsys):
    monkeypatch.setitem(SUITES, "paper-pavia", lambda folder, area: paper.pavia(folder, area, side=16))
    arguments = ["--suite", "paper-pavia", "--scenes", str(folder), "--methods", "bicubic", "--references", "none"]
    assert benchmark([*arguments, "--out", str(tmp_path / "out")]) == 0
    table = (tmp_path / "out" / "paper-pavia.csv").read_text(encoding="utf-8")
    assert table.count("\n") == 1 + 2 * 3  # before and after back-projection
