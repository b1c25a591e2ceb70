"""Looking into a diffusion, step by step: what the network was handed, what it answered, how wrong that is."""

from __future__ import annotations

import html
from collections.abc import Callable
from typing import Any

import ipywidgets
import numpy as np
import torch

from ctmem.checks import Inside, check_count, fail, typed
from ctmem.data.scenes import Scene
from ctmem.evaluation.plots import COLOURS, Picture, to_array
from ctmem.explorers.band import WIDTH, Cube, checked_wavelengths
from ctmem.explorers.recording import Figures, Recording, measure, spread
from ctmem.explorers.render import COMPOSITES, bands_of, colours, quantise, stretch
from ctmem.explorers.view import CubeExplorer, ImageView, LinePlot, Stack, if_true, line, link, set_all, whole
from ctmem.observe.responses import Wavelengths

TALLEST = 200  # of an image, screen pixels
LEAST = 0.1  # dB or degrees that the curves' axes reach over: less is no difference
X_T = COLOURS[4]
X0 = COLOURS[5]
TARGET = "#000000"
UP = "#8a8a8a"
OTHERS = "#b9b9b9"
MEAN = COLOURS[1]
NAMES = {"x_t": "x_t", "x0": "x̂0", "target": "target", "lr_hsi_up": "lr_hsi_up"}  # key → name in the legend


class DiffusionExplorer(CubeExplorer):
    """The steps of a recorded diffusion: x_t, x̂0, error and uncertainty as images, spectra, and quality over the steps.

    The slider moves through the steps; its last position is the answer after back-projection, with x_t where the chain
    ended. A click into an image shows that pixel's spectra, a click into a curve goes to that step. The error and the
    uncertainty have one scale each for all steps and draws. Without a target there is no error and no curve; with one
    draw there is no uncertainty.

    Args:
        run: what `record` returned.
        target: the truth: a scene, an array (H, W, C) or a tensor (1, C, H, W), [0, 1]. Pixels with a NaN are gaps.
        wavelengths_nm: (C,) centres of the bands, nm; default: those of a target that is a scene. Without any, bands
            are counted from 0.
        unit: name and unit of the values.

    Raises:
        TypeError: `run` is not a recording, or the target none of these or not of real numbers.
        ValueError: a target of another size, outside [0, 1] or without a whole pixel, wavelengths that do not fit.
    """

    @typed
    def __init__(
        self,
        run: Recording,
        *,
        target: Inside[Cube | None] = None,
        wavelengths_nm: Inside[Wavelengths | None] = None,
        unit: str = "radiance (scaled)",
    ) -> None:
        if not isinstance(run, Recording):
            fail("run", "a recording, as `record` returns it", type(run).__name__, TypeError)
        self.run = run
        self.unit = unit
        self.rows, self.columns, self.bands = run.shape
        self.target = None if target is None else checked_target(target, run.shape)
        if wavelengths_nm is None and isinstance(target, Scene):
            wavelengths_nm = target.wavelengths_nm
        self.wavelengths_nm = checked_wavelengths(wavelengths_nm, self.bands)
        self.figures: Figures | None = None if self.target is None else measure(run, self.target)
        self.uncertainty = spread(run) if run.draws > 1 else None  # (steps + 1, H, W)
        self.composites = composites(self.bands, self.wavelengths_nm)
        self._build()
        super().__init__(self._layout())
        self._connect()
        self._redraw()
        self.pixel = (self.rows // 2, self.columns // 2)

    # --- what a reader may ask and set ---------------------------------------------------------------------------

    @property
    def step(self) -> int:
        """The position on show: a step, counted from 0, or `run.steps`, the answer; setting it moves the slider."""
        return self.slider.index

    @step.setter
    def step(self, index: int) -> None:
        index = whole(index)
        check_count(index, "step", at_least=0, at_most=self.run.steps)
        set_all("frame", index, self.views)
        set_all("marker", index, self.curves)
        self.slider.index = index

    @property
    def draw(self) -> int:
        """The draw on show, counted from 0; setting it chooses it."""
        return self.draw_of.value

    @draw.setter
    def draw(self, index: int) -> None:
        index = whole(index)
        check_count(index, "draw", at_least=0, at_most=self.run.draws - 1)
        self.draw_of.value = index

    @property
    def spectra(self) -> dict[str, np.ndarray]:
        """The spectra (C,) at the cursor: `x_t`, `x0`, `lr_hsi_up` and, if there is one, `target`."""
        return self._spectra(self.step)

    @property
    def label(self) -> str:
        """The figures of the step and the values at the cursor."""
        (row, column), here = self.pixel, (self.step, *self.pixel)
        ended = self.step == self.run.steps
        name = "the answer, back-projected" if ended else f"step {self.step} (t = {self.run.times[self.step]})"
        whole = f"draw {self.draw}, {name}"
        local = []
        if self.figures is not None:
            psnr, sam = (curve[self.draw, self.step] for curve in (self.figures.psnr_db, self.figures.sam_deg))
            whole += f": {psnr:.2f} dB" + ("" if np.isnan(sam) else f", {sam:.2f}°")
            error = self.figures.error[(self.draw, *here)]
            local.append("no target" if np.isnan(error) else f"error {error:.4f}")
        if self.uncertainty is not None:
            local.append(f"deviation of the draws {self.uncertainty[here]:.4f}")
        if self._in_hole():
            local = ["no data"]
        return f"{whole} · row {row}, column {column}" + (f": {', '.join(local)}" if local else "")

    def describe(self) -> str:
        """One line on what is explored."""
        size = f"{self.rows}×{self.columns} px, {self.bands} band(s)"
        truth = "without a target" if self.target is None else "with a target"
        return f"{self.run.draws} draw(s) of {self.run.steps} step(s): {size}, {truth}"

    def picture(self) -> Picture:
        """Images and plots as they stand, as a static figure."""
        figure = Picture(figsize=(9.2, 5.6), layout="compressed")
        top, bottom = figure.subfigures(2, 1, height_ratios=(1, 1), squeeze=False)[:, 0]
        for ax, view in zip(top.subplots(1, len(self.views), squeeze=False)[0], self.views):
            view.draw(ax)
        left, *right = bottom.subfigures(1, 1 + bool(self.curves), squeeze=False)[0]
        self.plot.draw(left.subplots())
        for ax, curve in zip(right[0].subplots(len(self.curves), 1, squeeze=False)[:, 0] if right else [], self.curves):
            curve.draw(ax)
        return figure

    # --- building ------------------------------------------------------------------------------------------------

    def _build(self) -> None:
        """Makes the widgets."""
        # what is on show depends on what there is: a target, several draws
        run = self.run
        self.notes = self._notes()
        names = ["x_t, what goes in", "x̂0, what comes out"]
        names += if_true(self.figures is not None, "error: |x̂0 − target|")
        names += if_true(self.uncertainty is not None, f"deviation of {run.draws} draws")
        span = min(TALLEST, WIDTH // len(names) - 14)
        scale = min(span / self.columns, TALLEST / self.rows)
        size = round(scale * max(self.rows, self.columns))
        self.views = [ImageView(name=name, size=size, span=span) for name in names]
        self.slider = ipywidgets.SelectionSlider(
            options=[(self._position_name(position), position) for position in range(run.steps + 1)],
            index=int(np.abs(np.array(run.levels) - 0.5).argmin()),
            description="step",
            layout={"width": f"{WIDTH - 20}px"},
        )
        self.draw_of = ipywidgets.Dropdown(
            options=[(f"{n} (of {run.draws})", n) for n in range(run.draws)],
            description="draw",
            layout={"width": "200px"},
        )
        self.show = ipywidgets.Dropdown(options=list(self.composites), description="show", layout={"width": "380px"})
        self.status = ipywidgets.HTML()
        self._build_plots()

    def _build_plots(self) -> None:
        """Makes the spectrum plot and, where there is a target, the curves."""
        self.curves: list[LinePlot] = []
        wide = WIDTH - 24
        self.plot = LinePlot(
            name="spectra at the cursor",
            x_label="band number (no wavelengths known)" if self.wavelengths_nm is None else "wavelength (nm)",
            y_label=self.unit,
            width=wide if self.figures is None else round(0.54 * wide),
            height=210,
        )
        if self.figures is None:
            return
        units = [("PSNR (dB)", self.figures.psnr_db), ("SAM (degrees)", self.figures.sam_deg)]
        self.measured = [(label, values) for label, values in units if not np.isnan(values).all()]  # one band: no SAM
        for number, (label, values) in enumerate(self.measured):
            last = number == len(self.measured) - 1
            self.curves.append(
                LinePlot(
                    name="",
                    x_label=self._axis_name() if last else "",
                    y_label=label,
                    positions=list(map(float, range(self.run.steps + 1))),
                    limits=at_least_wide(values, LEAST),
                    width=round(0.46 * wide) - 12,
                    height=(220 if len(self.measured) == 1 else 118 if last else 102),
                    legend=last,
                    marker=self.slider.index,
                )
            )

    def _layout(self) -> list[ipywidgets.Widget]:
        """The widgets, row by row."""
        choosers = if_true(self.run.draws > 1, self.draw_of) + if_true(len(self.composites) > 1, self.show)
        notes = if_true(bool(self.notes), ipywidgets.HTML(html.escape(" ".join(self.notes))))
        below = [self.plot, *if_true(bool(self.curves), ipywidgets.VBox(self.curves))]
        rows = if_true(bool(choosers), ipywidgets.HBox(choosers))
        return [*rows, self.slider, self.status, *notes, ipywidgets.HBox(self.views), ipywidgets.HBox(below)]

    def _connect(self) -> None:
        """Who answers to what."""
        link("cursor", *self.views)
        link("zoom", *self.views)
        set_all("frame", self.slider.index, self.views)
        link("frame", (self.slider, "index"), *self.views, *((curve, "marker") for curve in self.curves))
        self.views[0].observe(self._on_cursor, "cursor")
        self.slider.observe(self._on_step, "index")
        self.draw_of.observe(self._redraw, "value")
        self.show.observe(self._redraw, "value")

    # --- answering -----------------------------------------------------------------------------------------------

    def _on_cursor(self, _: object = None) -> None:
        with self.plot.hold_sync():
            self.plot.limits = self._reach()
            self._on_step()

    def _on_step(self, _: object = None) -> None:
        self.plot.lines = self._lines()
        self.status.value = html.escape(self.label)

    def _redraw(self, _: object = None) -> None:
        """Shows the draw that is chosen: new stacks and curves."""
        stacks = [self._images(self.run.noisy), self._images(self.run.estimate)]
        if self.figures is not None:
            unit = "RMSE over bands"
            stacks.append(maps(self.figures.error[self.draw], limits_of(self.figures.error), unit, "magma"))
        if self.uncertainty is not None:
            stacks.append(maps(self.uncertainty, limits_of(self.uncertainty), "RMS over bands", "viridis"))
        for view, stack in zip(self.views, stacks):
            view.show(stack)
        for curve, (_, values) in zip(self.curves, self.measured if self.curves else []):
            curve.lines = curve_lines(values, self.draw)
        if self.pixel[0] >= 0:
            self._on_cursor()

    def _images(self, cube_of: Callable[..., torch.Tensor]) -> Stack:
        """`run.noisy` or `run.estimate` of the chosen draw in colour, stretched as the target, or as lr_hsi_up."""
        bands = self.composites[self.show.value]
        draw = self.draw
        like = self.run.encoded.lr_hsi_up.cpu() if self.target is None else self.target
        stretched = [stretch(like[0, band].numpy()) for band in bands]

        def frame(position: int) -> tuple[np.ndarray, None]:
            return colours(to_array(cube_of(draw, position, bands=bands)), stretched), None

        return Stack(frame, frames=self.run.steps + 1)

    def _spectra(self, position: int) -> dict[str, np.ndarray]:
        """The spectra at the cursor at a position."""
        of = {"pixel": self.pixel}
        cubes = {
            "x_t": self.run.noisy(self.draw, position, **of),
            "x0": self.run.estimate(self.draw, position, **of),
        }
        row, column = self.pixel
        spectra = {key: cube[0, :, 0, 0].numpy() for key, cube in cubes.items()}
        up = self.run.encoded.lr_hsi_up[0, :, row, column].cpu().numpy()
        spectra["lr_hsi_up"] = np.full_like(up, np.nan) if self._in_hole() else up  # filled there
        if self.target is not None:
            spectra["target"] = self.target[0, :, row, column].numpy()
        return spectra

    def _reach(self) -> list[float]:
        """Lowest and highest value at the cursor over all steps: the axis stays while the slider moves."""
        every = np.stack([v for position in range(self.run.steps + 1) for v in self._spectra(position).values()])
        known = every[np.isfinite(every)]
        return [float(known.min()), float(known.max())] if len(known) else [0.0, 1.0]

    def _in_hole(self) -> bool:
        """Whether nothing was observed at the cursor."""
        row, column = self.pixel
        return bool(self.run.answers[self.draw, 0, row, column].isnan())

    def _lines(self) -> list[dict[str, object]]:
        """The spectra at the cursor as lines of the plot."""
        styles: dict[str, dict[str, Any]] = {
            "x_t": {"colour": X_T, "width": 1.3},
            "lr_hsi_up": {"colour": UP, "dash": "7 4", "width": 1.5},
            "target": {"colour": TARGET, "width": 4.0},
            "x0": {"colour": X0, "width": 1.8},
        }
        spectra = self.spectra
        drawn = [key for key in styles if key in spectra]
        over = {key: self.over_wavelength(spectra[key]) for key in drawn}
        return [line(NAMES[key], *over[key], **styles[key], points=self.bands == 1) for key in drawn]

    # --- words ---------------------------------------------------------------------------------------------------

    def _position_name(self, position: int) -> str:
        if position == self.run.steps:
            return "answer"
        return f"{position} · noise level {self.run.levels[position]:.2f}"

    def _axis_name(self) -> str:
        first = self.run.levels[0]
        last = self.run.levels[-1]
        levels = f"{first:.2f}" if self.run.steps == 1 else f"{first:.2f} → {last:.2f}"
        return f"step (noise level {levels}); dot: answer"

    def _notes(self) -> list[str]:
        """What is missing, and why."""
        notes = if_true(self.run.draws == 1, "One draw: no uncertainty.")
        notes += if_true(self.target is None, "No target: no error and no curves.")
        if self.wavelengths_nm is None:
            notes.append(f"No wavelengths: bands are counted, the images are of {next(iter(self.composites))}.")
        return notes


@typed
def checked_target(target: Inside[Cube], shape: tuple[int, int, int]) -> torch.Tensor:
    """The target as a tensor (1, C, H, W), or the error of what is wrong with it; `shape` is (H, W, C)."""
    wanted = "a Scene, an array (H, W, C) or a tensor (1, C, H, W)"
    if not isinstance(target, Scene | np.ndarray | torch.Tensor):
        fail("target", wanted, type(target).__name__, TypeError)
    # its form: one cube of numbers of the size of the recording
    image = target.cube if isinstance(target, Scene) else target
    if image.ndim not in (2, 3) and not (isinstance(image, torch.Tensor) and image.ndim == 4 and len(image) == 1):
        fail("target", wanted, f"shape {tuple(image.shape)}")
    cube = np.array(to_array(image))  # a copy: whoever handed it over may change it
    if cube.dtype.kind not in "fiu":
        fail("target", "numbers in [0, 1]", f"values of type {cube.dtype}", TypeError)
    if cube.shape != shape:
        fail("target", f"of the recording's size (H, W, C) = {shape}", cube.shape)
    # its values: finite, but for gaps, and in [0, 1]
    if np.isinf(cube).any() or np.isnan(cube).any(-1).all():
        fail("target", "finite, in one pixel at least", "infinite values, or a NaN in every pixel")
    low = np.nanmin(cube)
    high = np.nanmax(cube)
    if low < 0 or high > 1:
        fail("target", "in [0, 1]", f"values from {low:.4g} to {high:.4g}")
    return torch.tensor(cube, dtype=torch.float32).movedim(-1, 0)[None]


@typed
def composites(bands: int, wavelengths_nm: np.ndarray | None) -> dict[str, tuple[int, ...]]:
    """Name → bands for red, green and blue: those of the wavelengths, or else bands spread over the cube."""
    named = {name: found for name in COMPOSITES if (found := bands_of(name, wavelengths_nm))}
    red, green, blue = ((2 * part + 1) * bands // 6 for part in (2, 1, 0))
    return named or {f"bands {red}, {green}, {blue} as red, green, blue": (red, green, blue)}


@typed
def limits_of(values: np.ndarray) -> tuple[float, float]:
    """(0, the 99th percentile) of maps (…, H, W), for one scale of all of them."""
    return 0.0, stretch(values.reshape(-1, values.shape[-1]))[1]


@typed
def at_least_wide(values: np.ndarray, width: float) -> list[float]:
    """Lowest and highest value, moved apart to at least a width."""
    low = float(np.nanmin(values))
    high = float(np.nanmax(values))
    missing = max(0.0, width - (high - low)) / 2
    return [low - missing, high + missing]


@typed
def maps(values: np.ndarray, limits: tuple[float, float], unit: str, colour_map: str) -> Stack:
    """Maps (frames, H, W) as a stack with one scale."""
    return Stack(lambda n: (quantise(values[n], limits), limits), frames=len(values), unit=unit, colour_map=colour_map)


@typed
def curve_lines(values: np.ndarray, draw: int) -> list[dict[str, object]]:
    """Lines of a figure over the steps: the other draws, the mean of the draws, and the one that is chosen.

    Args:
        values: (draws + 1, steps + 1), the last row that of the mean, the last column that of the answers.
        draw: the one that is chosen.
    """
    *draws, mean = values
    steps = np.arange(values.shape[1])
    rows = [("", other, OTHERS, 1.3) for number, other in enumerate(draws) if number != draw]
    rows[:1] = [("other draws", *row[1:]) for row in rows[:1]]
    rows += if_true(len(draws) > 1, ("mean of the draws", mean, MEAN, 2.0))
    rows.append(("this draw", draws[draw], X0, 2.5))
    lines = [
        line(name, steps[:-1], row[:-1], colour, width=width, points=len(steps) == 2)
        for name, row, colour, width in rows
    ]
    answers = [row for row in rows if row[0] in ("mean of the draws", "this draw")]
    return lines + [line("", steps[-1:], row[-1:], colour, points=True) for _, row, colour, _ in answers]
