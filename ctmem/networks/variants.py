"""The wirings of the method, as settings of the same modules.

`corrected` is this project's and the default, `as_drawn` that of the paper's figure and text, `as_released` that of its
code. A row is a setting of `ctmem.config` (its name in the last column); a test builds both older wirings once more
from this table, in plain PyTorch, and compares.

| part | as_released | as_drawn | corrected | setting |
|---|---|---|---|---|
| noise branch sees | a random 1×1 of [lr_hsi_up, x_t] ¹ | [x_t, x̂0] | [x_t, x̂0] | `random_projection` |
| noise level | shift in a residual block, before the stem | scale, shift on the input | scale, shift after the stem | `level_enters` |
| channels | bands | bands | 8 principal directions | `subspace` |
| CIM | norm, stock Mamba | attention, norm, conv, scan, norm, times SiLU(input) | attention, norm, stock Mamba, norm, times SiLU(linear) | `channel_attention`, `plain_scan` |
| skips round CIM, Mamba-v3, gate | handed on, the last dropped; gate none | none | all added | `skips` |
| walks over the image | rows, forward | the same | rows, columns, both ways | `cross_scan` |
| token projections | 1×1 before CIM, shared by HSI and noise; the guide's again before every TEMamba | none | none | `token_projection` |
| norm in cross-channel attention | each pixel | each pixel | whole image ² | `pixel_norm` |
| query there | full 3×3, no biases | depth-wise | depth-wise | `full_query` |
| norm before Mamba-v3 | twice | once | once | `double_norm` |
| attention block of the fusion | ReLU | LeakyReLU | LeakyReLU | `fusion_slope` |
| last convolution starts | at random | at random | at 0 | `zero_start` |
| matching | dot product, tiles, best window | the same | zncc, dense, 8 turns, 64 windows | `match` |
| border of the gradient | zeros | repeated | repeated | `gradient_border` |
| K | the paper's network ³ | the same | a learned PSF | `kernel_network` |
| sampling | DDPM, all T steps | the same | one step | `sampler`, `sampling_steps` |
| back-projection | none | none | yes | `consistency` |
| training | Adam at a constant rate, no average, no clipping, always a reference | the same | warm-up, cosine, average, clipping, a fifth without | `warmup`, `cosine`, `ema`, `clip`, `drop_reference` |
| training sees its own estimate | never | half of the time | half of the time | `self_condition` |
| weights kept | the last | the last | the best on validation | `keep_best` |

What the two older wirings do *not* follow, and why:

| part | as released or as drawn | here | reason |
|---|---|---|---|
| random 1×1 ¹ | drawn again in every call | drawn once | a fault: x_t could not be read at all, and no image could be drawn twice |
| level told in sampling | one step too clean, and a call too many | that of x_t; none | a fault; `tests/test_released_faults.py` |
| t in training | one for the batch, never the noisiest | one for each sample, all | a fault |
| dt_proj of the guide's stream | left at PyTorch's default | started as the first stream's | a fault of initialisation |
| data of the diffusion | [0, 1] | [−1, 1] | so is the diffusion specified; at the end of the chain the noise has the data's size |
| K ³ | bands jointly, 4 → 16 before the first pooling, a 3×3 after each upsampling | band by band, standardised (`KernelNet`) | K stands by itself and is compared by itself (notebook 02); c times the data, any sensor |
| DMB "at each t" (figure) | code: in every call, always the same | once per image | the same answer without the cost; `super_resolve(rematch_every=…)` does it with the current x̂0 |
| rate of learning | 1e-5 | that of the size | 1e-5 is PAPER's; 3200 steps of it teach TINY nothing |
| 1×1 in half-instance-norm blocks | there, unused | not there | it changes nothing |
| one more 1×1 of the width | somewhere | not there | 16,512 trained parameters of 7,581,738 (102 bands) whose place is not told; all else counts equal |
| SiLU between CIM's conv and scan | not drawn | none | as drawn |
| norm in the cross-channel attention ² | not drawn | each pixel | as released; the whole image lets one bright pixel move all others |

The faults of the released measuring are in `tests/test_released_faults.py`; what each fault does to numbers, in
`benchmarks/ablation.py`.

Source: Qu et al., IEEE TGRS 2025, its figure and text, and a description of its released code.
"""  # noqa: E501  (tables)

from __future__ import annotations

from dataclasses import replace

from ctmem.checks import typed
from ctmem.config import PAPER, SMALL, TINY, DenoiserConfig, MatchConfig, Preset, TrainConfig

WIRED = (
    "subspace", "cross_scan", "channel_attention", "target", "random_projection", "plain_scan", "level_enters", "skips",
    "double_norm", "token_projection", "pixel_norm", "full_query", "fusion_slope", "zero_start",
)  # fmt: skip
TRAINED = ("warmup", "cosine", "ema", "clip", "self_condition", "drop_reference", "keep_best")
CHOSEN = ("kernel_network", "schedule", "sampler", "sampling_steps", "consistency")


@typed
def as_drawn(preset: Preset) -> Preset:
    """The method as the paper's figure and text have it, at the size of `preset`; see the table above.

    Matching by the dot product of patches that tile both images, one best window, nothing re-levelled; the paper's
    network as K; the denoiser on bands, its tokens in rows only; DDPM over all T steps, and no back-projection.
    """
    plain = corrected(preset)
    match = replace(
        plain.match, stride=plain.match.patch, query_stride=plain.match.patch, similarity="dot", turns=False,
        top_k=1_000_000, hard_k=1, temperature=1.0, relevel=False, radiometry=False, sharpening=0,
    )  # fmt: skip
    denoiser = replace(
        plain.denoiser, subspace=None, cross_scan=False, plain_scan=True, level_enters="input", skips="none",
        pixel_norm=True, zero_start=False,
    )  # fmt: skip
    train = replace(plain.train, warmup=0, cosine=False, ema=0.0, clip=None, drop_reference=0.0, keep_best=False)
    return replace(
        plain, name=f"{_size(preset)}-as-drawn", match=match, denoiser=denoiser, train=train, kernel_network=True,
        schedule="linear", sampler="ddpm", sampling_steps=plain.timesteps, consistency=False,
    )  # fmt: skip


@typed
def as_released(preset: Preset) -> Preset:
    """The wiring of the code released with the paper, at the size of `preset`; see the tables above.

    Its faults of training, sampling and measuring are not part of this preset, and its random projection is drawn once,
    not in every call.
    """
    drawn = as_drawn(preset)
    denoiser = replace(
        drawn.denoiser, random_projection=True, level_enters="block", channel_attention=False, plain_scan=False,
        skips="carried", token_projection=True, full_query=True, double_norm=True, fusion_slope=0.0,
    )  # fmt: skip
    return replace(
        drawn, name=f"{_size(preset)}-as-released", denoiser=denoiser,
        match=replace(drawn.match, gradient_border="constant"), train=replace(drawn.train, self_condition=0.0),
    )  # fmt: skip


@typed
def corrected(preset: Preset) -> Preset:
    """The wiring of this project's presets, at the size of `preset`; undoes `as_drawn` and `as_released`."""
    patch = preset.match.patch
    match = replace(MatchConfig(), patch=patch, stride=max(1, patch // 4))
    denoiser = replace(preset.denoiser, **{name: getattr(DenoiserConfig(), name) for name in WIRED})
    train = replace(preset.train, **{name: getattr(TrainConfig(), name) for name in TRAINED})
    chosen = {name: getattr(Preset(""), name) for name in CHOSEN}
    return replace(preset, name=_size(preset), match=match, denoiser=denoiser, train=train, **chosen)


def _size(preset: Preset) -> str:
    """The name without the variant."""
    return preset.name.removesuffix("-as-drawn").removesuffix("-as-released")


VARIANTS = {"corrected": corrected, "as_drawn": as_drawn, "as_released": as_released}
PRESETS = {preset.name: preset for variant in VARIANTS.values() for preset in map(variant, (TINY, SMALL, PAPER))}
