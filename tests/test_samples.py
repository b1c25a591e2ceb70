"""A degraded scene and cuts of it, and samples with references from elsewhere."""

from dataclasses import replace

import pytest
import torch
from torch.utils.data import DataLoader

from ctmem.data.areas import Box, crops, split_areas
from ctmem.data.samples import Degraded, UnpairedPatches, degrade_scene
from ctmem.data.scenes import synthetic
from ctmem.observe.camera import Camera
from ctmem.observe.optics import add_noise, upsample
from ctmem.observe.responses import box_srf

SRF = torch.tensor([[0.5, 0.5, 0, 0, 0, 0, 0], [0, 0, 0, 1, 0, 0, 0], [0, 0, 0, 0, 0.25, 0.25, 0.5]])
CAMERA = Camera.gaussian(scale=4, srf=SRF)


@pytest.fixture(scope="module")
def scene():
    """66×75 px (neither a multiple of 4), 7 bands."""
    return synthetic(5, height=66, width=75, bands=7).tensor()


@pytest.fixture(scope="module")
def degraded(scene):
    return degrade_scene(scene, CAMERA)


@pytest.fixture(scope="module")
def areas():
    return split_areas(66, 75, CAMERA)


# --- degrading ---


def test_degrade_trims_to_the_scale_and_names_every_image(degraded, scene):
    assert degraded.gt.shape == (1, 7, 64, 72)
    assert degraded.lr_hsi.shape == (1, 7, 16, 18)
    assert degraded.hr_msi.shape == (1, 3, 64, 72)
    assert torch.equal(degraded.gt, scene[..., :64, :72])
    expected = (scene[0, 0, 5, 9] + scene[0, 1, 5, 9]) / 2
    assert degraded.hr_msi[0, 0, 5, 9].item() == pytest.approx(expected.item())


def test_degrade_is_the_psf_weighted_mean_of_the_neighbourhood(degraded, scene):
    """By hand at one low-resolution pixel: rows 8–11 with 4 more on each side."""
    psf = CAMERA.psf.flip(0, 1)
    expected = (scene[0, :, 4:16, 16:28] * psf).sum((1, 2))
    assert torch.allclose(degraded.lr_hsi[0, :, 2, 5], expected, atol=1e-6)


def test_cut_takes_the_same_ground_from_all_three(degraded):
    cut = degraded.cut(Box(8, 12, 16, 20))
    assert cut.gt.shape == (1, 7, 16, 20)
    assert torch.equal(cut.gt, degraded.gt[..., 8:24, 12:32])
    assert torch.equal(cut.lr_hsi, degraded.lr_hsi[..., 2:6, 3:8])
    assert torch.equal(cut.hr_msi, degraded.hr_msi[..., 8:24, 12:32])


def test_cut_keeps_low_and_high_resolution_registered(degraded):
    """The best shift between gt and the upsampled lr_hsi is none."""
    cut = degraded.cut(Box(8, 12, 40, 48))
    up = upsample(cut.lr_hsi, 4)
    inner = up[..., 8:-8, 8:-8]
    errors = {
        (y, x): (cut.gt[..., 8 + y : 32 + y, 8 + x : 40 + x] - inner).square().mean().item()
        for y in (-1, 0, 1)
        for x in (-1, 0, 1)
    }
    assert min(errors, key=errors.get) == (0, 0)


def test_cut_errors(degraded):
    with pytest.raises(ValueError, match="`box` must be inside the image of 64×72 px, got Box"):
        degraded.cut(Box(60, 0, 8, 8))
    with pytest.raises(ValueError, match="`box` must be of borders that are multiples of the scale 4"):
        degraded.cut(Box(2, 0, 8, 8))


def test_degrade_errors(scene):
    with pytest.raises(ValueError, match=r"`scene` must be one image, shape \(1, C, H, W\), got shape \(2, 7"):
        degrade_scene(scene.repeat(2, 1, 1, 1), CAMERA)
    with pytest.raises(ValueError, match="`scene` must be at least 4×4 px, got 3×75"):
        degrade_scene(scene[..., :3, :], CAMERA)
    with pytest.raises(ValueError, match=r"`scene` must be of 7 band\(s\), shape \(B, 7, H, W\), got 6"):
        degrade_scene(scene[:, :6], CAMERA)
    with pytest.raises(ValueError, match="`srf` must be a matrix whose rows sum to 1, got a row 1 that sums to 2"):
        degrade_scene(scene, replace(CAMERA, srf=SRF * torch.tensor([[1.0], [2.0], [1.0]])))
    with pytest.raises(ValueError, match=r"`camera` must be one with `srf`, the response \(c, C\) .*, got one without"):
        degrade_scene(scene, Camera.gaussian(scale=4))
    with pytest.raises(ValueError, match="`generator` must be a `torch.Generator` for the noise of 30 dB, got None"):
        degrade_scene(scene, replace(CAMERA, snr_db=30))
    with pytest.raises(TypeError, match="`scene` must be a floating-point tensor"):
        degrade_scene((255 * scene).int(), CAMERA)
    with pytest.raises(ValueError, match="`scene` must be finite in at least one pixel, got NaN or infinite values in"):
        degrade_scene(scene * torch.nan, CAMERA)


def test_a_camera_with_noise_observes_with_noise_and_sees_without(scene, degraded):
    noisy = degrade_scene(scene, replace(CAMERA, snr_db=30), generator=torch.Generator().manual_seed(2))
    generator = torch.Generator().manual_seed(2)
    assert torch.equal(noisy.lr_hsi, add_noise(degraded.lr_hsi, 30, generator=generator))
    assert not torch.equal(noisy.lr_hsi, degraded.lr_hsi)
    assert torch.equal(noisy.hr_msi, degraded.hr_msi) and torch.equal(noisy.gt, degraded.gt)


def test_what_a_degraded_scene_knows_of_its_camera(degraded):
    assert degraded.camera is CAMERA and degraded.scale == 4
    assert torch.equal(degraded.lr_hsi_up, upsample(degraded.lr_hsi, 4))
    cut = degraded.cut(Box(8, 12, 16, 20))
    assert cut.camera is CAMERA and cut.lr_hsi_up.shape == cut.gt.shape
    moved = degraded.to("cpu")
    assert torch.equal(moved.gt, degraded.gt) and moved.camera.to_dict() == CAMERA.to_dict()


def test_a_scene_with_real_responses_goes_through(degraded):
    """Box responses over a scene's own wavelengths instead of the matrix above."""
    scene = synthetic(2, height=40, width=48, bands=31)
    srf = box_srf(scene.wavelengths_nm, [(500, 700), (700, 1000)])
    result = degrade_scene(scene.tensor(), replace(CAMERA, srf=srf))
    assert isinstance(result, Degraded)
    assert result.hr_msi.shape == (1, 2, 40, 48)


# --- unpaired patches ---


def references(degraded, areas, count=3):
    boxes = crops(areas["reference"], 12, 4)[:count]
    return [degraded.cut(box).hr_msi for box in boxes]


def test_unpaired_sample(degraded, areas):
    boxes = crops(areas["train"], 16, 8)
    refs = references(degraded, areas)
    sample = UnpairedPatches(degraded, boxes, refs)[4]
    assert {name: tuple(image.shape) for name, image in sample.items()} == {
        "lr_hsi": (7, 4, 4),
        "ref_msi": (3, 12, 12),
        "gt": (7, 16, 16),
    }
    assert torch.equal(sample["gt"], degraded.gt[0, :, *boxes[4].slices])
    assert torch.equal(sample["ref_msi"], refs[4 % 3][0])


def test_unpaired_references_may_be_arrays(degraded, areas):
    boxes, refs = crops(areas["train"], 16, 8), references(degraded, areas)
    one, other = (UnpairedPatches(degraded, boxes, some)[1] for some in (refs, [x.double().numpy() for x in refs]))
    assert torch.equal(one["ref_msi"], other["ref_msi"])


def test_unpaired_every_box_and_every_reference_in_one_pass(degraded, areas):
    boxes, refs = crops(areas["train"], 16, 16), references(degraded, areas, 3)
    for some_boxes, some_refs in ((boxes, refs), (boxes[:2], refs)):
        dataset = UnpairedPatches(degraded, some_boxes, some_refs)
        seen = list(dataset)
        assert len(seen) == len(dataset) == max(len(some_boxes), len(some_refs))
        for image in [degraded.cut(box).gt[0] for box in some_boxes]:
            assert any(torch.equal(sample["gt"], image) for sample in seen)
        for image in some_refs:
            assert any(torch.equal(sample["ref_msi"], image[0]) for sample in seen)


def test_unpaired_a_loader_gives_every_sample_every_time(degraded, areas):
    """Fault 5: the released test loader is empty from its second use on."""
    dataset = UnpairedPatches(degraded, crops(areas["validation"], 8, 4), references(degraded, areas))
    loader = DataLoader(dataset, batch_size=2)
    first, second = ([batch["gt"] for batch in loader] for _ in range(2))
    assert sum(len(batch) for batch in first) == len(dataset)
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_unpaired_errors(degraded, areas):
    boxes, refs = crops(areas["train"], 16, 8), references(degraded, areas)
    with pytest.raises(ValueError, match="`boxes` must be a list of at least one Box, got an empty one"):
        UnpairedPatches(degraded, [], refs)
    with pytest.raises(ValueError, match="`references` must be a list of at least one image"):
        UnpairedPatches(degraded, boxes, [])
    with pytest.raises(ValueError, match=r"`references\[1\]` must be of 3 band\(s\)"):
        UnpairedPatches(degraded, boxes, [refs[0], refs[0][:, :2]])
    with pytest.raises(
        ValueError, match=r"`references\[0\]` must be one image, shape \(1, C, H, W\), got shape \(2, 3"
    ):
        UnpairedPatches(degraded, boxes, [refs[0].repeat(2, 1, 1, 1)])
    with pytest.raises(TypeError, match=r"`references\[0\]` must be a floating-point tensor"):
        UnpairedPatches(degraded, boxes, [refs[0].bool()])
    with pytest.raises(ValueError, match="`box` must be inside the image"):
        UnpairedPatches(degraded, [Box(64, 0, 8, 8)], refs)
    with pytest.raises(IndexError, match="`index` must be from 0 to 14, got 15"):
        UnpairedPatches(degraded, boxes[:15], refs)[15]
