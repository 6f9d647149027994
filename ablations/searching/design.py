"""A search as a description: a space around a baseline within an outer fold, and its judge."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from ablations.collect import MAIN_METRIC
from ablations.design import Study
from ablations.plan import PlannedTrial, make_plan
from ablations.preparations import Preparations
from ablations.searching.space import parse_space
from ablations.vault import Vault
from melssl.errors import SpecError, SplitError
from melssl.evaluation.metrics import METRICS
from melssl.settings import Settings, digest, with_overrides
from melssl.space import Dimension
from melssl.spec import NUMBERS_VERSION, RunSpec, WithinFold

REDUCTION = 3  # a rung is a third as long as the one above it
LEAST_PAIRS = 4  # fewer differences of one sign are no evidence at p < 0.1
Sampler = Literal["tpe", "random"]
Pruner = Literal["median", "wilcoxon", "halving", "none"]
Against = Literal["none", "images", "seconds"]


class Way(Settings):
    """How a search goes about it: what suggests, what stops early, and what else counts.

    ``pruner``: ``median`` stops a suggestion that is worse than half of the earlier ones after as
    many inner folds of as long a training, ``wilcoxon`` one that is worse than the best, score by
    score; ``halving`` keeps a third at every rung. With ``rungs`` a suggestion is first judged by
    pretrainings of 1/3, 1/9 ... of its length. ``against`` makes compute a second objective.
    """

    sampler: Sampler = "tpe"
    pruner: Pruner = "median"
    rungs: int = Field(0, ge=0)
    against: Against = "none"
    constrain: Literal["collapse", "none"] = "collapse"


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
    space: str = Field("", description="a=low:high,b=log:low:high,c=x|y; empty: as declared")
    sampler: Sampler = "tpe"
    pruner: Pruner | None = Field(None, description="None: median, where there is one objective")
    rungs: int = Field(0, ge=0)
    against: Against = "none"
    constrain: Literal["collapse", "none"] = "collapse"
    round_size: int = Field(0, ge=0, description="suggestions drawn together; 0: one a worker")

    def way(self) -> Way:
        """Return how to go about it.

        Raises:
            SpecError: pruning was asked for and there are two objectives.

        """
        pruner: Pruner = self.pruner or ("median" if self.against == "none" else "none")
        if self.against != "none" and (pruner != "none" or self.rungs):
            raise SpecError(
                f"--against {self.against}: with two objectives nothing tells which of two"
                " suggestions is worse half-way; leave out --pruner and --rungs"
            )
        return Way(
            sampler=self.sampler,
            pruner=pruner,
            rungs=self.rungs,
            against=self.against,
            constrain=self.constrain,
        )


class Search(Settings):
    """A space around a baseline that stays within an outer fold, and how a suggestion is judged."""

    name: str
    baseline: RunSpec
    space: tuple[Dimension, ...]
    way: Way = Way()
    n_trials: int = Field(ge=1)
    n_draws: int = Field(1, ge=1)
    n_seeds: int = Field(1, ge=1)

    @property
    def within(self) -> WithinFold:
        """The outer fold that the search stays in."""
        assert self.baseline.within is not None
        return self.baseline.within

    @property
    def n_folds(self) -> int:
        """Inner folds that judge a suggestion."""
        return self.baseline.folds.n_folds

    @property
    def n_repeats(self) -> int:
        """Scores that a suggestion has in an inner fold: one per draw and seed."""
        return self.n_draws * self.n_seeds

    @property
    def directions(self) -> list[str]:
        """The directions of the objectives: the score's, then compute's if it counts."""
        score = "maximize" if METRICS[MAIN_METRIC].higher_is_better else "minimize"
        return [score] if self.way.against == "none" else [score, "minimize"]

    def ladder(self, spec: RunSpec) -> tuple[RunSpec, ...]:
        """Return a suggestion at every rung, the shortest pretraining first; the last is itself."""
        epochs = [
            max(1, round(spec.pretraining.epochs / REDUCTION**rung))
            for rung in range(self.way.rungs, 0, -1)
        ]
        shorter = [
            spec.replace(pretraining=spec.pretraining.replace(epochs=n))
            for n in dict.fromkeys(epochs)
            if n < spec.pretraining.epochs
        ]
        return (*shorter, spec)

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

    def by_fold(
        self, spec: RunSpec, preparations: Preparations, vault: Vault
    ) -> list[list[PlannedTrial]]:
        """Return a suggestion's trials over draws and seeds, one list per inner fold."""
        plans = [make_plan(study, preparations, vault) for study in self.studies(spec)]
        trials = [planned for plan in plans for planned in plan.trials]
        return [[p for p in trials if p.trial.fold == fold] for fold in range(self.n_folds)]

    def key(self, preparations: Preparations) -> str:
        """Identity of the search: all that decides its suggestions, and not ``n_trials``."""
        data: list[object] = []
        for study in self.studies(self.baseline):
            prepared = preparations.of(study.baseline)
            data.append([study.key, prepared.cohort.digest, prepared.folds.digest])
        space = [dimension.plain() for dimension in self.space]
        return digest([data, space, self.way.plain(), MAIN_METRIC, NUMBERS_VERSION])


def make_search(study: Study, tuning: Tuning) -> Search:
    """Turn a study's baseline into a search within one of its folds.

    Raises:
        SpecError: the space names what cannot be searched, the study has no such fold, or there is
            nothing to prune by.

    """
    outer = study.baseline.folds
    if study.baseline.protocol.judges == "masks":
        raise SpecError(
            f"a search goes by {METRICS[MAIN_METRIC].label}, and {study.baseline.protocol.name}"
            " draws masks; search with a protocol that names classes, or set protocol.* by hand"
        )
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
    search = Search(
        name=study.name,
        baseline=baseline,
        space=parse_space(tuning.space, baseline),
        way=tuning.way(),
        n_trials=tuning.n_trials,
        n_draws=study.n_draws if tuning.fraction < 1 else 1,
        n_seeds=study.n_seeds,
    )
    _check_pruning(search)
    return search


def checked_folds(search: Search, preparations: Preparations, vault: Vault) -> None:
    """Refuse a search that cannot be judged, before anything is trained.

    Raises:
        SplitError: the budget holds too few patients for the inner folds.
        SpecError: a setting of the space changes nothing.

    """
    try:
        search.by_fold(search.baseline, preparations, vault)
    except SplitError as error:
        raise SplitError(
            f"{error}\nThese are inner folds of outer fold {search.within.fold}'s training "
            "patients: use fewer --inner-folds, a larger --fraction, or --labels all"
        ) from None
    for dimension in search.space:
        keys = set()
        for end in dimension.ends():
            spec = with_overrides(search.baseline, [end])
            keys.add(search.by_fold(spec, preparations, vault)[0][0].key)
        if len(keys) == 1:
            raise SpecError(f"--space {dimension}: changes nothing here; leave it out")


def _check_pruning(search: Search) -> None:
    rungs, spec = search.way.rungs, search.baseline
    if rungs and not spec.method_class.trains:
        raise SpecError(f"--rungs {rungs}: method {spec.method.name!r} is not pretrained")
    if rungs and len(search.ladder(spec)) <= rungs:
        raise SpecError(
            f"--rungs {rungs}: {spec.pretraining.epochs} epochs cannot be divided by"
            f" {REDUCTION} so often; use fewer rungs, or --set pretraining.epochs=..."
        )
    if search.way.pruner == "halving" and not rungs:
        raise SpecError("--pruner halving: stops at rungs, and there are none; add --rungs 2")
    before_last = search.n_repeats * (search.n_folds * (rungs + 1) - 1)
    if search.way.pruner == "wilcoxon" and before_last < LEAST_PAIRS:
        raise SpecError(
            f"--pruner wilcoxon: {before_last} score(s) before the last inner fold cannot tell"
            f" anything, {LEAST_PAIRS} can; use more --inner-folds, --draws, --seeds or --rungs,"
            " or --pruner median"
        )
