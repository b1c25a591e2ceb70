"""What a file that is written will say, and where its numbers stand until it is whole.

Source: this project.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from rasterio import Affine

from ctmem.raster.raster import Bands

FORMS = {".tif": "GeoTIFF", ".tiff": "GeoTIFF", ".hdr": "ENVI", ".img": "ENVI", ".dat": "ENVI", ".bsq": "ENVI",
         ".bil": "ENVI", ".mat": "MATLAB", ".npz": "numpy"}  # fmt: skip
AT_ONCE = 2**28  # bytes of the plain numbers that are read at once
ROWS = 64  # read at once for the other forms


@dataclass(frozen=True, eq=False)
class Layout:
    """All that is said in a file but its numbers; see `Raster` for the fields of the same names.

    Args:
        form: one of `FORMS`.
        interleave: of the plain numbers: "bil" (rows, bands, columns) or "bsq" (bands, rows, columns).
        no_data: of the type of the file; None: NaN, or nothing.
    """

    form: str
    interleave: str
    dtype: np.dtype[Any]
    height: int
    width: int
    bands: Bands
    no_data: Any
    scale: np.ndarray
    offset: np.ndarray
    units: str
    crs: Any
    transform: Affine | None
    gsd_m: float | None
    sensor: str
    metadata: dict[str, str]

    @property
    def size(self) -> int:
        """Bytes of all numbers."""
        return self.height * self.width * len(self.bands) * self.dtype.itemsize

    @property
    def plain(self) -> bool:
        """Whether the file is its plain numbers."""
        return self.form == "ENVI"

    def place(self, band: int, row: int, column: int) -> int:
        """Where a number stands among the plain ones, in bytes."""
        line = row * len(self.bands) + band if self.interleave == "bil" else band * self.height + row
        return (line * self.width + column) * self.dtype.itemsize

    def lines(self, file: Any, band: int, top: int, rows: int) -> np.ndarray:
        """Rows of a band, (rows, W), from the plain numbers."""
        found = np.empty((rows, self.width), self.dtype)
        if self.interleave == "bsq":
            _fill(file, self.place(band, top, 0), found)
            return found
        for number, line in enumerate(found):
            _fill(file, self.place(band, top + number, 0), line)
        return found

    def bands_of(self, file: Any, top: int, rows: int) -> Iterator[np.ndarray]:
        """Rows of one band after the other, (rows, W); read at once where that takes little memory."""
        count = len(self.bands)
        if self.interleave == "bil" and rows * count * self.width * self.dtype.itemsize <= AT_ONCE:
            block = np.empty((rows, count, self.width), self.dtype)
            _fill(file, self.place(0, top, 0), block)
            yield from (np.ascontiguousarray(block[:, band]) for band in range(count))
        else:
            yield from (self.lines(file, band, top, rows) for band in range(count))

    def blocks(self, file: Any, rows: int = ROWS) -> Iterator[tuple[int, np.ndarray]]:
        """(top, rows of all bands (rows, W, C)) one after the other."""
        for top in range(0, self.height, rows):
            here = min(rows, self.height - top)
            yield top, np.stack(list(self.bands_of(file, top, here)), -1)


def _fill(file: Any, place: int, array: np.ndarray) -> None:
    """Fills an array from a place in a file."""
    file.seek(place)
    left = memoryview(array.reshape(-1).view(np.uint8).data)
    while left:
        count = file.readinto(left)
        if not count:
            raise OSError(errno.EIO, "the unfinished file ends early")
        left = left[count:]
