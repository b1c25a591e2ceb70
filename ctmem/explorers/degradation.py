"""Touching the degradation: blur, scale, noise and the multispectral sensor, and what is left of a scene."""

from __future__ import annotations

import html
import math
import numbers
from dataclasses import replace
from typing import Any

import ipywidgets
import numpy as np
import torch

from ctmem.checks import Inside, check_choice, check_count, door, fail
from ctmem.evaluation.metrics import sam_map
from ctmem.evaluation.plots import Picture
from ctmem.explorers.band import Cube, checked_wavelengths
from ctmem.explorers.observation import (
    COARSE,
    SMALLEST,
    band_styles,
    checked_scene,
    covered_bands,
    dot_lines,
    filled,
    gaps_of,
    observed,
    on_fine_grid,
    psf_lines,
    response_lines,
    upsampled_psnr_db,
)
from ctmem.explorers.render import bands_of, colours, quantise, stretch
from ctmem.explorers.view import CubeExplorer, ImageView, LinePlot, Stack, line, link, mark
from ctmem.observe.camera import Camera
from ctmem.observe.responses import SENSORS, Wavelengths

SCALE = 4  # to begin with
LARGEST = 8  # scale
WIDTHS = tuple(half / 2 for half in range(1, 25))  # of the PSF, fine pixels
SNRS = (10, 50)  # dB
NO_NOISE = "no noise"
FOUR, ALL = "blue, green, red, near infrared", "all that the scene covers"
SIDE, TALL = 216, 160  # of an image, and of a plot without its title and legend, screen pixels
SLOW = 12_000_000  # numbers in a cube above which one waits long enough to be told


class DegradationExplorer(CubeExplorer):
    """A scene, what a coarse hyperspectral and a fine multispectral sensor see of it, and sliders for how.

    All images are drawn on the fine pixels, so a click in any of them is the same ground. The coarse image ends where
    the scene holds no further whole coarse pixel, as in `samples.degrade_scene`. Pixels with NaN are gaps, and so is
    every coarse pixel whose blur reads one. The noise is that of seed 0, whatever else is moved; the multispectral
    image has none. All that is seen comes from `camera`, which can be taken along: the coarse image is
    `camera.observe(…, generator=torch.Generator().manual_seed(0))`.

    Args:
        scene: a scene, an array (H, W, C) or a tensor (1, C, H, W), [0, 1], at least 2×2 px.
        camera: to begin with, of a Gaussian blur and values that the sliders have; its scale, width, noise and sensor
            are taken where they are not given below.
        wavelengths_nm: (C,) centres of the bands, nm; default: the scene's. Without any there is no multispectral
            sensor, and bands are counted from 0.
        scale: fine pixels per coarse pixel, 2 to 8; default: 4.
        fwhm: full width at half maximum of the Gaussian blur, 0.5 to 12 fine pixels in steps of 0.5; default: `scale`.
        snr_db: signal-to-noise ratio of the coarse image, 10 to 50 dB, whole; default: no noise.
        sensor: one of `responses.SENSORS` whose visible bands the scene covers; default: the first.
        unit: name and unit of the values.

    Attributes:
        camera: what the sliders say, with the response over the scene's bands where there is a multispectral sensor.

    Raises:
        TypeError: `scene` or `camera` is none of these.
        ValueError: a scene that is too small, has no pixel without NaN or leaves [0, 1]; wavelengths that do not fit;
            a slider's value out of range; a camera whose blur is not that of a slider's width; a sensor that is not
            covered.

    Example:
        >>> explorer = DegradationExplorer(torch.full((1, 1, 4, 6), 0.5), scale=2)
        >>> explorer.pixel = (3, 1)
        >>> print(explorer.label)
        row 3, column 1: coarse pixel (1, 0) of 2×3 · scale 2, FWHM 2 px, no noise: upsampled PSNR 100.00 dB
    """

    @door
    def __init__(
        self,
        scene: Cube,
        *,
        camera: Camera | None = None,
        wavelengths_nm: Wavelengths | None = None,
        scale: Inside[int | None] = None,
        fwhm: Inside[float | None] = None,
        snr_db: Inside[int | None] = None,
        sensor: str | None = None,
        unit: str = "radiance (scaled)",
    ) -> None:
        # the scene
        cube = checked_scene(scene)
        self.rows, self.columns, self.bands = cube.shape
        known = getattr(scene, "wavelengths_nm", None) if wavelengths_nm is None else wavelengths_nm
        self.wavelengths_nm = checked_wavelengths(known, self.bands)
        self.name = getattr(scene, "name", "scene")
        self.unit = unit
        self._fine, self._holes = filled(cube)
        self.covered = covered_bands(self.wavelengths_nm)
        self._visible = bands_of("true colour", self.wavelengths_nm)
        # the sliders, where they are asked to stand
        self._build()
        if camera is None:
            self.scale = SCALE if scale is None else scale
            self.fwhm = float(self.scale)
        else:
            self._begin_with(camera)
        for name, value in {"scale": scale, "fwhm": fwhm, "snr_db": snr_db, "sensor": sensor}.items():
            if value is not None:
                setattr(self, name, value)
        # what they show
        super().__init__(self._layout())
        self._degrade()
        self._sense()
        self._connect()
        self.pixel = (self.rows // 2, self.columns // 2)

    # --- what a reader may ask and set ---------------------------------------------------------------------------

    @property
    def scale(self) -> int:
        """Fine pixels per coarse pixel; setting it moves the slider."""
        return self.scale_slider.value

    @scale.setter
    def scale(self, value: int) -> None:
        check_count(value, "scale", at_least=SMALLEST, at_most=self.scale_slider.max)
        self.scale_slider.value = int(value)

    @property
    def fwhm(self) -> float:
        """Full width at half maximum of the PSF, fine pixels; setting it moves the slider."""
        return self.fwhm_slider.value

    @fwhm.setter
    def fwhm(self, value: float) -> None:
        if not isinstance(value, numbers.Real) or isinstance(value, bool) or float(value) not in WIDTHS:
            fail("fwhm", "one of the multiples of 0.5 from 0.5 to 12 (fine pixels)", repr(value))
        self.fwhm_slider.value = float(value)

    @property
    def snr_db(self) -> int | None:
        """Signal-to-noise ratio, dB, or None; setting it moves the slider."""
        return None if math.isinf(self.snr_slider.value) else self.snr_slider.value

    @snr_db.setter
    def snr_db(self, value: int | None) -> None:
        if value is not None:
            check_count(value, "snr_db", at_least=SNRS[0], at_most=SNRS[1])
        self.snr_slider.value = math.inf if value is None else int(value)

    @property
    def sensor(self) -> str | None:
        """The multispectral sensor, None where there is none; setting it moves the chooser."""
        return self.sensor_chooser.value

    @sensor.setter
    def sensor(self, name: str) -> None:
        if not self.covered:
            fail("sensor", "left out: the scene's wavelengths cover none", repr(name))
        check_choice(name, "sensor", self.covered)
        self.sensor_chooser.value = name

    @property
    def lr_hsi(self) -> torch.Tensor:
        """The coarse image (1, C, h, w), NaN in gaps."""
        return self._with_gaps(self._coarse)

    @property
    def label(self) -> str:
        """The coarse pixel at the cursor, how the scene is degraded, and what that costs as a whole."""
        noise = NO_NOISE if self.snr_db is None else f"{self.snr_db} dB"
        loss = "no data" if math.isnan(self.psnr_db) else f"PSNR {self.psnr_db:.2f} dB"
        how = f"scale {self.scale}, FWHM {self.fwhm:g} px, {noise}: upsampled {loss}"
        return f"row {self.pixel[0]}, column {self.pixel[1]}: {self._here()} · {how}"

    def describe(self) -> str:
        """One line on what is explored."""
        nm = self.wavelengths_nm
        reach = "no wavelengths" if nm is None else f"{nm.min():.0f} … {nm.max():.0f} nm"
        sensors = ", ".join(self.covered) or "no multispectral sensor"
        return f"{self.name}: {self.rows}×{self.columns} px, {self.bands} band(s), {reach}; {sensors}"

    def picture(self) -> Picture:
        """Images and curves as they stand, as a static figure."""
        figure = Picture(figsize=(7.6, 4.4), layout="compressed")
        top, bottom = figure.subfigures(2, 1, squeeze=False, height_ratios=(1, 1.4))[:, 0]
        for ax, view in zip(top.subplots(1, len(self.views), squeeze=False)[0], self.views):
            view.draw(ax)
        plots = [self.plot, self.srf_plot, self.psf_plot] if self.covered else [self.plot, self.psf_plot]
        for ax, plot in zip(bottom.subplots(1, len(plots)), plots):
            plot.draw(ax)
            ax.set_title(plot.name, fontsize=8)
            ax.legend(frameon=False, fontsize=7, ncols=2, loc="upper center", bbox_to_anchor=(0.5, -0.32))
        ax.set_xlim(-1.5 * WIDTHS[-1], 1.5 * WIDTHS[-1])  # of the PSF, as in the browser
        return figure

    # --- building ------------------------------------------------------------------------------------------------

    def _build(self) -> None:
        """Makes the widgets."""
        wide: dict[str, Any] = {"layout": {"width": "450px"}, "style": {"description_width": "130px"}}
        # of the coarse sensor
        most = min(LARGEST, self.rows, self.columns)
        self.scale_slider = ipywidgets.IntSlider(min=SMALLEST, max=most, description="scale", **wide)
        self.fwhm_slider = ipywidgets.SelectionSlider(  # by index: a slider of numbers rounds them in the browser
            options=[(f"{width:.1f}", width) for width in WIDTHS], description="PSF FWHM (fine px)", **wide
        )
        levels = [(f"{snr} dB", snr) for snr in range(SNRS[0], SNRS[1] + 1)]
        self.snr_slider = ipywidgets.SelectionSlider(
            options=[*levels, (NO_NOISE, math.inf)], value=math.inf, description="SNR of lr_hsi", **wide
        )
        # of the multispectral one, and of what is drawn
        self.sensor_chooser = ipywidgets.Dropdown(options=list(self.covered), description="MSI sensor", **wide)
        self.bands_chooser = ipywidgets.Dropdown(options=[FOUR, ALL], description="MSI bands", **wide)
        self.band_slider = ipywidgets.SelectionSlider(
            options=[(self.band_name(band), band) for band in range(self.bands)],
            value=self.bands // 2,
            description="band on show",
            **wide,
        )
        self.status = ipywidgets.HTML(layout={"height": "28px"})
        self.gt_view, self.lr_view, self.msi_view = (ImageView(size=SIDE, span=300) for _ in range(3))
        self.views = [self.gt_view, self.lr_view, self.msi_view] if self.covered else [self.gt_view, self.lr_view]
        self._build_plots()

    def _build_plots(self) -> None:
        """Makes the three plots."""
        nm = self.wavelengths_nm
        wide = 350 if self.covered else 620
        # spectra, over bands that can be clicked on where there is a slider
        self.plot = LinePlot(
            name="spectra at the cursor",
            x_label="band number (no wavelengths known)" if nm is None else "wavelength (nm)",
            y_label=self.unit,
            width=wide,
            height=TALL,
            layout={"flex": f"0 0 {wide + 14}px"},  # so that a longer legend beside it moves nothing
        )
        if self._has_band_slider:
            self.plot.positions = list(map(float, range(self.bands) if nm is None else nm))
        # what both sensors are made of
        self.srf_plot = LinePlot(
            name="", x_label="wavelength (nm)", y_label="response (peak 1)", width=270, height=TALL, limits=[0.0, 1.0]
        )
        self.psf_plot = LinePlot(
            x_label="distance (fine px)", y_label="height", width=270, height=TALL, layout={"flex": "0 0 284px"}
        )

    def _layout(self) -> list[ipywidgets.Widget]:
        """The widgets, row by row; controls that would do nothing are left out."""
        reason = "no wavelengths are known" if self.wavelengths_nm is None else "the wavelengths cover none"
        without = ipywidgets.HTML(f"No multispectral sensor: {reason}.", layout={"padding": "0 0 0 12px"})
        coarse = [self.scale_slider, self.fwhm_slider, self.snr_slider]
        others = [self.sensor_chooser, self.bands_chooser] if self.covered else [without]
        others += [self.band_slider] if self._has_band_slider else []
        curves = [self.psf_plot, self.plot, *([self.srf_plot] if self.covered else [])]
        return [
            ipywidgets.HBox([ipywidgets.VBox(controls, layout={"flex": "0 0 460px"}) for controls in (coarse, others)]),
            self.status,
            ipywidgets.HBox(self.views),
            ipywidgets.HBox(curves, layout={"height": f"{TALL + 81}px"}),  # with room for the longest legend
        ]

    def _connect(self) -> None:
        """Who answers to what."""
        for trait in ("cursor", "zoom"):
            link(trait, *self.views)
        if self._has_band_slider:
            self.plot.marker = self.band_slider.index
            link("index", self.band_slider, (self.plot, "marker"))
            self.band_slider.observe(self._paint, "index")
        self.gt_view.observe(self._point, "cursor")
        self.scale_slider.observe(self._degrade, "value")
        self.fwhm_slider.observe(self._degrade, "value")
        self.snr_slider.observe(self._add_noise, "value")
        self.sensor_chooser.observe(self._sense, "value")
        self.bands_chooser.observe(self._sense, "value")

    @property
    def _has_band_slider(self) -> bool:
        """Whether one band is drawn, and there are several to choose from."""
        return self._visible is None and self.bands > 1

    def _begin_with(self, camera: Camera) -> None:
        """Moves the sliders to where they say the same as a camera, or raises the error of one that they cannot say."""
        if not isinstance(camera, Camera):
            fail("camera", "a `Camera`", type(camera).__name__, TypeError)
        if not SMALLEST <= camera.scale <= self.scale_slider.max:
            fail("camera", f"of a scale from {SMALLEST} to {self.scale_slider.max}", camera.scale)
        if camera.snr_db not in (None, *range(SNRS[0], SNRS[1] + 1)):
            fail("camera", f"of no noise, or of {SNRS[0]} to {SNRS[1]} dB, a whole number", f"{camera.snr_db:g} dB")
        self.scale = camera.scale
        self.fwhm = _width_of(camera)
        self.snr_db = None if camera.snr_db is None else int(camera.snr_db)
        if camera.sensor is not None and self.covered:
            self.sensor = camera.sensor

    # --- answering -----------------------------------------------------------------------------------------------

    def _degrade(self, _: object = None) -> None:
        """Another blur or another scale."""
        self.camera = self._camera()
        self._gaps = None if self._holes is None else gaps_of(self._holes, self.camera)
        psf = self.camera.psf
        self.psf_plot.lines = psf_lines(psf, self.fwhm, self.scale, WIDTHS[-1])
        side = len(psf)
        self.psf_plot.name = f"PSF {side}×{side} px, FWHM {self.fwhm / self.scale:.2g} coarse px"
        self._observe()

    def _add_noise(self, _: object = None) -> None:
        """Another noise."""
        self.camera = self._camera()
        self._observe()

    def _observe(self) -> None:
        """The coarse image, what it all costs, and the picture."""
        if self._fine.numel() > SLOW:
            self.status.value = "computing …"
        self._coarse = torch.empty(0)  # gives its memory back before the new one takes any
        self._coarse = observed(self._fine, self.camera)
        self.psnr_db = upsampled_psnr_db(self._coarse, self._fine, self.camera, self._gaps)
        self._paint()
        self._point()

    def _sense(self, _: object = None) -> None:
        """Another multispectral sensor, or other bands of it: its image and its responses."""
        self.camera = self._camera()
        self.msi: torch.Tensor | None = None
        if self.sensor is not None and self.wavelengths_nm is not None:
            self.msi = self.camera.see(self._fine)
            self._show_sensor(self.msi, self.sensor, self.wavelengths_nm)
        self._point()

    def _show_sensor(self, msi: torch.Tensor, sensor: str, wavelengths_nm: np.ndarray) -> None:
        """Responses as lines, and red, green and blue as an image."""
        four = SENSORS[sensor]
        bands = self.camera.bands or four
        styles = band_styles(four, self.covered[sensor])
        self._styles = {band: styles[band] for band in bands}
        self.srf_plot.name = f"responses of {sensor}"
        self.srf_plot.lines = response_lines(self.camera.response().numpy(), wavelengths_nm, self._styles)
        red_green_blue = four[2::-1]
        image = self._with_holes(msi[0, [bands.index(band) for band in red_green_blue]])
        self.msi_view.name = f"msi of {sensor}: {', '.join(red_green_blue)}"
        self.msi_view.show(Stack.of(colours(image, [stretch(image[..., number]) for number in range(3)])))

    def _paint(self, _: object = None) -> None:
        """The truth and the coarse image, in the stretch of the truth."""
        height, width = self._coarse.shape[2:]
        self.gt_view.name = f"gt, {self.rows}×{self.columns} px"
        self.lr_view.name = f"lr_hsi, {height}×{width} px"
        bands = [self.band_slider.value] if self._visible is None else list(self._visible)
        fine = self._with_holes(self._fine[0, bands])
        coarse = on_fine_grid(self._with_gaps(self._coarse[:, bands])[0], self.scale, (self.rows, self.columns))
        limits = [stretch(fine[..., number]) for number in range(len(bands))]
        for view, image in ((self.gt_view, fine), (self.lr_view, coarse)):
            if self._visible is None:
                view.show(Stack.of(quantise(image[..., 0], limits[0]), limits[0], unit=self.unit))
            else:
                view.show(Stack.of(colours(image, limits)))

    def _point(self, _: object = None) -> None:
        """Everything that depends on the cursor."""
        if self.pixel[0] < 0:  # not anywhere yet
            return
        place = self._coarse_pixel()
        size = self.scale
        here = [] if place is None else [mark(place[0] * size, place[1] * size, COARSE, rows=size, columns=size)]
        for view in self.views:
            view.marks = here
        self.plot.lines = self._lines()
        self.status.value = html.escape(self.label)

    # --- numbers and names ---------------------------------------------------------------------------------------

    def _camera(self) -> Camera:
        """The camera of the sliders and choosers."""
        camera = Camera.gaussian(self.fwhm, self.scale, sensor=self.sensor, snr_db=self.snr_db)
        if self.sensor is None:
            return camera
        covered = self.covered[self.sensor]
        wanted = covered if self.bands_chooser.value == ALL else SENSORS[self.sensor]
        bands = tuple(band for band in wanted if band in covered)
        return replace(camera, bands=bands).for_wavelengths(self.wavelengths_nm)

    def _coarse_pixel(self) -> tuple[int, int] | None:
        """The coarse pixel at the cursor; None where no whole one lies."""
        row, column = (place // self.scale for place in self.pixel)
        height, width = self._coarse.shape[2:]
        return (row, column) if row < height and column < width else None

    def _spectra(self) -> tuple[np.ndarray, np.ndarray]:
        """The fine and the coarse spectrum (C,) at the cursor, NaN where there is none."""
        fine, coarse = (np.full(self.bands, np.nan, np.float32) for _ in range(2))
        if self._holes is None or not self._holes[0, 0][self.pixel]:
            fine = self._fine[0, :, *self.pixel].numpy()
        place = self._coarse_pixel()
        if place is not None and (self._gaps is None or not self._gaps[0, 0][place]):
            coarse = self._coarse[0, :, *place].numpy()
        return fine, coarse

    def _here(self) -> str:
        """What the label says of the coarse pixel."""
        place = self._coarse_pixel()
        fine, coarse = self._spectra()
        if place is None:
            return "no whole coarse pixel"
        text = "coarse pixel ({}, {}) of {}×{}".format(*place, *self._coarse.shape[2:])
        if np.isnan(coarse).any():
            return f"{text} reads a gap"
        if np.isnan(fine).any() or self.bands < 2 or not fine.any():
            return text
        pred, target = (torch.from_numpy(spectrum.copy())[None, :, None, None] for spectrum in (coarse, fine))
        return f"{text}, {float(sam_map(pred, target)):.1f}° from gt"

    def _lines(self) -> list[dict[str, object]]:
        """The spectra at the cursor, and the multispectral values as dots at their bands' centres."""
        fine, coarse = (self.over_wavelength(spectrum) for spectrum in self._spectra())
        dots = self.bands == 1
        lines = [line("gt, fine pixel", *fine, "#000000", points=dots)]
        lines.append(line("lr_hsi, coarse pixel", *coarse, COARSE, points=dots))
        in_hole = self._holes is not None and bool(self._holes[0, 0][self.pixel])
        if self.msi is None or self.wavelengths_nm is None or in_hole:
            return lines
        centres_nm = self.camera.response().numpy() @ self.wavelengths_nm
        values = self.msi[0, :, *self.pixel].numpy()
        return lines + dot_lines(values, centres_nm, self._styles, "msi (colours: right)")

    def _with_gaps(self, coarse: torch.Tensor) -> torch.Tensor:
        """Coarse bands (1, n, h, w), NaN in gaps."""
        return coarse if self._gaps is None else coarse.masked_fill(self._gaps, torch.nan)

    def _with_holes(self, planes: torch.Tensor) -> np.ndarray:
        """Fine planes (n, H, W) as an image (H, W, n), NaN in holes."""
        kept = planes if self._holes is None else planes.masked_fill(self._holes[0], torch.nan)
        return kept.numpy().transpose(1, 2, 0)


def _width_of(camera: Camera) -> float:
    """The width of the slider whose Gaussian is the camera's blur, or the error where none is."""
    found = [width for width in WIDTHS if camera.same_optics(Camera.gaussian(width, camera.scale))]
    if not found:
        wanted = f"of a Gaussian blur of a FWHM from {WIDTHS[0]:g} to {WIDTHS[-1]:g} px in steps of 0.5"
        down, across = camera.fwhm_px
        fail("camera", wanted, f"a blur of {down:.2f}×{across:.2f} px")
    return found[0]
