"""Pairs: areas that share nothing, crops, references from elsewhere, the .mat tree."""

import h5py
import numpy as np
import pytest
import scipy.io
import torch
from torch.utils.data import DataLoader

from ctmem.data.areas import Box, crops, split_areas
from ctmem.data.mat_tree import read_mat_tree, write_mat_tree
from ctmem.data.samples import Degraded, UnpairedPatches, degrade_scene
from ctmem.data.scenes import synthetic
from ctmem.observe.optics import default_psf, upsample
from ctmem.observe.responses import box_srf

SCALE, HALO = 4, 4
SRF = torch.tensor([[0.5, 0.5, 0, 0, 0, 0, 0], [0, 0, 0, 1, 0, 0, 0], [0, 0, 0, 0, 0.25, 0.25, 0.5]])


@pytest.fixture(scope="module")
def scene():
    """66×75 px (neither a multiple of 4), 7 bands."""
    return synthetic(5, height=66, width=75, bands=7).tensor()


@pytest.fixture(scope="module")
def degraded(scene):
    return degrade_scene(scene, SRF, default_psf(SCALE), SCALE)


@pytest.fixture(scope="module")
def areas():
    return split_areas(66, 75, scale=SCALE, halo=HALO)


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


# --- areas ---


def test_areas_of_indian_pines():
    assert split_areas(145, 145, scale=4, halo=4) == {
        "train": Box(0, 0, 64, 144),
        "test": Box(72, 0, 72, 48),
        "validation": Box(72, 56, 72, 24),
        "reference": Box(72, 88, 72, 56),
    }


@pytest.mark.parametrize(
    ("height", "width", "scale", "halo"),
    [(145, 145, 4, 4), (66, 75, 4, 4), (200, 90, 2, 5), (131, 307, 8, 8), (60, 64, 3, 1), (40, 50, 1, 0)],
)
def test_areas_share_no_pixel_with_their_halos(height, width, scale, halo):
    areas = split_areas(height, width, scale=scale, halo=halo)
    counts = np.zeros((height + 2 * halo, width + 2 * halo), dtype=int)
    for box in areas.values():
        rows = slice(box.top, box.top + box.height + 2 * halo)
        counts[rows, box.left : box.left + box.width + 2 * halo] += 1
    assert counts.max() == 1
    assert all(side % scale == 0 for box in areas.values() for side in (box.top, box.left, box.height, box.width))
    assert all(min(box.height, box.width) >= 2 * scale for box in areas.values())
    bottom = max(box.top + box.height for box in areas.values())
    right = max(box.left + box.width for box in areas.values())
    assert height - bottom < scale
    assert width - right < scale


def test_areas_of_too_small_a_scene():
    with pytest.raises(ValueError, match="`height, width` must be large enough for four areas of 8 px .* got 30×90"):
        split_areas(30, 90, scale=4, halo=8)
    with pytest.raises(ValueError, match="four areas of 32 px or more with gaps of 8 px, got 145×145"):
        split_areas(145, 145, scale=4, halo=4, at_least=32)


@pytest.mark.parametrize("name", ["height", "width", "scale", "halo", "at_least"])
def test_areas_need_whole_numbers(name):
    arguments = {"height": 145, "width": 145, "scale": 4, "halo": 4} | {name: 2.5}
    with pytest.raises(ValueError, match=f"`{name}` must be a whole number ≥ .*, got 2.5"):
        split_areas(arguments.pop("height"), arguments.pop("width"), **arguments)


# --- boxes and crops ---


def test_box_overlap_counts_the_halo():
    left, right = Box(0, 0, 10, 10), Box(3, 14, 10, 10)  # 4 px between them
    assert not left.overlaps(right)
    assert not left.overlaps(right, halo=2)
    assert left.overlaps(right, halo=3)
    assert left.overlaps(Box(9, 9, 1, 1))
    assert not left.overlaps(Box(10, 9, 1, 1))


def test_box_in_coarse_pixels():
    assert Box(8, 12, 16, 4).coarse(4) == Box(2, 3, 4, 1)
    with pytest.raises(ValueError, match=r"`box` must be of borders that are multiples of the scale 4, got Box\(top=8"):
        Box(8, 12, 16, 6).coarse(4)


def test_box_needs_whole_numbers():
    with pytest.raises(ValueError, match="`top` must be a whole number ≥ 0, got -1"):
        Box(-1, 0, 4, 4)
    with pytest.raises(ValueError, match="`width` must be a whole number ≥ 1, got 0"):
        Box(0, 0, 4, 0)


def test_crops_cover_the_area_and_stay_inside():
    area = Box(8, 4, 28, 44)
    boxes = crops(area, 12, 8)
    covered = np.zeros((60, 60), dtype=bool)
    for box in boxes:
        assert (box.height, box.width) == (12, 12)
        covered[box.slices] = True
    inside = np.zeros_like(covered)
    inside[area.slices] = True
    assert np.array_equal(covered, inside)
    assert sorted({box.top for box in boxes}) == [8, 16, 24]
    assert sorted({box.left for box in boxes}) == [4, 12, 20, 28, 36]
    assert len(boxes) == len(set(boxes)) == 15


def test_crops_flush_with_the_far_border():
    assert [box.left for box in crops(Box(0, 0, 8, 28), 8, 12)] == [0, 12, 20]


def test_crops_errors():
    with pytest.raises(ValueError, match="`crop` must be at most the area's 28×44 px, got 32"):
        crops(Box(8, 4, 28, 44), 32, 8)
    with pytest.raises(ValueError, match="`stride` must be a whole number ≥ 1, got 0"):
        crops(Box(8, 4, 28, 44), 12, 0)


# --- degrading ---


def test_degrade_trims_to_the_scale_and_names_every_image(degraded, scene):
    assert degraded.gt.shape == (1, 7, 64, 72)
    assert degraded.lr_hsi.shape == (1, 7, 16, 18)
    assert degraded.hr_msi.shape == (1, 3, 64, 72)
    assert torch.equal(degraded.gt, scene[..., :64, :72])
    expected = (scene[0, 0, 5, 9] + scene[0, 1, 5, 9]) / 2
    assert degraded.hr_msi[0, 0, 5, 9].item() == pytest.approx(expected.item())


def test_degrade_is_the_psf_weighted_mean_of_the_neighbourhood(degraded, scene):
    """By hand at one low-resolution pixel: rows 8–11 with 4 more on each side."""
    psf = default_psf(SCALE).flip(0, 1)
    expected = (scene[0, :, 4:16, 16:28] * psf).sum((1, 2))
    assert torch.allclose(degraded.lr_hsi[0, :, 2, 5], expected, atol=1e-6)


def test_cut_takes_the_same_ground_from_all_three(degraded):
    cut = degraded.cut(Box(8, 12, 16, 20))
    assert cut.gt.shape == (1, 7, 16, 20)
    assert torch.equal(cut.gt, degraded.gt[..., 8:24, 12:32])
    assert torch.equal(cut.lr_hsi, degraded.lr_hsi[..., 2:6, 3:8])
    assert torch.equal(cut.hr_msi, degraded.hr_msi[..., 8:24, 12:32])


def test_cut_keeps_low_and_high_resolution_registered(degraded):
    """The best shift between gt and the upsampled lr_hsi is none."""
    cut = degraded.cut(Box(8, 12, 40, 48))
    up = upsample(cut.lr_hsi, SCALE)
    inner = up[..., 8:-8, 8:-8]
    errors = {
        (y, x): (cut.gt[..., 8 + y : 32 + y, 8 + x : 40 + x] - inner).square().mean().item()
        for y in (-1, 0, 1)
        for x in (-1, 0, 1)
    }
    assert min(errors, key=errors.get) == (0, 0)


def test_cut_errors(degraded):
    with pytest.raises(ValueError, match="`box` must be inside the image of 64×72 px, got Box"):
        degraded.cut(Box(60, 0, 8, 8))
    with pytest.raises(ValueError, match="`box` must be of borders that are multiples of the scale 4"):
        degraded.cut(Box(2, 0, 8, 8))


def test_degrade_errors(scene):
    psf = default_psf(SCALE)
    with pytest.raises(ValueError, match=r"`scene` must be one scene, shape \(1, C, H, W\), got shape \(2, 7"):
        degrade_scene(scene.repeat(2, 1, 1, 1), SRF, psf, SCALE)
    with pytest.raises(ValueError, match="`scene` must be at least 4×4 px, got 3×75"):
        degrade_scene(scene[..., :3, :], SRF, psf, SCALE)
    with pytest.raises(ValueError, match="`srf` must be of 6 columns, one per band of the image, got 7"):
        degrade_scene(scene[:, :6], SRF, psf, SCALE)
    with pytest.raises(ValueError, match="`srf` must be a matrix whose rows sum to 1, got a row 1 that sums to 2"):
        degrade_scene(scene, SRF * torch.tensor([[1.0], [2.0], [1.0]]), psf, SCALE)
    with pytest.raises(TypeError, match="`scene` must be a floating-point tensor"):
        degrade_scene(scene.numpy(), SRF, psf, SCALE)
    bad = scene.clone()
    bad[0, 1, 2, 3] = torch.inf
    with pytest.raises(ValueError, match="`scene` must be finite everywhere, got 1 NaN or infinite"):
        degrade_scene(bad, SRF, psf, SCALE)


# --- no leak ---


@pytest.mark.parametrize("name", ["train", "validation", "test", "reference"])
def test_no_area_sees_a_pixel_that_another_area_holds_or_sees(name, scene, areas):
    """What an area yields stays the same, bit for bit, when all ground but the area and its halo changes."""
    psf = default_psf(SCALE)
    box = areas[name]
    other = torch.rand(scene.shape, generator=torch.Generator().manual_seed(1))
    rows = slice(max(box.top - HALO, 0), box.top + box.height + HALO)
    columns = slice(max(box.left - HALO, 0), box.left + box.width + HALO)
    other[..., rows, columns] = scene[..., rows, columns]
    before, after = (degrade_scene(x, SRF, psf, SCALE).cut(box) for x in (scene, other))
    assert torch.equal(before.lr_hsi, after.lr_hsi)
    assert torch.equal(before.gt, after.gt)
    assert torch.equal(before.hr_msi, after.hr_msi)


def test_the_halo_is_real(scene, areas):
    """The blur does read 4 px beyond an area: the test above could not hold with a smaller halo."""
    box = areas["test"]
    other = scene.clone()
    other[..., box.top - HALO, :] += 0.1
    psf = default_psf(SCALE)
    before, after = (degrade_scene(x, SRF, psf, SCALE).cut(box).lr_hsi for x in (scene, other))
    assert not torch.equal(before, after)


def test_training_samples_have_no_gradient_from_the_other_areas(scene, areas):
    """Which pixels of the scene do the training samples depend on? None of the test and validation areas."""
    pixels = scene.clone().requires_grad_()
    degraded = degrade_scene(pixels, SRF, default_psf(SCALE), SCALE)
    reference = degraded.cut(areas["reference"]).hr_msi
    boxes = crops(areas["train"], 16, 8)
    dataset = UnpairedPatches(degraded, boxes, [reference])
    total = sum(image.sum() for sample in dataset for image in sample.values())
    (gradient,) = torch.autograd.grad(total, pixels)
    for name in ("test", "validation"):
        assert gradient[..., *areas[name].slices].abs().max() == 0
    assert gradient[..., *areas["train"].slices].abs().min() > 0


# --- unpaired patches ---


def references(degraded, areas, count=3):
    boxes = crops(areas["reference"], 12, 4)[:count]
    return [degraded.cut(box).hr_msi for box in boxes]


def test_unpaired_sample(degraded, areas):
    boxes = crops(areas["train"], 16, 8)
    refs = references(degraded, areas)
    sample = UnpairedPatches(degraded, boxes, refs)[4]
    assert {name: tuple(image.shape) for name, image in sample.items()} == {
        "lr_hsi": (7, 4, 4),
        "ref_msi": (3, 12, 12),
        "gt": (7, 16, 16),
    }
    assert torch.equal(sample["gt"], degraded.gt[0, :, *boxes[4].slices])
    assert torch.equal(sample["ref_msi"], refs[4 % 3][0])


def test_unpaired_every_box_and_every_reference_in_one_pass(degraded, areas):
    boxes, refs = crops(areas["train"], 16, 16), references(degraded, areas, 3)
    for some_boxes, some_refs in ((boxes, refs), (boxes[:2], refs)):
        dataset = UnpairedPatches(degraded, some_boxes, some_refs)
        seen = list(dataset)
        assert len(seen) == len(dataset) == max(len(some_boxes), len(some_refs))
        for image in [degraded.cut(box).gt[0] for box in some_boxes]:
            assert any(torch.equal(sample["gt"], image) for sample in seen)
        for image in some_refs:
            assert any(torch.equal(sample["ref_msi"], image[0]) for sample in seen)


def test_unpaired_a_loader_gives_every_sample_every_time(degraded, areas):
    """Fault 5: the released test loader is empty from its second use on."""
    dataset = UnpairedPatches(degraded, crops(areas["validation"], 8, 4), references(degraded, areas))
    loader = DataLoader(dataset, batch_size=2)
    first, second = ([batch["gt"] for batch in loader] for _ in range(2))
    assert sum(len(batch) for batch in first) == len(dataset)
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_unpaired_errors(degraded, areas):
    boxes, refs = crops(areas["train"], 16, 8), references(degraded, areas)
    with pytest.raises(ValueError, match="`boxes` must be a list of at least one Box, got an empty one"):
        UnpairedPatches(degraded, [], refs)
    with pytest.raises(ValueError, match="`references` must be a list of at least one image"):
        UnpairedPatches(degraded, boxes, [])
    with pytest.raises(ValueError, match=r"`references\[1\]` must be of 3 band\(s\)"):
        UnpairedPatches(degraded, boxes, [refs[0], refs[0][:, :2]])
    with pytest.raises(ValueError, match=r"`references\[0\]` must be one image \(1, c, Hr, Wr\), got shape \(2, 3"):
        UnpairedPatches(degraded, boxes, [refs[0].repeat(2, 1, 1, 1)])
    with pytest.raises(TypeError, match=r"`references\[0\]` must be a floating-point tensor"):
        UnpairedPatches(degraded, boxes, [refs[0].numpy()])
    with pytest.raises(ValueError, match="`box` must be inside the image"):
        UnpairedPatches(degraded, [Box(64, 0, 8, 8)], refs)
    with pytest.raises(IndexError, match="`index` must be from 0 to 14, got 15"):
        UnpairedPatches(degraded, boxes[:15], refs)[15]


# --- the .mat tree ---


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


def test_tree_of_a_dataset_beside_another_split(tmp_path, degraded, areas):
    dataset = UnpairedPatches(degraded, crops(areas["train"], 16, 16), references(degraded, areas))
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
    "array": (
        lambda s: s.update(gt=s["gt"].numpy()),
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


def test_a_scene_with_real_responses_goes_through(degraded):
    """Box responses over a scene's own wavelengths instead of the matrix above."""
    scene = synthetic(2, height=40, width=48, bands=31)
    srf = box_srf(scene.wavelengths_nm, [(500, 700), (700, 1000)])
    result = degrade_scene(scene.tensor(), srf, default_psf(4), 4)
    assert isinstance(result, Degraded)
    assert result.hr_msi.shape == (1, 2, 40, 48)
