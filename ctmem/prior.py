"""Super-resolution of one principal component after the other by a prior from open imagery; no reference.

    pred = component_prior(lr_hsi, camera=camera)                         # the shipped weights
    pred = component_prior(lr_hsi, camera=camera, weights="runs/prior")   # those of `python -m ctmem.train.prior`

Components are independent of each other and the answer is odd, so neither their signs nor their order nor the
number of bands changes it; turned images have turned answers. The same weights serve scales of 2, 3, 4 and 6 and any
blur and noise: they are told.

Source: this project.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import torch

from ctmem.card import load_component
from ctmem.checks import as_image, door, fail, typed
from ctmem.diffusion.subspace import Subspace, fit
from ctmem.holes import holes_of_each, open_holes, split_holes, whole_pixels
from ctmem.networks.component_prior import SCALES, ComponentPrior, transfer
from ctmem.observe.camera import Camera

PART = "prior"  # as the header of the weights has it
COMPONENTS = 8  # directions that are sharpened; what lies outside is enlarged bicubically
AT_ONCE = 2**16  # coarse pixels that go through the network together: they stay in the processor's cache


@door
@torch.no_grad()
def component_prior(
    lr_hsi: torch.Tensor,
    *,
    camera: Camera,
    weights: ComponentPrior | str | Path | None = None,
    consistency: bool = True,
) -> torch.Tensor:
    """Returns `pred` (B, C, H, W), H = scale·h: each principal component of `lr_hsi` sharpened by itself.

    Args:
        lr_hsi: observed images (B, C, h, w), [0, 1]; any band count, at least two pixels that differ. Of holes, NaN,
            nothing is used, and the answer has NaN on the same ground.
        camera: what they were observed with: scale, blur and noise count, the response does not.
        weights: the network, or the folder of its weights, see `load_prior`; None: the shipped ones.
        consistency: finish with back-projection, until only what the camera's noise explains is missing.

    Raises:
        TypeError: `lr_hsi` is not of floating-point numbers, `camera` is not a `Camera`.
        ValueError: wrong rank, a constant image or one of holes only, a scale without a head; weights that
            do not fit.
        FileNotFoundError: no weights there.
    """
    lr_hsi, holes = split_holes(as_image(lr_hsi, "lr_hsi", finite=False), "lr_hsi")
    if not isinstance(camera, Camera):
        fail("camera", "a `Camera`", type(camera).__name__, TypeError)
    if camera.scale not in SCALES:
        fail("camera", f"one of scale {', '.join(map(str, SCALES))}, as the weights", f"scale {camera.scale}")
    network = shipped_prior() if weights is None else weights
    if not isinstance(network, ComponentPrior):
        network = load_component(PART, ComponentPrior, network, name="weights")
    network, camera = network.to(lr_hsi.device), camera.to(lr_hsi.device)
    images = zip(lr_hsi.split(1), holes_of_each(holes, len(lr_hsi)))
    preds = torch.cat([_sharpened(one, hole, camera, network) for one, hole in images])
    return open_holes(camera.consistent(preds, lr_hsi, holes=holes) if consistency else preds, holes)


@typed
def load_prior(folder: str | Path | None = None) -> ComponentPrior:
    """The trained network of a folder, in evaluation mode; None: the shipped one.

    Raises:
        ValueError: a card of another version, or weights that do not fit it.
        FileNotFoundError: no weights there.
    """
    return load_component(PART, ComponentPrior, folder)


@cache
def shipped_prior() -> ComponentPrior:
    """The shipped network, read once; the same object each time."""
    return load_prior()


@typed
def sharpened_components(
    z: torch.Tensor,
    camera: Camera,
    network: ComponentPrior,
    noise: torch.Tensor | None = None,
    *,
    whitened: bool = False,
) -> torch.Tensor:
    """Coarse components (N, 1, h, w) → fine ones (N, 1, H, W), each by itself.

    Args:
        z: the components, any units.
        camera: their camera.
        network: the prior.
        noise: deviation of the noise of each, (N,), in its units; None: no noise.
        whitened: they are parts of components of mean 0 and deviation 1, as of `ComponentPrior.forward`.
    """
    noise = z.new_zeros(len(z)) if noise is None else noise
    profiles = camera.psf.sum(1)[None], camera.psf.sum(0)[None]
    mtf = torch.cat([transfer(profile, camera.scale) for profile in profiles], 1).to(z).expand(len(z), -1)
    some = max(1, AT_ONCE // z[0].numel())
    parts = zip(z.split(some), camera.upsample(z).split(some), mtf.split(some), noise.split(some))
    return torch.cat([network(*part, camera.scale, whitened) for part in parts])


def _sharpened(
    lr_hsi: torch.Tensor, holes: torch.Tensor | None, camera: Camera, network: ComponentPrior
) -> torch.Tensor:
    """One image (1, C, h, w), filled where it had holes, before back-projection, (1, C, H, W)."""
    whole = whole_pixels(lr_hsi, holes)
    space = fit(whole, COMPONENTS)
    lr_hsi_up = camera.upsample(lr_hsi)
    z = space.encode(lr_hsi).transpose(0, 1)
    fine = sharpened_components(z, camera, network, noise_of_components(whole, space, camera))
    return lr_hsi_up + space.decode_difference(fine.transpose(0, 1) - space.encode(lr_hsi_up))


@typed
def noise_of_components(lr_hsi: torch.Tensor, space: Subspace, camera: Camera) -> torch.Tensor:
    """Deviation (Z,) of the noise in whitened components: that of the bands, as `optics.add_noise` has it."""
    bands = lr_hsi[0].square().mean((1, 2)) * camera.noise_share**2
    return (space.basis.square().T @ bands).sqrt() / space.std
