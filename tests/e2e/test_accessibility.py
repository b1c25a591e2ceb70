"""What axe finds of the rules for all (WCAG: names, contrast, keys) on explorers, pages of the site and slides."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest
from real_browser import NOTEBOOKS, ROOT

SITE = ROOT / "build" / "site"
# one page of a kind
PAGES = (
    "README",
    "docs/site/explorer",
    "docs/site/moving",
    "docs/glossary",
    "docs/site/api/match",
    "notebooks/03_diffusion_training",
)
needs_axe = pytest.mark.skipif(
    importlib.util.find_spec("axe_playwright_python") is None, reason="needs the package axe-playwright-python"
)
pytestmark = needs_axe


def violations(page, context: str | None = None) -> list[str]:
    """What axe says, a line for each rule that is broken; a table may have an empty corner."""
    from axe_playwright_python.sync_playwright import Axe

    answer = Axe().run(page, context=context, options={"rules": {"empty-table-header": {"enabled": False}}})
    return [f"{one['help']}: {one['nodes'][0]['html'][:200]}" for one in answer.response["violations"]]


def faults_of(browser, path: Path, scheme: str) -> list[str]:
    page = browser.new_page(viewport={"width": 1300, "height": 900}, color_scheme=scheme)
    page.goto(path.as_uri())
    found = violations(page)
    page.close()
    return found


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_explorers(open_page, name: str):
    page = open_page(name)
    unnamed = page.page.locator(".ctmem-explorer .noUi-handle:not([aria-label])")
    page.until(lambda: unnamed.count() == 0, "names for all sliders")
    assert violations(page.page, ".ctmem-explorer") == []


@pytest.mark.skipif(not SITE.is_dir(), reason="needs the site: make site")
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", PAGES)
def test_pages_of_the_site(browser, name: str, scheme: str):
    assert faults_of(browser, SITE / f"{name}.html", scheme) == []


@pytest.mark.skipif(importlib.util.find_spec("sphinx_revealjs") is None, reason="needs the extra site")
def test_slides(browser, tmp_path: Path):
    sys.path.insert(0, str(ROOT / "docs"))
    import make_slides

    make_slides.main(["--output", str(tmp_path)])
    assert [fault for path in tmp_path.iterdir() for fault in faults_of(browser, path, "light")] == []
