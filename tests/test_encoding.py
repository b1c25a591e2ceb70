"""What the denoiser is told: padding to its channels, textures of any sensor, weights of the loss."""

from dataclasses import replace

import pytest
import torch

from ctmem.config import TINY
from ctmem.diffusion.encoding import encode_image
from ctmem.diffusion.subspace import fit
from ctmem.observe.camera import Camera
from ctmem.observe.optics import upsample
from ctmem.observe.responses import apply_srf

TOLD = TINY.denoiser
BANDS = replace(TOLD, subspace=None)
BLIND = Camera.gaussian(scale=4)  # of a camera without a response nothing but the usual four bands is known


def image(bands=7, seed=0):
    lr_hsi = torch.rand(1, bands, 6, 5, generator=torch.Generator().manual_seed(seed))
    return lr_hsi, upsample(lr_hsi, 4)


def flat(msi_bands, bands):
    """A camera whose multispectral sensor sees the mean of all bands, several times."""
    return replace(BLIND, srf=torch.full((msi_bands, bands), 1 / bands))


@pytest.mark.parametrize("bands", [3, 8, 40])
def test_channels_are_the_denoisers_whatever_the_bands(bands):
    lr_hsi, up = image(bands)
    encoded = encode_image(lr_hsi, up, torch.rand(1, 8, 24, 20), flat(2, bands), TOLD)
    assert encoded.base.shape == (1, 8, 24, 20) and encoded.texture.shape == (1, 32, 24, 20)
    unused = encoded.base[:, encoded.space.channels :]
    assert unused.shape[1] == max(0, 8 - bands) and not unused.any()
    texture = encoded.texture.unflatten(1, (4, 8))
    assert not texture[:, :, encoded.space.channels :].any() and texture[:, :, : encoded.space.channels].any()


def test_decode_undoes_encode_and_keeps_what_lies_outside():
    lr_hsi, up = image(12)
    encoded = encode_image(lr_hsi, up, None, BLIND, TOLD)
    torch.testing.assert_close(encoded.decode(encoded.encode(up)), up)
    step = torch.zeros_like(encoded.base)
    step[:, 2] = 1.0
    spectrum = encoded.space.basis[:, 2] * encoded.space.std[2]
    torch.testing.assert_close(encoded.decode(encoded.base + step) - up, spectrum[None, :, None, None].expand_as(up))


def test_the_subspace_is_that_of_the_observed_image_not_of_the_enlarged_one():
    lr_hsi, up = image(7)
    space, wanted, other = encode_image(lr_hsi, up, None, BLIND, TOLD).space, fit(lr_hsi, 8), fit(up, 8)
    for name in ("mean", "basis", "std"):
        assert torch.equal(getattr(space, name), getattr(wanted, name))
    assert not torch.allclose(other.std, wanted.std, rtol=0.01)


def test_weight_is_the_share_of_each_channel_in_the_image():
    lr_hsi, up = image(4)
    encoded = encode_image(lr_hsi, up, None, BLIND, TOLD)
    weight = encoded.weight.flatten()
    torch.testing.assert_close(weight[:4].mean(), torch.tensor(1.0))
    torch.testing.assert_close(weight[:4] / weight[0], encoded.space.std / encoded.space.std[0])
    assert not weight[4:].any()


def test_without_subspace_bands_stay_bands():
    lr_hsi, up = image(7)
    texture = torch.rand(1, 16, 24, 20)
    encoded = encode_image(lr_hsi, up, texture, flat(4, 7), BANDS)
    torch.testing.assert_close(encoded.base, 2 * up - 1)
    assert torch.equal(encoded.texture, texture)
    assert encode_image(lr_hsi, up, None, BLIND, BANDS).texture.shape == texture.shape


def test_query_as_its_own_reference_encodes_to_the_base():
    """With more MSI bands than directions the map from q to z is exact but for the ridge."""
    lr_hsi, up = image(3)
    srf = torch.eye(3)
    q = apply_srf(up, srf)
    encoded = encode_image(lr_hsi, up, torch.cat([q, q, q, q * 0], 1), replace(BLIND, srf=srf), TOLD)
    soft, hard, _, difference = encoded.texture.chunk(4, 1)
    assert float((hard - encoded.base).abs().max()) < 0.05 and torch.equal(soft, hard) and not difference.any()


def test_errors():
    lr_hsi, up = image()
    message = r"`camera` must be one with `srf`, the response \(c, C\) of its multispectral sensor, got one without"
    with pytest.raises(ValueError, match=message):
        encode_image(lr_hsi, up, torch.rand(1, 8, 24, 20), BLIND, TOLD)
    with pytest.raises(ValueError, match="`srf` must be of 7 columns, one per band of the image, got 6"):
        encode_image(lr_hsi, up, torch.rand(1, 8, 24, 20), flat(2, 6), TOLD)
    with pytest.raises(ValueError, match=r"`texture` must be of 8 band\(s\)"):
        encode_image(lr_hsi, up, torch.rand(1, 12, 24, 20), flat(2, 7), TOLD)
    with pytest.raises(ValueError, match="`texture` must be finite everywhere"):
        encode_image(lr_hsi, up, torch.rand(1, 8, 24, 20) / 0, flat(2, 7), TOLD)
    with pytest.raises(TypeError, match="`texture` must be a floating"):
        encode_image(lr_hsi, up, torch.ones(1, 8, 24, 20) > 0, flat(2, 7), TOLD)
    with pytest.raises(TypeError, match="`lr_hsi` must be a floating-point tensor"):
        encode_image(lr_hsi > 0.5, up, None, BLIND, TOLD)
    with pytest.raises(ValueError, match=r"`lr_hsi_up` must be of 7 band\(s\)"):
        encode_image(lr_hsi, up[:, :5], None, BLIND, TOLD)
