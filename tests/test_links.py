"""Every link of the Markdown files and notebooks: those within the project lead to a file and an anchor, others are well formed."""

from __future__ import annotations

import re
import sys
from functools import lru_cache
from pathlib import Path
from urllib.parse import unquote, urlsplit

import build
import nbformat
import pytest

ROOT = Path(__file__).resolve().parents[1]
LINK = re.compile(
    r"\[(?:[^\[\]]|!\[[^\]]*\]\([^)]*\)|\[[^\]]*\])*\]\(([^)\s]+)(?:\s+\"[^\"]*\")?\)|<(https?://[^>\s]+)>"
)
IMAGE = re.compile(r"!\[([^\]]*)\]\(([^)\s]+)\)")
FENCE = re.compile(r"^(```|~~~).*?^\1", re.MULTILINE | re.DOTALL)
FOLDERS = ("", "docs", "docs/site", "data", "benchmarks/results", "benchmarks/results/methods")


def documents() -> list[Path]:
    """Markdown files and notebooks of the project."""
    return [path for folder in FOLDERS for path in sorted((ROOT / folder).glob("*.md"))] + build.workbook()


@lru_cache
def text_of(path: Path) -> str:
    """A document's Markdown, without its code."""
    if path.suffix == ".ipynb":
        cells = nbformat.read(path, as_version=4).cells
        return "\n\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
    return re.sub(r"`[^`\n]*`", "", FENCE.sub("", path.read_text(encoding="utf-8")))


def links_of(text: str) -> list[str]:
    """Targets of all links and images of a text."""
    return [first or second for first, second in LINK.findall(text)] + [target for _, target in IMAGE.findall(text)]


@lru_cache
def anchors(path: Path) -> set[str]:
    """Anchors of a document's headings, as the readers of Markdown make them."""
    text = text_of(path) if path.suffix == ".ipynb" else FENCE.sub("", path.read_text(encoding="utf-8"))
    titles = re.findall(r"^#{1,6} (.+?)\s*$", text, re.MULTILINE)
    slugs = {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}
    in_notebooks = {title.replace(" ", "-") for title in titles}
    return slugs | in_notebooks | set(re.findall(r"id=\"([^\"]+)\"", text))


def fault(link: str, path: Path) -> str | None:
    """What is wrong with a link of a document."""
    parts = urlsplit(link)
    if parts.scheme or parts.netloc:
        right = parts.scheme == "https" and re.fullmatch(r"[\w.-]+\.[a-z]{2,}", parts.netloc)
        return None if right or parts.scheme == "mailto" else "not an address"
    target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
    if not target.is_relative_to(ROOT) or not target.exists():
        return "no such file"
    if parts.fragment and unquote(parts.fragment) not in anchors(target):
        return "no such heading"
    return None


@pytest.mark.parametrize("path", documents(), ids=lambda path: path.relative_to(ROOT).as_posix())
def test_every_link_leads_somewhere(path):
    found = [(link, fault(link, path)) for link in links_of(text_of(path))]
    assert [(link, what) for link, what in found if what] == []


@pytest.mark.parametrize("path", documents(), ids=lambda path: path.relative_to(ROOT).as_posix())
def test_every_picture_has_words(path):
    assert [target for words, target in IMAGE.findall(text_of(path)) if len(words) < 5] == []


def test_the_check_finds_what_is_wrong(tmp_path, monkeypatch):
    monkeypatch.setattr(sys.modules[__name__], "ROOT", tmp_path)
    page = tmp_path / "page.md"
    page.write_text(
        "# One, two: three\n\n[a](gone.md) [b](#one-two-three) [c](#four) [d](page.md#one-two-three) `[e](f)`\n"
        "[![words](gone.png)](page.md) <https://example.org/x> [g](http://example.org) [h](../outside.md)\n"
        "```\n[i](j)\n```\n",
        encoding="utf-8",
    )
    links = links_of(text_of(page))
    assert len(links) == 9
    wrong = {link: fault(link, page) for link in links if fault(link, page)}
    assert wrong == {
        "gone.md": "no such file",
        "#four": "no such heading",
        "gone.png": "no such file",
        "http://example.org": "not an address",
        "../outside.md": "no such file",
    }
