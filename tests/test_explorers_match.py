"""MatchExplorer: what it shows is what `dmb` does, looked up from both sides."""

from __future__ import annotations

import math
import re
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from ctmem.config import MatchConfig
from ctmem.data.scenes import Scene, synthetic
from ctmem.explorers import MatchExplorer, matched
from ctmem.explorers.matched import KEPT_MB, Matched, spread
from ctmem.explorers.render import colours
from ctmem.explorers.tiles import composite, limits_of, tiles, tiles_html
from ctmem.match import dmb, matching, patches
from ctmem.observe.camera import Camera

CONFIG = MatchConfig(patch=4, stride=2, query_stride=2, top_k=6, hard_k=3, sharpening=1)
BLIND = Camera.gaussian(scale=4)  # without a response
CONFIGS = [
    CONFIG,
    replace(CONFIG, similarity="dot", radiometry=False, turns=False, sharpening=0, hard_k=1),
    replace(CONFIG, similarity="l2", stride=3, relevel=False),
    replace(CONFIG, similarity="cosine", patch=5, query_stride=5, temperature=1.0),
]
every_config = pytest.mark.parametrize("config", CONFIGS, ids=[config.similarity for config in CONFIGS])


def blur(x: torch.Tensor) -> torch.Tensor:
    return F.avg_pool2d(F.pad(x, (1, 1, 1, 1), mode="replicate"), 3, stride=1)


def rand(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def shares(*shape: int, seed: int) -> torch.Tensor:
    """A response: rows sum to 1."""
    srf = rand(*shape, seed=seed)
    return srf / srf.sum(1, keepdim=True)


@pytest.fixture(scope="module")
def images() -> dict:
    """An LR image of 3×5 px in 7 bands, a reference of 22×31 px in 3 bands with one hole, and a response."""
    reference = rand(1, 3, 22, 31, seed=1)
    reference[0, 1, 15, 20] = math.nan
    camera = Camera.gaussian(scale=4, srf=shares(3, 7, seed=2), sensor=None)
    return {"lr_hsi": rand(1, 7, 3, 5), "ref_msi": reference, "camera": camera, "blur": blur}


@pytest.fixture(scope="module")
def wide(images: dict) -> MatchExplorer:
    return MatchExplorer(**images, config=CONFIG)


@pytest.fixture
def explorer(images: dict) -> MatchExplorer:
    return MatchExplorer(**images, config=CONFIG)


def make(images: dict, config: MatchConfig) -> Matched:
    camera = images["camera"]
    up = camera.upsample(images["lr_hsi"])
    return Matched(dmb.prepare(up, images["ref_msi"], camera, config, blur=images["blur"]), config)


def by_dmb(images: dict, config: MatchConfig) -> tuple[torch.Tensor, matching.Match]:
    camera = images["camera"]
    return dmb.dmb(camera.upsample(images["lr_hsi"]), images["ref_msi"], camera, config, blur=images["blur"])


# --- the match that is kept -------------------------------------------------------------------------------------------


@every_config
def test_texture_and_windows_are_those_of_dmb(images, config):
    explorer, (texture, match) = MatchExplorer(**images, config=config), by_dmb(images, config)
    assert torch.equal(explorer.texture, texture)
    explorer.pixel = (7, 13)
    assert np.array_equal(explorer.windows, match.windows[0, explorer.number])
    assert np.array_equal(explorer.scores, match.scores[0, explorer.number])


def test_after_every_choice_too(images, explorer):
    for choice in ({"similarity": "l2"}, {"stride": 1}, {"patch": 8}, {"temperature": 2.0}, {"patch": 4, "stride": 8}):
        explorer.choose(**choice)
        assert all(getattr(explorer.config, name) == value for name, value in choice.items())
        texture, match = by_dmb(images, explorer.config)
        assert torch.equal(explorer.texture, texture)
        assert torch.equal(explorer.matched.match.windows, match.windows)


def test_another_patch_keeps_the_share_of_overlap(explorer):
    explorer.choose(patch=8)
    assert (explorer.config.patch, explorer.config.query_stride, explorer.query.step) == (8, 4, 4)


def test_another_temperature_needs_no_search(images, monkeypatch):
    one = make(images, CONFIG)
    wanted, _ = by_dmb(images, replace(CONFIG, temperature=0.5))
    monkeypatch.setattr(dmb, "find", lambda *_, **__: pytest.fail("searched again"))
    other = one.at_temperature(0.5)
    assert torch.equal(other.texture, wanted)
    assert not torch.equal(other.texture, one.texture)
    assert torch.equal(other.match.scores, one.match.scores)


@every_config
def test_plane_is_the_best_similarity_of_all_turns(images, config):
    one = make(images, config)
    for number in (0, 7):
        patch = patches.unfold(one.prepared.query, config.patch, config.query_stride)[0, number]
        turned = [patches.turn_back(patch, turn) for turn in range(8 if config.turns else 1)]
        options = {"stride": config.stride, "similarity": config.similarity}
        maps = torch.stack([matching.similarity_map(x, one.blurred[None], **options) for x in turned])
        plane = one.plane(number)
        np.testing.assert_allclose(plane, maps.amax(0), atol=1e-4)
        assert np.isnan(plane).sum() == one.match.excluded[0] > 0
        np.testing.assert_allclose(np.nanmax(plane), one.match.scores[0, number, 0], rtol=1e-5)


def test_too_many_vectors_are_not_kept(images, monkeypatch):
    one = make(images, CONFIG)
    wanted = one.plane(3)
    assert one._vectors is not None
    monkeypatch.setattr(matched, "KEPT_MB", 0.001)
    other = make(images, CONFIG)
    np.testing.assert_array_equal(other.plane(3), wanted)
    np.testing.assert_array_equal(other.plane(3), wanted)
    assert other._vectors is None
    assert KEPT_MB == 256


@pytest.mark.parametrize(
    ("pixel", "corner"), [((0, 0), (0, 0)), ((3, 3), (2, 2)), ((11, 19), (8, 16)), ((5, 8), (4, 6))]
)
def test_patch_of_a_pixel(images, pixel, corner):
    one = make(images, CONFIG)  # 12×20 px, patches of 4 px every 2 px
    assert tuple(one.match.corners[one.number_at(*pixel)].tolist()) == corner


def test_patch_of_a_pixel_is_one_around_it(images):
    one = make(images, CONFIG)
    for row in range(12):
        for column in range(20):
            top, left = one.match.corners[one.number_at(row, column)].tolist()
            assert top <= row < top + 4 and left <= column < left + 4


def test_weights_are_a_softmax_over_the_windows_used(images):
    weights = make(images, CONFIG).weights()
    scores = make(images, CONFIG).match.scores[0, :, :3].double().numpy()
    wanted = np.exp(scores / 0.05) / np.exp(scores / 0.05).sum(1, keepdims=True)
    assert weights.shape == (len(scores), 3)
    np.testing.assert_allclose(weights, wanted, rtol=1e-4)


def test_apart(images):
    one = make(images, replace(CONFIG, top_k=40))
    for number in range(10):
        windows, kept = one.match.windows[0, number].tolist(), one.apart(number, 6)
        for rank, (row, column, _) in enumerate(windows[: kept[-1] + 1]):
            better = [windows[k] for k in kept if k < rank]
            overlaps = any(abs(row - r) < 4 and abs(column - c) < 4 for r, c, _ in better)
            assert (rank in kept) != overlaps


def test_takers_are_the_patches_whose_windows_cover_the_place(images):
    one = make(images, CONFIG)
    weights, found = one.weights(), 0
    for row, column in ((r, c) for r in range(0, 22, 3) for c in range(0, 31, 3)):
        wanted = {}
        for number, corner in enumerate(one.match.corners.tolist()):
            for rank, (top, left, _) in enumerate(one.match.windows[0, number, :3].tolist()):
                if top <= row < top + 4 and left <= column < left + 4:
                    count, weight = wanted.get(tuple(corner), (0, 0.0))
                    wanted[tuple(corner)] = count + 1, weight + float(weights[number, rank])
        takers = one.takers(row, column)
        assert {(t.row, t.column): t.windows for t in takers} == {place: count for place, (count, _) in wanted.items()}
        assert [t.weight for t in takers] == sorted((t.weight for t in takers), reverse=True)
        for taker in takers:
            assert taker.weight == pytest.approx(wanted[taker.row, taker.column][1], rel=1e-5)
        found += len(takers)
    assert found > 20


def test_windows_of_no_weight_are_not_taken_from(images):
    one = make(images, replace(CONFIG, similarity="l2", temperature=0.02))
    weights, left_out = one.weights().tolist(), 0
    corners, windows = one.match.corners.tolist(), one.match.windows[0, :, :3].tolist()
    for row, column in ((r, c) for r in range(0, 22, 3) for c in range(0, 31, 3)):
        wanted = {}
        for corner, places, shares in zip(corners, windows, weights):
            covers = [top <= row < top + 4 and left <= column < left + 4 for top, left, _ in places]
            taken = [share for share, inside in zip(shares, covers) if inside and share >= 1e-4]
            left_out += any(covers) and not taken
            if taken:
                wanted[tuple(corner)] = (len(taken), pytest.approx(sum(taken), rel=1e-5))
        assert {(t.row, t.column): (t.windows, t.weight) for t in one.takers(row, column)} == wanted
    assert left_out > 5


def test_nobody_takes_from_a_hole(images):
    assert make(images, CONFIG).takers(15, 20) == []


def test_spread():
    plane = np.array([[1.0, 2.0, 3.0]])  # windows of 4 px at columns 0, 3 and 5 of 9: centres 1.5, 4.5, 6.5
    assert spread(plane, (4, 9), 4, 3).tolist() == [[1, 1, 1, 1, 2, 2, 3, 3, 3]] * 4
    assert spread(plane, (4, 9), 4, 3, most=3).tolist() == [[1, 2, 3]] * 3


# --- tiles ------------------------------------------------------------------------------------------------------------


def test_tiles_show_what_was_compared_and_what_is_handed_over(images):
    one = make(images, CONFIG)
    drawn = tiles(one, 4, [0, 2])
    assert [tile.compared.shape for tile in drawn] == [(4, 4, 4)] * 3
    row, column, turn = one.match.windows[0, 4, 2].tolist()
    cut = (slice(None), slice(row, row + 4), slice(column, column + 4))
    blurred, sharp = (patches.turned(x[cut], turn).movedim(0, -1).numpy() for x in (one.blurred, one.sharp))
    both = np.concatenate([blurred, sharp])[..., ::-1].reshape(-1, 3)
    limits = list(zip(both.min(0), both.max(0)))
    np.testing.assert_array_equal(drawn[2].compared, colours(blurred[..., ::-1], limits))
    np.testing.assert_array_equal(drawn[2].handed, colours(sharp[..., ::-1], limits))


def test_tiles_of_similarities_that_see_brightness_are_drawn_alike(images):
    one = make(images, replace(CONFIG, similarity="l2"))
    limits = limits_of(composite(one.prepared.query[0]), composite(one.blurred))
    patch = one.prepared.query[0, :, :4, :4]
    np.testing.assert_array_equal(tiles(one, 0, [])[0].compared, colours(composite(patch), limits))


def test_texture_tile_is_what_came_of_it(images):
    config = replace(CONFIG, query_stride=4, similarity="l2", radiometry=False)
    one = make(images, config)
    limits = limits_of(composite(one.prepared.query[0]), composite(one.blurred))
    hard = by_dmb(images, config)[0][0, 3:6, :4, 4:8]
    np.testing.assert_array_equal(tiles(one, 1, [])[0].handed, colours(composite(hard), limits))


def test_lines_of_tiles(images):
    one = make(images, CONFIG)
    lines = [tile.lines for tile in tiles(one, 4, [0, 5])]
    assert lines[0] == ("query (0, 8)", "below: its texture")
    score, weight = float(one.match.scores[0, 4, 0]), float(one.weights()[4, 0])
    assert lines[1][0] == f"1: {score:.3g}, {100 * weight:.1f} %"
    assert lines[2][0].endswith("not used")  # hard_k is 3


def test_table_has_always_as_many_columns(images):
    one = make(images, CONFIG)
    for ranks in ([], [0, 1, 3]):
        text = tiles_html(tiles(one, 0, ranks), 7, 800)
        assert text.count("<td") == 3 * 8
        assert text.count("<img") == 2 * (1 + len(ranks))


def test_composite():
    image = torch.arange(4.0)[:, None, None].expand(4, 1, 2).clone()
    image[3, 0, 1] = math.inf
    shown = composite(image)
    assert shown[0, 0].tolist() == [2, 1, 0]
    assert np.isnan(shown[0, 1]).all()
    assert composite(image[:2])[0, 0].tolist() == [0, 0, 0]


# --- the widget -------------------------------------------------------------------------------------------------------


def test_a_click_on_the_query(explorer):
    explorer.pixel = (7, 13)
    row, column = explorer.matched.match.corners[explorer.number].tolist()
    assert (row, column) == (6, 12)
    for view in explorer._own_views:
        (outline,) = view.marks
        assert (outline["row"], outline["column"], outline["rows"], outline["columns"]) == (6, 12, 4, 4)
    ranks = explorer.matched.apart(explorer.number, 6)
    outlined = {one["text"]: (one["row"], one["column"]) for one in explorer.reference.marks}
    assert outlined == {str(rank + 1): tuple(explorer.windows[rank, :2]) for rank in ranks}
    assert explorer.heat.marks == explorer.reference.marks
    assert explorer.label.startswith("patch (6, 12): best window (")
    assert f"zncc {explorer.scores[0]:.4g}" in explorer.label
    assert explorer.label in explorer.status.value


def test_the_same_number_of_windows_apart_or_not(explorer):
    explorer.which.value = "6 best"
    assert sorted(one["text"] for one in explorer.reference.marks) == list("123456")


def test_a_click_on_the_reference(explorer):
    assert explorer.source is None
    assert explorer.takers == []
    place = next((r, c) for r in range(22) for c in range(31) if len(explorer.matched.takers(r, c)) > 2)
    explorer.source = place
    takers = explorer.takers
    outlined = [(one["row"], one["column"]) for one in explorer.query.marks if one["colour"] == "#56B4E9"]
    assert sorted(outlined) == sorted((taker.row, taker.column) for taker in takers)
    start = f"reference {place}: {len(takers)} of 45 patches took from there, most ("
    assert explorer.label.startswith(start)
    explorer.pixel = (0, 0)
    assert len(explorer.query.marks) == 1
    explorer.source = place  # where its cursor still stands: a click all the same
    assert explorer.label.startswith(start)


def test_a_click_on_a_hole(explorer):
    explorer.source = (15, 20)
    assert explorer.label == "reference (15, 20): no patch took from there"


def test_holes_are_gaps_and_never_outlined(explorer):
    numbers = np.frombuffer(explorer.reference.data, np.uint8).reshape(22, 31, 4)
    assert np.argwhere(numbers[..., 3] == 0).tolist() == [[15, 20]]
    windows = explorer.matched.match.windows[0].flatten(0, 1)
    touched = (windows[:, 0] <= 15) & (windows[:, 0] > 11) & (windows[:, 1] <= 20) & (windows[:, 1] > 16)
    assert not touched.any()
    heat = np.frombuffer(explorer.heat.data, np.uint8).reshape(22, 31)
    assert heat[15, 20] == 0 and 0 < (heat == 0).sum() < heat.size / 2


def test_holes_of_the_query_are_gaps(images):
    lr_hsi = images["lr_hsi"].clone()
    lr_hsi[0, 3, 1, 2] = math.nan
    explorer = MatchExplorer(**(images | {"lr_hsi": lr_hsi}), config=CONFIG)
    gap = np.zeros((12, 20), bool)
    gap[4:8, 8:12] = True
    for view in (explorer.query, explorer.texture_view):
        numbers = np.frombuffer(view.data, np.uint8).reshape(12, 20, 4)
        np.testing.assert_array_equal(numbers[..., 3] == 0, gap)
    for view in (explorer.gradient, explorer.difference):
        np.testing.assert_array_equal(np.frombuffer(view.data, np.uint8).reshape(12, 20) == 0, gap)
    explorer.choose(similarity="l2")
    explorer.pixel = (5, 9)
    lr_hsi[0, :2, 1, 2] = -9999.0
    again = MatchExplorer(**(images | {"lr_hsi": lr_hsi}), config=replace(CONFIG, similarity="l2"))
    assert torch.equal(again.texture, explorer.texture)


def test_a_click_sends_little(explorer):
    sent = []
    for view in (explorer.reference, explorer.query, explorer.gradient):
        view.observe(sent.append, ["data", "palette"])
    explorer.pixel, explorer.source = (2, 3), (4, 5)
    assert sent == []
    assert len(explorer.tiles.value) < 20_000


def test_no_cursor_is_moved_by_an_answer(explorer):
    explorer.source, moved = (3, 4), []
    explorer.reference.observe(moved.append, "cursor")
    explorer.pixel = (2, 3)
    explorer.choose(patch=8, stride=1)
    assert moved == []
    explorer.query.observe(moved.append, "cursor")
    explorer.source = (9, 9)
    assert len(moved) == 1  # the reference's own


def test_controls(explorer):
    explorer.similarity.value = "dot"
    assert explorer.config.similarity == "dot"
    explorer.temperature.value = 5.0
    assert explorer.config.temperature == 5.0
    explorer.patch.value = 12
    assert explorer.config.patch == 12
    explorer.stride.value = 8
    assert explorer.config.stride == 8
    assert explorer.heat.unit.startswith("dot")
    assert explorer.reference.step == 8
    explorer.choose(patch=4, similarity="zncc")
    assert (explorer.patch.value, explorer.similarity.value, explorer.config.stride) == (4, "zncc", 8)


def test_says_that_it_is_matching(explorer):
    said = []
    explorer.status.observe(lambda change: said.append(change["new"]), "value")
    explorer.stride.value = 4
    assert "matching …" in said[0]
    assert explorer.label in said[-1]


def test_heat_of_zncc_is_comparable_from_patch_to_patch(images, explorer):
    assert explorer.heat.limits == [[0.0, 1.0]]
    assert MatchExplorer(**images, config=replace(CONFIG, turns=False)).heat.limits == [[-1.0, 1.0]]
    explorer.choose(similarity="l2")
    plane = explorer.matched.plane(explorer.number)
    np.testing.assert_allclose(explorer.heat.limits[0], [np.nanmin(plane), np.nanmax(plane)])


def test_maps_are_the_texture(wide):
    _, _, gradient, difference = wide.texture[0].chunk(4)
    top = float(np.percentile(gradient.mean(0).numpy(), 99))
    assert wide.gradient.limits == [[0.0, pytest.approx(top)]]
    numbers = np.frombuffer(wide.difference.data, np.uint8).reshape(12, 20)
    mean = difference.mean(0).numpy()
    assert (numbers[mean > 0.01] > 128).all() and (numbers[mean < -0.01] < 128).all()


def test_text_and_picture(wide):
    wanted = "query 12×20 px, reference 22×31 px, P 4, stride 2, zncc: 45 patches, "
    assert wide.describe().startswith(wanted)
    bundle = wide._repr_mimebundle_()
    assert bundle["image/png"].startswith(b"\x89PNG")
    assert len(bundle["image/png"]) < 100_000
    assert bundle["text/plain"] == f"MatchExplorer({wide.describe()})"


def test_a_click_makes_the_vectors_of_its_patch_alone(monkeypatch):
    """However many candidates there are: theirs are kept. The time of a click is in benchmarks/explorers.py."""
    camera = Camera.gaussian(scale=4, srf=shares(4, 4, seed=5), sensor=None)
    explorer = MatchExplorer(rand(1, 4, 9, 12), rand(1, 4, 290, 290, seed=1), camera, blur=blur)
    assert explorer.matched.candidates == 142**2  # 20,164 of 8×8 px in 4 bands
    made, embed = [], matched.embed
    monkeypatch.setattr(matched, "embed", lambda x, *args, **options: made.append(len(x)) or embed(x, *args, **options))
    for row in range(4, 36, 3):
        explorer.pixel = (row, row)
    assert made == [8] * 11  # the patch in all its turns


def test_scenes_are_taken():
    scene = synthetic(height=6, width=8, bands=60)
    reference = Scene("other", rand(20, 24, 4).numpy())
    explorer = MatchExplorer(scene, reference, Camera.gaussian(scale=4), config=CONFIG)
    assert (explorer.size, explorer.reference_size) == ((24, 32), (20, 24))


def test_the_response_is_that_of_the_cameras_sensor_at_the_wavelengths():
    scene = synthetic(height=6, width=8, bands=60)
    camera = Camera.gaussian(5.0, scale=2, sensor="landsat8")
    reference = rand(1, 4, 20, 24)
    explorer = MatchExplorer(scene.tensor(), reference, camera, wavelengths_nm=scene.wavelengths_nm, config=CONFIG)
    whole = camera.for_wavelengths(scene.wavelengths_nm)
    assert torch.equal(explorer.camera.srf, whole.srf) and explorer.camera.same_optics(camera)
    texture, _ = dmb.dmb(whole.upsample(scene.tensor()), reference, whole, CONFIG)  # K is the camera's blur
    assert explorer.size == (12, 16) and torch.equal(explorer.texture, texture)


def test_the_query_is_drawn_in_its_own_units(images, explorer):
    query = images["camera"].see(images["camera"].upsample(images["lr_hsi"]))
    config = replace(CONFIG, sharpening=0)
    picture = colours(composite(query[0]), limits_of(composite(query[0])))
    drawn = np.frombuffer(MatchExplorer(**images, config=config).query.data, np.uint8).reshape(12, 20, 4)
    assert np.abs(drawn.astype(int) - picture).max() <= 1


def test_arrays_are_taken(images, explorer):
    arrays = {name: images[name].numpy().astype(np.float64) for name in ("lr_hsi", "ref_msi")}
    other = MatchExplorer(**{**images, **arrays}, config=CONFIG)
    torch.testing.assert_close(other.texture.float(), explorer.texture, rtol=0, atol=1e-4)


# --- bad input --------------------------------------------------------------------------------------------------------


def test_places_outside(wide):
    with pytest.raises(ValueError, match=r"`pixel` must be \(row, column\) inside 12×20 px, got \(12, 0\)"):
        wide.pixel = (12, 0)
    with pytest.raises(ValueError, match=r"`source` must be \(row, column\) inside 22×31 px, got \(0, -1\)"):
        wide.source = (0, -1)


@pytest.mark.parametrize("name", ["pixel", "source"])
@pytest.mark.parametrize("place", [(1.9, 2.9), 5, None, "ab", (1, 2, 3)])
def test_places_that_are_none(wide, name, place):
    before = getattr(wide, name)
    with pytest.raises(
        TypeError, match=rf"`{name}` must be \(row, column\), two whole numbers, got {re.escape(repr(place))}"
    ):
        setattr(wide, name, place)
    assert getattr(wide, name) == before


def test_numbers_of_numpy_are_numbers(explorer):
    explorer.pixel, explorer.source = np.array([3, 7]), (np.int64(5), np.uint8(6))
    assert (explorer.pixel, explorer.source) == ((3, 7), (5, 6))
    explorer.choose(patch=np.int64(8), stride=np.int32(1), temperature=np.float64(0.5))
    config = explorer.config
    assert [type(value) for value in (config.patch, config.stride, config.temperature)] == [int, int, float]
    assert (config.patch, config.stride, config.temperature) == (8, 1, 0.5)


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ({"patch": 16}, r"`patch` must be one of 4, 8, 12, got 16"),
        ({"similarity": "ssim"}, r"`similarity` must be one of 'dot', 'cosine', 'zncc', 'l2', got 'ssim'"),
        ({"temperature": 0.0}, r"`temperature` must be one of 0.01, .*, got 0.0"),
        ({"stride": 3}, r"`stride` must be one of 1, 2, 4, 8, got 3"),
    ],
)
def test_choices_that_are_not_offered(wide, choice, message):
    with pytest.raises(ValueError, match=message):
        wide.choose(**choice)


def test_settings_without_any_window(images):
    holed = images["ref_msi"].clone()
    holed[..., ::7, :], holed[..., ::7] = math.nan, math.nan  # 6×6 px are whole, 4×4 where gradients are known
    explorer = MatchExplorer(**{**images, "ref_msi": holed}, config=replace(CONFIG, stride=1))
    before, texture = explorer.config, explorer.texture
    with pytest.raises(ValueError, match=r"`reference` must be finite in all pixels of at least one 8×8 px window"):
        explorer.choose(patch=8)
    assert (explorer.config, explorer.patch.value) == (before, 4)
    assert explorer.label in explorer.status.value
    explorer.patch.value = 8
    refusal = "Not possible, P 4 and stride 1 stay: `reference` must be finite"
    assert refusal in explorer.status.value
    assert explorer.config == before and explorer.texture is texture
    assert (explorer.patch.value, explorer.patch.index, explorer.patch.label) == (4, 0, "4")
    explorer.patch.set_state({"index": 1})  # what a message from the browser does
    assert (explorer.patch.value, explorer.patch.index) == (4, 0)
    assert refusal in explorer.status.value  # until the next click
    explorer.pixel = (2, 3)
    assert explorer.label in explorer.status.value


def test_after_a_refusal_all_controls_work(images):
    striped = rand(1, 3, 48, 48, seed=1)
    striped[..., ::12] = math.nan
    images = {**images, "lr_hsi": rand(1, 7, 12, 12), "ref_msi": striped}
    explorer = MatchExplorer(**images, config=CONFIG)
    explorer.patch.value = 16
    assert "Not possible" in explorer.status.value
    for name, value in {"similarity": "l2", "stride": 4, "temperature": 1.0, "patch": 8}.items():
        getattr(explorer, name).value = value
        assert getattr(explorer.config, name) == value
        assert explorer.label in explorer.status.value
        assert all(control.value == getattr(explorer.config, name) for name, control in explorer._controls.items())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"camera": BLIND}, r"`camera` must be one with `srf` where `lr_hsi` has no wavelengths, got one without"),
        ({"camera": BLIND, "wavelengths_nm": [400 + 10 * n for n in range(7)]}, r"B0[234]"),
        (
            {"camera": BLIND, "wavelengths_nm": [500, 600]},
            r"`wavelengths_nm` must be 7 finite number\(s\), one per band",
        ),
        (
            {"camera": Camera.gaussian(sensor=None), "wavelengths_nm": [400 + 10 * n for n in range(7)]},
            "`sensor` must be a name, for its spectral response, got None",
        ),
        ({"wavelengths_nm": [500, 600]}, r"`wavelengths_nm` must be 7 finite number\(s\), one per band"),
        (
            {"camera": Camera.gaussian(srf=torch.full((3, 6), 1 / 6))},
            r"`srf` must be of 7 columns, one per band of the image, got 6 columns",
        ),
        ({"ref_msi": torch.rand(1, 4, 22, 31)}, r"`ref_msi` must be of 3 band\(s\).*got 4 band\(s\)"),
        ({"ref_msi": torch.full((1, 3, 22, 31), math.nan)}, r"`ref_msi` must be finite in at least one pixel"),
        ({"ref_msi": torch.rand(2, 3, 22, 31)}, r"`ref_msi` must be one image, .*got shape \(2, 3, 22, 31\)"),
        ({"ref_msi": np.zeros((22, 31, 3))}, r"`ref_msi` must be of shape \(B, C, H, W\).*got shape \(22, 31, 3\)"),
        ({"lr_hsi": torch.full((1, 7, 3, 5), math.nan)}, r"`lr_hsi` must be finite in at least one pixel, got NaN"),
        (
            {"config": MatchConfig(patch=16)},
            r"`config.patch` must be at most 12 px, the shortest side of query and reference, got 16",
        ),
    ],
)
def test_bad_input(images, change, message):
    with pytest.raises(ValueError, match=message):
        MatchExplorer(**{**images, "config": CONFIG, **change})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"ref_msi": np.zeros((1, 3, 22, 31), int)},
            r"`ref_msi` must be a floating-point tensor \(B, C, H, W\), got a int64 array",
        ),
        ({"lr_hsi": None, "camera": BLIND}, r"`lr_hsi` must be a floating-point tensor \(B, C, H, W\), got NoneType"),
        ({"config": None}, "`config` must be a `MatchConfig`, got NoneType"),
        ({"camera": None}, "`camera` must be a `Camera`, got NoneType"),
        ({"blur": 3.0}, "`blur` must be a function from images to blurry images, got float"),
    ],
)
def test_arguments_of_another_kind(images, change, message):
    with pytest.raises(TypeError, match=message):
        MatchExplorer(**{**images, "config": CONFIG, **change})


def test_a_second_click_at_the_same_place_is_answered(explorer):
    explorer.pixel = explorer.pixel
    forwards = explorer.label
    explorer.source = (5, 6)
    backwards = explorer.label
    explorer.query.set_state({"clicks": explorer.query.clicks + 1})
    assert explorer.label == forwards
    assert forwards in explorer.status.value
    explorer.reference.set_state({"clicks": explorer.reference.clicks + 1})
    assert explorer.label == backwards
