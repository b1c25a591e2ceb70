"""Areas of a scene that share nothing, also not through the blur, and crops of them."""

import numpy as np
import pytest
import torch

from ctmem.data.areas import Box, crops, split_areas
from ctmem.data.samples import UnpairedPatches, degrade_scene
from ctmem.data.scenes import synthetic
from ctmem.observe.camera import Camera
from ctmem.observe.optics import gaussian_psf

SRF = torch.tensor([[0.5, 0.5, 0, 0, 0, 0, 0], [0, 0, 0, 1, 0, 0, 0], [0, 0, 0, 0, 0.25, 0.25, 0.5]])
CAMERA = Camera.gaussian(scale=4, srf=SRF)
WIDE = Camera.gaussian(fwhm_px=12.0, scale=4, srf=SRF)  # a blur three coarse pixels wide


@pytest.fixture(scope="module")
def scene():
    """66×75 px (neither a multiple of 4), 7 bands."""
    return synthetic(5, height=66, width=75, bands=7).tensor()


def camera_of(scale, halo):
    """A camera that reads `halo` fine pixels beyond a coarse one."""
    return Camera(gaussian_psf(float(scale), size=scale + 2 * halo, scale=scale), scale)


@pytest.fixture(scope="module")
def areas():
    return split_areas(66, 75, CAMERA)


# --- areas ---


def test_areas_of_indian_pines():
    assert split_areas(145, 145, CAMERA) == {
        "train": Box(0, 0, 64, 144),
        "test": Box(72, 0, 72, 48),
        "validation": Box(72, 56, 72, 24),
        "reference": Box(72, 88, 72, 56),
    }


@pytest.mark.parametrize(
    ("height", "width", "scale", "halo"),
    [(145, 145, 4, 4), (66, 75, 4, 4), (200, 90, 2, 5), (131, 307, 8, 8), (60, 64, 3, 1), (40, 50, 1, 0)],
)
def test_areas_share_no_pixel_with_their_halos(height, width, scale, halo):
    camera = camera_of(scale, halo)
    assert camera.halo == halo
    areas = split_areas(height, width, camera)
    counts = np.zeros((height + 2 * halo, width + 2 * halo), dtype=int)
    for box in areas.values():
        rows = slice(box.top, box.top + box.height + 2 * halo)
        counts[rows, box.left : box.left + box.width + 2 * halo] += 1
    assert counts.max() == 1
    assert all(side % scale == 0 for box in areas.values() for side in (box.top, box.left, box.height, box.width))
    assert all(min(box.height, box.width) >= 2 * scale for box in areas.values())
    bottom = max(box.top + box.height for box in areas.values())
    right = max(box.left + box.width for box in areas.values())
    assert height - bottom < scale
    assert width - right < scale


def test_areas_of_too_small_a_scene():
    with pytest.raises(ValueError, match="`height, width` must be large enough for four areas of 8 px .* got 30×90"):
        split_areas(30, 90, camera_of(4, 8))
    with pytest.raises(ValueError, match="four areas of 32 px or more with gaps of 8 px, got 145×145"):
        split_areas(145, 145, camera_of(4, 4), at_least=32)


@pytest.mark.parametrize("name", ["height", "width", "at_least"])
def test_areas_need_whole_numbers(name):
    arguments = {"height": 145, "width": 145, "camera": CAMERA} | {name: 2.5}
    with pytest.raises(ValueError, match=f"`{name}` must be a whole number ≥ .*, got 2.5"):
        split_areas(**arguments)


def test_areas_keep_the_reach_of_the_blur_apart_whatever_the_blur():
    """Nobody types a halo: a wider blur moves the areas by itself."""
    for camera, gap in ((CAMERA, 8), (WIDE, 32), (Camera.gaussian(fwhm_px=(2.0, 9.0), scale=4), 24)):
        areas = split_areas(145, 145, camera)
        assert -(-2 * camera.halo // 4) * 4 == gap
        assert areas["test"].top - areas["train"].height == gap
        assert areas["validation"].left - areas["test"].width == gap


# --- boxes and crops ---


def test_box_overlap_counts_the_halo():
    left, right = Box(0, 0, 10, 10), Box(3, 14, 10, 10)  # 4 px between them
    assert not left.overlaps(right)
    assert not left.overlaps(right, halo=2)
    assert left.overlaps(right, halo=3)
    assert left.overlaps(Box(9, 9, 1, 1))
    assert not left.overlaps(Box(10, 9, 1, 1))


def test_box_in_coarse_pixels():
    assert Box(8, 12, 16, 4).coarse(4) == Box(2, 3, 4, 1)
    with pytest.raises(ValueError, match=r"`box` must be of borders that are multiples of the scale 4, got Box\(top=8"):
        Box(8, 12, 16, 6).coarse(4)


def test_box_needs_whole_numbers():
    with pytest.raises(ValueError, match="`top` must be a whole number ≥ 0, got -1"):
        Box(-1, 0, 4, 4)
    with pytest.raises(ValueError, match="`width` must be a whole number ≥ 1, got 0"):
        Box(0, 0, 4, 0)


def test_crops_cover_the_area_and_stay_inside():
    area = Box(8, 4, 28, 44)
    boxes = crops(area, 12, 8)
    covered = np.zeros((60, 60), dtype=bool)
    for box in boxes:
        assert (box.height, box.width) == (12, 12)
        covered[box.slices] = True
    inside = np.zeros_like(covered)
    inside[area.slices] = True
    assert np.array_equal(covered, inside)
    assert sorted({box.top for box in boxes}) == [8, 16, 24]
    assert sorted({box.left for box in boxes}) == [4, 12, 20, 28, 36]
    assert len(boxes) == len(set(boxes)) == 15


def test_crops_flush_with_the_far_border():
    assert [box.left for box in crops(Box(0, 0, 8, 28), 8, 12)] == [0, 12, 20]


def test_crops_errors():
    with pytest.raises(ValueError, match="`crop` must be at most the area's 28×44 px, got 32"):
        crops(Box(8, 4, 28, 44), 32, 8)
    with pytest.raises(ValueError, match="`stride` must be a whole number ≥ 1, got 0"):
        crops(Box(8, 4, 28, 44), 12, 0)


# --- no leak ---


@pytest.mark.parametrize("name", ["train", "validation", "test", "reference"])
def test_no_area_sees_a_pixel_that_another_area_holds_or_sees(name, scene, areas):
    """What an area yields stays the same, bit for bit, when all ground but the area and its halo changes."""
    box, halo = areas[name], CAMERA.halo
    other = torch.rand(scene.shape, generator=torch.Generator().manual_seed(1))
    rows = slice(max(box.top - halo, 0), box.top + box.height + halo)
    columns = slice(max(box.left - halo, 0), box.left + box.width + halo)
    other[..., rows, columns] = scene[..., rows, columns]
    before, after = (degrade_scene(x, CAMERA).cut(box) for x in (scene, other))
    assert torch.equal(before.lr_hsi, after.lr_hsi)
    assert torch.equal(before.gt, after.gt)
    assert torch.equal(before.hr_msi, after.hr_msi)


def test_the_halo_is_real(scene, areas):
    """The blur does read 4 px beyond an area: the test above could not hold with a smaller halo."""
    assert CAMERA.halo == 4
    box = areas["test"]
    other = scene.clone()
    other[..., box.top - CAMERA.halo, :] += 0.1
    before, after = (degrade_scene(x, CAMERA).cut(box).lr_hsi for x in (scene, other))
    assert not torch.equal(before, after)


@pytest.mark.parametrize("changed", ["train", "validation", "test", "reference"])
def test_no_leak_through_a_blur_three_coarse_pixels_wide(changed):
    """With FWHM 12 px, other ground in one area moves no observation of any other area, bit for bit."""
    scene = synthetic(5, height=150, width=175, bands=7).tensor()
    areas = split_areas(150, 175, WIDE)
    other = scene.clone()
    other[..., *areas[changed].slices] = 1 - other[..., *areas[changed].slices]
    before, after = (degrade_scene(x, WIDE) for x in (scene, other))
    for name, box in areas.items():
        same = torch.equal(before.cut(box).lr_hsi, after.cut(box).lr_hsi)
        assert same == (name != changed), name


def test_the_areas_of_a_narrow_blur_would_leak_through_a_wide_one():
    """What the test above finds: 8 px between areas are too few for a blur that reads 16 px beyond a pixel."""
    scene = synthetic(5, height=150, width=175, bands=7).tensor()
    areas = split_areas(150, 175, CAMERA)
    other = scene.clone()
    other[..., *areas["train"].slices] = 1 - other[..., *areas["train"].slices]
    before, after = (degrade_scene(x, WIDE).cut(areas["test"]).lr_hsi for x in (scene, other))
    assert not torch.equal(before, after)


def test_training_samples_have_no_gradient_from_the_other_areas(scene, areas):
    """Which pixels of the scene do the training samples depend on? None of the test and validation areas."""
    pixels = scene.clone().requires_grad_()
    degraded = degrade_scene(pixels, CAMERA)
    reference = degraded.cut(areas["reference"]).hr_msi
    boxes = crops(areas["train"], 16, 8)
    dataset = UnpairedPatches(degraded, boxes, [reference])
    total = sum(image.sum() for sample in dataset for image in sample.values())
    (gradient,) = torch.autograd.grad(total, pixels)
    for name in ("test", "validation"):
        assert gradient[..., *areas[name].slices].abs().max() == 0
    assert gradient[..., *areas["train"].slices].abs().min() > 0
