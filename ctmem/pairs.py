"""From a scene to unpaired samples: areas that share no pixel, crops, references, the .mat tree.

A whole scene is degraded first and cut afterwards, so that low-resolution pixels at the border of an area are
what a sensor would have seen. They read `halo` pixels beyond the border; the gaps between areas are at least
twice that wide, so what one area reads, no other area holds or reads.

    fine pixels      |<-- train -->|<-- gap ≥ 2·halo -->|<-- test -->|
    read by blur     |<------ train + halo ->|  |<- halo + test ---->|

Source: the tree of .mat files is that of the code released with Qu et al., IEEE TGRS 2025; the areas are this
project's.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import scipy.io
import torch
from torch import Tensor
from torch.utils.data import Dataset

from ctmem.checks import check_count, check_image, check_srf, fail
from ctmem.scenes import read_array
from ctmem.sensors import apply_srf, blur_down

TRAIN_ROWS = 0.45  # share of the rows, on top
LOWER_COLUMNS = (6 / 16, 3 / 16)  # shares of test and validation in the columns below; the rest is reference
TREE = {  # role: folder names read, in any case (the first is the one written), and the array's key in a file
    "gt": (("gtHS",), "patch"),
    "lr_hsi": (("lrHS",), "patch"),
    "ref_msi": (("hrMS", "matched"), "match_img"),
}


@dataclass(frozen=True)
class Box:
    """A rectangle of fine pixels: rows [top, top + height), columns [left, left + width)."""

    top: int
    left: int
    height: int
    width: int

    def __post_init__(self) -> None:
        check_count(self.top, "top", at_least=0)
        check_count(self.left, "left", at_least=0)
        check_count(self.height, "height")
        check_count(self.width, "width")

    @property
    def slices(self) -> tuple[slice, slice]:
        """Index of the last two dimensions: `x[..., *box.slices]`."""
        return slice(self.top, self.top + self.height), slice(self.left, self.left + self.width)

    def overlaps(self, other: Box, *, halo: int = 0) -> bool:
        """Whether the two share a pixel when both reach `halo` pixels beyond their borders."""
        rows = max(self.top, other.top) - min(self.top + self.height, other.top + other.height)
        columns = max(self.left, other.left) - min(self.left + self.width, other.left + other.width)
        return max(rows, columns) < 2 * halo

    def coarse(self, scale: int) -> Box:
        """The same rectangle in pixels of the low-resolution image.

        Raises:
            ValueError: a border lies inside a low-resolution pixel.
        """
        sides = (self.top, self.left, self.height, self.width)
        if any(side % scale for side in sides):
            fail("box", f"of borders that are multiples of the scale {scale}", self)
        return Box(*(side // scale for side in sides))


def split_areas(height: int, width: int, *, scale: int, halo: int, at_least: int | None = None) -> dict[str, Box]:
    """Returns the areas `train`, `validation`, `test` and `reference`, disjoint with their blur halos.

    Training lies on top over the full width; test, validation and reference side by side below it. All
    borders are multiples of `scale`; up to `scale − 1` rows and columns at the end of the scene stay unused.

    Args:
        height: rows of the scene, fine pixels.
        width: columns of the scene, fine pixels.
        scale: fine pixels per low-resolution pixel.
        halo: pixels that the blur reads beyond a low-resolution pixel, on each side: (psf size − scale) / 2.
        at_least: smallest side an area may have, in fine pixels; default 2·scale.

    Raises:
        ValueError: the scene is too small for four areas of that side, or an argument is no such number.

    Example:
        >>> split_areas(145, 145, scale=4, halo=4)["test"]
        Box(top=72, left=0, height=72, width=48)
    """
    check_count(height, "height")
    check_count(width, "width")
    check_count(scale, "scale")
    check_count(halo, "halo", at_least=0)
    smallest = 2 * scale if at_least is None else at_least
    check_count(smallest, "at_least")

    def down(pixels: float) -> int:
        return int(pixels // scale) * scale

    height_used, width_used, gap = down(height), down(width), -down(-2 * halo)
    split_row = down(TRAIN_ROWS * height_used)
    below = split_row + gap
    columns = width_used - 2 * gap
    test, validation = (down(share * columns) for share in LOWER_COLUMNS)
    sides = (split_row, height_used - below, test, validation, columns - test - validation)
    if min(sides) < smallest:
        expected = f"large enough for four areas of {smallest} px or more with gaps of {gap} px"
        fail("height, width", expected, f"{height}×{width}")
    lower = {"test": (0, test), "validation": (test + gap, validation)}
    lower["reference"] = (test + validation + 2 * gap, sides[-1])
    areas = {"train": Box(0, 0, split_row, width_used)}
    return areas | {name: Box(below, left, sides[1], side) for name, (left, side) in lower.items()}


def crops(area: Box, crop: int, stride: int) -> list[Box]:
    """Returns the windows of `crop`×`crop` px, every `stride` px and flush with the area's far borders.

    Raises:
        ValueError: the crop is larger than the area, or an argument is no positive whole number.

    Example:
        >>> [box.left for box in crops(Box(0, 8, 16, 40), 16, 16)]
        [8, 24, 32]
    """
    check_count(crop, "crop")
    check_count(stride, "stride")
    if crop > min(area.height, area.width):
        fail("crop", f"at most the area's {area.height}×{area.width} px", crop)
    tops, lefts = (
        sorted({*range(start, start + length - crop + 1, stride), start + length - crop})
        for start, length in ((area.top, area.height), (area.left, area.width))
    )
    return [Box(top, left, crop, crop) for top in tops for left in lefts]


@dataclass(frozen=True)
class Degraded:
    """A scene, or a cut of it, with what its two sensors would have seen. All (1, ·, ·, ·), float32, [0, 1].

    `hr_msi` shows the same ground as `gt`: it serves as a *reference* for other areas and as the paired upper
    bound, and never as the reference of its own ground.
    """

    gt: Tensor
    lr_hsi: Tensor
    hr_msi: Tensor
    scale: int

    def cut(self, box: Box) -> Degraded:
        """Returns the rectangle `box` of all three images.

        Raises:
            ValueError: the box leaves the image, or a border of it lies inside a low-resolution pixel.
        """
        height, width = self.gt.shape[-2:]
        if box.top + box.height > height or box.left + box.width > width:
            fail("box", f"inside the image of {height}×{width} px", box)
        rows, columns = box.slices
        coarse_rows, coarse_columns = box.coarse(self.scale).slices
        lr_hsi = self.lr_hsi[..., coarse_rows, coarse_columns]
        return Degraded(self.gt[..., rows, columns], lr_hsi, self.hr_msi[..., rows, columns], self.scale)


def degrade_scene(scene: Tensor, srf: Tensor, psf: Tensor, scale: int) -> Degraded:
    """Returns the whole scene (trimmed to a multiple of `scale`) with its low-resolution HSI and fine MSI.

    Args:
        scene: (1, C, H, W), [0, 1].
        srf: (c, C), rows sum to 1.
        psf: (k, k), sums to 1; k of the parity of `scale`.
        scale: fine pixels per low-resolution pixel.

    Raises:
        TypeError: `scene` is no floating-point tensor.
        ValueError: wrong rank or band count, values that are not finite, `srf` rows that don't sum to 1, a
            scene smaller than `scale`.
    """
    check_count(scale, "scale")
    check_image(scene, "scene", at_least=scale)
    if scene.shape[0] != 1:
        fail("scene", "one scene, shape (1, C, H, W)", f"shape {tuple(scene.shape)}")
    check_srf(srf, bands=scene.shape[1])
    height, width = (side // scale * scale for side in scene.shape[-2:])
    gt = scene[..., :height, :width]
    return Degraded(gt, blur_down(gt, psf, scale), apply_srf(gt, srf), scale)


class UnpairedPatches(Dataset):
    """Samples of a scene, each with a reference of other ground.

    Item i is `{"lr_hsi": (C, h, w), "ref_msi": (c, Hr, Wr), "gt": (C, H, W)}`: box i and reference i, the
    shorter of the two lists repeated from its start. So one pass sees every box and every reference, and
    every pass is the same.

    Args:
        scene: the degraded scene, from `degrade_scene`.
        boxes: the samples' windows in it, from `crops`.
        references: fine multispectral images (1, c, Hr, Wr) of other ground; of one size, if they are to be
            batched.

    Raises:
        TypeError: a reference is no floating-point tensor.
        ValueError: no box, no reference, a box outside the scene, or a reference that is not one image of the
            scene's c bands.
    """

    def __init__(self, scene: Degraded, boxes: Sequence[Box], references: Sequence[Tensor]) -> None:
        if not boxes:
            fail("boxes", "a list of at least one Box", "an empty one")
        if not references:
            fail("references", "a list of at least one image (1, c, Hr, Wr)", "an empty one")
        for index, reference in enumerate(references):
            check_image(reference, f"references[{index}]", bands=scene.hr_msi.shape[1])
            if reference.shape[0] != 1:
                fail(f"references[{index}]", "one image (1, c, Hr, Wr)", f"shape {tuple(reference.shape)}")
        self.references = list(references)
        self.samples = [scene.cut(box) for box in boxes]

    def __len__(self) -> int:
        return max(len(self.samples), len(self.references))

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        if not 0 <= index < len(self):
            raise IndexError(f"`index` must be from 0 to {len(self) - 1}, got {index}")
        sample = self.samples[index % len(self.samples)]
        reference = self.references[index % len(self.references)]
        return {"lr_hsi": sample.lr_hsi[0], "ref_msi": reference[0], "gt": sample.gt[0]}


def write_mat_tree(root: str | Path, split: str, samples: Sequence[dict[str, Tensor]]) -> None:
    """Writes samples as `root/split/{gtHS,lrHS,hrMS}/{1,2,…}.mat`, whole or not at all.

    All samples are checked before the first file is written, and the folder appears under its name when it is
    complete. Files hold one float32 array (H, W, bands): `patch` in gtHS and lrHS, `match_img` in hrMS.

    Args:
        root: the data set's folder; made if it is not there.
        split: name of the new folder in it: train, test, validation.
        samples: dicts with `gt` (C, H, W), `lr_hsi` (C, h, w) and `ref_msi` (c, Hr, Wr), from
            `UnpairedPatches`, say.

    Raises:
        FileExistsError: `root/split` is already there.
        TypeError: an image is no floating-point tensor.
        ValueError: no samples, a `split` that is no plain name, a missing image, a wrong rank or band count,
            NaN or infinite values, or H×W that is no whole multiple of h×w.
    """
    if split in ("", "..") or Path(split).name != split:
        fail("split", "a plain folder name", repr(split))
    target = Path(root) / split
    if target.exists():
        fail("split", "a folder that is not there yet", str(target), FileExistsError)
    if not len(samples):
        fail("samples", "a sequence of at least one sample", "an empty one")
    for index in range(len(samples)):
        _check_sample(samples[index], f"samples[{index}]")
    Path(root).mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{split}-", dir=root) as part:
        for role, (folders, key) in TREE.items():
            folder = Path(part, split, folders[0])
            folder.mkdir(parents=True)
            for index in range(len(samples)):
                array = samples[index][role].movedim(0, -1).float().cpu().numpy()
                scipy.io.savemat(folder / f"{index + 1}.mat", {key: array}, do_compression=True)
        Path(part, split).rename(target)


def _check_sample(sample: dict[str, Tensor], name: str) -> None:
    """Raises unless the sample has its three images and they fit each other."""
    missing = [role for role in TREE if role not in sample]
    if missing:
        fail(name, "a dict with " + ", ".join(TREE), f"one without {', '.join(missing)}")
    for role in TREE:
        check_image(sample[role][None], f"{name}[{role!r}]")
    gt, lr_hsi = sample["gt"], sample["lr_hsi"]
    check_image(lr_hsi[None], f"{name}['lr_hsi']", bands=gt.shape[0])
    (rows, rows_left), (columns, columns_left) = (divmod(gt.shape[i], lr_hsi.shape[i]) for i in (1, 2))
    if rows_left or columns_left or rows != columns:
        expected = f"one whole multiple of lr_hsi's {lr_hsi.shape[1]}×{lr_hsi.shape[2]} px"
        fail(f"{name}['gt']", expected, f"{gt.shape[1]}×{gt.shape[2]}")


class MatTree(Dataset):
    """Samples in .mat files, read when asked for: dicts of `gt`, `lr_hsi`, `ref_msi`, (bands, H, W) float32.

    Values come as they are in the files; everything else here expects them to be in [0, 1].
    """

    def __init__(self, files: dict[str, list[Path]]) -> None:
        self.files = files

    def __len__(self) -> int:
        return len(self.files["gt"])

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        if not 0 <= index < len(self):
            raise IndexError(f"`index` must be from 0 to {len(self) - 1}, got {index}")
        paths = {role: self.files[role][index] for role in TREE}
        sample = {role: _read_array(path, TREE[role][1]) for role, path in paths.items()}
        _check_sample(sample, str(paths["gt"].name))
        return sample


def read_mat_tree(root: str | Path, split: str) -> MatTree:
    """Returns the samples under `root/split` in the order of their numbers (2 before 10).

    Folder names are read in any case, and `matched` stands for `hrMS`, as in the released code. An array
    under another key than the released one is taken where the file holds exactly one of three dimensions.

    Raises:
        FileNotFoundError: there is no such folder, or one of its three folders is missing.
        ValueError: two folders for one role, a file name that is no number, files without a partner, no file.
            When a sample is read: no array of three dimensions, or several and none under the released key;
            images that don't fit each other.
    """
    files = {role: _numbered(_folder(Path(root) / split, names), role) for role, (names, _) in TREE.items()}
    for role, numbered in files.items():
        alone = sorted(numbered.keys() ^ files["gt"].keys())
        if alone:
            fail(role, "as many files, with the same numbers, as gt", f"{alone[0]}.mat in one of them only")
    return MatTree({role: [path for _, path in sorted(numbered.items())] for role, numbered in files.items()})


def _folder(parent: Path, names: Sequence[str]) -> Path:
    """The one folder in `parent` that has one of the names, in any case."""
    there = sorted(path for path in parent.iterdir() if path.is_dir()) if parent.is_dir() else []
    wanted = {name.lower() for name in names}
    found = [path for path in there if path.name.lower() in wanted]
    if not found:
        got = f"{parent} with {', '.join(path.name for path in there) or 'no folders'}"
        fail("root, split", f"a folder with {' or '.join(names)} in it", got, FileNotFoundError)
    if len(found) > 1:
        got = ", ".join(path.name for path in found)
        fail("root, split", f"a folder with one of {' or '.join(names)} in it", got)
    return found[0]


def _numbered(folder: Path, role: str) -> dict[int, Path]:
    """The folder's .mat files by number; hidden files are passed over."""
    paths = [path for path in folder.iterdir() if path.suffix == ".mat" and not path.name.startswith(".")]
    odd = sorted(path.name for path in paths if not path.stem.isdecimal())
    if odd or not paths:
        fail(role, f"files named 1.mat, 2.mat, … in {folder.name}", odd[0] if odd else "none")
    numbered = {int(path.stem): path for path in paths}
    if len(numbered) < len(paths):
        fail(role, f"one file per number in {folder.name}", "two names of the same number")
    return numbered


def _read_array(path: Path, key: str) -> Tensor:
    """The only 3-D array (H, W, bands) of a file, or of several the one under `key`, as (bands, H, W)."""
    try:
        array = read_array(path)
    except ValueError:
        array = read_array(path, key=key)
    return torch.from_numpy(array.astype("float32")).movedim(-1, 0).contiguous()
