"""Checks of arguments, and the doors at which they are made.

Every bad input gets one error that names the argument, what was expected and what came, before anything is computed or
written. A public function is a *door* (`@door`): numbers that come in from outside are read through there, for NaN say.
A door inside another one trusts the numbers it is handed and looks at types and shapes alone, which costs nothing; so
an image is read through once, however many functions it passes. The same holds for what a
function of yours calls, a sampler or a callback, while a door of the package has called it.

Images may come as torch tensors or numpy arrays of float16, float32 or float64 (and bfloat16). Whole numbers may be
numpy's. Inside a door torch's global default type and device are float32 and the CPU, and numpy warns of overflow,
whatever a program has set; autocast is off, unless a network is what is called. `usual_state` is for what takes longer:
super-resolving and training.

Of the `ctmem` modules only `kinds` is imported here, so any other may call these.
"""

from __future__ import annotations

import functools
import numbers
import sys
import warnings
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from contextvars import ContextVar
from typing import Annotated, Any, NamedTuple, TypeVar, cast

import numpy as np
import torch

from ctmem.kinds import Bounds as Bounds
from ctmem.kinds import Count as Count
from ctmem.kinds import Finite as Finite
from ctmem.kinds import Inside as Inside
from ctmem.kinds import NotNegative as NotNegative
from ctmem.kinds import Positive as Positive
from ctmem.kinds import Reads as Reads
from ctmem.kinds import Repeats as Repeats
from ctmem.kinds import Scale as Scale
from ctmem.kinds import Size as Size
from ctmem.kinds import Whole as Whole
from ctmem.kinds import Width as Width
from ctmem.kinds import check_in_memory as check_in_memory
from ctmem.kinds import described as described
from ctmem.kinds import entered, reader
from ctmem.kinds import fail as fail
from ctmem.kinds import is_finite_number as is_finite_number
from ctmem.kinds import typed as typed
from ctmem.kinds import unmasked as unmasked

Function = TypeVar("Function", bound=Callable[..., Any])

DOORS: dict[str, Callable[..., Any]] = {}  # dotted name → function
_depth: ContextVar[int] = ContextVar("depth", default=0)  # how many doors were passed: 0 outside, 1 at a door, 2 inside


# --- doors ------------------------------------------------------------------------------------------------------------


def door(function: Function) -> Function:
    """Marks a public function: its arguments are checked when it is called from outside, and trusted otherwise.

    Example:
        >>> @door
        ... def half(x):
        ...     x = as_image(x, "x")
        ...     return x / 2
        >>> half(np.ones((1, 1, 1, 2), np.float16)).dtype
        torch.float32
    """
    read = reader(function, images=True)

    @functools.wraps(function)
    def enter(*args: Any, **kwargs: Any) -> Any:
        depth = _depth.get()
        if depth >= 2:
            return function(*args, **kwargs)
        if not entered.get():
            args, kwargs = read(args, kwargs)
        known = entered.set(True)
        token = _depth.set(depth + 1)
        try:
            if depth == 1:
                return function(*args, **kwargs)
            network = bool(args) and callable(args[0]) and not isinstance(args[0], type)
            with _torch_defaults(autocast=network):
                return function(*args, **kwargs)
        finally:
            _depth.reset(token)
            entered.reset(known)

    DOORS[f"{function.__module__}.{function.__qualname__}"] = enter
    return cast(Function, enter)


def inside() -> bool:
    """Whether a door was passed before this one: what is handed on was checked there."""
    return _depth.get() >= 2


NUMPY_ERRORS: dict[str, Any] = {"divide": "warn", "over": "warn", "under": "ignore", "invalid": "warn"}  # numpy's own


def _torch_defaults(*, autocast: bool = False) -> Any:
    """What a door sets: float32 and the CPU as torch's defaults, numpy's error state, no autocast but for networks."""
    made = torch.empty(0)  # torch 2.4 fails at get_default_device() once a default was taken back
    usual = made.dtype == torch.float32 and made.device.type == "cpu" and np.geterr() == NUMPY_ERRORS
    casting = [] if autocast else [name for name in ("cpu", "cuda") if torch.is_autocast_enabled(name)]
    return nullcontext() if usual and not casting else _usual_defaults(casting)


@contextmanager
def _usual_defaults(casting: list[str]) -> Iterator[None]:
    """The same as a context; afterwards all is as it was. `casting` lists the devices whose autocast is on."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float32)
    try:
        with ExitStack() as stack:
            for context in (torch.device("cpu"), np.errstate(**NUMPY_ERRORS)):
                stack.enter_context(context)
            for device in casting:
                stack.enter_context(torch.autocast(device, enabled=False))
            yield
    finally:
        torch.set_default_dtype(before)


@contextmanager
def usual_state(*, learning: bool = False) -> Iterator[None]:
    """All settings of torch and numpy that change an answer as they are by default, afterwards as they were.

    Besides what a door sets: float32 matrix products in full, and with `learning` gradients, even under `no_grad` and
    `inference_mode`. What changes no more than rounding stays: threads, deterministic algorithms, oneDNN.

    Example:
        >>> with torch.autocast("cpu", torch.bfloat16), usual_state():
        ...     print((torch.ones(1, 1) @ torch.ones(1, 1)).dtype)
        torch.float32
    """
    precision = torch.get_float32_matmul_precision()
    with ExitStack() as stack:
        stack.enter_context(_torch_defaults())
        if learning:
            stack.enter_context(torch.inference_mode(False))
            stack.enter_context(torch.enable_grad())
        if precision != "highest":
            torch.set_float32_matmul_precision("highest")
            stack.callback(torch.set_float32_matmul_precision, precision)
        yield


# --- messages ---------------------------------------------------------------------------------------------------------


@functools.cache
def warn_once(message: str) -> None:
    """Issues a `RuntimeWarning` the first time it is called with a message; it names the line that called ctmem."""
    level = 2
    frame = sys._getframe(1)
    while frame.f_back and frame.f_globals.get("__name__", "").partition(".")[0] in ("ctmem", "torch", "contextlib"):
        frame = frame.f_back
        level += 1
    warnings.warn(message, RuntimeWarning, stacklevel=level)


# --- images -----------------------------------------------------------------------------------------------------------


def as_floats(x: Any, name: str, shape: str, *, double: bool = False) -> torch.Tensor:
    """Returns numbers as a floating-point tensor: float32, or float64 where that came and `double` allows it.

    Args:
        x: a tensor or an array of floats.
        name: the argument's name, for the message.
        shape: what it should look like, for the message: "(B, C, H, W)".
        double: float64 stays float64.

    Raises:
        TypeError: neither a tensor nor an array, or one of whole numbers, truth values or complex numbers.
    """
    if isinstance(x, np.ndarray) and x.dtype.kind == "f" and x.dtype.itemsize <= 8:
        x = unmasked(x)
        x = np.ascontiguousarray(x, dtype=x.dtype.newbyteorder("="))  # files of other machines have the other order
        x = torch.from_numpy(x if x.flags.writeable else x.copy())
    if not isinstance(x, torch.Tensor) or not x.is_floating_point():
        kind = x.dtype if isinstance(x, torch.Tensor | np.ndarray) else None
        got = type(x).__name__ if kind is None else f"a {kind} {'tensor' if isinstance(x, torch.Tensor) else 'array'}"
        fail(name, f"a floating-point tensor {shape}", got, TypeError)
    check_in_memory(x, name)
    if x.is_inference() and not torch.is_inference_mode_enabled():  # nothing that learns may keep such a tensor
        x = x.clone()
    return x if x.dtype == torch.float32 or (double and x.dtype == torch.float64) else x.float()


def has_float64(device: torch.device) -> bool:
    """Whether a device has float64 numbers: Apple's GPUs have none."""
    return device.type != "mps"


def double(x: torch.Tensor) -> torch.Tensor:
    """The numbers in float64, on their device or, where that has no such numbers, on the CPU."""
    return x.double() if has_float64(x.device) else x.cpu().double()


def as_image(
    x: Any,
    name: str,
    *,
    bands: int | None = None,
    multiple_of: int | None = None,
    at_least: int | None = None,
    finite: bool = True,
    single: bool = False,
    double: bool = False,
) -> torch.Tensor:
    """Returns an image batch (B, C, H, W) as a float32 tensor, or raises what is wrong with it.

    Args:
        x: what the caller was given: a tensor or an array of floats.
        name: the argument's name, for the message.
        bands: the number of bands C wanted, if one is.
        multiple_of: H and W must be multiples of this (the scale, say).
        at_least: H and W must not be smaller than this (the patch, say), in pixels.
        finite: no value may be NaN or infinite.
        single: B must be 1.
        double: float64 stays float64, for what is exact in it.

    Raises:
        TypeError: neither a floating-point tensor nor such an array.
        ValueError: wrong rank, band count or size, or values that are not finite.
    """
    x = as_floats(x, name, "(B, C, H, W)", double=double)
    shape = tuple(x.shape)
    if x.ndim != 4 or 0 in shape:
        fail(name, "of shape (B, C, H, W), none of them 0", f"shape {shape}")
    if single and shape[0] != 1:
        fail(name, "one image, shape (1, C, H, W)", f"shape {shape}")
    if bands is not None and shape[1] != bands:
        fail(name, f"of {bands} band(s), shape (B, {bands}, H, W)", f"{shape[1]} band(s), shape {shape}")
    if multiple_of is not None and (shape[2] % multiple_of or shape[3] % multiple_of):
        fail(name, f"of a height and width that are multiples of {multiple_of}", f"{shape[2]}×{shape[3]}")
    if at_least is not None and min(shape[2:]) < at_least:
        fail(name, f"at least {at_least}×{at_least} px", f"{shape[2]}×{shape[3]}")
    if finite:
        check_finite(x, name)
    return x


def _read_image(x: Any, name: str) -> torch.Tensor:
    return as_image(x, name)


def _read_exact(x: Any, name: str) -> torch.Tensor:
    return as_image(x, name, double=True)


def _read_holed(x: Any, name: str) -> torch.Tensor:
    return as_image(x, name, finite=False)


def _axes(form: str) -> int:
    """How many axes a form like "(n, c, P, P)" names."""
    return len([one for one in form.strip("()").split(",") if one.strip()])


class Axes(NamedTuple):
    """How a tensor of floats is read for a function with `@typed`: `Annotated[torch.Tensor, Axes("(n, c, P, P)")]`."""

    form: str
    finite: bool = True
    double: bool = False

    def read(self, x: Any, name: str) -> torch.Tensor:
        """The tensor, finite and with as many axes as the form has names."""
        x = as_floats(x, name, self.form, double=self.double)
        if x.ndim != _axes(self.form) or 0 in x.shape:
            fail(name, f"of shape {self.form}, none of them 0", f"shape {tuple(x.shape)}")
        if self.finite:
            check_finite(x, name)
        return x


class Array(NamedTuple):
    """How an array of real numbers is read: `Annotated[np.ndarray, Array("(H, W)")]`; NaN may stand there."""

    form: str

    def read(self, x: Any, name: str) -> np.ndarray:
        """The array itself, with as many axes as the form has names."""
        if not isinstance(x, np.ndarray) or x.dtype.kind not in "biuf":
            fail(name, f"an array of real numbers {self.form}", described(x), TypeError)
        if (self.form != "(…)" and x.ndim != _axes(self.form)) or 0 in x.shape:
            fail(name, f"of shape {self.form}, none of them 0", f"shape {x.shape}")
        return x


Image = Annotated[torch.Tensor, Reads(_read_image)]  # (B, C, H, W), for a function with `@typed`
ExactImage = Annotated[torch.Tensor, Reads(_read_exact)]  # the same; float64 stays
HoledImage = Annotated[torch.Tensor, Reads(_read_holed)]  # NaN may stand there


def as_vector(values: Any, name: str, expected: str) -> np.ndarray:
    """Returns a list, array or tensor of real numbers as a float64 vector.

    Args:
        values: what the caller was given.
        name: the argument's name, for the message.
        expected: what it should be, for the message.

    Raises:
        ValueError: no numbers, or more than one axis.
    """
    try:
        found = np.asarray(values)
    except (RuntimeError, TypeError, ValueError):
        fail(name, expected, type(values).__name__)
    if found.dtype.kind not in "iuf" or isinstance(values, np.ma.MaskedArray):
        fail(name, expected, described(values))
    if found.ndim != 1:
        fail(name, expected, f"shape {found.shape}")
    return found.astype(np.float64)


def check_finite(x: torch.Tensor, name: str) -> None:
    """Raises if `x` holds NaN or infinite values, and says how many.

    Raises:
        ValueError: at least one value is not finite.
    """
    if inside() or bool(torch.isfinite(torch.stack(x.detach().aminmax())).all()):  # no memory, and quick
        return
    bad = int((~torch.isfinite(x)).sum())
    fail(name, "finite everywhere", f"{bad} NaN or infinite value(s) of {x.numel()}")


def check_same_shape(pred: torch.Tensor, target: torch.Tensor, names: tuple[str, str] = ("pred", "target")) -> None:
    """Raises unless both tensors have the same shape.

    Raises:
        ValueError: the shapes differ.
    """
    if pred.shape != target.shape:
        fail(names[0], f"of the shape of `{names[1]}` {tuple(target.shape)}", tuple(pred.shape))


def as_srf(srf: Any, *, bands: int | None = None, name: str = "srf") -> torch.Tensor:
    """Returns a spectral response (c, C) as a tensor of floats, finite and with rows that sum to 1.

    Raises:
        TypeError: neither a floating-point tensor nor such an array.
        ValueError: wrong rank, wrong number of columns, or a row that does not sum to 1 (tolerance 1e-4).
    """
    srf = as_floats(srf, name, "(c, C)", double=True)
    if srf.ndim != 2 or 0 in srf.shape:
        fail(name, "of shape (c, C)", f"shape {tuple(srf.shape)}")
    if bands is not None and srf.shape[1] != bands:
        fail(name, f"of {bands} columns, one per band of the image", f"{srf.shape[1]} columns")
    if inside():
        return srf
    check_finite(srf, name)
    sums = srf.sum(1)
    worst = int((sums - 1).abs().argmax())
    if abs(float(sums[worst]) - 1) > 1e-4:
        fail(name, "a matrix whose rows sum to 1", f"a row {worst} that sums to {float(sums[worst]):.6g}")
    return srf


def as_psf(psf: Any, *, scale: int | None = None, name: str = "psf") -> torch.Tensor:
    """Returns a point spread function (k, k) as a tensor of floats, finite and of sum 1.

    Args:
        psf: a tensor or an array.
        scale: the decimation that follows: k must be even for an even one and odd for an odd one.
        name: the argument's name, for the message.

    Raises:
        TypeError: neither a floating-point tensor nor such an array.
        ValueError: not square, not finite, a sum other than 1 (tolerance 1e-4), or a size of the other parity.
    """
    psf = as_floats(psf, name, "(k, k)", double=True)
    if psf.ndim != 2 or psf.shape[0] != psf.shape[1] or psf.numel() == 0:
        fail(name, "of shape (k, k)", f"shape {tuple(psf.shape)}")
    if scale is not None and (psf.shape[-1] - scale) % 2:
        fail(name, f"of {'odd' if scale % 2 else 'even'} size, as `scale` {scale} is", f"size {psf.shape[-1]}")
    if inside():
        return psf
    check_finite(psf, name)
    if abs(float(psf.detach().sum()) - 1) > 1e-4:
        fail(name, "a kernel that sums to 1", f"a sum of {float(psf.detach().sum()):.6g}")
    return psf


# --- numbers and names ------------------------------------------------------------------------------------------------


def check_count(value: int, name: str, *, at_least: int = 1, at_most: int | None = None) -> None:
    """Raises unless `value` is a whole number in [at_least, at_most]; numpy's whole numbers are.

    Raises:
        ValueError: another type, or out of range.
    """
    whole = isinstance(value, numbers.Integral) and not isinstance(value, bool)
    if not whole or value < at_least or (at_most is not None and value > at_most):
        span = f"≥ {at_least}" if at_most is None else f"from {at_least} to {at_most}"
        fail(name, f"a whole number {span}", repr(value))


def check_places(places: Iterable[int], name: str, count: int) -> None:
    """Raises unless `places` are whole numbers from 0 to `count` − 1, at least one of them.

    Raises:
        ValueError: none, another type, or one out of range.
    """
    listed = list(places)
    if not listed:
        fail(name, f"at least one number from 0 to {count - 1}", "none")
    for number, place in enumerate(listed):
        check_count(place, f"{name}[{number}]", at_least=0, at_most=count - 1)


def check_choice(value: str, name: str, choices: Collection[str]) -> None:
    """Raises unless `value` is one of `choices`, and lists them.

    Raises:
        ValueError: another value.
    """
    if value not in list(choices):
        fail(name, "one of " + ", ".join(map(repr, choices)), repr(value))
