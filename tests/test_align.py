"""Levels of the bands and sharpness, by hand values and against other code."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ctmem.match import align
from ctmem.observe.camera import Camera
from ctmem.observe.optics import blur, gaussian_psf


def random(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def soften(x: torch.Tensor) -> torch.Tensor:
    return blur(x, gaussian_psf(3.0))


def test_gradient_magnitude_of_a_ramp():
    rows, columns = torch.meshgrid(torch.arange(6.0), torch.arange(9.0), indexing="ij")
    ramp = (3 * rows + 4 * columns)[None, None]
    assert torch.allclose(align.gradient_magnitude(ramp)[0, 0, 1:-1, 1:-1], torch.tensor(5.0))
    assert torch.allclose(align.gradient_magnitude(torch.ones(1, 2, 4, 4)), torch.tensor(1e-3))


def test_gradient_magnitude_of_a_parabola_by_central_differences():
    """(x + 1)² − (x − 1)² = 4x, half of it is the slope 2x itself; at the border half of one step."""
    rows, columns = torch.meshgrid(torch.arange(6.0), torch.arange(9.0), indexing="ij")
    found = align.gradient_magnitude((rows**2 + 3 * columns**2)[None, None])[0, 0]
    down, across = 2 * rows, 6 * columns
    down[0], down[-1] = 0.5, (25 - 16) / 2
    across[:, 0], across[:, -1] = 1.5, 3 * (64 - 49) / 2
    assert torch.allclose(found, (down**2 + across**2 + 1e-6).sqrt())


def test_radiometry_gives_mean_and_deviation_of_the_query():
    query, reference = 0.2 * random(2, 4, 12, 20) + 0.4, random(1, 4, 31, 17, seed=1)
    reference[:, 2] = 0.5  # a constant band: only its mean can be moved
    moved = align.match_radiometry(reference, query)
    assert moved.shape == (2, 4, 31, 17)
    assert torch.allclose(moved.mean((2, 3)), query.mean((2, 3)), atol=1e-5)
    bands = [0, 1, 3]
    deviations = (x[:, bands].std((2, 3), correction=0) for x in (moved, query))
    assert torch.allclose(*deviations, atol=1e-5)
    assert (moved[:, 2].std((1, 2)) < 1e-5).all()


def test_radiometry_passes_over_holes():
    query, reference = random(1, 3, 12, 20), random(1, 3, 8, 9, seed=1)
    reference[0, :, 0, :4] = torch.nan
    reference[0, :, 1, 1] = torch.inf
    moved = align.match_radiometry(reference, query)
    finite = torch.isfinite(moved[0, 0])
    assert finite.sum() == 72 - 5
    values = moved[0][:, finite]
    assert torch.allclose(values.mean(1), query[0].mean((1, 2)), atol=1e-5)
    assert torch.allclose(values.std(1, correction=0), query[0].std((1, 2), correction=0), atol=1e-5)


def test_standard_bands_have_mean_0_and_deviation_1():
    image = random(2, 4, 12, 20, dtype=torch.float64) * torch.tensor([1.0, 3.0, 0.1, 0.0])[:, None, None] + 0.3
    gain, offset = align.to_standard(image)
    standard = (gain * image + offset).numpy()
    assert gain.shape == offset.shape == (2, 4, 1, 1)
    assert np.allclose(standard.mean((2, 3)), 0)
    assert np.allclose(standard.std((2, 3)), [1, 1, 1, 0])
    assert (gain[:, 3] == 1).all()


def test_no_step_of_sharpening_changes_nothing():
    image = random(1, 3, 20, 24)
    assert torch.equal(align.sharpen(image, soften, 0), image)


def test_a_step_of_sharpening_by_hand():
    image = torch.zeros(1, 1, 1, 3)
    image[..., 1] = 1.0
    halve = lambda x: x / 2  # noqa: E731
    assert align.sharpen(image, halve, 1)[0, 0, 0].tolist() == [0, 1.5, 0]  # 1 + 1 − 1/2
    assert align.sharpen(image, halve, 2)[0, 0, 0].tolist() == [0, 1.75, 0]  # 1.5 + 1 − 0.75


def test_sharpening_is_a_step_back_from_a_blur():
    sharp = random(1, 3, 24, 31, dtype=torch.float64)
    k = lambda x: blur(x, gaussian_psf(3.0).double())  # noqa: E731
    blurry = k(sharp)
    left = [(align.sharpen(blurry, k, steps) - sharp).norm() for steps in (0, 1, 3, 10)]
    assert left == sorted(left, reverse=True)
    back = [(k(align.sharpen(blurry, k, steps)) - blurry).norm() for steps in (0, 1, 3, 10)]
    assert back == sorted(back, reverse=True)
    assert back[-1] < 0.2 * back[0]


def test_sharpening_is_linear_and_keeps_levels():
    one, other = random(1, 3, 24, 31, dtype=torch.float64), random(1, 3, 24, 31, seed=1, dtype=torch.float64)
    k = lambda x: blur(x, gaussian_psf(3.0).double())  # noqa: E731
    apart = 0.3 * align.sharpen(one, k, 3) - 2 * align.sharpen(other, k, 3) + 0.7
    assert torch.allclose(align.sharpen(0.3 * one - 2 * other + 0.7, k, 3), apart)


@pytest.mark.parametrize(("scale", "size"), [(2, (24, 38)), (4, (32, 52)), (3, (27, 45))])
def test_sharpening_by_a_blur_to_coarse_pixels_and_back_is_back_projection(scale, size):
    camera = Camera.gaussian(scale=scale)
    lr_hsi = camera.observe(random(2, 3, *size, dtype=torch.float64))
    for steps in (1, 3):
        wanted = camera.back_project(camera.upsample(lr_hsi), lr_hsi, steps=steps)
        assert torch.allclose(align.sharpen(camera.upsample(lr_hsi), camera.blur, steps), wanted, atol=1e-12)


@pytest.mark.parametrize("sharpening", [0, 3])
def test_prepared_references_keep_their_own_contrast_between_sharp_and_blurred(sharpening):
    reference = 0.1 * random(2, 4, 24, 31) + 0.5
    sharp, blurred = align.prepare_reference(reference, soften, sharpening=sharpening)
    plain, low = align.prepare_reference(reference, soften, radiometry=False, sharpening=sharpening)
    assert torch.equal(plain, reference)
    assert torch.allclose(low, align.sharpen(soften(reference), soften, sharpening), atol=1e-6)
    assert torch.allclose(blurred.mean((2, 3)), torch.zeros(2, 4), atol=1e-4)
    assert torch.allclose(blurred.std((2, 3), correction=0), torch.ones(2, 4), atol=1e-4)
    deviation = low.std((2, 3), correction=0, keepdim=True)
    assert torch.allclose(sharp - blurred, (plain - low) / deviation, atol=1e-4)


@pytest.mark.parametrize("radiometry", [False, True])
def test_prepared_holes_are_nan_one_pixel_wider_and_only_in_the_blurred(radiometry):
    reference = random(2, 4, 24, 31)
    reference[0, 2, 5, 7] = torch.nan
    reference[1, :, :, 30] = torch.inf
    sharp, blurred = align.prepare_reference(reference, soften, radiometry=radiometry, sharpening=2)
    assert torch.isfinite(sharp).all()
    wanted = torch.zeros(2, 4, 24, 31, dtype=torch.bool)
    wanted[0, :, 4:7, 6:9] = True
    wanted[1, :, :, 29:] = True
    assert torch.equal(blurred.isnan(), wanted)
    assert torch.isfinite(blurred[~wanted]).all()


def test_a_prepared_reference_has_no_gradient_of_the_kernel():
    weight = torch.ones(1, requires_grad=True)
    assert not any(
        x.requires_grad for x in align.prepare_reference(random(1, 4, 9, 8), lambda x: weight * x, sharpening=1)
    )


@pytest.mark.parametrize("sharpening", [0, 2])
@pytest.mark.parametrize("radiometry", [False, True])
def test_a_prepared_query_is_sharper_and_of_mean_0_and_deviation_1(radiometry, sharpening):
    image = 0.1 * random(2, 4, 24, 31) + 0.5
    query, gain, offset = align.prepare_query(image, soften, radiometry=radiometry, sharpening=sharpening)
    sharper = align.sharpen(image, soften, sharpening)
    assert gain.shape == offset.shape == (2, 4, 1, 1)
    assert torch.allclose(query, gain * sharper + offset, atol=1e-6)
    if radiometry:
        assert torch.allclose(query.mean((2, 3)), torch.zeros(2, 4), atol=1e-4)
        assert torch.allclose(query.std((2, 3), correction=0), torch.ones(2, 4), atol=1e-4)
    else:
        assert torch.equal(query, sharper) and (gain == 1).all() and (offset == 0).all()


def test_a_prepared_query_has_no_gradient_of_the_kernel():
    weight = torch.ones(1, requires_grad=True)
    assert not any(x.requires_grad for x in align.prepare_query(random(1, 4, 9, 8), lambda x: weight * x, sharpening=1))


def test_the_way_back_to_the_querys_units():
    """soft and hard are images; gradient and difference are differences, and have no offset."""
    image, other = 0.1 * random(2, 4, 24, 31) + 0.5, random(2, 4, 24, 31, seed=1)
    query, gain, offset = align.prepare_query(image, soften, sharpening=1)
    prepared = align.Prepared(query, other, soften(other), gain, offset)
    assert torch.allclose(prepared.query_in_units, align.sharpen(image, soften, 1), atol=1e-5)
    seen = [gain * other + offset, gain * image + offset, gain * other, gain * (image - other)]
    wanted = torch.cat([other, image, other, image - other], 1)
    assert torch.allclose(prepared.to_units(torch.cat(seen, 1)), wanted, atol=1e-5)


OK = random(1, 4, 16, 16)
NAN = torch.full_like(OK, torch.nan)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: align.gradient_magnitude(NAN), "`x` must be finite everywhere"),
        (lambda: align.gradient_magnitude(OK[0]), "`x` must be of shape (B, C, H, W)"),
        (lambda: align.prepare_reference(OK[0], soften), "`ref_msi` must be of shape (B, C, H, W)"),
        (lambda: align.prepare_reference(NAN, soften), "`ref_msi` must be finite in at least one pixel"),
        (lambda: align.prepare_query(OK[0], soften), "`query` must be of shape (B, C, H, W)"),
        (lambda: align.prepare_query(NAN, soften), "`query` must be finite everywhere"),
        (lambda: align.match_radiometry(OK[:, :3], OK), "`reference` must be of 4 band(s)"),
        (lambda: align.match_radiometry(OK, OK[0]), "`query` must be of shape (B, C, H, W)"),
        (lambda: align.match_radiometry(OK, NAN), "`query` must be finite everywhere"),
        (
            lambda: align.match_radiometry(OK.repeat(2, 1, 1, 1), OK),
            "`reference` must be one image, or one for each of 1 queries, got 2",
        ),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError) as error:
        call()
    assert message in str(error.value)


@pytest.mark.parametrize(
    "call",
    [
        lambda: align.gradient_magnitude(OK.int()),
        lambda: align.prepare_reference(OK.int(), soften),
        lambda: align.prepare_query(OK.bool(), soften),
        lambda: align.match_radiometry(OK.int(), OK),
    ],
)
def test_no_floating_point_tensor(call):
    with pytest.raises(TypeError, match="must be a floating-point tensor"):
        call()


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_blur_that_makes_values_that_are_not_finite(value):
    """K comes from outside: what it makes of a finite query is read, too."""
    with pytest.raises(ValueError, match="`blur` must be a function that keeps finite images finite"):
        align.prepare_query(torch.rand(1, 4, 8, 8), lambda x: torch.full_like(x, value), sharpening=1)
