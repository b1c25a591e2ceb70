"""ctmem/explorers/render.py and view.py: what goes to the browser, and how Python answers it; without a browser."""

from __future__ import annotations

import subprocess
import sys

import ipywidgets
import numpy as np
import pytest
from matplotlib import colormaps

from ctmem.checks import fail
from ctmem.evaluation.plots import Picture
from ctmem.explorers import BandExplorer, Tabs, view
from ctmem.explorers.render import (
    bands_of,
    colours,
    nearest_band,
    normalised_difference,
    paint,
    palette,
    quantise,
    stretch,
)  # fmt: skip
from ctmem.explorers.view import ImageView, LinePlot, Stack, line, link, mark, set_all

RAMP = np.array([[0.0, 0.5, 1.0], [np.nan, -3.0, 9.0]])


def test_without_the_widget_libraries_one_clear_error():
    program = "import sys; sys.modules['anywidget'] = None; import ctmem.explorers"
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, encoding="utf-8", timeout=60)
    assert "ImportError: `ctmem.explorers` needs ipywidgets and anywidget: pip install" in ran.stderr


def test_quantise_keeps_zero_for_holes():
    assert quantise(RAMP, (0.0, 1.0)).tolist() == [[1, 128, 255], [0, 1, 255]]


def test_quantise_is_exact_to_half_a_step():
    values = np.linspace(-2, 5, 1001)[None]
    back = (quantise(values, (-2, 5)).astype(float) - 1) / 254 * 7 - 2
    assert np.abs(back - values).max() <= 7 / 254 / 2 + 1e-6


def test_the_stretch_leaves_out_holes_and_the_extremes():
    plane = np.arange(10_000.0).reshape(100, 100)
    plane[0, :50] = np.nan
    low, high = stretch(plane)
    assert (low, high) == pytest.approx(tuple(np.nanpercentile(plane, (1, 99))))


def test_the_stretch_of_a_large_plane_is_about_that_of_all_its_pixels():
    plane = np.random.default_rng(0).normal(size=(900, 700))
    assert stretch(plane) == pytest.approx(tuple(np.percentile(plane, (1, 99))), abs=0.05)


@pytest.mark.parametrize(
    ("plane", "limits"),
    [
        (np.full((3, 4), np.nan), (0, 1)),
        (np.full((3, 4), 2.0), (2, 2 + 2e-6)),
        (np.full((3, 4), 5e3), (5e3, 5e3 + 5e-3)),
    ],
)
def test_the_stretch_of_nothing_has_a_width(plane, limits):
    assert stretch(plane) == pytest.approx(limits)


def test_colours_are_opaque_but_in_holes():
    image = np.array([[[0.0, 0.5, 1.0], [np.nan, 0.2, 0.2]]])
    assert colours(image).tolist() == [[[0, 128, 255, 255], [0, 0, 0, 0]]]
    limits = [(0, 1), (0, 0.5), (0, 2)]
    assert colours(image, limits)[0, 0].tolist() == [0, 255, round(255 * 0.5**0.7), 255]


def test_the_palette_begins_with_nothing_and_then_is_matplotlibs():
    table = np.frombuffer(palette("viridis"), np.uint8).reshape(256, 4)
    assert table[0].tolist() == [0, 0, 0, 0]
    assert table[1].tolist() == list(colormaps["viridis"](0.0, bytes=True))
    assert table[255].tolist() == list(colormaps["viridis"](1.0, bytes=True))
    np.testing.assert_array_equal(paint(np.array([[0, 255]], np.uint8))[0] * 255, table[[0, 255]])


def test_a_band_counts_as_near_within_60_nm():
    nm = np.array([450.0, 560.0, 640.0, 900.0])
    assert [nearest_band(nm, wanted) for wanted in (460, 845, 700.0, 701, 1650)] == [0, 3, 2, None, None]
    assert bands_of("true colour", nm) == (2, 1, 0)
    assert bands_of("NDVI, vegetation", nm) == (3, 2)
    assert bands_of("NDMI, moisture", nm) is None
    assert bands_of("true colour", None) is None


def test_normalised_difference_by_hand():
    a, b = np.array([3.0, 0.0, np.nan, 0.0]), np.array([1.0, 0.0, 1.0, 2.0])
    np.testing.assert_array_equal(normalised_difference(a, b), [0.5, 0.0, np.nan, -1.0])


# --- views ----------------------------------------------------------------------------------------------------------


def numbered(frames: int, height: int = 3, width: int = 5) -> Stack:
    """A stack whose frame n is n everywhere, with the limits (0, n)."""
    return Stack(lambda n: (np.full((height, width), n, np.uint8), (0.0, float(n))), frames=frames, unit="m")


def test_a_small_stack_is_sent_whole():
    one = ImageView()
    one.show(numbered(4))
    assert (one.height, one.width, one.channels, one.frames, one.first) == (3, 5, 1, 4, 0)
    assert one.data == b"".join(bytes([n]) * 15 for n in range(4))
    assert one.limits == [[0, 0], [0, 1], [0, 2], [0, 3]]
    assert (one.unit, one.palette, one.other, one.swipe) == ("m", palette("viridis"), b"", -1)


def test_of_a_large_stack_only_the_frame_asked_for(monkeypatch):
    monkeypatch.setattr(view, "WHOLE", 20)
    one = ImageView(frame=2)
    one.show(numbered(9))
    assert (one.first, one.data, one.limits) == (2, bytes([2]) * 15, [[0, 2]])
    one.set_state({"frame": 7})  # what a message from the browser does
    assert (one.first, one.data, one.limits) == (7, bytes([7]) * 15, [[0, 7]])
    one.set_state({"frame": 99})  # there is no such frame
    assert one.first == 7


def test_neighbours_of_a_large_stack_when_they_are_asked_for(monkeypatch):
    monkeypatch.setattr(view, "WHOLE", 20)
    monkeypatch.setattr(view, "AHEAD", 60)  # two frames on either side
    one = ImageView(frame=1)
    one._send_neighbours(one, {"ask": "neighbours"}, [])  # nothing is shown yet
    one.show(numbered(9))
    one._send_neighbours(one, {"ask": "neighbours"}, [])
    assert (one.first, one.data) == (0, b"".join(bytes([n]) * 15 for n in range(4)))
    assert one.limits == [[0, n] for n in range(4)]
    before = one.data
    one.set_state({"frame": 3})  # it is there
    assert one.data is before
    one.set_state({"frame": 5})
    assert (one.first, len(one.data)) == (5, 15)


def test_a_large_stack_that_is_shorter_than_the_frame_on_show(monkeypatch):
    monkeypatch.setattr(view, "WHOLE", 0)
    one = ImageView(frame=8)
    one.show(numbered(3))
    assert (one.first, one.data) == (2, bytes([2]) * 15)
    one._send_neighbours(one, {"ask": "neighbours"}, [])
    assert one.first == 0


def test_a_shorter_stack_after_a_long_one():
    one = ImageView(frame=8)
    one.show(numbered(9))
    one.show(Stack.of(np.zeros((2, 2, 4), np.uint8)))
    assert (one.channels, one.frames, one.limits, len(one.data)) == (4, 1, [], 16)


def test_two_stacks_with_a_divider_that_stays_where_it_was():
    one = ImageView()
    one.show(numbered(2), numbered(2))
    assert one.other == one.data
    assert one.swipe == 0.5
    one.swipe = 0.25
    one.show(numbered(2), numbered(2))
    assert one.swipe == 0.25


@pytest.mark.parametrize("other", [numbered(3), numbered(2, width=6)], ids=["frames", "size"])
def test_two_stacks_that_do_not_fit(other):
    with pytest.raises(ValueError, match=r"`other` must be 2 frame\(s\) of shape \(3, 5\), got"):
        ImageView().show(numbered(2), other)


def test_lines_break_at_holes():
    made = line("a", [1, 2, 3], [0.5, np.nan, np.inf], "#000000", dash="3 1")
    assert (made["x"], made["y"], made["dash"]) == ([1, 2, 3], [0.5, None, None], "3 1")


def test_marks_hold_plain_numbers():
    assert mark(np.int64(3), np.int64(4), "#fff", rows=2) == {
        "row": 3, "column": 4, "rows": 2, "columns": 1, "colour": "#fff", "text": "",
    }  # fmt: skip


def test_set_all_sets_the_first_last():
    views, order = [ImageView(name=str(n)) for n in range(3)], []
    for one in views:
        one.observe(lambda change: order.append(change["owner"].name), "zoom")
    set_all("zoom", 2.0, views)
    assert order == ["2", "1", "0"]


def test_links_are_made_in_the_browser_only():
    a, b = ImageView(), ImageView()
    link("frame", a, (b, "step"))
    a.frame = 5
    assert b.step == 1


def test_views_and_plots_are_drawn_into_figures():
    one, plot = ImageView(name="image", cursor=[1, 2], marks=[mark(0, 0, "#0072B2", text="1")]), LinePlot(limits=[0, 9])
    figure = Picture()
    left, right = figure.subplots(1, 2)
    one.draw(left)  # nothing to show yet
    one.show(numbered(2))
    one.draw(left)
    plot.lines = [line("a", [1, 2, 3], [1, 2, np.nan], "#000000"), line("b", [2], [2], "#ff0000", points=True)]
    plot.positions, plot.marker = [1, 2, 3], 1
    plot.draw(right)
    assert len(left.images) == 1
    assert len(left.patches) == 4  # a mark and the cursor, each with its rim
    assert [one.get_label() for one in right.lines[:2]] == ["a", "b"]
    assert right.get_ylim()[1] >= 9
    assert figure._repr_png_()[:4] == b"\x89PNG"


def test_tabs_make_what_is_opened():
    made = []

    def maker(name):
        return lambda: made.append(name) or ipywidgets.Label(name)

    tabs = Tabs({"a": maker("a"), "b": maker("b")})
    assert made == ["a"]
    tabs.selected_index = 1
    tabs.selected_index = 0
    tabs.selected_index = 1
    assert made == ["a", "b"]
    assert tabs.opened.value == "b"
    assert repr(tabs) == "Tabs(a, b)"
    assert tabs._repr_mimebundle_()["text/plain"] == "Tabs(a, b)"


def test_a_tab_that_cannot_be_made_says_why_and_is_tried_again():
    ready = []

    def maker():
        return ipywidgets.Label("there") if ready else fail("data", "loaded", "nothing")

    tabs = Tabs({"a": lambda: ipywidgets.Label("a"), "b": maker})
    with pytest.raises(ValueError, match="`data` must be loaded, got nothing"):
        tabs.selected_index = 1
    assert tabs.children[1].children[0].value == "This could not be made: `data` must be loaded, got nothing"
    tabs.selected_index = 0
    ready.append(True)
    tabs.selected_index = 1
    assert tabs.opened.value == "there"


def test_tabs_say_what_the_open_explorer_says():
    tabs = Tabs({"cube": lambda: BandExplorer(np.arange(24.0).reshape(2, 3, 4))})
    tabs.opened.pixel = (1, 2)
    bundle = tabs._repr_mimebundle_()
    assert bundle["text/plain"] == "Tabs(cube), open: row 1, column 2 · band 0: 20"
    assert bundle["image/png"][:4] == b"\x89PNG"


def test_no_tabs():
    with pytest.raises(ValueError, match="`makers` must be a dict with at least one title"):
        Tabs({})
