"""What sensors do to a scene: spectral responses, blur, decimation, noise, and the transposes of these.

Pixel geometry, everywhere in this package: pixel i covers the interval [i, i + 1). A coarse pixel i at scale
s covers the fine pixels s·i … s·i + s − 1, so that its centre lies *between* two fine pixels where s is even.
`blur_down` and `upsample` both keep to this: neither shifts the image.

Every function of an image here except `add_noise` is linear; `adjoint` gives the transpose of any of them.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from ctmem.checks import check_choice, check_count, check_finite, check_image, check_srf, fail

SENSORS = {  # sensor with a table data/srf_<sensor>.csv → its blue, green, red and near infrared
    "sentinel2a": ("B02", "B03", "B04", "B08"),
    "sentinel2b": ("B02", "B03", "B04", "B08"),
    "landsat8": ("B2", "B3", "B4", "B5"),
    "landsat9": ("B2", "B3", "B4", "B5"),
}
GAP_STEPS = 3.0  # a step between neighbouring bands above this many median steps is a gap
MISSING_SHARE = 0.01  # of a sensor band's response that may lie outside the scene's bands


def data_path(name: str) -> Path:
    """Path of a file shipped with the project: in `ctmem/_data` of a wheel, in `data/` of a source tree.

    Raises:
        FileNotFoundError: no such file is shipped.
    """
    here = Path(__file__).resolve().parent
    for folder in (here / "_data", here.parent / "data"):
        if (folder / name).is_file():
            return folder / name
    return fail("name", "a file shipped in the data folder", repr(name), FileNotFoundError)


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


def band_edges(wavelengths_nm: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
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
    lower, upper = np.empty_like(centres), np.empty_like(centres)
    lower[order] = centres[order] - np.append(median / 2, half)
    upper[order] = centres[order] + np.append(half, median / 2)
    return lower, upper


def srf_matrix(
    wavelengths_nm: Sequence[float],
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
        ValueError: an unknown sensor or band, no band, wavelengths that are no list of numbers, or more than
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


def box_srf(wavelengths_nm: Sequence[float], edges_nm: Sequence[tuple[float, float]]) -> torch.Tensor:
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


def apply_srf(x: torch.Tensor, srf: torch.Tensor) -> torch.Tensor:
    """Returns what the sensor `srf` sees of `x`: (B, c, H, W), each band a weighted mean of the scene's.

    Args:
        x: scene (B, C, H, W).
        srf: spectral response (c, C), rows sum to 1.

    Raises:
        TypeError: an argument is no floating-point tensor.
        ValueError: wrong shapes, values that are not finite, or a row of `srf` that does not sum to 1.
    """
    check_image(x, "x")
    check_srf(srf, bands=x.shape[1])
    return torch.einsum("cn,bnhw->bchw", srf.to(x), x)


def gaussian_psf(
    fwhm_px: float | tuple[float, float], *, size: int | None = None, scale: int | None = None
) -> torch.Tensor:
    """Returns a Gaussian point spread function, (k, k) float32, sums to 1, sampled at pixel centres.

    Args:
        fwhm_px: full width at half maximum in fine pixels, or (rows, columns) of an anisotropic one.
        size: k in pixels; default: the smallest of the right parity that is at least three widths.
        scale: the decimation that follows. k must be even for an even scale and odd for an odd one, because
            it is centred on the coarse pixel; None: odd, to blur without decimation.

    Raises:
        ValueError: a width that is not positive, a size below 1, or a size whose parity is not that of
            `scale`.
    """
    widths = fwhm_px if isinstance(fwhm_px, tuple) else (fwhm_px, fwhm_px)
    if len(widths) != 2 or not all(math.isfinite(width) and width > 0 for width in widths):
        fail("fwhm_px", "a positive number of pixels or a pair of them", fwhm_px)
    if scale is not None:
        check_count(scale, "scale")
    parity = 1 if scale is None else scale % 2
    if size is None:
        size = math.ceil(3 * max(widths))
        size += (size - parity) % 2
    check_count(size, "size")
    if scale is not None and size % 2 != parity:
        fail("size", f"{'odd' if parity else 'even'}, as `scale` {scale} is", size)
    offsets = torch.arange(size, dtype=torch.float64) - (size - 1) / 2
    rows, columns = (torch.exp(-4 * math.log(2) * (offsets / width) ** 2) for width in widths)
    psf = torch.outer(rows / rows.sum(), columns / columns.sum())
    return psf.float()


def default_psf(scale: int) -> torch.Tensor:
    """Returns the blur this project degrades with, (3·scale, 3·scale): a Gaussian of FWHM = `scale` pixels.

    Raises:
        ValueError: `scale` is no whole number ≥ 1.
    """
    check_count(scale, "scale")
    return gaussian_psf(float(scale), size=3 * scale, scale=scale)


def blur(x: torch.Tensor, psf: torch.Tensor) -> torch.Tensor:
    """Returns `x` convolved with `psf`, band by band, same shape (B, C, H, W).

    Convention: a true convolution (an impulse becomes `psf`, not its mirror image); the border is replicated.

    Raises:
        TypeError: an argument is no floating-point tensor.
        ValueError: `psf` is not square, not finite, does not sum to 1, or has an even size, which would shift
            the image.
    """
    check_image(x, "x")
    _check_psf(psf)
    if psf.shape[-1] % 2 == 0:
        fail("psf", "of odd size (an even one shifts by half a pixel)", f"size {psf.shape[-1]}")
    return _convolve(x, psf, stride=1)


def blur_down(x: torch.Tensor, psf: torch.Tensor, scale: int) -> torch.Tensor:
    """Returns `x` blurred and decimated: (B, C, H/scale, W/scale), what a coarser sensor records.

    Coarse pixel i is the mean of the fine pixels around scale·i … scale·i + scale − 1, weighted by `psf`,
    whose centre is that cell's centre.

    Convention: as `blur`; the border is replicated.

    Args:
        x: fine image (B, C, H, W).
        psf: (k, k), sums to 1, k even for an even scale and odd for an odd one; see `default_psf`.
        scale: fine pixels per coarse pixel, along one side.

    Raises:
        TypeError: an argument is no floating-point tensor.
        ValueError: H or W is no multiple of `scale`, or `psf` is not square, not finite, does not sum to 1 or
            has a size of the other parity.
    """
    check_count(scale, "scale")
    check_image(x, "x", multiple_of=scale)
    _check_psf(psf)
    if (psf.shape[-1] - scale) % 2:
        parity = "odd" if scale % 2 else "even"
        fail("psf", f"of {parity} size, as `scale` {scale} is", f"size {psf.shape[-1]}")
    return _convolve(x, psf, stride=scale)


def upsample(x: torch.Tensor, scale: int) -> torch.Tensor:
    """Returns `x` enlarged by bicubic interpolation, (B, C, scale·H, scale·W), in the same pixel geometry.

    Convention: Keys' cubic with a = −0.75 (torch's; a = −0.5 of other libraries is a little softer),
    replicated border. It may overshoot [0, 1] and is not clipped, so it stays linear.

    Raises:
        TypeError: `x` is no floating-point tensor.
        ValueError: wrong rank, values that are not finite, or a scale that is no whole number ≥ 1.
    """
    check_image(x, "x")
    check_count(scale, "scale")
    return F.interpolate(x, scale_factor=scale, mode="bicubic", align_corners=False)


def add_noise(x: torch.Tensor, snr_db: float, *, generator: torch.Generator) -> torch.Tensor:
    """Returns `x` plus white Gaussian noise, same shape; not clipped.

    Convention: the signal-to-noise ratio is 10·log10(mean x² / σ²), for each image and band by itself.

    Raises:
        TypeError: `x` is no floating-point tensor.
        ValueError: wrong rank, values that are not finite, or `snr_db` is not finite.
    """
    check_image(x, "x")
    if not math.isfinite(snr_db):
        fail("snr_db", "a finite number of decibels", snr_db)
    sigma = x.square().mean((2, 3), keepdim=True).sqrt() * 10 ** (-snr_db / 20)
    noise = torch.randn(x.shape, generator=generator, dtype=x.dtype, device=x.device)
    return x + sigma * noise


def adjoint(operator: Callable[[torch.Tensor], torch.Tensor], like: torch.Tensor) -> Callable:
    """Returns the transpose Aᵀ of a linear operator A: from images like A(like) to ones like `like`.

    For all x and y of fitting shapes ⟨A x, y⟩ = ⟨x, Aᵀ y⟩. It is one backward pass, so any operator made of
    torch functions will do.

    Args:
        operator: a linear function of one tensor.
        like: any tensor of the shape the operator takes; its values do not matter.
    """
    _, pull_back = torch.func.vjp(operator, torch.zeros_like(like))
    return lambda y: pull_back(y)[0]


def _check_wavelengths(wavelengths_nm: Sequence[float]) -> np.ndarray:
    """The wavelengths as a float64 vector of at least two finite positive numbers."""
    expected = "a list of at least two finite, positive wavelengths in nm"
    if wavelengths_nm is None:
        fail("wavelengths_nm", expected, None)
    centres = np.asarray(wavelengths_nm, dtype=np.float64)
    if centres.ndim != 1 or centres.size < 2:
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


def _check_psf(psf: torch.Tensor) -> None:
    """Raises unless `psf` is a finite float (k, k) that sums to 1."""
    if not isinstance(psf, torch.Tensor) or not psf.is_floating_point():
        fail("psf", "a floating-point tensor (k, k)", type(psf).__name__, TypeError)
    if psf.ndim != 2 or psf.shape[0] != psf.shape[1] or psf.numel() == 0:
        fail("psf", "of shape (k, k)", f"shape {tuple(psf.shape)}")
    check_finite(psf, "psf")
    if abs(float(psf.sum()) - 1) > 1e-4:
        fail("psf", "a kernel that sums to 1", f"a sum of {float(psf.sum()):.4g}")


def _convolve(x: torch.Tensor, psf: torch.Tensor, stride: int) -> torch.Tensor:
    """Convolution with `psf` centred on cells of `stride` pixels, replicated border, one step per cell."""
    widen = max(0, stride - psf.shape[-1]) // 2
    kernel = F.pad(psf.to(x).flip(0, 1), [widen] * 4)
    reach = (kernel.shape[-1] - stride) // 2
    padded = F.pad(x, [reach] * 4, mode="replicate")
    channels = x.shape[1]
    return F.conv2d(padded, kernel.expand(channels, 1, -1, -1), stride=stride, groups=channels)
