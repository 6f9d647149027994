"""The frame ``comparisons``: is an arm better than its control, the same, or can nobody tell?"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from ablations.finished import Pair
from ablations.results import Results
from melssl.evaluation.metrics import METRICS
from melssl.statistics.differences import (
    bootstrap_p,
    corrected_t,
    correlated_bayes,
    detectable_difference,
    holm,
)

FEWEST_PATIENTS = 30  # of the rarest class: below, the bootstrap's error rate is not known


def comparisons_frame(results: Results, rope: float) -> pd.DataFrame:
    """Return one row per compared cell and metric with replicates.

    ``p_holm`` is adjusted over all comparisons of the metric that have a p-value; ``better`` means
    better in the metric's own direction. A fold's difference is the mean over its paired trials.
    """
    rows = []
    for metric in results.interval_metrics:
        found = [
            {"cell": name, "metric": metric}
            | results.levels(results.cells[name])
            | {"n_pairs": len(results.pairs[name]), "n_planned": _n_planned(results, name)}
            | _tests(results, name, metric, rope)
            for name in results.compared
        ]
        adjusted = holm(np.array([float(str(row.get("p", np.nan))) for row in found]))
        rows += [row | {"p_holm": p} for row, p in zip(found, adjusted, strict=True)]
    return results.frame("comparisons", rows)


def _tests(results: Results, name: str, metric: str, rope: float) -> dict[str, object]:
    pairs = results.pairs[name]
    if not pairs:
        return {"n_folds": 0, "refused": _why_no_pair(results, name)}
    gain, few = results.gain(name, metric), results.n_rarest < FEWEST_PATIENTS
    by_fold = fold_differences(pairs, metric)
    sign = 1 if METRICS[metric].higher_is_better else -1
    t = corrected_t(by_fold, results.test_train_ratio)
    chances = correlated_bayes(sign * by_fold, results.test_train_ratio, rope)
    interval, error = gain.interval, gain.standard_error
    reasons = [too_few(results.n_rarest)] if few else []
    reasons += [f"over folds: {t.refused}"] if t.refused else []
    return {
        "difference": gain.estimate,
        "low": interval.low,
        "high": interval.high,
        "n_folds": len(by_fold),
        "se": error,
        "p": np.nan if few else bootstrap_p(gain.replicates),
        "p_corrected": t.p,
        "refused": "; ".join(reasons) or None,
        "worse": chances.worse,
        "same": chances.same,
        "better": chances.better,
        "detectable": detectable_difference(error),
    }


def fold_differences(pairs: Sequence[Pair], metric: str) -> np.ndarray:
    """Return each fold's mean difference over its paired draws and seeds, (J,), by fold."""
    by_fold: dict[int, list[float]] = {}
    for pair in pairs:
        gain = pair.own.score(metric) - pair.control.score(metric)
        by_fold.setdefault(pair.own.place[0], []).append(gain)
    return np.array([np.mean(by_fold[fold]) for fold in sorted(by_fold)])


def too_few(n_rarest: int) -> str:
    """Say why so few patients of the rarest class get no p-value."""
    return (
        f"bootstrap: the rarest class has {n_rarest} patients, and its error rate was checked from"
        f" {FEWEST_PATIENTS} on"
    )


def _n_planned(results: Results, name: str) -> int:
    control = results.compared[name]
    return len(results.planned[name] & results.planned[control]) if control else 0


def _why_no_pair(results: Results, name: str) -> str:
    control = results.compared[name]
    if control is None:
        return "no cell of the control has the same other levels"
    own, other = len(results.by_cell[name]), len(results.by_cell[control])
    return (
        f"no paired trial: {own} of the arm and {other} of the control are finished, and none of"
        " them are on the same fold, draw and seed"
    )
