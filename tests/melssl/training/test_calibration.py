"""What a step costs: a quick step is timed by three more, a slow one by one."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from melssl.seeding import Seed
from melssl.training import calibration
from melssl.training.calibration import seconds_per_image
from melssl.training.devices import Rank
from melssl.training.optim import TrainSpec
from melssl.training.trainable import StepResult, Trainable

N_IMAGES, BATCH = 10, 8


class Clocked(Trainable[int]):
    """Steps of as many seconds as ``costs`` says, on a clock of its own."""

    def __init__(self, costs: list[float]) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(()))
        self.costs, self.clock, self.n_steps = costs, 0.0, 0

    def step(self, batch: int) -> StepResult:
        self.clock += self.costs[self.n_steps]
        self.n_steps += 1
        return StepResult(loss=self.weight**2)


class Numbers:
    n_samples = N_IMAGES

    def batch(self, places: np.ndarray, draw: Seed, rank: Rank) -> int:
        return len(places)


@pytest.mark.parametrize(
    ("costs", "expected"),
    [([0.4, 0.1, 0.2, 0.3], 0.2 / BATCH), ([0.6, 0.5], 0.5 / BATCH)],
    ids=["quick", "slow"],
)
def test_the_first_step_is_not_counted_and_a_slow_one_is_followed_by_one(
    costs: list[float], expected: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = Clocked(costs)
    monkeypatch.setattr(calibration, "time", SimpleNamespace(perf_counter=lambda: module.clock))
    spec = TrainSpec.parse({"epochs": 50, "batch_size": BATCH, "min_steps": 200})
    rank = Rank(0, 1, torch.device("cpu"))
    assert seconds_per_image(module, Numbers(), spec, rank) == pytest.approx(expected)
    assert module.n_steps == len(costs)
