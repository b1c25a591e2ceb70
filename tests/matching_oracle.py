"""Matching and texture by brute force: every pair of patches by itself, from the definitions, numpy loops in float64.

Images here are (c, H, W) arrays of float64. Nothing of `ctmem` is used.
"""

from __future__ import annotations

import itertools
from functools import cache

import numpy as np

PATCH, TURNS = 4, 8
GAIN_LIMITS = (0, 3)  # documented at `ctmem.match.dmb.GAINS`


def turned(x: np.ndarray, k: int) -> np.ndarray:
    """The flip or rotation k: mirror columns for k ≥ 4, then quarter turns."""
    return np.rot90(x[..., ::-1] if k >= 4 else x, k % 4, (-2, -1))


def alike(q: np.ndarray, k: np.ndarray, similarity: str) -> float:
    """One similarity of one pair of patches, from its definition."""
    if similarity == "l2":
        return -float(((q - k) ** 2).sum())
    if similarity == "zncc":
        q, k = (x - x.mean((-2, -1), keepdims=True) for x in (q, k))
    product = float((q * k).sum())
    return product if similarity == "dot" else product / np.sqrt((q**2).sum() * (k**2).sum())


def places(size: int, stride: int) -> list[int]:
    """First pixels of the windows along one axis; the last one ends at the border."""
    return sorted({*range(0, size - PATCH + 1, stride), size - PATCH})


def corners(shape: tuple[int, ...], stride: int) -> list[tuple[int, int]]:
    """(row, column) of all windows of an image of this shape, row-major."""
    return list(itertools.product(places(shape[-2], stride), places(shape[-1], stride)))


def window(x: np.ndarray, row: int, column: int) -> np.ndarray:
    return x[:, row : row + PATCH, column : column + PATCH]


def averaged(parts: list[np.ndarray], size: tuple[int, int], stride: int) -> np.ndarray:
    """Query patches put back, overlaps averaged."""
    total, cover = np.zeros((parts[0].shape[0], *size)), np.zeros(size)
    for part, (row, column) in zip(parts, corners(size, stride), strict=True):
        total[:, row : row + PATCH, column : column + PATCH] += part
        cover[row : row + PATCH, column : column + PATCH] += 1
    return total / cover


def gradient(x: np.ndarray) -> np.ndarray:
    """Length of each band's central differences, 1e-6 under the root."""
    steps = np.pad(x, ((0, 0), (1, 1), (1, 1)), mode="edge")
    across, down = steps[:, 1:-1, 2:] - steps[:, 1:-1, :-2], steps[:, 2:, 1:-1] - steps[:, :-2, 1:-1]
    return np.sqrt(across**2 / 4 + down**2 / 4 + 1e-6)


class Oracle:
    """One query image and the references it may look in; what was computed once is kept."""

    def __init__(self, query: np.ndarray, blurred: list[np.ndarray], sharp: list[np.ndarray] | None = None) -> None:
        """Takes a query and references (c, ·, ·); `sharp` without holes, beside which `blurred` may have some."""
        self.query, self.blurred, self.sharp = query, blurred, sharp
        self.gradients = [gradient(x) for x in sharp] if sharp else []
        self.seen, self.score, self.levelled = cache(self._seen), cache(self._score), cache(self._levelled)

    def candidates(self, stride: int, turns: bool) -> tuple[list[tuple], list[int]]:
        """All (scene, row, column, turn, number of the window), and how many windows have holes, per scene."""
        listed, excluded = [], []
        for scene, image in enumerate(self.blurred):
            whole = [np.isfinite(window(image, *corner)).all() for corner in corners(image.shape, stride)]
            excluded.append(whole.count(False))
            for number, (row, column) in enumerate(corners(image.shape, stride)):
                if whole[number]:
                    listed += [(scene, row, column, t, number) for t in range(TURNS if turns else 1)]
        return listed, excluded

    def best(self, corner: tuple[int, int], candidates: list[tuple], similarity: str, top_k: int) -> list[tuple]:
        """The (score, candidate) of the `top_k` most similar, best first."""
        scored = [(self.score(corner, candidate[:4], similarity), candidate) for candidate in candidates]
        return sorted(scored, reverse=True)[:top_k]

    def _seen(self, scene: int, row: int, column: int, turn: int) -> np.ndarray:
        """The blurred patch at one place, as the query patch sees it."""
        return turned(window(self.blurred[scene], row, column), turn).copy()

    def _score(self, corner: tuple[int, int], place: tuple[int, int, int, int], similarity: str) -> float:
        return alike(window(self.query, *corner), self.seen(*place), similarity)

    def _levelled(self, corner: tuple[int, int], place: tuple[int, int, int, int], relevel: bool) -> np.ndarray:
        """Sharp patch, its gradient and the blurred patch at one place, with the query's level, (3, c, P, P)."""
        (scene, row, column, turn), low, query = place, self.seen(*place), window(self.query, *corner)
        sharp, grad = (turned(window(x[scene], row, column), turn) for x in (self.sharp, self.gradients))
        if not relevel:
            return np.stack([sharp, grad, low])
        mean, level = (x.mean((1, 2), keepdims=True) for x in (low, query))
        variance, together = (((low - mean) * x).sum((1, 2), keepdims=True) for x in (low, query))
        slope = np.clip(together / variance, *GAIN_LIMITS)  # of the line that fits query over blurred, in each band
        return np.stack([slope * (sharp - mean) + level, slope * grad, slope * (low - mean) + level])

    def texture(self, best: list[list[tuple]], stride: int, relevel: bool, temperature: float, hard_k: int):
        """(4c, H, W) from what `best` found at each of the query's corners."""
        parts = []
        for corner, found in zip(corners(self.query.shape, stride), best, strict=True):
            scores = np.array([score for score, _ in found])
            patches = np.stack([self.levelled(corner, candidate[:4], relevel) for _, candidate in found])
            weights = np.exp((scores - scores[0]) / temperature)
            soft = np.tensordot(weights / weights.sum(), patches[:, 2], 1)
            some = weights[:hard_k] / weights[:hard_k].sum()
            sharp, grad, low = np.tensordot(some, patches[:hard_k], 1)
            parts.append(np.concatenate([soft, sharp, grad, sharp - low]))
        return averaged(parts, self.query.shape[1:], stride)
