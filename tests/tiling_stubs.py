"""Stand-ins for tests of tiles: a scene in memory or in a raw file, a local recipe, a writer into an array."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch

from ctmem.holes import enlarged, fill_in, find_holes
from ctmem.observe.camera import Camera


@dataclass
class Scene:
    """A scene (C, H, W) of an array, with the fields of a raster."""

    values: np.ndarray
    good: np.ndarray | None = None
    no_data: tuple[float, ...] = (-9999.0,)
    block: tuple[int, int] = (1, 1)
    path: Path = Path("scene.tif")
    read: list = field(default_factory=list)

    def __post_init__(self):
        self.count, self.height, self.width = self.values.shape
        self.dtype = self.values.dtype
        self.bands = SimpleNamespace(good=np.ones(self.count, bool) if self.good is None else np.array(self.good))

    def window(self, top, left, height, width):
        assert top >= 0 and left >= 0 and top + height <= self.height and left + width <= self.width
        self.read.append((top, left, height, width))
        found = self.values[:, top : top + height, left : left + width].astype(np.float32)
        missing = ~np.isfinite(found) | np.isin(found, self.no_data)
        found[:, missing[self.bands.good].any(0)] = np.nan
        return found


@dataclass(frozen=True)
class Steps:
    """A recipe: bicubic, and a fixed number of back-projections."""

    camera: Camera
    reach: int = 8
    steps: int = 2
    offset: float = 0.0


def answer(recipe: Steps, lr: torch.Tensor, *, top: int = 0, left: int = 0, uncertainty: bool = False):
    """The answer of `Steps`; local: what lies `reach` away does not count, to rounding."""
    holes = find_holes(lr)
    filled = fill_in(lr.clone(), holes)
    up = recipe.camera.upsample(filled)
    pred = recipe.camera.back_project(up, filled, steps=recipe.steps, holes=holes) + recipe.offset
    gone = enlarged(holes, recipe.camera.scale)
    pred = pred.masked_fill(gone, torch.nan)
    return (pred, (pred - up).abs()) if uncertainty else pred


class Array:
    """A writer into memory; it notes what it was handed, and in which order."""

    def __init__(self, folder: Path, shape: tuple[int, int, int], block: tuple[int, int] = (16, 16)):
        self.path, self.block = folder / "out.tif", block
        self.values = np.full(shape, -1, np.float32)
        self.seen = np.zeros(shape[1:], int)

    def write(self, values, top, left):
        rows, columns = slice(top, top + values.shape[1]), slice(left, left + values.shape[2])
        self.values[:, rows, columns] = values
        self.seen[rows, columns] += 1


def scene(height: int = 40, width: int = 52, bands: int = 5, *, holes: bool = False) -> Scene:
    """Smooth spectra and noise, about 3000; int16."""
    generator = np.random.default_rng(0)
    rows, columns = np.mgrid[:height, :width]
    maps = [np.sin(rows / 5 + columns / 9), np.cos(rows / 7 - columns / 4), ((rows // 9 + columns // 11) % 2) - 0.5]
    mixed = np.einsum("cz,zhw->chw", generator.normal(size=(bands, 3)), np.stack(maps))
    values = (3000 + 500 * mixed + generator.normal(size=mixed.shape) * 10).round().astype(np.int16)
    if holes:
        values[:, 3:9, 4:12] = -9999
        values[2, 20, 20] = -9999
    return Scene(values)
