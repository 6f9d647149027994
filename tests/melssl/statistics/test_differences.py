"""Tests of differences: worked by hand, in closed form, and refusing where they cannot speak."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from melssl.statistics.differences import (
    bootstrap_p,
    can_reject,
    corrected_t,
    correlated_bayes,
    detectable_difference,
    holm,
    relative,
    smallest_signed_rank_p,
)
from melssl.statistics.interval import percentile_interval

# Five folds of 80 training and 20 test patients. By hand: the sum is .10, so d = .02; deviations
# .00, .01, -.01, .02, -.02 have squares 0, 1, 1, 4, 4 times 1e-4, so s^2 = 10e-4 / 4 = 2.5e-4.
# 1/5 + 20/80 = .45; .45 x 2.5e-4 = 1.125e-4; its root is .0106066; t = .02 / .0106066 = 1.885618
# (exactly 4 sqrt(2) / 3), with 4 degrees of freedom.
BY_HAND = np.array([0.02, 0.03, 0.01, 0.04, 0.00])
T_BY_HAND = 4 * math.sqrt(2) / 3


def four_df(t: float) -> float:
    """Distribution function of Student's t with 4 degrees of freedom, in closed form."""
    x = t / math.sqrt(4 + t * t)
    return 0.5 + 0.75 * (x - x**3 / 3)


def test_the_corrected_t_equals_an_example_worked_by_hand() -> None:
    found = corrected_t(BY_HAND, test_train_ratio=20 / 80)
    assert found.mean == pytest.approx(0.02)
    assert found.statistic == pytest.approx(T_BY_HAND, abs=1e-12)
    assert (found.n_folds, found.df, found.refused) == (5, 4, None)
    assert found.p == pytest.approx(2 * (1 - four_df(T_BY_HAND)), abs=1e-12)
    assert found.p == pytest.approx(
        0.1324, abs=5e-5
    )  # a printed t table: .10 at 2.132, .20 at 1.533


def test_five_times_the_folds_shrink_only_the_part_that_repeats_can_shrink() -> None:
    repeated = corrected_t(np.tile(BY_HAND, 5), test_train_ratio=0.25)
    s2 = 5 * 10e-4 / 24
    assert repeated.df == 24
    assert repeated.statistic == pytest.approx(0.02 / math.sqrt((1 / 25 + 0.25) * s2))


def test_without_the_correction_it_is_the_plain_t() -> None:
    plain = corrected_t(BY_HAND, test_train_ratio=0)
    assert plain.statistic == pytest.approx(0.02 / math.sqrt(2.5e-4 / 5))


@pytest.mark.parametrize(
    ("differences", "why"),
    [
        ([0.01, 0.02], "2 folds are too few"),
        ([0.02, 0.02, 0.02], "no spread"),
        ([0.0, 0.0, 0.0, 0.0, 0.0], "no spread"),
        ([0.1 + 0.2, 0.3, 0.3], "no spread"),
        ([0.01, float("nan"), 0.03], "1 of 3 folds have no difference"),
    ],
)
def test_where_folds_cannot_tell_both_tests_say_why_and_give_no_number(
    differences: list[float], why: str
) -> None:
    test = corrected_t(np.array(differences), 0.25)
    bayes = correlated_bayes(np.array(differences), 0.25, rope=0.01)
    assert test.refused is not None
    assert why in test.refused
    assert bayes.refused == test.refused
    assert np.isnan([test.statistic, test.df, test.p]).all()
    assert np.isnan([bayes.worse, bayes.same, bayes.better]).all()


def test_the_posterior_equals_the_closed_form_of_a_t_with_4_degrees_of_freedom() -> None:
    found = correlated_bayes(BY_HAND, test_train_ratio=0.25, rope=0.01)
    scale = math.sqrt(1.125e-4)
    assert found.worse == pytest.approx(four_df((-0.01 - 0.02) / scale), abs=1e-12)
    assert found.better == pytest.approx(1 - four_df((0.01 - 0.02) / scale), abs=1e-12)
    assert found.worse + found.same + found.better == pytest.approx(1)
    assert found.refused is None


def test_without_a_region_the_posterior_says_what_the_corrected_t_says() -> None:
    found = correlated_bayes(BY_HAND, 0.25, rope=0.0)
    assert found.same == pytest.approx(0, abs=1e-12)
    assert 2 * found.worse == pytest.approx(corrected_t(BY_HAND, 0.25).p)


def test_swapping_the_arms_mirrors_every_test() -> None:
    a, b = correlated_bayes(BY_HAND, 0.25, 0.01), correlated_bayes(-BY_HAND, 0.25, 0.01)
    assert (a.worse, a.better) == pytest.approx((b.better, b.worse))
    assert corrected_t(-BY_HAND, 0.25).p == pytest.approx(corrected_t(BY_HAND, 0.25).p)


def test_holm_equals_an_example_by_hand() -> None:
    # Ascending .005, .01, .03, .04 times 4, 3, 2, 1: .02, .03, .06, .04; the last may not fall
    # below the one before it, so .06.
    found = holm(np.array([0.01, 0.04, 0.03, 0.005]))
    assert found == pytest.approx([0.03, 0.06, 0.06, 0.02])


def test_holm_leaves_nan_where_it_is_and_does_not_count_it() -> None:
    found = holm(np.array([np.nan, 0.01, 0.04, np.nan, 0.9]))
    assert found == pytest.approx([np.nan, 0.03, 0.08, np.nan, 0.9], nan_ok=True)
    assert holm(np.array([0.6, 0.7])) == pytest.approx([1, 1])
    assert holm(np.array([])).shape == (0,)
    assert np.isnan(holm(np.array([np.nan]))).all()


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_never_lowers_a_p_nor_exceeds_bonferroni(values: list[float]) -> None:
    p = np.array(values)
    adjusted = holm(p)
    assert (adjusted >= p - 1e-15).all()
    assert (adjusted <= np.minimum(1, len(p) * p) + 1e-15).all() or len(p) > 1
    assert adjusted.min() == pytest.approx(min(1, len(p) * p.min()))
    assert (np.argsort(p, kind="stable") == np.argsort(adjusted + 1e-9 * p, kind="stable")).all()


def test_the_detectable_difference_of_a_siim_fold_is_two_points() -> None:
    assert detectable_difference(0.0074) == pytest.approx(0.0207, abs=5e-5)
    assert detectable_difference(1.0, alpha=0.05, power=0.5) == pytest.approx(1.959964, abs=1e-6)
    assert detectable_difference(1.0, alpha=0.05, power=0.8) == pytest.approx(2.801585, abs=1e-6)


@given(
    st.lists(st.integers(-6, 6), min_size=40, max_size=120),
    st.sampled_from([0.2, 0.1, 0.05]),
)
def test_a_bootstrap_p_is_below_alpha_exactly_where_the_interval_leaves_zero_out(
    values: list[int], alpha: float
) -> None:
    replicates = np.array(values) + 1.5
    interval = percentile_interval(0.0, replicates, level=1 - alpha)
    p = bootstrap_p(replicates)
    if min(abs(interval.low), abs(interval.high)) > 1e-9:
        assert (p < alpha) == (interval.low > 0 or interval.high < 0)


def test_a_bootstrap_p_is_two_sided_and_never_zero() -> None:
    replicates = np.random.default_rng(1).normal(1, 1, size=999)
    assert bootstrap_p(replicates) == pytest.approx(bootstrap_p(-replicates))
    assert bootstrap_p(replicates, null=1.0) > 0.9
    assert bootstrap_p(np.arange(1.0, 1000.0)) == pytest.approx(2 / 1000)
    assert bootstrap_p(np.zeros(100)) == 1
    assert bootstrap_p(np.append(replicates, np.nan)) == bootstrap_p(replicates)
    assert np.isnan(bootstrap_p(np.full(5, np.nan)))


def test_wilcoxon_on_five_folds_can_never_reject() -> None:
    from scipy.stats import wilcoxon

    for n in (3, 5, 6, 8):
        assert smallest_signed_rank_p(n) == pytest.approx(wilcoxon(np.arange(1.0, n + 1)).pvalue)
    assert smallest_signed_rank_p(5) == 0.0625
    assert not can_reject(5)
    assert can_reject(6)
    assert not can_reject(6, alpha=0.01)
    assert not can_reject(0)


def test_relative_differences_of_a_published_table_come_out_to_their_digits() -> None:
    """BTCV after 6, 12 and 24 volumes, random and pretrained: the MONAI tutorial's own numbers."""
    control, arm = np.array([63.07, 76.06, 78.91]), np.array([70.09, 79.55, 82.30])
    found = 100 * relative(arm - control, control)
    np.testing.assert_allclose(found, [11.13, 4.59, 4.30], atol=0.005)
    assert np.isnan(relative(0.1, 0.0))
