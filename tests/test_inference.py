"""Super-resolution: any scene, any reference, tiles, averages, and what it refuses."""

from dataclasses import replace

import pytest
import torch

from ctmem.config import TINY
from ctmem.inference import encode, super_resolve, tiled_denoise
from ctmem.model import Model, build_networks, load_model
from ctmem.scenes import synthetic
from ctmem.sensors import blur_down, box_srf, default_psf, srf_matrix
from ctmem.weights import write_json

PRESET = replace(
    TINY, timesteps=50, kernel_width=16, cnn_width=8, denoiser=replace(TINY.denoiser, width=8, state=2, cim_blocks=1)
)


@pytest.fixture(scope="module")
def model():
    """Random weights whose last layer is not zero, so that every input has an effect."""
    torch.manual_seed(0)
    networks = build_networks(PRESET)
    torch.nn.init.normal_(networks["denoiser"].fusion[-1].weight, std=0.05)
    return Model(PRESET, **{part: n.eval().requires_grad_(False) for part, n in networks.items()}, card={})


def observed(bands=31, height=24, width=40, seed=0):
    scene = synthetic(seed, height=height, width=width, bands=bands)
    gt = scene.tensor()
    return gt, blur_down(gt, default_psf(4), 4), srf_matrix(scene.wavelengths_nm)


def reference(height=21, width=33, bands=4, seed=1):
    return torch.rand(1, bands, height, width, generator=torch.Generator().manual_seed(seed))


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("bands", [103, 224])
def test_shipped_weights_run_on_any_band_count(bands):
    model = load_model("tiny")
    gt, lr_hsi, srf = observed(bands)
    pred = super_resolve(model, lr_hsi, reference(), srf=srf, generator=seeded())
    assert pred.shape == gt.shape and pred.isfinite().all()
    assert float((pred - gt).square().mean()) < float(gt.var())


@pytest.mark.parametrize("size", [(8, 12), (20, 28), (36, 12)])
def test_any_multiple_of_the_scale(model, size):
    gt, lr_hsi, srf = observed(height=size[0], width=size[1])
    pred = super_resolve(model, lr_hsi, reference(), srf=srf, steps=2, generator=seeded())
    assert pred.shape == gt.shape


@pytest.mark.parametrize("bands", [1, 3, 9])
def test_reference_of_any_sensor(model, bands):
    gt, lr_hsi, _ = observed()
    nm = synthetic(0, bands=31).wavelengths_nm
    edges = [(float(nm[i]) - 1, float(nm[i + 2]) + 1) for i in range(0, 2 * bands, 2)]
    srf = box_srf(nm, edges)
    assert super_resolve(model, lr_hsi, reference(bands=bands), srf=srf, generator=seeded()).shape == gt.shape


def test_without_a_reference_texture_is_zero(model):
    _, lr_hsi, _ = observed()
    (encoded,) = encode(model, lr_hsi)
    assert encoded.texture.shape[1] == 4 * encoded.base.shape[1] and not encoded.texture.any()


def test_every_sample_gets_its_own_reference(model):
    """Two images with two references equal each image with its own, one at a time."""
    pairs = [observed(seed=seed) for seed in (0, 3)]
    references = [reference(seed=seed) for seed in (1, 2)]
    srf = pairs[0][2]
    both = encode(model, torch.cat([p[1] for p in pairs]), torch.cat(references), srf=srf)
    for one, (_, lr_hsi, _), ref_msi in zip(both, pairs, references):
        (alone,) = encode(model, lr_hsi, ref_msi, srf=srf)
        torch.testing.assert_close(one.texture, alone.texture, atol=1e-4, rtol=1e-3)
    assert not torch.allclose(both[0].texture, both[1].texture, atol=0.01)


def test_consistency_explains_the_observation(model):
    _, lr_hsi, srf = observed()
    mismatch = []
    for consistency in (False, True):
        pred = super_resolve(model, lr_hsi, reference(), srf=srf, consistency=consistency, generator=seeded())
        mismatch.append(float((blur_down(pred, default_psf(4), 4) - lr_hsi).norm() / lr_hsi.norm()))
    assert mismatch[1] < 0.2 * mismatch[0]


def test_decode_returns_lr_hsi_up_for_the_base_and_gt_inside_the_subspace(model):
    gt, lr_hsi, srf = observed()
    (encoded,) = encode(model, lr_hsi)
    assert torch.equal(encoded.decode(encoded.base), encoded.lr_hsi_up)
    error = (encoded.decode(encoded.encode(gt)) - gt).square().mean()
    assert float(error) < 0.1 * float((encoded.lr_hsi_up - gt).square().mean())


def test_samples_are_averaged(model):
    _, lr_hsi, _ = observed()
    mean = super_resolve(model, lr_hsi, samples=3, steps=2, consistency=False, generator=seeded())
    generator = seeded()
    draws = [super_resolve(model, lr_hsi, steps=2, consistency=False, generator=generator) for _ in range(3)]
    torch.testing.assert_close(mean, torch.stack(draws).mean(0), atol=1e-5, rtol=1e-4)
    assert not torch.allclose(draws[0], draws[1], atol=1e-4)


def test_condition_is_computed_once_per_image(model, monkeypatch):
    _, lr_hsi, srf = observed()
    counts = {"condition": 0, "denoise": 0, "dmb": 0}
    for name in ("condition", "denoise"):
        original = getattr(model.denoiser, name)

        def counted(*args, name=name, original=original):
            counts[name] += 1
            return original(*args)

        monkeypatch.setattr(model.denoiser, name, counted)
    from ctmem import inference

    whole = inference.dmb
    monkeypatch.setattr(inference, "dmb", lambda *args: counts.update(dmb=counts["dmb"] + 1) or whole(*args))
    super_resolve(model, lr_hsi, reference(), srf=srf, steps=5, generator=seeded())
    assert counts == {"condition": 1, "denoise": 5, "dmb": 1}


def test_constant_estimate_survives_tiling(model):
    """Blending weights sum to 1: tiles that all say the same give just that, also at the borders."""
    _, lr_hsi, _ = observed(height=40, width=72)
    (encoded,) = encode(model, lr_hsi)

    class Same:
        def condition(self, base, texture):
            return base

        def denoise(self, x_t, level, previous, condition):
            return condition * 2

    found = tiled_denoise(Same(), encoded, tile=24)(encoded.base, torch.ones(1), encoded.base)
    torch.testing.assert_close(found, encoded.base * 2, atol=1e-5, rtol=1e-5)


def test_tiles_cover_and_resemble_the_whole(model):
    _, lr_hsi, srf = observed(height=64, width=80)
    whole, tiled = (
        super_resolve(model, lr_hsi, reference(), srf=srf, tile=tile, consistency=False, generator=seeded())
        for tile in (96, 48)
    )
    assert whole.shape == tiled.shape
    lr_hsi_up = encode(model, lr_hsi)[0].lr_hsi_up
    assert float((whole - tiled).abs().mean()) < 0.5 * float((whole - lr_hsi_up).abs().mean())


def test_callback_and_generator(model):
    _, lr_hsi, _ = observed()
    seen = []
    first = super_resolve(model, lr_hsi, steps=3, generator=seeded(), callback=lambda *args: seen.append(args[:2]))
    assert seen == [(0, 49), (1, 32), (2, 16)]
    assert torch.equal(first, super_resolve(model, lr_hsi, steps=3, generator=seeded()))


def test_references_may_have_holes_or_be_several(model):
    _, lr_hsi, srf = observed()
    holed = reference().clone()
    holed[..., :, 5] = torch.nan  # a detector that failed
    options = {"srf": srf, "generator": torch.Generator().manual_seed(0)}
    assert torch.isfinite(super_resolve(model, lr_hsi, holed, **options)).all()
    assert torch.isfinite(super_resolve(model, lr_hsi, [holed, reference()[..., :20]], **options)).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"lr_hsi": torch.rand(31, 6, 10)}, r"`lr_hsi` must be of shape \(B, C, H, W\)"),
        ({"lr_hsi": torch.full((1, 31, 6, 10), torch.nan)}, "`lr_hsi` must be finite everywhere, got 1860 NaN"),
        ({"srf": None}, "`srf` must be the spectral response"),
        ({"srf": torch.ones(4, 31)}, "`srf` must be a matrix whose rows sum to 1, got a row 0 that sums to 31"),
        ({"srf": torch.full((4, 30), 1 / 30)}, "`srf` must be of 31 columns"),
        ({"ref_msi": torch.rand(1, 3, 21, 33)}, r"`ref_msi` must be of 4 band\(s\)"),
        ({"ref_msi": torch.rand(1, 4, 7, 33)}, "`ref_msi` must be at least 8×8 px, got 7×33"),
        ({"lr_hsi": torch.rand(1, 31, 2, 1)}, "`lr_hsi_up` must be at least 8×8 px, got 8×4"),
        ({"ref_msi": torch.rand(3, 4, 21, 33)}, "`ref_msi` must be one image, or one for each of 1 queries, got 3"),
        ({"ref_msi": torch.full((1, 4, 21, 33), torch.inf)}, "`ref_msi` must be finite"),
        ({"steps": 51}, "`steps` must be a whole number from 1 to 50, got 51"),
        ({"samples": 0}, "`samples` must be a whole number ≥ 1"),
        ({"sampler": "euler"}, "`sampler` must be one of"),
        ({"tile": 4}, "`tile` must be a whole number ≥ 8"),
    ],
)
def test_errors(model, change, message):
    _, lr_hsi, srf = observed()
    given = {"lr_hsi": lr_hsi, "ref_msi": reference(), "srf": srf} | change
    with pytest.raises(ValueError, match=message):
        super_resolve(model, given.pop("lr_hsi"), given.pop("ref_msi"), **given)


def test_unknown_preset_and_missing_weights(tmp_path):
    with pytest.raises(ValueError, match="`name` must be one of 'tiny', 'small', 'paper', .*, got 'huge'"):
        load_model("huge")
    with pytest.raises(FileNotFoundError, match="`folder` must be one with card.json and weights, got .*, without"):
        load_model("tiny", folder=tmp_path)
    write_json({"preset": TINY.to_dict()}, tmp_path / "card.json")
    with pytest.raises(FileNotFoundError, match="kernel.safetensors, which is not there"):
        load_model("tiny", folder=tmp_path)
