"""What each correction is worth, and what each fault of the released code does: dB, seconds, toys.

    python benchmarks/ablation.py [--seconds 30] [--seeds 2] [--only training rematch faults]

1. **Ablation**: from `corrected`, one setting at a time is put back to what it is as drawn or as released, and a denoiser of
   TINY's size is trained for so many CPU seconds, from several seeds; the wirings as drawn and as released as a whole stand
   below. Crops of 16 px, so that there are a few hundred steps. Indian Pines alone; training area learned from, *validation*
   area scored, test area never touched. K is the shipped one everywhere.
2. **Matching again** (`rematch_every`) with the shipped weights, on the validation areas of both scenes.
3. **Faults**: each on a toy whose right answer is known.

Rows of part 1 are written to results/ablation.csv as they come; the same command goes on where it was stopped.
"""

from __future__ import annotations

import argparse
import csv
import os
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from typing import Any

import machine
import torch
import torch.nn.functional as F

from ctmem.command import forgiving_output
from ctmem.config import TINY, Preset
from ctmem.data.samples import Degraded
from ctmem.diffusion.samplers import sample_ddpm
from ctmem.diffusion.schedule import Schedule
from ctmem.evaluation.metrics import psnr_db
from ctmem.inference import super_resolve
from ctmem.match.dmb import dmb
from ctmem.model import Model, build_networks, load_model
from ctmem.networks.mamba import Stream
from ctmem.networks.tcmm import Branch, RandomProjection
from ctmem.networks.variants import as_drawn, as_released
from ctmem.observe.camera import Camera
from ctmem.train.loop import Run
from ctmem.train.pool import Pool, build_pool
from ctmem.train.sources import Source, embedded_sources
from ctmem.train.stages import denoiser_loss

CSV = machine.RESULTS / "ablation.csv"
COLUMNS = ["setting", "seed", "steps", "cpu_seconds", "ms_per_step", "one_step_db", "after_bp_db", "ddpm_db"]
BASE = replace(TINY, crop=16)
DRAWN, RELEASED = as_drawn(BASE), as_released(BASE)
DDPM_STEPS = 50  # of the chain, where it is sampled; all 2000 would cost 40 times as much
PARTS = ("training", "rematch", "faults")


def _with(**settings: Any) -> Preset:
    """`corrected` with settings of the denoiser."""
    return replace(BASE, denoiser=replace(BASE.denoiser, **settings))


VARIANTS: dict[str, Preset] = {  # what is put back, and the preset then
    "nothing: corrected": BASE,
    "channels: bands": _with(subspace=None),
    "walks: rows": _with(cross_scan=False),
    "CIM as drawn": _with(plain_scan=True),
    "CIM as released": _with(channel_attention=False),
    "skips: none, as drawn": _with(skips="none"),
    "skips: carried, as released": _with(skips="carried"),
    "level on the input, as drawn": _with(level_enters="input"),
    "level in a block, as released": _with(level_enters="block"),
    "random 1×1 of [lr_hsi_up, x_t]": _with(random_projection=True),
    "norm of each pixel": _with(pixel_norm=True),
    "full query, no biases": _with(full_query=True),
    "token projections": _with(token_projection=True),
    "norm twice": _with(double_norm=True),
    "last convolution at random": _with(zero_start=False),
    "matching as drawn": replace(BASE, match=DRAWN.match),
    "training as drawn": replace(BASE, train=DRAWN.train),
    "all: as drawn": DRAWN,
    "all: as released": RELEASED,
}


# --- 1: training ------------------------------------------------------------------------------------------------------


@lru_cache(maxsize=1)
def pines() -> Source:
    """Indian Pines, as it is learned from."""
    (source,) = embedded_sources(Camera.from_config(BASE.camera), only="indian_pines")
    return source


def validation(source: Source) -> Degraded:
    """The validation area of a source."""
    assert source.validation is not None
    return source.scene.cut(source.validation)


def one_row(name: str, seed: int, seconds: float, pools: dict[Any, Pool]) -> list[str]:
    """Trains one denoiser for so many CPU seconds and scores it."""
    preset, kernel, source = VARIANTS[name], load_model().kernel, pines()
    key = preset.match, preset.denoiser.subspace
    if key not in pools:
        pools[key] = build_pool([source], preset, kernel)
    pool = pools[key]
    torch.manual_seed(seed)
    networks = build_networks(preset, bands=source.scene.gt.shape[1])
    # how long a step takes says how many there are
    probe = Run(build_networks(preset, bands=source.scene.gt.shape[1])["denoiser"], denoiser_loss(preset), preset.train)
    probe.advance(pool)
    start = time.process_time()
    for _ in range(6):
        probe.advance(pool)
    each = (time.process_time() - start) / 6
    config = replace(preset.train, steps=max(10, round(seconds / each)))
    run = Run(networks["denoiser"], denoiser_loss(preset), config, seed)
    start = time.process_time()
    for _ in range(config.steps):
        run.advance(pool)
    used = time.process_time() - start
    # scored in one step, then by the chain where a whole wiring is asked for
    model = Model(preset, kernel=kernel, cnn=networks["cnn"], denoiser=run.average, card={})
    scores = [score(model, consistency=False, steps=1), score(model, consistency=True, steps=1)]
    whole = name.startswith(("nothing", "all"))
    chain = score(model, consistency=False, steps=DDPM_STEPS, sampler=sample_ddpm) if whole else float("nan")
    numbers = [f"{used:.1f}", f"{1000 * used / config.steps:.0f}", *(f"{x:.3f}" for x in [*scores, chain])]
    return [name, str(seed), str(config.steps), *numbers]


def score(model: Model, **options: Any) -> float:
    """PSNR in dB on the validation area, with the reference of the own sensor and always the same noise."""
    area, generator = validation(pines()), torch.Generator().manual_seed(0)
    pred = super_resolve(
        model, area.lr_hsi, pines().references[0], camera=area.camera, generator=generator, **options
    )  # fmt: skip
    assert isinstance(pred, torch.Tensor)
    return float(psnr_db(pred, area.gt).mean())


def train_all(seconds: float, seeds: int) -> list[list[str]]:
    """All rows; those that are in the file are taken from there."""
    rows = []
    if CSV.is_file():
        with CSV.open(newline="", encoding="utf-8") as file:
            rows = list(csv.reader(file))[1:]
    done, pools = {(row[0], row[1]) for row in rows}, {}
    for seed in range(seeds):
        for name in VARIANTS:
            if (name, str(seed)) in done:
                continue
            rows.append(one_row(name, seed, seconds, pools))
            print(rows[-1], flush=True)
            with CSV.open("w", newline="", encoding="utf-8") as file:
                csv.writer(file, lineterminator="\n").writerows([COLUMNS, *rows])
    return rows


def training_table(rows: list[list[str]]) -> str:
    """Mean and range over the seeds, and the difference to `corrected` of the same seed."""
    found = {name: [row for row in rows if row[0] == name] for name in VARIANTS}
    usual = {row[1]: row for row in found["nothing: corrected"]}
    lines = []
    for name, group in found.items():
        if not group:
            continue
        cells = [name, _mean(group, 4, 0), _mean(group, 2, 0)]
        for column in (5, 6):
            values = [float(row[column]) for row in group]
            gains = [float(row[column]) - float(usual[row[1]][column]) for row in group if row[1] in usual]
            cells.append(f"{statistics.mean(values):.2f}")
            cells.append("–" if name.startswith("nothing") else ", ".join(f"{gain:+.2f}" for gain in gains))
        cells.append("" if group[0][7] == "nan" else _mean(group, 7, 2))
        lines.append(cells)
    area = validation(pines())
    projected = area.camera.back_project(area.lr_hsi_up, area.lr_hsi, steps=10)
    plain = [float(psnr_db(image, area.gt).mean()) for image in (area.lr_hsi_up, projected)]
    lines.append(["bicubic, nothing learned", "", "", f"{plain[0]:.2f}", "", f"{plain[1]:.2f}", "", ""])
    header = ["put back", "CPU ms/step", "steps", "PSNR/dB", "against corrected, each seed"]
    header += ["after back-projection/dB", "against corrected, each seed", f"DDPM, {DDPM_STEPS} steps/dB"]
    return machine.table(header, lines)


def _mean(rows: list[list[str]], column: int, digits: int) -> str:
    return f"{statistics.mean(float(row[column]) for row in rows):.{digits}f}"


# --- 2: matching again ------------------------------------------------------------------------------------------------


def rematch_table(draws: int = 3) -> str:
    """PSNR and seconds of the shipped weights, DDIM of ten steps, matched once or again."""
    model, steps, rows = load_model(), 10, []
    for source in embedded_sources(model.camera):
        assert source.validation is not None
        box = replace(source.validation, height=min(source.validation.height, 72), width=24)
        area = source.scene.cut(box)
        for every in (None, 5, 2, 1):
            values, seconds = [], []
            for seed in range(draws):
                start = time.perf_counter()
                pred = super_resolve(
                    model, area.lr_hsi, source.references[0], camera=area.camera, steps=steps, rematch_every=every,
                    generator=torch.Generator().manual_seed(seed),
                )  # fmt: skip
                seconds.append(time.perf_counter() - start)
                assert isinstance(pred, torch.Tensor)
                values.append(float(psnr_db(pred, area.gt).mean()))
            spread = f"{statistics.mean(values):.3f} ({min(values):.3f}–{max(values):.3f})"
            rows.append([source.name, str(every), spread, f"{statistics.median(seconds):.2f}"])
    return machine.table(["scene", "rematch_every", f"PSNR/dB, {draws} draws", "seconds"], rows)


# --- 3: faults --------------------------------------------------------------------------------------------------------


def fault_level(steps: int, too_clean: int, seed: int = 0) -> tuple[float, float]:
    """Standard deviation of DDPM samples of N(0, 0.3²), the exact denoiser being told a level so many steps too clean.

    Returns it, and the root mean square of x̂0 less the right x̂0 at the last call.
    """
    sd, generator, chain = 0.3, torch.Generator().manual_seed(seed), Schedule.linear(2000)
    walked = chain.take(chain.trailing(steps))
    levels = [*walked.levels.flip(0).float().tolist(), 1.0]
    calls, off = 0, 0.0

    def best(x: torch.Tensor, level: float) -> torch.Tensor:
        return level * sd**2 / (level**2 * sd**2 + 1 - level**2) * x

    def denoise(x: torch.Tensor, level: torch.Tensor, previous: torch.Tensor) -> torch.Tensor:
        nonlocal calls, off
        told = best(x, levels[calls + too_clean])
        off = float((told - best(x, float(level[0]))).square().mean().sqrt())
        calls += 1
        return told

    x = torch.randn(1, 1, 200, 200, generator=generator)
    found = sample_ddpm(denoise, x, walked, previous=torch.zeros_like(x), generator=generator)
    return float(found.std()), off


def fault_projection(anew: bool) -> tuple[float, float]:
    """What a 1×1, fitted by least squares to see x_t behind a random 1×1 of [lr_hsi_up, x_t], explains of x_t (R²).

    Returns it on new images, and how far two calls on one image differ, relative.
    """
    z, generator = 8, torch.Generator().manual_seed(0)

    def seen(x: torch.Tensor, call: int) -> torch.Tensor:
        return RandomProjection(2 * z, z, seed=call if anew else 0)(x)

    def images(count: int) -> torch.Tensor:
        return torch.randn(count, 2 * z, 8, 8, generator=generator)

    def columns(x: torch.Tensor) -> torch.Tensor:
        return x.movedim(1, -1).reshape(-1, x.shape[1])

    learn, test = images(200), images(50)
    features = torch.cat([columns(seen(x[None], call)) for call, x in enumerate(learn)])
    solved = torch.linalg.lstsq(features, columns(learn[:, z:])).solution
    told = torch.cat([columns(seen(x[None], 1000 + call)) for call, x in enumerate(test)]) @ solved
    truth = columns(test[:, z:])
    one, other = seen(test, 1), seen(test, 2)
    explained = 1 - (told - truth).square().mean() / truth.square().mean()
    return float(explained), float((one - other).norm() / one.norm())


def fault_dropped(skips: str, steps: int = 200) -> float:
    """L1 of two CIM blocks that learn to leave an image as it is (times a trained factor per channel), new images."""
    torch.manual_seed(0)
    config = replace(
        TINY.denoiser, width=8, state=4, residual_blocks=0, cim_blocks=2, channel_attention=False, skips=skips
    )
    branch, generator = Branch(8, config), torch.Generator().manual_seed(0)
    optimiser, losses = torch.optim.Adam(branch.parameters(), lr=3e-3), []
    for _ in range(steps):
        x = torch.randn(8, 8, 8, 8, generator=generator)
        loss = (branch(x) - x).abs().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    return statistics.mean(losses[-20:])


def fault_one_t(shared: bool, batches: int = 4000) -> float:
    """Standard deviation, over its mean, of the loss of a batch of 4 whose expected error at a t is 1 − level."""
    generator, expected = torch.Generator().manual_seed(0), 1 - Schedule.linear(2000).levels
    t = torch.randint(0, 2000, (batches, 1 if shared else 4), generator=generator).expand(-1, 4)
    loss = expected[t].mean(1)
    return float(loss.std() / loss.mean())


def fault_step_sizes(default: bool) -> tuple[float, float, float]:
    """The 5 %, 50 % and 95 % of the step sizes Δ of a stream's channels at the start, on random tokens."""
    torch.manual_seed(0)
    stream = Stream(128)
    if default:
        stream.dt_proj.reset_parameters()
    low_rank = stream.x_proj(F.silu(torch.randn(500, 256) * 0.3))[:, : stream.rank]
    delta = F.softplus(stream.dt_proj(low_rank)).flatten().detach()
    low, middle, high = delta.quantile(torch.tensor([0.05, 0.5, 0.95])).tolist()
    return low, middle, high


def fault_norm_twice(spread: float) -> float:
    """Relative difference that a second application of a norm makes, its weights 1 ± spread and biases ± spread."""
    torch.manual_seed(0)
    norm, x = torch.nn.LayerNorm(32), torch.randn(1000, 32)
    with torch.no_grad():
        norm.weight.add_(spread * torch.randn(32))
        norm.bias.add_(spread * torch.randn(32))
        once = norm(x)
        return float((norm(once) - once).norm() / once.norm())


def fault_matching() -> tuple[float, float, float]:
    """Seconds of matching once and of one step of the denoiser, and how far the textures of two matches differ."""
    model, source = load_model(), pines()
    area = validation(source)
    match: Callable[[], torch.Tensor] = lambda: dmb(
        area.lr_hsi_up, source.references[0], area.camera, BASE.match, blur=model.kernel
    )[0]
    options: dict[str, Any] = {"camera": area.camera, "consistency": False, "generator": torch.Generator()}
    run = {f"{n}": (lambda n=n: super_resolve(model, area.lr_hsi, steps=n, **options)) for n in (1, 11)}
    seconds = machine.interleaved({"match": match, **run}, rounds=5)
    return seconds["match"], (seconds["11"] - seconds["1"]) / 10, float((match() - match()).abs().max())


def fault_table() -> str:
    """One row per fault: what was looked at, as it should be, with the fault."""
    rows = []
    for steps in (10, 50, 2000):
        (right, _), (wrong, off) = fault_level(steps, 0), fault_level(steps, 1)
        what = f"level one step too clean, {steps} steps: deviation of samples of N(0, 0.3²)"
        rows.append([what, f"{right:.3f}", f"{wrong:.3f}"])
        if steps == 10:
            rows.append(["the same: error of the last x̂0", "0", f"{off:.3f}"])
    (kept, _), (lost, differs) = fault_projection(anew=False), fault_projection(anew=True)
    rows.append(["random 1×1 drawn anew: share of x_t that a 1×1 behind it can read", f"{kept:.2f}", f"{lost:.2f}"])
    rows.append(["the same: difference of two calls on one image", "0", f"{differs:.2f}"])
    for spread in (0.0, 0.2, 0.5):
        twice = fault_norm_twice(spread)
        rows.append([f"norm twice, weights and biases off by {spread}: change of tokens", "0", f"{twice:.3f}"])
    added, dropped = fault_dropped("added"), fault_dropped("carried")
    rows.append(
        ["last residual dropped: L1 after 200 steps of learning to change nothing", f"{added:.3f}", f"{dropped:.3f}"]
    )
    own, shared = fault_one_t(shared=False), fault_one_t(shared=True)
    rows.append(["one t per batch of 4: scatter of the batch's loss, relative", f"{own:.2f}", f"{shared:.2f}"])
    usual, default = fault_step_sizes(default=False), fault_step_sizes(default=True)
    cells = [", ".join(f"{x:.2g}" for x in one) for one in (usual, default)]
    rows.append(["dt_proj of the guide's stream at default: Δ, 5 %, 50 %, 95 %", *cells])
    seconds, step, differ = fault_matching()
    rows.append(["matching in every call: s per call of the denoiser", f"{step:.3f}", f"{step + seconds:.3f}"])
    rows.append(["the same: how far the textures of two calls differ", "0", f"{differ:.0e}" if differ else "0"])
    return machine.table(["fault, and what is measured", "as it should be", "with the fault"], rows)


READING = {
    "training": """\
What to read from it: the budget is short, a few minutes for each wiring in all, and steps are counted by a probe that other
programs on the machine disturb, so rows differ in steps by half. A row counts only if it has one sign for every seed and is
farther from `corrected` than `corrected`'s own seeds are from each other. For a verdict on one setting, give it longer:
`--seconds 600 --seeds 5`.""",
    "faults": """\
What to read from it: a level one step too clean is a fault of short chains; over all 2000 steps neighbouring levels hardly
differ. Through a 1×1 drawn anew nothing of x_t can be read; a fixed one passes the half that 8 of 16 channels hold. The
second norm does nothing to a network at its start and takes back part of what its weights learn. The stream whose dt_proj
is left at default forgets within two tokens. One t per batch doubles the scatter of the loss: four samples tell as much as
one.""",
}


# --- the page ---------------------------------------------------------------------------------------------------------


def main() -> None:
    """Measures and writes results/ablation.md."""
    forgiving_output()
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--seconds", type=float, default=30, help="CPU seconds of each training run")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS)
    options = parser.parse_args()
    os.environ.setdefault("CTMEM_QUIET", "1")
    torch.set_num_threads(1)
    texts = [f"# What each correction is worth, what each fault does\n\n{machine.describe('numba')}."]
    if "faults" in options.only:
        texts.append(f"## Faults of the released code, on toys\n\n{fault_table()}\n\n{READING['faults']}")
        print(texts[-1], flush=True)
    if "rematch" in options.only:
        texts.append(
            f"## Matching again while an image is drawn\n\nShipped weights, DDIM, 10 steps, 72×24 px of each validation area.\n\n{rematch_table()}"
        )
        print(texts[-1], flush=True)
    if "training" in options.only:
        rows = train_all(options.seconds, options.seeds)
        about = (
            f"TINY, crops of 16 px, {options.seconds:g} CPU seconds each, Indian Pines: its training area learned from, its "
            f"validation area scored (72×24 px, own sensor's reference). Seeds: {options.seeds}."
        )
        table = training_table(rows)
        texts.insert(1, f"## One correction taken back at a time\n\n{about}\n\n{table}\n\n{READING['training']}")
    if set(options.only) == set(PARTS):
        machine.write("ablation", "\n\n".join(texts))
    else:
        print("\n\n".join(texts))


if __name__ == "__main__":
    main()
