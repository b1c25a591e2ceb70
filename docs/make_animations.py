"""Writes three short animations to docs/images/, each with a still: what moves is easier to see moving.

    python docs/make_animations.py

diffusion: from noise to an answer. scan: an image read in four walks, and what is left of each pixel. match: a patch that looks
for its like. All is computed from the shipped scenes and weights, on training and validation areas, with fixed seeds. They play
three times and stop.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

from ctmem.data.areas import split_areas
from ctmem.data.samples import Degraded, degrade_scene
from ctmem.data.scenes import load_scene
from ctmem.evaluation import plots
from ctmem.explorers.recording import record
from ctmem.match.patches import cut, unfold, windows
from ctmem.match.search import similarities
from ctmem.model import load_model
from ctmem.networks.tcmm import to_image, to_tokens

FOLDER = Path(__file__).parent / "images"
MOST_BYTES = 300_000
MARGIN, LINE = 10, 22  # pixels
INK, WINDOW, BEST = "#000000", "#d55e00", "#0072b2"
FONT = ImageFont.load_default(15)
STEPS = 24  # of the diffusion
WALKS = ("along the rows", "the rows backwards", "along the columns", "the columns backwards")
HALF = 12  # pixels after which half of one is left in the state
PATCH, EVERY = 8, 4  # side of a patch, and step of the window that moves, pixels


def area(name: str) -> tuple[Degraded, np.ndarray]:
    """One area of Indian Pines with its coarse image, and the wavelengths, nm."""
    scene = load_scene("indian_pines")
    camera = load_model("tiny").camera.for_wavelengths(scene.wavelengths_nm)
    whole = degrade_scene(scene.tensor(), camera)
    return whole.cut(split_areas(*whole.gt.shape[2:], camera)[name]), scene.wavelengths_nm


def enlarged(picture: np.ndarray, zoom: int) -> Image.Image:
    """A colour image (H, W, 3) in [0, 1] with its pixels visible."""
    small = Image.fromarray(np.rint(255 * np.clip(picture, 0, 1)).astype(np.uint8))
    return small.resize((small.width * zoom, small.height * zoom), Image.Resampling.NEAREST)


def sheet(pictures: list[Image.Image], titles: list[str], below: str) -> tuple[Image.Image, list[int]]:
    """Pictures beside each other, a title above each, a line below; and where each begins on the left."""
    width = sum(picture.width + MARGIN for picture in pictures) + MARGIN
    page = Image.new("RGB", (width, max(picture.height for picture in pictures) + 2 * LINE + 2 * MARGIN), "white")
    pen, left, lefts = ImageDraw.Draw(page), MARGIN, []
    for picture, title in zip(pictures, titles):
        page.paste(picture, (left, LINE + MARGIN))
        pen.text((left, MARGIN), title, INK, FONT)
        lefts.append(left)
        left += picture.width + MARGIN
    pen.text((MARGIN, page.height - LINE), below, INK, FONT)
    return page, lefts


def frame(page: Image.Image, left: int, corner: tuple[float, float], zoom: int, side: int, colour: str) -> None:
    """A square around the pixels from `corner` (row, column) on."""
    x, y = left + corner[1] * zoom, LINE + MARGIN + corner[0] * zoom
    ImageDraw.Draw(page).rectangle((x - 2, y - 2, x + side * zoom + 1, y + side * zoom + 1), outline=colour, width=3)


def diffusion() -> Iterator[tuple[Image.Image, int]]:
    """Frames and their milliseconds: the noisy image, the network's guess, the answer."""
    found, nm = area("validation")
    model = load_model("tiny")
    camera = model.camera.for_wavelengths(nm)
    generator = torch.Generator().manual_seed(0)
    run = record(model, found.lr_hsi, camera=camera, steps=STEPS, draws=1, generator=generator)

    def picture(image: torch.Tensor) -> Image.Image:
        return enlarged(plots.rgb(image, nm, like=found.gt)[16:56], 7)

    observed = picture(found.lr_hsi_up)
    for position in range(STEPS + 1):
        pictures = [observed, picture(run.noisy(0, position)), picture(run.estimate(0, position))]
        done = position == STEPS
        told = "the answer" if done else f"step {position + 1} of {STEPS}, share of signal {run.levels[position]:.2f}"
        titles = ["observed", "noisy image", "answer" if done else "network's guess"]
        yield sheet(pictures, titles, told)[0], 2000 if done else 160


def scan() -> Iterator[tuple[Image.Image, int]]:
    """Frames: pixels in the order in which they are read, each as bright as what is left of it in the state."""
    found, nm = area("validation")
    image = plots.rgb(found.gt, nm)[4:16, 4:22]
    rows, columns = image.shape[:2]
    count, zoom = rows * columns, 16
    for order, walk in enumerate(WALKS):
        turn = to_image(torch.arange(count)[None, :, None], (rows, columns), order)[0, 0].numpy()  # when each is read
        where = to_tokens(torch.arange(count).reshape(1, 1, rows, columns), order)[0, :, 0].tolist()
        for now in range(8, count, 9):
            left = np.where(turn <= now, 0.5 ** ((now - turn) / HALF), 0)[..., None]
            pictures = [enlarged(image, zoom), enlarged(left * image + (1 - left) * 0.93, zoom)]
            page, lefts = sheet(
                pictures, [f"read {walk}", "left of it in the state"], f"half of a pixel is left {HALF} later"
            )
            for place in lefts:
                frame(page, place, divmod(where[now], columns), zoom, 1, WINDOW)
            yield page, 90


def match() -> Iterator[tuple[Image.Image, int]]:
    """Frames: a window walks over the reference, and how alike it is fills a map; the best one is kept."""
    _scene, reference = load_scene("indian_pines"), load_scene("sentinel2_farmland").tensor()[..., :56, :80]
    found, nm = area("train")
    camera = load_model("tiny").camera.for_wavelengths(nm)
    query = camera.see(found.lr_hsi_up)[..., 8:48, 40:96]
    corner, size, zoom = (16, 24), reference.shape[2:], 4
    patch = cut(query[0], torch.tensor([corner]), PATCH)
    likeness = similarities(patch, unfold(camera.blur(reference), PATCH, 1)[0])[0].numpy()
    places = windows(*size, PATCH, 1).tolist()
    table = likeness.reshape(size[0] - PATCH + 1, size[1] - PATCH + 1)
    pictures = [enlarged(plots.rgb(query), zoom), enlarged(plots.rgb(reference), zoom)]
    walk = [place for place in places if not place[0] % EVERY and not place[1] % EVERY]
    for number, (row, column) in enumerate([*walk[::3], places[int(likeness.argmax())]]):
        done = number == len(walk[::3])
        seen = np.arange(table.size).reshape(table.shape) <= row * table.shape[1] + column
        seen |= done
        best = divmod(int(np.where(seen, table, -1).argmax()), table.shape[1])
        shown = np.where(seen[..., None], colour(table), 0.93)
        page, lefts = sheet(
            [*pictures, enlarged(shown, zoom)], ["a patch …", "… its like in another place", "likeness, bright: alike"],
            f"best so far {table[best]:.2f}" if not done else f"the most alike of {table.size}: {table[best]:.2f}",
        )  # fmt: skip
        frame(page, lefts[0], corner, zoom, PATCH, WINDOW)
        if not done:
            frame(page, lefts[1], (row, column), zoom, PATCH, WINDOW)
        frame(page, lefts[1], best, zoom, PATCH, BEST)
        yield page, 2500 if done else 100


def colour(table: np.ndarray) -> np.ndarray:
    """Numbers −1 … 1 in the colours of viridis, (H, W, 3)."""
    return plots.matplotlib.colormaps["viridis"]((table + 1) / 2)[..., :3]


def save(name: str, frames: list[tuple[Image.Image, int]], still: int) -> None:
    """The animation as WebP, one of its frames as PNG."""
    pictures, milliseconds = zip(*frames)
    path = FOLDER / f"{name}.webp"
    pictures[0].save(
        path, save_all=True, append_images=pictures[1:], duration=list(milliseconds), loop=3, quality=60, method=4
    )
    pictures[still].quantize(128, dither=Image.Dither.NONE).save(FOLDER / f"{name}_still.png", optimize=True)
    size = path.stat().st_size
    print(f"{path.name}: {len(frames)} frames, {sum(milliseconds) / 1000:.1f} s, {size / 1000:.0f} kB")
    if size > MOST_BYTES:
        raise SystemExit(f"{path.name} is larger than {MOST_BYTES} bytes")


if __name__ == "__main__":
    for name, frames, still in (("diffusion", diffusion, STEPS // 2), ("scan", scan, 20), ("match", match, -1)):
        save(name, list(frames()), still)
