"""Chains of noise levels against closed forms, hand values and diffusers."""

import math

import pytest
import torch

from ctmem.diffusion.schedule import SCHEDULES, Schedule, make_schedule


def test_linear_endpoints():
    schedule = Schedule.linear(2000)
    assert float(schedule.alpha_bar[0]) == pytest.approx(1 - 1e-4)
    logs = sum(math.log1p(-(1e-4 + (2e-2 - 1e-4) * i / 1999)) for i in range(2000))
    assert math.log(float(schedule.alpha_bar[-1])) == pytest.approx(logs)
    levels = schedule.noise_level(torch.tensor([0, 1999]))
    assert levels[0] > 0.9999 and levels[1] < 1e-4  # 1 is clean, 0 is pure noise


def test_betas_by_hand():
    """β = 0.19, 0.75: ᾱ = 0.81, 0.2025."""
    schedule = Schedule.from_betas(torch.tensor([0.19, 0.75], dtype=torch.float64))
    assert schedule.signal.tolist() == pytest.approx([0.9, 0.45])
    assert schedule.sigma.tolist() == pytest.approx([0.19**0.5, 0.7975**0.5])
    assert schedule.alpha_bar.tolist() == pytest.approx([0.81, 0.2025])


def test_cosine_is_a_squared_cosine():
    """Up to the last step, where β is capped: ᾱ_t = cos²((t/T + s)/(1 + s) · π/2) / cos²(s/(1 + s) · π/2)."""
    schedule, steps = Schedule.cosine(100), 100
    angles = [(i / steps + 0.008) / 1.008 * math.pi / 2 for i in range(steps + 1)]
    wanted = [math.cos(angle) ** 2 / math.cos(angles[0]) ** 2 for angle in angles[1:]]
    assert schedule.alpha_bar[:-1].tolist() == pytest.approx(wanted[:-1])
    assert float(schedule.alpha_bar[-1]) == pytest.approx(0.001 * wanted[-2])


@pytest.mark.parametrize(("name", "theirs"), [("linear", "linear"), ("cosine", "squaredcos_cap_v2")])
def test_equals_diffusers(name, theirs):
    diffusers = pytest.importorskip("diffusers")
    scheduler = diffusers.DDPMScheduler(1000, 1e-4, 2e-2, theirs)
    ours = make_schedule(name, 1000).alpha_bar.float()
    torch.testing.assert_close(ours, scheduler.alphas_cumprod, atol=1e-6, rtol=1e-4)


def test_shifted_by_hand():
    """κ = 2, power 1: √η from 0.02 to √0.999, the middle one their geometric mean."""
    schedule = Schedule.shifted(3, kappa=2.0, power=1.0)
    roots = [0.02, (0.02 * 0.999**0.5) ** 0.5, 0.999**0.5]
    assert schedule.signal.tolist() == pytest.approx([1 - root**2 for root in roots])
    assert schedule.sigma.tolist() == pytest.approx([2 * root for root in roots])
    size = math.hypot(0.001, 2 * 0.999**0.5)
    assert float(schedule.size[-1]) == pytest.approx(size)
    assert float(schedule.noise_level(torch.tensor(2))) == pytest.approx(0.001 / size)


@pytest.mark.parametrize(("kappa", "first"), [(1.0, 0.001**0.5), (0.5, 0.001**0.5), (1.6, 0.025), (4.0, 0.01)])
def test_shifted_begins_at_four_hundredths_of_noise_but_keeps_almost_all_of_the_data(kappa, first):
    """√η is 0.04/κ, and at most √0.001."""
    schedule = Schedule.shifted(5, kappa=kappa)
    assert float(schedule.signal[0]) == pytest.approx(1 - first**2)
    assert float(schedule.sigma[0]) == pytest.approx(kappa * first)


@pytest.mark.parametrize("steps", [2, 4, 15])
def test_shifted_spends_more_steps_at_much_noise_where_the_power_is_small(steps):
    usual, plain = Schedule.shifted(steps), Schedule.shifted(steps, power=1.0)
    torch.testing.assert_close(usual.sigma[[0, -1]], plain.sigma[[0, -1]])
    assert (usual.sigma[1:-1] > plain.sigma[1:-1]).all()


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("steps", [2, 15, 2000])
def test_levels_fall_and_can_be_told_apart(name, steps):
    levels = make_schedule(name, steps).noise_level(torch.arange(steps))
    assert levels.dtype == torch.float32 and (levels.diff() < 0).all() and 0 < levels[-1] < levels[0] < 1


@pytest.mark.parametrize("name", SCHEDULES)
def test_levels_and_noises_are_the_chain_at_unit_size(name):
    schedule = make_schedule(name, 15)
    assert schedule.levels.dtype == schedule.noises.dtype == torch.float64
    torch.testing.assert_close(schedule.levels.square() + schedule.noises.square(), torch.ones(15, dtype=torch.float64))
    torch.testing.assert_close(schedule.levels / schedule.noises, schedule.signal / schedule.sigma)
    torch.testing.assert_close(schedule.alpha_bar, schedule.levels**2)


def test_units_of_a_chain_by_hand():
    schedule = Schedule(torch.tensor([4.0, 3.0]), torch.tensor([3.0, 4.0]))
    assert schedule.levels.tolist() == pytest.approx([0.8, 0.6])
    assert schedule.noises.tolist() == pytest.approx([0.6, 0.8])


def test_a_part_of_a_chain_knows_where_it_comes_from():
    whole = Schedule.linear(1000)
    part = whole.take(whole.trailing(4, 0.2))
    assert part.steps == 4 and part.times.tolist() == [49, 99, 149, 199]
    assert torch.equal(part.levels, whole.levels[[49, 99, 149, 199]])
    assert torch.equal(part.signal, whole.signal[[49, 99, 149, 199]])
    again = part.take(part.trailing(2))
    assert again.times.tolist() == [99, 199] and torch.equal(again.sigma, whole.sigma[[99, 199]])
    assert whole.times.tolist() == list(range(1000))


def test_descent_walks_from_noise_to_the_clean_image():
    schedule = Schedule(torch.tensor([4.0, 3.0, 0.0]), torch.tensor([3.0, 4.0, 7.0]), torch.tensor([2, 5, 8]))
    steps = list(schedule.descent())
    assert [t for t, _, _ in steps] == [8, 5, 2]
    assert all(type(number) is float for _, *places in steps for place in places for number in place)
    wanted = [(0.0, 1.0), (0.6, 0.8), (0.8, 0.6), (1.0, 0.0)]
    for (_, here, there), begin, end in zip(steps, wanted, wanted[1:], strict=False):
        assert here == pytest.approx(begin) and there == pytest.approx(end)
    assert steps[-1][2] == (1.0, 0.0)


@pytest.mark.parametrize("name", ["linear", "cosine"])
def test_variance_is_preserved(name):
    schedule = make_schedule(name, 2000)
    torch.testing.assert_close(schedule.size, torch.ones(2000, dtype=torch.float64))
    assert torch.equal(schedule.noise_level(torch.tensor([700])), schedule.signal[[700]].float())


@pytest.mark.parametrize(
    ("steps", "start", "wanted"),
    [
        (4, 1.0, [999, 749, 499, 249]),
        (4, 0.2, [199, 149, 99, 49]),
        (1, 1e-9, [0]),
        (3, 0.003, [2, 1, 0]),
        (1, 0.0124, [11]),
        (1, 0.0126, [12]),  # 12.4 and 12.6 steps are 12 and 13
        (3, 1.0, [999, 666, 332]),  # 666.7 and 333.3 are 667 and 333
    ],
)
def test_trailing(steps, start, wanted):
    assert Schedule.linear(1000).trailing(steps, start) == wanted


@pytest.mark.parametrize("share", [1.0, 0.5])
def test_the_last_of_all_steps_is_the_cleanest(share):
    assert Schedule.cosine(40).trailing(int(40 * share), share)[-1] == 0


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Schedule(torch.ones(3), torch.ones(4)), r"`signal` must be a vector \(T,\), as `sigma`, got shapes"),
        (lambda: Schedule(torch.ones(2), torch.tensor([0.0, 1])), "`sigma` must be > 0 at every step, got 0.0"),
        (lambda: Schedule(torch.ones(2), torch.ones(2)), "`signal` must be such that signal/sigma falls at every step"),
        (
            lambda: Schedule(torch.tensor([1.0, 0.5]), torch.ones(2), torch.arange(3)),
            r"`times` must be of shape \(2,\), as `signal`, got shape \(3,\)",
        ),
        (lambda: Schedule.linear(9).take([]), "`times` must be different whole numbers from 0 to 8, at least one, got"),
        (lambda: Schedule.linear(9).take([3, 3]), r"`times` must be different .* got \[3, 3\]"),
        (lambda: Schedule.linear(9).take([3, 9]), r"`times` must be different .* got \[3, 9\]"),
        (lambda: Schedule.linear(9).take([-1, 3]), r"`times` must be different .* got \[-1, 3\]"),
        (lambda: Schedule.shifted(1), "`steps` must be a whole number ≥ 2, got 1"),
        (lambda: Schedule.linear(0), "`steps` must be a whole number ≥ 1, got 0"),
        (lambda: Schedule.cosine(2.5), "`steps` must be a whole number ≥ 1, got 2.5"),
        (lambda: make_schedule("sigmoid", 9), "`name` must be one of 'linear', 'cosine', 'shifted', got 'sigmoid'"),
        (lambda: Schedule.linear(9).trailing(1, 0.0), "`start` must be a share of the chain, above 0 and at most 1"),
        (lambda: Schedule.linear(10).trailing(6, 0.5), "`steps` must be a whole number from 1 to 5, got 6"),
    ],
)
def test_errors(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize("make", [Schedule.linear, Schedule.cosine, Schedule.shifted, Schedule.geometric])
def test_chains_lie_on_the_cpu_whatever_torchs_default_device_is(make):
    wanted = make(20)
    torch.set_default_device("meta")
    try:
        chain = make(20)
    finally:
        torch.set_default_device(None)
    assert chain.levels.device.type == chain.times.device.type == "cpu"
    assert torch.equal(chain.levels, wanted.levels) and torch.equal(chain.times, wanted.times)
