"""Seats: which processes a study has here, and who may use a device."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import replace
from types import SimpleNamespace
from typing import ClassVar

import pytest

from ablations.backends.loky import Loky, seats_of
from ablations.design import Study
from ablations.options import RunOptions
from ablations.plan import make_plan
from ablations.preparations import Preparations
from ablations.run import _judges, surviving, uses_device
from ablations.stopping import stoppable
from ablations.vault import Vault
from ablations.workers import Job
from melssl.training.devices import Rank, Runtime

Make = Callable[..., RunOptions]
GPU = "CUDA_VISIBLE_DEVICES"


@pytest.fixture
def four_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Runtime, "device_kind", lambda self: "cuda")
    monkeypatch.setenv(GPU, "4,5,6,7")


def gpus(options: RunOptions, **runtime: object) -> list[str | None]:
    found = seats_of(options, Runtime.parse({"device": "cuda", **runtime}))
    return [dict(environment).get(GPU) if has else None for environment, has in found]


@pytest.mark.usefixtures("four_gpus")
def test_gpus_are_dealt_to_seats_and_the_others_have_none(options: Make) -> None:
    six = options("loky", 6)
    assert gpus(six) == ["4", "5", "6", "7", None, None]
    assert gpus(six, n_devices=2) == ["4,5", "6,7", None, None, None, None]
    assert gpus(replace(six, stages_per_device=2))[3:] == ["7", "4", "5"]
    assert gpus(options("loky", 2)) == ["4", "5"]


@pytest.mark.usefixtures("four_gpus")
def test_what_needs_no_device_leaves_them_to_others(options: Make) -> None:
    backend = Loky(options("loky", 5), Runtime(device="cuda"))
    job = Job(stages=(), vault=options().vault, runtime=Runtime(device="cuda"))
    seat = backend._free(replace(job, needs_device=False))
    assert seat is not None
    assert not seat.has_device
    seat.job = job
    assert backend.has_seat(replace(job, needs_device=False))
    for other in backend._seats:
        other.job = job if other.has_device else None
    assert not backend.has_seat(job)
    assert job.on_processor().runtime.device == "cpu"


def test_on_processors_every_seat_does_everything_with_its_threads(options: Make) -> None:
    found = seats_of(replace(options("loky", 3), threads=2), Runtime(device="cpu"))
    assert [has for _, has in found] == [True] * 3
    assert {dict(environment)["OMP_NUM_THREADS"] for environment, _ in found} == {"2"}


def test_the_probes_of_an_encoder_are_one_job_unless_workers_would_be_idle(
    tiny_study: Study, options: Make
) -> None:
    vault = Vault(options().vault)
    plan = make_plan(tiny_study, Preparations(vault.root, decode=False), vault)
    n_encoders = len({stage.needs for stage in plan.missing("adapt")})
    for n_workers, n_parts in ((1, 1), (n_encoders, 1), (2 * n_encoders, 2)):
        jobs = _judges(plan, n_workers)
        assert len(jobs) == n_encoders * n_parts
        assert all(len({stage.needs for stage in job}) == 1 for job in jobs)
        assert sorted(s.key for job in jobs for s in job) == sorted(
            s.key for s in plan.missing("adapt")
        )
    assert not any(uses_device(stage) for stage in plan.missing("adapt"))
    assert all(uses_device(stage) for stage in plan.missing("embed"))


def test_a_study_that_is_asked_to_stop_starts_nothing_more(
    tiny_study: Study, options: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    vault = Vault(options().vault)
    plan = make_plan(tiny_study, Preparations(vault.root), vault)
    runtime = Runtime(device="cpu")
    jobs = [Job(stages=(s,), vault=vault.root, runtime=runtime) for s in plan.missing("pretrain")]
    outcomes = surviving(jobs, vault, options())
    assert next(outcomes).reason is None
    signal.raise_signal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt):
        list(outcomes)
    assert len(vault.finished("pretrain")) == 1 < len(jobs)
    assert not list(vault.root.glob("work/stop-*"))


def test_a_second_signal_does_not_wait(options: Make) -> None:
    with stoppable(options().vault) as stop:
        signal.raise_signal(signal.SIGINT)
        assert stop.is_asked
        assert stop.path.exists()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


def test_a_death_that_the_executor_did_not_notice_is_seen_at_the_second_look(
    options: Make,
) -> None:
    class Unaware:
        """An executor whose only process is dead, and that still waits for its answer."""

        _executor_manager_thread = threading.main_thread()
        _processes: ClassVar = {1: SimpleNamespace(is_alive=lambda: False)}

        def shutdown(self, **how: bool) -> None:
            self.how = how

    backend = Loky(options("loky", 1), Runtime())
    job = Job(stages=(), vault=options().vault, runtime=Runtime())
    (seat,) = backend._seats
    seat.executor, seat.job, seat.future = Unaware(), job, Future()  # type: ignore[assignment]
    assert not backend.has_seat(job)
    assert backend.wait(0) == []
    (ended,) = backend.wait(0)
    assert (ended.job, ended.outcomes, ended.deaths) == (job, None, 1)
    assert backend.has_seat(job)


def test_a_batch_that_cannot_be_shared_evenly_is_refused() -> None:
    import torch

    from melssl.errors import SpecError

    with pytest.raises(SpecError, match="batch_size"):
        Rank(0, 2, torch.device("cpu")).share(31)
