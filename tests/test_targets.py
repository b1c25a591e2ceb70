"""What a denoiser may put out (x0, residual, eps, v): training, sampling and weights agree about it."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from small_training import SMALL, small_source

from ctmem.data.scenes import synthetic
from ctmem.diffusion.encoding import Encoded
from ctmem.diffusion.objective import to_output
from ctmem.diffusion.problem import DenoisingProblem
from ctmem.diffusion.samplers import SAMPLERS
from ctmem.diffusion.schedule import SCHEDULES, make_schedule
from ctmem.diffusion.subspace import Subspace
from ctmem.files import load_module, save_module
from ctmem.inference import encode, super_resolve
from ctmem.model import Model, build_networks, load_model
from ctmem.networks.tcmm import TARGETS, TCMM
from ctmem.observe.camera import Camera
from ctmem.train.pool import Pool
from ctmem.train.stages import denoiser_loss, one_step_estimate, train

Z = SMALL.denoiser.subspace
STD = torch.tensor([0.5, 2.0, 0.1, 1.0])
every_target = pytest.mark.parametrize("target", TARGETS)


def preset(target, **changes):
    return dataclasses.replace(SMALL, denoiser=dataclasses.replace(SMALL.denoiser, target=target), **changes)


def network(target):
    """New, of the target; the residual of known size."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = build_networks(preset(target))["denoiser"].eval()
    if target == "residual":
        network.residual_std.copy_(STD)
    return network


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def pool(batch=3, height=12, width=20):
    base = normal(batch, Z, height, width)
    difference = STD[:, None, None] * normal(batch, Z, height, width, seed=1)
    texture, weight = normal(batch, 4 * Z, height, width, seed=2), torch.rand(batch, Z, 1, 1) + 0.5
    return Pool(base, base + difference, texture, weight)


class KnowsAll(TCMM):
    """Puts out exactly what its target names, from the truth, the level and x_t alone."""

    truth: torch.Tensor

    def denoise(self, x_t, noise_level, x0_previous, condition):
        residual = (self.truth - condition.base) / STD[:, None, None]
        x0 = residual if self.target == "residual" else self.truth
        signal = noise_level.double().reshape(-1, 1, 1, 1)
        sigma = (1 - signal.square()).sqrt()
        noise = (x_t - signal * x0) / sigma
        return {"eps": noise, "v": signal * noise - sigma * x0}.get(self.target, x0).float()


def knows_all(target, truth):
    oracle = network(target)
    oracle.__class__ = KnowsAll
    oracle.truth = truth
    return oracle


@every_target
def test_the_denoiser_fits_the_problem(target):
    """`DenoisingProblem` asks a network for its target and for the size of its residuals."""
    net, data = network(target), pool()
    problem = DenoisingProblem.of(net, data.base, data.texture)
    assert problem.prediction == {"residual": "x0"}.get(target, target)
    assert (net.residual_std is None) == (target != "residual") and problem.residual_std is net.residual_std
    level = torch.tensor([0.1, 0.5, 0.9])
    x, previous = normal(3, Z, 12, 20, seed=5), normal(3, Z, 12, 20, seed=6)
    assert torch.equal(problem.denoise(x, level, previous), net(x, level, previous, data.base, data.texture))


@every_target
def test_only_for_x0_the_network_starts_at_lr_hsi_up(target):
    """The last layer starts at zero: x̂0 = base, or an output of 0."""
    data, net = pool(), network(target)
    level = torch.tensor([0.1, 0.5, 0.9])
    out = net(normal(3, Z, 12, 20, seed=5), level, data.base, data.base, data.texture)
    assert torch.equal(out, data.base if target == "x0" else torch.zeros_like(out))


@every_target
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_the_loss_of_the_truth_is_zero(target, schedule):
    data = pool()
    loss = denoiser_loss(preset(target, schedule=schedule, timesteps=15))
    values = [float(loss(knows_all(target, data.target), data, torch.Generator().manual_seed(i))) for i in range(4)]
    assert max(values) < 1e-3
    wrong = [loss(network(target), data, torch.Generator().manual_seed(i)).item() for i in range(4)]
    assert min(wrong) > 0.1


@pytest.mark.parametrize("target", ["x0", "residual"])
def test_both_losses_count_the_error_of_the_image(target):
    """A network that is off by a known difference in the image: the mean of difference · weight, or its multiple."""
    data = pool()
    off = torch.tensor([0.2, 0.0, 0.1, 0.3])[:, None, None]
    value = denoiser_loss(preset(target))(knows_all(target, data.target + off), data, torch.Generator())
    wanted = float((off * data.weight).mean()) / (1.0 if target == "x0" else float(STD.mean()))
    assert float(value) == pytest.approx(wanted, rel=1e-3)


@every_target
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_the_estimate_of_the_truth_is_the_truth(target, schedule):
    data = pool(1)
    encoded = Encoded(data.base, Subspace.identity(Z), data.base, data.texture)
    estimate = one_step_estimate(preset(target, schedule=schedule, timesteps=15))
    found = estimate(knows_all(target, data.target), encoded)
    torch.testing.assert_close(found, data.target, atol=2e-3, rtol=1e-3)


@every_target
def test_a_predicted_noise_is_scored_after_ten_calls_the_others_after_one(target):
    """From noise alone it says nothing of the image."""
    data, calls = pool(1), []
    oracle = knows_all(target, data.target)
    real = oracle.denoise
    oracle.denoise = lambda *given: (calls.append(0), real(*given))[1]
    one_step_estimate(preset(target, timesteps=15))(
        oracle, Encoded(data.base, Subspace.identity(Z), data.base, data.texture)
    )
    assert len(calls) == (10 if target == "eps" else 1)


@every_target
def test_every_target_learns(target):
    """Forty steps on one crop that differs from its base by constants: the loss falls well below that of the start."""
    net, data, generator = network(target).train(), pool(1), torch.Generator().manual_seed(1)
    data = dataclasses.replace(data, target=data.base + STD[:, None, None])
    loss = denoiser_loss(preset(target, schedule="cosine", train=dataclasses.replace(SMALL.train, self_condition=0.0)))
    optimizer, values = torch.optim.Adam(net.parameters(), lr=5e-3), []
    for _ in range(40):
        value = loss(net, data, generator)
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        values.append(float(value.detach()))
    assert sum(values[-8:]) < 0.8 * sum(values[:8])


@every_target
def test_weights_of_one_target_do_not_pass_for_another(target, tmp_path):
    """The size of the residual is in its file; files without it load for the other targets, as they always did."""
    save_module(network(target), tmp_path / "w.safetensors", part="denoiser", preset="tiny")
    other = build_networks(preset(target))["denoiser"]
    load_module(other, tmp_path / "w.safetensors", part="denoiser", preset="tiny")
    if target == "residual":
        assert torch.equal(other.residual_std, STD)
        with pytest.raises(ValueError, match="weights with `residual_std` of shape none"):
            load_module(network("x0"), tmp_path / "w.safetensors", part="denoiser", preset="tiny")
    else:
        with pytest.raises(ValueError, match=r"weights with `residual_std` of shape \(4,\)"):
            load_module(network("residual"), tmp_path / "w.safetensors", part="denoiser", preset="tiny")


@pytest.mark.parametrize(("target", "schedule"), [("residual", "shifted"), ("v", "cosine"), ("eps", "linear")])
def test_trained_and_loaded_again(target, schedule, tmp_path):
    """What training writes is what `load_model` reads: settings from the card, the residual's size from the pool."""
    chosen = preset(target, schedule=schedule, timesteps=15, train=dataclasses.replace(SMALL.train, steps=2))
    train(chosen, [small_source()], tmp_path)
    model = load_model(chosen.name, folder=tmp_path)
    assert model.preset == chosen
    if target == "residual":
        assert not torch.equal(model.denoiser.residual_std, torch.ones(Z))


@every_target
@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize(("schedule", "start"), [("linear", 1.0), ("linear", 0.4), ("cosine", 1.0), ("shifted", 1.0)])
def test_super_resolution_finds_what_the_network_knows(target, sampler, schedule, start):
    """With a network that knows the truth every target, sampler and chain ends at it; the callback sees it."""
    gt = synthetic(0, height=16, width=24, bands=31).tensor()
    lr_hsi, chosen = Camera.gaussian().observe(gt), preset(target, schedule=schedule, timesteps=40)
    networks = build_networks(chosen)
    model = Model(chosen, networks["kernel"], networks["cnn"], network(target), card={})
    (encoded,) = encode(model, lr_hsi)
    z, seen = encoded.encode(gt), []
    model = dataclasses.replace(model, denoiser=knows_all(target, z))
    pred = super_resolve(
        model, lr_hsi, steps=6, sampler=SAMPLERS[sampler], start=start, consistency=False, generator=torch.Generator(),
        callback=lambda step, t, x_t, x0: seen.append(x0),
    )  # fmt: skip
    torch.testing.assert_close(pred, encoded.decode(z), atol=1e-3, rtol=0)
    torch.testing.assert_close(seen[-1], z, atol=1e-3, rtol=1e-3)


def test_shipped_weights_are_of_the_clean_image():
    model = load_model("tiny")
    assert model.denoiser.target == model.preset.denoiser.target == "x0"
    assert (model.preset.schedule, model.preset.timesteps) == ("linear", 2000)


def test_outputs_of_the_schedule_and_of_the_network_mean_the_same():
    """The oracle above, which knows only levels, puts out what `to_output` names."""
    data, schedule, t = pool(1), make_schedule("shifted", 15), torch.tensor([9])
    noise = normal(1, Z, 12, 20, seed=3)
    level, rest = float(schedule.levels[9]), float(schedule.noises[9])
    x_t = level * data.target + rest * noise
    for target in ("eps", "v"):
        oracle = knows_all(target, data.target)
        out = oracle.denoise(x_t, schedule.noise_level(t), data.base, oracle.condition(data.base, data.texture))
        wanted = to_output(data.target, noise, schedule.noise_level(t), target)
        torch.testing.assert_close(out, wanted, atol=1e-4, rtol=1e-4)


def test_errors():
    with pytest.raises(ValueError, match="`target` must be one of 'x0', 'residual', 'eps', 'v', got 'score'"):
        TCMM(Z, 4 * Z, dataclasses.replace(SMALL.denoiser, target="score"))
