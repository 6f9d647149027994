"""Patients are scored by the mean probability of their clips, where clips show one finding."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score, roc_auc_score

from melssl.errors import SpecError
from melssl.evaluation.metrics import METRICS, score_all
from melssl.evaluation.pooling import pool_predictions
from melssl.evaluation.predictions import Predictions
from melssl.evaluation.uncertainty import Resamples, bootstrap_scores


def clips(n_classes: int = 2, n: int = 60, *, per_patient: bool = True) -> Predictions:
    rng = np.random.default_rng(n_classes)
    patient = np.sort(rng.integers(0, 15, n))
    target = (patient * 7 + 3) % n_classes
    probability = rng.dirichlet(np.ones(n_classes), n) + 0.4 * np.eye(n_classes)[target]
    return Predictions(
        sample_id=np.array([f"c{i}" for i in range(n)], object),
        patient_id=np.array([f"P{i:02d}" for i in patient], object),
        target=target,
        probability=probability / probability.sum(axis=1, keepdims=True),
        prior=np.full(n_classes, 1 / n_classes),
        per_patient=per_patient,
    )


def by_hand(predictions: Predictions) -> tuple[np.ndarray, np.ndarray]:
    keys = list(zip(predictions.patient_id, predictions.target, strict=True))
    own = sorted(set(keys))
    rows = [[i for i, key in enumerate(keys) if key == one] for one in own]
    means = np.array([predictions.probability[row].mean(axis=0) for row in rows])
    return np.array([target for _, target in own]), means


def test_a_patient_counts_once_by_the_mean_of_the_clips() -> None:
    predictions = clips()
    target, means = by_hand(predictions)
    scores = score_all(predictions)
    assert scores["patient_roc_auc"] == pytest.approx(roc_auc_score(target, means[:, 1]))
    assert scores["patient_balanced_accuracy"] == pytest.approx(
        balanced_accuracy_score(target, means.argmax(axis=1))
    )
    assert scores["patient_roc_auc"] != pytest.approx(scores["roc_auc"])


def test_several_classes_are_averaged_as_for_clips() -> None:
    predictions = clips(3)
    target, means = by_hand(predictions)
    own = np.mean([roc_auc_score(target == k, means[:, k]) for k in range(3)])
    assert METRICS["patient_roc_auc"](predictions) == pytest.approx(own)


def test_a_patient_with_two_findings_counts_once_for_each() -> None:
    predictions = clips()
    mixed = Predictions(
        sample_id=predictions.sample_id[:3],
        patient_id=np.array(["A", "A", "B"], object),
        target=np.array([0, 1, 1]),
        probability=np.array([[0.9, 0.1], [0.4, 0.6], [0.2, 0.8]]),
        prior=predictions.prior,
        per_patient=True,
    ).by_patient()
    assert mixed.patient_id.tolist() == ["A", "A", "B"]
    assert mixed.target.tolist() == [0, 1, 1]
    assert np.allclose(mixed.probability[:, 1], [0.1, 0.6, 0.8])


def test_redrawn_patients_are_redrawn_with_all_their_clips() -> None:
    predictions = clips()
    weights = Resamples(n=20).weights(predictions.patients)
    scores = bootstrap_scores(predictions, METRICS["patient_roc_auc"], weights)
    own = bootstrap_scores(predictions.by_patient(), METRICS["roc_auc"], weights)
    assert np.array_equal(scores, own)


def test_where_patients_are_not_scored_nothing_is_added(tmp_path: Path) -> None:
    plain = clips(per_patient=False)
    assert not any(name.startswith("patient_") for name in score_all(plain))
    with pytest.raises(SpecError, match="takes of one finding"):
        METRICS["patient_roc_auc"](plain)
    for predictions in (plain, clips()):
        predictions.save(tmp_path / "p.parquet")
        assert Predictions.load(tmp_path / "p.parquet").per_patient == predictions.per_patient
        assert pool_predictions([predictions], "raw").per_patient == predictions.per_patient
