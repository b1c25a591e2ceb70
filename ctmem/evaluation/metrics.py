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
image, (B,). The arithmetic is torchmetrics' wherever that library has it, but for the windows of SSIM and UIQI, whose
Gaussian is taken axis by axis here, 20 times as fast on 200 bands (a test compares both); it runs in float64, because
an arccos near 1 loses half of its digits (0.02° for equal float32 spectra). Values outside [0, 1] are measured
as they are, never clipped.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor
from torchmetrics.functional.image import (
    error_relative_global_dimensionless_synthesis,
    peak_signal_noise_ratio,
    spectral_angle_mapper,
)
from torchmetrics.functional.regression import pearson_corrcoef

from ctmem.checks import as_image, check_choice, check_count, check_same_shape, door, double, fail

PSNR_CAP_DB = 100.0
WINDOW = 11  # side of the Gaussian window of SSIM and UIQI, pixels
SIGMA = 1.5  # of that Gaussian, pixels
METRICS = ("psnr_db", "sam_deg", "ergas", "ssim", "cc", "rmse", "uiqi")


def _checked(pred: Tensor, target: Tensor, at_least: int | None = None) -> tuple[Tensor, Tensor]:
    """Both images in float64, checked."""
    pred = as_image(pred, "pred", at_least=at_least, double=True)
    target = as_image(target, "target", at_least=at_least, double=True)
    check_same_shape(pred, target)
    return double(pred), double(target)


@door
def psnr_per_band(pred: Tensor, target: Tensor) -> Tensor:
    """Returns the peak signal-to-noise ratio of every band in dB, (B, C); higher is better.

    Convention: peak 1 (the scale's, not the image's maximum). A band with a mean squared error of 1e-10 or
    less, an exact one included, counts as 100 dB.

    Raises:
        TypeError: an image is not a floating-point tensor.
        ValueError: wrong rank, shapes that differ, NaN or infinite values.

    Example:
        >>> psnr_per_band(torch.full((1, 1, 2, 2), 0.6), torch.full((1, 1, 2, 2), 0.5)).round(decimals=4)
        tensor([[20.]], dtype=torch.float64)
    """
    pred, target = _checked(pred, target)
    bands = peak_signal_noise_ratio(pred, target, data_range=1.0, reduction="none", dim=(2, 3))
    return bands.clamp(max=PSNR_CAP_DB)


def psnr_db(pred: Tensor, target: Tensor) -> Tensor:
    """Returns the peak signal-to-noise ratio in dB, the mean over bands; higher is better.

    Convention: mean of the bands' PSNR, as in most work on hyperspectral super-resolution, not the PSNR of
    the mean error; peak 1; a band capped at 100 dB lifts that band only.

    Raises:
        TypeError, ValueError: as `psnr_per_band`.
    """
    return psnr_per_band(pred, target).mean(1)


@door
def sam_map(pred: Tensor, target: Tensor) -> Tensor:
    """Returns the angle between the two spectra of every pixel in degrees, (B, H, W); lower is better.

    Convention: NaN where the target's spectrum is all zero (it has no direction); 90° where only the
    prediction's is, so that predicting nothing is never rewarded. A single band has no angle: at least two
    are needed.

    Raises:
        TypeError: an image is not a floating-point tensor.
        ValueError: fewer than two bands, wrong rank, shapes that differ, NaN or infinite values.
    """
    pred, target = _checked(pred, target)
    if pred.shape[1] < 2:
        fail("pred", "of at least 2 bands, for an angle between spectra", f"{pred.shape[1]} band(s)")
    angle = spectral_angle_mapper(pred, target, reduction="none").rad2deg()
    angle = torch.where((pred == 0).all(1), 90.0, angle)
    return torch.where((target == 0).all(1), torch.nan, angle)


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
    skipped = int(angles.isnan().sum())
    if skipped:
        text = f"`sam_deg` leaves out {skipped} of {angles.numel()} pixels whose `target` spectrum is zero"
        warnings.warn(text, UserWarning, stacklevel=2)
    return angles.nanmean((1, 2))


@door
def ergas(pred: Tensor, target: Tensor, *, scale: int) -> Tensor:
    """Returns the relative global error (ERGAS), dimensionless; lower is better.

    Convention: 100 · (h/l) · sqrt(mean over bands of (RMSE / target mean)²) with h/l = fine/coarse pixel size
    = 1/scale: at ×4 the factor is 25, at ×8 12.5. Some codes multiply by the scale or leave it out; such
    numbers can't be compared. A band whose target mean is 0 has no relative error: the image gives NaN.

    Raises:
        TypeError: an image is not a floating-point tensor.
        ValueError: wrong rank, shapes that differ, NaN or infinite values, a `scale` that is not a count.

    Source: Wald, Data Fusion: Definitions and Architectures, 2002.

    Example:
        >>> ergas(torch.full((1, 1, 2, 2), 0.6), torch.full((1, 1, 2, 2), 0.5), scale=4).round(decimals=4)
        tensor([5.], dtype=torch.float64)
    """
    check_count(scale, "scale")
    pred, target = _checked(pred, target)
    value = error_relative_global_dimensionless_synthesis(pred, target, ratio=scale, reduction="none")
    return torch.where((target.mean((2, 3)) == 0).any(1), torch.nan, value)


@door
def ssim(pred: Tensor, target: Tensor) -> Tensor:
    """Returns the structural similarity, the mean over bands and windows; higher is better, 1 is equal.

    Convention: data range 1 (constants 0.01² and 0.03²), Gaussian window 11×11 with sigma 1.5 px, population
    variances, only windows that lie wholly inside the image.

    Raises:
        TypeError: an image is not a floating-point tensor.
        ValueError: an image smaller than 11×11 px, wrong rank, shapes that differ, NaN or infinite values.
    """
    pred, target = _checked(pred, target, at_least=WINDOW)
    return _likeness(pred, target, 0.01**2, 0.03**2, 0.0).mean((1, 2, 3))


def _likeness(pred: Tensor, target: Tensor, c1: float, c2: float, least: float) -> Tensor:
    """Brightness times structure in every window that lies inside the image, (B, C, H − 10, W − 10).

    `c1` and `c2` are added to both sides of the two fractions, `least` to the denominator of their product.
    """
    mean_p, mean_t = _windowed(pred), _windowed(target)
    var_p = (_windowed(pred * pred) - mean_p * mean_p).clamp_min(0)
    var_t = (_windowed(target * target) - mean_t * mean_t).clamp_min(0)
    shared = _windowed(pred * target) - mean_p * mean_t
    above = (2 * mean_p * mean_t + c1) * (2 * shared + c2)
    return above / ((mean_p * mean_p + mean_t * mean_t + c1) * (var_p + var_t + c2) + least)


def _windowed(x: Tensor) -> Tensor:
    """Mean under the Gaussian window, where it lies inside the image: first down, then across."""
    offsets = torch.arange(WINDOW, dtype=x.dtype, device=x.device) - WINDOW // 2
    weights = torch.exp(-((offsets / SIGMA) ** 2) / 2)
    for axis in (2, 3):
        kept = x.shape[axis] - WINDOW + 1
        total = torch.zeros_like(x.narrow(axis, 0, kept))
        for place, weight in enumerate((weights / weights.sum()).tolist()):
            total.add_(x.narrow(axis, place, kept), alpha=weight)
        x = total
    return x


@door
def cc(pred: Tensor, target: Tensor) -> Tensor:
    """Returns Pearson's correlation over the pixels of a band, the mean over bands; higher is better.

    Convention: a band without variation in either image has no correlation, and the image gives NaN.

    Raises:
        TypeError: an image is not a floating-point tensor.
        ValueError: wrong rank, shapes that differ, NaN or infinite values.
    """
    pred, target = _checked(pred, target)
    flat = [image.flatten(0, 1).flatten(1).T for image in (pred, target)]  # (H·W, B·C)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # the NaN says it
        bands = pearson_corrcoef(*flat).reshape(pred.shape[:2])
    constant = [image.amax((2, 3)) == image.amin((2, 3)) for image in (pred, target)]
    return torch.where(constant[0] | constant[1], torch.nan, bands).mean(1)


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
    pred, target = _checked(pred, target)
    return (pred - target).square().mean((1, 2, 3)).sqrt()


@door
def uiqi(pred: Tensor, target: Tensor) -> Tensor:
    """Returns the universal image quality index, the mean over bands and windows; higher is better.

    Convention: Gaussian window 11×11 with sigma 1.5 px wholly inside the image (the paper of Wang and Bovik,
    2002, has a box of 8×8). It is SSIM with both constants 0: a window without variation in either image
    scores 0.

    Raises:
        TypeError: an image is not a floating-point tensor.
        ValueError: an image smaller than 11×11 px, wrong rank, shapes that differ, NaN or infinite values.
    """
    pred, target = _checked(pred, target, at_least=WINDOW)
    return _likeness(pred, target, 0.0, 0.0, torch.finfo(pred.dtype).eps).mean((1, 2, 3))


@door
def evaluate(pred: Tensor, target: Tensor, *, scale: int, metrics: Sequence[str] = METRICS) -> dict[str, float]:
    """Returns the metrics asked for as floats, the mean over the images of the batch.

    An image on which a metric is undefined makes that mean NaN: it is reported, not left out.

    Args:
        pred: (B, C, H, W), [0, 1].
        target: the same shape and scale.
        scale: fine pixels per low-resolution pixel, for ERGAS.
        metrics: names out of `METRICS`.

    Raises:
        TypeError, ValueError: as the single metrics; an unknown name.
    """
    for name in metrics:
        check_choice(name, "metrics", METRICS)
    check_count(scale, "scale")
    pred, target = _checked(pred, target)
    functions = {"psnr_db": psnr_db, "sam_deg": sam_deg, "ssim": ssim, "cc": cc, "rmse": rmse, "uiqi": uiqi}
    functions["ergas"] = partial(ergas, scale=scale)
    return {name: float(functions[name](pred, target).mean()) for name in metrics}
