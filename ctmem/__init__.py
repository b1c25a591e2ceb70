"""Sharper hyperspectral images from an unpaired reference: what most programs need is here.

    import ctmem

    model = ctmem.load_model("tiny")
    scene = ctmem.read_scene("my_scene.mat", wavelengths_nm=nm)
    camera = model.camera.for_wavelengths(scene.wavelengths_nm)
    pred = ctmem.super_resolve(model, scene.tensor(), reference, camera=camera)

From file to file, of any size, there is one line: `ctmem.super_resolve_file("lr.hdr", out="sr.tif", scale=3)`.

| name | what it is | where it lives |
|---|---|---|
| `load_model` | trained networks, and the camera they were trained for | `ctmem.model` |
| `super_resolve` | a fine hyperspectral image of a coarse one | `ctmem.inference` |
| `super_resolve_file`, `inspect_file` | from file to file; what is understood of a file | `ctmem.own_scene.files` |
| `load_scene`, `read_scene` | a shipped scene; a scene from a file of yours | `ctmem.data.scenes` |
| `Camera` | blur, scale, spectral response, noise | `ctmem.observe.camera` |
| `TextureLibrary` | references of several places, in one file | `ctmem.match.texture_library` |
| `evaluate` | metrics of a prediction | `ctmem.evaluation.metrics` |

The rest is in folders that follow the method: `data` and `observe` (the scene, its areas, the two sensors), `match`
(stage 2), `networks` and `diffusion` (stage 3), `train`, `evaluation`, `explorers`. Nothing of all this is imported
before it is used.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

from ctmem.command import end_quietly_until_begun

if TYPE_CHECKING:
    from ctmem.data.scenes import load_scene, read_scene
    from ctmem.evaluation.metrics import evaluate
    from ctmem.inference import super_resolve
    from ctmem.match.texture_library import TextureLibrary
    from ctmem.model import load_model
    from ctmem.observe.camera import Camera
    from ctmem.own_scene.files import inspect_file, super_resolve_file

    __version__: str

if sys.argv[:1] == ["-m"]:  # `python -m ctmem.…` is on its way to its module
    end_quietly_until_begun()

__all__ = [
    "Camera",
    "TextureLibrary",
    "evaluate",
    "inspect_file",
    "load_model",
    "load_scene",
    "read_scene",
    "super_resolve",
    "super_resolve_file",
]

HOMES = {
    "Camera": "ctmem.observe.camera",
    "TextureLibrary": "ctmem.match.texture_library",
    "evaluate": "ctmem.evaluation.metrics",
    "inspect_file": "ctmem.own_scene.files",
    "load_model": "ctmem.model",
    "load_scene": "ctmem.data.scenes",
    "read_scene": "ctmem.data.scenes",
    "super_resolve": "ctmem.inference",
    "super_resolve_file": "ctmem.own_scene.files",
}


class _FrontDoor(ModuleType):
    """This module; the command's module `ctmem.super_resolve`, once imported, does not take the function's place."""

    def __setattr__(self, name: str, value: Any) -> None:
        if not (name in HOMES and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _FrontDoor


def __getattr__(name: str) -> Any:
    """Imports a name of `__all__`, or looks up the version, when it is first asked for."""
    if name == "__version__":
        return importlib.import_module("importlib.metadata").version("ctmem")
    if name not in HOMES:
        raise AttributeError(f"module 'ctmem' has no attribute {name!r}; its names are {', '.join(__all__)}")
    found = getattr(importlib.import_module(HOMES[name]), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    """The names of `__all__` and the version."""
    return [*__all__, "__version__"]
