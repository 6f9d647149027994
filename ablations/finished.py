"""Finished: a trial with its result, and the fair pairs of an arm's and its control's trials."""

from __future__ import annotations

import json
from dataclasses import dataclass

import numpy as np

from ablations.plan import PlannedTrial
from ablations.vault import Vault
from melssl.artifacts import BUDGET, REPLICATES, SCORES
from melssl.errors import ArtifactError
from melssl.spec import ARMS_DIFFER_IN, differing

Place = tuple[int, int, int]


@dataclass(frozen=True, kw_only=True)
class Finished:
    """A trial with its result; ``labels`` identifies the samples of its budget."""

    planned: PlannedTrial
    scores: dict[str, float]
    budget: dict[str, int]
    labels: str
    replicates: dict[str, np.ndarray]
    seconds: float

    @property
    def place(self) -> Place:
        """Fold, draw and seed: what a paired trial shares."""
        trial = self.planned.trial
        return trial.fold, trial.draw, trial.seed

    def score(self, metric: str) -> float:
        """Return a score; NaN where the trial has none of that name."""
        return self.scores.get(metric, float("nan"))


@dataclass(frozen=True)
class Pair:
    """A trial and the trial of the control on the same fold, draw and seed."""

    own: Finished
    control: Finished

    def __post_init__(self) -> None:
        _check_fair(self.own, self.control)


def read_trial(planned: PlannedTrial, vault: Vault) -> Finished:
    """Return a trial's result from the vault."""
    folder = vault.folder("adapt", planned.key)
    with np.load(folder / REPLICATES, allow_pickle=False) as stored:
        replicates = {name: stored[name] for name in stored.files}
    budget = json.loads((folder / BUDGET).read_text())
    return Finished(
        planned=planned,
        scores=json.loads((folder / SCORES).read_text()),
        budget={name: budget[name] for name in ("n_images", "n_patients", "n_positives")},
        labels=str(budget["samples"]),
        replicates=replicates,
        seconds=float(str(vault.record("adapt", planned.key)["seconds"])),
    )


def _check_fair(own: Finished, control: Finished) -> None:
    ours, theirs = own.planned, control.planned
    parts = differing(ours.trial.spec, theirs.trial.spec) - ARMS_DIFFER_IN
    faults = [f"specs differ in {', '.join(sorted(parts))}"] if parts else []
    faults += ["budgets hold other labels"] if own.labels != control.labels else []
    if faults:
        raise ArtifactError(
            f"{ours.trial.cell.name}: trial {ours.key} cannot be compared with {theirs.key} of"
            f" {theirs.trial.cell.name}: expected arms that differ in method and pretraining only,"
            f" got: {'; '.join(faults)}. Make them equal, or leave one arm out of the study"
        )
