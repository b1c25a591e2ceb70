"""Writes data/srf_<sensor>.csv: spectral responses of four sensors, one row per band and nanometre.

    python data/make_srf.py                     # fetches `pyrsr` 0.8.0 with pip
    python data/make_srf.py pyrsr-0.8.0.tar.gz  # or takes it from here, packed or unpacked

The package stores one text file per band: a header line, then `wavelength response`, in nm (Sentinel-2) or µm
(Landsat). Where the numbers come from stands in data/README.md. Wavelengths are written in whole nm, responses as
they stand, but for a few of Landsat-8 below zero: noise of the measurement, written as 0. Thermal bands are left out.
"""

from __future__ import annotations

import csv
import sys
from dataclasses import dataclass
from pathlib import Path

from sdist import members

FOLDER = "pyrsr/data/"
MSI = ("1", "2", "3", "4", "5", "6", "7", "8", "8A", "9", "10", "11", "12")
OLI = ("1", "2", "3", "4", "5", "6", "7", "8", "9")


@dataclass(frozen=True)
class Origin:
    """How the package stores a sensor."""

    folder: str
    bands: tuple[str, ...]
    unit_nm: int  # 1: wavelengths in nm; 1000: in µm
    digits: int  # of the number in a band's usual name: 2 for "B02", 1 for "B2"


SENSORS = {
    "sentinel2a": Origin("Sentinel-2A/MSI/", MSI, 1, 2),
    "sentinel2b": Origin("Sentinel-2B/MSI/", MSI, 1, 2),
    "landsat8": Origin("Landsat-8/OLI_TIRS/", OLI, 1000, 1),
    "landsat9": Origin("Landsat-9/OLI_TIRS/", OLI, 1000, 1),
}


def band_name(number: str, digits: int) -> str:
    """The usual name of a band: "2" → "B02" or "B2", "8A" → "B8A"."""
    return "B" + number.zfill(digits)


def rows(text: str, unit_nm: int) -> list[tuple[int, str]]:
    """(wavelength in nm, response as written, 0 where negative) for every line after the header.

    Raises:
        ValueError: a wavelength that is no whole number of nm.
    """
    pairs = [line.split() for line in text.splitlines()[1:] if line.strip()]
    return [(_whole(float(wave) * unit_nm), "0" if float(response) < 0 else response) for wave, response in pairs]


def _whole(nm: float) -> int:
    """The whole number that `nm` is, up to rounding."""
    if abs(nm - round(nm)) > 1e-6:
        raise ValueError(f"a wavelength must be a whole number of nm, got {nm}")
    return round(nm)


def main(source: str | None = None) -> None:
    """Reads the files of all bands and writes one table per sensor."""
    names = {(sensor, band): f"{FOLDER}{o.folder}band_{band}" for sensor, o in SENSORS.items() for band in o.bands}
    texts = members("pyrsr==0.8.0", list(names.values()), source)
    for sensor, origin in SENSORS.items():
        target = Path(__file__).with_name(f"srf_{sensor}.csv")
        with target.open("w", newline="", encoding="utf-8") as file:
            table = csv.writer(file, lineterminator="\n")
            table.writerow(("band", "wavelength_nm", "response"))
            for band in origin.bands:
                found = rows(texts[names[sensor, band]].decode("utf-8"), origin.unit_nm)
                table.writerows((band_name(band, origin.digits), *row) for row in found)
        print(f"{target.name}: {sum(1 for _ in target.open()) - 1} rows, {len(origin.bands)} bands")


if __name__ == "__main__":
    main(*sys.argv[1:])
