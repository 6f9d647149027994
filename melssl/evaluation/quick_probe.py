"""Quick probe: what an encoder knows of the outcome while it is trained, told by neighbours' votes.

It is looked at and not learned from: no weight and no choice depends on it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from torch import Tensor

from melssl.backbones.base import Backbone
from melssl.evaluation.metrics import METRICS
from melssl.evaluation.predictions import Predictions
from melssl.seeding import Seed

MOST_IMAGES, BATCH = 256, 64
N_NEAREST = 20


@dataclass(frozen=True, kw_only=True, eq=False)
class QuickProbe:
    """ROC AUC of a vote of the nearest images of other patients, among n labelled images.

    ``views`` returns images (B, 3, S, S) at some of the ``places`` (n,); ``target`` and ``patient``
    (n,) belong to them.
    """

    views: Callable[[np.ndarray], Tensor]
    places: np.ndarray
    target: np.ndarray
    patient: np.ndarray

    @classmethod
    def of(
        cls, views: Callable[[np.ndarray], Tensor], target: np.ndarray, patient: np.ndarray
    ) -> Self | None:
        """Choose at most 256 labelled places (target not below 0), classes as alike as may be.

        None where no class has images of two patients to be told from another's.
        """
        ranks = Seed(0).child("quick probe").ranks([str(name) for name in patient])
        order = np.argsort(ranks, kind="stable")
        classes = [order[target[order] == k] for k in np.unique(target[target >= 0])]
        share = MOST_IMAGES // max(len(classes), 1)
        chosen = [members[:share] for members in classes]
        if len(chosen) < 2 or any(len(np.unique(patient[members])) < 2 for members in chosen):
            return None
        places = np.concatenate(chosen)
        return cls(views=views, places=places, target=target[places], patient=patient[places])

    @torch.no_grad()
    def __call__(self, backbone: Backbone) -> float:
        """Return the ROC AUC, of several classes the mean against the rest; NaN if not finite.

        The backbone must be in evaluation mode.
        """
        device = next(backbone.parameters()).device
        parts = [
            backbone(self.views(self.places[first : first + BATCH]).to(device)).float().cpu()
            for first in range(0, len(self.places), BATCH)
        ]
        embeddings = torch.cat(parts).numpy()
        if not np.isfinite(embeddings).all():
            return float("nan")
        votes = self._votes(embeddings)
        names = self.places.astype(str).astype(object)
        scored = Predictions(
            sample_id=names,
            patient_id=self.patient,
            target=np.unique(self.target, return_inverse=True)[1],
            probability=votes,
            prior=votes.mean(axis=0),
        )
        return float(METRICS["roc_auc"](scored))

    def _votes(self, embeddings: np.ndarray) -> np.ndarray:
        """Return how often each class is among the nearest of other patients, (n, K).

        Each class counts by how many there are of it: to leave out a patient leaves out some of
        its own class, and an encoder that knows nothing would vote for the other.
        """
        centred = embeddings - embeddings.mean(axis=0)
        unit = centred / np.maximum(np.linalg.norm(centred, axis=1, keepdims=True), 1e-12)
        other = self.patient[:, None] != self.patient
        cosine = np.where(other, unit @ unit.T, -np.inf)
        nearest = np.argsort(-cosine, axis=1, kind="stable")[:, :N_NEAREST]
        counted = np.take_along_axis(other, nearest, axis=1)
        votes = [
            ((self.target[nearest] == k) & counted).sum(axis=1) / other[:, self.target == k].sum(1)
            for k in np.unique(self.target)
        ]
        shares = np.stack(votes, axis=1)
        whole: np.ndarray = shares / shares.sum(axis=1, keepdims=True)
        return whole
