"""The form for a scene of yours, without a browser: its buttons, what it says, what it writes."""

from __future__ import annotations

import pytest
import rasterio

from ctmem.explorers import SceneForm
from tests.test_own_scene import coarse, write_tif

pytestmark = pytest.mark.filterwarnings("ignore::PendingDeprecationWarning")


@pytest.fixture
def form(tmp_path):
    write_tif(tmp_path / "lr.tif", *coarse())
    return SceneForm(tmp_path / "lr.tif", out=tmp_path / "sr.tif", scale=2, method="bicubic-bp")


def test_look_says_what_is_understood(form, tmp_path):
    form.look.click()
    assert "lr.tif: 20×26 px, 9 bands, int16" in form.said and "×2 (as asked for)" in form.said
    assert "<pre" in form.below.value and "9 bands" in form.below.value
    assert [path.name for path in tmp_path.iterdir()] == ["lr.tif"]
    assert not form.look.disabled and not form.sharpen.disabled


def test_sharpen_writes_the_file_and_keeps_its_card(form, tmp_path):
    form.sharpen.click()
    assert form.said.endswith("sr.tif and its card are written")
    assert (form.bar.value, form.bar.max, form.bar.layout.visibility) == (1, 1, "hidden")
    assert form.card["scale"] == 2 and form.card["method"] == "bicubic-bp"
    with rasterio.open(tmp_path / "sr.tif") as file:
        assert (file.count, file.height, file.width) == (9, 40, 52)
    form.sharpen.click()
    assert form.said.startswith("error: `out` must be a new file") and form.said.count("\n") == 0
    form.replace.value = True
    form.sharpen.click()
    assert form.said.endswith("are written")


def test_what_is_wrong_is_one_line_and_safe_to_show(form):
    form.path.value = "<b>no</b>.tif"
    form.look.click()
    assert form.said == "error: `path` must be an existing file, got b>.tif" or "existing file" in form.said
    assert "<b>" not in form.below.value
    assert form.card is None and repr(form) == "SceneForm()"


def test_a_reference_and_the_scale_by_the_pixels(form, tmp_path):
    from rasterio.transform import from_origin

    numbers, nm = coarse(1)
    write_tif(tmp_path / "ref.tif", numbers[:3], nm[:3], transform=from_origin(600_000, 4_480_000, 30, 30))
    form.reference.value, form.scale.value = str(tmp_path / "ref.tif"), None
    form.look.click()
    assert "×2 (60 m against 30 m)" in form.said
