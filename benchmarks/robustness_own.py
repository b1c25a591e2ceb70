"""Own files, damaged: weights, checkpoints, cards, texture libraries, training folders, tables of the benchmark, a corpus.

    python benchmarks/robustness_own.py [--count 1000]

Each kind of file is changed at random so many times: bits flipped, bytes cut, put in, repeated or made 0, values of a card
replaced by others of any type, files of a folder removed, exchanged with those of another run, or mixed with them. Then it
is read. What may come out: it loads and is what was saved (a change that changes nothing that is read), or one clear error.
Anything else counts as a fault: another error, another answer, more than 5 s of CPU (60 s where it trains).

The counts are written to benchmarks/results/robustness_own.md.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import random
import shutil
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from ctmem.benchmark.table import COLUMNS, Table, read_rows
from ctmem.card import sealed
from ctmem.config import TINY
from ctmem.data.corpus import read_corpus
from ctmem.files import VERSIONS, data_path, load_module, load_tensors, save_module, save_tensors
from ctmem.match.texture_library import TextureLibrary
from ctmem.methods.fusion import load_denoiser
from ctmem.model import load_model
from ctmem.networks.residual_cnn import ResidualCNN
from ctmem.prior import load_prior
from ctmem.train.loop import Run
from ctmem.train.stages import cnn_loss, train

SECONDS, TRAINING = 5.0, 60.0  # that reading may take, and training what is missing
CLEAR = (FileNotFoundError, ValueError, OSError)
ODD = [
    None,
    True,
    -1,
    0,
    1,
    1e9,
    10**9,
    10**400,
    1e308,
    float("nan"),
    float("inf"),
    "",
    "x",
    "1",
    [],
    {},
    [[]],
    {"a": 1},
]


# --- what is done to a file -------------------------------------------------------------------------------------------


def flip(data: bytes, rng: random.Random) -> bytes:
    """One bit, where most of them matter: the header as often as all the rest."""
    head = min(len(data), 2000)
    place = rng.randrange(head) if rng.random() < 0.5 else rng.randrange(len(data))
    return data[:place] + bytes([data[place] ^ 1 << rng.randrange(8)]) + data[place + 1 :]


def damage(data: bytes, rng: random.Random) -> bytes:
    """One of several accidents."""
    start = rng.randrange(len(data))
    size = rng.choice([1, 7, 64, 4096])
    return rng.choice(
        [
            lambda: flip(data, rng),
            lambda: data[:start],
            lambda: data[:start] + bytes(size) + data[start + size :],
            lambda: data[:start] + rng.randbytes(size) + data[start:],
            lambda: data[:start] + data[start + size :],
            lambda: data[:start] + data[start : start + size] * 2 + data[start + size :],
            lambda: data + rng.randbytes(size),
            lambda: rng.randbytes(size),
            lambda: b"",
        ]
    )()


def places(plain: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Where the values of plain JSON are."""
    inner = plain.items() if isinstance(plain, dict) else enumerate(plain[:3]) if isinstance(plain, list) else ()
    return [path, *(one for key, value in inner for one in places(value, (*path, key)))]


def change_json(data: bytes, rng: random.Random) -> bytes:
    """One value of a card replaced, removed or named otherwise; half of the time by someone who makes the checksum fit."""
    card = json.loads(data)
    where = rng.choice([place for place in places(card) if place])
    parent = card
    for key in where[:-1]:
        parent = parent[key]
    what = rng.random()
    if what < 0.2 or (what < 0.3 and isinstance(parent, list)):
        del parent[where[-1]]
    elif what < 0.3:
        parent[f"{where[-1]}x"] = parent.pop(where[-1])
    elif isinstance(parent[where[-1]], int | float) and what < 0.6:
        parent[where[-1]] = parent[where[-1]] * rng.choice([-1, 0, 0.5, 2, 3, 1000]) + rng.choice([0, 0, 1])
    else:
        parent[where[-1]] = rng.choice(ODD)
    fitting = rng.random() < 0.7 and isinstance(card.get("kind"), str)
    return json.dumps(sealed(card) if fitting else card).encode()


def change_header(path: Path, kind: str, rng: random.Random) -> None:
    """Tensors and metadata replaced by someone who makes the checksum fit."""
    tensors, metadata = load_tensors(path, kind=kind)
    name = rng.choice(list(tensors))
    what = rng.randrange(5)
    if what == 0:
        del tensors[name]
    elif what == 1:
        tensors[f"{name}x"] = tensors.pop(name)
    elif what == 2:
        tensors[name] = tensors[name][None].clone()
    elif what == 3:
        tensors[name] = tensors[name].to(rng.choice([torch.float64, torch.int32, torch.uint8]))
    key = rng.choice(list(metadata))
    if what == 4 and key in ("about", "numbers", "header"):
        metadata[key] = change_json(metadata[key].encode(), rng).decode()
    elif what == 4:
        metadata[key] = rng.choice(["", "x", "9" * 50, "{", "null", "[" * 5000])
    save_tensors(tensors, path, metadata, kind=kind)


# --- what is read, and whether it is right ----------------------------------------------------------------------------


def same(one: Any, other: Any) -> bool:
    """Whether two networks hold the same numbers."""
    pairs = zip(one.state_dict().values(), other.state_dict().values())
    return all(torch.equal(x, y) for x, y in pairs)


class Kind:
    """Files of a kind in a folder, the way they are read, and what is right."""

    def __init__(self, make: Callable[[Path], None], read: Callable[[Path], Any], right: Callable[[Any, Path], bool]):
        self.make, self.read, self.right = make, read, right


PRESET = replace(
    TINY, crop=16, cnn_width=8, kernel_width=16, timesteps=50, kernel_steps=1, cnn_steps=1,
    denoiser=replace(TINY.denoiser, width=8, state=2, subspace=4, cim_blocks=1),
    train=replace(TINY.train, steps=1, batch=2, validate_every=1, save_every=1, warmup=1),
)  # fmt: skip


def training_source() -> Any:
    """A small generated scene."""
    from tests.small_training import small_source

    return small_source()


class Runs:
    """Two finished runs of other seeds, made once, and what is done to a copy of one."""

    def __init__(self, folder: Path):
        self.folder, self.source = folder, training_source()
        for seed in (0, 1):
            train(PRESET, [self.source], folder / str(seed), seed=seed)
        self.weights = {p.name: load_tensors(p)[1]["sha256"] for p in (folder / "0").glob("*.safetensors")}
        self.model = load_model(folder=folder / "0")

    def mutate(self, place: Path, rng: random.Random) -> None:
        """Files removed, exchanged, mixed, emptied, damaged, turned into folders."""
        shutil.rmtree(place, ignore_errors=True)
        shutil.copytree(self.folder / "0", place)
        for _ in range(rng.choice([1, 1, 1, 2, 3])):
            files = sorted(path for path in place.rglob("*") if path.is_file())
            if not files:
                return
            file = rng.choice([*files, *[f for f in files if f.name == "card.json"] * 3])
            what = rng.randrange(6)
            other = self.folder / "1" / file.relative_to(place)
            if what == 0:
                file.unlink()
            elif what == 1 and other.is_file():
                shutil.copy(other, file)
            elif what == 2:
                file.write_bytes(rng.choice(files).read_bytes())
            elif what == 3:
                file.write_bytes(damage(file.read_bytes() or b"x", rng))
            elif what == 4 and file.suffix == ".json":
                with contextlib.suppress(ValueError):
                    file.write_bytes(change_json(file.read_bytes(), rng))
            elif what == 5 and rng.random() < 0.2:
                file.unlink()
                file.mkdir()
            else:
                file.write_bytes(flip(file.read_bytes() or b"x", rng))

    def right(self, place: Path) -> bool:
        """Whether the run that went on ended as the one that nothing happened to."""
        now = {p.name: load_tensors(p)[1]["sha256"] for p in place.glob("*.safetensors")}
        return now == self.weights


def judge(read: Callable[[], Any], right: Callable[[Any], bool], seconds: float = SECONDS) -> tuple[str, str]:
    """(loads | clear | what is wrong, the message)."""
    start = time.process_time()  # other programs do not count
    try:
        with warnings.catch_warnings(record=True):
            warnings.simplefilter("always")
            found = read()
        verdict, said = ("loads" if right(found) else "WRONG"), ""
    except CLEAR as error:
        said = str(error)
        clear = said.startswith("`") and type(error).__name__ != "JSONDecodeError"
        verdict = "clear" if clear or isinstance(error, OSError) else f"RAW {type(error).__name__}"
    except Exception as error:
        verdict, said = f"RAW {type(error).__name__}", str(error)
    return (f"SLOW {verdict}", said) if time.process_time() - start > seconds else (verdict, said)


def tally(name: str, count: int, once: Callable[[random.Random], tuple[str, str]], show: int = 3) -> Counter[str]:
    """The verdicts of so many changes; prints the first faults."""
    counts: Counter[str] = Counter()
    for number in range(count):
        try:
            verdict, said = once(random.Random(f"{name} {number}"))
        except KeyboardInterrupt:
            break
        counts[verdict] += 1
        if verdict not in ("loads", "clear") and counts[verdict] <= show:
            print(f"  {name} {number}: {verdict}: {said[:300]}", flush=True)
    return counts


def files_of_one(path: Path, kind: str | None, read: Callable[[], Any], right: Callable[[Any], bool]) -> Any:
    """once(rng) for a single file: damage it, or change it with a fitting checksum, read, and put it back."""
    whole = path.read_bytes()

    def once(rng: random.Random) -> tuple[str, str]:
        path.write_bytes(whole)
        what = rng.random()
        if what < 0.3 and path.suffix == ".json":
            path.write_bytes(change_json(whole, rng))
        elif what < 0.3 and kind:
            change_header(path, kind, rng)
        elif what < 0.6:
            path.write_bytes(flip(whole, rng))
        else:
            path.write_bytes(damage(whole, rng))
        try:
            return judge(read, right)
        finally:
            path.write_bytes(whole)

    return once


def kinds(folder: Path) -> dict[str, Callable[[random.Random], tuple[str, str]]]:
    """name → once(rng): a change and what came of it."""
    found: dict[str, Callable[[random.Random], tuple[str, str]]] = {}
    # weights by themselves
    torch.manual_seed(0)
    network = ResidualCNN(4, PRESET.cnn_width)
    weights = folder / "cnn.safetensors"
    save_module(network, weights, part="cnn", preset="tiny")

    def read_weights() -> Any:
        return load_module(ResidualCNN(4, PRESET.cnn_width), weights, part="cnn", preset="tiny")

    found["weights"] = files_of_one(weights, "weights", read_weights, lambda x: same(x, network))
    # a checkpoint
    from ctmem.train.pool import build_pool

    runs = Runs(folder / "runs")
    pool = build_pool([runs.source], PRESET, lambda x: x)
    state = folder / "state.safetensors"
    run = Run(ResidualCNN(4, PRESET.cnn_width), cnn_loss, PRESET.train)
    run.validate(lambda network: 1.0)
    run.advance(pool)
    run.save(state)

    def read_state() -> Any:
        again = Run(ResidualCNN(4, PRESET.cnn_width), cnn_loss, PRESET.train)
        again.restore(state)
        return again

    def right_state(again: Any) -> bool:
        mine = again.tensors()
        alike = all(torch.equal(x, mine[name]) for name, x in run.tensors().items())
        return alike and 0 <= again.step <= PRESET.train.steps

    found["checkpoint"] = files_of_one(state, "checkpoint", read_state, right_state)
    # shipped models: their cards, and their weights
    for name, load in (("tiny", load_model_of), ("prior", load_prior), ("fusion", load_denoiser)):
        place = folder / f"shipped-{name}"
        shutil.copytree(data_path(f"weights/{name}/card.json").parent, place)
        whole = load(place)
        part = next(place.glob("*.safetensors"))
        for path, kind in ((place / "card.json", None), (part, "weights")):
            title = f"{name}, {'card' if kind is None else 'weights'}"
            found[title] = files_of_one(
                path, kind, lambda load=load, place=place: load(place), lambda x, whole=whole: same_model(x, whole)
            )
    # a texture library
    library = TextureLibrary.build(
        {"a": torch.rand(1, 3, 20, 24), "b": torch.rand(1, 3, 16, 16)}, lambda x: x, PRESET.match
    )
    path = folder / "library.safetensors"
    library.save(path)
    found["texture library"] = files_of_one(
        path, "texture library", lambda: TextureLibrary.load(path),
        lambda x: all(torch.equal(one, other) for one, other in zip(x.sharp, library.sharp)),
    )  # fmt: skip
    # the table of a benchmark
    table = folder / "table.csv"
    row = dict.fromkeys(COLUMNS, "") | {
        "suite": "s",
        "seed": "0",
        "stage": "after",
        "reference": "none",
        "gain_db": "1.5",
    }
    Table(table).add([row, row | {"seed": "1"}], [torch.rand(9), torch.rand(9)])
    found["table"] = files_of_one(
        table, None, lambda: read_rows(table), lambda rows: all(set(r) == set(COLUMNS) for r in rows)
    )
    replicate = next(table.with_suffix(".replicates").iterdir())
    found["replicates"] = files_of_one(
        replicate, None, lambda: [Table(table).resampled(one) for one in read_rows(table)], lambda x: len(x) == 2
    )
    # a corpus
    import numpy as np

    (folder / "corpus").mkdir()
    image = np.random.default_rng(0).integers(0, 255, (40, 50, 3)).astype(np.uint8)
    np.savez_compressed(folder / "corpus" / "one.npz", image=image)
    packed = folder / "corpus" / "one.npz"
    found["corpus"] = files_of_one(
        packed, None, lambda: read_corpus(folder / "corpus"), lambda x: x["one"].shape == (3, 40, 50)
    )
    # whole folders: read as a model, and gone on with
    place = folder / "mutated"

    def read_folder(rng: random.Random) -> tuple[str, str]:
        runs.mutate(place, rng)
        return judge(lambda: load_model(folder=place), lambda model: same_model(model, runs.model))

    def go_on(rng: random.Random) -> tuple[str, str]:
        runs.mutate(place, rng)
        return judge(lambda: train(PRESET, [runs.source], place), lambda card: runs.right(place), TRAINING)

    found["training folder, read"] = read_folder
    found["training folder, gone on with"] = go_on
    return found


def load_model_of(folder: Path) -> Any:
    """The model of a folder."""
    return load_model(folder=folder)


def same_model(one: Any, other: Any) -> bool:
    """Whether two models, or networks, are alike."""
    if isinstance(one, torch.nn.Module):
        return same(one, other)
    return all(same(getattr(one, part), getattr(other, part)) for part in ("kernel", "cnn", "denoiser"))


def main() -> int:
    """Runs all kinds; returns 1 if there was a fault."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--only", nargs="*")
    parser.add_argument("--write", action="store_true", help="to benchmarks/results/robustness_own.md")
    options = parser.parse_args()
    torch.set_num_threads(1)
    lines = ["| file | changes | loads, and is right | clear error | anything else |", "|---|---|---|---|---|"]
    faults = 0
    with tempfile.TemporaryDirectory() as folder:
        for name, once in kinds(Path(folder)).items():
            if options.only and not any(one in name for one in options.only):
                continue
            start = time.perf_counter()
            counts = tally(name, options.count, once)
            other = {key: n for key, n in counts.items() if key not in ("loads", "clear")}
            faults += sum(other.values())
            text = f"| {name} | {counts.total()} | {counts['loads']} | {counts['clear']} | {other or 0} |"
            print(text, f"{time.perf_counter() - start:.0f} s", flush=True)
            lines.append(text)
    if options.write:
        intro = (
            "# Own files, changed at random\n\n`python benchmarks/robustness_own.py --write`; versions of the forms: "
        )
        text = intro + f"{VERSIONS}.\n\n" + "\n".join(lines) + "\n"
        (Path(__file__).parent / "results" / "robustness_own.md").write_text(text, encoding="utf-8")
    return int(faults > 0)


if __name__ == "__main__":
    sys.exit(main())
