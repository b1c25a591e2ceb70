"""Super-resolution: any scene, any reference, tiles, averages, and what it refuses."""

import warnings
from dataclasses import replace

import pytest
import torch

from ctmem import checks, inference
from ctmem.config import TINY
from ctmem.data.areas import split_areas
from ctmem.data.samples import degrade_scene
from ctmem.data.scenes import load_scene, synthetic
from ctmem.diffusion.encoding import encode_image
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
from ctmem.evaluation.metrics import psnr_db
from ctmem.files import write_json
from ctmem.inference import draw, encode, super_resolve
from ctmem.match.dmb import dmb
from ctmem.match.texture_library import TextureLibrary
from ctmem.model import Model, build_networks, load_model
from ctmem.observe.camera import Camera
from ctmem.observe.optics import add_noise
from ctmem.observe.responses import box_srf

USUAL = Camera.gaussian(scale=4)
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
    camera = USUAL.for_wavelengths(scene.wavelengths_nm)
    return gt, camera.observe(gt), camera


def reference(height=21, width=33, bands=4, seed=1):
    return torch.rand(1, bands, height, width, generator=torch.Generator().manual_seed(seed))


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("bands", [103, 224])
def test_shipped_weights_run_on_any_band_count(bands):
    model = load_model("tiny")
    gt, lr_hsi, camera = observed(bands)
    pred = super_resolve(model, lr_hsi, reference(), camera=camera, generator=seeded())
    assert pred.shape == gt.shape and pred.isfinite().all()
    assert float((pred - gt).square().mean()) < float(gt.var())


@pytest.mark.parametrize("size", [(8, 12), (20, 28), (36, 12)])
def test_any_multiple_of_the_scale(model, size):
    gt, lr_hsi, camera = observed(height=size[0], width=size[1])
    pred = super_resolve(model, lr_hsi, reference(), camera=camera, steps=2, generator=seeded())
    assert pred.shape == gt.shape


@pytest.mark.parametrize("bands", [1, 3, 9])
def test_reference_of_any_sensor(model, bands):
    gt, lr_hsi, _ = observed()
    nm = synthetic(0, bands=31).wavelengths_nm
    edges = [(float(nm[i]) - 1, float(nm[i + 2]) + 1) for i in range(0, 2 * bands, 2)]
    camera = replace(USUAL, srf=box_srf(nm, edges))
    assert super_resolve(model, lr_hsi, reference(bands=bands), camera=camera, generator=seeded()).shape == gt.shape


def test_without_a_reference_texture_is_zero(model):
    _, lr_hsi, _ = observed()
    (encoded,) = encode(model, lr_hsi)
    assert encoded.texture.shape[1] == 4 * encoded.base.shape[1] and not encoded.texture.any()


def test_every_sample_gets_its_own_reference(model):
    """Two images with two references equal each image with its own, one at a time."""
    pairs = [observed(seed=seed) for seed in (0, 3)]
    references = [reference(seed=seed) for seed in (1, 2)]
    camera = pairs[0][2]
    both = encode(model, torch.cat([p[1] for p in pairs]), torch.cat(references), camera=camera)
    for one, (_, lr_hsi, _), ref_msi in zip(both, pairs, references):
        (alone,) = encode(model, lr_hsi, ref_msi, camera=camera)
        torch.testing.assert_close(one.texture, alone.texture, atol=1e-4, rtol=1e-3)
    assert not torch.allclose(both[0].texture, both[1].texture, atol=0.01)


@pytest.mark.parametrize("snr_db", [None, 25])
def test_consistency_gives_the_observation_back_to_a_thousandth(model, snr_db):
    """From weights that know nothing, too, and for observations with noise, which no smooth image explains."""
    _, lr_hsi, camera = observed()
    lr_hsi = lr_hsi if snr_db is None else add_noise(lr_hsi, snr_db, generator=seeded(3))
    mismatch = []
    for consistency in (False, True):
        pred = super_resolve(model, lr_hsi, reference(), camera=camera, consistency=consistency, generator=seeded())
        mismatch.append(float((USUAL.downsample(pred) - lr_hsi).norm() / lr_hsi.norm()))
    assert mismatch[0] > 5e-3 and mismatch[1] <= 1e-3


@pytest.mark.filterwarnings("ignore:the weights were trained for another camera")
def test_consistency_stops_at_the_noise_that_the_camera_tells(model):
    _, lr_hsi, camera = observed()
    noisy = add_noise(lr_hsi, 25, generator=seeded(3))
    pred = super_resolve(model, noisy, reference(), camera=replace(camera, snr_db=25.0), generator=seeded())
    left = float((USUAL.downsample(pred) - noisy).norm() / noisy.norm())
    assert 1e-2 < left <= 10 ** (-25 / 20)


def test_each_image_of_a_batch_is_consistent_with_its_own_observation(model):
    _, lr_hsi, _ = observed()
    both = torch.cat([lr_hsi, lr_hsi.flip(2) * 0.5 + 0.1])
    pred = super_resolve(model, both, steps=2, start=0.5, sampler=sample_dpmpp, generator=seeded())
    for one, observation in zip(pred.split(1), both.split(1)):
        assert float((USUAL.downsample(one) - observation).norm() / observation.norm()) <= 1e-3


def test_decode_returns_lr_hsi_up_for_the_base_and_gt_inside_the_subspace(model):
    gt, lr_hsi, _camera = observed()
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
    """Matching, condition and noise branch computed again at every step give the same image."""
    _, lr_hsi, camera = observed()

    def again(x_t, level, previous):
        (encoded,) = encode(model, lr_hsi, reference(), camera=camera)
        return model.denoiser(x_t, level, previous, encoded.base, encoded.texture)

    (encoded,) = encode(model, lr_hsi, reference(), camera=camera)
    options = {"steps": 5, "sampler": SAMPLERS[sampler], "start": 0.8}
    cached = draw(model, encoded, generator=seeded(), **options)
    uncached = sample(again, encoded.base, Schedule.linear(50), generator=seeded(), **options)
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
    names = "'ddpm', 'ddim', 'dpmpp', 'heun', 'edm'"
    with pytest.raises(ValueError, match=f"`sampler` must be one of {names}, got 'euler'"):
        replace(PRESET, sampler="euler")


def test_condition_is_computed_once_per_image(model, monkeypatch):
    _, lr_hsi, camera = observed()
    counts = {"condition": 0, "denoise": 0, "dmb": 0}
    for name in ("condition", "denoise"):
        original = getattr(model.denoiser, name)

        def counted(*args, name=name, original=original):
            counts[name] += 1
            return original(*args)

        monkeypatch.setattr(model.denoiser, name, counted)
    whole = inference.dmb
    monkeypatch.setattr(
        inference, "dmb", lambda *args, **options: counts.update(dmb=counts["dmb"] + 1) or whole(*args, **options)
    )
    super_resolve(model, lr_hsi, reference(), camera=camera, steps=5, generator=seeded())
    assert counts == {"condition": 1, "denoise": 5, "dmb": 1}


# --- matching again ---


def test_matching_again_asks_with_the_last_estimate(model, monkeypatch):
    """Every second call the query is x̂0 of the call before; the first texture is that of lr_hsi_up."""
    _gt, lr_hsi, camera = observed(height=16, width=20)
    queries, estimates = [], []
    real = inference.dmb
    monkeypatch.setattr(inference, "dmb", lambda query, *a, **o: (queries.append(query), real(query, *a, **o))[1])
    (encoded,) = encode(model, lr_hsi, reference(), camera=camera)
    queries.clear()
    options = {"camera": camera, "steps": 6, "generator": seeded(), "consistency": False}
    again = super_resolve(
        model, lr_hsi, reference(), rematch_every=2, callback=lambda *a: estimates.append(a[3]), **options
    )
    assert len(queries) == 3  # before calls 0, 2 and 4
    assert torch.equal(queries[0], camera.upsample(lr_hsi))
    for query, z in zip(queries[1:], (estimates[1], estimates[3])):
        torch.testing.assert_close(query, encoded.decode(z).clamp(0, 1))
    once = super_resolve(model, lr_hsi, reference(), **(options | {"generator": seeded()}))
    assert not torch.equal(again, once)


def test_matching_again_asks_with_reflectances_whatever_the_estimate(model, monkeypatch):
    _gt, lr_hsi, camera = observed(height=16, width=20)
    (encoded,) = encode(model, lr_hsi, reference(), camera=camera)
    queries, real = [], inference.dmb
    monkeypatch.setattr(inference, "dmb", lambda query, *a, **o: (queries.append(query), real(query, *a, **o))[1])
    monkeypatch.setattr(model.denoiser, "denoise", lambda x_t, level, previous, condition: 10 * condition.base)
    super_resolve(model, lr_hsi, reference(), camera=camera, steps=2, rematch_every=1, generator=seeded())
    wanted = encoded.decode(10 * encoded.base)
    assert float(wanted.min()) < 0 and float(wanted.max()) > 1
    torch.testing.assert_close(queries[-1], wanted.clamp(0, 1))


def test_matching_again_later_than_the_last_call_changes_nothing(model):
    _gt, lr_hsi, camera = observed(height=16, width=20)
    once, never_again = (
        super_resolve(model, lr_hsi, reference(), camera=camera, steps=3, generator=seeded(), rematch_every=every)
        for every in (None, 3)
    )
    assert torch.equal(once, never_again)


def test_matching_again_is_for_each_draw_and_each_image_alone(model):
    """A batch with a reference for each image equals the images one by one; a library and a list do, too."""
    _gt, lr_hsi, camera = observed(height=16, width=20)
    images = torch.cat([lr_hsi, lr_hsi.flip(3)])
    references = torch.cat([reference(seed=1), reference(seed=2)])
    options = {"camera": camera, "steps": 3, "rematch_every": 1, "draws": 2}
    both = super_resolve(model, images, references, generator=seeded(), **options)
    generator = seeded()
    for number in range(2):
        alone = super_resolve(
            model, images[number : number + 1], references[number : number + 1], generator=generator, **options
        )
        torch.testing.assert_close(both[number : number + 1], alone, atol=1e-5, rtol=1e-4)
    library = TextureLibrary.build({"one": reference()}, inference.blur_of(model, camera), model.preset.match)
    found = [
        super_resolve(model, lr_hsi, refs, generator=seeded(), **options)
        for refs in (reference(), [reference()], library)
    ]
    torch.testing.assert_close(found[0], found[1], atol=1e-4, rtol=1e-3)
    torch.testing.assert_close(found[0], found[2], atol=1e-4, rtol=1e-3)


def test_matching_again_needs_something_to_match(model):
    _gt, lr_hsi, camera = observed(height=16, width=20)
    with pytest.raises(
        ValueError, match="`ref_msi` must be a reference, to match again with `rematch_every`, got None"
    ):
        super_resolve(model, lr_hsi, camera=camera, rematch_every=2)
    with pytest.raises(ValueError, match="`rematch_every` must be a whole number ≥ 1, got 0"):
        super_resolve(model, lr_hsi, reference(), camera=camera, rematch_every=0)


def test_tiles_cover_and_resemble_the_whole(model):
    _, lr_hsi, camera = observed(height=64, width=80)
    whole, tiled = (
        super_resolve(model, lr_hsi, reference(), camera=camera, tile=tile, consistency=False, generator=seeded())
        for tile in (96, 48)
    )
    assert whole.shape == tiled.shape and not torch.equal(whole, tiled)
    lr_hsi_up = encode(model, lr_hsi)[0].lr_hsi_up
    assert float((whole - tiled).abs().mean()) < 0.5 * float((whole - lr_hsi_up).abs().mean())


def test_callback_is_handed_images_that_encoded_decodes(model):
    """The last x̂0 of one draw is the answer; x_t of the first step is noise about the size of the image."""
    _, lr_hsi, camera = observed()
    (encoded,) = encode(model, lr_hsi, reference(), camera=camera)
    seen = []
    pred = super_resolve(
        model, lr_hsi, reference(), camera=camera, steps=3, consistency=False, generator=seeded(),
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
    _, lr_hsi, camera = observed()
    holed = reference().clone()
    holed[..., :, 5] = torch.nan  # a detector that failed
    options = {"camera": camera, "generator": torch.Generator().manual_seed(0)}
    assert torch.isfinite(super_resolve(model, lr_hsi, holed, **options)).all()
    assert torch.isfinite(super_resolve(model, lr_hsi, [holed, reference()[..., :20]], **options)).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"lr_hsi": torch.rand(31, 6, 10)}, r"`lr_hsi` must be of shape \(B, C, H, W\)"),
        (
            {"lr_hsi": torch.full((1, 31, 6, 10), torch.nan)},
            "`lr_hsi` must be finite in at least one pixel, got NaN or infinite values in all",
        ),
        (
            {"camera": None},
            r"`camera` must be one with `srf`, the response \(c, C\) of its multispectral sensor, got one",
        ),
        (
            {"camera": USUAL},
            r"`camera` must be one with `srf`, the response \(c, C\) of its multispectral sensor, got one",
        ),
        (
            {"camera": replace(USUAL, srf=torch.full((4, 30), 1 / 30))},
            "`camera` must be one whose `srf` has 31 columns, one per band of `lr_hsi`, got 30 columns",
        ),
        (
            {"camera": Camera.gaussian(scale=8, srf=torch.full((4, 31), 1 / 31))},
            "`camera` must be one of scale 4, as the weights, got scale 8",
        ),
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
    _, lr_hsi, camera = observed()
    given = {"lr_hsi": lr_hsi, "ref_msi": reference(), "camera": camera} | change
    with monkeypatch.context() as patch, pytest.raises(ValueError, match=message):
        patch.setattr(model.denoiser, "denoise", lambda *_: pytest.fail("something was computed"))
        super_resolve(model, given.pop("lr_hsi"), given.pop("ref_msi"), **given)


# --- the camera ---


@pytest.fixture
def new_warnings():
    """Warnings that are given once are given once more."""
    checks.warn_once.cache_clear()
    yield
    checks.warn_once.cache_clear()


def wide_camera(bands=31):
    return Camera.gaussian(8.0, 4).for_wavelengths(synthetic(0, bands=bands).wavelengths_nm)


def test_left_open_the_camera_is_that_of_the_weights(model):
    _, lr_hsi, camera = observed()
    assert model.camera.to_dict() == USUAL.to_dict()
    left_open, told = (super_resolve(model, lr_hsi, camera=one, generator=seeded()) for one in (None, camera))
    assert torch.equal(left_open, told)


@pytest.mark.filterwarnings("ignore:the weights were trained for another camera")
def test_the_camera_that_is_told_is_the_one_the_answer_is_consistent_with(model):
    gt, _, camera = observed()
    wide = wide_camera()
    lr_hsi = wide.observe(gt)
    told, not_told = (super_resolve(model, lr_hsi, reference(), camera=c, generator=seeded()) for c in (wide, camera))
    for pred, own, other in ((told, wide, camera), (not_told, camera, wide)):
        left = [float((one.downsample(pred) - lr_hsi).norm() / lr_hsi.norm()) for one in (own, other)]
        assert left[0] <= 1e-3 < 5e-3 < left[1]


@pytest.mark.filterwarnings("ignore:the weights were trained for another camera")
@pytest.mark.parametrize("kind", ["image", "list", "library"])
def test_the_camera_that_is_told_is_the_one_that_is_matched_with(model, kind):
    """K is the learned one for the camera of the weights, whatever its response, and else the camera's own blur."""
    gt, _, camera = observed()
    wide, first = wide_camera(), reference()
    textures = []
    for one, blur in ((camera, model.kernel), (replace(camera, sensor="landsat8"), model.kernel), (wide, wide.blur)):
        lr_hsi = one.observe(gt)
        ref = {"image": first, "list": [first, first[..., :20]]}.get(kind)
        wanted, _ = dmb(one.upsample(lr_hsi), first if ref is None else ref, one, PRESET.match, blur=blur)
        if ref is None:
            ref = TextureLibrary.build({"first": first}, blur, PRESET.match)
        (encoded,) = encode(model, lr_hsi, ref, camera=one)
        expected = encode_image(lr_hsi, one.upsample(lr_hsi), wanted, one, PRESET.denoiser)
        torch.testing.assert_close(encoded.texture, expected.texture)
        textures.append(encoded.texture)
    assert not torch.allclose(textures[0], textures[2], atol=1e-2)


def test_another_camera_is_warned_of_once(model, new_warnings):
    _, lr_hsi, camera = observed()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(3):
            super_resolve(model, lr_hsi, reference(), camera=wide_camera(), generator=seeded())
        assert len(caught) == 1 and caught[0].category is RuntimeWarning and caught[0].filename == __file__
        assert str(caught[0].message) == (
            "the weights were trained for another camera: `camera` has a blur of FWHM 8.0 px instead of 4.0 px"
        )
        noisy = replace(camera, snr_db=30)
        for _ in range(2):
            super_resolve(model, lr_hsi, camera=noisy, generator=seeded())
            encode(model, lr_hsi, camera=noisy)
        assert len(caught) == 2 and str(caught[1].message).endswith("`camera` has noise of 30 dB instead of no noise")


def test_nothing_is_warned_of_where_only_the_response_differs(model, new_warnings):
    _, lr_hsi, camera = observed()
    rim = torch.nn.functional.pad(USUAL.psf, [2] * 4)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for one in (None, camera, replace(camera, sensor="landsat9"), replace(camera, psf=rim)):
            super_resolve(model, lr_hsi, camera=one, generator=seeded())
        shipped = load_model("tiny")
        super_resolve(shipped, lr_hsi, camera=shipped.camera, generator=seeded())


def test_weights_for_another_camera_are_told_apart_from_the_usual_one(model, new_warnings):
    """The card decides, not the preset: what is usual may be the camera that these weights do not know."""
    _, lr_hsi, camera = observed()
    other = replace(model, card={"camera": wide_camera().to_dict()})
    with pytest.warns(RuntimeWarning, match="`camera` has a blur of FWHM 4.0 px instead of 8.0 px"):
        super_resolve(other, lr_hsi, camera=camera, generator=seeded())
    left_open = super_resolve(other, lr_hsi, generator=seeded())
    assert torch.equal(left_open, super_resolve(other, lr_hsi, camera=wide_camera(), generator=seeded()))


@pytest.mark.filterwarnings("ignore:the weights were trained for another camera")
def test_told_the_true_blur_it_does_better_than_not_told():
    """Indian Pines through a blur twice as wide as that of the shipped weights, on the test area."""
    scene, model = load_scene("indian_pines"), load_model("tiny")
    true = Camera.gaussian(8.0, 4).for_wavelengths(scene.wavelengths_nm)
    degraded = degrade_scene(scene.tensor(), true)
    areas = split_areas(*degraded.gt.shape[2:], true)
    area, ref_msi = degraded.cut(areas["test"]), degraded.cut(areas["reference"]).hr_msi
    psnr = {}
    for name, camera in (("told", true), ("not told", model.camera.for_wavelengths(scene.wavelengths_nm))):
        pred = super_resolve(model, area.lr_hsi, ref_msi, camera=camera, generator=seeded())
        psnr[name] = float(psnr_db(pred, area.gt))
    assert psnr["told"] > psnr["not told"] + 1 > float(psnr_db(area.lr_hsi_up, area.gt)) + 1


def test_a_camera_is_a_camera(model):
    _, lr_hsi, camera = observed()
    with pytest.raises(TypeError, match="`camera` must be a `Camera`, got Tensor"):
        super_resolve(model, lr_hsi, reference(), camera=camera.srf)


def test_unknown_preset_and_missing_weights(tmp_path):
    with pytest.raises(ValueError, match="`name` must be one of 'tiny', 'small', 'paper', .*, got 'huge'"):
        load_model("huge")
    with pytest.raises(FileNotFoundError, match="`folder` must be one with card.json and weights, got .*, without"):
        load_model("tiny", folder=tmp_path)
    write_json({"preset": TINY.to_dict()}, tmp_path / "card.json")
    with pytest.raises(FileNotFoundError, match="kernel.safetensors, which is not there"):
        load_model("tiny", folder=tmp_path)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (
            {"sampler": lambda d, x, s, **k: x * float("nan")},
            ValueError,
            "`sampler` must be a function that returns finite",
        ),
        ({"callback": 3}, TypeError, "`callback` must be a function, or None, got int"),
        ({"generator": 0}, TypeError, "`generator` must be a `torch.Generator`, or None, got int"),
        ({"camera": "usual"}, TypeError, "`camera` must be a `Camera`, got str"),
    ],
)
def test_what_strangers_hand_in(model, change, error, message):
    with pytest.raises(error, match=message):
        super_resolve(model, torch.rand(1, 31, 4, 6), **change)
    with pytest.raises(TypeError, match="`model` must be a model, as `load_model` returns it, got str"):
        super_resolve("tiny", torch.rand(1, 31, 4, 6))
