"""The frame ``structures``: Dice and distances of each structure, at each arm's largest budget."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd

from ablations.predicted import Predicted, in_series
from ablations.results import Results
from melssl.evaluation.mask_scores import BACKGROUND, DISTANCES, MaskScores, of_structure
from melssl.evaluation.uncertainty import Bootstrap
from melssl.judging import RESAMPLES

MEASURES = ("dice", *DISTANCES)
REDRAWS = RESAMPLES.replace(n=500)  # the first of those that all trials share


def structures_frame(results: Results, predicted: Predicted) -> pd.DataFrame:
    """Return one row per arm, structure (the background, too) and measure.

    A score is the mean over trials of the mean over test volumes; its interval redraws the test
    patients alone. ``n_*`` count the volumes of one series of folds, means over series.
    """
    rows: list[dict[str, object]] = []
    for cell in results.largest:
        trials = results.by_cell[cell.name]
        found = [predicted.masks_of(trial) for trial in trials]
        shared = {"cell": cell.name} | results.levels(cell)
        rows += [shared | row for row in _rows(found, len(in_series(trials)))]
    return results.frame("structures", rows)


def _rows(found: Sequence[MaskScores], n_series: int) -> Iterator[dict[str, object]]:
    if not found:
        return
    weights = [REDRAWS.weights(scores.patients) for scores in found]
    for place, structure in enumerate((BACKGROUND, *found[0].structures)):
        counts = {name: n / n_series for name, n in _counts(found, place).items()}
        for measure in MEASURES if place else MEASURES[:1]:
            mean = _mean(found, weights, measure, place)
            interval = mean.interval
            ends = {"low": interval.low, "high": interval.high}
            row = {"metric": measure, "structure": structure, "estimate": mean.estimate}
            yield row | ends | counts


def _mean(
    found: Sequence[MaskScores], weights: Sequence[np.ndarray], measure: str, place: int
) -> Bootstrap:
    """Return the mean over trials of one structure's score, with its replicates."""
    plain, redrawn = [], []
    for scores, redraws in zip(found, weights, strict=True):
        equal = np.ones((1, len(scores.patients)))
        plain.append(float(of_structure(scores, measure, place, equal)[0]))
        redrawn.append(of_structure(scores, measure, place, redraws))
    return Bootstrap(estimate=float(np.mean(plain)), replicates=np.mean(redrawn, axis=0))


def _counts(found: Sequence[MaskScores], place: int) -> dict[str, int]:
    """Count the volumes, and those in which a structure is there or predicted, not both."""
    there = np.concatenate([scores.true_mm3[:, place] > 0 for scores in found])
    said = np.concatenate([scores.predicted_mm3[:, place] > 0 for scores in found])
    return {
        "n_volumes": len(there),
        "n_missed": int((there & ~said).sum()),
        "n_invented": int((said & ~there).sum()),
    }
