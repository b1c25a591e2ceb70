"""Notebooks in a real JupyterLab and a real Chromium: what the tests of this folder ask of a page."""

from __future__ import annotations

import ast
import base64
import importlib.util
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from real_browser import CHROMIUM, CURRENT, KERNEL_IDLE, ROOT, VIEWPORT, chromium, copy_notebooks, jupyterlab
from PIL import Image

HERE = Path(__file__).parent
MISSING = [
    what
    for what, there in (
        ("Chromium (install the package chromium, or name the program in the environment variable CHROMIUM)", CHROMIUM),
        ("the package playwright", importlib.util.find_spec("playwright")),
    )
    if not there
]
MILLISECONDS = 60_000
ALL_RUN = f"""() => {{
    const cells = {CURRENT}.content.widgets.filter((cell) => cell.model.type === "code");
    return {KERNEL_IDLE} && cells.every((cell) => cell.model.executionCount);
}}"""
STORED_ERRORS = f"""() => {CURRENT}.content.widgets
    .flatMap((cell) => (cell.model.type === "code" ? cell.model.outputs.toJSON() : []))
    .filter((output) => output.output_type === "error").map((output) => output.ename + ": " + output.evalue)"""
ASK = f"""async (code) => {{
    const kernel = {CURRENT}.sessionContext.session.kernel;
    const reply = await kernel.requestExecute({{ code: "", silent: true, user_expressions: {{ answer: code }} }}).done;
    const answer = reply.content.user_expressions.answer;
    if (answer.status !== "ok") throw new Error(answer.ename + ": " + answer.evalue);
    return answer.data["text/plain"];
}}"""
PIXELS = """(canvas) => {
    const data = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
    let text = "";
    for (let i = 0; i < data.length; i += 8192) text += String.fromCharCode(...data.subarray(i, i + 8192));
    return [canvas.height, canvas.width, btoa(text)];
}"""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Real browsers talk through sockets to this machine itself; without a browser the tests are skipped."""
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.enable_socket)
            if MISSING:
                item.add_marker(pytest.mark.skip(reason="needs " + " and ".join(MISSING)))


class Page:
    """A page in the browser: a notebook or a Voilà page, with what went wrong on it."""

    def __init__(self, page, address: str) -> None:
        self.page, self.errors = page, []
        page.set_default_timeout(MILLISECONDS)
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("console", lambda said: self.errors.append(said.text) if said.type == "error" else None)
        page.goto(address)

    def run_all(self) -> None:
        """Runs every cell of the notebook and waits for the last one."""
        self.page.wait_for_function(KERNEL_IDLE)
        self.page.evaluate("window.jupyterapp.commands.execute('notebook:run-all-cells')")
        self.page.wait_for_function(ALL_RUN)
        assert self.page.evaluate(STORED_ERRORS) == []

    def ask(self, expression: str) -> object:
        """The value of an expression in the notebook's kernel; it is a literal: numbers, texts, lists of them."""
        return ast.literal_eval(self.page.evaluate(ASK, expression))

    def explorer(self, kind: str, number: int = 0) -> Panel:
        """The `number`-th explorer of a kind on the page."""
        return Panel(self, self.page.locator(f".{kind}").nth(number))

    def until(self, true: Callable[[], bool], what: str) -> None:
        """Waits until something is true, looking again and again."""
        end = time.monotonic() + MILLISECONDS / 1000
        while not true():
            assert time.monotonic() < end, f"{what}: not within {MILLISECONDS / 1000:.0f} s"
            self.page.wait_for_timeout(15)

    def screenshot(self, name: str, folder: Path) -> None:
        """A picture of the whole page at 1300×900, in few colours: small."""
        raw = folder / f"{name}.raw.png"
        self.page.screenshot(path=str(raw))
        picture = (
            Image.open(raw).convert("RGB").quantize(255, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
        )
        picture.save(folder / f"{name}.png", optimize=True)
        raw.unlink()


class Panel:
    """One explorer on a page: its images, plots and controls."""

    def __init__(self, page: Page, root) -> None:
        self.page, self.root = page, root
        root.locator("canvas.ctmem-canvas[data-frame]").first.wait_for()

    def canvas(self, number: int = 0, *, second: bool = False):
        """The `number`-th image; with `second` the one right of its divider."""
        frame = self.root.locator(".ctmem-frame").nth(number)
        return frame.locator("canvas.ctmem-second" if second else "canvas.ctmem-canvas:not(.ctmem-second)")

    def pixels(self, number: int = 0, *, second: bool = False) -> np.ndarray:
        """What the canvas holds, (H, W, 4) uint8."""
        height, width, text = self.canvas(number, second=second).evaluate(PIXELS)
        return np.frombuffer(base64.b64decode(text), np.uint8).reshape(height, width, 4)

    def until_changed(self, before: np.ndarray, number: int = 0, *, second: bool = False) -> np.ndarray:
        """Waits until an image is another one, and returns it."""
        self.page.until(
            lambda: not np.array_equal(self.pixels(number, second=second), before), f"image {number} changes"
        )
        return self.pixels(number, second=second)

    def until_text(self, text: str) -> None:
        """Waits until the explorer says something."""
        self.root.get_by_text(text, exact=False).first.wait_for()

    def click(self, row: float, column: float, shape: tuple[int, int], number: int = 0, **options) -> None:
        """Clicks into the middle of a pixel of an image of `shape` pixels."""
        box = self.canvas(number).bounding_box()
        place = {"x": (column + 0.5) / shape[1] * box["width"], "y": (row + 0.5) / shape[0] * box["height"]}
        self.canvas(number).click(position=place, force=True, **options)

    def press(self, *keys: str, number: int = 0) -> None:
        """Keys for an image."""
        for key in keys:
            self.root.locator(".ctmem-frame").nth(number).press(key)

    def slider(self, label: str):
        """The handle of the slider with this label."""
        return self._control("slider", label).locator(".noUi-handle")

    def choose(self, label: str, option: str) -> None:
        """Chooses an option of the dropdown with this label."""
        self._control("dropdown", label).locator("select").select_option(label=option)

    def push(self, text: str) -> None:
        """Pushes the button with this text."""
        self.root.get_by_role("button", name=text).click()

    def _control(self, kind: str, label: str):
        boxes = self.root.locator(f".widget-{kind}, .jupyter-widget-{kind}, .widget-inline-hbox")
        return boxes.filter(has=self.root.page.locator(f".widget-label:text-is('{label}')")).first

    def line(self, name: str, plot: int = 0) -> np.ndarray:
        """The drawn points of a line of a plot, (n, 2) screen pixels: x, y."""
        path = self.root.locator(".ctmem-plot").nth(plot).locator(f"g[data-name='{name}'] path").get_attribute("d")
        return np.array([point.split() for point in path.replace("L", "M").split("M")[1:]], float)


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


@pytest.fixture
def open_notebook(lab: str, browser) -> Iterator[Callable[[str], Page]]:
    """Opens a notebook, runs its cells; at the end nothing may have gone wrong in the page."""
    opened = []

    def open_one(name: str) -> Page:
        page = Page(browser.new_page(viewport=VIEWPORT), f"{lab}/lab/tree/{name}?reset")
        opened.append(page)
        page.run_all()
        return page

    yield open_one
    for page in opened:
        page.page.evaluate(f"{CURRENT}.sessionContext.shutdown()")
        page.page.close()
        assert page.errors == []


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where screenshots go: docs/images where the environment variable CTMEM_SCREENSHOTS is set."""
    return ROOT / "docs" / "images" if os.environ.get("CTMEM_SCREENSHOTS") else tmp_path_factory.mktemp("screenshots")
