"""Selection: validation patients come out of the budget, and nothing else is looked at."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from melssl.errors import SplitError
from melssl.evaluation.metrics import METRICS
from melssl.evaluation.predictions import Predictions
from melssl.evaluation.selection import best_epoch, threshold_at, validation_split


def budget(n_patients: int = 60, n_classes: int = 2) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    patients = np.repeat(np.arange(n_patients), rng.integers(1, 5, n_patients))
    return pd.DataFrame(
        {
            "sample_id": [f"i{row:04d}" for row in range(len(patients))],
            "patient_id": [f"p{patient:03d}" for patient in patients],
            "target": rng.choice(n_classes, size=len(patients)),
        }
    )


def validation(target: list[int], score: list[float]) -> Predictions:
    ids = np.array([f"i{row}" for row in range(len(target))], dtype=object)
    p = np.array(score)
    return Predictions(
        sample_id=ids,
        patient_id=ids,
        target=np.array(target),
        probability=np.column_stack([1 - p, p]),
        prior=np.array([0.5, 0.5]),
    )


@pytest.mark.parametrize("n_classes", [2, 3])
def test_validation_parts_the_budget_by_patient_with_every_class_on_both_sides(
    n_classes: int,
) -> None:
    frame = budget(n_classes=n_classes)
    train, val = (
        frame[frame["sample_id"].isin(ids)] for ids in validation_split(frame, 0.25, seed=0)
    )
    assert len(train) + len(val) == len(frame)
    assert not set(train["patient_id"]) & set(val["patient_id"])
    assert set(train["target"]) == set(val["target"]) == set(range(n_classes))
    assert val["patient_id"].nunique() == pytest.approx(15, abs=1)


def test_validation_depends_on_the_seed_and_not_on_the_order_of_rows() -> None:
    frame = budget()
    expected = validation_split(frame, 0.25, seed=0)
    assert validation_split(frame.sample(frac=1, random_state=1), 0.25, seed=0) == expected
    assert validation_split(frame, 0.25, seed=1) != expected


def test_the_smallest_budget_gives_one_patient_of_each_class() -> None:
    frame = budget(4).assign(target=lambda f: f["patient_id"].isin(["p000", "p001"]).astype(int))
    _, val = validation_split(frame, 0.1, seed=0)
    rows = frame[frame["sample_id"].isin(val)]
    assert rows.groupby("target")["patient_id"].nunique().tolist() == [1, 1]


def test_a_class_with_one_patient_cannot_be_validated() -> None:
    frame = budget(5).assign(target=lambda f: (f["patient_id"] == "p000").astype(int))
    with pytest.raises(SplitError, match="class 1 cannot stand on both sides"):
        validation_split(frame, 0.2, seed=0)


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_a_share_outside_0_to_1_is_refused(share: float) -> None:
    with pytest.raises(SplitError, match="between 0 and 1"):
        validation_split(budget(), share, seed=0)


def test_the_best_epoch_is_the_first_of_the_best_in_the_metrics_direction() -> None:
    assert best_epoch([0.5, float("nan"), 0.9, 0.9], METRICS["roc_auc"]) == 2
    assert best_epoch([0.5, 0.1, 0.1], METRICS["brier"]) == 1
    with pytest.raises(SplitError, match="no epoch has a score"):
        best_epoch([float("nan")], METRICS["roc_auc"])


@pytest.mark.parametrize(
    ("specificity", "expected"), [(1.0, 0.9), (0.75, 0.5), (0.7, 0.5), (0.5, 0.3), (0.0, -np.inf)]
)
def test_the_threshold_keeps_the_specificity_and_no_lower_one_does(
    specificity: float, expected: float
) -> None:
    predictions = validation([0, 0, 0, 0, 1, 1], [0.1, 0.3, 0.5, 0.9, 0.4, 0.95])
    threshold = threshold_at(predictions, specificity)
    assert threshold == expected
    assert (predictions.score[predictions.target == 0] <= threshold).mean() >= specificity


def test_a_threshold_without_negatives_is_refused() -> None:
    with pytest.raises(SplitError, match="no negative"):
        threshold_at(validation([1, 1], [0.2, 0.3]), 0.9)
