"""Pseudo-labels: the linear probe labels the pool where it is surest, and is fitted again."""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np
from pydantic import Field

from melssl.evaluation.protocols.base import Evidence, Verdict
from melssl.evaluation.protocols.probe import Inputs, Probe, fitted
from melssl.space import Dimension


class PseudoLabels(Probe):
    """Self-training on frozen embeddings (Lee 2013), with class quotas (Zou et al. 2018).

    The probe scores the images of the pool that the budget does not hold. Of every class the
    surest are taken, as many as its share among the budget's labels says, and the probe is fitted
    to both. In round r of R a share ``r / R * pool_share`` of the pool is taken, labelled anew.
    Taken images together weigh ``pool_weight`` times the budget, however many they are. No image
    of a patient to be tested is among them. Where nothing is left in the pool, this is the linear
    probe.
    """

    label: ClassVar[str] = "pseudo-labels"
    name: Literal["pseudo_labels"] = "pseudo_labels"
    rounds: int = Field(3, ge=1, description="times that the pool is labelled")
    pool_share: float = Field(0.5, gt=0, le=1, description="of the pool, in the last round")
    pool_weight: float = Field(1.0, gt=0, description="of all taken images, the budget's being 1")

    def space(self) -> tuple[Dimension, ...]:
        """Return what a search varies."""
        return (
            *super().space(),
            Dimension(name="pool_share", low=0.1, high=1),
            Dimension(name="pool_weight", low=0.1, high=10, log=True),
        )

    @property
    def n_fits(self) -> int:
        """One, and one more each round."""
        return 1 + self.rounds

    def _judged(
        self,
        inputs: Inputs,
        train: np.ndarray,
        evidence: Evidence,
        strength: float,
        chosen: dict[str, float],
    ) -> Verdict:
        known, n_classes = evidence.train_target, evidence.n_classes
        prior = np.bincount(known, minlength=n_classes) / len(known)
        open_rows = unlabelled_pool(evidence)
        candidates, test = inputs.at(open_rows), inputs.at(evidence.test)
        x, target, weight = train, known, np.ones(len(known))
        n_taken = 0
        for round_ in range(1, self.rounds + 1 if len(open_rows) else 1):
            probability = fitted(x, target, strength, candidates, n_classes, weight)
            quota = round_ / self.rounds * self.pool_share * prior * len(open_rows)
            place, label = surest(probability, np.floor(quota + 0.5).astype(np.int64))
            n_taken = len(place)
            x = np.vstack([train, candidates[place]])
            target = np.concatenate([known, label])
            each = self.pool_weight * len(known) / max(n_taken, 1)
            weight = np.concatenate([np.ones(len(known)), np.full(n_taken, each)])
        probability = fitted(x, target, strength, test, n_classes, weight)
        return Verdict(probability=probability, chosen=chosen | {"pseudo_labels": n_taken})


def unlabelled_pool(evidence: Evidence) -> np.ndarray:
    """Return the rows of the pool without those of the budget and of patients to be tested."""
    tested = np.isin(evidence.patient[evidence.pool], evidence.patient[evidence.test])
    rows: np.ndarray = np.setdiff1d(evidence.pool[~tested], evidence.train)
    return rows


def surest(probability: np.ndarray, quota: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return places (m,) and labels (m,) of the ``quota[c]`` samples most surely of class c.

    Only samples whose likeliest class it is are counted for a class; ties go to the first.
    """
    likeliest = probability.argmax(axis=1)
    places, labels = [], []
    for label, wanted in enumerate(quota):
        mine = np.flatnonzero(likeliest == label)
        order = np.argsort(-probability[mine, label], kind="stable")[:wanted]
        places.append(mine[order])
        labels.append(np.full(len(order), label))
    return np.concatenate(places), np.concatenate(labels)
