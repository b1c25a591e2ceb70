"""The explorers in a real browser: milliseconds from a hand's event to the drawn answer, and memory.

    python benchmarks/explorers.py [--rounds 15]

JupyterLab and Chromium run on this machine. Real key presses and clicks are sent; the browser notes the time of the event,
and that of the next animation frame after the picture or the line has changed. In each round, events take turns with an
empty one (`echo`: a button whose press travels to Python and back, and changes a text), so that the ratios hold on a busy
machine, too.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from functools import partial
from pathlib import Path

import machine

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "tests" / "e2e"), str(ROOT / "notebooks")]

import real_browser as lab

SIZES = {"145×145×200": (145, 145, 200), "512×512×200": (512, 512, 200)}  # rows, columns, bands
LIMITS = {"band step": 40, "click to spectrum": 80, "match click": 150, "first drawing": 2000}  # ms, for the small cube
TIMES = 2  # the large cube may take so many times as long
MATCH = "21,609 candidates"
ECHO = '''
import anywidget, traitlets

class Echo(anywidget.AnyWidget):
    _esm = """
    export default { render({ model, el }) {
        const button = document.createElement("button");
        button.className = "echo";
        button.append("0");
        button.onclick = () => { model.set("sent", model.get("sent") + 1); model.save_changes(); };
        model.on("change:back", () => { button.textContent = model.get("back"); });
        el.append(button);
    } };
    """
    sent = traitlets.Int(0).tag(sync=True)
    back = traitlets.Int(0).tag(sync=True)

echo = Echo()
echo.observe(lambda change: setattr(echo, "back", change["new"]), "sent")
echo
'''
PREPARE = """
import re
from pathlib import Path

import numpy as np
import torch

from ctmem.explorers import BandExplorer, MatchExplorer
from ctmem.model import load_model

rows, columns, bands = {shape}
generator = np.random.default_rng(0)
cube = generator.random((rows, columns, bands), dtype=np.float32)
nm = np.linspace(400, 2500, bands)
model = load_model("tiny")
camera = model.camera.for_wavelengths(nm)
images = [torch.rand(1, c, n, n, generator=torch.Generator().manual_seed(0)) for c, n in ((bands, 36), (4, 301))]

def peak_mb():
    return int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) / 1000

Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here
before = peak_mb()
"""
BAND = "band = BandExplorer(cube, wavelengths_nm=nm)\nband.show.value = 'one band'\nband"
MATCHES = "match = MatchExplorer(*images, camera, blur=model.kernel)\nmatch"
WATCH = """(node) => {
    let begin = null;
    for (const kind of ["pointerdown", "keydown"]) {
        window.addEventListener(kind, (event) => { begin ??= event.timeStamp; }, { capture: true, once: true });
    }
    window.measured = new Promise((resolve) => {
        const observer = new MutationObserver(() => {
            if (begin === null) return;
            observer.disconnect();
            requestAnimationFrame(() => resolve(performance.now() - begin));
        });
        observer.observe(node, { attributes: true, childList: true, characterData: true, subtree: true });
    });
}"""
BURST = """([node, frame]) => {
    let last = 0;
    window.addEventListener("keydown", (event) => { last = event.timeStamp; }, { capture: true });
    window.measured = new Promise((resolve) => {
        const observer = new MutationObserver(() => {
            if (node.dataset.frame !== String(frame)) return;
            observer.disconnect();
            requestAnimationFrame(() => resolve(performance.now() - last));
        });
        observer.observe(node, { attributes: true });
    });
}"""
FIRST = f"""async ([cell, selector]) => {{
    const content = {lab.CURRENT}.content;
    content.activeCellIndex = cell;
    const begin = performance.now();
    const drawn = new Promise((resolve) => {{
        const look = () => (document.querySelector(selector) ? resolve(performance.now() - begin) : requestAnimationFrame(look));
        look();
    }});
    window.jupyterapp.commands.execute("notebook:run-cell");
    return drawn;
}}"""
READING = """\
What to read from it:

1. A band step needs no answer from Python where the stack is in the browser: a small one whole, of a large one the neighbours
   of the band on show, which are sent when the hand rests.
2. Sixty steps in a row do not queue: the last one is drawn soon after its event; of a large cube, after one answer of Python.
3. A click's time is mostly the way to Python and back, which `echo` takes, too.
"""


def measure(page, act, node) -> float:
    """Milliseconds from the event that `act` causes to the frame after `node` has changed."""
    node.evaluate(WATCH)
    act()
    elapsed = page.evaluate("() => window.measured")
    page.wait_for_timeout(120)  # what is still on its way arrives before the next event
    return elapsed


def click(page, canvas, turn: int) -> None:
    """A click somewhere else each time."""
    canvas.scroll_into_view_if_needed()
    box = canvas.bounding_box()
    page.mouse.click(
        box["x"] + box["width"] * (0.1 + 0.05 * (turn % 16)), box["y"] + box["height"] * (0.9 - 0.05 * (turn % 15))
    )


def run(shape: tuple[int, int, int], rounds: int, browser) -> dict[str, float]:
    """Medians of one cube, and its memory."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        (folder / "notebooks").mkdir()
        cells = [PREPARE.format(shape=shape), BAND, ECHO, MATCHES]
        lab.write_notebook(folder / "notebooks" / "measure.ipynb", cells)
        with lab.jupyterlab(folder / "notebooks", folder) as address:
            page = browser.new_page(viewport={"width": 1300, "height": 2400})  # all explorers in sight
            page.set_default_timeout(120_000)
            page.goto(f"{address}/lab/tree/measure.ipynb?reset")
            page.wait_for_function(lab.KERNEL_IDLE)
            page.evaluate(FIRST, [0, ".jp-Notebook"])
            page.wait_for_function(f"() => {lab.CURRENT}.content.widgets[0].model.executionCount && {lab.KERNEL_IDLE}")
            found = {"first drawing": page.evaluate(FIRST, [1, ".BandExplorer canvas[data-frame]"])}
            for _ in range(10):
                page.locator(".noUi-handle").press("ArrowRight")
                page.wait_for_timeout(200)
            found |= memory(page, shape)
            page.evaluate(FIRST, [2, ".echo"])
            found["first drawing, matches"] = page.evaluate(FIRST, [3, ".MatchExplorer canvas[data-frame]"])
            page.wait_for_timeout(3000)
            found |= take_turns(page, rounds)
            found["burst"] = statistics.median(burst(page) for _ in range(2))
            page.close()
    return found


def take_turns(page, rounds: int) -> dict[str, float]:
    """Medians of the events, which take turns."""
    band, match = page.locator(".BandExplorer"), page.locator(".MatchExplorer")
    handle, image = band.locator(".noUi-handle"), band.locator("canvas.ctmem-canvas").first
    heat = match.locator("canvas.ctmem-canvas:not(.ctmem-second)").nth(2)
    events = {
        "echo": (lambda turn: page.locator(".echo").click(), page.locator(".echo")),
        "band step": (lambda turn: handle.press("ArrowRight"), image),
        "click to spectrum": (lambda turn: click(page, image, turn), band.locator(".ctmem-plot svg").first),
        "match click": (lambda turn: click(page, match.locator("canvas.ctmem-canvas").first, turn), heat),
    }
    times: dict[str, list[float]] = {name: [] for name in events}
    for turn in range(rounds + 1):  # the first is not counted
        for name, (act, node) in events.items():
            times[name].append(measure(page, partial(act, turn), node))
    return {name: statistics.median(values[1:]) for name, values in times.items()}


def burst(page, count: int = 60) -> float:
    """Milliseconds from the last of many key presses in a row to the drawing of the band they end at."""
    handle, image = page.locator(".BandExplorer .noUi-handle"), page.locator(".BandExplorer canvas.ctmem-canvas").first
    start = int(image.get_attribute("data-frame"))
    page.evaluate(BURST, [image.element_handle(), start + count])
    handle.focus()
    for _ in range(count):
        page.keyboard.press("ArrowRight")
    return page.evaluate("() => window.measured")


def memory(page, shape: tuple[int, int, int]) -> dict[str, float]:
    """What the kernel needed beside the cube at its peak, and what was sent to the browser, MB."""
    ask = f"""async (code) => (await {lab.CURRENT}.sessionContext.session.kernel.requestExecute(
        {{ code: "", silent: true, user_expressions: {{ a: code }} }}).done).content.user_expressions.a.data["text/plain"]"""
    extra = float(page.evaluate(ask, "peak_mb() - before"))
    sent = float(page.evaluate(ask, "len(band.views[0].data) / 1e6"))
    return {"kernel": extra, "sent": sent, "cube": 4 * shape[0] * shape[1] * shape[2] / 1e6}


def report(results: dict[str, dict[str, float]], rounds: int) -> str:
    """The page of results."""
    small, large = results.values()
    rows = []
    for event, limit in LIMITS.items():
        cells = [f"{small[event]:.0f} ms", f"≤ {limit} ms", f"{large[event]:.0f} ms", f"≤ {TIMES * limit} ms"]
        ratios = [f"{one[event] / one['echo']:.2f}" if event != "first drawing" else "" for one in (small, large)]
        rows.append([event, *cells, *ratios])
    rows.append(
        ["last of 60 band steps in a row", f"{small['burst']:.0f} ms", "", f"{large['burst']:.0f} ms", ""]
        + [f"{one['burst'] / one['echo']:.2f}" for one in (small, large)]
    )
    rows.append(["echo", f"{small['echo']:.0f} ms", "", f"{large['echo']:.0f} ms", "", "1", "1"])
    names = list(results)
    header = ["event", names[0], "aim", names[1], "aim", "over echo", "over echo, large"]
    spaces = [
        [name, f"{one['cube']:.0f}", f"{one['kernel']:.0f}", f"{one['kernel'] / one['cube']:.2f}", f"{one['sent']:.1f}"]
        for name, one in results.items()
    ]
    header_2 = [
        "cube",
        "its size, MB",
        "kernel's peak above it, MB",
        "over its size (aim ≤ 1.5)",
        "sent to the browser, MB",
    ]
    return "\n".join(
        [
            "# The explorers in a browser", "", machine.describe("jupyterlab", "ipywidgets", "anywidget"), "",
            f"Medians of {rounds} events each, in turns. Matches: P 8, stride 2, {MATCH}, a query of 144×144 px.", "",
            machine.table(header, rows), "",
            "Memory of the band explorer after ten steps, with the libraries it loads and its static figure.", "",
            machine.table(header_2, spaces), "", READING,
        ]
    )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15, help="events of each kind")
    rounds = parser.parse_args().rounds
    if not lab.CHROMIUM:
        raise SystemExit("Chromium is not installed: nothing to measure in.")
    with lab.chromium() as browser:
        results = {name: run(shape, rounds, browser) for name, shape in SIZES.items()}
    machine.write("explorers", report(results, rounds))


if __name__ == "__main__":
    main()
