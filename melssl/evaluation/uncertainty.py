"""How far a score could be off: patient bootstrap of cells and differences, DeLong for one AUC.

The bootstrap redraws the *test patients* within each fold, all their images together. It says how
the score would move with other patients; the spread over draws and training seeds is averaged,
not resampled.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from pydantic import Field
from scipy.special import ndtri

from melssl.errors import ArtifactError
from melssl.evaluation.curves import midranks
from melssl.evaluation.metrics import Metric
from melssl.evaluation.predictions import Predictions
from melssl.seeding import Seed
from melssl.settings import Settings, digest

LEVEL = 0.95


@dataclass(frozen=True, kw_only=True)
class Interval:
    """An estimate and its 95 % bounds; all NaN where it is not defined."""

    estimate: float
    low: float
    high: float


class Resamples(Settings):
    """How often patients are redrawn, and the seed that makes the redraws common to all cells."""

    n: int = Field(1000, ge=2)
    seed: int = 0

    def weights(self, fold: int, n_patients: int) -> np.ndarray:
        """Return the multiplicity of each patient in each resample, (n, P) floats; rows sum to P.

        They depend on seed, fold and P alone: every draw, training seed and cell gets the same.
        """
        rng = Seed(self.seed).child("bootstrap", fold).numpy()
        drawn = rng.integers(n_patients, size=(self.n, n_patients))
        drawn += np.arange(self.n)[:, None] * n_patients
        counts = np.bincount(drawn.ravel(), minlength=self.n * n_patients)
        return counts.reshape(self.n, n_patients).astype(np.float64)


@dataclass(frozen=True, kw_only=True)
class TrialScores:
    """The test predictions of one trial and the fold that they belong to."""

    fold: int
    predictions: Predictions


@dataclass(frozen=True, kw_only=True)
class Bootstrap:
    """An estimate with its replicates, shape (n,); NaN where a resample does not define it.

    ``resampled`` identifies the redraws, so that only like is compared with like.
    """

    estimate: float
    replicates: np.ndarray
    resampled: str
    n_undefined: int = field(init=False)

    def __post_init__(self) -> None:
        undefined = int(np.isnan(self.replicates).sum())
        object.__setattr__(self, "n_undefined", undefined)

    @property
    def interval(self) -> Interval:
        """Percentile interval; undefined replicates are left out (``n_undefined`` counts them)."""
        defined = self.replicates[~np.isnan(self.replicates)]
        if not len(defined) or np.isnan(self.estimate):
            return Interval(estimate=self.estimate, low=np.nan, high=np.nan)
        low, high = np.quantile(defined, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
        return Interval(estimate=self.estimate, low=float(low), high=float(high))


def cell_bootstrap(
    trials: Sequence[TrialScores], metric: Metric, resamples: Resamples
) -> Bootstrap:
    """Bootstrap the mean of a metric over the trials of a cell (folds x draws x seeds).

    Patients are redrawn within each fold; all trials of a fold share the redraw, and so do the
    cells that are bootstrapped with the same ``resamples``.

    Raises:
        ArtifactError: no trials, or two trials of one fold that tested other patients.

    """
    patients = _patients(trials)
    weights = {fold: resamples.weights(fold, len(names)) for fold, names in patients.items()}
    scores = [metric(trial.predictions) for trial in trials]
    replicates = np.mean(
        [bootstrap_scores(t.predictions, metric, weights[t.fold]) for t in trials], axis=0
    )
    who = {str(fold): [str(name) for name in names] for fold, names in patients.items()}
    return Bootstrap(
        estimate=float(np.mean(scores)),
        replicates=replicates,
        resampled=digest({"resamples": resamples.plain(), "patients": who}),
    )


def bootstrap_scores(predictions: Predictions, metric: Metric, weights: np.ndarray) -> np.ndarray:
    """Return the metric under each row of patient weights (R, P), shape (R,)."""
    if metric.weighted is not None:
        return metric.weighted(predictions, weights)
    return np.array([metric(_repeated(predictions, row)) for row in weights.astype(np.int64)])


def paired_difference(a: Bootstrap, b: Bootstrap) -> Bootstrap:
    """Return a - b, resample by resample; its ``interval`` is the paired one.

    Raises:
        ArtifactError: the two were not bootstrapped over the same patients with the same seed.

    """
    if a.resampled != b.resampled:
        raise ArtifactError(
            "paired difference: the two sides were resampled differently; expected the same folds,"
            " test patients and Resamples on both: compare trials that both sides have"
        )
    return Bootstrap(
        estimate=a.estimate - b.estimate,
        replicates=a.replicates - b.replicates,
        resampled=a.resampled,
    )


@dataclass(frozen=True, kw_only=True)
class DeLong:
    """ROC AUC of class 1 and its variance, for samples that are independent of each other."""

    auc: float
    variance: float

    @property
    def interval(self) -> Interval:
        """Normal interval, cut to 0..1."""
        reach = float(ndtri((1 + LEVEL) / 2)) * np.sqrt(self.variance)
        low, high = np.clip([self.auc - reach, self.auc + reach], 0, 1)
        return Interval(estimate=self.auc, low=float(low), high=float(high))


def delong(target: np.ndarray, score: np.ndarray) -> DeLong:
    """Return AUC and variance by DeLong et al. (1988) in O(n log n), by midranks (Sun & Xu 2014).

    Var = var(V10) / m + var(V01) / n, with V10 the share of negatives below each of m positives
    and V01 the share of positives above each of n negatives; ties count one half. NaN with fewer
    than two samples of a class. Images of one patient are not independent: prefer the bootstrap.
    """
    positive, negative = score[target == 1], score[target != 1]
    m, n = len(positive), len(negative)
    if min(m, n) < 2:
        return DeLong(auc=np.nan, variance=np.nan)
    ranks = midranks(np.concatenate([positive, negative]))
    v10 = (ranks[:m] - midranks(positive)) / n
    v01 = 1 - (ranks[m:] - midranks(negative)) / m
    variance = v10.var(ddof=1) / m + v01.var(ddof=1) / n
    return DeLong(auc=float(v10.mean()), variance=float(variance))


def _patients(trials: Sequence[TrialScores]) -> Mapping[int, np.ndarray]:
    if not trials:
        raise ArtifactError("bootstrap: expected at least one trial, got none")
    patients: dict[int, np.ndarray] = {}
    for trial in trials:
        names = trial.predictions.patients
        if not np.array_equal(patients.setdefault(trial.fold, names), names):
            raise ArtifactError(
                f"bootstrap: two trials of fold {trial.fold} tested other patients;"
                " score trials of one fold plan only"
            )
    return dict(sorted(patients.items()))


def _repeated(predictions: Predictions, multiplicity: np.ndarray) -> Predictions:
    rows = np.repeat(np.arange(len(predictions.target)), multiplicity[predictions.patient])
    return replace(
        predictions,
        sample_id=predictions.sample_id[rows],
        patient_id=predictions.patient_id[rows],
        target=predictions.target[rows],
        probability=predictions.probability[rows],
    )
