"""Optics: scipy as the oracle for blur, hand values, no shifts, noise, transposes."""

import math

import numpy as np
import pytest
import scipy.ndimage
import torch
import torch.nn.functional as F

from ctmem.observe import optics, responses

SHAPE = (2, 7, 12, 20)


@pytest.fixture
def x():
    """An image batch whose bands all differ."""
    generator = torch.Generator().manual_seed(1)
    return torch.rand(SHAPE, generator=generator) * torch.linspace(0.1, 1, 7).reshape(1, 7, 1, 1)


def usual_psf(scale):
    """The blur that most of this package is measured with: FWHM one coarse pixel."""
    return optics.gaussian_psf(float(scale), scale=scale)


def skewed(size):
    """A psf without any symmetry, so that a mirrored or shifted convolution shows."""
    psf = torch.arange(1.0, size * size + 1).reshape(size, size) ** 2
    return psf / psf.sum()


# --- point spread functions ---


@pytest.mark.parametrize(("fwhm_px", "half"), [(4.0, 2), (6.0, 3)])
def test_gaussian_falls_to_half_at_half_its_width(fwhm_px, half):
    psf = optics.gaussian_psf(fwhm_px, size=15)
    assert float(psf[7, 7 + half] / psf[7, 7]) == pytest.approx(0.5, abs=1e-6)
    assert float(psf[7 - half, 7] / psf[7, 7]) == pytest.approx(0.5, abs=1e-6)


def test_gaussian_of_two_widths_is_rows_then_columns():
    psf = optics.gaussian_psf((2.0, 6.0), size=15)
    assert float(psf[8, 7] / psf[7, 7]) == pytest.approx(0.5) and float(psf[7, 10] / psf[7, 7]) == pytest.approx(0.5)


@pytest.mark.parametrize(("scale", "size"), [(1, 3), (2, 6), (3, 9), (4, 12)])
def test_the_psf_of_one_coarse_pixel(scale, size):
    psf = usual_psf(scale)
    assert psf.shape == (size, size) and psf.dtype == torch.float32
    assert float(psf.sum()) == pytest.approx(1) and torch.equal(psf, psf.flip(0, 1)) and torch.equal(psf, psf.T)


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
        optics.gaussian_psf(3, scale=2.0)


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


@pytest.mark.parametrize(("scale", "size"), [(4, 12), (4, 4), (4, 2), (2, 6), (2, 8), (1, 3)])
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
    coarse = optics.blur_down(ramp, usual_psf(scale), scale)
    assert torch.allclose(coarse[0, 0, 4, 2:-2], scale * (torch.arange(10) + 0.5)[2:-2], atol=1e-4)
    impulse = torch.zeros(1, 1, 8, 10)
    impulse[0, 0, 3, 6] = 1
    columns = optics.upsample(impulse, scale)[0, 0].sum(0)
    assert float((columns * centres).sum() / columns.sum()) == pytest.approx(scale * 6.5, abs=1e-4)


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_decimation_and_enlargement_treat_left_and_right_alike(scale):
    image = torch.rand(1, 2, 4 * scale, 6 * scale, generator=torch.Generator().manual_seed(9))
    for operator in (
        lambda a: optics.blur_down(a, usual_psf(scale), scale),
        lambda a: optics.upsample(a, scale),
    ):
        for axis in (2, 3):
            assert torch.allclose(operator(image.flip(axis)), operator(image).flip(axis), atol=1e-5)


def test_a_flat_image_stays_flat_up_to_its_border():
    flat = torch.full((1, 2, 8, 12), 0.37)
    for result in (
        optics.blur(flat, optics.gaussian_psf(3.0)),
        optics.blur_down(flat, usual_psf(4), 4),
        optics.upsample(flat, 3),
    ):
        assert torch.allclose(result, torch.full_like(result, 0.37), atol=1e-6)


def test_an_image_smaller_than_the_psf_is_no_problem():
    assert optics.blur_down(torch.rand(1, 2, 4, 4), usual_psf(4), 4).shape == (1, 2, 1, 1)


@pytest.mark.parametrize(("scale", "size"), [(4, 12), (4, 4), (2, 6), (3, 9), (1, 3)])
def test_blur_on_the_grid_is_down_and_up_again_with_whole_coarse_pixels(x, scale, size):
    """The last rows and columns are repeated until the last coarse pixel is whole."""
    psf, image = skewed(size), x[..., :11, :17]
    whole = torch.cat([image, *[image[..., -1:, :]] * (-11 % scale)], 2)
    whole = torch.cat([whole, *[whole[..., -1:]] * (-17 % scale)], 3)
    expected = optics.upsample(optics.blur_down(whole, psf, scale), scale)[..., :11, :17]
    assert torch.allclose(optics.blur_on_grid(image, psf, scale), expected, atol=1e-6)


def test_upsample_by_hand():
    """Keys' cubic with a = −0.75 at distances 1.75, 1.25, 0.75 and 0.25 of a coarse pixel."""
    row = torch.tensor([0.0, 0.0, 1.0, 0.0, 0.0, 0.0]).expand(1, 1, 1, 6)
    right = [0.8789, 0.2617, -0.1055, -0.0352, 0.0]
    assert torch.allclose(optics.upsample(row, 2)[0, 0, 0, 5:10], torch.tensor(right), atol=1e-4)


def test_blur_down_errors(x):
    with pytest.raises(ValueError, match="`x` must be of a height and width that are multiples of 8, got 12×20"):
        optics.blur_down(x, usual_psf(8), 8)
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
    with pytest.raises(TypeError, match=r"`psf` must be a floating-point tensor \(k, k\), got a int64 array"):
        operator(x, np.ones((3, 3), dtype=int))
    with pytest.raises(TypeError, match=r"`psf` must be a floating-point tensor \(k, k\), got list"):
        operator(x, skewed(3).tolist())


@pytest.mark.parametrize("operator", [optics.blur, lambda x, psf: optics.blur_down(x, psf, 1)])
def test_arrays_are_as_good_as_tensors(x, operator):
    assert torch.equal(operator(x.numpy(), skewed(3).numpy()), operator(x, skewed(3)))


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


def test_noise_is_the_same_in_single_and_double_precision(x):
    single, double = (optics.add_noise(y, 20, generator=torch.Generator().manual_seed(5)) for y in (x, x.double()))
    assert double.dtype == torch.float64 and torch.allclose(single.double(), double, atol=1e-6)


def test_noise_errors(x):
    with pytest.raises(ValueError, match="`snr_db` must be a finite number of decibels, got inf"):
        optics.add_noise(x, math.inf, generator=torch.Generator())


# --- transposes ---

OPERATORS = {
    "apply_srf": lambda x: responses.apply_srf(x, torch.softmax(torch.arange(6.0).reshape(2, 3), 1)),
    "blur": lambda x: optics.blur(x, skewed(3)),
    "blur_down": lambda x: optics.blur_down(x, skewed(6), 2),
    "upsample": lambda x: optics.upsample(x, 2),
    "down, then up": lambda x: optics.upsample(optics.blur_down(x, usual_psf(2), 2), 2),
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
