"""Settings as frozen dataclasses, and the presets TINY (laptop CPU, minutes), SMALL (an hour of CPU), PAPER (GPU).

`dataclasses.replace(TINY, crop=32)` makes a variant; an unknown name is a TypeError by construction, and a value of
another type or out of its bounds, which stand under each class, a ValueError that names the setting. Nothing here knows
torch, files or devices. The wirings as drawn and as released are in `networks.variants`.

Source: sizes of PAPER from Qu et al., IEEE TGRS 2025; TINY and SMALL are this project's.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import numbers
import typing
from dataclasses import dataclass
from typing import Any, ClassVar

ABOVE_0 = math.ulp(0.0)  # the least number that is positive
MANY = 10**9

Bounds = tuple[float, float] | tuple[str, ...]  # least and most, both allowed, or the names there are


class Settings:
    """What all settings have in common: each is checked, and made a plain Python value, when they are made.

    Raises:
        ValueError: a setting of another type than its annotation says, or out of its bounds.
    """

    BOUNDS: ClassVar[dict[str, Bounds]] = {}

    def __post_init__(self) -> None:
        made: Any = type(self)
        for name, kinds in _kinds(made).items():
            object.__setattr__(self, name, _checked(getattr(self, name), name, kinds, self.BOUNDS.get(name)))


@functools.cache
def _kinds(settings: Any) -> dict[str, tuple[type, ...]]:
    """The types that each setting may have: of `float | None`, float and NoneType."""
    hints = {name: hint for name, hint in typing.get_type_hints(settings).items() if name != "BOUNDS"}
    return {name: tuple(typing.get_origin(one) or one for one in _parts(hint)) for name, hint in hints.items()}


def _parts(hint: Any) -> tuple[Any, ...]:
    """The types of a union, or the one there is."""
    return (hint,) if isinstance(hint, type) and not typing.get_args(hint) else typing.get_args(hint) or (hint,)


def _checked(value: Any, name: str, kinds: tuple[type, ...], bounds: Any) -> Any:
    """The value as plain Python, or the error of what is wrong with it."""
    if value is None and type(None) in kinds:
        return None
    kind = kinds[0]
    real = isinstance(value, numbers.Real) and not isinstance(value, bool)
    plain = {
        int: lambda: int(value) if real and isinstance(value, numbers.Integral) else None,
        float: lambda: float(value) if real and abs(value) <= 1e300 else None,  # neither NaN nor infinite
        tuple: lambda: _names(value),
    }.get(kind, lambda: value if isinstance(value, kind) else None)()
    fits = plain is not None
    if fits and bounds and kind is str:
        fits = plain in bounds
    elif fits and bounds:
        fits = bounds[0] <= plain <= bounds[1]
    if not fits:
        raise ValueError(f"`{name}` must be {_wanted(kind, bounds, type(None) in kinds)}, got {_short(value)}")
    return plain


def _names(value: Any) -> tuple[str, ...] | None:
    """At least one text as a tuple, since JSON has lists alone; None: it is something else."""
    listed = isinstance(value, tuple | list) and value and all(isinstance(one, str) for one in value)
    return tuple(value) if listed else None


def _wanted(kind: type, bounds: Bounds | None, optional: bool) -> str:
    """What a setting may be, in words."""
    words = {int: "a whole number", float: "a finite number", bool: "True or False", str: "text",
             tuple: "a tuple of names"}.get(kind, f"a `{kind.__name__}`")  # fmt: skip
    if kind is str and bounds:
        words = "one of " + ", ".join(map(repr, bounds))
    elif bounds:
        low, high = bounds
        words += f" above 0 and at most {high}" if low == ABOVE_0 else f" from {low} to {high}"
    return f"{words}, or None" if optional else words


def _short(value: Any) -> str:
    """A value as a message shows it."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


@dataclass(frozen=True)
class CameraConfig(Settings):
    """The camera that a model is trained for; `observe.camera.Camera.from_config` makes it."""

    scale: int = 4  # fine pixels per coarse pixel, along one side
    fwhm_px: float | None = None  # full width at half maximum of the Gaussian blur, fine pixels; None: `scale`
    sensor: str = "sentinel2a"  # the multispectral one, see `observe.responses.SENSORS`
    bands: tuple[str, ...] | None = None  # of that sensor; None: blue, green, red, near infrared
    snr_db: float | None = None  # signal-to-noise ratio of the coarse image, dB; None: no noise

    BOUNDS: ClassVar[dict[str, Bounds]] = {
        "scale": (1, 64),
        "fwhm_px": (ABOVE_0, 1000),
        "sensor": ("sentinel2a", "sentinel2b", "landsat8", "landsat9"),
        "snr_db": (-100, 300),
    }


@dataclass(frozen=True)
class MatchConfig(Settings):
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

    BOUNDS: ClassVar[dict[str, Bounds]] = {
        "patch": (1, 1024),
        "stride": (1, 10_000),
        "query_stride": (1, 1024),
        "similarity": ("dot", "cosine", "zncc", "l2"),
        "top_k": (1, MANY),
        "hard_k": (1, MANY),
        "temperature": (ABOVE_0, 1000),
        "sharpening": (0, 1000),
        "gradient_border": ("replicate", "constant"),
    }


@dataclass(frozen=True)
class DenoiserConfig(Settings):
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

    BOUNDS: ClassVar[dict[str, Bounds]] = {
        "width": (2, 4096),
        "residual_blocks": (0, 64),
        "cim_blocks": (0, 64),
        "te_blocks": (0, 64),
        "state": (1, 1024),
        "heads": (1, 1024),
        "subspace": (1, 4096),
        "target": ("x0", "residual", "eps", "v"),
        "level_enters": ("stem", "input", "block"),
        "skips": ("added", "none", "carried"),
        "fusion_slope": (0, 1),
    }


@dataclass(frozen=True)
class TrainConfig(Settings):
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

    BOUNDS: ClassVar[dict[str, Bounds]] = {
        "steps": (1, MANY),
        "batch": (1, 65_536),
        "learning_rate": (ABOVE_0, 1000),
        "warmup": (0, MANY),
        "ema": (0, 1),
        "clip": (ABOVE_0, 1e30),
        "self_condition": (0, 1),
        "drop_reference": (0, 1),
        "validate_every": (1, MANY),
        "save_every": (1, MANY),
    }


@dataclass(frozen=True)
class Preset(Settings):
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

    BOUNDS: ClassVar[dict[str, Bounds]] = {
        "crop": (1, 100_000),
        "timesteps": (1, 1_000_000),
        "schedule": ("linear", "cosine", "shifted"),
        "sampler": ("ddpm", "ddim", "dpmpp", "heun", "edm"),
        "sampling_steps": (1, 1_000_000),
        "kernel_width": (1, 4096),
        "cnn_width": (1, 8192),
        "kernel_steps": (1, MANY),
        "cnn_steps": (1, MANY),
    }

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
            TypeError: a key that is not a setting, or settings that are not a dict.
            ValueError: a setting of another type, or out of its bounds.
        """
        parts = {"camera": CameraConfig, "match": MatchConfig, "denoiser": DenoiserConfig, "train": TrainConfig}
        known = {"preset": (cls, plain)}
        if isinstance(plain, dict):
            known |= {key: (part, plain[key]) for key, part in parts.items() if key in plain}
        for name, (part, given) in known.items():
            if not isinstance(given, dict):
                raise TypeError(f"`{name}` must be a dict of settings, got {_short(given)}")
            if odd := [one for one in given if one not in {field.name for field in dataclasses.fields(part)}]:
                raise TypeError(f"`{name}` must be a dict of settings, got {_short(odd[0])} among them")
        if "name" not in plain:
            raise TypeError("`preset` must be a dict of settings, got one without `name`")
        return cls(**plain | {key: part(**plain[key]) for key, part in parts.items() if key in plain})


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
