"""The scenes of the benchmark: which ground is judged, and which other ground belongs to it.

| suite | scenes | judged | fitted on | references |
|---|---|---|---|---|
| embedded | the two shipped ones | their validation areas | training areas | reference areas |
| la | four AVIRIS crops of Los Angeles | each whole | the other three | another one; Sentinel-2 |
| pair | Paris, by Hyperion and by ALI | once degraded; as it is | nothing | ALI's image; Sentinel-2 |
| folder | files of yours | each whole | the others | the next one; Sentinel-2 |
| paper-pavia, paper-houston | see `ctmem.benchmark.paper` | patches | rows above | another scene of that sensor |

The test areas of `embedded` are read once per release. Of the pair, Hyperion's image is degraded once more, so that
there is truth (Wald's protocol), and is also taken as it is, without any. Both instruments have pixels of 30 m: ALI's
image is the fine one of the same ground for the degraded half, and no image is for the other.
The files of `la` and `pair` are not part of this project: `--scenes` says where they lie.

Source: this project.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from ctmem.checks import fail
from ctmem.data.areas import Box, split_areas
from ctmem.data.samples import Degraded, degrade_scene
from ctmem.data.scenes import load_scene, read_scene
from ctmem.holes import find_holes, open_holes, split_holes
from ctmem.observe.camera import Camera
from ctmem.observe.optics import add_noise
from ctmem.reading.arrays import ENDINGS, read_named, split_key
from ctmem.reading.numbers import read_numbers
from ctmem.train.sources import bands_file, read_response

USUAL = Camera.gaussian(scale=4)
SCENES = Path(__file__).resolve().parents[3] / "shared" / "scenes"  # beside the project's folder
LOS_ANGELES = ("airport1", "airport3", "urban4", "mosaic_urban5_airport2")
BRIGHT = 99.9  # percentile that becomes 1.0
PAIR = ("paris_hyperion_hsi.npz", "paris_ali_msi.npz")
ALI_BANDS = [1, 2, 3, 4]  # blue, green, red, near infrared among ALI's nine
LEAST = 11  # pixels of an image that all metrics are defined on

Ground = tuple[torch.Tensor, torch.Tensor | None]  # a cube (1, C, H, W) and the response over its bands (c, C)


@dataclass(frozen=True, eq=False)
class Case:
    """Ground that is judged. Images are (1, ·, H, W), [0, 1], NaN in holes."""

    scene: str
    area: str
    cube: torch.Tensor  # the whole scene, of which `box` is judged; without truth: the observation itself
    srf: torch.Tensor | None
    box: Box | None = None  # fine pixels; None: all of the cube
    sensor: str | None = "sentinel2a"
    training: tuple[tuple[Ground, Box | None], ...] = ()  # other ground, for what is fitted
    own: torch.Tensor | None = None  # fine MSI of other ground, own sensor
    other: torch.Tensor | None = None  # fine MSI of other ground, another sensor
    partner: torch.Tensor | None = None  # a real fine MSI of the same ground, on the pixels of `cube`
    truth: bool = True

    def place(self, scale: int) -> Box:
        """The judged ground at a scale: the box, with borders moved inwards to multiples of the scale."""
        height, width = self.cube.shape[2:]
        box = Box(0, 0, height, width) if self.box is None else self.box
        return inwards(box, scale)

    def observed(self, camera: Camera, generator: torch.Generator | None) -> tuple[torch.Tensor, torch.Tensor | None]:
        """What the coarse sensor shows of the judged ground, and its truth, where there is one.

        The blur reads beyond the box, as a sensor would; the level of the noise is that of the box. Where the
        observation has holes, the truth has.
        """
        if not self.truth:
            return self.cube, None
        box = self.place(camera.scale)
        height, width = (side // camera.scale * camera.scale for side in self.cube.shape[2:])
        cube, holes = split_holes(self.cube[..., :height, :width], "scene")
        whole = replace(camera, snr_db=None).observe(cube, holes=holes)
        lr_hsi = whole[..., *box.coarse(camera.scale).slices]
        if camera.snr_db is not None and generator is not None:
            lr_hsi = add_noise(lr_hsi, camera.snr_db, generator=generator)
        gt = self.cube[..., *box.slices]
        return lr_hsi, gt if holes is None else open_holes(gt, find_holes(lr_hsi))

    def same_ground(self, camera: Camera) -> torch.Tensor | None:
        """What a fine multispectral sensor sees of the judged ground itself: the real one, or else a simulated one."""
        if not self.truth or (self.srf is None and self.partner is None):
            return None
        rows, columns = self.place(camera.scale).slices
        if self.partner is not None:
            return self.partner[..., rows, columns]
        cube, holes = split_holes(self.cube[..., rows, columns], "scene")
        return open_holes(camera.see(cube), holes)

    def examples(self, camera: Camera) -> list[Degraded]:
        """The other ground, degraded by a camera, for methods that are fitted."""
        found = []
        for (cube, srf), box in self.training:
            response = torch.full((1, cube.shape[1]), 1 / cube.shape[1]) if srf is None else srf
            whole = degrade_scene(cube, replace(camera, srf=response, snr_db=None))
            found.append(whole if box is None else whole.cut(inwards(box, camera.scale)))
        return found


def inwards(box: Box, scale: int) -> Box:
    """The largest rectangle inside `box` with borders that are multiples of the scale.

    Raises:
        ValueError: less than 11 pixels would be left of a side, on which not all metrics are defined.

    Example:
        >>> inwards(Box(70, 0, 40, 41), 8)
        Box(top=72, left=0, height=32, width=40)
    """
    top, left = (-(-start // scale) * scale for start in (box.top, box.left))
    bottom, right = (end // scale * scale for end in (box.top + box.height, box.left + box.width))
    if min(bottom - top, right - left) < LEAST:
        fail("scene", f"ground of at least {LEAST} px a side at scale {scale}", f"{box.height}×{box.width} px")
    return Box(top, left, bottom - top, right - left)


# --- suites -----------------------------------------------------------------------------------------------------------


def embedded(folder: Path, area: str = "validation") -> list[Case]:  # noqa: ARG001  (the form of all suites)
    """The shipped scenes, each with the areas of the usual camera: the same ground is judged at every scale."""
    grounds = {}
    for name in ("indian_pines", "sentinel2_farmland"):
        scene = load_scene(name)
        srf = USUAL.for_wavelengths(scene.wavelengths_nm).srf if scene.bands > 4 else torch.eye(scene.bands)
        grounds[name] = (scene.tensor(), srf)
    areas = {name: split_areas(*_usable(cube), USUAL) for name, (cube, _) in grounds.items()}
    references = {
        name: torch.einsum("cn,bnhw->bchw", srf, cube[..., *areas[name]["reference"].slices])
        for name, (cube, srf) in grounds.items()
    }
    cases = []
    for name, (cube, srf) in grounds.items():
        (other,) = (image for key, image in references.items() if key != name)
        training = (((cube, srf), areas[name]["train"]),)
        cases.append(
            Case(name, area, cube, srf, areas[name][area], training=training, own=references[name], other=other)
        )
    return cases


def los_angeles(folder: Path, area: str = "validation") -> list[Case]:  # noqa: ARG001
    """Four crops of AVIRIS flights, each judged whole; what is fitted is fitted on the other three."""
    files = _files(folder, {f"aviris_la_{name}.npz": ("cube", "wavelength_nm") for name in LOS_ANGELES})
    white = float(np.percentile(np.concatenate([file["cube"].ravel() for file in files]), BRIGHT))
    grounds: dict[str, Ground] = {}
    for name, file in zip(LOS_ANGELES, files):
        grounds[name] = (_image(file["cube"], white), USUAL.for_wavelengths(file["wavelength_nm"]).srf)
    mosaic = LOS_ANGELES[-1]
    return _each_whole(grounds, {name: "airport3" if name == mosaic else mosaic for name in grounds})


def pair(folder: Path, area: str = "validation") -> list[Case]:  # noqa: ARG001
    """One city by two instruments on one satellite, 30 m both: once reduced, with truth, and once as it is, without."""
    hyperion, ali = _files(folder, dict(zip(PAIR, (["cube"], ["cube", "R_ali_from_hyperion"]))))
    response = torch.from_numpy(ali["R_ali_from_hyperion"][ALI_BANDS]).float()
    cube = _image(hyperion["cube"], float(np.percentile(hyperion["cube"], BRIGHT)))
    partner = _image(ali["cube"][..., ALI_BANDS], float(np.percentile(ali["cube"][..., ALI_BANDS], BRIGHT)))
    srf = response / response.sum(1, keepdim=True)
    other = _farmland()
    reduced = Case("paris", "reduced", cube, srf, sensor=None, other=other, partner=partner)
    return [reduced, replace(reduced, area="as it is", truth=False, partner=None)]


def own_folder(folder: Path, area: str = "validation") -> list[Case]:  # noqa: ARG001
    """Every scene file of a folder, judged whole; bands' centres as `python -m ctmem.train` reads them, if at all.

    `my_scenes:HSI` takes the array called HSI of each.
    """
    folder, key = split_key(folder, of_folder=True)
    paths = sorted(path for path in folder.glob("[!.]*") if path.suffix.lower() in ENDINGS)
    if not paths:
        fail("path", f"a folder with files ending in {', '.join(ENDINGS)}", folder.name, FileNotFoundError)
    stems = [path.stem for path in paths]
    twice = [stem for stem in stems if stems.count(stem) > 1]
    if twice:
        fail("path", "a folder with files of different names", f"two called {twice[0]}")
    grounds: dict[str, Ground] = {}
    for path in paths:
        text = bands_file(path)
        scene = read_scene(path, key=key, bands=max(read_numbers(text).shape) if text.exists() else None)
        known = read_response(text, scene.bands, USUAL) if text.exists() else None
        grounds[path.stem] = (scene.tensor(), None if known is None else known.srf)
    seen = [name for name, (_, srf) in grounds.items() if srf is not None]
    following = {name: seen[(seen.index(name) + 1) % len(seen)] for name in seen if len(seen) > 1}
    return _each_whole(grounds, following)


SUITES: dict[str, Callable[[Path, str], list[Case]]] = {
    "embedded": embedded,
    "la": los_angeles,
    "pair": pair,
    "folder": own_folder,
}
NEEDS = {"la": [f"aviris_la_{name}.npz" for name in LOS_ANGELES], "pair": list(PAIR)}  # files, by suite


def missing(suite: str, folder: Path) -> list[str]:
    """The files that a suite needs and the folder lacks; of one that goes by several names, "a or b", all names."""
    return [
        names for names in NEEDS.get(suite, []) if not any((folder / name).is_file() for name in names.split(" or "))
    ]


def _each_whole(grounds: Mapping[str, Ground], references: Mapping[str, str]) -> list[Case]:
    """Scenes judged whole, each with the others to fit on and the fine MSI of another one as reference."""
    cases = []
    farmland = _farmland()
    for name, (cube, srf) in grounds.items():
        training = tuple((ground, None) for other, ground in grounds.items() if other != name)
        other_cube, other_srf = grounds.get(references.get(name, ""), (None, None))
        own = None
        if srf is not None and other_cube is not None and other_srf is not None:
            own = torch.einsum("cn,bnhw->bchw", other_srf, other_cube)
        cases.append(Case(name, "whole", cube, srf, training=training, own=own, other=farmland))
    return cases


def _farmland() -> torch.Tensor:
    """The reference area of the shipped Sentinel-2 scene: other ground of another sensor for everybody else."""
    cube = load_scene("sentinel2_farmland").tensor()
    return cube[..., *split_areas(*_usable(cube), USUAL)["reference"].slices]


def _usable(cube: torch.Tensor) -> tuple[int, int]:
    """Height and width in whole pixels of the usual camera."""
    height, width = (side // USUAL.scale * USUAL.scale for side in cube.shape[2:])
    return height, width


def _files(folder: Path, names: Mapping[str, Sequence[str]]) -> list[Mapping[str, np.ndarray]]:
    """Arrays by name of files that must all be there."""
    absent = [name for name in names if not (folder / name).is_file()]
    if absent:
        fail("scenes", f"a folder with {', '.join(names)}", f"one without {', '.join(absent)}", FileNotFoundError)
    return [read_named(folder / name, wanted) for name, wanted in names.items()]


def _image(cube: np.ndarray, white: float) -> torch.Tensor:
    """A cube (H, W, C) as an image (1, C, H, W) in [0, 1]."""
    scaled = np.clip(cube.astype(np.float32) / np.float32(white), 0, 1)
    return torch.from_numpy(np.ascontiguousarray(np.moveaxis(scaled, 2, 0)[None]))
