"""Overlap: Dice coefficients and surface distances of predicted masks, one volume at a time.

What an empty mask scores: where a structure is neither there nor predicted nothing is wrong: Dice
is 1 and distances are 0. Where it is only there, or only predicted, Dice is 0 and no surface lies
opposite: the distances are the diagonal of the volume, the longest that there could be. To leave
such volumes out would pay a model for finding nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations

import numpy as np
from scipy.ndimage import binary_erosion
from scipy.spatial import KDTree

from melssl.evaluation.mask_scores import MaskScores

PERCENT = 95


@dataclass(frozen=True, kw_only=True)
class Overlap:
    """One structure of one volume: its Dice coefficient, distances in mm, sizes in mm3."""

    dice: float
    hausdorff_95_mm: float
    surface_distance_mm: float
    true_mm3: float
    predicted_mm3: float


def overlap(
    predicted: np.ndarray, truth: np.ndarray, spacing_mm: Sequence[float], *, surfaces: bool = True
) -> Overlap:
    """Return how two masks of one shape (D, H, W) bool agree; distances are NaN if not asked for.

    Dice: 2 |A B| / (|A| + |B|). A surface is made of the voxels of a mask that touch its outside or
    the border of the volume, by a face. From each voxel of one surface the distance to the nearest
    of the other, both ways: the 95 % Hausdorff distance is the larger of the two 95th percentiles,
    the average surface distance the mean of all (as MONAI has it).
    """
    both = int((predicted & truth).sum())
    sizes = int(predicted.sum()), int(truth.sum())
    voxel = float(np.prod(spacing_mm))
    found = (np.nan, np.nan)
    if surfaces:
        found = _distances(predicted, truth, spacing_mm, *sizes)
    return Overlap(
        dice=2 * both / sum(sizes) if any(sizes) else 1.0,
        hausdorff_95_mm=found[0],
        surface_distance_mm=found[1],
        true_mm3=voxel * sizes[1],
        predicted_mm3=voxel * sizes[0],
    )


def mask_scores(
    sample_id: np.ndarray,
    patient_id: np.ndarray,
    structures: tuple[str, ...],
    predicted: Sequence[np.ndarray],
    truth: Sequence[np.ndarray],
    spacing_mm: Sequence[Sequence[float]],
) -> MaskScores:
    """Return the scores of N volumes, whose masks hold 0 for the background and 1..K.

    Shapes: ``sample_id``, ``patient_id`` (N,) of str; each mask (D, H, W) of integers; each spacing
    three numbers, mm.
    """
    rows = [
        [
            overlap(mine == label, true == label, spacing, surfaces=label > 0)
            for label in range(1 + len(structures))
        ]
        for mine, true, spacing in zip(predicted, truth, spacing_mm, strict=True)
    ]

    def table(name: str) -> np.ndarray:
        return np.array([[getattr(one, name) for one in row] for row in rows], dtype=np.float64)

    return MaskScores(
        sample_id=sample_id,
        patient_id=patient_id,
        structures=structures,
        dice=table("dice"),
        hausdorff_95_mm=table("hausdorff_95_mm"),
        surface_distance_mm=table("surface_distance_mm"),
        true_mm3=table("true_mm3"),
        predicted_mm3=table("predicted_mm3"),
    )


def _distances(
    predicted: np.ndarray,
    truth: np.ndarray,
    spacing_mm: Sequence[float],
    n_predicted: int,
    n_true: int,
) -> tuple[float, float]:
    """Return the 95 % Hausdorff and the average surface distance, mm."""
    if not (n_predicted and n_true):
        diagonal = float(np.linalg.norm(np.multiply(truth.shape, spacing_mm)))
        worst = diagonal if n_predicted or n_true else 0.0
        return worst, worst
    near, back = (
        KDTree(there).query(here)[0]
        for here, there in permutations([_surface(mask, spacing_mm) for mask in (predicted, truth)])
    )
    farthest = max(float(np.percentile(way, PERCENT)) for way in (near, back))
    return farthest, float(np.concatenate([near, back]).mean())


def _surface(mask: np.ndarray, spacing_mm: Sequence[float]) -> np.ndarray:
    """Return where the voxels of a mask lie that have a face to its outside, (V, 3) mm."""
    places: np.ndarray = np.argwhere(mask & ~binary_erosion(mask)) * np.asarray(spacing_mm, float)
    return places
