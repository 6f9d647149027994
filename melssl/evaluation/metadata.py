"""Metadata as features: what can be told of the outcome without seeing an image."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from melssl.data.cohort import Cohort
from melssl.errors import CohortError, nearest

CLINICAL, ACQUISITION = "clinical", "acquisition"
RESOLUTION = "resolution"  # width and height as one: together they name the camera
IMAGES_PER_PATIENT = "images_per_patient"  # a trace of how the cohort was gathered
SKEWED = ("bytes", IMAGES_PER_PATIENT)  # sizes and counts: their logarithm is read
RARE = 20  # a level of fewer rows shares its column with the other rare ones


def metadata_columns(cohort: Cohort, wanted: Sequence[str]) -> tuple[str, ...]:
    """Return the columns that ``wanted`` names, in order, none twice.

    ``clinical`` stands for all clinical columns, ``acquisition`` for all that describe how the
    image was taken and ``images_per_patient``; ``width`` with ``height`` become ``resolution``.
    No other column of the cohort can be asked for, the target least of all.

    Raises:
        CohortError: the cohort lacks a column, or names none of the kind.

    """
    kinds = {CLINICAL: cohort.clinical, ACQUISITION: cohort.acquisition}
    known = {*cohort.clinical, *cohort.acquisition, IMAGES_PER_PATIENT}
    known |= {RESOLUTION} if {"width", "height"} <= known else set()
    names: list[str] = []
    for name in wanted:
        if name in kinds and not kinds[name]:
            raise CohortError(
                f"{cohort.name}: no column is marked as {name} (known: {', '.join(sorted(known))});"
                " mark them in the source, or name columns with method=metadata"
            )
        if name not in kinds and name not in known:
            raise CohortError(
                f"{cohort.name}: {name!r} is no clinical or acquisition column;"
                f" {nearest(name, known | set(kinds))}"
            )
        names += kinds.get(name, (name,))
        names += [IMAGES_PER_PATIENT] if name == ACQUISITION else []
    if {"width", "height"} <= set(names):
        names = [RESOLUTION if name in ("width", "height") else name for name in names]
    return tuple(dict.fromkeys(names))


def features(frame: pd.DataFrame, columns: Sequence[str]) -> np.ndarray:
    """Return the features of every row, (N, D) float32; no target is read.

    A number gives its place in its range, 0..1 (the median where it is missing; of a size or count
    the logarithm), and, where some are missing, an indicator. Anything else gives one column per
    level; missing is a level, and levels of fewer than 20 rows are one. What does not vary is left
    out.

    Raises:
        CohortError: a column is not in the frame, or nothing varies.

    """
    table = np.hstack([_encoded(_values(frame, column), column) for column in columns])
    varies = (table != table[:1]).any(axis=0)
    if not varies.any():
        raise CohortError(
            f"metadata: {', '.join(columns)} have one value each in {len(frame)} rows, so nothing"
            " can be learned from them; choose other columns"
        )
    return table[:, varies].astype(np.float32)


def _values(frame: pd.DataFrame, column: str) -> pd.Series:
    if column == IMAGES_PER_PATIENT:
        images: pd.Series = frame.groupby("patient_id")["patient_id"].transform("size")
        return images
    needed = ("width", "height") if column == RESOLUTION else (column,)
    missing = [name for name in needed if name not in frame]
    if missing:
        found = ", ".join(map(str, frame.columns))
        raise CohortError(f"metadata: column {missing[0]!r} is missing (found: {found})")
    if column == RESOLUTION:
        sides = [pd.to_numeric(frame[side], errors="coerce") for side in needed]
        names = sides[0].astype(str) + "x" + sides[1].astype(str)
        return names.astype(object).where(sides[0].notna() & sides[1].notna())
    if column == "bytes":
        return frame["bytes"].where(frame["bytes"] >= 0)  # -1: there is no file
    return frame[column]


def _encoded(values: pd.Series, column: str) -> np.ndarray:
    if not pd.api.types.is_numeric_dtype(values):
        return _levels(values)
    numbers = values.to_numpy(np.float64, na_value=np.nan)
    known = np.isfinite(numbers)
    # not the mean: its last digit depends on the order of the rows
    typical = np.median(numbers[known]) if known.any() else 0.0
    filled = np.where(known, numbers, typical)
    scale = np.log1p(filled) if column in SKEWED else filled
    reach = scale - scale.min()
    return np.column_stack([reach / max(reach.max(), np.finfo(float).tiny), ~known])


def _levels(values: pd.Series) -> np.ndarray:
    missing = values.isna().to_numpy()
    text = values.astype(str).to_numpy(object)
    names, level, count = np.unique(text[~missing], return_inverse=True, return_counts=True)
    table = np.zeros((len(values), len(names) + 1))
    table[np.flatnonzero(~missing), level] = 1
    table[missing, -1] = 1
    common = np.append(count >= RARE, True)
    return np.column_stack([table[:, common], table[:, ~common].sum(axis=1)])
