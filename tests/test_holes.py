"""Holes: found, filled, opened again; and that what stands under a mask is in no number, from the scene to the answer."""

from __future__ import annotations

import pytest
import torch

from ctmem.holes import enlarged, fill_holes, open_holes, split_holes, whole_pixels


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
