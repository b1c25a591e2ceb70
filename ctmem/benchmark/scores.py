"""What is measured of one answer: all metrics, a bootstrap over blocks of pixels, and what can be said without truth.

Source: QNR: Alparone et al., 2008, by torchmetrics; block bootstrap: Künsch, 1989.
"""

from __future__ import annotations

import math
from dataclasses import replace

import torch
import torch.nn.functional as F
from torchmetrics.functional.image import spatial_distortion_index, spectral_distortion_index

from ctmem.checks import Axes, as_image, check_same_shape, double, fail, typed
from ctmem.evaluation.metrics import METRICS, PSNR_CAP_DB, evaluate, psnr_per_band
from ctmem.holes import find_holes, open_holes, split_holes
from ctmem.observe.camera import Camera

BLOCK = 16  # side of the blocks that are drawn, pixels; errors of neighbours are not independent
REPLICATES = 1000
EVERY = 8  # bands between those whose likeness D_λ compares: all pairs of 200 bands would take minutes
QNR_WINDOW = 7  # side of the windows of D_s, coarse pixels

WITHOUT_TRUTH = ("consistency", "d_lambda", "d_s", "qnr")
WITH_TRUTH = (*METRICS[:1], "psnr_band_max_db", *METRICS[1:])


@typed
def scores(pred: torch.Tensor, gt: torch.Tensor, scale: int) -> dict[str, float]:
    """All metrics with truth: those of `ctmem.evaluation.metrics`, and the PSNR whose peak is each band's maximum."""
    pred, gt = (double(as_image(x, name, finite=False, double=True)) for x, name in ((pred, "pred"), (gt, "gt")))
    found = evaluate(pred, gt, scale=scale)
    peaks = 20 * gt.nan_to_num(0).amax((2, 3)).clamp_min(1e-10).log10()
    bands = (psnr_per_band(pred, gt) + peaks).clamp(max=PSNR_CAP_DB)
    return {"psnr_db": found.pop("psnr_db"), "psnr_band_max_db": float(bands.mean())} | found


@typed
def without_truth(
    pred: torch.Tensor, lr_hsi: torch.Tensor, camera: Camera, hr_msi: torch.Tensor | None, *, qnr: bool
) -> dict[str, float]:
    """What needs no truth: consistency, and with `qnr` the QNR family.

    `consistency` is the norm of lr_hsi − down(pred) over that of lr_hsi. D_λ compares the likeness of every eighth band
    with every other one before and after; D_s the likeness of each MSI band of `pred` with the fine MSI of the same
    ground, and is left out where there is none; QNR is (1 − D_λ)(1 − D_s). All three need coarse
    images of more than 11 px a side. Holes do not count in the consistency, and are filled for the others.
    """
    pred, lr_hsi = as_image(pred, "pred", finite=False), as_image(lr_hsi, "lr_hsi", finite=False)
    hr_msi = None if hr_msi is None else as_image(hr_msi, "hr_msi", finite=False)
    pred, lr_hsi, holes = split_holes(pred, "pred")[0], *split_holes(lr_hsi, "lr_hsi")
    missing = lr_hsi - replace(camera, snr_db=None).downsample(pred)
    missing = open_holes(missing, holes).nan_to_num(0).norm() / open_holes(lr_hsi, holes).nan_to_num(0).norm()
    found = {"consistency": float(missing), "d_lambda": math.nan, "d_s": math.nan, "qnr": math.nan}
    if not qnr:
        return found
    found["d_lambda"] = float(spectral_distortion_index(pred[:, ::EVERY], lr_hsi[:, ::EVERY]))
    if hr_msi is not None and camera.srf is not None and min(lr_hsi.shape[2:]) > QNR_WINDOW:
        fine, coarse, hr_msi = camera.see(pred), camera.see(lr_hsi), split_holes(hr_msi, "hr_msi")[0]
        found["d_s"] = float(
            spatial_distortion_index(fine, coarse, hr_msi, camera.downsample(hr_msi), window_size=QNR_WINDOW)
        )
        found["qnr"] = (1 - found["d_lambda"]) * (1 - found["d_s"])
    return found


@typed
def resampled_psnr(pred: torch.Tensor, gt: torch.Tensor) -> torch.Tensor:
    """PSNR in dB, mean over bands, of the image and of 1000 images of blocks drawn from it: (1001,), float64.

    Two answers for the same ground are drawn alike, so that differences of these numbers are paired. Holes of `gt` do
    not count.
    """
    pred, gt = as_image(pred, "pred", finite=False, double=True), as_image(gt, "gt", finite=False, double=True)
    check_same_shape(pred, gt, ("pred", "gt"))
    holes = find_holes(gt)
    if not bool((pred.isfinite() | holes).all()):
        fail("pred", "finite wherever `gt` is no hole", "NaN or infinite values there")
    errors = double(pred - gt).square()
    squares = F.avg_pool2d(errors.nan_to_num(0), BLOCK, ceil_mode=True)[0].flatten(1).T  # (blocks, C)
    whole = double(~holes).to(errors.device)
    share = F.avg_pool2d(whole, BLOCK, ceil_mode=True).flatten()
    squares = squares / torch.where(share > 0, share, 1)[:, None]
    pixels = F.avg_pool2d(F.pad(whole, [0, -gt.shape[3] % BLOCK, 0, -gt.shape[2] % BLOCK]), BLOCK).flatten()
    blocks = len(pixels)
    drawn = torch.randint(blocks, (REPLICATES, blocks), generator=torch.Generator().manual_seed(0))
    counts = torch.zeros(REPLICATES, blocks, dtype=torch.float64).scatter_add_(
        1, drawn, torch.ones(REPLICATES, blocks, dtype=torch.float64)
    )
    weights = torch.cat([torch.ones(1, blocks, dtype=torch.float64), counts]) * pixels
    errors = weights @ squares / weights.sum(1, keepdim=True)
    return (-10 * errors.clamp_min(1e-10).log10()).mean(1)


@typed
def interval(differences: torch.Tensor) -> tuple[float, float, float]:
    """The measured difference and the ends of its 95 % interval, of what `resampled_psnr` returned for two answers."""
    differences = Axes("(n,)", double=True).read(differences, "differences")
    if len(differences) < 2:
        fail("differences", "one of the image and at least one of blocks", f"{len(differences)}")
    low, high = torch.quantile(differences[1:], torch.tensor([0.025, 0.975], dtype=differences.dtype)).tolist()
    return float(differences[0]), low, high


def beyond_chance(value: float, low: float, scatter: float) -> bool:
    """Whether a difference is more than chance: its interval excludes 0, and it is over twice the scatter of draws."""
    return low > 0 and value > 2 * scatter


def block_count(gt: torch.Tensor) -> int:
    """How many blocks an image has."""
    return math.prod(-(-side // BLOCK) for side in gt.shape[2:])
