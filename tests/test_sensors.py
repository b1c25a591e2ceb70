"""Sensors: hand values, published centre wavelengths, scipy as the oracle for blur, no shifts, transposes."""

import math

import numpy as np
import pytest
import scipy.ndimage
import torch
import torch.nn.functional as F

from ctmem import sensors

SHAPE = (2, 7, 12, 20)
CENTRES_NM = {  # ESA's published central wavelengths of Sentinel-2A
    "B01": 442.7, "B02": 492.4, "B03": 559.8, "B04": 664.6, "B05": 704.1, "B06": 740.5, "B07": 782.8,
    "B08": 832.8, "B8A": 864.7, "B09": 945.1, "B10": 1373.5, "B11": 1613.7, "B12": 2202.4,
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


# --- the shipped table ---


def test_table_has_the_thirteen_bands_in_order_at_steps_of_one_nanometre():
    table = sensors.load_rsr("sentinel2a")
    assert list(table) == list(CENTRES_NM)
    for wavelengths_nm, response in table.values():
        assert (np.diff(wavelengths_nm) == 1).all()
        assert response.min() >= 0 and response.max() == pytest.approx(1, abs=0.01)


@pytest.mark.parametrize("band", CENTRES_NM)
def test_table_agrees_with_the_published_centre_wavelengths(band):
    wavelengths_nm, response = sensors.load_rsr()[band]
    assert (wavelengths_nm * response).sum() / response.sum() == pytest.approx(CENTRES_NM[band], abs=0.15)


def test_unknown_sensor_lists_those_known():
    with pytest.raises(ValueError, match="`sensor` must be one of 'sentinel2a', got 'landsat'"):
        sensors.load_rsr("landsat")


def test_a_file_that_is_not_shipped():
    with pytest.raises(FileNotFoundError, match="`name` must be a file shipped in the data folder, got 'none.csv'"):
        sensors.data_path("none.csv")


# --- cells of the scene's bands ---


def test_cells_end_half_way_between_neighbours():
    lower, upper = sensors.band_edges([500, 510, 530])
    assert lower.tolist() == [492.5, 505, 520] and upper.tolist() == [505, 520, 537.5]  # median step 15


def test_cells_of_overlapping_spectrometers_share_the_overlap_and_count_nothing_twice():
    lower, upper = sensors.band_edges([400, 410, 420, 412, 422, 432])
    order = np.argsort(lower)
    assert (lower[order][1:] == upper[order][:-1]).all()
    assert (upper - lower).sum() == pytest.approx(upper.max() - lower.min())


def test_cells_do_not_reach_into_a_gap():
    lower, upper = sensors.band_edges([1340, 1350, 1410, 1420])
    assert upper[1] == 1355 and lower[2] == 1405


def test_a_wavelength_given_twice_is_shared():
    lower, upper = sensors.band_edges([500, 510, 510, 520])
    assert (upper - lower).tolist() == [10, 5, 5, 10]


# --- spectral responses ---


def test_srf_on_a_one_nanometre_scene_is_the_table_itself():
    scene_nm = np.arange(400.0, 1001.0)
    srf = sensors.srf_matrix(scene_nm, bands=("B03", "B08"))
    for row, band in zip(srf, ("B03", "B08")):
        wavelengths_nm, response = sensors.load_rsr()[band]
        expected = np.zeros(601)
        expected[(wavelengths_nm - 400).astype(int)] = response / response.sum()
        assert np.allclose(row, expected, atol=1e-7)


def test_srf_rows_sum_to_one_and_keep_a_flat_spectrum(x):
    srf = sensors.srf_matrix(np.linspace(430, 950, 7))
    assert srf.shape == (4, 7) and torch.allclose(srf.sum(1), torch.ones(4))
    flat = torch.full(SHAPE, 0.3)
    assert torch.allclose(sensors.apply_srf(flat, srf), torch.full((2, 4, 12, 20), 0.3))


@pytest.mark.parametrize("step_nm, tolerance_nm", [(5, 0.5), (10, 1.0)])
def test_srf_sees_a_sloping_spectrum_at_the_published_centre(step_nm, tolerance_nm):
    scene_nm = np.arange(400.0, 1000.0, step_nm)
    seen = sensors.srf_matrix(scene_nm).double() @ torch.from_numpy(scene_nm)
    expected = torch.tensor([CENTRES_NM[band] for band in ("B02", "B03", "B04", "B08")])
    assert (seen - expected).abs().max() < tolerance_nm


def test_srf_follows_the_order_of_the_bands():
    scene_nm = np.linspace(430, 950, 60)
    order = np.random.default_rng(2).permutation(60)
    assert torch.allclose(sensors.srf_matrix(scene_nm[order]), sensors.srf_matrix(scene_nm)[:, order], atol=1e-7)


def test_srf_of_a_narrow_band_inside_one_wide_scene_band():
    srf = sensors.srf_matrix([450, 550, 650, 750], bands=("B04",))
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
        sensors.srf_matrix(scene_nm, bands=bands)


def test_srf_refuses_an_unknown_band_and_no_band():
    with pytest.raises(ValueError, match="`bands` must be one of 'B01', .*'B12', got 'B2'"):
        sensors.srf_matrix([400, 500], bands=("B2",))
    with pytest.raises(ValueError, match=r"`bands` must be at least one band of the sensor, got \(\)"):
        sensors.srf_matrix([400, 500], bands=())


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
        sensors.srf_matrix(wavelengths_nm)


def test_box_cuts_cells_in_proportion():
    srf = sensors.box_srf([500, 510, 520], [(500, 520)])  # cells 495–505, 505–515, 515–525
    assert torch.allclose(srf, torch.tensor([[0.25, 0.5, 0.25]]))


def test_box_errors():
    with pytest.raises(ValueError, match=r"`edges_nm` must be pairs \(low, high\) with low < high, got \(520, 500\)"):
        sensors.box_srf([500, 510], [(520, 500)])
    with pytest.raises(ValueError, match=r"got box at 480–505 nm, 60\.0 % of it outside or in a gap of 495–515 nm"):
        sensors.box_srf([500, 510], [(480, 505)])
    with pytest.raises(ValueError, match=r"`edges_nm` must be at least one pair \(low, high\), got \[\]"):
        sensors.box_srf([500, 510], [])


def test_apply_srf_by_hand():
    pixel = torch.tensor([1.0, 2.0, 4.0]).reshape(1, 3, 1, 1)
    srf = torch.tensor([[0.5, 0.5, 0.0], [0.0, 0.25, 0.75]])
    assert sensors.apply_srf(pixel, srf).flatten().tolist() == [1.5, 3.5]


def test_apply_srf_mixes_bands_and_nothing_else(x):
    srf = torch.softmax(torch.arange(21.0).reshape(3, 7), 1)
    seen = sensors.apply_srf(x, srf)
    assert seen.shape == (2, 3, 12, 20)
    assert torch.allclose(seen[1, :, 5, 11], srf @ x[1, :, 5, 11])


def test_apply_srf_errors(x):
    with pytest.raises(ValueError, match="`srf` must be a matrix whose rows sum to 1, got a row 1 that sums to 0.5"):
        sensors.apply_srf(x, torch.stack([torch.full((7,), 1 / 7), torch.full((7,), 0.5 / 7)]))
    with pytest.raises(ValueError, match="`srf` must be of 7 columns, one per band of the image, got 6 columns"):
        sensors.apply_srf(x, torch.full((1, 6), 1 / 6))
    with pytest.raises(TypeError, match="`x` must be a floating-point tensor"):
        sensors.apply_srf(x.numpy(), torch.full((1, 7), 1 / 7))


# --- point spread functions ---


@pytest.mark.parametrize("fwhm_px, half", [(4.0, 2), (6.0, 3)])
def test_gaussian_falls_to_half_at_half_its_width(fwhm_px, half):
    psf = sensors.gaussian_psf(fwhm_px, size=15)
    assert float(psf[7, 7 + half] / psf[7, 7]) == pytest.approx(0.5, abs=1e-6)
    assert float(psf[7 - half, 7] / psf[7, 7]) == pytest.approx(0.5, abs=1e-6)


def test_gaussian_of_two_widths_is_rows_then_columns():
    psf = sensors.gaussian_psf((2.0, 6.0), size=15)
    assert float(psf[8, 7] / psf[7, 7]) == pytest.approx(0.5) and float(psf[7, 10] / psf[7, 7]) == pytest.approx(0.5)


@pytest.mark.parametrize("scale, size", [(1, 3), (2, 6), (3, 9), (4, 12)])
def test_the_default_psf(scale, size):
    psf = sensors.default_psf(scale)
    assert psf.shape == (size, size) and psf.dtype == torch.float32
    assert float(psf.sum()) == pytest.approx(1) and torch.equal(psf, psf.flip(0, 1)) and torch.equal(psf, psf.T)
    assert torch.equal(psf, sensors.gaussian_psf(float(scale), scale=scale))


def test_default_sizes_take_the_parity_of_the_scale():
    assert [sensors.gaussian_psf(2.5, scale=scale).shape[0] for scale in (None, 1, 2)] == [9, 9, 8]


def test_gaussian_errors():
    with pytest.raises(ValueError, match="`fwhm_px` must be a positive number of pixels or a pair of them, got 0"):
        sensors.gaussian_psf(0)
    with pytest.raises(ValueError, match="`size` must be even, as `scale` 4 is, got 9"):
        sensors.gaussian_psf(3, size=9, scale=4)
    with pytest.raises(ValueError, match="`size` must be a whole number ≥ 1, got 0"):
        sensors.gaussian_psf(3, size=0)
    with pytest.raises(ValueError, match="`scale` must be a whole number ≥ 1, got 2.0"):
        sensors.default_psf(2.0)


# --- blur and decimation ---


def test_an_impulse_becomes_the_psf_and_not_its_mirror_image():
    image = torch.zeros(1, 1, 7, 9)
    image[0, 0, 3, 4] = 1
    assert torch.allclose(sensors.blur(image, skewed(3))[0, 0, 2:5, 3:6], skewed(3))


@pytest.mark.parametrize("size", [1, 3, 5])
def test_blur_equals_scipy(x, size):
    expected = [
        [scipy.ndimage.convolve(band.numpy(), skewed(size).numpy(), mode="nearest") for band in image] for image in x
    ]
    assert np.allclose(sensors.blur(x, skewed(size)), expected, atol=1e-6)


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
        assert np.allclose(sensors.blur_down(x, psf, scale)[..., row, column], expected, atol=1e-6)


def test_blur_down_with_a_box_is_average_pooling(x):
    box = torch.full((4, 4), 1 / 16)
    assert torch.allclose(sensors.blur_down(x, box, 4), F.avg_pool2d(x, 4))


def test_blur_down_at_scale_one_is_blur(x):
    assert torch.equal(sensors.blur_down(x, skewed(5), 1), sensors.blur(x, skewed(5)))


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_neither_decimation_nor_enlargement_shifts_the_image(scale):
    height, width = 8 * scale, 10 * scale
    centres = torch.arange(width) + 0.5  # where the pixels lie, in fine pixels
    ramp = centres.expand(1, 1, height, width)
    coarse = sensors.blur_down(ramp, sensors.default_psf(scale), scale)
    assert torch.allclose(coarse[0, 0, 4, 2:-2], scale * (torch.arange(10) + 0.5)[2:-2], atol=1e-4)
    impulse = torch.zeros(1, 1, 8, 10)
    impulse[0, 0, 3, 6] = 1
    columns = sensors.upsample(impulse, scale)[0, 0].sum(0)
    assert float((columns * centres).sum() / columns.sum()) == pytest.approx(scale * 6.5, abs=1e-4)


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_decimation_and_enlargement_treat_left_and_right_alike(scale):
    image = torch.rand(1, 2, 4 * scale, 6 * scale, generator=torch.Generator().manual_seed(9))
    for operator in (
        lambda a: sensors.blur_down(a, sensors.default_psf(scale), scale),
        lambda a: sensors.upsample(a, scale),
    ):
        for axis in (2, 3):
            assert torch.allclose(operator(image.flip(axis)), operator(image).flip(axis), atol=1e-5)


def test_a_flat_image_stays_flat_up_to_its_border():
    flat = torch.full((1, 2, 8, 12), 0.37)
    for result in (
        sensors.blur(flat, sensors.gaussian_psf(3.0)),
        sensors.blur_down(flat, sensors.default_psf(4), 4),
        sensors.upsample(flat, 3),
    ):
        assert torch.allclose(result, torch.full_like(result, 0.37), atol=1e-6)


def test_an_image_smaller_than_the_psf_is_no_problem():
    assert sensors.blur_down(torch.rand(1, 2, 4, 4), sensors.default_psf(4), 4).shape == (1, 2, 1, 1)


def test_upsample_by_hand():
    """Keys' cubic with a = −0.75 at distances 1.75, 1.25, 0.75 and 0.25 of a coarse pixel."""
    row = torch.tensor([0.0, 0.0, 1.0, 0.0, 0.0, 0.0]).expand(1, 1, 1, 6)
    right = [0.8789, 0.2617, -0.1055, -0.0352, 0.0]
    assert torch.allclose(sensors.upsample(row, 2)[0, 0, 0, 5:10], torch.tensor(right), atol=1e-4)


def test_blur_down_errors(x):
    with pytest.raises(ValueError, match="`x` must be of a height and width that are multiples of 8, got 12×20"):
        sensors.blur_down(x, sensors.default_psf(8), 8)
    with pytest.raises(ValueError, match="`psf` must be of even size, as `scale` 4 is, got size 5"):
        sensors.blur_down(x, skewed(5), 4)
    with pytest.raises(ValueError, match="`scale` must be a whole number ≥ 1, got 0"):
        sensors.blur_down(x, skewed(4), 0)


@pytest.mark.parametrize("operator", [sensors.blur, lambda x, psf: sensors.blur_down(x, psf, 1)])
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
        sensors.blur(x, skewed(4))
    with pytest.raises(ValueError, match=r"`x` must be of shape \(B, C, H, W\).*got shape \(7, 12, 20\)"):
        sensors.upsample(x[0], 2)
    with pytest.raises(ValueError, match="`scale` must be a whole number ≥ 1, got 1.5"):
        sensors.upsample(x, 1.5)


# --- noise ---


def test_noise_has_the_ratio_asked_for_in_every_band():
    levels = torch.tensor([0.01, 0.1, 1.0]).reshape(1, 3, 1, 1).expand(1, 3, 200, 200)
    noise = sensors.add_noise(levels, 30.0, generator=torch.Generator().manual_seed(4)) - levels
    ratio_db = 10 * torch.log10(levels.square().mean((2, 3)) / noise.square().mean((2, 3)))
    assert torch.allclose(ratio_db, torch.tensor(30.0), atol=0.1)


def test_noise_comes_from_the_generator_alone(x):
    before = torch.get_rng_state()
    first, second, third = (sensors.add_noise(x, 20, generator=torch.Generator().manual_seed(s)) for s in (5, 5, 6))
    assert torch.equal(first, second) and not torch.equal(first, third)
    assert torch.equal(before, torch.get_rng_state())


def test_noise_errors(x):
    with pytest.raises(ValueError, match="`snr_db` must be a finite number of decibels, got inf"):
        sensors.add_noise(x, math.inf, generator=torch.Generator())


# --- transposes ---

OPERATORS = {
    "apply_srf": lambda x: sensors.apply_srf(x, torch.softmax(torch.arange(6.0).reshape(2, 3), 1)),
    "blur": lambda x: sensors.blur(x, skewed(3)),
    "blur_down": lambda x: sensors.blur_down(x, skewed(6), 2),
    "upsample": lambda x: sensors.upsample(x, 2),
    "down, then up": lambda x: sensors.upsample(sensors.blur_down(x, sensors.default_psf(2), 2), 2),
}


@pytest.mark.parametrize("name", OPERATORS)
def test_the_transpose_equals_the_transposed_matrix(name):
    operator = OPERATORS[name]
    like = torch.zeros(1, 3, 4, 6, dtype=torch.float64)
    columns = torch.eye(like.numel(), dtype=torch.float64).reshape(-1, *like.shape[1:])
    matrix = operator(columns).flatten(1).T  # one column per fine pixel
    y = torch.randn(operator(like).shape, generator=torch.Generator().manual_seed(7), dtype=torch.float64)
    transposed = sensors.adjoint(operator, like)(y)
    assert transposed.shape == like.shape
    assert torch.allclose(transposed.flatten(), matrix.T @ y.flatten())


@pytest.mark.parametrize("name", OPERATORS)
def test_operators_are_linear(name):
    generator = torch.Generator().manual_seed(8)
    a, b = torch.randn(2, 1, 3, 4, 6, generator=generator, dtype=torch.float64)
    operator = OPERATORS[name]
    assert torch.allclose(operator(2 * a - 3 * b), 2 * operator(a) - 3 * operator(b))
