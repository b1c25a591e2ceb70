"""Explorers are made of what they are given without gradients: what is looked at is not learnt from."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
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
    """A tensor without gradients, and a mapping of such; all else as it is: a `Camera` and a `Scene` have none.

    Example:
        >>> detached({"a": torch.ones(1, requires_grad=True)})
        {'a': tensor([1.])}
    """
    if isinstance(value, torch.Tensor):
        return value.detach()
    return {key: detached(one) for key, one in value.items()} if isinstance(value, Mapping) else value
