"""The 16 signs and turns of an image, and convolutions that commute with them by sharing weights.

A feature is 16 channels in a row, one per element of the group: turning the image turns each of them and permutes the
16. A kernel of one element is that of the first, turned.

Source: Cohen & Welling, "Group equivariant convolutional networks", 2016; the sign beside the turns is this project's.
"""

from __future__ import annotations

import math
from functools import cache

import torch
from torch import nn
from torch.nn import functional as F

ORDER = 16  # elements: a sign for each of the eight turns, the sign first


def turn(x: torch.Tensor, element: int) -> torch.Tensor:
    """The last two axes exchanged (4), then the rows (2) and the columns (1) flipped; 8, the sign, changes nothing."""
    x = x.mT if element & 4 else x
    axes = [axis for axis, bit in ((-2, 2), (-1, 1)) if element & bit]
    return x.flip(axes) if axes else x


def sign(element: int) -> int:
    """What the element multiplies the image by, 1 or −1."""
    return -1 if element & 8 else 1


@cache
def inverse_times() -> torch.Tensor:
    """Table (16, 16) of g⁻¹·h, found by what the elements do to a probe."""
    probe = torch.arange(1, 5).reshape(2, 2)
    acted = [sign(g) * turn(probe, g) for g in range(ORDER)]
    table = torch.empty(ORDER, ORDER, dtype=torch.long)
    for g in range(ORDER):
        for k in range(ORDER):  # h = g·k: first k, then g
            image = sign(g) * turn(acted[k], g)
            table[g, next(h for h in range(ORDER) if torch.equal(acted[h], image))] = k
    return table


class GroupConv(nn.Module):
    """A 3×3 convolution of features (B, 16·inputs, h, w) → (B, 16·outputs, h, w) that commutes with the group.

    Args:
        inputs: features that come in; 0: an image (B, 1, h, w).
        outputs: features that go out; 0: an image, without bias, since that would have a sign.
        scale: fine pixels per pixel that go out: (B, 16·outputs, scale·h, scale·w).
    """

    places: torch.Tensor
    signs: torch.Tensor

    def __init__(self, inputs: int, outputs: int, scale: int = 1):
        super().__init__()
        self.scale = scale
        given, made = (ORDER if inputs else 1), (ORDER if outputs else 1)
        base = torch.arange(given * made // ORDER * scale**2 * 9).reshape(-1, scale, scale, 3, 3)
        # where the kernel from each element to each element finds its weights: that of g⁻¹·h, turned by g
        moved = torch.stack([_turned(base[row] if len(base) > 1 else base, g) for g, row in enumerate(inverse_times())])
        places = moved.reshape(made, given, scale, scale, 3, 3)
        signed = not (inputs and outputs)  # an image has a sign, features exchange their two halves
        signs = (
            torch.tensor([sign(g) for g in range(ORDER)]).reshape(made, given, *[1] * 6) if signed else torch.ones(1)
        )
        self.register_buffer("places", places, persistent=False)
        self.register_buffer("signs", signs, persistent=False)
        inputs, outputs = max(inputs, 1), max(outputs, 1)
        bound = 1 / math.sqrt(inputs * given * 9)
        self.weight = nn.Parameter(torch.empty(base.numel(), outputs, inputs).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(outputs).uniform_(-bound, bound)) if made > 1 else None

    def kernel(self) -> torch.Tensor:
        """All kernels, (channels out, channels in, 3, 3), the channels in last in memory."""
        given = self.places.shape[1]
        x = self.weight.index_select(0, self.places.flatten()).reshape(*self.places.shape, *self.weight.shape[1:])
        x = (x * self.signs).permute(6, 0, 2, 3, 4, 5, 7, 1)
        return x.reshape(-1, 3, 3, given * self.weight.shape[2]).permute(0, 3, 1, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Returns the features, or the image."""
        bias = None if self.bias is None else self.bias.repeat_interleave(ORDER * self.scale**2)
        x = F.conv2d(x, self.kernel(), bias, padding=1)
        return x if self.scale == 1 else F.pixel_shuffle(x, self.scale)


def _turned(kernels: torch.Tensor, element: int) -> torch.Tensor:
    """Kernels (…, s, s, 3, 3) turned, and the fine pixels s×s that they make with them."""
    return turn(turn(kernels, element).movedim((-4, -3), (-2, -1)), element).movedim((-2, -1), (-4, -3))
