"""Rounds: what is suggested and what is pruned, as pure functions of the rounds before.

Suggestions are drawn ``size`` at a time, and judged against what ended in earlier rounds only. So
a search is a function of its seed and of that size, whoever is quicker; how many processes share
the work, on how many machines, and how often they died changes nothing.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.exceptions import ExperimentalWarning
from optuna.pruners import BasePruner, MedianPruner, NopPruner, PercentilePruner, WilcoxonPruner
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.trial import FrozenTrial, TrialState, create_trial

from ablations.searching.board import SCORES, mean_so_far
from ablations.searching.design import REDUCTION, Search
from ablations.searching.space import Params, home_of
from melssl.seeding import Seed
from melssl.space import Dimension

STARTUP = 4  # nothing is pruned before so many have ended
AT_RANDOM = 6  # suggestions before TPE begins to learn; its own 10 is half of a small search
Ladder = Sequence[Sequence[float]]  # of each rung reached: scores, fold by fold


class Rounds:
    """Draws and judges the suggestions of one search."""

    def __init__(self, search: Search) -> None:
        self._search = search
        self._seed = Seed(search.baseline.seed).child("search")
        self.distributions = {d.name: _distribution(d) for d in search.space}

    def params(self, place: int, size: int, ended: Sequence[FrozenTrial]) -> Params:
        """Return the settings at a place; ``ended`` are the trials of the rounds before.

        The very first is the baseline itself, where it lies in the space.
        """
        first = place - place % size
        study = self._study(ended, self._sampler(self._seed.child(first)), NopPruner())
        home = home_of(self._search.space, self._search.baseline)
        if first == 0 and home is not None:
            study.enqueue_trial(dict(home))
        drawn = [study.ask(self.distributions) for _ in range(first, place + 1)]
        params: Params = drawn[-1].params
        return params

    def prunes(self, scores: Ladder, ended: Sequence[FrozenTrial]) -> bool:
        """Say whether a suggestion that has come to ``scores`` should end here."""
        way = self._search.way
        at_rung = len(scores[-1]) == self._search.n_folds * self._search.n_repeats
        if way.pruner == "none" or (way.pruner == "halving" and not at_rung):
            return False
        pruner = self._pruner()
        study = self._study(ended, RandomSampler(), pruner, as_complete=True)
        now = self._points(scores)
        if way.pruner != "wilcoxon":  # a mean counts by itself, whatever shorter trainings gave
            now = dict([now.popitem()])
        trial = create_trial(state=TrialState.RUNNING, intermediate_values=now)
        return bool(pruner.prune(study, trial))

    def step(self, scores: Ladder) -> int:
        """Return how many inner folds, of any rung, have been seen before the last one."""
        done = -(-len(scores[-1]) // self._search.n_repeats)
        return (len(scores) - 1) * self._search.n_folds + done - 1

    def _points(self, scores: Ladder) -> dict[int, float]:
        """Return what a pruner compares: single scores, or means after each inner fold."""
        n_repeats, n_folds = self._search.n_repeats, self._search.n_folds
        if self._search.way.pruner == "wilcoxon":
            stride = n_folds * n_repeats
            return {r * stride + i: x for r, rung in enumerate(scores) for i, x in enumerate(rung)}
        seen = [
            [*scores[:rung], scores[rung][: fold * n_repeats]]
            for rung in range(len(scores))
            for fold in range(1, len(scores[rung]) // n_repeats + 1)
        ]
        return {self.step(part): mean_so_far(part) for part in seen}

    def _pruner(self) -> BasePruner:
        pruner = self._search.way.pruner
        if pruner == "wilcoxon":
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ExperimentalWarning)
                return WilcoxonPruner(p_threshold=0.1)
        if pruner == "halving":
            return PercentilePruner(100 / REDUCTION, n_startup_trials=STARTUP)
        return MedianPruner(n_startup_trials=STARTUP)

    def _sampler(self, seed: Seed) -> BaseSampler:
        if self._search.way.sampler == "random":
            return RandomSampler(seed=seed.value % 2**32)
        return TPESampler(seed=seed.value % 2**32, n_startup_trials=AT_RANDOM)

    def _study(
        self,
        ended: Iterable[FrozenTrial],
        sampler: BaseSampler,
        pruner: BasePruner,
        *,
        as_complete: bool = False,
    ) -> optuna.Study:
        """Return a study in memory that knows what ended, and nothing else.

        With ``as_complete`` pruned trials count like complete ones: who is to be among the best
        half must be so among all that came so far, not among those that were spared.
        """
        study = optuna.create_study(
            directions=self._search.directions, sampler=sampler, pruner=pruner
        )
        known = [trial for trial in ended if trial.state != TrialState.FAIL]
        for trial in known:
            complete = as_complete or trial.state == TrialState.COMPLETE
            scores = trial.user_attrs[SCORES]
            study.add_trial(
                create_trial(
                    state=TrialState.COMPLETE if complete else TrialState.PRUNED,
                    params=trial.params,
                    distributions=trial.distributions,
                    values=trial.values or [mean_so_far(scores)],
                    intermediate_values=self._points(scores),
                    constraints=trial.constraints,
                )
            )
        return study


def _distribution(dimension: Dimension) -> BaseDistribution:
    if dimension.choices:
        return CategoricalDistribution(dimension.choices)
    if dimension.whole:
        return IntDistribution(int(dimension.low), int(dimension.high), log=dimension.log)
    return FloatDistribution(dimension.low, dimension.high, log=dimension.log)
