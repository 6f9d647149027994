"""Panels of one arm each, with the control and the references that belong beside it."""

from __future__ import annotations

import pandas as pd
from matplotlib.lines import Line2D

from ablations.table import StudyInfo
from reports import arms, style
from reports.cells import others, panels, varying
from reports.legend import handle
from reports.series import method_look, method_name


def beside_control(rows: pd.DataFrame, info: StudyInfo) -> pd.DataFrame:
    """Return ``rows``, one per arm as ``planned_cells`` gives them, in panels of one arm each.

    Adds ``panel, series, look``. A control, or a reference, stands in the panel of every arm whose
    levels it shares or has no say in; without arms the others share a panel.
    """
    rows = rows.assign(
        arm=arms.arm_names(rows, info),
        series=[method_name(info, method) for method in rows["method"]],
        look=[method_look(info, method) for method in rows["method"]],
    )
    parts: dict[str, pd.DataFrame] = {}
    for title, inside in panels(rows, info, varying(rows, others(info))):
        aside = inside["is_control"] | inside["is_reference"]
        for cell, arm in inside.loc[~aside, ["cell", "arm"]].itertuples(index=False):
            # an arm that a further factor says nothing of stands in many panels: the first will do
            parts.setdefault(arm, inside[aside | (inside["cell"] == cell)].assign(panel=arm))
        if aside.all():
            parts[title] = inside.assign(panel=title)
    return pd.concat(parts.values(), ignore_index=True)


def series_handles(frame: pd.DataFrame) -> list[Line2D]:
    """Return a handle per series; arms of several methods are named by the titles of panels."""
    shown = frame.drop_duplicates("series")
    is_arm = ~shown["is_control"].astype(bool) & ~shown["is_reference"].astype(bool)
    shown = shown[~is_arm] if is_arm.sum() > 1 else shown
    looks = zip(shown["series"], map(style.look, shown["look"]), strict=True)
    return [handle(name, look.colour, "", line=look.line) for name, look in looks]
