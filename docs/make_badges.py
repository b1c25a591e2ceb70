"""Writes links that open a public copy of this repository on Binder and on Colab, and the copies that Colab needs.

    python docs/make_badges.py OWNER/NAME                  # on GitHub; or: make badges REPOSITORY=OWNER/NAME
    python docs/make_badges.py OWNER/NAME --branch BRANCH

Binder reads environment.yml and needs nothing else. On Colab the package is missing, so colab/ gets copies of the notebooks with one
cell before all others, which fetches and installs it. Both links stand in README.md, between two marks; commit README.md and colab/.
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

import nbformat

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "notebooks"))

from build import text_of, workbook

BEGIN, END = "<!-- links of make badges -->", "<!-- end of links -->"
FETCH = """\
# On Colab: fetch the workbook and install it (one or two minutes)
!git clone --quiet --depth 1 --branch {branch} https://github.com/{repository} ctmem-copy
%cd ctmem-copy/notebooks
%pip install --quiet -e .. anywidget
from google.colab import output
output.enable_custom_widget_manager()
"""


def numbered() -> list[Path]:
    """The notebooks of the course, without the dashboard."""
    return [path for path in workbook() if path.name[0].isdigit()]


def on_colab(path: Path, repository: str, branch: str) -> nbformat.NotebookNode:
    """A notebook with the cell that Colab needs before its first code; its links lead to the repository's own files."""
    notebook = nbformat.read(path, as_version=4)
    first = next(number for number, cell in enumerate(notebook.cells) if cell.cell_type == "code")
    fetch = nbformat.v4.new_code_cell(FETCH.format(repository=repository, branch=branch), id="on-colab")
    notebook.cells.insert(first, fetch)
    files = f"https://github.com/{repository}/blob/{branch}"
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            cell.source = re.sub(r"(\[[^\]]*\]\()(\d\d_\w+\.ipynb\))", rf"\1{files}/colab/\2", cell.source)
            cell.source = re.sub(
                r"(!\[[^\]]*\]\()\.\./(\S+\))", rf"\1{files.replace('/blob/', '/raw/')}/\2", cell.source
            )
            cell.source = re.sub(r"(\]\()\.\./(\S+\))", rf"\1{files}/\2", cell.source)
    return notebook


def links(repository: str, branch: str) -> str:
    """The paragraph for README.md."""
    binder = f"https://mybinder.org/v2/gh/{repository}/{branch}?urlpath=lab/tree/notebooks/00_start_here.ipynb"
    colab = f"https://colab.research.google.com/github/{repository}/blob/{branch}/colab"
    each = " ".join(f"[{path.name[:2]}]({colab}/{path.name})" for path in numbered())
    return f"Without installing: [on Binder]({binder}); on Colab: {each}."


def main(arguments: list[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("repository", help="OWNER/NAME on GitHub")
    parser.add_argument("--branch", default="main")
    parser.add_argument("--root", type=Path, default=ROOT, help="where README.md stands and colab/ goes")
    chosen = parser.parse_args(arguments)
    if not re.fullmatch(r"[A-Za-z0-9-]+/[\w.-]+", chosen.repository):
        parser.error(f"`repository` must be OWNER/NAME, got {chosen.repository!r}")
    if not re.fullmatch(r"[\w.][\w./-]*", chosen.branch):
        parser.error(f"`branch` must be the name of a branch, got {chosen.branch!r}")
    readme = chosen.root / "README.md"
    text = readme.read_text(encoding="utf-8")
    place = re.compile(f"{re.escape(BEGIN)}.*?{re.escape(END)}", re.DOTALL)
    if not place.search(text):
        parser.error(f"README.md has no place for links: the two lines {BEGIN} and {END}")
    folder = chosen.root / "colab"
    folder.mkdir(exist_ok=True)
    for path in numbered():
        copy = on_colab(path, chosen.repository, chosen.branch)
        (folder / path.name).write_text(text_of(copy), encoding="utf-8")
    said = f"{BEGIN}\n{links(chosen.repository, chosen.branch)}\n{END}"
    readme.write_text(place.sub(lambda _: said, text), encoding="utf-8")
    print(f"{len(numbered())} notebooks are in {folder}, and README.md links to them: commit both")


if __name__ == "__main__":
    main()
