"""Windows of any image, their way back, and the eight flips and rotations."""

from __future__ import annotations

import pytest
import torch

from ctmem.match import patches

SIZES = [(12, 20), (16, 8), (9, 21), (5, 30), (1, 1)]


def image(height: int, width: int, *, batch: int = 2, bands: int = 7) -> torch.Tensor:
    return torch.rand(batch, bands, height, width, generator=torch.Generator().manual_seed(0))


def test_starts_by_hand():
    assert patches.starts(16, 8).tolist() == [0, 8]
    assert patches.starts(20, 8).tolist() == [0, 8, 12]
    assert patches.starts(20, 8, 5).tolist() == [0, 5, 10, 12]
    assert patches.starts(8, 8, 3).tolist() == [0]
    assert patches.starts(3, 8).tolist() == [0]


@pytest.mark.parametrize(("size", "stride"), [(20, None), (20, 3), (33, 8), (8, 1)])
def test_windows_cover_every_pixel_and_stay_inside(size, stride):
    first = patches.starts(size, 8, stride)
    covered = torch.zeros(size)
    for start in first.tolist():
        assert 0 <= start <= size - 8
        covered[start : start + 8] += 1
    assert covered.min() >= 1
    assert first.unique().tolist() == first.tolist()


def test_grid_shape_counts_windows():
    assert patches.grid_shape(12, 20, 8) == (2, 3)
    assert len(patches.windows(12, 20, 8, 3)) == 3 * 5


def test_cut_by_hand():
    x = torch.arange(24).reshape(1, 4, 6)
    found = patches.cut(x, torch.tensor([[0, 0], [2, 4], [1, 3]]), 2)
    assert found.tolist() == [[[[0, 1], [6, 7]]], [[[16, 17], [22, 23]]], [[[9, 10], [15, 16]]]]


def test_unfold_takes_the_pixels_of_each_window_in_row_major_order():
    x = image(12, 20)
    found = patches.unfold(x, 8, 3)
    assert found.shape == (2, 15, 7, 8, 8)
    places = [(row, column) for row in (0, 3, 4) for column in (0, 3, 6, 9, 12)]
    for number, (row, column) in enumerate(places):
        assert torch.equal(found[:, number], x[:, :, row : row + 8, column : column + 8])


def test_an_image_smaller_than_a_window_repeats_its_border():
    x = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]])
    assert patches.unfold(x, 3)[0, 0, 0].tolist() == [[1, 2, 2], [3, 4, 4], [3, 4, 4]]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("stride", [None, 1, 3, 8])
def test_fold_undoes_unfold(size, stride):
    x = image(*size)
    assert torch.allclose(patches.fold(patches.unfold(x, 8, stride), size, stride), x, atol=1e-6)


def test_fold_without_overlap_is_exact():
    x = image(16, 24)
    assert torch.equal(patches.fold(patches.unfold(x, 8), (16, 24)), x)


def test_fold_takes_the_mean_of_overlaps():
    low, high = torch.zeros(1, 1, 1, 2, 2), torch.ones(1, 1, 1, 2, 2)
    row = patches.fold(torch.cat([low, high], 1), (2, 3), 1)[0, 0, 0]
    assert row.tolist() == [0, 0.5, 1]


def test_fold_is_the_transpose_of_unfold_up_to_the_cover():
    x, stride = image(12, 20).double(), 3
    y = torch.rand(2, 15, 7, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    ones = patches.unfold(torch.ones_like(x), 8, stride)
    cover = torch.zeros(12, 20, dtype=torch.float64)
    for row, column in patches.windows(12, 20, 8, stride).tolist():
        cover[row : row + 8, column : column + 8] += 1
    left = (patches.unfold(x, 8, stride) * y * ones).sum()
    right = (x * cover * patches.fold(y, (12, 20), stride)).sum()
    assert torch.allclose(left, right)


def test_the_eight_are_all_different_and_a_group():
    x = torch.arange(9.0).reshape(3, 3)
    turned = [patches.turned(x, k) for k in range(8)]
    keys = {tuple(t.flatten().tolist()) for t in turned}
    assert len(keys) == 8
    assert {tuple(patches.turned(t, k).flatten().tolist()) for t in turned for k in range(8)} == keys


@pytest.mark.parametrize("k", range(8))
def test_inverse_undoes(k):
    x = image(5, 5)
    assert torch.equal(patches.turn_back(patches.turned(x, k), k), x)
    assert torch.equal(patches.turned(patches.turn_back(x, k), k), x)
    long = image(3, 7)
    assert torch.equal(patches.turn_back(patches.turned(long, k), k), long)


def test_turns_by_hand():
    x = torch.tensor([[1, 2], [3, 4]])
    assert patches.turned(x, 0).tolist() == [[1, 2], [3, 4]]
    assert patches.turned(x, 1).tolist() == [[2, 4], [1, 3]]
    assert patches.turned(x, 4).tolist() == [[2, 1], [4, 3]]


def test_gradients_flow_through():
    x = image(9, 13).requires_grad_()
    patches.fold(patches.turned(patches.unfold(x, 4, 2), 5), (9, 13), 2).sum().backward()
    assert torch.isfinite(x.grad).all()
    assert x.grad.abs().sum() > 0


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: patches.starts(0, 8), "`size` must be a whole number ≥ 1, got 0"),
        (lambda: patches.starts(8, 2.0), "`patch` must be a whole number ≥ 1, got 2.0"),
        (lambda: patches.starts(8, 2, 0), "`stride` must be a whole number ≥ 1, got 0"),
        (
            lambda: patches.unfold(torch.rand(3, 8, 8), 2),
            "`image` must be of shape (B, C, H, W), none of them 0",
        ),
        (lambda: patches.unfold(torch.rand(1, 1, 8, 8) / 0, 2), "`image` must be finite everywhere, got 64"),
        (lambda: patches.unfold(torch.ones(1, 1, 8, 8), 0), "`patch` must be a whole number ≥ 1, got 0"),
        (
            lambda: patches.fold(torch.ones(1, 3, 1, 4, 4), (8, 8)),
            "`patches` must be 4 windows for 8×8 px, got 3",
        ),
        (
            lambda: patches.fold(torch.ones(1, 4, 1, 4, 4), (8, 8), 5),
            "`stride` must be a whole number from 1 to 4",
        ),
        (lambda: patches.turned(torch.ones(2, 2), 8), "`k` must be a whole number from 0 to 7, got 8"),
        (
            lambda: patches.turn_back(torch.ones(2, 2), -1),
            "`k` must be a whole number from 0 to 7, got -1",
        ),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError) as error:
        call()
    assert message in str(error.value)


def test_whole_numbers_are_no_image():
    with pytest.raises(TypeError, match="`image` must be a floating-point tensor"):
        patches.unfold(torch.ones(1, 1, 8, 8, dtype=torch.int), 2)
