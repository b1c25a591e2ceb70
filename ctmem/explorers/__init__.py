"""Explorers: widgets to touch a cube with, in JupyterLab or on a Voilà page.

    from ctmem.explorers import BandExplorer
    BandExplorer(scene)

They need the extra `notebooks` (ipywidgets, anywidget); nothing else in the package imports them.
"""

try:
    import anywidget  # noqa: F401
    import ipywidgets  # noqa: F401
except ImportError as error:
    missing = "`ctmem.explorers` needs ipywidgets and anywidget: pip install -e '.[notebooks]'"
    raise ImportError(f"{missing} ({error})") from error

from ctmem.explorers.band import BandExplorer
from ctmem.explorers.degradation import DegradationExplorer
from ctmem.explorers.diffusion import DiffusionExplorer
from ctmem.explorers.form import SceneForm
from ctmem.explorers.match import MatchExplorer
from ctmem.explorers.recording import Recording, record
from ctmem.explorers.view import Tabs

__all__ = [
    "BandExplorer",
    "DegradationExplorer",
    "DiffusionExplorer",
    "MatchExplorer",
    "Recording",
    "SceneForm",
    "Tabs",
    "record",
]
