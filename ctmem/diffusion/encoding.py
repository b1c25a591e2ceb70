"""What the denoiser is told about an image, computed once and used at every diffusion step.

`encode_image` brings one image and the texture the DMB found for it into the denoiser's channels, whatever the
scene's band count; `Encoded.decode` brings an estimate back.

Source: this project; the stages are those of Qu et al., IEEE TGRS 2025.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F

from ctmem.checks import as_image, door, typed
from ctmem.config import DenoiserConfig
from ctmem.diffusion.subspace import Subspace, encode_texture, fit
from ctmem.observe.camera import Camera


@typed
@dataclass(frozen=True)
class Encoded:
    """One image in the denoiser's channels: `base` (1, Z, H, W) and `texture` (1, 4Z or 4c, H, W)."""

    lr_hsi_up: torch.Tensor  # (1, C, H, W)
    space: Subspace
    base: torch.Tensor
    texture: torch.Tensor

    @property
    def weight(self) -> torch.Tensor:
        """What one unit of each channel is worth in the image, over its mean; 0 for unused channels; (1, Z, 1, 1)."""
        std = self.space.std / self.space.std.mean()
        return _pad_channels(std.reshape(1, -1, 1, 1), self.base.shape[1])

    @typed
    def encode(self, x: torch.Tensor) -> torch.Tensor:
        """An image (1, C, H, W) in the denoiser's channels (1, Z, H, W)."""
        return _pad_channels(self.space.encode(x), self.base.shape[1])

    @typed
    def decode(self, z: torch.Tensor) -> torch.Tensor:
        """An estimate (B, Z, H, W) as spectra (B, C, H, W); what lies outside the subspace is lr_hsi_up's."""
        difference = (z - self.base)[:, : self.space.channels]
        return self.lr_hsi_up + self.space.decode_difference(difference)


@door
def encode_image(
    lr_hsi: torch.Tensor,
    lr_hsi_up: torch.Tensor,
    texture: torch.Tensor | None,
    camera: Camera,
    config: DenoiserConfig,
) -> Encoded:
    """Returns one image and its texture in the denoiser's channels.

    Args:
        lr_hsi: observed image (1, C, h, w); the subspace is fitted to it.
        lr_hsi_up: the same, upsampled, (1, C, H, W).
        texture: of the DMB, in MSI bands (1, 4c, H, W), or None where there is no reference.
        camera: with the response `srf` that made the texture.
        config: says how many channels the denoiser has.

    Raises:
        TypeError: an image or a texture that is not of floating-point numbers.
        ValueError: shapes that do not fit, values that are not finite, or a texture and a camera without `srf`.
    """
    lr_hsi = as_image(lr_hsi, "lr_hsi")
    lr_hsi_up = as_image(lr_hsi_up, "lr_hsi_up", bands=lr_hsi.shape[1])
    # the image: whitened coefficients in a subspace of its own spectra, or its bands
    if config.subspace is None:
        space = Subspace.identity(lr_hsi.shape[1], lr_hsi.device)
    else:
        space = fit(lr_hsi, config.subspace)
    z_up = space.encode(lr_hsi_up)
    channels = config.subspace or z_up.shape[1]
    base = _pad_channels(z_up, channels)
    # its texture: zeros without a reference, MSI bands as they are for a denoiser on bands, coefficients otherwise
    if texture is None:
        groups = channels if config.subspace else camera.msi_channels
        return Encoded(lr_hsi_up, space, base, base.new_zeros(1, 4 * groups, *base.shape[2:]))
    texture = as_image(texture, "texture", bands=4 * len(camera.response()))
    query = camera.see(lr_hsi_up)
    if config.subspace is None:
        return Encoded(lr_hsi_up, space, base, texture)
    encoded = encode_texture(texture, z_up, query)
    parts = [_pad_channels(part, channels) for part in encoded.chunk(4, dim=1)]
    return Encoded(lr_hsi_up, space, base, torch.cat(parts, 1))


def _pad_channels(x: torch.Tensor, channels: int) -> torch.Tensor:
    """Appends channels of zeros: a scene of few bands has fewer directions than the denoiser has channels."""
    return F.pad(x, (0, 0, 0, 0, 0, channels - x.shape[1]))
