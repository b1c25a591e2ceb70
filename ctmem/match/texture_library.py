"""A library of textures: the reference scenes of several places, made ready once, kept in a file, asked many times.

    library = TextureLibrary.build({"farmland": one, "harbour": other}, model.kernel, approximate_above=2_000_000)
    library.save("library.safetensors")
    texture, match = TextureLibrary.load("library.safetensors").texture(lr_hsi_up, camera, blur=model.kernel)

It holds the sharp and the blurred references, not the vectors of their windows: these are cut when they are needed. The
search is exact unless there are more candidates than the user wants it to be for; then an index proposes, see
`approximate`.

The file is safetensors with the envelope of `ctmem.files`: the images, the index if there is one, and a header with the
names and the settings as JSON.

Source: this project.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from ctmem.checks import Count, Inside, Whole, as_image, check_count, described, door, fail, typed
from ctmem.config import MatchConfig
from ctmem.files import load_tensors, save_tensors
from ctmem.match import patches as pt
from ctmem.match.align import Blur, Prepared, prepare_query, prepare_reference
from ctmem.match.dmb import find, hand_over
from ctmem.match.faiss_index import ApproximateSearch
from ctmem.match.matching import Match, whole_windows
from ctmem.match.search import nearest
from ctmem.observe.camera import Camera

KIND = "texture library"


@typed
@dataclass(frozen=True, eq=False, repr=False)
class TextureLibrary:
    """References of several scenes, ready to be searched; made by `build` or `load`."""

    names: tuple[str, ...]  # of the scenes, in the order of `Match.scenes`
    sharp: tuple[torch.Tensor, ...]  # (1, c, Hr, Wr) each, as `align.prepare_reference` makes them
    blurred: tuple[torch.Tensor, ...]  # the same sizes; NaN where a hole is near
    config: MatchConfig  # what they were prepared for
    index: ApproximateSearch | None = None  # None: the search is exact

    @classmethod
    @door
    @torch.no_grad()
    def build(
        cls,
        references: Inside[Mapping[str, torch.Tensor] | Iterable[tuple[str, torch.Tensor]]],
        blur: Blur,
        config: MatchConfig = MatchConfig(),
        *,
        approximate_above: Whole | None = None,
        factory: str | None = None,
        nprobe: Count | None = None,
    ) -> TextureLibrary:
        """Returns the library of these references.

        Args:
            references: name → image (1, c, Hr, Wr), [0, 1], any sizes, or pairs of both; pixels that are not finite
                are holes: windows that touch them are left out. Stored as float32.
            blur: K, from (·, c, Hr, Wr) to the same shape; the queries must get the same.
            config: how to match. All textures of this library are made so.
            approximate_above: with more candidates (windows, times 8 with turns), the search goes through a
                FAISS index; `None`: it is always exact.
            factory: FAISS's name of the index; `None`: `faiss_index.default_factory`.
            nprobe: inverted lists of the index read per query: more find more, and take longer.

        Raises:
            TypeError: a name that is not text, an image that is not a floating-point tensor.
            ValueError: no reference, a name twice, bands that differ, an image smaller than a patch, holes
                everywhere, an unusable `config`, `factory` or `nprobe`.
            ImportError: an index is wanted, and FAISS is not installed.
        """
        # what is given: names and images that fit each other, settings that can be matched with
        if not isinstance(references, Iterable) or isinstance(references, str | bytes):
            fail("references", "images by name, the names text", type(references).__name__, TypeError)
        pairs = list(references.items() if isinstance(references, Mapping) else references)
        _check_config(config)
        pairs = _checked_references(pairs, config.patch)
        if approximate_above is not None:
            check_count(approximate_above, "approximate_above", at_least=0)
        for name, value in {"factory": factory, "nprobe": nprobe}.items():
            if approximate_above is None and value is not None:
                fail(name, "left out where `approximate_above` is: the search is exact", described(value))
        pairs = [(name, image.detach().clone()) for name, image in pairs]  # whoever handed them over may change them
        # each image once as it is handed over, and once as it is compared
        prepared = [
            prepare_reference(image, blur, radiometry=config.radiometry, sharpening=config.sharpening)
            for _, image in pairs
        ]
        names = tuple(name for name, _ in pairs)
        library = cls(names, tuple(sharp for sharp, _ in prepared), tuple(low for _, low in prepared), config)
        if library.candidates == 0:
            wanted = f"finite in and around at least one window of {config.patch}×{config.patch} px"
            fail("references", wanted, f"NaN or infinite values in each of {sum(library.excluded)}")
        if approximate_above is None or library.candidates <= approximate_above:
            return library
        # an index, where there are more candidates than an exact search is wanted for
        images = [image[0].nan_to_num(0, 0, 0) for image in library.blurred]
        index = ApproximateSearch.build(
            images, library._corners(), config.patch, config.similarity, factory=factory, nprobe=nprobe
        )
        return dataclasses.replace(library, index=index)

    @property
    def bands(self) -> int:
        """c, of every reference."""
        return self.sharp[0].shape[1]

    @cached_property
    def windows(self) -> tuple[int, ...]:
        """How many windows of each reference are searched."""
        return tuple(len(corners) for corners in self._corners())

    @property
    def excluded(self) -> tuple[int, ...]:
        """How many windows of each reference are left out, because of holes."""
        patch = self.config.patch
        stride = self.config.stride
        grids = (pt.grid_shape(*pt.size_of(image), patch, stride) for image in self.blurred)
        return tuple(math.prod(grid) - whole for grid, whole in zip(grids, self.windows))

    @property
    def candidates(self) -> int:
        """How many candidates every query patch has: windows, times 8 with turns."""
        return sum(self.windows) * (8 if self.config.turns else 1)

    def _corners(self) -> list[torch.Tensor]:
        """Rows and columns of each reference's windows without holes, (m, 2)."""
        return [whole_windows(image[0], self.config.patch, self.config.stride)[1] for image in self.blurred]

    @property
    def megabytes(self) -> float:
        """Size of the images and the index, MB (10⁶ bytes)."""
        tensors = [*self.sharp, *self.blurred, *([self.index.to_bytes()] if self.index else [])]
        return sum(x.numel() * x.element_size() for x in tensors) / 1e6

    def __repr__(self) -> str:
        sizes = [f"{image.shape[2]}×{image.shape[3]}" for image in self.sharp]
        width = max(map(len, self.names))
        side = max(map(len, sizes))
        lines = [
            f"  {name:{width}}  {size:>{side}} px  {windows:11,} windows  {excluded:11,} left out"
            for name, size, windows, excluded in zip(self.names, sizes, self.windows, self.excluded)
        ]
        config = self.config
        search = f"approximate search: {self.index}" if self.index else "exact search"
        turns = " (windows in 8 turns)" if config.turns else ""
        first = f"TextureLibrary, {self.bands} bands, {config.patch}×{config.patch} px every {config.stride} px"
        last = f"{self.candidates:,} candidates{turns}, {config.similarity}, {search}, {self.megabytes:.1f} MB"
        return "\n".join([first, *lines, last])

    @door
    def texture(
        self,
        lr_hsi_up: torch.Tensor,
        camera: Camera,
        *,
        blur: Blur | None = None,
        holes: torch.Tensor | None = None,
        chunk_mb: Count = 256,
    ) -> tuple[torch.Tensor, Match]:
        """Returns (texture (B, 4c, H, W), match) as `dmb.dmb` does with a list of the references.

        `match.scenes` are places in `names`.

        Args:
            lr_hsi_up: bicubic upsampling of the LR-HSI, (B, C, H, W), [0, 1].
            camera: with the response `srf` of the references' sensor.
            blur: the K that the library was built with; None: the camera's own blur.
            holes: as of `dmb.dmb`.
            chunk_mb: upper bound of the working memory, MB.

        Raises:
            TypeError: an image that is not of floating-point numbers.
            ValueError: another number of bands than the references have, or what `matching.match` refuses.
        """
        lr_hsi_up = as_image(lr_hsi_up, "lr_hsi_up")
        if camera.msi_channels != self.bands:
            expected = f"one of {self.bands} multispectral bands, as many as the library's references have"
            fail("camera", expected, f"{camera.msi_channels}")
        query, gain, offset = prepare_query(
            camera.see(lr_hsi_up), camera.blur if blur is None else blur,
            radiometry=self.config.radiometry, sharpening=self.config.sharpening, holes=holes,
        )  # fmt: skip
        prepared = Prepared(query, self.sharp, self.blurred, gain, offset)
        found = find(prepared, self.config, search=nearest if self.index is None else self.index, chunk_mb=chunk_mb)
        return hand_over(found, prepared, self.config, chunk_mb=chunk_mb), found

    @typed
    def save(self, path: str | Path) -> None:
        """Writes the library to one safetensors file, whole or not at all.

        Raises:
            OSError: the file cannot be written; an older one is still there.
        """
        header: dict[str, Any] = {"names": self.names, "config": dataclasses.asdict(self.config)}
        tensors = {f"sharp.{i}": image for i, image in enumerate(self.sharp)}
        tensors |= {f"blurred.{i}": image for i, image in enumerate(self.blurred)}
        if self.index is not None:
            header |= {"factory": self.index.factory, "nprobe": self.index.nprobe}
            tensors["index"] = self.index.to_bytes()
        text = json.dumps(header, sort_keys=True, ensure_ascii=False)
        save_tensors(tensors, path, {"header": text}, kind=KIND)

    @classmethod
    @typed
    def load(cls, path: str | Path) -> TextureLibrary:
        """Returns the library that `save` wrote: it finds the very same matches.

        The checksum tells damage, not malice: FAISS trusts the bytes of an index. Load one only from a source that
        you trust.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: a truncated or damaged file, one of something else or of a newer version.
            ImportError: it has an index, and FAISS is not installed.
        """
        name = Path(path).name
        tensors, metadata = load_tensors(path, kind=KIND)
        header = _header(metadata, name)
        sharp, blurred = (_images(tensors, kind, len(header["names"]), name) for kind in ("sharp", "blurred"))
        if len({x.shape[1] for x in sharp}) > 1 or [x.shape for x in sharp] != [x.shape for x in blurred]:
            fail("path", "a texture library of images that fit each other", f"other shapes in {name}")
        index = tensors.get("index")
        search = None if index is None else ApproximateSearch.from_bytes(index, header["factory"], header["nprobe"])
        return cls(tuple(header["names"]), sharp, blurred, header["config"], search)


def _check_config(config: MatchConfig) -> None:
    """Raises unless the settings can be matched with; each by itself is checked when it is made."""
    if not isinstance(config, MatchConfig):
        fail("config", "a `MatchConfig`", type(config).__name__, TypeError)
    check_count(config.query_stride, "config.query_stride", at_most=config.patch)


def _checked_references(pairs: list[tuple[str, torch.Tensor]], patch: int) -> list[tuple[str, torch.Tensor]]:
    """The names and images, or the error of what is wrong with them."""
    if not pairs:
        fail("references", "at least one name and image", "none")
    for pair in pairs:
        if not isinstance(pair, tuple) or len(pair) != 2 or not isinstance(pair[0], str):
            got = type(pair[0] if isinstance(pair, tuple) and pair else pair).__name__
            fail("references", "images by name, the names text", f"one by {got}", TypeError)
    # then the images, one by one: names apart, bands alike, one whole pixel at least
    names = [name for name, _ in pairs]
    checked: list[tuple[str, torch.Tensor]] = []
    for name, given in pairs:
        if names.count(name) > 1:
            fail("references", "of different names", f"{name!r} {names.count(name)} times")
        bands = checked[0][1].shape[1] if checked else None
        image = as_image(given, f"references[{name!r}]", bands=bands, at_least=patch, finite=False, single=True)
        if not torch.isfinite(image).all(1).any():
            fail(f"references[{name!r}]", "finite in at least one pixel", "NaN or infinite values in all of them")
        checked.append((name, image))
    return checked


def _header(metadata: dict[str, str], name: str) -> dict[str, Any]:
    """Names and settings from the header of a file; raises unless both are there, and the settings are all known."""
    try:
        header = json.loads(metadata["header"])
        names, settings = header["names"], header["config"]
        known = {field.name for field in dataclasses.fields(MatchConfig)}
        if not (isinstance(names, list) and names and all(isinstance(one, str) for one in names)):
            fail("path", "a texture library with names", f"{str(names)[:60]} in {name}")
        if set(settings) != known:
            odd = ", ".join(sorted(map(str, set(settings) ^ known)))
            fail("path", "a texture library with the settings of `MatchConfig`", f"missing or unknown {odd} in {name}")
        return {"factory": None, "nprobe": None} | header | {"config": MatchConfig(**settings)}
    except (KeyError, TypeError, json.JSONDecodeError, RecursionError) as error:
        raise ValueError(f"`path` must be a texture library with names and settings, got {name}: {error!r}") from error


def _images(tensors: dict[str, torch.Tensor], kind: str, count: int, name: str) -> tuple[torch.Tensor, ...]:
    """The sharp or the blurred references of a file, (1, c, Hr, Wr) each; raises unless they are images."""
    images = []
    for number in range(count):
        image = tensors.get(f"{kind}.{number}")
        if image is None or image.ndim != 4 or 0 in image.shape or len(image) != 1 or image.dtype != torch.float32:
            got = "none" if image is None else f"{image.dtype} of shape {tuple(image.shape)}"
            fail("path", f"a texture library with the image `{kind}.{number}`", f"{got} in {name}")
        images.append(image)
    return tuple(images)
