"""What two sensors make of a scene, for a page that must answer at once: tensors in, tensors and lines out, no widget.

Images are what `Camera` gives, to the last bit, computed some bands at a time: the camera's steps need as much memory
as what goes through them. Pixels without a value are filled for the blur, and are gaps again afterwards.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Annotated

import numpy as np
import torch

from ctmem.checks import Axes, Image, Scale, Size, fail, typed
from ctmem.data.scenes import Scene
from ctmem.evaluation.metrics import psnr_per_band
from ctmem.evaluation.plots import COLOURS, to_array, with_gaps
from ctmem.explorers.band import Cube
from ctmem.explorers.view import line
from ctmem.holes import fill_in, find_holes
from ctmem.observe.camera import Camera
from ctmem.observe.responses import SENSORS, Wavelengths, band_edges, load_rsr, srf_matrix

CHUNK = 400_000  # numbers of the fine image at a time
NOISE_SEED = 0
BLOCK = 16  # numbers that torch draws together: pieces of whole blocks are what one draw gives
SMALLEST = 2  # scale, and so side of a scene
COARSE = COLOURS[4]  # the coarse pixel, as a line and on images
FIRST_COLOURS = (COLOURS[0], COLOURS[2], COLOURS[1], COLOURS[3])  # blue, green, red, near infrared
MORE_COLOURS = (COLOURS[5], "#000000", "#808080")  # of all further bands
DASHES = ("", "7 4", "2 3")  # of them, too
Coarse = Annotated[torch.Tensor, Axes("(C, h, w)", finite=False)]


@typed
def observed(gt: Image, camera: Camera) -> torch.Tensor:
    """Returns `camera.observe` of the whole coarse pixels of `gt`, (1, C, h, w), with the same noise on every call.

    Rows and columns at the end that fill no coarse pixel are left out, as in `samples.degrade_scene`.

    Args:
        gt: (1, C, H, W), finite.
        camera: its scale is at most H and W.

    Raises:
        ValueError: as `Camera.observe`.
    """
    whole = trimmed(gt, camera.scale)
    height, width = (side // camera.scale for side in whole.shape[2:])
    coarse = gt.new_empty(1, gt.shape[1], height, width)
    # so many bands at a time that their noise begins where torch begins a block of numbers, and no piece is smaller
    even = BLOCK // math.gcd(BLOCK, height * width)
    step = even * max(1, _bands_at_a_time(gt) // even)
    starts = tuple(range(step, gt.shape[1] - step + 1, step))
    generator = torch.Generator().manual_seed(NOISE_SEED)
    for into, part in zip(coarse.tensor_split(starts, 1), whole.tensor_split(starts, 1)):
        into.copy_(camera.observe(part, generator=generator))
    return coarse


@typed
def gaps_of(holes: torch.Tensor, camera: Camera) -> torch.Tensor:
    """Returns which coarse pixels have no data, (1, 1, h, w) bool, see `Camera.coarse_holes`.

    Args:
        holes: (1, 1, H, W) bool.
        camera: that sees the scene.
    """
    return camera.coarse_holes(trimmed(holes, camera.scale))


@typed
@torch.no_grad()
def upsampled_psnr_db(lr_hsi: Image, gt: Image, camera: Camera, gaps: torch.Tensor | None = None) -> float:
    """Returns `metrics.psnr_db` of the bicubic enlargement of `lr_hsi` against `gt`, dB: what was lost.

    Args:
        lr_hsi: (1, C, h, w), finite.
        gt: (1, C, H, W), finite; what exceeds h or w whole coarse pixels is left out.
        camera: whose scale it is.
        gaps: (1, 1, h, w) bool, coarse pixels that do not count; NaN where none is left.
    """
    kept = None if gaps is None or not gaps.any() else ~enlarged(gaps[0, 0], camera.scale)
    if kept is not None and not kept.any():
        return float("nan")
    bands = _bands_at_a_time(gt)
    found = torch.empty(1, gt.shape[1], dtype=torch.float64)
    pieces = (x.split(bands, 1) for x in (found, lr_hsi, trimmed(gt, camera.scale)))
    for into, coarse, fine in zip(*pieces):
        pred = camera.upsample(coarse)
        if kept is not None:
            pred, fine = pred[..., None, kept], fine[..., None, kept]
        into.copy_(psnr_per_band(pred, fine))
    return float(found.mean())


@typed
def trimmed(x: torch.Tensor, scale: Scale) -> torch.Tensor:
    """Returns `x` (B, C, H, W) without the last rows and columns that fill no coarse pixel."""
    height, width = (side // scale * scale for side in x.shape[-2:])
    return x[..., :height, :width]


@typed
def enlarged(plane: torch.Tensor, scale: Scale) -> torch.Tensor:
    """Returns the plane (h, w) with every pixel repeated, (scale·h, scale·w)."""
    if plane.ndim != 2:
        fail("plane", "of shape (h, w)", f"shape {tuple(plane.shape)}")
    return plane.repeat_interleave(scale, 0).repeat_interleave(scale, 1)


@typed
def on_fine_grid(coarse: Coarse, scale: Scale, size: tuple[Size, Size]) -> np.ndarray:
    """Returns coarse bands on the pixels of the fine image, (H, W, n) float32, NaN where no coarse pixel lies.

    Args:
        coarse: (n, h, w).
        scale: fine pixels per coarse pixel.
        size: (H, W), at least scale·h and scale·w.
    """
    drawn = np.full((*size, len(coarse)), np.nan, np.float32)
    height, width = (scale * side for side in coarse.shape[1:])
    drawn[:height, :width] = coarse.detach().numpy().transpose(1, 2, 0).repeat(scale, 0).repeat(scale, 1)
    return drawn


@typed
def checked_scene(scene: Cube) -> np.ndarray:
    """Returns the scene as an array (H, W, C).

    Raises:
        TypeError: another type.
        ValueError: no numbers, a wrong rank, less than 2×2 px, or values that leave [0, 1]; NaN is let through.
    """
    if not isinstance(scene, Scene | np.ndarray | torch.Tensor):
        fail("scene", "a Scene, an array (H, W, C) or a tensor (1, C, H, W)", type(scene).__name__, TypeError)
    one = isinstance(scene, torch.Tensor) and scene.ndim == 4 and len(scene) == 1
    if not isinstance(scene, Scene) and scene.ndim not in (2, 3) and not one:
        fail("scene", "one array (H, W, C) or one tensor (1, C, H, W)", f"shape {tuple(scene.shape)}")
    cube = scene.cube if isinstance(scene, Scene) else to_array(scene)
    if cube.dtype.kind not in "fiu" or 0 in cube.shape:
        fail("scene", "numbers (H, W, C)", f"{cube.dtype} of shape {cube.shape}")
    if min(cube.shape[:2]) < SMALLEST:
        fail("scene", f"at least {SMALLEST}×{SMALLEST} px", f"{cube.shape[0]}×{cube.shape[1]}")
    low, high = span(cube)
    if low < 0 or high > 1:
        fail("scene", "in [0, 1]", f"values from {low:.4g} to {high:.4g}")
    return cube


@typed
def span(cube: np.ndarray) -> tuple[float, float]:
    """Returns (lowest, highest) of the finite values of a cube (H, W, C); infinity and its negative without any."""
    low = np.inf
    high = -np.inf
    rows = max(1, CHUNK // cube[0].size)
    for top in range(0, len(cube), rows):
        part = cube[top : top + rows]
        finite = np.isfinite(part)
        known = part if finite.all() else part[finite]
        if known.size:
            low = min(low, known.min())
            high = max(high, known.max())
    return float(low), float(high)


@typed
def filled(cube: np.ndarray) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Returns (image (1, C, H, W) float32, holes (1, 1, H, W) bool), filled as by `holes.fill_holes`; None: no holes.

    Args:
        cube: (H, W, C); a pixel with NaN or infinite values in any band is a hole. It is copied once.

    Raises:
        ValueError: a cube of holes only.
    """
    image = torch.from_numpy(np.array(cube.transpose(2, 0, 1)[None], np.float32, order="C"))
    holes = find_holes(image)
    if not holes.any():
        return image, None
    return fill_in(image, holes, "scene"), holes


@typed
def covered_bands(wavelengths_nm: Wavelengths | None) -> dict[str, tuple[str, ...]]:
    """Returns {sensor: bands} that the wavelengths cover, of sensors whose red, green and blue are among them.

    Args:
        wavelengths_nm: (C,) centres of the scene's bands, or None.
    """
    if wavelengths_nm is None:
        return {}
    found = {}
    for sensor in SENSORS:
        bands = tuple(filter(partial(_covers, wavelengths_nm, sensor), load_rsr(sensor)))
        if set(SENSORS[sensor][:3]) <= set(bands):
            found[sensor] = bands
    return found


@typed
def psf_lines(psf: torch.Tensor, fwhm: float, scale: Scale, widest: float) -> list[dict[str, object]]:
    """Returns the section of a Gaussian PSF as lines: its weights as steps, the curve, its FWHM, the coarse pixel.

    Args:
        psf: (k, k), sums to 1.
        fwhm: fine pixels.
        scale: fine pixels per coarse pixel.
        widest: the largest FWHM there will be, so that the axis stays as it is.
    """
    side = len(psf)
    offsets = np.arange(side) - (side - 1) / 2
    # the weights as steps, as high as the curve at the centre of the middle one
    weights = psf.sum(0).numpy()
    middle = side // 2
    heights = weights / weights[middle] * 2 ** -((2 * offsets[middle] / fwhm) ** 2)
    edges = np.repeat(np.append(offsets - 0.5, offsets[-1] + 0.5), 2)
    # the curve, and what it is measured by
    distance = np.linspace(-1.5 * fwhm, 1.5 * fwhm, 121)
    return [
        line("weights", edges, np.concatenate([[0], np.repeat(heights, 2), [0]]), COLOURS[5]),
        line("Gaussian", distance, 2 ** -((2 * distance / fwhm) ** 2), COLOURS[0]),
        line("FWHM", [-fwhm / 2, fwhm / 2], [0.5, 0.5], COLOURS[1], dash="7 4"),
        line("coarse px", [-scale / 2, scale / 2], [0, 0], COARSE, width=5.0),
        line("", [-1.5 * widest, 1.5 * widest], [np.nan, np.nan], "none"),
    ]


@typed
def band_styles(first: Sequence[str], bands: Sequence[str]) -> dict[str, tuple[str, str]]:
    """Returns {band: (colour, dashes)}.

    Args:
        first: the sensor's blue, green, red and near infrared.
        bands: all of its bands.
    """
    others = [band for band in bands if band not in first]
    more = {band: (MORE_COLOURS[n % 3], DASHES[n // 3 % 3]) for n, band in enumerate(others)}
    return {band: (colour, "") for band, colour in zip(first, FIRST_COLOURS)} | more


@typed
def response_lines(
    srf: np.ndarray, wavelengths_nm: np.ndarray, styles: Mapping[str, tuple[str, str]]
) -> list[dict[str, object]]:
    """Returns the responses as lines with peak 1, each from the last scene band without weight to the next one.

    A weight is the response over the cell of a scene band (`responses.band_edges`) times the cell's width; a line shows
    the mean response of each cell. Bands with a cell of no width, of wavelengths that occur more than once, are left
    out.

    Args:
        srf: (c, C), weights of the scene's bands.
        wavelengths_nm: (C,) nm, in any order.
        styles: {band: (colour, dashes)} of the c bands.
    """
    lower, upper = band_edges(wavelengths_nm)
    wide = upper > lower
    nm = wavelengths_nm[wide]
    means = np.asarray(srf, float)[:, wide] / (upper - lower)[wide]
    lines = []
    for row, (name, (colour, dash)) in zip(means, styles.items()):
        x, y = with_gaps(nm, row / row.max(), name)
        # where there is weight, and one band to each side
        on = np.nan_to_num(y) > 0
        near = on | np.append(on[1:], False) | np.append(False, on[:-1])
        lines.append(line(name, x[near], y[near], colour, dash=dash))
    return lines


@typed
def dot_lines(
    values: np.ndarray, centres_nm: np.ndarray, styles: Mapping[str, tuple[str, str]], name: str
) -> list[dict[str, object]]:
    """Returns one dot per band at its centre; the last one has the name.

    Args:
        values: (c,).
        centres_nm: (c,) nm.
        styles: {band: (colour, dashes)} of the c bands.
        name: in the legend.
    """
    names = [""] * (len(values) - 1) + [name]
    dots = zip(names, centres_nm, values, styles.values())
    return [line(said, [x], [y], colour, points=True) for said, x, y, (colour, _) in dots]


def _bands_at_a_time(gt: torch.Tensor) -> int:
    return max(1, CHUNK // gt[0, 0].numel())


def _covers(wavelengths_nm: Wavelengths, sensor: str, band: str) -> bool:
    """Whether `srf_matrix` can make this band of these wavelengths."""
    try:
        srf_matrix(wavelengths_nm, sensor=sensor, bands=(band,))
    except ValueError:
        return False
    return True
