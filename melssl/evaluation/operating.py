"""Operating points: thresholds from out-of-sample scores inside the budget, by cross-fitting.

The budget's patients are dealt to folds; each fold is scored by the protocol fitted to the others,
and a threshold is read off the pooled scores of the negatives. No test label takes part, and none
outside the budget.

What is biased, and stays so: the models of the cross-fit saw fewer labels than the one that scores
the test patients, so its scores lie a little further out and a threshold may miss its specificity
on either side; the less, the larger the budget. The encoder has seen the budget's images without
their labels and the test patients' never. Where it has seen the labels, no score inside the budget
is out of sample, and no threshold is given.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from melssl.errors import SplitError
from melssl.evaluation.protocols.base import Evidence, Protocol, Verdict
from melssl.evaluation.selection import cross_fit_folds, threshold_at
from melssl.settings import Json

SPECIFICITIES = (95, 90)


@dataclass(frozen=True, kw_only=True)
class OperatingPoints:
    """Thresholds by specificity in per cent, and their number of folds; or why there are none."""

    thresholds: Mapping[int, float] = field(default_factory=dict)
    n_folds: int = 0
    reason: str = ""

    def plain(self) -> dict[str, Json]:
        """Return what is recorded beside the predictions."""
        return {"folds": self.n_folds} | ({"none_because": self.reason} if self.reason else {})


def operating_points(protocol: Protocol, evidence: Evidence) -> OperatingPoints:
    """Return the thresholds of a binary outcome, from the labels of the budget alone."""
    if evidence.n_classes != 2:
        return OperatingPoints(reason=f"the outcome has {evidence.n_classes} classes, not two")
    if evidence.encoder_saw_labels:
        return OperatingPoints(reason="the encoder was trained on the labels of the budget")
    if not protocol.threshold_folds:
        return OperatingPoints(reason="protocol.threshold_folds is 0")
    try:
        probability, n_folds = out_of_sample(protocol, evidence)
    except SplitError as error:
        return OperatingPoints(reason=str(error))
    scored = evidence.scored(np.arange(len(evidence.train)), probability)
    thresholds = {at: threshold_at(scored, at / 100) for at in SPECIFICITIES}
    return OperatingPoints(thresholds=thresholds, n_folds=n_folds)


def out_of_sample(protocol: Protocol, evidence: Evidence) -> tuple[np.ndarray, int]:
    """Score each sample of the budget by a fit without its patient: (n_train, K), folds used.

    Raises:
        SplitError: the budget cannot be divided so that every class is trained on.

    """
    seed = evidence.seed.child("thresholds")
    patient, target = evidence.train_patient, evidence.train_target
    fold = cross_fit_folds(patient, target, protocol.threshold_folds, seed)
    probability = np.empty((len(fold), evidence.n_classes))
    for index in np.unique(fold):
        part = evidence.without(fold == index, f"thresholds-{index}")
        verdict = protocol.judge(part)
        assert isinstance(verdict, Verdict), f"{protocol.name} says no class"
        probability[fold == index] = verdict.probability
    return probability, len(np.unique(fold))
