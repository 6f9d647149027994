"""Executes a plan: joblib on this machine; a stage ends in the vault or in its list of failures."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from joblib import Parallel, delayed, parallel_config
from joblib.externals.loky.process_executor import TerminatedWorkerError

from ablations.cost import Estimate
from ablations.options import RunOptions
from ablations.plan import Plan
from ablations.progress import ProgressBar
from ablations.vault import Vault
from ablations.workers import Job, Outcome, run_job
from melssl.errors import MelsslError
from melssl.pipeline import Stage
from melssl.training.devices import Runtime

GROUP = 8
RESTARTS = 2


class WorkerDied(MelsslError):  # noqa: N818  # a fact about a worker, recorded as a stage's reason
    """The process that ran a stage was killed from outside, most often for memory."""


def run_plan(
    plan: Plan,
    vault: Vault,
    options: RunOptions,
    estimate: Estimate,
    ended: Callable[[Outcome], None],
) -> None:
    """Run every missing stage of a plan and tell ``ended`` how each did.

    First what trains encoders, longest first, then what judges them: a probe never waits behind
    another probe's pretraining, and all probes of one encoder share a worker.
    """
    runtime = Runtime(device=options.device, threads=options.threads, n_devices=options.n_devices)
    order = estimate.per_stage
    with ProgressBar(vault, order) as bar:
        for wave in (_encoders(plan, order), _judges(plan)):
            jobs = [Job(stages=group, vault=vault.root, runtime=runtime) for group in wave]
            for outcome in _surviving(jobs, vault, options):
                bar.ended(outcome)
                ended(outcome)


def _encoders(plan: Plan, seconds: dict[str, float]) -> list[tuple[Stage, ...]]:
    """Group each missing pretraining with the embedding that follows it."""
    embeds = plan.missing("embed")
    groups = []
    for stage in plan.missing("pretrain"):
        following = [e for e in embeds if ("pretrain", stage.key) in e.needs]
        groups.append((stage, *following))
    grouped = {stage.key for group in groups for stage in group}
    groups += [(stage,) for stage in embeds if stage.key not in grouped]
    return sorted(groups, key=lambda group: -sum(seconds.get(s.key, 0.0) for s in group))


def _judges(plan: Plan) -> list[tuple[Stage, ...]]:
    """Group probes by encoder, a few to a job; a stage that trains gets a job of its own."""
    by_input: dict[object, list[Stage]] = {}
    for stage in plan.missing("adapt"):
        trains = stage.spec.protocol.training_spec() is not None
        by_input.setdefault(stage.key if trains else stage.needs, []).append(stage)
    return [
        tuple(stages[first : first + GROUP])
        for stages in by_input.values()
        for first in range(0, len(stages), GROUP)
    ]


def _surviving(jobs: list[Job], vault: Vault, options: RunOptions) -> Iterator[Outcome]:
    """Yield outcomes; when a worker dies, go on with what is left, at last one job at a time."""
    left = jobs
    for _ in range(RESTARTS):
        try:
            yield from _parallel(left, options)
        except TerminatedWorkerError:
            left = _unfinished(left, vault)
        else:
            return
    for job in left:
        try:
            yield from _parallel([job], options)
        except TerminatedWorkerError as error:
            yield from _blame(job, vault, error)


def _parallel(jobs: list[Job], options: RunOptions) -> Iterator[Outcome]:
    if options.backend == "sequential" or not jobs:
        for job in jobs:
            yield from run_job(job)
        return
    with parallel_config(backend="loky", inner_max_num_threads=options.threads):
        pool = Parallel(
            n_jobs=min(options.workers, len(jobs)),
            return_as="generator_unordered",
            batch_size=1,
            pre_dispatch="all",
        )
        for outcomes in pool(delayed(run_job)(job) for job in jobs):
            yield from outcomes


def _unfinished(jobs: list[Job], vault: Vault) -> list[Job]:
    return [
        job
        for job in jobs
        if any(
            not vault.has(s.kind, s.key) and vault.failure(s.kind, s.key) is None
            for s in job.stages
        )
    ]


def _blame(job: Job, vault: Vault, error: TerminatedWorkerError) -> Iterator[Outcome]:
    for stage in job.stages:
        if not vault.has(stage.kind, stage.key):
            died = WorkerDied(
                f"the worker died {RESTARTS + 1} times, most often for lack of memory: "
                f"use fewer --workers or a smaller batch ({str(error).splitlines()[0]})"
            )
            reason = vault.fail(stage, died).reason
            yield Outcome(kind=stage.kind, key=stage.key, seconds=0.0, reason=reason)
