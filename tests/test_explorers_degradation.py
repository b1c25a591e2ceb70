"""ctmem/explorers/{degradation,observation}.py without a browser: what is shown is what the sensors give."""

from __future__ import annotations

import dataclasses
import itertools
import math
import tracemalloc

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from ctmem.data.samples import degrade_scene
from ctmem.data.scenes import load_scene, synthetic
from ctmem.evaluation import metrics
from ctmem.explorers import DegradationExplorer, observation
from ctmem.explorers.degradation import ALL, FOUR
from ctmem.explorers.render import bands_of, colours, quantise, stretch
from ctmem.holes import fill_holes
from ctmem.observe import optics, responses
from ctmem.observe.camera import Camera

SCENE = synthetic(3, height=22, width=35, bands=150)  # no whole number of chunks
GT = SCENE.tensor()


def frames(view) -> np.ndarray:
    """What was sent: (H, W) or (H, W, 4)."""
    shape = (view.height, view.width) + (4,) * (view.channels == 4)
    return np.frombuffer(view.data, np.uint8).reshape(shape)


def by_name(lines: list[dict]) -> dict[str, dict]:
    return {line["name"]: line for line in lines if line["name"]}


def degraded(scale: int, fwhm: float, snr_db: float | None) -> torch.Tensor:
    """The whole computation in the plainest way, seed 0."""
    height, width = 22 // scale * scale, 35 // scale * scale
    psf = optics.gaussian_psf(fwhm, scale=scale)
    lr_hsi = optics.blur_down(GT[..., :height, :width], psf, scale)
    if snr_db is None:
        return lr_hsi
    return optics.add_noise(lr_hsi, snr_db, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def explorer() -> DegradationExplorer:
    return DegradationExplorer(SCENE)


# --- exactly the sensors' numbers ------------------------------------------------------------------------------------


@pytest.mark.parametrize("scale", range(2, 9))
def test_every_scale_is_what_the_sensors_give(explorer, scale):
    for fwhm, snr_db in ((0.5, None), (2.5, 20), (float(scale), None), (12.0, 33)):
        explorer.scale, explorer.fwhm, explorer.snr_db = scale, fwhm, snr_db
        expected = degraded(scale, fwhm, snr_db)
        assert torch.equal(explorer.lr_hsi, expected)
        assert explorer.camera.psf.shape[0] % 2 == scale % 2, "a kernel of the other parity would shift the image"
        height, width = (scale * side for side in expected.shape[2:])
        pred = optics.upsample(expected, scale)
        assert explorer.psnr_db == pytest.approx(float(metrics.psnr_db(pred, GT[..., :height, :width])), abs=1e-9)


def test_begins_as_the_workbook_degrades(explorer):
    camera = Camera.gaussian(scale=4).for_wavelengths(SCENE.wavelengths_nm)
    whole = degrade_scene(GT, camera)
    assert torch.equal(explorer.lr_hsi, whole.lr_hsi)
    assert torch.equal(explorer.camera.psf, camera.psf) and torch.equal(explorer.camera.srf, camera.srf)
    torch.testing.assert_close(explorer.msi[..., :20, :32], whole.hr_msi, rtol=0, atol=1e-7)
    assert torch.equal(explorer.msi, responses.apply_srf(GT, explorer.camera.srf))


def test_by_hand():
    image = np.zeros((4, 6, 1))
    image[:2, :2, 0] = [[0.1, 0.2], [0.3, 0.4]]
    image[3, 5] = 1
    explorer = DegradationExplorer(image, scale=2, fwhm=0.5)  # so narrow that each 2×2 pixels are averaged
    np.testing.assert_allclose(explorer.camera.psf, np.full((2, 2), 0.25))
    np.testing.assert_allclose(explorer.lr_hsi[0, 0], [[0.25, 0, 0], [0, 0, 0.25]], atol=1e-7)


def test_the_noise_is_the_same_whatever_is_moved(explorer):
    explorer.fwhm, explorer.snr_db = 3.0, 20
    narrow = (explorer.lr_hsi - degraded(4, 3.0, None)).clone()
    explorer.snr_db = 30
    np.testing.assert_allclose(explorer.lr_hsi - degraded(4, 3.0, None), narrow / math.sqrt(10), atol=1e-6)
    explorer.fwhm, explorer.snr_db = 8.0, 20
    wide = explorer.lr_hsi - degraded(4, 8.0, None)
    assert np.corrcoef(narrow.flatten(), wide.flatten())[0, 1] > 0.99
    before = explorer.lr_hsi.clone()
    explorer.sensor, explorer.pixel, explorer.scale, explorer.scale = "landsat8", (1, 2), 5, 4
    assert torch.equal(explorer.lr_hsi, before)


def test_the_noise_has_the_strength_asked_for(explorer):
    explorer.scale, explorer.snr_db = 2, 10
    clean = degraded(2, 4.0, None)
    ratio = clean.square().mean((2, 3)) / (explorer.lr_hsi - clean).square().mean((2, 3))
    assert 10 * math.log10(ratio.mean()) == pytest.approx(10, abs=0.3)


# --- the camera ------------------------------------------------------------------------------------------------------


def test_what_is_seen_comes_from_one_camera_that_can_be_taken_along(explorer):
    changes = [("scale", 5), ("fwhm", 7.5), ("snr_db", 22), ("sensor", "landsat9"), ("snr_db", None), ("scale", 3)]
    for name, value in changes:
        setattr(explorer, name, value)
        camera = explorer.camera
        height, width = (side // camera.scale * camera.scale for side in (22, 35))
        gt = GT[..., :height, :width]
        assert torch.equal(camera.observe(gt, generator=torch.Generator().manual_seed(0)), explorer.lr_hsi)
        torch.testing.assert_close(camera.see(gt), explorer.msi[..., :height, :width], rtol=0, atol=1e-6)
        assert (camera.scale, camera.snr_db, camera.sensor) == (explorer.scale, explorer.snr_db, explorer.sensor)
        assert camera.same_optics(Camera.gaussian(explorer.fwhm, explorer.scale))
    assert DegradationExplorer(GT).camera.srf is None, "no wavelengths"


@pytest.mark.parametrize("fwhm", [0.5, 1.0, 4.5, 12.0])
@pytest.mark.parametrize("scale", [2, 5, 8])
def test_begins_with_a_camera(scale, fwhm):
    camera = Camera.gaussian(fwhm, scale, sensor="landsat8", snr_db=35.0)
    explorer = DegradationExplorer(SCENE, camera=camera)
    assert (explorer.scale, explorer.fwhm, explorer.snr_db, explorer.sensor) == (scale, fwhm, 35, "landsat8")
    assert explorer.camera.differences(camera) == []
    again = DegradationExplorer(SCENE, camera=explorer.camera)
    assert again.label == explorer.label


def test_what_is_given_beside_a_camera_counts(explorer):
    camera = Camera.gaussian(6.0, 3, sensor="landsat8", snr_db=20)
    other = DegradationExplorer(SCENE, camera=camera, scale=2, snr_db=30)
    assert (other.scale, other.fwhm, other.snr_db, other.sensor) == (2, 6.0, 30, "landsat8")
    assert DegradationExplorer(GT, camera=camera).sensor is None, "no wavelengths"


# --- memory of large cubes -------------------------------------------------------------------------------------------


class Largest(TorchDispatchMode):
    """Notes the largest tensor that torch makes, views and what is written in place left out."""

    def __init__(self) -> None:
        super().__init__()
        self.numbers = 0

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        given = {x.untyped_storage().data_ptr() for x in tree_leaves((args, kwargs)) if isinstance(x, torch.Tensor)}
        result = operation(*args, **(kwargs or {}))
        for x in tree_leaves(result):
            if isinstance(x, torch.Tensor) and x.untyped_storage().data_ptr() not in given:
                self.numbers = max(self.numbers, x.numel())
        return result


@pytest.mark.parametrize("shape", [(37, 6, 10), (17, 2, 2), (3, 4, 4), (150, 22, 34), (200, 128, 128), (5, 602, 600)])
def test_noise_in_pieces_is_the_noise_of_the_whole(shape):
    gt = torch.rand(1, *shape, generator=torch.Generator().manual_seed(1))
    camera = Camera.gaussian(2.0, scale=2, snr_db=23)
    expected = camera.observe(gt, generator=torch.Generator().manual_seed(0))
    with Largest() as largest:
        given = observation.observed(gt, camera)
    assert torch.equal(given, expected)
    band = gt[0, 0].numel()
    assert largest.numbers <= max(given.numel(), 2 * max(observation.CHUNK, 16 * band))


@pytest.mark.parametrize("snr_db", [None, 23])
def test_a_camera_needs_no_second_image(monkeypatch, snr_db):
    monkeypatch.setattr(observation, "CHUNK", 10_000)
    gt = torch.rand(1, 150, 22, 34, generator=torch.Generator().manual_seed(1))
    camera = Camera.gaussian(2.0, scale=2, snr_db=snr_db)
    expected = camera.observe(gt, generator=torch.Generator().manual_seed(0))
    with Largest() as largest:
        given = observation.observed(gt, camera)
    assert torch.equal(given, expected)
    assert largest.numbers == given.numel() < gt.numel() / 3, "the result itself"
    with Largest() as largest:
        observation.upsampled_psnr_db(given, gt, camera)
    assert largest.numbers < gt.numel() / 4
    with Largest() as largest:
        seen = dataclasses.replace(camera, srf=torch.full((4, 150), 1 / 150)).see(gt)
    assert largest.numbers == seen.numel()


def test_holes_are_filled_in_the_one_copy(monkeypatch):
    monkeypatch.setattr(observation, "CHUNK", 1000)
    cube = SCENE.cube.copy()
    cube[9, 14, 3], cube[9, 15], cube[0, 0], cube[21, 20:] = np.nan, np.inf, -np.inf, np.nan
    expected, where = fill_holes(torch.from_numpy(cube.transpose(2, 0, 1)[None].copy()))
    with Largest() as largest:
        image, holes = observation.filled(cube)
    assert torch.equal(image, expected) and torch.equal(holes, where)
    assert largest.numbers < image.numel() / 20
    tracemalloc.start()
    observation.checked_scene(cube)
    assert tracemalloc.get_traced_memory()[1] < cube.nbytes / 10
    tracemalloc.stop()


def test_an_image_in_many_pieces_comes_out_the_same(monkeypatch):
    monkeypatch.setattr(observation, "CHUNK", 20_000)  # of 115,500 numbers
    explorer = DegradationExplorer(SCENE, scale=2, fwhm=3.0)
    for scale, snr_db in ((2, 20), (2, 31), (2, None), (2, 20), (3, 20), (3, 40), (2, 40), (2, None)):
        explorer.scale, explorer.snr_db = scale, snr_db
        assert torch.equal(explorer.lr_hsi, degraded(scale, 3.0, snr_db)), (scale, snr_db)


# --- what is seen ----------------------------------------------------------------------------------------------------


def test_all_three_images_lie_on_the_fine_pixels(explorer):
    explorer.snr_db = 25
    bands = list(bands_of("true colour", SCENE.wavelengths_nm))
    limits = [stretch(SCENE.cube[..., band]) for band in bands]
    np.testing.assert_array_equal(frames(explorer.gt_view), colours(SCENE.cube[..., bands], limits))
    coarse = degraded(4, 4.0, 25)[0, bands].numpy()
    fine = np.stack([np.kron(plane, np.ones((4, 4), np.float32)) for plane in coarse], -1)
    np.testing.assert_array_equal(frames(explorer.lr_view)[:20, :32], colours(fine, limits))
    assert not frames(explorer.lr_view)[20:].any() and not frames(explorer.lr_view)[:, 32:].any(), "gaps"
    red_green_blue = explorer.msi[0, [2, 1, 0]].numpy().transpose(1, 2, 0)
    own = [stretch(red_green_blue[..., number]) for number in range(3)]
    np.testing.assert_array_equal(frames(explorer.msi_view), colours(red_green_blue, own))
    names = [view.name for view in explorer.views]
    assert names == ["gt, 22×35 px", "lr_hsi, 5×8 px", "msi of sentinel2a: B04, B03, B02"]


def test_a_click_shows_both_pixels_and_what_the_sensor_sees(explorer):
    explorer.scale, explorer.snr_db = 5, 28
    explorer.lr_view.set_state({"cursor": [13, 21]})  # what messages from the browser do: the views are linked there
    explorer.gt_view.set_state({"cursor": [13, 21]})
    lines = by_name(explorer.plot.lines)
    np.testing.assert_allclose(lines["gt, fine pixel"]["y"], SCENE.cube[13, 21])
    np.testing.assert_allclose(lines["lr_hsi, coarse pixel"]["y"], degraded(5, 4.0, 28)[0, :, 2, 4])
    np.testing.assert_allclose(lines["lr_hsi, coarse pixel"]["x"], SCENE.wavelengths_nm)
    dots = [line for line in explorer.plot.lines if line["points"]]
    np.testing.assert_allclose([dot["y"][0] for dot in dots], explorer.msi[0, :, 13, 21])
    np.testing.assert_allclose([dot["x"][0] for dot in dots], [496, 560, 665, 835], atol=5)
    for view in explorer.views:
        (mark,) = view.marks
        assert [mark[key] for key in ("row", "column", "rows", "columns")] == [10, 20, 5, 5]


def test_the_label_in_full(explorer):
    explorer.scale, explorer.fwhm, explorer.snr_db, explorer.pixel = 3, 4.5, 30, (7, 34 - 2)
    fine, coarse = SCENE.cube[7, 32].astype(float), degraded(3, 4.5, 30)[0, :, 2, 10].double().numpy()
    angle = math.degrees(math.acos(fine @ coarse / np.linalg.norm(fine) / np.linalg.norm(coarse)))
    assert explorer.label == (
        f"row 7, column 32: coarse pixel (2, 10) of 7×11, {angle:.1f}° from gt · "
        f"scale 3, FWHM 4.5 px, 30 dB: upsampled PSNR {explorer.psnr_db:.2f} dB"
    )
    assert explorer.status.value == explorer.label


def test_beyond_the_last_whole_coarse_pixel(explorer):
    explorer.pixel = (21, 0)
    assert "row 21, column 0: no whole coarse pixel · scale 4" in explorer.label
    assert explorer.views[0].marks == []
    lines = by_name(explorer.plot.lines)
    assert set(lines["lr_hsi, coarse pixel"]["y"]) == {None}
    np.testing.assert_allclose(lines["gt, fine pixel"]["y"], SCENE.cube[21, 0])
    explorer.scale = 2  # 22 rows are 11 whole ones
    assert "coarse pixel (10, 0) of 11×17" in explorer.label


def test_narrower_and_finer_loses_less(explorer):
    loss = {}
    for scale, fwhm in itertools.product((2, 8), (2.0, 8.0)):
        explorer.scale, explorer.fwhm = scale, fwhm
        loss[scale, fwhm] = explorer.psnr_db
    assert loss[2, 2.0] > loss[2, 8.0] > loss[8, 8.0]
    assert loss[2, 2.0] > loss[8, 2.0]


# --- the sensor ------------------------------------------------------------------------------------------------------


def test_sensors_that_the_scene_covers():
    pines = load_scene("indian_pines").wavelengths_nm
    covered = observation.covered_bands(pines)
    assert list(covered) == list(responses.SENSORS)
    assert set(responses.load_rsr("sentinel2a")) - set(covered["sentinel2a"]) == {"B10"}  # in the water-vapour gap
    for sensor, bands in covered.items():
        assert responses.srf_matrix(pines, sensor=sensor, bands=bands).shape == (len(bands), 200)
    assert observation.covered_bands(None) == {}
    assert observation.covered_bands(np.linspace(1000, 2400, 40)) == {}, "no visible light"
    assert observation.covered_bands([550.0]) == {}, "one band"


def test_another_sensor_and_all_of_its_bands(explorer):
    explorer.sensor = "landsat8"
    assert explorer.msi_view.name == "msi of landsat8: B4, B3, B2"
    assert torch.equal(explorer.camera.srf, responses.srf_matrix(SCENE.wavelengths_nm, sensor="landsat8"))
    before = frames(explorer.msi_view).copy()
    colour = by_name(explorer.srf_plot.lines)["B4"]["colour"]
    explorer.bands_chooser.value = ALL
    assert explorer.camera.bands == explorer.covered["landsat8"] and len(explorer.camera.bands) > 4
    assert explorer.msi.shape[1] == len(explorer.camera.bands) == len(explorer.srf_plot.lines)
    np.testing.assert_array_equal(frames(explorer.msi_view), before)
    assert by_name(explorer.srf_plot.lines)["B4"]["colour"] == colour, "a band keeps its colour"
    explorer.bands_chooser.value = FOUR
    assert explorer.camera.bands == ("B2", "B3", "B4", "B5")


def test_responses_are_the_matrix_with_peak_1():
    scene = load_scene("indian_pines").crop(0, 0, 8, 9)
    explorer = DegradationExplorer(scene)
    explorer.bands_chooser.value = ALL
    order = np.argsort(scene.wavelengths_nm, kind="stable")
    looks = set()
    for row, (name, line) in zip(explorer.camera.srf.numpy(), by_name(explorer.srf_plot.lines).items(), strict=True):
        x, y = (np.array([np.nan if v is None else v for v in line[key]], float) for key in "xy")
        lower, upper = responses.band_edges(scene.wavelengths_nm)
        means = row / (upper - lower)
        np.testing.assert_allclose(y[y > 0], (means / means.max())[order][row[order] > 0])
        np.testing.assert_array_equal(x[y > 0], scene.wavelengths_nm[order][row[order] > 0])
        assert np.nanmax(y) == 1, name
        looks.add((line["colour"], line["dash"]))
    assert len(looks) == 12, "told apart"


def test_responses_are_the_means_of_the_table_over_uneven_cells():
    nm = 401.0 + np.cumsum(np.tile([4, 10, 6, 8], 22))  # steps from band to band
    nm = nm[np.random.default_rng(0).permutation(len(nm))]
    ascending = np.sort(nm)
    steps = np.diff(ascending)
    half = np.concatenate([[np.median(steps)], steps, [np.median(steps)]]) / 2
    for sensor in ("sentinel2a", "landsat8"):
        srf = responses.srf_matrix(nm, sensor=sensor)
        styles = dict.fromkeys(responses.SENSORS[sensor], ("red", ""))
        for one in observation.response_lines(srf.numpy(), nm, styles):
            table_nm, response = responses.load_rsr(sensor)[one["name"]]
            fine = np.arange(380, 1100, 0.01) + 0.005  # each entry of the table stands for ± 0.5 nm
            near = np.rint(fine - table_nm[0]).astype(int)
            inside = (near >= 0) & (near < len(response))
            value = np.where(inside, response[np.clip(near, 0, len(response) - 1)], 0)
            cells = zip(ascending - half[:-1], ascending + half[1:])
            means = np.array([value[(fine > low) & (fine < high)].mean() for low, high in cells])
            shown = dict(zip(one["x"], one["y"]))
            expected = {centre: mean / means.max() for centre, mean in zip(ascending, means) if mean > 0}
            assert {x for x, y in shown.items() if y} == set(expected)
            for centre, mean in expected.items():
                assert shown[centre] == pytest.approx(mean, abs=1e-5)


def test_a_wavelength_that_occurs_more_than_once_has_no_response_of_its_own():
    nm = np.array([500.0, 510, 520, 520, 520, 530, 540])
    srf = np.array([[0, 0.2, 0.2, 0, 0.2, 0.4, 0]])
    (one,) = observation.response_lines(srf, nm, {"a": ("red", "")})
    assert one["x"] == [500, 510, 520, 520, 530, 540]
    np.testing.assert_allclose(one["y"], [0, 0.5, 1, 1, 1, 0])


def test_responses_end_where_the_weight_does():
    srf = np.array([[0, 0, 0.5, 0.25, 0.25, 0, 0], [1.0, 0, 0, 0, 0, 0, 0]])
    first, second = observation.response_lines(srf, np.arange(500.0, 570, 10), {"a": ("red", ""), "b": ("blue", "7 4")})
    assert (first["x"], first["y"]) == ([510, 520, 530, 540, 550], [0, 1, 0.5, 0.5, 0])
    assert (second["x"], second["y"]) == ([500, 510], [1, 0])


def test_the_psf_is_drawn_with_its_own_weights():
    for scale, fwhm in ((4, 4.0), (3, 2.5), (8, 0.5)):
        psf = optics.gaussian_psf(fwhm, scale=scale)
        lines = by_name(observation.psf_lines(psf, fwhm, scale, 12.0))
        steps, curve = lines["weights"], lines["Gaussian"]
        heights = np.array(steps["y"][1:-1:2])
        np.testing.assert_allclose(heights / heights.sum(), psf.sum(0), rtol=1e-5)
        centres = (np.array(steps["x"][1:-1:2]) + np.array(steps["x"][2::2])) / 2
        np.testing.assert_allclose(heights, 2 ** -((2 * centres / fwhm) ** 2), rtol=1e-4)  # on the curve
        half = np.interp(fwhm / 2, curve["x"], curve["y"])
        assert half == pytest.approx(0.5, abs=0.01)
        assert lines["FWHM"]["x"] == [-fwhm / 2, fwhm / 2] and lines["coarse px"]["x"] == [-scale / 2, scale / 2]


# --- gaps, no wavelengths, one band ----------------------------------------------------------------------------------


def test_a_coarse_pixel_that_reads_a_gap_is_one():
    cube = SCENE.cube.copy()
    cube[9, 14, 3] = np.nan  # one value is enough
    explorer = DegradationExplorer(cube, wavelengths_nm=SCENE.wavelengths_nm, scale=3, fwhm=2.0)
    side = len(explorer.camera.psf)
    assert side == 7
    gaps = torch.isnan(explorer.lr_hsi)
    for row, column in itertools.product(range(7), range(11)):
        reads = abs(9 - (3 * row + 1)) <= side // 2 and abs(14 - (3 * column + 1)) <= side // 2
        assert gaps[0, :, row, column].all() == gaps[0, :, row, column].any() == reads, (row, column)
    assert frames(explorer.gt_view)[9, 14, 3] == frames(explorer.msi_view)[9, 14, 3] == 0, "drawn as gaps"
    shown = frames(explorer.lr_view)[:21, :33, 3].reshape(7, 3, 11, 3)
    np.testing.assert_array_equal(shown[:, 1, :, 1] == 0, gaps[0, 0])


def test_away_from_a_gap_nothing_changes_and_it_does_not_count():
    cube = SCENE.cube.copy()
    cube[9, 14] = np.inf
    explorer = DegradationExplorer(cube, wavelengths_nm=SCENE.wavelengths_nm)
    whole = degraded(4, 4.0, None)
    kept = ~torch.isnan(explorer.lr_hsi)
    torch.testing.assert_close(explorer.lr_hsi[kept], whole[kept], rtol=0, atol=1e-6)
    explorer.pixel = (9, 14)
    assert "coarse pixel (2, 3) of 5×8 reads a gap" in explorer.label
    assert all(set(line["y"]) == {None} for line in explorer.plot.lines)
    assert 10 < explorer.psnr_db < 60
    explorer.pixel = (20, 33)  # finite, and outside
    assert "no whole coarse pixel" in explorer.label


def test_the_loss_leaves_gaps_out():
    gt = torch.rand(1, 3, 9, 8, generator=torch.Generator().manual_seed(0))
    camera = Camera.gaussian(scale=2)
    lr_hsi = camera.downsample(gt[..., :8, :])
    gaps = torch.zeros(1, 1, 4, 4, dtype=torch.bool)
    gaps[..., 1, 2] = True
    error = (optics.upsample(lr_hsi, 2) - gt[..., :8, :])[0].numpy().astype(float)
    error[:, 2:4, 4:6] = np.nan
    by_hand = np.mean(10 * np.log10(1 / np.nanmean(error**2, axis=(1, 2))))
    assert observation.upsampled_psnr_db(lr_hsi, gt, camera, gaps) == pytest.approx(by_hand, abs=1e-6)
    assert math.isnan(observation.upsampled_psnr_db(lr_hsi, gt, camera, ~gaps | gaps))


def test_gaps_everywhere_are_told():
    cube = np.full((6, 8, 2), 0.5)
    cube[::3, ::3] = np.nan
    explorer = DegradationExplorer(cube, fwhm=6.0)
    assert torch.isnan(explorer.lr_hsi).all()
    assert explorer.label.endswith("upsampled no data")


def test_without_wavelengths():
    explorer = DegradationExplorer(GT)
    assert len(explorer.views) == 2 and explorer.msi is None and explorer.sensor is None
    assert "no wavelengths" in explorer.describe() and "no multispectral sensor" in explorer.describe()
    assert "No multispectral sensor: no wavelengths are known." in str([w.value for w in widgets(explorer, "HTML")])
    assert [w.description for w in widgets(explorer, "Dropdown")] == []
    assert explorer.plot.x_label == "band number (no wavelengths known)"
    explorer.band_slider.index = 7
    limits = stretch(SCENE.cube[..., 7])
    np.testing.assert_array_equal(frames(explorer.gt_view), quantise(SCENE.cube[..., 7], limits))
    coarse = np.kron(degraded(4, 4.0, None)[0, 7].numpy(), np.ones((4, 4), np.float32))
    np.testing.assert_array_equal(frames(explorer.lr_view)[:20, :32], quantise(coarse, limits))
    assert explorer.gt_view.limits == explorer.lr_view.limits == [list(limits)]


def widgets(explorer, kind: str) -> list:
    """All widgets of one kind inside."""
    found, waiting = [], [explorer]
    while waiting:
        one = waiting.pop()
        waiting += getattr(one, "children", ())
        found += [one] * (type(one).__name__ == kind)
    return found


def test_wavelengths_without_visible_light():
    explorer = DegradationExplorer(GT, wavelengths_nm=np.linspace(1000, 2400, 150))
    assert "the wavelengths cover none" in str([w.value for w in widgets(explorer, "HTML")])
    assert explorer.plot.x_label == "wavelength (nm)"
    assert "1700 nm" in explorer.band_slider.label or "1705 nm" in explorer.band_slider.label


def test_one_band():
    explorer = DegradationExplorer(SCENE.cube[..., :1], wavelengths_nm=[650.0], scale=3)
    assert widgets(explorer, "Dropdown") == []
    assert {w.description for w in widgets(explorer, "SelectionSlider")} == {"PSF FWHM (fine px)", "SNR of lr_hsi"}
    assert "° from gt" not in explorer.label, "one band has no angle"
    assert all(line["points"] for line in explorer.plot.lines)
    assert explorer.plot.positions == []


# --- manners ---------------------------------------------------------------------------------------------------------


def test_sliders_move_neither_the_cursor_nor_each_other(explorer):
    echoes = []
    moved = [explorer.scale_slider, explorer.fwhm_slider, explorer.snr_slider]
    for view in explorer.views:
        view.observe(lambda change: echoes.append(change["name"]), ["cursor", "zoom", "pins", "frame"])
    for slider in moved:
        slider.observe(lambda change: echoes.append(change["owner"].description), "value")
    explorer.scale, explorer.fwhm, explorer.snr_db = 7, 2.0, 15
    assert echoes == [slider.description for slider in moved]


def test_numbers_of_numpy_are_numbers(explorer):
    other = DegradationExplorer(SCENE, scale=np.int64(3), fwhm=np.float32(2.5), snr_db=np.int32(30))
    explorer.scale, explorer.fwhm, explorer.snr_db = 3, 2.5, 30
    assert other.label == explorer.label and "scale 3, FWHM 2.5 px, 30 dB" in other.label
    other.fwhm = np.int64(6)
    assert [type(value) for value in (other.scale, other.fwhm, other.snr_db)] == [int, float, int]


def test_the_width_is_sent_as_a_place_in_a_list(explorer):
    """A number would come back from the browser as 3.9999999999999996, and everything would be computed again."""
    assert [explorer.fwhm_slider.options[n] for n in (0, 1, 7, 23)] == [
        ("0.5", 0.5),
        ("1.0", 1),
        ("4.0", 4),
        ("12.0", 12),
    ]
    assert len(explorer.fwhm_slider.options) == 24 and "value" not in explorer.fwhm_slider.keys
    clean = explorer.lr_hsi
    explorer.fwhm_slider.set_state({"index": 7})  # as shown
    assert explorer.lr_hsi is clean
    explorer.fwhm_slider.set_state({"index": 8})
    assert explorer.fwhm == 4.5 and explorer.lr_hsi is not clean


def test_every_control_has_an_effect(explorer):
    def state() -> list:
        lines = [plot.lines for plot in (explorer.plot, explorer.srf_plot, explorer.psf_plot)]
        return [[view.data for view in explorer.views], lines, explorer.label]

    changes = [("scale", 5), ("fwhm", 7.5), ("snr_db", 22), ("sensor", "landsat9"), ("pixel", (3, 4))]
    for name, value in changes:
        before = state()
        setattr(explorer, name, value)
        assert getattr(explorer, name) == value
        assert state() != before, name
    before = state()
    explorer.bands_chooser.value = ALL
    assert state() != before


def test_fixed_text_and_a_picture(explorer):
    sensors = ", ".join(responses.SENSORS)
    text = f"DegradationExplorer(synthetic_3: 22×35 px, 150 band(s), 420 … 2450 nm; {sensors})"
    assert repr(explorer) == text
    bundle = explorer._repr_mimebundle_()
    assert bundle["text/plain"] == text
    assert bundle["image/png"][:4] == b"\x89PNG"
    assert len(explorer.picture().findobj(lambda artist: hasattr(artist, "get_xlabel"))) == 6


def test_what_is_given_stays_as_it_was():
    cube = SCENE.cube[..., :1].copy()
    cube[3, 3] = np.nan
    before = cube.copy()
    DegradationExplorer(cube).snr_db = 20
    np.testing.assert_array_equal(cube, before)
    image = torch.full((1, 1, 4, 4), math.nan)
    image[..., 0] = 0.5
    DegradationExplorer(image)
    assert int(torch.isnan(image).sum()) == 12


@pytest.mark.parametrize(
    ("scene", "options", "error", "message"),
    [
        ("pines", {}, TypeError, r"`scene` must be a Scene, an array \(H, W, C\) or a tensor \(1, C, H, W\), got str"),
        (np.zeros((4, 4, 2), complex), {}, ValueError, "`scene` must be numbers"),
        (np.zeros((4, 4, 0)), {}, ValueError, "`scene` must be numbers"),
        (torch.zeros(2, 3, 4, 4), {}, ValueError, r"`scene` must be one array .*, got shape \(2, 3, 4, 4\)"),
        (torch.zeros(5), {}, ValueError, r"`scene` must be one array .*, got shape \(5,\)"),
        (np.zeros(5), {}, ValueError, r"`scene` must be one array .*, got shape \(5,\)"),
        (np.zeros((2, 4, 4, 3)), {}, ValueError, r"`scene` must be one array .*, got shape \(2, 4, 4, 3\)"),
        (np.zeros((4, 1, 2)), {}, ValueError, "`scene` must be at least 2×2 px, got 4×1"),
        (np.full((4, 4, 2), 1200), {}, ValueError, r"`scene` must be in \[0, 1\], got values from 1200 to 1200"),
        (np.full((4, 4, 2), np.nan), {}, ValueError, "`scene` must be finite in at least one pixel"),
        (SCENE.cube[:3], {}, ValueError, "`scale` must be a whole number from 2 to 3, got 4"),
        (SCENE, {"scale": 9}, ValueError, "`scale` must be a whole number from 2 to 8, got 9"),
        (SCENE, {"scale": 2.5}, ValueError, "`scale` must be a whole number from 2 to 8, got 2.5"),
        (SCENE, {"fwhm": 0.4}, ValueError, r"`fwhm` must be one of the multiples of 0.5 from 0.5 to 12 .*, got 0.4"),
        (SCENE, {"fwhm": 12.5}, ValueError, r"`fwhm` must be one of the multiples of 0.5 from 0.5 to 12 .*, got 12.5"),
        (SCENE, {"fwhm": 3.9999999999999996}, ValueError, "`fwhm` must be one of the multiples of 0.5 from 0.5 to 12"),
        (SCENE, {"fwhm": math.nan}, ValueError, r"`fwhm` must be one of the multiples of 0.5 .*, got nan"),
        (SCENE, {"fwhm": "4"}, ValueError, "`fwhm` must be one of the multiples of 0.5 from 0.5 to 12 .*, got '4'"),
        (SCENE, {"scale": True}, ValueError, "`scale` must be a whole number from 2 to 8, got True"),
        (SCENE, {"scale": np.int64(9)}, ValueError, "`scale` must be a whole number from 2 to 8, got 9"),
        (SCENE, {"snr_db": np.float64(20)}, ValueError, "`snr_db` must be a whole number from 10 to 50"),
        (SCENE, {"snr_db": 9}, ValueError, "`snr_db` must be a whole number from 10 to 50, got 9"),
        (SCENE, {"sensor": "modis"}, ValueError, "`sensor` must be one of 'sentinel2a', .*, got 'modis'"),
        (SCENE.cube, {"sensor": "landsat8"}, ValueError, "`sensor` must be left out: the scene's wavelengths cover no"),
        (SCENE, {"camera": 4}, TypeError, "`camera` must be a `Camera`, got int"),
        (SCENE, {"camera": Camera.gaussian(scale=9)}, ValueError, "`camera` must be of a scale from 2 to 8, got 9"),
        (SCENE, {"camera": Camera.gaussian(snr_db=30.5)}, ValueError, "`camera` must be of no noise, .*, got 30.5 dB"),
        (SCENE, {"camera": Camera.gaussian(snr_db=55)}, ValueError, "of 10 to 50 dB, a whole number, got 55 dB"),
        (SCENE, {"camera": Camera.gaussian((4.0, 6.0))}, ValueError, "of a Gaussian blur .* a blur of 4.00×5.98 px"),
        (SCENE, {"camera": Camera.gaussian(4.2)}, ValueError, "of a FWHM from 0.5 to 12 px .*, got a blur of 4.2"),
        (SCENE, {"wavelengths_nm": [500.0]}, ValueError, r"`wavelengths_nm` must be 150 finite number"),
    ],
)  # fmt: skip
def test_errors(scene, options, error, message):
    with pytest.raises(error, match=message):
        DegradationExplorer(scene, **options)


def test_a_place_outside(explorer):
    with pytest.raises(ValueError, match=r"`pixel` must be \(row, column\) inside 22×35 px, got \(22, 0\)"):
        explorer.pixel = (22, 0)


def test_a_large_cube_says_that_it_computes(explorer, monkeypatch):
    said = []
    explorer.status.observe(lambda change: said.append(change["new"]), "value")
    monkeypatch.setattr("ctmem.explorers.degradation.SLOW", 1000)
    explorer.scale = 2
    assert said == ["computing …", explorer.label]
