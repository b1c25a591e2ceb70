"""Notebooks are put back after a class, and nothing that was changed is lost."""

from __future__ import annotations

import subprocess

import build
import nbformat
import pytest
import reset


def text(*sources: str) -> str:
    cells = [nbformat.v4.new_code_cell(source, id=f"cell-{n}") for n, source in enumerate(sources)]
    for cell in cells:
        cell.metadata["tags"] = ["exercise"] if cell.source.startswith("# Exercise") else []
    return nbformat.writes(nbformat.v4.new_notebook(cells=cells)) + "\n"


STORED = {
    "00_a.ipynb": text("a = 1", "# Exercise 1: one\nanswer = ..."),
    "01_b.ipynb": text("b = 1", "# Exercise 1: one\nanswer = ...", "# Exercise 2: two\nanswer = ..."),
}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A workbook of two notebooks, one of them changed, and a learner's results."""
    here = tmp_path / "project" / "notebooks"
    here.mkdir(parents=True)
    for name, stored in STORED.items():
        (here / name).write_text(stored, encoding="utf-8")
    (here.parent / "results").mkdir()
    (here.parent / "results" / "exercises.json").write_text('{"01.2": "right"}', encoding="utf-8")
    monkeypatch.setattr(build, "HERE", here)
    monkeypatch.setattr(build, "workbook", lambda: [here / name for name in STORED])
    monkeypatch.delenv("CTMEM_RESULTS", raising=False)
    return here


@pytest.fixture
def original(tmp_path):
    """Another copy of the project's notebooks."""
    other = tmp_path / "other"
    other.mkdir()
    for name, stored in STORED.items():
        (other / name).write_text(stored, encoding="utf-8")
    return other


def answer(folder) -> str:
    changed = text("b = 1", "# Exercise 1: one\nanswer = ...", "# Exercise 2: two\nanswer = 42")
    (folder / "01_b.ipynb").write_text(changed, encoding="utf-8")
    return changed


def test_a_changed_notebook_is_put_back_kept_and_named(folder, original, capsys):
    changed = answer(folder)
    reset.main(["--from", str(original)])
    assert {name: (folder / name).read_text(encoding="utf-8") for name in STORED} == STORED
    kept = folder / "scratch" / "reset-1"
    assert [path.name for path in kept.iterdir()] == ["01_b.ipynb"]
    assert (kept / "01_b.ipynb").read_text(encoding="utf-8") == changed
    said = capsys.readouterr().out.splitlines()
    assert said == [
        f"01_b.ipynb: was changed, is kept as {kept / '01_b.ipynb'}, Exercise 2",
        "2 notebooks are as they are stored",
    ]
    assert (folder.parent / "results" / "exercises.json").is_file()


def test_what_is_kept_is_never_overwritten(folder, original):
    for number in (1, 2):
        answer(folder)
        reset.main(["--from", str(original)])
        assert (folder / "scratch" / f"reset-{number}" / "01_b.ipynb").is_file()
    reset.main(["--from", str(original)])
    assert len(list((folder / "scratch").iterdir())) == 2  # nothing was changed, nothing is kept


def test_results_are_forgotten_only_when_asked_and_kept_even_then(folder, original):
    reset.main(["--from", str(original), "--results"])
    assert not (folder.parent / "results" / "exercises.json").exists()
    assert (folder / "scratch" / "reset-1" / "exercises.json").read_text(encoding="utf-8") == '{"01.2": "right"}'


def test_a_notebook_that_is_gone_or_broken_comes_back(folder, original, capsys):
    (folder / "00_a.ipynb").unlink()
    (folder / "01_b.ipynb").write_text("{", encoding="utf-8")
    reset.main(["--from", str(original)])
    assert {name: (folder / name).read_text(encoding="utf-8") for name in STORED} == STORED
    assert "no longer a notebook" in capsys.readouterr().out


def test_git_knows_how_they_were(folder, capsys):
    def git(*words: str) -> None:
        identity = ["-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "core.autocrlf=false"]
        subprocess.run(["git", *identity, *words], cwd=folder.parent, check=True, capture_output=True)

    git("init")
    git("add", "notebooks")
    git("commit", "-m", "stored")
    answer(folder)
    reset.main([])
    assert {name: (folder / name).read_text(encoding="utf-8") for name in STORED} == STORED
    assert "Exercise 2" in capsys.readouterr().out


@pytest.mark.parametrize("words", [[], ["--from", "nowhere"]], ids=["no git", "no such folder"])
def test_without_a_stored_state_nothing_is_touched(folder, words, monkeypatch):
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(folder.parent.parent))
    changed = answer(folder)
    with pytest.raises(SystemExit, match="^error: .*00_a.ipynb"):
        reset.main(words)
    assert (folder / "01_b.ipynb").read_text(encoding="utf-8") == changed
    assert not (folder / "scratch").exists()
