"""The tiles of a scene on the workers of dask: the same function, the same bytes; one writer, in this process.

    pip install "ctmem[dask]"

Scene and recipe go once to each worker (a scene as its path: workers must see the file), tiles by their number, a few
more than there are workers at a time. A worker that dies is no loss: its tiles are answered by another one.

Source: this project.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Generator, Iterator, Sequence
from typing import Any

import numpy as np

from ctmem.checks import Inside, fail, typed
from ctmem.tiling.plan import Tile
from ctmem.tiling.work import Work

WAITING = 2  # tiles for each worker that are on their way at once
TRIES = 5  # of a tile whose workers died


@typed
def each_by_workers(
    work: Work, tiles: Sequence[Tile], workers: Inside[Any]
) -> Generator[tuple[Tile, np.ndarray], None, None]:
    """Tiles and their answers, in the order in which they come.

    Args:
        work: what an answer is made of.
        tiles: those that are wanted.
        workers: a `distributed.Client`, a cluster, or the address of a scheduler.

    Raises:
        ModuleNotFoundError: dask is not installed.
        OSError: no scheduler at this address.
        RuntimeError: the workers of a tile died again and again.
    """
    with _client(workers) as client:
        yield from _answers(work, {tile.number: tile for tile in tiles}, client)


@contextlib.contextmanager
def _client(workers: Any) -> Iterator[Any]:
    """A client of dask; one that was given stays open."""
    try:
        import distributed  # noqa: PLC0415  (an extra)
    except ModuleNotFoundError:
        fail("workers", "left out, or dask be installed: pip install 'ctmem[dask]'", "neither", ModuleNotFoundError)
    if isinstance(workers, distributed.Client):
        yield workers
        return
    try:
        client = distributed.Client(workers, timeout="20s", set_as_default=False)
    except (AttributeError, OSError, RuntimeError, TypeError, ValueError) as error:
        fail("workers", "a dask client, or the address of a scheduler as tcp://host:8786", f"{workers!r}: {error}",
             OSError)  # fmt: skip
    with client:
        yield client


def _answers(work: Work, tiles: dict[int, Tile], client: Any) -> Iterator[tuple[Tile, np.ndarray]]:
    """Sends tiles by their number, and hands over what comes back."""
    from distributed import as_completed  # noqa: PLC0415  (an extra)

    shared = client.scatter(work, broadcast=True, hash=False)
    waiting, tries = iter(list(tiles)), dict.fromkeys(tiles, 0)

    def send(number: int) -> Any:
        tries[number] += 1
        return client.submit(_of_tile, shared, number, key=f"tile-{number}-{tries[number]}-{id(work)}", pure=False)

    at_once = WAITING * max(1, len(client.scheduler_info()["workers"]))
    futures = {send(number): number for number in itertools.islice(waiting, at_once)}
    queue = as_completed(futures)
    for future in queue:
        number = futures.pop(future)
        if future.status == "finished":
            yield tiles[number], future.result()
            following = next(waiting, None)
        else:
            _raise_own(future, tries[number])
            shared = client.scatter(work, broadcast=True, hash=False)  # the dead may have had the only copy
            following = number
        future.release()
        if following is not None:
            again = send(following)
            futures[again] = following
            queue.add(again)


def _of_tile(work: Work, number: int) -> np.ndarray:
    """What a worker does."""
    return work.of_tile(work.plan.tiles[number])


def _raise_own(future: Any, tries: int) -> None:
    """Raises what the function raised; what dask lost may be tried again, a few times."""
    from distributed import CancelledError, KilledWorker  # noqa: PLC0415  (an extra)

    error = future.exception() if future.status == "error" else None
    if error is not None and not isinstance(error, KilledWorker | CancelledError):
        raise error
    if tries >= TRIES:
        raise RuntimeError(f"`workers` must be such as live, got ones that died {tries} times at the same tile")
