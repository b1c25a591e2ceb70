"""What is understood of a scene before it is sharpened.

Its files are opened, and what was told is checked; then the pixels are read once.

Source: this project.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ctmem.checks import check_choice, fail
from ctmem.own_scene.options import (
    METHODS,
    check_scale,
    check_size,
    read_noise,
    read_psf,
    read_wavelengths,
    scale_of,
)
from ctmem.own_scene.references import check_sensor, fitted
from ctmem.raster.checking import flag_empty_bands
from ctmem.raster.opening import open_raster
from ctmem.raster.raster import Raster
from ctmem.tiling.plan import default_memory_gb, tile_for
from ctmem.tiling.recipe import Recipe, answer, make_recipe
from ctmem.tiling.references import Reference
from ctmem.tiling.survey import Survey, survey

Paths = str | Path | Sequence[str | Path]


@dataclass(frozen=True, eq=False)
class Understood:
    """A scene and how it is to be sharpened, before its pixels are looked at."""

    raster: Raster
    references: list[Reference]
    scale: int
    why: str
    method: str
    psf: Any
    noise: Any
    unused: bool  # references were given, and only their pixels' size counts


def understood(
    path: str | Path, references: Paths, reading: dict[str, Any], bands: Any, scale: Any, method: str, psf: Any,
    noise: Any, sensor: Any,
) -> Understood:  # fmt: skip
    """Opens the files, and checks what was told; a few windows are looked at, for bands without any data."""
    check_choice(method, "method", METHODS)
    if scale is not None:
        scale = check_scale(scale, method)
    check_sensor(sensor)
    reading["wavelengths_nm"] = read_wavelengths(reading["wavelengths_nm"])
    paths = paths_of(references)
    raster = open_raster(path, bands=None if paths else bands, **reading)
    check_size(raster)
    raster = flag_empty_bands(raster)
    others = []
    for number, one in enumerate(paths):
        with called(f"references[{number}]"):
            others.append(open_raster(one, bands=bands))
    why = "as asked for"
    if scale is None:
        scale, why = scale_of(raster, others, method)
    if method == "ctmem" and not others:
        fail("references", "at least one fine image, for the method 'ctmem'", "none")
    fine = []
    for number, other in enumerate(others if method == "ctmem" else []):
        with called(f"references[{number}]"):
            fine.append(fitted(other, raster, scale=scale, sensor=sensor))
    unused = bool(others) and not fine
    return Understood(
        raster, fine, scale, why, method, read_psf(psf, scale), read_noise(noise, raster.count), unused
    )  # fmt: skip


def paths_of(references: Paths) -> list[str | Path]:
    """One path or several, as a list."""
    return [references] if isinstance(references, str | Path) else list(references)


def recipe_of(asked: Understood, seed: int = 0, progress: Any = None) -> tuple[Survey, Recipe]:
    """Reads the scene once, and works out how it is sharpened."""
    with called("path"):
        found = survey(asked.raster, progress=progress)
    method = "bicubic-bp" if asked.method == "ctmem" else asked.method
    with called("path"):
        recipe = make_recipe(found, scale=asked.scale, method=method, psf=asked.psf, noise=asked.noise, seed=seed)
    return found, recipe


@contextlib.contextmanager
def called(name: str) -> Iterator[None]:
    """What is wrong with a file is wrong with the argument that the caller knows."""
    try:
        yield
    except (OSError, ValueError) as error:
        text = re.sub(r"^`(raster|survey)` must be of a scene", "`path` must be a scene", str(error))
        raise type(error)(re.sub(r"^`(path|raster|survey|image)`", f"`{name}`", text)) from error


def answers_of(recipe: Recipe) -> Callable[[np.ndarray, int, int], torch.Tensor]:
    """The answer to a window of arrays."""
    return lambda window, top, left: answer(recipe, torch.from_numpy(window)[None], top=top, left=left)


def tile_of(raster: Raster, recipe: Recipe, tile: int | None, memory_gb: float | None, images: int) -> int:
    """The side of a tile, as `sharpen` chooses it."""
    if tile is not None:
        return tile
    memory = memory_gb or default_memory_gb()
    return tile_for(raster.count, scale=recipe.camera.scale, halo=recipe.reach, memory_gb=memory, images=images)
