"""What is said of a scene and its answer: lines for people, and the card beside the file.

Source: this project.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from ctmem.checks import typed
from ctmem.files import package_version
from ctmem.raster.raster import Raster
from ctmem.tiling.plan import Cost
from ctmem.tiling.recipe import Recipe, answer
from ctmem.tiling.survey import Survey

PACKAGES = ("ctmem", "torch", "numpy", "rasterio")


@dataclass(frozen=True, eq=False)
class Inspection:
    """What is understood of a scene; `str` of it is what `ctmem-sr --inspect` prints."""

    raster: Raster
    survey: Survey
    recipe: Recipe
    cost: Cost
    why: str  # the scale is what it is
    told: tuple[str, ...] = ()  # of the references
    answer: Callable[..., torch.Tensor] = answer  # what answers a window

    def __str__(self) -> str:
        """A line for each thing."""
        return "\n".join(f"{name:12} {text}" for name, text in self.lines())

    def look(self, top: int, left: int, height: int, width: int) -> torch.Tensor:
        """The answer to a window of coarse pixels, (C, scale·height, scale·width), before all of it is computed.

        It is that of the whole scene but for its rim, `recipe.reach` coarse pixels wide, which knows no surroundings.

        Raises:
            ValueError: a window outside the scene.
        """
        window = torch.from_numpy(self.raster.window(top, left, height, width))[None]
        return self.answer(self.recipe, window, top=top, left=left)[0]

    def lines(self) -> Iterator[tuple[str, str]]:
        """Names and texts."""
        yield from raster_lines(self.raster)
        yield "no data", holes_text(self.raster, self.survey)
        yield from recipe_lines(self.recipe, self.survey, self.raster)
        yield "scale", f"×{self.recipe.camera.scale} ({self.why})"
        yield from (("reference", line) for line in self.told)
        yield "cost", str(self.cost)


def raster_lines(raster: Raster) -> Iterator[tuple[str, str]]:
    """What a file says of itself."""
    yield "file", f"{raster.path.name}: {raster.height}×{raster.width} px, {raster.count} bands, {raster.dtype.name}"
    yield "sensor", raster.sensor
    yield "bands", bands_text(raster)
    yield "units", units_text(raster)
    yield "pixels", "size unknown" if raster.gsd_m is None else f"{raster.gsd_m:.6g} m"
    yield "map", "none" if raster.crs is None else _crs_text(raster)


def bands_text(raster: Raster) -> str:
    """Range of the wavelengths, and how many bands are bad."""
    nm = raster.bands.wavelengths_nm
    bad = int((~raster.bands.good).sum())
    known = np.array([]) if nm is None else nm[np.isfinite(nm)]
    text = f"{known.min():.6g} to {known.max():.6g} nm" if known.size else "no wavelengths"
    if 0 < known.size < raster.count:
        text += f" ({raster.count - known.size} without)"
    return text + (f"; {bad} bad: enlarged bicubically" if bad else "")


def units_text(raster: Raster) -> str:
    """What the stored numbers mean."""
    if (raster.scale == 1).all() and (raster.offset == 0).all():
        return raster.units
    factor, offset = (_span(values) for values in (raster.scale, raster.offset))
    return f"{raster.units} = {'' if offset == '0' else f'{offset} + '}{factor} × the stored number"


def _span(values: np.ndarray) -> str:
    """One number, or from the least to the largest of several."""
    low, high = float(values.min()), float(values.max())
    return f"{low:.4g}" if low == high else f"({low:.4g} to {high:.4g})"


def _crs_text(raster: Raster) -> str:
    """The coordinate system in short."""
    code = raster.crs.to_epsg()
    return f"EPSG:{code}" if code else raster.crs.to_string()[:60]


def holes_text(raster: Raster, survey: Survey) -> str:
    """The share of pixels without data, and what marks them."""
    marks = ", ".join(f"{value:g}" for value in raster.no_data)
    said = f"marked by {marks}" if marks else "a mask of the file" if raster.masked else "nothing is marked in the file"
    return f"{100 * survey.holes:.3g} % of the pixels ({said})"


def recipe_lines(recipe: Recipe, survey: Survey, raster: Raster) -> Iterator[tuple[str, str]]:
    """How it is sharpened, and with which blur and noise."""
    snr = snr_db(recipe, survey)
    width = float(np.mean(recipe.camera.fwhm_px))
    yield "method", recipe.method + gains_text(recipe)
    yield "blur", f"FWHM {width:.2f} fine px = {width / recipe.camera.scale:.2f} coarse px"
    if np.isfinite(snr).any():
        low, middle, high = np.quantile(snr[np.isfinite(snr)], [0, 0.5, 1])
        yield "noise", f"SNR {middle:.1f} dB in the median band ({low:.1f} to {high:.1f})"
    else:
        yield "noise", "none"
    weak = band_names(raster, np.flatnonzero(snr < NOISY_DB))
    if weak:
        yield "noisy", f"bands with an SNR below {NOISY_DB} dB: {weak}"


def gains_text(recipe: Recipe) -> str:
    """What methods gained on the scene's own copy, where they were tried."""
    tried = recipe.about.get("over bicubic on its own copy", {})
    told = [f"{name} {one['gain_db']:+.2f} dB" for name, one in tried.items()]
    return f" (over bicubic on the scene's own coarser copy: {', '.join(told)})" if told else ""


def not_helped(recipe: Recipe) -> dict[str, Any]:
    """Where sharpening did not help: methods that gained nothing on the copy, and directions of spectra left alone."""
    tried = recipe.about.get("over bicubic on its own copy", {})
    shares = recipe.factors.tolist() if recipe.method == "prior" else []
    return {
        "methods": [name for name, one in tried.items() if one["gain_db"] <= 0],
        "directions": [number for number, share in enumerate(shares) if share < LEAST_SHARE],
    }


LEAST_SHARE = 0.05  # of what the prior adds to a direction, below which it is as good as nothing
NOISY_DB = 15  # below it a band shows little but noise


def band_names(raster: Raster, bands: np.ndarray, most: int = 8) -> str:
    """Some bands by their names or numbers."""
    names = raster.bands.names
    told = [names[band] if names else str(band) for band in bands[:most].tolist()]
    return ", ".join(told) + (f" and {len(bands) - most} more" if len(bands) > most else "")


def snr_db(recipe: Recipe, survey: Survey) -> np.ndarray:
    """Signal-to-noise ratio of the bands, (C,) dB; NaN in bad bands and infinite without noise."""
    if recipe.band_noise is None:
        return np.full(len(survey.good), math.inf)
    power = survey.mean.square() + survey.covariance.diagonal()
    ratio = (10 * (power / recipe.band_noise.to(power).square()).log10()).numpy().copy()
    ratio[~survey.good.numpy()] = math.nan
    return ratio


@typed
@torch.no_grad()
def consistency(recipe: Recipe, survey: Survey) -> dict[str, float]:
    """How well an answer, degraded by the recipe's camera, gives back the observation: in windows of the survey.

    Returns:
        Root mean square of what differs over that of the observation, and over that of the noise, if there is any; both
        of good bands.
    """
    missing, seen, noise = 0.0, 0.0, 0.0
    for sample in survey.samples:
        low = recipe.camera.downsample(answer(recipe, sample).nan_to_num(0))[:, survey.good]
        given = sample[:, survey.good]
        inner = torch.isfinite(given)
        missing += float((low - given)[inner].double().square().sum())
        seen += float(given[inner].double().square().sum())
        if recipe.band_noise is not None:
            counts = inner.sum((0, 2, 3)).double()
            noise += float((counts * recipe.band_noise[survey.good].double().square()).sum())
    found = {"relative": math.sqrt(missing / seen) if seen else math.nan}
    return found | ({"of_noise": math.sqrt(missing / noise)} if noise else {})


def card_of(
    raster: Raster, survey: Survey, recipe: Recipe, *, told: dict[str, Any], output: dict[str, Any]
) -> dict[str, Any]:
    """The card of an answer: plain values.

    Args:
        raster: the coarse scene.
        survey: of it.
        recipe: of the answer.
        told: what was asked for, word by word.
        output: what came of it.
    """
    snr = snr_db(recipe, survey)
    finite = snr[np.isfinite(snr)]
    return {
        "input": {
            "file": raster.path.name, "sensor": raster.sensor, "sha256_of_values": survey.digest,
            "size": [raster.count, raster.height, raster.width], "dtype": raster.dtype.name, "units": raster.units,
            "gsd_m": raster.gsd_m, "no_data": list(raster.no_data), "holes": survey.holes,
            "bad_bands": np.flatnonzero(~raster.bands.good).tolist(),
        },
        "told": told,
        "method": recipe.method,
        "seed": recipe.seed,
        "scale": recipe.camera.scale,
        "psf": {"fwhm_px": list(recipe.camera.fwhm_px), "weights": recipe.camera.psf.tolist()},
        "noise": {
            "snr_db": None if not finite.size else dict(zip(("lowest", "median", "highest"),
                                                            np.quantile(finite, [0, 0.5, 1]).round(2).tolist())),
            "deviations": None if recipe.band_noise is None else recipe.band_noise.tolist(),
        },
        "back_projection": {
            "directions": int(torch.isfinite(recipe.damping).sum()), "of": len(recipe.damping),
        },
        "chosen": recipe.about,
        "not_helped": not_helped(recipe),
        "consistency": consistency(recipe, survey),
        "output": output,
        "versions": {name: package_version(name) for name in PACKAGES},
    }  # fmt: skip
