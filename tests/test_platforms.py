"""The world around the package: other encodings, devices and programs, and what they may not change."""

from __future__ import annotations

import ast
import asyncio
import contextlib
import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from accelerate.state import AcceleratorState, GradientState

import ctmem
from ctmem import checks
from ctmem.config import TrainConfig
from ctmem.data.samples import degrade_scene
from ctmem.data.scenes import synthetic
from ctmem.diffusion import subspace
from ctmem.evaluation.metrics import evaluate
from ctmem.explorers import BandExplorer, DegradationExplorer, Tabs
from ctmem.explorers.view import ImageView, LinePlot
from ctmem.match import laying, pruning
from ctmem.match.texture_library import TextureLibrary
from ctmem.observe.camera import Camera
from ctmem.observe.estimate import estimate_snr_db
from ctmem.train.loop import fit, new_accelerator
from ctmem.train.pool import Pool

ROOT = Path(__file__).parent.parent
SOURCES = [path for folder in ("ctmem", "notebooks", "benchmarks", "tests", "data", "docs", "conftest.py")
           for path in [ROOT / folder, *(ROOT / folder).rglob("*.py")] if path.suffix == ".py"]  # fmt: skip


# --- encodings and pipes ---


def test_every_child_process_that_is_read_as_text_names_its_encoding():
    """As ruff's PLW1514 has it for files; what a child prints is read by the locale otherwise."""
    silent = []
    for path in SOURCES:
        for call in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            running = isinstance(call, ast.Call) and ast.unparse(call.func).startswith("subprocess.")
            names = {one.arg for one in call.keywords} if running else set()
            if names & {"text", "universal_newlines"}:
                silent.append((path.name, call.lineno))
    assert silent == []


def test_every_text_file_is_opened_with_an_encoding():
    """Ruff's PLW1514 sees this where it knows that something is a path; this test needs no types."""
    silent = []
    for path in SOURCES:
        for call in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(call, ast.Call) or any(one.arg in ("encoding", None) for one in call.keywords):
                continue
            name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
            mode = [one.value for one in call.args if isinstance(one, ast.Constant) and isinstance(one.value, str)]
            packed = ast.unparse(call.func).startswith(
                ("archive.", "rasterio.")
            )  # a member of an archive, a raster: bytes
            text = name == "open" and not packed and any(set(one) <= set("rwax+t") and one for one in mode)
            if text or (name == "read_text" and not call.args) or (name == "write_text" and ast.unparse(call.func) != name
                                                                   and len(call.args) == 1):  # fmt: skip
                silent.append((path.name, call.lineno))
    assert silent == []


@pytest.mark.parametrize(("module", "encoding"), [("ctmem.train", "cp1252"), ("ctmem.benchmark", "ascii")])
def test_help_goes_into_any_pipe(module, encoding):
    environment = os.environ | {"PYTHONIOENCODING": encoding, "PYTHONUTF8": "0", "LC_ALL": "C"}
    done = subprocess.run([sys.executable, "-m", module, "--help"], env=environment, capture_output=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert "usage:" in done.stdout.decode(encoding)


def test_a_sign_that_a_pipe_lacks_becomes_a_question_mark():
    code = "from ctmem.command import forgiving_output; forgiving_output(); print('PSNR/dB ↑ ×4 Δ ≥ ü')"
    environment = os.environ | {"PYTHONIOENCODING": "cp1252"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, cwd=ROOT, check=True)
    assert done.stdout.decode("cp1252").strip() == "PSNR/dB ? ×4 ? ? ü"


def test_a_card_of_data_with_an_umlaut_is_read_in_a_locale_without_them(tmp_path):
    """A run is resumed: the card that an earlier one has left is read, where the system's own encoding is ASCII."""
    code = """
import sys
from pathlib import Path
from ctmem.config import TINY
from ctmem.files import write_json
from ctmem.train.stages import _Results
folder = Path(sys.argv[1])
one = {"scene": "Stra\\u00dfe", "train": None, "validation": None, "references": []}
card = {"preset": TINY.to_dict(), "data": [one], "seed": 0, "steps": {}, "minutes": {}, "metrics": {}}
write_json(card, folder / "card.json")
print(_Results(folder, card, True).before["data"] == [one])
"""
    environment = os.environ | {"PYTHONUTF8": "0", "LC_ALL": "C", "PYTHONCOERCECLOCALE": "0"}
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], env=environment, capture_output=True, cwd=ROOT)
    assert done.stdout.strip() == b"True", done.stderr
    assert "Straße" in (tmp_path / "card.json").read_text(encoding="utf-8")


def test_all_actions_are_pinned_by_their_commit():
    for path in (ROOT / ".github" / "workflows").glob("*.yml"):
        text = path.read_text(encoding="utf-8")
        used = re.findall(r"uses: *(\S+)(.*)", text)
        assert used
        for action, comment in used:
            assert re.fullmatch(r"[\w.-]+/[\w.-]+@[0-9a-f]{40}", action), action
            assert re.fullmatch(r" # v\d+\.\d+\.\d+", comment), action


def test_one_row_of_continuous_integration_has_another_encoding():
    jobs = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8"))["jobs"]
    assert jobs["cp1252"]["env"] == {"PYTHONIOENCODING": "cp1252", "PYTHONUTF8": "0", "LC_ALL": "C"}


def test_no_module_imports_what_other_systems_lack():
    """But behind a condition, where there is something else for the others."""
    posix = {"resource", "fcntl", "pwd", "grp", "termios"}
    for path in (ROOT / "ctmem").rglob("*.py"):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            names = [one.name for one in node.names] if isinstance(node, ast.Import) else []
            names += [node.module] if isinstance(node, ast.ImportFrom) else []
            assert not posix & set(names), path.name


@pytest.mark.parametrize(
    ("environment", "wanted"),
    [
        ({}, ".venv"),
        ({"VIRTUAL_ENV": "/somewhere/mine"}, "/somewhere/mine"),
        ({"CONDA_PREFIX": "/conda/envs/ctmem", "CONDA_DEFAULT_ENV": "ctmem"}, "/conda/envs/ctmem"),
        ({"CONDA_PREFIX": "/conda", "CONDA_DEFAULT_ENV": "base"}, ".venv"),
    ],
)
def test_make_uses_an_environment_that_is_active(environment, wanted):
    bare = {key: value for key, value in os.environ.items() if not key.startswith(("CONDA", "VIRTUAL_ENV", "VENV"))}
    command = ["make", "--dry-run", "--always-make", "setup"]
    printed = subprocess.run(
        command, cwd=ROOT, env=bare | environment, capture_output=True, encoding="utf-8", check=True
    )
    assert f"{wanted}/bin/python -m pip install" in printed.stdout
    cleaned = subprocess.run(["make", "--dry-run", "clean"], cwd=ROOT, env=bare | environment, capture_output=True,
                             encoding="utf-8", check=True).stdout  # fmt: skip
    assert "rm -rf .venv results" in cleaned and "/somewhere" not in cleaned and "/conda" not in cleaned


# --- devices without float64 ---


def test_where_a_device_has_no_float64_the_cpu_counts_in_it(monkeypatch):
    """The predicate stands in for the device: nothing on it may be asked for float64, and results go back."""
    gt = synthetic(0, height=48, width=48, bands=9).tensor()
    lr_hsi = torch.nn.functional.avg_pool2d(gt, 4)
    vectors = torch.rand(80, 40, generator=torch.Generator().manual_seed(0)) ** 8

    def answers():
        space = subspace.fit(lr_hsi, 4)
        return [
            *vars(space).values(), torch.tensor([*evaluate(gt, gt * 0.9, scale=4).values()]),
            torch.tensor(estimate_snr_db(gt)), laying.box_mean(gt, 5), pruning.directions(vectors),
        ]  # fmt: skip

    wanted = [x for x in answers() if x is not None]
    asked = []
    monkeypatch.setattr(checks, "has_float64", lambda device: asked.append(device.type) or False)
    for one, other in zip([x for x in answers() if x is not None], wanted):
        assert torch.equal(one, other)
    assert len(asked) >= 5


def test_apples_gpus_have_no_float64():
    assert [checks.has_float64(torch.device(name)) for name in ("cpu", "cuda", "mps")] == [True, True, False]


# --- other programs' state ---


@contextlib.contextmanager
def default(get, put, value):
    before = get()
    put(value)
    try:
        yield
    finally:
        put(before)


@contextlib.contextmanager
def default_device(name):
    torch.set_default_device(name)
    try:
        yield
    finally:
        torch.set_default_device(None)


@contextlib.contextmanager
def other_seeds():
    before = torch.get_rng_state(), np.random.get_state()
    torch.manual_seed(99)
    np.random.seed(9)
    yield
    torch.set_rng_state(before[0])
    np.random.set_state(before[1])


STATES = {
    "float64": lambda: default(torch.get_default_dtype, torch.set_default_dtype, torch.float64),
    "bfloat16": lambda: default(torch.get_default_dtype, torch.set_default_dtype, torch.bfloat16),
    "meta": lambda: default_device("meta"),
    "no_grad": torch.no_grad,
    "inference": torch.inference_mode,
    "autocast": lambda: torch.autocast("cpu", torch.bfloat16),
    "precision": lambda: default(torch.get_float32_matmul_precision, torch.set_float32_matmul_precision, "medium"),
    "deterministic": lambda: default(
        torch.are_deterministic_algorithms_enabled, torch.use_deterministic_algorithms, True
    ),
    "numpy raises": lambda: np.errstate(all="raise"),
    "seeds": other_seeds,
}


def observed():
    """A scene through camera, subspace, library and metrics."""
    gt = synthetic(0, height=48, width=64, bands=12).tensor()
    camera = Camera.gaussian(6.0, scale=4)
    lr_hsi = camera.observe(gt, generator=torch.Generator("cpu").manual_seed(0))
    pred = camera.upsample(lr_hsi)
    library = TextureLibrary.build({"here": gt[:, :3]}, camera.blur)
    numbers = np.array([*evaluate(pred, gt, scale=4).values()])
    return [lr_hsi, pred, camera.back_project(pred, lr_hsi), *vars(subspace.fit(lr_hsi, 4)).values(),
            *library.blurred, torch.from_numpy(numbers).to("cpu")]  # fmt: skip


@pytest.mark.parametrize("state", STATES)
def test_what_another_program_has_set_changes_no_answer(state):
    wanted = observed()
    generators = torch.get_rng_state(), np.random.get_state()[1].tolist()
    with STATES[state]():
        found = observed()
    for one, other in zip(found, wanted):
        assert one.dtype == other.dtype and torch.equal(one.clone(), other.clone())
    assert torch.equal(torch.get_rng_state(), generators[0]) and np.random.get_state()[1].tolist() == generators[1]


def trained():
    """Five steps of a layer; its parameters are made as usual, or nothing could learn them."""
    AcceleratorState._reset_state(True)
    GradientState._reset_state()
    drawn = torch.from_numpy(np.random.default_rng(0).random((6, 2, 4, 4), np.float32)).to("cpu")
    weight = torch.ones(6, 2, 1, 1, dtype=torch.float32, device="cpu")
    with torch.inference_mode(False):
        network = torch.nn.Conv2d(2, 2, 1, dtype=torch.float32, device="cpu")
    with torch.inference_mode(False), torch.no_grad():
        for parameter in network.parameters():
            parameter.fill_(0.1)

    def loss(network, batch, generator):
        return (network(batch.base) - batch.target).square().mean()

    config = TrainConfig(steps=5, batch=2, learning_rate=0.1, validate_every=5, save_every=5, warmup=1)
    run = fit(network, Pool(drawn, 2 * drawn, drawn, weight), loss, lambda network: 1.0, config)
    assert run.accelerator.mixed_precision == "no" and run.accelerator.gradient_accumulation_steps == 1
    return [x.detach() for x in run.average.parameters()]


@pytest.mark.parametrize("state", STATES)
def test_what_another_program_has_set_changes_no_training(state):
    wanted = trained()
    with STATES[state]():
        found = trained()
    for one, other in zip(found, wanted):
        assert one.dtype == other.dtype and torch.equal(one, other)


def test_parameters_that_cannot_learn_are_one_clear_error():
    with torch.inference_mode():
        network = torch.nn.Conv2d(2, 2, 1)
    with pytest.raises(ValueError, match="`network` must be made outside of torch.inference_mode()"):
        fit(network, Pool(*[torch.ones(2, 2, 4, 4)] * 4), lambda *_: None, lambda _: 1.0, TrainConfig(steps=1))


@pytest.mark.parametrize(
    "setting",
    [
        {"ACCELERATE_GRADIENT_ACCUMULATION_STEPS": "4"},
        {"ACCELERATE_MIXED_PRECISION": "bf16"},
        {"ACCELERATE_MIXED_PRECISION": "fp8", "ACCELERATE_FP8_BACKEND": "TE"},
        {"ACCELERATE_DYNAMO_BACKEND": "EAGER"},
        {"ACCELERATE_USE_FSDP": "true"},
        {"ACCELERATE_USE_DEEPSPEED": "true"},
        {"ACCELERATE_USE_MEGATRON_LM": "true"},
        {"ACCELERATE_USE_PARALLELISM_CONFIG": "true", "PARALLELISM_CONFIG_DP_REPLICATE_SIZE": "2"},
        {"ACCELERATE_TORCH_DEVICE": "meta"},
        {"ACCELERATE_SPLIT_BATCHES": "true", "ACCELERATE_USE_CPU": "false"},
    ],
    ids=lambda setting: next(iter(setting)),
)
def test_no_variable_of_accelerate_changes_a_training(setting, monkeypatch):
    wanted = trained()
    for name, value in setting.items():
        monkeypatch.setenv(name, value)
    for one, other in zip(trained(), wanted):
        assert torch.equal(one, other)
    assert {name: os.environ[name] for name in setting} == setting  # and they are left to others


def test_accelerate_that_was_set_up_otherwise_is_one_clear_error():
    AcceleratorState._reset_state(True)
    try:
        new_accelerator(cpu=True, precision="bf16")
        with pytest.raises(RuntimeError, match="accelerate was set up otherwise in this process before"):
            new_accelerator(cpu=True, precision="no")
        with pytest.raises(ValueError, match="`precision` must be one of 'no', 'bf16', got 'fp8'"):
            new_accelerator(cpu=True, precision="fp8")
    finally:
        AcceleratorState._reset_state(True)


def test_loading_weights_moves_nobodys_generator():
    before = torch.get_rng_state()
    ctmem.load_model("tiny")
    assert torch.equal(torch.get_rng_state(), before)


def test_no_check_of_the_package_is_an_assertion():
    """`python -O` takes assertions out: those that stand there narrow a type, and are never false."""
    found = [
        path.name
        for path in (ROOT / "ctmem").rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Assert) and "is not None" not in ast.unparse(node.test)
    ]
    assert found == []


# --- whose numbers they are ---


def test_a_library_keeps_its_own_numbers():
    image = torch.rand(1, 3, 24, 24, generator=torch.Generator().manual_seed(0))
    array = np.array(image[0].numpy())[None]
    for given in (image, array):
        library = TextureLibrary.build({"mine": given}, lambda x: x)
        before = [x.clone() for x in (*library.sharp, *library.blurred)]
        given[:] = 0
        assert all(torch.equal(one, other) for one, other in zip((*library.sharp, *library.blurred), before))


def test_scene_camera_subspace_and_observations_keep_their_own_numbers():
    cube = np.random.default_rng(0).random((16, 16, 5), np.float32)
    scene = ctmem.data.scenes.Scene("mine", cube)
    psf, srf = torch.full((4, 4), 1 / 16), torch.full((2, 5), 0.2)
    camera = Camera(psf, 4, srf=srf)
    lr_hsi = scene.tensor()
    space = subspace.fit(lr_hsi, 3)
    seen = degrade_scene(lr_hsi, camera)
    kept = [scene.cube, camera.psf, camera.srf, *vars(space).values(), seen.lr_hsi, seen.hr_msi]
    before = [np.copy(np.asarray(x.numpy() if isinstance(x, torch.Tensor) else x)) for x in kept]
    for mine in (cube, psf, srf, lr_hsi):
        mine[:] = 0
    assert all(
        np.array_equal(one.numpy() if isinstance(one, torch.Tensor) else one, other) for one, other in zip(kept, before)
    )


# --- explorers that are closed ---


@pytest.mark.parametrize("make", [BandExplorer, DegradationExplorer])
def test_a_closed_explorer_says_so_and_others_live_on(make):
    scene = synthetic(0, height=48, width=48, bands=8)
    one, other = make(scene), make(scene)
    one.close()
    one.close()
    assert repr(one) == f"{make.__name__}(closed)"
    assert one._repr_mimebundle_() == {"text/plain": f"{make.__name__}: closed; make it again to see it"}
    for _ in range(2):
        assert "application/vnd.jupyter.widget-view+json" in other._repr_mimebundle_()
    other.close()


@pytest.mark.parametrize("make", [ImageView, LinePlot, lambda: Tabs({"a": ImageView})])
def test_any_closed_widget_can_be_shown_as_text(make):
    widget = make()
    for _ in range(2):
        widget.close()
        assert list(widget._repr_mimebundle_(include=None, exclude=None)) == ["text/plain"]


def test_an_explorer_keeps_its_own_numbers():
    cube = np.random.default_rng(0).random((20, 20, 4), np.float32)
    explorer = BandExplorer(cube)
    before = explorer.picture()._repr_png_()
    cube[:] = 0
    explorer.pixel = (3, 4)
    explorer.pixel = (10, 10)
    assert explorer.picture()._repr_png_() == before
    explorer.close()


# --- the dashboard ---


def test_the_dashboard_ends_kernels_and_counts_visits():
    import dashboard_kernels
    from tornado.web import HTTPError

    visits = dashboard_kernels.Visits(most=2)
    assert (visits.cull_idle_timeout, visits.cull_interval, visits.cull_connected) == (300, 30, False)
    visits.list_kernel_ids = lambda: ["one", "two"]
    with ThreadPoolExecutor(1) as thread, pytest.raises(HTTPError, match="503.*2 visitors are here already"):
        thread.submit(asyncio.run, visits.start_kernel()).result()  # a browser test leaves a loop in the main thread
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert "--VoilaConfiguration.multi_kernel_manager_class=dashboard_kernels.Visits" in makefile
    assert '"allow_remote_access": False' in makefile


def test_the_style_sheet_says_that_a_kernel_has_ended():
    style = (ROOT / "ctmem" / "explorers" / "style.css").read_text(encoding="utf-8")
    assert ".ctmem-explorer.jupyter-widgets-disconnected::before" in style
    explorer = BandExplorer(synthetic(0, height=16, width=16, bands=4))
    assert "ctmem-explorer" in explorer._dom_classes
    explorer.close()
