"""Spectral responses: what a multispectral sensor sees of a spectrum of many bands.

Source: tables of ESA (Sentinel-2) and NASA (Landsat), see data/README.md; the cells of bands are this project's.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import torch

from ctmem.checks import as_image, as_srf, as_vector, check_choice, door, fail, typed
from ctmem.files import data_path

Wavelengths = Sequence[float] | np.ndarray  # centres of bands, nm

SENSORS = {  # sensor with a table data/srf_<sensor>.csv → its blue, green, red and near infrared
    "sentinel2a": ("B02", "B03", "B04", "B08"),
    "sentinel2b": ("B02", "B03", "B04", "B08"),
    "landsat8": ("B2", "B3", "B4", "B5"),
    "landsat9": ("B2", "B3", "B4", "B5"),
}
GAP_STEPS = 3.0  # a step between neighbouring bands above this many median steps is a gap
MISSING_SHARE = 0.01  # of a sensor band's response that may lie outside the scene's bands


@typed
@lru_cache
def load_rsr(sensor: str = "sentinel2a") -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Returns {band: (wavelengths in nm, relative response)} of a sensor at 1 nm steps, bands in usual order.

    Args:
        sensor: "sentinel2a", "sentinel2b" (MSI, 13 bands), "landsat8" or "landsat9" (OLI and OLI-2, the 9
            bands of reflected sunlight).

    Raises:
        ValueError: an unknown sensor; lists those known.

    Source: tables of ESA (Sentinel-2) and NASA (Landsat), see data/README.md.

    Example:
        >>> wavelengths_nm, response = load_rsr("sentinel2a")["B03"]
        >>> int(wavelengths_nm[0]), int(wavelengths_nm[-1])
        (538, 583)
    """
    check_choice(sensor, "sensor", SENSORS)
    table: dict[str, list[tuple[float, float]]] = {}
    with data_path(f"srf_{sensor}.csv").open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            table.setdefault(row["band"], []).append((float(row["wavelength_nm"]), float(row["response"])))
    return {band: tuple(np.array(pairs).T) for band, pairs in table.items()}


@door
def band_edges(wavelengths_nm: Wavelengths | None) -> tuple[np.ndarray, np.ndarray]:
    """Returns (lower, upper) edges in nm of the cell each band stands for, in the order given.

    Convention: a cell ends half-way to the neighbouring wavelength. At the two ends and beside a gap (a step
    above three median steps, as where water bands were removed) it reaches half a median step. The order of
    the bands does not matter, so spectrometers that overlap share the overlap: no wavelength counts twice.

    Raises:
        ValueError: not a list of at least two finite, positive numbers.

    Example:
        >>> lower, upper = band_edges([500, 510, 520, 600])
        >>> [tuple(map(float, pair)) for pair in zip(lower, upper)]
        [(495.0, 505.0), (505.0, 515.0), (515.0, 525.0), (595.0, 605.0)]
    """
    centres = _check_wavelengths(wavelengths_nm)
    order = np.argsort(centres, kind="stable")
    steps = np.diff(centres[order])
    median = float(np.median(steps[steps > 0])) if (steps > 0).any() else 1.0
    half = np.where(steps > GAP_STEPS * median, median, steps) / 2
    lower = np.empty_like(centres)
    upper = np.empty_like(centres)
    lower[order] = centres[order] - np.append(median / 2, half)
    upper[order] = centres[order] + np.append(half, median / 2)
    return lower, upper


@door
def srf_matrix(
    wavelengths_nm: Wavelengths | None,
    *,
    sensor: str = "sentinel2a",
    bands: Sequence[str] | None = None,
) -> torch.Tensor:
    """Returns the sensor's spectral response over a scene's bands, (c, C) float32, rows sum to 1.

    The weight of scene band j is the integral of the response over that band's cell (`band_edges`).

    Args:
        wavelengths_nm: centres of the scene's C bands, in nm, in any order.
        sensor: which table, see `load_rsr`.
        bands: names of the sensor's bands wanted; `None`: its blue, green, red and near infrared.

    Raises:
        ValueError: an unknown sensor or band, no band, wavelengths that are not a list of numbers, or more than
            1 % of a band's response lies outside the scene's range or in one of its gaps (names the band and
            both ranges).

    Example:
        >>> scene_nm = torch.arange(400.0, 1001)  # a spectrum equal to its own wavelength: the bands' centres
        >>> (srf_matrix(scene_nm, sensor="landsat8") @ scene_nm).round().tolist()
        [483.0, 561.0, 655.0, 865.0]
    """
    table = load_rsr(sensor)
    bands = SENSORS[sensor] if bands is None else bands
    if not bands:
        fail("bands", "at least one band of the sensor", bands)
    lower, upper = band_edges(wavelengths_nm)
    rows = []
    for band in bands:
        check_choice(band, "bands", table)
        weights = _integrals(*table[band], lower, upper)
        if weights.sum() < 1 - MISSING_SHARE:
            _fail_coverage(band, table[band][0], weights.sum(), lower, upper)
        rows.append(weights / weights.sum())
    return torch.from_numpy(np.stack(rows)).float()


@door
def box_srf(wavelengths_nm: Wavelengths, edges_nm: Sequence[tuple[float, float]]) -> torch.Tensor:
    """Returns box-shaped responses, (c, C) float32, rows sum to 1: equal weight per nm between two edges.

    Args:
        wavelengths_nm: centres of the scene's C bands, in nm.
        edges_nm: (low, high) of each of the c sensor bands, in nm.

    Raises:
        ValueError: no box, an empty box, or one of which more than 1 % lies outside the scene's range or in a
            gap.

    Example:
        >>> box_srf([500, 510, 520, 530], [(495, 515), (515, 525)]).tolist()
        [[0.5, 0.5, 0.0, 0.0], [0.0, 0.0, 1.0, 0.0]]
    """
    lower, upper = band_edges(wavelengths_nm)
    if not edges_nm:
        fail("edges_nm", "at least one pair (low, high)", edges_nm)
    rows = []
    for low, high in edges_nm:
        if not low < high:
            fail("edges_nm", "pairs (low, high) with low < high", f"({low}, {high})")
        overlap = np.clip(np.minimum(upper, high) - np.maximum(lower, low), 0, None)
        if overlap.sum() < (1 - MISSING_SHARE) * (high - low):
            _fail_coverage("box", np.array([low, high]), overlap.sum() / (high - low), lower, upper)
        rows.append(overlap / overlap.sum())
    return torch.from_numpy(np.stack(rows)).float()


@door
def apply_srf(x: torch.Tensor, srf: torch.Tensor) -> torch.Tensor:
    """Returns what the sensor `srf` sees of `x`: (B, c, H, W), each band a weighted mean of the scene's.

    Args:
        x: scene (B, C, H, W).
        srf: spectral response (c, C), rows sum to 1.

    Raises:
        TypeError: an argument is not a floating-point tensor.
        ValueError: wrong shapes, values that are not finite, or a row of `srf` that does not sum to 1.
    """
    x = as_image(x, "x", double=True)
    srf = as_srf(srf, bands=x.shape[1])
    return torch.einsum("cn,bnhw->bchw", srf.to(x), x)


def _check_wavelengths(wavelengths_nm: Wavelengths | None) -> np.ndarray:
    """The wavelengths as a float64 vector of at least two finite positive numbers."""
    expected = "a list of at least two finite, positive wavelengths in nm"
    if wavelengths_nm is None:
        fail("wavelengths_nm", expected, None)
    centres = as_vector(wavelengths_nm, "wavelengths_nm", expected)
    if centres.size < 2:
        fail("wavelengths_nm", expected, f"shape {centres.shape}")
    if not (np.isfinite(centres) & (centres > 0)).all():
        fail("wavelengths_nm", expected, centres[~(np.isfinite(centres) & (centres > 0))][0])
    return centres


def _integrals(nm: np.ndarray, response: np.ndarray, lower: np.ndarray, upper: np.ndarray) -> np.ndarray:
    """Share of a tabulated response that falls in each cell; each entry covers ± half a step, at any regular step."""
    step = (nm[-1] - nm[0]) / (len(nm) - 1)
    edges = np.append(nm - step / 2, nm[-1] + step / 2)
    cumulative = np.append(0.0, np.cumsum(response)) / response.sum()
    return np.interp(upper, edges, cumulative) - np.interp(lower, edges, cumulative)


def _fail_coverage(band: str, nm: np.ndarray, covered: float, lower: np.ndarray, upper: np.ndarray) -> None:
    """Raises the one error for a sensor band that the scene does not cover."""
    missing = f"{100 * (1 - covered):.1f} % of it outside or in a gap of {lower.min():.0f}–{upper.max():.0f} nm"
    got = f"{band} at {nm[0]:.0f}–{nm[-1]:.0f} nm, {missing}"
    fail("wavelengths_nm", "a range that covers every sensor band", got)
