"""A real JupyterLab (or Voilà) and a real Chromium, for the tests here and for benchmarks/explorers.py.

Notebooks are copied to a folder of their own first: nothing that a browser saves can change the repository.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import build
import nbformat

ROOT = Path(__file__).resolve().parents[2]
CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
FLAGS = (
    "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--force-device-scale-factor=1", "--hide-scrollbars",
)  # fmt: skip
VIEWPORT = {"width": 1366, "height": 768}  # of a small laptop
NOTEBOOKS = (  # with an explorer
    "01_data_construction.ipynb",
    "04_patch_matching.ipynb",
    "05_spectral_evaluation.ipynb",
    "08_sampling.ipynb",
)
SECONDS = 120
TAG = "explorer"  # of the cells that make explorers
QUIET = '{"fetchNews": "false", "checkForUpdates": false, "doNotDisturbMode": true}'
CURRENT = "window.jupyterapp.shell.currentWidget"
KERNEL_IDLE = "window.jupyterapp?.shell?.currentWidget?.sessionContext?.session?.kernel?.status === 'idle'"


def free_port() -> int:
    with socket.socket() as some:
        some.bind(("127.0.0.1", 0))
        return some.getsockname()[1]


@contextlib.contextmanager
def serve(arguments: Sequence[str], port: int, folder: Path, **variables: str) -> Iterator[str]:
    """Runs `python -m …` until it answers at the port; yields its address, and stops it at the end.

    What it writes about itself goes to `folder`.
    """
    log = folder / "server.log"
    places = {
        "JUPYTER_CONFIG_DIR": "config",
        "JUPYTERLAB_SETTINGS_DIR": "settings",
        "JUPYTERLAB_WORKSPACES_DIR": "spaces",
    }
    environment = dict(os.environ, OMP_NUM_THREADS="1", **variables)
    environment |= {name: str(folder / place) for name, place in places.items()}
    with log.open("w", encoding="utf-8") as out:
        server = subprocess.Popen(
            [sys.executable, "-m", *arguments], stdout=out, stderr=subprocess.STDOUT, env=environment, cwd=folder
        )
    try:
        end = time.monotonic() + SECONDS
        while not answers(port):
            assert server.poll() is None and time.monotonic() < end, log.read_text(encoding="utf-8")
            time.sleep(0.05)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait(SECONDS)


def answers(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1):
            return True
    except OSError:
        return False


def copy_notebooks(folder: Path) -> None:
    """Copies what holds explorers: of each notebook its first code cell and those with the tag `explorer`, not run yet."""
    for path in build.workbook():
        notebook = nbformat.read(path, as_version=4)
        first = next(number for number, cell in enumerate(notebook.cells) if cell.cell_type == "code")
        kept = [cell for n, cell in enumerate(notebook.cells) if n == first or TAG in cell.metadata.get("tags", [])]
        for cell in kept:
            cell.outputs, cell.execution_count = [], None
        if len(kept) > 1:
            nbformat.write(nbformat.from_dict({**notebook, "cells": kept}), folder / path.name)


@contextlib.contextmanager
def jupyterlab(notebooks: Path, folder: Path) -> Iterator[str]:
    """JupyterLab with the notebooks of one folder, without news, tokens and a person's settings."""
    settings = folder / "settings" / "@jupyterlab" / "apputils-extension"
    settings.mkdir(parents=True)
    (settings / "notification.jupyterlab-settings").write_text(QUIET, encoding="utf-8")
    port = free_port()
    options = [
        "--allow-root", "--no-browser", "--ip=127.0.0.1", f"--port={port}", "--ServerApp.port_retries=0",
        "--IdentityProvider.token=", "--ServerApp.password=", f"--ServerApp.root_dir={notebooks}",
        "--LabApp.expose_app_in_browser=True",
    ]  # fmt: skip
    with serve(["jupyterlab", *options], port, folder) as address:
        yield address


@contextlib.contextmanager
def voila(notebook: Path, folder: Path) -> Iterator[str]:
    """The Voilà page of one notebook, as `make dashboard` shows it."""
    port = free_port()
    options = [str(notebook), "--no-browser", f"--port={port}", "--Voila.ip=127.0.0.1", "--template=offline",
               "--VoilaConfiguration.multi_kernel_manager_class=dashboard_kernels.Visits"]  # fmt: skip
    notebooks = str(ROOT / "notebooks")
    paths = os.pathsep.join(filter(None, [notebooks, os.environ.get("PYTHONPATH")]))
    with serve(["voila", *options], port, folder, JUPYTER_PATH=notebooks, PYTHONPATH=paths) as address:
        yield address


@contextlib.contextmanager
def chromium() -> Iterator:
    """The browser."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
        yield browser
        browser.close()


def write_notebook(path: Path, cells: Sequence[str]) -> None:
    """Writes a notebook of code cells."""
    kernel = {"name": "python3", "display_name": "Python 3 (ipykernel)", "language": "python"}
    notebook = nbformat.v4.new_notebook(metadata={"kernelspec": kernel})
    notebook.cells = [nbformat.v4.new_code_cell(source) for source in cells]
    nbformat.write(notebook, path)
