"""Sensors: hand values, published centre wavelengths, scipy as the oracle for blur, no shifts, transposes."""

import math

import numpy as np
import pytest
import scipy.ndimage
import torch
import torch.nn.functional as F

from ctmem import files
from ctmem.observe import optics, responses

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


def skewed(size):
    """A psf without any symmetry, so that a mirrored or shifted convolution shows."""
    psf = torch.arange(1.0, size * size + 1).reshape(size, size) ** 2
    return psf / psf.sum()


# --- the shipped tables ---


def half_peak(wavelengths_nm, response):
    """(lower, upper) wavelength at which the response crosses half of its peak, outermost, interpolated."""
    above = np.flatnonzero(response >= response.max() / 2)
    half, first, last = response.max() / 2, above[0], above[-1]
    lower = np.interp(half, response[first - 1 : first + 1], wavelengths_nm[first - 1 : first + 1])
    return lower, np.interp(-half, -response[last : last + 2], wavelengths_nm[last : last + 2])


@pytest.mark.parametrize(
    "sensor, bands",
    [("sentinel2a", CENTRES_NM), ("sentinel2b", CENTRES_2B_NM), ("landsat8", OLI_NM), ("landsat9", OLI2_NM)],
)
def test_tables_have_all_bands_in_order_at_steps_of_one_nanometre(sensor, bands):
    table = responses.load_rsr(sensor)
    assert list(table) == list(bands)
    for wavelengths_nm, response in table.values():
        assert (np.diff(wavelengths_nm) == 1).all() and (wavelengths_nm % 1 == 0).all()
        assert response.min() >= 0 and response.max() == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("sensor, centres", [("sentinel2a", CENTRES_NM), ("sentinel2b", CENTRES_2B_NM)])
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
    with pytest.raises(ValueError, match="`sensor` must be one of 'sentinel2a', .*'landsat9', got 'landsat'"):
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


@pytest.mark.parametrize("step_nm, tolerance_nm", [(5, 0.5), (10, 1.0)])
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
    "scene_nm, bands, message",
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
    "wavelengths_nm, got",
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
        responses.apply_srf(x.numpy(), torch.full((1, 7), 1 / 7))


# --- point spread functions ---


@pytest.mark.parametrize("fwhm_px, half", [(4.0, 2), (6.0, 3)])
def test_gaussian_falls_to_half_at_half_its_width(fwhm_px, half):
    psf = optics.gaussian_psf(fwhm_px, size=15)
    assert float(psf[7, 7 + half] / psf[7, 7]) == pytest.approx(0.5, abs=1e-6)
    assert float(psf[7 - half, 7] / psf[7, 7]) == pytest.approx(0.5, abs=1e-6)


def test_gaussian_of_two_widths_is_rows_then_columns():
    psf = optics.gaussian_psf((2.0, 6.0), size=15)
    assert float(psf[8, 7] / psf[7, 7]) == pytest.approx(0.5) and float(psf[7, 10] / psf[7, 7]) == pytest.approx(0.5)


@pytest.mark.parametrize("scale, size", [(1, 3), (2, 6), (3, 9), (4, 12)])
def test_the_default_psf(scale, size):
    psf = optics.default_psf(scale)
    assert psf.shape == (size, size) and psf.dtype == torch.float32
    assert float(psf.sum()) == pytest.approx(1) and torch.equal(psf, psf.flip(0, 1)) and torch.equal(psf, psf.T)
    assert torch.equal(psf, optics.gaussian_psf(float(scale), scale=scale))


def test_default_sizes_take_the_parity_of_the_scale():
    assert [optics.gaussian_psf(2.5, scale=scale).shape[0] for scale in (None, 1, 2)] == [9, 9, 8]


def test_gaussian_errors():
    with pytest.raises(ValueError, match="`fwhm_px` must be a positive number of pixels or a pair of them, got 0"):
        optics.gaussian_psf(0)
    with pytest.raises(ValueError, match="`size` must be even, as `scale` 4 is, got 9"):
        optics.gaussian_psf(3, size=9, scale=4)
    with pytest.raises(ValueError, match="`size` must be a whole number ≥ 1, got 0"):
        optics.gaussian_psf(3, size=0)
    with pytest.raises(ValueError, match="`scale` must be a whole number ≥ 1, got 2.0"):
        optics.default_psf(2.0)


# --- blur and decimation ---


def test_an_impulse_becomes_the_psf_and_not_its_mirror_image():
    image = torch.zeros(1, 1, 7, 9)
    image[0, 0, 3, 4] = 1
    assert torch.allclose(optics.blur(image, skewed(3))[0, 0, 2:5, 3:6], skewed(3))


@pytest.mark.parametrize("size", [1, 3, 5])
def test_blur_equals_scipy(x, size):
    expected = [
        [scipy.ndimage.convolve(band.numpy(), skewed(size).numpy(), mode="nearest") for band in image] for image in x
    ]
    assert np.allclose(optics.blur(x, skewed(size)), expected, atol=1e-6)


@pytest.mark.parametrize("scale, size", [(4, 12), (4, 4), (4, 2), (2, 6), (2, 8), (1, 3)])
def test_blur_down_equals_a_loop_over_cells(x, scale, size):
    psf = skewed(size)
    mirrored = psf.flip(0, 1).numpy()
    pad = 12
    padded = np.pad(x.numpy(), ((0, 0), (0, 0), (pad, pad), (pad, pad)), mode="edge")
    first = pad - (size - scale) // 2
    for row, column in ((0, 0), (1, 2), (12 // scale - 1, 20 // scale - 1)):
        top, left = first + scale * row, first + scale * column
        expected = (padded[..., top : top + size, left : left + size] * mirrored).sum((2, 3))
        assert np.allclose(optics.blur_down(x, psf, scale)[..., row, column], expected, atol=1e-6)


def test_blur_down_with_a_box_is_average_pooling(x):
    box = torch.full((4, 4), 1 / 16)
    assert torch.allclose(optics.blur_down(x, box, 4), F.avg_pool2d(x, 4))


def test_blur_down_at_scale_one_is_blur(x):
    assert torch.equal(optics.blur_down(x, skewed(5), 1), optics.blur(x, skewed(5)))


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_neither_decimation_nor_enlargement_shifts_the_image(scale):
    height, width = 8 * scale, 10 * scale
    centres = torch.arange(width) + 0.5  # where the pixels lie, in fine pixels
    ramp = centres.expand(1, 1, height, width)
    coarse = optics.blur_down(ramp, optics.default_psf(scale), scale)
    assert torch.allclose(coarse[0, 0, 4, 2:-2], scale * (torch.arange(10) + 0.5)[2:-2], atol=1e-4)
    impulse = torch.zeros(1, 1, 8, 10)
    impulse[0, 0, 3, 6] = 1
    columns = optics.upsample(impulse, scale)[0, 0].sum(0)
    assert float((columns * centres).sum() / columns.sum()) == pytest.approx(scale * 6.5, abs=1e-4)


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_decimation_and_enlargement_treat_left_and_right_alike(scale):
    image = torch.rand(1, 2, 4 * scale, 6 * scale, generator=torch.Generator().manual_seed(9))
    for operator in (
        lambda a: optics.blur_down(a, optics.default_psf(scale), scale),
        lambda a: optics.upsample(a, scale),
    ):
        for axis in (2, 3):
            assert torch.allclose(operator(image.flip(axis)), operator(image).flip(axis), atol=1e-5)


def test_a_flat_image_stays_flat_up_to_its_border():
    flat = torch.full((1, 2, 8, 12), 0.37)
    for result in (
        optics.blur(flat, optics.gaussian_psf(3.0)),
        optics.blur_down(flat, optics.default_psf(4), 4),
        optics.upsample(flat, 3),
    ):
        assert torch.allclose(result, torch.full_like(result, 0.37), atol=1e-6)


def test_an_image_smaller_than_the_psf_is_no_problem():
    assert optics.blur_down(torch.rand(1, 2, 4, 4), optics.default_psf(4), 4).shape == (1, 2, 1, 1)


def test_upsample_by_hand():
    """Keys' cubic with a = −0.75 at distances 1.75, 1.25, 0.75 and 0.25 of a coarse pixel."""
    row = torch.tensor([0.0, 0.0, 1.0, 0.0, 0.0, 0.0]).expand(1, 1, 1, 6)
    right = [0.8789, 0.2617, -0.1055, -0.0352, 0.0]
    assert torch.allclose(optics.upsample(row, 2)[0, 0, 0, 5:10], torch.tensor(right), atol=1e-4)


def test_blur_down_errors(x):
    with pytest.raises(ValueError, match="`x` must be of a height and width that are multiples of 8, got 12×20"):
        optics.blur_down(x, optics.default_psf(8), 8)
    with pytest.raises(ValueError, match="`psf` must be of even size, as `scale` 4 is, got size 5"):
        optics.blur_down(x, skewed(5), 4)
    with pytest.raises(ValueError, match="`scale` must be a whole number ≥ 1, got 0"):
        optics.blur_down(x, skewed(4), 0)


@pytest.mark.parametrize("operator", [optics.blur, lambda x, psf: optics.blur_down(x, psf, 1)])
def test_psf_errors(x, operator):
    with pytest.raises(ValueError, match="`psf` must be a kernel that sums to 1, got a sum of 9"):
        operator(x, torch.ones(3, 3))
    with pytest.raises(ValueError, match=r"`psf` must be of shape \(k, k\), got shape \(3, 5\)"):
        operator(x, torch.full((3, 5), 1 / 15))
    with pytest.raises(ValueError, match="`psf` must be finite everywhere, got 9 NaN"):
        operator(x, torch.full((3, 3), math.nan))
    with pytest.raises(TypeError, match=r"`psf` must be a floating-point tensor \(k, k\), got ndarray"):
        operator(x, skewed(3).numpy())


def test_blur_and_upsample_errors(x):
    with pytest.raises(ValueError, match=r"`psf` must be of odd size .*got size 4"):
        optics.blur(x, skewed(4))
    with pytest.raises(ValueError, match=r"`x` must be of shape \(B, C, H, W\).*got shape \(7, 12, 20\)"):
        optics.upsample(x[0], 2)
    with pytest.raises(ValueError, match="`scale` must be a whole number ≥ 1, got 1.5"):
        optics.upsample(x, 1.5)


# --- noise ---


def test_noise_has_the_ratio_asked_for_in_every_band():
    levels = torch.tensor([0.01, 0.1, 1.0]).reshape(1, 3, 1, 1).expand(1, 3, 200, 200)
    noise = optics.add_noise(levels, 30.0, generator=torch.Generator().manual_seed(4)) - levels
    ratio_db = 10 * torch.log10(levels.square().mean((2, 3)) / noise.square().mean((2, 3)))
    assert torch.allclose(ratio_db, torch.tensor(30.0), atol=0.1)


def test_noise_comes_from_the_generator_alone(x):
    before = torch.get_rng_state()
    first, second, third = (optics.add_noise(x, 20, generator=torch.Generator().manual_seed(s)) for s in (5, 5, 6))
    assert torch.equal(first, second) and not torch.equal(first, third)
    assert torch.equal(before, torch.get_rng_state())


def test_noise_errors(x):
    with pytest.raises(ValueError, match="`snr_db` must be a finite number of decibels, got inf"):
        optics.add_noise(x, math.inf, generator=torch.Generator())


# --- transposes ---

OPERATORS = {
    "apply_srf": lambda x: responses.apply_srf(x, torch.softmax(torch.arange(6.0).reshape(2, 3), 1)),
    "blur": lambda x: optics.blur(x, skewed(3)),
    "blur_down": lambda x: optics.blur_down(x, skewed(6), 2),
    "upsample": lambda x: optics.upsample(x, 2),
    "down, then up": lambda x: optics.upsample(optics.blur_down(x, optics.default_psf(2), 2), 2),
}


@pytest.mark.parametrize("name", OPERATORS)
def test_the_transpose_equals_the_transposed_matrix(name):
    operator = OPERATORS[name]
    like = torch.zeros(1, 3, 4, 6, dtype=torch.float64)
    columns = torch.eye(like.numel(), dtype=torch.float64).reshape(-1, *like.shape[1:])
    matrix = operator(columns).flatten(1).T  # one column per fine pixel
    y = torch.randn(operator(like).shape, generator=torch.Generator().manual_seed(7), dtype=torch.float64)
    transposed = optics.adjoint(operator, like)(y)
    assert transposed.shape == like.shape
    assert torch.allclose(transposed.flatten(), matrix.T @ y.flatten())


@pytest.mark.parametrize("name", OPERATORS)
def test_operators_are_linear(name):
    generator = torch.Generator().manual_seed(8)
    a, b = torch.randn(2, 1, 3, 4, 6, generator=generator, dtype=torch.float64)
    operator = OPERATORS[name]
    assert torch.allclose(operator(2 * a - 3 * b), 2 * operator(a) - 3 * operator(b))
