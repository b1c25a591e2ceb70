"""Reference grades: from nothing and from images without any ground in them, up to the very ground that is looked for.

The *controls* hold nothing of a place like the one that is sharpened. What a real reference is worth is what it gains
beyond the best of them: a method that gains as much from a control has learned nothing from the place. A control counts
for a method only where it spoils what the method uses (`Entry.blind_to`): `knn-reference` looks at single bands and at
either sign, so that `negative` and `permuted` are to it the real reference.

| grade | kind | what it is |
|---|---|---|
| none | control | no reference |
| uniform | control | noise, the same at all frequencies |
| pink | control | noise, amplitude falling as 1/frequency |
| phases | control | its frequencies, with phases drawn at random: no edges |
| blobs | control | such noise cut at its median into two grey levels, the same in all bands |
| negative | control | 1 − the real reference of the own sensor |
| permuted | control | its bands in another order |
| windows | control | windows drawn from it at random and glued, so that nothing is at its place |
| blurred | control | it without what is finer than 4 px |
| other-sensor | real | other ground, seen by another sensor |
| own-sensor | real | other ground, seen by the own sensor |
| half | same | left half the same ground, right half other ground |
| altered | same | the same ground, moved by 1.5 px, turned by 90°, with other radiometry |
| same | same | the same ground |

A grade of yours: `GRADES["mine"] = Grade("real", function)`, the function (case, camera, generator) → image or None.

Source: this project.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from ctmem.benchmark.suites import Case
from ctmem.data.controls import CONTROLS, SETTLED, shifted
from ctmem.holes import split_holes
from ctmem.observe.camera import Camera

MOVED = 1.5  # pixels, down and across
GAIN, OFFSET = (0.6, 0.8, 0.7, 0.9), (0.15, 0.05, 0.1, 0.0)  # other radiometry, band after band

Make = Callable[[Case, Camera, torch.Generator], torch.Tensor | None]


@dataclass(frozen=True)
class Grade:
    """A kind of reference; `make` returns (1, c, Hr, Wr) in [0, 1], or None where the scene has none of that kind."""

    kind: str  # control, real, same
    make: Make
    random: bool = False  # whether seeds make different ones


def real(case: Case) -> torch.Tensor | None:
    """The real reference that controls are made of and like: other ground, own sensor's if there is one; no holes."""
    image = case.other if case.own is None else case.own
    return None if image is None else split_holes(image, "reference")[0]


def _of_real(change: Callable[[torch.Tensor, torch.Generator], torch.Tensor]) -> Make:
    """A grade that is made from the real reference."""

    def make(case: Case, camera: Camera, generator: torch.Generator) -> torch.Tensor | None:  # noqa: ARG001  (the form of all grades)
        image = real(case)
        return None if image is None or case.srf is None else change(image, generator)

    return make


def moved(image: torch.Tensor, by: float = MOVED) -> torch.Tensor:
    """The image moved down and across by `by` pixels, by cubic splines, its border repeated."""
    return shifted(image, by, by).clamp(0, 1)


def altered(case: Case, camera: Camera, generator: torch.Generator) -> torch.Tensor | None:  # noqa: ARG001
    """The same ground as another day and another sensor might have it."""
    image = case.same_ground(camera)
    if image is None:
        return None
    image = split_holes(image, "reference")[0]
    bands = torch.arange(image.shape[1]) % len(GAIN)
    gain, offset = (torch.tensor(values)[bands].reshape(1, -1, 1, 1) for values in (GAIN, OFFSET))
    return torch.rot90(gain * moved(image) + offset, 1, (-2, -1)).clamp(0, 1).contiguous()


def half(case: Case, camera: Camera, generator: torch.Generator) -> torch.Tensor | None:  # noqa: ARG001
    """The left half of the same ground beside other ground."""
    image, other = case.same_ground(camera), real(case)
    if image is None or other is None:
        return None
    height = min(image.shape[2], other.shape[2])
    left, right = image.shape[3] // 2, min(image.shape[3] - image.shape[3] // 2, other.shape[3])
    return torch.cat([image[..., :height, :left], other[..., :height, :right]], -1)


GRADES: dict[str, Grade] = {
    "none": Grade("control", lambda case, camera, generator: None),
    **{name: Grade("control", _of_real(make), random=name not in SETTLED) for name, make in CONTROLS.items()},
    "other-sensor": Grade("real", lambda case, camera, generator: None if case.srf is None else case.other),
    "own-sensor": Grade("real", lambda case, camera, generator: case.own),
    "half": Grade("same", half),
    "altered": Grade("same", altered),
    "same": Grade("same", lambda case, camera, generator: case.same_ground(camera)),
}
