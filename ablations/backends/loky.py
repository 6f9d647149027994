"""Loky: processes on this machine, each an executor of its own, so that it dies alone."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import resource_tracker
from typing import Any

from joblib.externals.loky import ProcessPoolExecutor
from joblib.externals.loky.backend import resource_tracker as loky_tracker
from joblib.externals.loky.process_executor import TerminatedWorkerError

from ablations.backends.base import Backend, Ended
from ablations.options import RunOptions
from ablations.workers import Job, Outcome, run_job
from melssl.training.devices import Runtime, die_with_parent, visible_devices

IDLE_SECONDS = 10  # a worker without a job goes then; a study's next wave finds it warm
THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
STOPS = {signal.SIGINT, signal.SIGTERM}
Environment = tuple[tuple[str, str], ...]


@dataclass(eq=False)
class Seat:
    """A worker process that may use a device or not, and what it runs."""

    environment: Environment
    has_device: bool
    executor: ProcessPoolExecutor | None = None
    job: Job | None = None
    future: Future[list[Outcome]] | None = None
    is_gone: bool = False  # its process was dead when it was last looked at


class Loky(Backend):
    """Seats on this machine.

    joblib's executor serves one process here: as a pool it kills all others with the one that
    died, and does not say whose job it was; joblib's ``Parallel`` returns nothing at all then.
    """

    def __init__(self, options: RunOptions, runtime: Runtime) -> None:
        self._seats = [
            Seat(environment=environment, has_device=has_device)
            for environment, has_device in seats_of(options, runtime)
        ]

    def has_seat(self, job: Job) -> bool:
        """Say whether a process is free, with a device where the job needs one."""
        return self._free(job) is not None

    def start(self, job: Job) -> None:
        """Start a job in a warm process, or in a new one."""
        seat = self._free(job)
        assert seat is not None
        if not seat.has_device:
            job = job.on_processor()
        seat.executor = seat.executor or _warm(seat.environment) or _new(seat.environment)
        seat.job, seat.is_gone = job, False
        with held_back(STOPS):
            seat.future = seat.executor.submit(run_job, job)

    def wait(self, seconds: float) -> list[Ended]:
        """Return what has ended; a process that died takes its own job with it."""
        busy = {seat.future: seat for seat in self._seats if seat.future is not None}
        if not busy:
            time.sleep(seconds)
        done, _ = wait(busy, seconds, FIRST_COMPLETED)
        left = [seat for future, seat in busy.items() if future not in done]
        lost = [seat for seat in left if not _is_managed(seat.executor) or _stays_gone(seat)]
        return [_ended(seat) for seat in (*(busy[future] for future in done), *lost)]

    def close(self) -> None:
        """Leave idle processes to the next study, and end those at work."""
        for seat in self._seats:
            if seat.future is not None:
                _end(seat)
            elif seat.executor is not None:
                _IDLE.append((seat.environment, seat.executor))
                seat.executor = None

    def _free(self, job: Job) -> Seat | None:
        fit = [s for s in self._seats if s.job is None and s.has_device >= job.needs_device]
        # what needs no device leaves the devices to others
        return min(fit, key=lambda seat: seat.has_device, default=None)


def seats_of(options: RunOptions, runtime: Runtime) -> list[tuple[Environment, bool]]:
    """Return each worker's environment and whether it may use a device.

    On a CPU all may. GPUs are dealt ``n_devices`` to a seat, each to ``stages_per_device`` of them.
    """
    shared = tuple((name, str(options.threads)) for name in THREAD_VARIABLES)
    if runtime.device_kind() == "cpu":
        return [(shared, True)] * options.workers
    hosts = visible_devices(runtime) * options.stages_per_device
    own = [((*shared, *variables.items()), True) for variables in hosts][: options.workers]
    return own + [(shared, False)] * (options.workers - len(own))


@contextmanager
def held_back(signals: set[signal.Signals]) -> Iterator[None]:
    """Hold signals back in this thread; processes that it starts meanwhile never get them.

    Ctrl-C in a terminal reaches all processes; what to do about it is for the main one to say.
    """
    for tracker in (resource_tracker, loky_tracker):  # started on the way, they would lift it
        tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


_IDLE: list[tuple[Environment, ProcessPoolExecutor]] = []


def _warm(environment: Environment) -> ProcessPoolExecutor | None:
    """Return an executor that an earlier study left, if it is whole."""
    for index, (known, executor) in enumerate(_IDLE):
        if known == environment and _is_managed(executor) and _has_process(executor):
            del _IDLE[index]
            return executor
    return None


def end_idle() -> None:
    """End the processes that earlier studies left idle: whoever has changed one must not share."""
    while _IDLE:
        _, executor = _IDLE.pop()
        executor.shutdown(wait=False, kill_workers=True)


def _new(environment: Environment) -> ProcessPoolExecutor:
    return ProcessPoolExecutor(
        max_workers=1,
        timeout=IDLE_SECONDS,
        env=dict(environment),
        initializer=die_with_parent,
        initargs=(os.getpid(),),
    )


def _ended(seat: Seat) -> Ended:
    job, future = seat.job, seat.future
    assert job is not None
    assert future is not None
    if not future.done():
        n_deaths = int(seat.is_gone)
        _end(seat)
        return Ended(job=job, outcomes=None, deaths=n_deaths)
    try:
        outcomes = future.result()
    except TerminatedWorkerError:
        _end(seat)
        return Ended(job=job, outcomes=None, deaths=1)
    seat.job = seat.future = None
    return Ended(job=job, outcomes=outcomes)


def _end(seat: Seat) -> None:
    if seat.executor is not None:
        seat.executor.shutdown(wait=False, kill_workers=True)
    seat.executor = seat.job = seat.future = None


def _stays_gone(seat: Seat) -> bool:
    """Say whether a process is dead that was dead at the last look, and nobody has said so.

    An executor looks at the processes that it had when it last woke up: of one that it started
    later, in the place of an idle one that had gone, it never learns that it died.
    """
    was_gone, seat.is_gone = seat.is_gone, not _has_process(seat.executor)
    return was_gone and seat.is_gone


def _has_process(executor: Any) -> bool:
    return any(process.is_alive() for process in list(executor._processes.values()))


def _is_managed(executor: Any) -> bool:
    """Say whether somebody still hands out an executor's jobs; without, its futures never end."""
    manager = executor._executor_manager_thread
    return manager is not None and manager.is_alive()
