"""HTML of notebooks that asks no server for anything: formulas are MathML, pictures carry their description.

What a picture shows stands in its output as text, "Picture: …", put there by `plots.….described("…")`.
"""

from __future__ import annotations

from copy import deepcopy

import nbformat
from latex2mathml.converter import convert
from nbconvert import HTMLExporter
from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath

SAID = "Picture: "
UNSAID = "A figure; the text beside it says what there is to see."
OFFLINE = """{%- extends 'lab/index.html.j2' -%}
{%- block html_head_js -%}{%- endblock -%}
{%- block html_head_js_mathjax -%}{%- endblock -%}
{%- block html_head_js_mermaidjs -%}{%- endblock -%}
{%- block data_png scoped -%}
<div class="jp-RenderedImage jp-OutputArea-output">
<img src="data:image/png;base64,{{ output.data['image/png'] | escape_html }}" alt="{{ output.metadata.alt | escape_html }}">
</div>
{%- endblock -%}
"""


def mathml(tex: str, *, block: bool = False) -> str:
    """A formula in TeX as MathML, which browsers draw by themselves and screen readers say."""
    return convert(tex.strip(), display="block" if block else "inline")


def description(data: dict[str, str]) -> str:
    """What there is to see in the picture of an output, by its bundle of forms {type: content}.

    Figures have a description, explorers the text that stands for them.
    """
    text = " ".join(data.get("text/plain", "").split())
    if text.startswith(SAID):
        return text.removeprefix(SAID)
    return UNSAID if not text or text.startswith("<") else f"A still of an explorer: {text}"


class _Renderer(IPythonRenderer):
    """Markdown as nbconvert renders it, but for its formulas."""

    def block_math(self, body: str) -> str:
        return mathml(body, block=True)

    def multiline_math(self, text: str) -> str:
        return mathml(text.strip("$"), block=True)

    def inline_math(self, body: str) -> str:
        return mathml(body)

    def latex_environment(self, name: str, body: str) -> str:
        return mathml(rf"\begin{{{name}}}{body}\end{{{name}}}", block=True)


def markdown_to_html(source: str) -> str:
    """Markdown of a cell as HTML."""
    return MarkdownWithMath(renderer=_Renderer(escape=False)).render(source)


def described(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """Returns a copy in which each picture's description stands where nbconvert looks for alternative text."""
    copy = deepcopy(notebook)
    for cell in copy.cells:
        for output in cell.get("outputs", []):
            if "image/png" in output.get("data", {}):
                output.metadata["alt"] = description(output.data)
    return copy


def html_copy(notebook: nbformat.NotebookNode, name: str) -> str:
    """The notebook as one HTML file that needs no network."""
    exporter = HTMLExporter(raw_template=OFFLINE)
    exporter.register_filter("markdown2html", markdown_to_html)
    return exporter.from_notebook_node(described(notebook), {"metadata": {"name": name}})[0]
