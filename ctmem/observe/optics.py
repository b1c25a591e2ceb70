"""What optics and detector do to an image: blur, decimation, noise, and the ways back.

Pixel geometry, everywhere in this package: pixel i covers the interval [i, i + 1). A coarse pixel i at scale
s covers the fine pixels s·i … s·i + s − 1, so that its centre lies *between* two fine pixels where s is even.
`blur_down` and `upsample` both keep to this: neither shifts the image.

Every function of an image here except `add_noise` is linear; `adjoint` gives the transpose of any of them.

Source: this project.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Annotated

import numpy as np
import torch
import torch.nn.functional as F

from ctmem.checks import (
    Bounds,
    ExactImage,
    Inside,
    Scale,
    as_image,
    as_psf,
    check_count,
    described,
    door,
    fail,
    is_finite_number,
    typed,
)
from ctmem.holes import open_holes, split_holes

LARGEST = 2048  # side of a point spread function, pixels
Side = Annotated[int, Bounds(1, LARGEST)]
PIECE = 400_000  # numbers of an image that are worked on at a time: they stay in the processor's cache


@door
def gaussian_psf(
    fwhm_px: Inside[float | Sequence[float]], *, size: Side | None = None, scale: Scale | None = None
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
    # the widths, along rows and along columns
    given = tuple(fwhm_px) if isinstance(fwhm_px, list | tuple | np.ndarray) else (fwhm_px, fwhm_px)
    if len(given) != 2 or not all(is_finite_number(one) and one > 0 for one in given):
        fail("fwhm_px", "a positive number of pixels or a pair of them", described(fwhm_px))
    widths = [float(one) for one in given]
    if scale is not None:
        check_count(scale, "scale")
    # the size: of the parity that keeps the centre where that of the coarse pixel is
    parity = 1 if scale is None else scale % 2
    if size is None:
        if 3 * max(widths) > LARGEST - 1:
            fail("fwhm_px", f"a width whose kernel is at most {LARGEST} px a side", described(fwhm_px))
        size = math.ceil(3 * max(widths))
        size += (size - parity) % 2
    check_count(size, "size")
    if scale is not None and size % 2 != parity:
        fail("size", f"{'odd' if parity else 'even'}, as `scale` {scale} is", size)
    # the weights: a product of two Gaussians
    offsets = torch.arange(size, dtype=torch.float64) - (size - 1) / 2
    rows, columns = (torch.exp(-4 * math.log(2) * (offsets / width) ** 2) for width in widths)
    psf = torch.outer(rows / rows.sum(), columns / columns.sum())
    return psf.float()


@door
def blur(x: torch.Tensor, psf: torch.Tensor) -> torch.Tensor:
    """Returns `x` convolved with `psf`, band by band, same shape (B, C, H, W).

    Convention: a true convolution (an impulse becomes `psf`, not its mirror image); the border is replicated.

    Raises:
        TypeError: an argument is not a floating-point tensor.
        ValueError: `psf` is not square, not finite, does not sum to 1, or has an even size, which would shift
            the image.
    """
    x = as_image(x, "x", double=True)
    psf = as_psf(psf)
    if psf.shape[-1] % 2 == 0:
        fail("psf", "of odd size (an even one shifts by half a pixel)", f"size {psf.shape[-1]}")
    return _convolve(x, psf, stride=1)


@door
def blur_down(x: torch.Tensor, psf: torch.Tensor, scale: Scale) -> torch.Tensor:
    """Returns `x` blurred and decimated: (B, C, H/scale, W/scale), what a coarser sensor records.

    Coarse pixel i is the mean of the fine pixels around scale·i … scale·i + scale − 1, weighted by `psf`,
    whose centre is that cell's centre.

    Convention: as `blur`; the border is replicated.

    Args:
        x: fine image (B, C, H, W).
        psf: (k, k), sums to 1, k even for an even scale and odd for an odd one; see `gaussian_psf`.
        scale: fine pixels per coarse pixel, along one side.

    Raises:
        TypeError: an argument is not a floating-point tensor.
        ValueError: H or W is not a multiple of `scale`, or `psf` is not square, not finite, does not sum to 1 or
            has a size of the other parity.
    """
    check_count(scale, "scale")
    x = as_image(x, "x", multiple_of=scale, double=True)
    psf = as_psf(psf, scale=scale)
    return _convolve(x, psf, stride=scale)


@door
def upsample(x: torch.Tensor, scale: Scale) -> torch.Tensor:
    """Returns `x` enlarged by bicubic interpolation, (B, C, scale·H, scale·W), in the same pixel geometry.

    Convention: Keys' cubic with a = −0.75 (torch's; a = −0.5 of other libraries is a little softer),
    replicated border. It may overshoot [0, 1] and is not clipped, so it stays linear.

    Raises:
        TypeError: `x` is not a floating-point tensor.
        ValueError: wrong rank, values that are not finite, or a scale that is not a whole number ≥ 1.
    """
    x = as_image(x, "x", double=True)
    check_count(scale, "scale")
    return F.interpolate(x, scale_factor=scale, mode="bicubic", align_corners=False)


@door
def blur_on_grid(x: torch.Tensor, psf: torch.Tensor, scale: Scale) -> torch.Tensor:
    """Returns what a coarser sensor shows of `x` on the pixels of `x`: blurred, decimated, bicubically enlarged.

    Args:
        x: fine image (B, C, H, W) of any height and width.
        psf: as of `blur_down`.
        scale: fine pixels per coarse pixel, along one side.

    Raises:
        TypeError, ValueError: as `blur_down`, but for the size of `x`.
    """
    check_count(scale, "scale")
    x = as_image(x, "x", double=True)
    psf = as_psf(psf, scale=scale)
    height, width = x.shape[2:]
    whole = F.pad(x, (0, -width % scale, 0, -height % scale), mode="replicate")  # coarse pixels that are whole
    return upsample(_convolve(whole, psf, stride=scale), scale)[..., :height, :width]


@door
def add_noise(x: torch.Tensor, snr_db: float, *, generator: torch.Generator) -> torch.Tensor:
    """Returns `x` plus white Gaussian noise, same shape; not clipped.

    Convention: the signal-to-noise ratio is 10·log10(mean x² / σ²), for each image and band by itself. Holes, NaN, do
    not count, and stay.

    Raises:
        TypeError: `x` is not a floating-point tensor.
        ValueError: wrong rank, an image of holes only, or `snr_db` is not finite.
    """
    x = open_holes(*split_holes(as_image(x, "x", finite=False, double=True), "x"))
    if not math.isfinite(snr_db):
        fail("snr_db", "a finite number of decibels", snr_db)
    sigma = x.square().nanmean((2, 3), keepdim=True).sqrt() * 10 ** (-snr_db / 20)
    noise = torch.randn(x.shape, generator=generator, dtype=torch.float32, device=generator.device)
    return x + sigma * noise.to(x)


@typed
def adjoint(
    operator: Callable[[torch.Tensor], torch.Tensor], like: ExactImage
) -> Callable[[torch.Tensor], torch.Tensor]:
    """Returns the transpose Aᵀ of a linear operator A: from images like A(like) to ones like `like`.

    For all x and y of fitting shapes ⟨A x, y⟩ = ⟨x, Aᵀ y⟩. It is one backward pass, so any operator made of
    torch functions will do.

    Args:
        operator: a linear function of one tensor.
        like: any tensor of the shape the operator takes; its values do not matter.
    """
    pull_back = torch.func.vjp(operator, torch.zeros_like(like))[1]
    return lambda y: pull_back(y)[0]


def _convolve(x: torch.Tensor, psf: torch.Tensor, stride: int) -> torch.Tensor:
    """Convolution with `psf` centred on cells of `stride` pixels, replicated border, one step per cell."""
    widen = max(0, stride - psf.shape[-1]) // 2
    kernel = F.pad(psf.to(x).flip(0, 1), (widen, widen, widen, widen))
    reach = (kernel.shape[-1] - stride) // 2
    done = []
    for some in x.split(max(1, PIECE // x[:, 0].numel()), dim=1):
        padded = F.pad(some, (reach, reach, reach, reach), mode="replicate")
        weights = kernel.expand(some.shape[1], 1, -1, -1)
        done.append(F.conv2d(padded, weights, stride=stride, groups=some.shape[1]))
    return torch.cat(done, 1)
