"""Holes of an observation: nothing of them is in the answer of any method, and what is far from them hardly knows."""

from __future__ import annotations

import dataclasses
import warnings

import numpy as np
import pytest
import torch

from ctmem import load_model, super_resolve
from ctmem.data.scenes import synthetic
from ctmem.evaluation import metrics
from ctmem.explorers.recording import measure, record
from ctmem.holes import fill_holes
from ctmem.methods import registry
from ctmem.observe.estimate import estimate_camera, estimate_snr_db

SCENE = synthetic(0, height=72, width=88, bands=31)
CAMERA = load_model("tiny").camera.for_wavelengths(SCENE.wavelengths_nm)


def holed(lr_hsi: torch.Tensor, garbage: float = np.nan) -> torch.Tensor:
    """An observation with a hole of 3×3 pixels; the garbage stands beside the NaN."""
    lr_hsi = lr_hsi.clone()
    lr_hsi[..., 5:8, 6:9] = garbage
    lr_hsi[:, 2, 5:8, 6:9] = torch.nan
    return lr_hsi


def seeded() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def same(one: torch.Tensor, other: torch.Tensor) -> bool:
    """Whether two images are equal bit for bit, NaN in the same places."""
    return torch.equal(one.isnan(), other.isnan()) and torch.equal(one.nan_to_num(7), other.nan_to_num(7))


# --- the answer ---

LOW = CAMERA.observe(SCENE.tensor())
MSI = CAMERA.see(synthetic(1, height=24, width=28, bands=31).tensor())
METHODS = ["ctmem", "ctmem-bp", "cnn-bp", "bicubic-bp", "prior", "fusion-bp", "knn-reference-bp"]


def answer(lr_hsi: torch.Tensor, method: str = "ctmem", **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # another camera than that of the weights
        return super_resolve(
            load_model("tiny"), lr_hsi, MSI, **({"camera": CAMERA, "method": method, "generator": seeded()} | options)
        )


@pytest.mark.parametrize("method", METHODS)
def test_nothing_of_a_hole_is_in_the_answer(method):
    small = LOW[..., :10, :11]
    pred = answer(holed(small), method)
    nothing = torch.zeros(1, 31, 40, 44, dtype=torch.bool)
    nothing[..., 20:32, 24:36] = True
    assert torch.equal(pred.isnan(), nothing)
    assert same(answer(holed(small, -9999.0), method), pred)
    if method == "bicubic-bp":
        for garbage in (-32768.0, 65535.0, 0.5, torch.inf):
            assert same(answer(holed(small, garbage), method), pred)


@pytest.mark.parametrize(
    "options",
    [
        {"steps": 2, "draws": 2, "uncertainty": True},
        {"steps": 2, "rematch_every": 1},
        {"psf": "auto"},
        {"camera": dataclasses.replace(CAMERA, snr_db=30.0)},
    ],
    ids=["uncertainty", "rematch", "psf", "noise"],
)
def test_nothing_of_a_hole_is_in_other_answers(options):
    small = LOW[..., :8, :9]
    first, second = (answer(holed(small, garbage), **options) for garbage in (torch.nan, -9999.0))
    pairs = zip(first, second) if options.get("uncertainty") else [(first, second)]
    for one, other in pairs:
        assert same(one, other) and one.isnan().sum() == 31 * 144


def test_each_image_of_a_batch_has_its_own_holes():
    small = torch.cat([LOW[..., :12, :14], holed(LOW[..., 6:, 8:])])
    pred = answer(small, "prior")
    assert torch.equal(pred[:1], answer(small[:1], "prior")) and same(pred[1:], answer(small[1:], "prior"))
    assert not pred[0].isnan().any() and pred[1].isnan().any()


def test_masked_arrays_are_taken_at_the_door():
    small = holed(LOW[..., :12, :14])
    given = np.ma.masked_array(small.nan_to_num(-9999).numpy(), mask=small.isnan().numpy())
    assert same(answer(given), answer(small))
    with pytest.raises(ValueError, match="`x` must be finite everywhere, got 279 NaN"):
        CAMERA.upsample(given)


def test_the_subspace_and_the_levels_do_not_know_what_the_holes_were_filled_with():
    """Without a reference, in columns: the answer far from holes along one border is that of the image without them."""
    spoiled = LOW.clone()
    spoiled[..., 18:] = torch.nan
    pred, rest = answer(spoiled, "bicubic-bp"), answer(LOW[..., :18], "bicubic-bp")
    assert torch.allclose(pred[..., :36], rest[..., :36], atol=2e-4)
    spread = LOW[..., :18].flatten(2).std(2)
    for method in ("prior", "cnn"):
        pred, rest = answer(spoiled, method), answer(LOW[..., :18], method)
        assert ((pred[..., :36] - rest[..., :36]).square().mean((2, 3)).sqrt() / spread).max() < 0.02


def test_the_answer_far_from_a_hole_hardly_changes():
    """Global statistics lose one pixel in 44; beyond 24 px the rest is that, a hundredth of what the detail is worth."""
    pred, whole = answer(holed(LOW)), answer(LOW)
    far = torch.ones(72, 88, dtype=torch.bool)
    far[: 32 + 24, : 36 + 24] = False
    change = (pred - whole)[..., far].square().mean().sqrt()
    detail = (whole - CAMERA.upsample(LOW))[..., far].square().mean().sqrt()
    assert change < 0.03 * detail


def test_the_answer_gives_back_what_was_observed_beside_holes():
    pred, holes = fill_holes(answer(holed(LOW), "bicubic-bp"))
    missing = (CAMERA.downsample(pred) - LOW).abs().amax(1)[0]
    near = torch.zeros_like(missing, dtype=torch.bool)
    near[3:10, 4:11] = True  # what a filled pixel reaches
    assert missing[~near].max() < 2e-3 and holes.sum() == 144


def test_back_projection_asks_nothing_of_a_hole():
    holes = torch.zeros(1, 1, 18, 22, dtype=torch.bool)
    holes[..., 5:8, 6:9] = True
    start = CAMERA.upsample(LOW)
    one, other = (
        CAMERA.back_project(start, LOW.masked_fill(holes, value), steps=30, holes=holes) for value in (0.0, 9.0)
    )
    assert torch.equal(one, other)
    missing = (CAMERA.downsample(one) - LOW).masked_fill(holes, 0)
    assert missing.norm() < 1e-3 * LOW.norm()
    assert torch.equal(CAMERA.back_project(start, LOW, holes=torch.zeros_like(holes)), CAMERA.back_project(start, LOW))


def test_a_strangers_method_is_handed_filled_images():

    seen = []

    @registry.register_method("a stranger's", uses_reference=False)
    def nearest(lr_hsi, ref_msi, camera):
        seen.append(bool(lr_hsi.isfinite().all()))
        return lr_hsi.repeat_interleave(4, 2).repeat_interleave(4, 3)

    try:
        pred = answer(holed(LOW), "a stranger's")
    finally:
        del registry.METHODS["a stranger's"]
    assert seen == [True] and pred.isnan().sum() == 31 * 144


def test_draws_of_a_method_are_handed_filled_images():
    seen = []

    def draws(lr_hsi, ref_msi, camera, count):
        seen.append(bool(lr_hsi.isfinite().all()))
        return camera.upsample(lr_hsi) + torch.arange(float(count)).reshape(-1, 1, 1, 1)

    registry.register_maker(
        "drawn", registry.Entry(lambda setting: registry.bicubic, uses_reference=False, draws=lambda setting: draws)
    )
    try:
        pred, std = answer(holed(LOW), "drawn", draws=2, uncertainty=True)
    finally:
        del registry.METHODS["drawn"]
    assert seen == [True] and torch.equal(std.isnan(), pred.isnan())
    assert torch.allclose(std[~std.isnan()], torch.tensor(0.5).sqrt())


def test_the_camera_is_estimated_from_whole_pixels():

    noisy = dataclasses.replace(CAMERA, snr_db=30.0).observe(SCENE.tensor(), generator=seeded())
    spoiled = noisy.clone()
    spoiled[..., 5:8, 6:9] = torch.nan
    whole, rest = estimate_camera(noisy, camera=CAMERA), estimate_camera(spoiled, camera=CAMERA)
    assert rest.snr_db == pytest.approx(whole.snr_db, abs=1)
    assert rest.fwhm_px[0] == pytest.approx(whole.fwhm_px[0], abs=0.5)
    # of a border of holes nothing is left but that the noise it is compared with is drawn for another size
    border = noisy.clone()
    border[..., 16:] = torch.nan
    assert estimate_snr_db(border) == pytest.approx(estimate_snr_db(noisy[..., :16]), abs=0.7)
    border[..., ::5] = torch.nan
    with pytest.raises(ValueError, match="`lr_hsi` must be an image with 6×6 whole pixels somewhere, got"):
        estimate_camera(border, camera=CAMERA)


def test_an_answer_with_holes_is_measured_where_it_is():
    pred = answer(holed(LOW))
    with pytest.raises(ValueError, match=r"`pred` must be finite everywhere, got 4464 NaN .*NaN in `target` leaves"):
        metrics.evaluate(pred, SCENE.tensor(), scale=4)
    target = torch.where(pred.isnan(), torch.nan, SCENE.tensor())
    values = metrics.evaluate(pred, target, scale=4)
    errors = (pred - target)[~pred.isnan()]
    assert values["rmse"] == pytest.approx(errors.double().square().mean().sqrt().item(), rel=1e-5)


# --- explorers ---


def test_a_recording_has_nothing_in_holes():
    run = record(load_model("tiny"), holed(LOW), camera=CAMERA, steps=2, draws=2, generator=seeded())
    nothing = torch.zeros(72, 88, dtype=torch.bool)
    nothing[20:32, 24:36] = True
    for position in range(3):
        assert torch.equal(run.estimate(0, position).isnan().any(1)[0], nothing)
    figures = measure(run, SCENE.tensor())
    assert np.isfinite(figures.psnr_db).all() and np.isnan(figures.error[..., 20:32, 24:36]).all()
