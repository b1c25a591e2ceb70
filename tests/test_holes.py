"""Holes: found, filled, opened again; and that what stands under a mask is in no number, from the scene to the answer."""

from __future__ import annotations

import dataclasses
import warnings

import numpy as np
import pytest
import torch

from ctmem import load_model, super_resolve
from ctmem.benchmark import scores
from ctmem.benchmark.suites import Case
from ctmem.data.areas import Box, crops
from ctmem.data.samples import UnpairedPatches, degrade_scene
from ctmem.data.scenes import Scene, synthetic
from ctmem.evaluation import plots
from ctmem.evaluation.plots import rgb, to_array
from ctmem.evaluation.tables import compare
from ctmem.explorers.band import BandExplorer
from ctmem.explorers.render import stretch
from ctmem.holes import enlarged, fill_holes, open_holes, split_holes, whole_pixels

SCENE = synthetic(0, height=72, width=88, bands=31)
CAMERA = load_model("tiny").camera.for_wavelengths(SCENE.wavelengths_nm)
HOLE = slice(20, 29), slice(40, 52)  # fine pixels of the scene
GARBAGE = (-9999.0, -32768.0, 65535.0, 0.0, np.nan, np.inf)


def masked(garbage: float, kind: type = np.float64) -> np.ma.MaskedArray:
    """The scene in [0, 1] with garbage under a mask; one band is enough to make a hole."""
    values = SCENE.cube.astype(kind)
    mask = np.zeros(values.shape, bool)
    mask[*HOLE, 3] = True
    values[*HOLE, 3] = garbage
    values[*HOLE, 7] = 0.5  # what else the pixel has is not used either
    return np.ma.masked_array(values, mask=mask)


def seeded() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def same(one: torch.Tensor, other: torch.Tensor) -> bool:
    """Whether two images are equal bit for bit, NaN in the same places."""
    return torch.equal(one.isnan(), other.isnan()) and torch.equal(one.nan_to_num(7), other.nan_to_num(7))


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


# --- found, filled, opened again ---


def test_holes_take_the_nearest_pixel():
    image = random(2, 3, 7, 9)
    image[0, 1, 2, 4:] = torch.nan  # one band is enough
    image[0, :, :2, 4:] = torch.inf
    filled, holes = fill_holes(image)
    wanted = image.clone()
    for row in range(3):
        for column in range(4, 9):
            down, left = 3 - row, column - 3  # to row 3 below, to column 3 on the left
            if down != left:
                wanted[0, :, row, column] = image[0, :, 3, column] if down < left else image[0, :, row, 3]
            else:
                wanted[0, :, row, column] = filled[0, :, row, column]
                assert filled[0, :, row, column].tolist() in (
                    image[0, :, 3, column].tolist(),
                    image[0, :, row, 3].tolist(),
                )
    assert torch.equal(filled, wanted)
    assert holes.shape == (2, 1, 7, 9)
    assert torch.equal(holes[0, 0, :3, 4:], torch.ones(3, 5, dtype=torch.bool))
    assert holes.sum() == 15


def test_an_image_without_holes_is_left_as_it_is():
    image = random(2, 3, 7, 9)
    filled, holes = fill_holes(image)
    assert filled is image
    assert not holes.any()


def test_filling_changes_no_input():
    image = random(1, 3, 7, 9)
    image[0, 0, 3, 3] = torch.nan
    before = image.clone()
    fill_holes(image)
    assert torch.equal(image.isnan(), before.isnan())
    assert torch.equal(image.nan_to_num(0), before.nan_to_num(0))


def test_bad_input():
    with pytest.raises(ValueError, match="`image` must be finite in at least one pixel, got NaN or infinite values in"):
        fill_holes(torch.full((1, 4, 6, 6), torch.nan))
    with pytest.raises(ValueError, match=r"`image` must be of shape \(B, C, H, W\)"):
        fill_holes(random(4, 6, 6))
    with pytest.raises(TypeError, match="`image` must be a floating-point tensor"):
        fill_holes(random(1, 4, 6, 6).int().numpy())


def test_splitting_is_filling_with_none_for_no_holes():
    image = random(2, 3, 7, 9)
    same, holes = split_holes(image)
    assert same is image and holes is None
    image[1, 2, 3, 4] = torch.inf
    filled, holes = split_holes(image)
    assert torch.equal(filled, fill_holes(image)[0]) and torch.equal(holes, fill_holes(image)[1])


def test_holes_of_a_coarse_grid_open_whole_blocks():
    holes = torch.zeros(1, 1, 2, 3, dtype=torch.bool)
    holes[0, 0, 1, 2] = True
    image = open_holes(random(1, 5, 6, 9), holes)
    assert image.isnan().sum() == 5 * 9 and image[0, :, 3:, 6:].isnan().all()
    assert torch.equal(image.isnan().any(1, keepdim=True), enlarged(holes, 3))
    assert open_holes(image, None) is image


def test_whole_pixels_are_all_but_the_holes_in_order():
    image = random(1, 3, 4, 5)
    holes = torch.zeros(1, 1, 4, 5, dtype=torch.bool)
    holes[0, 0, 1, 1:3] = True
    found = whole_pixels(image, holes)
    flat = image.flatten(2)
    assert torch.equal(found[:, :, 0], torch.cat([flat[..., :6], flat[..., 8:]], 2))


@pytest.mark.parametrize(
    ("holes", "error", "message"),
    [
        (torch.zeros(1, 1, 4, 6), TypeError, "`holes` must be a tensor of truth values, got torch.float32"),
        ([True], TypeError, "`holes` must be a tensor of truth values, got list"),
        (torch.zeros(4, 6, dtype=torch.bool), ValueError, r"`holes` must be of the images they .*got shape \(4, 6\)"),
        (
            torch.zeros(1, 1, 4, 5, dtype=torch.bool),
            ValueError,
            r"\(1, 1, 8, 12\) or coarser, got shape \(1, 1, 4, 5\)",
        ),
        (torch.zeros(1, 1, 16, 24, dtype=torch.bool), ValueError, "`holes` must be of the images they belong to"),
        (torch.zeros(3, 1, 4, 6, dtype=torch.bool), ValueError, "`holes` must be of the images they belong to"),
    ],
)
def test_holes_that_do_not_fit(holes, error, message):
    with pytest.raises(error, match=message):
        open_holes(random(1, 2, 8, 12), holes)


# --- the scene ---


@pytest.mark.parametrize("garbage", GARBAGE)
def test_what_stands_under_a_mask_is_not_in_the_scene(garbage):
    scene, wanted = Scene("a", masked(garbage)), SCENE.cube.copy()
    wanted[HOLE] = np.nan
    np.testing.assert_array_equal(scene.cube, wanted)
    assert scene.holes.sum() == 9 * 12 and scene.holes[HOLE].all()
    assert scene.tensor().isnan().sum() == 31 * 9 * 12


@pytest.mark.parametrize(("kind", "garbage"), [(np.int16, -9999), (np.int16, -32768), (np.uint16, 65535)])
def test_masks_of_whole_numbers(kind, garbage):
    values = np.ones((4, 5, 3), kind)
    values[1, 2, 0] = garbage
    scene = Scene("a", np.ma.masked_equal(values, garbage))
    assert np.argwhere(scene.holes).tolist() == [[1, 2]] and np.nansum(scene.cube) == 3 * 19


def test_no_warning_of_what_stands_under_a_mask():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Scene("a", masked(1e300))


def test_nan_in_one_band_is_a_hole_in_all():
    cube = SCENE.cube.copy()
    cube[3, 4, 5] = np.nan
    scene = Scene("a", cube)
    assert np.isnan(scene.cube[3, 4]).all() and scene.holes.sum() == 1
    assert not SCENE.holes.any()
    assert not Scene("a", np.ma.masked_array(SCENE.cube)).holes.any()  # a mask that covers nothing


def test_a_cut_and_a_copy_keep_the_holes():
    scene = Scene("a", masked(-9999))
    part = scene.crop(18, 38, 6, 8)
    np.testing.assert_array_equal(part.holes, scene.holes[18:24, 38:46])
    np.testing.assert_array_equal(dataclasses.replace(scene, name="b").cube, scene.cube)
    with pytest.raises(
        ValueError, match="`cube` must be finite in at least one pixel, got NaN or masked values in all"
    ):
        scene.crop(20, 40, 9, 12)


def test_infinity_that_no_mask_covers_is_refused():
    cube = SCENE.cube.copy()
    cube[0, 0, 0] = np.inf
    with pytest.raises(ValueError, match=r"`cube` must be in \[0, 1\], got values from 0.* to inf"):
        Scene("a", cube)


def test_a_band_without_data_is_named():
    cube = SCENE.cube.copy()
    cube[..., [4, 9]] = np.nan
    with pytest.raises(
        ValueError, match=r"of bands with data \(leave the others out\), got NaN .* in all of band\(s\) 4, 9"
    ):
        Scene("a", cube)


# --- what its sensors see ---


@pytest.mark.parametrize("snr_db", [None, 30])
def test_what_sensors_see_of_a_scene_with_holes(snr_db):
    camera = dataclasses.replace(CAMERA, snr_db=snr_db)
    degraded = degrade_scene(Scene("a", masked(-9999)).tensor(), camera, generator=seeded())
    for garbage in GARBAGE:
        again = degrade_scene(Scene("a", masked(garbage)).tensor(), camera, generator=seeded())
        assert all(same(getattr(again, x), getattr(degraded, x)) for x in ("gt", "lr_hsi", "hr_msi", "lr_hsi_up"))
    assert same(CAMERA.see(degraded.gt), degraded.hr_msi)
    assert same(camera.observe(degraded.gt, generator=seeded()), degraded.lr_hsi)
    assert degraded.hr_msi.isnan().any(1).sum() == degraded.gt.isnan().any(1).sum() == 9 * 12
    # coarse pixels with any of their PSF on holes, one by one
    share = torch.nn.functional.pad(degraded.gt[0, 0].isnan().float(), [CAMERA.halo] * 4)
    size = len(CAMERA.psf)
    by_hand = [[share[r : r + size, c : c + size].any() for c in range(0, 88, 4)] for r in range(0, 72, 4)]
    assert torch.equal(degraded.lr_hsi.isnan().all(1)[0], torch.tensor(by_hand))
    assert torch.equal(
        degraded.lr_hsi_up.isnan(), degraded.lr_hsi.isnan().repeat_interleave(4, 2).repeat_interleave(4, 3)
    )
    if snr_db is None:  # the others see what they would of the whole scene
        kept = ~degraded.lr_hsi.isnan()
        assert torch.equal(degrade_scene(SCENE.tensor(), camera).lr_hsi[kept], degraded.lr_hsi[kept])


def test_noise_has_the_level_of_the_pixels_that_are_left():
    camera = dataclasses.replace(CAMERA, snr_db=20)
    bright = SCENE.tensor()
    bright[..., :36, :] = 1
    spoiled = bright.clone()
    spoiled[..., :36, :] = torch.nan
    noise = degrade_scene(spoiled, camera, generator=seeded()).lr_hsi - CAMERA.observe(bright)
    kept = ~noise.isnan().any(1)[0]
    level = CAMERA.observe(bright)[0, :, kept].square().mean(1).sqrt()
    assert torch.allclose(noise[0, :, kept].std(1) / level, torch.tensor(0.1), rtol=0.25)


def test_a_scene_of_whose_ground_nothing_is_left():
    holes = torch.zeros(1, 1, 72, 88, dtype=torch.bool)
    holes[..., ::3, ::3] = True
    with pytest.raises(ValueError, match="`gt` must be finite in at least one pixel, got NaN"):
        CAMERA.observe(SCENE.tensor() * torch.nan)
    with pytest.raises(ValueError, match="`holes` must be few enough to leave what one coarse pixel sees, got"):
        CAMERA.observe(SCENE.tensor(), holes=holes)


def test_samples_with_holes_are_left_out():
    degraded = degrade_scene(Scene("a", masked(-9999)).tensor(), CAMERA)
    boxes = crops(Box(0, 0, 72, 88), 16, 8)
    reference = CAMERA.see(SCENE.tensor()[..., :20, :20])
    patches = UnpairedPatches(degraded, boxes, [reference])
    touched = [box for box in boxes if degraded.holes[..., *box.slices].any()]
    assert len(touched) > 0 and len(patches) == len(boxes) - len(touched)
    assert all(
        bool(x.isfinite().all()) for sample in (patches[i] for i in range(len(patches))) for x in sample.values()
    )
    with pytest.raises(
        ValueError, match="`boxes` must be a list with at least one Box without holes, got 1 with holes"
    ):
        UnpairedPatches(degraded, touched[:1], [reference])


# --- tables ---


def test_a_table_leaves_holes_of_the_truth_out():
    gt = Scene("a", masked(-9999)).tensor()
    rows = compare({"half": 0.5 * gt, "filled": fill_holes(0.5 * gt)[0]}, gt, scale=4)
    assert (
        rows[0]["rmse"]
        == rows[1]["rmse"]
        == pytest.approx(0.5 * float(gt[~gt.isnan()].square().mean().sqrt()), rel=1e-5)
    )
    spoiled = SCENE.tensor()
    spoiled[0, 0, 0, 5] = torch.nan
    with pytest.raises(ValueError, match=r"`predictions\['b'\]` must be finite everywhere, got 1 NaN"):
        compare({"b": spoiled}, gt, scale=4)


# --- pictures ---


def test_holes_are_grey_in_pictures_and_have_no_part_in_the_stretch():
    scene = Scene("a", masked(-9999))
    shown = rgb(scene.tensor(), SCENE.wavelengths_nm)
    assert np.allclose(shown[HOLE], plots.NO_DATA)
    known = ~scene.holes
    bands = [int(np.abs(SCENE.wavelengths_nm - nm).argmin()) for nm in plots.RED_GREEN_BLUE_NM]
    low, high = np.percentile(SCENE.cube[known][:, bands], (1, 99), axis=0)
    by_hand = np.clip((SCENE.cube[..., bands] - low) / (high - low), 0, 1) ** plots.GAMMA
    np.testing.assert_allclose(shown[known], by_hand[known], atol=1e-6)
    np.testing.assert_array_equal(np.isnan(to_array(masked(65535))[..., 3]), scene.holes)
    figure = plots.show_images([np.where(scene.holes, np.inf, scene.cube[..., 0])])
    assert np.isfinite(figure.axes[0].images[0].get_clim()).all()


def test_explorers_draw_gaps_and_say_that_there_are_no_data():
    explorer = BandExplorer({"masked": masked(-9999), "scene": Scene("a", masked(65535))})
    explorer.band = 3
    explorer.pixel = (22, 44)
    assert explorer.label.endswith(" band 3: masked no data, scene no data")
    assert explorer._band_limits(3) == stretch(
        np.where(explorer.cubes["scene"][..., 3] >= 0, SCENE.cube[..., 3], np.nan)
    )


# --- the benchmark ---


def test_the_benchmark_judges_what_was_observed():
    scene = Scene("a", masked(-9999))
    case = Case("a", "whole", scene.tensor(), CAMERA.srf)
    lr_hsi, gt = case.observed(CAMERA, None)
    assert torch.equal(gt.isnan().any(1), enlarged(lr_hsi.isnan().any(1, keepdim=True), 4)[:, 0])
    pred = super_resolve(load_model("tiny"), lr_hsi, camera=CAMERA, method="bicubic-bp")
    found = scores.scores(pred, gt, 4) | scores.without_truth(pred, lr_hsi, CAMERA, case.same_ground(CAMERA), qnr=True)
    assert all(np.isfinite(value) for value in found.values()) and found["consistency"] < 0.01
    resampled = scores.resampled_psnr(pred, gt)
    known = ~gt.isnan().any(1)[0]
    errors = (pred - gt)[0][:, known].double().square().mean(1)
    assert resampled[0] == pytest.approx(float((-10 * errors.log10()).mean()), abs=1e-6)


def test_a_list_of_masked_rows_keeps_its_masks():
    rows = [np.ma.masked_array(row, mask=np.broadcast_to(row[:, :1] > 0.3, row.shape)) for row in SCENE.cube]
    assert (Scene("rows", rows).holes == (SCENE.cube[..., 0] > 0.3)).all()


def test_bands_without_data_are_named_at_every_reader():
    image = SCENE.tensor()
    image[:, [4, 7]] = torch.nan
    message = (
        r"must be of bands with data \(leave the others out\), got NaN or infinite values in all of band\(s\) 4, 7$"
    )
    for call in (split_holes, fill_holes):
        with pytest.raises(ValueError, match=message):
            call(image)
    with pytest.raises(ValueError, match=r"`lr_hsi` must be of bands .* band\(s\) 4, 7$"):
        super_resolve(load_model("tiny"), image, camera=CAMERA)
    image[:] = torch.nan
    with pytest.raises(ValueError, match="finite in at least one pixel"):
        split_holes(image)
