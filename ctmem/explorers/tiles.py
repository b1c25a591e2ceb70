"""Patches of a match, enlarged: pure functions from a `Matched` to pictures, a table of HTML, or matplotlib axes."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import torch
from matplotlib.axes import Axes
from PIL import Image

from ctmem.checks import Axes as Form
from ctmem.checks import Size, fail, typed
from ctmem.evaluation.plots import Few
from ctmem.explorers.matched import Matched
from ctmem.explorers.render import colours, stretch
from ctmem.match.matching import cut_windows
from ctmem.match.patches import cut

SIDE = 48  # of a tile, screen pixels
TURNS = ("as it is", "90°", "180°", "270°", "mirror", "mirror 90°", "mirror 180°", "mirror 270°")  # `turned` 0 … 7
HEADS = ("score, weight,", "turn")
Bands = Annotated[torch.Tensor, Form("(c, H, W)", finite=False)]
ROWS = (("as compared,", "both blurred"), ("handed over,", "sharp"))


@typed
@dataclass(frozen=True)
class Tile:
    """Two pictures of one patch, (P, P, 4) uint8 each, and two lines of text."""

    lines: tuple[str, str]
    compared: np.ndarray  # as it looked when it was compared
    handed: np.ndarray  # what is handed over


@typed
def composite(image: Bands) -> np.ndarray:
    """Returns what is drawn of an image (c, H, W): (H, W, 3) red, green and blue, or one band as grey; NaN in holes.

    Bands are in the order of a multispectral image that begins with blue, green, red; of two, the first is drawn.
    """
    bands = [2, 1, 0] if len(image) >= 3 else [0, 0, 0]
    holes = ~torch.isfinite(image).all(0)
    return image[bands].masked_fill(holes, torch.nan).movedim(0, -1).detach().cpu().numpy()


def limits_of(*images: np.ndarray) -> list[tuple[float, float]]:
    """Returns black and white of each channel that suit images (H, W, 3) together."""
    pairs = [[stretch(image[..., channel]) for image in images] for channel in range(3)]
    return [(min(low for low, _ in some), max(high for _, high in some)) for some in pairs]


@typed
def tiles(matched: Matched, number: int, ranks: Sequence[int]) -> list[Tile]:
    """Returns tiles of a query patch, and of its windows of these ranks (from 0), turned as they were found.

    Of the query, the second picture is what came of all windows: the texture. Where the similarity is blind to
    brightness and contrast (zncc), each tile is stretched by itself, otherwise all alike.
    """
    matched.check(number, ranks)
    prepared = matched.prepared
    config = matched.config
    match = matched.match
    # what is drawn of the query and of the windows: as compared, and as handed over, both in units of what is compared
    texture = prepared.gain * matched.texture.chunk(4, 1)[1] + prepared.offset
    own = cut(torch.cat([prepared.query[0], texture[0]]), match.corners[number, None], config.patch)
    scenes = match.scenes[:, number, ranks]
    windows = match.windows[:, number, ranks]
    found = cut_windows([torch.cat([matched.blurred, matched.sharp])], scenes, windows, config.patch)[0]
    # each with the stretch that the similarity deserves
    pairs = [[composite(half) for half in patch.chunk(2)] for patch in torch.cat([own, found])]
    if config.similarity == "zncc":
        limits = [_extremes(pair) for pair in pairs]
    else:
        limits = [limits_of(composite(prepared.query[0]), composite(matched.blurred))] * len(pairs)
    pictures = ((colours(picture, some) for picture in pair) for pair, some in zip(pairs, limits))
    return [Tile(lines, *pair) for lines, pair in zip(captions(matched, number, ranks), pictures)]


@typed
def captions(matched: Matched, number: int, ranks: Sequence[int]) -> list[tuple[str, str]]:
    """Returns two lines for each tile: rank from 1, score and weight in the average, and the turn."""
    matched.check(number, ranks)
    match = matched.match
    weights = matched.weights()[number].tolist()
    row, column = match.corners[number].tolist()
    lines = [(f"query ({row}, {column})", "below: its texture")]
    for rank in ranks:
        weight = f"{100 * weights[rank]:.1f} %" if rank < len(weights) else "not used"
        turn = TURNS[match.windows[0, number, rank, 2]]
        lines.append((f"{rank + 1}: {float(match.scores[0, number, rank]):.3g}, {weight}", turn))
    return lines


@typed
def tiles_html(tiles: Sequence[Tile], columns: Few, width: Size) -> str:
    """Returns tiles as a table: two lines of text, below them how each was compared, below that what it hands over.

    Args:
        tiles: at most `columns`.
        columns: there is room for so many: nothing moves when there are fewer.
        width: of the table, screen pixels.
    """
    if not 0 < len(tiles) <= columns:
        fail("tiles", f"1 to {columns} of them, as `columns` says", f"{len(tiles)}")
    rows = [[_lines(*tile.lines) for tile in tiles]]
    rows += [[_image(getattr(tile, kind), kind) for tile in tiles] for kind in ("compared", "handed")]
    table = ""
    for head, row in zip((HEADS, *ROWS), rows):
        cells = "".join(f"<td>{cell}</td>" for cell in [*row, *[""] * (columns - len(row))])
        table += f"<tr><td style='text-align:left'>{_lines(*head)}</td>{cells}</tr>"
    style = "font-size:12px;line-height:15px;text-align:center;white-space:nowrap;table-layout:fixed"
    first = "<col style='width:114px'>"
    return f"<table class='ctmem-tiles' style='{style};width:{width}px'>{first}{table}</table>"


@typed
def draw_tiles(ax: Axes, tiles: Sequence[Tile], columns: Few) -> None:
    """Draws tiles, at most `columns`, and their text into matplotlib axes."""
    ax.set_axis_off()
    for number, tile in enumerate(tiles):
        left = 1.85 * number
        for top, picture in ((0, tile.compared), (-1.1, tile.handed)):
            ax.imshow(picture, extent=(left, left + 1, top - 1, top))
        ax.text(left + 0.5, 0.08, "\n".join(tile.lines), ha="center", va="bottom", fontsize=8)
    for top, lines in zip((0, -1.1), ROWS):
        ax.text(-0.15, top - 0.5, "\n".join(lines), ha="right", va="center", fontsize=8)
    ax.set(xlim=(-1.6, 1.85 * (columns - 1) + 1.4), ylim=(-2.15, 0.75))


def _extremes(pictures: Sequence[np.ndarray]) -> list[tuple[float, float]]:
    """Least and greatest value of each channel."""
    values = np.concatenate([picture.reshape(-1, 3) for picture in pictures])
    return [(low, max(high, low + 1e-6)) for low, high in zip(values.min(0), values.max(0))]


def _lines(*lines: str) -> str:
    """Lines of text as HTML."""
    return "<br>".join(map(html.escape, lines))


def _image(picture: np.ndarray, name: str) -> str:
    """A small picture (H, W, 4), enlarged, as HTML."""
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "png")
    source = "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
    size = f"width={SIDE} height={SIDE} style='image-rendering:pixelated;display:block;margin:1px auto'"
    return f"<img class='ctmem-tile' {size} alt='{name}' src='{source}'>"
