"""ENVI and GeoTIFF files by windows: the numbers, bands, holes and places that other libraries see in them."""

from __future__ import annotations

import copy
import struct
import warnings

import numpy as np
import pytest
import rasterio
import rioxarray
import spectral.io.envi
from rasterio import Affine
from rasterio.crs import CRS

from ctmem.raster import envi, spectra
from ctmem.raster.checking import flag_empty_bands
from ctmem.raster.opening import open_raster
from ctmem.raster.raster import Bands, Raster, ground_sampling_m
from tests import raster_files as made

KINDS = ["u1", "i2", "u2", "i4", "u4", "f4", "f8"]


def whole(raster):
    return raster.read(0, 0, raster.height, raster.width)


# --- numbers ---


@pytest.mark.parametrize("kind", ["i2", "u2", "f4"])
@pytest.mark.parametrize("interleave", ["bsq", "bil", "bip"])
@pytest.mark.parametrize("order", [0, 1])
def test_envi_is_what_spectral_python_sees(tmp_path, kind, interleave, order):
    array = made.cube(kind)
    header = made.write_envi(tmp_path / "a.hdr", array, interleave, **{"data ignore value": None, "byte order": order})
    if order:  # the numbers themselves are written by hand
        moved = {"bsq": (0, 1, 2), "bil": (1, 0, 2), "bip": (1, 2, 0)}[interleave]
        array.transpose(moved).astype(array.dtype.newbyteorder(">")).tofile(tmp_path / "a.img")
        text = header.read_text(encoding="utf-8")
        header.write_text(text.replace("byte order = 0", "byte order = 1"), encoding="utf-8")
    seen = np.asarray(spectral.io.envi.open(header).load(dtype=array.dtype, scale=False))
    for path in (header, tmp_path / "a.img"):
        raster = open_raster(path)
        assert np.array_equal(whole(raster), seen.transpose(2, 0, 1)) and np.array_equal(seen.transpose(2, 0, 1), array)
        assert np.array_equal(raster.read(3, 4, 5, 6, [6, 0, 2]), array[[6, 0, 2], 3:8, 4:10])
        assert raster.dtype == array.dtype and (raster.height, raster.width, raster.count) == (12, 20, 7)
        assert np.abs(raster.bands.wavelengths_nm - made.NM).max() < 1e-9
        assert np.abs(raster.bands.fwhm_nm - made.FWHM).max() < 1e-9 and np.array_equal(raster.bands.good, made.GOOD)
        assert raster.transform.almost_equals(made.NORTH_UP) and raster.gsd_m == 30 and raster.name == "a"


@pytest.mark.parametrize("kind", ["i2", "u2", "f4"])
@pytest.mark.parametrize(
    "options",
    [{}, {"tiled": True, "blockxsize": 16, "blockysize": 16, "compress": "deflate"}, {"interleave": "pixel"},
     {"driver": "COG"}, {"BIGTIFF": "YES", "ENDIANNESS": "BIG"}],
    ids=["strips", "tiles", "pixel", "COG", "BigTIFF"],
)  # fmt: skip
def test_geotiff_is_what_rioxarray_sees(tmp_path, kind, options):
    array = made.cube(kind)
    raster = open_raster(made.write_tiff(tmp_path / "a.tif", array, **options, tags=options.get("driver") != "COG"))
    with rioxarray.open_rasterio(tmp_path / "a.tif") as seen:
        assert np.array_equal(whole(raster), seen.to_numpy()) and np.array_equal(whole(raster), array)
        assert raster.transform == seen.rio.transform() and raster.crs == seen.rio.crs
    assert np.array_equal(raster.read(3, 4, 5, 6, [6, 0, 2]), array[[6, 0, 2], 3:8, 4:10])
    if options.get("driver") != "COG":
        assert np.abs(raster.bands.wavelengths_nm - made.NM).max() < 1e-9
        assert np.abs(raster.bands.fwhm_nm - made.FWHM).max() < 1e-9 and np.array_equal(raster.bands.good, made.GOOD)


@pytest.mark.parametrize("kind", KINDS)
def test_a_window_has_the_numbers_of_the_file(tmp_path, kind):
    array = np.arange(7 * 12 * 20).reshape(7, 12, 20).astype(kind)
    window = open_raster(made.write_tiff(tmp_path / "a.tif", array)).window(3, 4, 5, 6)
    assert window.dtype == np.float32 and np.array_equal(window, array[:, 3:8, 4:10].astype("f4"))


def test_a_lossless_jpeg_2000(tmp_path):
    array = made.cube("u2", 3)
    made.write_tiff(
        tmp_path / "a.jp2", array, tags=False, driver="JP2OpenJPEG", QUALITY=100, REVERSIBLE="YES", YCC="NO"
    )
    raster = open_raster(tmp_path / "a.jp2")
    assert np.array_equal(whole(raster), array) and raster.transform.almost_equals(made.NORTH_UP)


def test_windows_outside_and_unknown_bands_are_refused(tmp_path):
    raster = open_raster(made.write_tiff(tmp_path / "a.tif", made.cube()))
    with pytest.raises(ValueError, match=r"`height` must be of a window inside 12×20 px, got 5×6 px at \(8, 0\)"):
        raster.read(8, 0, 5, 6)
    with pytest.raises(ValueError, match=r"`bands\[1\]` must be a whole number from 0 to 6, got 7"):
        raster.read(0, 0, 5, 6, [0, 7])
    with pytest.raises(ValueError, match="`height` must be of a window inside 12×20 px, got 0×6 px"):
        raster.window(0, 0, 0, 6)


# --- holes ---


def test_no_data_nan_and_infinity_of_good_bands_are_holes(tmp_path):
    array = made.cube("f4")
    array[1, 2, 3], array[2, 3, 4], array[3, 4, 5] = -9999, np.nan, np.inf
    array[4, 5, 6], array[4, 6, 7] = np.nan, -9999  # of the bad band
    raster = open_raster(made.write_tiff(tmp_path / "a.tif", array, nodata=-9999))
    window = raster.window(1, 1, 8, 12)
    holes = np.isnan(window)
    assert (holes.all(0) == holes.any(0)).all() and list(zip(*holes[0].nonzero())) == [(1, 2), (2, 3), (3, 4)]
    assert (window[4, 4, 5], window[4, 5, 6]) == (0, -9999)
    told = np.isnan(open_raster(tmp_path / "a.tif", no_data=[array[0, 0, 0].item(), -9999.0]).window(0, 0, 12, 20)).all(
        0
    )
    assert told[0, 0] and told.sum() == 4
    assert np.isnan(open_raster(tmp_path / "a.tif", no_data=()).window(0, 0, 12, 20)).all(0).sum() == 2


@pytest.mark.parametrize(("kind", "value"), [("i2", -32768), ("u2", 65535), ("u1", 0), ("i4", -2147483648)])
def test_no_data_of_whole_numbers(tmp_path, kind, value):
    array = np.arange(1, 7 * 240 + 1).reshape(7, 12, 20).astype(kind)
    array[array == value] = 1
    array[0, 2, 3] = value
    for path in (made.write_tiff(tmp_path / "a.tif", array, nodata=value),
                 made.write_envi(tmp_path / "b.hdr", array, **{"data ignore value": value})):  # fmt: skip
        raster = open_raster(path)
        assert raster.no_data == (value,) and np.isnan(raster.window(0, 0, 12, 20)).all(0).sum() == 1


def test_bands_in_which_all_is_missing_become_bad_ones(tmp_path):
    array = made.cube("f4")
    array[1], array[3, 0, 0], array[6] = -9999, -9999, np.nan
    raster = open_raster(made.write_tiff(tmp_path / "empty.tif", array, nodata=-9999))
    assert np.isnan(raster.window(0, 0, 12, 20)).all()
    with pytest.warns(RuntimeWarning, match=r"empty.tif: no pixel has data in band\(s\) 1, 6, counted from 0"):
        flagged = flag_empty_bands(raster)
    assert flagged.bands.good.tolist() == [True, False, True, True, False, True, False]
    assert np.isnan(flagged.window(0, 0, 12, 20)).all(0).sum() == 1
    assert flag_empty_bands(flagged) is flagged
    array[:] = np.nan
    raster = open_raster(made.write_tiff(tmp_path / "b.tif", array))
    assert flag_empty_bands(raster) is raster


def test_a_no_data_value_that_the_type_does_not_have_hides_nothing(tmp_path):
    raster = open_raster(made.write_envi(tmp_path / "a.hdr", made.cube("u2"), **{"data ignore value": -9999}))
    assert not np.isnan(raster.window(0, 0, 12, 20)).any() and raster.no_data == (-9999,)


def test_the_masks_of_a_file(tmp_path):
    array = made.cube("u2", 4)
    mask = np.full((12, 20), 255, "u1")
    mask[2, 3] = 0
    path = made.write_tiff(tmp_path / "a.tif", array, tags=False)
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), rasterio.open(path, "r+") as file:
        file.write_mask(mask)
    raster = open_raster(path)
    assert raster.masked and np.isnan(raster.window(0, 0, 12, 20)).all(0).nonzero() == (2, 3)
    # an alpha band is no data, but a mask; said
    path = tmp_path / "alpha.tif"
    made.write_tiff(
        path, np.concatenate([array[:3], mask[None].astype("u2")]), tags=False, photometric="RGB", alpha="YES"
    )
    with pytest.warns(RuntimeWarning, match=r"alpha.tif: band 4 is marked as its mask \(alpha\), and taken so"):
        raster = open_raster(path)
    assert raster.count == 3 and raster.masked and np.isnan(raster.window(0, 0, 12, 20)).all(0).sum() == 1


def test_four_bands_that_have_wavelengths_are_no_mask(tmp_path):
    path = made.write_tiff(tmp_path / "a.tif", made.cube("u1", 4) | 1, photometric="RGB", alpha="YES")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert open_raster(path).count == 4
    bare = made.write_tiff(tmp_path / "b.tif", made.cube("u1", 4) | 1, photometric="RGB", alpha="YES", tags=False)
    assert (
        open_raster(bare, bands=[0, 1, 2, 3]).count == 4
        and open_raster(bare, wavelengths_nm=[480, 560, 660, 840]).count == 4
    )


# --- bands ---


@pytest.mark.parametrize(
    ("unit", "factor"),
    [("Nanometers", 1), ("nm", 1), ("Micrometers", 1e-3), ("um", 1e-3), ("µm", 1e-3), ("Unknown", 1), (None, 1)],
)
def test_units_of_wavelengths(tmp_path, unit, factor):
    values = [repr(float(x)) for x in made.NM * factor]
    widths = [repr(float(x)) for x in made.FWHM * factor]
    header = made.write_envi(
        tmp_path / "a.hdr", made.cube(), wavelength=values, fwhm=widths, **{"wavelength units": unit}
    )
    bands = open_raster(header).bands
    assert np.abs(bands.wavelengths_nm - made.NM).max() < 1e-9 and np.abs(bands.fwhm_nm - made.FWHM).max() < 1e-9


@pytest.mark.parametrize(
    ("unit", "factor", "said"),
    [
        (
            None,
            1e-3,
            "a{}.hdr does not say the unit of its wavelengths: 0.423033 to 2.20075 look like µm, and are taken so",
        ),
        ("Unknown", 1e-3, "a{}.hdr says 'unknown', but 0.423033 to 2.20075 look like µm, and are taken so"),
        ("Nanometers", 1e-3, "a{}.hdr says 'nanometers', but 0.423033 to 2.20075 look like µm, and are taken so"),
        ("Micrometers", 1, "a{}.hdr says 'micrometers', but 423.033 to 2200.75 look like nm, and are taken so"),
    ],
)
def test_units_that_are_missing_or_cannot_be_right_are_said(tmp_path, unit, factor, said):
    number = f"{unit}{factor}"  # each warning comes once for a name
    values = [repr(float(x)) for x in made.NM * factor]
    header = made.write_envi(tmp_path / f"a{number}.hdr", made.cube(), wavelength=values, **{"wavelength units": unit})
    with pytest.warns(RuntimeWarning, match=said.format(number)):
        bands = open_raster(header).bands
    assert np.abs(bands.wavelengths_nm - made.NM).max() < 1e-9


def test_wavelengths_of_neither_unit_and_of_no_length(tmp_path):
    header = made.write_envi(
        tmp_path / "a.hdr", made.cube(), wavelength=[1, 2, 3, 4, 500, 600, 700], **{"wavelength units": None}
    )
    with pytest.raises(ValueError, match="`wavelengths_nm` must be given: a.hdr does not say their unit, got 1 to 700"):
        open_raster(header)
    header = made.write_envi(
        tmp_path / "a.hdr", made.cube(), wavelength=[1, 2, 3, 4, 5, 6, 7], **{"wavelength units": "Index"}
    )
    assert open_raster(header).bands.wavelengths_nm is None
    nm, widths = spectra.to_nm(np.array([20_000.0, 0.0]), "Wavenumber", "a", np.array([200.0, 1.0]))
    assert nm[0] == 500 and np.isnan(nm[1]) and widths[0] == 5
    header = made.write_envi(tmp_path / "a.hdr", made.cube(), wavelength=[0, 0.5, "nan", 0.7, 0.8, 0.9, 1])
    nm = open_raster(header).bands.wavelengths_nm
    assert np.isnan(nm).tolist() == [True, False, True] + 4 * [False] and nm[1] == 500
    header = made.write_envi(tmp_path / "b.hdr", made.cube(), wavelength=[0.5, 0.6])
    with pytest.warns(RuntimeWarning, match="wavelength of b.hdr: 2 numbers for 7 bands, which are left out"):
        assert open_raster(header).bands.wavelengths_nm is None


def test_wavelengths_in_other_places_of_a_geotiff(tmp_path):
    path = made.write_tiff(tmp_path / "a.tif", made.cube(), tags=False)
    with rasterio.open(path, "r+") as file:
        file.descriptions = [f"Band {n} ({nm:.3f} Nanometers)" for n, nm in enumerate(made.NM, 1)]
    assert np.abs(open_raster(path).bands.wavelengths_nm - made.NM).max() < 1e-3
    with rasterio.open(path, "r+") as file:
        for number, nm in enumerate(made.NM, 1):
            file.update_tags(number, ns="IMAGERY", CENTRAL_WAVELENGTH_UM=str(nm / 1000 + 1), FWHM_UM="0.01")
    bands = open_raster(path).bands
    assert np.abs(bands.wavelengths_nm - made.NM - 1000).max() < 1e-6 and (bands.fwhm_nm == 10).all()
    with rasterio.open(path, "r+") as file:
        file.update_tags(ns="ENVI", wavelength="{" + ",".join(map(str, made.NM / 1000)) + "}", wavelength_units="Micrometers",
                         bbl="{1,1,1,1,0,1,1}")  # fmt: skip
    bands = open_raster(path).bands
    assert np.abs(bands.wavelengths_nm - made.NM).max() < 1e-9 and np.array_equal(bands.good, made.GOOD)


def test_bands_are_picked_by_number_and_name(tmp_path):
    path = made.write_tiff(tmp_path / "a.tif", made.cube(), nodata=7)
    with rasterio.open(path, "r+") as file:
        file.descriptions = list("abcdefg")
    raster = open_raster(path, bands=["c", 0, "6"])
    assert raster.bands.names == ("c", "a", "g") and np.array_equal(whole(raster), made.cube()[[2, 0, 6]])
    assert np.abs(raster.bands.wavelengths_nm - made.NM[[2, 0, 6]]).max() < 1e-9
    with pytest.raises(ValueError, match=r"`bands\[0\]` must be a band of the file \(a, b, c, d, e, f, g\), got 'B08'"):
        open_raster(path, bands=["B08"])
    with pytest.raises(ValueError, match=r"`bands\[0\]` must be a whole number from 0 to 6, got 7"):
        open_raster(path, bands=[7])


def test_what_the_caller_says_comes_first(tmp_path):
    path = made.write_tiff(tmp_path / "a.tif", made.cube())
    raster = open_raster(path, wavelengths_nm=[400, 500, 600, 0, 800, 900, 1000], gsd_m=7)
    assert raster.gsd_m == 7 and raster.bands.wavelengths_nm[2] == 600 and np.isnan(raster.bands.wavelengths_nm[3])
    with pytest.raises(ValueError, match="`wavelengths_nm` must be 7 numbers in nm, one per band, got 2 numbers"):
        open_raster(path, wavelengths_nm=[400, 500])
    with pytest.raises(ValueError, match="`wavelengths_nm` must be in nm, got 0.4 to 1: these look like µm"):
        open_raster(path, wavelengths_nm=np.linspace(0.4, 1, 7))


def test_what_numbers_mean(tmp_path):
    raster = open_raster(made.write_envi(tmp_path / "a.hdr", made.cube(), **{"reflectance scale factor": 10000}))
    assert (raster.scale == 1e-4).all() and raster.units == "reflectance" and np.array_equal(whole(raster), made.cube())
    gains = {
        "data gain values": [0.5] * 7,
        "data offset values": list(range(7)),
        "data units": "W",
        "sensor type": "AVIRIS",
    }
    raster = open_raster(made.write_envi(tmp_path / "b.hdr", made.cube(), **gains))
    assert (raster.scale == 0.5).all() and raster.offset.tolist() == list(range(7)) and raster.units == "W"
    assert raster.sensor == "AVIRIS"
    path = made.write_tiff(tmp_path / "c.tif", made.cube())
    with rasterio.open(path, "r+") as file:
        file.scales, file.offsets, file.units = [2.0] * 7, [3.0] * 7, ["m"] * 7
    raster = open_raster(path)
    assert raster.scale.tolist() == [2] * 7 and raster.offset.tolist() == [3] * 7 and raster.units == "m"


# --- places ---


@pytest.mark.parametrize("transform", [made.NORTH_UP, made.ROTATED, Affine(30, 5, 5e5, 3, -28, 4.2e6)])
def test_places_are_kept(tmp_path, transform):
    raster = open_raster(made.write_tiff(tmp_path / "a.tif", made.cube(), transform=transform))
    assert raster.transform.almost_equals(transform, 1e-9)
    assert abs(raster.gsd_m - abs(transform.determinant) ** 0.5) < 1e-9


def test_metres_of_other_units():
    feet = CRS.from_epsg(2263)
    assert abs(ground_sampling_m(Affine(10, 0, 0, 0, -10, 0), feet, 5, 5) - 3.048006096) < 1e-6
    degrees = ground_sampling_m(Affine(0.001, 0, 10, 0, -0.001, 60.005), CRS.from_epsg(4326), 10, 10)
    assert abs(degrees - 111.195 * np.sqrt(0.5)) < 0.1
    assert (
        ground_sampling_m(None, feet, 5, 5) is None and ground_sampling_m(Affine(1, 0, 0, 0, 1, 0), None, 5, 5) is None
    )


def test_a_file_without_a_place(tmp_path):
    path = made.write_tiff(tmp_path / "a.tif", made.cube(), crs=None, transform=None)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        raster = open_raster(path)
    assert raster.transform is None and raster.crs is None and raster.gsd_m is None


# --- files that are not what they should be ---


def test_kinds_that_are_not_read(tmp_path):
    (tmp_path / "a.tif").write_bytes(b"no tiff at all")
    with pytest.raises(
        ValueError, match="`path` must be a GeoTIFF, as its ending says, got a.tif, which does not begin as one"
    ):
        open_raster(tmp_path / "a.tif")
    (tmp_path / "a.xyz").write_bytes(b"something else")
    with pytest.raises(
        ValueError, match="`path` must be a GeoTIFF, ENVI, JPEG 2000, ERDAS Imagine, MATLAB, HDF5 or numpy file"
    ):
        open_raster(tmp_path / "a.xyz")
    with pytest.raises(FileNotFoundError, match="`path` must be an existing file, got none.tif"):
        open_raster(tmp_path / "none.tif")
    with pytest.raises(ValueError, match="`path` must be a file of real numbers, got c.tif, of complex64"):
        open_raster(made.write_tiff(tmp_path / "c.tif", np.ones((2, 3, 4), np.complex64), tags=False))
    with pytest.raises(ValueError, match="`axes` must be None: the format of the file leaves no choice, got 'CHW'"):
        open_raster(made.write_tiff(tmp_path / "d.tif", made.cube()), axes="CHW")
    (tmp_path / "b.hdr").write_text("BYTEORDER I\n", encoding="utf-8")
    with pytest.raises(ValueError, match="`path` must be an ENVI header, which begins with ENVI, got b.hdr"):
        open_raster(tmp_path / "b.hdr")


def test_damaged_files_give_one_clear_error(tmp_path):
    path = made.write_tiff(tmp_path / "a.tif", made.cube(), compress="deflate")
    content = path.read_bytes()
    path.write_bytes(content[:200])
    with pytest.raises(ValueError, match="`path` must be a readable GeoTIFF file, got a.tif"):
        whole(open_raster(path))
    for place in range(100, len(content), 997):
        path.write_bytes(content[:place] + bytes([content[place] ^ 255]) + content[place + 1 :])
        said = ""
        try:
            whole(open_raster(path))
        except ValueError as error:
            said = str(error)
        assert said == "" or said.startswith("`")
    (first,) = struct.unpack("<I", content[4:8])
    (entries,) = struct.unpack("<H", content[first : first + 2])
    following = first + 2 + 12 * entries  # where the place of the next directory stands: there is none
    path.write_bytes(content[:following] + struct.pack("<I", 1) + content[following + 4 :])
    with pytest.raises(ValueError, match="`path` must be a readable GeoTIFF file, got a.tif .*directory at offset 1"):
        open_raster(path)
    header = made.write_envi(tmp_path / "b.hdr", made.cube())
    (tmp_path / "b.img").write_bytes(b"12")
    with pytest.raises(
        ValueError, match="`path` must be a file as long as its header says, 3360 bytes, got 2 bytes in b.img"
    ):
        open_raster(header)
    text = header.read_text(encoding="utf-8")
    for entry, broken, said in [
        ("lines = 12", "lines = x", "a whole number of lines, got 'x' in b.hdr"),
        ("data type = 2", "data type = 6", "an ENVI file of real numbers, got complex numbers in b.hdr"),
        ("header offset = 0", "header offset = -1", "a whole number of header offset"),
        ("file type", "file compression = 1\nfile type", "an ENVI file without compression"),
    ]:
        header.write_text(text.replace(entry, broken), encoding="utf-8")
        with pytest.raises(ValueError, match=said):
            open_raster(header)
    (tmp_path / "b.img").unlink()
    with pytest.raises(FileNotFoundError, match=r"`path` must be a header with its data beside it \(b, b.img, .dat"):
        open_raster(header)


def test_the_data_of_a_header(tmp_path):
    for name in ("a", "a.IMG", "a.bsq", "a.raw"):
        made.write_envi(tmp_path / "a.hdr", made.cube(), "bsq")
        (tmp_path / "a.img").rename(tmp_path / name)
        assert envi.data_of(tmp_path / "a.hdr").name == name and np.array_equal(
            whole(open_raster(tmp_path / name)), made.cube()
        )
        (tmp_path / name).unlink()
    (tmp_path / "a.hdr").rename(tmp_path / "a.dat.hdr")
    made.cube().tofile(tmp_path / "a.dat")
    for name in ("a.dat", "a.dat.hdr"):
        assert np.array_equal(whole(open_raster(tmp_path / name)), made.cube())


def test_headers_as_people_write_them(tmp_path):
    text = "ENVI\n; a comment = 1\nDescription = {\n two\n lines }\n  band  names = {a,\n b}\nlines=3\n"
    (tmp_path / "a.hdr").write_text(text, encoding="utf-8")
    header = envi.read_header(tmp_path / "a.hdr")
    assert envi.listed(header["band names"]) == ["a", "b"] and header["lines"] == "3" and "two" in header["description"]


def test_texts_of_another_encoding_do_not_shut_a_file(tmp_path):
    header = made.write_envi(tmp_path / "a.hdr", made.cube(), **{"band names": [f"{n} xx" for n in range(7)]})
    header.write_bytes(header.read_bytes().replace(b"xx", b"\xb5m").replace(b"Micrometers", b"\xb5m"))
    raster = open_raster(header)
    assert np.array_equal(whole(raster), made.cube()) and raster.bands.names[1] == "1 µm"
    assert np.abs(raster.bands.wavelengths_nm - made.NM).max() < 1e-9


def test_a_file_that_is_replaced_is_opened_again(tmp_path):
    path = made.write_tiff(tmp_path / "a.tif", made.cube())
    raster = open_raster(path)
    before = copy.deepcopy(raster).read(0, 0, 2, 2)
    made.write_tiff(tmp_path / "b.tif", made.cube()[::-1].copy(), compress="lzw").replace(path)
    assert not np.array_equal(raster.read(0, 0, 2, 2), before)


def test_fields_that_do_not_fit_each_other():
    with pytest.raises(ValueError, match=r"`wavelengths_nm` must be 2 values, one per band, got shape \(3,\)"):
        Bands(np.ones(2, bool), np.ones(3))
    with pytest.raises(ValueError, match="`names` must be 2 texts, one per band, got 1"):
        Bands(np.ones(2, bool), names=("a",))
    assert Raster.__doc__ and len(Bands(np.ones(2, bool))) == 2
