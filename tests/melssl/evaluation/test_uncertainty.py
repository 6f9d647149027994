"""Uncertainty: the fast bootstrap equals repeating rows; DeLong equals its definition."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from melssl.errors import ArtifactError
from melssl.evaluation.metrics import METRICS
from melssl.evaluation.predictions import Predictions
from melssl.evaluation.uncertainty import (
    Bootstrap,
    Resamples,
    TrialScores,
    bootstrap_scores,
    cell_bootstrap,
    delong,
    paired_difference,
)

AUC = METRICS["roc_auc"]


def made(
    *, fold: int = 0, seed: int = 0, n_classes: int = 2, skill: float = 1.0, decimals: int = 9
) -> Predictions:
    """Test predictions of a fold: the fold fixes patients and targets, the seed the scores."""
    rng = np.random.default_rng(fold)
    patient = rng.integers(40, size=160)
    target = rng.choice(n_classes, size=160)
    logits = np.random.default_rng(100 + seed).normal(size=(160, n_classes))
    odds = np.exp(np.round(logits + skill * np.eye(n_classes)[target], decimals))
    return Predictions(
        sample_id=np.array([f"f{fold}i{row}" for row in range(160)], dtype=object),
        patient_id=np.array([f"f{fold}p{name}" for name in patient], dtype=object),
        target=target,
        probability=odds / odds.sum(axis=1, keepdims=True),
        prior=np.full(n_classes, 1 / n_classes),
    )


def with_rows_repeated(predictions: Predictions, weights: np.ndarray) -> Predictions:
    rows = [
        row
        for name, times in zip(predictions.patients, weights, strict=True)
        for _ in range(int(times))
        for row in np.flatnonzero(predictions.patient_id == name)
    ]
    return replace(
        predictions,
        sample_id=predictions.sample_id[rows],
        patient_id=predictions.patient_id[rows],
        target=predictions.target[rows],
        probability=predictions.probability[rows],
    )


@pytest.mark.parametrize("decimals", [9, 0], ids=["distinct", "tied"])
@pytest.mark.parametrize(
    ("name", "n_classes"), [(m.name, k) for m in METRICS.values() for k in (2, 3) if m.applies(k)]
)
def test_the_fast_bootstrap_equals_repeating_the_rows_of_the_drawn_patients(
    name: str, n_classes: int, decimals: int
) -> None:
    metric = METRICS[name]
    predictions = made(n_classes=n_classes, decimals=decimals)
    weights = Resamples(n=25).weights(0, len(predictions.patients))
    naive = [metric(with_rows_repeated(predictions, row)) for row in weights]
    np.testing.assert_allclose(
        bootstrap_scores(predictions, metric, weights), naive, rtol=0, atol=1e-12
    )
    slow = bootstrap_scores(predictions, replace(metric, weighted=None), weights)
    np.testing.assert_allclose(slow, naive, rtol=0, atol=1e-12)


def test_many_resamples_in_parts_equal_them_one_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    predictions = made()
    weights = Resamples(n=30).weights(0, len(predictions.patients))
    whole = bootstrap_scores(predictions, AUC, weights)
    monkeypatch.setattr("melssl.evaluation.curves.CELLS", 1)
    monkeypatch.setattr("melssl.evaluation.curves.LEAST", 7)
    assert np.array_equal(bootstrap_scores(predictions, AUC, weights), whole)


def test_redraws_keep_the_number_of_patients_and_repeat_with_the_seed_and_fold() -> None:
    weights = Resamples(n=200, seed=1).weights(2, 30)
    assert weights.shape == (200, 30)
    assert (weights.sum(axis=1) == 30).all()
    assert weights.mean(axis=0) == pytest.approx(np.ones(30), abs=0.3)
    assert np.array_equal(weights, Resamples(n=200, seed=1).weights(2, 30))
    assert not np.array_equal(weights, Resamples(n=200, seed=1).weights(3, 30))
    assert not np.array_equal(weights, Resamples(n=200, seed=2).weights(2, 30))


def test_a_cell_is_the_mean_of_its_trials_with_one_redraw_per_fold() -> None:
    trials = [
        TrialScores(fold=fold, predictions=made(fold=fold, seed=seed))
        for fold in (0, 1)
        for seed in (0, 1, 2)
    ]
    resamples = Resamples(n=50)
    cell = cell_bootstrap(trials, AUC, resamples)
    expected = np.zeros(50)
    for trial in trials:
        weights = resamples.weights(trial.fold, len(trial.predictions.patients))
        expected += bootstrap_scores(trial.predictions, AUC, weights) / 6
    np.testing.assert_allclose(cell.replicates, expected, atol=1e-12)
    assert cell.estimate == pytest.approx(np.mean([AUC(t.predictions) for t in trials]))
    interval = cell.interval
    assert (interval.low, interval.high) == pytest.approx(np.quantile(expected, [0.025, 0.975]))
    assert interval.low < interval.estimate < interval.high


def test_a_cell_equals_itself_in_another_order_of_trials_up_to_rounding() -> None:
    trials = [TrialScores(fold=fold, predictions=made(fold=fold)) for fold in (0, 1, 2)]
    forth = cell_bootstrap(trials, AUC, Resamples(n=20))
    back = cell_bootstrap(trials[::-1], AUC, Resamples(n=20))
    np.testing.assert_allclose(forth.replicates, back.replicates, atol=1e-12)
    assert forth.resampled == back.resampled


def test_the_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    inside = 0
    for trial in range(200):
        target = np.repeat([0, 1], 60)
        score = 1 / (1 + np.exp(-rng.normal(size=120) - target))
        predictions = Predictions(
            sample_id=np.arange(120).astype(str).astype(object),
            patient_id=np.arange(120).astype(str).astype(object),
            target=target,
            probability=np.column_stack([1 - score, score]),
            prior=np.array([0.5, 0.5]),
        )
        trials = [TrialScores(fold=0, predictions=predictions)]
        interval = cell_bootstrap(trials, AUC, Resamples(n=400, seed=trial)).interval
        inside += interval.low < 0.7602499389 < interval.high  # Phi(1 / sqrt 2)
    assert 180 <= inside <= 199


def test_a_paired_difference_is_narrower_than_its_two_sides() -> None:
    strong = made(seed=0, skill=1.0)
    weak = replace(strong, probability=0.5 * strong.probability + 0.5 * made(seed=1).probability)
    one, other = (
        cell_bootstrap([TrialScores(fold=0, predictions=p)], AUC, Resamples(n=400))
        for p in (strong, weak)
    )
    difference = paired_difference(one, other)
    assert difference.estimate == pytest.approx(AUC(strong) - AUC(weak))
    np.testing.assert_allclose(difference.replicates, one.replicates - other.replicates)
    unpaired = np.sqrt(one.replicates.var() + other.replicates.var())
    assert difference.replicates.std() < 0.8 * unpaired


def test_a_cell_against_itself_differs_by_nothing() -> None:
    cell = cell_bootstrap([TrialScores(fold=0, predictions=made())], AUC, Resamples(n=20))
    interval = paired_difference(cell, cell).interval
    assert (interval.estimate, interval.low, interval.high) == (0, 0, 0)


@pytest.mark.parametrize(
    ("fold", "resamples"),
    [(1, Resamples(n=20)), (0, Resamples(n=21)), (0, Resamples(n=20, seed=1))],
)
def test_cells_that_were_resampled_differently_cannot_be_subtracted(
    fold: int, resamples: Resamples
) -> None:
    cell = cell_bootstrap([TrialScores(fold=0, predictions=made())], AUC, Resamples(n=20))
    trials = [TrialScores(fold=fold, predictions=made(fold=fold))]
    with pytest.raises(ArtifactError, match="resampled differently"):
        paired_difference(cell, cell_bootstrap(trials, AUC, resamples))


def test_trials_of_one_fold_with_other_patients_are_refused() -> None:
    trials = [TrialScores(fold=0, predictions=made(fold=fold)) for fold in (0, 1)]
    with pytest.raises(ArtifactError, match="two trials of fold 0"):
        cell_bootstrap(trials, AUC, Resamples(n=20))


def test_no_trials_are_refused() -> None:
    with pytest.raises(ArtifactError, match="at least one trial"):
        cell_bootstrap([], AUC, Resamples())


def test_resamples_without_a_class_are_counted_and_left_out() -> None:
    predictions = made()
    lonely = replace(predictions, target=(predictions.patient == 0).astype(np.int64))
    cell = cell_bootstrap([TrialScores(fold=0, predictions=lonely)], AUC, Resamples(n=400))
    assert 0.25 < cell.n_undefined / 400 < 0.5  # (1 - 1/40)^40 = .36
    assert cell.interval.low <= cell.interval.high


def test_an_undefined_estimate_has_no_bounds() -> None:
    cell = Bootstrap(estimate=float("nan"), replicates=np.full(5, np.nan), resampled="")
    assert np.isnan([cell.interval.low, cell.interval.high]).all()
    assert cell.n_undefined == 5


@pytest.mark.parametrize("decimals", [9, 0], ids=["distinct", "tied"])
def test_delong_equals_the_placement_values_over_all_pairs(decimals: int) -> None:
    predictions = made(decimals=decimals)
    score, target = predictions.score, predictions.target
    positive, negative = score[target == 1], score[target == 0]
    wins = np.sign(positive[:, None] - negative[None, :]) / 2 + 0.5
    v10, v01 = wins.mean(axis=1), wins.mean(axis=0)
    variance = v10.var(ddof=1) / len(v10) + v01.var(ddof=1) / len(v01)
    result = delong(target, score)
    assert result.auc == pytest.approx(wins.mean(), abs=1e-12)
    assert result.auc == pytest.approx(AUC(predictions), abs=1e-12)
    assert result.variance == pytest.approx(variance, abs=1e-12)
    reach = 1.959963984540054 * np.sqrt(variance)
    assert result.interval.high - result.interval.low == pytest.approx(2 * reach, abs=1e-12)


def test_delong_of_perfect_scores_stays_within_0_to_1() -> None:
    interval = delong(np.array([0, 0, 1, 1]), np.array([0.1, 0.2, 0.3, 0.4])).interval
    assert (interval.estimate, interval.low, interval.high) == (1, 1, 1)


def test_delong_needs_two_samples_of_each_class() -> None:
    assert np.isnan(delong(np.array([0, 0, 1]), np.array([0.1, 0.2, 0.3])).auc)
