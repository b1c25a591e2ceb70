"""A scene of any size, tile by tile through one pure function, to one file; interrupted, it goes on where it was.

    found = survey(raster)
    done = sharpen_to("sr.tif", raster, make_recipe(found, scale=4), inputs={"the scene": found.digest})

A tile's answer depends on its window and the recipe alone, so order, interruptions and workers change no byte. While
the run lasts there is `.sr.tif.unfinished` (`ctmem.raster.writing`), and beside it a journal of the tiles that are in
it; `sr.tif` appears when it is whole.

Source: this project.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ctmem.checks import Count, Inside, Positive, Repeats, fail, typed
from ctmem.lock import locked
from ctmem.prior import shipped_prior
from ctmem.raster.packing import FORMS, companions, settle
from ctmem.raster.raster import Raster
from ctmem.raster.writing import create_raster
from ctmem.tiling.answering import Recipe
from ctmem.tiling.answering import answer as answer_tile
from ctmem.tiling.answering import deviation as deviation_of
from ctmem.tiling.journal import Journal, check_run, finished_in, option_in, run_of, tiles_in
from ctmem.tiling.parallel import each_by_workers
from ctmem.tiling.plan import GB, Plan, check_disk, plan_tiles, tile_of
from ctmem.tiling.work import Answer, Deviation, Work

Progress = Callable[[int, int], Any]  # (tiles done, tiles in all)
FULL = (errno.ENOSPC, errno.EDQUOT)


@dataclass(frozen=True)
class Done:
    """What a run did.

    Args:
        plan: its tiles.
        kept_before: how many of them were there before.
        counts: what was counted in all of them: pixels, holes, and what saturated or moved (`writing.Counts`).
    """

    plan: Plan
    kept_before: int
    counts: dict[str, int]


@typed
def sharpen_to(
    out: str | Path,
    raster: Raster,
    recipe: Inside[Recipe],
    *,
    inputs: Mapping[str, str],
    spread_out: str | Path | None = None,
    dtype: Inside[Any] = None,
    overwrite: bool = False,
    resume: bool = False,
    tile: Count | None = None,
    halo: Repeats | None = None,
    memory_gb: Positive | None = None,
    answer: Answer = answer_tile,
    deviation: Deviation = deviation_of,
    progress: Progress | None = None,
    workers: Inside[Any] = None,
) -> Done:
    """Writes the answer of a whole scene to a file, which is there when it is whole.

    Args:
        out: the file; its ending says its form, see `create_raster`.
        raster: the coarse scene.
        recipe: of `make_recipe`.
        inputs: what a message calls an input ("the scene") → its digest: a run goes on only with the same.
        spread_out: a second file, for the standard deviation of each value, float32; None: it is not asked for.
        dtype: of the numbers in `out`; None: that of `raster`.
        overwrite: files that are there may be replaced.
        resume: go on with a run that was stopped, if there is one.
        tile: side of a tile, coarse pixels; None: as large as the memory allows.
        halo: coarse pixels around it; None: as the recipe says.
        memory_gb: what the process may take; None: see `default_memory_gb`.
        answer: the pure function that answers a window.
        deviation: the one for `spread_out`.
        progress: called with (tiles done, tiles in all) at the start and after each tile.
        workers: a dask client, or the address of a scheduler, whose workers answer the tiles; None: this process.

    Raises:
        FileExistsError: an output is there.
        ValueError: no input, too little memory for a tile, `resume` of another run, or what `create_raster` refuses.
        BlockingIOError: another process writes the same output.
        OSError: a disk that is full, or too small; what was answered is kept.
        KeyboardInterrupt: stopped; says what is kept.
    """
    if not (dataclasses.is_dataclass(recipe) and hasattr(recipe, "camera") and hasattr(recipe, "reach")):
        fail("recipe", "a recipe, as `make_recipe` returns it", type(recipe).__name__, TypeError)
    if not inputs:
        fail("inputs", "a dict with at least one digest", "an empty one")
    outs = {Path(one): kind for one, kind in ((out, dtype), (spread_out, np.float32)) if one is not None}
    parts = [unfinished(one) for one in outs]
    if len(set(parts)) < 1 + (spread_out is not None):
        fail("spread_out", "another file than `out`", str(spread_out))
    path = parts[0].with_suffix(".journal")
    if tile is None and resume:  # the memory that is free may be other than it was
        tile = option_in(path, "tile")
    second = None if spread_out is None else deviation
    plan = _plan(raster, recipe, answer, len(parts), tile, halo, memory_gb)
    work = Work(raster, recipe, plan, answer, second)
    run = run_of(inputs, recipe, _options(work, dtype), shipped_prior())
    with locked(path.parent, f"{path.stem}.lock", what="out"), _nothing_begun([*parts, path]):
        # the journal first: it never lists a tile of a file that is begun again
        whole = [*finished_in(path), *(one.name for one in outs if settle(one))] if resume else []
        left = {one: kind for one, kind in outs.items() if one.name not in whole or not _is_there(one)}
        kept = resume and all(unfinished(one).exists() for one in left)
        if kept:
            check_run(path, run)
        else:
            path.unlink(missing_ok=True)
            left = outs
        writers = [
            create_raster(one, raster, scale=work.plan.scale, dtype=kind, overwrite=overwrite, keep=True, resume=kept)
            for one, kind in left.items()
        ]
        journal = Journal(path, run, resume=kept)
        done = _answer_all(work, writers, journal, progress, workers)
        for one, writer in zip(left, writers):
            writer.finish()
            journal.finish(one.name)
        path.unlink()
    return done


def _is_there(out: Path) -> bool:
    """Whether all files of an output are."""
    return all(one.exists() for one in companions(out))


@typed
def unfinished(out: str | Path) -> Path:
    """Where the numbers of an output are until it is whole, see `ctmem.raster.writing`; its journal is beside it.

    Raises:
        ValueError: an unknown ending.

    Example:
        >>> unfinished("sr.tif").name, unfinished("sr.hdr").name
        ('.sr.tif.unfinished', '.sr.img.unfinished')
    """
    if Path(out).suffix.lower() not in FORMS:
        fail("out", "a name that ends in " + ", ".join(FORMS), Path(out).name)
    path = companions(Path(out))[0]
    return path.with_name(f".{path.name}.unfinished")


def _plan(
    raster: Raster, recipe: Recipe, answer: Answer, images: int, tile: int | None, halo: int | None,
    memory_gb: float | None,
) -> Plan:  # fmt: skip
    """The tiles, as large as the memory allows where nothing else is said."""
    room = {"scale": recipe.camera.scale, "halo": recipe.reach if halo is None else halo}
    if tile is None:
        tile = tile_of(raster.count, answer, memory_gb=memory_gb, images=images, **room)
    return plan_tiles(raster.height, raster.width, tile=tile, **room)


def _options(work: Work, dtype: Any) -> dict[str, object]:
    """The settings that change bytes."""
    plan = work.plan
    size = [work.raster.count, plan.height, plan.width]
    kind: str | None = None
    if dtype is not None:
        with contextlib.suppress(TypeError):  # `create_raster` says so
            kind = str(np.dtype(dtype))
    return {
        "scale": plan.scale,
        "tile": plan.tile,
        "halo": plan.halo,
        "images": work.images,
        "size": size,
        "dtype": kind,
    }


def _answer_all(work: Work, writers: Sequence[Any], journal: Journal, progress: Progress | None, workers: Any) -> Done:
    """Answers and writes all tiles that are not in the journal."""
    plan, scale = work.plan, work.plan.scale
    check_disk(journal.path.parent, sum(writer.needed - _allocated(writer.part) for writer in writers))
    left = [tile for tile in plan.tiles if tile.number not in journal.done]
    before = len(journal.done)
    if progress is not None:
        progress(before, len(plan.tiles))
    answers = work.each(left) if workers is None else each_by_workers(work, left, workers)
    with _saying(journal, len(plan.tiles)), _shut_on_error(writers), contextlib.closing(answers):
        for tile, images in answers:
            place = scale * tile.inner.top, scale * tile.inner.left
            counted = [writer.write(image, *place) for writer, image in zip(writers, images)]
            for writer in writers:
                writer.flush()
            journal.add(tile.number, dataclasses.asdict(counted[0]))
            if progress is not None:
                progress(len(journal.done), len(plan.tiles))
    return Done(plan, before, journal.counts())


@contextlib.contextmanager
def _shut_on_error(writers: Sequence[Any]) -> Iterator[None]:
    """Closes what is unfinished when something goes wrong, and leaves it where it is."""
    try:
        yield
    except BaseException:
        for writer in writers:
            writer.file.close()
        raise


def _allocated(path: Path) -> int:
    """Bytes that a file has on the disk, without those that were never written."""
    return 512 * getattr(path.stat(), "st_blocks", 0)


@contextlib.contextmanager
def _nothing_begun(paths: Sequence[Path]) -> Iterator[None]:
    """Leaves no files of a run that did not come to its first tile; the last path is that of its journal."""
    try:
        yield
    except BaseException:
        if not tiles_in(paths[-1]):
            for path in paths:
                path.unlink(missing_ok=True)
        raise


@contextlib.contextmanager
def _saying(journal: Journal, tiles: int) -> Iterator[None]:
    """Says what is kept where a run is stopped, or the disk is full."""
    kept = "{} of {} tiles are kept, and `resume` (--resume) goes on with them"
    try:
        yield
    except KeyboardInterrupt:
        raise KeyboardInterrupt(f"stopped; {kept.format(len(journal.done), tiles)}") from None
    except OSError as error:
        if error.errno not in FULL:
            raise
        free = f"{shutil.disk_usage(journal.path.parent).free / GB:.2g} GB free"
        text = f"got {free}; make room: {kept.format(len(journal.done), tiles)}"
        clear = OSError(f"`out` must be on a disk that has room for it, {text}")
        clear.errno = error.errno
        raise clear from error
