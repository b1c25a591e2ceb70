"""Cards: the JSON files beside weights that say how these came about, with a checksum, and checked when read.

    write_card(card, "runs/mine/card.json")
    card = read_card("runs/mine/card.json", MODEL)

A card carries its kind, the version of its form and a SHA-256 of all the rest, so that no damage goes unnoticed. Who
changes a card by hand takes the line `sha256` out: then its form alone is checked, as that of cards of before.

A form is a dict of checks, name → function (value, name) that raises; a card may have other names, too.

Source: this project.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import nn

from ctmem.checks import fail
from ctmem.config import MANY, Preset
from ctmem.files import RoomFor, data_path, load_module, write_json

Check = Callable[[Any, str], object]
Network = TypeVar("Network", bound=nn.Module)

KIND, VERSION = "ctmem card", 1
LARGEST = 20_000_000  # bytes of a card


def write_card(card: Mapping[str, Any], path: str | Path) -> dict[str, Any]:
    """Writes a card, whole or not at all, and returns it as it is written.

    Raises:
        OSError: it cannot be written; what was there before stays.
    """
    plain = sealed(card)
    write_json(plain, path)
    return plain


def sealed(card: Mapping[str, Any]) -> dict[str, Any]:
    """The card with its envelope."""
    plain = {name: value for name, value in card.items() if name not in ("kind", "version", "sha256")}
    plain |= {"kind": KIND, "version": VERSION}
    return plain | {"sha256": _digest(plain)}


def read_card(
    path: str | Path, form: Mapping[str, Check], *, needed: Sequence[str] = (), what: str = "`folder` must be one with"
) -> dict[str, Any]:
    """The card of a file.

    Args:
        path: the file.
        form: what is checked of it.
        needed: names that must be there.
        what: how the messages begin.

    Raises:
        ValueError: it is not a whole card, one of another version, or has values out of their bounds.
    """
    path = Path(path)
    try:
        if path.stat().st_size > LARGEST:
            fail("card.json", f"at most {LARGEST} bytes", path.stat().st_size)
        card = json.loads(path.read_text(encoding="utf-8"))
        _check_envelope(card)
        for name in needed:
            if name not in card:
                fail(name, "on the card", "none")
        for name, check in form.items():
            if name in card:
                check(card[name], name)
    except (ArithmeticError, AttributeError, KeyError, RuntimeError, TypeError, ValueError) as error:
        told = str(error) if str(error).startswith("`") else repr(error)
        raise ValueError(f"{what} a card.json of this version, got {path}: {told}") from error
    return card


def _check_envelope(card: Any) -> None:
    """Raises unless it is a card of this version, and nothing of it was changed."""
    if not isinstance(card, dict):
        fail("card.json", "a JSON object", type(card).__name__)
    if card.get("kind", KIND) != KIND or card.get("version", VERSION) != VERSION:
        fail("version", f"{VERSION} of a {KIND}", f"{card.get('version')!r:.60} of {card.get('kind')!r:.60}")
    told = card.get("sha256")
    if told is not None and told != _digest(card):
        fail("sha256", "that of the card, which was damaged or changed (by hand: take this line out)", f"{told!r:.20}")


def _digest(card: Mapping[str, Any]) -> str:
    """SHA-256 of all of a card but its own line."""
    plain = {name: value for name, value in card.items() if name != "sha256"}
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()


# --- what a form is made of -------------------------------------------------------------------------------------------


def whole(low: int, high: int) -> Check:
    """A whole number from low to high."""

    def check(value: Any, name: str) -> None:
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            fail(name, f"a whole number from {low} to {high}", f"{value!r:.60}")

    return check


def number(low: float = -math.inf, high: float = math.inf) -> Check:
    """A number from low to high, not NaN."""

    def check(value: Any, name: str) -> None:
        if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
            fail(name, f"a number from {low} to {high}", f"{value!r:.60}")

    return check


def text(value: Any, name: str) -> None:
    """Text."""
    if not isinstance(value, str):
        fail(name, "text", f"{value!r:.60}")


def anything(value: Any, name: str) -> None:
    """What only people read."""


def optional(check: Check) -> Check:
    """None, or what the check takes."""
    return lambda value, name: None if value is None else check(value, name)


def each(check: Check) -> Check:
    """A list of what the check takes."""

    def check_all(value: Any, name: str) -> None:
        if not isinstance(value, list):
            fail(name, "a list", f"{value!r:.60}")
        for place, one in enumerate(value):
            check(one, f"{name}[{place}]")

    return check_all


def named(check: Check, names: Sequence[str] | None = None) -> Check:
    """A dict of what the check takes, by some of these names or any."""

    def check_all(value: Any, name: str) -> None:
        if not isinstance(value, dict):
            fail(name, "a dict", f"{value!r:.60}")
        for key, one in value.items():
            if names is not None and key not in names:
                fail(name, "by " + ", ".join(map(repr, names)), f"{key!r:.60}")
            check(one, f"{name}.{key}")

    return check_all


def record(**form: Check) -> Check:
    """A dict that has all of these names."""

    def check_all(value: Any, name: str) -> None:
        if not isinstance(value, dict) or not set(form) <= set(value):
            fail(name, "a dict with " + ", ".join(form), f"{value!r:.60}")
        for key, check in form.items():
            check(value[key], f"{name}.{key}")

    return check_all


def some_of(**form: Check) -> Check:
    """A dict that has some of these names, and no others."""

    def check_some(value: Any, name: str) -> None:
        if not isinstance(value, dict) or not set(value) <= set(form):
            fail(name, "a dict of " + ", ".join(form), f"{value!r:.60}")
        for key, one in value.items():
            form[key](one, f"{name}.{key}")

    return check_some


PARTS = ("kernel", "cnn", "denoiser")
SEED = whole(0, 2**63 - 1)
BOX = record(top=whole(0, MANY), left=whole(0, MANY), height=whole(1, MANY), width=whole(1, MANY))
RUN: dict[str, Check] = {  # what all cards may have
    "seed": SEED,
    "versions": named(text),
    "weights": named(text),  # name of the file: its SHA-256
    "device": text,
}
MODEL: dict[str, Check] = RUN | {  # of kernel, CNN and denoiser; the camera is read by `observe.camera.Camera`
    "preset": lambda value, name: Preset.from_dict(value),
    "data": each(
        record(scene=text, train=optional(BOX), validation=optional(BOX), references=each(each(whole(1, MANY))))
    ),
    "steps": named(whole(1, MANY), PARTS),
    "minutes": named(number(0), PARTS),
    "metrics": named(named(anything), PARTS),
    "options": named(named(anything), PARTS),
}
COMPONENT: dict[str, Check] = RUN | {  # of the weights that work on single components
    "network": some_of(width=whole(1, 4096), blocks=whole(0, 64), head=whole(1, 64)),
    "steps": whole(1, MANY),
    "minutes": number(0),
}


@torch.random.fork_rng(devices=[])  # weights that are drawn first leave nobody's generator moved
def load_component(
    part: str, make: Callable[..., Network], folder: str | Path | None = None, *, name: str = "folder"
) -> Network:
    """The trained network of a folder, in evaluation mode.

    Args:
        part: what its weights are called, as "prior".
        make: the sizes of the card by name → the untrained network.
        folder: with card.json and the weights; None: the shipped one.
        name: of the argument, for messages.

    Raises:
        ValueError: a damaged card or damaged weights, or weights that do not belong together.
        FileNotFoundError: no weights there.
    """
    card = data_path(f"weights/{part}/card.json") if folder is None else Path(folder) / "card.json"
    if not card.is_file():
        fail(name, f"a folder with card.json and {part}.safetensors", f"{card.parent}, without", FileNotFoundError)
    told = read_card(card, COMPONENT, what=f"`{name}` must be those of")
    path = card.with_name(f"{part}.safetensors")
    try:
        with RoomFor(path):
            network = make(**told.get("network", {}))
    except TypeError:
        fail(name, f"those of a card.json of {part}", f"sizes {', '.join(told['network'])}")
    load_module(network, path, part=part, preset=part, sealed=told.get("weights"))
    return network.eval().requires_grad_(False)
