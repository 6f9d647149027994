"""The frame ``parts``: how many are tested and trained on in each fold, and in all."""

from __future__ import annotations

from collections.abc import Collection

import pandas as pd

from ablations.results import Results
from ablations.table import COLUMNS
from melssl.prepared import Prepared


def parts_frame(results: Results) -> pd.DataFrame:
    """Return the labelled images, patients and positives of the cohort and of each fold's sides.

    ``part`` is all, train or test; ``fold`` is empty for all.
    """
    plan = results.plan
    by_fold = {planned.trial.fold: planned.trial.spec for planned in plan.trials}
    rows: list[dict[str, object]] = [{"part": "all"} | _sizes(results.prepared, None)]
    for fold in sorted(by_fold):
        prepared = plan.preparations.of(by_fold[fold])
        sides = prepared.fold(by_fold[fold])
        for part, patients in (("train", sides.train), ("test", sides.test)):
            rows.append({"fold": fold, "part": part} | _sizes(prepared, patients))
    return pd.DataFrame(rows, columns=list(COLUMNS["parts"]))


def _sizes(prepared: Prepared, patients: Collection[str] | None) -> dict[str, object]:
    """Count what has a label; positives are class 1, of several classes the smallest."""
    cohort = prepared.cohort
    rows = cohort.labelled
    rows = rows if patients is None else rows[rows["patient_id"].isin(patients)]
    per_class = [int((rows["target"] == k).sum()) for k in range(len(cohort.classes))]
    return {
        "n_images": len(rows),
        "n_patients": int(rows["patient_id"].nunique()),
        "n_positives": per_class[1] if len(per_class) == 2 else min(per_class, default=0),
    }
