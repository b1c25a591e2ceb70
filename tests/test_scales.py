"""Scales other than 4: the whole way at ×2, ×3, ×5 and ×8, every method by its name, tiles, explorers."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import ctmem
from ctmem.data.areas import Box
from ctmem.data.scenes import synthetic
from ctmem.evaluation.metrics import evaluate
from ctmem.explorers.degradation import DegradationExplorer
from ctmem.explorers.match import MatchExplorer
from ctmem.explorers.recording import record
from ctmem.inference import super_resolve
from ctmem.methods.registry import METHODS, Setting, make_method
from ctmem.model import Model, load_model
from ctmem.train.sources import Source
from ctmem.train.stages import train
from tests.small_training import SMALL, small_source

SCALES = (2, 3, 5, 8)
LINE = re.compile(r"^`[^`]+` must be [^\n]+, got [^\n]+$")  # the one form of a refusal


def seeded() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def answer(method: Callable[..., torch.Tensor], *images: object) -> torch.Tensor | str:
    """What a method returns, or the message of its refusal."""
    try:
        return method(*images)
    except ValueError as error:
        return str(error)


@pytest.fixture(scope="module", params=SCALES)
def trained(request, tmp_path_factory) -> tuple[int, Source, Model, Path]:
    """Weights of a scale, trained for a few steps and read again."""
    scale = request.param
    source, folder = small_source(scale), tmp_path_factory.mktemp(f"x{scale}")
    source = replace(source, references=source.references[:1])
    match = replace(SMALL.match, stride=8, turns=False, top_k=4, hard_k=4, sharpening=0)
    preset = replace(SMALL, camera=replace(SMALL.camera, scale=scale), crop=16, match=match)
    quick = replace(preset.train, steps=2, validate_every=2, save_every=2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        train(replace(preset, train=quick, kernel_steps=2, cnn_steps=2), [source], folder)
    return scale, source, load_model(folder=folder), folder


def test_weights_know_their_scale(trained):
    scale, _, model, _ = trained
    assert model.camera.scale == model.preset.scale == scale
    with pytest.raises(ValueError, match=f"`camera` must be one of scale {scale}, as the weights, got scale 4"):
        super_resolve(model, torch.rand(1, 31, 6, 8), camera=ctmem.Camera.gaussian(scale=4))


def test_answers_have_the_size_of_the_scale_whole_and_in_tiles(trained):
    scale, source, model, _ = trained
    side = 48 // scale * scale
    area = source.scene.cut(Box(0, 0, side, side))
    reference = source.references[0]
    answers = {
        tile: super_resolve(
            model, area.lr_hsi, reference, camera=area.camera, steps=2, tile=tile, consistency=False, generator=seeded()
        )
        for tile in (side, 32)
    }
    for pred in answers.values():
        assert pred.shape == area.gt.shape
    assert float((answers[side] - answers[32]).abs().mean()) < 0.05
    finished = super_resolve(model, area.lr_hsi, reference, camera=area.camera, generator=seeded())
    again = area.camera.downsample(finished)
    assert float((again - area.lr_hsi).norm() / area.lr_hsi.norm()) < 2e-3
    scores = evaluate(finished, area.gt, scale=scale)
    assert scores["psnr_db"] > 20 and scores["ergas"] > 0
    assert scores["ergas"] == pytest.approx(evaluate(finished, area.gt, scale=1)["ergas"] / scale)


def test_every_method_works_at_a_scale_or_says_in_one_line_why_not(trained):
    scale, source, model, _ = trained
    side = 24 // scale * scale
    area = source.scene.cut(Box(0, 0, side, side))
    setting = Setting(
        model, training=[source.scene.cut(Box(0, 0, 48 // scale * scale, 48 // scale * scale))], generator=seeded()
    )
    refused = set()
    for name in METHODS:
        if name in ("dat-light", "odd-one"):  # of another package; of another test
            continue
        found = answer(make_method(name, setting), area.lr_hsi, source.references[0], area.camera)
        if isinstance(found, str):
            assert LINE.match(found) and "scale" in found, (name, found)
            refused.add(name)
        else:
            assert found.shape == area.gt.shape and bool(torch.isfinite(found).all()), name
    refusing = {"fusion", "fusion-tcmm", "fusion-sample"} | ({"prior"} if scale in (5, 8) else set())
    assert refused == refusing & METHODS.keys()


def test_a_recording_and_explorers_follow_the_scale(trained):
    scale, source, model, _ = trained
    side = 24 // scale * scale
    area = source.scene.cut(Box(0, 0, side, side))
    run = record(model, area.lr_hsi, source.references[0], camera=area.camera, steps=2, draws=1, generator=seeded())
    assert run.shape == (side, side, 31)
    nm = synthetic(0).wavelengths_nm
    explorer = MatchExplorer(area.lr_hsi, source.references[0], area.camera, wavelengths_nm=nm)
    assert tuple(explorer.texture.shape[2:]) == (side, side)
    explorer.close()


@pytest.mark.parametrize("scale", SCALES)
def test_the_degradation_explorer_shows_what_the_camera_records(scale):
    scene = synthetic(0, height=24, width=40)
    explorer = DegradationExplorer(scene, scale=scale, fwhm=float(scale))
    x = scene.tensor()[..., : 24 // scale * scale, : 40 // scale * scale]
    wanted = ctmem.Camera.gaussian(float(scale), scale).downsample(x)
    assert explorer.lr_hsi.shape == wanted.shape
    torch.testing.assert_close(explorer.lr_hsi, wanted, atol=1e-5, rtol=1e-5)
    explorer.close()


def test_tiles_below_what_the_network_sees_are_refused_unless_the_image_is_as_small():
    model = load_model("tiny")
    small, large = torch.rand(1, 8, 8, 8, generator=seeded()), torch.rand(1, 8, 9, 8, generator=seeded())
    assert super_resolve(model, small, tile=8, generator=seeded()).shape == (1, 8, 32, 32)
    message = "`tile` must be a whole number ≥ 32 for an image larger than that, got 31"
    for call in (super_resolve, record):
        with pytest.raises(ValueError, match=message):
            call(model, large, tile=31)
    with pytest.raises(ValueError, match="`tile` must be a whole number ≥ 8"):
        super_resolve(model, small, tile=7)


@pytest.mark.parametrize("name", ["small", "paper"])
def test_a_preset_without_shipped_weights_says_which_are(name):
    with pytest.raises(ValueError, match=f"`name` must be 'tiny', whose weights are shipped, .* got '{name}'"):
        load_model(name)
