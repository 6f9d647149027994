"""The frame ``relative``: each arm's gain as a share of what its control scores."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

from ablations.results import Results
from melssl.evaluation.uncertainty import Bootstrap
from melssl.statistics.differences import relative


def relative_frame(results: Results) -> pd.DataFrame:
    """Return one row per compared cell with paired trials, and metric with replicates.

    ``control_score`` and ``arm_score`` are means over the paired trials; ``estimate`` is their
    difference over the control's, its replicates those of the difference over the control's own.
    """
    rows = [
        {"cell": name, "metric": metric} | results.levels(results.cells[name]) | row
        for name in results.compared
        for metric, row in _rows(results, name)
    ]
    return results.frame("relative", rows)


def _rows(results: Results, name: str) -> Iterator[tuple[str, dict[str, object]]]:
    for metric in results.interval_metrics if results.pairs[name] else ():
        gain, control = results.gain(name, metric), results.control(name, metric)
        share = Bootstrap(
            estimate=float(relative(gain.estimate, control.estimate)),
            replicates=relative(gain.replicates, control.replicates),
        ).interval
        yield (
            metric,
            {
                "control_score": control.estimate,
                "arm_score": control.estimate + gain.estimate,
                "estimate": share.estimate,
                "low": share.low,
                "high": share.high,
                "n_pairs": len(results.pairs[name]),
            },
        )
