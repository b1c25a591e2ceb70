"""The exercises: their solutions pass, stubs are open, usual mistakes get their own hint, constants and look-alikes fail."""

from __future__ import annotations

import inspect
import json
from decimal import Decimal

import numpy as np
import pytest
import torch

from ctmem.course import check, score
from ctmem.course.exercise import NOT_YET, OPEN, RIGHT, Exercise, _numbers, exercises, judged
from ctmem.observe.camera import Camera

NUMBERS = tuple(exercises())
OF_NUMBERS = tuple(number for number, one in exercises().items() if not one.of_function)
every_exercise = pytest.mark.parametrize("number", NUMBERS)


def srf(nm, low, high):
    inside = torch.tensor((nm >= low) & (nm <= high)).float()[None]
    return inside / inside.sum().clamp_min(1)


# exercises that many answers solve: wrong ones, and a piece of the hint that each must get
WRONG = {
    "00.3": {
        "that is bicubic": lambda x: Camera.gaussian(scale=4).upsample(x),
        "worse than bicubic": lambda x: x.repeat_interleave(4, 2).repeat_interleave(4, 3),
        "with the bands of its argument": lambda x: x,
        "once more": lambda x: Camera.gaussian(scale=4).back_project(Camera.gaussian(scale=4).upsample(x), x, steps=1),
    },
    "00.4": {
        "a width is above 0": -4,
        "the other way": 2,
        "that is the true width": 4,
        "it still gains": 4.8,
        "less will do": 16,
        "one number": (4, 6),
    },
    "01.3": {
        "one row": lambda nm: srf(nm, 450, 900)[0],
        "450 to 900 what": lambda nm: srf(nm, 0.45, 0.9),
        "must sum to 1": lambda nm: torch.tensor((nm >= 450) & (nm <= 900)).float()[None],
        "gets through": lambda nm: torch.full((1, len(nm)), 1 / len(nm)),
        "overlap": lambda nm: srf(nm, 450, 900),
    },
    "01.4": {
        "four numbers": 64,
        "multiples of 4": (66, 0, 8, 8),
        "inside the scene": (136, 0, 16, 16),
        "shares pixels": (60, 0, 8, 8),
        "nothing of it is read": (72, 0, 72, 48),
    },
    "02.4": {
        "the same shape": lambda x, scale: x.flatten(),
        "the same image": lambda x, scale: x,
        "another one of the box must lose": lambda x, scale: x.flip(3),
        "the coarse images differ": lambda x, scale: x + 0.1,
    },
    "03.3": {
        "must return a function": lambda truth: truth,
        "an oracle answers": lambda truth: lambda x, level, previous: x,
        "x0 itself": lambda truth: lambda x, level, previous: previous,
        "your function ended in TypeError": lambda truth: lambda x: x,
    },
    "03.4": {
        "must return a function": lambda denoise: 1.0,
        "is not deaf": lambda denoise: denoise,
        "pure noise": lambda denoise: lambda x, level, previous: denoise(x, 0 * level, previous),
        "exactly 1": lambda denoise: lambda x, level, previous: denoise(x, 0 * level + 0.9, previous),
        "one level for each sample": lambda denoise: lambda x, level, previous: denoise(x, 1.0, previous),
        "only the level": lambda denoise: lambda x, level, previous: denoise(0 * x, 0 * level + 1, previous),
        "returned as it is": lambda denoise: lambda x, level, previous: 0 * denoise(x, 0 * level + 1, previous),
        "never asks": lambda denoise: lambda x, level, previous: x,
    },
    "04.4": {"tilt it further": 3, "not in radians": 0.26, "less will do": 40, "another turn is nearer": 90},
    "05.3": {
        "the error is small": lambda truth: truth * 1.01,
        "SAM sees it": lambda truth: truth + 0.3,
        "the opposite direction": lambda truth: -truth,
        "no direction": lambda truth: 0 * truth,
        "of the shape": lambda truth: truth[0, 0],
    },
    "06.4": {
        "that is u itself": lambda u: u,
        "the last output moves": lambda u: u + 1,
        "nearly the same": lambda u: torch.cat([u[:, :-2], u[:, -2:-1] - 0.01, u[:, -1:] + 0.005], 1),
        "of the shape": lambda u: u[0],
        "NaN": lambda u: u / 0,
    },
    "07.3": {
        "that is x itself": lambda x: x,
        "the volumes move": lambda x: x.flip(1) + 1,
        "the mean of *each* map": lambda x: x - x.mean((2, 3), keepdim=True) + x.mean(),
        "too few values": lambda x: torch.cat([x[:, :, :2].flip(3), x[:, :, 2:]], 2),
        "of the shape": lambda x: x.mean((2, 3)),
        "NaN": lambda x: x / 0,
    },
}  # fmt: skip


def hints(exercise: Exercise) -> list[tuple[str, object]]:
    return [
        (hint, one)
        for hint, wrong in exercise.mistakes.items()
        for one in (wrong if isinstance(wrong, list) else [wrong])
    ]


@every_exercise
def test_mistakes_get_their_own_hint(number):
    exercise = exercises()[number]
    found = hints(exercise) or list(WRONG[number].items())
    assert len({hint for hint, _ in found}) >= 3
    for hint, wrong in found:
        verdict = judged(exercise, wrong)
        assert verdict.state == NOT_YET
        assert hint in verdict.hint


@every_exercise
def test_a_constant_fails(number):
    exercise = exercises()[number]
    if exercise.of_function:
        for value in (0, 1, 0.5, torch.zeros(1), (6, 3), (17, 31)):
            assert judged(exercise, lambda *_, value=value: value).state == NOT_YET
    else:
        assert all(judged(exercise, value).state == NOT_YET for value in (0, 1, -3.3, (0, 0)))


@pytest.mark.parametrize("number", OF_NUMBERS)
def test_all_forms_of_a_number_are_right(number):
    exercise = exercises()[number]
    if exercise.right is None:
        return
    right = np.asarray(_numbers(exercise.right))
    forms = [right, right.astype(np.float32), torch.tensor(right), right.tolist(), exercise.right]
    if right.ndim:
        forms += [tuple(right.tolist()), [torch.tensor(one) for one in right], [np.float64(one) for one in right]]
    else:
        forms += [
            float(right),
            np.float64(right),
            torch.tensor([float(right)]),
            [float(right)],
            float(f"{float(right):.3g}"),
        ]
        forms += [Decimal(float(right))]
    assert [judged(exercise, form).state for form in forms] == [RIGHT] * len(forms)


@pytest.mark.parametrize("number", NUMBERS)
def test_functions_may_return_any_form(number):
    exercise = exercises()[number]
    if not exercise.of_function or exercise.right is None:
        return
    right = exercise.right
    forms = [
        lambda *given: _numbers(right(*given)),
        lambda *given: torch.tensor(_numbers(right(*given))),
        lambda *given: _numbers(right(*given)).tolist(),
    ]
    assert [judged(exercise, form).state for form in forms] == [RIGHT] * len(forms)


@pytest.mark.parametrize("number", NUMBERS)
def test_functions_are_asked_more_than_once_and_have_own_inputs(number):
    exercise = exercises()[number]
    if exercise.inputs is None:
        return
    assert len(list(exercise.inputs())) >= 2

    def spoils(*given):
        result = exercise.right(*given)
        for one in given:
            if isinstance(one, torch.Tensor):
                one.fill_(7)
        return result.clone() if isinstance(result, torch.Tensor) else result

    assert judged(exercise, spoils).state == RIGHT
    assert len(inspect.signature(exercise.right).parameters) >= 1


def stubs():
    def nothing(a): ...

    def returns_nothing(a):
        return ...

    def documented(a, b):
        """What it is for."""

    def passed():
        pass

    return [..., None, nothing, returns_nothing, documented, passed]


@every_exercise
def test_a_stub_is_not_tried_yet(number):
    assert [judged(exercises()[number], stub).state for stub in stubs()] == [OPEN] * len(stubs())


def test_what_is_wrong_with_a_function_is_told():
    angle = exercises()["05.1"]

    def forgets(a, b):
        a @ b

    def breaks(a, b):
        return a @ torch.zeros(7)

    assert "end it with `return" in judged(angle, forgets).hint
    told = judged(angle, breaks).hint
    assert told.startswith("your function ended in RuntimeError at `return a @ torch.zeros(7)`: ")
    assert "a function of (a, b) is wanted: hand over its name" in judged(angle, 3.0).hint
    assert "ended in TypeError" in judged(angle, lambda a: a).hint
    assert "one number is wanted" in judged(angle, lambda a, b: torch.ones(3)).hint
    assert "NaN" in judged(angle, lambda a, b: torch.tensor(torch.nan)).hint
    first = float(angle.right(*next(iter(angle.inputs()))))
    assert "it is right in 1 of my 3 cases" in judged(angle, lambda a, b: first).hint


@pytest.mark.parametrize(
    ("number", "answer", "said"),
    [
        ("02.1", "1.7", "a number is wanted, without quotes, got text"),
        ("02.1", (1, 2), "a number is wanted, got 2 values"),
        ("02.1", True, "a number is wanted, got True or False"),
        ("02.1", lambda: 1, "a number is wanted, got a function"),
        ("02.1", {"a": 1}, "a number is wanted, got a dict"),
        ("00.1", 64, "a pair of numbers is wanted, got a int"),
        ("00.1", torch.zeros(2, 2), "a pair of numbers is wanted, got an array of shape (2, 2)"),
        ("02.1", float("nan"), "where is exp"),
        ("02.1", float("inf"), "where is exp"),
    ],
)
def test_another_kind_of_answer_is_told_in_words(number, answer, said):
    verdict = judged(exercises()[number], answer)
    assert verdict.state == NOT_YET
    assert said in verdict.hint


def test_numbers_in_forms_that_people_write():
    sigma, many = exercises()["02.1"], exercises()["08.2"]
    assert [judged(sigma, one).state for one in (4 / 2.355, 1.70, 1.699, 4 / 2.35482)] == [RIGHT] * 4
    assert judged(sigma, 1.69).state == judged(sigma, 1.71).state == NOT_YET
    assert judged(many, 43.0).state == RIGHT
    assert judged(many, 42).state == judged(many, 44).state == NOT_YET
    assert judged(exercises()["03.1"], 518).state == judged(exercises()["03.1"], 515).state == NOT_YET


def test_a_hint_never_tells_the_answer():
    for number, exercise in exercises().items():
        if exercise.right is None or exercise.of_function:
            continue
        for digits in (f"{value:g}" for value in np.atleast_1d(_numbers(exercise.right))):
            for hint in [exercise.hint, *exercise.mistakes]:
                assert digits not in hint.replace("8/100", "").split(), (number, hint)


def test_check_prints_one_line_and_score_remembers(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("CTMEM_RESULTS", str(tmp_path))
    check("02.1", ...)
    assert not list(tmp_path.iterdir())  # nothing was tried
    check("02.1", 2.0)
    check("02.2", 5)
    check("02.2", ...)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "02.1: not tried yet"
    assert lines[1].startswith("02.1: not yet. Hint: half of the width is not σ")
    assert lines[2:] == ["02.2: right", "02.2: not tried yet"]
    assert json.loads((tmp_path / "exercises.json").read_text(encoding="utf-8")) == {"02.1": "not yet", "02.2": "right"}
    score()
    said = capsys.readouterr().out.splitlines()
    assert said[0] == "00: 0 of 4"
    assert said[2] == "02: 1 of 4, not yet: 02.1"
    (tmp_path / "exercises.json").write_text("[broken", encoding="utf-8")
    score()
    assert capsys.readouterr().out.splitlines()[2] == "02: 0 of 4"


def test_a_folder_that_cannot_be_written_to_stops_nobody(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("CTMEM_RESULTS", str(tmp_path))
    (tmp_path / "exercises.json").mkdir()
    check("02.2", 5)
    assert capsys.readouterr().out == "02.2: right\n"


def test_an_unknown_exercise_is_named():
    with pytest.raises(ValueError, match=r"`number` must be that of an exercise, 00.1, .*, got '77.9'"):
        check("77.9", 1)
