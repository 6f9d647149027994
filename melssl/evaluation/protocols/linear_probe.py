"""Linear probe: regularised logistic regression on frozen embeddings."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import numpy as np
from pydantic import Field
from sklearn.linear_model import LogisticRegression

from melssl.errors import SplitError
from melssl.evaluation.protocols.base import Evidence, Protocol, Verdict
from melssl.evaluation.selection import cross_fit_folds


class LinearProbe(Protocol):
    """Multinomial logistic regression with a Gaussian prior on standardised embeddings.

    Embeddings are standardised with the mean and deviation of the unlabelled pool, so that a tiny
    budget does not set the scale. The prior on each of the D weights has variance ``strength / D``:
    the logit of a typical sample has variance ``strength`` before any label is seen, whatever the
    width of the backbone. It is fixed by default. Several ``strengths`` are compared by their log
    loss under cross-validation inside the budget, by patient, and the smallest of the best fits the
    whole budget; where the budget cannot be divided, ``strength`` is taken.
    """

    label: ClassVar[str] = "linear probe"
    reads: ClassVar[Literal["embeddings", "weights"]] = "embeddings"
    name: Literal["linear_probe"] = "linear_probe"
    strength: float = Field(10.0, gt=0, description="prior variance of a logit")
    strengths: tuple[Annotated[float, Field(gt=0)], ...] = Field(
        (), description="to choose from inside the budget; none: strength as it is"
    )
    selection_folds: int = Field(5, ge=2, description="folds that choose among strengths")

    def judge(self, evidence: Evidence) -> Verdict:
        """Fit on the budget, score the test rows."""
        assert evidence.embeddings is not None
        pool = evidence.embeddings[evidence.pool].astype(np.float64)
        mean, deviation = pool.mean(axis=0), pool.std(axis=0)
        deviation[deviation < 1e-6 * max(deviation.max(), 1e-12)] = np.inf
        train = (evidence.embeddings[evidence.train] - mean) / deviation
        test = (evidence.embeddings[evidence.test] - mean) / deviation
        chosen = self._choose(train, evidence) if self.strengths else {}
        strength = chosen.get("strength", self.strength)
        probability = _fit(train, evidence.train_target, strength, test, evidence.n_classes)
        return Verdict(probability=probability, chosen=chosen)

    def _choose(self, x: np.ndarray, evidence: Evidence) -> dict[str, float]:
        """Return the strength of the smallest cross-validated log loss, and how it was found."""
        target, seed = evidence.train_target, evidence.seed.child("strength")
        try:
            fold = cross_fit_folds(evidence.train_patient, target, self.selection_folds, seed)
        except SplitError:
            return {"strength": self.strength, "selection_folds": 0}
        losses = {
            strength: _log_loss(x, target, fold, strength, evidence.n_classes)
            for strength in sorted(set(self.strengths))
        }
        best = min(losses, key=losses.__getitem__)
        return {
            "strength": best,
            "selection_folds": len(np.unique(fold)),
            **{f"log_loss_at_{strength:g}": loss for strength, loss in losses.items()},
        }


def _fit(
    x: np.ndarray, target: np.ndarray, strength: float, test: np.ndarray, n_classes: int
) -> np.ndarray:
    model = LogisticRegression(C=strength / x.shape[1], max_iter=2000)
    model.fit(x, target)
    probability = np.zeros((len(test), n_classes))
    probability[:, model.classes_] = model.predict_proba(test)
    return probability


def _log_loss(
    x: np.ndarray, target: np.ndarray, fold: np.ndarray, strength: float, n_classes: int
) -> float:
    """Return the mean of -ln p(true class) over samples that were each left out once."""
    true = np.empty(len(x))
    for index in np.unique(fold):
        held = fold == index
        probability = _fit(x[~held], target[~held], strength, x[held], n_classes)
        true[held] = probability[np.arange(held.sum()), target[held]]
    return float(-np.log(np.maximum(true, np.finfo(float).eps)).mean())
