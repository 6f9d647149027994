"""Collect: a whole table of a study with repeated folds and references, or of nothing at all."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from ablations.collect import collect
from ablations.design import Study
from ablations.plan import Plan, make_plan
from ablations.preparations import Preparations
from ablations.table import TrialTable
from ablations.vault import Vault
from melssl.spec import RunSpec

SPEC = {
    "cohort": {"source": "synthetic", "n_patients": 40, "image_px": 32},
    "image_px": 32,
    "folds": {"n_folds": 2},
}


@pytest.fixture(scope="module")
def table(pretend: Callable[[Study], tuple[Plan, Vault]]) -> TrialTable:
    """Return two arms and a reference x twice two folds."""
    study = Study(
        name="repeated",
        baseline=RunSpec.parse(SPEC),
        levels={"label_fraction": (1.0,)},
        references=("metadata_clinical",),
        n_repeats=2,
    )
    return collect(*pretend(study))


def test_repeated_folds_are_told_apart_and_pooled_repeat_by_repeat(table: TrialTable) -> None:
    assert table.info.folds == (0, 1, 2, 3)
    assert (table.info.repeats, table.info.test_train_ratio) == (2, 1.0)
    row = table.comparisons[table.comparisons["metric"] == "roc_auc"].iloc[0]
    assert (row["n_pairs"], row["n_folds"]) == (4, 4)
    assert 0 < row["p_corrected"] < 1
    assert set(table.pooled["n_folds"]) == {2}


def test_a_reference_is_scored_like_an_arm_and_compared_with_nobody(table: TrialTable) -> None:
    name = "method=metadata_clinical,label_fraction=1.0"
    assert table.info.references == ("metadata_clinical",)
    own = table.cells[table.cells["cell"] == name]
    assert own.loc[own["metric"] == "roc_auc", ["estimate", "low"]].notna().all(axis=None)
    assert own[["difference", "n_pairs"]].isna().all(axis=None)
    for frame in ("trials", "pooled", "reliability", "variances"):
        assert name in set(getattr(table, frame)["cell"]), frame
    for frame in ("comparisons", "encoders"):
        assert name not in set(getattr(table, frame)["cell"]), frame
    assert set(table.savings["method"]) == {"simclr"}


def test_a_table_comes_back_from_file_with_all_its_frames(
    table: TrialTable, tmp_path: Path
) -> None:
    table.save(tmp_path)
    loaded = TrialTable.load(tmp_path)
    for name in TrialTable.FRAMES:
        left, right = getattr(loaded, name), getattr(table, name)
        assert list(left.columns) == list(right.columns)
        assert len(left) == len(right), name
    np.testing.assert_allclose(loaded.savings["low"], table.savings["low"].astype(float))


def test_a_study_that_has_not_begun_is_a_table_of_what_is_missing(tmp_path: Path) -> None:
    study = Study(name="idle", baseline=RunSpec.parse(SPEC), levels={"label_fraction": (1.0,)})
    vault = Vault(tmp_path)
    table = collect(make_plan(study, Preparations(tmp_path, decode=False), vault), vault)
    assert (table.info.n_finished, len(table.missing)) == (0, 4)
    assert table.comparisons["refused"].str.contains("0 of the arm and 0 of the control").all()
    assert table.savings.empty
    assert set(table.pooled["n_folds"]) == {0}


def test_a_study_of_seeds_is_collected_though_trials_have_a_seed_of_their_own(
    pretend: Callable[[Study], tuple[Plan, Vault]], tmp_path: Path
) -> None:
    levels = {"seed": (0, 1), "label_fraction": (1.0,)}
    study = Study(name="seeds", baseline=RunSpec.parse(SPEC), levels=levels, control=None)
    collect(*pretend(study)).save(tmp_path)
    trials = TrialTable.load(tmp_path).trials
    assert list(trials.columns).count("seed") == 1
    assert set(trials["seed"]) == {0, 1}
