"""Paired differences to the control: a forest with equivalence, and the tests in numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd
from matplotlib.figure import Figure

from ablations.table import StudyInfo, TrialTable
from reports import arms, captions
from reports.arms import Column, Row
from reports.cells import (
    ALL,
    LOST,
    is_empty,
    label,
    main_metric,
    others,
    planned_cells,
    units,
    varying,
)
from reports.exhibit import Exhibit, FigureExhibit, Grid, TableExhibit
from reports.forest import Forest, Note, draw_forest
from reports.numbers import DASH, GAIN, RATIO, SCORE, interval, number, p_value, tested
from reports.series import method_look


@dataclass(frozen=True, kw_only=True)
class PValue:
    """A p-value that is printed: its column, its head, and the test with its source."""

    column: str
    head: str
    test: str
    in_figure: bool = False


# The one place that decides which p-values a reader sees: those of tests whose false-positive rate
# was simulated between 2 and 6 % (docs/statistics.md). The corrected t over folds (Nadeau & Bengio)
# is in the frame, and not here: it rejects from 0 to 8 %.
TEST = "paired bootstrap, two-sided, training patients counted"
PRINTED_P = (
    PValue(column="p", head="p", test=TEST),
    PValue(column="p_holm", head="p Holm", test=f"{TEST}, adjusted (Holm 1979)", in_figure=True),
)


class _Compared(Exhibit):
    """What figure and table share: the frame, and what a study must have for it."""

    def needs(self, table: TrialTable) -> str | None:
        """At least one comparison of the main metric."""
        metric, found = main_metric(table.info), table.comparisons
        if not found.empty and (found["metric"] == metric.name).any():
            return None
        return f"no arm was compared with a control in {metric.label}"

    def frame(self, table: TrialTable) -> pd.DataFrame:
        """Return one row per arm and budget; ``note`` numbers the reasons of refusals."""
        info, cells = table.info, planned_cells(table)
        keep = ["cell", "label_fraction", *arms.arm_keys(info), "status", "n_images"]
        compared = ~cells["is_control"] & ~cells["is_reference"]
        found = table.comparisons[table.comparisons["metric"] == info.main_metric]
        factors = [factor.name for factor in info.factors]
        rows = cells.loc[compared, keep].merge(found.drop(columns=factors), on="cell", how="left")
        rows = rows.rename(columns={"difference": "estimate"})
        rows.loc[rows["estimate"].isna(), "status"] = LOST
        rows["family"] = found["p_holm"].notna().sum()
        reasons = list(dict.fromkeys(rows["refused"].dropna()))
        rows["note"] = rows["refused"].map({why: i + 1 for i, why in enumerate(reasons)})
        rows["look"] = [method_look(info, method) for method in rows["method"]]
        rows["group"] = arms.arm_names(rows, info)
        rows["row"] = [label(info, "label_fraction", x) for x in rows["label_fraction"]]
        rows = rows.assign(panel=ALL, series=rows["group"], role="line")
        return arms.together(rows, "group")


class Comparisons(_Compared, FigureExhibit):
    """Every arm at every budget against the control."""

    @property
    def name(self) -> str:
        """Stem of the files."""
        return "comparisons"

    def draw(self, frame: pd.DataFrame, info: StudyInfo, width: str) -> Figure:
        """Draw the forest: p and the chance of equivalence stand beside each row."""
        notes = [
            *(_p_note(p) for p in PRINTED_P if p.in_figure),
            Note(head="P(same)", text=lambda row: p_value(row["same"])),
        ]
        x_label = f"Δ {main_metric(info).label} to control\n({captions.better(info, '0')})"
        forest = Forest(x_label=x_label, notes=notes, named=False, rope=info.rope)
        return draw_forest(frame, info, width, forest)

    def caption(self, frame: pd.DataFrame, info: StudyInfo) -> str:
        """Say what region, brackets and columns are."""
        shown = [p for p in PRINTED_P if p.in_figure]
        return captions.joined(
            f"{main_metric(info).label} minus that of the control ({captions.control(info)}) on "
            f"the same test {units(info)} with the same labels; rows are label budgets.",
            captions.bars(info),
            captions.training(info),
            f"Grey: differences within ±{info.rope:g}, which count as none.",
            _tests(frame, info, shown),
            "Brackets: the difference that would be found with 80 % power at a two-sided level of "
            "5 %; one inside them can exist unseen, so an interval over 0 does not show equality.",
            "A dash: refused, for the reason in comparisons_table."
            if frame["note"].notna().any()
            else "",
            captions.gaps(frame),
            captions.footing(info),
        )


class ComparisonsTable(_Compared, TableExhibit):
    """The same comparisons with every test in numbers."""

    @property
    def name(self) -> str:
        """Stem of the files."""
        return "comparisons_table"

    def grid(self, frame: pd.DataFrame, info: StudyInfo) -> Grid:
        """Return one row per arm and budget; reasons of refusals stand below."""
        names = ["method", *varying(frame, others(info)), "label_fraction"]
        columns = [
            Column(head=(f"Δ {main_metric(info).label}",), field=_difference),
            *(_p_column(p) for p in PRINTED_P),
            Column(head=("P(worse / same / better)",), field=_chances),
            Column(head=("detectable",), field=lambda row: (number(row["detectable"], SCORE),)),
            Column(head=("pairs",), field=_pairs),
        ]
        reasons = frame[["note", "refused"]].dropna().drop_duplicates()
        notes = [f"({note:.0f}) Refused: {why}." for note, why in reasons.itertuples(index=False)]
        return arms.grid(frame, info, columns, names=names, notes=tuple(notes))

    def caption(self, frame: pd.DataFrame, info: StudyInfo) -> str:
        """Say what was tested how, and in which family."""
        return captions.joined(
            f"Paired differences in {main_metric(info).label} to the control "
            f"({captions.control(info)}; {captions.better(info, '0')}) with 95 % intervals "
            f"({captions.resampled(info)}).",
            captions.training(info),
            _tests(frame, info, PRINTED_P),
            "Detectable: the difference that would be found with 80 % power at a two-sided level "
            "of 5 %; a smaller one can exist unseen, so no difference shown is not equality shown.",
            "Pairs: trials of both arms on the same fold, draw and seed, of those planned.",
            captions.footing(info),
        )


def _p_note(p: PValue) -> Note:
    return Note(head=p.head, text=lambda row: p_value(row[p.column]))


def _p_column(p: PValue) -> Column:
    return Column(head=(p.head,), field=lambda row: (_or_refused(row, p_value(row[p.column])),))


def _or_refused(row: Row, text: str) -> str:
    is_refused = text == DASH and not is_empty(row["note"])
    return f"refused ({row['note']:.0f})" if is_refused else text


def _difference(row: Row) -> tuple[str, ...]:
    if row["status"] == LOST:
        return ("missing",)
    return (f"{number(row['estimate'], GAIN)} {interval(row['low'], row['high'], GAIN)}",)


def _chances(row: Row) -> tuple[str, ...]:
    if is_empty(row["same"]):
        return (_or_refused(row, DASH),)
    return (" / ".join(number(row[name], RATIO) for name in ("worse", "same", "better")),)


def _pairs(row: Row) -> tuple[str, ...]:
    return (DASH if is_empty(row["n_pairs"]) else tested(row["n_pairs"], row["n_planned"]),)


def _tests(frame: pd.DataFrame, info: StudyInfo, shown: Sequence[PValue]) -> str:
    """Say which tests are printed, where they come from, and how many comparisons they make."""
    listed = "; ".join(f"{p.head}: {p.test}" for p in shown)
    return (
        f"{listed}. The family has {frame['family'].iloc[0]:.0f} comparisons. P(worse, same, "
        f"better): correlated Bayesian t over folds (Benavoli et al. 2017), the same being within "
        f"±{info.rope:g}; a description, not a test."
    )
