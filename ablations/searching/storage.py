"""Where a search's trials are kept: a journal file of one host, or a database for several."""

from __future__ import annotations

import fcntl
import logging
import os
import time
import warnings
from pathlib import Path
from typing import IO

import optuna
from optuna.exceptions import ExperimentalWarning
from optuna.samplers import RandomSampler
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend
from optuna.storages.journal._file import BaseJournalFileLock
from sqlalchemy.exc import SQLAlchemyError

from ablations.tracking import without_password
from melssl.errors import ArtifactError

JOURNAL = "search.journal"
HEARTBEAT_SECONDS, GRACE_SECONDS = 30, 150  # a process that is silent for longer counts as dead
FIRST_STARTS = 5  # several may create the tables of a fresh database at this moment


class JournalTurn(BaseJournalFileLock):  # type: ignore[misc]  # Optuna is not checked
    """Whose turn it is to write into a journal; the kernel ends the turn of a dead process.

    Optuna's own lock is a file that a dead writer leaves behind, for which others wait half a
    minute. What a dead writer left half-written is cut first: the next append would make the whole
    journal unreadable.
    """

    def __init__(self, journal: Path) -> None:
        self._journal = journal
        self._file: IO[str] | None = None

    def acquire(self) -> bool:
        """Wait for the turn."""
        self._file = self._journal.with_name(f"{self._journal.name}.turn").open("a")
        fcntl.flock(self._file, fcntl.LOCK_EX)
        mend(self._journal)
        return True

    def release(self) -> None:
        """End the turn."""
        assert self._file is not None
        self._file.close()


def mend(journal: Path) -> None:
    """Cut a last line that was not written to its end."""
    data = journal.read_bytes() if journal.exists() else b""
    whole = data.rfind(b"\n") + 1
    if whole < len(data):
        os.truncate(journal, whole)


def open_study(folder: Path, url: str, name: str, directions: list[str]) -> optuna.Study:
    """Open the study of that name, or begin it, in the database ``url`` or the folder's journal.

    Raises:
        ArtifactError: the journal is damaged beyond its last line, or the database not reached.

    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    journal = folder / JOURNAL
    try:
        return optuna.create_study(
            storage=_database(url) if url else _journal(journal),
            study_name=name,
            sampler=RandomSampler(),  # `Rounds` draws
            directions=directions,
            load_if_exists=True,
        )
    except (ValueError, KeyError) as error:
        if url:
            raise ArtifactError(f"--storage {without_password(url)}: {error}") from None
        raise ArtifactError(
            f"{journal}: cannot be read ({error}); delete it and search again: trainings that "
            "finished are in the vault and cost nothing the second time"
        ) from None
    except (SQLAlchemyError, ImportError) as error:
        reason = without_password(" ".join(str(error).split())[:300])
        raise ArtifactError(
            f"--storage {without_password(url)}: expected a database that SQLAlchemy reaches, such"
            f" as postgresql+psycopg://user@host/name, got {type(error).__name__}: {reason}"
        ) from None


def _journal(journal: Path) -> BaseStorage:
    mend(journal)
    return JournalStorage(JournalFileBackend(str(journal), lock_obj=JournalTurn(journal)))


def _database(url: str) -> BaseStorage:
    """Open a database; of several that create its tables at once, all but one must try again."""
    logging.getLogger("alembic").setLevel(logging.WARNING)
    for left in reversed(range(FIRST_STARTS)):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ExperimentalWarning)
                return RDBStorage(
                    url,
                    engine_kwargs={"pool_pre_ping": True},  # a server that was restarted
                    heartbeat_interval=HEARTBEAT_SECONDS,
                    grace_period=GRACE_SECONDS,
                )
        except SQLAlchemyError:
            if not left:
                raise
            time.sleep(0.2)
    raise AssertionError("unreachable")
