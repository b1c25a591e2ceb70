"""Metrics: values by hand, independent oracles (numpy, scipy, scikit-image), conventions, errors."""

import math
import warnings

import numpy as np
import pytest
import scipy.stats
import torch
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from torchmetrics.functional.image import structural_similarity_index_measure, universal_image_quality_index

from ctmem.evaluation import metrics, windows

SHAPE = (2, 7, 12, 20)
ALL = [metrics.psnr_db, metrics.sam_deg, metrics.ssim, metrics.cc, metrics.rmse, metrics.uiqi]


def ergas_at_4(pred, target):
    return metrics.ergas(pred, target, scale=4)


@pytest.fixture
def images():
    """Two images of different content; every band has a level and a spread of its own."""
    generator = torch.Generator().manual_seed(3)
    level = torch.linspace(0.2, 0.7, 7).reshape(1, 7, 1, 1)
    target = level + level / 4 * torch.randn(SHAPE, generator=generator)
    noise = torch.tensor([0.02, 0.06]).reshape(2, 1, 1, 1)  # the second image is worse
    pred = target + noise * torch.randn(SHAPE, generator=generator)
    return pred, target


def flat(value, bands=1, side=12):
    return torch.full((1, bands, side, side), value)


# --- values by hand ---


def test_psnr_by_hand_is_the_mean_over_bands():
    target = torch.zeros(1, 2, 4, 6)
    pred = target.clone()
    pred[:, 0], pred[:, 1] = 0.1, 0.01  # 20 dB and 40 dB
    assert metrics.psnr_per_band(pred, target)[0].tolist() == pytest.approx([20.0, 40.0])
    assert metrics.psnr_db(pred, target).item() == pytest.approx(30.0)


@pytest.mark.parametrize(
    ("pred", "target", "degrees"),
    [([1, 0], [1, 1], 45), ([1, 0], [0, 1], 90), ([1, 0], [-1, 0], 180), ([0.2, 0.4], [0.1, 0.2], 0)],
)
def test_sam_by_hand(pred, target, degrees):
    pred, target = (torch.tensor(x, dtype=torch.float32).reshape(1, 2, 1, 1) for x in (pred, target))
    assert metrics.sam_deg(pred, target).item() == pytest.approx(degrees, abs=1e-5)


def test_ergas_by_hand():
    pred, target = flat(0.5, bands=2), flat(0.5, bands=2)
    pred[:, 0] += 0.05  # relative errors 0.1 and 0
    assert metrics.ergas(pred, target, scale=4).item() == pytest.approx(25 * math.sqrt(0.01 / 2), rel=1e-5)


def test_rmse_by_hand():
    target = torch.zeros(1, 2, 2, 2)
    pred = target.clone()
    pred[0, 0] = 0.2
    assert metrics.rmse(pred, target).item() == pytest.approx(math.sqrt(0.02), rel=1e-6)


def test_cc_by_hand():
    ramp = torch.arange(144.0).reshape(1, 1, 12, 12) / 200
    target = torch.cat((ramp, ramp), 1)
    pred = torch.cat((0.5 * ramp + 0.1, 0.9 - ramp), 1)  # correlations 1 and −1
    assert metrics.cc(pred, target).item() == pytest.approx(0.0, abs=1e-9)
    assert metrics.cc(pred[:, :1], target[:, :1]).item() == pytest.approx(1.0)


def test_uiqi_by_hand():
    generator = torch.Generator().manual_seed(0)
    target = 0.5 + torch.rand(1, 1, 12, 12, generator=generator) / 10
    pred = 2 * target  # correlation 1; brightness and contrast both 2·2/(1 + 4) = 0.8
    assert metrics.uiqi(pred, target).item() == pytest.approx(0.64, abs=1e-6)


# --- independent oracles ---


def test_psnr_is_scikit_images_per_band(images):
    pred, target = (x.double().numpy() for x in images)
    expected = [
        np.mean([peak_signal_noise_ratio(t, p, data_range=1.0) for p, t in zip(ps, ts, strict=True)])
        for ps, ts in zip(pred, target, strict=True)
    ]
    # torchmetrics keeps ln 10 in float32, hence 1e-6
    assert metrics.psnr_db(*images).tolist() == pytest.approx(expected, rel=1e-6)


def test_sam_is_the_angle_by_arctangent(images):
    """Kahan's formula 2·atan2(|a/|a| − b/|b||, |a/|a| + b/|b||) needs no arccos."""
    a, b = (x.double().numpy() / np.linalg.norm(x.double().numpy(), axis=1, keepdims=True) for x in images)
    angle = 2 * np.arctan2(np.linalg.norm(a - b, axis=1), np.linalg.norm(a + b, axis=1))
    expected = np.degrees(angle.mean((1, 2))).tolist()
    assert metrics.sam_deg(*images).tolist() == pytest.approx(expected, rel=1e-7)


def test_ssim_is_scikit_images_gaussian_one(images):
    options = {"data_range": 1.0, "gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    pred, target = (x.double().numpy() for x in images)
    expected = [structural_similarity(p, t, channel_axis=0, **options) for p, t in zip(pred, target, strict=True)]
    assert metrics.ssim(*images).tolist() == pytest.approx(expected, rel=1e-7)


def test_cc_is_scipys_pearson(images):
    expected = [
        np.mean([scipy.stats.pearsonr(p.ravel(), t.ravel()).statistic for p, t in zip(ps, ts, strict=True)])
        for ps, ts in zip(*(x.double().numpy() for x in images), strict=True)
    ]
    assert metrics.cc(*images).tolist() == pytest.approx(expected, rel=1e-9)


def test_windows_are_torchmetrics_ones(images):
    pred, target = (x.double() for x in images)
    _, full = structural_similarity_index_measure(pred, target, data_range=1.0, return_full_image=True)
    assert metrics.ssim(*images).tolist() == pytest.approx(full[..., 5:-5, 5:-5].mean((1, 2, 3)).tolist(), rel=1e-12)
    index = universal_image_quality_index(pred, target, reduction="none")
    assert metrics.uiqi(*images).tolist() == pytest.approx(index.mean((1, 2, 3)).tolist(), rel=1e-12)


def test_uiqi_is_scikit_images_ssim_without_constants(images):
    options = {"data_range": 1.0, "gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    pred, target = (x.double().numpy() for x in images)
    expected = [
        structural_similarity(p, t, channel_axis=0, K1=0, K2=0, **options) for p, t in zip(pred, target, strict=True)
    ]
    assert metrics.uiqi(*images).tolist() == pytest.approx(expected, rel=1e-6)


# --- every metric ---


@pytest.mark.parametrize("metric", [*ALL, ergas_at_4])
def test_one_number_per_image_and_each_image_alone(metric, images):
    both = metric(*images)
    assert both.shape == (2,)
    alone = [metric(images[0][i : i + 1], images[1][i : i + 1]).item() for i in range(2)]
    assert both.tolist() == pytest.approx(alone)


@pytest.mark.parametrize(
    ("metric", "higher_is_better"),
    [(m, m in (metrics.psnr_db, metrics.ssim, metrics.cc, metrics.uiqi)) for m in [*ALL, ergas_at_4]],
)
def test_more_noise_is_worse(metric, higher_is_better, images):
    good, bad = metric(*images).tolist()
    assert (good > bad) == higher_is_better


def test_a_perfect_prediction(images):
    values = metrics.evaluate(images[1], images[1], scale=4)
    expected = {"psnr_db": 100, "sam_deg": 0, "ergas": 0, "ssim": 1, "cc": 1, "rmse": 0, "uiqi": 1}
    assert values == pytest.approx(expected, abs=1e-5)
    assert tuple(values) == metrics.METRICS


def test_evaluate_is_the_mean_of_the_single_metrics(images):
    values = metrics.evaluate(*images, scale=3)
    assert values["ergas"] == pytest.approx(metrics.ergas(*images, scale=3).mean().item())
    for metric in ALL:
        assert values[metric.__name__] == pytest.approx(metric(*images).mean().item())
    assert all(type(value) is float for value in values.values())


def test_evaluate_computes_what_is_asked_for(images):
    assert list(metrics.evaluate(*images, scale=4, metrics=["rmse", "ergas"])) == ["rmse", "ergas"]
    with pytest.raises(ValueError, match="`metrics` must be one of 'psnr_db'.*, got 'lpips'"):
        metrics.evaluate(*images, scale=4, metrics=["lpips"])


def test_values_beyond_the_scale_are_not_clipped():
    assert metrics.rmse(flat(1.5), flat(1.0)).item() == pytest.approx(0.5)


# --- the faults of the released code's metrics (method.md, fault 4) ---


def test_fault_4_sam_of_parallel_spectra_is_zero_not_nan():
    """Without a clamp the cosine of parallel spectra may exceed 1 by rounding, and its arccos is NaN."""
    target = torch.rand(1, 200, 30, 31, generator=torch.Generator().manual_seed(1))
    angles = metrics.sam_map(0.3 * target, target)
    assert angles.isfinite().all()
    assert angles.max() < 1e-3


def test_fault_4_sam_of_one_black_pixel_leaves_the_others_as_they_are(images):
    pred, target = images
    whole = metrics.sam_map(pred, target)
    black = target.clone()
    black[0, :, 4, 5] = 0
    angles = metrics.sam_map(pred, black)
    assert angles[0, 4, 5].isnan()
    assert angles.isnan().sum() == 1
    assert torch.equal(angles[~angles.isnan()], whole[~angles.isnan()])
    with pytest.warns(UserWarning, match="leaves out 1 of 480 pixels whose `target` spectrum is zero"):
        value = metrics.sam_deg(pred, black)
    assert value[0].item() == pytest.approx(whole[0][~angles[0].isnan()].mean().item())


def test_fault_4_sam_of_a_black_prediction_is_the_worst_not_the_best(images):
    pred, target = images
    pred = pred.clone()
    pred[1, :, 0, 0] = 0
    assert metrics.sam_map(pred, target)[1, 0, 0].item() == 90


def test_fault_4_sam_of_a_black_image_is_nan():
    with pytest.warns(UserWarning, match="144 of 144"):
        assert metrics.sam_deg(flat(0.5, bands=3), flat(0.0, bands=3)).isnan().all()


def test_fault_4_psnr_of_one_exact_band_lifts_that_band_only(images):
    pred, target = images
    before = metrics.psnr_per_band(pred, target)
    exact = pred.clone()
    exact[0, 2] = target[0, 2]
    after = metrics.psnr_per_band(exact, target)
    assert after[0, 2] == 100
    after[0, 2] = before[0, 2]
    assert torch.equal(after, before)
    rest = [band for band in range(7) if band != 2]
    expected = (before[0, rest].sum().item() + 100) / 7
    assert metrics.psnr_db(exact, target)[0].item() == pytest.approx(expected)


def test_fault_4_ergas_knows_the_scale(images):
    """Wald's factor is fine/coarse pixel size: twice the scale, half the value."""
    half = metrics.ergas(*images, scale=4) / 2
    assert metrics.ergas(*images, scale=8).tolist() == pytest.approx(half.tolist())


def test_fault_4_ssim_has_the_constants_of_unit_range():
    """With the constants of 0–255 data every pair of images on [0, 1] would score almost 1."""
    generator = torch.Generator().manual_seed(0)
    noise, target = torch.rand(2, 1, 3, 24, 20, generator=generator)
    assert abs(metrics.ssim(noise, target).item()) < 0.1
    left, right = flat(0.5), flat(0.6)  # by hand: luminance term only
    expected = (2 * 0.5 * 0.6 + 1e-4) / (0.25 + 0.36 + 1e-4)
    assert metrics.ssim(left, right).item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("constant", ["pred", "target", "both"])
def test_fault_4_an_undefined_correlation_is_nan_not_perfect(constant, images):
    pred, target = (x.clone() for x in images)
    if constant != "target":
        pred[0, 3] = 0.1
    if constant != "pred":
        target[0, 3] = 0.3
    value = metrics.cc(pred, target)
    assert value[0].isnan()
    assert value[1].item() == pytest.approx(metrics.cc(*images)[1].item())
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # the NaN is the message; no second one
        assert math.isnan(metrics.evaluate(pred, target, scale=4)["cc"])


def test_ergas_of_a_band_of_zero_mean_is_nan(images):
    pred, target = (x.clone() for x in images)
    target[1, 0] = 0
    value = metrics.ergas(pred, target, scale=4)
    assert value[0].isfinite()
    assert value[1].isnan()


# --- no unit, no level, no order ---


def of_level(level, spread=0.2, shape=(2, 3, 24, 20), seed=5):
    """A target around a level, and a prediction of it, in float64."""
    noise, error = torch.randn(2, *shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    target = level * (1 + spread * noise)
    return target + 0.3 * spread * level * error, target


SCALE_FREE = {"uiqi": metrics.uiqi, "cc": metrics.cc, "sam_deg": metrics.sam_deg, "ergas": ergas_at_4}


@pytest.mark.parametrize("factor", [1e-6, 1e-4, 3e-2, 7.0, 1e4, 1e6])
@pytest.mark.parametrize("name", SCALE_FREE)
def test_a_factor_on_both_images_changes_nothing(name, factor):
    pred, target = of_level(0.4)
    expected = SCALE_FREE[name](pred, target).tolist()
    assert SCALE_FREE[name](factor * pred, factor * target).tolist() == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("kind", [torch.float32, torch.float64])
@pytest.mark.parametrize("level", [1e-6, 2e-4, 5e-4, 0.3, 1.0, 1e4])
def test_an_image_is_itself_at_any_level(level, kind):
    target = of_level(level, spread=0.3)[1].to(kind)
    assert metrics.uiqi(target, target).tolist() == pytest.approx([1, 1], abs=1e-12)
    assert metrics.ssim(target, target).tolist() == pytest.approx([1, 1], abs=1e-12)
    assert metrics.cc(target, target).tolist() == pytest.approx([1, 1], abs=1e-12)
    assert metrics.sam_deg(target, target).tolist() == pytest.approx([0, 0], abs=1e-5)


def test_a_large_offset_leaves_variances_and_correlations_as_they_are():
    pred, target = of_level(0.4)
    offset = 2.0**20
    expected = metrics.cc(pred, target).tolist()
    assert metrics.cc(pred + offset, target + offset).tolist() == pytest.approx(expected, rel=1e-7)
    of, by = windows.moments(pred, target), windows.moments(pred + offset, target + offset)
    for one, other in zip(of[2:], by[2:], strict=True):
        torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-11)


def test_moments_are_those_of_the_window_by_definition(images):
    """Straight from the definition, window by window, with numpy's weights."""
    pred, target = (x.double() for x in images)
    of = windows.moments(pred, target)
    line = np.exp(-((np.arange(11) - 5) ** 2) / (2 * 1.5**2))
    weights = torch.from_numpy(np.outer(line, line) / line.sum() ** 2)
    p, t = pred[1, 2, 1:12, 4:15], target[1, 2, 1:12, 4:15]
    mean_p, mean_t = (weights * p).sum(), (weights * t).sum()
    expected = [mean_p, mean_t, (weights * (p - mean_p) ** 2).sum(), (weights * (t - mean_t) ** 2).sum()]
    expected.append((weights * (p - mean_p) * (t - mean_t)).sum())
    assert [x[1, 2, 1, 4].item() for x in of] == pytest.approx([x.item() for x in expected], rel=1e-12)


@pytest.mark.parametrize("metric", [*ALL, ergas_at_4])
def test_the_order_of_bands_does_not_matter(metric, images):
    order = torch.tensor([3, 0, 6, 1, 5, 2, 4])
    shuffled = metric(images[0][:, order], images[1][:, order]).tolist()
    assert shuffled == pytest.approx(metric(*images).tolist(), rel=1e-12)


@pytest.mark.parametrize("metric", [m for m in ALL if m is not metrics.sam_deg])
def test_which_of_the_two_is_the_target_does_not_matter(metric, images):
    assert metric(*images).tolist() == pytest.approx(metric(*images[::-1]).tolist(), rel=1e-12)


@pytest.mark.parametrize("metric", [*ALL, ergas_at_4])
def test_single_precision_is_measured_as_double(metric, images):
    assert torch.equal(metric(*images), metric(*(x.double() for x in images)))


# --- flat windows ---


@pytest.mark.parametrize("value", [1e-6, 0.1, 1 / 3, 0.7, 1.0, 4095.0, 1e6])
@pytest.mark.parametrize("kind", [torch.float32, torch.float64])
def test_equal_constant_images_score_one(value, kind):
    image = torch.full((1, 2, 14, 17), value, dtype=kind)
    assert metrics.uiqi(image, image).item() == pytest.approx(1, abs=1e-12)
    assert metrics.ssim(image, image).item() == pytest.approx(1, abs=1e-12)
    assert metrics.uiqi(image, image.float().double()).item() == pytest.approx(1, abs=1e-6)


def test_two_black_images_are_equal():
    assert metrics.uiqi(flat(0.0), flat(0.0)).item() == 1


def test_two_constant_images_are_told_by_their_brightness():
    """2·0.2·0.6 / (0.04 + 0.36) = 0.6, as in the code of Wang and Bovik; structure has nothing to say."""
    assert metrics.uiqi(flat(0.2), flat(0.6)).item() == pytest.approx(0.6, abs=1e-6)
    assert metrics.uiqi(flat(0.0), flat(0.6)).item() == 0


def test_a_constant_window_against_a_varying_one_scores_zero(images):
    pred, target = images
    assert metrics.uiqi(torch.full_like(pred, 0.1), target).tolist() == pytest.approx([0, 0], abs=1e-12)


@pytest.mark.parametrize("level", [0.1, 1.0, 4095.0])
def test_a_perfect_prediction_of_a_half_saturated_image_scores_one(level):
    target = of_level(0.6 * level)[1].clamp(max=level).float()
    target[..., 10:] = level
    assert metrics.uiqi(target, target).tolist() == pytest.approx([1, 1], abs=1e-12)
    assert metrics.ssim(target, target).tolist() == pytest.approx([1, 1], abs=1e-12)


@pytest.mark.parametrize("value", [0.1, 0.3, 0.7, 1e-6, 1e6])
def test_rounding_around_a_constant_is_not_a_variation(value, images):
    """Constant in single precision but for the last digit: its correlation would be that of rounding."""
    steps = torch.randint(0, 2, SHAPE, generator=torch.Generator().manual_seed(1))
    nearly = torch.full(SHAPE, value)
    nearly = torch.where(steps == 1, torch.nextafter(nearly, torch.tensor(torch.inf)), nearly)
    for image in (nearly, nearly.double()):
        assert metrics.cc(images[0].to(image), image).isnan().all()
        assert metrics.uiqi(image, image.flip(3)).tolist() == pytest.approx([1, 1], abs=1e-6)
    finer = torch.full(SHAPE, value, dtype=torch.float64)
    finer[..., ::2] = np.nextafter(value, 2 * value)
    assert metrics.cc(finer, images[1].double()).isnan().all()


def test_ergas_of_a_band_whose_mean_is_rounding_is_nan():
    pred, target = of_level(0.4)
    target[0, 1] -= target[0, 1].mean()
    value = metrics.ergas(pred, target, scale=4)
    assert value[0].isnan() and value[1].isfinite()


# --- holes ---


def with_holes(images, columns=4):
    """The same with nothing in the last columns of the first image's target."""
    pred, target = (x.clone() for x in images)
    target[0, 2, :, -columns:] = torch.nan  # one band is enough
    return pred, target


@pytest.mark.parametrize("metric", [*ALL, ergas_at_4])
@pytest.mark.parametrize("kind", [torch.nan, torch.inf])
def test_a_metric_of_an_image_with_holes_is_that_of_the_rest(metric, kind, images):
    pred, target = with_holes(images)
    target[target.isnan()] = kind
    value = metric(pred, target)
    rest = metric(images[0][:1, ..., :-4], images[1][:1, ..., :-4])
    assert value[0].item() == pytest.approx(rest.item(), rel=1e-12)
    assert value[1].item() == pytest.approx(metric(*images)[1].item(), rel=1e-12)


@pytest.mark.parametrize("metric", [*ALL, ergas_at_4])
def test_what_stands_in_a_hole_changes_nothing(metric, images):
    pred, target = with_holes(images)
    expected = metric(pred, target)
    for garbage in (-9999.0, 65535.0, torch.nan, torch.inf):
        pred[0, :, :, -4:] = garbage
        target[0, :2, :, -4:] = garbage
        assert torch.equal(metric(pred, target), expected)


def test_windows_that_touch_a_hole_are_left_out():
    pred, target = of_level(0.4, shape=(1, 2, 30, 41))
    spoiled = target.clone()
    spoiled[0, 0, 12, 20] = torch.nan
    for metric, of_windows in ((metrics.ssim, "structural_similarity"), (metrics.uiqi, "quality_index")):
        constants = (1e-4, 9e-4) if of_windows == "structural_similarity" else (torch.tensor(0.0),) * 2
        every = getattr(windows, of_windows)(windows.moments(pred, target), *constants)
        every[..., 2:13, 10:21] = torch.nan
        assert metric(pred, spoiled).item() == pytest.approx(every.nanmean().item(), rel=1e-12)


def test_sam_map_has_nan_in_holes_and_nowhere_else(images):
    angles = metrics.sam_map(*with_holes(images))
    assert angles[0, :, -4:].isnan().all()
    assert angles.isnan().sum() == 4 * 12
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # a hole is not a black pixel
        metrics.sam_deg(*with_holes(images))


def test_evaluate_leaves_holes_out(images):
    pred, target = with_holes(images)
    values = metrics.evaluate(pred, target, scale=4)
    for metric in ALL:
        assert values[metric.__name__] == pytest.approx(metric(pred, target).mean().item(), rel=1e-12)


def test_no_window_without_a_hole_is_nan(images):
    pred, target = (x.clone() for x in images)
    target[0, :, 6, ::5] = torch.nan
    assert metrics.ssim(pred, target)[0].isnan() and metrics.uiqi(pred, target)[1].isfinite()


@pytest.mark.parametrize("metric", [*ALL, ergas_at_4])
def test_errors_of_holes(metric, images):
    pred, target = with_holes(images)
    pred[0, :, 3, 3] = torch.nan
    with pytest.raises(ValueError, match=r"`pred` must be finite everywhere, got 7 NaN .*\(NaN in `target` leaves"):
        metric(pred, target)
    target[1] = torch.nan
    with pytest.raises(ValueError, match="`target` must be finite in at least one pixel, got NaN or infinite"):
        metric(images[0], target)


# --- bad input ---


@pytest.mark.parametrize("metric", [*ALL, ergas_at_4])
def test_errors_every_metric_has(metric, images):
    pred, target = images
    with pytest.raises(ValueError, match=r"`pred` must be of shape \(B, C, H, W\).*got shape \(7, 12, 20\)"):
        metric(pred[0], target[0])
    with pytest.raises(ValueError, match=r"`pred` must be of the shape of `target` \(2, 7, .*, got \(2, 6, 12"):
        metric(pred[:, 1:], target)
    with pytest.raises(TypeError, match="`target` must be a floating-point tensor.*got a torch.int64 tensor"):
        metric(pred, target.long())
    bad = pred.clone()
    bad[1, 2, 3, 4] = torch.nan
    with pytest.raises(ValueError, match="`pred` must be finite everywhere, got 1 NaN or infinite"):
        metric(bad, target)


def test_sam_needs_two_bands(images):
    with pytest.raises(ValueError, match="`pred` must be of at least 2 bands, for an angle.*got 1 band"):
        metrics.sam_deg(images[0][:, :1], images[1][:, :1])


@pytest.mark.parametrize("metric", [metrics.ssim, metrics.uiqi])
def test_windows_need_eleven_pixels(metric, images):
    with pytest.raises(ValueError, match="`pred` must be at least 11×11 px, got 10×20"):
        metric(images[0][..., :10, :], images[1][..., :10, :])


@pytest.mark.parametrize("scale", [0, 2.5, True])
def test_ergas_needs_a_whole_scale(scale, images):
    with pytest.raises(ValueError, match="`scale` must be a whole number ≥ 1, got"):
        metrics.ergas(*images, scale=scale)


def test_an_image_with_gradients_is_evaluated_without_a_warning():
    target = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = metrics.evaluate((0.9 * target).requires_grad_(), target, scale=4)
    assert found == metrics.evaluate(0.9 * target, target, scale=4)
