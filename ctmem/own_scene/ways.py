"""What answers the windows of a scene: its recipe alone, or with references laid under it, or all of it by a network.

Source: this project.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from ctmem.own_scene.understanding import AUTO, Understood
from ctmem.own_scene.whole import from_references
from ctmem.raster.raster import Raster
from ctmem.tiling.laying import Laying
from ctmem.tiling.plan import tile_of
from ctmem.tiling.recipe import Recipe, answer
from ctmem.tiling.survey import Survey


@dataclass(frozen=True, eq=False)
class Way:
    """How a scene is answered.

    Args:
        method: its name.
        answer: the pure function that answers a window.
        inputs: what scene and references are recognised by, see `sharpen_to`.
        told: of the references, a line each.
        whole: the scene is one tile.
    """

    method: str
    answer: Callable[..., torch.Tensor]
    inputs: Mapping[str, str]
    told: Sequence[str] = ()
    whole: bool = False

    def tile(self, raster: Raster, tile: int | None) -> int | None:
        """The side of a tile: all of the scene, or what was asked for; None: as the memory allows."""
        return max(raster.height, raster.width) if self.whole else tile

    def of_window(self, recipe: Recipe) -> Callable[[np.ndarray, int, int], torch.Tensor]:
        """The answer to a window of arrays."""
        return lambda window, top, left: self.answer(recipe, torch.from_numpy(window)[None], top=top, left=left)


def way_of(asked: Understood, found: Survey, recipe: Recipe, memory_gb: float | None = None) -> Way:
    """How a scene is answered.

    Args:
        asked: scene, references and method.
        found: what its survey found.
        recipe: of the scene.
        memory_gb: for the whole program; None: what is free.

    Raises:
        ValueError: a scene too large for a method that takes it whole, or references that do not go together.
    """
    scene = {"the scene": found.digest}
    if asked.method == "ctmem":
        most = tile_of(asked.raster.count, answer, scale=asked.scale, halo=recipe.reach, memory_gb=memory_gb)
        answers = from_references(asked.references, asked.raster, most)
        return Way(asked.method, answers, scene | answers.inputs, whole=True)
    plain = Way(recipe.method, answer, scene)
    if not asked.references:
        return plain
    if recipe.method == "bicubic":
        return _said(plain, ["references: not used, as nothing is added to bicubic enlargement here"])
    # references are looked for in windows of the scene; `auto` takes those that were found there
    laying = Laying.of(asked.references, recipe.camera)
    votes, of = laying.votes(recipe, found.samples), len(found.samples)
    told = [_found(name, one, of, asked.method) for name, one in zip(laying.names, votes)]
    if asked.method == AUTO:
        laying = laying.pick([number for number, one in enumerate(votes) if one])
    if not laying.names:
        return _said(plain, told)
    return Way("fusion", laying, scene | laying.inputs, told)


def _said(way: Way, told: list[str]) -> Way:
    """The same way, with what is said of it."""
    return Way(way.method, way.answer, way.inputs, told)


def _found(name: str, votes: int, of: int, method: str) -> str:
    """What is said of a reference after it was looked for."""
    if votes:
        return f"{name}: shows ground of the scene (seen in {votes} of {of} windows), and is laid under it"
    if method == AUTO:
        return f"{name}: other ground in {of} window(s) looked at: not used (--method fusion looks in all tiles)"
    return f"{name}: other ground in {of} window(s) looked at; it is looked for in every tile"
