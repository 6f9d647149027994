"""Arms: what is compared, at its largest label budget; their names and their printed rows."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from ablations.table import StudyInfo, TrialTable, budget_order
from reports.cells import is_empty, label, of_labels, others, planned_cells, varying
from reports.exhibit import Entry, Grid
from reports.numbers import interval, number, printed
from reports.series import value_name

Row = Mapping[Hashable, Any]


@dataclass(frozen=True, kw_only=True)
class Column:
    """One column of numbers: the lines of its head, and those of a row's field."""

    head: tuple[str, ...]
    field: Callable[[Row], tuple[str, ...]]


def arm_keys(info: StudyInfo) -> list[str]:
    """Return the factors that make an arm: all but the label fraction."""
    return ["method", *others(info)]


def largest_budgets(table: TrialTable) -> pd.DataFrame:
    """Return one planned cell per arm, that of its largest label budget, as ``planned_cells``."""
    cells = planned_cells(table)
    orders = cells["label_fraction"].map(budget_order)
    most = orders.groupby([cells[key] for key in arm_keys(table.info)], dropna=False)
    return cells[orders == most.transform("max")].reset_index(drop=True)


def with_scores(rows: pd.DataFrame, table: TrialTable, metrics: Iterable[str]) -> pd.DataFrame:
    """Add ``<metric>, <metric>_low, <metric>_high`` of each row's cell, empty if unknown."""
    for metric in metrics:
        own = table.cells.loc[table.cells["metric"] == metric, ["cell", "estimate", "low", "high"]]
        own = own.set_axis(["cell", metric, f"{metric}_low", f"{metric}_high"], axis=1)
        rows = rows.merge(own, on="cell", how="left")
    return rows


def with_encoders(rows: pd.DataFrame, table: TrialTable, measures: Sequence[str]) -> pd.DataFrame:
    """Add measures of each arm's embedding, which is the same at every label budget."""
    keys = arm_keys(table.info)
    if table.encoders.empty:
        return rows.assign(**dict.fromkeys(measures, float("nan")))
    own = table.encoders[[*keys, *measures]].drop_duplicates(keys)
    return rows.merge(own, on=keys, how="left")


def arm_names(rows: pd.DataFrame, info: StudyInfo) -> list[str]:
    """Return each row's arm in words: the method, and its levels where arms differ in them."""
    apart = varying(rows, others(info))
    names = []
    for row in rows.to_dict("records"):
        levels = [
            f"{info.factor(f).label}: {label(info, f, row[f])}"
            for f in apart
            if not is_empty(row[f])
        ]
        names.append(", ".join([value_name(info, "method", row["method"]), *levels]))
    return names


def together(rows: pd.DataFrame, column: str) -> pd.DataFrame:
    """Return the rows with equal values of a column beside each other, the first seen first."""
    order = {name: i for i, name in enumerate(dict.fromkeys(rows[column]))}
    return rows.iloc[rows[column].map(order).argsort(kind="stable")].reset_index(drop=True)


def budget_words(rows: pd.DataFrame, info: StudyInfo) -> str:
    """Return ``at 100 % of the labels``, or what holds where arms differ in their largest."""
    fractions = sorted(set(rows["label_fraction"]))
    if len(fractions) > 1:
        return "at the largest label budget"
    return f"at {of_labels(info, fractions[0])}"


def score_column(name: str, form: str, *head: str) -> Column:
    """Return the column of a number ``name`` with its interval ``name_low, name_high`` below."""

    def field(row: Row) -> tuple[str, ...]:
        return lines(row, name, form)

    return Column(head=head, field=field)


def lines(row: Row, name: str, form: str) -> tuple[str, ...]:
    """Return a number and below it its interval; bounds where ``*_beyond`` says so."""
    ends = [row.get(f"{name}{end}_beyond", 0) for end in ("", "_low", "_high")]
    main = number(row[name], form, ends[0])
    return main, interval(row[f"{name}_low"], row[f"{name}_high"], form, *ends[1:])


def grid(
    rows: pd.DataFrame,
    info: StudyInfo,
    columns: Sequence[Column],
    *,
    names: Sequence[str] = (),
    notes: tuple[str, ...] = (),
) -> Grid:
    """Return the printed rows: method and levels (or the factors ``names``), then the columns."""
    factors = list(names) or ["method", *varying(rows, others(info))]
    heads = [Entry(lines=(info.factor(name).label,)) for name in factors]
    heads += [Entry(lines=column.head) for column in columns]
    body = []
    for row in rows.to_dict("records"):
        entries = [Entry(lines=(value_name(info, name, row[name]),)) for name in factors]
        entries += [_entry(column.field(row)) for column in columns]
        body.append(tuple(entries))
    return Grid(heads=tuple(heads), rows=tuple(body), n_labels=len(factors), notes=notes)


def _entry(fields: tuple[str, ...]) -> Entry:
    return Entry(lines=tuple(printed(line) for i, line in enumerate(fields) if line or not i))
