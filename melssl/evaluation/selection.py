"""Dividing a budget by patient, to choose an epoch, a setting or a threshold from it alone."""

from __future__ import annotations

import numpy as np
import pandas as pd

from melssl.errors import SplitError
from melssl.evaluation.predictions import Predictions
from melssl.seeding import Seed
from melssl.splits.deal import deal
from melssl.splits.strata import PatientTable, patient_table


def cross_fit_folds(
    patient: np.ndarray, target: np.ndarray, n_folds: int, seed: Seed
) -> np.ndarray:
    """Return the fold (n,) of each sample of a budget: by patient, stratified, hashed by ``seed``.

    There are ``min(n_folds, patients of the rarest class)`` folds, or the next smaller number for
    which every class of the budget is among the samples outside of each fold. The order of the
    samples changes nothing.

    Raises:
        SplitError: no two folds leave every class on the training side of both.

    """
    table = _table(patient, target)
    has = table.images > 0
    present = has.any(axis=0)
    n_rarest = int(has.sum(axis=0)[present].min())
    for n in range(min(n_folds, n_rarest), 1, -1):
        place = deal(table, n, seed.child("cross_fit", n))
        if all(has[place != fold].any(axis=0)[present].all() for fold in range(n)):
            folds: np.ndarray = place[_of(patient, table)]
            return folds
    raise SplitError(
        f"cross-fitting: expected two folds or more that each leave every class to train on, but"
        f" the rarest class of this budget has {n_rarest} patient(s); use a larger budget"
    )


def validation_split(
    patient: np.ndarray, target: np.ndarray, share: float, seed: Seed
) -> np.ndarray:
    """Carve validation patients out of a budget: True (n,) for each sample that is validated on.

    ``patient`` and ``target`` (n,) are the budget's and no others. Each stratum gives ``share`` of
    its patients, at least one and not all, by a hashed order: the order of samples changes nothing.

    Raises:
        SplitError: the share is not inside 0..1, or a class cannot stand on both sides.

    """
    if not 0 < share < 1:
        raise SplitError(f"validation share: expected a number between 0 and 1, got {share}")
    table = _table(patient, target)
    chosen = np.zeros(len(table), dtype=bool)
    for stratum in np.unique(table.stratum):
        members = np.flatnonzero(table.stratum == stratum)
        ranks = seed.child("validation", int(stratum)).ranks(list(table.patient_id[members]))
        n_validation = min(len(members) - 1, max(1, int(share * len(members) + 0.5)))
        chosen[members[np.argsort(ranks, kind="stable")[:n_validation]]] = True
    inside: np.ndarray = chosen[_of(patient, table)]
    lacking = set(target[~inside]) ^ set(target[inside])
    if lacking:
        raise SplitError(
            f"validation: class {min(lacking)} cannot stand on both sides of a budget of"
            f" {len(table)} patients; use a larger budget or the fixed schedule"
        )
    return inside


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


def _table(patient: np.ndarray, target: np.ndarray) -> PatientTable:
    frame = pd.DataFrame({"patient_id": patient, "target": target})
    return patient_table(frame, int(target.max()) + 1)


def _of(patient: np.ndarray, table: PatientTable) -> np.ndarray:
    return np.searchsorted(table.patient_id, patient)
