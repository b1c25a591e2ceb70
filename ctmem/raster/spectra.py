"""Wavelengths as files say them: in nm or µm, stated or not, and for some bands not at all.

Convention: here all is in nm. Without a unit, or with one that cannot be right, all below 100 means µm and all from 100
on means nm; a warning says so. A band with 0 or nothing has no wavelength: NaN.

Source: this project.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import numpy as np

from ctmem.checks import fail, warn_once
from ctmem.reading.numbers import LEAST_NM

UNITS = {
    "nm": 1.0, "nanometer": 1.0, "nanometers": 1.0, "nanometre": 1.0, "nanometres": 1.0, "nano": 1.0,
    "um": 1e3, "µm": 1e3, "μm": 1e3, "micrometer": 1e3, "micrometers": 1e3, "micrometre": 1e3, "micrometres": 1e3,
    "micron": 1e3, "microns": 1e3, "mm": 1e6, "m": 1e9, "meters": 1e9, "angstroms": 0.1, "angstrom": 0.1,
}  # fmt: skip
WAVENUMBER = ("wavenumber", "wavenumbers", "cm-1", "1/cm", "cm^-1")
NOT_LENGTHS = ("index", "ghz", "mhz")
NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?|[+-]?nan|[+-]?inf", re.IGNORECASE)
NAMED = re.compile(
    r"(\d+\.?\d*|\.\d+)[\s_]*(nm|nanomet\w*|[uµμ]m|micromet\w*|microns?)(?![a-z])", re.IGNORECASE
)  # "Band 3 (443.1 nm)"


def numbers(text: str | None) -> np.ndarray | None:
    """The numbers of a list as headers write them, "{ 0.4, 0.5 }"; None where there are none.

    Example:
        >>> numbers("{ 0.4, 0.5 }").tolist()
        [0.4, 0.5]
    """
    found = [] if text is None else [cell for cell in re.split(r"[\s,;{}\[\]()]+", text) if cell]
    if not found or not all(NUMBER.fullmatch(cell) for cell in found):
        return None
    return np.array([float(cell) for cell in found])


def to_nm(
    values: np.ndarray, unit: str | None, name: str, widths: np.ndarray | None = None
) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Wavelengths, and widths in the same unit, in nm.

    Args:
        values: (C,) as the file has them.
        unit: as the file calls it; None where it does not.
        name: what to call the file in a message.
        widths: (C,) full widths at half maximum.

    Returns:
        Both in nm, NaN where a band has none; (None, None) where the numbers are no lengths.

    Raises:
        ValueError: without a unit numbers below 100 and above, which are neither nm nor µm.

    Example:
        >>> to_nm(np.array([0.4, 0.0]), "Micrometers", "a.hdr")[0].tolist()
        [400.0, nan]
    """
    values = np.where(np.isfinite(values) & (values > 0), values, np.nan).astype(np.float64)
    if np.isnan(values).all():
        return None, None
    word = (unit or "").strip().strip("{}\"'").lower()
    if word in NOT_LENGTHS:
        return None, None
    if word in WAVENUMBER:
        return 1e7 / values, None if widths is None else 1e7 / values * (widths / values)
    factor = _factor(values, word, name)
    widths = None if widths is None else np.where(widths > 0, widths, np.nan) * factor
    return _times(values, factor), None if widths is None or np.isnan(widths).all() else widths


def _times(values: np.ndarray, factor: float) -> np.ndarray:
    """The product, with 0.55 µm as 550 nm and not as 550.0000000000001."""
    return values if factor == 1 else np.round(values * factor, 9)


def _factor(values: np.ndarray, word: str, name: str) -> float:
    """Nanometres of the unit, stated or told from the size of the numbers."""
    low, high = float(np.nanmin(values)), float(np.nanmax(values))
    looks = "µm" if high < LEAST_NM else "nm" if low >= LEAST_NM else None
    stated = UNITS.get(word)
    if stated is not None and (looks is None or (stated == 1 and looks == "nm") or (stated == 1e3 and looks == "µm")):
        return stated
    if stated not in (None, 1.0, 1e3):
        return float(stated or 1)
    if looks is None:
        fail("wavelengths_nm", f"given: {name} does not say their unit",
             f"{low:g} to {high:g} there, neither nm nor µm")  # fmt: skip
    if stated is not None or looks == "µm":
        said = f"says {word!r}, but" if word else "does not say the unit of its wavelengths:"
        warn_once(f"{name} {said} {low:g} to {high:g} look like {looks}, and are taken so")
    return 1.0 if looks == "nm" else 1e3


def of_names(names: Sequence[str]) -> np.ndarray | None:
    """Wavelengths (C,) that stand in the names of bands with their unit; None where they do not in most of them."""
    found = [NAMED.search(text) for text in names]
    if sum(one is not None for one in found) * 2 <= len(names):
        return None
    factors = [1.0 if one is None else UNITS["nm" if one[2][0] in "nN" else "um"] for one in found]
    return np.array([np.nan if one is None else round(float(one[1]) * f, 9) for one, f in zip(found, factors)])


def looked_up(tags: Mapping[str, str], *keys: str) -> str | None:
    """The value of the first of these keys that there is, whatever their case and with _ for spaces."""
    plain = {re.sub(r"[\s_-]+", "_", key.strip().lower()): value for key, value in tags.items()}
    return next((plain[key] for key in keys if plain.get(key, "").strip()), None)
