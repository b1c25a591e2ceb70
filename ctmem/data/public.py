"""Public scenes that people have on disk: whether a file is the known one, and what is odd about it.

    python -m ctmem.data.public                              # all of them, a line each
    python -m ctmem.data.public pavia-centre                 # what is known of one, and where to ask for it
    python -m ctmem.data.public --verify Pavia.mat           # is it that file, and what is odd about it

Nothing is fetched. What is compared stands in `ctmem.data.known_scenes`: name, array, shape, kind of numbers, and the
numbers themselves in some windows that are spread over the scene.

Source: this project.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image

from ctmem.checks import check_choice, fail, typed
from ctmem.command import Parser, run_command
from ctmem.data.known_scenes import PUBLIC, PublicScene, describe, response_for
from ctmem.files import write_text
from ctmem.raster.opening import open_raster
from ctmem.raster.raster import Raster
from ctmem.reading.arrays import ENDINGS, contents, split_key

__all__ = ["PUBLIC", "PublicScene", "Verdict", "describe", "known_raster", "main", "verify"]

WINDOW = 64  # px a side that are looked at, at nine places
SUSPECT = 0.001  # of values or pixels that are odd: beyond this share they are named


@typed
@dataclass(frozen=True)
class Verdict:
    """Whether a file is a known scene."""

    file: str
    name: str | None  # in `PUBLIC`; None: none of them
    odd: tuple[str, ...]  # in words; empty: nothing

    @property
    def known(self) -> bool:
        """Whether it is the known file, with nothing odd about it."""
        return self.name is not None and not self.odd

    def __str__(self) -> str:
        """As the command prints it."""
        if self.name is None:
            return f"{self.file}: none of the known scenes ({'; '.join(self.odd)})"
        title = PUBLIC[self.name].title
        if self.known:
            return f"{self.file}: as {title} ({self.name}) is known"
        return "\n".join([f"{self.file}: looks like {title} ({self.name}), but", *(f"  - {one}" for one in self.odd)])


@typed
def verify(path: str | Path, *, name: str | None = None) -> Verdict:
    """Says whether a file is one of the known scenes, and what is odd about it.

    Args:
        path: the file; of CAVE the folder of one scene's 31 images. `file.mat:HSI` names an array.
        name: which one of `PUBLIC` it should be; None: the one whose shape it has.

    Raises:
        FileNotFoundError: no such file.
        ValueError: an unknown name, or a file that cannot be read.
    """
    if name is not None:
        check_choice(name, "name", PUBLIC)
    path = Path(path)
    found = _cave(path) if path.is_dir() and any(path.glob("*_ms_01.png")) else _sampled(path, name)
    name = name or _by_shape(found.shape)
    if name is None:
        shape = "×".join(map(str, found.shape))
        return Verdict(path.name, None, (f"shape {shape}; `python -m ctmem.data.public` lists those known",))
    return Verdict(path.name, name, tuple(_odd(path, found, PUBLIC[name])))


@typed
def known_raster(name: str, folder: str | Path) -> Raster:
    """The file of a known scene in a folder, opened with the wavelengths that are known; layers that are no bands out.

    Raises:
        FileNotFoundError: none of its files is there: names them, and whom to ask.
        ValueError: an unknown name, or a file of another shape.
    """
    check_choice(name, "name", PUBLIC)
    scene = PUBLIC[name]
    folder = Path(folder)
    path = next((folder / one for one in scene.files if (folder / one).is_file()), None)
    if path is None:
        fail("folder", f"one with {' or '.join(scene.files)} (ask {scene.ask})", f"{folder.name}, without",
             FileNotFoundError)  # fmt: skip
    raster = _opened(path, name)
    if (centres := scene.wavelengths_for(raster.count)) is None:
        fail("folder", f"one with {path.name} of {scene.shape[2]} bands", f"{raster.count} bands", ValueError)
    raster = replace(raster, bands=replace(raster.bands, wavelengths_nm=centres))
    return raster.pick(np.flatnonzero(np.isfinite(centres)).tolist()) if np.isnan(centres).any() else raster


@typed
def write_bands(name: str, path: str | Path) -> None:
    """Writes the response of `known_scenes.BOXES_NM` over a scene's bands to a text file, four lines of C numbers.

    Raises:
        FileExistsError: there is a file already.
        ValueError: an unknown scene, or one whose centres are not known or do not cover the boxes.
    """
    check_choice(name, "name", PUBLIC)
    if Path(path).exists():
        fail("path", "a new file", f"{Path(path).name}, which is there already", FileExistsError)
    centres = PUBLIC[name].wavelengths_nm
    rows = response_for(centres[np.isfinite(centres)]).tolist()
    write_text("".join(" ".join(f"{value:.8f}" for value in row) + "\n" for row in rows), path)


# --- a file, as far as it is looked at --------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Found:
    """What was read of a file."""

    shape: tuple[int, int, int]  # (H, W, C)
    dtype: np.dtype
    key: str  # of the array; empty where there are no names
    windows: tuple[np.ndarray, ...]  # (C, h, w) as stored


def _opened(path: Path, name: str | None) -> Raster:
    """The raster of a file; of a known scene by its array's name and its wavelengths."""
    file, key = split_key(path)
    known = [PUBLIC[name]] if name is not None else list(PUBLIC.values())
    if file.suffix.lower() not in ENDINGS:
        return open_raster(path)
    wanted = {one for scene in known for one in scene.keys}
    if key is None:
        with contents(file) as (members, _):
            names = [member.name for member in members if member.name in wanted]
        key = names[0] if names else None
    return open_raster(file, key=key, axes="HWC")


def _sampled(path: Path, name: str | None) -> _Found:
    """Nine windows of a raster."""
    raster = _opened(path, name)
    side = min(WINDOW, raster.height, raster.width)
    tops, lefts = (np.linspace(0, whole - side, 3).astype(int).tolist() for whole in (raster.height, raster.width))
    windows = tuple(raster.read(top, left, side, side) for top in tops for left in lefts)
    key = getattr(raster.source, "name", "")
    return _Found((raster.height, raster.width, raster.count), np.dtype(raster.dtype), key, windows)


def _cave(folder: Path) -> _Found:
    """The bands of one scene of CAVE, image by image."""
    paths = sorted(path for path in folder.glob("*_ms_*.png") if path.stem[-2:].isdigit())
    bands = []
    for path in paths:
        with Image.open(path) as image:
            bands.append(np.asarray(image))
    if len({band.shape for band in bands}) > 1 or bands[0].ndim != 2:
        fail("path", "a folder of images of one band and one size", f"{folder.name}, {paths[0].name} of shape "
             f"{bands[0].shape}")  # fmt: skip
    cube = np.stack(bands)
    return _Found((*cube.shape[1:], len(cube)), cube.dtype, "", (cube,))


def _by_shape(shape: tuple[int, int, int]) -> str | None:
    """The scene of a shape, its axes in any order; or of its number of bands, if that is only one's."""
    for same in (lambda one: one == shape, lambda one: sorted(one) == sorted(shape), lambda one: one[2] in shape):
        fitting = [
            name
            for name, scene in PUBLIC.items()
            if any(same(one) for one in (scene.shape, *(other for other, _ in scene.others)))
        ]
        if len(fitting) == 1:
            return fitting[0]
    return None


# --- what is odd ------------------------------------------------------------------------------------------------------


def _odd(path: Path, found: _Found, scene: PublicScene) -> Iterator[str]:
    """What differs from the known file, and what is known to be wrong with copies of it, in words."""
    file, _ = split_key(path)
    if path.is_file() and file.name.lower() not in [one.lower() for one in scene.files]:
        yield f"it is called {file.name}, not {' or '.join(scene.files)}"
    if found.key and scene.keys and found.key not in scene.keys:
        yield f"its array is called {found.key!r}, not {' or '.join(map(repr, scene.keys))}"
    yield from _odd_shape(found, scene)
    if scene.dtypes and found.dtype.name not in scene.dtypes:
        yield f"its numbers are {found.dtype.name}, not {' or '.join(scene.dtypes)}"
    yield from _odd_numbers(found)


def _odd_shape(found: _Found, scene: PublicScene) -> Iterator[str]:
    """What is odd about the shape."""
    shape, known = ("×".join(map(str, one)) for one in (found.shape, scene.shape))
    if found.shape == scene.shape:
        return
    others = dict(scene.others)
    if found.shape in others:
        yield f"its shape is {shape}: {others[found.shape]}"
    elif sorted(found.shape) == sorted(scene.shape):
        order = "".join("HWC"[scene.shape.index(side)] for side in found.shape)
        yield f"its axes are in another order, {shape} instead of {known}: read it with axes={order!r}"
    elif found.shape[2] == scene.shape[2]:
        yield f"its shape is {shape}, not {known}: a part of the scene, or another one"
    else:
        yield f"its shape is {shape}, not {known}"


def _odd_numbers(found: _Found) -> Iterator[str]:
    """What is odd about the numbers."""
    pixels = np.concatenate([window.reshape(len(window), -1) for window in found.windows], 1)
    whole = np.isfinite(pixels)
    if not whole.all():
        yield f"{100 * (1 - whole.mean()):.3g} % of the values looked at are NaN or infinite"
        pixels = np.where(whole, pixels, 0)
    low, high = float(pixels.min()), float(pixels.max())
    if low == high:
        yield f"all values looked at are {low:g}"
        return
    if found.dtype.kind == "f" and low >= 0 and high <= 1:
        yield f"its values lie in [{low:.3g}, {high:.3g}]: somebody has scaled them"
    if (share := float((pixels < 0).mean())) > SUSPECT:
        yield f"{100 * share:.3g} % of the values looked at are negative, down to {low:g}"
    if (share := float((pixels == 0).all(0).mean())) > SUSPECT:
        yield f"{100 * share:.3g} % of the pixels looked at are 0 in all bands: no_data=0 makes holes of them"
    flat = np.flatnonzero(pixels.min(1) == pixels.max(1))
    if len(flat):
        yield f"band(s) {', '.join(map(str, flat[:8]))}{', …' if len(flat) > 8 else ''}, counted from 0, are constant"


# --- the command ------------------------------------------------------------------------------------------------------


def new_parser() -> argparse.ArgumentParser:
    """Returns the parser of the command line."""
    parser = Parser(
        prog="python -m ctmem.data.public", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("name", nargs="?", metavar="NAME", help=f"one of {', '.join(PUBLIC)}; none: lists them")
    parser.add_argument(
        "--bands", type=Path, metavar="FILE",
        help="writes the response of four box-shaped bands over the scene's, for `python -m ctmem.train`",
    )  # fmt: skip
    parser.add_argument("--verify", type=Path, metavar="FILE", help="whether it is the known file, and what is odd")
    return parser


def work(options: argparse.Namespace) -> None:
    """Prints, or writes, what is asked for."""
    if options.bands is not None:
        if options.name is None:
            fail("name", f"one of {', '.join(map(repr, PUBLIC))}, whose bands are written", None)
        write_bands(options.name, options.bands)
        print(f"the bands of {options.name} are in {options.bands}")
    elif options.verify is not None:
        print(verify(options.verify, name=options.name))
    elif options.name is not None:
        print(describe(options.name))
    else:
        print("\n".join(f"{name:17} {scene.title}" for name, scene in PUBLIC.items()))


def main(arguments: list[str] | None = None) -> int:
    """Runs the command; returns the exit status, see `ctmem.command`."""
    options = new_parser().parse_args(arguments)
    return run_command(lambda: work(options), bad_input=2)


if __name__ == "__main__":
    sys.exit(main())
