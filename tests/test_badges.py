"""Links to Binder and Colab, and the copies that Colab opens."""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "docs"))

import make_badges  # noqa: E402


@pytest.fixture
def written(tmp_path: Path) -> Path:
    shutil.copy(ROOT / "README.md", tmp_path)
    make_badges.main(["some-one/her.copy", "--branch", "course/2027", "--root", str(tmp_path)])
    return tmp_path


def test_the_readme_links_to_both_and_may_be_renewed(written: Path):
    text = (written / "README.md").read_text(encoding="utf-8")
    assert "https://mybinder.org/v2/gh/some-one/her.copy/course/2027?" in text
    colab = re.findall(r"\(https://colab\.research\.google\.com/github/some-one/her\.copy/blob/(\S+)\)", text)
    assert [(written / name.removeprefix("course/2027/")).is_file() for name in colab] == [True] * 11
    make_badges.main(["another/copy", "--root", str(written)])
    text = (written / "README.md").read_text(encoding="utf-8")
    assert "some-one" not in text
    assert text.count("mybinder.org") == 1


def test_copies_begin_by_installing_and_their_links_lead_to_the_repository(written: Path):
    for path in (written / "colab").glob("*.ipynb"):
        notebook = nbformat.read(path, as_version=4)
        nbformat.validate(notebook)
        first = next(cell for cell in notebook.cells if cell.cell_type == "code")
        assert "--branch course/2027 https://github.com/some-one/her.copy " in first.source
        text = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
        links = re.findall(r"\]\(([^)\s#]+)", text)
        assert [link for link in links if not link.startswith(("https://", "attachment:"))] == []


@pytest.mark.parametrize("wrong", ["name", "owner/name/more", "owner/na me", "https://elsewhere/owner/name", "o/n;ls"])
def test_what_is_no_repository_is_refused(wrong: str, tmp_path: Path, capsys):
    shutil.copy(ROOT / "README.md", tmp_path)
    with pytest.raises(SystemExit):
        make_badges.main([wrong, "--root", str(tmp_path)])
    assert "`repository` must be OWNER/NAME" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["README.md"]
