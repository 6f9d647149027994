"""The frame ``encoders``: are an arm's embeddings healthy, and do they know the camera?"""

from __future__ import annotations

import json

import pandas as pd

from ablations.design import Cell
from ablations.results import Results
from ablations.table import COLUMNS
from ablations.vault import Vault
from melssl.artifacts import FACTS


def encoders_frame(results: Results, vault: Vault) -> pd.DataFrame:
    """Return one row per arm that has embeddings of images: means over them.

    They depend on no label; the cell is that of the largest budget.
    """
    rows = [
        {"cell": cell.name} | results.levels(cell) | facts
        for cell in results.largest
        if cell.spec.method.name not in results.references
        and (facts := _facts(results, cell, vault))
    ]
    return results.frame("encoders", rows)


def _facts(results: Results, cell: Cell, vault: Vault) -> dict[str, float]:
    """Return the mean of each fact over the arm's finished embeddings; NaN for one not stored."""
    done = {
        stage.key
        for planned in results.plan.trials
        if planned.trial.cell.name == cell.name
        for stage in planned.stages
        if stage.kind == "embed" and ("embed", stage.key) in results.plan.done
    }
    found = [json.loads((vault.folder("embed", key) / FACTS).read_text()) for key in sorted(done)]
    if not found:
        return {}
    means = pd.DataFrame(found).reindex(columns=list(COLUMNS["encoders"][1:])).astype(float).mean()
    return {str(name): float(value) for name, value in means.items()}
