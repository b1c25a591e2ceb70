"""Areas of a scene that share no pixel, and crops of them.

Low-resolution pixels at the border of an area read `Camera.halo` pixels beyond the border; the gaps between areas are
at least twice that wide, so what one area reads, no other area holds or reads.

    fine pixels      |<-- train -->|<-- gap ≥ 2·halo -->|<-- test -->|
    read by blur     |<------ train + halo ->|  |<- halo + test ---->|

Source: this project.
"""

from __future__ import annotations

from dataclasses import dataclass

from ctmem.checks import Count, Scale, Whole, check_count, door, fail, typed
from ctmem.observe.camera import Camera

TRAIN_ROWS = 0.45  # share of the rows, on top
LOWER_COLUMNS = (6 / 16, 3 / 16)  # shares of test and validation in the columns below; the rest is reference


@typed
@dataclass(frozen=True)
class Box:
    """A rectangle of fine pixels: rows [top, top + height), columns [left, left + width)."""

    top: int
    left: int
    height: int
    width: int

    def __post_init__(self) -> None:
        check_count(self.top, "top", at_least=0)
        check_count(self.left, "left", at_least=0)
        check_count(self.height, "height")
        check_count(self.width, "width")

    @property
    def slices(self) -> tuple[slice, slice]:
        """Index of the last two dimensions: `x[..., *box.slices]`."""
        return slice(self.top, self.top + self.height), slice(self.left, self.left + self.width)

    @typed
    def overlaps(self, other: Box, *, halo: Whole = 0) -> bool:
        """Whether the two share a pixel when both reach `halo` pixels beyond their borders."""
        rows = max(self.top, other.top) - min(self.top + self.height, other.top + other.height)
        columns = max(self.left, other.left) - min(self.left + self.width, other.left + other.width)
        return max(rows, columns) < 2 * halo

    @typed
    def coarse(self, scale: Scale) -> Box:
        """The same rectangle in pixels of the low-resolution image.

        Raises:
            ValueError: a border lies inside a low-resolution pixel.
        """
        sides = (self.top, self.left, self.height, self.width)
        if any(side % scale for side in sides):
            fail("box", f"of borders that are multiples of the scale {scale}", self)
        return Box(*(side // scale for side in sides))


@door
def split_areas(height: Count, width: Count, camera: Camera, *, at_least: Whole | None = None) -> dict[str, Box]:
    """Returns the areas `train`, `validation`, `test` and `reference`, disjoint with their blur halos.

    Training lies on top over the full width; test, validation and reference side by side below it. All
    borders are multiples of the scale; up to scale − 1 rows and columns at the end of the scene stay unused.

    Args:
        height: rows of the scene, fine pixels.
        width: columns of the scene, fine pixels.
        camera: its scale and its halo, the pixels that the blur reads beyond a low-resolution pixel.
        at_least: smallest side an area may have, in fine pixels; default 2·scale.

    Raises:
        ValueError: the scene is too small for four areas of that side, or an argument is not such a number.

    Example:
        >>> split_areas(145, 145, Camera.gaussian(fwhm_px=4.0, scale=4))["test"]
        Box(top=72, left=0, height=72, width=48)
    """
    check_count(height, "height")
    check_count(width, "width")
    scale = camera.scale
    smallest = 2 * scale if at_least is None else at_least
    check_count(smallest, "at_least")

    def down(pixels: float) -> int:
        return int(pixels // scale) * scale

    height_used = down(height)
    width_used = down(width)
    gap = -down(-2 * camera.halo)  # rounded up: no area reads what another one holds or reads
    split_row = down(TRAIN_ROWS * height_used)
    below = split_row + gap
    columns = width_used - 2 * gap
    test, validation = (down(share * columns) for share in LOWER_COLUMNS)
    sides = (split_row, height_used - below, test, validation, columns - test - validation)
    if min(sides) < smallest:
        expected = f"large enough for four areas of {smallest} px or more with gaps of {gap} px"
        fail("height, width", expected, f"{height}×{width}")
    lower = {"test": (0, test), "validation": (test + gap, validation)}
    lower["reference"] = (test + validation + 2 * gap, sides[-1])
    areas = {"train": Box(0, 0, split_row, width_used)}
    return areas | {name: Box(below, left, sides[1], side) for name, (left, side) in lower.items()}


@door
def crops(area: Box, crop: Count, stride: Count) -> list[Box]:
    """Returns the windows of `crop`×`crop` px, every `stride` px and flush with the area's far borders.

    Raises:
        ValueError: the crop is larger than the area, or an argument is not a positive whole number.

    Example:
        >>> [box.left for box in crops(Box(0, 8, 16, 40), 16, 16)]
        [8, 24, 32]
    """
    check_count(crop, "crop")
    check_count(stride, "stride")
    if crop > min(area.height, area.width):
        fail("crop", f"at most the area's {area.height}×{area.width} px", crop)
    tops, lefts = (
        sorted({*range(start, start + length - crop + 1, stride), start + length - crop})
        for start, length in ((area.top, area.height), (area.left, area.width))
    )
    return [Box(top, left, crop, crop) for top in tops for left in lefts]
