"""Labels saved: the curves are those of paired trials, and the ends of budgets are shown."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from ablations.cells import cells_frame
from ablations.results import Results
from ablations.savings import savings_frame
from melssl.statistics.labels_saved import BY_BUDGET, MEASURES

ARM = "method=simclr"
AUC = {("simclr", 0.3): 0.7, ("simclr", 0.6): 0.8, ("simclr", 1.0): 0.9} | {
    ("no_pretext", 0.3): 0.6,
    ("no_pretext", 0.6): 0.7,
    ("no_pretext", 1.0): 0.75,
}


def measures(frame: pd.DataFrame, metric: str = "roc_auc") -> pd.DataFrame:
    return frame[frame["metric"] == metric].set_index(["measure", "label_fraction"]).sort_index()


def told(results: Results) -> Results:
    """Return the trials with scores that one can reckon with."""
    finished = []
    for trial in results.finished:
        spec = trial.planned.trial.spec
        score = AUC[spec.method.name, spec.budget.fraction]
        finished.append(
            replace(trial, scores=trial.scores | {"roc_auc": score, "brier": 1 - score})
        )
    return Results(plan=results.plan, finished=finished)


def test_the_control_has_no_row_and_an_arm_has_every_measure(results: Results) -> None:
    frame = savings_frame(results)
    assert set(frame["arm"]) == {ARM}
    own = frame[frame["metric"] == "roc_auc"]
    assert list(dict.fromkeys(own["measure"])) == [*MEASURES, "variance_ratio"]
    by_budget = own["measure"].isin(BY_BUDGET)
    assert (own[by_budget].groupby("measure").size() == 3).all()
    assert own.loc[~by_budget, ["label_fraction", "n_labels"]].isna().all(axis=None)


def test_the_gain_at_a_budget_is_the_difference_of_its_cell(results: Results) -> None:
    cells = cells_frame(results).set_index(["cell", "metric"])
    rows = measures(savings_frame(results))
    for share in (0.3, 0.6, 1.0):
        cell, row = cells.loc[(f"{ARM},label_fraction={share}", "roc_auc")], rows.loc["gain", share]
        for name, column in (("estimate", "difference"), ("low", "difference_low")):
            assert row[name] == pytest.approx(cell[column], abs=1e-6)
        assert row["n_labels"] == pytest.approx(cell["n_images"])
        assert row["n_draws"] == (3 if share < 1 else 1)


def test_what_the_control_never_reaches_is_read_as_more_than_all_labels(results: Results) -> None:
    rows = measures(savings_frame(told(results)))
    needed = rows.loc["control_labels_to_match"]
    n = needed["n_labels"]
    assert needed.loc[0.3, "estimate"] == pytest.approx(n[0.6])
    assert needed.loc[0.3, "censored"] == 0
    assert list(needed.loc[[0.6, 1.0], "estimate"]) == pytest.approx([n[1.0]] * 2)
    assert list(needed.loc[[0.6, 1.0], "censored"]) == [1, 1]
    match = rows.loc["labels_to_match_control_best"].iloc[0]["estimate"]
    assert match == pytest.approx((n[0.3] + n[0.6]) / 2)
    saved = rows.loc["share_of_labels_saved"].iloc[0]["estimate"]
    assert saved == pytest.approx(1 - match / n[1.0])


def test_a_gain_is_positive_where_lower_is_better_too(results: Results) -> None:
    rows = measures(savings_frame(told(results)), "brier")
    assert list(rows.loc["gain"]["estimate"]) == pytest.approx([0.1, 0.1, 0.15])


def test_a_budget_without_pairs_is_left_out_of_both_curves(results: Results) -> None:
    rest = [t for t in results.finished if t.planned.trial.cell.name != f"{ARM},label_fraction=1.0"]
    rows = measures(savings_frame(told(Results(plan=results.plan, finished=rest))))
    assert list(rows.loc["gain"].index) == [0.3, 0.6]
    needed = rows.loc["control_labels_to_match"]
    assert needed.loc[0.6, "censored"] == 1
    assert needed.loc[0.6, "estimate"] == needed.loc[0.6, "n_labels"]


def test_an_arm_without_any_pair_saves_nothing_that_is_known(results: Results) -> None:
    rest = [t for t in results.finished if "no_pretext" in t.planned.trial.cell.name]
    assert savings_frame(Results(plan=results.plan, finished=rest)).empty


def test_the_variance_ratio_is_the_geometric_mean_over_budgets_with_draws(
    results: Results,
) -> None:
    # per draw: arm 0, 1, 2 at 0.3 and 0, 2, 4 at 0.6; control 0, 1, 2 at both: 1 and 4, mean 2
    finished = []
    for trial in results.finished:
        spec, draw = trial.planned.trial.spec, trial.place[1]
        steep = spec.method.name == "simclr" and spec.budget.fraction == 0.6
        finished.append(
            replace(trial, scores=trial.scores | {"roc_auc": draw * (0.02 if steep else 0.01)})
        )
    rows = measures(savings_frame(Results(plan=results.plan, finished=finished)))
    assert rows.loc["variance_ratio"].iloc[0]["estimate"] == pytest.approx(2)
    assert np.isnan(rows.loc["variance_ratio"].iloc[0]["low"])
