"""The frame ``sweeps``: ROC, precision-recall and net benefit of each arm's largest budget."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd

from ablations.finished import Finished
from ablations.predicted import Predicted
from ablations.results import Results
from melssl.evaluation.sweeps import SWEEPS
from melssl.evaluation.uncertainty import Bootstrap
from melssl.judging import RESAMPLES

REDRAWS = RESAMPLES.replace(n=500)  # the first of those that all trials share


def sweeps_frame(results: Results, predicted: Predicted) -> pd.DataFrame:
    """Return one row per arm, curve and place ``at``: the mean over trials, with a 95 % interval.

    Curves are averaged in y over all trials of a cell (folds, draws, seeds), which count alike.
    Intervals are percentiles, hold at each place by itself and redraw the test patients alone; on
    the scale of logits they would break where a redrawn curve has reached 0 or 1.
    """
    readings = _Readings(predicted)
    rows: list[dict[str, object]] = []
    for cell in results.largest:
        trials = results.by_cell[cell.name]
        for curve in readings.curves(trials) if trials else ():
            shared = {"cell": cell.name, "curve": curve} | results.levels(cell)
            mean = readings.mean(trials, curve)
            rows += [shared | point for point in _points(curve, mean)]
    return results.frame("sweeps", rows)


class _Readings:
    """The curves of trials under the redraws of their test patients; weights are made once."""

    def __init__(self, predicted: Predicted) -> None:
        self._predicted = predicted
        self._weights: dict[tuple[str, ...], np.ndarray] = {}

    def curves(self, trials: Sequence[Finished]) -> list[str]:
        """Return the curves that exist for the outcome."""
        binary = self._predicted.of(trials[0]).n_classes == 2
        return [name for name, (_, _, of_two) in SWEEPS.items() if binary or not of_two]

    def mean(self, trials: Sequence[Finished], curve: str) -> np.ndarray:
        """Return the mean over trials, (1 + R, places); the first row weighs patients equally."""
        total = np.zeros((1, 1))
        for trial in trials:
            own = self._predicted.of(trial)
            total = total + SWEEPS[curve][1](own, self._redrawn(own.patients))
        return total / len(trials)

    def _redrawn(self, patients: np.ndarray) -> np.ndarray:
        """Return equal weights and REDRAWS of the patients, (1 + R, P); they differ by fold."""
        key = tuple(patients)
        if key not in self._weights:
            self._weights[key] = np.vstack([np.ones(len(patients)), REDRAWS.weights(patients)])
        return self._weights[key]


def _points(curve: str, mean: np.ndarray) -> Iterator[dict[str, object]]:
    for at, column in zip(SWEEPS[curve][0], mean.T, strict=True):
        one = Bootstrap(estimate=float(column[0]), replicates=column[1:])
        low, high = one.interval.low, one.interval.high
        yield {"at": float(at), "estimate": one.estimate, "low": low, "high": high}
