"""The board: a search's trials by place; several processes may work at one, in any order.

Suggestion number p of a search has the place p. A trial is one attempt at it: where its process
died, another attempt follows, with the same settings.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from optuna.trial import FrozenTrial, TrialState

PLACE, AFTER, SCORES, REASON = "place", "after", "scores", "reason"
IMAGES, SECONDS = "images", "seconds"


def interrupted(trial: FrozenTrial) -> bool:
    """Say whether a kill ended the trial: whatever fails by itself leaves a reason."""
    return trial.state == TrialState.FAIL and REASON not in trial.user_attrs


def place_of(trial: FrozenTrial) -> int:
    """Return which suggestion the trial is an attempt at."""
    return int(trial.user_attrs[PLACE])


class Board:
    """The trials of a search as they stand at one moment."""

    def __init__(self, trials: Iterable[FrozenTrial]) -> None:
        self._at: dict[int, list[FrozenTrial]] = {}
        for trial in sorted(trials, key=lambda trial: trial.number):
            if PLACE in trial.user_attrs:  # what somebody else put into the storage is not ours
                self._at.setdefault(place_of(trial), []).append(trial)

    def ended(self) -> list[FrozenTrial]:
        """Return the first attempt that ended by itself at each place, in order of places."""
        found = []
        for place in sorted(self._at):
            done = [t for t in self._at[place] if t.state.is_finished() and not interrupted(t)]
            found += done[:1]
        return found

    def first_open(self) -> int:
        """Return the first place at which nothing has ended."""
        done = {place_of(trial) for trial in self.ended()}
        return next(place for place in range(len(done) + 1) if place not in done)

    def earlier(self, first: int) -> list[FrozenTrial]:
        """Return what ended at the places before ``first``."""
        return [trial for trial in self.ended() if place_of(trial) < first]

    def open_places(self, first: int, last: int) -> list[int]:
        """Return the places in ``first..last-1`` at which nobody works, waits or has ended."""
        return [
            place
            for place in range(first, last)
            if all(interrupted(trial) for trial in self._at.get(place, ()))
        ]

    def waiting(self, last: int) -> list[FrozenTrial]:
        """Return the attempts that wait for somebody, at places before ``last``."""
        trials = [trial for place in sorted(self._at) for trial in self._at[place] if place < last]
        return [trial for trial in trials if trial.state == TrialState.WAITING]

    def is_double(self, trial: FrozenTrial) -> bool:
        """Say whether an earlier attempt at the same place is alive: two began it at once."""
        others = self._at[place_of(trial)]
        return any(t.number < trial.number and not interrupted(t) for t in others)


def mean_so_far(scores: Sequence[Sequence[float]]) -> float:
    """Return the mean of what a suggestion has at the highest rung that it reached."""
    return sum(scores[-1]) / len(scores[-1])
