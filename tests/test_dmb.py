"""Matching against a brute-force loop in float64, exact finds, radiometry, texture, bad input."""

from __future__ import annotations

import itertools
import subprocess
import sys
import textwrap
import time

import numpy as np
import pytest
import torch

from ctmem import dmb, patches
from ctmem.config import MatchConfig
from ctmem.sensors import blur, gaussian_psf

QUERY, REFERENCE, PATCH = (2, 3, 11, 21), (2, 3, 14, 17), 4  # no side is a multiple of the patch


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def smooth(*shape: int, seed: int = 0) -> torch.Tensor:
    return blur(random(*shape, seed=seed), gaussian_psf(2.0))


def turned(x: np.ndarray, k: int) -> np.ndarray:
    """The flip or rotation k in numpy: mirror columns for k ≥ 4, then quarter turns."""
    return np.rot90(x[..., ::-1] if k >= 4 else x, k % 4, (-2, -1))


def alike(q: np.ndarray, k: np.ndarray, similarity: str) -> float:
    """One similarity of one pair of patches, from its definition."""
    if similarity == "l2":
        return -float(((q - k) ** 2).sum())
    if similarity == "zncc":
        q, k = (x - x.mean((-2, -1), keepdims=True) for x in (q, k))
    product = float((q * k).sum())
    return product if similarity == "dot" else product / np.sqrt((q**2).sum() * (k**2).sum())


def places(size: int, stride: int) -> list[int]:
    return sorted({*range(0, size - PATCH + 1, stride), size - PATCH})


def window(x: np.ndarray, row: int, column: int) -> np.ndarray:
    return x[:, row : row + PATCH, column : column + PATCH]


def brute_force(q: np.ndarray, k: np.ndarray, similarity: str, stride: int, turns: int):
    """For every query patch: list of (score, row, column, turn) of all candidates."""
    candidates = list(itertools.product(places(k.shape[1], stride), places(k.shape[2], stride), range(turns)))
    table = []
    for row, column in itertools.product(places(q.shape[1], PATCH), places(q.shape[2], PATCH)):
        patch = window(q, row, column)
        table.append([(alike(patch, turned(window(k, r, c), t), similarity), r, c, t) for r, c, t in candidates])
    return table


def averaged(parts: list[np.ndarray], size: tuple[int, int]) -> np.ndarray:
    """Query patches put back, overlaps averaged."""
    total, cover = np.zeros((parts[0].shape[0], *size)), np.zeros(size)
    for part, (row, column) in zip(parts, itertools.product(places(size[0], PATCH), places(size[1], PATCH))):
        total[:, row : row + PATCH, column : column + PATCH] += part
        cover[row : row + PATCH, column : column + PATCH] += 1
    return total / cover


OPTIONS = list(itertools.product(dmb.SIMILARITIES, (1, 3, 4), (False, True)))


@pytest.mark.parametrize(("similarity", "stride", "transforms"), OPTIONS)
def test_match_equals_brute_force(similarity, stride, transforms):
    query, reference = random(*QUERY), random(*REFERENCE, seed=1)
    options = {"stride": stride, "similarity": similarity, "transforms": transforms, "top_k": 3}
    found = dmb.match(query, reference, patch=PATCH, **options)
    columns = len(places(REFERENCE[3], stride))
    for b in range(2):
        q, k = query[b].double().numpy(), reference[b].double().numpy()
        table = brute_force(q, k, similarity, stride, 8 if transforms else 1)
        best = [sorted(row, reverse=True)[:3] for row in table]
        assert np.allclose(found.scores[b], [[c[0] for c in row] for row in best], atol=1e-4)
        assert found.windows[b].tolist() == [[list(c[1:]) for c in row] for row in best]
        numbers = [
            [
                places(REFERENCE[2], stride).index(r) * columns + places(REFERENCE[3], stride).index(c)
                for _, r, c, _ in row
            ]
            for row in best
        ]
        assert found.indices[b].tolist() == numbers


@pytest.mark.parametrize("relevel", [False, True])
@pytest.mark.parametrize(
    ("similarity", "stride", "transforms"), [("zncc", 1, True), ("l2", 3, False), ("dot", 4, True)]
)
def test_texture_equals_brute_force(similarity, stride, transforms, relevel):
    query, sharp = random(*QUERY), random(*REFERENCE, seed=1)
    blurred, temperature = blur(sharp, gaussian_psf(2.0)), 0.3
    found = dmb.match(query, blurred, patch=PATCH, stride=stride, similarity=similarity, transforms=transforms)
    texture = dmb.texture(found, query, sharp, blurred, temperature=temperature, relevel=relevel)
    assert texture.shape == (2, 12, 11, 21)
    for b in range(2):
        q, s, k = (x[b].double().numpy() for x in (query, sharp, blurred))
        steps = np.pad(s, ((0, 0), (1, 1), (1, 1)), mode="edge")
        across, down = (
            (steps[:, 1:-1, 2:] - steps[:, 1:-1, :-2]) / 2,
            (steps[:, 2:, 1:-1] - steps[:, :-2, 1:-1]) / 2,
        )
        gradient = np.sqrt(across**2 + down**2 + 1e-6)
        parts = []
        table = brute_force(q, k, similarity, stride, 8 if transforms else 1)
        corners = itertools.product(places(QUERY[2], PATCH), places(QUERY[3], PATCH))
        for row, corner in zip(table, corners):
            scores = np.array([c[0] for c in row])
            weights = np.exp((scores - scores.max()) / temperature)
            soft = sum(w * turned(window(k, r, c), t) for w, (_, r, c, t) in zip(weights / weights.sum(), row))
            _, r, c, t = max(row)
            hard, grad, low = (turned(window(x, r, c), t) for x in (s, gradient, k))
            level = window(q, *corner).mean((1, 2), keepdims=True)
            parts.append(
                [
                    soft + relevel * (level - soft.mean((1, 2), keepdims=True)),
                    hard + relevel * (level - low.mean((1, 2), keepdims=True)),
                    grad,
                    hard - low,
                ]
            )
        wanted = np.concatenate([averaged([part[i] for part in parts], QUERY[2:]) for i in range(4)])
        assert np.allclose(texture[b], wanted, atol=2e-4)


@pytest.mark.parametrize("similarity", ["zncc", "cosine", "l2"])
@pytest.mark.parametrize("bands", [1, 3, 4, 9])
def test_a_cut_of_the_reference_is_found_at_its_place(similarity, bands):
    reference = smooth(1, bands, 40, 53)
    query = reference[:, :, 5:21, 7:31]
    found = dmb.match(query, reference, patch=8, stride=1, similarity=similarity)
    assert found.windows[0, :, 0].tolist() == [[5 + r, 7 + c, 0] for r in (0, 8) for c in (0, 8, 16)]
    assert torch.allclose(found.scores, torch.full((1, 6, 1), 0.0 if similarity == "l2" else 1.0), atol=1e-4)


@pytest.mark.parametrize(("gain", "offset"), [(0.2, 0.5), (3.0, -0.4), (1.0, 2.0)])
def test_zncc_is_blind_to_gain_and_offset(gain, offset):
    reference = smooth(1, 4, 40, 53)
    offsets = offset * torch.tensor([1.0, 0.5, -0.3, 2.0])[:, None, None]  # another one in each band
    found = dmb.match(gain * reference[:, :, 5:21, 7:31] + offsets, reference, patch=8, stride=1)
    assert found.windows[0, :, 0].tolist() == [[5 + r, 7 + c, 0] for r in (0, 8) for c in (0, 8, 16)]
    assert torch.allclose(found.scores, torch.ones(1, 6, 1), atol=1e-4)


def test_dot_is_not_and_favours_bright_patches():
    reference = 0.3 * smooth(1, 4, 40, 53)
    reference[:, :, 24:32, 40:48] = 1.0  # bright and without any structure
    found = dmb.match(reference[:, :, 5:13, 7:15], reference, patch=8, stride=1, similarity="dot")
    assert found.windows[0, 0, 0].tolist() == [24, 40, 0]


@pytest.mark.parametrize("k", range(8))
def test_a_turned_cut_is_found_with_its_turn(k):
    reference = smooth(1, 4, 40, 53)
    query = patches.dihedral(reference[:, :, 5:13, 7:15], k)
    found = dmb.match(query, reference, patch=8, stride=1, transforms=True)
    assert found.windows[0, 0, 0].tolist() == [5, 7, k]
    assert found.scores.item() == pytest.approx(1, abs=1e-5)
    assert torch.allclose(dmb.gather(found, reference)[0, 0], query[0])


@pytest.mark.parametrize("transforms", [False, True])
@pytest.mark.parametrize("similarity", dmb.SIMILARITIES)
def test_chunks_change_nothing(similarity, transforms, monkeypatch):
    query, reference = random(2, 4, 25, 33), smooth(1, 4, 160, 90)
    options = {"patch": 8, "stride": 1, "similarity": similarity, "transforms": transforms, "top_k": 4}
    whole = dmb.match(query, reference, chunk_mb=10_000, **options)
    textures = [dmb.texture(whole, query, reference, 0.9 * reference, chunk_mb=10_000)]
    monkeypatch.setattr(dmb, "QUERY_BLOCK", 5)
    chunked = dmb.match(query, reference, chunk_mb=1, **options)
    textures.append(dmb.texture(whole, query, reference, 0.9 * reference, chunk_mb=1))
    assert torch.equal(whole.indices, chunked.indices)
    assert torch.equal(whole.windows, chunked.windows)
    assert torch.allclose(whole.scores, chunked.scores, atol=1e-4)
    assert torch.allclose(*textures, atol=1e-4)


def test_memory_is_bounded_by_the_chunk():
    program = """
        import resource, torch
        from ctmem import dmb
        peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        query, reference = torch.rand(1, 4, 48, 48), torch.rand(1, 4, 360, 420)
        dmb.match(query, reference[:, :, :60, :60], patch=8, stride=1)  # libraries warmed up
        before = peak()
        found = dmb.match(query, reference, patch=8, stride=1, chunk_mb=20)
        dmb.texture(found, query, reference, reference, chunk_mb=20)
        print(peak() - before)
    """
    ran = subprocess.run([sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, timeout=60)
    assert ran.returncode == 0, ran.stderr
    assert float(ran.stdout) < 60  # MB; the candidates alone are 149 MB, and several copies of them are needed


def test_fast_enough_for_a_training_crop():
    query, reference = random(1, 4, 48, 48), random(1, 4, 400, 400, seed=1)
    seconds = []
    for _ in range(3):
        start = time.perf_counter()
        dmb.match(query, reference, patch=8, stride=2)
        seconds.append(time.perf_counter() - start)
    assert min(seconds) < 1.5  # about 0.1 on one idle core


@pytest.mark.parametrize("size", [(12, 20), (8, 8), (9, 31), (5, 30)])
@pytest.mark.parametrize("reference_size", [(8, 8), (13, 40)])
def test_any_size(size, reference_size):
    query, reference = random(2, 7, *size), random(1, 7, *reference_size, seed=1)
    found = dmb.match(query, reference, patch=8, stride=2)
    assert found.grid == patches.grid_shape(*size, 8)
    assert found.indices.shape == (2, found.grid[0] * found.grid[1], 1)
    assert len(found.corners) == found.indices.shape[1]
    assert dmb.texture(found, query, reference, reference).shape == (2, 28, *size)


def test_each_sample_has_its_own_reference():
    query, reference = random(3, 4, 16, 24), random(3, 4, 30, 41, seed=1)
    options = {"patch": 8, "stride": 2, "top_k": 2}
    together = dmb.match(query, reference, **options)
    texture = dmb.texture(together, query, reference, 0.5 * reference)
    for b in range(3):
        alone = dmb.match(query[b : b + 1], reference[b : b + 1], **options)
        assert torch.equal(together.windows[b], alone.windows[0])
        own = dmb.texture(alone, query[b : b + 1], reference[b : b + 1], 0.5 * reference[b : b + 1])
        assert torch.allclose(texture[b], own[0], atol=1e-5)
    assert not torch.equal(together.windows[1], dmb.match(query, reference[:1], **options).windows[1])


def test_a_shared_reference_equals_copies_of_it():
    query, reference = random(3, 4, 16, 24), random(1, 4, 30, 41, seed=1)
    shared, copied = (dmb.match(query, r, patch=8, stride=2) for r in (reference, reference.expand(3, -1, -1, -1)))
    assert torch.equal(shared.windows, copied.windows)
    first, second = (
        dmb.texture(m, query, r, r) for m, r in ((shared, reference), (copied, reference.expand(3, -1, -1, -1)))
    )
    assert torch.allclose(first, second, atol=1e-5)


@pytest.mark.parametrize("level", [0.0, 0.3, 0.7])
def test_constant_patches_score_zero_and_never_nan(level):
    query, reference = random(1, 4, 16, 16), random(1, 4, 24, 24, seed=1)
    query[:, :, :8, :8] = level
    reference[:, :, 3:15, 5:18] = level
    every = dmb.similarities(patches.unfold(query, 8)[0], patches.unfold(reference, 8, 1)[0])
    assert (every[0] == 0).all()
    flat = [
        number
        for number, (row, column) in enumerate(patches.windows(24, 24, 8, 1).tolist())
        if 3 <= row <= 7 and 5 <= column <= 10
    ]
    assert (every[:, flat] == 0).all()
    found = dmb.match(query, reference, patch=8, stride=1)
    assert torch.isfinite(dmb.texture(found, query, reference, reference)).all()


def test_all_constant_images():
    query, reference = torch.full((1, 4, 16, 16), 0.3), torch.full((1, 4, 24, 24), 0.6)
    found = dmb.match(query, reference, patch=8, stride=4, top_k=2)
    assert (found.scores == 0).all()
    texture = dmb.texture(found, query, reference, reference)
    assert torch.allclose(texture[:, :8], torch.tensor(0.3))  # soft and hard, at the query's level
    cosine = dmb.similarities(torch.zeros(1, 1, 2, 2), torch.ones(1, 1, 2, 2), "cosine")
    assert cosine.item() == 0


def test_similarity_map_is_the_row_of_the_table():
    query, reference = random(1, 3, 8, 8), random(1, 3, 20, 31, seed=1)
    table = dmb.similarities(query, patches.unfold(reference, 8, 3)[0])
    heat = dmb.similarity_map(query[0], reference, stride=3)
    assert heat.shape == (5, 9)
    assert torch.allclose(heat.flatten(), table[0], atol=1e-6)


def test_gradient_magnitude_of_a_ramp():
    rows, columns = torch.meshgrid(torch.arange(6.0), torch.arange(9.0), indexing="ij")
    ramp = (3 * rows + 4 * columns)[None, None]
    assert torch.allclose(dmb.gradient_magnitude(ramp)[0, 0, 1:-1, 1:-1], torch.tensor(5.0))
    assert torch.allclose(dmb.gradient_magnitude(torch.ones(1, 2, 4, 4)), torch.tensor(1e-3))


def test_radiometry_gives_mean_and_deviation_of_the_query():
    query, reference = 0.2 * random(2, 4, 12, 20) + 0.4, random(1, 4, 31, 17, seed=1)
    reference[:, 2] = 0.5  # a constant band: only its mean can be moved
    moved = dmb.match_radiometry(reference, query)
    assert moved.shape == (2, 4, 31, 17)
    assert torch.allclose(moved.mean((2, 3)), query.mean((2, 3)), atol=1e-5)
    bands = [0, 1, 3]
    assert torch.allclose(
        moved[:, bands].std((2, 3), correction=0), query[:, bands].std((2, 3), correction=0), atol=1e-5
    )
    assert (moved[:, 2].std((1, 2)) < 1e-5).all()


def scene() -> tuple[torch.Tensor, torch.Tensor]:
    """A sharp reference (1, 4, 33, 47) and its blurred version."""
    sharp = random(1, 4, 33, 47)
    return sharp, blur(sharp, gaussian_psf(3.0))


@pytest.mark.parametrize(("gain", "offset", "radiometry"), [(1.0, 0.0, False), (1.0, 0.0, True), (0.4, 0.2, True)])
def test_dmb_gives_back_the_sharp_image_where_the_reference_is_paired(gain, offset, radiometry):
    sharp, blurred = scene()
    config = MatchConfig(stride=1, radiometry=radiometry, temperature=1e-3)
    degrade = lambda x: blur(x, gaussian_psf(3.0))  # noqa: E731
    texture, found = dmb.dmb(gain * blurred + offset, sharp, torch.eye(4), degrade, config)
    soft, hard, gradient, difference = texture.chunk(4, dim=1)
    assert found.windows[0, :, 0, :2].tolist() == found.corners.tolist()
    assert torch.allclose(soft, gain * blurred + offset, atol=1e-3)
    assert torch.allclose(hard, gain * sharp + offset, atol=1e-4)
    assert torch.allclose(difference, gain * (sharp - blurred), atol=1e-4)
    assert torch.allclose(gradient, dmb.gradient_magnitude(gain * sharp + offset), atol=1e-3)


def test_dmb_degrades_the_reference_once_and_applies_the_response():
    calls = []

    def degrade(x):
        calls.append(tuple(x.shape))
        return x

    lr_hsi_up, srf = random(2, 7, 12, 20), torch.tensor([[0.5, 0.5] + 5 * [0], 5 * [0] + [0.25, 0.75]])
    reference = random(1, 2, 30, 17, seed=1)
    texture, found = dmb.dmb(lr_hsi_up, reference, srf, degrade, MatchConfig(patch=4))
    assert calls == [(1, 2, 30, 17)]
    assert texture.shape == (2, 8, 12, 20)
    bands = [lr_hsi_up[:, :2].mean(1), 0.25 * lr_hsi_up[:, 5] + 0.75 * lr_hsi_up[:, 6]]
    query = torch.stack(bands, dim=1)
    moved = dmb.match_radiometry(reference, query)
    wanted = dmb.match(query, moved, patch=4, stride=2, transforms=True, top_k=64)
    assert torch.equal(found.windows, wanted.windows)


def test_dmb_averages_as_many_windows_as_a_small_reference_has():
    config = MatchConfig(patch=8, stride=4, transforms=False, top_k=64)
    _, found = dmb.dmb(random(1, 3, 16, 16), random(1, 3, 12, 16, seed=1), torch.eye(3), lambda x: x, config)
    assert found.scores.shape[-1] == 6


def test_dmb_uses_every_reference():
    lr_hsi_up, references = random(2, 4, 16, 16), random(2, 4, 24, 24, seed=1)
    both, _ = dmb.dmb(lr_hsi_up, references, torch.eye(4), lambda x: x)
    for b in range(2):
        alone, _ = dmb.dmb(lr_hsi_up[b : b + 1], references[b : b + 1], torch.eye(4), lambda x: x)
        assert torch.allclose(both[b], alone[0], atol=1e-5)


def test_no_gradient_is_kept():
    sharp, _ = scene()
    weight = torch.ones(1, requires_grad=True)
    texture, _ = dmb.dmb(random(1, 4, 16, 16), sharp, torch.eye(4), lambda x: weight * x)
    assert not texture.requires_grad


def test_several_best_windows_are_averaged():
    query, sharp = random(1, 3, 8, 8), random(1, 3, 20, 20, seed=1)
    found = dmb.match(query, sharp, patch=8, stride=3, top_k=3)
    mean = dmb.texture(found, query, sharp, sharp, temperature=1e9, relevel=False, top_k=3)[:, 3:6]
    wanted = sum(dmb.gather(found, sharp, rank)[:, 0] for rank in range(3)) / 3
    assert torch.allclose(mean, wanted, atol=1e-5)


def test_higher_temperature_is_softer():
    query, sharp = random(1, 3, 8, 8), random(1, 3, 30, 30, seed=1)
    found = dmb.match(query, sharp, patch=8, stride=1)
    cold, hot = (dmb.texture(found, query, sharp, sharp, temperature=t, relevel=False)[:, :3] for t in (1e-4, 1e6))
    assert torch.allclose(cold, dmb.gather(found, sharp)[:, 0], atol=1e-4)
    assert torch.allclose(hot, patches.unfold(sharp, 8, 1).mean(1), atol=1e-4)


NAN = torch.full((1, 4, 16, 16), float("nan"))
OK = torch.rand(1, 4, 16, 16, generator=torch.Generator().manual_seed(0))
FOUND = dmb.match(OK, OK)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: dmb.match(OK[0], OK),
            "`query` must be of shape (B, C, H, W), none of them 0, got shape (4, 16, 16)",
        ),
        (
            lambda: dmb.match(OK, OK[:, :3]),
            "`reference` must be of 4 band(s), shape (B, 4, H, W), got 3 band(s)",
        ),
        (
            lambda: dmb.match(NAN, OK),
            "`query` must be finite everywhere, got 1024 NaN or infinite value(s) of 1024",
        ),
        (
            lambda: dmb.match(OK, NAN),
            "`reference` must be finite everywhere, got 1024 NaN or infinite value(s)",
        ),
        (lambda: dmb.match(OK, OK / 0), "`reference` must be finite everywhere"),
        (lambda: dmb.match(OK, OK[:, :, :7]), "`reference` must be at least 8×8 px, got 7×16"),
        (
            lambda: dmb.match(OK, OK.repeat(2, 1, 1, 1)),
            "`reference` must be a batch of 1 or 1, as `query` has, got 2",
        ),
        (
            lambda: dmb.match(OK, OK, similarity="ssim"),
            "`similarity` must be one of 'dot', 'cosine', 'zncc', 'l2', got 'ssim'",
        ),
        (lambda: dmb.match(OK, OK, patch=0), "`patch` must be a whole number ≥ 1, got 0"),
        (lambda: dmb.match(OK, OK, stride=0), "`stride` must be a whole number ≥ 1, got 0"),
        (lambda: dmb.match(OK, OK, chunk_mb=0), "`chunk_mb` must be a whole number ≥ 1, got 0"),
        (lambda: dmb.match(OK, OK, top_k=5), "`top_k` must be a whole number from 1 to 4, got 5"),
        (
            lambda: dmb.match(OK, OK, transforms=True, top_k=33),
            "`top_k` must be a whole number from 1 to 32, got 33",
        ),
        (lambda: dmb.texture(FOUND, OK, OK, OK, temperature=0), "`temperature` must be > 0, got 0"),
        (
            lambda: dmb.texture(FOUND, OK, OK, OK, temperature=float("nan")),
            "`temperature` must be > 0, got nan",
        ),
        (
            lambda: dmb.texture(FOUND, OK, OK, OK, top_k=2),
            "`top_k` must be a whole number from 1 to 1, got 2",
        ),
        (
            lambda: dmb.texture(FOUND, OK[:, :, :8], OK, OK),
            "`match` must be one of 1 queries of (8, 16) px, got 1 of (16, 16)",
        ),
        (
            lambda: dmb.texture(FOUND, OK, OK[..., :8], OK),
            "`blurred_reference` must be of the shape of `sharp_reference`",
        ),
        (
            lambda: dmb.texture(FOUND, OK, OK[..., :8], OK[..., :8]),
            "1 images of the reference's (16, 16) px, got shape",
        ),
        (lambda: dmb.texture(FOUND, OK, NAN, OK), "`sharp_reference` must be finite everywhere"),
        (lambda: dmb.texture(FOUND, OK, OK, NAN), "`blurred_reference` must be finite everywhere"),
        (
            lambda: dmb.gather(FOUND, OK[..., :9]),
            "`image` must be 1 or 1 images of the reference's (16, 16) px, got shape",
        ),
        (
            lambda: dmb.similarities(OK, OK, "x"),
            "`similarity` must be one of 'dot', 'cosine', 'zncc', 'l2', got 'x'",
        ),
        (lambda: dmb.similarity_map(OK[0], OK[:, :, :9]), "`reference` must be at least 16×16 px, got 9×16"),
        (lambda: dmb.gradient_magnitude(NAN), "`x` must be finite everywhere"),
        (lambda: dmb.match_radiometry(OK[:, :3], OK), "`reference` must be of 4 band(s)"),
        (lambda: dmb.dmb(OK, OK[:, :3], torch.eye(4), torch.abs), "`ref_msi` must be of 4 band(s)"),
        (lambda: dmb.dmb(OK, NAN, torch.eye(4), torch.abs), "`ref_msi` must be finite everywhere"),
        (
            lambda: dmb.dmb(OK, OK[..., :6], torch.eye(4), torch.abs),
            "`ref_msi` must be at least 8×8 px, got 16×6",
        ),
        (lambda: dmb.dmb(OK, OK, 2 * torch.eye(4), torch.abs), "`srf` must be a matrix whose rows sum to 1"),
        (
            lambda: dmb.dmb(OK, OK, torch.eye(5), torch.abs),
            "`srf` must be of 4 columns, one per band of the image",
        ),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError) as error:
        call()
    assert message in str(error.value)


@pytest.mark.parametrize("call", [lambda: dmb.match(OK.int(), OK), lambda: dmb.match(OK, OK.numpy())])
def test_no_floating_point_tensor(call):
    with pytest.raises(TypeError, match="must be a floating-point tensor"):
        call()
