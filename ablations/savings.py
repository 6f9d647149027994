"""The frame ``savings``: how many labels each arm saves, with intervals and censored ends."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.stats import gmean

from ablations.design import Cell
from ablations.factors import LABEL_FRACTION
from ablations.finished import Finished, Pair
from ablations.results import Results
from melssl.evaluation.metrics import METRICS
from melssl.evaluation.uncertainty import Bootstrap
from melssl.statistics.labels_saved import Measure, measured

VARIANCE_RATIO = "variance_ratio"
NOT_CENSORED = {"censored": 0, "low_censored": 0, "high_censored": 0}


@dataclass(frozen=True, kw_only=True)
class Budget:
    """The paired trials of an arm at one label budget of ``n_labels`` images, a mean over pairs."""

    cell: str
    fraction: object
    n_labels: float
    pairs: Sequence[Pair]

    @property
    def n_draws(self) -> int:
        """Number of draws among the pairs."""
        return len({pair.own.place[1] for pair in self.pairs})


def savings_frame(results: Results) -> pd.DataFrame:
    """Return one row per compared arm, metric with replicates, measure and, for some, budget.

    The curves of an arm and its control run over the budgets at which they have paired trials, and
    hold those trials only. ``n_draws`` is that of the budget, else of the budget with most.
    """
    rows: list[dict[str, object]] = []
    for arm, cells in results.arms.items():
        budgets = _budgets(results, cells)
        shared = {"arm": arm} | results.levels(cells[0]) | {LABEL_FRACTION.name: None}
        for metric in results.interval_metrics if budgets else ():
            rows += [
                shared | {"metric": metric} | row for row in _measures(results, budgets, metric)
            ]
    return results.frame("savings", rows)


def _budgets(results: Results, cells: Sequence[Cell]) -> list[Budget]:
    """Return the arm's budgets with pairs, ascending in labels.

    Two fractions can come to the same number of labels; prefixes of one order are then the same
    labels, and a curve has one score there.
    """
    found: dict[float, Budget] = {}
    for cell in cells:
        pairs = results.pairs.get(cell.name)
        if pairs:
            n_labels = float(np.mean([pair.own.budget["n_images"] for pair in pairs]))
            fraction = results.levels(cell)[LABEL_FRACTION.name]
            budget = Budget(cell=cell.name, fraction=fraction, n_labels=n_labels, pairs=pairs)
            found.setdefault(n_labels, budget)
    return [found[n_labels] for n_labels in sorted(found)]


def _measures(
    results: Results, budgets: Sequence[Budget], metric: str
) -> Iterator[dict[str, object]]:
    """Yield the measures; replicates of the arm are those of the control and of the gain."""
    gains = [results.gain(budget.cell, metric) for budget in budgets]
    control = [results.control(budget.cell, metric) for budget in budgets]
    base = np.array([point.estimate for point in control])
    curves = [base + [gain.estimate for gain in gains], base]
    redrawn = [_stacked(control) + _stacked(gains), _stacked(control)]
    better = METRICS[metric].higher_is_better
    n_labels = np.array([budget.n_labels for budget in budgets])
    for found in measured(n_labels, *curves, *redrawn, higher_is_better=better):
        yield _row(found, budgets)
    ratio, n_draws = variance_ratio(budgets, metric), max(budget.n_draws for budget in budgets)
    yield {"measure": VARIANCE_RATIO, "estimate": ratio, "n_draws": n_draws} | NOT_CENSORED


def _row(found: Measure, budgets: Sequence[Budget]) -> dict[str, object]:
    at = [budget for budget in budgets if budget.n_labels == found.labels]
    return {
        "measure": found.name,
        LABEL_FRACTION.name: at[0].fraction if at else None,
        "n_labels": found.labels,
        "estimate": found.estimate,
        "low": found.low,
        "high": found.high,
        "censored": found.estimate_beyond,
        "low_censored": found.low_beyond,
        "high_censored": found.high_beyond,
        "n_draws": max(budget.n_draws for budget in at or budgets),
    }


def _stacked(points: Sequence[Bootstrap]) -> np.ndarray:
    """Return the replicates of a curve, (R, B)."""
    return np.stack([point.replicates for point in points], axis=1)


def variance_ratio(budgets: Sequence[Budget], metric: str) -> float:
    """Return how much more the arm's score varies over draws than the control's: below 1 is calmer.

    The variance over draws of the mean over seeds, mean over folds, of the arm over that of the
    control; the geometric mean over the budgets with two draws or more. NaN where there is none.
    """
    ratios = []
    for budget in budgets:
        own = _over_draws([pair.own for pair in budget.pairs], metric)
        control = _over_draws([pair.control for pair in budget.pairs], metric)
        if own > 0 and control > 0:
            ratios.append(own / control)
    return float(gmean(ratios)) if ratios else float("nan")


def _over_draws(trials: Sequence[Finished], metric: str) -> float:
    """Return the mean over folds of the variance over draws, of folds with two draws or more."""
    scores: dict[int, dict[int, list[float]]] = {}
    for trial in trials:
        fold, draw, _ = trial.place
        scores.setdefault(fold, {}).setdefault(draw, []).append(trial.score(metric))
    by_fold = [[np.mean(by_seed) for by_seed in draws.values()] for draws in scores.values()]
    variances = [np.var(draws, ddof=1) for draws in by_fold if len(draws) > 1]
    return float(np.mean(variances)) if variances else float("nan")
