"""Explorers in a real JupyterLab: hands and keys on one side, pixels, drawn lines and Python's state on the other."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from pages import Page, Panel
from real_browser import write_notebook

from ctmem.explorers.render import bands_of, colours, palette, quantise, stretch
from ctmem.scenes import load_scene

SHAPE = (145, 145)
TABS = {
    "bands": "BandExplorer",
    "degradation": "DegradationExplorer",
    "matches": "MatchExplorer",
    "diffusion": "DiffusionExplorer",
}


def coloured(numbers: np.ndarray, colour_map: str = "viridis") -> np.ndarray:
    """What a canvas holds of the numbers of a palette."""
    return np.frombuffer(palette(colour_map), np.uint8).reshape(256, 4)[numbers]


def band_image(cube: np.ndarray, band: int) -> np.ndarray:
    return coloured(quantise(cube[..., band], stretch(cube[..., band])))


def assert_drawn(points: np.ndarray, values: np.ndarray) -> None:
    """The points of a line are these values, whatever the axis: one gain and one offset fit them all."""
    values = values[np.isfinite(values)]
    assert len(points) == len(values)
    fit = np.polyval(np.polyfit(values, points[:, 1], 1), values)
    assert fit[values.argmax()] < fit[values.argmin()]  # up is more
    np.testing.assert_allclose(points[:, 1], fit, atol=0.11)  # drawn to a tenth of a pixel


def test_band_explorer(open_notebook, notebook_folder: Path, pictures: Path):
    cells = [
        "from ctmem.explorers import BandExplorer\nfrom ctmem.scenes import load_scene",
        "explorer = BandExplorer(load_scene('indian_pines'))\nexplorer",
    ]
    write_notebook(notebook_folder / "band.ipynb", cells)
    page: Page = open_notebook("band.ipynb")
    panel, scene = page.explorer("BandExplorer"), load_scene("indian_pines")
    cube = scene.cube

    bands = bands_of("true colour", scene.wavelengths_nm)
    np.testing.assert_array_equal(
        panel.pixels(), colours(cube[..., list(bands)], [stretch(cube[..., b]) for b in bands])
    )

    first = page.ask("explorer.band")
    panel.slider("band").press("ArrowRight")
    panel.until_text(f"(band {first + 1})")
    page.until(lambda: np.array_equal(panel.pixels(), band_image(cube, first + 1)), "the next band")
    page.until(lambda: page.ask("explorer.band") == first + 1, "Python's band")

    panel.click(30, 100, SHAPE)
    panel.until_text("row 30, column 100")
    assert page.ask("explorer.pixel") == (30, 100)
    np.testing.assert_array_equal(
        np.float32(page.ask("list(map(float, explorer.spectra['indian_pines']))")), cube[30, 100]
    )
    order = np.argsort(scene.wavelengths_nm, kind="stable")  # its spectrometers overlap
    assert_drawn(panel.line("cursor (30, 100)"), cube[30, 100][order])

    panel.press("ArrowDown", "ArrowRight", "Shift+ArrowLeft", "Enter")
    panel.until_text("row 31, column 91")
    page.until(lambda: page.ask("explorer.pins") == [(31, 91)], "the pin")
    panel.click(140, 5, SHAPE, modifiers=["Shift"])
    page.until(lambda: page.ask("explorer.pins") == [(31, 91), (140, 5)], "the second pin")
    panel.root.locator("g[data-name='2 (140, 5)']").wait_for()
    assert_drawn(panel.line("1 (31, 91)"), cube[31, 91][order])
    page.screenshot("band_explorer", pictures)
    panel.push("clear pins")
    page.until(lambda: page.ask("explorer.pins") == [], "no pins")
    panel.push("pin pixel")
    page.until(lambda: page.ask("explorer.pins") == [(140, 5)], "a pin")

    plot = panel.root.locator(".ctmem-plot-frame")
    plot.click(position={"x": plot.bounding_box()["width"] - 20, "y": 100})
    page.until(lambda: page.ask("explorer.band") >= 195, "a band at the right end")
    page.until(lambda: np.array_equal(panel.pixels(), band_image(cube, page.ask("explorer.band"))), "that band")

    panel.choose("show", "NDVI, vegetation")
    before = panel.until_changed(panel.pixels())
    assert page.ask("explorer.views[0].limits") == [[-1.0, 1.0]]
    panel.press("+", "+")
    page.until(lambda: page.ask("explorer.views[0].zoom") == 4, "zoom")
    np.testing.assert_array_equal(panel.pixels(), before)
    panel.press("0")
    panel.choose("show", "one band")
    panel.until_changed(before)
    before = panel.pixels()
    panel.choose("stretch", "all bands")
    panel.until_changed(before)


def test_a_burst_of_slider_events_ends_where_the_hand_ended(open_notebook, notebook_folder: Path):
    cells = [
        "from ctmem.explorers import BandExplorer\nfrom ctmem.scenes import synthetic",
        "explorer = BandExplorer(synthetic(0, height=40, width=50, bands=120))\nexplorer.show.value = 'one band'\nexplorer",
    ]
    write_notebook(notebook_folder / "burst.ipynb", cells)
    page: Page = open_notebook("burst.ipynb")
    panel: Panel = page.explorer("BandExplorer")
    start, handle = page.ask("explorer.band"), panel.slider("band")
    handle.focus()
    for _ in range(60):
        page.page.keyboard.press("ArrowRight")
    page.until(lambda: panel.canvas().get_attribute("data-frame") == str(start + 60), "the last frame")
    page.until(lambda: page.ask("explorer.band") == start + 60, "Python's last band")
    panel.until_text(f"(band {start + 60})")
    page.page.wait_for_timeout(300)  # nothing comes after it
    assert panel.canvas().get_attribute("data-frame") == str(start + 60)


def test_cubes_beside_each_other_and_a_divider(open_notebook, notebook_folder: Path):
    cells = [
        "from ctmem.explorers import BandExplorer\nfrom ctmem.scenes import synthetic",
        "gt = synthetic(0, height=30, width=40, bands=31)",
        "cubes = {'up': gt.cube * 0.5, 'pred': gt.cube * 0.75, 'gt': gt}",
        "explorer = BandExplorer(cubes, target='gt')\nexplorer",
    ]
    write_notebook(notebook_folder / "compare.ipynb", cells)
    page: Page = open_notebook("compare.ipynb")
    panel = page.explorer("BandExplorer")
    page.until(lambda: panel.root.locator(".ctmem-frame").count() == 4, "four images")
    panel.click(7, 11, (30, 40), number=2)
    panel.until_text("row 7, column 11")
    assert page.ask("[view.cursor for view in explorer.views]") == [[7, 11]] * 4
    lines = [panel.line(f"cursor (7, 11) {name}")[:, 1] for name in ("up", "pred", "gt")]
    np.testing.assert_allclose(lines[1] - lines[0], lines[2] - lines[1], atol=0.21)  # halves and quarters

    before = panel.pixels(3)
    panel.choose("error of", "pred")
    panel.until_changed(before, 3)
    panel.choose("images", "swipe up | gt")
    page.until(lambda: panel.root.locator(".ctmem-frame").count() == 1, "one image")
    np.testing.assert_array_equal(panel.pixels(second=True), panel.pixels(second=True))
    handle = panel.root.get_by_role("slider", name="divider between two images")
    handle.press("ArrowRight")
    page.until(lambda: page.ask("round(explorer.views[0].swipe, 2)") == 0.55, "the divider by keys")
    box = panel.canvas().bounding_box()
    handle.hover()
    page.page.mouse.down()
    page.page.mouse.move(box["x"] + 0.25 * box["width"], box["y"] + 20, steps=3)
    page.page.mouse.up()
    page.until(lambda: abs(page.ask("explorer.views[0].swipe") - 0.25) < 0.02, "the divider by hand")


def test_the_dashboard_as_a_page_of_its_own(dashboard: Page):
    """All four explorers in tabs that are made when opened, each answering a click; no other server is asked."""
    first = dashboard.explorer("BandExplorer")
    for title, kind in TABS.items():
        dashboard.page.get_by_role("tab", name=title).click()
        panel = dashboard.explorer(kind)
        before = panel.said()
        panel.click(2, 3, (10, 10))
        panel.until_said(before)
    dashboard.page.get_by_role("tab", name="bands").click()
    before = first.pixels()
    first.slider("band").press("ArrowRight")
    first.until_changed(before)
    assert dashboard.asked_elsewhere == []
