"""The training loop: pieces of a batch, its log, its complaints, and that nothing stops it for good."""

import csv
import errno
import itertools
import multiprocessing
import os
import random
import time
from dataclasses import replace

import pytest
import torch
from accelerate import Accelerator

from ctmem.config import TrainConfig
from ctmem.files import load_tensors
from ctmem.model import build_networks
from ctmem.train.loop import Run, fit, learning_rate_factor, new_accelerator
from ctmem.train.pool import Pool, build_pool, draw_batch
from ctmem.train.stages import cnn_loss, denoiser_loss
from tests.small_training import SMALL, small_source, train_in_a_process, train_on_a_full_disk

LOSS = {"cnn": cnn_loss, "denoiser": denoiser_loss(SMALL)}


@pytest.fixture(scope="module")
def pool():
    return build_pool([small_source()], SMALL, lambda x: x)


def network(part="cnn"):
    torch.manual_seed(0)
    return build_networks(SMALL)[part]


def gradients(module):
    return torch.cat([p.grad.flatten() for p in module.parameters()])


# --- pieces of a batch ----------------------------------------------------------------------------------------------


def test_pieces_give_the_gradient_of_the_whole_batch(pool):
    """Two pieces of three samples, and the same six samples at once."""
    config = replace(SMALL.train, batch=6, clip=1e9)
    run = Run(network(), cnn_loss, config, seed=5, micro_batch=3)
    value = run.advance(pool)
    seeds = torch.randint(2**62, (2,), generator=torch.Generator().manual_seed(5)).tolist()
    drawn = [draw_batch(pool, replace(config, batch=3), torch.Generator().manual_seed(seed)) for seed in seeds]
    whole = Pool(*(torch.cat([getattr(one, field) for one in drawn]) for field in vars(drawn[0])))
    fresh = network()
    loss = cnn_loss(fresh, whole, None)
    loss.backward()
    assert value == pytest.approx(loss.item(), rel=1e-6)
    assert gradients(run.network).allclose(gradients(fresh), rtol=1e-4, atol=1e-7)


class Pretended:
    """An accelerator that says it is one of several processes, and adds up nothing."""

    def __init__(self, index, processes):
        self.process_index, self.num_processes, self.real = index, processes, new_accelerator(place=False)

    def __getattr__(self, name):
        return getattr(self.real, name)


@pytest.mark.parametrize("part", LOSS)
def test_processes_share_a_batch_without_overlap(pool, part):
    """The mean of what two processes find is what one process finds in two pieces."""
    config = replace(SMALL.train, batch=4, clip=1e9)
    alone = Run(network(part), LOSS[part], config, micro_batch=2)
    two = [Run(network(part), LOSS[part], config, accelerator=Pretended(i, 2)) for i in range(2)]
    values = [run.advance(pool) for run in two]
    assert alone.advance(pool) == pytest.approx(sum(values) / 2) and values[0] != values[1]
    both = sum(gradients(run.network) for run in two) / 2
    assert gradients(alone.network).allclose(both, rtol=1e-4, atol=1e-7)
    assert all(torch.equal(run.generator.get_state(), alone.generator.get_state()) for run in two)


def test_batches_that_cannot_be_shared_out(pool):
    message = r"`batch` must be a multiple of 3 samples at once × 1 process\(es\), got 4"
    with pytest.raises(ValueError, match=message):
        Run(network(), cnn_loss, TrainConfig(batch=4), micro_batch=3)
    with pytest.raises(ValueError, match=r"`batch` must be a multiple of 1 samples at once × 3 process\(es\), got 4"):
        Run(network(), cnn_loss, TrainConfig(batch=4), accelerator=Pretended(0, 3))
    with pytest.raises(ValueError, match="`micro_batch` must be a whole number ≥ 1, got 0"):
        fit(network(), pool, cnn_loss, lambda network: 0.0, TrainConfig(batch=4), micro_batch=0)


def test_processes_that_do_not_see_the_checkpoint(pool, monkeypatch):
    monkeypatch.setattr(Accelerator, "gather", lambda self, x: torch.tensor([3, 0]))
    with pytest.raises(ValueError, match=r"`checkpoint` must be in a folder that every process sees, got .* \[3, 0\]"):
        fit(network(), pool, cnn_loss, lambda network: 0.0, SMALL.train)


def test_a_network_stays_where_it_is_unless_an_accelerator_is_given():
    assert new_accelerator(place=False).device_placement is False and new_accelerator().device_placement is True
    assert new_accelerator().mixed_precision == ("bf16" if torch.cuda.is_available() else "no")


# --- a step by hand -------------------------------------------------------------------------------------------------


class Line(torch.nn.Module):
    """Two numbers that are moved: the loss is their product with what is asked for."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.tensor([1.0, -2.0]))


def slope(*values):
    """A loss whose gradient is always these numbers."""
    return lambda network, batch, generator: (network.weight * torch.tensor(values)).sum()


@pytest.mark.parametrize(("ema", "decays"), [(0.999, [1 / 11, 2 / 12, 3 / 13]), (0.1, [1 / 11, 0.1, 0.1])])
def test_the_average_begins_short_and_grows_to_its_decay(pool, ema, decays):
    """After step k the decay is k / (k + 10), and never more than `ema`."""
    run = Run(Line(), slope(1.0, -3.0), replace(SMALL.train, ema=ema, warmup=0, cosine=False, learning_rate=0.5))
    expected = torch.tensor([1.0, -2.0])
    for decay in decays:
        run.advance(pool)
        expected = decay * expected + (1 - decay) * run.network.weight.detach()
        torch.testing.assert_close(run.average.weight, expected)
    torch.testing.assert_close(run.network.weight.detach(), torch.tensor([1 - 1.5, -2 + 1.5]))  # Adam: the sign alone


@pytest.mark.parametrize(
    ("clip", "wanted"), [(2.0, [1.2, -1.6]), (5.0, [3.0, -4.0]), (7.0, [3.0, -4.0]), (None, [3.0, -4.0])]
)
def test_a_gradient_is_shortened_to_the_clip_and_keeps_its_direction(pool, clip, wanted):
    """(3, −4) has length 5. Adam's first step forgets the length: its own mean of gradients shows it."""
    run = Run(Line(), slope(3.0, -4.0), replace(SMALL.train, clip=clip))
    run.advance(pool)
    assert run.network.weight.grad.tolist() == pytest.approx(wanted, rel=1e-5)
    mean = run.optimizer.state[run.network.weight]["exp_avg"]
    assert mean.tolist() == pytest.approx([0.1 * x for x in wanted], rel=1e-5)


def test_gradients_are_those_of_one_step(pool):
    run = Run(Line(), slope(3.0, -4.0), replace(SMALL.train, clip=None))
    for _ in range(3):
        run.advance(pool)
    assert run.network.weight.grad.tolist() == [3.0, -4.0]


@pytest.mark.parametrize(("keep_best", "kept"), [(True, 1), (False, 4)])
def test_what_is_scored_and_kept_is_the_average_the_best_or_the_last(pool, keep_best, kept):
    """Scores 1, 5, 2, 5: the first of equal ones is the best, unless the last is asked for."""
    config = replace(SMALL.train, keep_best=keep_best, learning_rate=0.5, warmup=0)
    run, seen = Run(Line(), slope(1.0, 1.0), config), []
    for score in (1.0, 5.0, 2.0, 5.0, 3.0):
        run.validate(lambda network, score=score: seen.append(network.weight.clone()) or score)
        assert torch.equal(seen[-1], run.average.weight) and (run.step == 0) == torch.equal(
            seen[-1], run.network.weight
        )
        run.advance(pool)
    assert torch.equal(run.best.weight, seen[kept]) and run.best_score == (5.0 if keep_best else 3.0)


# --- log ------------------------------------------------------------------------------------------------------------


def test_the_log_is_the_history(pool, tmp_path):
    seen = []
    config = replace(SMALL.train, steps=5)
    run = fit(
        network(), pool, cnn_loss, lambda network: 30.0, config, log=tmp_path / "log.csv",
        on_validate=lambda run: seen.append(run.step),
    )  # fmt: skip
    with (tmp_path / "log.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["step"]) for row in rows] == [0, 2, 4, 5] == seen
    assert [row["loss"] for row in rows] == [""] + [f"{row[1]:.6g}" for row in run.history[1:]]
    assert float(rows[1]["learning_rate"]) == pytest.approx(config.learning_rate)  # the second of two warm-up steps
    rates = [float(row["learning_rate"]) / config.learning_rate for row in rows[2:]]
    assert rates == pytest.approx([0.75, 0.25])  # cosines of a third and two thirds of a half turn
    assert rows[0]["learning_rate"] == "" and {row["validation_psnr_db"] for row in rows} == {"30.0000"}
    seconds = [float(row["seconds"]) for row in rows]
    assert seconds == sorted(seconds) and seconds[-1] > 0


def test_learning_rate():
    config = TrainConfig(steps=110, warmup=10)
    factors = [learning_rate_factor(step, config) for step in (0, 9, 10, 60, 110)]
    assert factors == pytest.approx([0.1, 1.0, 1.0, 0.5, 0.0])


@pytest.mark.parametrize(
    ("options", "steps", "factors"),
    [
        ({"warmup": 4, "cosine": False}, (0, 1, 3, 4, 99), [0.25, 0.5, 1.0, 1.0, 1.0]),
        ({"warmup": 0}, (0, 50, 100), [1.0, 0.5, 0.0]),
        ({"warmup": 100}, (0, 49, 99), [0.01, 0.5, 1.0]),
    ],
)
def test_learning_rate_with_and_without_warm_up_and_cosine(options, steps, factors):
    config = TrainConfig(steps=100, **options)
    assert [learning_rate_factor(step, config) for step in steps] == pytest.approx(factors, abs=1e-12)


def test_the_rate_of_a_step_is_the_one_that_is_taken(pool):
    """Adam with a constant gradient moves by the rate itself: 1/2 and 2/2 of warm-up, then half a cosine."""
    run = Run(Line(), slope(1.0, 1.0), TrainConfig(steps=4, warmup=2, batch=2, learning_rate=0.5))
    places = [1.0]
    for _ in range(4):
        run.advance(pool)
        places.append(float(run.network.weight.detach()[0]))
    assert [a - b for a, b in itertools.pairwise(places)] == pytest.approx([0.25, 0.5, 0.5, 0.25], rel=1e-5)


# --- stopped at any moment ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def processes():
    """Makes processes that begin with everything imported: they can be killed for real, and start at once."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.small_training", "torch._dynamo", "ctmem.networks.scan.numba_backend"])
    context.Process(target=os.getpid).start()  # the server takes its time to import
    return context.Process


@pytest.fixture(scope="module")
def whole(processes, tmp_path_factory):
    """Folder of a run that nothing stopped, and the seconds that it took."""
    folder = tmp_path_factory.mktemp("whole")
    start = time.perf_counter()
    process = processes(target=train_in_a_process, args=(folder,))
    process.start()
    process.join()
    assert process.exitcode == 0
    return folder, time.perf_counter() - start


def assert_same_files(folder, other):
    """All weights and checkpoints bit for bit; the card but for the minutes."""
    names = sorted(path.relative_to(other).as_posix() for path in other.glob("*.safetensors"))
    assert names == ["cnn.safetensors", "denoiser.safetensors", "kernel.safetensors"]
    for name in [*names, "state/cnn.safetensors", "state/denoiser.safetensors"]:
        kind = "checkpoint" if name.startswith("state/") else "weights"
        one, two = (load_tensors(path / name, kind=kind)[0] for path in (folder, other))
        assert one.keys() == two.keys() and all(torch.equal(one[key], two[key]) for key in one), name


@pytest.mark.parametrize("seed", range(int(os.environ.get("CTMEM_KILL_RUNS", "1"))))
def test_killed_at_random_moments_and_started_again(whole, processes, tmp_path, seed):
    """SIGKILL cannot be caught: whatever was being computed or written is cut off there and then."""
    folder, seconds = whole
    delays = [random.Random(seed).uniform(0, seconds) for _ in range(4)]
    for delay in delays:
        process = processes(target=train_in_a_process, args=(tmp_path,))
        process.start()
        process.join(delay)
        process.kill()
        process.join()
    process = processes(target=train_in_a_process, args=(tmp_path,))
    process.start()
    process.join()
    assert process.exitcode == 0
    assert_same_files(tmp_path, folder)


def test_no_room_for_the_next_checkpoint(whole, processes, tmp_path):
    """One clear error, nothing half-written; with room again the run ends as if nothing had been."""
    folder, _ = whole
    limit = (folder / "state" / "denoiser.safetensors").stat().st_size // 2  # enough for the CNN
    process = processes(target=train_on_a_full_disk, args=(tmp_path, limit))
    process.start()
    process.join()
    assert process.exitcode == 0
    message = (tmp_path / "error.txt").read_text(encoding="utf-8")
    assert "`path` must be a file that can be written, got denoiser.safetensors: File too large" in message
    assert not list(tmp_path.rglob("*.part")) and not (tmp_path / "denoiser.safetensors").exists()
    process = processes(target=train_in_a_process, args=(tmp_path,))
    process.start()
    process.join()
    assert_same_files(tmp_path, folder)


def test_a_disk_that_fills_up_keeps_the_last_checkpoint(pool, tmp_path, monkeypatch):
    config, checkpoint = replace(SMALL.train, steps=6, save_every=1), tmp_path / "state.safetensors"
    arguments = (pool, cnn_loss, lambda network: 0.0, config)
    written, flush = [], os.fsync

    def disk_of_two_checkpoints(descriptor):
        written.append(descriptor)
        if len(written) > 2:
            raise OSError(errno.ENOSPC, "No space left on device")
        flush(descriptor)

    with monkeypatch.context() as full:
        full.setattr("ctmem.files.os.fsync", disk_of_two_checkpoints)
        with pytest.raises(OSError, match="`path` must be a file that can be written, got state.safetensors: No space"):
            fit(network(), *arguments, checkpoint=checkpoint)
    run = Run(network(), cnn_loss, config)
    run.restore(checkpoint)
    assert run.step == 2 and [path.name for path in tmp_path.iterdir()] == [checkpoint.name]
    resumed, straight = fit(network(), *arguments, checkpoint=checkpoint), fit(network(), *arguments)
    assert all(torch.equal(x, resumed.tensors()[name]) for name, x in straight.tensors().items())


def test_resumed_between_two_validations_the_mean_loss_is_that_of_all_steps(pool, tmp_path):
    """Losses 1, 2, 3 … by hand; the checkpoint of step 3 is taken up in the middle of a row of four."""
    config, checkpoint = replace(SMALL.train, steps=8, validate_every=4, save_every=3), tmp_path / "state.safetensors"
    made = []

    def loss(network, batch, generator):
        made.append(len(made) + 1)
        if stop and made[-1] > 4:
            raise KeyboardInterrupt
        return network.out.bias.sum() * 0 + float(made[-1])

    stop = True
    with pytest.raises(KeyboardInterrupt):
        fit(network(), pool, loss, lambda network: 0.0, config, checkpoint=checkpoint)
    made[:], stop = [1, 2, 3], False
    run = fit(network(), pool, loss, lambda network: 0.0, config, checkpoint=checkpoint)
    assert [row[:2] for row in run.history] == [[0, 0], [4, 2.5], [8, 6.5]] and made == list(range(1, 9))
