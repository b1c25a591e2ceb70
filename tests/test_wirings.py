"""The wirings are what their table says: equal to stubs written from it, and of the sizes told."""

from __future__ import annotations

from dataclasses import asdict, replace

import pytest
import torch
import wiring_stubs

from ctmem.config import PAPER, TINY
from ctmem.match.align import gradient_magnitude
from ctmem.networks import variants
from ctmem.networks.tcmm import TCMM, PixelNorm
from ctmem.networks.variants import VARIANTS, as_drawn, as_released, corrected

SIZE = replace(TINY, denoiser=replace(TINY.denoiser, width=16, state=3, residual_blocks=2, te_blocks=2, cim_blocks=3))
B, Z, T, H, W = 2, 7, 12, 6, 10


def inputs(seed=0):
    generator = torch.Generator().manual_seed(seed)
    x_t, previous, base = (torch.randn(B, Z, H, W, generator=generator) for _ in range(3))
    return x_t, torch.tensor([0.2, 0.93]), previous, base, torch.randn(B, T, H, W, generator=generator)


def network(variant, size=SIZE):
    """New weights, every one of them at random, biases and norms too."""
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        made = TCMM(Z, T, variant(size).denoiser).eval().requires_grad_(False)
        for name, weight in made.named_parameters():
            if "temperature" in name:
                weight.add_(torch.randn(weight.shape, generator=torch.Generator().manual_seed(1)) * 0.2)
            elif weight.ndim == 1 or not weight.any():
                weight.add_(torch.randn(weight.shape) * (0.05 if "dt_proj" in name else 0.2))
    return made


@pytest.mark.parametrize("variant", [as_drawn, as_released, corrected], ids=lambda v: v.__name__)
@torch.no_grad()
def test_equals_the_stub_written_from_the_table(variant):
    size = replace(SIZE, denoiser=replace(SIZE.denoiser, cim_blocks=5))  # all four walks, and the first again
    made = network(variant, size)
    config = asdict(variant(size).denoiser) | {"wiring": variant.__name__}
    expected = wiring_stubs.denoise(made.state_dict(), config, *inputs())
    torch.testing.assert_close(made(*inputs()), expected, atol=2e-5, rtol=1e-4)
    assert (expected - inputs()[3]).abs().mean() > 1e-2  # the networks do something


@pytest.mark.parametrize("variant", [as_drawn, as_released], ids=lambda v: v.__name__)
@torch.no_grad()
def test_the_stub_knows_every_setting(variant):
    """With any one setting as corrected the network is another one: the parity test would see it."""
    wired = variant(SIZE)
    usual = corrected(SIZE).denoiser
    weights, found = network(variant).state_dict(), []
    for name in variants.WIRED:
        if name in ("subspace", "target", "zero_start") or getattr(wired.denoiser, name) == getattr(usual, name):
            continue
        other = TCMM(Z, T, replace(wired.denoiser, **{name: getattr(usual, name)})).eval()
        own = other.state_dict()
        fits = {k: v for k, v in weights.items() if k in own and own[k].shape == v.shape}
        same_names = set(own) == set(weights) and len(fits) == len(weights)
        other.load_state_dict(fits, strict=False)
        if same_names and torch.allclose(other(*inputs()), network(variant)(*inputs()), atol=1e-4):
            found.append(name)
    assert found == []


def test_the_released_wiring_has_the_parameters_that_were_counted():
    """102 bands, 3 multispectral ones, width 128: 7,581,738 are trained; one 1×1 of the width has no place here."""
    made = TCMM(102, 12, as_released(PAPER).denoiser)
    assert sum(p.numel() for p in made.parameters()) + 128 * 128 + 128 == 8_387_882 - 806_144


@torch.no_grad()
def test_the_released_wiring_does_not_see_the_last_estimate():
    x_t, level, previous, base, texture = inputs()
    for variant in (as_drawn, as_released):
        made = network(variant)
        one, other = (made(x_t, level, p, base, texture) for p in (previous, previous + 1))
        assert torch.equal(one, other) == (variant is as_released)


@torch.no_grad()
@pytest.mark.parametrize("variant", VARIANTS.values(), ids=VARIANTS)
def test_who_starts_as_the_identity(variant):
    torch.manual_seed(0)
    made = TCMM(Z, T, variant(SIZE).denoiser)
    assert torch.equal(made(*inputs()), inputs()[3]) == (variant is corrected)


@pytest.mark.parametrize("variant", [as_drawn, as_released], ids=lambda v: v.__name__)
def test_every_parameter_learns_but_what_is_lost(variant):
    made = network(variant).requires_grad_(True)
    made(*inputs()).square().sum().backward()
    assert [n for n, p in made.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0] == []


@torch.no_grad()
def test_a_bright_pixel_moves_no_other_where_pixels_are_normed_alone():
    x = torch.rand(1, 8, 5, 6, generator=torch.Generator().manual_seed(0))
    bright = x.clone()
    bright[..., 2, 3] = 50
    others = torch.ones(5, 6, dtype=torch.bool)
    others[2, 3] = False
    moved = {
        norm: float((norm(bright) - norm(x))[..., others].abs().max())
        for norm in (PixelNorm(8), torch.nn.GroupNorm(1, 8))
    }
    alone, whole = moved.values()
    assert alone == 0 and whole > 1


def test_zeros_outside_draw_an_edge_round_the_reference():
    flat = torch.full((1, 1, 5, 7), 0.5)
    assert torch.allclose(gradient_magnitude(flat), torch.full_like(flat, 1e-3))
    framed = gradient_magnitude(flat, "constant")
    assert float(framed[0, 0, 0, 3]) == pytest.approx(0.25, abs=1e-4) and float(framed[0, 0, 2, 3]) < 2e-3
    with pytest.raises(ValueError, match="`border` must be"):
        gradient_magnitude(flat, "mirror")


def test_every_setting_that_differs_stands_in_the_table():
    """Each field in which a wiring differs from `corrected` is named in the module's table."""
    documented = variants.__doc__
    for size in (TINY, PAPER):
        usual = corrected(size)
        for variant in (as_drawn, as_released):
            made = variant(size)
            for part in (None, "denoiser", "train"):
                one, other = (asdict(getattr(x, part) if part else x) for x in (made, usual))
                named = [key for key in one if one[key] != other[key] and key not in ("name", "denoiser", "train")]
                assert all(f"`{key}`" in documented for key in named), (variant, part, named)


@pytest.mark.parametrize("option", [{"skips": "some"}, {"level_enters": "everywhere"}])
def test_unknown_settings(option):
    with pytest.raises(ValueError, match=f"`{next(iter(option))}` must be"):
        TCMM(Z, T, replace(SIZE.denoiser, **option))
