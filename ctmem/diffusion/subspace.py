"""A spectral subspace: the few numbers per pixel that the denoiser sees and predicts.

The spectra of an image lie close to a space of few dimensions. `fit` finds its mean, its Z principal directions and
their standard deviations from the observed `lr_hsi` alone; the denoiser works on the whitened coefficients z
(Z channels of about unit variance), so that one set of weights serves any scene and any number of bands.

`Subspace.identity` is the special case of no reduction: bands in [0, 1] become channels in [−1, 1].

Source: this project. Principal components: Jolliffe, "Principal Component Analysis", 2002.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from ctmem.checks import Image, Size, as_image, check_count, check_same_shape, door, double, fail, typed

RIDGE = 1e-3  # share of the mean variance that regularises the map from MSI bands to coefficients


@typed
@dataclass(frozen=True)
class Subspace:
    """Mean (C,), orthonormal directions `basis` (C, Z) and standard deviations `std` (Z,) of a scene's spectra."""

    mean: torch.Tensor
    basis: torch.Tensor
    std: torch.Tensor

    @classmethod
    @typed
    def identity(cls, bands: Size, device: torch.device | None = None) -> Subspace:
        """The space of the bands themselves: encode is 2x − 1."""
        half = torch.full((bands,), 0.5, dtype=torch.float32, device=device)
        return cls(half, torch.eye(bands, dtype=torch.float32, device=device), half.clone())

    @property
    def channels(self) -> int:
        """Z, the number of coefficients per pixel."""
        return self.basis.shape[1]

    @door
    def encode(self, x: torch.Tensor) -> torch.Tensor:
        """Whitened coefficients (B, Z, H, W) of an image (B, C, H, W).

        Raises:
            ValueError: another band count than the subspace was fitted to.
        """
        x = as_image(x, "x", bands=len(self.mean))
        centred = x - self.mean[:, None, None]
        return torch.einsum("cz,bchw->bzhw", self.basis / self.std, centred)

    @typed
    def decode_difference(self, dz: Image) -> torch.Tensor:
        """The spectra (B, C, H, W) of a difference of coefficients (B, Z, H, W).

        `lr_hsi_up + decode_difference(z − z_up)` keeps what of `lr_hsi_up` lies outside the subspace.
        """
        if dz.shape[1] != self.channels:
            fail("dz", f"of {self.channels} channel(s)", f"shape {tuple(dz.shape)}")
        return torch.einsum("cz,bzhw->bchw", self.basis * self.std, dz)

    @typed
    def decode(self, z: Image) -> torch.Tensor:
        """The image (B, C, H, W) of coefficients (B, Z, H, W); undoes `encode` for images inside the subspace."""
        if z.shape[1] != self.channels:
            fail("z", f"of {self.channels} channel(s)", f"shape {tuple(z.shape)}")
        return self.mean[:, None, None] + self.decode_difference(z)


@door
def fit(lr_hsi: torch.Tensor, channels: Size = 8) -> Subspace:
    """Returns the subspace of the Z principal directions of the spectra of `lr_hsi`.

    Args:
        lr_hsi: observed image (1, C, h, w), [0, 1].
        channels: Z, directions wanted; an image of fewer bands, or of fewer pixels, gives fewer.

    Raises:
        ValueError: `lr_hsi` is not a single finite image, or constant; `channels` < 1.

    Convention: the sign of a direction is arbitrary; training flips signs at random so that nothing depends on it.

    Example:
        Two bands that always agree have one direction, (1, 1)/√2.

        >>> x = torch.tensor([0.2, 0.4, 0.6]).reshape(1, 1, 1, 3).expand(1, 2, 1, 3)
        >>> [round(abs(v), 3) for v in fit(x, 1).basis.flatten().tolist()]
        [0.707, 0.707]
    """
    lr_hsi = as_image(lr_hsi, "lr_hsi", double=True)
    check_count(channels, "channels")
    if lr_hsi.shape[0] != 1:
        fail("lr_hsi", "one image (1, C, h, w), for each scene has its own subspace", f"a batch of {len(lr_hsi)}")
    spectra = double(lr_hsi[0].flatten(1).T)  # (pixels, C)
    mean = spectra.mean(0)
    _, singular, directions = torch.linalg.svd(spectra - mean, full_matrices=False)
    std = singular / max(len(spectra) - 1, 1) ** 0.5
    if std[0] < 1e-9:
        fail("lr_hsi", "an image with more than one spectrum", "a constant image")
    kept = min(channels, int((std > 1e-6 * std[0]).sum()))
    parts = mean, directions[:kept].T.contiguous(), std[:kept]
    return Subspace(*(part.float().to(lr_hsi.device) for part in parts))


@typed
def fit_texture_map(z_up: torch.Tensor, q: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns the matrix M (Z, c) and mean (c,) for which z ≈ M (q − mean): from MSI bands to coefficients.

    Fitted by ridge regression on the image itself, where both are known.

    Args:
        z_up: coefficients of `lr_hsi_up`, (1, Z, H, W).
        q: the same pixels seen by the MSI sensor, srf · lr_hsi_up, (1, c, H, W).
    """
    check_same_shape(z_up[:, :1], q[:, :1], ("z_up", "q"))
    z, bands = z_up[0].flatten(1), q[0].flatten(1)
    mean = bands.mean(1)
    centred = bands - mean[:, None]
    gram = centred @ centred.T
    gram = gram + (RIDGE * gram.diagonal().mean() + 1e-12) * torch.eye(len(gram)).to(gram)
    return torch.linalg.solve(gram, centred @ z.T).T, mean


@typed
def encode_texture(texture: torch.Tensor, z_up: torch.Tensor, q: torch.Tensor) -> torch.Tensor:
    """Texture in MSI bands (1, 4c, H, W) → texture in coefficients (1, 4Z, H, W), for any sensor's c.

    The soft map and the hard reference are images (mean removed), the difference is linear, and the gradient, a
    magnitude, takes the magnitudes of the map.
    """
    map_, mean = fit_texture_map(z_up, q)
    soft, hard, gradient, difference = texture.chunk(4, dim=1)
    offset = mean[:, None, None]
    parts = [(map_, soft - offset), (map_, hard - offset), (map_.abs(), gradient), (map_, difference)]
    return torch.cat([torch.einsum("zc,bchw->bzhw", m, x) for m, x in parts], dim=1)
