"""Schedules by hand-worked values; which weights are decayed."""

import math

import pytest
import torch

from melssl.errors import SpecError
from melssl.training.optim import TrainSpec, build_optimizer


def test_cosine_rises_linearly_and_falls_to_zero() -> None:
    spec = TrainSpec(lr=0.4, batch_size=64, schedule="cosine", warmup_share=0.1)
    base = 0.4 * 64 / 256
    assert spec.lr_at(0, 100) == pytest.approx(base / 10)
    assert spec.lr_at(9, 100) == pytest.approx(base)
    assert spec.lr_at(55, 100) == pytest.approx(base / 2)
    assert spec.lr_at(99, 100) == pytest.approx(base * 0.5 * (1 + math.cos(math.pi * 89 / 90)))


def test_stable_decay_is_flat_and_then_falls_by_one_minus_the_root() -> None:
    spec = TrainSpec(
        lr=1, batch_size=256, schedule="stable_decay", warmup_share=0.1, decay_share=0.2
    )
    assert [spec.lr_at(step, 100) for step in (10, 50, 80)] == pytest.approx([1, 1, 1])
    assert spec.lr_at(85, 100) == pytest.approx(1 - math.sqrt(5 / 20))


def test_constant_stays() -> None:
    spec = TrainSpec(lr=1, batch_size=256, schedule="constant", warmup_share=0)
    assert spec.lr_at(0, 10) == spec.lr_at(9, 10) == 1


def test_a_warmup_that_meets_the_decay_is_refused() -> None:
    with pytest.raises(SpecError, match="must not pass 1"):
        TrainSpec.parse({"schedule": "stable_decay", "warmup_share": 0.9, "decay_share": 0.2})


def test_a_short_pool_makes_one_small_batch_and_keeps_the_minimum_of_steps() -> None:
    plan = TrainSpec(epochs=3, min_steps=50, batch_size=64).steps(20)
    assert (plan.batch_size, plan.per_epoch, plan.total) == (20, 1, 50)


@pytest.mark.parametrize("name", ["adamw", "sgd", "lars"])
def test_only_matrices_are_decayed(name: str) -> None:
    module = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.BatchNorm1d(3))
    spec = TrainSpec.parse({"optimizer": name, "weight_decay": 0.1})
    groups = build_optimizer(module, spec).param_groups
    assert [(len(g["params"]), g["weight_decay"]) for g in groups] == [(1, 0.1), (3, 0.0)]


def test_a_warmup_in_epochs_is_as_long_in_every_training() -> None:
    fixed = TrainSpec(lr=1, batch_size=256, schedule="stable_decay", warmup_epochs=2)
    short, long = fixed.replace(epochs=10).steps(256 * 5), fixed.replace(epochs=40).steps(256 * 5)
    for step in (0, 4, 9, 10, 39):
        rates = {fixed.lr_at(step, plan.total, plan.per_epoch) for plan in (short, long)}
        assert rates == {min((step + 1) / 10, 1.0)}
    assert fixed.anneals_from(short.total) == 40
    assert fixed.lr_at(45, short.total, 5) == pytest.approx(1 - math.sqrt(5 / 10))
    assert fixed.lr_at(45, long.total, 5) == 1


def test_a_warmup_in_epochs_that_meets_the_decay_is_refused() -> None:
    spec = TrainSpec(schedule="stable_decay", epochs=4, warmup_epochs=3.5, batch_size=8)
    with pytest.raises(SpecError, match="14 steps of warm-up do not fit before step 13 of 16"):
        spec.steps(32)


def test_only_a_fixed_warmup_shares_a_trunk() -> None:
    stable = TrainSpec(schedule="stable_decay")
    assert not stable.shares_trunk
    assert stable.replace(warmup_epochs=1).shares_trunk
    assert stable.replace(warmup_share=0).shares_trunk
    assert not TrainSpec(warmup_epochs=1).shares_trunk


def test_a_training_without_warmup_in_epochs_is_keyed_as_before() -> None:
    assert "warmup_epochs" not in TrainSpec().keyed()
    assert TrainSpec(warmup_epochs=0).keyed()["warmup_epochs"] == 0
