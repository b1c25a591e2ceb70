"""A library gives what matching a list of references gives, also from a file; damaged files and bad input are errors."""

import dataclasses
import errno
import importlib.util
import json
import re
import struct
import sys
from dataclasses import replace

import pytest
import torch

from ctmem import files
from ctmem.config import TINY, MatchConfig
from ctmem.files import load_tensors, save_tensors
from ctmem.inference import encode, super_resolve
from ctmem.match.dmb import dmb
from ctmem.match.texture_library import TextureLibrary
from ctmem.model import Model, build_networks
from ctmem.observe.camera import Camera
from ctmem.observe.optics import blur, gaussian_psf

CONFIG = MatchConfig(patch=4, query_stride=3, top_k=9, hard_k=5)
SRF = torch.tensor([[0.5, 0.5, 0, 0, 0], [0, 0.25, 0.25, 0.5, 0], [0, 0, 0, 0.2, 0.8]])
CAMERA = Camera.gaussian(scale=4, srf=SRF)
needs_faiss = pytest.mark.skipif(not importlib.util.find_spec("faiss"), reason="the extra `faiss` is not installed")


def soften(x):
    return blur(x, gaussian_psf(2.5))


def smooth(*shape, seed):
    return soften(torch.rand(shape, generator=torch.Generator().manual_seed(seed)))


@pytest.fixture(scope="module")
def references():
    """Two places of different size, one with two holes."""
    found = {"farmland": smooth(1, 3, 23, 31, seed=1), "harbour": smooth(1, 3, 26, 18, seed=2)}
    found["harbour"][0, 1, 6, 9], found["harbour"][0, 0, 25, 0] = torch.nan, torch.inf
    return found


@pytest.fixture(scope="module")
def lr_hsi_up():
    return smooth(2, 5, 14, 19, seed=3)


@pytest.fixture(scope="module")
def library(references):
    return TextureLibrary.build(references, soften, CONFIG)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "library.safetensors"


def equal(one, other):
    """Whether two (texture, match) are the same, bit for bit."""
    fields = [(getattr(one[1], f.name), getattr(other[1], f.name)) for f in dataclasses.fields(one[1])]
    same = [torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b for a, b in fields]
    return torch.equal(one[0], other[0]) and all(same)


# --- what it finds --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "config",
    [
        CONFIG,
        replace(CONFIG, similarity="l2", turns=False, radiometry=False, sharpening=0, relevel=False),
        replace(CONFIG, similarity="dot", stride=4, top_k=100_000, hard_k=2, temperature=0.5),
    ],
)
def test_a_library_gives_what_a_list_gives(references, lr_hsi_up, config):
    library = TextureLibrary.build(references, soften, config)
    found = library.texture(lr_hsi_up, CAMERA, blur=soften)
    assert equal(found, dmb(lr_hsi_up, list(references.values()), CAMERA, config, blur=soften))
    assert {library.names[number] for number in found[1].scenes.unique()} == {"farmland", "harbour"}


def test_a_query_from_a_reference_is_found_in_its_scene(references):
    library = TextureLibrary.build(references, soften, replace(CONFIG, sharpening=0, stride=1, radiometry=False))
    query = soften(references["farmland"])[..., 3:15, 7:24]
    _, match = library.texture(query, Camera.gaussian(scale=4, srf=torch.eye(3)), blur=soften)
    assert (match.scenes[..., 0] == 0).all() and (match.scores[..., 0] > 0.9999).all()
    assert torch.equal(match.windows[0, :, 0, :2], match.corners + torch.tensor([3, 7]))


def test_pairs_and_double_precision(references, library, lr_hsi_up):
    other = TextureLibrary.build(((name, image.double()) for name, image in references.items()), soften, CONFIG)
    assert other.names == ("farmland", "harbour") and {x.dtype for x in other.sharp + other.blurred} == {torch.float32}
    assert equal(other.texture(lr_hsi_up, CAMERA, blur=soften), library.texture(lr_hsi_up, CAMERA, blur=soften))


def test_without_a_learned_blur_the_cameras_own_is_taken(references, lr_hsi_up):
    camera = Camera.gaussian(6.0, scale=4, srf=SRF)
    library = TextureLibrary.build(references, camera.blur, CONFIG)
    assert equal(library.texture(lr_hsi_up, camera), library.texture(lr_hsi_up, CAMERA, blur=camera.blur))


def test_chunks_change_nothing(library, lr_hsi_up):
    (one, match), (other, same) = (library.texture(lr_hsi_up, CAMERA, blur=soften, chunk_mb=mb) for mb in (1, 256))
    assert torch.allclose(one, other, atol=1e-5) and torch.equal(match.windows, same.windows)


def test_references_may_be_arrays(references, library, lr_hsi_up):
    arrays = TextureLibrary.build({name: image.numpy() for name, image in references.items()}, soften, CONFIG)
    assert equal(
        arrays.texture(lr_hsi_up.numpy(), CAMERA, blur=soften), library.texture(lr_hsi_up, CAMERA, blur=soften)
    )


def test_counts(library, references):
    rows, columns = [0, *range(2, 23, 2), 22], [*range(0, 15, 2)]
    near = torch.zeros(26, 18, dtype=torch.bool)
    near[5:8, 8:11] = near[24:, :2] = True  # the holes and their neighbours, which the gradient reads
    broken = sum(bool(near[r : r + 4, c : c + 4].any()) for r in dict.fromkeys(rows) for c in columns)
    assert library.excluded == (0, broken) and broken > 4
    assert library.windows == (11 * 15, len(dict.fromkeys(rows)) * len(columns) - broken)
    assert library.candidates == 8 * sum(library.windows)
    assert library.bands == 3


def test_printing(library):
    assert re.sub(r"\d\.\d MB", "0.0 MB", str(library)) == (
        "TextureLibrary, 3 bands, 4×4 px every 2 px\n"
        "  farmland  23×31 px          165 windows            0 left out\n"
        "  harbour   26×18 px           86 windows           10 left out\n"
        f"{library.candidates:,} candidates (windows in 8 turns), zncc, exact search, 0.0 MB"
    )


# --- with an index --------------------------------------------------------------------------------------------------


@needs_faiss
def test_an_index_from_a_size_the_user_sets(references, library, lr_hsi_up):
    options = {"factory": "IVF8,Flat", "nprobe": 8}
    some = {most: TextureLibrary.build(references, soften, CONFIG, approximate_above=most, **options)
            for most in (library.candidates, library.candidates - 1)}  # fmt: skip
    exact, approximate = some.values()
    assert exact.index is None and approximate.index is not None
    assert "zncc, approximate search: FAISS IVF8,Flat, 8 lists read, 0." in str(approximate)
    found, wanted = (
        one.texture(lr_hsi_up, CAMERA, blur=soften) for one in (approximate, library)
    )  # all lists are read
    assert torch.allclose(found[1].scores, wanted[1].scores, atol=1e-5)
    assert torch.allclose(found[0], wanted[0], atol=1e-4)


@needs_faiss
def test_an_index_comes_back_from_its_file(references, lr_hsi_up, path):
    library = TextureLibrary.build(references, soften, CONFIG, approximate_above=0, nprobe=2)
    library.save(path)
    other = TextureLibrary.load(path)
    assert equal(other.texture(lr_hsi_up, CAMERA, blur=soften), library.texture(lr_hsi_up, CAMERA, blur=soften))
    assert str(other) == str(library) and other.index.nprobe == 2


def test_without_faiss(references, library, path, monkeypatch):
    if importlib.util.find_spec("faiss"):
        TextureLibrary.build(references, soften, CONFIG, approximate_above=0).save(path)
    monkeypatch.setitem(sys.modules, "faiss", None)  # as if it were not installed
    message = r"`faiss` must be installed for an approximate search: pip install -e .\[faiss\], got no such package"
    with pytest.raises(ImportError, match=message):
        TextureLibrary.build(references, soften, CONFIG, approximate_above=0)
    if path.exists():
        with pytest.raises(ImportError, match=message):
            TextureLibrary.load(path)
    assert TextureLibrary.build(references, soften, CONFIG, approximate_above=10**9).index is None
    library.save(path)
    assert TextureLibrary.load(path).index is None


# --- the file -------------------------------------------------------------------------------------------------------


def test_a_library_comes_back_from_its_file(library, lr_hsi_up, path):
    library.save(path)
    other = TextureLibrary.load(path)
    assert (other.names, other.config) == (library.names, library.config)
    assert equal(other.texture(lr_hsi_up, CAMERA, blur=soften), library.texture(lr_hsi_up, CAMERA, blur=soften))
    pixels = 23 * 31 + 26 * 18
    assert path.stat().st_size < 2 * 4 * 3 * pixels + 2500  # two images of 3 bands per scene, 4 bytes a number
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_every_damaged_byte_is_found(library, path):
    library.save(path)
    data = path.read_bytes()
    header = 8 + struct.unpack("<Q", data[:8])[0]
    for place in [*range(0, header, 3), *range(header, len(data), 997), len(data) - 1]:
        path.write_bytes(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])
        with pytest.raises(ValueError, match="`path` must be"):
            TextureLibrary.load(path)


def test_the_message_of_damaged_and_truncated_files(library, path):
    library.save(path)
    data = path.read_bytes()
    path.write_bytes(data[:-100] + bytes(100))
    with pytest.raises(ValueError, match="`path` must be an undamaged texture library, got library.safetensors, whose"):
        TextureLibrary.load(path)
    for length in (0, 7, 300, len(data) - 1):
        path.write_bytes(data[:length])
        with pytest.raises(ValueError, match="`path` must be a whole safetensors file, got library.safetensors"):
            TextureLibrary.load(path)
    path.unlink()
    with pytest.raises(FileNotFoundError, match="library.safetensors, which is not there"):
        TextureLibrary.load(path)


def resave(library, path, change):
    """The file again with other metadata, its checksum made to fit."""
    library.save(path)
    tensors, metadata = load_tensors(path, kind="texture library")
    metadata |= change(json.loads(metadata["header"]))
    version = metadata.pop("version")
    with pytest.MonkeyPatch.context() as other:
        other.setitem(files.VERSIONS, "texture library", version)
        save_tensors(tensors, path, metadata, kind="texture library")


def test_files_of_something_else_and_of_a_newer_version(library, path):
    save_tensors({"x": torch.ones(2)}, path, {"part": "kernel"})
    with pytest.raises(
        ValueError, match="`path` must be a texture library, got library.safetensors, a safetensors fil"
    ):
        TextureLibrary.load(path)
    resave(library, path, lambda header: {"version": "3"})
    with pytest.raises(ValueError, match="`path` must be a texture library of version 2, got version 3 in library.saf"):
        TextureLibrary.load(path)


def test_settings_that_are_missing_or_unknown(library, path):
    def without(header):
        del header["config"]["top_k"]
        header["config"]["colour"] = "red"
        return {"header": json.dumps(header)}

    resave(library, path, without)
    message = (
        "`path` must be a texture library with the settings of `MatchConfig`, got missing or unknown colour, top_k"
    )
    with pytest.raises(ValueError, match=message):
        TextureLibrary.load(path)


def test_a_failed_write_leaves_the_old_file(library, path, references, monkeypatch):
    library.save(path)
    before = path.read_bytes()

    def disk_full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("ctmem.files.os.fsync", disk_full)
    with pytest.raises(OSError, match="`path` must be a file that can be written, got library.safetensors: .*No space"):
        TextureLibrary.build({"other": references["farmland"]}, soften, CONFIG).save(path)
    assert path.read_bytes() == before and [file.name for file in path.parent.iterdir()] == [path.name]


def test_places_that_cannot_be_written(library, path):
    path.mkdir()
    for place in (path, path.parent / "file" / "library.safetensors"):
        (path.parent / "file").write_text("not a folder", encoding="utf-8")
        with pytest.raises(OSError, match="`path` must be a file that can be written, got library.safetensors: "):
            library.save(place)
    assert sorted(file.name for file in path.parent.iterdir()) == ["file", "library.safetensors"]


# --- bad input ------------------------------------------------------------------------------------------------------

IMAGE = torch.rand(1, 3, 9, 12, generator=torch.Generator().manual_seed(0))
HOLED = IMAGE.clone()
HOLED[..., ::3, ::3] = torch.nan


@pytest.mark.parametrize(
    ("references", "message"),
    [
        ({}, "`references` must be at least one name and image, got none"),
        ([("a", IMAGE), ("b", IMAGE), ("a", IMAGE)], "`references` must be of different names, got 'a' 2 times"),
        ({"a": IMAGE, "b": IMAGE[:, :2]}, r"`references\['b'\]` must be of 3 band\(s\), shape .*, got 2"),
        ({"a": IMAGE, "b": IMAGE[..., :3]}, r"`references\['b'\]` must be at least 4×4 px, got 9×3"),
        ({"a": IMAGE[0]}, r"`references\['a'\]` must be of shape \(B, C, H, W\)"),
        (
            {"a": IMAGE.repeat(2, 1, 1, 1)},
            r"`references\['a'\]` must be one image, shape \(1, C, H, W\), got shape \(2, 3",
        ),
        ({"a": IMAGE, "b": IMAGE * torch.nan}, r"`references\['b'\]` must be finite in at least one pixel, got NaN"),
        (
            {"a": HOLED},
            "`references` must be finite in and around at least one window of 4×4 px, got NaN or inf.*of 20",
        ),
    ],
)
def test_bad_references(references, message):
    with pytest.raises(ValueError, match=message):
        TextureLibrary.build(references, soften, CONFIG)


@pytest.mark.parametrize(
    ("references", "message"),
    [
        ({1: IMAGE}, "`references` must be images by name, the names text, got one by int"),
        ([IMAGE, IMAGE], "`references` must be images by name, the names text, got one by Tensor"),
        (
            {"a": IMAGE.int().numpy()},
            r"`references\['a'\]` must be a floating-point tensor \(B, C, H, W\), got a int32 array",
        ),
        ({"a": IMAGE.tolist()}, r"`references\['a'\]` must be a floating-point tensor \(B, C, H, W\), got list"),
    ],
)
def test_references_of_other_types(references, message):
    with pytest.raises(TypeError, match=message):
        TextureLibrary.build(references, soften, CONFIG)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"patch": 0}, "`patch` must be a whole number from 1 to 1024, got 0"),
        ({"stride": 1.5}, "`stride` must be a whole number from 1 to 10000, got 1.5"),
        ({"query_stride": 5}, "`config.query_stride` must be a whole number from 1 to 4, got 5"),
        ({"sharpening": -1}, "`sharpening` must be a whole number from 0 to 1000, got -1"),
        ({"similarity": "ssim"}, "`similarity` must be one of 'dot'"),
        ({"temperature": 0.0}, "`temperature` must be a finite number above 0 and at most 1000, got 0.0"),
    ],
)
def test_bad_settings(change, message):
    with pytest.raises(ValueError, match=message):
        TextureLibrary.build({"a": IMAGE}, soften, replace(CONFIG, **change))


def test_a_bad_limit():
    with pytest.raises(ValueError, match="`approximate_above` must be a whole number ≥ 0, got 2000000.0"):
        TextureLibrary.build({"a": IMAGE}, soften, CONFIG, approximate_above=2e6)


def test_bad_queries(library, lr_hsi_up):
    message = "`camera` must be one of 3 multispectral bands, as many as the library's references have, got 2"
    with pytest.raises(ValueError, match=message):
        library.texture(lr_hsi_up, replace(CAMERA, srf=SRF[:2]), blur=soften)
    with pytest.raises(ValueError, match="`srf` must be of 4 columns, one per band of the image, got 5 columns"):
        library.texture(lr_hsi_up[:, :4], CAMERA, blur=soften)
    with pytest.raises(ValueError, match=r"`camera` must be one with `srf`, the response \(c, C\)"):
        library.texture(lr_hsi_up, Camera.gaussian(scale=4, bands=("B02", "B03", "B04")), blur=soften)
    with pytest.raises(ValueError, match="`lr_hsi_up` must be finite everywhere"):
        library.texture(lr_hsi_up * torch.nan, CAMERA, blur=soften)
    with pytest.raises(TypeError, match="`lr_hsi_up` must be a floating-point tensor"):
        library.texture(lr_hsi_up > 0.5, CAMERA, blur=soften)


# --- super-resolution -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def model():
    """Random weights whose last layer is not zero, so that the texture has an effect."""
    small = replace(TINY.denoiser, width=8, state=2, cim_blocks=1)
    preset = replace(TINY, timesteps=20, kernel_width=16, cnn_width=8, denoiser=small)
    torch.manual_seed(0)
    networks = build_networks(preset)
    torch.nn.init.normal_(networks["denoiser"].fusion[-1].weight, std=0.05)
    return Model(preset, **{part: n.eval().requires_grad_(False) for part, n in networks.items()}, card={})


def test_super_resolution_takes_a_library(model):
    first, second = smooth(1, 4, 25, 33, seed=4), smooth(1, 4, 30, 21, seed=5)
    lr_hsi, srf = smooth(1, 9, 6, 7, seed=6), torch.rand(4, 9, generator=torch.Generator().manual_seed(7))
    srf = srf / srf.sum(1, keepdim=True)
    seed = lambda: torch.Generator().manual_seed(0)  # noqa: E731
    one = TextureLibrary.build({"first": first}, model.kernel, model.preset.match)
    both = TextureLibrary.build({"first": first, "second": second}, model.kernel, model.preset.match)
    camera = replace(model.camera, srf=srf)
    preds = [super_resolve(model, lr_hsi, ref, camera=camera, generator=seed()) for ref in (first, one, both)]
    assert torch.equal(preds[0], preds[1]) and preds[2].shape == (1, 9, 24, 28)
    assert not torch.equal(preds[1], preds[2])
    up = encode(model, lr_hsi)[0].lr_hsi_up
    texture, _ = dmb(up, [first, second], camera, model.preset.match, blur=model.kernel)
    assert encode(model, lr_hsi, both, camera=camera)[0].texture.shape[2:] == texture.shape[2:]
    with pytest.raises(ValueError, match=r"`camera` must be one with `srf`, the response \(c, C\)"):
        super_resolve(model, lr_hsi, one)
    with pytest.raises(ValueError, match="`camera` must be one of 4 multispectral bands"):
        super_resolve(model, lr_hsi, one, camera=replace(camera, srf=srf[:3]))
