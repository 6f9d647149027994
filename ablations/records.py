"""From finished and failed trials to what the ledger writes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from ablations.finished import Finished, read_trial
from ablations.plan import Plan, PlannedTrial
from ablations.table import TrialTable
from ablations.tracking import TrialRecord
from ablations.vault import Failure, Vault
from melssl.artifacts import CURVES, MASK_SCORES, PREDICTIONS
from melssl.settings import Json
from melssl.stages import Stage


def record_of(planned: PlannedTrial, plan: Plan, vault: Vault) -> TrialRecord | None:
    """Return the record of a trial that has ended, well or badly; None while it has not."""
    if vault.has("adapt", planned.key):
        return _finished(read_trial(planned, vault), plan, vault)
    failures = (vault.failure(stage.kind, stage.key) for stage in planned.stages)
    failure = next((found for found in failures if found is not None), None)
    return _failed(planned, failure, plan) if failure else None


def _finished(trial: Finished, plan: Plan, vault: Vault) -> TrialRecord:
    planned = trial.planned
    stored = vault.record("adapt", planned.key)
    folder = vault.folder("adapt", planned.key)
    masks = planned.trial.spec.protocol.judges == "masks"
    artifacts = stored["artifacts"]
    environment = stored["environment"]
    assert isinstance(artifacts, dict)
    assert isinstance(environment, dict)
    digests = {f"sha256.{name}": str(value) for name, value in artifacts.items()}
    return TrialRecord(
        key=planned.key,
        name=_name(planned),
        params=_params(planned) | {name: str(n) for name, n in trial.budget.items()},
        metrics=trial.scores | {"seconds": trial.seconds},
        curves=tuple(_curves(planned, vault)),
        artifacts=(folder / (MASK_SCORES if masks else PREDICTIONS),),
        tags=_tags(planned, plan) | digests | _flat("environment", environment),
        failed=None,
        seconds=trial.seconds,
        finished_at=float(str(stored["finished_at"])),
    )


def _failed(planned: PlannedTrial, failure: Failure, plan: Plan) -> TrialRecord:
    return TrialRecord(
        key=planned.key,
        name=_name(planned),
        params=_params(planned),
        metrics={},
        curves=(),
        artifacts=(),
        tags=_tags(planned, plan),
        failed=failure.reason,
        seconds=0.0,
        finished_at=failure.at,
    )


def _name(planned: PlannedTrial) -> str:
    trial = planned.trial
    return f"{trial.cell.name} fold={trial.fold} draw={trial.draw} seed={trial.seed}"


def _params(planned: PlannedTrial) -> dict[str, str]:
    """Return the whole spec, flat, with the place of the trial and the levels of its cell."""
    trial = planned.trial
    place = {"fold": str(trial.fold), "draw": str(trial.draw), "seed": str(trial.seed)}
    levels = {name: str(value) for name, value in trial.cell.levels if value is not None}
    return _flat("spec", trial.spec.plain()) | levels | place


def _flat(prefix: str, value: Json) -> dict[str, str]:
    if isinstance(value, dict):
        flat: dict[str, str] = {}
        for name, below in value.items():
            flat |= _flat(f"{prefix}.{name}", below)
        return flat
    return {prefix: str(value)}


def _tags(planned: PlannedTrial, plan: Plan) -> dict[str, str]:
    prepared = plan.preparations.of(planned.trial.spec)
    tags = {
        "cell": planned.trial.cell.name,
        "cohort": prepared.cohort.name,
        "cohort_digest": prepared.cohort.digest,
        "folds_digest": prepared.folds.digest,
    }
    return tags | {f"stage.{stage.kind}": stage.key for stage in planned.stages}


def _curves(planned: PlannedTrial, vault: Vault) -> Iterator[tuple[str, int, float]]:
    for stage in planned.stages:
        for series, points in _logged(stage, vault).items():
            for step, value in points:
                yield f"{stage.kind}/{series}", step, value


def _logged(stage: Stage, vault: Vault) -> dict[str, list[tuple[int, float]]]:
    path: Path = vault.folder(stage.kind, stage.key) / CURVES
    if not path.exists():
        return {}
    curves: dict[str, list[tuple[int, float]]] = json.loads(
        vault.text(stage.kind, stage.key, CURVES)
    )
    return curves


def cell_metrics(table: TrialTable) -> dict[str, float]:
    """Return the mean and interval of every cell's main metric, by name."""
    main = table.cells[table.cells["metric"] == table.info.main_metric]
    metrics = {}
    for row in main.to_dict("records"):
        for name in ("estimate", "low", "high", "difference"):
            metrics[f"{table.info.main_metric}/{row['cell']}/{name}"] = float(row[name])
    return metrics
