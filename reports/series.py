"""Rows of a curve: cells become series with a look and a place on the axis."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from ablations.table import FactorInfo, StudyInfo
from reports.cells import counted, label, labelled, others, panels, varying


def series_rows(
    cells: pd.DataFrame,
    info: StudyInfo,
    x: str,
    by: str,
    places: Mapping[object, float] | None = None,
) -> pd.DataFrame:
    """Return one row per cell with ``series, look, x, x_label, at, at_trials``.

    ``x`` is the position of the level on the axis (its index where the factor is a category) and
    ``at`` the position drawn, a little beside it so that intervals of several series stay apart;
    ``at_trials`` is the place of single trials, beside the interval. ``places`` gives levels other
    positions than their own values.
    """
    rows = cells.copy()
    rows["series"], rows["look"] = _names(rows, info, by)
    factor = info.factor(x)
    rows["x"] = positions(rows[x].replace(dict(places)) if places else rows[x], factor)
    rows["x_label"] = [value_name(info, x, value) for value in rows[x]]
    order = {name: i for i, name in enumerate(dict.fromkeys(rows["series"]))}
    rank = rows["series"].map(order).astype(float) - (len(order) - 1) / 2
    rank = rank * (x != by)  # a series that is one level needs no room for others
    rows["at"] = _beside(rows["x"], rank, scale_of(factor), len(order))
    rows["at_trials"] = _beside(rows["x"], rank + 0.45, scale_of(factor), len(order))
    return rows


def budget_rows(cells: pd.DataFrame, info: StudyInfo) -> pd.DataFrame:
    """Return rows against the label fraction, one series per method, one panel per other levels.

    ``x_images`` and ``x_patients`` are the mean sizes of a budget, to be printed below it.
    """
    budgets = cells.groupby("label_fraction")[["n_images", "n_patients"]].mean().round()
    places = _beside_counts(budgets["n_patients"]) if counted(info) else None
    parts = [
        series_rows(inside, info, "label_fraction", "method", places).assign(
            role="line", panel=title
        )
        for title, inside in panels(cells, info, varying(cells, others(info)))
    ]
    rows = pd.concat(parts, ignore_index=True)
    rows["x_images"] = rows["label_fraction"].map(budgets["n_images"])
    rows["x_patients"] = rows["label_fraction"].map(budgets["n_patients"])
    return rows


def _beside_counts(n_patients: pd.Series) -> dict[object, float]:
    """Return where all labels stand on an axis of numbers of patients; none has no share."""
    if 1.0 not in n_patients.index:
        return {}
    known = n_patients.loc[1.0]
    return {1.0: 2 * float(n_patients.index.max()) if pd.isna(known) else float(known)}


def method_look(info: StudyInfo, method: object) -> str:
    """Return the look of a method: the same in every figure of a study."""
    if method == info.control:
        return "control"
    if method in info.references:
        return f"reference:{info.references.index(str(method))}"
    beside = {info.control, *info.references}
    values = [value for value in info.factor("method").values if value not in beside]
    return f"method:{values.index(str(method))}"


def level_look(info: StudyInfo, factor: str, value: object, is_control: bool) -> str:
    """Return the look of a level: one scale of colours, the control in open squares."""
    values = info.factor(factor).values
    kind = "level-control" if is_control else "level"
    return f"{kind}:{values.index(value)}/{len(values)}"


def method_name(info: StudyInfo, method: object) -> str:
    """Return the printed name of a method; the control says that it is one."""
    name = label(info, "method", method)
    return name if method != info.control or "control" in name else f"{name} (control)"


def value_name(info: StudyInfo, factor: str, value: object) -> str:
    """Return the printed name of a value of any factor."""
    return method_name(info, value) if factor == "method" else label(info, factor, value)


def scale_of(factor: FactorInfo) -> str:
    """Return the axis of a factor: log only where every level is above zero."""
    positive = all(not isinstance(value, str) and value > 0 for value in factor.values)
    return "linear" if factor.scale == "log" and not positive else factor.scale


def positions(values: pd.Series, factor: FactorInfo) -> pd.Series:
    """Return where the values stand on the axis."""
    if factor.scale != "category":
        return values.astype(float)
    return values.map({value: i for i, value in enumerate(factor.values)}).astype(float)


def _names(rows: pd.DataFrame, info: StudyInfo, by: str) -> tuple[list[str], list[str]]:
    if by == "method":
        methods = list(rows["method"])
        return [method_name(info, m) for m in methods], [method_look(info, m) for m in methods]
    pairs = list(zip(rows[by], rows["is_control"], strict=True))
    names = [level_name(info, by, x) + (", control" if control else "") for x, control in pairs]
    return names, [level_look(info, by, x, control) for x, control in pairs]


def level_name(info: StudyInfo, factor: str, value: object) -> str:
    """Return a level as a legend says it."""
    return labelled(info, value) if factor == "label_fraction" else label(info, factor, value)


def _beside(x: pd.Series, rank: pd.Series, scale: str, n_series: int) -> pd.Series:
    if scale == "category":
        return x + rank * min(0.12, 0.7 / n_series)
    places = np.log10(x) if scale == "log" else x
    levels = np.unique(places.dropna())
    span = levels[-1] - levels[0] if len(levels) > 1 else 1.0
    gap = np.diff(levels).min() if len(levels) > 1 else 1.0
    moved = places + rank * min(0.014 * span, 0.6 * gap / n_series)
    return 10**moved if scale == "log" else moved


def mark_best(rows: pd.DataFrame, groups: list[str], higher_is_better: bool) -> pd.Series:
    """Say of each row whether it is the best of its group; nobody is where there is one score.

    References are not in the contest: they see no image.
    """
    score = rows["estimate"] if higher_is_better else -rows["estimate"]
    score = score.mask(rows["is_reference"])
    keys = [rows[name] for name in groups]
    best = score.groupby(keys).transform("max")
    contest = score.groupby(keys).transform("count") > 1
    return (score == best) & contest
