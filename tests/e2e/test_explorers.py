"""Explorers in a real JupyterLab: hands and keys on one side, pixels, drawn lines and Python's state on the other."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import numpy as np
import psutil
import pytest
import rasterio
from pages import RESTART, Page, Panel
from real_browser import NOTEBOOKS

from ctmem.data.scenes import load_scene, synthetic
from ctmem.explorers.render import bands_of, colours, palette, quantise, stretch
from tests.test_own_scene import coarse, write_tif

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


def test_band_explorer(open_page, pictures: Path):
    page: Page = open_page("01_data_construction.ipynb")
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
    page.screenshot(panel, "band_explorer", pictures)
    panel.push("clear pins")
    page.until(lambda: page.ask("explorer.pins") == [], "no pins")
    panel.push("pin pixel")
    page.until(lambda: page.ask("explorer.pins") == [(140, 5)], "a pin")

    plot = panel.root.locator(".ctmem-plot-frame")
    plot.click(position={"x": plot.bounding_box()["width"] - 20, "y": 100})
    page.until(lambda: page.ask("explorer.band") >= 195, "a band at the right end")
    page.until(lambda: np.array_equal(panel.pixels(), band_image(cube, page.ask("explorer.band"))), "that band")

    before = panel.pixels()
    panel.choose("show", "NDVI, vegetation")
    before = panel.until_changed(before)
    assert page.ask("explorer.views[0].limits") == [[-1.0, 1.0]]
    panel.press("+", "+")
    page.until(lambda: page.ask("explorer.views[0].zoom") == 4, "zoom")
    np.testing.assert_array_equal(panel.pixels(), before)
    drag_while_zoomed(page, panel)
    panel.press("0")
    panel.choose("show", "one band")
    panel.until_changed(before)
    before = panel.pixels()
    panel.choose("stretch", "all bands")
    panel.until_changed(before)


def drag_while_zoomed(page: Page, panel: Panel) -> None:
    """At four times the size, a hand moves 20 screen pixels, as far as two pixels of the image, and pins where it ends."""
    canvas, frame = panel.canvas().bounding_box(), panel.root.locator(".ctmem-frame").first.bounding_box()
    size = canvas["width"] / SHAPE[1]
    x, y = frame["x"] + 100.0, frame["y"] + 120.0
    place = [int((y - canvas["y"]) / size), int((x - canvas["x"]) / size)]
    page.page.mouse.move(x, y)
    page.page.mouse.down()
    page.page.mouse.move(x + 2 * size, y, steps=5)
    page.page.mouse.up()
    page.until(lambda: page.ask("explorer.pixel") == (place[0], place[1] + 2), "two pixels to the right")
    page.page.keyboard.down("Shift")
    page.page.mouse.click(x - 60, y)
    page.page.keyboard.up("Shift")
    pinned = (place[0], int((x - 60 - canvas["x"]) / size))
    page.until(lambda: page.ask("(explorer.pixel, explorer.pins[-1])") == (pinned, pinned), "the pin under the hand")


def test_degradation_explorer(open_page, pictures: Path):
    page: Page = open_page("01_data_construction.ipynb")
    panel = page.explorer("DegradationExplorer")
    cube = load_scene("indian_pines").cube

    for label, key, value in (("PSF FWHM (fine px)", "ArrowRight", "fwhm"), ("SNR of lr_hsi", "ArrowLeft", "snr_db"),
                              ("scale", "ArrowLeft", "scale")):  # fmt: skip
        before, said, old = panel.pixels(1), panel.said(), page.ask(f"degradation.{value}")
        panel.slider(label).press(key)
        panel.until_changed(before, 1)
        panel.until_said(said)
        assert page.ask(f"degradation.{value}") != old
        panel.until_shown("degradation.lr_view", 1)

    panel.click(100, 20, SHAPE, number=1)
    panel.until_text("row 100, column 20")
    assert page.ask("degradation.pixel") == (100, 20)
    order = np.argsort(load_scene("indian_pines").wavelengths_nm, kind="stable")
    assert_drawn(panel.line("gt, fine pixel", 1), cube[100, 20][order])
    place = "degradation.lr_hsi[0, :, 100 // degradation.scale, 20 // degradation.scale].tolist()"
    assert_drawn(panel.line("lr_hsi, coarse pixel", 1), np.array(page.ask(place))[order])
    panel.press("ArrowUp", number=2)
    panel.until_text("row 99, column 20")
    page.screenshot(panel, "degradation_explorer", pictures)

    before = panel.pixels(2)
    panel.choose("MSI sensor", "landsat8")
    panel.until_changed(before, 2)
    assert page.ask("degradation.sensor") == "landsat8"
    lines = panel.root.locator(".ctmem-plot").nth(2).locator("g.ctmem-line")
    count = lines.count()
    panel.choose("MSI bands", "all that the scene covers")
    page.until(lambda: lines.count() > count, "more responses")


def test_a_burst_of_slider_events_ends_where_the_hand_ended(open_page):
    """Of a small stack, which is in the browser, of a large one, whose frames Python sends, and where Python computes."""
    page: Page = open_page("01_data_construction.ipynb")
    cube = load_scene("indian_pines").cube
    panel = page.explorer("BandExplorer")
    for whole in (12_000_000, 0):  # bytes of a stack that goes to the browser whole
        sized = f"from ctmem.explorers import view; view.WHOLE = {whole}; explorer.show.value = 'one band'; explorer._redraw()"
        assert page.ask("explorer.scale.value", after=f"{sized}; explorer.scale.value = 'each band'") == "each band"
        end = page.ask("explorer.band", after="explorer.band = 20") + 60
        panel.until_text("(band 20)")
        panel.slider("band").focus()
        for _ in range(60):
            page.page.keyboard.press("ArrowRight")
        page.until(lambda: panel.canvas().get_attribute("data-frame") == str(end), "the last frame")  # noqa: B023
        page.until(lambda: page.ask("explorer.band") == end, "Python's last band")  # noqa: B023
        panel.until_text(f"(band {end})")
        page.until(lambda: np.array_equal(panel.pixels(), band_image(cube, end)), "the last band")  # noqa: B023

    panel = page.explorer("DegradationExplorer")
    assert page.ask("degradation.snr_db", after="degradation.snr_db = 10") == 10
    panel.until_text(" 10 dB")
    panel.slider("SNR of lr_hsi").focus()
    for _ in range(30):
        page.page.keyboard.press("ArrowRight")
    page.until(lambda: page.ask("degradation.snr_db") == 40, "Python's last level")
    panel.until_text(" 40 dB")
    page.page.wait_for_timeout(300)  # nothing comes after it
    panel.until_shown("degradation.lr_view", 1)
    assert page.ask("degradation.snr_db") == 40


def test_cubes_beside_each_other_and_a_divider(open_page):
    page: Page = open_page("01_data_construction.ipynb")
    gt = synthetic(0, height=30, width=40, bands=31)
    cubes = {"lr_hsi_up": gt.cube * np.float32(0.5), "pred": gt.cube * np.float32(0.75), "gt": gt.cube}
    page.run_cell(
        "from ctmem.data.scenes import synthetic\ngt = synthetic(0, height=30, width=40, bands=31)\n"
        "cubes = {'lr_hsi_up': gt.cube * np.float32(0.5), 'pred': gt.cube * np.float32(0.75), 'gt': gt}\n"
        "several = BandExplorer(cubes, target='gt')\nseveral.error_of.value = 'pred'\nseveral"
    )
    panel = page.explorer("BandExplorer", 1)
    page.until(lambda: panel.root.locator(".ctmem-frame").count() == 4, "four images")
    panel.click(7, 11, (30, 40), number=2)
    panel.until_text("row 7, column 11")
    page.until(lambda: page.ask("[view.cursor for view in several.views]") == [[7, 11]] * 4, "linked cursors")
    for name, cube in cubes.items():
        assert_drawn(panel.line(f"cursor (7, 11) {name}"), cube[7, 11])

    before = panel.pixels(3)
    panel.choose("error of", "lr_hsi_up")
    panel.until_changed(before, 3)
    for number in range(4):
        panel.until_shown(f"several.views[{number}]", number)
    left, right = panel.pixels(0), panel.pixels(2)
    panel.choose("images", "swipe lr_hsi_up | gt")
    page.until(lambda: panel.root.locator(".ctmem-frame").count() == 1, "one image")
    np.testing.assert_array_equal(panel.pixels(), left)
    np.testing.assert_array_equal(panel.pixels(second=True), right)
    handle = panel.root.get_by_role("slider", name="divider between two images")
    handle.press("ArrowRight")
    page.until(lambda: page.ask("round(several.views[0].swipe, 2)") == 0.55, "the divider by keys")
    box = panel.canvas().bounding_box()
    handle.hover()
    page.page.mouse.down()
    page.page.mouse.move(box["x"] + 0.25 * box["width"], box["y"] + 20, steps=3)
    page.page.mouse.up()
    page.until(lambda: abs(page.ask("several.views[0].swipe") - 0.25) < 0.02, "the divider by hand")


def test_match_explorer(open_page, pictures: Path):
    page: Page = open_page("04_patch_matching.ipynb")
    panel = page.explorer("MatchExplorer")
    shape, reference = page.ask("explorer.size"), page.ask("explorer.reference_size")

    panel.click(9, 41, shape)
    panel.until_text("patch (")
    page.until(lambda: page.ask("explorer.pixel") == (9, 41), "Python's pixel")
    panel.until_shown("explorer.heat", 2)
    assert panel.said() == page.ask("explorer.label")
    page.until(lambda: panel.marks(1) == page.ask("len(explorer.reference.marks)") > 0, "outlines in the reference")
    best = page.ask("explorer.windows[0].tolist()[:2]")
    assert page.ask("[[mark['row'], mark['column']] for mark in explorer.reference.marks if mark['text'] == '1']") == [
        best
    ]
    assert panel.root.locator("img.ctmem-tile").count() == 2 * (1 + page.ask("len(explorer.reference.marks)"))

    before, said = panel.pixels(2), panel.said()
    panel.press("ArrowDown", "ArrowDown")
    panel.until_said(said)
    panel.until_changed(before, 2)
    panel.until_shown("explorer.heat", 2)
    page.screenshot(panel, "match_explorer", pictures)

    said = panel.said()
    panel.click(20, 32, reference, number=1)
    panel.until_said(said)
    assert page.ask("explorer.source") == (20, 32)
    page.until(lambda: panel.marks(0) == page.ask("len(explorer.query.marks)") > 0, "outlines in the query")

    for label, key, setting in (
        ("temperature", "ArrowRight", "temperature"), ("stride (px)", "ArrowRight", "stride"), ("P (px)", "ArrowLeft", "patch"),
    ):  # fmt: skip
        value, before = page.ask(f"explorer.config.{setting}"), panel.pixels(5)
        panel.slider(label).press(key)
        panel.until_changed(before, 5)
        assert page.ask(f"explorer.config.{setting}") != value
        panel.until_shown("explorer.difference", 5)
    before = panel.pixels(5)
    panel.choose("similarity", "l2")
    panel.until_changed(before, 5)
    assert page.ask("explorer.config.similarity") == "l2"
    panel.click(30, 30, shape)
    panel.until_text("patch (")
    before = page.ask("[mark['row'] for mark in explorer.reference.marks]")
    panel.choose("windows", "6 best")
    page.until(lambda: page.ask("[mark['row'] for mark in explorer.reference.marks]") != before, "other windows")


def test_diffusion_explorer(open_page, pictures: Path):
    page: Page = open_page("08_sampling.ipynb")
    panel = page.explorer("DiffusionExplorer")
    rows, columns, _ = page.ask("explorer.run.shape")

    start, before = page.ask("explorer.step"), [panel.pixels(number) for number in range(4)]
    panel.slider("step").press("ArrowLeft")
    for number, view in enumerate(before):
        panel.until_changed(view, number)
        panel.until_shown(f"explorer.views[{number}]", number)
    page.until(lambda: page.ask("explorer.step") == start - 1, "Python's step")
    panel.until_text(f"step {start - 1} ")

    panel.click(11, 7, (rows, columns), number=2)
    panel.until_text("row 11, column 7")
    page.until(lambda: page.ask("explorer.pixel") == (11, 7), "Python's pixel")
    nm = np.array(page.ask("explorer.wavelengths_nm.tolist()"))
    for key, name in (("x0", "x̂0"), ("target", "target"), ("x_t", "x_t")):
        assert_drawn(
            panel.line(name), np.array(page.ask(f"explorer.spectra['{key}'].tolist()"))[np.argsort(nm, kind="stable")]
        )
    panel.press("ArrowRight", number=1)
    panel.until_text("row 11, column 8")

    before = panel.pixels(1)
    panel.choose("draw", "1 (of 4)")
    panel.until_changed(before, 1)
    assert page.ask("explorer.draw") == 1
    page.screenshot(panel, "diffusion_explorer", pictures)
    before = panel.pixels(1)
    panel.choose("show", "false colour (near infrared, red, green)")
    panel.until_changed(before, 1)
    curve = panel.root.locator(".ctmem-plot-frame").nth(1)
    curve.click(position={"x": 70, "y": 40})
    page.until(lambda: page.ask("explorer.step") == 0, "the first step")
    panel.until_shown("explorer.views[1]", 1)
    curve.press("ArrowRight")
    page.until(lambda: page.ask("explorer.step") == 1, "the next step")


def test_the_dashboard_as_a_page_of_its_own(open_page):
    """All four explorers in tabs that are made when opened, each answering a click; no other server is asked."""
    dashboard: Page = open_page("dashboard")
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


def test_the_form_takes_a_scene_from_file_to_file(open_page, tmp_path: Path):
    """What is typed is taken, what is wrong is said on the page, and the file is there at the end."""
    page: Page = open_page("05_spectral_evaluation.ipynb")
    write_tif(tmp_path / "lr.tif", *coarse())
    page.run_cell("from ctmem.explorers import SceneForm\nform = SceneForm(method='bicubic-bp')\nform")
    form = page.page.locator(".ctmem-form")
    file, output = form.get_by_placeholder("lr.hdr"), form.get_by_placeholder("sr.tif")
    look, sharpen = (form.get_by_role("button", name=name) for name in ("Look", "Sharpen"))
    file.fill("none.tif")
    look.click()
    form.get_by_text("error: `path` must be an existing file").wait_for()
    file.fill(str(tmp_path / "lr.tif"))
    form.locator("select").first.select_option(label="×2")
    look.click()
    form.get_by_text("20×26 px, 9 bands, int16").wait_for()
    output.fill(str(tmp_path / "sr.tif"))
    output.press("Tab")
    sharpen.click()
    form.get_by_text("sr.tif and its card are written").wait_for()
    page.until(look.is_enabled, "buttons that are on again")
    with rasterio.open(tmp_path / "sr.tif") as written:
        assert (written.count, written.height, written.width) == (9, 40, 52)


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_explorers_fit_the_screen_of_a_small_laptop(open_page, name: str):
    """Each is seen whole between JupyterLab's bars, at 1366×768, and nothing in it is cut off at its right."""
    page: Page = open_page(name)
    paper = page.page.locator(".jp-WindowedPanel-outer").first.bounding_box()
    explorers = page.page.locator(".ctmem-explorer")
    assert explorers.count()
    for number in range(explorers.count()):
        box = explorers.nth(number).bounding_box()
        assert box["height"] <= paper["height"]
        assert box["x"] + box["width"] <= paper["x"] + paper["width"]
        assert explorers.nth(number).evaluate("(element) => element.scrollWidth <= element.clientWidth")


AFTER = "(element) => getComputedStyle(element, '::before').content"
ENDED = "The kernel of this explorer has ended"


def test_an_explorer_whose_kernel_was_restarted_says_so(open_page):
    """Last in this file, with the next two: nothing answers the explorer any more, and a line above its images says it."""
    page: Page = open_page("08_sampling.ipynb")
    root = page.explorer("DiffusionExplorer").root
    assert root.evaluate(AFTER) == "none"
    page.page.evaluate(RESTART)
    page.until(lambda: ENDED in root.evaluate(AFTER), "the line that says so")


def test_an_explorer_whose_kernel_died_says_so(open_page):
    """As the system ends a kernel where memory is short: no message, no goodbye."""
    page: Page = open_page("04_patch_matching.ipynb")
    root = page.explorer("MatchExplorer").root
    assert root.evaluate(AFTER) == "none"
    os.kill(page.ask("os.getpid()", after="import os"), signal.SIGKILL)
    page.until(lambda: ENDED in root.evaluate(AFTER), "the line that says so")


def test_the_dashboard_says_that_its_kernel_died(open_page):
    """Voilà has no dialog for it."""
    page: Page = open_page("dashboard")
    root = page.explorer("BandExplorer").root
    assert root.evaluate(AFTER) == "none"
    servers = [one for one in psutil.Process().children() if any("voila" in word for word in one.cmdline())]
    kernels = [
        one for server in servers for one in server.children(recursive=True) if "ipykernel_launcher" in one.cmdline()
    ]
    assert kernels
    for kernel in kernels:
        kernel.kill()
    page.until(lambda: ENDED in root.evaluate(AFTER), "the line that says so")
