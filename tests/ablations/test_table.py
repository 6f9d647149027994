"""TrialTable: what is saved comes back, and whatever contradicts itself is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from pandas.testing import assert_frame_equal

from ablations.table import (
    FactorInfo,
    LevelInfo,
    MetricInfo,
    StudyInfo,
    TableError,
    TrialTable,
)


def factor(name: str, scale: str, *values: str | float) -> FactorInfo:
    levels = tuple(LevelInfo(value=value, label=str(value)) for value in values)
    return FactorInfo(name=name, label=name, scale=scale, levels=levels)


def table() -> TrialTable:
    """Return two finished trials of three; the control is called ``none`` and has no mask ratio."""
    info = StudyInfo(
        name="tiny",
        question="does it save?",
        factors=(
            factor("method", "category", "none", "mae"),
            factor("label_fraction", "log", 0.1),
            factor("mask_ratio", "linear", 0.5, 0.75),
        ),
        metrics=(MetricInfo(name="auc", label="ROC AUC", higher_is_better=True, chance=0.5),),
        main_metric="auc",
        control="none",
        n_planned=3,
        n_finished=2,
        folds=(0,),
        draws=(0,),
        seeds=(0,),
        test_train_ratio=0.5,
        cohort={"images": 30},
        origin={
            "study_key": "abc",
            "commit": "123",
            "numbers_version": 1,
            "cohort": "made",
            "cohort_digest": "d1",
        },
    )
    design = pd.DataFrame(
        {
            "trial": ["t0", "t1", "t2"],
            "cell": ["c0", "c1", "c2"],
            "method": ["none", "mae", "mae"],
            "label_fraction": 0.1,
            "mask_ratio": [None, 0.5, 0.75],
            "fold": 0,
            "draw": 0,
            "seed": 0,
        }
    )
    budget = {"n_images": 10, "n_patients": 7, "n_positives": 2, "metric": "auc"}
    done = design.iloc[:2].assign(**budget)
    cells = done.drop(columns=["trial", "fold", "draw", "seed"]).assign(
        estimate=[0.1 + 0.2, 0.7],
        low=[0.2, None],
        high=[0.4, None],
        n_trials=1,
        n_planned=1,
        difference=[None, 0.4],
        difference_low=[None, 0.3],
        difference_high=[None, 0.5],
        n_pairs=[None, 1],
    )
    return TrialTable(
        info=info,
        trials=done.assign(score=[0.3, 0.7], seconds=1.5),
        cells=cells,
        missing=design.iloc[2:].assign(status="failed", reason='killed, "signal 9"'),
        curves=pd.DataFrame(
            {
                "stage": ["pretrain/1"],
                "cells": ["c1 c2"],
                "series": ["loss"],
                "step": [1],
                "value": 2.5,
            }
        ),
    )


def test_a_saved_table_comes_back_with_every_digit_and_empty_field(tmp_path: Path) -> None:
    table().save(tmp_path)
    loaded = TrialTable.load(tmp_path)
    assert loaded.info == table().info
    assert list(loaded.cells["method"]) == ["none", "mae"]
    for name in TrialTable.FRAMES:
        left, right = getattr(loaded, name), getattr(table(), name).reset_index(drop=True)
        assert_frame_equal(left, right, check_dtype=False, check_exact=True)


def test_saving_twice_gives_the_same_bytes_and_leaves_nothing_else(tmp_path: Path) -> None:
    table().save(tmp_path)
    first = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    TrialTable.load(tmp_path).save(tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == first
    assert set(first) == {"study.json", *(f"{name}.csv" for name in TrialTable.FRAMES)}


def test_a_table_without_missing_trials_or_curves_comes_back(tmp_path: Path) -> None:
    whole = table()
    info = replace(whole.info, n_planned=2)
    replace(whole, info=info, missing=whole.missing.iloc[:0], curves=whole.curves.iloc[:0]).save(
        tmp_path
    )
    loaded = TrialTable.load(tmp_path)
    assert len(loaded.missing) == len(loaded.curves) == 0


def test_rows_changed_after_saving_are_refused(tmp_path: Path) -> None:
    table().save(tmp_path)
    path = tmp_path / "trials.csv"
    path.write_text(path.read_text().replace("0.7", "0.9"))
    with pytest.raises(TableError, match=r"trials\.csv is not the file"):
        TrialTable.load(tmp_path)


@pytest.mark.parametrize("name", ["study.json", "cells.csv"])
def test_a_missing_file_is_named_with_the_next_step(tmp_path: Path, name: str) -> None:
    table().save(tmp_path)
    (tmp_path / name).unlink()
    with pytest.raises(TableError, match=rf"{name} is missing.*collect"):
        TrialTable.load(tmp_path)


@pytest.mark.parametrize("content", ["{", "[]", '{"format": 99}'])
def test_a_damaged_or_foreign_description_is_refused(tmp_path: Path, content: str) -> None:
    table().save(tmp_path)
    (tmp_path / "study.json").write_text(content)
    with pytest.raises(TableError, match=r"study\.json"):
        TrialTable.load(tmp_path)


def test_an_unknown_field_of_the_description_is_refused(tmp_path: Path) -> None:
    table().save(tmp_path)
    study = json.loads((tmp_path / "study.json").read_text())
    study["info"]["mood"] = "good"
    (tmp_path / "study.json").write_text(json.dumps(study))
    with pytest.raises(TableError, match="mood"):
        TrialTable.load(tmp_path)


def test_every_missing_column_is_named_with_its_frame() -> None:
    whole = table()
    with pytest.raises(TableError, match=r"cells: columns \['low', 'mask_ratio'\] are missing"):
        replace(whole, cells=whole.cells.drop(columns=["low", "mask_ratio"]))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"n_finished": 3}, "expected 3 finished of 3 planned"),
        ({"control": "nothing"}, "control 'nothing' is no level"),
        ({"main_metric": "dice"}, "main metric 'dice'"),
        ({"origin": {"commit": "1"}}, "origin lacks 'cohort_digest'"),
        ({"factors": ()}, "factor 'method' is missing"),
    ],
)
def test_a_description_that_contradicts_the_rows_is_refused(
    change: dict[str, object], message: str
) -> None:
    whole = table()
    with pytest.raises(TableError, match=message):
        replace(whole, info=replace(whole.info, **change))


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("mask_ratio", 0.6, "mask_ratio .* is no level"),
        ("label_fraction", 1.5, "at most 1"),
        ("metric", "dice", "metric 'dice' is not described"),
    ],
)
def test_rows_outside_the_description_are_refused(column: str, value: object, message: str) -> None:
    whole = table()
    with pytest.raises(TableError, match=message):
        replace(whole, trials=whole.trials.assign(**{column: value}))


@pytest.mark.parametrize("key", ["cohort_digest", "numbers_version"])
def test_rows_of_two_cohorts_or_versions_are_refused(key: str) -> None:
    whole = table()
    own = str(whole.info.origin[key])
    replace(whole, trials=whole.trials.assign(**{key: [own, own]}))
    with pytest.raises(TableError, match=f"trials: {key}"):
        replace(whole, trials=whole.trials.assign(**{key: [own, "other"]}))


def test_a_cell_in_two_rows_is_refused() -> None:
    whole = table()
    with pytest.raises(TableError, match="in two rows"):
        replace(whole, cells=pd.concat([whole.cells, whole.cells]))


def test_levels_of_two_kinds_are_refused() -> None:
    whole = table()
    mixed = (*whole.info.factors[:2], factor("mask_ratio", "linear", 0.5, 0.75, "random"))
    with pytest.raises(TableError, match="all text or all numbers"):
        replace(whole, info=replace(whole.info, factors=mixed))
