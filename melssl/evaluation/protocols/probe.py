"""Probe: regularised logistic regression on frozen features, in blocks on an equal footing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, ClassVar

import numpy as np
from pydantic import Field

from melssl.errors import SplitError
from melssl.evaluation.protocols.base import Evidence, Protocol, Reads, Verdict
from melssl.evaluation.selection import cross_fit_folds
from melssl.space import Dimension

if TYPE_CHECKING:
    from sklearn.linear_model import LogisticRegression


class Inputs:
    """Blocks of features (N, D_b), each standardised by the rows ``pool`` and set side by side.

    Nothing of the scale is learnt from labels. With ``D = sum D_b``, block b is stretched by
    ``sqrt(D / D_b)``: under a prior of variance ``s / D`` on every weight, each block's share of a
    logit has variance ``s``, as it has where it stands alone. So the wider block does not drown the
    other, and beside a block that says nothing the other is read as if it were alone.
    """

    def __init__(self, blocks: Sequence[np.ndarray], pool: np.ndarray) -> None:
        width = sum(block.shape[1] for block in blocks)
        self.blocks = []
        for block in blocks:
            known = block[pool].astype(np.float64)
            mean, deviation = known.mean(axis=0), known.std(axis=0)
            deviation[deviation < 1e-6 * max(deviation.max(initial=0), 1e-12)] = np.inf
            stretch = np.sqrt(width / max(block.shape[1], 1))
            self.blocks.append((block, mean, deviation, stretch))

    def at(self, rows: np.ndarray) -> np.ndarray:
        """Return the features of ``rows`` (n,), (n, D) float64."""
        parts = [
            (block[rows] - mean) / deviation * stretch
            for block, mean, deviation, stretch in self.blocks
        ]
        return parts[0] if len(parts) == 1 else np.hstack(parts)


class Probe(Protocol):
    """Multinomial logistic regression with a Gaussian prior on standardised features.

    Features are standardised with the mean and deviation of the unlabelled pool, so that a tiny
    budget does not set the scale. The prior on each of the D weights has variance ``strength / D``:
    the logit of a typical sample has variance ``strength`` before any label is seen, whatever the
    width of the backbone. It is fixed by default. Several ``strengths`` are compared by their log
    loss under cross-validation inside the budget, by patient, and the smallest of the best fits the
    whole budget; where the budget cannot be divided, ``strength`` is taken.
    """

    reads: ClassVar[Reads] = "embeddings"
    strength: float = Field(10.0, gt=0, description="prior variance of a logit")
    strengths: tuple[Annotated[float, Field(gt=0)], ...] = Field(
        (), description="to choose from inside the budget; none: strength as it is"
    )
    selection_folds: int = Field(5, ge=2, description="folds that choose among strengths")

    def blocks(self, evidence: Evidence) -> tuple[np.ndarray, ...]:
        """Return the features of all samples, one (N, D_b) per kind: the embeddings."""
        assert evidence.embeddings is not None
        return (evidence.embeddings,)

    def space(self) -> tuple[Dimension, ...]:
        """Return what a search varies: the strength, unless the budget chooses it."""
        if self.strengths:
            return ()
        return (Dimension(name="strength", low=0.1, high=1000, log=True),)

    @property
    def n_fits(self) -> int:
        """Regressions that one judgement takes."""
        return 1

    def judge(self, evidence: Evidence) -> Verdict:
        """Fit on the budget, score the test rows."""
        inputs = Inputs(self.blocks(evidence), evidence.pool)
        train = inputs.at(evidence.train)
        chosen = self._choose(train, evidence) if self.strengths else {}
        strength = chosen.get("strength", self.strength)
        return self._judged(inputs, train, evidence, strength, chosen)

    def _judged(
        self,
        inputs: Inputs,
        train: np.ndarray,
        evidence: Evidence,
        strength: float,
        chosen: dict[str, float],
    ) -> Verdict:
        test = inputs.at(evidence.test)
        probability = fitted(train, evidence.train_target, strength, test, evidence.n_classes)
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


def fitted(
    x: np.ndarray,
    target: np.ndarray,
    strength: float,
    test: np.ndarray,
    n_classes: int,
    weight: np.ndarray | None = None,
) -> np.ndarray:
    """Fit on ``x`` (n, D), which count ``weight`` (n,), and return (len(test), K)."""
    model = regression(x, target, strength, weight)
    probability = np.zeros((len(test), n_classes))
    probability[:, model.classes_] = model.predict_proba(test)
    return probability


def regression(
    x: np.ndarray, target: np.ndarray, strength: float, weight: np.ndarray | None = None
) -> LogisticRegression:
    """Return the logistic regression on ``x`` (n, D), which count ``weight`` (n,)."""
    from sklearn.linear_model import LogisticRegression  # half a second that planning is spared

    model = LogisticRegression(C=strength / x.shape[1], max_iter=2000)
    model.fit(x, target, sample_weight=weight)
    return model


def _log_loss(
    x: np.ndarray, target: np.ndarray, fold: np.ndarray, strength: float, n_classes: int
) -> float:
    """Return the mean of -ln p(true class) over samples that were each left out once."""
    true = np.empty(len(x))
    for index in np.unique(fold):
        held = fold == index
        probability = fitted(x[~held], target[~held], strength, x[held], n_classes)
        true[held] = probability[np.arange(held.sum()), target[held]]
    return float(-np.log(np.maximum(true, np.finfo(float).eps)).mean())
