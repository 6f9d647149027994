"""The frames ``cells`` and ``variances``: mean scores with intervals, and sources of chance."""

from __future__ import annotations

import numpy as np
import pandas as pd

from ablations.finished import Finished
from ablations.results import Results
from melssl.evaluation.metrics import METRICS
from melssl.statistics.levels import variance_parts


def cells_frame(results: Results) -> pd.DataFrame:
    """Return one row per planned cell and metric: the mean, and the gain over the control."""
    rows: list[dict[str, object]] = []
    for name, cell in results.cells.items():
        own = results.by_cell[name]
        shared: dict[str, object] = {"cell": name} | results.levels(cell)
        shared |= {"n_trials": len(own), "n_planned": len(results.planned[name])}
        if own:
            shared |= {key: float(np.mean([f.budget[key] for f in own])) for key in own[0].budget}
        rows += [
            shared
            | {"metric": metric}
            | _score(results, name, metric)
            | _gain(results, name, metric)
            for metric in results.metrics
        ]
    return results.frame("cells", rows)


def variances_frame(results: Results) -> pd.DataFrame:
    """Return one row per cell with a result and metric: variance from draws, seeds, the rest.

    ``*_se`` say what is redrawn in the cell's interval, one source at a time.
    """
    rows = [
        {"cell": name, "metric": metric}
        | results.levels(results.cells[name])
        | _parts(own, metric)
        | _errors(results, name, metric)
        for name, own in results.by_cell.items()
        for metric in (results.metrics if own else ())
    ]
    return results.frame("variances", rows)


def _score(results: Results, name: str, metric: str) -> dict[str, object]:
    found = results.summary(name, metric).score
    if found is None:
        return {}
    inside = METRICS[metric].in_unit_range
    interval = found.logit_interval(results.n_rarest) if inside else found.interval
    return {"estimate": interval.estimate, "low": interval.low, "high": interval.high}


def _gain(results: Results, name: str, metric: str) -> dict[str, object]:
    if not results.pairs.get(name):
        return {}
    gain = results.gain(name, metric).interval
    ends: dict[str, object] = {"difference_low": gain.low, "difference_high": gain.high}
    return {"difference": gain.estimate, "n_pairs": len(results.pairs[name])} | ends


def _parts(own: list[Finished], metric: str) -> dict[str, float]:
    places = np.array([trial.place for trial in own]).T
    axes = [np.unique(names, return_inverse=True) for names in places]
    scores = np.full([len(names) for names, _ in axes], np.nan)
    scores[tuple(index for _, index in axes)] = [trial.score(metric) for trial in own]
    parts = variance_parts(scores)
    n_folds, n_draws, n_seeds = scores.shape
    return {
        "draw": parts.draw,
        "seed": parts.seed,
        "rest": parts.rest,
        "n_folds": n_folds,
        "n_draws": n_draws,
        "n_seeds": n_seeds,
    }


def _errors(results: Results, name: str, metric: str) -> dict[str, float]:
    errors = results.summary(name, metric).errors
    assert errors is not None, f"{name} has no trial"
    return {
        "patients_se": errors.patients,
        "draws_se": errors.draws,
        "seeds_se": errors.seeds,
    }
