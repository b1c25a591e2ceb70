"""Figures: what is drawn where, from which numbers, and that nothing outside the figure changes."""

from __future__ import annotations

import io
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from ctmem.evaluation import plots
from ctmem.match import patches

RANDOM = np.random.default_rng(0)
CUBE = RANDOM.random((12, 20, 7)).astype(np.float32)


def png(figure) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(figure._repr_png_())).convert("RGB"))


def test_tensors_and_arrays_are_the_same_image():
    tensor = torch.from_numpy(CUBE).movedim(-1, 0)
    for image in (CUBE, tensor, tensor[None], tensor[None].clone().requires_grad_()):
        assert np.array_equal(plots.to_array(image), CUBE)
    assert plots.to_array(CUBE[..., 0]).shape == (12, 20, 1)
    assert plots.to_array(tensor[0]).shape == (12, 20, 1)


def test_rgb_stretches_each_band_between_its_percentiles():
    ramp = np.linspace(2, 4, 101)[None, :, None] * np.array([1.0, 10.0, 100.0])
    shown = plots.rgb(ramp, bands=(0, 1, 2))
    assert np.allclose(shown[0, :, 0], shown[0, :, 1])
    assert np.allclose(shown[0, :, 0], shown[0, :, 2])
    assert shown[0, 1, 0] == pytest.approx(0, abs=1e-6)
    assert shown[0, 99, 0] == pytest.approx(1)
    assert shown[0, 50, 0] == pytest.approx(0.5**0.7)


def test_rgb_takes_the_bands_nearest_to_red_green_and_blue():
    nm = [900, 655, 540, 450, 700, 610, 500]
    assert np.array_equal(plots.rgb(CUBE, nm), plots.rgb(CUBE, bands=(1, 2, 3)))


def test_rgb_of_multispectral_and_of_single_bands():
    assert np.array_equal(plots.rgb(CUBE), plots.rgb(CUBE, bands=(2, 1, 0)))  # stored blue, green, red
    grey = plots.rgb(CUBE[..., :1])
    assert grey.shape == (12, 20, 3)
    assert np.array_equal(grey[..., 0], grey[..., 2])


def test_rgb_like_shares_the_stretch():
    darker = plots.rgb(0.5 * CUBE, like=CUBE)
    assert np.array_equal(plots.rgb(CUBE, like=CUBE), plots.rgb(CUBE))
    assert darker.mean() < plots.rgb(CUBE).mean()
    assert np.array_equal(plots.rgb(0.5 * CUBE), plots.rgb(CUBE))


def test_rgb_of_a_constant_image_is_finite():
    assert np.isfinite(plots.rgb(np.full((4, 5, 3), 0.3))).all()


def test_images_share_one_colour_bar_and_its_limits():
    figure = plots.show_images([CUBE[..., 0], 3 * CUBE[..., 1], plots.rgb(CUBE)], ["a", "b", "c"], label="unit")
    *axes, bar = figure.axes
    assert [ax.get_title() for ax in axes] == ["a", "b", "c"]
    limits = (
        min(CUBE[..., 0].min(), 3 * CUBE[..., 1].min()),
        max(CUBE[..., 0].max(), 3 * CUBE[..., 1].max()),
    )
    for ax in axes[:2]:
        assert ax.images[0].get_clim() == pytest.approx(limits)
    assert bar.get_ylabel() == "unit"
    assert np.array_equal(axes[1].images[0].get_array(), 3 * CUBE[..., 1])


def test_colour_images_have_no_colour_bar_and_wrap_into_rows():
    figure = plots.show_images([plots.rgb(CUBE)] * 5, columns=3)
    assert len(figure.axes) == 6
    assert sum(bool(ax.images) for ax in figure.axes) == 5


def test_a_tensor_map_of_one_band_is_a_map():
    figure = plots.show_images([torch.rand(1, 1, 4, 9)], limits=(0, 2))
    assert figure.axes[0].images[0].get_array().shape == (4, 9)
    assert figure.axes[0].images[0].get_clim() == (0, 2)
    flat = plots.show_images([np.ones((1, 6, 3))])
    assert flat.axes[0].images[0].get_array().shape == (1, 6, 3)


def test_spectra_are_in_order_and_break_at_gaps():
    nm = [400, 410, 430, 420, 1000, 1010]  # overlap of two spectrometers, then a gap
    figure = plots.plot_spectra(nm, {"a": np.arange(6.0), "b": torch.ones(6)}, ylabel="radiance")
    ax = figure.axes[0]
    x, y = ax.lines[0].get_data()
    assert x[:4].tolist() == [400, 410, 420, 430]
    assert y[:4].tolist() == [0, 1, 3, 2]
    assert np.isnan(x[4])
    assert np.isnan(y[4])
    assert x[5:].tolist() == [1000, 1010]
    assert ax.get_xlabel() == "wavelength (nm)"
    assert ax.get_ylabel() == "radiance"
    assert [text.get_text() for text in ax.get_legend().texts] == ["a", "b"]


def test_every_line_looks_different():
    figure = plots.plot_spectra(range(5), {str(i): np.full(5, i) for i in range(32)})
    assert len({(line.get_color(), line.get_linestyle()) for line in figure.axes[0].lines}) == 32


def test_error_maps_are_the_rmse_over_bands_on_one_scale():
    target = torch.rand(1, 7, 12, 20, generator=torch.Generator().manual_seed(0))
    off = torch.zeros(7)
    off[:2] = torch.tensor([3.0, 4.0])
    figure = plots.error_map({"off": target + off[:, None, None], "exact": target}, target)
    wrong, right = figure.axes[:2]
    assert np.allclose(wrong.images[0].get_array(), np.sqrt(25 / 7), atol=1e-5)
    assert np.allclose(right.images[0].get_array(), 0)
    assert wrong.images[0].get_clim() == right.images[0].get_clim()
    assert wrong.get_title() == "off\nmean 1.8898"


def test_loss_curves_of_values_and_of_pairs():
    ax = plots.loss_curve({"loss": [4.0, 2.0], "validation": [(0, 5.0), (2, 1.0)]}).axes[0]
    assert ax.lines[0].get_xydata().tolist() == [[1, 4], [2, 2]]
    assert ax.lines[1].get_xydata().tolist() == [[0, 5], [2, 1]]
    assert ax.get_yscale() == "log"


def test_an_outline_frames_whole_pixels():
    _figure, axes = plots.grid(1, 1)
    plots.outline(axes[0, 0], (3, 5), 8, "red", "q")
    frame = axes[0, 0].patches[-1]
    assert frame.get_xy() == (4.5, 2.5)
    assert (frame.get_width(), frame.get_height()) == (8, 8)


@pytest.mark.parametrize("with_sharp", [False, True])
def test_match_figure_shows_the_patches_it_names(with_sharp):
    query, reference, sharp = (RANDOM.random((24, size, 3)) for size in (16, 40, 40))
    windows, scores = [(3, 30, 0), (10, 2, 5)], [0.91, 0.5]
    figure = plots.show_match(query, reference, (8, 4), windows, scores, 8, sharp=sharp if with_sharp else None)
    shown = {ax.get_title(): ax.images[0].get_array() for ax in figure.axes if ax.images}

    def stretched(patch):
        return (patch - patch.min()) / (patch.max() - patch.min())

    assert np.allclose(shown["q"], stretched(query[8:16, 4:12]))
    assert np.allclose(shown["1: 0.91"], stretched(reference[3:11, 30:38]))
    turned = patches.turned(torch.from_numpy(reference[10:18, 2:10]).movedim(-1, 0), 5).movedim(0, -1)
    assert np.allclose(shown["2: 0.50"], stretched(turned.numpy()))
    assert ("sharp" in shown) is with_sharp


def test_a_figure_shows_itself_as_a_small_png():
    figure = plots.show_images([plots.rgb(RANDOM.random((100, 100, 3)))])
    picture = Image.open(io.BytesIO(figure._repr_png_()))
    assert picture.mode == "P"
    assert picture.size[0] > 150
    assert len(figure._repr_png_()) < 60_000
    assert png(figure).std() > 10


def test_drawing_twice_gives_the_same_bytes():
    figures = [plots.plot_spectra([1, 2, 3], {"a": [1, 2, 3]}) for _ in range(2)]
    assert figures[0]._repr_png_() == figures[1]._repr_png_()


def test_no_state_is_touched():
    program = (
        "import sys, matplotlib, numpy as np; from ctmem.evaluation import plots; before = dict(matplotlib.rcParams);"
        "plots.show_images([np.ones((4, 4))])._repr_png_(); assert 'matplotlib.pyplot' not in sys.modules;"
        "assert dict(matplotlib.rcParams) == before"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, encoding="utf-8", timeout=60)
    assert ran.returncode == 0, ran.stderr


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: plots.to_array(np.ones(3)),
            "`image` must be an array (H, W, C) or a tensor (1, C, H, W) or (C, H, W)",
        ),
        (lambda: plots.to_array(torch.ones(2, 3, 4, 4)), "or (C, H, W), got shape (2, 3, 4, 4)"),
        (
            lambda: plots.rgb(CUBE, [500, 600]),
            "`wavelengths_nm` must be 7 numbers, one per band of `image`, got 2",
        ),
        (
            lambda: plots.rgb(CUBE, range(1000, 1007)),
            "`wavelengths_nm` must be within 100 nm of 650, 550 and 460 nm",
        ),
        (lambda: plots.show_images([]), "`images` must be a list of at least one, got none"),
        (
            lambda: plots.show_images([CUBE[..., 0]], ["a", "b"]),
            "`titles` must be one for each of 1 image(s), got 2",
        ),
        (
            lambda: plots.show_images([CUBE]),
            "`images` must be colour images (H, W, 3) or maps (H, W), got shape (12, 20, 7)",
        ),
        (
            lambda: plots.plot_spectra([1, 2], {"a": [1, 2, 3]}),
            "`spectra['a']` must be of 2 values, one per wavelength",
        ),
        (
            lambda: plots.error_map({"a": CUBE[:5]}, CUBE),
            "`preds['a']` must be of the shape of `target` (12, 20, 7)",
        ),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError) as error:
        call()
    assert message in str(error.value)


def test_a_figure_is_described_in_words():
    figure, _ = plots.grid(1, 1)
    assert repr(figure).startswith("<Picture size")
    assert figure.described("A line\n    that falls.") is figure
    assert repr(figure) == "Picture: A line that falls."
    for wrong in ("", " ", None):
        with pytest.raises(ValueError, match="`alt` must be a sentence on what there is to see, got"):
            figure.described(wrong)
