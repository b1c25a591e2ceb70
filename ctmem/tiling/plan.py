"""How a scene is gone through: in windows that are cheap to read, and in tiles whose answers are put side by side.

    plan = plan_tiles(1000, 1200, scale=4, tile=128, halo=16)
    plan.tiles[0].window      # what is read of the coarse scene, with the halo; less of it at the scene's edge

A tile is answered with a *halo* of coarse pixels around it, as wide as an answer can depend on (`Recipe.reach`). What
lies in the halo is thrown away, so nothing has to be blended, no tile knows of another, and their order does not count.

`estimate` says memory, disk and minutes before anything starts, `check_disk` refuses a disk that is too small.

Source: this project.
"""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, NamedTuple

from ctmem.checks import Bounds, Count, Inside, Positive, Repeats, Scale, Whole, fail, typed
from ctmem.raster.raster import Raster

GB = 1e9
MEMORY_GB = 3.5
MOST_GB = 1e6
BASE_GB = 0.7  # of a process that has made a recipe
COPIES = (
    4  # of the float32 answer of a tile and its halo, that are in memory at once (3.1 measured, benchmarks/own_size.py)
)
LEAST_TILE = 8  # coarse pixels; smaller ones are nearly all halo
LARGEST_TILE = 512
AT_ONCE = 2**26  # bytes of float32 that a window of a stream may have
PROBE = 64  # coarse pixels of the window that is timed
Bytes = Annotated[int, Bounds(1)]


class Box(NamedTuple):
    """A window of an image, pixels."""

    top: int
    left: int
    height: int
    width: int


class Tile(NamedTuple):
    """One tile: its place among the others, what it answers for, and what it reads, coarse pixels."""

    number: int
    inner: Box
    window: Box


@typed
@dataclass(frozen=True)
class Plan:
    """The tiles of a scene of `height`×`width` coarse pixels; sides of about `tile`, a `halo` around each."""

    height: Count
    width: Count
    scale: Scale
    tile: Count
    halo: Repeats

    @cached_property
    def tiles(self) -> tuple[Tile, ...]:
        """All of them, row after row. They cover the scene once; sides differ by one pixel at most."""
        rows, columns = _cuts(self.height, self.tile), _cuts(self.width, self.tile)
        places = [(top, left, height, width) for top, height in rows for left, width in columns]
        return tuple(Tile(number, Box(*place), self._with_halo(*place)) for number, place in enumerate(places))

    def _with_halo(self, top: int, left: int, height: int, width: int) -> Box:
        first = max(0, top - self.halo), max(0, left - self.halo)
        last = min(self.height, top + height + self.halo), min(self.width, left + width + self.halo)
        return Box(*first, last[0] - first[0], last[1] - first[1])

    @property
    def overhead(self) -> float:
        """Pixels that are answered, halos included, over those of the scene."""
        return sum(tile.window.height * tile.window.width for tile in self.tiles) / (self.height * self.width)


@typed
def plan_tiles(height: Count, width: Count, *, scale: Scale, tile: Count, halo: Repeats) -> Plan:
    """The tiles of a scene.

    Args:
        height: rows of the coarse scene.
        width: its columns.
        scale: fine pixels per coarse pixel.
        tile: largest side of a tile without its halo, coarse pixels.
        halo: coarse pixels around it.

    Example:
        >>> plan = plan_tiles(10, 7, scale=4, tile=4, halo=2)
        >>> [tuple(tile.inner) for tile in plan.tiles][:3], tuple(plan.tiles[0].window)
        ([(0, 0, 4, 4), (0, 4, 4, 3), (4, 0, 3, 4)], (0, 0, 6, 6))
    """
    return Plan(height, width, scale, tile, halo)


def _cuts(side: int, most: int) -> list[tuple[int, int]]:
    """Start and length of even pieces, none longer than `most`; the longer ones first."""
    count = -(-side // most)
    short, longer = divmod(side, count)
    lengths = [short + (number < longer) for number in range(count)]
    return [(sum(lengths[:number]), length) for number, length in enumerate(lengths)]


@typed
def tile_for(bands: Count, *, scale: Scale, halo: Repeats, memory_gb: Positive, images: Count = 1) -> int:
    """The largest side of a tile, coarse pixels, whose answer fits the memory.

    Args:
        bands: C.
        scale: fine pixels per coarse pixel.
        halo: coarse pixels around a tile.
        memory_gb: what the whole process may take.
        images: answers of a tile: 2 with an uncertainty.

    Raises:
        ValueError: not even a tile of 8 px fits.

    Example:
        >>> tile_for(224, scale=4, halo=10, memory_gb=3.5), tile_for(100, scale=3, halo=10, memory_gb=3.5)
        (200, 420)
    """
    per_pixel = _bytes_per_pixel(bands, scale, images)
    side = math.isqrt(max(0, int((min(memory_gb, MOST_GB) - BASE_GB) * GB / per_pixel))) - 2 * halo
    if side < LEAST_TILE:
        least = BASE_GB + per_pixel * (LEAST_TILE + 2 * halo) ** 2 / GB
        fail("memory_gb", f"at least {math.ceil(10 * least) / 10:g} for {bands} bands at ×{scale}", f"{memory_gb:g}")
    return min(side, LARGEST_TILE)


def _bytes_per_pixel(bands: int, scale: int, images: int) -> float:
    """Memory for one coarse pixel of a window while it is answered."""
    return (COPIES + 2 * (images - 1)) * bands * scale**2 * 4


@typed
def tile_of(
    bands: Count, answer: Inside[Any], *, scale: Scale, halo: Repeats, memory_gb: Positive | None = None,
    images: Count = 1,
) -> int:  # fmt: skip
    """The side of a tile where none is told; what an answer holds in memory (`gigabytes`, `bands`) counts.

    Args:
        bands: C.
        answer: what answers a window.
        scale: as of `tile_for`, like the next.
        halo: of a window.
        memory_gb: for the whole process; None: `default_memory_gb`.
        images: as of `tile_for`.

    Raises:
        ValueError: as `tile_for`.
    """
    memory = (default_memory_gb() if memory_gb is None else memory_gb) - getattr(answer, "gigabytes", 0.0)
    worth = max(bands, getattr(answer, "bands", 0))
    return tile_for(worth, scale=scale, halo=halo, memory_gb=max(memory, 1e-3), images=images)


@typed
def default_memory_gb() -> float:
    """What a run may take where nothing else is said: 3.5 GB, or half of what is free."""
    free = _free_memory_gb()
    return MEMORY_GB if free is None else max(BASE_GB, min(MEMORY_GB, free / 2))


def _free_memory_gb() -> float | None:
    """Memory that programs can still have; None where the system does not say."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        return next(int(line.split()[1]) * 1024 / GB for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration, ValueError):
        return None


# --- what it costs ----------------------------------------------------------------------------------------------------


@typed
@dataclass(frozen=True)
class Cost:
    """What a run will take: number of tiles, peak memory, room on the disk while it runs, and time."""

    tiles: int
    memory_gb: float
    disk_gb: float
    minutes: float

    def __str__(self) -> str:
        minutes = f"{self.minutes:.0f} min" if self.minutes >= 2 else f"{60 * self.minutes:.0f} s"
        tiles = f"{self.tiles} tile{'s' if self.tiles > 1 else ''}"
        return f"{tiles}, {self.memory_gb:.1f} GB of memory, {self.disk_gb:.2g} GB on the disk, about {minutes}"


@typed
def estimate(
    plan: Plan,
    raster: Raster,
    answer: Callable[..., Any],
    *,
    disk: Whole,
    images: Count = 1,
) -> Cost:
    """What a run of a plan will take; one window of the scene is answered, and timed.

    Args:
        plan: of `plan_tiles`.
        raster: the coarse scene.
        answer: (window (C, h, w) float32 with NaN in holes, top, left) → whatever; what a tile goes through.
        disk: bytes that the output needs, and what it is made from, `Writer.needed`.
        images: outputs of one size: 2 with an uncertainty.
    """
    side = min(PROBE, plan.height), min(PROBE, plan.width)
    top, left = (plan.height - side[0]) // 2, (plan.width - side[1]) // 2
    window = raster.window(top, left, *side)
    seconds = []
    for _ in range(2):  # the first one warms up
        start = time.perf_counter()
        answer(window, top, left)
        seconds.append(time.perf_counter() - start)
    fine = plan.height * plan.width * plan.scale**2 * raster.count
    pixels = max(tile.window.height * tile.window.width for tile in plan.tiles)
    return Cost(
        len(plan.tiles),
        BASE_GB + pixels * _bytes_per_pixel(raster.count, plan.scale, images) / GB,
        disk / GB,
        min(seconds) / math.prod(side) * plan.overhead * plan.height * plan.width / 60 + fine * images / 2e8 / 60,
    )


@typed
def check_disk(folder: str | Path, needed: int) -> None:
    """Raises unless a disk has room for so many bytes.

    Raises:
        OSError: it has not; says how much is free.
    """
    place = Path(folder).absolute()
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free
    if free < needed:
        wanted = f"on a disk with {needed / GB:.3g} GB free (take another one, fewer bands or a smaller scale)"
        fail("out", wanted, f"{free / GB:.3g} GB in {place}", OSError)


# --- streams ----------------------------------------------------------------------------------------------------------


@typed
def windows(
    height: Count, width: Count, bands: Count, *, block: tuple[int, int] = (1, 1), at_once: Bytes = AT_ONCE
) -> Iterator[Box]:
    """Windows that cover an image once, row after row, made of whole blocks as far as `at_once` bytes go.

    Args:
        height: rows.
        width: columns.
        bands: C.
        block: (rows, columns) that a file reads or writes at once.
        at_once: most bytes of a window as float32; a block that has more is cut.

    Example:
        >>> [tuple(box) for box in windows(5, 6, 1, block=(2, 6), at_once=48)]
        [(0, 0, 2, 6), (2, 0, 2, 6), (4, 0, 1, 6)]
    """
    pixels = max(1, at_once // (4 * bands))
    rows, columns = min(block[0], height), min(block[1], width)
    if rows * columns > pixels:  # a part of one block
        columns = min(columns, pixels)
        rows = max(1, pixels // columns)
    else:  # blocks beside each other, then, once these are whole rows, below each other
        columns = min(width, pixels // rows // columns * columns)
        rows = pixels // columns // rows * rows if columns == width else rows
    for top in range(0, height, rows):
        for left in range(0, width, columns):
            yield Box(top, left, min(rows, height - top), min(columns, width - left))
