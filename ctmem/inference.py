"""Super-resolution of an image with trained weights: everything is joined here.

    model = load_model("tiny")
    camera = model.camera.for_wavelengths(scene.wavelengths_nm)
    pred = super_resolve(model, lr_hsi, ref_msi, camera=camera)

Matching and the network's condition are computed once per image (`encode`, `draw`); only the noise branch and the
fusion run per diffusion step. Large images go through the network in overlapping tiles.

Source: Qu et al., IEEE TGRS 2025; data consistency, tiles and averaging are this project's.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch

from ctmem.checks import as_image, check_choice, check_count, door, fail, warn_once
from ctmem.config import Preset
from ctmem.diffusion.encoding import Encoded, encode_image
from ctmem.diffusion.samplers import SAMPLERS, Callback, sample
from ctmem.diffusion.schedule import make_schedule
from ctmem.match.align import Blur, References
from ctmem.match.dmb import dmb
from ctmem.match.library import TextureLibrary
from ctmem.model import Model, load_model
from ctmem.networks.tcmm import TCMM
from ctmem.observe.camera import Camera

__all__ = ["Model", "draw", "encode", "finish_estimate", "load_model", "super_resolve", "tiled_denoise"]


MISMATCH = 1e-3  # of an answer that counts as consistent: its degraded form from lr_hsi, relative
BACK_PROJECTIONS = (10, 50)  # at least, as the baseline; at most


@door
@torch.no_grad()
def super_resolve(
    model: Model,
    lr_hsi: torch.Tensor,
    ref_msi: References | TextureLibrary | None = None,
    *,
    camera: Camera | None = None,
    steps: int | None = None,
    samples: int = 1,
    sampler: str | None = None,
    start: float = 1.0,
    consistency: bool = True,
    tile: int = 192,
    uncertainty: bool = False,
    generator: torch.Generator | None = None,
    callback: Callback | None = None,
) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
    """Returns `pred`, the hyperspectral image at the fine resolution, (B, C, H, W) with H = scale·h.

    With `uncertainty` it returns (pred, std): the standard deviation of the draws at each pixel and band, (B, C, H, W).
    It says how far the draws differ, which is the error only as far as the network is right.

    Args:
        model: trained networks.
        lr_hsi: observed image (B, C, h, w), [0, 1]; any scene, any band count.
        ref_msi: unpaired reference (1 or B, c, Hr, Wr), [0, 1], any size and place, NaN where it has holes; a list of
            several, (1, c, Hr, Wr) each; or a library of them, built with `model.kernel`, whose own settings then
            rule the matching; None: without a reference.
        camera: what `lr_hsi` was observed with; default: the one that the weights were trained for. Its blur is used for
            matching and consistency, its response `srf` for the reference, with which it is needed:
            `model.camera.for_wavelengths(nm)`. One of another blur or noise than in training is warned of, once.
        steps: diffusion steps; default: the preset's, 1. One step is the network's best guess of the mean; more steps
            draw a *sample*, which looks sharper and has a larger squared error.
        samples: draws to average.
        sampler: `ddim`, `dpmpp` or `ddpm`; default: the preset's, `ddim`.
        start: where the chain is entered: 1 from noise alone; less, from lr_hsi_up with the noise of start·T.
        consistency: finish with back-projection, so that degrading `pred` gives back `lr_hsi` to a thousandth. Where
            `lr_hsi` is noisy, its noise is given back, too.
        tile: largest side that goes through the network at once, fine pixels.
        uncertainty: also return `std`; needs at least 2 samples.
        generator: of the noise.
        callback: called after every network call, B · samples · steps times in all, with (step, t, x_t, x̂0), both
            images (1, K, H, W) in the denoiser's channels: `decode` of what `encode` returns makes spectra of them.

    Raises:
        TypeError: an image that is not a floating-point image.
        ValueError: wrong rank, batch or band count, values that are not finite, an image smaller than a patch,
            a reference and a camera without `srf`, a camera of another scale, a count below 1, an unknown sampler, more
            steps than the chain has, `start` outside (0, 1], an uncertainty of one sample.
    """
    lr_hsi = as_image(lr_hsi, "lr_hsi")
    check_count(samples, "samples", at_least=2 if uncertainty else 1)
    check_count(tile, "tile", at_least=8)
    preset, device = model.preset, model.device
    steps, sampler = preset.sampling_steps if steps is None else steps, sampler or preset.sampler
    _check_sampling(preset, steps, sampler, start)
    camera = camera_for(model, camera).to(device)
    preds, stds = [], []
    for one, encoded in zip(lr_hsi.to(device).split(1), encode(model, lr_hsi, ref_msi, camera=camera)):
        finish = partial(finish_estimate, encoded, one, camera if consistency else None)
        draws = draw(
            model, encoded, steps=steps, samples=samples, sampler=sampler, start=start, tile=tile,
            generator=generator, callback=callback,
        )  # fmt: skip
        preds.append(finish(draws.mean(0, keepdim=True)))
        if uncertainty:
            squares = sum((finish(one_draw) - preds[-1]).square() for one_draw in draws.split(1))
            stds.append((squares / (samples - 1)).sqrt())
    return (torch.cat(preds), torch.cat(stds)) if uncertainty else torch.cat(preds)


@torch.no_grad()
def draw(
    model: Model,
    encoded: Encoded,
    *,
    steps: int,
    samples: int = 1,
    sampler: str = "ddim",
    start: float = 1.0,
    tile: int = 192,
    generator: torch.Generator | None = None,
    callback: Callback | None = None,
) -> torch.Tensor:
    """Draws of the diffusion for one encoded image, (samples, K, H, W) in the denoiser's channels.

    The condition is computed once. The arguments are those of `super_resolve`.

    Raises:
        ValueError: an unknown sampler, more steps than the chain has, `start` outside (0, 1].
    """
    preset, network, base = model.preset, model.denoiser, encoded.base
    denoise = tiled_denoise(network, encoded, tile)

    def report(step: int, t: int, x_t: torch.Tensor, x0: torch.Tensor) -> None:
        callback(step, t, network.leave(x_t, base), network.leave(x0, base))

    draws = [
        sample(
            denoise, network.enter(base, base), make_schedule(preset.schedule, preset.timesteps), steps=steps,
            sampler=sampler, start=start, prediction=preset.denoiser.prediction, generator=generator,
            callback=report if callback else None,
        )
        for _ in range(samples)
    ]  # fmt: skip
    return network.leave(torch.cat(draws), base)


def _check_sampling(preset: Preset, steps: int, sampler: str, start: float) -> None:
    """Raises what `sample` would, before anything is computed."""
    check_choice(sampler, "sampler", SAMPLERS)
    make_schedule(preset.schedule, preset.timesteps).trailing(steps, start)


def finish_estimate(
    encoded: Encoded, lr_hsi: torch.Tensor, camera: Camera | None, z: torch.Tensor
) -> torch.Tensor:
    """The spectra (1, C, H, W) of an estimate z (1, K, H, W); with a camera, made consistent with the observation."""
    pred = encoded.decode(z)
    if camera is None:
        return pred
    fewest, most = BACK_PROJECTIONS
    pred = camera.back_project(pred, lr_hsi, steps=fewest)
    return camera.back_project(pred, lr_hsi, steps=most - fewest, tolerance=MISMATCH)


@door
def encode(
    model: Model,
    lr_hsi: torch.Tensor,
    ref_msi: References | TextureLibrary | None = None,
    *,
    camera: Camera | None = None,
) -> list[Encoded]:
    """What the denoiser is told of each image: upsampled, matched with its reference, in the denoiser's channels.

    Raises:
        ValueError: as `super_resolve`.
    """
    lr_hsi = as_image(lr_hsi, "lr_hsi").to(model.device)
    camera = camera_for(model, camera).to(model.device)
    lr_hsi_up = camera.upsample(lr_hsi)
    textures: list[torch.Tensor | None] = [None] * len(lr_hsi)
    if ref_msi is not None:
        if camera.response().shape[1] != lr_hsi.shape[1]:
            expected = f"one whose `srf` has {lr_hsi.shape[1]} columns, one per band of `lr_hsi`"
            fail("camera", expected, f"{camera.response().shape[1]} columns")
        textures = list(_texture(lr_hsi_up, ref_msi, camera, model, blur_of(model, camera)).split(1))
    images = zip(lr_hsi.split(1), lr_hsi_up.split(1), textures)
    return [encode_image(one, up, texture, camera, model.preset.denoiser) for one, up, texture in images]


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


def blur_of(model: Model, camera: Camera) -> Blur:
    """K of a camera: the learned one where it is the camera of the weights, otherwise the camera's own blur."""
    return model.kernel if camera.same_optics(model.camera) else camera.blur


def _texture(
    lr_hsi_up: torch.Tensor, ref_msi: References | TextureLibrary, camera: Camera, model: Model, blur: Blur
) -> torch.Tensor:
    """What the reference, or the library, hands over, (B, 4c, H, W)."""
    if isinstance(ref_msi, TextureLibrary):
        return ref_msi.texture(lr_hsi_up, camera, blur=blur)[0]
    return dmb(lr_hsi_up, ref_msi, camera, model.preset.match, blur=blur)[0]


def tiled_denoise(denoiser: TCMM, encoded: Encoded, tile: int, overlap: int = 16) -> Callable[..., torch.Tensor]:
    """Returns denoise(x_t, noise_level, x0_previous) for one image, its condition computed here, once.

    An image larger than `tile` is cut into tiles that overlap; their estimates are blended with weights that fall
    towards the tiles' borders. All tiles share one x_t, so that no seam grows over the steps.
    """
    height, width = encoded.base.shape[2:]
    boxes = [(rows, columns) for rows in _spans(height, tile, overlap) for columns in _spans(width, tile, overlap)]
    conditions = [denoiser.condition(encoded.base[..., r, c], encoded.texture[..., r, c]) for r, c in boxes]
    if len(boxes) == 1:
        return lambda x_t, level, previous: denoiser.denoise(x_t, level, previous, conditions[0])

    def denoise(x_t: torch.Tensor, level: torch.Tensor, previous: torch.Tensor) -> torch.Tensor:
        total, weight = torch.zeros_like(x_t), x_t.new_zeros(1, 1, height, width)
        for (r, c), condition in zip(boxes, conditions):
            window = _ramp(r, overlap, x_t)[:, None] * _ramp(c, overlap, x_t)
            total[..., r, c] += window * denoiser.denoise(x_t[..., r, c], level, previous[..., r, c], condition)
            weight[..., r, c] += window
        return total / weight

    return denoise


def _spans(length: int, tile: int, overlap: int) -> list[slice]:
    """Slices of at most `tile` pixels that cover the length and overlap by at least `overlap` (or half a tile)."""
    if length <= tile:
        return [slice(0, length)]
    step = tile - min(overlap, tile // 2)
    starts = sorted({*range(0, length - tile, step), length - tile})
    return [slice(start, start + tile) for start in starts]


def _ramp(span: slice, overlap: int, like: torch.Tensor) -> torch.Tensor:
    """Weights over one side of a tile: 1 inside, falling linearly, but not to 0, at both ends."""
    place = torch.arange(span.stop - span.start, device=like.device, dtype=like.dtype) + 1
    return torch.minimum(place, place.flip(0)).clamp_max(overlap) / overlap
