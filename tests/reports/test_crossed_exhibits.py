"""Exhibits of a study's trials and costs: what is beside what, and what is left out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from ablations.table import TrialTable
from reports.exhibits.frontier import Frontier
from reports.exhibits.matrix import Matrix
from reports.exhibits.paired_folds import PairedFolds
from reports.exhibits.pretext_curves import PretextCurves
from reports.exhibits.ranking import MethodRanking

Make = Callable[..., TrialTable]


def test_a_pair_of_a_fold_is_the_mean_over_the_trials_that_both_have(make_table: Make) -> None:
    table = make_table(fractions=(0.1, 1.0), folds=3, draws=2, lost_trials=(0,))
    lost = table.missing.iloc[0]
    assert lost["method"] == "no_pretext"
    assert lost["draw"] == 0
    trials = table.trials[table.trials["metric"] == "auc"]
    here = trials[(trials["fold"] == lost["fold"]) & (trials["label_fraction"] == 0.1)]
    left = here[here["draw"] == 1].set_index("method")["score"]
    frame = PairedFolds().frame(table)
    pair = frame[(frame["fold"] == lost["fold"]) & (frame["label_fraction"] == 0.1)].iloc[0]
    assert pair["score"] == pytest.approx(left["simclr"])
    assert pair["control"] == pytest.approx(left["no_pretext"])
    assert len(frame) == 2 * 3


def test_a_fold_whose_control_is_lost_has_no_pair(make_table: Make) -> None:
    assert PairedFolds().needs(make_table(control=None, methods=("simclr", "mae"))) is not None
    table = make_table(fractions=(0.1, 1.0), folds=2, draws=1, lost_trials=(0,))
    assert len(PairedFolds().frame(table)) == 3
    assert PairedFolds().needs(make_table(folds=1)) == "needs two or more folds"


def test_a_matrix_has_every_pair_once_in_each_panel_and_marks_the_best(make_table: Make) -> None:
    table = make_table(
        methods=("no_pretext", "simclr", "mae", "metadata_all"),
        fractions=(0.1, 1.0),
        factors={"protocol": 2},
    )
    matrix = Matrix("method", "protocol")
    assert matrix in Matrix.each(table.info)
    assert matrix.needs(table) is None
    frame = matrix.frame(table)
    assert len(frame) == 2 * 3 * 2
    assert not frame.duplicated(["panel", "row", "column"]).any()
    best = frame.groupby("panel")["estimate"].max()
    assert dict(frame[frame["best"]].set_index("panel")["estimate"]) == dict(best)
    assert (frame.groupby("panel")["shade"].agg(["min", "max"]) == [0, 1]).all(axis=None)


def test_where_lower_is_better_the_lowest_is_dark(make_table: Make) -> None:
    table = make_table(factors={"protocol": 2}, higher_is_better=False)
    frame = Matrix("method", "protocol").frame(table)
    assert (frame.loc[frame["best"], "shade"] == 1).all()


def test_a_matrix_needs_levels_that_were_crossed(make_table: Make) -> None:
    table = make_table(methods=("no_pretext", "mae"), factors={"mask_ratio": 3})
    assert Matrix("method", "mask_ratio").needs(table) == (
        "needs two or more crossed levels of method"
    )


def test_the_frontier_has_a_point_per_trained_arm_over_its_own_cost(make_table: Make) -> None:
    table = make_table(
        methods=("no_pretext", "simclr", "mae"), fractions=(0.1, 1.0), factors={"protocol": 2}
    )
    frame = Frontier().frame(table)
    lines = frame[frame["role"] == "line"]
    assert len(lines) == 2 * 2 * 2
    assert set(frame.loc[frame["role"] == "band", "method"]) == {"no_pretext"}
    cost = table.costs.drop_duplicates("method").set_index("method")["training_seconds"]
    assert np.allclose(lines["x"], lines["method"].map(cost))
    # protocols judge the same encoders, so each has a panel of its own
    assert lines.groupby("panel")["protocol"].nunique().eq(1).all()
    assert Frontier().needs(make_table(fractions=(0.1, 1.0))) is not None


def test_every_logged_series_has_its_own_figure(make_table: Make) -> None:
    table = make_table(folds=2)
    names = [e.name for e in PretextCurves.each(table.info) if e.needs(table) is None]
    assert names == [
        *("pretext_curves", "pretext_accuracy", "pretext_spread"),
        *("pretext_effective_rank", "pretext_lr"),
    ]
    spread = PretextCurves("spread").frame(table)
    assert spread["value"].between(0.03, 0.1).all()


def test_a_ranking_is_drawn_without_bars_where_no_pair_could_be_tested(make_table: Make) -> None:
    table = make_table(methods=("no_pretext", "simclr", "mae"), folds=2)
    untested = replace(table, pairs=table.pairs.assign(p_holm=np.nan))
    frame = MethodRanking().frame(untested)
    assert set(frame["role"]) == {"arm"}
    assert MethodRanking().draw(frame, untested.info, "single").axes
