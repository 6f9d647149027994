"""What a training step costs here: a few steps on noise, nothing kept."""

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
STEPS = 3


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
    fit(module, feed, plain.replace(epochs=1), Seed(0), rank)
    several = plain.replace(epochs=STEPS)
    started = time.perf_counter()
    fit(module, feed, several, Seed(0), rank)
    per_step = (time.perf_counter() - started) / STEPS
    return per_step / several.steps(feed.n_samples).batch_size
