"""References laid under tiles: places found on coarse pixels, several references of other bands, other ground, holes."""

from __future__ import annotations

import pytest
import torch

from ctmem.data.controls import pink, shifted
from ctmem.match.patches import turn_back
from ctmem.match.placing import Ground
from ctmem.observe.camera import Camera
from ctmem.tiling.answering import Recipe, answer
from ctmem.tiling.laying import Laying
from ctmem.tiling.plan import plan_tiles, tile_for, tile_of
from ctmem.tiling.references import Reference

SCALE, BANDS, HEIGHT, WIDTH = 3, 4, 40, 52
RIM = 15  # fine pixels of ground around the truth
CAMERA = Camera.gaussian(float(SCALE), SCALE, sensor=None)
EYE = torch.eye(BANDS)


def texture(seed: int) -> torch.Tensor:
    """Ground (1, C, H, W) that is larger than the scene."""
    size = SCALE * HEIGHT + 2 * RIM, SCALE * WIDTH + 2 * RIM
    return pink(torch.empty(1, BANDS, *size), torch.Generator().manual_seed(seed))


GROUND = texture(0)
TRUTH = GROUND[..., RIM:-RIM, RIM:-RIM]
LR = CAMERA.downsample(TRUTH)


def reference(image: torch.Tensor, *bands: int, name: str = "ref") -> Reference:
    return Reference(name, image, EYE[list(bands)], tuple(map(str, bands)), ())


@pytest.fixture(scope="module")
def recipe() -> Recipe:
    """Of four bands, each a direction of its own, without noise; the method adds nothing."""
    std = LR.std((0, 2, 3))
    return Recipe(
        method="bicubic-bp", camera=CAMERA, mean=LR.mean((0, 2, 3)), directions=EYE, std=std, noise=0 * std,
        damping=0 * std, factors=torch.ones(BANDS), good=torch.ones(BANDS, dtype=torch.bool),
    )  # fmt: skip


def error(pred: torch.Tensor, columns: slice = slice(8, -8)) -> float:
    """Rms error in the inside."""
    return float((pred - TRUTH)[..., 8:-8, columns].square().mean().sqrt())


@pytest.mark.parametrize("turn", [0, 3, 6])
def test_the_place_is_found_on_coarse_pixels_and_laid_on_fine_ones(turn):
    """The truth begins 15 fine pixels inside the ground, of which whole coarse pixels are kept."""
    moved = shifted(GROUND, -0.4, 0.7)
    ground = Ground.of(turn_back(0.6 * moved + 0.2, turn), EYE, CAMERA)
    places = ground.places(LR)
    assert places[0].turn == turn and places[0].votes > 0.3
    assert places[0].down == pytest.approx((RIM - 0.4) / SCALE, abs=0.15)
    assert places[0].across == pytest.approx((RIM + 0.7) / SCALE, abs=0.15)
    found = ground.under(LR)
    (laid,) = found.placements[0]
    assert laid.down % 1 == pytest.approx(0.6, abs=0.1) and laid.across % 1 == pytest.approx(0.7, abs=0.1)
    detail = TRUTH - CAMERA.blur(TRUTH)
    pair = torch.stack([(found.sharp - found.blurred).flatten(), detail.flatten()])
    assert float(torch.corrcoef(pair)[0, 1]) > 0.9


def test_two_references_of_other_bands_and_places_each_count_where_they_lie(recipe):
    """The left part has bands 0 and 1, the right part, turned, band 2: the scene's error falls under both."""
    half = GROUND.shape[3] // 2
    left = reference(GROUND[:, :2, :, :half], 0, 1, name="left")
    right = reference(turn_back(GROUND[:, 2:3, :, half:], 5), 2, name="right")
    plain = answer(recipe, LR)
    both = Laying.of([left, right], CAMERA)
    assert both.names == ("left", "right") and both.votes(recipe, [LR]) == [1, 1]
    pred = both(recipe, LR)
    middle = SCALE * WIDTH // 2
    for name, columns, bands in (("left", slice(8, middle - 12), [0, 1]), ("right", slice(middle + 12, -8), [2])):
        alone = both.pick([both.names.index(name)])(recipe, LR)
        for band in bands:
            was, now, own = (
                float((x - TRUTH)[0, band, 8:-8, columns].square().mean().sqrt()) for x in (plain, pred, alone)
            )
            assert now < 0.5 * was and now == pytest.approx(own, rel=0.05)
    assert list(both.inputs) == ["reference 1 (left)", "reference 2 (right)"]
    assert both.inputs != both.pick([0]).inputs != both.pick([1]).inputs


def test_other_ground_changes_no_bit(recipe):
    laying = Laying.of([reference(texture(7), 0, 1, 2, 3)], CAMERA)
    assert laying.votes(recipe, [LR]) == [0]
    assert torch.equal(laying(recipe, LR), answer(recipe, LR))


def test_holes_of_the_reference_are_not_laid_and_those_of_the_scene_stay(recipe):
    gone = GROUND.clone()
    gone[..., 60:90, 70:100] = torch.nan
    laying = Laying.of([reference(gone, 0, 1, 2, 3)], CAMERA)
    lr = LR.clone()
    lr[..., 30:33, 40:44] = torch.nan
    pred = laying(recipe, lr)
    assert torch.equal(torch.isnan(pred[0, 0]).nonzero().aminmax(dim=0)[0], torch.tensor([90, 120]))
    assert int(torch.isnan(pred[0, 0]).sum()) == 9 * 12 and bool(torch.isfinite(pred[0, :, :80]).all())
    whole = torch.where(torch.isnan(pred), TRUTH, pred)
    assert error(whole) < 0.6 * error(torch.where(torch.isnan(pred), TRUTH, answer(recipe, lr)))
    # replacing what is under the holes changes nothing: it is NaN; what is around them is used
    inside = (slice(None), slice(None), slice(50, 70), slice(60, 80))
    torch.testing.assert_close(pred[inside], answer(recipe, lr)[inside], atol=0.05, rtol=0)


def test_tiles_have_nearly_the_answer_of_the_whole(recipe):
    laying = Laying.of([reference(GROUND, 0, 1, 2, 3)], CAMERA)
    whole, tiled = laying(recipe, LR), torch.empty_like(TRUTH)
    for tile in plan_tiles(HEIGHT, WIDTH, scale=SCALE, tile=26, halo=recipe.reach).tiles:
        (top, left, height, width), (first, start, rows, columns) = tile.inner, tile.window
        pred = laying(recipe, LR[..., first : first + rows, start : start + columns])
        own = pred[..., SCALE * (top - first) :, SCALE * (left - start) :][..., : SCALE * height, : SCALE * width]
        tiled[..., SCALE * top : SCALE * (top + height), SCALE * left : SCALE * (left + width)] = own
    assert error(whole) < 0.3 * error(answer(recipe, LR))
    assert float((tiled - whole).square().mean().sqrt()) < 0.25 * error(answer(recipe, LR))


def test_a_tile_has_room_for_what_its_answer_holds(recipe):
    laying = Laying.of([reference(GROUND, 0, 1, 2, 3)], CAMERA)
    room = {"scale": SCALE, "halo": recipe.reach}
    assert tile_of(500, laying, memory_gb=2.0, **room) == tile_for(500, memory_gb=2.0 - laying.gigabytes, **room)
    assert tile_of(2, laying, memory_gb=2.0, **room) == tile_for(laying.bands, memory_gb=2.0 - laying.gigabytes, **room)
    assert tile_of(500, answer, memory_gb=2.0, **room) == tile_for(500, memory_gb=2.0, **room)
