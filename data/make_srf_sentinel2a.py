"""Writes data/srf_sentinel2a.csv: spectral responses of Sentinel-2A MSI, one row per band and nanometre.

    python data/make_srf_sentinel2a.py                     # fetches `pyrsr` 0.8.0 with pip
    python data/make_srf_sentinel2a.py pyrsr-0.8.0.tar.gz  # or takes it from here, packed or unpacked

The package stores one text file per band (a header line, then `wavelength response`), taken from ESA's table
"S2-SRF_COPE-GSEG-EOPG-TN-15-0007", issue 3.0. The numbers are copied as they stand; only the layout changes.
"""

from __future__ import annotations

import csv
import sys
from pathlib import Path

from sdist import members

BANDS = ("1", "2", "3", "4", "5", "6", "7", "8", "8A", "9", "10", "11", "12")
FOLDER = "pyrsr/data/Sentinel-2A/MSI/"
TARGET = Path(__file__).with_name("srf_sentinel2a.csv")


def band_name(number: str) -> str:
    """The usual name of a band: "2" → "B02", "8A" → "B8A"."""
    return "B" + number.zfill(2)


def rows(text: str) -> list[tuple[int, str]]:
    """(wavelength in nm, response as written) for every line after the header."""
    pairs = [line.split() for line in text.splitlines()[1:] if line.strip()]
    return [(int(wavelength), response) for wavelength, response in pairs]


def main(source: str | None = None) -> None:
    """Reads the thirteen band files and writes the table."""
    names = [FOLDER + "band_" + number for number in BANDS]
    texts = members("pyrsr==0.8.0", names, source)
    with TARGET.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(("band", "wavelength_nm", "response"))
        for number, name in zip(BANDS, names):
            table.writerows((band_name(number), *row) for row in rows(texts[name].decode("utf-8")))
    print(f"{TARGET.name}: {sum(1 for _ in TARGET.open()) - 1} rows, {len(BANDS)} bands")


if __name__ == "__main__":
    main(*sys.argv[1:])
