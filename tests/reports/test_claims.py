"""What may be claimed: tests and their refusals, labels saved and bounds, references, intervals."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from ablations.table import TrialTable
from reports import captions, style
from reports.arms import largest_budgets
from reports.build import summary
from reports.cells import planned_cells
from reports.exhibit import Exhibit, TableExhibit
from reports.exhibits import exhibits_of
from reports.exhibits.calibration import LINEAR, ROOT, Calibration, Reliability
from reports.exhibits.comparisons import PRINTED_P, Comparisons, ComparisonsTable
from reports.exhibits.confounders import Confounders
from reports.exhibits.encoders import Encoders
from reports.exhibits.label_curve import GainCurve, LabelCurve
from reports.exhibits.labels_needed import LabelsNeeded
from reports.exhibits.labels_saved import LabelsSaved
from reports.exhibits.main_table import MainTable
from reports.exhibits.pooled import Pooled
from reports.exhibits.subgroups import Subgroups, SubgroupsTable
from reports.exhibits.variance import Variance
from reports.numbers import interval, number, p_value

MakeTable = Callable[..., TrialTable]


@pytest.fixture(scope="module")
def table(make_table: MakeTable) -> TrialTable:
    """Return a study with two arms, two references, a lost cell and a lost trial."""
    methods = ("no_pretext", "simclr", "mae", "metadata_clinical", "metadata_all")
    return make_table(methods=methods, lost_cells=(7,), lost_trials=(33,))


def fields(exhibit: TableExhibit, table: TrialTable) -> dict[str, list[str]]:
    """Return the printed columns by their heads, the lines of a field joined."""
    grid = exhibit.grid(exhibit.frame(table), table.info)
    heads = [" ".join(head.lines) for head in grid.heads]
    columns = zip(*[[" ".join(entry.lines) for entry in row] for row in grid.rows], strict=True)
    return dict(zip(heads, map(list, columns), strict=True))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (number(6676.4, "{:.0f}", 1), "> 6676"),
        (number(-0.2, "{:.0%}", -1), "< -20 %"),
        (number(float("nan"), "{:.3f}", 1), "–"),
        (interval(10.0, 20.0, "{:.0f}", 0, 1), "[10, > 20]"),
        (interval(10.0, float("nan"), "{:.0f}"), ""),
        (p_value(0.0004), "< 0.001"),
        (p_value(0.0204), "0.020"),
    ],
)
def test_numbers_bounds_and_absences_are_printed_alike_everywhere(text: str, expected: str) -> None:
    assert text == expected


def test_an_interval_says_what_was_redrawn_and_what_could_not_be(table: TrialTable) -> None:
    assert captions.resampled(table.info) == (
        "bootstrap over the test lesions and the 2 draws of labels; there is only one seed: "
        "what others would change is not in it"
    )
    info = dataclasses.replace(table.info, seeds=(0, 1, 2))
    assert captions.resampled(info) == (
        "bootstrap over the test lesions, the 2 draws of labels and the 3 seeds"
    )
    info = dataclasses.replace(table.info, draws=(0,))
    assert "only one draw and one seed" in captions.resampled(info)


def test_references_keep_quiet_looks_and_never_take_a_methods_colour(table: TrialTable) -> None:
    frame = LabelCurve().frame(table)
    looks = frame.drop_duplicates("method").set_index("method")["look"].to_dict()
    assert looks["mae"] == "method:1"
    assert looks["metadata_clinical"] == "reference:0"
    quiet = style.look("reference:1")
    assert quiet.width < style.look("method:0").width
    assert set(quiet.colour) <= set("0.123456789")  # a shade of grey
    dots = frame[frame["role"] == "trial"]
    assert not set(dots["method"]) & set(table.info.references)


def test_a_reference_is_never_the_best_and_never_compared(table: TrialTable) -> None:
    frame = MainTable().frame(table)
    references = frame["is_reference"]
    assert frame.loc[references, "estimate"].max() > frame.loc[~references, "estimate"].median()
    assert not frame.loc[references, "best"].any()
    for exhibit in (GainCurve(), Comparisons(), LabelsNeeded(), LabelsSaved()):
        assert set(exhibit.frame(table)["method"]) == {"simclr", "mae"}


def test_the_printed_p_values_are_those_of_one_constant(table: TrialTable) -> None:
    heads = set(fields(ComparisonsTable(), table))
    assert {p.head for p in PRINTED_P} <= heads
    assert len([head for head in heads if head.startswith("p ") or head == "p"]) == len(PRINTED_P)
    caption = ComparisonsTable().caption(ComparisonsTable().frame(table), table.info)
    assert all(p.test in caption for p in PRINTED_P)
    assert "The family has 9 comparisons" in caption


def test_a_refused_test_says_why_in_the_table(table: TrialTable) -> None:
    exhibit = ComparisonsTable()
    grid = exhibit.grid(exhibit.frame(table), table.info)
    assert grid.notes == ("(1) Refused: 1 of 3 folds have no difference.",)
    columns = fields(exhibit, table)
    chances = columns["P(worse / same / better)"]
    refused = [i for i, x in enumerate(chances) if x == "refused (1)"]
    assert len(refused) == 1
    assert [columns["pairs"][i] for i in refused] == ["5 of 6"]


def test_a_comparison_without_a_result_is_shown_as_missing(table: TrialTable) -> None:
    columns = fields(ComparisonsTable(), table)
    assert len(columns["pairs"]) == 10
    assert columns["Δ ROC AUC"].count("missing") == 1


def test_a_forest_keeps_the_budgets_of_an_arm_together(make_table: MakeTable) -> None:
    table = make_table(methods=("no_pretext", "simclr", "mae"), factors={"protocol": 2})
    groups = list(Comparisons().frame(table)["group"])
    assert len([i for i, name in enumerate(groups) if name != groups[i - 1]]) == len(set(groups))
    assert "MAE, protocol: fine-tuning" in groups


def test_what_no_budget_reached_is_an_arrow_and_a_bound(table: TrialTable) -> None:
    frame = LabelsNeeded().frame(table)
    beyond = frame[frame["beyond"] > 0]
    assert len(beyond) > 0
    assert (beyond["arrow_up"] == beyond["n_labels"].max()).all()
    inside = frame[(frame["beyond"] == 0) & frame["estimate"].notna()]
    assert inside["arrow_down"].isna().all()
    most = planned_cells(table)["n_images"].max()
    assert f"> {most:.0f} images" in LabelsNeeded().caption(frame, table.info)


def test_the_axis_of_labels_needed_is_in_images(table: TrialTable) -> None:
    frame = LabelsNeeded().frame(table).dropna(subset=["n_labels"])
    np.testing.assert_allclose(frame["x"], frame["n_labels"], rtol=0.01)


def test_labels_saved_has_one_row_per_arm_and_prints_bounds(table: TrialTable) -> None:
    columns = fields(LabelsSaved(), table)
    assert columns["method"] == ["SimCLR", "MAE"]
    to_match, frame = columns["labels to match control's best"], LabelsSaved().frame(table)
    censored = frame["labels_to_match_control_best_beyond"] > 0
    assert [text.startswith("> ") for text in to_match] == censored.tolist()
    assert "> " in " ".join(columns["break-even labels"])


def test_the_utility_is_that_of_the_smallest_budget(table: TrialTable) -> None:
    frame = LabelsSaved().frame(table).set_index("method")
    rows = table.savings[table.savings["measure"] == "utility"]
    smallest = rows.loc[rows["label_fraction"] == 0.01].set_index("method")["estimate"]
    assert set(frame.index) == set(smallest.index)
    pd.testing.assert_series_equal(
        frame["utility"].sort_index(), smallest.sort_index(), check_names=False
    )


def test_the_summary_names_the_labels_saved_in_one_line_more(table: TrialTable) -> None:
    *cells, last = summary(table).splitlines()
    assert len(cells) == 2 + len(planned_cells(table))
    assert last.startswith("labels to match the control's best (share saved): SimCLR ")


def test_confounders_stand_beside_the_score_and_references_have_no_embedding(
    table: TrialTable,
) -> None:
    columns = fields(Confounders(), table)
    assert columns["method"][-2:] == ["clinical metadata", "clinical + acquisition metadata"]
    assert columns["camera probe ROC AUC"][-2:] == ["–", "–"]
    assert columns["camera probe ROC AUC"][0] == "0.830 recall 0.610, 4 cameras"


def test_confounders_do_without_cameras_where_there_is_a_reference(table: TrialTable) -> None:
    bare = dataclasses.replace(
        table,
        cells=table.cells[table.cells["metric"] != "within_camera_auc"],
        encoders=table.encoders.iloc[:0],
    )
    assert Confounders().needs(bare) is None
    assert set(fields(Confounders(), bare)["ROC AUC within a camera"]) == {"–"}


def test_references_alone_make_a_study(make_table: MakeTable) -> None:
    methods = ("metadata_clinical", "metadata_all")
    table = make_table(methods=methods, control=None, fractions=(0.1,))
    names = {e.name for e in exhibits_of(table.info) if e.needs(table) is None}
    assert {"factor_method", "main_table", "confounders", "subgroups"} <= names
    assert not {"comparisons", "labels_saved", "encoders"} & names
    for exhibit in (e for e in exhibits_of(table.info) if e.name in names):
        assert len(exhibit.frame(table)) > 0, exhibit.name


def test_a_group_without_an_interval_or_a_score_keeps_its_place(table: TrialTable) -> None:
    columns = fields(SubgroupsTable(), table)
    assert columns["group"][-1] == "2592x1936"
    assert columns["SimCLR"][-1] == "–"
    assert "[" not in columns["SimCLR"][columns["group"].index("male")]
    frame = Subgroups().frame(table)
    assert set(frame.loc[frame["row"] == "2592x1936", "status"]) == {"missing"}
    assert "over the test lesions alone" in Subgroups().caption(frame, table.info)


@pytest.mark.parametrize(("prevalence", "scale"), [(0.05, ROOT), (0.45, LINEAR)])
def test_rare_positives_stretch_the_axes_of_reliability(
    make_table: MakeTable, prevalence: float, scale: str
) -> None:
    frame = Reliability().frame(make_table(prevalence=prevalence))
    assert set(frame["scale"]) == {scale}


def test_operating_points_that_were_not_measured_are_dashes(table: TrialTable) -> None:
    columns = fields(Calibration(), table)
    assert set(columns["sensitivity budget's 90 %"]) == {"–"}
    assert "–" not in columns["sensitivity budget's 95 %"]


def test_a_source_that_nobody_can_tell_apart_has_no_panel(table: TrialTable) -> None:
    frame = Variance().frame(table)
    assert set(frame["panel"]) == {"test lesions", "draws of labels"}
    assert "Not told anywhere: seeds." in Variance().caption(frame, table.info)
    assert frame.loc[frame["part"] == "draws_se", "label_fraction"].max() < 1


def test_an_arm_that_lost_its_largest_budget_is_shown_empty(make_table: MakeTable) -> None:
    table = make_table(lost_cells=(9,))
    assert set(largest_budgets(table)["label_fraction"]) == {1.0}
    for exhibit in (Pooled(), Calibration(), Confounders()):
        rows = fields(exhibit, table)
        assert rows["method"] == ["no pretraining (control)", "SimCLR"]
    assert fields(Pooled(), table)["mean of folds"][1] == "–"
    frame = Reliability().frame(table)
    assert "No result: SimCLR." in Reliability().caption(frame, table.info)


def test_the_spread_of_an_embedding_stands_beside_its_healthy_value(table: TrialTable) -> None:
    columns = fields(Encoders(), table)
    assert (columns["spread"][0], columns["healthy"][0]) == ("0.0410", "0.0442")
    assert len(columns["method"]) == 3


@pytest.mark.parametrize("exhibit", [LabelsSaved(), GainCurve(), Comparisons()])
def test_a_transductive_study_says_so_in_every_caption(exhibit: Exhibit, table: TrialTable) -> None:
    infos = [dataclasses.replace(table.info, pool=pool) for pool in ("train", "train+test")]
    frame = exhibit.frame(table)
    said = ["Transductive" in exhibit.caption(frame, info) for info in infos]
    assert said == [False, True]
