"""Writes docs/images/overview.png, the figure of the README: what goes in, the stages, what comes out.

    python docs/make_overview.py

Everything in it is computed here, from the shipped scenes and the shipped weights.
"""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch
from PIL import Image

from ctmem.data import scenes
from ctmem.data.areas import split_areas
from ctmem.data.samples import degrade_scene
from ctmem.evaluation import plots
from ctmem.evaluation.metrics import psnr_db
from ctmem.inference import encode, super_resolve
from ctmem.match import align, matching, patches
from ctmem.model import Model, load_model

TARGET = Path(__file__).parent / "images" / "overview.png"
WIDTH, HEIGHT = 1300, 700  # pixels
PIXEL = (54, 30)  # whose spectrum is drawn: first row of a bright field, beside a dark one
PATCH = 21  # whose look-alike is shown: between woods and a bright field
SMALL, LARGE = 13, 15  # points at 100 pixels per inch
BLUE, ORANGE, GREEN = plots.COLOURS[:3]


class Canvas:
    """A figure addressed in pixels from its upper left corner."""

    def __init__(self) -> None:
        self.figure = Figure(figsize=(WIDTH / 100, HEIGHT / 100), dpi=100, facecolor="white")

    def place(self, left: float, top: float, width: float, height: float) -> Axes:
        """Empty axes there."""
        bottom = 1 - (top + height) / HEIGHT
        return self.figure.add_axes((left / WIDTH, bottom, width / WIDTH, height / HEIGHT))

    def image(self, picture: np.ndarray, left: float, top: float, width: float, height: float) -> Axes:
        """A colour image there, its pixels visible, with a thin frame."""
        ax = self.place(left, top, width, height)
        ax.imshow(picture, interpolation="nearest", aspect="auto")
        ax.set(xticks=[], yticks=[])
        return ax

    def text(self, x: float, y: float, text: str, size: float = SMALL, **options) -> None:
        """Lines of text, by default from this point to the right and below."""
        options = {"ha": "left", "va": "top", "linespacing": 1.25} | options
        self.figure.text(x / WIDTH, 1 - y / HEIGHT, text, fontsize=size, **options)

    def box(self, left: float, top: float, width: float, height: float, colour: str) -> None:
        """A rounded frame, lightly filled."""
        corner = (left / WIDTH, 1 - (top + height) / HEIGHT)
        style = {"boxstyle": "round,pad=0,rounding_size=0.012", "edgecolor": colour, "linewidth": 2}
        style |= {"facecolor": colour + "14", "mutation_aspect": WIDTH / HEIGHT}
        self.figure.add_artist(FancyBboxPatch(corner, width / WIDTH, height / HEIGHT, **style))

    def arrow(self, start: tuple[float, float], end: tuple[float, float]) -> None:
        """An arrow between two points."""
        ax = self.figure.axes[0]
        points = [(x / WIDTH, 1 - y / HEIGHT) for x, y in (end, start)]
        style = {"arrowstyle": "-|>,head_width=0.35,head_length=0.6", "linewidth": 2.2, "color": "0.25"}
        ax.annotate("", *points, xycoords="figure fraction", textcoords="figure fraction", arrowprops=style)


def compute() -> dict:
    """All that is drawn: images, spectra, the patch and its look-alike, PSNR in dB."""
    scene, reference = scenes.load_scene("indian_pines"), scenes.load_scene("sentinel2_farmland").tensor()
    nm, model = scene.wavelengths_nm, load_model("tiny")
    camera = model.camera.for_wavelengths(nm)
    whole = degrade_scene(scene.tensor(), camera)
    test = whole.cut(split_areas(*whole.gt.shape[2:], camera)["test"])
    lr_hsi_up = test.lr_hsi_up
    calls = []
    pred = super_resolve(
        model, test.lr_hsi, reference, camera=camera, generator=torch.Generator().manual_seed(0),
        callback=lambda *call: calls.append(call),
    )  # fmt: skip
    encoded = encode(model, test.lr_hsi, reference, camera=camera)[0]
    noise, estimate = (encoded.decode(x) for x in calls[0][2:])
    preds = {"bicubic": lr_hsi_up, "ctmem": pred}
    preds["back-projection"] = camera.back_project(lr_hsi_up, test.lr_hsi)
    shown = preds | {"truth": test.gt, "observed": test.lr_hsi, "noise": noise, "estimate": estimate}
    return {
        "nm": nm,
        "reference": plots.rgb(reference),
        "spectra": {name: x[0, :, *PIXEL].numpy() for name, x in (preds | {"truth": test.gt}).items()},
        "psnr": {name: psnr_db(x, test.gt).item() for name, x in preds.items()},
        "images": {name: plots.rgb(x, nm, like=test.gt) for name, x in shown.items()},
    } | compute_match(model, camera.see(lr_hsi_up), reference)


def compute_match(model: Model, query: torch.Tensor, reference: torch.Tensor) -> dict:
    """One patch of the query, its best window in the reference, blurred and sharp, and where both lie."""
    options = model.preset.match
    gain, offset = align.gain_and_offset(model.kernel(reference), query)
    sharp, blurred = (gain * image + offset for image in (reference, model.kernel(reference)))
    match = matching.match(
        query, blurred, patch=options.patch, stride=options.stride, similarity=options.similarity,
        turns=options.turns,
    )  # fmt: skip
    tiles = [patches.unfold(query, match.patch), matching.cut_match(match, blurred), matching.cut_match(match, sharp)]
    return {
        "tiles": [plots.rgb(x[:, PATCH], like=query) for x in tiles],
        "corner": match.corners[PATCH].tolist(),
        "window": match.windows[0, PATCH, 0, :2].tolist(),
        "side": match.patch,
        "scale": model.camera.scale,
    }


def draw_inputs(canvas: Canvas, found: dict) -> None:
    """The left column."""
    canvas.text(20, 14, "What goes in", LARGE, weight="bold")
    left = canvas.image(found["images"]["observed"], 20, 52, 150, 225)
    plots.outline(left, [value / found["scale"] for value in found["corner"]], found["side"] / found["scale"], ORANGE)
    canvas.text(182, 50, "coarse\nhyperspectral\n200 bands\n80 m pixels\n\nIndiana\n1992")
    right = canvas.image(found["reference"], 20, 330, 225, 225)
    plots.outline(right, [value - 8 for value in found["window"]], 24, ORANGE)
    text = "fine multispectral, 4 bands,\n20 m pixels: another place,\nanother time, another sensor"
    canvas.text(20, 565, text + "\n(Virginia, 2015–16)")


def draw_stages(canvas: Canvas, found: dict) -> None:
    """The middle: matching below, denoising above."""
    canvas.text(345, 14, "What is done", LARGE, weight="bold")
    canvas.box(345, 52, 370, 225, GREEN)
    canvas.text(365, 68, "2  TCMM diffusion", LARGE, weight="bold", color=GREEN)
    canvas.image(found["images"]["noise"], 365, 106, 60, 90)
    canvas.arrow((431, 151), (471, 151))
    canvas.image(found["images"]["estimate"], 477, 106, 60, 90)
    canvas.text(553, 112, "told the coarse\nimage and the\ntexture")
    canvas.text(365, 210, "a Mamba network removes noise;\nthen the result is back-projected")
    canvas.box(345, 330, 370, 345, BLUE)
    canvas.text(365, 346, "1  DMB: what looks alike?", LARGE, weight="bold", color=BLUE)
    text = "blur the reference, mix the bands\nof the coarse image: now they look\n"
    text += "alike. Find each patch's best matches"
    canvas.text(365, 380, text)
    titles = ("a patch", "best match,\nblurred", "the same,\nsharp")
    for number, (tile, title) in enumerate(zip(found["tiles"], titles)):
        canvas.image(tile, 365 + 120 * number, 474, 96, 96)
        canvas.text(413 + 120 * number, 578, title, ha="center")
    canvas.text(365, 638, "hand over what the blur took away")


def draw_outputs(canvas: Canvas, found: dict) -> None:
    """The right column: the result between the plainest one and the truth."""
    canvas.text(800, 14, "What comes out", LARGE, weight="bold")
    for number, name in enumerate(("bicubic", "ctmem", "truth")):
        ax = canvas.image(found["images"][name], 800 + 165 * number, 52, 150, 225)
        ax.plot(PIXEL[1], PIXEL[0], "o", ms=11, mfc="none", mec="white", mew=4)
        ax.plot(PIXEL[1], PIXEL[0], "o", ms=11, mfc="none", mec="black", mew=1.8)
        quality = f"{found['psnr'][name]:.1f} dB" if name in found["psnr"] else "never shown"
        canvas.text(875 + 165 * number, 283, f"{name}\n{quality}", ha="center")


def draw_spectrum(canvas: Canvas, found: dict) -> None:
    """Three variants of one pixel's spectrum, up to 1000 nm; and what the baseline reaches."""
    ax = canvas.place(852, 380, 428, 200)
    visible = found["nm"] < 1000
    styles = {"truth": ("black", "-"), "bicubic": (ORANGE, "--"), "ctmem": (BLUE, "-")}
    for name, (colour, dash) in styles.items():
        ax.plot(found["nm"][visible], found["spectra"][name][visible], dash, color=colour, lw=2.2, label=name)
    ax.set_xlabel("wavelength (nm)", fontsize=SMALL)
    ax.set_ylabel("radiance (scaled)", fontsize=SMALL)
    ax.tick_params(labelsize=SMALL - 1)
    ax.spines[["top", "right"]].set_visible(False)
    ax.legend(frameon=False, fontsize=SMALL, loc=(0.13, 0.02), handlelength=1.6)
    canvas.text(852, 348, "spectrum of the circled pixel")
    plain = found["psnr"]["back-projection"]
    canvas.text(800, 652, f"dB: PSNR. Back-projection, without learning: {plain:.1f} dB")


def main() -> None:
    """Computes, draws, writes."""
    found, canvas = compute(), Canvas()
    draw_inputs(canvas, found)
    draw_stages(canvas, found)
    draw_outputs(canvas, found)
    draw_spectrum(canvas, found)
    canvas.arrow((285, 165), (340, 165))
    canvas.arrow((250, 442), (340, 442))
    canvas.arrow((235, 285), (340, 360))
    canvas.arrow((530, 326), (530, 281))
    canvas.text(542, 292, "texture")
    canvas.arrow((720, 165), (790, 165))
    drawn = io.BytesIO()
    canvas.figure.savefig(drawn, format="png")
    TARGET.parent.mkdir(exist_ok=True)
    # 32 levels per colour are enough for the eye and make the file a third smaller
    fewer = Image.open(drawn).convert("RGB").point(lambda value: value // 8 * 255 // 31)
    fewer.save(TARGET, optimize=True)


if __name__ == "__main__":
    main()
