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
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from ctmem.card import write_card
from ctmem.checks import Count, Inside, Positive, Whole, fail, typed
from ctmem.own_scene.options import card_path, check_dtype, check_outputs
from ctmem.own_scene.report import Inspection, card_of, recipe_lines
from ctmem.own_scene.understanding import Paths, Understood, paths_of, recipe_of, understood
from ctmem.own_scene.ways import Way, way_of
from ctmem.teaching import progress as bar
from ctmem.tiling.plan import estimate, plan_tiles, tile_of
from ctmem.tiling.recipe import Recipe
from ctmem.tiling.run import sharpen_to
from ctmem.tiling.survey import Survey

Say = Callable[[str], Any]


@typed
def inspect_file(
    path: str | Path,
    references: Paths = (),
    *,
    scale: Inside[int | None] = None,
    method: str = "auto",
    psf: Inside[Any] = "auto",
    noise: Inside[Any] = "auto",
    sensor: str | Path | None = None,
    key: str | None = None,
    axes: str | None = None,
    wavelengths_nm: Inside[Any] = None,
    no_data: float | Sequence[float] | None = None,
    bands: Sequence[int | str] | None = None,
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
    asked = understood(path, references, reading, bands, scale, method, psf, noise, sensor)
    found, recipe = recipe_of(asked)
    way = way_of(asked, found, recipe, memory_gb)
    height, width = asked.raster.height, asked.raster.width
    room = {"scale": asked.scale, "halo": recipe.reach}
    tile = way.tile(asked.raster, tile) or tile_of(asked.raster.count, way.answer, memory_gb=memory_gb, **room)
    plan = plan_tiles(height, width, tile=tile, **room)
    numbers = asked.raster.count * height * width * asked.scale**2
    disk = 2 * numbers * min(asked.raster.dtype.itemsize, 4)  # while it is packed
    cost = estimate(plan, asked.raster, way.of_window(recipe), disk=disk)
    return Inspection(asked.raster, found, recipe, cost, asked.why, (*asked.told, *way.told), way.answer)


@typed
def super_resolve_file(
    path: str | Path,
    references: Paths = (),
    *,
    out: str | Path,
    scale: Inside[int | None] = None,
    method: str = "auto",
    psf: Inside[Any] = "auto",
    noise: Inside[Any] = "auto",
    sensor: str | Path | None = None,
    uncertainty: str | Path | None = None,
    dtype: Inside[Any] = None,
    key: str | None = None,
    axes: str | None = None,
    wavelengths_nm: Inside[Any] = None,
    no_data: float | Sequence[float] | None = None,
    bands: Sequence[int | str] | None = None,
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
        references: fine images, one path or several; used where they show the same ground,
            shifted, mirrored or in quarter turns.
        out: the fine scene, ending in .tif, .hdr (ENVI), .mat or .npz. It appears when it is whole.
        scale: 2, 3, 4 or 6; None: that of the first reference whose pixel size is known, or else 4.
        method: "auto" chooses on the scene's own coarser copy, and lays references under it where they show the same
            ground; or "fusion" (looks for them in all tiles), "prior", "ctmem", "bicubic-bp", "bicubic".
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
        memory_gb: for the whole program; None: 3.5, or half of what is free.
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
    asked = understood(path, references, reading, bands, scale, method, psf, noise, sensor)
    tell: Say = (lambda line: None) if say is None else say
    # what the whole scene says, once
    found, recipe = recipe_of(asked, seed)
    way = way_of(asked, found, recipe, memory_gb)
    for line in _lines(asked, way, recipe, found):
        tell(line)
    if spread is not None and (way.whole or recipe.spread is None):
        fail("uncertainty", "left out for the method 'ctmem' and for scenes too small to learn it from", spread.name)
    # tiles, into files that appear when they are whole
    with _shown(progress) as shown, _workers(dask) as workers:
        done = sharpen_to(
            out, asked.raster, recipe, inputs=way.inputs, answer=way.answer, spread_out=spread, dtype=dtype,
            overwrite=overwrite, resume=resume, memory_gb=memory_gb, progress=shown, workers=workers,
            tile=way.tile(asked.raster, tile),
        )  # fmt: skip
    # the card
    told = {"scale": scale, "method": asked.method, "psf": _name(psf), "noise": _name(noise), "sensor": _name(sensor)}
    told["references"] = [Path(one).name for one in paths_of(references)]
    output = {"file": out.name, "tiles": len(done.plan.tiles)} | done.counts
    output |= {"uncertainty": None if spread is None else spread.name}
    card = card_of(asked.raster, found, recipe, told=told, output=output) | {
        "method": way.method,
        "references": list(way.told),
    }
    return write_card(card, card_path(out))


# --- in steps ---------------------------------------------------------------------------------------------------------


def _lines(asked: Understood, way: Way, recipe: Recipe, found: Survey) -> Iterator[str]:
    """What is said before the tiles."""
    yield f"scale: ×{asked.scale} ({asked.why})"
    yield from asked.told
    yield from way.told
    for name, text in recipe_lines(recipe, found, asked.raster):
        if name != "method" or not way.whole:
            yield f"{name}: {text}"


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


def _name(told: Any) -> Any:
    """What was told, for the card: of a path its name."""
    return Path(told).name if isinstance(told, Path) or (isinstance(told, str) and "/" in told) else told
