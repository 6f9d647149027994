"""One score per unseen image and arm: views and folds averaged, by probability or by rank."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.stats import rankdata

from ablations.design import Study
from ablations.options import RunOptions
from ablations.plan import Plan
from ablations.results import arm_name, size_order
from ablations.unseen.asked import Asked
from ablations.unseen.commands import ask
from ablations.vault import Vault
from melssl.artifacts import VIEWS
from melssl.errors import ArtifactError, SpecError
from melssl.unseen import Unseen

Average = Literal["probability", "rank"]


@dataclass(frozen=True, kw_only=True)
class Submitted:
    """An arm's name as a folder may bear it, its score of every image, and how that was made."""

    name: str
    scores: Mapping[str, float]
    told: str


def submitted(
    study: Study, unseen: Unseen, options: RunOptions, average: Average
) -> list[Submitted]:
    """Return every arm's scores of class 1 at its largest budget, over all folds, draws and seeds.

    Raises:
        SpecError: the outcome is not binary.
        ArtifactError: a fold of an arm has no result.

    """
    largest = _largest(study)
    answers = ask(study, unseen, options, wanted=lambda t: t.trial.cell.name in largest)
    classes = answers.plan.preparations.of(study.baseline).cohort.classes
    if len(classes) != 2:
        raise SpecError(
            f"submission: expected a binary outcome, got {', '.join(classes)}; choose one with"
            " --set cohort.outcome=... or cohort.positive=..."
        )
    by_arm: dict[str, list[Asked]] = {}
    for one in answers.questions:
        by_arm.setdefault(arm_name(one.planned.trial.cell), []).append(one)
    for name, found in by_arm.items():
        _refuse_gaps(answers.plan, name, found)
    vault = Vault(options.vault)
    return [_together(name, found, vault, average) for name, found in by_arm.items()]


def averaged(scores: Sequence[np.ndarray], average: Average) -> np.ndarray:
    """Return the mean over models (M arrays of (n,)): of probabilities, or of ranks in 0..1.

    A rank is ``(midrank - 1/2) / n`` within its model: models that agree on the order agree then,
    however their probabilities are spread.
    """
    if average == "rank":
        scores = [(rankdata(one) - 0.5) / len(one) for one in scores]
    mean: np.ndarray = np.mean(scores, axis=0)
    return mean


def _largest(study: Study) -> set[str]:
    """Return the names of the cells with an arm's largest budget."""
    largest = {arm_name(cell): cell.name for cell in sorted(study.cells(), key=size_order)}
    return set(largest.values())


def _refuse_gaps(plan: Plan, name: str, found: Sequence[Asked]) -> None:
    cell = found[0].planned.trial.cell.name
    n_planned = sum(planned.trial.cell.name == cell for planned in plan.trials)
    if len(found) < n_planned:
        raise ArtifactError(
            f"{name}: expected models of all {n_planned} folds, draws and seeds, got {len(found)};"
            " see what failed: python -m ablations status"
        )


def _together(name: str, found: Sequence[Asked], vault: Vault, average: Average) -> Submitted:
    scores, ids, n_views = [], np.empty(0, str), 0
    for one in found:
        path = vault.whole("predict", one.stage.key) / VIEWS
        with np.load(path, allow_pickle=False) as file:
            ids, views = file["sample_id"], file["probability"]
        n_views = len(views)
        scores.append(views[:, :, 1].mean(axis=0))
    both = averaged(scores, average)
    return Submitted(
        name=re.sub(r"[^A-Za-z0-9._=-]+", "_", name),
        scores=dict(zip(map(str, ids), map(float, both), strict=True)),
        told=f"mean {average} of {len(found)} models in {n_views} views",
    )
