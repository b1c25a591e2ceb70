"""A reference laid under the query where windows agree: known places, other ground, borders, holes, several references."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from ctmem.config import MatchConfig
from ctmem.data.controls import pink, shifted, tilted
from ctmem.match import agreement
from ctmem.match.agreement import agree, vote
from ctmem.match.detail import local_detail
from ctmem.match.dmb import find, prepare
from ctmem.match.laying import bent, box_mean, finer, laid, moved_along
from ctmem.match.patches import turn_back, turned
from ctmem.observe.camera import Camera

BANDS, HEIGHT, WIDTH = 3, 48, 64
CONFIG = MatchConfig(stride=1, top_k=8)
CAMERA = Camera.gaussian(scale=4, srf=torch.eye(BANDS))


def texture(seed: int, height: int = HEIGHT + 24, width: int = WIDTH + 24) -> torch.Tensor:
    """A textured image (1, c, H, W)."""
    return pink(torch.empty(1, BANDS, height, width), torch.Generator().manual_seed(seed))


GROUND = texture(0)
TRUTH = GROUND[..., 12:-12, 12:-12]
SEEN = CAMERA.blur(TRUTH)


def laid_under(reference: torch.Tensor | list[torch.Tensor]) -> agreement.Agreed:
    prepared = prepare(SEEN, reference, CAMERA, CONFIG)
    return agree(find(prepared, CONFIG), prepared, CAMERA.blur, sharpening=CONFIG.sharpening)


def inner(x: torch.Tensor) -> torch.Tensor:
    return x[..., 8:-8, 8:-8]


def correlation(one: torch.Tensor, other: torch.Tensor) -> float:
    return float(torch.corrcoef(torch.stack([inner(one).flatten(), inner(other).flatten()]))[0, 1])


@pytest.mark.parametrize("turn", range(8))
def test_the_place_is_found_in_all_turns_to_a_fraction_of_a_pixel(turn):
    moved = shifted(GROUND, -0.4, 0.7)
    found = laid_under(turn_back(0.6 * moved + 0.2, turn))
    best = found.placements[0][0]
    assert best.turn == turn
    assert best.down == pytest.approx(12 - 0.4, abs=0.06)
    assert best.across == pytest.approx(12 + 0.7, abs=0.06)
    assert best.votes > 0.3
    detail = TRUTH - SEEN
    assert correlation(found.sharp - found.blurred, detail) > 0.9
    assert float(inner(found.score).min()) > 0.9


def test_whole_pixels_stay_as_they_are():
    found = laid_under(GROUND)
    assert found.placements[0][0][:4] == (0, 0, 12, 12)
    bands = zip(found.sharp.unbind(1), TRUTH.unbind(1))
    assert min(correlation(one, other) for one, other in bands) == pytest.approx(1, abs=1e-5)


def test_whole_pixels_are_tried_where_the_votes_are_a_pixel_off(monkeypatch):
    """Steps of least squares end beside the whole pixel; at (12, 12) the reference is the truth itself, to the bit."""
    off = agreement.Placement(0, 0, 13, 11, 0.9)
    monkeypatch.setattr(agreement, "vote", lambda match, most: [[off]])
    assert laid_under(GROUND).placements[0][0][2:4] == (12, 12)


@pytest.mark.parametrize("other", [texture(5), 1 - GROUND, GROUND.roll(1, 1), torch.full_like(GROUND, 0.5)])
def test_other_ground_is_not_laid(other):
    found = laid_under(other)
    assert found.placements == ((),)
    assert all(float(x.abs().max()) == 0 for x in (found.sharp, found.blurred, found.score, found.near, found.votes))


def test_half_of_the_ground_is_taken_and_the_rest_is_told_apart():
    found = laid_under(torch.cat([TRUTH[..., : WIDTH // 2], texture(7)[..., :HEIGHT, : WIDTH // 2]], -1))
    assert found.placements[0][0][:4] == (0, 0, 0, 0)
    left, right = found.near[..., : WIDTH // 2 - 8], found.near[..., WIDTH // 2 + 8 :]
    assert float(left.mean()) > 0.97
    assert float(right.mean()) < 0.6


def test_a_part_of_the_ground_in_each_of_two_references():
    upper = turned(TRUTH[..., : HEIGHT // 2, :], 3)
    found = laid_under([texture(3), 1 - upper * 0.5, upper, TRUTH[..., HEIGHT // 2 :, :]])
    assert {(p.scene, p.turn) for p in found.placements[0]} >= {(2, 1), (3, 0)}
    assert float(inner(found.near).median()) > 0.95


def test_holes_and_what_lies_beyond_the_border_are_not_taken():
    reference = TRUTH.clone()[..., 10:, :]
    reference[..., 20:26, 30:36] = torch.nan
    found = laid_under(reference)
    assert found.placements[0][0][:4] == (0, 0, -10, 0)
    assert bool(torch.isfinite(found.sharp).all())
    assert float(found.score[..., :10, :].abs().max()) == 0
    assert float(found.score[..., 30:36, 30:36].abs().max()) == 0
    assert float(found.score[..., 12:24, :].min()) > 0.9


@pytest.mark.parametrize(("degrees", "stretch"), [(1.5, 1.0), (0.0, 1.02)])
def test_a_tilted_or_stretched_reference_is_bent(degrees, stretch):
    found = laid_under(tilted(GROUND, degrees, stretch))
    assert correlation(found.sharp - found.blurred, TRUTH - SEEN) > 0.85


def test_each_of_a_batch_has_its_own_reference_and_the_same_is_found_again():
    both = torch.cat([GROUND, texture(9)])
    prepared = prepare(SEEN.expand(2, -1, -1, -1), both, CAMERA, CONFIG)
    one, two = (agree(find(prepared, CONFIG), prepared, CAMERA.blur, sharpening=CONFIG.sharpening) for _ in range(2))
    assert len(one.placements[0]) >= 1
    assert one.placements[1] == ()
    assert torch.equal(one.sharp, two.sharp)
    assert torch.equal(one.sharp[:1], laid_under(GROUND).sharp)


def test_votes_name_the_turned_corner():
    prepared = prepare(SEEN, turn_back(GROUND, 6), CAMERA, replace(CONFIG, sharpening=0))
    ((best, *_),) = vote(find(prepared, replace(CONFIG, sharpening=0)), most=1)
    assert best[:4] == (0, 6, 12, 12)
    with pytest.raises(ValueError, match="`most` must be a whole number ≥ 1"):
        vote(find(prepared, CONFIG), most=0)


def test_what_blurs_is_a_function():
    prepared = prepare(SEEN, GROUND, CAMERA, CONFIG)
    with pytest.raises(TypeError, match="`blur` must be a function"):
        agree(find(prepared, CONFIG), prepared, CAMERA)


# --- the pieces ---


@pytest.mark.parametrize("by", [-3.0, 0.25, 1.5, 6.7, -90.0, 200.0])
def test_moving_reads_between_pixels_and_repeats_the_border(by):
    places = torch.arange(40.0)
    wave = torch.cos(0.9 * places).reshape(1, 1, 40)
    found = moved_along(wave, by, 20, 2)[0, 0]
    wanted = torch.cos(0.9 * (places[:20] + by))
    whole = (places[:20] + by - 6 >= 0) & (places[:20] + by + 6 < 40)
    assert found.shape == (20,)
    assert torch.allclose(found[whole], wanted[whole], atol=0.02)
    if by < -50:
        assert torch.allclose(found, wave[0, 0, :1].expand(20))


@pytest.mark.parametrize("by", [0.5, 3.3, -7.1])
def test_moving_keeps_a_constant(by):
    for axis in (1, 2):
        moved = moved_along(torch.full((1, 40, 40), 0.5), by, 20, axis)
        torch.testing.assert_close(moved, torch.full_like(moved, 0.5), atol=1e-6, rtol=0)


def test_where_there_is_no_data_the_query_stands():
    query = torch.full((1, 6, 8), 7.0)
    data = torch.ones(5, 9, dtype=torch.bool)
    data[2, 4] = False
    image, mask = laid(torch.ones(1, 5, 9), data, (1.0, -1.5), query)
    wanted = torch.zeros(6, 8)
    wanted[0:4, 2:8] = 1
    wanted[1, 5:7] = 0
    assert torch.equal(mask[0], wanted)
    assert torch.equal(image == 7, mask == 0)


def test_bending_by_the_same_everywhere_is_moving():
    query, data = torch.full((BANDS, 30, 41), 7.0), torch.ones(GROUND.shape[2:], dtype=torch.bool)
    data[20, 30] = False
    for at in ((3.0, -2.0), (2.5, 40.3), (-1.25, 70.0)):
        field = torch.tensor(at)[:, None, None].expand(2, 30, 41)
        (one, mask), (other, same) = bent(finer(GROUND[0]), data, field, query), laid(GROUND[0], data, at, query)
        assert torch.equal(mask, same)
        assert torch.allclose(one, other, atol=0.01)


def test_a_box_is_a_mean():
    x = torch.zeros(1, 1, 7, 9)
    x[..., 3, 4] = 9
    assert torch.allclose(box_mean(x, 3)[0, 0, 2:5, 3:6], torch.ones(3, 3))
    assert float(box_mean(x, 3).sum()) == pytest.approx(9)


def test_detail_follows_the_bands_as_they_do_around_each_place():
    left = (torch.arange(WIDTH) < WIDTH // 2).float()
    mix = torch.stack([TRUTH[0, 0] - 2 * TRUTH[0, 1], 3 * left * TRUTH[0, 2] + (1 - left) * TRUTH[0, 0]])[None]
    blurry = CAMERA.blur(mix)
    weight = torch.ones_like(TRUTH[:, :1])
    detail, explained = local_detail(blurry, 5 * TRUTH, 5 * SEEN, weight)
    away = (torch.arange(WIDTH) - WIDTH // 2).abs() > 12
    assert float((detail + blurry - mix)[0, :, :, away].abs().max()) < 0.05
    assert float(explained[..., away].min()) > 0.9
    assert float(local_detail(blurry, SEEN, SEEN, weight)[0].abs().max()) == 0
    with pytest.raises(ValueError, match="`weight`"):
        local_detail(blurry, TRUTH, SEEN, weight[..., 1:])


def test_where_the_reference_shows_nothing_detail_follows_the_bands_as_in_the_whole_image():
    """The blurred reference is constant on the right: only the fit of the whole image knows that z is twice band 0."""
    low, sharp = SEEN.clone(), TRUTH.clone()
    low[..., WIDTH // 2 :], sharp[..., WIDTH // 2 :] = 0.5, 0.6
    detail, _ = local_detail(2 * low[:, :1], sharp, low, torch.ones_like(low[:, :1]))
    right = detail[..., WIDTH // 2 + 12 :]
    torch.testing.assert_close(right, torch.full_like(right, 0.2), atol=0.01, rtol=0)
