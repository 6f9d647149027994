"""Names under which linked patients stay together, in the cohort and in an external one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd

from melssl.audit.evidence import EXTERNAL, OWN
from melssl.audit.groups import joined
from melssl.audit.links import Group
from melssl.errors import CohortError


def merged_names(rows: pd.DataFrame, groups: Sequence[Group]) -> dict[str, str]:
    """Return by the cohort's patient the name of all in its group, where there are several.

    Raises:
        CohortError: a patient bears the name that a merged one would get.

    """
    taken = set(rows.loc[rows["side"] == OWN, "patient_id"])
    units = {}
    for group in groups:
        if len(group.patients) > 1:
            name = joined(group.patients)
            if name in taken:
                raise CohortError(f"patient {name!r} bears the name of a merged one; rename it")
            units.update(dict.fromkeys(group.patients, name))
    return units


def external_names(
    rows: pd.DataFrame, groups: Sequence[Group], own: Mapping[str, str]
) -> dict[str, str]:
    """Name external patients after the cohort's, also where the cohort's are not merged.

    Then one of theirs stands for all, and no external sample reaches a pool as a stranger.
    """
    units = unlinked_names(rows.loc[rows["side"] == EXTERNAL, "patient_id"])
    for group in groups:
        name = group.patients[0] if group.patients else f"{EXTERNAL}:{joined(group.external)}"
        units.update(dict.fromkeys(group.external, own.get(name, name)))
    return units


def unlinked_names(patients: pd.Series) -> dict[str, str]:
    """Name external patients so that none is taken for one of the cohort's."""
    return {name: f"{EXTERNAL}:{name}" for name in patients.unique()}
