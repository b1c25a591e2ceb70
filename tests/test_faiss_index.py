"""The index proposes, exact scores decide: against the exact search, and what it refuses."""

import subprocess
import sys

import pytest
import torch

from ctmem.match import faiss_index
from ctmem.match import patches as pt
from ctmem.match.faiss_index import ApproximateSearch, default_factory
from ctmem.match.search import SIMILARITIES, nearest, similarities
from ctmem.observe.optics import blur, gaussian_psf

faiss = pytest.importorskip("faiss", reason="the extra `faiss` is not installed")
PATCH = 4


def smooth(*shape, seed=0, fwhm=6.0):
    noise = torch.rand(shape, generator=torch.Generator().manual_seed(seed))
    return blur(noise[None], gaussian_psf(fwhm))[0]


def scenes(seed=1):
    """Two images of different size with a constant and an all-zero corner, and their windows, some left out."""
    images = [smooth(3, 30, 41, seed=seed), 2 * smooth(3, 22, 19, seed=seed + 1) - 1]
    images[0][:, :9, :9], images[1][:, -9:, -9:] = 0.3, 0.0
    corners = [pt.windows(*image.shape[1:], PATCH, 1) for image in images]
    return images, [corners[0][7:], corners[1][::2]]


def queries(count=40):
    """Patches of another image, the last one constant."""
    cut = pt.unfold(smooth(3, 26, 33, seed=5)[None], PATCH, 3)[0][:count].clone()
    cut[-1] = 0.5
    return cut


def same(found, wanted, query, similarity):
    """Whether the scores are those of the exact search, and of the windows that are named."""
    images, corners = scenes()
    assert torch.allclose(found[0], wanted[0], atol=1e-4)
    candidates = torch.cat([pt.cut(image, places, PATCH) for image, places in zip(images, corners)])
    for row, scores, numbers, turns in zip(query, *found):
        turned = torch.stack([pt.turned(candidates[n], int(t)) for n, t in zip(numbers, turns)])
        assert torch.allclose(similarities(row[None], turned, similarity)[0], scores, atol=1e-4)
        assert len(set(zip(numbers.tolist(), turns.tolist()))) == len(numbers)


@pytest.mark.parametrize("turns", [1, 8])
@pytest.mark.parametrize("similarity", SIMILARITIES)
def test_an_index_that_compresses_nothing_finds_what_the_exact_search_finds(similarity, turns, monkeypatch):
    monkeypatch.setattr(faiss_index, "PROPOSED", (1, 0))  # no more than wanted: the index itself must rank rightly
    images, corners = scenes()
    query, options = queries(), {"similarity": similarity, "turns": turns, "top_k": 7}
    if similarity in ("zncc", "cosine"):
        query = query[:-1]  # all scores of the constant patch are 0 for zncc: any windows are the best
    search = ApproximateSearch.build(images, corners, PATCH, similarity, factory="Flat")
    same(search(query, images, corners, **options), nearest(query, images, corners, **options), query, similarity)


def test_flat_patches_score_zero():
    images, corners = scenes()
    search = ApproximateSearch.build(images, corners, PATCH, "zncc", factory="Flat")
    scores, _, _ = search(queries()[-1:], images, corners, top_k=3)
    assert scores.tolist() == [[0, 0, 0]]


@pytest.mark.parametrize("similarity", SIMILARITIES)
def test_the_default_index_finds_almost_all(similarity):
    images = [smooth(4, 130, 161, seed=7), smooth(4, 90, 110, seed=8)]
    corners = [pt.windows(*image.shape[1:], 8, 1) for image in images]
    query = pt.unfold(smooth(4, 64, 64, seed=9)[None], 8)[0]
    options = {"similarity": similarity, "turns": 8, "top_k": 16}
    search = ApproximateSearch.build(images, corners, 8, similarity)
    exact, found = nearest(query, images, corners, **options), search(query, images, corners, **options)
    keys, wanted = (8 * numbers + turns for _, numbers, turns in (found, exact))
    assert (keys[:, :, None] == wanted[:, None]).any(-1).float().mean() > 0.95
    assert (found[0] <= exact[0] + 1e-4 * exact[0].abs()).all()


def test_too_few_proposals_are_searched_exactly():
    images, corners = scenes()
    query, options = queries(), {"similarity": "l2", "turns": 8, "top_k": 500}
    search = ApproximateSearch.build(images, corners, PATCH, "l2", factory="IVF128,Flat", nprobe=1)
    proposed = search._propose(query.flatten(1).repeat_interleave(8, 0), 8, 1064)[0]
    assert ((proposed >= 0).sum(1) < 500).any()  # a list holds about ten windows
    same(search(query, images, corners, **options), nearest(query, images, corners, **options), query, "l2")


def test_memory_and_blocks_do_not_change_the_answer():
    images, corners = scenes()
    one, other = (ApproximateSearch.build(images, corners, PATCH, factory="Flat", chunk_mb=mb) for mb in (1, 256))
    assert one.index.ntotal == other.index.ntotal == sum(map(len, corners))
    found = [
        search(queries()[:-1], images, corners, turns=8, top_k=5, chunk_mb=mb) for search, mb in ((one, 1), (other, 64))
    ]
    assert torch.allclose(found[0][0], found[1][0], atol=1e-6) and torch.equal(found[0][1], found[1][1])


def test_the_same_windows_give_the_same_index():
    images, corners = scenes()
    first, second = (ApproximateSearch.build(images, corners, PATCH).to_bytes() for _ in range(2))
    assert torch.equal(first, second)


def test_bytes_and_back():
    images, corners = scenes()
    search = ApproximateSearch.build(images, corners, PATCH, factory="IVF16,SQ8", nprobe=3)
    other = ApproximateSearch.from_bytes(search.to_bytes(), search.factory, search.nprobe)
    assert str(other) == "FAISS IVF16,SQ8, 3 lists read"
    for one, two in zip(*(s(queries(), images, corners, turns=8, top_k=5) for s in (search, other))):
        assert torch.equal(one, two)
    with pytest.raises(ValueError, match="`data` must be an index that FAISS reads, got 40 other bytes"):
        ApproximateSearch.from_bytes(torch.zeros(40, dtype=torch.uint8), "Flat")


def test_the_default_index():
    assert default_factory(250_000, 256) == "PCA32,IVF1024,SQ8"
    assert default_factory(4_000_000, 1024) == "PCA128,IVF4096,SQ8"
    assert default_factory(500, 12) == "PCA12,IVF8,SQ8"  # 48 windows a list at least
    assert default_factory(3, 64) == "PCA3,IVF1,SQ8"
    images, corners = scenes()
    tiny = ApproximateSearch.build(images[:1], [corners[0][:3]], PATCH)
    assert tiny(queries(2), images[:1], [corners[0][:3]], top_k=3)[1].sort().values.tolist() == [[0, 1, 2]] * 2


def test_threads_are_those_of_torch_and_stay():
    images, corners = scenes()
    before = torch.get_num_threads()
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            search = ApproximateSearch.build(images, corners, PATCH)
            search(queries(), images, corners)
            assert torch.get_num_threads() == threads
            with faiss_index._threads(faiss):
                assert faiss.omp_get_max_threads() == threads
    finally:
        torch.set_num_threads(before)


def test_faiss_may_be_imported_before_torch():
    code = """
import faiss, torch
from ctmem.match import patches as pt
from ctmem.match.faiss_index import ApproximateSearch
image = torch.rand(2, 40, 50, generator=torch.Generator().manual_seed(0))
corners = pt.windows(40, 50, 4, 1)
search = ApproximateSearch.build([image], [corners], 4)
print(search(pt.cut(image, corners[50:53], 4), [image], [corners])[1].flatten().tolist())
"""
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, encoding="utf-8", timeout=120)
    assert ran.stdout == "[50, 51, 52]\n", ran.stderr


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"factory": "Nonsense"}, "`factory` must be an index that FAISS can make and train, got 'Nonsense' for 1"),
        ({"factory": "IVF4096,Flat"}, "`factory` must be an index that FAISS can make and train, got 'IVF4096,Flat'"),
        ({"factory": "IVF16,Flat", "nprobe": 17}, "`nprobe` must be a whole number from 1 to 16, got 17"),
        ({"nprobe": 0}, "`nprobe` must be a whole number from 1 to"),
        ({"factory": "Flat", "nprobe": 4}, "`nprobe` must be None for an index without inverted lists, got 4"),
    ],
)
def test_errors(options, message):
    with pytest.raises(ValueError, match=message):
        ApproximateSearch.build(*scenes(), PATCH, **options)


def test_other_windows_than_the_index_holds():
    images, corners = scenes()
    search = ApproximateSearch.build(images, corners, PATCH, factory="Flat")
    with pytest.raises(ValueError, match=r"`corners` must be the \d+ windows of the index, got 1019"):
        search(queries(), images[:1], corners[:1][:1019])
