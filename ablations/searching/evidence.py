"""What the vault says of a suggestion: scores, failures, what it cost, whether it collapsed."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ablations.collect import MAIN_METRIC
from ablations.plan import PlannedTrial
from ablations.preparations import Preparations
from ablations.vault import Vault
from melssl.artifacts import CURVES, SCORES
from melssl.encoders import build_backbone
from melssl.methods.base import PairConfig
from melssl.stages import Kind, Stage
from melssl.training.alerts import (
    DEAD_SPREAD,
    LEAST_RANK,
    LOST_RANK,
    LOST_SPREAD,
    LOW_OFFSET_SPREAD,
    LOW_SPREAD,
    RANK,
    SETTLED_STEPS,
    SPREAD,
)
from melssl.workload import workload


@dataclass(frozen=True, kw_only=True)
class Spent:
    """What a suggestion's stages cost, each once, whoever paid: images trained on, and seconds."""

    images: float
    seconds: float


def missing(planned: Iterable[PlannedTrial], vault: Vault) -> tuple[Stage, ...]:
    """Return the stages that still must run before the trials can be scored."""
    open_trials = [p for p in planned if not vault.has("adapt", p.key)]
    stages = _once(stage for p in open_trials for stage in p.stages)
    return tuple(stage for stage in stages if not vault.has(stage.kind, stage.key))


def failure(planned: Iterable[PlannedTrial], vault: Vault) -> str | None:
    """Return why one of the trials has no score, if one has none."""
    for stage in _once(stage for p in planned for stage in p.stages):
        found = vault.failure(stage.kind, stage.key)
        if found and not vault.has(stage.kind, stage.key):
            return f"{stage.kind} {stage.key}: {found.reason}"
    return None


def scores(planned: Iterable[PlannedTrial], vault: Vault) -> list[float]:
    """Return the main metric of each trial."""
    paths = [vault.folder("adapt", p.key) / SCORES for p in planned]
    return [float(json.loads(path.read_text())[MAIN_METRIC]) for path in paths]


def spent(
    judged: Iterable[PlannedTrial],
    highest: Iterable[PlannedTrial],
    preparations: Preparations,
    vault: Vault,
) -> Spent:
    """Return what the trials cost; ``seconds`` as they were measured when a stage ran.

    Of a pretraining that goes on from a shorter one's trunk, the steps from the first on count at
    the ``highest`` rung that was reached, below it those of the decay alone.
    """
    seconds, images = 0.0, 0.0
    last = {stage.key for planned in highest for stage in planned.stages}
    for stage in _once(stage for p in judged for stage in p.stages):
        if vault.has(stage.kind, stage.key):
            seconds += float(str(vault.record(stage.kind, stage.key)["seconds"]))
        if _trains(stage):
            load = workload(stage, preparations.of(stage.spec))
            images += load.units + (load.inherited if stage.key in last else 0.0)
    return Spent(images=images, seconds=seconds)


def shortfalls(planned: Sequence[PlannedTrial], vault: Vault) -> dict[str, float]:
    """Return by how much the worst encoder is collapsed; nothing positive where none is.

    What counts is the watchdog's last look, and its bars. Nothing where no encoder was trained,
    none was watched, or batch norm had no time to settle.
    """
    found: dict[str, float] = {}
    for one in planned:
        if one.trial.spec.method_class.trains:
            for name, value in _shortfall(one, vault).items():
                found[name] = max(value, found.get(name, value))
    return found


def _shortfall(planned: PlannedTrial, vault: Vault) -> dict[str, float]:
    spec = planned.trial.spec
    pretrain = next(stage for stage in planned.stages if stage.kind == "pretrain")
    curves = json.loads((vault.folder("pretrain", pretrain.key) / CURVES).read_text())
    spreads, ranks = (
        [value for step, value in curves.get(name, ()) if step == 0 or step >= SETTLED_STEPS]
        for name in (SPREAD, RANK)
    )
    if len(spreads) < 2:  # the first is of random weights
        return {}
    low = LOW_SPREAD if isinstance(spec.method, PairConfig) else LOW_OFFSET_SPREAD
    width = build_backbone(spec).width
    shares = [value * math.sqrt(width) for value in spreads]
    bar = max(min(low, LOST_SPREAD * max(shares)), DEAD_SPREAD)
    short = {SPREAD: bar - shares[-1]}
    if not spec.method_class.uses_labels:  # where classes are learned few dimensions are no fault
        short[RANK] = max(LOST_RANK * ranks[0], LEAST_RANK) - ranks[-1]
    return short


def _trains(stage: Stage) -> bool:
    if stage.kind == "pretrain":
        return stage.spec.method_class.trains
    return stage.kind == "adapt" and stage.spec.protocol.training_spec() is not None


def _once(stages: Iterable[Stage]) -> Iterable[Stage]:
    kept: dict[tuple[Kind, str], Stage] = {}
    for stage in stages:
        kept.setdefault((stage.kind, stage.key), stage)
    return kept.values()
