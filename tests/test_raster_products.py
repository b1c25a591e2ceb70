"""Products of sensors: stand-ins of their documented structure give the numbers, bands and places put into them."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import rasterio

from ctmem.observe.responses import load_rsr
from ctmem.raster import hdf5_files
from ctmem.raster.opening import open_raster
from tests import raster_files as made


def whole(raster):
    return raster.read(0, 0, raster.height, raster.width)


@pytest.mark.parametrize("how", ["folder", "image", "metadata"])
def test_enmap_by_its_folder_its_image_or_its_metadata(tmp_path, how):
    array = made.cube()
    array[4] = -32768  # a band that was never expected: all of it is no data
    array[:, 3, 4] = -32768
    folder = made.write_enmap(tmp_path, array)
    path = {"folder": folder, "image": next(folder.glob("*SPECTRAL*")), "metadata": next(folder.glob("*.XML"))}[how]
    raster = open_raster(path)
    assert (raster.sensor, raster.units, raster.gsd_m, raster.no_data) == ("EnMAP", "reflectance", 30, (-32768,))
    assert np.array_equal(whole(raster), array) and raster.transform == made.NORTH_UP and raster.crs.to_epsg() == 32633
    assert np.abs(raster.bands.wavelengths_nm - made.NM).max() < 1e-9 and np.array_equal(
        raster.bands.fwhm_nm, made.FWHM
    )
    assert np.array_equal(raster.bands.good, made.GOOD) and (raster.scale == 1e-4).all()
    holes = np.isnan(raster.window(0, 0, raster.height, raster.width))
    assert holes[:, 3, 4].all() and holes.any(0).sum() == 1


def test_desis_and_its_bands_that_are_named_twice(tmp_path):
    path = made.write_desis(tmp_path, made.cube())
    for given in (path, tmp_path, next(tmp_path.glob("*IMAGE.tif"))):
        raster = open_raster(given)
        assert (raster.sensor, raster.count, raster.no_data) == ("DESIS", 7, (-32768,))
        assert np.array_equal(raster.bands.wavelengths_nm, made.NM) and np.array_equal(raster.bands.fwhm_nm, made.FWHM)
        assert raster.bands.good.all() and (raster.scale == 1e-4).all() and np.array_equal(whole(raster), made.cube())


@pytest.mark.parametrize("corners", ["centres", "edges"])
def test_prisma_joins_its_two_cubes_by_wavelength(tmp_path, corners):
    vnir, swir = made.write_prisma(tmp_path / "PRS_L2D_STD_1.he5", corners=corners)
    raster = open_raster(tmp_path / "PRS_L2D_STD_1.he5")
    assert raster.bands.wavelengths_nm.tolist() == [500, 700, 950, 1000, 1600, 2400]
    assert raster.bands.fwhm_nm.tolist() == [12, 11, 13, 10, 14, 15]
    expected = np.stack([vnir[:, 2], vnir[:, 1], swir[:, 0], vnir[:, 0], swir[:, 1], swir[:, 2]])
    assert np.array_equal(whole(raster), expected) and raster.dtype == np.uint16
    assert np.array_equal(raster.read(3, 4, 5, 6, [3, 0]), expected[[3, 0], 3:8, 4:10])
    # number 0 to 65535 is a minimum to a maximum of each detector
    vnir_scale, swir_scale = 1.25 / 65535, 0.625 / 65535
    assert np.allclose(
        raster.scale, [vnir_scale, vnir_scale, swir_scale, vnir_scale, swir_scale, swir_scale], rtol=1e-9
    )
    assert raster.offset.tolist() == [0, 0, 0.125, 0, 0.125, 0.125]
    # outside the swath all is 0; dark water is 0 in some bands
    holes = np.isnan(raster.window(0, 0, raster.height, raster.width)).any(0)
    assert holes[:2].all() and not holes[2:].any()
    assert np.isnan(raster.pick([5, 0]).window(0, 0, 3, 3)).any(0).sum() == 6
    assert raster.transform.almost_equals(made.NORTH_UP, 1e-6)
    assert (raster.gsd_m, raster.crs.to_epsg(), raster.sensor) == (30, 32633, "PRISMA")
    assert raster.metadata == {"Product_ID": "PRS_L2D_STD"}


def test_prisma_without_a_place_or_without_a_list(tmp_path):
    made.write_prisma(tmp_path / "a.he5", Epsg_Code=None)
    with pytest.warns(RuntimeWarning, match="a.he5 is in the sensor's geometry: its answer has no coordinates"):
        assert open_raster(tmp_path / "a.he5").transform is None
    made.write_prisma(tmp_path / "b.he5", List_Cw_Swir=None)
    with pytest.raises(ValueError, match="`path` must be a PRISMA file with the attribute List_Cw_Swir, got b.he5"):
        open_raster(tmp_path / "b.he5")


def test_emit(tmp_path):
    array = made.cube("f4")
    array[:, 2, 3], array[4, 5, 6] = -9999, -9999
    with pytest.warns(RuntimeWarning, match="EMIT_L2A_1.nc is in the sensor's geometry, not orthorectified"):
        raster = open_raster(made.write_emit(tmp_path / "EMIT_L2A_1.nc", array))
    assert np.array_equal(whole(raster), array) and (raster.sensor, raster.gsd_m) == ("EMIT", 60)
    assert np.abs(raster.bands.wavelengths_nm - made.NM).max() < 0.001 and np.array_equal(raster.bands.good, made.GOOD)
    assert raster.no_data == (-9999,) and raster.transform is None
    holes = np.isnan(raster.window(0, 0, raster.height, raster.width)).any(0)
    assert holes.sum() == 1 and holes[2, 3]  # 5, 6 misses a bad band alone


@pytest.mark.parametrize("ending", [".tif", ".jp2"])
def test_the_ten_metres_of_sentinel_2(tmp_path, ending):
    array = np.maximum(made.cube("u2", 4), 1)
    array[2, 4, 4] = 0
    folder = made.write_safe(tmp_path, array, ending)
    for path in (folder, folder / "MTD_MSIL2A.xml"):
        raster = open_raster(path)
        assert raster.bands.names == ("B02", "B03", "B04", "B08") and raster.sensor == "sentinel2b"
        assert np.array_equal(whole(raster), array) and raster.gsd_m == 10
    assert np.allclose(raster.offset, -np.array([1001, 1002, 1003, 1007]) / 10_000) and (raster.scale == 1e-4).all()
    lengths, response = load_rsr("sentinel2b")["B03"]
    assert abs(raster.bands.wavelengths_nm[1] - np.average(lengths, weights=response)) < 0.01
    assert np.isnan(raster.window(0, 0, 12, 20)).any(0).sum() == 1


def test_a_stack_whose_bands_are_called_as_sentinel_2s(tmp_path):
    path = made.write_tiff(tmp_path / "s2.tif", made.cube("u2", 3), tags=False)
    with rasterio.open(path, "r+") as file:
        file.descriptions = ("B02", "B8A", "B12")
    raster = open_raster(path)
    assert raster.sensor == "sentinel2a" and (np.abs(raster.bands.wavelengths_nm - [492, 865, 2202]) < 5).all()
    with rasterio.open(path, "r+") as file:
        file.descriptions = ("B10", "B11", "B12")  # Landsat has such names, too
    assert open_raster(path).bands.wavelengths_nm is None


def test_what_lacks_a_part_is_said(tmp_path):
    folder = made.write_enmap(tmp_path, made.cube())
    metadata = next(folder.glob("*.XML"))
    with pytest.raises(ValueError, match="`key` must be None: the format of the file leaves no choice, got 'a'"):
        open_raster(folder, key="a")
    text = metadata.read_text(encoding="utf-8")
    metadata.write_text(
        text.replace('<bandID number="7">', "<other>").replace("</bandID></band", "</other></band"), "utf-8"
    )
    with pytest.raises(
        ValueError, match="`path` must be metadata of 7 bands, as the image beside it has, got 6 in ENMAP01-"
    ):
        open_raster(folder)
    metadata.write_text(text[:-20], "utf-8")
    with pytest.raises(ValueError, match="`path` must be a readable XML file, got ENMAP01-.*METADATA.XML"):
        open_raster(folder)
    metadata.write_text('<!DOCTYPE x [<!ENTITY a "b">]>' + text[38:], "utf-8")
    with pytest.raises(ValueError, match="`path` must be an XML file without a DOCTYPE, got ENMAP01-"):
        open_raster(folder)
    metadata.write_text(text, "utf-8")
    next(folder.glob("*SPECTRAL*")).unlink()
    with pytest.raises(FileNotFoundError, match="`path` must be metadata with their image, …SPECTRAL_IMAGE.TIF"):
        open_raster(folder)
    with pytest.raises(
        ValueError, match="`path` must be a file, or the folder of an EnMAP, DESIS or Sentinel-2 product"
    ):
        open_raster(tmp_path)
    safe = made.write_safe(tmp_path, made.cube("u2", 4))
    next(safe.rglob("*B04_10m*")).unlink()
    with pytest.raises(FileNotFoundError, match="`path` must be a .SAFE folder with the band B04 of 10 m, got S2B"):
        open_raster(safe)


def test_channels_of_swir_may_be_counted_from_one_again(tmp_path):
    folder = made.write_enmap(tmp_path, made.cube())
    metadata = next(folder.glob("*.XML"))
    text = metadata.read_text(encoding="utf-8").replace(">6, 7<", ">2, 3<")
    metadata.write_text(text, "utf-8")
    assert np.array_equal(open_raster(folder).bands.good, made.GOOD)


def test_a_product_may_be_copied_and_reads_again(tmp_path):
    """As it is when it goes to another process: what is open stays behind."""
    made.write_prisma(tmp_path / "a.he5")
    raster = open_raster(tmp_path / "a.he5")
    before = raster.read(3, 4, 5, 6)
    hdf5_files._end(tmp_path / "a.he5")
    assert np.array_equal(copy.deepcopy(raster).read(3, 4, 5, 6), before)
