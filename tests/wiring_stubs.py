"""The denoiser in its three wirings, once more, written from the table of `ctmem.networks.variants` alone.

Plain functions of torch over a dict of weights; nothing of the package is imported. `w` is a `state_dict`, `p` the
beginning of the names that a function reads.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F


def denoise(w, config, x_t, level, previous, base, texture):
    """x̂0 (B, Z, H, W); `config` is a dict with heads, state, residual_blocks, cim_blocks, te_blocks and `wiring`."""
    if config["wiring"] == "corrected":
        return _corrected(w, config, x_t, level, previous, base, texture)
    released = config["wiring"] == "as_released"
    run = _released if released else _drawn
    guide = run["branch"](w, "reference_branch", config, texture, "to_guide_tokens")
    hsi = run["branch"](w, "hsi_branch", config, base, "to_tokens")
    if released:
        noisy = torch.einsum("oz,bzhw->bohw", w["projection.weight"], torch.cat([base, x_t], 1))
        noisy = level_block(w, noisy, level)
    else:
        noisy = torch.cat([x_t, previous], 1)
        scale, shift = level_affine(w, level)
        noisy = noisy * (1 + scale) + shift
    noise = run["branch"](w, "noise_branch", config, noisy, "to_tokens")
    hsi, noise = (run["enhance"](w, p, config, x, guide) for p, x in (("hsi_texture", hsi), ("noise_texture", noise)))
    return base + fusion(w, torch.cat([hsi, noise], 1), slope=0.0 if released else 0.2)


def _corrected(w, config, x_t, level, previous, base, texture):
    """Scale and shift by the level behind the first convolution of the noise branch; all skips are added."""
    guide = branch_as_corrected(w, "reference_branch", config, texture)
    hsi = branch_as_corrected(w, "hsi_branch", config, base)
    noise = branch_as_corrected(w, "noise_branch", config, torch.cat([x_t, previous], 1), level_affine(w, level))
    hsi, noise = (
        enhance_as_corrected(w, p, config, x, guide) for p, x in (("hsi_texture", hsi), ("noise_texture", noise))
    )
    return base + fusion(w, torch.cat([hsi, noise], 1), slope=0.2)


# --- small parts ---


def conv(w, p, x, groups=1):
    weight = w[f"{p}.weight"]
    return F.conv2d(x, weight, w.get(f"{p}.bias"), padding=weight.shape[-1] // 2, groups=groups)


def linear(w, p, x):
    return F.linear(x, w[f"{p}.weight"], w.get(f"{p}.bias"))


def layer_norm(w, p, x):
    """Over the last dimension."""
    mean, variance = x.mean(-1, keepdim=True), x.var(-1, correction=0, keepdim=True)
    return (x - mean) / (variance + 1e-5).sqrt() * w[f"{p}.weight"] + w[f"{p}.bias"]


def pixel_norm(w, p, x):
    return layer_norm(w, p, x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


def image_norm(w, p, x):
    """Every image as a whole to mean 0 and deviation 1, then each channel's weight and bias."""
    mean, variance = x.mean((1, 2, 3), keepdim=True), x.var((1, 2, 3), correction=0, keepdim=True)
    return (x - mean) / (variance + 1e-5).sqrt() * w[f"{p}.weight"][:, None, None] + w[f"{p}.bias"][:, None, None]


def each_channel(w, p, x):
    """Every channel of every image to mean 0 and deviation 1, then its own weight and bias."""
    mean, variance = x.mean((2, 3), keepdim=True), x.var((2, 3), correction=0, keepdim=True)
    return (x - mean) / (variance + 1e-5).sqrt() * w[f"{p}.weight"][:, None, None] + w[f"{p}.bias"][:, None, None]


def attention(w, p, x):
    means = x.mean((2, 3), keepdim=True)
    return x * conv(w, f"{p}.2", conv(w, f"{p}.0", means).relu()).sigmoid()


def scan(x, delta, A, B, C, D):
    """h ← exp(ΔA)·h + Δ·B·x, y = C·h + D·x, one token after the other."""
    h, found = x.new_zeros(len(x), x.shape[2], A.shape[1]), []
    for t in range(x.shape[1]):
        h = torch.exp(delta[:, t, :, None] * A) * h + (delta[:, t] * x[:, t])[..., None] * B[:, t, None]
        found.append((h * C[:, t, None]).sum(-1) + D * x[:, t])
    return torch.stack(found, 1)


def causal(w, p, x):
    """Depth-wise convolution over the tokens (B, L, D) that looks back only."""
    kernel = w[f"{p}.weight"]
    padded = F.pad(x.transpose(1, 2), (kernel.shape[-1] - 1, 0))
    return F.conv1d(padded, kernel, w[f"{p}.bias"], groups=len(kernel)).transpose(1, 2)


def s6(w, p, x):
    """The scan whose Δ, B and C come from x."""
    state = w[f"{p}.A_log"].shape[1]
    made = linear(w, f"{p}.x_proj", x)
    rank = made.shape[-1] - 2 * state
    delta = F.softplus(linear(w, f"{p}.dt_proj", made[..., :rank]))
    A = -w[f"{p}.A_log"].exp()
    return scan(x, delta, A, made[..., rank : rank + state], made[..., rank + state :], w[f"{p}.D"])


def stream(w, p, tokens):
    """A Mamba without its last projection."""
    x, z = linear(w, f"{p}.in_proj", tokens).chunk(2, -1)
    return s6(w, p, F.silu(causal(w, f"{p}.conv1d", x))) * F.silu(z)


def two_streams(w, p, tokens, guide):
    return linear(w, f"{p}.out_proj", stream(w, f"{p}.stream_a", tokens) + stream(w, f"{p}.stream_b", guide))


def rows(x):
    return x.flatten(2).transpose(1, 2)


def image(tokens, like):
    return tokens.transpose(1, 2).reshape(like.shape)


def places(x, order):
    """Number of the pixel that each token is: rows, rows backwards, columns, columns backwards, and again."""
    numbers = torch.arange(x.shape[2] * x.shape[3]).reshape(x.shape[2:])
    walk = (numbers if order % 4 < 2 else numbers.T).flatten().tolist()
    return walk[::-1] if order % 2 else walk


# --- the noise level ---


def level_affine(w, level):
    """Scale and shift, each (B, channels, 1, 1): sinusoids of 1 … 1024 quarter turns, and an MLP."""
    count = w["noise_embedding.mlp.0.weight"].shape[1] // 2
    angles = level[:, None] * 2 ** torch.linspace(0, 10, count) * (math.pi / 2)
    inner = F.silu(linear(w, "noise_embedding.mlp.0", torch.cat([angles.sin(), angles.cos()], 1)))
    return linear(w, "noise_embedding.mlp.2", inner)[:, :, None, None].chunk(2, 1)


def level_block(w, x, level):
    """The residual block of the released code: the level is a shift between its two convolutions."""
    p = "noise_embedding"
    count = w[f"{p}.mlp.0.weight"].shape[1] // 2
    angles = level[:, None] * torch.logspace(0, -4, count)
    inner = F.silu(linear(w, f"{p}.mlp.0", torch.cat([angles.sin(), angles.cos()], 1)))
    shift = linear(w, f"{p}.mlp.3", linear(w, f"{p}.mlp.2", inner))[:, :, None, None]
    y = conv(w, f"{p}.convs.0", F.silu(each_channel(w, f"{p}.norms.0", x))) + shift
    return x + conv(w, f"{p}.convs.1", F.silu(each_channel(w, f"{p}.norms.1", y)))


# --- branches ---


def half_norm(w, p, x):
    y = F.leaky_relu(conv(w, f"{p}.first", x), 0.2)
    half = y.shape[1] // 2
    y = torch.cat([each_channel(w, f"{p}.norm", y[:, :half]), y[:, half:]], 1)
    return x + F.leaky_relu(conv(w, f"{p}.second", y), 0.2)


def stem(w, p, config, x):
    x = conv(w, f"{p}.stem", x)
    for i in range(config["residual_blocks"]):
        x = half_norm(w, f"{p}.residual.{i}", x)
    return x


def branch_as_drawn(w, p, config, x, _projection):
    """CIM: attention, norm, conv, scan, norm, times SiLU of the input; nothing is added."""
    x = stem(w, p, config, x)
    for i in range(config["cim_blocks"]):
        q = f"{p}.cim.{i}"
        tokens = layer_norm(w, f"{q}.norm_in", rows(attention(w, f"{q}.attention.mlp", x)))
        y = layer_norm(w, f"{q}.norm_out", s6(w, f"{q}.mamba", causal(w, f"{q}.mamba.conv1d", tokens)))
        x = image(y, x) * F.silu(x)
    return x


def branch_as_released(w, p, config, x, projection):
    """CIM: norm, stock Mamba; what goes into the norm is the sum of all before, and that of the last block is lost."""
    x = conv(w, projection, stem(w, p, config, x))
    total = torch.zeros_like(x)
    for i in range(config["cim_blocks"]):
        q = f"{p}.cim.{i}"
        total = total + x
        tokens = stream(w, f"{q}.mamba", layer_norm(w, f"{q}.norm_in", rows(total)))
        x = image(linear(w, f"{q}.mamba.out_proj", tokens), x)
    return x


def branch_as_corrected(w, p, config, x, affine=None):
    """CIM: attention, norm, Mamba, norm, times SiLU of a linear map of the tokens; added. Each walks another way."""
    x = conv(w, f"{p}.stem", x)
    x = x if affine is None else x * (1 + affine[0]) + affine[1]
    for i in range(config["residual_blocks"]):
        x = half_norm(w, f"{p}.residual.{i}", x)
    for i in range(config["cim_blocks"]):
        q, walk = f"{p}.cim.{i}", places(x, i)
        seen = attention(w, f"{q}.attention.mlp", x).flatten(2)[:, :, walk].transpose(1, 2)
        tokens = layer_norm(w, f"{q}.norm_in", seen)
        made = linear(w, f"{q}.mamba.out_proj", stream(w, f"{q}.mamba", tokens))
        y = layer_norm(w, f"{q}.norm_out", made) * F.silu(linear(w, f"{q}.gate", tokens))
        laid = torch.zeros_like(y)
        laid[:, walk] = y
        x = x + image(laid, x)
    return x


# --- texture enhancement ---


def channel_mixing(w, p, config, x, guide, full, norm=pixel_norm):
    """Cross-channel attention and gated feed-forward, each added to its input."""
    b, d, height, width = x.shape
    heads = config["heads"]
    q = f"{p}.attention"
    query = conv(w, f"{q}.query.0", norm(w, f"{q}.norm_x", x))
    query = conv(w, f"{q}.query.1", query, groups=1 if full else d)
    both = conv(w, f"{q}.key_value.1", conv(w, f"{q}.key_value.0", norm(w, f"{q}.norm_guide", guide)), 2 * d)
    query, key, value = (v.reshape(b, heads, d // heads, -1) for v in (query, both[:, :d], both[:, d:]))
    query, key = (v / v.norm(dim=-1, keepdim=True).clamp_min(1e-12) for v in (query, key))
    mixed = torch.softmax(query @ key.transpose(2, 3) * w[f"{q}.temperature"], -1) @ value
    x = x + conv(w, f"{q}.out", mixed.reshape(b, d, height, width))
    q = f"{p}.feed_forward"
    inner = conv(w, f"{q}.expand.1", conv(w, f"{q}.expand.0", norm(w, f"{q}.norm", x)), 4 * d)
    return x + conv(w, f"{q}.out", F.gelu(inner[:, : 2 * d]) * inner[:, 2 * d :])


def gated(w, p, x, y):
    """GELU of the one times the other, after 1×1 and depth-wise 3×3 each; nothing is added."""
    d = x.shape[1]
    x, y = (conv(w, f"{p}.{q}.1", conv(w, f"{p}.{q}.0", v), d) for q, v in (("gate_x", x), ("gate_y", y)))
    return F.gelu(x) * y


def enhance_as_drawn(w, p, config, x, guide):
    for i in range(config["te_blocks"]):
        q = f"{p}.{i}"
        y = channel_mixing(w, q, config, x, guide, full=False)
        tokens = layer_norm(w, f"{q}.norm_x", rows(y)), layer_norm(w, f"{q}.norm_guide", rows(guide))
        y = image(two_streams(w, f"{q}.mamba", *tokens), x)
        x = gated(w, q, x, y + conv(w, f"{q}.local", y, x.shape[1]))
    return x


def enhance_as_released(w, p, config, x, guide):
    total = torch.zeros_like(x)
    for i in range(config["te_blocks"]):
        q = f"{p}.{i}"
        guide = conv(w, "to_guide_tokens", guide)
        total = total + channel_mixing(w, q, config, x, guide, full=True)
        tokens, others = rows(total), rows(guide)
        tokens = layer_norm(w, f"{q}.norm_x", layer_norm(w, f"{q}.norm_x", tokens))
        others = layer_norm(w, f"{q}.norm_guide", layer_norm(w, f"{q}.norm_guide", others))
        y = image(two_streams(w, f"{q}.mamba", tokens, others), x)
        x = gated(w, q, x, y + conv(w, f"{q}.local", y, x.shape[1]))
    return x


def enhance_as_corrected(w, p, config, x, guide):
    """Skips around the Mamba, around the depth-wise 3×3 and around the whole."""
    for i in range(config["te_blocks"]):
        q = f"{p}.{i}"
        y = channel_mixing(w, q, config, x, guide, full=False, norm=image_norm)
        tokens = layer_norm(w, f"{q}.norm_x", rows(y)), layer_norm(w, f"{q}.norm_guide", rows(guide))
        y = y + image(two_streams(w, f"{q}.mamba", *tokens), x)
        x = x + gated(w, q, x, y + conv(w, f"{q}.local", y, x.shape[1]))
    return x


def fusion(w, x, slope):
    x = conv(w, "fusion.0", x)
    y = F.leaky_relu(conv(w, "fusion.1.body.0", x), slope)
    x = x + attention(w, "fusion.1.body.3.mlp", conv(w, "fusion.1.body.2", y))
    return conv(w, "fusion.2", x)


_drawn = {"branch": branch_as_drawn, "enhance": enhance_as_drawn}
_released = {"branch": branch_as_released, "enhance": enhance_as_released}
