"""Looking into a cube: bands, composites, spectra, and up to four cubes beside each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import ipywidgets
import numpy as np
import torch

from ctmem.checks import Array, Inside, Whole, check_choice, check_count, fail, typed
from ctmem.data.scenes import Scene
from ctmem.evaluation.plots import COLOURS, Picture, to_array
from ctmem.explorers.render import COMPOSITES, INDICES, bands_of, colours, normalised_difference, quantise, stretch
from ctmem.explorers.view import (
    CubeExplorer,
    ImageView,
    LinePlot,
    Stack,
    checked_place,
    if_true,
    line,
    link,
    mark,
    set_all,
    status,
    whole,
)
from ctmem.observe.responses import Wavelengths

CubeArray = Annotated[np.ndarray, Array("(H, W, C)")]
Cube = Scene | np.ndarray | torch.Tensor
ONE_BAND, SIDE_BY_SIDE = "one band", "side by side"
EACH, ALL = "each band", "all bands"
MOST = 4  # cubes beside each other, the error map counted
WIDTH = 860  # screen pixels of the whole
ONE, SEVERAL = 340, 180  # of an image alone, with the spectra beside it, and of those in a row above them
SHORTEST_NM = 100.0  # wavelengths below are none in nm
ROWS = 16  # of a cube that are worked on at a time
DASHES = ("", "7 4", "2 3", "9 3 2 3")  # one per cube
CURSOR, PINNED = "#000000", COLOURS[:6]  # colours of the lines


class BandExplorer(CubeExplorer):
    """Bands, composites and spectra of a cube, or of several of the same ground.

    A slider walks through the bands. Click a pixel, or walk with the arrow keys, to see its spectrum; Enter,
    shift-click or the button pins it. A click into the spectrum shows that band. Pixels that are NaN are gaps.

    Args:
        cubes: a scene, an array (H, W, C) or a tensor (1, C, H, W); or several, {name: cube}, at most four.
        wavelengths_nm: (C,) centres of the bands, nm; default: the scene's. Without any, bands are counted from 0.
        target: name of the cube that is the truth: a map of the absolute error of the others is added.
        unit: name and unit of the values.

    Raises:
        TypeError: a cube that is none of these.
        ValueError: no cube, more than four images, cubes that differ in size or bands, wavelengths that do not fit,
            an unknown target.

    Example:
        >>> explorer = BandExplorer(np.arange(24.0).reshape(2, 3, 4))
        >>> explorer.pixel = (1, 2)
        >>> print(explorer.label)
        row 1, column 2 · band 0: 20
    """

    @typed
    def __init__(
        self,
        cubes: Inside[Cube | Mapping[str, Cube]],
        *,
        wavelengths_nm: Inside[Sequence[float] | None] = None,
        target: str | None = None,
        unit: str = "radiance (scaled)",
    ) -> None:
        alone = cubes.name if isinstance(cubes, Scene) else "cube"
        named = dict(cubes) if isinstance(cubes, Mapping) else {alone: cubes}
        self.cubes = _checked(named)
        scenes = [cube for cube in named.values() if isinstance(cube, Scene)]
        known = _common_wavelengths(scenes) if wavelengths_nm is None else wavelengths_nm
        self.rows, self.columns, self.bands = next(iter(self.cubes.values())).shape
        self.wavelengths_nm = checked_wavelengths(known, self.bands)
        self.target, self.unit = target, unit
        if target is not None:
            check_choice(target, "target", self.cubes)
        others = [name for name in self.cubes if name != target]
        if len(self.cubes) + (target is not None) > MOST or not others:
            fail("cubes", f"1 to {MOST} cubes, the error map counted", f"{len(self.cubes)}, target {target!r}")
        self._limits: dict[int, tuple[float, float]] = {}
        self._build(others if target is not None else [])
        super().__init__(self._layout())
        self._connect()
        self._redraw()
        self.pixel = (self.rows // 2, self.columns // 2)

    # --- what a reader may ask and set ---------------------------------------------------------------------------

    @property
    def pins(self) -> list[tuple[int, int]]:
        """(row, column) of the pinned pixels, in the order they were pinned."""
        return [tuple(pin) for pin in self.views[0].pins]

    @pins.setter
    def pins(self, places: Sequence[tuple[int, int]]) -> None:
        pins = [list(checked_place(place, "pins", self.rows, self.columns)) for place in places]
        set_all("pins", pins, self.views)

    @property
    def band(self) -> int:
        """Index of the band on show; setting it moves the slider."""
        return self.slider.index

    @band.setter
    def band(self, index: int) -> None:
        index = whole(index)
        check_count(index, "band", at_least=0, at_most=self.bands - 1)
        set_all("frame", index, self.views)
        self.plot.marker = self.slider.index = index

    @property
    def spectra(self) -> dict[str, np.ndarray]:
        """The spectrum (C,) of every cube at the cursor."""
        return {name: np.array(cube[self.pixel]) for name, cube in self.cubes.items()}

    @property
    def label(self) -> str:
        """The values at the cursor in the band of the slider."""
        (row, column), values = self.pixel, {name: cube[(*self.pixel, self.band)] for name, cube in self.cubes.items()}
        names = {name: f"{name} " if len(values) > 1 else "" for name in values}
        text = ", ".join(f"{names[name]}{number(v)}" for name, v in values.items())
        return f"row {row}, column {column} · {self.band_name(self.band)}: {text}"

    def describe(self) -> str:
        """One line on what is explored."""
        names = ", ".join(self.cubes)
        nm = self.wavelengths_nm
        reach = "no wavelengths" if nm is None else f"{nm.min():.0f} … {nm.max():.0f} nm"
        return f"{names}: {self.rows}×{self.columns} px, {self.bands} band(s), {reach}"

    def picture(self) -> Picture:
        """Images and spectra as they stand, as a static figure."""
        count = len(self.images.children)
        figure = Picture(figsize=(9.2, 3.4 if count == 1 else 5.4), layout="compressed")
        shape = {"width_ratios": (1, 1.5)} if count == 1 else {"height_ratios": (1, 1)}
        top, bottom = figure.subfigures(*((1, 2) if count == 1 else (2, 1)), **shape)
        for ax, view in zip(top.subplots(1, count, squeeze=False)[0], self.images.children):
            view.draw(ax)
        self.plot.draw(bottom.subplots())
        return figure

    # --- building ------------------------------------------------------------------------------------------------

    def _build(self, others: list[str]) -> None:
        """Makes the widgets; `others` are the cubes that have an error."""
        count = len(self.cubes) + (self.target is not None)
        self.views = [ImageView(pinning=True, span=0 if count == 1 else WIDTH // count - 14) for _ in range(count)]
        nm = self.wavelengths_nm
        self.plot = LinePlot(
            name="spectra",
            x_label="band number (no wavelengths known)" if nm is None else "wavelength (nm)",
            y_label=self.unit,
            positions=list(map(float, range(self.bands) if nm is None else nm)),
        )
        self._arrange(self.views)
        kinds = [name for name in (*COMPOSITES, *INDICES) if bands_of(name, nm)]
        self.show = ipywidgets.Dropdown(options=[ONE_BAND, *kinds], description="show", layout={"width": "360px"})
        if "true colour" in kinds:
            self.show.value = "true colour"
        self.scale = ipywidgets.Dropdown(
            options=[EACH, ALL],
            description="stretch",
            layout={"width": "200px"},
            tooltip="black and white, of each band or of all alike",
        )
        self.slider = ipywidgets.SelectionSlider(
            options=[(self.band_name(band), band) for band in range(self.bands)],
            index=self._first_band(),
            description="band",
            layout={"width": f"{WIDTH - 40}px"},
        )
        self.plot.marker = self.slider.index
        self.pin = ipywidgets.Button(description="pin pixel", tooltip="keep this spectrum (Enter)", icon="thumb-tack")
        self.clear = ipywidgets.Button(description="clear pins", tooltip="forget all kept spectra", icon="trash")
        pairs = [(f"swipe {a} | {b}", (a, b)) for i, a in enumerate(self.cubes) for b in list(self.cubes)[i + 1 :]]
        self.arrangement = ipywidgets.Dropdown(
            options=[(SIDE_BY_SIDE, ()), *pairs], description="images", layout={"width": "300px"}
        )
        self.error_of = ipywidgets.Dropdown(options=others, description="error of", layout={"width": "240px"})
        self.status = ipywidgets.HTML(layout={"height": "28px", "width": f"{WIDTH}px"})

    def _layout(self) -> list[ipywidgets.Widget]:
        """The widgets, row by row."""
        self.images = ipywidgets.HBox(self.views)
        # a control that would have nothing to choose from is left out
        upper = if_true(len(self.show.options) > 1, self.show) + if_true(self.bands > 1, self.scale)
        lower = if_true(len(self.cubes) > 1, self.arrangement) + if_true(len(self.error_of.options) > 1, self.error_of)
        rows = [ipywidgets.HBox([*upper, self.pin, self.clear]), *if_true(bool(lower), ipywidgets.HBox(lower))]
        rows += [*if_true(self.bands > 1, self.slider), self.status]
        return [*rows, ipywidgets.HBox([self.images, self.plot], layout={"flex_flow": "row wrap"})]

    def _arrange(self, shown: list[ImageView]) -> None:
        """Sizes for one image with the spectra beside it, or for several in a row above them."""
        side = ONE if len(shown) == 1 else min(SEVERAL, WIDTH // len(shown) - 14)
        for view in self.views:
            view.size = side
        self.plot.width = WIDTH - 24 - (side if len(shown) == 1 else 0)
        self.plot.height = 300 if len(shown) == 1 else 200

    def _connect(self) -> None:
        """Who answers to what."""
        first = self.views[0]
        for trait in ("cursor", "pins", "zoom"):
            link(trait, *self.views)
        set_all("frame", self.slider.index, self.views)
        link("frame", (self.slider, "index"), *self.views, (self.plot, "marker"))
        first.observe(self._on_cursor, "cursor")
        first.observe(self._on_pins, "pins")
        self.slider.observe(self._on_band, "index")
        for chooser in (self.show, self.scale, self.arrangement, self.error_of):
            chooser.observe(self._redraw, "value")
        self.pin.on_click(lambda _: setattr(self, "pins", dict.fromkeys([*self.pins, self.pixel])))
        self.clear.on_click(lambda _: setattr(self, "pins", []))

    # --- answering -----------------------------------------------------------------------------------------------

    def _on_cursor(self, _: object = None) -> None:
        self.plot.lines = self._lines()
        self.status.value = status(self.label)

    def _on_pins(self, _: object = None) -> None:
        marks = [mark(*pin, PINNED[n % len(PINNED)], text=str(n + 1)) for n, pin in enumerate(self.pins)]
        set_all("marks", marks, self.views)
        self._on_cursor()

    def _on_band(self, _: object) -> None:
        if self.show.value != ONE_BAND:  # whoever moves the slider wants to see the band
            self.show.value = ONE_BAND
        self.status.value = status(self.label)

    def _redraw(self, _: object = None) -> None:
        """Shows what is chosen: new stacks for all views."""
        names = list(self.cubes)
        self.scale.disabled = self.show.value in INDICES  # their ends are −1 and 1
        self.error_of.disabled = bool(self.arrangement.value)  # no error map is on show
        self._stacks = [self._stack(name) for name in names]
        titles = names.copy()
        pair = self.arrangement.value
        if self.target is not None:
            self._stacks.append(self._error_stack(self.error_of.value, self.cubes[self.target]))
            titles.append(f"|{self.error_of.value} − {self.target}|")
        for view, stack, title in zip(self.views, self._stacks, titles):
            view.name = title
            if not pair or view is not self.views[0]:
                view.show(stack)
        if pair:
            self.views[0].name = f"{pair[0]} | {pair[1]}"
            self.views[0].show(*(self._stacks[names.index(name)] for name in pair))
        shown = [self.views[0]] if pair else self.views
        self._arrange(shown)
        self.images.children = shown

    def _stack(self, name: str) -> Stack:
        """What is chosen of one cube; the stretch is that of the first cube, so that images can be compared."""
        cube, first, kind = self.cubes[name], next(iter(self.cubes.values())), self.show.value
        if kind == ONE_BAND:
            return Stack(
                lambda band: (quantise(cube[..., band], self._band_limits(band)), self._band_limits(band)),
                frames=self.bands,
                unit=self.unit,
            )
        bands = bands_of(kind, self.wavelengths_nm) or ()  # never empty: the menu offers what the cube has
        if kind in INDICES:
            index = normalised_difference(*(cube[..., band].astype(np.float32) for band in bands))
            return Stack.of(quantise(index, (-1, 1)), (-1, 1), unit=kind.split(",")[0], colour_map="BrBG")
        limits = [stretch(first[..., band]) for band in bands]
        if self.scale.value == ALL:
            limits = [(min(low for low, _ in limits), max(high for _, high in limits))] * 3
        return Stack.of(colours(cube[..., list(bands)], limits))

    def _error_stack(self, name: str, target: np.ndarray) -> Stack:
        """Absolute error of one cube, band by band, or its root mean square over bands; one stretch for all cubes."""
        others = self.error_of.options
        if self.show.value == ONE_BAND:

            def frame(band: int) -> tuple[np.ndarray, tuple[float, float]]:
                errors = {other: absolute_error(self.cubes[other], target, band) for other in others}
                limits = (0.0, max(stretch(error)[1] for error in errors.values()))
                return quantise(errors[name], limits), limits

            return Stack(frame, frames=self.bands, unit=self.unit, colour_map="magma")
        errors = {other: rms_error(self.cubes[other], target) for other in others}
        limits = (0.0, max(stretch(error)[1] for error in errors.values()))
        return Stack.of(quantise(errors[name], limits), limits, unit="RMSE over bands", colour_map="magma")

    def _band_limits(self, band: int) -> tuple[float, float]:
        """Black and white of a band; those of all bands are kept under −1."""
        first = next(iter(self.cubes.values()))
        key = band if self.scale.value == EACH else -1
        if key not in self._limits:
            some = range(self.bands) if key == -1 else [band]
            pairs = [stretch(first[..., number]) for number in some]
            self._limits[key] = (min(low for low, _ in pairs), max(high for _, high in pairs))
        return self._limits[key]

    def _lines(self) -> list[dict[str, object]]:
        """The spectra of the cursor and of the pins in every cube, as lines of the plot."""
        several = len(self.cubes) > 1
        lines: list[dict[str, object]] = []
        places = [(self.pixel, CURSOR, 2.0, "cursor")]
        for n, pin in enumerate(self.pins):  # a second round of the colours is wider
            places.append((pin, PINNED[n % len(PINNED)], 2.0 + 1.5 * (n // len(PINNED)), f"{n + 1}"))
        for place, colour, width, text in places:
            if several:  # in the legend: a pixel's colour
                lines.append(line(f"{text} {place}", [], [], colour, width=width))
            for dash, (name, cube) in zip(DASHES, self.cubes.items()):
                x, y = self.over_wavelength(cube[place])
                title = f"{text} {place} {name}" if several else f"{text} {place}"
                style: dict[str, Any] = {"dash": dash, "width": width, "points": self.bands == 1, "legend": not several}
                lines.append(line(title, x, y, colour, **style))
        if several:  # in the legend: a cube's dashes
            lines += [line(name, [], [], CURSOR, dash=dash) for dash, name in zip(DASHES, self.cubes)]
        return lines

    def _first_band(self) -> int:
        """Where the slider begins: at 650 nm, where the cube reaches it."""
        return 0 if self.wavelengths_nm is None else int(np.abs(self.wavelengths_nm - 650).argmin())


@typed
def number(value: np.number) -> str:
    """Returns a value as the label says it: counts whole, others with four digits."""
    if isinstance(value, np.integer):
        return str(value)
    return "no data" if np.isnan(value) else f"{value:.4g}"


@typed
def absolute_error(cube: CubeArray, target: CubeArray, band: Whole) -> np.ndarray:
    """Returns |cube − target| of one band, (H, W) float32."""
    if cube.shape != target.shape:
        fail("cube", f"of the shape of `target` {target.shape}", cube.shape)
    check_count(band, "band", at_least=0, at_most=cube.shape[2] - 1)
    return np.abs(cube[..., band].astype(np.float32) - target[..., band])


@typed
def rms_error(cube: CubeArray, target: CubeArray) -> np.ndarray:
    """Returns the root mean square over bands of cube − target, (H, W), some rows at a time to save memory."""
    if cube.shape != target.shape:
        fail("cube", f"of the shape of `target` {target.shape}", cube.shape)
    pairs = ((cube[top : top + ROWS], target[top : top + ROWS]) for top in range(0, len(cube), ROWS))
    return np.concatenate([np.sqrt(np.square(a.astype(np.float32) - b).mean(-1)) for a, b in pairs])


def _checked(cubes: Mapping[str, Cube]) -> dict[str, np.ndarray]:
    """The cubes as arrays (H, W, C) of one size, or the error of what is wrong with them."""
    if not cubes:
        fail("cubes", "at least one cube", "none")
    arrays = {}
    for name, cube in cubes.items():
        if not isinstance(cube, Scene | np.ndarray | torch.Tensor):
            wanted = "a Scene, an array (H, W, C) or a tensor (1, C, H, W)"
            fail(f"cubes[{name!r}]", wanted, type(cube).__name__, TypeError)
        if not isinstance(name, str):
            fail("cubes", "a dict of names (text) and cubes", f"the name {name!r}", TypeError)
        array = cube.cube if isinstance(cube, Scene) else to_array(cube, f"cubes[{name!r}]")
        arrays[name] = array.copy() if array.flags.writeable else array  # whoever handed it over may change it
        if arrays[name].dtype.kind not in "fiu" or 0 in arrays[name].shape:
            fail(f"cubes[{name!r}]", "numbers (H, W, C)", f"{arrays[name].dtype} of shape {arrays[name].shape}")
    first, shape = next((name, array.shape) for name, array in arrays.items())
    for name, array in arrays.items():
        if array.shape != shape:
            fail(f"cubes[{name!r}]", f"of the shape of {first!r}, {shape}", array.shape)
    return arrays


def _common_wavelengths(scenes: Sequence[Scene]) -> np.ndarray | None:
    """The wavelengths that the scenes agree on; None where none has any."""
    known = [(scene.name, nm) for scene in scenes if (nm := scene.wavelengths_nm) is not None]
    if not known:
        return None
    first, wavelengths = known[0]
    for name, nm in known[1:]:
        if not np.allclose(nm, wavelengths):
            fail("cubes", "of the same wavelengths", f"others in {name!r} than in {first!r}")
    return wavelengths


@typed
def checked_wavelengths(wavelengths_nm: Inside[Wavelengths | None], bands: int) -> np.ndarray | None:
    """The wavelengths as an array, or the error of what does not fit."""
    if wavelengths_nm is None:
        return None
    try:
        nm = np.asarray(wavelengths_nm, float)
    except (TypeError, ValueError):
        fail("wavelengths_nm", f"{bands} number(s), one per band", repr(wavelengths_nm), TypeError)
    if nm.shape != (bands,):
        fail("wavelengths_nm", f"{bands} finite number(s), one per band", f"shape {nm.shape}")
    if not np.isfinite(nm).all():
        fail("wavelengths_nm", f"{bands} finite number(s), one per band", f"{int((~np.isfinite(nm)).sum())} not finite")
    if nm.max() < SHORTEST_NM:
        fail("wavelengths_nm", "in nm", f"values from {nm.min():g} to {nm.max():g}: micrometres?")
    return nm
