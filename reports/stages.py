"""Stages of training by what sets them apart: the method, and the levels in which they differ."""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes

from ablations.table import TrialTable
from reports import style
from reports.cells import in_order, label, others, planned_cells, varying
from reports.series import method_look, method_name

FEW = 25


def settings_of(logged: pd.DataFrame, table: TrialTable) -> pd.DataFrame:
    """Return ``stage, panel, series, look``: the method and what sets its stages apart.

    ``logged`` names each ``stage`` and the ``cells`` that share it, joined by spaces.
    """
    info, names = table.info, ["method", *others(table.info)]
    stages = logged[["stage", "cells"]].drop_duplicates("stage")
    stages = stages.assign(cell=stages["cells"].str.split()).explode("cell")
    known = stages.merge(planned_cells(table)[["cell", *names]], on="cell").groupby("stage")
    # A factor that differs among the cells of one stage, such as the protocol, is not the stage's.
    is_own = known[names].nunique().eq(1)
    own = in_order(known[names].first().where(is_own), info, names)
    own["panel"] = [method_name(info, method) for method in own["method"]]
    own["series"] = own["panel"]
    for _, group in own.groupby("method", sort=False):
        apart = varying(group, others(info))
        titles = [
            ", ".join(f"{info.factor(n).label}: {label(info, n, row[n])}" for n in apart)
            for row in group.to_dict("records")
        ]
        if apart:
            own.loc[group.index, "series"] = titles
    titled = list(dict.fromkeys(own.loc[own["series"] != own["panel"], "series"]))
    own["look"] = [
        f"level:{titled.index(name)}/{len(titled)}" if name in titled else method_look(info, method)
        for name, method in zip(own["series"], own["method"], strict=True)
    ]
    return own.reset_index()[["stage", "panel", "series", "look"]]


def draw_stages(axes: Axes, lines: pd.DataFrame, x: str) -> None:
    """Draw ``value`` against ``x``: a thin line per stage, a thick one per mean (``role``).

    A mean of few points has marks, for a line through one point cannot be seen.
    """
    for (role, code, _), line in lines.groupby(["role", "look", "stage"], sort=False, dropna=False):
        look, strong = style.look(str(code)), role == "mean"
        axes.plot(
            *(line[x], line["value"]),
            color=look.colour,
            linestyle=look.line if strong else "-",
            marker=look.marker if strong and len(line) < FEW else "",
            markersize=2.5,
            linewidth=1.3 if strong else 0.5,
            alpha=1.0 if strong else 0.35,
            zorder=3 if strong else 2,
        )
