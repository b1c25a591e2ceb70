"""Weights of the benchmark: the shipped ones, others that are shipped beside them, and folders that a user names.

Source: this project.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import torch

from ctmem.checks import fail, typed
from ctmem.config import Preset
from ctmem.files import RoomFor, data_path, load_module
from ctmem.model import PARTS, SHIPPED, Model, build_networks, load_model, read_model_card
from ctmem.networks.variants import VARIANTS


@dataclass(frozen=True)
class Weights:
    """Trained networks, which wiring they are of ("", "as-drawn", "as-released"), and what a table calls them."""

    label: str
    variant: str
    model: Model


@typed
def find_weights(folders: Sequence[str | Path] = ()) -> dict[str, list[Weights]]:
    """Returns the weights of each wiring: shipped ones first, then `seed…` folders beside them, then `folders`.

    Args:
        folders: as training leaves them. Networks that a folder lacks (a CNN alone, say) are the shipped ones.

    Raises:
        FileNotFoundError: a folder without card.json, or without any weights.
        ValueError: weights that do not fit their card.
    """
    shipped = data_path(f"weights/{SHIPPED}/card.json").parent
    others = {path.parent for part in PARTS for path in shipped.parent.rglob(f"{part}.safetensors")} - {shipped}
    beside = sorted(folder for folder in others if (folder / "card.json").is_file())
    found: dict[str, list[Weights]] = {}
    for folder in (shipped, *beside, *map(Path, folders)):
        model = _load(folder)
        label = folder.name if folder.parent == shipped.parent else f"{folder.parent.name}/{folder.name}"
        one = Weights(label, variant_of(model.preset), model)
        found.setdefault(one.variant, []).append(one)
    return found


def variant_of(preset: Preset) -> str:
    """Which wiring a preset has: "" for this project's own.

    Example:
        >>> variant_of(Preset("tiny-as-drawn")), variant_of(Preset("small"))
        ('as-drawn', '')
    """
    endings = [name.replace("_", "-") for name in VARIANTS]
    return next((ending for ending in endings if preset.name.endswith(f"-{ending}")), "")


def _load(folder: Path) -> Model:
    """The networks of a folder; what it lacks is the shipped model's."""
    there = [part for part in PARTS if (folder / f"{part}.safetensors").is_file()]
    if len(there) == len(PARTS) or not (folder / "card.json").is_file():
        return load_model(folder=folder)
    if not there:
        fail("weights", "a folder with weights", f"{folder.name}, without any", FileNotFoundError)
    card, preset = read_model_card(folder / "card.json")
    files = {part: folder / f"{part}.safetensors" for part in there}
    with RoomFor(*files.values()):
        networks = cast(dict[str, torch.nn.Module], build_networks(preset))
    loaded = {
        part: load_module(networks[part], file, part=part, preset=preset.name, sealed=card.get("weights"))
        for part, file in files.items()
    }
    ready: dict[str, Any] = {part: network.eval().requires_grad_(False) for part, network in loaded.items()}
    return replace(load_model(), **ready)
