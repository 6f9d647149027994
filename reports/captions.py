"""Sentences that captions share; their numbers come from the frame and the study."""

from __future__ import annotations

import pandas as pd

from ablations.table import StudyInfo
from reports.cells import LOST, PARTIAL, label, main_metric, units
from reports.style import found, origin


def joined(*sentences: str) -> str:
    """Join sentences into one paragraph."""
    return " ".join(sentence for sentence in sentences if sentence)


def bars(info: StudyInfo) -> str:
    """Return what a bar is, and what it leaves out."""
    return f"Bars are 95 % intervals ({resampled(info)}); a point without a bar has no interval."


def resampled(info: StudyInfo) -> str:
    """Return what the bootstrap redraws; the spread of draws and seeds is not in it."""
    return f"bootstrap over the test {units(info)}; draws and seeds are averaged, not resampled"


def chance(info: StudyInfo) -> str:
    """Return what a dotted line is, if the metric has one."""
    value = main_metric(info).chance
    return "" if value is None else f"Dotted, where in view: chance ({value:g})."


def control(info: StudyInfo) -> str:
    """Return the printed name of the control."""
    return label(info, "method", info.control)


def gaps(frame: pd.DataFrame) -> str:
    """Return how many cells of a frame lack trials or have no result; nothing if all are full."""
    cells = frame.dropna(subset=["status"]).drop_duplicates("cell")
    partial, lost = (cells["status"] == PARTIAL).sum(), (cells["status"] == LOST).sum()
    if partial + lost == 0:
        return ""
    return f"Hollow: some trials missing ({partial} cells); cross: no result ({lost} cells)."


def footing(info: StudyInfo) -> str:
    """Return how often things were repeated and where the numbers come from."""
    repeats = (("fold", info.folds), ("draw", info.draws), ("seed", info.seeds))
    counts = [f"{len(items)} {name}{'s' * (len(items) != 1)}" for name, items in repeats]
    return f"{found(info)}; {', '.join(counts)}. Origin: {'; '.join(origin(info))}."
