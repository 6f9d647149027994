"""The frame ``subgroups``: ROC AUC by sex, age, site and camera, at each arm's largest budget."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property

import numpy as np
import pandas as pd

from ablations.finished import Finished, Pair
from ablations.predicted import Predicted, in_series
from ablations.results import Results
from melssl.evaluation.subgroups import part, subgroups
from melssl.evaluation.uncertainty import Bootstrap, pair_areas
from melssl.judging import RESAMPLES
from melssl.prepared import Prepared

AUC = "roc_auc"
FEWEST = 10  # patients with and without the outcome: percentile intervals of fewer are too narrow
REDRAWS = RESAMPLES.replace(n=500)  # the first of those that all trials share
Group = tuple[str, str]
Areas = tuple[np.ndarray, np.ndarray]


def subgroups_frame(results: Results, predicted: Predicted) -> pd.DataFrame:
    """Return one row per arm, attribute and group: ROC AUC over pairs of one fold and the group.

    Folds weigh by their pairs, so that a fold whose part of a small group lacks a class does not
    take the score of the others away; series (repeat, draw, seed) are averaged. Intervals redraw
    the test patients alone, and are given where every class has at least 10 of the group's
    patients. ``n_*`` count what is tested at least once.
    """
    scores = GroupScores(results.prepared, predicted)
    rows: list[dict[str, object]] = []
    for cell in results.largest:
        trials = results.by_cell[cell.name]
        for group in scores.groups if trials else ():
            row: dict[str, object] = {"cell": cell.name, "metric": AUC} | results.levels(cell)
            row |= {"attribute": group[0], "group": group[1]}
            row |= scores.tested(trials, group)
            pairs = results.pairs.get(cell.name, [])
            rows.append(row | _score(scores, trials, group) | _gain(scores, pairs, group))
    return results.frame("subgroups", rows)


class GroupScores:
    """The AUCs of trials within the groups of a cohort, each computed once."""

    def __init__(self, prepared: Prepared, predicted: Predicted) -> None:
        self._cohort, self._predicted = prepared.cohort, predicted
        self._areas: dict[str, Mapping[Group, Areas]] = {}
        self._weights: dict[int, np.ndarray] = {}
        self._tested: dict[tuple[int, ...], pd.DataFrame] = {}

    @cached_property
    def table(self) -> pd.DataFrame:
        """The labelled samples by id: patient, target, and a column per attribute."""
        cohort = self._cohort
        known = subgroups(cohort.frame, cohort.clinical, cohort.cameras)
        table = cohort.frame[["patient_id", "target"]].assign(**known)
        return table.set_axis(cohort.frame["sample_id"]).loc[cohort.labelled["sample_id"]]

    @cached_property
    def groups(self) -> tuple[Group, ...]:
        """Every attribute and group, the groups of an attribute in order."""
        return tuple(
            (str(attribute), str(group))
            for attribute in self.table.columns[2:]
            for group in self.table[attribute].cat.categories
        )

    def tested(self, trials: Sequence[Finished], group: Group) -> dict[str, object]:
        """Return how many images, patients and positives of the group some trial tested."""
        rows = self._rows(trials, group)
        sizes = np.bincount(rows["target"], minlength=len(self._cohort.classes))
        return {
            "n_images": len(rows),
            "n_patients": int(rows["patient_id"].nunique()),
            "n_positives": int(sizes[1] if len(sizes) == 2 else sizes.min()),
        }

    def n_rarest(self, trials: Sequence[Finished], group: Group) -> int:
        """Number of the group's patients of the class that fewest of them have."""
        patients = self._rows(trials, group).groupby("target")["patient_id"].nunique()
        return int(patients.min()) if len(patients) == len(self._cohort.classes) else 0

    def _rows(self, trials: Sequence[Finished], group: Group) -> pd.DataFrame:
        by_fold = {trial.place[0]: trial for trial in trials}
        folds = tuple(sorted(by_fold))
        if folds not in self._tested:
            ids = np.concatenate([self._predicted.of(by_fold[f]).sample_id for f in folds])
            self._tested[folds] = self.table[self.table.index.isin(ids)]
        rows = self._tested[folds]
        return rows[rows[group[0]] == group[1]]

    def of(self, trials: Sequence[Finished], group: Group) -> Bootstrap:
        """Return the AUC of a group with its replicates."""
        series = []
        for folds in in_series(trials).values():
            found = (self._of_trial(trial)[group] for trial in folds)
            areas, pairs = (np.stack(side) for side in zip(*found, strict=True))
            with np.errstate(invalid="ignore"):  # no pair in any fold: NaN
                series.append((areas * pairs).sum(axis=0) / pairs.sum(axis=0))
        scores = np.stack(series).mean(axis=(0, 1))
        return Bootstrap(estimate=float(scores[0]), replicates=scores[1:])

    def _of_trial(self, trial: Finished) -> Mapping[Group, Areas]:
        """Return areas and pairs (K, 1 + R) of every group; the first weighs patients equally."""
        key = trial.planned.key
        if key not in self._areas:
            self._areas[key] = self._made(trial)
        return self._areas[key]

    def _made(self, trial: Finished) -> Mapping[Group, Areas]:
        whole = self._predicted.of(trial)
        rows, found = self.table.loc[whole.sample_id], {}
        weights = self._fold_weights(trial)
        for group in self.groups:
            mask = (rows[group[0]] == group[1]).to_numpy()
            none = np.zeros((1 if whole.n_classes == 2 else whole.n_classes, len(weights)))
            found[group] = (none, none)
            if mask.any():
                own = part(whole, mask)
                columns = np.searchsorted(whole.patients, own.patients)
                found[group] = pair_areas(own, weights[:, columns].astype(np.float64))
        return found

    def _fold_weights(self, trial: Finished) -> np.ndarray:
        """Return equal weights and REDRAWS of the fold's patients, (1 + R, P) small integers."""
        fold = trial.place[0]
        if fold not in self._weights:
            redrawn = REDRAWS.weights(self._predicted.of(trial).patients).astype(np.uint8)
            self._weights[fold] = np.vstack([np.ones_like(redrawn[:1]), redrawn])
        return self._weights[fold]


def _score(scores: GroupScores, trials: Sequence[Finished], group: Group) -> dict[str, object]:
    found = scores.of(trials, group)
    row: dict[str, object] = {"estimate": found.estimate}
    n_rarest = scores.n_rarest(trials, group)
    if n_rarest >= FEWEST:
        interval = found.logit_interval(n_rarest)
        row |= {"low": interval.low, "high": interval.high}
    return row


def _gain(scores: GroupScores, pairs: Sequence[Pair], group: Group) -> dict[str, object]:
    if not pairs:
        return {}
    own, control = [pair.own for pair in pairs], [pair.control for pair in pairs]
    gain = scores.of(own, group).minus(scores.of(control, group))
    row: dict[str, object] = {"difference": gain.estimate, "n_pairs": len(pairs)}
    if scores.n_rarest(own, group) >= FEWEST:
        found = gain.interval
        row |= {"difference_low": found.low, "difference_high": found.high}
    return row
