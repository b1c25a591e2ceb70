"""Matching: what each option is worth, how fast the search is beside a plain matrix product, how much memory it takes.

    python benchmarks/matching.py [--scenes FOLDER] [--parts quality speed]

Quality needs the Los Angeles scenes (four crops of AVIRIS flights, 100 px high, from the ABU data set); without them
only the embedded scenes are measured. Options are compared on validation areas; the test area is shown beside them and
decides nothing. Writes benchmarks/results/matching.md and matching_speed.md.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import machine
import numpy as np
import torch

from ctmem.command import forgiving_output
from ctmem.config import MatchConfig
from ctmem.data import scenes
from ctmem.data.areas import split_areas
from ctmem.match import align, dmb, patches, search
from ctmem.observe.camera import Camera

SCENES = Path(__file__).resolve().parents[2] / "shared" / "scenes"
SCALE = 4
CAMERA = Camera.gaussian(scale=SCALE)
SHOWN = 8  # side of the patches that are compared with the truth, pixels
SHARPEN = 10  # steps of back-projection in the column `added`
DEFAULT = MatchConfig()


@dataclass(frozen=True)
class Case:
    """A query with its truth, and references of other ground."""

    name: str
    truth: torch.Tensor  # (1, c, H, W)
    references: tuple[torch.Tensor, ...]  # (1, c, Hr, Wr); the first is what a row uses that names no other


def observed(truth: torch.Tensor, snr_db: float | None) -> torch.Tensor:
    """What the coarse sensor shows of a multispectral truth, with its noise, on the fine pixels: lr_hsi_up."""
    camera = replace(CAMERA, snr_db=snr_db)
    return camera.upsample(camera.observe(truth, generator=torch.Generator().manual_seed(1)))


def likeness(pred: torch.Tensor, truth: torch.Tensor) -> float:
    """Mean zncc of 8×8 patches of `pred` with the true ones; 1 at best."""
    a, b = (patches.unfold(x, SHOWN)[0] for x in (pred, truth))
    return float(search.similarities(a, b).diagonal().mean())


def explained(maps: Sequence[torch.Tensor], wanted: torch.Tensor) -> float:
    """Percent of the energy of `wanted` that the best sum of multiples of `maps` explains, fitted on itself."""
    columns, values = torch.stack([x.flatten() for x in maps], 1).double(), wanted.flatten().double()
    weights = torch.linalg.lstsq(columns, values[:, None]).solution[:, 0]
    return 100 * (1 - float((values - columns @ weights).square().sum() / values.square().sum()))


def measure(
    case: Case,
    config: MatchConfig = DEFAULT,
    references: Sequence[torch.Tensor] = (),
    look: Callable = search.nearest,
    snr_db: float | None = None,
) -> tuple[float, float, float, float]:
    """Likeness of the hard reference; percent of lost detail that the difference map explains, alone and beyond what
    back-projection gives; percent of the gradient magnitude that the gradient map explains beyond back-projection's."""
    truth, references = case.truth, list(references) or [case.references[0]]
    query = observed(truth, snr_db)
    same_bands = replace(CAMERA, srf=torch.eye(truth.shape[1]))
    prepared = dmb.prepare(query, references, same_bands, config)
    texture = dmb.hand_over(dmb.find(prepared, config, search=look), prepared, config)
    _, hard, gradient, difference = texture.chunk(4, dim=1)
    lost, regained = truth - query, align.sharpen(query, CAMERA.blur, SHARPEN) - query
    steep = align.gradient_magnitude(truth)
    known = [torch.ones_like(steep), align.gradient_magnitude(query + regained)]
    steep = steep - steep.mean()
    return (
        likeness(hard, truth),
        explained([difference], lost),
        explained([difference, regained], lost) - explained([regained], lost),
        explained([*known, gradient], steep) - explained(known, steep),
    )


def anywhere(query: torch.Tensor, _: Sequence, corners: Sequence, *, turns: int, top_k: int, **__) -> tuple:
    """Stands for `search.nearest` and draws windows at random: the floor."""
    generator = torch.Generator().manual_seed(0)
    shape, count = (len(query), top_k), sum(map(len, corners))
    ids, turn = (torch.randint(most, shape, generator=generator) for most in (count, turns))
    return query.new_zeros(shape), ids, turn


def noise(like: torch.Tensor, exponent: float) -> torch.Tensor:
    """An image without any content, its amplitude falling as frequency^−exponent (0: white), same shape."""
    spectrum = torch.fft.rfft2(torch.randn(like.shape, generator=torch.Generator().manual_seed(0)))
    down, across = torch.fft.fftfreq(like.shape[2])[:, None], torch.fft.rfftfreq(like.shape[3])
    frequency = (down.square() + across.square()).sqrt().clamp_min(1 / max(like.shape[2:]))
    image = torch.fft.irfft2(spectrum / frequency**exponent, s=like.shape[2:])
    return image / image.std()


def options() -> dict[str, MatchConfig]:
    """Name → what is changed of the default."""
    single = replace(DEFAULT, top_k=1, hard_k=1)
    plain = replace(single, stride=8, query_stride=8, turns=False, sharpening=0, relevel=False)
    table = {"as released: tiling, dot, one window": replace(plain, similarity="dot", radiometry=False)}
    table |= {f"tiling, {name}, one window": replace(plain, similarity=name) for name in ("cosine", "l2", "zncc")}
    table |= {"**default**": DEFAULT}
    table |= {f"default, {name}": replace(DEFAULT, similarity=name) for name in ("cosine", "l2", "dot")}
    table |= {f"default, {k} window(s)": replace(DEFAULT, top_k=k, hard_k=k) for k in (1, 4, 16, 256)}
    table |= {f"default, P {p}": replace(DEFAULT, patch=p) for p in (4, 6, 12, 16)}
    table |= {f"default, query stride {s}": replace(DEFAULT, query_stride=s) for s in (2, 8)}
    table |= {f"default, reference stride {s}": replace(DEFAULT, stride=s) for s in (1, 4, 8)}
    table |= {f"default, temperature {t}": replace(DEFAULT, temperature=t) for t in (0.01, 0.02, 0.1, 0.3)}
    table |= {f"default, sharpened {n} times": replace(DEFAULT, sharpening=n) for n in (0, 10, 30)}
    table["default without turns"] = replace(DEFAULT, turns=False)
    table["default without relevelling"] = replace(DEFAULT, relevel=False)
    table["default without radiometry"] = replace(DEFAULT, radiometry=False)
    return table


def rows(case: Case) -> dict[str, tuple[float, ...]]:
    """All rows of the table for one case."""
    query, first = CAMERA.blur(case.truth), case.references[0]
    none = float("nan")
    table = {
        "the query itself": (likeness(query, case.truth), 0.0, 0.0, 0.0),
        "the query back-projected": (likeness(align.sharpen(query, CAMERA.blur, SHARPEN), case.truth), none, 0.0, 0.0),
        "random windows": measure(case, look=anywhere),
        "white noise as reference": measure(case, references=[noise(first, 0)]),
        "1/f noise as reference": measure(case, references=[noise(first, 1)]),
    }
    table |= {name: measure(case, config) for name, config in options().items()}
    if len(case.references) > 1:
        table[f"default, {len(case.references)} references"] = measure(case, references=case.references)
    table["paired image as reference"] = measure(case, references=[case.truth])
    return table


def embedded() -> list[Case]:
    """The shipped scenes: their training and validation areas, with references of other ground."""
    pines, farmland = scenes.load_scene("indian_pines"), scenes.load_scene("sentinel2_farmland").tensor()
    pines = CAMERA.for_wavelengths(pines.wavelengths_nm).see(pines.tensor())[..., :144, :144]
    areas = [split_areas(*x.shape[2:], CAMERA) for x in (pines, farmland)]
    cut = lambda image, box: image[..., *box.slices]
    references = cut(pines, areas[0]["reference"]), cut(farmland, areas[1]["reference"])
    return [
        Case("Indian Pines", cut(pines, areas[0]["train"]), references),
        Case("Sentinel-2", cut(farmland, areas[1]["validation"]), references[::-1]),
    ]


def los_angeles(folder: Path) -> tuple[list[Case], list[Case]]:
    """Validation and test cases of the Los Angeles scenes: four bands of Sentinel-2, references from the mosaic first."""
    names = ("airport1", "airport3", "urban4", "mosaic_urban5_airport2")
    files = {name: np.load(folder / f"aviris_la_{name}.npz") for name in names}
    white = np.percentile(np.concatenate([file["cube"].ravel() for file in files.values()]), 99.9)
    images = {name: _bands(file, white) for name, file in files.items()}
    mosaic = images["mosaic_urban5_airport2"]
    others = [_bands(np.load(folder / f"aviris_{n}.npz")) for n in ("gulfport_airport4", "gainesville_urban3")]
    case = lambda name, *more: Case(name, images[name][..., :96, :96], (mosaic, *more, *others))
    validation = [case("airport3", images["urban4"]), case("urban4", images["airport3"])]
    return validation, [case("airport1", images["urban4"])]


def _bands(file: np.lib.npyio.NpzFile, white: float | None = None) -> torch.Tensor:
    """Blue, green, red, near infrared as Sentinel-2 sees a cube, (1, 4, H, W), [0, 1]."""
    cube = file["cube"].astype(np.float32)
    cube = np.clip(cube / float(white or np.percentile(cube, 99.9)), 0, 1)
    image = torch.from_numpy(np.moveaxis(cube, 2, 0)[None])
    return CAMERA.for_wavelengths(file["wavelength_nm"]).see(image)


def mean_rows(cases: Sequence[Case]) -> dict[str, tuple[float, ...]]:
    """The rows of `rows`, averaged over the cases."""
    tables = [rows(case) for case in cases]
    return {
        name: tuple(np.mean([t[name] for t in tables], axis=0)) for name in tables[0] if all(name in t for t in tables)
    }


def quality(folder: Path) -> str:
    """The tables of quality, as Markdown."""
    groups = {
        f"{case.name} ({'train' if case.name == 'Indian Pines' else 'validation'})": [case] for case in embedded()
    }
    if (folder / "aviris_la_airport1.npz").is_file():
        validation, test = los_angeles(folder)
        groups = {"Los Angeles, validation": validation, "Los Angeles, test": test} | groups
    else:
        print(f"the Los Angeles scenes are not in {folder.name}: only the embedded scenes are measured")
    text = []
    for title, cases in groups.items():
        table = mean_rows(cases)
        lines = [[name, *(_cell(v, d) for v, d in zip(values, (2, 1, 1, 1)))] for name, values in table.items()]
        text.append(f"## {title}\n\n" + machine.table(["", "likeness", "explained %", "added %", "gradient %"], lines))
    known = [case for title, cases in groups.items() if "test" not in title for case in cases]
    text.append("## Sharpening and noise: `added` %, mean of all areas but the test area\n\n" + noisy(known))
    return "\n\n".join(text)


def noisy(cases: Sequence[Case]) -> str:
    """`added` for several numbers of sharpening steps and levels of noise, as Markdown."""
    lines = []
    for snr_db in (None, 40.0, 36.0, 30.0):
        line = ["none" if snr_db is None else f"{snr_db:.0f} dB"]
        for steps in (0, 1, 3, 10):
            config = replace(DEFAULT, sharpening=steps)
            line.append(_cell(float(np.mean([measure(case, config, snr_db=snr_db)[2] for case in cases])), 1))
        lines.append(line)
    return machine.table(["noise in the query's bands", *(f"{n} steps" for n in (0, 1, 3, 10))], lines)


def _cell(value: float, digits: int) -> str:
    """A number, or nothing where there is none; never "-0.0"."""
    return "" if math.isnan(value) else f"{round(value, digits) + 0.0:.{digits}f}"


# --- speed and memory ---------------------------------------------------------------------------------------------

QUERY, REFERENCE, PATCH = 256, 1000, 8  # sides, pixels
PROGRAM = """
import json, resource, sys, time, torch
from ctmem.match import matching
side, width, patch, rows, top_k = map(int, sys.argv[1:])
seed = torch.Generator().manual_seed(0)
query, reference = torch.rand(1, 4, side, side, generator=seed), torch.rand(1, 4, rows, width, generator=seed)
options = {"patch": patch, "stride": 1, "turns": True, "top_k": top_k}
windows, columns, block = (rows - patch + 1) * (width - patch + 1), 8192, 1024
turned, candidates = torch.rand(8 * (side // patch) ** 2, 4 * patch**2), torch.rand(columns, 4 * patch**2)
out = torch.empty(block, columns)

def product():  # CPU seconds of the products alone, for an eighth of the candidates
    start = time.process_time()
    for _ in range(max(1, windows // (8 * columns))):
        for part in turned.split(block):
            torch.mm(part, candidates.T, out=out)
    return (time.process_time() - start) * windows / (columns * max(1, windows // (8 * columns)))

product(), matching.match(query[..., :64], reference[:, :, :40, :400], **options)  # warmed up
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
before, plain, start = peak(), [product(), product()], time.process_time()
matching.match(query, reference, **options)
seconds = time.process_time() - start
print(json.dumps([8 * windows, seconds, sum(plain + [product(), product()]) / 4, peak() - before]))
"""


def speed() -> str:
    """The table of speed and memory, as Markdown; every line measured in a process of its own."""
    lines = []
    for rows_, top_k in ((132, 64), (257, 64), (507, 64), (1000, 64), (1000, 1)):
        command = [sys.executable, "-c", PROGRAM, *map(str, (QUERY, REFERENCE, PATCH, rows_, top_k))]
        folder = Path(__file__).resolve().parents[1]
        ran = subprocess.run(command, capture_output=True, encoding="utf-8", check=True, cwd=folder)
        candidates, seconds, plain, megabytes = json.loads(ran.stdout)
        lines.append([
            f"{rows_}×{REFERENCE}", f"{candidates / 1e6:.2f}", f"{top_k}", f"{seconds:.1f}", f"{plain:.1f}",
            f"{100 * plain / seconds:.0f} %", f"{1e6 * seconds / candidates:.2f}", f"{megabytes:.0f}",
        ])  # fmt: skip
        print(lines[-1], flush=True)
    header = [
        "reference, px", "candidates, millions", "kept", "match, s", "plain product, s", "throughput", "µs per candidate",
        "peak above the inputs, MB",
    ]  # fmt: skip
    return machine.table(header, lines)


READING = """\
Query: 256×256 px in 4 bands, tiled by 1024 patches of 8×8 px, each in 8 turns; candidates at every pixel of the
reference. `plain product`: the same machine's `torch.mm` on the same shapes, blocks of 1024×256 by 256×8192; an eighth
of it is timed twice before and twice after each search. `throughput`: its time over the search's, which also cuts and
normalises the candidates and keeps the best. Times are of the processor, in seconds, so that other work on the machine
counts little."""


LEGEND = """\
Every row is the whole of stage 2 with one option changed, on the blur that is really there (the project's PSF).
`likeness`: mean zncc of the hard reference's 8×8 patches with the true fine image. `explained`: percent of the
detail lost to the blur that the difference map explains, its strength chosen best. `added`: the same beyond what
back-projection, ten steps without any reference, gives back. `gradient`: percent of the true gradient magnitude that
the gradient map explains beyond that of the back-projected image. Options are chosen by `added` on validation areas,
because likeness can be had for nothing: the back-projected query scores higher than most textures. Differences below
0.3 are not worth a choice. Two options that score higher are not the default: query stride 2 costs four times as much
for 0.0 to 0.4, and ten steps of sharpening add up to 0.3 without noise and lose where noise is strong (last table)."""


def main() -> None:
    """Runs the parts that are asked for and writes their results."""
    forgiving_output()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenes", type=Path, default=SCENES, help="folder of the Los Angeles scenes")
    parser.add_argument("--parts", nargs="+", choices=("quality", "speed"), default=["quality", "speed"])
    options_ = parser.parse_args()
    if "quality" in options_.parts:
        text = f"# What is each option of the matching worth?\n\n{machine.describe()}\n\n{LEGEND}\n\n"
        machine.write("matching", text + quality(options_.scenes))
    if "speed" in options_.parts:
        text = f"# How fast is the exact search, and how much memory does it take?\n\n{machine.describe()}\n\n{READING}\n\n"
        machine.write("matching_speed", text + speed())


if __name__ == "__main__":
    main()
