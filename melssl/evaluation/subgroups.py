"""Subgroups: which rows share a sex, an age band, a site or a camera; and their predictions."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from melssl.evaluation.predictions import UNKNOWN_CAMERA, Predictions

MISSING, OTHER = "not given", "other"
LEAST = 20  # patients: fewer say nothing about a group, and their groups are pooled
FEW = 6  # numbers with at most so many values are levels, others are cut into bands
# Three bands rather than decades: of SIIM-ISIC's 581 melanomas decades give 2 to 133 each, these
# 73, 194 and 314, enough for an interval; the risk rises over all of them.
AGE_BANDS = {"below 40": (-np.inf, 40.0), "40 to 59": (40.0, 60.0), "60 and over": (60.0, np.inf)}


def subgroups(
    frame: pd.DataFrame, clinical: Sequence[str], cameras: pd.Series | None
) -> dict[str, pd.Series]:
    """Return by attribute the group of every row, as ordered categories with the frame's index.

    Attributes are the ``clinical`` columns and ``camera``. Ages come in three bands, other numbers
    in thirds of the rows, unless they take few values. What is missing is ``not given``; groups of
    fewer than 20 patients are ``other``. An attribute with one group only is left out.
    """
    columns = {name: frame[name] for name in clinical}
    if cameras is not None:
        columns["camera"] = cameras.mask(cameras == UNKNOWN_CAMERA)
    found = {
        name: _pooled(_levels(name, values), frame["patient_id"])
        for name, values in columns.items()
    }
    return {name: groups for name, groups in found.items() if len(groups.cat.categories) > 1}


def part(predictions: Predictions, mask: np.ndarray) -> Predictions:
    """Return the predictions of the samples in ``mask`` (N,) bool, with all that is known of them.

    Raises:
        ArtifactError: the mask is empty.

    """
    return predictions.at(np.flatnonzero(mask))


def _levels(name: str, values: pd.Series) -> pd.Series:
    """Return ordered categories; what is missing has none."""
    if not pd.api.types.is_numeric_dtype(values):
        text = values.astype(object).where(values.notna())
        names = sorted({str(value) for value in text.dropna()})
        return pd.Series(
            pd.Categorical(text.map(str, na_action="ignore"), names, ordered=True), values.index
        )
    numbers = values.astype("float64")
    distinct = np.unique(numbers.dropna())
    if name.split("_")[0] == "age":
        bands = AGE_BANDS
    elif len(distinct) <= FEW:
        bands = {f"{value:g}": (value, np.nextafter(value, np.inf)) for value in distinct}
    else:
        bands = _thirds(numbers)
    table = pd.Series(pd.Categorical([None] * len(values), list(bands), ordered=True), values.index)
    for band, (low, high) in bands.items():
        table[(numbers >= low) & (numbers < high)] = band
    return table


def _thirds(numbers: pd.Series) -> dict[str, tuple[float, float]]:
    low, high = (float(cut) for cut in np.quantile(numbers.dropna(), [1 / 3, 2 / 3]))
    bands = {
        f"below {low:g}": (-np.inf, low),
        f"{low:g} to below {high:g}": (low, high),
        f"{high:g} and over": (high, np.inf),
    }
    return {name: (start, end) for name, (start, end) in bands.items() if start < end}


def _pooled(levels: pd.Series, patient: pd.Series) -> pd.Series:
    """Pool rare levels, name what is missing, and keep the categories that occur."""
    n_patients = patient.groupby(levels, observed=False).nunique()
    names = [str(name) for name in levels.cat.categories]
    kept = [name for name in names if n_patients[name] >= LEAST]
    text = levels.astype(object)
    text = text.where(levels.isin(kept) | levels.isna(), OTHER).where(levels.notna(), MISSING)
    order = [*(name for name in kept if name not in (OTHER, MISSING)), OTHER, MISSING]
    present = [name for name in order if (text == name).any()]
    return pd.Series(pd.Categorical(text, present, ordered=True), levels.index)
