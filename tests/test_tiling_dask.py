"""Tiles on the workers of dask: the bytes of the loop, also when a worker is killed on the way."""

from __future__ import annotations

import builtins
import os
import signal
from pathlib import Path

import numpy as np
import pytest
import rasterio
import torch

from ctmem.observe.camera import Camera
from ctmem.raster.opening import open_raster
from ctmem.raster.raster import Raster
from ctmem.tiling.recipe import Recipe
from ctmem.tiling.run import sharpen_to
from tests.tiling_stubs import scene

distributed = pytest.importorskip("distributed")


@pytest.fixture(scope="module")
def raster(tmp_path_factory) -> Raster:
    """A file, as workers need it."""
    path = tmp_path_factory.mktemp("scene") / "lr.tif"
    values = scene(60, 75, holes=True).source.values
    with rasterio.open(path, "w", driver="GTiff", height=60, width=75, count=5, dtype="int16", nodata=-9999,
                       transform=rasterio.Affine(30, 0, 5e5, 0, -30, 4e6)) as file:  # fmt: skip
        file.write(values)
    return open_raster(path)


def recipe(bands: int = 5) -> Recipe:
    """Back-projection of three directions."""
    directions, _ = torch.linalg.qr(torch.randn(bands, 3, generator=torch.Generator().manual_seed(0)))
    return Recipe(
        method="bicubic-bp", camera=Camera.gaussian(scale=2), mean=torch.full((bands,), 3000.0), directions=directions,
        std=torch.tensor([500.0, 300.0, 100.0]), noise=torch.ones(3), damping=torch.full((3,), 0.1),
        factors=torch.ones(3), good=torch.ones(bands, dtype=torch.bool), reach=6,
    )  # fmt: skip


@pytest.mark.enable_socket
@pytest.mark.skipif(os.name == "nt", reason="needs SIGKILL")
def test_two_workers_one_of_which_is_killed_write_the_bytes_of_the_loop(raster, tmp_path):
    told = []
    options = {"inputs": {"the scene": ""}, "tile": 15, "dtype": np.float32}
    sharpen_to(tmp_path / "loop.tif", raster, recipe(), **options)
    with (
        distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None, memory_limit=0) as cluster,
        distributed.Client(cluster) as client,
    ):
        pids = list(client.run(os.getpid).values())

        def kill(done: int, total: int) -> None:
            told.append(done)
            if done == 4:
                os.kill(pids[0], signal.SIGKILL)

        sharpen_to(tmp_path / "dask.tif", raster, recipe(), workers=client, progress=kill, **options)
    assert len(set(pids)) == 2 and told == list(range(21))
    assert (tmp_path / "dask.tif").read_bytes() == (tmp_path / "loop.tif").read_bytes()


@pytest.mark.enable_socket
def test_what_is_wrong_in_a_worker_is_raised_here_and_the_run_goes_on_without_workers(raster, tmp_path):
    def answer(recipe, lr, *, top, left):
        from ctmem.tiling.answering import answer

        if top >= 30:
            raise ValueError("`lr` must be something else")
        return answer(recipe, lr)

    options = {"inputs": {"the scene": ""}, "tile": 30, "dtype": np.float32}
    with distributed.Client(processes=False, n_workers=1, dashboard_address=None) as client:
        with pytest.raises(ValueError, match="`lr` must be something else"):
            sharpen_to(tmp_path / "sr.tif", raster, recipe(), answer=answer, workers=client, halo=0, **options)
        assert client.status == "running"  # it is its owner's
    sharpen_to(tmp_path / "loop.tif", raster, recipe(), halo=0, **options)
    done = sharpen_to(tmp_path / "sr.tif", raster, recipe(), halo=0, resume=True, **options)
    assert done.kept_before >= 1
    assert (tmp_path / "sr.tif").read_bytes() == (tmp_path / "loop.tif").read_bytes()


@pytest.mark.parametrize("workers", ["nowhere", 3.5])
def test_workers_that_are_none_are_named(raster, tmp_path, workers):
    with pytest.raises(OSError, match=r"`workers` must be a dask client, or the address of a scheduler as tcp"):
        sharpen_to(tmp_path / "sr.tif", raster, recipe(), inputs={"the scene": ""}, tile=30, workers=workers)
    assert not list(tmp_path.iterdir())


def test_without_dask_it_is_asked_for(raster, tmp_path, monkeypatch):
    found = builtins.__import__

    def absent(name, *args, **kwargs):
        if name == "distributed":
            raise ModuleNotFoundError(name)
        return found(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", absent)
    with pytest.raises(ModuleNotFoundError, match=r"`workers` must be left out, .* pip install 'ctmem\[dask\]'"):
        sharpen_to(
            tmp_path / "sr.tif", raster, recipe(), inputs={"the scene": ""}, tile=30, workers="tcp://127.0.0.1:1"
        )
    assert not Path(tmp_path, "sr.tif").exists()
