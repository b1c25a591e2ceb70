"""What a tile's answer is made of, for this process and any other: the scene, the recipe, and the plan.

Source: this project.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from ctmem.checks import Count, Inside, typed
from ctmem.raster.raster import Raster
from ctmem.tiling.plan import Plan, Tile

Answer = Callable[..., torch.Tensor]  # (recipe, lr (1, C, h, w), *, top, left) → (1, C, H, W)
Deviation = Callable[..., torch.Tensor]  # (recipe, lr) → (1, C, H, W), the standard deviation of each value


@typed
@dataclass(frozen=True, eq=False)
class Work:
    """All that a tile's answer depends on; it can be sent to another process.

    Args:
        raster: the coarse scene.
        recipe: how it is answered.
        plan: its tiles.
        answer: the pure function.
        deviation: one more, for a second image; None: there is none.
        threads: of torch, on whatever machine: another number may round otherwise.
    """

    raster: Raster
    recipe: Inside[Any]
    plan: Plan
    answer: Answer
    deviation: Deviation | None = None
    threads: Count = field(default_factory=torch.get_num_threads)

    @property
    def images(self) -> int:
        """How many there are of a tile."""
        return 1 if self.deviation is None else 2

    @typed
    def shape(self, tile: Tile) -> tuple[int, int, int, int]:
        """Of a tile's answer: (images, C, H, W)."""
        scale = self.plan.scale
        return self.images, self.raster.count, scale * tile.inner.height, scale * tile.inner.width

    @typed
    def of_tile(self, tile: Tile) -> np.ndarray:
        """The answer of a tile without its halo, (images, C, H, W) float32, NaN in holes."""
        window, inner, scale = tile.window, tile.inner, self.plan.scale
        values = self.raster.window(*window)
        top, left = inner.top - window.top, inner.left - window.left
        own = values[:, top : top + inner.height, left : left + inner.width]
        if not np.isfinite(own).any():  # holes alone: nothing to compute
            return np.full(self.shape(tile), np.nan, np.float32)
        rows, columns = (slice(scale * at, scale * (at + n)) for at, n in ((top, inner.height), (left, inner.width)))
        images = self.of_window(values, window.top, window.left)
        return np.stack([image[0, :, rows, columns].numpy() for image in images])

    @typed
    def of_window(self, values: np.ndarray, top: int, left: int) -> Sequence[torch.Tensor]:
        """The images (1, C, scale·h, scale·w) of a window (C, h, w) whose first pixel is (top, left)."""
        lr = torch.from_numpy(values)[None]
        with _threads(self.threads):
            found = [self.answer(self.recipe, lr, top=top, left=left)]
            if self.deviation is not None:
                found.append(self.deviation(self.recipe, lr))
        return found

    @typed
    def each(self, tiles: Sequence[Tile]) -> Generator[tuple[Tile, np.ndarray], None, None]:
        """Tiles and their answers, one after the other, in this process."""
        for tile in tiles:
            yield tile, self.of_tile(tile)


@contextlib.contextmanager
def _threads(count: int) -> Iterator[None]:
    """Torch with so many threads, afterwards with as many as before."""
    before = torch.get_num_threads()
    if count == before:
        yield
        return
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
