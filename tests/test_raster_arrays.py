"""Arrays of MATLAB, HDF5 and numpy files as scenes: which axis is which, and what lies beside them."""

from __future__ import annotations

import h5py
import numpy as np
import pytest
import scipy.io

from ctmem.raster import hdf5_files
from ctmem.raster.opening import open_raster
from ctmem.reading.arrays import read_named
from tests import raster_files as made

CUBE = made.cube()
HWC = CUBE.transpose(1, 2, 0)


def whole(raster):
    return raster.read(0, 0, raster.height, raster.width)


def write_hdf5(path, name, array, *, marked=False, **beside):
    with h5py.File(path, "w") as file:
        item = file.create_dataset(name, data=array, chunks=tuple(min(side, 4) for side in array.shape), compression=1)
        if marked:
            item.attrs["MATLAB_class"] = np.bytes_(array.dtype.name)
        for key, values in beside.items():
            file[key] = values
    return path


# --- axes ---


@pytest.mark.parametrize("order", ["HWC", "CHW", "HCW"])
@pytest.mark.parametrize("ending", [".mat", ".npz", ".npy", ".h5"])
def test_the_number_of_wavelengths_decides(tmp_path, ending, order):
    array = np.ascontiguousarray(CUBE.transpose(["CHW".index(letter) for letter in order]))
    path = tmp_path / f"a{ending}"
    if ending == ".mat":
        scipy.io.savemat(path, {"HSI": array, "wavelengths": made.NM})
    elif ending == ".npz":
        np.savez(path, HSI=array, wavelengths=made.NM)
    elif ending == ".npy":
        np.save(path, array)
    else:
        write_hdf5(path, "g/HSI", array, wavelengths=made.NM)
    told = {"wavelengths_nm": made.NM} if ending == ".npy" else {}
    raster = open_raster(path, **told)
    assert (raster.height, raster.width, raster.count) == (12, 20, 7) and np.array_equal(whole(raster), CUBE)
    assert np.array_equal(raster.read(3, 4, 5, 6, [6, 0, 2]), CUBE[[6, 0, 2], 3:8, 4:10])
    assert np.array_equal(raster.bands.wavelengths_nm, made.NM) and raster.dtype == CUBE.dtype
    assert np.array_equal(raster.window(1, 1, 3, 3), CUBE[:, 1:4, 1:4])


def test_without_wavelengths_an_error_asks(tmp_path):
    np.save(tmp_path / "a.npy", CUBE)
    said = (
        r"`axes` must be given: 'HWC' \(7×12 px, 20 bands\), 'CHW' \(12×20 px, 7 bands\), or another order, got None for "
        r"'array' of shape \(7, 12, 20\), and no wavelengths say which is which"
    )
    with pytest.raises(ValueError, match=said):
        open_raster(tmp_path / "a.npy")
    scipy.io.savemat(tmp_path / "a.mat", {"HSI": HWC})
    write_hdf5(tmp_path / "a.h5", "HSI", HWC)
    for name in ("a.mat", "a.h5"):
        with pytest.raises(ValueError, match="`axes` must be given"):
            open_raster(tmp_path / name)
        assert np.array_equal(whole(open_raster(tmp_path / name, axes="HWC")), CUBE)
    assert np.array_equal(whole(open_raster(tmp_path / "a.npy", axes="chw")), CUBE)
    with pytest.raises(ValueError, match="`axes` must be given: .*, and the wavelengths do not say it"):
        open_raster(tmp_path / "a.npy", wavelengths_nm=[400, 500])
    with pytest.raises(ValueError, match="`axes` must be 'HWC', 'CHW' or another order of these letters, got 'XYZ'"):
        open_raster(tmp_path / "a.npy", axes="XYZ")


def test_two_axes_of_the_length_of_the_wavelengths_are_asked_for(tmp_path):
    np.savez(tmp_path / "a.npz", HSI=np.zeros((7, 7, 5)), wavelengths=made.NM)
    with pytest.raises(ValueError, match="`axes` must be given: .*, and the wavelengths do not say it"):
        open_raster(tmp_path / "a.npz")


def test_matlabs_own_mark_turns_the_axes_of_version_7_3(tmp_path):
    path = write_hdf5(tmp_path / "a.mat", "HSI", CUBE.transpose(0, 2, 1), marked=True)
    raster = open_raster(path)
    assert np.array_equal(whole(raster), CUBE)
    assert np.array_equal(raster.read(3, 4, 5, 6, [6, 0]), CUBE[[6, 0], 3:8, 4:10])
    # as MATLAB counts, it is (H, W, C)
    assert np.array_equal(whole(open_raster(path, axes="HWC")), CUBE)
    assert np.array_equal(whole(open_raster(path, axes="WHC")), CUBE.swapaxes(1, 2))


# --- names ---


def test_arrays_are_named_by_key_or_behind_a_colon(tmp_path):
    scipy.io.savemat(tmp_path / "a.mat", {"HSI": HWC, "MSI": HWC[..., :3], "wavelengths": made.NM})
    assert open_raster(f"{tmp_path / 'a.mat'}:HSI").count == 7
    assert open_raster(tmp_path / "a.mat", key="MSI", axes="HWC").count == 3
    with pytest.raises(ValueError, match="`key` must be given unless the file holds exactly one 3-D array"):
        open_raster(tmp_path / "a.mat")
    with pytest.raises(ValueError, match="`key` must be 'HSI', as `path` says, or None, got 'MSI'"):
        open_raster(f"{tmp_path / 'a.mat'}:HSI", key="MSI")
    with pytest.raises(
        ValueError, match="`key` must be the name of a 3-D array in the file, got 'no'; the file holds 'HSI'"
    ):
        open_raster(tmp_path / "a.mat", key="no")


def test_a_struct_with_all_that_is_known(tmp_path):
    inner = {"data": HWC, "wavelength": made.NM / 1000, "fwhm": made.FWHM / 1000, "bbl": made.GOOD.astype("u1")}
    scipy.io.savemat(tmp_path / "a.mat", {"s": inner})
    with pytest.warns(RuntimeWarning, match="a.mat does not say the unit of its wavelengths: .* look like µm"):
        raster = open_raster(tmp_path / "a.mat")
    assert np.array_equal(whole(raster), CUBE) and np.abs(raster.bands.wavelengths_nm - made.NM).max() < 1e-9
    assert np.abs(raster.bands.fwhm_nm - made.FWHM).max() < 1e-9 and np.array_equal(raster.bands.good, made.GOOD)


def test_what_is_missing_in_an_array(tmp_path):
    array = CUBE.copy()
    array[2, 3, 4] = -9999
    path = write_hdf5(tmp_path / "a.h5", "HSI", array, wavelengths=made.NM)
    with h5py.File(path, "a") as file:
        file["HSI"].attrs["_FillValue"] = np.int16(-9999)
    raster = open_raster(path)
    assert raster.no_data == (-9999,) and np.isnan(raster.window(0, 0, 12, 20)).all(0).nonzero() == (3, 4)
    np.savez(tmp_path / "a.npz", HSI=array, wavelengths=made.NM, no_data=-9999)
    assert open_raster(tmp_path / "a.npz").no_data == (-9999,)


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("ending", [".mat", ".npz"])
def test_a_matrix_of_all_pixels_with_the_size_beside_it(tmp_path, ending, turned):
    """MATLAB's pixels run down the columns: Y(:, r + nRow·(c − 1)) is the pixel of row r and column c."""
    matrix = np.array([CUBE[:, row, column] for column in range(20) for row in range(12)]).T
    matrix = np.ascontiguousarray(matrix.T if turned else matrix)
    fields = {"Y": matrix, "nRow": 12, "nCol": 20, "nBand": 7, "wavelength": made.NM}
    path = tmp_path / f"a{ending}"
    scipy.io.savemat(path, fields) if ending == ".mat" else np.savez(path, **fields)
    raster = open_raster(path)
    assert (raster.height, raster.width) == (12, 20) and np.array_equal(whole(raster), CUBE)
    assert np.array_equal(raster.bands.wavelengths_nm, made.NM)


# --- HDF5 by windows ---


def test_windows_of_hdf5_come_from_one_child(tmp_path):
    raster = open_raster(write_hdf5(tmp_path / "a.h5", "a/b/c/HSI", HWC, wavelengths=made.NM))
    child = hdf5_files.hdf5_file(tmp_path / "a.h5").child
    for top in range(0, 12, 3):
        assert np.array_equal(raster.read(top, 5, 3, 7), CUBE[:, top : top + 3, 5:12])
    assert hdf5_files.hdf5_file(tmp_path / "a.h5").child is child and child.process.poll() is None
    # a child that is gone is one clear error, and the next window has a new one
    child.process.kill()
    child.process.wait()
    with pytest.raises(ValueError, match=r"`path` must be a readable HDF5 file, got a.h5 \(HDF5 took too long"):
        raster.read(0, 0, 2, 2)
    assert np.array_equal(raster.read(0, 0, 2, 2), CUBE[:, :2, :2])


def test_no_more_children_than_some(tmp_path, monkeypatch):
    monkeypatch.setattr(hdf5_files, "MOST_OPEN", 1)
    paths = [write_hdf5(tmp_path / f"{name}.h5", "HSI", HWC) for name in "ab"]
    rasters = [open_raster(path, axes="HWC") for path in paths]
    first = hdf5_files.hdf5_file(paths[0]).child
    assert np.array_equal(whole(rasters[1]), CUBE) and first.process.poll() is not None
    assert np.array_equal(whole(rasters[0]), CUBE)


def test_damaged_hdf5_is_one_clear_error(tmp_path):
    path = write_hdf5(tmp_path / "a.h5", "HSI", HWC, wavelengths=made.NM)
    content = bytearray(path.read_bytes())
    content[200:1200] = bytes(1000)
    path.write_bytes(content)
    with pytest.raises(ValueError, match="^`path` must be|^`key` must be"):
        whole(open_raster(path))
    (tmp_path / "b.mat").write_bytes(b"no MATLAB")
    with pytest.raises(ValueError, match="`path` must be a readable .mat file, got b.mat"):
        open_raster(tmp_path / "b.mat")


def test_several_arrays_of_one_hdf5_file(tmp_path):
    path = write_hdf5(tmp_path / "a.h5", "HSI", HWC, wavelengths=made.NM, gain=np.float64(2))
    found = read_named(path, ["wavelengths", "HSI"])
    assert np.array_equal(found["wavelengths"], made.NM) and np.array_equal(found["HSI"], HWC)


def test_netcdf_4(tmp_path):
    write_hdf5(tmp_path / "a.nc", "HSI", CUBE, wavelength=made.NM)
    assert np.array_equal(whole(open_raster(tmp_path / "a.nc")), CUBE)
    assert np.array_equal(whole(open_raster(f"{tmp_path / 'a.nc'}:HSI")), CUBE)
