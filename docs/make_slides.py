"""Makes slides of notebooks into build/slides: one HTML file each, which needs no network and no kernel.

    python docs/make_slides.py                                    # of those that a lecture of 90 minutes needs, docs/teaching.md
    python docs/make_slides.py notebooks/05_spectral_evaluation.ipynb

A section of the notebook is a slide: its heading and the first paragraphs of its text. Below it are its figures, with what there is to
see, and what a cell with the tag `slide` printed. Code, exercises and reading stay in the notebook. Arrow keys turn pages, Esc shows
all, F fills the screen.
It needs the extra `site`, which brings reveal.js.
"""

from __future__ import annotations

import argparse
import base64
import html
import mimetypes
import re
import sys
from importlib.util import find_spec
from pathlib import Path

import nbformat

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "notebooks"))

from copies import description, markdown_to_html

CHOSEN = (
    "00_start_here",
    "02_degradation_kernel",
    "03_diffusion_training",
    "04_patch_matching",
    "08_sampling",
    "10_experiments",
)
LEFT_OUT = ("Exercises", "Reading", "Where to go from here")
TAG = "slide"
LETTERS = 420  # of text on a slide, about
REVEAL = "_static/revealjs/dist"  # inside the package sphinx_revealjs
STYLE = """
.reveal { font: 30px/1.35 system-ui, sans-serif; color: #111; background: #fff; }
.reveal .slides section { text-align: left; }
.reveal h1, .reveal h2 { font-size: 1.4em; line-height: 1.15; margin: 0 0 0.6em; color: #00456e; }
.reveal p { margin: 0 0 0.7em; }
.reveal img { display: block; width: 100%; height: 440px; object-fit: contain; margin: 0 0 0.4em; }
.reveal p:has(img) ~ p, .reveal p ~ p:has(img) { font-size: 0.8em; }
.reveal p img { height: 330px; }
.reveal .said { font-size: 0.75em; max-width: 1100px; }
.reveal pre { font: 20px/1.4 ui-monospace, monospace; white-space: pre-wrap; }
.reveal code { background: #eef2f5; padding: 0 0.2em; }
.reveal a { color: #00456e; }
.reveal .slide-number { background: #00456e; color: #fff; }
"""
PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>{css}</style>
</head>
<body>
<div class="reveal"><div class="slides">
{slides}
</div></div>
<script>{script}</script>
<script>Reveal.initialize({{ hash: true, slideNumber: "c/t", controls: false, width: 1200, height: 700, transition: "none" }});</script>
</body>
</html>
"""


def paragraphs(text: str, most: int = LETTERS) -> str:
    """The first blocks of Markdown that are paragraphs or lists, as many as fit; at least one, where there is one.

    A last sentence that announces what stands elsewhere ("For one pixel:") is left out.
    """
    blocks = [block.strip() for block in re.split(r"\n\s*\n", text)]
    plain = [block for block in blocks if block and not block.startswith(("#", "|", "$$", "```", "<", "    "))]
    count = 1
    while count < len(plain) and len("".join(plain[: count + 1])) <= most:
        count += 1
    return re.sub(r"(?:(?<=[.!?])\s+|^)[^.!?]*:$", "", "\n\n".join(plain[:count])).strip()


def carried(slide: str) -> str:
    """The slide with the picture files it names inside, and without links to other files.

    A still that links to its animation gives way to it.
    """

    def inside(found: re.Match[str]) -> str:
        kind = mimetypes.guess_type(found[1])[0] or "image/webp"
        return f'src="data:{kind};base64,{base64.b64encode((ROOT / "notebooks" / found[1]).read_bytes()).decode()}"'

    moving = re.sub(r'<a href="([^"]+\.webp)">(<img )src="[^"]+"([^>]*>)</a>', r'\2src="\1"\3', slide)
    unlinked = re.sub(r'<a href="(?!https?:)[^"]*"[^>]*>(.*?)</a>', r"\1", moving, flags=re.DOTALL)
    return re.sub(r'src="((?!data:)[^":]+)"', inside, unlinked)


def section(heading: str, body: str) -> str:
    """One slide."""
    return f"<section>\n<h2>{markdown_to_html(heading)[3:].split('</p>')[0]}</h2>\n{carried(body)}</section>"


def picture(output: dict) -> str:
    """The body of a slide with a stored figure and what there is to see in it."""
    words = html.escape(description(output.data), quote=True)
    said = f'<p class="said" aria-hidden="true">{words}</p>'  # screen readers have the description of the picture
    return f'<img src="data:image/png;base64,{output.data["image/png"].strip()}" alt="{words}">\n{said}'


def shown(cell: nbformat.NotebookNode) -> list[str]:
    """The bodies of slides that a cell gives: its figures, and what it printed where it has the tag for that."""
    outputs = cell.get("outputs", [])
    bodies = [picture(output) for output in outputs if "image/png" in output.get("data", {})]
    if TAG in cell.metadata.get("tags", []):
        said = "".join(output.get("text", "") for output in outputs).rstrip()
        bodies.append(f'<pre tabindex="0">{html.escape(said)}</pre>')
    return bodies


def slides(notebook: nbformat.NotebookNode) -> list[list[str]]:
    """Columns of slides: a section's text on top, its figures below."""
    columns: list[list[str]] = []
    heading, left_out = "", False
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            for part in re.split(r"(?m)^(?=#{1,2} )", cell.source):
                if found := re.match(r"#{1,2} (.+)", part):
                    heading, part = found[1], part[found.end() :]
                    left_out = heading.endswith(LEFT_OUT)
                    columns += [] if left_out else [[section(heading, markdown_to_html(paragraphs(part)))]]
        if cell.cell_type == "code" and not left_out and "exercise" not in cell.metadata.get("tags", []):
            columns[-1] += [section(heading, body) for body in shown(cell)]
    return columns


def page(notebook: nbformat.NotebookNode) -> str:
    """The whole file, reveal.js (MIT licence, see its head) inside."""
    found = find_spec("sphinx_revealjs")
    if found is None or not found.submodule_search_locations:
        raise SystemExit('error: reveal.js is missing: pip install -c constraints.txt -e ".[site]"')
    reveal = Path(found.submodule_search_locations[0]) / REVEAL
    css, script = ((reveal / name).read_text(encoding="utf-8") for name in ("reveal.css", "reveal.js"))
    columns = ["\n".join(["<section>", *column, "</section>"]) for column in slides(notebook)]
    title = html.escape(notebook.cells[0].source.splitlines()[0].lstrip("# "))
    script = re.sub(r"\n//# sourceMappingURL=\S+", "", script)
    return PAGE.format(title=title, css=css + STYLE, script=script, slides="\n".join(columns))


def main(arguments: list[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("notebooks", type=Path, nargs="*", help="default: those of a lecture")
    parser.add_argument("--output", type=Path, default=ROOT / "build" / "slides")
    chosen = parser.parse_args(arguments)
    chosen.output.mkdir(parents=True, exist_ok=True)
    for path in chosen.notebooks or [ROOT / "notebooks" / f"{name}.ipynb" for name in CHOSEN]:
        text = page(nbformat.read(path, as_version=4))
        (chosen.output / f"{path.stem}.html").write_text(text, encoding="utf-8")
        print(f"{chosen.output / path.stem}.html: {len(text) / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
