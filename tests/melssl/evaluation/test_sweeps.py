"""Curves read at fixed places: they agree with the areas, and with a count by hand."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import precision_recall_curve as sklearn_pr
from sklearn.metrics import roc_curve as sklearn_roc

from melssl.evaluation import sweeps
from melssl.evaluation.metrics import METRICS
from melssl.evaluation.predictions import Predictions


def made(score: np.ndarray, target: np.ndarray, patient: np.ndarray | None = None) -> Predictions:
    n = len(score)
    owner = np.arange(n) if patient is None else patient
    return Predictions(
        sample_id=np.array([f"s{i}" for i in range(n)], dtype=object),
        patient_id=np.array([f"p{i:03d}" for i in owner], dtype=object),
        target=target,
        probability=np.column_stack([1 - score, score]),
        prior=np.array([0.8, 0.2]),
    )


@pytest.fixture(scope="module")
def some() -> Predictions:
    """Return 300 samples of 100 patients with ties among the scores."""
    rng = np.random.default_rng(0)
    target = (rng.random(300) < 0.2).astype(np.int64)
    score = np.round(1 / (1 + np.exp(1.5 - target - rng.normal(size=300))), 2)
    return made(score, target, np.arange(300) // 3)


def plain(predictions: Predictions) -> np.ndarray:
    return np.ones((1, len(predictions.patients)))


def test_a_roc_curve_is_that_of_scikit_learn_at_every_rate(some: Predictions) -> None:
    found = sweeps.roc_curve(some, plain(some))[0]
    fpr, tpr, _ = sklearn_roc(some.target, some.score, drop_intermediate=False)
    expected = np.interp(sweeps.RATES + 1e-12, fpr, tpr)  # above a step, where there is one
    np.testing.assert_allclose(found, expected, atol=1e-9)
    assert (np.diff(found) >= -1e-12).all()


def test_the_area_under_a_finely_read_roc_curve_is_the_auc(
    some: Predictions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweeps, "RATES", np.linspace(0, 1, 200_001))
    area = sweeps.roc_curve(some, plain(some)).mean()
    assert area == pytest.approx(METRICS["roc_auc"](some), abs=1e-4)


def test_precision_is_that_of_the_first_threshold_that_reaches_a_recall(some: Predictions) -> None:
    found = sweeps.precision_recall_curve(some, plain(some))[0]
    precision, recall, _ = sklearn_pr(some.target, some.score)
    for at, value in zip(sweeps.RECALLS, found, strict=True):
        first = recall[recall >= at - 1e-9].min()
        assert value == pytest.approx(precision[recall == first].max())


def test_the_mean_of_a_finely_read_precision_is_the_average_precision(
    some: Predictions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweeps, "RECALLS", np.linspace(0, 1, 200_001)[1:])
    mean = sweeps.precision_recall_curve(some, plain(some)).mean()
    assert mean == pytest.approx(METRICS["average_precision"](some), abs=1e-4)


def test_net_benefit_is_what_counting_by_hand_gives() -> None:
    score = np.array([0.05, 0.1, 0.2, 0.3, 0.8])
    five = made(score, np.array([0, 0, 1, 0, 1]))
    found = sweeps.net_benefit(five, plain(five))[0]
    for t in (0.0, 0.1, 0.2, 0.25, 0.5):
        place = np.flatnonzero(np.isclose(sweeps.ODDS_AT, t))
        called = score >= t - 1e-12
        hits, alarms = called[[2, 4]].sum(), called[[0, 1, 3]].sum()
        assert found[place] == pytest.approx((hits - alarms * t / (1 - t)) / 5), t
    everybody = sweeps.benefit_of_all(five, plain(five))[0]
    assert everybody[0] == found[0] == pytest.approx(2 / 5)
    assert everybody[np.isclose(sweeps.ODDS_AT, 0.4)] == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("curve", list(sweeps.SWEEPS))
def test_a_weight_of_two_is_a_patient_twice(curve: str, some: Predictions) -> None:
    _, read, _ = sweeps.SWEEPS[curve]
    weights = np.random.default_rng(1).poisson(1, (1, 100)).astype(float)
    rows = np.repeat(np.arange(300), weights[0, some.patient].astype(int))
    again = some.at(rows)
    np.testing.assert_allclose(read(some, weights), read(again, plain(again)), atol=1e-12)


def test_without_a_positive_there_is_no_curve() -> None:
    none = made(np.array([0.1, 0.2]), np.array([0, 0]))
    assert np.isnan(sweeps.roc_curve(none, plain(none))).all()
    assert np.isnan(sweeps.precision_recall_curve(none, plain(none))).all()


def test_several_classes_have_the_mean_of_their_curves() -> None:
    rng = np.random.default_rng(2)
    probability = rng.dirichlet([1, 1, 1], 60)
    three = Predictions(
        sample_id=np.arange(60).astype(str).astype(object),
        patient_id=np.arange(60).astype(str).astype(object),
        target=np.arange(60) % 3,
        probability=probability,
        prior=np.ones(3) / 3,
    )
    each = [
        sweeps.roc_curve(
            made(probability[:, k], (three.target == k).astype(np.int64)), np.ones((1, 60))
        )
        for k in range(3)
    ]
    np.testing.assert_allclose(sweeps.roc_curve(three, np.ones((1, 60))), np.mean(each, axis=0))
