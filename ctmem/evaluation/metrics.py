"""Image metrics under the names of the field, each with its convention: how close `pred` comes to `target`.

    key       best   what it measures, and what it misses
    psnr_db   ↑ 100  error per band on a log scale; blind to whether spectra keep their shape
    sam_deg   ↓ 0    angle between spectra; blind to brightness
    ergas     ↓ 0    error per band relative to the band's mean, so that dark bands count
    ssim      ↑ 1    local structure of each band
    cc        ↑ 1    correlation over each band; blind to gain and offset
    rmse      ↓ 0    error in the data's own units, dominated by bright bands
    uiqi      ↑ 1    correlation, brightness and contrast in small windows

Every function takes `(pred, target)`, both (B, C, H, W) on the scale [0, 1], and returns one number per
image, (B,). The arithmetic is torchmetrics' wherever that library has it, but for the windows of SSIM and UIQI
(`windows`, a test compares both); it runs in float64, because an arccos near 1 loses half of its digits (0.02° for
equal float32 spectra). Values outside [0, 1] are measured as they are, never clipped.

Holes, pixels of `target` with NaN or infinity in any band, are left out by every metric: their pixels, and the windows
that touch one. What `pred` has there does not matter. NaN in `pred` anywhere else is an error: put NaN into `target`
where there is nothing to compare.

A number of rounding size decides nothing: what varies by less than the grain of its numbers is constant.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor
from torchmetrics.functional.image import (
    error_relative_global_dimensionless_synthesis,
    peak_signal_noise_ratio,
    spectral_angle_mapper,
)
from torchmetrics.functional.regression import pearson_corrcoef

from ctmem.checks import (
    Count,
    Positive,
    as_floats,
    as_image,
    check_choice,
    check_count,
    check_finite,
    check_same_shape,
    door,
    double,
    fail,
    typed,
    warn_once,
)
from ctmem.evaluation.windows import WINDOW, Moments, moments, quality_index, structural_similarity, without_holes
from ctmem.holes import open_holes, split_holes, whole_pixels

PSNR_CAP_DB = 100.0
FAR_BEYOND = 10  # times the peak: no prediction overshoots so far
METRICS = ("psnr_db", "sam_deg", "ergas", "ssim", "cc", "rmse", "uiqi")
SINGLE, DOUBLE = 2.0**-23, 2.0**-48  # grain of numbers that were float32 once, and of sums of float64


class _Pair(NamedTuple):
    """Both images in float64, checked; holes filled, and where they are: None, or (B, 1, H, W) bool."""

    pred: Tensor
    target: Tensor
    holes: Tensor | None

    def each(self) -> list[tuple[Tensor, Tensor]]:
        """Pairs of images of whole pixels: all at once where there are no holes, otherwise (1, C, 1, n) each."""
        if self.holes is None:
            return [(self.pred, self.target)]
        images = zip(self.pred.split(1), self.target.split(1), self.holes.split(1))
        return [(whole_pixels(pred, holes), whole_pixels(target, holes)) for pred, target, holes in images]


def _checked(pred: Tensor, target: Tensor, at_least: int | None = None) -> _Pair:
    """Both images, checked."""
    pred = as_image(pred, "pred", at_least=at_least, finite=False, double=True)
    target = as_image(target, "target", at_least=at_least, finite=False, double=True)
    check_same_shape(pred, target)
    target, holes = split_holes(target, "target")
    if holes is not None:
        pred = torch.where(holes, target.to(pred), pred)
    try:
        check_finite(pred, "pred")
    except ValueError as error:
        raise ValueError(f"{error} (NaN in `target` leaves a pixel out)") from None
    pred, target = double(pred), double(target)
    return _Pair(pred, target, None if holes is None else holes.to(target.device))


def _grain(x: Tensor) -> Tensor:
    """Relative size of rounding in an image (B, C, H, W), of float32 where all its numbers are: (B, 1, 1, 1)."""
    single = (x == x.float()).flatten(1).all(1).reshape(-1, 1, 1, 1)
    return torch.where(single, SINGLE, DOUBLE).to(x)


def _in_peaks(pred: Tensor, target: Tensor, peak: float) -> tuple[Tensor, Tensor]:
    """Both images in units of the peak; warns once of a target far beyond it."""
    pred, target = (as_floats(x, name, "(B, C, H, W)", double=True) for x, name in ((pred, "pred"), (target, "target")))
    if target.numel() and float(target.detach().nan_to_num(0.0, 0.0, 0.0).abs().amax()) > FAR_BEYOND * peak:
        warn_once(f"`target` has values beyond {FAR_BEYOND * peak:g}, and PSNR and SSIM are told a `peak` of {peak:g}")
    return (pred, target) if peak == 1 else (pred / peak, target / peak)


@door
def psnr_per_band(pred: Tensor, target: Tensor, *, peak: Positive = 1.0) -> Tensor:
    """Returns the peak signal-to-noise ratio of every band in dB, (B, C); higher is better.

    Convention: `peak` is the scale's, not the image's maximum: 1 here, 255 for bytes. A band with a mean
    squared error of 1e-10 of its square or less, an exact one included, counts as 100 dB.

    Raises:
        TypeError: an image is not a floating-point tensor.
        ValueError: wrong rank, shapes that differ, NaN or infinite values.

    Example:
        >>> psnr_per_band(torch.full((1, 1, 2, 2), 0.6), torch.full((1, 1, 2, 2), 0.5)).round(decimals=4)
        tensor([[20.]], dtype=torch.float64)
    """
    pair = _checked(*_in_peaks(pred, target, peak))
    found = [peak_signal_noise_ratio(*both, data_range=1.0, reduction="none", dim=(2, 3)) for both in pair.each()]
    return torch.cat(found).clamp(max=PSNR_CAP_DB)


@typed
def psnr_db(pred: Tensor, target: Tensor, *, peak: Positive = 1.0) -> Tensor:
    """Returns the peak signal-to-noise ratio in dB, the mean over bands; higher is better.

    Convention: mean of the bands' PSNR, as in most work on hyperspectral super-resolution, not the PSNR of
    the mean error; `peak` as of `psnr_per_band`; a band capped at 100 dB lifts that band only.

    Raises:
        TypeError, ValueError: as `psnr_per_band`.
    """
    return psnr_per_band(pred, target, peak=peak).mean(1)


@door
def sam_map(pred: Tensor, target: Tensor) -> Tensor:
    """Returns the angle between the two spectra of every pixel in degrees, (B, H, W); lower is better.

    Convention: NaN where the target's spectrum is all zero (it has no direction) and in its holes; 90° where only the
    prediction's is, so that predicting nothing is never rewarded. A single band has no angle: at least two
    are needed.

    Raises:
        TypeError: an image is not a floating-point tensor.
        ValueError: fewer than two bands, wrong rank, shapes that differ, NaN or infinite values.
    """
    pair = _checked(pred, target)
    if pair.pred.shape[1] < 2:
        fail("pred", "of at least 2 bands, for an angle between spectra", f"{pred.shape[1]} band(s)")
    angle = spectral_angle_mapper(pair.pred, pair.target, reduction="none").rad2deg()
    angle = torch.where((pair.pred == 0).all(1), 90.0, angle)
    angle = torch.where((pair.target == 0).all(1), torch.nan, angle)
    return angle if pair.holes is None else angle.masked_fill(pair.holes[:, 0], torch.nan)


@typed
def sam_deg(pred: Tensor, target: Tensor) -> Tensor:
    """Returns the spectral angle in degrees, the mean over pixels; lower is better.

    Convention: pixels whose target spectrum is all zero are left out, and a warning says how many; an image
    of such pixels only gives NaN. The rest as `sam_map`.

    Raises:
        TypeError, ValueError: as `sam_map`.

    Example:
        >>> pred, target = torch.tensor([1.0, 0.0]), torch.tensor([1.0, 1.0])
        >>> sam_deg(pred.reshape(1, 2, 1, 1), target.reshape(1, 2, 1, 1)).round(decimals=4)
        tensor([45.], dtype=torch.float64)
    """
    angles = sam_map(pred, target)
    skipped = int((as_image(target, "target", finite=False, double=True) == 0).all(1).sum())
    if skipped:
        text = f"`sam_deg` leaves out {skipped} of {angles.numel()} pixels whose `target` spectrum is zero"
        warnings.warn(text, UserWarning, stacklevel=2)
    return angles.nanmean((1, 2))


@door
def ergas(pred: Tensor, target: Tensor, *, scale: Count) -> Tensor:
    """Returns the relative global error (ERGAS), dimensionless; lower is better.

    Convention: 100 · (h/l) · sqrt(mean over bands of (RMSE / target mean)²) with h/l = fine/coarse pixel size
    = 1/scale: at ×4 the factor is 25, at ×8 12.5. Some codes multiply by the scale or leave it out; such
    numbers can't be compared. A band whose target mean is 0 but for rounding has no relative error: the image gives
    NaN.

    Raises:
        TypeError: an image is not a floating-point tensor.
        ValueError: wrong rank, shapes that differ, NaN or infinite values, a `scale` that is not a count.

    Source: Wald, Data Fusion: Definitions and Architectures, 2002.

    Example:
        >>> ergas(torch.full((1, 1, 2, 2), 0.6), torch.full((1, 1, 2, 2), 0.5), scale=4).round(decimals=4)
        tensor([5.], dtype=torch.float64)
    """
    check_count(scale, "scale")
    pair = _checked(pred, target)
    found = []
    for pred, target in pair.each():
        value = error_relative_global_dimensionless_synthesis(pred, target, ratio=scale, reduction="none")
        level = target.square().mean((2, 3)).sqrt()
        dark = target.mean((2, 3)).abs() <= _grain(target)[:, :, 0, 0] * level
        found.append(torch.where(dark.any(1), torch.nan, value))
    return torch.cat(found)


@door
def ssim(pred: Tensor, target: Tensor, *, peak: Positive = 1.0) -> Tensor:
    """Returns the structural similarity, the mean over bands and windows; higher is better, 1 is equal.

    Convention: data range `peak` (constants 0.01² and 0.03² of it), Gaussian window 11×11 with sigma 1.5 px, population
    variances, only windows that lie wholly inside the image.

    Raises:
        TypeError: an image is not a floating-point tensor.
        ValueError: an image smaller than 11×11 px, wrong rank, shapes that differ, NaN or infinite values.
    """
    pair = _checked(*_in_peaks(pred, target, peak), at_least=WINDOW)
    return _mean_of_windows(pair, lambda of: structural_similarity(of, 0.01**2, 0.03**2))


def _mean_of_windows(pair: _Pair, likeness: Callable[[Moments], Tensor]) -> Tensor:
    """Mean over bands and windows without holes, (B,); NaN where there is no such window."""
    found = likeness(moments(pair.pred, pair.target))
    if pair.holes is not None:
        found = found.masked_fill(~without_holes(pair.holes), torch.nan)
    return found.nanmean((1, 2, 3))


@door
def cc(pred: Tensor, target: Tensor) -> Tensor:
    """Returns Pearson's correlation over the pixels of a band, the mean over bands; higher is better.

    Convention: a band without variation in either image, but for rounding, has no correlation, and the image gives NaN.

    Raises:
        TypeError: an image is not a floating-point tensor.
        ValueError: wrong rank, shapes that differ, NaN or infinite values.
    """
    pair = _checked(pred, target)
    return torch.cat([_cc_of(*both) for both in pair.each()])


def _cc_of(pred: Tensor, target: Tensor) -> Tensor:
    """Correlation of images without holes, (B,)."""
    flat = [image.flatten(0, 1).flatten(1).T for image in (pred, target)]  # (H·W, B·C)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # the NaN says it
        bands = pearson_corrcoef(*flat).reshape(pred.shape[:2])
    constant = _constant(pred) | _constant(target)
    return torch.where(constant, torch.nan, bands).mean(1)


def _constant(x: Tensor) -> Tensor:
    """Which bands have no variation but rounding, (B, C)."""
    low, high = x.amin((2, 3)), x.amax((2, 3))
    return high - low <= 4 * _grain(x)[:, :, 0, 0] * torch.maximum(low.abs(), high.abs())


@door
def rmse(pred: Tensor, target: Tensor) -> Tensor:
    """Returns the root mean squared error over all bands and pixels, in the data's units; lower is better.

    Raises:
        TypeError: an image is not a floating-point tensor.
        ValueError: wrong rank, shapes that differ, NaN or infinite values.

    Example:
        >>> rmse(torch.full((1, 1, 2, 2), 0.6), torch.full((1, 1, 2, 2), 0.5)).round(decimals=4)
        tensor([0.1000], dtype=torch.float64)
    """
    pair = _checked(pred, target)
    return torch.cat([(pred - target).square().mean((1, 2, 3)) for pred, target in pair.each()]).sqrt()


@door
def uiqi(pred: Tensor, target: Tensor) -> Tensor:
    """Returns the universal image quality index, the mean over bands and windows; higher is better.

    Convention: Gaussian window 11×11 with sigma 1.5 px wholly inside the image (the paper has a box of 8×8). It is
    SSIM with both constants 0, brightness times structure, and has no unit: a factor on both images changes nothing. As
    in the code of its authors, a window without variation in either image is told by its brightness alone,
    2·m₁·m₂ / (m₁² + m₂²), so that equal ones score 1, also where both are black. Where only one varies the index is 0,
    as its formula says: against a saturated area nothing but that area counts. "Without variation": a deviation of less
    than 1.2e-7 of the mean, the grain of float32 (3.6e-15 where an image has finer numbers).

    Raises:
        TypeError: an image is not a floating-point tensor.
        ValueError: an image smaller than 11×11 px, wrong rank, shapes that differ, NaN or infinite values.

    Source: Wang and Bovik, "A universal image quality index", 2002.
    """
    pair = _checked(pred, target, at_least=WINDOW)
    return _mean_of_windows(pair, lambda of: quality_index(of, _grain(pair.pred), _grain(pair.target)))


@door
@torch.no_grad()
def evaluate(
    pred: Tensor, target: Tensor, *, scale: Count, metrics: Sequence[str] = METRICS, peak: Positive = 1.0
) -> dict[str, float]:
    """Returns the metrics asked for as floats, the mean over the images of the batch.

    An image on which a metric is undefined makes that mean NaN: it is reported, not left out.

    Args:
        pred: (B, C, H, W), [0, 1].
        target: the same shape and scale; its holes, NaN in any band, are left out.
        scale: fine pixels per low-resolution pixel, for ERGAS.
        metrics: names out of `METRICS`.
        peak: largest value of the images' scale, for PSNR and SSIM: 255 for bytes.

    Raises:
        TypeError, ValueError: as the single metrics; an unknown name.
    """
    if len(metrics) == 0:
        fail("metrics", "at least one of " + ", ".join(METRICS), "none")
    for name in metrics:
        check_choice(name, "metrics", METRICS)
    check_count(scale, "scale")
    smallest = WINDOW if {"ssim", "uiqi"} & {*metrics} else None
    pair = _checked(pred, target, at_least=smallest)
    pred, target = pair.pred, open_holes(pair.target, pair.holes)
    functions: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
        "sam_deg": sam_deg, "cc": cc, "rmse": rmse, "uiqi": uiqi, "ergas": partial(ergas, scale=scale),
        "psnr_db": partial(psnr_db, peak=peak), "ssim": partial(ssim, peak=peak),
    }  # fmt: skip
    return {name: float(functions[name](pred, target).mean()) for name in metrics}
