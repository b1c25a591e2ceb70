"""No accelerator may break the product: what is wrong with it is found on a small example, said once, and gone round."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import torch

from ctmem.match import faiss_index
from ctmem.networks import mamba
from ctmem.networks.scan import selective, trial

needs_numba = pytest.mark.skipif(importlib.util.find_spec("numba") is None, reason="numba is not installed")
HERE = Path(__file__).parent.parent

# A Mamba block, as anybody would call it; prints its distance from the plain recurrence, and how often it was warned.
CALL = """
import os, warnings, torch
from ctmem.networks.mamba import MambaBlock
block = MambaBlock(8, d_state=3)
x = torch.linspace(-1, 1, 2 * 40 * 8).view(2, 40, 8)
with warnings.catch_warnings(record=True) as caught, torch.no_grad():
    warnings.simplefilter("always")
    y = [block(x) for _ in range(3)][-1]
os.environ["CTMEM_SCAN"] = "reference"
print(bool((y - block(x)).abs().max() < 1e-5), *(str(one.message) for one in caught), sep="|")
"""


def run(code, **environment):
    """What a fresh Python prints; without its errors, for numba's own warnings may stand there."""
    done = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | environment, capture_output=True, encoding="utf-8", cwd=HERE
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout.strip()


@pytest.fixture
def fresh():
    """No backend was tried before, and none of what is found here stays."""
    for cached in (selective._trial_problem, selective._import_problem, selective.warn_once):
        cached.cache_clear()
    yield
    for cached in (selective._trial_problem, selective._import_problem, selective.warn_once):
        cached.cache_clear()


@needs_numba
def test_without_numbas_compiler_the_answer_is_the_same_and_the_cure_is_named():
    good, *said = run(CALL, NUMBA_DISABLE_JIT="1").split("|")
    assert good == "True"
    assert len(said) == 1 and "slow backend `torch`: numba fails on a small example" in said[0]
    assert said[0].endswith("to mend it, unset NUMBA_DISABLE_JIT")


@needs_numba
def test_a_backend_that_was_asked_for_and_fails_is_one_clear_error():
    code = f"""{CALL.split("with warnings")[0]}
try: block(x)
except ValueError as error: print(error)
"""
    said = run(code, NUMBA_DISABLE_JIT="1", CTMEM_SCAN="numba")
    assert said.startswith(
        "`CTMEM_SCAN` must be a backend that takes torch.float32 on cpu, got 'numba': numba fails on"
    )
    assert "unset NUMBA_DISABLE_JIT" in said and "\n" not in said


# --- numba's folder ---

TOY = """
from ctmem.networks.scan.numba_cache import compiled
@compiled
def twice(x):
    return 2 * x
"""


@pytest.fixture
def toy(tmp_path, monkeypatch):
    """Imports a small compiled module as a fresh process would; its results lie in the folder `cache`."""
    import numba

    from ctmem.networks.scan import numba_cache

    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path / "cache"))
    path = tmp_path / "toy.py"
    path.write_text(TOY, encoding="utf-8")

    def load():
        monkeypatch.setattr(numba_cache, "_made", [])
        spec = importlib.util.spec_from_file_location("toy", path)
        module = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, "toy", module)
        spec.loader.exec_module(module)
        return module

    return load


@needs_numba
@pytest.mark.parametrize("ending", ["nbi", "nbc"])
def test_damaged_results_of_numba_are_deleted_and_made_again(toy, tmp_path, ending):
    from ctmem.networks.scan import numba_cache

    assert toy().twice(21) == 42
    (kept,) = (tmp_path / "cache").rglob(f"toy.*.{ending}")
    size = kept.stat().st_size
    kept.write_bytes(kept.read_bytes()[:20])
    again = toy()
    with contextlib.suppress(Exception):  # an index raises, results numba makes again
        again.twice(21)
    numba_cache.forget()
    assert again.twice(21) == 42
    (kept,) = (tmp_path / "cache").rglob(f"toy.*.{ending}")
    assert abs(kept.stat().st_size - size) < 100


@needs_numba
def test_results_that_cannot_be_deleted_are_gone_round(toy, tmp_path):
    from ctmem.networks.scan import numba_cache

    toy().twice(21)
    (kept,) = (tmp_path / "cache").rglob("toy.*.nbi")
    kept.unlink()
    kept.mkdir()  # cannot be read, written or unlinked
    again = toy()
    with pytest.raises(OSError):
        again.twice(21)
    numba_cache.forget()
    numba_cache.stop_caching()
    assert again.twice(21) == 42


@needs_numba
def test_without_a_folder_for_its_results_numba_works_and_says_so(toy, monkeypatch):
    """The home, the package's folder and the named folder cannot be written: here, because numba looks nowhere."""
    from numba.core import caching

    selective.warn_once.cache_clear()
    monkeypatch.setattr(caching.CacheImpl, "_locator_classes", [])
    with pytest.warns(RuntimeWarning, match="is compiled again in every process.*set NUMBA_CACHE_DIR to one"):
        assert toy().twice(21) == 42


@needs_numba
@pytest.mark.parametrize("failures", [1, 2, 3])
def test_numba_is_given_up_only_when_it_fails_without_its_folder_too(fresh, monkeypatch, failures):
    from ctmem.networks.scan import numba_cache

    made = []
    monkeypatch.setattr(numba_cache, "forget", lambda: made.append("forget"))
    monkeypatch.setattr(numba_cache, "stop_caching", lambda: made.append("stop"))
    answers = iter(["EOFError: Ran out of input"] * failures + [None])
    monkeypatch.setattr(selective, "failure", lambda *_: next(answers))
    reason = selective._trial_problem("numba", "cpu", True)
    assert made == ["forget", "stop"][:failures]
    if failures < 3:
        assert reason is None
    else:
        assert reason.startswith("numba fails on a small example (EOFError: Ran out of input); to mend it, delete ")
        assert str(numba_cache.folders()[0]) in reason


# --- wrong answers, one mode at a time ---


def arguments():
    u, delta, A, B, C = trial.example(selective.TRIED_ON, torch.device("cpu"))
    return [x.requires_grad_() for x in (u, delta, -A, B, C)]


@needs_numba
def test_wrong_values_are_found_before_they_are_used(fresh, monkeypatch):
    from ctmem.networks.scan import numba_backend

    real = numba_backend.forward
    monkeypatch.setattr(numba_backend, "forward", lambda *x: tuple(1.01 * y for y in real(*x)))
    with torch.no_grad(), pytest.warns(RuntimeWarning, match=r"numba fails on a small example \(wrong values\)"):
        y = selective.selective_scan(*arguments())
    assert torch.equal(y, selective.selective_scan(*arguments(), backend="torch").detach())
    with torch.no_grad(), pytest.raises(ValueError, match=r"`backend` must be .* 'numba': numba fails .*wrong values"):
        selective.selective_scan(*arguments(), backend="numba")


@needs_numba
def test_wrong_gradients_are_found_where_they_are_wanted(fresh, monkeypatch):
    from ctmem.networks.scan import numba_backend

    monkeypatch.setattr(numba_backend, "backward", lambda dy, *x: tuple(torch.zeros_like(y) for y in x[:5]))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with torch.no_grad():
            assert torch.isfinite(selective.selective_scan(*arguments())).all()  # forward is whole: no word
    inputs = arguments()
    with pytest.warns(RuntimeWarning, match=r"numba fails on a small example \(wrong gradients\)"):
        y = selective.selective_scan(*inputs)
    found = torch.autograd.grad(y.sum(), inputs)
    wanted = torch.autograd.grad(selective.scan_reference(*inputs).sum(), inputs)
    for one, other in zip(found, wanted):
        torch.testing.assert_close(one, other)


@needs_numba
def test_a_broken_compiled_stream_is_gone_round(fresh, monkeypatch):
    from ctmem.networks.scan import numba_stream

    def broken(*_):
        raise OSError("libgomp.so.1: cannot open shared object file\nand more")

    monkeypatch.setattr(numba_stream, "stream", broken)
    tokens = torch.linspace(-1, 1, 2 * 9 * 8).view(2, 9, 8)
    block = mamba.MambaBlock(8)
    with torch.no_grad(), pytest.warns(RuntimeWarning, match="without their compiled stream: .*libgomp") as caught:
        y = [block(tokens) for _ in range(2)][-1]
    assert len(caught) == 1 and "and more" not in str(caught[0].message)
    torch.testing.assert_close(y, block.double()(tokens.double()).float().detach())


def test_a_broken_kernel_of_mamba_ssm_is_gone_round(fresh, monkeypatch):
    """As on a GPU that the package was not built for; the CPU stands in for it."""
    monkeypatch.setitem(selective._RUN, "mamba_ssm", lambda *_: (_ for _ in ()).throw(RuntimeError("no kernel image")))
    reason = selective._trial_problem("mamba_ssm", "cpu", False)
    assert reason == (
        "mamba_ssm fails on a small example (RuntimeError: no kernel image): install it again, or without it"
    )


def test_the_trial_leaves_everybodys_random_numbers_alone(fresh):
    torch.manual_seed(3)
    before = torch.get_rng_state()
    with torch.inference_mode():
        selective.backends()
    with torch.autocast("cpu", torch.bfloat16):
        selective.choose(torch.device("cpu"), torch.float32, learning=True, warn=False)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("error", [OSError("libgomp.so.1: not found"), AttributeError("numpy.core"), ImportError("x")])
def test_a_broken_faiss_is_one_clear_error(error, monkeypatch):
    def broken(name, *rest, **others):
        if name == "faiss":
            raise error
        return real(name, *rest, **others)

    import builtins

    real = builtins.__import__
    monkeypatch.setattr(builtins, "__import__", broken)
    with pytest.raises(ImportError, match=r"`faiss` must be installed for an approximate search: pip install .*got "):
        faiss_index.load_faiss()
