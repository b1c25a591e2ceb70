"""Text files with numbers: what people and spreadsheets write is read, or refused with the line that is wrong."""

import os
import warnings

import numpy as np
import pytest
import torch

from ctmem.observe.camera import Camera
from ctmem.reading.numbers import as_nm, read_numbers, read_text
from ctmem.train.sources import read_response

COLUMN = [[400.5], [410.0], [420.25]]
FORMS = {
    "plain": "400.5\n410\n420.25\n",
    "lines of Windows": "400.5\r\n\r\n410\r\n420.25\r\n",
    "old lines": "400.5\r410\r420.25",
    "header": "wavelength\n400.5\n410\n420.25",
    "decimal comma behind a header": "Wellenlänge (nm)\n400,5\n410\n420,25\n",
    "decimal comma": "400,5\n410,0\n420,25\n",
    "decimal comma in quotes": '"400,5"\n"410,0"\n"420,25"\n',
    "numbered": "1,400.5\n2,410\n3,420.25\n",
    "numbered from 0, with a header": "band,nm\n0,400.5\n1,410\n2,420.25",
    "numbered, decimal comma": "Nr;nm\n1;400,5\n2;410,0\n3;420,25\n",
    "tabs, decimal comma": "1\t400,5\n2\t410,0\n3\t420,25\n",
    "names": "B1 400.5\nB2 410\nB3 420.25\n",
    "empty columns": "400,5;;\n410;;\n420,25;;\n;;\n",
    "units": "400.5 nm\n410 nm\n420.25nm\n",
    "comments": "# centres\n400.5 # blue\n% more\n410\n\n420.25\n",
    "exponents": "4.005e2\n+4.1E+02\n420.25\n",
    "end commas": "400.5,\n410,\n420.25\n",
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.filterwarnings("ignore:.*the comma is read as a decimal mark")
def test_a_column_in_every_form(tmp_path, form):
    (tmp_path / "a.txt").write_text(FORMS[form], encoding="utf-8", newline="")
    assert read_numbers(tmp_path / "a.txt").tolist() == COLUMN


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "cp1252", "latin-1"])
def test_every_encoding(tmp_path, encoding):
    (tmp_path / "a.txt").write_bytes("Nr;Wellenlänge\r\n1;400,5\r\n2;410\r\n3;420,25\r\n".encode(encoding))
    assert read_text(tmp_path / "a.txt").startswith("Nr;Wellenlänge\n1;400,5\n")
    assert read_numbers(tmp_path / "a.txt").tolist() == COLUMN


@pytest.mark.parametrize(
    "text",
    ["0.1,0.2,0.7\n0,1,0", "0.1 0.2 0.7\n0 1 0\n", "0,1;0,2;0,7\n0;1;0\n", "0,1 0,2 0,7\n0 1 0\n", "B2,0.1,0.2,0.7\nB3,0,1,0",
     "band\t1\t2\t3\nB2\t0,1\t0,2\t0,7\nB3\t0\t1\t0\n", "[[0.1, 0.2, 0.7],\n [0, 1, 0]]"],
)  # fmt: skip
def test_rows_in_every_form(tmp_path, text):
    (tmp_path / "a.csv").write_text(text, encoding="utf-8")
    found = read_numbers(tmp_path / "a.csv").tolist()
    assert found[-2:] == [[0.1, 0.2, 0.7], [0, 1, 0]]


def test_one_line(tmp_path):
    for text in ("400 410.5 420", "400, 410.5, 420\n", "[400,410.5,420]", "400;410,5;420"):
        (tmp_path / "a.txt").write_text(text, encoding="utf-8")
        assert read_numbers(tmp_path / "a.txt").tolist() == [[400, 410.5, 420]]


def test_a_comma_that_could_be_either_is_said(tmp_path):
    (tmp_path / "a.txt").write_text("400,10\n410,10\n", encoding="utf-8")
    with pytest.warns(
        RuntimeWarning, match="a.txt: the comma is read as a decimal mark, '400,10' as 400.10; a semicolon"
    ):
        assert read_numbers(tmp_path / "a.txt").tolist() == [[400.1], [410.1]]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        (tmp_path / "a.txt").write_text("nm,width\n400,10\n410,10\n", encoding="utf-8")
        assert read_numbers(tmp_path / "a.txt").tolist() == [[400, 10], [410, 10]]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("400\nfour\n420", "numbers, got 'four' in line 2 of a.txt"),
        ("head\n\n400\n4 10\n", "as many numbers in every line, got 2 in line 4 and 1 in line 3 of a.txt"),
        ("400\nnan\n", "got 'nan' in line 2"),
        ("nan\n400\n", "got 'nan' in line 1"),
        ("1e999\n", "got '1e999' in line 1"),
        ("4_00\n410\n", "got '4_00' in line 1"),
        ("1;400,5\n2;410.5\n", "got '400,5' in line 1"),
        ("9" * 5000, "got '9999999999999999999999999999999999999999' in line 1"),
        ("", "numbers, got a.txt, which holds none"),
        ("blue green red", "numbers, got a.txt, which holds none"),
        ("4\0" * 100 + "\0" * 101, "a text file, got a.txt, which holds bytes of zero"),
        ("1;" * 100_001, "at most 100,000 numbers, got 100,001 in a.txt"),
        ("1 " * 600_000, "a text file of at most 1.05 MB, got a.txt of 1.2 MB"),
    ],
)
def test_what_is_wrong_is_named(tmp_path, text, message):
    (tmp_path / "a.txt").write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=f"`path` must be .*{message}"):
        read_numbers(tmp_path / "a.txt")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes in folders there")
def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "a.txt")
    with pytest.raises(ValueError, match="`path` must be a regular file, got a.txt, a pipe"):
        read_numbers(tmp_path / "a.txt")


def test_micrometres(tmp_path):
    with pytest.warns(RuntimeWarning, match=r"a.txt: 0.4 to 2.5 are read as µm, not nm"):
        assert as_nm(np.array([0.4, 2.5]), "a.txt").tolist() == [400, 2500]
    assert as_nm(np.array([400.0, 12000.0]), "a.txt").tolist() == [400, 12000]
    for odd in ([0.4, 400.0], [50.0, 400.0], [0.0, 0.1], [-1.0, 500.0]):
        with pytest.raises(ValueError, match="`path` must be wavelengths in nm, or all of them in µm, got"):
            as_nm(np.array(odd), "a.txt")


# --- as a response ---

CAMERA = Camera.gaussian(scale=4)
CENTRES = np.linspace(430, 900, 30)
ROWS = np.random.default_rng(0).random((4, 30)) + 0.01


def response(tmp_path, text):
    (tmp_path / "a.txt").write_text(text, encoding="utf-16")
    return read_response(tmp_path / "a.txt", 30, CAMERA).srf


def lines(table, mark=";"):
    return "\n".join(mark.join(f"{value:.6f}".replace(".", ",") for value in row) for row in table)


def test_centres_by_excel_are_those_of_the_numbers(tmp_path):
    expected = CAMERA.for_wavelengths(CENTRES.round(6)).srf
    assert torch.equal(response(tmp_path, "nm\n" + lines([[nr, nm] for nr, nm in enumerate(CENTRES, 1)])), expected)
    with pytest.warns(RuntimeWarning, match="0.43 to 0.9 are read as µm"):
        micrometres = response(tmp_path, "\n".join(f"{nm / 1000:.9f}" for nm in CENTRES))
    assert micrometres.allclose(expected, atol=1e-5)


def test_a_response_may_lie_either_way_with_or_without_centres(tmp_path):
    expected = torch.tensor(ROWS / ROWS.sum(1, keepdims=True)).float()
    for table in (ROWS, ROWS.T, np.vstack([CENTRES, ROWS]), np.vstack([CENTRES, ROWS]).T):
        assert response(tmp_path, lines(table)).allclose(expected, atol=1e-5)
    (tmp_path / "a.txt").write_text(lines(ROWS[:1]), encoding="utf-8")  # one row is a response, not wavelengths
    one = read_response(tmp_path / "a.txt", 30, Camera.gaussian(scale=4, bands=("B02",)))
    assert one.srf.shape == (1, 30)


def test_lines_that_repeat_are_named(tmp_path):
    twice = [*CENTRES[:5], *CENTRES[4:]]
    with pytest.raises(
        ValueError, match=r"30 centres in nm, or 4 rows of 30 numbers, got \(31,\) in a.txt, where 1 line\(s\)"
    ):
        response(tmp_path, lines([[nm] for nm in twice]))
