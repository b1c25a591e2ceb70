"""The benchmark command: suites, cameras, reference grades, the table and its resumption, and what the report says."""

from __future__ import annotations

import csv
import math
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import ctmem.inference  # noqa: F401  (it enters its methods)
from ctmem.benchmark import report, run, scores, suites
from ctmem.benchmark.__main__ import main
from ctmem.benchmark.cameras import GRID, parse_camera, parse_cameras
from ctmem.benchmark.judge import judge
from ctmem.benchmark.references import GRADES, moved
from ctmem.benchmark.run import Plan
from ctmem.benchmark.suites import Case, inwards
from ctmem.benchmark.table import COLUMNS, Table, read_rows
from ctmem.benchmark.weights import find_weights
from ctmem.config import TINY
from ctmem.data.areas import Box, split_areas
from ctmem.data.controls import CONTROLS, blobs, blurred, glued_windows, permuted, phase_scrambled, pink, uniform
from ctmem.data.samples import degrade_scene
from ctmem.data.scenes import load_scene, synthetic
from ctmem.evaluation.metrics import METRICS, psnr_db
from ctmem.files import save_module, write_json
from ctmem.methods.registry import METHODS, Entry, register_maker, register_method
from ctmem.model import build_networks, load_model
from ctmem.observe.camera import Camera


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def case_of(height=24, width=32, bands=31, **changes) -> Case:
    scene = synthetic(0, height=height, width=width, bands=bands)
    srf = suites.USUAL.for_wavelengths(scene.wavelengths_nm).srf
    own, other = (torch.rand(1, 4, *size, generator=seeded()) for size in ((20, 26), (18, 22)))
    return Case("made", "whole", scene.tensor(), srf, **({"own": own, "other": other} | changes))


@pytest.fixture
def entered():
    before = dict(METHODS)
    yield METHODS
    METHODS.clear()
    METHODS.update(before)


def plan(cases, methods, references=("none",), seeds=1, cameras=("usual",), **options):
    return Plan("made", cases, parse_cameras(cameras), methods, references, seeds, find_weights(), **options)


def silent(line):
    pass


# --- the command, in the form that takes less than a minute ---


@pytest.fixture(scope="module")
def quick(tmp_path_factory):
    folder = tmp_path_factory.mktemp("quick")
    assert main(["--suite", "embedded", "--quick", "--out", str(folder)]) == 0
    return folder


def test_quick_writes_a_row_for_each_answer_with_all_columns(quick):
    rows = read_rows(quick / "embedded-validation-quick.csv")
    assert tuple(rows[0]) == COLUMNS
    assert {"psnr_band_max_db", "seconds", "peak_memory_mb", "commit", "machine", *METRICS} <= set(COLUMNS)
    keys = [(r["scene"], r["method"], r["reference"], r["stage"]) for r in rows]
    references = {"bicubic": ["none"], "cnn": ["none"], "ctmem": ["none", "blobs", "own-sensor"]}
    assert keys == [
        (scene, method, reference, stage)
        for scene in ("indian_pines", "sentinel2_farmland")
        for method, names in references.items()
        for reference in names
        for stage in ("before", "after")
    ]
    assert {row["area"] for row in rows} == {"validation"}
    for row in rows:
        assert all(math.isfinite(float(row[name])) for name in ("gain_db", "seconds", "psnr_band_max_db", *METRICS))
        assert float(row["gain_low_db"]) <= float(row["gain_db"]) + 0.3
        assert row["commit"] and "core" in row["machine"]
        assert float(row["consistency"]) < (1e-3 if row["stage"] == "after" else 0.1)


def test_quick_says_in_markdown_what_stands_in_the_table(quick):
    rows = read_rows(quick / "embedded-validation-quick.csv")
    text = (quick / "embedded-validation-quick.md").read_text(encoding="utf-8")
    cells = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("|")
    ]
    scene = None
    checked = 0
    for line in text.splitlines():
        title = re.match(r"## (\w+), validation \(", line)
        scene = title[1] if title else (None if line.startswith("## ") else scene)
        if scene is None or not line.startswith("| ") or line.startswith(("| method", "| ---")):
            continue
        method, reference, gain, before, psnr, peak, sam, *_ = (cell.strip() for cell in line.strip("| ").split(" | "))
        method = "bicubic" if method == "back-projection" else method
        of = {r["stage"]: r for r in rows if (r["scene"], r["method"], r["reference"]) == (scene, method, reference)}
        assert gain.split()[0] == f"{float(of['after']['gain_db']):+.3f}"
        assert before == f"{float(of['before']['gain_db']):+.3f}"
        wanted = [f"{float(of['after'][name]):.2f}" for name in ("psnr_db", "psnr_band_max_db")]
        assert [psnr, peak, sam] == [*wanted, f"{float(of['after']['sam_deg']):.3f}"]
        checked += 1
    assert checked == 8 and cells
    worth = list(csv.DictReader((quick / "embedded-validation-quick-worth.csv").open(encoding="utf-8")))
    assert [(w["scene"], w["reference"]) for w in worth] == [
        (s, "own-sensor") for s in ("indian_pines", "sentinel2_farmland")
    ]
    assert all(f"{float(w['worth_db']):+.3f} [" in text and f"| {w['best_control']} |" in text for w in worth)


MINE = """\
from ctmem.methods.registry import register_method

@register_method("of-mine", uses_reference=False)
def of_mine(lr_hsi, ref_msi, camera):
    return camera.upsample(lr_hsi)
"""


def test_a_file_of_mine_brings_its_method(tmp_path, monkeypatch, entered, capsys):
    (tmp_path / "file_of_mine.py").write_text(MINE, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    options = ["--suite", "embedded", "--quick", "--references", "none", "--out", str(tmp_path)]
    assert main([*options, "--methods", "of-mine", "bicubic", "--import", "file_of_mine"]) == 0
    gains = {row["method"]: row["gain_db"] for row in read_rows(tmp_path / "embedded-validation-quick.csv")}
    assert gains["of-mine"] == gains["bicubic"]
    assert main([*options, "--import", "no_file_of_mine"]) == 1
    assert "`import` must be a module that Python finds" in capsys.readouterr().err


def test_a_second_run_measures_nothing_and_changes_nothing(quick, capsys):
    path = quick / "embedded-validation-quick.csv"
    before = path.read_bytes()
    assert main(["--suite", "embedded", "--quick", "--out", str(quick)]) == 0
    assert path.read_bytes() == before
    assert capsys.readouterr().out.splitlines() == [
        "tables: embedded-validation-quick.md, embedded-validation-quick.csv"
    ]


def test_without_a_suite_it_lists_them_and_says_what_is_absent(tmp_path, capsys):
    assert main(["--scenes", str(tmp_path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1] == "  embedded: ready"
    assert lines[2].startswith("  la: absent: aviris_la_airport1.npz, ") and lines[3].startswith(
        "  pair: absent: paris_"
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--suite", "la"], "`scenes` must be a folder with aviris_la_airport1.npz, .*, got one without aviris_la"),
        (["--suite", "pair"], "`scenes` must be a folder with paris_hyperion_hsi.npz"),
        (["--suite", "folder"], "`path` must be a folder for the suite 'folder'"),
        (["--suite", "embedded", "--methods", "magic"], "`methods` must be one of 'bicubic', .*, got 'magic'"),
        (["--suite", "embedded", "--references", "magic"], "`references` must be one of 'none', .*, got 'magic'"),
        (["--suite", "embedded", "--cameras", "x4-x2"], "`cameras` must be 'usual', or each once of x2"),
        (["--suite", "embedded", "--seeds", "0"], "`seeds` must be a whole number from 1 to 10000, got 0"),
        (["--suite", "embedded", "--quick", "--areas", "test"], "`areas` must be 'validation' but for the whole suite"),
        (["--suite", "embedded", "--weights", "nowhere"], "`folder` must be one with card.json and weights"),
    ],
)
def test_wrong_options_are_one_clear_error(tmp_path, capsys, arguments, message):
    assert main([*arguments, "--scenes", str(tmp_path), "--out", str(tmp_path / "out")]) == 1
    assert re.search("error: " + message, capsys.readouterr().err)
    assert not (tmp_path / "out").exists()


# --- scenes ---


def test_the_embedded_suite_judges_an_area_and_fits_and_refers_to_others():
    for case in suites.embedded(Path(), "validation"):
        scene = load_scene(case.scene)
        areas = split_areas(*(side // 4 * 4 for side in scene.cube.shape[:2]), suites.USUAL)
        assert case.box == areas["validation"] and case.training[0][1] == areas["train"]
        lr_hsi, gt = case.observed(suites.USUAL, None)
        assert torch.equal(gt, scene.tensor()[..., *areas["validation"].slices])
        assert lr_hsi.shape[2:] == tuple(side // 4 for side in gt.shape[2:])
        seen = suites.USUAL.__class__.gaussian(srf=case.srf).see(scene.tensor()[..., *areas["reference"].slices])
        assert torch.allclose(case.own, seen, atol=1e-6)
    assert not torch.equal(case.own, case.other)


def test_the_same_ground_is_judged_at_every_scale():
    case = case_of(48, 64, box=Box(13, 6, 30, 41))
    for scale in (2, 3, 4):
        box = case.place(scale)
        assert box.top >= 13 and box.left >= 6 and box.top + box.height <= 43 and box.left + box.width <= 47
        lr_hsi, gt = case.observed(Camera.gaussian(scale=scale), None)
        assert gt.shape[2:] == (box.height, box.width)
        assert lr_hsi.shape[2:] == (box.height // scale, box.width // scale)
    with pytest.raises(ValueError, match="`scene` must be ground of at least 11 px a side at scale 8, got 12×12 px"):
        inwards(Box(4, 4, 12, 12), 8)


def test_noise_is_of_the_level_of_what_is_judged_and_of_its_generator():
    case = case_of()
    clean, _ = case.observed(suites.USUAL, None)
    noisy = [case.observed(replace(suites.USUAL, snr_db=30.0), seeded(seed))[0] for seed in (0, 0, 1)]
    assert torch.equal(noisy[0], noisy[1]) and not torch.equal(noisy[0], noisy[2])
    ratio = float(clean.square().mean() / (noisy[0] - clean).square().mean())
    assert 10 * math.log10(ratio) == pytest.approx(30, abs=0.5)


def write_los_angeles(folder, names=suites.LOS_ANGELES):
    wavelengths = np.linspace(400, 2500, 40)
    for index, name in enumerate(names):
        cube = np.random.default_rng(index).integers(0, 1000, (16, 20, 40)).astype(np.uint16)
        np.savez(folder / f"aviris_la_{name}.npz", cube=cube, wavelength_nm=wavelengths)


def test_los_angeles_is_judged_scene_by_scene_and_fitted_on_the_others(tmp_path):
    write_los_angeles(tmp_path)
    cases = suites.los_angeles(tmp_path)
    assert [case.scene for case in cases] == list(suites.LOS_ANGELES)
    for case in cases:
        others = [ground for (ground, _), _ in case.training]
        assert len(others) == 3 and not any(torch.equal(case.cube, other) for other in others)
        assert float(case.cube.min()) >= 0 and float(case.cube.max()) == 1
        assert case.own.shape[1] == 4 and not torch.equal(
            case.own, case.same_ground(replace(suites.USUAL, srf=case.srf))
        )


def test_the_pair_has_a_half_with_truth_and_one_without(tmp_path):
    generator = np.random.default_rng(0)
    np.savez(tmp_path / "paris_hyperion_hsi.npz", cube=generator.random((60, 64, 30)).astype(np.float32))
    response = generator.random((9, 30))
    ali = generator.random((60, 64, 9)).astype(np.float32)
    np.savez(tmp_path / "paris_ali_msi.npz", cube=ali, R_ali_from_hyperion=response)
    table = Table(tmp_path / "t.csv")
    run.run(plan(suites.pair(tmp_path), ["bicubic"], qnr=True), table, silent)
    reduced, as_it_is = (
        next(r for r in table.rows if r["area"] == a and r["stage"] == "after") for a in ("reduced", "as it is")
    )
    assert reduced["psnr_db"] and reduced["qnr"] and reduced["d_s"]
    assert not as_it_is["psnr_db"] and not as_it_is["qnr"] and as_it_is["d_lambda"] and as_it_is["consistency"]
    assert "cannot see whether fine detail is right" in re.sub(
        r"\s+", " ", report.report(table.rows, [], "pair")
    ).replace("They ", "")


def test_a_folder_of_files_with_two_arrays_each(tmp_path):
    scene = synthetic(0, height=48, width=48, bands=5)
    for name in ("one", "two"):
        np.savez(tmp_path / f"{name}.npz", HSI=scene.cube, MSI=scene.cube[..., :2])
    (tmp_path / "._one.npz").write_bytes(b"left by a file manager")
    with pytest.raises(
        ValueError, match=r"`key` must be given unless .* holds 'HSI' \(48, 48, 5\), 'MSI' \(48, 48, 2\)"
    ):
        suites.own_folder(tmp_path)
    cases = suites.own_folder(Path(f"{tmp_path}:MSI"))
    assert [(case.scene, tuple(case.cube.shape)) for case in cases] == [
        ("one", (1, 2, 48, 48)),
        ("two", (1, 2, 48, 48)),
    ]
    np.save(tmp_path / "one.npy", scene.cube)
    with pytest.raises(ValueError, match="`path` must be a folder with files of different names, got two called one"):
        suites.own_folder(Path(f"{tmp_path}:HSI"))


def test_a_folder_of_files_with_and_without_wavelengths(tmp_path, capsys):
    for index, name in enumerate(("a", "b", "c")):
        scene = synthetic(index, height=24, width=28, bands=31)
        np.save(tmp_path / f"{name}.npy", scene.cube)
        if name != "c":
            np.savetxt(tmp_path / f"{name}.txt", scene.wavelengths_nm)
    out = tmp_path / "out"
    arguments = ["--suite", "folder", str(tmp_path), "--methods", "bicubic", "knn", "knn-reference"]
    assert main([*arguments, "--references", "none", "own-sensor", "same", "--out", str(out)]) == 0
    rows = [row for row in read_rows(out / "folder.csv") if row["stage"] == "after"]
    found = {(row["scene"], row["method"], row["reference"]) for row in rows}
    known = {("knn-reference", "none"), ("knn-reference", "own-sensor"), ("knn-reference", "same")}
    always = {("bicubic", "none"), ("knn", "none")}
    assert found == {(s, *key) for s in "ab" for key in known | always} | {
        ("c", *key) for key in always | {("knn-reference", "none")}
    }
    empty = tmp_path / "empty"
    empty.mkdir()
    assert main(["--suite", "folder", str(empty)]) == 1
    assert "`path` must be a folder with files ending in .mat, .npy, .npz" in capsys.readouterr().err


# --- cameras ---


def test_cameras_by_name():
    assert parse_camera("usual").true.same_optics(Camera.gaussian(scale=4))
    assumed = parse_camera("x2-fwhm5-snr30-assumed")
    assert assumed.true.snr_db == 30 and assumed.true.fwhm_px[0] == pytest.approx(5, abs=0.2)
    assert assumed.told.same_optics(Camera.gaussian(scale=2)) and assumed.told.snr_db is None
    box = parse_camera("x3-box").true.psf
    assert torch.equal(box, torch.full((3, 3), 1 / 9))
    assert [one.name for one in parse_cameras(["grid", "usual"])] == list(GRID)
    for bad in ("", "x", "box-fwhm3", "fwhm3-fwhm3", "snr", "assumed-assumed", "told"):
        with pytest.raises(ValueError, match="`cameras` must be 'usual', or each once of"):
            parse_camera(bad)


def test_a_method_that_does_not_do_a_scale_is_a_dash_with_its_reason(tmp_path):
    table = Table(tmp_path / "t.csv")
    run.run(plan([case_of()], ["bicubic", "cnn"], cameras=["usual", "x2"]), table, silent)
    text = report.report(table.rows, [], "t")
    (line,) = [line for line in text.splitlines() if line.startswith("| x2 |")]
    assert line.split(" | ")[-1] == "— |"
    assert "- cnn, x2: `camera` must be one of scale 4, as the weights, got scale 2" in text


def test_where_the_camera_is_assumed_the_method_is_told_of_the_usual_one(tmp_path, entered):
    told = []
    register_method("spy", lambda lr, ref, camera: told.append(camera) or camera.upsample(lr))
    case = case_of()
    run.run(plan([case], ["spy"], cameras=["box", "box-assumed"]), Table(tmp_path / "t.csv"), silent)
    assert [camera.same_optics(Camera.gaussian(scale=4)) for camera in told] == [False, True]
    assert all(torch.equal(camera.srf, case.srf) for camera in told)


# --- reference grades ---


def test_every_grade_is_an_image_of_the_msi_bands_in_the_unit_range():
    case = case_of()
    camera = replace(suites.USUAL, srf=case.srf)
    for name, grade in GRADES.items():
        image = grade.make(case, camera, seeded())
        if name == "none":
            assert image is None
            continue
        assert image.shape[:2] == (1, 4) and float(image.min()) >= 0 and float(image.max()) <= 1, name
        again, other = grade.make(case, camera, seeded()), grade.make(case, camera, seeded(5))
        assert torch.equal(image, again), name
        assert not grade.random or not torch.equal(image, other) or name == "permuted", name
    assert [grade.kind for grade in GRADES.values()] == ["control"] * 9 + ["real"] * 2 + ["same"] * 3


def test_scrambled_phases_keep_the_spectrum_and_the_likeness_of_bands_but_no_edge():
    image = 0.5 + 0.2 * (blobs(torch.zeros(1, 3, 48, 64), seeded()) - 0.5)
    image[:, 1] = 1 - image[:, 1]
    scrambled = phase_scrambled(image, seeded(1))
    spectra = [torch.fft.rfft2(x - x.mean((2, 3), keepdim=True)).abs() for x in (image, scrambled)]
    assert torch.allclose(*spectra, atol=1e-3 * float(spectra[0].max()))
    assert torch.allclose(*(torch.corrcoef(x[0].flatten(1)) for x in (image, scrambled)), atol=1e-4)
    assert len(image[:, 0].unique()) == 2 and len(scrambled[:, 0].unique()) > 1000


def test_a_blurred_reference_has_lost_what_is_finer_than_four_pixels():
    point = torch.zeros(1, 1, 33, 33)
    point[..., 16, 16] = 1
    spread = blurred(point, seeded())[0, 0, 16]
    assert float(spread[18] / spread[16]) == pytest.approx(0.5, abs=1e-3)  # half of the width of 4 px from its middle


# --- a reference judged ---


def judged(answer, seeds=1, **options):
    """A verdict on two areas of a scene, whose answer sees no more than `answer` does."""
    scene = synthetic(0, height=64, width=96, bands=31)
    whole = degrade_scene(scene.tensor(), suites.USUAL.for_wavelengths(scene.wavelengths_nm))
    areas = [whole.cut(Box(0, left, 64, 48)) for left in (0, 48)]
    truth = {id(area.lr_hsi): area.gt for area in areas}
    reference = torch.rand(1, 4, 40, 40, generator=seeded(5))
    return judge(lambda lr, ref: answer(truth[id(lr)], ref), reference, areas, seeds=seeds, **options)


def off_by(error):
    return lambda gt, ref: gt + error(ref)


def test_a_reference_is_worth_what_it_gains_beyond_the_best_control():
    # an error of 0.1 without a reference, a half of it with any, a quarter with the reference itself
    mine = torch.rand(1, 4, 40, 40, generator=seeded(5))
    found = judged(off_by(lambda ref: 0.1 if ref is None else 0.025 if torch.equal(ref, mine) else 0.05))
    assert found.reference.gain_db == pytest.approx(20 * math.log10(4), abs=1e-4)
    assert set(found.controls) == set(CONTROLS)
    assert all(gain.gain_db == pytest.approx(20 * math.log10(2), abs=1e-4) for gain in found.controls.values())
    assert found.worth == pytest.approx(20 * math.log10(2), abs=1e-4) and found.helps
    assert str(found).splitlines()[0] == "reference            +12.04 dB  [+12.04, +12.04]"
    assert len(str(found).splitlines()) == 2 + len(CONTROLS)


def test_what_any_image_gives_is_not_the_places_worth():
    found = judged(off_by(lambda ref: 0.1 if ref is None else 0.05))
    assert found.reference.gain_db == pytest.approx(20 * math.log10(2), abs=1e-4)
    assert found.worth == pytest.approx(0, abs=1e-9) and not found.helps


def test_controls_that_harm_leave_the_answer_without_a_reference_as_the_best():
    found = judged(off_by(lambda ref: 0.1 if ref is None else 0.2), controls={"pink": pink})
    assert found.best == "none" and found.worth == found.reference.gain_db < -6


def test_the_scatter_of_a_random_control_counts():
    found = judged(off_by(lambda ref: 0.1 if ref is None else 0.02 + 0.1 * abs(float(ref.mean()) - 0.5)), seeds=3)
    assert found.controls["uniform"].scatter_db > 0 and found.controls["negative"].scatter_db == 0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"areas": []}, "`areas` must be one or more of `Degraded`"),
        ({"areas": [1]}, "`areas` must be one or more of `Degraded`, got .*int"),
        ({"controls": {}}, "`controls` must be at least one function by name"),
        ({"seeds": 0}, "`seeds`"),
    ],
)
def test_what_cannot_be_judged_is_refused(changes, message):
    usual = {"answer": lambda lr, ref: lr, "reference": torch.rand(1, 4, 8, 8), "areas": []}
    with pytest.raises(ValueError, match=message):
        judge(**(usual | changes))


def test_scenes_without_a_response_have_no_references():
    case = replace(case_of(), srf=None, own=None)
    assert all(grade.make(case, suites.USUAL, seeded()) is None for grade in GRADES.values())


def test_noises_are_what_they_are_called():
    like = torch.zeros(1, 3, 64, 96)
    spectra = {}
    for make in (uniform, pink):
        image = make(like, seeded())
        power = torch.fft.rfft2(image - image.mean((2, 3), keepdim=True)).abs().square().mean((0, 1))
        radius = (torch.fft.fftfreq(64)[:, None].square() + torch.fft.rfftfreq(96).square()).sqrt()
        low, high = (power[(radius > a) & (radius < b)].mean() for a, b in ((0.04, 0.06), (0.4, 0.5)))
        spectra[make] = float(low / high)
        bands = torch.corrcoef(image[0].flatten(1))
        assert float((bands - torch.eye(3)).abs().max()) < 0.5  # every band its own
    assert spectra[uniform] == pytest.approx(1, abs=0.5)
    assert spectra[pink] == pytest.approx(81, rel=0.7)  # (0.45 / 0.05)²
    image = blobs(like, seeded())
    assert len(image.unique()) == 2
    assert torch.equal(image[:, 0], image[:, 2]) and float((image == image.max()).float().mean()) == pytest.approx(
        0.5, abs=0.01
    )


def test_glued_windows_are_windows_of_the_image():
    image = torch.arange(20 * 26, dtype=torch.float32).reshape(1, 1, 20, 26)
    glued = glued_windows(image, seeded())
    assert glued.shape == image.shape
    for top, left in ((0, 0), (8, 16)):
        block = glued[0, 0, top : top + 8, left : left + 8]
        assert torch.equal(block - block[0, 0], image[0, 0, :8, :8])


def test_permuted_bands_are_all_at_another_place():
    image = torch.arange(4.0).reshape(1, 4, 1, 1)
    for seed in range(5):
        found = permuted(image, seeded(seed)).flatten().tolist()
        assert sorted(found) == [0, 1, 2, 3] and all(a != b for a, b in zip(found, range(4)))


def test_same_ground_altered_and_half():
    case = case_of(own=torch.full((1, 4, 20, 26), 0.123))
    camera = replace(suites.USUAL, srf=case.srf)
    same = GRADES["same"].make(case, camera, seeded())
    assert torch.equal(same, camera.see(case.cube))
    half = GRADES["half"].make(case, camera, seeded())
    assert torch.equal(half[..., :16], same[..., :20, :16]) and bool((half[..., 16:] == 0.123).all())
    altered = GRADES["altered"].make(case, camera, seeded())
    assert altered.shape[2:] == (same.shape[3], same.shape[2])
    back = torch.rot90(altered, -1, (-2, -1))[0, 0] / 0.6 - 0.25
    torch.testing.assert_close(back, moved(same)[0, 0], atol=1e-5, rtol=0)
    ramp = torch.arange(12.0).reshape(1, 1, 1, 12).expand(1, 1, 12, 12) / 12
    torch.testing.assert_close(moved(ramp)[..., 5, 5:8], ramp[..., 5, 5:8] - 1.5 / 12, atol=1e-3, rtol=0)


# --- scores ---


def test_both_peaks():
    gt = torch.rand(1, 2, 16, 16, generator=seeded()) * torch.tensor([0.5, 0.25]).reshape(1, 2, 1, 1)
    gt[0, :, 0, 0] = torch.tensor([0.5, 0.25])
    pred = gt + 0.01
    found = scores.scores(pred, gt, 4)
    assert found["psnr_db"] == pytest.approx(40, abs=1e-4)
    assert found["psnr_band_max_db"] == pytest.approx(40 + 10 * math.log10(0.5 * 0.25), abs=1e-4)
    assert set(found) == set(scores.WITH_TRUTH)


def test_the_resampled_psnr_begins_with_the_measured_one_and_is_paired():
    gt, error = torch.rand(1, 3, 40, 56, generator=seeded()), torch.randn(1, 3, 40, 56, generator=seeded(1))
    one, two = (scores.resampled_psnr(gt + size * error, gt) for size in (0.02, 0.01))
    assert len(one) == scores.REPLICATES + 1
    assert float(one[0]) == pytest.approx(float(psnr_db(gt + 0.02 * error, gt)), abs=1e-4)
    value, low, high = scores.interval(two - one)
    assert value == pytest.approx(20 * math.log10(2), abs=1e-3)
    assert high - low < 1e-3  # the same everywhere: the interval of the difference is a point
    assert float(one[1:].std()) > 0.01
    assert scores.block_count(gt) == 3 * 4


def test_the_interval_has_the_width_that_blocks_of_independent_errors_have():
    """Squared errors of 100 blocks, constant within: the deviation of their mean is known."""
    scale = torch.rand(10, 10, generator=seeded()) + 0.5
    gt = torch.full((1, 1, 160, 160), 0.5)
    pred = gt + 0.1 * scale.sqrt().repeat_interleave(16, 0).repeat_interleave(16, 1)
    replicates = scores.resampled_psnr(pred, gt)[1:]
    wanted = float(scale.std(correction=0)) / 10 / float(scale.mean()) * 10 / math.log(10)
    assert float(replicates.std()) == pytest.approx(wanted, rel=0.1)


def test_without_truth_a_perfect_answer_is_consistent_and_bicubic_scores_well_all_the_same():
    case = case_of(60, 64, bands=40)
    camera = replace(suites.USUAL, srf=case.srf)
    lr_hsi, gt = case.observed(camera, None)
    perfect, bicubic = (
        scores.without_truth(x, lr_hsi, camera, camera.see(gt), qnr=True) for x in (gt, camera.upsample(lr_hsi))
    )
    assert perfect["consistency"] < 1e-5 < bicubic["consistency"]
    assert perfect["d_lambda"] > bicubic["d_lambda"]  # what the measure cannot see
    assert perfect["d_s"] < bicubic["d_s"]
    assert scores.without_truth(gt, lr_hsi, camera, None, qnr=False)["qnr"] != 0


# --- the run ---


def test_seeds_are_spent_only_where_something_is_random(tmp_path, entered):
    register_method("plain", lambda lr, ref, camera: camera.upsample(lr))
    register_maker(
        "dice", Entry(lambda setting: lambda lr, ref, camera: camera.upsample(lr), uses_reference=False, random=True)
    )
    table = Table(tmp_path / "t.csv")
    run.run(
        plan([case_of()], ["plain", "dice"], ["none", "blobs", "own-sensor"], seeds=3, cameras=["usual", "snr30"]),
        table,
        silent,
    )
    count = {}
    for row in table.rows:
        if row["stage"] == "after":
            key = (row["camera"], row["method"], row["reference"])
            count[key] = count.get(key, 0) + 1
    assert count == {
        ("usual", "plain", "none"): 1, ("usual", "plain", "blobs"): 3, ("usual", "plain", "own-sensor"): 1,
        ("usual", "dice", "none"): 3, ("snr30", "plain", "none"): 3, ("snr30", "plain", "blobs"): 3,
        ("snr30", "plain", "own-sensor"): 3, ("snr30", "dice", "none"): 3,
    }  # fmt: skip


def test_a_run_goes_on_where_it_was_stopped_even_within_a_line(tmp_path, entered):
    calls = []
    register_method("spy", lambda lr, ref, camera: calls.append(1) or camera.upsample(lr))
    job = plan([case_of()], ["spy"], ["none", "own-sensor", "other-sensor"])
    whole = Table(tmp_path / "t.csv")
    run.run(job, whole, silent)
    assert len(calls) == 3
    text = (tmp_path / "t.csv").read_text(encoding="utf-8")
    lines = text.splitlines(keepends=True)
    (tmp_path / "t.csv").write_text("".join(lines[:5]) + lines[5][:20], encoding="utf-8")
    run.run(job, Table(tmp_path / "t.csv"), silent)
    assert len(calls) == 4
    again = read_rows(tmp_path / "t.csv")
    timeless = [{k: v for k, v in row.items() if k not in ("seconds", "peak_memory_mb")} for row in again]
    assert timeless == [{k: v for k, v in row.items() if k not in ("seconds", "peak_memory_mb")} for row in whole.rows]


def test_a_table_of_other_columns_is_refused(tmp_path):
    (tmp_path / "t.csv").write_text("method,psnr\nbicubic,3\n", encoding="utf-8")
    with pytest.raises(ValueError, match="`out` must be a folder whose table has the columns of this version"):
        Table(tmp_path / "t.csv")


def test_an_answer_that_is_refused_is_a_row_with_its_reason(tmp_path, entered):
    register_method("broken", lambda lr, ref, camera: lr)
    table = Table(tmp_path / "t.csv")
    run.run(plan([case_of()], ["broken", "ctmem-as-drawn"]), table, silent)
    assert [row["stage"] for row in table.rows] == ["", ""]
    assert table.rows[0]["reason"].startswith("`method` must be one that returns an image of shape (1, 31, 24, 32)")
    assert table.rows[1]["reason"].startswith("no weights of the wiring 'as-drawn'")
    run.run(plan([case_of()], ["broken", "ctmem-as-drawn"]), table, silent)
    assert len(table.rows) == 2
    register_method("broken", lambda lr, ref, camera: camera.upsample(lr))  # mended: a new run tries it again
    again = Table(tmp_path / "t.csv")
    run.run(plan([case_of()], ["broken", "ctmem-as-drawn"]), again, silent)
    assert [row["stage"] for row in read_rows(tmp_path / "t.csv")] == ["before", "after", ""]


# --- weights ---


def test_weights_of_other_trainings_take_turns_and_a_cnn_alone_will_do(tmp_path, entered):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        cnn = build_networks(TINY)["cnn"]
    folder = tmp_path / "seed1"
    folder.mkdir()
    save_module(cnn, folder / "cnn.safetensors", part="cnn", preset="tiny")
    write_json({"preset": TINY.to_dict()}, folder / "card.json")
    weights = find_weights([folder])
    labels = [one.label for one in weights[""]]
    assert labels[0] == "tiny" and labels[-1].endswith("/seed1")
    assert torch.equal(weights[""][-1].model.denoiser.fusion[-1].weight, load_model().denoiser.fusion[-1].weight)
    assert not torch.equal(weights[""][-1].model.cnn.out.weight, load_model().cnn.out.weight)
    table = Table(tmp_path / "t.csv")
    job = replace(plan([case_of()], ["cnn"], seeds=2), weights={"": [weights[""][0], weights[""][-1]]})
    run.run(job, table, silent)
    after = [row for row in table.rows if row["stage"] == "after"]
    assert [row["weights"] for row in after] == [labels[0], labels[-1]]
    assert (
        float(after[1]["gain_db"]) == pytest.approx(0, abs=1e-4) != float(after[0]["gain_db"])
    )  # a new CNN changes nothing


def test_a_folder_without_weights(tmp_path):
    write_json({"preset": TINY.to_dict()}, tmp_path / "card.json")
    with pytest.raises(FileNotFoundError, match="`weights` must be a folder with weights, got .*, without any"):
        find_weights([tmp_path])


# --- the report ---


def made_row(table, reference, seed, gain, values=None):
    row = {
        "suite": "made", "scene": "made", "area": "test", "camera": "usual", "method": "ctmem", "reference": reference,
        "seed": str(seed), "stage": "after", "gain_db": str(gain), "gain_low_db": str(gain - 1), "gain_high_db": str(gain + 1),
        "psnr_db": "30", "date": "2026-01-02",
    }  # fmt: skip
    spread = torch.cat([torch.zeros(1), 0.01 * torch.randn(1000, generator=seeded())])
    table.add([row], [30 + gain + spread if values is None else values])


def test_a_reference_helps_only_beyond_the_best_control_its_interval_and_the_seeds(tmp_path):
    table = Table(tmp_path / "t.csv")
    for reference, gains in {"none": [0.0], "pink": [0.05, 0.07], "blobs": [0.2, 0.22], "own-sensor": [0.29, 0.31], "other-sensor": [0.22, 0.24], "same": [0.5, 2.0]}.items():  # fmt: skip
        for seed, gain in enumerate(gains):
            made_row(table, reference, seed, gain)
    found = {row["reference"]: row for row in report.worth(table)}
    assert {row["best_control"] for row in found.values()} == {"blobs"}
    assert float(found["own-sensor"]["worth_db"]) == pytest.approx(0.09) and found["own-sensor"]["helps"] == "yes"
    assert (
        float(found["other-sensor"]["worth_db"]) == pytest.approx(0.02) and found["other-sensor"]["helps"] == "no"
    )  # the seeds
    assert float(found["same"]["worth_db"]) == pytest.approx(1.04) and found["same"]["helps"] == "no"  # the seeds, too
    scatter = math.hypot(*[np.std(x, ddof=1) for x in ([0.2, 0.22], [0.29, 0.31])])
    assert float(found["own-sensor"]["scatter_db"]) == pytest.approx(scatter)
    assert float(found["own-sensor"]["low_db"]) == pytest.approx(0.09, abs=1e-3)  # scattered alike: paired


def test_a_control_that_spoils_nothing_for_a_method_is_no_control(tmp_path, entered):
    register_maker("ctmem", Entry(lambda setting: None, blind_to=("negative",)))
    table = Table(tmp_path / "t.csv")
    for reference, gain in {"none": 0.0, "blobs": 0.1, "negative": 0.3, "own-sensor": 0.3}.items():
        made_row(table, reference, 0, gain)
    (found,) = report.worth(table)
    assert found["best_control"] == "blobs" and found["helps"] == "one seed"  # of a control that is random
    made_row(table, "blobs", 1, 0.1)
    (found,) = report.worth(table)
    assert found["helps"] == "yes"


def test_tables_that_are_written_alone_know_what_methods_are_blind_to():
    told = "import ctmem.benchmark.report as r; print(r.METHODS['knn-reference'].blind_to)"
    ran = subprocess.run([sys.executable, "-c", told], capture_output=True, encoding="utf-8", check=True)
    assert ran.stdout == "('negative', 'permuted')\n"


def test_an_interval_that_holds_zero_is_no_help(tmp_path):
    table = Table(tmp_path / "t.csv")
    for reference, gain, seed in (("none", 0.0, 0), ("blobs", 0.1, 1), ("own-sensor", 0.2, 2)):
        made_row(
            table,
            reference,
            0,
            gain,
            torch.cat([torch.tensor([30 + gain]), 30 + gain + torch.randn(1000, generator=seeded(seed))]),
        )
    (found,) = report.worth(table)
    assert float(found["low_db"]) < 0 < float(found["high_db"]) and found["helps"] == "no"


def test_a_reading_of_test_areas_says_so_in_its_first_line(tmp_path):
    table = Table(tmp_path / "t.csv")
    made_row(table, "none", 0, 0.1)
    first = report.report(table.rows, [], "embedded-test").splitlines()[0]
    assert re.fullmatch(r"Test areas read: 2026-01-02, version \d+\.\d+\.\d+\S*\.", first)
    rows = [row | {"area": "validation"} for row in table.rows]
    assert report.report(rows, [], "embedded-validation").startswith("# Benchmark: embedded-validation\n")
