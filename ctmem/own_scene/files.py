"""A scene of yours, from file to file: inspected, or sharpened.

    print(ctmem.inspect_file("lr.hdr"))
    ctmem.super_resolve_file("lr.hdr", out="sr.tif", scale=3)                    # all else is estimated, and said
    ctmem.super_resolve_file("lr.hdr", ["ref.tif"], out="sr.tif", method="auto")

The scene is read once for its statistics and once in tiles, so its size does not matter. Numbers, type, map, bands and
holes of the file are those of the answer. What is wrong is said before anything is computed or written.

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

from ctmem.card import write_card
from ctmem.checks import Count, Inside, Positive, Whole, check_choice, fail, typed
from ctmem.own_scene.options import (
    METHODS,
    card_path,
    check_bands,
    check_dtype,
    check_outputs,
    check_scale,
    check_size,
    read_noise,
    read_psf,
    read_wavelengths,
    scale_of,
)
from ctmem.own_scene.report import Inspection, card_of, recipe_lines
from ctmem.raster.opening import open_raster
from ctmem.raster.raster import Raster
from ctmem.teaching import progress as bar
from ctmem.tiling.plan import default_memory_gb, estimate, plan_tiles, tile_for
from ctmem.tiling.recipe import Recipe, answer, make_recipe
from ctmem.tiling.run import sharpen_to
from ctmem.tiling.survey import Survey, survey

Say = Callable[[str], Any]
Paths = str | Path | Sequence[str | Path]


@dataclass(frozen=True, eq=False)
class _Understood:
    """A scene and how it is to be sharpened, before its pixels are looked at."""

    raster: Raster
    references: list[Raster]
    scale: int
    why: str
    method: str
    psf: Any
    noise: Any


@typed
def inspect_file(
    path: str | Path,
    references: Inside[Paths] = (),
    *,
    scale: Inside[int | None] = None,
    method: str = "auto",
    psf: Inside[Any] = "auto",
    noise: Inside[Any] = "auto",
    sensor: Inside[Any] = None,
    key: str | None = None,
    axes: str | None = None,
    wavelengths_nm: Inside[Any] = None,
    no_data: float | Sequence[float] | None = None,
    bands: Inside[Sequence[int | str] | None] = None,
    gsd_m: Positive | None = None,
    tile: Count | None = None,
    memory_gb: Positive | None = None,
) -> Inspection:
    """Returns what is understood of a scene: sensor, bands, units, holes, blur, noise, and what sharpening will take.

    Nothing is written. `print` shows it as `ctmem-sr --inspect` does. Arguments are those of `super_resolve_file`.

    Raises:
        FileNotFoundError, OSError, TypeError, ValueError: as `super_resolve_file`.
    """
    reading = {"key": key, "axes": axes, "wavelengths_nm": wavelengths_nm, "no_data": no_data, "gsd_m": gsd_m}
    asked = _understood(path, references, reading, bands, scale, method, psf, noise)
    found, recipe = _recipe(asked)
    plan = plan_tiles(
        asked.raster.height, asked.raster.width, scale=asked.scale, halo=recipe.reach,
        tile=_tile(asked.raster, recipe, tile, memory_gb, 1),
    )  # fmt: skip
    numbers = asked.raster.count * asked.raster.height * asked.raster.width * asked.scale**2
    disk = 2 * numbers * min(asked.raster.dtype.itemsize, 4)  # while it is packed
    cost = estimate(plan, asked.raster, _answers(recipe), disk=disk)
    return Inspection(asked.raster, found, recipe, cost, asked.why)


@typed
def super_resolve_file(
    path: str | Path,
    references: Inside[Paths] = (),
    *,
    out: str | Path,
    scale: Inside[int | None] = None,
    method: str = "auto",
    psf: Inside[Any] = "auto",
    noise: Inside[Any] = "auto",
    sensor: Inside[Any] = None,
    uncertainty: str | Path | None = None,
    dtype: Inside[Any] = None,
    key: str | None = None,
    axes: str | None = None,
    wavelengths_nm: Inside[Any] = None,
    no_data: float | Sequence[float] | None = None,
    bands: Inside[Sequence[int | str] | None] = None,
    gsd_m: Positive | None = None,
    tile: Count | None = None,
    memory_gb: Positive | None = None,
    resume: bool = False,
    overwrite: bool = False,
    dask: Inside[Any] = None,
    seed: Whole = 0,
    progress: Inside[bool | Callable[[int, int], Any]] = True,
    say: Inside[Say | None] = print,
) -> dict[str, Any]:
    """Writes a scene at the fine resolution, and its card beside it; returns the card.

    Args:
        path: the coarse scene, a file or the folder of a product; `file.mat:HSI` names an array. See `open_raster`.
        references: fine images of any ground, one path or several.
        out: the fine scene, ending in .tif, .hdr (ENVI), .mat or .npz. It appears when it is whole.
        scale: 2, 3, 4 or 6; None: that of the first reference whose pixel size is known, or else 4.
        method: "auto" chooses on the scene's own coarser copy; or "prior", "ctmem", "bicubic-bp", "bicubic".
        psf: "auto", the full width at half maximum of the blur in fine pixels, or a text file of its k×k weights.
        noise: "auto", "none", the signal-to-noise ratio in dB, or a text file of deviations, one per band.
        sensor: of the references, where their files do not say their responses: a name, or a text file of them.
        uncertainty: file of the deviation to expect of each value; None: not written.
        dtype: of the numbers written; None: the file's own. Whole numbers are rounded, and saturate at their limits.
        key: as of `open_raster`, like the next three.
        axes: the order of the axes, for files that do not say it.
        wavelengths_nm: centres of the bands in nm, or a text file of them.
        no_data: values that mean "nothing here".
        bands: these alone, by name or number (from 0): of the references, or without any of the scene.
        gsd_m: metres from pixel to pixel of the scene.
        tile: side of a tile, coarse pixels; None: by the memory.
        memory_gb: for the whole program; None: 3, or half of what is free.
        resume: go on with an answer that was stopped, which must be the same in everything.
        overwrite: replace what is there, once the new file is whole.
        dask: a Dask client, the address of a scheduler, or "local".
        seed: of what is random.
        progress: a bar; or a function (tiles done, tiles in all); False: neither.
        say: is handed lines on what was found and chosen; None: nothing is said.

    Raises:
        FileNotFoundError: no such file.
        FileExistsError: the output is there, without `overwrite`.
        ValueError: a file that cannot be read, a scale without weights, a scene of holes only, or one smaller than 12
            pixels; arguments that do not fit.
        OSError: a folder that cannot be written, a disk that is too small.
        KeyboardInterrupt: stopped; says how to go on.
    """
    path, out, spread = Path(path), Path(out), None if uncertainty is None else Path(uncertainty)
    check_outputs(path, out, spread, overwrite=overwrite, resume=resume)
    check_dtype(dtype)
    reading = {"key": key, "axes": axes, "wavelengths_nm": wavelengths_nm, "no_data": no_data, "gsd_m": gsd_m}
    asked = _understood(path, references, reading, bands, scale, method, psf, noise)
    tell: Say = (lambda line: None) if say is None else say
    # what the whole scene says, once
    found, recipe = _recipe(asked, seed)
    tell(f"×{asked.scale} ({asked.why})")
    for name, text in recipe_lines(recipe, found, asked.raster):
        tell(f"{name}: {text}")
    # tiles, into files that appear when they are whole
    with _shown(progress) as shown, _workers(dask) as workers:
        done = sharpen_to(
            out, asked.raster, recipe, digest=found.digest, spread_out=spread, dtype=dtype, overwrite=overwrite,
            resume=resume, tile=tile, memory_gb=memory_gb, progress=shown, workers=workers,
        )  # fmt: skip
    # the card
    told = {"scale": scale, "method": method, "psf": str(psf), "noise": str(noise), "out": out.name}
    output = {"file": out.name, "tiles": len(done.plan.tiles)} | done.counts
    output |= {"uncertainty": None if spread is None else spread.name}
    return write_card(card_of(asked.raster, found, recipe, told=told, output=output), card_path(out))


# --- in steps ---------------------------------------------------------------------------------------------------------


def _understood(
    path: str | Path, references: Paths, reading: dict[str, Any], bands: Any, scale: Any, method: str, psf: Any,
    noise: Any,
) -> _Understood:  # fmt: skip
    """Opens the files, and checks what was told; no pixel is looked at."""
    check_choice(method, "method", METHODS)
    if scale is not None:
        scale = check_scale(scale, method)
    reading["wavelengths_nm"] = read_wavelengths(reading["wavelengths_nm"])
    paths = [references] if isinstance(references, str | Path) else list(references)
    raster = open_raster(path, bands=None if paths else bands, **reading)
    check_size(raster)
    others = [open_raster(one, bands=bands) for one in paths]
    why = "as asked for"
    if scale is None:
        scale, why = scale_of(raster, others, method)
    if method == "ctmem" and not others:
        fail("references", "at least one fine image, for the method 'ctmem'", "none")
    return _Understood(
        raster, others, scale, why, method, read_psf(psf, scale), read_noise(noise, raster.count)
    )  # fmt: skip


def _recipe(asked: _Understood, seed: int = 0, progress: Any = None) -> tuple[Survey, Recipe]:
    """Reads the scene once, and works out how it is sharpened."""
    with _of_the_file():
        check_bands(asked.raster)
        found = survey(asked.raster, progress=progress)
    method = "prior" if asked.method == "auto" else asked.method
    with _of_the_file():
        recipe = make_recipe(found, scale=asked.scale, method=method, psf=asked.psf, noise=asked.noise, seed=seed)
    return found, recipe


@contextlib.contextmanager
def _of_the_file() -> Iterator[None]:
    """What is wrong with the scene is wrong with `path`, the argument that the caller knows."""
    try:
        yield
    except ValueError as error:
        text = re.sub(r"^`(raster|survey)` must be of a scene", "`path` must be a scene", str(error))
        raise ValueError(re.sub(r"^`(raster|survey)`", "`path`", text)) from error


def _answers(recipe: Recipe) -> Callable[[np.ndarray, int, int], torch.Tensor]:
    """The answer to a window of arrays."""
    return lambda window, top, left: answer(recipe, torch.from_numpy(window)[None], top=top, left=left)


def _tile(raster: Raster, recipe: Recipe, tile: int | None, memory_gb: float | None, images: int) -> int:
    """The side of a tile, as `sharpen` chooses it."""
    if tile is not None:
        return tile
    memory = memory_gb or default_memory_gb()
    return tile_for(raster.count, scale=recipe.camera.scale, halo=recipe.reach, memory_gb=memory, images=images)


@contextlib.contextmanager
def _workers(dask: Any) -> Iterator[Any]:
    """What answers the tiles: None is this process, "local" a cluster on this machine."""
    if dask != "local":
        yield dask
        return
    try:
        import distributed  # noqa: PLC0415  (an extra)
    except ModuleNotFoundError:
        fail("dask", "left out, or Dask be installed: pip install 'ctmem[dask]'", "neither", ModuleNotFoundError)
    with distributed.LocalCluster(dashboard_address=None) as cluster:
        yield cluster


@contextlib.contextmanager
def _shown(progress: bool | Callable[[int, int], Any]) -> Iterator[Callable[[int, int], Any] | None]:
    """What is called after each tile: a bar, or what the caller gave."""
    if callable(progress):
        yield progress
        return
    if not progress:
        yield None
        return
    with bar(range(0), "tiles", total=1) as shown:

        def move(done: int, total: int) -> None:
            shown.total = total
            shown.update(done - shown.n)

        yield move
