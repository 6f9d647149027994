"""Gains as papers print them: a published table comes out to its digits; counts are budgets."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest

from ablations.table import TableError, TrialTable
from reports import style, tabular
from reports.arms import largest_budgets
from reports.cells import label, labelled, of_labels
from reports.exhibits.label_curve import LabelCurve
from reports.exhibits.main_table import MainTable
from reports.exhibits.relative_gain import RelativeGain
from reports.exhibits.structures import Structures

# BTCV, MONAI's tutorial: Dice of a UNETR after 6, 12 and 24 volumes, random and pretrained.
PUBLISHED = {6: (63.07, 70.09), 12: (76.06, 79.55), 24: (78.91, 82.30)}


@pytest.fixture(scope="module")
def table(make_table: Callable[..., TrialTable]) -> TrialTable:
    """Return a study of 6, 12, 24 and all volumes with the published scores."""
    made = make_table(fractions=(6, 12, 24, 1.0), draws=1, structures=("liver", "spleen"))
    relative, cells = made.relative, made.cells
    for budget, (control, arm) in PUBLISHED.items():
        own = relative["label_fraction"] == budget
        relative.loc[own, ["control_score", "arm_score"]] = (control / 100, arm / 100)
        relative.loc[own, "estimate"] = (arm - control) / control
        own = (cells["label_fraction"] == budget) & cells["difference"].notna()
        cells.loc[own, "difference"] = (arm - control) / 100
    return dataclasses.replace(made, relative=relative, cells=cells)


def test_the_published_table_comes_out_to_its_digits(table: TrialTable) -> None:
    exhibit = RelativeGain()
    frame = exhibit.frame(table)
    text = tabular.to_markdown(exhibit.grid(frame, table.info), exhibit.caption(frame, table.info))
    rows = [line.split("|") for line in text.splitlines()[2:6]]
    for row, (budget, scores, gain, share) in zip(
        rows,
        [
            (6, ("0.631", "0.701"), "+0.070", "11.1 %"),
            (12, ("0.761", "0.795"), "+0.035", "4.6 %"),
            (24, ("0.789", "0.823"), "+0.034", "4.3 %"),
        ],
        strict=False,
    ):
        fields = [field.strip().partition("<br>")[0] for field in row[1:-1]]
        assert fields[0] == f"{budget} volumes"
        assert tuple(fields[1:3]) == scores
        assert fields[3:5] == [gain, share]
    assert frame["label_fraction"].tolist() == [6, 12, 24, 1.0], "all labels come last"
    assert "means over" not in text
    assert "share of the control's score" in text


def test_all_labels_are_more_than_any_number_of_them(table: TrialTable) -> None:
    assert set(largest_budgets(table)["label_fraction"]) == {1.0}
    frame = LabelCurve().frame(table)
    lines = frame[frame["role"] == "line"].drop_duplicates("label_fraction")
    places = dict(zip(lines["label_fraction"], lines["x"], strict=True))
    assert [places[n] for n in (6, 12, 24)] == [6, 12, 24]
    assert places[1.0] > 24


def test_budgets_are_named_by_what_they_count(table: TrialTable) -> None:
    info = table.info
    assert label(info, "label_fraction", 6.0) == "6 volumes"
    assert labelled(info, 6) == "6 labelled volumes"
    assert (labelled(info, 0.1), of_labels(info, 0.1)) == ("10 % labels", "10 % of the labels")
    assert of_labels(info, 24) == "24 labelled volumes"
    heads = MainTable().grid(MainTable().frame(table), info).heads
    assert [head.lines[0] for head in heads[1:]] == [
        *(f"{n} labelled volumes" for n in PUBLISHED),
        "100 % labels",
    ]
    caption = LabelCurve().caption(LabelCurve().frame(table), info)
    assert "against the number of the training volumes whose labels were used." in caption


def test_below_a_number_of_volumes_stands_the_number_once(table: TrialTable) -> None:
    with style.ink():
        figure = LabelCurve().draw(LabelCurve().frame(table), table.info, "single")
    ticks = [text.get_text() for text in figure.axes[0].get_xticklabels()]
    assert ticks[:3] == ["6", "12", "24"]


def test_a_budget_that_is_neither_share_nor_count_is_refused(table: TrialTable) -> None:
    cells = table.cells.assign(label_fraction=table.cells["label_fraction"].replace(6, 6.5))
    with pytest.raises(TableError, match="whole number of patients"):
        dataclasses.replace(table, cells=cells)


def test_structures_print_what_was_missed(table: TrialTable) -> None:
    # the fixture has them at 24 volumes, which are not the most here
    few = dataclasses.replace(table, cells=table.cells[table.cells["label_fraction"] != 1.0])
    trials = few.trials[few.trials["label_fraction"] != 1.0]
    n = trials["trial"].nunique()
    info = dataclasses.replace(few.info, n_planned=n, n_finished=n)
    few = dataclasses.replace(few, trials=trials, info=info)
    frame = Structures().frame(few)
    assert frame["structure"].tolist()[:3] == ["background", "liver", "spleen"]
    text = tabular.to_text(Structures().grid(frame, few.info))
    assert "2 missed" in text
    assert "200 tested" in text
