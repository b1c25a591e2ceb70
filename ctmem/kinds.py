"""Kinds of arguments: what a type hint says of a value, read once and looked at wherever the package is entered.

    @typed
    def windows(height: Count, patch: Count, path: str | Path, names: Sequence[str]) -> ...

A call from outside is checked by the function's own hints, before anything is computed: numbers are numbers (and
numpy's become Python's), text is text, a name is no list of names, a path is a path, a `Camera` is a camera. Bounds of
numbers may stand in the hint, too: `Count`, `Positive` and the like. `@door` (`ctmem.checks`) does the same and reads
images besides; `@typed` reads tensors that are no images. Calls of the package among itself are not looked at again.

No `ctmem` module is imported here.
"""

from __future__ import annotations

import functools
import inspect
import math
import os
import sys
import types
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, is_dataclass
from numbers import Integral, Real
from pathlib import Path
from types import SimpleNamespace
from typing import Annotated, Any, NoReturn, TypeVar, cast

import numpy as np
import torch

Target = TypeVar("Target", bound=Callable[..., Any])
Value = TypeVar("Value")
Arguments = tuple[Any, ...]
Options = dict[str, Any]
Reader = Callable[[Arguments, Options], tuple[Arguments, Options]]
NUMBERS = "iuf"  # of numpy's kinds
CALLED = {
    "Generator": "a `torch.Generator`",
    "Model": "a model, as `load_model` returns it",
    "Recording": "a recording, as `record` returns it",
    "ndarray": "an array",
    "Module": "a network",
}  # classes that have a better name than their own
entered: ContextVar[bool] = ContextVar("entered", default=False)  # the caller's arguments were looked at


def fail(name: str, expected: str, got: object, error: type[Exception] = ValueError) -> NoReturn:
    """Raises `error` with the one form every message of this package has."""
    raise error(f"`{name}` must be {expected}, got {got}")


# --- bounds -----------------------------------------------------------------------------------------------------------


class Bounds(typing.NamedTuple):
    """What a number must keep to: `Annotated[int, Bounds(1)]`; both ends belong to it unless `above` is stated."""

    least: float | None = None
    most: float | None = None
    above: float | None = None  # finite, and larger than this

    def text(self, value: Any, kind: str) -> str:
        """What was expected, in words; a `most` beyond what anybody wants is named where it was passed alone."""
        if self.above is not None:
            return f"a finite number above {self.above:g}"
        if self.most == sys.float_info.max:
            return "a finite number" if self.least else "a finite number ≥ 0"
        if self.most is None or (self.most >= WIDE and not (_is_number(value) and value > self.most)):
            return kind if self.least is None else f"{kind} ≥ {self.least:g}"
        return f"{kind} of at most {self.most:,}" if self.most >= WIDE else f"{kind} from {self.least} to {self.most}"

    def holds(self, value: Any) -> bool:
        """Whether a number keeps to it; NaN keeps to nothing."""
        if self.above is not None:
            return bool(value > self.above and math.isfinite(value))
        return bool((self.least is None or value >= self.least) and (self.most is None or value <= self.most))


class Reads(typing.NamedTuple):
    """How a value is read: `Annotated[torch.Tensor, Reads(as_image)]`; None: the function itself looks at it."""

    read: Callable[[Any, str], Any] | None


WIDE = 1000  # bounds that wide are there for the machine's sake: a message names the one that was passed
Whole = Annotated[int, Bounds(0)]
Count = Annotated[int, Bounds(1, 10**8)]
Size = Annotated[int, Bounds(1, 2**16)]  # of what memory is asked for
Width = Annotated[int, Bounds(1, 4096)]  # channels of a network
Repeats = Annotated[int, Bounds(0, 1024)]
Scale = Annotated[int, Bounds(1, 1024)]
Positive = Annotated[float, Bounds(above=0)]
Finite = Annotated[float, Bounds(-sys.float_info.max, sys.float_info.max)]
NotNegative = Annotated[float, Bounds(0, sys.float_info.max)]
Inside = Annotated[Value, Reads(None)]  # what it must be is said, and looked at, by the function itself


# --- kinds ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Kind:
    """One kind of value: what it is called, how it is known at first sight, and how it is read.

    Args:
        expected: in words, for the message.
        fits: whether a value looks like one.
        read: (value, the argument's name) → the value as the function wants it; raises where it is wrong inside.
        shows: the message has the value itself, not its type's name.
        error: of the message.
    """

    expected: str
    fits: Callable[[Any], bool]
    read: Callable[[Any, str], Any] = lambda value, name: value
    shows: bool = False
    error: type[Exception] = TypeError
    bounds: Bounds | None = None

    def __call__(self, value: Any, name: str) -> Any:
        """The value as the function wants it, or one clear error."""
        if not self.fits(value):
            expected = self.expected if self.bounds is None else self.bounds.text(value, self.expected)
            fail(name, expected, described(value, shows=self.shows), self.error)
        return self.read(value, name)


def described(value: Any, *, shows: bool = True) -> str:
    """A value in a message: itself where it is short and plain, otherwise what it is."""
    if shows and isinstance(value, torch.Tensor | np.ndarray):
        form = "tensor" if isinstance(value, torch.Tensor) else "array"
        return f"a {value.dtype} {form}, shape {tuple(value.shape)}"
    if shows and (value is None or isinstance(value, str | bytes | Real | np.generic | list | tuple | dict)):
        text = repr(value)
        return text if len(text) <= 80 else text[:77] + "…"
    return type(value).__name__


def _alone(value: Any) -> Any:
    """The number that a tensor or array of one element holds, as the metric of one image; anything else as it is."""
    if isinstance(value, torch.Tensor):
        return value.item() if value.numel() == 1 and not value.is_meta else value
    return value.item() if isinstance(value, np.ndarray) and value.size == 1 and value.dtype.kind != "O" else value


def _is_whole(value: Any) -> bool:
    value = _alone(value)
    return isinstance(value, Integral) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    value = _alone(value)
    return isinstance(value, Real) and not isinstance(value, bool | np.bool_)


def _number(kind: type, bounds: Bounds | None) -> Kind:
    """Whole numbers or real ones, with bounds."""
    text, fits = ("a whole number", _is_whole) if kind is int else ("a number", _is_number)

    def read(value: Any, name: str) -> Any:
        plain = _alone(value)
        if type(plain) not in (int, float):
            plain = int(plain) if kind is int else float(plain)
        if kind is float and abs(plain) > 1e300 and not isinstance(plain, float):
            fail(name, "a number that fits a float", "a larger one")
        if kind is float and abs(plain) >= 2**53:
            plain = float(plain)
        if bounds is not None and not bounds.holds(plain):
            fail(name, bounds.text(plain, text), described(value))
        if kind is int and not -(2**63) <= plain < 2**63:  # neither torch nor numpy can take it
            fail(name, "a whole number that fits 64 bits", described(value))
        return plain

    return Kind(text, fits, read, shows=True, error=ValueError if kind is int else TypeError, bounds=bounds)


def is_finite_number(value: Any) -> bool:
    """Whether a value is a real number, no truth value, and finite."""
    return _is_number(value) and math.isfinite(value)


def _is_path(value: Any) -> bool:
    if isinstance(value, os.PathLike):
        value = os.fspath(value)
    return isinstance(value, str) and value != "" and "\0" not in value


def unmasked(array: np.ndarray) -> np.ndarray:
    """An array with NaN under its mask, if it is one of `numpy.ma`; whole numbers are then float32."""
    if not isinstance(array, np.ma.MaskedArray):
        return array
    return np.ma.filled(array if array.dtype.kind == "f" else array.astype(np.float32), np.nan)


def _tensor(value: Any, name: str) -> torch.Tensor:
    """A tensor with numbers in memory: arrays become one, half precision becomes single."""
    if isinstance(value, np.ndarray):
        value = unmasked(value)
        value = np.ascontiguousarray(value, dtype=value.dtype.newbyteorder("="))
        value = torch.from_numpy(value if value.flags.writeable else value.copy())
    check_in_memory(value, name)
    return value.float() if value.dtype in (torch.float16, torch.bfloat16) else value


def check_in_memory(x: torch.Tensor, name: str) -> None:
    """Raises unless a tensor has plain numbers, all of them in memory.

    Raises:
        TypeError: a sparse, quantised or meta tensor.
    """
    if x.layout != torch.strided or x.is_quantized or x.is_meta:
        kind = "quantised" if x.is_quantized else "meta" if x.is_meta else "sparse"
        fail(name, "a dense tensor with numbers in memory", f"a {kind} one", TypeError)


def _device(value: Any, name: str) -> Any:
    try:
        torch.empty(0, device=value)
    except (RuntimeError, TypeError, ValueError, AssertionError):
        fail(name, "a device of this machine, such as 'cpu'", repr(value))
    return value


def _is_list(value: Any) -> bool:
    if isinstance(value, np.ndarray | torch.Tensor):
        return value.ndim > 0
    known = hasattr(value, "__len__") and hasattr(value, "__getitem__")  # a data set is one, too
    return known and not isinstance(value, str | bytes | bytearray | Mapping)


PLURALS = {"text": "names", "a whole number": "whole numbers", "a number": "numbers"}


def _list(items: Sequence[Kind | None], *, fixed: bool) -> Kind:
    """A list or tuple, of a length or of any, its items by their kinds."""
    first = items[0] if items else None
    what = "" if first is None else " of " + PLURALS.get(first.expected, first.expected.removeprefix("a "))
    text = f"{len(items)} values" if fixed else f"a list{what}"
    if fixed and first is not None and first.expected in PLURALS:
        text = f"{len(items)} {PLURALS[first.expected]}"

    def fits(value: Any) -> bool:
        return _is_list(value) and (not fixed or len(value) == len(items))

    def read(value: Any, name: str) -> Any:
        kinds = items if fixed else [first] * len(value)
        if isinstance(value, np.ndarray | torch.Tensor):
            value = value.tolist() if value.ndim == 1 and first is not None and first.shows else value
        if isinstance(value, list | tuple):
            for place, (kind, item) in enumerate(zip(kinds, value)):
                if kind is not None:
                    kind(item, f"{name}[{place}]")
        return value

    return Kind(text, fits, read, shows=True)


def _mapping(keys: Kind | None, values: Kind | None) -> Kind:
    """A dict, its keys and values by their kinds."""

    def read(value: Any, name: str) -> Any:
        for key, item in value.items():
            if keys is not None and not keys.fits(key):
                fail(name, f"a dict whose keys are each {keys.expected}", f"the key {key!r}", TypeError)
            if values is not None:
                values(item, f"{name}[{key!r}]")
        return value

    return Kind("a dict", lambda value: isinstance(value, Mapping), read)


def _class(kind: type) -> Kind | None:
    """An object of a class; None where anything goes."""
    if getattr(kind, "_is_protocol", False):
        named = [one for one in {**inspect.get_annotations(kind), **vars(kind)} if not one.startswith("_")]
        text = f"an object with {', '.join(named)}"
        return Kind(text, lambda value: all(hasattr(value, one) for one in named)) if named else None
    if kind in (object, Any):
        return None
    return Kind(CALLED.get(kind.__name__, f"a `{kind.__name__}`"), lambda value: isinstance(value, kind))


PLAIN: dict[Any, Kind] = {
    int: _number(int, None),
    float: _number(float, None),
    bool: Kind("True or False", lambda value: isinstance(value, bool | np.bool_), lambda v, n: bool(v), shows=True),
    str: Kind("text", lambda value: isinstance(value, str), shows=True),
    type(None): Kind("None", lambda value: value is None),
}
PATH = Kind("a path", _is_path, shows=True)
DEVICE = Kind("a device", lambda value: isinstance(value, str | torch.device), _device, shows=True)
FUNCTION = Kind("a function", callable)
TENSOR = Kind(
    "a tensor",
    lambda value: isinstance(value, torch.Tensor) or (isinstance(value, np.ndarray) and value.dtype.kind in "biufc"),
    _tensor,
)


def kind_of(hint: Any, *, images: bool = False) -> Kind | None:
    """What a type hint says of a value; None where it says nothing that can be looked at.

    Args:
        hint: resolved, not a string.
        images: tensors and arrays are read by the function itself (`as_image`): not looked at here.
    """
    origin, parts = typing.get_origin(hint), typing.get_args(hint)
    if origin is Annotated:
        if isinstance(parts[1], Bounds):
            return _number(parts[0], parts[1])
        read = getattr(parts[1], "read", None)
        return None if read is None else Kind("", lambda _: True, read)
    if origin in (typing.Union, types.UnionType):
        return _any_of(parts, images=images)
    if hint in PLAIN:
        return PLAIN[hint]
    if hint is Path:
        return PATH
    if hint in (torch.Tensor, np.ndarray):
        return None if images else TENSOR if hint is torch.Tensor else _class(hint)
    if origin is Callable or hint is Callable:
        return FUNCTION
    if origin is tuple and not (len(parts) == 2 and parts[1] is Ellipsis):
        return _list([kind_of(part, images=images) for part in parts], fixed=True)
    if origin in (list, tuple, Sequence):
        return _list([kind_of(parts[0], images=images)], fixed=False)
    if origin in (dict, Mapping):
        return _mapping(*(kind_of(part, images=images) for part in parts))
    if origin is Iterable:
        return Kind("a list", lambda value: isinstance(value, Iterable) and not isinstance(value, str | bytes))
    return _class(hint) if inspect.isclass(hint) and origin is None else None


def _any_of(parts: Sequence[Any], *, images: bool) -> Kind | None:
    """A value of one of several kinds."""
    if Path in parts:
        kinds: list[Kind | None] = [PATH, *(kind_of(part, images=images) for part in parts if part not in (Path, str))]
    elif torch.device in parts:
        kinds = [DEVICE, *(PLAIN[part] for part in parts if part is type(None))]
    else:
        kinds = [kind_of(part, images=images) for part in parts]
    known = [kind for kind in kinds if kind is not None]
    if len(known) < len(kinds):
        return None
    known.sort(key=lambda kind: kind.expected != "None")  # None is none of what an `Annotated` reads

    def read(value: Any, name: str) -> Any:
        return next(kind for kind in known if kind.fits(value))(value, name)

    main = [kind for kind in known if kind.expected != "None"]
    bounds = main[0].bounds if len(main) == 1 else None
    named = len(main) == 1 and main[0].expected.startswith("a `") and not main[0].expected.startswith("a `torch")
    last = ", or None" if len(main) < len(known) and not named else ""
    if bounds is not None:
        return Kind(main[0].expected, lambda v: any(k.fits(v) for k in known), read, True, main[0].error, bounds)
    text = " or ".join(kind.expected for kind in main) + last
    shows = any(kind.shows for kind in main)
    return Kind(text, lambda v: any(kind.fits(v) for kind in known), read, shows, main[0].error)


# --- at the door ------------------------------------------------------------------------------------------------------


def reader(
    function: Callable[..., Any], *, images: bool = False
) -> Callable[[Arguments, Options], tuple[Arguments, Options]]:
    """A function that reads the arguments of `function` by its hints: (args, kwargs) → (args, kwargs)."""

    @functools.cache
    def kinds() -> tuple[list[str], dict[str, Kind]]:
        own = inspect.signature(function).parameters.values()
        names = [one.name for one in own if one.kind not in (one.VAR_POSITIONAL, one.VAR_KEYWORD)]
        found = {name: kind_of(hint, images=images) for name, hint in _hints(function).items() if name in names}
        return names, {name: kind for name, kind in found.items() if kind is not None}

    def read(args: Arguments, kwargs: Options) -> tuple[Arguments, Options]:
        names, known = kinds()
        given = [known[name](value, name) if name in known else _plain(value) for name, value in zip(names, args)]
        options = {name: known[name](v, name) if name in known else _plain(v) for name, v in kwargs.items()}
        return (*given, *map(_plain, args[len(given) :])), options

    return read


def _plain(value: Any) -> Any:
    """A whole number of numpy's as Python's; anything else as it is."""
    return int(value) if isinstance(value, np.integer) else value


def _hints(function: Callable[..., Any]) -> dict[str, Any]:
    """The hints of a function; one that names what is imported for a type checker alone is left out."""
    inner = inspect.unwrap(function)
    names = getattr(inner, "__globals__", {})
    found: dict[str, Any] = {}
    for name, hint in getattr(inner, "__annotations__", {}).items():
        try:
            one = SimpleNamespace(__annotations__={name: hint})
            found |= typing.get_type_hints(one, globalns=names, include_extras=True)
        except NameError:
            continue
    return found


def typed(target: Target) -> Target:
    """Marks a function, or a dataclass, whose arguments are looked at by their hints when it is called from outside.

    Raises:
        TypeError: a class that is not a dataclass.

    Example:
        >>> @typed
        ... def half(x: Positive) -> float:
        ...     return x / 2
        >>> half(np.float32(3.0))
        1.5
        >>> half("3")
        Traceback (most recent call last):
            ...
        TypeError: `x` must be a finite number above 0, got '3'
    """
    if inspect.isclass(target):
        if not is_dataclass(target):
            fail("target", "a function or a dataclass", target.__name__, TypeError)
        setattr(target, "__init__", typed(target.__init__))  # noqa: B010  (mypy knows of no such assignment)
        return target
    read = reader(target)

    @functools.wraps(target)
    def enter(*args: Any, **kwargs: Any) -> Any:
        if entered.get():
            return target(*args, **kwargs)
        args, kwargs = read(args, kwargs)
        token = entered.set(True)
        try:
            return target(*args, **kwargs)
        finally:
            entered.reset(token)

    return cast(Target, enter)
