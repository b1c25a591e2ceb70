"""A diffusion run kept step by step, and the figures of each step: arrays in, arrays out, no widget.

    run = record(model, lr_hsi, ref_msi, camera=camera, steps=16, draws=4, generator=torch.Generator().manual_seed(0))
    run.estimate(draw=0, position=3)          # x̂0 of draw 0 at step 3, (1, C, H, W)

A *position* counts the steps from 0; the one after the last step is the answer: what the draw is after
back-projection, as `super_resolve` returns it. Steps are kept in the denoiser's Z channels and become spectra only
where they are looked at; the answers alone are kept as spectra.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated

import numpy as np
import torch

from ctmem.checks import Axes, Count, Finite, HoledImage, Whole, as_image, check_count, check_places, door, fail, typed
from ctmem.diffusion.encoding import Encoded
from ctmem.diffusion.samplers import Sampler, sample_ddim
from ctmem.diffusion.schedule import make_schedule
from ctmem.evaluation import metrics
from ctmem.holes import open_holes, split_holes
from ctmem.inference import camera_for, draw, encode, finish_estimate
from ctmem.match.align import References
from ctmem.match.texture_library import TextureLibrary
from ctmem.model import Model
from ctmem.observe.camera import Camera

Bands = Sequence[int] | None  # indices; None: all
Channels = Annotated[torch.Tensor, Axes("(B, Z, H, W)", finite=False)]
Numbers = Annotated[torch.Tensor, Axes("(B, C, H, W)", finite=False, double=True)]
Pixel = tuple[int, int] | None  # (row, column); None: all


@typed
@dataclass(frozen=True, eq=False)
class Recording:
    """What the callback of a diffusion saw, for one image and several draws."""

    encoded: Encoded
    times: tuple[int, ...]  # t of each step
    levels: tuple[float, ...]  # noise level of each step: 1 is clean, 0 is pure noise
    x_t: torch.Tensor  # (draws, steps, Z, H, W), what the network was handed at first in each step
    x0: torch.Tensor  # the same of its estimates x̂0
    answers: torch.Tensor  # (draws, C, H, W), each draw after back-projection

    @property
    def draws(self) -> int:
        """Number of draws."""
        return len(self.x0)

    @property
    def steps(self) -> int:
        """Number of steps; also the position of the answer."""
        return len(self.times)

    @property
    def shape(self) -> tuple[int, int, int]:
        """(H, W, C)."""
        bands, rows, columns = self.answers.shape[1:]
        return rows, columns, bands

    def _check(self, draw: int, position: int) -> None:
        """Raises unless there are such a draw and such a position; `steps` is that of the answer."""
        check_count(draw, "draw", at_least=0, at_most=self.draws - 1)
        check_count(position, "position", at_least=0, at_most=self.steps)

    @typed
    def decode(self, z: Channels, *, bands: Bands = None, pixel: Pixel = None) -> torch.Tensor:
        """Spectra (B, C, H, W) of channels (B, Z, H, W); of some bands or of one pixel alone without the rest."""
        lr_hsi_up = cut(self.encoded.lr_hsi_up, bands, pixel)
        space = self.encoded.space
        if bands is not None:
            space = replace(space, mean=space.mean[list(bands)], basis=space.basis[list(bands)])
        part = replace(
            self.encoded,
            lr_hsi_up=lr_hsi_up,
            base=cut(self.encoded.base, pixel=pixel),
            space=space,
        )
        return part.decode(cut(z, pixel=pixel)).cpu()

    @typed
    def noisy(self, draw: Whole, position: Whole, *, bands: Bands = None, pixel: Pixel = None) -> torch.Tensor:
        """Spectra of x_t, (1, C, H, W), or a part as in `decode`; at the answer's position: where the chain ended."""
        self._check(draw, position)
        ended = position == self.steps
        return self.decode((self.x0[draw, -1] if ended else self.x_t[draw, position])[None], bands=bands, pixel=pixel)

    @typed
    def estimate(self, draw: Whole, position: Whole, *, bands: Bands = None, pixel: Pixel = None) -> torch.Tensor:
        """Spectra of x̂0, (1, C, H, W), or a part as in `decode`; at the last position the answer."""
        self._check(draw, position)
        if position == self.steps:
            return cut(self.answers[draw][None], bands, pixel)
        return self.decode(self.x0[draw, position][None], bands=bands, pixel=pixel)

    @typed
    def mean_estimate(self, position: Whole) -> torch.Tensor:
        """Spectra (1, C, H, W) of the mean of all draws' `estimate`."""
        self._check(0, position)
        if position == self.steps:
            return self.answers.mean(0, keepdim=True)
        return self.decode(self.x0[:, position].mean(0, keepdim=True))


@typed
def cut(image: Numbers, bands: Bands = None, pixel: Pixel = None) -> torch.Tensor:
    """Some bands, at least one, or one pixel of an image (B, C, H, W), which stays four-dimensional."""
    if bands is not None:
        check_places(bands, "bands", image.shape[1])
        image = image[:, list(bands)]
    if pixel is None:
        return image
    for place, (index, count) in enumerate(zip(pixel, image.shape[2:])):
        check_count(index, f"pixel[{place}]", at_least=0, at_most=count - 1)
    row, column = pixel
    return image[..., row : row + 1, column : column + 1]


@door
@torch.no_grad()
def record(
    model: Model,
    lr_hsi: torch.Tensor,
    ref_msi: References | TextureLibrary | None = None,
    *,
    camera: Camera | None = None,
    steps: Count = 16,
    draws: Count = 4,
    sampler: Sampler = sample_ddim,
    start: Finite = 1.0,
    tile: Count = 192,
    generator: torch.Generator | None = None,
) -> Recording:
    """Runs the diffusion as `super_resolve` does, and keeps every step of every draw.

    Memory: 2 · draws · steps images of Z channels, and `draws` of C bands.

    Args:
        model: trained networks.
        lr_hsi: one observed image (1, C, h, w), [0, 1], NaN in its holes: there every step and answer is NaN.
        ref_msi: unpaired reference, as in `super_resolve`, or None.
        camera: of the observation, as in `super_resolve`.
        steps: of the chain, in each draw.
        draws: how many.
        sampler: as in `super_resolve`.
        start: where the chain is entered, as in `super_resolve`.
        tile: largest side that goes through the network at once, fine pixels.
        generator: of the noise.

    Raises:
        TypeError, ValueError: as `super_resolve`; no model; a batch of several images.
    """
    if not isinstance(model, Model):
        fail("model", "a model, as `load_model` returns it", type(model).__name__, TypeError)
    lr_hsi, holes = split_holes(as_image(lr_hsi, "lr_hsi", single=True, finite=False).to(model.device), "lr_hsi")
    check_count(draws, "draws")
    camera = camera_for(model, camera).to(model.device)
    # the diffusion as `super_resolve` runs it, every step of every draw kept
    schedule = make_schedule(model.preset.schedule, model.preset.timesteps)
    times = schedule.trailing(steps, start)
    seen: list[tuple[torch.Tensor, torch.Tensor]] = []
    (encoded,) = encode(model, lr_hsi, ref_msi, camera=camera, holes=holes)
    drawn = draw(
        model, encoded, steps=steps, draws=draws, sampler=sampler, start=start, tile=tile, generator=generator,
        callback=lambda step, t, x_t, x0: seen.append((x_t, x0)),
    )  # fmt: skip
    x_t, x0 = (open_holes(torch.cat(images), holes).unflatten(0, (draws, steps)) for images in zip(*seen))
    # what each draw would be as an answer
    answers = [finish_estimate(encoded, lr_hsi, camera, z, holes=holes).cpu() for z in drawn.split(1)]
    levels = schedule.noise_level(torch.tensor(times)).tolist()
    return Recording(encoded, tuple(times), tuple(levels), x_t, x0, torch.cat(answers))


@typed
def spread(run: Recording) -> np.ndarray:
    """Standard deviation of the draws' x̂0 at every position, root mean square over bands, (steps + 1, H, W).

    The directions of the subspace are orthonormal: the bands' variances sum to those of the channels.

    Raises:
        ValueError: a recording of one draw.
    """
    if run.draws < 2:
        fail("run", "of at least 2 draws, to see how far they differ", f"{run.draws}")
    space = run.encoded.space
    bands = run.answers.shape[1]
    variance = run.x0.var(0)[:, : space.channels] * space.std.square()[:, None, None]
    maps = [variance.sum(1).cpu() / bands, run.answers.var(0).mean(0)[None]]
    return torch.cat(maps).sqrt().numpy()


@typed
@dataclass(frozen=True, eq=False)
class Figures:
    """How far the estimates are from the truth; the mean of the draws stands after the last draw."""

    psnr_db: np.ndarray  # (draws + 1, steps + 1)
    sam_deg: np.ndarray  # the same; NaN for images of one band
    error: np.ndarray  # (draws, steps + 1, H, W), root mean square over bands


@typed
def measure(run: Recording, target: HoledImage) -> Figures:
    """The figures of every estimate of a recording. Holes of the target, and of what was observed, are left out.

    Args:
        run: the recording.
        target: the truth (1, C, H, W), [0, 1].
    """
    target = target.detach()
    holes = (target.isnan() | run.answers[:1].isnan()).any(1)[0]
    if bool(holes.all()):
        fail("target", "an image with at least one pixel without a hole", "holes everywhere")
    psnr_db = np.full((run.draws + 1, run.steps + 1), math.nan)
    sam_deg = np.full_like(psnr_db, math.nan)
    errors: list[torch.Tensor] = []
    # every position of every draw, and of the mean of the draws
    for number in range(run.draws + 1):
        for position in range(run.steps + 1):
            mean = number == run.draws
            pred = run.mean_estimate(position) if mean else run.estimate(number, position)
            psnr_db[number, position], sam_deg[number, position] = _psnr_and_sam(
                _without(holes, pred), _without(holes, target)
            )
            if not mean:
                errors.append((pred - target).square().mean(1).sqrt())
    error = torch.cat(errors).unflatten(0, (run.draws, run.steps + 1)).numpy()
    return Figures(psnr_db, sam_deg, error)


def _without(holes: torch.Tensor, image: torch.Tensor) -> torch.Tensor:
    """An image (1, C, H, W); where there are holes (H, W), its other pixels in one row."""
    return image[..., ~holes][:, :, None] if holes.any() else image


def _psnr_and_sam(pred: torch.Tensor, target: torch.Tensor) -> tuple[float, float]:
    """Both of one image; without an angle where there is only one band."""
    angle = float(metrics.sam_map(pred, target).nanmean()) if pred.shape[1] > 1 else math.nan
    return float(metrics.psnr_db(pred, target)), angle
