"""The two widgets that every explorer is put together from: an image to click on, and a plot with a marker.

`ImageView` shows one image, or one frame of a stack of images. A stack that is small is sent to the browser whole, and
a slider linked to `frame` moves through it there, without asking Python; of a large one, Python sends the frame that is
asked for, and its neighbours when the hand rests. Where a click lands is the trait `cursor`; what to do then is the
explorer's business.

Both keep their whole state in traits, so that a page that is loaded again, or a second view of the same widget, shows
the same.
"""

from __future__ import annotations

import html
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral
from pathlib import Path
from typing import Any, TypeVar

import anywidget
import ipywidgets
import numpy as np
import traitlets
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke
from matplotlib.ticker import MaxNLocator

from ctmem.checks import Count, Whole, fail, typed
from ctmem.evaluation.plots import with_gaps
from ctmem.explorers.gradients import without_gradients
from ctmem.explorers.render import paint, palette

HERE = Path(__file__).parent
WHOLE = 12_000_000  # bytes of a stack that is sent to the browser whole
AHEAD = 2_000_000  # bytes of neighbouring frames that are sent ahead of a larger one


@dataclass(frozen=True)
class Stack:
    """Images of one size, drawn when asked for: `frame(number)` → (uint8 (H, W) or (H, W, 4), limits or None).

    Numbers in (H, W) are those of `render.quantise`, colours those of `render.colours`.
    """

    frame: Callable[[int], tuple[np.ndarray, tuple[float, float] | None]]
    frames: int = 1
    unit: str = ""  # of the values, for the colour bar
    colour_map: str = "viridis"

    @classmethod
    def of(
        cls, picture: np.ndarray, limits: tuple[float, float] | None = None, *, unit: str = "",
        colour_map: str = "viridis",
    ) -> Stack:  # fmt: skip
        """One image only."""
        return cls(lambda _: (picture, limits), unit=unit, colour_map=colour_map)


Item = TypeVar("Item")


class ImageView(anywidget.AnyWidget):
    """An image with a cursor, pins and marks; all places are (row, column) of `grid`, by default the image's pixels."""

    _esm = HERE / "image.js"
    _css = HERE / "style.css"

    name = traitlets.Unicode().tag(sync=True)  # the title
    height = traitlets.Int(1).tag(sync=True)  # pixels
    width = traitlets.Int(1).tag(sync=True)
    channels = traitlets.Int(1).tag(sync=True)  # 1: numbers of the palette, 4: red, green, blue, opacity
    frames = traitlets.Int(1).tag(sync=True)
    first = traitlets.Int(0).tag(sync=True)  # number of the first frame in `data`
    data = traitlets.Bytes().tag(sync=True)
    other = traitlets.Bytes().tag(sync=True)  # the same of a second image, right of the divider
    palette = traitlets.Bytes().tag(sync=True)  # 256 colours of 4 bytes
    limits: traitlets.List[Any] = traitlets.List().tag(sync=True)  # (low, high) of each frame in `data`
    unit = traitlets.Unicode().tag(sync=True)
    size = traitlets.Int(300).tag(sync=True)  # of the longer side, screen pixels
    span = traitlets.Int(0).tag(sync=True)  # width kept for the title and the colour bar, screen pixels; 0: `size`
    # (rows, columns) that places count in; empty: height, width
    grid: traitlets.List[Any] = traitlets.List().tag(sync=True)
    marks: traitlets.List[Any] = traitlets.List().tag(sync=True)  # rectangles, see `mark`
    pinning = traitlets.Bool(False).tag(sync=True)  # whether Enter and shift-click pin a pixel
    step = traitlets.Int(1).tag(sync=True)  # of the arrow keys, pixels

    frame = traitlets.Int(0).tag(sync=True)
    cursor = traitlets.List([-1, -1]).tag(sync=True)  # (row, column); -1, -1: nowhere
    clicks = traitlets.Int(0).tag(sync=True)  # how often a hand or a key has set the cursor, perhaps where it stood
    pins: traitlets.List[Any] = traitlets.List().tag(sync=True)  # (row, column) each
    zoom = traitlets.Float(1.0).tag(sync=True)
    swipe = traitlets.Float(-1.0).tag(sync=True)  # where the divider stands, 0 … 1; negative: no second image

    def __init__(self, **traits: Any) -> None:
        super().__init__(**traits)
        self._stacks: tuple[Stack, Stack | None] | None = None
        self.observe(self._send_frame, "frame")
        self.on_msg(self._send_neighbours)

    def show(self, stack: Stack, other: Stack | None = None) -> None:
        """Shows a stack; with `other`, two of the same size with a divider between them.

        Raises:
            ValueError: two stacks of different sizes or kinds.
        """
        number = min(self.frame, stack.frames - 1)
        picture, _ = stack.frame(number)
        if other is not None:
            _check_alike(picture.shape, stack, other, number)
        self._stacks = (stack, other)
        whole = picture.nbytes * stack.frames <= WHOLE
        numbers = range(stack.frames) if whole else [number]
        with self.hold_sync():
            self.height, self.width = picture.shape[:2]
            self.channels = 1 if picture.ndim == 2 else 4
            self.frames = stack.frames
            self.unit = stack.unit
            self.palette = palette(stack.colour_map)
            self.swipe = -1.0 if other is None else (0.5 if self.swipe < 0 else self.swipe)
            self._fill(numbers)

    def close(self) -> None:
        """Takes the view off every page, and lets go of what it showed; closing it twice does nothing."""
        self._stacks = None
        super().close()
        _show_text(self)

    def draw(self, ax: Axes) -> None:
        """Draws the view as it stands into matplotlib axes."""
        ax.set_axis_off()
        ax.set_title(self.name, fontsize=10)
        if self._stacks is None:
            return
        rows, columns = self.grid or (self.height, self.width)
        stack, extent = self._stacks[0], (-0.5, columns - 0.5, rows - 0.5, -0.5)
        number = min(self.frame, stack.frames - 1)
        picture, limits = stack.frame(number)
        if self._stacks[1] is not None:
            place = round(self.swipe * self.width)
            picture = np.concatenate([picture[:, :place], self._stacks[1].frame(number)[0][:, place:]], axis=1)
            ax.axvline(self.swipe * columns - 0.5, color="white", linewidth=2)
        ax.imshow(paint(picture, stack.colour_map), extent=extent, interpolation="nearest")
        if limits is not None:
            scale = ScalarMappable(Normalize(*limits), stack.colour_map)
            style: dict[str, Any] = {"orientation": "horizontal", "fraction": 0.08, "pad": 0.03, "shrink": 0.85}
            bar = ax.figure.colorbar(scale, ax=ax, ticks=MaxNLocator(3), **style)
            bar.set_label(stack.unit, fontsize=8)
            bar.ax.tick_params(labelsize=8)
        row, column = self.cursor
        cursor = [mark(row, column, "#ffffff")] if row >= 0 else []
        for one in [*self.marks, *cursor]:
            outline_mark(ax, one, max(rows, columns) / 30)

    def _fill(self, numbers: Sequence[int]) -> None:
        """Takes these frames into `data` and `other`."""
        assert self._stacks is not None  # who calls has looked
        stack, other = self._stacks
        pictures, limits = zip(*(stack.frame(number) for number in numbers))
        self.first = numbers[0]
        self.data = b"".join(picture.tobytes() for picture in pictures)
        self.other = b"" if other is None else b"".join(other.frame(number)[0].tobytes() for number in numbers)
        self.limits = [list(map(float, pair)) for pair in limits if pair is not None]

    def _send_frame(self, change: dict[str, Any]) -> None:
        loaded = len(self.data) // max(1, self.height * self.width * self.channels)
        if self._stacks and not self.first <= change["new"] < self.first + loaded and change["new"] < self.frames:
            with self.hold_sync():
                self._fill([change["new"]])

    def _send_neighbours(self, _: object, content: dict[str, Any], __: object) -> None:
        if self._stacks and content.get("ask") == "neighbours":
            reach = max(1, AHEAD // (2 * self.height * self.width * self.channels))
            number = min(self.frame, self.frames - 1)
            with self.hold_sync():
                self._fill(range(max(0, number - reach), min(self.frames, number + reach + 1)))


@typed
def mark(
    row: Whole, column: Whole, colour: str, *, rows: Count = 1, columns: Count = 1, text: str = ""
) -> dict[str, int | str]:
    """A rectangle with a text for `ImageView.marks`: first pixel, size in pixels."""
    place = {"row": int(row), "column": int(column), "rows": int(rows), "columns": int(columns)}
    return {**place, "colour": colour, "text": text}


class LinePlot(anywidget.AnyWidget):
    """Lines over one axis; a click or an arrow key moves `marker` to the nearest of `positions`."""

    _esm = HERE / "plot.js"
    _css = HERE / "style.css"

    name = traitlets.Unicode().tag(sync=True)  # the title
    x_label = traitlets.Unicode().tag(sync=True)  # with units
    y_label = traitlets.Unicode().tag(sync=True)
    lines: traitlets.List[Any] = traitlets.List().tag(sync=True)  # see `line`
    # where the marker may stand, in units of the horizontal axis
    positions: traitlets.List[Any] = traitlets.List().tag(sync=True)
    limits: traitlets.List[Any] = traitlets.List().tag(sync=True)  # (low, high) that the vertical axis always shows
    width = traitlets.Int(560).tag(sync=True)  # screen pixels
    height = traitlets.Int(250).tag(sync=True)
    legend = traitlets.Bool(True).tag(sync=True)  # whether there is room for one below

    marker = traitlets.Int(-1).tag(sync=True)  # index in `positions`; -1: none

    def close(self) -> None:
        """Takes the plot off every page."""
        super().close()
        _show_text(self)

    def draw(self, ax: Axes) -> None:
        """Draws the plot as it stands into matplotlib axes."""
        # lines, and values that stand alone as dots
        for one in self.lines:
            x, y = (np.array([np.nan if v is None else v for v in one[key]], float) for key in "xy")
            dash = (0, tuple(float(v) / 2 for v in one["dash"].split())) if one["dash"] else "-"
            style = {"marker": "o", "linestyle": "none"} if one["points"] else {"linestyle": dash}
            label = one["name"] if one["legend"] and one["name"] else None
            ax.plot(x, y, color=one["colour"], linewidth=0.8 * one["width"], label=label, **style)
            alone = isolated(x + y)
            if alone.any() and not one["points"]:
                ax.plot(x[alone], y[alone], "o", color=one["colour"], markersize=2 + 0.8 * one["width"])
        # marker, axes, legend
        if 0 <= self.marker < len(self.positions):
            ax.axvline(self.positions[self.marker], color="0.2", linestyle=":", linewidth=1)
        if self.limits and self.positions:
            ax.update_datalim([(self.positions[0], value) for value in self.limits])
            ax.autoscale_view()
        ax.set(xlabel=self.x_label, ylabel=self.y_label)
        ax.grid(color="0.9", linewidth=0.8)
        ax.spines[["top", "right"]].set_visible(False)
        named = ax.get_legend_handles_labels()[1]
        if named and self.legend:
            ax.legend(frameon=False, fontsize=8, ncols=1 + (len(named) > 4))


def isolated(values: np.ndarray) -> np.ndarray:
    """Which values of a line (n,) stand alone between two that are not finite: a line cannot show them, bool (n,)."""
    there = np.pad(np.isfinite(values), 1)
    return there[1:-1] & ~there[:-2] & ~there[2:]


def outline_mark(ax: Axes, one: dict[str, Any], least: float) -> None:
    """Draws a mark, at least `least` pixels large, with a rim and its text, into matplotlib axes."""
    height, width = (max(one[key], least) for key in ("rows", "columns"))
    corner = one["column"] + (one["columns"] - width) / 2 - 0.5, one["row"] + (one["rows"] - height) / 2 - 0.5
    for colour, thick in (("black" if one["colour"] == "#ffffff" else "white", 2.8), (one["colour"], 1.5)):
        ax.add_patch(Rectangle(corner, width, height, fill=False, edgecolor=colour, linewidth=thick))
    if one["text"]:
        rim = [withStroke(linewidth=2, foreground="white")]
        place = corner[0] + width + 0.5, corner[1]
        ax.text(
            *place,
            one["text"],
            color=one["colour"],
            fontsize=8,
            weight="bold",
            va="top",
            path_effects=rim,
            clip_on=True,
        )


def line(
    name: str,
    x: Iterable[float],
    y: Iterable[float],
    colour: str,
    *,
    dash: str = "",
    width: float = 2.0,
    points: bool = False,
    legend: bool = True,
) -> dict[str, object]:
    """A line for `LinePlot.lines`; it breaks at values that are not finite.

    Args:
        name: what it is called.
        x: horizontal values.
        y: vertical values, as many.
        colour: as in CSS.
        dash: as in SVG's stroke-dasharray; empty: solid.
        width: screen pixels.
        points: dots instead of a line.
        legend: whether the legend lists it; it never lists a line without a name.
    """
    xs, ys = ([float(v) if np.isfinite(v) else None for v in values] for values in (x, y))
    style = {"colour": colour, "dash": dash, "width": width, "points": points, "legend": legend}
    return {"name": name, "x": xs, "y": ys, **style}


class Explorer(ipywidgets.VBox):
    """What explorers share: a picture for pages without a kernel, a text that is the same on every run.

    Each has `picture()`, its state as a static figure, and `describe()`, one line on what is explored.
    """

    closed = False

    def __init_subclass__(cls, **options: Any) -> None:
        """Every explorer is made of what it is given without gradients."""
        super().__init_subclass__(**options)
        if "__init__" in vars(cls):
            setattr(cls, "__init__", without_gradients(cls.__init__))  # noqa: B010  (mypy knows of no such assignment)

    def __init__(self, children: Sequence[ipywidgets.Widget] = ()) -> None:
        super().__init__(children)
        self.add_class("ctmem-explorer").add_class(type(self).__name__)  # names for style sheets

    def close(self) -> None:
        """Takes the explorer off every page, and frees what it holds: ipywidgets keeps a widget until it is closed.

        What is closed shows a line that says so, and cannot be opened again; closing it twice does nothing.
        """
        if self.closed:
            return
        self.closed = True
        for widget in {id(one): one for one in owned(self)}.values():
            for made in getattr(widget, "_links", ()):
                made.close()
            widget.unobserve_all()
            if widget is not self:
                widget.close()
        super().close()
        _show_text(self)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({'closed' if self.closed else self.describe()})"

    def _repr_mimebundle_(self, **options: object) -> dict[str, object]:
        return {**_bundle(super(), options), "text/plain": repr(self), "image/png": self.picture()._repr_png_()}


class CubeExplorer(Explorer):
    """What explorers of a cube share: images of the same ground with one cursor, and spectra over its wavelengths."""

    views: list[ImageView]  # all of rows × columns places; the first is listened to
    rows: int
    columns: int
    bands: int
    wavelengths_nm: np.ndarray | None  # (C,) nm; None: bands are counted from 0

    @property
    def pixel(self) -> tuple[int, int]:
        """(row, column) of the cursor; setting it is a click."""
        row, column = self.views[0].cursor
        return row, column

    @pixel.setter
    def pixel(self, place: Sequence[int]) -> None:
        set_all("cursor", [*checked_place(place, "pixel", self.rows, self.columns)], self.views)

    def over_wavelength(self, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Wavelengths, or band numbers, and the values (C,) of a spectrum, with NaN where its line is to break."""
        if self.wavelengths_nm is None:
            return np.arange(self.bands), values
        return with_gaps(self.wavelengths_nm, np.asarray(values, float), "values")

    def band_name(self, band: int) -> str:
        """What a slider calls a band."""
        return f"band {band}" if self.wavelengths_nm is None else f"{self.wavelengths_nm[band]:.0f} nm (band {band})"


def link(trait: str, *widgets: ipywidgets.Widget | tuple[ipywidgets.Widget, str]) -> None:
    """Keeps a trait of several widgets equal in the browser; (widget, name) where it has another name.

    The first gives the value to begin with. Python hears of each change, but does not link: an answer that comes back
    while a hand is moving would pull it back. Code that sets such a trait sets it for all (`set_all`).
    """
    ends = [item if isinstance(item, tuple) else (item, trait) for item in widgets]
    first = ends[0][0]
    first._links = [*getattr(first, "_links", ()), *(ipywidgets.jslink(ends[0], end) for end in ends[1:])]


def checked_place(place: Sequence[int], name: str, rows: int, columns: int) -> tuple[int, int]:
    """Returns a place in an image as two whole numbers, or raises the error of one that is none.

    Raises:
        TypeError: not two whole numbers.
        ValueError: outside of rows × columns pixels.
    """
    several = isinstance(place, Sequence | np.ndarray) and not isinstance(place, str)
    pair = tuple(map(whole, place)) if several else ()
    if len(pair) != 2 or not all(type(value) is int for value in pair):
        fail(name, "(row, column), two whole numbers", repr(place), TypeError)
    row, column = pair
    if not (0 <= row < rows and 0 <= column < columns):
        fail(name, f"(row, column) inside {rows}×{columns} px", f"({row}, {column})")
    return row, column


def if_true(condition: bool, item: Item) -> list[Item]:
    """Returns [item] or, where the condition does not hold, []."""
    return [item] if condition else []


def whole(value: Any) -> Any:
    """A whole number of any type, as of numpy, as an int; anything else as it is."""
    return int(value) if isinstance(value, Integral) and not isinstance(value, bool) else value


def status(text: str) -> str:
    """Returns HTML of one line of text, cut off where it is too long, and whole when a hand rests on it."""
    shown = html.escape(text)
    return f'<div class="ctmem-status" title="{shown}">{shown}</div>'


def set_all(trait: str, value: object, widgets: Sequence[ipywidgets.Widget]) -> None:
    """Sets a trait of several widgets, of the first one last: that is the one to listen to."""
    for widget in reversed(widgets):
        setattr(widget, trait, value)


def owned(explorer: ipywidgets.Widget) -> Iterator[ipywidgets.Widget]:
    """Yields a widget, its attributes that are widgets or lists of them, and all their children, some of them twice."""
    yield explorer
    values = (
        [*vars(explorer).values(), *getattr(explorer, "children", ())] if isinstance(explorer, ipywidgets.Box) else []
    )
    for value in values:
        for one in value if isinstance(value, list | tuple) else (value,):
            if isinstance(one, ipywidgets.Widget):
                yield from owned(one)


class Tabs(ipywidgets.Tab):
    """A tab for each widget, which is made when its tab is opened for the first time.

    Args:
        makers: title → what makes the widget.

    Raises:
        ValueError: no tab.
    """

    def __init__(self, makers: Mapping[str, Callable[[], ipywidgets.Widget]]) -> None:
        if not makers:
            fail("makers", "a dict with at least one title", "an empty one")
        boxes = [ipywidgets.VBox([ipywidgets.Label("making it …")]) for _ in makers]
        super().__init__(boxes, titles=list(makers), selected_index=0)
        self._waiting = dict(enumerate(makers.values()))
        self.observe(self._open, "selected_index")
        self._open()

    def _open(self, _: object = None) -> None:
        """Makes what the open tab waits for; where that fails, the tab says why, and tries again when it is opened."""
        maker = self._waiting.get(self.selected_index)
        if maker is None:
            return
        box = self.children[self.selected_index]
        try:
            box.children = [maker()]
        except Exception as error:
            box.children = [ipywidgets.Label(f"This could not be made: {error}")]
            raise
        del self._waiting[self.selected_index]

    def close(self) -> None:
        """Takes the tabs off every page."""
        super().close()
        _show_text(self)

    @property
    def opened(self) -> ipywidgets.Widget:
        """The widget of the open tab."""
        return self.children[self.selected_index].children[0]

    def __repr__(self) -> str:
        label = getattr(self.opened, "label", "")
        titles = f"Tabs({', '.join(self.titles)})"
        return f"{titles}, open: {label}" if label else titles

    def _repr_mimebundle_(self, **options: object) -> dict[str, object]:
        still = {"image/png": self.opened.picture()._repr_png_()} if isinstance(self.opened, Explorer) else {}
        return {**_bundle(super(), options), "text/plain": repr(self), **still}


def _show_text(widget: ipywidgets.Widget) -> None:
    """Lets a widget that was closed be shown again, as a line of text: ipywidgets leaves None instead of a method."""
    text = f"{type(widget).__name__}: closed; make it again to see it"
    widget._repr_mimebundle_ = lambda **_: {"text/plain": text}


def _bundle(widget: Any, options: dict[str, object]) -> dict[str, object]:
    """The mime bundle of a widget, without metadata."""
    bundle = widget._repr_mimebundle_(**options)
    return (bundle[0] if isinstance(bundle, tuple) else bundle) or {}  # a widget that is closed has none


def _check_alike(shape: tuple[int, ...], stack: Stack, other: Stack, number: int) -> None:
    """Raises unless two stacks can stand on two sides of one divider."""
    found = other.frame(number)[0].shape
    if found != shape or other.frames != stack.frames:
        fail("other", f"{stack.frames} frame(s) of shape {shape}", f"{other.frames} of shape {found}")
