"""What the site, slides and HTML copies are made of, without Sphinx: words, formulas, links, the explorer's cube, slides."""

from __future__ import annotations

import base64
import importlib.util
import json
import re
import sys
from pathlib import Path

import copies
import nbformat
import numpy as np
import pytest

from ctmem.data.scenes import load_scene

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "docs"), str(ROOT / "docs" / "site")]

import cube  # noqa: E402
import make_site  # noqa: E402
import make_slides  # noqa: E402

DOT = base64.b64encode(b"a picture").decode("ascii")


def notebook(*cells: dict) -> nbformat.NotebookNode:
    return nbformat.v4.new_notebook(cells=list(cells))


def figure(text: str) -> dict:
    """A code cell with a stored picture, and the text beside it."""
    data = {"image/png": DOT, "text/plain": text}
    return nbformat.v4.new_code_cell("show()", outputs=[nbformat.v4.new_output("execute_result", data)])


def test_a_picture_says_what_its_output_says():
    assert copies.description({"text/plain": "Picture: a field,\n seen"}) == "a field, seen"
    assert (
        copies.description({"text/plain": "BandExplorer(pines: 2×3 px)"})
        == "A still of an explorer: BandExplorer(pines: 2×3 px)"
    )
    assert copies.description({"text/plain": "<Picture size 1x1>"}) == copies.description({}) == copies.UNSAID


def test_the_html_copy_has_words_and_formulas_and_fetches_nothing():
    text = "# Which?\n\n$x_t$ and\n\n$$y = \\sqrt{\\bar\\alpha_t}\\,x < 1$$\n\ncosts \\$5"
    before = notebook(nbformat.v4.new_markdown_cell(text), figure('Picture: a "field" & more'))
    kept = nbformat.writes(before)
    page = copies.html_copy(before, "one")
    assert nbformat.writes(before) == kept
    assert page.count("<math") == 2
    assert 'display="block"' in page
    assert "sqrt{" not in page
    read = make_site.Page(page)
    assert [address for address in read.fetched if not address.startswith("data:")] == []
    assert 'alt="a &quot;field&quot; &amp; more"' in page or "alt='a \"field\" &amp; more'" in page
    assert "http" not in re.sub(r"<style.*?</style>|http://www\.w3\.org\S*", "", page, flags=re.DOTALL)


@pytest.mark.parametrize(
    ("tex", "parts"),
    [
        (r"\frac{a}{b}", ["<mfrac><mrow><mi>a</mi></mrow><mrow><mi>b</mi></mrow></mfrac>"]),
        (r"\hat x_0", ['<mover accent="true">', "<mi>x</mi>", "<mn>0</mn>"]),
        (r"a \to b", ["<mi>a</mi>", "→", "<mi>b</mi>"]),
    ],
    ids=["fraction", "hat", "arrow"],
)
def test_formulas_are_mathml(tex, parts):
    found = copies.mathml(tex)
    assert found.startswith("<math")
    assert [part for part in parts if part not in found and part.replace("→", "&#x02192;") not in found] == []


def test_every_formula_of_the_notebooks_can_be_drawn():
    formulas = []
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        for cell in nbformat.read(path, as_version=4).cells:
            if cell.cell_type == "markdown":
                formulas += re.findall(r"\$\$(.+?)\$\$|(?<![\\$])\$([^$\n]+)\$", cell.source, re.DOTALL)
    assert len(formulas) > 50
    for block, inline in formulas:
        found = re.sub(r"<[^>]*>", "", copies.mathml(block or inline, block=bool(block)))
        assert "\\" not in found, block or inline  # a command that was not understood stays as it is


def test_the_check_of_the_site_finds_what_is_wrong(tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "two.html").write_text('<h1 id="here">2</h1><img src="../a.png" alt="words">', encoding="utf-8")
    (tmp_path / "a.png").write_bytes(b"")
    (tmp_path / "one.html").write_text(
        '<a href="sub/two.html#here">good</a><a href="#top" id="top">good</a><a href="https://example.org">elsewhere</a>'
        '<a href="sub/two.html#gone">bad</a><a href="gone.html">bad</a><img src="a.png"><script src="//example.org/x.js"></script>',
        encoding="utf-8",
    )
    assert make_site.faults(tmp_path) == [
        "one.html: a picture without words: a.png",
        "one.html: fetched from elsewhere: //example.org/x.js",
        "one.html: leads nowhere: sub/two.html#gone",
        "one.html: leads nowhere: gone.html",
    ]


def test_the_explorers_cube_is_the_scene(tmp_path):
    cube.write_cube(tmp_path / "cube.js")
    text = (tmp_path / "cube.js").read_text(encoding="utf-8")
    assert len(text) < 1_000_000
    held = json.loads(re.fullmatch(r"window\.ctmemCube = (.*);\n", text)[1])
    rows, columns, bands = held["shape"]
    numbers = np.frombuffer(base64.b64decode(held["data"]), np.uint8).reshape(bands, rows, columns)
    low, high = np.array(held["limits"]).T[..., None, None]
    scene = load_scene("indian_pines")
    truth = scene.cube[:rows, :columns, ::2].transpose(2, 0, 1)  # the training area is on top
    assert np.abs(low + (high - low) * numbers / 255 - truth).max() <= 0.5 / 255 * (high - low).max() + 1e-4
    red, green, blue = (held["wavelengths_nm"][band] for band in held["views"]["true colour"])
    assert red == pytest.approx(650, abs=15)
    assert (green, blue) == (pytest.approx(550, abs=15), pytest.approx(460, abs=15))


def printed(text: str, tags: list[str] | None = None) -> nbformat.NotebookNode:
    output = nbformat.v4.new_output("stream", name="stdout", text=f"{text}\n")
    return nbformat.v4.new_code_cell("print()", outputs=[output], metadata={"tags": tags or []})


def test_a_last_sentence_that_announces_is_left_out():
    assert make_slides.paragraphs("One. By hand, for one field:") == "One."
    assert make_slides.paragraphs("One: two.") == "One: two."


def test_slides_are_sections_and_figures():
    cells = [
        nbformat.v4.new_markdown_cell("# A question?\n\nWhy.\n\n| a |\n|---|"),
        nbformat.v4.new_markdown_cell("## 1 · Look\n\nFirst `x`.\n\nSecond."),
        figure("Picture: two fields"),
        nbformat.v4.new_markdown_cell("One is green. By hand, for one field:"),
        printed("a | 1", tags=["slide"]),
        printed("left out"),
        nbformat.v4.new_markdown_cell("## Exercises\n\nTry."),
        figure("Picture: left out"),
        nbformat.v4.new_markdown_cell("## Summary\n\nDone."),
    ]
    columns = make_slides.slides(notebook(*cells))
    assert [len(column) for column in columns] == [1, 3, 1]
    assert [re.search(r"<h2>(.*?)</h2>", column[0])[1] for column in columns] == ["A question?", "1 · Look", "Summary"]
    assert "<p>First <code>x</code>.</p>\n<p>Second.</p>" in columns[1][0]
    assert 'alt="two fields"' in columns[1][1]
    assert '<p class="said" aria-hidden="true">two fields</p>' in columns[1][1]
    assert "<pre" not in columns[1][1]
    assert '<pre tabindex="0">a | 1</pre>' in columns[1][2]
    assert "left out" not in str(columns)
    assert "|" not in columns[0][0]


@pytest.mark.skipif(
    importlib.util.find_spec("sphinx_revealjs") is None, reason="needs the extra site, which brings reveal.js"
)
def test_a_file_of_slides_fetches_nothing(tmp_path):
    make_slides.main(["--output", str(tmp_path)])
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"{name}.html" for name in make_slides.CHOSEN]
    assert "data:image/webp" in (tmp_path / "04_patch_matching.html").read_text(encoding="utf-8")  # what moves, too
    for path in tmp_path.iterdir():
        text = path.read_text(encoding="utf-8")
        assert [link for link in make_site.Page(text).links if not link.startswith("https://")] == []
        assert [address for address in make_site.Page(text).fetched if not address.startswith("data:")] == []
        assert make_site.Page(text).wordless == []
        assert "Reveal.initialize" in text
        assert "url(http" not in text


@pytest.mark.parametrize("name", ["diffusion", "scan", "match"])
def test_animations_are_small_and_have_a_still(name):
    from PIL import Image

    path = ROOT / "docs" / "images" / f"{name}.webp"
    assert path.stat().st_size <= 300_000
    with Image.open(path) as moving, Image.open(path.with_name(f"{name}_still.png")) as still:
        assert moving.n_frames > 20
        assert moving.info["loop"] == 3  # then it stops
        assert moving.size == still.size
