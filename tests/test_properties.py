"""What holds for any size: hypothesis makes up the cases, the same ones on every run."""

from __future__ import annotations

import itertools

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ctmem.data.areas import Box, crops
from ctmem.diffusion.schedule import SCHEDULES, make_schedule
from ctmem.match.patches import fold, turn_back, turned, unfold

few = settings(max_examples=40, deadline=None, derandomize=True, database=None)
sizes = st.integers(1, 19)
turns = st.integers(0, 7)


def image(*shape: int) -> torch.Tensor:
    """Numbers that are all different, so that no pixel can stand in for another."""
    return torch.arange(1.0, 1 + torch.Size(shape).numel()).reshape(shape)


# --- windows ----------------------------------------------------------------------------------------------------------


@st.composite
def cuts(draw):
    """An image's height and width, a patch, and a stride that leaves no gap."""
    patch = draw(st.integers(1, 8))
    return draw(sizes), draw(sizes), patch, draw(st.integers(1, patch))


@few
@given(cuts())
def test_folding_takes_unfolding_back(cut):
    height, width, patch, stride = cut
    x = image(2, 3, height, width)
    assert torch.allclose(fold(unfold(x, patch, stride), (height, width), stride), x)


# --- turns ------------------------------------------------------------------------------------------------------------


@few
@given(turns, sizes, sizes)
def test_each_turn_has_its_inverse(k, height, width):
    x = image(2, height, width)
    assert torch.equal(turn_back(turned(x, k), k), x)
    assert torch.equal(turned(turn_back(x, k), k), x)


@few
@given(turns, turns, st.integers(2, 9))
def test_two_turns_are_one(first, second, side):
    """The eight are closed: with their inverses, a group."""
    x = image(side, side)
    both = turned(turned(x, first), second)
    assert sum(torch.equal(both, turned(x, k)) for k in range(8)) == 1


# --- areas ------------------------------------------------------------------------------------------------------------

boxes = st.builds(Box, st.integers(0, 24), st.integers(0, 24), sizes, sizes)


def mask(box: Box, halo: int = 0) -> torch.Tensor:
    """Which pixels of a plane a box holds, `halo` pixels beyond its borders included."""
    plane = torch.zeros(64, 64, dtype=torch.bool)
    rows, columns = (slice(s.start - halo + 8, s.stop + halo + 8) for s in box.slices)
    plane[rows, columns] = True
    return plane


@few
@given(boxes, boxes, st.integers(0, 6))
def test_overlap_is_of_pixels_and_mutual(one, other, halo):
    assert one.overlaps(other, halo=halo) == other.overlaps(one, halo=halo)
    assert one.overlaps(other, halo=halo) == bool((mask(one, halo) & mask(other, halo)).any())


@few
@given(boxes, st.integers(1, 5))
def test_a_box_of_coarse_pixels_holds_the_same_ground(box, scale):
    fine = Box(box.top * scale, box.left * scale, box.height * scale, box.width * scale)
    assert fine.coarse(scale) == box
    ground = image(1, 44, 44)
    repeated = ground.repeat_interleave(scale, -2).repeat_interleave(scale, -1)
    assert torch.equal(repeated[..., *fine.slices][..., ::scale, ::scale], ground[..., *box.slices])


@few
@given(boxes, st.integers(1, 19), st.data())
def test_crops_cover_their_area_and_nothing_else(area, crop, data):
    crop = min(crop, area.height, area.width)
    stride = data.draw(st.integers(1, crop))
    found = crops(area, crop, stride)
    assert len(set(found)) == len(found)
    assert {(box.height, box.width) for box in found} == {(crop, crop)}
    assert torch.equal(torch.stack([mask(box) for box in found]).any(0), mask(area))


# --- chains of noise levels -------------------------------------------------------------------------------------------


@few
@given(st.sampled_from(sorted(SCHEDULES)), st.integers(2, 60), st.floats(0.05, 1), st.data())
def test_times_fall_from_the_noisiest(name, length, start, data):
    chain = make_schedule(name, length)
    entered = max(1, round(start * length))
    steps = data.draw(st.integers(1, entered))
    times = chain.trailing(steps, start)
    assert len(times) == steps
    assert times[0] == entered - 1
    assert all(earlier > later for earlier, later in itertools.pairwise(times))
    assert times[-1] >= 0
    short = chain.take(times)
    assert short.times.tolist() == times[::-1]
    assert torch.equal(short.levels.sort(descending=True).values, short.levels)
