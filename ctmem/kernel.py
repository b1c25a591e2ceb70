"""Stage 1: a small network that learns what the LR sensor's blur does to an MSI-like image.

K(srf · gt) ≈ srf · lr_hsi_up, learned on the training area only. Two facts about blur are built in rather
than learned. It commutes with gain and offset: the network sees each band with its mean taken off and divided
by its deviation, and gives both back at the end, so K(a·x + b) = a·K(x) + b and another sensor's numbers do
no harm. And it does the same to every band: one network goes over the bands one by one, which gives it c
times the data and lets the weights serve any number of bands. (`joint=True` sends all bands through together,
as drawn.)

Shape: residual convolutions 1 → 4 → 16 → 64 (c → 4 → 16 → 64 if joint) with two ×2 average poolings, a latent
blur of 7×7, 5×5, 3×3 and 1×1 convolutions, and the mirrored way back with two nearest ×2 upsamplings.

Source: Qu et al., IEEE TGRS 2025, degradation kernel; the two built-in facts and the choice of the best
weights on a validation area are this project's.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import nn

from ctmem.checks import check_count, check_image, check_same_shape, fail

SIDE = 4  # two poolings: inside the network height and width are multiples of this
BUMP = 0.01  # brightness of the impulse whose response is measured
FLAT = 1e-6  # deviations below this are a constant band's rounding


def _conv(inputs: int, outputs: int, size: int) -> nn.Conv2d:
    """A convolution that keeps height and width and repeats the border."""
    return nn.Conv2d(inputs, outputs, size, padding=size // 2, padding_mode="replicate")


class Residual(nn.Module):
    """Two 3×3 convolutions with GELU between, added to the input (through 1×1 where the channels differ)."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.body = nn.Sequential(_conv(inputs, outputs, 3), nn.GELU(), _conv(outputs, outputs, 3))
        self.skip = nn.Identity() if inputs == outputs else nn.Conv2d(inputs, outputs, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.skip(x) + self.body(x)


class LatentBlur(nn.Module):
    """7×7, 5×5, 3×3 and 1×1 convolutions one after the other, each added to its input."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(_conv(width, width, size) for size in (7, 5, 3, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for layer in self.layers:
            x = x + layer(F.gelu(x))
        return x


class KernelNet(nn.Module):
    """K: a sharp MSI-like image in, the same as the LR sensor would show it out; any height and width.

    Args:
        bands: c, of input and output. Only `joint` depends on it: band by band, any number goes through.
        width: channels of the latent blur, a multiple of 16 (about 0.6 M parameters at 64).
        joint: all bands through one encoder, instead of one network for each band in turn.

    Raises:
        ValueError: `bands` < 1, or `width` no multiple of 16.
    """

    def __init__(self, bands: int, width: int = 64, *, joint: bool = False) -> None:
        super().__init__()
        check_count(bands, "bands")
        check_count(width, "width")
        if width % 16:
            fail("width", "a multiple of 16", width)
        self.bands, self.joint = bands, joint
        sizes = [bands if joint else 1, width // 16, width // 4, width]
        pool, up = nn.AvgPool2d(2), nn.Upsample(scale_factor=2, mode="nearest")
        down = [Residual(*pair) for pair in itertools.pairwise(sizes)]
        back = [Residual(*pair) for pair in itertools.pairwise(reversed(sizes))]
        self.encode = nn.Sequential(down[0], pool, down[1], pool, down[2], Residual(width, width))
        self.blur = LatentBlur(width)
        self.decode = nn.Sequential(Residual(width, width), back[0], up, back[1], up, back[2])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Returns the blurred image, (B, c, H, W) like x, in the units of x.

        Raises:
            TypeError: `x` is no floating-point tensor.
            ValueError: wrong rank or band count, or values that are not finite.
        """
        check_image(x, "x", bands=self.bands if self.joint else None)
        height, width = x.shape[2:]
        spread, mean = torch.std_mean(x, (2, 3), correction=0, keepdim=True)
        spread = spread.clamp_min(FLAT)
        seen = F.pad((x - mean) / spread, (0, -width % SIDE, 0, -height % SIDE), mode="replicate")
        if not self.joint:
            seen = seen.flatten(0, 1).unsqueeze(1)
        blurred = self.decode(self.blur(self.encode(seen)))[:, :, :height, :width]
        return blurred.reshape(x.shape) * spread + mean


def train_kernel(
    net: KernelNet,
    sharp: Sequence[torch.Tensor],
    blurry: Sequence[torch.Tensor],
    *,
    val_sharp: Sequence[torch.Tensor],
    val_blurry: Sequence[torch.Tensor],
    steps: int,
    crop: int = 32,
    batch: int = 8,
    learning_rate: float = 2e-3,
    validate_every: int = 25,
    generator: torch.Generator,
    on_step: Callable[[int, float], None] | None = None,
) -> dict:
    """Trains `net` in place with L1 on random crops and leaves it with its best weights on validation.

    Crops start at multiples of 4 pixels, so that the grid of the LR pixels keeps its place.

    Args:
        net: K.
        sharp: srf · gt of the training area(s), each (1, c, H, W).
        blurry: srf · lr_hsi_up of the same, same shapes.
        val_sharp: images of the validation area(s), never of the test area.
        val_blurry: the same, blurry.
        steps: optimiser steps (Adam, cosine decay).
        crop: side of a training crop, pixels.
        batch: crops per step.
        learning_rate: at the start.
        validate_every: steps between two looks at the validation area.
        generator: draws the crops (on the CPU).
        on_step: called with (step, loss) after each step, for a progress bar.

    Returns:
        `loss`: L1 of every step; `validation`: list of (step, L1), from step 0 (untrained) on; `best_step`;
        `best_validation`.

    Raises:
        TypeError: an image that is no floating-point tensor.
        ValueError: no image, pairs that don't fit, or an image smaller than a crop.
    """
    check_count(crop, "crop")
    _check_images(net, sharp, blurry, ("sharp", "blurry"), crop)
    _check_images(net, val_sharp, val_blurry, ("val_sharp", "val_blurry"))
    for value, name in ((steps, "steps"), (batch, "batch"), (validate_every, "validate_every")):
        check_count(value, name)
    optimiser = torch.optim.Adam(net.parameters(), lr=learning_rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    history = {"loss": [], "validation": []}
    best = (float("inf"), 0, {})
    for step in range(steps + 1):
        if step > 0:
            inputs, targets = _draw(sharp, blurry, crop, batch, generator)
            history["loss"].append(_update(net, optimiser, inputs, targets))
            schedule.step()
        if step % validate_every == 0 or step == steps:
            error = validation_l1(net.eval(), val_sharp, val_blurry)
            history["validation"].append((step, error))
            if error < best[0]:
                best = (error, step, copy.deepcopy(net.state_dict()))
        if step > 0 and on_step is not None:
            on_step(step, history["loss"][-1])
    net.load_state_dict(best[2])
    return history | {"best_validation": best[0], "best_step": best[1]}


@torch.no_grad()
def validation_l1(
    degrade: Callable[[torch.Tensor], torch.Tensor],
    sharp: Sequence[torch.Tensor],
    blurry: Sequence[torch.Tensor],
) -> float:
    """Returns the mean absolute error of `degrade(sharp)`, averaged over the images; lower is better.

    Args:
        degrade: K, or any blur with which it is compared.
        sharp: images, each (1, c, H, W).
        blurry: what the LR sensor shows of them, same shapes.
    """
    errors = [F.l1_loss(degrade(x), y).item() for x, y in zip(sharp, blurry)]
    return sum(errors) / len(errors)


@torch.no_grad()
def impulse_response(
    degrade: Callable[[torch.Tensor], torch.Tensor], image: torch.Tensor, *, radius: int = 8
) -> torch.Tensor:
    """Returns what `degrade` makes of one bright pixel, (2r + 1, 2r + 1) with r = `radius`, centred on it.

    The pixel, only 0.01 bright, is added to a real image and the change is looked at, so that a network is
    asked about images of the kind it knows. The mean is taken over 4×4 neighbouring places, the positions a
    pixel can have within an LR pixel, and over the bands. For a plain blur this is its PSF; it sums to 1
    where brightness is kept.

    Args:
        degrade: K, or any blur, (16, c, H, W) → the same shape.
        image: (1, c, H, W), at least 2·radius + 4 pixels high and wide.
        radius: how far to look, pixels.

    Raises:
        TypeError: `image` is no floating-point tensor.
        ValueError: no single image, a smaller one, or values that are not finite.
    """
    check_count(radius, "radius")
    check_image(image, "image", at_least=2 * radius + SIDE)
    if len(image) != 1:
        fail("image", "one image (1, c, H, W)", f"a batch of {len(image)}")
    places = list(itertools.product(range(SIDE), range(SIDE)))
    top, left = ((side - SIDE) // 2 for side in image.shape[2:])
    bump = image.new_zeros(len(places), 1, *image.shape[2:])
    for number, (row, column) in enumerate(places):
        bump[number, 0, top + row, left + column] = BUMP / 2
    change = ((degrade(image + bump) - degrade(image - bump)) / BUMP).mean(1)
    span = 2 * radius + 1
    around = [
        one[top + row - radius :, left + column - radius :][:span, :span] for one, (row, column) in zip(change, places)
    ]
    return torch.stack(around).mean(0)


def _update(net: nn.Module, optimiser: torch.optim.Optimizer, inputs: torch.Tensor, targets: torch.Tensor) -> float:
    """One step of the optimiser; returns the loss before it."""
    loss = F.l1_loss(net.train()(inputs), targets)
    optimiser.zero_grad()
    loss.backward()
    optimiser.step()
    return loss.item()


def _draw(
    sharp: Sequence[torch.Tensor],
    blurry: Sequence[torch.Tensor],
    crop: int,
    batch: int,
    generator: torch.Generator,
) -> tuple[torch.Tensor, torch.Tensor]:
    """A batch of crops at the same place of both images, (batch, c, crop, crop) each."""
    pairs = []
    for _ in range(batch):
        image = _random(len(sharp), generator)
        top, left = (SIDE * _random((side - crop) // SIDE + 1, generator) for side in sharp[image].shape[2:])
        here = (slice(None), slice(None), slice(top, top + crop), slice(left, left + crop))
        pairs.append((sharp[image][here], blurry[image][here]))
    inputs, targets = zip(*pairs)
    return torch.cat(inputs), torch.cat(targets)


def _random(count: int, generator: torch.Generator) -> int:
    """A whole number in 0 … count − 1."""
    return int(torch.randint(count, (1,), generator=generator))


def _check_images(
    net: KernelNet,
    sharp: Sequence[torch.Tensor],
    blurry: Sequence[torch.Tensor],
    names: tuple[str, str],
    crop: int = 1,
) -> None:
    """Raises unless both are equally long, non-empty lists of images of the same bands that pair up."""
    if not sharp or len(sharp) != len(blurry):
        wanted = f"a list of at least one image, as many as `{names[1]}`"
        fail(names[0], wanted, f"{len(sharp)} and {len(blurry)}")
    check_image(sharp[0], names[0], bands=net.bands if net.joint else None)
    for x, y in zip(sharp, blurry):
        check_image(x, names[0], bands=sharp[0].shape[1], at_least=crop)
        check_image(y, names[1])
        check_same_shape(x, y, names)
