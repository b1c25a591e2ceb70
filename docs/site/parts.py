"""What Sphinx is told beyond its settings: formulas, descriptions of pictures, links, pages made from the package."""

from __future__ import annotations

import re
from pathlib import Path

from build import workbook
from copies import description, mathml
from cube import write_cube
from docutils import nodes

SECTIONS = {
    "To begin with": [
        "docs/hyperspectral_for_vision",
        "docs/diffusion_for_remote_sensing",
        "docs/glossary",
        "docs/notation",
        "docs/teaching",
    ],
    "To touch": ["docs/site/explorer", "docs/site/moving"],
    "To look up": ["docs/site/api", "data/README", "docs/site/results", "docs/log", "CHANGELOG", "CONTRIBUTING"],
}
FOLDERS = {"benchmarks/results/methods/": "docs/site/results.md"}  # a link to a folder leads to this page
TABLE = re.compile(r"^( *)\|.*\|\n\1\|(?:---\|)+\n(?:\1\|.*\n?)+", re.MULTILINE)


def tree() -> str:
    """The table of contents, in MyST's form, hidden: README has one of its own."""
    parts = []
    named = {path.stem: path.stem.replace("_", " ").capitalize() for path in workbook()}
    notebooks = [f"{name} <notebooks/{stem}>" for stem, name in named.items()]
    for caption, documents in {"Notebooks": notebooks, **SECTIONS}.items():
        entries = "\n".join(documents)
        parts.append(f"\n```{{toctree}}\n:hidden:\n:caption: {caption}\n:glob:\n\n{entries}\n```\n")
    return "".join(parts)


def on_source(app, name: str, source: list[str]) -> None:
    """Adds the contents to README, and lets links to folders lead to pages."""
    if name == "README":
        for folder, page in FOLDERS.items():
            source[0] = source[0].replace(f"({folder})", f"({page})")
        source[0] += tree()


def on_docstring(app, what: str, name: str, thing, options, lines: list[str]) -> None:
    """Docstrings are plain text with Markdown's tables: what reStructuredText would take for its own is escaped."""
    text = "\n".join(lines) + "\n"
    if what == "module":
        text = re.sub(r"\n\n(?=    \S)", "\n\n::\n\n", text)  # in a module's text what is indented is code
    kept, at = [], 0
    for table in TABLE.finditer(text):
        kept += [_escaped(text[at : table.start()]), _list_table(table[0])]
        at = table.end()
    lines[:] = "".join([*kept, _escaped(text[at:])]).split("\n")


def _escaped(text: str) -> str:
    """Bars and stars outside of names and code, made plain."""
    parts = re.split(r"(`[^`]*`|^ {4}.*$|^::$|^\.\. .*$)", text, flags=re.MULTILINE)
    parts[::2] = [re.sub(r"(?<!\\)([|]|(?<=[( ])\*(?=[,.) ]))", r"\\\1", part) for part in parts[::2]]
    return "".join(parts)


def _list_table(table: str) -> str:
    """A table of Markdown in the form of reStructuredText."""
    rows = [re.split(r"(?<!`)\|", line.strip().strip("|")) for line in table.strip().splitlines()]
    lines = [".. list-table::", "   :header-rows: 1", ""]
    for row in [rows[0], *rows[2:]]:
        cells = [cell.strip().replace("|", r"\|") or "\\ " for cell in row]
        lines += [f"   {'* -' if number == 0 else '  -'} {cell}" for number, cell in enumerate(cells)]
    return "\n".join(lines) + "\n"


def on_doctree(app, doctree: nodes.document) -> None:
    """Gives each stored picture the description that stands beside it in its output."""
    for bundle in doctree.findall(
        lambda node: isinstance(node, nodes.container) and node.get("nb_element") == "mime_bundle"
    ):
        data = {child["mime_type"]: child.astext() for child in bundle.children if "mime_type" in child}
        for image in bundle.findall(nodes.image):
            image["alt"] = description(data)


def on_member(app, what: str, name: str, thing, skip: bool, options) -> bool | None:
    """Leaves out what other packages have put into a class of ours, and fields of tuples that have no words."""
    foreign = not str(getattr(thing, "__module__", "ctmem")).startswith("ctmem")
    return True if foreign or str(getattr(thing, "__doc__", "")).startswith("Alias for field number") else None


def on_finish(app, exception: Exception | None) -> None:
    """Adds to the theme's pages what keys and screen readers need: levels, names, and code that can be scrolled by keys."""
    missing = {
        'role="heading">': 'role="heading" aria-level="2">',
        '<aside class="sidebar-drawer"': '<aside class="sidebar-drawer" aria-label="Pages"',
        '<aside class="toc-drawer': '<aside aria-label="On this page" class="toc-drawer',
        "<pre>": '<pre tabindex="0">',
    }
    for path in [] if exception else Path(app.outdir).rglob("*.html"):
        text = path.read_text(encoding="utf-8")
        for found, mended in missing.items():
            text = text.replace(found, mended)
        path.write_text(text, encoding="utf-8")


def visit_math(translator, node) -> None:
    translator.body.append(mathml(node.astext()))
    raise nodes.SkipNode


def visit_math_block(translator, node) -> None:
    translator.body.append(f'<div class="math">{mathml(node.astext(), block=True)}</div>')
    raise nodes.SkipNode


def modules(package: Path) -> dict[str, list[str]]:
    """Modules of the package with something public, by the room that they stand in."""
    rooms: dict[str, list[str]] = {}
    for path in sorted(package.rglob("*.py")):
        parts = path.relative_to(package.parent).with_suffix("").parts
        if parts[-1].startswith("_"):
            continue
        rooms.setdefault(parts[1] if len(parts) > 2 else "ctmem", []).append(".".join(parts))
    return rooms


def write_api(root: Path) -> None:
    """One page a room, below docs/site/api/."""
    folder = root / "docs" / "site" / "api"
    folder.mkdir(exist_ok=True)
    for room, names in modules(root / "ctmem").items():
        title = room if room == "ctmem" else f"ctmem.{room}"
        blocks = [f"{title}\n{'=' * len(title)}\n"]
        blocks.extend(f"{name}\n{'-' * len(name)}\n\n.. automodule:: {name}\n   :members:\n" for name in names)
        page, text = folder / f"{room}.rst", "\n".join(blocks)
        if not page.is_file() or page.read_text(encoding="utf-8") != text:  # what is as it was is not read again
            page.write_text(text, encoding="utf-8")


def setup(app, root: Path) -> None:
    """Connects all this."""
    write_api(root)
    write_cube(root / "docs" / "site" / "static" / "cube.js")
    app.add_html_math_renderer("mathml", inline_renderers=(visit_math, None), block_renderers=(visit_math_block, None))
    app.connect("source-read", on_source)
    app.connect("doctree-read", on_doctree)
    app.connect("autodoc-process-docstring", on_docstring)
    app.connect("autodoc-skip-member", on_member)
    app.connect("build-finished", on_finish)
