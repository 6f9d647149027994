"""Subgroups: every row in one group, rare and missing ones named, and predictions of a group."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from melssl.errors import ArtifactError
from melssl.evaluation.predictions import Predictions
from melssl.evaluation.subgroups import part, subgroups

N = 200


def frame(**columns: object) -> pd.DataFrame:
    """One image per patient, on an index that is not 0, 1, 2."""
    return pd.DataFrame(
        {"patient_id": [f"p{row:03d}" for row in range(N)]} | columns, index=np.arange(N) + 7
    )


def sizes(groups: pd.Series) -> dict[str, int]:
    return {str(name): int(n) for name, n in groups.value_counts(sort=False).items()}


def test_ages_come_in_three_bands_and_missing_ones_have_their_own() -> None:
    age = np.repeat([20.0, 39.9, 40, 59.9, 60, np.nan], [30, 20, 30, 20, 75, 25])
    (name, groups), *others = subgroups(frame(age=age), ["age"], None).items()
    assert (name, others) == ("age", [])
    assert sizes(groups) == {"below 40": 50, "40 to 59": 50, "60 and over": 75, "not given": 25}
    assert groups.index.tolist() == list(range(7, N + 7))
    assert groups.loc[7 + 49] == "below 40"


def test_levels_are_sorted_and_those_of_few_patients_pooled() -> None:
    site = np.repeat(["torso", "palm", "leg", "sole", None], [100, 10, 60, 19, 11]).astype(object)
    found = subgroups(frame(site=site), ["site"], None)
    assert sizes(found["site"]) == {"leg": 60, "torso": 100, "other": 29, "not given": 11}


def test_a_group_is_rare_by_its_patients_and_not_by_its_images() -> None:
    table = frame(sex=np.repeat(["f", "m"], [100, 100]).astype(object))
    table["patient_id"] = [f"p{row % 5}" if row < 100 else f"q{row}" for row in range(N)]
    assert sizes(subgroups(table, ["sex"], None)["sex"]) == {"m": 100, "other": 100}


def test_few_numbers_are_levels_and_many_are_cut_into_thirds() -> None:
    found = subgroups(frame(grade=np.arange(N) % 3, size=np.arange(N)), ["grade", "size"], None)
    assert sizes(found["grade"]) == {"0": 67, "1": 67, "2": 66}
    assert list(sizes(found["size"]).values()) == [67, 66, 67]


def test_cameras_are_an_attribute_where_they_are_known() -> None:
    cameras = pd.Series(np.repeat(["A", "B", "unknown"], [80, 90, 30]), frame().index)
    assert subgroups(frame(), [], None) == {}
    found = subgroups(frame(), [], cameras)
    assert sizes(found["camera"]) == {"A": 80, "B": 90, "not given": 30}


def test_an_attribute_with_one_group_is_left_out() -> None:
    table = frame(sex=np.full(N, "f", dtype=object), age=np.full(N, np.nan))
    assert subgroups(table, ["sex", "age"], None) == {}


def test_the_order_of_rows_changes_nothing() -> None:
    rng = np.random.default_rng(0)
    table = frame(age=rng.uniform(20, 90, N), thickness=rng.random(N))
    order = rng.permutation(N)
    shuffled = subgroups(table.iloc[order], ["age", "thickness"], None)
    for name, groups in subgroups(table, ["age", "thickness"], None).items():
        assert shuffled[name].loc[groups.index].tolist() == groups.tolist()


def test_a_part_of_predictions_keeps_all_that_is_known() -> None:
    whole = Predictions(
        sample_id=np.array(["a", "b", "c"], dtype=object),
        patient_id=np.array(["p", "q", "p"], dtype=object),
        target=np.array([0, 1, 1]),
        probability=np.array([[0.9, 0.1], [0.2, 0.8], [0.4, 0.6]]),
        prior=np.array([0.5, 0.5]),
        camera=np.array(["x", "y", "z"], dtype=object),
        thresholds={95: 0.5},
    )
    some = part(whole, np.array([True, False, True]))
    assert some.sample_id.tolist() == ["a", "c"]
    assert some.camera is not None
    assert some.camera.tolist() == ["x", "z"]
    assert some.thresholds == {95: 0.5}
    with pytest.raises(ArtifactError, match="one or more targets"):
        part(whole, np.zeros(3, dtype=bool))
