"""The camera: what it records, transposes, what is known about it, that it survives JSON, and every complaint."""

import dataclasses
import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ctmem.config import CameraConfig
from ctmem.data.scenes import load_scene, synthetic
from ctmem.model import load_model
from ctmem.observe.camera import Camera
from ctmem.observe.optics import add_noise, blur_down, blur_on_grid, gaussian_psf, upsample
from ctmem.observe.responses import SENSORS, apply_srf, load_rsr, srf_matrix

SHAPE = (2, 7, 12, 20)
SRF = torch.tensor([[0.5, 0.5, 0, 0, 0, 0, 0], [0, 0, 0, 0.25, 0, 0, 0.75]])
USUAL = Camera.gaussian(scale=4, srf=SRF)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def scene():
    return torch.rand(SHAPE, generator=seeded())


def skewed(size):
    """A psf without any symmetry."""
    psf = torch.arange(1.0, size * size + 1).reshape(size, size) ** 2
    return psf / psf.sum()


# --- how one is made ---


@pytest.mark.parametrize("scale", [1, 2, 3, 4, 8])
def test_the_usual_camera_blurs_by_one_coarse_pixel(scale):
    camera = Camera.gaussian(scale=scale)
    assert torch.equal(camera.psf, gaussian_psf(float(scale), scale=scale))
    assert (camera.scale, camera.srf, camera.sensor, camera.snr_db) == (scale, None, "sentinel2a", None)
    assert camera.halo == scale
    if scale > 1:  # on three pixels a Gaussian is hardly one
        assert camera.fwhm_px == pytest.approx((scale, scale), rel=0.02)


def test_a_gaussian_of_two_widths_with_all_that_belongs_to_it():
    camera = Camera.gaussian((3.0, 6.0), 2, srf=SRF, sensor="landsat8", snr_db=30, bands=("B2", "B3"))
    assert torch.equal(camera.psf, gaussian_psf((3.0, 6.0), scale=2)) and torch.equal(camera.srf, SRF)
    assert (camera.scale, camera.sensor, camera.snr_db, camera.bands) == (2, "landsat8", 30, ("B2", "B3"))


def test_from_the_settings_of_a_preset():
    assert Camera.from_config(CameraConfig()).to_dict() == Camera.gaussian(scale=4).to_dict()
    config = CameraConfig(scale=3, fwhm_px=5.0, sensor="landsat9", bands=("B4",), snr_db=25)
    wanted = Camera.gaussian(5.0, 3, sensor="landsat9", bands=("B4",), snr_db=25)
    assert Camera.from_config(config).to_dict() == wanted.to_dict()


@pytest.mark.parametrize("sensor", SENSORS)
def test_for_wavelengths_gives_the_sensors_response(sensor):
    nm = np.arange(400.0, 1001, 5)
    camera = Camera.gaussian(6.0, sensor=sensor, snr_db=30)
    told = camera.for_wavelengths(nm)
    assert camera.srf is None and torch.equal(told.srf, srf_matrix(nm, sensor=sensor))
    assert told.same_optics(camera) and (told.sensor, told.snr_db, told.scale) == (sensor, 30, 4)
    one = SENSORS[sensor][1:2]
    told = Camera.gaussian(sensor=sensor, bands=one).for_wavelengths(nm)
    assert torch.equal(told.srf, srf_matrix(nm, sensor=sensor, bands=one)) and told.msi_channels == 1


def test_it_cannot_be_changed_and_another_one_can_be_made_of_it():
    with pytest.raises(dataclasses.FrozenInstanceError):
        USUAL.scale = 8
    noisy = replace(USUAL, snr_db=25)
    assert noisy.snr_db == 25 and USUAL.snr_db is None
    assert torch.equal(noisy.psf, USUAL.psf) and torch.equal(noisy.srf, USUAL.srf)


def test_arrays_of_any_precision_are_as_good_as_tensors():
    assert Camera(USUAL.psf.numpy(), 4, srf=SRF.double().numpy()).to_dict() == replace(USUAL, sensor=None).to_dict()
    half = Camera(torch.full((4, 4), 1 / 16).half(), np.int64(4))
    assert half.psf.dtype == torch.float32 and half.observe(torch.ones(1, 1, 8, 4)).flatten().tolist() == [1, 1]


def test_the_shipped_weights_tell_their_camera():
    camera = load_model("tiny").camera
    assert camera.srf is None and camera.scale == 4 and camera.same_optics(Camera.gaussian(scale=4))
    assert camera.for_wavelengths(load_scene("indian_pines").wavelengths_nm).srf.shape[0] == camera.msi_channels == 4


# --- what it does to a scene ---


@pytest.mark.parametrize(("scale", "size"), [(4, 12), (4, 4), (4, 2), (2, 6), (1, 3)])
def test_what_is_observed_is_blurred_and_decimated(scene, scale, size):
    camera = Camera(skewed(size), scale)
    assert torch.equal(camera.observe(scene), blur_down(scene, skewed(size), scale))
    assert torch.equal(camera.observe(scene), camera.downsample(scene))


def test_noise_is_added_to_what_is_observed_and_to_nothing_else(scene):
    noisy = replace(USUAL, snr_db=20.0)
    plain = USUAL.observe(scene)
    assert torch.equal(noisy.observe(scene, generator=seeded(3)), add_noise(plain, 20.0, generator=seeded(3)))
    assert not torch.equal(noisy.observe(scene, generator=seeded(3)), noisy.observe(scene, generator=seeded(4)))
    assert torch.equal(noisy.downsample(scene), plain) and torch.equal(noisy.see(scene), USUAL.see(scene))
    before = torch.get_rng_state()
    noisy.observe(scene, generator=seeded(3))
    assert torch.equal(torch.get_rng_state(), before)


def test_the_multispectral_sensor_sees_the_bands_it_responds_to(scene):
    seen = USUAL.see(scene)
    assert seen.shape == (2, 2, 12, 20) and torch.equal(seen, apply_srf(scene, SRF))
    assert torch.allclose(seen[:, 1], 0.25 * scene[:, 3] + 0.75 * scene[:, 6])
    assert torch.equal(USUAL.response(), SRF)


@pytest.mark.parametrize(("scale", "size"), [(4, 12), (3, 5), (2, 6), (1, 3)])
def test_the_ways_back(scene, scale, size):
    """Up is bicubic; K is down and up again, on any height and width; down of a constant is the constant."""
    camera, image = Camera(skewed(size), scale), scene[..., :11, :17]
    assert torch.equal(camera.upsample(image), upsample(image, scale))
    assert camera.blur(image).shape == image.shape
    assert torch.equal(camera.blur(image), blur_on_grid(image, skewed(size), scale))
    whole = scene[..., :12, :18]
    if 18 % scale == 0:
        torch.testing.assert_close(camera.blur(whole), camera.upsample(camera.downsample(whole)))
    for operator in (camera.upsample, camera.blur):
        flat = operator(torch.full((1, 2, 5, 7), 0.4))
        torch.testing.assert_close(flat, torch.full_like(flat, 0.4))


@settings(max_examples=30, deadline=None)
@given(
    scale=st.integers(1, 5),
    widen=st.integers(-1, 4),
    bands=st.integers(1, 5),
    height=st.integers(1, 4),
    width=st.integers(1, 5),
    seed=st.integers(0, 2**31),
)
def test_the_adjoint_is_the_transpose(scale, widen, bands, height, width, seed):
    """⟨A x, y⟩ = ⟨x, Aᵀ y⟩ for any scale, any size of the PSF and any number of bands."""
    generator = seeded(seed)
    psf = torch.rand(size := max(scale % 2 or 2, scale + 2 * widen), size, generator=generator, dtype=torch.float64)
    camera = Camera(psf / psf.sum(), scale)
    x = torch.randn(2, bands, scale * height, scale * width, generator=generator, dtype=torch.float64)
    y = torch.randn(2, bands, height, width, generator=generator, dtype=torch.float64)
    back = camera.adjoint(y)
    assert back.shape == x.shape
    assert float((camera.downsample(x) * y).sum()) == pytest.approx(float((x * back).sum()), rel=1e-9, abs=1e-9)


@settings(max_examples=30, deadline=None)
@given(scale=st.integers(1, 8), widen=st.integers(-3, 9))
def test_a_coarse_pixel_reads_its_cell_and_the_halo_and_nothing_beyond(scale, widen):
    """Which fine pixels does one coarse pixel depend on? The gradient says it."""
    size = max(scale % 2 or 2, scale + 2 * widen)
    camera = Camera(torch.full((size, size), 1 / size**2), scale)
    cells = 2 * (camera.halo // scale + 1) + 1
    x = torch.zeros(1, 1, scale * cells, scale * cells, requires_grad=True)
    (gradient,) = torch.autograd.grad(camera.downsample(x)[0, 0, cells // 2, cells // 2], x)
    read = torch.nonzero(gradient[0, 0].sum(0))[:, 0]
    first, last = scale * (cells // 2), scale * (cells // 2 + 1) - 1
    assert camera.halo == max(0, first - int(read[0])) == max(0, int(read[-1]) - last)


# --- back-projection ---


def mismatch(pred, lr_hsi, camera=USUAL):
    return float((camera.downsample(pred) - lr_hsi).norm() / lr_hsi.norm())


def test_upsampling_keeps_a_constant():
    x = torch.full((2, 7, 3, 5), 0.4)
    torch.testing.assert_close(USUAL.upsample(x), torch.full(SHAPE, 0.4))


def test_back_projection_explains_the_observation(scene):
    lr_hsi = USUAL.observe(scene)
    start = USUAL.upsample(lr_hsi)
    left = [mismatch(USUAL.back_project(start, lr_hsi, steps=n), lr_hsi) for n in (0, 1, 10, 100)]
    assert left[0] > left[1] > left[2] > left[3]
    assert left[2] < 0.1 * left[0] and left[3] < 1e-3


def test_back_projection_stops_at_the_tolerance(scene):
    """As many steps as needed and no more: the first result whose mismatch is within it."""
    lr_hsi = USUAL.observe(scene)
    start = USUAL.upsample(lr_hsi)
    counted = [USUAL.back_project(start, lr_hsi, steps=n) for n in range(30)]
    left = [mismatch(x, lr_hsi) for x in counted]
    for tolerance in (2.0, 0.03, 0.01):
        needed = next(n for n, value in enumerate(left) if value <= tolerance)
        assert torch.equal(USUAL.back_project(start, lr_hsi, steps=29, tolerance=tolerance), counted[needed])
    assert torch.equal(USUAL.back_project(start, lr_hsi, steps=2, tolerance=1e-9), counted[2])


def test_back_projection_leaves_the_truth_alone(scene):
    found = USUAL.back_project(scene, USUAL.observe(scene))
    torch.testing.assert_close(found, scene, atol=1e-6, rtol=1e-6)


def test_back_projection_is_of_the_cameras_own_blur(scene):
    """With the blur that was there the observation is explained; with another one, the blur is taken for detail."""
    wide = Camera.gaussian(fwhm_px=7.0, scale=4)
    lr_hsi = wide.observe(scene)
    told, not_told = (one.back_project(wide.upsample(lr_hsi), lr_hsi, steps=30) for one in (wide, USUAL))
    assert mismatch(told, lr_hsi, wide) < 0.5 * mismatch(not_told, lr_hsi, wide)


def test_with_noise_back_projection_stops_where_only_that_is_missing(scene):
    """At 20 dB a tenth may be missing: what is 4.8% off stays as it is, what is 23% off gets the one step it needs."""
    noisy, one = replace(USUAL, snr_db=20.0), scene[:1]
    seen = USUAL.observe(one)
    assert torch.equal(noisy.consistent(one, 1.05 * seen), one)
    assert torch.equal(noisy.consistent(one, 1.3 * seen), USUAL.back_project(one, 1.3 * seen, steps=1))


# --- what is known about it ---


@pytest.mark.parametrize(
    ("psf_size", "scale", "halo"),
    [(12, 4, 4), (4, 4, 0), (2, 4, 0), (20, 4, 8), (6, 2, 2), (9, 3, 3), (1, 1, 0), (5, 1, 2)],
)
def test_halo_by_hand(psf_size, scale, halo):
    assert Camera(torch.full((psf_size, psf_size), psf_size**-2.0), scale).halo == halo


@pytest.mark.parametrize("widths", [(4.0, 4.0), (2.5, 6.0), (9.0, 5.0), (12.0, 12.0)])
def test_the_width_of_a_gaussian_is_told_in_rows_and_columns(widths):
    psf = gaussian_psf(widths, size=60, scale=4)  # all of it
    assert Camera(psf, 4).fwhm_px == pytest.approx(widths, rel=0.01)


def test_the_width_of_a_psf_off_centre_is_that_of_its_own_spread():
    moved = torch.zeros(10, 10)
    moved[1:, 2:] = gaussian_psf((3.0, 2.0), size=10)[:-1, :-2]
    widths = Camera(moved / moved.sum(), 4).fwhm_px
    assert widths == pytest.approx((3.0, 2.0), rel=0.05)
    assert Camera(torch.ones(1, 1), 1).fwhm_px == (0, 0)


def test_how_many_bands_the_multispectral_sensor_has():
    assert USUAL.msi_channels == 2 and Camera.gaussian().msi_channels == 4
    assert Camera.gaussian(bands=("B02", "B03", "B04")).msi_channels == 3
    assert Camera.gaussian(bands=("B02", "B03", "B04"), srf=SRF).msi_channels == 2


def test_same_optics_does_not_mind_a_rim_of_zeros_or_the_other_sensor():
    rim = torch.nn.functional.pad(USUAL.psf, [2] * 4)
    for other in (
        Camera(rim, 4),
        Camera.gaussian(sensor="landsat8", snr_db=20),
        Camera(USUAL.psf.double(), 4),
        Camera(USUAL.psf + 5e-7, 4),
    ):
        assert USUAL.same_optics(other) and other.same_optics(USUAL)
    for other in (
        Camera.gaussian(4.1),
        Camera.gaussian(4.0, 2),
        Camera.gaussian(4.0, 3),
        Camera(gaussian_psf(4.0, size=8, scale=4), 4),
        Camera(rim.roll(1, 0), 4),
    ):
        assert not USUAL.same_optics(other) and not other.same_optics(USUAL)


@pytest.mark.parametrize(
    ("other", "words"),
    [
        (USUAL, []),
        (Camera.gaussian(sensor="landsat8"), []),
        (Camera(torch.nn.functional.pad(USUAL.psf, [4] * 4), 4), []),
        (Camera.gaussian(8.0), ["a blur of FWHM 8.0 px instead of 4.0 px"]),
        (Camera.gaussian((8.0, 4.0)), ["a blur of FWHM 8.0×4.0 px instead of 4.0 px"]),
        (Camera.gaussian(scale=8, fwhm_px=4.0), ["scale 8 instead of 4"]),
        (Camera.gaussian(snr_db=30), ["noise of 30 dB instead of no noise"]),
        (
            Camera.gaussian(2.0, snr_db=27.5),
            ["a blur of FWHM 2.0 px instead of 4.0 px", "noise of 27.5 dB instead of no noise"],
        ),
    ],
)
def test_differences_in_words(other, words):
    found = other.differences(USUAL)
    assert len(found) == len(words)
    for text, wanted in zip(found, words):  # a PSF that is cut off at three widths is a little narrower than it says
        numbers = [float(x) for x in text.replace("×", " ").split() if x.replace(".", "").isdigit()]
        expected = [float(x) for x in wanted.replace("×", " ").split() if x.replace(".", "").isdigit()]
        assert numbers == pytest.approx(expected, rel=0.03)
        assert text.split()[0] == wanted.split()[0] and ("instead of" in text)
    assert len(USUAL.differences(other)) == len(words)
    if other.snr_db is not None:
        assert USUAL.differences(other)[-1] == f"no noise instead of noise of {other.snr_db:g} dB"


@settings(max_examples=30, deadline=None)
@given(
    scale=st.integers(1, 6),
    widen=st.integers(0, 4),
    seed=st.integers(0, 2**31),
    sensor=st.sampled_from([None, *SENSORS]),
    snr_db=st.none() | st.floats(-10, 80),
    named=st.booleans(),
    srf=st.booleans(),
)
def test_to_dict_and_back_through_json_bit_for_bit(scale, widen, seed, sensor, snr_db, named, srf):
    bands = tuple(load_rsr(sensor or "landsat8"))[:2] if named else None
    psf = torch.rand(scale + 2 * widen, scale + 2 * widen, generator=seeded(seed)) + 1e-3
    response = torch.rand(2, 5, generator=seeded(seed)) + 1e-3
    camera = Camera(
        psf / psf.sum(), scale, srf=response / response.sum(1, keepdim=True) if srf else None,
        sensor=sensor, snr_db=snr_db, bands=bands,
    )  # fmt: skip
    again = Camera.from_dict(json.loads(json.dumps(camera.to_dict())))
    assert torch.equal(again.psf, camera.psf) and again.psf.dtype == torch.float32
    assert (again.srf is None) == (camera.srf is None) and (not srf or torch.equal(again.srf, camera.srf))
    for name in ("scale", "sensor", "snr_db", "bands"):
        assert getattr(again, name) == getattr(camera, name)
    assert type(again.bands) is type(camera.bands)


def test_a_camera_of_numpys_numbers_goes_through_json():
    camera = Camera.gaussian(np.float32(6), np.int64(4), snr_db=np.float32(30))
    again = Camera.from_dict(json.loads(json.dumps(camera.to_dict())))
    assert again.to_dict() == Camera.gaussian(6.0, 4, snr_db=30).to_dict()


def test_to_another_device_takes_the_tensors_along():
    moved = USUAL.to("cpu")
    assert moved.to_dict() == USUAL.to_dict()
    assert Camera.gaussian().to("cpu").srf is None


# --- complaints ---

OK = torch.rand(SHAPE, generator=seeded())


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Camera(skewed(5), 4), "`psf` must be of even size, as `scale` 4 is, got size 5"),
        (lambda: Camera(skewed(4), 3), "`psf` must be of odd size, as `scale` 3 is, got size 4"),
        (lambda: Camera(torch.ones(4, 4), 4), "`psf` must be a kernel that sums to 1, got a sum of 16"),
        (lambda: Camera(skewed(4) * 1.0002, 4), "`psf` must be a kernel that sums to 1, got a sum of 1.0002"),
        (lambda: Camera(torch.full((4, 6), 1 / 24), 4), "`psf` must be of shape (k, k), got shape (4, 6)"),
        (lambda: Camera(torch.full((4, 4), math.nan), 4), "`psf` must be finite everywhere, got 16 NaN"),
        (lambda: Camera(skewed(4), 0), "`scale` must be a whole number ≥ 1, got 0"),
        (lambda: Camera(skewed(4), 4.0), "`scale` must be a whole number ≥ 1, got 4.0"),
        (lambda: Camera(skewed(4), True), "`scale` must be a whole number ≥ 1, got True"),
        (
            lambda: Camera(skewed(4), 4, srf=2 * SRF),
            "`srf` must be a matrix whose rows sum to 1, got a row 0 that sums to 2",
        ),
        (lambda: Camera(skewed(4), 4, srf=SRF[0]), "`srf` must be of shape (c, C), got shape (7,)"),
        (lambda: Camera(skewed(4), 4, srf=SRF * math.nan), "`srf` must be finite everywhere, got 14 NaN"),
        (lambda: Camera(skewed(4), 4, sensor="aviris"), "`sensor` must be one of 'sentinel2a', "),
        (
            lambda: Camera(skewed(4), 4, snr_db=math.inf),
            "`snr_db` must be a finite number of decibels, or None, got inf",
        ),
        (lambda: Camera(skewed(4), 4, snr_db=math.nan), "`snr_db` must be a finite number of decibels, or None"),
        (lambda: Camera.gaussian(0.0), "`fwhm_px` must be a positive number of pixels or a pair of them, got 0.0"),
        (lambda: Camera.gaussian((4.0, -1.0)), "`fwhm_px` must be a positive number of pixels or a pair of them, got"),
        (lambda: Camera.gaussian(scale=0), "`scale` must be a whole number ≥ 1, got 0"),
        (lambda: Camera.gaussian(scale=2.5), "`scale` must be a whole number ≥ 1, got 2.5"),
        (
            lambda: Camera.gaussian(sensor=None).for_wavelengths([450, 550, 650]),
            "`sensor` must be a name, for its spectral response, got None",
        ),
        (
            lambda: Camera.gaussian().for_wavelengths(range(600, 900, 10)),
            "`wavelengths_nm` must be a range that covers every sensor band, got B02",
        ),
        (
            lambda: Camera.gaussian(bands=("B99",)).for_wavelengths(range(400, 900, 10)),
            "`bands` must be one of 'B01', ",
        ),
        (lambda: USUAL.observe(OK[0]), "`gt` must be of shape (B, C, H, W), none of them 0, got shape (7, 12, 20)"),
        (
            lambda: USUAL.observe(OK[..., :18]),
            "`gt` must be of a height and width that are multiples of 4, got 12×18",
        ),
        (lambda: USUAL.observe(OK / 0), "`gt` must be finite in at least one pixel, got NaN or infinite"),
        (
            lambda: replace(USUAL, snr_db=30).observe(OK),
            "`generator` must be a `torch.Generator` for the noise of 30 dB, got None",
        ),
        (
            lambda: Camera.gaussian().see(OK),
            "`camera` must be one with `srf`, the response (c, C) of its multispectral sensor, got one without",
        ),
        (lambda: USUAL.see(OK[:, :6]), "`srf` must be of 6 columns, one per band of the image, got 7 columns"),
        (lambda: USUAL.see(OK / 0), "`x` must be finite in at least one pixel"),
        (lambda: USUAL.downsample(OK[..., :18]), "`x` must be of a height and width that are multiples of 4"),
        (lambda: USUAL.adjoint(OK / 0), "`y` must be finite everywhere"),
        (lambda: USUAL.adjoint(OK[0]), "`y` must be of shape (B, C, H, W)"),
        (lambda: USUAL.upsample(OK[0]), "`x` must be of shape (B, C, H, W)"),
        (lambda: USUAL.blur(OK / 0), "`x` must be finite everywhere"),
        (
            lambda: USUAL.back_project(OK, OK[..., :3, :3]),
            "`pred` must be 4 times the size of `lr_hsi`, 12×12, got 12×20",
        ),
        (lambda: USUAL.back_project(OK, OK[:, :5, :3, :5]), "`lr_hsi` must be of 7 band(s)"),
        (lambda: USUAL.back_project(OK / 0, OK[..., :3, :5]), "`pred` must be finite everywhere"),
        (lambda: USUAL.back_project(OK, OK[..., :3, :5], steps=-1), "`steps` must be a whole number ≥ 0, got -1"),
        (lambda: Camera.from_dict(USUAL.to_dict() | {"scale": 3}), "`psf` must be of odd size, as `scale` 3 is"),
    ],
)
def test_bad_values(call, message):
    with pytest.raises(ValueError) as error:
        call()
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: Camera(torch.eye(4, dtype=torch.long), 4),
            "`psf` must be a floating-point tensor (k, k), got a torch.int64 tensor",
        ),
        (lambda: Camera(skewed(4).tolist(), 4), "`psf` must be a floating-point tensor (k, k), got list"),
        (
            lambda: Camera(skewed(4), 4, srf=SRF.int()),
            "`srf` must be a floating-point tensor (c, C), got a torch.int32",
        ),
        (
            lambda: USUAL.observe(OK.int()),
            "`gt` must be a floating-point tensor (B, C, H, W), got a torch.int32 tensor",
        ),
        (lambda: USUAL.adjoint(OK.int()), "`y` must be a floating-point tensor (B, C, H, W), got a torch.int32 tensor"),
        (lambda: USUAL.see(OK > 0), "`x` must be a floating-point tensor (B, C, H, W), got a torch.bool tensor"),
        (
            lambda: USUAL.back_project(OK.to(torch.complex64), OK),
            "`pred` must be a floating-point tensor (B, C, H, W), got a torch.complex64 tensor",
        ),
        (
            lambda: USUAL.back_project(OK, (255 * OK.numpy()).astype(np.uint8)),
            "`lr_hsi` must be a floating-point tensor (B, C, H, W), got a uint8 array",
        ),
        (lambda: Camera.from_dict(USUAL.to_dict() | {"colour": 3}), "colour"),
    ],
)
def test_bad_types(call, message):
    with pytest.raises(TypeError) as error:
        call()
    assert message in str(error.value)


# --- what a stranger hands in ---


def test_back_projection_with_a_psf_far_off_its_centre_does_not_run_away():
    """Each step would make it worse: the best image so far is given back."""
    gt = synthetic(0, height=32, width=48, bands=3).tensor()
    camera = Camera(gaussian_psf(4.0, size=20, scale=4).roll((4, 1), (0, 1)), 4)
    lr_hsi = camera.downsample(gt)
    pred = camera.back_project(camera.upsample(lr_hsi), lr_hsi, steps=50)
    assert pred.abs().max() < 5
    before, after = ((camera.downsample(x) - lr_hsi).norm() for x in (camera.upsample(lr_hsi), pred))
    assert after <= before


def test_a_camera_keeps_its_own_numbers():
    psf = gaussian_psf(4.0, scale=4).numpy().copy()
    camera = Camera(psf, 4)
    psf[0, 0] = 9
    assert float(camera.psf.sum()) == pytest.approx(1)


@pytest.mark.parametrize(
    ("bands", "message"),
    [
        ((), r"`bands` must be names of at least one band, or None, got \(\)"),
        ("B02", "`bands` must be names of at least one band, or None, got 'B02'"),
        (("B02", "B99"), "`bands` must be one of 'B01', .*, got 'B99'"),
    ],
)
def test_bands_that_are_none(bands, message):
    with pytest.raises(ValueError, match=message):
        Camera.gaussian(scale=4, sensor="sentinel2a", bands=bands)


@pytest.mark.parametrize("width", [None, "4", [4, 6, 8], (4, "6"), 0, np.array([4.0, float("nan")])])
def test_widths_that_are_none(width):
    with pytest.raises(ValueError, match="`fwhm_px` must be a positive number of pixels or a pair of them"):
        gaussian_psf(width, scale=4)
    assert Camera.gaussian(np.array([4.0, 6.0]), 4).fwhm_px == pytest.approx((4, 6), abs=0.05)


def test_another_blur_of_the_same_width_is_said_to_be_another():
    usual = Camera.gaussian(scale=4)
    moved = Camera(gaussian_psf(4.0, size=20, scale=4).roll(1, 0), 4)
    assert moved.differences(usual) == ["another blur of the same FWHM 4.0 px"]


@pytest.mark.parametrize("snr_db", [None, 40.0, 25.0])
def test_it_is_consistent_as_far_as_the_noise_each_image_by_itself(scene, snr_db):
    camera = replace(USUAL, snr_db=snr_db)
    share = 0.0 if snr_db is None else 10 ** (-snr_db / 20)
    assert camera.noise_share == pytest.approx(share)
    lr_hsi = camera.observe(scene, generator=seeded(1))
    start = torch.cat([camera.upsample(lr_hsi[:1]), scene[1:]])  # the second image is the truth: only noise is missing
    found = camera.consistent(start, lr_hsi)
    left = (camera.downsample(found) - lr_hsi).flatten(1).norm(dim=1) / lr_hsi.flatten(1).norm(dim=1)
    assert bool((left <= max(1e-3, 1.05 * share)).all())
    assert torch.equal(found, torch.cat([camera.consistent(x, y) for x, y in zip(start.split(1), lr_hsi.split(1))]))
