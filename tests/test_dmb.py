"""Texture against a brute-force loop in float64, known answers of the whole stage, holes, bad input."""

from __future__ import annotations

import itertools
import subprocess
import sys
import textwrap

import numpy as np
import pytest
import torch

from ctmem.config import MatchConfig
from ctmem.match import align, dmb, matching, patches, search
from ctmem.observe.camera import Camera
from ctmem.observe.optics import blur, gaussian_psf
from tests.matching_oracle import GAIN_LIMITS, PATCH, Oracle, corners

QUERY, SIZES = (2, 3, 6, 9), [(9, 11), (9, 11), (5, 13), (7, 4)]  # no two sides alike, few multiples of the patch


def random(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def soften(x: torch.Tensor) -> torch.Tensor:
    return blur(x, gaussian_psf(3.0))


def seeing(bands: int) -> Camera:
    """A camera whose multispectral sensor has the scene's own bands."""
    return Camera.gaussian(scale=4, srf=torch.eye(bands))


def pierced(image: torch.Tensor) -> torch.Tensor:
    """The image with NaN in one band of one pixel and infinite values in the last columns."""
    image = image.clone()
    image[:, 1, 3, 2] = torch.nan
    image[..., -2:] = torch.inf
    return image


def images(seed: int) -> list[torch.Tensor]:
    return [random(1, 3, *size, seed=seed + i, dtype=torch.float64) for i, size in enumerate(SIZES)]


KINDS = {"shared": [0], "each": [0, 1], "list": [0, 2, 3]}


@pytest.mark.parametrize("holes", [False, True])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("similarity", search.SIMILARITIES)
def test_texture_equals_brute_force(similarity, kind, holes):
    query = random(*QUERY, dtype=torch.float64)
    blurred, sharp = ([group[i] for i in KINDS[kind]] for group in (images(1), images(11)))
    seen = blurred
    if holes:  # the sharp image lacks the last columns of the first one; the blurred one has holes of its own
        seen = [pierced(blurred[0]), *blurred[1:]]
        sharp[0][..., -2:] = sharp[0][..., -3:-2]  # what filling gives
    lacking = [image.clone() for image in sharp]
    if holes:
        lacking[0][..., -2:] = torch.nan
    pairs = [slice(b, b + 1) if kind == "each" else slice(None) for b in range(2)]
    oracles = [
        Oracle(query[b].numpy(), *([x[0].numpy() for x in group[pairs[b]]] for group in (seen, sharp)))
        for b in range(2)
    ]
    given = [x if kind == "list" else torch.cat(x) for x in (lacking, seen)]
    for turns, query_stride, top_k in itertools.product((False, True), (3, 4), (1, 4, None)):
        candidates = [oracle.candidates(3, turns)[0] for oracle in oracles]
        top_k = top_k or min(map(len, candidates))
        options = {"similarity": similarity, "turns": turns, "top_k": top_k, "query_stride": query_stride}
        found = matching.match(query, given[1], patch=PATCH, stride=3, **options)
        best = [
            [oracle.best(c, listed, similarity, top_k) for c in corners(QUERY, query_stride)]
            for oracle, listed in zip(oracles, candidates)
        ]
        for relevel, (temperature, hard_k) in itertools.product(
            (False, True), [(0.05, 1), (0.3, min(3, top_k)), (5.0, top_k)]
        ):
            options = {"temperature": temperature, "relevel": relevel, "hard_k": hard_k}
            texture = dmb.texture(found, query, *given, **options)
            assert texture.shape == (2, 12, 6, 9)
            for b, oracle in enumerate(oracles):
                wanted = oracle.texture(best[b], query_stride, relevel, temperature, hard_k)
                assert np.allclose(texture[b], wanted, atol=1e-9), options


def test_gains_are_those_of_the_docstring():
    assert dmb.GAINS == GAIN_LIMITS


def test_levels_by_hand():
    """One band, one window: query = 4 · blurred + 1, so the gain is held at 3; with minus it is held at 0."""
    low = torch.tensor([[0.0, 0.1], [0.2, 0.3]])[None, None]
    sharp = torch.tensor([[0.0, 0.0], [0.3, 0.3]])[None, None]
    for slope, gain in [(4, 3), (2, 2), (-1, 0)]:
        query = slope * low + 1
        found = matching.match(query, low, patch=2)
        soft, hard, gradient, difference = dmb.texture(found, query, sharp, low)[0]
        level = query.mean()
        assert torch.allclose(soft, level + gain * (low[0, 0] - 0.15))
        assert torch.allclose(hard, level + gain * (sharp[0, 0] - 0.15))
        assert torch.allclose(gradient, gain * align.gradient_magnitude(sharp)[0, 0])
        assert torch.allclose(difference, gain * (sharp - low)[0, 0], atol=1e-6)


def test_a_flat_blurred_patch_hands_over_its_detail_as_it_is():
    """Nothing says what gain it has: 1, and the query's mean."""
    low, sharp = torch.full((1, 1, 2, 2), 0.4), torch.tensor([[0.1, 0.2], [0.5, 0.8]])[None, None]
    query = torch.tensor([[0.6, 0.7], [0.8, 0.9]])[None, None]
    found = matching.match(query, low, patch=2)
    soft, hard, gradient, difference = dmb.texture(found, query, sharp, low)[0]
    assert torch.allclose(soft, torch.tensor(0.75))
    assert torch.allclose(hard, 0.75 + sharp[0, 0] - 0.4)
    assert torch.allclose(gradient, align.gradient_magnitude(sharp)[0, 0])
    assert torch.allclose(difference, (sharp - low)[0, 0])


@pytest.mark.parametrize("border", align.BORDERS)
def test_the_border_of_the_gradient_is_the_one_that_is_asked_for(border):
    image = random(1, 1, 6, 6)
    found = matching.match(image, image, patch=6)
    gradient = dmb.texture(found, image, image, image, gradient_border=border)[:, 2:3]
    assert torch.allclose(gradient, align.gradient_magnitude(image, border), atol=1e-5)


def test_all_candidates_kept_give_the_softmax_over_all():
    query, blurred = random(1, 3, 8, 8), random(1, 3, 20, 31, seed=1)
    candidates = patches.unfold(blurred, 8, 3)
    found = matching.match(query, blurred, patch=8, stride=3, top_k=candidates.shape[1])
    soft = dmb.texture(found, query, blurred, blurred, temperature=0.1, relevel=False)[0, :3]
    weights = torch.softmax(search.similarities(query, candidates[0])[0] / 0.1, 0)
    assert torch.allclose(soft, torch.einsum("n,ncij->cij", weights, candidates[0]), atol=1e-5)


def test_several_best_windows_are_averaged():
    query, sharp = random(1, 3, 8, 8), random(1, 3, 20, 20, seed=1)
    found = matching.match(query, sharp, patch=8, stride=3, top_k=5)
    mean = dmb.texture(found, query, sharp, sharp, temperature=1e9, relevel=False, hard_k=3)[:, 3:6]
    wanted = sum(matching.cut_match(found, sharp, rank)[:, 0] for rank in range(3)) / 3
    assert torch.allclose(mean, wanted, atol=1e-5)


def test_higher_temperature_is_softer():
    query, sharp = random(1, 3, 8, 8), random(1, 3, 30, 30, seed=1)
    found = matching.match(query, sharp, patch=8, stride=1, top_k=23 * 23)
    cold, hot = (dmb.texture(found, query, sharp, sharp, temperature=t, relevel=False)[:, :3] for t in (1e-4, 1e6))
    assert torch.allclose(cold, matching.cut_match(found, sharp)[:, 0], atol=1e-4)
    assert torch.allclose(hot, patches.unfold(sharp, 8, 1).mean(1), atol=1e-4)


@pytest.mark.parametrize("size", [(12, 20), (8, 8), (9, 31), (8, 30)])
@pytest.mark.parametrize("reference_size", [(8, 8), (13, 40)])
@pytest.mark.parametrize("query_stride", [1, 5, 8])
def test_any_size(size, reference_size, query_stride):
    query, reference = random(2, 7, *size), random(1, 7, *reference_size, seed=1)
    found = matching.match(query, reference, patch=8, stride=2, query_stride=query_stride)
    assert dmb.texture(found, query, reference, reference).shape == (2, 28, *size)


def test_each_sample_has_its_own_reference_or_a_shared_one():
    query, reference = random(3, 4, 16, 24), random(3, 4, 30, 41, seed=1)
    options = {"patch": 8, "stride": 2, "top_k": 2}
    together = matching.match(query, reference, **options)
    texture = dmb.texture(together, query, reference, 0.5 * reference)
    for b in range(3):
        one = slice(b, b + 1)
        alone = matching.match(query[one], reference[one], **options)
        own = dmb.texture(alone, query[one], reference[one], 0.5 * reference[one])
        assert torch.allclose(texture[b], own[0], atol=1e-5)
    shared, copies = reference[:1], reference[:1].expand(3, -1, -1, -1)
    first, second = (dmb.texture(matching.match(query, r, **options), query, r, r) for r in (shared, copies))
    assert torch.allclose(first, second, atol=1e-5)


def test_chunks_change_nothing():
    query, reference = random(2, 4, 25, 33), random(1, 4, 60, 50, seed=1)
    found = matching.match(query, reference, stride=3, query_stride=3, turns=True, top_k=30)
    whole, chunked = (
        dmb.texture(found, query, reference, 0.9 * reference, hard_k=30, chunk_mb=mb) for mb in (10_000, 1)
    )
    assert torch.allclose(whole, chunked, atol=1e-5)


def test_memory_is_bounded_by_the_chunk():
    program = """
        import resource, torch
        from ctmem.match import align, dmb, matching, search
        peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        query, reference = torch.rand(1, 4, 64, 48), torch.rand(1, 4, 90, 70)
        found = matching.match(query, reference, stride=4, query_stride=2, turns=True, top_k=64, chunk_mb=20)
        few = matching.match(query[..., :9], reference, stride=4, top_k=64)
        dmb.texture(few, query[..., :9], reference, reference, hard_k=64)  # libraries warmed up
        before = peak()
        dmb.texture(found, query, reference, reference, hard_k=64, chunk_mb=20)
        print(peak() - before)
    """
    ran = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], capture_output=True, encoding="utf-8", timeout=60
    )
    assert ran.returncode == 0, ran.stderr
    assert float(ran.stdout) < 40  # MB: 20, and the maps; what 609 patches take from 64 windows each is 120 MB


@pytest.mark.parametrize("similarity", search.SIMILARITIES)
@pytest.mark.parametrize("level", [0.0, 0.3, 0.7])
def test_constant_patches_give_a_finite_texture(level, similarity):
    query, reference = random(1, 4, 16, 16), random(1, 4, 24, 24, seed=1)
    query[:, :, :8, :8] = level
    reference[:, :, 3:15, 5:18] = level
    found = matching.match(query, reference, patch=8, stride=1, similarity=similarity, top_k=20)
    assert torch.isfinite(found.scores).all()
    assert torch.isfinite(dmb.texture(found, query, reference, reference, hard_k=20)).all()
    flat = torch.full((1, 4, 24, 24), 0.6)
    found = matching.match(torch.full_like(query, level), flat, patch=8, stride=4, similarity=similarity, top_k=2)
    texture = dmb.texture(found, torch.full_like(query, level), flat, flat)
    assert torch.allclose(texture[:, :8], torch.tensor(level), atol=1e-6)  # soft and hard, at the query's level
    assert torch.allclose(texture[:, 12:], torch.zeros(()), atol=1e-6)


@pytest.mark.parametrize("constant", ["query", "reference", "both"])
def test_the_whole_stage_on_constant_images(constant):
    query, reference = random(1, 4, 16, 16), random(1, 4, 24, 30, seed=1)
    if constant != "reference":
        query = torch.full_like(query, 0.3)
    if constant != "query":
        reference = torch.full_like(reference, 0.6)
    texture, found = dmb.dmb(query, reference, seeing(4), blur=soften)
    assert (found.scores == 0).all()
    assert torch.isfinite(texture).all()


def scene() -> tuple[torch.Tensor, torch.Tensor]:
    """A sharp reference (1, 4, 33, 47) and its blurred version."""
    sharp = random(1, 4, 33, 47)
    return sharp, soften(sharp)


@pytest.mark.parametrize("sharpening", [0, 3])
@pytest.mark.parametrize(
    ("gain", "offset", "radiometry"), [(1.0, 0.0, False), (1.0, 0.0, True), (0.4, 0.2, True), (2.5, -0.3, True)]
)
def test_dmb_gives_back_the_sharp_image_where_the_reference_is_paired(gain, offset, radiometry, sharpening):
    sharp, blurred = scene()
    config = MatchConfig(stride=1, radiometry=radiometry, temperature=1e-3, hard_k=1, sharpening=sharpening)
    texture, found = dmb.dmb(gain * blurred + offset, sharp, seeing(4), config, blur=soften)
    soft, hard, gradient, difference = texture.chunk(4, dim=1)
    low = align.sharpen(blurred, soften, sharpening)
    assert found.windows[0, :, 0, :2].tolist() == found.corners.tolist()
    assert torch.allclose(found.scores[..., 0], torch.tensor(1.0), atol=1e-5)
    assert torch.allclose(soft, gain * low + offset, atol=1e-3)
    assert torch.allclose(hard, gain * sharp + offset, atol=1e-4)
    assert torch.allclose(difference, gain * (sharp - low), atol=1e-4)
    assert torch.allclose(gradient, gain * align.gradient_magnitude(sharp), atol=2e-3)


@pytest.mark.parametrize("sharpening", [0, 3])
def test_dmb_takes_no_notice_of_the_reference_sensors_gain_and_offset(sharpening):
    lr_hsi_up, reference = random(2, 4, 16, 24), random(1, 4, 33, 41, seed=1)
    gain = torch.tensor([0.5, 2.0, 1.3, 0.2])[:, None, None]
    offset = torch.tensor([0.3, -0.1, 0.0, 0.6])[:, None, None]
    config = MatchConfig(stride=4, sharpening=sharpening, top_k=8, hard_k=8)
    plain, found = dmb.dmb(lr_hsi_up, reference, seeing(4), config, blur=soften)
    other, again = dmb.dmb(lr_hsi_up, gain * reference + offset, seeing(4), config, blur=soften)
    assert torch.equal(found.windows, again.windows)
    assert torch.allclose(plain, other, atol=1e-3)


def test_dmb_follows_the_querys_gain_and_offset():
    lr_hsi_up, reference = random(2, 4, 16, 24), random(1, 4, 33, 41, seed=1)
    config = MatchConfig(stride=4, top_k=8, hard_k=8)
    plain, found = dmb.dmb(lr_hsi_up, reference, seeing(4), config, blur=soften)
    other, again = dmb.dmb(0.3 * lr_hsi_up + 0.2, reference, seeing(4), config, blur=soften)
    assert torch.equal(found.windows, again.windows)
    assert torch.allclose(0.3 * plain[:, :8] + 0.2, other[:, :8], atol=1e-4)
    assert torch.allclose(0.3 * plain[:, 8:], other[:, 8:], atol=1e-4)


def test_dmb_applies_the_response_and_every_option():
    """The whole stage, put together by hand from its parts."""
    lr_hsi_up, srf = random(2, 7, 12, 20), torch.tensor([[0.5, 0.5] + 5 * [0], 5 * [0] + [0.25, 0.75]])
    reference = random(1, 2, 30, 17, seed=1)
    config = MatchConfig(
        patch=4, stride=3, query_stride=2, similarity="l2", turns=True, top_k=6, hard_k=2, temperature=0.7,
        relevel=False, radiometry=False, sharpening=2,
    )  # fmt: skip
    texture, found = dmb.dmb(lr_hsi_up, reference, Camera.gaussian(srf=srf), config, blur=soften)
    bands = [lr_hsi_up[:, :2].mean(1), 0.25 * lr_hsi_up[:, 5] + 0.75 * lr_hsi_up[:, 6]]
    query = align.sharpen(torch.stack(bands, dim=1), soften, 2)
    blurred = align.sharpen(soften(reference), soften, 2)
    options = {"patch": 4, "stride": 3, "query_stride": 2, "similarity": "l2", "turns": True, "top_k": 6}
    wanted = matching.match(query, blurred, **options)
    assert torch.equal(found.windows, wanted.windows)
    by_hand = dmb.texture(wanted, query, reference, blurred, temperature=0.7, relevel=False, hard_k=2)
    assert torch.allclose(texture, by_hand, atol=1e-5)


def test_radiometry_compares_standardised_bands_and_undoes_it():
    lr_hsi_up, reference = random(2, 3, 12, 20, dtype=torch.float64), random(1, 3, 30, 17, seed=1, dtype=torch.float64)
    lr_hsi_up[:, 1] *= 0.1
    config = MatchConfig(patch=4, stride=3, similarity="l2", top_k=3, hard_k=2, sharpening=0)
    texture, found = dmb.dmb(lr_hsi_up, reference, seeing(3), config, blur=lambda x: 0.5 * x)
    q, s, k = lr_hsi_up.numpy(), reference.numpy(), 0.5 * reference.numpy()
    mean, deviation = (f(q, axis=(2, 3), keepdims=True) for f in (np.mean, np.std))
    mean_k, deviation_k = (f(k, axis=(2, 3), keepdims=True) for f in (np.mean, np.std))
    query, sharp, blurred = (q - mean) / deviation, (s - mean_k) / deviation_k, (k - mean_k) / deviation_k
    query, sharp, blurred = map(torch.from_numpy, (query, sharp, blurred))
    options = {"patch": 4, "stride": 3, "query_stride": 4, "similarity": "l2", "turns": True, "top_k": 3}
    wanted = matching.match(query, blurred, **options)
    assert torch.equal(found.windows, wanted.windows)
    by_hand = dmb.texture(wanted, query, sharp, blurred, hard_k=2).numpy()
    by_hand *= np.tile(deviation, (1, 4, 1, 1))
    by_hand[:, :6] += np.tile(mean, (1, 2, 1, 1))
    assert np.allclose(texture, by_hand)


@pytest.mark.parametrize("batch", [1, 2])
def test_dmb_blurs_query_and_reference_once_per_step(batch):
    calls = []

    def counted(x):
        calls.append(tuple(x.shape))
        return x

    lr_hsi_up, reference = random(batch, 3, 12, 20), random(batch, 3, 30, 17, seed=1)
    config = MatchConfig(patch=4, sharpening=2)
    dmb.dmb(lr_hsi_up, reference, seeing(3), config, blur=counted)
    assert calls == 2 * [(batch, 3, 12, 20)] + 3 * [(batch, 3, 30, 17)]
    calls.clear()
    config = MatchConfig(patch=4, sharpening=0)
    dmb.dmb(lr_hsi_up, [reference[:1], reference[:1, :, :9]], seeing(3), config, blur=counted)
    assert calls == [(1, 3, 30, 17), (1, 3, 9, 17)]


def test_dmb_is_prepare_find_and_hand_over():
    lr_hsi_up, several = random(2, 4, 16, 24), [random(1, 4, 33, 41, seed=1), random(1, 4, 9, 20, seed=2)]
    config = MatchConfig(stride=3, top_k=9, hard_k=4)
    texture, found = dmb.dmb(lr_hsi_up, several, seeing(4), config, blur=soften)
    sharp, blurred = zip(*(align.prepare_reference(one, soften, sharpening=config.sharpening) for one in several))
    query, gain, offset = align.prepare_query(lr_hsi_up, soften, sharpening=config.sharpening)
    by_hand = align.Prepared(query, sharp, blurred, gain, offset)
    for prepared in (by_hand, dmb.prepare(lr_hsi_up, several, seeing(4), config, blur=soften)):
        wanted = dmb.find(prepared, config, chunk_mb=1)
        again = dmb.hand_over(wanted, prepared, config, chunk_mb=1)
        assert torch.equal(found.windows, wanted.windows)
        assert torch.allclose(texture, again, atol=1e-5)
    assert len(found.scenes.unique()) == 2


@pytest.mark.parametrize("config", [MatchConfig(), MatchConfig(radiometry=False, sharpening=0)])
def test_prepared_says_how_the_query_got_its_look(config):
    lr_hsi_up, reference = random(2, 4, 16, 24), random(1, 4, 33, 41, seed=1)
    prepared = dmb.prepare(lr_hsi_up, reference, seeing(4), config, blur=soften)
    sharper = align.sharpen(lr_hsi_up, soften, config.sharpening)
    assert torch.allclose(prepared.query_in_units, sharper, atol=1e-5)
    assert torch.allclose(prepared.query, prepared.gain * sharper + prepared.offset, atol=1e-5)
    assert prepared.sharp.shape == prepared.blurred.shape == reference.shape


def test_without_a_learned_blur_dmb_takes_the_cameras_own():
    lr_hsi_up, reference = random(1, 4, 16, 24), random(1, 4, 33, 41, seed=1)
    results = {}
    for fwhm_px in (4.0, 8.0):
        camera = Camera.gaussian(fwhm_px, scale=4, srf=torch.eye(4))
        results[fwhm_px], found = dmb.dmb(lr_hsi_up, reference, camera)
        told, same = dmb.dmb(lr_hsi_up, reference, seeing(4), blur=camera.blur)
        assert torch.equal(results[fwhm_px], told) and torch.equal(found.windows, same.windows)
    assert not torch.allclose(results[4.0], results[8.0], atol=1e-2)


def test_arrays_give_what_tensors_give():
    lr_hsi_up, reference = random(2, 4, 16, 24), random(2, 4, 33, 41, seed=1)
    for one, other in [
        (reference, reference.numpy()),
        ([*reference.split(1)], [x.numpy() for x in reference.split(1)]),
    ]:
        wanted, _ = dmb.dmb(lr_hsi_up, one, seeing(4), blur=soften)
        assert torch.equal(dmb.dmb(lr_hsi_up.numpy(), other, seeing(4), blur=soften)[0], wanted)


def test_dmb_averages_as_many_windows_as_a_small_reference_has():
    config = MatchConfig(patch=8, stride=4, turns=False, top_k=64)
    texture, found = dmb.dmb(random(1, 3, 16, 16), random(1, 3, 12, 16, seed=1), seeing(3), config, blur=soften)
    assert found.scores.shape[-1] == 6
    assert torch.isfinite(texture).all()


def test_dmb_uses_every_reference():
    lr_hsi_up, references = random(2, 4, 16, 16), random(2, 4, 24, 24, seed=1)
    both, _ = dmb.dmb(lr_hsi_up, references, seeing(4), blur=soften)
    for b in range(2):
        alone, _ = dmb.dmb(lr_hsi_up[b : b + 1], references[b : b + 1], seeing(4), blur=soften)
        assert torch.allclose(both[b], alone[0], atol=1e-5)


def test_dmb_of_a_list_of_one_is_that_of_the_image():
    lr_hsi_up, reference = random(2, 4, 16, 16), random(1, 4, 24, 30, seed=1)
    one, image = (dmb.dmb(lr_hsi_up, r, seeing(4), blur=soften)[0] for r in ([reference], reference))
    assert torch.allclose(one, image, atol=1e-6)


def test_the_reference_may_be_of_another_type_than_the_query():
    texture, _ = dmb.dmb(random(1, 4, 16, 16), random(1, 4, 24, 24, dtype=torch.float64), seeing(4), blur=soften)
    assert texture.dtype == torch.float32


@pytest.mark.parametrize("radiometry", [False, True])
def test_a_reference_with_holes_gives_a_finite_texture(radiometry):
    lr_hsi_up, reference = random(1, 4, 16, 24), random(1, 4, 40, 31, seed=1)
    reference[0, 2, 20, 15] = torch.nan
    reference[:, :, :3, 25:] = torch.inf
    config = MatchConfig(stride=1, radiometry=radiometry)
    texture, found = dmb.dmb(lr_hsi_up, reference, seeing(4), config, blur=soften)
    assert torch.isfinite(texture).all()
    # a hole is one pixel wider after the blur: 3×3 px are in 10×10 windows; rows 0 … 3, columns 24 … 30 in 4 × 7
    assert found.excluded == (100 + 4 * 7,)
    assert torch.isfinite(matching.cut_match(found, reference)).all()


def test_no_value_comes_from_a_window_with_a_hole():
    """Columns 0 to 2 hold what would be seen at once; every window with one of them also has column 3, a hole."""
    lr_hsi_up, reference = random(1, 4, 16, 24), random(1, 4, 30, 31, seed=1)
    reference[..., :3] = 1e6
    reference[..., 3] = torch.nan
    config = MatchConfig(stride=1, similarity="dot", radiometry=False, relevel=False, sharpening=0)
    texture, found = dmb.dmb(lr_hsi_up, reference, seeing(4), config, blur=lambda x: x)
    assert found.excluded == (23 * 5,)  # column 4 is left out too: its gradient reads the hole
    assert texture.abs().max() < 2
    whole = reference[..., 5:]
    alone, _ = dmb.dmb(lr_hsi_up, whole, seeing(4), config, blur=lambda x: x)
    for group in (0, 1, 3):  # but for the gradient at the cut
        assert torch.allclose(texture.chunk(4, 1)[group], alone.chunk(4, 1)[group], atol=1e-6)


def test_no_gradient_is_kept():
    sharp, _ = scene()
    weight = torch.ones(1, requires_grad=True)
    texture, _ = dmb.dmb(random(1, 4, 16, 16), sharp, seeing(4), blur=lambda x: weight * x)
    assert not texture.requires_grad


OK = random(1, 4, 16, 16)
EYE = torch.eye(4)
NAN = torch.full_like(OK, torch.nan)
FOUND = matching.match(OK, OK)
SEVERAL = matching.match(OK, [OK, OK])


def whole(image, reference=OK, srf=EYE):
    return dmb.dmb(image, reference, Camera.gaussian(scale=4, srf=srf), blur=torch.abs)


def transferred(query, sharp, blurred):
    prepared = align.Prepared(query, sharp, blurred, torch.ones(1, 4, 1, 1), torch.zeros(1, 4, 1, 1))
    return dmb.hand_over(dmb.find(prepared), prepared)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: dmb.texture(FOUND, OK, OK, OK, temperature=0), "`temperature` must be a finite number above 0, got 0"),
        (
            lambda: dmb.texture(FOUND, OK, OK, OK, temperature=-1),
            "`temperature` must be a finite number above 0, got -1",
        ),
        (
            lambda: dmb.texture(FOUND, OK, OK, OK, temperature=torch.nan),
            "`temperature` must be a finite number above 0, got nan",
        ),
        (lambda: dmb.texture(FOUND, OK, OK, OK, hard_k=2), "`hard_k` must be a whole number from 1 to 1, got 2"),
        (lambda: dmb.texture(FOUND, OK, OK, OK, hard_k=0), "`hard_k` must be a whole number ≥ 1, got 0"),
        (lambda: dmb.texture(FOUND, OK, OK, OK, chunk_mb=0), "`chunk_mb` must be a whole number ≥ 1, got 0"),
        (
            lambda: dmb.texture(FOUND, OK[:, :, :8], OK, OK),
            "`match` must be of 1 query image(s) of 8×16 px, got one of 1 of 16×16 px",
        ),
        (
            lambda: dmb.texture(FOUND, OK.repeat(2, 1, 1, 1), OK, OK),
            "`match` must be of 2 query image(s) of 16×16 px, got one of 1 of 16×16 px",
        ),
        (
            lambda: dmb.texture(FOUND, OK, OK[..., :8], OK),
            "`blurred_reference` must be of the shape of `sharp_reference`",
        ),
        (
            lambda: dmb.texture(FOUND, OK, OK[..., :8], OK[..., :8]),
            "`blurred_reference` must be of the references' [(16, 16)] px, got [(16, 8)]",
        ),
        (
            lambda: dmb.texture(SEVERAL, OK, OK, OK),
            "`blurred_reference` must be of the references' [(16, 16), (16, 16)] px, got [(16, 16)]",
        ),
        (
            lambda: dmb.texture(SEVERAL, OK, [OK, OK], [OK]),
            "`blurred_reference` must be as many images as `sharp_reference`, 2, got 1",
        ),
        (lambda: dmb.texture(FOUND, OK, OK[:, 1:], OK), "`sharp_reference` must be of 4 band(s)"),
        (lambda: dmb.texture(FOUND, OK, NAN, OK), "`sharp_reference` must be finite in at least one pixel"),
        (lambda: dmb.texture(FOUND, OK, OK, NAN), "`blurred_reference` must be finite in at least one pixel"),
        (lambda: dmb.texture(FOUND, OK, [], OK), "`sharp_reference` must be at least one image (1, c, Hr, Wr)"),
        (lambda: dmb.texture(FOUND, NAN, OK, OK), "`query` must be finite everywhere"),
        (lambda: transferred(OK, OK[..., :7], OK[..., :7]), "`reference` must be at least 8×8 px, got 16×7"),
        (lambda: transferred(OK, [], []), "`reference` must be at least one image (1, c, Hr, Wr), got an empty list"),
        (lambda: transferred(OK, OK, NAN), "`reference` must be finite in at least one pixel"),
        (lambda: whole(OK, OK[:, :3]), "`ref_msi` must be of 4 band(s)"),
        (lambda: whole(OK, NAN), "`ref_msi` must be finite in at least one pixel"),
        (lambda: whole(OK, [OK, NAN]), "`ref_msi[1]` must be finite in at least one pixel"),
        (lambda: whole(OK, []), "`ref_msi` must be at least one image (1, c, Hr, Wr), got an empty list"),
        (lambda: whole(OK, [OK.repeat(2, 1, 1, 1)]), "`ref_msi[0]` must be one image (1, c, Hr, Wr), got shape (2, 4"),
        (lambda: whole(OK, OK[..., :6]), "`ref_msi` must be at least 8×8 px, got 16×6"),
        (lambda: whole(OK, OK.repeat(2, 1, 1, 1)), "`ref_msi` must be one image, or one for each of 1 queries, got 2"),
        (lambda: whole(OK[..., :6]), "`lr_hsi_up` must be at least 8×8 px, got 16×6"),
        (lambda: whole(NAN), "`lr_hsi_up` must be finite everywhere"),
        (lambda: whole(OK, srf=2 * torch.eye(4)), "`srf` must be a matrix whose rows sum to 1"),
        (lambda: whole(OK, srf=torch.eye(5)), "`srf` must be of 4 columns, one per band of the image"),
        (lambda: whole(OK, srf=None), "`camera` must be one with `srf`, the response (c, C) of its multispectral"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError) as error:
        call()
    assert message in str(error.value)


@pytest.mark.parametrize(
    "call",
    [
        lambda: dmb.texture(FOUND, OK, OK.int().numpy(), OK),
        lambda: dmb.texture(FOUND, OK.int(), OK, OK),
        lambda: whole(OK, OK.int()),
        lambda: whole(OK, [OK.int().numpy()]),
        lambda: whole(OK > 0),
    ],
)
def test_no_floating_point_tensor(call):
    with pytest.raises(TypeError, match="must be a floating-point tensor"):
        call()
