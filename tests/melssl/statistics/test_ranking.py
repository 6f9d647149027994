"""Ranks over blocks: a published worked example, and refusals."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import friedmanchisquare

from melssl.statistics.ranking import critical_difference, ranking

# Demšar (2006), table 6: AUC of four classifiers on 14 data sets; the tie that rounding made on
# "voting", which its ranks do not have, is broken in the last digit.
DEMSAR = np.array(
    [
        (0.763, 0.768, 0.771, 0.798),
        (0.599, 0.591, 0.590, 0.569),
        (0.954, 0.971, 0.968, 0.967),
        (0.628, 0.661, 0.654, 0.657),
        (0.882, 0.888, 0.886, 0.898),
        (0.936, 0.931, 0.916, 0.931),
        (0.661, 0.668, 0.609, 0.685),
        (0.583, 0.583, 0.563, 0.625),
        (0.775, 0.838, 0.866, 0.875),
        (1.000, 1.000, 1.000, 1.000),
        (0.940, 0.962, 0.965, 0.962),
        (0.619, 0.666, 0.614, 0.669),
        (0.972, 0.981, 0.975, 0.9749),
        (0.957, 0.978, 0.946, 0.970),
    ]
)


def test_the_worked_example_of_demsar_comes_out() -> None:
    found = ranking(DEMSAR)
    assert found.refused is None
    assert np.round(found.mean_ranks, 3).tolist() == [3.143, 2.0, 2.893, 1.964]
    assert round(found.chi2, 2) == 9.28
    assert round(found.f, 2) == 3.69
    assert 0.01 < found.p < 0.05
    assert round(found.critical, 2) == 1.25


@pytest.mark.parametrize(
    ("arms", "q"), [(2, 1.960), (3, 2.344), (5, 2.728), (7, 2.949), (10, 3.164)]
)
def test_critical_values_are_those_of_the_published_table(arms: int, q: float) -> None:
    scale = np.sqrt(arms * (arms + 1) / (6 * 20))
    assert critical_difference(arms, 20) == pytest.approx(q * scale, abs=0.002)


def test_without_ties_chi2_is_scipys() -> None:
    scores = np.random.default_rng(0).random((8, 5))
    assert ranking(scores).chi2 == pytest.approx(friedmanchisquare(*scores.T).statistic)


def test_the_order_of_blocks_and_a_shift_of_one_block_change_nothing() -> None:
    moved = DEMSAR[::-1] + np.arange(14)[:, None]
    assert ranking(moved).chi2 == pytest.approx(ranking(DEMSAR).chi2)


@pytest.mark.parametrize(
    ("scores", "reason"),
    [
        (DEMSAR[:, :2], "2 arms have no ranking"),
        (DEMSAR[:2], "2 folds are too few"),
        (np.where(np.eye(14, 4, dtype=bool), np.nan, DEMSAR), "4 of 14 folds lack"),
    ],
)
def test_what_cannot_be_ranked_is_refused_with_ranks_where_there_are_any(
    scores: np.ndarray, reason: str
) -> None:
    found = ranking(scores)
    assert reason in str(found.refused)
    assert np.isnan([found.chi2, found.p, found.critical]).all()
    assert found.mean_ranks.sum() == pytest.approx(scores.shape[1] * (scores.shape[1] + 1) / 2)


def test_blocks_that_are_none_are_refused() -> None:
    assert ranking(DEMSAR, refused="no blocks").refused == "no blocks"


def test_arms_that_always_keep_their_order_differ_as_surely_as_can_be() -> None:
    found = ranking(np.tile([0.1, 0.2, 0.3], (5, 1)))
    assert found.p == 0
    assert found.mean_ranks.tolist() == [3, 2, 1]
