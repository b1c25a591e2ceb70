"""Stand-ins for tests of tiles: a scene in memory, and a local recipe."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from affine import Affine

from ctmem.holes import enlarged, fill_in, find_holes
from ctmem.observe.camera import Camera
from ctmem.raster.raster import Bands, Raster


@dataclass(frozen=True)
class Memory:
    """Numbers in memory, with a note of what was read."""

    values: np.ndarray
    windows: list = field(default_factory=list)

    def read(self, part, bands):
        self.windows.append(part)
        top, left, height, width = part
        return self.values[list(bands), top : top + height, left : left + width]

    def mask(self, part):
        return None


def raster(values: np.ndarray, good=None, **facts) -> Raster:
    """A scene (C, H, W) in memory; −9999 is no data."""
    bands = Bands(np.ones(len(values), bool) if good is None else np.array(good))
    facts = {"no_data": (-9999.0,), "transform": Affine(30, 0, 5e5, 0, -30, 4e6), **facts}
    return Raster(Path("scene.tif"), Memory(values), *values.shape[1:], values.dtype, bands, **facts)


@dataclass(frozen=True)
class Steps:
    """A recipe: bicubic, and a fixed number of back-projections."""

    camera: Camera
    reach: int = 8
    steps: int = 2
    offset: float = 0.0


def answer(recipe: Steps, lr: torch.Tensor, *, top: int = 0, left: int = 0) -> torch.Tensor:
    """The answer of `Steps`; local: what lies `reach` away does not count, to rounding."""
    holes = find_holes(lr)
    filled = fill_in(lr.clone(), holes)
    up = recipe.camera.upsample(filled)
    pred = recipe.camera.back_project(up, filled, steps=recipe.steps, holes=holes) + recipe.offset
    return pred.masked_fill(enlarged(holes, recipe.camera.scale), torch.nan)


def deviation(recipe: Steps, lr: torch.Tensor) -> torch.Tensor:
    """What back-projection adds, as a stand-in for a standard deviation."""
    return (answer(recipe, lr) - recipe.camera.upsample(fill_in(lr.clone(), find_holes(lr)))).abs()


def scene(height: int = 40, width: int = 52, bands: int = 5, *, holes: bool = False, **facts) -> Raster:
    """Smooth spectra and noise, about 3000; int16."""
    generator = np.random.default_rng(0)
    rows, columns = np.mgrid[:height, :width]
    maps = [np.sin(rows / 5 + columns / 9), np.cos(rows / 7 - columns / 4), ((rows // 9 + columns // 11) % 2) - 0.5]
    mixed = np.einsum("cz,zhw->chw", generator.normal(size=(bands, 3)), np.stack(maps))
    values = (3000 + 500 * mixed + generator.normal(size=mixed.shape) * 10).round().astype(np.int16)
    if holes:
        values[:, 3:9, 4:12] = -9999
        values[2, 20, 20] = -9999
    return raster(values, **facts)
