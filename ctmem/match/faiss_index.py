"""Approximate search for the most similar windows: a FAISS index proposes, exact scores decide.

The index holds a short code per window instead of the window. Of each turned query patch it is asked for more
windows than are wanted; the best of these are cut again and scored as `search.nearest` does. So every score that comes
out is exact, and what may be missed is a window that the index did not propose.

FAISS's indices are built for Euclidean distance: asked for the largest inner product they find a few of the best
windows of `l2` and half of those of `dot`. So every window becomes a *point*, its vector (`search.embed`) and one
coordinate more that gives all points the same length R. Then the nearest points are those with the largest inner
product:

    ‖(q, 0) − (k, √(R² − ‖k‖²))‖² = ‖q‖² + R² − 2 q·k

For l2 the patches themselves are the points.

FAISS is optional (the extra `faiss`) and imported where it is used. On one machine, with one number of threads, the
same windows give the same index and the same answers.

Source: this project; the added coordinate: Neyshabur and Srebro, ICML 2015; index types: Douze et al., The Faiss
library, 2024.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from ctmem.checks import check_count, fail, typed
from ctmem.match import patches as pt
from ctmem.match.search import PIECE, embed, finish, nearest

NPROBE = 32  # inverted lists read per query, unless told otherwise
PER_LIST = 48  # windows drawn for training, per inverted list; FAISS warns below 39
FEWEST = 2**14  # windows drawn for training at least, for the compression
PROPOSED = (2, 64)  # the index proposes so many windows per wanted one, and so many more


@typed
def default_factory(windows: int, length: int) -> str:
    """Returns FAISS's name of the index for so many windows, of c·P·P numbers each.

    A principal component analysis, inverted lists, a byte per number. A patch blurred at scale s has about c·P·P / s²
    free numbers; at s = 4 the components that are kept are twice as many.

    Example:
        >>> default_factory(1_000_000, 256)
        'PCA32,IVF2048,SQ8'
    """
    components = min(max(16, length // 8), length, windows)
    enough = int(math.log2(max(1, windows / PER_LIST)))  # to train them on
    return f"PCA{components},IVF{2 ** min(round(math.log2(2 * math.sqrt(windows))), enough)},SQ8"


def load_faiss() -> ModuleType:
    """The module faiss.

    Raises:
        ImportError: it is not installed, or cannot be imported.
    """
    wanted = "installed for an approximate search: pip install -e .[faiss]"
    try:
        import faiss  # noqa: PLC0415  (optional)
    except ModuleNotFoundError:
        fail("faiss", wanted, "no such package", ImportError)
    except Exception as error:  # a library that is missing, another numpy: broken builds fail in many ways
        fail("faiss", wanted, f"one that cannot be imported: {error}", ImportError)
    return faiss


class ApproximateSearch:
    """A FAISS index over the windows of several images, to be called like `search.nearest` with the same windows."""

    @typed
    def __init__(self, index: Any, factory: str, nprobe: int | None = None) -> None:
        """Takes a filled index and FAISS's name of it; of one with inverted lists `nprobe` are read per query.

        Raises:
            ImportError: FAISS is not installed.
            ValueError: more lists to read than there are, or for an index without any.
        """
        self.faiss = load_faiss()
        self.index = index
        self.factory = factory
        self.nprobe = None
        inverted = self.faiss.try_extract_index_ivf(index)
        if inverted is not None:
            self.nprobe = min(NPROBE, inverted.nlist) if nprobe is None else nprobe
            check_count(self.nprobe, "nprobe", at_most=inverted.nlist)
            inverted.nprobe = self.nprobe
        elif nprobe is not None:
            fail("nprobe", "None for an index without inverted lists", nprobe)

    @classmethod
    @typed
    def build(
        cls,
        images: Sequence[torch.Tensor],
        corners: Sequence[torch.Tensor],
        patch: int,
        similarity: str = "zncc",
        *,
        factory: str | None = None,
        nprobe: int | None = None,
        chunk_mb: int = 256,
    ) -> ApproximateSearch:
        """Returns the index over all windows: trained on some, drawn with a fixed seed, then filled chunk by chunk.

        Args:
            images: (c, H, W) each, any sizes, finite.
            corners: for each image, rows and columns of its windows, (m, 2).
            patch: P, pixels.
            similarity: one of `search.SIMILARITIES`.
            factory: FAISS's name of an index for Euclidean distance; `None`: `default_factory`.
            nprobe: inverted lists read per query; `None`: `NPROBE`, or all of fewer.
            chunk_mb: bound of the working memory beside the index, MB (10⁶ bytes).

        Raises:
            ImportError: FAISS is not installed.
            ValueError: a `factory` that FAISS does not know or cannot train on these windows, an `nprobe` that does
                not fit it.
        """
        faiss = load_faiss()
        windows = sum(map(len, corners))
        length = images[0].shape[0] * patch**2
        name = factory or default_factory(windows, length)
        radius = _longest(images, patch, similarity)
        most = max(1, int(chunk_mb * 1e6) // (16 * (length + 1)))
        drawn = torch.randperm(windows, generator=torch.Generator().manual_seed(0))

        def points(numbers: torch.Tensor) -> np.ndarray:
            parts = (_cut(piece, images, corners, patch) for piece in numbers.split(PIECE))
            return torch.cat([_points(part, similarity, radius).float().cpu() for part in parts]).numpy()

        # trained on some windows, then filled with all of them
        try:
            index = faiss.index_factory(length + (similarity != "l2"), name, faiss.METRIC_L2)
            inverted = faiss.try_extract_index_ivf(index)
            wanted = max(FEWEST, PER_LIST * (inverted.nlist if inverted else 0))
            with _threads(faiss):
                index.train(points(drawn[: min(wanted, 3 * most)].sort().values))
                for part in torch.arange(windows).split(most):
                    index.add(points(part))
        except RuntimeError as error:
            got = f"{name!r} for {windows} windows of {length} numbers"
            raise ValueError(f"`factory` must be an index that FAISS can make and train, got {got}") from error
        return cls(index, name, nprobe)

    @torch.no_grad()
    def __call__(
        self,
        query: torch.Tensor,
        images: Sequence[torch.Tensor],
        corners: Sequence[torch.Tensor],
        *,
        similarity: str = "zncc",
        turns: int = 1,
        top_k: int = 1,
        chunk_mb: int = 256,
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Returns (scores, numbers, turns), each (n, top_k), best first; the arguments are those of `search.nearest`.

        Query patches for which the index proposes fewer windows than wanted are searched exactly.

        Raises:
            ValueError: other windows than the index holds.
        """
        count = sum(map(len, corners))
        if count != self.index.ntotal:
            fail("corners", f"the {self.index.ntotal} windows of the index", f"{count}")
        # so many query patches at a time that what is proposed for them fits into `chunk_mb`
        wide = PROPOSED[0] * top_k + PROPOSED[1]
        length = query[0].numel() + 1
        each = query.element_size() * (2 * turns * length + 3 * wide * length) + 24 * turns * wide
        options: dict[str, Any] = {"similarity": similarity, "turns": turns, "top_k": top_k}
        found = []
        for part in query.split(max(1, int(chunk_mb * 1e6) // each)):
            best = self._search(part, images, corners, wide=wide, **options)
            # where fewer were proposed than wanted, the exact search helps out
            few = best[0][:, -1] == -torch.inf
            if few.any():
                exact = nearest(part[few], images, corners, **options, chunk_mb=chunk_mb)
                for to, values in zip(best, exact):
                    to[few] = values
            found.append(best)
        scores, numbers, turn = (torch.cat(parts) for parts in zip(*found))
        return scores, numbers, turn

    def _search(
        self, query: torch.Tensor, images: Sequence[torch.Tensor], corners: Sequence[torch.Tensor],
        *, similarity: str, turns: int, top_k: int, wide: int,
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:  # fmt: skip
        """The same for one block of query patches; where there are not `top_k` proposals, scores of −∞ at the end."""
        turned = torch.stack([pt.turn_back(query, k) for k in range(turns)], 1).flatten(0, 1)
        numbers, turn = self._propose(_points(turned, similarity), turns, wide)
        proposed = _cut(numbers.clamp_min(0).flatten(), images, corners, query.shape[-1])
        rows = embed(turned, similarity, candidate=False).unflatten(0, (len(query), turns))
        product = rows @ embed(proposed, similarity).unflatten(0, numbers.shape).mT  # in all turns; one is kept
        scores = finish(product.gather(1, turn[:, None])[:, 0], query, similarity)
        best, keep = scores.masked_fill(numbers < 0, -torch.inf).topk(top_k, dim=1)
        return best, numbers.gather(1, keep), turn.gather(1, keep)

    def _propose(self, points: torch.Tensor, turns: int, wide: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Numbers and turns, (n, wide) each, of the windows that the index holds for the nearest; −1: none."""
        with _threads(self.faiss):
            far, numbers = self.index.search(points.float().cpu().numpy(), wide)
        far, numbers = (torch.from_numpy(x).reshape(-1, turns * wide).to(points.device) for x in (far, numbers))
        order = far.masked_fill(numbers < 0, torch.inf).topk(wide, largest=False).indices
        return numbers.gather(1, order), order // wide

    def __str__(self) -> str:
        return f"FAISS {self.factory}" + (f", {self.nprobe} lists read" if self.nprobe else "")

    def to_bytes(self) -> torch.Tensor:
        """The index as FAISS writes it, (n,) uint8."""
        return torch.from_numpy(self.faiss.serialize_index(self.index))

    @classmethod
    @typed
    def from_bytes(cls, data: torch.Tensor, factory: str, nprobe: int | None = None) -> ApproximateSearch:
        """The index that `to_bytes` wrote. FAISS trusts what it reads: give it bytes from a source that you trust.

        Raises:
            ImportError: FAISS is not installed.
            ValueError: bytes that it cannot read.
        """
        faiss = load_faiss()
        try:
            return cls(faiss.deserialize_index(data.numpy()), factory, nprobe)
        except RuntimeError as error:
            raise ValueError(f"`data` must be an index that FAISS reads, got {len(data)} other bytes") from error


def _longest(images: Sequence[torch.Tensor], patch: int, similarity: str) -> float:
    """R²: no window's vector is longer."""
    if similarity != "dot":
        return 1.0
    squares = (image.square().sum(0)[None, None] for image in images)
    return max(float(F.avg_pool2d(square, patch, stride=1).max()) * patch**2 for square in squares)


def _points(patches: torch.Tensor, similarity: str, square: float | None = None) -> torch.Tensor:
    """Patches (n, c, P, P) as points; `square`: R² for candidates, None for queries."""
    if similarity == "l2":
        return patches.flatten(1)
    rows = embed(patches, similarity)
    if square is None:
        return F.pad(rows, (0, 1))
    rest = (square - rows.square().sum(1, keepdim=True)).clamp_min(0)
    return torch.cat([rows, rest.sqrt()], 1)


def _cut(
    numbers: torch.Tensor, images: Sequence[torch.Tensor], corners: Sequence[torch.Tensor], patch: int
) -> torch.Tensor:
    """Patches at the windows with these numbers (n,), counted through all lists of corners, (n, c, P, P)."""
    numbers = numbers.to(images[0].device)
    ends = torch.tensor([len(places) for places in corners], device=numbers.device).cumsum(0)
    scenes = torch.bucketize(numbers, ends, right=True)
    taken = images[0].new_empty(len(numbers), len(images[0]), patch, patch)
    for scene in scenes.unique().tolist():
        here = scenes == scene
        first = int(ends[scene]) - len(corners[scene])
        taken[here] = pt.cut(images[scene], corners[scene][numbers[here] - first], patch)
    return taken


@contextmanager
def _threads(faiss: ModuleType) -> Iterator[None]:
    """FAISS brings its own OpenMP: inside, it has as many threads as torch."""
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(torch.get_num_threads())
    try:
        yield
    finally:
        faiss.omp_set_num_threads(before)
