"""Unseen: another cohort that the heads of trials score; nothing of it is ever learned from."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, SerializeAsAny

from melssl.audit.names import unlinked_names
from melssl.data.sources import SOURCES
from melssl.data.sources.base import SourceConfig
from melssl.prepared import External, Prepared, Work, audited, decoded, renamed
from melssl.settings import Settings, choose
from melssl.spec import RunSpec

Turns = Literal["none", "flips", "all"]
ORIENTATIONS: dict[Turns, tuple[int, ...]] = {
    "none": (0,),
    "flips": (0, 2, 4, 6),
    "all": (0, 1, 2, 3, 4, 5, 6, 7),
}
"""How each image is shown, as ``TurnedImages`` counts orientations: as it is, flipped, turned."""


def _source(data: object) -> SourceConfig:
    return choose(SOURCES, data, "source")


class Unseen(Settings):
    """A cohort by its name in a study, and how its images are shown.

    ``linked`` says what becomes of patients whom the audit links to the study's cohort: each is
    known to the encoders of some folds. Where a score is wanted they are left out.
    """

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    cohort: Annotated[SerializeAsAny[SourceConfig], BeforeValidator(_source)]
    turns: Turns = Field("none", description="views that are averaged: 1, 4 flips, or all 8")
    linked: Literal["leave_out", "keep"] = "leave_out"


def with_unseen(prepared: Prepared, spec: RunSpec, unseen: Unseen, work: Work) -> Prepared:
    """Return the study's preparations with the unseen cohort, audited against the study's own.

    Raises:
        CohortError: its files cannot be used, or everybody in it is linked to the study's cohort.

    """
    cohort, store = decoded(unseen.cohort, spec, work)
    found = audited(prepared.cohort, External(cohort=cohort, store=store), spec.audit, work)
    units = found.external_units if found else unlinked_names(cohort.frame["patient_id"])
    cohort = renamed(cohort, units)
    known = cohort.frame["patient_id"].isin(set(prepared.cohort.frame["patient_id"]))
    linked = tuple(cohort.frame.loc[known, "sample_id"])
    if linked and unseen.linked == "leave_out":
        cohort = cohort.without(linked, f"the audit links their patients to {prepared.cohort.name}")
    return replace(prepared, unseen=External(cohort=cohort, store=store, linked=linked))
