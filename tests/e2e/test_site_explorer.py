"""The band explorer of the site, in a real browser, from a file, without network."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import numpy as np
import pytest

from ctmem.data.scenes import load_scene

ROOT = Path(__file__).resolve().parents[2]
SITE = ROOT / "docs" / "site"
sys.path.insert(0, str(SITE))

from cube import EVERY, write_cube  # noqa: E402

SIZES = [(1300, 900), (420, 800)]


@pytest.fixture(scope="module")
def address(tmp_path_factory) -> str:
    """The explorer's part of its page, alone, with its cube, script and style."""
    folder = tmp_path_factory.mktemp("site")
    write_cube(folder / "cube.js")
    block = re.search(
        r'<div class="explorer">.*?\n</div>\n', (SITE / "explorer.md").read_text(encoding="utf-8"), re.DOTALL
    )[0]
    (folder / "explorer.js").write_text((SITE / "static" / "explorer.js").read_text(encoding="utf-8"), encoding="utf-8")
    style = (SITE / "static" / "site.css").read_text(encoding="utf-8")
    page = (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><style>{style}</style><body data-theme="light">{block}'
    )
    scripts = '<script src="cube.js"></script><script src="explorer.js"></script>'
    (folder / "page.html").write_text(page + scripts, encoding="utf-8")
    return (folder / "page.html").as_uri()


@pytest.fixture(params=SIZES, ids=["wide", "narrow"])
def page(address, browser, request):
    width, height = request.param
    tab = browser.new_page(viewport={"width": width, "height": height})
    tab.faults = []
    tab.on("pageerror", lambda error: tab.faults.append(str(error)))
    tab.goto(address)
    yield tab
    assert tab.faults == []
    tab.close()


def said(page) -> tuple[int, int, float, int]:
    """Row, column, value and nm of the line below the images."""
    text = page.inner_text("#explorer-said")
    return tuple(
        float(number) for number in re.fullmatch(r"Row (\d+), column (\d+): ([\d.]+) at (\d+) nm", text).groups()
    )


def truth(row: float, column: float, nm: float) -> float:
    scene = load_scene("indian_pines")
    kept = scene.wavelengths_nm[::EVERY]
    return scene.cube[:, :, ::EVERY][int(row), int(column), int(np.abs(kept - nm).argmin())]


def test_it_fits_the_window_and_shows_an_image(page):
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    colours = page.evaluate(
        "(c => new Set(c.getContext('2d').getImageData(0, 0, c.width, c.height).data).size)"
        "(document.getElementById('explorer-image'))"
    )
    assert colours > 100


def test_a_click_shows_the_value_of_that_pixel(page):
    box = page.locator("#explorer-image").bounding_box()
    page.mouse.click(box["x"] + box["width"] * 10.5 / 96, box["y"] + box["height"] * 20.5 / 64)
    row, column, value, nm = said(page)
    assert (row, column) == (20, 10)
    assert value == pytest.approx(truth(row, column, nm), abs=0.0075)  # two digits, 256 steps


def test_keys_alone_reach_everything(page):
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "explorer-view"
    page.keyboard.press("Tab")
    before = said(page)
    page.keyboard.press("ArrowRight")
    assert said(page)[3] > before[3]
    assert page.input_value("#explorer-view") == "one band"
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "explorer-image"
    for key in ("ArrowDown", "ArrowRight", "Shift+ArrowRight", "ArrowUp", "ArrowUp"):
        page.keyboard.press(key)
    row, column, value, nm = said(page)
    assert (row, column) == (before[0] - 1, before[1] + 11)
    assert value == pytest.approx(truth(row, column, nm), abs=0.0075)
    for _ in range(12):
        page.keyboard.press("Shift+ArrowRight")
    assert said(page)[1] == 95  # it stops at the border


def test_a_click_into_the_spectrum_shows_that_band(page):
    box = page.locator("#explorer-plot").bounding_box()
    page.mouse.click(box["x"] + box["width"] * 56 / 630 + 1, box["y"] + box["height"] / 2)
    assert said(page)[3] == pytest.approx(load_scene("indian_pines").wavelengths_nm[0], abs=25)


def test_every_control_has_a_name(page):
    for selector in ("#explorer-view", "#explorer-band"):
        assert page.evaluate("s => document.querySelector(s).labels.length", selector) == 1
    for selector in ("#explorer-image", "#explorer-plot"):
        assert len(page.get_attribute(selector, "aria-label")) > 40
    assert page.get_attribute("#explorer-said", "role") == "status"
    assert page.get_attribute("#explorer-band", "aria-valuetext").endswith(" nm")
