"""Images made to see what a reference is worth: noise, bands and windows out of order, an image moved.

Images are (1, c, H, W), in the range of the image that they are made of or like. `CONTROLS` names those
that show no place at all, or nothing fine of it: what a reference is worth is what it gains beyond the best of them
(`ctmem.benchmark.judge`).

Source: this project.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import scipy.ndimage
import torch

from ctmem.checks import Finite, HoledImage, Positive, typed

WINDOW = 8  # side of the windows that are glued, pixels
FWHM = 4.0  # of `blurred`, pixels


@typed
def uniform(like: HoledImage, generator: torch.Generator) -> torch.Tensor:
    """Noise without any likeness from pixel to pixel, every band its own."""
    return torch.rand(like.shape, generator=generator)


@typed
def pink(like: HoledImage, generator: torch.Generator) -> torch.Tensor:
    """Noise with an amplitude that falls as 1/frequency, every band its own, mean 0.5 and deviation 0.15."""
    height, width = like.shape[-2:]
    spectrum = torch.fft.rfft2(torch.randn(like.shape, generator=generator))
    down, across = torch.fft.fftfreq(height)[:, None], torch.fft.rfftfreq(width)
    frequency = (down.square() + across.square()).sqrt().clamp_min(1 / max(height, width))
    image = torch.fft.irfft2(spectrum / frequency, s=(height, width))
    image = image - image.mean((2, 3), keepdim=True)
    return (0.5 + 0.15 * image / image.std((2, 3), keepdim=True)).clamp(0, 1)


@typed
def blobs(like: HoledImage, generator: torch.Generator) -> torch.Tensor:
    """1/f noise cut at its median into two grey levels, the same in all bands."""
    noise = pink(like[:, :1], generator)
    return (0.3 + 0.4 * (noise > noise.median()).float()).expand(-1, like.shape[1], -1, -1).contiguous()


@typed
def permuted(image: HoledImage, generator: torch.Generator) -> torch.Tensor:
    """Bands in an order in which none is at its place: each takes the next one's, a random number of places on."""
    bands = image.shape[1]
    by = int(torch.randint(1, max(bands, 2), (), generator=generator))
    return image.roll(by, 1)


@typed
def glued_windows(image: HoledImage, generator: torch.Generator) -> torch.Tensor:
    """Windows of the image, drawn at random and glued to an image of the same size."""
    height, width = image.shape[-2:]
    side = min(WINDOW, height, width)
    rows, columns = -(-height // side), -(-width // side)
    tops = torch.randint(height - side + 1, (rows, columns), generator=generator).tolist()
    lefts = torch.randint(width - side + 1, (rows, columns), generator=generator).tolist()
    lines = [
        torch.cat([image[..., top : top + side, left : left + side] for top, left in zip(*line)], -1)
        for line in zip(tops, lefts)
    ]
    return torch.cat(lines, -2)[..., :height, :width].contiguous()


@typed
def negative(image: HoledImage, generator: torch.Generator) -> torch.Tensor:  # noqa: ARG001  (the form of all controls)
    """Bright for dark."""
    return 1 - image


@typed
def phase_scrambled(image: HoledImage, generator: torch.Generator) -> torch.Tensor:
    """Its frequencies, as strong as before and as alike from band to band, with phases drawn at random: no edges.

    Source: Theiler et al., Testing for nonlinearity in time series, 1992 (surrogate data).
    """
    mean = image.mean((2, 3), keepdim=True)
    turns = torch.fft.rfft2(
        torch.rand(image.shape[-2:], generator=generator)
    ).angle()  # of a real image: they fit together
    spectrum = torch.fft.rfft2(image - mean)
    scrambled = torch.fft.irfft2(spectrum * torch.polar(torch.ones_like(turns), turns), s=image.shape[-2:])
    return (mean + scrambled).clamp(0, 1)


@typed
def blurred(image: HoledImage, generator: torch.Generator) -> torch.Tensor:  # noqa: ARG001
    """The image without what is finer than about four pixels: a Gaussian of FWHM 4 px, the border repeated."""
    sigma = FWHM / (2 * math.sqrt(2 * math.log(2)))
    found = scipy.ndimage.gaussian_filter(image.detach().cpu().numpy(), (0, 0, sigma, sigma), mode="nearest")
    return torch.from_numpy(found).to(image)


CONTROLS: dict[str, Callable[[torch.Tensor, torch.Generator], torch.Tensor]] = {
    "uniform": uniform,
    "pink": pink,
    "phases": phase_scrambled,
    "blobs": blobs,
    "negative": negative,
    "permuted": permuted,
    "windows": glued_windows,
    "blurred": blurred,
}
SETTLED = frozenset({"negative", "blurred"})  # the same whatever the generator


@typed
def shifted(image: HoledImage, down: Finite, across: Finite) -> torch.Tensor:
    """The image moved down and across by so many pixels, by cubic splines, its border repeated."""
    found = scipy.ndimage.shift(image.detach().cpu().numpy(), (0, 0, down, across), order=3, mode="nearest")
    return torch.from_numpy(found).to(image)


@typed
def tilted(image: HoledImage, degrees: Finite, stretch: Positive) -> torch.Tensor:
    """The image turned by so many degrees and enlarged about its middle, by cubic splines, its border repeated."""
    angle = math.radians(degrees)
    matrix = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]]) / stretch
    middle = (np.array(image.shape[2:]) - 1) / 2
    bands = [
        scipy.ndimage.affine_transform(band, matrix, middle - matrix @ middle, order=3, mode="nearest")
        for band in image[0].detach().cpu().numpy()
    ]
    return torch.from_numpy(np.stack(bands))[None].to(image)
