"""Predictions: one row per scored sample, with its patient."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pandas as pd

from melssl.errors import ArtifactError
from melssl.evaluation.tested import Tested

UNKNOWN_CAMERA = "unknown"  # what Cohort.cameras calls a row whose camera is not known


@dataclass(frozen=True, kw_only=True)
class Predictions(Tested):
    """Scores of N test samples over K classes.

    Shapes: ``target`` (N,) int in 0..K-1; ``probability`` (N, K), rows sum to 1; ``prior`` (K,)
    class shares among the labels of the budget, the only labels that a decision threshold may come
    from; ``camera`` (N,) of str, the acquisition group of each sample where the cohort knows it;
    ``thresholds`` the score above which a sample is called positive, by the specificity in per cent
    that it was chosen for, from labels of the budget. With ``per_patient`` a patient's samples are
    takes of one finding, and patients are scored, too.
    """

    target: np.ndarray
    probability: np.ndarray
    prior: np.ndarray
    camera: np.ndarray | None = None
    thresholds: Mapping[int, float] = field(default_factory=dict)
    per_patient: bool = False

    def __post_init__(self) -> None:
        n, k = self.probability.shape
        if not (len(self.sample_id) == len(self.patient_id) == len(self.target) == n):
            raise ArtifactError("predictions: columns differ in length")
        if self.camera is not None and len(self.camera) != n:
            raise ArtifactError(f"predictions: {n} samples but {len(self.camera)} cameras")
        if len(self.prior) != k:
            raise ArtifactError(f"predictions: {k} classes but {len(self.prior)} priors")
        if not np.isfinite(self.probability).all():
            raise ArtifactError("predictions: a probability is not finite")
        if any(np.isnan(threshold) for threshold in self.thresholds.values()):
            raise ArtifactError("predictions: a threshold is NaN; leave it out if there is none")
        if n == 0 or self.target.min() < 0 or self.target.max() >= k:
            raise ArtifactError(f"predictions: expected one or more targets, all in 0..{k - 1}")

    @property
    def n_classes(self) -> int:
        """Number of classes K."""
        return int(self.probability.shape[1])

    @property
    def score(self) -> np.ndarray:
        """Probability of class 1, shape (N,): the score of a binary outcome."""
        return self.probability[:, 1]

    def at(self, rows: np.ndarray) -> Predictions:
        """Return the samples at ``rows``, as often as they are named, with all that is known.

        Raises:
            ArtifactError: no row is named.

        """
        return replace(
            self,
            sample_id=self.sample_id[rows],
            patient_id=self.patient_id[rows],
            target=self.target[rows],
            probability=self.probability[rows],
            camera=None if self.camera is None else self.camera[rows],
        )

    def by_patient(self) -> Predictions:
        """Return the mean probability of each patient's samples of one outcome, scored once.

        A patient whose samples show two outcomes counts once for each.
        """
        own, place = np.unique(self.patient * self.n_classes + self.target, return_inverse=True)
        sums = np.zeros((len(own), self.n_classes))
        order = np.lexsort((*self.probability.T, place))  # sums must not depend on that of rows
        np.add.at(sums, place[order], self.probability[order])
        names = self.patients[own // self.n_classes]
        return replace(
            self,
            sample_id=np.array([f"{name} {k}" for name, k in zip(names, own, strict=True)], object),
            patient_id=names,
            target=own % self.n_classes,
            probability=sums / np.bincount(place)[:, None],
            camera=None,
            thresholds={},
        )

    def frame(self) -> pd.DataFrame:
        """Return the table that is stored: ids, target, camera if known, ``p0 .. p{K-1}``."""
        columns = {f"p{k}": self.probability[:, k] for k in range(self.n_classes)}
        ids = {"sample_id": self.sample_id, "patient_id": self.patient_id, "target": self.target}
        camera = {} if self.camera is None else {"camera": self.camera}
        return pd.DataFrame(ids | camera | columns)

    def save(self, path: Path) -> None:
        """Write a parquet file; prior and thresholds travel in the frame's attributes."""
        frame = self.frame()
        frame.attrs["prior"] = [float(share) for share in self.prior]
        # as text: JSON has no infinity
        frame.attrs["thresholds"] = {str(at): repr(float(t)) for at, t in self.thresholds.items()}
        if self.per_patient:
            frame.attrs["per_patient"] = True
        frame.to_parquet(path, index=False)

    @classmethod
    def load(cls, path: Path) -> Predictions:
        """Read what ``save`` wrote."""
        frame = pd.read_parquet(path)
        scores = [c for c in frame if str(c).startswith("p") and str(c)[1:].isdigit()]
        return cls(
            sample_id=frame["sample_id"].to_numpy(object),
            patient_id=frame["patient_id"].to_numpy(object),
            target=frame["target"].to_numpy(np.int64),
            probability=frame[scores].to_numpy(np.float64),
            prior=np.array(frame.attrs["prior"]),
            camera=frame["camera"].to_numpy(object) if "camera" in frame else None,
            thresholds={int(at): float(t) for at, t in frame.attrs.get("thresholds", {}).items()},
            per_patient=bool(frame.attrs.get("per_patient", False)),
        )
