"""A match that is kept to look things up in: what a patch took and from where, and who took from a place.

Nothing here knows widgets. `Matched` does what `dmb.dmb` does for the same settings, by the same functions, and keeps
what a click needs.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch

from ctmem.checks import check_choice, check_image, fail
from ctmem.config import MatchConfig
from ctmem.match.align import prepare, sharpen, to_standard
from ctmem.match.dmb import transfer
from ctmem.match.matching import whole_windows
from ctmem.match.patches import cut, starts, turn_back
from ctmem.match.search import PIECE, SIMILARITIES, embed, finish, nearest
from ctmem.observe.optics import upsample
from ctmem.observe.responses import apply_srf

LEAST = 1e-4  # of a window's weight: below, nothing is taken from it
KEPT_MB = 256  # candidates' vectors that are kept from click to click; more are made anew each time


@dataclass(frozen=True)
class Looks:
    """Query and reference brought to one look, (1, c, ·, ·) each."""

    query: torch.Tensor  # what matching is given: blurry, or sharpened again; units of the query
    gain: torch.Tensor | float  # gain · query + offset is compared
    offset: torch.Tensor | float
    sharp: torch.Tensor  # what is handed over; units of what is compared
    blurred: torch.Tensor  # where windows are looked for; NaN in holes

    @property
    def seen(self) -> torch.Tensor:
        """The query as it is compared."""
        return self.gain * self.query + self.offset


class Taker(NamedTuple):
    """A query patch that took from a place of the reference."""

    row: int  # of its first pixel
    column: int
    windows: int  # how many of the windows it averages cover the place, those of a weight below `LEAST` left out
    weight: float  # of these windows in the average, 0 … 1


def bring_together(
    lr_hsi: torch.Tensor,
    ref_msi: torch.Tensor,
    srf: torch.Tensor,
    degrade: Callable[[torch.Tensor], torch.Tensor],
    scale: int,
    config: MatchConfig,
) -> Looks:
    """Returns both images as `dmb.dmb` compares them.

    Args:
        lr_hsi: (1, C, h, w).
        ref_msi: (1, c, Hr, Wr); pixels that are not finite are holes.
        srf: (c, C), rows sum to 1.
        degrade: K, from (1, c, Hr, Wr) to the same shape.
        scale: fine pixels per LR pixel.
        config: `radiometry`, `sharpening` and `patch` are used.

    Raises:
        TypeError: an image that is no floating-point tensor.
        ValueError: not one image each, bands that do not fit, values of the query that are not finite, a reference
            of holes only, or a patch larger than one of the images.
    """
    check_image(lr_hsi, "lr_hsi")
    query = apply_srf(upsample(lr_hsi, scale), srf)
    check_image(ref_msi, "ref_msi", bands=len(srf), finite=False)
    for image, name in ((lr_hsi, "lr_hsi"), (ref_msi, "ref_msi")):
        if len(image) != 1:
            fail(name, "one image (1, …)", f"shape {tuple(image.shape)}")
    side = min(*query.shape[2:], *ref_msi.shape[2:])
    if config.patch > side:
        fail("config.patch", f"at most {side} px, the shortest side of query and reference", config.patch)
    sharp, blurred = prepare(ref_msi.to(query), degrade, radiometry=config.radiometry, sharpening=config.sharpening)
    with torch.no_grad():
        query = sharpen(query, degrade, config.sharpening)
    gain, offset = to_standard(query) if config.radiometry else (1.0, 0.0)
    return Looks(query, gain, offset, sharp, blurred)


class Matched:
    """A query matched with a reference by one configuration.

    The vectors of all candidate windows are kept for `plane`, 4·c·P² bytes each: 20 MB for 20,000 of 8×8 px in 4 bands.

    Args:
        looks: of both images, from `bring_together` with the same radiometry and sharpening.
        config: how to match.

    Attributes:
        match: what `dmb.dmb` would return.
        texture: the same, (1, 4c, H, W).

    Raises:
        ValueError: what `dmb.transfer` refuses.
    """

    def __init__(self, looks: Looks, config: MatchConfig) -> None:
        check_choice(config.similarity, "config.similarity", SIMILARITIES)
        self.looks, self.config, self._search = looks, config, _Once()
        self._weigh()
        self._numbers, corners = whole_windows(looks.blurred[0], config.patch, config.stride)
        self.candidates = len(corners)
        self._pieces, self._vectors = corners.split(PIECE), None

    def at_temperature(self, temperature: float) -> Matched:
        """The same match with another temperature: only the texture is made anew."""
        other = copy.copy(self)
        other.config = replace(self.config, temperature=temperature)
        other._weigh()
        return other

    def number_at(self, row: int, column: int) -> int:
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

    def apart(self, number: int, count: int) -> list[int]:
        """Ranks (from 0) of the best windows of a patch that do not overlap a better one, at most `count`."""
        kept, places = [], self.match.windows[0, number, :, :2].cpu().numpy()
        for rank, place in enumerate(places):
            if len(kept) == count:
                break
            if not kept or (np.abs(places[kept] - place).max(1) >= self.match.patch).all():
                kept.append(rank)
        return kept

    def takers(self, row: int, column: int) -> list[Taker]:
        """Which query patches took from a pixel of the reference, by weight, largest first.

        Windows whose weight in a patch's average is below 1e-4 are left out: nothing is seen of them.
        """
        windows = self.match.windows[0, :, : self.config.hard_k, :2]
        off, weights = torch.tensor([row, column], device=windows.device) - windows, self.weights()
        covers = ((off >= 0) & (off < self.match.patch)).all(2) & (weights >= LEAST)
        counts, shares = covers.sum(1).tolist(), (weights * covers).sum(1).tolist()
        order = sorted((n for n, count in enumerate(counts) if count), key=lambda n: -shares[n])
        return [Taker(*self.match.corners[n].tolist(), counts[n], shares[n]) for n in order]

    @torch.no_grad()
    def plane(self, number: int) -> np.ndarray:
        """How alike a query patch and every window of the reference are, (windows down, windows across).

        The best of all turns, where turns are tried; NaN where a window holds a hole.
        """
        config, looks = self.config, self.looks
        patch = cut(looks.seen[0], self.match.corners[number, None], config.patch)
        turned = torch.cat([turn_back(patch, turn) for turn in range(8 if config.turns else 1)])
        rows = embed(turned, config.similarity, candidate=False)
        products = torch.cat([vectors @ rows.T for vectors in self._all_vectors()])
        best = finish(products.T, turned, config.similarity).amax(0)
        grid = [len(starts(size, config.patch, config.stride)) for size in looks.blurred.shape[2:]]
        return (
            best.new_full((grid[0] * grid[1],), torch.nan).index_copy(0, self._numbers, best).view(grid).cpu().numpy()
        )

    def _weigh(self) -> None:
        looks = self.looks
        self.texture, self.match = transfer(looks.query, looks.sharp, looks.blurred, self.config, search=self._search)

    def _all_vectors(self) -> list[torch.Tensor]:
        """The vectors of all candidates, in pieces; kept where they are not too large."""
        if self._vectors is not None:
            return self._vectors
        filled, config = self.looks.blurred[0].nan_to_num(0, 0, 0), self.config
        vectors = (embed(cut(filled, piece, config.patch), config.similarity) for piece in self._pieces)
        size = 4 * filled.shape[0] * config.patch**2 * self.candidates
        if size <= KEPT_MB * 1e6:
            self._vectors = vectors = list(vectors)
        return vectors


class _Once:
    """`search.nearest`, asked once: for another temperature its answer is still right."""

    def __init__(self) -> None:
        self._answer = None

    def __call__(self, *args: object, **options: object) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        self._answer = nearest(*args, **options) if self._answer is None else self._answer
        return self._answer


def spread(plane: np.ndarray, size: tuple[int, int], patch: int, stride: int, *, most: int = 320) -> np.ndarray:
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
    for count in size:
        shown = min(count, most)
        pixels = (np.arange(shown) + 0.5) * count / shown - 0.5
        centres = starts(count, patch, stride).numpy() + (patch - 1) / 2
        places.append(np.abs(pixels[:, None] - centres).argmin(1))
    return plane[np.ix_(*places)]
