"""The trained networks of a preset, together: how they are built and where their weights come from.

Source: this project.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict, cast

import torch

from ctmem.card import MODEL, PARTS, read_card
from ctmem.checks import Width, check_choice, door, fail, typed
from ctmem.config import Preset
from ctmem.files import RoomFor, data_path, load_module, load_tensors
from ctmem.networks.kernel_net import KernelNet
from ctmem.networks.residual_cnn import ResidualCNN
from ctmem.networks.tcmm import TCMM
from ctmem.networks.variants import PRESETS
from ctmem.observe.camera import Camera
from ctmem.observe.kernel import LearnedBlur, PsfKernel

__all__ = ["PARTS", "Model", "Networks", "build_networks", "load_model", "read_model_card"]

SHIPPED = "tiny"  # the preset whose weights come with the project


class Networks(TypedDict):
    """The networks of a preset, by part."""

    kernel: LearnedBlur
    cnn: ResidualCNN
    denoiser: TCMM


@typed
@dataclass(frozen=True)
class Model:
    """The trained networks of a preset, in evaluation mode, and the card that says how they came about."""

    preset: Preset
    kernel: LearnedBlur
    cnn: ResidualCNN
    denoiser: TCMM
    card: dict[str, Any]

    @property
    def camera(self) -> Camera:
        """The camera that the weights were trained for, as the card has it; without a spectral response."""
        written = self.card.get("camera")
        return Camera.from_config(self.preset.camera) if written is None else Camera.from_dict(written)

    @property
    def device(self) -> torch.device:
        """Where the networks are."""
        return next(self.denoiser.parameters()).device

    @typed
    def to(self, device: torch.device | str) -> Model:
        """Moves all networks (in place) and returns the model."""
        for network in (self.kernel, self.cnn, self.denoiser):
            network.to(device)
        return self


@door
def build_networks(preset: Preset, bands: Width | None = None) -> Networks:
    """New, untrained networks of a preset: `kernel`, `cnn`, `denoiser`.

    Args:
        preset: sizes.
        bands: C, needed where the denoiser works on bands (`preset.denoiser.subspace` is None).
    """
    channels = preset.denoiser.subspace or bands
    if channels is None:
        fail("bands", "the scene's band count for a denoiser without subspace", None)
    groups = channels if preset.denoiser.subspace else Camera.from_config(preset.camera).msi_channels
    return {
        "kernel": _new_kernel(preset),
        "cnn": ResidualCNN(channels, preset.cnn_width),
        "denoiser": TCMM(channels, 4 * groups, preset.denoiser),
    }


def _new_kernel(preset: Preset) -> LearnedBlur:
    """An untrained K of the kind that the preset asks for."""
    if preset.kernel_network:
        bands = Camera.from_config(preset.camera).msi_channels
        return KernelNet(bands, preset.kernel_width, scale=preset.scale)
    return PsfKernel(preset.scale)


@door
@torch.random.fork_rng(devices=[])  # weights that are drawn first leave nobody's generator moved
def load_model(name: str | None = None, *, folder: str | Path | None = None) -> Model:
    """The trained model of a preset.

    Args:
        name: a preset's name; None: that of the card in `folder`, or `tiny`, whose weights are shipped.
        folder: where kernel, cnn and denoiser .safetensors and card.json are, as training leaves them; default: the
            shipped ones. The settings are those of the card, so that variants of a preset load, too.

    Raises:
        ValueError: an unknown preset or one without shipped weights, a card of another version, or weights that do not
            fit it.
        FileNotFoundError: no weights there.
    """
    if folder is None:
        name = SHIPPED if name is None else name
        check_choice(name, "name", PRESETS)
        if name != SHIPPED:
            fail("name", f"{SHIPPED!r}, whose weights are shipped, unless there is a `folder`", repr(name))
        folder = data_path(f"weights/{name}/card.json").parent
    card_file = Path(folder) / "card.json"
    if not card_file.is_file():
        fail(
            "folder", "one with card.json and weights", f"{card_file.parent.name}, without card.json", FileNotFoundError
        )
    card, preset = read_model_card(card_file)
    if name not in (None, preset.name):
        fail("name", f"that of the weights in `folder`, {preset.name!r}, or None", repr(name))
    files = {part: card_file.with_name(f"{part}.safetensors") for part in PARTS}
    with RoomFor(*files.values()):
        networks = build_networks(preset, None if preset.denoiser.subspace else _bands(files["cnn"]))
    for part, network in cast(dict[str, torch.nn.Module], networks).items():
        load_module(network, files[part], part=part, preset=name or preset.name, sealed=card.get("weights"))
        network.eval().requires_grad_(False)
    return Model(preset, **networks, card=card)


def read_model_card(path: Path, needed: Sequence[str] = ()) -> tuple[dict[str, Any], Preset]:
    """The card of a trained model, and the preset that it names; `needed`: what else must be on it.

    Raises:
        ValueError: a damaged card, one of another version, or settings and a camera that there cannot be.
    """
    card = read_card(path, CARD, needed=["preset", *needed])
    return card, Preset.from_dict(card["preset"])


def _check_preset(plain: Any, name: str) -> None:  # noqa: ARG001  (the form of all checks)
    """Raises unless it is a preset, of a camera and of names that there are."""
    Camera.from_config(Preset.from_dict(plain).camera)


def _check_camera(plain: Any, name: str) -> None:
    """Raises unless it is a camera as `Camera.to_dict` writes it."""
    if not isinstance(plain, dict):
        fail(name, "a dict", f"{plain!r:.60}")
    Camera.from_dict(plain)


CARD = MODEL | {"preset": _check_preset, "camera": _check_camera}


def _bands(path: Path) -> int:
    """C of weights that work on bands: the channels that the CNN there puts out."""
    bias = load_tensors(path)[0].get("out.bias")
    if bias is None:
        fail("path", "weights with `out.bias`", f"none in {path.name}")
    return len(bias)
