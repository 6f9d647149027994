"""Choosing an epoch or a threshold from labels inside the budget only."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from melssl.errors import SplitError
from melssl.evaluation.metrics import Metric
from melssl.evaluation.predictions import Predictions
from melssl.seeding import Seed
from melssl.splits.strata import patient_table


def validation_split(
    subset_frame: pd.DataFrame, share: float, seed: int
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Carve validation patients out of a budget: (training, validation) sample ids, sorted.

    ``subset_frame`` holds the budget's rows and no others. Each stratum gives ``share`` of its
    patients, at least one and not all, by a hashed order: the order of rows changes nothing.

    Raises:
        SplitError: the share is not inside 0..1, or a class cannot stand on both sides.

    """
    if not 0 < share < 1:
        raise SplitError(f"validation share: expected a number between 0 and 1, got {share}")
    table = patient_table(subset_frame, int(subset_frame["target"].max()) + 1)
    chosen: set[str] = set()
    for stratum in np.unique(table.stratum):
        names = table.patient_id[table.stratum == stratum]
        ranks = Seed(seed).child("validation", int(stratum)).ranks(list(names))
        n_validation = min(len(names) - 1, max(1, int(share * len(names) + 0.5)))
        chosen.update(names[np.argsort(ranks, kind="stable")[:n_validation]])
    labelled = subset_frame[subset_frame["target"] >= 0]
    inside = labelled["patient_id"].isin(chosen)
    train, validation = labelled[~inside], labelled[inside]
    lacking = set(train["target"]) ^ set(validation["target"])
    if lacking:
        raise SplitError(
            f"validation: class {min(lacking)} cannot stand on both sides of a budget of"
            f" {len(table)} patients; use a larger budget or the fixed schedule"
        )
    return _ids(train), _ids(validation)


def best_epoch(scores: Sequence[float], metric: Metric) -> int:
    """Return the first epoch (from 0) with the best validation score; NaN is never best.

    Raises:
        SplitError: no epoch has a score.

    """
    signed = np.array(scores, dtype=np.float64) * (1 if metric.higher_is_better else -1)
    if np.isnan(signed).all():
        raise SplitError(f"{metric.name}: no epoch has a score; the validation lacks a class")
    return int(np.nanargmax(signed))


def threshold_at(predictions: Predictions, specificity: float) -> float:
    """Return the lowest threshold t such that ``score > t`` keeps ``specificity`` in validation.

    Raises:
        SplitError: the validation holds no negative sample.

    """
    negatives = np.sort(predictions.score[predictions.target == 0])
    if not len(negatives):
        raise SplitError("threshold: the validation samples hold no negative one")
    below = int(np.ceil(specificity * len(negatives) - 1e-9))
    return float(negatives[below - 1]) if below > 0 else float("-inf")


def _ids(frame: pd.DataFrame) -> tuple[str, ...]:
    return tuple(sorted(frame["sample_id"]))
