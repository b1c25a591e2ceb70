"""Fusion without registration: the reference may show the same ground, part of it, or other ground, in any position.

    pred = super_resolve(model, lr_hsi, ref_msi, camera=camera, method="fusion")

Every component of the image is first sharpened by itself (`prior`). A denoiser that was trained on references of all
grades then adds what the reference knows. Windows are searched at every pixel of it, in eight turns, and the best one
alone is handed over: where the ground is the same it is the truth, up to a fraction of a pixel, and the similarity
says so. Where it is other ground the similarity is lower, and the denoiser, which is told, leaves the texture alone.

Source: this project, after Qu et al., IEEE TGRS 2025. `python -m ctmem.train.fusion` trains it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import torch

from ctmem.checks import fail
from ctmem.config import DenoiserConfig, MatchConfig
from ctmem.diffusion.encoding import Encoded, encode_image
from ctmem.diffusion.problem import DenoisingProblem
from ctmem.diffusion.schedule import make_schedule
from ctmem.diffusion.subspace import fit_texture_map
from ctmem.files import data_path, load_module
from ctmem.match.dmb import dmb
from ctmem.match.matching import Match
from ctmem.match.patches import fold
from ctmem.methods.registry import Entry, register_maker
from ctmem.networks.folded import FoldedTCMM
from ctmem.observe.camera import Camera
from ctmem.prior import SEEN, noise_of_components, sharpened_components, shipped_prior

SCALE = 4  # of the weights
MATCH = MatchConfig(patch=8, stride=1, query_stride=4, top_k=16, hard_k=1, temperature=0.02)
DENOISER = DenoiserConfig(width=64, residual_blocks=2, cim_blocks=2, te_blocks=1, state=8, subspace=8)
MAPS = ("soft", "hard", "gradient", "difference", "best score", "mean score", "explained", "bicubic", "blur", "noise", "offer")
TIMESTEPS = 2000
TILE = 192  # fine pixels


@dataclass(frozen=True, eq=False)
class Components:
    """An image as `fusion` sees it: K components, each an image of its own."""

    encoded: Encoded
    base: torch.Tensor  # (K, 1, H, W), sharpened by the prior
    maps: torch.Tensor  # (K, T, H, W), what is known beside: `MAPS`

    def decode(self, z: torch.Tensor) -> torch.Tensor:
        """The spectra (1, C, H, W) of components (K, 1, H, W)."""
        whole = self.encoded.base.clone()
        whole[0, : len(z)] = z[:, 0]
        return self.encoded.decode(whole)


def components(lr_hsi: torch.Tensor, ref_msi: torch.Tensor | None, camera: Camera) -> Components:
    """Returns what the denoiser of `fusion` is told of an image and its reference.

    Args:
        lr_hsi: observed image (1, C, h, w), [0, 1].
        ref_msi: reference (1, c, Hr, Wr), [0, 1], any size and place; None: without.
        camera: of scale 4; with `srf`, where there is a reference.

    Raises:
        ValueError: another scale, or what `dmb.dmb` and `encode_image` refuse.
    """
    if camera.scale != SCALE:
        fail("camera", f"one of scale {SCALE}, as the weights of 'fusion'", f"scale {camera.scale}")
    lr_hsi_up = camera.upsample(lr_hsi)
    texture, found = None, None
    if ref_msi is not None:
        texture, found = dmb(lr_hsi_up, ref_msi, camera, MATCH)
    encoded = encode_image(lr_hsi, lr_hsi_up, texture, camera, DENOISER)
    # components, one by one, and what the prior makes of them
    count = encoded.space.channels
    z_up = encoded.space.encode(lr_hsi_up).transpose(0, 1)
    noise = noise_of_components(lr_hsi, encoded.space, camera)
    prior = shipped_prior().to(lr_hsi.device)
    base = sharpened_components(encoded.space.encode(lr_hsi).transpose(0, 1), camera, prior, noise)
    # what is known of each pixel
    maps = lr_hsi_up.new_zeros(count, len(MAPS), *lr_hsi_up.shape[2:])
    maps[:, 7] = z_up[:, 0]
    maps[:, 8] = camera.fwhm_px[0] / SCALE - 1
    maps[:, 9] = noise.clamp_max(1)[:, None, None]
    if found is not None:
        groups = encoded.texture[0].unflatten(0, (4, -1))[:, :count]
        maps[:, :4] = groups.transpose(0, 1)
        maps[:, 4] = _spread(found, found.scores[..., 0])
        maps[:, 5] = _spread(found, found.scores.mean(2))
        maps[:, 6] = _explained(encoded, z_up, camera)[:, None, None]
        maps[:, 10] = z_up[:, 0] + maps[:, 3] - base[:, 0]
    return Components(encoded, base, maps)


def _spread(found: Match, scores: torch.Tensor) -> torch.Tensor:
    """A number per query patch (1, N) as an image (H, W), the mean where patches overlap."""
    patches = scores[..., None, None, None].expand(*scores.shape, 1, found.patch, found.patch)
    return fold(patches.float(), found.size, found.query_stride)[0, 0]


def _explained(encoded: Encoded, z_up: torch.Tensor, camera: Camera) -> torch.Tensor:
    """The share of each component's variance that the multispectral bands explain, (K,), 0 to 1."""
    query = camera.see(encoded.lr_hsi_up)
    map_, mean = fit_texture_map(z_up.transpose(0, 1), query)
    fitted = torch.einsum("zc,bchw->zbhw", map_, query - mean[:, None, None])
    rest = (fitted - z_up).square().mean((1, 2, 3)) / z_up.var((1, 2, 3)).clamp_min(1e-6)
    return (1 - rest).clamp(0, 1)


def new_denoiser() -> FoldedTCMM:
    """An untrained denoiser of the method."""
    return FoldedTCMM(len(MAPS), DENOISER, fold=SCALE, offer=MAPS.index("offer"))


@cache
def _denoiser() -> FoldedTCMM:
    """The shipped denoiser."""
    network = new_denoiser()
    path = data_path("weights/fusion/fusion.safetensors")
    load_module(network, path, part="fusion", preset="fusion")
    return network.eval().requires_grad_(False)


@torch.no_grad()
def fuse(lr_hsi: torch.Tensor, ref_msi: torch.Tensor | None, camera: Camera) -> torch.Tensor:
    """Returns the estimate (1, C, 4·h, 4·w), before back-projection; the same each time.

    Args:
        lr_hsi: observed image (1, C, h, w), [0, 1].
        ref_msi: reference (1, c, Hr, Wr), or None.
        camera: as of `components`.

    Raises:
        ValueError: as `components`.
    """
    given = components(lr_hsi, ref_msi, camera)
    problem = DenoisingProblem.of(_denoiser().to(lr_hsi.device), given.base, given.maps, tile=TILE)
    schedule = make_schedule("linear", TIMESTEPS)
    return given.decode(problem.draw(schedule, steps=1, generator=torch.Generator().manual_seed(0)))


register_maker("fusion", Entry(lambda setting: fuse, seen=SEEN))
