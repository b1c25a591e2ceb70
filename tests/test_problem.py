"""The denoising problem with networks of a few lines: enter, leave and weigh, loss and draws, tiles."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch

from ctmem.diffusion.problem import OVERLAP, DenoisingProblem, Rematch, rematched, residual_std, tiled_denoise
from ctmem.diffusion.samplers import SAMPLERS, sample
from ctmem.diffusion.schedule import Schedule

B, Z, H, W = 2, 4, 12, 20
STD = torch.tensor([0.5, 2.0, 0.1, 1.0])
TARGETS = ("x0", "residual", "eps", "v")
every_target = pytest.mark.parametrize("target", TARGETS)


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


class KnowsAll:
    """A network that knows the truth and puts out what its target names; it counts its conditions."""

    def __init__(self, target, truth):
        self.target, self.truth, self.conditions = target, truth, 0
        self.residual_std = STD if target == "residual" else None

    def condition(self, base, texture):
        self.conditions += 1
        return base

    def denoise(self, x_t, level, previous, condition):
        x0 = (self.truth - condition) / STD[:, None, None] if self.target == "residual" else self.truth
        signal = level.double().reshape(-1, 1, 1, 1)
        sigma = (1 - signal.square()).sqrt()
        noise = (x_t - signal * x0) / sigma
        return {"eps": noise, "v": signal * noise - sigma * x0}.get(self.target, x0).float()


def problem(target):
    truth, base = normal(B, Z, H, W, seed=1), normal(B, Z, H, W, seed=2)
    network = KnowsAll(target, truth)
    return truth, network, DenoisingProblem.of(network, base, torch.zeros(B, 1, H, W))


@every_target
def test_what_a_target_means_to_the_diffusion(target):
    _, _, asked = problem(target)
    assert asked.prediction == {"residual": "x0"}.get(target, target)
    assert (asked.residual_std is STD) == (target == "residual")
    assert torch.equal(asked.start, torch.zeros(B, Z, H, W) if target == "residual" else asked.base)


@every_target
def test_enter_and_leave_undo_each_other(target):
    truth, _, asked = problem(target)
    torch.testing.assert_close(asked.leave(asked.enter(truth)), truth)
    assert torch.equal(asked.enter(truth), truth) == (target != "residual")


def test_residual_by_hand():
    base, z = torch.full((1, Z, 1, 1), 3.0), torch.full((1, Z, 1, 1), 4.0)
    asked = DenoisingProblem(lambda x, level, previous: x, base, residual_std=STD)
    assert asked.enter(z).flatten().tolist() == pytest.approx([2.0, 0.5, 10.0, 1.0])
    assert asked.leave(torch.ones_like(base)).flatten().tolist() == pytest.approx([3.5, 5.0, 3.1, 4.0])
    assert asked.weigh(torch.ones(1, Z, 1, 1)).flatten().tolist() == pytest.approx((STD / 0.9).tolist())


@every_target
def test_matching_again_asks_with_the_images_whatever_the_diffusion_runs_on(target):
    """Before the third call, with the estimate that it is handed: as an image, also where residuals are drawn."""
    _, network, asked = problem(target)
    queries = []
    again = rematched(asked, network, Rematch(2, lambda z: (queries.append(z), torch.zeros(B, 1, H, W))[1]))
    handed = [normal(B, Z, H, W, seed=seed) for seed in range(4, 7)]
    for previous in handed:
        again.denoise(normal(B, Z, H, W), torch.full((B,), 0.5), previous)
    assert len(queries) == 1
    expected = asked.base + STD[:, None, None] * handed[2] if target == "residual" else handed[2]
    torch.testing.assert_close(queries[0], expected)


@every_target
def test_the_truth_has_no_loss_and_an_error_costs_its_weight(target):
    truth, network, asked = problem(target)
    weight, schedule = torch.rand(B, Z, 1, 1, generator=torch.Generator().manual_seed(3)) + 0.5, Schedule.cosine(50)
    exact = asked.loss(truth, weight, schedule, generator=torch.Generator().manual_seed(0))
    assert float(exact) < 1e-3
    if target in ("x0", "residual"):
        off = torch.tensor([0.2, 0.0, 0.1, 0.3])[:, None, None]
        network.truth = truth + off
        value = asked.loss(truth, weight, schedule, generator=torch.Generator().manual_seed(0))
        wanted = float((off * weight).mean()) / (1.0 if target == "x0" else float(STD.mean()))
        assert float(value) == pytest.approx(wanted, rel=1e-3)


@every_target
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_draw_is_the_truth_and_the_callback_is_handed_images(target, sampler):
    truth, network, asked = problem(target)
    seen = []
    options = {"steps": 5, "sampler": SAMPLERS[sampler], "start": 0.6}
    found = asked.draw(
        Schedule.linear(100), generator=torch.Generator().manual_seed(5), **options,
        callback=lambda step, t, x, x0: seen.append((step, t, x, x0)),
    )  # fmt: skip
    torch.testing.assert_close(found, truth, atol=1e-3, rtol=1e-3)
    assert [(step, t) for step, t, _, _ in seen] == [(0, 59), (1, 47), (2, 35), (3, 23), (4, 11)]
    assert all(float((x0 - truth).abs().max()) < 1e-2 for *_, x0 in seen)
    x = asked.enter(seen[0][2])
    torch.testing.assert_close(asked.leave(x), seen[0][2])
    assert float(x.square().mean()) < 3 and network.conditions == 1
    plain = sample(asked.denoise, asked.start, Schedule.linear(100), prediction=asked.prediction,
                   generator=torch.Generator().manual_seed(5), **options)  # fmt: skip
    assert torch.equal(asked.leave(plain), found)


def test_measured_residuals_have_unit_size_and_an_empty_channel_keeps_one():
    base, target = normal(3, Z, H, W), normal(3, Z, H, W) + STD[:, None, None] * normal(3, Z, H, W, seed=1)
    target[:, 2] = base[:, 2]
    found = residual_std(target, base)
    assert found.tolist() == pytest.approx([0.5, 2.0, 1.0, 1.0], rel=0.1) and float(found[2]) == 1.0
    size = ((target - base) / found[:, None, None]).square().mean((0, 2, 3)).sqrt()
    torch.testing.assert_close(size, torch.tensor([1.0, 1.0, 0.0, 1.0]))


# --- tiles ---


class Doubles:
    """Twice the base, and a note of the tiles' sizes."""

    target, residual_std = "x0", None

    def __init__(self):
        self.sizes = []

    def condition(self, base, texture):
        assert base.shape[2:] == texture.shape[2:]
        self.sizes.append(tuple(base.shape[2:]))
        return base

    def denoise(self, x_t, level, previous, condition):
        return condition * 2 + x_t - previous


@pytest.mark.parametrize("tile", [24, 25, 40, 71, 72, None])
def test_estimates_that_agree_survive_tiling(tile):
    """Blending weights sum to 1: tiles that all say the same give just that, also at the borders."""
    network, base, x = Doubles(), normal(2, 3, 40, 72), normal(2, 3, 40, 72, seed=1)
    asked = DenoisingProblem.of(network, base, normal(2, 1, 40, 72), tile=tile)
    torch.testing.assert_close(asked.denoise(x, torch.ones(2), x), base * 2, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(asked.denoise(x, torch.ones(2), base), base + x, atol=1e-5, rtol=1e-5)
    assert max(side for size in network.sizes for side in size) <= (tile or 72)
    assert len(network.sizes) == 1 or tile < 72


class Numbered(Doubles):
    """Says the number of its tile, everywhere."""

    def condition(self, base, texture):
        self.sizes.append(None)
        return float(len(self.sizes) - 1)

    def denoise(self, x_t, level, previous, condition):
        return torch.full_like(x_t, condition)


def test_where_two_tiles_overlap_the_estimate_goes_over_from_one_to_the_other():
    """Two tiles of 32 over 48 columns that say 0 and 1: in the 16 columns that both have, a ramp by hand."""

    x = torch.zeros(1, 1, 20, 48)
    row = tiled_denoise(Numbered(), x, x, 32)(x, torch.ones(1), x)[0, 0, 7]
    rising = torch.arange(1, 17) / 16
    assert OVERLAP == 16 and row[:16].eq(0).all() and row[32:].eq(1).all()
    torch.testing.assert_close(row[16:32], rising / (rising + rising.flip(0)))


@pytest.mark.parametrize(("tile", "overlap"), [(32, 16), (40, 16), (24, 12), (9, 4)])
def test_neighbouring_tiles_overlap_by_sixteen_pixels_or_half_a_tile(tile, overlap):
    """The last one is moved back to end at the border, and overlaps by more."""
    seen = []

    class Places(Doubles):
        def condition(self, base, texture):
            seen.append((int(base[0, 0, 0, 0]), int(base[0, 0, 0, -1]) + 1))

    columns = torch.arange(100.0).expand(1, 1, 8, 100)
    tiled_denoise(Places(), columns, columns, tile)
    assert seen[0][0] == 0 and seen[-1][1] == 100 and all(stop - start == tile for start, stop in seen)
    shared = [before[1] - after[0] for before, after in pairwise(seen)]
    assert set(shared[:-1]) == {overlap} and overlap <= shared[-1] < tile


def test_a_ramp_is_sixteen_pixels_long_however_wide_the_overlap():
    """Tiles of 64 over 90 columns share 38: both count alike in the six between the two ramps."""

    x = torch.zeros(1, 1, 20, 90)
    row = tiled_denoise(Numbered(), x, x, 64)(x, torch.ones(1), x)[0, 0, 7, 26:64]
    first = torch.tensor([min(38 - place, 16) / 16 for place in range(38)])  # falls towards its end
    second = torch.tensor([min(place + 1, 16) / 16 for place in range(38)])
    torch.testing.assert_close(row, second / (first + second))
    assert row[16:22].eq(0.5).all()


def test_errors():
    with pytest.raises(ValueError, match="`base` must be of the shape of `target`"):
        residual_std(torch.zeros(1, Z, 2, 2), torch.zeros(1, Z, 2, 3))
    with pytest.raises(ValueError, match=r"`target` must be of shape \(B, C, H, W\)"):
        residual_std(torch.zeros(Z, 2, 2), torch.zeros(Z, 2, 2))
    _, _, asked = problem("x0")
    with pytest.raises(TypeError, match="`sampler` must be a function such as `sample_ddim`, got 'heun'"):
        asked.draw(Schedule.linear(10), steps=2, sampler="heun")
    with pytest.raises(ValueError, match="`steps` must be a whole number from 1 to 10, got 11"):
        asked.draw(Schedule.linear(10), steps=11)
