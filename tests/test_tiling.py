"""Tiles: they cover a scene once, give what the whole gives, and the same bytes however a run went."""

from __future__ import annotations

import errno
import json
import os
import pickle
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import rasterio
import torch

from ctmem import files
from ctmem.observe.camera import Camera
from ctmem.raster import writing
from ctmem.raster.raster import Raster
from ctmem.raster.writing import create_raster
from ctmem.tiling import journal, plan, run
from ctmem.tiling.journal import Journal, fingerprint, run_of
from ctmem.tiling.plan import check_disk, estimate, plan_tiles, tile_for, windows
from ctmem.tiling.run import sharpen_to, unfinished
from ctmem.tiling.work import Work
from tests.tiling_stubs import Steps, answer, deviation, scene

CAMERA = Camera.gaussian(scale=3)
RECIPE = Steps(CAMERA)
ROOT = Path(__file__).parents[1]


def whole(one: Raster, recipe: Steps = RECIPE) -> np.ndarray:
    """The untiled answer (C, H, W)."""
    return answer(recipe, torch.from_numpy(one.window(0, 0, one.height, one.width))[None])[0].numpy()


def written(folder: Path, one: Raster, *, recipe: Steps = RECIPE, name: str = "sr.tif", **options) -> run.Done:
    """Writes the tiled answer."""
    options = {
        "inputs": {"the scene": ""},
        "answer": answer,
        "tile": 16,
        "dtype": np.float32,
        "deviation": deviation,
        **options,
    }
    return sharpen_to(folder / name, one, recipe, **options)


def read(path: Path) -> np.ndarray:
    """(C, H, W), NaN in holes."""
    with rasterio.open(path) as file:
        return file.read(masked=True).astype(np.float32).filled(np.nan)


# --- plans ---


@pytest.mark.parametrize(("height", "width", "tile"), [(40, 52, 16), (7, 100, 8), (5, 5, 64), (33, 1, 1)])
def test_tiles_cover_a_scene_once_evenly_and_with_all_of_the_halo_there_is(height, width, tile):
    made = plan_tiles(height, width, scale=2, tile=tile, halo=3)
    seen = np.zeros((height, width), int)
    for number, one in enumerate(made.tiles):
        assert one.number == number
        inner, window = one.inner, one.window
        seen[inner.top : inner.top + inner.height, inner.left : inner.left + inner.width] += 1
        assert (window.top, window.left) == (max(0, inner.top - 3), max(0, inner.left - 3))
        assert window.top + window.height == min(height, inner.top + inner.height + 3)
        assert window.left + window.width == min(width, inner.left + inner.width + 3)
    assert (seen == 1).all()
    for side in ("height", "width"):
        sides = {getattr(one.inner, side) for one in made.tiles}
        assert max(sides) <= tile and max(sides) - min(sides) <= 1


def test_the_overhead_is_what_is_answered_twice():
    assert plan_tiles(30, 20, scale=4, tile=64, halo=8).overhead == 1
    assert plan_tiles(20, 10, scale=4, tile=10, halo=2).overhead == 2 * 12 * 10 / 200


@pytest.mark.parametrize("block", [(1, 1), (1, 70), (16, 16), (64, 64), (40, 1)])
@pytest.mark.parametrize("at_once", [1, 900, 20_000, 10**9])
def test_windows_cover_an_image_once_within_their_memory(block, at_once):
    seen = np.zeros((50, 70), int)
    for box in windows(50, 70, 3, block=block, at_once=at_once):
        seen[box.top : box.top + box.height, box.left : box.left + box.width] += 1
        assert 4 * 3 * box.height * box.width <= max(at_once, 12)
    assert (seen == 1).all()


def test_a_tile_fits_the_memory_and_no_larger_one_would():
    side = tile_for(224, scale=4, halo=12, memory_gb=2.0)
    need = [plan.BASE_GB * 1e9 + plan.COPIES * 224 * 4 * (4 * (t + 24)) ** 2 for t in (side, side + 1)]
    assert need[0] <= 2e9 < need[1]
    assert tile_for(224, scale=4, halo=12, memory_gb=2.0, images=2) < side
    assert tile_for(1, scale=2, halo=0, memory_gb=100.0) == plan.LARGEST_TILE
    with pytest.raises(ValueError, match=r"`memory_gb` must be at least 0.\d for 224 bands at ×4, got 0.71"):
        tile_for(224, scale=4, halo=12, memory_gb=0.71)


def test_the_default_memory_is_what_a_laptop_has_or_half_of_what_is_free(monkeypatch):
    for free, wanted in [(None, 3.5), (100.0, 3.5), (2.0, 1.0), (0.1, plan.BASE_GB)]:
        monkeypatch.setattr(plan, "_free_memory_gb", lambda free=free: free)
        assert plan.default_memory_gb() == wanted


def test_costs_are_said_before(monkeypatch):
    one, made = scene(), plan_tiles(40, 52, scale=3, tile=16, halo=8)
    clock = iter([0.0, 5.0, 5.0, 7.0])
    monkeypatch.setattr(plan.time, "perf_counter", lambda: next(clock))
    found = estimate(made, one, Work(one, RECIPE, made, answer).of_window, disk=560_000)
    assert found.tiles == 12 and found.disk_gb == 560_000 / 1e9
    assert found.minutes == pytest.approx(2 * made.overhead / 60, rel=1e-2)
    assert found.memory_gb == pytest.approx(plan.BASE_GB, rel=1e-2)
    assert str(found) == "12 tiles, 0.7 GB of memory, 0.00056 GB on the disk, about 7 s"


def test_a_disk_that_is_too_small_is_refused_before_anything_is_answered(tmp_path, monkeypatch):
    monkeypatch.setattr(plan.shutil, "disk_usage", lambda path: SimpleNamespace(free=10**5))
    check_disk(tmp_path / "not" / "there", 10**5)
    with pytest.raises(OSError, match=r"`out` must be on a disk with 0.000749 GB free .*, got 0.0001 GB in"):
        written(tmp_path, scene())
    assert not list(tmp_path.iterdir())


# --- answers ---


@pytest.mark.parametrize("holes", [False, True])
@pytest.mark.parametrize("tile", [14, 64])
def test_the_tiled_answer_is_that_of_the_whole(tmp_path, tile, holes):
    one = scene(holes=holes)
    done = written(tmp_path, one, tile=tile)
    found = read(tmp_path / "sr.tif")
    np.testing.assert_allclose(found, whole(one), rtol=1e-5)
    assert np.isnan(found).any() == holes and done.kept_before == 0
    assert done.counts == {"pixels": found[0].size, "holes": int(np.isnan(found[0]).sum()), "saturated": 0, "moved": 0}
    assert [path.name for path in tmp_path.iterdir()] == ["sr.tif"]


def test_whole_numbers_are_rounded_once(tmp_path):
    one = scene(holes=True)
    written(tmp_path, one, dtype=None)
    with rasterio.open(tmp_path / "sr.tif") as file:
        found = file.read()
    assert found.dtype == np.int16 and np.abs(found - np.nan_to_num(whole(one), nan=-9999)).max() <= 0.501


def test_a_halo_narrower_than_the_reach_shows():
    """The test above would notice."""
    one = scene()
    made = plan_tiles(40, 52, scale=3, tile=16, halo=0)
    found = Work(one, RECIPE, made, answer).of_tile(made.tiles[5])
    inner = made.tiles[5].inner
    truth = whole(one)[:, 3 * inner.top :, 3 * inner.left :][:, : 3 * inner.height, : 3 * inner.width]
    assert np.abs(found[0] - truth).max() > 10


def test_a_tile_of_holes_is_not_answered(tmp_path):
    one = scene()
    one.source.values[:, :20, :26] = -9999
    calls = []

    def counted(recipe, lr, **place):
        calls.append(place)
        return answer(recipe, lr, **place)

    done = written(tmp_path, one, answer=counted, tile=13)
    assert len(done.plan.tiles) == 16 and len(calls) < 16
    np.testing.assert_allclose(read(tmp_path / "sr.tif"), whole(one), rtol=1e-5)


def test_an_uncertainty_is_a_second_file(tmp_path):
    one = scene(holes=True)
    written(tmp_path, one, spread_out=tmp_path / "std.tif", dtype=np.int16)
    wanted = deviation(RECIPE, torch.from_numpy(one.window(0, 0, 40, 52))[None])
    assert np.nanmax(np.abs(read(tmp_path / "sr.tif") - whole(one))) <= 0.501
    np.testing.assert_allclose(read(tmp_path / "std.tif"), wanted[0], atol=0.01)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["sr.tif", "std.tif"]


def test_the_number_of_threads_is_that_of_the_work_and_then_as_before():
    made, before = plan_tiles(40, 52, scale=3, tile=64, halo=8), torch.get_num_threads()
    seen = []

    def look(recipe, lr, **place):
        seen.append(torch.get_num_threads())
        return answer(recipe, lr, **place)

    Work(scene(), RECIPE, made, look, threads=before + 1).of_tile(made.tiles[0])
    assert seen == [before + 1] and torch.get_num_threads() == before


# --- interruptions ---


def stop_at(tile: int):
    """Progress that stops after so many tiles, as Ctrl-C does."""

    def stop(count, total):
        if count == tile:
            raise KeyboardInterrupt

    return stop


def stopped(folder: Path, after: int = 5, **options) -> None:
    """A run that was stopped after so many tiles."""
    with pytest.raises(KeyboardInterrupt):
        written(folder, scene(holes=True), progress=stop_at(after), **options)


def undisturbed(folder: Path, **options) -> bytes:
    """The file of a run that nothing stopped."""
    written(folder / "other", scene(holes=True), **options)
    return (folder / "other" / "sr.tif").read_bytes()


@pytest.mark.parametrize("tile", [1, 12])
def test_a_run_that_is_stopped_goes_on_and_ends_with_the_same_bytes(tmp_path, tile):
    with pytest.raises(KeyboardInterrupt, match=f"stopped; {tile} of 12 tiles are kept, and `resume` .* goes on with"):
        written(tmp_path, scene(holes=True), progress=stop_at(tile))
    told = []
    done = written(tmp_path, scene(holes=True), resume=True, progress=lambda *counts: told.append(counts))
    assert done.kept_before == tile and told == [(count, 12) for count in range(tile, 13)]
    assert (tmp_path / "sr.tif").read_bytes() == undisturbed(tmp_path)
    assert done.counts["pixels"] == 120 * 156 and done.counts["holes"] == 9 * (6 * 8 + 1)


def test_a_tile_that_was_chosen_by_the_memory_stays_when_a_run_goes_on(tmp_path, monkeypatch):
    monkeypatch.setattr(run, "tile_of", lambda *args, **options: 17)
    stopped(tmp_path, 3, tile=None)
    monkeypatch.setattr(run, "tile_of", lambda *args, **options: 18)
    assert written(tmp_path, scene(holes=True), resume=True, tile=None).kept_before == 3
    assert (tmp_path / "sr.tif").read_bytes() == undisturbed(tmp_path, tile=17)


def test_a_wider_halo_leaves_room_for_smaller_tiles(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(run, "tile_of", lambda *args, **room: asked.append(room["halo"]) or 17)
    for halo in (None, 20):
        written(tmp_path, scene(), tile=None, halo=halo, overwrite=True)
    assert asked == [RECIPE.reach, 20]


def test_a_run_that_did_not_come_to_a_tile_leaves_nothing(tmp_path):
    stopped(tmp_path, 0)
    assert not list(tmp_path.iterdir())


def test_without_resume_a_run_starts_again(tmp_path):
    stopped(tmp_path)
    assert written(tmp_path, scene(holes=True)).kept_before == 0
    assert written(tmp_path, scene(holes=True), overwrite=True, resume=True).kept_before == 0  # there is nothing left


def test_a_torn_line_of_the_journal_does_not_count(tmp_path):
    stopped(tmp_path)
    path = tmp_path / ".sr.tif.journal"
    path.write_bytes(path.read_bytes()[:-3])
    assert written(tmp_path, scene(holes=True), resume=True).kept_before == 4
    assert (tmp_path / "sr.tif").read_bytes() == undisturbed(tmp_path)


@pytest.mark.parametrize("lost", [".sr.tif.journal", ".sr.tif.unfinished"])
def test_a_journal_without_its_numbers_or_the_other_way_round_is_worth_nothing(tmp_path, lost):
    stopped(tmp_path)
    (tmp_path / lost).unlink()
    assert written(tmp_path, scene(holes=True), resume=True).kept_before == 0
    assert (tmp_path / "sr.tif").read_bytes() == undisturbed(tmp_path)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"inputs": {"the scene": "b"}}, "content of the scene 'a' instead of 'b'"),
        ({"recipe": Steps(CAMERA, steps=3)}, "recipe.steps '2' instead of '3'"),
        ({"recipe": Steps(Camera.gaussian(2.0, 3))}, "recipe.camera '[0-9a-f]{16}' instead of"),
        ({"recipe": Steps(Camera.gaussian(4.0, 4))}, "recipe.camera '[0-9a-f]{16}' instead of"),
        ({"tile": 17}, "options.tile 16 instead of 17"),
        ({"halo": 9}, "options.halo 8 instead of 9"),
        ({"dtype": np.int16}, "options.dtype 'float32' instead of 'int16'"),
    ],
)
def test_another_input_recipe_or_option_is_named_and_what_was_kept_stays(tmp_path, change, text):
    stopped(tmp_path, 2, inputs={"the scene": "a"})
    with pytest.raises(ValueError, match=f"`resume` must be of the run that was stopped .*, got {text}"):
        written(tmp_path, scene(holes=True), resume=True, **{"inputs": {"the scene": "a"}, **change})
    assert len(journal.tiles_in(tmp_path / ".sr.tif.journal")) == 2


def test_a_run_that_was_killed_while_its_second_file_was_finished_goes_on(tmp_path, monkeypatch):
    spread = {"spread_out": tmp_path / "std.tif"}
    wanted = undisturbed(tmp_path, spread_out=tmp_path / "other.tif")
    finish = writing.Writer.finish

    def killed(self):
        if self.path.name == "std.tif":
            raise KeyboardInterrupt
        finish(self)

    monkeypatch.setattr(writing.Writer, "finish", killed)
    with pytest.raises(KeyboardInterrupt):
        written(tmp_path, scene(holes=True), **spread)
    assert (tmp_path / "sr.tif").exists() and not (tmp_path / "std.tif").exists()
    monkeypatch.undo()
    before = (tmp_path / "sr.tif").stat().st_mtime_ns
    done = written(tmp_path, scene(holes=True), resume=True, **spread)
    assert done.kept_before == 12 and (tmp_path / "sr.tif").stat().st_mtime_ns == before
    assert (tmp_path / "sr.tif").read_bytes() == wanted
    assert (tmp_path / "std.tif").read_bytes() == (tmp_path / "other.tif").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["other", "other.tif", "sr.tif", "std.tif"]


def test_a_kill_between_the_numbers_and_their_header_is_gone_on_with(tmp_path, monkeypatch):
    """The numbers have their name, the header has not: the same run gives it, another one is refused as before."""
    written(tmp_path, scene(holes=True), name="other.hdr")
    rename = Path.replace

    def killed(self, target):
        if self.suffix == ".packing":
            raise KeyboardInterrupt
        return rename(self, target)

    monkeypatch.setattr(Path, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        written(tmp_path, scene(holes=True), name="sr.hdr")
    assert (tmp_path / "sr.img").exists() and not (tmp_path / "sr.hdr").exists()
    monkeypatch.undo()
    assert written(tmp_path, scene(holes=True), name="sr.hdr", resume=True).kept_before == 12
    assert (tmp_path / "sr.img").read_bytes() == (tmp_path / "other.img").read_bytes()
    header = (tmp_path / "other.hdr").read_text(encoding="utf-8").replace("other.img", "sr.img")
    assert (tmp_path / "sr.hdr").read_text(encoding="utf-8") == header
    names = ["other.hdr", "other.img", "sr.hdr", "sr.img"]
    assert sorted(path.name for path in tmp_path.iterdir()) == names


def test_two_outputs_of_one_name_are_refused(tmp_path):
    with pytest.raises(ValueError, match="`spread_out` must be another file than `out`, got .*sr.hdr"):
        written(tmp_path, scene(), name="sr.img", spread_out=tmp_path / "sr.hdr")


def test_another_version_or_other_weights_are_named(tmp_path, monkeypatch):
    stopped(tmp_path)
    monkeypatch.setattr(journal, "package_version", lambda name: f"{name} 9")
    monkeypatch.setattr(run, "shipped_prior", lambda: torch.nn.Linear(1, 1))
    with pytest.raises(ValueError, match="got weights '.*' instead of '.*', versions.ctmem '.*' instead of 'ctmem 9'"):
        written(tmp_path, scene(holes=True), resume=True)


def test_one_process_at_a_time(tmp_path):
    def second(count, total):
        with pytest.raises(BlockingIOError, match="`out` must be one that no other process writes to"):
            written(tmp_path, scene())

    written(tmp_path, scene(), progress=second, tile=64)


@pytest.mark.parametrize(
    ("name", "text"),
    [("sr.xyz", "`out` must be a name that ends in .tif"), ("there.tif", "`path` must be a new file, or `overwrite`")],
)
def test_outputs_that_cannot_be_written_are_refused_and_nothing_is_left(tmp_path, name, text):
    (tmp_path / "there.tif").write_bytes(b"mine")
    with pytest.raises((ValueError, FileExistsError), match=text):
        written(tmp_path, scene(), name=name)
    assert [path.name for path in tmp_path.iterdir()] == ["there.tif"]
    assert (tmp_path / "there.tif").read_bytes() == b"mine"


def test_the_numbers_of_an_output_lie_where_its_writer_puts_them(tmp_path):
    for name in ("a.tif", "b.hdr", "c.npz", "d.dat"):
        with create_raster(tmp_path / name, scene(), scale=3) as writer:
            assert writer.part == unfinished(tmp_path / name)


def test_a_full_disk_is_one_error_and_a_run_to_go_on_with(tmp_path, monkeypatch):
    flush = writing.Writer.flush

    def full(self):
        if (tmp_path / ".sr.tif.journal").read_text(encoding="utf-8").count("\n") == 8:
            raise OSError(errno.ENOSPC, "No space left on device")
        flush(self)

    monkeypatch.setattr(writing.Writer, "flush", full)
    text = r"`out` must be on a disk that has room for it, got .* GB free; make room: 7 of 12 tiles are kept"
    with pytest.raises(OSError, match=text) as caught:
        written(tmp_path, scene(holes=True))
    assert caught.value.errno == errno.ENOSPC
    monkeypatch.undo()
    assert written(tmp_path, scene(holes=True), resume=True).kept_before == 7
    assert (tmp_path / "sr.tif").read_bytes() == undisturbed(tmp_path)


KILLED = """
import os, random, signal, sys, time
from pathlib import Path
import numpy as np
from ctmem.observe.camera import Camera
from ctmem.raster import writing
from ctmem.raster.raster import Raster
from ctmem.raster.writing import create_raster
from ctmem.tiling.run import sharpen_to
from tests.tiling_stubs import Steps, answer, scene

out, kills, rng = Path(sys.argv[1], "sr.tif"), 0, random.Random(0)

def work(tell):
    told = lambda done, total: (os.write(tell, bytes([done])), time.sleep(0.005))
    options = {"answer": answer, "inputs": {"the scene": ""}, "tile": 16, "dtype": np.float32, "progress": told}
    sharpen_to(out, scene(holes=True), Steps(Camera.gaussian(scale=3)), resume=True, **options)

while not out.exists():  # a fork has everything imported, and no threads yet
    heard, tell = os.pipe()
    child = os.fork()
    if not child:
        work(tell)
        os._exit(0)
    os.close(tell)
    if kills < 8:
        os.read(heard, 1)  # it has begun
        time.sleep(rng.random() * 0.02)
        os.kill(child, signal.SIGKILL)
        kills += 1
    os.waitpid(child, 0)
    os.close(heard)
print(kills)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="needs fork and SIGKILL")
def test_kills_at_random_moments_change_no_byte(tmp_path):
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": str(torch.get_num_threads())}
    child = subprocess.run(
        [sys.executable, "-c", KILLED, tmp_path],
        env=environment,
        cwd=ROOT,
        capture_output=True,
        encoding="utf-8",
        timeout=120,
    )
    assert child.returncode == 0, child.stderr
    assert int(child.stdout) >= 1
    assert (tmp_path / "sr.tif").read_bytes() == undisturbed(tmp_path)


# --- what a run is recognised by ---


def test_fingerprints_tell_everything_apart():
    net = torch.nn.Linear(2, 2)
    values = [None, True, 1, 1.0, "1", "x" * 100, "x" * 101, torch.ones(2), torch.ones(2, 1), np.ones(3), [1], [1, 2], {"a": 1},
              {"b": 1}, CAMERA, Camera.gaussian(2.0, 3), RECIPE, net, (torch.ones(1), 2)]  # fmt: skip
    found = [fingerprint(value) for value in values]
    assert len(set(found)) == len(values) and found == [fingerprint(value) for value in values]
    with torch.no_grad():
        net.bias += 1
    assert fingerprint(net) != found[-2]
    with pytest.raises(TypeError, match="`value` must be of plain values, tensors and dataclasses, got object"):
        fingerprint(object())


def test_what_a_run_is_stands_in_its_journal(tmp_path):
    run_is = run_of({"the scene": "abc"}, RECIPE, {"tile": 16})
    kept = Journal(tmp_path / "a", run_is)
    kept.add(2, {"holes": 3})
    kept.add(0, {"holes": 4, "saturated": 1})
    lines = [json.loads(line) for line in (tmp_path / "a").read_text(encoding="utf-8").splitlines()]
    assert lines == [run_is, {"tile": 2, "holes": 3}, {"tile": 0, "holes": 4, "saturated": 1}]
    assert run_is["versions"]["ctmem"] == files.package_version("ctmem")
    assert Journal(tmp_path / "a", run_is, resume=True).counts() == {"holes": 7, "saturated": 1}
    assert Journal(tmp_path / "a", run_is).counts() == {}


def test_work_can_be_sent_to_another_process():
    work = Work(scene(), RECIPE, plan_tiles(40, 52, scale=3, tile=16, halo=8), answer)
    again = pickle.loads(pickle.dumps(work))  # as dask does, between its own processes
    tile = work.plan.tiles[4]
    assert again.of_tile(tile).tobytes() == work.of_tile(tile).tobytes()
