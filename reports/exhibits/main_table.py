"""The main table: methods by label budgets, score and gain over the control with intervals."""

from __future__ import annotations

import pandas as pd

from ablations.table import StudyInfo, TrialTable
from reports import captions
from reports.cells import (
    LOST,
    PARTIAL,
    counted,
    labelled,
    main_metric,
    others,
    planned_cells,
    samples,
    units,
    varying,
)
from reports.exhibit import Entry, Grid, TableExhibit
from reports.numbers import GAIN, SCORE, interval, printed
from reports.series import mark_best, value_name


class MainTable(TableExhibit):
    """Every cell of the main metric; the frame has one row per cell."""

    @property
    def name(self) -> str:
        """Stem of the files."""
        return "main_table"

    def needs(self, table: TrialTable) -> str | None:
        """At least one planned cell."""
        return None if len(planned_cells(table)) else "no cell was planned"

    def frame(self, table: TrialTable) -> pd.DataFrame:
        """Return the planned cells; ``best`` marks the best score of a label budget."""
        cells = planned_cells(table)
        higher = main_metric(table.info).higher_is_better
        cells["best"] = mark_best(cells, ["label_fraction"], higher)
        return cells

    def grid(self, frame: pd.DataFrame, info: StudyInfo) -> Grid:
        """Return one row per method and other levels, one column per label budget."""
        factors = ["method", *varying(frame, others(info))]
        fractions = [
            x for x in info.factor("label_fraction").values if (frame["label_fraction"] == x).any()
        ]
        heads = [Entry(lines=(info.factor(name).label,)) for name in factors]
        heads += [
            Entry(lines=_head(frame[frame["label_fraction"] == x], info, x)) for x in fractions
        ]
        rows = []
        for values, group in frame.groupby(factors, sort=False, dropna=False):
            names = [value_name(info, factor, x) for factor, x in zip(factors, values, strict=True)]
            fields = [_entry(group[group["label_fraction"] == x]) for x in fractions]
            rows.append((*(Entry(lines=(name,)) for name in names), *fields))
        return Grid(heads=tuple(heads), rows=tuple(rows), n_labels=len(factors))

    def caption(self, frame: pd.DataFrame, info: StudyInfo) -> str:
        """Say what the lines of a field are."""
        metric = main_metric(info)
        better = "higher" if metric.higher_is_better else "lower"
        against = f"; after Δ, the paired difference to the control ({captions.control(info)})"
        return captions.joined(
            f"{metric.label} ({better} is better) by {'number' if counted(info) else 'share'} of "
            f"labelled training {units(info)}, "
            f"with 95 % intervals ({captions.resampled(info)}){against if info.control else ''}.",
            captions.training(info) if info.control else "",
            "Bold: best of a column." if frame["best"].any() else "",
            captions.references(frame, info, " (never bold)"),
            captions.audit(info),
            captions.footing(info),
        )


def _head(column: pd.DataFrame, info: StudyInfo, fraction: object) -> tuple[str, ...]:
    words = labelled(info, fraction)
    means = column[["n_images", "n_patients"]].mean()
    if means.isna().any() or (counted(info) and samples(info) == units(info)):
        return (words,)
    return (words, f"{means['n_images']:.0f} {samples(info)}")


def _entry(rows: pd.DataFrame) -> Entry:
    if rows.empty:
        return Entry(lines=("–",))
    row = rows.iloc[0]
    trials = f"{row['n_trials']} of {row['n_planned']} trials"
    if row["status"] == LOST:
        return Entry(lines=("missing", trials))
    lines = [f"{row['estimate']:.3f}", interval(row["low"], row["high"], SCORE)]
    if pd.notna(row["difference"]):
        gain = interval(row["difference_low"], row["difference_high"], GAIN)
        lines += [f"Δ {row['difference']:+.3f}", gain]
    lines += [trials] if row["status"] == PARTIAL else []
    return Entry(lines=tuple(printed(line) for line in lines if line), bold=bool(row["best"]))
