"""The degradation kernel: the chain with a learned PSF, its training, and the response to an impulse."""

from __future__ import annotations

import copy
import itertools
import math

import pytest
import torch
import torch.nn.functional as F

from ctmem.data.scenes import synthetic
from ctmem.files import load_module, save_module
from ctmem.networks.kernel_net import KernelNet
from ctmem.observe.camera import Camera
from ctmem.observe.kernel import LearnedBlur, PsfKernel, impulse_response, train_kernel, validation_l1
from ctmem.observe.optics import add_noise, blur, blur_down, gaussian_psf, upsample

AREAS = {"train": (..., slice(0, 96)), "validation": (..., slice(96, 128)), "test": (..., slice(128, 192))}
INNER = (..., slice(16, -16), slice(16, -16))  # farther from a border than any PSF here reaches


def random(*shape: int) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(1))


def generator(seed: int = 2) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def asymmetric_psf(size: int) -> torch.Tensor:
    """Weights that look alike in no two directions."""
    psf = random(size, size) ** 3
    return psf / psf.sum()


def chain(x: torch.Tensor, psf: torch.Tensor, scale: int = 4) -> torch.Tensor:
    return upsample(blur_down(x, psf, scale), scale)


# --- PsfKernel: the chain ---


@pytest.mark.parametrize(("scale", "size"), [(4, 12), (4, 4), (3, 5), (2, 10), (1, 3), (8, 8)])
def test_is_the_chain_of_the_sensors_module(scale, size):
    psf, x = asymmetric_psf(size), random(2, 7, 6 * scale, 5 * scale)
    k = PsfKernel(scale, psf=psf)
    assert torch.allclose(k.psf, psf, atol=1e-5)
    assert torch.allclose(k(x), chain(x, k.psf, scale), atol=1e-6)


@pytest.mark.parametrize("size", [(12, 20), (13, 21), (3, 2), (1, 1), (5, 32)])
def test_keeps_height_and_width_and_repeats_the_border_beyond(size):
    k, x = PsfKernel(4), random(2, 7, *size)
    assert k(x).shape == x.shape
    padded = F.pad(x, (0, -size[1] % 4, 0, -size[0] % 4), mode="replicate")
    assert torch.equal(k(x), k(padded)[..., : size[0], : size[1]])


def test_is_linear_and_keeps_each_band_and_a_constant():
    k, x, y = PsfKernel(4, psf=asymmetric_psf(8)), random(2, 7, 13, 21), random(2, 7, 13, 21).flip(3)
    assert torch.allclose(k(2 * x - 3 * y + 1), 2 * k(x) - 3 * k(y) + 1, atol=1e-5)
    assert torch.equal(k(x)[1:, 4:5], k(x[1:, 4:5]))
    assert torch.allclose(k(torch.full((1, 3, 9, 10), 0.3)), torch.tensor(0.3))


@pytest.mark.parametrize("scale", [1, 2, 3, 4, 8])
def test_starts_as_a_wide_gaussian_on_five_lr_pixels(scale):
    k = PsfKernel(scale)
    assert k.psf.shape == (5 * scale, 5 * scale)
    assert torch.allclose(k.psf, gaussian_psf(2.0 * scale, size=5 * scale, scale=scale), atol=1e-6)
    assert (k.psf > 0).all() and k.grid == scale and not k.psf.requires_grad
    assert PsfKernel(scale, 3 * scale).psf.shape == (3 * scale, 3 * scale)
    assert PsfKernel(4, psf=torch.ones(6, 6, dtype=torch.float64)).psf.dtype == torch.float32


def test_starts_from_an_array_as_from_a_tensor():
    psf = asymmetric_psf(12)
    assert torch.equal(PsfKernel(4, psf=psf.numpy()).psf, PsfKernel(4, psf=psf).psf)


def test_centroid_by_hand():
    psf = torch.zeros(4, 4)
    psf[1, 2], psf[3, 2] = 1.0, 3.0  # rows −½ and +1½, column +½ from the centre
    down, right = PsfKernel(4, psf=psf).shift_px
    assert (down, right) == (pytest.approx(1.0, abs=1e-3), pytest.approx(0.5, abs=1e-3))


def test_saved_and_loaded_it_is_the_same(tmp_path):
    k, other = PsfKernel(4, psf=asymmetric_psf(12)), PsfKernel(4, 12)
    save_module(k, tmp_path / "k.safetensors", part="kernel", preset="tiny")
    load_module(other, tmp_path / "k.safetensors", part="kernel", preset="tiny")
    assert torch.equal(k.psf, other.psf)
    with pytest.raises(ValueError, match=r"`path` must be weights with `logits` of shape \(20, 20\)"):
        load_module(PsfKernel(4), tmp_path / "k.safetensors", part="kernel", preset="tiny")


# --- learning ---


def learn(psf: torch.Tensor, *, snr_db: float | None = None, steps: int = 250, crop: int | None = 32, seed: int = 3):
    """A kernel trained on one area of a scene, and the sharp and blurry image of another."""
    sharp = synthetic(seed=seed, height=96, width=192, bands=4).tensor()
    low = blur_down(sharp, psf, 4)
    blurry = upsample(low if snr_db is None else add_noise(low, snr_db, generator=generator()), 4)
    (x, y), (vx, vy), test = ((sharp[AREAS[name]], blurry[AREAS[name]]) for name in AREAS)
    k = PsfKernel(4)
    history = train_kernel(k, [x], [y], val_sharp=[vx], val_blurry=[vy], steps=steps, crop=crop, generator=generator())
    return k, history, test


def error(soften, pair) -> float:
    """Root mean square error far from the border."""
    return float((soften(pair[0]) - pair[1])[INNER].square().mean().sqrt().detach())


@pytest.mark.parametrize("crop", [32, None])
def test_learns_a_blur_it_was_not_told_on_ground_it_has_not_seen(crop):
    psf = gaussian_psf((6.0, 3.0), scale=4)
    k, history, test = learn(psf, crop=crop)
    wrong = error(lambda x: chain(x, psf.T), test)
    assert error(k, test) < 0.05 * wrong
    assert float((k.psf - F.pad(psf, [1] * 4)).abs().sum() / 2) < 0.1  # share of the brightness in the wrong place
    assert history["best_validation"] == min(value for _, value in history["validation"])
    assert not k.training


@pytest.mark.parametrize("fwhm_px", [2.0, 5.0, (6.0, 3.0)])
def test_with_noise_of_30_db_it_comes_within_a_tenth_of_the_true_psf(fwhm_px):
    psf = gaussian_psf(fwhm_px, scale=4)
    k, _, test = learn(psf, snr_db=30.0)
    assert error(k, test) < 1.1 * error(lambda x: chain(x, psf), test)


def test_finds_how_far_the_pair_is_misregistered():
    offsets = torch.arange(20) - 9.5
    down, right = (torch.exp(-4 * math.log(2) * ((offsets - shift) / 4) ** 2) for shift in (0.7, -1.4))
    k, _, _ = learn(torch.outer(down / down.sum(), right / right.sum()), snr_db=40.0)
    assert k.shift_px == (pytest.approx(0.7, abs=0.1), pytest.approx(-1.4, abs=0.1))


class Recorder(PsfKernel):
    """Keeps every training crop it sees."""

    def __init__(self, scale: int) -> None:
        super().__init__(scale)
        self.seen: list[torch.Tensor] = []

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.training:
            self.seen.append(x)
        return super().forward(x)


def numbered(height: int, width: int, image: int) -> torch.Tensor:
    """An image whose pixels say where they are: band 0 row, band 1 column; images 1000 apart."""
    rows, columns = torch.meshgrid(torch.arange(float(height)), torch.arange(float(width)), indexing="ij")
    return torch.stack([rows, columns])[None] + 1000 * image


@pytest.mark.parametrize("scale", [3, 4])
def test_crops_keep_the_grid_of_the_lr_pixels_and_come_from_every_image(scale):
    images = [numbered(22, 41, 0), numbered(35, 16, 1)]
    recorder = Recorder(scale)
    options = {"val_sharp": images, "val_blurry": images, "steps": 30, "crop": 16, "batch": 3}
    train_kernel(recorder, images, images, generator=generator(), **options)
    corners = torch.cat([x[:, :, 0, 0] for x in recorder.seen])
    assert corners.shape == (90, 2)
    for image, (rows, columns) in enumerate([(7, 26), (20, 1)]):  # first corners that don't fit any more
        here = corners[corners[:, 0] // 1000 == image] % 1000
        assert set(here[:, 0].tolist()) == set(range(0, rows, scale))
        assert set(here[:, 1].tolist()) <= set(range(0, columns, scale))
        assert len(here) > 20
    assert all(x.shape[2:] == (16, 16) for x in recorder.seen)


def test_without_crops_whole_images_take_turns():
    images = [numbered(22, 41, 0), numbered(35, 16, 1)]
    recorder = Recorder(4)
    options = {"val_sharp": images, "val_blurry": images, "steps": 3, "crop": None}
    train_kernel(recorder, images, images, generator=generator(), **options)
    assert [x.shape[2:] for x in recorder.seen] == [(22, 41), (35, 16), (22, 41)]


def test_pixels_in_the_margin_do_not_count():
    sharp = random(1, 2, 24, 32)
    blurry = chain(sharp, gaussian_psf(4.0, scale=4))
    spoiled = blurry.clone()
    spoiled[..., :5, :], spoiled[..., -5:], spoiled[..., -5:, :] = 9, 9, 9
    psfs = []
    for target in (blurry, spoiled):
        k, options = PsfKernel(4), {"val_sharp": [sharp], "val_blurry": [target], "steps": 5, "crop": None}
        history = train_kernel(k, [sharp], [target], margin=5, generator=generator(), **options)
        psfs.append(k.psf)
        assert history["best_validation"] < 0.2
    spoiled[..., :5] = 9  # the fourth side, too
    assert validation_l1(k, [sharp], [spoiled], margin=5) == validation_l1(k, [sharp], [blurry], margin=5)
    assert torch.equal(*psfs)


def small_run(**options) -> tuple[KernelNet, dict]:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        k, sharp = KernelNet(2, 16), random(1, 2, 24, 32)
    options = {"steps": 5, "crop": 16, "batch": 2, "validate_every": 2, "generator": generator()} | options
    images = [sharp], [blur(sharp, gaussian_psf(3.0))]
    return k, train_kernel(k, *images, val_sharp=images[0], val_blurry=images[1], **options)


def test_history_and_callback():
    calls = []
    _, history = small_run(on_step=lambda step, loss: calls.append((step, loss)))
    assert [step for step, _ in calls] == [1, 2, 3, 4, 5]
    assert history["loss"] == [loss for _, loss in calls]
    assert [step for step, _ in history["validation"]] == [0, 2, 4, 5]


def test_keeps_the_best_weights_not_the_last():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        start = copy.deepcopy(KernelNet(2, 16).state_dict())
    k, history = small_run(learning_rate=50.0)  # far too much: every step does harm
    assert history["best_step"] == 0
    assert all(torch.equal(value, start[name]) for name, value in k.state_dict().items())


def test_the_generator_alone_decides():
    torch.manual_seed(5)
    first = small_run()[1]
    torch.manual_seed(6)
    assert small_run()[1] == first
    assert small_run(generator=generator(3))[1] != first


class Slope(LearnedBlur):
    """Adds a number to every pixel; an L1 loss from below has the slope −1 whatever it is."""

    grid, learning_rate = 1, 0.5

    def __init__(self) -> None:
        super().__init__()
        self.added = torch.nn.Parameter(torch.zeros(()))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.added


def test_the_rate_of_learning_falls_as_a_cosine_to_zero():
    """Adam moves by the rate itself where the gradient is always the same: 0.5 · (1 + cos(π k / 4)) / 2."""
    k, image, places = Slope(), random(1, 1, 12, 12), [0.0]
    images = {"val_sharp": [image], "val_blurry": [image + 100]}
    train_kernel(
        k, [image], [image + 100], steps=4, crop=None, generator=generator(), **images,
        on_step=lambda step, loss: places.append(float(k.added.detach())),
    )  # fmt: skip
    moved = [after - before for before, after in itertools.pairwise(places)]
    assert moved == pytest.approx([0.25 * (1 + math.cos(math.pi * step / 4)) for step in range(4)], rel=1e-3)


def test_each_module_brings_its_learning_rate():
    assert small_run()[1] == small_run(learning_rate=KernelNet.learning_rate)[1]
    assert small_run()[1] != small_run(learning_rate=PsfKernel.learning_rate)[1]


def test_arrays_train_as_tensors_do():
    images = {"sharp": OK, "blurry": [chain(OK[0], gaussian_psf(3.0, scale=4))]}
    images |= {f"val_{name}": some for name, some in images.items()}
    arrays = {name: [x.numpy() for x in some] for name, some in images.items()}
    one, other = (trained(**some, steps=3) for some in (images, arrays))
    assert one == other


def test_validation_l1_is_the_mean_absolute_error_over_images():
    sharp = [torch.zeros(1, 1, 4, 4), torch.zeros(1, 1, 8, 2)]
    blurry = [torch.full((1, 1, 4, 4), 0.1), torch.full((1, 1, 8, 2), 0.4)]
    assert validation_l1(lambda x: x, sharp, blurry) == pytest.approx(0.25)


# --- the response to an impulse ---


@pytest.mark.parametrize("fwhm_px", [3.0, (4.0, 2.0)])
def test_impulse_response_of_a_blur_is_its_psf(fwhm_px):
    psf = gaussian_psf(fwhm_px, size=13)
    image = random(1, 3, 31, 25)
    response = impulse_response(Camera.gaussian(scale=4), image, blur=lambda x: blur(x, psf), radius=6)
    assert torch.allclose(response, psf, atol=5e-6)


@pytest.mark.parametrize("scale", [3, 4])
def test_impulse_response_is_the_mean_over_the_places_within_an_lr_pixel(scale):
    x, k = random(1, 2, 12 * scale, 16 * scale), PsfKernel(scale, psf=asymmetric_psf(scale + 4))
    top, left = (12 * scale - scale) // 2, (16 * scale - scale) // 2
    total = torch.zeros(17, 17)
    for row in range(top, top + scale):
        for column in range(left, left + scale):
            bright = torch.zeros_like(x)
            bright[..., row, column] = 1
            total += chain(bright, k.psf, scale)[0, 0, row - 8 : row + 9, column - 8 : column + 9] / scale**2
    camera = Camera(k.psf, scale)
    assert torch.allclose(impulse_response(camera, x, radius=8), total, atol=2e-5)
    assert torch.allclose(impulse_response(Camera.gaussian(scale=scale), x, blur=k, radius=8), total, atol=2e-5)


# --- bad input ---

OK = [torch.rand(1, 4, 32, 32, generator=torch.Generator().manual_seed(0))]
USUAL = Camera.gaussian(scale=4)
JOINT = KernelNet(3, 16, joint=True)


def trained(sharp=OK, blurry=OK, k=None, **options):
    options = {"steps": 1, "generator": generator(), "val_sharp": OK, "val_blurry": OK} | options
    return train_kernel(k or PsfKernel(4), sharp, blurry, **options)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: PsfKernel(0), "`scale` must be a whole number ≥ 1, got 0"),
        (lambda: PsfKernel(4, 2), "`size` must be a whole number ≥ 4, got 2"),
        (lambda: PsfKernel(4, 9), "`size` must be even, as `scale` 4 is, got 9"),
        (lambda: PsfKernel(3, 12), "`size` must be odd, as `scale` 3 is, got 12"),
        (lambda: PsfKernel(4, psf=torch.ones(5, 5)), "`size` must be even, as `scale` 4 is, got 5"),
        (lambda: PsfKernel(4, 8, psf=torch.ones(6, 6)), "`size` must be 6, as `psf` is, got 8"),
        (lambda: PsfKernel(4, psf=torch.ones(4, 6)), "`psf` must be of shape (k, k), got shape (4, 6)"),
        (lambda: PsfKernel(4, psf=torch.zeros(4, 4)), "`psf` must be without negative weights and not 0 everywhere"),
        (lambda: PsfKernel(4, psf=torch.eye(4) - 0.1), "`psf` must be without negative weights and not 0 everywhere"),
        (lambda: PsfKernel(4, psf=torch.ones(4, 4) / 0), "`psf` must be finite everywhere"),
        (lambda: PsfKernel(4)(OK[0][0]), "`x` must be of shape (B, C, H, W), none of them 0, got"),
        (lambda: PsfKernel(4)(OK[0] / 0), "`x` must be finite everywhere"),
        (lambda: trained(sharp=[]), "`sharp` must be a list of at least one image, as many as `blurry`"),
        (lambda: trained(val_blurry=OK + OK), "`val_sharp` must be a list of at least one image, as many as"),
        (lambda: trained(blurry=[OK[0][..., :9]]), "`sharp` must be of the shape of `blurry` (1, 4, 32, 9)"),
        (lambda: trained(val_sharp=[OK[0][:, :3]]), "`val_sharp` must be of the shape of `val_blurry`"),
        (lambda: trained(crop=40), "`sharp` must be at least 40×40 px, got 32×32"),
        (lambda: trained(crop=None, margin=16), "`sharp` must be at least 33×33 px, got 32×32"),
        (lambda: trained(margin=16, crop=33, sharp=[torch.rand(1, 4, 40, 40)], blurry=[torch.rand(1, 4, 40, 40)]),
         "`val_sharp` must be at least 33×33 px, got 32×32"),
        (lambda: trained(blurry=[OK[0] * float("nan")]), "`blurry` must be finite everywhere"),
        (lambda: trained(k=JOINT), "`sharp` must be of 3 band(s), shape (B, 3, H, W)"),
        (lambda: trained(steps=0), "`steps` must be a whole number ≥ 1, got 0"),
        (lambda: trained(batch=0), "`batch` must be a whole number ≥ 1, got 0"),
        (lambda: trained(crop=0), "`crop` must be a whole number ≥ 1, got 0"),
        (lambda: trained(crop=8), "`crop` must be larger than twice the `margin` 4, got 8"),
        (lambda: trained(margin=-1), "`margin` must be a whole number ≥ 0, got -1"),
        (lambda: trained(validate_every=0), "`validate_every` must be a whole number ≥ 1, got 0"),
        (lambda: impulse_response(USUAL, OK[0], radius=15), "`image` must be at least 34×34 px, got 32×32"),
        (lambda: impulse_response(USUAL, OK[0], radius=0), "`radius` must be a whole number ≥ 1, got 0"),
        (lambda: impulse_response(USUAL, OK[0] / 0), "`image` must be finite everywhere"),
        (lambda: impulse_response(USUAL, OK[0].repeat(2, 1, 1, 1)), "`image` must be one image"),
    ],
)  # fmt: skip
def test_bad_input(call, message):
    with pytest.raises(ValueError) as error:
        call()
    assert message in str(error.value)


@pytest.mark.parametrize(
    "call",
    [
        lambda: PsfKernel(4)(OK[0].int()),
        lambda: PsfKernel(4, psf=[[1.0]]),
        lambda: trained(sharp=[OK[0].int().numpy()]),
        lambda: trained(blurry=[OK[0] > 0]),
        lambda: impulse_response(USUAL, OK[0].int()),
    ],
)
def test_no_floating_point_tensor(call):
    with pytest.raises(TypeError, match="must be a floating-point tensor"):
        call()
