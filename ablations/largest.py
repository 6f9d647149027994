"""The frames ``pooled`` and ``reliability``: all folds as one, at each arm's largest budget."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd

from ablations.design import Cell
from ablations.finished import Finished
from ablations.predicted import Predicted, in_series
from ablations.results import Results
from melssl.evaluation.metrics import METRICS
from melssl.evaluation.pooling import pool_predictions
from melssl.evaluation.predictions import Predictions
from melssl.evaluation.reliability import reliability
from melssl.statistics.delong import DeLong, delong

AUC = "roc_auc"
N_BINS = 10


def pooled_frame(results: Results, predicted: Predicted) -> pd.DataFrame:
    """Return one row per arm and metric: the mean of folds, and the score of the pooled folds.

    Folds are pooled within a series (one repeat of the folds, one draw, one seed) and the scores
    of the series are averaged. ``n_folds`` is how many folds are pooled, in the series with fewest.
    DeLong's interval is that of one series: the mean AUC with the mean of the variances, for images
    as if they were independent; it is given for a binary outcome.
    """
    rows: list[dict[str, object]] = []
    for cell in results.largest:
        series = list(in_series(results.by_cell[cell.name]).values())
        shared = {"cell": cell.name} | results.levels(cell)
        shared |= {"n_folds": min(map(len, series), default=0)}
        pools = [_pools(folds, predicted) for folds in series]
        for metric in results.metrics:
            means = [_mean([f.score(metric) for f in folds]) for folds in series]
            row = {"metric": metric, "mean_of_folds": _mean(means)} | _pooled(pools, metric)
            rows.append(shared | row)
    return results.frame("pooled", rows)


def reliability_frame(results: Results, predicted: Predicted) -> pd.DataFrame:
    """Return bins of equal mass per arm: mean over series of confidence, frequency and images."""
    rows = [row for cell in results.largest for row in _bins(cell, results, predicted)]
    return results.frame("reliability", rows)


def _pools(folds: Sequence[Finished], predicted: Predicted) -> tuple[Predictions, Predictions]:
    """Return the predictions of a series, raw and ranked within folds."""
    parts = [predicted.of(trial) for trial in folds]
    return pool_predictions(parts, "raw"), pool_predictions(parts, "rank")


def _pooled(pools: Sequence[tuple[Predictions, Predictions]], metric: str) -> dict[str, float]:
    rule = METRICS[metric]
    if not all(rule.exists_for(raw) for raw, _ in pools):
        return {}
    row = {"pooled_raw": _mean([rule(raw) for raw, _ in pools])}
    if rule.ranks_only:
        row["pooled_rank"] = _mean([rule(ranked) for _, ranked in pools])
    if metric == AUC and pools and pools[0][0].n_classes == 2:
        found = [delong(raw.target, raw.score) for raw, _ in pools]
        mean = DeLong(
            auc=_mean([one.auc for one in found]),
            variance=_mean([one.variance for one in found]),
        ).interval
        row |= {"delong": mean.estimate, "delong_low": mean.low, "delong_high": mean.high}
    return row


def _bins(cell: Cell, results: Results, predicted: Predicted) -> Iterator[dict[str, object]]:
    series = in_series(results.by_cell[cell.name]).values()
    found = [reliability(_pools(folds, predicted)[0], N_BINS) for folds in series]
    if not found:
        return
    means = pd.concat(found).groupby("bin").mean()
    for row in means.reset_index().to_dict("records"):
        numbers = {str(name): value for name, value in row.items()}
        yield {"cell": cell.name} | results.levels(cell) | numbers


def _mean(scores: Sequence[float]) -> float:
    return float(np.mean(scores)) if scores else float("nan")
