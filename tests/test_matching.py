"""Matching against a brute-force loop in float64, finds at known places, holes, several references, bad input."""

from __future__ import annotations

import itertools
import subprocess
import sys
import textwrap

import numpy as np
import pytest
import torch

from ctmem.match import matching, patches, search
from ctmem.observe.optics import blur, gaussian_psf
from tests.matching_oracle import PATCH, Oracle, corners

QUERY, SIZES = (2, 3, 5, 9), [(7, 11), (7, 11), (5, 9), (6, 4)]  # no two sides alike, few multiples of the patch


def random(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def smooth(*shape: int, seed: int = 0) -> torch.Tensor:
    return blur(random(*shape, seed=seed), gaussian_psf(2.0))


def pierced(image: torch.Tensor) -> torch.Tensor:
    """The image with NaN in one band of one pixel and infinite values in a corner."""
    image = image.clone()
    image[:, 1, 3, 2] = torch.nan
    image[:, :, -1:, -2:] = torch.inf
    return image


def references(kind: str, holes: bool) -> tuple[torch.Tensor | list[torch.Tensor], list[list[torch.Tensor]]]:
    """One shared reference, one each, or a list of several sizes; and what each of the two samples looks in."""
    images = [random(1, 3, *size, seed=1 + i, dtype=torch.float64) for i, size in enumerate(SIZES)]
    if holes:
        images[:3] = map(pierced, images[:3])
    if kind == "shared":
        return images[0], [images[:1], images[:1]]
    if kind == "each":
        return torch.cat(images[:2]), [images[:1], images[1:2]]
    several = [images[0], images[2], images[3]]
    return several, [several, several]


@pytest.mark.parametrize("holes", [False, True])
@pytest.mark.parametrize("kind", ["shared", "each", "list"])
@pytest.mark.parametrize("similarity", search.SIMILARITIES)
def test_match_equals_brute_force(similarity, kind, holes):
    query = random(*QUERY, dtype=torch.float64)
    reference, seen = references(kind, holes)
    oracles = [Oracle(query[b].numpy(), [x[0].numpy() for x in seen[b]]) for b in range(2)]
    for stride, turns, query_stride in [*itertools.product((1, 4), (False, True), (1, 3)), (3, True, 4)]:
        listed = [oracle.candidates(stride, turns) for oracle in oracles]
        for top_k in (1, 3, min(len(candidates) for candidates, _ in listed)):
            options = {"similarity": similarity, "stride": stride, "turns": turns, "top_k": top_k}
            found = matching.match(query, reference, patch=PATCH, query_stride=query_stride, **options)
            assert found.corners.tolist() == [list(corner) for corner in corners(QUERY, query_stride)]
            for b, (oracle, (candidates, excluded)) in enumerate(zip(oracles, listed)):
                own = slice(b, b + 1) if kind == "each" else slice(None)
                assert list(found.excluded[own]) == excluded
                rows = [oracle.best(c, candidates, similarity, top_k) for c in corners(QUERY, query_stride)]
                wanted = np.array([[candidate for _, candidate in row] for row in rows])
                assert np.allclose(found.scores[b], [[score for score, _ in row] for row in rows], atol=1e-12)
                assert np.array_equal(found.windows[b], wanted[..., 1:4])
                assert np.array_equal(found.indices[b], wanted[..., 4])
                assert np.array_equal(found.scenes[b], wanted[..., 0] + (b if kind == "each" else 0))


@pytest.mark.parametrize("similarity", search.SIMILARITIES)
def test_single_precision_finds_the_same(similarity):
    query, reference = random(2, 3, 11, 21), random(2, 3, 14, 17, seed=1)
    options = {"patch": 4, "stride": 1, "similarity": similarity, "turns": True, "top_k": 3}
    single = matching.match(query, reference, **options)
    double = matching.match(query.double(), reference, **options)
    assert single.scores.dtype == torch.float32
    assert torch.equal(single.windows, double.windows)
    assert torch.allclose(single.scores.double(), double.scores, atol=1e-4)


@pytest.mark.parametrize("similarity", ["zncc", "cosine", "l2"])
@pytest.mark.parametrize("bands", [1, 3, 4, 9])
def test_a_cut_of_the_reference_is_found_at_its_place(similarity, bands):
    reference = smooth(1, bands, 40, 53)
    query = reference[:, :, 5:21, 7:31]
    found = matching.match(query, reference, patch=8, stride=1, similarity=similarity)
    assert found.windows[0, :, 0].tolist() == [[5 + r, 7 + c, 0] for r in (0, 8) for c in (0, 8, 16)]
    assert torch.allclose(found.scores, torch.full((1, 6, 1), 0.0 if similarity == "l2" else 1.0), atol=1e-4)


@pytest.mark.parametrize(("gain", "offset"), [(0.2, 0.5), (3.0, -0.4), (1.0, 2.0), (0.05, 0.0)])
def test_zncc_is_blind_to_offsets_per_band_and_one_gain(gain, offset):
    reference = smooth(1, 4, 40, 53)
    offsets = offset * torch.tensor([1.0, 0.5, -0.3, 2.0])[:, None, None]  # another one in each band
    found = matching.match(gain * reference[:, :, 5:21, 7:31] + offsets, reference, patch=8, stride=1)
    assert found.windows[0, :, 0].tolist() == [[5 + r, 7 + c, 0] for r in (0, 8) for c in (0, 8, 16)]
    assert torch.allclose(found.scores, torch.ones(1, 6, 1), atol=1e-4)


def test_dot_is_not_and_favours_bright_patches():
    reference = 0.3 * smooth(1, 4, 40, 53)
    reference[:, :, 24:32, 40:48] = 1.0  # bright and without any structure
    found = matching.match(reference[:, :, 5:13, 7:15], reference, patch=8, stride=1, similarity="dot")
    assert found.windows[0, 0, 0].tolist() == [24, 40, 0]


@pytest.mark.parametrize("similarity", ["zncc", "cosine"])
@pytest.mark.parametrize("k", range(8))
def test_a_turned_cut_is_found_with_its_turn(k, similarity):
    reference = smooth(1, 4, 40, 53)
    query = patches.turned(reference[:, :, 5:13, 7:15], k)
    found = matching.match(query, reference, patch=8, stride=1, turns=True, similarity=similarity)
    assert found.windows[0, 0, 0].tolist() == [5, 7, k]
    assert found.scores.item() == pytest.approx(1, abs=1e-5)
    assert torch.allclose(matching.cut_match(found, reference)[0, 0], query[0])


@pytest.mark.parametrize("size", [(12, 20), (8, 8), (9, 31), (8, 30)])
@pytest.mark.parametrize("reference_size", [(8, 8), (13, 40)])
@pytest.mark.parametrize("query_stride", [1, 5, 8])
def test_any_size(size, reference_size, query_stride):
    query, reference = random(2, 7, *size), random(1, 7, *reference_size, seed=1)
    found = matching.match(query, reference, patch=8, stride=2, query_stride=query_stride)
    assert found.grid == patches.grid_shape(*size, 8, query_stride)
    assert found.indices.shape == (2, found.grid[0] * found.grid[1], 1)
    assert len(found.corners) == found.indices.shape[1]
    assert (found.size, found.reference_sizes, found.excluded) == (size, (reference_size,), (0,))


def test_by_default_patches_tile_both_images():
    query, reference = random(1, 3, 12, 20), random(1, 3, 30, 17, seed=1)
    plain = matching.match(query, reference)
    assert (plain.patch, plain.stride, plain.query_stride) == (8, 8, 8)
    explicit = matching.match(query, reference, patch=8, stride=8, query_stride=8, similarity="zncc", top_k=1)
    assert torch.equal(plain.windows, explicit.windows)


def test_each_sample_has_its_own_reference():
    query, reference = random(3, 4, 16, 24), random(3, 4, 30, 41, seed=1)
    reference[1, 2, 12, 20] = torch.nan
    options = {"patch": 8, "stride": 2, "query_stride": 4, "turns": True, "top_k": 5}
    together = matching.match(query, reference, **options)
    for b in range(3):
        alone = matching.match(query[b : b + 1], reference[b : b + 1], **options)
        assert torch.equal(together.windows[b], alone.windows[0])
        assert torch.equal(together.indices[b], alone.indices[0])
        assert torch.allclose(together.scores[b], alone.scores[0], atol=1e-6)
        assert (together.scenes[b] == b).all()
        assert together.excluded[b] == alone.excluded[0]
    assert not torch.equal(together.windows[1], matching.match(query, reference[:1], **options).windows[1])


def test_a_shared_reference_equals_copies_of_it():
    query, reference = random(3, 4, 16, 24), random(1, 4, 30, 41, seed=1)
    copies = reference.expand(3, -1, -1, -1)
    shared, copied = (matching.match(query, r, patch=8, stride=2) for r in (reference, copies))
    assert torch.equal(shared.windows, copied.windows)


@pytest.mark.parametrize("kind", ["shared", "each", "list"])
def test_arrays_are_searched_as_tensors_are(kind):
    query, (reference, _) = random(*QUERY, dtype=torch.float64), references(kind, holes=True)
    arrays = [one.numpy() for one in reference] if kind == "list" else reference.numpy()
    one, other = (
        matching.match(*images, patch=PATCH, stride=1) for images in ((query, reference), (query.numpy(), arrays))
    )
    for name in ("indices", "scores", "windows", "scenes"):
        assert torch.equal(getattr(one, name), getattr(other, name)), name
    assert torch.equal(matching.cut_match(one, reference), matching.cut_match(other, arrays))


def test_of_fewer_candidates_all_are_kept_if_that_is_asked_for():
    query, reference = random(2, 4, 16, 24), random(1, 4, 9, 10, seed=1)
    found = matching.match(query, reference, stride=1, top_k=50, or_all=True)
    assert found.scores.shape == (2, 6, 6)
    assert torch.equal(found.windows, matching.match(query, reference, stride=1, top_k=6).windows)
    assert matching.match(query, reference, stride=1, top_k=4, or_all=True).scores.shape == (2, 6, 4)
    with pytest.raises(ValueError, match="`reference` must be finite in all pixels of at least one 8×8 px window"):
        matching.match(OK, STRIPED, top_k=50, or_all=True)


def test_a_list_is_searched_one_after_the_other():
    query = random(2, 4, 16, 24)
    several = [random(1, 4, *size, seed=seed) for seed, size in enumerate([(30, 41), (8, 9), (17, 12)], start=1)]
    options = {"patch": 8, "stride": 3, "turns": True}
    alone = []
    for one in several:
        count = 8 * len(patches.windows(*one.shape[2:], 8, 3))
        alone.append(matching.match(query, one, top_k=count, **options))
    together = matching.match(query, several, top_k=20, **options)
    scores = torch.cat([found.scores for found in alone], 2)
    best, order = scores.topk(20, dim=2)
    windows = torch.cat([found.windows for found in alone], 2).gather(2, order[..., None].expand(-1, -1, -1, 3))
    scenes = torch.cat([torch.full_like(found.indices, number) for number, found in enumerate(alone)], 2)
    assert torch.allclose(together.scores, best, atol=1e-6)
    assert torch.equal(together.windows, windows)
    assert torch.equal(together.scenes, scenes.gather(2, order))
    assert len(together.scenes.unique()) == 3  # the fixture does use all of them


def test_a_list_of_one_equals_the_image():
    query, reference = random(2, 4, 16, 24), random(1, 4, 30, 41, seed=1)
    one, image = (matching.match(query, r, patch=8, stride=2, top_k=3) for r in ([reference], reference))
    assert torch.equal(one.windows, image.windows)
    assert torch.equal(one.scores, image.scores)


@pytest.mark.parametrize(
    ("pixels", "count"),
    [
        ([(15, 20)], 64),
        ([(0, 0)], 1),
        ([(0, 20)], 8),
        ([(29, 40)], 1),
        ([(15, 20), (15, 21)], 72),
        ([(1, 2), (28, 38)], 12),
    ],
)
@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_windows_with_holes_are_left_out_and_counted(pixels, count, value):
    query, reference = random(1, 4, 16, 24), random(1, 4, 30, 41, seed=1)
    for row, column in pixels:
        reference[0, 2, row, column] = value
    whole = 23 * 34 - count
    found = matching.match(query, reference, patch=8, stride=1, top_k=whole)  # all there are
    assert found.excluded == (count,)
    numbers = found.indices[0, 0].sort().values
    assert len(numbers.unique()) == whole
    assert torch.isfinite(found.scores).all()
    assert torch.isfinite(torch.stack([matching.cut_match(found, reference, r) for r in (0, 9, whole - 1)])).all()


def test_a_reference_with_no_whole_window_among_others_is_left_out():
    query, good = random(1, 4, 16, 24), random(1, 4, 30, 41, seed=1)
    bad = random(1, 4, 12, 13)
    bad[:, :, 5::6] = torch.nan  # every window of 8 rows holds one of these
    found = matching.match(query, [bad, good, bad], patch=8, stride=2, top_k=5)
    assert found.excluded[0] == found.excluded[2] == 3 * 4
    assert (found.scenes == 1).all()
    assert torch.equal(found.windows, matching.match(query, good, patch=8, stride=2, top_k=5).windows)


@pytest.mark.parametrize("level", [0.0, 0.3, 0.7])
@pytest.mark.parametrize("similarity", search.SIMILARITIES)
def test_all_constant_images_have_finite_scores(level, similarity):
    query, reference = torch.full((1, 4, 16, 16), level), torch.full((1, 4, 24, 24), 0.6)
    found = matching.match(query, reference, patch=8, stride=4, similarity=similarity, turns=True, top_k=2)
    assert torch.isfinite(found.scores).all()
    if similarity == "zncc":
        assert (found.scores == 0).all()


@pytest.mark.parametrize("turns", [False, True])
@pytest.mark.parametrize("similarity", search.SIMILARITIES)
def test_chunks_change_nothing(similarity, turns, monkeypatch):
    query, reference = random(2, 4, 25, 33), smooth(1, 4, 160, 90)
    options = {"patch": 8, "stride": 1, "similarity": similarity, "turns": turns, "top_k": 4}
    whole = matching.match(query, reference, chunk_mb=10_000, **options)
    monkeypatch.setattr(search, "PIECE", 111)
    chunked = matching.match(query, reference, chunk_mb=1, **options)
    assert torch.equal(whole.indices, chunked.indices)
    assert torch.equal(whole.windows, chunked.windows)
    assert torch.allclose(whole.scores, chunked.scores, atol=1e-4)


def test_memory_is_bounded_by_the_chunk():
    program = """
        import resource, torch
        from ctmem.match.matching import match
        peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        query, reference = torch.rand(1, 4, 24, 24), torch.rand(1, 4, 360, 420)
        match(query, reference[:, :, :60, :60], patch=8, stride=1, turns=True)  # libraries warmed up
        before = peak()
        match(query, reference, patch=8, stride=1, turns=True, top_k=4, chunk_mb=20)
        print(peak() - before)
    """
    ran = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], capture_output=True, encoding="utf-8", timeout=60
    )
    assert ran.returncode == 0, ran.stderr
    assert float(ran.stdout) < 40  # MB: 20, and places of 146 000 windows; their vectors are 149 MB


def test_each_window_is_made_once_for_all_patches(monkeypatch):
    """A training crop: 36 patches among 38,809 candidates. The time is in benchmarks/matching.py."""
    made, embed = {True: 0, False: 0}, search.embed

    def counted(patches, similarity, *, candidate=True):
        made[candidate] += len(patches)
        return embed(patches, similarity, candidate=candidate)

    query, reference = random(1, 4, 48, 48), random(1, 4, 400, 400, seed=1)
    monkeypatch.setattr(search, "embed", counted)
    matching.match(query, reference, patch=8, stride=2)
    assert made == {True: 197**2 + 1, False: 36}  # one more: the length of a vector is asked for


def test_another_search_may_be_given():
    asked = {}

    def first_ones(query, images, corners, **options):
        asked.update(options, images=len(images), windows=[len(c) for c in corners])
        ids = torch.arange(options["top_k"]).repeat(len(query), 1)
        return torch.zeros(ids.shape), ids, torch.full_like(ids, 5)

    several = [random(1, 4, 8, 10), random(1, 4, 9, 8)]
    query = random(2, 4, 16, 16)
    found = matching.match(query, several, stride=1, turns=True, top_k=4, chunk_mb=7, search=first_ones)
    settings = {"similarity": "zncc", "turns": 8, "top_k": 4, "chunk_mb": 7}
    assert asked == settings | {"images": 2, "windows": [3, 2]}
    assert found.scenes[1, 3].tolist() == [0, 0, 0, 1]
    assert found.windows[1, 3].tolist() == [[0, 0, 5], [0, 1, 5], [0, 2, 5], [0, 0, 5]]


def test_cut_match_takes_the_rank_that_is_asked_for_from_any_bands():
    query, several = random(2, 3, 8, 16), [random(1, 3, 12, 20, seed=1), random(1, 3, 9, 31, seed=2)]
    found = matching.match(query, several, stride=1, query_stride=4, turns=True, top_k=6)
    other = [random(1, 5, 12, 20, seed=3), random(1, 5, 9, 31, seed=4)]
    for rank in (0, 5):
        taken = matching.cut_match(found, other, rank)
        assert taken.shape == (2, 3, 5, 8, 8)
        for b, n in itertools.product(range(2), range(3)):
            row, column, turn = found.windows[b, n, rank].tolist()
            cut = other[found.scenes[b, n, rank]][0, :, row : row + 8, column : column + 8]
            assert torch.equal(taken[b, n], patches.turned(cut, turn))


def test_similarity_map_is_the_row_of_the_table():
    query, reference = random(1, 3, 8, 8), random(1, 3, 20, 31, seed=1)
    table = search.similarities(query, patches.unfold(reference, 8, 3)[0])
    heat = matching.similarity_map(query[0], reference, stride=3)
    assert heat.shape == (5, 9)
    assert torch.allclose(heat.flatten(), table[0], atol=1e-6)


def test_similarity_map_has_nan_where_the_reference_has_holes():
    query, reference = random(1, 3, 8, 8), random(1, 3, 20, 31, seed=1)
    plain = matching.similarity_map(query[0], reference)
    reference[0, 1, 10, 30] = torch.nan
    heat = matching.similarity_map(query[0], reference)
    hit = torch.zeros(13, 24, dtype=torch.bool)
    hit[3:11, 23] = True  # windows that reach row 10 and the last column
    assert torch.equal(heat.isnan(), hit)
    assert torch.allclose(heat[~hit], plain[~hit], atol=1e-6)


OK = random(1, 4, 16, 16)
NAN = torch.full_like(OK, torch.nan)
FOUND = matching.match(OK, OK)
STRIPED = OK.clone()
STRIPED[:, :, 4::5] = torch.nan  # rows 4, 9, 14: no window of 8 rows without one
SPOT = OK.clone()
SPOT[0, 0, 0, 0] = torch.nan


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: matching.match(OK[0], OK),
            "`query` must be of shape (B, C, H, W), none of them 0, got shape (4, 16, 16)",
        ),
        (
            lambda: matching.match(NAN, OK),
            "`query` must be finite everywhere, got 1024 NaN or infinite value(s) of 1024",
        ),
        (lambda: matching.match(OK[:, :, :7], OK), "`query` must be at least 8×8 px, got 7×16"),
        (lambda: matching.match(OK, OK[:, :3]), "`reference` must be of 4 band(s), shape (B, 4, H, W), got 3 band(s)"),
        (lambda: matching.match(OK, OK[:, :, :7]), "`reference` must be at least 8×8 px, got 7×16"),
        (
            lambda: matching.match(OK, OK[..., :7], patch=5, top_k=50),
            "`top_k` must be at most 8, the number of candidates, got 50",
        ),
        (
            lambda: matching.match(OK, OK.repeat(2, 1, 1, 1)),
            "`reference` must be one image, or one for each of 1 queries, got 2",
        ),
        (
            lambda: matching.match(OK.repeat(3, 1, 1, 1), OK.repeat(2, 1, 1, 1)),
            "one image, or one for each of 3 queries, got 2",
        ),
        (
            lambda: matching.match(OK, NAN),
            "`reference` must be finite in at least one pixel, got NaN or infinite values in all",
        ),
        (lambda: matching.match(OK, OK / 0), "`reference` must be finite in at least one pixel"),
        (lambda: matching.match(OK, [OK, NAN]), "`reference[1]` must be finite in at least one pixel"),
        (
            lambda: matching.match(OK.repeat(2, 1, 1, 1), torch.cat([OK, NAN])),
            "`reference` must be finite in at least one pixel",
        ),
        (
            lambda: matching.match(OK, STRIPED),
            "must be finite in all pixels of at least one 8×8 px window, got NaN or infinite values in each of 4",
        ),
        (lambda: matching.match(OK, [STRIPED, STRIPED], stride=1), "window, got NaN or infinite values in each of 162"),
        (
            lambda: matching.match(OK.repeat(2, 1, 1, 1), torch.cat([OK, STRIPED])),
            "`reference` must be finite in all pixels of at least one 8×8 px window",
        ),
        (lambda: matching.match(OK, []), "`reference` must be at least one image (1, c, Hr, Wr), got an empty list"),
        (
            lambda: matching.match(OK, [OK, OK.repeat(2, 1, 1, 1)]),
            "`reference[1]` must be one image (1, c, Hr, Wr), got shape (2, 4, 16, 16)",
        ),
        (lambda: matching.match(OK, (OK, OK[:, 1:])), "`reference[1]` must be of 4 band(s)"),
        (lambda: matching.match(OK, [OK, OK[..., 9:]]), "`reference[1]` must be at least 8×8 px, got 16×7"),
        (
            lambda: matching.match(OK, OK, similarity="ssim"),
            "`similarity` must be one of 'dot', 'cosine', 'zncc', 'l2', got 'ssim'",
        ),
        (lambda: matching.match(OK, OK, patch=0), "`patch` must be a whole number ≥ 1, got 0"),
        (lambda: matching.match(OK, OK, stride=0), "`stride` must be a whole number ≥ 1, got 0"),
        (lambda: matching.match(OK, OK, query_stride=9), "`query_stride` must be a whole number from 1 to 8, got 9"),
        (lambda: matching.match(OK, OK, chunk_mb=0), "`chunk_mb` must be a whole number ≥ 1, got 0"),
        (lambda: matching.match(OK, OK, top_k=0), "`top_k` must be a whole number ≥ 1, got 0"),
        (lambda: matching.match(OK, OK, top_k=5), "`top_k` must be at most 4, the number of candidates, got 5"),
        (
            lambda: matching.match(OK, OK, turns=True, top_k=33),
            "`top_k` must be at most 32, the number of candidates, got 33",
        ),
        (lambda: matching.match(OK, [OK, OK], top_k=9), "`top_k` must be at most 8, the number of candidates, got 9"),
        (
            lambda: matching.match(OK, SPOT, top_k=4),
            "at most 3, the number of candidates (without 1 window(s) that hold NaN or infinite values), got 4",
        ),
        (
            lambda: matching.match(OK.repeat(2, 1, 1, 1), torch.cat([OK, SPOT]), top_k=4),
            "`top_k` must be at most 3, the number of candidates",
        ),
        (
            lambda: matching.cut_match(FOUND, OK[..., :9]),
            "`image` must be of the references' [(16, 16)] px, got [(16, 9)]",
        ),
        (
            lambda: matching.cut_match(FOUND, [OK, OK]),
            "`image` must be of the references' [(16, 16)] px, got [(16, 16), (16, 16)]",
        ),
        (lambda: matching.cut_match(FOUND, OK, 1), "`rank` must be a whole number from 0 to 0, got 1"),
        (lambda: matching.similarity_map(OK[0], OK[:, :, :9]), "`reference` must be at least 16×16 px, got 9×16"),
        (lambda: matching.similarity_map(OK[0], OK[:, 1:]), "`reference` must be of 4 band(s)"),
        (lambda: matching.similarity_map(OK[0], [OK, OK]), "`reference` must be one image (1, c, Hr, Wr), got 2"),
        (lambda: matching.similarity_map(OK, OK), "`query_patch` must be of shape (c, P, P), got shape (1, 4, 16, 16)"),
        (
            lambda: matching.similarity_map(OK[0, :, :5], OK),
            "`query_patch` must be of shape (c, P, P), got shape (4, 5, 16)",
        ),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError) as error:
        call()
    assert message in str(error.value)


@pytest.mark.parametrize(
    "call",
    [
        lambda: matching.match(OK.int(), OK),
        lambda: matching.match(OK, OK.int().numpy()),
        lambda: matching.match(OK, [OK, OK.int()]),
        lambda: matching.match(OK, (one for one in [OK])),
        lambda: matching.similarity_map(OK[0], OK.int()),
        lambda: matching.similarity_map(OK[0].int(), OK),
        lambda: matching.cut_match(FOUND, OK.int()),
    ],
)
def test_no_floating_point_tensor(call):
    with pytest.raises(TypeError, match="must be a floating-point tensor"):
        call()
