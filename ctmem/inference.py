"""Super-resolution of an image with trained weights: everything is joined here.

    model = load_model("tiny")
    camera = model.camera.for_wavelengths(scene.wavelengths_nm)
    pred = super_resolve(model, lr_hsi, ref_msi, camera=camera)

Matching and the network's condition are computed once per image (`encode`, `draw`); only the noise branch and the
fusion run per diffusion step. Large images go through the network in overlapping tiles.

Source: Qu et al., IEEE TGRS 2025; data consistency, tiles and averaging are this project's.
"""

from __future__ import annotations

from functools import partial
from typing import Annotated, cast

import numpy as np
import torch

from ctmem.checks import Bounds, Finite, as_image, check_choice, check_count, door, fail, typed, usual_state, warn_once
from ctmem.diffusion.encoding import Encoded, encode_image
from ctmem.diffusion.problem import DenoisingProblem, Rematch, check_tile, rematched
from ctmem.diffusion.samplers import SAMPLERS, Callback, Sampler, check_sampler, sample_ddim
from ctmem.diffusion.schedule import make_schedule
from ctmem.holes import fill_holes, holes_of_each, open_holes, split_holes, whole_pixels
from ctmem.match.align import Blur, References
from ctmem.match.dmb import dmb
from ctmem.match.texture_library import TextureLibrary
from ctmem.methods import components, fusion, peers  # noqa: F401  (they enter their methods)
from ctmem.methods.registry import Entry, Method, Setting, make_method, make_spread, register_maker
from ctmem.model import Model, load_model
from ctmem.observe.camera import Camera
from ctmem.observe.estimate import estimate_camera

__all__ = ["Model", "draw", "encode", "finish_estimate", "load_model", "super_resolve"]

Draws = Annotated[int, Bounds(1, 4096)]
THIS = "ctmem"  # the method of this module, the default


@door
@usual_state()
@torch.no_grad()
def super_resolve(
    model: Model,
    lr_hsi: torch.Tensor,
    ref_msi: References | TextureLibrary | None = None,
    *,
    camera: Camera | None = None,
    psf: str | None = None,
    method: str = THIS,
    steps: int | None = None,
    draws: Draws = 1,
    sampler: Sampler | None = None,
    start: Finite = 1.0,
    consistency: bool | None = None,
    tile: int = 192,
    uncertainty: bool = False,
    rematch_every: int | None = None,
    generator: torch.Generator | None = None,
    callback: Callback | None = None,
) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
    """Returns `pred`, the hyperspectral image at the fine resolution, (B, C, H, W) with H = scale·h.

    With `uncertainty` it returns (pred, std): the standard deviation of the draws at each pixel and band, (B, C, H, W).
    It says how far the draws differ, which is the error only as far as the network is right.

    Args:
        model: trained networks.
        lr_hsi: observed image (B, C, h, w), [0, 1]; any scene, any band count. Where it has holes (NaN, `ctmem.holes`)
            the answer has NaN, too, and whatever is computed uses whole pixels only.
        ref_msi: unpaired reference (1 or B, c, Hr, Wr), [0, 1], any size and place, NaN where it has holes; a list of
            several, (1, c, Hr, Wr) each; or a library of them, built with `blur_of(model, camera)` (`model.kernel` for
            the camera of the weights), whose own settings then rule the matching; None: without a reference.
        camera: what `lr_hsi` was observed with; default: the one that the weights were trained for. Its blur is used
            for matching and consistency, its response `srf` for the reference, with which it is needed:
            `model.camera.for_wavelengths(nm)`. One of another blur or noise than in training is warned of, once.
        psf: "auto": blur and noise of the camera are estimated from `lr_hsi` and replaced, see `estimate_camera`; the
            first reference is its teacher, if it is an image of at least 12·scale pixels a side. None: as the camera
            says. Tell what you know: the estimated FWHM is often off by a pixel, and in a dense city by up to three.
        method: "ctmem", or another by its name: "prior" (learned from open imagery, no reference), "fusion-bp" (for a
            reference of the same ground, shifted or turned), "cnn-bp" (the residual CNN, finished with
            back-projection), "bicubic", "bicubic-bp", "knn-reference-bp", or one of your own, see
            `ctmem.methods.registry.register_method`. The arguments below are then of no effect but for `generator`, and
            for `draws` with `uncertainty` where the method has draws ("fusion-bp"); the reference is one image, or one
            for each of `lr_hsi`.
        steps: of the chain; default: the preset's, 1. One step is the network's best guess of the mean; more steps
            draw a *sample*, which looks sharper and has a larger squared error.
        draws: how many samples are drawn and averaged.
        sampler: `sample_ddim`, another function of `ctmem.diffusion.samplers`, or one of your own of that form;
            default: the preset's, `sample_ddim`.
        start: where the chain is entered: 1 from noise alone; less, from lr_hsi_up with the noise of start·T.
        consistency: finish with back-projection, so that degrading `pred` gives back `lr_hsi` to a thousandth, or as
            near as 50 steps come; with a noisy camera, until only what its noise explains is missing. Default: as the
            preset says, which is no for the wirings as drawn and as released.
        tile: largest side that goes through the network at once, fine pixels; at least 32 where the image is larger.
        uncertainty: also return `std`; needs at least 2 draws.
        rematch_every: match again after so many calls of the denoiser, with the estimate x̂0 of the last call in place
            of the upsampled `lr_hsi`; None: match once, before the first call. Needs a reference and several steps.
        generator: of the noise.
        callback: called once per step, B · draws · steps times in all, with (step, t, x, x̂0), both images (1, Z, H, W)
            in the denoiser's channels: `decode` of what `encode` returns makes spectra of them.

    Raises:
        TypeError: an image that is not of floating-point numbers, a sampler or callback that is not a function, another
            `model` or `generator`.
        ValueError: wrong rank, batch or band count, an image of holes only, an image smaller than a patch,
            a reference and a camera without `srf`, a camera of another scale, a count below 1, more steps than the
            chain has, `start` outside (0, 1], an uncertainty of one draw, `rematch_every` without a reference; an
            unknown `method` or `psf`, or an uncertainty of a method without draws.
    """
    if not isinstance(model, Model):
        fail("model", "a model, as `load_model` returns it", type(model).__name__, TypeError)
    if generator is not None and not isinstance(generator, torch.Generator):
        fail("generator", "a `torch.Generator`, or None", type(generator).__name__, TypeError)
    if callback is not None and not callable(callback):
        fail("callback", "a function, or None", type(callback).__name__, TypeError)
    lr_hsi, holes = split_holes(as_image(lr_hsi, "lr_hsi", finite=False).to(model.device), "lr_hsi")
    if camera is not None and not isinstance(camera, Camera):
        fail("camera", "a `Camera`", type(camera).__name__, TypeError)
    if psf is not None:
        check_choice(psf, "psf", ("auto",))
        camera = _estimated(open_holes(lr_hsi, holes), ref_msi, model.camera if camera is None else camera)
    if method != THIS:
        setting = Setting(model, generator=generator)
        given = open_holes(lr_hsi, holes), ref_msi, (camera or model.camera).to(model.device)
        if not uncertainty:
            return _one_by_one(make_method(method, setting), *given)
        spread = make_spread(method, setting, draws)
        return _one_by_one(make_method(method, setting), *given), _one_by_one(spread, *given)
    check_count(draws, "draws", at_least=2 if uncertainty else 1)
    steps = model.preset.sampling_steps if steps is None else steps
    sampler = _sampler_of(model) if sampler is None else sampler
    _check_sampling(model, steps, sampler, start)
    camera = camera_for(model, camera).to(model.device)
    check_tile(tile, *(camera.scale * side for side in lr_hsi.shape[2:]))
    consistency = model.preset.consistency if consistency is None else consistency
    if rematch_every is not None:
        check_count(rematch_every, "rematch_every")
        if ref_msi is None:
            fail("ref_msi", "a reference, to match again with `rematch_every`", None)
    preds: list[torch.Tensor] = []
    stds: list[torch.Tensor] = []
    encoded_images = encode(model, lr_hsi, ref_msi, camera=camera, holes=holes)
    images = zip(lr_hsi.split(1), holes_of_each(holes, len(lr_hsi)), encoded_images)
    for number, (one, hole, encoded) in enumerate(images):
        # what belongs to the image is worked out once, each draw runs the diffusion; then spectra, and consistency
        finish = partial(finish_estimate, encoded, one, camera if consistency else None, holes=hole)
        rematch = None
        if rematch_every is not None and ref_msi is not None:
            rematch = Rematch(
                rematch_every, partial(_texture_again, model, encoded, one, hole, ref_msi, number, camera)
            )
        drawn = draw(
            model, encoded, steps=steps, draws=draws, sampler=sampler, start=start, tile=tile,
            generator=generator, callback=callback, rematch=rematch,
        )  # fmt: skip
        preds.append(finish(drawn.mean(0, keepdim=True)))
        if uncertainty:
            squares = [(finish(one_draw) - preds[-1]).square() for one_draw in drawn.split(1)]
            stds.append((torch.stack(squares).sum(0) / (draws - 1)).sqrt())
    return (torch.cat(preds), torch.cat(stds)) if uncertainty else torch.cat(preds)


def _estimated(lr_hsi: torch.Tensor, ref_msi: References | TextureLibrary | None, camera: Camera) -> Camera:
    """The camera that the images show, taught by the first reference where it is an image."""
    if isinstance(ref_msi, list | tuple) and ref_msi:
        return _estimated(lr_hsi, ref_msi[0], camera)
    if isinstance(ref_msi, torch.Tensor | np.ndarray):
        image = as_image(ref_msi, "ref_msi", finite=False)
        return estimate_camera(lr_hsi, fill_holes(image, "ref_msi")[0], camera=camera)
    return estimate_camera(lr_hsi, camera=camera)


@typed
@torch.no_grad()
def draw(
    model: Model,
    encoded: Encoded,
    *,
    steps: int,
    draws: Draws = 1,
    sampler: Sampler = sample_ddim,
    start: Finite = 1.0,
    tile: int = 192,
    generator: torch.Generator | None = None,
    callback: Callback | None = None,
    rematch: Rematch | None = None,
) -> torch.Tensor:
    """Draws of the diffusion for one encoded image, (draws, Z, H, W) in the denoiser's channels.

    The condition is computed once, or as often as `rematch` says. The other arguments are those of `super_resolve`.

    Raises:
        TypeError: a sampler that is not a function.
        ValueError: more steps than the chain has, `start` outside (0, 1].
    """
    _check_sampling(model, steps, sampler, start)
    check_tile(tile, *encoded.base.shape[2:])
    schedule = make_schedule(model.preset.schedule, model.preset.timesteps)
    problem = DenoisingProblem.of(model.denoiser, encoded.base, encoded.texture, tile=tile)
    drawn = [
        (problem if rematch is None else rematched(problem, model.denoiser, rematch, tile=tile)).draw(
            schedule, steps=steps, sampler=sampler, start=start, generator=generator, callback=callback
        )
        for _ in range(draws)
    ]
    return torch.cat(drawn)


def _sampler_of(model: Model) -> Sampler:
    """The sampler that the preset names."""
    check_choice(model.preset.sampler, "sampler", SAMPLERS)
    return SAMPLERS[model.preset.sampler]


def _check_sampling(model: Model, steps: int, sampler: Sampler, start: Finite) -> None:
    """Raises what `sample` would, before anything is computed."""
    check_sampler(sampler)
    make_schedule(model.preset.schedule, model.preset.timesteps).trailing(steps, start)


@typed
def finish_estimate(
    encoded: Encoded,
    lr_hsi: torch.Tensor,
    camera: Camera | None,
    z: torch.Tensor,
    *,
    holes: torch.Tensor | None = None,
) -> torch.Tensor:
    """The spectra (1, C, H, W) of an estimate z (1, Z, H, W); with a camera, made consistent with the observation.

    Where the observation, filled, had holes (1, 1, h, w), nothing is asked of them, and they are NaN.
    """
    pred = encoded.decode(z)
    return open_holes(pred if camera is None else camera.consistent(pred, lr_hsi, holes=holes), holes)


@door
def encode(
    model: Model,
    lr_hsi: torch.Tensor,
    ref_msi: References | TextureLibrary | None = None,
    *,
    camera: Camera | None = None,
    holes: torch.Tensor | None = None,
) -> list[Encoded]:
    """What the denoiser is told of each image: upsampled, matched with its reference, in the denoiser's channels.

    With `holes` (B, 1, h, w) these pixels of `lr_hsi` were filled, and do not count in the subspace and the levels.

    Raises:
        ValueError: as `super_resolve`; NaN in `lr_hsi`.
    """
    lr_hsi = as_image(lr_hsi, "lr_hsi").to(model.device)
    camera = camera_for(model, camera).to(model.device)
    lr_hsi_up = camera.upsample(lr_hsi)
    textures: list[torch.Tensor | None] = [None] * len(lr_hsi)
    if ref_msi is not None:
        if camera.response().shape[1] != lr_hsi.shape[1]:
            expected = f"one whose `srf` has {lr_hsi.shape[1]} columns, one per band of `lr_hsi`"
            fail("camera", expected, f"{camera.response().shape[1]} columns")
        textures = list(_texture(lr_hsi_up, ref_msi, camera, model, holes).split(1))
    images = zip(lr_hsi.split(1), holes_of_each(holes, len(lr_hsi)), lr_hsi_up.split(1), textures)
    return [
        encode_image(whole_pixels(one, hole), up, texture, camera, model.preset.denoiser)
        for one, hole, up, texture in images
    ]


@typed
def camera_for(model: Model, camera: Camera | None) -> Camera:
    """The camera that was given, or else that of the weights; warns once where weights were trained for another one.

    Raises:
        TypeError: `camera` is not a `Camera`.
        ValueError: one of another scale.
    """
    trained = model.camera
    if camera is None:
        return trained
    if not isinstance(camera, Camera):
        fail("camera", "a `Camera`", type(camera).__name__, TypeError)
    if camera.scale != trained.scale:
        fail("camera", f"one of scale {trained.scale}, as the weights", f"scale {camera.scale}")
    different = camera.differences(trained)
    if different:
        warn_once(f"the weights were trained for another camera: `camera` has {' and '.join(different)}")
    return camera


@typed
def blur_of(model: Model, camera: Camera) -> Blur:
    """K of a camera: the learned one where it is the camera of the weights, otherwise the camera's own blur."""
    return model.kernel if camera.same_optics(model.camera) else camera.blur


def _texture_again(
    model: Model,
    encoded: Encoded,
    lr_hsi: torch.Tensor,
    holes: torch.Tensor | None,
    ref_msi: References | TextureLibrary,
    number: int,
    camera: Camera,
    z: torch.Tensor,
) -> torch.Tensor:
    """The texture in the denoiser's channels that image `number` finds with an estimate z of it as the query."""
    if isinstance(ref_msi, torch.Tensor) and len(ref_msi) > 1:
        ref_msi = ref_msi[number : number + 1]
    query = encoded.decode(z).clamp(0, 1)
    texture = _texture(query, ref_msi, camera, model, holes)
    return encode_image(whole_pixels(lr_hsi, holes), encoded.lr_hsi_up, texture, camera, model.preset.denoiser).texture


def _texture(
    lr_hsi_up: torch.Tensor,
    ref_msi: References | TextureLibrary,
    camera: Camera,
    model: Model,
    holes: torch.Tensor | None,
) -> torch.Tensor:
    """What the reference, or the library, hands over, (B, 4c, H, W)."""
    blur = blur_of(model, camera)
    if isinstance(ref_msi, TextureLibrary):
        return ref_msi.texture(lr_hsi_up, camera, blur=blur, holes=holes)[0]
    return dmb(lr_hsi_up, ref_msi, camera, model.preset.match, blur=blur, holes=holes)[0]


# --- under their names -----------------------------------------------------------------------------------------------


def _one_by_one(
    method: Method, lr_hsi: torch.Tensor, ref_msi: References | TextureLibrary | None, camera: Camera
) -> torch.Tensor:
    """The answers of a method for a batch, (B, C, H, W); each image has the one reference, or its own."""
    references: list[torch.Tensor | None] = [None] * len(lr_hsi)
    if ref_msi is not None:
        if isinstance(ref_msi, TextureLibrary | list | tuple):
            fail("ref_msi", "one image (1 or B, c, Hr, Wr) for another method than 'ctmem'", type(ref_msi).__name__)
        image = as_image(ref_msi, "ref_msi", finite=False).to(lr_hsi.device)
        if len(image) not in (1, len(lr_hsi)):
            fail("ref_msi", f"one image, or one for each of {len(lr_hsi)}", len(image))
        references = list(image.expand(len(lr_hsi), -1, -1, -1).split(1))
    return torch.cat([method(one, reference, camera) for one, reference in zip(lr_hsi.split(1), references)])


def _of_model(setting: Setting, name: str) -> Model:
    """The trained networks that a method needs."""
    if setting.model is None:
        fail("model", f"trained networks, for the method {name!r}", None)
    return setting.model


def _cnn(setting: Setting) -> Method:
    """The residual CNN alone, on the same components that the denoiser works on."""
    model = _of_model(setting, "cnn")

    def method(lr_hsi: torch.Tensor, ref_msi: torch.Tensor | None, camera: Camera) -> torch.Tensor:  # noqa: ARG001  (the form of all methods)
        lr_hsi, holes = split_holes(lr_hsi, "lr_hsi")
        (encoded,) = encode(model, lr_hsi, camera=camera, holes=holes)
        return encoded.decode(model.cnn(encoded.base))

    return method


def _ctmem(setting: Setting) -> Method:
    """One estimate of `super_resolve` before back-projection."""
    model = _of_model(setting, THIS)

    def method(lr_hsi: torch.Tensor, ref_msi: torch.Tensor | None, camera: Camera) -> torch.Tensor:
        pred = super_resolve(model, lr_hsi, ref_msi, camera=camera, consistency=False, generator=setting.generator)
        return cast(torch.Tensor, pred)

    return method


register_maker("cnn", Entry(_cnn, uses_reference=False, variant="", holes=True))
register_maker(THIS, Entry(_ctmem, random=True, variant="", holes=True))
for variant in ("as-drawn", "as-released"):
    register_maker(f"{THIS}-{variant}", Entry(_ctmem, random=True, variant=variant, holes=True))
