"""The tree of .mat files: what is written comes back, as the released code names it; every complaint."""

import h5py
import numpy as np
import pytest
import scipy.io
import torch

from ctmem.data.areas import crops, split_areas
from ctmem.data.mat_tree import read_mat_tree, write_mat_tree
from ctmem.data.samples import UnpairedPatches, degrade_scene
from ctmem.data.scenes import synthetic
from ctmem.observe.camera import Camera


def samples(count=3):
    """Samples that differ in every size and in every value."""
    generator = torch.Generator().manual_seed(7)
    return [
        {
            "gt": torch.rand(7, 12, 20, generator=generator),
            "lr_hsi": torch.rand(7, 3, 5, generator=generator),
            "ref_msi": torch.rand(2, 9, 14, generator=generator),
        }
        for _ in range(count)
    ]


def write_variables(path, **variables):
    scipy.io.savemat(path, variables)


def test_tree_round_trip_in_numeric_order(tmp_path):
    written = samples(11)
    write_mat_tree(tmp_path / "set", "train", written)
    assert sorted(p.name for p in (tmp_path / "set/train").iterdir()) == ["gtHS", "hrMS", "lrHS"]
    assert (tmp_path / "set/train/gtHS/11.mat").is_file()
    tree = read_mat_tree(tmp_path / "set", "train")
    assert len(tree) == 11
    for sample, expected in zip(tree, written, strict=True):  # by name, 10.mat would come before 2.mat
        assert sample.keys() == expected.keys()
        assert all(torch.equal(sample[role], expected[role]) for role in expected)


def test_tree_holds_the_released_keys_and_axes(tmp_path):
    (sample,) = written = samples(1)
    write_mat_tree(tmp_path, "test", written)
    for folder, key, role in (
        ("gtHS", "patch", "gt"),
        ("lrHS", "patch", "lr_hsi"),
        ("hrMS", "match_img", "ref_msi"),
    ):
        content = scipy.io.loadmat(tmp_path / "test" / folder / "1.mat")
        assert [name for name in content if not name.startswith("__")] == [key]
        assert content[key].dtype == np.float32
        assert np.array_equal(content[key], sample[role].permute(1, 2, 0).numpy())


def test_tree_of_arrays_is_that_of_tensors(tmp_path):
    write_mat_tree(tmp_path, "train", [{role: image.numpy() for role, image in one.items()} for one in samples(2)])
    for sample, expected in zip(read_mat_tree(tmp_path, "train"), samples(2), strict=True):
        assert all(torch.equal(sample[role], expected[role]) for role in expected)


def test_tree_of_a_dataset_beside_another_split(tmp_path):
    camera = Camera.gaussian(scale=4, srf=torch.eye(7)[[1, 3, 6]])
    degraded = degrade_scene(synthetic(5, height=66, width=75, bands=7).tensor(), camera)
    areas = split_areas(66, 75, camera)
    references = [degraded.cut(box).hr_msi for box in crops(areas["reference"], 12, 4)[:3]]
    dataset = UnpairedPatches(degraded, crops(areas["train"], 16, 16), references)
    write_mat_tree(tmp_path, "train", dataset)
    write_mat_tree(tmp_path, "test", samples(2))
    assert len(read_mat_tree(tmp_path, "train")) == len(dataset)
    assert len(read_mat_tree(tmp_path, "test")) == 2
    assert torch.equal(read_mat_tree(tmp_path, "train")[1]["ref_msi"], dataset[1]["ref_msi"])


@pytest.mark.parametrize("names", [("GTHS", "LRHS", "matched"), ("gths", "lrhs", "HRMS"), ("gtHS", "lrHS", "Matched")])
def test_tree_reads_both_spellings_in_any_case(tmp_path, names):
    write_mat_tree(tmp_path, "train", samples(2))
    for old, new in zip(("gtHS", "lrHS", "hrMS"), names, strict=True):
        (tmp_path / "train" / old).rename(tmp_path / "train" / new)
    (tmp_path / "train" / names[0] / "._1.mat").write_bytes(b"left by a file manager")
    assert torch.equal(read_mat_tree(tmp_path, "train")[1]["gt"], samples(2)[1]["gt"])


def test_tree_reads_a_single_cube_under_another_key(tmp_path):
    write_mat_tree(tmp_path, "train", samples(1))
    cube = np.random.default_rng(0).random((12, 20, 7))
    write_variables(tmp_path / "train/gtHS/1.mat", reflectance=cube, title="two words", gain=np.ones((7, 1)))
    assert torch.equal(read_mat_tree(tmp_path, "train")[0]["gt"], torch.tensor(cube).float().permute(2, 0, 1))


def test_tree_prefers_the_released_key_among_several(tmp_path):
    write_mat_tree(tmp_path, "train", samples(1))
    cube = np.random.default_rng(0).random((12, 20, 7))
    write_variables(tmp_path / "train/gtHS/1.mat", mask=np.ones((12, 20, 7)), patch=cube)
    assert torch.equal(read_mat_tree(tmp_path, "train")[0]["gt"], torch.tensor(cube).float().permute(2, 0, 1))


def test_tree_names_the_keys_of_an_ambiguous_file(tmp_path):
    write_mat_tree(tmp_path, "train", samples(1))
    write_variables(tmp_path / "train/gtHS/1.mat", before=np.ones((12, 20, 7)), after=np.ones((12, 20, 7)))
    with pytest.raises(ValueError, match=r"`key` must be .*got 'patch'; the file holds 'before' .* 'after'"):
        read_mat_tree(tmp_path, "train")[0]


def test_tree_reads_version_7_3(tmp_path):
    """MATLAB writes HDF5 with reversed axes from version 7.3 on."""
    write_mat_tree(tmp_path, "train", samples(1))
    cube = np.random.default_rng(0).random((12, 20, 7))
    with h5py.File(tmp_path / "train/gtHS/1.mat", "w") as file:
        file["patch"] = cube.T
        file["patch"].attrs["MATLAB_class"] = np.bytes_("double")
    assert torch.equal(read_mat_tree(tmp_path, "train")[0]["gt"], torch.tensor(cube).float().permute(2, 0, 1))


def test_tree_reads_a_struct_and_endings_in_capitals(tmp_path):
    write_mat_tree(tmp_path, "train", samples(1))
    cube = np.random.default_rng(0).random((12, 20, 7))
    path = tmp_path / "train/gtHS/1.mat"
    write_variables(path, s={"data": cube, "wavelength": np.arange(7.0)})
    path.rename(path.with_suffix(".MAT"))
    assert torch.equal(read_mat_tree(tmp_path, "train")[0]["gt"], torch.tensor(cube).float().permute(2, 0, 1))


def test_tree_reading_errors(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"`root, split` must be a folder with gtHS in it, got .*no folders"):
        read_mat_tree(tmp_path, "train")
    write_mat_tree(tmp_path, "train", samples(3))
    train = tmp_path / "train"
    (train / "lrHS/2.mat").rename(train / "lrHS/7.mat")
    with pytest.raises(ValueError, match="`lr_hsi` must be as many files, with the same numbers, as gt, got 2.mat"):
        read_mat_tree(tmp_path, "train")
    (train / "lrHS/7.mat").rename(train / "lrHS/two.mat")
    with pytest.raises(ValueError, match="`lr_hsi` must be files named 1.mat, 2.mat, … in lrHS, got two.mat"):
        read_mat_tree(tmp_path, "train")
    (train / "lrHS/two.mat").rename(train / "lrHS/03.mat")
    with pytest.raises(ValueError, match="`lr_hsi` must be one file per number in lrHS"):
        read_mat_tree(tmp_path, "train")
    (train / "lrHS/03.mat").rename(train / "lrHS/2.mat")
    (train / "matched").mkdir()
    with pytest.raises(
        ValueError, match="`root, split` must be a folder with one of hrMS or matched in it, got hrMS, m"
    ):
        read_mat_tree(tmp_path, "train")
    (train / "matched").rmdir()
    (train / "hrMS").rename(train / "msi")
    with pytest.raises(FileNotFoundError, match="a folder with hrMS or matched in it, got .*gtHS, lrHS, msi"):
        read_mat_tree(tmp_path, "train")
    (train / "msi").rename(train / "empty")
    (train / "hrMS").mkdir()
    with pytest.raises(ValueError, match="`ref_msi` must be files named 1.mat, 2.mat, … in hrMS, got none"):
        read_mat_tree(tmp_path, "train")


def test_tree_checks_a_sample_when_it_is_read(tmp_path):
    write_mat_tree(tmp_path, "train", samples(1))
    write_variables(tmp_path / "train/lrHS/1.mat", patch=np.ones((3, 5, 6)))
    with pytest.raises(ValueError, match=r"`1.mat\['lr_hsi'\]` must be of 7 band"):
        read_mat_tree(tmp_path, "train")[0]
    with pytest.raises(IndexError, match="`index` must be from 0 to 0, got 1"):
        read_mat_tree(tmp_path, "train")[1]


BAD_SAMPLES = {
    "missing": (
        lambda s: s.pop("ref_msi"),
        r"`samples\[1\]` must be a dict with gt, lr_hsi, ref_msi, got one without",
    ),
    "rank": (lambda s: s.update(gt=s["gt"][0]), r"`samples\[1\]\['gt'\]` must be of shape \(B, C, H, W\)"),
    "nan": (
        lambda s: s["ref_msi"].fill_(torch.nan),
        r"`samples\[1\]\['ref_msi'\]` must be finite everywhere",
    ),
    "bands": (
        lambda s: s.update(lr_hsi=s["lr_hsi"][:6]),
        r"`samples\[1\]\['lr_hsi'\]` must be of 7 band\(s\)",
    ),
    "size": (
        lambda s: s.update(gt=s["gt"][:, :11]),
        r"`samples\[1\]\['gt'\]` must be one whole multiple of lr_hsi's 3×5",
    ),
    "aspect": (lambda s: s.update(gt=s["gt"][:, :9]), r"`samples\[1\]\['gt'\]` must be one whole multiple"),
    "whole numbers": (
        lambda s: s.update(gt=s["gt"].int()),
        r"`samples\[1\]\['gt'\]` must be a floating-point tensor",
    ),
}


@pytest.mark.parametrize("case", BAD_SAMPLES)
def test_tree_writes_nothing_for_a_bad_sample(tmp_path, case):
    spoil, message = BAD_SAMPLES[case]
    written = samples(3)
    spoil(written[1])
    with pytest.raises((ValueError, TypeError), match=message):
        write_mat_tree(tmp_path / "set", "train", written)
    assert not list(tmp_path.iterdir())


def test_tree_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    def full_disk(path, *_args, **_options):
        if path.name == "2.mat":
            raise OSError("no space left on device")
        path.write_bytes(b"")

    monkeypatch.setattr(scipy.io, "savemat", full_disk)
    with pytest.raises(OSError, match="no space left"):
        write_mat_tree(tmp_path, "train", samples(3))
    assert not list(tmp_path.iterdir())


def test_tree_writing_errors(tmp_path):
    with pytest.raises(ValueError, match="`samples` must be a sequence of at least one sample, got an empty one"):
        write_mat_tree(tmp_path, "train", [])
    for split in ("", "..", "a/b"):
        with pytest.raises(ValueError, match=f"`split` must be a plain folder name, got '{split}'"):
            write_mat_tree(tmp_path, split, samples(1))
    assert not list(tmp_path.iterdir())
    write_mat_tree(tmp_path, "train", samples(2))
    with pytest.raises(FileExistsError, match="`split` must be a folder that is not there yet, got .*train"):
        write_mat_tree(tmp_path, "train", samples(1))
    assert len(read_mat_tree(tmp_path, "train")) == 2
