"""Masks by structure: overlap and distances of every arm at its largest budget."""

from __future__ import annotations

import pandas as pd

from ablations.table import StudyInfo, TrialTable
from reports import arms, captions
from reports.cells import is_empty, others, units, varying
from reports.exhibit import Entry, Grid, TableExhibit
from reports.numbers import COUNT, DASH, SCORE, interval, number
from reports.series import value_name

LENGTH = "{:.2f}"
MEASURES = {
    "dice": (("Dice",), SCORE),
    "hausdorff_95_mm": (("95 % Hausdorff", "distance, mm"), LENGTH),
    "surface_distance_mm": (("average surface", "distance, mm"), LENGTH),
}
COUNTS = {"n_volumes": "{} tested", "n_missed": "{} missed", "n_invented": "{} invented"}


class Structures(TableExhibit):
    """One row per arm and structure, the background first."""

    @property
    def name(self) -> str:
        """Stem of the files."""
        return "structures"

    def needs(self, table: TrialTable) -> str | None:
        """Masks that were scored."""
        return "no masks were scored" if table.structures.empty else None

    def frame(self, table: TrialTable) -> pd.DataFrame:
        """Return one row per arm and structure: ``<measure>``, its ends, and counts of volumes."""
        info, found = table.info, table.structures
        keys = ["cell", "label_fraction", *arms.arm_keys(info)]
        names = list(dict.fromkeys(found["structure"]))
        rows = arms.largest_budgets(table)[keys].merge(pd.DataFrame({"structure": names}), "cross")
        for measure in MEASURES:
            own = found[found["metric"] == measure]
            ends = {"estimate": measure, "low": f"{measure}_low", "high": f"{measure}_high"}
            own = own[["cell", "structure", *ends]].rename(columns=ends)
            rows = rows.merge(own, on=["cell", "structure"], how="left")
        sizes = found.drop_duplicates(["cell", "structure"])[["cell", "structure", *COUNTS]]
        return rows.merge(sizes, on=["cell", "structure"], how="left")

    def grid(self, frame: pd.DataFrame, info: StudyInfo) -> Grid:
        """Return arm and structure, then the measures."""
        factors = ["method", *varying(frame, others(info))]
        heads = [*(info.factor(name).label for name in factors), "structure"]
        titles = [*((head,) for head in heads), *(head for head, _ in MEASURES.values()), ("",)]
        rows = []
        for row in frame.to_dict("records"):
            names = [value_name(info, name, row[name]) for name in factors]
            fields: list[tuple[str, ...]] = [(name,) for name in (*names, str(row["structure"]))]
            fields += [
                (
                    number(row[measure], form),
                    interval(row[f"{measure}_low"], row[f"{measure}_high"], form),
                )
                for measure, (_, form) in MEASURES.items()
            ]
            fields.append(_sizes(row))
            rows.append(tuple(Entry(lines=lines) for lines in fields))
        return Grid(
            heads=tuple(Entry(lines=head) for head in titles),
            rows=tuple(rows),
            n_labels=len(heads),
        )

    def caption(self, frame: pd.DataFrame, info: StudyInfo) -> str:
        """Say what is averaged, what an empty mask scores, and what is redrawn."""
        return captions.joined(
            f"Masks of each structure {arms.budget_words(frame, info)}, means over test volumes, "
            "then folds, draws and seeds, at the spacing of the stored volumes. The background has "
            "a Dice coefficient only. Missed: volumes in which nothing was predicted of a structure"
            " that is there; invented: predicted, and not there. Both score a Dice of 0 and, for "
            "distances, the diagonal of the volume; agreed absence scores 1 and no distance.",
            f"Intervals are 95 % (bootstrap over the test {units(info)} alone: draws and seeds are "
            "averaged, not redrawn).",
            captions.footing(info),
        )


def _sizes(row: arms.Row) -> tuple[str, ...]:
    if is_empty(row["n_volumes"]):
        return (DASH,)
    return tuple(form.format(number(row[name], COUNT)) for name, form in COUNTS.items())
