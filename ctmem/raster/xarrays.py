"""Scenes as arrays of xarray with the conventions of rioxarray, in and out; the extra `xarray`.

    cube = to_xarray(open_raster("scene.hdr"))      # dimensions band, y, x; wavelengths and map coordinates
    raster = from_xarray(cube)                      # a scene in memory for all that takes one

Source: this project; conventions: rioxarray's and CF's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ctmem.checks import Inside, described, fail, typed
from ctmem.raster.raster import Bands, Part, Raster
from ctmem.raster.spectra import to_nm

WAVELENGTHS = ("wavelength", "wavelengths", "wavelengths_nm", "wavelength_nm", "wl")
BAND_AXES = ("band", "bands", "wavelength", "wavelengths", "c", "channel")
ROW_AXES = ("y", "lat", "latitude", "row", "rows", "h", "height", "downtrack")
COLUMN_AXES = ("x", "lon", "longitude", "column", "columns", "w", "width", "crosstrack")


@dataclass(frozen=True, eq=False)
class MemorySource:
    """Bands of an array in memory, (C, H, W)."""

    array: np.ndarray

    def read(self, part: Part, bands: Sequence[int]) -> np.ndarray:
        """The bands of a window."""
        top, left, height, width = part
        return np.array(self.array[list(bands), top : top + height, left : left + width])

    def mask(self, part: Part) -> np.ndarray | None:  # noqa: ARG002  (as all sources have it)
        """It has none."""
        return None


@typed
def to_xarray(raster: Raster) -> Any:
    """Returns the scene as an `xarray.DataArray` (band, y, x) in memory, its numbers as stored.

    Coordinates: `wavelength`, `fwhm` in nm and `good` along the bands, and the map's x and y; attributes: `_FillValue`,
    `scale_factor` and `add_offset` where one holds for all bands, units and sensor. Reference system and transform are
    where rioxarray looks for them.

    Raises:
        ModuleNotFoundError: xarray or rioxarray is not installed.
        OSError, ValueError: as `Raster.read`.
    """
    import rioxarray  # noqa: F401, PLC0415  (an extra; gives arrays their `rio`)
    import xarray  # noqa: PLC0415

    bands = raster.bands
    coordinates: dict[str, Any] = {"band": np.arange(1, raster.count + 1), "good": ("band", bands.good)}
    for name, values in (("wavelength", bands.wavelengths_nm), ("fwhm", bands.fwhm_nm)):
        if values is not None:
            coordinates[name] = ("band", values, {"units": "nm"})
    attributes: dict[str, Any] = {"units": raster.units, "sensor": raster.sensor} | dict(raster.metadata)
    if len(set(raster.scale)) == 1 and len(set(raster.offset)) == 1:
        attributes |= {"scale_factor": float(raster.scale[0]), "add_offset": float(raster.offset[0])}
    values = raster.read(0, 0, raster.height, raster.width)
    cube = xarray.DataArray(values, dims=("band", "y", "x"), coords=coordinates, attrs=attributes, name=raster.name)
    if raster.no_data:
        cube = cube.rio.write_nodata(raster.no_data[0])
    if raster.crs is not None:
        cube = cube.rio.write_crs(raster.crs)
    if raster.transform is not None:
        cube = cube.rio.write_transform(raster.transform)
        if not (raster.transform.b or raster.transform.d):
            x, y = np.arange(raster.width) + 0.5, np.arange(raster.height) + 0.5
            a, _, c, _, e, f = raster.transform[:6]
            cube = cube.assign_coords(x=c + a * x, y=f + e * y)
    return cube


@typed
def from_xarray(cube: Inside[Any], *, name: str | None = None) -> Raster:
    """Returns a scene of an `xarray.DataArray` of three dimensions, whose names say which is which.

    Args:
        cube: dimensions band (or wavelength), y and x, in any order; with rioxarray's reference system, transform and
            no-data.
        name: what to call the scene; default: the array's.

    Raises:
        ModuleNotFoundError: rioxarray is not installed.
        TypeError: not such an array, or not of real numbers.
        ValueError: dimensions of other names.
    """
    import rioxarray  # noqa: F401, PLC0415  (an extra; gives arrays their `rio`)

    if (
        not hasattr(cube, "dims")
        or not hasattr(cube, "to_numpy")
        or len(cube.dims) != 3
        or cube.dtype.kind not in "iuf"
    ):
        fail("cube", "an xarray.DataArray of real numbers with three dimensions", described(cube), TypeError)
    places = []
    for known, what in ((BAND_AXES, "band"), (ROW_AXES, "y"), (COLUMN_AXES, "x")):
        found = [dim for dim in cube.dims if str(dim).lower() in known]
        if len(found) != 1:
            fail(
                "cube",
                "an array with the dimensions band (or wavelength), y and x",
                f"{tuple(cube.dims)}, where {what} is missing",
            )
        places.append(found[0])
    turned = cube.transpose(*places)
    place = turned.rename({places[1]: "y", places[2]: "x"}).rio
    attributes = {key: value for key, value in cube.attrs.items() if isinstance(value, str)}
    scale, offset = (
        np.array(float(cube.attrs.get(key, usual))) for key, usual in (("scale_factor", 1), ("add_offset", 0))
    )
    transform = place.transform() if place.crs is not None or "spatial_ref" in cube.coords else None
    return Raster(
        path=Path(name or str(cube.name or "array")), source=MemorySource(turned.to_numpy()), height=turned.shape[1],
        width=turned.shape[2], dtype=np.dtype(cube.dtype), bands=_bands(turned, places[0]),
        no_data=() if place.nodata is None else (float(place.nodata),), crs=place.crs,
        transform=None if transform is None or transform.is_identity else transform,
        scale=scale, offset=offset,
        units=attributes.pop("units", "unknown"), sensor=attributes.pop("sensor", "unknown"), metadata=attributes,
    )  # fmt: skip


def _bands(cube: Any, dim: Any) -> Bands:
    """What the coordinates along the bands say."""
    count = cube.sizes[dim]
    along = {str(key).lower(): values for key, values in cube.coords.items() if values.dims == (dim,)}
    raw = next((along[key] for key in WAVELENGTHS if key in along and along[key].dtype.kind in "iuf"), None)
    widths = along.get("fwhm")
    nm: np.ndarray | None = None
    fwhm: np.ndarray | None = None
    if raw is not None:
        nm, fwhm = to_nm(raw.to_numpy().astype(float), raw.attrs.get("units"), "the array",
                         None if widths is None else widths.to_numpy().astype(float))  # fmt: skip
    good = next(
        (along[key].to_numpy() > 0 for key in ("good", "good_wavelengths", "bbl") if key in along), np.ones(count, bool)
    )
    return Bands(good, nm, fwhm)
