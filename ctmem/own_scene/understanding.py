"""What is understood of a scene before it is sharpened.

Its files are opened, and what was told is checked; then the pixels are read once.

Source: this project.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ctmem.checks import check_choice, fail
from ctmem.own_scene.options import (
    BY_REFERENCES,
    METHODS,
    check_scale,
    check_size,
    read_noise,
    read_psf,
    read_wavelengths,
    scale_of,
)
from ctmem.own_scene.references import at_most, check_large, check_sensor, fitted
from ctmem.raster.checking import flag_empty_bands
from ctmem.raster.opening import open_raster
from ctmem.raster.raster import Raster
from ctmem.tiling.recipe import Recipe, make_recipe
from ctmem.tiling.references import Reference
from ctmem.tiling.survey import Survey, survey

Paths = str | Path | Sequence[str | Path]
AUTO = "auto"
MOST_BANDS = 12  # of a reference that is laid: memory and time grow with their square


@dataclass(frozen=True, eq=False)
class Understood:
    """A scene and how it is to be sharpened, before its pixels are looked at."""

    raster: Raster
    references: list[Reference]  # that are fit for the method
    scale: int
    why: str
    method: str
    psf: Any
    noise: Any
    told: list[str]  # of the references


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
    if method in BY_REFERENCES and not others:
        fail("references", f"at least one fine image, for the method {method!r}", "none")
    fine, told = _fit(others, raster, scale, method, sensor)
    return Understood(
        raster, fine, scale, why, method, read_psf(psf, scale), read_noise(noise, raster.count), told
    )  # fmt: skip


def _fit(
    others: Sequence[Raster], scene: Raster, scale: int, method: str, sensor: Any
) -> tuple[list[Reference], list[str]]:
    """The references that are fit for the method, and what is to be said; `auto` goes without the others."""
    if others and method not in (*BY_REFERENCES, AUTO):
        return [], [f"references: not used but for the scale (method {method!r} takes nothing from them)"]
    fine, told = [], []
    for number, other in enumerate(others):
        try:
            with called(f"references[{number}]"):
                found = fitted(other, scene, scale=scale, sensor=sensor)
                if method != "ctmem":
                    check_large(found, scale)
        except ValueError as error:
            if method != AUTO:
                raise
            told.append(f"{other.path.name}: not used: {error}")
            continue
        found = found if method == "ctmem" else at_most(found, MOST_BANDS)
        fine.append(found)
        told += found.told
    return fine, told


def paths_of(references: Paths) -> list[str | Path]:
    """One path or several, as a list."""
    return [references] if isinstance(references, str | Path) else list(references)


def recipe_of(asked: Understood, seed: int = 0, progress: Any = None) -> tuple[Survey, Recipe]:
    """Reads the scene once, and works out how it is sharpened."""
    with called("path"):
        found = survey(asked.raster, progress=progress)
    method = {"ctmem": "bicubic-bp", "fusion": "prior"}.get(asked.method, asked.method)
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
        raise type(error)(re.sub(r"^`(path|raster|survey|image|references)`", f"`{name}`", text)) from error
