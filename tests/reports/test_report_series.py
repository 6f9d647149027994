"""Cells, panels and looks: what stands where, and what can be told apart."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import pandas as pd
import pytest
from matplotlib.colors import to_rgb

from ablations.table import TrialTable
from reports import style
from reports.cells import panels, planned_cells
from reports.drawing import short
from reports.exhibits.factor_curve import FactorCurve
from reports.exhibits.label_curve import GainCurve, LabelCurve
from reports.exhibits.main_table import MainTable
from reports.series import series_rows

MakeTable = Callable[..., TrialTable]


def test_planned_cells_hold_what_was_found_and_what_was_not(make_table: MakeTable) -> None:
    table = make_table(lost_cells=(3,), lost_trials=(0,))
    cells = planned_cells(table).set_index("cell")
    assert len(cells) == 10
    assert cells.loc["c000", ["status", "n_trials", "n_planned"]].tolist() == ["partial", 5, 6]
    assert cells.loc["c003", ["status", "n_trials", "n_planned"]].tolist() == ["missing", 0, 6]
    assert (cells.drop(["c000", "c003"])["status"] == "full").all()


def test_the_control_stands_in_every_panel_of_a_factor_it_does_not_have(
    make_table: MakeTable,
) -> None:
    table = make_table(methods=("no_pretext", "mae"), factors={"mask_ratio": 3})
    shown = list(panels(planned_cells(table), table.info, ["mask_ratio"]))
    titles = [title for title, _ in shown]
    assert titles == ["mask ratio: 25 %", "mask ratio: 50 %", "mask ratio: 75 %"]
    assert all(set(cells["method"]) == {"no_pretext", "mae"} for _, cells in shown)


def test_cells_of_factors_that_exclude_each_other_get_panels_of_their_own(
    make_table: MakeTable,
) -> None:
    table = make_table(factors={"mask_ratio": 2, "pretrain_epochs": 2}, fractions=(0.1,))
    cells = planned_cells(table).iloc[[0, 1, 4]].reset_index(drop=True)
    cells["mask_ratio"], cells["pretrain_epochs"] = [None, 0.25, None], [None, None, 10.0]
    shown = panels(cells, table.info, ["mask_ratio", "pretrain_epochs"])
    assert {title: len(inside) for title, inside in shown} == {
        "mask ratio: 25 %": 2,
        "pretraining epochs: 10": 2,
    }


def test_dots_of_trials_are_the_scores_of_the_table(make_table: MakeTable) -> None:
    table = make_table()
    frame = LabelCurve().frame(table)
    dots = frame[frame["role"] == "trial"].set_index("trial")["estimate"].sort_index()
    own = table.trials[table.trials["metric"] == "auc"].set_index("trial")["score"].sort_index()
    pd.testing.assert_series_equal(dots, own, check_names=False)


def test_the_gain_curve_shows_the_stored_differences_without_the_control(
    make_table: MakeTable,
) -> None:
    table = make_table(lost_cells=(0,))
    frame = GainCurve().frame(table).set_index("cell")
    cells = table.cells[table.cells["metric"] == "auc"].set_index("cell")
    assert set(frame["method"]) == {"simclr"}
    # Its control has no result, so it has none to compare with.
    assert frame.loc["c005", "status"] == "missing"
    assert frame.loc["c007", "estimate"] == cells.loc["c007", "difference"]


@pytest.mark.parametrize(("higher", "expected"), [(True, "max"), (False, "min")])
def test_the_best_level_follows_the_direction_of_the_metric(
    make_table: MakeTable, higher: bool, expected: str
) -> None:
    table = make_table(
        methods=("no_pretext", "mae"),
        factors={"mask_ratio": 4},
        fractions=(0.1, 1.0),
        higher_is_better=higher,
    )
    frame = FactorCurve("mask_ratio").frame(table)
    lines = frame[frame["role"] == "line"]
    best = lines[lines["best"]].set_index("series")["estimate"].sort_index()
    wanted = lines.groupby("series")["estimate"].agg(expected).sort_index()
    pd.testing.assert_series_equal(best, wanted)


def test_a_single_level_is_never_called_the_best(make_table: MakeTable) -> None:
    table = make_table(methods=("mae",), control=None, fractions=(0.1, 1.0))
    assert not MainTable().frame(table)["best"].any()


def test_a_factor_of_the_control_too_gives_it_a_line_instead_of_a_band(
    make_table: MakeTable,
) -> None:
    masked = make_table(methods=("no_pretext", "mae"), factors={"mask_ratio": 2})
    assert set(FactorCurve("mask_ratio").frame(masked)["role"]) == {"line", "band"}
    scored = make_table(factors={"protocol": 2}, fractions=(0.1, 1.0))
    frame = FactorCurve("protocol").frame(scored)
    assert set(frame["role"]) == {"line"}
    assert "10 % labels, control" in set(frame["series"])


def test_series_stand_beside_each_other_around_their_level(make_table: MakeTable) -> None:
    table = make_table(methods=("no_pretext", "simclr", "mae"))
    rows = series_rows(planned_cells(table), table.info, "label_fraction", "method")
    for fraction, group in rows.groupby("x"):
        places = group.set_index("method")["at"]
        assert places["no_pretext"] < fraction < places["mae"]
        assert places["simclr"] == pytest.approx(fraction)


def test_a_method_keeps_its_look_when_others_are_absent(make_table: MakeTable) -> None:
    table = make_table(methods=("no_pretext", "simclr", "mae"))
    cells = planned_cells(table)
    alone = series_rows(cells[cells["method"] == "mae"], table.info, "label_fraction", "method")
    assert set(alone["look"]) == {"method:1"}


def test_methods_are_told_apart_without_colour() -> None:
    looks = [style.look(f"method:{i}") for i in range(20)]
    assert len({(look.marker, look.dashes) for look in looks}) == 20
    assert style.look("control").marker not in {look.marker for look in looks}


def test_levels_get_lighter_in_their_order() -> None:
    shades = [to_rgb(style.look(f"level:{i}/5").colour) for i in range(5)]
    grey = [0.3 * red + 0.59 * green + 0.11 * blue for red, green, blue in shades]
    assert all(later > sooner + 0.05 for sooner, later in pairwise(grey))


@pytest.mark.parametrize(
    ("number", "text"),
    [(83.4, "83"), (999, "999"), (1234, "1.2k"), (24_961, "25k"), (float("nan"), "–")],
)
def test_counts_under_an_axis_are_short(number: float, text: str) -> None:
    assert short(number) == text


def test_lesions_are_not_called_patients_where_they_stand_in_for_them(
    make_table: MakeTable,
) -> None:
    table = make_table()
    for exhibit in (LabelCurve(), GainCurve(), MainTable()):
        caption = exhibit.caption(exhibit.frame(table), table.info)
        assert "bootstrap over the test lesions" in caption
        assert "patient" not in caption
