"""The crew: which processes are at a search, and whose trials a dead one has left."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from contextlib import AbstractContextManager, ExitStack, nullcontext
from pathlib import Path
from types import TracebackType
from typing import Self

import optuna
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.exc import SQLAlchemyError

from ablations.bounded import held, locked
from ablations.searching.storage import HEARTBEAT_SECONDS
from melssl.files import own_name

HOLDER, LOCK, AT_WORK = "holder", "search.lock", "at_work"
TURN_SECONDS = 120.0


class Crew(ABC):
    """Those who work at one search, of whom this process is one while the context lasts."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.leave()

    @abstractmethod
    def turn(self) -> AbstractContextManager[None]:
        """Return a context in which no other process of this host takes a trial."""

    @abstractmethod
    def sign(self, trial: FrozenTrial) -> None:
        """Say that this process holds a trial, from before it is taken."""

    @abstractmethod
    def let_go(self, trial_id: int) -> None:
        """Say that this process holds a trial no more."""

    @abstractmethod
    def abandoned(self, study: optuna.Study) -> list[FrozenTrial]:
        """Return the running trials whose process is dead."""

    @abstractmethod
    def leave(self) -> None:
        """End this process's part."""


class OneHost(Crew):
    """Processes of one host: each locks a file, which the kernel unlocks when it dies."""

    def __init__(self, folder: Path, storage: BaseStorage) -> None:
        self._folder, self._storage = folder, storage
        self._name, self._stack = own_name(), ExitStack()
        (folder / AT_WORK).mkdir(parents=True, exist_ok=True)
        file = held(folder / AT_WORK / self._name, wait=True)
        assert file is not None
        self._stack.enter_context(file)

    def turn(self) -> AbstractContextManager[None]:
        """Lock the folder."""
        return locked(self._folder / LOCK, TURN_SECONDS)

    def sign(self, trial: FrozenTrial) -> None:
        """Write this process's name to the trial."""
        self._storage.set_trial_user_attr(trial._trial_id, HOLDER, self._name)

    def let_go(self, trial_id: int) -> None:
        """Do nothing: the trial has ended."""

    def abandoned(self, study: optuna.Study) -> list[FrozenTrial]:
        """Return the trials whose holder's file can be locked, or is gone."""
        names = [path.name for path in (self._folder / AT_WORK).iterdir()]
        living = {name for name in names if name == self._name or self._is_alive(name)}
        running = study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
        return [trial for trial in running if trial.user_attrs.get(HOLDER) not in living]

    def leave(self) -> None:
        """Remove this process's file."""
        (self._folder / AT_WORK / self._name).unlink(missing_ok=True)
        self._stack.close()

    def _is_alive(self, name: str) -> bool:
        path = self._folder / AT_WORK / name
        file = held(path, wait=False)
        if file is None:
            return True
        with file:
            path.unlink(missing_ok=True)
        return False


class ManyHosts(Crew):
    """Processes of several hosts: each tells the database now and then that it lives."""

    def __init__(self, storage: BaseStorage) -> None:
        self._storage = storage
        self._mine: set[int] = set()
        self._over = threading.Event()
        # a daemon: whatever ends this process, a thread must not keep its trials alive
        threading.Thread(target=self._beat, name="heartbeat", daemon=True).start()

    def turn(self) -> AbstractContextManager[None]:
        """Do nothing: taking a trial is one transaction."""
        return nullcontext()

    def sign(self, trial: FrozenTrial) -> None:
        """Begin to beat for the trial."""
        self._storage.record_heartbeat(trial._trial_id)
        self._mine.add(trial._trial_id)

    def let_go(self, trial_id: int) -> None:
        """Beat no more."""
        self._mine.discard(trial_id)

    def abandoned(self, study: optuna.Study) -> list[FrozenTrial]:
        """Return the trials that nobody has beaten for during the grace period."""
        stale = set(self._storage._get_stale_trial_ids(study._study_id))
        running = study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
        return [trial for trial in running if trial._trial_id in stale]

    def leave(self) -> None:
        """Stop beating."""
        self._over.set()

    def _beat(self) -> None:
        while not self._over.wait(HEARTBEAT_SECONDS):
            for trial_id in tuple(self._mine):
                try:
                    self._storage.record_heartbeat(trial_id)
                except SQLAlchemyError:  # the next beat may find the server again
                    break


def crew_of(folder: Path, study: optuna.Study) -> Crew:
    """Return the crew of a study; ``folder`` is the host's place for it."""
    storage = study._storage
    if isinstance(storage, optuna.storages.JournalStorage):
        return OneHost(folder, storage)
    return ManyHosts(storage)
