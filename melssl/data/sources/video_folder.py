"""Files of moving pictures with a CSV file: one row per clip, its label and its patient."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import ClassVar, Literal

from melssl.data.cohort import Cohort
from melssl.data.media.clip import ClipMedium
from melssl.data.media.clip_files import check_reader
from melssl.data.sources.csv_folder import TableSource


class VideoFolder(TableSource):
    """Videos, GIFs and ``.npy`` arrays, named by a table below the root.

    Arrays are bytes of shape (frames, rows, columns), or with 3 colours behind; videos need the
    extra ``clips``. ``frames`` says which frames are kept of a clip.

    Raises:
        MissingExtraError: there are videos and PyAV is not installed.

    """

    label: ClassVar[str] = "Video files"
    one: ClassVar[str] = "clip"
    source: Literal["video_folder"] = "video_folder"
    image_column: str = "file"
    label_column: str | None = "label"
    patient_column: str | None = "patient"
    frames: ClipMedium = ClipMedium()

    @property
    def medium(self) -> ClipMedium:
        """Clips, as ``frames`` says."""
        return self.frames

    def load(self, cache: Path) -> Cohort:
        """Return the checked cohort; ``cache`` is not used."""
        cohort = super().load(cache)
        for path in cohort.frame["path"]:
            check_reader(path)
        return replace(cohort, medium=self.medium)
