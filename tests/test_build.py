"""notebooks/build.py: one canonical form, a clear stop at the first failing cell, the table."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time

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


def test_a_students_copy_has_no_solutions_and_overwrites_nothing(tmp_path, capsys):
    build.main(["student", "--output", str(tmp_path / "class")])
    copies = sorted((tmp_path / "class").glob("*.ipynb"))
    assert [copy.name for copy in copies] == sorted(path.name for path in build.workbook())
    stubs = 0
    for copy in copies:
        cells = nbformat.read(copy, as_version=4).cells
        before = nbformat.read(build.HERE / copy.name, as_version=4).cells
        text = "".join(cell.source for cell in cells)
        assert [word for word in ("solutions/", "solutions`", "Solution:", "%load") if word in text] == []
        assert [cell.get("outputs") for cell in cells] == [cell.get("outputs") for cell in before]
        for cell in cells:
            if "exercise" in cell.metadata.get("tags", []):
                stubs += 1
                compile(cell.source, copy.name, "exec")
                assert cell.source.startswith("# Exercise ")
                assert "..." in cell.source
    assert stubs >= 27
    capsys.readouterr()
    with pytest.raises(SystemExit, match="is there already, perhaps with answers: name another --output"):
        build.main(["student", "--output", str(tmp_path / "class")])


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


# --- interruptions, other runs, disks ---

BUILD = [sys.executable, build.__file__]


def saying(*arguments, before="", cwd):
    """Exit status and the lines of its errors, in a process of its own."""
    command = [*BUILD, *map(str, arguments)]
    if before:
        command = ["sh", "-c", f'{before}; exec "$@"', "sh", *command]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", cwd=cwd)
    return done.returncode, done.stderr.strip().splitlines()


def test_ctrl_c_ends_in_one_line_and_leaves_the_notebook_and_no_lock(tmp_path):
    path = save(tmp_path / "slow.ipynb", "open('begun', 'x').close(); import time; time.sleep(600)")
    before = path.read_bytes()
    running = subprocess.Popen([*BUILD, "refresh", str(path)], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    while not (tmp_path / "begun").exists():
        assert running.poll() is None, running.stderr.read()
        time.sleep(0.1)
    code, lines = saying("refresh", path, cwd=tmp_path)  # a second one, meanwhile
    assert (code, len(lines)) == (1, 1)
    assert f"process {running.pid} on {socket.gethostname()} has written to it since" in lines[0]
    running.send_signal(signal.SIGINT)
    _, said = running.communicate(timeout=30)
    assert running.returncode == 130
    assert said.decode().split() == build.STOPPED.split()
    assert path.read_bytes() == before
    assert sorted(one.name for one in tmp_path.iterdir()) == ["begun", "slow.ipynb"]


@pytest.mark.skipif(os.name == "nt", reason="limits of files are POSIX's")
@pytest.mark.parametrize("limit", [0, 1])
def test_a_full_disk_is_one_line(tmp_path, limit):
    path = save(tmp_path / "long.ipynb", "print('a' * 5000)")
    before = path.read_bytes()
    code, lines = saying("refresh", path, before=f"ulimit -f {limit}", cwd=tmp_path)
    assert (code, len(lines)) == (1, 1)
    assert lines[0].startswith("error: ")
    assert path.read_bytes() == before
    assert [one.name for one in tmp_path.iterdir()] == ["long.ipynb"]


def test_what_cannot_be_read_or_written_is_one_line(tmp_path):
    (tmp_path / "file").write_text("no notebook", encoding="utf-8")
    for arguments in (["run", "--output", "file/results"], ["refresh", "no.ipynb"], ["refresh", "file"]):
        with pytest.raises(SystemExit) as stop:
            build.main([arguments[0], *(str(tmp_path / one) if one[0] != "-" else one for one in arguments[1:])])
        assert str(stop.value).startswith("\nerror: ") and str(stop.value).count("\n") == 1
    assert [one.name for one in tmp_path.iterdir()] == ["file"]
