"""ctmem/explorers/band.py without a browser: what a click, a slider and a menu do to Python's state."""

from __future__ import annotations

import gc
import weakref
from dataclasses import replace

import numpy as np
import pytest
import torch

from ctmem.data.scenes import synthetic
from ctmem.evaluation.plots import Picture
from ctmem.explorers import BandExplorer
from ctmem.explorers.band import ONE_BAND, absolute_error, rms_error
from ctmem.explorers.render import colours, normalised_difference, quantise, stretch
from ctmem.explorers.view import isolated

SCENE = synthetic(3, height=12, width=20, bands=31)


def frames(view) -> np.ndarray:
    """What was sent: (frames, H, W) or (frames, H, W, 4)."""
    shape = (view.height, view.width) + (4,) * (view.channels == 4)
    return np.frombuffer(view.data, np.uint8).reshape(-1, *shape)


@pytest.fixture
def explorer() -> BandExplorer:
    return BandExplorer(SCENE)


@pytest.fixture
def several() -> BandExplorer:
    return BandExplorer({"up": SCENE.cube * 0.5, "pred": SCENE.tensor() * 0.9, "gt": SCENE}, target="gt")


def test_begins_in_true_colour_in_the_middle(explorer):
    view = explorer.views[0]
    bands = [int(np.abs(SCENE.wavelengths_nm - nm).argmin()) for nm in (650, 550, 460)]
    expected = colours(SCENE.cube[..., bands], [stretch(SCENE.cube[..., band]) for band in bands])
    np.testing.assert_array_equal(frames(view)[0], expected)
    assert explorer.pixel == (6, 10)
    assert explorer.band == bands[0]
    assert view.frame == explorer.plot.marker == explorer.band


def test_a_click_shows_the_spectrum_of_that_pixel(explorer):
    explorer.views[0].set_state({"cursor": [3, 7]})  # what a message from the browser does
    np.testing.assert_array_equal(explorer.spectra["synthetic_3"], SCENE.cube[3, 7])
    (line,) = explorer.plot.lines
    assert line["name"] == "cursor (3, 7)"
    np.testing.assert_allclose(line["y"], SCENE.cube[3, 7])
    np.testing.assert_allclose(line["x"], SCENE.wavelengths_nm)
    value = SCENE.cube[3, 7, explorer.band]
    assert explorer.label == f"row 3, column 7 · 623 nm (band 3): {value:.4g}"
    assert explorer.label in explorer.status.value


def test_pins_keep_their_spectra_and_colours(explorer):
    explorer.pixel = (0, 0)
    explorer.pin.click()
    explorer.pin.click()  # twice the same is one
    explorer.pixel = (5, 6)
    explorer.pin.click()
    explorer.pixel = (11, 19)
    assert explorer.pins == [(0, 0), (5, 6)]
    names = [line["name"] for line in explorer.plot.lines]
    assert names == ["cursor (11, 19)", "1 (0, 0)", "2 (5, 6)"]
    marks = explorer.views[0].marks
    assert [(one["row"], one["column"], one["text"]) for one in marks] == [(0, 0, "1"), (5, 6, "2")]
    assert [one["colour"] for one in marks] == [line["colour"] for line in explorer.plot.lines[1:]]
    explorer.clear.click()
    assert explorer.pins == explorer.views[0].marks == []


def test_the_slider_walks_through_the_bands(explorer):
    explorer.band = np.int64(9)
    assert explorer.show.value == ONE_BAND
    sent = frames(explorer.views[0])
    assert len(sent) == 31
    for band in (0, 9, 30):
        np.testing.assert_array_equal(sent[band], quantise(SCENE.cube[..., band], stretch(SCENE.cube[..., band])))
    assert explorer.views[0].frame == explorer.plot.marker == 9
    assert "(band 9)" in explorer.label


def test_the_slider_in_the_browser_is_never_answered_with_its_own_value(explorer):
    before = explorer.views[0].frame
    explorer.slider.set_state({"index": before + 5})  # the browser has moved the view itself
    assert explorer.views[0].frame == before


def test_one_stretch_for_all_bands(explorer):
    explorer.show.value, explorer.scale.value = ONE_BAND, "all bands"
    assert len({tuple(pair) for pair in explorer.views[0].limits}) == 1
    low = min(stretch(SCENE.cube[..., band])[0] for band in range(31))
    assert explorer.views[0].limits[0][0] == pytest.approx(low)


def test_the_vegetation_index(explorer):
    explorer.show.value = "NDVI, vegetation"
    a, b = (SCENE.cube[..., int(np.abs(SCENE.wavelengths_nm - nm).argmin())] for nm in (860, 660))
    np.testing.assert_array_equal(frames(explorer.views[0])[0], quantise(normalised_difference(a, b), (-1, 1)))
    assert explorer.views[0].limits == [[-1, 1]]


def test_cubes_share_cursor_stretch_and_pins(several):
    assert [view.name for view in several.views] == ["up", "pred", "gt", "|up − gt|"]
    several.pixel, several.pins = (2, 3), [(1, 1)]
    assert {tuple(view.cursor) for view in several.views} == {(2, 3)}
    assert {len(view.marks) for view in several.views} == {1}
    several.show.value = ONE_BAND
    assert several.views[0].limits == several.views[2].limits
    drawn = [line for line in several.plot.lines if line["x"]]
    assert len(drawn) == 6
    listed = [(line["name"], line["dash"]) for line in several.plot.lines if line["legend"]]
    assert listed == [("cursor (2, 3)", ""), ("1 (1, 1)", ""), ("up", ""), ("pred", "7 4"), ("gt", "2 3")]
    assert several.label.count(",") == 3  # row and column, then three values


def test_the_error_map(several):
    several.band = 4
    error = absolute_error(SCENE.cube * 0.5, SCENE.cube, 4)
    np.testing.assert_array_equal(frames(several.views[3])[4], quantise(error, (0, stretch(error)[1])))
    limits = several.views[3].limits
    several.error_of.value = "pred"
    assert several.views[3].name == "|pred − gt|"
    assert several.views[3].limits == limits  # comparable
    several.show.value = "true colour"
    np.testing.assert_allclose(
        rms_error(SCENE.cube * 0.5, SCENE.cube), np.sqrt(((SCENE.cube * 0.5) ** 2).mean(-1)), rtol=1e-5
    )
    assert several.views[3].unit == "RMSE over bands"


def test_swiping_between_two(several):
    several.arrangement.value = ("up", "gt")
    assert several.images.children == (several.views[0],)
    assert several.views[0].name == "up | gt"
    several.show.value = ONE_BAND
    several.band = 2
    view = several.views[0]
    np.testing.assert_array_equal(
        np.frombuffer(view.other, np.uint8).reshape(31, 12, 20)[2],
        quantise(SCENE.cube[..., 2], several._band_limits(2)),
    )
    several.arrangement.value = ()
    assert len(several.images.children) == 4
    assert view.swipe == -1


def test_without_wavelengths_bands_are_counted():
    explorer = BandExplorer(SCENE.cube)
    assert explorer.show.options == (ONE_BAND,)
    assert explorer.plot.x_label == "band number (no wavelengths known)"
    assert explorer.plot.positions == list(range(31))
    assert explorer.label.startswith("row 6, column 10 · band 0: ")
    assert "no wavelengths" in repr(explorer)


def test_nan_is_a_gap():
    cube = SCENE.cube.copy()
    cube[3, 7] = np.nan
    cube[4, 4, 10] = np.nan
    explorer = BandExplorer({"cube": cube}, wavelengths_nm=SCENE.wavelengths_nm)
    explorer.pixel = (3, 7)
    assert explorer.label.endswith("no data")
    assert set(explorer.plot.lines[0]["y"]) == {None}
    assert frames(explorer.views[0])[0][3, 7].tolist() == [0, 0, 0, 0]
    explorer.pixel = (4, 4)
    assert [n for n, value in enumerate(explorer.plot.lines[0]["y"]) if value is None] == [10]
    explorer.band = 10
    assert frames(explorer.views[0])[10][4, 4] == 0
    assert explorer._repr_mimebundle_()["image/png"]


def test_one_band():
    explorer = BandExplorer(np.arange(12.0).reshape(3, 4, 1), wavelengths_nm=[700.0])
    explorer.pixel = (2, 1)
    assert explorer.plot.lines[0]["points"]
    assert explorer.label == "row 2, column 1 · 700 nm (band 0): 9"
    assert len(frames(explorer.views[0])) == 1


def test_gaps_of_water_vapour_stay_empty():
    nm = np.r_[np.arange(1300.0, 1350, 10), np.arange(1450.0, 1500, 10)]
    explorer = BandExplorer(np.ones((2, 2, 10)), wavelengths_nm=nm)
    assert explorer.plot.lines[0]["y"] == [1] * 5 + [None] + [1] * 5


def test_a_single_band_between_two_gaps_is_a_dot():
    nm = [443, 490, 560, 665, 705, 740, 783, 842, 865, 945, 1610, 2190]
    explorer = BandExplorer(np.ones((3, 3, 12)), wavelengths_nm=nm)
    assert isolated(np.array([np.nan if y is None else y for y in explorer.plot.lines[0]["y"]])).sum() == 2
    ax = Picture().subplots()
    explorer.plot.draw(ax)
    assert ax.lines[1].get_xdata().tolist() == [1610, 2190]


def test_a_dead_band_leaves_the_composite_whole():
    cube = np.random.default_rng(0).integers(10_000, 60_000, (20, 20, 30)).astype(np.uint16)
    cube[..., 3] = 4000
    explorer = BandExplorer(cube, wavelengths_nm=np.linspace(420, 2400, 30))
    assert (frames(explorer.views[0])[..., 3] == 255).all()
    explorer.pixel = (1, 2)
    assert explorer.label.endswith(f": {cube[1, 2, explorer.band]}")  # counts are not rounded


def test_masked_pixels_are_gaps():
    cube = np.ma.masked_array(SCENE.cube, mask=False)
    cube[2, 3] = np.ma.masked
    explorer = BandExplorer(cube)
    explorer.pixel = (2, 3)
    assert explorer.label.endswith("no data")


def test_controls_without_an_effect_cannot_be_moved(several):
    several.show.value = "NDVI, vegetation"
    assert several.scale.disabled
    several.show.value = "true colour"
    assert not several.scale.disabled
    before = several.views[0].data
    several.scale.value = "all bands"
    assert several.views[0].data != before
    several.arrangement.value = ("up", "gt")
    assert several.error_of.disabled
    one = BandExplorer(np.ones((3, 4, 1)))
    shown = [child for row in one.children for child in (row, *getattr(row, "children", ()))]
    assert not {one.slider, one.show, one.scale} & set(shown)


def test_more_pins_than_colours_differ_in_width(explorer):
    explorer.pins = [(0, column) for column in range(12)]
    styles = {(line["colour"], line["width"]) for line in explorer.plot.lines}
    assert len(styles) == 13


def test_the_static_picture_of_a_divider_shows_both(several):
    several.arrangement.value = ("up", "gt")
    ax = Picture().subplots()
    several.views[0].draw(ax)
    shown = (ax.images[0].get_array() * 255).round().astype(np.uint8)
    left, right = (frames(several.views[0])[0], np.frombuffer(several.views[0].other, np.uint8).reshape(12, 20, 4))
    np.testing.assert_array_equal(shown[:, :10], left[:, :10])
    np.testing.assert_array_equal(shown[:, 10:], right[:, 10:])


def test_closing_frees_the_cube():
    cube = SCENE.cube.copy()
    explorer, kept = BandExplorer({"cube": cube, "other": SCENE}, target="other"), weakref.ref(cube)
    explorer.band = 3
    explorer.close()
    del explorer, cube
    gc.collect()
    assert kept() is None


def test_what_cannot_change_is_not_copied():
    """A large cube is handed over as a scene or made read-only; anything else may change, and is copied."""
    cube = np.ones((60, 50, 4), np.float32)
    assert not np.shares_memory(BandExplorer(cube).cubes["cube"], cube)
    cube.setflags(write=False)
    assert BandExplorer(cube).cubes["cube"] is cube
    assert BandExplorer(SCENE).cubes[SCENE.name] is SCENE.cube


def test_names_are_text_not_html():
    explorer = BandExplorer({"<b>x</b>": SCENE.cube, "y": SCENE.cube})
    explorer.pixel = (0, 0)
    assert "<b>" in explorer.label
    assert "<b>" not in explorer.status.value


def test_text_and_picture_for_pages_without_a_kernel(several):
    text = "BandExplorer(up, pred, gt: 12×20 px, 31 band(s), 420 … 2450 nm)"
    bundle = several._repr_mimebundle_()
    assert bundle["text/plain"] == repr(several) == text
    assert bundle["image/png"][:4] == b"\x89PNG"
    assert "application/vnd.jupyter.widget-view+json" in bundle


@pytest.mark.parametrize(
    ("cubes", "options", "error", "message"),
    [
        ({}, {}, ValueError, "`cubes` must be at least one cube, got none"),
        ({"a": [1, 2]}, {}, TypeError, r"`cubes\['a'\]` must be a Scene, an array .*, got list"),
        ({"a": np.ones(3)}, {}, ValueError, r"`cubes\['a'\]` must be an array"),
        ({"a": torch.ones(2, 3, 4, 5)}, {}, ValueError, r"`cubes\['a'\]` must be an array"),
        ({None: np.ones((2, 2, 2))}, {}, TypeError, r"`cubes` must be a dict of names \(text\) and cubes, got the name None"),
        (np.ones((2, 3, 4)), {"wavelengths_nm": "abc"}, TypeError, r"`wavelengths_nm` must be 4 number\(s\)"),
        (np.ones((2, 3, 2)), {"wavelengths_nm": [0.4, 2.5]}, ValueError, "`wavelengths_nm` must be in nm, got .* micrometres"),
        ({"a": np.ones((2, 2, 0))}, {}, ValueError, r"`cubes\['a'\]` must be numbers"),
        ({"a": np.full((2, 2, 2), "x")}, {}, ValueError, r"`cubes\['a'\]` must be numbers"),
        (
            {"a": np.ones((2, 3, 4)), "b": np.ones((2, 4, 4))}, {}, ValueError,
            r"`cubes\['b'\]` must be of the shape of 'a', \(2, 3, 4\), got \(2, 4, 4\)",
        ),
        (np.ones((2, 3, 4)), {"wavelengths_nm": [1, 2]}, ValueError, r"`wavelengths_nm` must be 4 finite number\(s\)"),
        (np.ones((2, 3, 1)), {"wavelengths_nm": [np.nan]}, ValueError, r"`wavelengths_nm` must be 1 finite number"),
        ({"a": SCENE, "b": SCENE}, {"target": "c"}, ValueError, "`target` must be one of"),
        ({"a": SCENE}, {"target": "a"}, ValueError, "`cubes` must be 1 to 4 cubes, the error map counted, got 1"),
        (dict.fromkeys("abcd", SCENE), {"target": "a"}, ValueError, "`cubes` must be 1 to 4 cubes"),
        (dict.fromkeys("abcde", SCENE), {}, ValueError, "`cubes` must be 1 to 4 cubes"),
    ],
)  # fmt: skip
def test_bad_cubes(cubes, options, error, message):
    with pytest.raises(error, match=message):
        BandExplorer(cubes, **options)


def test_scenes_of_other_wavelengths_are_not_compared():
    other = replace(SCENE, name="other", wavelengths_nm=SCENE.wavelengths_nm + 5)
    with pytest.raises(
        ValueError, match="`cubes` must be of the same wavelengths, got others in 'other' than in 'synthetic_3'"
    ):
        BandExplorer({"a": SCENE, "b": other})


@pytest.mark.parametrize("place", [5, None, "ab", (1, 2, 3), (1.5, 2), (True, 1)])
def test_places_that_are_none(explorer, place):
    with pytest.raises(TypeError, match=r"`pixel` must be \(row, column\), two whole numbers, got"):
        explorer.pixel = place
    with pytest.raises(TypeError, match="`pins` must be"):
        explorer.pins = [place]


def test_bad_places(explorer):
    for place in [(12, 0), (0, 20), (-1, 3)]:
        with pytest.raises(ValueError, match=r"`pixel` must be \(row, column\) inside 12×20 px, got"):
            explorer.pixel = place
        with pytest.raises(ValueError, match=r"`pins` must be \(row, column\) inside 12×20 px, got"):
            explorer.pins = [(0, 0), place]
    with pytest.raises(ValueError, match="`band` must be"):
        explorer.band = 31
    assert explorer.pixel == (6, 10)
    assert explorer.pins == []
