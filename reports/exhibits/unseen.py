"""Scores on another cohort, from which nothing was learned, beside those on the study's own."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from ablations.table import StudyInfo, TrialTable
from reports import captions
from reports.arms import Column, Row, grid, score_column
from reports.cells import ALL, LOST, main_metric, others, planned_cells, units, varying
from reports.drawing import Axis, draw_curves
from reports.exhibit import FigureExhibit, Grid, TableExhibit
from reports.exhibits.label_curve import x_label
from reports.numbers import GAIN, SCORE, interval, number
from reports.series import budget_rows

SCORES = ("estimate", "low", "high")
GAINS = ("difference", "difference_low", "difference_high")
COHORT = ("unit", "turns", "n_images", "n_patients", "n_positives", "n_left_out")


def scored(table: TrialTable) -> pd.DataFrame:
    """Return the planned cells of images once per unseen cohort, with its scores and its sizes.

    ``own, own_low, own_high`` are the cell's scores on the study's own cohort, ``unseen_*`` the
    sizes of the other one.
    """
    cells = planned_cells(table)
    cells = cells[~cells["is_reference"]].drop(columns=[*GAINS, "n_pairs", "n_trials", "n_planned"])
    cells = cells.rename(columns={"estimate": "own", "low": "own_low", "high": "own_high"})
    cells["own_status"] = cells["status"]
    found = table.unseen[table.unseen["metric"] == table.info.main_metric]
    found = found.rename(columns={name: f"unseen_{name}" for name in COHORT})
    found = found.drop(columns=["metric", *(factor.name for factor in table.info.factors)])
    parts = []
    for name, own in found.groupby("unseen", sort=False):
        rows = cells.merge(own.drop(columns="unseen"), on="cell", how="left").assign(unseen=name)
        rows.loc[rows["estimate"].isna(), "status"] = LOST
        sizes = [f"unseen_{column}" for column in COHORT]
        rows[sizes] = own[sizes].iloc[0].to_list()
        parts.append(rows)
    return pd.concat(parts, ignore_index=True)


class UnseenCurve(FigureExhibit):
    """Score at every label budget: the study's own cohort, and every unseen one beside it."""

    @property
    def name(self) -> str:
        """Stem of the files."""
        return "unseen"

    def needs(self, table: TrialTable) -> str | None:
        """An unseen cohort with labels, and two label budgets."""
        if refusal := _refusal(table):
            return refusal
        n = scored(table)["label_fraction"].nunique()
        return None if n > 1 else "shown in unseen_table: the study has one label budget"

    def frame(self, table: TrialTable) -> pd.DataFrame:
        """Return one panel per cohort (and other levels), the study's own first."""
        info, cells = table.info, scored(table)
        first = cells[cells["unseen"] == cells["unseen"].iloc[0]]
        own = first.assign(estimate=first["own"], low=first["own_low"], high=first["own_high"])
        own["status"] = own["own_status"]
        parts = [_panels(own, info, f"{info.cohort.get('name', 'own cohort')}, cross-validated")]
        parts += [
            _panels(rows, info, f"{name}, unseen")
            for name, rows in cells.groupby("unseen", sort=False)
        ]
        return pd.concat(parts, ignore_index=True)

    def draw(self, frame: pd.DataFrame, info: StudyInfo, width: str) -> Figure:
        """Draw the curves on one scale."""
        y_label = f"{main_metric(info).label}\n({captions.better_is(info)})"
        axis = Axis(scale="log", x_label=x_label(info), y_label=y_label)
        return draw_curves(frame, info, width, axis)

    def caption(self, frame: pd.DataFrame, info: StudyInfo) -> str:
        """Say what stands beside what."""
        return captions.joined(
            f"{main_metric(info).label} against the share of the training {units(info)} whose "
            "labels were used, on the study's own cohort (folds that a model did not learn from) "
            "and on another one.",
            *_cohorts(frame),
            _bars(info),
            captions.chance(info),
            captions.gaps(frame),
            captions.footing(info),
        )


class UnseenTable(TableExhibit):
    """The same in numbers, with the paired difference to the control and the folds together."""

    @property
    def name(self) -> str:
        """Stem of the files."""
        return "unseen_table"

    def needs(self, table: TrialTable) -> str | None:
        """An unseen cohort with labels."""
        return _refusal(table)

    def frame(self, table: TrialTable) -> pd.DataFrame:
        """Return one row per unseen cohort and cell."""
        return scored(table)

    def grid(self, frame: pd.DataFrame, info: StudyInfo) -> Grid:
        """Return method, other levels and label budget, then own and unseen scores."""
        columns = [
            _named("unseen", "cohort") if len(set(frame["unseen"])) > 1 else None,
            score_column("own", SCORE, "own cohort"),
            Column(head=("unseen",), field=lambda row: _ends(row, SCORES, SCORE)),
            Column(head=("Δ to control",), field=lambda row: _ends(row, GAINS, GAIN)),
            score_column("ensemble", SCORE, "unseen,", "folds together"),
        ]
        names = ["method", *varying(frame, others(info)), "label_fraction"]
        return grid(frame, info, [c for c in columns if c is not None], names=names)

    def caption(self, frame: pd.DataFrame, info: StudyInfo) -> str:
        """Say what the columns are."""
        control = f" Δ: paired difference to the control ({captions.control(info)}) with the same"
        return captions.joined(
            f"{main_metric(info).label} ({captions.better_is(info)}) on the study's own cohort and "
            "on another one, with 95 % intervals."
            + (f"{control} labels on the unseen cohort." if info.control else ""),
            *_cohorts(frame),
            _bars(info),
            "Folds together: the score of the folds' mean probability, at the largest budget.",
            captions.footing(info),
        )


def _refusal(table: TrialTable) -> str | None:
    if (table.unseen["metric"] == table.info.main_metric).any():
        return None
    return "needs scores of another, labelled cohort: study/unseen.py"


def _panels(cells: pd.DataFrame, info: StudyInfo, cohort: str) -> pd.DataFrame:
    rows = budget_rows(cells, info)
    rows["panel"] = [cohort if title == ALL else f"{cohort}, {title}" for title in rows["panel"]]
    return rows


def _cohorts(frame: pd.DataFrame) -> list[str]:
    """Return a sentence on every unseen cohort."""
    told = []
    for row in frame[frame["unseen"].notna()].drop_duplicates("unseen").to_dict("records"):
        n = {name: int(row[f"unseen_{name}"]) for name in COHORT[2:]}
        linked = (
            f"; {n['n_left_out']} further images were left out, because the audit found their "
            f"{row['unseen_unit']}s in the study's own cohort"
            if n["n_left_out"]
            else "; the audit found none of them in the study's own cohort"
        )
        views = {"none": "as they are", "flips": "in four flips", "all": "in eight views"}
        told.append(
            f"{row['unseen']}: {n['n_images']} images of {n['n_patients']} {row['unseen_unit']}s, "
            f"{n['n_positives']} positive, shown {views[str(row['unseen_turns'])]}{linked}. "
            "Nothing was learned from them, and every model of a fold scores all of them."
        )
    return told


def _bars(info: StudyInfo) -> str:
    several = (("draws of labels", len(info.draws)), ("seeds", len(info.seeds)))
    redrawn = [f"the {n} {many}" for many, n in several if n > 1]
    return (
        f"Intervals are 95 %: bootstrap over {' and '.join(['those who are tested', *redrawn])}; "
        f"differences allow besides for other training {units(info)}, by the jackknife over folds."
    )


def _named(column: str, head: str) -> Column:
    return Column(head=(head,), field=lambda row: (str(row[column]),))


def _ends(row: Row, names: tuple[str, str, str], form: str) -> tuple[str, ...]:
    middle, low, high = (row[name] for name in names)
    return number(middle, form), interval(low, high, form)
