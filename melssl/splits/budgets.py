"""Label budgets: nested, by patient, stratified, and the same for every method."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Annotated

import numpy as np
import pandas as pd
from pydantic import Field, model_validator

from melssl.errors import SplitError
from melssl.seeding import Seed
from melssl.settings import Later, Settings
from melssl.splits.folds import Fold
from melssl.splits.strata import PatientTable, patient_table


class BudgetSpec(Settings):
    """Of a fold's training patients whose labels may be used: a share or a number; which draw."""

    fraction: float = Field(1.0, gt=0, le=1)
    draw: int = Field(0, ge=0)
    min_patients_per_class: int = Field(2, ge=1)
    count: Annotated[int | None, Later()] = Field(
        None, ge=2, description="patients with labels, in the place of a share of them"
    )

    @model_validator(mode="after")
    def _one_size(self) -> BudgetSpec:
        if self.count is not None and self.fraction != 1:
            raise ValueError(
                f"a budget is a share or a number of patients, not both: leave out count, which is"
                f" {self.count}, or fraction"
            )
        return self

    @property
    def size(self) -> float | int:
        """The number of patients where it is one, else the share: what a level is called by."""
        return self.fraction if self.count is None else self.count

    @property
    def is_whole(self) -> bool:
        """Whether it holds every label of a fold, so that there is one draw of it."""
        return self.count is None and self.fraction == 1

    @property
    def words(self) -> str:
        """The size in words: ``0.1``, ``6 patients``."""
        return f"{self.fraction:g}" if self.count is None else f"{self.count} patients"

    def sized(self, size: float | int) -> BudgetSpec:
        """Return the budget of a share up to 1, or of a number of patients from 2 on."""
        if size > 1:
            return self.replace(fraction=1.0, count=size)
        return self.replace(fraction=size, count=None)


@dataclass(frozen=True, kw_only=True)
class LabelledSubset:
    """The training samples whose labels may be used, with their actual numbers.

    ``sample_ids`` are sorted; ``images_per_class`` and ``patients_per_class`` have K entries (a
    patient counts for every class among its images). ``fraction`` is the share that was asked for,
    or that the number of patients comes to.
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
    and every method, protocol and training seed sees the same labels. A number of patients takes
    from the strata in turn, as far as their shares go: what Webster's rule gives each of them.

    Raises:
        SplitError: a class has fewer patients than the spec wants, with the smallest budget
            that works; the fold has fewer than are asked for, or was made for other patients.

    """
    cohort = patient_table(frame, n_classes)
    table = cohort.rows(fold.train)
    if len(table) != len(fold.train):
        raise SplitError(
            f"fold {fold.index}: expected {len(fold.train)} labelled training patients, got"
            f" {len(table)} in the frame; the folds belong to another cohort, make them anew"
        )
    entry = _entry(table, Seed(seed).child("budget", fold.index, spec.draw))
    chosen = _chosen(table, entry, spec, fold.index)
    patients = (table.images[chosen] > 0).sum(axis=0)
    if patients.min() < spec.min_patients_per_class:
        raise SplitError(_too_small(table, entry, patients, fold.index, spec))
    mine = frame["patient_id"].isin(set(table.patient_id[chosen])) & (frame["target"] >= 0)
    return LabelledSubset(
        fold_index=fold.index,
        fraction=spec.fraction if spec.count is None else spec.count / len(table),
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
    if spec.count is None:
        taken = [int((_shares(size) <= spec.fraction).sum()) for size in sizes]
        return min(taken) >= spec.min_patients_per_class
    # of two that enter at one share, either may be the first
    entries = np.sort(np.concatenate([_shares(size) for size in sizes]))
    if spec.count > len(entries):
        return False
    before = entries[spec.count - 1]
    return min(int((_shares(n) < before).sum()) for n in sizes) >= spec.min_patients_per_class


def _chosen(table: PatientTable, entry: np.ndarray, spec: BudgetSpec, fold: int) -> np.ndarray:
    """Return which patients belong to the budget, shape (P,) bool."""
    if spec.count is None:
        whole: np.ndarray = entry <= spec.fraction
        return whole
    if spec.count > len(table):
        raise SplitError(
            f"budget of {spec.words}, fold {fold}: the fold has {len(table)} labelled training"
            f" patients; ask for as many at most, or for 100%"
        )
    return _place(entry, table) < spec.count


def _place(entry: np.ndarray, table: PatientTable) -> np.ndarray:
    """Return each patient's place in the order of entry; of a tie the rarer stratum comes first."""
    sizes = np.bincount(table.stratum, minlength=table.n_classes)
    order = np.lexsort((table.stratum, sizes[table.stratum], entry))
    place = np.empty(len(order), dtype=np.int64)
    place[order] = np.arange(len(order))
    return place


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
    when = entry if spec.count is None else _place(entry, table) + 1
    needed = [np.sort(when[table.images[:, k] > 0]) for k in range(table.n_classes)]
    lacking = f"class {scarce} has {patients[scarce]} patients, expected at least {wanted}"
    where = f"budget {spec.words} of fold {fold}, draw {spec.draw}: {lacking}"
    if min(map(len, needed)) < wanted:
        return f"{where}; no fraction of this fold has as many: use fewer folds"
    smallest = max(times[wanted - 1] for times in needed)
    if spec.count is not None:
        return f"{where}; the smallest number of patients that works is {smallest:g}"
    return f"{where}; the smallest fraction that works is {math.ceil(smallest * 1e6) / 1e6:g}"
