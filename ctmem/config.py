"""Settings as frozen dataclasses, and the presets TINY (laptop CPU, minutes), SMALL (an hour of CPU), PAPER (GPU).

`dataclasses.replace(TINY, crop=32)` makes a variant; an unknown name is a TypeError by construction. Nothing here
knows torch, files or devices. The wirings as drawn and as released are in `networks.variants`.

Source: sizes of PAPER from Qu et al., IEEE TGRS 2025; TINY and SMALL are this project's.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class CameraConfig:
    """The camera that a model is trained for; `observe.camera.Camera.from_config` makes it."""

    scale: int = 4  # fine pixels per coarse pixel, along one side
    fwhm_px: float | None = None  # full width at half maximum of the Gaussian blur, fine pixels; None: `scale`
    sensor: str = "sentinel2a"  # the multispectral one, see `observe.responses.SENSORS`
    bands: tuple[str, ...] | None = None  # of that sensor; None: blue, green, red, near infrared
    snr_db: float | None = None  # signal-to-noise ratio of the coarse image, dB; None: no noise


@dataclass(frozen=True)
class MatchConfig:
    """How the degradation matching block (DMB) looks for patches."""

    patch: int = 8  # P, pixels
    stride: int = 2  # between candidate windows in the reference, pixels; = patch: non-overlapping, as released
    query_stride: int = 4  # between query patches, pixels; = patch: they tile the query, as released
    similarity: str = "zncc"  # dot, cosine, zncc, l2
    turns: bool = True  # also try the 8 flips and rotations of every candidate
    top_k: int = 64  # best windows kept; the soft map averages them
    hard_k: int = 64  # the hard maps average so many of them; 1: the best window only, as released
    temperature: float = 0.05  # of the softmax that weights them
    relevel: bool = True  # give transferred patches the query patch's mean and contrast
    radiometry: bool = True  # give each band of query and reference mean 0 and deviation 1 first
    sharpening: int = 3  # steps of back-projection on both blurry images before they are compared; 0: as released
    gradient_border: str = "replicate"  # beyond the reference's border: replicate, constant (zeros): as released


@dataclass(frozen=True)
class DenoiserConfig:
    """Size and wiring of the texture consistent Mamba denoiser (TCMM)."""

    width: int = 128  # D, channels inside
    residual_blocks: int = 3  # half-instance-norm blocks per branch
    cim_blocks: int = 4  # channel interaction Mamba blocks per branch
    te_blocks: int = 2  # texture enhancement (TEMamba) blocks on the HSI and the noise branch
    state: int = 16  # N, states per channel of the selective scan
    heads: int = 4  # of the cross-channel attention
    channel_attention: bool = True  # in CIM, with a norm behind Mamba and a gate; False: norm and Mamba, as released
    plain_scan: bool = False  # Mamba in CIM is convolution and scan alone, gated by SiLU of the block's input: as drawn
    subspace: int | None = 8  # Z principal directions the denoiser works in; None: on the bands themselves
    cross_scan: bool = True  # CIM blocks take turns: rows, rows backwards, columns, columns backwards
    target: str = "x0"  # what the network puts out: x0, residual (x0 − lr_hsi_up, unit variance per channel), eps, v
    random_projection: bool = False  # the noise branch sees a fixed random mix of [lr_hsi_up, x_t] alone: as released
    level_enters: str = "stem"  # scales and shifts after the stem; before it: "input"; shifts in a block: "block"
    skips: str = "added"  # around CIM, Mamba-v3 and gate: added; none: as drawn; carried to the next block: as released
    double_norm: bool = False  # the layer norm before Mamba-v3 is applied twice: as released
    token_projection: bool = False  # 1×1 before CIM, on the guide again before every TEMamba block: as released
    pixel_norm: bool = False  # cross-channel attention norms each pixel over the channels, not the whole image
    full_query: bool = False  # cross-channel attention: full 3×3 convolution for the query, no biases: as released
    fusion_slope: float = 0.2  # of the LeakyReLU in the fusion; 0: ReLU, as released
    zero_start: bool = True  # the last convolution starts at 0: an untrained denoiser returns lr_hsi_up


@dataclass(frozen=True)
class TrainConfig:
    """One training run."""

    steps: int = 2000
    batch: int = 4
    learning_rate: float = 1e-3
    warmup: int = 50  # steps of linear warm-up
    cosine: bool = True  # then the learning rate falls to 0 as a cosine; False: it stays
    ema: float = 0.995  # decay of the averaged weights; 0: no average
    clip: float | None = 1.0  # gradient norm; None: not clipped
    keep_best: bool = True  # the weights that score best on validation are kept; False: the last ones
    self_condition: float = 0.5  # share of training steps that see the network's own estimate
    drop_reference: float = 0.2  # share of training samples without a reference
    validate_every: int = 100
    save_every: int = 50


@dataclass(frozen=True)
class Preset:
    """Everything a run needs to know, with a name."""

    name: str
    camera: CameraConfig = CameraConfig()
    crop: int = 160  # side of a training crop at the fine resolution, pixels
    timesteps: int = 2000  # T of the diffusion
    schedule: str = "linear"  # of its noise levels: linear, cosine, shifted
    sampler: str = "ddim"  # ddpm, ddim, dpmpp, heun, edm
    sampling_steps: int = 1  # of the chain, per image: as many network calls, but with heun and edm
    consistency: bool = True  # `super_resolve` finishes with back-projection
    match: MatchConfig = MatchConfig()
    denoiser: DenoiserConfig = DenoiserConfig()
    kernel_network: bool = False  # K is the paper's network (`KernelNet`), not a learned PSF (`PsfKernel`)
    kernel_width: int = 64  # of that network
    cnn_width: int = 256  # of the baseline CNN, chosen so that it has about the denoiser's size
    train: TrainConfig = TrainConfig()
    kernel_steps: int = 400  # enough for a PSF; the network wants 1000
    cnn_steps: int = 100_000  # about as many minutes as the denoiser's steps

    @property
    def scale(self) -> int:
        """Fine pixels per coarse pixel, along one side."""
        return self.camera.scale

    def to_dict(self) -> dict[str, Any]:
        """Plain nested dict, for the JSON card beside the weights."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, plain: dict[str, Any]) -> Preset:
        """The preset of a card; a setting that the card, being older, does not name has its default.

        Raises:
            TypeError: a key that is not a setting.
        """
        parts = {"camera": CameraConfig, "match": MatchConfig, "denoiser": DenoiserConfig, "train": TrainConfig}
        nested = {key: part(**plain[key]) for key, part in parts.items() if key in plain}
        if "camera" in nested and nested["camera"].bands is not None:  # JSON has no tuples
            nested["camera"] = dataclasses.replace(nested["camera"], bands=tuple(nested["camera"].bands))
        return cls(**plain | nested)


TINY = Preset(
    name="tiny",
    crop=32,
    denoiser=DenoiserConfig(width=32, residual_blocks=1, cim_blocks=2, te_blocks=1, state=8),
    kernel_width=32,
    cnn_width=64,
    train=TrainConfig(steps=3200),
    cnn_steps=16_000,
)
SMALL = Preset(
    name="small",
    crop=64,
    denoiser=DenoiserConfig(width=64, residual_blocks=2, cim_blocks=2, te_blocks=2),
    cnn_width=128,
    train=TrainConfig(steps=8000),
    cnn_steps=24_000,
)
PAPER = Preset(
    name="paper",
    match=MatchConfig(patch=16, stride=4),
    train=TrainConfig(steps=250_000, learning_rate=1e-5, validate_every=1000, save_every=500),
)
