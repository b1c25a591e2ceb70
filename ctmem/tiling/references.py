"""A fine image of any ground as a reference: which of its bands the scene can see, and on pixels of the output's size.

    ref = prepare_reference(image, wavelengths_nm, name="ref.tif", sensor="landsat8", gsd_m=30, wanted_gsd_m=10)
    ref.image, ref.srf, ref.told

A band of the reference counts where the scene's bands cover it; the others are left out, with a line of text. The
response of each is that of a sensor's table or boxes, a Gaussian of centre and width, or a table of a file.

Source: this project; edges of bands: the makers' data sheets.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional as F

from ctmem.checks import Inside, Positive, as_image, as_vector, check_choice, door, fail, typed, warn_once
from ctmem.holes import fill_holes, open_holes
from ctmem.observe.responses import SENSORS, band_edges, load_rsr

Curve = tuple[np.ndarray, np.ndarray]  # wavelengths in nm, ascending, and relative response

BOXES: dict[str, dict[str, tuple[float, float]]] = {  # sensor → band → edges in nm
    "rgb": {"red": (600, 680), "green": (510, 590), "blue": (440, 510)},
    "planetscope": {
        "coastal": (431, 452), "blue": (465, 515), "green1": (513, 549), "green": (547, 583), "yellow": (600, 620),
        "red": (650, 680), "rededge": (697, 713), "nir": (845, 885),
    },
    "worldview2": {
        "coastal": (400, 450), "blue": (450, 510), "green": (510, 580), "yellow": (585, 625), "red": (630, 690),
        "rededge": (705, 745), "nir1": (770, 895), "nir2": (860, 1040),
    },
}  # fmt: skip
FOUR = {"planetscope": ("blue", "green", "red", "nir"), "worldview2": ("blue", "green", "red", "nir1")}
COVERED = 0.9  # of a band's response, at least, that the scene's bands must cover
FARTHEST = 1000  # times that the pixels of a reference may be larger or smaller than those of the output
SAME_GSD = 0.02  # relative difference below which pixels are of one size
COARSE = 1.5  # pixels of a reference over those of the output beyond which it has little to teach
WIDE = 3.0  # widths that a Gaussian response is followed to, each side


@typed
@dataclass(frozen=True, eq=False)
class Reference:
    """A reference as it is used.

    Args:
        name: of its file.
        image: the bands that count, (1, c, H, W), numbers of the file, NaN in holes.
        srf: their response over the scene's bands, (c, C), rows sum to 1.
        bands: names of these bands.
        told: what was done, a line each.
    """

    name: str
    image: torch.Tensor
    srf: torch.Tensor
    bands: tuple[str, ...]
    told: tuple[str, ...]


@door
def prepare_reference(
    image: torch.Tensor,
    wavelengths_nm: Inside[Sequence[float] | np.ndarray | None],
    *,
    name: str = "reference",
    sensor: str | None = None,
    bands: Sequence[str] | None = None,
    centres_nm: Inside[Sequence[float] | np.ndarray | None] = None,
    fwhm_nm: Inside[Sequence[float] | np.ndarray | None] = None,
    responses: Inside[Mapping[str, Curve] | None] = None,
    gsd_m: Positive | None = None,
    wanted_gsd_m: Positive | None = None,
    good: Inside[np.ndarray | None] = None,
) -> Reference:
    """Returns a fine image as a reference for a scene.

    Args:
        image: (1, c, H, W), numbers of the file, NaN in holes.
        wavelengths_nm: centres of the scene's C bands, nm; NaN where a band has none: that has weight 0.
        name: of the file, for what is said.
        sensor: one of `responses.SENSORS` or `BOXES`; None: it is known otherwise.
        bands: names of the image's c bands; None: as many of the sensor's as fit, in its order.
        centres_nm: of the image's bands, for Gaussian responses, where no sensor is named.
        fwhm_nm: their widths; None: half the step to the next one.
        responses: curves of the image's bands by name, as `read_responses` returns them.
        gsd_m: size of its pixels, metres.
        wanted_gsd_m: size of the output's pixels, metres.
        good: the scene's bands that count, (C,); None: all.

    Raises:
        TypeError: an image that is not of floating-point numbers.
        ValueError: a scene without wavelengths, a sensor that is not known, another number of bands than the sensor
            has, or no band that the scene covers.
    """
    image = as_image(image, "image", finite=False, single=True)
    curves = _curves(image.shape[1], name, sensor, bands, centres_nm, fwhm_nm, responses)
    nm = _known(wavelengths_nm, good, name)
    rows, kept, told = [], [], []
    for number, (band, curve) in enumerate(curves.items()):
        row, covered = _response(nm, curve)
        if covered < COVERED:
            seen = f"{np.nanmin(nm):.0f}–{np.nanmax(nm):.0f} nm"
            told.append(
                f"{name}: band {band} ({_range(curve)}) is left out: the scene's bands, {seen}, do not cover it"
            )
            continue
        rows.append(row)
        kept.append((number, band))
    if not kept:
        ranges = ", ".join(f"{band} {_range(curve)}" for band, curve in curves.items())
        fail("image", f"one with a band inside the scene's {np.nanmin(nm):.0f}–{np.nanmax(nm):.0f} nm", ranges)
    fine, more = _resampled(image[:, [number for number, _ in kept]], name, gsd_m, wanted_gsd_m)
    srf = torch.from_numpy(np.stack(rows)).float()
    return Reference(name, fine, srf, tuple(band for _, band in kept), (*told, *more))


@typed
def read_responses(path: str | Path) -> dict[str, Curve]:
    """Returns the responses of a text file with a header and the columns wavelength_nm, response, band, by band.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: other columns, or what is not a number.
    """
    path = Path(path)
    if not path.is_file():
        fail("path", "a text file of spectral responses", f"{path.name}, which is not there", FileNotFoundError)
    lines = [line.split(",") for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    wanted = ("wavelength_nm", "response", "band")
    header = [word.strip() for word in lines[0]] if lines else []
    if not set(wanted) <= set(header):
        fail("path", f"a text file with the columns {', '.join(wanted)}", f"{', '.join(header)[:80] or 'nothing'}")
    places = [header.index(word) for word in wanted]
    found: dict[str, list[tuple[float, float]]] = {}
    for number, line in enumerate(lines[1:], 2):
        try:
            nm, value = (float(line[place]) for place in places[:2])
            found.setdefault(line[places[2]].strip(), []).append((nm, value))
        except (IndexError, ValueError):
            fail("path", "a text file of numbers and bands", f"line {number} of {path.name}: {','.join(line)[:80]}")
    return {band: _as_curve(pairs, band) for band, pairs in found.items()}


def _as_curve(pairs: list[tuple[float, float]], band: str) -> Curve:
    """A curve of pairs, sorted; the error of what is none."""
    nm, value = np.array(sorted(pairs)).T
    if len(nm) < 2 or not np.isfinite([nm, value]).all() or value.min() < 0 or value.max() <= 0 or nm[0] <= 0:
        fail("path", "responses ≥ 0 at two wavelengths in nm or more for each band", f"another for band {band}")
    return nm, value


def _curves(
    count: int, name: str, sensor: str | None, bands: Sequence[str] | None,
    centres_nm: Sequence[float] | np.ndarray | None, fwhm_nm: Sequence[float] | np.ndarray | None,
    responses: Mapping[str, Curve] | None,
) -> dict[str, Curve]:  # fmt: skip
    """The response of every band of the image, by its name, in the order of the image."""
    if responses is not None:
        known: dict[str, Curve] = dict(responses)
        return _picked(known, bands, tuple(known), count, name)
    if sensor is not None:
        check_choice(sensor, "sensor", (*SENSORS, *BOXES))
        if sensor in SENSORS:
            known = load_rsr(sensor)
            return _picked(
                known, bands, SENSORS[sensor] if count == len(SENSORS[sensor]) else tuple(known), count, name
            )
        known = {band: _box(*edges) for band, edges in BOXES[sensor].items()}
        order = FOUR[sensor] if sensor in FOUR and count == len(FOUR[sensor]) else tuple(known)
        return _picked(known, bands, order, count, name)
    if centres_nm is None:
        fail("sensor", f"the name of the one that took {name}, whose bands have no wavelengths", None)
    centres = as_vector(centres_nm, "centres_nm", f"{count} wavelengths in nm")
    if len(centres) != count or not (np.nan_to_num(centres, nan=1.0) > 0).all():
        fail("centres_nm", f"{count} positive wavelengths in nm", f"{len(centres)}")
    steps = np.abs(centres[:, None] - centres)
    nearest = np.where(steps > 0, steps, np.inf).min(1)
    usual = np.where(np.isfinite(nearest), np.minimum(nearest, 100.0), 50.0)
    widths = usual if fwhm_nm is None else as_vector(fwhm_nm, "fwhm_nm", f"{count} widths in nm")
    widths = np.where(np.isfinite(widths) & (widths > 0), widths, usual)
    names = [f"{number + 1}" for number in range(count)] if bands is None else [str(one) for one in bands]
    return {band: _gauss(centre, width) for band, centre, width in zip(names, centres, widths)}


def _picked(
    known: Mapping[str, Curve], bands: Sequence[str] | None, order: Sequence[str], count: int, name: str
) -> dict[str, Curve]:
    """The curves of the image's bands."""
    names = tuple(order) if bands is None else tuple(bands)
    if len(names) != count or len(set(names)) != count:
        expected = f"names of the {count} bands of {name}, some of {', '.join(known)}"
        fail("bands", expected, f"{len(names)}: {', '.join(names)}" if bands is not None else None)
    for one in names:
        check_choice(one, "bands", known)
    return {one: known[one] for one in names}


def _box(low: float, high: float) -> Curve:
    """Equal response between two edges."""
    nm = np.arange(low, high + 1.0)
    return nm, np.ones_like(nm)


def _gauss(centre: float, width: float) -> Curve:
    """A Gaussian of a centre and FWHM, nm; empty where the centre is not known."""
    if not np.isfinite(centre):
        return np.array([np.nan, np.nan]), np.ones(2)
    nm = centre + width * np.linspace(-WIDE / 2, WIDE / 2, 121)
    return nm, np.exp(-4 * np.log(2) * ((nm - centre) / width) ** 2)


def _known(wavelengths_nm: Sequence[float] | np.ndarray | None, good: np.ndarray | None, name: str) -> np.ndarray:
    """The scene's wavelengths, (C,), NaN where there is none or the band is bad."""
    if wavelengths_nm is None:
        fail("wavelengths_nm", f"those of the scene, so that it can be compared with {name}", None)
    nm = as_vector(wavelengths_nm, "wavelengths_nm", "centres of the scene's bands in nm").copy()
    nm[~(np.isfinite(nm) & (nm > 0))] = np.nan
    if good is not None:
        nm[~np.asarray(good, bool)] = np.nan
    if np.isfinite(nm).sum() < 2:
        fail("wavelengths_nm", "centres of at least two of the scene's good bands", f"{int(np.isfinite(nm).sum())}")
    return nm


def _response(nm: np.ndarray, curve: Curve) -> tuple[np.ndarray, float]:
    """The weights (C,) of the scene's bands in one band of the reference, and the share of it that they cover."""
    where, value = curve
    row = np.zeros(len(nm))
    if not np.isfinite(where).all():
        return row, 0.0
    known = np.isfinite(nm)
    lower, upper = band_edges(nm[known])
    steps = np.diff(where)
    sums = np.append(0.0, np.cumsum(steps * (value[1:] + value[:-1]) / 2))
    row[known] = (np.interp(upper, where, sums) - np.interp(lower, where, sums)) / sums[-1]
    covered = float(row.sum())
    return (row / covered if covered > 0 else row), covered


def _range(curve: Curve) -> str:
    """Where a band lies, in words."""
    nm, value = curve
    if not np.isfinite(nm).all():
        return "of unknown wavelength"
    strong = nm[value >= 0.5 * value.max()]
    return f"{strong[0]:.0f}–{strong[-1]:.0f} nm"


def _resampled(
    image: torch.Tensor, name: str, gsd_m: float | None, wanted_gsd_m: float | None
) -> tuple[torch.Tensor, list[str]]:
    """The image on pixels of the output's size, and what is to be said of it."""
    if gsd_m is None or wanted_gsd_m is None:
        warn_once(f"{name}: its pixels are taken to be of the output's size, for one of both is not known")
        return image, [f"{name}: pixels taken as they are, their size is not known"]
    ratio = gsd_m / wanted_gsd_m
    if not 1 / FARTHEST <= ratio <= FARTHEST:
        fail(
            "gsd_m",
            f"at most {FARTHEST} times larger or smaller than the output's pixels, {wanted_gsd_m:g} m",
            f"{gsd_m:g}",
        )
    if abs(ratio - 1) <= SAME_GSD:
        return image, []
    if ratio > COARSE:
        warn_once(f"{name}: pixels of {gsd_m:g} m have little to teach an output of {wanted_gsd_m:g} m")
    size = [max(1, round(side * ratio)) for side in image.shape[2:]]
    filled, holes = fill_holes(image, "image")
    fine = F.interpolate(filled, size, mode="bicubic", align_corners=False, antialias=ratio < 1)
    if bool(holes.any()):
        near = F.interpolate(holes.to(fine), size, mode="bilinear", align_corners=False, antialias=ratio < 1) > 1e-3
        fine = open_holes(fine, near)
    return fine, [f"{name}: brought from {gsd_m:g} m to {wanted_gsd_m:g} m"]
