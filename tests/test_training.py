"""Training at a size of seconds: learns, resumes bit for bit, and never sees the test area."""

import itertools
from dataclasses import replace

import pytest
import torch

from ctmem import training
from ctmem.config import TINY
from ctmem.inference import super_resolve
from ctmem.model import Model, build_networks, load_model
from ctmem.pairs import degrade_scene, split_areas
from ctmem.scenes import synthetic
from ctmem.sensors import default_psf, srf_matrix
from ctmem.training import Pool, Source, build_pool, cnn_loss, denoiser_loss, draw_batch, embedded_sources, fit, train
from ctmem.weights import load_module

SMALL = replace(
    TINY,
    crop=16,
    timesteps=50,
    denoiser=replace(TINY.denoiser, width=8, state=2, subspace=4, cim_blocks=1),
    cnn_width=8,
    kernel_width=16,
    train=replace(TINY.train, steps=6, batch=2, validate_every=2, save_every=2, warmup=2),
)


@pytest.fixture(scope="module")
def source():
    scene = synthetic(0, height=96, width=128, bands=31)
    srf = srf_matrix(scene.wavelengths_nm, bands=SMALL.msi_bands)
    degraded = degrade_scene(scene.tensor(), srf, default_psf(4), 4)
    areas = split_areas(96, 128, scale=4, halo=4)
    reference = degraded.cut(areas["reference"]).hr_msi
    return Source("synthetic", degraded, areas["train"], areas["validation"], srf, (reference, reference.flip(2)))


@pytest.fixture(scope="module")
def pool(source):
    return build_pool([source], SMALL, lambda x: x)


def networks():
    torch.manual_seed(0)
    return build_networks(SMALL)


def test_pool_holds_every_crop_once_per_reference(source, pool):
    crops = training.crops(training.Box(0, 0, source.train.height, source.train.width), 16, 8)
    assert len(pool) == 2 * len(crops)
    assert pool.base.shape[1:] == (4, 16, 16) and pool.texture.shape[1:] == (16, 16, 16)
    assert not torch.equal(pool.texture[0], pool.texture[len(crops)])  # the second reference is another one


def test_batch_is_augmented_alike_in_all_images(pool):
    """Signs and gains are those of base and target together: base / target keeps its distribution."""
    config = replace(SMALL.train, batch=64, drop_reference=0.25)
    batch = draw_batch(pool, config, torch.Generator().manual_seed(0))
    k = pool.base.shape[1]
    dropped = (batch.texture == 0).all(1).all(1).all(1)
    assert 4 <= int(dropped.sum()) <= 28
    assert (batch.texture[~dropped][:, 2 * k : 3 * k] >= 0).all()  # a gradient magnitude has no sign
    original = (pool.base - pool.target).abs().mean((2, 3)).flatten()
    factors = (batch.base - batch.target).abs().mean((2, 3)) / original.max()
    assert float(factors.max()) <= 1.2 + 1e-5


@pytest.mark.parametrize(("part", "steps"), [("cnn", 150), ("denoiser", 60)])
def test_learns_what_can_be_learned(pool, part, steps):
    """A target of 1.5 × base is within reach of both; their loss must fall to a third."""
    easy = Pool(pool.base, 1.5 * pool.base, pool.texture, pool.weight)
    config = replace(SMALL.train, steps=steps, learning_rate=1e-2, batch=4)
    loss = cnn_loss if part == "cnn" else denoiser_loss(SMALL)
    run = fit(networks()[part], easy, loss, lambda network: 0.0, config)
    losses = [row[1] for row in run.history]
    assert sum(losses[-5:]) < sum(losses[1:6]) / 3


def test_best_weights_are_kept_not_the_last(pool):
    scores = itertools.chain([1.0, 5.0], itertools.repeat(2.0))
    run = fit(networks()["cnn"], pool, cnn_loss, lambda network: next(scores), SMALL.train)
    assert run.best_score == 5.0
    assert not torch.equal(run.best.out.weight, run.average.out.weight)


class Stop(Exception):
    pass


@pytest.mark.parametrize("part", ["cnn", "denoiser"])
@pytest.mark.parametrize("stop_after", [2, 3])
def test_resumed_run_is_bit_identical(pool, tmp_path, part, stop_after):
    loss = cnn_loss if part == "cnn" else denoiser_loss(SMALL)
    score = lambda network: -float(sum(p.abs().sum() for p in network.parameters()))  # noqa: E731
    whole = fit(networks()[part], pool, loss, score, SMALL.train)
    calls = itertools.count()

    def interrupted(*arguments):
        if next(calls) == stop_after:
            raise Stop
        return loss(*arguments)

    checkpoint = tmp_path / "state.safetensors"
    with pytest.raises(Stop):
        fit(networks()[part], pool, interrupted, score, SMALL.train, checkpoint=checkpoint)
    resumed = fit(networks()[part], pool, loss, score, SMALL.train, checkpoint=checkpoint)
    assert resumed.step == whole.step and resumed.history == whole.history
    for name, x in whole.tensors().items():
        assert torch.equal(x, resumed.tensors()[name]), name


def test_checkpoint_of_another_configuration(pool, tmp_path):
    checkpoint = tmp_path / "state.safetensors"
    fit(networks()["cnn"], pool, cnn_loss, lambda network: 0.0, SMALL.train, checkpoint=checkpoint)
    with pytest.raises(ValueError, match="`path` must be a checkpoint of TrainConfig"):
        fit(networks()["cnn"], pool, cnn_loss, lambda network: 0.0, replace(SMALL.train, batch=3), checkpoint=checkpoint)


def test_non_finite_gradient_stops_the_run(pool):
    with pytest.raises(RuntimeError, match="non-finite"):
        fit(networks()["cnn"], pool, lambda n, b, g: n(b.base).sum() * float("nan"), lambda network: 0.0, SMALL.train)


@pytest.fixture(scope="module")
def trained(source, tmp_path_factory):
    folder = tmp_path_factory.mktemp("weights")
    return folder, train(SMALL, [source], folder, kernel_steps=3, cnn_steps=4)


def test_train_writes_weights_and_card(trained):
    folder, card = trained
    assert sorted(path.name for path in folder.glob("*.*")) == [
        "card.json", "cnn.safetensors", "denoiser.safetensors", "kernel.safetensors",
    ]  # fmt: skip
    assert [card["steps"][part] for part in ("kernel", "cnn", "denoiser")] == [3, 4, 6]
    assert list(card["metrics"]["cnn"]) == ["parameters", "best_validation_psnr_db", "validation_psnr_db"]
    assert card["seed"] == 0 and card["data"][0]["scene"] == "synthetic" and card["versions"]["torch"] == torch.__version__


def test_trained_parts_are_not_trained_again(trained, source, monkeypatch):
    folder, card = trained
    monkeypatch.setattr(training, "fit", lambda *a, **k: pytest.fail("trained again"))
    monkeypatch.setattr(training, "train_kernel", lambda *a, **k: pytest.fail("trained again"))
    assert train(SMALL, [source], folder, kernel_steps=3, cnn_steps=4) == card


def test_weights_of_another_preset_are_refused(trained):
    with pytest.raises(ValueError, match=r"`path` must be weights with `.*` of shape"):
        load_model("tiny", folder=trained[0])


def test_unknown_part(source, tmp_path):
    with pytest.raises(ValueError, match="`parts` must be one of 'kernel', 'cnn', 'denoiser', got 'gan'"):
        train(SMALL, [source], tmp_path / "none", parts=["gan"])
    assert not (tmp_path / "none").exists()


def test_embedded_training_never_sees_the_test_area(monkeypatch):
    """With the test areas of both scenes overwritten, the pool stays the same to the last bit."""
    preset = replace(TINY, match=replace(TINY.match, stride=8))

    def small_pool():
        sources = embedded_sources(preset)
        narrow = [replace(s, train=replace(s.train, height=40, width=40), references=s.references[:1]) for s in sources]
        return build_pool(narrow, preset, lambda x: x, stride=40), sources

    before, sources = small_pool()
    real = training.load_scene

    def spoiled(name):
        scene = real(name)
        area = split_areas(*(side // 4 * 4 for side in scene.cube.shape[:2]), scale=4, halo=4)["test"]
        cube = scene.cube.copy()
        cube[area.slices] = 1 - cube[area.slices]
        return replace(scene, cube=cube)

    monkeypatch.setattr(training, "load_scene", spoiled)
    after, spoiled_sources = small_pool()
    for field in ("base", "target", "texture", "weight"):
        assert torch.equal(getattr(before, field), getattr(after, field)), field
    for one, other in zip(sources, spoiled_sources):
        assert all(torch.equal(a, b) for a, b in zip(one.references, other.references))
        for area in ("train", "validation"):
            a, b = (s.scene.cut(getattr(s, area)) for s in (one, other))
            assert torch.equal(a.gt, b.gt) and torch.equal(a.lr_hsi, b.lr_hsi)


def test_a_trained_model_runs(trained, source):
    """The networks of the small preset, put together by hand, super-resolve an image of the scene."""
    folder, card = trained
    loaded = {
        part: load_module(network, folder / f"{part}.safetensors", part=part, preset="tiny").eval()
        for part, network in networks().items()
    }
    area = source.scene.cut(source.validation)
    pred = super_resolve(Model(SMALL, **loaded, card=card), area.lr_hsi, source.references[0], srf=source.srf)
    assert pred.shape == area.gt.shape and pred.isfinite().all()
