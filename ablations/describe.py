"""What plan, run and status print."""

from __future__ import annotations

import json
from collections import Counter

from ablations.cost import Estimate
from ablations.options import RunOptions
from ablations.plan import KINDS, Plan
from ablations.trunks import in_order
from ablations.vault import Vault
from melssl.artifacts import FACTS
from melssl.prepared import Prepared

KIND_NAMES = {"trunk": "trunks", "pretrain": "encoders", "embed": "embeddings", "adapt": "trials"}


def plan_lines(plan: Plan) -> list[str]:
    """Describe a study: its question, its levels, and its stages, finished and missing."""
    study, prepared = plan.study, plan.preparations.of(plan.study.baseline)
    cohort = prepared.cohort
    n_patients = cohort.labelled["patient_id"].nunique()
    n_seeds = len({planned.trial.seed for planned in plan.trials})
    lines = [
        f"study {study.name}: {study.question}",
        f"  cohort   {cohort.name}: {len(cohort)} images of {n_patients} {cohort.patient_unit}s, "
        f"classes {', '.join(cohort.classes)}",
        *(f"  note     {note}" for note in cohort.notes),
        *(f"  {line}" for line in _audit(prepared)),
        *(f"  no {name}: {why}" for name, why in plan.absent.items()),
        *(f"  pool     {pool}" for pool in [study.baseline.pool] if pool != "train"),
        f"  design   {_levels(plan)}",
        f"           x {_folds(plan)}"
        f" x up to {study.n_draws} draws x {n_seeds} seeds = {plan.n_planned} trials",
    ]
    for kind in KINDS:
        stages = plan.all_of(kind)
        done = sum((kind, stage.key) in plan.done for stage in stages)
        failed = sum((kind, stage.key) in plan.failed for stage in stages)
        shared = _shared(plan) if kind == "pretrain" else ""
        text = f"{done} of {len(stages)} finished" + (f", {failed} failed" if failed else "")
        if stages:
            lines.append(f"  {KIND_NAMES[kind]:<10} {text}{shared}")
    return lines


def cost_lines(plan: Plan, cost: Estimate, options: RunOptions) -> list[str]:
    """Say what is still to spend, before anything runs."""
    if not cost.per_stage:
        return ["  nothing is missing"]
    counts = Counter(stage.kind for stage in plan.missing())
    parts = [
        f"{counts[kind]} {KIND_NAMES[kind]} {duration(cost.seconds[kind])} ({cost.basis[kind]})"
        for kind in KINDS
        if counts[kind]
    ]
    in_a_row = [sum(cost.per_stage[s.key] for s in row) for row in in_order(plan.missing("trunk"))]
    longest = max(*cost.per_stage.values(), *in_a_row, 0.0)
    wall = max(cost.total / options.workers, longest)
    workers = f"{options.workers} worker{'s' if options.workers > 1 else ''}"
    return [
        f"  still to spend: {'; '.join(parts)}",
        *_saved_by_trunks(plan, cost),
        f"  about {duration(wall)} on {workers} of {options.threads} thread(s), {options.backend}",
    ]


def failure_lines(plan: Plan, vault: Vault) -> list[str]:
    """Name what failed and why, each reason once."""
    reasons: Counter[str] = Counter()
    for kind, key in sorted(plan.failed):
        failure = vault.failure(kind, key)
        reasons[f"{kind}: {failure.reason if failure else 'unknown'}"] += 1
    if not reasons:
        return []
    lines = [f"  {n} x {' '.join(reason.split())[:300]}" for reason, n in reasons.most_common(12)]
    return ["failed stages (the same command runs them again, with the same seeds):", *lines]


def alert_lines(plan: Plan, vault: Vault) -> list[str]:
    """Say what the watchdog found in finished encoders, one example of each kind and method."""
    advice: dict[str, list[str]] = {}
    for stage in plan.all_of("pretrain"):
        if ("pretrain", stage.key) in plan.done:
            facts = json.loads((vault.folder("pretrain", stage.key) / FACTS).read_text())
            for alert in facts.get("alerts", ()):
                said = f"{stage.spec.method.label}: {alert['advice']}"
                advice.setdefault(f"{stage.spec.method.name} {alert['kind']}", []).append(said)
    if not advice:
        return []
    lines = [f"  {len(said)} x {said[0]}" for said in advice.values()]
    return ["alerts of the watchdog (--watch stop would have ended these trainings):", *lines]


def duration(seconds: float) -> str:
    """Return ``45 s``, ``12 min`` or ``3.5 h``."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


def _saved_by_trunks(plan: Plan, cost: Estimate) -> list[str]:
    branches = [stage for stage in plan.missing("pretrain") if stage.first_step]
    if not branches:
        return []
    alone = sum(cost.attributed(stage) for stage in branches)
    spent = cost.seconds["trunk"] + sum(cost.per_stage[stage.key] for stage in branches)
    return [
        f"  {len(branches)} encoders share trunks: {duration(spent)} in place of"
        f" {duration(alone)}, which is what counts as theirs"
    ]


def _audit(prepared: Prepared) -> list[str]:
    if prepared.audit is None:
        return ["audit: not made yet; `run` compares all files first, and may merge patients"]
    return prepared.audit.lines()


def _folds(plan: Plan) -> str:
    repeats = plan.study.n_repeats
    again = f", dealt {repeats} times," if repeats > 1 else ""
    return f"{plan.study.baseline.folds.n_folds} patient folds{again}"


def _levels(plan: Plan) -> str:
    texts = []
    for factor in plan.study.factors:
        values = plan.study.values(factor)
        texts.append(f"{factor.name} [{', '.join(factor.show(value) for value in values)}]")
    return " x ".join(texts)


def _shared(plan: Plan) -> str:
    users = sum(1 for _ in plan.trials)
    return f" (shared by {users} trials)" if users > len(plan.all_of("pretrain")) else ""
