"""DeLong against all pairs of samples, written from the definition of structural components."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import norm

from melssl.statistics.delong import delong, delong_difference


def made(decimals: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Targets of 90 samples and two related scores; few decimals make many ties."""
    rng = np.random.default_rng(seed)
    target = (rng.random(90) < 0.3).astype(np.int64)
    common = target + rng.normal(size=90)
    a, b = common + rng.normal(size=90), common + rng.normal(size=90)
    return target, np.round(a, decimals), np.round(b, decimals)


def kernel(x: float, y: float) -> float:
    return 1.0 if x > y else 0.5 if x == y else 0.0


def components(target: np.ndarray, score: np.ndarray) -> tuple[list[float], list[float]]:
    """V10 of every positive and V01 of every negative, pair by pair (DeLong et al. 1988)."""
    positive, negative = score[target == 1], score[target == 0]
    v10 = [sum(kernel(x, y) for y in negative) / len(negative) for x in positive]
    v01 = [sum(kernel(x, y) for x in positive) / len(positive) for y in negative]
    return v10, v01


def covariance(u: list[float], v: list[float]) -> float:
    mean_u, mean_v = sum(u) / len(u), sum(v) / len(v)
    return sum((x - mean_u) * (y - mean_v) for x, y in zip(u, v, strict=True)) / (len(u) - 1)


@pytest.mark.parametrize("decimals", [9, 1, 0], ids=["distinct", "some ties", "many ties"])
def test_the_fast_forms_equal_the_definition_over_all_pairs(decimals: int) -> None:
    target, a, b = made(decimals)
    (a10, a01), (b10, b01) = components(target, a), components(target, b)
    m, n = len(a10), len(a01)
    var_a = covariance(a10, a10) / m + covariance(a01, a01) / n
    var_b = covariance(b10, b10) / m + covariance(b01, b01) / n
    both = covariance(a10, b10) / m + covariance(a01, b01) / n
    one, two = delong(target, a), delong_difference(target, a, b)
    assert one.auc == pytest.approx(sum(a10) / m, abs=1e-10)
    assert one.variance == pytest.approx(var_a, abs=1e-10)
    assert two.difference == pytest.approx(sum(a10) / m - sum(b10) / m, abs=1e-10)
    assert two.variance == pytest.approx(var_a + var_b - 2 * both, abs=1e-10)
    z = two.difference / np.sqrt(var_a + var_b - 2 * both)
    assert two.p == pytest.approx(2 * norm.sf(abs(z)), abs=1e-10)


def test_the_interval_of_a_difference_leaves_zero_out_exactly_where_p_is_below_five_percent() -> (
    None
):
    verdicts = set()
    for seed in range(40):
        target, a, b = made(9, seed)
        found = delong_difference(target, a + target * seed / 20, b)
        excluded = found.interval.low > 0 or found.interval.high < 0
        assert excluded == (found.p < 0.05)
        verdicts.add(excluded)
    assert verdicts == {True, False}


def test_a_score_against_itself_differs_by_nothing_and_has_no_p() -> None:
    target, a, _ = made(1)
    found = delong_difference(target, a, a)
    assert found.difference == 0
    assert found.variance == pytest.approx(0, abs=1e-15)
    assert found.variance > 0 or np.isnan(found.p)


def test_perfect_scores_stay_within_0_to_1() -> None:
    interval = delong(np.array([0, 0, 1, 1]), np.array([0.1, 0.2, 0.3, 0.4])).interval
    assert (interval.estimate, interval.low, interval.high) == (1, 1, 1)


def test_two_samples_of_each_class_are_needed() -> None:
    score = np.array([0.1, 0.2, 0.3])
    assert np.isnan(delong(np.array([0, 0, 1]), score).auc)
    assert np.isnan(delong_difference(np.array([0, 0, 1]), score, score).p)
