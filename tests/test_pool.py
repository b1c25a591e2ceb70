"""The pool of crops: complete, augmented alike, and blind to the test areas."""

import csv
import math
from dataclasses import replace

import pytest
import torch

from ctmem.config import TINY, CameraConfig
from ctmem.data import scenes
from ctmem.data.areas import Box, crops, split_areas
from ctmem.data.samples import degrade_scene
from ctmem.diffusion.encoding import encode_image
from ctmem.match.dmb import dmb
from ctmem.match.patches import turned
from ctmem.observe.camera import Camera
from ctmem.train.pool import Pool, build_pool, check_sources, draw_batch, whole_crops
from ctmem.train.sources import Source, embedded_sources, scene_sources
from ctmem.train.stages import train
from tests.small_training import SMALL, small_source


@pytest.fixture(scope="module")
def source():
    return small_source()


@pytest.fixture(scope="module")
def pool(source):
    return build_pool([source], SMALL, lambda x: x)


def test_pool_holds_every_crop_once_per_reference(source, pool):
    boxes = crops(Box(0, 0, source.train.height, source.train.width), 16, 8)
    assert len(pool) == 2 * len(boxes)
    assert pool.base.shape[1:] == (4, 16, 16) and pool.texture.shape[1:] == (16, 16, 16)
    assert not torch.equal(pool.texture[0], pool.texture[len(boxes)])  # the second reference is another one


@pytest.mark.parametrize("scale", [3, 5])
def test_crops_are_whole_coarse_pixels_at_any_scale(scale):
    """A crop of 32 px is one of 30 at ×3 and ×5."""
    preset = replace(
        SMALL, crop=32, camera=CameraConfig(scale=scale), match=replace(SMALL.match, stride=8, turns=False)
    )
    pool = build_pool([small_source(scale)], preset, lambda x: x)
    assert pool.base.shape[2:] == pool.target.shape[2:] == pool.texture.shape[2:] == (30, 30)
    assert float((pool.base - pool.target).abs().mean()) < float(pool.target.abs().mean())  # of the same places


def test_what_no_crop_can_be_cut_from_says_how_to_get_on(source):
    side = min(source.train.height, source.train.width)
    expected = rf"`crop` must be at most {side} px, .* area of 'synthetic' \(train with `--crop {side}`, .*, got 160"
    with pytest.raises(ValueError, match=expected):
        build_pool([source], replace(SMALL, crop=160), lambda x: x)
    check_sources([source], replace(SMALL, crop=side))
    with pytest.raises(ValueError, match="`crop` must be at least 8 px, a patch and a coarse pixel, got 4"):
        check_sources([source], replace(SMALL, crop=4))


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


def test_every_sample_is_one_crop_turned_with_the_signs_and_gain_of_all_its_parts():
    """Crops whose other parts are multiples of the base; what is drawn is found again in the pool, part by part."""
    n, k = 5, 3
    base = torch.randn(n, k, 4, 4, generator=torch.Generator().manual_seed(1))
    texture = torch.cat([3 * base, 4 * base, 5 * base.abs(), 6 * base], 1)
    whole = Pool(base, 2 * base, texture, torch.arange(1.0, n + 1).reshape(n, 1, 1, 1).expand(n, k, 1, 1))
    config = replace(SMALL.train, batch=600, drop_reference=0.25)
    batch = draw_batch(whole, config, torch.Generator().manual_seed(0))
    soft, hard, gradient, difference = batch.texture.chunk(4, 1)
    kept = batch.texture.flatten(1).any(1)
    assert int(kept.sum()) == pytest.approx(450, abs=50)  # 4.7 standard deviations
    torch.testing.assert_close(batch.target, 2 * batch.base)
    for part, wanted in ((soft, 3 * batch.base), (hard, 4 * batch.base), (gradient, 5 * batch.base.abs()),
                         (difference, 6 * batch.base)):  # fmt: skip
        torch.testing.assert_close(part[kept], wanted[kept])
    # the crop is the one that the weight names; its turn, signs and gain are those that fit
    picked, turns, signs, gains = batch.weight[:, 0, 0, 0].long() - 1, [], [], []
    for sample, number in zip(batch.base, picked.tolist()):
        fits = []
        for turn in range(8):
            ratio = sample / turned(base[number], turn)
            if float((ratio - ratio[:, :1, :1]).abs().max()) < 1e-3:
                fits.append((turn, ratio[:, 0, 0]))
        assert len(fits) == 1
        turns.append(fits[0][0])
        gains.append(fits[0][1].abs())
        signs.append(fits[0][1].sign())
    gains, signs = torch.stack(gains), torch.stack(signs)
    assert set(picked.tolist()) == set(range(n)) and set(turns) == set(range(8))
    torch.testing.assert_close(gains, gains[:, :1].expand(-1, k), rtol=1e-4, atol=0)
    log = gains[:, 0].log()
    low, high = math.log(0.6), math.log(1.2)
    assert low - 1e-4 <= float(log.min()) < low + 0.01 and high - 0.01 < float(log.max()) <= high + 1e-4
    assert float(log.mean()) == pytest.approx((low + high) / 2, abs=0.04)  # uniform: 0.2 / √600 is 0.008
    assert len(set(map(tuple, signs.tolist()))) == 2**k  # each channel's sign is its own


def test_bands_are_turned_and_nothing_else():
    """A texture of fewer bands than the base: no sign and no gain, for both would mean something."""
    base = torch.rand(4, 5, 4, 4, generator=torch.Generator().manual_seed(1))
    whole = Pool(base, 2 * base, base[:, :4] + 1, torch.ones(4, 5, 1, 1))
    batch = draw_batch(whole, replace(SMALL.train, batch=64, drop_reference=0.5), torch.Generator().manual_seed(0))
    kept = batch.texture.flatten(1).any(1)
    assert 16 < int(kept.sum()) < 48
    torch.testing.assert_close(batch.texture[kept], batch.base[kept][:, :4] + 1)
    torch.testing.assert_close(batch.target, 2 * batch.base)
    for sample in batch.base:
        assert any(torch.equal(sample, turned(crop, turn)) for crop in base for turn in range(8))


def test_a_crop_of_the_pool_is_what_encoding_makes_of_it_alone(source, pool):
    """The subspace of a crop is fitted to its own coarse pixels; its texture is cut from that of the whole area."""
    area = source.scene.cut(source.train)
    boxes = crops(Box(0, 0, *area.gt.shape[2:]), 16, 8)
    number, box = 3, boxes[3]
    coarse = (..., slice(box.top // 4, box.top // 4 + 4), slice(box.left // 4, box.left // 4 + 4))
    fine = (..., slice(box.top, box.top + 16), slice(box.left, box.left + 16))
    for which, reference in enumerate(source.references):
        texture, _ = dmb(area.lr_hsi_up, reference, area.camera, SMALL.match, blur=lambda x: x)
        alone = encode_image(area.lr_hsi[coarse], area.lr_hsi_up[fine], texture[fine], area.camera, SMALL.denoiser)
        place = which * len(boxes) + number
        torch.testing.assert_close(pool.base[place], alone.base[0])
        torch.testing.assert_close(pool.target[place], alone.encode(area.gt[fine])[0])
        torch.testing.assert_close(pool.texture[place], alone.texture[0])
        torch.testing.assert_close(pool.weight[place], alone.weight[0])


CAMERAS = [
    Camera.gaussian(scale=4),
    Camera.gaussian(scale=8),
    Camera.gaussian(fwhm_px=10.0, scale=4),
    Camera.gaussian(scale=4, snr_db=25),
]


@pytest.mark.parametrize("camera", CAMERAS, ids=["usual", "scale 8", "wide blur", "noise"])
def test_embedded_training_never_sees_the_test_area(monkeypatch, camera):
    """With the test areas of both scenes overwritten, the pool stays the same to the last bit."""
    scale = camera.scale
    preset = replace(TINY, camera=CameraConfig(scale=scale), match=replace(TINY.match, stride=8))

    def small_pool():
        sources = embedded_sources(camera)
        narrow = [replace(s, train=replace(s.train, height=40, width=40), references=s.references[:1]) for s in sources]
        return build_pool(narrow, preset, lambda x: x, stride=40), sources

    before, sources = small_pool()
    real = scenes.load_scene

    def spoiled(name):
        scene = real(name)
        area = split_areas(*(side // scale * scale for side in scene.cube.shape[:2]), camera)["test"]
        cube = scene.cube.copy()
        cube[area.slices] = 1 - cube[area.slices]
        return replace(scene, cube=cube)

    monkeypatch.setattr("ctmem.train.sources.load_scene", spoiled)
    after, spoiled_sources = small_pool()
    for field in ("base", "target", "texture", "weight"):
        assert torch.equal(getattr(before, field), getattr(after, field)), field
    for one, other in zip(sources, spoiled_sources):
        assert all(torch.equal(a, b) for a, b in zip(one.references, other.references))
        for area in ("train", "validation"):
            a, b = (s.scene.cut(getattr(s, area)) for s in (one, other))
            assert torch.equal(a.gt, b.gt) and torch.equal(a.lr_hsi, b.lr_hsi)


@pytest.mark.parametrize(("camera", "reach"), [(CAMERAS[0], 4), (CAMERAS[1], 8), (CAMERAS[2], 13)])
def test_areas_keep_the_blurs_reach_apart_for_any_camera(camera, reach):
    """The PSF reaches so many pixels beyond an LR pixel: two areas' halos must not touch either."""
    assert camera.halo == reach
    for source in embedded_sources(camera):
        assert source.validation.top - (source.train.top + source.train.height) >= 2 * reach


# --- holes ---


def holed_source(scale: int = 4) -> Source:
    """The small source with a hole of 9×12 px in its training area."""
    source = small_source(scale)
    scene = source.scene.gt.clone()
    top, left = source.train.top + 20, source.train.left + 24
    scene[:, 3, top : top + 9, left : left + 12] = torch.nan
    return replace(source, scene=degrade_scene(scene, source.scene.camera))


def test_crops_with_holes_are_left_out():
    source = holed_source()
    area = source.scene.cut(source.train)
    boxes = whole_crops(area, 16, 8)
    everywhere = crops(Box(0, 0, *area.gt.shape[2:]), 16, 8)
    assert 0 < len(boxes) < len(everywhere)
    assert [box for box in everywhere if not area.holes[..., *box.slices].any()] == boxes
    pool = build_pool([source], SMALL, lambda x: x)
    assert len(pool) == 2 * len(boxes)
    assert all(bool(x.isfinite().all()) for x in (pool.base, pool.target, pool.texture, pool.weight))


def test_far_crops_are_those_of_the_whole_scene_but_for_global_levels():
    """Base and target do not depend on the area around a crop: they are the same, bit for bit."""
    holed, whole = (build_pool([source], SMALL, lambda x: x) for source in (holed_source(), small_source()))
    area = holed_source().scene.cut(holed_source().train)
    everywhere = crops(Box(0, 0, *area.gt.shape[2:]), 16, 8)
    last = len(everywhere) - 1
    assert not area.holes[..., *everywhere[last].slices].any()
    kept = len(holed) // 2 - 1
    assert torch.equal(holed.target[kept], whole.target[last])


def test_a_training_area_in_which_every_crop_has_a_hole():
    source = small_source()
    scene = source.scene.gt.clone()
    scene[..., ::12, ::12] = torch.nan
    camera = replace(source.scene.camera, psf=torch.full((4, 4), 1 / 16))
    with pytest.raises(
        ValueError, match="`crop` must be so small that some of the training area of 'synthetic' have no"
    ):
        check_sources([replace(source, scene=degrade_scene(scene, camera))], SMALL)


def test_an_area_of_holes_only_is_said():
    scene = scenes.synthetic(0, height=96, width=128, bands=31)
    cube = scene.cube.copy()
    camera = Camera.from_config(SMALL.camera).for_wavelengths(scene.wavelengths_nm)
    box = split_areas(96, 128, camera)["reference"]
    cube[*box.slices] = float("nan")
    spoiled = replace(scene, cube=cube)
    with pytest.raises(ValueError, match="`scenes` must be with data in the reference area of 'a', got holes only"):
        scene_sources({"a": (spoiled, camera)})


def test_a_scene_with_holes_is_trained_on(tmp_path):
    """The first stage, too, sees crops without holes only, and the score of a holed validation area is a number."""
    source = holed_source()
    spoiled = source.scene.gt.clone()
    top, left = source.validation.top, source.validation.left
    spoiled[..., top : top + 5, left : left + 6] = torch.nan
    source = replace(source, scene=degrade_scene(spoiled, source.scene.camera))
    train(replace(SMALL, cnn_steps=2, kernel_steps=2), [source], tmp_path, parts=["kernel", "cnn"])
    rows = list(csv.reader((tmp_path / "log_cnn.csv").open(encoding="utf-8")))
    assert len(rows) > 1 and all(math.isfinite(float(value)) for value in rows[-1] if value)
