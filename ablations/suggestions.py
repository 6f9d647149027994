"""Suggestions: an Optuna study in a journal file that outlives kills and goes on as if unharmed."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.pruners import MedianPruner
from optuna.samplers import BaseSampler, TPESampler
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState

from ablations.space import Dimension
from melssl.errors import ArtifactError
from melssl.seeding import Seed

REASON, AGAIN = "reason", "again"


class SeededTpe(BaseSampler):  # type: ignore[misc]  # Optuna is not checked
    """TPE whose draws depend on the seed and on the number of trials before, not on the process.

    TPE as it is starts its stream anew in every process: a search that goes on would draw its
    first settings once more. Trials that a kill interrupted are not counted.
    """

    def __init__(self, seed: Seed) -> None:
        self._seed = self._place = seed

    def before_trial(self, study: optuna.Study, trial: FrozenTrial) -> None:
        """Start the stream of this trial."""
        earlier = [t for t in study.get_trials(deepcopy=False) if t.number < trial.number]
        self._place = self._seed.child(sum(not interrupted(t) for t in earlier))

    def infer_relative_search_space(
        self, study: optuna.Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """Return what TPE samples together."""
        space: dict[str, BaseDistribution] = _tpe(self._place).infer_relative_search_space(
            study, trial
        )
        return space

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Return TPE's draw; nothing while there are too few trials."""
        drawn: dict[str, Any] = _tpe(self._place).sample_relative(study, trial, search_space)
        return drawn

    def sample_independent(
        self,
        study: optuna.Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        """Return a draw of one setting: at random while there are too few trials.

        It depends on the setting's name: a kill may have come after the first of several.
        """
        tpe = _tpe(self._place.child(param_name))
        return tpe.sample_independent(study, trial, param_name, param_distribution)


def _tpe(seed: Seed) -> TPESampler:
    return TPESampler(seed=seed.value % 2**32)


def interrupted(trial: FrozenTrial) -> bool:
    """Say whether a kill ended the trial: whatever fails by itself leaves a reason."""
    return trial.state == TrialState.FAIL and REASON not in trial.user_attrs


def ended(study: optuna.Study) -> list[FrozenTrial]:
    """Return the trials that count: complete, pruned, or failed with a reason."""
    trials: Iterable[FrozenTrial] = study.get_trials(deepcopy=False)
    return [trial for trial in trials if trial.state.is_finished() and not interrupted(trial)]


def open_study(journal: Path, name: str, seed: Seed, *, maximize: bool) -> optuna.Study:
    """Open a study of the journal or begin it; what a kill interrupted is queued again, first.

    One process at a time may have the journal open: the caller holds a lock.

    Raises:
        ArtifactError: the journal is damaged beyond its last line.

    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    _mend(journal)
    try:
        study = optuna.create_study(
            storage=JournalStorage(JournalFileBackend(str(journal))),
            study_name=name,
            sampler=SeededTpe(seed),
            pruner=MedianPruner(),
            direction="maximize" if maximize else "minimize",
            load_if_exists=True,
        )
    except (ValueError, KeyError) as error:
        raise ArtifactError(
            f"{journal}: cannot be read ({error}); delete it and search again: trainings that "
            "finished are in the vault and cost nothing the second time"
        ) from None
    _queue_again(study)
    return study


def distributions(space: Iterable[Dimension]) -> dict[str, BaseDistribution]:
    """Return a space in Optuna's terms."""
    return {dimension.name: _distribution(dimension) for dimension in space}


def _distribution(dimension: Dimension) -> BaseDistribution:
    if dimension.choices:
        return CategoricalDistribution(dimension.choices)
    if dimension.whole:
        return IntDistribution(int(dimension.low), int(dimension.high), log=dimension.log)
    return FloatDistribution(dimension.low, dimension.high, log=dimension.log)


def _mend(journal: Path) -> None:
    """Cut a line that a kill left half-written, which the next append would make unreadable.

    The lock of a killed writer goes too; Optuna would wait half a minute for it.
    """
    for left in journal.parent.glob(f"{journal.name}.lock*"):
        left.unlink(missing_ok=True)
    data = journal.read_bytes() if journal.exists() else b""
    whole = data.rfind(b"\n") + 1
    if whole < len(data):
        os.truncate(journal, whole)


def _queue_again(study: optuna.Study) -> None:
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        study.tell(trial.number, state=TrialState.FAIL)
    trials = study.get_trials(deepcopy=False)
    queued = {trial.user_attrs.get(AGAIN) for trial in trials}
    for trial in trials:
        if interrupted(trial) and trial.number not in queued:
            params: Mapping[str, object] = trial.params
            study.enqueue_trial(dict(params), user_attrs={AGAIN: trial.number})
