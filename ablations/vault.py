"""Vault: finished stages by key, written once and whole; the source of truth.

<root>/stages/<kind>/<key>/    artifacts and stage.json, which appears with the folder
<root>/failures/<kind>/<key>.json
<root>/work/<kind>-<key>/      what an unfinished stage may take up again; <..>.lock beside it
<root>/parts/                  what is being written, named by host and process
<root>/damaged/                what was set aside, to be looked at or deleted
<root>/users/                  which studies use the vault
<root>/cohorts, pixels, folds, audits     what `prepare` made
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ablations.bounded import held
from melssl.errors import ArtifactError
from melssl.files import (
    known_sha256,
    own_name,
    publish,
    sha256,
    share_like,
    sync_all,
    write_atomically,
)

if TYPE_CHECKING:  # `status` reads a vault and starts without torch
    from melssl.settings import Json
    from melssl.stages import Kind, Stage

RECORD = "stage.json"
DAMAGED = "damaged"
REPAIR = "set it aside and run again: python -m ablations vault check --repair"


@dataclass(frozen=True)
class Failure:
    """Why a stage has no result: the error's text, where it was raised, and when."""

    reason: str
    trace: str
    at: float


class Vault:
    """Stages on disk. Several processes, hosts and users may use one vault at the same time.

    What this process writes is open to the group if the root is (see ``share_like``).
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        share_like(root)

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
            if not isinstance(data["artifacts"], dict):
                raise TypeError("its artifacts have no digests")
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ArtifactError(f"{path}: cannot be read ({error!r}); {REPAIR}") from None
        return data

    def faults(self, kind: Kind, key: str, *, anew: bool = True) -> list[str]:
        """Return what is wrong with a finished stage; every artifact is read, if asked ``anew``.

        Without, what this process has read before and has not changed since is not read again.
        """
        try:
            stored = self.record(kind, key)["artifacts"]
        except ArtifactError:
            return [f"{RECORD} cannot be read"]
        assert isinstance(stored, dict)
        read, folder, found = sha256 if anew else known_sha256, self.folder(kind, key), []
        for name, expected in stored.items():
            try:
                if read(folder / name) != expected:
                    found.append(f"{name} differs from its digest")
            except OSError as error:
                found.append(f"{name} cannot be read ({error.strerror})")
        return found

    def whole(self, kind: Kind, key: str) -> Path:
        """Return the folder of a finished stage for reading its artifacts.

        Raises:
            ArtifactError: it is damaged; it was set aside, and the next run makes it again.

        """
        if self.faults(kind, key, anew=False):
            with self.claimed(kind, key):  # else another that sees it could move its successor
                if faults := self.faults(kind, key, anew=False):
                    place = self.set_aside(kind, key)
                    raise ArtifactError(
                        f"{kind} {key} is damaged ({'; '.join(faults)}) and was set aside as"
                        f" {place}; the next run makes it again"
                    )
        return self.folder(kind, key)

    def text(self, kind: Kind, key: str, name: str, record: dict[str, Json] | None = None) -> str:
        """Return a text artifact of a finished stage, compared with the digest in its record.

        Raises:
            ArtifactError: it is damaged.

        """
        record = self.record(kind, key) if record is None else record
        path, expected = self.folder(kind, key) / name, record["artifacts"]
        assert isinstance(expected, dict)
        try:
            content = path.read_bytes()
        except OSError as error:
            raise ArtifactError(f"{path}: cannot be read ({error.strerror}); {REPAIR}") from None
        if hashlib.sha256(content).hexdigest() != expected.get(name):
            raise ArtifactError(f"{path}: differs from its digest; {REPAIR}")
        return content.decode()

    def set_aside(self, kind: Kind, key: str) -> Path:
        """Move a claimed stage out of the way; nothing of it is lost. Return where it lies."""
        place = self.root / DAMAGED / f"{kind}-{key}-{own_name()}"
        with self._writing():
            place.parent.mkdir(parents=True, exist_ok=True)
            publish(self.folder(kind, key), place)
        return place

    def work(self, kind: Kind, key: str) -> Path:
        """Return the folder of what an unfinished stage keeps for going on."""
        return self.root / "work" / f"{kind}-{key}"

    @contextmanager
    def claimed(self, kind: Kind, key: str, *, wait: bool = True) -> Iterator[bool]:
        """Hold a stage for this process and yield True; death frees it.

        Another that wants it waits or, without ``wait``, gets False.

        Raises:
            ArtifactError: the vault cannot be written to.

        """
        path = self.work(kind, key).with_suffix(".lock")
        with self._writing():
            path.parent.mkdir(parents=True, exist_ok=True)
            file = held(path, wait=wait)
        if file is None:
            yield False
            return
        with file:
            try:
                yield True
            finally:
                if self.has(kind, key):  # nobody will ask for it again
                    path.unlink(missing_ok=True)

    def put(self, stage: Stage, write: Callable[[Path], None], facts: dict[str, Json]) -> None:
        """Let ``write`` fill a new folder and move it into place when it is whole."""
        part = self.root / "parts" / f"{stage.kind}-{stage.key}-{own_name()}"
        part.mkdir(parents=True)
        try:
            started = time.monotonic()
            write(part)
            record: dict[str, Json] = {
                "kind": stage.kind,
                "key": stage.key,
                "payload": stage.payload,
                "artifacts": {p.name: sha256(p) for p in sorted(part.iterdir())},
                "seconds": time.monotonic() - started,
                "finished_at": time.time(),
                **facts,
            }
            (part / RECORD).write_bytes(_json(record))
            self.publish(part, stage.kind, stage.key)
        finally:
            shutil.rmtree(part, ignore_errors=True)

    def publish(self, part: Path, kind: Kind, key: str) -> None:
        """Move a whole stage into place, unless it came to be there meanwhile."""
        sync_all((*part.iterdir(), part))
        final = self.folder(kind, key)
        final.parent.mkdir(parents=True, exist_ok=True)
        try:
            publish(part, final)
        except OSError:  # where locks do not reach, another host has made the same meanwhile
            if not self.has(kind, key):
                raise
        shutil.rmtree(self.work(kind, key), ignore_errors=True)
        self.failure_path(kind, key).unlink(missing_ok=True)

    def fail(self, stage: Stage, error: BaseException) -> Failure:
        """Record why a stage failed; it stays failed until it is run again.

        Where nothing can be written, as on a full disk, the failure is returned only.
        """
        lines = "".join(traceback.format_exception(error))
        reason = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        failure = Failure(reason=reason, trace=lines, at=time.time())
        path = self.failure_path(stage.kind, stage.key)
        with suppress(OSError):
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(path, _json({"reason": reason, "trace": lines, "at": failure.at}))
        return failure

    def failure(self, kind: Kind, key: str) -> Failure | None:
        """Return why a stage failed, if it did."""
        path = self.failure_path(kind, key)
        try:
            data = json.loads(path.read_text())
            return Failure(reason=str(data["reason"]), trace=str(data["trace"]), at=data["at"])
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError) as error:
            return Failure(reason=f"{path}: cannot be read ({error!r})", trace="", at=0.0)

    def failures(self, kind: Kind) -> set[str]:
        """Return the keys of all failed stages of a kind."""
        folder = self.root / "failures" / kind
        return {path.stem for path in folder.glob("*.json")} if folder.exists() else set()

    def failure_path(self, kind: Kind, key: str) -> Path:
        """Return where a failure is recorded."""
        return self.root / "failures" / kind / f"{key}.json"

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise ArtifactError(
                f"the vault {self.root} cannot be written to ({error.strerror}): make room or ask"
                " for the right to write, or name another: --vault"
            ) from None


def _json(data: dict[str, Json]) -> bytes:
    return json.dumps(data, indent=1).encode()
