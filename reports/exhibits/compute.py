"""Compute: stages, images and time of every arm and of the whole study, and energy if stated."""

from __future__ import annotations

import pandas as pd

from ablations.table import StudyInfo, TrialTable
from reports import arms, captions
from reports.arms import Column, Row
from reports.cells import is_empty, planned_cells
from reports.exhibit import Entry, Grid, TableExhibit
from reports.exhibits.frontier import COSTS
from reports.exhibits.score_curves import COLLECT
from reports.numbers import COUNT, SCORE, duration, number

KINDS = {"trunk": "trunks", "pretrain": "encoders", "embed": "embedded", "adapt": "trials"}
JOULES = 3.6e6  # in a kilowatt-hour
TOTAL = "whole study, each stage once"


class Compute(TableExhibit):
    """One row per arm and one for the study; energy is an estimate from a stated power."""

    @property
    def name(self) -> str:
        """Stem of the files."""
        return "compute"

    def needs(self, table: TrialTable) -> str | None:
        """Finished stages with their seconds."""
        return f"no stage was counted at collecting: {COLLECT}" if table.spent.empty else None

    def frame(self, table: TrialTable) -> pd.DataFrame:
        """Return stages and seconds by kind; ``watts`` and ``kwh`` where a power was stated."""
        info, cells = table.info, planned_cells(table)
        keys = ["cell", "label_fraction", *arms.arm_keys(info)]
        rows = cells[keys].merge(_by_kind(table.spent.dropna(subset=["cell"])), on="cell")
        costs = table.costs[["cell", *COSTS]] if len(table.costs) else _no_costs()
        rows = rows.merge(costs, on="cell", how="left")
        whole = _by_kind(table.spent[table.spent["cell"].isna()].assign(cell=""))
        rows = pd.concat([rows, whole.assign(cell=None)], ignore_index=True)
        rows["seconds"] = rows[[f"{kind}_seconds" for kind in KINDS]].sum(axis=1)
        rows["watts"] = table.watts
        rows["kwh"] = rows["seconds"] * rows["watts"].astype(float) / JOULES
        return rows

    def grid(self, frame: pd.DataFrame, info: StudyInfo) -> Grid:
        """Return the arms' rows, and last the study's."""
        shown = {kind: name for kind, name in KINDS.items() if frame[f"{kind}_stages"].gt(0).any()}
        columns = [_count(kind, name) for kind, name in shown.items()]
        columns += [
            Column(head=("training of", "one encoder"), field=_training),
            Column(head=("time of", "one worker"), field=_time),
        ]
        if frame["kwh"].notna().any():
            columns.append(Column(head=("energy", "(estimate)"), field=_energy))
        named, whole = frame[frame["method"].notna()], frame[frame["method"].isna()]
        made = arms.grid(named, info, columns)
        last = [tuple(column.field(row)) for row in whole.to_dict("records") for column in columns]
        blank = [Entry(lines=("",))] * (made.n_labels - 1)
        total = (Entry(lines=(TOTAL,)), *blank, *(Entry(lines=field) for field in last))
        return Grid(heads=made.heads, rows=(*made.rows, total), n_labels=made.n_labels)

    def caption(self, frame: pd.DataFrame, info: StudyInfo) -> str:
        """Say what the seconds are, and what is estimated."""
        stated = frame["watts"].dropna()
        return captions.joined(
            "Finished stages, and the time of one worker on the machine of this study "
            f"({info.origin.get('machine', 'unknown')}); other work on it is in the time. Training:"
            " seconds and images of one encoder, a mean over folds and seeds. Arms share stages, so"
            " their times add up to more than the last row.",
            f"Energy was not measured. The estimate is the time at {stated.iloc[0]:g} W, the power "
            "that was stated for one worker when this table was made."
            if len(stated)
            else "Energy was not measured, and no power was stated (--watts).",
            captions.footing(info),
        )


def _by_kind(spent: pd.DataFrame) -> pd.DataFrame:
    """Return one row per cell with ``<kind>_stages`` and ``<kind>_seconds``, 0 where none."""
    wide = spent.pivot_table(
        index="cell", columns="kind", values=["n_stages", "seconds"], sort=False
    )
    made = pd.DataFrame(index=wide.index)
    for kind in KINDS:
        for column, name in (("n_stages", "stages"), ("seconds", "seconds")):
            place = (column, kind)
            made[f"{kind}_{name}"] = wide[place].fillna(0) if place in wide else 0.0
    return made.reset_index()


def _no_costs() -> pd.DataFrame:
    return pd.DataFrame({"cell": pd.Series(dtype="str"), **dict.fromkeys(COSTS)})


def _count(kind: str, name: str) -> Column:
    return Column(head=(name,), field=lambda row: (number(row[f"{kind}_stages"], COUNT),))


def _training(row: Row) -> tuple[str, ...]:
    if is_empty(row["training_seconds"]):
        return ("–",)
    seconds, images = duration(row["training_seconds"]), row["images_seen"]
    return (seconds,) if is_empty(images) else (seconds, f"{number(images, COUNT)} images")


def _time(row: Row) -> tuple[str, ...]:
    return (duration(row["seconds"]),)


def _energy(row: Row) -> tuple[str, ...]:
    return (f"{number(row['kwh'], SCORE)} kWh",)
