"""Looking into a match: which windows of the reference a patch of the query took, and who took from a place."""

from __future__ import annotations

import html
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import ipywidgets
import numpy as np
import torch

from ctmem.checks import Inside, as_image, check_choice, door, fail
from ctmem.config import MatchConfig
from ctmem.data.scenes import Scene
from ctmem.evaluation.plots import Picture
from ctmem.explorers.band import checked_wavelengths
from ctmem.explorers.matched import Matched, Taker, spread
from ctmem.explorers.render import colours, quantise, stretch
from ctmem.explorers.tiles import TURNS, composite, draw_tiles, limits_of, tiles, tiles_html
from ctmem.explorers.view import Explorer, ImageView, Stack, checked_place, link, mark, set_all
from ctmem.holes import open_holes, split_holes
from ctmem.match import dmb
from ctmem.match.align import Blur
from ctmem.match.search import SIMILARITIES
from ctmem.observe.camera import Camera
from ctmem.observe.responses import Wavelengths

WIDTH = 860  # screen pixels of the whole
COLUMN = WIDTH // 3 - 12  # of an image
UPPER, LOWER = 180, 110  # heights of images, screen pixels
SHOWN = 6  # windows outlined
OUTLINED = 30  # patches that took from a place, outlined, at most
PATCHES, STRIDES = (4, 8, 12, 16), (1, 2, 4, 8)  # pixels
TEMPERATURES = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0)
APART, BEST = "6 best apart", "6 best"
PATCH, WINDOW, TAKER = "#E69F00", "#E69F00", "#56B4E9"  # colours of outlines


class MatchExplorer(Explorer):
    """Where the patches of a low-resolution HSI find their like in a reference of other ground, and what they take.

    Click the query, or walk with the arrow keys: the best windows of that patch are outlined in the reference,
    numbered by rank, and shown enlarged; a map says how alike every window is. Click the reference: the query patches
    that took from there are outlined, by windows of a weight of at least 1e-4. What is shown is what `dmb.dmb` does for
    the settings chosen. With another P, query patches overlap by the same share of P as in `config`.

    The vectors of all candidate windows are kept in memory, 4·c·P² bytes each, up to 256 MB.

    Args:
        lr_hsi: (1, C, h, w), or a scene.
        ref_msi: (1, c, Hr, Wr), or a scene; in both images pixels that are not finite are holes.
        camera: that recorded `lr_hsi`. Without `srf`, the response of its sensor at `wavelengths_nm` is worked out.
        blur: a learned K, from (·, c, Hr, Wr) to the same shape; None: the camera's own blur.
        wavelengths_nm: (C,) centres of the bands of `lr_hsi`, nm; default: the scene's. Needed without `camera.srf`.
        config: settings to begin with.
        unit: of the values.

    Attributes:
        camera: the same with its response.
        matched: what is shown, and the images as they are compared (`matched.prepared`).

    Raises:
        TypeError: an image that is neither a scene nor a floating-point image, a `camera`, `blur` or `config` that is
            not one.
        ValueError: no response for the bands, bands or wavelengths that do not fit, a query with values that are not
            finite, a patch larger than an image, a reference without a whole window.
    """

    @door
    def __init__(
        self,
        lr_hsi: torch.Tensor | Scene,
        ref_msi: torch.Tensor | Scene,
        camera: Camera,
        *,
        blur: Inside[Blur | None] = None,
        wavelengths_nm: Wavelengths | None = None,
        config: MatchConfig = MatchConfig(),
        unit: str = "radiance (scaled)",
    ) -> None:
        if not isinstance(camera, Camera):
            fail("camera", "a `Camera`", type(camera).__name__, TypeError)
        if not isinstance(config, MatchConfig):
            fail("config", "a `MatchConfig`", type(config).__name__, TypeError)
        if blur is not None and not callable(blur):
            fail("blur", "a function from images to blurry images", type(blur).__name__, TypeError)
        # the images, and the camera with the response over their bands
        if wavelengths_nm is None and isinstance(lr_hsi, Scene):
            wavelengths_nm = lr_hsi.wavelengths_nm
        images = [image.tensor() if isinstance(image, Scene) else image for image in (lr_hsi, ref_msi)]
        query = as_image(images[0], "lr_hsi", single=True, finite=False, double=True).clone()
        query, self._holes = split_holes(query, "lr_hsi")
        self.camera = _with_response(camera, checked_wavelengths(wavelengths_nm, query.shape[1]))
        up = self.camera.upsample(query)
        bands = self.camera.msi_channels
        reference = as_image(images[1], "ref_msi", bands=bands, single=True, finite=False, double=True).clone()
        self.size = _size_of(up)
        self.reference_size = _size_of(reference)
        side = min(*self.size, *self.reference_size)
        if config.patch > side:
            fail("config.patch", f"at most {side} px, the shortest side of query and reference", config.patch)
        # the match to begin with
        self.matched = Matched(dmb.prepare(up, reference, self.camera, config, blur=blur, holes=self._holes), config)
        self.unit = unit
        self._base = config
        self._setting = self._backwards = False
        # the widgets, and what they show
        self._build(config)
        super().__init__(self._layout())
        self._show_images(composite(reference[0]))
        self._show_maps()
        self._connect()
        self.pixel = (self.size[0] // 2, self.size[1] // 2)

    # --- what a reader may ask and set ---------------------------------------------------------------------------

    @property
    def pixel(self) -> tuple[int, int]:
        """(row, column) of the cursor in the query, fine pixels; setting it is a click."""
        row, column = self.query.cursor
        return row, column

    @pixel.setter
    def pixel(self, place: tuple[int, int]) -> None:
        _click([*checked_place(place, "pixel", *self.size)], self._own_views, self._on_pixel)

    @property
    def source(self) -> tuple[int, int] | None:
        """(row, column) of the cursor in the reference, or None before the first click; setting it is a click."""
        row, column = self.reference.cursor
        return (row, column) if row >= 0 else None

    @source.setter
    def source(self, place: tuple[int, int]) -> None:
        _click([*checked_place(place, "source", *self.reference_size)], self._other_views, self._on_source)

    @property
    def config(self) -> MatchConfig:
        """The settings of what is shown: `dmb.dmb` with these gives `texture` and `match`."""
        return self.matched.config

    def choose(
        self,
        *,
        patch: int | None = None,
        stride: int | None = None,
        similarity: str | None = None,
        temperature: float | None = None,
    ) -> None:
        """Moves the controls, and matches again.

        Raises:
            ValueError: a value that a control does not offer, or settings that leave no candidate window.
        """
        asked = {"patch": patch, "stride": stride, "similarity": similarity, "temperature": temperature}
        given: dict[str, Any] = {name: value for name, value in asked.items() if value is not None}
        for name, value in given.items():
            options = self._controls[name].options
            check_choice(value, name, options)
            given[name] = options[options.index(value)]  # a number of numpy's becomes the option it equals
        self._use(self._config_of(**given))
        self._set_controls()

    @property
    def number(self) -> int:
        """Number of the current query patch, row-major."""
        return self.matched.number_at(*self.pixel)

    @property
    def windows(self) -> np.ndarray:
        """Windows of the current patch, best first, (k, 3): row, column, turn."""
        return self.matched.match.windows[0, self.number].cpu().numpy()

    @property
    def scores(self) -> np.ndarray:
        """Their similarities, (k,)."""
        return self.matched.match.scores[0, self.number].cpu().numpy()

    @property
    def takers(self) -> list[Taker]:
        """The query patches that took from `source`, those that took most first; empty before the first click."""
        return [] if self.source is None else self.matched.takers(*self.source)

    @property
    def texture(self) -> torch.Tensor:
        """What is handed over, (1, 4c, H, W), as `dmb.dmb` returns it."""
        return self.matched.texture

    @property
    def label(self) -> str:
        """What the last click found."""
        return self._source_label(*self.source) if self._backwards and self.source else self._patch_label()

    def describe(self) -> str:
        """One line on what is explored."""
        (rows, columns), (below, across) = self.size, self.reference_size
        settings = f"P {self.config.patch}, stride {self.config.stride}, {self.config.similarity}"
        many = f"{len(self.matched.match.corners)} patches, {self.matched.candidates} candidate windows"
        return f"query {rows}×{columns} px, reference {below}×{across} px, {settings}: {many}"

    def picture(self) -> Picture:
        """Images, tiles and maps as they stand, as a static figure."""
        figure = Picture(figsize=(9.2, 7.4), layout="compressed")
        upper, middle, lower = figure.subfigures(3, 1, squeeze=False, height_ratios=(1.35, 0.75, 1.1))[:, 0]
        for part, views in ((upper, self.upper.children), (lower, self.lower.children)):
            for ax, view in zip(part.subplots(1, 3), views):
                view.draw(ax)
        draw_tiles(middle.subplots(), self._tiles, 1 + SHOWN)
        return figure

    # --- building ------------------------------------------------------------------------------------------------

    def _build(self, config: MatchConfig) -> None:
        """Makes the widgets."""
        # the controls: what is usual, and what was asked for
        side = min(*self.size, *self.reference_size)
        shape = {"style": {"description_width": "initial"}}
        choices = {
            "patch": ("P (px)", sorted({config.patch, *(p for p in PATCHES if p <= side)}), 195),
            "stride": ("stride (px)", sorted({config.stride, *STRIDES}), 215),
            "temperature": ("temperature", sorted({config.temperature, *TEMPERATURES}), 275),
        }
        self.patch, self.stride, self.temperature = (
            ipywidgets.SelectionSlider(
                options=options, value=getattr(config, name), description=text, layout={"width": f"{width}px"}, **shape
            )
            for name, (text, options, width) in choices.items()
        )
        self.similarity = ipywidgets.Dropdown(
            options=SIMILARITIES,
            value=config.similarity,
            description="similarity",
            layout={"width": "158px", "margin": "2px 10px"},
            **shape,
        )
        self.which = ipywidgets.Dropdown(
            options=[APART, BEST], description="windows", layout={"width": "180px"}, **shape,
            tooltip="the best that do not overlap a better one, or simply the best",
        )  # fmt: skip
        names = ("patch", "stride", "similarity", "temperature")
        self._controls = {name: getattr(self, name) for name in names}
        # the images of the query's ground, and those of the reference's
        self.query = _view("query: the LR image in MSI bands", self.size, UPPER)
        self.texture_view = _view("texture taken", self.size, LOWER)
        self.gradient = _view("gradient taken", self.size, LOWER)
        self.difference = _view("difference taken: sharp − blurred", self.size, LOWER)
        self.reference = _view("reference: other ground, sharp", self.reference_size, UPPER)
        turns = ", best of 8 turns" if config.turns else ""
        self.heat = _view(f"similarity{turns}", self.reference_size, UPPER, grid=[*self.reference_size])
        self._own_views = [self.query, self.texture_view, self.gradient, self.difference]
        self._other_views = [self.reference, self.heat]
        self.status = ipywidgets.HTML(layout={"height": "34px", "width": f"{WIDTH - 190}px"})
        self.tiles = ipywidgets.HTML()

    def _layout(self) -> list[ipywidgets.Widget]:
        """The widgets, row by row."""
        controls = ipywidgets.HBox([self.patch, self.stride, self.similarity, self.temperature])
        line = ipywidgets.HBox([self.status, self.which])
        self.upper = ipywidgets.HBox([self.query, *self._other_views])
        self.lower = ipywidgets.HBox(self._own_views[1:])
        return [controls, line, self.upper, self.tiles, self.lower]

    def _connect(self) -> None:
        """Who answers to what."""
        for trait in ("cursor", "clicks", "zoom"):
            link(trait, *self._own_views)
            link(trait, *self._other_views)
        self.query.observe(self._on_pixel, "cursor")
        self.reference.observe(self._on_source, "cursor")
        self.query.observe(self._on_same_pixel, "clicks")
        self.reference.observe(self._on_same_source, "clicks")
        for control in self._controls.values():
            control.observe(self._on_control, "value")
        self.which.observe(self._show, "value")

    # --- answering -----------------------------------------------------------------------------------------------

    def _on_pixel(self, _: object = None) -> None:
        self._backwards = False
        self._show()

    def _on_source(self, _: object = None) -> None:
        self._backwards = self.source is not None
        self._show_marks()

    def _on_same_pixel(self, _: object) -> None:
        """A click into the query where its cursor stands already, after one into the reference."""
        if self._backwards:
            self._on_pixel()

    def _on_same_source(self, _: object) -> None:
        """The same the other way round."""
        if not self._backwards:
            self._on_source()

    def _on_control(self, _: object) -> None:
        if self._setting:
            return
        try:
            self._use(self._config_of(**{name: control.value for name, control in self._controls.items()}))
        except ValueError as error:  # holes can leave no window: what was shown stays, and the controls say so
            self._set_controls()
            self._say(f"Not possible, P {self.config.patch} and stride {self.config.stride} stay: {error}")

    def _set_controls(self) -> None:
        """Puts the controls where the settings of what is shown are."""
        with self._quiet():
            for name, control in self._controls.items():
                control.value = getattr(self.config, name)

    def _config_of(self, **settings: Any) -> MatchConfig:
        """The present settings with some of them changed; query patches overlap by the same share as before."""
        config = replace(self.config, **settings)
        share = self._base.query_stride / self._base.patch
        return replace(config, query_stride=max(1, round(share * config.patch)))

    def _use(self, config: MatchConfig) -> None:
        """Matches with these settings and shows it; a new temperature needs no new search. After an error all stays."""
        if config == self.config:
            self._say(self.label)  # "not possible" may have stood there
            return
        self._say("matching …")
        same = replace(config, temperature=self.config.temperature) == self.config
        try:
            if same:
                self.matched = self.matched.at_temperature(config.temperature)
            else:
                self.matched = Matched(self.matched.prepared, config)
        except ValueError:
            self._say(self.label)
            raise
        self._show_maps()
        self._show()

    @contextmanager
    def _quiet(self) -> Iterator[None]:
        """Inside, moved controls are not answered."""
        self._setting = True
        try:
            yield
        finally:
            self._setting = False

    # --- showing -------------------------------------------------------------------------------------------------

    def _show_images(self, reference: np.ndarray) -> None:
        """What stays as it is: query and reference."""
        query = composite(open_holes(self.matched.prepared.query_in_units, self._holes)[0])
        self._query_limits = limits_of(query)
        self.query.show(Stack.of(colours(query, self._query_limits)))
        self.reference.show(Stack.of(colours(reference, limits_of(reference))))

    def _show_maps(self) -> None:
        """The texture of the whole query."""
        _, hard, gradient, difference = open_holes(self.texture, self._holes)[0].chunk(4)
        self.texture_view.show(Stack.of(colours(composite(hard), self._query_limits)))
        # gradient and difference, each the mean of its bands with a stretch of its own
        unit = f"{self.unit}, mean of bands"
        mean = gradient.mean(0).cpu().numpy()
        limits = (0.0, stretch(mean)[1])
        self.gradient.show(Stack.of(quantise(mean, limits), limits, unit=f"{unit}, per px", colour_map="magma"))
        mean = difference.mean(0).cpu().numpy()
        top = max(map(abs, stretch(mean)))
        limits = (-top, top)
        self.difference.show(Stack.of(quantise(mean, limits), limits, unit=unit, colour_map="PuOr"))
        # the arrow keys go from patch to patch, and from window to window
        for view in self._own_views:
            view.step = self.config.query_stride
        self.reference.step = self.heat.step = self.config.stride

    def _show(self, _: object = None) -> None:
        """Everything that belongs to the current patch."""
        number = self.number
        config = self.config
        # how alike every window is
        plane = self.matched.plane(number)
        limits = _heat_limits(plane, config)
        image = spread(plane, self.reference_size, config.patch, config.stride)
        unit = f"{config.similarity} of the window around a pixel"
        self.heat.show(Stack.of(quantise(image, limits), limits, unit=unit))
        # the best of them, enlarged and outlined
        self._tiles = tiles(self.matched, number, self._ranks())
        self.tiles.value = tiles_html(self._tiles, 1 + SHOWN, WIDTH - 12)
        self._show_marks()

    def _show_marks(self) -> None:
        """Outlines and the line of text."""
        patch = self.config.patch
        windows = self.windows
        # the current patch, its windows in the reference with the best one on top, and those that took from there
        row, column = self.matched.match.corners[self.number].tolist()
        current = mark(row, column, PATCH, rows=patch, columns=patch)
        found = []
        for rank in reversed(self._ranks()):
            row, column, _ = windows[rank]
            found.append(mark(row, column, WINDOW, rows=patch, columns=patch, text=str(rank + 1)))
        takers = self.takers[:OUTLINED] if self._backwards else []
        took = [mark(taker.row, taker.column, TAKER, rows=patch, columns=patch) for taker in reversed(takers)]
        self.query.marks = [*took, current]
        for view in self._own_views[1:]:
            view.marks = [current]
        set_all("marks", found, self._other_views)
        self._say(self.label)

    def _say(self, text: str) -> None:
        self.status.value = f"<div style='line-height:17px;padding-top:4px'>{html.escape(text)}</div>"

    def _ranks(self) -> list[int]:
        """Which of the windows of the current patch are outlined, from 0."""
        if self.which.value == APART:
            return self.matched.apart(self.number, SHOWN)
        return list(range(min(SHOWN, len(self.windows))))

    def _patch_label(self) -> str:
        row, column = self.matched.match.corners[self.number].tolist()
        top, left, turn = self.windows[0].tolist()
        score = self.scores[0]
        weight = float(self.matched.weights()[self.number, 0])
        how = f", {TURNS[turn]}" if turn else ""
        found = f"best window ({top}, {left}){how}, {self.config.similarity} {score:.4g}"
        return f"patch ({row}, {column}): {found}, weight {weight:.3g} among {self.matched.weights().shape[1]}"

    def _source_label(self, row: int, column: int) -> str:
        takers = self.takers
        if not takers:
            return f"reference ({row}, {column}): no patch took from there"
        first = takers[0]
        count = f"{len(takers)} of {len(self.matched.match.corners)} patches took from there"
        most = f"most ({first.row}, {first.column}): weight {first.weight:.3g} by {first.windows} window(s)"
        return f"reference ({row}, {column}): {count}, {most}"


def _heat_limits(plane: np.ndarray, config: MatchConfig) -> tuple[float, float]:
    """Ends of the colour bar: fixed for zncc, so that patches can be compared; else those of this map."""
    if config.similarity == "zncc":
        return (0.0 if config.turns else -1.0), 1.0
    low = float(np.nanmin(plane))
    high = float(np.nanmax(plane))
    return low, max(high, low + 1e-6)


def _view(name: str, size: tuple[int, int], height: int, **traits: object) -> ImageView:
    """An image of this size (rows, columns), at most so high and a column wide on the screen."""
    rows, columns = size
    longer = int(min(height / rows, COLUMN / columns) * max(rows, columns))
    return ImageView(name=name, size=longer, span=COLUMN, **traits)


def _with_response(camera: Camera, wavelengths_nm: np.ndarray | None) -> Camera:
    """The camera with the response of its multispectral sensor, or the error where it cannot be worked out."""
    if camera.srf is not None:
        return camera
    if wavelengths_nm is None:
        fail("camera", "one with `srf` where `lr_hsi` has no wavelengths", "one without")
    return camera.for_wavelengths(wavelengths_nm)


def _size_of(image: torch.Tensor) -> tuple[int, int]:
    """(H, W) of (1, C, H, W)."""
    height, width = image.shape[2:]
    return height, width


def _click(place: list[int], views: Sequence[ImageView], answer: Callable[[], None]) -> None:
    """Sets the cursor of the views; the first is listened to, but a click where it stands already changes nothing."""
    moved = views[0].cursor != place
    set_all("cursor", place, views)
    if not moved:
        answer()
