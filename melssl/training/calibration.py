"""What a training step costs here: a few steps on noise, nothing kept."""

from __future__ import annotations

import time
from typing import TypeVar

import numpy as np
import torch

from melssl.seeding import Seed
from melssl.training.devices import Rank
from melssl.training.loop import Feed, Trainable, fit
from melssl.training.optim import TrainSpec

BatchT = TypeVar("BatchT")
STEPS = 3


class NoiseImages:
    """Images of noise where a pixel store is expected; a store's ``size_px`` and ``batch``."""

    def __init__(self, size_px: int) -> None:
        self.size_px = size_px

    def batch(self, rows: np.ndarray) -> torch.Tensor:
        """Return uint8 noise (B, 3, S, S)."""
        rng = Seed(0).child("noise", len(rows)).torch()
        shape = (len(rows), self.size_px, self.size_px, 3)
        return torch.randint(0, 256, shape, generator=rng, dtype=torch.uint8).permute(0, 3, 1, 2)


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
