"""What a worker process does: run stages one after another and leave each in the vault."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from ablations.origin import environment
from ablations.preparations import Preparations
from ablations.vault import Vault
from melssl.artifacts import Place
from melssl.errors import ArtifactError
from melssl.pipeline import execute
from melssl.settings import Json
from melssl.stages import Kind, Stage
from melssl.training.devices import Runtime
from melssl.workload import workload

PROGRESS = "progress.json"
REPORT_SECONDS = 1.0


@dataclass(frozen=True, kw_only=True)
class Job:
    """Stages for one worker, in order; ``runtime`` says on what."""

    stages: tuple[Stage, ...]
    vault: Path
    runtime: Runtime


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How a stage ended; ``reason`` is None where it has a result."""

    kind: Kind
    key: str
    seconds: float
    reason: str | None


def run_job(job: Job) -> list[Outcome]:
    """Run a job's stages; an error costs its stage, is recorded, and the rest goes on."""
    vault = Vault(job.vault)
    return [_run_stage(stage, vault, job.runtime) for stage in job.stages]


def _run_stage(stage: Stage, vault: Vault, runtime: Runtime) -> Outcome:
    started = time.monotonic()
    reason = None
    with vault.claimed(stage.kind, stage.key):
        if not vault.has(stage.kind, stage.key):
            try:
                _produce(stage, vault, runtime)
            except Exception as error:
                reason = vault.fail(stage, error).reason
    seconds = time.monotonic() - started
    return Outcome(kind=stage.kind, key=stage.key, seconds=seconds, reason=reason)


def _produce(stage: Stage, vault: Vault, runtime: Runtime) -> None:
    inputs: dict[Kind, Path] = {}
    for kind, key in stage.needs:
        if not vault.has(kind, key):
            failure = vault.failure(kind, key)
            why = f"which failed: {failure.reason}" if failure else "which is not finished"
            raise ArtifactError(f"needs {kind} {key}, {why}")
        inputs[kind] = vault.folder(kind, key)
    prepared = _preparations(vault.root).of(stage.spec)
    work = vault.work(stage.kind, stage.key)
    work.mkdir(parents=True, exist_ok=True)
    load = workload(stage, prepared)
    facts: dict[str, Json] = {
        "signature": load.signature,
        "units": load.units,
        "runtime": runtime.plain(),
        "environment": environment(),
    }

    def write(out: Path) -> None:
        listen = _Reporter(work / PROGRESS)
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
    """Tells the main process how far a training is, by a small file, once a second at most."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._last = 0.0

    def __call__(self, step: int, total: int, loss: float) -> None:
        now = time.monotonic()
        if now - self._last >= REPORT_SECONDS:
            self._last = now
            part = self._path.with_suffix(".part")
            part.write_text(json.dumps({"step": step, "total": total, "loss": loss}))
            part.replace(self._path)
