"""Shipped scenes, scenes of yours and trees as sources: what is learned from, what judges, and every complaint."""

from dataclasses import replace

import numpy as np
import pytest
import scipy.io
import torch

from ctmem.data.areas import crops, split_areas
from ctmem.data.mat_tree import write_mat_tree
from ctmem.data.samples import UnpairedPatches, degrade_scene
from ctmem.data.scenes import load_scene, synthetic
from ctmem.observe.camera import Camera
from ctmem.observe.kernel import PsfKernel
from ctmem.observe.responses import srf_matrix
from ctmem.train.pool import build_pool
from ctmem.train.sources import embedded_sources, own_sources, read_response, scene_sources
from ctmem.train.stages import train_kernel_on, validation_score
from tests.small_training import SMALL

SCENE = synthetic(0, height=96, width=128, bands=31)
SRF = srf_matrix(SCENE.wavelengths_nm)
THREE = ("B02", "B03", "B04")
CAMERA = Camera.from_config(SMALL.camera)
TOLD = replace(CAMERA, srf=SRF)


@pytest.fixture
def scene_file(tmp_path):
    np.save(tmp_path / "field.npy", SCENE.cube)
    np.savetxt(tmp_path / "field.txt", SCENE.wavelengths_nm)
    return tmp_path / "field.npy"


def write_tree(root, split, count):
    """A tree of `count` samples of 16×16 px with references of 24×16 px."""
    degraded = degrade_scene(SCENE.tensor(), TOLD)
    boxes = crops(split_areas(96, 128, CAMERA)["train"], 16, 16)[:count]
    write_mat_tree(root, split, UnpairedPatches(degraded, boxes, [degraded.hr_msi[..., 56:80, 100:116]]))
    np.savetxt(root / "bands.txt", SCENE.wavelengths_nm)
    return root


def test_the_shipped_scenes_are_seen_by_the_camera_that_is_asked_for():
    """Blur, noise and sensor are its own; the Sentinel-2 scene is its own multispectral image."""
    camera = Camera.gaussian(fwhm_px=7.0, scale=4, sensor="landsat8", snr_db=30)
    pines, farmland = embedded_sources(camera)
    assert [pines.name, farmland.name] == ["indian_pines", "sentinel2_farmland"]
    assert torch.equal(pines.scene.camera.srf, camera.for_wavelengths(load_scene("indian_pines").wavelengths_nm).srf)
    assert torch.equal(farmland.scene.camera.srf, torch.eye(4)) and torch.equal(
        farmland.scene.hr_msi, farmland.scene.gt
    )
    for source in (pines, farmland):
        assert source.scene.camera.differences(camera) == []
        signal = replace(source.scene, lr_hsi=camera.downsample(source.scene.gt))
        for box in (source.train, source.validation):  # each area has a noise of its own
            clean, noisy = (whole.cut(box).lr_hsi for whole in (signal, source.scene))
            ratio_db = 10 * torch.log10(clean.square().mean((2, 3)) / (noisy - clean).square().mean((2, 3)))
            assert ratio_db.mean() == pytest.approx(30, abs=0.2)
    assert torch.equal(pines.references[0], farmland.references[1]) and len(pines.references) == 2


def test_the_shipped_scenes_want_four_multispectral_bands():
    with pytest.raises(
        ValueError, match="`camera` must be one of 4 multispectral bands, as the Sentinel-2 scene, got 2"
    ):
        embedded_sources(Camera.gaussian(scale=4, bands=("B02", "B03")))


def test_noise_is_the_same_every_time():
    camera = replace(TOLD, snr_db=25)
    one, other = (scene_sources({"a": (SCENE, camera)})[0].scene.lr_hsi for _ in range(2))
    assert torch.equal(one, other)
    assert not torch.equal(one, scene_sources({"a": (SCENE, TOLD)})[0].scene.lr_hsi)


def test_areas_and_references_are_those_of_the_camera():
    wide = replace(TOLD, psf=Camera.gaussian(fwhm_px=8.0, scale=4).psf)
    (source,) = scene_sources({"a": (SCENE, wide)})
    areas = split_areas(96, 128, wide)
    assert (
        (source.train, source.validation)
        == (areas["train"], areas["validation"])
        != tuple(split_areas(96, 128, CAMERA)[name] for name in ("train", "validation"))
    )
    assert torch.equal(source.references[0], source.scene.cut(areas["reference"]).hr_msi)


def test_a_scene_is_divided_and_its_test_area_left_alone(scene_file):
    (source,) = own_sources([scene_file], CAMERA)
    areas = split_areas(96, 128, CAMERA)
    assert (source.name, source.train, source.validation) == (str(scene_file), areas["train"], areas["validation"])
    assert torch.equal(source.scene.camera.srf, SRF) and source.scene.gt.shape == (1, 31, 96, 128)
    side = areas["reference"]
    assert [tuple(reference.shape) for reference in source.references] == [(1, 4, side.height, side.width)]


def test_one_of_two_arrays_is_named_behind_a_colon(scene_file):
    path = scene_file.with_suffix(".mat")
    scipy.io.savemat(path, {"HSI": SCENE.cube, "MSI": SCENE.cube[..., :4]})
    with pytest.raises(
        ValueError, match=r"`key` must be given unless .* holds 'HSI' \(96, 128, 31\), 'MSI' \(96, 128, 4\)"
    ):
        own_sources([path], CAMERA)
    (source,) = own_sources([f"{path}:HSI"], CAMERA)
    (expected,) = own_sources([scene_file], CAMERA)
    assert source.name == f"{path}:HSI" and torch.equal(source.scene.gt, expected.scene.gt)


def test_a_scene_stored_with_its_bands_first_is_turned_by_its_bands_file(scene_file):
    (expected,) = own_sources([scene_file], CAMERA)
    np.save(scene_file, np.moveaxis(SCENE.cube, 2, 0))
    with pytest.warns(RuntimeWarning, match="is read as CHW"):
        (source,) = own_sources([scene_file], CAMERA)
    assert torch.equal(source.scene.gt, expected.scene.gt)


def test_two_scenes_lend_each_other_references(scene_file):
    other = scene_file.with_name("other.npy")
    np.save(other, SCENE.cube[::-1, :, :20])
    np.savetxt(other.with_suffix(".txt"), SCENE.wavelengths_nm[:20])
    with pytest.raises(ValueError, match="B12"):
        own_sources([scene_file, other], replace(CAMERA, bands=(*THREE, "B12")))
    np.savetxt(other.with_suffix(".txt"), SRF[:, :20].numpy())
    one, two = own_sources([scene_file, other], CAMERA)
    assert torch.equal(one.references[0], two.references[1]) and torch.equal(two.references[0], one.references[1])
    assert two.scene.camera.srf.sum(1).allclose(torch.ones(4)) and two.scene.gt.shape[1] == 20


def test_a_tree_holds_every_tenth_sample_out(tmp_path):
    sources = own_sources([write_tree(tmp_path / "data", "train", 12)], CAMERA)
    assert [source.train is None for source in sources] == [False] * 10 + [True] * 2
    assert all((source.train is None) != (source.validation is None) for source in sources)
    degraded = degrade_scene(SCENE.tensor(), TOLD)
    boxes = crops(split_areas(96, 128, CAMERA)["train"], 16, 16)
    assert torch.equal(sources[-1].scene.gt, degraded.cut(boxes[10]).gt)
    assert sources[0].scene.hr_msi.allclose(degraded.cut(boxes[1]).hr_msi)


def test_a_tree_is_learned_from(tmp_path):
    """With a validation folder every training sample is in the pool, and nothing of validation."""
    root = write_tree(tmp_path / "data", "train", 3)
    write_tree(root, "validation", 2)
    sources = own_sources([root], CAMERA)
    assert [source.train is None for source in sources] == [False] * 3 + [True] * 2
    assert len(build_pool(sources, SMALL, lambda x: x)) == 3
    score = validation_score(sources, SMALL, lambda x: x, lambda network, encoded: encoded.base)
    assert 10 < score(torch.nn.Linear(1, 1)) < 60
    history = train_kernel_on(sources, PsfKernel(4), steps=25, generator=torch.Generator().manual_seed(0))
    assert history["validation"][1][1] < history["validation"][0][1] / 2


def test_bands_file(tmp_path, scene_file):
    path = scene_file.with_suffix(".txt")
    assert torch.equal(read_response(path, 31, CAMERA).srf, SRF)
    np.savetxt(path, 3 * SRF.numpy(), delimiter=",")
    assert read_response(path, 31, CAMERA).srf.allclose(SRF, atol=1e-6)
    assert read_response(path, 31, replace(CAMERA, snr_db=30)).snr_db == 30
    np.savetxt(path, np.ones(7))
    with pytest.raises(
        ValueError, match=r"`path` must be 31 centres in nm, or 4 rows of 31 numbers, got \(7,\) in fie"
    ):
        own_sources([scene_file], CAMERA)
    path.write_text("blue green red", encoding="utf-8")
    with pytest.raises(ValueError, match="`path` must be a text file of numbers, got field.txt"):
        own_sources([scene_file], CAMERA)
    path.unlink()
    with pytest.raises(
        FileNotFoundError, match="`path` must be a text file with the bands' centres in nm, got field.t"
    ):
        own_sources([scene_file], CAMERA)
    with pytest.raises(FileNotFoundError, match="`path` must be an existing file, got none.mat"):
        own_sources([tmp_path / "none.mat"], CAMERA)


def test_trees_that_do_not_fit(tmp_path):
    root = write_tree(tmp_path / "data", "train", 2)
    with pytest.raises(ValueError, match="`root` must be a tree of scale 2, as the preset, got scale 4 in data/0"):
        own_sources([root], Camera.gaussian(scale=2))
    with pytest.raises(ValueError, match="`root` must be a tree of 31 and 3 bands, .*, got 31 and 4 in data/0"):
        own_sources([root], replace(CAMERA, bands=THREE))
    alone = write_tree(tmp_path / "alone", "train", 1)
    with pytest.raises(ValueError, match="`root` must be a tree of at least two samples, or with a validation folder"):
        own_sources([alone], CAMERA)
    sample = {"gt": torch.full((31, 16, 16), 1.5), "lr_hsi": torch.ones(31, 4, 4), "ref_msi": torch.ones(4, 16, 16)}
    write_mat_tree(tmp_path / "bright", "train", [sample, sample])
    np.savetxt(tmp_path / "bright" / "bands.txt", SCENE.wavelengths_nm)
    with pytest.raises(ValueError, match=r"`root` must be a tree of values in \[0, 1\], got 1 to 1.5 in bright/0"):
        own_sources([tmp_path / "bright"], CAMERA)
