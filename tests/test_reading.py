"""Files of other people: every form in which a cube comes gives the same cube, and what could do harm gives an error."""

import json
import os
import struct
import subprocess
import sys
import threading
import time
import warnings
import zipfile
import zlib
from pathlib import Path

import h5py
import numpy as np
import pytest
import scipy.io

from ctmem.reading import border, hdf5
from ctmem.reading.arrays import find_array, read_array, read_named, split_key

CUBE = np.random.default_rng(5).integers(1, 100, (4, 5, 3)).astype("f4")


def write_hdf5(path, marked=False, name="data", **options):
    with h5py.File(path, "w") as file:
        item = file.create_dataset(name, data=CUBE.T if marked else CUBE, **options)
        if marked:
            item.attrs["MATLAB_class"] = np.bytes_("single")
    return path


# --- every form ---


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("kind", ["u1", "i1", "i2", "u2", "i4", "u4", "i8", "u8", "f4", "f8", ">i2", ">f4"])
def test_matlab_5_is_read_as_scipy_reads_it(tmp_path, kind, packed):
    cube = CUBE.astype(kind)
    path = tmp_path / "a.mat"
    others = {"title": "two words", "gain": np.ones((3, 1)), "cell": np.array([1, "a"], dtype=object), "flag": True}
    scipy.io.savemat(path, {**others, "data": cube, "wave": np.array([1 + 2j])}, do_compression=packed, oned_as="row")
    found = read_array(path)
    assert np.array_equal(found, scipy.io.loadmat(path)["data"]) and np.array_equal(found, cube)
    assert found.dtype == np.dtype(kind).newbyteorder("=")
    scipy.io.savemat(
        path, {"s": {"wavelength": np.arange(3), "data": cube, "q": {"x": 1}}, "z": 1}, do_compression=packed
    )
    assert np.array_equal(read_array(path), cube) and np.array_equal(read_array(path, key="s.data"), cube)


def test_matlab_5_of_a_machine_with_the_other_order_of_bytes(tmp_path):
    """Written by hand after the description of the format; scipy writes the order of this machine alone."""
    shape = struct.pack(">iii", 2, 1, 3) + bytes(4)
    numbers = struct.pack(">6H", 1, 2, 3, 4, 5, 600) + bytes(4)
    inner = struct.pack(">IIII", 6, 8, 7, 0) + struct.pack(">II", 5, 12) + shape  # 7: single
    inner += struct.pack(">HH", 1, 1) + b"x\0\0\0" + struct.pack(">II", 4, 12) + numbers  # stored as uint16
    (tmp_path / "a.mat").write_bytes(b"MATLAB".ljust(124) + b"\x01\x00MI" + struct.pack(">II", 14, len(inner)) + inner)
    found = read_array(tmp_path / "a.mat")
    assert found.dtype == np.float32 and found.tolist() == [[[1, 3, 5]], [[2, 4, 600]]]
    assert np.array_equal(scipy.io.loadmat(tmp_path / "a.mat")["x"], found)


@pytest.mark.parametrize("kind", ["u2", ">f4", "f2", "i8"])
def test_hdf5_gives_what_was_written(tmp_path, kind):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("g/data", data=CUBE.astype(kind), chunks=(3, 2, 2), compression="gzip", shuffle=True)
        file["labels"] = CUBE[..., 0]
    found = read_array(tmp_path / "a.h5")
    assert np.array_equal(found, CUBE) and found.dtype == np.dtype(kind).newbyteorder("=") and found.flags.writeable


def test_only_what_matlab_marks_is_turned(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert np.array_equal(read_array(write_hdf5(tmp_path / "a.mat", marked=True)), CUBE)
        assert np.array_equal(read_array(write_hdf5(tmp_path / "b.h5")), CUBE)
        assert np.array_equal(read_array(tmp_path / "b.h5", axes="CHW"), np.moveaxis(CUBE, 0, 2))
        assert np.array_equal(read_array(tmp_path / "a.mat", axes="whc"), CUBE.transpose(1, 0, 2))
    with pytest.warns(
        RuntimeWarning, match=r"b.mat: 'data' of shape \(4, 5, 3\) has no mark of MATLAB, and is read as st"
    ):
        assert np.array_equal(read_array(write_hdf5(tmp_path / "b.mat")), CUBE)


def test_the_axis_that_alone_has_as_many_as_there_are_bands(tmp_path):
    np.save(tmp_path / "a.npy", np.moveaxis(CUBE, 2, 0))
    with pytest.warns(
        RuntimeWarning, match=r"a.npy: 'array' of shape \(3, 4, 5\) is read as CHW, since .* wavelengths, 3"
    ):
        assert np.array_equal(find_array(tmp_path / "a.npy", bands=3).array, CUBE)
    np.save(tmp_path / "a.npy", np.moveaxis(CUBE, 2, 1))
    with pytest.warns(RuntimeWarning, match="is read as HCW"):
        assert np.array_equal(find_array(tmp_path / "a.npy", bands=3).array, CUBE)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        np.save(tmp_path / "a.npy", np.ones((3, 4, 3)))  # two fit: as stored
        assert find_array(tmp_path / "a.npy", bands=3).array.shape == (3, 4, 3)
        np.save(tmp_path / "a.npy", CUBE)
        for bands in (3, 7, None):
            assert np.array_equal(find_array(tmp_path / "a.npy", bands=bands).array, CUBE)
    for axes in ("HWB", "HW", "", "HHC"):
        with pytest.raises(ValueError, match="`axes` must be 'HWC', 'CHW' or another order of these letters, got"):
            read_array(tmp_path / "a.npy", axes=axes)


@pytest.mark.parametrize(
    "form",
    [
        CUBE[None],
        CUBE[..., None],
        CUBE[None, ..., None],
        np.asfortranarray(CUBE),
        CUBE.astype(">f8"),
        np.rot90(CUBE, 4),
    ],
    ids=["(1, H, W, C)", "(H, W, C, 1)", "(1, H, W, C, 1)", "Fortran's order", "other order of bytes", "a view"],
)
def test_forms_of_numpy(tmp_path, form):
    np.save(tmp_path / "Straße und Feld.NPY.npy", form)
    path = (tmp_path / "Straße und Feld.NPY.npy").rename(tmp_path / "Straße und Feld.NPY")
    assert np.array_equal(read_array(path), CUBE)
    np.savez_compressed(tmp_path / "a.npz", form)
    assert np.array_equal(read_array(str(tmp_path / "a.npz")), CUBE)


def test_a_key_behind_a_colon(tmp_path):
    scipy.io.savemat(tmp_path / "a.mat", {"HSI": CUBE, "MSI": 2 * CUBE})
    assert np.array_equal(read_array(f"{tmp_path}/a.mat:MSI"), 2 * CUBE)
    assert np.array_equal(find_array(tmp_path / "a.mat", usual="HSI").array, CUBE)
    with pytest.raises(ValueError, match="`key` must be 'MSI', as `path` says, or None, got 'HSI'"):
        read_array(f"{tmp_path}/a.mat:MSI", key="HSI")
    with pytest.raises(
        ValueError, match=r"name of a 3-D array in the file, got 'x'; the file holds 'HSI' \(4, 5, 3\), 'MSI'"
    ):
        read_array(f"{tmp_path}/a.mat:x")
    np.save(tmp_path / "a.npz:x.npy", CUBE)  # a file whose own name has a colon
    assert np.array_equal(read_array(tmp_path / "a.npz:x.npy"), CUBE)
    assert split_key(r"C:\fields\a.mat") == (Path(r"C:\fields\a.mat"), None)
    assert split_key(r"C:\fields\a.mat:s.data") == (Path(r"C:\fields\a.mat"), "s.data")
    assert split_key(f"{tmp_path}:HSI", of_folder=True) == (tmp_path, "HSI")


def test_arrays_by_name(tmp_path):
    np.savez(tmp_path / "a.npz", cube=CUBE, nm=np.arange(3), text=np.array(["a"]))
    found = read_named(tmp_path / "a.npz", ["nm", "cube"])
    assert found["nm"].tolist() == [0, 1, 2] and np.array_equal(found["cube"], CUBE)
    with pytest.raises(
        ValueError, match=r"`path` must be a file with an array 'x', got a.npz, which holds 'cube' \(4, 5, 3\)"
    ):
        read_named(tmp_path / "a.npz", ["x"])


def test_what_is_not_a_cube_is_named(tmp_path):
    contents = {"c": np.array([1, "a"], dtype=object), "z": CUBE + 1j, "b": CUBE > 3, "t": "text", "flat": CUBE[0]}
    scipy.io.savemat(tmp_path / "a.mat", {**contents, "sparse": scipy.sparse.eye(3)})
    expected = (
        r"'c' \(cell\), 'z' \(complex\), 'b' \(truth values\), 't' \(text\), 'flat' \(5, 3\), 'sparse' \(sparse\)"
    )
    with pytest.raises(ValueError, match=expected):
        read_array(tmp_path / "a.mat")
    with h5py.File(tmp_path / "b.mat", "w") as file:
        file.update({"b": CUBE > 3, "e": h5py.Empty("f4"), "t": "text", "z": CUBE + 1j})
    with pytest.raises(ValueError, match=r"'b' \(truth values\), 'e' \(empty\), 't' \(no numbers\), 'z' \(complex\)"):
        read_array(tmp_path / "b.mat")


def test_what_hdf5_calls_missing(tmp_path):
    write_hdf5(tmp_path / "a.h5")
    with h5py.File(tmp_path / "a.h5", "a") as file:
        file["data"].attrs["_FillValue"] = np.float32(-9999)
        file["data"].attrs["missing_value"] = np.array([7], "i2")
        file["data"].attrs["scale_factor"] = 2.0
    assert find_array(tmp_path / "a.h5").no_data == (-9999, 7)


# --- what is not a file, or claims too much ---


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes in folders there")
def test_regular_files_only(tmp_path):
    os.mkfifo(tmp_path / "pipe.mat")
    (tmp_path / "to-pipe.npy").symlink_to(tmp_path / "pipe.mat")
    (tmp_path / "device.npy").symlink_to("/dev/zero")
    (tmp_path / "folder.mat").mkdir()
    (tmp_path / "loop.npy").symlink_to(tmp_path / "loop.npy")
    for name, kind in {
        "pipe.mat": "a pipe",
        "to-pipe.npy": "a pipe",
        "device.npy": "a dev",
        "folder.mat": "a folder",
    }.items():
        with pytest.raises(ValueError, match=f"`path` must be a regular file, got {name}, {kind}"):
            read_array(tmp_path / name)
    with pytest.raises(OSError, match="`path` must be a file that may be read, got loop.npy"):
        read_array(tmp_path / "loop.npy")
    with pytest.raises(TypeError, match="`path` must be a path, got"):
        read_array("a\0b.npy")
    np.save(tmp_path / "a.npy", CUBE)
    (tmp_path / "link.npy").symlink_to(tmp_path / "a.npy")
    assert np.array_equal(read_array(tmp_path / "link.npy"), CUBE)


def npy_header(shape):
    text = f"{{'descr': '<f8', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", 118) + text.encode()


def test_claims_are_weighed_before_anything_is_decoded(tmp_path, monkeypatch):
    (tmp_path / "a.npy").write_bytes(npy_header((2**20, 2**20, 8)) + bytes(100))
    with pytest.raises(ValueError, match="claims 70368744177664 bytes, there are 228"):
        read_array(tmp_path / "a.npy")
    with zipfile.ZipFile(tmp_path / "a.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        with archive.open("big.npy", "w") as file:
            file.write(npy_header((50, 500, 100)) + bytes(20_000_000))
        archive.writestr("small.npy", npy_header((1, 2, 3)) + bytes(48))
    assert border.room(1) == 256 * 2**20
    monkeypatch.setenv("CTMEM_READ_LIMIT_MB", "10")
    expected = r"at most 10.5 MB from .* kB; .* CTMEM_READ_LIMIT_MB raises this, got 'big', which claims 20 MB"
    with pytest.raises(border.Refused, match=expected):
        read_array(tmp_path / "a.npz", key="big")
    assert read_array(tmp_path / "a.npz", key="small").shape == (1, 2, 3)  # the other one is not decoded
    assert border.room(1) == 10 * 2**20 and border.room(10**9) == 10**11
    monkeypatch.setenv("CTMEM_READ_LIMIT_MB", "20")
    assert read_array(tmp_path / "a.npz", key="big").shape == (50, 500, 100)
    monkeypatch.setenv("CTMEM_READ_LIMIT_MB", "much")
    with pytest.raises(ValueError, match="`CTMEM_READ_LIMIT_MB` must be a whole number of MiB, got 'much'"):
        read_array(tmp_path / "a.npz", key="big")
    monkeypatch.setattr(border, "_memory", lambda: 100)
    np.save(tmp_path / "a.npy", CUBE)
    with pytest.raises(
        border.Refused, match="`path` must be a file that fits into memory, 100 B, got 'array' of 240 B"
    ):
        read_array(tmp_path / "a.npy")


def test_sizes_in_matlab_5(tmp_path):
    scipy.io.savemat(tmp_path / "a.mat", {"x": CUBE})
    plain = (tmp_path / "a.mat").read_bytes()
    axes = struct.pack("<iii", 4, 5, 3)

    def spoilt(content):
        (tmp_path / "b.mat").write_bytes(content)
        with pytest.raises(ValueError, match="`path` must be a") as found:
            read_array(tmp_path / "b.mat")
        return str(found.value)

    assert "which claims 35.2 TB" in spoilt(plain.replace(axes, struct.pack("<iii", 2**30, 2**10, 8)))
    assert "an array of shape [-4, 5, 3]" in spoilt(plain.replace(axes, struct.pack("<iii", -4, 5, 3)))
    assert "240 bytes of type 7 for 'x' of shape (4, 5, 2)" in spoilt(plain.replace(axes, struct.pack("<iii", 4, 5, 2)))
    assert "it ends in the middle" in spoilt(plain[:-8])
    packed = zlib.compress(plain[128:])
    assert "it does not end where" in spoilt(plain[:128] + struct.pack("<II", 15, len(packed) - 4) + packed[:-4])
    assert "it ends in the middle" in spoilt(plain[:128] + struct.pack("<II", 15, len(packed) - 20) + packed[:-20])
    packed = zlib.compress(plain[128:] + bytes(50_000_000))
    assert "it does not end where it says" in spoilt(plain[:128] + struct.pack("<II", 15, len(packed)) + packed)
    packed = bytearray(zlib.compress(plain[128:]))
    packed[-1] ^= 1  # the checksum
    assert "incorrect data check" in spoilt(plain[:128] + struct.pack("<II", 15, len(packed)) + bytes(packed))


class Side:
    """Pickled, it makes a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (self.path, "w")


def test_pickles_are_not_opened(tmp_path):
    trap = np.array([Side(str(tmp_path / "made"))], dtype=object)
    np.save(tmp_path / "a.npy", trap, allow_pickle=True)
    np.savez(tmp_path / "a.npz", x=trap)
    for name in ("a.npy", "a.npz"):
        with pytest.raises(ValueError, match="Python objects, which would have to be unpickled"):
            read_array(tmp_path / name)
    assert not (tmp_path / "made").exists()


# --- HDF5: nothing outside the file, and nothing that its end could harm ---


def test_nothing_outside_the_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "secret").write_bytes(b"secret" * 100)
    write_hdf5(tmp_path / "source.h5")
    layout = h5py.VirtualLayout(CUBE.shape, "f4")
    layout[:] = h5py.VirtualSource("source.h5", "data", CUBE.shape)
    with h5py.File("a.h5", "w", libver="latest") as file:
        file.create_dataset("external", (4, 5, 3), "u1", external=[("secret", 0, 60)])
        file.create_virtual_dataset("virtual", layout)
        file["link"], file["soft"] = h5py.ExternalLink("source.h5", "/data"), h5py.SoftLink("/own")
        group = file.create_group("g")
        group["up"], group["self"] = file["/"], group
    expected = (
        r"'external' \(kept in another file\), 'g.self' \(a group in a group\), 'g.up' \(a group in a group\), "
        r"'link' \(a link elsewhere\), 'soft' \(a link elsewhere\), 'virtual' \(kept in another file\)"
    )
    with pytest.raises(ValueError, match=expected):
        read_array("a.h5")


def test_parts_that_were_never_written_are_not_zeros(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("half", (40, 5, 3), "f4", chunks=(10, 5, 3))[:20] = 1
        file.create_dataset("none", (40, 5, 3), "f4")
    with pytest.raises(ValueError, match=r"'half' \(not all there: parts of it were never written\), 'none' \(not all"):
        read_array(tmp_path / "a.h5")
    with h5py.File(tmp_path / "b.h5", "w") as file:
        file.create_dataset("half", (40, 5, 3), "f4", chunks=(10, 5, 3), fillvalue=-1)[:20] = 1
    assert np.array_equal(read_array(tmp_path / "b.h5")[:, 0, 0], [1] * 20 + [-1] * 20)


def test_claims_of_hdf5(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("x", (2**20, 2**20, 64), "f8", chunks=(1, 1024, 64), compression="gzip")
        file.create_dataset("chunk", (2**12, 2**8, 64), "f8", chunks=(2**12, 2**8, 64))
    with pytest.raises(border.Refused, match="'x', which claims 563 TB"):
        read_array(tmp_path / "a.h5", key="x")
    with pytest.raises(ValueError, match=r"'chunk' \(cut into pieces of 536870912 bytes\)"):
        read_array(tmp_path / "a.h5", key="chunk")


def child_that(tmp_path, monkeypatch, code):
    """Puts a program in the place of the child."""
    (tmp_path / "child.py").write_text(code, encoding="utf-8")
    monkeypatch.setattr(hdf5, "CHILD", tmp_path / "child.py")
    return write_hdf5(tmp_path / "a.h5")


@pytest.mark.skipif(os.name != "posix", reason="no signals there")
def test_the_end_of_the_child_is_one_error(tmp_path, monkeypatch):
    before = threading.active_count()
    path = child_that(tmp_path, monkeypatch, "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)")
    with pytest.raises(ValueError, match=r"`path` must be a readable .h5 file, got a.h5 \(HDF5 crashed on it\)"):
        read_array(path)
    child_that(tmp_path, monkeypatch, "import sys; sys.exit(3)")
    with pytest.raises(ValueError, match=r"\(HDF5's process ended with 3\)"):
        read_array(path)
    child_that(tmp_path, monkeypatch, "import time; time.sleep(100)")
    monkeypatch.setattr(hdf5, "SECONDS", 0.1)
    with pytest.raises(ValueError, match=r"\(HDF5 took too long over it\)"):
        read_array(path)
    one = {"name": "x", "shape": [4, 5, 3], "dtype": "<f4", "kind": "", "marked": False, "no_data": [], "packed": True}
    message = json.dumps([{**one, "size": 240}]).encode()
    child_that(
        tmp_path, monkeypatch,
        f"import os, sys; m = {message!r}; os.write(1, len(m).to_bytes(8, 'little') + m); sys.stdin.readline(); "
        "os.write(1, (100).to_bytes(8, 'little') + bytes(100))",
    )  # fmt: skip
    monkeypatch.setattr(hdf5, "SECONDS", 4)
    with pytest.raises(ValueError, match="HDF5's process ended with 0"):  # in the middle of an array
        read_array(path)
    deadline = time.monotonic() + 20
    while threading.active_count() > before and time.monotonic() < deadline:  # a timer ends soon after it is cancelled
        time.sleep(0.01)
    assert threading.active_count() <= before


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits of memory are those of Linux")
def test_the_child_has_limits_of_memory_and_time(tmp_path):
    code = (
        "import importlib.util as u, time; s = u.spec_from_file_location('c', {0!r}); c = u.module_from_spec(s); "
        "s.loader.exec_module(c); c.limit(2**28, 1); {1}"
    )
    for end, expected in (("bytearray(2**30)", "MemoryError"), ("[0 for _ in iter(int, 1)]", "")):
        done = subprocess.run(
            [sys.executable, "-c", code.format(str(hdf5.CHILD), end)], capture_output=True, encoding="utf-8", timeout=60
        )
        assert done.returncode and expected in done.stderr


def test_a_damaged_chunk_is_an_error(tmp_path):
    path = write_hdf5(tmp_path / "a.h5", chunks=(4, 5, 3), compression="gzip", fletcher32=True)
    with h5py.File(path) as file:
        start = file["data"].id.get_chunk_info(0).byte_offset
    content = bytearray(path.read_bytes())
    content[start + 20] ^= 255
    path.write_bytes(content)
    with pytest.raises(ValueError, match="`path` must be a readable .h5 file, got a.h5"):
        read_array(path)


@pytest.mark.parametrize(
    ("content", "why"),
    [(b"", "it is empty"), (b"\x1f\x8b" + bytes(200), "unpack it first"), (b"words " * 100, "it does not begin as")],
)
def test_something_else_under_the_name(tmp_path, content, why):
    for name in ("a.mat", "a.npy", "a.npz", "a.h5"):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ValueError, match=rf"`path` must be a readable {name[1:]} file, got {name} \(.*{why}"):
            read_array(tmp_path / name)
