"""What a tile of a scene becomes: a pure function of the tile and of what was fixed for the whole scene before.

    recipe = make_recipe(survey, scale=3)
    pred = answer(recipe, lr)                                 # of the whole scene, or of any window of it

Nothing is worked out from the tile: not its mean, not its noise, not when back-projection stops. So a tile with a rim
of `recipe.reach` coarse pixels has the same answer as the whole scene has there. All is in the numbers of the file.

Every direction of spectra is treated by itself: the strongest by the prior, and each is back-projected as far as it
stands out of the noise, see `damped`. What lies outside of the directions is enlarged bicubically, bad bands are so.

Source: this project.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from scipy.ndimage import distance_transform_edt
from torch.nn import functional as F

from ctmem.checks import Inside, Whole, as_image, check_choice, door, fail, typed
from ctmem.diffusion.subspace import Subspace
from ctmem.holes import enlarged, fill_in
from ctmem.observe.camera import Camera
from ctmem.observe.coarse import Matrices, apply, blurs_of
from ctmem.prior import sharpened_components, shipped_prior

METHODS = ("prior", "bicubic-bp", "bicubic")  # best first
STEPS = 10  # of back-projection
# (filled, holes, whitened components (1, Z, h, w), what the method adds to them) → what is added, (1, Z, H, W) or None
More = Callable[[torch.Tensor, torch.Tensor | None, torch.Tensor, torch.Tensor | None], torch.Tensor | None]


@typed
@dataclass(frozen=True, eq=False)
class Spread:
    """How the variance of an answer's error follows from the coarse image, see `spread`.

    Args:
        constant: of each direction, (Z,), in units of its own variance.
        share: of its squared slope, (Z,).
        rest: of each band, outside of the directions, (C,), squared numbers of the file.
    """

    constant: torch.Tensor
    share: torch.Tensor
    rest: torch.Tensor


@typed
@dataclass(frozen=True, eq=False)
class Recipe:
    """All that a tile must know of its scene, in the numbers of the file.

    C bands, Z directions of spectra that the method sharpens, K ≥ Z ones that are back-projected.

    Args:
        method: one of `METHODS`.
        camera: scale and blur.
        mean: of the bands, (C,); 0 in bad ones.
        directions: orthonormal (C, K), strongest first; 0 in bad bands.
        std: deviation of each, (K,).
        noise: deviation of the noise of each, (K,).
        damping: of the back-projection of each, (K,), ≥ 0; see `damped`.
        factors: share of what the method adds that is kept, (Z,), 0 to 1.
        good: bands that count, (C,) bool.
        level: what 1.0 stands for, where a method wants [0, 1].
        reach: coarse pixels around a tile that its answer depends on.
        seed: of noise, where a method draws it.
        band_noise: deviation of the noise of the bands, (C,); None: not told.
        spread: how far answers may be off; None: not known.
        about: what a card says of it, in plain numbers and words.
    """

    method: str
    camera: Camera
    mean: torch.Tensor
    directions: torch.Tensor
    std: torch.Tensor
    noise: torch.Tensor
    damping: torch.Tensor
    factors: torch.Tensor
    good: torch.Tensor
    level: float = 1.0
    reach: int = 12
    seed: int = 0
    band_noise: torch.Tensor | None = None
    spread: Spread | None = None
    about: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Checks the fields that go together."""
        check_choice(self.method, "method", METHODS)
        bands, directions = self.directions.shape
        for name, length in {"mean": bands, "good": bands, "std": directions, "damping": directions}.items():
            if getattr(self, name).shape != (length,):
                fail(name, f"of shape ({length},)", f"shape {tuple(getattr(self, name).shape)}")

    @property
    def space(self) -> Subspace:
        """The Z directions that the method sharpens."""
        kept = len(self.factors)
        return Subspace(self.mean, self.directions[:, :kept], self.std[:kept])


@door
@torch.no_grad()
def answer(
    recipe: Recipe,
    lr: torch.Tensor,
    *,
    top: Whole = 0,  # noqa: ARG001  (the form of all methods: noise is keyed by the place)
    left: Whole = 0,  # noqa: ARG001
    more: Inside[More | None] = None,
) -> torch.Tensor:
    """Returns what the recipe makes of a window of its scene, (1, C, scale·h, scale·w).

    Args:
        recipe: of the scene.
        lr: the window (1, C, h, w), numbers of the file; NaN in holes, which the answer has on the same ground. What
            is missing in a bad band alone is missing in that band alone.
        top: row of the scene at which the window begins, coarse pixels.
        left: column of the scene at which it begins.
        more: what else is known of the ground, as `laying.Laying.more`; None: nothing.

    Raises:
        TypeError: `lr` is not of floating-point numbers.
        ValueError: another number of bands, or several images.
    """
    lr = as_image(lr, "lr", bands=len(recipe.mean), finite=False, single=True)
    scale = recipe.camera.scale
    filled, holes, missing = filled_of(recipe, lr)
    if holes is not None and bool(holes.all()):
        return lr.new_full((1, lr.shape[1], scale * lr.shape[2], scale * lr.shape[3]), math.nan)
    coarse, extra = parts(recipe, filled, holes, more)
    pred = recipe.camera.upsample(coarse)
    if extra is not None:
        pred = pred + recipe.space.decode_difference(extra)
    return pred if missing is None else pred.masked_fill(enlarged(missing, scale), math.nan)


@door
@torch.no_grad()
def deviation(recipe: Recipe, lr: torch.Tensor) -> torch.Tensor:
    """Returns how far the answer may be off, one standard deviation, (1, C, scale·h, scale·w); NaN in holes, bad bands.

    Args:
        recipe: of the scene, with `spread`.
        lr: as of `answer`.

    Raises:
        TypeError: `lr` is not of floating-point numbers.
        ValueError: another number of bands, several images, or a recipe without `spread`.
    """
    lr = as_image(lr, "lr", bands=len(recipe.mean), finite=False, single=True)
    if recipe.spread is None:
        fail("recipe", "one that knows how far its answers may be off", "one of a scene too small for that")
    scale = recipe.camera.scale
    size = [scale * side for side in lr.shape[2:]]
    filled, holes, missing = filled_of(recipe, lr)
    if holes is not None and bool(holes.all()):
        return lr.new_full((1, lr.shape[1], *size), math.nan)
    constant, share, rest = (one.to(lr)[:, None, None] for one in vars(recipe.spread).values())
    slope = F.interpolate(slopes(recipe, filled), size, mode="bilinear", align_corners=False)
    weights = (recipe.space.basis * recipe.space.std).square()
    std = (torch.einsum("cz,bzhw->bchw", weights.to(lr), constant + share * slope) + rest).sqrt()
    std[:, ~recipe.good] = math.nan
    return std if missing is None else std.masked_fill(enlarged(missing, scale), math.nan)


def slopes(recipe: Recipe, filled: torch.Tensor) -> torch.Tensor:
    """Squared gradients of the whitened components of a window (1, C, h, w), per coarse pixel, (1, Z, h, w)."""
    kept = len(recipe.factors)
    y = torch.einsum("ck,bchw->bkhw", recipe.directions[:, :kept], filled - recipe.mean[:, None, None])
    z = F.pad(y / recipe.std[:kept, None, None], (1, 1, 1, 1), mode="replicate")
    down, across = z[..., 2:, 1:-1] - z[..., :-2, 1:-1], z[..., 1:-1, 2:] - z[..., 1:-1, :-2]
    return (down.square() + across.square()) / 4


def parts(
    recipe: Recipe, filled: torch.Tensor, holes: torch.Tensor | None, more: More | None = None
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """The two parts of an answer: a coarse image (1, C, h, w) to enlarge, and what the method adds, (1, Z, H, W).

    Args:
        recipe: of the scene.
        filled: the window (1, C, h, w) without holes.
        holes: where it had some, (1, 1, h, w); None: nowhere.
        more: as of `answer`.
    """
    if recipe.method == "bicubic":
        return filled, None
    camera, kept = recipe.camera, len(recipe.factors)
    y = torch.einsum("ck,bchw->bkhw", recipe.directions, filled - recipe.mean[:, None, None])
    z = y[:, :kept] / recipe.std[:kept, None, None]
    extra = sharpened(recipe, z) if recipe.method == "prior" else None
    extra = extra if more is None else more(filled, holes, z, extra)
    blurs = blurs_of(camera.psf, camera.scale, (y.shape[2], y.shape[3]), y)
    missing = y - apply(blurs, y)
    if extra is not None:
        missing[:, :kept] -= recipe.std[:kept, None, None] * camera.downsample(extra)
    added = damped(missing, blurs, recipe.damping, holes)
    return filled + torch.einsum("ck,bkhw->bchw", recipe.directions, added), extra


def sharpened(recipe: Recipe, z: torch.Tensor) -> torch.Tensor:
    """What the prior adds to the bicubic enlargement of whitened components (1, Z, h, w): (1, Z, H, W)."""
    kept = len(recipe.factors)
    z = z.transpose(0, 1)
    noise = (recipe.noise / recipe.std)[:kept].to(z)
    fine = sharpened_components(z, recipe.camera, shipped_prior().to(z.device), noise, whitened=True)
    return (recipe.factors.to(z)[:, None, None, None] * (fine - recipe.camera.upsample(z))).transpose(0, 1)


def damped(
    missing: torch.Tensor, blurs: Matrices, damping: torch.Tensor, holes: torch.Tensor | None = None
) -> torch.Tensor:
    """Returns the coarse image v that back-projection adds, (B, K, h, w): about (D U + d)⁻¹ of what is missing.

    Without damping d it is ten steps of the usual back-projection; d = 1 adds about half of what is missing, once, and
    an infinite one nothing.

    Args:
        missing: of the observation, (B, K, h, w).
        blurs: D U, from `coarse.blurs_of`.
        damping: d of each component, (K,).
        holes: coarse pixels that nothing is known of, (B, 1, h, w).
    """
    kept = torch.isfinite(damping)
    d = damping[kept].to(missing)[:, None, None]
    wanted = missing[:, kept]
    wanted = wanted if holes is None else wanted.masked_fill(holes, 0)
    v = wanted / (1 + d)
    for _ in range(STEPS - 1):
        rest = wanted - apply(blurs, v)
        v = (v + (rest if holes is None else rest.masked_fill(holes, 0))) / (1 + d)
    added = torch.zeros_like(missing)
    added[:, kept] = v
    return added


def filled_of(recipe: Recipe, lr: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None, torch.Tensor | None]:
    """The window without holes; its holes (1, 1, h, w); what the answer lacks, (1, 1 or C, h, w)."""
    gone = ~torch.isfinite(lr)
    if not bool(gone.any()):
        return lr, None, None
    holes = gone[:, recipe.good].any(1, keepdim=True)
    gone = gone | holes
    lr = lr.clone()
    if not bool(holes.all()):
        lr[:, recipe.good] = fill_in(lr[:, recipe.good], holes, "lr")
    for number in (~recipe.good).nonzero().flatten().tolist():
        _fill_band(lr[0, number], gone[0, number])
    return lr, holes, gone


def _fill_band(band: torch.Tensor, gone: torch.Tensor) -> None:
    """Fills what is missing in one bad band (h, w) from the nearest, or with 0 where nothing is there."""
    if bool(gone.all()):
        band.zero_()
    elif bool(gone.any()):
        nearest = distance_transform_edt(gone.cpu(), return_distances=False, return_indices=True)
        rows, columns = (torch.from_numpy(places).to(gone.device)[gone] for places in nearest)
        band[gone] = band[rows, columns]
