"""The MLflow ledger: a mirror of the vault that never stops a study and can be written later."""

from __future__ import annotations

import logging
import math
import os
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from ablations.bounded import locked, within
from ablations.tracking import (
    KEY_TAG,
    KIND_TAG,
    MAX_PARAM,
    MAX_TAG,
    STUDY_TAG,
    Point,
    TrialRecord,
    default_uri,
    faults,
    safe_name,
    safe_names,
    safe_values,
    scores,
    sqlite_file,
    sqlite_uri,
    ui_command,
    without_password,
)

__all__ = ["Ledger", "ParentRun", "TrialRecord", "default_uri", "safe_name", "ui_command"]

SYNC_COMMAND = "python -m ablations ledger sync"
FIRST_START_S = 120.0  # others may be creating the database at this moment
MIRROR_PATIENCE_S = 120.0
FREE_S = 0.5  # what a call takes beyond this is charged to the allowance
# Set where the user has not: by default a dead server blocks for 246 s and usage is reported.
ENVIRONMENT = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "3",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_ALLOW_FILE_STORE": "true",
    "MLFLOW_LOGGING_LEVEL": "CRITICAL",
}
Result = TypeVar("Result")
log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class ParentRun:
    """The run of one invocation; ``ours`` is False where ``mlflow run`` made it and will end it."""

    run_id: str
    experiment_id: str
    ours: bool


class Ledger:
    """One study in one tracking store, written by the main process only.

    The vault is the truth, so nothing here raises: the first failure is logged once and kept in
    ``trouble``; from then on every method returns False, None or nothing at once. One call may
    take ``patience_s``, and what calls take beyond 0.5 s may add up to ``allowance_s``.
    """

    def __init__(
        self,
        uri: str,
        study: str,
        artifact_root: Path | None = None,
        *,
        patience_s: float = 8.0,
        allowance_s: float = 30.0,
    ) -> None:
        self.trouble: str | None = None
        self._uri, self._study = uri, safe_name(study)
        self._artifact_root = artifact_root and artifact_root.resolve()
        self._patience_s, self._allowance_s = patience_s, allowance_s
        self._client: Any = None
        self._database: Path | None = None
        self._homes: list[str] = []

    def prepare(self) -> None:
        """Import MLflow, which silences warnings of the whole process, before threads begin."""
        try:
            _import_mlflow()
        except Exception as error:
            self._give_up(f"{type(error).__name__}: {error}")

    def parent(self, params: Mapping[str, str], tags: Mapping[str, str]) -> ParentRun | None:
        """Start this invocation's run, or take over the one that ``mlflow run`` has started."""
        return self._attempt(lambda: self._start(params, tags))

    def record(self, parent: ParentRun | None, trial: TrialRecord) -> bool:
        """Write a trial below ``parent`` unless it is there; a success replaces a failure.

        Returns whether the store holds the trial now.
        """
        return parent is not None and bool(self._attempt(lambda: self._write(parent, trial)))

    def finish(
        self,
        parent: ParentRun | None,
        metrics: Mapping[str, float],
        artifacts: Sequence[Path] = (),
        status: str = "FINISHED",
    ) -> bool:
        """Log the aggregates and end ``parent`` as FINISHED, FAILED or KILLED; say if it worked."""
        return parent is not None and bool(
            self._attempt(lambda: self._end(parent, scores(metrics), artifacts, status))
        )

    def held(self) -> dict[str, str]:
        """Return the status, FINISHED or FAILED, of every trial in the store, by one search."""
        runs = self._attempt(lambda: list(self._search())) or []
        failed = {key: status for key, _, status in runs if status == "FAILED"}
        return failed | {key: status for key, _, status in runs if status == "FINISHED"}

    def mirror(
        self,
        trials: Iterable[TrialRecord],
        *,
        params: Mapping[str, str],
        tags: Mapping[str, str],
        metrics: Mapping[str, float],
        artifacts: Sequence[Path] = (),
    ) -> int:
        """Write the trials that the store lacks below one new parent; return how many.

        Where nothing is missing nothing is written, no parent either. Nobody's training waits
        here, so a slow store gets its time.
        """
        self._patience_s, self._allowance_s = MIRROR_PATIENCE_S, math.inf
        held, parent, written = self.held(), None, 0
        for trial in trials:
            if self.trouble is None and not trial.told_by(held.get(trial.key)):
                parent = parent or self.parent(params, tags)
                written += self.record(parent, trial)
        self.finish(parent, metrics, artifacts)
        return written

    def _attempt(self, action: Callable[[], Result]) -> Result | None:
        if self.trouble is not None:
            return None
        try:
            self._open()
            started = time.monotonic()
            result = within(self._patience_s, action)
            self._allowance_s -= max(0.0, time.monotonic() - started - FREE_S)
        except Exception as error:  # whatever fails in a mirror, the study goes on
            self._give_up(f"{type(error).__name__}: {error}")
            return None
        if self._allowance_s < 0:
            self._give_up("it answers too slowly for a study to wait")
        return result

    def _give_up(self, reason: str) -> None:
        self.trouble = without_password(" ".join(reason.split())[:240])
        text = "MLflow at %s is left out from here on: %s. Nothing is lost; mirror later with: %s"
        log.warning(text, without_password(self._uri), self.trouble, SYNC_COMMAND)

    def _open(self) -> None:
        if self._client is not None:
            return
        mlflow = _import_mlflow()
        self._database = sqlite_file(self._uri)
        if self._database is not None:
            self._artifact_root = self._artifact_root or self._database.parent / "mlartifacts"
            _create_database(self._database, self._artifact_root)
        self._client = within(self._patience_s, lambda: mlflow.MlflowClient(self._uri))

    def _start(self, params: Mapping[str, str], tags: Mapping[str, str]) -> ParentRun:
        params = safe_values(params, MAX_PARAM)
        tags = {STUDY_TAG: self._study, KIND_TAG: "parent"} | safe_values(tags, MAX_TAG)
        run = adopted = self._run_of_mlflow()
        if adopted is None:
            name = f"{self._study} {time.strftime('%Y-%m-%d %H:%M:%S')}"
            run = self._client.create_run(self._experiment(), tags=tags, run_name=name)
        else:  # what `mlflow run` logged is fixed: a resolved value gets its own name beside it
            there = adopted.data.params
            params = {n if there.get(n, v) == v else f"resolved.{n}": v for n, v in params.items()}
            params = {name: value for name, value in params.items() if name not in there}
        home = run.info.experiment_id
        self._client.set_experiment_tag(home, f"{STUDY_TAG}.{self._study}", "yes")
        self._homes = []
        self._log(run.info.run_id, params=params, tags=tags if adopted else {})
        return ParentRun(run_id=run.info.run_id, experiment_id=home, ours=adopted is None)

    def _run_of_mlflow(self) -> Any:
        from mlflow.exceptions import MlflowException

        run_id = os.environ.get("MLFLOW_RUN_ID")
        try:
            return self._client.get_run(run_id) if run_id else None
        except MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":  # a run of some other store
                return None
            raise

    def _experiment(self) -> str:
        from mlflow.exceptions import MlflowException

        home = (self._artifact_root / self._study).as_uri() if self._artifact_root else None
        try:
            return str(self._client.create_experiment(self._study, artifact_location=home))
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
            return str(self._client.get_experiment_by_name(self._study).experiment_id)

    def _search(self, condition: str = "") -> Iterator[tuple[str, str, str]]:
        """Yield key, run id and status of this study's trials, wherever ``mlflow run`` put them."""
        if not self._homes:
            mark = f"tags.`{STUDY_TAG}.{self._study}` = 'yes'"
            homes = self._client.search_experiments(filter_string=mark)
            self._homes = [home.experiment_id for home in homes]
        text = f"tags.`{STUDY_TAG}` = '{self._study}' AND tags.`{KIND_TAG}` = 'trial'{condition}"
        token, more = None, bool(self._homes)
        while more:
            page = self._client.search_runs(self._homes, text, max_results=1000, page_token=token)
            for run in page:
                yield run.data.tags[KEY_TAG], run.info.run_id, run.info.status
            token, more = page.token, bool(page.token)

    def _write(self, parent: ParentRun, trial: TrialRecord) -> bool:
        end_ms = round(trial.finished_at * 1000)
        start_ms = end_ms - round(trial.seconds * 1000)
        tags = trial.labels(self._study) | {"mlflow.parentRunId": parent.run_id}
        with self._turn():  # or two invocations could both find the trial missing
            found = list(self._search(f" AND tags.`{KEY_TAG}` = '{trial.key}'"))
            if any(trial.told_by(status) for _, _, status in found):
                return True
            for _, outdated, _ in found:  # a failure, or left half-written by a kill
                self._client.delete_run(outdated)
            run = self._client.create_run(parent.experiment_id, start_ms, tags, trial.name)
            params = safe_values(trial.params, MAX_PARAM)
            self._log(run.info.run_id, params, trial.points(), trial.artifacts, at_ms=end_ms)
            self._client.set_terminated(run.info.run_id, trial.status, end_ms)
        return True

    def _end(
        self, parent: ParentRun, points: Sequence[Point], artifacts: Sequence[Path], status: str
    ) -> bool:
        tags, now_ms = faults(points, artifacts), round(time.time() * 1000)
        self._log(parent.run_id, {}, points, artifacts, at_ms=now_ms, tags=tags)
        if parent.ours:
            self._client.set_terminated(parent.run_id, status)
        return True

    def _turn(self) -> AbstractContextManager[None]:
        if self._database is None:
            return nullcontext()
        return locked(_lock_file(self._database), self._patience_s)

    def _log(
        self,
        run_id: str,
        params: Mapping[str, str],
        points: Sequence[Point] = (),
        artifacts: Sequence[Path] = (),
        *,
        at_ms: int = 0,
        tags: Mapping[str, str] | None = None,
    ) -> None:
        """Write one batch, which the client splits to the server's limits, then the files."""
        from mlflow.entities import Metric, Param, RunTag

        names = safe_names(name for name, _, _ in points)
        metrics = [Metric(names[n], v, at_ms, step) for n, step, v in points if math.isfinite(v)]
        self._client.log_batch(
            run_id,
            metrics,
            [Param(name, value) for name, value in params.items()],
            [RunTag(name, value) for name, value in (tags or {}).items()],
        )
        for path in artifacts:
            if path.exists():
                self._client.log_artifact(run_id, str(path))


def _import_mlflow() -> Any:
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    warnings.filterwarnings("ignore", module="mlflow|alembic|sqlalchemy")
    import mlflow

    for name in ("mlflow", "alembic", "urllib3.connectionpool"):
        logging.getLogger(name).setLevel(os.environ["MLFLOW_LOGGING_LEVEL"].upper())
    return mlflow


def _lock_file(database: Path) -> Path:
    return database.with_name(f"{database.name}.lock")


def _create_database(database: Path, artifact_root: Path) -> None:
    """Build a fresh database beside its place and rename it there, one process at a time.

    MLflow migrates a fresh file in place: whoever opens it meanwhile breaks it for good, and so
    does a kill.
    """
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    database.parent.mkdir(parents=True, exist_ok=True)
    with locked(_lock_file(database), FIRST_START_S):
        if database.exists() and database.stat().st_size > 0:
            return
        fresh = database.with_name(f"{database.name}.new")
        for leftover in (fresh, fresh.with_name(f"{fresh.name}-journal")):
            leftover.unlink(missing_ok=True)
        store = SqlAlchemyStore(sqlite_uri(fresh), artifact_root.as_uri())
        store.engine.dispose()
        fresh.replace(database)
