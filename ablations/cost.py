"""What a plan costs: rates measured on earlier stages of this vault, else a short calibration."""

from __future__ import annotations

import statistics
from collections.abc import Iterable
from dataclasses import dataclass, field

from ablations.plan import KINDS, Plan
from ablations.vault import Vault
from melssl.prepared import Prepared
from melssl.stages import Stage
from melssl.workload import Workload, calibrate, workload

HISTORY = 400
GUESS_SECONDS = {"embed": 2e-4, "linear_probe": 0.4, "knn": 0.1}


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """Seconds of one worker still to spend, per kind of stage, and where the rates come from.

    ``inherited`` is what went before into a stage that goes on from a trunk: ``attributed`` counts
    it, for every length the whole of it, as if there had been no trunk.
    """

    seconds: dict[str, float]
    basis: dict[str, str]
    per_stage: dict[str, float]
    inherited: dict[str, float] = field(default_factory=dict)

    @property
    def total(self) -> float:
        """Seconds of one worker."""
        return sum(self.seconds.values())

    def attributed(self, stage: Stage) -> float:
        """Return what a stage's result costs from the first step on, whoever has paid for it."""
        return self.per_stage[stage.key] + self.inherited.get(stage.key, 0.0)


def estimate(plan: Plan, vault: Vault, threads: int) -> Estimate:
    """Estimate the missing stages of a plan."""
    rates = _history(vault)
    basis: dict[str, set[str]] = {}
    seconds: dict[str, float] = dict.fromkeys(KINDS, 0.0)
    per_stage: dict[str, float] = {}
    inherited: dict[str, float] = {}
    for stage in plan.missing():
        prepared = plan.preparations.of(stage.spec)
        load = workload(stage, prepared)
        if load.signature not in rates:
            rates[load.signature] = _rate(stage, load, prepared, threads)
        rate, source = rates[load.signature]
        per_stage[stage.key] = rate * load.units
        if load.inherited:
            inherited[stage.key] = rate * load.inherited
        seconds[stage.kind] += rate * load.units
        basis.setdefault(stage.kind, set()).add(source)
    told = {kind: ", ".join(sorted(sources)) for kind, sources in basis.items()}
    return Estimate(seconds=seconds, basis=told, per_stage=per_stage, inherited=inherited)


def _rate(stage: Stage, load: Workload, prepared: Prepared, threads: int) -> tuple[float, str]:
    measured = calibrate(stage, prepared, threads)
    if measured is not None:
        return measured, "calibrated now"
    return GUESS_SECONDS.get(load.guess, 1.0), "rule of thumb"


def _history(vault: Vault) -> dict[str, tuple[float, str]]:
    """Return the median seconds per unit of each signature over a sample of finished stages."""
    seen: dict[str, list[float]] = {}
    for signature, rate in _records(vault):
        seen.setdefault(signature, []).append(rate)
    return {name: (statistics.median(rates), "earlier stages") for name, rates in seen.items()}


def _records(vault: Vault) -> Iterable[tuple[str, float]]:
    for kind in KINDS:
        for key in sorted(vault.finished(kind))[:HISTORY]:
            record = vault.record(kind, key)
            signature, units, seconds = record["signature"], record["units"], record["seconds"]
            if isinstance(units, float) and isinstance(seconds, float):
                yield str(signature), seconds / max(units, 1.0)
