"""The hunt: takes suggestions, one to a worker, and runs what they need, beside other processes."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import FrozenTrial, TrialState, create_trial

from ablations.options import RunOptions
from ablations.preparations import Preparations
from ablations.run import runtime_of, surviving
from ablations.searching.attempt import Attempt, Needs
from ablations.searching.board import AFTER, PLACE, Board
from ablations.searching.crew import crew_of
from ablations.searching.design import Search
from ablations.searching.rounds import Rounds
from ablations.vault import Vault
from ablations.workers import Job

POLL_SECONDS = 1.0


class Hunt:
    """Works at a search together with whoever else does: one suggestion to a worker, in waves.

    ``size`` suggestions make a round, by default as many as there are workers. Nothing of a round
    is drawn or pruned by what ends within it.
    """

    def __init__(
        self,
        search: Search,
        study: optuna.Study,
        preparations: Preparations,
        options: RunOptions,
        folder: Path,
        size: int,
    ) -> None:
        self._search, self._study, self._preparations = search, study, preparations
        self._options, self._vault, self._size = options, Vault(options.vault), size
        self._crew, self._rounds = crew_of(folder, study), Rounds(search)
        self._live: dict[int, tuple[optuna.Trial, Needs, Job]] = {}

    def trials(self) -> Iterator[FrozenTrial]:
        """Yield what this process ends, until ``n_trials`` have ended in this one and others."""
        with self._crew:
            try:
                while not self._all_ended():
                    while len(self._live) < self._options.workers and (trial := self._take()):
                        yield from self._advanced(trial, self._begun(trial))
                    if self._live:
                        self._wave()
                        for trial, needs, _ in list(self._live.values()):
                            yield from self._advanced(trial, needs)
                    elif not self._all_ended():
                        time.sleep(POLL_SECONDS)  # others hold what is left of this round
            finally:
                for trial, _, _ in self._live.values():  # whoever goes on need not wait for it
                    self._study.tell(trial, state=TrialState.FAIL, skip_if_finished=True)

    def _wave(self) -> None:
        jobs = [job for _, _, job in self._live.values()]
        with closing(surviving(jobs, self._vault, self._options)) as outcomes:
            for _ in outcomes:
                pass  # a stage ends in the vault, and is read there

    def _board(self) -> Board:
        return Board(self._study.get_trials(deepcopy=False))

    def _all_ended(self) -> bool:
        return self._board().first_open() >= self._search.n_trials

    def _take(self) -> optuna.Trial | None:
        """Take a suggestion of the round that is open; None where nothing is left of it."""
        with self._crew.turn():
            self._release()
            last = self._fill()
            board = self._board()
            for waiting in board.waiting(last):
                if board.is_double(waiting):
                    self._set(waiting, TrialState.FAIL)
                    continue
                self._crew.sign(waiting)
                if self._set(waiting, TrialState.RUNNING):
                    return optuna.Trial(self._study, waiting._trial_id)
                self._crew.let_go(waiting._trial_id)
        return None

    def _release(self) -> None:
        """End the trials of dead processes, so that their places are open again."""
        for trial in self._crew.abandoned(self._study):
            self._set(trial, TrialState.FAIL)

    def _fill(self) -> int:
        """Put up what the open round lacks; return the place where it ends."""
        board, n_trials = self._board(), self._search.n_trials
        first_open = board.first_open()
        first = first_open - first_open % self._size
        last = min(first + self._size, n_trials)
        for place in board.open_places(first, last):
            earlier = board.earlier(first)
            params = self._rounds.params(place, self._size, earlier)
            waiting = create_trial(
                state=TrialState.WAITING,
                params=params,
                distributions=self._rounds.distributions,
                user_attrs={PLACE: place, AFTER: first},
            )
            self._study.add_trial(waiting)
        return last

    def _set(self, trial: FrozenTrial, state: TrialState) -> bool:
        """Change a trial's state unless another process was quicker; say whether it was ours."""
        try:
            return bool(self._study._storage.set_trial_state_values(trial._trial_id, state=state))
        except UpdateFinishedTrialError:
            return False

    def _begun(self, trial: optuna.Trial) -> Needs:
        earlier = self._board().earlier(trial.user_attrs[AFTER])
        return Attempt(self._search, self._study, trial, self._rounds, earlier).needs(
            self._preparations, self._vault
        )

    def _advanced(self, trial: optuna.Trial, needs: Needs) -> Iterator[FrozenTrial]:
        """Take an attempt to its next job, or yield its trial where it has ended."""
        try:
            stages = next(needs)
            job = Job(stages=stages, vault=self._vault.root, runtime=runtime_of(self._options))
            self._live[trial.number] = trial, needs, job
            return
        except (StopIteration, UpdateFinishedTrialError):
            pass  # the latter: it was given up for dead, and another process has it
        self._live.pop(trial.number, None)
        self._crew.let_go(trial._trial_id)
        ended = {t.number: t for t in self._board().ended()}
        if trial.number in ended:
            yield ended[trial.number]
