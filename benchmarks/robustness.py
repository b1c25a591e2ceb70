"""Damaged and hostile files, kind by kind: how many load, how many give a clear error, and whether anything else happens.

    python benchmarks/robustness.py                     # 1,000 damaged files of each kind; writes results/robustness.md
    python benchmarks/robustness.py --count 50 --kinds "npy" "bands file"

A file of each kind is damaged at random (bits flipped, cut off, cut out, filled, sizes in it replaced) and read in a worker
process that is replaced if it dies; files made by hand to do harm come on top. An entry in `KINDS` adds a kind.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
import warnings
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path

import h5py
import machine
import numpy as np
import rasterio
import scipy.io
import torch

from ctmem.data.mat_tree import read_mat_tree, write_mat_tree
from ctmem.data.scenes import read_scene
from ctmem.observe.camera import Camera
from ctmem.raster.opening import open_raster
from ctmem.train.sources import read_response

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from tests import raster_files

SLOW, LARGE = 5.0, 1000  # seconds of the processor and MB that no file may take
PATIENCE = 60  # seconds after which a worker is ended
CANARY = "code-was-run"  # the file that hostile pickles would make
SIZES = [0, 1, 255, 2**15, 2**16 - 1, 2**31 - 1, 2**32 - 1, 2**40, 2**63 - 1, 2**64 - 1]
READING = """\
`loads`: what came back has the form that it should have (a flipped bit in the numbers of a file without a checksum is not
noticed by anybody); `clear errors`: of the package's one form; `anything else`: another exception, a crash, an answer of
another form, more than {slow:.0f} s of the processor, {patience} s on the clock, or {large} MB. Memory is the highest of the process that reads, 300 MB of it torch and
the package, and of its child for HDF5. `by hand`: files made to do harm, such as headers that claim 65 TiB, pickles, pipes,
links, storage in other files, archives that unfold a thousandfold."""


@dataclass(frozen=True)
class Kind:
    """A kind of file: how a whole one is made, how one is read, and what a stranger would send."""

    make: Callable[[Path], Path]  # puts what is needed into an empty folder; returns the file that is damaged
    read: Callable[[Path], object]  # returns what is in the file; raises for another form
    hostile: Callable[[Path], list[Path]] = field(default=lambda folder: [])  # puts files there, and names them


# --- what is read ---

CUBE = np.random.default_rng(0).random((12, 14, 8)).astype("f4")
CENTRES = np.linspace(430, 900, 40)
CAMERA = Camera.gaussian(scale=4)


def _read_cube(path: Path) -> object:
    """A scene's cube; of a whole file that of `CUBE`."""
    cube = read_scene(path).cube
    if cube.ndim != 3 or cube.dtype != np.float32 or not cube.flags.c_contiguous:
        raise AssertionError(f"a cube {cube.shape} of {cube.dtype}")
    return cube


def _make_mat5(folder: Path) -> Path:
    content = {"labels": CUBE[..., 0], "info": {"wavelength": CENTRES[:8], "title": "a field"}, "data": CUBE}
    scipy.io.savemat(folder / "a.mat", content, do_compression=True)
    return folder / "a.mat"


def _make_mat5_plain(folder: Path) -> Path:
    scipy.io.savemat(folder / "a.mat", {"s": {"wavelength": CENTRES[:8], "data": CUBE, "title": "a field"}})
    return folder / "a.mat"


def _make_hdf5(path: Path, marked: bool) -> Path:
    with h5py.File(path, "w") as file:
        item = file.create_dataset(
            "data", data=CUBE.T if marked else CUBE, chunks=(4, 7, 6), compression="gzip", fletcher32=True
        )
        if marked:
            item.attrs["MATLAB_class"] = np.bytes_("single")
        file["labels"] = CUBE[..., 0]
        file["group/wavelength"] = CENTRES
        file["group/wavelength"].attrs["units"] = "nm"
    return path


def _make_npz(folder: Path) -> Path:
    np.savez_compressed(folder / "a.npz", labels=CUBE[..., 0], data=CUBE, wavelength=CENTRES)
    return folder / "a.npz"


def _make_npy(folder: Path) -> Path:
    np.save(folder / "a.npy", CUBE)
    return folder / "a.npy"


def _make_bands(folder: Path) -> Path:
    lines = [f"{number};{value:.2f}".replace(".", ",") for number, value in enumerate(CENTRES, 1)]
    (folder / "a.txt").write_text("Band;Wellenlänge (nm)\r\n" + "\r\n".join(lines), encoding="utf-16", newline="")
    return folder / "a.txt"


def _make_response(folder: Path) -> Path:
    rows = np.random.default_rng(1).random((4, 40))
    text = "\n".join(f"B{number}," + ",".join(f"{value:.3f}" for value in row) for number, row in enumerate(rows))
    (folder / "a.csv").write_text(text, encoding="utf-8")
    return folder / "a.csv"


def _read_bands(path: Path) -> object:
    srf = read_response(path, 40, CAMERA).srf
    if srf is None or srf.shape != (4, 40):
        raise AssertionError(f"a response {srf}")
    return srf


def _make_tree(folder: Path) -> Path:
    cube = torch.from_numpy(CUBE).movedim(-1, 0)
    write_mat_tree(folder / "tree", "train", [{"gt": cube, "lr_hsi": cube[:, ::2, ::2], "ref_msi": cube[:3]}] * 2)
    return folder / "tree" / "train" / "lrHS" / "2.mat"


def _read_tree(path: Path) -> object:
    samples = list(read_mat_tree(path.parents[2], "train"))
    if [sample["gt"].dtype for sample in samples] != [torch.float32] * 2:
        raise AssertionError("other samples")
    return samples


# --- files made to do harm ---


class Side:
    """Pickled, it makes a file when it is unpickled."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str, str]]:
        return open, (self.path, "w")


def _npy_header(shape: tuple[int, ...], kind: str = "<f8") -> bytes:
    header = BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": kind, "fortran_order": False, "shape": shape})
    return header.getvalue()


def _no_files(folder: Path, ending: str) -> list[Path]:
    """A pipe, a socket, a folder, a device, and links to them and to itself."""
    paths = [folder / f"{name}{ending}" for name in ("pipe", "to-pipe", "to-itself", "folder", "device", "socket")]
    pipe, link, loop, place, device, server = paths
    os.mkfifo(pipe)
    link.symlink_to(pipe)
    loop.symlink_to(loop)
    place.mkdir()
    device.symlink_to("/dev/zero")
    here = os.open(folder, os.O_RDONLY)  # the name of a socket must be short
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(f"/proc/self/fd/{here}/{server.name}")
    os.close(here)
    return paths


def _hostile_npy(folder: Path) -> list[Path]:
    (folder / "claims.npy").write_bytes(_npy_header((2**20, 2**20, 8)) + bytes(100))
    (folder / "negative.npy").write_bytes(_npy_header((-4, -5, 3)) + bytes(1000))
    (folder / "nested.npy").write_bytes(b"\x93NUMPY\x01\x00\x10\x27" + b"(" * 10000)
    archive = BytesIO()
    np.savez(archive, x=np.array([Side(str(folder / CANARY))], dtype=object))
    (folder / "pickle.npy").write_bytes(zipfile.ZipFile(archive).read("x.npy"))
    return [*folder.glob("*.npy"), *_no_files(folder, ".npy")]


def _hostile_npz(folder: Path) -> list[Path]:
    name = folder / "unfolds.npz"
    with zipfile.ZipFile(name, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("b.npy", "w") as file:
        file.write(_npy_header((2000, 1000, 125)))
        for _ in range(2000):
            file.write(bytes(1_000_000))
    with zipfile.ZipFile(folder / "claims.npz", "w") as archive:
        archive.writestr("a.npy", _npy_header((2**20, 2**20, 8)) + bytes(100))
        archive.writestr("../../outside.npy", _npy_header((2, 2)) + bytes(32))
    with zipfile.ZipFile(folder / "lzma.npz", "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr("a.npy", _npy_header((100, 100, 100)) + bytes(8_000_000))
    with zipfile.ZipFile(folder / "many.npz", "w") as archive:
        for number in range(5000):
            archive.writestr(f"{number}.npy", _npy_header((1, 1, 1)) + bytes(8))
    np.savez(folder / "pickle.npz", x=np.array([Side(str(folder / CANARY))], dtype=object))
    return [*folder.glob("*.npz"), *_no_files(folder, ".npz")]


def _hostile_mat5(folder: Path) -> list[Path]:
    scipy.io.savemat(folder / "plain.mat", {"x": CUBE})
    plain = (folder / "plain.mat").read_bytes()
    axes = np.array(CUBE.shape, "<i4").tobytes()
    for name, shape in (("claims", (2**30, 2**20, 64)), ("negative", (-12, -14, 8)), ("other", (12, 14, 9))):
        (folder / f"{name}.mat").write_bytes(plain.replace(axes, np.array(shape, "<i4").tobytes()))
    (folder / "long.mat").write_bytes(plain[:132] + b"\xf8\xff\xff\xff" + plain[136:])
    for name, claimed, given in (("unfolds", (2000, 1000, 250), 2000), ("lies", CUBE.shape, 500)):
        inner = plain[136:].replace(axes, np.array(claimed, "<i4").tobytes())[:64]
        size = 4 * int(np.prod(claimed))
        packer = zlib.compressobj(9)
        head = np.array([14, 64 + 8 + size], "<u4").tobytes() + inner[:64] + np.array([7, size], "<u4").tobytes()
        packed = packer.compress(head) + b"".join(packer.compress(bytes(1_000_000)) for _ in range(given))
        packed += packer.flush()
        (folder / f"{name}.mat").write_bytes(plain[:128] + np.array([15, len(packed)], "<u4").tobytes() + packed)
    return [*folder.glob("*.mat"), *_no_files(folder, ".mat")]


def _hostile_hdf5(folder: Path) -> list[Path]:
    (folder / "secret").write_bytes(b"secret" * 1000)
    os.mkfifo(folder / "fifo")

    def put(name: str, fill: Callable[[h5py.File], object]) -> None:
        with h5py.File(folder / f"{name}.mat", "w", libver="latest") as file:
            fill(file)

    def cycle(file: h5py.File) -> None:
        group = file.create_group("g")
        group["up"], group["self"], group["x"] = file["/"], group, CUBE

    def deep(file: h5py.File) -> None:
        group: h5py.Group = file
        for _ in range(2000):
            group = group.create_group("g")

    def virtual(source: str) -> Callable[[h5py.File], object]:
        layout = h5py.VirtualLayout(CUBE.shape, "f4")
        layout[:] = h5py.VirtualSource(source, "x", CUBE.shape)
        return lambda file: file.create_virtual_dataset("x", layout)

    half = {"shape": (40, 50, 30), "dtype": "f8", "chunks": (10, 50, 30)}
    put("source", lambda file: file.create_dataset("x", data=CUBE))
    put("storage", lambda file: file.create_dataset("x", (4, 5, 3), "u1", external=[(str(folder / "secret"), 0, 60)]))
    put(
        "storage-pipe", lambda file: file.create_dataset("x", (4, 5, 3), "u1", external=[(str(folder / "fifo"), 0, 60)])
    )
    put("virtual", virtual(str(folder / "source.mat")))
    put("virtual-absent", virtual("nowhere.mat"))
    put("link", lambda file: file.__setitem__("x", h5py.ExternalLink(str(folder / "source.mat"), "/x")))
    put("link-pipe", lambda file: file.__setitem__("x", h5py.ExternalLink(str(folder / "fifo"), "/x")))
    put("soft", lambda file: file.__setitem__("x", h5py.SoftLink("/x")))
    put("cycle", cycle)
    put("deep", deep)
    put("many", lambda file: [file.create_group(str(number)) for number in range(5000)])
    put("claims", lambda file: file.create_dataset("x", (2**22, 2**20, 16), "f8", chunks=(1, 1024, 16)))
    put("chunk", lambda file: file.create_dataset("x", (2**12, 2**8, 64), "f8", chunks=(2**12, 2**8, 64)))
    put("half", lambda file: file.create_dataset("x", **half).write_direct(np.ones((20, 50, 30)), dest_sel=np.s_[:20]))
    put("unfolds", lambda file: file.create_dataset("x", data=np.zeros((500, 1000, 100)), compression="gzip"))
    return [*folder.glob("*.mat"), *_no_files(folder, ".mat")]


def _hostile_text(folder: Path) -> list[Path]:
    for name, content in {
        "empty": b"", "zeros": bytes(1000), "long": b"1" * 1_000_000, "larger": b"1 " * 9_000_000,
        "exponent": b"1e99999999\n" * 40, "nan": b"nan\n" * 40, "columns": b"1;" * 500_000, "quote": b'"' + b"1;" * 500_000,
        "bom": b"\xff\xfe", "odd": b"\xff\xfe1", "digits": "\u0664\u0665".encode() * 40, "lines": b"\n" * 10**6,
    }.items():  # fmt: skip
        (folder / f"{name}.txt").write_bytes(content)
    return [*folder.glob("*.txt"), *_no_files(folder, ".txt")]


# --- scenes in files, read by windows ---


def _read_window(path: Path) -> object:
    """The upper left window of a scene, and what is said of its bands."""
    scene = open_raster(path)
    window = scene.window(0, 0, min(scene.height, 64), min(scene.width, 64))
    if window.ndim != 3 or len(window) != scene.count or window.dtype != np.float32:
        raise AssertionError(f"a window {window.shape} of {window.dtype}")
    return window


def _read_product(path: Path) -> object:
    """The same of the product that a file belongs to."""
    return _read_window(path.parent)


def _of_product(write: Callable[[Path, np.ndarray], Path], ending: str) -> Callable[[Path], Path]:
    """What makes a product, and names the file of it that is damaged."""

    def make(folder: Path) -> Path:
        write(folder, raster_files.cube())
        (found,) = folder.rglob(ending)
        return found

    return make


def _make_jp2(folder: Path) -> Path:
    options = {"driver": "JP2OpenJPEG", "crs": "EPSG:32633", "transform": raster_files.NORTH_UP}
    cube = np.tile(raster_files.cube("u2", 4), (1, 4, 4))
    about = {"height": cube.shape[1], "width": cube.shape[2], "count": 4, "dtype": "uint16", "QUALITY": "100"}
    with warnings.catch_warnings(), rasterio.open(folder / "a.jp2", "w", **options, **about, REVERSIBLE="YES") as file:
        file.write(cube)
    return folder / "a.jp2"


def _make_prisma(folder: Path) -> Path:
    raster_files.write_prisma(folder / "a.he5")
    return folder / "a.he5"


KINDS: dict[str, Kind] = {
    "MATLAB 5, packed": Kind(_make_mat5, _read_cube, _hostile_mat5),
    "MATLAB 5, struct": Kind(_make_mat5_plain, _read_cube),
    "MATLAB 7.3": Kind(lambda folder: _make_hdf5(folder / "a.mat", True), _read_cube, _hostile_hdf5),
    "HDF5": Kind(lambda folder: _make_hdf5(folder / "a.h5", False), _read_cube),
    "npy": Kind(_make_npy, _read_cube, _hostile_npy),
    "npz": Kind(_make_npz, _read_cube, _hostile_npz),
    "bands file": Kind(_make_bands, _read_bands, _hostile_text),
    "response": Kind(_make_response, _read_bands),
    ".mat tree": Kind(_make_tree, _read_tree),
    "GeoTIFF": Kind(lambda folder: raster_files.write_tiff(folder / "a.tif", raster_files.cube()), _read_window),
    "GeoTIFF, packed": Kind(
        lambda folder: raster_files.write_tiff(
            folder / "a.tif",
            raster_files.cube(),
            tiled=True,
            blockxsize=16,
            blockysize=16,
            compress="deflate",
            predictor=2,
        ),
        _read_window,
    ),
    "ENVI, its header": Kind(
        lambda folder: raster_files.write_envi(folder / "a.hdr", raster_files.cube()), _read_window
    ),
    "JPEG 2000": Kind(_make_jp2, _read_window),
    "EnMAP, its metadata": Kind(_of_product(raster_files.write_enmap, "*METADATA.XML"), _read_product),
    "DESIS, its metadata": Kind(_of_product(raster_files.write_desis, "*METADATA.xml"), _read_product),
    "PRISMA": Kind(_make_prisma, _read_window),
    "EMIT": Kind(lambda folder: raster_files.write_emit(folder / "a.nc", raster_files.cube("f4")), _read_window),
}

# --- damage ---


def damaged(content: bytes, generator: np.random.Generator) -> bytes:
    """A file's bytes with one to three faults."""
    for _ in range(generator.choice([1, 1, 2, 3])):
        content = FAULTS[generator.integers(len(FAULTS))](bytearray(content), generator)
    return content


def _place(content: bytearray, generator: np.random.Generator, width: int = 1) -> int:
    """A place in the file; every other time near its beginning, where headers are."""
    end = max(1, len(content) - width + 1)
    return int(generator.integers(min(end, 600) if generator.random() < 0.5 else end))


def _flip(content: bytearray, generator: np.random.Generator) -> bytes:
    for _ in range(generator.choice([1, 1, 4, 16])):
        if content:
            content[_place(content, generator)] ^= 1 << int(generator.integers(8))
    return bytes(content)


def _cut_off(content: bytearray, generator: np.random.Generator) -> bytes:
    return bytes(content[: _place(content, generator)])


def _cut_out(content: bytearray, generator: np.random.Generator) -> bytes:
    start = _place(content, generator)
    return bytes(content[:start] + content[start + int(generator.integers(1, 64)) :])


def _fill(content: bytearray, generator: np.random.Generator) -> bytes:
    start, length = _place(content, generator), int(generator.integers(1, 256))
    length = min(length, len(content) - start)
    content[start : start + length] = bytes([int(generator.choice([0, 255, 32]))]) * length
    return bytes(content)


def _size(content: bytearray, generator: np.random.Generator) -> bytes:
    """A whole number of 2, 4 or 8 bytes is put where perhaps another one stood."""
    width = int(generator.choice([2, 4, 8]))
    start = _place(content, generator, width) // width * width
    value = SIZES[generator.integers(len(SIZES))] % 2 ** (8 * width)
    content[start : start + width] = value.to_bytes(width, "little")
    return bytes(content)


def _repeat(content: bytearray, generator: np.random.Generator) -> bytes:
    start, length = _place(content, generator), int(generator.integers(1, 200))
    return bytes(content[:start] + content[start : start + length] + content[start:])


def _exchange(content: bytearray, generator: np.random.Generator) -> bytes:
    one, other, length = _place(content, generator), _place(content, generator), int(generator.integers(1, 64))
    piece = content[one : one + length]
    content[other : other + len(piece)] = piece
    return bytes(content)


def _digits(content: bytearray, generator: np.random.Generator) -> bytes:
    """A digit becomes several others, or a letter: sizes that are written as text."""
    places = [number for number, byte in enumerate(content[:4000]) if 48 <= byte <= 57]
    if places:
        place = int(generator.choice(places))
        content[place : place + 1] = [b"99999999", b"-1", b"x", b"1e9", b"", b"0", b"(", b","][generator.integers(8)]
    return bytes(content)


FAULTS = [_flip, _flip, _cut_off, _cut_out, _fill, _size, _size, _repeat, _exchange, _digits]

# --- reading, watched ---


def attempt(kind: Kind, path: Path) -> tuple[str, str]:
    """Reads a file: ("loads" | "clear errors" | "anything else", what the error says)."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            kind.read(path)
        except (OSError, ValueError) as error:
            clear = str(error).startswith("`") and len(str(error)) < 2000
            return ("clear errors" if clear else "anything else"), f"{type(error).__name__}: {error}"
        except Exception as error:  # whatever it is, it is not clear
            return "anything else", f"{type(error).__name__}: {error}"
    return "loads", ""


def serve() -> None:
    """The worker: reads the files that its input names, and says how it went."""
    print("ready", flush=True)
    for line in sys.stdin:
        name, path = json.loads(line)
        before = sum(os.times()[:4])  # of this process and its children, so that a busy machine changes nothing
        outcome, text = attempt(KINDS[name], Path(path))
        seconds = sum(os.times()[:4]) - before
        memory = max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
        print(json.dumps([outcome, text, seconds, memory * 1024 / 1e6]), flush=True)


class Worker:
    """A process that reads files for us, started again if it ends."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.process: subprocess.Popen[str] | None = None

    def ask(self, name: str, path: Path) -> tuple[str, str, float, float]:
        """Outcome, what the error says, seconds and MB."""
        if self.process is None:
            environment = os.environ | {"OMP_NUM_THREADS": "1", "HOME": str(self.folder), "TMPDIR": str(self.folder)}
            environment["PYTHONPATH"] = os.pathsep.join(place for place in sys.path if place)
            self.process = subprocess.Popen(
                [sys.executable, str(Path(__file__).resolve()), "--serve"], stdin=subprocess.PIPE,
                stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, encoding="utf-8", cwd=self.folder, env=environment,
            )  # fmt: skip
            assert self.process.stdout and self.process.stdout.readline()  # ready: its imports take a while
        assert self.process.stdin and self.process.stdout
        start = time.perf_counter()
        timer = threading.Timer(PATIENCE, self.process.kill)
        timer.start()
        self.process.stdin.write(json.dumps([name, str(path)]) + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        timer.cancel()
        if answer:
            return tuple(json.loads(answer))
        code, self.process = self.process.wait(), None
        return "anything else", f"the process ended with {code}", time.perf_counter() - start, 0.0

    def end(self) -> None:
        """Ends the process."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()


@dataclass
class Tally:
    """What was counted for a kind."""

    outcomes: Counter[str] = field(default_factory=Counter)
    hostile: int = 0
    slowest: float = 0.0
    largest: float = 0.0
    odd: list[str] = field(default_factory=list)  # what should not have happened

    def add(self, answer: tuple[str, str, float, float], what: str) -> None:
        """Counts one file."""
        outcome, text, seconds, megabytes = answer
        if seconds > SLOW or megabytes > LARGE:
            outcome, text = "anything else", f"{seconds:.1f} s, {megabytes:.0f} MB; {text}"
        self.outcomes[outcome] += 1
        self.slowest, self.largest = max(self.slowest, seconds), max(self.largest, megabytes)
        if outcome == "anything else":
            self.odd.append(f"{what}: {text}")


def try_kind(
    name: str, count: int, seed: int, ask: Callable[[str, Path], tuple[str, str, float, float]], place: Path
) -> Tally:
    """Reads a whole file, `count` damaged ones, and those made by hand; `place` is a folder of its own."""
    kind, tally = KINDS[name], Tally()
    generator = np.random.default_rng([seed, *name.encode()])
    (folder := place / "sample").mkdir()
    path = kind.make(folder)
    whole = path.read_bytes()
    answer = ask(name, path)
    if answer[0] != "loads":
        tally.odd.append(f"a whole file: {answer[1]}")
    before = listing(place)
    for number in range(count):
        content = damaged(whole, generator)
        path.write_bytes(content)
        tally.add(ask(name, path), f"damaged file {number}")
    (traps := place / "traps").mkdir()
    paths = sorted(kind.hostile(traps)) if seed == 0 else []
    laid = listing(place)
    for trap in paths:
        tally.add(ask(name, trap), trap.name)
    tally.hostile = len(paths)
    shutil.rmtree(traps)
    new = (laid ^ listing(place)) - {one for one in laid if one.startswith("traps")} | (before - laid)
    tally.odd += [f"written or removed: {one}" for one in sorted(new)]
    return tally


def listing(folder: Path) -> set[str]:
    """All names under a folder, but for the caches of libraries."""
    return {
        path.relative_to(folder).as_posix() for path in folder.rglob("*") if not {".cache", ".config"} & set(path.parts)
    }


def run(names: list[str], count: int, workers: int) -> dict[str, Tally]:
    """All kinds, each in a few parts side by side."""
    tallies = {name: Tally() for name in names}

    def part(job: tuple[str, int]) -> tuple[str, Tally]:
        name, seed = job
        with tempfile.TemporaryDirectory() as place:
            worker = Worker(Path(place))
            try:
                return name, try_kind(name, -(-count // workers), seed, worker.ask, Path(place))
            finally:
                worker.end()

    with ThreadPoolExecutor(workers) as pool:
        for name, tally in pool.map(part, [(name, seed) for name in names for seed in range(workers)]):
            found = tallies[name]
            found.outcomes += tally.outcomes
            found.hostile += tally.hostile
            found.slowest, found.largest = max(found.slowest, tally.slowest), max(found.largest, tally.largest)
            found.odd += tally.odd
            print(name, dict(tally.outcomes), *tally.odd[:5], sep="\n  ", file=sys.stderr, flush=True)
    return tallies


def report(tallies: dict[str, Tally]) -> str:
    """The page of results."""
    header = ["kind", "tried", "by hand", "loads", "clear errors", "anything else", "slowest, s", "memory, MB"]
    rows = []
    for name, tally in tallies.items():
        counts = [tally.outcomes[outcome] for outcome in ("loads", "clear errors", "anything else")]
        cells = [sum(counts), tally.hostile, *counts, f"{tally.slowest:.2f}", f"{tally.largest:.0f}"]
        rows.append([name, *(f"{cell:,}" if isinstance(cell, int) else cell for cell in cells)])
    written = sum(line.startswith("written or removed") for tally in tallies.values() for line in tally.odd)
    ran = sum(CANARY in line for tally in tallies.values() for line in tally.odd)
    parts = ["# Damaged and hostile files", machine.describe("numpy", "h5py", "scipy") + ".",
             READING.format(slow=SLOW, patience=PATIENCE, large=LARGE), machine.table(header, rows),
             f"Code from files that was run: {ran}. Files written or removed beside what was laid there: {written}."]  # fmt: skip
    odd = [f"- {name}: {line}" for name, tally in tallies.items() for line in tally.odd]
    return "\n\n".join(parts + (["## What should not have happened", "\n".join(odd[:100])] if odd else []))


def main() -> None:
    """Tries all kinds, and writes the results where all of them were asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--count", type=int, default=1000, metavar="N", help="damaged files of each kind (default: 1000)"
    )
    parser.add_argument("--kinds", nargs="+", default=list(KINDS), choices=KINDS, metavar="NAME", help=", ".join(KINDS))
    parser.add_argument("--workers", type=int, default=2, metavar="N", help="processes (default: 2)")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve()
        return
    tallies = run(options.kinds, options.count, options.workers)
    if options.kinds == list(KINDS):
        machine.write("robustness", report(tallies))
    else:
        print(report(tallies))


if __name__ == "__main__":
    main()
