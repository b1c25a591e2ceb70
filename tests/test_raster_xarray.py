"""Scenes as arrays of xarray, and back."""

from __future__ import annotations

import numpy as np
import pytest
import rioxarray
import xarray

from ctmem.raster.opening import open_raster
from ctmem.raster.writing import create_raster
from ctmem.raster.xarrays import from_xarray, to_xarray
from tests import raster_files as made


@pytest.mark.parametrize("kind", ["i2", "u2", "f4"])
@pytest.mark.parametrize("transform", [made.NORTH_UP, made.ROTATED])
def test_there_and_back(tmp_path, kind, transform):
    raster = open_raster(made.write_tiff(tmp_path / "a.tif", made.cube(kind), transform=transform, nodata=7))
    cube = to_xarray(raster)
    assert cube.dims == ("band", "y", "x") and np.array_equal(cube.to_numpy(), made.cube(kind))
    assert np.abs(cube.wavelength.to_numpy() - made.NM).max() < 1e-9 and cube.rio.nodata == 7
    back = from_xarray(cube)
    assert back.transform.almost_equals(transform, 1e-9) and back.crs == raster.crs and back.no_data == (7,)
    assert np.array_equal(back.window(2, 3, 4, 5), raster.window(2, 3, 4, 5)) and back.gsd_m == raster.gsd_m
    assert np.array_equal(back.bands.good, made.GOOD) and np.abs(back.bands.fwhm_nm - made.FWHM).max() < 1e-9
    assert np.array_equal(from_xarray(cube.transpose("x", "band", "y")).read(0, 0, 12, 20), made.cube(kind))


def test_what_rioxarray_reads_and_writes(tmp_path):
    made.write_tiff(tmp_path / "a.tif", made.cube(), nodata=-32768)
    with rioxarray.open_rasterio(tmp_path / "a.tif") as cube:
        raster = from_xarray(cube)
    assert raster.transform == made.NORTH_UP and raster.crs.to_epsg() == 32633 and raster.no_data == (-32768,)
    with create_raster(tmp_path / "b.tif", raster) as writer:
        writer.write(raster.window(0, 0, 12, 20), 0, 0)
    assert np.array_equal(open_raster(tmp_path / "b.tif").read(0, 0, 12, 20), made.cube())
    to_xarray(raster).rio.to_raster(tmp_path / "c.tif")
    assert np.array_equal(open_raster(tmp_path / "c.tif").read(0, 0, 12, 20), made.cube())


def test_wavelengths_of_an_array_may_be_its_axis_and_in_micrometres():
    nm = xarray.DataArray(made.NM / 1000, dims="wavelength", attrs={"units": "um"})
    cube = xarray.DataArray(made.cube("f4"), dims=("wavelength", "lat", "lon"), coords={"wavelength": nm}, name="refl")
    raster = from_xarray(cube)
    assert np.abs(raster.bands.wavelengths_nm - made.NM).max() < 1e-9 and raster.name == "refl"
    assert raster.transform is None and raster.crs is None


def test_other_arrays_are_refused():
    with pytest.raises(
        TypeError, match="`cube` must be an xarray.DataArray of real numbers with three dimensions, got a float"
    ):
        from_xarray(np.ones((3, 4, 5)))
    with pytest.raises(
        ValueError, match=r"`cube` must be an array with the dimensions band .*, y and x, got \('a', 'y', 'x'\)"
    ):
        from_xarray(xarray.DataArray(np.ones((3, 4, 5)), dims=("a", "y", "x")))
