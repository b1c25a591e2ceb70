"""The degradation kernel: what is built in, what is learned, and how the best weights are kept."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F

from ctmem.kernel import KernelNet, impulse_response, train_kernel, validation_l1
from ctmem.scenes import synthetic
from ctmem.sensors import blur, blur_down, gaussian_psf, upsample

both_kinds = pytest.mark.parametrize("joint", [False, True])


def net(bands: int = 7, width: int = 16, *, joint: bool = False) -> KernelNet:
    """A small untrained network, the same each time, whatever the global generator says."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return KernelNet(bands, width, joint=joint)


def random(*shape: int) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(1))


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(2)


@both_kinds
@pytest.mark.parametrize("size", [(12, 20), (13, 21), (3, 2), (1, 1)])
def test_keeps_height_and_width(size, joint):
    x = random(2, 7, *size)
    assert net(joint=joint)(x).shape == x.shape


@both_kinds
def test_about_0_6_million_parameters_at_width_64(joint):
    count = sum(p.numel() for p in net(4, 64, joint=joint).parameters())
    assert 0.5e6 < count < 0.65e6


@both_kinds
def test_commutes_with_gain_and_offset(joint):
    k, x = net(joint=joint), random(2, 7, 13, 21)
    gain, offset = 0.1 + 2 * random(1, 7, 1, 1), random(2, 7, 1, 1) - 0.5
    assert torch.allclose(k(gain * x + offset), gain * k(x) + offset, atol=1e-4)


@both_kinds
def test_a_constant_image_gives_finite_numbers_close_to_it(joint):
    y = net(joint=joint)(torch.full((1, 7, 12, 20), 0.3))
    assert torch.allclose(y, torch.tensor(0.3), atol=1e-4)


def test_band_by_band_each_band_stands_alone_and_any_number_goes_through():
    k, x = net(4), random(2, 7, 12, 20)
    y = k(x)
    for band in range(7):
        assert torch.allclose(y[:, band : band + 1], k(x[:, band : band + 1]), atol=1e-5)
    assert net(9).state_dict().keys() == k.state_dict().keys()
    net(9).load_state_dict(k.state_dict())


def test_samples_do_not_see_each_other():
    k, x = net(), random(2, 7, 12, 20)
    assert torch.allclose(k(x)[1], k(x[1:])[0], atol=1e-5)


def degrade(x: torch.Tensor, fwhm_px=(5.0, 2.5)) -> torch.Tensor:
    return upsample(blur_down(x, gaussian_psf(fwhm_px, scale=4), 4), 4)


def test_learns_a_blur_it_was_not_told_and_keeps_it_on_unseen_ground():
    sharp = synthetic(seed=3, height=96, width=128, bands=4).tensor()
    blurry = degrade(sharp)
    train, validation, test = (..., slice(0, 64)), (..., slice(64, 96)), (..., slice(96, 128))
    k = net(4)
    before = validation_l1(k, [sharp[test]], [blurry[test]])
    history = train_kernel(
        k, [sharp[train]], [blurry[train]], val_sharp=[sharp[validation]], val_blurry=[blurry[validation]],
        steps=150, batch=4, learning_rate=4e-3, generator=generator(),
    )  # fmt: skip
    error = validation_l1(k, [sharp[test]], [blurry[test]])
    nothing = F.l1_loss(sharp[test], blurry[test]).item()
    assert error < 0.5 * before
    assert error < 0.5 * nothing
    assert history["best_validation"] == min(value for _, value in history["validation"])
    assert not k.training


class Recorder(KernelNet):
    """Keeps every training crop it sees."""

    def __init__(self) -> None:
        super().__init__(2, 16)
        self.seen: list[torch.Tensor] = []

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.training:
            self.seen.append(x)
        return super().forward(x)


def numbered(height: int, width: int, image: int) -> torch.Tensor:
    """An image whose pixels say where they are: band 0 row, band 1 column; images 1000 apart."""
    rows, columns = torch.meshgrid(torch.arange(float(height)), torch.arange(float(width)), indexing="ij")
    return torch.stack([rows, columns])[None] + 1000 * image


def test_crops_keep_the_grid_of_the_lr_pixels_and_come_from_every_image():
    images = [numbered(22, 41, 0), numbered(35, 16, 1)]
    recorder = Recorder()
    options = {"val_sharp": images, "val_blurry": images, "steps": 30, "crop": 16, "batch": 3}
    train_kernel(recorder, images, images, generator=generator(), **options)
    corners = torch.cat([x[:, :, 0, 0] for x in recorder.seen])
    assert corners.shape == (90, 2)
    assert (corners % 1000 % 4 == 0).all()
    for image, (rows, columns) in enumerate([((0, 4), (0, 4, 8, 12, 16, 20, 24)), ((0, 4, 8, 12, 16), (0,))]):
        here = corners[corners[:, 0] // 1000 == image] % 1000
        assert set(here[:, 0].tolist()) <= set(rows)
        assert set(here[:, 1].tolist()) <= set(columns)
        assert len(here) > 20
    assert all(x.shape[2:] == (16, 16) for x in recorder.seen)


def small_run(**options) -> tuple[KernelNet, dict]:
    k, sharp = net(2), random(1, 2, 24, 32)
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
    start = copy.deepcopy(net(2).state_dict())
    k, history = small_run(learning_rate=50.0)  # far too much: every step does harm
    assert history["best_step"] == 0
    assert all(torch.equal(value, start[name]) for name, value in k.state_dict().items())


def test_the_generator_alone_decides():
    torch.manual_seed(5)
    first = small_run()[1]
    torch.manual_seed(6)
    assert small_run()[1] == first
    assert small_run(generator=torch.Generator().manual_seed(3))[1] != first


def test_validation_l1_is_the_mean_absolute_error_over_images():
    sharp = [torch.zeros(1, 1, 4, 4), torch.zeros(1, 1, 8, 2)]
    blurry = [torch.full((1, 1, 4, 4), 0.1), torch.full((1, 1, 8, 2), 0.4)]
    assert validation_l1(lambda x: x, sharp, blurry) == pytest.approx(0.25)


@pytest.mark.parametrize("fwhm_px", [3.0, (4.0, 2.0)])
def test_impulse_response_of_a_blur_is_its_psf(fwhm_px):
    psf = gaussian_psf(fwhm_px, size=13)
    response = impulse_response(lambda x: blur(x, psf), random(1, 3, 31, 25), radius=6)
    assert torch.allclose(response, psf, atol=5e-6)


def test_impulse_response_is_the_mean_over_the_places_within_an_lr_pixel():
    x = random(1, 2, 40, 48)
    response = impulse_response(degrade, x, radius=8)
    total = torch.zeros(17, 17)
    for row in range(16, 20):
        for column in range(20, 24):
            bright = torch.zeros_like(x)
            bright[..., row, column] = 1
            total += degrade(bright)[0, 0, row - 8 : row + 9, column - 8 : column + 9] / 16
    assert torch.allclose(response, total, atol=1e-5)
    assert impulse_response(net(2), x).shape == (17, 17)


OK = [torch.rand(1, 4, 32, 32, generator=torch.Generator().manual_seed(0))]


def trained(sharp=OK, blurry=OK, k=None, **options):
    options = {"steps": 1, "generator": generator(), "val_sharp": OK, "val_blurry": OK} | options
    return train_kernel(k or net(4), sharp, blurry, **options)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: KernelNet(0), "`bands` must be a whole number ≥ 1, got 0"),
        (lambda: KernelNet(4, 24), "`width` must be a multiple of 16, got 24"),
        (lambda: net(4)(OK[0][0]), "`x` must be of shape (B, C, H, W), none of them 0, got"),
        (lambda: net(4)(OK[0] / 0), "`x` must be finite everywhere"),
        (lambda: net(3, joint=True)(OK[0]), "`x` must be of 3 band(s), shape (B, 3, H, W), got 4 band(s)"),
        (lambda: trained(sharp=[]), "`sharp` must be a list of at least one image, as many as `blurry`"),
        (lambda: trained(val_blurry=OK + OK), "`val_sharp` must be a list of at least one image, as many as"),
        (lambda: trained(blurry=[OK[0][..., :9]]), "`sharp` must be of the shape of `blurry` (1, 4, 32, 9)"),
        (lambda: trained(val_sharp=[OK[0][:, :3]]), "`val_sharp` must be of the shape of `val_blurry`"),
        (lambda: trained(crop=40), "`sharp` must be at least 40×40 px, got 32×32"),
        (lambda: trained(blurry=[OK[0] * float("nan")]), "`blurry` must be finite everywhere"),
        (lambda: trained(k=net(3, joint=True)), "`sharp` must be of 3 band(s), shape (B, 3, H, W)"),
        (lambda: trained(steps=0), "`steps` must be a whole number ≥ 1, got 0"),
        (lambda: trained(batch=0), "`batch` must be a whole number ≥ 1, got 0"),
        (lambda: trained(crop=0), "`crop` must be a whole number ≥ 1, got 0"),
        (lambda: trained(validate_every=0), "`validate_every` must be a whole number ≥ 1, got 0"),
        (lambda: impulse_response(net(4), OK[0], radius=15), "`image` must be at least 34×34 px, got 32×32"),
        (lambda: impulse_response(net(4), OK[0], radius=0), "`radius` must be a whole number ≥ 1, got 0"),
        (lambda: impulse_response(net(4), OK[0].repeat(2, 1, 1, 1)), "`image` must be one image"),
    ],
)  # fmt: skip
def test_bad_input(call, message):
    with pytest.raises(ValueError) as error:
        call()
    assert message in str(error.value)


@pytest.mark.parametrize("call", [lambda: net(4)(OK[0].int()), lambda: trained(sharp=[OK[0].numpy()])])
def test_no_floating_point_tensor(call):
    with pytest.raises(TypeError, match="must be a floating-point tensor"):
        call()
