"""What the loop trains and feeds: a module that knows its loss, and where its batches come from."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

import numpy as np
from torch import Tensor, nn

from melssl.seeding import Seed
from melssl.training.devices import Rank
from melssl.training.optim import Rate

BatchT = TypeVar("BatchT")
BatchT_co = TypeVar("BatchT_co", covariant=True)


@dataclass(frozen=True, kw_only=True)
class StepResult:
    """The loss to descend (scalar) and named parts to log (detached scalars)."""

    loss: Tensor
    parts: dict[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Progress:
    """Where training stands: ``step`` of ``total_steps`` done, ``per_epoch`` of them to an epoch.

    Whatever anneals with training (a momentum, a temperature) goes by ``fraction``, which begins at
    ``anneals_from``: so the constant part of a trunk does not depend on how long it will be.
    """

    step: int
    total_steps: int
    per_epoch: int = 1
    anneals_from: int = 0

    @property
    def fraction(self) -> float:
        """Share of the annealing done, in 0..1."""
        span = self.total_steps - self.anneals_from
        return min(max(self.step - self.anneals_from, 0) / span, 1.0) if span > 0 else 0.0

    @property
    def epoch(self) -> float:
        """Epochs done."""
        return self.step / self.per_epoch


class Trainable(nn.Module, Generic[BatchT]):
    """A module that knows its loss. It knows no optimiser, device or logger."""

    @abstractmethod
    def step(self, batch: BatchT) -> StepResult:
        """Return the loss of one batch."""

    def forward(self, batch: BatchT) -> StepResult:
        """Return ``step``, through the call that data-parallel training wraps."""
        return self.step(batch)

    def rate(self, name: str) -> Rate:
        """Return how the learning rate of the weight ``name`` relates to the schedule's."""
        return Rate()

    def before_step(self, progress: Progress) -> None:  # most have nothing to do
        """Set what depends on how far training is (temperatures, what is frozen)."""

    def after_step(self, progress: Progress) -> None:  # most have nothing to do
        """Update what gradients do not (momentum encoders, queues, temperatures)."""


class Feed(Protocol[BatchT_co]):
    """Where batches come from."""

    @property
    def n_samples(self) -> int:
        """How many samples an epoch passes."""
        ...

    def batch(self, places: np.ndarray, draw: Seed, rank: Rank) -> BatchT_co:
        """Return this rank's share of the global batch of samples at ``places``."""
        ...
