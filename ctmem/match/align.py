"""Bringing query and references to one look before they are compared: holes, levels of the bands, sharpness.

`Prepared` holds both sides as they are compared, and the way back to the query's units.

Source: this project, but where a function names another.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from ctmem.checks import ExactImage, Repeats, as_image, check_choice, check_same_shape, door, fail, typed
from ctmem.holes import fill_holes, open_holes

Blur = Callable[[torch.Tensor], torch.Tensor]  # K: (·, c, H, W) → the same as the LR sensor would show it
References = torch.Tensor | Sequence[torch.Tensor]  # a batch (1 or B, c, Hr, Wr), or several (1, c, Hr, Wr) each

BORDERS = ("replicate", "constant")
FLAT = 1e-6  # a band with a smaller deviation is constant


@door
def gradient_magnitude(x: torch.Tensor, border: str = "replicate") -> torch.Tensor:
    """Returns the length of each band's gradient, (B, C, H, W), units of x per pixel.

    Convention: central differences (x[i+1] − x[i−1]) / 2 with the border pixels repeated outside; 1e-6 stands
    under the root, so that a flat image has 0.001.

    Args:
        x: image (B, C, H, W).
        border: what lies outside: `replicate`, or `constant`, zeros, which draws an edge round the image.

    Raises:
        TypeError: `x` is not a floating-point tensor.
        ValueError: wrong rank, values that are not finite, or another border.
    """
    x = as_image(x, "x", double=True)
    check_choice(border, "border", BORDERS)
    padded = F.pad(x, (1, 1, 1, 1), mode=border)
    down = (padded[:, :, 2:, 1:-1] - padded[:, :, :-2, 1:-1]) / 2
    across = (padded[:, :, 1:-1, 2:] - padded[:, :, 1:-1, :-2]) / 2
    return (down.square() + across.square() + 1e-6).sqrt()


@typed
def gain_and_offset(source: torch.Tensor, target: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns (B, c, 1, 1) each: what brings mean and deviation of `source`'s bands to those of `target`.

    Pixels that are not finite do not count.

    Args:
        source: (1 or B, c, H, W).
        target: (B, c, H', W'), any other size.
    """
    (mean_s, spread_s), (mean_t, spread_t) = _moments(source), _moments(target)
    gain = torch.where(spread_s > FLAT, spread_t / spread_s.clamp_min(FLAT), torch.ones_like(spread_s))
    return gain, mean_t - gain * mean_s


@door
def match_radiometry(reference: torch.Tensor, query: torch.Tensor) -> torch.Tensor:
    """Returns the reference with each band's mean and deviation moved to those of the query, (B, c, Hr, Wr).

    Args:
        reference: (1 or B, c, Hr, Wr).
        query: (B, c, H, W).

    Raises:
        TypeError: not floating-point tensors.
        ValueError: wrong rank, batch or band count, or values of the query that are not finite.
    """
    query = as_image(query, "query", double=True)
    reference = as_image(reference, "reference", bands=query.shape[1], finite=False, double=True)
    if len(reference) not in (1, len(query)):
        fail("reference", f"one image, or one for each of {len(query)} queries", len(reference))
    gain, offset = gain_and_offset(reference, query)
    return gain * reference + offset


@typed
def to_standard(x: ExactImage) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns (gain, offset), (B, C, 1, 1) each, that bring every band to mean 0 and deviation 1.

    Pixels that are not finite do not count. A constant band gets gain 1, so that it becomes 0.

    Args:
        x: (B, C, H, W).
    """
    mean, spread = _moments(x)
    gain = torch.where(spread > FLAT, 1 / spread.clamp_min(FLAT), torch.ones_like(spread))
    return gain, -gain * mean


@typed
def sharpen(blurry: ExactImage, blur: Blur, steps: Repeats) -> torch.Tensor:
    """Returns a sharper image, same shape, whose blur comes closer to `blurry`: y ← y + blurry − K(y), `steps` times.

    Brings back what the blur has damped but not deleted. Done to both sides, it tells patches apart better. Where
    K is a blur to LR pixels and back up, and `blurry` an upsampled LR image, this is back-projection.

    Args:
        blurry: (B, c, H, W).
        blur: K.
        steps: how often; 0 gives `blurry` back.

    Source: Van Cittert's deconvolution, 1931; its use here is this project's.
    """
    sharper = blurry
    for _ in range(steps):
        sharper = sharper + blurry - blur(sharper)
    return sharper


@typed
@dataclass(frozen=True, eq=False)
class Prepared:
    """A query and its references as they are compared, and the way back to the query's units.

    What is compared is `gain` · units + `offset`, band by band.
    """

    query: torch.Tensor  # (B, c, H, W)
    sharp: References  # what is handed over, (1 or B, c, Hr, Wr) or a list
    blurred: References  # where windows are looked for, the same shapes; NaN where a hole is near
    gain: torch.Tensor  # (B, c, 1, 1), of the query
    offset: torch.Tensor  # (B, c, 1, 1)

    @property
    def query_in_units(self) -> torch.Tensor:
        """The query in its own units, (B, c, H, W)."""
        return (self.query - self.offset) / self.gain

    @typed
    def to_units(self, texture: torch.Tensor) -> torch.Tensor:
        """A texture [soft, hard, gradient, difference] (B, 4c, H, W) in the query's units.

        Gradient and difference are differences of two images: the offset is not in them.
        """
        soft, hard, gradient, difference = texture.chunk(4, dim=1)
        images = [(soft - self.offset) / self.gain, (hard - self.offset) / self.gain]
        return torch.cat([*images, gradient / self.gain, difference / self.gain], 1)


@typed
def check_blur(blur: object) -> None:
    """Raises unless it can be called.

    Raises:
        TypeError: something else: a camera, say.
    """
    if not callable(blur):
        fail("blur", "a function such as `camera.blur`", type(blur).__name__, TypeError)


@door
def prepare_reference(
    ref_msi: torch.Tensor, blur: Blur, *, radiometry: bool = True, sharpening: Repeats = 0, name: str = "ref_msi"
) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns (sharp, blurred) of a reference, (B, c, Hr, Wr) each, as `Prepared` holds them.

    Holes are filled for the blur and are NaN in `blurred` afterwards. With `radiometry` each band of the blurred
    reference gets mean 0 and deviation 1, and the sharp one the same gain and offset: a blur commutes with both,
    so the reference keeps its own contrast between sharp and blurred.

    Args:
        ref_msi: (B, c, Hr, Wr), [0, 1], any size; pixels that are not finite are holes.
        blur: K, from (·, c, Hr, Wr) to the same shape.
        radiometry: whether the brightness of the reference means nothing, as that of another sensor.
        sharpening: steps of `sharpen`, as many as the query gets.
        name: what the error calls the reference.

    Raises:
        TypeError: a reference that is not a floating-point image.
        ValueError: wrong rank, or a reference without any whole pixel.
    """
    check_blur(blur)
    with torch.no_grad():
        sharp, holes = fill_holes(ref_msi, name)
        blurred = blur(sharp)
        check_same_shape(blurred, sharp, ("blur", "ref_msi"))
        blurred = sharpen(blurred, blur, sharpening)
    touched = F.max_pool2d(holes.to(blurred), 3, stride=1, padding=1) > 0  # the gradient reads the neighbours
    blurred = blurred.masked_fill(touched, math.nan)
    if not radiometry:
        return sharp, blurred
    gain, offset = to_standard(blurred)
    return gain * sharp + offset, gain * blurred + offset


@door
def prepare_query(
    query: torch.Tensor,
    blur: Blur,
    *,
    radiometry: bool = True,
    sharpening: Repeats = 0,
    holes: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Returns (query, gain, offset): the query as it is compared, and what was done to its bands.

    Args:
        query: srf · lr_hsi_up, (B, c, H, W).
        blur: K, from (·, c, H, W) to the same shape.
        radiometry: each band gets mean 0 and deviation 1, as the references do.
        sharpening: steps of `sharpen`.
        holes: where the query was filled, (B, 1, H, W) bool, or those of the coarse image: they do not count in mean
            and deviation; None: none.

    Raises:
        TypeError: a query that is not a floating-point image.
        ValueError: wrong rank, values that are not finite, or a `blur` that makes such values of finite ones.
    """
    query = as_image(query, "query", double=True)
    check_blur(blur)
    with torch.no_grad():
        query = sharpen(query, blur, sharpening)
    if radiometry:
        gain, offset = to_standard(open_holes(query, holes))
    else:
        gain = query.new_ones(*query.shape[:2], 1, 1)
        offset = torch.zeros_like(gain)
    seen = gain * query + offset
    if not bool(torch.isfinite(torch.stack(seen.detach().aminmax())).all()):  # K is a stranger's: its numbers are read
        fail("blur", "a function that keeps finite images finite", "one that made NaN or infinite values of the query")
    return seen, gain, offset


def _moments(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and deviation of each band, (B, C, 1, 1) each; pixels that are not finite do not count."""
    x = torch.where(torch.isfinite(x), x, torch.nan)
    mean = x.nanmean((2, 3), keepdim=True)
    return mean, (x - mean).square().nanmean((2, 3), keepdim=True).sqrt()
