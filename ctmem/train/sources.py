"""What the networks learn from: the shipped scenes, your own scenes, or the .mat tree of samples.

A **scene** is one file (.mat, .npy, .npz) with an array (H, W, C). It is degraded here and divided into areas, of which
`test` is never learned from. The spectral response of the multispectral sensor is worked out from the bands' centres.

A **tree** is a folder `root/train/{gtHS,lrHS,hrMS}/1.mat …`, see `mat_tree.read_mat_tree`, with values in [0, 1]. Each
sample brings its own reference. `root/validation` judges if it is there; otherwise every tenth sample of `train` does
and is not learned from. `root/test` is never read.

Scenes and trees of your own need a text file about the bands: `my_scene.txt` beside `my_scene.mat`, `bands.txt` in the
tree's root. It holds either the C centres in nm, or the spectral response itself, c rows of C numbers.

Source: this project; the tree is that of the code released with Qu et al., IEEE TGRS 2025.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from ctmem.checks import check_choice, fail
from ctmem.data.areas import Box, split_areas
from ctmem.data.mat_tree import read_mat_tree
from ctmem.data.samples import Degraded, degrade_scene
from ctmem.data.scenes import Scene, load_scene, read_scene
from ctmem.observe.camera import Camera
from ctmem.observe.optics import add_noise

HELD_OUT = 10  # one sample in so many judges, where a tree has no validation folder
NOISE_SEED = 0  # of the noise in what is observed of a whole scene


@dataclass(frozen=True)
class Source:
    """One scene to learn from: its areas for training and validation, and references of other ground."""

    name: str
    scene: Degraded
    train: Box | None  # None: not learned from
    validation: Box | None  # None: not judged by
    references: tuple[torch.Tensor, ...]  # fine MSI (1, c, Hr, Wr) of other ground, for training and validation


def embedded_sources(camera: Camera, *, only: str | None = None) -> list[Source]:
    """The shipped scenes as sources, see `scene_sources`.

    Args:
        camera: what is simulated; of the Sentinel-2 scene its bands are taken to be those of the sensor.
        only: the one scene that is learned from and judged by, for a denoiser on bands; its references are those of all
            scenes. None: all scenes.

    Raises:
        ValueError: a camera with another number of multispectral bands than the Sentinel-2 scene has, or another scene.
    """
    pines = load_scene("indian_pines")
    farmland = load_scene("sentinel2_farmland")
    if camera.msi_channels != farmland.bands:
        fail("camera", f"one of {farmland.bands} multispectral bands, as the Sentinel-2 scene", camera.msi_channels)
    scenes = {
        pines.name: (pines, camera.for_wavelengths(pines.wavelengths_nm)),
        farmland.name: (farmland, replace(camera, srf=torch.eye(farmland.bands))),
    }
    if only is not None:
        check_choice(only, "only", scenes)
    return [source for source in scene_sources(scenes) if only in (None, source.name)]


def scene_sources(scenes: Mapping[str, tuple[Scene, Camera]]) -> list[Source]:
    """Whole scenes as sources: each takes references from its own reference area and from those of the others.

    The test areas of `split_areas` are not part of anything returned here but the whole scenes they are cut from.

    Args:
        scenes: by name, with the camera to be simulated, its response included.

    Raises:
        ValueError: a scene too small to be divided, or a response that does not fit its bands.
    """
    degraded: dict[str, Degraded] = {}
    areas: dict[str, dict[str, Box]] = {}
    for name, (scene, camera) in scenes.items():
        whole = degrade_scene(scene.tensor(), replace(camera, snr_db=None))
        height, width = whole.gt.shape[2:]
        areas[name] = split_areas(height, width, camera)
        degraded[name] = _with_noise(whole, areas[name], camera)
    own = {name: whole.cut(areas[name]["reference"]).hr_msi for name, whole in degraded.items()}
    sources = []
    for name, whole in degraded.items():
        references = (own[name], *(image for other, image in own.items() if other != name))
        sources.append(Source(name, whole, areas[name]["train"], areas[name]["validation"], references))
    return sources


def _with_noise(whole: Degraded, areas: dict[str, Box], camera: Camera) -> Degraded:
    """The scene with the camera's noise in every area; its level is that of the area, so that none tells of another."""
    if camera.snr_db is None:
        return replace(whole, camera=camera)
    lr_hsi = whole.lr_hsi.clone()
    for box in areas.values():
        part = lr_hsi[..., *box.coarse(camera.scale).slices]
        part.copy_(add_noise(part, camera.snr_db, generator=torch.Generator().manual_seed(NOISE_SEED)))
    return replace(whole, lr_hsi=lr_hsi, camera=camera)


def own_sources(paths: Sequence[str | Path], camera: Camera) -> list[Source]:
    """Returns the scenes (files) and trees (folders) at `paths` as sources.

    Scenes take references from their own reference area and from each other's.

    Args:
        paths: files and folders.
        camera: what is simulated of scenes; for trees, what their files were made with.

    Raises:
        FileNotFoundError: no such file or folder, or no text file about its bands.
        ValueError: a file that cannot be read, a scene that is too small, bands that don't fit the file about them,
            a response of another number of bands than the camera's.
    """
    scenes = {}
    sources = []
    for path in map(Path, paths):
        if path.is_dir():
            sources += _tree_sources(path, camera)
            continue
        if str(path) in scenes:
            fail("paths", "each given once", f"{path} twice")
        scene = read_scene(path)
        scenes[str(path)] = (scene, read_response(path.with_suffix(".txt"), scene.bands, camera))
    return scene_sources(scenes) + sources


def read_response(path: Path, bands: int, camera: Camera) -> Camera:
    """Returns the camera with the spectral response (c, C) that a text file gives or lets one work out.

    Args:
        path: the file: C band centres in nm, or c rows of C numbers, which are divided by their sums.
        bands: C.
        camera: names the multispectral sensor and its c bands.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: no table of numbers, or of another size, or bands that do not cover the sensor's.
    """
    if not path.is_file():
        fail("path", "a text file with the bands' centres in nm", f"{path.name}, which is not there", FileNotFoundError)
    try:
        table = np.loadtxt(path, delimiter="," if "," in path.read_text(encoding="utf-8") else None, ndmin=1)
    except ValueError as error:
        raise ValueError(f"`path` must be a text file of numbers, got {path.name}: {error}") from error
    if table.shape == (bands,):
        return camera.for_wavelengths(table)
    wanted = (camera.msi_channels, bands)
    if table.shape != wanted:
        fail("path", f"{bands} centres in nm, or {wanted[0]} rows of {bands} numbers", f"{table.shape} in {path.name}")
    if not (table.sum(1) > 0).all():
        fail("path", "rows with a positive sum", f"{float(table.sum(1).min()):g} in {path.name}")
    return replace(camera, srf=torch.from_numpy(table / table.sum(1, keepdims=True)).float())


def _tree_sources(root: Path, camera: Camera) -> list[Source]:
    """One source per sample: learned from or judged by as a whole."""
    train = list(read_mat_tree(root, "train"))
    if (root / "validation").is_dir():
        held_out = list(read_mat_tree(root, "validation"))
    else:
        held_out = train[::HELD_OUT]
        train = [sample for index, sample in enumerate(train) if index % HELD_OUT]
    if not train:
        fail("root", "a tree of at least two samples, or with a validation folder", str(root))
    camera = read_response(root / "bands.txt", train[0]["gt"].shape[0], camera)
    named = [(f"{root.name}/{number}", sample, True) for number, sample in enumerate(train)]
    named += [(f"{root.name}/validation/{number}", sample, False) for number, sample in enumerate(held_out)]
    return [_sample_source(*one, camera) for one in named]


def _sample_source(name: str, sample: dict[str, torch.Tensor], learned: bool, camera: Camera) -> Source:
    """A sample of a tree as a source."""
    gt, lr_hsi, reference = (sample[role][None] for role in ("gt", "lr_hsi", "ref_msi"))
    # it must be of the camera's scale and bands, with values in [0, 1]
    scale = gt.shape[2] // lr_hsi.shape[2]
    if scale != camera.scale:
        fail("root", f"a tree of scale {camera.scale}, as the preset", f"scale {scale} in {name}")
    wanted = camera.response().shape
    if (reference.shape[1], gt.shape[1]) != tuple(wanted):
        expected = f"a tree of {wanted[1]} and {wanted[0]} bands, as bands.txt and the preset say"
        fail("root", expected, f"{gt.shape[1]} and {reference.shape[1]} in {name}")
    low = min(float(x.min()) for x in (gt, lr_hsi, reference))
    high = max(float(x.max()) for x in (gt, lr_hsi, reference))
    if low < 0 or high > 1:
        fail("root", "a tree of values in [0, 1]", f"{low:.4g} to {high:.4g} in {name}")
    # all of it is learned from, or judged by
    whole = Box(0, 0, *gt.shape[2:])
    degraded = Degraded(gt, lr_hsi, camera.see(gt), camera)
    return Source(name, degraded, whole if learned else None, None if learned else whole, (reference,))
