"""Training at a size of seconds: learns, resumes bit for bit, keeps the best weights."""

import itertools
from dataclasses import replace
from importlib.metadata import version

import pytest
import torch

from ctmem.files import load_module
from ctmem.inference import super_resolve
from ctmem.model import Model, build_networks, load_model
from ctmem.networks.kernel_net import KernelNet
from ctmem.observe.camera import Camera
from ctmem.observe.kernel import PsfKernel
from ctmem.train import stages
from ctmem.train.loop import fit
from ctmem.train.pool import Pool, build_pool
from ctmem.train.stages import cnn_loss, denoiser_loss, train
from tests.small_training import SMALL, small_source


@pytest.fixture(scope="module")
def source():
    return small_source()


@pytest.fixture(scope="module")
def pool(source):
    return build_pool([source], SMALL, lambda x: x)


def networks():
    torch.manual_seed(0)
    return build_networks(SMALL)


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


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_the_share_of_self_conditioning_is_the_presets(pool, share, monkeypatch):
    """Each step calls the denoiser once, or once more for its own estimate."""
    denoiser, calls = networks()["denoiser"], []
    real = denoiser.denoise
    monkeypatch.setattr(denoiser, "denoise", lambda *arguments: (calls.append(0), real(*arguments))[1])
    loss = denoiser_loss(replace(SMALL, train=replace(SMALL.train, self_condition=share)))
    for seed in range(4):
        loss(denoiser, pool, torch.Generator().manual_seed(seed))
    assert len(calls) == 4 * (1 + share)


def test_the_loss_of_the_cnn_by_hand():
    """|1 + 2 − 0| · 0.5 and |1 + 2 − 5| · 2, their mean."""
    batch = Pool(
        torch.ones(1, 2, 3, 3), torch.tensor([0.0, 5.0]).reshape(1, 2, 1, 1).expand(1, 2, 3, 3), torch.zeros(1, 8, 3, 3),
        torch.tensor([0.5, 2.0]).reshape(1, 2, 1, 1),
    )  # fmt: skip
    assert float(cnn_loss(lambda base: base + 2, batch, torch.Generator())) == pytest.approx((1.5 + 4.0) / 2)


def test_the_kernel_learns_on_training_areas_and_is_chosen_on_validation_areas(source, monkeypatch):
    """What the multispectral sensor sees of each, sharp, and of the coarse image enlarged."""
    handed = {}
    monkeypatch.setattr(stages, "train_kernel", lambda kernel, sharp, blurry, **o: handed.update(o, s=sharp, b=blurry))
    stages.train_kernel_on([source], PsfKernel(4), steps=1, generator=torch.Generator().manual_seed(0))
    for box, sharp, blurry in ((source.train, "s", "b"), (source.validation, "val_sharp", "val_blurry")):
        area = source.scene.cut(box)
        assert [torch.equal(one, area.hr_msi) for one in handed[sharp]] == [True]
        assert [torch.equal(one, area.camera.see(area.lr_hsi_up)) for one in handed[blurry]] == [True]


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
    with pytest.raises(
        ValueError, match="a checkpoint of the same run, or none, got state.safetensors, with batch 2 in"
    ):
        fit(
            networks()["cnn"], pool, cnn_loss, lambda network: 0.0, replace(SMALL.train, batch=3), checkpoint=checkpoint
        )


def test_non_finite_gradient_stops_the_run(pool):
    with pytest.raises(RuntimeError, match="non-finite"):
        fit(networks()["cnn"], pool, lambda n, b, g: n(b.base).sum() * float("nan"), lambda network: 0.0, SMALL.train)


@pytest.fixture(scope="module")
def trained(source, tmp_path_factory):
    folder = tmp_path_factory.mktemp("weights")
    return folder, train(SMALL, [source], folder)


def test_train_writes_weights_and_card(trained):
    folder, card = trained
    assert sorted(path.name for path in folder.glob("*.*")) == [
        "card.json", "cnn.safetensors", "denoiser.safetensors", "kernel.safetensors", "log_cnn.csv", "log_denoiser.csv",
    ]  # fmt: skip
    assert [card["steps"][part] for part in ("kernel", "cnn", "denoiser")] == [3, 4, 6]
    assert list(card["metrics"]["cnn"]) == ["parameters", "best_validation_psnr_db", "validation_psnr_db"]
    assert (
        card["seed"] == 0 and card["data"][0]["scene"] == "synthetic" and card["versions"]["torch"] == version("torch")
    )


def test_trained_parts_are_not_trained_again(trained, source, monkeypatch):
    folder, card = trained
    monkeypatch.setattr("ctmem.train.stages.fit", lambda *a, **k: pytest.fail("trained again"))
    monkeypatch.setattr("ctmem.train.stages.train_kernel", lambda *a, **k: pytest.fail("trained again"))
    assert train(SMALL, [source], folder) == card


@pytest.mark.parametrize(("network", "kind"), [(False, PsfKernel), (True, KernelNet)])
def test_the_kernel_is_of_the_kind_that_the_preset_says(network, kind, source, tmp_path):
    preset = replace(SMALL, kernel_network=network)
    card = train(preset, [source], tmp_path, parts=["kernel"])
    kernel = build_networks(preset)["kernel"]
    load_module(kernel, tmp_path / "kernel.safetensors", part="kernel", preset="tiny")
    assert type(kernel) is kind
    assert len(card["metrics"]["kernel"]["validation_l1"]) == 2
    assert card["preset"]["kernel_network"] is network


def test_a_variant_of_a_preset_loads_by_its_card(trained):
    model = load_model("tiny", folder=trained[0])
    assert model.preset == SMALL and model.card["steps"] == trained[1]["steps"]
    with pytest.raises(
        ValueError, match="`name` must be that of the weights in `folder`, 'tiny', or None, got 'small'"
    ):
        load_model("small", folder=trained[0])


def test_a_folder_of_other_networks_is_refused(trained, source):
    wider = replace(SMALL, cnn_width=16)
    with pytest.raises(ValueError, match="`folder` must be a new one, or one of a run with the same networks, got"):
        train(wider, [source], trained[0])
    same_networks = replace(SMALL, train=replace(SMALL.train, batch=4))
    with pytest.warns(
        RuntimeWarning, match="cnn in .* stays as it is: it was trained with batch 2 instead of 4, micro"
    ):
        assert train(same_networks, [source], trained[0])["metrics"] == trained[1]["metrics"]


def test_a_folder_of_another_camera_is_refused(trained, source):
    """Weights for another blur are other weights, whatever the networks' sizes."""
    for change in ({"fwhm_px": 6.0}, {"snr_db": 30}, {"sensor": "landsat8"}):
        other = replace(SMALL, camera=replace(SMALL.camera, **change))
        with pytest.raises(ValueError, match="`folder` must be a new one, or one of a run with the same networks, got"):
            train(other, [source], trained[0])


def test_the_card_has_the_camera_that_was_trained_for(trained):
    camera = Camera.from_config(SMALL.camera)
    assert trained[1]["camera"] == camera.to_dict()
    assert load_model("tiny", folder=trained[0]).camera.to_dict() == camera.to_dict()


def test_unknown_part(source, tmp_path):
    with pytest.raises(ValueError, match="`parts` must be one of 'kernel', 'cnn', 'denoiser', got 'gan'"):
        train(SMALL, [source], tmp_path / "none", parts=["gan"])
    with pytest.raises(ValueError, match="`parts` must be at least one of kernel, cnn, denoiser, got none"):
        train(SMALL, [source], tmp_path / "none", parts=[])
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("area", ["train", "validation"])
def test_sources_without_an_area(area, source, tmp_path):
    with pytest.raises(ValueError, match=f"`sources` must be at least one with a {area} area, got none"):
        train(SMALL, [replace(source, **{area: None})], tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_a_trained_model_runs(trained, source):
    """The networks of the small preset, put together by hand, super-resolve an image of the scene."""
    folder, card = trained
    loaded = {
        part: load_module(network, folder / f"{part}.safetensors", part=part, preset="tiny").eval()
        for part, network in networks().items()
    }
    area = source.scene.cut(source.validation)
    pred = super_resolve(Model(SMALL, **loaded, card=card), area.lr_hsi, source.references[0], camera=area.camera)
    assert pred.shape == area.gt.shape and pred.isfinite().all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"sources": small_source()}, "`sources` must be a list of"),
        ({"parts": "cnn"}, "`parts` must be a list of names, got 'cnn'"),
        ({"preset": "tiny"}, "`preset` must be a `Preset`, got str"),
    ],
)
def test_arguments_of_another_kind_are_refused_before_anything_is_written(tmp_path, arguments, message):
    with pytest.raises(TypeError, match=message):
        train(**({"preset": SMALL, "sources": [small_source()], "folder": tmp_path / "run"} | arguments))
    assert not (tmp_path / "run").exists()
