"""Matching across two real instruments: Hyperion's blurred image asks, ALI's answers. One satellite, one city, Paris.

    python benchmarks/cross_sensor.py                  # about a minute; writes benchmarks/results/cross_sensor.md
    python benchmarks/cross_sensor.py --scenes FOLDER  # where paris_hyperion_hsi.npz and paris_ali_msi.npz lie

Both images are 72×72 px of 30 m, so each ground is seen twice. The query is what ALI would make of Hyperion's image
after a blur and decimation; the reference is ALI's own image, blurred the same way. A patch of the query should
find its own ground, or, once every window that shares a pixel with it is left out ("elsewhere"), ground that looks
like it.
"""

from __future__ import annotations

import argparse
import dataclasses
from itertools import combinations
from pathlib import Path

import machine
import numpy as np
import scipy.ndimage
import torch
from skimage.registration import phase_cross_correlation

from ctmem.command import forgiving_output
from ctmem.data.scenes import load_scene
from ctmem.match import align, matching, search
from ctmem.match import patches as pt
from ctmem.observe.camera import Camera
from ctmem.observe.responses import SENSORS, apply_srf

SCENES = Path(__file__).resolve().parents[2] / "shared" / "scenes"
FILES = ("paris_hyperion_hsi.npz", "paris_ali_msi.npz")
BANDS = {"blue": 1, "green": 2, "red": 3, "near infrared": 4}  # ALI's MS-1 … MS-4 among its nine bands
STEP = 4  # between query patches, pixels
NEAR = 2.0  # a window this close to the true place, in rows and in columns, is a hit
KEPT = 64  # best windows looked at, and averaged
BEST = "zncc, radiometry matched"
TEMPERATURE = 0.05  # of the mean of the 64 best windows, as in `MatchConfig`


READING = """\
`zncc`: of the sharp ALI patch taken over with what Hyperion sees there through ALI's spectral response. `detail`:
the same of what the blur takes from each, the part that the query cannot know. In all rows ALI's bands are judged
in Hyperion's units. `elsewhere`: windows that share a pixel with the true place are left out: the unpaired task.
ALI's image loses half a coarse pixel at each border before it is blurred, so that the coarse grids of query and
reference differ. Offsets: peak of the cross-correlation, to 0.01 px, of images that fade out towards their borders.

What to read from it:

1. ALI lies 0.2 rows below and 0.4 columns right of Hyperion, the same within 0.15 px in every band and quarter;
   this alone is half of what the window at the true place lacks (zncc 0.80, and 0.91 once ALI is moved), the rest
   is the instruments'.
2. Radiometry decides first: in these files Hyperion's blue is three times ALI's and its near infrared lower, so
   that `cosine` and `l2` without matching hardly do better than chance, and with mean and deviation matched find
   their own ground; `dot` takes the brightest window, whatever is asked, and stays at chance; `zncc` is the only one
   that works unmatched, and still gains from matching (72 to 80 % at scale 4, 8 px), as the bands of largest
   contrast then outvote the others less.
3. To find the *same* ground, where query and window are hard to tell from others (scale 4, 8 px), `l2` is best with
   96 %, `cosine` reaches 93 %, `zncc` 80 %: the level of a patch, which zncc ignores, is true evidence there.
4. The misses come from sampling, not from the second instrument: Hyperion's own fine image is missed as often (81
   and 96 %), and with coinciding coarse grids all is found. Such a patch holds four coarse pixels, and a grid moved
   by half a coarse pixel gives the same ground other values; eight turns add candidates but no evidence (63 %).
5. Elsewhere, `zncc` with matched radiometry finds the most alike patches (by its own yardstick), with eight turns
   more so; but the *detail* of the best window is next to nothing (0.11 at most), whatever the similarity. What
   helps is the mean of 64 windows, with turns: 0.11 to 0.25.
6. Elsewhere, ALI's windows are as good as Hyperion's own: the second instrument costs nothing there, and what
   limits the transfer is that other ground is other ground.
7. A whole patch from elsewhere is always less like the truth than the query itself (0.28 against 0.50 at best at
   scale 4, 8 px): it can lend detail and should never replace what is known.
8. Limits: one scene, four bands, a blur that is known exactly. Queries overlap; errors (±) count only as many
   patches as tile the reference.
"""


def load(folder: Path) -> tuple[torch.Tensor, torch.Tensor]:
    """Hyperion's image through ALI's spectral response and ALI's own, (1, 4, H, W) each, each in its own units."""
    hyperion, ali = (np.load(folder / name, allow_pickle=False) for name in FILES)
    response = torch.from_numpy(ali["R_ali_from_hyperion"][list(BANDS.values())]).float()
    cubes = [torch.from_numpy(file["cube"]).float().permute(2, 0, 1)[None] for file in (hyperion, ali)]
    return apply_srf(cubes[0], response / response.sum(1, keepdim=True)), cubes[1][:, list(BANDS.values())]


def offset(image: torch.Tensor, other: torch.Tensor) -> np.ndarray:
    """(C, 2): rows and columns by which `other` lies further down and right than `image`, band by band, in pixels.

    The peak of the cross-correlation, found to 0.01 px by a Fourier transform on a fine grid around it. Both images
    fade out towards their borders (Hann window), or else the borders, which don't move, would draw the answer to 0.
    """
    window = np.outer(*(np.hanning(side + 2)[1:-1] for side in image.shape[2:]))
    faded = [(x - x.mean((2, 3), keepdim=True))[0].numpy() * window for x in (image, other)]
    return -np.array(
        [phase_cross_correlation(a, b, upsample_factor=100, normalization=None)[0] for a, b in zip(*faded)]
    )


def moved(x: torch.Tensor, by: np.ndarray) -> torch.Tensor:
    """The image moved down and right by `by` (2,) pixels, by cubic splines, border replicated."""
    bands = [scipy.ndimage.shift(band, by, order=3, mode="nearest") for band in x[0].numpy()]
    return torch.from_numpy(np.stack(bands))[None]


def zncc(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Zero-mean normalised cross-correlation of each of N pairs of patches (N, C, P, P): means off per band, (N,)."""
    a, b = ((x - x.mean((2, 3), keepdim=True)).flatten(1) for x in (a, b))
    return torch.nn.functional.cosine_similarity(a, b)


def keep_first(match: matching.Match, allowed: torch.Tensor, count: int) -> matching.Match:
    """The same match with only the first `count` windows of each query patch that are `allowed` (N, 1, k).

    Raises:
        ValueError: a query patch with fewer of them.
    """
    if int(allowed.sum(-1).min()) < count:
        raise ValueError(f"`allowed` must leave {count} windows, got {int(allowed.sum(-1).min())}")
    order = torch.sort(allowed.int(), dim=-1, descending=True, stable=True).indices[..., :count]
    windows = match.windows.gather(2, order[..., None].expand(-1, -1, -1, 3))
    indices, scores = match.indices.gather(2, order), match.scores.gather(2, order)
    return dataclasses.replace(match, windows=windows, indices=indices, scores=scores)


def elsewhere(match: matching.Match, corners: torch.Tensor) -> torch.Tensor:
    """Which windows (N, 1, k) share no pixel with the window at `corners` (N, 2)."""
    return ((match.windows[..., :2] - corners[:, None, None]).abs() >= match.patch).any(-1)


def hits(windows: torch.Tensor, places: torch.Tensor) -> list[str]:
    """% of the N query patches with one of the first 1, 5, 64 windows (N, 64, 2) near the true place (N, 2)."""
    near = (windows - places[:, None]).abs().amax(-1) <= NEAR
    return [f"{100 * float(near[:, :count].any(-1).float().mean()):.0f}" for count in (1, 5, KEPT)]


def mean_of_best(match: matching.Match, image: torch.Tensor) -> torch.Tensor:
    """Mean of the 64 best windows of `image`, weighted by softmax(score / temperature), (N, C, P, P)."""
    weights = torch.softmax(match.scores[:, 0, :KEPT] / TEMPERATURE, -1)
    return sum(
        weights[:, rank, None, None, None] * matching.cut_match(match, image, rank)[:, 0] for rank in range(KEPT)
    )


class Task:
    """One query and one reference at one scale and patch size, and what is measured on them.

    The reference loses `margin` pixels at each border before it is blurred, so that its coarse grid lies that far off
    the query's; only query patches that lie inside it are asked.
    """

    def __init__(
        self, fine: torch.Tensor, reference: torch.Tensor, scale: int, patch: int, shift: np.ndarray, margin: int
    ):
        """`fine` (1, C, H, W) is what the query comes from and the truth; `shift` (2,) its place in `reference`."""
        reference = reference[:, :, margin : reference.shape[2] - margin, margin : reference.shape[3] - margin]
        query, blurred = (Camera.gaussian(scale=scale).blur(image) for image in (fine, reference))
        gain, level = align.gain_and_offset(blurred, query)
        self.patch, self.sharp = patch, gain * reference + level  # in the query's units: all rows are judged alike
        self.detail = self.sharp - (gain * blurred + level)
        corners = pt.windows(*fine.shape[2:], patch, STEP)
        places = corners + torch.from_numpy(shift) - margin
        nearest, last = places.round().long(), torch.tensor(reference.shape[2:]) - patch
        inside = ((nearest >= 0) & (nearest <= last)).all(1)
        corners, self.places, self.nearest = corners[inside], places[inside], nearest[inside]
        self.query, self.truth, self.lost = (pt.cut(x[0], corners, patch) for x in (query, fine, fine - query))
        self.references = {False: blurred, True: align.match_radiometry(blurred, query)}

    def judge(self, sharp: torch.Tensor, detail: torch.Tensor) -> list[torch.Tensor]:
        """zncc of sharp patches with the truth, and of their detail with what the blur took away, (N,) each."""
        return [zncc(sharp, self.truth), zncc(detail, self.lost)]

    def at(self, windows: torch.Tensor) -> list[torch.Tensor]:
        """`judge` of the windows with these corners (N, 2)."""
        return self.judge(*(pt.cut(image[0], windows, self.patch) for image in (self.sharp, self.detail)))

    def search(self, similarity: str, radiometry: bool, turns: bool = False) -> tuple[list[str], list[torch.Tensor]]:
        """Hits of one kind of matching; zncc and detail (N,) of the best window, both again elsewhere, mean of 64."""
        same = (8 if turns else 1) * (2 * self.patch - 1) ** 2  # so many candidates share a pixel with a place
        options = {"similarity": similarity, "turns": turns, "top_k": KEPT + same}
        match = matching.match(self.query, self.references[radiometry], patch=self.patch, stride=1, **options)
        other = keep_first(match, elsewhere(match, self.nearest), KEPT)
        taken = [[matching.cut_match(m, image)[:, 0] for image in (self.sharp, self.detail)] for m in (match, other)]
        values = [*self.judge(*taken[0]), *self.judge(*taken[1]), zncc(mean_of_best(other, self.detail), self.lost)]
        return hits(match.windows[:, 0, :, :2], self.places), values

    def chance(self, generator: torch.Generator) -> tuple[list[str], list[torch.Tensor]]:
        """The same for windows drawn at random."""
        candidates = pt.windows(*self.sharp.shape[2:], self.patch, 1)
        drawn = candidates[torch.randint(len(candidates), (len(self.places), KEPT), generator=generator)]
        return hits(drawn, self.places), self.at(drawn[:, 0])

    def at_the_place(self) -> tuple[list[str], list[torch.Tensor]]:
        """The same for the window at the true place, to the nearest pixel."""
        return hits(self.nearest[:, None], self.places), self.at(self.nearest)


def row(name: str, shares: list[str], values: list[torch.Tensor]) -> list[str]:
    """A line of a table: hits, then means over the queries; what is missing stays empty."""
    cells = [name, *shares, *(f"{float(value.mean()):.2f}" for value in values)]
    return cells + [""] * (9 - len(cells))


def differences(task: Task, found: dict[str, list[torch.Tensor]], to: str) -> list[list[str]]:
    """Lines of a table: how the last three values differ from those of `to`, ± their standard error."""
    tiles = torch.tensor(task.sharp.shape[2:]).div(task.patch, rounding_mode="floor").prod()  # independent patches
    lines = []
    for name in found.keys() - {to}:
        gaps = [a - b for a, b in zip(found[name][2:], found[to][2:])]
        lines.append([name, *(f"{float(g.mean()):+.3f} ± {float(g.std() / tiles.sqrt()):.3f}" for g in gaps)])
    return sorted(lines)


def tables(fine: torch.Tensor, ali: torch.Tensor, shift: np.ndarray) -> str:
    """Tables for each scale and patch size."""
    last = ["zncc elsewhere", "detail elsewhere", "detail elsewhere, mean of 64"]
    header = ["windows chosen by", "best %", "top-5 %", "top-64 %", "zncc", "detail", *last]
    parts, generator = [], torch.Generator().manual_seed(0)
    for scale, patch in ((2, 8), (2, 16), (4, 8), (4, 16)):
        task, aligned = (Task(fine, ali, scale, patch, shift, margin) for margin in (scale // 2, 0))
        own = Task(fine, fine, scale, patch, np.zeros(2), scale // 2)
        straight = Task(fine, moved(ali, -shift), scale, patch, np.zeros(2), scale // 2)
        found = {}
        for radiometry in (False, True):
            names = {f"{name}{', radiometry matched' * radiometry}": name for name in search.SIMILARITIES}
            found |= {name: task.search(similarity, radiometry) for name, similarity in names.items()}
        found["zncc, radiometry matched, 8 turns"] = task.search("zncc", True, True)
        rows = [row("nothing: the query itself", [""] * 3, [zncc(task.query, task.truth)])]
        rows += [row("chance", *task.chance(generator)), *(row(name, *result) for name, result in found.items())]
        rows.append(row("zncc, radiometry matched, coarse grids coincide", *aligned.search("zncc", True)))
        rows.append(row("the true place", *task.at_the_place()))
        rows.append(row("the true place, ALI moved by the offset", *straight.at_the_place()))
        rows += [row(f"{name}, in Hyperion's own fine image", *own.search(name, False)) for name in ("zncc", "l2")]
        good = {name: values for name, (_, values) in found.items() if "matched" in name and "dot" not in name}
        gaps = machine.table(["minus zncc, radiometry matched", *last], differences(task, good, BEST))
        title = f"## Scale {scale}, patches of {patch} px: {len(task.places)} queries, overlapping"
        parts.append(f"{title}\n\n{machine.table(header, rows)}\n\n{gaps}")
    return "\n\n".join(parts)


def registration(fine: torch.Tensor, ali: torch.Tensor) -> tuple[str, np.ndarray]:
    """A table of offsets, whole image and quarters, and the median over the bands of the whole, (2,)."""
    height, width = (side // 2 for side in fine.shape[2:])
    cuts = {"whole": (slice(None), slice(None))}
    for down, rows in {"upper": slice(height), "lower": slice(height, None)}.items():
        for side, columns in {"left": slice(width), "right": slice(width, None)}.items():
            cuts[f"{down} {side}"] = (rows, columns)
    found = {name: offset(fine[:, :, r, c], ali[:, :, r, c]) for name, (r, c) in cuts.items()}
    rows = [[name, *(f"{a:+.2f}, {b:+.2f}" for a, b in shifts)] for name, shifts in found.items()]
    rows.append(["correlation", *(f"{value:.2f}" for value in correlations(fine, ali))])
    return machine.table(["rows, columns", *BANDS], rows), np.median(found["whole"], 0)


def correlations(a: torch.Tensor, b: torch.Tensor) -> list[float]:
    """Correlation of each band of two images of one size, (1, C, H, W)."""
    return [float(torch.corrcoef(torch.stack([x.flatten(), y.flatten()]))[0, 1]) for x, y in zip(a[0], b[0])]


def sensors_compared() -> str:
    """A table: how far the four bands of each two sensors differ on Indian Pines."""
    scene = load_scene("indian_pines")
    cameras = {name: Camera.gaussian(sensor=name).for_wavelengths(scene.wavelengths_nm) for name in SENSORS}
    seen = {name: camera.see(scene.tensor()) for name, camera in cameras.items()}
    rows = []
    for a, b in combinations(seen, 2):
        share = 100 * (seen[a] - seen[b]).abs().mean((0, 2, 3)) / seen[a].mean((0, 2, 3))
        pairs = zip(share.tolist(), correlations(seen[a], seen[b]))
        rows.append([f"{a}, {b}", *(f"{percent:.2f} %, {alike:.4f}" for percent, alike in pairs)])
    return machine.table(["mean absolute difference / mean, zncc", *BANDS], rows)


def main() -> None:
    """Measures everything and writes the results."""
    forgiving_output()
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scenes", type=Path, default=SCENES, help="folder of the two Paris files")
    folder = parser.parse_args().scenes
    missing = [name for name in FILES if not (folder / name).is_file()]
    if missing:
        print(f"skipped: no {' and no '.join(missing)}; name their folder by --scenes")
        return
    torch.set_num_threads(1)
    fine, ali = load(folder)
    offsets, shift = registration(fine, ali)
    text = f"# Matching across two instruments\n\n{machine.describe('scikit-image', 'scipy')}.\n\n{READING}"
    text += f"\n## Offset of ALI's image from Hyperion's\n\n{offsets}\n\n{tables(fine, ali, shift)}"
    text += f"\n\n## Four sensors on the same ground: Indian Pines, no blur\n\n{sensors_compared()}"
    machine.write("cross_sensor", text)


if __name__ == "__main__":
    main()
