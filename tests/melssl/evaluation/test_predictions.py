"""Predictions: checked at birth, one row per sample, the same after a file."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from melssl.data.cohort import Cohort
from melssl.errors import ArtifactError
from melssl.evaluation.predictions import UNKNOWN_CAMERA, Predictions


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


def test_cameras_and_thresholds_come_back_too_infinite_ones_included(tmp_path: Path) -> None:
    camera = np.array(["A", "640x480", "unknown"], dtype=object)
    known = replace(three(), camera=camera, thresholds={95: 1 / 3, 90: -np.inf})
    known.save(tmp_path / "p.parquet")
    back = Predictions.load(tmp_path / "p.parquet")
    assert back.camera is not None
    assert back.camera.tolist() == camera.tolist()
    assert back.thresholds == {95: 1 / 3, 90: -np.inf}
    three().save(tmp_path / "p.parquet")
    bare = Predictions.load(tmp_path / "p.parquet")
    assert bare.camera is None
    assert bare.thresholds == {}


def test_rows_are_taken_with_all_that_is_known_of_them() -> None:
    camera = np.array(["A", "B", "C"], dtype=object)
    rows = replace(three(), camera=camera, thresholds={95: 0.5}).at(np.array([2, 0, 2]))
    assert rows.sample_id.tolist() == ["b", "c", "b"]
    assert rows.patient_id.tolist() == ["q", "q", "q"]
    assert rows.score.tolist() == [2 / 3, 0.1, 2 / 3]
    assert rows.camera is not None
    assert rows.camera.tolist() == ["C", "A", "C"]
    assert rows.thresholds == {95: 0.5}
    assert rows.prior.tolist() == [0.7, 0.3]


def test_an_unknown_camera_has_the_name_that_cohorts_give_it(tmp_path: Path) -> None:
    frame = pd.DataFrame(
        {"sample_id": ["a"], "path": ["a.png"], "patient_id": ["p"], "target": [0]}
    ).assign(width=np.nan, height=2.0)
    cohort = Cohort(
        name="c",
        root=tmp_path,
        frame=frame,
        classes=("no", "yes"),
        acquisition=("width", "height"),
        has_images=False,
    )
    assert cohort.cameras is not None
    assert cohort.cameras.tolist() == [UNKNOWN_CAMERA]


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
        ({"thresholds": {95: np.nan}}, "threshold is NaN"),
        ({"camera": np.array(["A"], dtype=object)}, "3 samples but 1 cameras"),
        ({"target": np.array([0, -1, 1])}, r"targets, all in 0\.\.1"),
    ],
)
def test_a_faulty_column_is_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(ArtifactError, match=message):
        replace(three(), **change)
