"""The site: `make site` builds it with Sphinx from the documents and the stored notebooks, without network."""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "notebooks"), str(Path(__file__).parent)]

import parts

project = "ctmem"
copyright = "the authors of ctmem, Apache License 2.0"
html_title = "ctmem"
root_doc = "README"
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
include_patterns = [
    "README.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    "data/README.md",
    "docs/*.md",
    "docs/site/*.md",
    "docs/site/api/*.rst",
    "benchmarks/results/**.md",
    "notebooks/*.ipynb",
]
exclude_patterns = [
    ".venv",
    "build",
    "results",
    "student",
    "runs",
    "corpus",
    "notebooks/scratch",
    "**/.ipynb_checkpoints",
]

myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 4
nb_execution_mode = "off"  # what is stored is shown
nb_merge_streams = True
default_role = "code"  # docstrings write names in single backticks
autodoc_typehints = "none"  # they stand in the signature
autodoc_member_order = "bysource"
autodoc_inherit_docstrings = False  # those of other packages are written for their own pages
napoleon_use_ivar = True
napoleon_custom_sections = ["Convention"]
html_math_renderer = "mathml"

html_theme = "furo"
html_static_path = ["static"]
html_css_files = ["site.css"]
html_extra_path = ["extra"]
html_copy_source = False


def setup(app: object) -> None:
    """Hands Sphinx the parts of our own."""
    parts.setup(app, ROOT)
