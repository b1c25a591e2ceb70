"""What is told about a scene of yours, checked before anything of it is read or computed.

Source: this project.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ctmem.checks import Inside, as_vector, described, fail, is_finite_number, typed
from ctmem.networks.component_prior import SCALES
from ctmem.observe.optics import gaussian_psf
from ctmem.raster.packing import FORMS
from ctmem.raster.raster import Raster
from ctmem.reading.arrays import split_key
from ctmem.reading.numbers import as_nm, read_numbers
from ctmem.tiling.run import unfinished

METHODS = ("auto", "fusion", "prior", "ctmem", "bicubic-bp", "bicubic")
BY_REFERENCES = ("fusion", "ctmem")  # methods that need one
ONLY_SCALE = {"ctmem": 4}  # methods whose weights are for one ratio
USUAL_SCALE = 4
NEAR = 0.03  # how far the ratio of two pixel sizes may be from a whole number
WIDEST = 8.0  # coarse pixels: no sensor's blur is wider
LEAST = 12  # coarse pixels of a side: less than the filters of a method reach over


@typed
def check_scale(scale: Inside[int], method: str = "auto") -> int:
    """The ratio itself, if there are weights for it.

    Raises:
        ValueError: another one than 2, 3, 4 or 6, or one that the method has none for.
    """
    known = ", ".join(map(str, SCALES))
    if isinstance(scale, bool) or not isinstance(scale, int | np.integer) or scale not in SCALES:
        fail("scale", f"{known} (the ratios that there are weights for)", described(scale))
    if ONLY_SCALE.get(method, scale) != scale:
        fail("scale", f"{ONLY_SCALE[method]} for the method {method!r} (method='prior' has {known})", scale)
    return int(scale)


def scale_of(raster: Raster, references: Sequence[Raster], method: str) -> tuple[int, str]:
    """The ratio of the scene's pixels to those of the first reference whose size is known, and why, in words."""
    if method in ONLY_SCALE:
        return ONLY_SCALE[method], f"that of the weights of {method!r}"
    known = [one.gsd_m for one in references if one.gsd_m]
    if raster.gsd_m is None or not known:
        return USUAL_SCALE, "the usual one: --scale says another"
    ratio = raster.gsd_m / known[0]
    nearest = min(SCALES, key=lambda scale: abs(ratio / scale - 1))
    pair = f"{raster.gsd_m:g} m against {known[0]:g} m"
    if abs(ratio / nearest - 1) > NEAR:
        return USUAL_SCALE, f"the usual one, since {pair} is ×{ratio:.3g}: --scale says another"
    return nearest, pair


def read_psf(psf: object, scale: int) -> torch.Tensor | str:
    """A blur that was told, (k, k) in fine pixels with sum 1; or "auto".

    Args:
        psf: "auto"; the full width at half maximum of a Gaussian in fine pixels, as a number or as text; or a text file
            of k×k weights, k even for an even scale and odd for an odd one.
        scale: fine pixels per coarse pixel.

    Raises:
        ValueError: anything else, a width out of bounds, or a table that is not square or of the other parity.
    """
    if psf == "auto":
        return "auto"
    width = _number(psf)
    if width is not None:
        if not 0 < width <= WIDEST * scale:
            fail("psf", f"a width above 0 and of at most {WIDEST * scale:g} fine pixels", f"{width:g}")
        return gaussian_psf(width, scale=scale)
    table = read_numbers(_file(psf, "psf", "'auto', a width in fine pixels, or a text file of weights"))
    side = len(table)
    if table.shape != (side, side) or side % 2 != scale % 2:
        parity = "odd" if scale % 2 else "even"
        fail(
            "psf", f"a square table of {parity} sides, for scale {scale}", f"{'×'.join(map(str, table.shape))} numbers"
        )
    if not (table >= 0).all() or not table.sum() > 0:
        fail("psf", "of weights ≥ 0 with a positive sum", f"a least of {table.min():g} and a sum of {table.sum():g}")
    return torch.from_numpy(table / table.sum()).float()


def read_noise(noise: object, bands: int) -> float | str | torch.Tensor | None:
    """Noise that was told: a signal-to-noise ratio in dB, deviations (C,) in the file's numbers, or None; or "auto".

    Args:
        noise: "auto", "none", a ratio in dB as a number or as text, or a text file of C deviations.
        bands: C.

    Raises:
        ValueError: anything else.
    """
    if noise == "auto":
        return "auto"
    if noise in (None, "none"):
        return None
    ratio = _number(noise)
    if ratio is not None:
        if not -20 <= ratio <= 200:
            fail("noise", "a ratio from -20 to 200 dB", f"{ratio:g}")
        return ratio
    found = read_numbers(_file(noise, "noise", "'auto', 'none', a ratio in dB, or a text file")).reshape(-1)
    if len(found) != bands or not (found >= 0).all():
        fail("noise", f"{bands} deviations ≥ 0, one per band", f"{len(found)} number(s), the least {found.min():g}")
    return torch.from_numpy(found)


def read_wavelengths(wavelengths: object) -> np.ndarray | None:
    """Centres of bands in nm that were told, as numbers or as a text file; µm are seen, and said.

    Raises:
        ValueError: no such numbers.
    """
    if wavelengths is None:
        return None
    if isinstance(wavelengths, str | os.PathLike):
        path = _file(wavelengths, "wavelengths_nm", "centres of the bands, or a text file of them")
        return as_nm(read_numbers(path).reshape(-1), path.name)
    expected = "centres of the bands, or a text file of them"
    found = as_vector(wavelengths, "wavelengths_nm", expected)
    if not np.isfinite(found).any():
        fail("wavelengths_nm", expected, described(wavelengths))
    return as_nm(found, "wavelengths_nm")


def check_outputs(path: Path, out: Path, uncertainty: Path | None, *, overwrite: bool, resume: bool) -> None:
    """Raises unless the files can be written, and none of them is in the way of another.

    Raises:
        ValueError: an ending that is not known, or one file for two.
        FileExistsError: it is there, and neither `overwrite` nor `resume` was said.
        OSError: the folder is not there, or not writable.
    """
    told = {"out": out} | ({} if uncertainty is None else {"uncertainty": uncertainty})
    source = split_key(path)[0]
    for name, file in told.items():
        if file.suffix.lower() not in FORMS:
            fail(name, f"a file ending in {', '.join(FORMS)}", file.name)
        if _same(file, source) or (name == "uncertainty" and _same(file, out)):
            fail(name, "another file than the scene's and the answer's", file.name)
        if not file.parent.is_dir():
            fail(name, "a file in a folder that is there", str(file), FileNotFoundError)
        if not os.access(file.parent, os.W_OK | os.X_OK):
            fail(name, "a file in a folder that can be written", str(file), PermissionError)
        if file.is_dir():
            fail(name, "a file", f"{file.name}, a folder", IsADirectoryError)
        goes_on = resume and unfinished(out).with_suffix(".journal").exists()
        if file.exists() and not overwrite and not goes_on:
            more = "" if not resume else "; what was stopped has another name until it is whole"
            fail(name, f"a new file (or say overwrite=True, --overwrite{more})", f"{file.name}, which is there already",
                 FileExistsError)  # fmt: skip


def check_dtype(dtype: Any) -> None:
    """Raises unless it is a type of real numbers, or None."""
    try:
        kind = None if dtype is None else np.dtype(dtype).kind
    except TypeError:
        kind = "?"
    if kind not in (None, "i", "u", "f"):
        fail("dtype", "a type of real numbers, as int16 or float32", repr(dtype))


def check_size(raster: Raster) -> None:
    """Raises where a scene is smaller than what a method looks at."""
    if min(raster.height, raster.width) < LEAST:
        fail(
            "path",
            f"a scene of at least {LEAST}×{LEAST} px",
            f"{raster.path.name} of {raster.height}×{raster.width} px",
        )


def card_path(out: str | Path) -> Path:
    """Where the card of an answer lies: `sr.tif.card.json` beside `sr.tif`."""
    return Path(out).with_name(f"{Path(out).name}.card.json")


def _same(one: Path, other: Path) -> bool:
    return one.resolve() == other.resolve()


def _number(value: Any) -> float | None:
    """A number that was given as one, or as text; None: it is none."""
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            return None
        return value if math.isfinite(value) else math.nan
    return float(value) if is_finite_number(value) else None


def _file(value: object, name: str, expected: str) -> Path:
    """A file that was named."""
    if not isinstance(value, str | os.PathLike) or not Path(value).is_file():
        fail(name, expected, f"{described(value)}, which is not there" if isinstance(value, str) else described(value))
    return Path(value)
