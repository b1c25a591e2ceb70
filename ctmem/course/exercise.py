"""What an exercise is, and what is said of an answer.

An exercise knows the right answer and the usual wrong ones, each with the hint that it calls for. Where the answer is a
function, so are the wrong ones: all are run on the same inputs, of which there are at least two, so that a constant
does not pass. Right is what agrees to three digits. Mistakes come first: an answer that agrees closely with one of them
is that mistake.

Source: this project.
"""

from __future__ import annotations

import dis
import importlib
import json
import math
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ctmem.checks import fail, typed
from ctmem.teaching import results_folder

RIGHT, NOT_YET, OPEN = "right", "not yet", "not tried yet"
CLOSE = 1e-6  # relative: a mistake is known by all its digits
ALIKE = 1e-3  # relative to the largest number: what functions return
FILE = "exercises.json"  # in the folder of results: what was tried, and how it went
NOTEBOOKS = ("00", "01", "02", "03", "04", "05", "06", "07", "08", "09", "10")
Function = Callable[..., Any]


class Mistake(Exception):
    """Raised by a `judge` with the hint for what is wrong."""


@dataclass(frozen=True, eq=False)
class Exercise:
    """One exercise: a number or several, or a function.

    Args:
        wants: what the answer is, as the message calls it: "a number", "a function of (q, k)".
        right: the right answer: a number, a tuple of numbers, or a function.
        mistakes: hint → the wrong answer that shows it, of the same kind as `right`, or a tuple of such answers.
        inputs: the arguments of a function, one tuple for each case; at least two.
        judge: raises `Mistake` where an answer is wrong; in place of `right` where many answers are.
        near: absolute difference that is still right, beside three digits.
        digits: of a number, that must be right.
        hint: what is said where no mistake is known.
    """

    wants: str
    right: Any = None
    mistakes: Mapping[str, Any] = field(default_factory=dict)
    inputs: Callable[[], Iterable[tuple[Any, ...]]] | None = None
    judge: Callable[[Any], None] | None = None
    near: float = 0.0
    digits: int = 3
    hint: str = "that is another number than I get; take one case that you can work out by hand, and compare"

    @property
    def of_function(self) -> bool:
        """Whether the answer is a function."""
        return self.wants.startswith("a function")


@dataclass(frozen=True)
class Verdict:
    """What is said of an answer."""

    state: str  # RIGHT, NOT_YET or OPEN
    hint: str = ""


@cache
def exercises_of(notebook: str) -> dict[str, Exercise]:
    """The exercises of a notebook by their number, "04.2"; nothing is imported for those of others."""
    listed = importlib.import_module(f"ctmem.course.e{notebook}").EXERCISES
    return {f"{notebook}.{number}": one for number, one in enumerate(listed, 1)}


def exercises() -> dict[str, Exercise]:
    """All exercises by their number."""
    return {number: one for notebook in NOTEBOOKS for number, one in exercises_of(notebook).items()}


@typed
def check(number: str, answer: Any) -> None:
    """Says how an answer stands: not tried yet, right, or not yet, with a hint.

    What was tried is kept in `exercises.json` in the folder of results, for `score`.

    Args:
        number: of notebook and exercise, "04.2".
        answer: a number in any form, several of them, or a function; `...` or None while there is none.

    Raises:
        ValueError: no exercise of that number.
    """
    listed = exercises_of(number[:2]) if number[:2] in NOTEBOOKS else {}
    if number not in listed:
        fail("number", "that of an exercise, " + ", ".join(listed or exercises()), repr(number))
    verdict = judged(listed[number], answer)
    if verdict.state != OPEN:
        _keep(number, verdict.state)
    print(f"{number}: {verdict.state}" + (f". Hint: {verdict.hint}" if verdict.hint else ""))


@typed
def score() -> None:
    """Prints how many exercises of each notebook are right, and which were tried."""
    kept = _kept()
    for notebook in NOTEBOOKS:
        numbers = exercises_of(notebook)
        right = sum(kept.get(number) == RIGHT for number in numbers)
        tried = [number for number in numbers if kept.get(number) == NOT_YET]
        print(f"{notebook}: {right} of {len(numbers)}" + (f", not yet: {', '.join(tried)}" if tried else ""))


def _path() -> Path:
    """Where the learner's own file is."""
    return results_folder() / FILE


def _kept() -> dict[str, str]:
    """What was tried so far; a file that cannot be read counts as none."""
    try:
        kept = json.loads(_path().read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return {str(key): str(value) for key, value in kept.items()} if isinstance(kept, dict) else {}


def _keep(number: str, state: str) -> None:
    """Adds to what was tried; a folder that cannot be written to is no reason to stop."""
    try:
        _path().write_text(json.dumps(_kept() | {number: state}, indent=1, sort_keys=True), encoding="utf-8")
    except OSError:
        return


# --- verdicts ---------------------------------------------------------------------------------------------------------


def judged(exercise: Exercise, answer: Any) -> Verdict:
    """The verdict on an answer; whatever an answer does, nothing is raised."""
    if answer is None or answer is ... or _is_stub(answer):
        return Verdict(OPEN)
    try:
        if exercise.of_function:
            _check_function(answer, exercise)
        if exercise.judge is not None:
            exercise.judge(answer)
        elif exercise.of_function:
            _judge_function(exercise, answer)
        else:
            _judge_numbers(exercise, answer)
    except Mistake as mistake:
        return Verdict(NOT_YET, str(mistake))
    except Exception as error:  # of the learner's own function
        return Verdict(NOT_YET, _told(error, answer))
    return Verdict(RIGHT)


def _is_stub(answer: Any) -> bool:
    """Whether a function is the one of the notebook, without a body of its own."""
    code = getattr(answer, "__code__", None)
    if code is None:
        return False
    consts = set(code.co_consts) - {getattr(answer, "__doc__", None)}
    return not code.co_names and not code.co_freevars and consts <= {None, ...} and not _uses_arguments(code)


def _uses_arguments(code: Any) -> bool:
    """Whether a body reads any of its arguments, or makes a function."""
    return any(
        one.opname.startswith(("LOAD_FAST", "MAKE_", "BINARY", "BUILD", "CALL")) for one in dis.get_instructions(code)
    )


def _check_function(answer: Any, exercise: Exercise) -> None:
    """Raises where the answer is not a function."""
    if not callable(answer):
        raise Mistake(f"{exercise.wants} is wanted: hand over its name, without calling it; got {_kind(answer)}")


def _judge_numbers(exercise: Exercise, answer: Any) -> None:
    """Raises where the answer is not the right number or numbers."""
    wanted = _numbers(exercise.right)
    got = _read(answer, exercise.wants)
    if got.shape != wanted.shape:
        raise Mistake(f"{exercise.wants} is wanted, got {_kind(answer)}")
    for hint, wrong in exercise.mistakes.items():
        if any(_agree(got, _numbers(one), CLOSE, 0.0) for one in _each(wrong)):
            raise Mistake(hint)
    if _digits_agree(got, wanted, exercise.digits, exercise.near):
        return
    for hint, wrong in exercise.mistakes.items():
        if any(_digits_agree(got, _numbers(one), exercise.digits, 0.0) for one in _each(wrong)):
            raise Mistake(hint)
    raise Mistake(exercise.hint)


def _digits_agree(got: np.ndarray, wanted: np.ndarray, digits: int, near: float) -> bool:
    """Whether numbers are those that are wanted, to so many digits."""
    if got.shape != wanted.shape:
        return False
    size = np.floor(np.log10(np.maximum(np.abs(wanted), 1e-12)))
    return bool((np.abs(got - wanted) <= np.maximum(0.5001 * 10 ** (size + 1 - digits), near)).all())


def _judge_function(exercise: Exercise, answer: Function) -> None:
    """Raises where a function does not give what the right one does, in any case."""
    assert exercise.inputs is not None
    cases = [tuple(_copied(one) for one in case) for case in exercise.inputs()]
    got = [_read(_returned(answer(*map(_copied, case))), "a number or an array from your function") for case in cases]
    wanted = [_numbers(exercise.right(*map(_copied, case))) for case in cases]
    if all(_agree(one, other, ALIKE, exercise.near) for one, other in zip(got, wanted, strict=True)):
        return
    for hint, wrong in exercise.mistakes.items():
        if any(_same_results(got, one, cases) for one in _each(wrong)):
            raise Mistake(hint)
    for one, other in zip(got, wanted, strict=True):
        if one.shape != other.shape:
            raise Mistake(f"your function returns {_shape(one.shape)} where {_shape(other.shape)} is wanted")
        if np.isnan(one).any() and not np.isnan(other).any():
            raise Mistake("your function returns NaN in one of my cases: what is divided by, or what is the root of?")
    right = [_agree(one, other, ALIKE, exercise.near) for one, other in zip(got, wanted, strict=True)]
    if any(right):
        raise Mistake(f"it is right in {sum(right)} of my {len(right)} cases: does it use all of its arguments?")
    raise Mistake(exercise.hint)


def _same_results(got: Sequence[np.ndarray], wrong: Function, cases: Sequence[tuple[Any, ...]]) -> bool:
    """Whether a wrong function gives the same as what was returned."""
    pairs = zip(got, cases, strict=True)
    return all(_agree(one, _numbers(wrong(*map(_copied, case))), 1e-4, 1e-9) for one, case in pairs)


def _returned(value: Any) -> Any:
    """What a function returned, if it did."""
    if value is None or value is ...:
        raise Mistake("your function returns nothing yet: end it with `return …`")
    return value


# --- answers in all forms ---------------------------------------------------------------------------------------------


def _read(answer: Any, wants: str) -> np.ndarray:
    """An answer as an array of float64; numbers, arrays, tensors, and tuples or lists of them."""
    try:
        return _numbers(answer)
    except (TypeError, ValueError) as error:
        extra = ", without quotes" if isinstance(answer, str) else ""
        raise Mistake(f"{wants} is wanted{extra}, got {_kind(answer)}") from error


def _numbers(answer: Any) -> np.ndarray:
    """Numbers of any form as an array of float64; those of one number have no axis.

    Raises:
        TypeError, ValueError: something that is no number.
    """
    array = np.asarray(_plain(answer), np.float64)
    return array.reshape(()) if array.size == 1 and array.ndim <= 1 else array


def _plain(answer: Any) -> Any:
    """Numbers of any form as what numpy reads."""
    if isinstance(answer, torch.Tensor):
        return answer.detach().cpu().double().numpy()
    if isinstance(answer, str | bytes | bool | dict) or callable(answer):
        raise TypeError("not a number")
    if isinstance(answer, list | tuple):
        return [_plain(one) for one in answer]
    return answer


def _agree(one: np.ndarray, other: np.ndarray, relative: float, absolute: float) -> bool:
    """Whether arrays have one shape and differ by little; relative to the largest number where they have several."""
    if one.shape != other.shape:
        return False
    if not one.size:
        return True
    size = float(np.abs(other).max())
    return bool(np.allclose(one, other, rtol=0, atol=absolute + relative * size)) and math.isfinite(size)


def _each(wrong: Any) -> tuple[Any, ...]:
    """One wrong answer, or several in a list."""
    return tuple(wrong) if isinstance(wrong, list) else (wrong,)


def _copied(value: Any) -> Any:
    """An argument of a case that a function may change as it likes."""
    return (
        value.clone() if isinstance(value, torch.Tensor) else value.copy() if isinstance(value, np.ndarray) else value
    )


def _kind(value: Any) -> str:
    """What a value is, in the learner's words."""
    if isinstance(value, torch.Tensor | np.ndarray):
        return _shape(tuple(value.shape))
    if isinstance(value, list | tuple):
        return f"{len(value)} values"
    if callable(value):
        return "a function"
    return {str: "text", bool: "True or False", dict: "a dict"}.get(type(value), f"a {type(value).__name__}")


def _shape(shape: tuple[int, ...]) -> str:
    """A shape in words."""
    return f"an array of shape {shape}" if shape else "one number"


def _told(error: Exception, answer: Any) -> str:
    """An error of the learner's function, with the last line of it that ran."""
    own = getattr(getattr(answer, "__code__", None), "co_filename", "")
    lines = [one.line for one in traceback.extract_tb(error.__traceback__) if one.filename == own and one.line]
    where = f" at `{lines[-1].strip()}`" if lines else ""
    text = " ".join(str(error).split())[:200]
    return f"your function ended in {type(error).__name__}{where}" + (f": {text}" if text else "")
