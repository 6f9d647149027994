"""Prepare: cohort, folds and pixels of a run, made once and shared by a whole study."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from melssl.audit.audit import Audit, AuditSpec, audit, audit_key, check_sides
from melssl.audit.names import unlinked_names
from melssl.data.cohort import Cohort
from melssl.data.images import Images, JoinedImages, NoImages, SomeImages
from melssl.data.masks import FOLDER, Masks, MaskStore
from melssl.data.pixels import MANIFEST, PixelStore, store_key
from melssl.data.sources.base import SourceConfig
from melssl.errors import SpecError
from melssl.settings import digest
from melssl.spec import RunSpec, WithinFold
from melssl.splits.budgets import LabelledSubset, every_draw_works, labelled_subset
from melssl.splits.folds import Fold, FoldPlan, FoldSpec, make_folds


@dataclass(frozen=True, kw_only=True)
class External:
    """A second cohort, with patients named as the audit links them, and its pixels.

    ``linked`` are samples of an unseen cohort whose patients the audit finds in the first one.
    """

    cohort: Cohort
    store: Path
    linked: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """What all stages of a study share: the cohort, its folds, and where its pixels lie.

    ``audit`` is None where the files were not compared yet, which is enough for a plan only.
    ``unseen`` is another cohort that the heads of trials score (``melssl/unseen.py``).
    """

    cohort: Cohort
    folds: FoldPlan
    store: Path
    audit: Audit | None = None
    external: External | None = None
    unseen: External | None = None

    def images(self) -> Images:
        """Open the pixel store; its rows are the cohort's, also where that is a part of it.

        Behind them come those of the external cohort, if there is one.
        """
        if not self.cohort.has_images:
            return NoImages(self.cohort.name)
        own = rows_of(self.cohort, self.store)
        if self.external is None:
            return own
        other = rows_of(self.external.cohort, self.external.store)
        return JoinedImages(own, len(self.cohort), other)

    def masks(self) -> Masks:
        """Open the masks of the cohort's volumes, by row: all of them, also the test patients'."""
        return MaskStore.open(self.store / FOLDER).of(self.cohort)

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

    def every_draw_works(self, spec: RunSpec) -> bool:
        """Say whether the run's budget can be drawn whatever its draw is; False: not for sure."""
        frame, n_classes = self.cohort.frame, len(self.cohort.classes)
        return every_draw_works(frame, self.fold(spec), spec.budget, n_classes)


def prepare(
    spec: RunSpec, cache: Path, *, decode: bool = True, workers: int = 1, progress: bool = False
) -> Prepared:
    """Load the cohort, audit it, decode its images once, and make its folds or take them from file.

    With ``decode=False`` no file is read but tables: enough for a plan. A run within an outer fold
    takes its pixels from the whole cohort's store.

    Raises:
        PatientOverlapError: the audit links patients that would stand on two sides.

    """
    work = Work(cache=cache, decode=decode, workers=workers, progress=progress)
    cohort, store = decoded(spec.cohort, spec, work)
    external = None
    if spec.external is not None:
        others, their_store = decoded(spec.external, spec, work)
        external = External(cohort=others, store=their_store)
    found = audited(cohort, external, spec.audit, work)
    if found is not None:
        cohort = renamed(cohort, found.units)
    if external is not None:
        others = external.cohort
        units = found.external_units if found else unlinked_names(others.frame["patient_id"])
        external = replace(external, cohort=renamed(others, units))
    if spec.within is not None:
        outer = _at(_folds(cohort, spec.within.folds, cache / "folds"), spec.within.fold)
        cohort = _within(cohort, spec.within, outer)
        if external is not None:
            external = replace(external, cohort=_never_tested(external.cohort, outer))
    folds = _folds(cohort, spec.folds, cache / "folds")
    if found is not None:
        wide = [cohort, external.cohort] if external else [cohort]
        everyone = {name for side in wide for name in side.frame["patient_id"]}
        for fold in folds.folds:
            further = everyone - fold.test if spec.pool == "external" else ()
            check_sides(found, fold.train, fold.test, further)
    return Prepared(cohort=cohort, folds=folds, store=store, audit=found, external=external)


@dataclass(frozen=True, kw_only=True)
class Work:
    """What preparing may do, and with how many processes."""

    cache: Path
    decode: bool
    workers: int
    progress: bool


def decoded(source: SourceConfig, spec: RunSpec, work: Work) -> tuple[Cohort, Path]:
    """Return a source's cohort, less what cannot be decoded, and where its pixels lie."""
    cohort = source.load(work.cache / "cohorts")
    store = work.cache / "pixels" / store_key(cohort, size_px=spec.store_side, fit=spec.fit)
    if work.decode and cohort.has_images:
        PixelStore.build(
            cohort,
            store,
            size_px=spec.store_side,
            fit=spec.fit,
            on_corrupt=spec.on_corrupt,
            workers=work.workers,
            progress=work.progress,
        )
    if (store / MANIFEST).exists():
        excluded = PixelStore.open(store).excluded
        if excluded:
            cohort = cohort.without(list(excluded), "image cannot be decoded")
    if work.decode and cohort.structures:
        MaskStore.build(
            cohort,
            store / FOLDER,
            size_px=spec.store_side,
            fit=spec.fit,
            workers=work.workers,
            progress=work.progress,
        )
    return cohort, store


def audited(cohort: Cohort, external: External | None, spec: AuditSpec, work: Work) -> Audit | None:
    """Return the audit from file, or made now; None where none is there and none may be made."""
    others = external.cohort if external else None
    path = work.cache / "audits" / f"{audit_key(cohort, spec, others)}.json"
    if path.exists():
        return Audit.load(path)
    if not (work.decode or spec.images == "off" or not cohort.has_images):
        return None
    found = audit(
        cohort,
        spec,
        others,
        workers=work.workers,
        progress=work.progress,
        cache=work.cache / "audits",
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    found.save(path)
    return found


def renamed(cohort: Cohort, units: Mapping[str, str]) -> Cohort:
    """Return the cohort with its patients under the names that the audit gives."""
    return cohort.merged(units, "linked patients are one (see the audit)") if units else cohort


def _within(cohort: Cohort, within: WithinFold, outer: Fold) -> Cohort:
    """Return the training patients of an outer fold, with the labels of its budget."""
    inner = cohort.only(outer.train, f"not of the training patients of outer fold {outer.index}")
    if within.budget is None:
        return inner
    n_classes = len(cohort.classes)
    known = labelled_subset(cohort.frame, outer, within.budget, within.folds.seed, n_classes)
    share, draw = known.fraction, known.draw
    return inner.labelled_only_in(known.sample_ids, f"outside budget {share:g}, draw {draw}")


def _never_tested(external: Cohort, outer: Fold) -> Cohort:
    mine = external.frame["patient_id"].isin(outer.test)
    tested = external.frame.loc[mine, "sample_id"].tolist()
    return external.without(tested, f"of test patients of outer fold {outer.index}")


def _at(plan: FoldPlan, fold: int) -> Fold:
    if fold >= len(plan.folds):
        raise SpecError(f"fold {fold}: there are folds 0..{len(plan.folds) - 1}")
    return plan.folds[fold]


def folds_file(cohort: Cohort, spec: FoldSpec, folder: Path) -> Path:
    """Return where the folds of a cohort are kept."""
    return folder / f"{cohort.digest}-{digest(spec.plain())}.json"


def _folds(cohort: Cohort, spec: FoldSpec, folder: Path) -> FoldPlan:
    path = folds_file(cohort, spec, folder)
    if path.exists():
        return FoldPlan.load(path)
    plan = make_folds(cohort.frame, spec, len(cohort.classes), cohort.digest)
    folder.mkdir(parents=True, exist_ok=True)
    plan.save(path)
    return plan


def rows_of(cohort: Cohort, directory: Path) -> Images:
    """Open a pixel store; the rows are the cohort's, also where that is a part of it."""
    store = PixelStore.open(directory)
    rows = store.rows(cohort.frame["sample_id"])
    return store if np.array_equal(rows, np.arange(len(store))) else SomeImages(store, rows)
