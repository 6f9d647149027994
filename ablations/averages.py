"""Averages of trials whose replicates redraw the test patients, the draws and the seeds.

Replicate r of the mean of trials t, each on a fold f, a draw d and a seed s, is

    sum_t a_fd(r) b_s(r) x_t(r) / sum_t a_fd(r) b_s(r)

x_t(r) is the trial's score under the r-th redraw of test patients, which is common to all trials.
a and b say how often a draw and a seed count (Rao & Wu 1988), mean one. Draws are redrawn within
each fold, for draw 0 of two folds are two random subsets; seeds for all folds at once. Both depend
on their names alone, so arms and budgets with the same draws and seeds share them: budgets nest
within a draw, and arms see the same labels. What one draw or one seed leaves unknown is not in the
interval. What draws and seeds do together is counted with each of them, so that an interval errs to
the wide side (Owen 2007).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import pandas as pd

from ablations.design import Place
from ablations.finished import Finished, Pair
from melssl.evaluation.uncertainty import Bootstrap
from melssl.judging import RESAMPLES
from melssl.seeding import Seed
from melssl.statistics.levels import repeat_counts
from melssl.statistics.training_sets import training_variance, widened

ROOT = Seed(0).child("repeats")


@dataclass(frozen=True, kw_only=True)
class Weights:
    """How much each of T trials counts in R replicates, (T, R), by what is redrawn.

    Columns sum to one; they are NaN where no trial is left, which takes missing trials.
    """

    draws: np.ndarray
    seeds: np.ndarray
    both: np.ndarray


@dataclass(frozen=True, kw_only=True)
class StandardErrors:
    """What each source of chance alone adds to the mean's standard error; NaN where unknown."""

    patients: float
    draws: float
    seeds: float


@dataclass(frozen=True, kw_only=True)
class Summary:
    """What the trials of a cell come to; without pairs there is no gain, and no control's score.

    ``control`` is the mean score of the control's trials among the pairs.
    """

    score: Bootstrap | None
    errors: StandardErrors | None
    gain: Bootstrap | None
    control: Bootstrap | None


def summarised(
    trials: Sequence[Finished],
    pairs: Sequence[Pair],
    metric: str,
    share: float,
    test_train_ratio: float,
) -> Summary:
    """Return all that the replicates of a cell's trials are needed for, so that they may go."""
    return Summary(
        score=average(trials, metric) if trials else None,
        errors=standard_errors(trials, metric) if trials else None,
        gain=difference(pairs, metric, share, test_train_ratio) if pairs else None,
        control=average([pair.control for pair in pairs], metric) if pairs else None,
    )


@lru_cache(maxsize=2)  # the metrics of a cell and of its pairs; large where draws are many
def weights(places: tuple[Place, ...]) -> Weights:
    """Return the weights of the trials at ``places``, as many replicates as trials store."""
    by_fold: dict[int, set[int]] = {}
    for fold, draw, _ in places:
        by_fold.setdefault(fold, set()).add(draw)
    a = {fold: _redrawn(("draws", fold), names) for fold, names in by_fold.items()}
    b = _redrawn(("seeds",), {seed for _, _, seed in places})
    draws = np.stack([a[fold][draw] for fold, draw, _ in places])
    seeds = np.stack([b[seed] for _, _, seed in places])
    return Weights(draws=_shares(draws), seeds=_shares(seeds), both=_shares(draws * seeds))


def average(trials: Sequence[Finished], metric: str) -> Bootstrap:
    """Return the mean score of trials; no replicate is defined where a trial has stored none."""
    return _mean(_places(trials), _scores(trials, metric), _stored(trials, metric))


def difference(
    pairs: Sequence[Pair], metric: str, share: float, test_train_ratio: float
) -> Bootstrap:
    """Return the mean difference of paired trials, arm minus control, training patients counted.

    ``share`` is the cell's label fraction. What another cohort to train on would have changed is in
    none of the redraws: the replicates are spread by ``training_variance`` for it.
    """
    own, control = [pair.own for pair in pairs], [pair.control for pair in pairs]
    stored = _stored(own, metric) - _stored(control, metric)
    scores = _scores(own, metric) - _scores(control, metric)
    found = _mean(_places(own), scores, stored)
    patients = _spread(stored.mean(axis=0)) ** 2
    by_draw = _by_fold_and_draw(_places(own), scores)
    extra = training_variance(by_draw, patients, share, test_train_ratio)
    return replace(found, replicates=widened(found.estimate, found.replicates, extra))


@dataclass(frozen=True, kw_only=True)
class Mean:
    """The mean score of some trials with what is needed to subtract that of others.

    ``by_draw`` (J, D) holds scores by fold and draw; ``by_patient`` (R,) are replicates that redraw
    the test patients alone.
    """

    score: Bootstrap
    by_draw: np.ndarray
    by_patient: np.ndarray

    def minus(self, other: Mean, share: float, test_train_ratio: float) -> Bootstrap:
        """Return the paired difference to the mean of trials on the same places.

        The same as ``difference``, but the replicates of each of many arms are read once.
        """
        found = self.score.minus(other.score)
        patients = _spread(self.by_patient - other.by_patient) ** 2
        by_draw = self.by_draw - other.by_draw
        extra = training_variance(by_draw, patients, share, test_train_ratio)
        return replace(found, replicates=widened(found.estimate, found.replicates, extra))


def mean_of(trials: Sequence[Finished], metric: str) -> Mean:
    """Return the mean score of trials; those to be subtracted stand on the same places in order."""
    scores, stored = _scores(trials, metric), _stored(trials, metric)
    return Mean(
        score=_mean(_places(trials), scores, stored),
        by_draw=_by_fold_and_draw(_places(trials), scores),
        by_patient=stored.mean(axis=0),
    )


def standard_errors(trials: Sequence[Finished], metric: str) -> StandardErrors:
    """Return the standard error of the mean score by what is redrawn, one source at a time.

    That of the draws is NaN where no fold has two draws; so is that of the seeds with one seed.
    """
    places, scores = _places(trials), _scores(trials, metric)
    shares = weights(places)
    n_draws = Counter(fold for fold, _ in {(fold, draw) for fold, draw, _ in places})
    n_seeds = len({seed for _, _, seed in places})
    return StandardErrors(
        patients=_spread(_stored(trials, metric).mean(axis=0)),
        draws=_spread(scores @ shares.draws) if max(n_draws.values()) > 1 else float("nan"),
        seeds=_spread(scores @ shares.seeds) if n_seeds > 1 else float("nan"),
    )


def _mean(places: tuple[Place, ...], scores: np.ndarray, stored: np.ndarray) -> Bootstrap:
    replicates: np.ndarray = np.einsum("tr,tr->r", weights(places).both, stored)
    return Bootstrap(estimate=float(np.mean(scores)), replicates=replicates)


def _by_fold_and_draw(places: tuple[Place, ...], scores: np.ndarray) -> np.ndarray:
    """Return the mean score over seeds of every fold and draw, (J, D); NaN where there is none."""
    folds, draws, _ = np.array(places).T
    (rows, row), (columns, column) = (np.unique(x, return_inverse=True) for x in (folds, draws))
    means = pd.Series(scores).groupby(row * len(columns) + column).mean()
    table = np.full((len(rows), len(columns)), np.nan)
    table.flat[means.index.to_numpy()] = means.to_numpy()
    return table


def _redrawn(path: tuple[str | int, ...], names: Iterable[int]) -> dict[int, np.ndarray]:
    """Return how often each of some draws or seeds counts: (R,) of mean one by name."""
    ordered = sorted(names)
    rng = ROOT.child(*path, *ordered).numpy()
    drawn = repeat_counts(len(ordered), RESAMPLES.n, rng)
    drawn *= len(ordered) / drawn.sum(axis=1, keepdims=True)
    return dict(zip(ordered, drawn.T, strict=True))


def _shares(counts: np.ndarray) -> np.ndarray:
    with np.errstate(invalid="ignore"):
        shares: np.ndarray = counts / counts.sum(axis=0)
    return shares


def _places(trials: Sequence[Finished]) -> tuple[Place, ...]:
    return tuple(trial.place for trial in trials)


def _scores(trials: Sequence[Finished], metric: str) -> np.ndarray:
    return np.array([trial.score(metric) for trial in trials])


def _stored(trials: Sequence[Finished], metric: str) -> np.ndarray:
    """Return the replicates of all trials, (T, R); NaN for a trial that has none."""
    none = np.full(RESAMPLES.n, np.nan, np.float32)
    return np.stack([trial.replicates.get(metric, none) for trial in trials])


def _spread(replicates: np.ndarray) -> float:
    return Bootstrap(estimate=float("nan"), replicates=replicates).standard_error
