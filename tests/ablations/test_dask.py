"""A study on Dask: the numbers of one process, whatever happens to workers and scheduler."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ablations.backends import open_backend
from ablations.cost import Estimate
from ablations.design import Study
from ablations.options import ROOT, RunOptions
from ablations.origin import fingerprint
from ablations.plan import Plan, make_plan
from ablations.preparations import Preparations
from ablations.run import run_plan
from ablations.vault import Vault
from ablations.workers import Job, Outcome, run_job
from melssl.artifacts import PREDICTIONS
from melssl.errors import ArtifactError, SpecError
from melssl.evaluation.predictions import Predictions
from melssl.training.devices import Runtime

pytest.importorskip("distributed", reason="the extra `cluster` is not installed")

from ablations.backends.dask import checked

Make = Callable[..., RunOptions]
ALIVE = 300.0


class Cluster:
    """A scheduler and two workers, each a process of the command line."""

    def __init__(self, folder: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.address = f"tcp://127.0.0.1:{self.port}"
        self.folder, self.started = folder, list[subprocess.Popen[bytes]]()

    def start(self, n_workers: int) -> None:
        """Start a scheduler and its workers."""
        own = ("--host", "127.0.0.1", "--no-dashboard")
        self._start("scheduler", *own, "--port", str(self.port))
        for _ in range(n_workers):
            self._start(
                "worker",
                self.address,
                *own,
                "--nthreads",
                "1",
                "--no-nanny",
                "--death-timeout",
                "60",
            )

    def lose_scheduler(self) -> None:
        """Kill the scheduler, at which its workers end; start others at the same address."""
        self.started[0].kill()
        self.started[0].wait()
        self.start(n_workers=1)

    def stop(self) -> None:
        """Kill all."""
        for process in self.started:
            process.kill()
            process.wait()
        self.started.clear()

    def _start(self, *arguments: str) -> None:
        own = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
        log = (self.folder / "log").open("ab")
        with log:
            self.started.append(
                subprocess.Popen(
                    [sys.executable, "-m", "dask", *arguments], cwd=self.folder, env=own,
                    stdout=log, stderr=log,
                )
            )  # fmt: skip


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    folder = tmp_path / "cluster"
    folder.mkdir()
    made = Cluster(folder)
    made.start(n_workers=2)
    yield made
    made.stop()


def planned(study: Study, options: RunOptions) -> tuple[Plan, Vault]:
    vault = Vault(options.vault)
    return make_plan(study, Preparations(vault.root), vault), vault


def run(plan: Plan, vault: Vault, options: RunOptions, told: Callable[[Outcome], None]) -> None:
    run_plan(plan, vault, options, Estimate(seconds={}, basis={}, per_stage={}), told)


def same_numbers(plan: Plan, one: Vault, other: Vault) -> bool:
    pairs = [
        [Predictions.load(v.folder("adapt", key) / PREDICTIONS).probability for v in (one, other)]
        for key in {planned.key for planned in plan.trials}
    ]
    return all(np.array_equal(first, second) for first, second in pairs)


def stalling_job(job: Job) -> list[Outcome]:
    """Run a job in a worker whose first pretraining stalls after two steps, to be killed there."""
    import os
    import time

    import melssl.pipeline as pipeline
    from ablations.workers import run_job

    mark = job.vault / "stalled"
    whole = pipeline.fit

    def stalls(*given, listen, **named):  # type: ignore[no-untyped-def]
        def told(step: int, total: int, loss: float) -> None:
            if step >= 2 and not mark.exists():
                mark.with_suffix(".part").write_text(str(os.getpid()))
                mark.with_suffix(".part").rename(mark)
                time.sleep(600)

        return whole(*given, listen=told, **named)

    pipeline.fit = stalls
    try:
        return run_job(job)
    finally:
        pipeline.fit = whole


def kill_who_stalls(mark: Path) -> None:
    until = time.monotonic() + ALIVE
    while not mark.exists() and time.monotonic() < until:
        time.sleep(0.05)
    os.kill(int(mark.read_text()), signal.SIGKILL)


def test_a_killed_worker_and_a_restarted_scheduler_change_no_number(
    tiny_study: Study, options: Make, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = options()
    plan, reference = planned(tiny_study, alone)
    run(plan, reference, alone, lambda outcome: None)
    there = replace(
        options("dask"), vault=alone.vault.with_name("other"), scheduler=cluster.address, retries=9
    )
    plan, vault = planned(tiny_study, there)
    monkeypatch.setattr("ablations.backends.dask.run_job", stalling_job)
    mark = vault.root / "stalled"
    killer = threading.Thread(target=kill_who_stalls, args=(mark,))
    killer.start()
    told: list[Outcome] = []

    def ended(outcome: Outcome) -> None:
        told.append(outcome)
        if outcome.kind == "embed" and len(cluster.started) == 3:
            cluster.lose_scheduler()

    run(plan, vault, there, ended)
    killer.join()
    assert len(cluster.started) == 5
    assert all(outcome.reason is None for outcome in told)
    assert len({outcome.key for outcome in told if outcome.kind == "adapt"}) == 12
    assert same_numbers(plan, reference, vault)


class Answers:
    """A client of a cluster whose one worker says and has what it is told to."""

    def __init__(self, said: object, n_threads: int = 1, **resources: float) -> None:
        self._said = said
        self._worker = {"nthreads": n_threads, "resources": resources}

    def wait_for_workers(self, n: int, timeout: float) -> None:
        assert n == 1

    def scheduler_info(self, n_workers: int) -> dict[str, object]:
        return {"workers": {"tcp://there": self._worker}}

    def run(self, function: object, mark: Path, on_error: str) -> dict[str, object]:
        assert mark.exists()
        return {"tcp://there": self._said}


@pytest.mark.parametrize(
    ("client", "told"),
    [
        (Answers(("other", True)), "another melssl.*start it from this folder"),
        (Answers((fingerprint(), False)), "does not see the vault.*file system"),
        (Answers((fingerprint(), True), n_threads=4), "4 threads.*--nthreads 1"),
        (Answers(ImportError("no melssl")), "cannot import melssl"),
    ],
)
def test_a_cluster_that_cannot_do_the_work_is_refused_before_anything_trains(
    client: Answers, told: str, options: Make
) -> None:
    with pytest.raises(ArtifactError, match=told):
        checked(client, "tcp://there:8786", options("dask"))
    assert list(options().vault.iterdir()) == []


def test_gpus_are_wanted_of_a_cluster_that_declares_some(options: Make) -> None:
    on_gpus = replace(options("dask"), device="cuda")
    with pytest.raises(ArtifactError, match="--resources GPU=1"):
        checked(Answers((fingerprint(), True)), "tcp://there:8786", on_gpus)
    assert checked(Answers((fingerprint(), True), GPU=1), "tcp://there:8786", on_gpus)


def test_without_the_extra_the_error_says_how_to_install_it(
    options: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ablations.backends.dask.find_spec", lambda name: None)
    with pytest.raises(SpecError, match=r"cluster"):
        open_backend(options("dask"), Runtime(device="cpu"))


def test_a_job_of_another_melssl_is_refused_by_the_worker(options: Make) -> None:
    job = Job(stages=(), vault=options().vault, runtime=Runtime(device="cpu"), origin="other")
    with pytest.raises(ArtifactError, match="another melssl"):
        run_job(job)


def test_the_shipped_slurm_settings_make_a_job_of_one_worker_with_one_thread() -> None:
    pytest.importorskip("dask_jobqueue", reason="the extra `cluster` is not installed")
    from study.cluster import SETTINGS, slurm_cluster

    cluster = slurm_cluster(SETTINGS)
    try:
        script = cluster.job_script()
    finally:
        cluster.close()
    for line in ("#SBATCH --cpus-per-task=4", "#SBATCH -t 12:00:00", f"cd {ROOT}"):
        assert line in script.splitlines()
    assert f"{sys.executable} -m distributed.cli.dask_worker" in script
    assert "--nthreads 1" in script


def test_an_unknown_slurm_setting_is_named(tmp_path: Path) -> None:
    pytest.importorskip("dask_jobqueue", reason="the extra `cluster` is not installed")
    from study.cluster import slurm_cluster

    path = tmp_path / "mine.yaml"
    path.write_text("jobqueue:\n  slurm:\n    partition: gpu\n")
    with pytest.raises(SpecError, match=r"partition unknown; known: .*queue"):
        slurm_cluster(path)
