"""What plan and run print, and what they leave for `status`."""

from __future__ import annotations

from collections import Counter

from ablations.cost import Estimate
from ablations.options import RunOptions
from ablations.plan import KINDS, Plan
from ablations.snapshot import Snapshot
from ablations.status import KIND_NAMES, count_lines, duration
from ablations.workers import PROGRESS
from melssl.artifacts import FACTS
from melssl.prepared import Prepared


def plan_lines(plan: Plan) -> list[str]:
    """Describe a study: its question, its levels, and its stages, finished and missing."""
    done = {kind: {key for k, key in plan.done if k == kind} for kind in KINDS}
    failed = {kind: {key for k, key in plan.failed if k == kind} for kind in KINDS}
    return [*_header(plan), *count_lines(_keys(plan), done, failed, _shared(plan))]


def snapshot_of(plan: Plan, basis: str) -> Snapshot:
    """Return what `status` needs of a plan."""
    methods = {stage.key: stage.run.base.method for stage in plan.all_of("pretrain")}
    return Snapshot(
        basis=basis,
        header=_header(plan),
        shared=_shared(plan),
        stages=_keys(plan),
        methods={key: (method.name, method.label) for key, method in methods.items()},
        facts=FACTS,
        progress=PROGRESS,
    )


def _keys(plan: Plan) -> dict[str, list[str]]:
    keys: dict[str, list[str]] = {kind: [] for kind in KINDS}
    for kind, key in plan.stages:
        keys[kind].append(key)
    return keys


def _header(plan: Plan) -> list[str]:
    study, prepared = plan.study, plan.preparations.of(plan.study.baseline)
    cohort = prepared.cohort
    n_patients = cohort.labelled["patient_id"].nunique()
    n_seeds = len({planned.trial.seed for planned in plan.trials})
    return [
        f"study {study.name}: {study.question}",
        f"  cohort   {cohort.name}: {len(cohort)} {cohort.medium.kind}s of {n_patients}"
        f" {cohort.patient_unit}s, classes {', '.join(cohort.classes)}",
        *(f"  note     {note}" for note in cohort.notes),
        *(f"  {line}" for line in _audit(prepared)),
        *(f"  no {name}: {why}" for name, why in plan.absent.items()),
        *(f"  pool     {pool}" for pool in [study.baseline.pool] if pool != "train"),
        f"  design   {_levels(plan)}",
        f"           x {_folds(plan)}"
        f" x up to {study.n_draws} draws x {n_seeds} seeds = {plan.n_planned} trials",
    ]


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
    wall = cost.wall(plan, options.workers)
    workers = f"{options.workers} worker{'s' if options.workers > 1 else ''}"
    disk = ", ".join(
        f"{KIND_NAMES[kind]} {size(cost.disk[kind])}" for kind in KINDS if cost.disk.get(kind)
    )
    return [
        f"  still to spend: {'; '.join(parts)}",
        *_saved_by_trunks(plan, cost),
        f"  about {duration(wall)} on {workers} of {options.threads} thread(s), {options.backend}:"
        f" {cost.total / 3600:.2g} device hours",
        f"  about {size(sum(cost.disk.values()))} of disk: {disk}",
    ]


def size(n_bytes: float) -> str:
    """Return ``45 kB``, ``12 MB`` or ``3.5 GB``."""
    if n_bytes < 1e6:
        return f"{n_bytes / 1e3:.0f} kB"
    return f"{n_bytes / 1e6:.0f} MB" if n_bytes < 1e9 else f"{n_bytes / 1e9:.1f} GB"


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
