"""Linear probe: regularised logistic regression on frozen embeddings."""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np
from pydantic import Field
from sklearn.linear_model import LogisticRegression

from melssl.evaluation.protocols.base import Evidence, Protocol, Verdict


class LinearProbe(Protocol):
    """Multinomial logistic regression with a Gaussian prior on standardised embeddings.

    Embeddings are standardised with the mean and deviation of the unlabelled pool, so that a tiny
    budget does not set the scale. The prior on each of the D weights has variance ``strength / D``:
    the logit of a typical sample has variance ``strength`` before any label is seen, whatever the
    width of the backbone. It is fixed, because choosing it anew would cost labels.
    """

    label: ClassVar[str] = "linear probe"
    reads: ClassVar[Literal["embeddings", "weights"]] = "embeddings"
    name: Literal["linear_probe"] = "linear_probe"
    strength: float = Field(10.0, gt=0, description="prior variance of a logit")

    def judge(self, evidence: Evidence) -> Verdict:
        """Fit on the budget, score the test rows."""
        assert evidence.embeddings is not None
        pool = evidence.embeddings[evidence.pool].astype(np.float64)
        mean, deviation = pool.mean(axis=0), pool.std(axis=0)
        deviation[deviation < 1e-6 * max(deviation.max(), 1e-12)] = np.inf
        width = pool.shape[1]
        model = LogisticRegression(C=self.strength / width, max_iter=2000)
        model.fit((evidence.embeddings[evidence.train] - mean) / deviation, evidence.train_target)
        test = (evidence.embeddings[evidence.test] - mean) / deviation
        probability = np.zeros((len(test), evidence.n_classes))
        probability[:, model.classes_] = model.predict_proba(test)
        return Verdict(probability=probability)
