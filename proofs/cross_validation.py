"""One cross-validated comparison of two arms: fold differences and their bootstrap replicates."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from melssl.statistics.levels import repeat_counts
from proofs.made_cohorts import KEPT, Arms, Cohort, labelled, made_folds, multiplicities, scored

N_FOLDS = 5


@dataclass(frozen=True, kw_only=True)
class Design:
    """How often the folds are dealt again, and how many draws of which share of the labels."""

    n_repeats: int = 1
    n_draws: int = 1
    share: float = 1.0

    @property
    def name(self) -> str:
        """As it stands in the head of a table."""
        folds = f"{self.n_repeats}x{N_FOLDS} folds" if self.n_repeats > 1 else f"{N_FOLDS} folds"
        budget = f", {self.n_draws} draws of {self.share:.0%}" if self.share < 1 else ""
        return folds + budget


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """AUC differences of folds and draws (J, D); replicates (R,) of their mean; pooled scores.

    ``by_patient`` redraws patients, ``by_both`` also draws of labels, ``by_image`` single images.
    ``pooled`` (2, N) holds out-of-fold scores of both arms, averaged over repeats and draws.
    """

    differences: np.ndarray
    by_patient: np.ndarray
    by_both: np.ndarray
    by_image: np.ndarray
    pooled: np.ndarray


def compared(
    cohort: Cohort,
    features: list[np.ndarray],
    arms: Arms,
    design: Design,
    n_replicates: int,
    rng: np.random.Generator,
) -> Comparison:
    """Train and test both arms in every fold, draw and repeat; redraw what was tested.

    One patient has one multiplicity, Poisson(1), in all folds and repeats.
    """
    weights = multiplicities((n_replicates, cohort.n_patients), rng)
    images = multiplicities((n_replicates, len(cohort.patient)), rng)
    pooled = np.zeros((2, len(cohort.patient)))
    found: list[tuple[np.ndarray, ...]] = []
    for _ in range(design.n_repeats):
        fold = made_folds(cohort, N_FOLDS, rng)
        for k in range(N_FOLDS):
            test = np.flatnonzero(fold[cohort.patient] == k)
            scores = arm_scores(cohort, features, arms, np.flatnonzero(fold != k), design, rng)
            pooled[:, test] += scores.mean(axis=0)[:, test]
            found.append(redrawn(cohort, scores[:, :, test], test, weights, images, rng))
    differences, by_patient, by_both, by_image = (
        np.array(part) for part in zip(*found, strict=True)
    )
    return Comparison(
        differences=differences,
        by_patient=by_patient.mean(axis=0),
        by_both=by_both.mean(axis=0),
        by_image=by_image.mean(axis=0),
        pooled=pooled / design.n_repeats,
    )


def arm_scores(
    cohort: Cohort,
    features: list[np.ndarray],
    arms: Arms,
    patients: np.ndarray,
    design: Design,
    rng: np.random.Generator,
) -> np.ndarray:
    """Train on draws of ``patients``; score all images by both arms in each, (D, 2, N).

    Both see the same labels.
    """
    scores = np.empty((design.n_draws, 2, len(cohort.patient)))
    for draw in range(design.n_draws):
        train = labelled(cohort, patients, design.share, rng)
        for arm in range(2):
            seen = train
            if arms == "own training only":
                seen = labelled(cohort, np.unique(cohort.patient[train]), KEPT, rng)
            scores[draw, arm] = scored(features[arm], cohort.target, seen)
    return scores


def redrawn(
    cohort: Cohort,
    scores: np.ndarray,
    test: np.ndarray,
    weights: np.ndarray,
    images: np.ndarray,
    rng: np.random.Generator,
) -> tuple[np.ndarray, ...]:
    """Return one fold's AUC difference and its replicates by patient, by both and by image.

    AUC_a - AUC_b under weights w is the sum of w_i w_j K_ij over pairs of a positive i and a
    negative j, over that of w_i w_j, with K the difference of who wins, averaged over draws.
    """
    positive = cohort.target[test] == 1
    up, down = test[positive], test[~positive]
    wins = np.sign(scores[:, :, positive, None] - scores[:, :, None, ~positive]) / 2
    wins = (wins[:, 0] - wins[:, 1]).astype(np.float32)  # draws x positives x negatives
    owner = cohort.patient
    each = _weighted(wins, weights[:, owner[up]], weights[:, owner[down]])
    counts = repeat_counts(len(wins), len(weights), rng)
    by_both = (each * counts).sum(axis=1) / counts.sum(axis=1)
    by_image = _weighted(wins.mean(axis=0, keepdims=True), images[:, up], images[:, down])
    return wins.mean(axis=(1, 2)), each.mean(axis=1), by_both, by_image[:, 0]


def _weighted(wins: np.ndarray, up: np.ndarray, down: np.ndarray) -> np.ndarray:
    """Return the weighted means of wins (D, m, n) under weights (R, m) and (R, n), shape (R, D)."""
    d, m, n = wins.shape
    lines = (up @ wins.transpose(1, 0, 2).reshape(m, d * n)).reshape(len(up), d, n)
    with np.errstate(invalid="ignore"):
        area: np.ndarray = np.einsum("rdn,rn->rd", lines, down) / (up.sum(1) * down.sum(1))[:, None]
    return area
