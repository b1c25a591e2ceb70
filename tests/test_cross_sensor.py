"""The benchmark across two instruments: its functions on tiny images whose answers are known."""

import importlib
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from ctmem.match import matching
from ctmem.match import patches as pt
from ctmem.observe.optics import blur as blurred
from ctmem.observe.optics import gaussian_psf

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"


@pytest.fixture
def bench(monkeypatch):
    """The benchmark as a module."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("cross_sensor")


@pytest.fixture
def image():
    """(1, 4, 24, 36), smooth enough to be moved by parts of a pixel; every band different."""
    noise = torch.rand(1, 4, 24, 36, generator=torch.Generator().manual_seed(3))
    return blurred(noise, gaussian_psf(3.0)) * torch.tensor([0.2, 0.5, 1.0, 2.0]).reshape(1, 4, 1, 1)


def test_the_offset_is_that_by_which_an_image_was_moved(bench, image):
    by = np.array([0.7, -1.4])
    other = 3 * bench.moved(image, by) + 1  # another brightness moves nothing
    assert np.abs(bench.offset(image, other) - by).max() < 0.15
    assert np.abs(bench.offset(image, image)).max() == 0


def test_moving_by_whole_pixels_is_down_and_right(bench, image):
    assert torch.allclose(bench.moved(image, np.array([2, -3]))[:, :, 4:-4, 4:-8], image[:, :, 2:-6, 7:-5], atol=1e-5)


def test_zncc_by_hand(bench):
    step = torch.tensor([[[[0.0, 1.0], [0.0, 1.0]]]])
    pairs = torch.cat([step, step, step]), torch.cat([5 * step + 2, 1 - step, step.transpose(2, 3)])
    assert bench.zncc(*pairs).tolist() == pytest.approx([1, -1, 0])


def test_hits_count_windows_within_two_pixels_in_rows_and_columns(bench):
    places = torch.tensor([[4.0, 4.4], [10.0, 0.0]])
    windows = torch.full((2, 64, 2), 30)
    windows[0, 3] = torch.tensor([6, 3])  # the fourth window is 2 down and 1.4 left
    windows[1, 20] = torch.tensor([12, 2])
    windows[1, 0] = torch.tensor([10, 3])  # 3 px: too far
    assert bench.hits(windows, places) == ["0", "50", "100"]


def test_elsewhere_leaves_out_all_that_overlaps_and_keeps_the_order(bench, image):
    corners = pt.windows(24, 36, 4, 8)
    query = pt.cut(image[0], corners, 4)
    match = matching.match(query, image, patch=4, stride=1, top_k=64 + 49)
    assert torch.equal(match.windows[:, 0, 0, :2], corners)  # each finds itself first
    other = bench.keep_first(match, bench.elsewhere(match, corners), 64)
    distance = (other.windows[:, 0, :, :2] - corners[:, None]).abs().amax(-1)
    assert other.windows.shape == (len(corners), 1, 64, 3) and int(distance.min()) == 4
    assert (other.scores.diff(dim=-1) <= 0).all()
    with pytest.raises(ValueError, match="`allowed` must leave 2 windows, got 1"):
        bench.keep_first(match, match.scores >= match.scores[..., :1], 2)


@pytest.mark.parametrize("similarity", ["cosine", "zncc", "l2"])
def test_a_task_with_itself_in_other_units_finds_all_and_takes_the_truth(bench, image, similarity):
    task = bench.Task(image, 3 * image + 2, 2, 4, np.zeros(2), 0)
    shares, (sharp, detail, *elsewhere) = task.search(similarity, True)
    assert shares == ["100"] * 3
    assert float(sharp.min()) == pytest.approx(1, abs=1e-3) and float(detail.min()) == pytest.approx(1, abs=1e-2)
    assert all(float(value.mean()) < 0.9 for value in elsewhere)


def test_a_margin_moves_the_true_places(bench, image):
    task = bench.Task(image, image, 4, 4, np.array([0.2, 0.4]), 2)
    assert torch.equal(task.nearest.amin(0), torch.tensor([2, 2]))  # corner (4, 4); (0, 0) is cut off
    assert float((task.places - task.nearest - torch.tensor([0.2, 0.4])).abs().max()) < 1e-6
    shares, (sharp, _) = task.at_the_place()
    assert shares == ["100"] * 3 and float(sharp.min()) > 0.98  # each band got its own gain


def test_without_the_scenes_it_says_so_and_writes_nothing(bench, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(sys, "argv", ["cross_sensor.py", "--scenes", str(tmp_path)])
    bench.main()
    wanted = "skipped: no paris_hyperion_hsi.npz and no paris_ali_msi.npz; name their folder by --scenes\n"
    assert capsys.readouterr().out == wanted
