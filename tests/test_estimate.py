"""The camera from its image: known blurs and noises are found, and every complaint."""

from dataclasses import replace

import pytest
import torch

from ctmem.data.scenes import load_scene, synthetic
from ctmem.inference import super_resolve
from ctmem.model import load_model
from ctmem.observe.camera import Camera
from ctmem.observe.estimate import estimate_camera, estimate_fwhm, estimate_snr_db


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def fields():
    """Two pieces of ground that share nothing, outside all test areas: (observed, reference)."""
    cube = load_scene("sentinel2_farmland").tensor()
    return cube[..., :176, :192], cube[..., :176, 208:]


@pytest.mark.parametrize("snr_db", [20.0, 30.0, 40.0])
@pytest.mark.parametrize("bands", [4, 31])
def test_the_noise_is_found_and_texture_is_not_taken_for_noise(fields, snr_db, bands):
    gt = fields[0] if bands == 4 else synthetic(height=96, width=96, bands=31).tensor()
    camera = Camera.gaussian(4.0, 4, snr_db=snr_db)
    assert estimate_snr_db(camera.observe(gt, generator=seeded())) == pytest.approx(snr_db, abs=2)


def test_each_band_and_image_may_have_its_own_brightness(fields):
    lr_hsi = Camera.gaussian(4.0, 4, snr_db=30).observe(fields[0], generator=seeded())
    scaled = lr_hsi * torch.tensor([0.01, 1.0, 3.0, 0.5]).reshape(1, 4, 1, 1)
    assert estimate_snr_db(scaled) == pytest.approx(estimate_snr_db(lr_hsi), abs=1e-3)
    both = torch.cat([lr_hsi, 0.1 * lr_hsi.flip(2)])
    assert estimate_snr_db(both) == pytest.approx(estimate_snr_db(lr_hsi), abs=0.5)


def test_wider_blurs_are_found_to_be_wider(fields):
    gt, reference = fields
    for ref_msi in (None, reference):
        found = []
        for width in (2.0, 3.0, 4.0, 5.0, 6.0, 7.0):
            camera = Camera.gaussian(width, 4)
            found.append(estimate_fwhm(camera.observe(gt), ref_msi, camera=Camera.gaussian(scale=4)))
        assert found == sorted(found) and found[-1] - found[0] > 2


def test_a_small_reference_is_not_looked_at(fields):
    camera = Camera.gaussian(scale=4)
    lr_hsi = camera.observe(fields[0])
    assert estimate_fwhm(lr_hsi, fields[1][..., :47, :], camera=camera) == estimate_fwhm(lr_hsi, camera=camera)
    assert estimate_fwhm(lr_hsi, fields[1][..., :48, :], camera=camera) != estimate_fwhm(lr_hsi, camera=camera)


def test_the_rest_of_the_camera_stays(fields):
    camera = Camera.gaussian(scale=4, srf=torch.eye(4), bands=("B02", "B03", "B04", "B08"))
    found = estimate_camera(camera.observe(fields[0]), fields[1], camera=camera)
    assert torch.equal(found.srf, camera.srf)
    assert (found.scale, found.sensor, found.bands) == (4, camera.sensor, camera.bands)
    assert found.fwhm_px[0] == pytest.approx(found.fwhm_px[1]) and found.snr_db > 30


@pytest.mark.filterwarnings("ignore:the weights were trained for another camera")
@pytest.mark.parametrize("method", ["bicubic-bp", "ctmem"])
@pytest.mark.parametrize("kind", ["none", "image", "list", "holes"])
def test_super_resolve_takes_the_estimated_camera(fields, method, kind):
    model = load_model()
    wide = Camera.gaussian(6.0, 4, srf=torch.eye(4))
    lr_hsi = wide.observe(fields[0])[..., :16, :16]
    ref_msi = None if kind == "none" else fields[1][..., :64, :64].clone()
    if kind == "holes":
        ref_msi[..., :5, :5] = float("nan")
    given = [ref_msi] if kind == "list" and method == "ctmem" else ref_msi
    told = replace(wide, psf=Camera.gaussian(scale=4).psf)
    auto = super_resolve(model, lr_hsi, given, camera=told, psf="auto", method=method, generator=seeded())
    if kind != "holes":
        camera = estimate_camera(lr_hsi, ref_msi, camera=told)
        wanted = super_resolve(model, lr_hsi, given, camera=camera, method=method, generator=seeded())
        assert torch.equal(auto, wanted)
    plain = super_resolve(model, lr_hsi, given, camera=told, method=method, generator=seeded())
    assert torch.isfinite(auto).all() and not torch.allclose(auto, plain, atol=1e-4)


def test_complaints():
    camera = Camera.gaussian(scale=4)
    lr_hsi = torch.rand(1, 4, 8, 8, generator=seeded())
    with pytest.raises(ValueError, match="`psf` must be one of 'auto', got 'blind'"):
        super_resolve(load_model(), lr_hsi, camera=camera, psf="blind")
    with pytest.raises(TypeError, match="`camera` must be a `Camera`, got int"):
        estimate_camera(lr_hsi, camera=4)
    with pytest.raises(ValueError, match="`lr_hsi` must be at least 6×6 px, got 5×8"):
        estimate_snr_db(lr_hsi[..., :5, :])
    with pytest.raises(ValueError, match="`lr_hsi` must be an image that is not constant, got a constant band"):
        estimate_fwhm(torch.full((1, 4, 8, 8), 0.5), camera=camera)


def test_a_constant_reference_teaches_nothing_and_arrays_teach_as_tensors(fields):
    camera = Camera.gaussian(scale=4, srf=torch.eye(4))
    lr_hsi = camera.observe(fields[0])[..., :16, :16]
    reference = fields[1][..., :64, :64]
    constant = torch.full_like(reference, 0.4)
    assert estimate_fwhm(lr_hsi, constant, camera=camera) == estimate_fwhm(lr_hsi, camera=camera)
    given = {"camera": camera, "psf": "auto", "method": "bicubic-bp"}
    answers = [super_resolve(load_model(), lr_hsi, image, **given) for image in (reference, reference.numpy())]
    assert torch.equal(*answers)
