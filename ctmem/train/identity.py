"""What a run is recognised by: what is in its data and settings, not how the files are called or where they lie.

Source: this project.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch

from ctmem.files import add_tensor
from ctmem.train.sources import Source

SHOWN = 40  # characters of a value in a message, at most


def data_of(sources: Sequence[Source]) -> list[dict[str, Any]]:
    """The sources as cards have them: names, areas, sizes of references, and digests of what is in them."""
    return [
        {
            "scene": source.name,
            "train": source.train and vars(source.train),
            "validation": source.validation and vars(source.validation),
            "references": [list(reference.shape[1:]) for reference in source.references],
            "digest": digests_of(source),
        }
        for source in sources
    ]


def digests_of(source: Source) -> dict[str, str]:
    """Digests of the cube, the response of its bands, the blur, and what does not follow from these."""
    camera = source.scene.camera
    parts: dict[str, Sequence[torch.Tensor]] = {"cube": [source.scene.gt], "blur": [camera.psf]}
    parts["response"] = [] if camera.srf is None else [camera.srf]
    if not source.simulated:
        parts |= {"observation": [source.scene.lr_hsi], "references": source.references}
    return {name: digest_of(*tensors) for name, tensors in parts.items()}


def digest_of(*tensors: torch.Tensor) -> str:
    """SHA-256 of tensors, the first 16 digits."""
    digest = hashlib.sha256()
    for x in tensors:
        add_tensor(digest, "", x)
    return digest.hexdigest()[:16]


def digest_of_text(text: str) -> str:
    """SHA-256 of text, the first 16 digits."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def data_differences(before: Sequence[Mapping[str, Any]], now: Sequence[Mapping[str, Any]]) -> list[str]:
    """In words, how the data of a card differ from these; names of scenes may."""
    if len(before) != len(now):
        return [f"{len(before)} scene(s) instead of {len(now)}"]
    found = []
    for one, other in zip(before, now):
        if "digest" not in one:
            found.append(f"{other['scene']!r}, of which the card, being older, has no digest")
            continue
        parts = {key: one[key] != other[key] for key in ("train", "validation", "references")}
        parts |= {key: True for key, *_ in _unlike(one["digest"], other["digest"])}
        named = {"train": "training area", "validation": "validation area"}
        words = [named.get(key, key) for key, unlike in parts.items() if unlike]
        if words:
            found.append(f"another {', '.join(words)} of {other['scene']!r}")
    return found


def differences(before: Any, now: Any) -> list[str]:
    """In words, how plain settings differ: "batch 2 instead of 4"."""
    return [
        f"another {key}" if max(len(repr(one)), len(repr(other))) > SHOWN else f"{key} {one!r} instead of {other!r}"
        for key, one, other in _unlike(before, now)
    ]


def _unlike(before: Any, now: Any, name: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Name and both values of everything that differs, however deep."""
    if isinstance(before, dict) and isinstance(now, dict):
        for key in [*now, *(key for key in before if key not in now)]:
            yield from _unlike(before.get(key), now.get(key), f"{name}.{key}" if name else str(key))
    elif isinstance(before, list) and isinstance(now, list) and len(before) == len(now):
        for place, (one, other) in enumerate(zip(before, now)):
            yield from _unlike(one, other, f"{name}[{place}]")
    elif before != now:
        yield name, before, now
