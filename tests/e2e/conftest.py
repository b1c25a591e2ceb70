"""Notebooks in a real JupyterLab and a real Chromium, opened and run; skipped where there is no Chromium."""

from __future__ import annotations

import importlib.util
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pages import Page
from real_browser import CHROMIUM, ROOT, VIEWPORT, chromium, copy_notebooks, jupyterlab, voila

HERE = Path(__file__).parent
MISSING = [
    what
    for what, there in (
        ("Chromium (install the package chromium, or name the program in the environment variable CHROMIUM)", CHROMIUM),
        ("the package playwright", importlib.util.find_spec("playwright")),
    )
    if not there
]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Real browsers talk through sockets to this machine itself; without a browser the tests are skipped."""
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.enable_socket)
            if MISSING:
                item.add_marker(pytest.mark.skip(reason="needs " + " and ".join(MISSING)))


@pytest.fixture(scope="session")
def browser() -> Iterator:
    with chromium() as one:
        yield one


@pytest.fixture(scope="session")
def notebook_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("notebooks")
    copy_notebooks(folder)
    return folder


@pytest.fixture(scope="session")
def lab(notebook_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with jupyterlab(notebook_folder, tmp_path_factory.mktemp("jupyter")) as address:
        yield address


@pytest.fixture(scope="session")
def opened(browser) -> Iterator[dict[str, Page]]:
    """Notebooks that are open: explorers of one notebook share its page."""
    pages: dict[str, Page] = {}
    yield pages
    for page in pages.values():
        page.page.close()


@pytest.fixture
def open_notebook(lab: str, browser, opened: dict[str, Page]) -> Iterator[Callable[[str], Page]]:
    """Opens a notebook, runs its cells; at the end of the test nothing may have gone wrong in any page."""

    def open_one(name: str) -> Page:
        if name not in opened:
            opened[name] = Page(browser.new_page(viewport=VIEWPORT), f"{lab}/lab/tree/{name}?reset")
            opened[name].run_all()
        return opened[name]

    yield open_one
    assert [error for page in opened.values() for error in page.errors] == []


@pytest.fixture
def dashboard(browser, tmp_path: Path) -> Iterator[Page]:
    """The Voilà page of `make dashboard`."""
    copy = shutil.copy(ROOT / "notebooks" / "dashboard.ipynb", tmp_path)
    with voila(Path(copy), tmp_path) as address:
        page = Page(browser.new_page(viewport=VIEWPORT), address)
        yield page
        page.page.close()
        assert page.errors == []


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where screenshots go: docs/images where the environment variable CTMEM_SCREENSHOTS is set."""
    return ROOT / "docs" / "images" if os.environ.get("CTMEM_SCREENSHOTS") else tmp_path_factory.mktemp("screenshots")
