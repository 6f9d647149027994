"""The frames ``encoders`` and ``costs``: an arm's embeddings, and what its encoders took."""

from __future__ import annotations

import json
from collections.abc import Iterable

import pandas as pd

from ablations.design import Cell
from ablations.results import Results
from ablations.table import COLUMNS
from ablations.vault import Vault
from melssl.artifacts import FACTS
from melssl.stages import Kind


def encoders_frame(results: Results, vault: Vault) -> pd.DataFrame:
    """Return one row per arm that has embeddings of images: means over them.

    They depend on no label; the cell is that of the largest budget.
    """
    return _means(results, vault, "encoders", "embed", results.largest)


def costs_frame(results: Results, vault: Vault) -> pd.DataFrame:
    """Return one row per arm that is trained: what went into an encoder, means over them.

    An encoder that goes on from a trunk is charged for the trunk, as if it had none.
    """
    trained = [cell for cell in results.largest if cell.spec.method_class.trains]
    return _means(results, vault, "costs", "pretrain", trained)


def _means(
    results: Results, vault: Vault, frame: str, kind: Kind, cells: Iterable[Cell]
) -> pd.DataFrame:
    rows = [
        {"cell": cell.name} | results.levels(cell) | facts
        for cell in cells
        if cell.spec.method.name not in results.references
        and (facts := _facts(results, cell, vault, frame, kind))
    ]
    return results.frame(frame, rows)


def _facts(results: Results, cell: Cell, vault: Vault, frame: str, kind: Kind) -> dict[str, float]:
    """Return the mean of each fact over the arm's finished stages; NaN for one not stored."""
    done = {
        stage.key
        for planned in results.plan.trials
        if planned.trial.cell.name == cell.name
        for stage in planned.stages
        if stage.kind == kind and (kind, stage.key) in results.plan.done
    }
    found = [json.loads((vault.folder(kind, key) / FACTS).read_text()) for key in sorted(done)]
    if not found:
        return {}
    means = pd.DataFrame(found).reindex(columns=list(COLUMNS[frame][1:])).astype(float).mean()
    return {str(name): float(value) for name, value in means.items()}
