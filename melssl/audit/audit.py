"""Audit: what of a cohort, and of an external one, belongs together and must stay on one side."""

from __future__ import annotations

import json
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import pandas as pd
from pydantic import Field, TypeAdapter

from melssl.audit import sentences
from melssl.audit.evidence import (
    EXTERNAL,
    OWN,
    PICTURE,
    Evidence,
    Look,
    by_bytes,
    by_lesion,
    by_list,
    by_patient,
    look_at_bytes,
    look_at_images,
    no_look,
    roll,
)
from melssl.audit.links import Group, Link, grouped, linked
from melssl.audit.names import external_names, merged_names
from melssl.audit.near import NEAR
from melssl.audit.numbers import Numbers, count_evidence, count_lists, count_redundant
from melssl.data.cohort import Cohort
from melssl.errors import ArtifactError, PatientOverlapError, listed
from melssl.files import write_atomically
from melssl.settings import Settings, digest

FORMAT = 1  # rises when the file changes, and when a link means something else


class AuditSpec(Settings):
    """What is compared, and what follows from it."""

    images: Literal["full", "bytes", "off"] = Field(
        "full", description="byte hashes and near-identity; byte hashes only; ids only"
    )
    merge: bool = Field(
        True, description="linked patients become one; else a study refuses to start on them"
    )
    similarity: float = Field(NEAR, ge=0, le=1, description="from which images are near-identical")


@dataclass(frozen=True, kw_only=True)
class Audit:
    """What was found, and the names under which it stays together.

    ``units`` renames the cohort's patients that are merged. ``external_units`` renames every
    external one: as the cohort's patient it is linked to, else with a prefix. ``groups`` are what
    crosses units, splits, sides or labels, ``redundant`` the links of one picture within one unit,
    ``faults`` the files that could not be read.
    """

    cohort: str
    unit: str
    spec: AuditSpec
    units: Mapping[str, str]
    external_units: Mapping[str, str]
    groups: tuple[Group, ...]
    redundant: tuple[Link, ...]
    faults: Mapping[str, str]
    numbers: Numbers

    @property
    def straddles(self) -> tuple[Group, ...]:
        """Groups in more than one official split, or in cohort and external cohort."""
        return tuple(group for group in self.groups if group.straddles)

    @property
    def conflicts(self) -> tuple[Link, ...]:
        """Links of one picture with two labels."""
        return tuple(link for group in self.groups for link in group.conflicts)

    def lines(self, shown: int = sentences.SHOWN) -> list[str]:
        """Return what was found in sentences, the alarming ones last; ``shown`` groups of each."""
        looked = self.spec.similarity if self.spec.images == "full" else None
        text = [
            sentences.compared(self.numbers, self.unit, looked),
            *sentences.declared(self.numbers),
            *sentences.redundant(self.numbers, self.unit),
            *sentences.merged(self.groups, self.unit, merge=self.spec.merge, shown=shown),
            *sentences.straddles(self.groups, shown=shown),
            *sentences.conflicts(self.conflicts, shown=shown),
            *sentences.faults(len(self.faults)),
        ]
        return [f"audit: {line}" for line in text]

    def save(self, path: Path) -> None:
        """Write JSON; the file appears whole or not at all."""
        plain = asdict(self) | {"spec": self.spec.plain(), "format": FORMAT}
        plain["digest"] = digest(json.loads(json.dumps(plain)))
        write_atomically(path, json.dumps(plain, indent=1, allow_nan=False).encode())

    @classmethod
    def load(cls, path: Path) -> Audit:
        """Read what ``save`` wrote.

        Raises:
            ArtifactError: the file is no audit, or one of another format.

        """
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
            if data.pop("digest", None) not in (None, digest(data)):
                raise ValueError("it differs from its digest")
            if (found := data.pop("format")) != FORMAT:
                raise ValueError(f"expected format {FORMAT}, got {found!r}")
            return TypeAdapter(cls).validate_python(data)
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            reason = str(error).partition("\n")[0]  # pydantic's go on for pages
            raise ArtifactError(f"{path}: not an audit ({reason}); make it anew") from None


def audit(
    cohort: Cohort,
    spec: AuditSpec,
    external: Cohort | None = None,
    *,
    workers: int = 1,
    progress: bool = False,
    cache: Path | None = None,
) -> Audit:
    """Compare every sample with every other, by ids, lists, bytes and looks.

    ``cache`` is a folder of fingerprints made before. Files that are not there are counted, and
    those that cannot be read are named.

    Raises:
        CohortError: a patient bears the name that a merged one would get.

    """
    start = time.perf_counter()
    sides = [c for c in (cohort, external) if c is not None]
    if spec.images == "full" and any(side.medium.kind != "image" for side in sides):
        spec = spec.replace(images="bytes")  # looks are compared as pictures only
    rows = roll(cohort, external)
    look = _look(rows, spec, workers=workers, progress=progress, cache=cache)
    by_lists = by_list(rows, sides)
    same = [*by_lists, *by_bytes(look), *look.near]
    within = _within(rows, same)
    groups = grouped(rows, [*by_patient(rows), *by_lesion(rows), *same])
    units = merged_names(rows, groups) if spec.merge else {}
    own = rows["side"] == OWN
    return Audit(
        cohort=cohort.name,
        unit=cohort.patient_unit,
        spec=spec,
        units=units,
        external_units=external_names(rows, groups, units),
        groups=groups,
        redundant=linked(rows, within),
        faults=_faults(rows, look),
        numbers=Numbers(
            samples=int(own.sum()),
            units=rows.loc[own, "unit"].nunique(),
            external_samples=int((~own).sum()),
            external_units=rows.loc[~own, "unit"].nunique(),
            files_read=look.n_read,
            files_absent=look.n_absent,
            pairs=count_evidence(rows, look, by_lists),
            declared=count_lists(rows, cohort.declared),
            redundant=count_redundant(len(rows), within),
            seconds=round(time.perf_counter() - start, 2),
        ),
    )


def audit_key(cohort: Cohort, spec: AuditSpec, external: Cohort | None = None) -> str:
    """Return 20 hex digits of all that decides an audit; files count by their sizes.

    Lesions, official splits and declared pairs are in no cohort's digest, but they are in here.
    """
    sides = [c for c in (cohort, external) if c is not None]
    payload = {
        "format": FORMAT,
        "spec": spec.plain(),
        "cohorts": [c.digest for c in sides],
        "known": [[list(map(str, c.frame[column])) for column in _known(c)] for c in sides],
        "declared": [[[pair.first, pair.second] for pair in c.declared] for c in sides],
    }
    return digest(payload)


def _known(cohort: Cohort) -> list[str]:
    return [column for column in ("lesion_id", "split") if column in cohort.frame]


def check_sides(
    found: Audit, train: Collection[str], test: Collection[str], pool: Collection[str] = ()
) -> None:
    """Refuse groups that stand on both sides.

    Patients are named as the cohort names them, after merging or before it. ``pool`` are further
    patients that pretraining sees, external ones under the names that ``external_units`` gives.

    Raises:
        PatientOverlapError: every group with one of ``test`` and another of ``train`` or ``pool``.

    """
    learned, tested = {*train, *pool}, set(test)
    both = []
    for group in found.groups:
        names = {*group.patients, *(found.units.get(name, name) for name in group.patients)}
        names |= {found.external_units[name] for name in group.external}
        if names & learned and names & tested:
            both.append(str(group))
    if both:
        raise PatientOverlapError(
            f"{found.cohort}: {len(both)} group(s) of the audit stand on both sides of a split;"
            f" merge them (audit.merge=true) or leave one side out\n{listed(both)}"
        )


def _look(
    rows: pd.DataFrame, spec: AuditSpec, *, workers: int, progress: bool, cache: Path | None
) -> Look:
    files = rows["file"].tolist()
    if spec.images == "off":
        return no_look(len(files))
    if spec.images == "bytes":
        return look_at_bytes(files, progress=progress)
    return look_at_images(files, spec.similarity, workers=workers, progress=progress, cache=cache)


def _within(rows: pd.DataFrame, same: Sequence[Evidence]) -> list[Evidence]:
    units = rows["unit"].to_numpy()
    picture = (e for e in same if e.kind in PICTURE and units[e.first] == units[e.second])
    return list({(e.first, e.second): e for e in picture}.values())


def _faults(rows: pd.DataFrame, look: Look) -> dict[str, str]:
    sides, names = rows["side"].tolist(), rows["sample_id"].tolist()
    return {
        names[row] if sides[row] == OWN else f"{EXTERNAL}:{names[row]}": text
        for row, text in look.faults.items()
    }
