"""Rows of a curve: cells become series with a look and a place on the axis."""

from __future__ import annotations

import numpy as np
import pandas as pd

from ablations.table import FactorInfo, StudyInfo
from reports.cells import label

BUDGET = ("n_images", "n_patients", "n_positives")


def series_rows(cells: pd.DataFrame, info: StudyInfo, x: str, by: str) -> pd.DataFrame:
    """Return one row per cell with ``series, look, x, x_label, at, at_trials``.

    ``x`` is the position of the level on the axis (its index where the factor is a category) and
    ``at`` the position drawn, a little beside it so that intervals of several series stay apart;
    ``at_trials`` is the place of single trials, beside the interval.
    """
    rows = cells.copy()
    rows["series"], rows["look"] = _names(rows, info, by)
    factor = info.factor(x)
    rows["x"] = positions(rows[x], factor)
    rows["x_label"] = [
        method_name(info, value) if x == "method" else label(info, x, value) for value in rows[x]
    ]
    order = {name: i for i, name in enumerate(dict.fromkeys(rows["series"]))}
    rank = rows["series"].map(order).astype(float) - (len(order) - 1) / 2
    rank = rank * (x != by)  # a series that is one level needs no room for others
    rows["at"] = _beside(rows["x"], rank, scale_of(factor), len(order))
    rows["at_trials"] = _beside(rows["x"], rank + 0.45, scale_of(factor), len(order))
    return rows


def method_look(info: StudyInfo, method: object) -> str:
    """Return the look of a method: the same in every figure of a study."""
    if method == info.control:
        return "control"
    values = [value for value in info.factor("method").values if value != info.control]
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
    text = label(info, factor, value)
    return f"{text} labels" if factor == "label_fraction" else text


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
    """Say of each row whether it is the best of its group; nobody is where there is one score."""
    score = rows["estimate"] if higher_is_better else -rows["estimate"]
    keys = [rows[name] for name in groups]
    best = score.groupby(keys).transform("max")
    contest = score.groupby(keys).transform("count") > 1
    return (score == best) & contest
