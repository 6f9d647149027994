"""Uncertainty: the fast bootstrap equals repeating rows; redraws belong to patients."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from melssl.errors import ArtifactError
from melssl.evaluation.metrics import METRICS
from melssl.evaluation.predictions import Predictions
from melssl.evaluation.uncertainty import Bootstrap, Resamples, bootstrap_scores, pair_areas

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
        camera=np.array([f"c{name % 3}" for name in patient], dtype=object),
        thresholds={95: 0.6, 90: 0.5},
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
        camera=predictions.camera[rows],
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
    weights = Resamples(n=25).weights(predictions.patients)
    naive = [metric(with_rows_repeated(predictions, row)) for row in weights]
    np.testing.assert_allclose(
        bootstrap_scores(predictions, metric, weights), naive, rtol=0, atol=1e-12
    )
    slow = bootstrap_scores(predictions, replace(metric, weighted=None), weights)
    np.testing.assert_allclose(slow, naive, rtol=0, atol=1e-12)


def test_many_resamples_in_parts_equal_them_one_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    predictions = made()
    weights = Resamples(n=30).weights(predictions.patients)
    whole = bootstrap_scores(predictions, AUC, weights)
    monkeypatch.setattr("melssl.evaluation.curves.CELLS", 1)
    monkeypatch.setattr("melssl.evaluation.curves.LEAST", 7)
    assert np.array_equal(bootstrap_scores(predictions, AUC, weights), whole)


def test_multiplicities_are_poisson_with_mean_and_variance_one() -> None:
    weights = Resamples(n=2000).weights([f"p{i}" for i in range(1000)])
    expected = np.exp(-1) / np.array([1, 1, 2, 6, 24, 120])
    found = np.bincount(weights.astype(int).ravel(), minlength=6)[:6] / weights.size
    np.testing.assert_allclose(found, expected, rtol=0.03, atol=2e-4)
    assert weights.mean() == pytest.approx(1, abs=0.003)
    assert weights.var() == pytest.approx(1, abs=0.005)
    # single patients and single replicates: means of 2000 and of 1000 numbers of variance 1
    assert np.abs(weights.mean(axis=0) - 1).max() * np.sqrt(2000) < 4.5
    assert np.abs(weights.mean(axis=1) - 1).max() * np.sqrt(1000) < 4.5


@pytest.mark.parametrize("axis", [0, 1], ids=["patients", "replicates"])
def test_multiplicities_are_independent(axis: int) -> None:
    weights = Resamples(n=1000).weights([str(i) for i in range(1000)])
    rows = weights if axis else weights.T
    correlations = np.corrcoef(rows[:200])[np.triu_indices(200, 1)]
    assert correlations.std() * np.sqrt(1000) == pytest.approx(1, abs=0.03)
    assert np.abs(correlations).max() * np.sqrt(1000) < 5


def test_a_multiplicity_depends_on_seed_replicate_and_patient_alone() -> None:
    names = [f"IP_{i}" for i in range(50)]
    weights = Resamples(n=200, seed=1).weights(names)
    assert np.array_equal(Resamples(n=200, seed=1).weights(names[::-1]), weights[:, ::-1])
    assert np.array_equal(Resamples(n=200, seed=1).weights(names[20:23]), weights[:, 20:23])
    assert np.array_equal(Resamples(n=90, seed=1).weights(np.array(names, object)), weights[:90])
    assert not np.array_equal(Resamples(n=200, seed=2).weights(names), weights)
    # for ever: stored replicates of an older vault are paired with new ones
    assert list(Resamples(n=8).weights(["IP_0000000"])[:, 0]) == [1, 0, 1, 2, 0, 0, 1, 1]


def test_the_redraws_of_two_folds_are_those_of_both_together() -> None:
    one, other = made(fold=1), made(fold=2)
    weights = Resamples(n=40).weights(np.concatenate([one.patients, other.patients]))
    split = bootstrap_scores(other, AUC, Resamples(n=40).weights(other.patients))
    joint = bootstrap_scores(other, AUC, weights[:, len(one.patients) :])
    assert np.array_equal(split, joint)


def test_the_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    inside = 0
    for trial in range(200):
        target = np.repeat([0, 1], 60)
        score = 1 / (1 + np.exp(-rng.normal(size=120) - target))
        names = np.array([f"{trial}-{i}" for i in range(120)], dtype=object)
        predictions = Predictions(
            sample_id=names,
            patient_id=names,
            target=target,
            probability=np.column_stack([1 - score, score]),
            prior=np.array([0.5, 0.5]),
        )
        replicates = bootstrap_scores(predictions, AUC, Resamples(n=400).weights(names))
        interval = Bootstrap(estimate=AUC(predictions), replicates=replicates).interval
        inside += interval.low < 0.7602499389 < interval.high  # Phi(1 / sqrt 2)
    assert 180 <= inside <= 198


def test_a_difference_is_paired_replicate_by_replicate() -> None:
    a = Bootstrap(estimate=0.9, replicates=np.array([0.8, 0.9, 1.0]))
    b = Bootstrap(estimate=0.7, replicates=np.array([0.7, 0.8, 0.9]))
    gain = a.minus(b)
    assert gain.estimate == pytest.approx(0.2)
    np.testing.assert_allclose(gain.replicates, 0.1)
    assert gain.standard_error == pytest.approx(0, abs=1e-12)


def test_sides_with_other_numbers_of_replicates_are_refused() -> None:
    a, b = (Bootstrap(estimate=0.5, replicates=np.zeros(n)) for n in (4, 5))
    with pytest.raises(ArtifactError, match="4 and 5"):
        a.minus(b)


def test_resamples_without_a_class_are_counted_and_left_out() -> None:
    predictions = made()
    lonely = replace(predictions, target=(predictions.patient == 0).astype(np.int64))
    weights = Resamples(n=400).weights(lonely.patients)
    cell = Bootstrap(estimate=AUC(lonely), replicates=bootstrap_scores(lonely, AUC, weights))
    assert cell.n_undefined == (weights[:, 0] == 0).sum()
    assert 0.3 < cell.n_undefined / 400 < 0.45  # 1 / e = .37
    assert cell.interval.low <= cell.interval.high


def test_a_redraw_of_nobody_defines_no_score() -> None:
    predictions = made()
    nobody = np.zeros((1, len(predictions.patients)))
    for metric in (AUC, replace(AUC, weighted=None)):
        assert np.isnan(bootstrap_scores(predictions, metric, nobody)).all()


def test_an_undefined_estimate_has_no_bounds() -> None:
    cell = Bootstrap(estimate=float("nan"), replicates=np.full(5, np.nan))
    assert np.isnan([cell.interval.low, cell.interval.high, cell.standard_error]).all()
    assert cell.n_undefined == 5


@pytest.mark.parametrize("n_classes", [2, 3])
def test_areas_and_pairs_of_classes_are_those_of_the_plain_auc(n_classes: int) -> None:
    predictions = made(n_classes=n_classes)
    weights = Resamples(n=20).weights(predictions.patients)
    areas, pairs = pair_areas(predictions, weights)
    assert areas.shape == pairs.shape == (1 if n_classes == 2 else 3, 20)
    whole = bootstrap_scores(predictions, AUC, weights)
    np.testing.assert_allclose(areas.mean(axis=0), whole, atol=1e-12)
    sample = weights[:, predictions.patient]
    own = sample[:, predictions.target == 1].sum(axis=1)
    rest = sample[:, predictions.target != 1].sum(axis=1)
    np.testing.assert_allclose(pairs[0 if n_classes == 2 else 1], own * rest)


def test_a_class_without_a_pair_has_no_weight() -> None:
    predictions = made()
    alone = predictions.at(np.flatnonzero(predictions.target == 1))
    areas, pairs = pair_areas(alone, np.ones((1, len(alone.patients))))
    assert (areas.item(), pairs.item()) == (0, 0)
