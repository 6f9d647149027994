"""Executes a plan in worker processes; a stage ends in the vault, well or as a failure."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing
from dataclasses import replace

from ablations.backends import open_backend
from ablations.backends.base import Backend, Ended
from ablations.cost import Estimate
from ablations.options import RunOptions
from ablations.plan import Plan
from ablations.progress import ProgressBar
from ablations.stopping import Stop, stoppable
from ablations.trunks import in_order
from ablations.vault import Vault
from ablations.workers import OVERDUE, Job, Outcome
from melssl.errors import MelsslError
from melssl.stages import Stage
from melssl.training.devices import Runtime

WATCH_SECONDS = 1.0
GRACE_SECONDS = 60.0  # for a step of a large training, and for writing its state


class WorkerDied(MelsslError):  # noqa: N818  # a fact about a worker, recorded as a stage's reason
    """The process that ran a stage was killed from outside, most often for memory."""


class TookTooLong(MelsslError):  # noqa: N818  # recorded as a stage's reason
    """A stage passed its time limit, and its process was ended."""


def run_plan(
    plan: Plan,
    vault: Vault,
    options: RunOptions,
    estimate: Estimate,
    ended: Callable[[Outcome], None],
    begun: Callable[[], None] = lambda: None,
) -> None:
    """Run every missing stage of a plan and tell ``ended`` how each did.

    ``begun`` is called when the first stages of a wave have been handed out.

    First what trains encoders, longest first, then what judges them: a probe never waits behind
    another probe's pretraining, and all probes of one encoder share a worker. The trunks of a
    family are one job, and what goes on from them comes after.
    """
    runtime = runtime_of(options)
    order = estimate.per_stage
    with ProgressBar(vault, order) as bar:
        for wave in (*_encoders(plan, order), _judges(plan, options.workers)):
            jobs = [Job(stages=group, vault=vault.root, runtime=runtime) for group in wave]
            with closing(surviving(jobs, vault, options, begun)) as outcomes:
                for outcome in outcomes:
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


def _judges(plan: Plan, n_workers: int) -> list[tuple[Stage, ...]]:
    """Group the probes of an encoder, which read its embeddings once; what trains goes alone.

    Encoders fewer than workers are divided, so that none of those is idle.
    """
    by_input: dict[object, list[Stage]] = {}
    for stage in plan.missing("adapt"):
        trains = stage.spec.protocol.training_spec() is not None
        by_input.setdefault(stage.key if trains else stage.needs, []).append(stage)
    n_parts = -(-n_workers // max(len(by_input), 1))
    return [
        tuple(stages[part::n_parts])
        for stages in by_input.values()
        for part in range(min(n_parts, len(stages)))
    ]


def uses_device(stage: Stage) -> bool:
    """Say whether a stage passes images through a net; what fits to embeddings needs no GPU."""
    if stage.kind == "adapt":
        return stage.spec.protocol.training_spec() is not None
    return stage.spec.method_class.sees == "images" and (
        stage.kind in ("embed", "predict") or stage.spec.method_class.trains
    )


def surviving(
    jobs: Iterable[Job],
    vault: Vault,
    options: RunOptions,
    begun: Callable[[], None] = lambda: None,
) -> Generator[Outcome, None, None]:
    """Yield outcomes as stages end; what a dead process took is run again, with the same seeds.

    A stage whose process dies more than ``options.retries`` times fails; its last try is alone, in
    case it had no memory beside others. A first Ctrl-C or SIGTERM lets trainings save their state.

    Raises:
        KeyboardInterrupt: it was asked to stop.
        ArtifactError: the cluster cannot do the work.

    """
    jobs = list(jobs)
    if not jobs:
        return
    with stoppable(vault.root / "work") as stop:
        backend = open_backend(options, jobs[0].runtime)
        try:
            shift = _Shift(backend, jobs, vault, options, stop)
            shift.start()
            begun()
            yield from shift.outcomes()
        finally:
            backend.close()
    if stop.is_asked:
        raise KeyboardInterrupt


class _Shift:
    """Jobs on their way through a backend."""

    def __init__(
        self, backend: Backend, jobs: list[Job], vault: Vault, options: RunOptions, stop: Stop
    ) -> None:
        self._backend, self._vault, self._stop = backend, vault, stop
        self._retries = options.retries
        self._waiting = deque(
            replace(
                job,
                needs_device=any(uses_device(stage) for stage in job.stages),
                limit_seconds=options.stage_limit,
                stop=stop.path,
            )
            for job in jobs
        )
        self._alone: deque[Job] = deque()
        self._running: dict[tuple[str, ...], Job] = {}
        self._deaths: Counter[str] = Counter()
        self._told: set[str] = set()

    def outcomes(self) -> Iterator[Outcome]:
        """Yield how each stage ended."""
        while self._running or (not self._stop.is_asked and (self._waiting or self._alone)):
            self.start()
            for ended in self._backend.wait(WATCH_SECONDS):
                del self._running[_name(ended.job)]
                for outcome in ended.outcomes or ():
                    yield from self._new(outcome)
                if ended.outcomes is None:
                    yield from self._again(ended)
            yield from self._finished_meanwhile()
            if self._stop.seconds > GRACE_SECONDS:
                return

    def start(self) -> None:
        """Hand out as many jobs as there are seats."""
        if self._stop.is_asked:
            return
        if not (self._waiting or self._running) and self._alone:
            self._waiting.append(self._alone.popleft())
        for job in list(self._waiting):
            if self._backend.has_seat(job):
                self._waiting.remove(job)
                self._running[_name(job)] = job
                self._backend.start(job)
            elif job.needs_device is False:
                break  # then there is no seat at all

    def _new(self, outcome: Outcome) -> Iterator[Outcome]:
        if outcome.key not in self._told:
            self._told.add(outcome.key)
            yield outcome

    def _finished_meanwhile(self) -> Iterator[Outcome]:
        """Yield what jobs that go on have already left in the vault."""
        for job in self._running.values():
            for stage in job.stages:
                if stage.key not in self._told and self._vault.has(stage.kind, stage.key):
                    yield from self._new(
                        Outcome(kind=stage.kind, key=stage.key, seconds=0.0, reason=None)
                    )

    def _again(self, ended: Ended) -> Iterator[Outcome]:
        """Queue what a job has left; fail the stage that its process died of too often."""
        vault = self._vault
        left = [s for s in ended.job.stages if not vault.has(s.kind, s.key)]
        left = [s for s in left if s.key not in self._told]
        if left and ended.deaths:
            self._deaths[left[0].key] += ended.deaths
            if self._deaths[left[0].key] > self._retries:
                stage = left.pop(0)
                reason = vault.fail(stage, _reason(stage, self._deaths[stage.key], vault)).reason
                yield from self._new(
                    Outcome(kind=stage.kind, key=stage.key, seconds=0.0, reason=reason)
                )
        if left:
            job = replace(ended.job, stages=tuple(left))
            is_last = self._deaths[left[0].key] == self._retries > 0
            self._alone.append(job) if is_last else self._waiting.appendleft(job)


def _name(job: Job) -> tuple[str, ...]:
    return tuple(stage.key for stage in job.stages)


def _reason(stage: Stage, n_deaths: int, vault: Vault) -> MelsslError:
    """Return why a stage's process died, as far as it left word."""
    report = vault.work(stage.kind, stage.key) / OVERDUE
    times = f"{n_deaths} time{'s' if n_deaths > 1 else ''}"
    if not (where := report.read_text() if report.exists() else ""):
        return WorkerDied(
            f"the process that ran this stage was killed {times}, most often for lack of memory:"
            " use a smaller batch or image, or fewer --workers"
        )
    report.unlink()
    error = TookTooLong(
        f"it passed --stage-limit {times} and was ended; if it was only slow, allow more, and else"
        " see where it stood, in the failure's trace"
    )
    error.add_note(where)
    return error
