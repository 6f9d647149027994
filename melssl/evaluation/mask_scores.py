"""MaskScores: how near the predicted masks of test volumes come to the true ones, by structure."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from melssl.errors import ArtifactError
from melssl.evaluation.decisions import weighted_mean
from melssl.evaluation.tested import Tested

BACKGROUND = "background"
DISTANCES = ("hausdorff_95_mm", "surface_distance_mm")
SIZES = ("true_mm3", "predicted_mm3")
MEASURES = ("dice", *DISTANCES, *SIZES)


@dataclass(frozen=True, kw_only=True)
class MaskScores(Tested):
    """Measures of N test volumes with K structures and the background before them.

    All are (N, 1 + K): ``dice``; ``hausdorff_95_mm`` and ``surface_distance_mm``, NaN for the
    background, whose surface is that of everything else; ``true_mm3`` and ``predicted_mm3``, the
    sizes. What an empty mask scores is said in ``overlap``.
    """

    structures: tuple[str, ...]
    dice: np.ndarray
    hausdorff_95_mm: np.ndarray
    surface_distance_mm: np.ndarray
    true_mm3: np.ndarray
    predicted_mm3: np.ndarray

    def __post_init__(self) -> None:
        n, expected = len(self.sample_id), (len(self.sample_id), 1 + len(self.structures))
        if not self.structures or n == 0 or len(self.patient_id) != n:
            raise ArtifactError(
                f"mask scores: expected one patient per volume and a structure, got {n} volumes,"
                f" {len(self.patient_id)} patients and the structures {self.structures}"
            )
        for name in MEASURES:
            values = getattr(self, name)
            known = values[:, 1:] if name in DISTANCES else values
            if values.shape != expected or not np.isfinite(known).all():
                raise ArtifactError(
                    f"mask scores: expected finite {name} of shape {expected}, got {values.shape};"
                    " score the masks anew"
                )

    def at(self, rows: np.ndarray) -> MaskScores:
        """Return the volumes at ``rows``, as often as they are named."""
        chosen = {name: getattr(self, name)[rows] for name in ("sample_id", "patient_id")}
        return replace(self, **chosen, **{name: getattr(self, name)[rows] for name in MEASURES})

    def frame(self) -> pd.DataFrame:
        """Return the table that is stored: one row per volume and structure, background first."""
        names = (BACKGROUND, *self.structures)
        ids = {
            "sample_id": np.repeat(self.sample_id, len(names)),
            "patient_id": np.repeat(self.patient_id, len(names)),
            "structure": np.tile(np.array(names, dtype=object), len(self.sample_id)),
        }
        return pd.DataFrame(ids | {name: getattr(self, name).ravel() for name in MEASURES})

    def save(self, path: Path) -> None:
        """Write a parquet file; the names of the structures travel in the frame's attributes."""
        frame = self.frame()
        frame.attrs["structures"] = list(self.structures)
        frame.to_parquet(path, index=False)

    @classmethod
    def load(cls, path: Path) -> MaskScores:
        """Read what ``save`` wrote."""
        frame = pd.read_parquet(path)
        structures = tuple(frame.attrs["structures"])
        first = frame.iloc[:: 1 + len(structures)]
        shape = (len(first), 1 + len(structures))
        return cls(
            sample_id=first["sample_id"].to_numpy(object),
            patient_id=first["patient_id"].to_numpy(object),
            structures=structures,
            **{name: frame[name].to_numpy(np.float64).reshape(shape) for name in MEASURES},
        )


def of_structure(scores: MaskScores, measure: str, place: int, weights: np.ndarray) -> np.ndarray:
    """Return the mean over volumes of one measure of one structure (0: the background), (R,)."""
    return weighted_mean(getattr(scores, measure)[:, place], scores, weights)


def dice(scores: MaskScores, weights: np.ndarray) -> np.ndarray:
    """Mean over volumes of the mean Dice coefficient of the structures, without the background."""
    return weighted_mean(scores.dice[:, 1:].mean(axis=1), scores, weights)


def dice_with_background(scores: MaskScores, weights: np.ndarray) -> np.ndarray:
    """Mean over volumes of the mean Dice of background and structures: MONAI's tutorials' number.

    The background is large and easy: it lifts the mean and hides what the structures score.
    """
    return weighted_mean(scores.dice.mean(axis=1), scores, weights)


def hausdorff_95_mm(scores: MaskScores, weights: np.ndarray) -> np.ndarray:
    """Mean over volumes and structures of the 95 % Hausdorff distance, mm."""
    return weighted_mean(scores.hausdorff_95_mm[:, 1:].mean(axis=1), scores, weights)


def surface_distance_mm(scores: MaskScores, weights: np.ndarray) -> np.ndarray:
    """Mean over volumes and structures of the average symmetric surface distance, mm."""
    return weighted_mean(scores.surface_distance_mm[:, 1:].mean(axis=1), scores, weights)
