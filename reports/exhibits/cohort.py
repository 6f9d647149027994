"""The cohort: patients, images and prevalence of every fold and label budget."""

from __future__ import annotations

import pandas as pd

from ablations.table import StudyInfo, TrialTable
from reports import captions
from reports.cells import label, samples, units
from reports.exhibit import Entry, Grid, TableExhibit
from reports.numbers import COUNT, DASH, interval, number

SIZES = ["n_images", "n_patients", "n_positives"]
ALL, TEST, TRAIN = "all", "test", "train"


class CohortTable(TableExhibit):
    """One row per fold, one column per side and label budget, means over draws."""

    @property
    def name(self) -> str:
        """Stem of the files."""
        return "cohort"

    def needs(self, table: TrialTable) -> str | None:
        """A trial that says how large its budget was, or a table that knows its folds."""
        known = len(table.parts) or len(table.trials)
        return None if known else "no fold was counted and no trial has a result"

    def frame(self, table: TrialTable) -> pd.DataFrame:
        """Return one row per fold and part (all, test, train) or budget, with its prevalence.

        ``least`` and ``most`` are the positives of the draws with fewest and most.
        """
        parts = table.parts.assign(label_fraction=float("nan"), n_draws=1)
        rows = pd.concat([parts, _budgets(table)], ignore_index=True)
        rows = rows.astype(dict.fromkeys([*SIZES, "fold", "label_fraction", "n_draws"], float))
        rows["prevalence"] = rows["n_positives"] / rows["n_images"]
        return rows

    def grid(self, frame: pd.DataFrame, info: StudyInfo) -> Grid:
        """Return a row for the whole cohort and one per fold."""
        columns: list[tuple[str, object]] = [
            *((part, None) for part in (TEST, TRAIN) if (frame["part"] == part).any()),
            *(("budget", x) for x in sorted(set(frame["label_fraction"].dropna()))),
        ]
        drawn = bool((frame["n_draws"] > 1).any())
        heads = [Entry(lines=("fold",)), Entry(lines=("",))]
        names = Entry(lines=(samples(info), units(info), "positive", *(["draws"] if drawn else [])))
        rows = [
            (
                Entry(lines=(number(inside["fold"].iloc[0], COUNT),)),
                names,
                *(_entry(_chosen(inside, column), drawn=drawn) for column in columns),
            )
            for _, inside in frame[frame["part"] != ALL].groupby("fold")
        ]
        rows += [
            (Entry(lines=("all",)), names, Entry(lines=_lines(row, drawn=drawn)))
            + (Entry(lines=("",)),) * (len(columns) - 1)
            for row in _dicts(frame[frame["part"] == ALL])
        ]
        heads += [Entry(lines=_head(x, info)) for x in columns]
        return Grid(heads=tuple(heads), rows=tuple(rows), n_labels=2)

    def caption(self, frame: pd.DataFrame, info: StudyInfo) -> str:
        """Say what stands in a field."""
        drawn = (frame["n_draws"] > 1).any()
        return captions.joined(
            f"{samples(info).capitalize()}, {units(info)} and positive {samples(info)}, with their "
            "share, of every fold and label budget; the last row counts the whole cohort.",
            "Budgets are means over draws; draws: the positives of the draw with fewest and of that"
            " with most."
            if drawn
            else "",
            captions.audit(info),
            captions.footing(info),
        )


def _budgets(table: TrialTable) -> pd.DataFrame:
    """Return the mean size of every budget of a fold over its draws, which all arms share."""
    keys = ["label_fraction", "fold"]
    drawn = table.trials.drop_duplicates([*keys, "draw"])
    rows = drawn.groupby(keys)[SIZES].mean()
    rows["n_draws"] = drawn.groupby(keys).size()
    rows[["least", "most"]] = drawn.groupby(keys)["n_positives"].agg(["min", "max"])
    return rows.reset_index().assign(part="budget")


def _chosen(rows: pd.DataFrame, column: tuple[str, object]) -> pd.DataFrame:
    part, fraction = column
    own = rows[rows["part"] == part]
    return own if fraction is None else own[own["label_fraction"] == fraction]


def _head(column: tuple[str, object], info: StudyInfo) -> tuple[str, ...]:
    part, fraction = column
    return (part,) if fraction is None else (label(info, "label_fraction", fraction), "of labels")


def _entry(rows: pd.DataFrame, *, drawn: bool) -> Entry:
    found = [_lines(row, drawn=drawn) for row in _dicts(rows)]
    return Entry(lines=found[0] if found else (DASH,))


def _dicts(rows: pd.DataFrame) -> list[dict[str, float]]:
    return [{str(k): v for k, v in row.items()} for row in rows.to_dict("records")]


def _lines(row: dict[str, float], *, drawn: bool) -> tuple[str, ...]:
    share = number(row["prevalence"], "{:.1%}")
    sizes = [number(row[name], COUNT) for name in SIZES]
    lines = (*sizes[:2], f"{sizes[2]} ({share})")
    if not drawn:
        return lines
    ends = "" if row["n_draws"] < 2 else interval(row["least"], row["most"], COUNT)
    return (*lines, ends)
