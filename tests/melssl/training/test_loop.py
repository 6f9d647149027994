"""The loop: interrupted runs end bit-identical, failures are told, several processes agree."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from melssl.backbones import backbone_config
from melssl.data.views import VIEW_PRESETS
from melssl.errors import ArtifactError, NotFiniteError, TrainingError
from melssl.frame import Frame
from melssl.methods.base import Method, PoolFacts
from melssl.methods.mae import Mae, MaeConfig
from melssl.methods.pool import PoolFeed
from melssl.methods.simclr import SimClr, SimClrConfig
from melssl.seeding import Seed
from melssl.training.best import Score
from melssl.training.calibration import NoiseImages
from melssl.training.checkpoint import load_tensors, save_tensors
from melssl.training.devices import Rank, Runtime, on_devices
from melssl.training.loop import Segment, TrainLog, fit
from melssl.training.optim import TrainSpec

PX, N = 16, 40
RANK = Rank(0, 1, torch.device("cpu"))
FACTS = PoolFacts(n_samples=N, n_patients=4, image_px=PX)


class StoppedError(Exception):
    pass


def simclr() -> Method:
    torch.manual_seed(0)
    config = backbone_config({"family": "small_cnn", "first_width": 8, "n_blocks": 2})
    return SimClr(SimClrConfig(hidden_width=16), config.build(PX), FACTS)


def feed(method: Method) -> PoolFeed:
    recipes = method.recipes(method.Config(), VIEW_PRESETS["medical"])
    return PoolFeed(NoiseImages(PX), np.arange(N), np.arange(N), recipes, Frame(PX))


def same(first: Method, second: Method) -> bool:
    theirs = second.state_dict()
    return all(torch.equal(v, theirs[k]) for k, v in first.state_dict().items())


@pytest.mark.parametrize("optimizer", ["adamw", "sgd", "lars"])
@pytest.mark.parametrize("ema", [None, 0.9])
def test_a_run_stopped_mid_epoch_and_resumed_gives_bit_identical_weights(
    optimizer: str, ema: float | None, tmp_path: Path
) -> None:
    spec = TrainSpec.parse(
        {"epochs": 3, "batch_size": 8, "optimizer": optimizer, "ema_decay": ema, "clip_norm": 1.0}
    )
    whole = simclr()
    expected = fit(whole, feed(whole), spec, Seed(1), RANK)

    def stop(step: int, total: int, loss: float) -> None:
        if step == 7:  # two steps into the second epoch
            raise StoppedError

    state = tmp_path / "state"
    broken = simclr()
    with pytest.raises(StoppedError):
        fit(broken, feed(broken), spec, Seed(1), RANK, state_file=state, checkpoint_seconds=0,
            listen=stop)  # fmt: skip
    resumed = simclr()
    log = fit(resumed, feed(resumed), spec, Seed(1), RANK, state_file=state)
    assert same(whole, resumed)
    assert log.curves == expected.curves


def test_a_killed_process_goes_on_with_the_same_numbers(tmp_path: Path) -> None:
    code = """
import sys, os, signal
sys.path.insert(0, os.path.dirname(sys.argv[2]))
from test_loop import *
from melssl.training.devices import settle
settle(Runtime())
def listen(step, total, loss):
    if sys.argv[3] == "die" and step == 7:
        os.kill(os.getpid(), signal.SIGKILL)
method = simclr()
spec = TrainSpec(epochs=3, batch_size=8)
out = Path(sys.argv[1])
fit(method, feed(method), spec, Seed(1), RANK, state_file=out / "state", checkpoint_seconds=0,
    listen=listen)
save_tensors(out / "weights", method.state_dict(), {})
"""

    def run(folder: str, how: str) -> int:
        (tmp_path / folder).mkdir(exist_ok=True)
        arguments = [sys.executable, "-c", code, str(tmp_path / folder), __file__, how]
        return subprocess.run(arguments, check=False).returncode

    assert run("killed", "die") == -signal.SIGKILL
    assert (tmp_path / "killed" / "state").exists()
    assert run("killed", "live") == 0
    assert run("whole", "live") == 0
    resumed, _ = load_tensors(tmp_path / "killed" / "weights")
    expected, _ = load_tensors(tmp_path / "whole" / "weights")
    assert all(torch.equal(value, resumed[name]) for name, value in expected.items())


def test_the_same_seed_gives_the_same_weights_and_another_seed_others() -> None:
    spec = TrainSpec(epochs=1, batch_size=8)
    runs = []
    for seed in (0, 0, 1):
        method = simclr()
        fit(method, feed(method), spec, Seed(seed), RANK)
        runs.append(method)
    assert same(runs[0], runs[1])
    assert not same(runs[0], runs[2])


def test_a_loss_that_is_not_finite_stops_with_advice() -> None:
    method = simclr()
    with torch.no_grad():
        next(method.parameters()).fill_(float("nan"))
    with pytest.raises(NotFiniteError, match="lower lr"):
        fit(method, feed(method), TrainSpec(epochs=1, batch_size=8), Seed(0), RANK)


def test_averaged_weights_are_the_exponential_average_of_the_steps() -> None:
    method = simclr()
    steps: list[dict[str, torch.Tensor]] = []

    def keep(step: int, total: int, loss: float) -> None:
        steps.append({k: v.detach().clone() for k, v in method.named_parameters()})

    spec = TrainSpec(epochs=1, batch_size=N // 2, ema_decay=0.75)
    fit(method, feed(method), spec, Seed(0), RANK, checkpoint_seconds=0, listen=keep)
    first, second = steps  # the average starts at the weights after the first step
    for name, weight in method.named_parameters():
        torch.testing.assert_close(weight, 0.75 * first[name] + 0.25 * second[name])
    assert any(not torch.equal(first[name], second[name]) for name in first)


SCORES = {5: 0.2, 10: float("nan"), 15: 0.7, 20: 0.7, 25: 0.1}


def by_step(scores: list[float]) -> Score:
    """Return a score that gives one value after the other."""
    left = iter(scores)
    return lambda module: next(left)


@pytest.mark.parametrize("ema", [None, 0.9])
def test_the_first_of_the_best_epochs_is_left_in_place(ema: float | None) -> None:
    steps: dict[int, dict[str, torch.Tensor]] = {}

    def choose(module: torch.nn.Module) -> float:
        step = 5 * (len(steps) + 1)
        steps[step] = {k: v.clone() for k, v in module.state_dict().items()}
        return SCORES[step]

    method = simclr()
    spec = TrainSpec(epochs=5, batch_size=8, ema_decay=ema)
    log = fit(method, feed(method), spec, Seed(1), RANK, choose=choose)
    assert all(torch.equal(v, steps[15][k]) for k, v in method.state_dict().items())
    assert not all(torch.equal(v, steps[20][k]) for k, v in method.state_dict().items())
    assert log.curves["validation"] == [(5, 0.2), (15, 0.7), (20, 0.7), (25, 0.1)]
    assert log.curves["chosen"] == [(15, 0.7)]


def test_choosing_an_epoch_leaves_the_training_as_it_was() -> None:
    spec = TrainSpec(epochs=2, batch_size=8)
    plain, chosen = simclr(), simclr()
    expected = fit(plain, feed(plain), spec, Seed(1), RANK).curves["loss"]
    log = fit(chosen, feed(chosen), spec, Seed(1), RANK, choose=by_step([0.1, 0.2]))
    assert log.curves["loss"] == expected
    assert same(plain, chosen)


def test_a_chosen_epoch_outlives_an_interruption(tmp_path: Path) -> None:
    def stop(step: int, total: int, loss: float) -> None:
        if step == 13:
            raise StoppedError

    spec = TrainSpec(epochs=4, batch_size=8)
    whole, resumed = simclr(), simclr()
    expected = fit(whole, feed(whole), spec, Seed(1), RANK, choose=by_step([0.1, 0.9, 0.2, 0.3]))
    state, broken = tmp_path / "state", simclr()
    with pytest.raises(StoppedError):
        fit(broken, feed(broken), spec, Seed(1), RANK, state_file=state, checkpoint_seconds=0,
            listen=stop, choose=by_step([0.1, 0.9]))  # fmt: skip
    log = fit(resumed, feed(resumed), spec, Seed(1), RANK, state_file=state,
              choose=by_step([0.2, 0.3]))  # fmt: skip
    assert same(whole, resumed)
    assert log.curves == expected.curves


def test_a_training_without_any_score_has_no_best_epoch() -> None:
    method = simclr()
    spec = TrainSpec(epochs=1, batch_size=8)
    with pytest.raises(TrainingError, match="no epoch has a score"):
        fit(method, feed(method), spec, Seed(0), RANK, choose=lambda module: float("nan"))


def test_a_state_of_another_training_is_refused(tmp_path: Path) -> None:
    method = simclr()
    state = tmp_path / "state"
    fit(method, feed(method), TrainSpec(epochs=1, batch_size=8), Seed(0), RANK,
        state_file=state, checkpoint_seconds=0)  # fmt: skip
    with pytest.raises(ArtifactError, match="another training"):
        fit(simclr(), feed(method), TrainSpec(epochs=2, batch_size=8), Seed(0), RANK,
            state_file=state)  # fmt: skip


STABLE = {"batch_size": 8, "schedule": "stable_decay", "warmup_epochs": 0.4, "decay_share": 0.4}


@pytest.mark.parametrize("optimizer", ["adamw", "sgd", "lars"])
@pytest.mark.parametrize("ema", [None, 0.9])
def test_segments_that_follow_each_other_are_one_training(
    optimizer: str, ema: float | None, tmp_path: Path
) -> None:
    own = STABLE | {"optimizer": optimizer, "ema_decay": ema}
    short, long = (TrainSpec.parse(own | {"epochs": epochs}) for epochs in (3, 4))
    whole = simclr()
    expected = fit(whole, feed(whole), long, Seed(1), RANK)

    def piece(spec: TrainSpec, **ends: Path | int | None) -> tuple[Method, TrainLog]:
        method = simclr()
        return method, fit(method, feed(method), spec, Seed(1), RANK, segment=Segment(**ends))

    # the trunk of the shorter training ends in the middle of an epoch
    ends = short.anneals_from(15), long.anneals_from(20)
    assert ends == (9, 12)
    piece(short, end=ends[0], leave=tmp_path / "a")
    piece(long, begin=tmp_path / "a", end=ends[1], leave=tmp_path / "b")
    method, log = piece(long, begin=tmp_path / "b")
    assert same(whole, method)
    assert log.curves == expected.curves
    assert 0 < log.inherited_seconds < log.seconds


def test_a_segment_counts_its_own_steps_and_outlives_an_interruption(tmp_path: Path) -> None:
    spec, told = TrainSpec.parse(STABLE | {"epochs": 4}), list[tuple[int, int]]()
    whole = simclr()
    fit(whole, feed(whole), spec, Seed(1), RANK)
    first = simclr()
    fit(first, feed(first), spec, Seed(1), RANK, segment=Segment(end=6, leave=tmp_path / "a"))

    def stop(step: int, total: int, loss: float) -> None:
        told.append((step, total))
        if step == 3:
            raise StoppedError

    branch, state = Segment(begin=tmp_path / "a"), tmp_path / "state"
    broken = simclr()
    with pytest.raises(StoppedError):
        fit(broken, feed(broken), spec, Seed(1), RANK, state_file=state, checkpoint_seconds=0,
            listen=stop, segment=branch)  # fmt: skip
    assert told == [(1, 14), (2, 14), (3, 14)]
    resumed = simclr()
    log = fit(resumed, feed(resumed), spec, Seed(1), RANK, state_file=state, segment=branch,
              listen=lambda step, total, loss: told.append((step, total)))  # fmt: skip
    assert same(whole, resumed)
    assert told[-1] == (14, 14)
    inherited = load_tensors(tmp_path / "a")[1]["seconds"]
    assert log.inherited_seconds == inherited


def test_a_state_of_other_batches_is_not_inherited(tmp_path: Path) -> None:
    method, spec = simclr(), TrainSpec.parse(STABLE | {"epochs": 4})
    fit(method, feed(method), spec, Seed(0), RANK, segment=Segment(end=6, leave=tmp_path / "a"))
    with pytest.raises(ArtifactError, match="another training"):
        fit(simclr(), feed(method), spec.replace(batch_size=10), Seed(0), RANK,
            segment=Segment(begin=tmp_path / "a"))  # fmt: skip


def test_a_truncated_checkpoint_is_a_clear_error(tmp_path: Path) -> None:
    path = tmp_path / "weights"
    save_tensors(path, {"a": torch.arange(1000.0)}, {"x": 1})
    assert load_tensors(path)[1] == {"x": 1}
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(ArtifactError, match="delete it"):
        load_tensors(path)


def test_bf16_trains_close_to_fp32() -> None:
    losses = []
    for precision in ("fp32", "bf16"):
        method = simclr()
        spec = TrainSpec.parse({"epochs": 2, "batch_size": 8, "precision": precision})
        log = fit(method, feed(method), spec, Seed(0), RANK)
        losses.append(log.curves["loss"][-1][1])
    assert losses[0] != losses[1]
    assert losses[0] == pytest.approx(losses[1], rel=0.05)


def mae() -> Method:
    torch.manual_seed(0)
    vit = {"family": "small_vit", "patch_px": 4, "embed_width": 32, "depth": 1, "heads": 2}
    return Mae(MaeConfig(), backbone_config(vit).build(PX), FACTS)


def train_and_save(rank: Rank, folder: Path, kind: str) -> None:
    method = mae() if kind == "mae" else simclr()
    spec = TrainSpec(epochs=1, batch_size=8)
    log: TrainLog = fit(method, feed(method), spec, Seed(0), rank)
    path = folder / f"{kind}-{rank.index}-of-{rank.size}"
    save_tensors(path, dict(method.named_parameters()), {"curves": log.curves})


@pytest.mark.parametrize("kind", ["mae", "simclr"])
def test_two_processes_train_one_method_together(kind: str, tmp_path: Path) -> None:
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    for n_devices in (1, 2):
        runtime = Runtime(device="cpu", n_devices=n_devices)
        on_devices(runtime, train_and_save, tmp_path, kind)
    names = ("0-of-1", "0-of-2", "1-of-2")
    alone, first, second = (load_tensors(tmp_path / f"{kind}-{name}")[0] for name in names)
    # averaged gradients keep both processes at the same weights
    assert all(torch.equal(value, second[name]) for name, value in first.items())
    # masks and batch statistics are per process, so one process goes another way
    assert any(not torch.equal(value, first[name]) for name, value in alone.items())
    assert all(torch.isfinite(value).all() for value in first.values())
