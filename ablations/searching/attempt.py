"""An attempt at a suggestion: judged fold by fold and rung by rung, pruned, scored or failed."""

from __future__ import annotations

import math
from collections.abc import Generator, Sequence

import optuna
from optuna.trial import FrozenTrial, TrialState

from ablations.collect import MAIN_METRIC
from ablations.plan import PlannedTrial
from ablations.preparations import Preparations
from ablations.searching.board import IMAGES, REASON, SCORES, SECONDS, mean_so_far
from ablations.searching.design import Search
from ablations.searching.evidence import failure, missing, scores, shortfalls, spent
from ablations.searching.rounds import Rounds
from ablations.searching.space import overrides_of
from ablations.vault import Vault
from melssl.errors import MelsslError
from melssl.settings import with_overrides
from melssl.stages import Stage

Needs = Generator[tuple[Stage, ...], None, None]


class Attempt:
    """One trial of a search; ``earlier`` are the trials that it is judged against."""

    def __init__(
        self,
        search: Search,
        study: optuna.Study,
        trial: optuna.Trial,
        rounds: Rounds,
        earlier: Sequence[FrozenTrial],
    ) -> None:
        self._search, self._study, self._trial = search, study, trial
        self._rounds, self._earlier = rounds, earlier
        self._ladder: list[list[float]] = []
        self._judged: list[PlannedTrial] = []
        self._highest: dict[tuple[int, int], PlannedTrial] = {}

    def needs(self, preparations: Preparations, vault: Vault) -> Needs:
        """Yield the stages that must run next; at last tell Optuna how it ended."""
        try:
            pruned = yield from self._climb(preparations, vault)
        except MelsslError as error:
            self._trial.set_user_attr(REASON, str(error))
            self._study.tell(self._trial, state=TrialState.FAIL, skip_if_finished=True)
            return
        cost = spent(self._judged, self._highest.values(), preparations, vault)
        self._trial.set_user_attr(IMAGES, cost.images)
        self._trial.set_user_attr(SECONDS, cost.seconds)
        if self._search.way.constrain == "collapse":
            for name, value in shortfalls(list(self._highest.values()), vault).items():
                self._trial.set_constraint(name, value)
        if pruned:
            self._study.tell(self._trial, state=TrialState.PRUNED, skip_if_finished=True)
            return
        against = {"images": [cost.images], "seconds": [cost.seconds]}
        values = [mean_so_far(self._ladder), *against.get(self._search.way.against, [])]
        self._study.tell(self._trial, values, skip_if_finished=True)

    def _climb(
        self, preparations: Preparations, vault: Vault
    ) -> Generator[tuple[Stage, ...], None, bool]:
        """Judge the suggestion at every rung; return whether it was pruned on the way.

        Raises:
            MelsslError: the settings cannot be had, a stage failed, or a score is not defined.

        """
        overrides = overrides_of(self._search.space, self._trial.params)
        ladder = self._search.ladder(with_overrides(self._search.baseline, overrides))
        for spec in ladder:
            # planned here, and not before: a longer training goes on from a shorter one's trunk
            folds = self._search.by_fold(spec, preparations, vault)
            self._ladder.append([])
            for fold, planned in enumerate(folds):
                if stages := missing(planned, vault):
                    yield stages
                self._score(fold, planned, vault)
                is_last = spec is ladder[-1] and fold + 1 == len(folds)
                if not is_last and self._rounds.prunes(self._ladder, self._earlier):
                    return True
        return False

    def _score(self, fold: int, planned: list[PlannedTrial], vault: Vault) -> None:
        reason = failure(planned, vault)
        if reason:
            raise SuggestionFailed(reason)
        found = scores(planned, vault)
        if any(math.isnan(score) for score in found):
            raise SuggestionFailed(f"{MAIN_METRIC} is not defined in inner fold {fold}")
        self._ladder[-1] += found
        self._judged += planned
        self._highest |= {(fold, index): p for index, p in enumerate(planned)}
        self._trial.set_user_attr(SCORES, self._ladder)
        if len(self._search.directions) == 1:  # of two, Optuna takes no scores on the way
            self._trial.report(mean_so_far(self._ladder), self._rounds.step(self._ladder))


class SuggestionFailed(MelsslError):  # noqa: N818  # a fact about a suggestion, kept as its reason
    """A suggestion has no score."""
