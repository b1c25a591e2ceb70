"""notebooks/build.py: one canonical form, a clear stop at the first failing cell, the table."""

from __future__ import annotations

import build
import nbformat
import pytest
from nbformat import v4


def save(path, *sources):
    nbformat.write(v4.new_notebook(cells=[v4.new_code_cell(source) for source in sources]), path)
    return path


@pytest.fixture
def notebooks(tmp_path, monkeypatch):
    """A folder with a spine of two notebooks, the last of which leaves a table."""
    monkeypatch.setattr(build, "HERE", tmp_path)
    monkeypatch.setattr(build, "SPINE", ("00_a", "01_b"))
    monkeypatch.setenv("CTMEM_RESULTS", "unused")
    save(tmp_path / "00_a.ipynb", "print('first')")
    leave = "(results_folder() / 'comparison.csv').write_text('method,psnr_db\\nbicubic,24.12345\\nctmem,25\\n')"
    save(tmp_path / "01_b.ipynb", "from ctmem.teaching import results_folder", f"n = {leave}")
    return tmp_path


@pytest.mark.enable_socket
def test_refreshing_twice_changes_no_byte(tmp_path):
    path = save(
        tmp_path / "one.ipynb",
        "import sys, matplotlib.pyplot as plt",
        "print(1); print(2, file=sys.stderr); print(3)",
        "figure, axes = plt.subplots(figsize=(1, 1)); axes.plot([1, 3, 2]);",
        "import ipywidgets; ipywidgets.IntSlider()",
    )
    build.main(["refresh", str(path)])
    first = path.read_bytes()
    build.main(["refresh", str(path)])
    assert path.read_bytes() == first
    stored = nbformat.read(path, as_version=4)
    assert [cell.execution_count for cell in stored.cells] == [1, 2, 3, 4]
    assert "image/png" in stored.cells[2].outputs[0].data
    assert build.WIDGET not in stored.cells[3].outputs[0].data
    assert "widgets" not in stored.metadata


@pytest.mark.enable_socket
def test_a_failing_notebook_stays_as_it_was(tmp_path):
    path = save(tmp_path / "two.ipynb", "a = 1", "b = a / 0  # here", "c = 3")
    before = path.read_bytes()
    with pytest.raises(SystemExit) as stop:
        build.main(["refresh", str(path)])
    message = str(stop.value)
    assert "two.ipynb, cell 2 failed" in message
    assert "b = a / 0  # here" in message
    assert "ZeroDivisionError: division by zero" in message
    assert "\x1b" not in message
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["two.ipynb"]


@pytest.mark.enable_socket
def test_a_dead_kernel_is_named(tmp_path):
    path = save(tmp_path / "three.ipynb", "import os, signal; os.kill(os.getpid(), signal.SIGKILL)")
    with pytest.raises(SystemExit, match="three.ipynb, cell 1 failed(.|\n)*the kernel died"):
        build.main(["refresh", str(path)])


@pytest.mark.enable_socket
def test_run_leaves_notebooks_html_and_prints_the_table(notebooks, capsys):
    output = notebooks / "results"
    build.main(["run", "--output", str(output)])
    names = ["00_a.html", "00_a.ipynb", "01_b.html", "01_b.ipynb", "comparison.csv"]
    assert sorted(path.name for path in output.iterdir()) == names
    assert "first" in (output / "00_a.html").read_text(encoding="utf-8")
    lines = capsys.readouterr().out.splitlines()
    assert lines[-3:] == ["method   PSNR/dB ↑", "bicubic      24.12", "ctmem        25.00"]


@pytest.mark.enable_socket
def test_run_stops_at_the_first_failure(notebooks):
    output = notebooks / "results"
    output.mkdir()
    (output / "01_b.html").write_text("of an earlier run", encoding="utf-8")
    save(notebooks / "00_a.ipynb", "raise RuntimeError('no scene')")
    with pytest.raises(SystemExit, match="00_a.ipynb, cell 1 failed(.|\n)*no scene"):
        build.main(["run", "--output", str(output)])
    assert list(output.iterdir()) == []


def test_run_names_missing_notebooks(notebooks):
    (notebooks / "01_b.ipynb").unlink()
    with pytest.raises(SystemExit, match="notebooks missing .*: 01_b"):
        build.main(["run", "--output", str(notebooks / "results")])
    assert not (notebooks / "results").exists()


@pytest.mark.enable_socket
def test_a_run_without_a_table_is_an_error(notebooks):
    save(notebooks / "01_b.ipynb", "print('no table')")
    with pytest.raises(SystemExit, match="01_b left no comparison.csv"):
        build.main(["run", "--output", str(notebooks / "results")])
