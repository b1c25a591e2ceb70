"""What the tests of this folder ask of a page in the browser, and do to the explorers on it."""

from __future__ import annotations

import ast
import base64
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image
from real_browser import CURRENT, KERNEL_IDLE

MILLISECONDS = 120_000
RUN_WHEN_READY = f"""
    const timer = setInterval(() => {{
        if (!({KERNEL_IDLE})) return;
        clearInterval(timer);
        window.jupyterapp.commands.execute("notebook:run-all-cells");
    }}, 100);
"""
RUN_CELL = f"""async (source) => {{
    const content = {CURRENT}.content;
    content.activeCellIndex = content.widgets.length - 1;
    await window.jupyterapp.commands.execute("notebook:insert-cell-below");
    content.activeCell.model.sharedModel.setSource(source);
    await window.jupyterapp.commands.execute("notebook:run-cell");
}}"""
ALL_RUN = f"""() => ({KERNEL_IDLE}) && {CURRENT}.content.widgets
    .every((cell) => cell.model.type !== "code" || cell.model.executionCount)"""
STORED_ERRORS = f"""() => {CURRENT}.content.widgets
    .flatMap((cell) => (cell.model.type === "code" ? cell.model.outputs.toJSON() : []))
    .filter((output) => output.output_type === "error").map((output) => output.ename + ": " + output.evalue)"""
ASK = f"""async ([code, expression]) => {{
    const kernel = {CURRENT}.sessionContext.session.kernel;
    const reply = await kernel.requestExecute({{ code, silent: true, user_expressions: {{ answer: expression }} }}).done;
    const answer = reply.content.user_expressions?.answer ?? reply.content;
    if (answer.status !== "ok") throw new Error(answer.ename + ": " + answer.evalue);
    return answer.data["text/plain"];
}}"""
RESTART = f"async () => {{ await {CURRENT}.sessionContext.session.kernel.restart(); }}"
PIXELS = """(canvas) => {
    const data = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
    let text = "";
    for (let i = 0; i < data.length; i += 8192) text += String.fromCharCode(...data.subarray(i, i + 8192));
    return [canvas.height, canvas.width, btoa(text)];
}"""


class Page:
    """A page in the browser: a notebook or a Voilà page, with what went wrong on it."""

    def __init__(self, page, address: str) -> None:
        self.page, self.errors, self.asked_elsewhere = page, [], []
        page.set_default_timeout(MILLISECONDS)
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("console", lambda said: self.errors.append(said.text) if said.type == "error" else None)
        page.on("request", self._note)
        page.on(
            "response", lambda reply: self.errors.append(f"{reply.status} {reply.url}") if reply.status >= 500 else None
        )
        self.is_lab = "/lab/" in address
        page.add_init_script(RUN_WHEN_READY)
        page.goto(address, wait_until="commit")

    def _note(self, request) -> None:
        """Remembers requests that leave this machine."""
        if not request.url.startswith(("http://127.0.0.1", "ws://127.0.0.1", "data:", "blob:")):
            self.asked_elsewhere.append(request.url)

    def until_run(self) -> None:
        """Waits until every cell of the notebook has run, without an error, or until the Voilà page shows something."""
        if not self.is_lab:
            self.page.locator("canvas.ctmem-canvas[data-frame]").first.wait_for()
            return
        self.page.wait_for_function(ALL_RUN, polling=200)
        assert self.page.evaluate(STORED_ERRORS) == []

    def run_cell(self, source: str) -> None:
        """Appends a cell to the notebook and runs it."""
        self.page.evaluate(RUN_CELL, source)
        self.until_run()

    def ask(self, expression: str, *, after: str = "") -> object:
        """The value of an expression in the notebook's kernel, a literal: numbers, texts, lists; `after` runs before."""
        return ast.literal_eval(self.page.evaluate(ASK, [after, expression]))

    def pixels_of(self, view: str) -> np.ndarray:
        """What the canvas of an ImageView should hold, (H, W, 4) uint8, from Python's state."""
        length = f"{view}.height * {view}.width * {view}.channels"
        number = f"({view}.frame - {view}.first if {view}.frames > 1 else 0)"
        data = f"{view}.data[{number} * {length}:({number} + 1) * {length}].hex()"
        parts = f"({view}.height, {view}.width, {view}.channels, {data}, {view}.palette.hex())"
        height, width, channels, data, palette = self.ask(parts)
        numbers = np.frombuffer(bytes.fromhex(data), np.uint8).reshape(height, width, channels)
        table = np.frombuffer(bytes.fromhex(palette), np.uint8).reshape(256, 4)
        return numbers if channels == 4 else table[numbers[..., 0]]

    def explorer(self, kind: str, number: int = 0) -> Panel:
        """The `number`-th explorer of a kind on the page."""
        return Panel(self, self.page.locator(f".{kind}").nth(number))

    def until(self, true: Callable[[], bool], what: str) -> None:
        """Waits until something is true, looking again and again."""
        end = time.monotonic() + MILLISECONDS / 1000
        while not true():
            assert time.monotonic() < end, f"{what}: not within {MILLISECONDS / 1000:.0f} s"
            self.page.wait_for_timeout(30)

    def screenshot(self, panel: Panel, name: str, folder: Path) -> None:
        """A picture of the page that begins with the explorer, in few colours: small."""
        panel.root.evaluate("(element) => element.scrollIntoView()")
        self.page.wait_for_timeout(200)
        raw = folder / f"{name}.raw.png"
        self.page.screenshot(path=str(raw))
        few = Image.open(raw).convert("RGB").quantize(256, kmeans=4, dither=Image.Dither.NONE)
        few.save(folder / f"{name}.png", optimize=True)
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

    def until_shown(self, view: str, number: int) -> None:
        """Waits until an image is what Python's state says."""
        self.page.until(
            lambda: np.array_equal(self.pixels(number), self.page.pixels_of(view)), f"image {number} is {view}"
        )

    def marks(self, number: int) -> int:
        """How many outlines an image has, the cursor not counted; each is drawn with a rim."""
        return self.root.locator(".ctmem-frame").nth(number).locator("rect.ctmem-mark").count() // 2

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

    def said(self) -> str:
        """What the explorer's line of text says."""
        return self.root.locator(".widget-html-content").first.inner_text()

    def until_said(self, before: str) -> str:
        """Waits until the line of text is another one, and returns it."""
        self.page.until(lambda: self.said() != before, "the explorer answers")
        return self.said()

    def line(self, name: str, plot: int = 0) -> np.ndarray:
        """The drawn points of a line of a plot, (n, 2) screen pixels: x, y."""
        path = self.root.locator(".ctmem-plot").nth(plot).locator(f"g[data-name='{name}'] path").get_attribute("d")
        return np.array([point.split() for point in path.replace("L", "M").split("M")[1:]], float)
