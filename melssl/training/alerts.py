"""Alerts: what a pretraining's log says of it that goes wrong, while there is time to act.

Thresholds were set by eye on the made cohort, one seed of 22 methods (small CNN or ViT, 100-470
steps): an encoder's spread stayed above 0.2 of its healthy value, but for MAE's (0.09), and its
rank above 0.14 of the start's, but for SimSiam's (0.08, hardly better than random weights). Without
its stopped gradient SimSiam fell to 0.02 and 0.06 (CNN), 0.06 and 1 (ViT).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Literal

import numpy as np

from melssl.settings import Json

SPREAD, RANK, ACCURACY, LOSS = "spread", "effective_rank", "accuracy", "loss"
PROJECTED = "projection_spread"  # logged by methods that could collapse behind the encoder
SETTLED_STEPS = 50  # until then the running means of batch norm say little
LOW_SPREAD, LOST_SPREAD = 0.15, 1 / 3  # of the healthy value; of the most that was reached
LOW_OFFSET_SPREAD = 0.03  # where embeddings are not compared, and may share a large offset
DEAD_SPREAD = 0.01  # of the healthy value, whatever it was before
LOST_PROJECTED, DEAD_PROJECTED = 0.15, 0.001  # of the most that was reached; at any width
LOST_RANK, LEAST_RANK = 0.08, 1.5  # of the start's; the embeddings nearly lie on a line
BLOW_UP = 3.0  # times the first epoch's loss, above it
LONG = (6, 200)  # epochs and steps that say whether a task is being learned
SHORT = (3, 60)
LATE = 0.5  # share of the training by which it should have begun
NEAR_CHANCE = 0.02
SOLVED = 0.995
FLAT, FALLEN = 0.002, 0.05  # share of the loss, between halves of the window; since the start

Kind = Literal[
    "blow_up", "collapse", "projection_collapse", "rank_collapse", "at_chance", "solved", "stall"
]
Points = Sequence[tuple[int, float]]


@dataclass(frozen=True, kw_only=True)
class Alert:
    """What goes wrong since which step, and what to do about it."""

    kind: Kind
    step: int
    advice: str

    def plain(self) -> dict[str, Json]:
        """Return what is recorded beside a result."""
        return {"kind": self.kind, "step": self.step, "advice": self.advice}


@dataclass(frozen=True, kw_only=True)
class Normal:
    """What a log is judged by.

    ``width`` of the embeddings, ``total_steps`` of the training, the ``chance`` of a pretext answer
    if there are answers. Methods that ``compare`` embeddings of views live by their spread. Where
    classes are learned (``labelled``), few dimensions are no fault.
    """

    width: int
    total_steps: int
    chance: float | None = None
    compares: bool = True
    labelled: bool = False

    @property
    def healthy_spread(self) -> float:
        """Spread of embeddings that point in all directions alike."""
        return 1 / math.sqrt(self.width)


def alerts_in(curves: Mapping[str, Points], normal: Normal) -> tuple[Alert, ...]:
    """Return one alert for each thing that went wrong, with the step at which it first showed.

    The log alone decides, point by point: an interrupted training is judged like a whole one.
    """
    found = (next(rule(curves, normal), None) for rule in RULES)
    return tuple(sorted((a for a in found if a is not None), key=lambda alert: alert.step))


def _blow_up(curves: Mapping[str, Points], normal: Normal) -> Iterator[Alert]:
    losses = curves.get(LOSS, ())
    for step, loss in losses[1:]:
        first = losses[0][1]
        if loss > first + BLOW_UP * max(abs(first), 1):
            advice = (
                f"loss blew up: {loss:.4g} at step {step}, {first:.4g} in the first epoch; "
                "lower lr, lengthen warm-up, or set clip_norm=1"
            )
            yield Alert(kind="blow_up", step=step, advice=advice)


def _collapse(curves: Mapping[str, Points], normal: Normal) -> Iterator[Alert]:
    points, healthy = _settled(curves.get(SPREAD, ())), normal.healthy_spread
    low = (LOW_SPREAD if normal.compares else LOW_OFFSET_SPREAD) * healthy
    reached = accumulate((value for _, value in points), max)
    bars = [max(min(low, LOST_SPREAD * most), DEAD_SPREAD * healthy) for most in reached]
    for step, value in _twice_below(points, bars):
        advice = (
            f"the encoder collapses: spread {value:.2g} at step {step}, "
            f"{points[0][1]:.2g} at the start, healthy {healthy:.2g}; lower lr, "
            "or use larger batches, more momentum, or stronger views"
        )
        yield Alert(kind="collapse", step=step, advice=advice)


def _projection_collapse(curves: Mapping[str, Points], normal: Normal) -> Iterator[Alert]:
    points = curves.get(PROJECTED, ())
    reached = accumulate((value for _, value in points), max)
    bars = [max(LOST_PROJECTED * most, DEAD_PROJECTED) for most in reached]
    for step, value in _twice_below(points, bars):
        advice = (
            f"the projections collapse: their spread is {value:.2g} at step {step}, "
            f"{points[0][1]:.2g} in the first epoch, and the encoder learns nothing more; "
            "lower lr, raise momentum, or choose a method with negatives"
        )
        yield Alert(kind="projection_collapse", step=step, advice=advice)


def _rank_collapse(curves: Mapping[str, Points], normal: Normal) -> Iterator[Alert]:
    points = _settled(curves.get(RANK, ()))
    if not points or normal.labelled:
        return
    least = max(LOST_RANK * points[0][1], LEAST_RANK)
    for step, value in _twice_below(points, [least] * len(points)):
        advice = (
            f"the embeddings collapse into few dimensions: effective rank {value:.1f} at step "
            f"{step}, {points[0][1]:.1f} at the start; lower lr, or add what keeps dimensions "
            "apart (predictor, variance and covariance terms, negatives)"
        )
        yield Alert(kind="rank_collapse", step=step, advice=advice)


def _settled(points: Points) -> Points:
    """Return the point before training and those at which batch norm's running means are right."""
    return [(step, value) for step, value in points if not 0 < step < SETTLED_STEPS]


def _twice_below(points: Points, bars: Sequence[float]) -> Iterator[tuple[int, float]]:
    """Yield the points that, like those before them, lie below their bars."""
    low = [value < bar for (_, value), bar in zip(points, bars, strict=True)]
    return (point for point, both in zip(points[1:], pairwise(low), strict=False) if all(both))


def _at_chance(curves: Mapping[str, Points], normal: Normal) -> Iterator[Alert]:
    if normal.chance is None:
        return
    bar = normal.chance + min(NEAR_CHANCE, normal.chance / 2)
    for step, window in _windows(curves.get(ACCURACY, ()), *LONG):
        if step >= LATE * normal.total_steps and np.mean(window) < bar:
            advice = (
                f"pretext accuracy {np.mean(window):.3g} stays at chance ({normal.chance:.3g}) up "
                f"to step {step}: the images may not hold the answer (a rotation of what has no "
                "up and down), or lr is off; train longer, change lr, or choose another method"
            )
            yield Alert(kind="at_chance", step=step, advice=advice)


def _solved(curves: Mapping[str, Points], normal: Normal) -> Iterator[Alert]:
    if normal.chance is None:
        return
    for step, window in _windows(curves.get(ACCURACY, ()), *SHORT):
        if min(window) > SOLVED:
            advice = (
                f"pretext solved: accuracy {np.mean(window):.4g} at step {step}, nothing is left "
                "to learn; look for a shortcut (borders, rulers, colour fringes), make the task "
                "harder, or train for fewer epochs"
            )
            yield Alert(kind="solved", step=step, advice=advice)


def _stall(curves: Mapping[str, Points], normal: Normal) -> Iterator[Alert]:
    losses = curves.get(LOSS, ())
    steps, values = [step for step, _ in losses], [value for _, value in losses]
    highest = dict(zip(steps, accumulate(values, max), strict=True))
    largest = dict(zip(steps, accumulate(map(abs, values), max), strict=True))
    for step, window in _windows(losses, *LONG):
        half, size = len(window) // 2, largest[step]
        flat = np.mean(window[:half]) - np.mean(window[half:]) < FLAT * size
        unlearned = highest[step] - min(window) < FALLEN * size
        if step >= LATE * normal.total_steps and flat and unlearned:
            advice = (
                f"the loss stalls: {window[-1]:.4g} at step {step}, and no more than "
                f"{highest[step]:.4g} before; change lr, train longer, or ease the task"
            )
            yield Alert(kind="stall", step=step, advice=advice)


def _windows(points: Points, n_epochs: int, n_steps: int) -> Iterator[tuple[int, list[float]]]:
    """Yield each step with the values of the last epochs: so many, over so many steps at least."""
    starts = [0, *(step for step, _ in points)]
    first = 0
    for last, (step, _) in enumerate(points):
        while last - first >= n_epochs and step - starts[first + 1] >= n_steps:
            first += 1
        if last - first + 1 >= n_epochs and step - starts[first] >= n_steps:
            yield step, [value for _, value in points[first : last + 1]]


RULES: tuple[Callable[[Mapping[str, Points], Normal], Iterator[Alert]], ...] = (
    *(_blow_up, _collapse, _projection_collapse, _rank_collapse),
    *(_at_chance, _solved, _stall),
)
