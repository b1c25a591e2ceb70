"""The faults of benchmarks/mutations.py still fit the package, and the script that tries them counts rightly."""

from __future__ import annotations

import pytest

from benchmarks import mutants
from benchmarks.mutants import KILLED, SURVIVED, Mutant
from benchmarks.mutations import EQUIVALENT

FAULT = Mutant("ctmem/one.py", "the sign", "a + b", "a - b", "test_one test_two -k 'this or that'")


def test_every_fault_can_still_be_put_in():
    """A line that changed takes its fault along: renew the text in benchmarks/mutations.py, or take the fault out."""
    assert list(mutants.stale()) == []


def test_there_are_hundreds_each_of_its_own_and_reasons_belong_to_one_of_them():
    every = mutants.mutants()
    names = {(mutant.file, mutant.what) for mutant in every}
    assert len(every) == len(names) > 300 and EQUIVALENT.keys() <= names


@pytest.mark.parametrize(
    ("source", "new", "message"),
    [
        ("c = a * b", "a - b", "'the sign' is stale: its text occurs 0 times: 'a . b'"),
        ("c = a + b\nd = a + b", "a - b", "'the sign' is stale: its text occurs 2 times"),
        ("c = a + b", "a -", "'the sign' is not Python"),
        ("c = a + b", "(a + b)", "'the sign' changes nothing"),
    ],
)
def test_what_is_wrong_with_a_fault_is_said(source, new, message):
    with pytest.raises(ValueError, match=message):
        mutants.mutated(source, Mutant("ctmem/one.py", "the sign", "a + b", new, "test_one"))


def test_a_fault_is_in_the_copy_while_the_tests_run_and_not_after(tmp_path, monkeypatch):
    path = tmp_path / "ctmem" / "one.py"
    path.parent.mkdir()
    path.write_text("def c(a, b):\n    return a + b\n", encoding="utf-8")
    before = path.stat().st_mtime
    seen = []

    def tests(folder, arguments, limit):
        seen.append((path.read_text(encoding="utf-8"), path.stat().st_mtime, folder, arguments))
        return SURVIVED

    monkeypatch.setattr(mutants, "run_tests", tests)
    assert [mutants.try_out(tmp_path, FAULT, number) for number in range(2)] == [SURVIVED] * 2
    assert {text for text, *_ in seen} == {"def c(a, b):\n    return a - b\n"}
    assert len({before, *(time for _, time, *_ in seen)}) == 3  # no bytecode of one serves another
    assert seen[0][2:] == (tmp_path, ["tests/test_one.py", "tests/test_two.py", "-k", "this or that"])
    assert path.read_text(encoding="utf-8") == "def c(a, b):\n    return a + b\n" and path.stat().st_mtime == before


def test_a_survivor_is_listed_with_its_reason(monkeypatch):
    other = Mutant("ctmem/two.py", "the axis", "2", "3", "test_two")
    monkeypatch.setitem(EQUIVALENT, (other.file, other.what), "both axes are of one length")
    text = mutants.report([FAULT, other, FAULT], [KILLED, SURVIVED, SURVIVED], 3)
    assert "3 mutants of 2 files: 1 killed, 2 survived." in text
    assert "| `ctmem/two.py` | the axis | survived | both axes are of one length |" in text
    assert "| `ctmem/one.py` | the sign | survived | **none** |" in text
