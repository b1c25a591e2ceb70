"""Notebooks in a real JupyterLab and a real Chromium, opened and run; skipped where there is no Chromium."""

from __future__ import annotations

import importlib.util
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pages import Page
from real_browser import CHROMIUM, NOTEBOOKS, ROOT, VIEWPORT, chromium, copy_notebooks, jupyterlab, voila

HERE = Path(__file__).parent
DASHBOARD = "dashboard"  # the Voilà page
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


class Pages:
    """The pages of the tests in their order: while one is tested, the next two load and run already."""

    def __init__(self, context, addresses: dict[str, str]) -> None:
        self.context, self.addresses = context, addresses
        self.pages: dict[str, Page] = {}

    def load(self, name: str) -> Page:
        """Begins to load a page; explorers of one notebook share it."""
        if name not in self.pages:
            self.pages[name] = Page(self.context.new_page(), self.addresses[name])
        return self.pages[name]

    def ready(self, name: str) -> Page:
        """A page that has loaded, and whose notebook has run."""
        page, names = self.load(name), list(self.addresses)
        page.until_run()
        for following in names[names.index(name) + 1 :][:2]:
            self.load(following)
        return page

    @property
    def errors(self) -> list[str]:
        """What went wrong in any of them."""
        return [error for page in self.pages.values() for error in page.errors]


@pytest.fixture(scope="session")
def browser() -> Iterator:
    """One Chromium for all."""
    with chromium() as one:
        yield one


@pytest.fixture(scope="session")
def pages(browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pages]:
    """The notebooks of the four explorers in one JupyterLab, and the Voilà page of `make dashboard`."""
    folder, dashboard, *logs = (tmp_path_factory.mktemp(name) for name in ("notebooks", "dashboard", "lab", "voila"))
    copy_notebooks(folder)
    alone = Path(shutil.copy(ROOT / "notebooks" / "dashboard.ipynb", dashboard))
    with jupyterlab(folder, logs[0]) as lab, voila(alone, logs[1]) as page_alone:
        addresses = {name: f"{lab}/lab/workspaces/{name[:2]}/tree/{name}?reset" for name in NOTEBOOKS}
        context = browser.new_context(viewport=VIEWPORT)  # one for all: its pages share what they load
        yield Pages(context, {**addresses, DASHBOARD: page_alone})
        context.close()


@pytest.fixture
def open_page(pages: Pages) -> Iterator[Callable[[str], Page]]:
    """Opens a page and waits until it is ready; at the end of the test nothing may have gone wrong in any page."""
    yield pages.ready
    assert pages.errors == []


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where screenshots go: docs/images where the environment variable CTMEM_SCREENSHOTS is set."""
    return ROOT / "docs" / "images" if os.environ.get("CTMEM_SCREENSHOTS") else tmp_path_factory.mktemp("screenshots")
