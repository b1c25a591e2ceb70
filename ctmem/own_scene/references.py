"""Fine images of other ground, brought to what a method asks of them: bands that the scene covers, and its fine pixels.

A reference may have any bands. Those that lie inside the scene's range are used, and the others are left out, with a
line that names them. What a band sees of the scene's bands comes from the file (centre and width), from the table of a
sensor, or from a text file of responses; a band of the scene without a wavelength has weight 0.

Source: this project.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

from ctmem.checks import fail
from ctmem.observe.responses import SENSORS, load_rsr
from ctmem.raster.raster import Bands, Raster
from ctmem.reading.numbers import read_numbers

INSIDE = 0.5  # of a band's response that must lie on the scene's bands
WIDTH = 1.5  # full width of a band whose file has centres alone, over the median step to its neighbours
USUAL_WIDTH_NM = 60.0  # of a single one
LARGEST = 3000  # pixels of a side that are read, from the middle
BRIGHT = 99.9  # percentile that becomes 1
NEAR = 0.03  # how far the pixel's size may be from that of the answer
SIGMA_TO_FWHM = 2 * math.sqrt(2 * math.log(2))


@dataclass(frozen=True, eq=False)
class Reference:
    """A reference as a method takes it.

    Args:
        image: (1, c, H, W) in [0, 1], NaN in holes, at the fine pixels.
        srf: (c, C) what its bands see of the scene's, rows sum to 1; 0 for a band without a wavelength.
        lines: what was left out or changed, in words.
    """

    image: torch.Tensor
    srf: torch.Tensor
    lines: tuple[str, ...]


def fitted(reference: Raster, scene: Raster, *, scale: int, sensor: str | Path | None = None) -> Reference:
    """Returns a reference for a scene.

    Args:
        reference: of any ground.
        scene: the coarse scene.
        scale: of the answer.
        sensor: of the reference: a name of `responses.SENSORS`, or a text file of c rows of C numbers; None: its file
            says its wavelengths.

    Raises:
        ValueError: a scene or reference without wavelengths, an unknown sensor, or no band in common.
    """
    response = response_of(reference, scene.bands, sensor)
    covered = response.sum(1)
    kept = np.flatnonzero(covered >= INSIDE)
    names = _names(reference)
    if not kept.size:
        nm = scene.bands.wavelengths_nm
        span = "" if nm is None else f" of {np.nanmin(nm):.0f} to {np.nanmax(nm):.0f} nm"
        fail("references", f"at least one band inside the scene's range{span}", f"{', '.join(names)} outside of it")
    lines = []
    if len(kept) < len(names):
        gone = [names[band] for band in range(len(names)) if band not in kept]
        lines.append(f"{reference.path.name}: {', '.join(gone)} lie outside the scene's range and are left out")
    image = _image(reference, kept.tolist())
    image, said = _at_pixels(image, reference, scene, scale)
    srf = response[kept] / covered[kept, None]
    return Reference(image, torch.from_numpy(srf).float(), (*lines, *said))


def response_of(reference: Raster, bands: Bands, sensor: str | Path | None) -> np.ndarray:
    """What each band of a reference sees of the scene's bands, (c, C): shares of its response, at most 1 in a row."""
    count = reference.count
    if sensor is not None and str(sensor) not in SENSORS:
        return _table(Path(sensor), count, len(bands))
    if bands.wavelengths_nm is None:
        fail("wavelengths_nm", "given, for what a reference's bands see of the scene's (--wavelengths FILE)", "none")
    cells = _cells(bands)
    if sensor is not None:
        curves = _curves(str(sensor), reference)
    elif reference.bands.wavelengths_nm is None or not np.isfinite(reference.bands.wavelengths_nm).any():
        known = ", ".join(SENSORS)
        fail("sensor", f"given, since {reference.path.name} says no wavelengths: {known}, or a text file", "none")
    else:
        curves = _gaussians(reference.bands)
    return np.stack([_shares(*curve, cells) for curve in curves])


def _table(path: Path, count: int, bands: int) -> np.ndarray:
    """Responses from a text file."""
    if not path.is_file():
        fail("sensor", f"one of {', '.join(SENSORS)}, or a text file of responses", repr(str(path)))
    table = read_numbers(path)
    table = table.T if table.shape == (bands, count) and bands != count else table
    if table.shape != (count, bands) or not (table >= 0).all() or not (table.sum(1) > 0).any():
        fail("sensor", f"a text file of {count} rows of {bands} numbers ≥ 0", f"{table.shape} in {path.name}")
    return table / np.maximum(table.sum(1, keepdims=True), 1e-300)


def _cells(bands: Bands) -> tuple[np.ndarray, np.ndarray]:
    """Lower and upper ends in nm of what the good bands of a scene stand for, (C,); NaN for the others.

    A cell reaches half-way to its neighbours, and at the ends of the range and beside gaps as far as its band is wide.
    """
    nm = np.where(bands.good, np.asarray(bands.wavelengths_nm, np.float64), np.nan)
    places = np.flatnonzero(np.isfinite(nm))
    places = places[np.argsort(nm[places], kind="stable")]
    lower, upper = np.full(nm.shape, np.nan), np.full(nm.shape, np.nan)
    steps = np.diff(nm[places])
    typical = float(np.median(steps)) if len(steps) else USUAL_WIDTH_NM
    for number, place in enumerate(places):
        own = typical if bands.fwhm_nm is None or not np.isfinite(bands.fwhm_nm[place]) else bands.fwhm_nm[place]
        reach = max(typical, float(own)) / 2
        before = steps[number - 1] / 2 if number else reach
        after = steps[number] / 2 if number < len(steps) else reach
        lower[place], upper[place] = nm[place] - min(before, reach), nm[place] + min(after, reach)
    return lower, upper


def _shares(nm: np.ndarray, response: np.ndarray, cells: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    """Share of a response, tabulated at even steps, that falls into each cell, (C,); 0 in cells that are NaN."""
    if not np.isfinite(nm).all():
        return np.zeros(len(cells[0]))
    step = (nm[-1] - nm[0]) / (len(nm) - 1)
    edges = np.append(nm - step / 2, nm[-1] + step / 2)
    cumulative = np.append(0.0, np.cumsum(response)) / response.sum()
    low, high = (np.interp(np.nan_to_num(ends, nan=-1.0), edges, cumulative) for ends in cells)
    return np.where(np.isfinite(cells[0]), high - low, 0.0)


def _gaussians(bands: Bands) -> list[tuple[np.ndarray, np.ndarray]]:
    """Responses of bands from their centres and widths."""
    nm = np.asarray(bands.wavelengths_nm, np.float64)
    known = np.sort(nm[np.isfinite(nm)])
    usual = WIDTH * float(np.median(np.diff(known))) if len(known) > 1 else USUAL_WIDTH_NM
    curves = []
    for place, centre in enumerate(nm):
        told = np.nan if bands.fwhm_nm is None else bands.fwhm_nm[place]
        sigma = float(told if np.isfinite(told) and told > 0 else min(usual, 2 * USUAL_WIDTH_NM)) / SIGMA_TO_FWHM
        lengths = centre + sigma * np.linspace(-3, 3, 121)
        curves.append((lengths, np.exp(-0.5 * np.linspace(-3, 3, 121) ** 2)))
    return curves


def _curves(sensor: str, reference: Raster) -> list[tuple[np.ndarray, np.ndarray]]:
    """Responses from a sensor's table: by the bands' names, or of its usual four, in their order."""
    table = load_rsr(sensor)
    names = reference.bands.names or ()
    if names and all(name in table for name in names):
        return [table[name] for name in names]
    usual = SENSORS[sensor]
    if reference.count > len(usual):
        wanted = f"of bands called as {sensor}'s ({', '.join(table)}), or at most its usual {len(usual)}"
        fail("references", f"{wanted}: {', '.join(usual)}", f"{reference.count} bands in {reference.path.name}")
    return [table[name] for name in usual[: reference.count]]


def _names(reference: Raster) -> list[str]:
    """What the bands of a reference are called in a message."""
    nm = reference.bands.wavelengths_nm
    if reference.bands.names:
        return list(reference.bands.names)
    known = [None if nm is None else nm[band] for band in range(reference.count)]
    return [f"band {band}" if x is None or not np.isfinite(x) else f"{x:.0f} nm" for band, x in enumerate(known)]


def _image(reference: Raster, bands: Sequence[int]) -> torch.Tensor:
    """Some bands of a reference, (1, c, H, W) in [0, 1]; of a large one its middle."""
    picked = reference.pick(list(bands))
    height, width = (min(side, LARGEST) for side in (picked.height, picked.width))
    top, left = (picked.height - height) // 2, (picked.width - width) // 2
    image = torch.from_numpy(picked.window(top, left, height, width))[None]
    known = image[torch.isfinite(image)]
    if not len(known):
        fail("references", "images with data", f"holes only in {reference.path.name}")
    white = float(np.percentile(known[:: math.ceil(len(known) / 2**20)].numpy(), BRIGHT))
    return (image / (white if white > 0 else 1.0)).clamp(0, 1)


def _at_pixels(
    image: torch.Tensor, reference: Raster, scene: Raster, scale: int
) -> tuple[torch.Tensor, tuple[str, ...]]:
    """The image at the fine pixels of the answer, and what is to be said of it."""
    name = reference.path.name
    if reference.gsd_m is None or scene.gsd_m is None:
        which = name if reference.gsd_m is None else scene.path.name
        return image, (f"{which} does not say the size of its pixels: {name} is taken to have those of the answer",)
    wanted = scene.gsd_m / scale
    ratio = reference.gsd_m / wanted
    if abs(ratio - 1) <= NEAR:
        return image, ()
    size = [max(1, round(side * ratio)) for side in image.shape[2:]]
    return _resampled(image, size), (f"{name} is brought from {reference.gsd_m:g} m to {wanted:g} m",)


def _resampled(image: torch.Tensor, size: Sequence[int]) -> torch.Tensor:
    """An image at another number of pixels; where holes weigh in, a hole."""
    options: dict[str, Any] = {"size": tuple(size), "mode": "bilinear", "antialias": True, "align_corners": False}
    whole = torch.isfinite(image).all(1, keepdim=True).float()
    found = F.interpolate(image.nan_to_num(0), **options)
    return found.masked_fill(F.interpolate(whole, **options) < 1 - 1e-4, math.nan).clamp(0, 1)
