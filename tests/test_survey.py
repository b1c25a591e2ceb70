"""The survey: the same numbers as of the whole array at once, in any windows, of whole pixels and good bands alone."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from ctmem.raster.raster import Raster
from ctmem.tiling.survey import SAMPLE, survey
from tests.tiling_stubs import raster, scene


def whole(one: Raster) -> np.ndarray:
    """The whole pixels of good bands, (c, n) float64."""
    values = one.source.values.astype(np.float64)
    missing = ~np.isfinite(values) | np.isin(values, one.no_data)
    return values[one.bands.good][:, ~missing[one.bands.good].any(0)]


@pytest.mark.parametrize("at_once", [400, 5000, 10**7])
@pytest.mark.parametrize("holes", [False, True])
def test_statistics_are_those_of_the_whole_array(holes, at_once):
    one = scene(holes=holes)
    found, x = survey(one, at_once=at_once), whole(one)
    assert found.count == x.shape[1] and found.holes == 1 - x.shape[1] / (40 * 52)
    np.testing.assert_allclose(found.mean, x.mean(1), rtol=1e-13)
    np.testing.assert_allclose(found.covariance, np.cov(x, bias=True), rtol=1e-10)
    assert found.lowest.tolist() == x.min(1).tolist() and found.highest.tolist() == x.max(1).tolist()
    assert found.level == pytest.approx(np.percentile(x, 99.9), rel=2e-3)
    assert found.mean.dtype == found.covariance.dtype == torch.float64


def test_a_mean_far_from_zero_loses_nothing():
    values = np.random.default_rng(1).normal(size=(3, 50, 40)).astype(np.float32) + np.float32(1e5)
    found = survey(raster(values), at_once=3 * 4 * 40)
    np.testing.assert_allclose(found.covariance, np.cov(values.reshape(3, -1).astype(np.float64), bias=True), rtol=1e-9)


GOOD = [True, True, True, False, True]


def test_what_stands_in_holes_and_bad_bands_changes_no_bit():
    one = scene(holes=True, good=GOOD)
    values = one.source.values.astype(np.float32)
    gone = (values == -9999)[GOOD].any(0)
    values[:, gone] = np.random.default_rng(0).normal(size=(5, int(gone.sum()))) * 1e9
    values[0, gone] = np.nan
    first, second = survey(one), survey(raster(values, GOOD))
    for name in ("mean", "covariance", "lowest", "highest"):
        assert torch.equal(getattr(first, name), getattr(second, name))
    assert (first.count, first.level, first.digest) == (second.count, second.level, second.digest)
    assert all(torch.equal(a.nan_to_num(7e9), b.nan_to_num(7e9)) for a, b in zip(first.samples, second.samples))
    assert first.covariance[3].tolist() == first.covariance[:, 3].tolist() == [0] * 5 and first.mean[3] == 0
    assert first.good.tolist() == GOOD


def test_a_bad_band_counts_in_the_digest_only():
    one, other = scene(good=GOOD), scene(good=GOOD)
    other.source.values[3] += 1
    first, second = survey(one), survey(other)
    assert torch.equal(first.covariance, second.covariance) and first.level == second.level
    assert first.digest != second.digest


@pytest.mark.parametrize("change", [(0, 0, 0), (4, 39, 51)])
def test_one_number_changes_the_digest(change):
    one, other = scene(), scene()
    other.source.values[change] += 1
    assert survey(one).digest == survey(scene()).digest != survey(other).digest


@pytest.mark.parametrize("low", [-5.0, 0.0, 1e-6, 1e7])
def test_the_level_of_any_range(low):
    values = (np.random.default_rng(2).gamma(2.0, size=(4, 60, 50)) + low).astype(np.float32)
    level = survey(raster(values), at_once=4000, warn=False).level
    assert level == pytest.approx(np.percentile(values, 99.9), rel=1e-3)


@pytest.mark.parametrize("value", [0.0, -3.0])
def test_the_level_is_positive_whatever_comes(value):
    found = survey(raster(np.full((2, 5, 6), value, np.float32)), warn=False)
    assert found.level == (abs(value) or 1) and not found.covariance.any()


def test_samples_of_a_small_scene_are_all_of_it():
    one = scene(holes=True)
    (found,) = survey(one).samples
    assert np.array_equal(found[0], one.window(0, 0, 40, 52), equal_nan=True) and found.dtype == torch.float32


def test_samples_of_a_large_scene_are_spread_and_whole():
    values = np.arange(1, 1 + 900 * 1100, dtype=np.float32).reshape(1, 900, 1100)
    values[:, :500, :700] = -9999
    found = survey(raster(values)).samples
    assert len(found) == 8 and all(one.shape == (1, 1, SAMPLE, SAMPLE) for one in found)
    assert all(torch.isfinite(one).all() for one in found)
    corners = {(int(one[0, 0, 0, 0]) - 1) // 1100: (int(one[0, 0, 0, 0]) - 1) % 1100 for one in found}
    assert max(corners) == 900 - SAMPLE and max(corners.values()) == 1100 - SAMPLE


def test_blocks_of_the_file_are_read_whole_and_progress_is_told():
    one, told = scene(block=(16, 16)), []
    survey(one, at_once=5 * 4 * 16 * 32, progress=lambda done, total: told.append((done, total)))
    assert len(one.source.windows) > 4 and all(
        top % 16 == 0 and left % 16 == 0 for top, left, _, _ in one.source.windows
    )
    assert told[-1] == (40 * 52, 40 * 52) and [done for done, _ in told] == sorted(done for done, _ in told)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (
            -32768,
            r"-?.* of the values are negative, down to -32768.*no_data=\(-32768,\) makes them holes \(--no-data=-32768\)",
        ),
        (32767, r"of the values are 32767, their type's limit.*no_data=\(32767,\)"),
        (0, r"of the pixels are 0 in all bands.*no_data=\(0,\)"),
    ],
)
def test_what_looks_like_no_data_is_named_where_the_file_says_none(value, text, recwarn):
    one = scene(no_data=())
    one.source.values[:, :3, :3] = value
    with pytest.warns(RuntimeWarning, match=text):
        survey(one)
    recwarn.clear()
    survey(one, warn=False)
    survey(dataclasses.replace(one, no_data=(float(value),)))
    survey(dataclasses.replace(one, masked=True))
    assert not recwarn.list


def test_scenes_with_nothing_to_survey_are_refused():
    one = scene()
    one.source.values[2] = -9999
    with pytest.raises(
        ValueError, match="`raster` must be a scene with at least one pixel that has data in every good"
    ):
        survey(one)
    with pytest.raises(ValueError, match="`raster` must be a scene with a good band, got 5 bad ones"):
        survey(scene(good=[False] * 5))
