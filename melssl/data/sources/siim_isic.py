"""SIIM-ISIC 2020: dermoscopy of 2,056 patients in the official layout, duplicates removed."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Literal

import pandas as pd

from melssl.data.cohort import UNLABELLED, Cohort, file_bytes
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
SITE = "anatom_site_general_challenge"
PERSON = ("image_name", "patient_id", "sex", "age_approx", SITE)


class SiimIsic(SourceConfig):
    """Melanoma against benign in ``train.csv``, ``test.csv``, ``jpeg/train``, ``jpeg/test``.

    ``test_images="unlabelled"`` adds the test images with target -1 (other patients, for
    pretraining). ``sizes_csv`` names a table below the root with ``image_name, width, height``.
    """

    label: ClassVar[str] = "SIIM-ISIC 2020"
    source: Literal["siim_isic"] = "siim_isic"
    test_images: Literal["leave_out", "unlabelled"] = "leave_out"
    missing_files: MissingFiles = "refuse"
    sizes_csv: str | None = None

    def load(self, cache: Path) -> Cohort:
        """Return the checked cohort; ``cache`` is not used."""
        root = existing_root(self.source, self.root)
        frame, notes = _people(root, with_test=self.test_images == "unlabelled")
        frame, left_out = keep_existing(frame, root, self.missing_files)
        frame = frame.assign(bytes=file_bytes(frame["path"], root))
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
            has_images=self.missing_files != "keep",
        )


def read_train_table(root: Path) -> pd.DataFrame:
    """Return the training rows without official duplicates; no image needs to be there.

    Columns ``sample_id, path, patient_id, target, age, sex, site``.

    Raises:
        CohortError: a table or a column is missing, or targets are neither 0 nor 1.

    """
    table, _ = _people(root, with_test=False)
    odd = table[~table["target"].isin((0, 1))]
    if len(odd):
        raise CohortError(
            f"{TRAIN}: expected targets 0 or 1, got others in\n{listed(odd['sample_id'].tolist())}"
        )
    return table.astype({"target": "int64"})


def _people(root: Path, *, with_test: bool) -> tuple[pd.DataFrame, tuple[str, ...]]:
    wanted: dict[str, tuple[str, ...]] = {TRAIN: (*PERSON, "target")}
    known_duplicates = (root / DUPLICATES).exists()
    if known_duplicates:
        wanted[DUPLICATES] = ("image_name_2",)
    if with_test:
        wanted[TEST] = PERSON
    tables = read_tables("siim_isic", root, wanted)
    train = tables[TRAIN]
    target = encode(train["target"], {"0": 0, "1": 1})
    frame = _rows(train, "jpeg/train").assign(target=target)
    notes = [f"{DUPLICATES} is missing: duplicate images remain"]
    if known_duplicates:
        again = frame["sample_id"].isin(set(tables[DUPLICATES]["image_name_2"]))
        frame, notes = frame[~again], [f"{again.sum()} official duplicates left out"]
    if with_test:
        test = _rows(tables[TEST], "jpeg/test").assign(target=UNLABELLED)
        frame = pd.concat([frame, test])
        notes.append(f"{len(test)} test images added without label")
    return frame.reset_index(drop=True), tuple(notes)


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
