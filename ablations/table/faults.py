"""What makes a table unusable: frames and description that contradict each other."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from ablations.table.columns import ORIGIN, SCHEMAS
from ablations.table.info import SCALES, StudyInfo
from melssl.errors import ArtifactError


class TableError(ArtifactError):
    """A study's table is missing, damaged, of another format, or contradicts itself."""


def faults_of(info: StudyInfo, frames: Mapping[str, pd.DataFrame]) -> list[str]:
    """Return every fault; rows are looked at where description and columns have none."""
    return _info_faults(info) + _column_faults(info, frames) or _row_faults(info, frames)


def _info_faults(info: StudyInfo) -> list[str]:
    names = [factor.name for factor in info.factors]
    metrics = [metric.name for metric in info.metrics]
    faults = [f"factor {n!r} is missing (found: {names})" for n in _absent(names)]
    faults += [f"origin lacks {key!r}" for key in ORIGIN if key not in info.origin]
    if info.main_metric not in metrics:
        faults.append(f"main metric {info.main_metric!r} is none of {metrics}")
    for factor in info.factors:
        if factor.scale not in SCALES:
            faults.append(f"factor {factor.name!r}: scale {factor.scale!r} is none of {SCALES}")
        texts = {isinstance(value, str) for value in factor.values}
        if len(texts) != 1 or len(set(factor.values)) != len(factor.values):
            faults.append(f"factor {factor.name!r}: needs distinct levels, all text or all numbers")
    if info.control is not None and info.has("method"):
        known = info.factor("method").values
        if info.control not in known:
            faults.append(f"control {info.control!r} is no level of method {known}")
    return faults


def _absent(names: list[str]) -> list[str]:
    return [name for name in ("method", "label_fraction") if name not in names]


def _column_faults(info: StudyInfo, frames: Mapping[str, pd.DataFrame]) -> list[str]:
    factors = tuple(factor.name for factor in info.factors)
    faults = []
    for name, frame in frames.items():
        schema = SCHEMAS[name]
        if frame.empty and not schema.always:
            continue
        wanted = schema.columns if schema.plain else schema.columns + factors
        missing = [column for column in wanted if column not in frame]
        if missing:
            found = ", ".join(map(str, frame.columns))
            faults.append(f"{name}: columns {missing} are missing (found: {found})")
    return faults


def _row_faults(info: StudyInfo, frames: Mapping[str, pd.DataFrame]) -> list[str]:
    faults, trials = [], frames["trials"]
    finished = trials["trial"].nunique() + len(frames["suggestions"])
    missing = len(frames["missing"])
    if (finished, missing) != (info.n_finished, info.n_planned - info.n_finished):
        faults.append(
            f"expected {info.n_finished} finished of {info.n_planned} planned trials, "
            f"got {finished} finished and {missing} missing"
        )
    if frames["cells"].duplicated(["cell", "metric"]).any():
        faults.append("cells: a cell and metric stand in two rows")
    for name in ("trials", "cells"):
        unknown = set(frames[name]["metric"]) - {metric.name for metric in info.metrics}
        faults += [f"{name}: metric {metric!r} is not described" for metric in sorted(unknown)]
    for name in ("trials", "cells", "missing"):
        faults += _level_faults(name, frames[name], info)
    return faults + _mixture_faults(trials, info)


def _level_faults(name: str, frame: pd.DataFrame, info: StudyInfo) -> list[str]:
    faults = []
    for factor in info.factors:
        unknown = set(frame[factor.name].dropna()) - set(factor.values)
        if unknown:
            faults.append(f"{name}: {factor.name} {sorted(unknown)} is no level of the study")
    sizes = frame["label_fraction"].astype(float)
    counts = (sizes >= 2) & (sizes % 1 == 0)
    if not (sizes.between(0, 1, inclusive="right") | counts).all():
        faults.append(
            f"{name}: label_fraction must be a share, above 0 and at most 1, or a whole number of"
            " patients in every row"
        )
    return faults


def _mixture_faults(trials: pd.DataFrame, info: StudyInfo) -> list[str]:
    return [
        f"trials: {key} {sorted(map(str, set(trials[key])))} is not only {info.origin[key]!r}"
        for key in ORIGIN
        if key in trials and set(map(str, trials[key])) - {str(info.origin[key])}
    ]
