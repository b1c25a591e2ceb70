"""ctmem/explorers/recording.py and diffusion.py without a browser: what is kept of a run, and what is shown of it."""

from __future__ import annotations

import inspect
import re
from dataclasses import replace

import numpy as np
import pytest
import torch

from ctmem.config import TINY
from ctmem.data.scenes import synthetic
from ctmem.evaluation.metrics import psnr_db, sam_deg
from ctmem.explorers import DiffusionExplorer, record
from ctmem.explorers.diffusion import at_least_wide, composites, curve_lines
from ctmem.explorers.recording import measure, spread
from ctmem.explorers.render import colours, quantise, stretch
from ctmem.inference import super_resolve
from ctmem.model import Model, build_networks
from ctmem.observe.camera import Camera

PRESET = replace(
    TINY, timesteps=50, kernel_width=16, cnn_width=8, denoiser=replace(TINY.denoiser, width=8, state=2, cim_blocks=1)
)
SCENE = synthetic(3, height=12, width=20, bands=31)
GT = SCENE.tensor()
CAMERA = Camera.gaussian(scale=4).for_wavelengths(SCENE.wavelengths_nm)
LR_HSI = CAMERA.downsample(GT)
REF_MSI = torch.rand(1, 4, 21, 33, generator=torch.Generator().manual_seed(1))
STEPS, DRAWS = 5, 3


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def model() -> Model:
    """Random weights whose last layer is not zero, so that every input has an effect."""
    torch.manual_seed(0)
    networks = build_networks(PRESET)
    torch.nn.init.normal_(networks["denoiser"].fusion[-1].weight, std=0.05)
    return Model(PRESET, **{part: n.eval().requires_grad_(False) for part, n in networks.items()}, card={})


@pytest.fixture(scope="module")
def run(model):
    return record(model, LR_HSI, REF_MSI, camera=CAMERA, steps=STEPS, draws=DRAWS, generator=seeded())


@pytest.fixture
def explorer(run) -> DiffusionExplorer:
    return DiffusionExplorer(run, target=SCENE)


def frames(view) -> np.ndarray:
    """What was sent: (frames, H, W) or (frames, H, W, 4)."""
    shape = (view.height, view.width) + (4,) * (view.channels == 4)
    return np.frombuffer(view.data, np.uint8).reshape(-1, *shape)


def named(plot, name: str) -> dict:
    """The line with this name."""
    (found,) = [line for line in plot.lines if line["name"] == name]
    return found


def everything(widget) -> list:
    """The widget and all that is inside."""
    return [widget, *(one for child in getattr(widget, "children", ()) for one in everything(child))]


def axes_of(explorer) -> list:
    """The axes of its picture, but not those of colour bars."""
    axes = explorer.picture().findobj(lambda artist: hasattr(artist, "get_xlabel"))
    return [ax for ax in axes if ax.get_label() != "<colorbar>"]


# --- the recording ----------------------------------------------------------------------------------------------------


def test_a_recording_is_what_super_resolve_does(model, run):
    seen = []
    options = {"camera": CAMERA, "steps": STEPS, "consistency": False}
    super_resolve(
        model, LR_HSI, REF_MSI, draws=DRAWS, generator=seeded(), callback=lambda *all: seen.append(all), **options
    )
    assert [number for number, *_ in seen] == list(range(STEPS)) * DRAWS
    assert run.times == tuple(t for _, t, *_ in seen[:STEPS]) == (49, 39, 29, 19, 9)
    for place, (_, _, x_t, x0) in enumerate(seen):
        draw, step = divmod(place, STEPS)
        assert torch.equal(run.x_t[draw, step], x_t[0]) and torch.equal(run.x0[draw, step], x0[0])
    assert not torch.equal(run.x_t[0], run.x_t[1])


def test_the_answer_is_that_of_super_resolve(model, run):
    pred = super_resolve(model, LR_HSI, REF_MSI, camera=CAMERA, steps=STEPS, draws=1, generator=seeded())
    torch.testing.assert_close(run.estimate(0, STEPS), pred)
    assert run.answers.shape == (DRAWS, 31, 12, 20)
    assert (run.draws, run.steps, run.shape) == (DRAWS, STEPS, (12, 20, 31))


def test_noise_levels_by_hand(run):
    """Of a chain of 50 steps: those of every twentieth of the thousand over which β turns data into noise."""
    alpha_bar = np.cumprod(1 - np.linspace(1e-4, 2e-2, 1000))[19::20]
    np.testing.assert_allclose(run.levels, np.sqrt(alpha_bar)[[49, 39, 29, 19, 9]], rtol=1e-6)


def test_parts_are_those_of_the_whole(run):
    for cube_of in (run.noisy, run.estimate):
        for position in (0, 3, STEPS):
            whole = cube_of(1, position)
            assert whole.shape == GT.shape
            torch.testing.assert_close(cube_of(1, position, bands=(30, 2, 7)), whole[:, [30, 2, 7]])
            torch.testing.assert_close(cube_of(1, position, pixel=(4, 17)), whole[..., 4:5, 17:18])


def test_channels_become_spectra_by_hand(run):
    space, base = run.encoded.space, run.encoded.base[0, :, 4, 17].double()
    z = run.x_t[2, 1, :, 4, 17].double()
    up = run.encoded.lr_hsi_up[0, :, 4, 17].double()
    expected = up + (space.basis.double() * space.std.double()) @ (z - base)[: space.channels]
    torch.testing.assert_close(run.noisy(2, 1)[0, :, 4, 17].double(), expected, atol=1e-5, rtol=1e-5)


def test_the_chain_ends_in_its_last_estimate(run):
    torch.testing.assert_close(run.noisy(1, STEPS), run.estimate(1, STEPS - 1))


def test_answers_degrade_to_the_observation(run):
    again = CAMERA.downsample(run.answers)
    assert all(float((one - LR_HSI[0]).norm() / LR_HSI.norm()) < 2e-3 for one in again)


def test_spread_is_the_deviation_of_the_decoded_draws(run):
    maps = spread(run)
    assert maps.shape == (STEPS + 1, 12, 20)
    for position in range(STEPS + 1):
        cubes = np.concatenate([run.estimate(draw, position).double().numpy() for draw in range(DRAWS)])
        np.testing.assert_allclose(maps[position], np.sqrt(cubes.var(0, ddof=1).mean(0)), atol=2e-6)


def test_figures_are_those_of_the_metrics(run):
    figures = measure(run, GT)
    for position in range(STEPS + 1):
        preds = [run.estimate(draw, position) for draw in range(DRAWS)]
        for row, pred in enumerate([*preds, sum(preds) / DRAWS]):
            np.testing.assert_allclose(figures.psnr_db[row, position], float(psnr_db(pred, GT)), rtol=1e-5)
            np.testing.assert_allclose(figures.sam_deg[row, position], float(sam_deg(pred, GT)), rtol=1e-4)
        for draw, pred in enumerate(preds):
            expected = np.sqrt(((pred - GT)[0].double().numpy() ** 2).mean(0))
            np.testing.assert_allclose(figures.error[draw, position], expected, atol=1e-6)


def test_holes_of_the_target_are_left_out(run):
    holed = GT.clone()
    holed[:, 5, :4, :] = torch.nan  # one band is enough
    figures, below = measure(run, holed), run.estimate(1, 2)[:, :, 4:]
    assert np.isnan(figures.error[..., :4, :]).all() and np.isfinite(figures.error[..., 4:, :]).all()
    np.testing.assert_allclose(figures.psnr_db[1, 2], float(psnr_db(below, GT[:, :, 4:])))
    np.testing.assert_allclose(figures.sam_deg[1, 2], float(sam_deg(below, GT[:, :, 4:])))


def test_inference_is_not_told_the_truth():
    assert not {"gt", "target", "hr_msi"} & set(inspect.signature(record).parameters)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"lr_hsi": LR_HSI.repeat(2, 1, 1, 1)},
            r"`lr_hsi` must be one image, shape \(1, C, H, W\), got shape \(2, 31, 3, 5\)",
        ),
        ({"lr_hsi": LR_HSI * torch.nan}, "`lr_hsi` must be finite in at least one pixel, got NaN or infinite values"),
        ({"draws": 0}, "`draws` must be a whole number ≥ 1, got 0"),
        ({"steps": 51}, "`steps` must be a whole number from 1 to 50, got 51"),
        ({"camera": None}, "`camera` must be one with `srf`"),
    ],
)
def test_what_record_refuses(model, change, message):
    arguments = {"lr_hsi": LR_HSI, "ref_msi": REF_MSI, "camera": CAMERA, **change}
    with pytest.raises(ValueError, match=message):
        record(model, arguments.pop("lr_hsi"), arguments.pop("ref_msi"), **arguments)


def test_a_sampler_is_no_name(model):
    with pytest.raises(TypeError, match="`sampler` must be a function such as `sample_ddim`, got 'ddim'"):
        record(model, LR_HSI, sampler="ddim")


def test_recording_needs_a_model():
    with pytest.raises(TypeError, match="`model` must be a model, as `load_model` returns it, got NoneType"):
        record(None, LR_HSI, REF_MSI, camera=CAMERA)


# --- the explorer -----------------------------------------------------------------------------------------------------


def test_images_have_the_stretch_of_the_target(explorer, run):
    bands = composites(31, SCENE.wavelengths_nm)["true colour"]
    limits = [stretch(SCENE.cube[..., band]) for band in bands]
    for view, cube_of in zip(explorer.views, (run.noisy, run.estimate)):
        sent = frames(view)
        assert sent.shape == (STEPS + 1, 12, 20, 4)
        for position in range(STEPS + 1):
            cube = cube_of(0, position)[0].movedim(0, -1).numpy()
            drawn = colours(cube[..., list(bands)], limits).astype(int)
            assert np.abs(sent[position].astype(int) - drawn).max() <= 1


def test_error_and_uncertainty_have_one_scale_each(explorer, run):
    error, uncertainty = explorer.views[2:]
    limits = (0.0, float(np.percentile(explorer.figures.error, 99)))
    maps = {}
    for draw in range(DRAWS):
        explorer.draw = draw
        np.testing.assert_allclose(error.limits, [limits] * (STEPS + 1), rtol=1e-6)
        maps[draw] = frames(error)
        expected = [quantise(one, tuple(error.limits[0])) for one in explorer.figures.error[draw]]
        np.testing.assert_array_equal(maps[draw], expected)
        np.testing.assert_array_equal(
            frames(uncertainty), [quantise(m, tuple(uncertainty.limits[0])) for m in spread(run)]
        )
    assert not np.array_equal(maps[0], maps[1])


def test_a_click_shows_the_spectra_of_that_pixel(explorer, run):
    explorer.step = 2
    explorer.views[0].set_state({"cursor": [3, 7]})  # what a message from the browser does
    spectra = explorer.spectra
    assert set(spectra) == {"x_t", "x0", "lr_hsi_up", "target"}
    np.testing.assert_allclose(spectra["x_t"], run.noisy(0, 2)[0, :, 3, 7], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(spectra["x0"], run.estimate(0, 2)[0, :, 3, 7], rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(spectra["target"], SCENE.cube[3, 7])
    np.testing.assert_array_equal(spectra["lr_hsi_up"], run.encoded.lr_hsi_up[0, :, 3, 7])
    for key, name in (("x_t", "x_t"), ("x0", "x̂0"), ("lr_hsi_up", "lr_hsi_up"), ("target", "target")):
        np.testing.assert_allclose(named(explorer.plot, name)["y"], spectra[key], rtol=1e-6)
        np.testing.assert_allclose(named(explorer.plot, name)["x"], SCENE.wavelengths_nm)


def test_the_label_says_step_figures_and_values(explorer, run):
    explorer.draw, explorer.step, explorer.pixel = 1, 2, (3, 7)
    pred = run.estimate(1, 2)
    error = float((pred - GT)[0, :, 3, 7].square().mean().sqrt())
    expected = (
        f"draw 1, step 2 (t = 29): {float(psnr_db(pred, GT)):.2f} dB, {float(sam_deg(pred, GT)):.2f}° · row 3, column 7: "
        f"error {error:.4f}, deviation of the draws {spread(run)[2, 3, 7]:.4f}"
    )
    assert explorer.label == explorer.status.value == expected
    explorer.step = STEPS
    assert explorer.label.startswith("draw 1, the answer, back-projected: ")


def test_the_slider_moves_in_the_browser_and_python_answers(explorer):
    explorer.step = frame = 3
    before = explorer.plot.lines
    explorer.slider.set_state({"index": 0})
    assert explorer.step == 0
    assert named(explorer.plot, "x̂0")["y"] == pytest.approx(explorer.spectra["x0"].tolist())
    assert explorer.plot.lines != before
    assert "step 0 (t = 49)" in explorer.status.value
    # the browser moves the frame and the markers itself: an echo from Python would pull the hand back
    assert explorer.views[0].frame == frame
    assert explorer.curves[0].marker == frame


def test_setting_the_step_moves_everything(explorer):
    explorer.step = 1
    assert [view.frame for view in explorer.views] == [1] * 4
    assert [curve.marker for curve in explorer.curves] == [1, 1]
    assert explorer.slider.index == explorer.step == 1


def test_begins_where_half_of_the_noise_is_left(model):
    run = record(model, LR_HSI, steps=5, draws=1, generator=seeded())
    explorer = DiffusionExplorer(replace(run, levels=(0.0, 0.2, 0.55, 0.8, 0.9)))
    assert explorer.step == 2
    assert explorer.pixel == (6, 10)


def test_choosing_a_draw_changes_images_curves_and_spectra(explorer):
    sent = [view.data for view in explorer.views]
    explorer.draw_of.set_state({"index": 2})
    assert explorer.draw == 2
    changed = [view.data != old for view, old in zip(explorer.views, sent)]
    assert changed == [True, True, True, False]  # the uncertainty is that of all draws
    for curve, values in zip(explorer.curves, (explorer.figures.psnr_db, explorer.figures.sam_deg)):
        assert named(curve, "this draw")["y"] == pytest.approx(values[2, :-1])
        assert named(curve, "mean of the draws")["y"] == pytest.approx(values[-1, :-1])
        assert curve.limits == [values.min(), values.max()] or values.max() - values.min() < 0.1


def test_the_spectrum_axis_stays_while_the_slider_moves(explorer, run):
    explorer.pixel = (5, 2)
    cubes = [cube_of(0, p)[0, :, 5, 2].numpy() for cube_of in (run.noisy, run.estimate) for p in range(STEPS + 1)]
    every = np.concatenate([*cubes, SCENE.cube[5, 2], run.encoded.lr_hsi_up[0, :, 5, 2].numpy()])
    for step in (0, 3, STEPS):
        explorer.step = step
        np.testing.assert_allclose(explorer.plot.limits, [every.min(), every.max()], rtol=1e-5)


def test_another_composite_changes_the_images_alone(explorer):
    sent = [view.data for view in explorer.views]
    other = next(name for name in explorer.show.options if name != explorer.show.value)
    explorer.show.value = other
    assert [view.data != old for view, old in zip(explorer.views, sent)] == [True, True, False, False]


def test_every_control_is_in_the_layout(explorer):
    inside = everything(explorer)
    assert all(control in inside for control in (explorer.draw_of, explorer.show, explorer.slider, explorer.status))
    assert all(widget in inside for widget in (*explorer.views, explorer.plot, *explorer.curves))
    assert explorer.notes == []


def test_without_a_target(run):
    explorer = DiffusionExplorer(run)
    assert [view.name for view in explorer.views] == ["x_t, what goes in", "x̂0, what comes out", "deviation of 3 draws"]
    assert explorer.curves == [] and set(explorer.spectra) == {"x_t", "x0", "lr_hsi_up"}
    explorer.step = STEPS
    value = spread(run)[STEPS, 6, 10]
    assert explorer.label == (
        f"draw 0, the answer, back-projected · row 6, column 10: deviation of the draws {value:.4f}"
    )
    assert explorer.notes[0] == "No target: no error and no curves."
    assert len(axes_of(explorer)) == 4


def test_without_wavelengths_bands_are_counted(run):
    explorer = DiffusionExplorer(run, target=GT)
    assert explorer.plot.x_label == "band number (no wavelengths known)"
    assert named(explorer.plot, "target")["x"] == list(range(31))
    said = "No wavelengths: bands are counted, the images are of bands 25, 15, 5 as red, green, blue."
    assert explorer.notes == [said]
    assert explorer.show not in everything(explorer)  # one way to show it: nothing to choose


def test_one_draw_has_no_uncertainty(model):
    run = record(model, LR_HSI, REF_MSI, camera=CAMERA, steps=2, draws=1, generator=seeded())
    explorer = DiffusionExplorer(run, target=SCENE)
    assert [view.name for view in explorer.views][-1] == "error: |x̂0 − target|" and len(explorer.views) == 3
    assert explorer.notes == ["One draw: no uncertainty."]
    assert explorer.draw_of not in everything(explorer)
    assert "deviation" not in explorer.label
    assert {line["name"] for line in explorer.curves[0].lines} == {"this draw", ""}
    with pytest.raises(ValueError, match="`run` must be of at least 2 draws, to see how far they differ, got 1"):
        spread(run)


def test_one_step_has_two_positions(model):
    run = record(model, LR_HSI, steps=1, draws=2, generator=seeded())
    explorer = DiffusionExplorer(run, target=SCENE)
    assert [text for text, _ in explorer.slider.options] == [f"0 · noise level {run.levels[0]:.2f}", "answer"]
    assert all(line["points"] for curve in explorer.curves for line in curve.lines)
    explorer.step = 1
    assert explorer.views[1].frame == 1


def test_one_band(model):
    run = record(model, LR_HSI[:, :1], steps=2, draws=2, generator=seeded())
    explorer = DiffusionExplorer(run, target=GT[:, :1], wavelengths_nm=[550.0])
    assert [curve.y_label for curve in explorer.curves] == ["PSNR (dB)"]
    assert "°" not in explorer.label and " dB" in explorer.label
    assert all(line["points"] for line in explorer.plot.lines)
    explorer.picture()


def test_pixels_without_an_observation(model):
    lr_hsi = LR_HSI.clone()
    lr_hsi[:, 4, 1, 2] = torch.nan
    run = record(model, lr_hsi, camera=CAMERA, steps=2, draws=2, generator=seeded())
    explorer = DiffusionExplorer(run, target=GT)
    for view in explorer.views:
        shown = frames(view)
        alpha = shown[..., 3] if shown.ndim == 4 else shown
        assert (alpha[:, 4:8, 8:12] == 0).all() and (alpha[:, 8:] > 0).all()
    explorer.pixel = (4, 8)
    assert explorer.label.endswith("row 4, column 8: no data")
    assert set(named(explorer.plot, "lr_hsi_up")["y"]) == set(named(explorer.plot, "x̂0")["y"]) == {None}
    assert np.isfinite(explorer.plot.limits).all() and np.isfinite(explorer.figures.psnr_db).all()
    alone = DiffusionExplorer(run)
    alone.pixel = (4, 8)
    assert np.isfinite(alone.plot.limits).all()


def test_pixels_without_truth(run):
    cube = SCENE.cube.copy()
    cube[2:5, 11:] = np.nan
    explorer = DiffusionExplorer(run, target=cube)
    error = frames(explorer.views[2])
    assert (error[:, 2:5, 11:] == 0).all() and (error[:, :2] > 0).all()
    explorer.pixel = (3, 15)
    assert "row 3, column 15: no target, deviation" in explorer.label
    assert set(named(explorer.plot, "target")["y"]) == {None}
    assert None not in named(explorer.plot, "x̂0")["y"]
    assert np.isfinite(explorer.plot.limits).all() and np.isfinite(explorer.figures.psnr_db).all()


@pytest.mark.parametrize(
    ("target", "error", "message"),
    [
        (GT[:, :30], ValueError, r"`target` must be of the recording's size \(H, W, C\) = \(12, 20, 31\)"),
        (GT.mT, ValueError, r"`target` must be of the recording's size .* got \(20, 12, 31\)"),
        (GT * torch.nan, ValueError, "`target` must be finite, in one pixel at least"),
        (GT.clamp_min(0.1) / 0, ValueError, "`target` must be finite, in one pixel at least"),
        (GT + 1, ValueError, r"`target` must be in \[0, 1\], got values from 1.* to "),
        (SCENE.cube - 1, ValueError, r"`target` must be in \[0, 1\], got values from -"),
        (torch.full_like(GT, 255).byte(), ValueError, r"`target` must be in \[0, 1\], got values from 255 to 255"),
        (GT > 0.5, TypeError, r"`target` must be numbers in \[0, 1\], got values of type bool"),
        (GT + 0j, TypeError, r"`target` must be numbers in \[0, 1\], got values of type complex64"),
        (SCENE.cube.astype(str), TypeError, r"`target` must be numbers in \[0, 1\], got values of type <U"),
        ([[1.0]], TypeError, "`target` must be a Scene, an array .* got list"),
        ("truth", TypeError, "`target` must be a Scene, an array .* got str"),
        (np.array("truth"), ValueError, r"`target` must be a Scene, .* got shape \(\)"),
        (GT.repeat(2, 1, 1, 1), ValueError, r"`target` must be a Scene, .* got shape \(2, 31, 12, 20\)"),
        (SCENE.cube[None], ValueError, r"`target` must be a Scene, .* got shape \(1, 12, 20, 31\)"),
    ],
)
def test_targets_that_do_not_fit(run, target, error, message):
    with pytest.raises(error, match=message):
        DiffusionExplorer(run, target=target)


@pytest.mark.parametrize("target", [SCENE, SCENE.cube, SCENE.cube.astype(float), GT, GT[0], GT.double()])
def test_targets_of_all_kinds(run, target):
    assert torch.equal(DiffusionExplorer(run, target=target).target, GT)


def test_targets_of_coarse_numbers(run):
    assert torch.equal(DiffusionExplorer(run, target=GT.bfloat16()).target, GT.bfloat16().float())
    assert torch.equal(DiffusionExplorer(run, target=(GT > 0.5).byte()).target, (GT > 0.5).float())


def test_numbers_of_numpy_are_numbers(explorer):
    explorer.step, explorer.draw, explorer.pixel = np.int64(2), np.uint8(1), np.array([3, 7])
    assert (explorer.step, explorer.draw, explorer.pixel) == (2, 1, (3, 7))
    for name, value in (("step", True), ("draw", np.float64(1.0)), ("step", "1")):
        with pytest.raises(ValueError, match=f"`{name}` must be a whole number from 0 to"):
            setattr(explorer, name, value)


@pytest.mark.parametrize("place", [(1.9, 2.9), 5, None, "ab", (1, 2, 3)])
def test_places_that_are_none(explorer, place):
    with pytest.raises(
        TypeError, match=rf"`pixel` must be \(row, column\), two whole numbers, got {re.escape(repr(place))}"
    ):
        explorer.pixel = place
    assert explorer.pixel == (6, 10)


def test_other_bad_input(run, explorer):
    with pytest.raises(TypeError, match="`run` must be a recording, as `record` returns it, got Tensor"):
        DiffusionExplorer(GT)
    with pytest.raises(ValueError, match=r"`wavelengths_nm` must be 31 finite number\(s\), one per band"):
        DiffusionExplorer(run, wavelengths_nm=[500.0, 600.0])
    for place in ((12, 0), (0, 20), (-1, 3)):
        with pytest.raises(ValueError, match=r"`pixel` must be \(row, column\) inside 12×20 px, got"):
            explorer.pixel = place
    with pytest.raises(ValueError, match="`step` must be a whole number from 0 to 5, got 6"):
        explorer.step = STEPS + 1
    with pytest.raises(ValueError, match="`draw` must be a whole number from 0 to 2, got 3"):
        explorer.draw = DRAWS
    assert explorer.pixel == (6, 10) and explorer.draw == 0


def test_a_page_without_a_kernel_shows_a_picture(explorer):
    text = "DiffusionExplorer(3 draw(s) of 5 step(s): 12×20 px, 31 band(s), with a target)"
    bundle = explorer._repr_mimebundle_()
    assert bundle["text/plain"] == repr(explorer) == text
    assert bundle["image/png"][:4] == b"\x89PNG"
    axes = axes_of(explorer)
    assert [ax.get_title() for ax in axes[:4]] == [view.name for view in explorer.views]
    assert [ax.get_ylabel() for ax in axes[4:]] == ["radiance (scaled)", "PSNR (dB)", "SAM (degrees)"]


# --- plain functions --------------------------------------------------------------------------------------------------


def test_composites():
    assert composites(6, None) == {"bands 5, 3, 1 as red, green, blue": (5, 3, 1)}
    assert composites(1, None) == {"bands 0, 0, 0 as red, green, blue": (0, 0, 0)}
    nm = np.array([460.0, 550.0, 650.0, 860.0])
    found = composites(4, nm)
    assert found["true colour"] == (2, 1, 0) and len(found) == 2
    assert list(composites(2, np.array([5000.0, 6000.0]))) == ["bands 1, 1, 0 as red, green, blue"]


def test_axes_reach_over_a_tenth_at_least():
    assert at_least_wide(np.array([1.0, np.nan, 3.0]), 0.1) == [1.0, 3.0]
    assert at_least_wide(np.array([2.0, 2.02]), 0.1) == pytest.approx([1.96, 2.06])


def test_lines_of_a_curve():
    values = np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0], [7.0, 8.0, 9.0], [4.5, 5.5, 6.5]])
    lines = curve_lines(values, 1)
    assert [(one["name"], one["x"], one["y"]) for one in lines] == [
        ("other draws", [0, 1], [1, 2]),
        ("", [0, 1], [7, 8]),
        ("mean of the draws", [0, 1], [4.5, 5.5]),
        ("this draw", [0, 1], [4, 5]),
        ("", [2], [6.5]),
        ("", [2], [6]),
    ]
    assert [one["points"] for one in lines] == [False] * 4 + [True] * 2
