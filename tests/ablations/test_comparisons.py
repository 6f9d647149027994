"""Comparisons: tests over paired trials, in the metric's direction, and what has no pair."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from ablations.comparisons import comparisons_frame, fold_differences
from ablations.results import Results
from melssl.judging import INTERVAL_METRICS
from melssl.statistics.differences import corrected_t, holm

ARM = "method=simclr,label_fraction=0.3"
RATIO, ROPE = 0.5, 0.01


def test_every_arm_and_interval_metric_has_a_row(results: Results) -> None:
    frame = comparisons_frame(results, ROPE)
    known = [name for name in INTERVAL_METRICS if name in results.metrics]
    assert len(frame) == 3 * len(known)
    assert set(frame["metric"]) == set(known)
    assert not frame["method"].eq("no_pretext").any()


def test_a_row_holds_the_paired_difference_and_its_tests(results: Results) -> None:
    frame = comparisons_frame(results, ROPE).set_index(["cell", "metric"])
    row = frame.loc[(ARM, "roc_auc")]
    gain = results.gain(ARM, "roc_auc")
    assert row["difference"] == pytest.approx(gain.estimate)
    assert [row["low"], row["high"]] == pytest.approx([gain.interval.low, gain.interval.high])
    scores = {pair.own.place: pair.own.scores["roc_auc"] for pair in results.pairs[ARM]}
    others = {pair.own.place: pair.control.scores["roc_auc"] for pair in results.pairs[ARM]}
    by_fold = [
        np.mean([scores[place] - others[place] for place in scores if place[0] == fold])
        for fold in range(3)
    ]
    assert row["p_corrected"] == pytest.approx(corrected_t(np.array(by_fold), RATIO).p)
    assert (row["n_pairs"], row["n_planned"], row["n_folds"]) == (18, 18, 3)
    assert row["worse"] + row["same"] + row["better"] == pytest.approx(1)
    assert row["detectable"] == pytest.approx(2.8016 * row["se"], rel=1e-4)


def test_with_few_patients_of_a_class_no_p_is_given_and_the_reason_is(
    results: Results, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ablations.comparisons.FEWEST_PATIENTS", results.n_rarest + 1)
    frame = comparisons_frame(results, ROPE)
    assert frame[["p", "p_holm"]].isna().all(axis=None)
    assert frame["refused"].str.contains(f"the rarest class has {results.n_rarest} pat").all()
    assert frame.loc[frame["metric"] == "roc_auc", "difference"].notna().all()


def test_holm_runs_over_all_comparisons_of_a_metric(results: Results) -> None:
    frame = comparisons_frame(results, ROPE)
    own = frame[frame["metric"] == "brier"]
    np.testing.assert_allclose(own["p_holm"], holm(own["p"].to_numpy()))


def test_better_means_better_in_the_direction_of_the_metric(results: Results) -> None:
    finished = []
    for trial in results.finished:
        gain = 0.1 + trial.place[0] / 100 if "simclr" in trial.planned.trial.cell.name else 0.0
        scores = trial.scores | {"roc_auc": 0.5 + gain, "brier": 0.5 - gain}
        finished.append(replace(trial, scores=scores))
    made = Results(plan=results.plan, finished=finished)
    rows = comparisons_frame(made, ROPE).set_index(["cell", "metric"]).loc[ARM]
    assert rows.loc["brier", "difference"] == pytest.approx(-rows.loc["roc_auc", "difference"])
    assert rows.loc["brier", "better"] == pytest.approx(rows.loc["roc_auc", "better"])
    assert rows.loc["brier", "better"] > 0.9


def test_a_lost_fold_is_counted_and_the_rest_is_compared(results: Results) -> None:
    rest = [t for t in results.finished if not (t.place[0] == 2 and t.place[1] == 0)]
    frame = comparisons_frame(Results(plan=results.plan, finished=rest), ROPE)
    rows = frame[frame["metric"] == "roc_auc"].set_index("cell")
    assert list(rows.loc[ARM, ["n_pairs", "n_planned", "n_folds"]]) == [16, 18, 3]
    whole = rows.loc["method=simclr,label_fraction=1.0"]
    assert list(whole[["n_pairs", "n_planned", "n_folds"]]) == [4, 6, 2]
    assert "2 folds" in whole["refused"]
    assert np.isfinite(whole["p"])


def test_a_cell_without_any_pair_has_a_row_that_says_why(results: Results) -> None:
    rest = [t for t in results.finished if t.planned.trial.cell.name != ARM]
    frame = comparisons_frame(Results(plan=results.plan, finished=rest), ROPE)
    rows = frame[frame["cell"] == ARM]
    assert len(rows) == frame["metric"].nunique()
    assert rows["refused"].str.contains("no paired trial: 0 of the arm and 18").all()
    assert rows[["difference", "p", "p_holm", "better"]].isna().all(axis=None)
    others = frame[(frame["cell"] != ARM) & (frame["metric"] == "roc_auc")]
    np.testing.assert_allclose(others["p_holm"], holm(others["p"].to_numpy()))


def test_a_fold_counts_once_however_many_of_its_trials_are_paired(results: Results) -> None:
    pairs = results.pairs[ARM]
    fewer = [pair for pair in pairs if pair.own.place[0] != 1 or pair.own.place[1] == 0]
    whole, less = fold_differences(pairs, "roc_auc"), fold_differences(fewer, "roc_auc")
    assert len(less) == 3
    assert less[[0, 2]] == pytest.approx(whole[[0, 2]])
