"""SIIM-ISIC 2020: dermoscopy of 2,056 patients in the official layout, duplicates removed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

import pandas as pd

from melssl.data.cohort import UNLABELLED, Cohort, SamePicture, file_bytes
from melssl.data.sources.base import SourceConfig
from melssl.data.tables import (
    MissingFiles,
    blank,
    encode,
    existing_root,
    keep_existing,
    numbers,
    read_tables,
)
from melssl.errors import CohortError, listed

TRAIN, TEST = "train.csv", "test.csv"
DUPLICATES = "ISIC_2020_Training_Duplicates.csv"
LESIONS = "ISIC_2020_Training_GroundTruth_v2.csv"
MARK = "tfrecord"  # -1 in a table of file sizes that is passed around: this image is a duplicate
SITE = "anatom_site_general_challenge"
PERSON = ("image_name", "patient_id", "sex", "age_approx", SITE)


class SiimIsic(SourceConfig):
    """Melanoma against benign in ``train.csv``, ``test.csv``, ``jpeg/train``, ``jpeg/test``.

    ``test_images="unlabelled"`` adds the test images with target -1 (other patients, for
    pretraining); ``"only"`` gives nothing but them, for a submission. ``sizes_csv`` names a table
    below the root with ``image_name, width, height``;
    ``marks_csv`` one with ``image_name, tfrecord``, whose images marked -1 are duplicates and are
    left out. Both may be one file. The second image of each official duplicate is always left out.
    """

    label: ClassVar[str] = "SIIM-ISIC 2020"
    source: Literal["siim_isic"] = "siim_isic"
    test_images: Literal["leave_out", "unlabelled", "only"] = "leave_out"
    missing_files: MissingFiles = "refuse"
    sizes_csv: str | None = None
    marks_csv: str | None = None

    def load(self, cache: Path) -> Cohort:
        """Return the checked cohort; ``cache`` is not used."""
        root = existing_root(self.source, self.root)
        if self.test_images == "only":
            people = _tested(root)
        else:
            with_test = self.test_images == "unlabelled"
            people = _people(root, with_test=with_test, marks_csv=self.marks_csv)
        frame, left_out = keep_existing(people.frame, root, self.missing_files)
        frame = frame.assign(bytes=file_bytes(frame["path"], root))
        notes = people.notes
        if self.sizes_csv is not None:
            frame, unknown = _with_sizes(frame, root, self.sizes_csv)
            notes = (*notes, *unknown)
        return Cohort(
            name=self.source,
            root=root,
            frame=frame,
            classes=("benign", "melanoma"),
            clinical=("age", "sex", "site"),
            acquisition=("bytes", "width", "height") if self.sizes_csv else ("bytes",),
            notes=(*notes, *left_out),
            declared=people.declared,
            has_images=self.missing_files != "keep",
        )


def read_train_table(root: Path) -> pd.DataFrame:
    """Return the training rows without official duplicates; no image needs to be there.

    Columns ``sample_id, path, patient_id, target, age, sex, site``, and ``lesion_id`` where the
    second ground-truth table is there.

    Raises:
        CohortError: a table or a column is missing, or targets are neither 0 nor 1.

    """
    table = _people(root, with_test=False, marks_csv=None).frame
    odd = table[~table["target"].isin((0, 1))]
    if len(odd):
        raise CohortError(
            f"{TRAIN}: expected targets 0 or 1, got others in\n{listed(odd['sample_id'].tolist())}"
        )
    return table.astype({"target": "int64"})


@dataclass(frozen=True, kw_only=True)
class _People:
    frame: pd.DataFrame
    notes: tuple[str, ...]
    declared: tuple[SamePicture, ...]


def _people(root: Path, *, with_test: bool, marks_csv: str | None) -> _People:
    tables = _tables(root, with_test=with_test, marks_csv=marks_csv)
    train = tables[TRAIN]
    frame = _rows(train, "jpeg/train").assign(target=encode(train["target"], {"0": 0, "1": 1}))
    if LESIONS in tables:
        lesions = tables[LESIONS].drop_duplicates("image_name").set_index("image_name")["lesion_id"]
        frame["lesion_id"] = blank(frame["sample_id"].map(lesions).fillna(""))
    frame, notes = _without_duplicates(frame, tables, marks_csv)
    if with_test:
        test = _rows(tables[TEST], "jpeg/test").assign(target=UNLABELLED)
        frame = pd.concat([frame, test])
        notes.append(f"{len(test)} test images added without label")
    declared = (*_listed_pairs(tables), *_lesion_pairs(tables))
    return _People(frame=frame.reset_index(drop=True), notes=tuple(notes), declared=declared)


def _tested(root: Path) -> _People:
    table = read_tables("siim_isic", root, {TEST: PERSON})[TEST]
    frame = _rows(table, "jpeg/test").assign(target=UNLABELLED)
    return _People(frame=frame, notes=(), declared=())


def _tables(root: Path, *, with_test: bool, marks_csv: str | None) -> dict[str, pd.DataFrame]:
    wanted: dict[str, tuple[str, ...]] = {TRAIN: (*PERSON, "target")}
    if (root / DUPLICATES).exists():
        wanted[DUPLICATES] = ("image_name_1", "image_name_2")
    if (root / LESIONS).exists():
        wanted[LESIONS] = ("image_name", "lesion_id")
    if marks_csv is not None:
        wanted[marks_csv] = ("image_name", MARK)
    if with_test:
        wanted[TEST] = PERSON
    return read_tables("siim_isic", root, wanted)


def _without_duplicates(
    frame: pd.DataFrame, tables: Mapping[str, pd.DataFrame], marks_csv: str | None
) -> tuple[pd.DataFrame, list[str]]:
    notes = []
    if DUPLICATES in tables:
        again = frame["sample_id"].isin(set(tables[DUPLICATES]["image_name_2"]))
        frame, notes = frame[~again], [f"{again.sum()} official duplicates left out"]
    elif marks_csv is None:
        notes = [f"{DUPLICATES} is missing: duplicate images remain"]
    if marks_csv is not None:
        table = tables[marks_csv]
        marked = frame["sample_id"].isin(set(table.loc[table[MARK] == "-1", "image_name"]))
        frame = frame[~marked]
        notes.append(f"{marked.sum()} images left out: marked as duplicates in {marks_csv}")
    return frame, notes


def _listed_pairs(tables: Mapping[str, pd.DataFrame]) -> list[SamePicture]:
    if DUPLICATES not in tables:
        return []
    first, second = (tables[DUPLICATES][f"image_name_{side}"] for side in (1, 2))
    return [
        SamePicture(first=a, second=b, by=DUPLICATES) for a, b in zip(first, second, strict=True)
    ]


def _lesion_pairs(tables: Mapping[str, pd.DataFrame]) -> list[SamePicture]:
    """Only duplicates share a lesion there: 32,701 lesions of 33,126 images, none with three."""
    if LESIONS not in tables:
        return []
    rows = tables[LESIONS].sort_values(["lesion_id", "image_name"])
    rows = rows[(rows["lesion_id"] != "") & rows["lesion_id"].duplicated(keep=False)]
    by = f"{LESIONS}, lesion_id"
    return [
        SamePicture(first=names[i], second=names[i + 1], by=by)
        for _, names in rows.groupby("lesion_id")["image_name"].agg(list).items()
        for i in range(len(names) - 1)
    ]


def _rows(table: pd.DataFrame, folder: str) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "sample_id": table["image_name"],
            "path": folder + "/" + table["image_name"] + ".jpg",
            "patient_id": table["patient_id"],
            "target": UNLABELLED,
            "age": numbers(table["age_approx"], "siim_isic age_approx"),
            "sex": blank(table["sex"]),
            "site": blank(table[SITE]),
        }
    )


def _with_sizes(
    frame: pd.DataFrame, root: Path, sizes_csv: str
) -> tuple[pd.DataFrame, tuple[str, ...]]:
    table = read_tables("siim_isic", root, {sizes_csv: ("image_name", "width", "height")})
    sizes = table[sizes_csv].drop_duplicates("image_name").set_index("image_name")
    places = sizes.index.get_indexer(pd.Index(frame["sample_id"]))
    for side in ("width", "height"):
        known = numbers(sizes[side], f"{sizes_csv} {side}").to_numpy()
        frame = frame.assign(**{side: pd.Series(known[places], frame.index).where(places >= 0)})
    unknown = int((places < 0).sum())
    return frame, (f"{unknown} images have no size in {sizes_csv}",) if unknown else ()
