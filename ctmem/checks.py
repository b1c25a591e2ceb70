"""Checks of arguments: every bad input gets one error that names the argument, what was expected and what came.

No `ctmem` module is imported here, so any module may call these. They raise before anything is computed or written.
"""

from __future__ import annotations

from collections.abc import Collection

import torch


def fail(name: str, expected: str, got: object, error: type[Exception] = ValueError) -> None:
    """Raises `error` with the one form every message of this package has."""
    raise error(f"`{name}` must be {expected}, got {got}")


def check_finite(x: torch.Tensor, name: str) -> None:
    """Raises if `x` holds NaN or infinite values, and says how many.

    Raises:
        ValueError: at least one value is not finite.
    """
    bad = int((~torch.isfinite(x)).sum())
    if bad:
        fail(name, "finite everywhere", f"{bad} NaN or infinite value(s) of {x.numel()}")


def check_image(
    x: torch.Tensor,
    name: str,
    *,
    bands: int | None = None,
    multiple_of: int | None = None,
    at_least: int | None = None,
    finite: bool = True,
) -> None:
    """Raises unless `x` is a finite float image batch (B, C, H, W) of the wanted bands and size.

    Args:
        x: what the caller was given.
        name: the argument's name, for the message.
        bands: the number of bands C wanted, if one is.
        multiple_of: H and W must be multiples of this (the scale, say).
        at_least: H and W must not be smaller than this (the patch, say), in pixels.
        finite: no value may be NaN or infinite.

    Raises:
        TypeError: `x` is no floating-point tensor.
        ValueError: wrong rank, band count or size, or values that are not finite.
    """
    if not isinstance(x, torch.Tensor) or not x.is_floating_point():
        got = f"a {x.dtype} tensor" if isinstance(x, torch.Tensor) else type(x).__name__
        fail(name, "a floating-point tensor (B, C, H, W)", got, TypeError)
    shape = tuple(x.shape)
    if x.ndim != 4 or 0 in shape:
        fail(name, "of shape (B, C, H, W), none of them 0", f"shape {shape}")
    if bands is not None and shape[1] != bands:
        fail(name, f"of {bands} band(s), shape (B, {bands}, H, W)", f"{shape[1]} band(s), shape {shape}")
    if multiple_of is not None and (shape[2] % multiple_of or shape[3] % multiple_of):
        fail(name, f"of a height and width that are multiples of {multiple_of}", f"{shape[2]}×{shape[3]}")
    if at_least is not None and min(shape[2:]) < at_least:
        fail(name, f"at least {at_least}×{at_least} px", f"{shape[2]}×{shape[3]}")
    if finite:
        check_finite(x, name)


def check_same_shape(pred: torch.Tensor, target: torch.Tensor, names: tuple[str, str] = ("pred", "target")) -> None:
    """Raises unless both tensors have the same shape.

    Raises:
        ValueError: the shapes differ.
    """
    if pred.shape != target.shape:
        fail(names[0], f"of the shape of `{names[1]}` {tuple(target.shape)}", tuple(pred.shape))


def check_srf(srf: torch.Tensor, *, bands: int | None = None, name: str = "srf") -> None:
    """Raises unless `srf` is a spectral response (c, C), finite and with rows that sum to 1.

    Raises:
        TypeError: no floating-point tensor.
        ValueError: wrong rank, wrong number of columns, or a row that does not sum to 1 (tolerance 1e-4).
    """
    if not isinstance(srf, torch.Tensor) or not srf.is_floating_point():
        fail(name, "a floating-point tensor (c, C)", type(srf).__name__, TypeError)
    if srf.ndim != 2 or 0 in srf.shape:
        fail(name, "of shape (c, C)", f"shape {tuple(srf.shape)}")
    if bands is not None and srf.shape[1] != bands:
        fail(name, f"of {bands} columns, one per band of the image", f"{srf.shape[1]} columns")
    check_finite(srf, name)
    sums = srf.sum(1)
    worst = int((sums - 1).abs().argmax())
    if abs(float(sums[worst]) - 1) > 1e-4:
        fail(name, "a matrix whose rows sum to 1", f"a row {worst} that sums to {float(sums[worst]):.4g}")


def check_count(value: int, name: str, *, at_least: int = 1, at_most: int | None = None) -> None:
    """Raises unless `value` is a whole number in [at_least, at_most].

    Raises:
        ValueError: another type, or out of range.
    """
    whole = isinstance(value, int) and not isinstance(value, bool)
    if not whole or value < at_least or (at_most is not None and value > at_most):
        span = f"≥ {at_least}" if at_most is None else f"from {at_least} to {at_most}"
        fail(name, f"a whole number {span}", repr(value))


def check_choice(value: str, name: str, choices: Collection[str]) -> None:
    """Raises unless `value` is one of `choices`, and lists them.

    Raises:
        ValueError: another value.
    """
    if value not in choices:
        fail(name, "one of " + ", ".join(map(repr, choices)), repr(value))
