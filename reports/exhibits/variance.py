"""Where the uncertainty of a label curve comes from: test patients, draws of labels, seeds."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from ablations.table import StudyInfo, TrialTable
from reports import captions
from reports.cells import ALL, LOST, main_metric, others, planned_cells, units
from reports.drawing import Axis, draw_curves
from reports.exhibit import FigureExhibit
from reports.exhibits.label_curve import LabelCurve, x_label
from reports.series import budget_rows

PARTS = {"patients_se": "test {units}", "draws_se": "draws of labels", "seeds_se": "seeds"}


class Variance(FigureExhibit):
    """What each source contributes to the standard error, one panel per source."""

    @property
    def name(self) -> str:
        """Stem of the files."""
        return "variance"

    def needs(self, table: TrialTable) -> str | None:
        """Several budgets, and standard errors of the main metric."""
        found, metric = table.variances, main_metric(table.info)
        if found.empty or not found.loc[found["metric"] == metric.name, [*PARTS]].notna().any(
            axis=None
        ):
            return f"no standard error of {metric.label} was split by its sources"
        return LabelCurve().needs(table)

    def frame(self, table: TrialTable) -> pd.DataFrame:
        """Return one row per source and cell; a source that no cell could tell has no rows."""
        info = table.info
        cells = planned_cells(table).drop(columns=["estimate", "low", "high"])
        found = table.variances[table.variances["metric"] == info.main_metric]
        own = ["cell", *PARTS, "draw", "seed", "rest", "n_draws", "n_seeds"]
        own = [name for name in own if name not in others(info)]  # a factor may be the seed
        rows = budget_rows(cells.merge(found[own], on="cell", how="left"), info)
        known = [part for part in PARTS if rows[part].notna().any()]
        parts = [
            _part(inside, info, str(title), part)
            for title, inside in rows.groupby("panel", sort=False)
            for part in known
        ]
        return pd.concat(parts, ignore_index=True)

    def draw(self, frame: pd.DataFrame, info: StudyInfo, width: str) -> Figure:
        """Draw the contributions against the labelled share."""
        y_label = f"standard error of\n{main_metric(info).label}"
        n = frame["part"].nunique()
        axis = Axis(
            scale="log",
            x_label=x_label(info),
            y_label=y_label,
            reference="floor",
            columns=n if width == "double" else 1 if n == 3 else None,
        )
        return draw_curves(frame, info, width, axis)

    def caption(self, frame: pd.DataFrame, info: StudyInfo) -> str:
        """Say how the parts add up, and what could not be told apart."""
        known = set(frame["part"])
        absent = [
            name.format(units=units(info)) for column, name in PARTS.items() if column not in known
        ]
        return captions.joined(
            f"Standard error of a cell's mean {main_metric(info).label} by where it comes from: "
            "that source alone is redrawn as in the intervals, where their squares add up, nearly.",
            "No point where a source cannot be told from one draw (all labels) or one seed.",
            f"Not told anywhere: {', '.join(absent)}." if absent else "",
            captions.references(frame, info, " (grey dots)"),
            captions.gaps(frame),
            captions.footing(info),
        )


def _part(rows: pd.DataFrame, info: StudyInfo, title: str, part: str) -> pd.DataFrame:
    """Return the panel of one source, without the cells that cannot tell it."""
    name = PARTS[part].format(units=units(info))
    made = rows.assign(part=part, estimate=rows[part], low=float("nan"), high=float("nan"))
    made["panel"] = name if title == ALL else f"{name}; {title}"
    return made[made["estimate"].notna() | (made["status"] == LOST)]
