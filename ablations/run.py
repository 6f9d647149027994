"""Executes a plan in processes on this machine; a stage ends in the vault, well or as a failure."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from concurrent.futures import FIRST_COMPLETED, wait
from typing import Any

from joblib.externals.loky import get_reusable_executor
from joblib.externals.loky.process_executor import TerminatedWorkerError

from ablations.cost import Estimate
from ablations.options import RunOptions
from ablations.plan import Plan
from ablations.progress import ProgressBar
from ablations.trunks import in_order
from ablations.vault import Vault
from ablations.workers import Job, Outcome, run_job
from melssl.errors import MelsslError
from melssl.stages import Stage
from melssl.training.devices import Runtime

GROUP = 8
RESTARTS = 2
WATCH_SECONDS = 5.0
THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


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
    another probe's pretraining, and all probes of one encoder share a worker. The trunks of a
    family are one job, and what goes on from them comes after.
    """
    runtime = runtime_of(options)
    order = estimate.per_stage
    with ProgressBar(vault, order) as bar:
        for wave in (*_encoders(plan, order), _judges(plan)):
            jobs = [Job(stages=group, vault=vault.root, runtime=runtime) for group in wave]
            for outcome in surviving(jobs, vault, options):
                bar.ended(outcome)
                ended(outcome)


def runtime_of(options: RunOptions) -> Runtime:
    """Return where and how each stage runs."""
    return Runtime.parse(
        {
            "device": options.device,
            "threads": options.threads,
            "n_devices": options.n_devices,
            "watch": options.watch,
        }
    )


def _encoders(plan: Plan, seconds: dict[str, float]) -> Iterator[list[tuple[Stage, ...]]]:
    """Group each missing pretraining with the embedding that follows it; yield a wave or two."""
    embeds = plan.missing("embed")
    trunks = in_order(plan.missing("trunk"))
    ahead = {("trunk", stage.key) for family in trunks for stage in family}
    groups = []
    for stage in plan.missing("pretrain"):
        following = [e for e in embeds if ("pretrain", stage.key) in e.needs]
        groups.append((stage, *following))
    grouped = {stage.key for group in groups for stage in group}
    groups += [(stage,) for stage in embeds if stage.key not in grouped]
    branches = [group for group in groups if ahead & set(group[0].needs)]
    others = [group for group in groups if group not in branches]
    for wave in ([*trunks, *others], branches):
        yield sorted(wave, key=lambda group: -sum(seconds.get(s.key, 0.0) for s in group))


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


def surviving(jobs: list[Job], vault: Vault, options: RunOptions) -> Iterator[Outcome]:
    """Yield outcomes; when a worker dies, go on with what is left, at last one job at a time."""
    if options.backend == "sequential":
        for job in jobs:
            yield from run_job(job)
        return
    left = jobs
    for _ in range(RESTARTS):
        left = yield from _in_processes(left, options.workers, options)
    for job in left:
        if (yield from _in_processes([job], 1, options)):
            yield from _blame(job, vault)


def _in_processes(
    jobs: list[Job], workers: int, options: RunOptions
) -> Generator[Outcome, None, list[Job]]:
    """Yield outcomes of jobs in worker processes; return the jobs that a worker's death took.

    joblib's loky executor is used directly: its ``Parallel`` runs a single job in this process,
    and gives no results at all once a worker has died.
    """
    if not jobs:
        return []
    threads = dict.fromkeys(THREAD_VARIABLES, str(options.threads))
    executor = get_reusable_executor(max_workers=workers, env=threads)
    futures = {executor.submit(run_job, job): job for job in jobs}
    waiting, lost = set(futures), []
    try:
        while waiting:
            ended, waiting = wait(waiting, WATCH_SECONDS, FIRST_COMPLETED)
            for future in ended:
                try:
                    yield from future.result()
                except TerminatedWorkerError:
                    lost.append(futures[future])
            if not ended and not _is_managed(executor):
                executor.shutdown(wait=False, kill_workers=True)
                return lost + [futures[future] for future in waiting]
    except BaseException:
        executor.shutdown(wait=False, kill_workers=True)
        raise
    return lost


def _is_managed(executor: Any) -> bool:
    """Say whether somebody still hands out an executor's jobs; without, its futures never end."""
    manager = executor._executor_manager_thread
    return manager is not None and manager.is_alive()


def _blame(job: Job, vault: Vault) -> Iterator[Outcome]:
    """Record the death of a worker that had only this job as the failure of its first stage."""
    for stage in job.stages:
        if not vault.has(stage.kind, stage.key):
            died = WorkerDied(
                "the process that ran this stage was killed, alone and repeatedly, most often for "
                "lack of memory: use a smaller batch or image"
            )
            reason = vault.fail(stage, died).reason
            yield Outcome(kind=stage.kind, key=stage.key, seconds=0.0, reason=reason)
