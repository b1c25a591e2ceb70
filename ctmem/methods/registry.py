"""Methods by name: functions (lr_hsi, ref_msi, camera) → pred, which `super_resolve` and the benchmark call alike.

    @register_method("nearest")
    def nearest(lr_hsi, ref_msi, camera):
        return lr_hsi.repeat_interleave(camera.scale, 2).repeat_interleave(camera.scale, 3)

    super_resolve(model, lr_hsi, camera=camera, method="nearest-bp")

A name with `-bp` at its end is the same method finished with back-projection. What has to be trained or fitted first is
registered by a function that makes the method of a `Setting`.

Source: this project.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from ctmem.checks import Count, HoledImage, Image, Inside, as_image, check_choice, check_count, fail, typed
from ctmem.data.samples import Degraded
from ctmem.holes import enlarged, fill_in, open_holes, split_holes
from ctmem.model import Model
from ctmem.observe.camera import Camera

Method = Callable[[torch.Tensor, torch.Tensor | None, Camera], torch.Tensor]
Draws = Callable[[torch.Tensor, torch.Tensor | None, Camera, int], torch.Tensor]
NumpyPipeline = Callable[[np.ndarray, np.ndarray | None, np.ndarray | None, np.ndarray], np.ndarray]

FINISHED = "-bp"  # at the end of a name: with back-projection


@typed
@dataclass(frozen=True)
class Setting:
    """What a method may be made of; most need nothing of it."""

    model: Model | None = None  # trained networks
    training: Sequence[Degraded] = ()  # ground with its truth to fit numbers on, never that of the image in question
    generator: torch.Generator | None = None  # of what the method draws


@typed
@dataclass(frozen=True)
class Entry:
    """A registered method: how it is made, and what its answer depends on."""

    make: Callable[[Setting], Method]
    uses_reference: bool = True
    random: bool = False  # whether two calls differ by what is drawn
    blind_to: tuple[str, ...] = ()  # controls of the benchmark that are to it the real reference itself
    seen: tuple[str, ...] = ()  # scenes whose ground the shipped weights have learned from: not measured there
    draws: Callable[[Setting], Draws] | None = None  # (lr_hsi, ref_msi, camera, count) → samples (count, C, H, W)
    holes: bool = False  # whether it takes NaN in `lr_hsi`; others are given an image whose holes were filled
    variant: str | None = None  # wiring whose weights it needs: "", "as-drawn", "as-released"; None: no weights


METHODS: dict[str, Entry] = {}


@typed
def register_method(
    name: str, function: Inside[Method | None] = None, *, uses_reference: bool = True
) -> Callable[..., object]:
    """Enters a method under a name: `register_method("mine", function)`, or as a decorator.

    Args:
        name: without `-bp` at its end; a name that is taken is replaced.
        function: (lr_hsi (1, C, h, w), ref_msi (1, c, Hr, Wr) or None, camera) → pred (1, C, scale·h, scale·w).
        uses_reference: False where `ref_msi` is not looked at: the benchmark then runs it once.

    Returns:
        The function, or, without one, what a decorator returns.

    Raises:
        TypeError: something that is not a function.
        ValueError: a name that ends in `-bp`.
    """

    def enter(function: Method) -> Method:
        if not callable(function):
            fail("function", "a function (lr_hsi, ref_msi, camera) → pred", type(function).__name__, TypeError)
        register_maker(name, Entry(lambda setting: function, uses_reference=uses_reference))
        return function

    return enter if function is None else enter(function)


@typed
def register_maker(name: str, entry: Entry) -> None:
    """Enters a method that is made of a `Setting`: of weights, of training ground, with random numbers.

    Raises:
        ValueError: a name that ends in `-bp`.
    """
    if not name or name.endswith(FINISHED):
        fail("name", f"a name that does not end in {FINISHED!r}, which asks for back-projection", repr(name))
    METHODS[name] = entry


@typed
def make_method(method: str, setting: Setting = Setting()) -> Method:
    """Returns the method of a name, ready to be called; its answers are looked at.

    Where `lr_hsi` has holes (NaN), the answer has NaN on the same ground; back-projection leaves them out.

    Args:
        method: one of `METHODS`, with or without `-bp` at its end.
        setting: what it may be made of.

    Raises:
        ValueError: an unknown name, or a method that needs what `setting` does not have. The method itself raises where
            its answer is not a finite image of the right size.
    """
    bare = method.removesuffix(FINISHED)
    check_choice(bare, "method", METHODS)
    entry = METHODS[bare]
    function = entry.make(setting)

    @typed
    def answer(lr_hsi: HoledImage, ref_msi: HoledImage | None, camera: Camera) -> torch.Tensor:
        given = lr_hsi
        lr_hsi, holes = split_holes(lr_hsi, "lr_hsi")
        pred = _checked(function(given if entry.holes else lr_hsi, ref_msi, camera), given, camera, bare, holes)
        if method.endswith(FINISHED):
            pred = camera.consistent(pred, lr_hsi, holes=holes)
        return open_holes(pred, holes)

    return answer


@typed
def make_spread(method: str, setting: Setting, draws: Count) -> Method:
    """Returns a function like a method, whose answer is how far its draws differ: their standard deviation.

    Args:
        method: as for `make_method`; with `-bp` each draw is finished with back-projection.
        setting: what it may be made of.
        draws: how many, at least 2.

    Raises:
        ValueError: an unknown name, a method without draws, or fewer than 2.
    """
    bare = method.removesuffix(FINISHED)
    check_choice(bare, "method", METHODS)
    entry = METHODS[bare]
    maker = entry.draws
    if maker is None:
        fail("uncertainty", f"False for {method!r}, a method without draws", True)
    check_count(draws, "draws", at_least=2)
    function = maker(setting)

    @typed
    def spread(lr_hsi: HoledImage, ref_msi: HoledImage | None, camera: Camera) -> torch.Tensor:
        given = lr_hsi
        lr_hsi, holes = split_holes(lr_hsi, "lr_hsi")
        drawn = function(given if entry.holes else lr_hsi, ref_msi, camera, draws).split(1)
        if method.endswith(FINISHED):
            drawn = tuple(camera.consistent(one, lr_hsi, holes=holes) for one in drawn)
        return open_holes(torch.cat(drawn).std(0, keepdim=True), holes)

    return spread


@typed
def from_numpy_pipeline(function: NumpyPipeline) -> Method:
    """Returns a method that calls a pipeline of another form: arrays with the bands last.

    Args:
        function: (lr (h, w, C), ref (Hr, Wr, c) or None, srf (c, C) or None, psf (k, k)) → (scale·h, scale·w, C);
            float32, images in [0, 1].
    """

    @typed
    def method(lr_hsi: Image, ref_msi: HoledImage | None, camera: Camera) -> torch.Tensor:
        lr = _bands_last(lr_hsi)
        ref = None if ref_msi is None else _bands_last(ref_msi)
        srf = None if camera.srf is None else camera.srf.cpu().numpy()
        pred = np.asarray(function(lr, ref, srf, camera.psf.cpu().numpy()), dtype=np.float32)
        return torch.from_numpy(np.ascontiguousarray(np.moveaxis(pred, -1, 0)[None])).to(lr_hsi.device)

    return method


def _bands_last(image: torch.Tensor) -> np.ndarray:
    """An image (1, C, H, W) as an array (H, W, C)."""
    return image[0].permute(1, 2, 0).cpu().numpy()


def _checked(
    pred: torch.Tensor, lr_hsi: torch.Tensor, camera: Camera, name: str, holes: torch.Tensor | None
) -> torch.Tensor:
    """The answer of a method, filled where `lr_hsi` has holes, or the error of one that is not such an image."""
    pred = as_image(pred, f"what the method {name!r} returns", finite=False)
    wanted = (*lr_hsi.shape[:2], *(camera.scale * side for side in lr_hsi.shape[2:]))
    if tuple(pred.shape) != wanted:
        fail("method", f"one that returns an image of shape {wanted}", f"{tuple(pred.shape)} from {name!r}")
    if holes is not None:
        pred = fill_in(pred.clone(), enlarged(holes, camera.scale))
    if not bool(torch.isfinite(pred).all()):  # a stranger's numbers are read, inside a door, too
        fail("method", "one whose answers are finite everywhere", f"NaN or infinite values from {name!r}")
    return pred


@register_method("bicubic", uses_reference=False)
@typed
def bicubic(lr_hsi: Image, ref_msi: HoledImage | None, camera: Camera) -> torch.Tensor:  # noqa: ARG001  (the form of all methods)
    """Bicubic upsampling; `bicubic-bp` is the back-projection that needs no training."""
    return camera.upsample(lr_hsi)
