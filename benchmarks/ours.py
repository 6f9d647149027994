"""A pretraining step as a study does it: store, views for the whole batch, and the one loop."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from benchmarks.cases import CASES, training
from benchmarks.measure import Lap, Runner
from melssl.data.pixels import PixelStore
from melssl.frame import Frame
from melssl.methods.base import Batch, Method, PoolFacts
from melssl.methods.pool import PoolFeed
from melssl.seeding import Seed
from melssl.training.devices import Rank, Runtime, settle
from melssl.training.loop import fit


@dataclass(frozen=True, kw_only=True)
class OurStep:
    """``case`` trained from ``store``; a step of the lap is a step of ``fit``."""

    case: str
    precision: str
    store: Path
    image_px: int
    batch_size: int

    def prepare(self) -> Runner:
        """Open the store and build the method; each lap is an epoch of ``fit``."""
        images = PixelStore.open(self.store)
        case, rank = CASES[self.case], Rank(0, 1, torch.device("cpu"))
        method = _method(self.case, self.image_px, self.batch_size)
        spec = training(self.batch_size, self.precision)

        def run(steps: int) -> Lap:
            settle(Runtime(device="cpu", threads=torch.get_num_threads()))
            rows = np.resize(np.arange(len(images)), steps * self.batch_size)
            pool = PoolFeed(images, rows, rows, case.recipes(), Frame(self.image_px))
            feed = TimedFeed(pool)
            fit(method, feed, spec, Seed(0), rank)
            return feed.clock.lap(self.batch_size)

        return run


class Clock:
    """When each batch was asked for and given. The first step is a warm-up and does not count."""

    def __init__(self) -> None:
        self.asked: list[float] = []
        self.given: list[float] = []

    def lap(self, batch_size: int) -> Lap:
        """Close the last step now."""
        seconds = time.perf_counter() - self.asked[1]
        waits = (given - asked for asked, given in zip(self.asked, self.given, strict=True))
        items = (len(self.asked) - 1) * batch_size
        return Lap(items=items, seconds=seconds, apart=sum(list(waits)[1:]))


class TimedFeed:
    """A feed that looks at the clock before and after each batch."""

    def __init__(self, feed: PoolFeed) -> None:
        self._feed = feed
        self.clock = Clock()

    @property
    def n_samples(self) -> int:
        """Samples of the pool."""
        return self._feed.n_samples

    def batch(self, places: np.ndarray, draw: Seed, rank: Rank) -> Batch:
        """Return the feed's batch."""
        self.clock.asked.append(time.perf_counter())
        batch = self._feed.batch(places, draw, rank)
        self.clock.given.append(time.perf_counter())
        return batch


def _method(case: str, image_px: int, n_samples: int) -> Method:
    spec = CASES[case].spec(image_px)
    facts = PoolFacts(n_samples=n_samples, n_patients=1, image_px=image_px)
    torch.manual_seed(0)
    return spec.method_class(spec.method, spec.backbone.build(image_px), facts)
