"""Any CSV file with one row per sample, by column names: images, and what other files hold."""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import ClassVar, Literal, Self

import pandas as pd
from pydantic import field_validator, model_validator

from melssl.data.cohort import REQUIRED, UNLABELLED, Cohort, file_bytes
from melssl.data.sources.base import SourceConfig
from melssl.data.tables import (
    MissingFiles,
    blank,
    encode,
    existing_root,
    keep_existing,
    read_tables,
)
from melssl.errors import CohortError


class TableSource(SourceConfig):
    """A table below the root that names files, patients and labels; a subclass per kind of file.

    Files are ``root / images / (image_column + suffix)``. ``classes`` gives the labels in order
    (default: those found, sorted, numbers as numbers); ``positive`` makes the outcome binary, that
    label against the rest. Without ``label_column`` nothing is labelled; without
    ``patient_column`` each sample counts as a patient of its own, which the cohort notes.
    ``lesion_column`` and ``split_column`` name the lesion and an official split, for the audit.
    """

    one: ClassVar[str] = "image"
    csv: str = "index.csv"
    image_column: str = "image"
    images: str = ""
    suffix: str = ""
    patient_column: str | None = None
    patient_unit: str = "patient"
    lesion_column: str | None = None
    split_column: str | None = None
    label_column: str | None = None
    classes: tuple[str, ...] = ()
    positive: str | None = None
    empty_label: Literal["refuse", "unlabelled"] = "refuse"
    clinical: tuple[str, ...] = ()
    acquisition: tuple[str, ...] = ()
    missing_values: tuple[str, ...] = ("", "NA", "NaN", "nan")
    missing_files: MissingFiles = "refuse"

    @field_validator("clinical", "acquisition")
    @classmethod
    def _own_names(cls, columns: tuple[str, ...]) -> tuple[str, ...]:
        taken = sorted({*REQUIRED, "bytes"} & set(columns))
        if taken:
            raise ValueError(f"the cohort has its own columns {taken}: rename them in the CSV file")
        return columns

    @field_validator("positive", mode="before")
    @classmethod
    def _as_in_the_file(cls, label: object) -> object:
        return str(label) if isinstance(label, int) else label  # --set reads 1 as a number

    @model_validator(mode="after")
    def _told_apart(self) -> Self:
        taken = sorted(set(self._known()) & {*self.clinical, *self.acquisition})
        if taken:
            raise ValueError(f"columns {taken} are given twice; leave them out of the features")
        return self

    def load(self, cache: Path) -> Cohort:
        """Return the checked cohort; ``cache`` is for what does not lie in files of its own."""
        table = self._table()
        root, paths = self.files(table, cache)
        target, classes = self._target(table)
        names = table[self.image_column]
        patients = table[self.patient_column] if self.patient_column else names
        frame = pd.DataFrame(
            {
                "sample_id": names,
                "path": paths,
                "patient_id": patients,
                "target": target,
            }
        )
        for column, name in self._known().items():
            frame[column] = blank(table[name], self.missing_values)
        for column in (*self.clinical, *self.acquisition):
            frame[column] = _typed(blank(table[column], self.missing_values))
        frame, left_out = keep_existing(frame, root, self.missing_files)
        alone = (
            () if self.patient_column else (f"no patient column: one {self.one} is one patient",)
        )
        return Cohort(
            name=self.source,
            root=root,
            frame=frame.assign(bytes=file_bytes(frame["path"], root)),
            classes=classes,
            patient_unit=self.patient_unit if self.patient_column else self.one,
            clinical=self.clinical,
            acquisition=("bytes", *self.acquisition),
            notes=(*alone, *left_out),
            has_images=self.missing_files != "keep",
        )

    def files(self, table: pd.DataFrame, cache: Path) -> tuple[Path, pd.Series]:
        """Return a folder, and the path below it of every row's file."""
        return existing_root(self.source, self.root), table[self.image_column].map(self._path)

    def _known(self) -> dict[str, str]:
        """Return the cohort's columns of lesion and split, and their names in the table."""
        named = {"lesion_id": self.lesion_column, "split": self.split_column}
        return {column: name for column, name in named.items() if name is not None}

    def _table(self) -> pd.DataFrame:
        named = (self.image_column, self.patient_column, self.label_column)
        others = (*self._known().values(), *self.clinical, *self.acquisition)
        columns = [c for c in (*named, *others) if c is not None]
        hint = "; name yours with image_column, patient_column, label_column, clinical and so on"
        return read_tables(self.source, self.root, {self.csv: columns}, hint)[self.csv]

    def _path(self, name: str) -> str:
        # joined by the parts, so that an absolute name stays absolute and is refused
        return str(PurePosixPath(self.images) / f"{name}{self.suffix}") if name else ""

    def _target(self, table: pd.DataFrame) -> tuple[pd.Series, tuple[str, ...]]:
        if self.label_column is None:
            return pd.Series(UNLABELLED, table.index), self.classes
        labels = blank(table[self.label_column], self.missing_values).fillna("")
        found = _ordered({label for label in labels if label})
        known = self.classes or found
        index = {label: place for place, label in enumerate(known)}
        if self.positive is not None:
            if self.positive not in found:
                raise CohortError(
                    f"{self.csv}: positive={self.positive!r} does not occur in column"
                    f" {self.label_column!r} (found: {', '.join(found)})"
                )
            index = {label: int(label == self.positive) for label in known}
            known = ("other", self.positive)
        target = encode(labels, index)
        keep_empty = self.empty_label == "unlabelled"
        return target.mask(labels == "", UNLABELLED) if keep_empty else target, known


class CsvFolder(TableSource):
    """A table below the root that names image files, patients and labels."""

    label: ClassVar[str] = "CSV file"
    source: Literal["csv_folder"] = "csv_folder"


def _ordered(labels: set[str]) -> tuple[str, ...]:
    try:
        return tuple(sorted(labels, key=int))
    except ValueError:
        return tuple(sorted(labels))


def _typed(values: pd.Series) -> pd.Series:
    """Numbers where every value is one, else text."""
    parsed = pd.to_numeric(values, errors="coerce")
    return parsed.astype("float64") if (parsed.notna() == values.notna()).all() else values
