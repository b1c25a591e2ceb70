"""Explorers are made of what they are given without gradients: what is looked at is not learnt from."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass, replace
from typing import Any

import torch


def without_gradients(init: Callable[..., None]) -> Callable[..., None]:
    """`__init__` of an explorer, handed everything detached, and computing no gradients."""

    @functools.wraps(init)
    def make(self: Any, *args: Any, **options: Any) -> None:
        with torch.no_grad():
            init(self, *map(detached, args), **{name: detached(value) for name, value in options.items()})

    return make


def detached(value: Any) -> Any:
    """A tensor without gradients, and a mapping or a dataclass, such as a `Camera`, of such; all else as it is.

    Example:
        >>> detached({"a": torch.ones(1, requires_grad=True)})
        {'a': tensor([1.])}
    """
    if not _learns(value):
        return value
    if isinstance(value, torch.Tensor):
        return value.detach()
    if isinstance(value, Mapping):
        return {key: detached(one) for key, one in value.items()}
    return replace(value, **{one.name: detached(getattr(value, one.name)) for one in fields(value) if one.init})


def _learns(value: Any) -> bool:
    """Whether gradients would flow into a tensor, or into one that a mapping or a dataclass holds."""
    if isinstance(value, torch.Tensor):
        return value.requires_grad
    if isinstance(value, Mapping):
        return any(map(_learns, value.values()))
    dataclass = is_dataclass(value) and not isinstance(value, type)
    return dataclass and any(_learns(getattr(value, one.name)) for one in fields(value))
