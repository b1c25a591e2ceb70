"""Whole chains with a denoiser that knows the answer: data N(2, 0.3²), whose best estimate is a closed form."""

from __future__ import annotations

import itertools

import pytest
import torch

from ctmem.diffusion.objective import to_x0
from ctmem.diffusion.samplers import SAMPLERS, sample
from ctmem.diffusion.schedule import SCHEDULES, Schedule

MEAN, STD = 2.0, 0.3
PIXELS = (1, 1, 100, 200)
CHAINS = SCHEDULES | {"geometric": Schedule.geometric}


def ideal(prediction):
    """E[x_0 | x] of the data, put as a network of that prediction would: Bayes' rule for two Gaussians."""

    def denoise(x, level, previous):
        level = level.double().reshape(-1, 1, 1, 1)
        rest = (1 - level.square()).sqrt()
        x0 = MEAN + STD**2 * level / (STD**2 * level.square() + rest.square()) * (x - level * MEAN)
        eps = (x - level * x0) / rest
        return {"x0": x0, "eps": eps, "v": level * eps - rest * x0}[prediction]

    return denoise


def draws(chain, sampler, steps, prediction="x0", start=1.0):
    """Mean and deviation of what is drawn, with a standard error of 0.002 each."""
    begin = torch.full(PIXELS, MEAN if start < 1 else 0.0, dtype=torch.float64)
    options = {"steps": steps, "sampler": SAMPLERS[sampler], "prediction": prediction, "start": start}
    found = sample(ideal(prediction), begin, chain, generator=torch.Generator().manual_seed(0), **options)
    return float(found.mean()), float(found.std())


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("chain", CHAINS)
def test_draws_have_the_mean_of_the_data_on_a_chain_of_any_length(chain, sampler):
    """Within what the level at the chain's end leaves out: that share of the mean, times the deviation."""
    for steps in (2, 3, 10, 20, 100, 999, 1000, 2000, 4000):
        if sampler in ("heun", "edm") and chain in ("shifted", "geometric") and steps < 10:
            continue  # their steps are too wide for Heun's rule, as it says
        made = CHAINS[chain](steps)
        found, _ = draws(made, sampler, min(steps, 20))
        assert abs(found - MEAN) < 0.01 + float(made.levels[-1]) * MEAN * STD * 1.5, steps


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("chain", CHAINS)
def test_draws_have_the_deviation_of_the_data_where_steps_are_fine_enough(chain, sampler):
    _, found = draws(CHAINS[chain](100), sampler, 100)
    assert found == pytest.approx(STD, rel=0.1 if sampler == "ddpm" else 0.05)
    _, coarse = draws(CHAINS[chain](20), sampler, 20)
    assert found > coarse or sampler not in ("ddpm", "ddim")  # few steps of these lose variance, and are known to


@pytest.mark.parametrize(("chain", "sampler"), itertools.product(CHAINS, SAMPLERS))
def test_what_the_network_puts_out_does_not_matter(chain, sampler):
    made = CHAINS[chain](12)
    plain = draws(made, sampler, 12)
    for prediction in ("eps", "v"):
        assert draws(made, sampler, 12, prediction) == pytest.approx(plain, abs=1e-3)


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("start", [0.3, 0.7])
def test_a_chain_entered_on_the_way_keeps_the_mean(sampler, start):
    found, _ = draws(Schedule.linear(100), sampler, 20, start=start)
    assert found == pytest.approx(MEAN, abs=0.01)


@pytest.mark.parametrize("steps", [1, 2, 7, 100, 999])
def test_a_short_linear_chain_is_the_thousand_steps_at_even_places(steps):
    short, whole = Schedule.linear(steps), Schedule.linear(1000)
    assert torch.equal(short.levels, whole.levels[[round(1000 * (i + 1) / steps) - 1 for i in range(steps)]])
    assert short.times.tolist() == list(range(steps))


def test_a_long_linear_chain_is_the_papers():
    betas = torch.linspace(1e-4, 2e-2, 2000, dtype=torch.float64)
    assert torch.equal(Schedule.linear(2000).signal, Schedule.from_betas(betas).signal)


def test_a_chain_that_does_not_end_in_noise_is_not_entered_from_noise():
    raw = Schedule.from_betas(torch.linspace(1e-4, 2e-2, 100))  # ends at a level of 0.6
    for made in (raw, Schedule.geometric(20, most=5.0), Schedule.shifted(9, kappa=0.005)):
        with pytest.raises(
            ValueError, match="`schedule` must be a chain that ends near pure noise, .* got one that ends"
        ):
            draws(made, "ddim", 5)
        found, _ = draws(made, "ddim", 5, start=0.999)
        assert found == pytest.approx(MEAN, abs=0.01)


@pytest.mark.parametrize("prediction", ["x0", "v"])
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_chain_whose_end_is_noise_alone_is_walked_too(sampler, prediction):
    """A terminal level of exactly 0, as of rescaled β: no logarithm or quotient of it may be taken."""
    usual = Schedule.linear(100)
    ended = Schedule(torch.cat([usual.signal, torch.zeros(1)]), torch.cat([usual.sigma, torch.ones(1)]))
    found, spread = draws(ended, sampler, 101, prediction)
    assert found == pytest.approx(MEAN, abs=0.01) and spread == pytest.approx(STD, rel=0.1)


def test_noise_alone_implies_the_mean_of_the_data():
    x = torch.randn(1, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    assert not to_x0(x, x, torch.zeros(1), "eps").any()
