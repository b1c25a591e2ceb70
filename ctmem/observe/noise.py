"""The noise of every band, from the image itself, in its own numbers.

What the ground shows in one band it shows in others, too; noise is each band's own. So what remains of a band after
regression on the bands around it is its noise. It is done on what is high in rows and columns, of which the ground
has little. Where bands are few, the calmest places bound the noise from above.

Source: after Roger and Arnold, 1996 (regression on neighbours) and Bioucas-Dias and Nascimento, 2008 (on many bands).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from ctmem.checks import as_image, double, fail, typed

NEIGHBOURS = 12  # bands on each side that a band is regressed on, at most
PER_BAND = 6  # pixels that each band of a regression asks for
CALM = 0.2  # share of the places, the calmest, in which the deviation is read
BLOCK = 4  # side of a place, pixels
CALM_IS = 0.741  # deviation there over the true one, of noise alone


@typed
def noise_of_bands(images: Sequence[torch.Tensor]) -> torch.Tensor:
    """Returns the standard deviation of the noise in every band, (C,) float64, in the numbers of the images.

    Args:
        images: windows (1, C, h, w) of one scene, NaN where there is nothing.

    Raises:
        ValueError: no window, or none with whole pixels side by side.
    """
    if not images:
        fail("images", "at least one window of the scene", "none")
    highs = [_high(double(as_image(one, "images", finite=False))) for one in images]
    spectra = torch.cat([high.transpose(0, 1).flatten(1) for high in highs], 1)  # (C, n)
    spectra = spectra[:, torch.isfinite(spectra).all(0)]
    if spectra.shape[1] < 2:
        fail("images", "windows with whole pixels side by side", "holes everywhere")
    return torch.minimum(_unexplained(spectra), _calm(highs, spectra))


def _high(x: torch.Tensor) -> torch.Tensor:
    """What is high in rows and columns, (B, C, h − 1, w − 1); white noise keeps its deviation."""
    return (x[..., 1:, 1:] - x[..., :-1, 1:] - x[..., 1:, :-1] + x[..., :-1, :-1]) / 2


def _unexplained(spectra: torch.Tensor) -> torch.Tensor:
    """Deviation of what the bands around each one do not explain, (C,), of numbers (C, n) around 0."""
    bands, count = spectra.shape
    reach = max(1, min(NEIGHBOURS, count // PER_BAND // 2))
    gram = spectra @ spectra.T / count
    found = []
    for band in range(bands):
        others = [other for other in range(max(0, band - reach), min(bands, band + reach + 1)) if other != band]
        if not others:
            return gram.diagonal().sqrt()
        inner = gram[others][:, others]
        ridge = 1e-9 * inner.diagonal().mean() + 1e-300
        weights = torch.linalg.solve(inner + ridge * torch.eye(len(others)).to(inner), gram[others, band])
        free = max(count - len(others), 1) / count
        found.append((gram[band, band] - weights @ gram[others, band]).clamp_min(0) / free)
    return torch.stack(found).sqrt()


def _calm(highs: Sequence[torch.Tensor], spectra: torch.Tensor) -> torch.Tensor:
    """Deviation in the calmest places, (C,): all of the noise, and what the ground has there."""
    powers = []
    for high in highs:
        blocks = high[0].unfold(1, BLOCK, BLOCK).unfold(2, BLOCK, BLOCK) if min(high.shape[2:]) >= BLOCK else None
        if blocks is not None:
            powers.append(blocks.square().mean((3, 4)).flatten(1))
    found = torch.cat(powers, 1) if powers else spectra.new_zeros(len(spectra), 0)
    found = found[:, torch.isfinite(found).all(0)]
    if found.shape[1] < 8:
        return spectra.square().mean(1).sqrt()
    lowest = found.sort(1).values[:, : max(1, round(CALM * found.shape[1]))]
    return lowest.mean(1).sqrt() / CALM_IS
