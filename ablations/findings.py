"""What a search found: lines to print, a table of trials, the best settings, MLflow records."""

from __future__ import annotations

import shlex
import time
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import pandas as pd
from optuna.trial import FrozenTrial, TrialState

from ablations.collect import MAIN_METRIC
from ablations.search import FOLD_SCORE, Search
from ablations.space import overrides_of
from ablations.suggestions import REASON
from ablations.tracking import TrialRecord
from melssl.evaluation.metrics import METRICS
from melssl.files import write_atomically

TABLE = "trials.csv"


@dataclass(frozen=True, kw_only=True)
class Findings:
    """The trials of a search that count, in order; ``key`` is the search's."""

    search: Search
    key: str
    trials: tuple[FrozenTrial, ...]

    @property
    def best(self) -> FrozenTrial | None:
        """The complete trial with the best mean score, the first of equals; None without any."""
        complete = [t for t in self.trials if t.state == TrialState.COMPLETE]
        sign = -1 if METRICS[MAIN_METRIC].higher_is_better else 1
        return min(complete, key=lambda trial: (sign * trial.value, trial.number), default=None)

    @property
    def best_overrides(self) -> list[str]:
        """What ``--set`` takes for the best trial; empty without any."""
        return overrides_of(self.search.space, self.best.params) if self.best else []

    @property
    def best_line(self) -> str:
        """The best settings as a piece of a command line."""
        return shlex.join(word for text in self.best_overrides for word in ("--set", text))

    def counts(self) -> dict[str, int]:
        """Return how many trials ended in each way."""
        states = [trial.state for trial in self.trials]
        kinds = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)
        return {state.name.lower(): states.count(state) for state in kinds}

    def line(self, trial: FrozenTrial) -> str:
        """Return one line of progress, for a trial that has just ended."""
        done = f"{len(self.trials):>3} of {self.search.n_trials}  trial {trial.number:<3}"
        settings = " ".join(overrides_of(self.search.space, trial.params))
        best = f"best {self.best.value:.4f}, trial {self.best.number}" if self.best else "no best"
        return f"{done} {_verdict(trial, self.search)}  {settings}  ({best})"

    def frame(self) -> pd.DataFrame:
        """Return one row per trial: state, mean score, scores by inner fold, settings, reason."""
        rows = [self._row(trial) for trial in self.trials]
        names = [dimension.name for dimension in self.search.space]
        columns = ["trial", "state", MAIN_METRIC, *self._folds(), *names, "seconds", "reason"]
        return pd.DataFrame(rows, columns=columns)

    def save(self, folder: Path) -> Path:
        """Write the table as CSV; it appears whole or not at all."""
        path = folder / TABLE
        write_atomically(path, self.frame().to_csv(index=False).encode())
        return path

    def record(self, trial: FrozenTrial) -> TrialRecord:
        """Return what MLflow shows of a trial; a pruned one has the score it had come to."""
        row = self._row(trial)
        scores = {name: row[name] for name in (MAIN_METRIC, *self._folds()) if name in row}
        ended = trial.datetime_complete
        return TrialRecord(
            key=f"{self.key}-{trial.number}",
            name=f"trial {trial.number}",
            params=dict(text.split("=", 1) for text in _overrides(self.search, trial)),
            metrics={name: float(str(score)) for name, score in scores.items()},
            tags={"search_key": self.key, "state": trial.state.name},
            failed=trial.user_attrs.get(REASON),
            seconds=_seconds(trial),
            finished_at=ended.timestamp() if isinstance(ended, datetime) else time.time(),
        )

    def _folds(self) -> list[str]:
        return [FOLD_SCORE.format(f) for f in range(self.search.baseline.folds.n_folds)]

    def _row(self, trial: FrozenTrial) -> dict[str, object]:
        row: dict[str, object] = {"trial": trial.number, "state": trial.state.name.lower()}
        if trial.value is not None:
            row[MAIN_METRIC] = trial.value
        row |= {name: trial.user_attrs[name] for name in self._folds() if name in trial.user_attrs}
        row |= dict(text.split("=", 1) for text in _overrides(self.search, trial))
        return row | {"seconds": round(_seconds(trial), 2), "reason": trial.user_attrs.get(REASON)}


def opening_lines(search: Search, notes: Iterable[str], n_ended: int) -> list[str]:
    """Describe a search before it starts: what is known, what is varied, what is done."""
    within, spec = search.within, search.baseline
    share = (within.budget or spec.budget).fraction
    told = "of the budget only" if within.budget or share == 1 else "of all training patients, also"
    beyond = "" if within.budget or share == 1 else " outside the budget: an optimistic choice"
    n_folds, n_outer = spec.folds.n_folds, within.folds.n_folds
    return [
        f"search {search.name}: which settings suit a budget of {100 * share:.4g} %?",
        f"  cohort   training patients of outer fold {within.fold} of {n_outer}",
        *(f"  note     {note}" for note in notes),
        f"  labels   {told}{beyond}",
        f"  judge    {METRICS[MAIN_METRIC].label}, mean over {n_folds} inner folds x "
        f"{search.n_draws} draws x {search.n_seeds} seeds",
        f"  space    {', '.join(map(str, search.space))}",
        f"  trials   {n_ended} of {search.n_trials} done",
    ]


def _verdict(trial: FrozenTrial, search: Search) -> str:
    if trial.state == TrialState.FAIL:
        return f"failed: {' '.join(str(trial.user_attrs[REASON]).split())[:160]}"
    if trial.state == TrialState.PRUNED:
        seen = len(trial.intermediate_values)
        return f"{trial.value:.4f} pruned after {seen} of {search.baseline.folds.n_folds} folds"
    return f"{trial.value:.4f}"


def _overrides(search: Search, trial: FrozenTrial) -> list[str]:
    return overrides_of(search.space, trial.params)


def _seconds(trial: FrozenTrial) -> float:
    return trial.duration.total_seconds() if trial.duration else 0.0
