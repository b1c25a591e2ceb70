"""Presets are frozen, complete and plain; unknown keys are errors."""

from __future__ import annotations

import dataclasses
import json

import pytest

from ctmem import config
from ctmem.config import PAPER, SMALL, TINY, CameraConfig, DenoiserConfig, MatchConfig, Preset, TrainConfig
from ctmem.networks.variants import PRESETS, VARIANTS, as_drawn, as_released, corrected

SIZES = (TINY, SMALL, PAPER)


def test_presets_go_by_their_names():
    sizes = ("tiny", "small", "paper")
    names = [*sizes, *(f"{size}-as-{how}" for how in ("drawn", "released") for size in sizes)]
    assert {name: preset.name for name, preset in PRESETS.items()} == {name: name for name in names}
    assert [PRESETS[size] for size in sizes] == list(SIZES)


@pytest.mark.parametrize("preset", SIZES, ids=lambda preset: preset.name)
def test_corrected_undoes_the_other_wirings(preset):
    for variant in VARIANTS.values():
        assert corrected(variant(preset)) == preset
        assert variant(variant(preset)) == variant(preset)
    assert as_drawn(as_released(preset)) == as_drawn(preset)


@pytest.mark.parametrize("preset", SIZES, ids=lambda preset: preset.name)
def test_wirings_share_their_size_and_differ_where_the_table_says(preset):
    drawn, released = as_drawn(preset), as_released(preset)
    for variant in (drawn, released):
        for name in ("width", "residual_blocks", "cim_blocks", "te_blocks", "state", "heads"):
            assert getattr(variant.denoiser, name) == getattr(preset.denoiser, name)
        assert (variant.crop, variant.camera) == (preset.crop, preset.camera)
        for name in ("steps", "batch", "learning_rate", "validate_every", "save_every"):
            assert getattr(variant.train, name) == getattr(preset.train, name)
        train = variant.train
        assert (train.warmup, train.cosine, train.ema, train.clip) == (0, False, 0.0, None)
        assert (train.drop_reference, train.keep_best, variant.consistency) == (0.0, False, False)
        assert variant.denoiser.subspace is None and not variant.denoiser.cross_scan and variant.kernel_network
        match = variant.match
        assert match.patch == match.stride == match.query_stride == preset.match.patch
        assert (match.similarity, match.hard_k, match.temperature, match.sharpening) == ("dot", 1, 1.0, 0)
        assert not (match.turns or match.relevel or match.radiometry)
        assert (variant.sampler, variant.sampling_steps) == ("ddpm", preset.timesteps)
    assert drawn.denoiser.channel_attention and not drawn.denoiser.random_projection
    assert not released.denoiser.channel_attention and released.denoiser.random_projection
    assert (drawn.train.self_condition, released.train.self_condition) == (0.5, 0.0)
    match = dataclasses.replace(released.match, gradient_border=drawn.match.gradient_border)
    same = {"name": drawn.name, "denoiser": drawn.denoiser, "train": drawn.train, "match": match}
    assert dataclasses.replace(released, **same) == drawn


def test_the_size_of_the_paper():
    assert (PAPER.scale, PAPER.crop, PAPER.timesteps) == (4, 160, 2000)
    assert (PAPER.match.patch, PAPER.denoiser.width) == (16, 128)
    assert (PAPER.denoiser.residual_blocks, PAPER.denoiser.cim_blocks, PAPER.denoiser.te_blocks) == (3, 4, 2)
    assert (PAPER.train.batch, PAPER.train.learning_rate) == (4, 1e-5)


def test_presets_grow():
    def size(preset):
        return preset.crop, preset.denoiser.width, preset.train.steps

    assert all(a < b < c for a, b, c in zip(*map(size, (TINY, SMALL, PAPER)), strict=True))
    assert TINY.crop <= 48


@pytest.mark.parametrize("preset", PRESETS.values(), ids=PRESETS)
def test_sizes_fit_together(preset):
    assert preset.crop % preset.scale == 0
    assert preset.crop >= preset.match.patch
    assert preset.denoiser.width % preset.denoiser.heads == 0
    assert 0 <= preset.train.self_condition <= 1
    assert 0 <= preset.train.drop_reference <= 1


@pytest.mark.parametrize("cls", [CameraConfig, MatchConfig, DenoiserConfig, TrainConfig])
def test_frozen_and_strict(cls):
    made = cls()
    name = dataclasses.fields(made)[0].name
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(made, name, 1)
    with pytest.raises(TypeError, match="unknown_key"):
        cls(unknown_key=1)
    with pytest.raises(TypeError, match="unknown_key"):
        dataclasses.replace(made, unknown_key=1)


def test_a_preset_is_frozen_strict_and_hashable():
    with pytest.raises(dataclasses.FrozenInstanceError):
        TINY.crop = 32
    with pytest.raises(TypeError, match="widht"):
        Preset(name="x", widht=3)
    assert len({TINY, SMALL, PAPER, dataclasses.replace(TINY)}) == 3


def test_a_variant_leaves_the_preset_alone():
    crop = TINY.crop
    variant = dataclasses.replace(TINY, crop=crop + 4)
    assert (variant.crop, TINY.crop) == (crop + 4, crop)
    assert variant.denoiser == TINY.denoiser


def test_to_dict_survives_json():
    plain = TINY.to_dict()
    again = json.loads(json.dumps(plain))
    assert again["denoiser"]["width"] == 32
    assert again["match"]["similarity"] == "zncc"
    camera = {"scale": 4, "fwhm_px": None, "sensor": "sentinel2a", "bands": None, "snr_db": None}
    assert again["camera"] == camera
    assert Preset.from_dict(again) == TINY


def test_every_setting_of_a_camera_survives_json():
    camera = CameraConfig(scale=8, fwhm_px=6.5, sensor="landsat8", bands=("B2", "B3"), snr_db=32.5)
    preset = dataclasses.replace(TINY, camera=camera)
    again = Preset.from_dict(json.loads(json.dumps(preset.to_dict())))
    assert again == preset and again.scale == 8
    assert len({again, preset}) == 1  # bands are a tuple again, so that it is hashable


def test_an_older_card_has_the_defaults_of_what_it_does_not_name():
    plain = TINY.to_dict()
    for name in ("schedule", "sampler", "sampling_steps", "kernel_network"):
        del plain[name]
    for name in ("target", "random_projection", "skips", "level_enters", "zero_start"):
        del plain["denoiser"][name]
    for name in ("drop_reference", "cosine", "keep_best"):
        del plain["train"][name]
    del plain["match"]["gradient_border"], plain["consistency"]
    del plain["camera"]["snr_db"]
    assert Preset.from_dict(plain) == TINY
    assert Preset.from_dict({"name": "bare"}) == Preset("bare")
    with pytest.raises(TypeError, match="colour"):
        Preset.from_dict(plain | {"colour": 3})
    with pytest.raises(TypeError, match="widht"):
        Preset.from_dict(plain | {"denoiser": {"widht": 3}})
    with pytest.raises(TypeError, match="fwhm"):
        Preset.from_dict(plain | {"camera": {"fwhm": 3}})


def test_config_needs_no_torch():
    assert not hasattr(config, "torch")
