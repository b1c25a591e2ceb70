"""A match that is kept to look things up in: what a patch took and from where, and who took from a place.

Nothing here knows widgets. `Matched` does what `dmb.dmb` does for the same settings, by the same functions, and keeps
what a click needs.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Annotated, NamedTuple

import numpy as np
import torch

from ctmem.checks import (
    Array,
    Bounds,
    Count,
    Positive,
    Size,
    Whole,
    check_choice,
    check_count,
    check_places,
    fail,
    typed,
)
from ctmem.config import MatchConfig
from ctmem.match import dmb
from ctmem.match.align import Prepared
from ctmem.match.matching import as_list, whole_windows
from ctmem.match.patches import cut, starts, turn_back
from ctmem.match.search import PIECE, SIMILARITIES, embed, finish

LEAST = 1e-4  # of a window's weight: below, nothing is taken from it
KEPT_MB = 256  # candidates' vectors that are kept from click to click; more are made again each time
Pixel = Annotated[int, Bounds(0, 2**31 - 1)]


class Taker(NamedTuple):
    """A query patch that took from a place of the reference."""

    row: int  # of its first pixel
    column: int
    windows: int  # how many of the windows it averages cover the place, those of a weight below `LEAST` left out
    weight: float  # of these windows in the average, 0 … 1


class Matched:
    """A query matched with a reference by one configuration.

    The vectors of all candidate windows are kept for `plane`, 4·c·P² bytes each: 20 MB for 20,000 of 8×8 px in 4 bands.

    Args:
        prepared: one query and one reference, from `dmb.prepare` with the same radiometry and sharpening.
        config: how to match.

    Attributes:
        match: what `dmb.dmb` would return.
        texture: the same, (1, 4c, H, W).
        sharp: the reference that is handed over, (c, Hr, Wr), in units of what is compared.
        blurred: the reference in which windows are looked for, the same; NaN in holes.
        candidates: how many windows there are.

    Raises:
        ValueError: what `dmb.find` refuses.
    """

    @typed
    def __init__(self, prepared: Prepared, config: MatchConfig) -> None:
        check_choice(config.similarity, "config.similarity", SIMILARITIES)
        self.prepared = prepared
        self.config = config
        (self.sharp,) = as_list(prepared.sharp, "sharp")
        (self.blurred,) = as_list(prepared.blurred, "blurred")
        self.match = dmb.find(prepared, config)
        self.texture = dmb.hand_over(self.match, prepared, config)
        self._numbers, corners = whole_windows(self.blurred, config.patch, config.stride)
        self.candidates = len(corners)
        self._pieces = corners.split(PIECE)
        self._vectors: list[torch.Tensor] | None = None

    @typed
    def at_temperature(self, temperature: Positive) -> Matched:
        """The same match with another temperature: only the texture is made again, nothing is searched."""
        other = copy.copy(self)
        other.config = replace(self.config, temperature=temperature)
        other.texture = dmb.hand_over(self.match, self.prepared, other.config)
        return other

    @typed
    def number_at(self, row: Pixel, column: Pixel) -> int:
        """Number of the query patch whose centre is nearest to a pixel of the query; the first of equally near ones."""
        best = []
        for place, size in zip((row, column), self.match.size):
            first = starts(size, self.match.patch, self.match.query_stride).numpy()
            best.append(int(np.abs(2 * first + self.match.patch - 1 - 2 * place).argmin()))
        return best[0] * self.match.grid[1] + best[1]

    def weights(self) -> torch.Tensor:
        """How much each of the `hard_k` best windows counts in the maps that a patch takes, (N, hard_k), sums 1."""
        scores = self.match.scores[0, :, : self.config.hard_k]
        return torch.softmax(scores / self.config.temperature, dim=1)

    def check(self, number: int, ranks: Sequence[int] = ()) -> None:
        """Raises unless there are a query patch of this number, and windows of these ranks (from 0) of it.

        Raises:
            ValueError: one that there is not.
        """
        patches, windows = self.match.scores.shape[1:]
        check_count(number, "number", at_least=0, at_most=patches - 1)
        if ranks:
            check_places(ranks, "ranks", windows)

    @typed
    def apart(self, number: Whole, count: Count) -> list[int]:
        """Ranks (from 0) of the best windows of a patch that do not overlap a better one, at most `count`."""
        self.check(number)
        kept: list[int] = []
        places = self.match.windows[0, number, :, :2].cpu().numpy()
        for rank, place in enumerate(places):
            if len(kept) == count:
                break
            if not kept or (np.abs(places[kept] - place).max(1) >= self.match.patch).all():
                kept.append(rank)
        return kept

    @typed
    def takers(self, row: Pixel, column: Pixel) -> list[Taker]:
        """Which query patches took from a pixel of the reference, by weight, largest first.

        Windows whose weight in a patch's average is below 1e-4 are left out: nothing is seen of them.
        """
        windows = self.match.windows[0, :, : self.config.hard_k, :2]
        off = torch.tensor([row, column], device=windows.device) - windows
        weights = self.weights()
        covers = ((off >= 0) & (off < self.match.patch)).all(2) & (weights >= LEAST)
        counts = covers.sum(1).tolist()
        shares = (weights * covers).sum(1).tolist()
        order = sorted((n for n, count in enumerate(counts) if count), key=lambda n: -shares[n])
        rows, columns = self.match.corners.T.tolist()
        return [Taker(rows[n], columns[n], counts[n], shares[n]) for n in order]

    @typed
    @torch.no_grad()
    def plane(self, number: Whole) -> np.ndarray:
        """How alike a query patch and every window of the reference are, (windows down, windows across).

        The best of all turns, where turns are tried; NaN where a window holds a hole.
        """
        self.check(number)
        config = self.config
        # the patch against all candidates, in every turn that is tried
        patch = cut(self.prepared.query[0], self.match.corners[number, None], config.patch)
        turned = torch.cat([turn_back(patch, turn) for turn in range(8 if config.turns else 1)])
        rows = embed(turned, config.similarity, candidate=False)
        products = torch.cat([vectors @ rows.T for vectors in self._all_vectors()])
        best = finish(products.T, turned, config.similarity).amax(0)
        # the candidates' places in the reference
        grid = [len(starts(size, config.patch, config.stride)) for size in self.blurred.shape[1:]]
        plane = best.new_full((grid[0] * grid[1],), torch.nan).index_copy(0, self._numbers, best)
        return plane.view(grid).cpu().numpy()

    def _all_vectors(self) -> Iterable[torch.Tensor]:
        """The vectors of all candidates, in pieces; kept where they are not too large."""
        if self._vectors is not None:
            return self._vectors
        config = self.config
        filled = self.blurred.nan_to_num(0, 0, 0)
        vectors = (embed(cut(filled, piece, config.patch), config.similarity) for piece in self._pieces)
        if 4 * filled.shape[0] * config.patch**2 * self.candidates > KEPT_MB * 1e6:
            return vectors
        self._vectors = list(vectors)
        return self._vectors


@typed
def spread(
    plane: Annotated[np.ndarray, Array("(windows down, windows across)")],
    size: tuple[Size, Size],
    patch: Size,
    stride: Size,
    *,
    most: Size = 320,
) -> np.ndarray:
    """Returns values of windows as an image over the whole reference: each pixel has that of the window around it.

    Args:
        plane: one value per window, (windows down, windows across).
        size: (Hr, Wr) of the reference, pixels.
        patch: P.
        stride: between windows.
        most: rows and columns of the image, at most.

    Example:
        >>> spread(np.array([[1.0, 2.0]]), (2, 4), 2, 2).tolist()
        [[1.0, 1.0, 2.0, 2.0], [1.0, 1.0, 2.0, 2.0]]
    """
    places = []
    wanted = tuple(len(starts(count, patch, stride)) for count in size)
    if plane.shape != wanted:
        fail("plane", f"of shape {wanted}, a value of each window", plane.shape)
    for count in size:
        shown = min(count, most)
        pixels = (np.arange(shown) + 0.5) * count / shown - 0.5
        centres = starts(count, patch, stride).numpy() + (patch - 1) / 2
        places.append(np.abs(pixels[:, None] - centres).argmin(1))
    return plane[np.ix_(*places)]
