"""Search: hyper-parameters under a label budget, scored on inner folds of one outer fold only."""

from __future__ import annotations

import json
import math
from collections.abc import Generator, Iterator
from typing import Literal

import numpy as np
import optuna
from optuna.trial import FrozenTrial, TrialState
from pydantic import Field

from ablations.collect import MAIN_METRIC
from ablations.design import Study
from ablations.options import RunOptions
from ablations.plan import PlannedTrial, make_plan
from ablations.preparations import Preparations
from ablations.run import runtime_of, surviving
from ablations.space import Dimension, overrides_of, parse_space
from ablations.suggestions import REASON, distributions, ended
from ablations.vault import Vault
from ablations.workers import Job
from melssl.artifacts import SCORES
from melssl.errors import MelsslError, SpecError, SplitError
from melssl.settings import Settings, digest, with_overrides
from melssl.spec import NUMBERS_VERSION, RunSpec, WithinFold
from melssl.stages import Kind, Stage

FOLD_SCORE = "fold_{}"
Attempt = Generator[Job, None, None]


class Tuning(Settings):
    """What a search is asked for, beside the study that it tunes.

    With ``labels="budget"`` a search knows the labels of the budget only: inner folds divide its
    patients, all others are images. With ``"all"`` every inner fold trains on the budget's share
    and is judged by all labels of its test patients: less noise, and labels that a user with such
    a budget would not have.
    """

    fraction: float = Field(0.1, gt=0, le=1)
    outer_fold: int = Field(0, ge=0)
    inner_folds: int = Field(3, ge=2)
    labels: Literal["budget", "all"] = "budget"
    n_trials: int = Field(20, ge=1)
    space: str = Field("", description="a=low:high,b=log:low:high,c=x|y; empty: the method's own")


class Search(Settings):
    """A space around a baseline that stays within an outer fold, and how a suggestion is judged."""

    name: str
    baseline: RunSpec
    space: tuple[Dimension, ...]
    n_trials: int = Field(ge=1)
    n_draws: int = Field(1, ge=1)
    n_seeds: int = Field(1, ge=1)

    @property
    def within(self) -> WithinFold:
        """The outer fold that the search stays in."""
        assert self.baseline.within is not None
        return self.baseline.within

    def studies(self, spec: RunSpec) -> tuple[Study, ...]:
        """Return what a suggestion runs; a draw that hides other labels is a study of its own."""
        shared: dict[str, object] = {
            "name": self.name,
            "levels": {"label_fraction": (spec.budget.fraction,)},
            "control": None,
            "n_seeds": self.n_seeds,
        }
        budget = self.within.budget
        if budget is None:
            return (Study.parse(shared | {"baseline": spec, "n_draws": self.n_draws}),)
        withins = [
            self.within.replace(budget=budget.replace(draw=draw)) for draw in range(self.n_draws)
        ]
        return tuple(Study.parse(shared | {"baseline": spec.replace(within=w)}) for w in withins)

    def key(self, preparations: Preparations) -> str:
        """Identity of the search: all that decides a suggestion's score, and not ``n_trials``."""
        studies = self.studies(self.baseline)
        data: list[object] = []
        for study in studies:
            prepared = preparations.of(study.baseline)
            data.append([study.key, prepared.cohort.digest, prepared.folds.digest])
        space = [dimension.plain() for dimension in self.space]
        return digest([data, space, MAIN_METRIC, NUMBERS_VERSION])


def make_search(study: Study, tuning: Tuning) -> Search:
    """Turn a study's baseline into a search within one of its folds.

    Raises:
        SpecError: the space names what cannot be searched, or the study has no such fold.

    """
    outer = study.baseline.folds
    if tuning.outer_fold >= outer.n_folds:
        last = outer.n_folds - 1
        raise SpecError(f"outer fold {tuning.outer_fold}: the study has folds 0..{last}")
    budget = study.baseline.budget.replace(fraction=tuning.fraction, draw=0)
    hides = tuning.labels == "budget" and tuning.fraction < 1
    baseline = study.baseline.replace(
        folds=outer.replace(n_folds=tuning.inner_folds),
        fold=0,
        within=WithinFold(folds=outer, fold=tuning.outer_fold, budget=budget if hides else None),
        budget=budget.replace(fraction=1.0) if hides else budget,
    )
    return Search(
        name=study.name,
        baseline=baseline,
        space=parse_space(tuning.space, baseline),
        n_trials=tuning.n_trials,
        n_draws=study.n_draws if tuning.fraction < 1 else 1,
        n_seeds=study.n_seeds,
    )


def checked_folds(search: Search, preparations: Preparations, vault: Vault) -> None:
    """Refuse a search that cannot be judged, before anything is trained.

    Raises:
        SplitError: the budget holds too few patients for the inner folds.
        SpecError: a setting of the space changes nothing.

    """
    try:
        _by_fold(search, search.baseline, preparations, vault)
    except SplitError as error:
        raise SplitError(
            f"{error}\nThese are inner folds of outer fold {search.within.fold}'s training "
            "patients: use fewer --inner-folds, a larger --fraction, or --labels all"
        ) from None
    for dimension in search.space:
        keys = set()
        for end in dimension.ends():
            spec = with_overrides(search.baseline, [end])
            keys.add(_by_fold(search, spec, preparations, vault)[0][0].key)
        if len(keys) == 1:
            raise SpecError(f"--space {dimension}: changes nothing here; leave it out")


class Hunt:
    """Runs suggestions, one to a worker, in waves of one inner fold each.

    Waves make a search a function of its seed and its number of workers: which trials a suggestion
    has seen does not depend on the clock. All decisions and the journal are this process's.
    """

    def __init__(
        self, search: Search, study: optuna.Study, preparations: Preparations, options: RunOptions
    ) -> None:
        self._search, self._study, self._preparations = search, study, preparations
        self._options, self._vault = options, Vault(options.vault)
        self._runtime = runtime_of(options)

    def trials(self) -> Iterator[FrozenTrial]:
        """Yield trials as they end, until ``n_trials`` have ended in this and earlier processes."""
        live: dict[int, tuple[Attempt, Job]] = {}
        while True:
            while self._wants_more(len(live)):
                trial = self._study.ask(distributions(self._search.space))
                yield from self._advanced(live, trial.number, self._attempt(trial))
            if not live:
                return
            jobs = [job for _, job in live.values()]
            for _ in surviving(jobs, self._vault, self._options):
                pass  # a stage ends in the vault, and is read there
            for number, (attempt, _) in list(live.items()):
                yield from self._advanced(live, number, attempt)

    def _wants_more(self, n_live: int) -> bool:
        left = self._search.n_trials - len(ended(self._study)) - n_live
        return left > 0 and n_live < self._options.workers

    def _advanced(
        self, live: dict[int, tuple[Attempt, Job]], number: int, attempt: Attempt
    ) -> Iterator[FrozenTrial]:
        """Take an attempt to its next job, or yield its trial where it has ended."""
        try:
            live[number] = attempt, next(attempt)
        except StopIteration:
            live.pop(number, None)
            yield self._study.get_trials(deepcopy=False)[number]

    def _attempt(self, trial: optuna.Trial) -> Attempt:
        """Judge a suggestion fold by fold: yield what must run, then tell Optuna how it ended."""
        try:
            overrides = overrides_of(self._search.space, trial.params)
            spec = with_overrides(self._search.baseline, overrides)
            folds = _by_fold(self._search, spec, self._preparations, self._vault)
        except MelsslError as error:
            self._fail(trial, str(error))
            return
        scores: list[float] = []
        for step, planned in enumerate(folds):
            missing = self._missing(planned)
            if missing:
                yield Job(stages=missing, vault=self._vault.root, runtime=self._runtime)
            reason = self._failure(planned)
            score = math.nan if reason else self._score(planned)
            if math.isnan(score):
                self._fail(trial, reason or f"{MAIN_METRIC} is not defined in inner fold {step}")
                return
            trial.set_user_attr(FOLD_SCORE.format(step), score)
            scores.append(score)
            trial.report(float(np.mean(scores)), step)
            if step + 1 < len(folds) and trial.should_prune():
                self._study.tell(trial, state=TrialState.PRUNED)
                return
        self._study.tell(trial, float(np.mean(scores)))

    def _fail(self, trial: optuna.Trial, reason: str) -> None:
        trial.set_user_attr(REASON, reason)
        self._study.tell(trial, state=TrialState.FAIL)

    def _missing(self, planned: list[PlannedTrial]) -> tuple[Stage, ...]:
        stages: dict[tuple[Kind, str], Stage] = {
            (s.kind, s.key): s
            for p in planned
            for s in p.stages
            if not self._vault.has("adapt", p.key)
        }
        return tuple(s for place, s in stages.items() if not self._vault.has(*place))

    def _failure(self, planned: list[PlannedTrial]) -> str | None:
        for stage in (stage for p in planned for stage in p.stages):
            failure = self._vault.failure(stage.kind, stage.key)
            if failure and not self._vault.has(stage.kind, stage.key):
                return f"{stage.kind} {stage.key}: {failure.reason}"
        return None

    def _score(self, planned: list[PlannedTrial]) -> float:
        paths = [self._vault.folder("adapt", p.key) / SCORES for p in planned]
        return float(np.mean([json.loads(path.read_text())[MAIN_METRIC] for path in paths]))


def _by_fold(
    search: Search, spec: RunSpec, preparations: Preparations, vault: Vault
) -> list[list[PlannedTrial]]:
    """Return a suggestion's trials over draws and seeds, one list per inner fold."""
    plans = [make_plan(study, preparations, vault) for study in search.studies(spec)]
    trials = [planned for plan in plans for planned in plan.trials]
    n_folds = search.baseline.folds.n_folds
    return [[p for p in trials if p.trial.fold == fold] for fold in range(n_folds)]
