"""The frames ``encoders`` and ``costs``: an arm's embeddings, and what its encoders took."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import pandas as pd

from ablations.design import Cell
from ablations.results import Results
from ablations.table import COLUMNS, TEXT
from ablations.vault import Vault
from melssl.artifacts import FACTS
from melssl.stages import Kind


def encoders_frame(results: Results, vault: Vault) -> pd.DataFrame:
    """Return one row per arm with embeddings of images, means over them, or a watched training.

    They depend on no label; the cell is that of the largest budget.
    """
    rows = []
    for cell in _seeing(results):
        measured = _means(_stored(results, cell, vault, "embed"), "encoders")
        alerts = alert_words(_stored(results, cell, vault, "pretrain"))
        if measured or alerts:
            own: dict[str, object] = {"cell": cell.name, "alerts": alerts}
            rows.append(own | results.levels(cell) | measured)
    return results.frame("encoders", rows)


def costs_frame(results: Results, vault: Vault) -> pd.DataFrame:
    """Return one row per arm that is trained: what went into an encoder, means over them.

    An encoder that goes on from a trunk is charged for the trunk, as if it had none.
    """
    rows = [
        {"cell": cell.name} | results.levels(cell) | means
        for cell in _seeing(results)
        if cell.spec.method_class.trains
        and (means := _means(_stored(results, cell, vault, "pretrain"), "costs"))
    ]
    return results.frame("costs", rows)


def alert_words(found: list[dict[str, Any]]) -> str | None:
    """Return ``collapse in 2 of 3`` encoders, ``none``, or None where none was watched."""
    watched = [{alert["kind"] for alert in facts["alerts"]} for facts in found if "alerts" in facts]
    if not watched:
        return None
    counts = Counter(kind for kinds in watched for kind in sorted(kinds))
    words = [f"{kind.replace('_', ' ')} in {n} of {len(watched)}" for kind, n in counts.items()]
    return "; ".join(words) or "none"


def _seeing(results: Results) -> list[Cell]:
    return [cell for cell in results.largest if cell.spec.method.name not in results.references]


def _stored(results: Results, cell: Cell, vault: Vault, kind: Kind) -> list[dict[str, Any]]:
    """Return the facts of an arm's finished stages of a kind."""
    done = {
        stage.key
        for planned in results.plan.trials
        if planned.trial.cell.name == cell.name
        for stage in planned.stages
        if stage.kind == kind and (kind, stage.key) in results.plan.done
    }
    return [json.loads(vault.text(kind, key, FACTS)) for key in sorted(done)]


def _means(found: list[dict[str, Any]], frame: str) -> dict[str, float]:
    """Return the mean of each fact that the frame has a column for; NaN for one not stored."""
    if not found:
        return {}
    columns = [name for name in COLUMNS[frame] if name not in TEXT]
    means = pd.DataFrame(found).reindex(columns=columns).astype(float).mean()
    return {str(name): float(value) for name, value in means.items()}
