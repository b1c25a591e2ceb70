"""Fusion without registration: the reference may show the same ground, part of it, or other ground, in any position.

    pred = super_resolve(model, lr_hsi, ref_msi, camera=camera, method="fusion")

Every component of the image is first sharpened by itself (`prior`). Windows of the reference are searched for every
patch, in eight turns; where they agree (`match.agreement`), the reference is laid under the image, to a fraction of a
pixel, and what its blur took away is added to every component, as far as that follows the reference (`match.detail`)
and as the likeness around each pixel says. Where no windows agree, the reference shows other ground and is not used.
That is the estimate. The search takes time with the product of both images' pixels: minutes for 400×400 fine pixels.
A denoiser that is told all this draws samples around it; its own mean, in one call
(`fusion-tcmm`), is not better so far.

Source: this project, after Qu et al., IEEE TGRS 2025. `python -m ctmem.train.fusion` trains it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import NamedTuple

import torch

from ctmem.card import load_component
from ctmem.checks import Count, HoledImage, Image, check_count, fail, typed
from ctmem.config import DenoiserConfig, MatchConfig
from ctmem.diffusion.encoding import Encoded, encode_image
from ctmem.diffusion.objective import standard_normal
from ctmem.diffusion.problem import DenoisingProblem
from ctmem.diffusion.samplers import sample_ddpm
from ctmem.diffusion.schedule import Schedule
from ctmem.holes import split_holes, whole_pixels
from ctmem.match.agreement import agree
from ctmem.match.align import gradient_magnitude
from ctmem.match.detail import local_detail
from ctmem.match.dmb import find, prepare
from ctmem.methods.registry import Entry, register_maker
from ctmem.networks.folded import FoldedTCMM
from ctmem.observe.camera import Camera
from ctmem.prior import noise_of_components, sharpened_components, shipped_prior

SCALE = 4  # of the weights
MATCH = MatchConfig(patch=8, stride=1, query_stride=4, top_k=16, hard_k=1, temperature=0.02)
DENOISER = DenoiserConfig(width=64, residual_blocks=2, cim_blocks=2, te_blocks=1, state=8, subspace=8)
CHAIN = Schedule.geometric(25)  # that samples are drawn with
TILE = 192  # fine pixels


class Map(NamedTuple):
    """One of the images that the denoiser is told beside the base."""

    name: str
    signed: bool = False  # changes its sign with the component's


MAPS = (
    Map("bicubic", signed=True),
    Map("prior", signed=True),
    Map("detail", signed=True),  # of the laid reference, see `local_detail`
    Map("offer", signed=True),  # the base with all of this detail, less that with none
    Map("gradient"),  # of the component with this detail
    Map("explained"),  # by the bands of the laid reference, around every pixel
    Map("score"),  # these three: see `agreement.Agreed`
    Map("near"),
    Map("votes"),
    Map("blur"),
    Map("noise"),
)


@typed
@dataclass(frozen=True, eq=False)
class Components:
    """An image as `fusion` sees it: K components, each an image of its own."""

    encoded: Encoded
    base: torch.Tensor  # (K, 1, H, W), sharpened by the prior, and by the reference where it is laid
    maps: torch.Tensor  # (K, T, H, W), what is known beside: `MAPS`

    @typed
    def decode(self, z: torch.Tensor) -> torch.Tensor:
        """The spectra (1, C, H, W) of components (K, 1, H, W)."""
        whole = self.encoded.base.clone()
        whole[0, : len(z)] = z[:, 0]
        return self.encoded.decode(whole)


@typed
def components(lr_hsi: Image, ref_msi: HoledImage | None, camera: Camera) -> Components:
    """Returns what the denoiser of `fusion` is told of an image and its reference.

    Args:
        lr_hsi: observed image (1, C, h, w), [0, 1]; NaN where it has holes, which are filled.
        ref_msi: reference (1, c, Hr, Wr), [0, 1], any size and place; None: without.
        camera: of scale 4; with `srf`, where there is a reference.

    Raises:
        ValueError: another scale, or what `dmb.dmb` and `encode_image` refuse.
    """
    if camera.scale != SCALE:
        fail("camera", f"one of scale {SCALE}, as the weights of 'fusion'", f"scale {camera.scale}")
    lr_hsi, holes = split_holes(lr_hsi, "lr_hsi")
    whole = whole_pixels(lr_hsi, holes)
    lr_hsi_up = camera.upsample(lr_hsi)
    encoded = encode_image(whole, lr_hsi_up, None, camera, DENOISER)
    # components, one by one, and what the prior makes of them
    z_up = encoded.space.encode(lr_hsi_up)
    noise = noise_of_components(whole, encoded.space, camera)
    prior = shipped_prior().to(lr_hsi.device)
    base = sharpened_components(encoded.space.encode(lr_hsi).transpose(0, 1), camera, prior, noise)
    # what is known of each pixel
    flat = torch.zeros_like(base)
    known = {"bicubic": z_up.transpose(0, 1), "prior": base}
    known["blur"] = flat + (camera.fwhm_px[0] / SCALE - 1)
    known["noise"] = flat + noise.clamp_max(1)[:, None, None, None]
    if ref_msi is not None:
        laid = _laid(lr_hsi_up, z_up, ref_msi, camera, holes)
        laid["offer"] = (laid["score"] != 0) * (known["bicubic"] + laid["detail"] - base)
        base = base + laid.pop("share") * laid["offer"]
        known |= laid
    return Components(encoded, base, torch.cat([known.get(one.name, flat).expand_as(flat) for one in MAPS], 1))


def _laid(
    lr_hsi_up: torch.Tensor, z_up: torch.Tensor, ref_msi: torch.Tensor, camera: Camera, holes: torch.Tensor | None
) -> dict[str, torch.Tensor]:
    """The maps that come from the reference, (K or 1, 1, H, W), and the share that its detail has in the base."""
    prepared = prepare(lr_hsi_up, ref_msi, camera, MATCH, holes=holes)
    found = agree(find(prepared, MATCH), prepared, camera.blur, sharpening=MATCH.sharpening)
    detail, explained = local_detail(z_up, found.sharp, found.blurred, found.share)
    parts = {"detail": detail, "gradient": gradient_magnitude(z_up + detail), "explained": explained}
    somewhere = float(found.share.amax() > 0)
    maps = {name: somewhere * x.transpose(0, 1) for name, x in parts.items()}
    return maps | {"share": found.share, "score": found.score, "near": found.near, "votes": found.votes}


def new_denoiser() -> FoldedTCMM:
    """An untrained denoiser of the method."""
    return FoldedTCMM(len(MAPS), DENOISER, fold=SCALE, offer=[one.name for one in MAPS].index("offer"))


def load_denoiser(folder: str | Path | None = None) -> FoldedTCMM:
    """The trained denoiser of a folder, as `python -m ctmem.train.fusion` leaves it; None: the shipped one.

    Raises:
        ValueError: a damaged card or damaged weights, or weights that do not belong together.
        FileNotFoundError: no weights there.
    """
    return load_component("fusion", new_denoiser, folder)


@cache
def _denoiser() -> FoldedTCMM:
    """The shipped denoiser."""
    return load_denoiser()


@typed
@torch.no_grad()
def fuse(lr_hsi: Image, ref_msi: HoledImage | None, camera: Camera) -> torch.Tensor:
    """Returns the estimate (1, C, 4·h, 4·w), before back-projection: the prior, and the reference where it is laid.

    Args:
        lr_hsi: observed image (1, C, h, w), [0, 1].
        ref_msi: reference (1, c, Hr, Wr), or None.
        camera: as of `components`.

    Raises:
        ValueError: as `components`.
    """
    given = components(lr_hsi, ref_msi, camera)
    return given.decode(given.base)


@typed
@torch.no_grad()
def fuse_and_denoise(lr_hsi: Image, ref_msi: HoledImage | None, camera: Camera) -> torch.Tensor:
    """Returns what the denoiser makes of it in one call, its mean; the same each time, whatever the components' signs.

    Arguments and errors are those of `fuse`.
    """
    given = components(lr_hsi, ref_msi, camera)
    noise = standard_normal(given.base, torch.Generator().manual_seed(0))
    signed = torch.tensor([1 - 2 * one.signed for one in MAPS]).to(given.maps).reshape(1, -1, 1, 1)
    means = []
    for sign, maps in ((1, given.maps), (-1, signed * given.maps)):
        problem = DenoisingProblem.of(_denoiser().to(lr_hsi.device), sign * given.base, maps, tile=TILE)
        means.append(sign * problem.denoise(noise, noise.new_zeros(len(noise)), sign * given.base))
    return given.decode((means[0] + means[1]) / 2)


@typed
@torch.no_grad()
def fused_draws(
    lr_hsi: torch.Tensor,
    ref_msi: torch.Tensor | None,
    camera: Camera,
    count: Count,
    *,
    generator: torch.Generator | None = None,
) -> torch.Tensor:
    """Returns samples of what the image may be, (count, C, 4·h, 4·w), before back-projection.

    How far they differ says where the estimate is to be doubted. An ideal sample has twice the squared error of `fuse`;
    with the shipped weights it has less, and their deviation is about half of the error, see the card.

    Args:
        lr_hsi: observed image (1, C, h, w), [0, 1].
        ref_msi: reference (1, c, Hr, Wr), or None.
        camera: as of `components`.
        count: how many.
        generator: of the noise.

    Raises:
        ValueError: as `components`; a count below 1.
    """
    check_count(count, "count")
    given = components(lr_hsi, ref_msi, camera)
    problem = DenoisingProblem.of(_denoiser().to(lr_hsi.device), given.base, given.maps, tile=TILE)
    drawn = (problem.draw(CHAIN, steps=CHAIN.steps, sampler=sample_ddpm, generator=generator) for _ in range(count))
    return torch.cat([given.decode(z) for z in drawn])


register_maker(
    "fusion",
    Entry(lambda setting: fuse, draws=lambda setting: partial(fused_draws, generator=setting.generator), holes=True),
)
register_maker("fusion-tcmm", Entry(lambda setting: fuse_and_denoise, holes=True))
register_maker(
    "fusion-sample",
    Entry(lambda setting: partial(fused_draws, count=1, generator=setting.generator), random=True, holes=True),
)
