"""The diffusion against closed forms, an oracle denoiser, and the schedulers of diffusers."""

import math
from functools import partial
from itertools import pairwise

import pytest
import torch

from ctmem.diffusion import objective, samplers
from ctmem.diffusion.objective import PREDICTIONS, add_noise, draw_steps, to_output, to_x0, training_loss
from ctmem.diffusion.samplers import SAMPLERS, at_level, move, sample, sample_ddpm, sample_edm, sample_heun
from ctmem.diffusion.schedule import Schedule, make_schedule

SHAPE = (2, 3, 12, 20)
CHAINS = {"linear": Schedule.linear(2000), "cosine": Schedule.cosine(500), "shifted": Schedule.shifted(200, kappa=2.0)}
every_chain = pytest.mark.parametrize("schedule", CHAINS.values(), ids=CHAINS)
every_sampler = pytest.mark.parametrize("sampler", SAMPLERS)
TWO_CALLS = ("heun", "edm")  # per step, but one in the last


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


def test_the_generator_alone_decides_which_steps_are_drawn():
    before = torch.get_rng_state()
    one, same, other = (draw_steps(50, Schedule.linear(1000), seeded(seed)) for seed in (1, 1, 2))
    assert torch.equal(one, same) and not torch.equal(one, other) and torch.equal(before, torch.get_rng_state())


# --- what the output of a network means ---


@every_chain
@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_outputs_lead_back_to_x0(schedule, prediction, x0):
    """Each sample at its own step; ε only where signal is not lost in rounding."""
    for t in ([0, schedule.steps // 3], [schedule.steps // 2, schedule.steps * 3 // 4]):
        t, noise = torch.tensor(t), torch.randn(SHAPE, generator=seeded(3))
        level, size = schedule.levels[t], schedule.size[t].float().reshape(-1, 1, 1, 1)
        output = to_output(x0, noise, level, prediction)
        found = to_x0(output, add_noise(x0, t, noise, schedule) / size, level, prediction)
        torch.testing.assert_close(found, x0, atol=1e-3 if prediction == "eps" else 1e-5, rtol=0)


def test_outputs_by_hand():
    """level 0.6, noise 0.8: x0 = 2 and ε = 1 give v = 0.6 − 1.6; a chain with 3 and 4, of size 5, the same."""
    for factor in (1, 5):
        schedule = Schedule(torch.tensor([0.6 * factor]), torch.tensor([0.8 * factor]))
        x0, noise, t = torch.full((1, 1, 1, 1), 2.0), torch.ones(1, 1, 1, 1), torch.tensor([0])
        level = schedule.noise_level(t)
        outputs = [float(to_output(x0, noise, level, p)) for p in PREDICTIONS]
        assert outputs == pytest.approx([2.0, 1.0, -1.0])
        x_t = add_noise(x0, t, noise, schedule)
        assert float(x_t) == pytest.approx(2.0 * factor)
        x = x_t / factor
        found = [float(to_x0(torch.full_like(x0, out), x, level, p)) for p, out in zip(PREDICTIONS, outputs)]
        assert found == pytest.approx([2.0, 2.0, 2.0])


def test_x0_of_a_predicted_noise_stays_bounded():
    x, level = torch.ones(1, 1, 2, 2), Schedule.linear(2000).noise_level(torch.tensor([1999]))
    found = to_x0(torch.zeros_like(x), x, level, "eps")
    assert torch.equal(found, torch.full_like(x, objective.X0_LIMIT))


def test_x0_of_a_predicted_noise_is_kept_within_ten_deviations_on_both_sides():
    """level 0.6: (x − 0.8 · output) / 0.6, by hand 9.5, −9.5, 10.5 and −10.5; the velocity has no limit."""
    x = torch.tensor([9.5, -9.5, 10.5, -10.5]).mul(0.6).add(0.8).reshape(4, 1, 1, 1)
    level, output = torch.full((4,), 0.6), torch.ones(4, 1, 1, 1)
    assert to_x0(output, x, level, "eps").flatten().tolist() == pytest.approx([9.5, -9.5, 10.0, -10.0], rel=1e-5)
    assert to_x0(output * 100, x * 0, level, "v").flatten().tolist() == pytest.approx([-80.0] * 4)


# --- samplers ---


@every_chain
@every_sampler
@pytest.mark.parametrize("steps", [1, 2, 7, 200])
def test_oracle_is_told_the_level_of_what_it_holds_and_is_reached(sampler, steps, schedule, x0):
    """x_t minus level · x0 must have variance 1 − level² at every call: the level told is the level held."""
    wide = x0.repeat(1, 20, 1, 1)
    oracle, function = Oracle(wide), SAMPLERS[sampler]
    found = sample(oracle, torch.zeros_like(wide), schedule, steps=steps, sampler=function, generator=seeded(2))
    assert torch.equal(found, wide)
    assert len(oracle.levels) == (2 * steps - 1 if sampler in TWO_CALLS else steps)
    for x_t, level in zip(oracle.inputs, oracle.levels):
        assert level.shape == (2,)
        residual = x_t - float(level[0]) * wide
        assert float(residual.std()) == pytest.approx((1 - float(level[0]) ** 2) ** 0.5, rel=0.03)
    last = torch.tensor(schedule.steps - 1)
    assert float(oracle.levels[0][0]) == pytest.approx(float(schedule.noise_level(last)))


@every_chain
@every_sampler
@pytest.mark.parametrize("prediction", ["eps", "v"])
def test_oracle_of_noise_and_velocity_is_reached(sampler, prediction, schedule, x0):
    oracle = Oracle(x0, prediction)
    found = sample(
        oracle, torch.zeros_like(x0), schedule, steps=9, sampler=SAMPLERS[sampler], prediction=prediction,
        generator=seeded(2),
    )  # fmt: skip
    torch.testing.assert_close(found, x0, atol=1e-3, rtol=0)
    torch.testing.assert_close(oracle.previous[5], x0, atol=0.05, rtol=0)  # handed on as x̂0, not as the output


def levels_told(sampler, levels):
    """Those that a sampler tells its denoiser where the chain has these levels: by hand, for s_churn = 2."""
    if sampler not in TWO_CALLS:
        return levels
    starts, told = list(levels), []
    if sampler == "edm":
        sigmas = [(1 - level**2) ** 0.5 / level for level in levels]
        growth = 1 + min(2 / len(levels), 2**0.5 - 1)
        starts = [(1 + (sigma * (growth if 0.05 <= sigma <= 50 else 1)) ** 2) ** -0.5 for sigma in sigmas]
    for begin, end in zip(starts, levels[1:]):
        told += [begin, end]
    return [*told, starts[-1]]


@every_chain
@every_sampler
def test_a_shortened_chain_begins_near_its_start(sampler, schedule, x0):
    """At t = 0.4·T − 1 from signal · x0_start + sigma · noise; levels told are those of that part of the chain."""
    oracle, t, generator = Oracle(x0), round(0.4 * schedule.steps) - 1, seeded(6)
    found = sample(oracle, x0 + 1, schedule, steps=4, sampler=SAMPLERS[sampler], start=0.4, generator=seeded(6))
    held = add_noise(x0 + 1, torch.tensor([t, t]), torch.randn(SHAPE, generator=generator), schedule)
    levels = schedule.noise_level(torch.tensor(schedule.trailing(4, 0.4))).tolist()
    wanted = levels_told(sampler, levels)
    if sampler == "edm":  # which adds noise to it first
        sigma, before = ((1 - level**2) ** 0.5 / level for level in (wanted[0], levels[0]))
        fresh = torch.randn(SHAPE, generator=generator)
        held = held / float(schedule.signal[t]) + (sigma**2 - before**2) ** 0.5 * fresh
        torch.testing.assert_close(oracle.inputs[0] / wanted[0], held, atol=1e-4, rtol=1e-4)
    else:
        torch.testing.assert_close(oracle.inputs[0] * float(schedule.size[t]), held)
    assert [float(level[0]) for level in oracle.levels] == pytest.approx(wanted, rel=1e-5 if sampler == "edm" else 1e-6)
    assert levels[0] == float(schedule.noise_level(torch.tensor(t))) and torch.equal(found, x0)


@every_sampler
def test_previous_estimate_is_handed_on(sampler, x0):
    oracle, start = Oracle(x0), torch.full_like(x0, 7.0)
    sample(oracle, start, Schedule.linear(20), steps=3, sampler=SAMPLERS[sampler], generator=seeded(0))
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
    spread = [math.hypot(float(schedule.levels[t]) * std, float(schedule.noises[t])) for t in (times[0], times[-1])]
    x = torch.ones(1, 1, 1, 1, dtype=torch.float64)
    noise = float(torch.randn(x.shape, generator=seeded(0)))
    x_last = noise * spread[1] / spread[0]
    wanted = float(schedule.levels[times[-1]]) * std**2 * x_last / spread[1] ** 2
    found = sample(best_estimate(std), x, schedule, steps=steps, sampler=SAMPLERS[sampler], generator=seeded(0))
    return abs(float(found) - wanted) / abs(wanted)


@pytest.mark.parametrize(("sampler", "order"), [("ddim", 1), ("dpmpp", 2), ("heun", 2)])
@pytest.mark.parametrize("preserving", [True, False])
def test_order_of_the_solvers_on_gaussian_data(sampler, order, preserving):
    """Twice the steps, half the error for DDIM, a quarter for the second-order solver; steps even in log(signal/sigma).

    On a variance-preserving chain, and on one of constant signal and growing noise.
    """
    ratio = torch.linspace(4, -4, 4096, dtype=torch.float64).exp()
    size = (1 + ratio.square()).sqrt() if preserving else ratio
    schedule = Schedule(ratio / size, 1 / size)
    errors = [distance_to_the_flow(schedule, sampler, steps) for steps in (64, 128, 256)]
    for coarse, fine in pairwise(errors):
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
        draw, start, schedule, steps=6, sampler=sample_ddpm, generator=seeded(8),
        callback=lambda i, t, x_t, x0: seen.append((t, float(x_t.std()))),
    )  # fmt: skip
    for t, spread in seen:
        wanted = math.hypot(float(schedule.levels[t]) * std, float(schedule.noises[t]))
        assert spread == pytest.approx(wanted, rel=0.02)
    assert float(found.std()) == pytest.approx(std, rel=0.02)


def test_ddpm_draws_once_between_two_steps_and_never_after_the_last(x0):
    """Of one generator: the start and three draws in four steps, so that the next image has the fifth."""
    one, other = seeded(3), seeded(3)
    sample(Oracle(x0), x0, Schedule.linear(20), steps=4, sampler=sample_ddpm, generator=one)
    for _ in range(4):
        torch.randn(SHAPE, generator=other)
    assert torch.equal(one.get_state(), other.get_state())


def even_in_log_sigma(first=4.0, last=-4.0, steps=4096):
    """A variance-preserving chain whose level/noise falls geometrically from exp(first) to exp(last)."""
    ratio = torch.linspace(first, last, steps, dtype=torch.float64).exp()
    return Schedule(ratio / (1 + ratio.square()).sqrt(), 1 / (1 + ratio.square()).sqrt())


@pytest.mark.parametrize("churn", [0.0, 5.0, 40.0])
def test_edm_keeps_the_marginals(churn):
    """With E[x0 | x] every x that is handed over has variance level² std² + noise², however much noise is added."""
    std, seen = 0.5, []

    def denoise(x, level, previous):
        seen.append((float(level[0]), float(x.std())))
        return best_estimate(std)(x, level, previous)

    sampler = partial(sample_edm, s_churn=churn)
    start = torch.zeros(1, 1, 200, 200)
    found = sample(denoise, start, even_in_log_sigma(), steps=100, sampler=sampler, generator=seeded(8))
    assert len(seen) == 199
    for level, spread in seen:
        assert spread == pytest.approx(math.hypot(level * std, (1 - level**2) ** 0.5), rel=0.02)
    assert float(found.std()) == pytest.approx(std, rel=0.02)


def test_edm_adds_fresh_noise_and_without_churn_is_heun(x0):
    def run(sampler, seed):
        schedule, start = Schedule.linear(100), x0[:, :1]
        noisy = torch.randn(start.shape, generator=seeded(1))
        chain = schedule.take(schedule.trailing(8))
        return sampler(imperfect(start), noisy, chain, previous=start, generator=seeded(seed))

    plain = run(sample_heun, 3)
    assert torch.equal(plain, run(sample_heun, 4)) and torch.equal(plain, run(partial(sample_edm, s_churn=0.0), 4))
    churned = run(sample_edm, 3)
    assert torch.equal(churned, run(sample_edm, 3))
    for other in (plain, run(sample_edm, 4), run(partial(sample_edm, s_noise=1.1), 3)):
        assert float((churned - other).abs().max()) > 0.01
    assert torch.equal(plain, run(partial(sample_edm, s_min=300.0, s_max=400.0), 3))  # none of its sigmas is there


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
    options = {"sampler": SAMPLERS[sampler], "prediction": prediction}
    ours = sample(imperfect(x0), x0, schedule, steps=steps, generator=seeded(3), **options)
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
        30, 3e-3, 0.6, "linear", prediction_type=name, clip_sample=False, timestep_spacing="trailing"
    )
    options = {"sampler": sample_ddpm, "prediction": prediction}
    chain = Schedule.from_betas(torch.linspace(3e-3, 0.6, 30))
    ours = sample(imperfect(x0), x0, chain, steps=30, generator=seeded(4), **options)
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
    ("cosine", "heun"): 0.47228098076565045,
    ("cosine", "edm"): 0.2180093621937243,
    ("shifted", "heun"): 0.36467258118446894,
    ("shifted", "edm"): 0.1692686459557119,
}


def twenty_steps(schedule, sampler, noises):
    """A loop over plain numbers for the denoiser x̂0 = 0.6·tanh(x) + 0.2·previous, with other formulas than ours.

    DDIM by the noise it implies, DPM-Solver++ by exponentials of its step in λ, DDPM by the product of two Gaussians,
    q(x_next | x̂0) and q(x_t | x_next); Heun and EDM as in `karras`.
    """
    if sampler in TWO_CALLS:
        return karras(schedule, noises, churn=2.0 if sampler == "edm" else 0.0)
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


def karras(schedule, noises, churn):
    """Algorithm 2 of Karras et al., 2022, in their coordinate x̄ = x0 + sigma · ε, for the same denoiser."""
    sigmas = [*(sigma / signal for signal, sigma in zip(schedule.signal.tolist(), schedule.sigma.tolist()))][::-1]
    draws, previous = iter(noises), 0.0
    x = next(draws) * math.hypot(1, sigmas[0])
    for sigma, after in zip(sigmas, [*sigmas[1:], 0.0]):
        gamma = min(churn / len(sigmas), 2**0.5 - 1) if churn and 0.05 <= sigma <= 50 else 0.0
        raised = sigma * (1 + gamma)
        if gamma:
            x += (raised**2 - sigma**2) ** 0.5 * next(draws)
        previous = 0.6 * math.tanh(x / math.hypot(1, raised)) + 0.2 * previous
        slope = (x - previous) / raised
        euler = x + (after - raised) * slope
        if not after:
            return euler
        previous = 0.6 * math.tanh(euler / math.hypot(1, after)) + 0.2 * previous
        x += (after - raised) * (slope + (euler - previous) / after) / 2
    return None


@pytest.mark.parametrize(("chain", "sampler"), PINNED)
def test_pinned_loop_of_twenty_steps(sampler, chain, monkeypatch):
    schedule, noises = make_schedule(chain, 20), [2 * math.sin(1 + i) for i in range(30)]
    draws = iter(noises)
    monkeypatch.setattr(samplers, "standard_normal", lambda like, generator: torch.full_like(like, next(draws)))
    found = sample(
        lambda x, level, previous: 0.6 * torch.tanh(x) + 0.2 * previous,
        torch.zeros(1, 1, 1, 1, dtype=torch.float64), schedule, steps=20, sampler=SAMPLERS[sampler],
    )  # fmt: skip
    assert float(found) == pytest.approx(twenty_steps(schedule, sampler, noises), rel=1e-9)
    assert float(found) == pytest.approx(PINNED[chain, sampler], rel=1e-6)


def test_one_step_from_two_levels_by_hand():
    """ᾱ = 0.25 → 0.81, x_t = 2, x̂0 = 1: noise = (2 − 0.5)/√0.75, x = 0.9 + √0.19 · noise."""
    x = move(torch.tensor(2.0), torch.tensor(1.0), (0.5, 0.75**0.5), (0.9, 0.19**0.5))
    assert float(x) == pytest.approx(0.9 + 0.19**0.5 * 1.5 / 0.75**0.5)


@every_sampler
def test_callback_sees_every_step_with_its_first_call(sampler, x0):
    seen, oracle = [], Oracle(x0)
    sample(
        oracle, x0, Schedule.linear(40), steps=4, sampler=SAMPLERS[sampler], generator=seeded(0),
        callback=lambda i, t, x, estimate: seen.append((i, t, x, estimate)),
    )  # fmt: skip
    assert [place for *place, _, _ in seen] == [[i, t] for i, t in enumerate([39, 29, 19, 9])]
    first_calls = oracle.inputs[:: 2 if sampler in TWO_CALLS else 1]
    assert all(torch.equal(x, held) for (_, _, x, _), held in zip(seen, first_calls, strict=True))
    assert all(torch.equal(estimate, x0) for *_, estimate in seen)


def test_any_function_of_that_form_is_a_sampler(x0):
    """One that calls the denoiser twice at the noisiest step, and takes the mean with what came before."""
    calls = []

    def mine(denoise, x, schedule, *, previous, generator=None, callback=None):
        first = denoise(x, at_level(schedule.levels[-1], x), previous)
        again = denoise(x, at_level(schedule.levels[-1], x), first)
        calls.append((schedule.times.tolist(), x.shape, generator))
        callback(0, int(schedule.times[-1]), x, again)
        return (first + again + previous) / 3

    oracle, generator, seen = Oracle(x0, "v"), seeded(1), []
    found = sample(
        oracle, x0 + 3, Schedule.linear(40), steps=2, sampler=mine, prediction="v", generator=generator,
        callback=lambda i, t, x, estimate: seen.append((i, t)),
    )  # fmt: skip
    torch.testing.assert_close(found, x0 + 1, atol=1e-4, rtol=0)
    assert calls == [([19, 39], x0.shape, generator)] and seen == [(0, 39)]
    noisiest = float(Schedule.linear(40).levels[39])
    assert [float(level[0]) for level in oracle.levels] == pytest.approx([noisiest, noisiest])


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


def test_the_own_estimate_is_handed_over_in_that_share_of_the_draws(x0):
    calls = []
    for seed in range(100):
        training_loss(
            lambda *_: (calls.append(0), x0)[1],
            x0,
            x0,
            Schedule.linear(10),
            self_condition=0.25,
            generator=seeded(seed),
        )
    assert 112 <= len(calls) <= 138  # 125, and three standard deviations


def test_its_own_estimate_is_data_to_the_gradient(x0):
    """From w · x0 to w · (1 + w) · x0: at w = 1 the slope is 2 of the second w alone, 3 through both."""
    w = torch.tensor(1.0, requires_grad=True)
    loss = training_loss(
        lambda x_t, level, previous: w * (x0 + previous), x0, torch.zeros_like(x0), Schedule.linear(10),
        self_condition=1.0, generator=seeded(0),
    )  # fmt: skip
    loss.backward()
    assert float(w.grad) == pytest.approx(2 * float(x0.abs().mean()), rel=1e-5)


def test_each_channel_counts_by_its_weight(x0):
    weight = torch.tensor([0.0, 1.0, 4.0]).reshape(1, 3, 1, 1)
    off = torch.tensor([9.0, 0.5, 0.25]).reshape(1, 3, 1, 1)
    loss = training_loss(lambda *_: x0 + off, x0, x0, Schedule.linear(10), weight=weight, generator=seeded(0))
    assert float(loss) == pytest.approx((0.5 + 1.0) / 3, rel=1e-5)


def test_same_generator_same_sample(x0):
    for sampler in SAMPLERS.values():
        runs = [sample(imperfect(x0), x0, Schedule.linear(10), sampler=sampler, generator=seeded(5)) for _ in range(2)]
        assert torch.equal(*runs)


def test_errors(x0):
    schedule, level = Schedule.linear(10), torch.tensor([0.5, 0.5])
    with pytest.raises(TypeError, match="`sampler` must be a function such as `sample_ddim`, got 'ddim'"):
        sample(Oracle(x0), x0, schedule, sampler="ddim")
    for answer, got in ((None, "NoneType"), (x0[:1], r"shape \(1, 3, 12, 20\)")):
        wanted = r"`sampler` must be a function that returns an image of shape \(2, 3, 12, 20\), got one that returns "
        with pytest.raises(ValueError, match=wanted + got):
            sample(Oracle(x0), x0, schedule, sampler=lambda *_, answer=answer, **__: answer)
    with pytest.raises(TypeError, match="`x0_start` must be a floating-point tensor"):
        sample(Oracle(x0), x0.long(), schedule)
    with pytest.raises(ValueError, match="`steps` must be a whole number from 1 to 10, got 11"):
        sample(Oracle(x0), x0, schedule, steps=11)
    with pytest.raises(ValueError, match="`start` must be a share of the chain, above 0 and at most 1, got 1.5"):
        sample(Oracle(x0), x0, schedule, steps=1, start=1.5)
    with pytest.raises(ValueError, match=r"`t` must be one step per sample, shape \(2,\), got shape \(1,\)"):
        add_noise(x0, torch.tensor([3]), x0, schedule)
    message = "`prediction` must be one of 'x0', 'eps', 'v', got 'score'"
    for call in (
        lambda: to_x0(x0, x0, level, "score"),
        lambda: to_output(x0, x0, level, "score"),
        lambda: sample(Oracle(x0), x0, schedule, prediction="score"),
        lambda: training_loss(Oracle(x0), x0, x0, schedule, prediction="score"),
    ):
        with pytest.raises(ValueError, match=message):
            call()


def test_a_geometric_chain_falls_by_the_same_factor():
    chain = Schedule.geometric(5, 10.0, 0.1)
    assert torch.allclose(chain.sigma / chain.signal, torch.tensor([0.1, 10**-0.5, 1, 10**0.5, 10]).double())
    assert torch.allclose(chain.size, torch.ones(5).double())
    with pytest.raises(ValueError, match="`least` must be a number > 0 and below `most`, 20.0, got 30"):
        Schedule.geometric(5, least=30)
