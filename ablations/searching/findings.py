"""What a search found: lines to print, a table of trials, the best settings, MLflow records."""

from __future__ import annotations

import shlex
import time
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np
import pandas as pd
from optuna.trial import FrozenTrial, TrialState

from ablations.collect import MAIN_METRIC
from ablations.presets import FILE, Preset, to_json
from ablations.searching.board import IMAGES, REASON, SCORES, SECONDS, mean_so_far, place_of
from ablations.searching.design import Search
from ablations.searching.space import overrides_of
from ablations.tracking import TrialRecord
from melssl.evaluation.metrics import METRICS
from melssl.files import write_atomically
from melssl.settings import with_overrides
from melssl.spec import RunSpec

TABLE, FOLD_SCORE, COST = "trials.csv", "fold_{}", (IMAGES, SECONDS)


@dataclass(frozen=True, kw_only=True)
class Findings:
    """The trials of a search that count, in order of their places; ``key`` is the search's."""

    search: Search
    key: str
    trials: tuple[FrozenTrial, ...]

    @property
    def best(self) -> FrozenTrial | None:
        """The best feasible trial that was not pruned, the first of equals; None without any."""
        return best_of(self.trials)

    @property
    def front(self) -> list[FrozenTrial]:
        """The feasible trials that no other beats in one objective without losing in the other."""
        fit = [trial for trial in self.trials if is_fit(trial)]
        return [trial for trial in fit if not any(_beats(other, trial) for other in fit)]

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
        done = f"{len(self.trials):>3} of {self.search.n_trials}  trial {place_of(trial):<3}"
        settings = " ".join(overrides_of(self.search.space, trial.params))
        best = self.best
        told = f"best {mean_of(best):.4f}, trial {place_of(best)}" if best else "no best"
        return f"{done} {_verdict(trial, self.search)}  {settings}  ({told})"

    def frame(self) -> pd.DataFrame:
        """Return one row per trial: state, score, scores by inner fold, settings, cost, reason."""
        rows = [self._row(trial) for trial in self.trials]
        names = [dimension.name for dimension in self.search.space]
        columns = ["trial", "state", MAIN_METRIC, *self._folds(), *names]
        return pd.DataFrame(rows, columns=[*columns, "feasible", *COST, "reason"])

    def save(self, folder: Path) -> Path:
        """Write the table as CSV; it appears whole or not at all."""
        path = folder / TABLE
        write_atomically(path, self.frame().to_csv(index=False).encode())
        return path

    def best_spec(self) -> RunSpec | None:
        """Return the run that the best settings make, on all folds of the study; None without."""
        if self.best is None:
            return None
        spec, within = with_overrides(self.search.baseline, self.best_overrides), self.search.within
        return spec.replace(folds=within.folds, within=None, budget=within.budget or spec.budget)

    def save_preset(self, folder: Path) -> Path | None:
        """Write the best settings as a preset that every study takes; return the file, if any."""
        spec = self.best_spec()
        if spec is None:
            return None
        fold = self.search.within.fold
        chosen = Preset(
            purpose=f"the best of search {self.search.name}, chosen without outer fold {fold}",
            baseline=spec.plain(),
            fractions=(spec.budget.fraction,),
            n_draws=self.search.n_draws,
            n_seeds=self.search.n_seeds,
        )
        path = folder / f"{self.search.name}-best{FILE}"
        write_atomically(path, to_json(chosen))
        return path

    def record(self, trial: FrozenTrial) -> TrialRecord:
        """Return what MLflow shows of a trial; a pruned one has the score it had come to."""
        row = self._row(trial)
        numbers = {name: row[name] for name in (MAIN_METRIC, *self._folds(), *COST) if name in row}
        ended = trial.datetime_complete
        return TrialRecord(
            key=f"{self.key}-{place_of(trial)}",
            name=f"trial {place_of(trial)}",
            params=dict(text.split("=", 1) for text in _overrides(self.search, trial)),
            metrics={name: float(str(x)) for name, x in numbers.items()} | trial.constraints,
            tags={
                "search_key": self.key,
                "state": trial.state.name,
                "feasible": str(row["feasible"]),
            },
            failed=trial.user_attrs.get(REASON),
            seconds=trial.duration.total_seconds() if trial.duration else 0.0,
            finished_at=ended.timestamp() if isinstance(ended, datetime) else time.time(),
        )

    def _folds(self) -> list[str]:
        return [FOLD_SCORE.format(f) for f in range(self.search.n_folds)]

    def _row(self, trial: FrozenTrial) -> dict[str, str | int | float]:
        row: dict[str, str | int | float] = {"trial": place_of(trial)}
        row["state"] = trial.state.name.lower()
        ladder = trial.user_attrs.get(SCORES)
        if ladder and ladder[-1]:
            row[MAIN_METRIC] = mean_so_far(ladder)
            by_fold = np.reshape(ladder[-1], (-1, self.search.n_repeats)).mean(axis=1)
            row |= dict(zip(self._folds(), by_fold.tolist(), strict=False))
        row |= dict(text.split("=", 1) for text in _overrides(self.search, trial))
        row |= {name: trial.user_attrs[name] for name in COST if name in trial.user_attrs}
        row["feasible"] = "yes" if is_feasible(trial) else "no"
        reason = trial.user_attrs.get(REASON)
        return row | ({"reason": reason} if reason else {})


def best_of(trials: Iterable[FrozenTrial]) -> FrozenTrial | None:
    """Return the best feasible trial that was not pruned, the first of equals."""
    sign = -1 if METRICS[MAIN_METRIC].higher_is_better else 1
    fit = filter(is_fit, trials)
    return min(fit, key=lambda trial: (sign * mean_of(trial), place_of(trial)), default=None)


def is_feasible(trial: FrozenTrial) -> bool:
    """Say whether nothing of the trial collapsed, as far as it was looked at."""
    return all(value <= 0 for value in trial.constraints.values())


def is_fit(trial: FrozenTrial) -> bool:
    """Say whether a trial was judged to the end and nothing of it collapsed."""
    return trial.state == TrialState.COMPLETE and is_feasible(trial)


def mean_of(trial: FrozenTrial) -> float:
    """Return the mean score that a trial came to."""
    return mean_so_far(trial.user_attrs[SCORES])


def opening_lines(search: Search, notes: Iterable[str], n_ended: int) -> list[str]:
    """Describe a search before it starts: what is known, what is varied, what is done."""
    within, spec = search.within, search.baseline
    share = (within.budget or spec.budget).fraction
    told = "of the budget only" if within.budget or share == 1 else "of all training patients, also"
    beyond = "" if within.budget or share == 1 else " outside the budget: an optimistic choice"
    return [
        f"search {search.name}: which settings suit a budget of {100 * share:.4g} %?",
        f"  cohort   training patients of outer fold {within.fold} of {within.folds.n_folds}",
        *(f"  note     {note}" for note in notes),
        f"  labels   {told}{beyond}",
        f"  judge    {METRICS[MAIN_METRIC].label}, mean over {search.n_folds} inner folds x "
        f"{search.n_draws} draws x {search.n_seeds} seeds",
        *_way_lines(search),
        f"  space    {', '.join(map(str, search.space))}",
        f"  trials   {n_ended} of {search.n_trials} done",
    ]


def _way_lines(search: Search) -> list[str]:
    way, spec = search.way, search.baseline
    lines = [f"  way      sampler {way.sampler}, pruner {way.pruner}"]
    if way.against != "none":
        lines[0] += f", and as little compute as may be ({way.against})"
    if way.rungs:
        epochs = ", ".join(str(step.pretraining.epochs) for step in search.ladder(spec))
        free = spec.pretraining.shares_trunk
        told = "goes on from" if free else "begins anew after: schedule=stable_decay would not,"
        lines.append(f"  rungs    {epochs} epochs; each {told} the one before")
    return lines


def _verdict(trial: FrozenTrial, search: Search) -> str:
    if trial.state == TrialState.FAIL:
        return f"failed: {' '.join(str(trial.user_attrs[REASON]).split())[:160]}"
    score = f"{mean_of(trial):.4f}" + ("" if is_feasible(trial) else " collapsed")
    if trial.state == TrialState.PRUNED:
        ladder = trial.user_attrs[SCORES]
        seen = len(ladder[-1]) // search.n_repeats
        rung = f" of rung {len(ladder)}" if search.way.rungs else ""
        return f"{score} pruned after {seen} of {search.n_folds} folds{rung}"
    return score


def _beats(one: FrozenTrial, other: FrozenTrial) -> bool:
    """Say whether one trial is nowhere worse and somewhere better."""
    sign = -1 if METRICS[MAIN_METRIC].higher_is_better else 1
    ours, theirs = ([sign * t.values[0], *t.values[1:]] for t in (one, other))
    return ours != theirs and all(a <= b for a, b in zip(ours, theirs, strict=True))


def _overrides(search: Search, trial: FrozenTrial) -> list[str]:
    return overrides_of(search.space, trial.params)
