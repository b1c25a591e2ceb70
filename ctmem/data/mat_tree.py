"""Samples as a tree of .mat files, as the code released with the paper reads them.

Source: the tree is that of the code released with Qu et al., IEEE TGRS 2025.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import scipy.io
import torch
from torch import Tensor
from torch.utils.data import Dataset

from ctmem.checks import as_image, door, fail
from ctmem.reading.arrays import find_array

TREE = {  # role: folder names read, in any case (the first is the one written), and the array's key in a file
    "gt": (("gtHS",), "patch"),
    "lr_hsi": (("lrHS",), "patch"),
    "ref_msi": (("hrMS", "matched"), "match_img"),
}


@door
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
        TypeError: an image is not a floating-point tensor.
        ValueError: no samples, a `split` that is not a plain name, a missing image, a wrong rank or band count,
            NaN or infinite values, or H×W that is not a whole multiple of h×w.
    """
    # everything is checked first
    if split in ("", "..") or "\0" in split or Path(split).name != split:
        fail("split", "a plain folder name", repr(split))
    target = Path(root) / split
    if target.exists():
        fail("split", "a folder that is not there yet", str(target), FileExistsError)
    if not len(samples):
        fail("samples", "a sequence of at least one sample", "an empty one")
    for index in range(len(samples)):
        _as_sample(samples[index], f"samples[{index}]")
    # then written beside its place, and moved there when it is whole
    Path(root).mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{split}-", dir=root) as part:
        for role, (folders, key) in TREE.items():
            folder = Path(part, split, folders[0])
            folder.mkdir(parents=True)
            for index in range(len(samples)):
                array = as_image(samples[index][role][None], role)[0].movedim(0, -1).cpu().numpy()
                scipy.io.savemat(folder / f"{index + 1}.mat", {key: array}, do_compression=True)
        Path(part, split).rename(target)


def _as_sample(sample: dict[str, Tensor], name: str) -> dict[str, Tensor]:
    """The three images of a sample, float32, or the error where one is missing or they do not fit each other."""
    missing = [role for role in TREE if role not in sample]
    if missing:
        fail(name, "a dict with " + ", ".join(TREE), f"one without {', '.join(missing)}")
    images = {role: as_image(sample[role][None], f"{name}[{role!r}]")[0] for role in TREE}
    gt = images["gt"]
    lr_hsi = images["lr_hsi"]
    as_image(lr_hsi[None], f"{name}['lr_hsi']", bands=gt.shape[0], finite=False)
    (rows, rows_left), (columns, columns_left) = (divmod(gt.shape[i], lr_hsi.shape[i]) for i in (1, 2))
    if rows_left or columns_left or rows != columns:
        expected = f"one whole multiple of lr_hsi's {lr_hsi.shape[1]}×{lr_hsi.shape[2]} px"
        fail(f"{name}['gt']", expected, f"{gt.shape[1]}×{gt.shape[2]}")
    return images


class MatTree(Dataset[dict[str, Tensor]]):
    """Samples in .mat files, read when asked for: dicts of `gt`, `lr_hsi`, `ref_msi`, (bands, H, W) float32.

    Values come as they are in the files; everything else here expects them to be in [0, 1].
    """

    def __init__(self, files: dict[str, list[Path]]) -> None:
        self.files = files

    def __len__(self) -> int:
        return len(self.files["gt"])

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        return (self[index] for index in range(len(self)))

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        if not 0 <= index < len(self):
            raise IndexError(f"`index` must be from 0 to {len(self) - 1}, got {index}")
        paths = {role: self.files[role][index] for role in TREE}
        sample = {role: _read_array(path, TREE[role][1]) for role, path in paths.items()}
        return _as_sample(sample, str(paths["gt"].name))


@door
def read_mat_tree(root: str | Path, split: str) -> MatTree:
    """Returns the samples under `root/split` in the order of their numbers (2 before 10).

    Folder names are read in any case, and `matched` stands for `hrMS`, as in the released code. An array
    under another key than the released one is taken where the file holds exactly one of three dimensions.

    Raises:
        FileNotFoundError: there is no such folder, or one of its three folders is missing.
        ValueError: two folders for one role, a file name that is not a number, files without a partner, no file.
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
    paths = [path for path in folder.iterdir() if path.suffix.lower() == ".mat" and not path.name.startswith(".")]
    odd = sorted(path.name for path in paths if not path.stem.isdecimal())
    if odd or not paths:
        fail(role, f"files named 1.mat, 2.mat, … in {folder.name}", odd[0] if odd else "none")
    numbered = {int(path.stem): path for path in paths}
    if len(numbered) < len(paths):
        fail(role, f"one file per number in {folder.name}", "two names of the same number")
    return numbered


def _read_array(path: Path, key: str) -> Tensor:
    """The only 3-D array (H, W, bands) of a file, or of several the one under `key`, as (bands, H, W)."""
    array = find_array(path, usual=key).array
    return torch.from_numpy(array.astype("float32")).movedim(-1, 0).contiguous()
