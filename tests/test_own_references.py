"""References of any bands: what they see of a scene, what is left out, and at which pixels they are used."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from rasterio import Affine
from rasterio.crs import CRS
from scipy.stats import norm

from ctmem.checks import warn_once
from ctmem.observe.responses import srf_matrix
from ctmem.own_scene.references import check_large, fitted
from ctmem.own_scene.whole import from_references
from ctmem.raster.raster import Bands, Raster

NM = np.arange(430.0, 911, 10)  # of the scene: 49 bands


class Numbers:
    """A source of numbers (C, H, W) in memory."""

    def __init__(self, numbers):
        self.numbers = numbers

    def read(self, part, bands):
        top, left, height, width = part
        return self.numbers[list(bands), top : top + height, left : left + width]

    def mask(self, part):
        return None


def raster(name, numbers, nm=None, *, fwhm=None, good=None, names=None, gsd_m=None, no_data=()):
    bands = Bands(np.ones(len(numbers), bool) if good is None else good, nm, fwhm, names)
    return Raster(Path(name), Numbers(numbers), *numbers.shape[1:], numbers.dtype, bands, no_data, gsd_m=gsd_m)


def random(*shape):
    return np.random.default_rng(0).random(shape, np.float32)


SCENE = raster("lr.tif", random(49, 12, 13), NM, gsd_m=30.0)


def reference(count=4, nm=(490.0, 560.0, 665.0, 842.0), size=(24, 30), **options):
    options = {"gsd_m": 10.0} | options
    return raster("ref.tif", random(count, *size), None if nm is None else np.array(nm), **options)


def test_the_response_of_a_width_is_that_of_a_gaussian():
    """Against an integral by hand: what a Gaussian of that width has in each cell of 10 nm."""
    seen = fitted(reference(fwhm=np.full(4, 40.0)), SCENE, scale=3)
    assert seen.told == () and seen.image.shape == (1, 4, 24, 30)
    below = norm.cdf((NM[:, None] + [-5, 5] - 560) / (40 / 2.3548))
    np.testing.assert_allclose(seen.srf[1], np.diff(below)[:, 0], atol=1.5e-3)
    torch.testing.assert_close(seen.srf.sum(1), torch.ones(4))
    assert (seen.srf @ torch.from_numpy(NM).float()).tolist() == pytest.approx([490, 560, 665, 842], abs=1)


def test_a_sensor_by_name_is_the_one_of_the_table():
    four = reference(nm=None)
    seen = fitted(four, SCENE, scale=3, sensor="sentinel2a")
    torch.testing.assert_close(seen.srf, srf_matrix(NM, sensor="sentinel2a"), atol=5e-4, rtol=0)
    by_names = reference(2, None, names=("B04", "B03"))
    torch.testing.assert_close(
        fitted(by_names, SCENE, scale=3, sensor="sentinel2a").srf,
        srf_matrix(NM, sensor="sentinel2a", bands=["B04", "B03"]), atol=5e-4, rtol=0,
    )  # fmt: skip


def test_responses_from_a_text_file(tmp_path):
    rows = [f"{nm},1.0,{band}" for band, low in (("a", 500), ("b", 700)) for nm in range(low, low + 41)]
    (tmp_path / "srf.csv").write_text("wavelength_nm,response,band\n" + "\n".join(rows) + "\n", encoding="utf-8")
    seen = fitted(reference(2, None), SCENE, scale=3, sensor=tmp_path / "srf.csv")
    wanted = np.zeros((2, 49))
    for row, low in enumerate((500, 700)):
        inside = (low <= NM) & (low + 40 >= NM)
        wanted[row, inside] = np.where(np.isin(NM[inside], (low, low + 40)), 0.5, 1.0) / 4
    np.testing.assert_allclose(seen.srf, wanted, atol=1e-6)
    (tmp_path / "srf.csv").write_text("a,b\n1,2\n", encoding="utf-8")
    with pytest.raises(ValueError, match="`path` must be a text file with the columns wavelength_nm, response, band"):
        fitted(reference(2, None), SCENE, scale=3, sensor=tmp_path / "srf.csv")


def test_bands_outside_are_left_out_and_named():
    seen = fitted(reference(nm=(490, 665, 1610, 2190), names=("B02", "B04", "B11", "B12")), SCENE, scale=3)
    assert seen.image.shape[1] == 2 and [line.partition(" (")[0] for line in seen.told] == [
        "ref.tif: band B11",
        "ref.tif: band B12",
    ]
    one = fitted(reference(2, (665.0, np.nan), names=("red", "what")), SCENE, scale=3)
    assert one.bands == ("red",) and "band what (of unknown wavelength) is left out" in one.told[0]


def test_bands_of_the_scene_that_are_bad_or_without_wavelength_have_weight_0():
    nm, good = NM.copy(), np.ones(49, bool)
    nm[10], good[12] = np.nan, False
    scene = raster("lr.tif", random(49, 12, 13), nm, good=good, gsd_m=30.0)
    seen = fitted(reference(1, (540.0,), fwhm=np.array([60.0])), scene, scale=3)
    assert seen.srf[0, 10] == seen.srf[0, 12] == 0 and seen.srf[0, 11] > 0
    assert float(seen.srf.sum()) == pytest.approx(1)


@pytest.mark.parametrize(("gsd_m", "size"), [(10.0, (24, 30)), (5.0, (12, 15)), (20.0, (48, 60)), (9.9, (24, 30))])
def test_it_is_brought_to_the_pixels_of_the_answer(gsd_m, size):
    ramp = np.broadcast_to(np.linspace(0, 1, 30, dtype=np.float32), (4, 24, 30)).copy()
    given = raster("ref.tif", ramp, np.array([490.0, 560.0, 665.0, 842.0]), gsd_m=gsd_m)
    seen = fitted(given, SCENE, scale=3)
    assert seen.image.shape[2:] == size and bool(seen.told) == (gsd_m in (5.0, 20.0))
    steps = seen.image[0, 0, 3, 3:-3].diff()  # a ramp stays one, on all of its length
    assert float(steps.min()) > 0 and float(steps.mean()) * size[1] == pytest.approx(30 / 29, rel=0.05)


def test_unknown_pixels_are_said_and_holes_stay_holes():
    numbers = random(4, 24, 30)
    numbers[2, 3, 4] = -1
    given = raster("ref.tif", numbers, np.array([490.0, 560.0, 665.0, 842.0]), no_data=(-1.0,))
    warn_once.cache_clear()
    with pytest.warns(RuntimeWarning, match="ref.tif: its pixels are taken to be of the output's size"):
        seen = fitted(given, SCENE, scale=3)
    assert seen.told == ("ref.tif: pixels taken as they are, their size is not known",)
    assert torch.isnan(seen.image).sum() == 4 and torch.isnan(seen.image[0, :, 3, 4]).all()


BAD = [
    (reference(2, (1610.0, 2190.0)), SCENE, None, "`image` must be one with a band inside the scene's 430"),
    (reference(nm=None), SCENE, None, "`sensor` must be given, since ref.tif says no wavelengths: sentinel2a"),
    (reference(nm=None), SCENE, "kodak", "`sensor` must be one of sentinel2a"),
    (reference(5, None), SCENE, "landsat8", "`sensor` must be one with the bands of ref.tif, which has 5 without"),
    (reference(), raster("lr.tif", random(3, 12, 13)), None, "`wavelengths_nm` must be given"),
]  # fmt: skip


@pytest.mark.parametrize(("given", "scene", "sensor", "said"), BAD)
def test_what_cannot_be_used_is_named(given, scene, sensor, said):
    with pytest.raises(ValueError, match=said):
        fitted(given, scene, scale=3, sensor=sensor)


def test_several_references_have_the_same_bands_and_the_scene_fits_into_memory():
    one, two = (fitted(reference(4, nm), SCENE, scale=4) for nm in ((490, 560, 665, 842), (490, 560, 665, 700)))
    with pytest.raises(ValueError, match="`references` must be of the same bands"):
        from_references([one, two], SCENE, 100)
    with pytest.raises(ValueError, match="`method` must be 'prior' or 'auto' for a scene beyond 10 px a side"):
        from_references([one], SCENE, 10)
    found = from_references([one, one], SCENE, 100)
    assert len(found.references) == 2 and found.inputs == from_references([one, one], SCENE, 100).inputs


def test_the_transform_says_the_size_of_pixels():
    given = Raster(
        Path("ref.tif"), Numbers(random(4, 24, 30)), 24, 30, np.dtype("f4"),
        Bands(np.ones(4, bool), np.array([490.0, 560.0, 665.0, 842.0])),
        crs=CRS.from_epsg(32633), transform=Affine(20, 0, 0, 0, -20, 0),
    )  # fmt: skip
    assert fitted(given, SCENE, scale=3).told == ("ref.tif: brought from 20 m to 10 m",)


def test_a_reference_too_small_to_be_looked_for_is_refused():
    seen = fitted(reference(), SCENE, scale=3)
    check_large(seen, 3)
    with pytest.raises(ValueError, match="must be images of at least 32 px a side .*, got 24×30 px of ref.tif"):
        check_large(seen, 4)
