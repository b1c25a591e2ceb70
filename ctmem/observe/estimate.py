"""The camera from its image: the width of the blur, taught by a reference of other ground, and the noise.

    camera = estimate_camera(lr_hsi, ref_msi, camera=camera)          # the same scale and response, its blur and noise

The ground does not repeat, but its edges are of one kind: the reference, blurred by a candidate and looked at from one
coarse pixel to the next, shows how second and third differences, and those three pixels wide, compare with the first.
Candidates count as far as their three ratios are those of the observation, in units of the scatter between scenes.

Pixels without data do not count, nor do differences to them.

Source: this project; eigenvalues of noise: Marchenko and Pastur, 1967.
"""

from __future__ import annotations

import math
from dataclasses import replace

import torch
import torch.nn.functional as F

from ctmem.checks import as_image, door, double, fail
from ctmem.holes import open_holes, split_holes
from ctmem.observe.camera import SIGMA_TO_FWHM, Camera
from ctmem.observe.optics import gaussian_psf
from ctmem.observe.responses import apply_srf

POWER = 8  # of the mean of differences: the steepest edges count
DIFFERENCES = ((-1.0, 1.0), (1.0, -2.0, 1.0), (-1.0, 3.0, -3.0, 1.0), (-1.0, 0.0, 1.0))  # from pixel to pixel
CANDIDATES = tuple(0.4 + 0.1 * number for number in range(17))  # FWHM in coarse pixels
# inverse of the second moments of observed minus taught ratios, between development scenes of other ground
CERTAINTY = ((361.0, -308.0, -87.0), (-308.0, 360.0, -42.0), (-87.0, -42.0, 374.0))
USUAL_RATIOS = (  # of each candidate, mean of seven development scenes
    (0.98, 0.47, -0.13),
    (0.96, 0.44, -0.15),
    (0.93, 0.42, -0.18),
    (0.89, 0.39, -0.22),
    (0.85, 0.36, -0.26),
    (0.80, 0.32, -0.29),
    (0.75, 0.29, -0.33),
    (0.69, 0.25, -0.37),
    (0.62, 0.21, -0.40),
    (0.56, 0.17, -0.43),
    (0.50, 0.13, -0.45),
    (0.43, 0.09, -0.48),
    (0.36, 0.05, -0.50),
    (0.30, 0.01, -0.52),
    (0.23, -0.02, -0.54),
    (0.16, -0.07, -0.55),
    (0.10, -0.10, -0.56),
)
OWN_SHARE = 0.5  # of the reference in what is taught, the rest is the usual: one scene alone is a noisy teacher
FLAT = 1e-6  # deviation of a band with nothing in it
LEAST = 6  # pixels of a side below which there is nothing to compare
LEAST_REFERENCE = 12  # coarse pixels of a side: the widest blur and three differences fit in


@door
@torch.no_grad()
def estimate_camera(lr_hsi: torch.Tensor, ref_msi: torch.Tensor | None = None, *, camera: Camera) -> Camera:
    """Returns `camera` with the Gaussian blur and the noise that its image shows.

    Args:
        lr_hsi: observed images (B, C, h, w), all of that camera, at least 6 pixels a side; NaN where there are holes.
        ref_msi: fine image (B', c, Hr, Wr) of any ground, of pixels `scale` times smaller; None, a constant band,
            or less than 12·scale pixels a side: what development scenes had on average.
        camera: its scale counts, and its response where it has one.

    Raises:
        TypeError: an image that is not of floating-point numbers, `camera` is not a `Camera`.
        ValueError: a smaller or constant image, values that are not finite, a response of another number of bands.
    """
    if not isinstance(camera, Camera):
        fail("camera", "a `Camera`", type(camera).__name__, TypeError)
    lr_hsi = _observed(lr_hsi)
    ref_msi = None if ref_msi is None else as_image(ref_msi, "ref_msi")
    snr_db = estimate_snr_db(lr_hsi)
    known = replace(camera, snr_db=snr_db)
    psf = gaussian_psf(estimate_fwhm(lr_hsi, ref_msi, camera=known), scale=camera.scale)
    return replace(known, psf=psf.to(camera.psf))


@door
@torch.no_grad()
def estimate_snr_db(lr_hsi: torch.Tensor) -> float:
    """Returns the signal-to-noise ratio of an image in dB, as `optics.add_noise` has it: one for all bands.

    Bands are brought to one power, so that white noise adds the same to each direction of spectra. Ground has few
    directions, and little that is high in rows and columns: there the lowest quarter of the eigenvalues is noise, and
    is compared with that of noise alone of the same size. With fewer than about six bands there is no such direction:
    ground is then taken for noise, and images without any for 28 to 48 dB.

    Args:
        lr_hsi: observed images (B, C, h, w), at least 6 pixels a side; NaN where there are holes.

    Raises:
        TypeError: an image that is not of floating-point numbers.
        ValueError: a smaller image, or values that are not finite.
    """
    x = double(_observed(lr_hsi))
    x = x / x.square().nanmean((2, 3), keepdim=True).sqrt().clamp_min(1e-12)
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64).to(x)
    noise = torch.where(x.isnan(), torch.nan, noise)
    return -10 * math.log10(max(_weak(x) / _weak(noise), 1e-9))


@door
@torch.no_grad()
def estimate_fwhm(lr_hsi: torch.Tensor, ref_msi: torch.Tensor | None = None, *, camera: Camera) -> float:
    """Returns the width of the Gaussian blur of an image, FWHM in fine pixels, the same along rows and columns.

    It is a mean of candidates from 0.4 to 2 coarse pixels, each weighted by how well it explains the ratios. Two widths
    are not told apart: on development scenes those of one blur scattered by up to a coarse pixel between the axes. It
    errs: two of three cases are within 0.94 px (0.4 of sigma), and a dense city is taken for up to 3 px sharper.

    Args:
        lr_hsi: as of `estimate_camera`.
        ref_msi: as of `estimate_camera`.
        camera: its scale counts, its response where it has one, and its noise.

    Raises:
        TypeError, ValueError: as `estimate_camera`.
    """
    lr_hsi = _observed(lr_hsi)
    seen = lr_hsi.mean(1, keepdim=True) if camera.srf is None else apply_srf(lr_hsi, camera.srf.to(lr_hsi))
    seen = seen.cpu().double()
    if not bool((_deviation(seen, (2, 3)) > 0).all()):
        fail("lr_hsi", "an image that is not constant", "a constant band")
    candidates = torch.tensor(CANDIDATES, dtype=torch.float64)
    taught = torch.tensor(USUAL_RATIOS, dtype=torch.float64)
    ref_msi = None if ref_msi is None else as_image(ref_msi, "ref_msi").cpu().double()
    large = ref_msi is not None and min(ref_msi.shape[2:]) >= LEAST_REFERENCE * camera.scale
    if ref_msi is not None and large and bool((ref_msi.std((2, 3)) > FLAT).all()):
        noise = _noise_to_contrast(lr_hsi.cpu().double(), seen, camera)
        blurred = [_blurred_ratios(ref_msi, width * camera.scale, camera.scale, noise) for width in CANDIDATES]
        clean, noisy = torch.stack(blurred).unbind(1)
        taught = noisy + (1 - OWN_SHARE) * (taught - clean)
    gaps = _ratios(seen, 1) - taught  # (candidates, ratios)
    misfit = torch.einsum("nk,kl,nl->n", gaps, torch.tensor(CERTAINTY, dtype=torch.float64), gaps)
    return float(torch.softmax(-misfit / 2, 0) @ candidates) * camera.scale


def _observed(lr_hsi: torch.Tensor) -> torch.Tensor:
    """The observed images, NaN in all bands of their holes; pixels of which there must be some side by side."""
    lr_hsi = as_image(lr_hsi, "lr_hsi", at_least=LEAST, finite=False)
    filled, holes = split_holes(lr_hsi, "lr_hsi")
    if holes is None:
        return filled
    whole = (~holes).float()
    if not bool((F.avg_pool2d(whole, LEAST, stride=1) == 1).flatten(1).any(1).all()):
        fail("lr_hsi", f"an image with {LEAST}×{LEAST} whole pixels somewhere", "one with holes everywhere")
    return open_holes(filled, holes)


def _deviation(x: torch.Tensor, axes: tuple[int, ...]) -> torch.Tensor:
    """Standard deviation, of the pixels that are not holes."""
    mean = x.nanmean(axes, keepdim=True)
    count = (~x.isnan()).sum(axes)
    return ((x - mean).square().nansum(axes) / (count - 1)).sqrt()


def _ratios(x: torch.Tensor, step: int) -> torch.Tensor:
    """Logarithms of the ratios of differences, (3,), mean over rows and columns, bands and images."""
    found = []
    for along in (x.transpose(2, 3), x):
        powers = []
        for taps in DIFFERENCES:
            length = along.shape[3] - (len(taps) - 1) * step
            parts = [tap * along[..., i * step : i * step + length] for i, tap in enumerate(taps)]
            mean = torch.stack(parts).sum(0).abs().pow(POWER).nanmean((2, 3)).clamp_min(1e-300)
            powers.append(mean.log().mean() / POWER)
        first, second, third, far = powers
        found.append(torch.stack([third - first, second - first, first - far]))
    return torch.stack(found).mean(0)


def _blurred_ratios(ref_msi: torch.Tensor, fwhm_px: float, scale: int, noise: float) -> torch.Tensor:
    """The ratios of a fine image under a blur, from one coarse pixel to the next, without noise and with it, (2, 3)."""
    radius = math.ceil(1.5 * fwhm_px)
    offsets = torch.arange(-radius, radius + 1, dtype=torch.float64)
    taps = torch.exp(-0.5 * (offsets * SIGMA_TO_FWHM / fwhm_px) ** 2)
    taps = (taps / taps.sum()).expand(ref_msi.shape[1], 1, 1, -1)
    for kernel in (taps, taps.transpose(2, 3)):
        ref_msi = F.conv2d(ref_msi, kernel, groups=ref_msi.shape[1])
    drawn = torch.randn(ref_msi.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    noisy = ref_msi + noise * ref_msi.std((2, 3), keepdim=True) * drawn
    return torch.stack([_ratios(one, scale) for one in (ref_msi, noisy)])


def _noise_to_contrast(lr_hsi: torch.Tensor, seen: torch.Tensor, camera: Camera) -> float:
    """Deviation of the noise in the bands `seen` over that of the bands themselves, their mean."""
    if camera.snr_db is None:
        return 0.0
    share = lr_hsi.square().nanmean((0, 2, 3)) * 10 ** (-camera.snr_db / 10)
    weights = torch.full((1, len(share)), 1 / len(share)) if camera.srf is None else camera.srf
    share = weights.cpu().double().square() @ share
    return float((share.sqrt() / _deviation(seen, (0, 2, 3))).mean())


def _weak(x: torch.Tensor) -> float:
    """Sum of the lowest quarter of the eigenvalues of what is high in rows and columns, of images (B, C, h, w)."""
    high = (x[..., 1:, 1:] - x[..., :-1, 1:] - x[..., 1:, :-1] + x[..., :-1, :-1]) / 2
    spectra = high.transpose(0, 1).flatten(1)
    spectra = spectra[:, ~spectra[0].isnan()]
    values = torch.linalg.svdvals(spectra - spectra.mean(1, keepdim=True)).square()
    known = min(len(spectra), spectra.shape[1] - 1)
    return float(values[known - max(1, known // 4) : known].sum())
