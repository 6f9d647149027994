"""Links and groups as they are kept: who stands where, and why it belongs together."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from melssl.audit.evidence import EXTERNAL, OWN, PICTURE, Evidence, Kind
from melssl.audit.groups import components

STANDS = ("side", "sample_id", "patient_id", "split", "label", "path")


@dataclass(frozen=True, kw_only=True)
class Member:
    """A sample and where it stands; ``split`` and ``label`` are ``""`` where not known.

    ``side`` is ``"cohort"`` or ``"external"``, ``path`` relative to that cohort's root.
    """

    side: str
    sample_id: str
    patient_id: str
    split: str
    label: str
    path: str


@dataclass(frozen=True, kw_only=True)
class Link:
    """Two samples that belong together, and what says so (see ``Evidence``)."""

    kind: Kind
    first: Member
    second: Member
    similarity: float | None = None
    orientation: str = ""
    by: str = ""

    @property
    def joins(self) -> bool:
        """Whether the two stand under two ids, or in two cohorts."""
        a, b = self.first, self.second
        return (a.side, a.patient_id) != (b.side, b.patient_id)

    @property
    def conflict(self) -> bool:
        """Whether one picture has two labels."""
        labels = {self.first.label, self.second.label} - {""}
        return self.kind in PICTURE and len(labels) > 1


@dataclass(frozen=True, kw_only=True)
class Group:
    """Units that belong together, and the links that cross units, splits, sides or labels.

    ``patients`` are the cohort's and ``external`` the external cohort's, ``splits`` all official
    splits in which the cohort's patients of the group stand.
    """

    number: int
    patients: tuple[str, ...]
    external: tuple[str, ...]
    splits: tuple[str, ...]
    links: tuple[Link, ...]

    @property
    def conflicts(self) -> tuple[Link, ...]:
        """Links of one picture with two labels."""
        return tuple(link for link in self.links if link.conflict)

    @property
    def straddles(self) -> bool:
        """Whether it stands in several official splits, or in cohort and external cohort."""
        return len(self.splits) > 1 or bool(self.patients and self.external)

    @property
    def members(self) -> tuple[Member, ...]:
        """Every sample of the links, once."""
        both = (member for link in self.links for member in (link.first, link.second))
        return tuple(dict.fromkeys(both))

    def __str__(self) -> str:
        names = [*self.patients, *(f"{EXTERNAL}:{name}" for name in self.external)]
        kinds = ", ".join(dict.fromkeys(link.kind for link in self.links))
        return f"group {self.number}: {' + '.join(names[:8])}{' ...' * (len(names) > 8)} ({kinds})"


def linked(rows: pd.DataFrame, evidence: Sequence[Evidence]) -> tuple[Link, ...]:
    """Return evidence by rows of the roll as links of samples."""
    table = rows[list(STANDS)].to_numpy(object)
    concerned = {row for e in evidence for row in (e.first, e.second)}
    of = {row: Member(**dict(zip(STANDS, map(str, table[row]), strict=True))) for row in concerned}
    return tuple(
        Link(
            kind=e.kind,
            first=of[e.first],
            second=of[e.second],
            similarity=e.similarity,
            orientation=e.orientation,
            by=e.by,
        )
        for e in evidence
    )


def grouped(rows: pd.DataFrame, evidence: Sequence[Evidence]) -> tuple[Group, ...]:
    """Return the groups of units that some link of the evidence crosses, in order of their ids."""
    crossing = [e for e, crosses in zip(evidence, _crosses(rows, evidence), strict=True) if crosses]
    if not crossing:
        return ()
    units = rows["unit"].to_numpy()
    pairs = ((int(units[e.first]), int(units[e.second])) for e in crossing)
    leader = components(int(units.max()) + 1, pairs)
    of_group: dict[int, list[Evidence]] = defaultdict(list)
    for e in crossing:
        of_group[int(leader[units[e.first]])].append(e)
    concerned = rows[np.isin(leader[units], list(of_group))]
    places = concerned.groupby(leader[concerned["unit"].to_numpy()]).indices
    parts = {name: concerned.iloc[places[name]] for name in of_group}
    first = sorted(of_group, key=lambda name: str(parts[name]["patient_id"].min()))
    return tuple(
        _group(number, parts[name], linked(rows, of_group[name]))
        for number, name in enumerate(first, start=1)
    )


def _group(number: int, part: pd.DataFrame, links: tuple[Link, ...]) -> Group:
    own = part[part["side"] == OWN]
    return Group(
        number=number,
        patients=tuple(sorted(set(own["patient_id"]))),
        external=tuple(sorted(set(part.loc[part["side"] == EXTERNAL, "patient_id"]))),
        splits=tuple(sorted(set(own["split"]) - {""})),
        links=links,
    )


def _crosses(rows: pd.DataFrame, evidence: Sequence[Evidence]) -> np.ndarray:
    """Say (E,) whether a link joins two units, splits or sides, or one picture's two labels."""
    first = np.array([e.first for e in evidence], dtype=np.int64)
    second = np.array([e.second for e in evidence], dtype=np.int64)
    unit, side = rows["unit"].to_numpy(), rows["side"].to_numpy(object)
    crosses: np.ndarray = (unit[first] != unit[second]) | (side[first] != side[second])
    crosses |= _two(rows["split"].to_numpy(object), first, second)
    picture = np.array([e.kind in PICTURE for e in evidence], dtype=bool)
    crosses |= picture & _two(rows["label"].to_numpy(object), first, second)
    return crosses


def _two(values: np.ndarray, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    a, b = values[first], values[second]
    found: np.ndarray = (a != b) & (a != "") & (b != "")
    return found
