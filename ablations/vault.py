"""Vault: finished stages by key, written once and whole; the source of truth.

<root>/stages/<kind>/<key>/    artifacts and stage.json, which appears with the folder
<root>/failures/<kind>/<key>.json
<root>/work/<kind>-<key>/      what an unfinished stage may take up again; <..>.lock beside it
<root>/cohorts, pixels, folds  what `prepare` made
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from melssl.errors import ArtifactError
from melssl.files import publish, sync, write_atomically
from melssl.settings import Json
from melssl.stages import Kind, Stage

RECORD = "stage.json"


@dataclass(frozen=True)
class Failure:
    """Why a stage has no result: the error's text, where it was raised, and when."""

    reason: str
    trace: str
    at: float


class Vault:
    """Stages on disk. Several processes and invocations may use one vault at the same time."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def folder(self, kind: Kind, key: str) -> Path:
        """Return where a finished stage lies."""
        return self.root / "stages" / kind / key

    def has(self, kind: Kind, key: str) -> bool:
        """Say whether a stage is finished."""
        return (self.folder(kind, key) / RECORD).exists()

    def finished(self, kind: Kind) -> set[str]:
        """Return the keys of all finished stages of a kind, in one look at the folder."""
        folder = self.root / "stages" / kind
        return {entry.name for entry in os.scandir(folder)} if folder.exists() else set()

    def record(self, kind: Kind, key: str) -> dict[str, Json]:
        """Return a finished stage's record: payload, digests, versions, seconds.

        Raises:
            ArtifactError: the record is missing or damaged.

        """
        path = self.folder(kind, key) / RECORD
        try:
            data: dict[str, Json] = json.loads(path.read_text())
        except (OSError, ValueError) as error:
            raise ArtifactError(f"{path}: cannot be read ({error}); delete the folder") from None
        return data

    def work(self, kind: Kind, key: str) -> Path:
        """Return the folder of what an unfinished stage keeps for going on."""
        return self.root / "work" / f"{kind}-{key}"

    @contextmanager
    def claimed(self, kind: Kind, key: str) -> Iterator[None]:
        """Hold a stage for this process; another that wants it waits. Death frees it."""
        path = self._lock(kind, key)
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def put(self, stage: Stage, write: Callable[[Path], None], facts: dict[str, Json]) -> None:
        """Let ``write`` fill a new folder and move it into place when it is whole."""
        final = self.folder(stage.kind, stage.key)
        part = self.root / "parts" / f"{stage.kind}-{stage.key}-{os.getpid()}"
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        try:
            started = time.time()
            write(part)
            record: dict[str, Json] = {
                "kind": stage.kind,
                "key": stage.key,
                "payload": stage.payload,
                "artifacts": {p.name: _sha256(p) for p in sorted(part.iterdir())},
                "seconds": time.time() - started,
                "finished_at": time.time(),
                **facts,
            }
            _write_json(part / RECORD, record)
            for path in (*part.iterdir(), part):
                sync(path)
            final.parent.mkdir(parents=True, exist_ok=True)
            publish(part, final)
        finally:
            shutil.rmtree(part, ignore_errors=True)
        shutil.rmtree(self.work(stage.kind, stage.key), ignore_errors=True)
        self._failure_path(stage.kind, stage.key).unlink(missing_ok=True)
        # safe: whoever waits on the old file, or makes a new one, first looks for the stage
        self._lock(stage.kind, stage.key).unlink(missing_ok=True)

    def fail(self, stage: Stage, error: BaseException) -> Failure:
        """Record why a stage failed; it stays failed until it is run again."""
        lines = "".join(traceback.format_exception(error))
        reason = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        failure = Failure(reason=reason, trace=lines, at=time.time())
        path = self._failure_path(stage.kind, stage.key)
        path.parent.mkdir(parents=True, exist_ok=True)
        _write_json(path, {"reason": reason, "trace": lines, "at": failure.at})
        return failure

    def failure(self, kind: Kind, key: str) -> Failure | None:
        """Return why a stage failed, if it did."""
        path = self._failure_path(kind, key)
        if not path.exists():
            return None
        return Failure(**json.loads(path.read_text()))

    def failures(self, kind: Kind) -> set[str]:
        """Return the keys of all failed stages of a kind."""
        folder = self.root / "failures" / kind
        return {path.stem for path in folder.glob("*.json")} if folder.exists() else set()

    def _lock(self, kind: Kind, key: str) -> Path:
        return self.work(kind, key).with_suffix(".lock")

    def _failure_path(self, kind: Kind, key: str) -> Path:
        return self.root / "failures" / kind / f"{key}.json"


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _write_json(path: Path, data: dict[str, Json]) -> None:
    write_atomically(path, json.dumps(data, indent=1).encode())
