"""Super-resolution: any scene, any reference, tiles, averages, and what it refuses."""

from dataclasses import replace

import pytest
import torch

from ctmem.config import TINY
from ctmem.data.scenes import synthetic
from ctmem.diffusion.samplers import (
    SAMPLERS,
    at_level,
    sample,
    sample_ddim,
    sample_ddpm,
    sample_dpmpp,
    sample_edm,
    sample_heun,
)
from ctmem.diffusion.schedule import Schedule
from ctmem.files import write_json
from ctmem.inference import draw, encode, super_resolve
from ctmem.model import Model, build_networks, load_model
from ctmem.observe.optics import add_noise, blur_down, default_psf
from ctmem.observe.responses import box_srf, srf_matrix

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


@pytest.mark.parametrize("snr_db", [None, 25])
def test_consistency_gives_the_observation_back_to_a_thousandth(model, snr_db):
    """From weights that know nothing, too, and for observations with noise, which no smooth image explains."""
    _, lr_hsi, srf = observed()
    lr_hsi = lr_hsi if snr_db is None else add_noise(lr_hsi, snr_db, generator=seeded(3))
    mismatch = []
    for consistency in (False, True):
        pred = super_resolve(model, lr_hsi, reference(), srf=srf, consistency=consistency, generator=seeded())
        mismatch.append(float((blur_down(pred, default_psf(4), 4) - lr_hsi).norm() / lr_hsi.norm()))
    assert mismatch[0] > 5e-3 and mismatch[1] <= 1e-3


def test_each_image_of_a_batch_is_consistent_with_its_own_observation(model):
    _, lr_hsi, _ = observed()
    both = torch.cat([lr_hsi, lr_hsi.flip(2) * 0.5 + 0.1])
    pred = super_resolve(model, both, steps=2, start=0.5, sampler=sample_dpmpp, generator=seeded())
    for one, observation in zip(pred.split(1), both.split(1)):
        assert float((blur_down(one, default_psf(4), 4) - observation).norm() / observation.norm()) <= 1e-3


def test_decode_returns_lr_hsi_up_for_the_base_and_gt_inside_the_subspace(model):
    gt, lr_hsi, srf = observed()
    (encoded,) = encode(model, lr_hsi)
    assert torch.equal(encoded.decode(encoded.base), encoded.lr_hsi_up)
    error = (encoded.decode(encoded.encode(gt)) - gt).square().mean()
    assert float(error) < 0.1 * float((encoded.lr_hsi_up - gt).square().mean())


def test_draws_are_averaged(model):
    _, lr_hsi, _ = observed()
    mean = super_resolve(model, lr_hsi, draws=3, steps=2, consistency=False, generator=seeded())
    generator = seeded()
    draws = [super_resolve(model, lr_hsi, steps=2, consistency=False, generator=generator) for _ in range(3)]
    torch.testing.assert_close(mean, torch.stack(draws).mean(0), atol=1e-5, rtol=1e-4)
    assert not torch.allclose(draws[0], draws[1], atol=1e-4)


@pytest.mark.parametrize("consistency", [False, True])
def test_uncertainty_is_the_deviation_of_the_draws(model, consistency):
    _, lr_hsi, _ = observed()
    options = {"steps": 2, "consistency": consistency}
    pred, std = super_resolve(model, lr_hsi, draws=4, uncertainty=True, generator=seeded(), **options)
    assert torch.equal(pred, super_resolve(model, lr_hsi, draws=4, generator=seeded(), **options))
    generator = seeded()
    draws = [super_resolve(model, lr_hsi, generator=generator, **options) for _ in range(4)]
    assert std.shape == pred.shape and float(std.min()) >= 0
    torch.testing.assert_close(std, torch.stack(draws).std(0), atol=2e-4, rtol=0.02)


def test_draws_that_agree_have_no_uncertainty(model, monkeypatch):
    _, lr_hsi, _ = observed()
    monkeypatch.setattr(model.denoiser, "denoise", lambda x_t, level, previous, condition: condition.base * 1.1)
    _, std = super_resolve(model, lr_hsi, draws=2, uncertainty=True, generator=seeded())
    assert float(std.max()) < 1e-6


@torch.no_grad()
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_cached_equals_uncached(model, sampler):
    """Matching, condition and noise branch computed anew at every step give the same image."""
    _, lr_hsi, srf = observed()

    def anew(x_t, level, previous):
        (encoded,) = encode(model, lr_hsi, reference(), srf=srf)
        return model.denoiser(x_t, level, previous, encoded.base, encoded.texture)

    (encoded,) = encode(model, lr_hsi, reference(), srf=srf)
    options = {"steps": 5, "sampler": SAMPLERS[sampler], "start": 0.8}
    cached = draw(model, encoded, generator=seeded(), **options)
    uncached = sample(anew, encoded.base, Schedule.linear(50), generator=seeded(), **options)
    torch.testing.assert_close(cached, uncached, atol=1e-5, rtol=1e-5)


def test_a_start_of_none_of_the_noise_stays_near_the_base(model, monkeypatch):
    """A denoiser that believes what it is handed: entered late, the answer is lr_hsi_up and little noise."""
    _, lr_hsi, _ = observed()
    monkeypatch.setattr(model.denoiser, "denoise", lambda x_t, level, previous, condition: x_t)
    (encoded,) = encode(model, lr_hsi)
    away = [
        float((draw(model, encoded, steps=1, start=start, generator=seeded()) - encoded.base).std())
        for start in (0.02, 0.5, 1.0)
    ]
    assert away[0] == pytest.approx(float(Schedule.linear(50).sigma[0]), rel=0.05) and away[0] < away[1] < away[2]


def test_what_is_left_open_is_the_presets(model):
    _, lr_hsi, _ = observed()
    steps = []
    chosen = replace(model, preset=replace(PRESET, sampling_steps=3, sampler="ddpm", schedule="cosine"))
    pred = super_resolve(chosen, lr_hsi, generator=seeded(), callback=lambda *args: steps.append(args[:2]))
    assert steps == [(0, 49), (1, 32), (2, 16)]
    assert not torch.equal(pred, super_resolve(chosen, lr_hsi, sampler=sample_ddim, generator=seeded()))
    assert not torch.equal(pred, super_resolve(model, lr_hsi, steps=3, sampler=sample_ddpm, generator=seeded()))


def test_a_sampler_of_ones_own(model):
    """Half of what one call from noise alone says and half of lr_hsi_up; the network is called once per draw."""
    _, lr_hsi, _ = observed()
    (encoded,) = encode(model, lr_hsi)
    walked = []

    def mine(denoise, x, schedule, *, previous, generator=None, callback=None):
        walked.append(schedule.times.tolist())
        x0 = denoise(x, at_level(schedule.levels[-1], x), previous)
        callback(0, int(schedule.times[-1]), x, x0)
        return (x0 + previous) / 2

    options = {"generator": seeded(), "consistency": False, "callback": lambda *args: walked.append(args[:2])}
    pred = super_resolve(model, lr_hsi, steps=2, sampler=mine, **options)
    one_step = draw(model, encoded, steps=1, generator=seeded())
    torch.testing.assert_close(pred, encoded.decode((one_step + encoded.base) / 2))
    assert walked == [[24, 49], (0, 49)]


@pytest.mark.parametrize("sampler", [sample_heun, sample_edm])
def test_samplers_of_several_calls_report_their_steps(model, sampler):
    _, lr_hsi, _ = observed()
    seen = []
    pred = super_resolve(
        model, lr_hsi, steps=3, sampler=sampler, generator=seeded(), callback=lambda *args: seen.append(args[:2])
    )
    assert seen == [(0, 49), (1, 32), (2, 16)] and pred.isfinite().all()


def test_a_sampler_is_a_function_and_the_presets_a_name(model):
    _, lr_hsi, _ = observed()
    with pytest.raises(TypeError, match="`sampler` must be a function such as `sample_ddim`, got 'ddim'"):
        super_resolve(model, lr_hsi, sampler="ddim")
    other = replace(model, preset=replace(PRESET, sampler="euler"))
    names = "'ddpm', 'ddim', 'dpmpp', 'heun', 'edm'"
    with pytest.raises(ValueError, match=f"`sampler` must be one of {names}, got 'euler'"):
        super_resolve(other, lr_hsi)


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


def test_tiles_cover_and_resemble_the_whole(model):
    _, lr_hsi, srf = observed(height=64, width=80)
    whole, tiled = (
        super_resolve(model, lr_hsi, reference(), srf=srf, tile=tile, consistency=False, generator=seeded())
        for tile in (96, 48)
    )
    assert whole.shape == tiled.shape
    lr_hsi_up = encode(model, lr_hsi)[0].lr_hsi_up
    assert float((whole - tiled).abs().mean()) < 0.5 * float((whole - lr_hsi_up).abs().mean())


def test_callback_is_handed_images_that_encoded_decodes(model):
    """The last x̂0 of one draw is the answer; x_t of the first step is noise about the size of the image."""
    _, lr_hsi, srf = observed()
    (encoded,) = encode(model, lr_hsi, reference(), srf=srf)
    seen = []
    pred = super_resolve(
        model, lr_hsi, reference(), srf=srf, steps=3, consistency=False, generator=seeded(),
        callback=lambda step, t, x_t, x0: seen.append((encoded.decode(x_t), encoded.decode(x0))),
    )  # fmt: skip
    torch.testing.assert_close(seen[-1][1], pred)
    assert {x.shape for pair in seen for x in pair} == {pred.shape}
    calls = []
    super_resolve(model, torch.cat([lr_hsi, lr_hsi]), draws=3, steps=2, callback=lambda *args: calls.append(args[0]))
    assert calls == [0, 1] * 6  # B · draws · steps, for a progress bar


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
        ({"steps": 26, "start": 0.5}, "`steps` must be a whole number from 1 to 25, got 26"),
        ({"steps": 0}, "`steps` must be a whole number from 1 to 50, got 0"),
        ({"start": 0.0}, "`start` must be a share of the chain, above 0 and at most 1, got 0.0"),
        ({"draws": 0}, "`draws` must be a whole number ≥ 1"),
        ({"uncertainty": True}, "`draws` must be a whole number ≥ 2, got 1"),
        ({"tile": 4}, "`tile` must be a whole number ≥ 8"),
    ],
)
def test_errors(model, change, message, monkeypatch):
    _, lr_hsi, srf = observed()
    given = {"lr_hsi": lr_hsi, "ref_msi": reference(), "srf": srf} | change
    with monkeypatch.context() as patch, pytest.raises(ValueError, match=message):
        patch.setattr(model.denoiser, "denoise", lambda *_: pytest.fail("something was computed"))
        super_resolve(model, given.pop("lr_hsi"), given.pop("ref_msi"), **given)


def test_unknown_preset_and_missing_weights(tmp_path):
    with pytest.raises(ValueError, match="`name` must be one of 'tiny', 'small', 'paper', .*, got 'huge'"):
        load_model("huge")
    with pytest.raises(FileNotFoundError, match="`folder` must be one with card.json and weights, got .*, without"):
        load_model("tiny", folder=tmp_path)
    write_json({"preset": TINY.to_dict()}, tmp_path / "card.json")
    with pytest.raises(FileNotFoundError, match="kernel.safetensors, which is not there"):
        load_model("tiny", folder=tmp_path)
