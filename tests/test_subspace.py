"""The spectral subspace: exact for images that lie in one, blind to signs, and any number of bands."""

import math

import pytest
import torch

from ctmem.diffusion.subspace import Subspace, encode_texture, fit, fit_texture_map


def low_rank(bands=7, rank=3, size=(12, 20), seed=0):
    generator = torch.Generator().manual_seed(seed)
    spectra = torch.rand(rank, bands, generator=generator)
    abundance = torch.rand(1, rank, *size, generator=generator)
    return torch.einsum("kc,bkhw->bchw", spectra, abundance) / rank


def test_image_of_low_rank_comes_back():
    x = low_rank()
    space = fit(x, 3)
    torch.testing.assert_close(space.decode(space.encode(x)), x, atol=1e-5, rtol=1e-5)


def test_directions_are_those_of_the_covariance():
    x = torch.rand(1, 7, 12, 20, generator=torch.Generator().manual_seed(1))
    space = fit(x, 7)
    covariance = torch.cov(x[0].flatten(1).double())
    values = torch.linalg.eigvalsh(covariance).flip(0)
    torch.testing.assert_close(space.std.double().square(), values, rtol=1e-4, atol=1e-7)
    torch.testing.assert_close(space.basis.T @ space.basis, torch.eye(7), atol=1e-5, rtol=0)


def test_coefficients_are_white():
    x = torch.rand(1, 7, 12, 20, generator=torch.Generator().manual_seed(2))
    z = fit(x, 4).encode(x)[0].flatten(1)
    torch.testing.assert_close(torch.cov(z), torch.eye(4), atol=1e-3, rtol=0)
    assert z.mean(1).abs().max() < 1e-4


def test_fewer_directions_than_asked_for():
    assert fit(low_rank(rank=3), 8).channels <= 3  # the mean takes none, the rest has rank 3
    assert fit(torch.rand(1, 4, 12, 20), 8).channels == 4
    assert fit(torch.rand(1, 40, 2, 2), 8).channels == 3  # four pixels differ in three directions


def test_images_in_double_precision_and_arrays():
    x = low_rank()
    one, other = fit(x, 3), fit(x.double().numpy(), 3)
    torch.testing.assert_close(one.std, other.std)
    assert torch.equal(one.encode(x.double().numpy()), one.encode(x))


def test_identity_is_minus_one_to_one():
    space = Subspace.identity(5)
    x = torch.tensor([0.0, 0.25, 1.0]).expand(1, 5, 1, 3)
    assert space.encode(x)[0, 0, 0].tolist() == [-1.0, -0.5, 1.0]
    torch.testing.assert_close(space.decode(space.encode(x)), x)


def test_texture_map_recovers_a_linear_relation():
    generator = torch.Generator().manual_seed(3)
    q = torch.rand(1, 4, 12, 20, generator=generator)
    wanted = torch.randn(6, 4, generator=generator)
    z = torch.einsum("kc,bchw->bkhw", wanted, q - q.mean((2, 3), keepdim=True))
    found, mean = fit_texture_map(z, q)
    torch.testing.assert_close(found, wanted, atol=0.02, rtol=0.02)
    torch.testing.assert_close(mean, q.mean((0, 2, 3)))


def test_the_ridge_is_a_thousandth_of_the_mean_variance():
    """Bands (2, −2, 2, −2) and (1, 1, −1, −1) have squares 16 and 4: the ridge is 0.01, the slopes 3 · 16/16.01, 5 · 4/4.01."""
    q = torch.tensor([[2.0, -2, 2, -2], [1, 1, -1, -1]]).reshape(1, 2, 2, 2) + 7
    z = torch.cat([3 * (q[:, :1] - 7), 5 * (q[:, 1:] - 7)], 1)
    found, mean = fit_texture_map(z, q)
    wanted = torch.tensor([[3 * 16 / 16.01, 0.0], [0.0, 5 * 4 / 4.01]])
    torch.testing.assert_close(found, wanted, atol=1e-6, rtol=1e-6)
    assert mean.tolist() == [7, 7]


def test_images_lose_the_mean_and_differences_have_none():
    """Of a texture that is the mean itself nothing is left in soft and hard map; a gradient takes magnitudes of the map."""
    generator = torch.Generator().manual_seed(5)
    z, q = torch.randn(1, 3, 6, 5, generator=generator), torch.rand(1, 2, 6, 5, generator=generator)
    texture = torch.rand(1, 8, 6, 5, generator=generator)
    map_, mean = fit_texture_map(z, q)
    assert float(map_.min()) < -0.05  # its signs count
    encoded = [part[0] for part in encode_texture(texture, z, q).chunk(4, 1)]
    for name, part, given in zip(("soft", "hard", "gradient", "difference"), encoded, texture[0].split(2)):
        matrix = map_.abs() if name == "gradient" else map_
        taken = given - mean[:, None, None] if name in ("soft", "hard") else given
        torch.testing.assert_close(part, (matrix @ taken.flatten(1)).reshape(3, 6, 5), msg=name)


def test_texture_follows_the_signs_of_the_directions():
    """Flipping a direction flips its coefficients and its texture, and leaves the gradient's magnitude."""
    generator = torch.Generator().manual_seed(4)
    z, q = torch.randn(1, 3, 12, 20, generator=generator), torch.rand(1, 2, 12, 20, generator=generator)
    texture = torch.rand(1, 8, 12, 20, generator=generator)
    signs = torch.tensor([1.0, -1.0, 1.0])[:, None, None]
    plain, flipped = encode_texture(texture, z, q), encode_texture(texture, z * signs, q)
    soft, hard, gradient, difference = flipped.chunk(4, 1)
    wanted = torch.cat([soft * signs, hard * signs, gradient, difference * signs], 1)
    torch.testing.assert_close(wanted, plain, atol=1e-5, rtol=1e-5)


def test_perfect_texture_is_the_image_itself():
    """Where the transferred patches are the query itself, the hard map encodes to z_up."""
    x = low_rank(rank=3)
    srf = torch.eye(7)[[0, 2, 4, 6]]
    z, q = fit(x, 3).encode(x), torch.einsum("mc,bchw->bmhw", srf, x)
    hard = encode_texture(torch.cat([q, q, q, q * 0], 1), z, q).chunk(4, 1)[1]
    assert float((hard - z).abs().mean() / z.abs().mean()) < 0.1


def test_errors():
    with pytest.raises(ValueError, match="`lr_hsi` must be one image"):
        fit(torch.rand(2, 7, 12, 20))
    with pytest.raises(ValueError, match="`lr_hsi` must be an image with more than one spectrum, got a constant"):
        fit(torch.full((1, 7, 12, 20), 0.5))
    with pytest.raises(ValueError, match="`channels` must be a whole number ≥ 1, got 0"):
        fit(torch.rand(1, 7, 12, 20), 0)
    with pytest.raises(ValueError, match=r"`x` must be of 7 band\(s\)"):
        fit(low_rank(), 2).encode(torch.rand(1, 6, 12, 20))
    bad = low_rank()
    bad[0, 0, 0, 0] = math.nan
    with pytest.raises(ValueError, match="`lr_hsi` must be finite everywhere, got 1 NaN"):
        fit(bad)
