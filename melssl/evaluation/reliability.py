"""Reliability: does what is called likely happen as often? The curve, and its mean distance."""

from __future__ import annotations

import numpy as np
import pandas as pd

from melssl.evaluation.predictions import Predictions

BINS = 15


def reliability(predictions: Predictions, n_bins: int = 10) -> pd.DataFrame:
    """Return the reliability curve over bins of equal mass: a row per bin that holds samples.

    Columns ``bin`` from 0, ``confidence`` and ``frequency`` (their means) and ``n_images``, as in
    ``ece``, which is the mean of ``|confidence - frequency|`` over the samples.
    """
    values, hits, mass = _by_score(predictions)
    ends = _bin_ends(mass, n_bins)
    rows = pd.DataFrame(
        {
            "bin": np.arange(n_bins),
            "confidence": _between(mass * values, ends),
            "frequency": _between(hits, ends),
            "n_images": _between(mass, ends).astype(np.int64),
        }
    )
    rows = rows[rows["n_images"] > 0].reset_index(drop=True)
    return rows.assign(
        confidence=rows["confidence"] / rows["n_images"],
        frequency=rows["frequency"] / rows["n_images"],
    )


def ece(predictions: Predictions, weights: np.ndarray) -> np.ndarray:
    """Expected calibration error over 15 bins of equal mass, in 0..1.

    Sum over bins of (share of samples) * |mean confidence - frequency|: confidence is p(class 1)
    and frequency that of class 1 if binary, else top probability and accuracy (Naeini et al.
    2015; equal mass, because at 2 % prevalence equal widths leave one bin). Equal scores share
    the bin in which the middle of their mass lies. Biased upward in small test sets, and more so
    under resampling: its bootstrap interval leans high.
    """
    score, hit = _confidence(predictions)
    order = np.argsort(score, kind="stable")
    patient, hit = predictions.patient[order], hit[order]
    values, starts = np.unique(score[order], return_index=True)
    errors = np.empty(len(weights))
    for row, multiplicity in enumerate(weights):
        sample = multiplicity[patient]
        mass = np.add.reduceat(sample, starts)
        surplus = mass * values - np.add.reduceat(sample * hit, starts)
        gaps = _between(surplus, _bin_ends(mass, BINS))
        errors[row] = np.abs(gaps).sum() / mass.sum()
    return errors


def _by_score(predictions: Predictions) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the distinct scores, ascending, with their hits and their samples."""
    score, hit = _confidence(predictions)
    values, place, mass = np.unique(score, return_inverse=True, return_counts=True)
    return values, np.bincount(place, hit, len(values)), mass.astype(np.float64)


def _confidence(predictions: Predictions) -> tuple[np.ndarray, np.ndarray]:
    """Return what each sample's score (N,) claims and whether it came true (N,) bool."""
    if predictions.n_classes == 2:
        return predictions.score, predictions.target == 1
    top = predictions.probability.argmax(axis=1)
    return predictions.probability.max(axis=1), top == predictions.target


def _bin_ends(mass: np.ndarray, n_bins: int) -> np.ndarray:
    """Return where each bin of ascending scores that carry ``mass`` ends, (n_bins,)."""
    reached = np.cumsum(mass)
    # A score belongs to bin b if its middle lies in b/n .. (b + 1)/n of the whole mass.
    middle = (reached - mass / 2) * n_bins
    ends: np.ndarray = np.searchsorted(middle, reached[-1] * np.arange(1, n_bins + 1))
    return ends


def _between(values: np.ndarray, ends: np.ndarray) -> np.ndarray:
    running = np.concatenate([[0.0], np.cumsum(values)])[ends]
    sums: np.ndarray = np.diff(running, prepend=0.0)
    return sums
