"""What a worker process does: run stages one after another and leave each in the vault."""

from __future__ import annotations

import faulthandler
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

from ablations.origin import environment, fingerprint
from ablations.preparations import Preparations
from ablations.vault import Vault
from melssl.artifacts import Place
from melssl.errors import ArtifactError, Interrupted, MelsslError
from melssl.pipeline import execute
from melssl.settings import Json
from melssl.stages import Kind, Stage
from melssl.training.devices import Runtime
from melssl.workload import workload

PROGRESS, OVERDUE = "progress.json", "overdue.txt"
REPORT_SECONDS = 1.0


class OutOfMemory(MelsslError):  # noqa: N818  # recorded as a stage's reason
    """A stage asked for more memory than there was; its process lives on."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """Stages for one worker, in order; ``runtime`` says on what.

    A stage that takes longer than ``limit_seconds`` ends the process. ``stop`` is a file that asks
    the job to end when it appears. ``origin`` is the code that the worker must have.
    """

    stages: tuple[Stage, ...]
    vault: Path
    runtime: Runtime
    needs_device: bool = True
    limit_seconds: float | None = None
    stop: Path | None = None
    origin: str = ""

    def on_processor(self) -> Job:
        """Return the job without a device."""
        return replace(self, runtime=self.runtime.replace(device="cpu", n_devices=1))

    @property
    def is_stopped(self) -> bool:
        """Whether it was asked to end."""
        return self.stop is not None and self.stop.exists()


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How a stage ended; ``reason`` is None where it has a result."""

    kind: Kind
    key: str
    seconds: float
    reason: str | None


def run_job(job: Job) -> list[Outcome]:
    """Run a job's stages; an error costs its stage, is recorded, and the rest goes on.

    A job that is asked to stop saves what it trains and returns what has ended.

    Raises:
        ArtifactError: this worker's melssl is not the one that made the job.

    """
    if job.origin not in ("", fingerprint()):
        raise ArtifactError(
            f"this worker has another melssl or other libraries ({fingerprint()}) than the one that"
            f" made the job ({job.origin}); start it from the same folder and environment"
        )
    vault, outcomes = Vault(job.vault), list[Outcome]()
    for stage in job.stages:
        if job.is_stopped:
            break
        try:
            outcomes.append(_run_stage(stage, vault, job))
        except Interrupted:
            break
    return outcomes


def _run_stage(stage: Stage, vault: Vault, job: Job) -> Outcome:
    started = time.monotonic()
    reason = None
    with vault.claimed(stage.kind, stage.key):
        if not vault.has(stage.kind, stage.key):
            try:
                with _limited(vault.work(stage.kind, stage.key) / OVERDUE, job.limit_seconds):
                    _produce(stage, vault, job)
            except Exception as error:
                if job.is_stopped:  # the processes of a training that stops end in many ways
                    raise Interrupted from None
                reason = vault.fail(stage, _explained(error)).reason
    seconds = time.monotonic() - started
    return Outcome(kind=stage.kind, key=stage.key, seconds=seconds, reason=reason)


@contextmanager
def _limited(report: Path, seconds: float | None) -> Iterator[None]:
    """End the process after ``seconds``, leaving in ``report`` where it stood then.

    The clock is a thread without Python: it also ends what holds the interpreter for ever.
    """
    if seconds is None:
        yield
        return
    report.parent.mkdir(parents=True, exist_ok=True)
    with report.open("w") as file:
        faulthandler.dump_traceback_later(seconds, exit=True, file=file)
        try:
            yield
        finally:
            faulthandler.cancel_dump_traceback_later()
    report.unlink(missing_ok=True)


def _explained(error: Exception) -> Exception:
    """Return the error, or one that says what to do where memory ran out."""
    text = str(error).lower()
    if not isinstance(error, MemoryError) and not (
        isinstance(error, RuntimeError) and ("out of memory" in text or "allocate memory" in text)
    ):
        return error
    explained = OutOfMemory(
        f"memory ran out ({' '.join(str(error).split())[:200] or type(error).__name__}); use a"
        " smaller pretraining.batch_size or image_px, or fewer --workers beside each other"
    )
    explained.__cause__ = error
    return explained


def _produce(stage: Stage, vault: Vault, job: Job) -> None:
    runtime = job.runtime
    inputs: dict[Kind, Path] = {}
    for kind, key in stage.needs:
        if not vault.has(kind, key):
            failure = vault.failure(kind, key)
            why = f"which failed: {failure.reason}" if failure else "which is not finished"
            raise ArtifactError(f"needs {kind} {key}, {why}")
        inputs[kind] = vault.whole(kind, key)
    prepared = _preparations(vault.root).of(stage.spec, stage.unseen)
    work = vault.work(stage.kind, stage.key)  # made by the first who leaves something there
    load = workload(stage, prepared)
    facts: dict[str, Json] = {
        "signature": load.signature,
        "units": load.units,
        "runtime": runtime.plain(),
        "environment": environment(),
    }

    def write(out: Path) -> None:
        listen = _Reporter(work / PROGRESS, job.stop)
        execute(
            stage,
            prepared,
            Place(inputs=inputs, out=out, work=work, runtime=runtime, listen=listen),
        )

    vault.put(stage, write, facts)


@lru_cache(maxsize=1)
def _preparations(root: Path) -> Preparations:
    return Preparations(root)


class _Reporter:
    """Tells the main process how far a training is, once a second, and hears whether to stop."""

    def __init__(self, path: Path, stop: Path | None) -> None:
        self._path, self._stop = path, stop
        self._last = time.monotonic()

    def __call__(self, step: int, total: int, loss: float) -> None:
        if self._stop is not None and self._stop.exists():
            raise Interrupted
        now = time.monotonic()
        if now - self._last >= REPORT_SECONDS:
            self._last = now
            self._path.parent.mkdir(parents=True, exist_ok=True)
            part = self._path.with_suffix(".part")
            part.write_text(json.dumps({"step": step, "total": total, "loss": loss}))
            part.replace(self._path)
