"""The diffusion against closed forms, an oracle denoiser, and the schedulers of diffusers."""

import math

import pytest
import torch

from ctmem.diffusion import objective, samplers
from ctmem.diffusion.objective import PREDICTIONS, add_noise, draw_steps, to_output, to_x0, training_loss
from ctmem.diffusion.samplers import SAMPLERS, sample
from ctmem.diffusion.schedule import Schedule, make_schedule

SHAPE = (2, 3, 12, 20)
CHAINS = {"linear": Schedule.linear(2000), "cosine": Schedule.cosine(500), "shifted": Schedule.shifted(200, kappa=2.0)}
every_chain = pytest.mark.parametrize("schedule", CHAINS.values(), ids=CHAINS)


@pytest.fixture
def x0():
    return torch.randn(SHAPE, generator=seeded(0))


def seeded(seed):
    return torch.Generator().manual_seed(seed)


class Oracle:
    """A denoiser that knows the truth, and writes down what it was told; it puts out what `prediction` names.

    It knows no schedule: what it holds is of unit size, so the level says all.
    """

    def __init__(self, x0, prediction="x0"):
        self.x0, self.prediction = x0, prediction
        self.levels, self.inputs, self.previous = [], [], []

    def __call__(self, x_t, level, previous):
        self.levels.append(level)
        self.inputs.append(x_t)
        self.previous.append(previous)
        signal = level.double().reshape(-1, 1, 1, 1)
        sigma = (1 - signal.square()).sqrt()
        noise = (x_t - signal * self.x0) / sigma
        return {"x0": self.x0, "eps": noise, "v": signal * noise - sigma * self.x0}[self.prediction].to(x_t)


@every_chain
@pytest.mark.parametrize("place", [0.0, 0.35, 1.0])
def test_moments_of_the_forward_process(schedule, place):
    t = round(place * (schedule.steps - 1))
    x0 = torch.full((4, 1, 100, 100), 2.0)
    x_t = add_noise(x0, torch.full((4,), t), torch.randn(x0.shape, generator=seeded(1)), schedule)
    signal, sigma = float(schedule.signal[t]), float(schedule.sigma[t])
    assert float(x_t.mean()) == pytest.approx(2 * signal, abs=4 * sigma / 200)  # 4 standard errors
    assert float(x_t.std()) == pytest.approx(sigma, rel=0.02)


def test_moments_of_the_paper():
    """The linear chain: mean √ᾱ x0 and variance 1 − ᾱ, with ᾱ from the product itself."""
    schedule = Schedule.linear(2000)
    a = math.prod(1 - (1e-4 + (2e-2 - 1e-4) * i / 1999) for i in range(701))
    noise = torch.randn(SHAPE, generator=seeded(2))
    x_t = add_noise(torch.full(SHAPE, 3.0), torch.tensor([700, 700]), noise, schedule)
    torch.testing.assert_close(x_t, 3 * a**0.5 + (1 - a) ** 0.5 * noise)


def test_each_sample_has_its_own_step_and_every_step_is_drawn():
    t = draw_steps(4000, Schedule.linear(50), seeded(0))
    assert set(t.tolist()) == set(range(50))
    x0 = torch.ones(2, 1, 1, 1)
    x_t = add_noise(x0, torch.tensor([0, 49]), torch.zeros_like(x0), Schedule.linear(50))
    assert float(x_t[0]) > float(x_t[1])


# --- what the output of a network means ---


@every_chain
@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_outputs_lead_back_to_x0(schedule, prediction, x0):
    """Each sample at its own step; ε only where signal is not lost in rounding."""
    for t in ([0, schedule.steps // 3], [schedule.steps // 2, schedule.steps * 3 // 4]):
        t, noise = torch.tensor(t), torch.randn(SHAPE, generator=seeded(3))
        output = to_output(x0, noise, t, schedule, prediction)
        found = to_x0(output, add_noise(x0, t, noise, schedule), t, schedule, prediction)
        torch.testing.assert_close(found, x0, atol=1e-3 if prediction == "eps" else 1e-5, rtol=0)


def test_outputs_by_hand():
    """signal 0.6, sigma 0.8: x0 = 2 and ε = 1 give v = 0.6 − 1.6; with 3 and 4, of size 5, the same."""
    for factor in (1, 5):
        schedule = Schedule(torch.tensor([0.6 * factor]), torch.tensor([0.8 * factor]))
        x0, noise, t = torch.full((1, 1, 1, 1), 2.0), torch.ones(1, 1, 1, 1), torch.tensor([0])
        outputs = [float(to_output(x0, noise, t, schedule, p)) for p in PREDICTIONS]
        assert outputs == pytest.approx([2.0, 1.0, -1.0])
        x_t = add_noise(x0, t, noise, schedule)
        assert float(x_t) == pytest.approx(2.0 * factor)
        found = [float(to_x0(torch.full_like(x0, out), x_t, t, schedule, p)) for p, out in zip(PREDICTIONS, outputs)]
        assert found == pytest.approx([2.0, 2.0, 2.0])


def test_x0_of_a_predicted_noise_stays_bounded():
    schedule, x_t = Schedule.linear(2000), torch.ones(1, 1, 2, 2)
    found = to_x0(torch.zeros_like(x_t), x_t, torch.tensor([1999]), schedule, "eps")
    assert torch.equal(found, torch.full_like(x_t, objective.X0_LIMIT))


# --- samplers ---


@every_chain
@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("steps", [1, 2, 7, 200])
def test_oracle_is_told_the_level_of_what_it_holds_and_is_reached(sampler, steps, schedule, x0):
    """x_t minus level · x0 must have variance 1 − level² at every call: the level told is the level held."""
    wide = x0.repeat(1, 20, 1, 1)
    oracle = Oracle(wide)
    found = sample(oracle, torch.zeros_like(wide), schedule, steps=steps, sampler=sampler, generator=seeded(2))
    assert torch.equal(found, wide)
    assert len(oracle.levels) == steps
    for x_t, level in zip(oracle.inputs, oracle.levels):
        assert level.shape == (2,)
        residual = x_t - float(level[0]) * wide
        assert float(residual.std()) == pytest.approx((1 - float(level[0]) ** 2) ** 0.5, rel=0.03)
    last = torch.tensor(schedule.steps - 1)
    assert float(oracle.levels[0][0]) == pytest.approx(float(schedule.noise_level(last)))


@every_chain
@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("prediction", ["eps", "v"])
def test_oracle_of_noise_and_velocity_is_reached(sampler, prediction, schedule, x0):
    oracle = Oracle(x0, prediction)
    found = sample(
        oracle, torch.zeros_like(x0), schedule, steps=9, sampler=sampler, prediction=prediction, generator=seeded(2)
    )
    torch.testing.assert_close(found, x0, atol=1e-3, rtol=0)
    torch.testing.assert_close(oracle.previous[5], x0, atol=0.05, rtol=0)  # handed on as x̂0, not as the output


@every_chain
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_shortened_chain_begins_near_its_start(sampler, schedule, x0):
    """At t = 0.4·T − 1 from signal · x0_start + sigma · noise; levels told are those of that part of the chain."""
    oracle, t = Oracle(x0), round(0.4 * schedule.steps) - 1
    found = sample(oracle, x0 + 1, schedule, steps=4, sampler=sampler, start=0.4, generator=seeded(6))
    noise = torch.randn(SHAPE, generator=seeded(6))
    held = add_noise(x0 + 1, torch.tensor([t, t]), noise, schedule)
    torch.testing.assert_close(oracle.inputs[0] * float(schedule.size[t]), held)
    wanted = schedule.noise_level(torch.tensor(schedule.trailing(4, 0.4))).tolist()
    assert [float(level[0]) for level in oracle.levels] == pytest.approx(wanted)
    assert wanted[0] == float(schedule.noise_level(torch.tensor(t))) and torch.equal(found, x0)


def test_previous_estimate_is_handed_on(x0):
    oracle, start = Oracle(x0), torch.full_like(x0, 7.0)
    sample(oracle, start, Schedule.linear(20), steps=3, generator=seeded(0))
    assert torch.equal(oracle.previous[0], start) and all(torch.equal(x, x0) for x in oracle.previous[1:])


def best_estimate(std):
    """E[x0 | x_t] for x0 ~ N(0, std²), as a denoiser."""

    def denoise(x_t, level, previous):
        signal = level.double().reshape(-1, 1, 1, 1)
        return signal * std**2 / (signal.square() * std**2 + 1 - signal.square()) * x_t

    return denoise


def distance_to_the_flow(schedule, sampler, steps, std=0.5):
    """Of a sampler's x_0 from that of the exact probability flow, along which x_t / std(x_t) is constant."""
    times = schedule.trailing(steps)
    spread = [math.hypot(float(schedule.signal[t]) * std, float(schedule.sigma[t])) for t in (times[0], times[-1])]
    x = torch.ones(1, 1, 1, 1, dtype=torch.float64)
    noise = float(torch.randn(x.shape, generator=seeded(0)))
    x_last = noise * float(schedule.size[-1]) * spread[1] / spread[0]
    wanted = float(schedule.signal[times[-1]]) * std**2 * x_last / spread[1] ** 2
    found = sample(best_estimate(std), x, schedule, steps=steps, sampler=sampler, generator=seeded(0))
    return abs(float(found) - wanted) / abs(wanted)


@pytest.mark.parametrize(("sampler", "order"), [("ddim", 1), ("dpmpp", 2)])
@pytest.mark.parametrize("preserving", [True, False])
def test_order_of_the_solvers_on_gaussian_data(sampler, order, preserving):
    """Twice the steps, half the error for DDIM, a quarter for the second-order solver; steps even in log(signal/sigma).

    On a variance-preserving chain, and on one of constant signal and growing noise.
    """
    ratio = torch.linspace(4, -4, 4096, dtype=torch.float64).exp()
    size = (1 + ratio.square()).sqrt() if preserving else ratio
    schedule = Schedule(ratio / size, 1 / size)
    errors = [distance_to_the_flow(schedule, sampler, steps) for steps in (64, 128, 256)]
    for coarse, fine in zip(errors, errors[1:]):
        assert math.log2(coarse / fine) == pytest.approx(order, abs=0.35)
    assert errors[-1] < {1: 0.02, 2: 2e-3}[order]


@every_chain
def test_ddpm_with_exact_draws_of_x0_keeps_the_marginals(schedule):
    """If x̂0 is drawn from p(x0 | x_t), every x_t of the chain has variance signal² std² + sigma², at any step size."""
    std, generator, seen = 0.5, seeded(7), []

    def draw(x_t, level, previous):
        signal = float(level[0])
        variance = 1 / (1 / std**2 + signal**2 / (1 - signal**2))
        return best_estimate(std)(x_t, level, previous) + variance**0.5 * torch.randn(x_t.shape, generator=generator)

    start = torch.zeros(1, 1, 200, 200)
    found = sample(
        draw, start, schedule, steps=6, sampler="ddpm", generator=seeded(8),
        callback=lambda i, t, x_t, x0: seen.append((t, float(x_t.std()))),
    )  # fmt: skip
    for t, spread in seen:
        wanted = math.hypot(float(schedule.signal[t]) * std, float(schedule.sigma[t]))
        assert spread == pytest.approx(wanted, rel=0.02)
    assert float(found.std()) == pytest.approx(std, rel=0.02)


def imperfect(x0):
    return lambda x, level, previous: 0.5 * x0 + 0.3 * torch.tanh(x)


def theirs(kind, prediction, betas):
    """The matching scheduler of diffusers, T = 1000."""
    diffusers = pytest.importorskip("diffusers")
    name = {"x0": "sample", "eps": "epsilon", "v": "v_prediction"}[prediction]
    options = {"prediction_type": name, "timestep_spacing": "trailing"}
    if kind == "ddim":
        return diffusers.DDIMScheduler(
            1000, 1e-4, 2e-2, betas, clip_sample=prediction == "eps", clip_sample_range=objective.X0_LIMIT,
            set_alpha_to_one=True, **options,
        )  # fmt: skip
    return diffusers.DPMSolverMultistepScheduler(
        1000, 1e-4, 2e-2, betas, final_sigmas_type="zero", lower_order_final=True, **options
    )


@pytest.mark.parametrize(("chain", "betas"), [("linear", "linear"), ("cosine", "squaredcos_cap_v2")])
@pytest.mark.parametrize(
    ("sampler", "prediction", "steps"),
    [(s, p, n) for s in ("ddim", "dpmpp") for p in ("x0", "v") for n in (1, 2, 5, 20)]
    + [("dpmpp", "x0", 33)]
    + [("ddim", "eps", n) for n in (2, 5, 20)],
)
def test_equals_diffusers(sampler, prediction, steps, chain, betas, x0):
    """Its DDIM assumes steps of T // steps, so the counts that divide T; its `eps` bounds x̂0 as ours does."""
    scheduler = theirs(sampler, prediction, betas)
    schedule = {"linear": Schedule.linear, "cosine": Schedule.cosine}[chain](1000)
    ours = sample(imperfect(x0), x0, schedule, steps=steps, sampler=sampler, prediction=prediction, generator=seeded(3))
    x = torch.randn(SHAPE, generator=seeded(3))
    scheduler.set_timesteps(steps)
    assert scheduler.timesteps.tolist() == schedule.trailing(steps)
    extra = {"use_clipped_model_output": True} if prediction == "eps" else {}
    for t in scheduler.timesteps:
        x = scheduler.step(imperfect(x0)(x, None, None), t, x, **extra).prev_sample
    torch.testing.assert_close(ours, x, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("prediction", ["x0", "v"])
def test_ddpm_equals_diffusers(x0, prediction):
    diffusers = pytest.importorskip("diffusers")
    name = {"x0": "sample", "v": "v_prediction"}[prediction]
    scheduler = diffusers.DDPMScheduler(
        30, 1e-4, 2e-2, "linear", prediction_type=name, clip_sample=False, timestep_spacing="trailing"
    )
    ours = sample(
        imperfect(x0), x0, Schedule.linear(30), steps=30, sampler="ddpm", prediction=prediction, generator=seeded(4)
    )
    generator = seeded(4)
    x = torch.randn(SHAPE, generator=generator)
    scheduler.set_timesteps(30)
    for t in scheduler.timesteps:
        x = scheduler.step(imperfect(x0)(x, None, None), t, x, generator=generator).prev_sample
    torch.testing.assert_close(ours, x, atol=1e-4, rtol=1e-4)


PINNED = {
    ("cosine", "ddpm"): -0.07928016975874691,
    ("cosine", "ddim"): 0.4910847063797481,
    ("cosine", "dpmpp"): 0.48127925443722597,
    ("shifted", "ddpm"): -0.09497431506915108,
    ("shifted", "ddim"): 0.42598372820099106,
    ("shifted", "dpmpp"): 0.39451424854070793,
}


def twenty_steps(schedule, sampler, noises):
    """A loop over plain numbers for the denoiser x̂0 = 0.6·tanh(x) + 0.2·previous, with other formulas than ours.

    DDIM by the noise it implies, DPM-Solver++ by exponentials of its step in λ, DDPM by the product of two Gaussians,
    q(x_next | x̂0) and q(x_t | x_next).
    """
    signal, sigma = schedule.signal.tolist(), schedule.sigma.tolist()
    x, x0, before = noises[0] * math.hypot(signal[-1], sigma[-1]), 0.0, None
    for i, t in enumerate(range(19, -1, -1)):
        last, x0 = x0, 0.6 * math.tanh(x / math.hypot(signal[t], sigma[t])) + 0.2 * x0
        if t == 0:
            return x0
        s, o, s_next, o_next = signal[t], sigma[t], signal[t - 1], sigma[t - 1]
        if sampler == "ddim":
            x = s_next * x0 + o_next * (x - s * x0) / o
        elif sampler == "dpmpp":
            h = math.log(s_next / o_next) - math.log(s / o)
            d = x0 if before is None else (1 + h / (2 * before)) * x0 - h / (2 * before) * last
            x, before = o_next / o * x - s_next * math.expm1(-h) * d, h
        else:
            ratio = s / s_next
            precision = 1 / o_next**2 + ratio**2 / (o**2 - ratio**2 * o_next**2)
            mean = (s_next * x0 / o_next**2 + ratio * x / (o**2 - ratio**2 * o_next**2)) / precision
            x = mean + noises[i + 1] / precision**0.5
    return None


@pytest.mark.parametrize(("chain", "sampler"), PINNED)
def test_pinned_loop_of_twenty_steps(sampler, chain, monkeypatch):
    schedule, noises = make_schedule(chain, 20), [2 * math.sin(1 + i) for i in range(20)]
    draws = iter(noises)
    monkeypatch.setattr(samplers, "standard_normal", lambda like, generator: torch.full_like(like, next(draws)))
    found = sample(
        lambda x, level, previous: 0.6 * torch.tanh(x) + 0.2 * previous,
        torch.zeros(1, 1, 1, 1, dtype=torch.float64), schedule, steps=20, sampler=sampler,
    )  # fmt: skip
    assert float(found) == pytest.approx(twenty_steps(schedule, sampler, noises), rel=1e-9)
    assert float(found) == pytest.approx(PINNED[chain, sampler], rel=1e-6)


def test_one_step_from_two_levels_by_hand():
    """ᾱ = 0.25 → 0.81, x_t = 2, x̂0 = 1: noise = (2 − 0.5)/√0.75, x = 0.9 + √0.19 · noise."""
    schedule = Schedule(torch.tensor([0.9, 0.5]), torch.tensor([0.19, 0.75]).sqrt())
    x = samplers.ddim_step(torch.tensor(2.0), [(1, torch.tensor(1.0))], 0, schedule)
    assert float(x) == pytest.approx(0.9 + 0.19**0.5 * 1.5 / 0.75**0.5)


def test_callback_sees_every_step(x0):
    seen = []
    sample(
        Oracle(x0), x0, Schedule.linear(40), steps=4, generator=seeded(0),
        callback=lambda i, t, x_t, estimate: seen.append((i, t, x_t.shape, estimate.shape)),
    )  # fmt: skip
    assert seen == [(i, t, x0.shape, x0.shape) for i, t in enumerate([39, 29, 19, 9])]


# --- training ---


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_training_loss_and_self_conditioning(share, x0):
    calls = []

    def denoise(x_t, level, previous):
        calls.append(previous)
        return x0 + 0.25

    start = torch.zeros_like(x0)
    loss = training_loss(denoise, x0, start, Schedule.linear(10), self_condition=share, generator=seeded(0))
    assert float(loss) == pytest.approx(0.25, rel=1e-5)
    assert torch.equal(calls[0], start) and len(calls) == (2 if share else 1)
    if share:
        assert torch.equal(calls[1], x0 + 0.25)


@every_chain
@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_the_oracle_has_no_loss_and_is_handed_its_own_estimate(prediction, schedule, x0):
    oracle = Oracle(x0, prediction)
    for seed in range(5):
        loss = training_loss(
            oracle,
            x0,
            torch.zeros_like(x0),
            schedule,
            prediction=prediction,
            self_condition=1.0,
            generator=seeded(seed),
        )
        assert float(loss) < 3e-3
    for start, estimate in zip(oracle.previous[::2], oracle.previous[1::2]):
        assert not start.any()
        assert float((estimate - x0).abs().median()) < 0.01


def test_each_channel_counts_by_its_weight(x0):
    weight = torch.tensor([0.0, 1.0, 4.0]).reshape(1, 3, 1, 1)
    off = torch.tensor([9.0, 0.5, 0.25]).reshape(1, 3, 1, 1)
    loss = training_loss(lambda *_: x0 + off, x0, x0, Schedule.linear(10), weight=weight, generator=seeded(0))
    assert float(loss) == pytest.approx((0.5 + 1.0) / 3, rel=1e-5)


def test_same_generator_same_sample(x0):
    runs = [sample(imperfect(x0), x0, Schedule.linear(10), sampler="ddpm", generator=seeded(5)) for _ in range(2)]
    assert torch.equal(*runs)


def test_errors(x0):
    schedule, t = Schedule.linear(10), torch.tensor([3, 3])
    with pytest.raises(ValueError, match="`sampler` must be one of 'ddpm', 'ddim', 'dpmpp', got 'euler'"):
        sample(Oracle(x0), x0, schedule, sampler="euler")
    with pytest.raises(ValueError, match="`steps` must be a whole number from 1 to 10, got 11"):
        sample(Oracle(x0), x0, schedule, steps=11)
    with pytest.raises(ValueError, match="`start` must be a share of the chain, above 0 and at most 1, got 1.5"):
        sample(Oracle(x0), x0, schedule, steps=1, start=1.5)
    with pytest.raises(ValueError, match=r"`t` must be one step per sample, shape \(2,\), got shape \(1,\)"):
        add_noise(x0, torch.tensor([3]), x0, schedule)
    message = "`prediction` must be one of 'x0', 'eps', 'v', got 'score'"
    for call in (
        lambda: to_x0(x0, x0, t, schedule, "score"),
        lambda: to_output(x0, x0, t, schedule, "score"),
        lambda: sample(Oracle(x0), x0, schedule, prediction="score"),
        lambda: training_loss(Oracle(x0), x0, x0, schedule, prediction="score"),
    ):
        with pytest.raises(ValueError, match=message):
            call()
