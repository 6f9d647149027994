"""How the suggestions of a search are told apart: complete, collapsed, pruned, failed."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from ablations.table import TrialTable
from reports import style
from reports.legend import handle

COMPLETE, COLLAPSED, PRUNED = "complete", "collapsed", "pruned"
LOOKS = {  # marker, colour, inside
    COMPLETE: ("o", style.COLOURS[0], style.COLOURS[0]),
    COLLAPSED: ("X", style.COLOURS[3], style.COLOURS[3]),
    PRUNED: ("v", style.GREY, "white"),
}
SIZE = 4.0


def scored(table: TrialTable) -> pd.DataFrame:
    """Return the suggestions that came to a score, with how each ``ended`` as it is drawn."""
    rows = table.suggestions.dropna(subset=["score"]).reset_index(drop=True)
    complete = np.where(rows["is_feasible"].astype(bool), COMPLETE, COLLAPSED)
    rows["ended"] = np.where(rows["state"] == COMPLETE, complete, PRUNED)
    return rows


def draw_points(axes: Axes, x: pd.Series, rows: pd.DataFrame) -> list[Line2D]:
    """Draw the scores of ``rows`` at ``x``, each as it ended; return the handles of a legend."""
    found = []
    for ended, (marker, colour, face) in LOOKS.items():
        here = rows["ended"] == ended
        if here.any():
            points = axes.plot(x[here], rows.loc[here, "score"], marker, color=colour, mfc=face)
            points[0].set(markersize=SIZE, zorder=3, linestyle="none")
            found.append(handle(ended, colour, marker, face=face, size=SIZE))
    return found


def counted(rows: pd.DataFrame) -> str:
    """Return ``14 complete, 1 collapsed, 5 pruned``."""
    counts = rows["ended"].value_counts()
    return ", ".join(f"{counts[ended]} {ended}" for ended in LOOKS if ended in counts)
