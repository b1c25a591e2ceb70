"""TCMM, the texture consistent Mamba denoiser: x̂0 from (x_t, noise level, previous x̂0, lr_hsi_up, texture).

    HSI branch        lr_hsi_up  → Branch ─────────────→ TEMamba × m ─┐
    reference branch  texture    → Branch ── guide of ───→  ↑ ↓       ├→ fusion → + lr_hsi_up = x̂0
    noise branch      [x_t, x̂0]  → Branch (+ noise level) → TEMamba × m ─┘

    Branch = 3×3 conv → half-instance-norm residual blocks → channel interaction Mamba (CIM) × n

This is `corrected`. Where the wirings as drawn and as released differ from it, a setting of `DenoiserConfig` says so;
`ctmem.networks.variants` has the table.

What comes out is x̂0, or what `DenoiserConfig.target` names instead; only for x0 is lr_hsi_up added. What that means to
the diffusion is known by `ctmem.diffusion.problem`.

The HSI and the reference branch see neither x_t nor the noise level: `condition` computes them once per image, and
`denoise` runs only the noise branch and the fusion at every diffusion step. All maps are (B, D, H, W) between blocks;
`Z` stands for the channels the denoiser works in (subspace coefficients, or bands).

Source: Qu et al., IEEE TGRS 2025, figure of the TCMM; half instance norm: Chen et al., "HINet", 2021; cross-channel
attention: Zamir et al., "Restormer", 2022.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F

from ctmem.checks import Whole, Width, as_floats, as_image, check_choice, check_same_shape, door, fail, typed
from ctmem.config import DenoiserConfig
from ctmem.networks.mamba import CrossMambaBlock, MambaBlock
from ctmem.networks.plain_scan import PlainScan

TARGETS = ("x0", "residual", "eps", "v")
LEVEL_ENTERS = ("stem", "input", "block")
SKIPS = ("added", "none", "carried")


@typed
@dataclass(frozen=True)
class Condition:
    """What stays the same over all diffusion steps of one image: the base and the features of two branches."""

    base: torch.Tensor  # lr_hsi_up in the denoiser's channels (B, Z, H, W)
    hsi: torch.Tensor  # HSI branch after its TEMamba blocks (B, D, H, W)
    guide: torch.Tensor  # reference branch (B, D, H, W)


class TCMM(nn.Module):
    """The denoiser; `forward` is `denoise` after `condition`, without anything kept.

    Args:
        channels: Z, channels of x_t and of lr_hsi_up as the denoiser sees them.
        texture_channels: channels of the texture (4Z in the subspace, 4c on bands).
        config: width, depth and target.
        outputs: channels that come out, if not Z; not for the target x0, which is added to lr_hsi_up.

    Raises:
        ValueError: an unknown target, skip or place of the noise level, or heads that do not divide the width.
    """

    residual_std: torch.Tensor | None

    @typed
    def __init__(
        self, channels: Width, texture_channels: Width, config: DenoiserConfig, *, outputs: Width | None = None
    ) -> None:
        super().__init__()
        check_choice(config.target, "target", TARGETS)
        check_choice(config.level_enters, "level_enters", LEVEL_ENTERS)
        check_choice(config.skips, "skips", SKIPS)
        self.channels = channels
        self.texture_channels = texture_channels
        self.target = config.target
        # size of each channel's residual (Z,), which training measures; only in the weights of that target
        self.register_buffer("residual_std", torch.ones(channels) if self.target == "residual" else None)
        self.projection = RandomProjection(2 * channels, channels) if config.random_projection else None
        # three branches, the texture of two of them, and what joins them
        width = config.width
        inputs = channels if config.random_projection else 2 * channels
        self.level_enters = config.level_enters
        self.noise_embedding = _level_module(config, inputs)
        self.noise_branch = Branch(inputs, config)
        self.hsi_branch = Branch(channels, config)
        self.reference_branch = Branch(texture_channels, config)
        self.hsi_texture = nn.ModuleList(TEMamba(config) for _ in range(config.te_blocks))
        self.noise_texture = nn.ModuleList(TEMamba(config) for _ in range(config.te_blocks))
        join = nn.Conv2d(2 * width, width, 3, padding=1)
        attend = ChannelAttentionBlock(width, config.fusion_slope)
        last = nn.Conv2d(width, outputs or channels, 3, padding=1)
        if config.zero_start:
            for parameter in last.parameters():
                nn.init.zeros_(parameter)  # starts as the identity: x̂0 = lr_hsi_up (or as 0)
        self.fusion = nn.Sequential(join, attend, last)
        # tokens as released: one 1×1 for HSI and noise branch, one for the guide
        self.to_tokens = nn.Conv2d(width, width, 1) if config.token_projection else None
        self.to_guide_tokens = nn.Conv2d(width, width, 1) if config.token_projection else None

    @door
    def condition(self, base: torch.Tensor, texture: torch.Tensor) -> Condition:
        """Features of lr_hsi_up and texture, computed once per image.

        Args:
            base: lr_hsi_up in the denoiser's channels, (B, Z, H, W).
            texture: (B, texture_channels, H, W); all zeros where there is no reference.

        Raises:
            ValueError: wrong channels, sizes that differ, a single pixel, or values that are not finite.
        """
        base = as_image(base, "base", bands=self.channels)
        if base.shape[2:].numel() < 2:  # features are normed over the image
            fail("base", "of at least 2 pixels", "1×1")
        texture = as_image(texture, "texture", bands=self.texture_channels)
        check_same_shape(texture[:, :1], base[:, :1], ("texture", "base"))
        guide = self.reference_branch(texture, to_tokens=self.to_guide_tokens)
        hsi = self._enhance(self.hsi_texture, self.hsi_branch(base, to_tokens=self.to_tokens), guide)
        return Condition(base, hsi, guide)

    def _enhance(self, blocks: nn.ModuleList, x: torch.Tensor, guide: torch.Tensor) -> torch.Tensor:
        """A branch (B, D, H, W) after its TEMamba blocks; where skips are carried, the last one is dropped."""
        carried = None
        for block in blocks:
            if self.to_guide_tokens is not None:
                guide = self.to_guide_tokens(guide)
            x, carried = block(x, guide, carried)
        return x

    @typed
    def denoise(
        self, x_t: torch.Tensor, noise_level: torch.Tensor, x0_previous: torch.Tensor, condition: Condition
    ) -> torch.Tensor:
        """x̂0 (B, Z, H, W), the network's estimate of the clean image, or what the target names.

        Args:
            x_t: noisy image (B, Z, H, W), of unit size; for the target `residual` a noisy residual.
            noise_level: √ᾱ_t of that x_t, (B,); 1 is clean, 0 is pure noise.
            x0_previous: estimate of the call before (B, Z, H, W); at the first `DenoisingProblem.start`. Not looked at
                with `random_projection`.
            condition: of the same images.

        Raises:
            TypeError: tensors that are not of floating-point numbers.
            ValueError: shapes that do not fit.
        """
        x_t = as_image(x_t, "x_t", finite=False)
        x0_previous = as_image(x0_previous, "x0_previous", finite=False)
        noise_level = as_floats(noise_level, "noise_level", "(B,)")
        check_same_shape(x_t, condition.base, ("x_t", "base"))
        check_same_shape(x0_previous, x_t, ("x0_previous", "x_t"))
        if noise_level.shape != (len(x_t),):
            fail("noise_level", f"one level per sample, shape ({len(x_t)},)", f"shape {tuple(noise_level.shape)}")
        if self.projection is None:
            noisy = torch.cat([x_t, x0_previous], 1)
        else:
            noisy = self.projection(torch.cat([condition.base, x_t], 1))
        noise = self._enhance(self.noise_texture, self._noise_features(noisy, noise_level), condition.guide)
        output = self.fusion(torch.cat([condition.hsi, noise], 1))
        return condition.base + output if self.target == "x0" else output

    def _noise_features(self, noisy: torch.Tensor, noise_level: torch.Tensor) -> torch.Tensor:
        """The noise branch (B, D, H, W) of its input, told the level where `level_enters` says."""
        affine = None
        if self.level_enters == "block":
            noisy = self.noise_embedding(noisy, noise_level)
        elif self.level_enters == "input":
            noisy = _scale_and_shift(noisy, self.noise_embedding(noise_level))
        else:
            affine = self.noise_embedding(noise_level)
        return self.noise_branch(noisy, affine, to_tokens=self.to_tokens)

    def forward(
        self,
        x_t: torch.Tensor,
        noise_level: torch.Tensor,
        x0_previous: torch.Tensor,
        base: torch.Tensor,
        texture: torch.Tensor,
    ) -> torch.Tensor:
        """x̂0 (B, Z, H, W) with the condition computed again; equals the cached path."""
        return self.denoise(x_t, noise_level, x0_previous, self.condition(base, texture))


class RandomProjection(nn.Module):
    """A fixed random map of channels, (B, inputs, H, W) → (B, channels, H, W); it is never trained.

    An imitation: the released code draws such a 1×1 convolution again in every call. The matrix is drawn here once,
    from a seed of its own, as PyTorch draws the weights of a convolution (uniform within ±1/√inputs), and is kept with
    the weights.
    """

    weight: torch.Tensor

    @typed
    def __init__(self, inputs: Width, channels: Width, seed: int = 0) -> None:
        super().__init__()
        weight = torch.rand(channels, inputs, generator=torch.Generator().manual_seed(seed)) * 2 - 1
        self.register_buffer("weight", weight / inputs**0.5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.einsum("oz,bzhw->bohw", self.weight, x)


class NoiseEmbedding(nn.Module):
    """Noise level (B,) in [0, 1] → a scale and a shift per channel, (B, 2·channels): sinusoids, then a small MLP."""

    frequencies: torch.Tensor

    @typed
    def __init__(self, width: Width, channels: Width, frequencies: Width = 16) -> None:
        super().__init__()
        self.register_buffer("frequencies", 2.0 ** torch.linspace(0, 10, frequencies), persistent=False)
        self.mlp = nn.Sequential(nn.Linear(2 * frequencies, 2 * width), nn.SiLU(), nn.Linear(2 * width, 2 * channels))

    def forward(self, noise_level: torch.Tensor) -> torch.Tensor:
        angles = noise_level[:, None] * self.frequencies * (math.pi / 2)
        return self.mlp(torch.cat([angles.sin(), angles.cos()], 1))


class LevelBlock(nn.Module):
    """A residual block (B, Z, H, W) → the same, in which the noise level shifts each channel: as released.

    Norm – SiLU – conv, the shift, norm – SiLU – conv, plus the input. Each channel is normed by itself. There are as
    many sinusoids as channels, of frequencies from 1 down to 1e-4.
    """

    frequencies: torch.Tensor

    @typed
    def __init__(self, channels: Width) -> None:
        super().__init__()
        count = max(1, channels // 2)
        self.register_buffer("frequencies", 10.0 ** torch.linspace(0, -4, count), persistent=False)
        wide, out = nn.Linear(2 * count, 4 * channels), nn.Linear(4 * channels, channels)
        self.mlp = nn.Sequential(wide, nn.SiLU(), out, nn.Linear(channels, channels))
        self.norms = nn.ModuleList(nn.GroupNorm(channels, channels) for _ in range(2))
        self.convs = nn.ModuleList(nn.Conv2d(channels, channels, 3, padding=1) for _ in range(2))

    def forward(self, x: torch.Tensor, noise_level: torch.Tensor) -> torch.Tensor:
        angles = noise_level[:, None] * self.frequencies
        shift = self.mlp(torch.cat([angles.sin(), angles.cos()], 1))[:, :, None, None]
        y = self.convs[0](F.silu(self.norms[0](x))) + shift
        return x + self.convs[1](F.silu(self.norms[1](y)))


def _level_module(config: DenoiserConfig, inputs: Width) -> nn.Module:
    """What tells the noise branch its level, see `DenoiserConfig.level_enters`."""
    if config.level_enters == "block":
        return LevelBlock(inputs)
    return NoiseEmbedding(config.width, inputs if config.level_enters == "input" else config.width)


def _scale_and_shift(x: torch.Tensor, affine: torch.Tensor) -> torch.Tensor:
    """x (B, D, H, W), each channel scaled and shifted by an affine (B, 2·D)."""
    scale, shift = affine[:, :, None, None].chunk(2, dim=1)
    return x * (1 + scale) + shift


class Pointwise(nn.Conv2d):
    """A 1×1 convolution (B, in, H, W) → (B, out, H, W), on a CPU one product of matrices."""

    @typed
    def __init__(self, channels: Width, out: int, *, bias: bool = True) -> None:
        super().__init__(channels, out, 1, bias=bias)

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        if input.device.type != "cpu":
            return super().forward(input)
        return F.linear(input.permute(0, 2, 3, 1), self.weight.flatten(1), self.bias).permute(0, 3, 1, 2)


class Branch(nn.Module):
    """Image (B, in, H, W) → features (B, D, H, W); the noise branch also takes the embedded noise level."""

    @typed
    def __init__(self, in_channels: Width, config: DenoiserConfig):
        super().__init__()
        width = config.width
        self.stem = nn.Conv2d(in_channels, width, 3, padding=1)
        self.residual = nn.ModuleList(HalfNormBlock(width) for _ in range(config.residual_blocks))
        self.cim = nn.ModuleList(CIM(config, order=i) for i in range(config.cim_blocks))
        self.skips = config.skips

    def forward(
        self, x: torch.Tensor, affine: torch.Tensor | None = None, *, to_tokens: nn.Module | None = None
    ) -> torch.Tensor:
        x = self.stem(channels_last(x))
        if affine is not None:
            x = _scale_and_shift(x, affine)
        for block in self.residual:
            x = block(x)
        if to_tokens is not None:
            x = to_tokens(x)
        carried = None
        for block in self.cim:
            if self.skips == "carried":  # the sum of all before; behind the last block it is dropped
                carried = x if carried is None else x + carried
                x = block(carried)
            else:
                x = x + block(x) if self.skips == "added" else block(x)
        return x


class HalfNormBlock(nn.Module):
    """conv – LeakyReLU – instance norm on half of the channels – conv – LeakyReLU, plus the input."""

    @typed
    def __init__(self, width: Width):
        super().__init__()
        self.first = nn.Conv2d(width, width, 3, padding=1)
        self.norm = nn.InstanceNorm2d(width // 2, affine=True)
        self.second = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = F.leaky_relu(self.first(x), 0.2)
        normed, kept = y.tensor_split([self.norm.num_features], dim=1)
        y = torch.cat([self.norm(normed), kept], 1)
        return x + F.leaky_relu(self.second(y), 0.2)


class ChannelAttention(nn.Module):
    """Scales each channel by a number in (0, 1) made from all channels' means."""

    @typed
    def __init__(self, width: Width, reduction: Width = 4):
        super().__init__()
        self.mlp = nn.Sequential(
            nn.Conv2d(width, width // reduction, 1), nn.ReLU(), nn.Conv2d(width // reduction, width, 1), nn.Sigmoid()
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.mlp(x.mean((2, 3), keepdim=True))


class ChannelAttentionBlock(nn.Module):
    """conv – LeakyReLU of a given slope – conv – channel attention, plus the input."""

    @typed
    def __init__(self, width: Width, slope: float = 0.2):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1),
            nn.LeakyReLU(slope),
            nn.Conv2d(width, width, 3, padding=1),
            ChannelAttention(width),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.body(x)


class CIM(nn.Module):
    """Channel interaction Mamba: channel attention → LN → Mamba → LN, times SiLU of a parallel path.

    The input is added, or not, by `Branch`. With `plain_scan` Mamba is a convolution and a scan alone, and the parallel
    path is the input itself, as drawn. With `channel_attention=False` it is what the released code runs: LN → Mamba.

    Args:
        config: width, state size, and which of the three forms.
        order: which walk over the image this block takes (`to_tokens`).
    """

    @typed
    def __init__(self, config: DenoiserConfig, order: Whole):
        super().__init__()
        width = config.width
        self.order = order if config.cross_scan else 0
        self.drawn = config.channel_attention
        self.norm_in = nn.LayerNorm(width)
        self.plain = config.plain_scan
        self.mamba = (PlainScan if self.plain else MambaBlock)(width, d_state=config.state)
        if self.drawn:
            self.attention = ChannelAttention(width)
            self.norm_out = nn.LayerNorm(width)
            if not self.plain:
                self.gate = nn.Linear(width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        size = x.shape[2:]
        if not self.drawn:
            return to_image(self.mamba(self.norm_in(to_tokens(x, self.order))), size, self.order)
        tokens = self.norm_in(to_tokens(self.attention(x), self.order))
        gate = to_tokens(x, self.order) if self.plain else self.gate(tokens)
        return to_image(self.norm_out(self.mamba(tokens)) * F.silu(gate), size, self.order)


class TEMamba(nn.Module):
    """Texture enhancement Mamba: a branch (B, D, H, W) takes texture from a guide of the same shape.

    Cross-channel attention and gated feed-forward → two-stream Mamba → depth-wise 3×3 with residual → gate. Around the
    Mamba and around the whole there are skips, or none, see `DenoiserConfig.skips`.
    """

    @typed
    def __init__(self, config: DenoiserConfig):
        super().__init__()
        width = config.width
        self.skips = config.skips
        self.norms = 2 if config.double_norm else 1
        options = {"pixel_norm": config.pixel_norm, "full_query": config.full_query}
        self.attention = CrossChannelAttention(width, config.heads, **options)
        self.feed_forward = GatedFeedForward(width, pixel_norm=config.pixel_norm, bias=not config.full_query)
        self.norm_x = nn.LayerNorm(width)
        self.norm_guide = nn.LayerNorm(width)
        self.mamba = CrossMambaBlock(width, d_state=config.state)
        self.local = nn.Conv2d(width, width, 3, padding=1, groups=width)
        self.gate_x = _pointwise_depthwise(width, width)
        self.gate_y = _pointwise_depthwise(width, width)

    def forward(
        self, x: torch.Tensor, guide: torch.Tensor, carried: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Returns the enhanced x and what is carried to the next block: None, or the sum of what goes into Mamba."""
        y = self.feed_forward(self.attention(x, guide))
        if self.skips == "carried":
            carried = y = y if carried is None else y + carried
        tokens, guide_tokens = to_tokens(y), to_tokens(guide)
        for _ in range(self.norms):
            tokens, guide_tokens = self.norm_x(tokens), self.norm_guide(guide_tokens)
        enhanced = to_image(self.mamba(tokens, guide_tokens), x.shape[2:])
        y = y + enhanced if self.skips == "added" else enhanced
        y = y + self.local(y)
        gated = F.gelu(self.gate_x(x)) * self.gate_y(y)
        return (x + gated if self.skips == "added" else gated), carried


class CrossChannelAttention(nn.Module):
    """Attention over channels, not pixels: queries from x, keys and values from the guide; plus x.

    Args:
        width: D.
        heads: a divisor of it.
        pixel_norm: both are normed pixel by pixel, over the channels; False: over the whole image.
        full_query: the query's depth-wise 3×3 is a full one, and no convolution has a bias.

    Raises:
        ValueError: other heads.
    """

    @typed
    def __init__(self, width: Width, heads: Width, *, pixel_norm: bool = False, full_query: bool = False):
        super().__init__()
        if width % heads:
            fail("heads", f"a divisor of the width {width}", heads)
        self.heads = heads
        self.norm_x = _image_norm(width, pixel_norm)
        self.norm_guide = _image_norm(width, pixel_norm)
        self.temperature = nn.Parameter(torch.ones(heads, 1, 1))
        bias = not full_query
        self.query = _pointwise_depthwise(width, width, bias=bias, full=full_query)
        self.key_value = _pointwise_depthwise(width, 2 * width, bias=bias)
        self.out = Pointwise(width, width, bias=bias)

    def forward(self, x: torch.Tensor, guide: torch.Tensor) -> torch.Tensor:
        query = self.query(self.norm_x(x))
        key, value = self.key_value(self.norm_guide(guide)).chunk(2, dim=1)
        query, key, value = (v.unflatten(1, (self.heads, -1)).flatten(3) for v in (query, key, value))
        scores = F.normalize(query, dim=-1) @ F.normalize(key, dim=-1).transpose(-2, -1) * self.temperature
        return x + self.out((scores.softmax(-1) @ value).flatten(1, 2).unflatten(2, x.shape[2:]))


class GatedFeedForward(nn.Module):
    """Two depth-wise paths, one gates the other through GELU; expansion 2; plus the input."""

    @typed
    def __init__(self, width: Width, expansion: Width = 2, *, pixel_norm: bool = False, bias: bool = True):
        super().__init__()
        self.norm = _image_norm(width, pixel_norm)
        self.expand = _pointwise_depthwise(width, 2 * expansion * width, bias=bias)
        self.out = Pointwise(expansion * width, width, bias=bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        gate, value = self.expand(self.norm(x)).chunk(2, dim=1)
        return x + self.out(F.gelu(gate) * value)


def channels_last(x: torch.Tensor) -> torch.Tensor:
    """The same image (B, C, H, W), on a CPU with the channels of a pixel side by side in memory.

    Convolutions keep it so. Depth-wise ones are then several times faster, and tokens are the image as it lies there.
    """
    return x.contiguous(memory_format=torch.channels_last) if x.device.type == "cpu" else x


def to_tokens(x: torch.Tensor, order: Whole = 0) -> torch.Tensor:
    """Image (B, D, H, W) → tokens (B, H·W, D), in one of four walks.

    Args:
        x: image.
        order: modulo 4: 0 rows, 1 rows backwards, 2 columns, 3 columns backwards. A causal scan sees only what came
            before; blocks that take turns see all sides.
    """
    if order % 4 >= 2:
        x = x.transpose(2, 3)
    tokens = x.flatten(2).transpose(1, 2)
    return tokens.flip(1) if order % 2 else tokens


def to_image(tokens: torch.Tensor, size: tuple[int, int] | torch.Size, order: Whole = 0) -> torch.Tensor:
    """Undoes `to_tokens`: (B, H·W, D) → (B, D, H, W) of height and width `size`."""
    tokens = tokens.flip(1) if order % 2 else tokens
    height, width = size
    if order % 4 >= 2:
        return tokens.transpose(1, 2).unflatten(2, (width, height)).transpose(2, 3)
    return tokens.transpose(1, 2).unflatten(2, (height, width))


class PixelNorm(nn.LayerNorm):
    """Layer norm of each pixel over its channels, (B, D, H, W)."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x.movedim(1, -1)).movedim(-1, 1)


def _image_norm(width: Width, pixel_norm: bool) -> nn.Module:
    """Norm of images (B, D, H, W): each pixel over the channels, or the whole image at once."""
    return PixelNorm(width) if pixel_norm else nn.GroupNorm(1, width)


def _pointwise_depthwise(width: Width, out: int, *, bias: bool = True, full: bool = False) -> nn.Sequential:
    """1×1 convolution, then depth-wise (or `full`) 3×3."""
    pointwise = Pointwise(width, out, bias=bias)
    return nn.Sequential(pointwise, nn.Conv2d(out, out, 3, padding=1, groups=1 if full else out, bias=bias))
