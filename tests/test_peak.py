"""Images on another scale than [0, 1]: the metrics are told a peak, or say once that they were not."""

from __future__ import annotations

import warnings

import pytest
import torch

from ctmem import checks
from ctmem.evaluation import metrics
from ctmem.evaluation.tables import compare

PRED, TARGET = torch.rand(2, 2, 3, 12, 20, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("peak", [255.0, 65535, 0.5])
def test_metrics_with_their_peak_do_not_depend_on_the_unit(peak):
    for metric in (metrics.psnr_per_band, metrics.psnr_db, metrics.ssim):
        plain = metric(PRED.double(), TARGET.double())
        torch.testing.assert_close(metric(peak * PRED.double(), peak * TARGET.double(), peak=peak), plain)
    found = metrics.evaluate(peak * PRED.double(), peak * TARGET.double(), scale=4, peak=peak)
    plain = metrics.evaluate(PRED.double(), TARGET.double(), scale=4)
    assert found.pop("rmse") == pytest.approx(peak * plain.pop("rmse"))
    assert found == pytest.approx(plain, rel=1e-9)
    row = compare({"a": peak * PRED}, peak * TARGET, scale=4, metrics=["psnr_db"], peak=peak)[0]
    assert row["psnr_db"] == pytest.approx(plain["psnr_db"], rel=1e-5)


def test_a_target_far_beyond_the_peak_is_warned_of_once():
    checks.warn_once.cache_clear()
    with pytest.warns(RuntimeWarning, match="`target` has values beyond 10, .* are told a `peak` of 1"):
        metrics.psnr_db(255 * PRED, 255 * TARGET)
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        metrics.psnr_db(255 * PRED, 255 * TARGET)


def test_what_overshoots_a_little_is_no_reason_to_warn():
    checks.warn_once.cache_clear()
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        metrics.psnr_db(3 * PRED - 1, TARGET)
        metrics.evaluate(9.9 * PRED, 9.9 * TARGET, scale=4)


@pytest.mark.parametrize("peak", [0, -1.0, float("nan"), float("inf"), "1", None])
def test_a_peak_is_a_positive_number(peak):
    with pytest.raises((TypeError, ValueError), match="`peak` must be a finite number above 0"):
        metrics.evaluate(PRED, TARGET, scale=4, peak=peak)


def test_one_name_is_not_a_list_of_metrics():
    with pytest.raises(TypeError, match="`metrics` must be a list of names, got 'psnr_db'"):
        metrics.evaluate(PRED, TARGET, scale=4, metrics="psnr_db")
    with pytest.raises(ValueError, match="`metrics` must be at least one of psnr_db, .* got none"):
        metrics.evaluate(PRED, TARGET, scale=4, metrics=[])
