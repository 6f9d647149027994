"""The percentile interval: NumPy's quantiles, and honest ends where replicates are infinite."""

from __future__ import annotations

import numpy as np
import pytest

from melssl.statistics.interval import logit_interval, percentile_interval

INF = float("inf")


def test_finite_replicates_give_the_quantiles_of_numpy_with_nan_left_out() -> None:
    replicates = np.random.default_rng(0).normal(size=501)
    found = percentile_interval(0.1, np.append(replicates, [np.nan] * 9))
    assert (found.low, found.high) == tuple(np.quantile(replicates, [0.025, 0.975]))
    assert found.estimate == 0.1


@pytest.mark.parametrize(
    ("replicates", "low", "high"),
    [
        ([1.0, 2.0, 3.0, 4.0, INF], 1.4, INF),
        ([-INF, 1.0, 2.0, 3.0, 4.0], -INF, 3.6),
        ([INF] * 5, INF, INF),
        ([-INF, -INF, INF, INF, INF], -INF, INF),
        ([1.0, INF, INF, INF, INF], 1.0, INF),
    ],
)
def test_an_infinite_neighbour_moves_a_bound_outwards_and_never_makes_it_nan(
    replicates: list[float], low: float, high: float
) -> None:
    found = percentile_interval(1.0, np.array(replicates), level=0.8)
    assert (found.low, found.high) == pytest.approx((low, high))


def test_without_an_estimate_or_a_defined_replicate_there_are_no_bounds() -> None:
    for found in (
        percentile_interval(float("nan"), np.ones(9)),
        percentile_interval(1.0, np.full(9, np.nan)),
        percentile_interval(1.0, np.array([])),
    ):
        assert np.isnan([found.low, found.high]).all()


def test_the_interval_on_logits_is_t_on_logits_and_stays_within_0_to_1() -> None:
    replicates = np.array([0.85, 0.9, 0.95, np.nan, 1.0])
    found = logit_interval(0.9, replicates, n_units=5)
    logits = np.log([0.85 / 0.15, 0.9 / 0.1, 0.95 / 0.05, (1 - 1e-6) / 1e-6])
    reach = 2.7764451 * logits.std(ddof=1)  # t of 4 degrees of freedom
    assert found.low == pytest.approx(1 / (1 + np.exp(reach) / 9))
    assert found.high == pytest.approx(1 / (1 + np.exp(-reach) / 9))
    assert found.low < found.estimate == 0.9
    assert found.high < 1


def test_the_interval_on_logits_needs_a_spread_and_two_patients() -> None:
    replicates = np.array([0.4, 0.6, 0.5])
    for found in (
        logit_interval(0.5, replicates, n_units=1),
        logit_interval(0.5, replicates[:1], n_units=9),
        logit_interval(float("nan"), replicates, n_units=9),
    ):
        assert np.isnan([found.low, found.high]).all()
