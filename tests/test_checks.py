"""Each check: what passes, and the message of what does not."""

from __future__ import annotations

import re

import pytest
import torch

from ctmem import checks

IMAGE = torch.rand(2, 7, 12, 20, generator=torch.Generator().manual_seed(0))
SRF = torch.tensor([[0.25, 0.75, 0.0], [0.0, 0.5, 0.5]])


def spoiled(x: torch.Tensor, value: float) -> torch.Tensor:
    copy = x.clone()
    copy[-1, -1] = value
    return copy


def message(text: str) -> str:
    return "^" + re.escape(text)


def test_what_is_right_passes():
    checks.check_image(IMAGE, "x")
    checks.check_image(IMAGE, "x", bands=7, multiple_of=4, at_least=12)
    checks.check_image(IMAGE.double(), "x")
    checks.check_image(spoiled(IMAGE, torch.nan), "x", bands=7, finite=False)
    checks.check_finite(IMAGE, "x")
    checks.check_same_shape(IMAGE, IMAGE + 1)
    checks.check_srf(SRF)
    checks.check_srf(SRF, bands=3)
    checks.check_srf(SRF + 5e-5 / 3)  # within the tolerance of 1e-4
    checks.check_count(1, "n")
    checks.check_count(0, "n", at_least=0, at_most=0)
    checks.check_choice("dot", "similarity", ("dot", "cosine"))


@pytest.mark.parametrize(
    ("image", "options", "error", "text"),
    [
        (IMAGE.numpy(), {}, TypeError, "`lr_hsi` must be a floating-point tensor (B, C, H, W), got ndarray"),
        (
            IMAGE.long(),
            {},
            TypeError,
            "`lr_hsi` must be a floating-point tensor (B, C, H, W), got a torch.int64 tensor",
        ),
        (IMAGE[0], {}, ValueError, "`lr_hsi` must be of shape (B, C, H, W), none of them 0, got shape (7, 12, 20)"),
        (IMAGE[0], {"finite": False}, ValueError, "`lr_hsi` must be of shape (B, C, H, W), none of them 0"),
        (IMAGE[:0], {}, ValueError, "`lr_hsi` must be of shape (B, C, H, W), none of them 0, got shape (0, 7, 12, 20)"),
        (
            IMAGE,
            {"bands": 4},
            ValueError,
            "`lr_hsi` must be of 4 band(s), shape (B, 4, H, W), got 7 band(s), shape (2,",
        ),
        (
            IMAGE[..., :18],
            {"multiple_of": 4},
            ValueError,
            "`lr_hsi` must be of a height and width that are multiples of 4, got 12×18",
        ),
        (
            IMAGE[..., :10, :],
            {"multiple_of": 4},
            ValueError,
            "`lr_hsi` must be of a height and width that are multiples of 4, got 10×20",
        ),
        (IMAGE, {"at_least": 16}, ValueError, "`lr_hsi` must be at least 16×16 px, got 12×20"),
        (IMAGE.mT, {"at_least": 16}, ValueError, "`lr_hsi` must be at least 16×16 px, got 20×12"),
        (
            spoiled(IMAGE, torch.nan),
            {},
            ValueError,
            "`lr_hsi` must be finite everywhere, got 240 NaN or infinite value(s) of 3360",
        ),
        (spoiled(IMAGE, -torch.inf), {}, ValueError, "`lr_hsi` must be finite everywhere, got 240 NaN"),
    ],
)
def test_image(image, options, error, text):
    with pytest.raises(error, match=message(text)):
        checks.check_image(image, "lr_hsi", **options)


def test_finite():
    with pytest.raises(
        ValueError, match=message("`psf` must be finite everywhere, got 1 NaN or infinite value(s) of 6")
    ):
        checks.check_finite(spoiled(SRF, torch.inf), "psf")


def test_same_shape():
    text = "`pred` must be of the shape of `target` (2, 7, 12, 20), got (2, 7, 20, 12)"
    with pytest.raises(ValueError, match=message(text)):
        checks.check_same_shape(IMAGE.mT, IMAGE)
    with pytest.raises(ValueError, match=message("`lr_hsi_up` must be of the shape of `gt` (2, 7")):
        checks.check_same_shape(IMAGE[:1], IMAGE, ("lr_hsi_up", "gt"))


@pytest.mark.parametrize(
    ("srf", "options", "error", "text"),
    [
        (SRF.numpy(), {}, TypeError, "`srf` must be a floating-point tensor (c, C), got ndarray"),
        (SRF.long(), {}, TypeError, "`srf` must be a floating-point tensor (c, C), got "),
        (SRF[0], {}, ValueError, "`srf` must be of shape (c, C), got shape (3,)"),
        (SRF[:0], {}, ValueError, "`srf` must be of shape (c, C), got shape (0, 3)"),
        (SRF, {"bands": 7}, ValueError, "`srf` must be of 7 columns, one per band of the image, got 3 columns"),
        (spoiled(SRF, torch.nan), {}, ValueError, "`srf` must be finite everywhere, got 1 NaN"),
        (spoiled(SRF, 0.4), {}, ValueError, "`srf` must be a matrix whose rows sum to 1, got a row 1 that sums to 0.9"),
        (SRF * 3, {"name": "ref_srf"}, ValueError, "`ref_srf` must be a matrix whose rows sum to 1, got a row 0 that"),
    ],
)
def test_srf(srf, options, error, text):
    with pytest.raises(error, match=message(text)):
        checks.check_srf(srf, **options)


@pytest.mark.parametrize(
    ("value", "options", "text"),
    [
        (0, {}, "`patch` must be a whole number ≥ 1, got 0"),
        (2.0, {}, "`patch` must be a whole number ≥ 1, got 2.0"),
        (True, {}, "`patch` must be a whole number ≥ 1, got True"),
        ("4", {}, "`patch` must be a whole number ≥ 1, got '4'"),
        (9, {"at_least": 2, "at_most": 8}, "`patch` must be a whole number from 2 to 8, got 9"),
        (1, {"at_least": 2, "at_most": 8}, "`patch` must be a whole number from 2 to 8, got 1"),
    ],
)
def test_count(value, options, text):
    with pytest.raises(ValueError, match=message(text)):
        checks.check_count(value, "patch", **options)


def test_choice():
    with pytest.raises(ValueError, match=message("`similarity` must be one of 'dot', 'zncc', got 'l3'")):
        checks.check_choice("l3", "similarity", ("dot", "zncc"))


def test_fail_takes_another_error():
    with pytest.raises(KeyError, match="`key` must be one of those there, got 'x'"):
        checks.fail("key", "one of those there", "'x'", KeyError)
