"""A real JupyterLab (or Voilà) and a real Chromium, for the tests here and for benchmarks/explorers.py.

Notebooks are copied to a folder of their own first: nothing that a browser saves can change the repository.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
FLAGS = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--force-device-scale-factor=1", "--hide-scrollbars",
)  # fmt: skip
VIEWPORT = {"width": 1300, "height": 900}
SECONDS = 60
QUIET = '{"fetchNews": "false", "checkForUpdates": false, "doNotDisturbMode": true}'
CURRENT = "window.jupyterapp.shell.currentWidget"
KERNEL_IDLE = f"window.jupyterapp?.shell?.currentWidget?.sessionContext?.session?.kernel?.status === 'idle'"


def free_port() -> int:
    with socket.socket() as some:
        some.bind(("127.0.0.1", 0))
        return some.getsockname()[1]


@contextlib.contextmanager
def serve(arguments: Sequence[str], port: int, folder: Path) -> Iterator[str]:
    """Runs `python -m …` until it answers at the port; yields its address, and stops it at the end."""
    log = folder / "server.log"
    places = {"JUPYTER_CONFIG_DIR": "config", "JUPYTERLAB_SETTINGS_DIR": "settings", "JUPYTERLAB_WORKSPACES_DIR": "spaces"}
    environment = dict(os.environ, OMP_NUM_THREADS="1", **{name: str(folder / place) for name, place in places.items()})
    with log.open("w") as out:
        server = subprocess.Popen(
            [sys.executable, "-m", *arguments], stdout=out, stderr=subprocess.STDOUT, env=environment, cwd=folder
        )
    try:
        end = time.monotonic() + SECONDS
        while not answers(port):
            assert server.poll() is None and time.monotonic() < end, log.read_text()
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


def copy_notebooks(names: Sequence[str], folder: Path) -> None:
    """Copies notebooks without their outputs: what is on the page was made there."""
    for name in names:
        notebook = json.loads((ROOT / "notebooks" / name).read_text(encoding="utf-8"))
        for cell in notebook["cells"]:
            if cell["cell_type"] == "code":
                cell.update(outputs=[], execution_count=None)
        (folder / name).write_text(json.dumps(notebook), encoding="utf-8")


@contextlib.contextmanager
def jupyterlab(folder: Path) -> Iterator[str]:
    """JupyterLab with the notebooks in `folder`, without news, tokens and a person's settings."""
    settings = folder / "settings" / "@jupyterlab" / "apputils-extension"
    settings.mkdir(parents=True)
    (settings / "notification.jupyterlab-settings").write_text(QUIET)
    port = free_port()
    options = [
        "--allow-root", "--no-browser", "--ip=127.0.0.1", f"--port={port}", "--ServerApp.port_retries=0",
        "--IdentityProvider.token=", "--ServerApp.password=", f"--ServerApp.root_dir={folder}",
        "--LabApp.expose_app_in_browser=True",
    ]  # fmt: skip
    with serve(["jupyterlab", *options], port, folder) as address:
        yield address


@contextlib.contextmanager
def voila(notebook: Path, folder: Path) -> Iterator[str]:
    """The Voilà page of one notebook."""
    port = free_port()
    options = [str(notebook), "--no-browser", f"--port={port}", "--Voila.ip=127.0.0.1"]
    with serve(["voila", *options], port, folder) as address:
        yield address


@contextlib.contextmanager
def chromium() -> Iterator:
    """The browser."""
    from playwright.sync_api import sync_playwright  # noqa: PLC0415  (an import that tests skip without)

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
        yield browser
        browser.close()
