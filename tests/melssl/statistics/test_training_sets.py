"""What the training set adds: exact for a mean over training patients, a margin without draws."""

from __future__ import annotations

import numpy as np
import pytest

from melssl.statistics.differences import bootstrap_p
from melssl.statistics.training_sets import training_variance, widened

RATIO, FOLDS, DRAWS, SHARE = 0.25, 5, 4, 0.25


def linear_differences(rng: np.random.Generator) -> np.ndarray:
    """Differences (J, D) that are means of 100 patients' effects over each draw's patients."""
    effect = rng.normal(size=100)
    fold = rng.permutation(100) % FOLDS
    return np.array(
        [
            [effect[rng.permutation(np.flatnonzero(fold != k))[:20]].mean() for _ in range(DRAWS)]
            for k in range(FOLDS)
        ]
    )


def test_for_means_over_training_patients_the_variance_over_cohorts_is_found() -> None:
    rng = np.random.default_rng(0)
    made = [linear_differences(rng) for _ in range(1500)]
    common = np.mean([training_variance(d, 0.0, SHARE, RATIO) for d in made])
    single = np.mean([d.var(axis=1, ddof=1).mean() for d in made]) / (FOLDS * DRAWS)
    assert np.var([d.mean() for d in made]) == pytest.approx(common + single, rel=0.1)
    assert common > 4 * single  # what redrawn draws show is the small part


def test_missing_draws_are_left_out_and_folds_with_one_say_nothing() -> None:
    nan = np.nan
    differences = np.array([[1.0, 3.0, nan], [5.0, nan, nan], [0.0, 1.0, 2.0]])
    # Squares about fold means: 2 with one degree of freedom, 2 with two: s^2 = 4 / 3.
    found = training_variance(differences, 9.0, 0.5, 0.25)
    assert found == pytest.approx(4 / 3 * (0.5 / 0.5) / 1.25)


@pytest.mark.parametrize(
    ("differences", "share"), [(np.ones((5, 1)), 0.2), (np.eye(5), 1.0), (np.ones((5, 0)), 0.2)]
)
def test_without_draws_to_compare_it_is_the_share_of_test_patients(
    differences: np.ndarray, share: float
) -> None:
    assert training_variance(differences, 0.04, share, 0.25) == pytest.approx(0.01)


def test_widened_replicates_vary_by_so_much_more_about_the_same_estimate() -> None:
    replicates = np.append(np.random.default_rng(0).normal(0.3, 1, 500), np.nan)
    found = widened(0.3, replicates, 0.25)
    assert np.nanvar(found, ddof=1) == pytest.approx(np.nanvar(replicates, ddof=1) + 0.25)
    assert np.isnan(found[-1])
    assert (np.argsort(found) == np.argsort(replicates)).all()
    assert bootstrap_p(found) > bootstrap_p(replicates)
    assert widened(0.3, replicates, 0.0)[:-1] == pytest.approx(replicates[:-1])


@pytest.mark.parametrize("replicates", [np.full(5, np.nan), np.ones(5), np.array([])])
def test_replicates_without_spread_stay_as_they_are(replicates: np.ndarray) -> None:
    assert widened(1.0, replicates, 0.5) is replicates
