"""Label budgets: nested, by patient, stratified, and the same for every method."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from pydantic import Field

from melssl.errors import SplitError
from melssl.seeding import Seed
from melssl.settings import Settings
from melssl.splits.folds import Fold
from melssl.splits.strata import PatientTable, patient_table


class BudgetSpec(Settings):
    """Share of a fold's training patients whose labels may be used, and which draw of it."""

    fraction: float = Field(1.0, gt=0, le=1)
    draw: int = Field(0, ge=0)
    min_patients_per_class: int = Field(2, ge=1)


@dataclass(frozen=True, kw_only=True)
class LabelledSubset:
    """The training samples whose labels may be used, with their actual numbers.

    ``sample_ids`` are sorted; ``images_per_class`` and ``patients_per_class`` have K entries (a
    patient counts for every class among its images).
    """

    fold_index: int
    fraction: float
    draw: int
    sample_ids: tuple[str, ...]
    n_patients: int
    images_per_class: tuple[int, ...]
    patients_per_class: tuple[int, ...]
    n_images: int = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "n_images", len(self.sample_ids))

    @property
    def n_positives(self) -> int:
        """Images of class 1 of a binary outcome; of the smallest class where there are more."""
        binary = len(self.images_per_class) == 2
        return self.images_per_class[1] if binary else min(self.images_per_class)

    @property
    def prior(self) -> np.ndarray:
        """Class shares among the images, shape (K,): what a threshold may be taken from."""
        return np.array(self.images_per_class) / self.n_images


def labelled_subset(
    frame: pd.DataFrame, fold: Fold, spec: BudgetSpec, seed: int, n_classes: int
) -> LabelledSubset:
    """Draw a budget: prefixes of a hashed order of the fold's training patients, per stratum.

    The order depends on seed, fold and draw alone, so a smaller budget lies within a larger one
    and every method, protocol and training seed sees the same labels.

    Raises:
        SplitError: a class has fewer patients than the spec wants, with the smallest fraction
            that works; or the fold was made for other patients.

    """
    cohort = patient_table(frame, n_classes)
    table = cohort.rows(fold.train)
    if len(table) != len(fold.train):
        raise SplitError(
            f"fold {fold.index}: expected {len(fold.train)} labelled training patients, got"
            f" {len(table)} in the frame; the folds belong to another cohort, make them anew"
        )
    entry = _entry(table, Seed(seed).child("budget", fold.index, spec.draw))
    chosen = entry <= spec.fraction
    patients = (table.images[chosen] > 0).sum(axis=0)
    if patients.min() < spec.min_patients_per_class:
        raise SplitError(_too_small(table, entry, patients, fold.index, spec))
    mine = frame["patient_id"].isin(set(table.patient_id[chosen])) & (frame["target"] >= 0)
    return LabelledSubset(
        fold_index=fold.index,
        fraction=spec.fraction,
        draw=spec.draw,
        sample_ids=tuple(sorted(frame.loc[mine, "sample_id"])),
        n_patients=int(chosen.sum()),
        images_per_class=tuple(table.images[chosen].sum(axis=0).tolist()),
        patients_per_class=tuple(patients.tolist()),
    )


def every_draw_works(frame: pd.DataFrame, fold: Fold, spec: BudgetSpec, n_classes: int) -> bool:
    """Say whether any draw of a budget holds enough patients of every class.

    A stratum gives its share in whatever order, and its patients have images of its class. Where
    that alone is too few, a draw may still work, by patients of several classes.
    """
    table = patient_table(frame, n_classes).rows(fold.train)
    sizes = np.bincount(table.stratum, minlength=n_classes)
    taken = [int((_shares(size) <= spec.fraction).sum()) for size in sizes]
    return min(taken) >= spec.min_patients_per_class


def _entry(table: PatientTable, seed: Seed) -> np.ndarray:
    """Return the fraction from which on each patient belongs to the budget, shape (P,).

    The patient of rank r of n enters at (r + 1/2) / n: a fraction f takes round(f n) of n.
    """
    entry = np.empty(len(table))
    for stratum in np.unique(table.stratum):
        members = np.flatnonzero(table.stratum == stratum)
        ranks = seed.child(int(stratum)).ranks(list(table.patient_id[members]))
        order = members[np.argsort(ranks, kind="stable")]
        entry[order] = _shares(len(order))
    return entry


def _shares(n: int) -> np.ndarray:
    shares: np.ndarray = (np.arange(n) + 0.5) / max(n, 1)
    return shares


def _too_small(
    table: PatientTable, entry: np.ndarray, patients: np.ndarray, fold: int, spec: BudgetSpec
) -> str:
    wanted, scarce = spec.min_patients_per_class, int(patients.argmin())
    needed = [np.sort(entry[table.images[:, k] > 0]) for k in range(table.n_classes)]
    lacking = f"class {scarce} has {patients[scarce]} patients, expected at least {wanted}"
    where = f"budget {spec.fraction:g} of fold {fold}, draw {spec.draw}: {lacking}"
    if min(map(len, needed)) < wanted:
        return f"{where}; no fraction of this fold has as many: use fewer folds"
    smallest = math.ceil(max(e[wanted - 1] for e in needed) * 1e6) / 1e6
    return f"{where}; the smallest fraction that works is {smallest:g}"
