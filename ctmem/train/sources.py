"""What the networks learn from: the shipped scenes, your own scenes, or the .mat tree of samples.

A **scene** is one file (.mat, .npy, .npz) with an array (H, W, C). It is degraded here and divided into areas, of which
`test` is never learned from. The spectral response of the multispectral sensor is worked out from the bands' centres.

A **tree** is a folder `root/train/{gtHS,lrHS,hrMS}/1.mat …`, see `mat_tree.read_mat_tree`, with values in [0, 1]. Each
sample brings its own reference. `root/validation` judges if it is there; otherwise every tenth sample of `train` does and
is not learned from. `root/test` is never read.

Scenes and trees of your own need a text file about the bands: `my_scene.txt` beside `my_scene.mat`, `bands.txt` in the
tree's root. It holds either the C centres in nm, or the spectral response itself, c rows of C numbers.

Source: this project; the tree is that of the code released with Qu et al., IEEE TGRS 2025.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from ctmem.checks import check_srf, fail
from ctmem.config import Preset
from ctmem.data.areas import Box, split_areas
from ctmem.data.mat_tree import read_mat_tree
from ctmem.data.samples import Degraded, degrade_scene
from ctmem.data.scenes import Scene, load_scene, read_scene
from ctmem.observe.optics import default_psf
from ctmem.observe.responses import apply_srf, srf_matrix


@dataclass(frozen=True)
class Source:
    """One scene to learn from: its areas for training and validation, and references of other ground."""

    name: str
    scene: Degraded
    train: Box | None  # None: not learned from
    validation: Box | None  # None: not judged by
    srf: torch.Tensor  # (c, C)
    references: tuple[torch.Tensor, ...]  # fine MSI (1, c, Hr, Wr) of other ground, for training and validation


def embedded_sources(preset: Preset) -> list[Source]:
    """The shipped scenes as sources, see `scene_sources`."""
    scenes = {name: load_scene(name) for name in ("indian_pines", "sentinel2_farmland")}
    srfs = {
        "indian_pines": srf_matrix(scenes["indian_pines"].wavelengths_nm, bands=preset.msi_bands),
        "sentinel2_farmland": torch.eye(len(preset.msi_bands)),
    }
    return scene_sources({name: (scene, srfs[name]) for name, scene in scenes.items()}, preset)


def scene_sources(scenes: Mapping[str, tuple[Scene, torch.Tensor]], preset: Preset) -> list[Source]:
    """Whole scenes as sources: each takes references from its own reference area and from those of the others.

    The test areas of `split_areas` are not part of anything returned here but the whole scenes they are cut from.

    Args:
        scenes: by name, with the response (c, C) of the multispectral sensor to be simulated.
        preset: its scale.

    Raises:
        ValueError: a scene too small to be divided, or a response that does not fit its bands.
    """
    psf, scale = default_psf(preset.scale), preset.scale
    halo = (len(psf) - scale) // 2  # reach of the blur beyond an LR pixel, fine pixels
    degraded = {name: degrade_scene(scene.tensor(), srf, psf, scale) for name, (scene, srf) in scenes.items()}
    areas = {name: split_areas(*d.gt.shape[2:], scale=scale, halo=halo) for name, d in degraded.items()}
    references = {name: d.cut(areas[name]["reference"]).hr_msi for name, d in degraded.items()}
    return [
        Source(
            name, degraded[name], areas[name]["train"], areas[name]["validation"], srf,
            (references[name], *(image for other, image in references.items() if other != name)),
        )
        for name, (_, srf) in scenes.items()
    ]  # fmt: skip


HELD_OUT = 10  # one sample in so many judges, where a tree has no validation folder


def own_sources(paths: Sequence[str | Path], preset: Preset) -> list[Source]:
    """Returns the scenes (files) and trees (folders) at `paths` as sources.

    Scenes take references from their own reference area and from each other's.

    Args:
        paths: files and folders.
        preset: scale, bands of the multispectral sensor.

    Raises:
        FileNotFoundError: no such file or folder, or no text file about its bands.
        ValueError: a file that cannot be read, a scene that is too small, bands that don't fit the file about them,
            a response of another number of bands than the preset's.
    """
    scenes, sources = {}, []
    for path in map(Path, paths):
        if path.is_dir():
            sources += _tree_sources(path, preset)
            continue
        scene = read_scene(path)
        scenes[str(path)] = (scene, read_srf(path.with_suffix(".txt"), scene.bands, preset))
    return scene_sources(scenes, preset) + sources


def read_srf(path: Path, bands: int, preset: Preset) -> torch.Tensor:
    """Returns the spectral response (c, C), rows sum to 1, that a text file gives or lets one work out.

    Args:
        path: the file: C band centres in nm, or c rows of C numbers, which are divided by their sums.
        bands: C.
        preset: names the c bands of the multispectral sensor.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: no table of numbers, or of another size, or bands that do not cover the sensor's.
    """
    if not path.is_file():
        fail("path", "a text file with the bands' centres in nm", f"{path.name}, which is not there", FileNotFoundError)
    try:
        table = np.loadtxt(path, delimiter="," if "," in path.read_text() else None, ndmin=1)
    except ValueError as error:
        raise ValueError(f"`path` must be a text file of numbers, got {path.name}: {error}") from error
    if table.shape == (bands,):
        return srf_matrix(table, bands=preset.msi_bands)
    wanted = (len(preset.msi_bands), bands)
    if table.shape != wanted:
        fail("path", f"{bands} centres in nm, or {wanted[0]} rows of {bands} numbers", f"{table.shape} in {path.name}")
    srf = torch.from_numpy(table / table.sum(1, keepdims=True)).float()
    check_srf(srf, bands=bands)
    return srf


def _tree_sources(root: Path, preset: Preset) -> list[Source]:
    """One source per sample: learned from or judged by as a whole."""
    train = list(read_mat_tree(root, "train"))
    if (root / "validation").is_dir():
        held_out = list(read_mat_tree(root, "validation"))
    else:
        held_out = train[::HELD_OUT]
        train = [sample for index, sample in enumerate(train) if index % HELD_OUT]
    if not train:
        fail("root", "a tree of at least two samples, or with a validation folder", str(root))
    srf = read_srf(root / "bands.txt", train[0]["gt"].shape[0], preset)
    named = [(f"{root.name}/{number}", sample, True) for number, sample in enumerate(train)]
    named += [(f"{root.name}/validation/{number}", sample, False) for number, sample in enumerate(held_out)]
    return [_sample_source(*one, srf, preset) for one in named]


def _sample_source(name: str, sample: dict, learned: bool, srf: torch.Tensor, preset: Preset) -> Source:
    """A sample of a tree as a source."""
    gt, lr_hsi, reference = (sample[role][None] for role in ("gt", "lr_hsi", "ref_msi"))
    scale = gt.shape[2] // lr_hsi.shape[2]
    if scale != preset.scale:
        fail("root", f"a tree of scale {preset.scale}, as the preset", f"scale {scale} in {name}")
    if gt.shape[1] != srf.shape[1] or reference.shape[1] != len(srf):
        expected = f"a tree of {srf.shape[1]} and {len(srf)} bands, as bands.txt and the preset say"
        fail("root", expected, f"{gt.shape[1]} and {reference.shape[1]} in {name}")
    low, high = (
        min(float(x.min()) for x in (gt, lr_hsi, reference)),
        max(float(x.max()) for x in (gt, lr_hsi, reference)),
    )
    if low < 0 or high > 1:
        fail("root", "a tree of values in [0, 1]", f"{low:.4g} to {high:.4g} in {name}")
    whole = Box(0, 0, *gt.shape[2:])
    degraded = Degraded(gt, lr_hsi, apply_srf(gt, srf), scale)
    return Source(name, degraded, whole if learned else None, None if learned else whole, srf, (reference,))
