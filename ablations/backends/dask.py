"""Dask: worker processes of a cluster, on this machine or on others that see the same vault."""

from __future__ import annotations

import logging
import secrets
import sys
import time
from contextlib import suppress
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from ablations.backends.base import Backend, Ended
from ablations.backends.loky import STOPS, held_back, seats_of
from ablations.options import RunOptions
from ablations.origin import fingerprint
from ablations.workers import Job, Outcome, run_job
from melssl.errors import ArtifactError, SpecError, listed
from melssl.training.devices import Runtime

if TYPE_CHECKING:
    from distributed import Client, Future, SpecCluster

POLL_SECONDS, COUNT_SECONDS = 0.02, 1.0
START_SECONDS = 60.0  # for a scheduler and its first worker to answer
AWAY_SECONDS = 900.0  # for a scheduler that was there to come back
DEVICE = "GPU"  # Dask's resource, which a worker with a GPU declares


class Dask(Backend):
    """Seats in the processes of a Dask cluster, each of one thread.

    Futures are used directly: joblib on Dask waits for ever for a task that kills its worker each
    time. The scheduler gets no more jobs than it has workers: it holds a worker's death against
    all jobs that the worker was given, not against the running one alone.
    """

    def __init__(self, options: RunOptions, runtime: Runtime) -> None:
        if find_spec("distributed") is None:
            raise SpecError(
                "--backend dask: expected the package distributed, found none; install the extra:"
                " python -m pip install '.[cluster]'"
            )
        logging.getLogger("distributed").setLevel(logging.CRITICAL)  # what matters is told here
        self._options = options
        self._jobs: dict[Future[list[Outcome]], Job] = {}
        self._n_workers, self._counted = 0, 0.0
        self._away_since: float | None = None
        self._address = options.scheduler or local_cluster(options, runtime)
        self._client: Client | None = None
        try:
            self._client = _connected(self._address, START_SECONDS)
            self._has_slots = checked(self._client, self._address, options)
        except BaseException:
            self.close()
            raise

    def has_seat(self, job: Job) -> bool:
        """Say whether the cluster has more workers than jobs."""
        if self._client is not None and time.monotonic() - self._counted > COUNT_SECONDS:
            with suppress(OSError, TimeoutError):
                self._n_workers = len(self._client.nthreads())
            self._counted = time.monotonic()
        return self._client is not None and len(self._jobs) < self._n_workers

    def start(self, job: Job) -> None:
        """Send a job; one that needs a GPU goes to a worker that has such a slot left."""
        assert self._client is not None
        slot = {DEVICE: 1 / self._options.stages_per_device}
        if self._has_slots and not job.needs_device:
            job = job.on_processor()
        future = self._client.submit(
            run_job,
            replace(job, origin=fingerprint()),
            key=f"melssl-{secrets.token_hex(8)}",
            pure=False,
            resources=slot if self._has_slots and job.needs_device else None,
        )
        self._jobs[future] = job

    def wait(self, seconds: float) -> list[Ended]:
        """Return what has ended; if the scheduler is gone, all jobs, for its successor."""
        if self._client is None:
            return self._find_again(seconds)
        until = time.monotonic() + seconds
        while not (done := [f for f in self._jobs if f.done()]) and self._is_there:
            if time.monotonic() > until:
                return []
            time.sleep(POLL_SECONDS)
        ended = [_ended(future, self._jobs.pop(future)) for future in done]
        if not self._is_there or any(future.cancelled() for future in done):
            ended += [Ended(job=job, outcomes=None) for job in self._jobs.values()]
            self._jobs.clear()
            _close(self._client)
            self._client, self._away_since = None, time.monotonic()
            print("the Dask scheduler is gone; waiting for it to come back", file=sys.stderr)
        return ended

    def close(self) -> None:
        """Leave the cluster; a stage that still runs there ends there, in the vault."""
        is_busy = bool(self._jobs)
        self._jobs.clear()
        if self._client is not None:
            _close(self._client)
        if is_busy and not self._options.scheduler:
            end_local_cluster()

    @property
    def _is_there(self) -> bool:
        return self._client is not None and self._client.status == "running"

    def _find_again(self, seconds: float) -> list[Ended]:
        assert self._away_since is not None
        try:
            self._client = _connected(self._address, max(seconds, 1.0))
        except ArtifactError:
            if time.monotonic() - self._away_since > AWAY_SECONDS:
                raise
        return []


_OWN: dict[str, tuple[object, SpecCluster]] = {}


def local_cluster(options: RunOptions, runtime: Runtime) -> str:
    """Return the scheduler of ``--workers`` processes here, which live as long as this one.

    The next wave of a study, or of a search, finds them warm.
    """
    import dask
    from distributed import Nanny, Scheduler, SpecCluster

    seats = seats_of(options, runtime)
    wanted = (seats, options.stages_per_device)
    for address, (known, cluster) in _OWN.items():
        if known == wanted and cluster.status.name == "running":
            return address
    end_local_cluster()
    settings = {
        "distributed.scheduler.allowed-failures": 0,  # --retries counts them
        "distributed.worker.daemon": False,  # a training on several devices has children
    }
    quiet, here = logging.CRITICAL, "127.0.0.1"
    workers = {}
    for index, (environment, has_device) in enumerate(seats):
        is_slot = has_device and runtime.device_kind() == "cuda"
        workers[index] = {
            "cls": Nanny,
            "options": {
                "nthreads": 1,
                "memory_limit": 0,
                "host": here,
                "env": dict(environment),
                "resources": {DEVICE: 1 / options.stages_per_device} if is_slot else {},
                "silence_logs": quiet,
            },
        }
    scheduler = {"cls": Scheduler, "options": {"host": here, "dashboard": False}}
    with dask.config.set(settings), held_back(STOPS):
        cluster = SpecCluster(workers, scheduler, silence_logs=quiet)
    address = str(cluster.scheduler_address)
    _OWN[address] = wanted, cluster
    return address


def end_local_cluster() -> None:
    """End the processes of a cluster that was started here."""
    while _OWN:
        _, (_, cluster) = _OWN.popitem()
        cluster.close()


def sees(mark: Path) -> tuple[str, bool]:
    """Return a worker's melssl, and whether it sees a file of the vault."""
    return fingerprint(), mark.exists()


def _connected(address: str, seconds: float) -> Client:
    from distributed import Client

    try:
        with held_back(STOPS):
            return Client(address, timeout=seconds, set_as_default=False)
    except (OSError, TimeoutError, ValueError) as error:
        raise ArtifactError(
            f"no Dask scheduler answers at {address} ({error}); start one (dask scheduler) or name"
            " another: --scheduler tcp://host:8786"
        ) from None


def checked(client: Client, address: str, options: RunOptions) -> bool:
    """Refuse a cluster that cannot do the work; say whether its workers declare GPUs."""
    try:
        client.wait_for_workers(1, timeout=START_SECONDS)
    except TimeoutError:
        raise ArtifactError(
            f"the Dask scheduler {address} has no worker after {START_SECONDS:.0f} s; start some:"
            f" dask worker {address} --nworkers 4 --nthreads 1"
        ) from None
    workers = client.scheduler_info(n_workers=-1)["workers"]
    mark = options.vault / f".seen-{secrets.token_hex(4)}"
    mark.parent.mkdir(parents=True, exist_ok=True)
    mark.touch()
    try:
        said = client.run(sees, mark, on_error="return")
    finally:
        mark.unlink()
    faults = []
    for name, worker in workers.items():
        faults += [f"worker {name}: {fault}" for fault in _faults(said.get(name), worker, options)]
    has_slots = any(DEVICE in worker["resources"] for worker in workers.values())
    if options.device.startswith("cuda") and not has_slots:
        faults.append("no worker declares a GPU; start them with --resources GPU=1")
    if faults:
        raise ArtifactError(f"the Dask cluster {address} cannot do this work:\n{listed(faults)}")
    return has_slots


def _faults(said: object, worker: dict[str, object], options: RunOptions) -> list[str]:
    if not isinstance(said, tuple):
        return [f"cannot import melssl and ablations ({said!r}); start it from this folder"]
    theirs, is_seen = said
    faults = []
    if theirs != fingerprint():
        faults.append(
            f"has another melssl or other libraries ({theirs}, here {fingerprint()}); start it"
            " from this folder and environment"
        )
    if not is_seen:
        faults.append(
            f"does not see the vault {options.vault}; put it on a file system that all machines"
            " have at that path (--vault)"
        )
    if worker["nthreads"] != 1:
        faults.append(
            f"has {worker['nthreads']} threads, which would share one random state; start more"
            " processes instead: --nworkers 4 --nthreads 1"
        )
    return faults


def _ended(future: Future[list[Outcome]], job: Job) -> Ended:
    from distributed import KilledWorker

    if future.status == "finished":
        return Ended(job=job, outcomes=future.result())
    if future.status != "error":
        return Ended(job=job, outcomes=None)
    error = future.exception()
    if isinstance(error, KilledWorker):
        return Ended(job=job, outcomes=None, deaths=1 + error.allowed_failures)
    assert error is not None
    raise error


def _close(client: Client) -> None:
    with suppress(OSError, TimeoutError):
        client.close(timeout=2)
