"""Cohort: what it accepts, what it refuses, and what its digest depends on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from melssl.data.cohort import Cohort
from melssl.errors import CohortError


def _frame(root: Path, n: int = 4) -> pd.DataFrame:
    names = [f"s{i}" for i in range(n)]
    for i, name in enumerate(names):
        (root / f"{name}.png").write_bytes(b"x" * (i + 1))
    return pd.DataFrame(
        {
            "sample_id": names,
            "path": [f"{name}.png" for name in names],
            "patient_id": [f"p{i // 2}" for i in range(n)],
            "target": [i % 2 for i in range(n)],
            "age": [50.0, np.nan, 60.0, 70.0][:n],
            "sex": ["male", None, "female", "male"][:n],
        }
    )


def _cohort(root: Path, frame: pd.DataFrame, **changes: object) -> Cohort:
    values = {"classes": ("no", "yes"), "clinical": ("age", "sex"), "name": "made"} | changes
    return Cohort(root=root, frame=frame, **values)


def test_rows_are_sorted_and_targets_are_integers(tmp_path: Path) -> None:
    frame = _frame(tmp_path).astype({"target": object}).iloc[[2, 0, 3, 1]]
    cohort = _cohort(tmp_path, frame)
    assert cohort.frame["sample_id"].tolist() == ["s0", "s1", "s2", "s3"]
    assert cohort.frame["target"].dtype == np.int64
    assert len(cohort) == 4


def test_the_callers_table_is_left_as_it_was(tmp_path: Path) -> None:
    frame = _frame(tmp_path).iloc[::-1]
    before = frame.copy()
    _cohort(tmp_path, frame)
    pd.testing.assert_frame_equal(frame, before)


def test_the_digest_depends_on_content_and_not_on_order_place_or_spelling_of_missing(
    tmp_path: Path,
) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    frame = _frame(tmp_path / "a")
    digest = _cohort(tmp_path / "a", frame).digest
    moved = _frame(tmp_path / "b").iloc[::-1].assign(remark="not part of the digest")
    moved["sex"] = moved["sex"].astype("string")
    assert _cohort(tmp_path / "b", moved).digest == digest


@pytest.mark.parametrize("column", ["patient_id", "target", "age", "sex"])
def test_the_digest_notices_a_changed_cell(tmp_path: Path, column: str) -> None:
    frame = _frame(tmp_path)
    digest = _cohort(tmp_path, frame).digest
    changed = frame.copy()
    changed.loc[0, column] = changed.loc[3 if column != "sex" else 2, column]
    assert _cohort(tmp_path, changed).digest != digest


def test_the_digest_notices_another_file_size_and_other_classes(tmp_path: Path) -> None:
    frame = _frame(tmp_path)
    digest = _cohort(tmp_path, frame).digest
    assert _cohort(tmp_path, frame, classes=("yes", "no")).digest != digest
    (tmp_path / "s0.png").write_bytes(b"longer than before")
    assert _cohort(tmp_path, frame).digest != digest


def test_all_faults_are_told_at_once(tmp_path: Path) -> None:
    frame = _frame(tmp_path).astype({"target": object})
    frame.loc[0, "path"] = "../s0.png"
    frame.loc[1, "path"] = str(tmp_path / "s1.png")
    frame.loc[2, "path"] = "nowhere.png"
    frame.loc[2, "patient_id"] = "  "
    frame.loc[3, "sample_id"] = "s2"
    frame.loc[3, "target"] = "'maybe'"
    with pytest.raises(CohortError) as caught:
        _cohort(tmp_path, frame)
    text = str(caught.value)
    assert "6 fault(s)" in text
    for part in (
        "path ../s0.png may leave the root",
        f"path {tmp_path / 's1.png'} may leave the root",
        "file nowhere.png does not exist",
        "patient_id is empty for sample s2",
        "sample id s2 stands more than once",
        "target 'maybe' of s2 is unknown; expected 0..1 (no, yes)",
    ):
        assert part in text


@pytest.mark.parametrize("target", [2, -2, 0.5, "yes"])
def test_a_target_outside_the_classes_is_refused(tmp_path: Path, target: object) -> None:
    frame = _frame(tmp_path).astype({"target": object})
    frame.loc[0, "target"] = target
    with pytest.raises(CohortError, match=rf"target {target} of s0 is unknown"):
        _cohort(tmp_path, frame)


def test_an_empty_table_and_a_missing_target_are_refused(tmp_path: Path) -> None:
    frame = _frame(tmp_path).astype({"target": object})
    with pytest.raises(CohortError, match="the table has no rows"):
        _cohort(tmp_path, frame.iloc[:0])
    frame.loc[1, "target"] = None
    with pytest.raises(CohortError, match="target is empty for sample s1"):
        _cohort(tmp_path, frame)


def test_missing_columns_are_named_with_those_found(tmp_path: Path) -> None:
    frame = _frame(tmp_path).drop(columns=["patient_id", "sex"])
    with pytest.raises(CohortError, match=r"\['patient_id', 'sex'\] \(found: sample_id, path"):
        _cohort(tmp_path, frame)


def test_unlabelled_rows_stay_and_labelled_leaves_them_out(tmp_path: Path) -> None:
    frame = _frame(tmp_path)
    frame.loc[0, "target"] = -1
    cohort = _cohort(tmp_path, frame)
    assert len(cohort) == 4
    assert cohort.labelled["sample_id"].tolist() == ["s1", "s2", "s3"]


def test_samples_left_out_are_noted_and_change_the_digest(tmp_path: Path) -> None:
    cohort = _cohort(tmp_path, _frame(tmp_path))
    fewer = cohort.without(["s1", "s3"], "blurred")
    assert fewer.frame["sample_id"].tolist() == ["s0", "s2"]
    assert fewer.notes == ("2 samples left out: blurred",)
    assert fewer.digest != cohort.digest
