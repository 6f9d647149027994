"""What links two samples: a patient on two sides, a lesion, a picture by list, bytes or looks."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
from tqdm import tqdm

from melssl.audit.fingerprints import fingerprints
from melssl.audit.groups import chains
from melssl.audit.near import near_pairs
from melssl.data.cohort import Cohort, SamePicture

Kind = Literal["patient", "lesion", "declared", "bytes", "near"]
PICTURE: tuple[Kind, ...] = ("declared", "bytes", "near")
"""Kinds that say: these two show one picture."""
OWN, EXTERNAL = "cohort", "external"


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """Two rows of the roll and why they belong together.

    ``similarity`` and ``orientation`` of the second to the first are known for ``near``; ``by``
    names the list of ``declared``.
    """

    kind: Kind
    first: int
    second: int
    similarity: float | None = None
    orientation: str = ""
    by: str = ""


@dataclass(frozen=True, kw_only=True)
class Look:
    """What the files show: ``sha256`` (N,) by row, ``""`` where unique or not read; near pairs.

    ``faults`` says by row why a file could not be read; ``n_read`` files were, ``n_absent`` are
    not there.
    """

    sha256: np.ndarray
    near: Sequence[Evidence] = ()
    faults: Mapping[int, str] = field(default_factory=dict)
    n_read: int = 0
    n_absent: int = 0


def roll(cohort: Cohort, external: Cohort | None = None) -> pd.DataFrame:
    """Return every sample of both cohorts, the external one's behind, as text and with its unit.

    Columns ``side, sample_id, patient_id, lesion, split, label, path, file, unit``; what is not
    known is ``""``. The same id is the same unit where both cohorts come from one source. Labels
    of an external cohort with other classes are left out: they cannot be compared.
    """
    rows = _rows(cohort, OWN)
    if external is not None:
        others = _rows(external, EXTERNAL).assign(split="")
        if external.classes != cohort.classes:
            others["label"] = ""
        rows = pd.concat([rows, others], ignore_index=True)
    return rows.assign(unit=pd.factorize(rows["source"] + "\x1f" + rows["patient_id"])[0])


def _rows(cohort: Cohort, side: str) -> pd.DataFrame:
    frame = cohort.frame
    labels = np.array(["", *cohort.classes], dtype=object)
    lesion = _text(frame, "lesion_id")
    known = {
        "side": side,
        "source": cohort.name,
        "sample_id": frame["sample_id"].astype(object),
        "patient_id": frame["patient_id"].astype(object),
        "lesion": lesion.where(lesion == "", cohort.name + "\x1f" + lesion),
        "split": _text(frame, "split"),
        "label": labels[frame["target"].to_numpy() + 1],
        "path": frame["path"].astype(object),
        "file": [cohort.root / path for path in frame["path"]],
    }
    return pd.DataFrame(known, index=frame.index)


def _text(frame: pd.DataFrame, column: str) -> pd.Series:
    if column not in frame:
        return pd.Series("", frame.index, dtype=object)
    values = frame[column].astype(object)
    return values.where(values.notna(), "").map(str)


def by_patient(rows: pd.DataFrame) -> list[Evidence]:
    """Link the first rows of one patient in each official split, and in cohort and external."""
    return [
        Evidence(kind="patient", first=first, second=second)
        for place in ("split", "side")
        for first, second in _across(rows, place)
    ]


def _across(rows: pd.DataFrame, place: str) -> list[tuple[int, int]]:
    firsts = rows[rows[place] != ""].drop_duplicates(["unit", place])
    numbers = firsts.index.to_numpy()
    pairs = chains(firsts["unit"].astype(str).to_numpy(object))
    return [(int(numbers[first]), int(numbers[second])) for first, second in pairs]


def by_lesion(rows: pd.DataFrame) -> list[Evidence]:
    """Link the rows of one lesion in a chain."""
    pairs = chains(rows["lesion"].to_numpy(object))
    return [Evidence(kind="lesion", first=first, second=second) for first, second in pairs]


def by_list(rows: pd.DataFrame, cohorts: Iterable[Cohort]) -> list[Evidence]:
    """Link what a source's own list calls one picture, also through a sample left out for it."""
    found = []
    for cohort in cohorts:
        own = rows.index[rows["source"] == cohort.name]
        row = dict(zip(rows.loc[own, "sample_id"], map(int, own), strict=True))
        found += _listed(row, cohort.declared)
    return found


def _listed(row: Mapping[str, int], declared: Iterable[SamePicture]) -> list[Evidence]:
    partners: dict[str, dict[int, str]] = defaultdict(dict)
    found = []
    for pair in declared:
        here = [row.get(pair.first), row.get(pair.second)]
        if here[0] is not None and here[1] is not None:
            found.append(Evidence(kind="declared", first=here[0], second=here[1], by=pair.by))
        elif here[0] is not None:
            partners[pair.second][here[0]] = pair.by
        elif here[1] is not None:
            partners[pair.first][here[1]] = pair.by
    for known in partners.values():
        present = list(known)
        found += [
            Evidence(kind="declared", first=first, second=second, by=known[second])
            for first, second in pairwise(present)
        ]
    return found


def by_bytes(look: Look) -> list[Evidence]:
    """Link the rows whose files hold the same bytes in a chain."""
    pairs = chains(look.sha256)
    return [Evidence(kind="bytes", first=first, second=second) for first, second in pairs]


def no_look(n_files: int) -> Look:
    """Look at nothing: ids and lists are all there is."""
    return Look(sha256=np.full(n_files, "", dtype=object))


def look_at_bytes(files: Sequence[Path], *, progress: bool = False) -> Look:
    """Hash the files that share their size with another; no other file can be their equal."""
    sha256 = np.full(len(files), "", dtype=object)
    faults: dict[int, str] = {}
    sizes: dict[int, list[int]] = defaultdict(list)
    absent = 0
    for row, file in enumerate(files):
        try:
            sizes[file.stat().st_size].append(row)
        except OSError:
            absent += 1
    shared = [row for alike in sizes.values() if len(alike) > 1 for row in alike]
    for row in tqdm(shared, desc="hashing files", unit="file", disable=not progress):
        try:
            sha256[row] = hashlib.sha256(files[row].read_bytes()).hexdigest()
        except OSError as error:
            faults[row] = error.strerror or str(error)
    n_read = len(files) - absent - len(faults)
    return Look(sha256=sha256, faults=faults, n_read=n_read, n_absent=absent)


def look_at_images(
    files: Sequence[Path], similarity: float, *, workers: int, progress: bool, cache: Path | None
) -> Look:
    """Fingerprint all files that are there and pair those that look alike."""
    here = np.array([row for row, file in enumerate(files) if file.is_file()], dtype=np.int64)
    sha256 = np.full(len(files), "", dtype=object)
    if not len(here):
        return Look(sha256=sha256, n_absent=len(files))
    prints = fingerprints(
        [files[row] for row in here], workers=workers, progress=progress, cache=cache
    )
    sha256[here] = prints.sha256
    near = [
        Evidence(
            kind="near",
            first=int(here[pair.first]),
            second=int(here[pair.second]),
            similarity=round(float(pair.similarity), 4),
            orientation=pair.orientation,
        )
        for pair in near_pairs(prints, similarity, workers=workers)
    ]
    return Look(
        sha256=sha256,
        near=[pair for pair in near if not _equal(sha256, pair)],
        faults={int(here[place]): text for place, text in prints.faults.items()},
        n_read=len(here) - len(prints.faults),
        n_absent=len(files) - len(here),
    )


def _equal(sha256: np.ndarray, pair: Evidence) -> bool:
    return bool(sha256[pair.first]) and bool(sha256[pair.first] == sha256[pair.second])
