"""How far a score could be off: its replicates under redrawn test patients.

Patients are redrawn with all their images. How often one counts in a replicate is a function of
its id, so the replicates of any two scores can be paired: of two arms, budgets or subgroups, of
two folds, of two ways to deal the folds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from pydantic import Field

from melssl.errors import ArtifactError
from melssl.evaluation.curves import roc_area
from melssl.evaluation.metrics import Metric, TestedT
from melssl.evaluation.predictions import Predictions
from melssl.seeding import Seed
from melssl.settings import Settings
from melssl.statistics.interval import Interval, logit_interval, percentile_interval

STEP = np.uint64(0x9E3779B97F4A7C15)  # 2^64 over the golden ratio, splitmix64's increment
MIXERS = ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB))


def _poisson_thresholds() -> np.ndarray:
    """Return P(X <= k) 2^64 of Poisson(1) for k = 0, 1, ... while below 1 in double precision."""
    shares = np.exp(-1) * np.cumsum(1 / np.cumprod([1.0, *range(1, 25)]))
    thresholds: np.ndarray = np.floor(shares[shares < 1 - 2**-52] * 2.0**64).astype(np.uint64)
    return thresholds


POISSON = _poisson_thresholds()


class Resamples(Settings):
    """How often patients are redrawn, and the seed that makes the redraws common to all scores."""

    n: int = Field(2000, ge=2)
    seed: int = 0

    def weights(self, patients: Sequence[str] | np.ndarray) -> np.ndarray:
        """Return how often each patient counts in each replicate, (n, P) floats.

        They are independent Poisson(1) numbers (Hanley & MacGibbon 2006; Chamandy et al. 2012): a
        bootstrap in which patients come and go on their own, so that a multiplicity can depend on
        seed, replicate and the patient's id alone. The bits are splitmix64's (Steele et al. 2014)
        at the place of the replicate, in a stream that starts at a hash of the id.
        """
        start = Seed(self.seed).child("patients").ranks(list(patients))
        bits = np.arange(1, self.n + 1, dtype=np.uint64)[:, None] * STEP + start
        for shift, factor in MIXERS:
            bits ^= bits >> np.uint64(shift)
            bits *= np.uint64(factor)
        bits ^= bits >> np.uint64(31)
        times: np.ndarray = np.searchsorted(POISSON, bits, side="right").astype(np.float64)
        return times


@dataclass(frozen=True, kw_only=True)
class Bootstrap:
    """An estimate with its replicates, shape (n,); NaN where a resample does not define it."""

    estimate: float
    replicates: np.ndarray
    n_undefined: int = field(init=False)

    def __post_init__(self) -> None:
        undefined = int(np.isnan(self.replicates).sum())
        object.__setattr__(self, "n_undefined", undefined)

    @property
    def interval(self) -> Interval:
        """Percentile interval; undefined replicates are left out (``n_undefined`` counts them)."""
        return percentile_interval(self.estimate, self.replicates)

    def logit_interval(self, n_units: int) -> Interval:
        """Interval of a score in 0..1 by t on logits; ``n_units`` patients of the rarer class."""
        return logit_interval(self.estimate, self.replicates, n_units)

    @property
    def standard_error(self) -> float:
        """Standard deviation of the defined replicates; NaN with fewer than two of them."""
        if len(self.replicates) - self.n_undefined < 2:
            return float("nan")
        return float(np.nanstd(self.replicates, ddof=1))

    def minus(self, other: Bootstrap) -> Bootstrap:
        """Return the paired difference, replicate by replicate.

        Raises:
            ArtifactError: the two have other numbers of replicates.

        """
        if len(self.replicates) != len(other.replicates):
            raise ArtifactError(
                f"paired difference: expected as many replicates on both sides, got"
                f" {len(self.replicates)} and {len(other.replicates)}; make both with one version"
            )
        return Bootstrap(
            estimate=self.estimate - other.estimate,
            replicates=self.replicates - other.replicates,
        )


def bootstrap_scores(tested: TestedT, metric: Metric[TestedT], weights: np.ndarray) -> np.ndarray:
    """Return the metric under each row of patient weights (R, P), shape (R,)."""
    if metric.weighted is not None:
        return metric.weighted(tested, weights)
    return np.array([_repeated(tested, metric, row) for row in weights.astype(np.int64)])


def _repeated(tested: TestedT, metric: Metric[TestedT], multiplicity: np.ndarray) -> float:
    rows = np.repeat(np.arange(len(tested.sample_id)), multiplicity[tested.patient])
    if not len(rows):
        return float("nan")
    return metric(tested.at(rows))


def pair_areas(predictions: Predictions, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return each class's ROC AUC and the weight of its pairs under weights (R, P): (K, R) twice.

    A pair is a sample of the class and one of the rest; the AUC is the share of pairs in order, so
    areas of several test sets, weighted by their pairs, are the AUC over pairs within a set. Binary
    outcomes have one row, class 1's. Where a class has no pair its area counts as 0.
    """
    binary, n_patients = predictions.n_classes == 2, len(predictions.patients)
    classes = [1] if binary else range(predictions.n_classes)
    areas, pairs = [], []
    for k in classes:
        sides = [predictions.target == k, predictions.target != k]
        images = [np.bincount(predictions.patient[side], minlength=n_patients) for side in sides]
        areas.append(np.nan_to_num(roc_area(predictions, k, weights)))
        pairs.append((weights @ images[0]) * (weights @ images[1]))
    return np.stack(areas), np.stack(pairs)
