"""What a training step costs here: one to three steps on noise, nothing kept."""

from __future__ import annotations

import time
from typing import TypeVar

import numpy as np
import torch

from melssl.frame import Frame, frame_of
from melssl.seeding import Seed
from melssl.training.devices import Rank
from melssl.training.loop import fit
from melssl.training.optim import TrainSpec
from melssl.training.trainable import Feed, Trainable

BatchT = TypeVar("BatchT")
STEPS, SLOW_SECONDS = 3, 0.5  # a step of half a second is timed well enough by one more


class NoiseImages:
    """Samples of noise where a pixel store is expected; of a ``Frame``, or square RGB images."""

    def __init__(self, size: Frame | int) -> None:
        self.frame = frame_of(size)

    def batch(self, rows: np.ndarray) -> torch.Tensor:
        """Return uint8 noise (B, *frame.shape)."""
        rng = Seed(0).child("noise", len(rows)).torch()
        shape = (len(rows), *self.frame.stored)
        return torch.randint(0, 256, shape, generator=rng, dtype=torch.uint8).movedim(-1, 1)


class NoiseMasks:
    """Masks of noise over as many ``structures`` where those of a budget are expected."""

    def __init__(self, frame: Frame, n_structures: int) -> None:
        self.sides, self.n_structures = frame.sides, n_structures

    def batch(self, rows: np.ndarray) -> torch.Tensor:
        """Return uint8 labels (B, 1, *sides)."""
        rng = Seed(0).child("masks", len(rows)).torch()
        shape, top = (len(rows), 1, *self.sides), self.n_structures + 1
        return torch.randint(0, top, shape, generator=rng, dtype=torch.uint8)


def seconds_per_image(
    module: Trainable[BatchT], feed: Feed[BatchT], spec: TrainSpec, rank: Rank
) -> float:
    """Return seconds per image of one training step, after a first step that is not counted."""
    plain = spec.replace(min_steps=1, ema_decay=None, schedule="constant", warmup_epochs=None)

    def seconds(n_steps: int) -> float:
        started = time.perf_counter()
        fit(module, feed, plain.replace(epochs=n_steps), Seed(0), rank)
        return time.perf_counter() - started

    n_steps = STEPS if seconds(1) < SLOW_SECONDS else 1
    return seconds(n_steps) / n_steps / plain.steps(feed.n_samples).batch_size
