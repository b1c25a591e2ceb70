"""The diffusion against closed forms, an oracle denoiser, and the schedulers of diffusers."""

import math

import pytest
import torch

from ctmem import diffusion
from ctmem.diffusion import SAMPLERS, Schedule, add_noise, draw_steps, sample, training_loss

SHAPE = (2, 3, 12, 20)


@pytest.fixture
def x0():
    return torch.randn(SHAPE, generator=torch.Generator().manual_seed(0))


class Oracle:
    """A denoiser that knows the truth, and writes down what it was told."""

    def __init__(self, x0):
        self.x0, self.levels, self.inputs, self.previous = x0, [], [], []

    def __call__(self, x_t, level, previous):
        self.levels.append(level)
        self.inputs.append(x_t)
        self.previous.append(previous)
        return self.x0


def test_schedule_endpoints():
    schedule = Schedule.linear(2000)
    assert float(schedule.betas[0]) == 1e-4 and float(schedule.betas[-1]) == pytest.approx(2e-2)
    assert float(schedule.alpha_bar[0]) == pytest.approx(1 - 1e-4)
    logs = sum(math.log1p(-(1e-4 + (2e-2 - 1e-4) * i / 1999)) for i in range(2000))
    assert math.log(float(schedule.alpha_bar[-1])) == pytest.approx(logs)
    levels = schedule.noise_level(torch.tensor([0, 1999]))
    assert levels[0] > 0.9999 and levels[1] < 1e-4  # 1 is clean, 0 is pure noise


@pytest.mark.parametrize("t", [0, 700, 1999])
def test_moments_of_the_forward_process(t):
    schedule, generator = Schedule.linear(2000), torch.Generator().manual_seed(1)
    x0 = torch.full((4, 1, 100, 100), 2.0)
    x_t = add_noise(x0, torch.full((4,), t), torch.randn(x0.shape, generator=generator), schedule)
    a = float(schedule.alpha_bar[t])
    assert float(x_t.mean()) == pytest.approx(2 * a**0.5, abs=0.02)
    assert float(x_t.std()) == pytest.approx((1 - a) ** 0.5, rel=0.02)


def test_each_sample_has_its_own_step_and_every_step_is_drawn():
    t = draw_steps(4000, Schedule.linear(50), torch.Generator().manual_seed(0))
    assert set(t.tolist()) == set(range(50))
    x0 = torch.ones(2, 1, 1, 1)
    x_t = add_noise(x0, torch.tensor([0, 49]), torch.zeros_like(x0), Schedule.linear(50))
    assert float(x_t[0]) > float(x_t[1])


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("steps", [1, 2, 7, 200])
def test_oracle_is_told_the_level_of_what_it_holds_and_is_reached(sampler, steps, x0):
    """x_t minus √ᾱ x0 must have variance 1 − ᾱ at every call: the level told is the level held."""
    schedule = Schedule.linear(2000)
    wide = x0.repeat(1, 20, 1, 1)
    oracle = Oracle(wide)
    found = sample(
        oracle,
        torch.zeros_like(wide),
        schedule,
        steps=steps,
        sampler=sampler,
        generator=torch.Generator().manual_seed(2),
    )
    assert torch.equal(found, wide)
    assert len(oracle.levels) == steps
    for x_t, level in zip(oracle.inputs, oracle.levels):
        assert level.shape == (2,)
        residual = x_t - float(level[0]) * wide
        assert float(residual.std()) == pytest.approx((1 - float(level[0]) ** 2) ** 0.5, rel=0.03)
    assert float(oracle.levels[0][0]) == pytest.approx(float(schedule.noise_level(torch.tensor(1999))))


def test_previous_estimate_is_handed_on(x0):
    oracle, start = Oracle(x0), torch.full_like(x0, 7.0)
    sample(oracle, start, Schedule.linear(20), steps=3, generator=torch.Generator().manual_seed(0))
    assert torch.equal(oracle.previous[0], start) and all(torch.equal(x, x0) for x in oracle.previous[1:])


def imperfect(x0):
    return lambda x, level, previous: 0.5 * x0 + 0.3 * torch.tanh(x)


@pytest.mark.parametrize(
    ("sampler", "steps"), [(s, n) for s in ("ddim", "dpmpp") for n in (1, 2, 5, 20)] + [("dpmpp", 33)]
)
def test_equals_diffusers(sampler, steps, x0):
    """Its DDIM assumes steps of T // steps, so the counts that divide T."""
    diffusers = pytest.importorskip("diffusers")
    options = {"prediction_type": "sample", "timestep_spacing": "trailing"}
    if sampler == "ddim":
        scheduler = diffusers.DDIMScheduler(1000, 1e-4, 2e-2, "linear", clip_sample=False, **options)
    else:
        scheduler = diffusers.DPMSolverMultistepScheduler(
            1000, 1e-4, 2e-2, "linear", final_sigmas_type="zero", lower_order_final=True, **options
        )
    generator = torch.Generator().manual_seed(3)
    schedule = Schedule.linear(1000)
    ours = sample(imperfect(x0), x0, schedule, steps=steps, sampler=sampler, generator=generator)
    x = torch.randn(SHAPE, generator=torch.Generator().manual_seed(3))
    scheduler.set_timesteps(steps)
    assert scheduler.timesteps.tolist() == schedule.trailing(steps)
    for t in scheduler.timesteps:
        x = scheduler.step(imperfect(x0)(x, None, None), t, x).prev_sample
    torch.testing.assert_close(ours, x, atol=1e-5, rtol=1e-5)


def test_ddpm_equals_diffusers(x0):
    diffusers = pytest.importorskip("diffusers")
    scheduler = diffusers.DDPMScheduler(
        30, 1e-4, 2e-2, "linear", prediction_type="sample", clip_sample=False, timestep_spacing="trailing"
    )
    ours = sample(
        imperfect(x0), x0, Schedule.linear(30), steps=30, sampler="ddpm", generator=torch.Generator().manual_seed(4)
    )
    generator = torch.Generator().manual_seed(4)
    x = torch.randn(SHAPE, generator=generator)
    scheduler.set_timesteps(30)
    for t in scheduler.timesteps:
        x = scheduler.step(imperfect(x0)(x, None, None), t, x, generator=generator).prev_sample
    torch.testing.assert_close(ours, x, atol=1e-4, rtol=1e-4)


def test_one_step_from_two_levels_by_hand():
    """ᾱ = 0.25 → 0.81, x_t = 2, x̂0 = 1: noise = (2 − 0.5)/√0.75, x = 0.9 + √0.19 · noise."""
    schedule = Schedule(torch.tensor([0.19, 0.0]).double(), torch.tensor([0.81, 0.25]).double())
    x = diffusion.ddim_step(torch.tensor(2.0), [(1, torch.tensor(1.0))], 0, schedule)
    assert float(x) == pytest.approx(0.9 + 0.19**0.5 * 1.5 / 0.75**0.5)


def test_callback_sees_every_step(x0):
    seen = []
    sample(
        Oracle(x0), x0, Schedule.linear(40), steps=4, generator=torch.Generator().manual_seed(0),
        callback=lambda i, t, x_t, estimate: seen.append((i, t, x_t.shape, estimate.shape)),
    )  # fmt: skip
    assert seen == [(i, t, x0.shape, x0.shape) for i, t in enumerate([39, 29, 19, 9])]


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_training_loss_and_self_conditioning(share, x0):
    calls = []

    def denoise(x_t, level, previous):
        calls.append(previous)
        return x0 + 0.25

    start = torch.zeros_like(x0)
    loss = training_loss(
        denoise, x0, start, Schedule.linear(10), self_condition=share, generator=torch.Generator().manual_seed(0)
    )
    assert float(loss) == pytest.approx(0.25, rel=1e-5)
    assert torch.equal(calls[0], start) and len(calls) == (2 if share else 1)
    if share:
        assert torch.equal(calls[1], x0 + 0.25)


def test_same_generator_same_sample(x0):
    runs = [
        sample(imperfect(x0), x0, Schedule.linear(10), sampler="ddpm", generator=torch.Generator().manual_seed(5))
        for _ in range(2)
    ]
    assert torch.equal(*runs)


def test_errors(x0):
    schedule = Schedule.linear(10)
    with pytest.raises(ValueError, match="`sampler` must be one of 'ddpm', 'ddim', 'dpmpp', got 'euler'"):
        sample(Oracle(x0), x0, schedule, sampler="euler")
    with pytest.raises(ValueError, match="`steps` must be a whole number from 1 to 10, got 11"):
        sample(Oracle(x0), x0, schedule, steps=11)
    with pytest.raises(ValueError, match=r"`t` must be one step per sample, shape \(2,\), got shape \(1,\)"):
        add_noise(x0, torch.tensor([3]), x0, schedule)
