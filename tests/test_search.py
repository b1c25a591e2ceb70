"""Similarities from their definitions, and the exact search against a full sort, on kind and unkind input."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from ctmem.match import patches, pruning, search
from tests.matching_oracle import alike, turned


def random(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


@pytest.mark.parametrize("similarity", search.SIMILARITIES)
@pytest.mark.parametrize("bands", [1, 3, 7])
def test_similarities_equal_their_definitions(similarity, bands):
    query, candidates = (2 * random(n, bands, 5, 5, seed=n, dtype=torch.float64) - 1 for n in (4, 9))
    wanted = [[alike(q, k, similarity) for k in candidates.numpy()] for q in query.numpy()]
    assert np.allclose(search.similarities(query, candidates, similarity), wanted, atol=1e-12)
    single = search.similarities(query.float(), candidates.float(), similarity)
    assert np.allclose(single, wanted, atol=1e-4)


def test_similarities_are_worked_out_in_the_type_of_the_query():
    query, candidates = torch.rand(2, 3, 2, 4, 4, generator=torch.Generator().manual_seed(1)).unbind(0)
    same = search.similarities(query, candidates)
    assert torch.equal(search.similarities(query, candidates.double()), same)
    assert search.similarities(query.double(), candidates).dtype == torch.float64


def test_similarities_by_hand():
    query, candidate = torch.tensor([[[[1.0, 2.0], [2.0, 0.0]]]]), torch.tensor([[[[0.0, 3.0], [4.0, 0.0]]]])
    wanted = {"dot": 14, "cosine": 14 / 15, "l2": -6, "zncc": 5.25 / math.sqrt(2.75 * 12.75)}
    for similarity, value in wanted.items():
        assert search.similarities(query, candidate, similarity).item() == pytest.approx(value, rel=1e-6)


@pytest.mark.parametrize("level", [0.0, 0.3, 0.7, 1e4])
@pytest.mark.parametrize("patch", [2, 8, 33])
def test_constant_patches_score_zero_and_never_nan(level, patch):
    constant = level * torch.tensor([1.0, 0.7, 0.1, 3.0])[:, None, None].expand(4, patch, patch)[None]
    others = torch.cat([random(5, 4, patch, patch), constant])
    assert (search.similarities(constant, others, "zncc") == 0).all()
    assert (search.similarities(others, constant, "zncc") == 0).all()
    assert torch.isfinite(search.similarities(others, others, "zncc")).all()
    assert search.similarities(0 * constant, others, "cosine").tolist() == [[0.0] * 6]


def test_one_constant_band_does_not_hide_the_others():
    patch = random(1, 3, 8, 8)
    patch[:, 1] = 0.4
    assert search.similarities(patch, 0.5 * patch + 0.2, "zncc").item() == pytest.approx(1, abs=1e-6)


def test_a_faint_patch_is_not_taken_for_a_constant_one():
    patch = 0.5 + 1e-4 * random(1, 3, 8, 8, dtype=torch.float64)
    assert search.similarities(patch.float(), patch.float()).item() == pytest.approx(1, abs=1e-5)


VALUES = {
    "random": lambda rows, length: random(rows, length, seed=length),
    "all equal": lambda rows, length: torch.full((rows, length), 0.25),
    "few values": lambda rows, length: (3 * random(rows, length, seed=length)).floor(),
    "mostly one value": lambda rows, length: (random(rows, length, seed=length) - 0.95).clamp_min(0),
    "rising": lambda rows, length: torch.arange(float(length)).expand(rows, -1),
    "falling": lambda rows, length: -torch.arange(float(length)).expand(rows, -1),
    "the best side by side": lambda rows, length: -(torch.arange(float(length)) - length // 2).abs().expand(rows, -1),
    "far below zero": lambda rows, length: -1e30 * random(rows, length, seed=length),
}
LENGTHS = sorted({n * 32 + d for n in (1, 2, 3, 5, 8) for d in (-1, 0, 1)} | {1, 2, 500, 4096, 4097, 8191})


@pytest.mark.parametrize("kind", VALUES)
def test_the_largest_are_those_of_a_full_sort(kind):
    for length, top_k in itertools.product(LENGTHS, (1, 2, 3, 7, 31, 64, 500, 10_000)):
        values = VALUES[kind](3, length)
        found, where = search._largest(values, top_k)
        wanted = values.sort(dim=1, descending=True).values[:, :top_k]
        assert torch.equal(found.sort(dim=1, descending=True).values, wanted), (length, top_k)
        assert torch.equal(values.gather(1, where), found)
        assert all(len(row.unique()) == row.numel() for row in where)


def full_sort(query, images, corners, similarity, turns, top_k):
    """The same by the whole table of similarities: (scores, table of scores by window and turn)."""
    candidates = torch.cat([patches.cut(image, places, query.shape[-1]) for image, places in zip(images, corners)])
    every = torch.stack([patches.turned(candidates, k) for k in range(turns)], 1).flatten(0, 1)
    table = search.similarities(query, every, similarity).unflatten(1, (-1, turns))
    return table.flatten(1).sort(dim=1, descending=True).values[:, :top_k], table


def smooth(bands, height, width, seed):
    """A random image of few details, float32."""
    coarse = random(1, bands, height // 3, width // 3, seed=seed)
    return F.interpolate(coarse, size=(height, width), mode="bicubic")[0]


SPOT = torch.zeros(3, 20, 31)
SPOT[1, 7, 9] = 1
TILE = random(3, 5, 5, seed=1)
IMAGES = {
    "random": [random(3, 20, 31, seed=1), random(3, 9, 17, seed=2)],
    "smooth": [smooth(3, 20, 31, seed=1), smooth(3, 9, 17, seed=2)],
    "all equal": [torch.full((3, 20, 31), 0.5), torch.full((3, 9, 17), 0.5)],
    "every window often": [TILE.repeat(1, 4, 6), TILE.repeat(1, 2, 4)],
    "flat but for a spot": [SPOT, torch.zeros(3, 9, 17)],
}


@pytest.mark.parametrize("way", ["one block", "many blocks", "pruned", "pruned, many blocks"])
@pytest.mark.parametrize("turns", [1, 8])
@pytest.mark.parametrize("similarity", search.SIMILARITIES)
@pytest.mark.parametrize("kind", IMAGES)
def test_nearest_equals_a_full_sort(kind, similarity, turns, way, monkeypatch):
    if "many" in way:
        for name, value in [("PIECE", 7), ("SPAN", 50 * turns), ("PRODUCT", 130), ("BOUNDS", 130 * turns)]:
            monkeypatch.setattr(search, name, value)
    monkeypatch.setattr(search, "WORTH", 0 if "pruned" in way else math.inf)
    images, query = [image.double() for image in IMAGES[kind]], random(5, 3, 4, 4, dtype=torch.float64)
    query[0] = images[0][:, 3:7, 5:9]
    query[1] = 0.25
    corners = [patches.windows(*image.shape[1:], 4, 2) for image in images]
    total = turns * sum(map(len, corners))
    for top_k in (1, 3, 50, 51, total - 1, total):
        options = {"similarity": similarity, "turns": turns, "top_k": top_k, "chunk_mb": 1}
        scores, numbers, turn = search.nearest(query, images, corners, **options)
        wanted, table = full_sort(query, images, corners, similarity, turns, top_k)
        assert scores.shape == numbers.shape == turn.shape == (5, top_k)
        assert torch.allclose(scores, wanted, atol=1e-12)
        assert torch.allclose(table[torch.arange(5)[:, None], numbers, turn], scores, atol=1e-12)
        assert all(len(row.unique()) == top_k for row in turns * numbers + turn)  # none twice


def test_the_turn_is_that_of_the_candidate():
    image = random(3, 20, 31)
    for k in range(8):
        query = torch.from_numpy(turned(image[:, 6:10, 11:15].numpy(), k).copy())[None]
        scores, number, turn = search.nearest(query, [image], [patches.windows(20, 31, 4, 1)], turns=8)
        assert (number.item(), turn.item()) == (6 * 28 + 11, k)
        assert scores.item() == pytest.approx(1, abs=1e-6)


def test_a_long_vector_and_a_small_chunk():
    """Where the bound allows not even one query or candidate, it goes one by one."""
    query, image = random(3, 9, 40, 40), random(9, 45, 44, seed=1)
    corners = [patches.windows(45, 44, 40, 1)]
    found = search.nearest(query, [image], corners, turns=8, top_k=5, chunk_mb=1)
    wide = search.nearest(query, [image], corners, turns=8, top_k=5, chunk_mb=1000)
    assert torch.allclose(found[0], wide[0], atol=1e-6)
    assert torch.equal(found[1], wide[1])
    assert torch.equal(found[2], wide[2])


def test_images_without_windows_are_passed_over():
    query, image = random(2, 3, 4, 4), random(3, 9, 17, seed=1)
    some, none = patches.windows(9, 17, 4, 3), torch.empty(0, 2, dtype=torch.long)
    found = search.nearest(query, [image, image, image], [none, some, none], top_k=4)
    alone = search.nearest(query, [image], [some], top_k=4)
    assert all(torch.equal(one, other) for one, other in zip(found, alone))


def test_no_gradient_is_kept():
    query = random(2, 3, 4, 4).requires_grad_()
    scores, *_ = search.nearest(query, [random(3, 9, 17)], [patches.windows(9, 17, 4, 3)])
    assert not scores.requires_grad


def test_an_unknown_similarity():
    with pytest.raises(ValueError) as error:
        search.similarities(random(1, 1, 2, 2), random(1, 1, 2, 2), "x")
    assert str(error.value) == "`similarity` must be one of 'dot', 'cosine', 'zncc', 'l2', got 'x'"


# --- pruning ---


def low_rank(count, length, rank, seed, noise=0.02):
    """Vectors (count, length) close to `rank` directions."""
    columns = torch.linalg.qr(random(length, rank, seed=1)).Q
    return random(count, rank, seed=seed) @ columns.T + noise * random(count, length, seed=seed + 1)


@settings(max_examples=40, deadline=None, derandomize=True, database=None)
@given(
    st.integers(1, 12), st.integers(1, 90), st.integers(6, 70), st.integers(1, 6), st.floats(0, 1), st.integers(0, 99)
)
def test_the_product_of_two_shadows_is_a_bound(queries, candidates, length, rank, noise, seed):
    """For any vectors and any orthonormal basis, also where the bound is an equality."""
    rows, columns = (low_rank(n, length, rank, seed + n, noise) for n in (queries, candidates))
    basis = torch.linalg.qr(torch.cat([rows, random(length, length, seed=seed)]).T).Q[:, :rank]
    bound = pruning.shadows(rows, basis) @ pruning.shadows(columns, basis).T
    assert (bound >= (rows.double() @ columns.double().T).float()).all()


@pytest.mark.parametrize(("noise", "found"), [(0.01, True), (3.0, False)])
def test_directions_are_found_where_there_are_any(noise, found):
    basis = pruning.directions(low_rank(500, 60, 6, 0, noise))
    assert (basis is not None) == found
    if found:
        assert basis.shape == (60, 8)
        torch.testing.assert_close(basis.T @ basis, torch.eye(8), atol=1e-5, rtol=0)


def test_pruning_computes_few_scores_and_finds_the_same(monkeypatch):
    """On a smooth image: the same windows in the same order, with a small share of the scores computed."""
    image, query = smooth(4, 90, 80, seed=1), smooth(4, 40, 48, seed=2)
    cut = patches.unfold(query[None], 8, 4)[0]
    corners = [patches.windows(90, 80, 8, 1)]
    options = {"turns": 8, "top_k": 20}
    monkeypatch.setattr(search, "WORTH", math.inf)
    wanted = search.nearest(cut, [image], corners, **options)
    computed = []
    scores = pruning.pair_scores

    def counted(*pairs):
        computed.append(len(pairs[2]))
        return scores(*pairs)

    monkeypatch.setattr(pruning, "pair_scores", counted)
    monkeypatch.setattr(search, "WORTH", 0)
    found = search.nearest(cut, [image], corners, **options)
    assert 0 < sum(computed) < 0.02 * 8 * len(cut) * len(corners[0])
    torch.testing.assert_close(found[0], wanted[0], atol=2e-6, rtol=0)
    clear = (wanted[0].diff(dim=1) < -5e-6).all(1)  # no ties in the order
    assert clear.any()
    assert torch.equal(found[1][clear], wanted[1][clear])
    assert torch.equal(found[2][clear], wanted[2][clear])
