"""The recipe of a scene and the pure function that answers its tiles; noise of bands, references."""

from __future__ import annotations

import dataclasses
import math
import warnings
from dataclasses import dataclass

import numpy as np
import pytest
import torch

from ctmem.observe.camera import Camera
from ctmem.observe.noise import noise_of_bands
from ctmem.observe.optics import upsample
from ctmem.tiling import recipe as making
from ctmem.tiling.answering import damped
from ctmem.tiling.recipe import answer, deviation, make_recipe
from ctmem.tiling.references import BOXES, prepare_reference, read_responses


@dataclass
class Survey:
    count: int
    mean: torch.Tensor
    covariance: torch.Tensor
    good: torch.Tensor
    level: float
    samples: list[torch.Tensor]


def survey(lr, good=None):
    good = torch.ones(lr.shape[1], dtype=torch.bool) if good is None else good
    x = lr[0].flatten(1).double()
    x = x[:, torch.isfinite(x[good]).all(0)]
    mean, covariance = torch.zeros(len(good)).double(), torch.zeros(len(good), len(good)).double()
    mean[good] = x[good].mean(1)
    centred = x[good] - mean[good, None]
    covariance[np.ix_(good, good)] = centred @ centred.T / x.shape[1]
    return Survey(x.shape[1], mean, covariance, good, float(x[good].max()), [lr])


def scene(bands=7, height=48, width=56, seed=0):
    """Blocks of a few materials, (1, C, H, W), numbers as of a file, up to some thousands."""
    generator = torch.Generator().manual_seed(seed)
    spectra = 500 + 4000 * torch.rand(5, bands, generator=generator)
    tiny = torch.randn(1, 5, height // 4, width // 4, generator=generator)
    maps = torch.nn.functional.interpolate(tiny, (height, width), mode="bicubic", align_corners=False)
    shares = torch.softmax(6 * maps, 1)
    return torch.einsum("ac,bahw->bchw", spectra, shares)


CAMERA = Camera.gaussian(3.0, 3, sensor=None)
GT = scene(height=48, width=36)
LR = CAMERA.downsample(GT)


def error(pred, gt=GT):
    return float((pred - gt).square().mean().sqrt())


# --- answers ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def prior():
    return make_recipe(survey(LR), scale=3, psf=3.0, noise=None, method="prior")


def test_bicubic_is_bicubic():
    recipe = make_recipe(survey(LR), scale=3, method="bicubic")
    assert torch.equal(answer(recipe, LR), upsample(LR, 3))


def test_back_projection_without_noise_gives_the_observation_back():
    recipe = make_recipe(survey(LR), scale=3, psf=3.0, noise=None, method="bicubic-bp")
    pred = answer(recipe, LR)
    left, before = (float((CAMERA.downsample(one) - LR).norm()) for one in (pred, upsample(LR, 3)))
    assert left < 0.1 * before
    assert error(pred) < error(upsample(LR, 3))


def test_prior_beats_back_projection_and_bicubic(prior):
    recipe = make_recipe(survey(LR), scale=3, psf=3.0, noise=None, method="bicubic-bp")
    assert error(answer(prior, LR)) < error(answer(recipe, LR)) < error(upsample(LR, 3))


def test_units_do_not_matter(prior):
    other = make_recipe(survey(LR * 1e-3), scale=3, psf=3.0, noise=None, method="prior")
    torch.testing.assert_close(1e3 * answer(other, LR * 1e-3), answer(prior, LR), rtol=1e-3, atol=1.0)


def test_a_window_with_its_rim_has_the_answer_of_the_whole():
    lr = CAMERA.downsample(scene(height=108, width=108, bands=2))
    recipe = make_recipe(survey(lr), scale=3, psf=3.0, noise=None, method="prior")
    whole = answer(recipe, lr)
    reach = recipe.reach
    inner, rim = slice(15, 21), slice(15 - reach, 21 + reach)
    window = answer(recipe, lr[..., rim, rim])[..., 3 * reach : -3 * reach, 3 * reach : -3 * reach]
    step = slice(3 * inner.start, 3 * inner.stop)
    apart = (window - whole[..., step, step]).square().mean().sqrt()
    assert float(apart) < 1e-3 * error(whole, scene(height=108, width=108, bands=2))


def test_same_inputs_same_bits_whatever_ran_before(prior):
    first = answer(prior, LR)
    answer(prior, LR[..., :11, :10])
    assert torch.equal(answer(prior, LR), first)


def test_noise_is_not_written_back():
    noisy = LR + 150 * torch.randn(LR.shape, generator=torch.Generator().manual_seed(1))
    told = torch.full((7,), 150.0)
    for method in ("bicubic-bp", "prior"):
        recipe = make_recipe(survey(noisy), scale=3, psf=3.0, noise=told, method=method)
        assert error(answer(recipe, noisy)) < error(upsample(noisy, 3))
        untold = make_recipe(survey(noisy), scale=3, psf=3.0, noise=None, method=method)
        assert error(answer(recipe, noisy)) < error(answer(untold, noisy))


# --- holes and bad bands ----------------------------------------------------------------------------------------------


def test_what_stands_in_a_hole_changes_nothing(prior):
    lr = LR.clone()
    lr[..., 4:7, 8:12] = math.nan
    other = lr.clone()
    other[:, 2, 4:7, 8:12] = 1e9  # some bands have numbers there, one is still missing
    preds = [answer(prior, one) for one in (lr, other)]
    assert torch.equal(preds[0].nan_to_num(-1), preds[1].nan_to_num(-1))
    assert torch.isnan(preds[0][..., 12:21, 24:36]).all()
    assert int(torch.isnan(preds[0]).sum()) == 7 * 9 * 12


def test_a_tile_of_holes_is_a_hole(prior):
    assert torch.isnan(answer(prior, torch.full_like(LR, math.nan))).all()


def test_a_bad_band_is_enlarged_and_changes_no_other():
    good = torch.ones(7, dtype=torch.bool)
    good[3] = False
    lr = LR.clone()
    lr[:, 3] = 7.0
    other = lr.clone()
    other[:, 3] = torch.rand(LR.shape[2:], generator=torch.Generator().manual_seed(0))
    other[:, 3, 2, 2] = math.nan
    preds = [answer(make_recipe(survey(one, good), scale=3, method="prior"), one) for one in (lr, other)]
    assert torch.equal(preds[0][:, good], preds[1][:, good])
    assert torch.equal(preds[0][:, 3], upsample(lr, 3)[:, 3])
    assert torch.isnan(preds[1][0, 3, 6:9, 6:9]).all()
    assert torch.isfinite(preds[1][:, good]).all()


# --- choice -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scale", [2, 6, 5])
def test_auto_at_every_ratio(scale):
    """Of scales without weights, as 5, back-projection is what there is."""
    gt = scene(height=12 * scale, width=16 * scale)
    lr = Camera.gaussian(float(scale), scale, sensor=None).downsample(gt)
    recipe = make_recipe(survey(lr), scale=scale)
    assert recipe.method != "prior" or scale != 5
    assert error(answer(recipe, lr), gt) <= 1.006 * error(upsample(lr, scale), gt)
    assert recipe.about["psf"] == "estimated"


def test_a_scene_too_small_for_a_copy_has_no_spread():
    recipe = make_recipe(survey(LR[..., :9, :9]), scale=3)
    assert recipe.spread is None
    with pytest.raises(ValueError, match="`recipe` must be one that knows how far"):
        deviation(recipe, LR)


def test_deviation_is_of_the_size_of_the_errors():
    recipe = make_recipe(survey(LR), scale=3)
    std = deviation(recipe, LR)
    assert std.shape == GT.shape
    assert bool((std > 0).all())
    assert 0.4 < error(answer(recipe, LR)) / float(std.square().mean().sqrt()) < 2.5


def test_damping():
    """Without any, ten steps; with an infinite one, nothing; with d, on a blur that changes nothing, 1 / (1 + d)."""
    missing = torch.ones(1, 3, 2, 2)
    same = [(torch.eye(2), torch.eye(2))]
    added = damped(missing, same, torch.tensor([0.0, 1.0, math.inf]))
    torch.testing.assert_close(added[0, :, 0, 0], torch.tensor([1.0, 0.5, 0.0]))


def test_the_blur_is_seen():
    gt = scene(height=160, width=160, bands=3, seed=3)
    widths = []
    for width in (3.0, 6.0):
        lr = Camera.gaussian(width, 4, sensor=None).downsample(gt)
        widths.append(make_recipe(survey(lr), method="bicubic").camera.fwhm_px[0])
    assert 1.3 < widths[1] / widths[0] < 3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "magic"}, "`method` must be one of"),
        ({"method": "prior", "scale": 5}, "`scale` must be one of 2, 3, 4, 6"),
        ({"psf": "wide"}, "`psf` must be"),
        ({"noise": "much"}, "`noise` must be"),
        ({"noise": torch.ones(3)}, "`noise` must be deviations ≥ 0 of 7 bands"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(ValueError, match=message):
        make_recipe(survey(LR), **{"scale": 3} | options)


def test_bad_scenes():
    flat = survey(torch.full_like(LR, 5.0))
    with pytest.raises(ValueError, match="`survey` must be of a scene with more than one spectrum"):
        make_recipe(flat, scale=3)
    with pytest.raises(ValueError, match="`survey` must be of a scene with whole pixels"):
        make_recipe(dataclasses.replace(survey(LR), samples=[torch.full_like(LR, math.nan)]), scale=3)


def test_a_recipe_of_other_bands(prior):
    with pytest.raises(ValueError, match="`lr` must be of 7 band"):
        answer(prior, LR[:, :3])
    with pytest.raises(ValueError, match="`std` must be of shape"):
        dataclasses.replace(prior, std=prior.std[:2])


# --- noise ------------------------------------------------------------------------------------------------------------


def test_noise_of_each_band_by_itself():
    generator = torch.Generator().manual_seed(0)
    ground = scene(bands=40, height=100, width=100)
    true = torch.linspace(30, 45, 40)
    noisy = ground + true[:, None, None] * torch.randn(ground.shape, generator=generator)
    noisy[..., 3:6, :] = math.nan
    found = noise_of_bands([noisy])
    share = found.float() / true  # too high by what the neighbours' own noise hides of the ground
    assert bool(((share > 0.9) & (share < 1.4)).all())
    assert 0.95 < float(share.median()) < 1.25


def test_noise_of_few_bands_is_bounded_by_the_calmest_places():
    generator = torch.Generator().manual_seed(0)
    calm = torch.zeros(1, 1, 100, 100)
    calm[..., 50:] = 1000
    found = noise_of_bands([calm + 3 * torch.randn(calm.shape, generator=generator)])
    assert float(found[0]) == pytest.approx(3, rel=0.15)


def test_noise_without_windows():
    with pytest.raises(ValueError, match="`images` must be at least one window"):
        noise_of_bands([])
    with pytest.raises(ValueError, match="`images` must be windows with whole pixels"):
        noise_of_bands([torch.full((1, 2, 8, 8), math.nan)])


# --- references -------------------------------------------------------------------------------------------------------

NM = np.arange(400.0, 1001, 10)
FINE = torch.rand(1, 4, 12, 16, generator=torch.Generator().manual_seed(0))


def prepared(image=FINE, nm=NM, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        return prepare_reference(image, nm, name="ref.tif", **options)


def test_a_table_sees_its_bands():
    found = prepared(sensor="landsat8")
    assert found.bands == ("B2", "B3", "B4", "B5")
    centres = found.srf @ torch.from_numpy(NM).float()
    torch.testing.assert_close(centres, torch.tensor([483.0, 561, 655, 865]), atol=3, rtol=0)


def test_boxes_and_gaussians_see_their_centres():
    rgb = prepared(FINE[:, :3], sensor="rgb")
    middle = [sum(edges) / 2 for edges in BOXES["rgb"].values()]
    assert (rgb.srf @ torch.from_numpy(NM).float()).tolist() == pytest.approx(middle, abs=2)
    own = prepared(centres_nm=[490, 560, 665, 842], fwhm_nm=[60, 30, 30, 110])
    assert (own.srf @ torch.from_numpy(NM).float()).tolist() == pytest.approx([490, 560, 665, 842], abs=2)
    assert (own.srf.sum(1) - 1).abs().max() < 1e-6


def test_bands_outside_are_left_out_and_named():
    found = prepared(nm=NM[NM < 800], sensor="sentinel2a")
    assert found.bands == ("B02", "B03", "B04")
    assert found.image.shape[1] == 3
    assert "B08" in found.told[0]
    assert "left out" in found.told[0]
    with pytest.raises(ValueError, match="`image` must be one with a band inside the scene's 1500"):
        prepared(nm=NM + 1100, sensor="sentinel2a")


def test_bands_without_wavelength_or_bad_ones_have_no_weight():
    nm = NM.copy()
    nm[5] = math.nan
    good = np.ones(len(NM), bool)
    good[8] = False
    found = prepared(nm=nm, sensor="landsat9", good=good)
    assert float(found.srf[:, [5, 8]].abs().max()) == 0


def test_responses_of_a_file(tmp_path):
    path = tmp_path / "mine.csv"
    path.write_text("wavelength_nm,response,band\n500,0,a\n520,1,a\n540,0,a\n700,1,b\n750,1,b\n", encoding="utf-8")
    found = prepared(FINE[:, :2], responses=read_responses(path))
    assert (found.srf @ torch.from_numpy(NM).float()).tolist() == pytest.approx([520, 725], abs=1.5)
    path.write_text("wavelength,value\n1,2\n", encoding="utf-8")
    with pytest.raises(ValueError, match="`path` must be a text file with the columns"):
        read_responses(path)


def test_a_reference_is_brought_to_the_size_of_the_output():
    flat = torch.full((1, 4, 24, 32), 5.0)
    flat[..., :4, :4] = math.nan
    found = prepared(flat, sensor="landsat8", gsd_m=10, wanted_gsd_m=20)
    assert found.image.shape == (1, 4, 12, 16)
    assert torch.isnan(found.image[..., :2, :2]).all()
    assert (found.image[..., 4:, 4:] - 5).abs().max() < 1e-4
    with pytest.warns(RuntimeWarning, match="little to teach"):
        prepare_reference(flat, NM, name="little.tif", sensor="landsat8", gsd_m=30, wanted_gsd_m=10)


def test_a_reference_of_unknown_bands():
    with pytest.raises(ValueError, match="`sensor` must be the name of the one that took ref.tif"):
        prepared()
    with pytest.raises(ValueError, match="`bands` must be names of the 5 bands"):
        prepared(torch.rand(1, 5, 12, 12), sensor="landsat8")


def test_names_are_all_there():
    assert set(making.__all__) >= {"Recipe", "answer", "deviation", "make_recipe"}
