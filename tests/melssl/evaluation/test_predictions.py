"""Predictions: checked at birth, one row per sample, the same after a file."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from melssl.errors import ArtifactError
from melssl.evaluation.predictions import Predictions


def three() -> Predictions:
    return Predictions(
        sample_id=np.array(["c", "a", "b"], dtype=object),
        patient_id=np.array(["q", "p", "q"], dtype=object),
        target=np.array([0, 1, 0]),
        probability=np.array([[0.9, 0.1], [0.2, 0.8], [1 / 3, 2 / 3]]),
        prior=np.array([0.7, 0.3]),
    )


def test_predictions_come_back_from_a_file_bit_by_bit(tmp_path: Path) -> None:
    three().save(tmp_path / "p.parquet")
    back = Predictions.load(tmp_path / "p.parquet")
    for column in ("sample_id", "patient_id", "target", "probability", "prior"):
        assert np.array_equal(getattr(back, column), getattr(three(), column))


def test_the_score_of_a_binary_outcome_is_the_probability_of_class_one() -> None:
    assert three().score.tolist() == [0.1, 0.8, 2 / 3]


def test_patients_are_sorted_and_each_sample_points_to_its_own() -> None:
    assert three().patients.tolist() == ["p", "q"]
    assert three().patient.tolist() == [1, 0, 1]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"target": np.array([0, 1])}, "differ in length"),
        ({"prior": np.ones(3) / 3}, "2 classes but 3 priors"),
        ({"probability": np.full((3, 2), np.nan)}, "not finite"),
        ({"target": np.array([0, 1, 2])}, r"targets, all in 0\.\.1"),
        ({"target": np.array([0, -1, 1])}, r"targets, all in 0\.\.1"),
    ],
)
def test_a_faulty_column_is_refused(change: dict[str, np.ndarray], message: str) -> None:
    with pytest.raises(ArtifactError, match=message):
        replace(three(), **change)
