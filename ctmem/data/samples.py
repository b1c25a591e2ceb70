"""A scene with what its two sensors see of it, and unpaired samples of it.

A whole scene is degraded first and cut afterwards, so that low-resolution pixels at the border of an area are
what a sensor would have seen. Holes of a scene, NaN, are holes of what its two sensors see, see `Camera.observe`.

Source: this project.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Generator, Tensor
from torch.utils.data import Dataset

from ctmem.checks import as_image, door, fail, typed
from ctmem.data.areas import Box
from ctmem.holes import enlarged, find_holes, open_holes, split_holes
from ctmem.observe.camera import Camera


@typed
@dataclass(frozen=True)
class Degraded:
    """A scene, or a cut of it, with what its two sensors would have seen. All (1, ·, ·, ·), [0, 1], NaN in holes.

    `hr_msi` shows the same ground as `gt`: it serves as a *reference* for other areas and as the paired upper
    bound, and never as the reference of its own ground.
    """

    gt: Tensor
    lr_hsi: Tensor
    hr_msi: Tensor
    camera: Camera

    @property
    def scale(self) -> int:
        """Fine pixels per low-resolution pixel, along one side."""
        return self.camera.scale

    @property
    def lr_hsi_up(self) -> Tensor:
        """`lr_hsi`, bicubically enlarged to the size of `gt`; NaN on all of the ground of its holes."""
        lr_hsi, holes = split_holes(self.lr_hsi, "lr_hsi")
        return open_holes(self.camera.upsample(lr_hsi), holes)

    @property
    def holes(self) -> Tensor:
        """Where any of the three images has a hole, (1, 1, H, W) bool."""
        return find_holes(self.gt) | find_holes(self.hr_msi) | enlarged(find_holes(self.lr_hsi), self.scale)

    @typed
    def to(self, device: torch.device | str) -> Degraded:
        """The same on another device."""
        gt, lr_hsi, hr_msi = (x.to(device) for x in (self.gt, self.lr_hsi, self.hr_msi))
        return Degraded(gt, lr_hsi, hr_msi, self.camera.to(device))

    @door
    def cut(self, box: Box) -> Degraded:
        """Returns the rectangle `box` of all three images.

        Raises:
            ValueError: the box leaves the image, or a border of it lies inside a low-resolution pixel.
        """
        height, width = self.gt.shape[-2:]
        if box.top + box.height > height or box.left + box.width > width:
            fail("box", f"inside the image of {height}×{width} px", box)
        rows, columns = box.slices
        coarse_rows, coarse_columns = box.coarse(self.scale).slices
        lr_hsi = self.lr_hsi[..., coarse_rows, coarse_columns]
        return Degraded(self.gt[..., rows, columns], lr_hsi, self.hr_msi[..., rows, columns], self.camera)


@door
def degrade_scene(scene: Tensor, camera: Camera, *, generator: Generator | None = None) -> Degraded:
    """Returns the whole scene (trimmed to a multiple of the scale) with its low-resolution HSI and fine MSI.

    Args:
        scene: (1, C, H, W), [0, 1], NaN in its holes.
        camera: with the response `srf` over the scene's bands.
        generator: of the noise; needed where the camera has any.

    Raises:
        TypeError: `scene` is not a floating-point image.
        ValueError: wrong rank or band count, a scene of holes only, a camera without `srf`, a scene smaller than the
            scale, noise without a generator.
    """
    scale = camera.scale
    bands = camera.response().shape[1]
    scene = as_image(scene, "scene", at_least=scale, bands=bands, single=True, finite=False, double=True)
    height, width = (side // scale * scale for side in scene.shape[-2:])
    gt, holes = split_holes(scene[..., :height, :width], "scene")
    lr_hsi = camera.observe(gt, generator=generator, holes=holes)
    return Degraded(open_holes(gt, holes), lr_hsi, open_holes(camera.see(gt), holes), camera)


class UnpairedPatches(Dataset[dict[str, Tensor]]):
    """Samples of a scene, each with a reference of other ground.

    Item i is `{"lr_hsi": (C, h, w), "ref_msi": (c, Hr, Wr), "gt": (C, H, W)}`: box i and reference i, the
    shorter of the two lists repeated from its start. So one pass sees every box and every reference, and
    every pass is the same. Boxes with a hole in any of the three images are left out.

    Args:
        scene: the degraded scene, from `degrade_scene`.
        boxes: the samples' windows in it, from `crops`.
        references: fine multispectral images (1, c, Hr, Wr) of other ground; of one size, if they are to be
            batched.

    Raises:
        TypeError: a reference is not a floating-point tensor.
        ValueError: no box, no reference, a box outside the scene, only boxes with holes, or a reference that is not one
            finite image of the scene's c bands.
    """

    @door
    def __init__(self, scene: Degraded, boxes: Sequence[Box], references: Sequence[Tensor]) -> None:
        if not boxes:
            fail("boxes", "a list of at least one Box", "an empty one")
        if not references:
            fail("references", "a list of at least one image (1, c, Hr, Wr)", "an empty one")
        bands = scene.hr_msi.shape[1]
        self.references = [
            as_image(reference, f"references[{index}]", bands=bands, single=True)
            for index, reference in enumerate(references)
        ]
        holes = scene.holes
        cuts = [(scene.cut(box), holes[..., *box.slices]) for box in boxes]
        self.samples = [sample for sample, holes_here in cuts if not holes_here.any()]
        if not self.samples:
            fail("boxes", "a list with at least one Box without holes", f"{len(boxes)} with holes")

    def __len__(self) -> int:
        return max(len(self.samples), len(self.references))

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        if not 0 <= index < len(self):
            raise IndexError(f"`index` must be from 0 to {len(self) - 1}, got {index}")
        sample = self.samples[index % len(self.samples)]
        reference = self.references[index % len(self.references)]
        return {"lr_hsi": sample.lr_hsi[0], "ref_msi": reference[0], "gt": sample.gt[0]}
