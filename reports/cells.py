"""Cells of one metric with those that have no result, and how they fall into panels."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product

import numpy as np
import pandas as pd

from ablations.table import MetricInfo, StudyInfo, TrialTable

FULL, PARTIAL, LOST = "full", "partial", "missing"
ALL = "all"


def main_metric(info: StudyInfo) -> MetricInfo:
    """Return the metric that exhibits show."""
    return info.metric(info.main_metric)


def units(info: StudyInfo) -> str:
    """Return what folds and intervals are drawn over: patients, or lesions where none are known."""
    return f"{info.cohort.get('patient_unit', 'patient')}s"


def samples(info: StudyInfo) -> str:
    """Return what has a label: images, volumes or clips."""
    return f"{info.cohort.get('sample_unit', 'image')}s"


def counted(info: StudyInfo) -> bool:
    """Say whether the study's label budgets are numbers of patients, and not shares of them."""
    return any(float(x) > 1 for x in info.factor("label_fraction").values)


def draws_masks(info: StudyInfo) -> bool:
    """Say whether a study's trials draw masks, and do not name classes."""
    return any(metric.name == "dice" for metric in info.metrics)


def others(info: StudyInfo) -> list[str]:
    """Return the factors beside method and label fraction, in the study's order."""
    return [f.name for f in info.factors if f.name not in ("method", "label_fraction")]


def is_empty(value: object) -> bool:
    """Say whether a field of a frame is empty."""
    return value is None or value != value


def label(info: StudyInfo, factor: str, value: object) -> str:
    """Return what is printed for a value: labels in per cent, an empty value as a dash.

    A number of patients that have labels is printed as one: ``6 patients``.
    """
    if is_empty(value):
        return "–"
    if factor == "label_fraction":
        size = float(str(value))
        return f"{size:g} {units(info)}" if size > 1 else f"{100 * size:g} %"
    return next(x.label for x in info.factor(factor).levels if x.value == value)


def labelled(info: StudyInfo, size: object) -> str:
    """Return a label budget in words: ``10 % labels``, ``6 labelled patients``."""
    number = float(str(size))
    text = label(info, "label_fraction", size)
    return f"{number:g} labelled {units(info)}" if number > 1 else f"{text} labels"


def of_labels(info: StudyInfo, size: object) -> str:
    """Return a label budget as a sentence has it: ``10 % of the labels``."""
    return labelled(info, size).replace(" % labels", " % of the labels")


def planned_cells(table: TrialTable) -> pd.DataFrame:
    """Return every planned cell for the main metric, ordered by the study's levels.

    Adds ``status``: full, partial (trials are missing) or missing (no result), ``is_control``, and
    ``is_reference`` for methods that see no image.
    """
    info = table.info
    factors = [factor.name for factor in info.factors]
    design = table.cells[["cell", *factors]]
    if len(table.missing):
        design = pd.concat([design, table.missing[["cell", *factors]]])
    scored = table.cells[table.cells["metric"] == info.main_metric].drop(columns=factors)
    cells = design.drop_duplicates("cell").merge(scored, on="cell", how="left")
    lost = cells["cell"].map(table.missing["cell"].value_counts()).fillna(0)
    cells["metric"] = info.main_metric
    cells["n_trials"] = cells["n_trials"].fillna(0).astype(int)
    cells["n_planned"] = cells["n_planned"].fillna(lost + cells["n_trials"]).astype(int)
    partial = np.where(cells["n_trials"] < cells["n_planned"], PARTIAL, FULL)
    cells["status"] = np.where(cells["estimate"].isna(), LOST, partial)
    cells["is_control"] = (cells["method"] == info.control).astype(bool)
    cells["is_reference"] = cells["method"].isin(info.references)
    return in_order(cells, info, factors).reset_index(drop=True)


def in_order(frame: pd.DataFrame, info: StudyInfo, factors: Sequence[str]) -> pd.DataFrame:
    """Return the rows in the order of the study's levels, empty values first."""
    order = {f.name: {value: i for i, value in enumerate(f.values)} for f in info.factors}
    ranks = pd.DataFrame({name: frame[name].map(order[name]) for name in factors})
    return frame.loc[ranks.sort_values(list(factors), na_position="first", kind="stable").index]


def varying(cells: pd.DataFrame, factors: Sequence[str]) -> list[str]:
    """Return the factors that have more than one filled value among the cells."""
    return [name for name in factors if len(set(cells[name].dropna())) > 1]


def panels(
    cells: pd.DataFrame, info: StudyInfo, factors: Sequence[str]
) -> Iterator[tuple[str, pd.DataFrame]]:
    """Yield title and cells of every panel.

    A cell belongs to a panel when each of its filled values is the panel's: the control, which has
    no mask ratio, stands in every panel of the mask ratio.
    """
    if not factors:
        yield ALL, cells
        return
    combinations = in_order(cells[list(factors)].drop_duplicates(), info, factors)
    for _, values in _most_specific(combinations).iterrows():
        inside = [cells[name].isna() | (cells[name] == values[name]) for name in factors]
        chosen = cells[np.logical_and.reduce(inside)]
        named = [name for name in factors if not is_empty(values[name])]
        title = [f"{info.factor(name).label}: {label(info, name, values[name])}" for name in named]
        yield ", ".join(title), chosen


def _most_specific(combinations: pd.DataFrame) -> pd.DataFrame:
    """Keep the rows that no other row completes."""
    rows = [tuple(row) for row in combinations.itertuples(index=False)]
    covered = {a for a, b in product(range(len(rows)), repeat=2) if _completes(rows[b], rows[a])}
    return combinations[[i not in covered for i in range(len(rows))]]


def _completes(full: tuple[object, ...], sparse: tuple[object, ...]) -> bool:
    agrees = all(is_empty(b) or a == b for a, b in zip(full, sparse, strict=True))
    return agrees and sum(map(is_empty, full)) < sum(map(is_empty, sparse))
