"""Prepare: cohort, folds and pixels of a run, made once and shared by a whole study."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from melssl.data.cohort import Cohort
from melssl.data.images import Images, SomeImages
from melssl.data.pixels import MANIFEST, PixelStore, store_key
from melssl.errors import SpecError
from melssl.settings import digest
from melssl.spec import RunSpec, WithinFold
from melssl.splits.budgets import LabelledSubset, labelled_subset
from melssl.splits.folds import Fold, FoldPlan, FoldSpec, make_folds


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """What all stages of a study share: the cohort, its folds, and where its pixels lie."""

    cohort: Cohort
    folds: FoldPlan
    store: Path

    def images(self) -> Images:
        """Open the pixel store; its rows are the cohort's, also where that is a part of it."""
        store = PixelStore.open(self.store)
        rows = store.rows(self.cohort.frame["sample_id"])
        return store if np.array_equal(rows, np.arange(len(store))) else SomeImages(store, rows)

    def fold(self, spec: RunSpec) -> Fold:
        """Return the fold that the run tests on."""
        return _at(self.folds, spec.fold)

    def learned_from(self, spec: RunSpec) -> frozenset[str]:
        """Return the patients whose images may be learned from.

        These are the fold's training patients and, where a budget hides labels from the folds, all
        whose labels it hides.
        """
        fold = self.fold(spec)
        if spec.within is None:
            return fold.train
        return frozenset(self.cohort.frame["patient_id"]) - fold.test

    def budget(self, spec: RunSpec) -> LabelledSubset:
        """Return the samples whose labels the run may use."""
        frame, n_classes = self.cohort.frame, len(self.cohort.classes)
        return labelled_subset(frame, self.fold(spec), spec.budget, spec.folds.seed, n_classes)


def prepare(
    spec: RunSpec, cache: Path, *, decode: bool = True, workers: int = 1, progress: bool = False
) -> Prepared:
    """Load the cohort, decode its images once, and make its folds or take them from file.

    With ``decode=False`` nothing is decoded: enough for a plan. A run within an outer fold takes
    its pixels from the whole cohort's store.
    """
    cohort = spec.cohort.load(cache / "cohorts")
    store = cache / "pixels" / store_key(cohort, size_px=spec.store_side, fit=spec.fit)
    if decode:
        PixelStore.build(
            cohort,
            store,
            size_px=spec.store_side,
            fit=spec.fit,
            on_corrupt=spec.on_corrupt,
            workers=workers,
            progress=progress,
        )
    if (store / MANIFEST).exists():
        excluded = PixelStore.open(store).excluded
        if excluded:
            cohort = cohort.without(list(excluded), "image cannot be decoded")
    if spec.within is not None:
        cohort = _within(cohort, spec.within, cache / "folds")
    folds = _folds(cohort, spec.folds, cache / "folds")
    return Prepared(cohort=cohort, folds=folds, store=store)


def _within(cohort: Cohort, within: WithinFold, folder: Path) -> Cohort:
    """Return the training patients of an outer fold, with the labels of its budget."""
    outer = _at(_folds(cohort, within.folds, folder), within.fold)
    inner = cohort.only(outer.train, f"not of the training patients of outer fold {outer.index}")
    if within.budget is None:
        return inner
    n_classes = len(cohort.classes)
    known = labelled_subset(cohort.frame, outer, within.budget, within.folds.seed, n_classes)
    share, draw = known.fraction, known.draw
    return inner.labelled_only_in(known.sample_ids, f"outside budget {share:g}, draw {draw}")


def _at(plan: FoldPlan, fold: int) -> Fold:
    if fold >= len(plan.folds):
        raise SpecError(f"fold {fold}: there are folds 0..{len(plan.folds) - 1}")
    return plan.folds[fold]


def _folds(cohort: Cohort, spec: FoldSpec, folder: Path) -> FoldPlan:
    path = folder / f"{cohort.digest}-{digest(spec.plain())}.json"
    if path.exists():
        return FoldPlan.load(path)
    plan = make_folds(cohort.frame, spec, len(cohort.classes), cohort.digest)
    folder.mkdir(parents=True, exist_ok=True)
    plan.save(path)
    return plan


def pool_rows(spec: RunSpec, prepared: Prepared) -> np.ndarray:
    """Return the cohort rows that pretraining may see: the training patients of the fold only."""
    frame = prepared.cohort.frame
    if spec.pool == "train+test":
        return np.arange(len(frame))
    rows: np.ndarray = np.flatnonzero(frame["patient_id"].isin(prepared.learned_from(spec)))
    return rows
