"""Laps of work, in turns, so that a busy minute hits all ways alike. No torch here."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

Where = Literal["solo", "all", "wide"]
WARM_STEPS = 3
MOST_STEPS = 2000


@dataclass(frozen=True, kw_only=True)
class Lap:
    """``items`` (images or trials) done in ``seconds``; ``apart`` is a time that is told by itself.

    Of a step it is the part of ``seconds`` that went into loading and views, of a study the start
    of its worker processes, which comes once and is not among ``seconds``.
    """

    items: int
    seconds: float
    apart: float = 0.0


Runner = Callable[[int], Lap]


class Work(Protocol):
    """A description that travels to another process and becomes a runner there; hashable."""

    def prepare(self) -> Runner:
        """Return what does so many steps and says how long they took."""
        ...


@dataclass(frozen=True, kw_only=True)
class Way:
    """One way to do a thing: ``ours`` or the obvious one, and the processes that it runs in.

    ``group`` names the resources; a way is compared with the best obvious way of its own group.
    """

    name: str
    place: str
    group: str
    ours: bool
    where: Where
    work: Work


class Crew(Protocol):
    """The processes that do the work."""

    def lap(self, where: Where, work: Work, steps: int) -> list[Lap]:
        """Do ``steps`` in each process of ``where`` at the same time; one lap per process."""
        ...


@dataclass(frozen=True, kw_only=True)
class Effort:
    """How long to measure: ``repeats`` laps of every way, each of about ``seconds``."""

    repeats: int
    seconds: float

    def steps(self, seconds_per_step: float) -> int:
        """Return the steps that fill a lap."""
        wanted = math.ceil(self.seconds / max(seconds_per_step, 1e-9))
        return min(max(wanted, WARM_STEPS), MOST_STEPS)


Laps = list[list[Lap]]


def interleave(ways: Sequence[Way], crew: Crew, effort: Effort) -> list[Laps]:
    """Return, for each way, its laps: one list per repetition, in it one lap per process.

    Every way has two laps that do not count: one to start, one to find how many steps fill a lap.
    Then the ways take turns, forwards and backwards, so that a drift of the machine favours none.
    """
    steps = []
    for way in ways:
        crew.lap(way.where, way.work, WARM_STEPS)
        started = time.perf_counter()
        crew.lap(way.where, way.work, WARM_STEPS)
        steps.append(effort.steps((time.perf_counter() - started) / WARM_STEPS))
    laps: list[Laps] = [[] for _ in ways]
    for repeat in range(effort.repeats):
        turn = range(len(ways)) if repeat % 2 == 0 else reversed(range(len(ways)))
        for index in turn:
            way = ways[index]
            laps[index].append(crew.lap(way.where, way.work, steps[index]))
    return laps


@dataclass(frozen=True, kw_only=True)
class Sample:
    """Repeated measurements of one thing, in the order of the repetitions."""

    values: tuple[float, ...]

    @property
    def median(self) -> float:
        """The middle value."""
        return statistics.median(self.values)

    @property
    def low(self) -> float:
        """The smallest value."""
        return min(self.values)

    @property
    def high(self) -> float:
        """The largest value."""
        return max(self.values)

    def times(self, factor: float) -> Sample:
        """Return the sample in another unit."""
        return Sample(values=tuple(factor * value for value in self.values))


def rates(laps: Laps) -> Sample:
    """Return items per second, summed over the processes of each repetition."""
    return Sample(values=tuple(sum(lap.items / lap.seconds for lap in laps_) for laps_ in laps))


def shares(laps: Laps) -> Sample:
    """Return the share of time that is told apart, in 0..1, over all processes."""
    return Sample(
        values=tuple(sum(p.apart for p in each) / sum(p.seconds for p in each) for each in laps)
    )
