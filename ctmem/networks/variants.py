"""The wirings of the method, as settings of the same modules.

`corrected` is this project's and the default, `as_drawn` that of the paper's figure, `as_released` that of its code:

| | as_released | as_drawn | corrected |
|---|---|---|---|
| x_t enters | through a random projection | as it is | as it is |
| CIM block | norm, Mamba | with channel attention and gate | as drawn |
| walks over the image | rows | rows | rows and columns, both ways |
| channels | bands | bands | 8 principal directions |
| matching | dot product, tiles, best window | the same | zncc, dense, 8 turns, 64 windows |
| K | the paper's network | the same | a learned PSF |
| sampling | DDPM, T steps | the same | `sampler`, `sampling_steps` |

Source: Qu et al., IEEE TGRS 2025, its figure and its released code.
"""

from __future__ import annotations

from dataclasses import replace

from ctmem.config import PAPER, SMALL, TINY, DenoiserConfig, MatchConfig, Preset


def as_drawn(preset: Preset) -> Preset:
    """The method as the paper's figure and text have it, at the size of `preset`.

    Matching by the dot product of patches that tile both images, one best window, nothing re-levelled; the paper's
    network as K; the denoiser on bands, its tokens in rows only; DDPM over all T steps.
    """
    match = replace(
        preset.match, stride=preset.match.patch, query_stride=preset.match.patch, similarity="dot", turns=False,
        top_k=1_000_000, hard_k=1, temperature=1.0, relevel=False, radiometry=False, sharpening=0,
    )  # fmt: skip
    denoiser = replace(preset.denoiser, subspace=None, cross_scan=False, channel_attention=True, target="x0")
    return replace(
        preset, name=f"{_size(preset)}-as-drawn", match=match, denoiser=replace(denoiser, random_projection=False),
        kernel_network=True, schedule="linear", sampler="ddpm", sampling_steps=preset.timesteps,
    )  # fmt: skip


def as_released(preset: Preset) -> Preset:
    """The wiring of the code released with the paper, at the size of `preset`.

    As drawn, but CIM is a norm and a stock Mamba block without channel attention, and x_t reaches the network only
    through a random projection. The released code draws a new one in every call; here it is drawn once. The faults of
    its training, sampling and measuring (tests/test_released_faults.py) are not part of this preset.
    """
    drawn = as_drawn(preset)
    denoiser = replace(drawn.denoiser, channel_attention=False, random_projection=True)
    return replace(drawn, name=f"{_size(preset)}-as-released", denoiser=denoiser)


def corrected(preset: Preset) -> Preset:
    """The wiring of this project's presets, at the size of `preset`; undoes `as_drawn` and `as_released`."""
    patch = preset.match.patch
    usual = MatchConfig()
    wiring = DenoiserConfig()
    whole = Preset("")
    match = replace(usual, patch=patch, stride=max(1, patch // 4))
    wired = ("subspace", "cross_scan", "channel_attention", "target", "random_projection")
    denoiser = replace(preset.denoiser, **{name: getattr(wiring, name) for name in wired})
    chosen = ("kernel_network", "schedule", "sampler", "sampling_steps")
    return replace(
        preset, name=_size(preset), match=match, denoiser=denoiser, **{name: getattr(whole, name) for name in chosen}
    )


def _size(preset: Preset) -> str:
    """The name without the variant."""
    return preset.name.removesuffix("-as-drawn").removesuffix("-as-released")


VARIANTS = {"corrected": corrected, "as_drawn": as_drawn, "as_released": as_released}
PRESETS = {preset.name: preset for variant in VARIANTS.values() for preset in map(variant, (TINY, SMALL, PAPER))}
