"""From a file's numbers to [0, 1]: what numpy has for the percentile, holes, and the warning of what looks like them."""

import tracemalloc
import warnings

import h5py
import numpy as np
import pytest

from ctmem.data import levels
from ctmem.data.levels import find_holes, scaled, warn_of_missing
from ctmem.data.scenes import _own_cube, read_scene


def values(kind="f8", shape=(40, 50, 7), low=1, high=3000):
    return np.random.default_rng(3).uniform(low, high, shape).astype(kind)


@pytest.mark.parametrize("kind", ["u1", "i2", "u2", "i8", "u8", "f2", "f4", "f8", ">f4"])
@pytest.mark.parametrize("order", ["C", "F", "turned"])
def test_the_same_as_numpy_over_the_whole_array(kind, order, monkeypatch):
    monkeypatch.setattr(levels, "BLOCK", 999)  # many blocks
    cube = values(kind, high=250)
    cube = {"C": cube, "F": np.asfortranarray(cube), "turned": np.moveaxis(np.ascontiguousarray(cube.T), 0, 2)}[order]
    white = np.percentile(cube.astype("f8"), 99.9)
    found, level, text = scaled(cube)
    assert level == pytest.approx(white, rel=1e-15)
    expected = np.clip(cube.astype("f8") / level, 0, 1)
    assert np.array_equal(found, expected.astype("f4")) and found.flags.c_contiguous
    assert f"{100 * (cube > level).mean():.3f} % from above" in text


@pytest.mark.parametrize("size", [1, 2, 3, 10, 999, 1000, 1001, 1002, 2001, 5000])
def test_the_percentile_of_any_number_of_values(size):
    cube = values(shape=(size, 1, 1))
    assert scaled(cube)[1] == pytest.approx(np.percentile(cube, 99.9), rel=1e-15)
    cube[:] = 7.0
    assert scaled(cube)[1] == 7.0


def test_a_pixel_is_a_hole_in_all_bands():
    cube = values("i2")
    cube[3, 4, 5] = -9999
    cube[0, 0, 0] = -32768
    holes = find_holes(cube, (-9999, -32768))
    assert np.argwhere(holes).tolist() == [[0, 0], [3, 4]]
    found, level, _ = scaled(cube, holes=holes)
    assert np.array_equal(np.isnan(found), np.repeat(holes[..., None], 7, 2))
    assert level == pytest.approx(np.percentile(cube[~holes], 99.9), rel=1e-15)
    assert np.nanmin(found) > 0


@pytest.mark.parametrize(
    ("kind", "value"),
    [("u2", 65535), ("u8", 2**64 - 1), ("i8", -(2**63)), ("f4", -3.4028234663852886e38), ("f4", 1e20), ("f4", 0.1), ("f8", np.inf),
     ("f4", np.nan), ("f2", -9999)],
)  # fmt: skip
def test_missing_values_of_every_type(kind, value):
    cube = values(kind, high=250)
    cube[2, 3, 1] = value
    stated = () if not np.isfinite(value) else (value,)
    assert np.argwhere(find_holes(cube, stated)).tolist() == [[2, 3]]


def test_values_that_the_type_does_not_have_are_no_holes():
    assert not find_holes(np.full((2, 2, 2), 255, "u1"), (-1, 65535, 0.5, np.nan, np.inf)).any()


def test_a_band_without_data_is_named():
    cube = values()
    cube[..., [2, 5]] = -1
    with pytest.raises(ValueError, match=r"data in every band, got none in band\(s\) 2, 5 of 7, counted from 0"):
        find_holes(cube, (-1,))
    cube = values(shape=(1, 2, 2))
    cube[0, 0, 0] = cube[0, 1, 1] = np.nan
    with pytest.raises(ValueError, match="at least one pixel that has data in every band, got none of 2"):
        find_holes(cube, ())


SUSPECTS = {
    "negative": ("i2", -9999, r"2 % of the values are negative \(2 % are -9999\)\. .* no_data=-9999 makes them holes"),
    "highest": ("u2", 65535, "2 % of the values are 65535. .* no_data=65535 "),
    "of a shorter type": ("f4", 65535, "2 % of the values are 65535. .* no_data=65535 "),
    "far off": ("f4", 1e20, r"2 % of the values are 1e\+20. .* no_data=1e\+20 "),
    "dark": ("u2", 0, "2 % of the pixels are 0 in all bands. .* no_data=0 "),
}


@pytest.mark.parametrize("case", SUSPECTS)
def test_what_looks_missing_is_named_with_its_share(case):
    kind, value, message = SUSPECTS[case]
    cube = values(kind)
    cube[:4, :10] = value
    with pytest.warns(RuntimeWarning, match=f"a.mat: {message}"):
        warn_of_missing(cube, "a.mat")


@pytest.mark.parametrize("kind", ["u1", "i2", "u2", "f4", "f8"])
def test_usual_values_are_not_named(kind):
    cube = values(kind, high=200)
    cube[0, 0, 0] = cube[1, 1, 1] = 250  # two of 14,000
    cube[0, :, 0] = 0  # dark, in one band
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_of_missing(cube, "a.mat")
        warn_of_missing(np.minimum(cube / np.array(100), 1).astype("f4"), "a.mat")  # reflectance that was clipped
        warn_of_missing(np.random.default_rng(0).random((2, 2, 2)), "a.mat")


# --- through a file ---


def test_a_stated_value_and_the_one_that_the_file_states(tmp_path):
    cube = values("i2")
    cube[:4, :10] = -9999
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["x"] = cube
    options = {"key": None, "axes": None, "bands": None, "white": 3000}
    with pytest.warns(RuntimeWarning, match="a.h5: 2 % of the values are negative"):
        found, units = _own_cube(tmp_path / "a.h5", **options, no_data=None)
    assert not np.isnan(found).any() and units.endswith(
        "clipped to [0, 1]: 2.000 % of the values from below, 0.000 % from above"
    )
    with h5py.File(tmp_path / "a.h5", "a") as file:
        file["x"].attrs["_FillValue"] = np.int16(-9999)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        told, units = _own_cube(tmp_path / "a.h5", **options, no_data=None)
        stated, _ = _own_cube(tmp_path / "a.h5", **options, no_data=(-9999.0,))
        plain, _ = _own_cube(tmp_path / "a.h5", **options, no_data=())
    assert (
        np.isnan(told[:4, :10]).all()
        and np.isnan(told).sum() == 40 * 7
        and units.endswith("; 40 pixel(s) without data")
    )
    assert np.array_equal(told, stated, equal_nan=True) and np.array_equal(plain, found)


def test_wavelengths_tell_the_axis_of_the_bands(tmp_path):
    cube = values("u2")
    np.save(tmp_path / "a.npy", np.moveaxis(cube, 2, 0))
    with pytest.warns(RuntimeWarning, match="read as CHW"):
        scene = read_scene(tmp_path / "a.npy", wavelengths_nm=np.linspace(400, 900, 7))
    assert np.array_equal(scene.cube, scaled(cube)[0])
    assert np.array_equal(read_scene(tmp_path / "a.npy", axes="CHW").cube, scene.cube)
    with pytest.raises(TypeError, match="`no_data` must be a number or a list of numbers, or None, got 'nothing'"):
        read_scene(tmp_path / "a.npy", no_data="nothing")
    np.save(tmp_path / "a.npy", np.ones((0, 3, 3)))
    with pytest.raises(ValueError, match=r"none of them 0, got shape \(0, 3, 3\)"):
        read_scene(tmp_path / "a.npy")


@pytest.mark.parametrize("kind", ["u1", "u2", "f4"])
def test_little_memory_beside_the_cube(tmp_path, kind):
    np.save(tmp_path / "a.npy", values(kind, (400, 300, 100), high=250))
    tracemalloc.start()
    scene = read_scene(tmp_path / "a.npy")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    # the cube twice, since a Scene keeps its own; a check of it; blocks, 40 MB at most
    assert peak < 2.3 * scene.cube.nbytes + 40e6
