"""POCUS lung ultrasound: 130 clips of 79 patients, from eleven places, as arrays of 16 frames."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Literal

import pandas as pd

from melssl.data.cohort import UNLABELLED, Cohort, file_bytes
from melssl.data.media.clip import ClipMedium
from melssl.data.sources.base import SourceConfig
from melssl.data.sources.clip_arrays import unpacked
from melssl.data.tables import encode, existing_root, numbers, read_tables

TABLE, ARRAYS, KEY = "index.csv", "clips_16x96x96.npz", "clips"
PLACE, PATIENT = "Source ID", "group"
COLUMNS = ("file", "probe", "label", "n_frames", "height", "width", PLACE, PATIENT)
FINDINGS = ("regular", "pneumonia", "covid")
VIRAL = "viral"


class PocusLungUltrasound(SourceConfig):
    """Regular against pneumonia against COVID, or one against the rest.

    The five clips of viral pneumonias other than COVID count as pneumonia unless ``viral`` says
    otherwise. Patients are those of the column ``group``; two of them have clips of two findings.
    ``camera`` is the place that a clip was taken from: most places show one finding alone, so what
    tells places apart tells findings. The audit's and the camera's numbers belong beside any score.
    """

    label: ClassVar[str] = "POCUS lung ultrasound"
    source: Literal["pocus_lung_ultrasound"] = "pocus_lung_ultrasound"
    outcome: Literal["finding", "covid", "healthy"] = "finding"
    viral: Literal["pneumonia", "unlabelled", "leave_out"] = "pneumonia"
    frames: ClipMedium = ClipMedium()

    @property
    def medium(self) -> ClipMedium:
        """Clips, as ``frames`` says."""
        return self.frames

    def load(self, cache: Path) -> Cohort:
        """Return the checked cohort; the clips are written below ``cache`` once."""
        root = existing_root(self.source, self.root)
        table = read_tables(self.source, root, {TABLE: COLUMNS})[TABLE]
        folder, paths = unpacked(root / ARRAYS, KEY, table.index, cache)
        findings = table["label"].replace(VIRAL, "pneumonia")
        index, classes = self._classes()
        target = encode(findings, index)
        is_viral = table["label"] == VIRAL
        if self.viral == "unlabelled":
            target = target.mask(is_viral, UNLABELLED)
        sizes = {name: numbers(table[name], f"{TABLE} {name}") for name in ("width", "height")}
        frame = pd.DataFrame(
            {
                "sample_id": table["file"],
                "path": paths,
                "patient_id": _whole(table[PATIENT], "patient"),
                "target": target,
                "camera": _whole(table[PLACE], "place"),
                "probe": table["probe"],
                "source_frames": numbers(table["n_frames"], f"{TABLE} n_frames"),
                **sizes,
            }
        )
        frame = frame[~is_viral] if self.viral == "leave_out" else frame
        n_left_out = int(is_viral.sum()) if self.viral == "leave_out" else 0
        return Cohort(
            name=self.source,
            root=folder,
            frame=frame.assign(bytes=file_bytes(frame["path"], folder)),
            classes=classes,
            acquisition=("camera", "probe", "source_frames", "width", "height"),
            notes=(f"{n_left_out} clips of other viral pneumonias left out",) * bool(n_left_out),
            medium=self.medium,
        )

    def _classes(self) -> tuple[dict[str, int], tuple[str, ...]]:
        """Return the class of each finding, and the names of the classes."""
        if self.outcome == "finding":
            return {name: place for place, name in enumerate(FINDINGS)}, FINDINGS
        if self.outcome == "covid":
            return {name: int(name == "covid") for name in FINDINGS}, ("other", "covid")
        return {name: int(name != "regular") for name in FINDINGS}, ("regular", "ill")


def _whole(values: pd.Series, what: str) -> pd.Series:
    """Return names such as ``patient 36``, which the table spells ``36.0``."""
    known = numbers(values, f"{TABLE} {what}")
    return known.map(lambda value: f"{what} {value:g}" if pd.notna(value) else "")
