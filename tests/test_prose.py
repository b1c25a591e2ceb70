"""Numbers in sentences: places, sizes, units and settings of the documents are those of scenes, cards and code.

A row says where a sentence stands, how its numbers are found (the groups of a pattern, which has to match once), and where the truth
comes from. A number in prose is right when it is the truth rounded to as many digits as are written. A new one gets a row.
"""

from __future__ import annotations

import csv
import json
import math
import re
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from ctmem.data.scenes import Scene, load_scene
from ctmem.match.patches import windows
from ctmem.model import load_model
from ctmem.observe.responses import load_rsr

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "docs" / "site"))

import cube as site_cube  # noqa: E402

WORDS = {"two": 2, "three": 3, "four": 4, "eight": 8, "twelve": 12, "a hundred": 100, "every second": 2}
LEAST_OVERLAP_NM = 50.0  # steps between bands beyond this are gaps


def text_of(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def number(text: str) -> tuple[float, int]:
    """The value of a number in prose, and its digits after the point: 4,179 · 0.10 · ½ · three."""
    if text.lower() in WORDS:
        return WORDS[text.lower()], 0
    plain = text.replace(",", "").replace("−", "-")
    return float(plain), len(plain.partition(".")[2])


def is_right(text: str, truth: float) -> bool:
    """Whether `text` is `truth`, rounded as it is written."""
    value, digits = number(text)
    return abs(value - truth) <= 0.5 * 10.0**-digits + 1e-9 if truth != round(truth) or digits else value == truth


def card(name: str) -> dict:
    return json.loads(text_of(f"data/weights/{name}/card.json"))


def extent_km(scene: Scene) -> list[float]:
    return [side * scene.gsd_m / 1000 for side in scene.cube.shape[:2]]


def about(scene: Scene) -> list[float]:
    """Numbers in the sentence on a scene's units: what 1.0 is, and the shares that are clipped, %."""
    return [float(found) for found in re.findall(r"(?<![\d.])\d+\.\d+(?= µW|;| %)", scene.units)]


def gaps(nm: np.ndarray) -> list[float]:
    """Wavelengths before and after each gap, nm."""
    at = np.flatnonzero(np.diff(nm) > LEAST_OVERLAP_NM)
    return [float(x) for place in at for x in nm[place : place + 2]]


def constant(name: str, variable: str) -> float:
    """The number that a script sets a name to."""
    return float(re.search(rf"^\s*{variable} = (?:\w+\()?([\d.]+)", text_of(name), re.MULTILINE)[1])


def raised() -> int:
    """How many numbers of Indian Pines get their 768 back."""
    with (ROOT / "data" / "indian_pines_repair.csv").open(encoding="utf-8") as file:
        return sum(int(row["raised"], 16).bit_count() for row in csv.DictReader(file))


PINES, FARM = load_scene("indian_pines"), load_scene("sentinel2_farmland")
PROJECT = tomllib.loads(text_of("pyproject.toml"))["project"]
FACTS: list[tuple[str, str, Callable[[], list[float]]]] = [
    ("data/README.md", r"Indiana, USA; (\d+)×(\d+) px, ([\d.]+)×([\d.]+) km", lambda: [*PINES.cube.shape[:2], *extent_km(PINES)]),
    ("data/README.md", r"\| GSD \| (\d+) m \|", lambda: [PINES.gsd_m]),
    ("data/README.md", r"(\d+) of 220, (\d+)–(\d+) nm", lambda: [PINES.bands, PINES.wavelengths_nm.min(), PINES.wavelengths_nm.max()]),
    ("data/README.md", r"1\.0 is ([\d.]+) µW cm⁻² nm⁻¹ sr⁻¹; ([\d.]+) % of the values are clipped from below, ([\d.]+) %", lambda: about(PINES)),
    ("data/README.md", r"Shore, USA, around .*; (\d+)×(\d+) px, (\d+)×(\d+) km", lambda: [*FARM.cube.shape[:2], *extent_km(FARM)]),
    ("data/README.md", r"GSD \| (\d+) m, averaged", lambda: [FARM.gsd_m]),
    ("data/README.md", r"near infrared; ([\d.]+), ([\d.]+), ([\d.]+), ([\d.]+) nm", lambda: list(FARM.wavelengths_nm)),
    ("data/README.md", r"atmosphere; 1\.0 is ([\d.]+); nothing is clipped from below, ([\d.]+) %", lambda: [share for share in about(FARM) if share]),
    ("data/README.md", r"at (\d+)–(\d+) and (\d+)–(\d+) nm, are the removed water bands", lambda: gaps(PINES.wavelengths_nm)),
    ("data/README.md", r"([\d,]+) numbers get their 768 back", lambda: [raised()]),
    ("data/README.md", r"Sentinel-2's (\d+) bands", lambda: [len(set(load_rsr("sentinel2a")))]),
    ("README.md", r"They need Python 3\.(\d+) or later", lambda: [int(PROJECT["requires-python"].rpartition(".")[2])]),
    ("README.md", r"the weights in this repository: ×(\d+)", lambda: [load_model("tiny").camera.scale]),
    ("README.md", r"open imagery; scale (\d), (\d), (\d) or (\d)", lambda: card("prior")["camera"]["scales"]),
    ("README.md", r'method="fusion-bp"\)`; scale (\d)', lambda: [card("fusion")["scale"]]),
    ("README.md", r"and (\w+) visits at a time", lambda: [constant("notebooks/dashboard_kernels.py", "most")]),
    ("docs/glossary.md", r"or a band; ([\d.]+) times the σ of a Gaussian", lambda: [math.sqrt(8 * math.log(2))]),
    ("docs/glossary.md", r"Sentinel-2 has (\d+) broad ones", lambda: [len(set(load_rsr("sentinel2a")))]),
    ("docs/teaching.md", r"\(a\) ([\d.]+) px\. \(b\) (\d+)² = ([\d,]+)\.", lambda: [6 / math.sqrt(8 * math.log(2)), math.sqrt(len(windows(100, 100, 8, 1))), len(windows(100, 100, 8, 1))]),
    ("docs/teaching.md", r"log₁₀ 1\.5 = ([\d.]+) dB", lambda: [10 * math.log10(1.5)]),
    ("docs/diffusion_for_remote_sensing.md", r"Δ = ln 2 / (\d+) ≈ ([\d.]+)\.", lambda: [PINES.cube.shape[1], math.log(2) / PINES.cube.shape[1]]),
    ("docs/diffusion_for_remote_sensing.md", r"squared error of the mean, (\d) dB", lambda: [10 * math.log10(2)]),
    ("docs/site/explorer.md", r"(A hundred) bands .*training area, (\d+) × (\d+) pixels of (\d+) m\), (every second) one", lambda: [PINES.bands / site_cube.EVERY, site_cube.COLUMNS, site_cube.ROWS, PINES.gsd_m, site_cube.EVERY]),
    ("docs/site/moving.md", r"which over (\d+) steps", lambda: [constant("docs/make_animations.py", "STEPS")]),
    ("docs/site/moving.md", r"half is left (\w+) pixels later", lambda: [constant("docs/make_animations.py", "HALF")]),
]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "pattern", "truth"), FACTS, ids=[f"{name}-{number}" for number, (name, *_) in enumerate(FACTS)]
)
def test_numbers_in_prose_are_those_of_the_code(name, pattern, truth):
    text = " ".join(text_of(name).split())
    found = re.findall(pattern, text)
    assert len(found) == 1, f"{name} has this sentence {len(found)} times: {pattern}"
    written = [found[0]] if isinstance(found[0], str) else list(found[0])
    assert len(written) == len(truth())
    assert [pair for pair in zip(written, truth()) if not is_right(*pair)] == []


def test_a_number_is_right_as_far_as_it_is_written():
    assert is_right("2.55", 2.5479)
    assert is_right("8,649", 8649)
    assert is_right("eight", 8)
    assert is_right("3", 3.0103)
    assert not is_right("2.54", 2.5479)
    assert not is_right("8,650", 8649)
    assert not is_right("four", 8)
