"""Each check: what passes, and the message of what does not."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch
from torch.overrides import TorchFunctionMode

from ctmem import checks

IMAGE = torch.rand(2, 7, 12, 20, generator=torch.Generator().manual_seed(0))
SRF = torch.tensor([[0.25, 0.75, 0.0], [0.0, 0.5, 0.5]])
PSF = torch.full((4, 4), 1 / 16)


def spoiled(x: torch.Tensor, value: float) -> torch.Tensor:
    copy = x.clone()
    copy[-1, -1] = value
    return copy


def message(text: str) -> str:
    return "^" + re.escape(text)


def test_what_is_right_passes():
    assert checks.as_image(IMAGE, "x") is IMAGE
    assert checks.as_image(IMAGE, "x", bands=7, multiple_of=4, at_least=12) is IMAGE
    assert checks.as_image(IMAGE[:1], "x", single=True).shape == (1, 7, 12, 20)
    holed = spoiled(IMAGE, torch.nan)
    assert checks.as_image(holed, "x", bands=7, finite=False) is holed
    checks.check_finite(IMAGE, "x")
    checks.check_same_shape(IMAGE, IMAGE + 1)
    assert checks.as_srf(SRF) is SRF
    assert checks.as_srf(SRF, bands=3) is SRF
    checks.as_srf(SRF + 5e-5 / 3)  # within the tolerance of 1e-4
    assert checks.as_psf(PSF) is PSF
    assert checks.as_psf(PSF, scale=2) is PSF
    checks.as_psf(PSF + 5e-5 / 16)
    checks.check_count(1, "n")
    checks.check_count(0, "n", at_least=0, at_most=0)
    checks.check_count(np.int64(3), "n")
    checks.check_count(np.uint8(3), "n", at_most=3)
    checks.check_choice("dot", "similarity", ("dot", "cosine"))


@pytest.mark.parametrize(
    ("image", "options", "error", "text"),
    [
        (IMAGE.tolist(), {}, TypeError, "`lr_hsi` must be a floating-point tensor (B, C, H, W), got list"),
        (None, {}, TypeError, "`lr_hsi` must be a floating-point tensor (B, C, H, W), got NoneType"),
        (
            (255 * IMAGE).numpy().astype(np.uint8),
            {},
            TypeError,
            "`lr_hsi` must be a floating-point tensor (B, C, H, W), got a uint8 array",
        ),
        (
            IMAGE.numpy().astype(np.longdouble),
            {},
            TypeError,
            f"`lr_hsi` must be a floating-point tensor (B, C, H, W), got a {np.dtype(np.longdouble)} array",
        ),
        (
            IMAGE.numpy() + 1j,
            {},
            TypeError,
            "`lr_hsi` must be a floating-point tensor (B, C, H, W), got a complex64 array",
        ),
        (
            IMAGE > 0.5,
            {},
            TypeError,
            "`lr_hsi` must be a floating-point tensor (B, C, H, W), got a torch.bool tensor",
        ),
        (
            IMAGE.to(torch.complex64),
            {},
            TypeError,
            "`lr_hsi` must be a floating-point tensor (B, C, H, W), got a torch.complex64 tensor",
        ),
        (IMAGE, {"single": True}, ValueError, "`lr_hsi` must be one image, shape (1, C, H, W), got shape (2, 7,"),
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
        checks.as_image(image, "lr_hsi", **options)


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
        (SRF.tolist(), {}, TypeError, "`srf` must be a floating-point tensor (c, C), got list"),
        (SRF.numpy() > 0, {}, TypeError, "`srf` must be a floating-point tensor (c, C), got a bool array"),
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
        checks.as_srf(srf, **options)


@pytest.mark.parametrize(
    ("psf", "options", "error", "text"),
    [
        (PSF.tolist(), {}, TypeError, "`psf` must be a floating-point tensor (k, k), got list"),
        (PSF.long(), {}, TypeError, "`psf` must be a floating-point tensor (k, k), got a torch.int64 tensor"),
        (PSF[0], {}, ValueError, "`psf` must be of shape (k, k), got shape (4,)"),
        (PSF[:3], {}, ValueError, "`psf` must be of shape (k, k), got shape (3, 4)"),
        (PSF[:0, :0], {}, ValueError, "`psf` must be of shape (k, k), got shape (0, 0)"),
        (PSF, {"scale": 3}, ValueError, "`psf` must be of odd size, as `scale` 3 is, got size 4"),
        (PSF[1:, 1:], {"scale": 2}, ValueError, "`psf` must be of even size, as `scale` 2 is, got size 3"),
        (spoiled(PSF, torch.nan), {}, ValueError, "`psf` must be finite everywhere, got 1 NaN"),
        (2 * PSF, {"name": "kernel"}, ValueError, "`kernel` must be a kernel that sums to 1, got a sum of 2"),
    ],
)
def test_psf(psf, options, error, text):
    with pytest.raises(error, match=message(text)):
        checks.as_psf(psf, **options)


@pytest.mark.parametrize("read", [checks.as_image, checks.as_srf, checks.as_psf])
def test_floats_of_any_precision_come_out_in_single_or_are_kept_in_double(read):
    x = {checks.as_image: IMAGE, checks.as_srf: SRF, checks.as_psf: PSF}[read]
    for kind in (torch.float16, torch.bfloat16, torch.float32, torch.float64):
        found = read(x.to(kind), "x") if read is checks.as_image else read(x.to(kind))
        keeps = kind == torch.float64 and read is not checks.as_image
        assert found.dtype == (torch.float64 if keeps else torch.float32)
        assert torch.equal(found.double(), x.to(kind).double())
    assert checks.as_image(IMAGE.double(), "x", double=True).dtype == torch.float64


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64])
def test_arrays_come_out_as_tensors_whatever_their_layout(kind):
    array = IMAGE.numpy().astype(kind)
    frozen, backwards = array.copy(), np.ascontiguousarray(array[..., ::-1])[..., ::-1]
    frozen.flags.writeable = False
    for one in (array, np.asfortranarray(array), frozen, backwards, array.astype(array.dtype.newbyteorder())):
        found = checks.as_image(one, "x")
        assert found.dtype == torch.float32 and torch.equal(found, torch.from_numpy(array).float())
    before = frozen.copy()
    checks.as_image(frozen, "x").mul_(2)
    assert np.array_equal(frozen, before)


@pytest.mark.parametrize(
    ("value", "options", "text"),
    [
        (0, {}, "`patch` must be a whole number ≥ 1, got 0"),
        (2.0, {}, "`patch` must be a whole number ≥ 1, got 2.0"),
        (True, {}, "`patch` must be a whole number ≥ 1, got True"),
        (np.float32(4), {}, "`patch` must be a whole number ≥ 1, got np.float32(4.0)"),
        (np.bool_(True), {}, "`patch` must be a whole number ≥ 1, got np.True_"),
        (np.int64(0), {}, "`patch` must be a whole number ≥ 1, got np.int64(0)"),
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


# --- doors ---


class Scans(TorchFunctionMode):
    """Shapes of the tensors that are read through for NaN, in order."""

    def __init__(self):
        super().__init__()
        self.shapes = []

    def __torch_function__(self, function, types, args=(), kwargs=None):
        if function.__name__ in ("isfinite", "isnan", "aminmax") and args[0].ndim == 4:
            self.shapes.append(tuple(args[0].shape))
        return function(*args, **(kwargs or {}))


@checks.door
def inner(x, times=1):
    x = checks.as_image(x, "x", bands=7)
    return times * x


@checks.door
def outer(x, times=1):
    return inner(checks.as_image(x, "x"), times)


@checks.door
def outermost(x):
    return outer(x)  # a door that reads nothing through: what lies inside trusts it


def test_values_are_read_through_at_the_outermost_door_only():
    with Scans() as scans:
        outer(IMAGE)
        assert scans.shapes == [(2, 7, 12, 20)]
        inner(IMAGE)
        assert len(scans.shapes) == 2
        found = outermost(spoiled(IMAGE, torch.nan))  # why a function that only hands on must not be a door
        assert len(scans.shapes) == 2
    assert torch.isnan(found).any()


def test_types_and_shapes_are_looked_at_behind_every_door():
    with pytest.raises(ValueError, match=message("`x` must be of 7 band(s)")):
        outer(IMAGE[:, :6])
    with pytest.raises(TypeError, match=message("`x` must be a floating-point tensor")):
        outermost(IMAGE.int())


def test_an_error_leaves_no_door_open():
    for bad in (IMAGE.int(), IMAGE[:, :6], spoiled(IMAGE, torch.nan)):
        for _ in range(3):
            with pytest.raises((TypeError, ValueError)):
                outer(bad)
    assert not checks.inside()
    with pytest.raises(ValueError, match=message("`x` must be finite everywhere")):
        inner(spoiled(IMAGE, torch.nan))


def test_doors_are_listed_by_name_and_keep_their_own():
    assert checks.DOORS[f"{__name__}.inner"] is inner
    assert inner.__name__ == "inner"


def test_whole_numbers_of_numpy_become_pythons_at_a_door():
    @checks.door
    def kind(*args, **kwargs):
        return [type(value) for value in (*args, *kwargs.values())]

    assert kind(np.int64(3), np.uint8(2), x=np.int32(1), y=2.5) == [int, int, int, float]


def test_inside_a_door_torchs_defaults_are_the_usual_ones_and_outside_they_stay():
    @checks.door
    def made():
        return torch.ones(1)

    try:
        torch.set_default_dtype(torch.float64)
        torch.set_default_device("meta")
        assert (made().dtype, made().device.type) == (torch.float32, "cpu")
        outside = torch.ones(1)
        assert (outside.dtype, outside.device.type) == (torch.float64, "meta")
    finally:
        torch.set_default_dtype(torch.float32)
        torch.set_default_device("cpu")
    assert (made().dtype, made().device.type) == (torch.float32, "cpu")


def test_defaults_are_put_back_after_an_error():
    try:
        torch.set_default_dtype(torch.float64)
        with pytest.raises(TypeError):
            inner(IMAGE.int())
        assert torch.get_default_dtype() == torch.float64
    finally:
        torch.set_default_dtype(torch.float32)
