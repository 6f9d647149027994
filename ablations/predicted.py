"""Stored predictions of finished trials, in series of folds that test every patient once."""

from __future__ import annotations

from collections.abc import Iterable

from ablations.finished import Finished
from ablations.vault import Vault
from melssl.artifacts import MASK_SCORES, PREDICTIONS
from melssl.evaluation.mask_scores import MaskScores
from melssl.evaluation.predictions import Predictions

Series = tuple[int, int, int]


class Predicted:
    """Predictions, or scores of masks, by trial, each read once."""

    def __init__(self, vault: Vault) -> None:
        self._vault = vault
        self._read: dict[str, Predictions] = {}
        self._masks: dict[str, MaskScores] = {}

    def of(self, trial: Finished) -> Predictions:
        """Return the test predictions of a trial."""
        key = trial.planned.key
        if key not in self._read:
            self._read[key] = Predictions.load(self._vault.whole("adapt", key) / PREDICTIONS)
        return self._read[key]

    def masks_of(self, trial: Finished) -> MaskScores:
        """Return the scores of a trial's masks."""
        key = trial.planned.key
        if key not in self._masks:
            self._masks[key] = MaskScores.load(self._vault.whole("adapt", key) / MASK_SCORES)
        return self._masks[key]


def in_series(trials: Iterable[Finished]) -> dict[Series, list[Finished]]:
    """Return the trials by repeat of the folds, draw and seed; folds ascend within a series."""
    series: dict[Series, list[Finished]] = {}
    for trial in sorted(trials, key=lambda t: t.place):
        fold, draw, seed = trial.place
        repeat = fold // trial.planned.trial.spec.folds.n_folds
        series.setdefault((repeat, draw, seed), []).append(trial)
    return series
