"""What the code released with the paper gets wrong, one test per fault: none of it may happen here.

Where a fault is tested beside the module it could live in, `ELSEWHERE` says where, and a test looks whether
that test is still there. The released code was read, not copied; the numbers only group its faults.
"""

from __future__ import annotations

import ast
import dataclasses
import inspect
from pathlib import Path

import pytest
import torch
from torch import nn

from ctmem import inference
from ctmem.config import TINY, DenoiserConfig, MatchConfig, TrainConfig
from ctmem.data.areas import crops, split_areas
from ctmem.data.samples import degrade_scene
from ctmem.data.scenes import synthetic
from ctmem.diffusion.objective import add_noise, training_loss
from ctmem.diffusion.samplers import SAMPLERS, sample
from ctmem.diffusion.schedule import Schedule
from ctmem.files import load_module, load_tensors, save_module
from ctmem.inference import super_resolve
from ctmem.match.dmb import dmb
from ctmem.model import PARTS, Model, build_networks, load_model
from ctmem.networks.kernel_net import KernelNet
from ctmem.networks.tcmm import TCMM
from ctmem.observe.camera import Camera
from ctmem.observe.responses import box_srf
from ctmem.train import stages
from ctmem.train.pool import build_pool
from ctmem.train.sources import Source

ELSEWHERE = {
    "2: the level told is that of the x_t held, from pure noise on, and no call is left over": (
        "test_diffusion.py",
        "test_oracle_is_told_the_level_of_what_it_holds_and_is_reached",
    ),
    "4: SAM without a clamp": ("test_metrics.py", "test_fault_4_sam_of_parallel_spectra_is_zero_not_nan"),
    "4: SAM, one bad pixel": (
        "test_metrics.py",
        "test_fault_4_sam_of_one_black_pixel_leaves_the_others_as_they_are",
    ),
    "4: PSNR, one exact band": (
        "test_metrics.py",
        "test_fault_4_psnr_of_one_exact_band_lifts_that_band_only",
    ),
    "4: ERGAS without the scale": ("test_metrics.py", "test_fault_4_ergas_knows_the_scale"),
    "4: SSIM with constants of 0–255": (
        "test_metrics.py",
        "test_fault_4_ssim_has_the_constants_of_unit_range",
    ),
    "4: undefined correlation": (
        "test_metrics.py",
        "test_fault_4_an_undefined_correlation_is_nan_not_perfect",
    ),
    "5: the loader is exhausted": ("test_samples.py", "test_unpaired_a_loader_gives_every_sample_every_time"),
    "6: the first reference only": (
        "test_samples.py",
        "test_unpaired_every_box_and_every_reference_in_one_pass",
    ),
    "9: folder and file names": ("test_mat_tree.py", "test_tree_reads_both_spellings_in_any_case"),
}
SMALL = dataclasses.replace(
    TINY,
    crop=16,
    timesteps=50,
    match=MatchConfig(patch=4, stride=4),
    denoiser=DenoiserConfig(width=8, residual_blocks=1, cim_blocks=1, te_blocks=1, state=4, heads=2),
    kernel_width=16,
    cnn_width=8,
    kernel_steps=2,
    cnn_steps=2,
    train=TrainConfig(steps=2, batch=2, warmup=1, validate_every=1, save_every=1),
)
EDGES_NM = [(450, 520), (520, 600), (630, 700), (760, 900)]


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def scene():
    """A scene and what a camera of four multispectral bands records of it."""
    scene = synthetic(3, height=72, width=88, bands=31)
    return degrade_scene(scene.tensor(), Camera.gaussian(scale=4, srf=box_srf(scene.wavelengths_nm, EDGES_NM)))


@pytest.fixture
def model():
    """A small untrained model."""
    return Model(SMALL, **awake(SMALL), card={})


def awake(preset) -> dict[str, nn.Module]:
    """New networks without the zeros their last layers start with, so that everything reaches the output."""
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        networks = build_networks(preset)
        for parameter in (p for network in networks.values() for p in network.eval().parameters()):
            if not parameter.any():
                parameter.normal_(0, 0.1)
    return networks


def source(scene, name="synthetic", change=()):
    """The scene as something to learn from; `change`: areas whose ground is replaced by noise first."""
    areas = split_areas(*scene.gt.shape[2:], scene.camera)
    if change:
        ground = scene.gt.clone()
        for area in change:
            window = ground[..., *areas[area].slices]
            window.copy_(torch.rand(window.shape, generator=generator(9)))
        scene = degrade_scene(ground, scene.camera)
    references = tuple(scene.cut(box).hr_msi for box in crops(areas["reference"], 16, 8)[:2])
    return Source(name, scene, areas["train"], areas["validation"], references)


@pytest.mark.parametrize("fault", ELSEWHERE)
def test_faults_tested_elsewhere_are_still_tested(fault):
    file, name = ELSEWHERE[fault]
    tree = ast.parse((Path(__file__).parent / file).read_text(encoding="utf-8"))
    assert name in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


# --- 1: a new random projection in every forward pass, through which alone x_t reaches the network ---


def test_fault_1_two_calls_give_the_same_and_draw_no_random_number(model):
    x, level = torch.randn(2, 8, 12, 20, generator=generator()), torch.tensor([0.3, 0.9])
    texture = torch.randn(2, 32, 12, 20, generator=generator(1))
    state = torch.get_rng_state()
    first, second = (model.denoiser(x, level, x, x, texture) for _ in range(2))
    assert torch.equal(first, second)
    assert torch.equal(torch.get_rng_state(), state)


def test_fault_1_every_layer_between_x_t_and_the_answer_is_trained():
    """Every parameter gets a gradient, x_t does, and a call makes no layer that was not there before."""
    denoiser = awake(TINY)["denoiser"]
    names = [name for name, _ in denoiser.named_parameters()]
    x_t = torch.randn(1, 8, 12, 20, generator=generator()).requires_grad_()
    base = torch.randn(1, 8, 12, 20, generator=generator(1))
    texture = torch.randn(1, 32, 12, 20, generator=generator(2))
    denoiser(x_t, torch.tensor([0.4]), base, base, texture).square().sum().backward()
    assert [name for name, _ in denoiser.named_parameters()] == names
    assert [name for name, p in denoiser.named_parameters() if p.grad is None or not p.grad.any()] == []
    assert x_t.grad.abs().min() > 0


# --- 2: a level one step cleaner than the x_t held (ELSEWHERE), a last call that says "pure noise" ---


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_fault_2_levels_rise_from_pure_noise_to_almost_clean(sampler):
    levels = []

    def denoise(x_t, level, previous):
        levels.append(float(level[0]))
        return previous

    schedule, two_calls = Schedule.geometric(100), sampler in ("heun", "edm")
    sample(denoise, torch.zeros(1, 2, 4, 6), schedule, steps=10, sampler=SAMPLERS[sampler], generator=generator())
    of_steps = levels[::2] if two_calls else levels
    assert len(levels) == (19 if two_calls else 10) and len(of_steps) == 10
    assert of_steps == sorted(of_steps) and of_steps[-1] > 0.98
    noisiest = schedule.noise_level(torch.tensor(99))
    if sampler == "edm":  # which adds noise before each step: here a fifth
        told, held = ((1 - float(level) ** 2) ** 0.5 / float(level) for level in (levels[0], noisiest))
        assert told == pytest.approx(1.2 * held, rel=1e-5)
        assert levels[1::2] == schedule.noise_level(torch.tensor(schedule.trailing(10)[1:])).tolist()
    else:
        assert levels == sorted(levels) and levels[0] == noisiest


# --- 3: one t for the whole batch, and never the noisiest ---


def test_fault_3_every_sample_of_a_batch_has_its_own_level_and_is_noised_by_it():
    schedule, seen = Schedule.linear(2000), []
    x0 = torch.full((6, 1, 60, 80), 1.5)

    def denoise(x_t, level, previous):
        seen.append((x_t, level))
        return x_t

    training_loss(denoise, x0, x0, schedule, self_condition=0.0, generator=generator())
    ((x_t, level),) = seen
    assert level.shape == (6,)
    assert len(level.unique()) == 6
    assert x_t.mean((1, 2, 3)).tolist() == pytest.approx((1.5 * level).tolist(), abs=0.06)
    assert x_t.var((1, 2, 3)).tolist() == pytest.approx((1 - level.square()).tolist(), abs=0.06)


def test_fault_3_training_sees_the_noisiest_and_the_cleanest_level():
    schedule, seen = Schedule.linear(20), set()

    def denoise(x_t, level, previous):
        seen.update(level.tolist())
        return x_t

    x0 = torch.zeros(100, 1, 1, 1)
    for _ in range(5):
        training_loss(denoise, x0, x0, schedule, self_condition=0.0, generator=generator(4))
    assert seen == set(schedule.noise_level(torch.arange(20)).tolist())
    pure = add_noise(
        torch.full((1, 1, 50, 50), 3.0), torch.tensor([1999]), torch.zeros(1, 1, 50, 50), Schedule.linear()
    )
    assert pure.abs().max() < 0.001  # nothing of the image is left at T − 1


# --- 5: the second evaluation is empty and its PSNR NaN; the best kernel is chosen on the test set ---


def test_fault_5_every_validation_gives_the_same_finite_score(scene, model):
    estimate = stages.one_step_estimate(SMALL)
    score = stages.validation_score([source(scene)], SMALL, model.kernel, estimate)
    first, second, third = (score(model.denoiser) for _ in range(3))
    assert first == second == third
    assert 0 < first < 100


@pytest.mark.parametrize(("area", "same"), [("test", True), ("validation", False), ("train", False)])
def test_fault_5_training_and_the_choice_of_weights_never_see_the_test_area(scene, area, same, tmp_path):
    """With other ground in the test area all three networks come out bit for bit the same."""
    plain, changed = (tmp_path / name for name in ("plain", "changed"))
    cards = [
        stages.train(SMALL, [source(scene, change=change)], folder)
        for folder, change in ((plain, ()), (changed, (area,)))
    ]
    history = [validations(card) for card in cards]
    assert (history[0] == history[1]) == same
    if same:
        for part in PARTS:
            weights = [load_tensors(folder / f"{part}.safetensors")[0] for folder in (plain, changed)]
            assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def validations(card: dict) -> list:
    """Every number that the choice of weights went by."""
    kept = [v for part in card["metrics"].values() for k, v in part.items() if k.startswith("validation")]
    assert len(kept) == len(PARTS)
    return kept


# --- 6: every sample gets the first reference only ---


def test_fault_6_every_image_of_a_batch_is_matched_with_its_own_reference(scene):
    images = torch.cat([scene.gt[..., :16, :24], scene.gt[..., 40:56, 40:64]])
    references = torch.cat([scene.hr_msi[..., 20:36, :28], scene.hr_msi[..., 50:66, 50:78]])
    config = MatchConfig(patch=4, stride=2)
    both, match = dmb(images, references, scene.camera, config, blur=lambda x: x)
    for i in range(2):
        alone, match_alone = dmb(images[i : i + 1], references[i : i + 1], scene.camera, config, blur=lambda x: x)
        assert torch.allclose(both[i], alone[0], atol=1e-5)
        assert torch.equal(match.indices[i], match_alone.indices[0])
    with_first, _ = dmb(images, references[:1], scene.camera, config, blur=lambda x: x)
    assert torch.allclose(with_first[0], both[0], atol=1e-5)
    assert (with_first[1] - both[1]).abs().max() > 1e-2


def test_fault_6_inference_takes_one_reference_per_image(scene, model):
    images = torch.cat([scene.lr_hsi[..., :4, :6], scene.lr_hsi[..., 8:12, 8:14]])
    references = torch.cat([scene.hr_msi[..., 20:36, :28], scene.hr_msi[..., 50:66, 50:78]])
    both = super_resolve(model, images, references, camera=scene.camera, generator=generator())
    first = super_resolve(model, images, references[:1], camera=scene.camera, generator=generator())
    assert torch.allclose(both[0], first[0], atol=1e-5)
    assert (both[1] - first[1]).abs().max() > 1e-4


def test_fault_6_training_uses_every_reference(scene, model):
    one = source(scene)
    pool = build_pool([one], SMALL, model.kernel)
    single = [dataclasses.replace(one, references=(reference,)) for reference in one.references]
    pools = [build_pool([part], SMALL, model.kernel) for part in single]
    assert len(one.references) == 2
    assert torch.equal(pool.texture, torch.cat([part.texture for part in pools]))
    assert (pools[0].texture - pools[1].texture).abs().max() > 1e-2


# --- 7: square images, multiples of 4, even band counts and one patch size only ---


@pytest.mark.parametrize("size", [(13, 22), (4, 4), (5, 31), (1, 7)])
def test_fault_7_the_kernel_keeps_every_pixel_of_any_size(size):
    x = torch.rand(2, 3, *size, generator=generator())
    assert KernelNet(3, 16)(x).shape == x.shape


@pytest.mark.parametrize(("bands", "height", "width"), [(103, 3, 5), (31, 6, 2), (7, 4, 4)])
def test_fault_7_inference_takes_odd_band_counts_and_images_that_are_not_square(model, bands, height, width):
    lr_hsi = torch.rand(1, bands, height, width, generator=generator())
    srf = torch.rand(4, bands, generator=generator(1))
    reference = torch.rand(1, 4, 11, 17, generator=generator(2))
    camera = Camera.gaussian(scale=4, srf=srf / srf.sum(1, keepdim=True))
    pred = super_resolve(model, lr_hsi, reference, camera=camera, generator=generator())
    assert pred.shape == (1, bands, 4 * height, 4 * width)
    assert pred.isfinite().all()


@pytest.mark.parametrize(("patch", "msi_bands"), [(4, 3), (5, 3), (6, 4), (8, 2), (7, 1)])
def test_fault_7_matching_takes_any_patch_size_and_number_of_bands(scene, patch, msi_bands):
    reference = scene.hr_msi[:, :msi_bands, 20:41, :30]
    texture, match = dmb(
        scene.gt[..., :14, :22],
        reference,
        dataclasses.replace(scene.camera, srf=scene.camera.srf[:msi_bands]),
        MatchConfig(patch=patch, stride=3, query_stride=patch),
        blur=lambda x: x,
    )
    assert texture.shape == (1, 4 * msi_bands, 14, 22)
    assert match.grid == (-(-14 // patch), -(-22 // patch))


# --- 8: matching at every step, gt at inference, saving moves the model, weights missing in state_dict ---


def test_fault_8_matching_and_condition_are_computed_once_per_image(scene, model, monkeypatch):
    calls = {"match": 0, "condition": 0, "denoise": 0}

    def counted(name, function):
        def wrapper(*arguments, **options):
            calls[name] += 1
            return function(*arguments, **options)

        return wrapper

    monkeypatch.setattr(inference, "dmb", counted("match", inference.dmb))
    for name in ("condition", "denoise"):
        monkeypatch.setattr(model.denoiser, name, counted(name, getattr(model.denoiser, name)))
    lr_hsi = scene.lr_hsi[..., :4, :6]
    options = {"camera": scene.camera, "steps": 7, "draws": 2, "generator": generator()}
    super_resolve(model, lr_hsi, scene.hr_msi[..., :20, :28], **options)
    assert calls == {"match": 1, "condition": 1, "denoise": 14}


@pytest.mark.parametrize("function", [super_resolve, inference.encode, sample, dmb])
def test_fault_8_nothing_at_inference_takes_the_ground_truth(function):
    names = set(inspect.signature(function).parameters)
    assert not names & {"gt", "target", "ground_truth", "hr_hsi", "hr_msi", "x0"}


def test_fault_8_saving_leaves_the_live_model_where_it_is(model, tmp_path, monkeypatch):
    for name in ("to", "cpu", "cuda", "_apply"):
        monkeypatch.setattr(nn.Module, name, lambda *_, **__: pytest.fail("the model was moved"))
    before = [(p.data_ptr(), p.device, p.dtype) for p in model.denoiser.parameters()]
    save_module(model.denoiser, tmp_path / "w.safetensors", part="denoiser", preset="tiny")
    assert [(p.data_ptr(), p.device, p.dtype) for p in model.denoiser.parameters()] == before


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_fault_8_saving_leaves_the_live_model_on_the_gpu(model, tmp_path):
    model.to("cuda")
    save_module(model.denoiser, tmp_path / "w.safetensors", part="denoiser", preset="tiny")
    assert model.device.type == "cuda"


@pytest.mark.parametrize("part", PARTS)
def test_fault_8_no_weight_is_missing_in_the_state_dict(part, model, tmp_path):
    """No module keeps a tensor that is neither parameter nor buffer; saved weights give the same answers."""
    network = getattr(model, part)
    for module in network.modules():
        assert not [name for name, value in vars(module).items() if isinstance(value, torch.Tensor)]
        assert not [v for v in vars(module).values() if isinstance(v, list | tuple) and any(map(is_weight, v))]
    save_module(network, tmp_path / "w.safetensors", part=part, preset="tiny")
    other = build_networks(SMALL)[part].eval()
    load_module(other, tmp_path / "w.safetensors", part=part, preset="tiny")
    assert torch.equal(answer(network), answer(other))


def is_weight(value: object) -> bool:
    return isinstance(value, torch.Tensor | nn.Module)


@torch.no_grad()
def answer(network: nn.Module) -> torch.Tensor:
    """What the network makes of fixed noise."""
    x = torch.randn(1, 8, 12, 20, generator=generator(5))
    if isinstance(network, TCMM):
        return network(x, torch.tensor([0.5]), x, x, torch.cat([x, x, x, x], 1))
    return network(x[:, :4] if isinstance(network, KernelNet) else x)


# --- 9: a step that needs the file the next one makes, and names that its own loader does not read ---


def test_fault_9_training_starts_from_an_empty_folder_in_the_order_of_its_parts(scene, tmp_path):
    order = []
    for part in PARTS:
        stages.train(SMALL, [source(scene)], tmp_path, parts=[part])
        order.append(sorted(path.name for path in tmp_path.glob("*.safetensors")))
    assert order == [
        ["kernel.safetensors"],
        ["cnn.safetensors", "kernel.safetensors"],
        ["cnn.safetensors", "denoiser.safetensors", "kernel.safetensors"],
    ]


def test_fault_9_what_training_writes_is_what_inference_reads(scene, tmp_path):
    preset = dataclasses.replace(TINY, crop=16, kernel_steps=1, cnn_steps=1, train=SMALL.train)
    stages.train(preset, [source(scene)], tmp_path)
    model = load_model("tiny", folder=tmp_path)
    pred = super_resolve(model, scene.lr_hsi[..., :3, :5], generator=generator())
    assert pred.shape == (1, 31, 12, 20)
