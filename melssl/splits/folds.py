"""Patient-disjoint folds, stratified by patient outcome and by images per patient."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
from pydantic import Field

from melssl.errors import ArtifactError, PatientOverlapError, SplitError
from melssl.files import write_atomically
from melssl.seeding import Seed
from melssl.settings import Json, Settings, digest
from melssl.splits.deal import deal
from melssl.splits.strata import PatientTable, patient_table

FORMAT = 1


class FoldSpec(Settings):
    """How many folds, and which of the many ways to deal them."""

    n_folds: int = Field(5, ge=2)
    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class Fold:
    """Patients to learn from and patients to test on.

    Raises:
        PatientOverlapError: a patient stands on both sides.
        SplitError: a side is empty.

    """

    index: int
    train: frozenset[str]
    test: frozenset[str]

    def __post_init__(self) -> None:
        both = self.train & self.test
        if both:
            raise PatientOverlapError(
                f"fold {self.index}: {len(both)} patients are in train and test,"
                f" for example {min(both)}; a patient belongs to one side"
            )
        if not (self.train and self.test):
            sides = f"{len(self.train)} train and {len(self.test)} test patients"
            raise SplitError(f"fold {self.index}: expected patients on both sides, got {sides}")


@dataclass(frozen=True, kw_only=True)
class FoldPlan:
    """All folds of one cohort; every labelled patient is tested exactly once.

    Raises:
        PatientOverlapError: a patient is tested twice.
        SplitError: a fold knows other patients than its siblings.

    """

    spec: FoldSpec
    cohort_digest: str
    folds: tuple[Fold, ...]
    digest: str = field(init=False)

    def __post_init__(self) -> None:
        everyone = frozenset().union(*(fold.test for fold in self.folds))
        if sum(len(fold.test) for fold in self.folds) != len(everyone):
            raise PatientOverlapError("a patient is in the test side of two folds; make them anew")
        if any(fold.train | fold.test != everyone for fold in self.folds):
            raise SplitError("the folds do not cover the same patients; make them anew")
        object.__setattr__(self, "digest", digest(self._plain()))

    def save(self, path: Path) -> None:
        """Write JSON with the digest; the file appears whole or not at all."""
        data = self._plain() | {"digest": self.digest}
        write_atomically(path, json.dumps(data, indent=1).encode())

    @classmethod
    def load(cls, path: Path) -> FoldPlan:
        """Read what ``save`` wrote.

        Raises:
            ArtifactError: the file is not a fold plan, or was altered since it was written.

        """
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
            tests = [frozenset(map(str, patients)) for patients in data["test_patients"]]
            spec, cohort_digest = FoldSpec.parse(data["spec"]), str(data["cohort_digest"])
            plan = cls(spec=spec, cohort_digest=cohort_digest, folds=_folds(tests))
            expected = str(data["digest"])
        except (OSError, ValueError, KeyError, TypeError, SplitError) as error:
            raise ArtifactError(f"{path}: not a fold plan ({error}); make the folds anew") from None
        if plan.digest != expected:
            raise ArtifactError(
                f"{path}: expected digest {expected}, got {plan.digest}:"
                " the file was altered; restore it or make the folds anew"
            )
        return plan

    def _plain(self) -> dict[str, Json]:
        return {
            "format": FORMAT,
            "spec": self.spec.plain(),
            "cohort_digest": self.cohort_digest,
            "test_patients": [list[Json](sorted(fold.test)) for fold in self.folds],
        }


def make_folds(
    frame: pd.DataFrame, spec: FoldSpec, n_classes: int, cohort_digest: str = ""
) -> FoldPlan:
    """Deal the labelled patients to folds, so that each holds alike outcomes and image counts.

    ``frame`` has ``patient_id`` and ``target`` (negative is unlabelled; a patient without any
    label takes no part). The result depends on the set of rows and on the spec, not on the order
    of the rows nor on a library's random generator.

    Raises:
        SplitError: a class has too few patients to stand on both sides of every fold.

    """
    table = patient_table(frame, n_classes)
    place = _deal(table, spec)
    if not _covers(table, place, spec.n_folds):
        raise SplitError(_too_many(table, spec))
    tests = [frozenset(table.patient_id[place == index]) for index in range(spec.n_folds)]
    return FoldPlan(spec=spec, cohort_digest=cohort_digest, folds=_folds(tests))


def _folds(tests: list[frozenset[str]]) -> tuple[Fold, ...]:
    everyone = frozenset().union(*tests)
    return tuple(Fold(index=i, train=everyone - test, test=test) for i, test in enumerate(tests))


def _deal(table: PatientTable, spec: FoldSpec) -> np.ndarray:
    return deal(table, spec.n_folds, Seed(spec.seed).child("folds"))


def _covers(table: PatientTable, place: np.ndarray, n_folds: int) -> bool:
    """Say whether every fold tests every class (then, with two folds or more, all train on it)."""
    return all((table.images[place == i] > 0).any(axis=0).all() for i in range(n_folds))


def _too_many(table: PatientTable, spec: FoldSpec) -> str:
    patients = (table.images > 0).sum(axis=0)
    rarest = int(patients.argmin())
    most = min(spec.n_folds - 1, int(patients[rarest]))
    tried = (spec.replace(n_folds=n) for n in range(most, 1, -1))
    feasible = next((s.n_folds for s in tried if _covers(table, _deal(table, s), s.n_folds)), None)
    advice = f"the largest n_folds that works is {feasible}" if feasible else "no n_folds works"
    return (
        f"{spec.n_folds} folds: every class must stand on both sides of each,"
        f" but class {rarest} has {patients[rarest]} patients; {advice}"
    )
