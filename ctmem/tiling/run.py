"""A scene of any size, tile by tile through one pure function, to one writer; interrupted, it goes on where it was.

    with create_raster("sr.tif", raster, scale=4) as writer:
        done = sharpen(raster, recipe, writer, digest=found.digest)
    done.journal.forget()                                       # once the output is where it belongs

A tile's answer depends on its window and the recipe alone, so order, interruptions and workers change no byte. Answers
are kept beside the output (`ctmem.tiling.journal`) until all are there, and then written in the order of its blocks.

Source: this project.
"""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from ctmem.checks import Count, Inside, Positive, Repeats, typed
from ctmem.lock import locked
from ctmem.tiling.journal import Journal, run_of
from ctmem.tiling.parallel import each_by_workers
from ctmem.tiling.plan import (
    Box,
    Plan,
    Windows,
    check_disk,
    default_memory_gb,
    disk_bytes,
    plan_tiles,
    tile_for,
    windows,
)
from ctmem.tiling.work import Answer, Work

Progress = Callable[[int, int], Any]  # (tiles done, tiles in all)
BLOCK = (256, 256)  # of an output that does not say what it writes at once
FULL = (errno.ENOSPC, errno.EDQUOT)


class Writer(Protocol):
    """What is needed of a writer here; `block`, (rows, columns) that it writes at once, and `dtype` if it has them."""

    @property
    def path(self) -> Path:
        """Where the output will be."""

    def write(self, values: np.ndarray, top: int, left: int) -> Any:
        """Takes a window (C, h, w) float32 of the fine image, NaN in holes."""


@dataclass(frozen=True)
class Done:
    """What a run did: its plan, how many tiles were there before, and the journal, which is still to be forgotten."""

    plan: Plan
    kept_before: int
    journal: Journal


@typed
def sharpen(
    raster: Inside[Windows],
    recipe: Inside[Any],
    writer: Inside[Writer],
    *,
    answer: Answer,
    digest: str = "",
    spread: Inside[Writer | None] = None,
    tile: Count | None = None,
    halo: Repeats | None = None,
    memory_gb: Positive | None = None,
    journal: str | Path | None = None,
    resume: bool = False,
    progress: Inside[Progress | None] = None,
    workers: Inside[Any] = None,
) -> Done:
    """Writes the answer of a whole scene.

    Args:
        raster: the coarse scene.
        recipe: of `make_recipe`.
        writer: of the fine image, `scale` times as large.
        answer: the pure function that answers a window.
        digest: of the input, as its survey has it: a run goes on only with the same.
        spread: writer of the standard deviation of each value; None: it is not asked for.
        tile: side of a tile, coarse pixels; None: as large as the memory allows.
        halo: coarse pixels around it; None: as the recipe says.
        memory_gb: what the process may take; None: see `default_memory_gb`.
        journal: folder of the parts; None: a hidden one beside the output.
        resume: go on with a run that was stopped, if there is one.
        progress: called with (tiles done, tiles in all) at the start and after each tile.
        workers: a dask client, or the address of a scheduler, whose workers answer the tiles; None: this process.

    Raises:
        ValueError: too little memory for a tile, or `resume` of another run.
        BlockingIOError: another process writes the same output.
        OSError: a disk that is full, or too small; what was answered is kept.
        KeyboardInterrupt: stopped; says what is kept.
    """
    work = _work(raster, recipe, answer, images=1 if spread is None else 2, tile=tile, halo=halo, memory_gb=memory_gb)
    writers = [writer] if spread is None else [writer, spread]
    folder = parts_folder(writer.path) if journal is None else Path(journal)
    with locked(folder, what="out"):
        kept = Journal.begin(folder, run_of(digest, recipe, _options(work)), resume=resume)
        before = _answer_all(work, kept, writers, progress, workers)
        for number, one in enumerate(writers):
            _write(work, kept, number, one)
    return Done(work.plan, before, kept)


@typed
def parts_folder(out: str | Path) -> Path:
    """Where the parts of an output are kept by default: a hidden folder beside it.

    Example:
        >>> parts_folder("sr.tif").name
        '.sr.tif.parts'
    """
    return Path(out).with_name(f".{Path(out).name}.parts")


def _work(
    raster: Windows, recipe: Any, answer: Answer, *, images: int, tile: int | None, halo: int | None,
    memory_gb: float | None,
) -> Work:  # fmt: skip
    """What the tiles' answers are made of."""
    scale = recipe.camera.scale
    halo = recipe.reach if halo is None else halo
    if tile is None:
        memory_gb = default_memory_gb() if memory_gb is None else memory_gb
        tile = tile_for(raster.count, scale=scale, halo=halo, memory_gb=memory_gb, images=images)
    plan = plan_tiles(raster.height, raster.width, scale=scale, tile=tile, halo=halo)
    return Work(raster, recipe, plan, answer, images)


def _options(work: Work) -> dict[str, object]:
    """The settings that change bytes."""
    plan = work.plan
    size = [work.raster.count, plan.height, plan.width]
    return {"scale": plan.scale, "tile": plan.tile, "halo": plan.halo, "images": work.images, "size": size}


def _answer_all(work: Work, kept: Journal, writers: list[Writer], progress: Progress | None, workers: Any) -> int:
    """Answers all tiles that are not kept yet; returns how many were."""
    plan = work.plan
    todo = [tile for tile in plan.tiles if not kept.has(tile.number, work.shape(tile))]
    needed = disk_bytes(plan, work.raster.count, dtype=getattr(writers[0], "dtype", np.float32), images=work.images)
    check_disk(kept.folder, needed, kept=kept.size())
    before = done = len(plan.tiles) - len(todo)
    if progress is not None:
        progress(done, len(plan.tiles))
    answers = work.each(todo) if workers is None else each_by_workers(work, todo, workers)
    with contextlib.closing(answers), _saying(kept, len(plan.tiles), work):  # type: ignore[type-var]
        for tile, values in answers:
            kept.keep(tile.number, values)
            done += 1
            if progress is not None:
                progress(done, len(plan.tiles))
    return before


@contextlib.contextmanager
def _saying(kept: Journal, tiles: int, work: Work) -> Iterator[None]:
    """Says what is kept where a run is stopped, or the disk is full."""

    def text() -> str:
        done = sum(kept.has(tile.number, work.shape(tile)) for tile in work.plan.tiles)
        return f"{done} of {tiles} tiles are kept in {kept.folder}, and `resume` (--resume) goes on with them"

    try:
        yield
    except KeyboardInterrupt:
        raise KeyboardInterrupt(f"stopped; {text()}") from None
    except OSError as error:
        if error.errno not in FULL:
            raise
        clear = OSError(f"`out` must be on a disk with room, got a full one; make room: {text()}")
        clear.errno = error.errno
        raise clear from error


# --- putting together -------------------------------------------------------------------------------------------------


def _write(work: Work, kept: Journal, image: int, writer: Writer) -> None:
    """Writes one image, in the order of the output's blocks."""
    scale, bands = work.plan.scale, work.raster.count
    height, width = scale * work.plan.height, scale * work.plan.width
    for box in windows(height, width, bands, block=getattr(writer, "block", BLOCK)):
        writer.write(_gathered(work, kept, image, box), box.top, box.left)


def _gathered(work: Work, kept: Journal, image: int, box: Box) -> np.ndarray:
    """A window (C, h, w) of an image, from the parts that lie in it."""
    found = np.empty((work.raster.count, box.height, box.width), np.float32)
    for tile in work.plan.tiles:
        place = Box(*(work.plan.scale * side for side in tile.inner))
        top, left = max(box.top, place.top), max(box.left, place.left)
        bottom = min(box.top + box.height, place.top + place.height)
        right = min(box.left + box.width, place.left + place.width)
        if top < bottom and left < right:
            part = kept.read(tile.number, work.shape(tile))[image]
            found[:, top - box.top : bottom - box.top, left - box.left : right - box.left] = part[
                :, top - place.top : bottom - place.top, left - place.left : right - place.left
            ]
    return found
