"""Presets are frozen, complete and plain; unknown keys are errors."""

from __future__ import annotations

import dataclasses
import json

import pytest

from ctmem import config
from ctmem.config import PAPER, PRESETS, SMALL, TINY, DenoiserConfig, MatchConfig, Preset, TrainConfig


def test_presets_go_by_their_names():
    assert {name: preset.name for name, preset in PRESETS.items()} == {n: n for n in ("tiny", "small", "paper")}


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


@pytest.mark.parametrize("cls", [MatchConfig, DenoiserConfig, TrainConfig])
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
    assert again["msi_bands"] == ["B02", "B03", "B04", "B08"]
    rebuilt = Preset(
        **again
        | {
            "msi_bands": tuple(again["msi_bands"]),
            "match": MatchConfig(**again["match"]),
            "denoiser": DenoiserConfig(**again["denoiser"]),
            "train": TrainConfig(**again["train"]),
        }
    )
    assert rebuilt == TINY


def test_config_needs_no_torch():
    assert not hasattr(config, "torch")
