"""Protocol: how an encoder is judged with the labels of a budget."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np

from melssl.backbones.base import Backbone
from melssl.data.images import Images
from melssl.seeding import Seed
from melssl.settings import Settings
from melssl.training.devices import Rank
from melssl.training.loop import Listener, TrainLog
from melssl.training.optim import TrainSpec


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """What a protocol may look at, in rows of the cohort (N samples, K classes).

    ``target`` (N,) int; ``train`` rows whose labels belong to the budget; ``test`` rows to score;
    ``pool`` rows of the fold's training patients, without labels. ``embeddings`` (N, D) is given to
    protocols that read embeddings, ``backbone`` builds the encoder for those that read weights.
    """

    target: np.ndarray
    n_classes: int
    train: np.ndarray
    test: np.ndarray
    pool: np.ndarray
    seed: Seed
    embeddings: np.ndarray | None
    backbone: Callable[[], Backbone]
    images: Images
    image_px: int
    rank: Rank
    state_file: Path | None = None
    checkpoint_seconds: float = 60.0
    listen: Listener | None = None

    @property
    def train_target(self) -> np.ndarray:
        """Labels of the budget, (n_train,)."""
        labels: np.ndarray = self.target[self.train]
        return labels


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """Class probabilities of the test rows (n_test, K), and what was logged on the way."""

    probability: np.ndarray
    log: TrainLog = field(default_factory=TrainLog)


class Protocol(Settings):
    """Settings of a protocol and how it judges; a subclass each, named by its field ``name``."""

    label: ClassVar[str]
    reads: ClassVar[Literal["embeddings", "weights"]]
    name: str

    def training_spec(self) -> TrainSpec | None:
        """Return how the protocol trains the encoder, or None if it does not."""
        return None

    @abstractmethod
    def judge(self, evidence: Evidence) -> Verdict:
        """Fit on the budget's labels, score the test rows."""
