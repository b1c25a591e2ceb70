"""ENVI, GeoTIFF (and COG), JPEG 2000 and ERDAS files, read by windows through GDAL.

GDAL is told which one driver may open a file, so that nothing in it leads elsewhere. A file is opened once for each
thread, and stays open while it is read from.

Source: this project; formats: GDAL's documentation of its drivers.
"""

from __future__ import annotations

import contextlib
import os
import threading
import warnings
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import rasterio
from rasterio.enums import ColorInterp, MaskFlags
from rasterio.errors import NotGeoreferencedWarning
from rasterio.windows import Window

from ctmem.checks import fail, warn_once
from ctmem.raster.envi import KEPT, check_header, data_of, listed, read_header
from ctmem.raster.raster import Bands, Part, Raster
from ctmem.raster.spectra import looked_up, numbers, of_names, to_nm
from ctmem.reading.border import opened

Result = TypeVar("Result")

CALLED = {"GTiff": "GeoTIFF", "ENVI": "ENVI", "JP2OpenJPEG": "JPEG 2000", "HFA": "ERDAS Imagine"}
SETTINGS = {"GDAL_CACHEMAX": 256, "CPL_VSIL_USE_TEMP_FILE_FOR_RANDOM_WRITE": "NO"}  # MB of blocks that GDAL keeps
MOST_OPEN = 32  # files that a thread keeps open
LONGEST = 300  # letters of another library's message
NM = ("wavelength", "wavelengths", "center_wavelength", "centre_wavelength", "central_wavelength", "wavelength_nm")
UNIT = ("wavelength_units", "wavelength_unit", "units_wavelength")
FWHM = ("fwhm", "full_width_half_max", "bandwidth")
_open = threading.local()


@dataclass(frozen=True)
class GdalSource:
    """Bands of a file of GDAL's.

    Args:
        path: the file.
        driver: GDAL's name of its format.
        places: numbers of its bands, from 1.
        masked: it has a mask for all bands.
    """

    path: Path
    driver: str
    places: tuple[int, ...]
    masked: bool = False

    def read(self, part: Part, bands: Sequence[int]) -> np.ndarray:
        """The bands of a window as stored."""
        window = Window(part[1], part[0], part[3], part[2])
        with told(self.path, self.driver):
            return dataset_of(self.path, self.driver).read([self.places[band] for band in bands], window=window)

    def mask(self, part: Part) -> np.ndarray | None:
        """The file's own mask, of an alpha band or a mask band."""
        if not self.masked:
            return None
        window = Window(part[1], part[0], part[3], part[2])
        with told(self.path, self.driver):
            return dataset_of(self.path, self.driver).dataset_mask(window=window) > 0


@contextlib.contextmanager
def told(path: Path, driver: str) -> Iterator[None]:
    """Inside, what GDAL says of a file becomes one clear error.

    Raises:
        ValueError: it is damaged, or of another kind.
    """
    try:
        with rasterio.Env(**SETTINGS), warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            yield
    except Exception as error:
        if not of_gdal(error):
            raise
        why = str(error.__cause__ or error).partition("\n")[0][:LONGEST].replace(str(path), path.name)
        raise ValueError(f"`path` must be a readable {CALLED[driver]} file, got {path.name} ({why})") from error


def of_gdal(error: Exception) -> bool:
    """Whether an error comes from GDAL; rasterio does not show the class of some."""
    return isinstance(error, UnicodeDecodeError) or type(error).__module__.startswith("rasterio")


def dataset_of(path: Path, driver: str) -> Any:
    """The file, open in this thread of this process; opened again where another one has taken its place."""
    at = path.stat()
    key = (os.getpid(), str(path), driver, at.st_mtime_ns, at.st_size, at.st_ino)
    files: OrderedDict[Any, Any] = _open.__dict__.setdefault("files", OrderedDict())
    if key not in files:
        files[key] = rasterio.open(path.absolute(), driver=driver)
    files.move_to_end(key)
    while len(files) > MOST_OPEN:
        files.popitem(last=False)[1].close()
    return files[key]


def open_gdal(path: Path, driver: str, *, bands: Bands | None = None, least: int = 1, **known: Any) -> Raster:
    """A file of one of GDAL's formats.

    Args:
        path: the file with the numbers.
        driver: GDAL's name of its format.
        bands: what is known of its bands from elsewhere; None: its tags say.
        least: number of its bands that are data, where the caller knows of so many.
        **known: fields of the raster that are known from elsewhere.

    Raises:
        FileNotFoundError: no such file.
        OSError: one that may not be read.
        ValueError: a damaged file, or complex numbers.
    """
    with opened(path):
        pass
    with told(path, driver):
        file = dataset_of(path, driver)
        places, masked = _data_bands(file, path, least)
        dtype = np.dtype(file.dtypes[places[0] - 1])
        if dtype.kind not in "iuf":
            fail("path", "a file of real numbers", f"{path.name}, of {dtype}")
        index = [place - 1 for place in places]
        fields = {
            "height": file.height, "width": file.width, "dtype": dtype, "masked": masked, "crs": file.crs,
            "bands": bands or _tagged(file, path, places),
            "no_data": tuple(dict.fromkeys(x for x in (file.nodatavals[i] for i in index) if x is not None)),
            "scale": np.array(file.scales)[index], "offset": np.array(file.offsets)[index],
            "units": next((one for one in _units(file) if one), "unknown"),
            "transform": None if file.transform.is_identity else file.transform,
            "sensor": looked_up(_tags(file) | _tags(file, ns="ENVI"), "sensor_type", "sensor") or "unknown",
            "metadata": {key: text for key, text in _tags(file).items() if key not in OWN},
            "block": file.block_shapes[places[0] - 1],
        }  # fmt: skip
    return Raster(path=path, source=GdalSource(path, driver, places, masked), **(fields | known))


OWN = ("AREA_OR_POINT", "wavelength_units")  # tags that GDAL writes by itself


def _texts(read: Callable[[], Result], usual: Result) -> Result:
    """What GDAL says in words, or the usual where these are of another encoding than UTF-8."""
    try:
        return read()
    except UnicodeDecodeError:
        return usual


def _tags(file: Any, number: int = 0, *, ns: str | None = None) -> dict[str, str]:
    """The tags of a band, or of the file, in a domain."""
    return _texts(lambda: dict(file.tags(number, ns=ns)), {})


def _names(file: Any) -> list[str]:
    """What the bands are called, "" where they are not."""
    return [name or "" for name in _texts(lambda: file.descriptions, (None,) * file.count)]


def _units(file: Any) -> Sequence[str | None]:
    """The units of the bands."""
    return _texts(lambda: file.units, (None,) * file.count)


def _data_bands(file: Any, path: Path, least: int) -> tuple[tuple[int, ...], bool]:
    """Numbers of the bands with data, and whether the file has a mask for all of them."""
    flags = file.mask_flag_enums
    told = [bool(name or looked_up(_tags(file, n), *NM)) for n, name in enumerate(_names(file), 1)]
    kinds = enumerate(file.colorinterp, 1)
    alpha = [number for number, kind in kinds if kind == ColorInterp.alpha and not told[number - 1]]
    if file.count - len(alpha) < least:
        alpha = []
    if alpha:
        every = list(range(file.count))
        warn_once(
            f"{path.name}: band {alpha[0]} is marked as its mask (alpha), and taken so; bands={every} takes it as data"
        )
    places = tuple(number for number in range(1, file.count + 1) if number not in alpha)
    own = MaskFlags.per_dataset in flags[places[0] - 1] and (bool(alpha) or MaskFlags.alpha not in flags[0])
    return places, own


def _tagged(file: Any, path: Path, places: Sequence[int]) -> Bands:
    """What the tags of a file say of its bands: each band's own first, then lists for all, then their names."""
    count = len(places)
    tags = [_tags(file, number, ns="ENVI") | _tags(file, number) for number in places]
    whole = _tags(file) | _tags(file, ns="ENVI")
    unit = next((one for one in (looked_up(t, *UNIT) for t in [*tags, whole]) if one), None)
    raw, widths = _column(tags, whole, NM, count, path), _column(tags, whole, FWHM, count, path)
    if raw is None:
        imagery = [_tags(file, number, ns="IMAGERY") for number in places]
        raw = _column(imagery, {}, ("central_wavelength_um",), count, path)
        widths = _column(imagery, {}, ("fwhm_um",), count, path)
        unit = "um"
    every = _names(file)
    names = tuple(every[number - 1] for number in places)
    nm, fwhm = (None, None) if raw is None else to_nm(raw, unit, path.name, widths)
    if nm is None and any(names):
        nm = of_names(names)
    good = _column(tags, whole, ("bbl", "good_band"), count, path)
    bad = _column(tags, {}, ("bad_band",), count, path)
    flagged = np.ones(count, bool) if good is None else ~(good == 0)
    flagged &= True if bad is None else ~(bad > 0)
    return Bands(flagged, nm, fwhm, names if all(names) else None)


def _column(
    tags: Sequence[Mapping[str, str]], whole: Mapping[str, str], keys: Sequence[str], count: int, path: Path
) -> np.ndarray | None:
    """One number of each band, (C,), NaN where a band has none; None where no band has one."""
    cells = [numbers(looked_up(one, *keys)) for one in tags]
    if any(cell is not None and cell.size == 1 for cell in cells):
        return np.array([cell[0] if cell is not None and cell.size == 1 else np.nan for cell in cells])
    return fitted(numbers(looked_up(whole, *keys)), count, f"{keys[0]} of {path.name}")


def fitted(values: np.ndarray | None, count: int, name: str) -> np.ndarray | None:
    """A list of one number per band; with a warning None, where it has another length."""
    if values is not None and values.size != count:
        warn_once(f"{name}: {values.size} numbers for {count} bands, which are left out")
        return None
    return values


# --- ENVI -------------------------------------------------------------------------------------------------------------


def open_envi(header_path: Path, data: Path | None = None) -> Raster:
    """An ENVI file by its header and, where several are beside it, the one with the data.

    Raises:
        FileNotFoundError: no data beside the header.
        OSError: one that may not be read.
        ValueError: a damaged header, or data that are shorter than it says.
    """
    header = read_header(header_path)
    data = data_of(header_path) if data is None else data
    dtype = check_header(header, header_path, data)
    count, name = int(header["bands"]), header_path.name
    raw = fitted(numbers(header.get("wavelength")), count, f"wavelength of {name}")
    widths = fitted(numbers(header.get("fwhm")), count, f"fwhm of {name}")
    nm, fwhm = (None, None) if raw is None else to_nm(raw, header.get("wavelength units"), name, widths)
    names = listed(header.get("band names"))
    bbl = fitted(numbers(header.get("bbl")), count, f"bbl of {name}")
    if nm is None and len(names) == count:
        nm = of_names(names)
    good = np.ones(count, bool) if bbl is None else bbl > 0
    bands = Bands(good, nm, fwhm, tuple(names) if len(names) == count and all(names) else None)
    scale, offset, units = _meaning(header, count, name)
    known: dict[str, Any] = {
        "scale": scale,
        "offset": offset,
        "sensor": header.get("sensor type", "").strip("{}") or "unknown",
    }
    if units:
        known["units"] = units
    if (ignored := numbers(header.get("data ignore value"))) is not None:
        known["no_data"] = tuple(ignored.tolist())
    known["metadata"] = {key: header[key] for key in KEPT if header.get(key)}
    raster = open_gdal(data, "ENVI", bands=bands, **known)
    if (raster.dtype, raster.count) != (dtype, count):
        fail("path", f"{count} bands of {dtype}, as {name} says", f"{raster.count} of {raster.dtype}")
    return raster


def _meaning(header: Mapping[str, str], count: int, name: str) -> tuple[np.ndarray, np.ndarray, str | None]:
    """Scale, offset and units of the stored numbers."""
    factor = numbers(header.get("reflectance scale factor"))
    if factor is not None and factor.size == 1 and factor[0] > 0:
        return np.full(count, 1 / factor[0]), np.zeros(count), "reflectance"
    gain = fitted(numbers(header.get("data gain values")), count, f"data gain values of {name}")
    shift = fitted(numbers(header.get("data offset values")), count, f"data offset values of {name}")
    units = header.get("data units", "").strip("{}").strip() or None
    return np.ones(count) if gain is None else gain, np.zeros(count) if shift is None else shift, units
