"""Writes docs/images/tcmm.png, the figure of notebook 07: the denoiser block by block, with what it makes of an image.

    python docs/make_tcmm.py

Every picture in it is computed here, from a shipped scene and the shipped weights: one call of the network on noise.
"""

from __future__ import annotations

import io
from pathlib import Path

import torch
from make_overview import BLUE, GREEN, HEIGHT, ORANGE, WIDTH, Canvas
from matplotlib.lines import Line2D
from PIL import Image

from ctmem.data import scenes
from ctmem.data.areas import split_areas
from ctmem.data.samples import degrade_scene
from ctmem.diffusion.schedule import make_schedule
from ctmem.inference import encode
from ctmem.model import load_model

TARGET = Path(__file__).parent / "images" / "tcmm.png"
SHADES = "cividis"
BOX = (170, 148)  # pixels
COLUMNS = (20, 235, 450, 665, 895, 1110)  # left sides
ROWS = (70, 285, 500)  # upper sides: noise, HSI, reference branch
MIDDLE = (ROWS[0] + ROWS[1]) // 2  # where two branches meet
BRANCHES = (("noise", ORANGE), ("hsi", BLUE), ("reference", GREEN))


@torch.no_grad()
def compute() -> tuple[dict[str, torch.Tensor], dict[str, int]]:
    """What comes out of each part, (1, channels, H, W), on a validation area; and the parameters of each part."""
    model = load_model("tiny")
    scene = scenes.load_scene("indian_pines")
    camera = model.camera.for_wavelengths(scene.wavelengths_nm)
    whole = degrade_scene(scene.tensor(), camera)
    areas = split_areas(*whole.gt.shape[2:], camera)
    (encoded,) = encode(
        model, whole.cut(areas["validation"]).lr_hsi, whole.cut(areas["train"]).hr_msi, camera=camera
    )  # fmt: skip
    network = model.denoiser
    parts = {f"{name}_branch.{part}" for name, _ in BRANCHES for part in ("stem", "residual.0")}
    parts |= {f"{name}_branch" for name, _ in BRANCHES} | {"noise_texture.0", "hsi_texture.0", "fusion.1"}
    seen = {"noise_in": torch.randn(encoded.base.shape, generator=torch.Generator().manual_seed(0))}
    seen |= {"hsi_in": encoded.base, "reference_in": encoded.texture}
    hooks = [network.get_submodule(part).register_forward_hook(_noter(seen, part)) for part in parts]
    level = make_schedule(model.preset.schedule, model.preset.timesteps).levels[-1:].float()
    seen["out"] = network(seen["noise_in"], level, encoded.base, encoded.base, encoded.texture)
    for hook in hooks:
        hook.remove()
    counted = [*parts, *(f"{name}_branch.cim" for name, _ in BRANCHES), "fusion"]
    sizes = {part: sum(p.numel() for p in network.get_submodule(part).parameters()) for part in counted}
    return seen, sizes


def _noter(seen: dict[str, torch.Tensor], name: str):
    """A hook that keeps what a part puts out; a TEMamba block also hands on what is carried."""

    def note(module: torch.nn.Module, given: tuple, out: torch.Tensor | tuple) -> None:
        seen[name] = out[0] if isinstance(out, tuple) else out

    return note


def main_map(features: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """The map (W, H) along which channels vary most, turned to lie down, of the sign that agrees with `like`."""
    x = features[0].flatten(1)
    x = x - x.mean(1, keepdim=True)
    strongest = torch.linalg.svd(x, full_matrices=False).Vh[0]
    sign = torch.sign(strongest @ like.flatten())
    return (sign * strongest).reshape(features.shape[2:]).T


def box(canvas: Canvas, place: tuple[float, float], title: str, text: str, colour: str, shown: torch.Tensor) -> None:
    """A named box with a map in it and its shape below."""
    left, top = place
    canvas.box(left, top, *BOX, colour)
    canvas.text(left + BOX[0] / 2, top + 6, title, 12.5, ha="center", weight="bold")
    ax = canvas.place(left + 11, top + 54, 148, 50)
    low, high = (float(value) for value in shown.quantile(torch.tensor([0.01, 0.99])))
    ax.imshow(shown, cmap=SHADES, vmin=low, vmax=high, aspect="auto", interpolation="nearest")
    ax.set(xticks=[], yticks=[])
    canvas.text(left + BOX[0] / 2, top + 110, text, 10.5, ha="center")


def line(canvas: Canvas, points: list[tuple[float, float]], colour: str) -> None:
    """An arrow along several points."""
    x, y = zip(*((x / WIDTH, 1 - y / HEIGHT) for x, y in points))
    canvas.figure.add_artist(Line2D(x, y, color=colour, linewidth=2.2))
    style = {"arrowstyle": "-|>,head_width=0.35,head_length=0.6", "linewidth": 2.2, "color": colour}
    ends = {"xytext": (x[-2], y[-2]), "xycoords": "figure fraction", "textcoords": "figure fraction"}
    canvas.figure.axes[0].annotate("", (x[-1], y[-1]), arrowprops=style, **ends)


def draw(canvas: Canvas, seen: dict[str, torch.Tensor], sizes: dict[str, int]) -> None:
    """All boxes and arrows."""
    like = seen["hsi_in"][0, 0] - seen["hsi_in"][0, 0].mean()
    shapes = "{} maps, {} × {}".format(*seen["hsi_branch"].shape[1:])
    inputs = ("$x_t$: pure noise", "lr_hsi_up", "texture of DMB")
    for (name, colour), top, title in zip(BRANCHES, ROWS, inputs):
        shown = seen[f"{name}_in"]
        branch = f"{name}_branch"
        text = f"{shown.shape[1]} channels" + (", and the\nlast estimate x̂₀" if name == "noise" else "")
        box(canvas, (COLUMNS[0], top), title, text, colour, main_map(shown, like))
        parts = (("stem", "3×3 convolution", f"{branch}.stem"), ("residual.0", "half norm", f"{branch}.residual.0"))
        for left, (part, label, made) in zip(COLUMNS[1:], parts):
            told = label + ("\n+ noise level" if (name, part) == ("noise", "stem") else "")
            box(canvas, (left, top), told, f"{shapes}\n{sizes[f'{branch}.{part}']:,} parameters", colour,
                main_map(seen[made], like))  # fmt: skip
        box(canvas, (COLUMNS[3], top), "CIM × 2:\nrows, backwards", f"{shapes}\n{sizes[f'{branch}.cim']:,} parameters",
            colour, main_map(seen[branch], like))  # fmt: skip
        for left in COLUMNS[:3]:
            canvas.arrow((left + BOX[0] + 4, top + 74), (left + 211, top + 74))
        if name == "reference":
            continue
        enhanced = f"{name}_texture.0"
        box(canvas, (COLUMNS[4], top), "TEMamba", f"{shapes}\n{sizes[enhanced]:,} parameters", colour,
            main_map(seen[enhanced], like))  # fmt: skip
        canvas.arrow((COLUMNS[3] + BOX[0] + 4, top + 74), (COLUMNS[4] - 4, top + 74))
        canvas.arrow((COLUMNS[4] + BOX[0] + 4, top + 74), (COLUMNS[5] - 4, MIDDLE + 74))
    _draw_guide_and_end(canvas, seen, sizes, like)


def _draw_guide_and_end(
    canvas: Canvas, seen: dict[str, torch.Tensor], sizes: dict[str, int], like: torch.Tensor
) -> None:
    """The guide's way into both TEMamba blocks; the fusion, and what comes out."""
    right = COLUMNS[4] + BOX[0] / 2
    line(canvas, [(COLUMNS[3] + BOX[0], ROWS[2] + 74), (right, ROWS[2] + 74), (right, ROWS[1] + BOX[1] + 8)], GREEN)
    line(canvas, [(COLUMNS[4] - 22, ROWS[2] + 74), (COLUMNS[4] - 22, ROWS[0] + BOX[1] + 26),
                 (right, ROWS[0] + BOX[1] + 26), (right, ROWS[0] + BOX[1] + 8)], GREEN)  # fmt: skip
    canvas.text(COLUMNS[3] + BOX[0] + 14, ROWS[2] + 84, "the guide: its texture is mixed\nin by channel attention and\nby a second Mamba stream",
                12, color=GREEN)  # fmt: skip
    box(canvas, (COLUMNS[5], MIDDLE), "fusion:\nchannel attention", f"64 maps in, 8 out\n{sizes['fusion']:,} parameters",
        "#444444", main_map(seen["fusion.1"], like))  # fmt: skip
    out = seen["out"] - seen["hsi_in"]
    box(canvas, (COLUMNS[5], ROWS[2]), "what is added\nto lr_hsi_up", "8 channels,\nthe first is shown",
        "#444444", out[0, 0].T)  # fmt: skip
    canvas.arrow((COLUMNS[5] + BOX[0] / 2, MIDDLE + BOX[1] + 4), (COLUMNS[5] + BOX[0] / 2, ROWS[2] - 4))


def main() -> None:
    """Draws and writes."""
    seen, sizes = compute()
    canvas = Canvas()
    canvas.text(20, 14, "noise branch: at every step of the diffusion", 15, weight="bold", color=ORANGE)
    canvas.text(20, ROWS[1] - 40, "HSI branch: once per image", 15, weight="bold", color=BLUE)
    canvas.text(20, ROWS[2] - 40, "reference branch: once per image", 15, weight="bold", color=GREEN)
    draw(canvas, seen, sizes)
    drawn = io.BytesIO()
    canvas.figure.savefig(drawn, format="png", dpi=100, facecolor="white")
    picture = (
        Image.open(drawn).convert("RGB").quantize(256, method=Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
    )
    picture.save(TARGET, optimize=True)


if __name__ == "__main__":
    main()
