"""HAM10000: 10,015 dermoscopy images of 7,470 lesions in the official two-part layout."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Literal

import pandas as pd

from melssl.data.cohort import Cohort, file_bytes
from melssl.data.sources.base import SourceConfig
from melssl.data.tables import blank, encode, existing_root, numbers, read_tables
from melssl.errors import CohortError, listed

METADATA = "HAM10000_metadata.csv"
PARTS = ("HAM10000_images_part_1", "HAM10000_images_part_2")
DIAGNOSES = ("akiec", "bcc", "bkl", "df", "mel", "nv", "vasc")
COLUMNS = ("lesion_id", "image_id", "dx", "age", "sex", "localization")
CAMERA = "dataset"  # of the four places and devices; some copies of the table lack it


class Ham10000(SourceConfig):
    """Melanoma against the rest, or seven diagnoses.

    The lesion stands in for the patient: no patient ids were published. Where the table has the
    column ``dataset``, as the official one has, it is the camera.
    """

    label: ClassVar[str] = "HAM10000"
    source: Literal["ham10000"] = "ham10000"
    outcome: Literal["melanoma", "diagnosis"] = "melanoma"

    def load(self, cache: Path) -> Cohort:
        """Return the checked cohort; ``cache`` is not used."""
        root = existing_root(self.source, self.root)
        table = read_tables(self.source, root, {METADATA: COLUMNS})[METADATA]
        binary = self.outcome == "melanoma"
        index = {dx: int(dx == "mel") if binary else i for i, dx in enumerate(DIAGNOSES)}
        frame = pd.DataFrame(
            {
                "sample_id": table["image_id"],
                "path": _paths(table["image_id"], root),
                "patient_id": table["lesion_id"],
                "target": encode(table["dx"], index),
                "lesion_id": table["lesion_id"],
                "age": numbers(table["age"], f"{METADATA} age"),
                "sex": blank(table["sex"], ("", "unknown")),
                "site": blank(table["localization"], ("", "unknown")),
            }
        )
        names_camera = CAMERA in table
        if names_camera:
            frame["camera"] = blank(table[CAMERA])
        return Cohort(
            name=self.source,
            root=root,
            frame=frame.assign(bytes=file_bytes(frame["path"], root)),
            classes=("other", "melanoma") if binary else DIAGNOSES,
            patient_unit="lesion",
            clinical=("age", "sex", "site"),
            acquisition=("bytes", "camera") if names_camera else ("bytes",),
        )


def _paths(image_ids: pd.Series, root: Path) -> pd.Series:
    first, second = ({file.name for file in (root / part).glob("*.jpg")} for part in PARTS)
    if both := sorted(first & second):
        raise CohortError(
            f"ham10000 at {root}: images lie in both parts; remove one\n{listed(both)}"
        )
    names = image_ids + ".jpg"
    # an image that lies nowhere is looked for, and reported missing, in the first part
    return names.map(lambda name: f"{PARTS[name in second]}/{name}")
