"""Hints as checks: every kind of value, what passes as what, and the message of what does not."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import pytest
import torch

from ctmem import checks
from ctmem.checks import Count, Finite, Image, Inside, NotNegative, Positive, Scale, Size, Whole, door, typed
from ctmem.observe.camera import Camera


@typed
def taker(
    whole: int = 1,
    number: float = 1.0,
    truth: bool = True,
    text: str = "a",
    path: str | Path = "a",
    names: Sequence[str] = ("a",),
    pair: tuple[float, float] = (1.0, 2.0),
    places: Sequence[int] = (1,),
    table: Mapping[str, float] | None = None,
    function: Callable[[int], int] | None = None,
    camera: Camera | None = None,
    generator: torch.Generator | None = None,
    device: torch.device | str = "cpu",
    tensor: torch.Tensor | None = None,
    count: Count = 1,
    natural: Whole = 0,
    size: Size = 1,
    scale: Scale = 4,
    positive: Positive = 1.0,
    finite: Finite = 1.0,
    rest: NotNegative = 0.0,
    some: Count | None = None,
    own: Inside[int] = 1,
    image: Image | None = None,
    iterable: Iterable[int] = (),
    **more: object,
):
    return {name: value for name, value in locals().items() if name != "more"} | more


ONE = torch.ones(1, 2, 3, 4)
RIGHT = [
    ("whole", np.int64(4), 4),
    ("whole", torch.tensor(4), 4),
    ("number", 3, 3),
    ("number", np.float32(0.5), 0.5),
    ("number", torch.tensor(0.5), 0.5),
    ("number", float("inf"), float("inf")),
    ("truth", np.False_, False),
    ("text", np.str_("x"), "x"),
    ("path", Path("x"), Path("x")),
    ("names", ["a", "b"], ["a", "b"]),
    ("names", (), ()),
    ("pair", [1, 2], [1, 2]),
    ("pair", np.array([1.0, 2.0]), [1.0, 2.0]),
    ("places", np.array([1, 2]), [1, 2]),
    ("places", range(3), range(3)),
    ("table", {"a": 1}, {"a": 1}),
    ("function", abs, abs),
    ("camera", None, None),
    ("device", torch.device("cpu"), torch.device("cpu")),
    ("count", np.uint8(3), 3),
    ("natural", 0, 0),
    ("some", None, None),
    ("own", "anything", "anything"),
    ("iterable", {1: 2}, {1: 2}),
    ("positive", np.float64(2.0), 2.0),
]
WRONG = [
    ("whole", "1", ValueError, "a whole number, got '1'"),
    ("whole", True, ValueError, "a whole number, got True"),
    ("whole", 1.0, ValueError, "a whole number, got 1.0"),
    ("number", "1", TypeError, "a number, got '1'"),
    ("number", None, TypeError, "a number, got None"),
    ("number", True, TypeError, "a number, got True"),
    ("number", 1j, TypeError, "a number, got complex"),
    ("number", torch.ones(2), TypeError, "a number, got a torch.float32 tensor, shape (2,)"),
    ("number", 10**400, ValueError, "a number that fits a float"),
    ("truth", 1, TypeError, "True or False, got 1"),
    ("truth", "no", TypeError, "True or False, got 'no'"),
    ("text", None, TypeError, "text, got None"),
    ("text", b"x", TypeError, "text, got b'x'"),
    ("path", "", TypeError, "a path, got ''"),
    ("path", b"x", TypeError, "a path, got b'x'"),
    ("path", "a\0b", TypeError, "a path, got 'a\\x00b'"),
    ("path", 1, TypeError, "a path, got 1"),
    ("names", "psnr_db", TypeError, "a list of names, got 'psnr_db'"),
    ("names", (name for name in "ab"), TypeError, "a list of names, got generator"),
    ("names", {"a": 1}, TypeError, "a list of names, got {'a': 1}"),
    ("pair", (1.0,), TypeError, "2 numbers, got (1.0,)"),
    ("pair", 1.0, TypeError, "2 numbers, got 1.0"),
    ("table", [1], TypeError, "a dict, or None, got list"),
    ("function", "f", TypeError, "a function, or None, got str"),
    ("camera", 4, TypeError, "a `Camera`, got int"),
    ("generator", 0, TypeError, "a `torch.Generator`, or None, got int"),
    ("device", "abacus", ValueError, "a device of this machine, such as 'cpu', got 'abacus'"),
    ("tensor", [1.0], TypeError, "a tensor, or None, got list"),
    ("tensor", torch.ones(2, device="meta"), TypeError, "a dense tensor with numbers in memory, got a meta one"),
    ("tensor", torch.ones(2).to_sparse(), TypeError, "a dense tensor with numbers in memory, got a sparse one"),
    ("count", 0, ValueError, "a whole number ≥ 1, got 0"),
    ("count", 2.5, ValueError, "a whole number ≥ 1, got 2.5"),
    ("count", "2", ValueError, "a whole number ≥ 1, got '2'"),
    ("count", 10**9, ValueError, "a whole number of at most 100,000,000, got 1000000000"),
    ("natural", -1, ValueError, "a whole number ≥ 0, got -1"),
    ("size", 10**30, ValueError, "a whole number of at most 65,536, got 1000"),
    ("scale", 0, ValueError, "a whole number ≥ 1, got 0"),
    ("positive", 0, ValueError, "a finite number above 0, got 0"),
    ("positive", float("nan"), ValueError, "a finite number above 0, got nan"),
    ("positive", float("inf"), ValueError, "a finite number above 0, got inf"),
    ("finite", float("-inf"), ValueError, "a finite number, got -inf"),
    ("rest", -0.1, ValueError, "a finite number ≥ 0, got -0.1"),
    ("some", 0, ValueError, "a whole number ≥ 1, got 0"),
    ("image", torch.ones(3, 4), ValueError, "of shape (B, C, H, W), none of them 0, got shape (3, 4)"),
    ("image", ONE * torch.nan, ValueError, "finite everywhere, got 24 NaN"),
    ("iterable", 3, TypeError, "a list, got int"),
]


@pytest.mark.parametrize(("name", "value", "wanted"), RIGHT)
def test_what_fits_goes_in_as_the_function_wants_it(name, value, wanted):
    found = taker(**{name: value})[name]
    assert found == wanted
    if name in ("whole", "number", "truth", "count"):
        assert type(found) is type(wanted)


@pytest.mark.parametrize(("name", "value", "error", "text"), WRONG)
def test_what_does_not_fit_gets_one_clear_error(name, value, error, text):
    with pytest.raises(error, match="^" + re.escape(f"`{name}` must be {text}")):
        taker(**{name: value})


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"names": ["a", 1]}, "`names[1]` must be text, got 1"),
        ({"pair": (1.0, "2")}, "`pair[1]` must be a number, got '2'"),
        ({"table": {"a": "b"}}, "`table['a']` must be a number, got 'b'"),
        ({"table": {1: 1.0}}, "`table` must be a dict whose keys are each text, got the key 1"),
    ],
)
def test_what_is_wrong_inside_is_named_with_its_place(arguments, text):
    with pytest.raises(TypeError, match="^" + re.escape(text)):
        taker(**arguments)


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float64])
def test_half_precision_becomes_single_and_arrays_become_tensors(kind):
    found = taker(image=ONE.to(kind))["image"]
    assert found.dtype == torch.float32 and torch.equal(found, ONE)
    backwards = np.ones((2, 3), ">f4")[:, ::-1]
    assert torch.equal(taker(tensor=backwards)["tensor"], torch.ones(2, 3))
    assert taker(tensor=torch.ones(2, dtype=torch.bfloat16))["tensor"].dtype == torch.float32
    assert taker(tensor=torch.ones(2, dtype=torch.int64))["tensor"].dtype == torch.int64


def test_arguments_by_place_and_beyond_the_named_ones():
    assert taker(np.int32(2), 1)["whole"] == 2
    assert taker(other=np.int64(3))["other"] == 3
    with pytest.raises(TypeError, match="unexpected keyword|multiple values"):
        taker(1, whole=2)


def test_calls_of_the_package_among_itself_are_not_looked_at_again():
    @typed
    def inner(x: int) -> object:
        return x

    @typed
    def outer(x: int) -> object:
        return inner("text"), x

    @door
    def gate(x: int) -> object:
        return inner("text")

    assert outer(1) == ("text", 1) and gate(1) == "text"
    for call in (inner, gate, outer):
        with pytest.raises(ValueError, match="`x` must be a whole number"):
            call("text")
        with pytest.raises(ValueError, match="`x` must be a whole number"):
            call("text")  # an error leaves nothing open


def test_a_dataclass_looks_at_its_fields_and_replaces_numpys_numbers():
    @typed
    @dataclass(frozen=True)
    class Settings:
        steps: Count = 3
        name: str = "a"

    assert type(Settings(np.int64(4)).steps) is int
    with pytest.raises(ValueError, match="`steps` must be a whole number ≥ 1, got 0"):
        Settings(steps=0)
    with pytest.raises(TypeError, match="`name` must be text, got None"):
        Settings(name=None)
    with pytest.raises(TypeError, match="`target` must be a function or a dataclass"):
        typed(object)


def test_hints_that_say_nothing_here_are_left_alone():
    @typed
    def free(a: object, b: "Unknown", c: Annotated[int, "a note"]) -> object:  # noqa: F821, UP037
        return a, b, c

    assert free(1, "2", 3.5) == (1, "2", 3.5)


def test_the_door_leaves_images_to_the_function():
    @door
    def reads(x: torch.Tensor) -> torch.Tensor:
        return checks.as_image(x, "x")

    assert reads(ONE.numpy()).shape == ONE.shape
    with pytest.raises(TypeError, match="`x` must be a floating-point tensor"):
        reads("x")
