"""What is made of stored predictions: pooled folds, subgroups, reliability, embeddings."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from ablations.cells import cells_frame, variances_frame
from ablations.encoders import alert_words, encoders_frame
from ablations.largest import pooled_frame, reliability_frame
from ablations.plan import Plan
from ablations.predicted import Predicted, in_series
from ablations.results import Results
from ablations.subgroups import GroupScores, subgroups_frame
from ablations.vault import Vault
from melssl.evaluation.metrics import METRICS
from melssl.evaluation.pooling import pool_predictions
from melssl.evaluation.subgroups import part
from melssl.evaluation.uncertainty import bootstrap_scores
from melssl.judging import RESAMPLES

ARM = "method=simclr,label_fraction=1.0"
AUC = METRICS["roc_auc"]


@pytest.fixture(scope="module")
def predicted(pretended: tuple[Plan, Vault]) -> Predicted:
    return Predicted(pretended[1])


def without_fold(results: Results, fold: int) -> Results:
    rest = [trial for trial in results.finished if trial.place[0] != fold]
    return Results(plan=results.plan, finished=rest)


def test_a_series_tests_every_patient_once(results: Results, predicted: Predicted) -> None:
    series = in_series(results.by_cell[ARM])
    assert list(series) == [(0, 0, 0), (0, 0, 1)]
    patients = results.prepared.cohort.labelled["patient_id"].unique()
    for folds in series.values():
        tested = np.concatenate([predicted.of(trial).patients for trial in folds])
        assert sorted(tested) == sorted(patients)


def test_repeats_of_the_folds_are_series_of_their_own(results: Results) -> None:
    moved = [
        replace(t, planned=replace(t.planned, trial=replace(t.planned.trial, fold=t.place[0] + 3)))
        for t in results.by_cell[ARM]
    ]
    assert [repeat for repeat, _, _ in in_series(results.by_cell[ARM] + moved)] == [0, 0, 1, 1]


def test_pooled_scores_are_means_over_series(results: Results, predicted: Predicted) -> None:
    frame = pooled_frame(results, predicted).set_index(["cell", "metric"])
    row = frame.loc[(ARM, "roc_auc")]
    cells = cells_frame(results).set_index(["cell", "metric"])
    assert row["mean_of_folds"] == pytest.approx(cells.loc[(ARM, "roc_auc"), "estimate"])
    series = [[predicted.of(t) for t in s] for s in in_series(results.by_cell[ARM]).values()]
    for how in ("raw", "rank"):
        scores = [AUC(pool_predictions(folds, how)) for folds in series]  # type: ignore[arg-type]
        assert row[f"pooled_{how}"] == pytest.approx(np.mean(scores))
    assert row["delong"] == pytest.approx(row["pooled_raw"])
    assert row["delong_low"] < row["delong"] < row["delong_high"]
    assert row["n_folds"] == 3
    brier = frame.loc[(ARM, "brier")]
    assert np.isnan([brier["pooled_rank"], brier["delong"]]).all()
    assert set(frame.reset_index()["label_fraction"]) == {1.0}


def test_a_lost_fold_is_said_where_folds_are_pooled(results: Results, predicted: Predicted) -> None:
    pooled = pooled_frame(without_fold(results, 1), predicted)
    assert set(pooled["n_folds"]) == {2}
    nothing = pooled_frame(Results(plan=results.plan, finished=[]), predicted)
    assert set(nothing["n_folds"]) == {0}
    assert nothing["pooled_raw"].isna().all()


def test_reliability_has_bins_of_all_tested_images(results: Results, predicted: Predicted) -> None:
    frame = reliability_frame(results, predicted)
    own = frame[frame["cell"] == ARM]
    assert own["n_images"].sum() == len(results.prepared.cohort.labelled)
    assert own["confidence"].is_monotonic_increasing
    positives = (results.prepared.cohort.labelled["target"] == 1).sum()
    assert (own["frequency"] * own["n_images"]).sum() == pytest.approx(positives, rel=0.02)


def test_a_group_of_one_fold_has_the_auc_and_the_redraws_of_its_images(
    results: Results, predicted: Predicted
) -> None:
    trial = results.by_cell[ARM][0]
    scores = GroupScores(results.prepared, predicted)
    sex = results.prepared.cohort.frame.set_index("sample_id")["sex"]
    whole = predicted.of(trial)
    women = part(whole, (sex[whole.sample_id] == "female").to_numpy())
    found = scores.of([trial], ("sex", "female"))
    assert found.estimate == pytest.approx(AUC(women))
    redrawn = bootstrap_scores(women, AUC, RESAMPLES.weights(women.patients))
    np.testing.assert_allclose(found.replicates, redrawn[: len(found.replicates)], atol=1e-9)


def test_folds_weigh_by_their_pairs_in_a_group(results: Results, predicted: Predicted) -> None:
    trials = [trial for trial in results.by_cell[ARM] if trial.place[2] == 0]
    scores = GroupScores(results.prepared, predicted)
    sex = results.prepared.cohort.frame.set_index("sample_id")["sex"]
    right = pairs = 0.0
    for trial in trials:
        whole = predicted.of(trial)
        women = part(whole, (sex[whole.sample_id] == "female").to_numpy())
        n = (women.target == 1).sum() * (women.target == 0).sum()
        right, pairs = right + (AUC(women) * n if n else 0), pairs + n
    assert scores.of(trials, ("sex", "female")).estimate == pytest.approx(right / pairs)


def test_subgroups_count_the_tested_and_are_paired_with_the_control(
    results: Results, predicted: Predicted
) -> None:
    frame = subgroups_frame(results, predicted).set_index(["cell", "attribute", "group"])
    labelled = results.prepared.cohort.labelled
    row = frame.loc[(ARM, "sex", "female")]
    women = labelled[labelled["sex"] == "female"]
    assert row["n_images"] == len(women)
    assert row["n_patients"] == women["patient_id"].nunique()
    assert row["n_positives"] == (women["target"] == 1).sum()
    control = frame.loc[(ARM.replace("simclr", "no_pretext"), "sex", "female")]
    assert row["difference"] == pytest.approx(row["estimate"] - control["estimate"])
    assert np.isnan(control["difference"])
    assert (row["n_pairs"], row["metric"]) == (6, "roc_auc")


def test_groups_with_few_patients_of_a_class_have_no_interval(
    results: Results, predicted: Predicted
) -> None:
    frame = subgroups_frame(results, predicted)
    rows = frame[frame["cell"] == ARM].set_index(["attribute", "group"])
    table, seen = GroupScores(results.prepared, predicted).table, set()
    for (attribute, group), row in rows.iterrows():
        own = table[table[attribute] == group]
        patients = own.groupby("target")["patient_id"].nunique().reindex([0, 1], fill_value=0)
        enough = bool(patients.min() >= 10)
        assert row[["low", "high", "difference_low"]].notna().all() == enough, group
        seen.add(enough)
    assert seen == {True, False}


def test_encoders_have_a_row_per_arm_and_nothing_where_nothing_was_asked(
    results: Results, pretended: tuple[Plan, Vault]
) -> None:
    frame = encoders_frame(results, pretended[1])
    assert len(frame) == 2
    assert set(frame["effective_rank"]) == {9.0}
    assert frame[["camera_auc", "n_cameras"]].isna().all(axis=None)


def test_variances_say_what_draws_and_seeds_add(results: Results) -> None:
    frame = variances_frame(results).set_index(["cell", "metric"])
    row = frame.loc[("method=simclr,label_fraction=0.3", "roc_auc")]
    assert list(row[["n_folds", "n_draws", "n_seeds"]]) == [3, 3, 2]
    assert row[["patients_se", "draws_se", "seeds_se"]].gt(0).all()
    assert row[["draw", "seed", "rest"]].ge(0).all()
    whole = frame.loc[(ARM, "roc_auc")]
    assert np.isnan(whole["draws_se"])
    assert whole["n_draws"] == 1


def test_an_arm_has_the_alerts_of_its_trainings_in_words() -> None:
    sick = {"alerts": [{"kind": "rank_collapse"}, {"kind": "stall"}]}
    assert alert_words([sick, {"alerts": [{"kind": "stall"}]}, {"alerts": []}]) == (
        "rank collapse in 1 of 3; stall in 2 of 3"
    )
    assert alert_words([{"alerts": []}, {"seconds": 1.0}]) == "none"
    assert alert_words([{"seconds": 1.0}]) is None
    assert alert_words([]) is None
