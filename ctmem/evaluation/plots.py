"""Figures of the notebooks: pure functions from arrays to a matplotlib figure.

Nothing here touches pyplot or any other state: a figure is made, returned, and shown where it is the last
line of a cell. Images are numpy arrays (H, W, C), as in files, or tensors (1, C, H, W) or (C, H, W). Colours
are told apart by colour-blind readers (Okabe and Ito's eight for lines, viridis for maps), and lines differ
in dashes, too.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import matplotlib
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.colors import is_color_like
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from PIL import Image

from ctmem.checks import Bounds, Count, Finite, Inside, Whole, check_in_memory, described, fail, typed, unmasked

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#F0E442")
DASHES = ("-", "--", "-.", ":")
RED_GREEN_BLUE_NM = (650.0, 550.0, 460.0)
GAP = 3.0  # a step between bands longer than this many median steps is a gap
GAMMA = 0.7
NO_DATA = 0.8  # grey of pixels without data
DPI = 88

Inches = Annotated[float, Bounds(0.1, 100)]
Few = Annotated[int, Bounds(1, 64)]  # rows or columns of a figure
ImageLike = np.ndarray | torch.Tensor


class Picture(Figure):
    """A matplotlib figure that a notebook shows by itself, as a small PNG of 256 colours.

    Attributes:
        alt: what there is to see, for those who do not see it; stored with the picture as its text.
    """

    alt = ""

    def described(self, alt: str) -> Picture:
        """Returns the figure itself, with a description in a sentence or two: `plots.rgb(…).described("…")`.

        Raises:
            ValueError: nothing in it.
        """
        if not isinstance(alt, str) or not alt.strip():
            fail("alt", "a sentence on what there is to see", repr(alt))
        self.alt = " ".join(alt.split())
        return self

    def __repr__(self) -> str:
        return f"Picture: {self.alt}" if self.alt else super().__repr__()

    def _repr_png_(self) -> bytes:
        drawn = io.BytesIO()
        small = io.BytesIO()
        self.savefig(drawn, format="png", dpi=DPI, bbox_inches="tight", facecolor="white")
        picture = (
            Image.open(drawn).convert("RGB").quantize(256, method=Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
        )
        picture.save(small, format="png", optimize=True)
        return small.getvalue()


@typed
def grid(
    rows: Few, columns: Few, *, size: tuple[Inches, Inches] = (3.0, 3.0), **options: Any
) -> tuple[Picture, np.ndarray]:
    """Returns an empty figure and its axes, an array (rows, columns).

    Args:
        rows: of axes.
        columns: of axes.
        size: width and height of one of them, inches.
        **options: of `Figure.subplots`, such as `sharex`.
    """
    figure = Picture(figsize=(columns * size[0], rows * size[1]), layout="compressed")
    return figure, figure.subplots(rows, columns, squeeze=False, **options)


@typed
def to_array(image: Inside[ImageLike], name: str = "image") -> np.ndarray:
    """Returns the image as a numpy array (H, W, C), NaN under a mask of `numpy.ma`.

    Args:
        image: array (H, W, C) or (H, W); or tensor (1, C, H, W), (C, H, W) or (H, W).
        name: what the error calls it.

    Raises:
        ValueError: any other shape.
    """
    if not isinstance(image, torch.Tensor | np.ndarray):
        fail(name, "an array (H, W, C) or a tensor (1, C, H, W) or (C, H, W)", type(image).__name__, TypeError)
    if isinstance(image, torch.Tensor):
        check_in_memory(image, name)
        x = image.detach().cpu()
        x = x.float() if x.dtype == torch.bfloat16 else x  # numpy has no such type
        x = x[0] if x.ndim == 4 and len(x) == 1 else x
        image = x.movedim(0, -1).numpy() if x.ndim == 3 else x.numpy()
    image = unmasked(image) if isinstance(image, np.ndarray) else image
    if image.ndim == 2:
        image = image[..., None]
    if image.ndim != 3:
        fail(name, "an array (H, W, C) or a tensor (1, C, H, W) or (C, H, W)", f"shape {tuple(image.shape)}")
    return image


def _to_picture(image: ImageLike, name: str) -> np.ndarray:
    """`to_array` of what is to be shown: real numbers, at least one."""
    found = to_array(image, name)
    if found.dtype.kind not in "biuf" or 0 in found.shape:
        fail(name, "an image of real numbers, with at least one pixel and band", described(found))
    return found


@typed
def rgb(
    image: ImageLike,
    wavelengths_nm: Sequence[float] | None = None,
    *,
    bands: Sequence[int] | None = None,
    like: ImageLike | None = None,
) -> np.ndarray:
    """Returns a colour image (H, W, 3) in [0, 1], stretched from the 1st to the 99th percentile of each band.

    A gamma of 0.7 lifts the dark parts, as photographs do: colours are for looking, not for measuring. Holes, NaN or
    infinite in any band on show, are grey, and have no part in the stretch.

    Args:
        image: what to show.
        wavelengths_nm: of its bands; those nearest to 650, 550 and 460 nm become red, green and blue.
        bands: the three band numbers instead. Without both, the order is that of a multispectral image that
            begins with blue, green, red; an image of one or two bands is grey.
        like: take the stretch from this image, so that two images can be compared.

    Raises:
        ValueError: a shape that is not that of an image, wavelengths that don't fit its bands or don't reach the
            visible.
    """
    cube = _to_picture(image, "image")
    chosen = list(_visible(cube.shape[2], wavelengths_nm) if bands is None else bands)
    if len(chosen) == 0 or not all(-cube.shape[2] <= band < cube.shape[2] for band in chosen):
        fail("bands", f"numbers of the image's {cube.shape[2]} bands, at least one", chosen)
    source = cube if like is None else _to_picture(like, "like")
    source, cube = (x.astype(np.float32) if x.dtype.kind == "b" else x for x in (source, cube))
    shown, source = cube[..., chosen], source[..., chosen]
    known = source[np.isfinite(source).all(-1)]
    low, high = np.percentile(known, (1, 99), axis=0) if len(known) else (0, 1)
    colours = np.clip((shown - low) / np.maximum(high - low, 1e-6), 0, 1) ** GAMMA
    return np.where(np.isfinite(shown).all(-1, keepdims=True), colours, colours.dtype.type(NO_DATA))


@typed
def show_images(
    images: Sequence[ImageLike],
    titles: Sequence[str] = (),
    *,
    label: str | None = None,
    columns: Few = 4,
    limits: tuple[Finite, Finite] | None = None,
    cmap: str = "viridis",
    size: Inches = 2.4,
) -> Picture:
    """Returns the images side by side: colour images as they are, single bands with one shared colour bar.

    Args:
        images: colour arrays (H, W, 3) in [0, 1] (see `rgb`), or maps (H, W).
        titles: one each, or none.
        label: what the colour bar measures, with its unit.
        columns: at most so many side by side.
        limits: lowest and highest value of the colour bar; `None`: of all maps together.
        cmap: colour map of the maps; pixels without data are grey.
        size: side of one image, inches.

    Raises:
        ValueError: no image, or not as many titles as images.
    """
    arrays = [_to_picture(image, f"images[{place}]") for place, image in enumerate(images)]
    if cmap not in matplotlib.colormaps:
        fail("cmap", "the name of a colour map of matplotlib", repr(cmap))
    pictures = [array[..., 0] if array.shape[2] == 1 else array for array in arrays]
    _check_pictures(pictures, titles)
    columns = min(columns, len(pictures))
    figure, axes = grid(-(-len(pictures) // columns), columns, size=(size, size * 1.08))
    maps = [picture for picture in pictures if picture.ndim == 2]
    if limits is None and maps:
        known = np.concatenate([picture[np.isfinite(picture)] for picture in maps])
        limits = (known.min(), known.max()) if len(known) else (0, 1)
    low, high = limits or (0, 1)
    shades = matplotlib.colormaps[cmap].with_extremes(bad=str(NO_DATA))
    drawn = None
    for ax in axes.flat:
        ax.set_axis_off()
    for number, (ax, picture) in enumerate(zip(axes.flat, pictures)):
        shown = ax.imshow(picture, cmap=shades, vmin=low, vmax=high, interpolation="nearest")
        drawn = shown if picture.ndim == 2 else drawn
        ax.set_title(titles[number] if titles else "", fontsize=10)
    if drawn is not None:
        figure.colorbar(drawn, ax=axes, shrink=0.8, label=label or "")
    return figure


@typed
def plot_spectra(
    wavelengths_nm: Sequence[float], spectra: Inside[Mapping[str, ImageLike]], *, ylabel: str = "radiance (scaled)"
) -> Picture:
    """Returns the spectra over wavelength; gaps, such as those of water absorption, stay empty.

    Args:
        wavelengths_nm: (C,), in any order.
        spectra: label → (C,) values.
        ylabel: name and unit of the values.

    Raises:
        ValueError: a spectrum that is not as long as the wavelengths.
    """
    if not isinstance(spectra, Mapping) or not spectra:
        fail("spectra", "a dict of at least one spectrum", described(spectra))
    figure, axes = grid(1, 1, size=(7.0, 3.2))
    for (label, values), style in zip(spectra.items(), styles(len(spectra))):
        given = values.detach().cpu().float() if isinstance(values, torch.Tensor) else values
        if np.asarray(given).dtype.kind not in "biuf":
            fail(f"spectra[{label!r}]", "a vector of numbers", described(values))
        nm, shown = with_gaps(np.asarray(wavelengths_nm, float), np.asarray(given, float), label)
        axes[0, 0].plot(nm, shown, label=label, linewidth=1.6, **style)
    return _finish(figure, axes[0, 0], "wavelength (nm)", ylabel, legend=len(spectra) > 1)


@typed
def error_map(
    preds: Mapping[str, ImageLike], target: ImageLike, *, label: str = "RMSE over bands", size: Inches = 2.4
) -> Picture:
    """Returns one map per prediction, all on one scale: root mean square error over the bands of each pixel.

    Args:
        preds: label → image.
        target: the truth, of the same shape; holes, NaN, of either are left out.
        label: what the colour bar measures, with its unit.
        size: side of one map, inches.

    Raises:
        ValueError: an image of another shape than the target.
    """
    if not preds:
        fail("preds", "a dict of at least one image", "an empty one")
    truth = _to_picture(target, "target").astype(np.float64)
    errors = {}
    for name, pred in preds.items():
        cube = _to_picture(pred, f"preds[{name!r}]")
        if cube.shape != truth.shape:
            fail(f"preds[{name!r}]", f"of the shape of `target` {truth.shape}", cube.shape)
        errors[name] = np.sqrt(((cube - truth) ** 2).mean(-1))
    top = float(np.nanpercentile(np.stack(list(errors.values())), 99.5))
    titles = [f"{name}\nmean {np.nanmean(error):.4f}" for name, error in errors.items()]
    return show_images(list(errors.values()), titles, label=label, limits=(0, top), cmap="magma", size=size)


@typed
def loss_curve(
    curves: Mapping[str, Sequence[Any]], *, xlabel: str = "step", ylabel: str = "L1 loss", log: bool = True
) -> Picture:
    """Returns the curves over the step.

    Args:
        curves: label → values of step 1, 2, …, or a list of (step, value).
        xlabel: name of the horizontal axis.
        ylabel: name and unit of the vertical axis.
        log: logarithmic vertical axis.
    """
    if not curves:
        fail("curves", "a dict of at least one curve", "an empty one")
    figure, axes = grid(1, 1, size=(6.0, 3.0))
    for (label, values), style in zip(curves.items(), styles(len(curves))):
        points = np.asarray(values, float)
        if points.ndim == 1:
            points = np.stack([np.arange(1, len(points) + 1), points], axis=1)
        axes[0, 0].plot(points[:, 0], points[:, 1], label=label, linewidth=1.4, **style)
    axes[0, 0].set_yscale("log" if log else "linear")
    return _finish(figure, axes[0, 0], xlabel, ylabel, legend=len(curves) > 1)


@typed
def outline(ax: Axes, corner: Sequence[int], patch: Count, colour: str, text: str = "") -> None:
    """Draws the border of the P×P window at (row, column) into the axes of an image, with a text beside."""
    if len(corner) < 2 or min(map(int, corner[:2])) < 0:
        fail("corner", "(row, column), both ≥ 0", corner)
    if not is_color_like(colour):
        fail("colour", "a colour that matplotlib knows", repr(colour))
    row, column = (int(value) - 0.5 for value in corner[:2])
    ax.add_patch(Rectangle((column, row), patch, patch, fill=False, edgecolor="white", linewidth=3.2))
    ax.add_patch(Rectangle((column, row), patch, patch, fill=False, edgecolor=colour, linewidth=1.8))
    box = {"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 0.6}
    if text:
        ax.text(column + patch + 1, row, text, color=colour, fontsize=9, fontweight="bold", va="top", bbox=box)


@typed
def show_match(
    query: np.ndarray,
    reference: np.ndarray,
    corner: Sequence[int],
    windows: Sequence[Sequence[int]],
    scores: Sequence[float],
    patch: int,
    *,
    sharp: np.ndarray | None = None,
) -> Picture:
    """Returns a match: query and reference with the windows outlined, and below them the patches enlarged.

    Enlarged patches are stretched each by itself, so that shapes can be compared whatever the brightness.

    Args:
        query: colour image (H, W, 3), see `rgb`.
        reference: colour image (Hr, Wr, 3) that was searched.
        corner: (row, column) of the query patch.
        windows: (row, column, turn) of the windows found, best first; turn as in `patches.turned`, which is
            applied to the enlarged patch, or left out.
        scores: their similarities.
        patch: P, pixels.
        sharp: the sharp reference (Hr, Wr, 3), for a third row of patches.
    """
    figure = Picture(figsize=(9.0, 6.2 if sharp is None else 7.6), layout="compressed")
    heights = (2.2, 1 if sharp is None else 2)
    top, bottom = figure.subfigures(2, 1, height_ratios=heights, squeeze=False)[:, 0]
    left, right = top.subplots(1, 2)
    left.imshow(query, interpolation="nearest")
    right.imshow(reference, interpolation="nearest")
    left.set_title("query", fontsize=10)
    right.set_title("reference", fontsize=10)
    outline(left, corner, patch, COLOURS[1], "q")
    sources = [reference] if sharp is None else [reference, sharp]
    axes = bottom.subplots(len(sources), len(windows) + 1, squeeze=False)
    for ax in (left, right, *axes.flat):
        ax.set_axis_off()
    _enlarged(axes[0, 0], query, corner, patch, "q")
    for number, (window, score) in enumerate(zip(windows, scores), 1):
        outline(right, window, patch, COLOURS[0], str(number))
        for row, source in enumerate(sources):
            _enlarged(axes[row, number], source, window, patch, f"{number}: {score:.2f}" if row == 0 else "sharp")
    return figure


def _check_pictures(pictures: Sequence[np.ndarray], titles: Sequence[str]) -> None:
    """Raises unless there are pictures that can be drawn, with a title each or none."""
    if not pictures:
        fail("images", "a list of at least one", "none")
    if titles and len(titles) != len(pictures):
        fail("titles", f"one for each of {len(pictures)} image(s)", len(titles))
    for picture in pictures:
        if picture.ndim != 2 and picture.shape[2:] != (3,):
            fail("images", "colour images (H, W, 3) or maps (H, W)", f"shape {picture.shape}")


def _enlarged(ax: Axes, image: np.ndarray, window: Sequence[int], patch: int, title: str) -> None:
    """Draws one window (row, column, turn) of an image, turned, from its darkest to its brightest value."""
    row, column, turn = (*map(int, window), 0)[:3]
    found = image[row : row + patch, column : column + patch]
    found = np.rot90(found[:, ::-1] if turn >= 4 else found, turn % 4)
    shown = (found - found.min()) / max(float(np.ptp(found)), 1e-6)
    ax.imshow(shown, interpolation="nearest")
    ax.set_title(title, fontsize=9)


def _visible(bands: int, wavelengths_nm: Sequence[float] | None) -> Sequence[int]:
    """The bands to show as red, green and blue."""
    if wavelengths_nm is None:
        return (2, 1, 0) if bands >= 3 else (0, 0, 0)
    nm = np.asarray(wavelengths_nm, float)
    if len(nm) != bands:
        fail("wavelengths_nm", f"{bands} numbers, one per band of `image`", f"{len(nm)}")
    chosen = [int(np.abs(nm - wanted).argmin()) for wanted in RED_GREEN_BLUE_NM]
    if any(abs(nm[band] - wanted) > 100 for band, wanted in zip(chosen, RED_GREEN_BLUE_NM)):
        fail(
            "wavelengths_nm",
            "within 100 nm of 650, 550 and 460 nm somewhere",
            f"{nm.min():.0f} … {nm.max():.0f} nm",
        )
    return chosen


@typed
def with_gaps(nm: np.ndarray, values: np.ndarray, label: str) -> tuple[np.ndarray, np.ndarray]:
    """Wavelengths and values in ascending order with NaN put into the gaps, where a line is to break."""
    if values.shape != nm.shape:
        fail(f"spectra[{label!r}]", f"of {len(nm)} values, one per wavelength", f"shape {values.shape}")
    order = np.argsort(nm, kind="stable")
    nm = nm[order]
    values = values[order]
    steps = np.diff(nm)
    gaps = np.flatnonzero(steps > GAP * np.median(steps)) + 1 if len(nm) > 2 else np.array([], int)
    return np.insert(nm, gaps, np.nan), np.insert(values, gaps, np.nan)


@typed
def styles(count: Whole) -> list[dict[str, Any]]:
    """Colour and dashes of each of `count` lines, no two alike (up to 32)."""
    pairs = ((COLOURS[i % len(COLOURS)], DASHES[(i + i // len(COLOURS)) % len(DASHES)]) for i in range(count))
    return [{"color": colour, "linestyle": dash} for colour, dash in pairs]


def _finish(figure: Picture, ax: Axes, xlabel: str, ylabel: str, *, legend: bool) -> Picture:
    """Names the axes, adds a light grid and a legend."""
    ax.set(xlabel=xlabel, ylabel=ylabel)
    ax.grid(color="0.9", linewidth=0.8)
    ax.spines[["top", "right"]].set_visible(False)
    if legend:
        ax.legend(frameon=False, fontsize=9)
    return figure
