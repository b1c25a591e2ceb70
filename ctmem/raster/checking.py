"""What can be noticed in a scene before it is read as a whole: bands that hold nothing.

Products keep bands in the absorption of water, or of a dead detector, in which every pixel is no data. As good bands
they would make a hole of every pixel; here they become bad bands, which are carried along.

Source: this project.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from ctmem.checks import typed, warn_once
from ctmem.raster.raster import Raster

PLACES = 3  # windows that are looked at, down and across
SIDE = 48  # px of a window


@typed
def flag_empty_bands(raster: Raster) -> Raster:
    """Returns the scene with those good bands flagged as bad that hold nothing where other good bands have data.

    A few windows, spread over the scene, are looked at; a warning names the bands. Where all bands are empty, or none
    is, the scene comes back as it is.

    Raises:
        OSError, ValueError: as `Raster.read`.
    """
    height, width = min(SIDE, raster.height), min(SIDE, raster.width)
    places = np.flatnonzero(raster.bands.good)
    filled = np.zeros(len(places), np.int64)
    for top in np.unique(np.linspace(0, raster.height - height, PLACES).astype(int)):
        for left in np.unique(np.linspace(0, raster.width - width, PLACES).astype(int)):
            values = raster.read(int(top), int(left), height, width, places.tolist())
            filled += (~raster.missing(values)).sum((1, 2))
    empty = places[filled == 0]
    if len(empty) in (0, len(places)):
        return raster
    named = ", ".join(map(str, empty[:12])) + (", …" if len(empty) > 12 else "")
    warn_once(f"{raster.path.name}: no pixel has data in band(s) {named}, counted from 0: they are taken as bad bands")
    good = raster.bands.good.copy()
    good[empty] = False
    return dataclasses.replace(raster, bands=dataclasses.replace(raster.bands, good=good))
