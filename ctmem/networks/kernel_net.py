"""The paper's degradation kernel: a small network that learns, from pairs, what a sensor's blur does to an image.

Two facts about blur are built in rather than learned. It commutes with gain and offset: the network sees each band
with its mean taken off and divided by its deviation, and gives both back at the end, so K(a·x + b) = a·K(x) + b and
another sensor's numbers do no harm. And it does the same to every band: one network goes over the bands one by one,
which gives it c times the data and lets the weights serve any number of bands. (`joint=True` sends all bands through
together, as drawn.)

Source: Qu et al., IEEE TGRS 2025, degradation kernel; the two built-in facts are this project's.
"""

from __future__ import annotations

import itertools
import math

import torch
import torch.nn.functional as F
from torch import nn

from ctmem.checks import Scale, Width, as_image, check_count, door, fail, typed
from ctmem.observe.kernel import LearnedBlur

SIDE = 4  # two poolings: inside the network height and width are multiples of this
FLAT = 1e-6  # deviations below this are a constant band's rounding


def _conv(inputs: Width, outputs: Width, size: int) -> nn.Conv2d:
    """A convolution that keeps height and width and repeats the border."""
    return nn.Conv2d(inputs, outputs, size, padding=size // 2, padding_mode="replicate")


class Residual(nn.Module):
    """Two 3×3 convolutions with GELU between, added to the input (through 1×1 where the channels differ)."""

    @typed
    def __init__(self, inputs: Width, outputs: Width) -> None:
        super().__init__()
        self.body = nn.Sequential(_conv(inputs, outputs, 3), nn.GELU(), _conv(outputs, outputs, 3))
        self.skip = nn.Identity() if inputs == outputs else nn.Conv2d(inputs, outputs, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.skip(x) + self.body(x)


class LatentBlur(nn.Module):
    """7×7, 5×5, 3×3 and 1×1 convolutions one after the other, each added to its input."""

    @typed
    def __init__(self, width: Width) -> None:
        super().__init__()
        self.layers = nn.ModuleList(_conv(width, width, size) for size in (7, 5, 3, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for layer in self.layers:
            x = x + layer(F.gelu(x))
        return x


class KernelNet(LearnedBlur):
    """K: a sharp MSI-like image in, the same as the LR sensor would show it out; any height and width.

    Shape: residual convolutions 1 → 4 → 16 → 64 (c → 4 → 16 → 64 if joint) with two ×2 average poolings, a latent
    blur of 7×7, 5×5, 3×3 and 1×1 convolutions, and the mirrored way back with two nearest ×2 upsamplings.

    Args:
        bands: c, of input and output. Only `joint` depends on it: band by band, any number goes through.
        width: channels of the latent blur, a multiple of 16 (about 0.6 M parameters at 64).
        joint: all bands through one encoder, instead of one network for each band in turn.
        scale: of the LR sensor; only `grid` depends on it.

    Attributes:
        grid: least common multiple of 4 (the poolings) and `scale`: crops begin at multiples of this.
        learning_rate: that `train_kernel` takes if none is given.

    Raises:
        ValueError: `bands` or `scale` < 1, or a `width` that is not a multiple of 16.
    """

    learning_rate = 2e-3

    @typed
    def __init__(self, bands: Width, width: Width = 64, *, joint: bool = False, scale: Scale = 4) -> None:
        super().__init__()
        check_count(bands, "bands")
        check_count(width, "width")
        check_count(scale, "scale")
        if width % 16:
            fail("width", "a multiple of 16", width)
        self.joint = joint
        self.fixed_bands = bands if joint else None
        self.grid = math.lcm(SIDE, scale)
        sizes = [bands if joint else 1, width // 16, width // 4, width]
        pool = nn.AvgPool2d(2)
        up = nn.Upsample(scale_factor=2, mode="nearest")
        # half as fine and four times as wide twice, the blur, and the mirrored way back
        down = [Residual(*pair) for pair in itertools.pairwise(sizes)]
        back = [Residual(*pair) for pair in itertools.pairwise(reversed(sizes))]
        self.encode = nn.Sequential(down[0], pool, down[1], pool, down[2], Residual(width, width))
        self.blur = LatentBlur(width)
        self.decode = nn.Sequential(Residual(width, width), back[0], up, back[1], up, back[2])

    @door
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Returns the blurred image, (B, c, H, W) like x, in the units of x.

        Raises:
            TypeError: `x` is not a floating-point tensor.
            ValueError: wrong rank or band count, or values that are not finite.
        """
        x = as_image(x, "x", bands=self.fixed_bands)
        height, width = x.shape[2:]
        spread, mean = torch.std_mean(x, (2, 3), correction=0, keepdim=True)
        spread = spread.clamp_min(FLAT)
        seen = F.pad((x - mean) / spread, (0, -width % SIDE, 0, -height % SIDE), mode="replicate")
        if not self.joint:
            seen = seen.flatten(0, 1).unsqueeze(1)
        blurred = self.decode(self.blur(self.encode(seen)))[:, :, :height, :width]
        return blurred.reshape(x.shape) * spread + mean
