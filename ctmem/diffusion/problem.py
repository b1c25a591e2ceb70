"""The denoising problem: what one batch of images asks of one network; the one place that knows the network's target.

    problem = DenoisingProblem.of(network, encoded.base, encoded.texture)      # the condition is computed here, once
    loss = problem.loss(target, weight, schedule)
    z = problem.draw(schedule, steps=10, sampler=sample_heun)

The diffusion runs either on the image itself, or on its *residual*, what is missing in lr_hsi_up, divided by its size:
the x0 of a chain of its own. `enter` and `leave` change between the two, `weigh` takes the weights along.

A network is anything with the attributes of `Network`; no module of it is known here.

Source: this project.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Annotated, Any, Protocol

import torch

from ctmem.checks import Axes, Count, Finite, as_image, check_count, check_same_shape, door, fail, typed
from ctmem.diffusion.objective import Denoise, training_loss
from ctmem.diffusion.samplers import Callback, Sampler, sample, sample_ddim
from ctmem.diffusion.schedule import Schedule

Channels = Annotated[torch.Tensor, Axes("(B, Z, H, W)", finite=False)]
OVERLAP = 16  # of neighbouring tiles, fine pixels
SMALLEST = 32  # tile that costs nothing: the network sees about as far as two tiles overlap; 8 px cost 0.1 dB


class Network(Protocol):
    """What a denoiser must have."""

    target: str  # what it puts out: x0, residual, eps, v
    residual_std: torch.Tensor | None  # (Z,), for the target `residual`

    def condition(self, base: torch.Tensor, texture: torch.Tensor) -> Any:
        """What it makes of lr_hsi_up and texture, (B, Z, H, W) and (B, T, H, W), once per image."""

    def denoise(self, x_t: torch.Tensor, level: torch.Tensor, previous: torch.Tensor, condition: Any) -> torch.Tensor:
        """Its output (B, Z, H, W) for noisy data of unit size at a level (B,): 1 is clean, 0 is pure noise."""


@typed
@dataclass(frozen=True, eq=False)
class DenoisingProblem:
    """A batch of images and what the diffusion needs to find them.

    Args:
        denoise: `denoise(x, level, previous)`, the network with its condition; see `ctmem.diffusion.objective`.
        base: lr_hsi_up in the denoiser's channels, (B, Z, H, W).
        residual_std: size of each channel's residual (Z,) if the diffusion runs on residuals; None: on images.
        prediction: what `denoise` returns: `x0`, `eps` or `v`.
    """

    denoise: Denoise
    base: torch.Tensor
    residual_std: torch.Tensor | None = None
    prediction: str = "x0"

    @classmethod
    @typed
    def of(cls, network: Network, base: Channels, texture: Channels, *, tile: Count | None = None) -> DenoisingProblem:
        """What images ask of a network.

        Args:
            network: see `Network`.
            base: lr_hsi_up in the denoiser's channels, (B, Z, H, W).
            texture: of the same images, (B, T, H, W), T as the network wants it.
            tile: largest side that goes through the network at once, fine pixels; None: all of it.

        Raises:
            ValueError: images that the network refuses.
        """
        residual = network.target == "residual"
        return cls(
            tiled_denoise(network, base, texture, tile),
            base,
            residual_std=network.residual_std if residual else None,
            prediction="x0" if residual else network.target,
        )

    @typed
    def enter(self, z: torch.Tensor) -> torch.Tensor:
        """What the diffusion runs on, of images z (B, Z, H, W): (z − base) / residual_std, or z itself."""
        return z if self.residual_std is None else (z - self.base) / self.residual_std[:, None, None]

    @typed
    def leave(self, x: torch.Tensor) -> torch.Tensor:
        """Undoes `enter`: base + residual_std · x, or x itself; (B, Z, H, W)."""
        return x if self.residual_std is None else self.base + self.residual_std[:, None, None] * x

    @typed
    def weigh(self, weight: torch.Tensor) -> torch.Tensor:
        """The worth (B, Z, 1, 1) of each channel's error in an image, for an error of what the diffusion runs on."""
        if self.residual_std is None:
            return weight
        return weight * (self.residual_std / self.residual_std.mean())[:, None, None]

    @property
    def start(self) -> torch.Tensor:
        """The estimate before there is any, (B, Z, H, W): lr_hsi_up, entered; a residual of 0."""
        return self.enter(self.base)

    @typed
    def loss(
        self,
        target: torch.Tensor,
        weight: torch.Tensor,
        schedule: Schedule,
        *,
        self_condition: float = 0.5,
        generator: torch.Generator | None = None,
    ) -> torch.Tensor:
        """The training loss, a scalar; see `ctmem.diffusion.objective.training_loss`.

        Args:
            target: the true images (B, Z, H, W).
            weight: worth of each channel's error in them, (B, Z, 1, 1).
            schedule: the chain.
            self_condition: chance that the network sees its own estimate.
            generator: of every random number drawn here.
        """
        return training_loss(
            self.denoise, self.enter(target), self.start, schedule, prediction=self.prediction,
            weight=self.weigh(weight), self_condition=self_condition, generator=generator,
        )  # fmt: skip

    @typed
    def draw(
        self,
        schedule: Schedule,
        *,
        steps: Count,
        sampler: Sampler = sample_ddim,
        start: Finite = 1.0,
        generator: torch.Generator | None = None,
        callback: Callback | None = None,
    ) -> torch.Tensor:
        """One draw of the images, (B, Z, H, W) in the denoiser's channels.

        Args:
            schedule: the chain.
            steps: of it that are walked.
            sampler: any function of the form of `sample_ddim`.
            start: where the chain is entered, see `ctmem.diffusion.samplers.sample`.
            generator: of the noise.
            callback: called once per step with (step, t, x, x̂0), both images in the denoiser's channels.

        Raises:
            TypeError, ValueError: as `ctmem.diffusion.samplers.sample`.
        """

        def report(step: int, t: int, x: torch.Tensor, x0: torch.Tensor) -> None:
            if callback is not None:
                callback(step, t, self.leave(x), self.leave(x0))

        found = sample(
            self.denoise, self.start, schedule, steps=steps, sampler=sampler, start=start, prediction=self.prediction,
            generator=generator, callback=report,
        )  # fmt: skip
        return self.leave(found)


@door
@torch.no_grad()
def residual_std(target: torch.Tensor, base: torch.Tensor) -> torch.Tensor:
    """Root mean square (Z,) of target − base over a pool, by which residuals have unit size.

    Channels without any difference have 1.

    Args:
        target: clean images (N, Z, H, W).
        base: lr_hsi_up of the same.

    Raises:
        TypeError: no floating-point images.
        ValueError: shapes that differ, values that are not finite.
    """
    target, base = as_image(target, "target"), as_image(base, "base")
    check_same_shape(base, target, ("base", "target"))
    size = (target - base).square().mean((0, 2, 3)).sqrt()
    return torch.where(size > 1e-6, size, 1.0)


# --- matching again ---------------------------------------------------------------------------------------------------


@typed
@dataclass(frozen=True)
class Rematch:
    """How a texture is looked for again while an image is drawn.

    Args:
        every: calls of the denoiser between two matches.
        texture: from an estimate of the images (B, Z, H, W) to their texture (B, T, H, W).
    """

    every: int
    texture: Callable[[torch.Tensor], torch.Tensor]


@typed
def rematched(
    problem: DenoisingProblem, network: Network, rematch: Rematch, *, tile: Count | None = None
) -> DenoisingProblem:
    """The same problem for one draw, its texture matched again with the last x̂0 after every `rematch.every` calls.

    The arguments are those of `DenoisingProblem.of`, and how to match.
    """
    current, calls = problem.denoise, 0

    def denoise(x: torch.Tensor, level: torch.Tensor, previous: torch.Tensor) -> torch.Tensor:
        nonlocal current, calls
        if calls and calls % rematch.every == 0:
            texture = rematch.texture(problem.leave(previous))
            current = tiled_denoise(network, problem.base, texture, tile)
        calls += 1
        return current(x, level, previous)

    return replace(problem, denoise=denoise)


# --- large images -----------------------------------------------------------------------------------------------------


def tiled_denoise(network: Network, base: Channels, texture: Channels, tile: Count | None = None) -> Denoise:
    """Returns denoise(x, level, previous) for one batch, its condition computed here, once.

    Images larger than `tile` are cut into tiles that overlap; their estimates are blended with weights that fall
    towards the tiles' borders. All tiles share one x, so that no seam grows over the steps.

    Args:
        network: see `Network`.
        base: lr_hsi_up in the denoiser's channels, (B, Z, H, W).
        texture: of the same images, (B, T, H, W).
        tile: largest side of a tile, fine pixels; None: one tile.
    """
    height, width = base.shape[2:]
    boxes = [(rows, columns) for rows in _spans(height, tile) for columns in _spans(width, tile)]
    conditions = [network.condition(base[..., r, c], texture[..., r, c]) for r, c in boxes]
    if len(boxes) == 1:
        return lambda x, level, previous: network.denoise(x, level, previous, conditions[0])

    def denoise(x: torch.Tensor, level: torch.Tensor, previous: torch.Tensor) -> torch.Tensor:
        total, weight = torch.zeros_like(x), x.new_zeros(1, 1, height, width)
        for (r, c), condition in zip(boxes, conditions):
            window = _ramp(r, x)[:, None] * _ramp(c, x)
            total[..., r, c] += window * network.denoise(x[..., r, c], level, previous[..., r, c], condition)
            weight[..., r, c] += window
        return total / weight

    return denoise


def check_tile(tile: int, height: int, width: int) -> None:
    """Raises where tiles are smaller than what the network sees, and the image (fine pixels) is not.

    Raises:
        ValueError: a tile below 8 px, or below `SMALLEST` for a larger image.
    """
    check_count(tile, "tile", at_least=8)
    if tile < SMALLEST < max(height, width):
        fail("tile", f"a whole number ≥ {SMALLEST} for an image larger than that", tile)


def _spans(length: int, tile: Count | None) -> list[slice]:
    """Slices of at most `tile` pixels that cover the length and overlap by at least `OVERLAP` (or half a tile)."""
    if tile is None or length <= tile:
        return [slice(0, length)]
    step = tile - min(OVERLAP, tile // 2)
    starts = sorted({*range(0, length - tile, step), length - tile})
    return [slice(start, start + tile) for start in starts]


def _ramp(span: slice, like: torch.Tensor) -> torch.Tensor:
    """Weights over one side of a tile: 1 inside, falling linearly, but not to 0, at both ends."""
    place = torch.arange(span.stop - span.start, device=like.device, dtype=like.dtype) + 1
    return torch.minimum(place, place.flip(0)).clamp_max(OVERLAP) / OVERLAP
