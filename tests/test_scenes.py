"""Scenes: shipped files against their sources and physics, the generated one, files of one's own, errors."""

import csv
import dataclasses
import importlib
import tarfile

import h5py
import numpy as np
import pytest
import scipy.io
import tensorly.datasets
import torch

from ctmem.data import scenes
from ctmem.data.scenes import Scene, load_scene, read_array, read_scene, synthetic
from ctmem.files import data_path
from ctmem.observe import responses
from ctmem.observe.camera import Camera

CUBE = np.random.default_rng(0).random((4, 5, 3)).astype(np.float32)  # (H, W, C), all different


# --- the scene itself ---


def test_tensor_turns_height_width_bands_into_one_batch():
    x = Scene("small", CUBE).tensor()
    assert x.shape == (1, 3, 4, 5) and x.dtype == torch.float32
    assert float(x[0, 2, 1, 4]) == CUBE[1, 4, 2]


def test_crop_takes_rows_then_columns_and_keeps_the_rest():
    scene = Scene("small", CUBE, np.array([450.0, 550, 650]), gsd_m=20)
    part = scene.crop(1, 2, 3, 2)
    assert np.array_equal(part.cube, CUBE[1:4, 2:4]) and part.bands == 3
    assert part.gsd_m == 20 and part.wavelengths_nm.tolist() == [450, 550, 650]


def test_a_scene_keeps_its_own_read_only_copies():
    cube = CUBE.copy()
    scene = Scene("small", cube)
    cube[:] = 0
    assert scene.cube.max() > 0
    with pytest.raises(ValueError, match="read-only"):
        scene.cube[0, 0, 0] = 1
    with pytest.raises(dataclasses.FrozenInstanceError):
        scene.name = "other"
    scene.tensor()[:] = 0  # a copy
    assert scene.cube.max() > 0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"cube": CUBE[0]}, r"`cube` must be of shape \(H, W, C\), none of them 0, got shape \(5, 3\)"),
        ({"cube": CUBE[:0]}, r"`cube` must be of shape .* got shape \(0, 5, 3\)"),
        (
            {"cube": np.full((2, 2, 1), np.nan)},
            "`cube` must be finite in at least one pixel, got NaN or masked values in all of them",
        ),
        ({"cube": CUBE + 1}, r"`cube` must be in \[0, 1\], got values from 1\.\d+ to 1\.\d+"),
        (
            {"wavelengths_nm": [500.0, 600]},
            r"`wavelengths_nm` must be 3 numbers, one per band, got shape \(2,\)",
        ),
        (
            {"wavelengths_nm": [500.0, 600, -1]},
            "`wavelengths_nm` must be finite and positive, got values from -1 to 600",
        ),
        ({"bad_bands": (0, 3)}, r"`bad_bands` must be indices from 0 to 2, got \(0, 3\)"),
        ({"wavelengths_nm": [0.4, 0.5, 0.6]}, "`wavelengths_nm` must be in nm, got 0.4 to 0.6, as they are in µm"),
        (
            {"wavelengths_nm": np.ma.masked_array([400.0, 500, 600], mask=[0, 1, 0])},
            "`wavelengths_nm` must be finite and positive, got values from nan",
        ),
        ({"gsd_m": 0.0}, "`gsd_m` must be a finite number above 0, got 0.0"),
        ({"gsd_m": np.inf}, "`gsd_m` must be a finite number above 0, got inf"),
        ({"gsd_m": "20"}, "`gsd_m` must be a finite number above 0, got '20'"),
        ({"bad_bands": 2}, "`bad_bands` must be a list of whole numbers, got 2"),
        ({"name": None}, "`name` must be text, got None"),
        ({"cube": CUBE + 1j}, r"`cube` must be an array of real numbers \(H, W, C\), got a complex64 array"),
        ({"cube": [[1], [0, 1]]}, r"`cube` must be an array of real numbers \(H, W, C\), got \[\[1\], \[0, 1\]\]"),
    ],
)
def test_scene_errors(changes, message):
    with pytest.raises((TypeError, ValueError), match=message):
        Scene(**({"name": "bad", "cube": CUBE} | changes))


def test_fields_are_kept_as_python_has_them():
    scene = Scene("small", CUBE, gsd_m=torch.tensor(20.0), bad_bands=np.array([0, 2]))
    assert scene.gsd_m == 20 and type(scene.gsd_m) is float and scene.bad_bands == (0, 2)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"path": None}, "`path` must be a path, got None"),
        ({"path": ""}, "`path` must be a path, got ''"),
        ({"key": 3}, "`key` must be text, or None, got 3"),
        ({"no_data": "-9999"}, "`no_data` must be a number or a list of numbers, or None, got '-9999'"),
        ({"no_data": True}, "`no_data` must be a number or a list of numbers, or None, got True"),
        ({"no_data": 10**400}, "`no_data` must be a number that fits a float, got a larger one"),
        ({"white": "500"}, "`white` must be a number, or None, got '500'"),
    ],
)
def test_odd_arguments_of_read_scene(tmp_path, arguments, message):
    np.save(tmp_path / "field.npy", CUBE)
    with pytest.raises((TypeError, ValueError), match=message):
        read_scene(**({"path": tmp_path / "field.npy"} | arguments))


def test_no_data_that_is_nowhere_in_the_file_hides_no_other(tmp_path):
    cube = np.pad(100 * CUBE, ((0, 0), (1, 0), (0, 0)), constant_values=-9999)
    np.save(tmp_path / "field.npy", cube)
    with pytest.warns(RuntimeWarning, match=r"no_data=-9999 makes them holes; no_data=\(\) takes them as they are"):
        assert not read_scene(tmp_path / "field.npy", no_data=-999).holes.any()
    assert read_scene(tmp_path / "field.npy", no_data=np.int16(-9999)).holes.sum() == 4


@pytest.mark.parametrize("window", [(-1, 0, 2, 2), (0, 0, 5, 2), (0, 4, 2, 2), (0, 0, 0, 2)])
def test_crop_errors(window):
    with pytest.raises(ValueError, match="`crop` must be a window inside 4×5 px, got "):
        Scene("small", CUBE).crop(*window)


def test_an_unknown_name_lists_those_known():
    with pytest.raises(ValueError, match="`name` must be one of 'indian_pines', 'sentinel2_farmland', got 'pavia'"):
        load_scene("pavia")


def test_a_scene_is_loaded_once():
    assert load_scene("sentinel2_farmland") is load_scene("sentinel2_farmland")


@pytest.mark.parametrize("name", scenes.scene_names())
def test_every_shipped_scene_fills_its_card(name):
    scene = load_scene(name)
    assert scene.name == name and scene.cube.min() >= 0 and scene.cube.max() == 1
    assert "unknown" not in (scene.sensor, scene.licence, scene.citation, scene.units)
    card = data_path("README.md").read_text(encoding="utf-8").split(f"## `{name}`")[1].split("\n## ")[0]
    for word in ("Sensor", "Area", "GSD", "Bands", "Values", "Licence", "Citation", "How it was made"):
        assert f"| {word} |" in card
    assert scene.citation.split(";")[0] in card


def test_every_shipped_table_and_script_is_described():
    card = data_path("README.md")
    text = card.read_text(encoding="utf-8")
    shipped = [
        *card.parent.glob("*.csv"),
        *card.parent.glob("*.py"),
        card.with_name("sentinel2_farmland.npz"),
    ]
    assert [path.name for path in shipped if f"`{path.name}`" not in text] == []


# --- Indian Pines ---


def damaged():
    """The numbers as tensorly ships them, a copy."""
    return np.asarray(tensorly.datasets.load_indian_pines().tensor).astype(np.int64)


def test_indian_pines_is_radiance_over_its_brightest_thousandth():
    scene = load_scene("indian_pines")
    radiance = (repaired() - 1000) / 500
    assert scene.cube.shape == radiance.shape == (145, 145, 200)
    assert scene.gsd_m == 20 and scene.bad_bands == (0,)
    white = np.sort(radiance.ravel())[round(0.999 * (radiance.size - 1))]
    assert white == pytest.approx(13.628, abs=1e-3) and "1.0 is 13.628 µW" in scene.units
    assert float(scene.cube[70, 33, 20]) == pytest.approx(radiance[70, 33, 20] / white, rel=1e-5)
    assert np.array_equal(scene.cube == 0, radiance <= 0)
    assert f"{100 * (radiance < 0).mean():.3f} % of the values from below" in scene.units


def repaired():
    """The numbers behind `load_scene("indian_pines")`."""
    return scenes._repaired(damaged())


def test_indian_pines_arrives_with_carriage_returns_turned_into_line_feeds():
    low, high = np.divmod(damaged(), 256)[::-1]
    frequency = np.bincount(low.ravel(), minlength=256)
    assert frequency[0x0D] == 0 and frequency[0x0A] == pytest.approx(2 * frequency[0x0B], rel=0.05)
    assert not (high == 0x0D).any()


def test_indian_pines_repair_adds_768_to_doubtful_numbers_only():
    before, after = damaged(), repaired()
    assert set(np.unique(after - before)) == {0, 768}
    assert set(np.unique(before[after != before] >> 8)) == {0x0A}


def test_indian_pines_repair_fills_the_hole_in_the_histogram():
    counts = np.bincount((repaired() >> 8).ravel())
    assert counts[0x0A] < 1.2 * counts[0x09]
    assert counts[0x0D] == pytest.approx((counts[0x0C] + counts[0x0E]) / 2, rel=0.3)


def test_indian_pines_repair_makes_the_red_band_smooth():
    """Woods in red light: neighbours differ by noise, no longer by 768 where a number crosses 3328."""
    before, after = damaged()[..., 22], repaired()[..., 22]
    jumps = [(np.abs(np.diff(band, axis=1)) > 500).mean() for band in (before, after)]
    assert jumps[0] > 1.9 * jumps[1]


def test_indian_pines_repair_is_what_its_script_decides(script):
    before = damaged().reshape(-1, 200)
    decided = script("make_indian_pines_repair").raised(before)
    assert (decided != (repaired().reshape(-1, 200) != before)).sum() <= 20  # sums in another order


def test_indian_pines_repair_undoes_the_same_damage_done_to_another_byte(script):
    whole = repaired().reshape(-1, 200)
    truth = whole >> 8 == 0x0C
    decided = script("make_indian_pines_repair").raised(whole - 768 * truth, seen=0x09, lost=0x0C)
    wrong = (decided != truth).sum(0)
    assert wrong[3:].sum() == 0 and wrong.sum() < 0.002 * (whole >> 8 == 0x09).sum() + 0.002 * truth.sum()


def shipped_wavelengths():
    with data_path("indian_pines_wavelengths.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_indian_pines_bands_are_the_220_less_the_20_in_water_vapour():
    channels = [int(row["channel"]) for row in shipped_wavelengths()]
    assert channels == [*range(1, 104), *range(109, 150), *range(164, 220)]


def test_indian_pines_channels_are_the_instruments_bands_but_four():
    """The instrument has 224 bands; the channels leave out the first of each spectrometer."""
    bands = [band for band in range(1, 225) if band not in (1, 33, 97, 161)]
    assert all(int(row["aviris_band"]) == bands[int(row["channel"]) - 1] for row in shipped_wavelengths())


def test_indian_pines_wavelengths_step_back_only_where_a_new_spectrometer_begins():
    wavelengths_nm = load_scene("indian_pines").wavelengths_nm
    steps = np.diff(wavelengths_nm)
    assert np.flatnonzero(steps < 0).tolist() == [30, 93]
    assert [tuple(wavelengths_nm[i : i + 2]) for i in np.flatnonzero(steps > 30)] == [
        (1352.68, 1412.39),
        (1809.19, 1943.27),
    ]
    regular = steps[(steps > 0) & (steps < 30)]
    assert regular.min() > 9.5 and regular.max() < 10.05


def test_indian_pines_wavelengths_against_the_list_in_tensorly():
    """That list is right up to 102 but for one number, one band late from there on, mistyped at 170, 171."""
    ours = load_scene("indian_pines").wavelengths_nm
    theirs = np.array(tensorly.datasets.load_indian_pines().ticks[1])
    differs = np.flatnonzero(np.abs(ours - theirs) > 0.03)
    assert differs.tolist() == [44, *range(103, 200)]
    late = [i for i in range(103, 199) if i not in (143, 170, 171)]
    assert np.abs(ours[1:][late] - theirs[late]).max() < 0.03
    assert np.flatnonzero(np.diff(theirs) < 0).tolist() == [30, 93, 171]  # the last: the mistyped pair


@pytest.mark.parametrize(
    ("absorber", "line_nm", "window_nm", "tolerance_nm"),
    [
        ("oxygen A band", 761, (754, 774), 4),
        ("carbon dioxide, 4978 cm⁻¹", 2009, (1983, 2034), 4),
        ("carbon dioxide, 4854 cm⁻¹", 2060, (2042, 2084), 4),
    ],
)
def test_indian_pines_wavelengths_put_the_atmosphere_where_it_is(absorber, line_nm, window_nm, tolerance_nm):
    """Each dip of the mean spectrum is centred on the gas's known wavelength; one band off would be 10 nm."""
    scene = load_scene("indian_pines")
    mean = scene.cube.mean((0, 1), dtype=np.float64)
    inside = np.flatnonzero((scene.wavelengths_nm > window_nm[0] - 1) & (scene.wavelengths_nm < window_nm[1]))
    nm, level = scene.wavelengths_nm[inside], mean[inside]
    depth = np.interp(nm, nm[[0, -1]], level[[0, -1]]) - level
    assert (nm * depth).sum() / depth.sum() == pytest.approx(line_nm, abs=tolerance_nm), absorber


def test_indian_pines_looks_like_vegetation_to_sentinel_2():
    """June in Indiana: where there are leaves, the near infrared is brighter than red."""
    scene = load_scene("indian_pines")
    _blue, green, red, infrared = responses.apply_srf(scene.tensor(), responses.srf_matrix(scene.wavelengths_nm))[0]
    woods = infrared / red
    assert 1.3 < float(woods.quantile(0.9)) < 6
    assert float(torch.corrcoef(torch.stack([green.flatten(), red.flatten()]))[0, 1]) > 0.8


# --- Sentinel-2 ---


def test_sentinel2_file_is_small_plain_and_exact():
    path = data_path("sentinel2_farmland.npz")
    assert path.stat().st_size <= 1_500_000
    with np.load(path, allow_pickle=False) as file:
        assert file["cube"].shape == (400, 400, 4) and file["cube"].dtype == np.uint16
        assert file["bands"].tolist() == ["B02", "B03", "B04", "B08"]
        assert (file["cube"] % 4 != 0).mean() > 0.7  # sums, not four times a rounded mean
        assert int(file["epsg"]) == 32618 and file["upper_left_m"].tolist() == [437_530, 4_179_060]


def test_sentinel2_values_are_reflectances():
    scene = load_scene("sentinel2_farmland")
    assert scene.gsd_m == 20 and scene.bands == 4
    with np.load(data_path("sentinel2_farmland.npz"), allow_pickle=False) as file:
        sums = file["cube"]
    white = np.percentile(sums / 40_000, 99.9)
    assert f"1.0 is {white:.4f}" in scene.units
    assert float(scene.cube[123, 45, 3]) == pytest.approx(sums[123, 45, 3] / 40_000 / white, rel=1e-5)
    assert "0.000 % of the values from below, 0.100 % from above" in scene.units


def test_sentinel2_wavelengths_are_those_of_the_responses():
    for band, centre in zip(("B02", "B03", "B04", "B08"), load_scene("sentinel2_farmland").wavelengths_nm):
        wavelengths_nm, response = responses.load_rsr()[band]
        assert (wavelengths_nm * response).sum() / response.sum() == pytest.approx(centre, abs=0.15)


def test_sentinel2_crop_is_land():
    """Water reflects almost nothing in the near infrared: few pixels are that dark."""
    scene = load_scene("sentinel2_farmland")
    assert (scene.cube[..., 3] < scene.cube[..., 1]).mean() < 0.05


# --- the scripts beside the data ---


@pytest.fixture
def script(monkeypatch):
    """Imports a script of data/ by name."""
    monkeypatch.syspath_prepend(str(data_path("README.md").parent))
    return importlib.import_module


def test_sdist_members_of_a_folder_and_of_an_archive(script, tmp_path):
    (tmp_path / "pkg-1.0" / "inner").mkdir(parents=True)
    (tmp_path / "pkg-1.0" / "inner" / "a.txt").write_bytes(b"hello")
    with tarfile.open(tmp_path / "pkg-1.0.tar.gz", "w:gz") as archive:
        archive.add(tmp_path / "pkg-1.0", "pkg-1.0")
    for source in ("pkg-1.0", "pkg-1.0.tar.gz"):
        assert script("sdist").members("pkg==1.0", ["inner/a.txt"], str(tmp_path / source)) == {"inner/a.txt": b"hello"}
    with pytest.raises(FileNotFoundError, match="pkg-1.0.tar.gz holds no b.txt"):
        script("sdist").members("pkg==1.0", ["b.txt"], str(tmp_path / "pkg-1.0.tar.gz"))


def test_sums_of_two_by_two(script):
    image = np.array([[1, 2, 10, 20], [3, 4, 30, 41]], dtype=np.uint32)
    sum_2x2 = script("make_sentinel2_farmland").sum_2x2
    assert sum_2x2(image).tolist() == [[10, 101]] and sum_2x2(image).dtype == np.uint16
    for bad in (0, 20_000):
        with pytest.raises(ValueError, match="the crop must hold 1…16383 everywhere, got "):
            sum_2x2(np.full((2, 2), bad, dtype=np.uint32))


def test_band_names_and_rows_of_the_response_script(script):
    module = script("make_srf")
    assert [module.band_name(number, 2) for number in ("2", "8A", "12")] == ["B02", "B8A", "B12"]
    assert module.band_name("2", 1) == "B2"
    assert module.rows("2 S2A:Band2\n439 0.010315429\n440 0.030041933\n", 1) == [
        (439, "0.010315429"),
        (440, "0.030041933"),
    ]
    assert module.rows("B7\n2.038000 0.000037\n2.039 -0.00031\n", 1000) == [(2038, "0.000037"), (2039, "0")]
    with pytest.raises(ValueError, match="a wavelength must be a whole number of nm, got 438.5"):
        module.rows("2\n438.5 0.1\n", 1)


def test_the_response_script_copies_what_the_package_holds(script, tmp_path, monkeypatch, capsys):
    """Each band file of a stand-in for the package ends up in the table of its sensor, under its usual name."""
    module = script("make_srf")
    for sensor, origin in module.SENSORS.items():
        for place, band in enumerate(origin.bands):
            path = tmp_path / "source" / module.FOLDER / origin.folder / f"band_{band}"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"1 {sensor}\n{(400 + place) / origin.unit_nm} 0.{place}5\n", encoding="utf-8")
    monkeypatch.setattr(module, "__file__", str(tmp_path / "make_srf.py"))
    module.main(str(tmp_path / "source"))
    assert capsys.readouterr().out.splitlines()[2] == "srf_landsat8.csv: 9 rows, 9 bands"
    lines = (tmp_path / "srf_sentinel2b.csv").read_text(encoding="utf-8").splitlines()
    assert lines[0] == "band,wavelength_nm,response" and lines[9] == "B8A,408,0.85"
    assert (tmp_path / "srf_landsat9.csv").read_text(encoding="utf-8").splitlines()[9] == "B9,408,0.85"


def test_rows_of_the_calibration_file(script):
    text = "FILE spectral.ascii\n-----\n 400.019989  9.780000 0.92 0.5 2.000000\n"
    assert script("make_indian_pines_wavelengths").calibration(text) == [(400.019989, 9.78, 2)]


# --- the generated scene ---


@pytest.mark.parametrize(("height", "width", "bands", "endmembers"), [(48, 64, 31, 5), (9, 14, 1, 1), (1, 2, 224, 3)])
def test_synthetic_takes_any_size(height, width, bands, endmembers):
    scene = synthetic(3, height=height, width=width, bands=bands, endmembers=endmembers)
    assert scene.cube.shape == (height, width, bands) and scene.wavelengths_nm.shape == (bands,)


def test_synthetic_depends_on_its_seed_alone():
    before = np.random.get_state()[1].copy()
    assert np.array_equal(synthetic(1).cube, synthetic(1).cube)
    assert not np.allclose(synthetic(1).cube, synthetic(2).cube)
    assert np.array_equal(before, np.random.get_state()[1])


def test_synthetic_has_few_materials_and_no_two_equal_bands():
    cube = synthetic(0, endmembers=4).cube.reshape(-1, 31)
    values = np.linalg.svd(cube, compute_uv=False)
    assert values[4] < 1e-2 * values[3] or (cube == 1).any()
    assert min(np.abs(cube[:, i] - cube[:, i + 1]).max() for i in range(30)) > 1e-3


def test_synthetic_leaves_something_to_super_resolve():
    """Structure at the scale of a pixel: enlarging the degraded scene loses part of its contrast."""
    x = synthetic(0).tensor()
    enlarged = Camera.gaussian(scale=4).blur(x)
    lost = (enlarged - x).square().mean() / (x - x.mean((2, 3), keepdim=True)).square().mean()
    assert 0.1 < float(lost) < 0.8


def test_synthetic_covers_the_bands_of_sentinel_2():
    assert responses.srf_matrix(synthetic().wavelengths_nm).shape == (4, 31)


def test_synthetic_errors():
    with pytest.raises(ValueError, match="`bands` must be a whole number ≥ 1, got 0"):
        synthetic(bands=0)
    with pytest.raises(ValueError, match=r"`range_nm` must be \(low, high\) with 0 < low < high, got \(900, 400\)"):
        synthetic(range_nm=(900, 400))


# --- files of one's own ---


def write(path, arrays):
    """Writes {key: array} in the format of the file's name; `.v73.mat` is HDF5 as MATLAB writes it."""
    if path.name.endswith(".v73.mat"):
        with h5py.File(path, "w") as file:
            for key, array in arrays.items():
                file[key] = array.T
                file[key].attrs["MATLAB_class"] = np.bytes_("double")
    elif path.suffix == ".mat":
        scipy.io.savemat(path, arrays)
    elif path.suffix == ".npz":
        np.savez(path, **arrays)
    else:
        np.save(path, next(iter(arrays.values())))
    return path


@pytest.mark.parametrize("name", ["a.mat", "a.v73.mat", "a.npz", "a.npy", "A.NPY"])
def test_every_format_gives_back_height_width_bands(tmp_path, name):
    path = write(tmp_path / name.lower(), {"data": CUBE}).rename(tmp_path / name)
    assert np.array_equal(read_array(path), CUBE)


@pytest.mark.parametrize("name", ["a.mat", "a.v73.mat", "a.npz"])
def test_the_only_cube_is_found_among_other_things_and_a_key_decides_between_two(tmp_path, name):
    path = write(tmp_path / name, {"labels": CUBE[..., 0], "data": CUBE})
    assert np.array_equal(read_array(path), CUBE)
    path = write(tmp_path / ("b" + name), {"first": CUBE, "second": 2 * CUBE})
    assert np.array_equal(read_array(path, key="second"), 2 * CUBE)
    expected = r"`key` must be given unless .* one 3-D array, got None; the file holds 'first' \(4, 5, 3\)"
    with pytest.raises(ValueError, match=expected):
        read_array(path)
    with pytest.raises(
        ValueError, match="`key` must be the name of a 3-D array in the file, got 'third'; the file holds"
    ):
        read_array(path, key="third")


def test_file_errors(tmp_path):
    with pytest.raises(FileNotFoundError, match="`path` must be an existing file, got none.mat"):
        read_array(tmp_path / "none.mat")
    (tmp_path / "a.tif").write_bytes(b"")
    with pytest.raises(
        ValueError, match="`path` must be a file ending in .mat, .npy, .npz, .h5, .hdf5, .he5, .nc, got a.tif"
    ):
        read_array(tmp_path / "a.tif")
    flat = write(tmp_path / "flat.npz", {"x": CUBE[0], "text": np.array(["a"])})
    with pytest.raises(ValueError, match=r"got None; the file holds 'x' \(5, 3\)"):
        read_array(flat)
    empty = write(tmp_path / "empty.npz", {})
    with pytest.raises(ValueError, match="the file holds no array at all"):
        read_array(empty)


@pytest.mark.parametrize("suffix", [".mat", ".npy", ".npz"])
def test_a_damaged_file(tmp_path, suffix):
    path = write(tmp_path / f"a{suffix}", {"data": CUBE})
    path.write_bytes(path.read_bytes()[:150])
    with pytest.raises(ValueError, match=rf"`path` must be a readable {suffix} file, got a{suffix}"):
        read_array(path)


def test_nothing_is_unpickled(tmp_path):
    np.save(tmp_path / "a.npy", np.array([{"x": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(ValueError, match="`path` must be a readable .npy file"):
        read_array(tmp_path / "a.npy")


def test_read_scene_scales_by_white_and_says_what_it_clipped(tmp_path):
    values = np.array([-1.0, 0, 50, 100, 200, 100, 0, 0]).reshape(2, 2, 2)
    path = write(tmp_path / "field.npy", {"x": values})
    scene = read_scene(path, white=100, wavelengths_nm=[500, 600], gsd_m=3, no_data=())
    assert scene.cube.ravel().tolist() == [0, 0, 0.5, 1, 1, 1, 0, 0]
    assert scene.name == "field" and scene.gsd_m == 3
    clipped = "clipped to [0, 1]: 12.500 % of the values from below, 12.500 % from above"
    assert scene.units == "as in the file; 1.0 is 100; " + clipped


def test_read_scene_takes_the_brightest_thousandth_as_white(tmp_path):
    values = np.arange(1, 100_001, dtype=np.float64).reshape(100, 100, 10)
    scene = read_scene(write(tmp_path / "a.mat", {"x": values}), name="mine")
    white = np.percentile(values, 99.9)
    assert scene.name == "mine" and float(scene.cube[0, 0, 0]) == pytest.approx(1 / white, rel=1e-5)


def test_read_scene_errors(tmp_path):
    path = write(tmp_path / "a.npy", {"x": np.zeros((2, 2, 2))})
    with pytest.raises(ValueError, match=r"`white` must be positive \(default: the 99.9th percentile\), got 0"):
        read_scene(path)
    path = write(tmp_path / "b.npy", {"x": np.full((2, 2, 2), np.inf)})
    with pytest.raises(
        ValueError,
        match=r"`path` must be a file with data in every band, got none in band\(s\) 0, 1 of 2, counted from 0",
    ):
        read_scene(path)
    path = write(tmp_path / "c.npy", {"x": CUBE})
    with pytest.raises(ValueError, match="`wavelengths_nm` must be 3 numbers, one per band"):
        read_scene(path, wavelengths_nm=[1, 2])
