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
def opened(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Page]]:
    """Every notebook that holds an explorer, and the Voilà page of `make dashboard`.

    All are opened at once and run side by side: most of that time they wait for something. Explorers of one notebook
    share its page.
    """
    folder, dashboard, *logs = (tmp_path_factory.mktemp(name) for name in ("notebooks", "dashboard", "lab", "voila"))
    copy_notebooks(folder)
    alone = Path(shutil.copy(ROOT / "notebooks" / "dashboard.ipynb", dashboard))
    with jupyterlab(folder, logs[0]) as lab, voila(alone, logs[1]) as page_alone, chromium() as browser:
        names = sorted({path.name for path in folder.glob("*.ipynb")} - {alone.name})
        addresses = {name: f"{lab}/lab/workspaces/{name[:2]}/tree/{name}?reset" for name in names}
        pages = {name: Page(browser.new_page(viewport=VIEWPORT), address) for name, address in addresses.items()}
        pages["voila"] = Page(browser.new_page(viewport=VIEWPORT), page_alone)
        yield pages
        for name in names:
            pages[name].shut_down()


@pytest.fixture
def open_notebook(opened: dict[str, Page]) -> Iterator[Callable[[str], Page]]:
    """Waits until a notebook has run; at the end of the test nothing may have gone wrong in any page."""

    def open_one(name: str) -> Page:
        opened[name].until_run()
        return opened[name]

    yield open_one
    assert [error for page in opened.values() for error in page.errors] == []


@pytest.fixture
def dashboard(opened: dict[str, Page]) -> Iterator[Page]:
    """The Voilà page."""
    yield opened["voila"]
    assert opened["voila"].errors == []


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where screenshots go: docs/images where the environment variable CTMEM_SCREENSHOTS is set."""
    return ROOT / "docs" / "images" if os.environ.get("CTMEM_SCREENSHOTS") else tmp_path_factory.mktemp("screenshots")
