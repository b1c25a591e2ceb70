"""Spectral responses: published centre wavelengths, hand values, what a scene does not cover."""

import math

import numpy as np
import pytest
import torch

from ctmem import files
from ctmem.observe import responses

SHAPE = (2, 7, 12, 20)
CENTRES_NM = {  # ESA's published central wavelengths of Sentinel-2A: centroids of the responses
    "B01": 442.7, "B02": 492.4, "B03": 559.8, "B04": 664.6, "B05": 704.1, "B06": 740.5, "B07": 782.8,
    "B08": 832.8, "B8A": 864.7, "B09": 945.1, "B10": 1373.5, "B11": 1613.7, "B12": 2202.4,
}  # fmt: skip
CENTRES_2B_NM = {  # the same of Sentinel-2B
    "B01": 442.2, "B02": 492.1, "B03": 559.0, "B04": 664.9, "B05": 703.8, "B06": 739.1, "B07": 779.7,
    "B08": 832.9, "B8A": 864.0, "B09": 943.2, "B10": 1376.9, "B11": 1610.4, "B12": 2185.7,
}  # fmt: skip
OLI_NM = {  # (centre, width) at half of the peak, as NASA published them for Landsat-8
    "B1": (442.96, 15.98), "B2": (482.04, 60.04), "B3": (561.41, 57.33), "B4": (654.59, 37.47), "B5": (864.67, 28.25),
    "B6": (1608.86, 84.72), "B7": (2200.73, 186.66), "B8": (589.50, 172.40), "B9": (1373.43, 20.39),
}  # fmt: skip
OLI2_NM = {  # published centres of Landsat-9 in whole nm
    "B1": 443, "B2": 482, "B3": 561, "B4": 654, "B5": 865, "B6": 1608, "B7": 2200, "B8": 589, "B9": 1374,
}  # fmt: skip


@pytest.fixture
def x():
    """An image batch whose bands all differ."""
    generator = torch.Generator().manual_seed(1)
    return torch.rand(SHAPE, generator=generator) * torch.linspace(0.1, 1, 7).reshape(1, 7, 1, 1)


# --- the shipped tables ---


def half_peak(wavelengths_nm, response):
    """(lower, upper) wavelength at which the response crosses half of its peak, outermost, interpolated."""
    above = np.flatnonzero(response >= response.max() / 2)
    half, first, last = response.max() / 2, above[0], above[-1]
    lower = np.interp(half, response[first - 1 : first + 1], wavelengths_nm[first - 1 : first + 1])
    return lower, np.interp(-half, -response[last : last + 2], wavelengths_nm[last : last + 2])


@pytest.mark.parametrize(
    ("sensor", "bands"),
    [("sentinel2a", CENTRES_NM), ("sentinel2b", CENTRES_2B_NM), ("landsat8", OLI_NM), ("landsat9", OLI2_NM)],
)
def test_tables_have_all_bands_in_order_at_steps_of_one_nanometre(sensor, bands):
    table = responses.load_rsr(sensor)
    assert list(table) == list(bands)
    for wavelengths_nm, response in table.values():
        assert (np.diff(wavelengths_nm) == 1).all() and (wavelengths_nm % 1 == 0).all()
        assert response.min() >= 0 and response.max() == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize(("sensor", "centres"), [("sentinel2a", CENTRES_NM), ("sentinel2b", CENTRES_2B_NM)])
def test_sentinel_2_agrees_with_the_published_centre_wavelengths(sensor, centres):
    for band, (wavelengths_nm, response) in responses.load_rsr(sensor).items():
        centroid = (wavelengths_nm * response).sum() / response.sum()
        assert centroid == pytest.approx(centres[band], abs=0.15), band


@pytest.mark.parametrize("band", OLI_NM)
def test_landsat_8_agrees_with_the_published_centres_and_widths(band):
    lower, upper = half_peak(*responses.load_rsr("landsat8")[band])
    centre, width = OLI_NM[band]
    assert (lower + upper) / 2 == pytest.approx(centre, abs=0.1) and upper - lower == pytest.approx(width, abs=0.2)


@pytest.mark.parametrize("band", OLI2_NM)
def test_landsat_9_agrees_with_the_published_centres(band):
    assert round(np.mean(half_peak(*responses.load_rsr("landsat9")[band]))) == OLI2_NM[band]


def test_unknown_sensor_lists_those_known():
    with pytest.raises(
        ValueError, match=f"`sensor` must be one of {', '.join(map(repr, responses.SENSORS))}, got 'landsat'"
    ):
        responses.load_rsr("landsat")


def test_every_sensor_has_its_table_and_every_table_its_sensor():
    tables = {path.stem.removeprefix("srf_") for path in files.data_path("README.md").parent.glob("srf_*.csv")}
    assert tables == set(responses.SENSORS)


def test_a_file_that_is_not_shipped():
    with pytest.raises(FileNotFoundError, match="`name` must be a file shipped in the data folder, got 'none.csv'"):
        files.data_path("none.csv")


# --- cells of the scene's bands ---


def test_cells_end_half_way_between_neighbours():
    lower, upper = responses.band_edges([500, 510, 530])
    assert lower.tolist() == [492.5, 505, 520] and upper.tolist() == [505, 520, 537.5]  # median step 15


def test_cells_of_overlapping_spectrometers_share_the_overlap_and_count_nothing_twice():
    lower, upper = responses.band_edges([400, 410, 420, 412, 422, 432])
    order = np.argsort(lower)
    assert (lower[order][1:] == upper[order][:-1]).all()
    assert (upper - lower).sum() == pytest.approx(upper.max() - lower.min())


def test_cells_do_not_reach_into_a_gap():
    lower, upper = responses.band_edges([1340, 1350, 1410, 1420])
    assert upper[1] == 1355 and lower[2] == 1405


@pytest.mark.parametrize(("last", "upper", "lower"), [(550, 535, 535), (550.1, 525, 545.1), (549.9, 534.95, 534.95)])
def test_a_gap_is_a_step_above_three_median_ones(last, upper, lower):
    """Steps of 10, 10 and 30 nm: three medians are none yet, a tenth of a nanometre more is one."""
    found_lower, found_upper = responses.band_edges([500, 510, 520, last])
    assert found_upper[2] == pytest.approx(upper) and found_lower[3] == pytest.approx(lower)


def test_the_median_step_passes_over_wavelengths_given_twice():
    """Steps of 0, 0, 10 and 10 nm: the median step is 10, the first and last cell reach 5 nm beyond."""
    lower, upper = responses.band_edges([500, 500, 500, 510, 520])
    assert lower.min() == 495 and upper.max() == 525


def test_a_wavelength_given_twice_is_shared():
    lower, upper = responses.band_edges([500, 510, 510, 520])
    assert (upper - lower).tolist() == [10, 5, 5, 10]


# --- spectral responses ---


def test_integrals_by_hand_at_a_step_of_two_nanometres():
    """A response of 1, 2, 1 at 500, 502, 504 nm covers 499–501, 501–503, 503–505 nm: 2 + 4 + 2 = 8 in all."""
    shares = responses._integrals(
        np.array([500.0, 502, 504]), np.array([1.0, 2, 1]), np.array([490.0, 502]), np.array([502.0, 510])
    )
    assert shares.tolist() == [0.5, 0.5]
    shares = responses._integrals(
        np.array([500.0, 502, 504]), np.array([1.0, 2, 1]), np.array([499.0, 500]), np.array([500.0, 501])
    )
    assert shares.tolist() == [0.125, 0.125]


@pytest.mark.parametrize("step_nm", [0.5, 2, 5])
def test_integrals_at_any_step_are_those_of_the_same_staircase_at_one_nanometre(step_nm):
    """A response that is constant over each step is the same staircase however finely it is tabulated."""
    nm, response = 600 + step_nm * np.arange(20), 1 + np.random.default_rng(5).random(20)
    parts = int(step_nm * 10)  # a table of the same staircase at 0.1 nm
    fine_nm = 600 - step_nm / 2 + 0.05 + 0.1 * np.arange(20 * parts)
    lower, upper = np.array([590.0, 603.3, 606]), np.array([603.3, 606, 700])
    expected = responses._integrals(fine_nm, np.repeat(response, parts), lower, upper)
    assert np.allclose(responses._integrals(nm, response, lower, upper), expected, atol=1e-12)


def test_bands_left_out_are_blue_green_red_and_near_infrared():
    scene_nm = np.arange(400.0, 1001.0)
    for sensor, bands in responses.SENSORS.items():
        srf = responses.srf_matrix(scene_nm, sensor=sensor)
        assert torch.equal(srf, responses.srf_matrix(scene_nm, sensor=sensor, bands=bands))
        blue, green, red, infrared = (srf.double() @ torch.from_numpy(scene_nm)).tolist()
        assert 450 < blue < 500 < green < 600 < red < 700 < 800 < infrared < 900
    assert torch.equal(responses.srf_matrix(scene_nm), responses.srf_matrix(scene_nm, sensor="sentinel2a"))


def seen_centre(sensor, band):
    """What a band sees of a spectrum that equals its own wavelength, nm."""
    scene_nm = torch.arange(400.0, 2400, dtype=torch.float64)
    return float(responses.srf_matrix(scene_nm, sensor=sensor, bands=[band]).double() @ scene_nm)


def test_sensors_differ_where_their_bands_do():
    """B8A and B12 of Sentinel-2B lie 0.7 and 16.7 nm below those of 2A; Landsat's near infrared is B8A's."""
    for band, step_nm in {"B8A": 0.7, "B12": 16.7}.items():
        assert seen_centre("sentinel2a", band) - seen_centre("sentinel2b", band) == pytest.approx(step_nm, abs=0.1)
    assert seen_centre("landsat8", "B5") == pytest.approx(seen_centre("sentinel2a", "B8A"), abs=0.5)


def test_srf_on_a_one_nanometre_scene_is_the_table_itself():
    scene_nm = np.arange(400.0, 1001.0)
    srf = responses.srf_matrix(scene_nm, bands=("B03", "B08"))
    for row, band in zip(srf, ("B03", "B08")):
        wavelengths_nm, response = responses.load_rsr()[band]
        expected = np.zeros(601)
        expected[(wavelengths_nm - 400).astype(int)] = response / response.sum()
        assert np.allclose(row, expected, atol=1e-7)


def test_srf_rows_sum_to_one_and_keep_a_flat_spectrum(x):
    srf = responses.srf_matrix(np.linspace(430, 950, 7))
    assert srf.shape == (4, 7) and torch.allclose(srf.sum(1), torch.ones(4))
    flat = torch.full(SHAPE, 0.3)
    assert torch.allclose(responses.apply_srf(flat, srf), torch.full((2, 4, 12, 20), 0.3))


@pytest.mark.parametrize(("step_nm", "tolerance_nm"), [(5, 0.5), (10, 1.0)])
def test_srf_sees_a_sloping_spectrum_at_the_published_centre(step_nm, tolerance_nm):
    scene_nm = np.arange(400.0, 1000.0, step_nm)
    seen = responses.srf_matrix(scene_nm).double() @ torch.from_numpy(scene_nm)
    expected = torch.tensor([CENTRES_NM[band] for band in ("B02", "B03", "B04", "B08")])
    assert (seen - expected).abs().max() < tolerance_nm


def test_srf_follows_the_order_of_the_bands():
    scene_nm = np.linspace(430, 950, 60)
    order = np.random.default_rng(2).permutation(60)
    assert torch.allclose(responses.srf_matrix(scene_nm[order]), responses.srf_matrix(scene_nm)[:, order], atol=1e-7)


def test_srf_of_a_narrow_band_inside_one_wide_scene_band():
    srf = responses.srf_matrix([450, 550, 650, 750], bands=("B04",))
    assert srf.tolist() == [[0, 0, 1, 0]]


@pytest.mark.parametrize(
    ("scene_nm", "bands", "message"),
    [
        (
            np.arange(500.0, 900, 10),
            ("B03", "B02"),
            r"B02 at 439–533 nm, 52\.\d % of it outside or in a gap of 495–895",
        ),
        (
            np.r_[400:1350:10, 1420:1800:10],
            ("B10",),
            r"B10 at 1337–1412 nm, 100\.0 % of it outside or in a gap of 395",
        ),
        (np.arange(400.0, 860, 10), ("B08",), r"B08 at 773–907 nm, 2\d\.\d % of it"),
    ],
)
def test_srf_refuses_a_band_the_scene_does_not_cover(scene_nm, bands, message):
    with pytest.raises(
        ValueError, match="`wavelengths_nm` must be a range that covers every sensor band, got " + message
    ):
        responses.srf_matrix(scene_nm, bands=bands)


def test_srf_refuses_an_unknown_band_and_no_band():
    with pytest.raises(ValueError, match="`bands` must be one of 'B01', .*'B12', got 'B2'"):
        responses.srf_matrix([400, 500], bands=("B2",))
    with pytest.raises(ValueError, match="`bands` must be one of 'B1', .*'B9', got 'B10'"):
        responses.srf_matrix([400, 500], sensor="landsat8", bands=("B10",))
    with pytest.raises(ValueError, match=r"`bands` must be at least one band of the sensor, got \(\)"):
        responses.srf_matrix([400, 500], bands=())


@pytest.mark.parametrize(
    ("wavelengths_nm", "got"),
    [
        (None, "None"),
        ([500], r"shape \(1,\)"),
        ([[500, 510]], r"shape \(1, 2\)"),
        ([500, math.nan], "nan"),
        ([-1, 5], "-1"),
    ],
)
def test_wavelengths_that_are_none(wavelengths_nm, got):
    with pytest.raises(
        ValueError, match=f"`wavelengths_nm` must be a list of at least two finite, positive .*got {got}"
    ):
        responses.srf_matrix(wavelengths_nm)


def test_box_cuts_cells_in_proportion():
    srf = responses.box_srf([500, 510, 520], [(500, 520)])  # cells 495–505, 505–515, 515–525
    assert torch.allclose(srf, torch.tensor([[0.25, 0.5, 0.25]]))


@pytest.mark.parametrize("band", ["B03", "B08"])
def test_a_hundredth_of_a_response_may_be_missing_and_no_more(band):
    """The table is cut at its long end, nanometre by nanometre, until its own sum says that a hundredth is gone."""
    nm, response = responses.load_rsr()[band]
    missing = 1 - np.cumsum(response) / response.sum()  # of scenes that end at each entry
    last = int(nm[missing <= 0.01][0])
    assert missing[nm == last] > 0.004 and missing[nm == last - 1] < 0.02  # both near the limit
    weights = responses.srf_matrix(np.arange(400.0, last + 1), bands=(band,))
    assert float(weights.sum()) == pytest.approx(1, abs=1e-6)  # what is left counts as the whole
    with pytest.raises(ValueError, match="`wavelengths_nm` must be a range that covers every sensor band"):
        responses.srf_matrix(np.arange(400.0, last), bands=(band,))


@pytest.mark.parametrize(("high", "covered"), [(515.2, True), (515.21, False)])
def test_a_hundredth_of_a_box_may_be_missing_and_no_more(high, covered):
    """Cells reach to 515 nm: 20 of 20.2 nm are 99.01 %, 20 of 20.21 nm are 98.96 %."""
    if covered:
        torch.testing.assert_close(responses.box_srf([500, 510], [(495, high)]), torch.tensor([[0.5, 0.5]]))
    else:
        with pytest.raises(ValueError, match="got box at 495–515 nm, 1.0 % of it outside"):
            responses.box_srf([500, 510], [(495, high)])


def test_box_errors():
    with pytest.raises(ValueError, match=r"`edges_nm` must be pairs \(low, high\) with low < high, got \(520, 500\)"):
        responses.box_srf([500, 510], [(520, 500)])
    with pytest.raises(ValueError, match=r"got box at 480–505 nm, 60\.0 % of it outside or in a gap of 495–515 nm"):
        responses.box_srf([500, 510], [(480, 505)])
    with pytest.raises(ValueError, match=r"`edges_nm` must be at least one pair \(low, high\), got \[\]"):
        responses.box_srf([500, 510], [])


def test_apply_srf_by_hand():
    pixel = torch.tensor([1.0, 2.0, 4.0]).reshape(1, 3, 1, 1)
    srf = torch.tensor([[0.5, 0.5, 0.0], [0.0, 0.25, 0.75]])
    assert responses.apply_srf(pixel, srf).flatten().tolist() == [1.5, 3.5]


def test_apply_srf_mixes_bands_and_nothing_else(x):
    srf = torch.softmax(torch.arange(21.0).reshape(3, 7), 1)
    seen = responses.apply_srf(x, srf)
    assert seen.shape == (2, 3, 12, 20)
    assert torch.allclose(seen[1, :, 5, 11], srf @ x[1, :, 5, 11])


def test_apply_srf_errors(x):
    with pytest.raises(ValueError, match="`srf` must be a matrix whose rows sum to 1, got a row 1 that sums to 0.5"):
        responses.apply_srf(x, torch.stack([torch.full((7,), 1 / 7), torch.full((7,), 0.5 / 7)]))
    with pytest.raises(ValueError, match="`srf` must be of 7 columns, one per band of the image, got 6 columns"):
        responses.apply_srf(x, torch.full((1, 6), 1 / 6))
    with pytest.raises(TypeError, match="`x` must be a floating-point tensor"):
        responses.apply_srf(x.int(), torch.full((1, 7), 1 / 7))
    with pytest.raises(TypeError, match=r"`srf` must be a floating-point tensor \(c, C\), got a torch.int64 tensor"):
        responses.apply_srf(x, torch.ones(1, 7, dtype=torch.long))
    assert torch.equal(
        responses.apply_srf(x.numpy(), np.full((1, 7), 1 / 7)), responses.apply_srf(x, torch.full((1, 7), 1 / 7))
    )
