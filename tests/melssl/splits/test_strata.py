"""Strata: what a patient counts as."""

from __future__ import annotations

import pandas as pd
import pytest

from melssl.errors import SplitError
from melssl.splits.strata import patient_table


def frame_of(*rows: tuple[str, int]) -> pd.DataFrame:
    frame = pd.DataFrame(rows, columns=["patient_id", "target"])
    return frame.assign(sample_id=[f"i{place}" for place in range(len(rows))])


def test_a_patient_is_positive_if_any_image_is_even_where_positives_are_the_majority() -> None:
    table = patient_table(frame_of(("a", 0), ("a", 1), ("b", 1), ("c", 0), ("d", 1)), 2)
    assert dict(zip(table.patient_id, table.stratum.tolist(), strict=True)) == {
        "a": 1,
        "b": 1,
        "c": 0,
        "d": 1,
    }


def test_with_several_classes_a_patient_counts_as_the_one_that_fewest_patients_have() -> None:
    rows = [("a", 0), ("a", 2), ("b", 0), ("b", 1), ("c", 0), ("d", 1), ("d", 0)]
    table = patient_table(frame_of(*rows), 3)
    assert table.stratum.tolist() == [2, 1, 0, 1]
    assert table.images.tolist() == [[1, 0, 1], [1, 1, 0], [1, 0, 0], [1, 1, 0]]


def test_part_of_a_table_keeps_the_strata_of_the_whole() -> None:
    table = patient_table(frame_of(("a", 0), ("a", 2), ("b", 2), ("c", 0), ("d", 0), ("e", 1)), 3)
    part = table.rows(frozenset({"a", "b"}))
    assert part.patient_id.tolist() == ["a", "b"]
    assert part.stratum.tolist() == [2, 2]


def test_a_table_without_a_label_is_refused() -> None:
    with pytest.raises(SplitError, match="no labelled row"):
        patient_table(frame_of(("a", -1), ("b", -1)), 2)
