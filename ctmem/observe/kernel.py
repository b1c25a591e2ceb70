"""Stage 1: learning what the LR sensor's blur does to an MSI-like image: K(srf · gt) ≈ srf · lr_hsi_up.

Two modules can be K. Both take any height, width and number of bands, and treat every band alike.

- `PsfKernel`, the default, knows that the chain is blur, decimation, upsampling, and learns only the point spread
  function: k×k weights, non-negative, of sum 1. It is linear, so it holds on every image, and it needs few examples.
- `kernel_net.KernelNet`, the paper's network, knows nothing of the chain. It needs more examples and holds on images
  like those. It is not tied to one PSF, so it might do for a sensor that no PSF describes; the one tried did not gain.

`benchmarks/results/kernel.md` compares the two. `train_kernel` trains either, on the training area only, and keeps
the weights that were best on a validation area.

Source: Qu et al., IEEE TGRS 2025, for the stage; `PsfKernel` and the choice on a validation area are this project's.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from ctmem.checks import (
    Count,
    Inside,
    Positive,
    Scale,
    Size,
    Whole,
    as_floats,
    as_image,
    check_count,
    check_finite,
    check_same_shape,
    door,
    fail,
    typed,
    usual_state,
)
from ctmem.observe.camera import Camera
from ctmem.observe.optics import Side, blur_on_grid, gaussian_psf

Blur = Callable[[torch.Tensor], torch.Tensor]  # K: an image (B, c, H, W) → the same as the LR sensor would show it

FLOOR = 1e-6  # smallest weight that a PSF starts from, so that none is out of the optimiser's reach
BUMP = 0.01  # brightness of the impulse whose response is measured


class LearnedBlur(nn.Module):
    """A K that `train_kernel` can train: an image (B, c, H, W) → the same as the LR sensor would show it.

    Attributes:
        grid: crops begin at multiples of this, pixels.
        learning_rate: that `train_kernel` takes if none is given.
        fixed_bands: c where it takes no other number of bands, else None.
    """

    grid: int
    learning_rate: float
    fixed_bands: int | None = None


class PsfKernel(LearnedBlur):
    """K as the chain that it is: blur with a learned PSF, keep one value per LR pixel, bicubic upsampling.

    The PSF is the softmax of k² learned numbers. It starts as a wide Gaussian, FWHM 2·scale, from which the true one
    is nowhere far. It may settle off centre: then the two images of the pair are misregistered, see `shift_px`.

    Args:
        scale: fine pixels per LR pixel, along one side.
        size: k, of the parity of `scale`; default: that of `psf`, or 5·scale, which holds a Gaussian of FWHM
            1.5·scale and a shift of half an LR pixel. What was learned should be near 0 on its rim.
        psf: (k, k), finite, no weight negative, to start from, such as the maker's figure; normalised, weights below
            1e-6 raised to that.

    Attributes:
        grid: `scale`: crops begin at multiples of this.
        learning_rate: that `train_kernel` takes if none is given.

    Raises:
        TypeError: `psf` is not a floating-point tensor.
        ValueError: `scale` < 1, a `size` below `scale` or of the other parity, or a `psf` that is not square, not
            finite, negative somewhere or 0 everywhere.

    Source: this project.

    Example:
        >>> k = PsfKernel(scale=4)
        >>> tuple(k.psf.shape), tuple(k(torch.rand(1, 3, 13, 21)).shape)
        ((20, 20), (1, 3, 13, 21))
    """

    learning_rate = 0.1

    @typed
    def __init__(self, scale: Scale = 4, size: Side | None = None, *, psf: Inside[torch.Tensor | None] = None) -> None:
        super().__init__()
        check_count(scale, "scale")
        if psf is not None:
            psf = _as_start(psf, size)
            size = len(psf)
        size = 5 * scale if size is None else size
        check_count(size, "size", at_least=scale)
        if (size - scale) % 2:
            fail("size", f"{'odd' if scale % 2 else 'even'}, as `scale` {scale} is", size)
        start = gaussian_psf(2.0 * scale, size=size, scale=scale) if psf is None else psf.detach() / psf.detach().sum()
        self.scale = self.grid = scale
        self.logits = nn.Parameter(start.float().clamp_min(FLOOR).log())

    def weights(self) -> torch.Tensor:
        """The PSF, (k, k), with its gradient."""
        return self.logits.flatten().softmax(0).view_as(self.logits)

    @property
    def psf(self) -> torch.Tensor:
        """The learned PSF, (k, k), no weight negative, sum 1: what `optics.blur_down` and `Camera` take."""
        return self.weights().detach()

    @property
    def shift_px(self) -> tuple[float, float]:
        """How far, in fine pixels down and right, the blurry image lies from the sharp one: the PSF's centroid."""
        offsets = torch.arange(len(self.psf)).to(self.psf) - (len(self.psf) - 1) / 2
        return float(self.psf.sum(1) @ offsets), float(self.psf.sum(0) @ offsets)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Returns the blurred image, (B, c, H, W) like x, in the units of x; the border is replicated.

        Raises:
            TypeError: `x` is not a floating-point tensor.
            ValueError: wrong rank, or values that are not finite.
        """
        return blur_on_grid(x, self.weights(), self.scale)


def _as_start(psf: torch.Tensor, size: int | None) -> torch.Tensor:
    """A PSF to start from, or the error of one from which nothing can."""
    psf = as_floats(psf, "psf", "(k, k)", double=True)
    if psf.ndim != 2 or psf.shape[0] != psf.shape[1] or psf.numel() == 0:
        fail("psf", "of shape (k, k)", f"shape {tuple(psf.shape)}")
    if size not in (None, len(psf)):
        fail("size", f"{len(psf)}, as `psf` is", size)
    check_finite(psf, "psf")
    if psf.min() < 0 or psf.sum() <= 0:
        fail("psf", "without negative weights and not 0 everywhere", f"weights from {psf.min():.4g} to {psf.max():.4g}")
    return psf


@door
@usual_state(learning=True)
def train_kernel(
    net: LearnedBlur,
    sharp: Sequence[torch.Tensor],
    blurry: Sequence[torch.Tensor],
    *,
    val_sharp: Sequence[torch.Tensor],
    val_blurry: Sequence[torch.Tensor],
    steps: Count,
    crop: Size | None = 32,
    batch: Size = 8,
    margin: Whole = 4,
    learning_rate: Positive | None = None,
    validate_every: Count = 25,
    generator: torch.Generator,
    on_step: Callable[[int, float], None] | None = None,
) -> dict[str, Any]:
    """Trains `net` in place with L1 on random crops and leaves it with its best weights on validation.

    Crops start at multiples of `net.grid`, so that the grid of the LR pixels keeps its place.

    Args:
        net: K: a `PsfKernel`, a `KernelNet`, or another `LearnedBlur`.
        sharp: srf · gt of the training area(s), each (1, c, H, W).
        blurry: srf · lr_hsi_up of the same, same shapes.
        val_sharp: images of the validation area(s), never of the test area.
        val_blurry: the same, blurry.
        steps: optimiser steps (Adam, cosine decay).
        crop: side of a training crop, pixels; None: whole images, one after the other.
        batch: crops per step.
        margin: pixels along the border of a crop or image that do not count: K sees its border repeated there,
            where the blurry image has seen what lies beyond.
        learning_rate: at the start; default: `net.learning_rate`.
        validate_every: steps between two looks at the validation area.
        generator: draws the crops (on the CPU).
        on_step: called with (step, loss) after each step, for a progress bar.

    Returns:
        `loss`: L1 of every step; `validation`: list of (step, L1), from step 0 (untrained) on; `best_step`;
        `best_validation`.

    Raises:
        TypeError: an image that is not a floating-point tensor.
        ValueError: no image, pairs that don't fit, or an image or crop with nothing inside the margin.
    """
    _check_counts(crop, margin, steps=steps, batch=batch, validate_every=validate_every)
    sharp, blurry = _as_images(net, sharp, blurry, ("sharp", "blurry"), crop or 2 * margin + 1)
    val_sharp, val_blurry = _as_images(net, val_sharp, val_blurry, ("val_sharp", "val_blurry"), 2 * margin + 1)
    optimiser = torch.optim.Adam(net.parameters(), lr=net.learning_rate if learning_rate is None else learning_rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    losses: list[float] = []
    validation: list[tuple[int, float]] = []
    best: tuple[float, int, dict[str, torch.Tensor]] = (float("inf"), 0, {})
    for step in range(steps + 1):
        # step 0 only looks at the validation area, untrained
        if step > 0:
            number = (step - 1) % len(sharp)
            whole = sharp[number], blurry[number]
            inputs, targets = whole if crop is None else _draw(sharp, blurry, crop, batch, net.grid, generator)
            losses.append(_update(net, optimiser, inputs, targets, margin))
            schedule.step()
        if step % validate_every == 0 or step == steps:
            error = validation_l1(net.eval(), val_sharp, val_blurry, margin=margin)
            validation.append((step, error))
            if error < best[0]:
                best = (error, step, copy.deepcopy(net.state_dict()))
        if step > 0 and on_step is not None:
            on_step(step, losses[-1])
    net.load_state_dict(best[2])
    return {"loss": losses, "validation": validation, "best_validation": best[0], "best_step": best[1]}


@typed
@torch.no_grad()
def validation_l1(
    blur: Blur,
    sharp: Sequence[torch.Tensor],
    blurry: Sequence[torch.Tensor],
    *,
    margin: Whole = 0,
) -> float:
    """Returns the mean absolute error of `blur(sharp)`, averaged over the images; lower is better.

    Args:
        blur: K, or any blur with which it is compared.
        sharp: images, each (1, c, H, W).
        blurry: what the LR sensor shows of them, same shapes.
        margin: pixels along the border that do not count.
    """
    if not len(sharp) == len(blurry) > 0:
        fail("sharp", "a list of at least one image, and `blurry` as many", f"{len(sharp)} and {len(blurry)}")
    errors = [_l1(blur(x), y, margin).item() for x, y in zip(sharp, blurry)]
    return sum(errors) / len(errors)


@door
@torch.no_grad()
def impulse_response(
    camera: Camera, image: torch.Tensor, *, blur: Blur | None = None, radius: Whole = 8
) -> torch.Tensor:
    """Returns what a blur makes of one bright pixel, (2r + 1, 2r + 1) with r = `radius`, centred on it.

    The pixel, only 0.01 bright, is added to a real image and the change is looked at, so that a network is
    asked about images of the kind it knows. The mean is taken over scale×scale neighbouring places, the positions
    a pixel can have within an LR pixel, and over the bands. For a plain blur this is its PSF; it sums to 1
    where brightness is kept.

    Args:
        camera: its scale is that of the LR pixels.
        image: (1, c, H, W), at least 2·radius + scale pixels high and wide.
        blur: K, (scale², c, H, W) → the same shape; None: the camera's own blur.
        radius: how far to look, pixels.

    Raises:
        TypeError: `image` is not a floating-point image.
        ValueError: a batch of several, a smaller image, or values that are not finite.
    """
    check_count(radius, "radius")
    scale = camera.scale
    image = as_image(image, "image", at_least=2 * radius + scale, single=True, double=True)
    blur = camera.blur if blur is None else blur
    places = list(itertools.product(range(scale), range(scale)))
    top, left = ((side - scale) // 2 for side in image.shape[2:])
    bump = image.new_zeros(len(places), 1, *image.shape[2:])
    for number, (row, column) in enumerate(places):
        bump[number, 0, top + row, left + column] = BUMP / 2
    change = ((blur(image + bump) - blur(image - bump)) / BUMP).mean(1)
    span = 2 * radius + 1
    around = [
        one[top + row - radius :, left + column - radius :][:span, :span] for one, (row, column) in zip(change, places)
    ]
    return torch.stack(around).mean(0)


def _l1(pred: torch.Tensor, target: torch.Tensor, margin: int) -> torch.Tensor:
    """Mean absolute error inside the margin."""
    height, width = pred.shape[2:]
    inner = (..., slice(margin, height - margin), slice(margin, width - margin))
    return F.l1_loss(pred[inner], target[inner])


def _update(
    net: LearnedBlur, optimiser: torch.optim.Optimizer, inputs: torch.Tensor, targets: torch.Tensor, margin: int
) -> float:
    """One step of the optimiser; returns the loss before it."""
    loss = _l1(net.train()(inputs), targets, margin)
    optimiser.zero_grad()
    loss.backward()
    optimiser.step()
    return loss.item()


def _draw(
    sharp: Sequence[torch.Tensor],
    blurry: Sequence[torch.Tensor],
    crop: int,
    batch: int,
    grid: int,
    generator: torch.Generator,
) -> tuple[torch.Tensor, torch.Tensor]:
    """A batch of crops at the same place of both images, (batch, c, crop, crop) each."""
    pairs = []
    for _ in range(batch):
        image = _random(len(sharp), generator)
        top, left = (grid * _random((side - crop) // grid + 1, generator) for side in sharp[image].shape[2:])
        here = (slice(None), slice(None), slice(top, top + crop), slice(left, left + crop))
        pairs.append((sharp[image][here], blurry[image][here]))
    inputs, targets = zip(*pairs)
    return torch.cat(inputs), torch.cat(targets)


def _random(count: int, generator: torch.Generator) -> int:
    """A whole number in 0 … count − 1."""
    return int(torch.randint(count, (1,), generator=generator))


def _check_counts(crop: int | None, margin: int, **counts: int) -> None:
    """Raises unless these are whole numbers in their ranges, and a crop has pixels inside the margin."""
    check_count(margin, "margin", at_least=0)
    if crop is not None:
        check_count(crop, "crop")
        if crop <= 2 * margin:
            fail("crop", f"larger than twice the `margin` {margin}", crop)
    for name, value in counts.items():
        check_count(value, name)


def _as_images(
    net: LearnedBlur,
    sharp: Sequence[torch.Tensor],
    blurry: Sequence[torch.Tensor],
    names: tuple[str, str],
    at_least: int,
) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """Both lists as tensors, or the error where they are empty, of other lengths or bands, or don't pair up."""
    if not sharp or len(sharp) != len(blurry):
        wanted = f"a list of at least one image, as many as `{names[1]}`"
        fail(names[0], wanted, f"{len(sharp)} and {len(blurry)}")
    bands = as_image(sharp[0], names[0], bands=net.fixed_bands, finite=False).shape[1]
    pairs = []
    for x, y in zip(sharp, blurry):
        pairs.append((as_image(x, names[0], bands=bands, at_least=at_least), as_image(y, names[1])))
        check_same_shape(*pairs[-1], names)
    return [x for x, _ in pairs], [y for _, y in pairs]
