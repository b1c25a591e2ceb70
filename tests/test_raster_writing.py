"""Answers written by windows: what other libraries read in them, in every form, whatever happened on the way."""

from __future__ import annotations

import dataclasses
import errno
import itertools

import h5py
import numpy as np
import pytest
import rasterio
import rioxarray
import scipy.io
import spectral.io.envi
from rasterio import Affine

from ctmem.raster import packing
from ctmem.raster.opening import open_raster
from ctmem.raster.raster import place_of
from ctmem.raster.writing import Counts, create_raster
from tests import raster_files as made

ENDINGS = [".tif", ".img", ".bsq", ".hdr", ".mat", ".npz"]


def source(folder, kind="i2", **options):
    return open_raster(made.write_tiff(folder / "source.tif", made.cube(kind), **options))


def names(folder):
    return sorted(one.name for one in folder.iterdir())


def written(path, raster, array, scale=1, **options):
    """Writes in four windows, the last first, and returns the counts."""
    with create_raster(path, raster, scale=scale, **options) as writer:
        for top, left in ((7, 11), (7, 0), (0, 11), (0, 0)):
            writer.write(array[:, top : top + 7 or None, left : left + 11][:, : array.shape[1] - top], top, left)
    return writer.counts


def seen(path):
    """(C, H, W) as another library reads it."""
    if path.suffix == ".tif":
        with rioxarray.open_rasterio(path) as file:
            return file.to_numpy()
    if path.suffix == ".mat":
        if path.read_bytes()[:10] != b"MATLAB 7.3":
            return scipy.io.loadmat(path)["cube"].transpose(2, 0, 1)
        with h5py.File(path) as file:
            return file["cube"][()].transpose(0, 2, 1)
    if path.suffix == ".npz":
        return np.load(path, allow_pickle=False)["cube"].transpose(2, 0, 1)
    file = spectral.io.envi.open(path.with_suffix(".hdr"))
    return np.asarray(file.load(dtype=file.dtype, scale=False)).transpose(2, 0, 1)


# --- numbers ---


@pytest.mark.parametrize(
    ("kind", "ending"), [*itertools.product(["i2", "u2", "f4"], ENDINGS), ("i4", ".img"), ("u1", ".tif")]
)
def test_the_round_trip_is_exact_in_every_form(tmp_path, kind, ending):
    """Window by window from file to file: what stands in the file comes back, for a second reader and for ours."""
    array = made.cube(kind) if kind != "i4" else made.cube("i2").astype("i4")
    raster = open_raster(made.write_tiff(tmp_path / "source.tif", array))
    path = tmp_path / f"out{ending}"
    with create_raster(path, raster) as writer:
        for top, left in ((7, 0), (0, 11), (7, 11), (0, 0)):
            window = raster.window(top, left, 5 if top else 7, 9 if left else 11)
            writer.write(window, top, left)
    assert writer.counts == Counts(240) and not [one for one in tmp_path.iterdir() if one.name.startswith(".")]
    found = seen(path)
    assert found.dtype == array.dtype and np.array_equal(found, array)
    again = open_raster(path)
    assert np.array_equal(again.read(0, 0, 12, 20), array) and again.dtype == array.dtype
    assert np.abs(again.bands.wavelengths_nm - made.NM).max() < 1e-9 and np.array_equal(again.bands.good, made.GOOD)
    assert np.abs(again.bands.fwhm_nm - made.FWHM).max() < 1e-9


def test_the_same_numbers_are_the_same_bytes(tmp_path):
    raster = source(tmp_path)
    window = raster.window(0, 0, 12, 20)
    for ending in ENDINGS:
        for name in ("a", "b"):
            with create_raster(tmp_path / f"{name}{ending}", raster, overwrite=True) as writer:
                for top in (0, 6) if name == "a" else (6, 0, 6):
                    writer.write(window[:, top : top + 6], top, 0)
        written = [(tmp_path / f"{name}{ending}".replace(".hdr", ".img")).read_bytes() for name in ("a", "b")]
        assert written[0] == written[1], ending


def test_large_answers_are_read_line_by_line(tmp_path, monkeypatch):
    raster = source(tmp_path)
    for ending in (".tif", ".npz"):
        written(tmp_path / f"a{ending}", raster, made.cube("f4"))
        monkeypatch.setattr(packing, "AT_ONCE", 0)
        written(tmp_path / f"b{ending}", raster, made.cube("f4"))
        assert (tmp_path / f"a{ending}").read_bytes() == (tmp_path / f"b{ending}").read_bytes()
        monkeypatch.undo()


def test_large_arrays_become_matlab_7_3(tmp_path, monkeypatch):
    monkeypatch.setattr(packing, "MAT5", 100)
    raster = source(tmp_path, "f4")
    written(tmp_path / "a.mat", raster, raster.window(0, 0, 12, 20))
    assert (tmp_path / "a.mat").read_bytes()[124:128] == b"\x00\x02IM"
    assert np.array_equal(seen(tmp_path / "a.mat"), made.cube("f4"))
    again = open_raster(tmp_path / "a.mat")
    assert np.array_equal(again.read(1, 2, 3, 4), made.cube("f4")[:, 1:4, 2:6]) and again.gsd_m == 30


def test_whole_numbers_are_rounded_and_saturate(tmp_path):
    raster = source(tmp_path, "u1")
    array = np.zeros((7, 12, 20), "f4")
    array[0, 0, :8] = [-3, 255.4, 255.6, 300, 0.5, 1.5, 2.5, np.inf]
    assert written(tmp_path / "a.tif", raster, array) == Counts(240, 0, 4, 0)
    assert seen(tmp_path / "a.tif")[0, 0, :8].tolist() == [0, 255, 255, 255, 0, 2, 2, 255]
    for kind in ("i4", "i8", "u8", "u4"):
        limits = np.iinfo(kind)
        array[1, 1, :2] = [-1e30, 1e30]
        with create_raster(tmp_path / "b.tif", raster, dtype=kind, overwrite=True) as writer:
            assert writer.write(array, 0, 0).saturated >= 2
        low, high = (int(x) for x in open_raster(tmp_path / "b.tif").read(1, 0, 1, 2, [1]).reshape(-1))
        assert low == limits.min and limits.max - 2048 < high <= limits.max


def test_numbers_beyond_float32_come_through_in_their_own_type(tmp_path):
    raster = source(tmp_path, "i2")
    array = np.full((7, 12, 20), 2**31 - 5, np.int32)
    with create_raster(tmp_path / "a.tif", raster, dtype="i4") as writer:
        writer.write(array, 0, 0)
    assert np.array_equal(seen(tmp_path / "a.tif"), array)


# --- holes ---


@pytest.mark.parametrize("ending", [".tif", ".img", ".mat", ".npz"])
def test_no_data_out_where_holes_are(tmp_path, ending):
    array = made.cube()
    array[2, 3, 4] = -9999
    raster = open_raster(made.write_tiff(tmp_path / "source.tif", array, nodata=-9999))
    window = raster.window(0, 0, 12, 20)
    window[0, 0, 0], window[4, 0, 1] = -9999, -9999  # data that happen to be so, of a good and of a bad band
    path = tmp_path / f"out{ending}"
    assert written(path, raster, window) == Counts(240, 1, 0, 1)
    found = seen(path)
    assert (found[:, 3, 4] == -9999).all() and (found[0, 0, 0], found[4, 0, 1]) == (-9998, -9999)
    again = open_raster(path)
    assert again.no_data == (-9999,) and np.isnan(again.window(0, 0, 12, 20)).all(0).nonzero() == (3, 4)


@pytest.mark.parametrize(("kind", "value"), [("i2", -32768), ("u2", 65535), ("u1", 255)])
def test_a_file_with_a_mask_but_no_number_gets_one(tmp_path, kind, value):
    raster = dataclasses.replace(source(tmp_path, kind), masked=True)
    window = raster.window(0, 0, 12, 20)
    window[:, 5, 6], window[0, 0, 0] = np.nan, value
    assert written(tmp_path / "a.tif", raster, window) == Counts(240, 1, 0, 1)
    assert open_raster(tmp_path / "a.tif").no_data == (value,) and seen(tmp_path / "a.tif")[0, 5, 6] == value
    assert abs(int(seen(tmp_path / "a.tif")[0, 0, 0]) - value) == 1


def test_holes_of_floats_are_nan_unless_the_file_has_a_number(tmp_path):
    raster = source(tmp_path, "f4")
    window = raster.window(0, 0, 12, 20)
    window[:, 5, 6] = np.nan
    written(tmp_path / "a.tif", raster, window)
    assert np.isnan(seen(tmp_path / "a.tif")[:, 5, 6]).all()
    told = dataclasses.replace(raster, no_data=(0.0,))
    window[0, 0, 0] = 0
    assert written(tmp_path / "b.tif", told, window).moved == 1
    found = seen(tmp_path / "b.tif")
    assert (found[:, 5, 6] == 0).all() and 0 < found[0, 0, 0] < 1e-30


def test_a_hole_where_no_number_means_no_data_is_refused(tmp_path):
    raster = source(tmp_path)
    window = raster.window(0, 0, 12, 20)
    window[:, 5, 6] = np.nan
    said = "`no_data` must be given: a number of int16 that means no data, got None, and there are holes"
    with pytest.raises(ValueError, match=said), create_raster(tmp_path / "a.tif", raster) as writer:
        writer.write(window, 0, 0)
    assert names(tmp_path) == ["source.tif"]
    written(tmp_path / "a.tif", raster, window, no_data=-1)
    assert open_raster(tmp_path / "a.tif").no_data == (-1,)
    with pytest.raises(ValueError, match="`no_data` must be a number of int16, got 0.5"):
        create_raster(tmp_path / "b.tif", raster, no_data=0.5)


# --- what is said in the file ---


@pytest.mark.parametrize("scale", [2, 3, 4, 6])
@pytest.mark.parametrize("transform", [made.NORTH_UP, made.ROTATED], ids=["north up", "rotated"])
@pytest.mark.parametrize("ending", [".tif", ".img"])
def test_corners_stay_and_pixels_shrink(tmp_path, scale, transform, ending):
    raster = source(tmp_path, transform=transform)
    with create_raster(tmp_path / f"a{ending}", raster, scale=scale) as writer:
        writer.write(np.zeros((7, 12 * scale, 20 * scale), "f4"), 0, 0)
    with rioxarray.open_rasterio(tmp_path / f"a{ending}") as file:
        found, size, crs = file.rio.transform(), file.shape, file.rio.crs
    assert size == (7, 12 * scale, 20 * scale) and crs == raster.crs
    for row, column in ((0, 0), (0, 20), (12, 0), (12, 20), (5.5, 7.25)):
        place = place_of(transform, column, row)
        back = place_of(~found, *place)
        assert abs(back[0] - column * scale) < 0.01 and abs(back[1] - row * scale) < 0.01
    assert open_raster(tmp_path / f"a{ending}").gsd_m == pytest.approx(30 / scale, rel=1e-9)


def test_a_sheared_transform_goes_into_a_geotiff_alone(tmp_path):
    raster = source(tmp_path, transform=Affine(30, 5, 5e5, 3, -28, 4.2e6))
    said = r"`path` must be a GeoTIFF \(.tif\), got a name of an ENVI file, whose header cannot hold the shear"
    with pytest.raises(ValueError, match=said):
        create_raster(tmp_path / "a.img", raster)
    written(tmp_path / "a.tif", raster, made.cube("f4"))
    assert open_raster(tmp_path / "a.tif").transform.almost_equals(raster.transform)


def test_bands_are_said_where_others_look_for_them(tmp_path):
    raster = source(tmp_path)
    raster = dataclasses.replace(raster, scale=1e-4, units="reflectance", sensor="EnMAP", metadata={"AUTHOR": "me"},
                                 bands=dataclasses.replace(raster.bands, names=tuple("abcdefg")))  # fmt: skip
    written(tmp_path / "a.tif", raster, made.cube("f4"))
    with rasterio.open(tmp_path / "a.tif") as file:
        assert file.profile["tiled"] and file.profile["compress"] == "deflate" and file.descriptions == tuple("abcdefg")
        assert file.scales == (1e-4,) * 7 and file.units == ("reflectance",) * 7 and file.tags()["AUTHOR"] == "me"
        lists = file.tags(ns="ENVI")
        for number in range(7):
            own, imagery = file.tags(number + 1), file.tags(number + 1, ns="IMAGERY")
            assert float(own["wavelength"]) == made.NM[number] and own["wavelength_units"] == "Nanometers"
            assert float(own["fwhm"]) == made.FWHM[number] and own["bbl"] == str(int(made.GOOD[number]))
            assert abs(float(imagery["CENTRAL_WAVELENGTH_UM"]) * 1000 - made.NM[number]) < 0.01
            assert abs(float(imagery["FWHM_UM"]) * 1000 - made.FWHM[number]) < 0.01
    assert [float(x) for x in lists["wavelength"].strip("{}").split(",")] == made.NM.tolist()
    assert lists["bbl"] == "{1, 1, 1, 1, 0, 1, 1}" and lists["wavelength_units"] == "Nanometers" and "fwhm" in lists
    written(tmp_path / "b.img", raster, made.cube("f4"), no_data=-500)
    header = spectral.io.envi.open(tmp_path / "b.hdr").metadata
    assert [float(x) for x in header["wavelength"]] == made.NM.tolist() and header["wavelength units"] == "Nanometers"
    assert [float(x) for x in header["fwhm"]] == made.FWHM.tolist() and header["bbl"] == [1, 1, 1, 1, 0, 1, 1]
    assert header["reflectance scale factor"] == "10000" and header["data ignore value"] == "-500"
    assert header["band names"] == list("abcdefg") and header["sensor type"] == "EnMAP"
    assert np.allclose(
        spectral.io.envi.open(tmp_path / "b.hdr").load()[:, :, 0].squeeze(), made.cube("f4").round()[0] * 1e-4
    )
    again = open_raster(tmp_path / "b.hdr")
    assert (again.scale == 1e-4).all() and again.units == "reflectance" and again.sensor == "EnMAP"


def test_texts_cannot_add_entries_to_a_header(tmp_path):
    raster = source(tmp_path)
    odd = dataclasses.replace(raster, sensor="a\nlines = 3", units="W}\nbands = 2", bands=dataclasses.replace(
        raster.bands, names=("a, b", "c\nsamples = 1", *"defgh")))  # fmt: skip
    written(tmp_path / "a.img", odd, made.cube("f4"))
    again = open_raster(tmp_path / "a.img")
    assert (again.height, again.width, again.count) == (12, 20, 7) and again.bands.names[:2] == ("a b", "c samples 1")
    assert again.sensor == "a lines 3" and again.units == "W bands 2"


def test_scales_that_differ_between_bands(tmp_path):
    scale, offset = np.linspace(1, 2, 7), np.linspace(-1, 1, 7)
    raster = dataclasses.replace(source(tmp_path), scale=scale, offset=offset, units="W")
    for ending in ENDINGS:
        written(tmp_path / f"a{ending}", raster, made.cube("f4"), overwrite=True)
        again = open_raster(tmp_path / f"a{ending}")
        assert np.allclose(again.scale, scale, rtol=1e-11) and np.allclose(again.offset, offset, atol=1e-11), ending


def test_a_band_without_wavelength_stays_without(tmp_path):
    raster = open_raster(
        made.write_tiff(tmp_path / "s.tif", made.cube()), wavelengths_nm=[400, 0, 600, 700, 800, 900, 1000]
    )
    for ending in (".tif", ".img"):
        written(tmp_path / f"a{ending}", raster, made.cube("f4"))
        assert np.isnan(open_raster(tmp_path / f"a{ending}").bands.wavelengths_nm).tolist() == [False, True] + 5 * [
            False
        ]


def test_four_bands_of_bytes_are_no_picture_with_a_mask(tmp_path):
    raster = open_raster(made.write_tiff(tmp_path / "s.tif", made.cube("u1", 4), tags=False))
    written(tmp_path / "a.tif", raster, made.cube("u1", 4).astype("f4"))
    assert open_raster(tmp_path / "a.tif").count == 4


# --- whole or not there ---


def test_what_is_there_is_not_written_over(tmp_path):
    raster = source(tmp_path)
    (tmp_path / "a.hdr").write_text("mine", encoding="utf-8")
    with pytest.raises(
        FileExistsError, match="`path` must be a new file, or `overwrite` True, got a.hdr, which is there"
    ):
        create_raster(tmp_path / "a.img", raster)
    with pytest.raises(ValueError, match="`path` must be another file than the one that is read, got .*source.tif"):
        create_raster(tmp_path / "source.tif", raster, overwrite=True)
    with pytest.raises(ValueError, match="`path` must be a name that ends in .tif, .tiff, .hdr, .*, got a.jp2"):
        create_raster(tmp_path / "a.jp2", raster)
    with pytest.raises(NotADirectoryError, match="`path` must be a folder that can be written"):
        create_raster(tmp_path / "source.tif" / "a.tif", raster)
    for dtype in ("complex64", "bool", "float16", "none such", "S3"):
        with pytest.raises(TypeError, match="`dtype` must be"):
            create_raster(tmp_path / "b.tif", raster, dtype=dtype)
    assert names(tmp_path) == ["a.hdr", "source.tif"]


def test_after_an_error_nothing_is_left_but_what_was_there(tmp_path):
    raster = source(tmp_path)
    written(tmp_path / "a.tif", raster, made.cube("f4"))
    before = (tmp_path / "a.tif").read_bytes()
    with pytest.raises(KeyboardInterrupt), create_raster(tmp_path / "a.tif", raster, overwrite=True) as writer:
        writer.write(np.zeros((7, 5, 5), "f4"), 0, 0)
        raise KeyboardInterrupt
    assert (tmp_path / "a.tif").read_bytes() == before and names(tmp_path) == ["a.tif", "source.tif"]
    with create_raster(tmp_path / "b.tif", raster) as writer:
        for array, top in ((np.zeros((6, 5, 5), "f4"), 0), (np.zeros((7, 5, 5), "f4"), 8)):
            with pytest.raises(ValueError, match=r"`array` must be a window inside \(7, 12, 20\), got shape"):
                writer.write(array, top, 0)
        with pytest.raises(TypeError, match=r"`array` must be an array of real numbers \(C, h, w\)"):
            writer.write("no", 0, 0)


@pytest.mark.parametrize("ending", [".tif", ".img", ".mat", ".npz"])
def test_an_unfinished_file_is_gone_on_with(tmp_path, ending):
    raster = source(tmp_path)
    array = made.cube("f4").round()
    whole, part = tmp_path / f"a{ending}", tmp_path / f"b{ending}"
    written(whole, raster, array)
    with pytest.raises(KeyboardInterrupt), create_raster(part, raster, keep=True) as writer:
        writer.write(array[:, :7], 0, 0)
        writer.write(np.full((7, 3, 9), 11.0), 7, 0)  # half a window, written again later
        raise KeyboardInterrupt
    assert not part.exists() and writer.part.exists()
    with create_raster(part, raster, resume=True, keep=True) as writer:
        assert writer.resumed
        writer.write(array[:, 7:], 7, 0)
    assert part.read_bytes() == whole.read_bytes() and not writer.part.exists()
    with pytest.raises(KeyboardInterrupt), create_raster(part, raster, keep=True, overwrite=True):
        raise KeyboardInterrupt
    with create_raster(part, raster, scale=2, overwrite=True, resume=True) as writer:  # of another size
        assert not writer.resumed


def test_a_full_disk_is_one_clear_error(tmp_path, monkeypatch):
    raster = source(tmp_path)

    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    said = r"`path` must be a file that can be written, got a.tif: No space left on device \(free some space, then"
    with pytest.raises(OSError, match=said), create_raster(tmp_path / "a.tif", raster) as writer:
        writer.write(made.cube("f4"), 0, 0)
        monkeypatch.setattr(packing.rasterio, "open", full)
    assert names(tmp_path) == ["source.tif"]


def test_a_geotiff_is_read_again_before_it_gets_its_name(tmp_path, monkeypatch):
    """GDAL closes a file on a full disk without a word: what it was to write last is not in it."""
    raster = source(tmp_path)
    said = "`path` must be a file that can be written, got a.tif: what was written is not what is read again"
    bands_of, asked = packing.Layout.bands_of, []

    def other(self, *args):
        asked.append(args)
        return (band + (number == 6 and len(asked) == 2) for number, band in enumerate(bands_of(self, *args)))

    monkeypatch.setattr(packing.Layout, "bands_of", other)
    with pytest.raises(OSError, match=said), create_raster(tmp_path / "a.tif", raster, keep=True) as writer:
        writer.write(made.cube("f4"), 0, 0)
    monkeypatch.setattr(packing.Layout, "bands_of", bands_of)
    assert names(tmp_path) == [".a.tif.unfinished", "source.tif"]
    with create_raster(tmp_path / "a.tif", raster, resume=True) as writer:
        assert writer.resumed
    assert np.array_equal(seen(tmp_path / "a.tif"), made.cube("f4").round())


def test_what_gdal_kept_beside_the_old_file_goes_with_it(tmp_path):
    raster = source(tmp_path)
    (tmp_path / "a.tif").write_bytes(b"old")
    (tmp_path / "a.tif.aux.xml").write_text("old", encoding="utf-8")
    written(tmp_path / "a.tif", raster, made.cube("f4"), overwrite=True)
    assert names(tmp_path) == ["a.tif", "source.tif"]


def test_the_disk_that_is_needed_is_known_before(tmp_path):
    raster = source(tmp_path)
    size = 7 * 24 * 40 * 2
    for ending, needed in ((".tif", 2 * size), (".img", size)):
        with create_raster(tmp_path / f"a{ending}", raster, scale=2) as writer:
            assert writer.needed == needed
