"""kNN: neighbours vote by cosine similarity of frozen embeddings."""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np
from pydantic import Field

from melssl.evaluation.protocols.base import Evidence, Protocol, Verdict
from melssl.space import Dimension


class Knn(Protocol):
    """``p_c ~ sum over the k nearest of 1[y = c] exp(cos / T)`` (Wu et al. 2018, section 3.4)."""

    label: ClassVar[str] = "kNN"
    reads: ClassVar[Literal["embeddings", "weights"]] = "embeddings"
    name: Literal["knn"] = "knn"
    k: int = Field(20, ge=1, description="neighbours; all of the budget where it is smaller")
    temperature: float = Field(0.07, gt=0)

    def space(self) -> tuple[Dimension, ...]:
        """Return what a search varies."""
        return (
            Dimension(name="k", low=1, high=100, log=True, whole=True),
            Dimension(name="temperature", low=0.01, high=1, log=True),
        )

    def judge(self, evidence: Evidence) -> Verdict:
        """Let the budget's samples vote on every test row."""
        assert evidence.embeddings is not None
        unit = _unit(evidence.embeddings - evidence.embeddings[evidence.pool].mean(axis=0))
        cosine = unit[evidence.test] @ unit[evidence.train].T
        k = min(self.k, cosine.shape[1])
        nearest = np.argpartition(-cosine, k - 1, axis=1)[:, :k]
        similarity = np.take_along_axis(cosine, nearest, axis=1)
        weight = np.exp((similarity - similarity.max(axis=1, keepdims=True)) / self.temperature)
        votes = np.zeros((len(cosine), evidence.n_classes))
        for label in range(evidence.n_classes):
            votes[:, label] = (weight * (evidence.train_target[nearest] == label)).sum(axis=1)
        return Verdict(probability=votes / votes.sum(axis=1, keepdims=True))


def _unit(embeddings: np.ndarray) -> np.ndarray:
    norm = np.linalg.norm(embeddings, axis=1, keepdims=True)
    scaled: np.ndarray = embeddings / np.maximum(norm, 1e-12)
    return scaled
