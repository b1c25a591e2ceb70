"""What every notebook looks like, and that the solution of each exercise is right. CONTRIBUTING.md gives the rules."""

from __future__ import annotations

import os
import re
import statistics
import subprocess
import sys
from pathlib import Path

import build
import nbformat
import pytest

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "notebooks"
STORED = build.workbook()  # the dashboard, too
NOTEBOOKS = [path for path in STORED if path.name[0].isdigit()]
MACHINE = re.compile("(?<![\\w.])/(?:" + "home|root|tmp|work|Users|usr" + r")/\w|[A-Z]:\\\w")
SWITCHED_OFF = re.compile("nbval[-_](?:skip|ignore|check|raises)|raises-exception", re.IGNORECASE)
SOLUTION = re.compile(r"%load solutions/(\d\d_\d+\.py)")

every_stored = pytest.mark.parametrize("path", STORED, ids=[path.stem for path in STORED])
every_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=[path.stem for path in NOTEBOOKS])


def read(path: Path) -> nbformat.NotebookNode:
    return nbformat.read(path, as_version=4)


def code_cells(path: Path) -> list[nbformat.NotebookNode]:
    return [cell for cell in read(path).cells if cell.cell_type == "code"]


def texts(path: Path) -> list[str]:
    """Sources and stored outputs as text, pictures left out."""
    found = []
    for cell in read(path).cells:
        found.append(cell.source)
        for output in cell.get("outputs", []):
            found.append(output.get("text", ""))
            found += [value for kind, value in output.get("data", {}).items() if kind.startswith("text/")]
    return [text for text in found if isinstance(text, str)]


def opening(path: Path) -> str:
    """The Markdown before the first code cell."""
    cells = read(path).cells
    first = next(number for number, cell in enumerate(cells) if cell.cell_type == "code")
    return "\n\n".join(cell.source for cell in cells[:first])


def exercises(path: Path) -> list[tuple[str, str]]:
    """For each exercise the stub's source and that of the cell which checks it."""
    cells = code_cells(path)
    numbers = [n for n, cell in enumerate(cells) if "exercise" in cell.metadata.get("tags", [])]
    assert all(number + 1 < len(cells) for number in numbers), "an exercise without the cell that checks it"
    return [(cells[number].source, cells[number + 1].source) for number in numbers]


def without_magics(source: str) -> str:
    return "\n".join(line for line in source.splitlines() if not line.lstrip().startswith(("%", "!")))


def test_the_spine_is_complete():
    assert [path.stem for path in NOTEBOOKS[:6]] == list(build.SPINE)


@every_notebook
def test_stored_is_one_clean_run(path):
    cells = [cell for cell in code_cells(path) if cell.source.strip()]
    assert len(cells) >= 5
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))


@every_stored
def test_stored_in_canonical_form(path):
    assert build.text_of(build.canonical(read(path))) == path.read_text(encoding="utf-8"), "run `make refresh`"


@every_stored
def test_no_error_and_no_warning_is_stored(path):
    outputs = [output for cell in code_cells(path) for output in cell.outputs]
    assert not [output for output in outputs if output.output_type == "error"]
    assert not [output.text for output in outputs if output.get("name") == "stderr"]


@every_stored
def test_small(path):
    assert path.stat().st_size <= 400_000


@every_stored
def test_no_path_of_a_machine(path):
    assert not [found.group() for text in texts(path) for found in MACHINE.finditer(text)]


@every_stored
def test_comparison_is_never_switched_off(path):
    for cell in code_cells(path):
        assert not SWITCHED_OFF.search(cell.source + " ".join(cell.metadata.get("tags", [])))


@every_notebook
def test_opening(path):
    title, *_ = read(path).cells[0].source.splitlines()
    assert title.startswith("# "), title
    assert title.endswith("?"), "the title is a question"
    text = opening(path).lower()
    assert "you will" in text
    row = [line for line in text.splitlines() if line.lstrip().startswith("|")]
    assert {word for word in ("needs", "runtime", "memory", "data") if word not in " ".join(row)} == set()


@every_notebook
def test_closing(path):
    markdown = [cell.source for cell in read(path).cells if cell.cell_type == "markdown"]
    headings = re.findall(r"^## +(.+)$", "\n".join(markdown), re.MULTILINE)
    for heading in ("Exercises", "Summary", "Reading"):
        assert any(found.startswith(heading) for found in headings), f"no heading `## {heading}`"
    names = [p.name for p in NOTEBOOKS]
    place = names.index(path.name)
    neighbours = names[max(0, place - 1) : place] + names[place + 1 : place + 2]
    assert [name for name in neighbours if f"({name})" not in markdown[-1]] == [], "links in the last cell"


@every_stored
def test_links_lead_somewhere(path):
    links = re.findall(r"\]\(([^)\s#]+)", "\n".join(c.source for c in read(path).cells if c.cell_type == "markdown"))
    local = [link for link in links if "://" not in link and not link.startswith("attachment:")]
    assert [link for link in local if not (FOLDER / link).exists()] == []


@every_notebook
def test_cells_are_short(path):
    lengths = [len(cell.source.strip().splitlines()) for cell in code_cells(path)]
    assert statistics.median(lengths) <= 6
    assert lengths[0] <= 6, "the set-up cell"


@every_notebook
def test_claims_are_checked(path):
    assert sum("ok: " in text for text in texts(path)) >= 3


@every_notebook
def test_each_exercise_names_a_solution(path):
    found = [SOLUTION.findall(stub) for stub, _ in exercises(path)]
    assert found, "no exercise"
    number = path.name[:2]
    assert found == [[f"{number}_{n}.py"] for n in range(1, len(found) + 1)]
    assert sorted(p.name for p in (FOLDER / "solutions").glob(f"{number}_*.py")) == sorted(
        name for names in found for name in names
    )


@every_notebook
def test_solutions_solve(path, tmp_path):
    parts = [without_magics(code_cells(path)[0].source)]
    for stub, asked in exercises(path):
        solution = (FOLDER / "solutions" / SOLUTION.search(stub)[1]).read_text(encoding="utf-8")
        parts += [solution, "print('--')", without_magics(asked)]
    program = tmp_path / "solved.py"
    program.write_text("\n\n".join(parts), encoding="utf-8")
    environment = os.environ | {"MPLBACKEND": "agg", "CTMEM_RESULTS": str(tmp_path)}
    ran = subprocess.run(
        [sys.executable, str(program)], cwd=FOLDER, env=environment, capture_output=True, encoding="utf-8", timeout=120
    )
    assert ran.returncode == 0, ran.stderr
    for said in ran.stdout.split("--\n")[1:]:
        assert said.endswith(": right\n"), said


@every_notebook
def test_exercises_are_left_open(path):
    cells = code_cells(path)
    asked = [cells[n + 1] for n, cell in enumerate(cells) if "exercise" in cell.metadata.get("tags", [])]
    for cell in asked:
        assert "".join(output.get("text", "") for output in cell.outputs).endswith(": not tried yet\n")


@every_stored
def test_explorers_are_clicked_and_shown(path):
    """A notebook with an explorer stores its picture, and what it said to a simulated click: nbval compares that."""
    cells = [cell for cell in code_cells(path) if "explorer" in cell.metadata.get("tags", [])]
    assert bool(cells) == any("Explorer(" in cell.source for cell in code_cells(path))
    if not cells:
        return
    data = [output.get("data", {}) for cell in cells for output in cell.outputs]
    assert any("image/png" in shown and re.match(r"(\w+Explorer|Tabs)\(", shown["text/plain"]) for shown in data)
    source = "".join(cell.source for cell in cells)
    assert re.search(r"\.(pixel|source) = \(", source), "no simulated click"


# --- the form of a lesson ---------------------------------------------------------------------------------------------


def markdown_of(path: Path) -> str:
    return "\n\n".join(cell.source for cell in read(path).cells if cell.cell_type == "markdown")


def figures(path: Path) -> list[tuple[str, nbformat.NotebookNode | None]]:
    """For each figure its text, and the cell below it; explorers tell of themselves."""
    cells = read(path).cells
    return [
        (output.data["text/plain"], below)
        for cell, below in zip(cells, [*cells[1:], None])
        if cell.cell_type == "code" and "explorer" not in cell.metadata.get("tags", [])
        for output in cell.outputs
        if "image/png" in output.get("data", {})
    ]


@every_notebook
def test_a_notebook_tells_level_and_study_time(path):
    row = " ".join(line for line in opening(path).lower().splitlines() if line.startswith("|"))
    assert {word for word in ("level", "study time", "min") if word not in row} == set()
    assert "glossary.md" in opening(path)


@every_notebook
def test_code_lines_fit_a_small_screen(path):
    lines = [line for cell in code_cells(path) for line in cell.source.splitlines()]
    assert [line for line in lines if len(line) > 100] == []


@every_notebook
def test_figures_are_described_and_followed_by_text(path):
    found = figures(path)
    assert len(found) >= 5
    assert [text for text, _ in found if not re.match(r"Picture: \w.{20}", text)] == []
    assert [text for text, below in found if below is None or below.cell_type != "markdown"] == []


@every_notebook
def test_a_notebook_shows_where_it_breaks(path):
    headings = re.findall(r"^## +(.+)$", markdown_of(path), re.MULTILINE)
    assert "Where it breaks" in headings
    assert headings.index("Where it breaks") < headings.index("Exercises")


@every_notebook
def test_exercises(path):
    """Four or five: one predicts a number, one breaks something, one is open and has a rubric."""
    asked = re.split(r"^## ", markdown_of(path).split("\n## Exercises")[1], flags=re.MULTILINE)[0]
    numbers = re.findall(r"^\*\*(\d)\.", asked, re.MULTILINE)
    assert numbers == [str(n) for n in range(1, len(numbers) + 1)]
    assert 4 <= len(numbers) <= 5
    assert len(numbers) == len(exercises(path)) + 1  # the open one has no check
    for word in ("Predict", "Break it on purpose", "Open.", "| 0 | 1 | 2 |"):
        assert word in asked, word


@every_notebook
def test_summary_has_three_sentences(path):
    summary = markdown_of(path).split("\n## Summary")[1].split("\n## ")[0].strip()
    assert len(re.findall(r"[.!?](?=\s|$)", summary)) == 3


def test_solutions_belong_to_a_notebook():
    numbers = {path.name[:2] for path in NOTEBOOKS}
    assert {path.name[:2] for path in (FOLDER / "solutions").glob("*.py")} <= numbers


def test_figures_quoted_from_the_benchmark_are_its_own():
    """Notebook 04 quotes likeness and added share, of validation and test, from benchmarks/results/matching.md."""
    results = (ROOT / "benchmarks" / "results" / "matching.md").read_text(encoding="utf-8")
    parts = [results.split(f"## Los Angeles, {name}\n")[1].split("\n## ")[0] for name in ("validation", "test")]
    rows = [
        dict(line.strip("| ").split(" | ", 1) for line in part.splitlines() if line.count(" | ") == 4) for part in parts
    ]
    cells = nbformat.read(ROOT / "notebooks" / "04_patch_matching.ipynb", 4).cells
    (text,) = [cell.source for cell in cells if "| option | likeness" in cell.source]
    quoted = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| ")][1:]
    assert len(quoted) > 10
    for name, *figures in quoted:
        values = [row[name].split(" | ") for row in rows]
        assert figures == [value[i].strip() for value in values for i in (0, 2)], name


def test_sections_that_the_lecture_names_are_there():
    """docs/teaching.md names sections by parts of their titles, in quotation marks."""
    rows = [
        line
        for line in (ROOT / "docs" / "teaching.md").read_text(encoding="utf-8").splitlines()
        if re.match(r"\| \d", line)
    ]
    named = re.findall(r'"([^"]+)"', " ".join(rows))
    headings = "\n".join(re.findall(r"^## .+$", "\n".join(map(markdown_of, NOTEBOOKS)), re.MULTILINE))
    assert len(named) >= 5
    assert [title for title in named if title not in headings] == []


def seconds_in(text: str) -> int:
    return int(re.search(r"\b(\d+) s\b", text)[1])


def test_runtimes_are_those_that_were_measured():
    """README and openings say what benchmarks/results/notebooks.md has, to a fifth and five seconds."""
    measured = dict(
        re.findall(
            r"^\| (\w+) \| (\d+) \|",
            (ROOT / "benchmarks" / "results" / "notebooks.md").read_text(encoding="utf-8"),
            re.MULTILINE,
        )
    )
    readme = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    for path in STORED:
        row = next(line for line in readme if f"(notebooks/{path.name})" in line and line.startswith("|"))
        assert seconds_in(row) == pytest.approx(int(measured[path.stem]), rel=0.2, abs=5), path.name
        if path in NOTEBOOKS:
            lines = opening(path).splitlines()
            head = next(number for number, line in enumerate(lines) if line.startswith("|") and "runtime" in line)
            assert seconds_in(lines[head + 2]) == seconds_in(row), path.name
