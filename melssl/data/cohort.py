"""Cohort: one checked row per sample, with its patient, its outcome and its file."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath

import numpy as np
import pandas as pd

from melssl.data.media.base import Medium
from melssl.data.media.image import ImageMedium
from melssl.errors import CohortError, listed
from melssl.settings import canonical

UNLABELLED = -1
REQUIRED = ("sample_id", "path", "patient_id", "target")
MASK = "mask"


@dataclass(frozen=True, kw_only=True)
class SamePicture:
    """Two sample ids that a source's own list calls one picture; ``by`` names the list.

    Either of the two may have been left out of the cohort for it.
    """

    first: str
    second: str
    by: str


@dataclass(frozen=True, kw_only=True, eq=False)
class Cohort:
    """A table of samples that is known to be usable.

    ``frame`` holds, sorted by ``sample_id``: ``sample_id, path`` (relative to ``root``),
    ``patient_id`` (all str), ``target`` (int64 index into ``classes``; ``-1`` is unlabelled) and
    any further columns, of which ``clinical`` and ``acquisition`` name those that describe the
    patient and the camera, ``lesion_id`` the lesion and ``split`` an official split, where known.
    ``declared`` is what the source's own lists say about duplicates. With ``has_images=False``
    files may be missing: the table alone is of use, for the audit of ids and for metadata.
    ``medium`` says what the files are and how they are decoded. Where ``structures`` are named,
    the column ``mask`` holds the path of each sample's labelled mask (label k is structure k - 1,
    0 the background), empty where there is none; a cohort without any outcome has one class.
    ``digest`` covers ids, outcomes, clinical and acquisition columns, the classes and every
    file's size; of what is no image, also the medium, the structures and the masks' sizes. It
    depends neither on the order of rows nor on where the files lie.

    Raises:
        CohortError: every fault of the table and of its files, in one list.

    """

    name: str
    root: Path
    frame: pd.DataFrame
    classes: tuple[str, ...]
    patient_unit: str = "patient"
    clinical: tuple[str, ...] = ()
    acquisition: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    declared: tuple[SamePicture, ...] = ()
    has_images: bool = True
    medium: Medium = field(default_factory=ImageMedium)
    structures: tuple[str, ...] = ()
    digest: str = field(init=False)

    def __post_init__(self) -> None:
        mask = (MASK,) if self.structures else ()
        expected = (*REQUIRED, *mask, *self.clinical, *self.acquisition)
        missing = [column for column in expected if column not in self.frame]
        if missing:
            found = ", ".join(map(str, self.frame.columns))
            raise CohortError(f"{self.name}: missing columns {missing} (found: {found})")
        frame = _tidy(self.frame)
        faults = _table_faults(frame, self.classes)
        faults += _file_faults(frame["path"], self.root, must_exist=self.has_images)
        if self.structures:
            faults += _file_faults(frame[MASK], self.root, must_exist=self.has_images)
        if faults:
            raise CohortError(
                f"cohort {self.name} at {self.root}: {len(faults)} fault(s)\n{listed(faults)}"
            )
        object.__setattr__(self, "frame", frame.astype({"target": np.int64}))
        object.__setattr__(self, "digest", _digest(self))

    def __len__(self) -> int:
        return len(self.frame)

    @property
    def labelled(self) -> pd.DataFrame:
        """The rows whose outcome is known."""
        return self.frame[self.frame["target"] != UNLABELLED]

    @property
    def cameras(self) -> pd.Series | None:
        """The acquisition group of every row: the camera where it is named, else width x height.

        None where the cohort knows neither; a row whose size is not known is ``"unknown"``.
        """
        if "camera" in self.acquisition:
            named = self.frame["camera"].astype(object)
            return named.where(named.notna(), "unknown").astype(str)
        if not {"width", "height"} <= set(self.acquisition):
            return None
        sizes = self.frame[["width", "height"]].apply(pd.to_numeric, errors="coerce")
        known = sizes.notna().all(axis=1)
        whole = sizes.fillna(0).astype(np.int64).astype(str)
        camera: pd.Series = (whole["width"] + "x" + whole["height"]).where(known, "unknown")
        return camera

    def without(self, sample_ids: Sequence[str], reason: str) -> Cohort:
        """Return the cohort less some samples; the reason is kept in ``notes``."""
        kept = self.frame[~self.frame["sample_id"].isin(set(sample_ids))]
        note = f"{len(self.frame) - len(kept)} samples left out: {reason}"
        return replace(self, frame=kept, notes=(*self.notes, note))

    def only(self, patients: Collection[str], reason: str) -> Cohort:
        """Return the cohort less all other patients; the reason is kept in ``notes``."""
        others = self.frame[~self.frame["patient_id"].isin(set(patients))]
        return self.without(others["sample_id"].tolist(), reason)

    def merged(self, units: Mapping[str, str], reason: str) -> Cohort:
        """Return the cohort with patients renamed by ``units``; the reason is kept in ``notes``."""
        names = self.frame["patient_id"]
        frame = self.frame.assign(patient_id=names.map(lambda name: units.get(name, name)))
        return replace(self, frame=frame, notes=(*self.notes, reason))

    def labelled_only_in(self, sample_ids: Collection[str], reason: str) -> Cohort:
        """Return the cohort with all other labels unknown; the reason is kept in ``notes``."""
        hidden = ~self.frame["sample_id"].isin(set(sample_ids)) & (self.frame["target"] >= 0)
        frame = self.frame.assign(target=self.frame["target"].mask(hidden, UNLABELLED))
        note = f"{int(hidden.sum())} labels hidden: {reason}"
        return replace(self, frame=frame, notes=(*self.notes, note))


def _tidy(frame: pd.DataFrame) -> pd.DataFrame:
    frame = frame.copy()
    for column in {"sample_id", "path", "patient_id", MASK} & set(frame):
        text = frame[column].astype("string")
        frame[column] = text.mask(text.str.strip() == "").astype(object)
    return frame.sort_values("sample_id", kind="stable").reset_index(drop=True)


def _table_faults(frame: pd.DataFrame, classes: Sequence[str]) -> list[str]:
    faults = [] if len(frame) else ["the table has no rows"]
    if len(set(classes)) < len(classes):
        faults.append(f"classes {tuple(classes)} name one class twice")
    nameless = int(frame["sample_id"].isna().sum())
    faults += [f"sample_id is empty in {nameless} row(s)"] if nameless else []
    for column in REQUIRED[1:]:
        empty = frame.loc[frame[column].isna(), "sample_id"]
        faults += [f"{column} is empty for sample {name}" for name in empty]
    twice = frame.loc[frame["sample_id"].duplicated(), "sample_id"].dropna()
    faults += [f"sample id {name} stands more than once" for name in sorted(set(twice))]
    target = pd.to_numeric(frame["target"], errors="coerce")
    unknown = ~target.isin(range(UNLABELLED, len(classes))) & frame["target"].notna()
    wrong = frame.loc[unknown, ["sample_id", "target"]]
    faults += [
        f"target {value} of {name} is unknown; expected 0..{len(classes) - 1}"
        f" ({', '.join(classes)}) or {UNLABELLED} for unlabelled"
        for name, value in zip(wrong["sample_id"], wrong["target"], strict=True)
    ]
    return faults


def _file_faults(paths: pd.Series, root: Path, *, must_exist: bool) -> list[str]:
    faults = []
    for relative in paths.dropna():
        path = PurePosixPath(relative)
        if path.is_absolute() or ".." in path.parts:
            faults.append(f"path {relative} may leave the root; give paths below it, without '..'")
        elif must_exist and not (root / path).is_file():
            faults.append(f"file {relative} does not exist")
    return faults


def file_bytes(paths: pd.Series, root: Path) -> pd.Series:
    """Return each file's size in bytes; -1 where there is none."""
    files = [root / path for path in paths]
    return pd.Series(
        [f.stat().st_size if f.is_file() else -1 for f in files], paths.index, dtype="int64"
    )


def _digest(cohort: Cohort) -> str:
    frame = cohort.frame
    state = hashlib.sha256()
    state.update("\x1f".join(["cohort-1", *cohort.classes]).encode())
    columns = sorted({*REQUIRED, *cohort.clinical, *cohort.acquisition})
    for column in columns:
        # one spelling of "missing", whichever of None, NaN and NA the table happens to hold
        values = frame[column].astype(object).where(frame[column].notna(), "")
        state.update("\x1f".join([f"\x1e{column}", *map(str, values)]).encode())
    sizes = file_bytes(frame["path"], cohort.root).to_numpy()
    state.update(sizes.astype("<i8").tobytes())
    if cohort.medium.kind != "image":
        said = [cohort.medium.kind, cohort.medium.keyed(), list(cohort.structures)]
        state.update(canonical(said).encode())
    if cohort.structures:
        masks = frame[MASK].where(frame[MASK].notna(), "").astype(str)
        state.update("\x1f".join(masks).encode())
        state.update(file_bytes(masks, cohort.root).to_numpy().astype("<i8").tobytes())
    return state.hexdigest()[:20]
