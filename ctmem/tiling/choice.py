"""Which method, and how much of what it adds: tried on the scene's own copy, observed once more at half its resolution.

Of the copy the truth is known, the scene itself. Half of its blocks say what share of the prior's detail to keep in
every direction, the other half how much better than bicubic enlargement that is. The first method that is better there,
in PSNR and in spectral angle, is taken.

Source: after Wald et al., "Fusion of satellite images of different spatial resolutions", 1997; the rest: this project.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from ctmem.checks import typed
from ctmem.holes import open_holes, split_holes
from ctmem.observe.camera import Camera
from ctmem.observe.optics import gaussian_psf
from ctmem.tiling.answering import Recipe, answer, sharpened
from ctmem.tiling.damping import damping_of
from ctmem.tiling.spread import with_spread

HALF = 2  # scale of the copy
BLOCK = 8  # side of the blocks that fit or judge in turn, pixels
LEAST = 12  # side of a window, pixels, below which its copy tells nothing
DOUBTED = 0.5  # share that fits best, below which less than all is kept
LEAST_GAIN = 0.02  # dB on the copy, below which a method is not worth its risk
MOST_ANGLE = 1.005  # mean spectral angle over that of bicubic enlargement, at most
CHANCE_DB, CHANCE_ANGLE = 1.0, 0.1  # of one block: how far the copy may err; less with the root of their number
RIM = 4  # pixels of a window's border that do not judge: surroundings are missing there


@typed
@dataclass(frozen=True)
class Tried:
    """What a method has over bicubic enlargement on the copy: dB, mean of the bands, the ratio of angles, blocks."""

    method: str
    gain_db: float
    angle: float
    blocks: float

    @property
    def helps(self) -> bool:
        """Whether it is used at all: the prior, which was better on all ground so far, unless it is clearly worse."""
        if self.method == "prior":
            chance = max(self.blocks, 1.0) ** -0.5
            return self.gain_db >= -CHANCE_DB * chance and self.angle <= 1 + CHANCE_ANGLE * chance
        return self.gain_db >= LEAST_GAIN and self.angle <= MOST_ANGLE


@typed
def choose(
    recipe: Recipe, samples: Sequence[torch.Tensor], count: int, methods: Sequence[str]
) -> tuple[Recipe, list[Tried]]:
    """Returns the recipe with the method, and the shares, that are best on the copy; and what was tried.

    Without a window that is large enough it is the first of the methods, and nothing is known of its errors.

    Args:
        recipe: of the scene.
        samples: windows of all bands, (1, C, h, w), NaN in holes.
        count: pixels that the directions were found from.
        methods: that are tried, best first; a single one is taken as it is, with all of what it adds.
    """
    copies = [copy_of(recipe, one, number) for number, one in enumerate(samples) if min(one.shape[2:]) >= LEAST]
    known = [one for one in copies if one is not None]
    if not known:
        return replace(recipe, method=methods[0]), []
    lows = [low for low, _ in known]
    trials, tried = {}, []
    for method in methods:
        trial = replace(recipe, method=method, camera=_camera(recipe))
        if method == "prior" and len(methods) > 1:
            trial = replace(trial, factors=shares_of(trial, known))
        if method != "bicubic":
            trial = replace(trial, damping=damping_of(trial, lows, count))
        trials[method] = trial
        tried.append(_judged(trial, known))
    helpful = [one for one in tried if one.helps]
    method = helpful[0].method if helpful else "bicubic"
    trial = trials[methods[0] if len(methods) == 1 else method]
    chosen = replace(recipe, method=trial.method, factors=trial.factors)
    return with_spread(chosen, trial, known), tried


def copy_of(recipe: Recipe, sample: torch.Tensor, seed: int) -> tuple[torch.Tensor, torch.Tensor] | None:
    """A window at half its resolution, with the noise that it had itself, and the window; None: of holes only.

    Args:
        recipe: of the scene.
        sample: (1, C, h, w), NaN in holes.
        seed: of the noise.
    """
    height, width = (side // HALF * HALF for side in sample.shape[2:])
    truth, holes = split_holes(sample[..., :height, :width], "samples")
    camera = _camera(recipe)
    low = camera.downsample(truth)
    if recipe.band_noise is not None:
        left = math.sqrt(max(0.0, 1 - float(camera.psf.square().sum())))  # what averaging took away of it
        draw = torch.randn(low.shape, generator=torch.Generator().manual_seed(seed))
        low = low + left * recipe.band_noise.to(low)[:, None, None] * draw.to(low)
    if holes is None:
        return low, truth
    unseen = camera.coarse_holes(holes)
    return None if bool(unseen.all()) else (open_holes(low, unseen), open_holes(truth, holes))


def _camera(recipe: Recipe) -> Camera:
    """The camera of the copy: as wide a blur in its coarse pixels, the mean of both axes."""
    width = sum(recipe.camera.fwhm_px) / 2 / recipe.camera.scale
    return Camera(gaussian_psf(max(width, 0.3) * HALF, scale=HALF), HALF, sensor=None)


def _blocks(height: int, width: int, kind: int) -> torch.Tensor:
    """Pixels of the blocks that fit (kind 0) or judge (1), like the fields of a chessboard, (H, W) bool."""
    rows, columns = (torch.arange(side) // BLOCK for side in (height, width))
    return (rows[:, None] + columns) % 2 == kind


def shares_of(recipe: Recipe, copies: Sequence[tuple[torch.Tensor, torch.Tensor]]) -> torch.Tensor:
    """Returns the share (Z,) of what the prior adds to every direction that is kept, 0 to 1.

    It is all where at least half of it fits best on the copy, of which a few pixels speak for the scene.

    Args:
        recipe: of the copy.
        copies: coarse and fine windows, (1, C, h, w) and (1, C, H, W), NaN in holes.
    """
    kept = len(recipe.factors)
    plain = replace(recipe, factors=torch.ones(kept))
    both = torch.zeros(2, kept, dtype=torch.float64)
    for low, truth in copies:
        filled, _ = split_holes(low, "copies")
        y = torch.einsum("ck,bchw->bkhw", recipe.directions[:, :kept], filled - recipe.mean[:, None, None])
        wanted = torch.einsum("ck,bchw->bkhw", recipe.directions[:, :kept], truth - recipe.mean[:, None, None])
        y, wanted = (one / recipe.std[:kept, None, None] for one in (y, wanted))
        added = sharpened(plain, y)[0].double()
        left = (wanted - recipe.camera.upsample(y))[0].double()
        here = _blocks(truth.shape[2], truth.shape[3], 0) & _inner(torch.isfinite(left[0]))
        both[0] += (added * left)[:, here].sum(1)
        both[1] += added.square()[:, here].sum(1)
    return (both[0] / both[1].clamp_min(1e-30) / DOUBTED).clamp(0, 1).float()


def _judged(recipe: Recipe, copies: Sequence[tuple[torch.Tensor, torch.Tensor]]) -> Tried:
    """What a recipe of the copy has over bicubic enlargement, on the blocks that judge."""
    good = recipe.good
    errors = torch.zeros(2, int(good.sum()), dtype=torch.float64)
    angles, pixels = [0.0, 0.0], 0
    for low, truth in copies:
        preds = answer(replace(recipe, method="bicubic"), low), answer(recipe, low)
        here = torch.isfinite(truth[0, good]).all(0) & torch.isfinite(preds[0][0, good]).all(0)
        judge = _inner(here) & _blocks(truth.shape[2], truth.shape[3], 1)
        judge = judge if bool(judge.any()) else here
        for number, pred in enumerate(preds):
            x, y = (one[0, good][:, judge].double() for one in (pred, truth))
            errors[number] += (x - y).square().sum(1)
            angles[number] += float(_angles(x, y).sum())
        pixels += int(judge.sum())
    if not pixels:
        return Tried(recipe.method, 0.0, 1.0, 0.0)
    ratio = errors[0].clamp_min(1e-300) / errors[1].clamp_min(1e-300)
    angle = angles[1] / angles[0] if angles[0] > 0 else 1.0
    return Tried(recipe.method, float(10 * ratio.log10().mean()), angle, pixels / BLOCK**2)


def _inner(here: torch.Tensor) -> torch.Tensor:
    """Pixels (H, W) that are not at the border, unless little would be left."""
    if min(here.shape) < 4 * RIM:
        return here
    inner = torch.zeros_like(here)
    inner[RIM:-RIM, RIM:-RIM] = here[RIM:-RIM, RIM:-RIM]
    return inner


def _angles(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Angles between spectra (C, n), (n,), radians."""
    cosine = torch.linalg.vecdot(x, y, dim=0) / (x.norm(dim=0) * y.norm(dim=0)).clamp_min(1e-300)
    return cosine.clamp(-1, 1).acos()
